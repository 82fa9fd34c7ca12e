"""Painting the artwork: masks and canvases, their shapes, light and colour.

A canvas is premultiplied RGBA float32, a mask is float32 0-1 of the same height and width. Coordinates are pixels of
the finished picture, mirrored about x = 300. Everything is painted FINE times as large and averaged down at the end,
which gives smooth edges without fringes.
"""

import cv2
import numpy as np

WIDTH = 601
CENTRE = 300
FINE = 4  # painted pixels per finished pixel
BLACK = (0, 0, 0)
WHITE = (255, 255, 255)


def blank(height: int) -> np.ndarray:
    """A transparent canvas."""
    return np.zeros((height * FINE, WIDTH * FINE, 4), np.float32)


def paint(canvas: np.ndarray, mask: np.ndarray, colour) -> None:
    """Blend a colour, (3,) or one per pixel (H, W, 3), over the canvas with the mask as alpha."""
    alpha = mask[..., None]
    canvas *= 1 - alpha
    canvas[..., :3] += alpha * np.asarray(colour, np.float32)
    canvas[..., 3:] += alpha


def finish(canvas: np.ndarray) -> np.ndarray:  # RGBA uint8
    """The picture: downsampled to its final size, with straight (not premultiplied) alpha."""
    size = canvas.shape[1] // FINE, canvas.shape[0] // FINE
    small = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)
    alpha = np.rint(small[..., 3:] * 255)
    colour = np.rint(small[..., :3] / np.maximum(small[..., 3:], 1e-6)) * (alpha > 0)
    return np.concatenate([colour, alpha], axis=2).clip(0, 255).astype(np.uint8)


def axes(height: int) -> tuple[np.ndarray, np.ndarray]:
    """x (1, W) and y (H, 1) of every painted pixel."""
    x, y = ((np.arange(n * FINE, dtype=np.float32) + 0.5) / FINE - 0.5 for n in (WIDTH, height))
    return x[None], y[:, None]


def fine(points: np.ndarray) -> np.ndarray:
    """Points as OpenCV's drawing functions take them: painted pixels in sixteenths (shift=4)."""
    return np.rint(((np.asarray(points) + 0.5) * FINE - 0.5) * 16).astype(np.int32)


def mirrored(points) -> np.ndarray:
    """The points mirrored about the vertical middle of the picture."""
    return np.array([(2 * CENTRE - x, y) for x, y in points])


def smooth(points, closed: bool = True, steps: int = 24) -> np.ndarray:
    """A curve through the points (Catmull and Rom, "A class of local interpolating splines", 1974)."""
    p = np.asarray(points, float)
    p = np.concatenate([p[-1:], p, p[:2]]) if closed else np.concatenate([p[:1], p, p[-1:]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    a, b, c, d = p[:-3, None], p[1:-2, None], p[2:-1, None], p[3:, None]
    curve = b + t * ((c - a) / 2 + t * (a - 2.5 * b + 2 * c - d / 2 + t * (1.5 * (b - c) + (d - a) / 2)))
    curve = curve.reshape(-1, 2)
    return curve if closed else np.concatenate([curve, p[-1:]])


def ellipse(x: float, y: float, radius_x: float, radius_y: float) -> np.ndarray:
    """The outline of an ellipse."""
    turn = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    return np.stack([x + radius_x * np.cos(turn), y + radius_y * np.sin(turn)], axis=1)


def fill(height: int, *outlines) -> np.ndarray:
    """The mask of what lies inside any of the outlines."""
    mask = np.zeros((height * FINE, WIDTH * FINE), np.uint8)
    for outline in outlines:
        cv2.fillPoly(mask, [fine(outline)], 255, cv2.LINE_AA, 4)
    return mask.astype(np.float32) / 255


def soften(mask: np.ndarray, sigma: float) -> np.ndarray:
    """The mask blurred by sigma finished pixels."""
    return cv2.GaussianBlur(mask, (0, 0), sigma * FINE)


def shifted(mask: np.ndarray, down: float) -> np.ndarray:
    """The mask moved down."""
    return cv2.warpAffine(mask, np.float32([(1, 0, 0), (0, 1, down * FINE)]), mask.shape[::-1])


def ramp(values: np.ndarray, start: float, stop: float) -> np.ndarray:
    """0 up to start, 1 from stop, smooth between (start may be the larger)."""
    t = np.clip((values - start) / (stop - start), 0, 1)
    return t * t * (3 - 2 * t)


def bump(values: np.ndarray, middle: float, spread: float) -> np.ndarray:
    """A bell curve of height 1."""
    return np.exp(-(((values - middle) / spread) ** 2))


def blend(weight: np.ndarray, first, second) -> np.ndarray:
    """One colour per pixel, from the first (weight 0) to the second (weight 1)."""
    return np.asarray(first, np.float32) + weight[..., None] * np.subtract(second, first, dtype=np.float32)


def rounded(mask: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Diffuse and mirror-like light, 0-1, on a body of that shape with a round rim, lit from above left."""
    inside = cv2.distanceTransform((mask > 0.5).astype(np.uint8), cv2.DIST_L2, 5) / FINE
    depth = np.clip(1 - inside / radius, 0, 1)
    relief = soften(radius * np.sqrt(1 - depth**2), 1.5)
    dy, dx = np.gradient(relief * FINE)
    length = np.sqrt(dx**2 + dy**2 + 1)
    diffuse = (-0.35 * -dx + 0.65 * dy + 0.67) / length
    half_way = (0.19 * dx + 0.36 * dy + 0.91) / length
    return diffuse.clip(0, 1), half_way.clip(0, 1) ** 40
