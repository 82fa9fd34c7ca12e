"""Fit facial_keypoints.face_3d.POINTS, including depth, to the labels of many people, and print them.

    python -m turned_heads.fit_template        needs the course's frames and 300-W; a minute

Structure from motion over people instead of over time, with the model of Bregler et al. ("Recovering non-rigid 3D
shape from image streams", CVPR 2000) but one mean shape: every face is the template, widened by a factor of its own,
rotated, and projected by scaled orthography. The residual is modelled as noise with heavy tails, so that smiles and
glasses do not bend the template. Factorisation (tools/fit_face_3d.py) mistakes such differences for motion: its nose
is 0.3 deep, this one's is 0.52.

The outline is left out of this fit. It is fitted afterwards, with the poses fixed: on the near side a labelled point
of the jaw is the same point of the head at any yaw, which gives its depth. On the far side labels follow the visible
edge.
"""

from dataclasses import dataclass

import numpy as np
import torch

from data_load import person_split
from data_sets.course import course_frames
from data_sets.face_drawing.shape import DRAWN_FACE
from data_sets.find import find_data
from data_sets.ibug_300w import load_ibug, split_photos
from facial_keypoints.schemes import IBUG_68
from turned_heads.pose import rotation

NOISE = np.full(68, 0.04)  # in inter-ocular distances: how far people differ from the template
NOISE[17:27], NOISE[48:68], NOISE[[48, 54]] = 0.09, 0.09, 0.07  # brows and mouths move
WIDTH_SPREAD, PITCH_SPREAD = 0.06, 0.25  # standard deviations of log width and of pitch (radians)
DEEPER = 1.15  # times the fitted depth: inexact poses make the jaw too flat (results/log.md, item 29)
JAW_NOISE, JAW_YAWS = 0.1, np.radians([-12.0, 40.0])  # yaws at which the left half of the jaw is visible


@dataclass
class Cameras:
    """The cameras of N faces, a row each: log of the scale, yaw, pitch, roll, shift in x and y, log of the width."""

    numbers: torch.Tensor  # (N, 7)

    def project(self, points: torch.Tensor) -> torch.Tensor:  # (N, K, 2)
        """The projection of points (K, 3) of the template on each face."""
        width = torch.stack([self.numbers[:, 6].exp(), *torch.ones(2, len(self.numbers)).double()], dim=1)
        turned = (points * width[:, None]) @ rotations(self.numbers)[:, :2].transpose(1, 2)
        return self.numbers[:, :1, None].exp() * turned + self.numbers[:, None, 4:6]


def rotations(numbers: torch.Tensor) -> torch.Tensor:  # (N, 3, 3)
    """pose.rotation of columns 1 to 3, in torch, for its gradients."""
    return rotation(*numbers[:, 1:4].unbind(dim=1), namespace=torch)


def centred(shapes: np.ndarray) -> np.ndarray:  # (2 N, 68, 2)
    """Shapes (N, 68, 2) and their mirror images, centred on the mean of points 17 to 47 and scaled to one size."""
    shapes = np.concatenate([shapes, IBUG_68.swap_sides(shapes) * [-1, 1]]).astype(float)
    shapes -= shapes[:, 17:48].mean(axis=1, keepdims=True)
    return shapes / (2.2 * np.sqrt((shapes[:, 17:48] ** 2).sum(axis=(1, 2)) / 31))[:, None, None]


def first_cameras(shapes: torch.Tensor) -> Cameras:
    """A first guess: roll from the eyes, yaw from the tip of the nose relative to their middle."""
    right, left = (shapes[:, corner] for corner in IBUG_68.ruler)
    across = (left - right) / (left - right).norm(dim=1, keepdim=True)
    beside = ((shapes[:, 30] - (left + right) / 2) * across).sum(dim=1)
    numbers = torch.zeros(len(shapes), 7, dtype=torch.double)
    numbers[:, 1] = (beside / 0.4).clamp(-1, 1)
    numbers[:, 3] = torch.atan2(across[:, 1], across[:, 0])
    return Cameras(numbers)


def symmetric(points: torch.Tensor) -> torch.Tensor:
    """The mean of points (68, 3) and their mirror image."""
    return (points + IBUG_68.swap_sides(points) * torch.tensor([-1.0, 1, 1])) / 2


def fit(shapes: np.ndarray, steps: int = 900) -> tuple[np.ndarray, Cameras, np.ndarray]:
    """The template (68, 3) whose points 17 to 67 fit the `centred` shapes best, the cameras, and those shapes."""
    shapes = torch.tensor(centred(shapes))
    cameras, noise = first_cameras(shapes), torch.tensor(NOISE)[:, None]
    points = torch.tensor(DRAWN_FACE) * torch.tensor([1, 1, 1.6])
    parts = [cameras.numbers.requires_grad_(), points.requires_grad_()]
    optimizer = torch.optim.Adam([{"params": [part]} for part in parts])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [0.02, 0.006], total_steps=steps)
    for _ in range(steps):
        off = (shapes - cameras.project(symmetric(points))) / cameras.numbers[:, :1, None].exp()
        surprise = ((1 + (off / noise)[:, 17:] ** 2).sqrt() - 1).sum(dim=(1, 2))
        wide, pitch = cameras.numbers[:, 6] / WIDTH_SPREAD, cameras.numbers[:, 2] / PITCH_SPREAD
        loss = (surprise + (wide**2 + pitch**2) / 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return symmetric(points).detach().numpy(), Cameras(cameras.numbers.detach()), shapes.numpy()


def jaw_point(number: int, cameras: Cameras, shapes: np.ndarray) -> np.ndarray:  # (3,)
    """The position on the head of a jaw point (0 to 8, the picture's left half), by robust least squares."""
    yaw = cameras.numbers[:, 1].numpy()
    seen = (yaw > JAW_YAWS[0]) & (yaw < JAW_YAWS[1])
    numbers = cameras.numbers[seen]
    width = np.exp(numbers[:, 6:].numpy()) * [1, 0, 0] + [0, 1, 1]
    rows = (rotations(numbers)[:, :2].numpy() * width[:, None]).reshape(-1, 3)
    scale = np.exp(numbers[:, :1].numpy())
    values = ((shapes[seen, number] - numbers[:, 4:6].numpy()) / scale).ravel()
    weights = np.ones(len(values))
    for _ in range(20):
        point = np.linalg.lstsq(rows * weights[:, None], values * weights, rcond=None)[0]
        off = np.hypot(*(values - rows @ point).reshape(-1, 2).T)
        weights = np.repeat((1 + (off / JAW_NOISE) ** 2) ** -0.25, 2)
    return point


def template(shapes: np.ndarray) -> np.ndarray:  # (68, 3)
    """All 68 points from shapes (N, 68, 2), about the middle of the outer eye corners, whose distance is 1."""
    points, cameras, shapes = fit(shapes)
    half = np.stack([jaw_point(number, cameras, shapes) for number in range(9)])
    half[8, 0] = 0
    half[:, 2] *= DEEPER
    points[:17] = np.concatenate([half, half[7::-1] * [-1, 1, 1]])
    corners = points[list(IBUG_68.ruler)]
    return (points - corners.mean(axis=0)) / (corners[1, 0] - corners[0, 0])


def main() -> None:
    """Print the mean of the templates of two data sets as a Python table; only training faces are used."""
    frames = course_frames(find_data().path)[0]
    frames = frames.subset(person_split(frames.people)[0])
    faces = split_photos(load_ibug()[0])[0]
    faces = faces.subset(np.flatnonzero(~faces.mirrored))
    points = np.mean([template(data.keypoints[data.indices]) for data in (faces, frames)], axis=0)
    for point in points:
        print("        ({:.3f}, {:.3f}, {:.3f}),".format(*point))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
