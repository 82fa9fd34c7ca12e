"""Fit the rigid 3D face of data_sets.face_drawing.shape.DRAWN_FACE to the hand-made 300-W labels and print it.

    python -m tools.fit_face_3d data/ibug_300W_large_face_landmark_dataset

Rigid factorisation under scaled orthography (Tomasi and Kanade, "Shape and motion from image streams
under orthography", IJCV 9, 1992, sections 3.3-3.5), then made symmetric by the mirror table.
"""

import sys
from pathlib import Path

import numpy as np

from data_sets.ibug_300w import TRAINING_XML, IbugFaces
from facial_keypoints.schemes import IBUG_68

RIGHT_EYE, LEFT_EYE = IBUG_68.ruler  # the outer corners


def metric_upgrade(motion: np.ndarray) -> np.ndarray:
    """The 3x3 matrix that makes every camera's two rows orthogonal and equally long (motion: (2N, 3))."""
    rows_x, rows_y = motion[0::2], motion[1::2]
    upper = np.triu_indices(3)

    def products(a, b):
        outer = a[:, :, None] * b[:, None, :]
        twice = (outer + outer.transpose(0, 2, 1))[:, upper[0], upper[1]]
        return twice * np.where(upper[0] == upper[1], 0.5, 1.0)

    equations = np.vstack([products(rows_x, rows_y), products(rows_x, rows_x) - products(rows_y, rows_y)])
    solution = np.linalg.svd(equations)[2][-1]
    metric = np.zeros((3, 3))
    metric[upper] = solution
    metric = metric + metric.T - np.diag(np.diag(metric))
    return np.linalg.cholesky(metric if np.trace(metric) > 0 else -metric)


def upright(face: np.ndarray) -> np.ndarray:
    """Symmetric about x = 0; x right, y down, z away from the camera; outer eye corners 1 apart."""
    across = face[LEFT_EYE] - face[RIGHT_EYE]
    down = face[8] - face[27]
    x = across / np.linalg.norm(across)
    y = down - x * (down @ x)
    y /= np.linalg.norm(y)
    face = (face - face.mean(0)) @ np.stack([x, y, np.cross(x, y)]).T
    if face[30, 2] > face[:17, 2].mean():  # factorisation leaves the sign of depth open: the nose points at the camera
        face[:, 2] *= -1
    face = (face + IBUG_68.swap_sides(face) * [-1, 1, 1]) / 2
    return face / np.linalg.norm(face[RIGHT_EYE] - face[LEFT_EYE])


def main() -> None:
    """Print the face as a Python table."""
    shapes = IbugFaces(Path(sys.argv[1]) / TRAINING_XML).keypoints.astype(float)  # (N, 68, 2)
    centred = shapes - shapes.mean(1, keepdims=True)
    centred /= np.linalg.norm(centred, axis=(1, 2), keepdims=True)
    measured = centred.transpose(0, 2, 1).reshape(-1, 68)
    u, s, vt = np.linalg.svd(measured, full_matrices=False)
    upgrade = metric_upgrade(u[:, :3] * s[:3])
    face = upright((np.linalg.inv(upgrade) @ vt[:3]).T)
    for start in range(0, 68, 4):
        print("    " + ", ".join(f"({x:.3f}, {y:.3f}, {z:.3f})" for x, y, z in face[start : start + 4]) + ",")


if __name__ == "__main__":
    main()
