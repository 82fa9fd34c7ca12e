"""Face detectors, one module each.

A detector is a callable: RGB uint8 image (H, W, 3) -> boxes (N, 4) x, y, w, h and scores (N,), both float32.
A box means the tight bounding box of the face's keypoints; without a face N is 0, which is not an error.
"""

import numpy as np


class DetectorError(RuntimeError):
    """Why a detector cannot work here, in one sentence: a file is missing or damaged, OpenCV has no cascades."""


def to_tight_boxes(native: np.ndarray, centre: tuple, size: tuple) -> np.ndarray:  # (N, 4)
    """A detector's own boxes (N, 4) as tight keypoint boxes, x, y, w, h.

    centre, size: the tight box's centre, width and height as fractions of the native width and height, see
    tools/fit_detector_box.py.
    """
    native = np.asarray(native, np.float32).reshape(-1, 4)
    tight = native[:, 2:] * size
    corner = native[:, :2] + native[:, 2:] * centre - tight / 2
    return np.hstack([corner, tight]).astype(np.float32)
