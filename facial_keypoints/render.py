"""Pictures on curved surfaces, as a camera sees them, with hidden parts removed and soft edges.

A surface is a grid of points (R, C, 3) in the camera's view: x and y in pixels of the photo, z the distance.
"""

from functools import cache

import cv2
import numpy as np

FARTHEST = 1e5  # pixels; coordinates are clipped to this


@cache
def triangles_of(rows: int, columns: int) -> np.ndarray:  # (T, 3)
    """The triangles of a grid, as indices of its points in row-major order."""
    place = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = place[:-1, :-1], place[:-1, 1:], place[1:, :-1], place[1:, 1:]
    return np.stack([np.stack([a, b, c], axis=-1), np.stack([b, d, c], axis=-1)]).reshape(-1, 3)


def cover(corners: np.ndarray, depth: np.ndarray, size: tuple) -> np.ndarray:  # (H, W) int32
    """Which triangle is seen at each pixel of a picture of size (w, h), -1 where there is none.

    corners: (T, 3, 2) in pixels; depth: (T,), the nearest are drawn last. Those seen edge-on are left out.
    """
    (ax, ay), (bx, by) = (corners[:, 1] - corners[:, 0]).T, (corners[:, 2] - corners[:, 0]).T
    inside = (corners.max(axis=1) > 0).all(axis=1) & (corners.min(axis=1) < size).all(axis=1)
    drawn = np.flatnonzero(inside & (np.abs(ax * by - ay * bx) > 1e-2))
    canvas, fixed = np.full(size[::-1], -1, np.int32), np.rint(corners * 16).astype(np.int64)
    for number in drawn[np.argsort(-depth[drawn], kind="stable")]:
        cv2.fillConvexPoly(canvas, fixed[number].astype(np.int32), int(number), cv2.LINE_8, 4)
    return canvas


def interpolate(corners: np.ndarray, values: np.ndarray, covered: np.ndarray) -> np.ndarray:  # (H, W, D) float32
    """Values at the corners of triangles, (T, 3, D), interpolated at the pixels `cover` found; infinite elsewhere.

    corners: (T, 3, 2). Values are clipped to little more than the range of their triangle's corners, since
    extrapolation is unstable on triangles that are seen edge-on.
    """
    y, x = np.nonzero(covered >= 0)
    seen, which = np.unique(covered[y, x], return_inverse=True)
    slopes = np.linalg.solve(np.dstack([corners[seen], np.ones((len(seen), 3))]), values[seen])  # (S, 3, D)
    found = np.einsum("nk,nkd->nd", np.stack([x, y, np.ones(len(x))], axis=1), slopes[which])
    low, high = values[seen].min(axis=1), values[seen].max(axis=1)
    room = (high - low) / 4
    found = np.clip(found, (low - room)[which], (high + room)[which])
    result = np.full((*covered.shape, values.shape[-1]), np.inf, np.float32)
    result[y, x] = found
    return result


class View:
    """A rectangle of a photo that surfaces are drawn into.

    left, top, size (w, h): in its pixels; finer: the supersampling factor; drawing larger and averaging down makes
    edges soft.
    """

    def __init__(self, left: int, top: int, size: tuple, finer: int = 2):
        self.corner, self.finer, self.size = np.array([left, top]), finer, (finer * size[0], finer * size[1])

    def _triangles(self, surface) -> tuple[np.ndarray, np.ndarray]:
        """Corners (T, 3, 2) in the view's own pixels, and their depths (T, 3)."""
        places = np.clip(surface, -FARTHEST, FARTHEST).reshape(-1, 3)[triangles_of(*surface.shape[:2])]
        return (places[..., :2] - self.corner + 0.5) * self.finer - 0.5, places[..., 2]

    def depth(self, surfaces: list[np.ndarray]) -> np.ndarray:  # (H, W)
        """The distance of the nearest of several surfaces, infinite where there is none."""
        parts = [self._triangles(surface) for surface in surfaces]
        corners, depth = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        covered = cover(corners, depth.mean(axis=1), self.size)
        return interpolate(corners, depth[..., None], covered)[..., 0]

    def draw(self, surface: np.ndarray, picture: np.ndarray, limit: np.ndarray) -> np.ndarray:  # (H, W, 4) float32
        """A picture (h, w, 4), premultiplied alpha 0-1, spread over a surface; parts beyond `limit` are hidden.

        limit: (H, W), distances as `depth` gives them. The result is `finer` times as large as the rectangle.
        """
        corners, depth = self._triangles(surface)
        covered = cover(corners, depth.mean(axis=1), self.size)
        if (covered < 0).all():
            return np.zeros((*self.size[::-1], 4), np.float32)
        rows, columns = surface.shape[:2]
        picture = _reduced(picture, corners, (columns - 1, rows - 1))
        v, u = np.divmod(triangles_of(rows, columns), columns)
        texture = np.stack([u * picture.shape[1] / (columns - 1), v * picture.shape[0] / (rows - 1)], axis=-1) - 0.5
        found = interpolate(corners, np.dstack([texture, depth]), covered)
        hidden = ~(found[..., 2] <= limit)
        hidden = cv2.GaussianBlur(hidden.astype(np.float32), (0, 0), self.finer / 2)
        u, v = np.moveaxis(np.nan_to_num(found[..., :2], posinf=-9), 2, 0)
        layer = cv2.remap(picture, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        return layer * (1 - hidden)[..., None]


def _reduced(picture: np.ndarray, corners: np.ndarray, cells: tuple) -> np.ndarray:
    """The picture averaged down to about the size at which its cells are seen, which avoids aliasing."""
    sides = np.linalg.norm(corners[: len(corners) // 2, 1:] - corners[: len(corners) // 2, :1], axis=2)
    wanted = np.percentile(sides, 90, axis=0) * cells
    size = [int(np.clip(np.ceil(side), 2, limit)) for side, limit in zip(wanted, picture.shape[1::-1], strict=True)]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def over(image: np.ndarray, layer: np.ndarray) -> None:
    """Blend a layer of `View.draw` over the region (H, W, 3) of an image that the view shows, in place."""
    layer = cv2.resize(layer, image.shape[1::-1], interpolation=cv2.INTER_AREA)
    image[:] = np.rint(layer[..., :3] + image * (1 - layer[..., 3:]))
