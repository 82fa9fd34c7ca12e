"""Where the course's labels lie beside the points: LABEL_SHIFT of recipes.py, measured.

    python -m benchmarks.label_shift        writes results/label_shift.csv; needs the real data; three minutes

A network trained on the hand-labelled faces of 300-W alone, mirrored half of the time so that it prefers no side,
is asked about the course's training frames. The mean of label minus answer, in percent of the face's size, beside
half of the pitch of the lattice that the labels lie on.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from data_load import FacialKeypointsDataset, find_data
from landmarks import PARTS
from protocol import RESULTS, splits
from recipes import LABEL_SHIFT, RECIPES
from train import predict, run_recipe

EPOCHS = 12
PITCHES = np.linspace(0.02, 0.045, 501)  # of the face's size


def face_sizes(keypoints: np.ndarray) -> np.ndarray:  # (N,)
    """The square root of the area of every face's tight box."""
    return np.sqrt(np.ptp(keypoints, axis=1).prod(axis=1))


def lattice_pitch(keypoints: np.ndarray) -> float:
    """The pitch, as a part of the face's size, on which one face's coordinates (K, 2) agree best."""
    size = face_sizes(keypoints[None])[0]
    agreement = [np.abs(np.exp(2j * np.pi * keypoints / (pitch * size)).mean(axis=0)).sum() for pitch in PITCHES]
    return float(PITCHES[np.argmax(agreement)])


def main() -> None:
    """Train, ask, write the table."""
    root, _ = find_data()
    frames = FacialKeypointsDataset(root / "training_frames_keypoints.csv", root / "training", in_memory=True)
    recipe = replace(RECIPES["fast"].first, epochs=EPOCHS)  # the finish does not mirror
    model, _ = run_recipe(recipe, splits(root)[0].training[1:], progress=True)
    predicted, labels = predict(model, frames.with_transform(recipe.transform))
    off = 100 * (labels - predicted) / face_sizes(labels)[:, None, None]
    rows = {part: off[:, list(points)].mean(axis=(0, 1)) for part, points in PARTS.items()}
    rows["all 68 points"] = off.mean(axis=(0, 1))
    large = frames.keypoints[face_sizes(frames.keypoints) > 90]  # on small faces rounding hides the lattice
    rows["half a cell of the lattice"] = np.repeat(50 * np.median([lattice_pitch(k) for k in large[::3]]), 2)
    rows["LABEL_SHIFT"] = np.repeat(100 * LABEL_SHIFT, 2)
    table = pd.DataFrame(rows, index=["right, % of the face", "down, % of the face"]).T.round(2)
    table.to_csv(RESULTS / "label_shift.csv", index_label="points")
    print(table.to_string())


if __name__ == "__main__":
    main()
