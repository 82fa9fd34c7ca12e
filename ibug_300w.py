"""300-W faces: dlib's XML layout, drawn faces in its place, faces cut out once, and the submission file.

The layout is that of dlib's ibug_300W_large_face_landmark_dataset: pictures in folders and XML files of
image / box / part. Points follow the iBUG scheme of landmarks.py; those of 300-W are published in pixels counted
from 1, see `count_from_zero`.
"""

import copy
import csv
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

import numpy as np

from data_load import ROOT, DataError, FacialKeypointsDataset, KeypointsDataset, find_folder, person_split
from geometry import crop_matrix, tight_box, transform_points, warp
from landmarks import NUM_KEYPOINTS

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


@dataclass
class Entry:
    """One face of an XML file: its picture, the line of its box, the box x, y, w, h and its points by number."""

    file: str
    line: int
    box: tuple
    points: dict = field(default_factory=dict)


class _XmlReader:
    """Collects faces while expat walks through the file, so that every error can name its line."""

    def __init__(self, path):
        self.path, self.file, self.entry, self.entries = path, None, None, []
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler, self.parser.EndElementHandler = self.start, self.end

    def error(self, what):
        return DataError(f"{self.path}: line {self.parser.CurrentLineNumber}: {what}")

    def start(self, tag, attributes):
        if tag == "image":
            self.file, self.faces_before = self.text(tag, attributes, "file"), len(self.entries)
        elif tag == "box":
            if self.file is None:
                raise self.error("a <box> outside of an <image>")
            self.entry = Entry(self.file, self.parser.CurrentLineNumber, self.box(attributes))
        elif tag == "part":
            if self.entry is None:
                raise self.error("a <part> outside of a <box>")
            number, *point = (self.number(tag, attributes, name) for name in ("name", "x", "y"))
            if number not in range(NUM_KEYPOINTS) or number in self.entry.points:
                raise self.error(f"part {number:g} is not one of 0 to {NUM_KEYPOINTS - 1}, or is there twice")
            self.entry.points[int(number)] = point

    def end(self, tag):
        if tag == "box":
            if len(self.entry.points) not in (0, NUM_KEYPOINTS):
                count = len(self.entry.points)
                raise self.error(f"the box ends with {count} parts, expected {NUM_KEYPOINTS} (or none: a test file)")
            self.entries.append(self.entry)
            self.entry = None
        elif tag == "image":
            if len(self.entries) == self.faces_before:
                raise self.error(f"<image> {self.file} holds no <box>")
            self.file = None

    def box(self, attributes):
        box = tuple(self.number("box", attributes, name) for name in ("left", "top", "width", "height"))
        if min(box[2:]) <= 0:
            raise self.error("the box has no width or no height")
        return box

    def text(self, tag, attributes, name):
        if not attributes.get(name):
            raise self.error(f"<{tag}> has no '{name}'")
        return attributes[name]

    def number(self, tag, attributes, name):
        text = self.text(tag, attributes, name)
        try:
            value = float(text)
        except ValueError:
            value = np.nan
        if not np.isfinite(value):
            raise self.error(f"<{tag}> has {name}='{text}', which is no number")
        return value


def read_dlib_xml(path: str | Path) -> list[Entry]:
    """The faces of an XML file of dlib's, in order; a picture with several boxes gives several faces.

    Raises DataError that names file and line for what is not XML, and for a bad box or part, or a wrong count.
    """
    reader = _XmlReader(path)
    try:
        with open(path, "rb") as file:
            reader.parser.ParseFile(file)
    except (FileNotFoundError, IsADirectoryError):
        raise DataError(f"{path}: no such file; `make data` says where it is to be had") from None
    except expat.ExpatError as error:
        raise DataError(f"{path}: line {error.lineno}: not XML ({expat.ErrorString(error.code)})") from None
    odd = [e for e in reader.entries if bool(e.points) != bool(reader.entries[0].points)]
    if odd:
        raise DataError(f"{path}: line {odd[0].line}: some boxes have parts and others, as this one, are different")
    if not reader.entries:
        raise DataError(f"{path}: no <box> in it")
    return reader.entries


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


class FaceCuts(IbugFaces):
    """Faces cut out once, with room around them, and kept in memory: whole photos would not fit.

    A cut is size x size pixels around the box with `margin` of its longer side added on every side; samples are
    those of `faces`, in pixels of the cut. `photo_keypoints` and `photo_boxes` are still those of the photos.
    At 300 pixels and margin 0.5 the box is as large as in a 224-pixel crop of 1.5 boxes (270 kB a face).
    """

    def __init__(self, faces: IbugFaces, size: int = 300, margin: float = 0.5):
        names, places = ([values[i] for i in faces.indices] for values in (faces.names, faces.places))
        self.photo_keypoints, self.photo_boxes = faces.keypoints[faces.indices], faces.boxes[faces.indices]
        matrices = [crop_matrix(box, size, margin) for box in self.photo_boxes]
        keypoints = [transform_points(m, k) for m, k in zip(matrices, self.photo_keypoints, strict=True)]
        boxes = [transform_box(m, b) for m, b in zip(matrices, self.photo_boxes, strict=True)]
        KeypointsDataset.__init__(
            self, names, np.stack(keypoints), faces.root_dir, places, in_memory=True, boxes=np.stack(boxes)
        )
        with ThreadPoolExecutor() as pool:
            photos = pool.map(faces.with_transform(None).__getitem__, range(len(faces)))
            for index, photo in enumerate(photos):
                self.images[index] = warp(photo["image"], matrices[index], (size, size))


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


def transform_box(matrix: np.ndarray, box: np.ndarray) -> np.ndarray:  # (4,)
    """The box (x, y, w, h) around a box moved by a 2x3 matrix."""
    x, y, w, h = box
    return tight_box(transform_points(matrix, np.array([[x, y], [x + w, y], [x, y + h], [x + w, y + h]])))


def write_dlib_xml(path: Path, names, keypoints, boxes) -> None:
    """Write faces in dlib's layout: names below path's folder, keypoints (N, K, 2), boxes (N, 4)."""
    lines = ["<?xml version='1.0' encoding='UTF-8'?>", "<dataset>", "<images>"]
    for name, points, (x, y, w, h) in zip(names, keypoints, boxes, strict=True):
        lines += [f"<image file={quoteattr(name)}>", f"<box top='{y}' left='{x}' width='{w}' height='{h}'>"]
        lines += [f"<part name='{number:02d}' x='{x}' y='{y}'/>" for number, (x, y) in enumerate(points)]
        lines += ["</box>", "</image>"]
    path.write_text("\n".join([*lines, "</images>", "</dataset>", ""]), encoding="utf-8")


def drawn_xml(folder: Path) -> Path:
    """Drawn faces (synthetic_faces.py) in dlib's layout: the XML file, written into their folder."""
    frames = FacialKeypointsDataset(folder / "training_frames_keypoints.csv", folder / "training")
    boxes = [tight_box(keypoints) for keypoints in frames.keypoints]
    write_dlib_xml(folder / TRAINING_XML, [f"training/{name}" for name in frames.names], frames.keypoints, boxes)
    return folder / TRAINING_XML


def load_ibug() -> tuple[IbugFaces, str]:
    """The labelled faces and one line about them; drawn faces in their place where the folder is absent."""
    folder = find_folder(FOLDER)
    if folder:
        faces = count_from_zero(IbugFaces(folder / TRAINING_XML))
        return faces, f"{len(faces)} faces of 300-W in {len(np.unique(faces.photos))} photos"
    from synthetic_faces import write_dataset  # only when it is needed

    faces = IbugFaces(drawn_xml(write_dataset(ROOT / "build" / "drawn_faces")))
    return faces, f"{len(faces)} drawn faces, since there is no {FOLDER}/ (`make data` says where it is to be had)"


def load_ibug_test() -> IbugFaces | None:
    """The coursework's test faces, which have boxes and no points; None where the file is absent."""
    folder = find_folder(FOLDER)
    return IbugFaces(folder / TEST_XML) if folder and (folder / TEST_XML).is_file() else None


def write_submission(path: str | Path, keypoints: np.ndarray) -> None:
    """Write keypoints (N, 68, 2), in pixels of the photos, in the coursework's format.

    A header `Id,Predicted`, then one row per number, counted from 0: x and y of point 0 of the first face, and
    so on, 136 rows per face. Raises DataError for another shape, for what is not finite and when it cannot write.
    """
    keypoints = np.asarray(keypoints, float)
    if keypoints.ndim != 3 or keypoints.shape[1:] != (NUM_KEYPOINTS, 2) or not np.isfinite(keypoints).all():
        raise DataError(f"{path}: keypoints of shape {keypoints.shape}: expected finite numbers, (N, 68, 2)")
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w", newline="", encoding="utf-8") as file:
            rows = ([number, f"{value:.3f}"] for number, value in enumerate(keypoints.ravel()))
            csv.writer(file, lineterminator="\n").writerows([["Id", "Predicted"], *rows])
    except OSError as error:
        raise DataError(f"{path}: could not be written ({error.strerror})") from None
