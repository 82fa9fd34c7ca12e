import http.server
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import nn
from torchvision import models

import metrics
import visualize
from data_load import person_split
from data_sets.course import course_data
from data_sets.face_cuts import FaceCuts
from data_sets.ibug_300w import IbugFaces, drawn_xml
from facial_keypoints.network import Expects, mirror_averaged
from facial_keypoints.pipeline import FacePipeline
from facial_keypoints.schemes import IBUG_68, Scheme
from heatmaps import gaussian_heatmaps, hard_argmax, soft_argmax
from models import count_parameters
from training.export import TorchNetwork
from training.losses import HeatmapLoss
from transfer import experiments as transfer
from transfer import networks as transfer_models
from transfer.experiments import (
    MIRROR_ALL,
    errors,
    face_input,
    jittered,
    milliseconds_per_face,
    predict_in_photos,
    train,
    turn_photo,
)
from transfer.networks import HeatmapUNet, TransferNet, face_crop, imagenet_weights, with_mirror_image
from transforms import RandomAffine


@pytest.fixture(scope="module")
def faces(drawn):
    return FaceCuts(IbugFaces(drawn_xml(drawn)), size=150)


def test_the_last_layer_of_a_resnet_becomes_two_fresh_ones():
    for name, body in (("resnet18", 11_176_512), ("resnet34", 21_284_672)):
        net = TransferNet(name)
        layers = [(fc.in_features, fc.out_features) for fc in net.modules() if isinstance(fc, nn.Linear)]
        assert layers == [(512, 256), (256, 136)]
        # by hand: torchvision's network without its 513 * 1000 numbers of fc, then 513 * 256 + 257 * 136
        assert count_parameters(net) == body + 131_328 + 34_952
        assert sum(p.numel() for p in getattr(models, name)().parameters()) == body + 513_000
    assert net.eval()(torch.rand(2, 3, 96, 96)).shape == (2, 68, 2)


def test_given_weights_reach_both_networks():
    torch.manual_seed(0)
    weights = models.resnet18().state_dict()
    for first in (TransferNet(weights=weights).resnet.conv1, HeatmapUNet(weights=weights).unet.encoder.conv1):
        torch.testing.assert_close(first.weight, weights["conv1.weight"])
    assert "fc.weight" in weights


def test_input_is_normalised_as_imagenet_was():
    shown = transfer_models.ImageNetInput()(torch.full((1, 3, 2, 2), 0.5))
    torch.testing.assert_close(shown[0, :, 0, 0], torch.tensor([0.015 / 0.229, 0.044 / 0.224, 0.094 / 0.225]))


def test_the_unet_gives_maps_in_training_and_points_afterwards():
    net, images = HeatmapUNet(size=64), torch.rand(2, 3, 64, 64)
    assert net.train()(images).shape == (2, 68, 16, 16)
    points = net.eval()(images)
    assert points.shape == (2, 68, 2) and points.min() > 0 and points.max() < 1
    torch.testing.assert_close(points, soft_argmax(net.heatmaps(images)))
    net.decode = hard_argmax
    torch.testing.assert_close(net(images), hard_argmax(net.heatmaps(images)))


def test_the_unet_has_the_parameters_of_its_layers():
    def step(inputs, outputs):  # two 3x3 convolutions without bias, each with batch norm
        return 9 * inputs * outputs + 9 * outputs * outputs + 4 * outputs

    decoder = step(512 + 256, 128) + step(128 + 128, 96) + step(96 + 64, 64)
    assert count_parameters(HeatmapUNet()) == 11_176_512 + decoder + 65 * 68


def test_averaging_with_the_mirror_image_answers_alike_for_both():
    torch.manual_seed(0)
    once = TransferNet(size=64)
    net, images = with_mirror_image(once), np.random.default_rng(0).random((2, 3, 64, 64), np.float32)

    def ask(pictures):
        return mirror_averaged(TorchNetwork(net).locate, pictures, net.expects)[..., :2]

    np.testing.assert_allclose(IBUG_68.swap_sides(ask(images[..., ::-1])) * [-1, 1] + [1, 0], ask(images), atol=1e-5)
    assert once.expects.mirror_shift is None and net.resnet is once.resnet


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path


def serve(answer):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answer(self)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def broken(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"half")


def whole(handler):
    handler.send_response(200)
    handler.end_headers()
    torch.save(TransferNet().resnet.state_dict(), handler.wfile)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (broken, "what 127.0.0.1:PORT sent is not the published file"),
        (whole, "what 127.0.0.1:PORT sent is not the published file"),
        (lambda handler: handler.send_error(404), "127.0.0.1:PORT answers 404 Not Found"),
        (None, "127.0.0.1:PORT cannot be reached"),
    ],
)
def test_weights_that_cannot_be_had_are_one_line_and_leave_nothing(answer, reason, cache, monkeypatch, capfd):
    server = serve(answer) if answer else None
    port = server.server_port if server else 9  # nothing listens on the discard port
    weights = transfer_models.RESNETS["resnet18"][1]
    monkeypatch.setattr(type(weights), "url", property(lambda _: f"http://127.0.0.1:{port}/resnet18-f37072fd.pth"))
    found, about = imagenet_weights("resnet18")
    if server:
        server.shutdown()
        server.server_close()
    reason = reason.replace("PORT", str(port))
    assert found is None and about == f"resnet18: no ImageNet weights, since {reason}"
    assert [path for path in cache.rglob("*") if path.is_file()] == []
    assert capfd.readouterr() == ("", "")


def test_a_full_disk_is_not_taken_for_a_missing_network(cache, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch.hub, "download_url_to_file", full)
    assert "could not be stored ([Errno 28] No space left on device)" in imagenet_weights("resnet18")[1]


def test_weights_that_could_not_be_had_are_asked_for_again(cache, monkeypatch):
    network, weights = TransferNet().resnet, transfer_models.RESNETS["resnet18"][1]
    monkeypatch.setattr(type(weights), "url", property(lambda _: "http://127.0.0.1:9/resnet18-f37072fd.pth"))
    assert imagenet_weights("resnet18")[0] is None
    (cache / "hub" / "checkpoints").mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), cache / "hub" / "checkpoints" / "resnet18-f37072fd.pth")
    found, about = imagenet_weights("resnet18")
    assert about == "resnet18: ImageNet weights" and found.keys() == network.state_dict().keys()


def test_gaussians_sum_to_one_wherever_the_point_is():
    points = torch.tensor([[[0.5, 0.5], [0.02, 0.9], [1.3, -0.2]]])
    maps = gaussian_heatmaps(points, 64, 1.5)
    assert maps.shape == (1, 3, 64, 64)
    torch.testing.assert_close(maps.sum(dim=(2, 3)), torch.ones(1, 3))


def test_a_gaussian_has_its_width_and_place():
    # cell (20, 33) has its centre at (20.5, 33.5) / 64; one sigma away the value falls by exp(-1/2)
    heat = gaussian_heatmaps(torch.tensor([[[20.5 / 64, 33.5 / 64]]]), 64, 2.0)[0, 0]
    assert divmod(heat.argmax().item(), 64) == (33, 20)
    assert heat[33, 22] / heat[33, 20] == pytest.approx(np.exp(-0.5), rel=1e-4)
    assert heat[37, 20] / heat[33, 20] == pytest.approx(np.exp(-2), rel=1e-4)


@pytest.mark.parametrize("size, sigma", [(32, 1.0), (64, 1.5)])
def test_soft_argmax_finds_the_centre_of_a_gaussian_and_argmax_its_cell(size, sigma):
    points = torch.rand(8, 68, 2, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
    scores = gaussian_heatmaps(points, size, sigma).clamp_min(1e-30).log()
    assert (size * (soft_argmax(scores) - points)).abs().max() < 0.05
    off = size * (hard_argmax(scores) - points).abs()
    assert off.max() <= 0.5 + 1e-4 and off.mean() == pytest.approx(0.25, abs=0.02)


def test_the_loss_is_the_divergence_and_least_at_the_target():
    points = torch.rand(2, 68, 2, generator=torch.Generator().manual_seed(1)) * 0.6 + 0.2
    scores = gaussian_heatmaps(points, 32, 1.5).clamp_min(1e-30).log()
    loss = HeatmapLoss(sigma=1.5, points_weight=10)
    assert loss(scores, points) == pytest.approx(0, abs=1e-3)
    assert loss(scores, points) < loss(scores, points + 0.02) < loss(scores, points + 0.1)
    # Two Gaussians of one sigma, d cells apart in x: the divergence is d^2 / (2 sigma^2), by hand
    moved = HeatmapLoss(sigma=1.5)(scores, points + torch.tensor([3 / 32, 0.0]))
    assert moved == pytest.approx(9 / 4.5, rel=5e-3)
    assert loss(points, points + 0.25) == pytest.approx(0.25)


def test_mirroring_a_crop_renames_left_and_right(faces):
    expects = face_crop(64)
    plain, mirrored = (
        faces.with_transform(face_input(expects))[0],
        faces.with_transform(face_input(expects, MIRROR_ALL))[0],
    )
    expected = IBUG_68.swap_sides(plain["keypoints"]) * torch.tensor([-1.0, 1]) + torch.tensor([1.0, 0])
    torch.testing.assert_close(mirrored["keypoints"], expected, atol=1e-4, rtol=0)
    assert (mirrored["image"] - plain["image"].flip(2)).abs().max() < 0.02


def test_a_crop_is_one_and_a_half_boxes_in_colour(faces):
    sample = faces.with_transform(face_input(face_crop(96)))[3]
    assert sample["image"].shape == (3, 96, 96) and sample["image"].max() <= 1
    low, high = sample["keypoints"].min(dim=0).values, sample["keypoints"].max(dim=0).values
    assert (high - low).max() == pytest.approx(1 / 1.5, abs=1e-3)  # the tight box, as a fraction of the crop
    torch.testing.assert_close((low + high) / 2, torch.full((2,), 0.5), atol=1e-3, rtol=0)


class Truth(nn.Module):
    """Answers with what it is told, in order."""

    def __init__(self, answers):
        super().__init__()
        self.expects, self.num_keypoints, self.answers = face_crop(96), 68, list(answers)
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        return torch.stack([self.answers.pop(0) for _ in images])


def test_right_answers_are_right_in_the_photos_and_each_measure_is_its_formula(faces):
    part = faces.subset([2, 5, 11])
    crops = part.with_transform(face_input(face_crop(96)))
    points = predict_in_photos(Truth(crops[i]["keypoints"] for i in range(3)), part)
    np.testing.assert_allclose(points, faces.photo_keypoints[[2, 5, 11]], atol=1e-2)
    moved = faces.photo_keypoints[[2, 5, 11]] + np.array([3, 0], np.float32)
    row = errors(moved, part)
    widths = faces.photo_boxes[[2, 5, 11], 2]
    assert row["sum of |dx|+|dy|, boxes"] == pytest.approx(np.mean(68 * 3 / (1.5 * widths)), rel=1e-3)
    assert row["mean |d|, photo pixels"] == pytest.approx(1.5, rel=1e-3)
    assert row["NME %"] == pytest.approx(100 * metrics.nme(moved, faces.photo_keypoints[[2, 5, 11]]).mean())
    assert row["NME %, labels as published"] == row["NME %"]  # drawn faces have no shift


def test_jittered_boxes_are_wrong_and_answers_still_come_out_in_the_photo(faces):
    other = jittered(faces)
    off = (other.photo_boxes - faces.photo_boxes) / faces.photo_boxes[:, [2, 3, 2, 3]]
    assert 0.02 < np.abs(off).mean() < 0.12 and off.std() < 0.15
    np.testing.assert_array_equal(other.photo_boxes, jittered(faces).photo_boxes)
    crops = other.with_transform(face_input(face_crop(96)))
    points = predict_in_photos(Truth(crop["keypoints"] for crop in [crops[i] for i in range(len(crops))]), other)
    np.testing.assert_allclose(points, faces.photo_keypoints, atol=0.01)


def test_box_error_is_worked_out_by_hand():
    true, boxes = np.zeros((1, 68, 2)), np.array([[0, 0, 20.0, 40.0]])
    # every point 3 right and 6 down, the enlarged box is 30 x 60: 68 (3 / 30 + 6 / 60)
    assert metrics.box_error(true + [3, 6], true, boxes) == pytest.approx([13.6])
    assert metrics.mae(true + [3, 6], true) == pytest.approx(4.5)


def test_a_colour_network_runs_behind_the_pipeline():
    model = TransferNet(size=64).eval()
    assert model.expects == Expects(64, 0.25, -0.5, 64.0, color=True)
    image, box = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8), np.array([40, 30, 60, 60])
    found = FacePipeline(TorchNetwork(model), lambda image: (np.empty((0, 4)), [])).keypoints(image, [box])
    sample = {"image": image, "keypoints": np.zeros((68, 2), np.float32), "box": box}
    with torch.inference_mode():
        answer = model(face_input(model.expects)(sample)["image"][None])[0].numpy()
    np.testing.assert_allclose(found[0], answer * 90 + [70 - 45, 60 - 45], atol=0.02)


@pytest.mark.parametrize("model, loss", [(TransferNet, "l1"), (HeatmapUNet, HeatmapLoss(1.0, 10.0))])
def test_training_lowers_the_loss_of_both_kinds_of_network(faces, model, loss):
    torch.manual_seed(0)
    kept, held_out = person_split(faces.photos)
    training, validation = faces.subset(kept[:8]), faces.subset(held_out[:2])
    settings = {"loss": loss, "lr": 1e-3, "epochs": 3, "batch_size": 8}
    history = train(model(size=32), training, validation, RandomAffine(rotation=5), **settings)
    assert history["training loss"].iloc[-1] < history["training loss"].iloc[0]


def test_a_face_takes_its_time():
    assert 0 < milliseconds_per_face(TransferNet(size=32), repeats=2) < 10_000


def test_turned_faces_keep_their_boxes():
    class WholeBox:
        """Answers with the corners of the box that the crop was cut out for: not a face, and without tilt."""

        expects = replace(face_crop(32), scheme=Scheme("corners", 68))

        def locate(self, crops):
            corners = np.array([(1 / 6, 1 / 6, np.nan), (5 / 6, 5 / 6, np.nan)], np.float32)
            return np.tile(np.repeat(corners, 34, axis=0), (len(crops), 1, 1))

    photo, box = np.zeros((100, 200, 3), np.uint8), np.array([[50.0, 30, 40, 40]])
    pipeline = FacePipeline(WholeBox(), lambda image: (box, [2.0]))
    picture, (turned,) = turn_photo(pipeline, photo, 180)  # the lower right corner becomes the upper left one
    np.testing.assert_allclose(turned.box, [199 - 90, 99 - 70, 40, 40], atol=0.01)
    assert picture.shape == photo.shape and turned.keypoints.shape == (68, 2)
    assert turn_photo(FacePipeline(WholeBox(), lambda image: (np.empty((0, 4)), [])), photo, 20)[1] == []


def test_a_heatmap_is_bright_where_its_point_is():
    heat = gaussian_heatmaps(torch.tensor([[[0.75, 0.25]]]), 32, 1.5)[0, 0]
    figure = visualize.show_heatmaps([np.zeros((64, 64, 3), np.uint8)], [heat], ["one"], columns=1)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    shown = np.asarray(canvas.buffer_rgba())[..., :3].sum(axis=2).astype(int)
    ax = figure.axes[0]
    at, away = (
        ax.transData.transform(np.array(part) * 64 - 0.5).round().astype(int) for part in ((0.75, 0.25), (0.25, 0.75))
    )
    assert shown[-at[1], at[0]] > 500 and shown[-away[1], away[0]] < 50


@pytest.mark.parametrize(
    ("name", "settings"),
    [("resnet18", transfer.RESNET), ("resnet34", transfer.RESNET | transfer.AUGMENTED), ("unet", transfer.BEST)],
)
def test_every_network_of_the_notebook_trains_and_answers(name, settings, faces):
    few = faces.subset(range(4))
    model = transfer.build(name, size=64)
    history = transfer.train(model, few, few, epochs=1, **settings)
    assert len(history) == 1 and predict_in_photos(model, few).shape == (4, 68, 2)


def test_a_run_goes_on_from_the_weights_of_another(faces):
    few, start = faces.subset(range(4)), transfer.build("resnet18")
    model, history = transfer.build_and_train("resnet18", few, few, start, epochs=0)
    fresh, _ = transfer.build_and_train("resnet18", few, few, epochs=0)
    weights = [network.resnet.conv1.weight for network in (start, model, fresh)]
    assert len(history) == 0 and weights[0].equal(weights[1]) and not weights[0].equal(weights[2])


def test_a_network_trained_on_video_frames_goes_on_with_photos(drawn, faces, monkeypatch):
    """Transfer: whole to the same network, and from its ResNet to the encoder of a U-Net."""
    monkeypatch.setattr(transfer, "regression_size", lambda: 32)
    frames, held_out, _ = course_data(drawn)
    few = faces.subset(range(4))
    settings = transfer.PRETRAINING | {"epochs": 1, "batch_size": 8}
    first, history = transfer.build_and_train("resnet18", frames.subset(range(8)), held_out.subset([0]), **settings)
    assert len(history) == 1 and first.expects == face_crop(32)
    second, _ = transfer.build_and_train("resnet18", few, few, first, epochs=0)
    assert all(a.equal(b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True))
    unet = transfer.build("unet", first.resnet.state_dict())
    assert unet.unet.encoder.layer4[1].conv2.weight.equal(first.resnet.layer4[1].conv2.weight)


def test_the_same_run_starts_from_imagenet_weights(faces, cache, monkeypatch):
    """The path that needs a network connection, with a stand-in for the published file."""
    stand_in, weights = models.resnet18(), transfer_models.RESNETS["resnet18"][1]
    file = cache / "hub" / "checkpoints" / weights.url.rsplit("/", 1)[1]
    file.parent.mkdir(parents=True)
    torch.save(stand_in.state_dict(), file)
    monkeypatch.setattr(transfer, "regression_size", lambda: 32)
    found, about = imagenet_weights("resnet18")
    model, history = transfer.build_and_train(
        "resnet18",
        faces.subset(range(4)),
        faces.subset([5]),
        weights=found,
        **transfer.RESNET | {"epochs": 0, "one_cycle": False},
    )
    assert about == "resnet18: ImageNet weights" and len(history) == 0
    assert model.resnet.conv1.weight.equal(stand_in.conv1.weight) and model.resnet.fc[2].out_features == 136


@pytest.mark.parametrize(("device", "size"), [("cpu", 112), ("cuda", 224)])
def test_the_published_size_is_for_a_gpu(device, size, monkeypatch):
    monkeypatch.setenv("KEYPOINTS_DEVICE", device)
    assert transfer.build("resnet18").expects.size == size
