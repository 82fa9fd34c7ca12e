"""`python -m tools.fuzz` in a small size, and tests that it notices faults."""

import io
import os
import struct
import time

import numpy as np
import pytest
from PIL import Image

from facial_keypoints import images
from facial_keypoints.drawing import draw_boxes, draw_keypoints
from facial_keypoints.images import DataError, as_rgb, read_image
from facial_keypoints.pipeline import FacePipeline
from tools import fuzz


@pytest.fixture(scope="module")
def pipeline():
    return FacePipeline("fast", "haar", threads=1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("check", range(len(fuzz.CHECKS)))
def test_damaged_and_odd_inputs_give_a_result_or_one_sentence(check, pipeline):
    times = {fuzz.check_command: 5, fuzz.check_video: 12}.get(fuzz.CHECKS[check], 30)
    for number in range(check, times * len(fuzz.CHECKS), len(fuzz.CHECKS)):
        assert fuzz.fault_of(number, pipeline) is None, f"python -m tools.fuzz --only {number}"


def test_a_wrong_answer_another_exception_and_slowness_are_faults(pipeline, monkeypatch):
    file = fuzz.CHECKS.index(fuzz.check_file)
    monkeypatch.setattr(fuzz, "read_image", lambda path: np.zeros((3, 4), np.uint8))
    assert "Fault: an image uint8 (3, 4)" in fuzz.fault_of(file, pipeline)
    monkeypatch.setattr(fuzz, "read_image", lambda path: 1 / 0)
    assert "ZeroDivisionError" in fuzz.fault_of(file, pipeline)
    monkeypatch.setattr(fuzz, "read_image", lambda path: fuzz.PIXELS)
    assert fuzz.fault_of(file, pipeline) is None
    monkeypatch.setattr(fuzz, "SECONDS", 0)
    assert "0.0 seconds" in fuzz.fault_of(file, lambda image: [])


def dies_of_2(numbers, pipe):
    for number in numbers:
        if number == 2:
            os._exit(11)
        pipe.send((number, None, 7.0))


def test_a_crash_is_a_fault_and_the_inputs_after_it_are_checked_too(monkeypatch):
    monkeypatch.setattr(fuzz, "answer", dies_of_2)
    faults = {}
    assert fuzz.check_all(range(4), faults.__setitem__) == 7.0
    assert faults == {0: None, 1: None, 2: "it crashed", 3: None}


# ---- faults that it has found


def test_pipes_and_postscript_are_refused(tmp_path):
    with pytest.raises(DataError, match="not a file$"):
        read_image(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.jpg")
        with pytest.raises(DataError, match="pipe.jpg: not a file$"):
            read_image(tmp_path / "pipe.jpg")
    Image.new("RGB", (9, 9)).save(tmp_path / "drawing.jpg", "EPS")
    with pytest.raises(DataError, match="drawing.jpg: not a readable picture .a drawing"):
        read_image(tmp_path / "drawing.jpg")


@pytest.mark.parametrize("pixels", [fuzz.PIXELS, fuzz.PIXELS[::4, ::4]])
def test_a_small_file_that_claims_a_huge_picture_is_one_sentence_at_once(pixels, tmp_path, pipeline):
    content = io.BytesIO()
    Image.fromarray(pixels).convert("L").save(content, "GIF")
    (tmp_path / "photo.gif").write_bytes(b"GIF89a" + struct.pack("<2H", 16384, 12288) + content.getvalue()[10:])
    start = time.process_time()
    with pytest.raises(DataError, match=r"photo.gif: \d+ bytes are too few for a photo of 16384 x 12288 pixels"):
        read_image(tmp_path / "photo.gif")
    assert time.process_time() - start < 0.5
    assert fuzz.fault_of(123, pipeline) is None, "python -m tools.fuzz --only 123"


@pytest.mark.parametrize("error", [RuntimeError("Failed to\ndecode frame 0"), MemoryError(), OverflowError("size")])
def test_whatever_a_decoder_raises_is_one_sentence(error, tmp_path, monkeypatch):
    def broken(picture):
        raise error

    Image.new("RGB", (9, 9)).save(tmp_path / "photo.png")
    monkeypatch.setattr(images, "_rgb", broken)
    for read in (lambda: read_image(tmp_path / "photo.png"), lambda: as_rgb(Image.new("L", (9, 9)))):
        with pytest.raises(DataError) as caught:
            read()
        assert "\n" not in str(caught.value) and not str(caught.value).endswith("()")


@pytest.mark.parametrize("picture", [[[1], [1, 2]], Image.new("L", (0, 7)), None, "\0", "x" * 5000, {}])
def test_something_that_is_not_a_picture_is_one_sentence(picture, pipeline):
    with pytest.raises(DataError):
        as_rgb(picture)


@pytest.mark.parametrize(
    "boxes", ["box", {}, [[1, 2, 3]], [[0, 0, 1e-30, 1]], [[1e30, 0, 9, 9]], [[0, np.nan, 9, 9]], [[[1], [1, 2]]]]
)
def test_something_that_is_not_a_box_is_one_sentence(boxes, pipeline):
    with pytest.raises(DataError, match="a box must be x, y, w, h"):
        pipeline.keypoints(fuzz.PIXELS, boxes)


@pytest.mark.parametrize("scores", [None, [], [[1.0]], [1.0, 1.0]])
def test_a_wrong_number_of_scores_is_one_sentence(scores, pipeline):
    with pytest.raises(DataError, match="for 1 boxes: expected one for each"):
        pipeline.faces(fuzz.PIXELS, fuzz.FACE_BOX, scores)


def test_keypoints_and_boxes_far_outside_the_picture_can_be_drawn():
    points = fuzz.KEYPOINTS.copy()
    near = draw_keypoints(fuzz.PIXELS, points)
    points[60] = 1e30, -1e30
    assert draw_keypoints(fuzz.PIXELS, points).shape == near.shape
    assert draw_boxes(fuzz.PIXELS, [(-1e30, 0, 2e30, 50)]).shape == near.shape
