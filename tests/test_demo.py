"""The page: what its functions return, and what people see in a real Chromium."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.cbook import get_sample_data
from PIL import Image

from data_sets.drawn_faces import draw_face
from facial_keypoints import demo
from facial_keypoints.geometry import tight_box
from facial_keypoints.images import DataError, read_image
from facial_keypoints.pipeline import FacePipeline
from facial_keypoints.results import Drawing, face_record

ROOT = Path(__file__).resolve().parent.parent
HOPPER = get_sample_data("grace_hopper.jpg", asfileobj=False)
PIXELS, KEYPOINTS = draw_face(3)
POINTS = Drawing(keypoints=True)


@pytest.fixture(scope="module")
def pipeline():
    return FacePipeline("fast", "haar", threads=1)


@pytest.fixture(scope="module")
def one_face():
    def detector(image):
        return tight_box(KEYPOINTS)[None], np.ones(1, np.float32)

    return FacePipeline("fast", detector, threads=1, min_confidence=0.0)


@pytest.fixture
def files(tmp_path):
    """A photo, a video, a picture without faces, files that are neither, and one that is too large."""
    import av

    Image.open(HOPPER).save(tmp_path / "photo.jpg")
    Image.new("RGB", (90, 60), "gray").save(tmp_path / "nobody.png")
    (tmp_path / "bad.jpg").write_text("no picture")
    (tmp_path / "bad.mp4").write_text("no video")
    with (tmp_path / "large.jpg").open("wb") as large:
        large.truncate((demo.MEGABYTES + 1) * 10**6 * 2)
    with av.open(str(tmp_path / "video.mp4"), "w") as video:
        stream = video.add_stream("libx264", 10)
        stream.height, stream.width, stream.pix_fmt = 200, 200, "yuv444p"
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(cv2.resize(PIXELS, (200, 200)), format="rgb24")
            video.mux(stream.encode(frame))
        video.mux(stream.encode(None))
    return tmp_path


# ---- functions


def test_a_photo_gives_the_picture_and_the_json_of_the_command(files, one_face):
    path, folder = files / "drawn.png", files / "out"
    Image.fromarray(PIXELS).save(path)
    folder.mkdir()
    drawn, written, text = demo.read_photo(path, folder, one_face, POINTS)
    (face,) = one_face(PIXELS)
    record = json.loads(written.read_text())
    assert record["file"] == "drawn.png" and record["faces"] == [face_record(face)]
    np.testing.assert_array_equal(read_image(drawn), POINTS(PIXELS, [face]))
    assert f"| 0 | {face.confidence.mean():.0%} | {face.pose.yaw:.0f}° |" in text


def test_a_photo_without_faces_is_shown_as_it_is(files, pipeline):
    drawn, written, text = demo.read_photo(files / "nobody.png", files, pipeline, POINTS)
    assert drawn == files / "nobody.png" and text == "Nobody was found."
    assert json.loads(written.read_text())["faces"] == []


def test_a_video_gives_a_video_and_a_line_per_frame(files, one_face):
    frames, folder = [], files / "out"
    drawn, written, text = demo.read_video(files / "video.mp4", folder, one_face, POINTS, frames.append)
    assert frames == [(number, 5) for number in range(1, 6)] and text.startswith("5 frames read")
    assert drawn.suffix == ".mp4" and len(written.read_text().splitlines()) == 5


def test_videos_that_are_too_long_or_take_too_long_are_one_sentence(files, one_face, monkeypatch):
    arguments = files / "video.mp4", files / "out", one_face, POINTS, lambda frame: None
    monkeypatch.setattr(demo, "PATIENCE", -1)
    with pytest.raises(DataError, match="video.mp4: takes longer than -1 seconds here"):
        demo.read_video(*arguments)
    assert not list((files / "out").iterdir()), "nothing half written"
    monkeypatch.setattr(demo, "SECONDS", 0)
    with pytest.raises(DataError, match="video.mp4: 0 seconds long, the page takes up to 0"):
        demo.read_video(*arguments)


def test_without_gradio_it_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setattr(sys, "argv", ["demo"])
    monkeypatch.setattr(demo, "FacePipeline", lambda *_, **__: None)
    assert demo.main() == 2
    assert capsys.readouterr().err == 'the page needs Gradio: pip install "facial-keypoints[demo]"\n'


# ---- the page


@pytest.mark.skipif(os.name == "nt", reason="a process cannot be sent Ctrl-C there")
def test_the_page_is_served_to_this_computer_and_leaves_nothing_behind(tmp_path):
    pytest.importorskip("gradio", reason="Gradio is not installed")
    command = [sys.executable, "-u", "-m", "facial_keypoints.demo", "--no-browser"]
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        address = next(word for word in process.stdout.readline().split() if word.startswith("http"))
        assert address.startswith("http://127.0.0.1:")
        assert "Facial keypoints" in urllib.request.urlopen(address, timeout=30).read().decode()
    finally:
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in said
    assert {path.name for path in tmp_path.rglob("*")} <= {".ses"}, "which ONNX Runtime writes"


@pytest.fixture(scope="module")
def address(pipeline, tmp_path_factory):
    pytest.importorskip("gradio", reason="Gradio is not installed")
    pytest.importorskip("selenium", reason="Selenium is not installed")
    from tools.draw_page import CHROMIUM, DRIVER, served

    if not (CHROMIUM and DRIVER):
        pytest.skip("Chromium and its driver are not installed (Debian: apt-get install chromium chromium-driver)")
    os.environ["GRADIO_TEMP_DIR"] = str(tmp_path_factory.mktemp("gradio"))
    with served(pipeline) as address:
        yield address
    del os.environ["GRADIO_TEMP_DIR"]


@pytest.fixture
def visitor(address, tmp_path):
    from tools.draw_page import Visitor

    with Visitor(address, downloads=tmp_path) as visitor:
        yield visitor


def shown(visitor, words):
    """The picture on the page, once its file name contains these words."""
    image = visitor.wait_for(f"#picture img[src*='{words}']")
    with urllib.request.urlopen(image.get_attribute("src"), timeout=30) as response:
        return np.asarray(Image.open(response).convert("RGB"))


def test_in_a_browser_a_photo_gets_keypoints_filters_and_downloads(visitor, files, pipeline, tmp_path):
    visitor.drop(files / "photo.jpg")
    visitor.wait_for("#text", "%")
    photo = read_image(files / "photo.jpg")
    faces = pipeline(photo)
    assert np.abs(shown(visitor, "photo_keypoints").astype(int) - POINTS(photo, faces)).mean() < 3
    visitor.click("sunglasses")
    assert not visitor.browser.find_elements("css selector", "button[aria-label*=Share]"), "everything stays here"
    worn = shown(visitor, "photo_sunglasses_keypoints").astype(int)
    assert np.abs(worn - Drawing(("sunglasses",), True)(photo, faces)).mean() < 3
    visitor.click("download JSON")
    saved = tmp_path / "photo_keypoints.json"
    until = time.monotonic() + 60
    while not saved.is_file() and time.monotonic() < until:
        time.sleep(0.1)
    assert json.loads(saved.read_text())["faces"] == [face_record(face) for face in faces]


def test_in_a_browser_every_other_file_gets_one_sentence(visitor, files):
    visitor.drop(files / "nobody.png")
    visitor.wait_for("#text", "Nobody was found.")
    for name, sentence in (
        ("bad.jpg", "bad.jpg: not a readable picture"),
        ("bad.mp4", "bad.mp4: not a readable video"),
        ("large.jpg", f"exceed the maximum allowed size of {demo.MEGABYTES}"),
    ):
        visitor.drop(files / name)
        visitor.wait_for(".toast-body", sentence)
    visitor.drop(files / "photo.jpg")
    visitor.wait_for("#text", "%")


def test_in_a_browser_a_video_is_played(visitor, files):
    visitor.drop(files / "video.mp4")
    visitor.wait_for("#text", "5 frames read")
    assert "video_keypoints" in visitor.wait_for("#video video").get_attribute("src")


def test_two_users_at_once_each_see_their_own_file(visitor, address, files):
    from tools.draw_page import Visitor

    with Visitor(address) as other:
        visitor.drop(files / "photo.jpg")
        other.drop(files / "nobody.png")
        visitor.wait_for("#text", "%")
        other.wait_for("#text", "Nobody was found.")


def test_a_face_in_front_of_the_camera_is_tracked(address, files):
    from tools.draw_page import Visitor

    jpeg = cv2.imencode(".jpg", cv2.resize(read_image(HOPPER), (480, 640))[..., ::-1])[1].tobytes()
    (files / "camera.mjpeg").write_bytes(jpeg * 30)
    with Visitor(address, camera=files / "camera.mjpeg") as visitor:
        visitor.click("Camera")
        visitor.click("Access Webcam")
        visitor.click("Record")
        visitor.wait_for("#known", "%")
        visitor.wait_for("#live img")
