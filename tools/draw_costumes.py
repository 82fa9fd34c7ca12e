"""The mask, and the cat's ear, nose and whiskers, for draw_artwork.py."""

import cv2
import numpy as np
from painting import (
    BLACK,
    CENTRE,
    FINE,
    WHITE,
    axes,
    blank,
    blend,
    bump,
    ellipse,
    fill,
    fine,
    mirrored,
    paint,
    ramp,
    rounded,
    shifted,
    smooth,
    soften,
)

# Mask

MASK_HEIGHT = 270
MASK_SIDE = [(300, 44), (352, 26), (430, 14), (520, 6), (592, 0), (580, 60), (556, 128), (508, 190), (440, 212)]
MASK_NOSE = [(382, 206), (346, 226), (322, 250), (300, 256)]
MASK_EYE = [(372, 136), (400, 108), (444, 98), (490, 108), (512, 128), (482, 150), (436, 160), (396, 154)]


def draw_mask() -> np.ndarray:
    """A carnival mask of violet velvet with a golden rim, open at the eyes."""
    canvas = blank(MASK_HEIGHT)
    right = np.array(MASK_SIDE + MASK_NOSE)
    outline = smooth(np.concatenate([right, mirrored(right[-2:0:-1])]))
    eyes = fill(MASK_HEIGHT, smooth(MASK_EYE), mirrored(smooth(MASK_EYE)))
    body = fill(MASK_HEIGHT, outline) * (1 - eyes)
    paint(canvas, 0.35 * shifted(soften(body, 5), 7) * (1 - eyes), BLACK)
    paint(canvas, body, blend(velvet(), (52, 14, 84), (150, 74, 190)))
    inside = cv2.distanceTransform((body > 0.5).astype(np.uint8), cv2.DIST_L2, 5) / FINE
    rim = body * ramp(inside, 11, 10)
    diffuse, mirror = rounded(rim, 5)
    paint(canvas, rim, blend(diffuse, (104, 66, 10), (250, 208, 104)))
    paint(canvas, 0.8 * rim * mirror, WHITE)
    places = np.array([(410, 64), (448, 56), (488, 54), (300, 92), (300, 122)])
    beads = fill(MASK_HEIGHT, *(ellipse(x, y, 6, 6) for x, y in [*places, *mirrored(places)]))
    diffuse, mirror = rounded(beads, 6)
    paint(canvas, beads, blend(diffuse, (120, 76, 10), (255, 222, 130)))
    paint(canvas, beads * mirror, WHITE)
    return canvas


def velvet() -> np.ndarray:
    """How light the mask's cloth is, 0-1: soft folds, brighter on brow and cheeks."""
    x, y = axes(MASK_HEIGHT)
    across = np.abs(x - CENTRE) / CENTRE
    light = (
        0.34 + 0.34 * bump(across, 0.45, 0.3) * ramp(y, 130, 20) + 0.3 * bump(across, 0.62, 0.2) * ramp(y, 140, 200)
    )
    return (light + 0.5 * bump(across, 0, 0.05) * ramp(y, 60, 200)).clip(0, 1)


# Cat: an ear, and nose with whiskers

EAR_HEIGHT, CAT_HEIGHT = 640, 300
FUR, TIP, PINK = (122, 104, 92), (52, 44, 40), (232, 164, 164)


def draw_cat_ear() -> np.ndarray:
    """Gray fur, darker at the tip, pink inside with hairs over it."""
    canvas = blank(EAR_HEIGHT)
    x, y = axes(EAR_HEIGHT)
    half = np.array([(300, 14), (350, 74), (440, 250), (520, 440), (560, 628)])
    outer = smooth(np.concatenate([half, mirrored(half[:0:-1])]))
    half = np.array([(300, 130), (340, 190), (410, 350), (450, 500), (440, 632)])
    inner = smooth(np.concatenate([half, mirrored(half[:0:-1])]))
    body, inside = fill(EAR_HEIGHT, outer), soften(fill(EAR_HEIGHT, inner), 8)
    paint(canvas, soften(body, 2), blend(ramp(y, 20, 420) + 0 * x, TIP, FUR))
    paint(canvas, body * inside, blend(ramp(y, 620, 180) + 0 * x, (150, 92, 96), PINK))
    fur = body * (1 - 0.75 * inside)
    random = np.random.default_rng(9)
    for _ in range(1300):
        start = np.array([random.uniform(60, 540), random.uniform(60, 640)])
        out = np.array([(start[0] - CENTRE) * 0.25, -random.uniform(25, 60)])
        t = np.linspace(0, 1, 6)[:, None]
        bristle(canvas, fur, start + t * out + t**2 * [random.normal(0, 6), 0], random, TIP, FUR)
    for _ in range(260):  # from the rims over the pink
        side = random.choice((-1, 1))
        start = np.array([CENTRE + side * random.uniform(120, 170), random.uniform(330, 640)])
        t = np.linspace(0, 1, 8)[:, None]
        hair = start + t * [-side * random.uniform(40, 110), -random.uniform(20, 70)]
        bristle(canvas, body, hair, random, FUR, WHITE)
    return cv2.resize(canvas, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)  # it is small in every photo


def bristle(canvas: np.ndarray, mask: np.ndarray, line: np.ndarray, random, dark, light) -> None:
    """A thin hair, visible where the mask is."""
    low = np.clip(((line.min(axis=0) - 4) * FINE).astype(int), 0, None)
    high = ((line.max(axis=0) + 4) * FINE).astype(int)
    part, seen = canvas[low[1] : high[1], low[0] : high[0]], mask[low[1] : high[1], low[0] : high[0]]
    hair = np.zeros(seen.shape, np.uint8)
    cv2.polylines(hair, [fine(line) - 16 * low.astype(np.int32)], False, 255, 5, cv2.LINE_AA, 4)
    mix = random.random()
    paint(part, 0.5 * seen * hair.astype(np.float32) / 255, np.add(dark, np.subtract(light, dark) * mix))


def draw_cat_face() -> np.ndarray:
    """A pink nose, and three whiskers to each side."""
    canvas = blank(CAT_HEIGHT)
    whiskers = np.zeros(canvas.shape[:2], np.float32)
    for height, end, sag in ((196, 128, -10), (208, 196, 4), (220, 258, 20)):
        middle = (height + end) / 2 - 12 - sag / 2
        spine = smooth([(352, height), (420, middle), (500, end - 8), (588, end + 6)], False)
        half = np.linspace(3.2, 0.5, len(spine))[:, None] * [0, 1]
        shape = np.concatenate([spine + half, (spine - half)[::-1]])
        whiskers = np.maximum(whiskers, fill(CAT_HEIGHT, shape, mirrored(shape)))
    paint(canvas, 0.3 * shifted(soften(whiskers, 2.5), 5), BLACK)
    paint(canvas, whiskers, (244, 242, 238))
    spots = fill(CAT_HEIGHT, *(ellipse(x, y, 3.4, 3.4) for x, y in cat_spots()))
    paint(canvas, 0.75 * spots, TIP)
    nose = [(300, 150), (328, 140), (348, 146), (350, 164), (330, 186), (306, 200), (300, 202)]
    mask = fill(CAT_HEIGHT, smooth(np.concatenate([nose, mirrored(nose[-2:0:-1])])))
    paint(canvas, 0.4 * shifted(soften(mask, 4), 6), BLACK)
    diffuse, mirror = rounded(mask, 22)
    paint(canvas, mask, blend(diffuse, (120, 48, 62), (246, 156, 164)))
    paint(canvas, 0.85 * mask * mirror, WHITE)
    return canvas


def cat_spots() -> list:
    """The spots that whiskers grow from, and some more."""
    right = [(358, 197), (384, 190), (362, 210), (390, 207), (360, 222), (384, 226)]
    return [*right, *mirrored(right)]
