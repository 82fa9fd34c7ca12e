"""The pose set: both layouts give the same faces; errors by yaw agree with numbers computed by hand."""

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from data_sets.drawn_faces import draw_face
from data_sets.pose_set import errors_by_yaw, load_pose_set, measure, spread_correlation
from facial_keypoints.geometry import tight_box
from facial_keypoints.images import DataError

YAWS = (-10.0, 45.0, 75.0)


@pytest.fixture(scope="module")
def faces():
    return [draw_face(seed, size=96) for seed in range(3)]


def write_pictures(folder, faces):
    for number, (image, _) in enumerate(faces):
        cv2.imwrite(str(folder / f"image{number:05d}.png"), image[..., ::-1])
        (folder / f"image{number:05d}.png").rename(folder / f"image{number:05d}.jpg")


def write_xml(folder, faces, yaws=YAWS):
    lines = ["<dataset><images>"]
    for number, ((_, points), yaw) in enumerate(zip(faces, yaws, strict=True)):
        x, y, w, h = tight_box(points)
        turned = "" if yaw is None else f" yaw='{yaw}'"
        lines.append(f"<image file='image{number:05d}.jpg'{turned}>")
        lines.append(f"<box left='{x}' top='{y}' width='{w}' height='{h}'>")
        lines += [f"<part name='{k:02d}' x='{px:.3f}' y='{py:.3f}'/>" for k, (px, py) in enumerate(points)]
        lines.append("</box></image>")
    (folder / "labels.xml").write_text("\n".join([*lines, "</images></dataset>"]))
    write_pictures(folder, faces)


def write_published(folder, faces):
    for number, ((_, points), yaw) in enumerate(zip(faces, YAWS, strict=True)):
        pose = np.array([[0.1, np.radians(yaw), -0.2, 1, 2, 3, 4e-4]])
        content = {"pt3d_68": np.vstack([points.T, np.zeros(68)]), "Pose_Para": pose}
        savemat(folder / f"image{number:05d}.mat", content)
    write_pictures(folder, faces)


def test_both_layouts_give_the_same_faces(tmp_path, faces):
    for name, write in (("xml", write_xml), ("published", write_published)):
        (tmp_path / name).mkdir()
        write(tmp_path / name, faces)
    for name in ("xml", "published"):
        found = load_pose_set(tmp_path / name)
        np.testing.assert_allclose(found.yaws, YAWS, atol=1e-4)
        for sample, (image, points) in zip(found, faces, strict=True):
            np.testing.assert_array_equal(sample["image"], image)
            np.testing.assert_allclose(sample["keypoints"], points, atol=1e-3)
            np.testing.assert_allclose(sample["box"], tight_box(points), atol=2e-3)
    np.testing.assert_array_equal(found.subset(np.array([2, 0])).yaws.round(), [75, -10])


def test_it_is_found_in_the_data_folder_or_none_is_returned(tmp_path, faces, monkeypatch):
    monkeypatch.setenv("KEYPOINTS_DATA", str(tmp_path))
    assert load_pose_set() is None
    (tmp_path / "AFLW2000").mkdir()
    write_published(tmp_path / "AFLW2000", faces)
    assert len(load_pose_set()) == 3


def test_a_damaged_folder_is_one_sentence(tmp_path, faces):
    write_xml(tmp_path, faces, yaws=(1.0, None, 2.0))
    with pytest.raises(DataError, match=r"labels\.xml: <image> image00001\.jpg has no yaw"):
        load_pose_set(tmp_path)
    (tmp_path / "labels.xml").unlink()
    with pytest.raises(DataError, match="neither labels.xml nor .mat"):
        load_pose_set(tmp_path)
    (tmp_path / "image00000.mat").write_bytes(b"not MATLAB at all")
    with pytest.raises(DataError, match=r"image00000\.mat: not a label file"):
        load_pose_set(tmp_path)
    savemat(tmp_path / "image00000.mat", {"pt3d_68": np.zeros((2, 21)), "Pose_Para": np.zeros((1, 7))})
    with pytest.raises(DataError, match=r"shape \(2, 21\)"):
        load_pose_set(tmp_path)


def test_errors_are_relative_to_the_box_and_grouped_by_yaw():
    corners = np.array([(0, 0), (20, 0), (0, 5), (20, 5)], float)  # sqrt(w h) is 10
    true = np.tile(corners[np.arange(68) % 4], (3, 1, 1))
    predicted = true.copy()
    predicted[0, :17, 0] += 1  # jaw off by 10 % on the face at -10 degrees
    predicted[1, 17:, 1] -= 2  # inner points off by 20 % on the one at 45
    errors = errors_by_yaw(predicted, true, np.array([-10.0, 45.0, 59.0]))
    assert errors["jaw 0-30"] == pytest.approx(10) and errors["inner 0-30"] == pytest.approx(0)
    assert errors["inner 30-60"] == pytest.approx(10) and errors["jaw 30-60"] == pytest.approx(0)
    assert errors["all 30-60"] == pytest.approx(10 * 51 / 68)
    assert "all 60-90" not in errors


def test_a_spread_that_grows_with_the_error_correlates():
    rng = np.random.default_rng(0)
    true, off = np.zeros((4, 68, 2)), rng.normal(0, 1, (4, 68, 2))
    size = np.linalg.norm(off, axis=2)
    assert spread_correlation(true + off, true, size**2) == pytest.approx(1)  # ranks, not values
    assert spread_correlation(true + off, true, -size) == pytest.approx(-1)


def test_missed_faces_are_counted_and_left_out(tmp_path, faces):
    write_xml(tmp_path, faces)
    pose_set = load_pose_set(tmp_path)
    boxes = pose_set.boxes.copy()
    boxes[1] = np.nan

    def ask(part, own):
        assert len(part) == len(own)
        true = part.keypoints[part.indices]
        off = np.arange(68.0)[:, None] * [[1, 0]]
        return np.dstack([true + off, np.broadcast_to(off[:, 0], true.shape[:2])]), true

    table = measure(ask, pose_set, pose_set.yaws, {"exact": pose_set.boxes, "yunet": boxes})
    assert list(table["boxes"]) == ["exact", "yunet"] and list(table["missed 30-60"]) == [0, 1]
    np.testing.assert_allclose(table["spread correlation"], 1)
    assert np.isnan(table.loc[1, "all 30-60"]) and table.loc[1, "all 60-90"] == table.loc[0, "all 60-90"]
