"""300-W faces in dlib's layout, with drawn faces as a substitute.

All numbers and names given for 300-W here refer to 2012 cut-outs from three of its sources (AFW, HELEN, LFPW).
"""

import re
from pathlib import Path
from uuid import uuid4

import numpy as np

from data_load import FacialKeypointsDataset, KeypointsDataset, person_split
from data_sets.dlib_xml import read_dlib_xml, write_dlib_xml
from data_sets.drawn_faces import write_dataset
from data_sets.find import ROOT, DataFolder, Kind, find_folder
from facial_keypoints.geometry import tight_box
from facial_keypoints.schemes import IBUG_68
from metrics import face_size

FOLDER = "ibug_300W_large_face_landmark_dataset"

TRAINING_XML = "labels_ibug_300W_train.xml"

TEST_XML = "labels_ibug_300W_test_parsed.xml"  # the coursework's: boxes without points

# The offset (right, down) of the labels from the points, in pixels of the cut-outs. Measured on photos that a network
# was not trained on (benchmarks/label_shift.py): 0.94 +- 0.04 to the right, in every part of the face, on scaled and
# unscaled cut-outs alike; AFW 1.3, HELEN and LFPW 0.9. The cause is not known. An offset down cannot be measured this
# way, since a network learns it from the labels; indirect estimates are 0.8 +- 0.2. So y is left as published.
LABEL_SHIFT = (1, 0)


def photo_of(file: str) -> str:
    """The photo that a picture was cut from, so that a split can keep all its faces on one side.

    `afw/134212_1_mirror.jpg`, the mirrored copy of face 1 in photo 134212, gives `134212`: AFW repeats a photo for
    each of its faces. Four digits, as in LFPW's `image_0042`, are a photo's number, not a face's. LFPW numbers its
    test photos from 1 again, so pictures in a folder `testset` give `testset/image_0042`.
    """
    photo = re.sub(r"_\d{1,2}$", "", Path(file).stem.removesuffix("_mirror"))
    return f"testset/{photo}" if "testset" in Path(file).parts else photo


def listed(file: str) -> list[list[str]]:
    """The names in each line of a text file beside this module; lines with # are comments."""
    lines = (Path(__file__).parent / file).read_text(encoding="utf-8").splitlines()
    return [line.split() for line in lines if not line.startswith("#")]


def held_out_photos() -> set[str]:
    """The photos that are held out for testing, as `photo_of` names them."""
    return {name for line in listed("ibug_300w_held_out.txt") for name in line}


def twins() -> list[set[str]]:
    """Groups of names (as `photo_of` gives them) of the same photo, found by benchmarks/twins.py."""
    return [set(line) for line in listed("ibug_300w_twins.txt")]


class IbugFaces(KeypointsDataset):
    """The faces of one of dlib's XML files; a sample is a whole picture with the box and the points of one face.

    'box' is the one in the file: in the published XML a detector's (points may lie outside), in other files the
    tight box of the points in whole pixels. In a test file 'keypoints' is empty, (0, 2).
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
        super().__init__(names, keypoints, Path(xml_file).parent, places, transform, in_memory, boxes, IBUG_68)

    @property
    def photos(self) -> np.ndarray:  # (N,) str
        """Which photo each face comes from: the groups for data_load.person_split."""
        return np.array([photo_of(self.names[index]) for index in self.indices])

    @property
    def mirrored(self) -> np.ndarray:  # (N,) bool
        """Which faces are mirrored copies."""
        return np.array([Path(self.names[index]).stem.endswith("_mirror") for index in self.indices])


def centre_labels(faces: IbugFaces) -> IbugFaces:
    """Faces of 300-W with the constant label offset along x (LABEL_SHIFT; reversed in mirrored copies) removed.

    y is left as published. The data set's `label_shift` is the offset that was removed.
    """
    shift = LABEL_SHIFT / face_size(faces.keypoints)[:, None]
    shift[faces.indices[faces.mirrored], 0] *= -1
    return faces.centred(shift)


def split_photos(faces: IbugFaces, fraction: float = 0.2) -> tuple[IbugFaces, IbugFaces]:
    """Training faces, mirrored copies included, and test faces; no photo is in both.

    The photos of 300-W that ibug_300w_held_out.txt names are held out; if the data set has none of them, a seeded
    `fraction` of its photos. Held-out photos that are in the training part under another name (`twins`) are left
    out of the test.
    """
    held_out = np.isin(faces.photos, list(held_out_photos()))
    if not held_out.any():
        held_out = np.isin(np.arange(len(faces)), person_split(faces.photos, fraction)[1])
    seen = faces.subset(np.flatnonzero(~held_out))
    known = set().union(*(names for names in twins() if names & set(seen.photos)))
    return seen, faces.subset(np.flatnonzero(held_out & ~faces.mirrored & ~np.isin(faces.photos, list(known))))


def drawn_xml(folder: Path) -> Path:
    """The XML file in dlib's layout for a folder of drawn faces (drawn_faces.py); written if it does not exist."""
    xml_file = folder / TRAINING_XML
    if not xml_file.exists():
        frames = FacialKeypointsDataset(folder / "training_frames_keypoints.csv", folder / "training")
        boxes = [tight_box(keypoints) for keypoints in frames.keypoints]
        part = folder / f".{uuid4().hex[:8]}.part"  # a name that no other process uses
        write_dlib_xml(part, [f"training/{name}" for name in frames.names], frames.keypoints, boxes)
        part.replace(xml_file)
    return xml_file


def find_ibug() -> DataFolder:
    """The folder of 300-W below KEYPOINTS_DATA or data/, else drawn faces as a substitute (written to build/)."""
    folder = find_folder(FOLDER)
    if folder:
        return DataFolder(folder, Kind.PUBLISHED, "faces of 300-W")
    about = f"drawn faces, since there is no {FOLDER}/ (`make data` says where to get it)"
    return DataFolder(write_dataset(ROOT / "build" / "drawn_faces"), Kind.DRAWN, about)


def load_ibug() -> tuple[IbugFaces, str]:
    """The labelled faces of `find_ibug`, and a line that describes them."""
    found = find_ibug()
    if found.kind is Kind.DRAWN:
        faces = IbugFaces(drawn_xml(found.path))
        return faces, f"{len(faces)} {found.about}"
    faces = centre_labels(IbugFaces(found.path / TRAINING_XML))
    sources = ", ".join(sorted({Path(name).parts[0].upper() for name in faces.names}))
    return faces, f"{len(faces)} {found.about} ({sources}) in {len(np.unique(faces.photos))} photos"


def load_ibug_test() -> IbugFaces | None:
    """The coursework's test faces, which have boxes and no points; None where the file is absent."""
    folder = find_folder(FOLDER)
    return IbugFaces(folder / TEST_XML) if folder and (folder / TEST_XML).is_file() else None
