"""Drawn faces: pixels and keypoints agree, and the files have the layout of the course data."""

import csv
import re
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from data_sets import drawn_faces as synthetic_faces
from data_sets.drawn_faces import draw_face, draw_frame, write_dataset
from data_sets.face_drawing.people import draw_person, draw_scene
from data_sets.find import ROOT
from facial_keypoints.schemes import IBUG_68

GRAY = (0.299, 0.587, 0.114)


def frontal(seed: int, **changes):
    """A brightly lit person without glasses or beard who looks straight into the camera."""
    rng = np.random.default_rng(seed)
    person = replace(draw_person(rng), glasses=None, beard=0.0, moustache=0.0)
    one = np.ones(3, np.float32)
    plain = {"angles": np.zeros(3), "smile": 0.0, "gape": 0.0, "frown": 0.0, "lids": np.full(2, 1.3)}
    plain |= {"gaze": np.zeros(2), "light": np.array((0.0, -0.3, -0.95)), "brow_lift": 0.0, "teeth": 0.0}
    plain |= {"ambient": 0.5 * one, "diffuse": 0.6 * one, "level": 0.9 * one, "backdrop": 1.0}
    return draw_frame(person, replace(draw_scene(rng), **(plain | changes)), rng, 240, 240)


def inside(polygon, shape) -> np.ndarray:
    mask = np.zeros(shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.round(polygon).astype(np.int32)], 1)
    return mask.astype(bool)


def profiles(gray, points, normals, reach) -> np.ndarray:
    """Gray values along each normal, a row for each point, from -reach to reach pixels."""
    steps = np.arange(-reach, reach + 0.5, 0.5)
    where = (points[:, None] + steps[None, :, None] * normals[:, None]).astype(np.float32)
    return cv2.remap(gray, where[..., 0], where[..., 1], cv2.INTER_LINEAR)


def test_image_and_keypoints_have_the_documented_types():
    image, keypoints = draw_face(3, size=150)
    assert image.shape == (150, 150, 3) and image.dtype == np.uint8
    assert keypoints.shape == (68, 2) and keypoints.dtype == np.float32


def test_one_seed_gives_one_picture_and_another_seed_another():
    (image, keypoints), (again, same), (other, moved) = draw_face(7), draw_face(7), draw_face(8)
    assert np.array_equal(image, again) and np.array_equal(keypoints, same)
    assert np.abs(image.astype(int) - other).mean() > 10 and np.abs(keypoints - moved).mean() > 2


def test_keypoints_lie_in_the_frame_and_faces_vary_in_size():
    widths = []
    for seed in range(30):
        _, keypoints = draw_face(seed, 120)
        assert keypoints.min() > 0 and keypoints.max() < 119
        widths.append(np.ptp(keypoints[:, 0]) / 120)
    assert 0.25 < min(widths) and max(widths) < 0.8 and np.ptp(widths) > 0.15


@pytest.mark.parametrize("seed", range(5))
def test_points_of_a_frontal_face_are_in_the_order_of_the_scheme(seed):
    _, p = frontal(seed)
    assert p[19, 1] < p[37, 1] < p[41, 1] < p[30, 1] < p[33, 1] < p[51, 1] < p[57, 1] < p[8, 1]
    assert (IBUG_68.swap_sides(p)[:8, 0] > p[:8, 0]).all()
    assert p[36, 0] < p[39, 0] < p[27, 0] < p[42, 0] < p[45, 0]
    assert (np.diff(p[:17, 0]) > 0).all() and (np.diff(p[48:55, 0]) > 0).all()


def test_the_darkest_spot_of_an_open_eye_lies_between_its_points():
    for seed in range(8):
        image, keypoints = frontal(seed)
        gray = cv2.GaussianBlur((image @ GRAY).astype(np.float32), (0, 0), 1.5)
        for eye in (keypoints[36:42], keypoints[42:48]):
            around = inside(eye.mean(0) + (eye - eye.mean(0)) * (1.0, 1.8), gray.shape)
            y, x = np.unravel_index(np.where(around, gray, 999).argmin(), gray.shape)
            assert cv2.pointPolygonTest(eye, (float(x), float(y)), True) > -1.5
            assert abs(x - eye[:, 0].mean()) < 0.25 * np.ptp(eye[:, 0])


def test_an_open_mouth_is_dark_inside_and_red_on_the_lips():
    for seed in range(8):
        image, keypoints = frontal(seed, gape=0.9)
        hole = inside(keypoints[60:68], image.shape)
        lips = inside(keypoints[48:60], image.shape) & ~hole
        skin = inside(keypoints[[2, 4, 48, 31]], image.shape)
        assert (image[hole] @ GRAY).mean() < 0.8 * (image[lips] @ GRAY).mean()
        red = [image[part][:, 0].mean() / image[part][:, 1].mean() for part in (lips, skin)]
        assert red[0] > red[1] * 1.1


def test_brows_are_dark_on_their_points():
    for seed in range(8):
        image, keypoints = frontal(seed)
        gray = cv2.GaussianBlur((image @ GRAY).astype(np.float32), (0, 0), 1.5)
        points = keypoints[[18, 19, 20, 23, 24, 25]]
        lines = profiles(gray, points, np.tile((0.0, 1.0), (6, 1)), 4)
        assert abs(np.median(lines.argmin(1) / 2 - 4)) <= 1.5


def test_the_strongest_edge_beside_the_chin_is_at_the_outline_points():
    offsets = []
    for seed in range(12):
        image, keypoints = frontal(seed)
        gray = cv2.GaussianBlur((image @ GRAY).astype(np.float32), (0, 0), 1)
        along = keypoints[4:15] - keypoints[2:13]
        normals = along[:, ::-1] * (-1, 1) / np.linalg.norm(along, axis=1, keepdims=True)
        lines = profiles(gray, keypoints[3:14], normals, 7)
        offsets.extend(np.abs(np.diff(lines, axis=1)).argmax(1) / 2 - 6.75)
    assert abs(np.median(offsets)) < 0.8 and np.median(np.abs(offsets)) < 1.2


def test_skin_ends_at_the_outline():
    for seed in range(8):
        image, keypoints = frontal(seed)
        centre = keypoints[30]
        cheeks, outside = (centre + (keypoints[[3, 4, 12, 13]] - centre) * f for f in (0.75, 1.25))
        tip = image[inside(keypoints[[28, 31, 35]], image.shape)].mean(0)
        near, far = (
            np.array(
                [image[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3].mean((0, 1)) for x, y in np.clip(p, 3, 236)]
            )
            for p in (cheeks, outside)
        )
        assert np.abs(near - tip).mean() < np.abs(far - tip).mean()


def test_haar_finds_nearly_all_faces_that_look_ahead():
    detector = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    found = []
    for seed in range(40):
        yaw = draw_scene(np.random.default_rng((seed, 1))).angles[0]
        if abs(yaw) < np.radians(25):
            image, keypoints = draw_face(seed)
            boxes = detector.detectMultiScale(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 1.1, 3)
            x, y = keypoints.mean(0)
            found.append(
                any(abs(bx + w / 2 - x) < 0.3 * w and abs(by + h / 2 - y) < 0.3 * h for bx, by, w, h in boxes)
            )
    assert len(found) > 20 and np.mean(found) > 0.8


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("drawn") / "data", num_training=9, num_test=6, seed=5)


def read_rows(csv_file):
    with open(csv_file, newline="") as file:
        return list(csv.reader(file))


def test_files_have_the_format_of_the_course_data(dataset):
    for split, count in (("training", 9), ("test", 6)):
        header, *rows = read_rows(dataset / f"{split}_frames_keypoints.csv")
        assert header == ["", *map(str, range(136))] and len(rows) == count
        assert sorted(row[0] for row in rows) == sorted(path.name for path in (dataset / split).iterdir())
        for name, *numbers in rows:
            assert re.fullmatch(r"[A-Z][a-z]+_[A-Z][a-z]+_\d\d\.jpg", name) and len(numbers) == 136
            with Image.open(dataset / split / name) as image:
                assert (image.format, image.mode) == ("PNG", "RGBA")
                assert np.asarray(image)[..., 3].min() == 255
                assert all(100 <= side <= 300 for side in image.size)
            points = np.array(numbers, float).reshape(68, 2)
            assert (points > 0).all() and (points < image.size).all()


def test_no_person_is_in_both_splits(dataset):
    people = [{name[:-7] for name, *_ in read_rows(dataset / f"{split}_frames_keypoints.csv")[1:]}
              for split in ("training", "test")]  # fmt: skip
    assert [len(names) for names in people] == [3, 2] and not people[0] & people[1]


def test_every_person_has_a_different_name():
    assert len({synthetic_faces.person_name(number) for number in range(2000)}) == 2000


def test_a_second_call_draws_nothing_and_other_parameters_replace_the_data(tmp_path, monkeypatch):
    root = write_dataset(tmp_path / "data", 2, 1)
    with monkeypatch.context() as patch:
        patch.setattr(synthetic_faces, "draw_frame", None)  # drawing again would fail
        assert write_dataset(root, 2, 1) == root
    write_dataset(root, 3, 1)
    assert len(list((root / "training").iterdir())) == 3 and [path.name for path in tmp_path.iterdir()] == ["data"]


def test_an_interruption_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic_faces, "photograph", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_dataset(tmp_path / "data", 3, 3)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="not drawn faces"):
        write_dataset(tmp_path, 1, 1)
    assert "choose another folder" in synthetic_faces.main([str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


SLOW_WRITER = """
import sys, time
from pathlib import Path
from data_sets.drawn_faces import write_once

root, seconds, wanted = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]

def write(folder):
    print("begins", flush=True)
    sys.stdin.readline()
    time.sleep(seconds)
    (folder / "face.png").write_text(wanted)

folder = write_once(root, wanted, write).stat().st_ino
for _ in range(100):  # until the slower one is done
    assert (root / "face.png").read_text() == wanted and root.stat().st_ino == folder
    time.sleep(0.01)
"""


@pytest.mark.parametrize("before", [None, "older"])
def test_two_processes_at_once_share_the_data_set_of_the_first(before, tmp_path):
    root = tmp_path / "data"
    if before:
        synthetic_faces.write_once(root, before, lambda folder: (folder / "face.png").write_text(before))
    asked = [[sys.executable, "-c", SLOW_WRITER, root, seconds, "new"] for seconds in ("0", "0.4")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    writers = [subprocess.Popen(command, **pipes) for command in asked]
    assert [writer.stdout.readline() for writer in writers] == ["begins\n"] * 2  # both before either has finished
    for writer in writers:
        writer.stdin.write("\n")
        writer.stdin.flush()
    assert [writer.wait(30) for writer in writers] == [0, 0]
    assert (root / "face.png").read_text() == "new" and [path.name for path in tmp_path.iterdir()] == ["data"]
