"""A picture of random turned views, to check them before training.

    python -m turned_heads.contact_sheet                     build/turned_heads/contact_sheet.png
    python -m turned_heads.contact_sheet --name people --seed 3

Green: the points inside the face; magenta: the jaw of the head, also where it is hidden. Every second row
has no points, since they hide faults.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from data_sets.find import find_data
from facial_keypoints.images import DataError
from turned_heads.cache import MadeFaces
from turned_heads.sources import BUILD, made_faces

INNER, JAW = (0, 255, 0), (255, 0, 255)


def with_points(image: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """The picture with its 68 points."""
    image = image.copy()
    for number, point in enumerate(keypoints):
        cv2.circle(image, np.rint(point).astype(int).tolist(), 1, JAW if number < 17 else INNER, -1, cv2.LINE_AA)
    return image


def sheet(faces: MadeFaces, rows: int = 6, columns: int = 8, seed: int = 0) -> np.ndarray:  # RGB
    """Random views in rows and columns."""
    chosen = np.random.default_rng(seed).choice(len(faces), rows * columns, replace=len(faces) < rows * columns)
    samples = [faces[int(position)] for position in chosen]
    pictures = [
        with_points(sample["image"], sample["keypoints"]) if number // columns % 2 else sample["image"]
        for number, sample in enumerate(samples)
    ]
    return np.vstack([np.hstack(pictures[start : start + columns]) for start in range(0, len(pictures), columns)])


def main() -> None:
    """Write a contact sheet of a finished cache."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="photos", help="a part of turned_heads.sources (default: photos)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=BUILD / "contact_sheet.png")
    args = parser.parse_args()
    picture = sheet(made_faces(find_data().path, BUILD, [args.name])[args.name], seed=args.seed)
    cv2.imwrite(str(args.output), picture[..., ::-1])
    print(args.output)


if __name__ == "__main__":
    try:
        main()
    except DataError as error:
        raise SystemExit(str(error)) from None
