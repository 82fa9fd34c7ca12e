"""Things to do with 68 keypoints: wear sunglasses, a moustache or a hat, head pose, open or closed eyes."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import geometry
from data_load import as_rgb
from landmarks import EYE_CORNERS, FACE_3D

ARTWORK_FOLDER = Path(__file__).resolve().parent / "images"

# Where the pictures of tools/draw_artwork.py sit on a face, in their own pixels; names as in `face_points`.
ANCHORS = {
    "sunglasses": {"right eye": (165, 108), "left eye": (435, 108), "nose bridge": (300, 95)},
    "moustache": {"nose base": (300, 30), "right mouth corner": (110, 160), "left mouth corner": (490, 160)},
    "hat": {"right temple": (90, 360), "left temple": (510, 360)},
}

# In head widths: a hat rests above the ends of the jaw line and, on a turned head, behind them; the bridge of
# the nose stands in front of them. Chosen by looking at training faces.
HAT_LIFT, HAT_BACK, BRIDGE_DEPTH = 0.38, 0.2, 0.36

# The outline slides over the head as it turns and the lips move: the pose comes from brows, nose and corners.
RIGID_POINTS = [*range(17, 28), 30, 31, 33, 35, 36, 39, 42, 45, 48, 54]

AXIS_COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))  # x red, y green, z blue

# Eye aspect ratios of the 2012 hand-labelled 300-W training faces: median 0.33, 4 % lie below 0.15. By eye,
# nearly all under 0.12 are shut or cast down, nearly all over 0.18 are open, and laughter lies between.
EYES_CLOSED_BELOW = 0.15


def load_artwork(name_or_path: str | Path) -> np.ndarray:  # RGBA uint8 (H, W, 4)
    """The picture "sunglasses", "moustache" or "hat", or that at any path, as RGBA.

    Raises FileNotFoundError for a missing file, ValueError for one that is no picture or has no alpha.
    """
    path = ARTWORK_FOLDER / f"{name_or_path}.png" if name_or_path in ANCHORS else Path(name_or_path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give a picture's path or one of {', '.join(ANCHORS)}")
    try:
        with Image.open(path) as picture:
            if picture.has_transparency_data:
                return np.array(picture.convert("RGBA"))
    except OSError:
        raise ValueError(f"{path}: not a picture Pillow can read; save it as PNG with alpha") from None
    raise ValueError(f"{path}: the picture has no alpha channel; save it as PNG with alpha")


def overlay(image: np.ndarray, artwork: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """A copy of `image` with `artwork` laid over it where `matrix` puts it; what leaves the frame is cut off.

    image: see data_load.as_rgb; artwork: RGBA uint8 (h, w, 4); matrix: (2, 3), artwork to image pixels.
    Warped with colours multiplied by alpha, so that those of transparent pixels cannot bleed into the edges,
    then blended by "over" (Porter and Duff, "Compositing digital images", SIGGRAPH 1984).
    """
    result = as_rgb(image).copy()
    _lay(result, artwork, matrix)
    return result


def _lay(image: np.ndarray, artwork: np.ndarray, matrix: np.ndarray) -> None:
    """Lay artwork over the image itself."""
    left, top, right, bottom = _touched(artwork.shape, matrix, image.shape)
    if left >= right or top >= bottom or np.linalg.det(matrix[:, :2]) == 0:
        return
    layer, matrix = _shrink(_premultiply(artwork), matrix)
    matrix[:, 2] -= left, top
    layer = cv2.warpAffine(layer, matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
    region = image[top:bottom, left:right]
    region[:] = np.rint(layer[..., :3] + region * (1 - layer[..., 3:]))


def _touched(shape: tuple, matrix: np.ndarray, frame: tuple) -> tuple[int, int, int, int]:
    """Left, top, right, bottom (the last two excluded) of the warped artwork within the frame."""
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
    """The layer brought down to the size it will have, so that the warp skips no pixel; its new matrix."""
    old = layer.shape[1::-1]
    scale = min(1, np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    new = tuple(max(1, round(scale * length)) for length in old)
    back = geometry.invert(geometry.resize_matrix(old, new))
    return geometry.resize(layer, new), geometry.compose(matrix, back)


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:  # (2, 3)
    """The rotation, scale and shift (no mirroring) that takes points (N, 2) to others with least squares.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 13(4),
    1991; in the plane, with x + iy, a rotation and scale is one complex factor and the solution two lines.
    """
    source, target = (np.asarray(points, dtype=float) @ (1, 1j) for points in (source, target))
    centred = source - source.mean()
    factor = np.vdot(centred, target - target.mean()) / np.vdot(centred, centred)
    shift = target.mean() - factor * source.mean()
    return np.array([(factor.real, -factor.imag, shift.real), (factor.imag, factor.real, shift.imag)])


def face_points(keypoints: np.ndarray) -> dict[str, np.ndarray]:
    """The named points (2,) of a face (68, 2) that artwork is fastened to; right is the person's right."""
    temples = _temples(keypoints)
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

    A head turned by some yaw shows cos(yaw) of its width, and the nose bridge stands sin(yaw) of its depth
    off the middle between the ends of the jaw line: the two give back width and turn.
    """
    across = keypoints[EYE_CORNERS[1]] - keypoints[EYE_CORNERS[0]]
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

    image: see data_load.as_rgb; keypoints: (68, 2) for one face or (N, 68, 2) for several, none included, in its
    pixels. Raises ValueError for no picture, another name, another shape, or keypoints that are not finite.
    """
    if name not in ANCHORS:
        raise ValueError(f"{name!r}: nothing of that name to wear; there are {', '.join(ANCHORS)}")
    keypoints = np.asarray(keypoints)
    if keypoints.shape[-2:] != (68, 2) or keypoints.ndim > 3 or not np.isfinite(keypoints).all():
        raise ValueError(f"keypoints {keypoints.shape}: expected finite numbers, (68, 2) or (N, 68, 2)")
    artwork, result = load_artwork(name), as_rgb(image).copy()
    for face in keypoints.reshape(-1, 68, 2):
        _lay(result, artwork, placement(face, name))
    return result


@dataclass(frozen=True)
class Pose:
    """Where a head is and how it is turned, in camera coordinates: x right, y down, z away from the camera.

    rotation (3, 3) and translation (3,), in outer-eye distances, take FACE_3D to the camera. The angles, in
    degrees, are 0 for FACE_3D as it stands; rotation = Rz(roll) Ry(-yaw) Rx(-pitch).
    """

    rotation: np.ndarray
    translation: np.ndarray

    @property
    def yaw(self) -> float:
        """Positive when the nose turns to the right of the picture."""
        return float(np.degrees(np.arcsin(np.clip(self.rotation[2, 0], -1, 1))))

    @property
    def pitch(self) -> float:
        """Positive when the nose turns up."""
        return float(np.degrees(-np.arctan2(self.rotation[2, 1], self.rotation[2, 2])))

    @property
    def roll(self) -> float:
        """Positive when the head tilts clockwise in the picture."""
        return float(np.degrees(np.arctan2(self.rotation[1, 0], self.rotation[0, 0])))


def _camera(image_shape: tuple) -> np.ndarray:  # (3, 3)
    """A camera nobody has calibrated: focal length = image width, looking through the middle of the image."""
    height, width = image_shape[:2]
    return np.array([(width, 0, (width - 1) / 2), (0, width, (height - 1) / 2), (0, 0, 1)], dtype=float)


def head_pose(keypoints: np.ndarray, image_shape: tuple) -> Pose:
    """The pose of the rigid face FACE_3D whose picture fits keypoints (68, 2) of an image of that shape best.

    Give the whole photo's shape, not a crop's: the camera looks through its middle. Least squares in pixels
    (Levenberg-Marquardt in cv2.solvePnP) from the frontal face that fits best; OpenCV's own start puts a
    quarter of the course's faces behind the camera. Raises ValueError without finite, distinct keypoints.
    """
    model, camera = FACE_3D[RIGID_POINTS], _camera(image_shape)
    points = np.asarray(keypoints, dtype=float)[RIGID_POINTS]
    if not (np.isfinite(keypoints).all() and np.ptp(points, axis=0).any()):
        raise ValueError("keypoints: all in one spot or not finite, so there is no pose to find")
    frontal = similarity(model[:, :2], points)
    rotation = np.array((0, 0, np.arctan2(frontal[1, 0], frontal[0, 0])))
    translation = np.append(frontal[:, 2] - camera[:2, 2], camera[0, 0]) / np.hypot(*frontal[:, 0])
    _, rotation, translation = cv2.solvePnP(model, points, camera, None, rotation, translation, True)
    return Pose(cv2.Rodrigues(rotation)[0], translation.ravel())


def draw_axes(image: np.ndarray, pose: Pose) -> np.ndarray:
    """A copy of the image the pose was found in (see data_load.as_rgb), with arrows from the tip of the nose.

    Red: to the person's left, which is the right of the picture; green: down; blue: out of the nose.
    """
    result, rotation = as_rgb(image).copy(), cv2.Rodrigues(pose.rotation)[0]
    ends = FACE_3D[30] + 0.5 * np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, -1)])
    pixels = cv2.projectPoints(ends, rotation, pose.translation, _camera(result.shape), None)[0]
    origin, *tips = np.rint(pixels[:, 0]).astype(int).tolist()
    thickness = max(1, round(result.shape[1] / pose.translation[2] / 30))  # a thirtieth of the eye distance
    for tip, colour in zip(tips, AXIS_COLOURS, strict=True):
        cv2.arrowedLine(result, origin, tip, colour, thickness, cv2.LINE_AA, tipLength=0.2)
    return result


def eye_openness(keypoints: np.ndarray) -> tuple[float, float]:  # the person's right eye, left eye
    """The eye aspect ratio of each eye of keypoints (68, 2): mean height of the lids over width.

    Soukupova and Cech, "Real-Time Eye Blink Detection using Facial Landmarks", CVWW 2016, equation 1. Open
    about 0.3, closed near 0 (EYES_CLOSED_BELOW), at any size and tilt; 0 where the corners coincide.
    """

    def ratio(eye):
        heights = np.linalg.norm(eye[[1, 2]] - eye[[5, 4]], axis=1)
        width = np.linalg.norm(eye[3] - eye[0])
        return float(heights.mean() / width) if width > 0 else 0.0

    keypoints = np.asarray(keypoints)
    return ratio(keypoints[36:42]), ratio(keypoints[42:48])
