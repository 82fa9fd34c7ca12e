"""The files that ship with the library: weights and artwork."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent

# In an installed wheel they are inside the package (see pyproject.toml), in the repository beside it.
_FOLDERS = (
    _PACKAGE / "weights",
    _PACKAGE / "artwork",
    _PACKAGE.parent / "saved_models",
    _PACKAGE.parent / "images",
)


def shipped(name: str) -> Path:
    """The path of a shipped file, e.g. "accurate.onnx" or "hat.png"; raises FileNotFoundError for other names."""
    for folder in _FOLDERS:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{name}: does not come with facial_keypoints, neither in {_FOLDERS[0]} nor beside it")
