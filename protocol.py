"""The evaluation protocol: the boxes that a network is given, and the statistics of a table row."""

import numpy as np

import metrics
from data_sets.splits import HeldOut
from facial_keypoints.pipeline import load_detector


def boxes(test: HeldOut, kind: str) -> np.ndarray:  # (N, 4)
    """Boxes of one kind: "exact", "jittered", or a detector's by its name, NaN for faces that it missed."""
    if kind == "exact":
        return test.exact_boxes()
    return jittered(test.exact_boxes()) if kind == "jittered" else detected(test, load_detector(kind))


def jittered(boxes: np.ndarray, shift: float = 0.05, scale: float = 0.08, seed: int = 0) -> np.ndarray:  # (N, 4)
    """Boxes with noise like a detector's: centres moved by N(0, shift) of the size per axis, sizes times
    exp(N(0, scale)). Exact boxes would leak part of the answer.
    """
    rng = np.random.default_rng(seed)
    centres = boxes[:, :2] + boxes[:, 2:] * (0.5 + rng.normal(0, shift, (len(boxes), 2)))
    sizes = boxes[:, 2:] * np.exp(rng.normal(0, scale, (len(boxes), 1)))
    return np.hstack([centres - sizes / 2, sizes]).astype(np.float32)


def detected(test: HeldOut, detector) -> np.ndarray:  # (N, 4)
    """The detector's box of every face, NaN where it found none."""
    pictures = (part.with_transform(None)[i]["image"] for part in test.parts for i in range(len(part)))
    exact = test.exact_boxes()
    boxes = np.full_like(exact, np.nan)
    for number, (picture, box) in enumerate(zip(pictures, exact, strict=True)):
        found, _ = detector(picture)
        (match,) = metrics.match_boxes(found, box[None])
        if match >= 0:
            boxes[number] = found[match]
    return boxes


def interval(errors: np.ndarray, groups: np.ndarray, repeats: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The 95 % confidence interval of the mean error, by a bootstrap over groups: frames of one person are correlated.

    Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3 (percentiles).
    """
    names, member = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(member, errors), np.bincount(member)
    draws = np.random.default_rng(seed).integers(len(names), size=(repeats, len(names)))
    low, high = np.percentile(sums[draws].sum(axis=1) / counts[draws].sum(axis=1), [2.5, 97.5])
    return float(low), float(high)


def table_row(predicted: np.ndarray, true: np.ndarray, groups: np.ndarray, missed: int = 0) -> dict[str, float]:
    """One row of the table.

    predicted, true: keypoints (N, 68, 2) of the faces found, in any units; groups: (N,), for `interval`; missed: faces
    that the detector did not find. Errors are over the faces found; missed faces count as failures.
    """
    errors, found = metrics.nme(predicted, true), len(true) / (len(true) + missed)
    low, high = interval(errors, groups)
    row = {
        "NME %": 100 * errors.mean(),
        "from": 100 * low,
        "to": 100 * high,
        "median %": 100 * np.median(errors),
        "NME by box %": 100 * metrics.nme_by_box(predicted, true).mean(),
        "failures at 8 %": 100 * (1 - found * (1 - metrics.failure_rate(errors, 0.08))),
        "failures at 10 %": 100 * (1 - found * (1 - metrics.failure_rate(errors, 0.10))),
        "AUC to 8 %": found * metrics.auc(errors),
    }
    row |= {f"{part} %": 100 * error for part, error in metrics.errors_by_part(predicted, true).items()}
    return {name: float(value) for name, value in row.items()} | {"faces": len(true) + missed, "missed": missed}
