import numpy as np
import pytest
import torch
from small_nets import InterruptedLoss, Small, small_model
from torch import nn

from facial_keypoints.images import DataError
from models import BatchNormNet
from recipes import RECIPES
from training.loop import fit, predict
from training.losses import LOSSES

FACE_CROP_TRAINING = RECIPES["face-crops"].training_transform


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
    ("change", "wrong"),
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
        ({"model": Small()}, "starting weights .*, not "),
    ],
)
def test_the_checkpoint_of_another_run_is_refused_with_what_differs(change, wrong, faces, eight, tmp_path):
    checkpoint = tmp_path / "run.checkpoint"
    fit(small_model(), eight, epochs=2, batch_size=8, checkpoint=checkpoint)
    data = change.get("training_data", range(8))
    other = eight.with_transform(data) if data is FACE_CROP_TRAINING else faces.subset(data)
    asked = {"model": small_model(), "epochs": 2, "batch_size": 8} | change | {"training_data": other}
    with pytest.raises(DataError, match=rf"run.checkpoint: not a checkpoint of this run \(.*{wrong}.*\); delete it"):
        fit(**asked, checkpoint=checkpoint)
    assert len(fit(small_model(), eight, epochs=2, batch_size=8, checkpoint=checkpoint)) == 2, "it was left as it was"


def test_another_seed_is_another_run(faces):
    first, second = small_model(), small_model()
    losses = [fit(m, faces, faces, epochs=1, batch_size=5, seed=s) for m, s in ((first, 0), (second, 1))]
    assert losses[0]["training loss"].iloc[0] != losses[1]["training loss"].iloc[0]


def test_a_damaged_checkpoint_is_one_sentence_without_advice_to_load_it_unsafely(eight, tmp_path):
    (tmp_path / "run.pt").write_bytes(b"half a file")
    reason = r"run.pt: not a checkpoint of this run \(damaged, or of another program\); delete it$"
    with pytest.raises(DataError, match=reason):
        fit(small_model(), eight, eight, epochs=1, checkpoint=tmp_path / "run.pt")


def test_a_full_disk_in_training_is_one_sentence(eight, tmp_path, monkeypatch):
    def full(content, file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(DataError, match="run.pt: could not be written .*No space left"):
        fit(small_model(), eight, eight, epochs=1, checkpoint=tmp_path / "run.pt")


def test_the_best_weights_survive_an_interruption(eight, tmp_path):
    """Epoch 2 is the best; a run that is interrupted after epoch 3 and resumed still ends with its weights."""
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
