"""Geometry as 2x3 matrices: crop, scale, rotation, shift and mirroring are multiplied, the image is warped once.

Pixel centres are at whole numbers: the picture's left edge is at x = -0.5.
"""

import cv2
import numpy as np

LONGEST_SIDE = 32766  # pixels, the limit of cv2.warpAffine


def tight_box(keypoints: np.ndarray) -> np.ndarray:  # (4,) x, y, w, h
    """The tight bounding box of keypoints (K, 2): what "box" means in this project."""
    low, high = keypoints.min(axis=0), keypoints.max(axis=0)
    return np.concatenate([low, high - low]).astype(np.float32)


def compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:  # (2, 3)
    """The matrix that applies `inner` first, then `outer`."""
    return outer @ np.vstack([inner, [0, 0, 1]])


def invert(matrix: np.ndarray) -> np.ndarray:  # (2, 3)
    """The matrix that undoes `matrix`."""
    return cv2.invertAffineTransform(matrix)


def transform_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:  # (..., 2) float32
    """Move points (..., 2) by a 2x3 matrix."""
    return (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


def crop_matrix(box: np.ndarray, size: int, margin: float) -> np.ndarray:  # (2, 3)
    """From a photo to a size x size crop around box (x, y, w, h).

    The crop is a square about the box's centre; its side is the box's longer side with `margin` of that side
    added on every side (margin 0.25: 1.5 times the box).
    """
    x, y, w, h = np.asarray(box, float)
    scale = size / (max(w, h) * (1 + 2 * margin))
    middle = (size - 1) / 2
    return np.array([[scale, 0, middle - scale * (x + w / 2)], [0, scale, middle - scale * (y + h / 2)]])


def similarity_matrix(angle: float, scale: float, shift: tuple, size: tuple) -> np.ndarray:  # (2, 3)
    """Rotate by `angle` degrees (counter-clockwise as seen) and scale about the centre of size (w, h), then shift."""
    matrix = cv2.getRotationMatrix2D(((size[0] - 1) / 2, (size[1] - 1) / 2), angle, scale)
    matrix[:, 2] += shift
    return matrix


def mirror_matrix(width: int) -> np.ndarray:  # (2, 3)
    """Swap left and right in a picture `width` pixels wide."""
    return np.array([[-1.0, 0, width - 1], [0, 1, 0]])


def quarter_turns(turns: int, shape: tuple) -> np.ndarray:  # (2, 3)
    """The matrix of np.rot90(image, turns) for coordinates; shape: the image's (H, W, ...)."""
    height, width = shape[:2]
    return np.array(
        {
            0: [[1.0, 0, 0], [0, 1, 0]],
            1: [[0.0, 1, 0], [-1, 0, width - 1]],
            2: [[-1.0, 0, width - 1], [0, -1, height - 1]],
            3: [[0.0, -1, height - 1], [1, 0, 0]],
        }[turns % 4]
    )


def turn_of(matrix: np.ndarray) -> np.ndarray:  # (2, 3)
    """The rotation of a similarity, about the origin, without its scale and shift."""
    turn = np.zeros((2, 3))
    turn[:, :2] = matrix[:, :2] / np.hypot(*matrix[:, 0])
    return turn


def resize_matrix(old_size: tuple, new_size: tuple) -> np.ndarray:  # (2, 3)
    """The matrix of cv2.resize for coordinates; sizes are (w, h). Image edges, not pixel centres, stay aligned."""
    sx, sy = new_size[0] / old_size[0], new_size[1] / old_size[1]
    return np.array([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2]])


def resize(image: np.ndarray, size: tuple) -> np.ndarray:
    """Resize to size (w, h); shrinking averages over pixels, which avoids aliasing."""
    shrinks = size[0] <= image.shape[1] and size[1] <= image.shape[0]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def warp(image: np.ndarray, matrix: np.ndarray, size: tuple) -> np.ndarray:
    """Warp an image by a 2x3 matrix (photo to crop) to size (w, h); beyond the photo its border pixels are repeated.

    Bilinear sampling reads only four pixels, so a photo that shrinks to half or less is downsampled by averaging
    first. If the photo is too large for OpenCV, only the region that the crop needs is warped.
    """
    shrink = max(1, int(1 / np.sqrt(abs(np.linalg.det(matrix[:, :2])))))
    if shrink > 1 or max(image.shape[:2]) > LONGEST_SIDE:
        image, matrix = _shrink_around(image, matrix, size, shrink)
    return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _shrink_around(image, matrix, size, shrink):
    """The region of the photo that the crop needs, `shrink` times smaller, and the matrix from it to the crop."""
    height, width = image.shape[:2]
    corners = np.array([[0, 0], [size[0], 0], [0, size[1]], size])
    corners = transform_points(invert(matrix), corners)
    low = np.clip(np.floor(corners.min(0)) - 2 * shrink, 0, [width - 1, height - 1]).astype(int)
    high = np.clip(np.ceil(corners.max(0)) + 2 * shrink, low + 1, [width, height]).astype(int)
    part = image[low[1] : high[1], low[0] : high[0]]
    old_size = (part.shape[1], part.shape[0])
    new_size = (max(1, old_size[0] // shrink), max(1, old_size[1] // shrink))
    to_small = compose(resize_matrix(old_size, new_size), np.array([[1.0, 0, -low[0]], [0, 1, -low[1]]]))
    return resize(part, new_size), compose(matrix, invert(to_small))


def similarity(source: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:  # (2, 3)
    """The least-squares similarity (rotation, scale and shift, no mirroring) from source to target points (N, 2).

    weights: (N,), of the points; equal by default.
    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 13(4),
    1991. With points as complex numbers x + iy, rotation and scale are one complex factor.
    """
    source, target = (np.asarray(points) @ (1, 1j) for points in (source, target))
    weights = np.ones(len(source)) if weights is None else weights
    source_mean, target_mean = (np.average(points, weights=weights) for points in (source, target))
    centred = source - source_mean
    factor = np.vdot(centred, weights * (target - target_mean)) / np.vdot(centred, weights * centred)
    shift = target_mean - factor * source_mean
    return np.array([(factor.real, -factor.imag, shift.real), (factor.imag, factor.real, shift.imag)])
