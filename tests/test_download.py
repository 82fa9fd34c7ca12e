"""tools/download_data.py against a real HTTP server on this machine."""

import errno
import hashlib
import io
import random
import re
import socket
import stat
import threading
import time
import zipfile
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import download_data
import pytest

TRAINING_CSV, TEST_CSV = "training_frames_keypoints.csv", "test_frames_keypoints.csv"
FILES = {TRAINING_CSV: b",0,1\na.jpg,1.0,2.0\n", TEST_CSV: b",0,1\nd.jpg,3.0,4.0\n"} | {
    name: random.Random(name).randbytes(20_000)
    for name in ("training/a.jpg", "training/b.jpg", "training/c.jpg", "test/d.jpg", "test/e.jpg")
}


class Server(ThreadingHTTPServer):
    """Serves `body` at every address; the attributes say how well it behaves."""

    def __init__(self, body):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/archive.zip"
        self.body, self.headers, self.status, self.ranges, self.cut = body, {"ETag": '"one"'}, 200, True, None
        self.asked, self.served = [], []  # Range header and number of bytes of each answer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        start = 0
        if server.ranges and asked and self.headers.get("If-Range") in (None, *server.headers.values()):
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
        rest = server.body[start:]
        self.send_response(206 if start and server.status == 200 else server.status)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.body) - 1}/{len(server.body)}")
        for name, value in ({"Content-Length": len(rest)} | server.headers).items():
            self.send_header(name, str(value))
        self.end_headers()
        sent = rest[: server.cut]
        server.asked.append(asked)
        server.served.append(len(sent))
        self.wfile.write(sent)

    def log_message(self, *args):
        pass


def pack(files, top="", links=()):
    """The bytes of a zip with `files` below the folder `top`."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in files.items():
            entry = zipfile.ZipInfo(top + name)
            entry.external_attr = ((stat.S_IFLNK if name in links else stat.S_IFREG) | 0o644) << 16
            zipped.writestr(entry, content)
    return packed.getvalue()


def files_in(folder: Path) -> dict:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    servers = []

    def start(body):
        servers.append(Server(body))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def dead_url(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{closed.getsockname()[1]}/archive.zip"


Outcome = namedtuple("Outcome", "code out err")


@pytest.fixture
def run(tmp_path, capsys):
    """run(url, ...) -> exit code, stdout and stderr of a download into tmp_path/data."""

    def call(*sources, patience=4.5):
        hashes = {name: hashlib.sha256(FILES[name]).hexdigest() for name in (TRAINING_CSV, TEST_CSV)}
        archive = download_data.Archive(sources, hashes, {"training": 3, "test": 2}, patience)
        code = download_data.main(["--dest", str(tmp_path / "data")], archive)
        return Outcome(code, *capsys.readouterr())

    return call


def assert_fails_clean(outcome, tmp_path, *words):
    """One sentence with `words` on stderr, exit status 1, and not a file or folder left."""
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1 and outcome.err.endswith(".\n")
    for word in words:
        assert word in outcome.err
    assert list(tmp_path.iterdir()) == []


def part_of(tmp_path) -> Path:
    return next((tmp_path / ".data-download").glob("*.part"))


def test_fresh_download_lays_out_the_published_files(serve, run, tmp_path):
    outcome = run(serve(pack(FILES)).url)
    assert (outcome.code, outcome.err) == (0, "")
    assert files_in(tmp_path / "data") == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("top", ["data/", "train-test-data/", "P1_Facial_Keypoints-master/data/"])
def test_data_is_found_in_whatever_folder_of_the_archive_it_is(serve, run, tmp_path, top):
    junk = {"__MACOSX/" + top + name: b"junk" for name in ("._" + TRAINING_CSV, "training/._a.jpg")}
    junk |= {top + "training/._a.jpg": b"junk", top + ".DS_Store": b"junk", "README.md": b"not asked for"}
    assert run(serve(pack({top + name: content for name, content in FILES.items()} | junk)).url).code == 0
    assert files_in(tmp_path / "data") == FILES


def test_complete_data_is_said_in_one_line_and_nothing_is_asked(serve, run, tmp_path):
    server = serve(pack(FILES))
    run(server.url)
    (tmp_path / "data/training/one_of_mine.jpg").write_bytes(b"mine")
    outcome = run(server.url)
    assert (outcome.code, outcome.err, outcome.out.count("\n")) == (0, "", 1)
    assert "already complete" in outcome.out
    assert len(server.asked) == 1


def test_missing_images_are_fetched_and_files_of_the_user_kept(serve, run, tmp_path):
    mine = {"imm_face_db/01-1m.asf": b"mine", "training/one_of_mine.jpg": b"mine", "notes.txt": b"mine"}
    for name, content in (mine | {name: FILES[name] for name in (TRAINING_CSV, "test/d.jpg")}).items():
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(content)
    assert run(serve(pack(FILES)).url).code == 0
    assert files_in(tmp_path / "data") == FILES | mine


def test_keypoints_of_the_user_are_not_overwritten(serve, run, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / TEST_CSV).write_bytes(b"my own labels")
    server = serve(pack(FILES))
    outcome = run(server.url)
    assert outcome.code == 1 and TEST_CSV in outcome.err and "move it away" in outcome.err
    assert files_in(tmp_path) == {f"data/{TEST_CSV}": b"my own labels"}
    assert server.asked == []


def test_keypoints_with_windows_line_ends_are_the_published_ones(serve, run):
    windows = {name: FILES[name].replace(b"\n", b"\r\n") for name in (TRAINING_CSV, TEST_CSV)}
    assert run(serve(pack(FILES | windows)).url).code == 0


def test_other_datasets_are_named_only_when_missing(serve, run, tmp_path):
    (tmp_path / "data/imm_face_db").mkdir(parents=True)
    out = run(serve(pack(FILES)).url).out
    assert "imm_face_db" not in out
    assert "http://dlib.net/files/data/ibug_300W_large_face_landmark_dataset.tar.gz" in out


@pytest.mark.parametrize("headers", [{"ETag": '"one"'}, {"Last-Modified": "Wed, 02 May 2018 20:00:00 GMT"}])
def test_interrupted_download_is_resumed_and_only_the_rest_is_sent(serve, run, tmp_path, headers):
    server = serve(pack(FILES))
    server.headers, server.cut = headers, 30_000
    outcome = run(server.url)
    assert outcome.code == 1 and outcome.err.count("\n") == 1
    assert "the same command resumes" in outcome.err and f"30000 of {len(server.body)} bytes" in outcome.err
    assert not (tmp_path / "data").exists()
    assert part_of(tmp_path).read_bytes() == server.body[:30_000]

    server.cut = None
    assert run(server.url).code == 0
    assert server.asked == [None, "bytes=29999-"]
    assert server.served == [30_000, len(server.body) - 29_999]
    assert files_in(tmp_path) == {f"data/{name}": content for name, content in FILES.items()}


def test_complete_part_is_not_fetched_again(serve, run, tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    server = serve(pack(FILES))
    with monkeypatch.context() as patch:
        patch.setattr(download_data, "unpack", stop)
        assert run(server.url).code == 130
    assert run(server.url).code == 0
    assert server.served == [len(server.body), 1]


def test_file_that_changed_on_the_server_is_not_glued(serve, run, tmp_path):
    server = serve(pack(FILES | {"training/a.jpg": b"before"}))
    server.cut = 30_000
    run(server.url)
    server.body, server.headers, server.cut = pack(FILES), {"ETag": '"two"'}, None
    assert run(server.url).code == 0
    assert server.served == [30_000, len(server.body)]
    assert files_in(tmp_path / "data") == FILES


def test_server_that_ignores_if_range_does_not_glue_either(serve, run, tmp_path):
    server = serve(pack(FILES | {"training/a.jpg": b"before"}))
    server.cut = 30_000
    run(server.url)
    server.body, server.cut = pack(FILES), None
    server.headers = {"ETag": '"two"', "X-Accepts": '"one"'}  # answers If-Range: "one" with a part of "two"
    assert run(server.url).code == 0
    assert server.asked == [None, "bytes=29999-", None]
    assert files_in(tmp_path / "data") == FILES


def test_server_that_ignores_range_starts_over(serve, run, tmp_path):
    server = serve(pack(FILES))
    server.cut, server.ranges = 30_000, False
    run(server.url)
    server.cut = None
    assert run(server.url).code == 0
    assert server.served == [30_000, len(server.body)]
    assert files_in(tmp_path / "data") == FILES


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"weak"'}])
def test_part_whose_version_is_unknown_is_not_kept(serve, run, tmp_path, headers):
    server = serve(pack(FILES))
    server.headers, server.cut = headers, 30_000
    assert_fails_clean(run(server.url), tmp_path, "broke off", "the same command starts again")


def test_second_source_is_taken_when_the_first_fails(serve, run, tmp_path):
    first, second = serve(b""), serve(pack(FILES, top="P1_Facial_Keypoints-master/data/"))
    first.status = 404
    assert run(first.url, second.url).code == 0
    assert files_in(tmp_path / "data") == FILES
    assert len(first.asked) == len(second.asked) == 1


def test_second_source_is_taken_when_the_first_is_not_the_archive(serve, run, tmp_path):
    login_page = serve(b"<html>please log in to this wifi</html>")
    assert run(login_page.url, serve(pack(FILES)).url).code == 0
    assert files_in(tmp_path) == {f"data/{name}": content for name, content in FILES.items()}


@pytest.mark.parametrize("status", [403, 404, 503])
def test_server_error_is_one_sentence(serve, run, tmp_path, status):
    server = serve(b"")
    server.status = status
    assert_fails_clean(run(server.url, server.url), tmp_path, str(status), "127.0.0.1", "make run")


def test_closed_port_is_no_network(run, tmp_path, dead_url):
    outcome = run(dead_url, dead_url)
    assert_fails_clean(outcome, tmp_path, "No network", "`make run` goes on with the drawn faces")


def test_server_that_never_answers_is_given_up_in_time(run, tmp_path, dead_url):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/archive.zip"
        start = time.monotonic()
        assert_fails_clean(run(url, url, patience=0.3), tmp_path, "No network")
        assert time.monotonic() - start < 2
    assert len(download_data.COURSE.sources) * download_data.COURSE.patience < 10


def test_part_survives_a_day_without_network(serve, run, tmp_path, dead_url):
    server = serve(pack(FILES))
    server.cut = 30_000
    run(server.url)
    outcome = run(dead_url)
    assert outcome.code == 1 and "No network" in outcome.err and "resumes" in outcome.err
    server.cut = None
    assert run(server.url).code == 0
    assert server.asked[-1] == "bytes=29999-"


def test_wrong_checksum_is_named_and_deletes_the_archive(serve, run, tmp_path):
    server = serve(pack(FILES | {TRAINING_CSV: b",0,1\na.jpg,1.0,999.0\n"}))
    assert_fails_clean(run(server.url), tmp_path, TRAINING_CSV, "SHA-256", "deleted")


@pytest.mark.parametrize("count", [1, 3])
def test_wrong_number_of_images_is_named_and_leaves_nothing(serve, run, tmp_path, count):
    files = {name: content for name, content in FILES.items() if not name.startswith("test/")}
    files |= {f"test/{number}.jpg": b"image" for number in range(count)}
    assert_fails_clean(run(serve(pack(files)).url), tmp_path, f"{count} images in test/, expected 2")


@pytest.mark.parametrize("body", [b"<html>", pack(FILES)[:-500], pack({"README": b"no data"})])
def test_what_is_not_the_archive_leaves_nothing(serve, run, tmp_path, body):
    assert_fails_clean(run(serve(body).url), tmp_path, "No usable archive")


def test_damaged_bytes_inside_the_archive_are_noticed(serve, run, tmp_path):
    body = bytearray(pack(FILES))
    body[20_000:20_050] = bytes(50)
    assert_fails_clean(run(serve(bytes(body)).url), tmp_path, "not a sound zip file")


@pytest.mark.parametrize(
    "name",
    ["../evil.jpg", "training/../../evil.jpg", "/tmp/evil.jpg", "C:/evil.jpg", "C:evil.jpg", "..\\evil.jpg"],
)
def test_entry_that_leads_out_of_its_folder_writes_nothing(serve, run, tmp_path, name):
    outcome = run(serve(pack(FILES | {name: b"evil"})).url)
    assert_fails_clean(outcome, tmp_path, "evil.jpg", "out of its folder")


def test_data_at_a_place_outside_of_the_archive_writes_nothing(serve, run, tmp_path):
    assert_fails_clean(run(serve(pack(FILES, top="../../")).url), tmp_path, "out of its folder")


def test_symbolic_link_in_the_archive_writes_nothing(serve, run, tmp_path):
    body = pack({"training": b"/tmp"} | FILES, links=["training"])
    assert_fails_clean(run(serve(body).url), tmp_path, "'training'")
    body = pack(FILES | {"test/e.jpg": b"/etc/passwd"}, links=["test/e.jpg"])
    assert_fails_clean(run(serve(body).url), tmp_path, "'test/e.jpg'")


def test_too_small_a_disk_is_noticed_before_the_download(serve, run, tmp_path, monkeypatch):
    disk, server = SimpleNamespace(), serve(pack(FILES))
    monkeypatch.setattr(download_data.shutil, "disk_usage", lambda path: disk)
    disk.free = 2 * len(server.body) - 1
    assert_fails_clean(run(server.url), tmp_path, "Disk full", "make room")
    disk.free += 1
    assert run(server.url).code == 0


@pytest.mark.parametrize("suffix", [".part", ".jpg"])
def test_disk_that_fills_up_leaves_nothing(serve, run, tmp_path, monkeypatch, suffix):
    class FullDisk(io.BytesIO):
        def write(self, block):
            raise OSError(errno.ENOSPC, "No space left on device")

    real_open = Path.open

    def open_on_full_disk(path, mode="r", *args, **kwargs):
        file = real_open(path, mode, *args, **kwargs)
        if path.suffix != suffix or mode != "wb":
            return file
        file.close()
        return FullDisk()

    monkeypatch.setattr(Path, "open", open_on_full_disk)
    assert_fails_clean(run(serve(pack(FILES)).url), tmp_path, "Disk full", "make room")


def test_failure_while_moving_into_place_takes_everything_back(serve, run, tmp_path, monkeypatch):
    real_move, moved = download_data.shutil.move, []

    def move(source, target):
        if len(moved) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        moved.append(target)
        return real_move(source, target)

    monkeypatch.setattr(download_data.shutil, "move", move)
    assert_fails_clean(run(serve(pack(FILES)).url), tmp_path, "Disk full")
    assert len(moved) == 4


def test_ctrl_c_is_one_sentence_and_resumable(serve, run, tmp_path, monkeypatch):
    def first_block_then_ctrl_c(response, host):
        yield response.read(30_000)
        raise KeyboardInterrupt

    server = serve(pack(FILES))
    with monkeypatch.context() as patch:
        patch.setattr(download_data, "read_blocks", first_block_then_ctrl_c)
        outcome = run(server.url)
    assert outcome.code == 130
    assert outcome.err == "Stopped; the same command resumes the download.\n"
    assert run(server.url).code == 0
    assert server.asked == [None, "bytes=29999-"]


def test_course_archive_is_the_one_in_the_course_material():
    course = download_data.COURSE
    assert course.images == {"training": 3462, "test": 2308}
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in course.csv_sha256.values())
    assert course.sources[0].endswith("/2018/May/5aea1b91_train-test-data/train-test-data.zip")
