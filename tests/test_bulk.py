"""Bulk extraction: chunks, parts and resuming without Ray; then runs with Ray in which a worker is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

from benchmarks.bulk import RUNS, Model  # noqa: E402
from data_sets.drawn_faces import draw_face  # noqa: E402
from facial_keypoints import bulk  # noqa: E402
from facial_keypoints.bulk import MISSING, Report, Worker  # noqa: E402
from facial_keypoints.images import DataError  # noqa: E402
from facial_keypoints.parts import SCHEMA, Folder  # noqa: E402
from facial_keypoints.pipeline import FacePipeline  # noqa: E402
from facial_keypoints.shards import find_shards  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
PIXELS, _ = draw_face(3)
NOBODY = np.full((40, 60, 3), 90, np.uint8)


def save(path, pixels=PIXELS):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return str(path)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder with two faces, a picture without any, a broken one in a subfolder, and a text file."""
    folder = tmp_path_factory.mktemp("bulk") / "photos"
    save(folder / "a.png")
    save(folder / "b.png", PIXELS[:, ::-1].copy())
    save(folder / "nobody.png", NOBODY)
    (folder / "sub").mkdir()
    (folder / "sub" / "broken.jpg").write_bytes(b"no picture")
    (folder / "notes.md").write_text("no picture either")
    return folder


@pytest.fixture
def output(tmp_path):
    folder = Folder(str(tmp_path / "out"))
    folder.create()
    return folder


def rows(folder):
    """The rows of all parts by source; fails if the rows of a source are in several parts."""
    found = {}
    for part in sorted(Path(folder).glob("part-*.parquet")):
        table = pq.read_table(part)
        assert table.schema.equals(SCHEMA)
        for row in table.to_pylist():
            found.setdefault(row["source"], {}).setdefault(part.name, []).append(row)
    assert all(len(parts) == 1 for parts in found.values())
    return {source: next(iter(parts.values())) for source, parts in found.items()}


def read(shards, done=()):
    """The sources of every chunk, by the name of its part."""
    chunks = [chunk for shard in shards for chunk in shard.read(set(done))]
    return {chunk["part"][0].as_py(): chunk["sources"][0].as_py() for chunk in chunks}


# ---- chunks


def test_a_folder_is_listed_once_and_in_order(photos, output):
    expected = [str(photos / name) for name in ("a.png", "b.png", "nobody.png", "sub/broken.jpg")]
    shards = find_shards(str(photos), output, 3)
    assert sum(read(shards).values(), []) == expected and list(shards[0].parts().values()) == [3, 1]
    new = Path(save(photos / "a_new.png"))
    assert read(find_shards(str(photos), output, 3)) == read(shards)
    new.unlink()
    with pytest.raises(DataError, match=f"made from {photos}"):
        find_shards("elsewhere", output, 3)


def test_the_output_folder_is_not_read_as_input(photos, tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "out" / "b.png")
    (chunk,) = read(find_shards(str(tmp_path), Folder(str(tmp_path / "out")), 3)).values()
    assert chunk == [str(tmp_path / "a.png")]


def test_finished_chunks_are_not_read_again_and_the_others_keep_their_names(tmp_path, output):
    names = [f"{number}.jpg" for number in range(23)]
    pq.write_table(pa.table({"path": names}), tmp_path / "in.parquet", row_group_size=10)
    shards = find_shards(str(tmp_path / "in.parquet"), output, 4)
    chunks = read(shards)
    assert [len(chunk) for chunk in chunks.values()] == [4, 4, 2, 4, 4, 2, 3] and sum(chunks.values(), []) == names
    assert shards[0].parts() == {name: len(chunk) for name, chunk in chunks.items()}
    done = list(chunks)[:4]
    assert read(shards, done) == {name: chunk for name, chunk in chunks.items() if name not in done}


@pytest.mark.parametrize("kind", ["binary", "large_binary", "struct"])
def test_encoded_pictures_in_parquet_are_read_with_their_names_or_places(kind, photos, tmp_path, output):
    contents = [(photos / name).read_bytes() for name in ("a.png", "nobody.png")]
    if kind == "struct":
        column = pa.array([{"bytes": content, "path": None} for content in contents])
    else:
        column = pa.array(contents, getattr(pa, kind)())
    pq.write_table(pa.table({"picture": column}), tmp_path / "in.parquet")
    (chunk,) = find_shards(str(tmp_path / "in.parquet"), output, 9)[0].read(set())
    assert chunk["contents"][0].as_py() == contents
    assert chunk["sources"][0].as_py() == [f"{tmp_path}/in.parquet:0:{row}" for row in range(2)]
    pq.write_table(pa.table({"picture": column, "name": ["a", "b"], "by": ["c", "d"]}), tmp_path / "in.parquet")
    (chunk,) = find_shards(str(tmp_path / "in.parquet"), output, 9, "picture")[0].read(set())
    assert chunk["contents"][0].as_py() == contents


def test_an_ambiguous_column_must_be_named(tmp_path, output):
    pq.write_table(pa.table({"name": ["a.jpg"], "by": ["b.jpg"]}), tmp_path / "in.parquet")
    with pytest.raises(DataError, match="--column .name, by."):
        find_shards(str(tmp_path / "in.parquet"), output, 9)
    assert read(find_shards(str(tmp_path / "in.parquet"), output, 9, "by")) == {
        "part-00000-00000-00000.parquet": ["b.jpg"]
    }


def test_several_parquet_files_have_parts_of_their_own(tmp_path, output):
    for number in range(3):
        pq.write_table(pa.table({"path": [f"{number}.jpg"]}), tmp_path / f"{number}.parquet")
    shards = find_shards(str(tmp_path), output, 4)
    assert read(shards) == {f"part-{number:05}-00000-00000.parquet": [f"{number}.jpg"] for number in range(3)}
    save(tmp_path / "photo.png")
    with pytest.raises(DataError, match="Parquet files and pictures"):
        find_shards(str(tmp_path), output, 4)


def test_files_behind_fsspec_are_read_and_written(photos, tmp_path):
    output = Folder(f"local://{tmp_path}/out")  # a name that only fsspec understands
    output.create()
    (chunk,) = read(find_shards(f"local://{photos}", output, 9)).values()
    assert chunk[0] == f"local://{photos}/a.png" and len(chunk) == 4
    output.write("some", b"thing")
    assert (tmp_path / "out" / "some").read_bytes() == b"thing" and len(output.names()) == 2


@pytest.mark.parametrize(
    ("place", "complaint"),
    [
        ("gone", "neither a folder"),
        ("gone.txt", "the list cannot be read"),
        ("nosuch://y/z", "neither pyarrow nor fsspec"),
        ("", ""),
    ],
)
def test_a_wrong_input_is_one_sentence(place, complaint, output, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=complaint or "no pictures"):
        find_shards(place or str(tmp_path / "empty"), output, 9)


# ---- a worker


def test_a_worker_writes_a_row_per_face_and_one_per_picture_without_faces(photos, output):
    (chunk,) = find_shards(str(photos), output, 9)[0].read(set())
    counts = Worker(output.place, "fast", "haar", os.getcwd())(chunk)
    found, pipeline = rows(output.path), FacePipeline("fast", "haar", threads=1)
    assert list(found) == chunk["sources"][0].as_py()
    for name, pixels in (("a.png", PIXELS), ("b.png", PIXELS[:, ::-1])):
        faces = pipeline(pixels.copy())
        assert len(faces) > 0 and [row["face"] for row in found[str(photos / name)]] == list(range(len(faces)))
        for row, face in zip(found[str(photos / name)], faces, strict=True):
            np.testing.assert_allclose(np.reshape(row["keypoints"], (-1, 2)), face.keypoints, atol=0.01)
            np.testing.assert_allclose(row["confidence"], face.confidence, atol=1e-3)
            np.testing.assert_allclose(row["box"], face.box, atol=0.02)
            assert (row["height"], row["width"]) == PIXELS.shape[:2] and row["error"] is None
            assert row["yaw"] == pytest.approx(face.pose.yaw, abs=0.1)
    ((nobody,), (broken,)) = found[str(photos / "nobody.png")], found[str(photos / "sub/broken.jpg")]
    assert nobody["face"] is None and nobody["width"] == 60 and nobody["error"] is None
    assert broken["width"] is None and broken["error"].endswith("not a readable picture (cannot identify image file)")
    faces = sum(len(found[str(photos / name)]) for name in ("a.png", "b.png"))
    assert {**counts, "core_seconds": 0} == {"pictures": [4], "faces": [faces], "unreadable": [1], "core_seconds": 0}


def test_a_chunk_that_is_read_again_overwrites_its_part(photos, output):
    (chunk,) = find_shards(str(photos), output, 9)[0].read(set())
    worker = Worker(output.place, "fast", "haar", os.getcwd())
    worker(chunk)
    before = output.names()
    worker(chunk)
    assert output.names() == before and len(rows(output.path)) == 4


def test_a_picture_on_which_two_workers_died_is_left_out_with_the_reason(photos, output):
    (chunk,) = find_shards(str(photos), output, 9)[0].read(set())
    part, worker = chunk["part"][0].as_py(), Worker(output.place, "fast", "haar", os.getcwd())
    seen, worker.pipeline = [], None

    def dies_on_the_second(image):
        seen.append(image.shape)
        if len(seen) == 2:
            raise KeyboardInterrupt  # stands for whatever ends a process
        return []

    for _ in range(2):
        seen.clear()
        worker.pipeline = dies_on_the_second
        with pytest.raises(KeyboardInterrupt):
            worker(chunk)
    assert not output.has(part)
    worker.pipeline = lambda image: []
    assert worker(chunk)["unreadable"] == [2]  # with the broken one
    output.tidy()
    errors = [those[0]["error"] for those in rows(output.path).values()]
    assert errors[0] is None and errors[2] is None and errors[1] == f"{photos / 'b.png'}: the worker that read it died"
    assert output.names() == {part, "_pictures.parquet"}


def test_a_part_that_cannot_be_written_is_reported(photos, output):
    (chunk,) = find_shards(str(photos), output, 9)[0].read(set())
    worker = Worker(f"{output.place}/gone", "fast", "haar", os.getcwd())
    assert "could not be written" in worker(chunk)["failed"][0]


# ---- the command


def test_parts_of_other_settings_are_not_mixed(output):
    output.settle({"input": "elsewhere", "network": "accurate"})
    with pytest.raises(DataError, match="made with network accurate; name another OUTPUT"):
        output.settle({"input": "elsewhere", "network": "fast"})


def test_without_ray_a_sentence_says_what_to_install(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert bulk.main([str(photos), str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"{MISSING}\n" and not (tmp_path / "out").exists()


def test_the_report_counts_pictures_and_gives_the_speed():
    report = Report(left=30, before=5)
    report.add({"pictures": 20, "faces": 8, "unreadable": 1, "core_seconds": 4.0}, 5.0)
    assert str(report) == (
        "20 pictures read and 5 before; 8 faces; 1 unreadable; 10 left, which the same command "
        "tries again; 4.0 pictures a second, 5.0 a core-second"
    )


# ---- Ray


def start(*arguments):
    """The command as a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_ENABLE_METRICS_COLLECTION": "0"}
    command = [sys.executable, "-m", "facial_keypoints.bulk", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def wait_for_parts(folder, count, process):
    """Wait until the folder has at least this many parts; returns when each was written."""
    while len(parts := {part: part.stat().st_mtime_ns for part in folder.glob("part-*")}) < count:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    return parts


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to a single process")
def test_nothing_is_lost_or_duplicated_when_a_run_is_stopped_and_a_worker_killed(tmp_path):
    """Run until two parts are written, Ctrl-C; run again, kill a worker after two more; run a third time."""
    pytest.importorskip("ray")
    large = np.asarray(Image.fromarray(PIXELS).resize((1400, 1400)))  # slow enough to be killed in time
    first = Path(save(tmp_path / "in" / "00.png", large))
    for number in range(1, 24):
        os.link(first, tmp_path / "in" / f"{number:02}.png")
    (tmp_path / "in" / "broken.png").write_bytes(b"no picture")
    command = (
        tmp_path / "in",
        tmp_path / "out",
        "--network",
        "fast",
        "--detector",
        "haar",
        "--workers",
        2,
        "--chunk",
        1,
    )

    process = start(*command)
    wait_for_parts(tmp_path / "out", 2, process)
    process.send_signal(signal.SIGINT)
    assert "the same command resumes" in process.communicate(timeout=120)[1] and process.returncode == 130
    before = wait_for_parts(tmp_path / "out", 2, process)

    process = start(*command)
    wait_for_parts(tmp_path / "out", len(before) + 2, process)
    workers = [child for child in psutil.Process(process.pid).children(recursive=True) if "MapWorker" in child.name()]
    workers[0].kill()
    assert len(list((tmp_path / "out").glob("part-*"))) < 25, "too late to test anything"
    said, complaints = process.communicate(timeout=120)
    assert process.returncode == 1 and f"{25 - len(before)} pictures read and {len(before)} before" in said, complaints

    found = rows(tmp_path / "out")
    assert sorted(found) == sorted(map(str, (tmp_path / "in").iterdir()))
    assert all(part.stat().st_mtime_ns == written for part, written in before.items())
    faces = {len(those) for source, those in found.items() if "broken" not in source}
    assert len(faces) == 1 and [row["error"] is None for row in found[str(tmp_path / "in" / "broken.png")]] == [False]
    assert not [name for name in os.listdir(tmp_path / "out") if name.startswith("_part")]
    assert bulk.extract(str(tmp_path / "in"), str(tmp_path / "out"), "fast", "haar", chunk=1).before == 25


# ---- the model of the cost


def test_the_cost_model_is_recovered_from_runs_that_follow_it():
    model = Model(start=7.0, each=0.03, overhead=0.2, efficiency=0.9)
    runs = {what: dict(workers=w, pictures=n, chunk=k, seconds=model.seconds(n, w, k)) for w, n, k, what in RUNS}
    fitted = Model.of(runs)
    assert fitted.each == pytest.approx(model.each, rel=0.02) and fitted.start == pytest.approx(model.start, rel=0.02)
    assert fitted.efficiency == pytest.approx(model.efficiency, rel=0.02)
    assert fitted.seconds(10**8, 1600, 1000) == pytest.approx(model.seconds(10**8, 1600, 1000), rel=0.03)
