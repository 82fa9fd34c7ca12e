"""The pose set: faces of AFLW2000-3D for measuring turned heads, and what is measured on them.

Never used for training, and rarely for choosing between variants. Two layouts are read: dlib's XML with a `yaw`
attribute on every image (`labels.xml`), and AFLW2000-3D as published, a .jpg and a .mat file for every face
(Zhu et al., "Face alignment across large poses: a 3D solution", arXiv:1511.07212, section 6.1).

The 68 points are projections of a 3D face: the jaw (0-16) goes on behind the cheek, where the labels of 300-W follow
the edge that is seen.
"""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from scipy.io import loadmat

from data_load import KeypointsDataset
from data_sets.dlib_xml import read_dlib_xml
from data_sets.find import find_folder
from facial_keypoints.geometry import tight_box
from facial_keypoints.images import DataError
from metrics import distances, face_size

FOLDERS = ("aflw2000_pose", "AFLW2000")  # the second is the published archive's
LABELS = "labels.xml"
YAW_BANDS = {"0-30": (0, 30), "30-60": (30, 60), "60-90": (60, 181)}  # degrees, the upper end not included
POINT_GROUPS = {"all": slice(0, 68), "inner": slice(17, 68), "jaw": slice(0, 17)}


class PoseSet(KeypointsDataset):
    """Faces with 68 3D-consistent points and the head's yaw; 'box' is the tight box of the points.

    yaw: (N,) degrees, of all faces in the file; `yaws` are those of this subset.
    """

    def __init__(self, names, keypoints, yaw, root_dir, places, transform=None):
        boxes = np.stack([tight_box(points) for points in keypoints])
        super().__init__(names, keypoints, root_dir, places, transform, in_memory=True, boxes=boxes)
        self.yaw = np.asarray(yaw, np.float32)

    @property
    def yaws(self) -> np.ndarray:  # (N,) degrees
        """The yaw of each face of this subset; the sign is as in the label file."""
        return self.yaw[self.indices]


def read_pose_xml(path: str | Path) -> PoseSet:
    """The faces of a dlib XML file whose images have a `yaw`; raises DataError that names file and picture."""
    entries = read_dlib_xml(path)
    keypoints = [[entry.points.get(number, (np.nan, np.nan)) for number in range(68)] for entry in entries]
    places = [f"{path}: line {entry.line}" for entry in entries]
    yaw = {}
    for image in ElementTree.parse(path).iter("image"):
        try:
            yaw[image.get("file")] = float(image.get("yaw", ""))
        except ValueError:
            raise DataError(f"{path}: <image> {image.get('file')} has no yaw in degrees") from None
    names = [entry.file for entry in entries]
    return PoseSet(names, np.array(keypoints, np.float32), [yaw[n] for n in names], Path(path).parent, places)


def read_pose_mat(path: Path) -> tuple[np.ndarray, float]:
    """Points (68, 2) in pixels and the yaw in degrees of one .mat file of AFLW2000-3D.

    `pt3d_68` is (3, 68): x, y and depth; `Pose_Para` begins with pitch, yaw and roll in radians.
    Raises DataError for any other file.
    """
    try:
        content = loadmat(path)
        points, pose = np.asarray(content["pt3d_68"], float), np.asarray(content["Pose_Para"], float).ravel()
    except Exception as error:  # loadmat raises nearly anything on a damaged file
        raise DataError(f"{path}: not a label file of AFLW2000-3D ({type(error).__name__}: {error})") from None
    if points.shape != (3, 68) or len(pose) < 3 or not np.isfinite(points).all():
        raise DataError(f"{path}: pt3d_68 has the shape {points.shape}, expected (3, 68)")
    return points[:2].T.astype(np.float32), float(np.degrees(pose[1]))


def read_published(folder: Path) -> PoseSet:
    """AFLW2000-3D as published: every .mat file of the folder with the .jpg beside it."""
    files = sorted(Path(folder).glob("*.mat"))
    if not files:
        raise DataError(f"{folder}: neither {LABELS} nor .mat files of AFLW2000-3D")
    labels = [read_pose_mat(file) for file in files]
    keypoints, yaw = np.stack([points for points, _ in labels]), [angle for _, angle in labels]
    return PoseSet([file.with_suffix(".jpg").name for file in files], keypoints, yaw, folder, [str(f) for f in files])


def load_pose_set(folder: str | Path | None = None) -> PoseSet | None:
    """The pose set in `folder`, or in the data folder; None where there is none. Both layouts are recognised."""
    if folder is None:
        folder = next((found for name in FOLDERS if (found := find_folder(name))), None)
        if folder is None:
            return None
    folder = Path(folder)
    return read_pose_xml(folder / LABELS) if (folder / LABELS).is_file() else read_published(folder)


def errors_by_yaw(predicted: np.ndarray, true: np.ndarray, yaw: np.ndarray) -> dict[str, float]:
    """Mean errors in percent of sqrt(w h) of the tight box, "all 0-30" to "jaw 60-90"; an empty band is left out.

    predicted, true: (N, 68, 2) in the same units; yaw: (N,) degrees. In profile the eye corners nearly coincide,
    so the distance between them cannot serve as the unit.
    """
    errors, turned = 100 * distances(predicted, true) / face_size(true)[:, None], np.abs(yaw)
    bands = {name: (turned >= low) & (turned < high) for name, (low, high) in YAW_BANDS.items()}
    return {
        f"{group} {name}": float(errors[here][:, points].mean())
        for group, points in POINT_GROUPS.items()
        for name, here in bands.items()
        if here.any()
    }


def spread_correlation(predicted: np.ndarray, true: np.ndarray, spread: np.ndarray) -> float:
    """Mean over the faces of the rank correlation of error and predicted spread (N, K) within a face."""
    errors = pd.DataFrame(distances(predicted, true)).rank(axis=1)
    return float(errors.corrwith(pd.DataFrame(spread).rank(axis=1), axis=1).mean())


def measure(ask, faces: KeypointsDataset, yaw: np.ndarray, boxes: dict[str, np.ndarray]) -> pd.DataFrame:
    """One row for each kind of boxes: `errors_by_yaw` of the faces found, and how many were missed in each band.

    ask: called with the M faces found and their boxes (M, 4), returns predicted keypoints with their spread (M, 68, 3)
    and true ones (M, 68, 2) in the same units; yaw: (N,) degrees; boxes: by kind ("exact", "jittered",
    "yunet"), (N, 4), NaN where a detector found nothing.
    """
    rows = []
    for kind, own in boxes.items():
        found = np.isfinite(own).all(axis=1)
        located, true = ask(faces.subset(np.flatnonzero(found)), own[found])
        predicted, spread = located[..., :2], located[..., 2]
        missed = {
            f"missed {name}": int((~found & (np.abs(yaw) >= low) & (np.abs(yaw) < high)).sum())
            for name, (low, high) in YAW_BANDS.items()
        }
        sure = {"spread correlation": spread_correlation(predicted, true, spread)}
        rows.append({"boxes": kind} | errors_by_yaw(predicted, true, yaw[found]) | sure | missed)
    return pd.DataFrame(rows)
