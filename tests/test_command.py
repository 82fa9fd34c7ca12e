"""The command on files: folders, lists, results on disk, resuming, unreadable files, exit codes and threads."""

import csv
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from command_files import KEYPOINTS, NOBODY, PIXELS, files, lines, save
from PIL import Image

from facial_keypoints import __main__ as command
from facial_keypoints import results
from facial_keypoints.align import aligned_face
from facial_keypoints.batch import common_folder, find_files
from facial_keypoints.filters import wear
from facial_keypoints.geometry import tight_box
from facial_keypoints.images import DataError, read_image
from facial_keypoints.pipeline import Face, FacePipeline
from facial_keypoints.threads import WAITING, in_order


def one_face(image):
    """A detector that returns the drawn face's true box and finds nobody in pictures of another size."""
    if image.shape != PIXELS.shape:
        return np.empty((0, 4), np.float32), np.empty(0, np.float32)
    return tight_box(KEYPOINTS)[None], np.ones(1, np.float32)


@pytest.fixture(scope="module")
def pipeline():
    return FacePipeline("fast", one_face, threads=1, min_confidence=0.0)


@pytest.fixture
def run(here, pipeline, monkeypatch, capsys):
    """Run the command with that detector: exit code, stdout, stderr, and for how many pictures the pipeline ran."""
    asked = []

    def counted(image):
        asked.append(image.shape)
        return pipeline(image)

    def call(*arguments):
        asked.clear()
        code = command.main([str(argument) for argument in arguments])
        return code, *capsys.readouterr(), len(asked)

    counted.scheme, counted.detector = pipeline.scheme, pipeline.detector
    monkeypatch.setattr(command, "FacePipeline", lambda *_, **__: counted)
    return call


def rows(folder="keypoints"):
    with (Path(folder) / "keypoints.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# ---- what is written


def test_json_holds_what_the_pipeline_found(run, pipeline):
    save("photo.png")
    code, said, complaints, _ = run("photo.png", "--json", "--network", "fast")
    assert (code, complaints) == (0, "") and said == "1 picture read; 1 face in 1 of them; results in keypoints\n"
    assert files("keypoints") == ["keypoints.jsonl"]
    (line,), (face,) = lines(), pipeline(PIXELS)
    assert line["file"] == "photo.png" and (line["network"], line["detector"]) == ("fast", "function")
    assert (line["height"], line["width"]) == PIXELS.shape[:2]
    (found,) = line["faces"]
    np.testing.assert_allclose(found["box"], face.box, atol=0.0051)
    np.testing.assert_allclose(found["keypoints"], face.keypoints, atol=0.0051)
    np.testing.assert_allclose(found["confidence"], face.confidence, atol=0.00051)
    np.testing.assert_allclose(found["jaw_3d"], face.jaw_3d, atol=0.0051)
    assert found["pose"] == {angle: round(getattr(face.pose, angle), 1) for angle in ("yaw", "pitch", "roll")}
    assert found["score"] == 1.0


def test_csv_has_a_row_a_face_with_the_numbers_of_json(run):
    save("photos/a, b.png")
    save("photos/nobody.png", NOBODY)
    assert run("photos", "--csv")[0] == 0
    (row,), (found,) = rows(), lines()[0]["faces"]
    assert row["file"] == str(Path("photos/a, b.png")) and row["face"] == "0"
    assert [float(row[side]) for side in "xywh"] == found["box"]
    assert [[float(row[f"x{k}"]), float(row[f"y{k}"])] for k in range(68)] == found["keypoints"]
    assert [float(row[f"confidence{k}"]) for k in range(68)] == found["confidence"]
    assert float(row["confidence"]) == pytest.approx(np.mean(found["confidence"]), abs=0.001)
    assert {angle: float(row[angle]) for angle in ("yaw", "pitch", "roll")} == found["pose"]
    assert len(row) == 11 + 3 * 68


def test_what_a_network_does_not_estimate_is_null_in_json_and_empty_in_csv(tmp_path):
    face = Face(np.array([[1, 2], [5.0, 9]], np.float32), score=0.5)
    with results.Journal(tmp_path, {}) as journal:
        journal.add({"file": "photo", "faces": [results.face_record(face)]})
    results.write_csv(tmp_path, 2)
    (row,), (line,) = rows(tmp_path), lines(tmp_path)
    assert line["faces"][0]["pose"] is None and line["faces"][0]["confidence"] is None
    assert [row[name] for name in ("x", "w", "confidence", "yaw", "x1", "y1", "confidence1")] == [
        *("1.0", "4.0", "", "", "5.0", "9.0", "")
    ]


def test_only_pictures_with_faces_are_drawn_and_keep_their_folders_and_formats(run, pipeline):
    for name in ("photos/a/one.png", "photos/b/one.jpg", "photos/b/two.tif", "photos/nobody.png"):
        save(name, NOBODY if "nobody" in name else PIXELS)
    assert run("photos")[0] == 0
    drawn = ["a/one_keypoints.png", "b/one_keypoints.jpg", "b/two_keypoints.tif.jpg"]
    assert files("keypoints") == [*drawn, "keypoints.jsonl"]
    pixels = read_image("keypoints/a/one_keypoints.png").astype(int)
    x, y = pipeline(PIXELS)[0].keypoints[30].round().astype(int)
    assert np.abs(pixels[y, x] - (255, 0, 255)).max() < 40, "the tip of the nose"
    assert Image.open("keypoints/b/two_keypoints.tif.jpg").format == "JPEG"


def test_filters_are_worn_in_the_pictures(run, pipeline):
    save("photo.png")
    assert run("photo.png", "--filter", "hat,moustache")[0] == 0
    assert files("keypoints") == ["keypoints.jsonl", "photo_hat_moustache.png"]
    points = pipeline(PIXELS)[0].keypoints
    expected = wear(wear(PIXELS, points, "hat"), points, "moustache")
    np.testing.assert_array_equal(read_image("keypoints/photo_hat_moustache.png"), expected)
    run("photo.png", "--filter", "hat", "--draw")
    assert "photo_hat_keypoints.png" in files("keypoints")


def test_aligned_crops_are_written_for_every_face_and_again_if_one_is_missing(run, pipeline):
    save("photos/photo.png"), save("photos/nobody.png", NOBODY)
    assert run("photos", "--crops", 112)[0] == 0
    assert files("keypoints") == ["keypoints.jsonl", "photo_112_0.png"]
    (face,) = pipeline(PIXELS)
    expected = aligned_face(PIXELS, face.keypoints, 112)
    np.testing.assert_array_equal(read_image("keypoints/photo_112_0.png"), expected)
    assert run("photos", "--crops", 112)[3] == 0
    Path("keypoints/photo_112_0.png").unlink()
    assert run("photos", "--crops", 112, "--draw")[3] == 1
    assert files("keypoints") == ["keypoints.jsonl", "photo_112_0.png", "photo_keypoints.png"]
    assert run("photos", "--crops", 256)[3] == 1 and read_image("keypoints/photo_256_0.png").shape == (256, 256, 3)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a" / "picture.png"
    with results.whole(path) as part:
        part.write_text("old")
    with (
        pytest.raises(DataError, match="picture.png: could not be written .No space left"),
        results.whole(path) as part,
    ):
        part.write_text("half")
        raise OSError(28, "No space left")
    assert path.read_text() == "old" and files(tmp_path) == ["a/picture.png"]
    with pytest.raises(DataError, match="could not be written"):
        results.save_picture(PIXELS, tmp_path / "picture.unknown")
    with pytest.raises(DataError, match="could not be written"):
        results.save_picture(PIXELS, path / "below a file.png")


# ---- what is read


def test_folders_are_searched_in_order_without_other_files_and_the_output(run):
    for name in ("b.png", "c/a.PNG", "a.png", ".hidden/d.jpg"):
        save(name, NOBODY)
    Path("notes.doc").write_text("")
    code, said, _, _ = run(".")
    assert [line["file"] for line in lines()] == [
        str(Path(name)) for name in ("a.png", "b.png", ".hidden/d.jpg", "c/a.PNG")
    ]
    assert code == 0 and "1 file of other kinds left alone" in said
    save("keypoints/drawn_keypoints.png")
    assert "0 pictures read and 4 before" in run(".")[1]


def test_lists_may_name_pictures_with_any_ending(run):
    save("photos/one.png", NOBODY), save("two.png", NOBODY).rename("two")
    Path("list.txt").write_text("photos/one.png\n\n  two\nphotos/one.png\n")
    assert run("list.txt", "two")[0] == 0
    assert [line["file"] for line in lines()] == [str(Path("photos/one.png")), "two"], "each once"


def test_an_unreadable_list_and_an_empty_folder_are_exit_code_2(run):
    Path("empty").mkdir()
    assert run("empty")[::2] == (2, "no pictures or videos in empty\n")
    code, _, complaint, _ = run("none.txt")
    assert code == 2 and complaint.startswith("none.txt: the list cannot be read (")
    assert files(".") == []


def test_drawn_pictures_from_several_sources_do_not_overwrite_each_other(here):
    first, second = save(here / "x" / "p" / "1.png"), save(here / "y" / "p" / "1.png")
    assert common_folder([first.parent, second.parent]) == str(here)
    assert common_folder([first.parent]) == common_folder([first]) == str(here / "x" / "p")
    (here / "list.txt").write_text(f"{first}\n{second}\n")
    assert common_folder([here / "list.txt"]) == str(here)
    assert [path for path, _ in find_files([Path("x"), second], here)] == [Path("x/p/1.png"), second]


@pytest.mark.skipif(os.name == "nt", reason="file names are Unicode there")
def test_file_names_that_are_not_unicode_are_kept(run):
    name = os.fsdecode(b"photo \xff\n.png")
    save(name)
    assert run(".", "--csv")[0] == 0
    assert lines()[0]["file"] == name
    assert b"photo \xff\n.png" in Path("keypoints/keypoints.csv").read_bytes()
    assert "1 before" in run(".", "--csv")[1]


def test_unreadable_files_are_reported_and_do_not_stop_the_others(run, monkeypatch):
    save("photos/b.png")
    Path("photos/a.png").write_bytes(Path("photos/b.png").read_bytes()[:3000])
    Path("photos/c.png").write_text("no picture")
    Path("photos/d.png").symlink_to("nowhere")
    code, said, complaints, _ = run("photos", "none.jpg")
    assert code == 1 and said.startswith("1 picture read; 1 face in 1 of them; 4 skipped")
    assert [line.split(":")[0] for line in complaints.splitlines()] == [
        str(Path("photos", f"{name}.png")) for name in "acd"
    ] + ["none.jpg"]
    assert [line.get("error") for line in lines() if "error" in line] == complaints.splitlines()


def test_an_unexpected_error_is_reported_with_its_picture_and_does_not_stop_the_others(run, monkeypatch):
    save("a.png"), save("b.png", NOBODY)

    def broken(image, faces):
        raise KeyError("nose")

    monkeypatch.setattr(results, "draw_faces", broken)
    code, said, complaints, _ = run(".")
    assert code == 1 and complaints == "a.png: unexpected KeyError ('nose')\n" and said.startswith("1 picture read")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (("--filter", "hut"), "no filter 'hut'; there are sunglasses"),
        (("--jobs", "0"), "expected a number from 1, not '0'"),
        (("--jobs", "many"), "expected a number from 1, not 'many'"),
    ],
)
def test_a_wrong_option_is_exit_code_2(wrong, sentence, here, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(["photo.png", *wrong])
    assert ended.value.code == 2 and sentence in capsys.readouterr().err.splitlines()[-1]


# ---- resuming


def test_what_is_done_is_not_done_again(run):
    save("photos/a.png"), save("photos/b.png", NOBODY)
    Path("photos/c.png").write_text("no picture")
    assert run("photos")[3] == 2
    before = lines()
    save("photos/d.png")
    code, said, _, asked = run("photos")
    assert (code, asked) == (1, 1) and said.startswith("1 picture read and 2 before; 2 faces in 2 of them; 1 skipped")
    after = {line["file"]: line for line in lines()}
    assert len(after) == 4 == len(lines()) and all(after[line["file"]] == line for line in before)
    save("photos/c.png", NOBODY)
    assert run("photos")[0] == 0 and len(lines()) == 4, "what could not be read is tried again"
    Path("keypoints/a_keypoints.png").unlink()
    assert run("photos")[3] == 1 and Path("keypoints/a_keypoints.png").exists() and len(lines()) == 4


def test_a_killed_run_is_resumed(run):
    save("a.png", NOBODY), save("b.png", NOBODY)
    run("a.png")
    whole = Path("keypoints/keypoints.jsonl").read_text()
    Path("keypoints/keypoints.jsonl").rename("keypoints/keypoints.jsonl.part")
    with Path("keypoints/keypoints.jsonl.part").open("a") as part:
        part.write(whole.replace("a.png", "b.png")[:25])
    assert run("a.png", "b.png")[3] == 1
    assert [line["file"] for line in lines()] == ["a.png", "b.png"] and files("keypoints") == ["keypoints.jsonl"]


def test_results_of_another_network_are_not_mixed(run):
    save("a.png")
    run("a.png", "--network", "fast")
    before = Path("keypoints/keypoints.jsonl").read_bytes()
    code, _, complaint, _ = run("a.png")
    assert code == 2 and "keypoints.jsonl: made with network fast; name another --output, or delete it" in complaint
    assert Path("keypoints/keypoints.jsonl").read_bytes() == before and len(files("keypoints")) == 2


# ---- threads


def test_results_keep_their_order_and_only_a_few_items_are_taken_ahead():
    taken, running, most = [], [], []

    def items():
        for number in range(60):
            taken.append(number)
            yield number

    def call(number):
        running.append(number)
        most.append(len(running))
        time.sleep(0.003 * (number % 3))
        running.remove(number)
        return number

    for number, result in enumerate(in_order(call, items(), threads=3)):
        assert result == number and len(taken) <= number + 2 + 3 * WAITING
    assert number == 59 and 1 < max(most) <= 3


def test_several_threads_give_the_results_of_one(run):
    for number in range(12):
        save(f"photos/{number:02}.png", PIXELS if number % 3 else NOBODY)
    run("photos", "--jobs", 1, "--output", "one", "--json")
    run("photos", "--jobs", 4, "--output", "four", "--json")
    assert lines("one") == lines("four")


def test_threads_end_with_a_run_that_fails(run, monkeypatch):
    for number in range(9):
        save(f"{number}.png", NOBODY)

    def full(*_):
        raise DataError("no room")

    before = threading.active_count()
    monkeypatch.setattr(results.Journal, "add", full)
    assert run(".", "--jobs", 3)[::2] == (2, "no room\n") and threading.active_count() == before
