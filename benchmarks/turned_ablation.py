"""What each choice about turned heads is worth: short runs of `fast`, with one change each.

    python -m benchmarks.turned_ablation                         writes results/turned_ablation.csv
    python -m benchmarks.turned_ablation --rows "the recipe"     this row only; other rows of the file are kept

Each row is the first stage of the recipe (4 epochs, crops of 128 pixels) on the split "unseen", measured in exact
boxes on the sets of benchmarks/pose.py. Rows with other data have other numbers of epochs, and about as many steps.
Needs `python -m turned_heads`; five minutes a row on one core.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarks.pose import boxes_of, measured, own_sets, pose_set_or_none
from benchmarks.tables import RESULTS, merge_rows
from data_sets.find import find_data
from data_sets.splits import Split, real_splits
from facial_keypoints.images import DataError
from facial_keypoints.schemes import IBUG_68
from recipes import AFFINE, RECIPES, Recipe
from train import run_recipe
from training.device import keep_freed_memory
from turned_heads.sources import BUILD, made_faces
from turned_heads.two_jaws import with_turned_heads

RECIPE = replace(RECIPES["fast"].first, epochs=4)
# As many steps with other data: turned views are nearly half of an epoch, the course's frames a quarter.
REAL_EPOCHS, FRAMES_TWICE_EPOCHS = 7, 3


def all_faces(split: Split) -> tuple:
    """Real faces, photos twice, and turned views."""
    return with_turned_heads(split, find_data().path)


def real_faces(split: Split) -> tuple:
    """The same without turned views."""
    return all_faces(split)[:3]


def frames_twice(split: Split) -> tuple:
    """All faces, and the course's frames once more."""
    faces = all_faces(split)
    return (faces[0], *faces)


def one_jaw(split: Split) -> tuple:
    """The same under 68 points: real faces with the edge that is seen, turned views with the jaw of the head."""
    return (*split.faces(RECIPE), *made_faces(find_data().path, BUILD).values())


@dataclass(frozen=True)
class Variant:
    """One row: a recipe, and its training data as a function of the split."""

    recipe: Recipe = RECIPE
    data: Callable = all_faces


VARIANTS = {
    "no turned views": Variant(RECIPE.lasting(REAL_EPOCHS), real_faces),
    "mild geometry": Variant(replace(RECIPE, turn=None, affine=AFFINE)),
    "one jaw line": Variant(RECIPE.for_scheme(IBUG_68), one_jaw),
    "course frames twice": Variant(replace(RECIPE, epochs=FRAMES_TWICE_EPOCHS), frames_twice),
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
        model, _ = run_recipe(variant.recipe, variant.data(split), progress=True)
        table = measured(model, sets, boxes).drop(columns="boxes").assign(row=name)
        merge_rows(table.round(3), RESULTS / "turned_ablation.csv", ["row", "set"], VARIANTS)
        print(table.to_string(), flush=True)


if __name__ == "__main__":
    try:
        main()
    except DataError as error:
        raise SystemExit(str(error)) from None
