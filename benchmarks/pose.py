"""The errors of networks on turned heads: on the pose set, and on sets of our own for choosing between them.

    python -m benchmarks.pose saved_models/fast.pt saved_models/accurate.pt      into results/pose.csv
    python -m benchmarks.pose --choose build/some.pt                             without the pose set, printed only
    python -m benchmarks.pose --detector yunet saved_models/fast.pt              behind a detector too

Sets: "pose set" (AFLW2000-3D, in the data folder), compared with the jaw of the head if a network predicts it;
"turned photos", made from 300-W's held-out photos; "people", the course's held-out people by fitted yaw, a fair test
only of networks of split "unseen"; "photos", 300-W's held-out photos by fitted yaw.
Errors in percent of sqrt(w h) of the tight box.
300-W means 2012 cut-outs from three of its sources (AFW, HELEN, LFPW).
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from benchmarks.tables import RESULTS, merge_rows
from data_load import KeypointsDataset, person_split
from data_sets.course import course_frames
from data_sets.find import find_data
from data_sets.ibug_300w import load_ibug, split_photos
from data_sets.pose_set import load_pose_set, measure
from data_sets.splits import HELD_OUT, HeldOut, check_not_learned, with_boxes
from facial_keypoints.images import DataError
from facial_keypoints.pipeline import DETECTORS, load_detector
from protocol import detected, jittered
from recipes import face_input
from training.export import SAVED_MODELS
from training.loop import locate
from training.weights import load_model
from turned_heads.sources import BUILD, HELD_OUT_PHOTOS, made_faces
from turned_heads.two_jaws import fitted_jaws


def asker(model: nn.Module, jaw_3d: bool):
    """The `ask` of pose_set.measure: the network's predictions in given boxes."""
    transform = face_input(model.expects)
    return lambda faces, boxes: locate(model, with_boxes(faces, boxes).with_transform(transform), jaw_3d=jaw_3d)


def pose_set_or_none() -> dict:
    """The pose set, its yaws, and whether its jaw is the head's; nothing where it is not in the data folder."""
    faces = load_pose_set()
    return {"pose set": (faces, faces.yaws, True)} if faces else {}


def own_sets(root: Path) -> dict:
    """Held-out faces, their yaws in degrees, and whether their jaw is the head's, by name."""
    frames, photos = course_frames(root)[0], split_photos(load_ibug()[0], HELD_OUT)[1]
    people = frames.subset(person_split(frames.people, HELD_OUT)[1])
    views = made_faces(root, BUILD, [HELD_OUT_PHOTOS])[HELD_OUT_PHOTOS]
    real = {
        name: (faces, np.degrees(fitted_jaws(faces.keypoints[faces.indices])[1]), False)
        for name, faces in (("people", people), ("photos", photos))
    }
    return {"turned photos": (views, np.degrees(views.poses[:, 0]), True)} | real


def boxes_of(faces: KeypointsDataset, detector: str = "") -> dict[str, np.ndarray]:
    """Exact and jittered boxes (N, 4), and those of a detector if one is named."""
    held_out = HeldOut((faces,), np.arange(len(faces)))
    exact = held_out.exact_boxes()
    found = {detector: detected(held_out, load_detector(detector))} if detector else {}
    return {"exact": exact, "jittered": jittered(exact)} | found


def measured(model: nn.Module, sets: dict, boxes: dict) -> pd.DataFrame:
    """A row for each set and kind of boxes; boxes: those of each set by its name, as `boxes_of` gives them."""
    tables = [
        measure(asker(model, jaw_3d), faces, yaw, boxes[name]).assign(set=name)
        for name, (faces, yaw, jaw_3d) in sets.items()
    ]
    return pd.concat(tables, ignore_index=True)


def main() -> None:
    """Measure networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+", type=Path)
    parser.add_argument("--choose", action="store_true", help="leave the pose set alone and write nothing")
    parser.add_argument("--detector", default="", choices=["", *DETECTORS], help="boxes of this one too")
    args = parser.parse_args()
    sets = own_sets(find_data().path) | ({} if args.choose else pose_set_or_none())
    if any(path.resolve().parent == SAVED_MODELS for path in args.weights):
        check_not_learned(sets["photos"][0].photos)
    boxes = {name: boxes_of(faces, args.detector) for name, (faces, _, _) in sets.items()}
    for path in args.weights:
        table = measured(load_model(path), sets, boxes).assign(network=path.stem)
        table = table[["network", "set", "boxes", *table.columns.difference(["network", "set", "boxes"], sort=False)]]
        print(table.round(2).T.to_string(), flush=True)
        if not args.choose:
            merge_rows(table.round(3), RESULTS / "pose.csv", ["network", "set", "boxes"])


if __name__ == "__main__":
    try:
        main()
    except DataError as error:
        raise SystemExit(str(error)) from None
