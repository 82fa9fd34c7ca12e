"""Finding the data: the published frames, one's own, or drawn faces as a substitute."""

import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from data_sets.drawn_faces import MARKER, write_dataset
from facial_keypoints.images import DataError

ROOT = Path(__file__).resolve().parent.parent


class Kind(Enum):
    """Whose pictures a data set holds: published, drawn by this project, or the user's own."""

    PUBLISHED = "published"
    DRAWN = "drawn"
    OWN = "own"


ABOUT = {
    Kind.PUBLISHED: "YouTube Faces frames in the course's layout",
    Kind.DRAWN: "drawn faces in {}",
    Kind.OWN: "your own frames in {}",
}


@dataclass(frozen=True)
class DataFolder:
    """The folder of a data set, its kind, and a line that describes it."""

    path: Path
    kind: Kind
    about: str


def find_data() -> DataFolder:
    """The course's data: in KEYPOINTS_DATA if set, else in data/ if it exists, else drawn faces (written to build/).

    Raises DataError if KEYPOINTS_DATA is set to a folder without data in the published layout.
    """
    asked = os.environ.get("KEYPOINTS_DATA")
    folder = Path(asked) if asked else ROOT / "data"
    if (folder / "training_frames_keypoints.csv").is_file():
        kind = kind_of(folder)
        return DataFolder(folder, kind, ABOUT[kind].format(folder))
    if asked:
        raise DataError(f"KEYPOINTS_DATA={asked}: no training_frames_keypoints.csv there; name the unpacked data")
    drawn = write_dataset(ROOT / "build" / "drawn_faces")
    about = "drawn faces, since there is no data/ folder (`make data` fetches the real frames)"
    return DataFolder(drawn, Kind.DRAWN, about)


def kind_of(folder: Path) -> Kind:
    """The kind of a folder in the course's layout; published frames are recognised by their CSV file."""
    if (folder / MARKER).is_file():
        return Kind.DRAWN
    rows = (folder / "training_frames_keypoints.csv").read_bytes().splitlines()
    published = len(rows) == 3463 and rows[1].startswith(b"Luis_Fonsi_21.jpg,")
    return Kind.PUBLISHED if published else Kind.OWN


def find_folder(name: str) -> Path | None:
    """The folder of an optional data set below KEYPOINTS_DATA or data/; None if there is none."""
    folder = Path(os.environ.get("KEYPOINTS_DATA") or ROOT / "data") / name
    return folder if folder.is_dir() else None
