"""What the shipped networks lose in 8 bits: their error through ONNX Runtime in floats and in 8-bit integers.

    python -m benchmarks.int8        writes results/int8.csv; some minutes on one core

NME in percent in exact boxes, mirror averaging included for `accurate`, by the protocol of benchmarks/compare.py; on
turned heads (the pose set) in percent of sqrt(w h) and with the jaw of the head.
"""

import numpy as np
import pandas as pd

import metrics
from benchmarks.tables import RESULTS
from data_sets.find import find_data
from data_sets.pose_set import load_pose_set
from data_sets.splits import HeldOut, check_not_learned, real_splits
from facial_keypoints.network import OnnxNetwork, mirror_averaged
from facial_keypoints.pipeline import NETWORKS
from facial_keypoints.schemes import with_jaw_3d
from recipes import face_input
from train import SAVED_MODELS


def crops_of(test: HeldOut, network: OnnxNetwork) -> tuple[np.ndarray, np.ndarray]:
    """Crops (N, 1, size, size) in exact boxes and the true keypoints in them, normalised."""
    samples = list(test.crops(test.exact_boxes(), face_input(network.expects)))
    return tuple(np.stack([sample[key].numpy() for sample in samples]) for key in ("image", "keypoints"))


def nme(points: np.ndarray, true: np.ndarray) -> np.ndarray:
    """The NME (N,) of predictions (N, K, 3), as a fraction of the inter-ocular distance."""
    return metrics.nme(points[:, : true.shape[1], :2], true)


def nme_3d(points: np.ndarray, true: np.ndarray) -> np.ndarray:
    """The NME (N,) of predictions (N, 85, 3) with the jaw of the head, as a fraction of sqrt(w h)."""
    return metrics.distances(with_jaw_3d(points)[..., :2], true).mean(axis=1) / metrics.face_size(true)


def main() -> None:
    """Measure and write the table."""
    split, rows = real_splits(find_data())[0], []
    check_not_learned(split.tests["300-W"].groups)
    tests = {name: (test, nme) for name, test in split.tests.items()}
    if faces := load_pose_set():
        tests["turned heads"] = HeldOut((faces,), np.arange(len(faces))), nme_3d
    for name in NETWORKS:
        networks = [OnnxNetwork(SAVED_MODELS / f"{name}{kind}.onnx") for kind in ("", "-int8")]
        for test_name, (test, error) in tests.items():
            crops, true = crops_of(test, networks[0])
            answers = (mirror_averaged(network.locate, crops, network.expects) for network in networks)
            floats, int8 = (100 * float(error(points, true).mean()) for points in answers)
            row = {"network": name, "test": test_name, "floats, NME %": floats, "8 bits, NME %": int8}
            rows.append(row | {"more by %": 100 * (int8 / floats - 1)})
    table = pd.DataFrame(rows).round(3)
    table.to_csv(RESULTS / "int8.csv", index=False)
    print(table.to_string())


if __name__ == "__main__":
    main()
