"""Where labels lie beside the points: recipes.LABEL_SHIFT and ibug_300w.count_from_zero, measured.

    python -m benchmarks.label_shift        needs the real data; four minutes

A network is trained on hand-labelled faces of 300-W alone, mirrored half of the time so that it prefers no side.

results/label_shift.csv: it is asked about the course's training frames. The mean of label minus answer, in percent of
the face's size, beside half of the pitch of the lattice that the labels lie on.
results/first_pixel.csv: it is asked about training photos that were kept from it. How far to the right of its answers
the published points lie, in pixels of the photo, for faces of four sizes. One pixel where pixels are counted from 1.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

import metrics
from benchmarks.tables import RESULTS
from data_load import FacialKeypointsDataset, person_split
from data_sets.course import LABEL_SHIFT
from data_sets.face_cuts import FaceCuts
from data_sets.find import find_data
from data_sets.splits import HELD_OUT, splits
from facial_keypoints.schemes import PARTS
from recipes import RECIPES, SMALL_CROP
from train import run_recipe
from training.loop import predict

EPOCHS = 12
PITCHES = np.linspace(0.02, 0.045, 501)  # of the face's size


def lattice_pitch(keypoints: np.ndarray) -> float:
    """The pitch, as a part of the face's size, on which one face's coordinates (K, 2) agree best."""
    size = metrics.face_size(keypoints[None])[0]
    agreement = [np.abs(np.exp(2j * np.pi * keypoints / (pitch * size)).mean(axis=0)).sum() for pitch in PITCHES]
    return float(PITCHES[np.argmax(agreement)])


def course_shift(model, frames: FacialKeypointsDataset) -> pd.DataFrame:
    """Labels of the course minus answers, by parts of the face."""
    predicted, labels = predict(model, frames.with_transform(SMALL_CROP))
    off = 100 * (labels - predicted) / metrics.face_size(labels)[:, None, None]
    rows = {part: off[:, list(points)].mean(axis=(0, 1)) for part, points in PARTS.items()}
    rows["all 68 points"] = off.mean(axis=(0, 1))
    large = frames.keypoints[metrics.face_size(frames.keypoints) > 90]  # on small faces rounding hides the lattice
    rows["half a cell of the lattice"] = np.repeat(50 * np.median([lattice_pitch(k) for k in large[::3]]), 2)
    rows["LABEL_SHIFT"] = np.repeat(100 * LABEL_SHIFT, 2)
    return pd.DataFrame(rows, index=["right, % of the face", "down, % of the face"]).T


def first_pixel(model, cuts: FaceCuts) -> pd.DataFrame:
    """Published points of 300-W minus answers, along the row, by quarters of face size."""
    predicted, labels = predict(model, cuts.with_transform(SMALL_CROP))
    sizes = metrics.face_size(cuts.photo_keypoints[cuts.indices])
    off = (labels - predicted)[..., 0].mean(axis=1) / metrics.face_size(labels) * sizes
    published = off + 1  # ibug_300w.count_from_zero has taken it off
    quarters = pd.qcut(sizes, 4, labels=[f"{name} quarter" for name in ("smallest", "second", "third", "largest")])
    table = pd.DataFrame({"size, pixels": sizes, "right, pixels": published}).groupby(quarters, observed=True)
    return table.mean().assign(**{"standard error": table["right, pixels"].sem()})


def main() -> None:
    """Train, ask, write the tables."""
    root = find_data().path
    frames = FacialKeypointsDataset(root / "training_frames_keypoints.csv", root / "training", in_memory=True)
    cuts = splits(root)[0].training[1]
    cuts, others = (cuts.subset(positions) for positions in person_split(cuts.photos, HELD_OUT, seed=1))
    model, _ = run_recipe(replace(RECIPES["fast"].first, epochs=EPOCHS), cuts, progress=True)
    for name, table in (
        ("label_shift", course_shift(model, frames)),
        ("first_pixel", first_pixel(model, others)),
    ):
        table.round(2).to_csv(RESULTS / f"{name}.csv", index_label="points" if name == "label_shift" else "faces")
        print(table.round(2).to_string())


if __name__ == "__main__":
    main()
