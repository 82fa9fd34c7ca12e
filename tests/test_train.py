import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import ConcatDataset

from data_load import FacialKeypointsDataset
from data_sets.find import DataFolder, Kind
from data_sets.splits import real_splits
from facial_keypoints.images import DataError
from models import BatchNormNet, Net, SureNet, initialize
from recipes import FACE_CROP, FACE_CROP_TRAINING, LARGE_CROP, PARTS_OF_128, RECIPES, SMALL_CROP
from train import SAVED_MODELS, default_output, main, run_recipe, train_and_save
from training.device import best_device, keep_freed_memory, memory_format
from training.loop import evaluate, fit, mean_face, one_cycle_schedule, predict
from training.losses import LOSSES, HeatmapLoss, SpreadLoss


@pytest.fixture(scope="module")
def faces(drawn):
    frames = FacialKeypointsDataset(drawn / "training_frames_keypoints.csv", drawn / "training", in_memory=True)
    return frames.with_transform(FACE_CROP)


@pytest.fixture
def eight(faces):
    return faces.subset(range(8))


class Small(nn.Module):
    """A net that trains in milliseconds, with dropout so that randomness matters."""

    num_keypoints = 68

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.AvgPool2d(16), nn.Flatten(), nn.Linear(196, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 136)
        )

    def forward(self, x):
        return self.layers(x).view(-1, 68, 2)


def small_model():
    torch.manual_seed(7)
    return Small()


@pytest.mark.parametrize(("network", "repeats", "epochs", "below"), [(Net, 4, 12, 16), (BatchNormNet, 2, 8, 30)])
def test_a_net_overfits_eight_faces(network, repeats, epochs, below, eight):
    torch.manual_seed(0)
    model = initialize(network())
    before = evaluate(model, eight)["NME %"]
    fit(model, ConcatDataset([eight] * repeats), eight, lr=5e-4, one_cycle=True, epochs=epochs, batch_size=8)
    assert evaluate(model, eight)["NME %"] < below < before / 2


def test_training_is_the_plain_loop_written_out(eight):
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


def test_the_best_epoch_is_kept_also_when_others_follow(eight):
    """Validation labels that the network of epoch 2 answers exactly: no other epoch's can be as good."""
    arguments = dict(loss="mse", lr=1e-3, batch_size=4)
    teacher, model = small_model(), small_model()
    fit(teacher, eight, None, epochs=2, **arguments)
    labels = torch.from_numpy(predict(teacher, eight)[0])
    taught = [eight[number] | {"keypoints": points} for number, points in enumerate(labels)]
    history = fit(model, eight, taught, epochs=4, **arguments)
    assert history["validation loss"].argmin() == 1 and history["validation loss"].min() < 1e-9
    torch.testing.assert_close(model.state_dict(), teacher.state_dict(), rtol=0, atol=0)


class Noted(torch.utils.data.Dataset):
    """A data set that notes in which order its samples are asked for."""

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


class InterruptedLoss:
    """A loss that is Ctrl-C at one of its calls."""

    def __init__(self, at, loss="mse"):
        self.calls, self.at, self.loss = 0, at, LOSSES[loss]()

    def __call__(self, predicted, true):
        self.calls += 1
        if self.calls == self.at:
            raise KeyboardInterrupt
        return self.loss(predicted, true)


@pytest.mark.parametrize("one_cycle", [False, True])
def test_a_resumed_run_equals_an_uninterrupted_one(one_cycle, faces, tmp_path, capsys, monkeypatch):
    augmented = faces.with_transform(FACE_CROP_TRAINING)
    arguments = dict(epochs=4, lr=1e-3, batch_size=5, seed=3, one_cycle=one_cycle)
    whole, again, checkpoint = small_model(), small_model(), tmp_path / "run.pt"
    expected = fit(whole, augmented, faces, "mse", **arguments)
    interrupted = InterruptedLoss(at=14)
    with monkeypatch.context() as patch:
        patch.setitem(LOSSES, "mse", lambda: interrupted)
        early = fit(small_model(), augmented, faces, "mse", checkpoint=checkpoint, **arguments)
    assert len(early) == 2 and "interrupted: 2 of 4 epochs are done" in capsys.readouterr().out
    history = fit(again, augmented, faces, "mse", checkpoint=checkpoint, **arguments)
    torch.testing.assert_close(again.state_dict(), whole.state_dict())
    assert history["epoch"].tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(history["training loss"], expected["training loss"], rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 1}, "seed 0, not 1"),
        ({"loss": "mse"}, "loss smooth_l1, not mse"),
        ({"loss": nn.functional.l1_loss}, "loss smooth_l1, not l1_loss"),
        ({"optimizer": "sgd"}, "optimizer Adam, not SGD"),
        ({"lr": 1e-3}, "lr 0.0001, not 0.001"),
        ({"epochs": 3}, "epochs 2, not 3"),
        ({"epochs": 3, "one_cycle": True}, "epochs 2, not 3; one_cycle False, not True"),
        ({"batch_size": 4}, "batch size 8, not 4"),
        ({"training_data": [0, 1, 2, 3]}, "training samples 8, not 4"),
        ({"training_data": range(8, 16)}, "first batch .*, not "),
        ({"training_data": FACE_CROP_TRAINING}, "first batch .*, not "),
        ({"model": BatchNormNet()}, "network Small, not BatchNormNet"),
    ],
)
def test_the_checkpoint_of_another_run_is_one_sentence_that_says_what_differs(change, told, faces, eight, tmp_path):
    checkpoint = tmp_path / "run.checkpoint"
    fit(small_model(), eight, epochs=2, batch_size=8, checkpoint=checkpoint)
    data = change.get("training_data", range(8))
    other = eight.with_transform(data) if data is FACE_CROP_TRAINING else faces.subset(data)
    asked = {"model": small_model(), "epochs": 2, "batch_size": 8} | change | {"training_data": other}
    with pytest.raises(DataError, match=rf"run.checkpoint: not a checkpoint of this run \(.*{told}.*\); delete it"):
        fit(**asked, checkpoint=checkpoint)
    assert len(fit(small_model(), eight, epochs=2, batch_size=8, checkpoint=checkpoint)) == 2, "it is as it was"


def test_another_seed_is_another_run(faces):
    first, second = small_model(), small_model()
    losses = [fit(m, faces, faces, epochs=1, batch_size=5, seed=s) for m, s in ((first, 0), (second, 1))]
    assert losses[0]["training loss"].iloc[0] != losses[1]["training loss"].iloc[0]


def test_ctrl_c_keeps_the_best_weights_so_far(faces, capsys):
    model = small_model()
    history = fit(model, faces, faces, InterruptedLoss(at=9), epochs=3, batch_size=5)
    kept = np.mean(np.square(np.subtract(*predict(model, faces))))
    assert len(history) == 1 and kept == pytest.approx(history["validation loss"].iloc[0], rel=1e-4)


def test_a_damaged_checkpoint_is_one_sentence(eight, tmp_path):
    (tmp_path / "run.pt").write_bytes(b"half a file")
    with pytest.raises(DataError, match="run.pt: not a checkpoint of this run"):
        fit(small_model(), eight, eight, epochs=1, checkpoint=tmp_path / "run.pt")


def test_a_full_disk_in_training_is_one_sentence(eight, tmp_path, monkeypatch):
    def full(content, file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(DataError, match="run.pt: could not be written .*No space left"):
        fit(small_model(), eight, eight, epochs=1, checkpoint=tmp_path / "run.pt")


def test_without_validation_data_the_last_weights_stay(eight):
    model, plain = small_model(), small_model()
    history = fit(model, eight, None, loss="mse", lr=1e-3, epochs=3, batch_size=4)
    fit(plain, eight, eight, loss="mse", lr=1e-3, epochs=3, batch_size=4)
    assert history.columns.tolist() == ["epoch", "training loss", "seconds"]
    torch.testing.assert_close(model.state_dict(), plain.state_dict())  # whose loss fell to the end


@pytest.mark.parametrize("validated", [True, False])
def test_a_loss_that_is_not_finite_ends_training_with_a_sentence(validated, eight):
    model = small_model()
    with pytest.raises(DataError, match=r"epoch 1: the training loss is (nan|inf).*; try a lower learning rate"):
        fit(model, eight, eight if validated else None, "mse", "sgd", lr=1e30, epochs=2, batch_size=2)
    torch.testing.assert_close(model.state_dict(), small_model().state_dict())  # as the sentence says


def test_weights_that_the_last_step_spoilt_are_noticed_without_validation(eight, tmp_path):
    """The loss of the only batch is finite; it is computed before the step."""
    model, checkpoint = small_model(), tmp_path / "run.checkpoint"

    def steep(predicted, true):
        return 1e6 * nn.functional.mse_loss(predicted, true)

    with pytest.raises(DataError, match="epoch 1: the weights are no longer finite"):
        fit(model, eight, None, steep, "sgd", lr=1e38, epochs=1, batch_size=8, checkpoint=checkpoint)
    assert all(values.isfinite().all() for values in model.state_dict().values()) and not checkpoint.exists()


class SpoiltLoss(InterruptedLoss):
    """A loss that is not a number at one of its calls."""

    def __call__(self, predicted, true):
        self.calls += 1
        return self.loss(predicted, true) * (float("nan") if self.calls == self.at else 1)


def test_a_validation_loss_that_is_not_finite_keeps_the_best_weights_so_far(eight):
    model, plain = small_model(), small_model()
    with pytest.raises(DataError, match="epoch 3: the validation loss is nan.*left with the best weights so far"):
        fit(model, eight, eight, SpoiltLoss(at=6), lr=1e-3, epochs=4, batch_size=8)
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


def test_channels_last_is_left_out_on_apples_backend():
    formats = [memory_format(torch.device(name)) for name in ("cpu", "cuda", "mps")]
    assert formats == [torch.channels_last, torch.channels_last, torch.contiguous_format]


def test_the_device_is_what_the_environment_asks_for(monkeypatch):
    monkeypatch.setenv("KEYPOINTS_DEVICE", "cuda")
    assert best_device() == torch.device("cuda") and not keep_freed_memory(), "of the CPU's memory"


def test_training_leaves_the_memory_of_the_process_alone(eight, monkeypatch):
    monkeypatch.setattr("training.device.ctypes", None)  # without which malloc cannot be told anything
    fit(small_model(), eight, epochs=1)


def test_the_spread_loss_is_least_for_the_distribution_that_the_points_come_from():
    """The radius under exp(-r / s) in the plane has a Gamma(2, s) distribution; stretched and turned, an ellipse."""
    torch.manual_seed(0)
    radius, angle = torch.distributions.Gamma(2.0, 1 / 0.03).sample((50000,)), 2 * np.pi * torch.rand(50000)
    matrix = torch.tensor([[1.5, -0.6], [0.4, 0.8]])
    true = (torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1) @ matrix.T)[None]
    assert SpreadLoss()(0 * true, true) == pytest.approx(true.norm(dim=2).mean().item(), rel=1e-4), "points alone"

    def loss(c):
        return SpreadLoss()(torch.cat([0 * true, c[[0, 1, 0], [0, 1, 1]].expand(1, 50000, 3)], dim=2), true)

    best = 0.03**2 * matrix @ matrix.T
    entropy = 2 + torch.log(best.det()) / 2  # of r / s it is the mean that remains, which is 2
    assert loss(best) == pytest.approx(entropy.item(), abs=0.02)
    for wrong in (1.1 * best, best / 1.1, torch.diag(best.diag()), best.trace() / 2 * torch.eye(2)):
        assert loss(wrong) > loss(best)


def test_a_net_that_knows_how_sure_it_is_learns_points_and_spread(faces):
    """Labels that jump about by 0.05 for one half of the points: there, the spread must be the larger."""
    torch.manual_seed(0)

    class Jumpy(torch.utils.data.Dataset):
        def __len__(self):
            return 32

        def __getitem__(self, number):
            image, jump = torch.zeros(1, 32, 32), torch.zeros(4, 2)
            image[:, 8:12, 8:12], jump[:2] = 1.0, 0.05 * torch.randn(2, 2)
            return {"image": image, "keypoints": torch.full((4, 2), 0.3) + jump}

    model = SureNet(num_keypoints=4, width=8)
    fit(model, Jumpy(), None, "spread", "adamw", lr=5e-3, epochs=30, batch_size=8, one_cycle=True)
    points, spread = model.eval().points_and_spread(Jumpy()[0]["image"][None])[0].split([2, 1], dim=1)
    assert (points - 0.3).abs().max() < 0.03 and spread[:2].min() > 1.5 * spread[2:].max()


def test_an_interrupted_script_does_not_replace_finished_weights(drawn, tmp_path, monkeypatch):
    weights = tmp_path / "face-crops.pt"
    weights.write_bytes(b"finished")
    monkeypatch.setenv("KEYPOINTS_DATA", str(drawn))
    monkeypatch.setitem(LOSSES, "smooth_l1", lambda: InterruptedLoss(at=1))
    monkeypatch.setattr("sys.argv", ["train.py", "face-crops", "--epochs", "1", "--output", str(weights)])
    main()
    assert weights.read_bytes() == b"finished"


def test_checkpoints_are_gone_when_the_weights_are_saved_and_not_before(eight, tmp_path, monkeypatch):
    fast, weights = RECIPES["fast"], tmp_path / "fast.pt"
    recipe = replace(fast, epochs=1, batch_size=4, first=replace(fast.first, epochs=1, batch_size=4))
    (tmp_path / "fast-3.checkpoint").touch()  # of another run
    interrupted = InterruptedLoss(at=4, loss="spread")
    with monkeypatch.context() as patch:
        patch.setitem(LOSSES, "spread", lambda: interrupted)
        assert train_and_save(recipe, weights, eight) is None
    assert not weights.exists() and (tmp_path / "fast.checkpoint").exists()
    train_and_save(recipe, weights, eight)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["fast-3.checkpoint", "fast.pt"]


def test_a_second_stage_whose_first_is_trained_anew_is_trained_anew(eight, tmp_path):
    fast, checkpoint = RECIPES["fast"], tmp_path / "fast.checkpoint"
    recipe = replace(fast, epochs=1, batch_size=4, first=replace(fast.first, epochs=1, batch_size=4))
    run_recipe(recipe, eight, checkpoint=checkpoint)
    checkpoint.unlink()
    other = replace(recipe, first=replace(recipe.first, lr=1e-4))
    again, fresh = run_recipe(other, eight, checkpoint=checkpoint)[0], run_recipe(other, eight)[0]
    torch.testing.assert_close(again.state_dict(), fresh.state_dict())


def test_a_network_that_could_not_be_loaded_is_not_trained(eight, tmp_path):
    with pytest.raises(DataError, match="Small: .* add it to models.NETWORKS"):
        train_and_save(replace(RECIPES["face-crops"], network=Small), tmp_path / "net.pt", eight)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("course", "photos", "missing"),
    [
        (Kind.DRAWN, Kind.PUBLISHED, "the course"),
        (Kind.OWN, Kind.PUBLISHED, "the course"),
        (Kind.PUBLISHED, Kind.DRAWN, "photos"),
    ],
)
def test_weights_that_ship_are_made_of_real_faces_only(course, photos, missing, drawn, tmp_path, monkeypatch):
    monkeypatch.setattr("train.SAVED_MODELS", tmp_path)
    monkeypatch.setattr("train.find_data", lambda: DataFolder(drawn, course, "the course"))
    monkeypatch.setattr("data_sets.splits.find_ibug", lambda: DataFolder(drawn, photos, "photos"))
    monkeypatch.setattr("sys.argv", ["train.py", "fast"])
    with pytest.raises(DataError, match=f"needs the course's frames and 300-W, not {missing}"):
        main()
    assert not list(tmp_path.iterdir())


def test_real_faces_are_taken_for_real(monkeypatch):
    real = DataFolder("data", Kind.PUBLISHED, "frames")
    monkeypatch.setattr("data_sets.splits.find_ibug", lambda: real)
    monkeypatch.setattr("data_sets.splits.splits", lambda root: ["splits of", root])
    assert real_splits(real) == ["splits of", "data"]


def test_only_the_recipe_as_it_is_goes_to_the_file_that_ships():
    accurate = RECIPES["accurate"]
    other = replace(accurate, epochs=3)
    paths = [default_output("accurate", *run) for run in ((accurate, 0), (other, 0), (accurate, 1), (other, 1))]
    assert [path.name for path in paths] == [
        "accurate.pt", "accurate-3.pt", "accurate-seed1.pt", "accurate-3-seed1.pt",
    ]  # fmt: skip
    assert {path.parent for path in paths} == {SAVED_MODELS}


@pytest.mark.parametrize("epochs", ["0", "-1", "2.5"])
def test_no_epochs_at_all_is_a_mistake(epochs, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["train.py", "face-crops", f"--epochs={epochs}"])
    with pytest.raises(SystemExit):
        main()
    assert re.search(f"--epochs: invalid .*{epochs}", capsys.readouterr().err)


def test_a_recipe_with_a_finish_goes_on_with_it_and_resumes_there(eight, tmp_path, monkeypatch):
    seen = []

    def nearly_as_it_is(sample):
        seen.append(1)
        return LARGE_CROP(sample)

    fast = RECIPES["fast"]
    first = replace(fast.first, epochs=1, batch_size=4)
    recipe = replace(fast, training_transform=nearly_as_it_is, epochs=2, batch_size=4, first=first)
    model, history = run_recipe(recipe, eight, checkpoint=tmp_path / "run.checkpoint")
    assert history["epoch"].tolist() == [1, 2, 3] and recipe.total_epochs == 3
    assert len(seen) == 2 * len(eight) + recipe.batch_size  # whose first batch is noted in the checkpoint

    (tmp_path / "run.2.checkpoint").unlink()
    interrupted = InterruptedLoss(at=4, loss="spread")  # the finish has two batches an epoch
    with monkeypatch.context() as patch:
        patch.setitem(LOSSES, "spread", lambda: interrupted)
        assert len(run_recipe(recipe, eight, checkpoint=tmp_path / "run.checkpoint")[1]) == 2
    again, _ = run_recipe(recipe, eight, checkpoint=tmp_path / "run.checkpoint")
    assert torch.equal(again.head.weight, model.head.weight)


def test_what_fit_does_unless_told_otherwise(faces):
    model, told = small_model(), small_model()
    history = fit(model, faces, faces)
    arguments = dict(loss="smooth_l1", optimizer="adam", lr=1e-4, epochs=3, batch_size=64, one_cycle=False, seed=0)
    expected = fit(told, faces, faces, **arguments)
    torch.testing.assert_close(model.state_dict(), told.state_dict(), rtol=0, atol=0)
    assert history.drop(columns="seconds").equals(expected.drop(columns="seconds")) and len(history) == 3
    assert history.columns.tolist() == ["epoch", "training loss", "validation loss", "validation NME %", "seconds"]


def test_every_face_counts_alike_in_the_training_loss(faces):
    """24 faces in batches of 10, 10 and 4, through a network that neither drops out nor learns."""
    model = small_model()
    model.layers[4].p = 0.0
    history = fit(model, faces, faces, loss="mse", lr=0.0, epochs=1, batch_size=10)
    predicted, true = predict(model, faces)
    assert history["training loss"][0] == pytest.approx(np.mean((predicted - true) ** 2), rel=1e-3)


def test_one_cycle_rises_to_the_rate_and_ends_at_nothing_with_the_last_batch(faces):
    model, rates = small_model(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.register_step_pre_hook(lambda *_: rates.append(optimizer.param_groups[0]["lr"]))
    fit(model, faces, None, "mse", optimizer, lr=0.1, epochs=5, batch_size=5, one_cycle=True)
    assert len(rates) == 25 and rates[0] == pytest.approx(0.1 / 25) and rates[-1] < 1e-5  # as torch's own defaults
    assert max(rates) == pytest.approx(0.1, rel=0.01) and np.argmax(rates) in (6, 7, 8)  # 30 % of the way


def test_one_line_is_printed_for_every_epoch_that_is_asked_for_and_the_last(eight, capsys):
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


def test_points_without_a_ruler_have_a_validation_loss_alone_and_other_rulers_are_taken(eight):
    history = fit(small_model(), eight, eight, epochs=1, error=None)
    assert "validation NME %" not in history and "validation loss" in history
    history = fit(small_model(), eight, eight, epochs=1, error=lambda predicted, true: np.full(len(true), 0.25))
    assert history["validation NME %"].tolist() == [25]


def test_the_mean_face_is_that_of_the_training_faces_for_everybody(faces, eight):
    predicted, true = mean_face(eight, faces)
    np.testing.assert_allclose(predicted[5], sum(eight[i]["keypoints"].numpy() for i in range(8)) / 8, rtol=1e-5)
    assert (predicted == predicted[0]).all() and predicted.shape == true.shape == (24, 68, 2)
    np.testing.assert_array_equal(true[3], faces[3]["keypoints"])


class Gray(nn.Module):
    """Answers with the mean gray of the picture; in training with something else."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return (-1.0 if self.training else 1.0) * x.mean(dim=(1, 2, 3))[:, None, None].expand(-1, 68, 2)


def test_predictions_come_in_order_out_of_training_mode_whatever_the_batch_size(faces):
    expected = [faces[i]["image"].mean().item() for i in range(24)]
    for batch_size in (1, 7, 64):
        predicted, true = predict(Gray().train(), faces, batch_size)
        np.testing.assert_allclose(predicted[:, 3, 1], expected, rtol=0.01)  # bfloat16's precision
        np.testing.assert_array_equal(true[11], faces[11]["keypoints"])


def test_numbers_are_in_pixels_of_the_networks_input(faces):
    in_parts = faces.with_transform(SMALL_CROP)
    row = evaluate(Gray(), in_parts, PARTS_OF_128)
    predicted, true = predict(Gray(), in_parts)
    assert row["pixels"] == pytest.approx(128 * np.linalg.norm(predicted - true, axis=2).mean(), rel=1e-4)
    assert evaluate(Gray(), faces)["pixels"] == pytest.approx(
        50 * np.linalg.norm(np.subtract(*predict(Gray(), faces)), axis=2).mean(), rel=1e-4
    )


def test_the_heatmap_loss_is_the_divergence_from_gaussians_by_hand():
    torch.manual_seed(0)
    maps, true = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.rand(2, 3, 2, dtype=torch.float64)
    y, x = np.mgrid[:8, :8] + 0.5
    expected = []
    for scores, point in zip(maps.numpy().reshape(6, 8, 8), true.numpy().reshape(6, 2), strict=True):
        target = np.exp(-((x - 8 * point[0]) ** 2 + (y - 8 * point[1]) ** 2) / (2 * 1.5**2))
        target, softmax = target / target.sum(), np.exp(scores) / np.exp(scores).sum()
        expected.append((target * np.log(target / softmax)).sum())
    assert HeatmapLoss()(maps, true).item() == pytest.approx(np.mean(expected), rel=1e-4)
    softmax = maps.flatten(2).softmax(dim=2).view(maps.shape).numpy()
    places = np.stack([(softmax * x).sum(axis=(2, 3)), (softmax * y).sum(axis=(2, 3))], axis=-1) / 8
    both = np.mean(expected) + 7 * np.abs(places - true.numpy()).mean()
    assert HeatmapLoss(points_weight=7.0)(maps, true).item() == pytest.approx(both, rel=1e-4)
    assert HeatmapLoss()(true + 0.25, true).item() == pytest.approx(0.25), "points alone"


def test_the_spread_loss_by_hand_and_its_gradient_at_an_answer_that_is_exactly_right():
    off, covariance = np.array([0.3, -0.1]), np.array([[0.05, 0.02], [0.02, 0.03]])
    answer = torch.tensor([[[0.3, -0.1, 0.05, 0.03, 0.02]]], requires_grad=True)
    expected = np.sqrt(off @ np.linalg.inv(covariance) @ off) + np.log(np.linalg.det(covariance)) / 2
    assert SpreadLoss()(answer, torch.zeros(1, 1, 2)).item() == pytest.approx(expected, rel=1e-4)
    SpreadLoss()(answer, torch.tensor([[[0.3, -0.1]]])).backward()
    assert answer.grad.isfinite().all()


def test_the_best_weights_survive_an_interruption(eight, tmp_path):
    """After the best epoch 2 come worse ones; what goes on after epoch 3 still ends with those of epoch 2."""
    arguments = dict(loss="mse", lr=1e-3, batch_size=4)
    teacher, model = small_model(), small_model()
    fit(teacher, eight, None, epochs=2, **arguments)
    taught = [
        eight[n] | {"keypoints": points} for n, points in enumerate(torch.from_numpy(predict(teacher, eight)[0]))
    ]
    loss = InterruptedLoss(at=3 * 3 + 2)  # two batches and a validation an epoch
    loss.__name__ = "mse"
    fit(small_model(), eight, taught, loss, lr=1e-3, batch_size=4, epochs=5, checkpoint=tmp_path / "run.checkpoint")
    history = fit(model, eight, taught, epochs=5, checkpoint=tmp_path / "run.checkpoint", **arguments)
    assert len(history) == 5 and history["validation loss"].argmin() == 1
    torch.testing.assert_close(model.state_dict(), teacher.state_dict(), rtol=0, atol=0)
