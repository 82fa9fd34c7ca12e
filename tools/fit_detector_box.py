"""Fit CENTRE and SIZE of a detector's module on training faces and print them.

    python -m tools.fit_detector_box yunet      or haar (KEYPOINTS_DATA or data/; two minutes)

It uses the training frames of the course and the training photos of 300-W.
"""

import argparse
from collections.abc import Callable

import numpy as np
from tqdm import tqdm

from data_load import KeypointsDataset
from data_sets.course import course_frames
from data_sets.find import find_data
from data_sets.ibug_300w import load_ibug, split_photos
from detector_architectures.haar import HaarDetector
from detector_architectures.yunet import YuNetDetector
from facial_keypoints.geometry import tight_box
from metrics import match_boxes

NATIVE_BOXES = {"haar": lambda: HaarDetector().squares, "yunet": lambda: YuNetDetector().native_boxes}


def within_native(faces: KeypointsDataset, native_boxes: Callable) -> np.ndarray:  # (N, 4)
    """The tight boxes' centre x, y, width and height as fractions of the detector's own box, for faces it found."""
    rows = []
    for sample in tqdm(faces, leave=False):
        box, found = tight_box(sample["keypoints"]), native_boxes(sample["image"])[0]
        (match,) = match_boxes(found, box[None])
        if match >= 0:
            corner, size = found[match, :2], found[match, 2:]
            rows.append(np.concatenate([(box[:2] + box[2:] / 2 - corner) / size, box[2:] / size]))
    return np.array(rows)


def show(name: str, fitted: np.ndarray, count: int) -> None:
    """Print the medians, their spread and how many of `count` faces were missed."""
    print(f"{name}: missed {count - len(fitted)} of {count}")
    for what, column in zip(("centre x", "centre y", "width", "height"), fitted.T, strict=True):
        low, middle, high = np.percentile(column, [5, 50, 95])
        print(f"  {what:8}  median {middle:.3f}   5-95 %: {low:.3f} to {high:.3f}")


def main() -> None:
    """Print the fit on each set, and CENTRE and SIZE as the mean of both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", choices=NATIVE_BOXES)
    native_boxes = NATIVE_BOXES[parser.parse_args().detector]()
    photos = split_photos(load_ibug()[0])[0]
    sets = {"frames": course_frames(find_data().path)[0], "photos": photos.subset(np.flatnonzero(~photos.mirrored))}
    fitted = {name: within_native(faces, native_boxes) for name, faces in sets.items()}
    for name, rows in fitted.items():
        show(name, rows, len(sets[name]))
    middle = np.mean([np.median(rows, axis=0) for rows in fitted.values()], axis=0)
    print(f"CENTRE = ({middle[0]:.3f}, {middle[1]:.3f})\nSIZE = ({middle[2]:.3f}, {middle[3]:.3f})")


if __name__ == "__main__":
    main()
