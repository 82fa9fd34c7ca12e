"""Find photos that 300-W holds more than once under different names, by comparing the faces' pixels.

    python -m benchmarks.twins        prints the lines of data_sets/ibug_300w_twins.txt

Every face is cut out by its labels; two cuts whose gray values correlate by more than SAME are from the same photo, or
from two taken moments apart. Faces of different people in 300-W stay far below that.
300-W means 2012 cut-outs from three of its sources (AFW, HELEN, LFPW).
"""

import cv2
import numpy as np
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from data_sets.ibug_300w import IbugFaces, load_ibug
from facial_keypoints.geometry import crop_matrix, tight_box, warp

SAME = 0.92


def cuts(faces: IbugFaces, size: int = 48) -> np.ndarray:  # (N, size * size)
    """The gray values of every face, shifted to mean 0 and scaled to norm 1."""
    rows = []
    for sample in tqdm(faces.with_transform(None), leave=False):
        matrix = crop_matrix(tight_box(sample["keypoints"]), size, margin=0.1)
        gray = cv2.cvtColor(warp(sample["image"], matrix, (size, size)), cv2.COLOR_RGB2GRAY).ravel().astype(np.float32)
        rows.append((gray - gray.mean()) / np.linalg.norm(gray - gray.mean()))
    return np.stack(rows)


def main() -> None:
    """Find and print the groups of equal photos."""
    faces = load_ibug()[0]
    faces = faces.subset(np.flatnonzero(~faces.mirrored))
    rows, photos = cuts(faces), faces.photos
    count, group = connected_components((rows @ rows.T > SAME) & (photos[:, None] != photos))
    names = [sorted(set(photos[group == number])) for number in range(count)]
    for twins in sorted(twins for twins in names if len(twins) > 1):
        print(" ".join(twins))


if __name__ == "__main__":
    main()
