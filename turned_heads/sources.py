"""The faces that views are made from: photos of 300-W and frames of the course, for each part of the splits."""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_load import FacialKeypointsDataset, person_split
from data_sets.course import course_frames
from data_sets.find import ROOT
from data_sets.ibug_300w import load_ibug, split_photos
from data_sets.splits import HELD_OUT
from turned_heads.cache import Faces, MadeFaces, folder_of, make

BUILD = ROOT / "build" / "turned_heads"
VIEWS = 3  # per photo of 300-W; a video of the course, whose three frames look alike, gets one
TRAINING = ("photos", "people")  # what every split may learn from
STRANGERS = "other_people"  # a fifth of the course's training people: split "all" learns from them, "unseen" does not
HELD_OUT_PHOTOS = "other_photos"  # of 300-W: no split learns from them


def one_a_video(frames: FacialKeypointsDataset) -> np.ndarray:
    """Positions of the middle frame of each video; names are `Person_Name_VF` with the digits of video and frame."""
    videos = {}
    for position, index in enumerate(frames.indices):
        videos.setdefault(Path(frames.names[index]).stem[:-1], []).append(position)
    return np.array([positions[len(positions) // 2] for positions in videos.values()])


def sources(root: Path, views: int = VIEWS) -> list[tuple[Faces, int]]:
    """The faces to turn, in four parts that share no photo and no person, and how many views of each."""
    faces = load_ibug()[0]
    seen, held_out = (part.subset(np.flatnonzero(~part.mirrored)) for part in split_photos(faces, HELD_OUT))
    frames = course_frames(root)[0]
    frames = frames.subset(one_a_video(frames))
    people, strangers = (frames.subset(positions) for positions in person_split(frames.people, HELD_OUT))
    return [
        (Faces("photos", seen, seen.photos), views),
        (Faces("people", people, people.people), 1),
        (Faces(STRANGERS, strangers, strangers.people), 1),
        (Faces(HELD_OUT_PHOTOS, held_out, held_out.photos), 1),
    ]


def make_views(root: Path, build: Path = BUILD, views: int = VIEWS, seed: int = 0) -> list[Path]:
    """Make the views of all parts of `sources` that do not exist yet, with a progress bar; returns their folders.

    It resumes where it was interrupted, and takes four minutes on one core.
    """
    folders = []
    for faces, count in sources(root, views):
        with tqdm(desc=f"turned views, {faces.name}", unit="part", leave=False, delay=1) as bar:

            def show(done, total, bar=bar):
                bar.total = total
                bar.update(done - bar.n)

            folders.append(make(build, faces, count, seed, show))
    return folders


def made_faces(
    root: Path, build: Path = BUILD, names=TRAINING, views: int = VIEWS, seed: int = 0
) -> dict[str, MadeFaces]:
    """The views of the named parts of `sources`; raises DataError if they have not been made yet."""
    return {
        faces.name: MadeFaces([folder_of(build, faces, count, seed)])
        for faces, count in sources(root, views)
        if faces.name in names
    }
