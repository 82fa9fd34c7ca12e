"""Torch networks for the library: wrapped for FacePipeline, or exported to ONNX files.

python -m training.export                    # saved_models/accurate.onnx and fast.onnx, which the library ships
python -m training.export mine.pt            # mine.onnx beside it
"""

import argparse
import io
import json
import os
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from facial_keypoints.images import DataError
from facial_keypoints.network import Expects, OnnxNetwork
from training.weights import load_model

SAVED_MODELS = Path(__file__).resolve().parent.parent / "saved_models"
OPSET = 17
AGREEMENT = 0.01  # pixels of the crop


class Located(nn.Module):
    """A network's points with their spread, (N, K, 3); NaN as the spread where the network does not estimate it."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, crops):
        if hasattr(self.model, "points_and_spread"):
            return self.model.points_and_spread(crops)
        points = self.model(crops)
        return torch.cat([points, torch.full_like(points[..., :1], float("nan"))], dim=2)


class TorchNetwork:
    """A torch network as the library's network.Network, on the device it is on: FacePipeline(TorchNetwork(model)).

    expects: needed only if the model has no `.expects` (run_recipe and load_model set it). Raises DataError if neither
    is given.
    """

    def __init__(self, model: nn.Module, expects: Expects | None = None):
        if not expects and not hasattr(model, "expects"):
            raise DataError(f"{type(model).__name__} does not say what it expects: TorchNetwork(model, expects)")
        self.model, self.expects = Located(model).eval(), expects or model.expects

    @torch.inference_mode()
    def locate(self, crops: np.ndarray) -> np.ndarray:  # (N, K, 3)
        """See network.Network."""
        device = next(self.model.parameters()).device
        return self.model(torch.from_numpy(np.ascontiguousarray(crops)).to(device)).float().cpu().numpy()


def traced(model: nn.Module, mode: torch.onnx.TrainingMode):
    """`Located` as an onnx.ModelProto: crops (N, C, size, size) in; mode: EVAL folds batch norm into the weights."""
    import onnx  # only needed here

    expects, file = model.expects, io.BytesIO()
    shape = (2, 3 if expects.color else 1, expects.size, expects.size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about torch's other exporter, and traced shapes, which are constant here
        torch.onnx.export(
            Located(model).eval(),
            (torch.zeros(shape, device=next(model.parameters()).device),),
            file,
            dynamo=False,
            opset_version=OPSET,
            input_names=["crops"],
            output_names=["located"],
            dynamic_axes={"crops": {0: "N"}, "located": {0: "N"}},
            training=mode,
        )
    return onnx.load_from_string(file.getvalue())


def onnx_model(model: nn.Module):
    """The network as an onnx.ModelProto, with `expects` in its metadata and weights in half precision where exact."""
    import onnx

    # Leaves folding batch norm to onnxruntime: folded weights would no longer be exact in half precision.
    exported = traced(model, torch.onnx.TrainingMode.PRESERVE)
    _store_halves(exported.graph)
    exported.metadata_props.add(key="expects", value=json.dumps(model.expects.to_dict()))
    onnx.checker.check_model(exported)
    return exported


def _store_halves(graph) -> None:
    """Store weights that half precision represents exactly (as in shipped files) in 16 bits; nothing is rounded."""
    from onnx import TensorProto, helper, numpy_helper

    for tensor in graph.initializer:
        weights = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = weights.astype(np.float16)
        if tensor.data_type == TensorProto.FLOAT and weights.ndim > 1 and (half == weights).all():
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
            graph.node.insert(0, helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))


def disagreement(model: nn.Module, path: Path) -> float:
    """The largest difference between torch's and onnxruntime's coordinates and spreads, in pixels of the crop.

    Over eight drawn faces, in one batch and one at a time.
    """
    from data_sets.drawn_faces import draw_face
    from facial_keypoints.geometry import tight_box
    from facial_keypoints.pipeline import FacePipeline

    network, reference = OnnxNetwork(path), TorchNetwork(model)
    pipeline = FacePipeline(network, detector=lambda image: ([], []))
    crops = np.stack([pipeline.crop(image, tight_box(points)) for image, points in map(draw_face, range(8))])
    expected = reference.locate(crops)
    single = np.concatenate([network.locate(crop[None]) for crop in crops])
    return float(np.nanmax(np.abs([network.locate(crops) - expected, single - expected]))) * model.expects.std


def export(model: nn.Module, path: Path) -> float:
    """Write a network with `.expects` to an ONNX file, atomically; returns its `disagreement` with torch.

    Raises DataError if that is more than AGREEMENT or the file cannot be written.
    """
    part = path.with_suffix(".part")
    try:
        part.write_bytes(onnx_model(model).SerializeToString())
        off = disagreement(model, part)
        if off > AGREEMENT:
            raise DataError(f"{path}: not written, onnxruntime's points are {off:.3f} px off torch's")
        os.replace(part, path)
    except OSError as error:
        raise DataError(f"{path}: could not be written ({error.strerror})") from None
    finally:
        part.unlink(missing_ok=True)
    return off


def main() -> None:
    """Export weights files to ONNX."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="*", default=["accurate", "fast"], help="names in saved_models/ or .pt files")
    for name in parser.parse_args().weights:
        weights = Path(name) if name.endswith(".pt") else SAVED_MODELS / f"{name}.pt"
        path = weights.with_suffix(".onnx")
        off = export(load_model(weights), path)
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, within {off:.5f} px of torch, single and in a batch")


if __name__ == "__main__":
    try:
        main()
    except DataError as error:
        raise SystemExit(str(error)) from None
