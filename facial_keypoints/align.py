"""Aligned face crops as other software expects them: eyes and mouth always in the same position, the face upright."""

import numpy as np

from facial_keypoints.geometry import similarity, warp
from facial_keypoints.images import DataError, as_rgb
from facial_keypoints.schemes import check_68

# Right eye, left eye, tip of the nose, right and left mouth corner in a crop of 112 x 112 pixels. The reference of
# SphereFace (Liu et al., CVPR 2017, code), 8 pixels further right, as in ArcFace (Deng et al., CVPR 2019, code).
ARCFACE = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)],
)


def five_points(keypoints: np.ndarray) -> np.ndarray:  # (5, 2)
    """The middles of both eyes, the tip of the nose and the corners of the mouth of a face (68, 2), as in ARCFACE."""
    keypoints = check_68(keypoints)
    return np.stack([keypoints[36:42].mean(0), keypoints[42:48].mean(0), *keypoints[[30, 48, 54]]])


def _arcface(points):
    """For crops of 112 pixels: the similarity that takes five points nearest to ARCFACE."""
    return similarity(points, ARCFACE)


def _ffhq(points):
    """For crops of 256 pixels: the square of FFHQ (Karras, Laine and Aila, CVPR 2019, appendix A and code).

    Its middle is a little below the eyes; its rotation is a compromise between the line of the eyes and the
    perpendicular to the line from eyes to mouth; its width is 4 times the distance between the eyes or 3.6 times
    that from eyes to mouth, whichever is larger.
    """
    right, left, _, *mouth = points @ (1, 1j)  # points as complex numbers x + iy
    eyes, across, down = (right + left) / 2, left - right, sum(mouth) / 2 - (right + left) / 2
    middle, direction = eyes + 0.1 * down, across - 1j * down
    half = max(2 * abs(across), 1.8 * abs(down)) * direction / abs(direction)
    corners = np.array([middle - half, middle + half])
    return similarity(np.column_stack([corners.real, corners.imag]), [(-0.5, 127.5), (255.5, 127.5)])


CROPS = {112: _arcface, 256: _ffhq}  # pixels


def alignment(keypoints: np.ndarray, size: int = 112) -> np.ndarray:  # (2, 3)
    """The matrix from the photo to the aligned crop of a face with these keypoints (68, 2).

    size: 112 for the crops of face recognition (ArcFace), 256 for those of face synthesis (FFHQ). Raises DataError for
    other sizes and for keypoints that do not form a face.
    """
    if size not in CROPS:
        raise DataError(f"aligned crops of {size} pixels: expected {' or '.join(map(str, CROPS))}")
    with np.errstate(all="ignore"):
        matrix = CROPS[size](five_points(keypoints).astype(float))
    if not 1e-6 < np.hypot(*matrix[:, 0]) < 1e3 or not np.isfinite(matrix).all():
        raise DataError("keypoints: in one spot, mirrored or not finite, so there is no face to align")
    return matrix


def aligned_face(image: np.ndarray, keypoints: np.ndarray, size: int = 112) -> np.ndarray:  # (size, size, 3)
    """The aligned crop (see alignment) of an image (see images.as_rgb) as RGB uint8; border pixels are repeated."""
    return warp(as_rgb(image), alignment(keypoints, size), (size, size))
