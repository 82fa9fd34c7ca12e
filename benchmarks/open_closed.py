"""How often the thresholds of eyes.py and mouth.py misclassify eyes and mouths as open or closed.

    python -m benchmarks.open_closed        writes results/open_closed.csv; a minute or two

For drawn faces the truth is how they were drawn: lids shut or open as usual, lips together or apart. For 300-W's
held-out photos it comes from the labels: the edges of the lids or of the lips touch, or are well apart. Half-closed
eyes and slightly parted lips are in neither class. Points: the true ones (drawn faces), and those of the shipped
networks in exact boxes. 300-W means 2012 cut-outs from three of its sources (AFW, HELEN, LFPW).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.tables import RESULTS
from data_sets.drawn_faces import draw_frame
from data_sets.face_drawing.people import draw_person, draw_scene
from data_sets.ibug_300w import load_ibug, split_photos
from data_sets.splits import HELD_OUT, check_not_learned
from facial_keypoints import FacePipeline
from facial_keypoints.eyes import EYES_CLOSED_BELOW, eye_openness
from facial_keypoints.geometry import tight_box
from facial_keypoints.images import DataError
from facial_keypoints.mouth import MOUTH_OPEN_ABOVE, mouth_openness

DRAWN, SIDE = 120, 192
SHUT_LIDS, OPEN_LIDS, APART = 0.1, 0.9, 0.2  # openness of a drawn face's lids and lips
SHUT_EYE, OPEN_EYE, SHUT_MOUTH, OPEN_MOUTH = 0.05, 0.2, 0.01, 0.1  # openness from labels
NETWORKS = ("fast", "accurate")


@dataclass
class Case:
    """A face: RGB image, keypoints (68, 2), and for each eye and the mouth 1 if open, 0 if closed, NaN between."""

    image: np.ndarray
    keypoints: np.ndarray
    eyes: tuple[float, float]
    mouth: float


def between(value: float, shut: float, open_: float) -> float:
    """1 (open) from `open_` on, 0 (closed) up to `shut`, NaN between."""
    return 0.0 if value <= shut else 1.0 if value >= open_ else np.nan


def drawn(count: int = DRAWN) -> Iterator[Case]:
    """Random people in random scenes."""
    for seed in range(count):
        rng = np.random.default_rng((seed, 1))
        scene = draw_scene(rng)
        image, keypoints = draw_frame(draw_person(np.random.default_rng((seed, 0))), scene, rng, SIDE, SIDE)
        lids = between(scene.lids[0], SHUT_LIDS, OPEN_LIDS), between(scene.lids[1], SHUT_LIDS, OPEN_LIDS)
        yield Case(image, keypoints, lids, between(scene.gape, 0, APART))


def photos() -> Iterator[Case]:
    """300-W's held-out photos, if there are any."""
    try:
        faces = split_photos(load_ibug()[0], HELD_OUT)[1]
    except DataError:
        return
    check_not_learned(faces.photos)
    for sample in faces:
        keypoints = sample["keypoints"]
        eyes = tuple(between(ratio, SHUT_EYE, OPEN_EYE) for ratio in eye_openness(keypoints))
        yield Case(sample["image"], keypoints, eyes, between(mouth_openness(keypoints), SHUT_MOUTH, OPEN_MOUTH))


def wrong(name: str, cases: list[Case], points: dict) -> Iterator[dict]:
    """The table's rows for a set; points: for each kind, the points of every case."""
    eyes, mouths = np.array([case.eyes for case in cases]), np.array([case.mouth for case in cases])
    for kind, faces in points.items():
        called = {
            "eyes": (eyes, np.array([eye_openness(face) for face in faces]) >= EYES_CLOSED_BELOW),
            "mouth": (mouths, np.array([mouth_openness(face) for face in faces]) > MOUTH_OPEN_ABOVE),
        }
        for part, (truth, opened) in called.items():
            yield {
                "faces": name,
                "points": kind,
                "part": part,
                "closed": int((truth == 0).sum()),
                "called open, %": 100 * opened[truth == 0].mean(),
                "open": int((truth == 1).sum()),
                "called closed, %": 100 * (~opened[truth == 1]).mean(),
            }


def main() -> None:
    """Measure and write the table."""
    pipelines = {name: FacePipeline(name, lambda image: None, threads=1) for name in NETWORKS}
    rows = []
    for name, cases in {"drawn": list(drawn()), "300-W": list(photos())}.items():
        points = {"true": [case.keypoints for case in cases]} if name == "drawn" else {}
        for network, pipeline in pipelines.items():
            points[network] = [pipeline.keypoints(case.image, [tight_box(case.keypoints)])[0] for case in cases]
        rows += wrong(name, cases, points) if cases else []
    table = pd.DataFrame(rows).round(2)
    table.to_csv(RESULTS / "open_closed.csv", index=False)
    print(table.to_string())


if __name__ == "__main__":
    main()
