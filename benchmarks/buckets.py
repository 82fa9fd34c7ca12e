"""The errors of the shipped networks by head turn, sharpness and light, and how well their confidence predicts errors.

    python -m benchmarks.buckets                 writes results/buckets.csv and results/confidence.csv
    python -m benchmarks.buckets --splits all    the tests of this split only; other rows are kept

It measures the networks of benchmarks/compare.py on their tests, in exact boxes.
"""

import argparse

import cv2
import numpy as np
import pandas as pd
from scipy.stats import spearmanr

import metrics
from benchmarks.compare import trained
from benchmarks.tables import RESULTS, merge_rows
from data_load import KeypointsDataset
from data_sets.find import find_data
from data_sets.splits import HeldOut, real_splits
from facial_keypoints.pipeline import confidence
from facial_keypoints.pose import head_pose
from recipes import RECIPES, SMALL_CROP
from training.loop import locate

NETWORKS = ("accurate", "fast")
YAW = (0, 15, 30, 90)  # degrees


def yaw(faces: KeypointsDataset) -> np.ndarray:  # (N,)
    """The absolute yaw of each head, in degrees, from its labels."""
    return np.array([abs(head_pose(points).yaw) for points in faces.keypoints[faces.indices]])


def conditions(test: HeldOut) -> pd.DataFrame:
    """For every face: |yaw| of its true points in degrees, sharpness (variance of the Laplacian of a 128-pixel crop,
    divided by its contrast) and light (mean gray of the crop)."""
    rows = [{"yaw": degrees} for part in test.parts for degrees in yaw(part)]
    crops = test.crops(test.exact_boxes(), SMALL_CROP)  # the same for every network
    for row, crop in zip(rows, crops, strict=True):
        face = crop["image"][0].numpy()
        row["light"] = 255 * float(face.mean())
        row["sharpness"] = float((cv2.Laplacian(face, cv2.CV_32F) / max(face.std(), 1e-3)).var())
    return pd.DataFrame(rows)


def buckets(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """A mask of faces for each bucket: ranges of yaw, the lowest and the highest quarter of sharpness and of light."""
    masks = {"all faces": np.ones(len(table), bool)}
    for low, high in zip(YAW, YAW[1:], strict=False):
        masks[f"turned by {low} to {high} degrees"] = table["yaw"].between(low, high, inclusive="left").to_numpy()
    for column, lowest, highest in (("sharpness", "most blurred", "sharpest"), ("light", "darkest", "brightest")):
        low, high = table[column].quantile([0.25, 0.75])
        masks[f"{lowest} quarter"] = (table[column] <= low).to_numpy()
        masks[f"{highest} quarter"] = (table[column] >= high).to_numpy()
    return masks


def calibration(predicted: np.ndarray, true: np.ndarray, spread: np.ndarray) -> dict[str, float]:
    """Spearman's correlations of predicted and true errors, and accuracy by confidence."""
    relative = metrics.distances(predicted, true) / metrics.ruler_length(true)[:, None]
    expected = spread / metrics.ruler_length(predicted)[:, None]  # relative to the predicted eye distance
    box = 1 / 1.5  # the box's longer side, as a fraction of the crop
    confident = confidence(spread / box)
    right = metrics.distances(predicted, true) < 0.05 * box
    return {
        "rank correlation, faces": spearmanr(expected.mean(axis=1), relative.mean(axis=1)).statistic,
        "rank correlation, keypoints": spearmanr(expected.ravel(), relative.ravel()).statistic,
        "rank correlation within a face, mean": np.mean(
            [spearmanr(s, r).statistic for s, r in zip(spread, relative, strict=True)]
        ),
        "right, confidence under 50 %": right[confident < 0.5].mean(),
        "right, confidence 50 to 90 %": right[(confident >= 0.5) & (confident < 0.9)].mean(),
        "right, confidence 90 % and over": right[confident >= 0.9].mean(),
        "mean confidence": float(confident.mean()),
        "right": right.mean(),
    }


def main() -> None:
    """Measure and write both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", nargs="+", choices=("all", "unseen"), default=["all", "unseen"])
    args = parser.parse_args()
    errors, calibrations = [], []
    for split in (split for split in real_splits(find_data()) if split.name in args.splits):
        for test_name, test in split.tests.items():
            masks = buckets(conditions(test))
            for name in NETWORKS:
                crops = test.crops(test.exact_boxes(), RECIPES[name].transform)
                located, true = locate(trained(name, split), crops)
                predicted, spread = located[..., :2], located[..., 2]
                nme = 100 * metrics.nme(predicted, true)
                calibrations.append({"network": name, "test": test_name} | calibration(predicted, true, spread))
                errors += [
                    {
                        "network": name,
                        "test": test_name,
                        "bucket": bucket,
                        "faces": mask.sum(),
                        "NME %": float(nme[mask].mean()),
                    }
                    for bucket, mask in masks.items()
                ]
    merge_rows(pd.DataFrame(errors).round(3), RESULTS / "buckets.csv", ["network", "test", "bucket"])
    merge_rows(pd.DataFrame(calibrations).round(3), RESULTS / "confidence.csv", ["network", "test"])
    print(pd.DataFrame(errors).to_string(), pd.DataFrame(calibrations).to_string(), sep="\n")


if __name__ == "__main__":
    main()
