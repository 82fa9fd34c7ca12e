"""Head pose: the rotation and translation that fit a rigid 3D face to 68 keypoints."""

from dataclasses import dataclass

import cv2
import numpy as np

from facial_keypoints.face_3d import FACE_3D
from facial_keypoints.geometry import similarity
from facial_keypoints.images import DataError
from facial_keypoints.schemes import check_68

# Pose is fitted to brows, nose, eye and mouth corners: the outline slides over a turning head, and lips move. The jaw
# of the head, where a network predicts it, makes the pose no better (results/log.md, item 28).
RIGID_POINTS = [*range(17, 28), 30, 31, 33, 35, 36, 39, 42, 45, 48, 54]
DISTANCE = 8  # of the assumed camera, in outer-eye distances; typical of portraits

TILTED = 10  # degrees; most faces in training are tilted by less, so such faces stay as they are


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

    rotation (3, 3) and translation (3,), in outer-eye distances, take FACE_3D to the camera; camera (3, 3) projects it
    to pixels of the image. The angles, in degrees, are 0 for a head that looks straight at the camera; rotation =
    Rz(roll) Ry(-yaw) Rx(-pitch).
    """

    rotation: np.ndarray
    translation: np.ndarray
    camera: np.ndarray

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

    @property
    def scale(self) -> float:
        """Pixels of the image per outer-eye distance, at the eyes."""
        return float(self.camera[0, 0] / self.translation[2])

    def project(self, points: np.ndarray) -> np.ndarray:  # (K, 2)
        """Points (K, 3) of the head, in FACE_3D's coordinates, projected into the image, in pixels."""
        seen = (points @ self.rotation.T + self.translation) @ self.camera.T
        return seen[:, :2] / seen[:, 2:]


def _camera(points: np.ndarray, scale: float) -> np.ndarray:  # (3, 3)
    """The matrix of a camera that looks at points (K, 2) of a face with `scale` pixels per outer-eye distance.

    The real camera is unknown. This one is DISTANCE away and aimed at the face, so the angles do not depend on where
    in the photo the face is.
    """
    (x, y), focal = points.mean(axis=0), DISTANCE * scale
    return np.array([(focal, 0, x), (0, focal, y), (0, 0, 1)])


def head_pose(keypoints: np.ndarray) -> Pose:
    """The pose of FACE_3D whose projection best fits keypoints (68, 2), in pixels of a photo or of a cut-out.

    Least squares in pixels (Levenberg-Marquardt in cv2.solvePnP), started from the frontal face that fits best, since
    OpenCV's own start puts a quarter of the course's faces behind the camera. Raises DataError without finite and
    distinct keypoints.
    """
    model, keypoints = FACE_3D[RIGID_POINTS], check_68(keypoints).astype(float)
    points = keypoints[RIGID_POINTS]
    if not (np.isfinite(keypoints).all() and np.ptp(points, axis=0).any()):
        raise DataError("keypoints: all in one spot or not finite, so there is no pose to find")
    frontal = similarity(model[:, :2], points)
    scale = max(np.hypot(*frontal[:, 0]), np.ptp(points, axis=0).max() / np.ptp(model[:, :2], axis=0).max())
    camera = _camera(points, scale)
    rotation = np.array((0, 0, np.arctan2(frontal[1, 0], frontal[0, 0])))
    translation = np.append((frontal[:, 2] - camera[:2, 2]) / scale, DISTANCE)
    _, rotation, translation = cv2.solvePnP(model, points, camera, None, rotation, translation, True)
    return Pose(cv2.Rodrigues(rotation)[0], translation.ravel(), camera)
