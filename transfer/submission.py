"""The coursework's submission file."""

import csv
from pathlib import Path

import numpy as np

from facial_keypoints.images import DataError
from facial_keypoints.schemes import IBUG_68


def write_submission(path: str | Path, keypoints: np.ndarray) -> None:
    """Write keypoints (N, 68, 2), in pixels of the photos, in the coursework's format.

    A header `Id,Predicted`, then one row per number, counted from 0: x and y of point 0 of the first face, and
    so on, 136 rows per face. Raises DataError for a wrong shape, non-finite numbers or an unwritable file.
    """
    keypoints = np.asarray(keypoints, float)
    if keypoints.ndim != 3 or keypoints.shape[1:] != (IBUG_68.num_points, 2) or not np.isfinite(keypoints).all():
        raise DataError(f"{path}: keypoints of shape {keypoints.shape}: expected finite numbers, (N, 68, 2)")
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w", newline="", encoding="utf-8") as file:
            rows = ([number, f"{value:.3f}"] for number, value in enumerate(keypoints.ravel()))
            csv.writer(file, lineterminator="\n").writerows([["Id", "Predicted"], *rows])
    except OSError as error:
        raise DataError(f"{path}: could not be written ({error.strerror})") from None
