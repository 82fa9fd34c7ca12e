"""Landmark schemes: the number of points, which of them swap in a mirror image, contours and face parts."""

import json
import tomllib
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from facial_keypoints.images import DataError


@dataclass(frozen=True)
class Scheme:
    """A landmark scheme: the meaning of the keypoints, numbered from 0. Data sets have one, weights files store it.

    mirror: mirror[i] is the point that point i becomes in a mirror image, None if unknown (then no mirror images are
    used); ruler: the two points whose distance normalises the mean error (NME), None for the size of the box;
    contours: sequences of points along a line, closed ones repeat their first point at the end; parts: groups of
    points for tables. Raises DataError if they are inconsistent.
    """

    name: str
    num_points: int
    mirror: tuple[int, ...] | None = None
    ruler: tuple[int, int] | None = None
    contours: dict[str, tuple[int, ...]] = field(default_factory=dict, hash=False)
    parts: dict[str, tuple[int, ...]] = field(default_factory=dict, hash=False)

    def __post_init__(self):
        if self.num_points < 1:
            raise DataError(f"scheme {self.name}: num_points is {self.num_points}, expected at least 1")
        named = {"ruler": self.ruler or (), **self.contours, **self.parts}
        for what, points in named.items():
            if any(not 0 <= point < self.num_points for point in points):
                raise DataError(f"scheme {self.name}: {what} names a point that is not in 0 to {self.num_points - 1}")
        if self.mirror is not None:
            table = np.array(self.mirror)
            if sorted(table) != list(range(self.num_points)) or (table[table] != np.arange(len(table))).any():
                raise DataError(f"scheme {self.name}: mirror must list every point once and undo itself")

    def check(self, keypoints) -> None:
        """Raise DataError if keypoints (..., K, 2) are not num_points in number."""
        if keypoints.shape[-2] != self.num_points:
            raise DataError(f"{keypoints.shape[-2]} keypoints, but the scheme {self.name} has {self.num_points}")

    def swap_sides(self, points):  # (..., K, C)
        """Points (..., K, C), an array or a tensor, renumbered as in a mirror image; DataError without a table."""
        self.check(points)
        if self.mirror is None:
            raise DataError(f"scheme {self.name}: has no mirror table, so it is unknown which points swap")
        return points[..., list(self.mirror), :]

    def to_json(self) -> str:
        """The scheme as text, for weights files."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Scheme":
        """The inverse of to_json."""
        return cls.from_dict(json.loads(text))

    @classmethod
    def from_dict(cls, content: dict) -> "Scheme":
        """The scheme in a dict of lists, as read from TOML or JSON; raises DataError for unknown or missing fields."""
        fields = set(cls.__dataclass_fields__)
        if unknown := sorted(set(content) - fields):
            raise DataError(f"a scheme has no {', '.join(unknown)}; its fields are {', '.join(sorted(fields))}")
        if missing := [name for name in ("name", "num_points") if name not in content]:
            raise DataError(f"a scheme needs {' and '.join(missing)}")
        groups = {key: {k: tuple(v) for k, v in content.get(key, {}).items()} for key in ("contours", "parts")}
        tables = {key: tuple(content[key]) if content.get(key) is not None else None for key in ("mirror", "ruler")}
        return cls(content["name"], content["num_points"], **tables, **groups)


def read_scheme(path: str | Path) -> Scheme:
    """The scheme of a TOML file with the fields of `Scheme`; raises DataError that names the file.

    name = "eyes and nose"
    num_points = 3
    mirror = [1, 0, 2]          # points 0 and 1 swap in a mirror image; this and all below is optional
    ruler = [0, 1]
    [contours]
    eyes = [0, 1]
    [parts]
    nose = [2]
    """
    try:
        return Scheme.from_dict(tomllib.loads(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"{path}: not a readable file ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, TypeError, DataError) as error:
        raise DataError(f"{path}: not a scheme ({error})") from None


# The points of Multi-PIE / iBUG 300-W (Sagonas et al., "300 Faces in-the-Wild Challenge", ICCV Workshops 2013,
# figure 1). The ruler is the distance between the outer eye corners (section 4 there).
IBUG_68 = Scheme(
    name="ibug-68",
    num_points=68,
    mirror=(
        *[16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0],  # jaw
        *[26, 25, 24, 23, 22, 21, 20, 19, 18, 17],  # brows
        *[27, 28, 29, 30, 35, 34, 33, 32, 31],  # nose
        *[45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40],  # eyes
        *[54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65],  # mouth
    ),
    ruler=(36, 45),
    contours={
        "jaw": tuple(range(0, 17)),
        "right brow": tuple(range(17, 22)),
        "left brow": tuple(range(22, 27)),
        "nose bridge": tuple(range(27, 31)),
        "nostrils": tuple(range(31, 36)),
        "right eye": (*range(36, 42), 36),
        "left eye": (*range(42, 48), 42),
        "outer lips": (*range(48, 60), 48),
        "inner lips": (*range(60, 68), 60),
    },
    parts={
        "jaw": tuple(range(0, 17)),
        "brows": tuple(range(17, 27)),
        "nose": tuple(range(27, 36)),
        "eyes": tuple(range(36, 48)),
        "mouth": tuple(range(48, 68)),
    },
)


def default_scheme(num_points: int) -> Scheme:
    """IBUG_68 for 68 points; for any other number a scheme with nothing but that number."""
    return IBUG_68 if num_points == IBUG_68.num_points else Scheme(f"{num_points} points", num_points)


def check_68(keypoints) -> np.ndarray:
    """Keypoints (..., 68, 2) as an array, for functions that need IBUG_68; DataError for other shapes."""
    keypoints = np.asarray(keypoints)
    if keypoints.shape[-2:] != (IBUG_68.num_points, 2):
        raise DataError(f"keypoints {keypoints.shape}: expected (68, 2), since only {IBUG_68.name} is supported here")
    return keypoints


# The 68 points, then the jaw of the head: its 17 points as they are in 3D, hidden or not. The first 17 follow the
# visible edge of the cheek, as the labels of 300-W do; on a frontal face both are the same.
TWO_JAWS = Scheme(
    name="ibug-68 and the head's jaw",
    num_points=85,
    mirror=(*IBUG_68.mirror, *(68 + point for point in IBUG_68.mirror[:17])),
    ruler=IBUG_68.ruler,
    contours=IBUG_68.contours | {"head's jaw": tuple(range(68, 85))},
    parts=IBUG_68.parts | {"head's jaw": tuple(range(68, 85))},
)


def with_jaw_3d(points: np.ndarray) -> np.ndarray:  # (..., 68, 2)
    """The 68 points with the jaw of the head, from the 85 points (..., 85, 2) of TWO_JAWS."""
    return np.concatenate([points[..., 68:85, :], points[..., 17:68, :]], axis=-2)
