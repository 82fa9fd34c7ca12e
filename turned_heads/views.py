"""Turn a fitted head, draw it, and compute the new positions of its points."""

from dataclasses import dataclass

import numpy as np

from facial_keypoints.geometry import compose, crop_matrix, resize, resize_matrix, tight_box, transform_points
from turned_heads.head import Head, fit_head
from turned_heads.layers import Layers, background, take_apart
from turned_heads.pose import OrthographicPose, rotation
from turned_heads.render import draw, over, paint
from turned_heads.template import template

SIZE, MARGIN = 208, 0.5  # of a view: pixels, and the margin around the box as a fraction of its longer side
EDGE_SEEN = np.radians(12)  # up to this yaw the visible edge of the cheek is the head's jaw


@dataclass(frozen=True)
class View:
    """One turned head: image RGB uint8 (SIZE, SIZE, 3); keypoints (68, 2) in its pixels, with the jaw of the head,
    hidden or not; pose: yaw, pitch, roll in radians (3,).
    """

    image: np.ndarray
    keypoints: np.ndarray
    pose: np.ndarray


@dataclass(frozen=True)
class Source:
    """A photo ready to be turned: its layers and its head."""

    layers: Layers
    head: Head

    @classmethod
    def of(cls, photo: np.ndarray, keypoints: np.ndarray, pose: OrthographicPose | None = None) -> "Source":
        """From a photo, RGB uint8 (H, W, 3), and its 68 labels (68, 2); pose: the head's, if it is known."""
        head = fit_head(keypoints, pose)
        return cls(take_apart(photo, head), head)


def turned(head: Head, yaw: float, pitch: float, roll: float, depth: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) and points (68, 3) of a head in a new pose, in pixels of the photo, about the head's origin.

    depth: the assumed depth of this head, relative to the template.
    """
    matrix = head.pose.scale * rotation(yaw, pitch, roll).T
    return tuple(places * [1, 1, depth] @ matrix for places in (head.vertices, head.points))


def reduced(photo: np.ndarray, texture: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The photo and its texture coordinates, scaled down if the view shows the photo smaller than it is."""
    if scale > 0.7:
        return photo, texture
    old = photo.shape[1::-1]
    new = tuple(max(8, round(side * scale)) for side in old)
    return resize(photo, new), transform_points(resize_matrix(old, new), texture)


def view(
    source: Source, pose: tuple, rng: np.random.Generator, others=(), depth: float = 1.0, size: int = SIZE
) -> View:
    """The head of a source turned to (yaw, pitch, roll), in a square picture around the tight box of its points."""
    head = source.head
    vertices, points = turned(head, *pose, depth)
    matrix = crop_matrix(tight_box(points[:, :2]), size, MARGIN)
    scale = matrix[0, 0]
    seen = np.column_stack([vertices[:, :2] * scale + matrix[:, 2], vertices[:, 2] * scale])
    photo, texture = reduced(source.layers.colours, head.texture, scale)
    drawing = draw(seen, texture, template().triangles, size)
    to_view = compose(matrix, np.column_stack([np.eye(2), -_moved_middle(head, vertices)]))
    behind = background(rng, source.layers, to_view, size, others)
    image = over(paint(drawing, photo), drawing.covered, behind)
    return View(image, transform_points(matrix, points[:, :2]), np.array(pose))


def _moved_middle(head, vertices):
    """The shift from the middle of the face in the turned picture to its middle in the photo."""
    face = template().face
    return head.pose.project(head.vertices[:face]).mean(axis=0) - vertices[:face, :2].mean(axis=0)


def draw_pose(rng: np.random.Generator, pose: OrthographicPose) -> tuple[float, float, float]:
    """A random pose for a head: turned further in its own direction, or to either side if it is frontal."""
    turned_by = abs(pose.yaw)
    yaw = rng.uniform(min(max(np.radians(8), turned_by + np.radians(5)), 1.4), np.radians(98))
    side = np.sign(pose.yaw) if turned_by > EDGE_SEEN else rng.choice([-1, 1])
    pitch = np.clip(pose.pitch + rng.normal(0, np.radians(14)), -0.75, 0.75)
    return float(side * yaw), float(pitch), float(pose.roll + rng.normal(0, np.radians(6)))
