"""Draw the artwork that facial_keypoints.filters puts on faces, into images/.

python tools/draw_artwork.py
"""

from pathlib import Path

import cv2
import numpy as np
from draw_costumes import draw_cat_ear, draw_cat_face, draw_mask
from painting import (
    BLACK,
    CENTRE,
    FINE,
    WHITE,
    WIDTH,
    axes,
    blank,
    blend,
    bump,
    ellipse,
    fill,
    fine,
    finish,
    mirrored,
    paint,
    ramp,
    rounded,
    shifted,
    smooth,
    soften,
)
from PIL import Image

IMAGES = Path(__file__).resolve().parent.parent / "images"


# Sunglasses

SUNGLASSES_HEIGHT = 246
LENS = [
    (58, 62),
    (112, 44),
    (190, 42),
    (256, 56),
    (273, 98),
    (262, 156),
    (221, 196),
    (158, 206),
    (94, 190),
    (60, 134),
]
HINGE = [(90, 26), (14, 31), (9, 58), (28, 78), (50, 110)]
BRIDGE = [(240, 44), (300, 56), (360, 44), (360, 96), (300, 84), (240, 96)]


def draw_sunglasses() -> np.ndarray:
    """Thick black frame, brown lenses that are lighter and clearer at the bottom, two streaks of sky."""
    canvas = blank(SUNGLASSES_HEIGHT)
    lenses = fill(SUNGLASSES_HEIGHT, smooth(LENS), mirrored(smooth(LENS)))
    body = sunglasses_body(lenses)
    paint(canvas, 0.4 * shifted(soften(body, 5), 9), BLACK)
    paint_lenses(canvas, soften(lenses, 0.3))
    paint_frame(canvas, body, lenses)
    return canvas


def sunglasses_body(lenses: np.ndarray) -> np.ndarray:
    """The outline of the frame: lenses grown by the rim, more on top, joined by bridge and hinges."""
    height = SUNGLASSES_HEIGHT
    outside = cv2.distanceTransform((lenses < 0.5).astype(np.uint8), cv2.DIST_L2, 5) / FINE
    rim = (outside < 11).astype(np.float32)
    solid = np.maximum(np.maximum(rim, shifted(rim, -9)), fill(height, BRIDGE, HINGE, mirrored(HINGE)))
    return ramp(soften(solid, 4), 0.47, 0.53)


def paint_lenses(canvas: np.ndarray, lenses: np.ndarray) -> None:
    """Tint, streaks of reflected sky, and the shadow of the frame along the upper edge."""
    x, y = axes(SUNGLASSES_HEIGHT)
    down = ramp(y, 40, 205) + 0 * x
    paint(canvas, lenses * (0.94 - 0.36 * down), blend(down, (22, 18, 22), (116, 74, 44)))
    across = np.where(x < CENTRE, x, x - 270) + 0.55 * y
    streaks = bump(across, 150, 26) + 0.6 * bump(across, 207, 9)
    paint(canvas, lenses * streaks * (0.42 - 0.36 * down), (214, 228, 255))
    edge = lenses * (1 - shifted(soften(lenses, 5), 6))
    paint(canvas, 0.6 * edge.clip(0, 1), BLACK)


def paint_frame(canvas: np.ndarray, body: np.ndarray, lenses: np.ndarray) -> None:
    """Polished black acetate."""
    frame = body * (1 - lenses)
    diffuse, mirror = rounded(frame, 8)
    paint(canvas, frame, blend(diffuse, (6, 6, 8), (62, 60, 66)))
    paint(canvas, frame * 0.75 * mirror, WHITE)
    for x in (31, 2 * CENTRE - 31):
        rivet = fill(SUNGLASSES_HEIGHT, ellipse(x, 50, 7, 3))
        paint(canvas, soften(rivet, 0.5), (206, 204, 200))


# Moustache

MOUSTACHE_HEIGHT = 190
SPINE = [(294, 66), (346, 70), (402, 94), (462, 117), (520, 112), (562, 80), (580, 36)]
HALF_WIDTH = ([0, 0.15, 0.35, 0.55, 0.75, 0.9, 1], [24, 38, 40, 28, 15, 8, 1])  # along the spine
STRANDS = 1100  # on each side
DARK_HAIR, LIGHT_HAIR = np.array([(44, 25, 14), (176, 118, 72)])


def draw_moustache() -> np.ndarray:
    """A handlebar moustache of single hairs over a dark ground."""
    canvas = blank(MOUSTACHE_HEIGHT)
    side = np.concatenate([along(np.linspace(0, 1, 80), -0.9), along(np.linspace(1, 0, 80), 0.9)])
    ground = soften(fill(MOUSTACHE_HEIGHT, side, mirrored(side)), 2)
    paint(canvas, 0.35 * shifted(soften(ground, 5), 6), BLACK)
    paint(canvas, ground, DARK_HAIR)
    colours, mask = strands(np.random.default_rng(68))
    paint(canvas, mask, colours)
    return canvas


def along(position: np.ndarray, across) -> np.ndarray:  # (N, 2)
    """Points at positions 0-1 along the right half's spine, moved across it by `across` half widths."""
    spine = smooth(SPINE, closed=False)
    steps = np.linspace(0, 1, len(spine))
    direction = np.gradient(spine, axis=0)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    normal = np.stack([-direction[:, 1], direction[:, 0]], axis=1) * np.interp(steps, *HALF_WIDTH)[:, None]
    x, y, normal_x, normal_y = (np.interp(position, steps, values) for values in (*spine.T, *normal.T))
    return np.stack([x + across * normal_x, y + across * normal_y], axis=1)


def strands(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Colours (H, W, 3) and mask of hairs that run outwards, lighter on the upper side."""
    colours = np.full((MOUSTACHE_HEIGHT * FINE, WIDTH * FINE, 3), DARK_HAIR, np.uint8)
    mask = np.zeros(colours.shape[:2], np.uint8)
    for start in np.sort(random.uniform(-0.05, 0.9, 2 * STRANDS))[::-1]:
        place, drift, wave = random.uniform(-1, 1), random.normal(0, 0.12), random.normal(0, 0.05)
        t = np.linspace(0, 1, 14)
        position = np.clip(start + random.uniform(0.12, 0.3) * t, 0, 1)
        hair = along(position, place + drift * t + wave * np.sin(5 * t))
        hair = mirrored(hair) if random.random() < 0.5 else hair
        light = np.clip(0.34 - 0.3 * place + random.normal(0, 0.2), 0, 1)
        colour = (DARK_HAIR + light * (LIGHT_HAIR - DARK_HAIR)).tolist()
        cv2.polylines(colours, [fine(hair)], False, colour, 5, cv2.LINE_AA, 4)
        cv2.polylines(mask, [fine(hair)], False, 255, 4, cv2.LINE_AA, 4)
    return colours, mask.astype(np.float32) / 255


# The arms of the sunglasses: from the hinge on the left to the ear, where hair covers them

ARM_HEIGHT = 48


def draw_sunglasses_arm() -> np.ndarray:
    """A black bar with a streak of light, clear towards the ear."""
    canvas = blank(ARM_HEIGHT)
    x, y = axes(ARM_HEIGHT)
    thick = 20 - 6 * ramp(x, 0, 500)
    bar = ramp(np.abs(y - 24), thick + 0.7, thick - 0.7) * ramp(x, 596, 380)
    light = bump(y, 12, 5) * (0.5 + 0.5 * ramp(x, 200, 0))
    paint(canvas, bar, blend(light.clip(0, 1), (8, 8, 10), (92, 90, 98)))
    return canvas


# Hat: a top hat unrolled. From the back over the picture's left, the front (x = 300) and the right to the back again;
# eleven bands from the middle of the lid down the crown and over the brim to its underside

BAND = 30  # pixels
HAT_HEIGHT = 11 * BAND
LID, CROWN, BRIM = 2 * BAND, 6 * BAND, 9 * BAND  # their lower ends


def draw_hat() -> np.ndarray:
    """Black silk with a red ribbon."""
    canvas = blank(HAT_HEIGHT)
    x, y = axes(HAT_HEIGHT)
    angle = (x - CENTRE) * np.pi / CENTRE + 0 * y
    sheen = bump(angle, -0.5, 0.25) + 0.35 * bump(angle, 0.6, 0.18) + 0.5 * bump(angle, 1.7, 0.3)
    sheen += 0.5 * bump(angle, -1.75, 0.3) + 0.25 * bump(np.abs(angle), np.pi, 0.4)
    whole = np.ones(canvas.shape[:2], np.float32)
    paint(canvas, whole, blend((0.1 + 0.62 * sheen).clip(0, 1), (9, 9, 13), (136, 134, 148)))
    lid = whole * ramp(y, LID + 0.5, LID - 0.5)
    paint(canvas, lid, blend(0.16 + 0.12 * np.cos(angle) + 0 * y, (16, 16, 20), (136, 134, 148)))
    paint(canvas, 0.8 * whole * bump(y, LID, 2.5) * (0.25 + 0.6 * sheen).clip(0, 1), (226, 226, 238))
    ribbon = whole * ramp(y, CROWN - 37, CROWN - 36) * ramp(y, CROWN - 3, CROWN - 4)
    paint(canvas, ribbon, blend((0.3 + 0.55 * sheen).clip(0, 1), (58, 4, 14), (232, 62, 74)))
    for edge in (CROWN - 34, CROWN - 6):
        paint(canvas, 0.35 * ribbon * bump(y, edge, 1.5), (255, 170, 170))
    brim = whole * ramp(y, CROWN - 0.5, CROWN + 0.5) * ramp(y, BRIM + 0.5, BRIM - 0.5)
    paint(canvas, brim, blend((0.16 + 0.3 * sheen).clip(0, 1), (8, 8, 11), (104, 102, 114)))
    paint(canvas, 0.75 * whole * bump(y, CROWN, 12), BLACK)
    paint(canvas, whole * ramp(y, BRIM + 4, BRIM + 30), (13, 12, 15))
    paint(canvas, 0.6 * whole * bump(y, BRIM - 3, 3) * (0.4 + 0.5 * sheen).clip(0, 1), (190, 190, 205))
    return canvas


PICTURES = {
    "sunglasses": draw_sunglasses,
    "sunglasses_arm": draw_sunglasses_arm,
    "moustache": draw_moustache,
    "hat": draw_hat,
    "mask": draw_mask,
    "cat_ear": draw_cat_ear,
    "cat_face": draw_cat_face,
}


def main() -> None:
    """Draw the pictures."""
    for name, draw in PICTURES.items():
        path = IMAGES / f"{name}.png"
        Image.fromarray(finish(draw())).save(path, optimize=True)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
