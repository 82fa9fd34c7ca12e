"""Fit CENTRE and SIZE of detector_architectures/haar.py on the training frames and print them.

python -m tools.fit_haar_box        (KEYPOINTS_DATA or data/; one minute)
"""

import numpy as np
from tqdm import tqdm

from data_load import FacialKeypointsDataset, find_data
from detector_architectures.haar import HaarDetector
from geometry import tight_box


def square_over(squares: np.ndarray, box: np.ndarray) -> np.ndarray | None:
    """The square whose middle lies nearest to the box's, if it is within half the box's size."""
    away = squares[:, :2] + squares[:, 2:] / 2 - (box[:2] + box[2:] / 2)
    distance = np.linalg.norm(away, axis=1) / box[2:].max()
    return squares[distance.argmin()] if len(squares) and distance.min() < 0.5 else None


def main() -> None:
    """Print the medians, their spread and how many faces Haar missed."""
    root, about = find_data()
    print("data:", about)
    frames = FacialKeypointsDataset(root / "training_frames_keypoints.csv", root / "training")
    detector = HaarDetector()
    rows, missed = [], 0
    for sample in tqdm(frames):
        box = tight_box(sample["keypoints"])
        square = square_over(detector.squares(sample["image"])[0], box)
        if square is None:
            missed += 1
            continue
        side = square[2]
        rows.append(np.concatenate([(box[:2] + box[2:] / 2 - square[:2]) / side, box[2:] / side]))
    for name, column in zip(("centre x", "centre y", "width", "height"), np.array(rows).T, strict=True):
        low, middle, high = np.percentile(column, [5, 50, 95])
        print(f"{name:8}  median {middle:.3f}   5-95 %: {low:.3f} to {high:.3f}")
    print(f"missed: {missed} of {len(frames)}")


if __name__ == "__main__":
    main()
