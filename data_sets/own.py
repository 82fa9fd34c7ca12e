"""One's own pictures and keypoints, to train on."""

from pathlib import Path

from data_load import FacialKeypointsDataset, KeypointsDataset, person_split
from data_sets.course import course_frames
from data_sets.imm_faces import ImmFaces
from facial_keypoints.images import DataError
from facial_keypoints.schemes import Scheme
from transforms import FaceCrop


def own_data(
    folder: Path, scheme: Scheme | None = None, whole_frames: bool = False
) -> tuple[KeypointsDataset, KeypointsDataset, KeypointsDataset | None]:
    """Training, validation and test data (None if there is none) of a folder in one of three layouts.

    `keypoints.csv` (see data_load.read_keypoints) and the pictures that it names; or the course's layout, with test
    frames; or `.asf` files with their pictures, like IMM. A seeded fifth of the people is held out for validation;
    without a column `person` every picture counts as another person. Unless the network takes whole frames, faces are
    cut out with a margin, so that photos of any size fit in memory. Raises DataError for a folder in another layout,
    unreadable files, points that do not fit the scheme, and pictures of a single person.
    """
    everyone, test = _read(folder, scheme)
    if not whole_frames:
        if everyone.scheme.num_points == 1:
            raise DataError(f"{folder}: one point has no box around it; train a network of whole frames")
        everyone, test = (faces and faces.cached(FaceCrop(256, margin=0.5)) for faces in (everyone, test))
    training, validation = (everyone.subset(positions) for positions in person_split(everyone.people))
    return training, validation, test


def _read(folder, scheme):
    if (folder / "keypoints.csv").is_file():
        return FacialKeypointsDataset(folder / "keypoints.csv", folder, person=None, scheme=scheme), None
    if (folder / "training_frames_keypoints.csv").is_file():
        return course_frames(folder, scheme)
    if any(folder.glob("*.asf")):
        if scheme:
            raise DataError(f"{folder}: the points of .asf files are those of IMM; leave the scheme out")
        return ImmFaces(folder), None
    raise DataError(f"{folder}: holds no keypoints.csv, no training_frames_keypoints.csv and no .asf files")
