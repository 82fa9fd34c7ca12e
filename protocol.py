"""How a network is measured: the statistics of one row of the tables."""

import numpy as np

import metrics


def interval(errors: np.ndarray, groups: np.ndarray, repeats: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of the mean error: a bootstrap over groups, since frames of one person go together.

    Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3 (percentiles).
    """
    names, member = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(member, errors), np.bincount(member)
    draws = np.random.default_rng(seed).integers(len(names), size=(repeats, len(names)))
    low, high = np.percentile(sums[draws].sum(axis=1) / counts[draws].sum(axis=1), [2.5, 97.5])
    return float(low), float(high)


def numbers(predicted: np.ndarray, true: np.ndarray, groups: np.ndarray, missed: int = 0) -> dict[str, float]:
    """One row of the table: keypoints (N, 68, 2) in any units, the groups of these faces, how many were missed.

    Errors are of the faces that were found; a missed face counts as a failure.
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
