"""A page in the browser for trying the library on photos, videos and the camera.

    python -m facial_keypoints.demo            needs Gradio: pip install "facial-keypoints[demo]"

Only this computer can open it. Uploads and results are deleted after some minutes, and when the page ends.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from facial_keypoints.batch import read_picture
from facial_keypoints.filters import WEARABLES
from facial_keypoints.images import DataError
from facial_keypoints.pipeline import NETWORKS, FacePipeline
from facial_keypoints.results import Drawing, face_record
from facial_keypoints.tracker import Tracker
from facial_keypoints.video import VIDEOS, Video, draw, results_of, track_video

MEGABYTES = 50  # the largest file
SECONDS = 60  # the longest video
PATIENCE = 120  # seconds of work on one file
KEPT = 600  # seconds that uploads and results are kept
AT_ONCE = 2  # files processed at a time; others wait
CAMERAS = 8
HEIGHT = 500  # pixels, of the picture on the page
NOT_SHARED = {"buttons": ["fullscreen"]}  # Gradio's default has a button that sends the picture to Hugging Face
WELCOME = f"""# Facial keypoints
Photos and videos of up to {MEGABYTES} MB, videos of up to {SECONDS} seconds. Everything stays on this computer;
files are deleted after {KEPT // 60} minutes."""


def _gradio():
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError:
        raise DataError('the page needs Gradio: pip install "facial-keypoints[demo]"') from None
    return gradio


def table(faces: list[dict]) -> str:
    """The faces of a picture (results.face_record) as a Markdown table."""
    if not faces:
        return "Nobody was found."
    rows = ["| face | confidence | yaw | pitch | roll |", "| --- | --- | --- | --- | --- |"]
    for number, face in enumerate(faces):
        mean = sum(face["confidence"]) / len(face["confidence"])
        angles = " | ".join(f"{face['pose'][angle]:.0f}°" for angle in ("yaw", "pitch", "roll"))
        rows.append(f"| {face.get('identity', number)} | {mean:.0%} | {angles} |")
    return "\n".join(rows)


def read_photo(path: Path, folder: Path, pipeline: FacePipeline, drawing: Drawing) -> tuple[Path, Path, str]:
    """The drawn photo and its JSON file in the folder, and a table; raises DataError if the file is not a picture."""
    record = read_picture(path, folder / path.name, pipeline, [drawing])
    if "error" in record:
        raise DataError(record["error"])
    written = folder / f"{path.stem}_keypoints.json"
    written.write_text(json.dumps(record | {"file": path.name}), encoding="utf-8")
    drawn = drawing.paths(folder / path.name, len(record["faces"])) or [path]
    return drawn[0], written, table(record["faces"])


def read_video(
    path: Path, folder: Path, pipeline: FacePipeline, drawing: Drawing, report: Callable
) -> tuple[Path, Path, str]:
    """The drawn video and its JSON Lines in the folder, and a summary; calls report((frame, frames)) for each frame.

    Raises DataError if the file is not a video, lasts longer than SECONDS, or takes longer than PATIENCE.
    """
    with Video(path) as video:
        frames, seconds = video.frames, float(video.frames / video.rate)
    if seconds > SECONDS:
        raise DataError(f"{path}: {seconds:.0f} seconds long, the page takes up to {SECONDS}; the command takes any")
    start, done = time.monotonic(), 0

    def count(error=None):
        nonlocal done
        done += 1
        report((done, max(done, frames)))
        if time.monotonic() > start + PATIENCE:
            raise DataError(f"{path}: takes longer than {PATIENCE} seconds here, try a shorter or smaller video")

    summary = track_video(path, folder, pipeline, drawing, count)
    written, drawn = results_of(path, folder, drawing)
    return drawn, written, f"{summary}."


@contextmanager
def told(gradio, path: Path) -> Iterator[None]:
    """Shows a DataError on the page, without the folder that the file was uploaded to."""
    try:
        yield
    except DataError as error:
        sentence = str(error).replace(f"{path.parent}{os.sep}", "")
        raise gradio.Error(sentence, duration=None, print_exception=False) from None


def page(pipeline: FacePipeline):
    """The page as gradio.Blocks; raises DataError without Gradio."""
    gradio = _gradio()
    with gradio.Blocks(title="Facial keypoints", analytics_enabled=False, delete_cache=(60, KEPT)) as blocks:
        gradio.Markdown(WELCOME)
        with gradio.Row():
            points = gradio.Checkbox(True, label="keypoints and boxes", elem_id="points")
            filters = gradio.CheckboxGroup(list(WEARABLES), label="wear", elem_id="filters")
        with gradio.Tab("Photo or video"), gradio.Row():
            _file_tab(gradio, pipeline, points, filters)
        with gradio.Tab("Camera"), gradio.Row():
            _camera_tab(gradio, pipeline, points, filters)
    return blocks


def _file_tab(gradio, pipeline, points, filters):
    with gradio.Column(scale=1, min_width=400):  # narrower, words in the table's header break
        file = gradio.File(label="photo or video", elem_id="file")
        text = gradio.Markdown(elem_id="text")
        save = gradio.DownloadButton("download picture", visible=False, elem_id="save")
        save_json = gradio.DownloadButton("download JSON", visible=False, elem_id="save_json")
    with gradio.Column(scale=2):
        shown = {"label": "faces", "interactive": False, "height": HEIGHT}
        picture = gradio.Image(**shown, **NOT_SHARED, elem_id="picture")
        video = gradio.Video(**shown, visible=False, buttons=["download"], elem_id="video")
    gradio.on(
        [file.change, points.change, filters.change],
        _file_answer(gradio, pipeline),
        [file, points, filters],
        [picture, video, text, save, save_json],
        concurrency_limit=AT_ONCE,
        trigger_mode="always_last",
    )


def _file_answer(gradio, pipeline) -> Callable:
    def answer(path, points, filters, progress=gradio.Progress()):  # noqa: B008
        if path is None:
            yield gradio.update(value=None, visible=True), gradio.update(visible=False), "", *[gradio.skip()] * 2
            return
        path, drawing = Path(path), Drawing(tuple(filters), points)
        is_video = path.suffix.lower() in VIDEOS
        with tempfile.TemporaryDirectory() as folder, told(gradio, path):
            work = (path, Path(folder), pipeline, drawing)
            drawn, written, text = read_video(*work, progress) if is_video else read_photo(*work)
            picture = gradio.update(value=None if is_video else str(drawn), visible=not is_video)
            video = gradio.update(value=str(drawn) if is_video else None, visible=is_video)
            files = (gradio.update(value=str(some), visible=True) for some in (drawn, written))
            yield picture, video, text, *files

    return answer


def _camera_tab(gradio, pipeline, points, filters):
    with gradio.Column():
        camera = gradio.Image(sources=["webcam"], streaming=True, label="camera", elem_id="camera")
        known = gradio.Markdown(elem_id="known")
    live = gradio.Image(label="faces", interactive=False, **NOT_SHARED, elem_id="live")
    tracker = gradio.State()
    camera.stream(
        _camera_answer(gradio, pipeline),
        [camera, points, filters, tracker],
        [live, known, tracker],
        stream_every=0.1,
        time_limit=None,
        concurrency_limit=CAMERAS,
        show_progress="hidden",
    )


def _camera_answer(gradio, pipeline) -> Callable:
    def look(image, points, filters, tracker):
        if image is None:
            return None, "", tracker
        tracker = tracker or Tracker(pipeline)
        with told(gradio, Path()):
            faces = tracker(image, time.monotonic())
            records = [{"identity": tracked.identity, **face_record(tracked.face)} for tracked in faces]
            return draw(image, faces, Drawing(tuple(filters), points)), table(records), tracker

    return look


def serve(pipeline: FacePipeline, **settings):
    """Serve the page to this computer; returns its gradio.Blocks. settings: arguments of Blocks.launch."""
    gradio, blocks = _gradio(), page(pipeline)
    theme = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])  # fetches no fonts
    settings |= {"max_file_size": f"{MEGABYTES}mb", "theme": theme, "footer_links": [], "quiet": True}
    blocks.launch(server_name="127.0.0.1", share=False, prevent_thread_lock=True, **settings)
    return blocks


def main() -> int:
    """Serve the page until Ctrl-C; returns the exit code."""
    parser = argparse.ArgumentParser("facial_keypoints.demo", description="a page to try the library in the browser")
    parser.add_argument("--network", default="fast", help=f"{', '.join(NETWORKS)} or an .onnx file; default: fast")
    parser.add_argument("--port", type=int, help="default: the first free one from 7860")
    parser.add_argument("--no-browser", action="store_true", help="do not open the page")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        try:
            blocks = serve(FacePipeline(args.network, threads=1), server_port=args.port, inbrowser=not args.no_browser)
        except (DataError, RuntimeError, OSError) as error:
            print(error, file=sys.stderr)
            return 2
        print(f"the page is at {blocks.local_url} for this computer; Ctrl-C ends it", flush=True)
        blocks.block_thread()  # until Ctrl-C
    return 0


if __name__ == "__main__":
    sys.exit(main())
