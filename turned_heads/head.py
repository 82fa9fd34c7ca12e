"""Fit the head to the 68 labelled points of a photo: its pose, and the template deformed to match the points."""

from dataclasses import dataclass

import numpy as np

from facial_keypoints.schemes import IBUG_68
from turned_heads.pose import OrthographicPose, rotation
from turned_heads.template import FLAT, POINTS, RINGS_PER_PLACE, template

# The points that the pose is fitted to, and how far people differ from the template there, in inter-ocular distances.
# The jaw is left out, since its labels follow the visible edge.
INNER = np.arange(17, 68)
NOISE = np.where(INNER < 27, 0.09, np.where(INNER < 48, 0.04, 0.09))
WIDTH_SPREAD, PITCH_SPREAD = 0.06, 0.3
STEPS = 20
# From the first yaw on, labels of the far half of the jaw begin to follow the cheek; from the second on, all of them
# do.
FAR_SIDE = np.radians([6.0, 18.0])
# The yaw at which each point of template.LINES on the near side, from the ear backwards, starts to be visible in the
# photo. Its own colour is faded in over the next SEEN_WITHIN.
SEEN_FROM = np.radians([8.0, 8.0, 24.0, 45.0, 90.0])
SEEN_WITHIN = np.radians(20.0)


@dataclass(frozen=True)
class Head:
    """A head in a photo.

    vertices: (V, 3) of template.template(), deformed to this face; texture: (V, 2), the pixel of the photo that each
    takes its colour from; points: (68, 3); pose: of the head in the photo.
    """

    vertices: np.ndarray
    texture: np.ndarray
    points: np.ndarray
    pose: OrthographicPose

    def project(self) -> np.ndarray:  # (68, 2)
        """The 3D points in pixels of the photo; the jaw is the head's, not the visible edge."""
        return self.pose.project(self.points)


def fit_pose(keypoints: np.ndarray) -> OrthographicPose:
    """The pose of a face from its 68 points in pixels."""
    return fit_poses(np.asarray(keypoints)[None])[0]


def fit_poses(keypoints: np.ndarray) -> list[OrthographicPose]:
    """The poses of faces (N, 68, 2) in pixels, by robust least squares against the template, for all faces at once.

    Levenberg-Marquardt; residuals r, in units of the differences between people, count as sqrt(1 + r^2).
    """
    keypoints = np.asarray(keypoints, float)
    middle = keypoints[:, INNER].mean(axis=1)
    size = np.ptp(keypoints[:, INNER], axis=1).max(axis=1)
    seen = (keypoints[:, INNER] - middle[:, None]) / size[:, None, None]
    numbers = first_guess(keypoints, size)
    residuals, damping = misfit(numbers, seen), np.full(len(numbers), 1e-2)
    for _ in range(STEPS):
        slopes = np.stack([(misfit(numbers + step, seen) - residuals) / 1e-5 for step in 1e-5 * np.eye(7)], axis=2)
        weighted = slopes / np.sqrt(1 + residuals**2)[..., None]
        normal = np.einsum("nri,nrj->nij", weighted, slopes)
        normal += damping[:, None, None] * normal * np.eye(7)
        steps = np.linalg.solve(normal, np.einsum("nri,nr->ni", weighted, residuals)[..., None])[..., 0]
        changed = misfit(numbers - steps, seen)
        better = np.sqrt(1 + changed**2).sum(axis=1) < np.sqrt(1 + residuals**2).sum(axis=1)
        numbers[better] -= steps[better]
        residuals[better] = changed[better]
        damping *= np.where(better, 0.3, 5)
    return [
        OrthographicPose(size * np.exp(log_scale), yaw, pitch, roll, middle + size * np.array([x, y]))
        for size, middle, (log_scale, yaw, pitch, roll, x, y, _) in zip(size, middle, numbers, strict=True)
    ]


def first_guess(keypoints: np.ndarray, size: np.ndarray) -> np.ndarray:  # (N, 7)
    """Log of the scale, yaw (from the nose), pitch, roll (from the eyes), shift in x and y, log of the width."""
    right, left = np.moveaxis(keypoints[:, list(IBUG_68.ruler)], 1, 0)
    across = (left - right) / np.maximum(np.linalg.norm(left - right, axis=1, keepdims=True), 1e-6)
    beside = ((keypoints[:, 30] - (left + right) / 2) * across).sum(axis=1) / size
    numbers = np.zeros((len(keypoints), 7))
    numbers[:, 0], numbers[:, 5] = np.log(0.8), -0.3
    numbers[:, 1] = np.clip(2 * beside, -1.2, 1.2)
    numbers[:, 3] = np.arctan2(across[:, 1], across[:, 0])
    return numbers


def misfit(numbers: np.ndarray, seen: np.ndarray) -> np.ndarray:  # (N, R)
    """The residuals: of the template against inner points (N, 51, 2), and of width and pitch against their means."""
    log_scale, yaw, pitch, roll, x, y, wide = numbers.T
    points = POINTS[INNER] * np.stack([np.exp(wide), np.ones_like(wide), np.ones_like(wide)], axis=1)[:, None]
    scale = np.exp(log_scale)[:, None, None]
    shown = scale * (points @ rotation(yaw, pitch, roll)[:, :2].transpose(0, 2, 1)) + np.stack([x, y], axis=1)[:, None]
    away = (shown - seen) / (scale * NOISE[:, None])
    return np.column_stack([away.reshape(len(numbers), 2 * len(INNER)), wide / WIDTH_SPREAD, pitch / PITCH_SPREAD])


def true_outline(flat: np.ndarray, yaw: float) -> np.ndarray:  # (68, 2)
    """Unprojected points; the mirrored near half of the jaw replaces the far half, whose labels follow the cheek."""
    low, high = FAR_SIDE
    weight = np.clip((abs(yaw) - low) / (high - low), 0, 1)
    far = np.arange(9, 17) if yaw > 0 else np.arange(8)
    flat = flat.copy()
    flat[far] += weight * (IBUG_68.swap_sides(flat)[far] * FLAT[:2] - flat[far])
    return flat


def on_the_head(keypoints: np.ndarray, pose: OrthographicPose) -> tuple[np.ndarray, OrthographicPose]:
    """The 68 points (68, 3) on the head, relative to its plane of symmetry, and the pose adjusted to it."""
    flat = pose.unproject(keypoints, POINTS[:, 2])
    inner = flat[INNER]
    middle = np.median((inner[:, 0] + IBUG_68.swap_sides(flat)[INNER, 0]) / 2)
    shift = pose.shift + pose.scale * pose.matrix[:2, 0] * middle
    flat = true_outline(flat - [middle, 0], pose.yaw)
    return np.column_stack([flat, POINTS[:, 2]]), OrthographicPose(pose.scale, pose.yaw, pose.pitch, pose.roll, shift)


def base_shape(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale (2,) and shift (2,) in x and y that fit the template best to points (68, 3)."""
    wide = (points[:, 0] @ POINTS[:, 0]) / (POINTS[:, 0] @ POINTS[:, 0])
    tall, down = np.polyfit(POINTS[17:48, 1], points[17:48, 1], 1)
    return np.array([wide, tall]), np.array([0, down])


def own_colour(vertices: np.ndarray, yaw: float) -> np.ndarray:  # (V,)
    """The weight of the photo's own colour for vertices (V, 3) behind the face; the rest is from around the face.

    1 on the near side of a turned head where it faces the camera, 0 where the photo does not show it.
    """
    place = template().ring / RINGS_PER_PLACE  # 0 on the face
    seen = np.clip((abs(yaw) - np.interp(place, range(1, 6), SEEN_FROM)) / SEEN_WITHIN, 0, 1)
    return seen * np.clip(-np.sign(yaw) * vertices[:, 0] / 0.8, 0, 1)


def fit_head(keypoints: np.ndarray, pose: OrthographicPose | None = None) -> Head:
    """The head of a face with 68 points in pixels of its photo; pose: its pose, if that is known."""
    mesh = template()
    points, pose = on_the_head(keypoints, pose or fit_pose(keypoints))
    scale, shift = base_shape(points)
    moves = mesh.spread @ (points[:, :2] - (POINTS[:, :2] * scale + shift))
    vertices, source = mesh.vertices.copy(), np.column_stack([mesh.colours_from, mesh.depth_of_edge])
    for places in (vertices, source):
        places[:, :2] = places[:, :2] * scale + shift + moves
    source += own_colour(vertices, pose.yaw)[:, None] * (vertices - source)
    return Head(vertices, pose.project(source), points, pose)
