"""300-W faces in dlib's layout, and drawn faces in their place."""

import copy
import re
from pathlib import Path

import numpy as np

from data_load import FacialKeypointsDataset, KeypointsDataset, person_split
from data_sets.dlib_xml import read_dlib_xml, write_dlib_xml
from data_sets.drawn_faces import write_dataset
from data_sets.find import ROOT, DataFolder, Kind, find_folder
from facial_keypoints.geometry import tight_box

FOLDER = "ibug_300W_large_face_landmark_dataset"

TRAINING_XML = "labels_ibug_300W_train.xml"

TEST_XML = "labels_ibug_300W_test_parsed.xml"  # the coursework's: boxes without points

# Photos that 300-W holds more than once, cut or coloured differently, under names that do not tell: a line for each,
# LFPW's (image_0003) by their numbers. Found by benchmarks/twins.py.
TWINS = """
0003 0052
0011 0044
0035 0053
0043 0317
0121 0122
0134 0155
0154 0176
0163 0192
0164 0187
0188 0190
0204 0682 0704
0251 0252
0279 0313 0321
0342 0343 0366
0344 0351
0345 0384
0349 0392
0374 0376
0407 0454
0413 0415 0445 0458
0419 0449
0420 0436
0435 0439
0482 0494 0503
0491 0516
0502 0518
0544 0548 0583
0573 0592 0598
0601 0617 0622 0623 0631 0633 0635 0639 0647 0648 0651 0658
0680 0698 0724
0683 0695 0712 0730
0685 0719
0686 0727
0691 0692
0708 0710
0733 0743
0809 0825 0847
0816 0824 0856 0858
1207662328 1218567979
2139767101 2140556694
"""


def photo_of(file: str) -> str:
    """The photo that a picture comes from, so that everything cut out of it can stay on one side of a split.

    `afw/134212_1_mirror.jpg` is a mirrored copy of face 1 in photo 134212, which AFW repeats for each of its
    faces: both give `134212`. LFPW's `image_0042` has four digits, a photo's number and not a face's.
    """
    return re.sub(r"_\d{1,2}$", "", Path(file).stem.removesuffix("_mirror"))


class IbugFaces(KeypointsDataset):
    """The faces of one of dlib's XML files; a sample is a whole picture with the box and the points of one face.

    'box' is what the file says: a detector's box in the published XML (points may lie outside), the tight box of
    the points, in whole pixels, in files that were made so. In a test file 'keypoints' is empty, (0, 2).
    Raises DataError that names the XML file and the line for a bad entry or a missing or unreadable picture.
    """

    def __init__(self, xml_file, transform=None, in_memory=False):
        entries = read_dlib_xml(xml_file)
        count = len(entries[0].points)
        points = [[entry.points[number] for number in range(count)] for entry in entries]
        keypoints = np.array(points, np.float32).reshape(len(entries), count, 2)
        places = [f"{xml_file}: line {entry.line}" for entry in entries]
        boxes = np.array([entry.box for entry in entries], np.float32)
        names = [entry.file for entry in entries]
        super().__init__(names, keypoints, Path(xml_file).parent, places, transform, in_memory, boxes)

    @property
    def photos(self) -> np.ndarray:  # (N,) str
        """Which photo each face comes from: the groups for data_load.person_split."""
        return np.array([photo_of(self.names[index]) for index in self.indices])

    @property
    def mirrored(self) -> np.ndarray:  # (N,) bool
        """Which faces are mirrored copies."""
        return np.array([Path(self.names[index]).stem.endswith("_mirror") for index in self.indices])


def count_from_zero(faces: IbugFaces) -> IbugFaces:
    """The same faces with points in pixels counted from 0, as everywhere here; 300-W counts them from 1.

    Its labels were made with MATLAB (https://github.com/trigeorgis/mdm/issues/13), and networks trained on them with
    mirror images answer one pixel further to the left, on small and large faces alike (benchmarks/label_shift.py).
    In a mirrored copy the point that lies one pixel too far to the right comes to lie as much too far to the left.
    """
    other = copy.copy(faces)
    other.keypoints = faces.keypoints - 1
    other.keypoints[faces.indices[faces.mirrored], :, 0] += 2
    return other


def twins() -> list[set[str]]:
    """Names, as `photo_of` gives them, of one and the same photo."""
    lines = (line.split() for line in TWINS.strip().splitlines())
    return [{f"image_{name}" if len(name) == 4 else name for name in names} for names in lines]


def split_photos(faces: IbugFaces, fraction: float = 0.2) -> tuple[IbugFaces, IbugFaces]:
    """Faces to learn from, and faces of photos that are not among them: a seeded `fraction` of all photos.

    Of those that 300-W holds twice, the ones whose twin is learned from are left out.
    """
    seen, held_out = (faces.subset(positions) for positions in person_split(faces.photos, fraction))
    known = set().union(*(names for names in twins() if names & set(seen.photos)))
    return seen, held_out.subset(np.flatnonzero(~np.isin(held_out.photos, list(known))))


def drawn_xml(folder: Path) -> Path:
    """Drawn faces (drawn_faces.py) in dlib's layout: the XML file, written into their folder."""
    frames = FacialKeypointsDataset(folder / "training_frames_keypoints.csv", folder / "training")
    boxes = [tight_box(keypoints) for keypoints in frames.keypoints]
    write_dlib_xml(folder / TRAINING_XML, [f"training/{name}" for name in frames.names], frames.keypoints, boxes)
    return folder / TRAINING_XML


def find_ibug() -> DataFolder:
    """The folder of 300-W below KEYPOINTS_DATA or data/, else drawn faces in its place (made in build/)."""
    folder = find_folder(FOLDER)
    if folder:
        return DataFolder(folder, Kind.PUBLISHED, "faces of 300-W")
    about = f"drawn faces, since there is no {FOLDER}/ (`make data` says where it is to be had)"
    return DataFolder(write_dataset(ROOT / "build" / "drawn_faces"), Kind.DRAWN, about)


def load_ibug() -> tuple[IbugFaces, str]:
    """The labelled faces of `find_ibug` and one line about them."""
    found = find_ibug()
    if found.kind is Kind.DRAWN:
        faces = IbugFaces(drawn_xml(found.path))
        return faces, f"{len(faces)} {found.about}"
    faces = count_from_zero(IbugFaces(found.path / TRAINING_XML))
    return faces, f"{len(faces)} {found.about} in {len(np.unique(faces.photos))} photos"


def load_ibug_test() -> IbugFaces | None:
    """The coursework's test faces, which have boxes and no points; None where the file is absent."""
    folder = find_folder(FOLDER)
    return IbugFaces(folder / TEST_XML) if folder and (folder / TEST_XML).is_file() else None
