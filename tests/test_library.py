"""The library as it is installed, and what its documentation promises."""

import ast
import io
import os
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from matplotlib.cbook import get_sample_data
from PIL import Image
from torch import nn

import facial_keypoints
from data_sets.drawn_faces import draw_face
from detector_architectures import DetectorError, haar
from facial_keypoints import FacePipeline, pipeline
from facial_keypoints.geometry import tight_box
from facial_keypoints.images import DataError, read_image
from facial_keypoints.network import FACES_AT_ONCE, Expects, OnnxNetwork
from facial_keypoints.pose import Pose
from facial_keypoints.schemes import Scheme
from facial_keypoints.wearables import PICTURES
from models import AccurateNet, FastNet, Net
from training.export import SAVED_MODELS, TorchNetwork, disagreement, export
from training.weights import load_model, save_model
from transfer.networks import TransferNet

ROOT = Path(__file__).resolve().parent.parent
NOT_FOR_THE_LIBRARY = ("torch", "torchvision", "matplotlib", "pandas", "scipy", "skimage", "onnx")


@pytest.fixture(scope="module")
def hopper():
    return read_image(get_sample_data("grace_hopper.jpg", asfileobj=False))


@pytest.fixture(scope="module")
def photos(hopper):
    """Two portraits, a picture without a face, and a portrait beside its mirror image."""
    astronaut = skimage.data.astronaut()
    return [astronaut, hopper, np.full((80, 90, 3), 127, np.uint8), np.hstack([astronaut, astronaut[:, ::-1]])]


@pytest.fixture(scope="module")
def fast():
    return FacePipeline("fast")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    return next(folder.glob("*.whl"))


def same_faces(some, others, pixels=1e-3):
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        np.testing.assert_allclose(one.keypoints, other.keypoints, atol=pixels)
        np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-4)
        assert one.score == other.score


# ---- the package


def test_the_wheel_is_small_and_has_weights_card_licence_artwork_and_types(wheel):
    assert wheel.stat().st_size < 12e6 and f"-{facial_keypoints.__version__}-" in wheel.name
    names = zipfile.ZipFile(wheel).namelist()
    weights = {
        f"weights/{name}"
        for name in ("accurate.onnx", "accurate-int8.onnx", "fast.onnx", "fast-int8.onnx", "README.md")
    }
    artwork = {f"artwork/{name}.png" for name in PICTURES}
    assert {f"facial_keypoints/{name}" for name in weights | artwork | {"py.typed", "pipeline.py"}} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"facial_keypoints", "detector_architectures"}


def test_the_wheel_works_from_another_folder_without_torch_and_the_research_packages(wheel, photos, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    Image.fromarray(photos[0]).save(tmp_path / "astronaut.png")
    script = f"""
import sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {NOT_FOR_THE_LIBRARY}:
            raise ImportError(name + " is not for the library")

sys.meta_path.insert(0, Refused())
import facial_keypoints
from facial_keypoints.filters import wear
assert "onnxruntime" not in sys.modules, "importing the package is quick"
(face,) = facial_keypoints.FacePipeline(detector="haar")("astronaut.png")
wear(facial_keypoints.read_image("astronaut.png"), face.keypoints, "hat")
print(facial_keypoints.__file__, *face.keypoints[30].round(), abs(face.pose.yaw) < 10)
"""
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    settings = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-c", script], **settings)
    assert done.stderr == "" and done.stdout.split()[1:] == ["225.0", "127.0", "True"]
    assert done.stdout.startswith(str(tmp_path / "site"))
    command = [sys.executable, "-m", "facial_keypoints", "--detector", "haar", "astronaut.png"]
    done = subprocess.run(command, **settings)
    assert done.stdout == "1 picture read; 1 face in 1 of them; results in keypoints\n" and done.stderr == ""
    assert (tmp_path / "keypoints" / "astronaut_keypoints.png").is_file()


def test_the_library_imports_only_its_own_dependencies():
    allowed = {"facial_keypoints", "detector_architectures", "numpy", "cv2", "PIL", "onnxruntime"}
    allowed |= {"platformdirs", "tqdm", "av"}  # av with the extra `video`
    allowed |= {"ray", "pyarrow", "fsspec", "gradio"}  # with the extras `bulk` and `demo`
    for path in [*ROOT.glob("facial_keypoints/*.py"), *ROOT.glob("detector_architectures/*.py")]:
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
        names += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
        imported = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)
        assert imported <= allowed, path


# ---- pictures in, faces out


def test_a_list_of_pictures_gives_a_list_of_the_results_for_each(fast, photos, tmp_path):
    Image.fromarray(photos[0]).save(tmp_path / "photo.png")
    pictures = [*photos, tmp_path / "photo.png", Image.fromarray(photos[1])]
    together = fast(pictures)
    assert [len(faces) for faces in together] == [1, 1, 0, 2, 1, 1]
    for faces, picture in zip(together, pictures, strict=True):
        same_faces(faces, fast(picture))
    assert fast([]) == [] and fast(()) == []


def test_photos_of_a_long_list_are_not_all_in_memory_at_once(photos, monkeypatch):
    events, network = [], OnnxNetwork(SAVED_MODELS / "fast.onnx")

    class Watched:
        expects = network.expects

        def locate(self, crops):
            events.append(len(crops))
            return network.locate(crops)

    def detector(image):
        events.append("photo")
        return [[175, 70, 100, 95]], [1.0]

    watched = FacePipeline(Watched(), detector)
    watched([photos[0]] * 20)
    batch = ["photo"] * FACES_AT_ONCE + [FACES_AT_ONCE] * 2
    assert events == batch + ["photo"] * 4 + [4, 4], "faces share a batch, a batch at a time"
    events.clear()
    monkeypatch.setattr(pipeline, "GROUP_MEGABYTES", 1.0)
    watched([photos[0]] * 4)
    assert events == ["photo", "photo", 2, 2] * 2, "two of these photos are more than a megabyte"


def test_the_most_certain_face_comes_first_and_its_box_is_the_tight_one(fast, photos):
    one, other = fast(photos[3])
    assert one.confidence.mean() > other.confidence.mean() and one.certainty == pytest.approx(one.confidence.mean())
    for face in (one, other):
        np.testing.assert_array_equal(face.box, tight_box(face.keypoints))
        assert face.keypoints.dtype == face.confidence.dtype == np.float32
        assert isinstance(face.pose, Pose) and face.score > 0


def test_one_pipeline_gives_several_threads_the_same_results(fast, photos):
    alone = [fast(photo) for photo in photos]
    with ThreadPoolExecutor(8) as pool:
        for faces, expected in zip(pool.map(fast, photos * 3), alone * 3, strict=True):
            same_faces(faces, expected)


class Corners:
    """A network that predicts the corners of the box, with a small spread; `asked` lists the batch sizes."""

    expects = Expects(size=30, mean=-0.5, std=30.0, scheme=Scheme("corners", 2, mirror=(1, 0)))

    def __init__(self, **expects):
        self.expects, self.asked = replace(self.expects, **expects), []

    def locate(self, crops):
        self.asked.append(len(crops))
        return np.tile(np.array([(1 / 6, 1 / 6, 0.001), (5 / 6, 5 / 6, 0.001)], np.float32), (len(crops), 1, 1))


def test_other_schemes_have_no_pose_and_the_box_of_their_points():
    found = FacePipeline(Corners(), lambda image: ([[10, 20, 30, 30]], [1.0]))(np.zeros((99, 99, 3), np.uint8))
    assert found[0].pose is None and found[0].confidence.min() > 0.99
    np.testing.assert_allclose(found[0].keypoints, [(10, 20), (40, 50)], atol=1e-3)
    np.testing.assert_allclose(found[0].box, [10, 20, 30, 30], atol=1e-3)


def test_only_the_second_look_is_mirror_averaged(photos):
    network = Corners(mirror_shift=0)
    detected = FacePipeline(network, lambda image: ([[10, 20, 30, 30]] * 2, [1.0, 1.0]))
    detected(photos[0])
    assert network.asked == [2, 2, 2]
    detected.keypoints(photos[0], [[10, 20, 30, 30]])
    assert network.asked == [2, 2, 2, 1, 1]


# ---- networks


@pytest.mark.parametrize("name", ["accurate", "fast"])
def test_the_shipped_onnx_and_torch_files_are_the_same_networks(name):
    model = load_model(SAVED_MODELS / f"{name}.pt")
    network = OnnxNetwork(SAVED_MODELS / f"{name}.onnx")
    assert network.expects == model.expects and network.expects.mirror_shift == model.mirror_shift
    assert disagreement(model, SAVED_MODELS / f"{name}.onnx") < 0.01, "on drawn faces"
    crop = FacePipeline(network, lambda image: ([], [])).crop
    crops = np.stack([crop(skimage.data.astronaut(), (165 + off, 80 + off, 110, 110)) for off in (-8, 0, 8)])
    single = np.concatenate([network.locate(face[None]) for face in crops])
    for found in (network.locate(crops), single):
        off = (found - TorchNetwork(model).locate(crops)) * network.expects.std
        assert np.abs(off).max() < 0.01, "pixels, on a real face"


def other_networks():
    torch.manual_seed(0)
    sure = AccurateNet(98)
    sure.expects = Expects(64, 0.25, -0.5, 64.0, scheme=Scheme("98", 98), mirror_shift=2)
    points = Net()
    points.expects = Expects()
    return {"98 points, no mirror table": sure, "points without spread": points, "colour": TransferNet(size=64)}


@pytest.mark.parametrize("name", ["98 points, no mirror table", "points without spread", "colour"])
def test_a_network_predicts_the_same_through_torch_and_onnx(name, tmp_path):
    model = other_networks()[name]
    assert export(model, tmp_path / "net.onnx") < 0.01
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
    image, points = draw_face(3)
    first, second = (
        FacePipeline(network, lambda image: ([tight_box(points)], [1.0]), min_confidence=0.0)
        for network in (tmp_path / "net.onnx", TorchNetwork(model))
    )
    assert first.network.expects == model.expects
    (one,), (other,) = first(image), second(image)
    np.testing.assert_allclose(one.keypoints, other.keypoints, atol=0.02)
    assert one.keypoints.shape == (model.num_keypoints, 2)
    assert (one.confidence is None) == (other.confidence is None) == (name != "98 points, no mirror table")


def test_half_precision_weights_halve_the_file_and_others_are_not_rounded(tmp_path):
    torch.manual_seed(0)
    model = FastNet()
    save_model(model, tmp_path / "half.pt", Expects(64, 0.25, -0.5, 64.0), torch.float16)
    half = load_model(tmp_path / "half.pt")
    model.expects = half.expects
    assert export(half, tmp_path / "half.onnx") < 1e-3 and export(model, tmp_path / "full.onnx") < 1e-3
    assert (tmp_path / "half.onnx").stat().st_size < 0.55 * (tmp_path / "full.onnx").stat().st_size


def test_an_export_that_disagrees_with_torch_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("training.export.disagreement", lambda *_: 0.5)
    with pytest.raises(DataError, match="net.onnx: not written, onnxruntime's points are 0.500 px off torch's"):
        export(other_networks()["points without spread"], tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


# ---- a user's mistakes, one sentence each


def foreign_onnx(path):
    torch.onnx.export(nn.Linear(2, 2), (torch.zeros(1, 2),), path, dynamo=False)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (None, "no such weights file"),
        (lambda path: path.write_bytes(b""), "not an ONNX file that onnxruntime .* can run"),
        (lambda path: path.write_bytes(b"no weights"), "not an ONNX file that onnxruntime .* can run"),
        (lambda path: path.write_bytes((SAVED_MODELS / "fast.onnx").read_bytes()[:100_000]), "not an ONNX file"),
        (foreign_onnx, "does not say what it expects"),
    ],
)
def test_a_bad_onnx_file_is_one_sentence(write, sentence, tmp_path):
    path = tmp_path / "net.onnx"
    if write:
        write(path)
    with pytest.raises(DataError, match=f"net.onnx: {sentence}") as caught:
        FacePipeline(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"network": "saved_models/fast.pt"}, "`python -m training.export saved_models/fast.pt` makes the file"),
        ({"network": "slow"}, "slow: no such weights file"),
        ({"network": FastNet()}, r"training.export.TorchNetwork\(model\)"),
        ({"detector": "eyes"}, "detector 'eyes': expected yunet, haar or a callable"),
        ({"device": "tpu"}, 'device "tpu": expected "cpu" or "cuda"'),
    ],
)
def test_a_wrong_argument_is_one_sentence(arguments, sentence):
    with pytest.raises(DataError, match=sentence):
        FacePipeline(**arguments)


def test_a_missing_gpu_is_one_sentence():
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("there is one")
    with pytest.raises(DataError, match="it needs an NVIDIA GPU and the package onnxruntime-gpu"):
        FacePipeline("fast", device="cuda")


@pytest.mark.parametrize("device, file", [("cpu", "fast-int8.onnx"), ("cuda", "fast.onnx")])
def test_the_shipped_networks_run_in_8_bits_on_a_cpu_and_in_floats_on_a_gpu(device, file, monkeypatch):
    monkeypatch.setattr("facial_keypoints.pipeline.OnnxNetwork", lambda path, *rest: (path.name, *rest))
    assert pipeline.load_network("fast", device, 3) == (file, device, 3)


def test_a_torch_network_must_say_what_it_expects():
    with pytest.raises(DataError, match="FastNet does not say what it expects"):
        TorchNetwork(FastNet())
    assert TorchNetwork(FastNet(), Expects(size=64)).expects.size == 64


def test_the_error_for_a_bad_weights_file_does_not_suggest_loading_it_unsafely(tmp_path):
    torch.save({"network": Path("not plain weights")}, tmp_path / "bad.pt")
    with pytest.raises(DataError, match="bad.pt: not a weights file of this project") as caught:
        load_model(tmp_path / "bad.pt")
    assert "weights_only" not in str(caught.value) and "can still be loaded" not in str(caught.value)


def test_pillows_guard_against_huge_pictures_stays_as_it_was(tmp_path):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "small.png")
    before = Image.MAX_IMAGE_PIXELS
    assert before == int(1024 * 1024 * 1024 // 4 // 3), "Pillow's own"
    read_image(tmp_path / "small.png")
    with pytest.raises(DataError):
        read_image(tmp_path / "none.png")
    assert before == Image.MAX_IMAGE_PIXELS
    huge = io.BytesIO()
    Image.new("1", (20_000, 10_000)).save(huge, "PNG")
    with pytest.raises(Image.DecompressionBombError):
        Image.open(huge)


# ---- Haar's cascades


@pytest.fixture
def cascades(tmp_path, monkeypatch):
    """A folder with a non-ASCII name that holds OpenCV's cascades, none of them loaded yet."""
    folder = tmp_path / "Bücher 顔"
    folder.mkdir()
    for name in ("frontalface_default", "eye"):
        path = Path(cv2.data.haarcascades) / f"haarcascade_{name}.xml"
        (folder / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(cv2.data, "haarcascades", str(folder))
    monkeypatch.setattr(haar, "_loaded", haar._Loaded())
    return folder


def test_cascades_are_read_from_a_folder_with_a_non_ascii_name(cascades, photos, monkeypatch):
    empty = cv2.CascadeClassifier
    monkeypatch.setattr(cv2, "CascadeClassifier", lambda: empty())  # takes no path: on Windows none would be found
    boxes, _ = haar.HaarDetector(attempts=haar.ATTEMPTS[:1])(photos[0])
    assert len(boxes) == 1


NO_CASCADE = b"<?xml version='1.0'?><opencv_storage></opencv_storage>"


@pytest.mark.parametrize("content", [None, b"", b"no XML", NO_CASCADE, b"\xff"])
def test_an_unreadable_cascade_is_one_sentence(content, cascades):
    path = cascades / "haarcascade_frontalface_default.xml"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(DetectorError, match="haarcascade_frontalface_default.xml: not a readable cascade"):
        haar.HaarDetector()


def test_a_cascade_is_read_once_per_thread_and_not_shared(cascades, monkeypatch):
    reads = []
    monkeypatch.setattr(haar, "load_cascade", lambda name: reads.append(name) or object())
    first = haar.own_cascade("eye")
    assert haar.own_cascade("eye") is first and reads == ["eye"]
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(haar.own_cascade, "eye").result() is not first
    assert reads == ["eye", "eye"]
