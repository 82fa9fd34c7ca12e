"""Draw the artwork that facial_keypoints.filters puts on faces: images/sunglasses.png, moustache.png and hat.png.

    python tools/draw_artwork.py

Coordinates are pixels of the finished picture, mirrored about x = 300. Everything is painted four times as
large with premultiplied alpha and downsampled at the end, which gives smooth edges without fringes.
"""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

WIDTH = 601
CENTRE = 300
FINE = 4  # painted pixels per finished pixel
IMAGES = Path(__file__).resolve().parent.parent / "images"
BLACK = (0, 0, 0)
WHITE = (255, 255, 255)


# Painting: a canvas is premultiplied RGBA float32, a mask is float32 0-1 of the same height and width.


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
    """The points seen in a mirror along the middle of the picture."""
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
    """Points at positions 0-1 along the right half's spine, moved across it by so many half widths."""
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


# Hat

HAT_HEIGHT = 452
CROWN_TOP, CROWN_BASE, LID = 30, 360, 25
BRIM_FRONT = [(8, 322), (40, 366), (120, 408), (210, 429), (300, 435), (390, 429), (480, 408), (560, 366)]
BRIM_BACK = [(592, 322), (560, 330), (470, 318), (300, 312), (130, 318), (40, 330)]


def draw_hat() -> np.ndarray:
    """A black silk top hat with a red band, seen slightly from above."""
    canvas = blank(HAT_HEIGHT)
    paint_brim(canvas)
    paint_crown(canvas)
    return canvas


def half_width(y: np.ndarray) -> np.ndarray:
    """Half the width of the crown: a waist, wider again at the top."""
    t = (CROWN_BASE - y) / (CROWN_BASE - CROWN_TOP)
    return 210 - 34 * t + 46 * t**2


def paint_brim(canvas: np.ndarray) -> None:
    """The brim, curled up at the sides, its shadow on the forehead and the crown's shadow on it."""
    x, y = axes(HAT_HEIGHT)
    brim = fill(HAT_HEIGHT, smooth(BRIM_FRONT + BRIM_BACK))
    forehead = ramp(np.abs(x - CENTRE), 215, 150)
    paint(canvas, 0.5 * shifted(soften(brim, 5), 9) * forehead, BLACK)
    diffuse, mirror = rounded(brim, 9)
    across = (x - CENTRE) / 300
    sheen = 0.5 * bump(across, -0.55, 0.22) + 0.25 * bump(across, 0.6, 0.2) + 0 * y
    paint(canvas, brim, blend((0.55 * diffuse + 0.5 * sheen).clip(0, 1), (8, 8, 11), (104, 102, 114)))
    paint(canvas, 0.3 * brim * mirror, WHITE)
    foot = fill(HAT_HEIGHT, ellipse(CENTRE, CROWN_BASE + 6, 222, 52))
    paint(canvas, 0.8 * brim * soften(foot, 5), BLACK)


def paint_crown(canvas: np.ndarray) -> None:
    """The crown with its sheen, the band around its foot and the lid on top."""
    x, y = axes(HAT_HEIGHT)
    across = (x - CENTRE) / half_width(y)
    bulge = np.sqrt(np.clip(1 - across**2, 0, 1))  # how far the cylinder's front comes towards us
    height = y - (LID + 17 * ramp(y, CROWN_TOP, CROWN_BASE)) * bulge  # level circles become straight lines
    side = ramp(np.abs(across), 1.002, 0.998) * ramp(height, CROWN_BASE + 0.5, CROWN_BASE - 0.5)
    crown = side * (y > CROWN_TOP)
    sheen = bump(across, -0.42, 0.2) + 0.35 * bump(across, 0.5, 0.13) + 0.3 * bump(across, 0.93, 0.06)
    paint(canvas, crown, blend((sheen * 0.75 + 0.12 * bulge).clip(0, 1), (9, 9, 13), (136, 134, 148)))
    band = crown * ramp(height, 283, 284) * ramp(height, 352, 351)
    paint(canvas, band, blend((0.28 + 0.5 * sheen + 0.12 * bulge).clip(0, 1), (58, 4, 14), (232, 62, 74)))
    for edge in (286, 349):
        paint(canvas, 0.35 * band * bump(height, edge, 1.5), (255, 170, 170))
    paint(canvas, 0.5 * crown * ramp(height, CROWN_BASE - 14, CROWN_BASE + 2), BLACK)
    paint_lid(canvas)


def paint_lid(canvas: np.ndarray) -> None:
    """The round top and its front edge, which catches the light."""
    x, y = axes(HAT_HEIGHT)
    radius = half_width(np.float32(CROWN_TOP))
    lid = fill(HAT_HEIGHT, ellipse(CENTRE, CROWN_TOP, radius, LID))
    across = (x - CENTRE) / radius
    level = (y - CROWN_TOP) / LID
    light = 0.1 + 0.25 * ramp(level, -1, 1) + 0.3 * bump(across, -0.42, 0.35) * ramp(level, -1.4, 1)
    paint(canvas, lid, blend(light, (16, 16, 20), (136, 134, 148)))
    edge = lid - shifted(lid, -2.5)
    shine = 0.25 + 0.6 * bump(across, -0.42, 0.3) + 0.2 * bump(across, 0.5, 0.2)
    paint(canvas, soften(edge.clip(0, 1), 0.7) * shine, (226, 226, 238))


PICTURES = {"sunglasses": draw_sunglasses, "moustache": draw_moustache, "hat": draw_hat}


def main() -> None:
    """Draw the three pictures."""
    for name, draw in PICTURES.items():
        path = IMAGES / f"{name}.png"
        Image.fromarray(finish(draw())).save(path, optimize=True)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
