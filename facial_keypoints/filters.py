"""Things to wear: sunglasses, a moustache or a hat, laid over a photo by its keypoints."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from facial_keypoints import geometry
from facial_keypoints.geometry import similarity
from facial_keypoints.images import DataError, as_rgb
from facial_keypoints.schemes import IBUG_68, check_68
from facial_keypoints.shipped import shipped

# Anchor points of each picture of tools/draw_artwork.py, in its pixels; named as in `face_points`.
ANCHORS = {
    "sunglasses": {"right eye": (165, 108), "left eye": (435, 108), "nose bridge": (300, 95)},
    "moustache": {"nose base": (300, 30), "right mouth corner": (110, 160), "left mouth corner": (490, 160)},
    "hat": {"right temple": (90, 360), "left temple": (510, 360)},
}

# In head widths: a hat rests above the ends of the jaw line and, on a turned head, behind them; the bridge of
# the nose stands in front of them. Chosen by looking at training faces.
HAT_LIFT, HAT_BACK, BRIDGE_DEPTH = 0.38, 0.2, 0.36


def load_artwork(name_or_path: str | Path) -> np.ndarray:  # RGBA uint8 (H, W, 4)
    """The picture "sunglasses", "moustache" or "hat", or an image file by its path, as RGBA.

    Raises FileNotFoundError for a missing file, DataError for one that is no picture or has no alpha.
    """
    path = shipped(f"{name_or_path}.png") if name_or_path in ANCHORS else Path(name_or_path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give a picture's path or one of {', '.join(ANCHORS)}")
    try:
        with Image.open(path) as picture:
            if picture.has_transparency_data:
                return np.array(picture.convert("RGBA"))
    except OSError:
        raise DataError(f"{path}: not a picture Pillow can read; save it as PNG with alpha") from None
    raise DataError(f"{path}: the picture has no alpha channel; save it as PNG with alpha")


def overlay(image: np.ndarray, artwork: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """A copy of `image` with `artwork`, warped by `matrix`, blended over it; what lies outside the image is cut off.

    image: see images.as_rgb; artwork: RGBA uint8 (h, w, 4); matrix: (2, 3), artwork to image pixels.
    It is warped with premultiplied alpha, so that the colours of transparent pixels do not bleed into the edges, and
    blended with the "over" operator (Porter and Duff, "Compositing digital images", SIGGRAPH 1984).
    """
    result = as_rgb(image).copy()
    _lay(result, artwork, matrix)
    return result


def _lay(image: np.ndarray, artwork: np.ndarray, matrix: np.ndarray) -> None:
    """Blend artwork over the image, in place."""
    left, top, right, bottom = _touched(artwork.shape, matrix, image.shape)
    if left >= right or top >= bottom or np.linalg.det(matrix[:, :2]) == 0:
        return
    layer, matrix = _shrink(_premultiply(artwork), matrix)
    matrix[:, 2] -= left, top
    layer = cv2.warpAffine(layer, matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
    region = image[top:bottom, left:right]
    region[:] = np.rint(layer[..., :3] + region * (1 - layer[..., 3:]))


def _touched(shape: tuple, matrix: np.ndarray, frame: tuple) -> tuple[int, int, int, int]:
    """Left, top, right, bottom (the last two exclusive) of the warped artwork within the image."""
    rim = np.array([(x, y) for x in (-1, shape[1]) for y in (-1, shape[0])])
    corners = geometry.transform_points(matrix, rim)
    limit = frame[1::-1]
    start = np.clip(np.floor(corners.min(0)), 0, limit).astype(int)
    stop = np.clip(np.ceil(corners.max(0)) + 1, 0, limit).astype(int)
    return *start, *stop


def _premultiply(artwork: np.ndarray) -> np.ndarray:  # float32 (h, w, 4), colours 0-255 times alpha 0-1
    layer = artwork.astype(np.float32)
    layer[..., 3] /= 255
    layer[..., :3] *= layer[..., 3:]
    return layer


def _shrink(layer: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The layer downsampled to its size in the image, so that the warp does not alias, and its new matrix."""
    old = layer.shape[1::-1]
    scale = min(1, np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    new = tuple(max(1, round(scale * length)) for length in old)
    back = geometry.invert(geometry.resize_matrix(old, new))
    return geometry.resize(layer, new), geometry.compose(matrix, back)


def face_points(keypoints: np.ndarray) -> dict[str, np.ndarray]:
    """The named points (2,) of a face (68, 2) to which artwork is attached; right is the person's right."""
    temples = _temples(check_68(keypoints))
    return {
        "right eye": keypoints[36:42].mean(0),
        "left eye": keypoints[42:48].mean(0),
        "nose bridge": keypoints[27],
        "nose base": keypoints[33],
        "right mouth corner": keypoints[48],
        "left mouth corner": keypoints[54],
        "right temple": temples[0],
        "left temple": temples[1],
    }


def _temples(keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the sides of a hat rest: the ends of the jaw line, moved up, and back on a turned head.

    A head turned by an angle yaw shows cos(yaw) of its width, and its nose bridge lies sin(yaw) times its depth away
    from the middle between the ends of the jaw line. Width and turn follow from the two.
    """
    right_eye, left_eye = IBUG_68.ruler
    across = keypoints[left_eye] - keypoints[right_eye]
    across = across / max(np.linalg.norm(across), 1e-6)
    middle = (keypoints[0] + keypoints[16]) / 2
    turn = (keypoints[27] - middle) @ across / BRIDGE_DEPTH
    width = np.hypot((keypoints[16] - keypoints[0]) @ across, turn)
    up = np.array((across[1], -across[0]))
    centre = middle + HAT_LIFT * width * up - HAT_BACK * turn * across
    return centre - across * width / 2, centre + across * width / 2


def placement(keypoints: np.ndarray, name: str) -> np.ndarray:  # (2, 3), artwork pixels to image pixels
    """The similarity that takes the anchors of "sunglasses", "moustache" or "hat" to a face (68, 2)."""
    points = face_points(keypoints)
    return similarity(list(ANCHORS[name].values()), [points[anchor] for anchor in ANCHORS[name]])


def wear(image: np.ndarray, keypoints: np.ndarray, name: str) -> np.ndarray:
    """A copy of an image, as RGB, with "sunglasses", a "moustache" or a "hat" on every face.

    image: see images.as_rgb; keypoints: (68, 2) for one face or (N, 68, 2) for several, none included, in its
    pixels. Raises DataError for no picture, another name, another shape, or keypoints that are not finite.
    """
    if name not in ANCHORS:
        raise DataError(f"{name!r}: nothing of that name to wear; there are {', '.join(ANCHORS)}")
    keypoints = check_68(keypoints)
    if keypoints.ndim > 3 or not np.isfinite(keypoints).all():
        raise DataError(f"keypoints {keypoints.shape}: expected finite numbers, (68, 2) or (N, 68, 2)")
    artwork, result = load_artwork(name), as_rgb(image).copy()
    for face in keypoints.reshape(-1, 68, 2):
        _lay(result, artwork, placement(face, name))
    return result
