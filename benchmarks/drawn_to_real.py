"""How well a network that is trained on drawn faces alone does on real ones.

    python -m benchmarks.drawn_to_real       writes results/drawn_to_real.csv; needs the real data; five minutes

The recipe "face-crops" is trained on drawn faces only and tested on the 770 labelled real test frames with exact
boxes, beside two baselines: the mean drawn face and the mean face of the real training frames.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

import metrics
from benchmarks.tables import RESULTS
from data_sets.course import course_data
from data_sets.drawn_faces import write_dataset
from data_sets.find import find_data
from recipes import FACE_CROP, RECIPES
from train import run_recipe
from training.device import keep_freed_memory
from training.loop import mean_face, predict

NUM_TRAINING, NUM_TEST, EPOCHS = 960, 96, 30


def main() -> None:
    """Train on drawn faces, measure on real ones, write the table."""
    keep_freed_memory()
    data = find_data()
    real_training, _, real_test = course_data(data.path)
    print(f"real data: {data.about}")
    with tempfile.TemporaryDirectory() as folder:
        drawn = write_dataset(Path(folder) / "drawn", NUM_TRAINING, NUM_TEST)
        training, validation, _ = course_data(drawn)
        drawn_faces = training.with_transform(FACE_CROP)
        mean_drawn_face, _ = mean_face(drawn_faces, real_test.with_transform(FACE_CROP))
        model, _ = run_recipe(replace(RECIPES["face-crops"], epochs=EPOCHS), training, validation)
    predicted, true = predict(model, real_test.with_transform(FACE_CROP))
    rows = {
        "mean drawn face": mean_drawn_face,
        "mean real face": mean_face(real_training.with_transform(FACE_CROP), real_test.with_transform(FACE_CROP))[0],
        f"net trained on {len(training)} drawn faces": predicted,
    }
    columns = ("NME %", "median %", "failures at 10 %")
    table = pd.DataFrame({name: metrics.summary(points, true) for name, points in rows.items()}).T[list(columns)]
    table["measured on"] = f"{len(true)} real test frames, exact boxes, torch {torch.__version__}"
    table.round(2).to_csv(RESULTS / "drawn_to_real.csv", index_label="answer")
    print(table.round(2).to_string())


if __name__ == "__main__":
    main()
