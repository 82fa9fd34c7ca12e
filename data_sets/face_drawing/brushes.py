"""Strokes, fills and noise on a canvas: float32 RGB (H, W, 3), 0 to 255, painted in place; lengths are pixels."""

import cv2
import numpy as np
from scipy.interpolate import CubicHermiteSpline

DARK = np.array((38, 24, 20), np.float32)  # lashes, shadows
SHIFT = 4  # fractional bits of OpenCV's polygon coordinates


def curve(points: np.ndarray, steps: int = 6) -> np.ndarray:
    """Catmull-Rom spline through points (N, 2), both ends included."""
    count = len(points)
    spline = CubicHermiteSpline(np.arange(count), points, np.gradient(points, axis=0))
    return spline(np.linspace(0, count - 1, (count - 1) * steps + 1))


def fixed(points: np.ndarray) -> np.ndarray:
    """Points as OpenCV's fixed-point integers."""
    return np.round(np.asarray(points) * (1 << SHIFT)).astype(np.int32)


def blend(canvas: np.ndarray, alpha: np.ndarray, colour) -> None:
    """Mix a colour (3,) or picture (H, W, 3) into the canvas; alpha (H, W) is 0 to 1."""
    if np.ndim(colour) == 1:  # whole planes: many times faster than numpy's broadcasting over three channels
        canvas *= cv2.merge([1 - alpha] * 3)
        canvas += cv2.merge([alpha * np.float32(value) for value in colour])
    else:
        canvas += (colour - canvas) * cv2.merge([alpha] * 3)


def mask_of(shape, polygon: np.ndarray) -> np.ndarray:
    """Antialiased filled polygon, uint8 (H, W)."""
    mask = np.zeros(shape[:2], np.uint8)
    cv2.fillPoly(mask, [fixed(polygon)], 255, cv2.LINE_AA, SHIFT)
    return mask


def apply(canvas, points, draw, colour, alpha, soft, clip) -> None:
    """Draw a mask in the window around points, blur it by soft pixels, clip it, and mix the colour in.

    draw(mask, low, scale) draws points as (point - low) * scale; wide blurs work on a reduced mask.
    """
    reach = int(2.5 * soft) + 8
    low = np.clip(np.floor(points.min(0)).astype(int) - reach, 0, None)
    high = np.minimum(np.ceil(points.max(0)).astype(int) + reach, (canvas.shape[1], canvas.shape[0]))
    if (high <= low).any():
        return
    size, window = high - low, np.s_[low[1] : high[1], low[0] : high[0]]
    reduced = np.maximum(size // max(1, int(soft / 2)), 1)
    mask = np.zeros(reduced[::-1], np.uint8)
    draw(mask, low, reduced / size)
    if soft > 0.3:
        mask = cv2.GaussianBlur(mask, (0, 0), soft * reduced[0] / size[0], borderType=cv2.BORDER_REPLICATE)
    if reduced[0] < size[0]:
        mask = cv2.resize(mask, size.tolist(), interpolation=cv2.INTER_LINEAR)
    weight = mask * np.float32(alpha / 255)
    if clip is not None:
        weight *= clip[window] * np.float32(1 / 255)
    blend(canvas[window], weight, np.asarray(colour, np.float32))


def fill(canvas, polygon, colour, alpha=1.0, soft=0.0, clip=None) -> None:
    """Fill a polygon (N, 2); clip is an optional uint8 (H, W) mask."""

    def draw(mask, low, scale):
        cv2.fillPoly(mask, [fixed((polygon - low) * scale)], 255, cv2.LINE_AA, SHIFT)

    apply(canvas, polygon, draw, colour, alpha, soft, clip)


def stroke(canvas, lines, colour, width, alpha=1.0, soft=0.0, clip=None) -> None:
    """Draw one open line (N, 2) or a list of them, width pixels wide."""
    lines = lines if isinstance(lines, list) else [lines]
    thickness = max(1, round(width))
    alpha *= min(1.0, width)

    def draw(mask, low, scale):
        cv2.polylines(mask, [fixed((line - low) * scale) for line in lines], False, 255, thickness, cv2.LINE_AA, SHIFT)

    apply(canvas, np.vstack(lines), draw, colour, alpha, soft + width / 8, clip)


def ellipse(centre, a, b, steps=28) -> np.ndarray:
    """Outline of an ellipse with half-axes a and b (vectors of two or three numbers)."""
    t = np.linspace(0, 2 * np.pi, steps, endpoint=False)[:, None]
    return np.asarray(centre) + np.cos(t) * np.asarray(a) + np.sin(t) * np.asarray(b)


def cloud(rng, shape, cell: float) -> np.ndarray:
    """Smooth noise, about 0 to 1, with blobs of `cell` pixels, float32 (H, W)."""
    small = rng.random((int(shape[0] / cell) + 3, int(shape[1] / cell) + 3), dtype=np.float32)
    return cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
