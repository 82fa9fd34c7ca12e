"""tools/download_data.py against a real HTTP server on this machine."""

import hashlib
import io
import re
import socket
import stat
import threading
import time
import zipfile
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import download_data
import numpy as np
import pytest
from PIL import Image

TRAINING_CSV, TEST_CSV = "training_frames_keypoints.csv", "test_frames_keypoints.csv"
Outcome = namedtuple("Outcome", "code out err")


def png(seed):
    packed = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (80, 80, 4), np.uint8)).save(packed, "PNG")
    return packed.getvalue()


IMAGES = {
    name: png(seed) for seed, name in enumerate(("training/a.jpg", "training/b.jpg", "test/d.jpg", "test/e.jpg"))
}
FILES = {TRAINING_CSV: b",0,1\na.jpg,1.0,2.0\n", TEST_CSV: b",0,1\nd.jpg,3.0,4.0\n"} | IMAGES


class Server(ThreadingHTTPServer):
    """Serves `body` at every address; status, ranges (whether it can resume) and cut (bytes sent) may be changed."""

    def __init__(self, body):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/archive.zip"
        self.body, self.status, self.ranges, self.cut = body, 200, True, None
        self.asked, self.served = [], []  # Range header and number of bytes of each answer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if server.ranges and asked else 0
        rest = server.body[start:]
        self.send_response(206 if start and server.status == 200 else server.status)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        server.asked.append(asked)
        server.served.append(len(rest[: server.cut]))
        self.wfile.write(rest[: server.cut])

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


def files_in(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download_data, "BLOCK", 1000)  # a partial download is kept in whole blocks
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
def run(tmp_path, capsys):
    """run(url, ...) -> exit code, stdout and stderr of a download into tmp_path/data."""

    def call(*sources, patience=4.5):
        hashes = {name: hashlib.sha256(FILES[name]).hexdigest() for name in (TRAINING_CSV, TEST_CSV)}
        archive = download_data.Archive(sources, hashes, {"training": 2, "test": 2}, patience)
        code = download_data.main(["--dest", str(tmp_path / "data")], archive)
        return Outcome(code, *capsys.readouterr())

    return call


def assert_fails_clean(outcome, tmp_path, *words):
    """One sentence with `words` on stderr, exit status 1, and no file or folder left behind."""
    assert outcome.code == 1 and outcome.err.count("\n") == 1 and outcome.err.endswith("starts again.\n")
    assert all(word in outcome.err for word in words), outcome.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("top", ["", "data/", "P1_Facial_Keypoints-master/data/"])
def test_the_published_files_are_unpacked_and_nothing_else(top, serve, run, tmp_path):
    junk = {"__MACOSX/" + top + name: b"junk" for name in ("._" + TRAINING_CSV, "training/._a.jpg")}
    junk |= {top + "training/._a.jpg": b"junk", top + ".DS_Store": b"junk", "README.md": b"not asked for"}
    outcome = run(serve(pack({top + name: content for name, content in FILES.items()} | junk)).url)
    assert (outcome.code, outcome.err) == (0, "") and outcome.out.count("Not fetched, its owner has it") == 2
    assert files_in(tmp_path) == {f"data/{name}": content for name, content in FILES.items()}


def test_complete_data_is_one_line_and_no_request(serve, run, tmp_path):
    server = serve(pack(FILES))
    run(server.url)
    (tmp_path / "data/training/one_of_mine.jpg").write_bytes(png(9))
    outcome = run(server.url)
    assert (outcome.code, outcome.err, outcome.out.count("\n"), len(server.asked)) == (0, "", 1, 1)
    assert "already complete" in outcome.out


def test_missing_files_are_fetched_and_the_users_own_kept(serve, run, tmp_path):
    mine = {"imm_face_db/01-1m.asf": b"mine", "training/one_of_mine.jpg": png(9), "notes.txt": b"mine"}
    broken = {"training/a.jpg": FILES["training/a.jpg"][:-100]}
    for name, content in (mine | broken | {TRAINING_CSV: FILES[TRAINING_CSV].replace(b"\n", b"\r\n")}).items():
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
    assert files_in(tmp_path) == {f"data/{TEST_CSV}": b"my own labels"} and server.asked == []


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_is_resumed_where_the_server_can(ranges, serve, run, tmp_path):
    server = serve(pack(FILES))
    server.cut, server.ranges = 30_000, ranges
    outcome = run(server.url)
    assert outcome.code == 1 and outcome.err.count("\n") == 1 and not (tmp_path / "data").exists()
    assert f"broke off after 30000 of {len(server.body)} bytes; the same command resumes" in outcome.err
    server.cut = None
    assert run(server.url).code == 0 and server.asked == [None, "bytes=29999-"]
    assert server.served == [30_000, len(server.body) - (29_999 if ranges else 0)]
    assert files_in(tmp_path) == {f"data/{name}": content for name, content in FILES.items()}


def test_ctrl_c_is_one_sentence_and_the_archive_is_not_fetched_again(serve, run, monkeypatch):
    server = serve(pack(FILES))
    with monkeypatch.context() as patch:
        patch.setattr(download_data, "unpack", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert run(server.url)[::2] == (130, "Stopped; the same command resumes the download.\n")
    assert run(server.url).code == 0 and server.served == [len(server.body), 1]


def test_an_archive_that_changed_between_two_attempts_is_noticed(serve, run, tmp_path):
    server = serve(pack(FILES | {"training/a.jpg": png(9)}))
    server.cut = 30_000
    run(server.url)
    server.body, server.cut = pack(FILES), None
    assert_fails_clean(run(server.url), tmp_path, "deleted")
    assert run(server.url).code == 0


@pytest.mark.parametrize(("status", "body"), [(404, b""), (503, b""), (200, b"<html>please log in</html>")])
def test_the_second_source_is_used_when_the_first_fails(status, body, serve, run, tmp_path):
    first, second = serve(body), serve(pack(FILES))
    first.status = status
    assert_fails_clean(run(first.url), tmp_path, "No usable archive: ", "127.0.0.1", "`make run` continues")
    assert run(first.url, second.url).code == 0 and len(second.asked) == 1
    assert files_in(tmp_path) == {f"data/{name}": content for name, content in FILES.items()}


def test_a_missing_network_is_noticed_within_seconds(serve, run, tmp_path):
    with socket.socket() as closed, socket.create_server(("127.0.0.1", 0)) as silent:
        closed.bind(("127.0.0.1", 0))
        start = time.monotonic()
        urls = (f"http://127.0.0.1:{place.getsockname()[1]}/a.zip" for place in (closed, silent))
        assert_fails_clean(run(*urls, patience=0.3), tmp_path, "No network", "ConnectionError", "TimeoutError")
        assert time.monotonic() - start < 3
    assert len(download_data.COURSE.sources) * download_data.COURSE.patience < 10


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (pack(FILES | {TRAINING_CSV: b",0,1\na.jpg,1.0,999.0\n"}), (TRAINING_CSV, "SHA-256", "deleted")),
        (pack({name: FILES[name] for name in FILES if name != "test/e.jpg"}), ("1 images in test/, expected 2",)),
        (pack(FILES | {"test/e.jpg": FILES["test/e.jpg"][:-100]}), ("test/e.jpg is not a sound image",)),
        (pack(FILES)[:20_000] + bytes(50) + pack(FILES)[20_050:], ("CRC",)),
        (pack(FILES)[:-500], ("not a zip",)),
        (pack({"README": b"no data"}), ("no training_frames_keypoints.csv in it",)),
    ],
)  # fmt: skip
def test_a_wrong_archive_is_one_sentence_and_leaves_nothing_behind(body, words, serve, run, tmp_path):
    assert_fails_clean(run(serve(body).url), tmp_path, *words)


def test_no_entry_is_written_outside_the_folder(serve, run, tmp_path):
    evil = ["../evil.jpg", "training/../../evil.jpg", "/tmp/evil.jpg", "C:/evil.jpg", "training/..\\evil.jpg"]
    linked = {"training": b"/tmp"} | dict.fromkeys(evil, b"evil") | FILES
    assert run(serve(pack(linked, links=["training"])).url).code == 0
    assert files_in(tmp_path) == {f"data/{name}": content for name, content in FILES.items()}
    assert not (tmp_path / "data/training").is_symlink()


def test_a_full_disk_is_noticed_before_the_download(serve, run, tmp_path, monkeypatch):
    server = serve(pack(FILES))
    disk = SimpleNamespace(free=2 * len(server.body) - 1)
    monkeypatch.setattr(download_data.shutil, "disk_usage", lambda path: disk)
    assert_fails_clean(run(server.url), tmp_path, "Disk full", "make room")
    disk.free += 1
    assert run(server.url).code == 0
