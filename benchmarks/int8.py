"""What the shipped networks lose in 8 bits: their error through ONNX Runtime in floats and in 8-bit integers.

    python -m benchmarks.int8        writes results/int8.csv; some minutes on one core

NME in percent in exact boxes, mirror averaging included for `accurate`, by the protocol of benchmarks/compare.py.
"""

import numpy as np
import pandas as pd

import metrics
from benchmarks.tables import RESULTS
from data_sets.find import find_data
from data_sets.splits import HeldOut, check_not_learned, real_splits
from facial_keypoints.network import OnnxNetwork, mirror_averaged
from facial_keypoints.pipeline import NETWORKS
from recipes import face_input
from train import SAVED_MODELS


def crops_of(test: HeldOut, network: OnnxNetwork) -> tuple[np.ndarray, np.ndarray]:
    """Crops (N, 1, size, size) in exact boxes and the true keypoints in them, normalised."""
    samples = list(test.crops(test.exact_boxes(), face_input(network.expects)))
    return tuple(np.stack([sample[key].numpy() for sample in samples]) for key in ("image", "keypoints"))


def error(network: OnnxNetwork, crops: np.ndarray, true: np.ndarray) -> float:
    """NME in percent."""
    points = mirror_averaged(network.locate, crops, network.expects)[:, : true.shape[1], :2]
    return 100 * float(metrics.nme(points, true).mean())


def main() -> None:
    """Measure and write the table."""
    split, rows = real_splits(find_data())[0], []
    check_not_learned(split)
    for name in NETWORKS:
        floats, int8 = (OnnxNetwork(SAVED_MODELS / f"{name}{kind}.onnx") for kind in ("", "-int8"))
        for test_name, test in split.tests.items():
            faces = crops_of(test, floats)
            errors = [error(network, *faces) for network in (floats, int8)]
            rows.append({"network": name, "test": test_name, "floats, NME %": errors[0], "8 bits, NME %": errors[1]})
            rows[-1]["more by %"] = 100 * (errors[1] / errors[0] - 1)
    table = pd.DataFrame(rows).round(3)
    table.to_csv(RESULTS / "int8.csv", index=False)
    print(table.to_string())


if __name__ == "__main__":
    main()
