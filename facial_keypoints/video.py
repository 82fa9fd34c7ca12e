"""Reading videos as frames with their times, and writing them with faces drawn in.

They need PyAV: pip install "facial-keypoints[video]".
"""

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from facial_keypoints.images import DataError
from facial_keypoints.pipeline import FacePipeline
from facial_keypoints.results import Drawing, check_settings, face_record, whole
from facial_keypoints.threads import in_order
from facial_keypoints.tracker import TrackedFace, Tracker

VIDEOS = set(".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .mts .wmv .flv .3gp .ogv".split())
WRITTEN = (".mp4", ".m4v", ".mov", ".mkv")  # other videos are written as .mp4
SECOND_FRAME = Fraction(1, 30)  # seconds; if a video does not state its rate


def _av():
    try:
        import av
    except ImportError:
        raise DataError('videos need PyAV: pip install "facial-keypoints[video]"') from None
    av.logging.set_level(av.logging.PANIC)  # errors are raised or counted instead
    return av


@dataclass(frozen=True)
class Frame:
    """A frame of a video: upright RGB uint8 (H, W, 3), and its time in seconds."""

    image: np.ndarray
    seconds: float


class Video:
    """The frames of a video file, upright and in order of time; a context that closes the file.

    Frames that cannot be decoded are left out and counted in `broken`; the others keep their times. Raises DataError
    when a file is opened that is not a video, or at its end if no frame could be decoded.
    """

    def __init__(self, path: str | Path):
        self.path, self.broken = Path(path), 0
        self._error = (av := _av()).error.FFmpegError
        if not self.path.is_file():
            raise DataError(f"{path}: no such file")
        try:
            self._file = av.open(str(path))
        except (self._error, OSError, ValueError) as error:
            raise DataError(f"{path}: not a readable video ({getattr(error, 'strerror', None) or error})") from None
        if not self._file.streams.video:
            self._file.close()
            raise DataError(f"{path}: has no pictures")
        self._stream = self._file.streams.video[0]
        self._stream.thread_type = "AUTO"

    @property
    def rate(self) -> Fraction:
        """Frames a second, on average if the rate varies."""
        return self._stream.average_rate or self._stream.guessed_rate or 1 / SECOND_FRAME

    @property
    def frames(self) -> int:
        """The approximate number of frames; 0 if the file does not state it."""
        if self._stream.frames or self._file.duration is None:
            return self._stream.frames
        return round(self._file.duration / 1e6 * self.rate)

    @property
    def sound(self):
        """PyAV's audio stream, or None."""
        return next(iter(self._file.streams.audio), None)

    def __iter__(self) -> Iterator[Frame]:
        return (item for item in self.items() if isinstance(item, Frame))

    def items(self, *more) -> Iterator:
        """The frames, interleaved with PyAV's packets of other streams of the file."""
        last = None
        for packet in self._packets(self._stream, *more):
            if packet.stream is not self._stream:
                yield packet
                continue
            for frame in self._decoded(packet):
                seconds = frame.time
                if last is not None and (seconds is None or seconds <= last):
                    seconds = last + float(1 / self.rate)
                last = seconds or 0.0
                image = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                yield Frame(np.ascontiguousarray(image), last)
        if last is None:
            raise DataError(f"{self.path}: has no frame that can be decoded")

    def _packets(self, *streams):
        try:
            yield from self._file.demux(*streams)
        except self._error:  # the file ends too early
            self.broken += 1

    def _decoded(self, packet):
        try:
            return packet.decode()
        except self._error:
            self.broken += 1
            return []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()


class VideoWriter:
    """A video file (H.264) with the frame rate, the times and the sound of `video`; a context that closes the file.

    It takes what video.items(writer.sound) yields, with or without drawings in the frames. Sound is copied; if a file
    of this ending cannot hold it, it is left out with a warning. Raises DataError if the file cannot be written.
    """

    TICK = Fraction(1, 90_000)  # seconds

    def __init__(self, path: Path, video: Video):
        self._av, self.path, self._started, self._early = _av(), path, False, []
        try:
            self._file = self._av.open(str(path), "w")
            self._stream = self._file.add_stream("libx264", video.rate, {"crf": "18", "preset": "veryfast"})
        except (self._av.error.FFmpegError, OSError, ValueError) as error:
            raise DataError(f"{path}: could not be written ({error})") from None
        self.sound = video.sound
        if self.sound and self.sound.codec_context.name not in self._file.supported_codecs:
            warnings.warn(f"{video.path}: its sound does not fit into {path.suffix} and is left out", stacklevel=2)
            self.sound = None
        self._sound = self.sound and self._file.add_stream_from_template(self.sound)

    def write(self, item) -> None:
        """One more Frame, or a packet of the sound."""
        if isinstance(item, Frame):
            self._mux(self._stream.encode(self._encodable(item)))
        elif item.dts is not None:  # None marks the end of a stream
            item.stream = self._sound
            self._mux([item])

    def _mux(self, packets):
        """Packets wait until the first frame has come, which the file's header depends on."""
        self._early += packets
        if self._started:
            self._file.mux(self._early)
            self._early = []

    def _encodable(self, frame):
        """The frame for PyAV, resized to the size of the first one."""
        if not self._started:
            self._start(*frame.image.shape[1::-1])
        new = self._av.VideoFrame.from_ndarray(frame.image, format="rgb24")
        context = self._stream.codec_context
        new = new.reformat(context.width, context.height, context.pix_fmt, dst_colorspace="ITU709")
        new.pts, new.time_base = round(frame.seconds / self.TICK), self.TICK
        return new

    def _start(self, width, height):
        context, self._started = self._stream.codec_context, True
        context.width, context.height, context.time_base = width, height, self.TICK
        context.pix_fmt = "yuv444p" if width % 2 or height % 2 else "yuv420p"  # every player supports the second
        context.colorspace = context.color_primaries = context.color_trc = context.color_range = 1  # BT.709

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None and self._started:
                self._mux(self._stream.encode(None))
        finally:
            self._file.close()


@dataclass
class VideoSummary:
    """What was found in a video; broken: frames that could not be decoded."""

    frames: int = 0
    with_faces: int = 0
    broken: int = 0
    identities: set[int] = field(default_factory=set)

    def add(self, faces: list[TrackedFace]) -> None:
        """One more frame with these faces."""
        self.frames += 1
        self.with_faces += bool(faces)
        self.identities |= {tracked.identity for tracked in faces}

    def __str__(self):
        faces = f"{len(self.identities)} face{'' if len(self.identities) == 1 else 's'}"
        broken = f"; {self.broken} broken frames left out" if self.broken else ""
        return f"{self.frames} frames read; {faces} in {self.with_faces} of them{broken}"


def results_of(source: Path, folder: Path, drawing: Drawing | None = None) -> tuple[Path, Path | None]:
    """Where a video's results go: "walk_keypoints.jsonl" and, with drawing, the drawn video "walk_hat.mp4"."""
    ending = source.suffix.lower() if source.suffix.lower() in WRITTEN else ".mp4"
    return folder / f"{source.stem}_keypoints.jsonl", drawing and folder / f"{source.stem}_{drawing.what}{ending}"


def is_done(source: Path, folder: Path, drawing: Drawing | None, settings: dict) -> bool:
    """Whether a video has all its results; raises DataError if they were made with other settings."""
    table, drawn = results_of(source, folder, drawing)
    if not table.is_file():
        return False
    with table.open(encoding="utf-8") as lines:
        check_settings(table, json.loads(next(lines, "{}")), settings)
    return not drawn or drawn.is_file()


def track_video(
    source: Path,
    folder: Path,
    pipeline: FacePipeline,
    drawing: Drawing | None = None,
    report: Callable = lambda: None,
    settings: dict | None = None,
) -> VideoSummary:
    """Follow the faces of a video and write them into a folder: as JSON Lines and, with drawing, as a video.

    One line per frame: its number, its time in seconds, the settings, and its faces (results.face_record) with their
    identities. A second thread draws and encodes while this one reads and tracks. Files are written whole or not at
    all; report() is called after each frame. Raises DataError if a file cannot be read or written.
    """
    table, drawn = results_of(source, folder, drawing)
    tracker, summary = Tracker(pipeline), VideoSummary()
    with ExitStack() as stack:
        video = stack.enter_context(Video(source))
        lines = stack.enter_context(stack.enter_context(whole(table)).open("w", encoding="utf-8"))
        writer = stack.enter_context(VideoWriter(stack.enter_context(whole(drawn)), video)) if drawing else None

        def tracked():
            """Frames with their faces, and packets of sound with None."""
            for item in video.items(*([writer.sound] if writer and writer.sound else [])):
                faces = tracker(item.image, item.seconds) if isinstance(item, Frame) else None
                if faces is not None:
                    lines.write(json.dumps(frame_record(summary.frames, item.seconds, faces, settings or {})) + "\n")
                    summary.add(faces)
                    report()
                yield item, faces

        def write(job):
            item, faces = job
            writer.write(Frame(draw(item.image, faces, drawing), item.seconds) if faces else item)

        for _ in in_order(write, tracked(), threads=1) if writer else tracked():
            pass
        summary.broken = video.broken
    return summary


def frame_record(number: int, seconds: float, faces: list[TrackedFace], settings: dict) -> dict:
    """A frame as stored in JSON."""
    records = [{"identity": tracked.identity, **face_record(tracked.face)} for tracked in faces]
    return {"frame": number, "seconds": round(seconds, 4), **settings, "faces": records}


def draw(image: np.ndarray, faces: list[TrackedFace], drawing: Drawing) -> np.ndarray:
    """The frame with its faces drawn into it."""
    return drawing(image, [tracked.face for tracked in faces]) if faces else image
