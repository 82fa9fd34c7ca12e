"""Networks in 8 bits: the shipped ones, and one that was just made."""

import numpy as np
import onnx
import pytest
import skimage.data
import torch
from onnx import numpy_helper

from data_sets.drawn_faces import draw_face
from facial_keypoints.geometry import tight_box
from facial_keypoints.images import DataError
from facial_keypoints.network import OnnxNetwork
from facial_keypoints.pipeline import FacePipeline, load_network
from models import FastNet
from recipes import TWO_JAWS_OF_160
from training.export import SAVED_MODELS, TorchNetwork
from training.quantize import calibration_crops, quantize
from training.weights import load_model

NAMES = ("accurate", "fast")
ASTRONAUT = np.array([165, 80, 110, 110])  # a box about her face, x, y, w, h


def faces(expects) -> np.ndarray:
    """Crops of a real face in several boxes, and of drawn faces that were not used for calibration."""
    pipeline = FacePipeline(OnnxNetwork(SAVED_MODELS / "fast.onnx"), lambda image: ([], []))
    assert pipeline.network.expects.size == expects.size
    real = [pipeline.crop(skimage.data.astronaut(), box) for box in ASTRONAUT + 8 * np.arange(-3, 4)[:, None]]
    drawn = [pipeline.crop(image, tight_box(points)) for image, points in map(draw_face, range(40, 50))]
    return np.stack(real + drawn)


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_networks_predict_what_torch_does(name):
    model, network = load_model(SAVED_MODELS / f"{name}.pt"), OnnxNetwork(SAVED_MODELS / f"{name}-int8.onnx")
    assert network.expects == model.expects
    crops = faces(model.expects)
    off = network.locate(crops) - TorchNetwork(model).locate(crops)
    assert np.linalg.norm(off[..., :2], axis=2).mean() < 0.005  # of the crop's side
    np.testing.assert_allclose(network.locate(crops[:1]), network.locate(crops)[:1], atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_library_runs_8_bits_on_a_cpu(name):
    crops = faces(load_network(name).expects)[:2]
    expected = {kind: OnnxNetwork(SAVED_MODELS / f"{name}{kind}.onnx").locate(crops) for kind in ("", "-int8")}
    found = load_network(name).locate(crops)
    np.testing.assert_allclose(found, expected["-int8"], atol=1e-6)
    assert np.abs(found - expected[""]).max() > 1e-5


def weights_of(path) -> list[np.ndarray]:
    """The 8-bit weights of an ONNX file."""
    tensors = [numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer]
    return [tensor for tensor in tensors if tensor.dtype == np.int8 and tensor.ndim == 4]


@pytest.mark.parametrize("name", NAMES)
def test_sums_of_two_products_of_weights_and_activations_fit_into_16_bits(name):
    weights = weights_of(SAVED_MODELS / f"{name}-int8.onnx")
    assert len(weights) == 18  # all convolutions but the last
    assert 2 * 255 * max(np.abs(tensor.astype(int)).max() for tensor in weights) < 2**15


def test_any_network_can_be_quantised(tmp_path):
    torch.manual_seed(0)
    model = FastNet(85).eval()
    model.expects = TWO_JAWS_OF_160
    off = quantize(model, tmp_path / "net-int8.onnx", calibration_crops(model.expects, faces=8))
    assert off < 1 and [path.name for path in tmp_path.iterdir()] == ["net-int8.onnx"]
    assert OnnxNetwork(tmp_path / "net-int8.onnx").expects == model.expects
    with pytest.raises(DataError, match="net-int8.onnx: could not be written"):
        quantize(model, tmp_path / "no folder" / "net-int8.onnx", faces(model.expects)[:2])
