"""What each choice about turned heads is worth: short runs of `fast`, with one change each.

    python -m benchmarks.turned_ablation                         writes results/turned_ablation.csv
    python -m benchmarks.turned_ablation --rows "the recipe"     this row only; other rows of the file are kept

Each row is the first stage of the recipe on the split "unseen", measured in exact boxes on the sets of
benchmarks/pose.py: 4 epochs on crops of 128 pixels, unless its name says otherwise. Rows with other data have as many
steps within a tenth.

Needs `python -m turned_heads`; five minutes a row on one core, three times that for the long runs and for the taught
network, whose teacher is the `accurate` of benchmarks/compare.py (trained first if it does not exist).
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from benchmarks.compare import trained
from benchmarks.pose import boxes_of, measured, own_sets, pose_set_or_none
from benchmarks.tables import RESULTS, merge_rows
from data_sets.course import course_frames
from data_sets.drawn_faces import write_dataset
from data_sets.find import ROOT, find_data
from data_sets.splits import Split, real_splits
from facial_keypoints.images import DataError
from facial_keypoints.schemes import IBUG_68
from models import FastNet, SureNet
from recipes import AFFINE, RECIPES, TWO_JAWS_OF_160, Recipe
from train import run_recipe
from training.device import keep_freed_memory
from training.losses import SpreadLoss
from turned_heads.sources import BUILD, made_faces
from turned_heads.two_jaws import fitted_jaws, real, with_turned_heads

RECIPE = replace(RECIPES["fast"].first, epochs=4)
# They keep the number of steps about the same: turned views are nearly half an epoch, the course's frames a quarter.
REAL_EPOCHS, FRAMES_TWICE_EPOCHS = 7, 3


def all_faces(split: Split) -> tuple:
    """Real faces (the photos twice) and turned views."""
    return with_turned_heads(split, find_data().path)


def real_faces(split: Split) -> tuple:
    """The same without turned views."""
    return all_faces(split)[:3]


def frames_twice(split: Split) -> tuple:
    """All faces, and the course's frames once more."""
    faces = all_faces(split)
    return (faces[0], *faces)


def turned_photos_often(split: Split) -> tuple:
    """All faces; those of the photos that are turned by more than 20 degrees four times instead of twice."""
    faces = all_faces(split)
    photos = faces[1]
    yaws = fitted_jaws(photos.keypoints[photos.indices, :68])[1]
    turned = photos.subset(np.flatnonzero(np.abs(np.degrees(yaws)) > 20))
    return (*faces, turned, turned)


def drawn_too(split: Split) -> tuple:
    """All faces, and 960 drawn ones."""
    drawn = write_dataset(ROOT / "build" / "drawn_for_ablation", num_training=960, num_test=3)
    return (*all_faces(split), real(course_frames(drawn)[0]))


def one_jaw(split: Split) -> tuple:
    """All faces with 68 points: real faces with the visible edge as jaw line, turned views with the head's jaw."""
    return (*split.faces(RECIPE), *made_faces(find_data().path, BUILD).values())


def fast_of_width(width: int) -> type[nn.Module]:
    """FastNet with other numbers of channels; its own width is 16."""

    class Fast(SureNet):
        breadth = FastNet.breadth

        def __init__(self, num_keypoints):
            super().__init__(num_keypoints, width)

    return Fast


class Taught(FastNet):
    """FastNet beside a trained network: in training mode it returns (N, K, 7), the teacher's points at the end."""

    teacher: list = []  # a list, so that torch does not register the teacher as a submodule

    @torch.no_grad()
    def lesson(self, x):
        """The teacher's answer (N, K, 2) on crops as large as it was trained on."""
        (teacher,) = self.teacher
        return teacher(nn.functional.interpolate(x, size=teacher.expects.size, mode="bilinear"))

    def forward(self, x):
        answer = super().forward(x)
        return torch.cat([answer, self.lesson(x)], dim=2) if self.training else answer


def taught_loss(predicted, true):
    """SpreadLoss with the labels and, for all points, with the teacher's answer, equally weighted."""
    loss = SpreadLoss()
    return (loss(predicted[..., :5], true) + loss(predicted[..., :5], predicted[..., 5:])) / 2


@dataclass(frozen=True)
class Variant:
    """One row: a recipe, and its training data as a function of the split."""

    recipe: Recipe = RECIPE
    data: Callable = all_faces

    @property
    def real_only(self) -> "Variant":
        """The same without turned views, for as many steps."""
        return Variant(self.recipe.lasting(self.recipe.epochs * REAL_EPOCHS // RECIPE.epochs), real_faces)


WIDER, LONGER = Variant(replace(RECIPE, network=fast_of_width(24))), Variant(RECIPE.lasting(3 * RECIPE.epochs))

VARIANTS = {
    "no turned views": Variant().real_only,
    "mild geometry": Variant(replace(RECIPE, turn=None, affine=AFFINE)),
    "one jaw line": Variant(RECIPE.for_scheme(IBUG_68), one_jaw),
    "course frames twice": Variant(replace(RECIPE, epochs=FRAMES_TWICE_EPOCHS), frames_twice),
    "turned photos more often": Variant(data=turned_photos_often),
    "drawn faces too": Variant(data=drawn_too),
    "crops of 160 pixels": Variant(replace(RECIPE, expects=TWO_JAWS_OF_160)),
    "taught by accurate": Variant(replace(RECIPE, network=Taught, loss=taught_loss)),
    "12 channels": Variant(replace(RECIPE, network=fast_of_width(12))),
    "24 channels": WIDER,
    "24 channels, no turned views": WIDER.real_only,
    "three times as long": LONGER,
    "three times as long, no turned views": LONGER.real_only,
    "the recipe": Variant(),
}


def main() -> None:
    """Train and measure every row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    args = parser.parse_args()
    keep_freed_memory()
    data = find_data()
    split, sets = real_splits(data)[1], own_sets(data.path) | pose_set_or_none()
    boxes = {name: {"exact": boxes_of(faces)["exact"]} for name, (faces, _, _) in sets.items()}
    for name in args.rows:
        variant = VARIANTS[name]
        if variant.recipe.network is Taught:
            Taught.teacher[:] = [trained("accurate", split).eval()]
        model, _ = run_recipe(variant.recipe, variant.data(split), progress=True)
        table = measured(model, sets, boxes).drop(columns="boxes").assign(row=name)
        merge_rows(table.round(3), RESULTS / "turned_ablation.csv", ["row", "set"], VARIANTS)
        print(table.to_string(), flush=True)


if __name__ == "__main__":
    try:
        main()
    except DataError as error:
        raise SystemExit(str(error)) from None
