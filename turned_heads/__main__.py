"""Make the turned views for training and for validation, as `python train.py` does when they are missing.

    python -m turned_heads                  into build/turned_heads/; resumes after Ctrl-C
    python -m turned_heads --views 5

Needs the course's frames and 300-W; takes a few minutes on one core.
"""

import argparse
from pathlib import Path

import cv2

from data_sets.find import find_data
from facial_keypoints.images import DataError
from turned_heads.sources import BUILD, VIEWS, make_views


def main() -> None:
    """Make all caches."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=int, default=VIEWS, help=f"views per photo of 300-W (default: {VIEWS})")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=BUILD)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    for folder in make_views(find_data().path, args.output, args.views, args.seed):
        print(folder)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("\ninterrupted; the same command resumes") from None
    except DataError as error:
        raise SystemExit(str(error)) from None
