"""Head pose: the rotation and translation that fit a rigid 3D face to 68 keypoints."""

from dataclasses import dataclass

import cv2
import numpy as np

from facial_keypoints.geometry import similarity
from facial_keypoints.images import DataError
from facial_keypoints.schemes import check_68

# A rigid 3D face: x to the right of the image, y down, z away from the camera; the unit is the distance of
# the outer eye corners. Fitted to the 300-W labels by tools/fit_face_3d.py; the outline is flatter than a real
# head, because people label the visible edge of the cheek, which slides over the head as it turns.
FACE_3D = np.array(
    [
        (-0.824, -0.339, 0.362),
        (-0.817, -0.145, 0.325),
        (-0.793, 0.051, 0.295),
        (-0.748, 0.242, 0.263),
        (-0.664, 0.415, 0.204),
        (-0.534, 0.562, 0.126),
        (-0.375, 0.683, 0.037),
        (-0.200, 0.778, -0.046),
        (0.000, 0.804, -0.075),
        (0.200, 0.778, -0.046),
        (0.375, 0.683, 0.037),
        (0.534, 0.562, 0.126),
        (0.664, 0.415, 0.204),
        (0.748, 0.242, 0.263),
        (0.793, 0.051, 0.295),
        (0.817, -0.145, 0.325),
        (0.824, -0.339, 0.362),
        (-0.665, -0.532, 0.117),
        (-0.563, -0.621, 0.068),
        (-0.422, -0.652, 0.021),
        (-0.275, -0.639, -0.022),
        (-0.136, -0.594, -0.057),
        (0.136, -0.594, -0.057),
        (0.275, -0.639, -0.022),
        (0.422, -0.652, 0.021),
        (0.563, -0.621, 0.068),
        (0.665, -0.532, 0.117),
        (0.000, -0.436, -0.075),
        (0.000, -0.312, -0.128),
        (0.000, -0.190, -0.185),
        (0.000, -0.065, -0.242),
        (-0.165, 0.038, -0.136),
        (-0.086, 0.062, -0.159),
        (0.000, 0.084, -0.173),
        (0.086, 0.062, -0.159),
        (0.165, 0.038, -0.136),
        (-0.500, -0.398, 0.061),
        (-0.413, -0.449, 0.040),
        (-0.305, -0.449, 0.030),
        (-0.215, -0.385, 0.024),
        (-0.314, -0.367, 0.021),
        (-0.419, -0.366, 0.031),
        (0.215, -0.385, 0.024),
        (0.305, -0.449, 0.030),
        (0.413, -0.449, 0.040),
        (0.500, -0.398, 0.061),
        (0.419, -0.366, 0.031),
        (0.314, -0.367, 0.021),
        (-0.316, 0.300, -0.031),
        (-0.201, 0.244, -0.108),
        (-0.082, 0.215, -0.152),
        (0.000, 0.232, -0.160),
        (0.082, 0.215, -0.152),
        (0.201, 0.244, -0.108),
        (0.316, 0.300, -0.031),
        (0.205, 0.396, -0.098),
        (0.089, 0.434, -0.143),
        (0.000, 0.442, -0.150),
        (-0.089, 0.434, -0.143),
        (-0.205, 0.396, -0.098),
        (-0.268, 0.304, -0.043),
        (-0.083, 0.281, -0.147),
        (0.000, 0.287, -0.156),
        (0.083, 0.281, -0.147),
        (0.268, 0.304, -0.043),
        (0.084, 0.337, -0.136),
        (0.000, 0.345, -0.144),
        (-0.084, 0.337, -0.136),
    ]
)

# Pose is fitted to brows, nose, eye and mouth corners: the outline slides over a turning head, and lips move.
RIGID_POINTS = [*range(17, 28), 30, 31, 33, 35, 36, 39, 42, 45, 48, 54]


TILTED = 10  # degrees; the networks were trained on faces that are tilted by less, so those stay as they are


def upright_matrix(keypoints: np.ndarray) -> np.ndarray:  # (2, 3)
    """The rotation that turns a tilted face upright, from the similarity between frontal FACE_3D and its keypoints
    (68, 2).

    The identity for faces that are tilted by less than TILTED degrees.
    """
    a, b = similarity(FACE_3D[:, :2], keypoints)[:, 0]
    if abs(np.degrees(np.arctan2(b, a))) < TILTED:
        return np.eye(2, 3)
    return np.array([[a, b, 0], [-b, a, 0]]) / np.hypot(a, b)


@dataclass(frozen=True)
class Pose:
    """The position and rotation of a head in camera coordinates: x right, y down, z away from the camera.

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
    """The matrix of an assumed camera: focal length = image width, principal point = centre of the image."""
    height, width = image_shape[:2]
    return np.array([(width, 0, (width - 1) / 2), (0, width, (height - 1) / 2), (0, 0, 1)])


def head_pose(keypoints: np.ndarray, image_shape: tuple) -> Pose:
    """The pose of FACE_3D whose projection best fits keypoints (68, 2) in an image of shape (H, W, ...).

    image_shape is the whole photo's, not a crop's, since the camera's axis goes through its centre. Least squares in
    pixels (Levenberg-Marquardt in cv2.solvePnP), started from the frontal face that fits best; OpenCV's own start puts
    a quarter of the course's faces behind the camera. Raises DataError without finite, distinct keypoints.
    """
    model, camera = FACE_3D[RIGID_POINTS], _camera(image_shape)
    keypoints = check_68(keypoints).astype(float)
    points = keypoints[RIGID_POINTS]
    if not (np.isfinite(keypoints).all() and np.ptp(points, axis=0).any()):
        raise DataError("keypoints: all in one spot or not finite, so there is no pose to find")
    frontal = similarity(model[:, :2], points)
    rotation = np.array((0, 0, np.arctan2(frontal[1, 0], frontal[0, 0])))
    translation = np.append(frontal[:, 2] - camera[:2, 2], camera[0, 0]) / np.hypot(*frontal[:, 0])
    _, rotation, translation = cv2.solvePnP(model, points, camera, None, rotation, translation, True)
    return Pose(cv2.Rodrigues(rotation)[0], translation.ravel())
