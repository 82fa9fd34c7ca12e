"""Networks in 8-bit integers for the library: two to three times as fast on a CPU, from the same weights.

python -m training.quantize                  # saved_models/accurate-int8.onnx and fast-int8.onnx
python -m training.quantize mine.pt          # mine-int8.onnx beside it

Static quantisation by onnxruntime: activations in 8 bits, with ranges read off training faces (calibration), weights
in 7 bits with a scale for each channel. Processors without VNNI add pairs of products in 16 bits, where those of
8 x 8 bits can saturate and those of 8 x 7 bits cannot, so that every processor computes the same. The last
convolution, and the points and spreads that are read from its maps, stay in float.
"""

import argparse
import json
import logging
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from data_sets.find import find_data
from data_sets.splits import splits
from facial_keypoints.images import DataError
from facial_keypoints.network import FACES_AT_ONCE, Expects, OnnxNetwork
from recipes import face_input
from training.export import SAVED_MODELS, TorchNetwork, traced
from training.weights import load_model

FACES = 96  # to calibrate with, from the course's frames and from 300-W each


class Crops(CalibrationDataReader):
    """The calibration crops (N, C, size, size), in batches, as onnxruntime asks for them."""

    def __init__(self, crops: np.ndarray):
        self.batches = iter(np.array_split(crops, -(-len(crops) // FACES_AT_ONCE)))

    def get_next(self):
        batch = next(self.batches, None)
        return batch if batch is None else {"crops": batch}


def calibration_crops(expects: Expects, faces: int = FACES) -> np.ndarray:
    """Crops of training faces, evenly spaced over the course's frames and over 300-W."""
    transform, crops = face_input(expects), []
    for part in splits(find_data().path)[0].training:
        positions = np.linspace(0, len(part) - 1, min(faces, len(part))).astype(int)
        samples = part.subset(positions).with_transform(transform)
        crops += [samples[number]["image"].numpy() for number in range(len(samples))]
    return np.stack(crops)


def kept_in_float(graph) -> list[str]:
    """The names of an ONNX graph's nodes from the last convolution on, in the graph's order."""
    last = max(number for number, node in enumerate(graph.node) if node.op_type == "Conv")
    return [node.name for node in graph.node[last:]]


def quantize(model: nn.Module, path: Path, crops: np.ndarray) -> float:
    """Write a network with `.expects` to an ONNX file in 8 bits, atomically, calibrated on `crops`.

    Returns the mean distance of its points on the crops from those of `model`, in percent of the crop's side.
    Raises DataError if the file cannot be written.
    """
    import onnx  # only needed here

    with tempfile.TemporaryDirectory() as folder:
        floats, prepared, part = (Path(folder) / f"{name}.onnx" for name in ("floats", "prepared", "int8"))
        onnx.save(traced(model, torch.onnx.TrainingMode.EVAL), floats)
        quant_pre_process(floats, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            part,
            Crops(crops),
            per_channel=True,
            reduce_range=True,  # 7 bits
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=kept_in_float(onnx.load(prepared).graph),
        )
        result = onnx.load(part)
    result.metadata_props.add(key="expects", value=json.dumps(model.expects.to_dict()))
    try:
        part = path.with_suffix(".part")
        part.write_bytes(result.SerializeToString())
        os.replace(part, path)
    except OSError as error:
        raise DataError(f"{path}: could not be written ({error.strerror})") from None
    off = (OnnxNetwork(path).locate(crops) - TorchNetwork(model).locate(crops))[..., :2]
    return 100 * float(np.linalg.norm(off, axis=2).mean()) * model.expects.std / model.expects.size


def main() -> None:
    """Quantise weights files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="*", default=["accurate", "fast"], help="names in saved_models/ or .pt files")
    logging.disable(logging.WARNING)  # the quantiser's advice is followed here already
    for name in parser.parse_args().weights:
        weights = Path(name) if name.endswith(".pt") else SAVED_MODELS / f"{name}.pt"
        model, path = load_model(weights), weights.with_name(f"{weights.stem}-int8.onnx")
        off = quantize(model, path, calibration_crops(model.expects))
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, points on average {off:.2f} % of the crop from torch's")


if __name__ == "__main__":
    try:
        main()
    except DataError as error:
        raise SystemExit(str(error)) from None
