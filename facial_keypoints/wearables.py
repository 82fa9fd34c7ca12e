"""What can be worn, as pictures on surfaces of the head: sunglasses, a hat, a moustache, a mask, a cat.

Points are in the coordinates of face_3d.FACE_3D: x to the right, y down, z away from the camera, in outer-eye
distances. A surface is a grid of points (R, C, 3); a picture from images/ is spread over it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from facial_keypoints.face_3d import FACE_3D, SKIN, TO_LEVEL, both_halves
from facial_keypoints.geometry import similarity, transform_points
from facial_keypoints.schemes import check_68

# Pictures drawn by tools/draw_artwork.py, and for those on a face their anchors in pixels, named as in `face_points`.
PICTURES = ("sunglasses", "sunglasses_arm", "hat", "moustache", "mask", "cat_ear", "cat_face")
ANCHORS = {
    "sunglasses": {"right eye": (165, 108), "left eye": (435, 108), "nose bridge": (300, 95)},
    "moustache": {"nose base": (300, 30), "right mouth corner": (110, 160), "left mouth corner": (490, 160)},
    "mask": {"right eye": (165, 130), "left eye": (435, 130)},
    "cat_face": {"right eye": (190, 40), "left eye": (410, 40), "nose tip": (300, 150)},
}

EYES, BROWS, NOSE, MOUTH = tuple(range(36, 48)), tuple(range(17, 27)), tuple(range(27, 36)), tuple(range(48, 60))
EAR = np.array([0.93, 0.05, 0.90])  # where the arms of glasses end
SKULL, SKULL_RADII = np.array([0, -0.25, 0.80]) @ TO_LEVEL, np.array([0.84, 1.05, 1.03])


@dataclass(frozen=True)
class Wearable:
    """Parts, each a picture's name and its surface; the keypoints that it is fastened to, and how stiff it is.

    stiff: ridge penalty. At 0 the thing follows the full affine difference between these keypoints and the mean head;
    at large values it is only shifted.
    """

    parts: tuple[tuple[str, np.ndarray], ...]
    held_by: tuple[int, ...]
    stiff: float = 0.03


@cache
def _skin() -> Callable:
    """Depth of the face's surface: a thin-plate spline (Duchon 1977) through its known points."""
    sites = np.concatenate([FACE_3D, both_halves(SKIN @ TO_LEVEL)])

    def bent(places):  # r^2 log r
        square = ((places[:, None, :2] - sites[:, :2]) ** 2).sum(axis=2)
        return square * np.log(square + 1e-12) / 2

    flat = np.column_stack([np.ones(len(sites)), sites[:, :2]])
    system = np.block([[bent(sites) + 1e-3 * np.eye(len(sites)), flat], [flat.T, np.zeros((3, 3))]])
    weights = np.linalg.solve(system, np.append(sites[:, 2], np.zeros(3)))
    return lambda places: np.column_stack([bent(places), np.ones(len(places)), places[:, :2]]) @ weights


def skin(x, y) -> np.ndarray:
    """The z of the face's surface at x and y, arrays that broadcast."""
    x, y = np.broadcast_arrays(x, y)
    return _skin()(np.stack([x.ravel(), y.ravel()], axis=1)).reshape(x.shape)


@cache
def head() -> tuple[np.ndarray, ...]:
    """The surfaces that hide what is behind them: the face and the skull."""
    jaw = FACE_3D[:9] * [-1, 1, 1]
    y = np.linspace(-0.75, jaw[8, 1], 26)[:, None]
    wide = np.interp(y, [-0.75, -0.4, *jaw[:, 1]], [0.66, 0.8, *jaw[:, 0]])
    x = wide * np.linspace(-1, 1, 27)
    face = np.dstack([x, y + 0 * x, skin(x, y)])
    around, up = np.meshgrid(np.linspace(0, 2 * np.pi, 33), np.linspace(-np.pi / 2, np.pi / 2, 15))
    ball = np.dstack([np.sin(around) * np.cos(up), np.sin(up), np.cos(around) * np.cos(up)])
    return face, SKULL + SKULL_RADII * ball


def face_points(keypoints: np.ndarray) -> dict[str, np.ndarray]:
    """The points (2,) of a face (68, 2) that anchors of these names go to; right is the person's right."""
    keypoints = check_68(keypoints)
    return {
        "right eye": keypoints[36:42].mean(axis=0),
        "left eye": keypoints[42:48].mean(axis=0),
        "nose bridge": keypoints[27],
        "nose tip": keypoints[30],
        "nose base": keypoints[33],
        "right mouth corner": keypoints[48],
        "left mouth corner": keypoints[54],
    }


def placement(keypoints: np.ndarray, name: str) -> np.ndarray:  # (2, 3), from pixels of the picture to keypoints
    """The similarity that takes the anchors of a picture of ANCHORS to a frontal face (68, 2)."""
    points = face_points(keypoints)
    return similarity(list(ANCHORS[name].values()), [points[anchor] for anchor in ANCHORS[name]])


def spread(name: str, size: tuple, depth: Callable, cells: tuple) -> np.ndarray:
    """The surface of a picture of ANCHORS, placed on the frontal head, and bent.

    size: the picture's (w, h); depth: the z of arrays x and y; cells: their numbers across and down.
    """
    edges = (np.linspace(-0.5, length - 0.5, count + 1) for length, count in zip(size, cells, strict=True))
    pixels = np.stack(np.meshgrid(*edges), axis=-1).reshape(-1, 2)
    x, y = transform_points(placement(FACE_3D[:, :2], name), pixels).astype(float).T
    return np.stack([x, y, depth(x, y)], axis=1).reshape(cells[1] + 1, cells[0] + 1, 3)


def arm(side: int, start: tuple, thick: float) -> np.ndarray:
    """A strip from beside the eye back to the ear; side: -1 for the picture's left, 1 for its right."""
    along = np.linspace(0, 1, 9)[None, :, None]
    middle = np.array(start) + along * (EAR - start)
    across = np.array([-0.5, 0.5])[:, None, None] * [0, thick, 0]
    return (middle + across) * [side, 1, 1]


def sunglasses() -> Wearable:
    """A front that is bent around the face, and two arms."""

    def depth(x, y):
        return -0.36 + 0.55 * x**2 + 0.1 * y

    front = spread("sunglasses", (601, 246), depth, (24, 8))
    arms = [("sunglasses_arm", arm(side, (0.76, -0.12, depth(0.76, -0.12)), 0.13)) for side in (-1, 1)]
    return Wearable((*arms, ("sunglasses", front)), (*BROWS, *EYES, *NOSE[:2]))


def moustache() -> Wearable:
    """On the upper lip, and a little in front of it."""
    surface = spread("moustache", (601, 190), lambda x, y: skin(x, y) - 0.07 + 0.1 * np.abs(x), (24, 8))
    return Wearable((("moustache", surface),), (*NOSE[4:], *MOUTH[:7]))


def hat() -> Wearable:
    """A top hat: a surface of revolution, leaning back; the picture goes around it, from its lid to its brim."""
    profile = np.array([(0, 1.3), (0.45, 1.3), (0.83, 1.3), (0.78, 0.9), (0.77, 0.6), (0.80, 0.3), (0.86, 0)])
    radius, height = np.concatenate(
        [profile, [(1.0, -0.03), (1.16, -0.01), (1.24, 0.06), (1.1, -0.06), (0.94, -0.05)]]
    ).T
    around = np.linspace(-np.pi, np.pi, 49)
    x, z = radius[:, None] * np.sin(around), -1.12 * radius[:, None] * np.cos(around)
    brim = 0.14 * np.clip((radius - 0.9) / 0.3, 0, 1)[:, None] * np.abs(np.sin(around)) ** 3  # up at the sides
    turned = np.dstack([x, -height[:, None] - brim, z])
    lean = np.radians(8)
    tilt = np.array([(1, 0, 0), (0, np.cos(lean), -np.sin(lean)), (0, np.sin(lean), np.cos(lean))])
    return Wearable((("hat", turned @ tilt + [0, -0.62, 0.72]),), (*BROWS, *EYES, *NOSE), stiff=0.5)


def mask() -> Wearable:
    """A carnival mask with holes for the eyes."""
    surface = spread("mask", (601, 270), lambda x, y: skin(x, y) - 0.06, (30, 14))
    return Wearable((("mask", surface),), (*BROWS, *EYES, *NOSE))


def cat() -> Wearable:
    """Ears, whiskers, and a nose on the nose."""

    def depth(x, y):
        return np.maximum(skin(x, y), -0.60 + 0.2 * np.abs(x)) - 0.05

    face = spread("cat_face", (601, 300), depth, (30, 12))
    across, up = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(1, 0, 9))
    ear = np.dstack([0.36 * across, -0.85 * up, -0.16 * across**2 + 0.1 * up])
    ears = []
    for side in (-1, 1):
        lean, turn = np.radians(14 * side), np.radians(-5 * side)
        about_z = np.array([(np.cos(lean), -np.sin(lean), 0), (np.sin(lean), np.cos(lean), 0), (0, 0, 1)])
        about_y = np.array([(np.cos(turn), 0, np.sin(turn)), (0, 1, 0), (-np.sin(turn), 0, np.cos(turn))])
        ears.append(("cat_ear", ear[:, ::side] * [side, 1, 1] @ (about_y @ about_z).T + [0.52 * side, -0.92, 0.55]))
    return Wearable((*ears, ("cat_face", face)), (*BROWS, *EYES, *NOSE))


WEARABLES = {"sunglasses": sunglasses, "hat": hat, "moustache": moustache, "mask": mask, "cat": cat}


@cache
def wearable(name: str) -> Wearable:
    """The Wearable with a name of WEARABLES, made once."""
    return WEARABLES[name]()
