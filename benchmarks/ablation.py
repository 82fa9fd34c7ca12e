"""Ablation: the effect of each choice in the recipe of the shipped networks.

    python -m benchmarks.ablation                         writes results/ablation.csv; a quarter of an hour
    python -m benchmarks.ablation --rows "the recipe"     this row only; other rows of the file are kept

Each row is the first stage of `fast-frontal` with one change, trained for four epochs; benchmarks/turned_ablation.py
measures what turned heads need. The protocol's test data is not used: another fifth of its training people and of its
training photos is held out for validation.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd
from torch import nn

import metrics
import protocol
from benchmarks.tables import RESULTS, merge_rows
from data_load import KeypointsDataset, person_split
from data_sets.find import find_data
from data_sets.splits import HELD_OUT, HeldOut, real_splits
from models import FastNet, HeatmapNet, count_parameters
from recipes import Recipe, frontal
from train import run_recipe
from training.device import keep_freed_memory
from training.loop import predict
from transfer.networks import with_mirror_image

RECIPE = replace(frontal(FastNet).first, epochs=4)


@dataclass(frozen=True)
class Variant:
    """One row: a recipe, its training data, and how its network is used.

    data: (frames, faces) -> training data; use: applied to the trained network; course, photos: whether training and
    measuring use the labels of the course, or of 300-W, as published.
    """

    recipe: Recipe = RECIPE
    data: Callable = lambda frames, faces: (frames, faces, faces)
    use: Callable = lambda model: model
    seed: int = 0
    course: bool = False
    photos: bool = False

    def trains(self) -> "Variant":
        """The key of a training run: the variant without `use`, which only matters afterwards."""
        return replace(self, use=None)


def published(faces: KeypointsDataset, asked: bool) -> KeypointsDataset:
    """The faces, with their labels as published if `asked`."""
    return faces.centred(-faces.label_shift) if asked else faces


def whole_frames() -> Recipe:
    """The recipe on whole frames, as in the coursework, at the same input size."""
    return replace(RECIPE, expects=replace(RECIPE.expects, margin=None))


def frames_only(frames, _):
    """The course's frames alone."""
    return (frames,)


VARIANTS = {
    "whole frames, no crop (course frames only)": Variant(whole_frames(), frames_only),
    "face crop, no augmentation": Variant(replace(RECIPE, affine=None, augmentations=())),
    "without colours, blur, noise, occlusion": Variant(replace(RECIPE, augmentations=())),
    "course labels as published": Variant(course=True),
    "300-W labels as published": Variant(photos=True),
    "without 300-W": Variant(data=frames_only),
    "L1 of the points, no spread": Variant(replace(RECIPE, network=partial(HeatmapNet, width=16), loss="l1")),
    "the recipe": Variant(),
    "the recipe, seed 1": Variant(seed=1),
    "the recipe, mirror averaged": Variant(use=with_mirror_image),
}


def train(variant: Variant, faces: tuple, done: dict) -> nn.Module:
    """The trained network of one row; `done` caches networks, since some rows share a training run."""
    key = variant.trains()
    if key not in done:
        done[key], _ = run_recipe(variant.recipe, variant.data(*faces), seed=variant.seed, progress=True)
    return done[key]


def measure(model: nn.Module, variant: Variant, tests: dict[str, HeldOut]) -> dict[str, float]:
    """NME on both validation sets, in exact and in jittered boxes; networks of whole frames only on
    people, since the photos of 300-W are not such frames.
    """
    row = {"parameters": count_parameters(model)}
    if variant.recipe.expects.margin is None:
        tests = {"people": tests["people"]}
    for name, test in tests.items():
        for boxes in ("exact", "jittered"):
            crops = test.crops(protocol.boxes(test, boxes), variant.recipe.transform)
            row[f"{name}, {boxes}"] = 100 * float(metrics.nme(*predict(variant.use(model), crops)).mean())
    return row


def main() -> None:
    """Train and measure every row, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    args = parser.parse_args()
    keep_freed_memory()
    frames, cuts = real_splits(find_data())[1].training
    frames, people = (frames.subset(positions) for positions in person_split(frames.people, HELD_OUT, seed=1))
    cuts, photos = (cuts.subset(positions) for positions in person_split(cuts.photos, HELD_OUT, seed=1))
    rows, done = [], {}
    for name in args.rows:
        variant = VARIANTS[name]
        course, wild = variant.course, variant.photos
        model = train(variant, (published(frames, course), published(cuts, wild)), done)
        tests = {
            "people": HeldOut((published(people, course),), people.people),
            "photos": HeldOut((published(photos, wild),), photos.photos),
        }
        rows.append({"row": name} | measure(model, variant, tests))
        merge_rows(pd.DataFrame(rows).round(3), RESULTS / "ablation.csv", ["row"], VARIANTS)
        print(pd.DataFrame(rows[-1:]).to_string(header=len(rows) == 1))


if __name__ == "__main__":
    main()
