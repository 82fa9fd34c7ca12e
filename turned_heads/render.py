"""Draw textured triangles with a z-buffer in numpy; cv2.remap takes the colours from the photo."""

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Drawing:
    """What each pixel of a picture of size x size shows.

    places: (size, size, 2) float32, the texture coordinates of its colour; depth: (size, size), infinite where nothing
    is drawn; triangle: (size, size) int, the number of the front triangle, -1 for none.
    """

    places: np.ndarray
    depth: np.ndarray
    triangle: np.ndarray

    @property
    def covered(self) -> np.ndarray:  # (size, size) bool
        """Where anything is drawn."""
        return self.triangle >= 0


def pixels_of_triangles(corners: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pixels of the boxes around triangles (T, 3, 2), within the picture: x, y and the triangle, (P,) each."""
    low = np.clip(np.ceil(corners.min(axis=1)), 0, size).astype(int)
    high = np.clip(np.floor(corners.max(axis=1)), -1, size - 1).astype(int)
    wide, tall = np.maximum(high - low + 1, 0).T
    count = wide * tall
    owner = np.repeat(np.arange(len(corners)), count)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    return low[owner, 0] + number % wide[owner], low[owner, 1] + number // wide[owner], owner


def doubled_area(corners: np.ndarray) -> np.ndarray:  # (T,)
    """Twice the signed area of triangles (T, 3, 2 or 3) in the picture; negative for those seen from behind."""
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]


def barycentric(corners: np.ndarray, x: np.ndarray, y: np.ndarray, owner: np.ndarray) -> np.ndarray:  # (P, 3)
    """Weights of the corners of triangle `owner` (P,) at pixels x, y; all are positive inside it."""
    a, first, second = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    to_weights = np.stack([second[:, 1], -second[:, 0], -first[:, 1], first[:, 0]], axis=1)
    to_weights /= doubled_area(corners)[:, None]
    dx, dy = x - a[owner, 0], y - a[owner, 1]
    rows = to_weights[owner]
    right, down = rows[:, 0] * dx + rows[:, 1] * dy, rows[:, 2] * dx + rows[:, 3] * dy
    return np.stack([1 - right - down, right, down], axis=1)


def draw(vertices: np.ndarray, texture: np.ndarray, triangles: np.ndarray, size: int) -> Drawing:
    """Draw triangles of vertices (V, 3) in pixels, smaller z in front, with texture coordinates (V, 2).

    Triangles seen from behind, whose corners run counter-clockwise, are not drawn.
    """
    corners = vertices[triangles].astype(np.float32)
    front = doubled_area(corners) > 1e-6
    numbers, corners = np.flatnonzero(front), corners[front]
    x, y, owner = pixels_of_triangles(corners[..., :2], size)
    weights = barycentric(corners[..., :2], x, y, owner)
    hit = weights.min(axis=1) >= -1e-5
    x, y, owner, weights = x[hit], y[hit], owner[hit], weights[hit]
    depth = np.einsum("pc,pc->p", weights, corners[owner, :, 2])
    owner = numbers[owner]
    behind_first = np.argsort(-depth, kind="stable")
    front = np.full(size * size, -1)
    front[(y * size + x)[behind_first]] = behind_first  # numpy keeps the last of repeated indices
    seen = np.flatnonzero(front >= 0)
    hits = front[seen]
    places, nearest, shown = (
        np.zeros((size * size, 2), np.float32),
        np.full(size * size, np.inf),
        np.full(size * size, -1),
    )
    places[seen] = (weights[hits, :, None] * texture[triangles[owner[hits]]]).sum(axis=1)
    nearest[seen], shown[seen] = depth[hits], owner[hits]
    return Drawing(places.reshape(size, size, 2), nearest.reshape(size, size), shown.reshape(size, size))


def paint(drawing: Drawing, photo: np.ndarray) -> np.ndarray:  # (size, size, C)
    """The colours of a drawing, taken from a photo; points outside the photo get the colour of its edge."""
    return cv2.remap(photo, drawing.places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def over(front: np.ndarray, covered: np.ndarray, background: np.ndarray) -> np.ndarray:  # uint8
    """`front` where it is `covered`, with a soft edge one pixel wide, over a background."""
    solid = cv2.erode(covered.astype(np.float32), np.ones((3, 3)))
    alpha = np.minimum(cv2.GaussianBlur(solid, (0, 0), 0.8), covered)[..., None]
    return np.clip(front * alpha + background * (1 - alpha) + 0.5, 0, 255).astype(np.uint8)
