"""Photos that 300-W holds more than once under different names: faces that look the same, point by point.

    python -m benchmarks.twins        prints the lines of data_sets/ibug_300w_twins.txt

Every face is cut out by its labels; two cuts whose gray values correlate by more than SAME show one photo, or two
taken a moment apart. On 300-W no two faces of different people come near it.
"""

import cv2
import numpy as np
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from data_sets.ibug_300w import IbugFaces, load_ibug
from facial_keypoints.geometry import crop_matrix, tight_box, warp

SAME = 0.92


def cuts(faces: IbugFaces, size: int = 48) -> np.ndarray:  # (N, size * size)
    """The gray cut of every face, with mean 0 and length 1."""
    rows = []
    for sample in tqdm(faces.with_transform(None), leave=False):
        matrix = crop_matrix(tight_box(sample["keypoints"]), size, margin=0.1)
        gray = cv2.cvtColor(warp(sample["image"], matrix, (size, size)), cv2.COLOR_RGB2GRAY).ravel().astype(np.float32)
        rows.append((gray - gray.mean()) / np.linalg.norm(gray - gray.mean()))
    return np.stack(rows)


def main() -> None:
    """Find and print them."""
    faces = load_ibug()[0]
    faces = faces.subset(np.flatnonzero(~faces.mirrored))
    rows, photos = cuts(faces), faces.photos
    count, group = connected_components((rows @ rows.T > SAME) & (photos[:, None] != photos))
    names = [sorted(set(photos[group == number])) for number in range(count)]
    for twins in sorted(twins for twins in names if len(twins) > 1):
        print(" ".join(twins))


if __name__ == "__main__":
    main()
