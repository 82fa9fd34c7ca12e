"""dlib's XML layout of labelled faces: image / box / part."""

from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

import numpy as np

from facial_keypoints.images import DataError
from facial_keypoints.schemes import IBUG_68

NUM_KEYPOINTS = IBUG_68.num_points


@dataclass
class Entry:
    """One face of an XML file: its picture, the line of its box, the box x, y, w, h and its points by number."""

    file: str
    line: int
    box: tuple
    points: dict = field(default_factory=dict)


class _XmlReader:
    """Collects the faces in expat's callbacks, so that every error can name its line."""

    def __init__(self, path):
        self.path, self.file, self.entry, self.entries = path, None, None, []
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler, self.parser.EndElementHandler = self.start, self.end

    def error(self, what):
        return DataError(f"{self.path}: line {self.parser.CurrentLineNumber}: {what}")

    def start(self, tag, attributes):
        if tag == "image":
            self.file, self.faces_before = self.text(tag, attributes, "file"), len(self.entries)
        elif tag == "box":
            if self.file is None:
                raise self.error("a <box> outside of an <image>")
            self.entry = Entry(self.file, self.parser.CurrentLineNumber, self.box(attributes))
        elif tag == "part":
            if self.entry is None:
                raise self.error("a <part> outside of a <box>")
            number, *point = (self.number(tag, attributes, name) for name in ("name", "x", "y"))
            if number not in range(NUM_KEYPOINTS) or number in self.entry.points:
                raise self.error(f"part {number:g} is not one of 0 to {NUM_KEYPOINTS - 1}, or is there twice")
            self.entry.points[int(number)] = point

    def end(self, tag):
        if tag == "box":
            if len(self.entry.points) not in (0, NUM_KEYPOINTS):
                count = len(self.entry.points)
                raise self.error(f"the box ends with {count} parts, expected {NUM_KEYPOINTS} (or none: a test file)")
            self.entries.append(self.entry)
            self.entry = None
        elif tag == "image":
            if len(self.entries) == self.faces_before:
                raise self.error(f"<image> {self.file} holds no <box>")
            self.file = None

    def box(self, attributes):
        box = tuple(self.number("box", attributes, name) for name in ("left", "top", "width", "height"))
        if min(box[2:]) <= 0:
            raise self.error("the box has no width or no height")
        return box

    def text(self, tag, attributes, name):
        if not attributes.get(name):
            raise self.error(f"<{tag}> has no '{name}'")
        return attributes[name]

    def number(self, tag, attributes, name):
        text = self.text(tag, attributes, name)
        try:
            value = float(text)
        except ValueError:
            value = np.nan
        if not np.isfinite(value):
            raise self.error(f"<{tag}> has {name}='{text}', which is no number")
        return value


def read_dlib_xml(path: str | Path) -> list[Entry]:
    """The faces of a dlib XML file, in order; a picture with several boxes gives several faces.

    Raises DataError that names file and line for invalid XML, a bad box or part, or a wrong number of parts.
    """
    reader = _XmlReader(path)
    try:
        with open(path, "rb") as file:
            reader.parser.ParseFile(file)
    except (FileNotFoundError, IsADirectoryError):
        raise DataError(f"{path}: no such file; `make data` says where to get it") from None
    except expat.ExpatError as error:
        raise DataError(f"{path}: line {error.lineno}: not XML ({expat.ErrorString(error.code)})") from None
    odd = [e for e in reader.entries if bool(e.points) != bool(reader.entries[0].points)]
    if odd:
        raise DataError(f"{path}: line {odd[0].line}: some boxes have parts and others, as this one, are different")
    if not reader.entries:
        raise DataError(f"{path}: no <box> in it")
    return reader.entries


def write_dlib_xml(path: Path, names, keypoints, boxes) -> None:
    """Write faces in dlib's layout: names below path's folder, keypoints (N, K, 2), boxes (N, 4)."""
    lines = ["<?xml version='1.0' encoding='UTF-8'?>", "<dataset>", "<images>"]
    for name, points, (x, y, w, h) in zip(names, keypoints, boxes, strict=True):
        lines += [f"<image file={quoteattr(name)}>", f"<box top='{y}' left='{x}' width='{w}' height='{h}'>"]
        lines += [f"<part name='{number:02d}' x='{x}' y='{y}'/>" for number, (x, y) in enumerate(points)]
        lines += ["</box>", "</image>"]
    path.write_text("\n".join([*lines, "</images>", "</dataset>", ""]), encoding="utf-8")
