"""Reading and writing videos: times, sizes, rotation, sound, broken files; and the camera, played by a file."""

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from data_sets.drawn_faces import draw_face
from facial_keypoints import __main__ as command
from facial_keypoints import camera, video
from facial_keypoints.camera import Window, camera_frames, watch
from facial_keypoints.drawing import PREDICTED
from facial_keypoints.geometry import tight_box
from facial_keypoints.images import DataError
from facial_keypoints.pipeline import FacePipeline
from facial_keypoints.results import Drawing
from facial_keypoints.video import Video, track_video

av = pytest.importorskip("av")

PIXELS, KEYPOINTS = draw_face(3, 96)
KEYPOINTS_AT = (4, 20)
SIZE = (160, 120)


def detector(image):
    """Finds the drawn face where `scene` has it in the first frame."""
    box = tight_box(KEYPOINTS + KEYPOINTS_AT)
    return box[None], np.ones(1)


@pytest.fixture(scope="module")
def pipeline():
    return FacePipeline("fast", detector, threads=1)


def scene(step, size=SIZE):
    """The drawn face, two pixels further right each frame, on gray with a red upper left corner."""
    image = np.full((size[1], size[0], 3), 90, np.uint8)
    x = KEYPOINTS_AT[0] + 2 * step
    image[20:116, x : x + 96] = PIXELS
    image[:16, :16] = (220, 20, 20)
    return image


def make(path, frames=8, times=None, sound=None, size=SIZE, codec="libx264"):
    """A video file of scenes, at 25 frames a second or at the given times in milliseconds; written with PyAV."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, 25, {"crf": "12", "g": "4"} if codec == "libx264" else {})
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p" if size[0] % 2 == 0 else "yuv444p"
        stream.codec_context.time_base = Fraction(1, 25 if codec == "mjpeg" else 1000)
        tone = sound and file.add_stream(sound, 16000, layout="mono")
        for number, at in enumerate(times or range(0, 40 * frames, 40)):
            frame = av.VideoFrame.from_ndarray(scene(number, size), format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
        if tone:
            wave = (8000 * np.sin(np.arange(640 * frames) / 5)).astype(np.int16)[None]
            samples = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
            samples.sample_rate, samples.pts = 16000, 0
            file.mux(tone.encode(samples))
            file.mux(tone.encode(None))
    return path


def times(path):
    with Video(path) as frames:
        return [round(frame.seconds, 3) for frame in frames]


def packets_of_sound(path):
    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(audio=0) if packet.size]


# ---- reading


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mjpeg")])
def test_frames_are_rgb_with_their_times(tmp_path, name, codec):
    path = make(tmp_path / name, codec=codec)
    with Video(path) as frames:
        found = list(frames)
    np.testing.assert_allclose(np.diff([frame.seconds for frame in found]), 0.04, atol=1e-6)
    assert len(found) == 8 and found[0].image.shape == (120, 160, 3) and found[0].image.dtype == np.uint8
    assert np.abs(found[3].image.astype(int) - scene(3)).mean() < 6
    np.testing.assert_allclose(found[3].image[6, 6], (220, 20, 20), atol=12)


def test_variable_frame_rates_keep_their_times(tmp_path):
    uneven = [0, 40, 50, 200, 230, 900]
    assert times(make(tmp_path / "uneven.mp4", times=uneven)) == [at / 1000 for at in uneven]


def turned(path, clockwise):
    """The same mp4 as a phone held upright writes it: with a display matrix in its header."""
    one, content = 1 << 16, path.read_bytes()
    matrix = {90: (0, one, 0, -one, 0, 0), 180: (-one, 0, 0, 0, -one, 0), 270: (0, -one, 0, one, 0, 0)}[clockwise]
    words = lambda numbers: b"".join(number.to_bytes(4, "big", signed=True) for number in numbers)  # noqa: E731
    plain, end = words((one, 0, 0, 0, one, 0)), words((0, 0, 1 << 30))
    head = content.index(b"tkhd")
    place = content.index(plain + end, head)
    path.write_bytes(content[:place] + words(matrix) + content[place + 24 :])
    return path


@pytest.mark.parametrize(
    ("clockwise", "shape", "corner"),
    [(90, (160, 120), (6, -6)), (180, (120, 160), (-6, -6)), (270, (160, 120), (-6, 6))],
)
def test_videos_of_a_turned_phone_are_upright(tmp_path, clockwise, shape, corner):
    with Video(turned(make(tmp_path / "phone.mp4", frames=2), clockwise)) as frames:
        image = next(iter(frames)).image
    assert image.shape == (*shape, 3)
    np.testing.assert_allclose(image[corner], (220, 20, 20), atol=15)


@pytest.mark.parametrize("content", (b"", b"not a video at all", b"\x00\x00\x00\x18ftypmp42" + bytes(200)))
def test_a_file_that_is_not_a_video_is_one_sentence(tmp_path, content):
    path = tmp_path / "odd.mp4"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"odd\.mp4: "):
        with Video(path) as frames:
            list(frames)


def test_a_missing_file_sound_without_pictures_and_no_frames_are_one_sentence(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        Video(tmp_path / "none.mp4")
    with av.open(str(tmp_path / "sound.mkv"), "w") as file:
        tone = file.add_stream("pcm_s16le", 16000, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), format="s16", layout="mono")
        samples.sample_rate = 16000
        file.mux(tone.encode(samples))
    with pytest.raises(DataError, match="has no pictures"):
        Video(tmp_path / "sound.mkv")
    path = make(tmp_path / "empty.mp4")
    content = path.read_bytes()
    start = content.index(b"mdat") + 4
    end = content.index(b"moov", start) - 4
    path.write_bytes(content[:start] + bytes(end - start) + content[end:])
    with pytest.raises(DataError, match="no frame that can be decoded"):
        with Video(path) as frames:
            list(frames)


def test_a_truncated_video_gives_the_frames_before_its_end(tmp_path):
    path = make(tmp_path / "cut.mkv", frames=16)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    assert 2 <= len(times(path)) < 16


def test_broken_frames_are_left_out_and_the_others_keep_their_times(tmp_path):
    path = make(tmp_path / "broken.mkv", frames=16)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    path.write_bytes(content)
    found = times(path)
    assert found[0] == 0 and len(found) >= 4 and set(found) <= {round(0.04 * step, 3) for step in range(16)}


def test_without_pyav_one_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DataError, match=r'pip install "facial-keypoints\[video\]"'):
        Video(tmp_path / "a.mp4")


def test_the_module_does_not_import_pyav():
    code = "import sys, facial_keypoints.video; sys.exit('av' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# ---- writing


@pytest.mark.parametrize("size", (SIZE, (161, 121)))
def test_the_drawn_video_has_size_rate_times_and_sound(tmp_path, pipeline, size):
    source = make(tmp_path / "talk.mp4", sound="aac", size=size)
    summary = track_video(source, tmp_path / "out", pipeline, Drawing(keypoints=True))
    drawn = tmp_path / "out" / "talk_keypoints.mp4"
    assert summary.frames == summary.with_faces == 8 and summary.identities == {0} and not summary.broken
    assert times(drawn) == times(source) and packets_of_sound(drawn) == packets_of_sound(source) != []
    with Video(drawn) as new, Video(source) as old:
        assert new.rate == old.rate == 25 and new.frames == 8
        for number, (drawn_frame, frame) in enumerate(zip(new, old, strict=True)):
            assert drawn_frame.image.shape == frame.image.shape == (size[1], size[0], 3)
            assert np.abs(drawn_frame.image[:16, :16].astype(int) - (220, 20, 20)).mean() < 8, "colours do not change"
            if size == SIZE:
                x, y = np.rint(KEYPOINTS[30] + KEYPOINTS_AT).astype(int) + (2 * number, 0)
                around = drawn_frame.image[y - 6 : y + 7, x - 6 : x + 7].astype(int)
                assert np.abs(around - PREDICTED).sum(axis=2).min() < 250, "a dot near the tip of the nose"


def test_the_lines_have_frames_times_faces_and_identities(tmp_path, pipeline):
    source = make(tmp_path / "walk.mp4", times=[0, 40, 130])
    track_video(source, tmp_path, pipeline)
    lines = [json.loads(line) for line in (tmp_path / "walk_keypoints.jsonl").read_text().splitlines()]
    assert [(line["frame"], line["seconds"]) for line in lines] == [(0, 0.0), (1, 0.04), (2, 0.13)]
    (face,) = lines[2]["faces"]
    assert face["identity"] == 0 and np.shape(face["keypoints"]) == (68, 2) and len(face["confidence"]) == 68
    assert not (tmp_path / "walk_keypoints.mp4").exists()


def test_other_formats_become_mp4_and_variable_rates_stay(tmp_path, pipeline):
    source = make(tmp_path / "uneven.mkv", times=[0, 40, 50, 200, 900])
    source = source.rename(tmp_path / "uneven.webm")
    track_video(source, tmp_path, pipeline, Drawing(keypoints=True))
    assert times(tmp_path / "uneven_keypoints.mp4") == times(source) == [0, 0.04, 0.05, 0.2, 0.9]


def test_sound_that_does_not_fit_is_left_out_with_a_warning(tmp_path, pipeline):
    source = make(tmp_path / "talk.mkv", sound="wavpack").rename(tmp_path / "talk.wmv")
    with pytest.warns(UserWarning, match=r"talk\.wmv: its sound does not fit into \.mp4"):
        track_video(source, tmp_path, pipeline, Drawing(keypoints=True))
    assert len(times(tmp_path / "talk_keypoints.mp4")) == 8


def test_a_video_that_cannot_be_read_leaves_no_files(tmp_path, pipeline):
    source = tmp_path / "odd.mp4"
    source.write_bytes(b"odd")
    with pytest.raises(DataError):
        track_video(source, tmp_path / "out", pipeline, Drawing(keypoints=True))
    assert not list(tmp_path.glob("out/*"))


# ---- the camera


def test_the_camera_shows_numbered_frames_until_the_window_is_closed(tmp_path, pipeline):
    shown = []

    def show(image):
        shown.append(image)
        return len(shown) < 5

    summary = watch(str(make(tmp_path / "camera.mp4")), pipeline, Drawing(keypoints=True), show)
    assert summary.frames == len(shown) == 5 and summary.with_faces == 5
    assert (shown[0] == PREDICTED).all(axis=2).any() and shown[0][100:].max() > 240, "keypoints and a white number"


def test_no_camera_and_no_screen_are_one_sentence(tmp_path, pipeline, monkeypatch, capfd):
    with pytest.raises(DataError, match="there is none, or another program uses it"):
        list(camera_frames(99))
    assert capfd.readouterr().err == ""
    monkeypatch.setattr(camera.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(DataError, match="no screen"):
        Window()


def test_the_window_ends_with_a_key_or_when_it_is_closed(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    shown = []
    monkeypatch.setattr(camera.cv2, "imshow", lambda title, image: shown.append(image))
    monkeypatch.setattr(camera.cv2, "getWindowProperty", lambda *_: 1.0)
    image = scene(0)
    for key, goes_on in ((-1, True), (ord("x"), True), (ord("q"), False), (27, False)):
        monkeypatch.setattr(camera.cv2, "waitKey", lambda _, key=key: key)
        assert Window()(image) is goes_on
    assert (shown[0] == image[..., ::-1]).all()
    monkeypatch.setattr(camera.cv2, "waitKey", lambda _: -1)
    monkeypatch.setattr(camera.cv2, "getWindowProperty", lambda *_: 0.0)
    assert not Window()(image)


# ---- the command


@pytest.fixture
def run(tmp_path, pipeline, monkeypatch, capsys):
    """Run the command in an empty folder with that detector: exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "FacePipeline", lambda *_, **__: pipeline)

    def call(*arguments):
        return command.main([str(argument) for argument in arguments]), *capsys.readouterr()

    return call


def test_the_command_draws_videos_and_writes_their_faces(run, tmp_path):
    make(tmp_path / "walk.mp4")
    code, out, err = run("walk.mp4")
    assert (code, err) == (0, "") and out == "walk.mp4: 8 frames read; 1 face in 8 of them; results in keypoints\n"
    assert sorted(path.name for path in (tmp_path / "keypoints").iterdir()) == [
        "walk_keypoints.jsonl",
        "walk_keypoints.mp4",
    ]
    assert run("walk.mp4", "--json", "--output", "lines")[0] == 0
    assert [path.name for path in (tmp_path / "lines").iterdir()] == ["walk_keypoints.jsonl"]
    assert run("walk.mp4", "--filter", "sunglasses", "--output", "worn")[0] == 0
    assert len(times(tmp_path / "worn" / "walk_sunglasses.mp4")) == 8


def test_one_video_that_cannot_be_read_does_not_stop_the_others(run, tmp_path):
    make(tmp_path / "walk.mp4")
    (tmp_path / "odd.mp4").write_bytes(b"odd")
    code, out, err = run("odd.mp4", "walk.mp4")
    assert code == 1 and out.startswith("walk.mp4: 8 frames") and err.count("\n") == 1 and "odd.mp4: not" in err


def test_the_videos_of_a_folder_come_after_its_pictures(run, tmp_path):
    for name in "ab":
        (tmp_path / "trip" / name).mkdir(parents=True)
        make(tmp_path / "trip" / name / "walk.mp4")
    Image.fromarray(scene(0)).save(tmp_path / "trip" / "photo.png")
    (tmp_path / "trip" / "notes.txt.bak").write_text("")
    code, out, err = run("trip", "--csv", "--draw")
    assert (code, err) == (0, "")
    assert [line.split(":")[0] for line in out.splitlines()[1:]] == [
        str(Path("trip", name, "walk.mp4")) for name in "ab"
    ]
    assert out.startswith("1 picture read") and "1 file of other kinds left alone" in out.splitlines()[0]
    found = [path.relative_to(tmp_path / "keypoints") for path in (tmp_path / "keypoints").rglob("*.*")]
    assert sorted(path.as_posix() for path in found) == [
        *(f"{name}/walk_keypoints.{kind}" for name in "ab" for kind in ("jsonl", "mp4")),
        *("keypoints.csv", "keypoints.jsonl", "photo_keypoints.png"),
    ]


def test_finished_videos_are_skipped_and_half_finished_ones_made_again(run, tmp_path):
    make(tmp_path / "a.mp4"), make(tmp_path / "b.mp4")
    run("a.mp4", "b.mp4")
    done = (tmp_path / "keypoints" / "a_keypoints.mp4").stat().st_mtime_ns
    (tmp_path / "keypoints" / "b_keypoints.mp4").unlink()
    code, out, _ = run("a.mp4", "b.mp4")
    assert code == 0 and out.startswith("a.mp4: read before;") and "b.mp4: 8 frames read;" in out
    assert (tmp_path / "keypoints" / "a_keypoints.mp4").stat().st_mtime_ns == done
    assert "a.mp4: 8 frames" in run("a.mp4", "--filter", "hat")[1] and "read before" in run("a.mp4", "--json")[1]
    lines = (tmp_path / "keypoints" / "a_keypoints.jsonl").read_text().splitlines()
    assert json.loads(lines[7])["network"] == "accurate" and json.loads(lines[7])["frame"] == 7
    code, _, err = run("a.mp4", "--network", "fast")
    assert code == 1 and "a_keypoints.jsonl: made with network accurate; name another --output" in err


def test_ctrl_c_leaves_no_half_video_behind_and_the_next_run_makes_it(run, tmp_path, monkeypatch):
    make(tmp_path / "a.mp4")
    with monkeypatch.context() as patch:
        patch.setattr(video.VideoSummary, "add", mock.Mock(side_effect=[None, None, KeyboardInterrupt]))
        assert run("a.mp4") == (130, "", "stopped; the same command resumes\n")
    assert not any((tmp_path / "keypoints").iterdir())
    assert "8 frames read" in run("a.mp4")[1]


def test_two_videos_with_the_same_output_names_are_one_sentence(run, tmp_path):
    make(tmp_path / "walk.mp4"), make(tmp_path / "walk.mkv")
    code, out, err = run("walk.mp4", "walk.mkv")
    assert code == 1 and out.startswith("walk.mp4: 8 frames")
    assert err == "walk.mkv: its results have the names of walk.mp4's; give it an --output of its own\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["empty"], "no pictures or videos in empty"),
        (["a.mp4", "--csv"], "--csv and --crops are for pictures"),
    ],
)
def test_an_empty_folder_and_options_for_pictures_only_are_one_sentence(run, arguments, sentence, tmp_path):
    (tmp_path / "empty").mkdir()
    code, out, err = run(*arguments)
    assert (code, out) == (2, "") and sentence in err and err.count("\n") == 1


def test_webcam_without_a_screen_is_one_sentence(run, monkeypatch):
    monkeypatch.setattr(camera.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert run("--webcam") == (2, "", "no screen for a window: DISPLAY is not set\n")


@pytest.mark.parametrize("arguments", ([], ["a.mp4", "--webcam"]))
def test_the_command_takes_either_files_or_the_camera(run, arguments):
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    assert stopped.value.code == 2
