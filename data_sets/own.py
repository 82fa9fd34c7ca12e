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
    """Training and validation data, and test data or None, of a folder in one of three layouts.

    It holds `keypoints.csv` (see data_load.read_keypoints) and the pictures that it names; or the course's layout,
    with test frames; or `.asf` files with their pictures, as IMM does. A seeded fifth of the people is held out for
    validation; without a column `person` there is another one in each picture. Unless the network sees whole frames,
    faces are cut out with room around them, so that photos of any size can be kept in memory.
    Raises DataError for another folder, what cannot be read, points of another scheme, and one person alone.
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
