import numpy as np
import pytest

from facial_keypoints.images import DataError
from facial_keypoints.network import Expects
from facial_keypoints.schemes import IBUG_68, Scheme, read_scheme

TOML = """
name = "three"
num_points = 3
mirror = [1, 0, 2]
ruler = [0, 1]
[contours]
mouth = [0, 2, 1, 0]
"""


def test_a_scheme_is_read_from_a_file_and_goes_through_json(tmp_path):
    (tmp_path / "mine.toml").write_text(TOML)
    scheme = read_scheme(tmp_path / "mine.toml")
    assert scheme == Scheme("three", 3, (1, 0, 2), (0, 1), {"mouth": (0, 2, 1, 0)})
    assert Scheme.from_json(scheme.to_json()) == scheme
    assert Scheme.from_json(IBUG_68.to_json()) == IBUG_68


@pytest.mark.parametrize(
    "old, new",
    [
        ("num_points = 3", "num_points = 0"),
        ("mirror = [1, 0, 2]", "mirror = [1, 2, 0]"),  # does not undo itself
        ("mirror = [1, 0, 2]", "mirror = [1, 0]"),
        ("ruler = [0, 1]", "ruler = [0, 3]"),
        ("[0, 2, 1, 0]", "[0, -1]"),
        ("ruler", "rulers"),
        ('name = "three"', ""),
        ("[contours]", "[contours"),
    ],
)
def test_a_scheme_that_does_not_fit_together_is_one_sentence_that_names_the_file(old, new, tmp_path):
    (tmp_path / "mine.toml").write_text(TOML.replace(old, new))
    with pytest.raises(DataError, match="mine.toml: not a scheme") as caught:
        read_scheme(tmp_path / "mine.toml")
    assert "\n" not in str(caught.value)


def test_what_a_network_expects_survives_its_weights_file():
    expects = Expects(128, 0.3, -0.5, 128.0, Scheme("two", 2, mirror=(1, 0)), color=True)
    assert Expects.from_dict(expects.to_dict()) == expects
    assert Expects.from_dict({"size": 96, "scheme": "ibug-68"}) == Expects(size=96)


def test_the_mirror_table_of_the_68_points_undoes_itself_and_swaps_the_eye_corners():
    table = np.array(IBUG_68.mirror)
    assert (table[table] == np.arange(68)).all() and table[36] == 45
