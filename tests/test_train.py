import re
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_nets import InterruptedLoss, Small

from data_sets.find import DataFolder, Kind
from data_sets.splits import real_splits
from facial_keypoints.images import DataError
from facial_keypoints.schemes import IBUG_68
from recipes import RECIPES
from train import SAVED_MODELS, default_output, main, run_recipe, train_and_save
from training.losses import LOSSES

FAST = RECIPES["fast"].for_scheme(IBUG_68)  # whose points the drawn faces have


def test_an_interrupted_script_does_not_replace_finished_weights(drawn, tmp_path, monkeypatch):
    weights = tmp_path / "face-crops.pt"
    weights.write_bytes(b"finished")
    monkeypatch.setenv("KEYPOINTS_DATA", str(drawn))
    monkeypatch.setitem(LOSSES, "smooth_l1", lambda: InterruptedLoss(at=1))
    monkeypatch.setattr("sys.argv", ["train.py", "face-crops", "--epochs", "1", "--output", str(weights)])
    main()
    assert weights.read_bytes() == b"finished"


def test_checkpoints_are_deleted_once_the_weights_are_saved_and_not_before(eight, tmp_path, monkeypatch):
    fast, weights = FAST, tmp_path / "fast.pt"
    recipe = replace(fast, epochs=1, batch_size=4, first=replace(fast.first, epochs=1, batch_size=4))
    (tmp_path / "fast-3.checkpoint").touch()  # of another run
    interrupted = InterruptedLoss(at=4, loss="spread")
    with monkeypatch.context() as patch:
        patch.setitem(LOSSES, "spread", lambda: interrupted)
        assert train_and_save(recipe, weights, eight) is None
    assert not weights.exists() and (tmp_path / "fast.checkpoint").exists()
    train_and_save(recipe, weights, eight)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["fast-3.checkpoint", "fast.pt"]


def test_a_new_first_stage_makes_the_second_stage_start_again(eight, tmp_path):
    fast, checkpoint = FAST, tmp_path / "fast.checkpoint"
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
def test_shipped_weights_are_trained_on_real_faces_only(course, photos, missing, drawn, tmp_path, monkeypatch):
    monkeypatch.setattr("train.SAVED_MODELS", tmp_path)
    monkeypatch.setattr("train.find_data", lambda: DataFolder(drawn, course, "the course"))
    monkeypatch.setattr("data_sets.splits.find_ibug", lambda: DataFolder(drawn, photos, "photos"))
    monkeypatch.setattr("sys.argv", ["train.py", "fast"])
    with pytest.raises(DataError, match=f"needs the course's frames and 300-W, not {missing}"):
        main()
    assert not list(tmp_path.iterdir())


def test_published_data_counts_as_real(monkeypatch):
    real = DataFolder("data", Kind.PUBLISHED, "frames")
    monkeypatch.setattr("data_sets.splits.find_ibug", lambda: real)
    monkeypatch.setattr("data_sets.splits.splits", lambda root: ["splits of", root])
    assert real_splits(real) == ["splits of", "data"]


def test_only_the_unchanged_recipe_writes_the_shipped_file():
    def output(epochs=None, seed=0, data=None, start=None):
        return default_output(Namespace(recipe="fast", epochs=epochs, seed=seed, data=data, start=start))

    paths = [output(), output(3), output(seed=1), output(3, 1, Path("my/faces"), Path("w/accurate.pt"))]
    names = ["fast.pt", "fast-3.pt", "fast-seed1.pt", "fast-faces-from-accurate-3-seed1.pt"]
    assert [path.name for path in paths] == names and {path.parent for path in paths} == {SAVED_MODELS}


def test_epochs_are_divided_among_the_stages():
    fast, course = RECIPES["fast"], RECIPES["course-mse"]
    assert [stage.epochs for stage in fast.lasting(10).stages] == [6, 4] and course.lasting(7).epochs == 7
    assert [stage.epochs for stage in fast.lasting(1).stages] == [1]
    assert fast.enough_epochs(3200, 3000) == fast.total_epochs and fast.enough_epochs(33, 5000) == 2500


@pytest.mark.parametrize("epochs", ["0", "-1", "2.5"])
def test_a_number_of_epochs_below_one_is_refused(epochs, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["train.py", "face-crops", f"--epochs={epochs}"])
    with pytest.raises(SystemExit):
        main()
    assert re.search(f"--epochs: invalid .*{epochs}", capsys.readouterr().err)


def test_a_recipe_with_a_finish_trains_both_stages_and_resumes_in_the_second(eight, tmp_path, monkeypatch):
    seen = []

    def unchanged(sample):
        seen.append(1)
        return sample

    fast = FAST
    first = replace(fast.first, epochs=1, batch_size=4)
    recipe = replace(fast, augmentations=(unchanged,), epochs=2, batch_size=4, first=first)
    model, history = run_recipe(recipe, eight, checkpoint=tmp_path / "run.checkpoint")
    assert history["epoch"].tolist() == [1, 2, 3] and recipe.total_epochs == 3
    assert len(seen) == 2 * len(eight) + recipe.batch_size  # its first batch once more, for the checkpoint

    (tmp_path / "run.2.checkpoint").unlink()
    interrupted = InterruptedLoss(at=4, loss="spread")  # the finish has two batches an epoch
    with monkeypatch.context() as patch:
        patch.setitem(LOSSES, "spread", lambda: interrupted)
        assert len(run_recipe(recipe, eight, checkpoint=tmp_path / "run.checkpoint")[1]) == 2
    again, _ = run_recipe(recipe, eight, checkpoint=tmp_path / "run.checkpoint")
    assert torch.equal(again.head.weight, model.head.weight)
