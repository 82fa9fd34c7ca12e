"""Soft properties of a face (relief, hollows, flush, wrinkles, beard) on a small map, and the warp to the canvas.

The map lies in the x-y plane of shape.DRAWN_FACE; the warp to the canvas interpolates the face's projected points.
"""

from functools import cache

import cv2
import numpy as np
from scipy.interpolate import RBFInterpolator

from .brushes import SHIFT, blend, cloud, curve, fixed
from .shape import DRAWN_FACE

MAP_SCALE = 100  # map pixels per outer-eye distance
MAP_X, MAP_Y = np.meshgrid(np.arange(-1.3, 1.3, 1 / MAP_SCALE), np.arange(-1.9, 1.2, 1 / MAP_SCALE))
MAP_SIDE = np.abs(MAP_X)
# Points that do not move with eyelids or lips: the warp between map and canvas interpolates these.
STEADY = [*range(0, 36), 36, 39, 42, 45, 48, 51, 54, 57]
# Forehead and crown, continuing DRAWN_FACE upwards.
# fmt: off
FOREHEAD = np.array([
    (-0.80, -0.62, 0.36), (-0.66, -1.00, 0.22), (-0.36, -1.12, 0.04), (0.00, -1.16, 0.00), (0.36, -1.12, 0.04),
    (0.66, -1.00, 0.22), (0.80, -0.62, 0.36), (-0.48, -1.42, 0.36), (0.00, -1.50, 0.28), (0.48, -1.42, 0.36),
])
# fmt: on
SHADOW_TINT = (0.85, 1.05, 1.15)  # powers: light that went through skin is red
SKULL_CENTRE, SKULL_RADII = np.array((0.0, -0.66, 0.62)), np.array((0.82, 0.97, 0.80))


def blob(x, y, width, height) -> np.ndarray:
    """A Gaussian on both sides of the face, 1 at (+-x, y)."""
    return np.exp(-(((MAP_SIDE - x) / width) ** 2) - ((MAP_Y - y) / height) ** 2)


def map_line(points, width) -> np.ndarray:
    """A soft line through points (x, y), mirrored, 0 to 1."""
    mask = np.zeros(MAP_X.shape, np.uint8)
    line = (curve(np.array(points, float)) - (MAP_X[0, 0], MAP_Y[0, 0])) * MAP_SCALE
    cv2.polylines(mask, [fixed(line)], False, 255, 2, cv2.LINE_AA, SHIFT)
    mask = np.maximum(mask, mask[:, ::-1])
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), width * MAP_SCALE)
    return soft / soft.max()


@cache
def normal_map() -> np.ndarray:
    """Outward unit normals (H, W, 3) of a generic face, from a height field made of bumps."""
    width = 0.88 * (1 - 0.38 * np.clip((MAP_Y + 0.15) / 1.0, 0, 1) ** 2)
    inside = 1 - (MAP_X / width) ** 2 - (np.abs(MAP_Y + 0.42) / 1.27) ** 2.4
    z = -0.62 * np.where(inside > 0.1, np.sqrt(np.maximum(inside, 0.1)), 0.158 + 1.58 * inside)
    t = np.clip((MAP_Y + 0.50) / 0.46, 0, 1)
    z -= (0.05 + 0.17 * t) * np.exp(-((MAP_X / (0.07 + 0.05 * t)) ** 2)) / (1 + np.exp((MAP_Y - 0.02) * 45)) * t**0.5
    z -= 0.05 * blob(0, -0.06, 0.08, 0.07) + 0.075 * blob(0.12, 0.00, 0.055, 0.06)  # tip and wings
    z += 0.10 * blob(0.33, -0.45, 0.17, 0.10) - 0.05 * blob(0.36, -0.41, 0.12, 0.06)  # sockets, eyeballs
    z -= 0.05 * blob(0.36, -0.62, 0.28, 0.08) + 0.07 * blob(0.50, -0.14, 0.20, 0.16)  # brows, cheekbones
    z -= 0.05 * blob(0, 0.24, 0.26, 0.06) + 0.06 * blob(0, 0.39, 0.18, 0.05)  # lips
    z += 0.05 * blob(0, 0.51, 0.20, 0.05) - 0.09 * blob(0, 0.66, 0.18, 0.10)  # below the lip, chin
    z += 0.04 * blob(0.74, -0.66, 0.12, 0.22) + 0.03 * map_line([(0.17, -0.02), (0.27, 0.12), (0.37, 0.33)], 0.035)
    z = cv2.GaussianBlur(z, (0, 0), 2)
    normals = np.dstack([np.gradient(z, axis=1), np.gradient(z, axis=0), np.full_like(z, -1 / MAP_SCALE)])
    return (normals / np.linalg.norm(normals, axis=2, keepdims=True)).astype(np.float32)


@cache
def hollow_map() -> np.ndarray:
    """How much ambient light reaches each spot, 0 to 1."""
    dark = 0.42 * blob(0.24, -0.47, 0.09, 0.09) + 0.25 * blob(0.40, -0.50, 0.16, 0.06)
    dark += 0.22 * blob(0.35, -0.30, 0.13, 0.035) + 0.30 * blob(0.0, 0.12, 0.14, 0.045)
    dark += 0.30 * blob(0.0, 0.50, 0.16, 0.04) + 0.20 * blob(0.19, 0.02, 0.04, 0.07)
    dark += 0.12 * blob(0.62, 0.30, 0.16, 0.25) + 0.15 * np.clip(MAP_SIDE - 0.62, 0, 0.3) / 0.3
    dark += 0.20 * blob(0.33, 0.31, 0.04, 0.05) + 0.25 * np.clip((MAP_Y - 0.60) / 0.25, 0, 1)
    return np.clip(1 - dark, 0.2, 1).astype(np.float32)


@cache
def flush_map() -> np.ndarray:
    """Where skin is redder: cheeks, nose, chin; 0 to 1."""
    red = 0.8 * blob(0.48, -0.03, 0.18, 0.15) + 0.8 * blob(0, -0.03, 0.14, 0.09) + 0.3 * blob(0, 0.65, 0.2, 0.12)
    return np.clip(red, 0, 1).astype(np.float32)


@cache
def wrinkle_map() -> np.ndarray:
    """Lines of age: nose to mouth, forehead, below and beside the eyes; 0 to 1."""
    lines = map_line([(0.18, 0.00), (0.27, 0.12), (0.36, 0.30), (0.37, 0.42)], 0.018)
    lines = lines + 0.6 * map_line([(0.22, -0.32), (0.33, -0.27), (0.44, -0.31)], 0.012)
    for y in (-0.80, -0.90, -1.00):
        lines += 0.5 * map_line([(0.0, y), (0.25, y - 0.03), (0.45, y + 0.02)], 0.012)
    return np.clip(lines, 0, 1).astype(np.float32)


@cache
def beard_maps() -> tuple[np.ndarray, np.ndarray]:
    """Where a beard and a moustache grow, 0 to 1 each."""
    edge = np.interp(MAP_SIDE, (0.0, 0.20, 0.34, 0.55, 0.70, 0.82), (0.50, 0.46, 0.36, 0.16, -0.10, -0.40))
    lip = np.exp(-((MAP_X / 0.25) ** 4) - ((MAP_Y - 0.53) / 0.035) ** 2) * (MAP_SIDE > 0.07) * 0.5
    beard = np.clip((MAP_Y - edge) / 0.10, 0, 1) * (1 - lip)
    moustache = np.exp(-((MAP_X / 0.33) ** 6) - ((MAP_Y - 0.175 - 0.30 * MAP_X**2) / 0.062) ** 4)
    goatee = np.exp(-(((MAP_SIDE - 0.37) / 0.07) ** 2) - ((MAP_Y - 0.37) / 0.13) ** 4)
    return np.maximum(beard, goatee).astype(np.float32), moustache.astype(np.float32)


def warp_grid(face, shape) -> tuple[np.ndarray, np.ndarray]:
    """For each canvas pixel its map coordinates (two float32 (H, W)), by a thin-plate spline through the points."""
    source = np.vstack([face.points[STEADY], face.project(FOREHEAD * face.person.size)]) / face.unit
    target = (np.vstack([DRAWN_FACE[STEADY], FOREHEAD])[:, :2] - (MAP_X[0, 0], MAP_Y[0, 0])) * MAP_SCALE
    spline = RBFInterpolator(source, target, smoothing=0.01, kernel="thin_plate_spline")
    cells = 40
    ys, xs = (np.linspace(0.5 * s / cells - 0.5, s - 0.5 * s / cells - 0.5, cells) for s in shape[:2])
    grid = spline(np.stack(np.meshgrid(xs, ys), -1).reshape(-1, 2) / face.unit)
    grid = cv2.resize(grid.reshape(cells, cells, 2).astype(np.float32), shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return grid[..., 0].copy(), grid[..., 1].copy()


def on_canvas(grid, image) -> np.ndarray:
    """A map warped to the canvas."""
    return cv2.remap(np.ascontiguousarray(image), *grid, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def face_outline(face) -> np.ndarray:
    """The skin's edge: the jaw points, closed over the forehead."""
    forehead = face.project(FOREHEAD[6::-1] * face.person.size)
    return np.vstack([curve(face.points[:17]), curve(forehead)])


def skull_outline(face, swell=0.0) -> np.ndarray:
    """Silhouette of the skull, thicker by swell units: hull of a projected ellipsoid."""
    around, up = np.meshgrid(np.linspace(0, 2 * np.pi, 36), np.linspace(-1.5, 1.5, 15))
    ball = np.stack([np.cos(up) * np.cos(around), np.sin(up), np.cos(up) * np.sin(around)], -1).reshape(-1, 3)
    points = face.project((SKULL_CENTRE + ball * (SKULL_RADII + swell)) * face.person.size)
    return cv2.convexHull(points.astype(np.float32))[:, 0]


def skin_map(person, rng) -> np.ndarray:
    """Skin colour on the map: flush, wrinkles, stubble or beard; float32 (H, W, 3)."""
    skin = np.empty((*MAP_X.shape, 3), np.float32)
    skin[:] = person.skin
    skin *= 0.95 + 0.10 * cloud(rng, skin.shape, 12)[..., None]
    blend(skin, flush_map() * np.float32(person.flush), person.skin * np.float32((1.0, 0.62, 0.58)))
    blend(skin, wrinkle_map() * np.float32(0.7 * person.age), person.skin * np.float32(0.5))
    grain = cloud(rng, skin.shape, 2)
    for grows, density in zip(beard_maps(), (person.beard, person.moustache), strict=True):
        blend(skin, np.clip(grows * density * (0.6 + 0.8 * grain), 0, 0.95), person.hair * np.float32(0.7))
    return skin


def shading_map(face) -> np.ndarray:
    """Light on the map, float32 (H, W, 3): ambient in the hollows, soft Lambert, a little shine."""
    scene = face.scene
    light = (face.rotation.T @ scene.light).astype(np.float32)
    facing = normal_map() @ light
    lambert = np.clip((facing + 0.25) / 1.25, 0, 1)
    hollow = hollow_map()
    shine = face.person.shine * np.clip(facing, 0, 1) ** 12
    bright = lambert * (0.45 + 0.55 * hollow)
    bright = cv2.merge([bright**power + shine for power in SHADOW_TINT])
    return cv2.merge([hollow * level for level in scene.ambient]) + scene.diffuse * bright
