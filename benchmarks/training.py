"""Training speed in images per second, the coursework's loop against ours: same network, batch size and process.

    python -m benchmarks.training            writes results/training_speed.csv; two minutes

The course's way, as in its published notebooks: every sample is read from disk and transformed in float64 each
time, default memory layout, float32 arithmetic, a plain loop. Ours: training.loop.fit on frames decoded once,
channels_last, bfloat16 where the hardware supports it, freed memory kept for the next batch.
"""

import os
import platform
import time
from pathlib import Path

import cv2
import matplotlib.image
import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from data_load import FacialKeypointsDataset
from data_sets.find import find_data
from models import Net
from recipes import WHOLE_FRAME_TRAINING
from training.device import best_device, has_fast_bfloat16, keep_freed_memory
from training.loop import fit

BATCH_SIZE = 64
COURSE_IMAGES, OUR_IMAGES = 320, 960
RESULTS = Path(__file__).resolve().parent.parent / "results"


class CourseDataset(Dataset):
    """The coursework's data set and transforms (Rescale 250, RandomCrop 224, Normalize, ToTensor) in one place."""

    def __init__(self, root: Path, count: int):
        self.root = root / "training"
        self.table = pd.read_csv(root / "training_frames_keypoints.csv").iloc[:count]

    def __len__(self):
        return len(self.table)

    def __getitem__(self, index):
        with open(self.root / self.table.iloc[index, 0], "rb") as file:  # PNG, whatever its name says
            image = matplotlib.image.imread(file, format="png")[..., :3]
        keypoints = self.table.iloc[index, 1:].to_numpy().astype("float").reshape(-1, 2)
        height, width = image.shape[:2]
        scale = 250 / min(height, width)
        image = cv2.resize(image, (round(width * scale), round(height * scale)))
        top, left = (np.random.randint(0, side - 223) for side in image.shape[:2])
        image = cv2.cvtColor(image[top : top + 224, left : left + 224], cv2.COLOR_RGB2GRAY).astype(np.float64)
        keypoints = (keypoints * scale - [left, top] - 100) / 50
        return {"image": torch.from_numpy(image[None]), "keypoints": torch.from_numpy(keypoints)}


def course_way(root: Path) -> float:
    """Seconds for one epoch of COURSE_IMAGES, after one batch of warm-up."""
    net = Net()
    optimizer, loss_function = torch.optim.Adam(net.parameters(), 1e-4), nn.SmoothL1Loss()

    def epoch(data):
        for batch in DataLoader(data, BATCH_SIZE, shuffle=True):
            images, keypoints = batch["image"].type(torch.FloatTensor), batch["keypoints"].type(torch.FloatTensor)
            loss = loss_function(net(images), keypoints)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    epoch(CourseDataset(root, BATCH_SIZE))
    start = time.perf_counter()
    epoch(CourseDataset(root, COURSE_IMAGES))
    return time.perf_counter() - start


def our_way(root: Path) -> tuple[float, float]:
    """Seconds to decode OUR_IMAGES, and for the fastest of three epochs on them (validation costs next to nothing)."""
    frames = FacialKeypointsDataset(root / "training_frames_keypoints.csv", root / "training", in_memory=True)
    frames = frames.subset(range(OUR_IMAGES)).with_transform(WHOLE_FRAME_TRAINING)
    start = time.perf_counter()
    frames.load_into_memory()
    decoding = time.perf_counter() - start
    one = frames.subset(range(1))  # a validation set of one image, which takes no time
    history = fit(Net(), frames, one, lr=1e-4, epochs=3, batch_size=BATCH_SIZE)
    return decoding, history["seconds"].min()


def main() -> None:
    """Measure both and write the table."""
    data = find_data()
    print(f"data: {data.about}")
    course = COURSE_IMAGES / course_way(data.path)
    keep_freed_memory()
    decoding, seconds = our_way(data.path)
    ours = OUR_IMAGES / seconds
    precision = "bfloat16" if has_fast_bfloat16(best_device()) else "float32"
    table = pd.DataFrame(
        {
            "way": ["course", "ours"],
            "images per second": [round(course, 1), round(ours, 1)],
            "times as fast": [1.0, round(ours / course, 2)],
            "decoding once, ms per image": [None, round(1e3 * decoding / OUR_IMAGES, 2)],
            "setting": [
                "decoded per sample, float64 samples, float32 net, default layout",
                f"decoded once, {precision}, channels_last, memory kept",
            ],
        }
    )
    machine = f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}, {best_device()}"
    table["machine"] = f"Net, batches of {BATCH_SIZE}, {machine}"
    RESULTS.mkdir(exist_ok=True)
    table.to_csv(RESULTS / "training_speed.csv", index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
