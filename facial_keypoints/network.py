"""What a network expects of its input and means by its output."""

from dataclasses import asdict, dataclass

from facial_keypoints.schemes import IBUG_68, Scheme


@dataclass(frozen=True)
class Expects:
    """What a network expects of its input and means by its output; saved inside its weights file.

    size: the input is size x size pixels; margin: of the face crop (geometry.crop_matrix), None for whole frames;
    mean, std: of the keypoint normalisation (transforms.Normalize); scheme: which points; color: RGB, not gray.
    """

    size: int = 224
    margin: float | None = 0.25
    mean: float = 100.0
    std: float = 50.0
    scheme: Scheme = IBUG_68
    color: bool = False

    def to_dict(self) -> dict:
        """Plain numbers, text and lists, for weights files."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict) -> "Expects":
        """The Expects of such a dict; older weights files name the scheme only."""
        scheme = content.get("scheme", IBUG_68.name)
        return cls(**content | {"scheme": Scheme.from_dict(scheme) if isinstance(scheme, dict) else IBUG_68})
