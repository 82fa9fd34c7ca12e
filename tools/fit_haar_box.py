"""Fit CENTRE and SIZE of detector_architectures/haar.py on the training frames and print them.

python -m tools.fit_haar_box        (KEYPOINTS_DATA or data/; one minute)
"""

import numpy as np
from tqdm import tqdm

from data_load import FacialKeypointsDataset
from data_sets.find import find_data
from detector_architectures.haar import HaarDetector
from facial_keypoints.geometry import tight_box
from metrics import match_boxes


def main() -> None:
    """Print the medians, their spread and how many faces Haar missed."""
    data = find_data()
    print("data:", data.about)
    frames = FacialKeypointsDataset(data.path / "training_frames_keypoints.csv", data.path / "training")
    detector = HaarDetector()
    rows, missed = [], 0
    for sample in tqdm(frames):
        box = tight_box(sample["keypoints"])
        squares = detector.squares(sample["image"])[0]
        (match,) = match_boxes(squares, box[None])
        if match < 0:
            missed += 1
            continue
        left, top, side, _ = squares[match]
        rows.append(np.concatenate([box[:2] + box[2:] / 2 - (left, top), box[2:]]) / side)
    for name, column in zip(("centre x", "centre y", "width", "height"), np.array(rows).T, strict=True):
        low, middle, high = np.percentile(column, [5, 50, 95])
        print(f"{name:8}  median {middle:.3f}   5-95 %: {low:.3f} to {high:.3f}")
    print(f"missed: {missed} of {len(frames)}")


if __name__ == "__main__":
    main()
