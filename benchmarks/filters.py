"""How much filters sway when keypoints are noisy, and how long they take.

    python -m benchmarks.filters        writes results/filters.csv; seconds

The keypoints of the mean head, turned, get independent noise of 1 % of the eye distance. The sway is the standard
deviation of the filter's points, relative to that of the keypoints: below 1 it moves less than they do.
"""

import time

import cv2
import numpy as np
import pandas as pd

from benchmarks.tables import RESULTS
from facial_keypoints.face_3d import FACE_3D
from facial_keypoints.filters import WEARABLES, fastened, fastening, wear
from facial_keypoints.pose import DISTANCE, head_pose
from facial_keypoints.wearables import wearable

YAWS = (0, 30, 60)
EYES, NOISE, TIMES = 100.0, 1.0, 200  # pixels between the outer eye corners; of noise; repetitions
MIDDLE = (320, 240)


def keypoints_of(yaw: float) -> np.ndarray:  # (68, 2)
    """The mean head as a camera sees it, in the middle of a picture of 640x480."""
    turned = FACE_3D @ cv2.Rodrigues(np.radians([0.0, -yaw, 0.0]))[0].T
    return turned[:, :2] * (EYES * DISTANCE / (turned[:, 2:] + DISTANCE)) + MIDDLE


def places(name: str, keypoints: np.ndarray) -> np.ndarray:  # (P, 2)
    """Positions in the image of the points of a filter's surface when it is attached to keypoints (68, 2)."""
    pose, thing = head_pose(keypoints), wearable(name)
    matrix = fastening(pose, keypoints, thing)
    return np.concatenate([fastened(surface, pose, matrix)[..., :2].reshape(-1, 2) for _, surface in thing.parts])


def sway(name: str, yaw: float) -> float:
    """The standard deviation of a filter's points, relative to that of the keypoints."""
    rng = np.random.default_rng(0)
    noisy = [keypoints_of(yaw) + NOISE * rng.standard_normal((68, 2)) for _ in range(TIMES)]
    return float(np.sqrt(np.var([places(name, keypoints) for keypoints in noisy], axis=0).mean()) / NOISE)


def milliseconds(name: str) -> float:
    """CPU milliseconds for one face in a picture of 640x480, the best of five."""
    image, times = np.full((480, 640, 3), 128, np.uint8), []
    for _ in range(5):
        start = time.process_time()
        wear(image, keypoints_of(20), name)
        times.append(1e3 * (time.process_time() - start))
    return min(times)


def main() -> None:
    """Measure and write the table."""
    rows = []
    for name in WEARABLES:
        trembling = {f"sway at {yaw} degrees": sway(name, yaw) for yaw in YAWS}
        rows.append({"filter": name} | trembling | {"CPU ms a face": milliseconds(name)})
    table = pd.DataFrame(rows).round(2)
    table.to_csv(RESULTS / "filters.csv", index=False)
    print(table.to_string())


if __name__ == "__main__":
    main()
