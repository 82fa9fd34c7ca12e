"""The errors of head poses for heads whose angles are known.

    python -m benchmarks.head_pose        writes results/head_pose.csv; two minutes

Sets: the pose set (AFLW2000-3D), which has the yaw without its sign; views of held-out 300-W photos
(turned_heads/), turned from the pose that was fitted to the photo; drawn heads, which are flatter than people; IMM's
neutral photos, level on average by the choice of `face_3d.LEVEL`. Missing sets are left out. Points: the true ones,
and those of the shipped networks in exact boxes.
300-W means 2012 cut-outs from three of its sources (AFW, HELEN, LFPW).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from benchmarks.tables import RESULTS
from data_sets.drawn_faces import draw_frame
from data_sets.face_drawing.people import draw_person, draw_scene, rotation_of
from data_sets.find import find_data, find_folder
from data_sets.ibug_300w import load_ibug, split_photos
from data_sets.imm_faces import FOLDER, ImmFaces
from data_sets.pose_set import YAW_BANDS, load_pose_set
from data_sets.splits import HELD_OUT, check_not_learned
from facial_keypoints import FacePipeline
from facial_keypoints.face_3d import TO_LEVEL
from facial_keypoints.geometry import tight_box
from facial_keypoints.images import DataError
from facial_keypoints.pose import Pose, head_pose
from turned_heads.pose import rotation
from turned_heads.sources import BUILD, HELD_OUT_PHOTOS, made_faces

DRAWN, SIDE = 200, 256
LIMITS = (60, 20, 20)  # degrees of yaw, pitch, roll
NETWORKS = ("fast", "accurate")


@dataclass
class Head:
    """An RGB image of a head; keypoints (68, 2), None where only 58 are labelled, and its box; yaw, pitch, roll in
    degrees as in `Pose`, NaN where they are unknown."""

    image: np.ndarray
    keypoints: np.ndarray | None
    box: np.ndarray
    angles: tuple[float, float, float]


def drawn_heads(count: int = DRAWN) -> Iterator[Head]:
    """People with random faces, light and turns."""
    for seed in range(count):
        rng = np.random.default_rng((seed, 1))
        degrees = rng.uniform(-1, 1, 3) * LIMITS
        scene = replace(draw_scene(rng), angles=np.radians(degrees))
        image, keypoints = draw_frame(draw_person(np.random.default_rng((seed, 0))), scene, rng, SIDE, SIDE)
        yield Head(image, keypoints, tight_box(keypoints), angles(rotation_of(scene.angles)))


def turned_photos() -> Iterator[Head]:
    """Turned views of held-out photos, if they have been made."""
    try:
        views = made_faces(find_data().path, BUILD, [HELD_OUT_PHOTOS])[HELD_OUT_PHOTOS]
    except DataError:
        return
    check_not_learned(split_photos(load_ibug()[0], HELD_OUT)[1].photos)
    for sample, pose in zip(views, views.poses, strict=True):
        keypoints = sample["keypoints"]
        yield Head(sample["image"], keypoints, tight_box(keypoints), angles(rotation(*pose) @ TO_LEVEL))


def pose_set_heads() -> Iterator[Head]:
    """The pose set, if there is one."""
    faces = load_pose_set()
    for sample, yaw in zip(faces, faces.yaws, strict=True) if faces else ():
        keypoints = sample["keypoints"]
        yield Head(sample["image"], keypoints, tight_box(keypoints), (abs(float(yaw)), np.nan, np.nan))


def neutral_heads() -> Iterator[Head]:
    """IMM's photos of people who look straight ahead, if there are any."""
    folder = find_folder(FOLDER)
    for name, sample in _named(ImmFaces(folder)) if folder else ():
        if "-1" in name:
            yield Head(sample["image"], None, tight_box(sample["keypoints"]), (0.0, 0.0, np.nan))


def _named(faces) -> Iterable:
    return zip(faces.names, faces, strict=True)


def angles(turn: np.ndarray) -> tuple[float, float, float]:
    """Yaw, pitch, roll of a rotation (3, 3), in degrees."""
    pose = Pose(turn, np.zeros(3), np.eye(3))
    return pose.yaw, pose.pitch, pose.roll


def rows(name: str, heads: list[Head], pipelines: dict) -> Iterator[dict]:
    """The table's rows for a set: for every kind of points, all heads, then the bands of yaw."""
    known = np.array([head.angles for head in heads])
    points = {} if heads[0].keypoints is None else {"true": [head.keypoints for head in heads]}
    for network, pipeline in pipelines.items():
        points[network] = [pipeline.keypoints(head.image, [head.box])[0] for head in heads]
    for kind, faces in points.items():
        found = np.array([angles(head_pose(face).rotation) for face in faces])
        if name == "pose set":
            found[:, 0] = np.abs(found[:, 0])
        bands = {"all": (0, 181)} | (YAW_BANDS if np.abs(known[:, 0]).max() > 30 else {})
        for band, (low, high) in bands.items():
            here = (np.abs(known[:, 0]) >= low) & (np.abs(known[:, 0]) < high)
            if here.any():
                yield {"heads": name, "points": kind, "turned by": band} | summary(found[here], known[here])


def summary(found: np.ndarray, known: np.ndarray) -> dict[str, float]:
    """Median errors of angles (N, 3) in degrees, and the percentage of yaws that are off by more than 10."""
    off = np.abs(found - known)
    with_truth = {
        f"{angle} error": np.median(off[:, column])
        for column, angle in enumerate(("yaw", "pitch", "roll"))
        if np.isfinite(known[:, column]).all()
    }
    return {"faces": len(found)} | with_truth | {"yaw off by > 10, %": 100 * (off[:, 0] > 10).mean()}


def main() -> None:
    """Measure and write the table."""
    pipelines = {name: FacePipeline(name, lambda image: None, threads=1) for name in NETWORKS}
    sets = {
        "pose set": pose_set_heads(),
        "turned photos": turned_photos(),
        "drawn": drawn_heads(),
        "IMM, neutral": neutral_heads(),
    }
    sets = {name: list(heads) for name, heads in sets.items()}
    table = [row for name, heads in sets.items() if heads for row in rows(name, heads, pipelines)]
    table = pd.DataFrame(table).round(2)
    table.to_csv(RESULTS / "head_pose.csv", index=False)
    print(table.to_string())


if __name__ == "__main__":
    main()
