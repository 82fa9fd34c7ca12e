import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch import nn

from detector_architectures import haar
from detector_architectures.haar import HaarDetector, find_eyes, find_smile
from facial_keypoints.images import DataError, as_rgb
from facial_keypoints.network import Expects
from facial_keypoints.pipeline import DEFAULT_MODEL, FacePipeline, confidence, without_doubles
from models import FastNet, Net
from training.weights import save_model

ROOT = Path(__file__).resolve().parent.parent


class BrightestPixel(nn.Module):
    """Returns 68 times the place of the brightest pixel of its input, normalised as Expects() says."""

    num_keypoints, expects = 68, Expects()

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        place = x.flatten(1).argmax(1)
        points = torch.stack([place % x.shape[3], place // x.shape[3]], -1).float()
        return ((points - self.expects.mean) / self.expects.std)[:, None].expand(-1, 68, 2)


@pytest.fixture(scope="module")
def astronaut():
    return skimage.data.astronaut()


@pytest.mark.parametrize("box", [(180, 60, 100, 90), (-20, -10, 150, 160), (200, 200, 700, 500)])
def test_keypoints_come_back_in_photo_pixels(box):
    """A bright dot in the photo is found where it was put, also when the box sticks out of the photo."""
    photo = np.zeros((600, 800, 3), np.uint8)
    dot = (box[0] + 0.6 * box[2], box[1] + 0.7 * box[3])
    cv2.circle(photo, (round(dot[0]), round(dot[1])), 1, (255, 255, 255), cv2.FILLED)
    keypoints = FacePipeline(model=BrightestPixel()).keypoints(photo, [box])
    assert keypoints.shape == (1, 68, 2)
    pixel_of_the_crop = max(box[2:]) * 1.5 / 224
    assert np.abs(keypoints[0] - [round(dot[0]), round(dot[1])]).max() < pixel_of_the_crop + 0.6


def test_several_boxes_come_back_in_their_order(astronaut):
    pipeline = FacePipeline(model=BrightestPixel())
    boxes = np.array([[180, 60, 90, 90], [20, 300, 120, 100], [300, 10, 60, 80]])
    together = pipeline.keypoints(astronaut, boxes)
    for box, keypoints in zip(boxes, together, strict=True):
        np.testing.assert_allclose(pipeline.keypoints(astronaut, box[None])[0], keypoints, atol=1e-4)


def test_haar_finds_the_astronaut_and_the_box_is_tight(astronaut):
    boxes, scores = HaarDetector()(astronaut)
    assert boxes.shape == (len(scores), 4) and boxes.dtype == np.float32
    x, y, w, h = boxes[0]
    assert abs(x + w / 2 - 222) < 12 and abs(y + h / 2 - 118) < 20  # brows to chin, by eye on the picture
    assert 75 < w < 115 and 75 < h < 115


def test_best_scores_come_first(astronaut):
    _, scores = HaarDetector()(np.hstack([astronaut, astronaut[:, ::-1]]))
    assert (np.diff(scores) <= 0).all() and len(scores) >= 2


def test_a_face_in_the_dark_is_found_by_a_further_attempt(astronaut):
    dark = (astronaut[:300] * 0.1).astype(np.uint8)
    assert len(HaarDetector(attempts=haar.ATTEMPTS[:1])(dark)[0]) == 0
    boxes, scores = HaarDetector()(dark)
    assert len(boxes) == len(scores) == 1 and np.abs(boxes[0, :2] + boxes[0, 2:] / 2 - [222, 118]).max() < 20


def test_what_haar_takes_for_a_face_and_the_network_does_not_is_left_out():
    moon = np.repeat(skimage.data.moon()[..., None], 3, axis=2)
    assert len(HaarDetector()(moon)[0]) == 1
    assert FacePipeline()(moon) == [] and len(FacePipeline(sure=0.0)(moon)) == 1


def test_two_boxes_on_one_face_are_one_face_and_neighbours_stay(astronaut):
    two = np.hstack([astronaut[:300], astronaut[:300]])
    boxes = np.array([[175, 70, 100, 95], [165, 40, 130, 140], [687, 70, 100, 95]], np.float32)
    pipeline = FacePipeline()
    faces = pipeline.faces(two, boxes, [1.0, 3.0, 2.0])
    assert [round(face.box[0] + face.box[2] / 2, -2) for face in faces] == [200, 700]
    every = [pipeline.faces(two, box[None], [1.0])[0] for box in boxes]
    assert len(every) == 3 and faces[0].confidence.mean() == pytest.approx(max(f.confidence.mean() for f in every[:2]))
    anonymous = [replace(face, confidence=None, score=score) for face, score in zip(every, (1, 3, 2), strict=True)]
    assert [face.score for face in without_doubles(anonymous)] == [3, 2]


def test_nobody_there_is_an_empty_list():
    assert FacePipeline(model=BrightestPixel())(np.full((200, 300, 3), 127, np.uint8)) == []
    assert FacePipeline(model=BrightestPixel()).keypoints(np.zeros((20, 30, 3), np.uint8), []).shape == (0, 68, 2)


@pytest.mark.parametrize("left, top", [(190, 80), (178, 60), (0, 95)])
def test_a_face_cut_by_the_border_is_found_where_it_is_in_the_whole_photo(left, top, astronaut):
    pipeline, box = FacePipeline(sure=0.0), [175, 70, 100, 95]
    (whole,) = pipeline.faces(astronaut, [box], [1.0])
    (cut,) = pipeline.faces(astronaut[top:, left:], [box - np.array([left, top, 0, 0])], [1.0])
    off = np.linalg.norm(cut.keypoints + [left, top] - whole.keypoints, axis=1)
    assert off.mean() < 3


@pytest.mark.parametrize("side", [1, 10])
def test_tiny_pictures_do_not_crash(side, astronaut):
    pipeline, picture = FacePipeline(model=BrightestPixel()), astronaut[:side, :side]
    assert pipeline(picture) == []
    (face,) = pipeline.faces(picture, [[0, 0, side, side]], [1.0])
    assert np.isfinite(face.keypoints).all()


def test_boxes_and_scores_may_be_lists_and_must_be_as_many(astronaut):
    pipeline, boxes = FacePipeline(sure=0.0), [[175, 70, 100, 95]]
    (face,) = pipeline.faces(astronaut, boxes, [2])
    (same,) = pipeline.faces(astronaut, np.array(boxes, np.float32), np.array([2.0]))
    np.testing.assert_array_equal(face.keypoints, same.keypoints)
    assert pipeline.faces(astronaut, [], []) == []
    with pytest.raises(DataError, match="2 scores for 1 boxes"):
        pipeline.faces(astronaut, boxes, [1.0, 2.0])


def test_gray_rgba_and_16_bit_pictures_are_taken(astronaut, tmp_path):
    pipeline = FacePipeline(model=BrightestPixel())
    gray = cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY)
    rgba = np.dstack([astronaut, np.full(astronaut.shape[:2], 255, np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "photo.png")
    for picture in (gray, rgba, gray.astype(np.uint16) * 257, tmp_path / "photo.png", str(tmp_path / "photo.png")):
        assert len(pipeline(picture)) == 1


@pytest.mark.parametrize("wrong", [np.zeros((5, 5, 3)), np.zeros((5, 5, 2), np.uint8), np.zeros(4, np.uint8)])
def test_an_array_that_is_no_picture_is_one_sentence(wrong):
    with pytest.raises(DataError, match="an image"):
        as_rgb(wrong)


@pytest.mark.parametrize("box", [[0, 0, 0, 10], [0, 0, np.nan, 5], [1, 2, 3]])
def test_a_box_without_size_is_one_sentence(box, astronaut):
    with pytest.raises(DataError, match="a box must be"):
        FacePipeline(model=BrightestPixel()).keypoints(astronaut, [box])


def test_eyes_and_smile_are_found_inside_the_face(astronaut):
    box = HaarDetector()(astronaut)[0][0]
    eyes, smile = find_eyes(astronaut, box), find_smile(astronaut, box)
    centres = eyes[:, :2] + eyes[:, 2:] / 2
    assert len(eyes) == 2 and len(smile) >= 1
    assert np.abs(np.sort(centres[:, 0]) - [205, 242]).max() < 10 and np.abs(centres[:, 1] - 105).max() < 15
    assert (smile[:, 1] + smile[:, 3] / 2 > 120).all()
    assert find_eyes(astronaut, (-500, -500, 100, 100)).shape == (0, 4)


def test_opencv_5_is_one_clear_sentence(monkeypatch):
    monkeypatch.delattr(cv2, "CascadeClassifier")
    with pytest.raises(RuntimeError, match=r"has no Haar cascades: pip install \"opencv-python>=4.10,<5\""):
        haar.load_cascade("eye")


def run_script(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "facial_keypoints", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )


def test_the_script_draws_a_photo_and_reports_mistakes_in_one_line(astronaut, tmp_path):
    Image.fromarray(astronaut).save(tmp_path / "photo.jpg")
    torch.manual_seed(0)
    save_model(Net(), tmp_path / "net.pt", Expects())
    done = run_script(tmp_path / "photo.jpg", "--model", tmp_path / "net.pt")
    assert done.returncode == 0 and "1 face; drawn in" in done.stdout
    drawn = np.asarray(Image.open(tmp_path / "photo_keypoints.jpg")).astype(int)
    red = (drawn[..., 0] > 200) & (drawn[..., 1:] < 60).all(-1)
    assert drawn.shape == astronaut.shape and red.sum() > 100, "the box is drawn"

    for arguments, sentence in (
        ([tmp_path / "none.jpg", "--model", tmp_path / "net.pt"], "no such file"),
        ([tmp_path / "photo.jpg", "--model", tmp_path / "none.pt"], "no such weights file"),
        ([tmp_path / "net.pt", "--model", tmp_path / "net.pt"], "not a readable picture"),
        ([tmp_path / "photo.jpg", "--model", tmp_path / "net.pt", "--output", tmp_path / "no" / "x.jpg"], "no/x.jpg"),
    ):
        failed = run_script(*arguments)
        assert failed.returncode == 1 and len(failed.stderr.strip().splitlines()) == 1
        assert sentence in failed.stderr


def test_confidence_is_the_part_of_draws_that_fall_near_enough():
    rng = np.random.default_rng(0)
    for spread in (0.01, 0.03, 0.2):
        draws = rng.gamma(2.0, spread, 200_000)  # distances under exp(-distance / spread) in the plane
        assert confidence(np.float32(spread)) == pytest.approx((draws < 0.05).mean(), abs=0.005)


def test_networks_that_know_how_sure_they_are_say_so_and_others_say_none(astronaut):
    torch.manual_seed(0)
    sure, box = FastNet(), [[180, 60, 100, 90]]
    sure.expects = Expects(size=128, mean=-0.5, std=128.0)
    keypoints, certainty = FacePipeline(model=sure).locate(astronaut, box)
    assert certainty.shape == (1, 68) and 0 < certainty.min() and certainty.max() < 1
    np.testing.assert_array_equal(keypoints, FacePipeline(model=sure).keypoints(astronaut, box))
    assert FacePipeline(model=BrightestPixel()).locate(astronaut, box)[1] is None
    (face,) = FacePipeline(model=sure, sure=0.0)(astronaut)
    assert face.confidence.shape == (68,)


def test_the_network_that_ships_finds_the_astronauts_face(astronaut):
    (face,) = FacePipeline()(astronaut)
    assert DEFAULT_MODEL.is_file() and face.confidence.mean() > 0.5
    eyes = face.keypoints[36:42].mean(axis=0), face.keypoints[42:48].mean(axis=0)
    found = np.array([*eyes, face.keypoints[30], face.keypoints[62]])
    seen = [(203, 101), (247, 103), (226, 127), (224, 143)]  # by eye: pupils, tip of the nose, edge of the upper lip
    assert np.linalg.norm(found - seen, axis=1).max() < 5


class MiddleFace(nn.Module):
    """Finds the bright square of its input: 68 points on its edges, normalised as Expects() says."""

    num_keypoints, expects = 68, Expects()

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        faces = []
        for picture in x[:, 0] > 0.5:
            rows, columns = (torch.nonzero(picture.any(dim=d)).ravel() for d in (1, 0))
            corners = torch.tensor([[columns[0], rows[0]], [columns[-1], rows[-1]]]).float()
            faces.append(corners.repeat(34, 1))
        return (torch.stack(faces) - self.expects.mean) / self.expects.std


@pytest.mark.parametrize(("box", "believed"), [((210, 190, 90, 90), True), ((180, 160, 190, 190), False)])
def test_the_second_look_corrects_a_box_unless_the_first_answer_is_far_from_it(box, believed):
    photo = np.zeros((500, 500, 3), np.uint8)
    photo[200:300, 200:300] = 255
    corrected = FacePipeline(model=MiddleFace()).look_again(photo, np.array([box], np.float32))
    np.testing.assert_allclose(corrected[0], (199.5, 199.5, 100, 100) if believed else box, atol=1.5)


def test_a_network_of_whole_frames_is_one_sentence():
    net = Net()
    net.expects = Expects(margin=None)
    with pytest.raises(DataError, match="sees whole frames"):
        FacePipeline(model=net)
