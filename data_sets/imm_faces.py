"""The IMM Face Database: 240 photos of 40 people with 58 points each, with drawn faces as a substitute.

Stegmann, Ersboell, Larsen, "FAME: a flexible appearance modelling environment", IEEE Transactions on Medical
Imaging 22(10), 2003. `PP-Vg.jpg` is view V (1-6) of person PP, g for gender; the `.asf` file beside it holds the
points. Points are counted from 0; left and right below are those of the picture.
"""

import copy
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from data_load import KeypointsDataset
from data_sets.drawn_faces import draw_frame, fingerprint, write_once
from data_sets.face_drawing.people import draw_person, draw_scene
from data_sets.find import ROOT, DataFolder, Kind, find_folder
from facial_keypoints.images import DataError
from facial_keypoints.schemes import Scheme, default_scheme
from transforms import Normalize, Resize

FOLDER = "imm_face_db"

NOSE_TIP = 52  # the base of the nose between the nostrils; the coursework calls it the tip

# The mirror table was read off the published point files, where eyes and brows of both sides are numbered alike and
# everything else runs from one side to the other.
IMM_58 = Scheme(
    name="imm-58",
    num_points=58,
    mirror=(
        *[12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0],  # jaw
        *[21, 22, 23, 24, 25, 26, 27, 28, 13, 14, 15, 16, 17, 18, 19, 20],  # eyes
        *[34, 35, 36, 37, 38, 29, 30, 31, 32, 33],  # brows
        *[43, 42, 41, 40, 39, 46, 45, 44],  # lips
        *[57, 56, 55, 54, 53, 52, 51, 50, 49, 48, 47],  # nose
    ),
    ruler=(21, 13),  # the outer eye corners
    contours={
        "jaw": tuple(range(0, 13)),
        "right eye": (*range(13, 21), 13),
        "left eye": (*range(21, 29), 21),
        "right brow": tuple(range(29, 34)),
        "left brow": tuple(range(34, 39)),
        "lips": (*range(39, 47), 39),
        "nose": tuple(range(47, 58)),
    },
    parts={
        "jaw": tuple(range(0, 13)),
        "brows": tuple(range(29, 39)),
        "nose": tuple(range(47, 58)),
        "eyes": tuple(range(13, 29)),
        "mouth": tuple(range(39, 47)),
    },
)

VIEWS = {
    1: "neutral",
    2: "smiling",
    3: "turned to one side",
    4: "turned to the other",
    5: "light from one side",
    6: "any expression",
}

# Each of the 58 points as the mean of these points of the 68 (schemes.py); a repeated one weighs more.
FROM_68 = (
    [(0,), (1, 1, 2), (2, 3, 3), (4,), (5, 5, 6), (6, 7, 7), (8,)]  # jaw
    + [(9, 9, 10), (10, 11, 11), (12,), (13, 13, 14), (14, 15, 15), (16,)]
    + [(45,), (44,), (43, 44), (43,), (42,), (47,), (46, 47), (46,)]  # eyes
    + [(36,), (37,), (37, 38), (38,), (39,), (40,), (40, 41), (41,)]
    + [(22,), (23,), (24,), (25,), (26,), (21,), (20,), (19,), (18,), (17,)]  # brows
    + [(48,), (50,), (51,), (52,), (54,), (56,), (57,), (58,)]  # lips
    + [(27, 27, 39), (28, 28, 39), (29, 31), (31,), (32,), (33,), (34,), (35,), (29, 35), (28, 28, 42), (27, 27, 42)]
)


def to_58(keypoints: np.ndarray) -> np.ndarray:  # (58, 2)
    """The 58 points of this scheme from the 68 of facial_keypoints/schemes.py."""
    return np.stack([keypoints[list(points)].mean(axis=0) for points in FROM_68])


def relative_to_image(size: tuple) -> Normalize:
    """Keypoints as fractions of an image of size (h, w): 0 is the left or upper edge, 1 the right or lower one."""
    return Normalize(-0.5, np.array(size[::-1], np.float32))


def read_asf(path: str | Path) -> np.ndarray:  # (58, 2)
    """The points of an `.asf` file, x and y as fractions of the image's width and height.

    The file holds a count, then a line per point (path, type, x, y, number, its two neighbours; some files add
    three more numbers), then the picture's name; lines with # are comments. Raises DataError with file and line.
    """
    try:
        lines = Path(path).read_text(encoding="latin-1").splitlines()
    except OSError as error:
        raise DataError(f"{path}: could not be read ({error.strerror})") from None
    content = [(n, line.split()) for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    if not content:
        raise DataError(f"{path}: line {len(lines)}: the file ends before the number of points")
    number, count = content[0]
    if count != [str(IMM_58.num_points)]:
        raise DataError(f'{path}: line {number}: "{" ".join(count)}", expected the number of points, 58')
    rows = content[1 : IMM_58.num_points + 1]
    points = [_read_point(path, number, fields, index) for index, (number, fields) in enumerate(rows)]
    if len(points) < IMM_58.num_points:
        raise DataError(f"{path}: line {len(lines)}: the file ends after {len(points)} of 58 points")
    return np.array(points, np.float32)


def _read_point(path, line, fields, index):
    where = f"{path}: line {line}"
    if len(fields) < 7:
        raise DataError(f'{where}: "{" ".join(fields)}" has {len(fields)} fields, a point has 7')
    try:
        x, y, number = float(fields[2]), float(fields[3]), int(fields[4])
    except ValueError as error:
        raise DataError(f"{where}: {error}") from None
    if number != index:
        raise DataError(f"{where}: point {number}, expected point {index}")
    if not (np.isfinite(x) and np.isfinite(y)):
        raise DataError(f"{where}: a coordinate is not finite")
    return x, y


class ImmFaces(KeypointsDataset):
    """The photos of a folder of `.asf` files, each beside its `.jpg`, with 58 keypoints.

    A relative coordinate x is pixel x * width, as the database's description says. (In the published files all
    x * width lie on a lattice of 640/992 pixels, offset by half a pixel: people clicked on photos enlarged 1.55 times,
    so half a pixel is below the precision of the labels.) Gray photos are returned as RGB like the others.
    Raises DataError that names file and line for a bad `.asf`, and the file for a missing or unreadable photo.
    """

    def __init__(self, root_dir, transform=None, in_memory=False):
        files = sorted(Path(root_dir).glob("*.asf"))
        if not files:
            raise DataError(f"{root_dir}: holds no .asf files; name the unpacked IMM Face Database")
        for file in files:
            if not re.fullmatch(r"\d+-\d[fm]", file.stem):
                raise DataError(f"{file}: the name should be PP-Vg.asf: person, view, f or m")
        relative = np.stack([read_asf(file) for file in files])
        sizes = np.array([_picture_size(file.with_suffix(".jpg")) for file in files], np.float32)
        names = [file.with_suffix(".jpg").name for file in files]
        super().__init__(names, relative * sizes[:, None], root_dir, files, transform, in_memory, scheme=IMM_58)

    @property
    def people(self) -> np.ndarray:  # (N,) int
        """Who is in each photo, counted from 1 as published."""
        return np.array([int(self.names[index].split("-")[0]) for index in self.indices])

    @property
    def views(self) -> np.ndarray:  # (N,) int
        """The view (1 to 6, see VIEWS) of each photo."""
        return np.array([int(self.names[index].split("-")[1][0]) for index in self.indices])

    def only(self, points: list[int]) -> "ImmFaces":
        """The same data set with only these of the 58 points."""
        part = copy.copy(self)
        part.keypoints, part.scheme = self.keypoints[:, points], default_scheme(len(points))
        return part

    def resized(self, size: tuple) -> "ImmFaces":
        """The same data set with photos of size (h, w), resized once and kept in memory."""
        return self.cached(Resize(size))


def _picture_size(path):
    try:
        with Image.open(path) as picture:
            return picture.size
    except FileNotFoundError:
        raise DataError(f"{path.with_suffix('.asf')}: {path.name} is missing beside it") from None
    except OSError as error:
        raise DataError(f"{path}: not a readable picture ({error})") from None


def find_imm() -> DataFolder:
    """The folder of photos: imm_face_db/ below KEYPOINTS_DATA or data/, else drawn faces as a substitute."""
    folder = find_folder(FOLDER)
    if folder:
        return DataFolder(folder, Kind.PUBLISHED, f"IMM Face Database ({FOLDER}/)")
    # one photo per person, so that notebook 5 takes only minutes on drawn faces
    drawn = write_drawn(ROOT / "build" / f"drawn_{FOLDER}", views=1)
    about = f"drawn faces with 58 points, since there is no {FOLDER}/ folder (`make data` says where to get it)"
    return DataFolder(drawn, Kind.DRAWN, about)


def write_drawn(root, people: int = 40, views: int = 6, size: tuple = (240, 320), seed: int = 0) -> Path:
    """Write drawn faces in the published layout and return root; nothing is done if an identical call has written it.

    Every person has `views` photos of size (h, w); persons 2 to 4 have gray ones, as in the database.
    """
    jobs = [(who, view) for who in range(1, people + 1) for view in range(1, views + 1)]

    def write(folder):
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda job: _draw_photo(folder, *job, size, seed), jobs))

    wanted = fingerprint(people=people, views=views, size=size, seed=seed, scheme=FROM_68)
    return write_once(root, wanted, write)


def _draw_photo(folder, who, view, size, seed):
    person = draw_person(np.random.default_rng((seed, who, 0)))
    rng = np.random.default_rng((seed, who, view))
    image, keypoints = draw_frame(person, draw_scene(rng), rng, size[1], size[0])
    if who in (2, 3, 4):
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    stem = folder / f"{who:02d}-{view}{'fm'[who % 2]}"
    Image.fromarray(image).save(stem.with_suffix(".jpg"), quality=92)
    write_asf(stem.with_suffix(".asf"), to_58(keypoints) / size[::-1])


def write_asf(path: Path, relative: np.ndarray) -> None:
    """Write points (58, 2), in fractions of the image's width and height, as an `.asf` file."""
    lines = ["# AAM Shape File", "", "# number of model points", str(len(relative)), "", "# model points"]
    lines.append("# format: <path#> <type> <x rel.> <y rel.> <point#> <connects from> <connects to>")
    for number, (x, y) in enumerate(relative):
        lines.append(f"0 \t0 \t{x:.8f} \t{y:.8f} \t{number} \t{max(number - 1, 0)} \t{number + 1}")
    path.write_text("\n".join([*lines, "", "# host image", path.with_suffix(".jpg").name, ""]))
