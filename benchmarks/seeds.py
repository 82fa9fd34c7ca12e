"""How much `fast` depends on the seed: the weights that ship, and the same training with two other seeds.

    git show cac07fd:saved_models/fast.pt > build/first.pt   the first edition's weights, from which all start
    python -m benchmarks.seeds build/first.pt                writes results/seeds.csv; half an hour a seed on one core
    python -m benchmarks.seeds build/first.pt --seeds 1      this one only; other rows of the file are kept

NME in exact boxes, in percent of the eye distance on official and 300-W, of sqrt(w h) of the tight box on turned heads
(the pose set, by yaw). 300-W means 2012 cut-outs from three of its sources (AFW, HELEN, LFPW).
"""

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd
from torch import nn

import metrics
from benchmarks.pose import asker, boxes_of
from benchmarks.tables import RESULTS, merge_rows
from data_sets.find import ROOT, find_data
from data_sets.pose_set import YAW_BANDS, load_pose_set
from data_sets.pose_set import measure as measure_turned
from data_sets.splits import Split, check_not_learned, real_splits
from facial_keypoints.images import DataError
from recipes import RECIPES
from train import SAVED_MODELS, train_and_save, training_data
from training.device import keep_freed_memory
from training.loop import predict
from training.weights import load_model

RECIPE = replace(RECIPES["fast"], first=None)  # the second stage, as `train.py fast --start` trains it


def trained(seed: int, split: Split, start: Path) -> nn.Module:
    """The shipped network for seed 0, else one that is trained like it, unless build/seeds/ has it already."""
    path = ROOT / "build" / "seeds" / f"fast-{seed}.pt" if seed else SAVED_MODELS / "fast.pt"
    if (
        not path.is_file()
        and train_and_save(RECIPE, path, training_data(RECIPE, split), seed=seed, start=start) is None
    ):
        raise SystemExit(1)  # Ctrl-C; fit has printed how many epochs are done
    return load_model(path)


def measured(model: nn.Module, split: Split) -> dict[str, float]:
    """The errors of one network."""
    row = {}
    for name, test in split.tests.items():
        predicted, true = predict(model, test.crops(test.exact_boxes(), RECIPE.transform))
        row[name] = 100 * float(metrics.nme(predicted, true).mean())
    if faces := load_pose_set():
        boxes = {"exact": boxes_of(faces)["exact"]}
        turned = measure_turned(asker(model, jaw_3d=True), faces, faces.yaws, boxes).iloc[0]
        row |= {f"turned heads, {band}": turned[f"all {band}"] for band in YAW_BANDS}
    return row


def main() -> None:
    """Train and measure every seed, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("start", type=Path, help="weights to start from")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="0: the shipped weights")
    args = parser.parse_args()
    keep_freed_memory()
    split = real_splits(find_data())[0]
    check_not_learned(split.tests["300-W"].groups)
    for seed in args.seeds:
        row = {"seed": seed} | measured(trained(seed, split, args.start), split)
        merge_rows(pd.DataFrame([row]).round(3), RESULTS / "seeds.csv", ["seed"])
        print(row, flush=True)


if __name__ == "__main__":
    try:
        main()
    except DataError as error:
        raise SystemExit(str(error)) from None
