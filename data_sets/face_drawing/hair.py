"""Hair: its texture, the mass behind the head, and the front down to the hairline."""

import cv2
import numpy as np

from .brushes import DARK, blend, cloud, curve, mask_of
from .maps import MAP_SIDE, MAP_Y, on_canvas, skull_outline


def hairline_map(style) -> np.ndarray:
    """Height above the hairline in units, positive where hair grows."""
    low, side = style.hairline, style.sideburn
    ys = (low + style.recede * 0.3, low - style.recede, low + 0.10, low * 0.5 + side * 0.5, side, max(side, 0.15))
    return (np.interp(MAP_SIDE, (0.0, 0.36, 0.60, 0.72, 0.80, 0.92), ys) - MAP_Y).astype(np.float32)


def hair_texture(face, shape, rng) -> np.ndarray:
    """Lit hair over the whole canvas, float32 (H, W, 3): strands that run away from the crown, or curls."""
    style = face.person.style
    crown = face.project(np.array([(style.parting, -1.68, 0.45)]) * face.person.size)[0].astype(np.float32)
    x, y = (np.arange(n, dtype=np.float32) for n in shape[::-1])
    radius, angle = cv2.cartToPolar(*np.meshgrid(x - crown[0], y - crown[1]))
    noise = rng.random((256, 256), dtype=np.float32)
    wave = np.float32(6 * style.curl) * np.sin(radius * np.float32(9 / face.unit))
    strand = cv2.remap(
        noise,
        angle * np.float32(36) + wave,
        radius * np.float32(5 / face.unit),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )
    if style.curl > 0.5:
        strand = 0.3 * strand + 0.7 * cloud(rng, shape, 0.09 * face.unit)
    tilt = (x - crown[0]) * np.float32(0.25 * face.scene.light[0] / face.unit)
    tone = np.float32(1 - 0.5 * style.contrast) + style.contrast * strand + tilt
    tone *= np.clip(1.15 - 0.22 * radius / face.unit, 0.45, 1)
    return cv2.merge([tone * value for value in face.lit(face.person.hair)])


def ragged(mask, soft, noise, rough) -> np.ndarray:
    """A uint8 mask as alpha (H, W) with a soft, uneven edge."""
    field = cv2.GaussianBlur(mask, (0, 0), max(soft, 0.5)) * np.float32(1 / 255)
    field += (noise - 0.5) * np.float32(4 * rough) * field * (1 - field)
    return np.clip((field - 0.5) * 3 + 0.5, 0, 1)


def paint_back_hair(canvas, face, strands, rng) -> None:
    """Hair behind the head and the neck."""
    style, unit = face.person.style, face.unit
    if style.length is None:
        return
    mask = mask_of(canvas.shape, skull_outline(face, style.volume))
    if style.length > 0:
        side = np.array(
            [
                (0.80, -1.0),
                (0.92 + style.volume, -0.4),
                (0.95 + style.volume, 0.2),
                (0.88 + style.volume, style.length),
                (0.40, style.length + 0.12),
            ]
        )
        ring = np.vstack([curve(side), curve(side * (-1, 1))[::-1]])
        fall = np.column_stack([ring, np.full(len(ring), 0.55)]) * face.person.size
        mask |= mask_of(canvas.shape, face.project(fall))
    alpha = ragged(mask, 0.05 * unit, cloud(rng, canvas.shape, 0.05 * unit), 0.3 + 0.5 * style.curl)
    blend(canvas, alpha, strands * np.float32(0.72))


def paint_front_hair(canvas, face, grid, strands, rng) -> None:
    """Hair on the skull, down to the hairline, and locks beside the cheeks."""
    style, unit = face.person.style, face.unit
    if style.length is None:
        return
    noise = cloud(rng, canvas.shape, 0.035 * unit)
    outer = ragged(mask_of(canvas.shape, skull_outline(face, style.volume)), 0.03 * unit, noise, 0.4)
    height = on_canvas(grid, hairline_map(style))
    inner = np.clip((height + (noise - 0.5) * np.float32(0.10 + 0.12 * style.curl)) / 0.05 + 0.5, 0, 1)
    shadow = np.clip((height + 0.10) / 0.12, 0, 1) * outer * np.float32(0.35 * style.cover)
    blend(canvas, shadow, DARK)
    blend(canvas, inner * outer * np.float32(style.cover), strands)
