"""The pose of a face by scaled orthography: scale * (R X) in x and y, plus a shift."""

from dataclasses import dataclass

import numpy as np


def rotation(yaw, pitch, roll, namespace=np):  # (..., 3, 3)
    """Rotation matrices: yaw first, then pitch, then roll; numbers or arrays of one shape.

    x to the right of the picture, y down, z away. A positive yaw turns the nose to the picture's right, a positive
    pitch lowers it, a positive roll turns the picture clockwise. namespace: numpy or torch.
    """
    cos, sin, stack = namespace.cos, namespace.sin, namespace.stack
    zero, one = yaw * 0.0, yaw * 0.0 + 1.0

    def matrix(*entries):
        return stack([stack(entries[start : start + 3], -1) for start in (0, 3, 6)], -2)

    about_y = matrix(cos(yaw), zero, -sin(yaw), zero, one, zero, sin(yaw), zero, cos(yaw))
    about_x = matrix(one, zero, zero, zero, cos(pitch), -sin(pitch), zero, sin(pitch), cos(pitch))
    about_z = matrix(cos(roll), -sin(roll), zero, sin(roll), cos(roll), zero, zero, zero, one)
    return about_z @ about_x @ about_y


@dataclass(frozen=True)
class OrthographicPose:
    """scale in pixels per inter-ocular distance, angles as in `rotation` in radians, shift (2,) in pixels."""

    scale: float
    yaw: float
    pitch: float
    roll: float
    shift: np.ndarray

    @property
    def matrix(self) -> np.ndarray:  # (3, 3)
        """The rotation."""
        return rotation(self.yaw, self.pitch, self.roll)

    def project(self, points: np.ndarray) -> np.ndarray:  # (K, 2)
        """Where points (K, 3) of the head are seen in the picture, in pixels."""
        return self.scale * (points @ self.matrix[:2].T) + self.shift

    def unproject(self, pixels: np.ndarray, depth: np.ndarray) -> np.ndarray:  # (K, 2)
        """x and y on the head of points (K, 2) seen in the picture, whose depth z (K,) on the head is known."""
        matrix = self.matrix
        seen = (pixels - self.shift) / self.scale - depth[:, None] * matrix[:2, 2]
        return np.linalg.solve(matrix[:2, :2], seen.T).T
