import numpy as np
import pytest
import torch

from facial_keypoints.eyes import eye_openness
from facial_keypoints.images import DataError
from facial_keypoints.mouth import mouth_openness
from facial_keypoints.network import Expects
from facial_keypoints.pose import head_pose
from facial_keypoints.schemes import IBUG_68, Scheme, default_scheme, read_scheme
from facial_keypoints.wearables import face_points

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
def test_an_inconsistent_scheme_is_one_sentence_that_names_the_file(old, new, tmp_path):
    (tmp_path / "mine.toml").write_text(TOML.replace(old, new))
    with pytest.raises(DataError, match="mine.toml: not a scheme") as caught:
        read_scheme(tmp_path / "mine.toml")
    assert "\n" not in str(caught.value)


def test_expects_survives_a_weights_file():
    expects = Expects(128, 0.3, -0.5, 128.0, Scheme("two", 2, mirror=(1, 0)), color=True)
    assert Expects.from_dict(expects.to_dict()) == expects
    assert Expects.from_dict({"size": 96, "scheme": "ibug-68"}) == Expects(size=96)


def test_by_default_68_points_are_those_of_300_w_and_others_are_anonymous():
    assert default_scheme(68) is IBUG_68
    assert default_scheme(98) == Scheme("98 points", 98)


def test_sides_are_swapped_by_the_mirror_table_in_arrays_and_tensors():
    points, scheme = np.arange(6).reshape(1, 3, 2), Scheme("three", 3, mirror=(1, 0, 2))
    assert scheme.swap_sides(points)[0].tolist() == [[2, 3], [0, 1], [4, 5]]
    assert scheme.swap_sides(torch.from_numpy(points))[0].tolist() == [[2, 3], [0, 1], [4, 5]]
    with pytest.raises(DataError, match="scheme 3 points: has no mirror table"):
        default_scheme(3).swap_sides(points)


@pytest.mark.parametrize("use", [eye_openness, mouth_openness, face_points, head_pose])
def test_pose_eyes_and_filters_say_that_they_need_the_68_points(use):
    with pytest.raises(DataError, match=r"keypoints \(58, 2\): expected \(68, 2\), since only ibug-68"):
        use(np.zeros((58, 2)))


def test_the_mirror_table_of_the_68_points_undoes_itself_and_swaps_the_eye_corners():
    table = np.array(IBUG_68.mirror)
    assert (table[table] == np.arange(68)).all() and table[36] == 45
