import re
from functools import partial

import numpy as np
import pytest
import torch
from small_nets import InterruptedLoss, small_model
from torch import nn
from torch.utils.data import ConcatDataset
from torchvision.transforms import Compose

from facial_keypoints.images import DataError
from models import BatchNormNet, Net, initialize
from recipes import PARTS_OF_128, SMALL_CROP
from training.device import autocast, best_device, gradient_scaler, half_precision, keep_freed_memory, memory_format
from training.loop import evaluate, fit, mean_face, one_cycle_schedule, predict
from training.losses import LOSSES


@pytest.mark.parametrize(
    ("network", "repeats", "lr", "epochs", "below"), [(Net, 4, 1e-3, 6, 25), (BatchNormNet, 1, 5e-4, 8, 40)]
)
def test_a_network_can_overfit_four_faces(network, repeats, lr, epochs, below, faces):
    torch.manual_seed(0)
    model, four = initialize(network()), faces.subset(range(4))
    assert evaluate(model, four)["NME %"] > 60
    fit(model, ConcatDataset([four] * repeats), four, lr=lr, one_cycle=True, epochs=epochs, batch_size=8)
    assert evaluate(model, four)["NME %"] < below


def test_fit_equals_a_plain_training_loop(eight):
    """Three epochs of full-batch SGD in float32 against torch's own loop."""
    model, plain = small_model().eval(), small_model().eval()
    model.layers[4].p = plain.layers[4].p = 0.0
    fit(model, eight, eight, loss="mse", optimizer=torch.optim.SGD(model.parameters(), 0.1), epochs=3, batch_size=8)
    images, keypoints = (torch.stack([eight[i][key] for i in range(8)]) for key in ("image", "keypoints"))
    optimizer = torch.optim.SGD(plain.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.mse_loss(plain(images), keypoints).backward()
        optimizer.step()
    torch.testing.assert_close(model.state_dict(), plain.state_dict(), atol=3e-3, rtol=0.02)  # bfloat16's precision


def test_history_holds_the_mean_loss_per_coordinate(faces):
    model = small_model()
    history = fit(model, faces, faces, loss="mse", lr=0.0, epochs=2, batch_size=10)  # 24 faces: a short last batch
    predicted, true = predict(model, faces)
    assert history["validation loss"].tolist() == pytest.approx([np.mean((predicted - true) ** 2)] * 2, rel=1e-4)
    assert history["training loss"].iloc[0] == pytest.approx(history["validation loss"].iloc[0], rel=0.1)


def test_the_best_weights_on_validation_data_are_kept(eight):
    model = small_model()
    history = fit(model, eight, eight, loss="mse", optimizer="sgd", lr=0.5, epochs=4, batch_size=8)
    spoilt = fit(model, eight, eight, loss=lambda p, t: -LOSSES["mse"]()(p, t), optimizer="sgd", lr=0.5, epochs=3)
    assert len(spoilt) == 3 and history["validation loss"].is_monotonic_decreasing
    kept = np.mean(np.square(np.subtract(*predict(model, eight))))
    assert kept == pytest.approx(-spoilt["validation loss"].min(), rel=1e-3)


def test_the_best_epoch_is_kept_when_others_follow(eight):
    """The validation labels are the predictions of epoch 2, so that no other epoch can be as good."""
    arguments = dict(loss="mse", lr=1e-3, batch_size=4)
    teacher, model = small_model(), small_model()
    fit(teacher, eight, None, epochs=2, **arguments)
    labels = torch.from_numpy(predict(teacher, eight)[0])
    taught = [eight[number] | {"keypoints": points} for number, points in enumerate(labels)]
    history = fit(model, eight, taught, epochs=4, **arguments)
    assert history["validation loss"].argmin() == 1 and history["validation loss"].min() < 1e-9
    torch.testing.assert_close(model.state_dict(), teacher.state_dict(), rtol=0, atol=0)


class Noted(torch.utils.data.Dataset):
    """A data set that records the order in which its samples are asked for."""

    def __init__(self, data):
        self.data, self.order = data, []

    def __len__(self):
        return len(self.data)

    def __getitem__(self, number):
        self.order.append(number)
        return self.data[number]


def test_every_epoch_has_an_order_of_its_own_and_a_run_repeats_them(eight):
    first, second = Noted(eight), Noted(eight)
    for noted in (first, second):
        fit(small_model(), noted, None, loss="mse", epochs=4, batch_size=4, seed=2)
    orders = np.reshape(first.order, (4, 8))
    assert (np.sort(orders) == np.arange(8)).all() and len({tuple(order) for order in orders}) == 4
    assert first.order == second.order


def test_ctrl_c_keeps_the_best_weights_so_far(faces, capsys):
    model = small_model()
    history = fit(model, faces, faces, InterruptedLoss(at=9), epochs=3, batch_size=5)
    kept = np.mean(np.square(np.subtract(*predict(model, faces))))
    assert len(history) == 1 and kept == pytest.approx(history["validation loss"].iloc[0], rel=1e-4)
    assert capsys.readouterr().out.endswith("interrupted: 1 of 3 epochs are done\n"), (
        "there is no checkpoint to resume from"
    )


def test_without_validation_data_the_last_weights_stay(eight):
    model, plain = small_model(), small_model()
    history = fit(model, eight, None, loss="mse", lr=1e-3, epochs=3, batch_size=4)
    fit(plain, eight, eight, loss="mse", lr=1e-3, epochs=3, batch_size=4)
    assert history.columns.tolist() == ["epoch", "training loss", "seconds"]
    torch.testing.assert_close(model.state_dict(), plain.state_dict())  # whose loss fell until the end


@pytest.mark.parametrize("validated", [True, False])
def test_a_loss_that_is_not_finite_ends_training_with_one_sentence(validated, eight):
    model = small_model()
    with pytest.raises(DataError, match=r"epoch 1: the training loss is (nan|inf).*; try a lower .*it started with"):
        fit(model, eight, eight if validated else None, "mse", "sgd", lr=1e30, epochs=2, batch_size=2)
    torch.testing.assert_close(model.state_dict(), small_model().state_dict())  # as the sentence says


def test_weights_that_overflow_in_the_last_step_are_noticed_without_validation(eight, tmp_path):
    """The loss of the only batch is finite; it is computed before the step."""
    model, checkpoint = small_model(), tmp_path / "run.checkpoint"

    def steep(predicted, true):
        return 1e6 * nn.functional.mse_loss(predicted, true)

    with pytest.raises(DataError, match="epoch 1: the weights are no longer finite"):
        fit(model, eight, None, steep, "sgd", lr=1e38, epochs=1, batch_size=8, checkpoint=checkpoint)
    assert all(values.isfinite().all() for values in model.state_dict().values()) and not checkpoint.exists()


class NanLoss(InterruptedLoss):
    """A loss that is NaN at one of its calls."""

    def __call__(self, predicted, true):
        self.calls += 1
        return self.loss(predicted, true) * (float("nan") if self.calls == self.at else 1)


def test_a_validation_loss_that_is_not_finite_keeps_the_best_weights_so_far(eight):
    model, plain = small_model(), small_model()
    with pytest.raises(DataError, match="epoch 3: the validation loss is nan.*left with the best weights so far"):
        fit(model, eight, eight, NanLoss(at=6), lr=1e-3, epochs=4, batch_size=8)
    fit(plain, eight, None, "mse", lr=1e-3, epochs=2, batch_size=8)
    torch.testing.assert_close(model.state_dict(), plain.state_dict())


@pytest.mark.parametrize(
    ("optimizer", "key", "expected"),
    [
        (partial(torch.optim.SGD, momentum=0.7), "momentum", 0.7),
        (partial(torch.optim.RMSprop, momentum=0.0), "momentum", 0.0),
        (torch.optim.AdamW, "betas", (0.95, 0.999)),
    ],
)
def test_one_cycle_leaves_momentum_as_given_and_moves_adams_first_beta(optimizer, key, expected):
    made = optimizer(small_model().parameters(), lr=0.1)
    one_cycle_schedule(made, 0.1, 10)
    assert made.param_groups[0][key] == expected


def test_channels_last_is_not_used_on_apples_backend():
    formats = [memory_format(torch.device(name)) for name in ("cpu", "cuda", "mps")]
    assert formats == [torch.channels_last, torch.channels_last, torch.contiguous_format]


@pytest.mark.parametrize(
    ("name", "bfloat16", "expected"),
    [("cuda", True, torch.bfloat16), ("cuda", False, torch.float16), ("cpu", False, None), ("mps", False, None)],
)
def test_half_precision_is_what_the_hardware_has(name, bfloat16, expected, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: bfloat16)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: bfloat16)
    assert half_precision(torch.device(name)) == expected


def test_float16_trains_with_a_scaler_that_a_checkpoint_keeps(eight, tmp_path, monkeypatch):
    """On the CPU, which has float16 too, only slowly."""
    monkeypatch.setattr("training.device.half_precision", lambda device: torch.float16)
    assert gradient_scaler(torch.device("cpu")).is_enabled() and autocast(torch.device("cpu")).fast_dtype == torch.half
    model, again, arguments = small_model(), small_model(), dict(loss="mse", lr=1e-3, epochs=3, batch_size=4)
    history = fit(model, eight, eight, checkpoint=tmp_path / "run.checkpoint", **arguments)
    assert history["training loss"].is_monotonic_decreasing
    assert torch.load(tmp_path / "run.checkpoint")["scaler"]["scale"] == 2.0**10
    fit(again, eight, eight, checkpoint=tmp_path / "run.checkpoint", **arguments)
    torch.testing.assert_close(again.state_dict(), model.state_dict())


def test_the_environment_variable_chooses_the_device(monkeypatch):
    monkeypatch.setenv("KEYPOINTS_DEVICE", "cuda")
    assert best_device() == torch.device("cuda") and not keep_freed_memory(), "which is for training on the CPU"


def test_fit_does_not_change_malloc_for_the_process(eight, monkeypatch):
    monkeypatch.setattr("training.device.ctypes", None)  # which mallopt is called through
    fit(small_model(), eight, epochs=1)


def test_the_defaults_of_fit(faces):
    model, told, many = small_model(), small_model(), ConcatDataset([faces] * 3)  # more than one batch
    history = fit(model, many, faces)
    arguments = dict(loss="smooth_l1", optimizer="adam", lr=1e-4, epochs=3, batch_size=64, one_cycle=False, seed=0)
    expected = fit(told, many, faces, **arguments)
    torch.testing.assert_close(model.state_dict(), told.state_dict(), rtol=0, atol=0)
    assert history.drop(columns="seconds").equals(expected.drop(columns="seconds")) and len(history) == 3
    assert history.columns.tolist() == ["epoch", "training loss", "validation loss", "validation NME %", "seconds"]


def test_every_face_counts_equally_in_the_training_loss(faces):
    """24 faces in batches of 10, 10 and 4; the network has no dropout and does not learn."""
    model = small_model()
    model.layers[4].p = 0.0
    history = fit(model, faces, faces, loss="mse", lr=0.0, epochs=1, batch_size=10)
    predicted, true = predict(model, faces)
    assert history["training loss"][0] == pytest.approx(np.mean((predicted - true) ** 2), rel=1e-3)


def test_one_cycle_rises_to_the_rate_and_ends_near_zero_with_the_last_batch(faces):
    model, rates = small_model(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.register_step_pre_hook(lambda *_: rates.append(optimizer.param_groups[0]["lr"]))
    fit(model, faces, None, "mse", optimizer, lr=0.1, epochs=5, batch_size=5, one_cycle=True)
    assert len(rates) == 25 and rates[0] == pytest.approx(0.1 / 25) and rates[-1] < 1e-5  # as torch's own defaults
    assert max(rates) == pytest.approx(0.1, rel=0.01) and np.argmax(rates) in (6, 7, 8)  # 30 % of the way


def test_a_line_is_printed_every_print_every_epochs_and_for_the_last(eight, capsys):
    fit(small_model(), eight, eight, epochs=2)
    assert len(capsys.readouterr().out.splitlines()) == 2, "every epoch by default"
    history = fit(small_model(), eight, eight, epochs=5, print_every=2)
    lines = capsys.readouterr().out.splitlines()
    numbers = [[float(n) for n in re.findall(r"(?<= )\d[\d.e-]*", line)] for line in lines]
    expected = history.iloc[[1, 3, 4]]
    np.testing.assert_allclose([row[:4] for row in numbers], expected.iloc[:, :4], rtol=2e-3, atol=0.006)
    assert all(
        re.fullmatch(r"epoch .*   training loss .*   validation loss .*   validation NME .* %   \d+ s", x)
        for x in lines
    )
    fit(small_model(), eight, epochs=1)
    assert re.fullmatch(r"epoch   1   training loss \S+   \d+ s\n", capsys.readouterr().out)


def test_without_an_error_function_there_is_only_a_validation_loss_and_others_are_used(eight):
    history = fit(small_model(), eight, eight, epochs=1, error=None)
    assert "validation NME %" not in history and "validation loss" in history
    history = fit(small_model(), eight, eight, epochs=1, error=lambda predicted, true: np.full(len(true), 0.25))
    assert history["validation NME %"].tolist() == [25]


class Tenth(nn.Module):
    """A network with 10 points."""

    num_keypoints = 10


def test_a_wrong_number_of_points_is_one_sentence_before_training(eight):
    def ten(sample):
        return sample | {"keypoints": torch.as_tensor(sample["keypoints"][:10])}

    others = eight.with_transform(Compose([*SMALL_CROP.transforms, ten]))
    with pytest.raises(DataError, match="the network predicts 68 keypoints, the validation data has 10"):
        fit(small_model(), eight, others)
    with pytest.raises(DataError, match="the network predicts 10 keypoints, the validation data has 68"):
        fit(Tenth(), eight, eight)
    with pytest.raises(DataError, match=r"cannot be measured \(10 keypoints, but .* has 68\): fit\(..., error=None\)"):
        fit(Tenth(), others, others)


def test_the_mean_face_of_the_training_data_is_predicted_for_every_face(faces, eight):
    predicted, true = mean_face(eight, faces)
    np.testing.assert_allclose(predicted[5], sum(eight[i]["keypoints"].numpy() for i in range(8)) / 8, rtol=1e-5)
    assert (predicted == predicted[0]).all() and predicted.shape == true.shape == (24, 68, 2)
    np.testing.assert_array_equal(true[3], faces[3]["keypoints"])


class Gray(nn.Module):
    """Predicts the mean gray of the picture, or its negative in training mode."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return (-1.0 if self.training else 1.0) * x.mean(dim=(1, 2, 3))[:, None, None].expand(-1, 68, 2)


def test_predictions_are_in_order_and_in_evaluation_mode_for_any_batch_size(faces):
    expected = [faces[i]["image"].mean().item() for i in range(24)]
    for batch_size in (1, 7, 64):
        predicted, true = predict(Gray().train(), faces, batch_size)
        np.testing.assert_allclose(predicted[:, 3, 1], expected, rtol=0.01)  # bfloat16's precision
        np.testing.assert_array_equal(true[11], faces[11]["keypoints"])


def test_evaluate_reports_pixels_of_the_networks_input(faces):
    in_parts = faces.with_transform(SMALL_CROP)
    row = evaluate(Gray(), in_parts, PARTS_OF_128)
    predicted, true = predict(Gray(), in_parts)
    assert row["pixels"] == pytest.approx(128 * np.linalg.norm(predicted - true, axis=2).mean(), rel=1e-4)
    assert evaluate(Gray(), faces)["pixels"] == pytest.approx(
        50 * np.linalg.norm(np.subtract(*predict(Gray(), faces)), axis=2).mean(), rel=1e-4
    )
