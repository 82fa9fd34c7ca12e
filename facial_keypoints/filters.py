"""Things to wear: they turn with the head in 3D, and the face hides what is behind it."""

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from facial_keypoints import geometry
from facial_keypoints.face_3d import FACE_3D
from facial_keypoints.images import DataError, as_rgb
from facial_keypoints.pose import Pose, head_pose
from facial_keypoints.render import View, over
from facial_keypoints.schemes import check_68
from facial_keypoints.shipped import shipped
from facial_keypoints.wearables import PICTURES, WEARABLES, Wearable, head, wearable

HIDDEN_BEHIND = 0.03  # outer-eye distances by which a picture may lie below the head's surface and still be seen
LARGE = 200  # pixels between the outer eye corners; on larger faces pictures are drawn without supersampling
BAND = 250_000  # pixels of the photo that are drawn at a time, to bound the memory


def load_artwork(name_or_path: str | Path) -> np.ndarray:  # RGBA uint8 (H, W, 4)
    """A picture from PICTURES by its name, or an image file by its path, as RGBA.

    Raises FileNotFoundError for a missing file, DataError for one that is not a picture or has no alpha channel.
    """
    path = shipped(f"{name_or_path}.png") if name_or_path in PICTURES else Path(name_or_path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give a picture's path or one of {', '.join(PICTURES)}")
    try:
        with Image.open(path) as picture:
            if picture.has_transparency_data:
                return np.array(picture.convert("RGBA"))
    except OSError:
        raise DataError(f"{path}: not a picture Pillow can read; save it as PNG with alpha") from None
    raise DataError(f"{path}: the picture has no alpha channel; save it as PNG with alpha")


def fastened(surface: np.ndarray, pose: Pose, matrix: np.ndarray) -> np.ndarray:  # (R, C, 3)
    """A surface of the head (R, C, 3) projected by the camera of its pose, then moved by a matrix (2, 3).

    x and y in pixels; z is the distance, in outer-eye distances.
    """
    places = surface.reshape(-1, 3)
    depth = places @ pose.rotation[2] + pose.translation[2]
    return np.column_stack([geometry.transform_points(matrix, pose.project(places)), depth]).reshape(surface.shape)


def fastening(pose: Pose, keypoints: np.ndarray, thing: Wearable) -> np.ndarray:  # (2, 3)
    """The affine matrix from the projected mean head to the keypoints (68, 2), fitted to those that hold the thing.

    Least squares with a penalty (ridge regression) on everything but the shift.
    """
    held_by = list(thing.held_by)
    shown = pose.project(FACE_3D[held_by])
    middle = shown.mean(axis=0)
    places, moves = (shown - middle) / pose.scale, (keypoints[held_by] - shown) / pose.scale
    bend = np.linalg.solve(places.T @ places + len(places) * thing.stiff * np.eye(2), places.T @ moves).T
    return np.column_stack([np.eye(2) + bend, pose.scale * moves.mean(axis=0) - bend @ middle])


def put_on(image: np.ndarray, keypoints: np.ndarray, thing: Wearable) -> None:
    """Draw a thing on one face (68, 2) into an image, in place; nothing if the keypoints do not form a face."""
    try:
        pose = head_pose(keypoints)
    except DataError:
        return
    matrix = fastening(pose, keypoints, thing)
    parts = [(_artwork(name), fastened(surface, pose, matrix)) for name, surface in thing.parts]
    parts.sort(key=lambda part: -part[1][..., 2].mean())  # the nearest last
    skin = [fastened(surface, pose, matrix) for surface in head()]
    if not all(np.isfinite(surface).all() for surface in [*skin, *(surface for _, surface in parts)]):
        return
    left, top, right, bottom = _within([surface for _, surface in parts], image.shape)
    rows = BAND // max(1, right - left) + 1
    for start in range(top, bottom, rows) if left < right else ():
        region = image[start : min(start + rows, bottom), left:right]
        view = View(left, start, region.shape[1::-1], 1 if pose.scale > LARGE else 2)
        limit = view.depth(skin) + HIDDEN_BEHIND
        for picture, surface in parts:
            over(region, view.draw(surface, picture, limit))


def _within(surfaces: list[np.ndarray], shape: tuple) -> tuple[int, int, int, int]:
    """Left, top, right, bottom (the last two exclusive) of the surfaces' bounding box within an image."""
    places = np.concatenate([surface[..., :2].reshape(-1, 2) for surface in surfaces])
    limit = shape[1::-1]
    start = np.clip(np.floor(places.min(axis=0)), 0, limit).astype(int)
    stop = np.clip(np.ceil(places.max(axis=0)) + 1, 0, limit).astype(int)
    return *start, *stop


@cache
def _artwork(name: str) -> np.ndarray:  # float32 (h, w, 4)
    """A picture with premultiplied alpha 0-1, so that colours of transparent pixels do not bleed into edges."""
    layer = load_artwork(name).astype(np.float32)
    layer[..., 3] /= 255
    layer[..., :3] *= layer[..., 3:]
    return layer


def wear(image: np.ndarray, keypoints: np.ndarray, name: str) -> np.ndarray:
    """A copy of an image, as RGB, with "sunglasses", a "hat", a "moustache", a "mask" or a "cat" on every face.

    image: see images.as_rgb; keypoints: in its pixels, (68, 2) for one face or (N, 68, 2) for any number. Raises
    DataError if the image is not a picture, for an unknown name, another shape, or keypoints that are not finite.
    """
    if name not in WEARABLES:
        raise DataError(f"{name!r}: nothing of that name to wear; there are {', '.join(WEARABLES)}")
    keypoints = check_68(keypoints)
    if keypoints.ndim > 3 or not np.isfinite(keypoints).all():
        raise DataError(f"keypoints {keypoints.shape}: expected finite numbers, (68, 2) or (N, 68, 2)")
    result = as_rgb(image).copy()
    for face in keypoints.reshape(-1, 68, 2):
        put_on(result, face, wearable(name))
    return result
