"""Pictures for the tests of the command, and what it has written."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from data_sets.drawn_faces import draw_face

PIXELS, KEYPOINTS = draw_face(3)
NOBODY = np.full((40, 60, 3), 90, np.uint8)


def save(path, pixels=PIXELS):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def lines(folder="keypoints"):
    return [json.loads(line) for line in (Path(folder) / "keypoints.jsonl").read_text(encoding="utf-8").splitlines()]


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())
