"""A cache of turned views: made once from labelled faces, written to files, and read as a data set.

A cache is a folder of parts (.npz), each with the views of SOURCES_PER_PART faces: pictures as JPEG, points, poses,
and which photo or person they show. Its name identifies what it was made from, labels included, so that old views are
never used with another split of the data or another convention of the labels. A part is written atomically and has its
own seed: an interrupted run resumes where it stopped and gives the same result.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np

from data_load import KeypointsDataset
from facial_keypoints.geometry import resize, resize_matrix, tight_box, transform_points
from facial_keypoints.images import DataError
from facial_keypoints.schemes import IBUG_68
from turned_heads.head import fit_poses
from turned_heads.pose import OrthographicPose
from turned_heads.views import EDGE_SEEN, Source, View, draw_pose, view

SOURCES_PER_PART = 40
VERSION = 2  # of the geometry: views of other versions are not used
JPEG_QUALITY = 92
CUT_MARGIN, CUT_BOX = 0.75, 180  # of the cut-out around a face: margin in box sides, and largest box side in pixels
STEEPEST = np.radians(50)  # faces with a larger yaw get no views
SMALLEST = 48  # pixels of the box's longer side; smaller faces get no views
DEPTHS = (0.93, 1.1)  # the range of a head's depth, relative to the template


@dataclass(frozen=True)
class Faces:
    """Faces to make views from: a data set with 68 points, and the photo or person of each face, (N,) str."""

    name: str
    data: KeypointsDataset
    groups: np.ndarray


def folder_of(root: Path, faces: Faces, views: int, seed: int) -> Path:
    """The cache folder for these faces."""
    labels = np.ascontiguousarray(faces.data.keypoints[faces.data.indices], np.float32)
    return root / f"{faces.name}-{views}-seed{seed}-v{VERSION}-{crc32(labels.tobytes()):08x}"


def cut_out(image: np.ndarray, keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of a photo around a face, no larger than needed, and the points in it."""
    x, y, w, h = tight_box(keypoints)
    room = CUT_MARGIN * max(w, h)
    low = np.maximum([x - room, y - room], 0).astype(int)
    high = np.minimum([x + w + room, y + h + room], image.shape[1::-1]).astype(int)
    part, keypoints = image[low[1] : high[1], low[0] : high[0]], keypoints - low
    scale = CUT_BOX / max(w, h)
    if scale >= 1:
        return part, keypoints
    old = part.shape[1::-1]
    new = tuple(max(8, round(side * scale)) for side in old)
    return resize(part, new), transform_points(resize_matrix(old, new), keypoints)


def views_of(
    image: np.ndarray, keypoints: np.ndarray, pose: OrthographicPose, count: int, rng: np.random.Generator, others
) -> list[View]:
    """Random turned views of a labelled face with a known pose; none if its yaw is above STEEPEST."""
    if abs(pose.yaw) > STEEPEST:
        return []
    source = Source.of(image, keypoints, pose)
    poses = [draw_pose(rng, pose) for _ in range(count)]
    return [view(source, pose, rng, others, rng.uniform(*DEPTHS)) for pose in poses]


def write_part(path: Path, faces: Faces, positions: np.ndarray, views: int, seed: int) -> int:
    """Make and write the views of some faces, except those below SMALLEST; returns how many there are."""
    data = faces.data.with_transform(None)
    large = [p for p in positions if tight_box(data.keypoints[data.indices[p]])[2:].max() >= SMALLEST]
    samples = [data[int(position)] for position in large]
    cuts = [cut_out(sample["image"], sample["keypoints"]) for sample in samples]
    poses = fit_poses(np.reshape([keypoints for _, keypoints in cuts], (-1, 68, 2)))
    rng = np.random.default_rng([seed, *positions[:1]])
    others = [sample["image"] for sample in samples]
    made, groups = [], []
    for position, cut, pose in zip(large, cuts, poses, strict=True):
        new = views_of(*cut, pose, views, rng, others)
        made += new
        groups += [faces.groups[position]] * len(new)
    pictures = [encode(one.image) for one in made]
    write_npz(
        path,
        bytes=np.concatenate([*pictures, np.empty(0, np.uint8)]),
        lengths=np.array([len(picture) for picture in pictures], int),
        keypoints=np.array([one.keypoints for one in made], np.float32).reshape(-1, 68, 2),
        pose=np.array([one.pose for one in made], np.float32).reshape(-1, 3),
        groups=np.array(groups, str),
    )
    return len(made)


def write_npz(path: Path, **arrays) -> None:
    """np.savez, written atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Path(f"{path}.part")
    with open(part, "wb") as file:
        np.savez(file, **arrays)
    part.replace(path)


def encode(image: np.ndarray) -> np.ndarray:  # (B,) uint8
    """RGB uint8 as JPEG."""
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].ravel()


def make(root: Path, faces: Faces, views: int, seed: int = 0, progress=None) -> Path:
    """Fill the cache of these faces and return its folder; parts that exist are kept.

    progress: called with the numbers of finished parts and of all parts.
    """
    folder = folder_of(root, faces, views, seed)
    folder.mkdir(parents=True, exist_ok=True)
    parts = np.array_split(np.arange(len(faces.data)), max(1, -(-len(faces.data) // SOURCES_PER_PART)))
    for number, positions in enumerate(parts):
        path = folder / f"part-{number:03d}.npz"
        if not path.is_file():
            write_part(path, faces, positions, views, seed)
        if progress:
            progress(number + 1, len(parts))
    (folder / "complete").write_text(f"{len(parts)}\n", encoding="utf-8")
    return folder


class MadeFaces(KeypointsDataset):
    """The views of finished caches, held in memory as JPEG: samples of RGB uint8 with 'keypoints' (68, 2).

    The jaw is the head's, also where it is hidden. groups: (N,) str, the photo or person that each view shows; poses:
    (N, 3) yaw, pitch, roll in radians. Raises DataError for a cache that is unfinished or damaged.
    """

    def __init__(self, folders: list[Path], transform=None):
        parts = [read_part(path) for folder in folders for path in part_files(folder)]
        keypoints, self.groups, self.poses = (
            np.concatenate([part[key] for part in parts]) for key in ("keypoints", "groups", "pose")
        )
        self.pictures = [
            picture for part in parts for picture in np.split(part["bytes"], np.cumsum(part["lengths"]))[:-1]
        ]
        names = [f"{group}, view {number}" for number, group in enumerate(self.groups)]
        self.names, self.places, self.keypoints, self.boxes = names, names, keypoints, None
        self.root_dir, self.transform, self.images = Path(folders[0]).parent, transform, None
        self.indices, self.scheme = np.arange(len(names)), IBUG_68
        self.label_shift = np.zeros((len(names), 2), np.float32)

    @property
    def edge_known(self) -> np.ndarray:  # (N,) bool
        """Whether the head's jaw in each view of this subset is also the visible edge that labels follow."""
        return np.abs(self.poses[self.indices, 0]) < EDGE_SEEN

    def _image(self, index):
        return np.ascontiguousarray(cv2.imdecode(self.pictures[index], cv2.IMREAD_COLOR)[..., ::-1])


def part_files(folder: Path) -> list[Path]:
    """The parts of a finished cache; raises DataError if it is not finished."""
    if not (folder / "complete").is_file():
        raise DataError(f"{folder}: not finished; `python -m turned_heads` finishes it")
    return sorted(folder.glob("part-*.npz"))


def read_part(path: Path) -> dict[str, np.ndarray]:
    """The arrays that write_part wrote; raises DataError for a damaged file."""
    try:
        with np.load(path) as part:
            return dict(part)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not readable ({error}); delete it and run `python -m turned_heads`") from None
