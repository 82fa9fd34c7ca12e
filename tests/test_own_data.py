"""One's own pictures and points, from the command line to the library."""

import csv

import numpy as np
import pytest
from PIL import Image

from data_sets.drawn_faces import draw_face
from data_sets.imm_faces import IMM_58, write_drawn
from data_sets.own import own_data
from facial_keypoints.images import DataError
from facial_keypoints.pipeline import FacePipeline
from facial_keypoints.schemes import IBUG_68, Scheme
from train import main
from training.export import export
from training.weights import load_model

# 98 points: the 68 and one between each of these pairs of neighbours.
BETWEEN = [(i, i + 1) for i in range(16)] + [(i, i + 1) for i in range(48, 59)] + [(59, 48), (17, 18), (25, 26)]


def to_98(points):
    return np.concatenate([points, [points[[a, b]].mean(axis=0) for a, b in BETWEEN]])


def mirror_98():
    swapped = [{IBUG_68.mirror[a], IBUG_68.mirror[b]} for a, b in BETWEEN]
    return (*IBUG_68.mirror, *(68 + [set(pair) for pair in BETWEEN].index(pair) for pair in swapped))


SCHEME_98 = Scheme("mine-98", 98, mirror_98(), ruler=(36, 45), parts={"jaw": tuple(range(17))})


def write_own(folder, count=10, people=None, change=to_98):
    """Drawn faces named IMG_0000.png and so on, with a keypoints.csv."""
    rows = []
    for number in range(count):
        image, points = draw_face(number, size=96)
        Image.fromarray(image).save(folder / f"IMG_{number:04d}.png")
        who = [people[number]] if people else []
        rows.append([f"IMG_{number:04d}.png", *who, *np.ravel(change(points))])
    header = ["image", *(["person"] if people else []), *range(len(rows[0]) - 1 - bool(people))]
    with open(folder / "keypoints.csv", "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return folder


@pytest.fixture
def train(monkeypatch, tmp_path):
    """Run `python train.py` with the given arguments; returns the file that it has written."""

    def run(*arguments):
        monkeypatch.setattr("train.SAVED_MODELS", tmp_path / "saved_models")
        monkeypatch.setattr("sys.argv", ["train.py", *map(str, arguments)])
        main()
        (written,) = (tmp_path / "saved_models").iterdir()  # no checkpoint is left
        return written

    return run


def test_98_points_are_trained_from_weights_for_68_and_run_by_the_library(train, tmp_path, capsys):
    (folder := tmp_path / "faces").mkdir()
    lines = ['name = "mine-98"', "num_points = 98", f"mirror = {list(SCHEME_98.mirror)}", "ruler = [36, 45]"]
    (tmp_path / "mine.toml").write_text("\n".join([*lines, "[parts]", f"jaw = {list(range(17))}"]))
    arguments = ("--scheme", tmp_path / "mine.toml", "--start", "saved_models/fast.pt", "--epochs", 2)
    output = train("fast", "--data", write_own(folder), *arguments)
    model, printed = load_model(output), capsys.readouterr().out
    assert output.name == "fast-faces-from-fast-2.pt"
    assert model.num_keypoints == 98 and model.expects.scheme == SCHEME_98
    export(model, tmp_path / "mine.onnx")
    found = FacePipeline(tmp_path / "mine.onnx", detector="haar").keypoints(draw_face(0)[0], [[40, 40, 100, 100]])
    assert found.shape == (1, 98, 2)
    assert "its last layer has 85 points, that for 98 starts afresh" in printed
    assert "mine-98: 8 faces to learn from, 2 held out" in printed and "validation: NME %" in printed


def test_the_58_points_of_imm_are_trained_by_both_stages_of_a_recipe(train, tmp_path):
    root = write_drawn(tmp_path / "imm", people=5, views=1, size=(120, 160))
    model = load_model(train("fast", "--data", root, "--epochs", 2))
    assert model.expects.scheme == IMM_58 and model.expects.size == 160 and model.num_keypoints == 58


def test_whole_frames_and_points_without_a_scheme_are_trained_too(train, tmp_path):
    write_own(tmp_path, 6, change=lambda points: points[:5])
    expects = load_model(train("course-mse", "--data", tmp_path, "--epochs", 1)).expects
    assert expects.scheme == Scheme("5 points", 5) and expects.margin is None


def test_names_like_img_0001_are_not_one_person_and_integer_labels_are_not_shifted(tmp_path):
    write_own(tmp_path, change=np.rint)
    training, validation, test = own_data(tmp_path, whole_frames=True)
    assert len(training) == 8 and len(validation) == 2 and test is None
    np.testing.assert_array_equal(training[0]["keypoints"], np.rint(draw_face(int(training.indices[0]), size=96)[1]))


def test_faces_are_cut_out_of_photos_once_with_their_points(tmp_path):
    write_own(tmp_path)
    training, _, _ = own_data(tmp_path, SCHEME_98)
    (tmp_path / training.names[training.indices[0]]).unlink()
    sample = training[0]
    assert sample["image"].shape == (256, 256, 3)
    x, y = sample["keypoints"].min(axis=0)
    assert min(x, y) == pytest.approx(256 / 4, abs=1), "a quarter of the cut-out on either side of the box"


def test_people_named_in_the_column_are_on_one_side_of_the_split(tmp_path):
    write_own(tmp_path, people=["ann", "bob", "ann", "cy", "ann", "dee", "dee", "ann", "eve", "ann"])
    training, validation, _ = own_data(tmp_path)
    assert not set(training.people) & set(validation.people) and len(set(validation.people)) == 1


def test_own_frames_in_the_course_layout_are_read_with_their_test_frames(drawn):
    training, validation, test = own_data(drawn)
    assert len(training) + len(validation) == 24 and len(test) == 8


@pytest.mark.parametrize(
    ("prepare", "scheme", "sentence"),
    [
        (lambda folder: None, None, "holds no keypoints.csv, no training_frames_keypoints.csv and no .asf files"),
        (write_own, Scheme("mine", 97), r'keypoints.csv: row 1 \("IMG_0000.png"\): 98 keypoints, but .* mine has 97'),
        (lambda folder: (folder / "01-1m.asf").touch(), Scheme("mine", 58), "those of IMM; leave the scheme out"),
        (lambda folder: write_own(folder, people=["ann"] * 10), None, "10 pictures of one person .ann."),
        (lambda folder: write_own(folder, change=lambda points: points[:1]), None, "one point has no box around it"),
    ],
)
def test_unusable_data_is_one_sentence(prepare, scheme, sentence, tmp_path):
    prepare(tmp_path)
    with pytest.raises(DataError, match=sentence):
        own_data(tmp_path, scheme)


def test_a_scheme_needs_data(train, capsys):
    with pytest.raises(SystemExit):
        train("fast", "--scheme", "mine.toml")
    assert "--scheme needs --data" in capsys.readouterr().err
