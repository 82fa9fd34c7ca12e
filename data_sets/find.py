"""Where the data is: the course's frames, one's own, or drawn faces in their place."""

import os
from pathlib import Path

from data_sets.drawn_faces import MARKER, write_dataset
from facial_keypoints.images import DataError

ROOT = Path(__file__).resolve().parent.parent


def find_data() -> tuple[Path, str]:
    """The data folder and one line about it: KEYPOINTS_DATA, else data/, else drawn faces (made in build/).

    Raises DataError when KEYPOINTS_DATA is set to a folder that holds no data in the published layout.
    """
    asked = os.environ.get("KEYPOINTS_DATA")
    folder = Path(asked) if asked else ROOT / "data"
    if (folder / "training_frames_keypoints.csv").is_file():
        return folder, _whose_frames(folder)
    if asked:
        raise DataError(f"KEYPOINTS_DATA={asked}: no training_frames_keypoints.csv there; name the unpacked data")
    drawn = write_dataset(ROOT / "build" / "drawn_faces")
    return drawn, "drawn faces, since there is no data/ folder (`make data` fetches the real frames)"


def _whose_frames(folder):
    rows = (folder / "training_frames_keypoints.csv").read_bytes().splitlines()
    if len(rows) == 3463 and rows[1].startswith(b"Luis_Fonsi_21.jpg,"):
        return "YouTube Faces frames in the course's layout"
    return f"{'drawn faces' if (folder / MARKER).is_file() else 'your own frames'} in {folder}"


def find_folder(name: str) -> Path | None:
    """The folder of an optional data set below KEYPOINTS_DATA or data/; None when it is not there."""
    folder = Path(os.environ.get("KEYPOINTS_DATA") or ROOT / "data") / name
    return folder if folder.is_dir() else None
