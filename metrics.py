"""Error measures. `predicted` and `true` are arrays (N, K, 2) everywhere; errors are per face, (N,)."""

import numpy as np
from scipy.optimize import linear_sum_assignment

from facial_keypoints.schemes import IBUG_68, Scheme


def mse(predicted: np.ndarray, true: np.ndarray) -> float:
    """Mean squared error over all coordinates, in squared input units (of normalised points: the training loss)."""
    return float(np.mean((predicted - true) ** 2))


def smooth_l1(predicted: np.ndarray, true: np.ndarray) -> float:
    """Smooth L1 over all coordinates: squared below 1, absolute above (Girshick, "Fast R-CNN", 2015, eq. 3)."""
    off = np.abs(predicted - true)
    return float(np.mean(np.where(off < 1, 0.5 * off**2, off - 0.5)))


def mae(predicted: np.ndarray, true: np.ndarray) -> float:
    """Mean absolute error over all coordinates, in the units given."""
    return float(np.mean(np.abs(predicted - true)))


def box_error(predicted: np.ndarray, true: np.ndarray, boxes: np.ndarray, enlarged: float = 1.5) -> np.ndarray:  # (N,)
    """Per face, the sum over its points of |dx| / width + |dy| / height of the box (N, 4) enlarged by a factor.

    It grows with the number of points: for 68 points and a factor of 1.5 it is about 0.35 per percent of NME.
    """
    return (np.abs(predicted - true) / (enlarged * boxes[:, None, 2:])).sum(axis=(1, 2))


def distances(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:  # (N, K)
    """Euclidean distance of every keypoint."""
    return np.linalg.norm(predicted - true, axis=-1)


def mean_distance(predicted: np.ndarray, true: np.ndarray) -> float:
    """Mean distance over all keypoints, in the units given (pixels)."""
    return float(distances(predicted, true).mean())


def ruler_length(true: np.ndarray, scheme: Scheme = IBUG_68) -> np.ndarray:  # (N,)
    """The length that `nme` divides by: between the scheme's ruler points, by default the outer eye corners 36 and 45.

    For a scheme without a ruler it is `face_size`. Raises DataError if the number of points is not the scheme's.
    """
    scheme.check(true)
    if scheme.ruler is None:
        return face_size(true)
    one, other = scheme.ruler
    return np.linalg.norm(true[:, one] - true[:, other], axis=-1)


def nme(predicted: np.ndarray, true: np.ndarray, scheme: Scheme = IBUG_68) -> np.ndarray:  # (N,)
    """Normalised mean error: mean distance divided by the outer-eye-corner distance (Sagonas et al. 2013, section 4).

    Invariant to units and to a similarity transform applied to both arrays. Other schemes: see `ruler_length`.
    """
    return distances(predicted, true).mean(axis=1) / ruler_length(true, scheme)


def face_size(keypoints: np.ndarray) -> np.ndarray:  # (N,)
    """sqrt(w * h) of the tight boxes of keypoints (N, K, 2), in their units."""
    return np.sqrt(np.ptp(keypoints, axis=1).prod(axis=1))


def shifted(keypoints: np.ndarray, shift: np.ndarray) -> np.ndarray:  # (N, K, 2)
    """Keypoints (N, K, 2) moved right and down by a shift, (2,) or (N, 2) for each face, in units of `face_size`."""
    return keypoints + np.float32(shift).reshape(-1, 1, 2) * face_size(keypoints)[:, None, None]


def nme_by_box(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:  # (N,)
    """Mean distance divided by `face_size`: less sensitive to head turn than NME."""
    return distances(predicted, true).mean(axis=1) / face_size(true)


def failure_rate(errors: np.ndarray, threshold: float = 0.08) -> float:
    """The fraction of faces whose error is above the threshold."""
    return float(np.mean(errors > threshold))


def error_curve(errors: np.ndarray, up_to: float = 0.08, steps: int = 801) -> tuple[np.ndarray, np.ndarray]:
    """The cumulative error distribution (CED): thresholds, and the fraction of faces at or below each."""
    thresholds = np.linspace(0, up_to, steps)
    return thresholds, np.searchsorted(np.sort(errors), thresholds, side="right") / len(errors)


def auc(errors: np.ndarray, up_to: float = 0.08) -> float:
    """Area under the error curve up to a threshold, as a fraction of the largest possible area.

    In closed form: the mean over the faces of max(0, 1 - error / threshold).
    """
    return float(np.clip(1 - errors / up_to, 0, None).mean())


def errors_by_part(predicted: np.ndarray, true: np.ndarray, scheme: Scheme = IBUG_68) -> dict[str, float]:
    """NME of each part of the scheme (jaw, brows, nose, eyes, mouth), averaged over the faces."""
    relative = distances(predicted, true) / ruler_length(true, scheme)[:, None]
    return {part: float(relative[:, list(points)].mean()) for part, points in scheme.parts.items()}


def summary(predicted: np.ndarray, true: np.ndarray, scheme: Scheme = IBUG_68) -> dict[str, float]:
    """A table row for keypoints in pixels: errors in percent of `ruler_length`, and the mean distance in pixels."""
    errors = nme(predicted, true, scheme)
    return {
        "NME %": 100 * float(errors.mean()),
        "median %": 100 * float(np.median(errors)),
        "failures at 8 %": 100 * failure_rate(errors, 0.08),
        "failures at 10 %": 100 * failure_rate(errors, 0.10),
        "AUC to 8 %": auc(errors, 0.08),
        "pixels": mean_distance(predicted, true),
    }


def match_boxes(found: np.ndarray, true: np.ndarray, within: float = 0.5) -> np.ndarray:  # (T,) int
    """For each true box (T, 4) the index of the found box (F, 4) that is matched to it, or -1 for a miss.

    Boxes match if their centres are closer than `within` times the true box's longer side. Each found box is matched
    at most once, so F minus the number of matches is the number of false positives.
    """
    match = np.full(len(true), -1)
    centres = [boxes[:, :2] + boxes[:, 2:] / 2 for boxes in (true, found)]
    away = np.linalg.norm(centres[0][:, None] - centres[1], axis=-1) / true[:, 2:].max(axis=1, keepdims=True)
    rows, columns = linear_sum_assignment(np.minimum(away, within))
    near = away[rows, columns] < within
    match[rows[near]] = columns[near]
    return match
