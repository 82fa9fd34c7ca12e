import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmarks.tables import merge_rows
from data_load import FacialKeypointsDataset
from data_sets.course import LABEL_SHIFT, centre_labels, course_frames
from data_sets.find import DataFolder, Kind
from data_sets.ibug_300w import IbugFaces, drawn_xml, held_out_photos
from data_sets.splits import HeldOut, check_not_learned, real_splits, splits, with_boxes
from facial_keypoints.geometry import tight_box
from facial_keypoints.images import DataError
from facial_keypoints.schemes import IBUG_68
from protocol import detected, interval, jittered, table_row
from recipes import FACE_CROP, RECIPES
from train import run_recipe
from training.loop import predict
from transfer import experiments as transfer


@pytest.fixture(scope="module")
def frames(drawn):
    return FacialKeypointsDataset(drawn / "training_frames_keypoints.csv", drawn / "training", in_memory=True)


@pytest.fixture(scope="module")
def both(drawn):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_sets.splits.load_ibug", lambda: (IbugFaces(drawn_xml(drawn)), "drawn"))
        return {split.name: split for split in splits(drawn)}


def people(*parts):
    return {str(name) for part in parts for name in part.people}


def test_unseen_people_are_in_no_training_frame_and_all_their_frames_are_tested(both, frames):
    split = both["unseen"]
    test = split.tests["unseen"]
    strangers = people(*test.parts)
    assert strangers and not strangers & people(split.training[0])
    assert strangers | people(split.training[0]) == people(frames)
    assert set(test.groups) == strangers and len(test) == sum(map(len, test.parts))
    of_both_files = np.isin(both["all"].tests["official"].parts[0].people, list(strangers)).sum()
    assert len(test.parts[1]) == of_both_files


def test_no_photo_of_300_w_is_on_both_sides_of_the_split(both):
    cuts, test = both["all"].training[1], both["all"].tests["300-W"]
    assert not set(cuts.photos) & set(test.groups)
    assert len(np.unique(cuts.photos)) == pytest.approx(4 * len(np.unique(test.groups)), abs=3)


def test_training_does_not_import_modules_for_measuring():
    loaded = "import sys, train; print([m for m in ('protocol', 'benchmarks', 'matplotlib') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True).stdout == "[]\n"


def test_shipped_networks_are_not_tested_on_their_training_photos(both):
    with pytest.raises(DataError, match=r"learned from \d+ photos of this test \(\w+ is one\); they are only"):
        check_not_learned(both["all"].tests["300-W"].groups)  # drawn faces, which are not on the list
    check_not_learned(np.resize(sorted(held_out_photos()), 500))


def test_exact_boxes_are_tight_and_jitter_has_the_documented_size(both):
    test = both["all"].tests["official"]
    exact = test.exact_boxes()
    np.testing.assert_allclose(exact[3], tight_box(test.parts[0].keypoints[3]))
    many = np.repeat(exact[:1], 20000, axis=0)
    moved = jittered(many)
    centres = (moved[:, :2] + moved[:, 2:] / 2 - many[:, :2] - many[:, 2:] / 2) / many[:, 2:]
    np.testing.assert_allclose(centres.std(axis=0), 0.05, rtol=0.03)
    np.testing.assert_allclose(np.log(moved[:, 2:] / many[:, 2:]).std(axis=0), 0.08, rtol=0.03)
    np.testing.assert_array_equal(moved, jittered(many))


def test_missed_faces_are_left_out_of_the_error_and_counted_as_failures(frames):
    twelve = frames.subset(range(6, 18))
    test, boxes = HeldOut((twelve,), twelve.people), np.stack([tight_box(twelve.keypoints[i]) for i in range(6, 18)])
    boxes[2:6] = np.nan
    true = np.stack([crop["keypoints"].numpy() for crop in test.crops(boxes, FACE_CROP)])
    kept = np.stack([twelve.with_transform(FACE_CROP)[i]["keypoints"].numpy() for i in (0, 1, *range(6, 12))])
    np.testing.assert_allclose(true, kept, atol=1e-5)
    row = table_row(true, true, np.delete(test.groups, slice(2, 6)), missed=4)
    assert (row["faces"], row["missed"], row["NME %"]) == (12, 4, 0)
    assert row["failures at 8 %"] == pytest.approx(100 / 3) and row["AUC to 8 %"] == pytest.approx(2 / 3)


def test_the_detector_runs_on_every_picture(frames):
    def detector(picture):  # finds the face of even rows only, and a false box in the corner
        asked.append(picture.shape)
        boxes = [[-500, -500, 9, 9]] + ([tight_box(frames.keypoints[len(asked) - 1])] if len(asked) % 2 else [])
        return np.array(boxes, np.float32), np.ones(len(boxes))

    asked, six = [], frames.subset(range(6))
    boxes = detected(HeldOut((six,), six.people), detector)
    assert np.isnan(boxes).all(axis=1).tolist() == [False, True] * 3
    np.testing.assert_allclose(boxes[2], tight_box(frames.keypoints[2]))


@pytest.mark.parametrize("frames_kind", list(Kind))
@pytest.mark.parametrize("faces_kind", [Kind.PUBLISHED, Kind.DRAWN])
def test_real_splits_need_the_published_frames_and_the_published_photos(frames_kind, faces_kind, monkeypatch):
    frames = DataFolder("frames", frames_kind, "these frames")
    monkeypatch.setattr("data_sets.splits.find_ibug", lambda: DataFolder("faces", faces_kind, "those faces"))
    monkeypatch.setattr("data_sets.splits.splits", lambda root: [root])
    if frames_kind is faces_kind is Kind.PUBLISHED:
        assert real_splits(frames) == ["frames"]
    else:
        wrong = "those faces" if frames_kind is Kind.PUBLISHED else "these frames"
        with pytest.raises(DataError, match=f"needs the course's frames and 300-W, not {wrong}"):
            real_splits(frames)


def test_every_part_of_a_test_gets_its_own_boxes(frames):
    two, three = frames.subset([7, 1]), frames.subset([3, 4, 20])
    test = HeldOut((two, three), np.concatenate([two.people, three.people]))
    boxes = test.exact_boxes()
    np.testing.assert_allclose(boxes[[0, 4]], [tight_box(frames.keypoints[i]) for i in (7, 20)])
    boxes[3] = np.nan
    crops = test.crops(boxes + np.float32([1, 0, 0, 0]), None)
    assert len(test) == 5 and len(crops) == 4
    for crop, number in zip(crops, (7, 1, 3, 20), strict=True):
        np.testing.assert_allclose(crop["box"], tight_box(frames.keypoints[number]) + [1, 0, 0, 0])
        np.testing.assert_array_equal(crop["keypoints"], frames.keypoints[number])


def test_boxes_follow_a_subset(frames):
    part = frames.subset([4, 9])
    boxes = np.array([[1, 2, 30, 40], [5, 6, 70, 80]], np.float32)
    np.testing.assert_array_equal([sample["box"] for sample in with_boxes(part, boxes)], boxes)


def test_the_interval_resamples_groups_not_faces():
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(100), 9)
    errors = np.repeat(rng.normal(5, 1, 100), 9)  # nine equal faces per person: only 100 independent numbers
    low, high = interval(errors, groups)
    wide = 2 * 1.96 * errors.std() / np.sqrt(100)  # the normal approximation for 100 independent numbers
    assert high - low == pytest.approx(wide, rel=0.15) and low < errors.mean() < high


def test_centred_labels_are_shifted_by_half_a_cell(frames):
    moved = frames.keypoints - centre_labels(frames).keypoints
    sides = np.ptp(frames.keypoints[5], axis=0)
    np.testing.assert_allclose(moved[5], LABEL_SHIFT * np.sqrt(sides[0] * sides[1]), rtol=1e-3)


@pytest.mark.parametrize("kind", Kind)
def test_only_labels_of_the_published_frames_are_shifted(kind, drawn, monkeypatch):
    monkeypatch.setattr("data_sets.course.kind_of", lambda root: kind)
    monkeypatch.setattr("data_sets.course.centre_labels", lambda frames: "centred")
    centred = [frames == "centred" for frames in course_frames(drawn)]
    assert centred == [kind is Kind.PUBLISHED] * 2


def test_a_shipped_recipe_trains_on_both_data_sets_and_predicts_in_parts_of_the_crop(both):
    split, recipe = both["all"], RECIPES["fast"].for_scheme(IBUG_68)
    training = tuple(part.subset(range(8)) for part in split.faces(recipe))
    assert len(split.faces(recipe)) == 3 and len(split.faces(RECIPES["face-crops"])) == 1
    model, history = run_recipe(replace(recipe, epochs=2, first=None), training)
    assert len(history) == 2 and "validation loss" not in history
    predicted, true = predict(
        model, split.tests["official"].crops(split.tests["official"].exact_boxes(), recipe.transform)
    )
    assert predicted.shape == true.shape and 0 < true.min() < true.max() < 1


def test_new_rows_replace_old_ones_and_the_others_stay(tmp_path):
    path = tmp_path / "results" / "table.csv"
    merge_rows(pd.DataFrame({"row": ["b", "a"], "NME": [2, 1]}), path, ["row"], "abc")
    merge_rows(pd.DataFrame({"row": ["c", "b"], "NME": [3, 20]}), path, ["row"], "abc")
    assert pd.read_csv(path).values.tolist() == [["a", 1], ["b", 20], ["c", 3]]


def test_the_held_out_photos_are_those_of_notebook_6(both, drawn, monkeypatch):
    monkeypatch.setattr(transfer, "load_ibug", lambda: (IbugFaces(drawn_xml(drawn)), "drawn"))
    _, validation, _ = transfer.split_faces(size=32)
    assert validation.photos.tolist() == both["all"].tests["300-W"].groups.tolist()
