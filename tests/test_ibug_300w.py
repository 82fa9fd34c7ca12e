import time

import numpy as np
import pytest
from PIL import Image

from data_sets import face_cuts, ibug_300w
from data_sets.dlib_xml import read_dlib_xml
from data_sets.face_cuts import FaceCuts, transform_box
from data_sets.ibug_300w import (
    IbugFaces,
    centre_labels,
    drawn_xml,
    held_out_photos,
    load_ibug,
    load_ibug_test,
    photo_of,
    split_photos,
    twins,
)
from data_sets.splits import training_faces
from facial_keypoints.geometry import warp
from facial_keypoints.images import DataError
from facial_keypoints.schemes import IBUG_68
from metrics import shifted
from transfer.submission import write_submission

HEAD = """<?xml version='1.0' encoding='ISO-8859-1'?>
<?xml-stylesheet type='text/xsl' href='image_metadata_stylesheet.xsl'?>
<dataset>
<name>iBUG face point dataset - training images</name>
<comment>This folder contains data downloaded from:
http://ibug.doc.ic.ac.uk/resources/facial-point-annotations/</comment>
<images>
"""


def parts(xs, ys):
    return "".join(
        f"      <part name='{n:02d}' x='{x}' y='{y}'/>\n" for n, (x, y) in enumerate(zip(xs, ys, strict=True))
    )


def picture(file, *boxes):
    body = "".join(
        f"    <box top='{top}' left='{left}' width='{w}' height='{h}'>\n{inside}    </box>\n"
        for top, left, w, h, inside in boxes
    )
    return f"  <image file='{file}' width='120' height='100'>\n{body}  </image>\n"


# Point n of the first face is at (20 + n, 30 + n / 2); the photo is 120 pixels wide, so that its mirror image
# has point n where its partner was, at x = 119 - x.
XS, YS = 20 + np.arange(68), 30 + np.arange(68) / 2
FACE = (28, 19, 70, 36, parts(XS, YS))
MIRRORED = (28, 30, 70, 36, parts(119 - XS[list(IBUG_68.mirror)], YS[list(IBUG_68.mirror)]))
SMALL = (5, -2, 12, 10, parts(XS / 10, 5 + YS / 10))


@pytest.fixture
def folder(tmp_path):
    """A training file with a face, its mirrored copy, and a photo with two faces; and a test file."""
    for name in ("afw/134212_1", "afw/134212_1_mirror", "helen/trainset/77_1", "lfpw/trainset/image_0001"):
        path = tmp_path / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((100, 120), 90, np.uint8)).save(path)  # gray, as a few real ones are
    body = picture("afw/134212_1.jpg", FACE) + picture("afw/134212_1_mirror.jpg", MIRRORED)
    body += picture("helen/trainset/77_1.jpg", FACE, SMALL)
    (tmp_path / "train.xml").write_text(f"{HEAD}{body}</images>\n</dataset>\n")
    (tmp_path / "test.xml").write_text(
        f"{HEAD}{picture('lfpw/trainset/image_0001.jpg', (*FACE[:4], ''))}</images>\n</dataset>\n"
    )
    return tmp_path


def edited(folder, old, new):
    text = (folder / "train.xml").read_text()
    assert old in text
    (folder / "train.xml").write_text(text.replace(old, new, 1))
    return folder / "train.xml"


def line_of(path, text):
    return next(n for n, line in enumerate(path.read_text().splitlines(), start=1) if text in line)


def test_faces_are_read_as_computed_by_hand(folder):
    faces = IbugFaces(folder / "train.xml")
    assert len(faces) == 4
    sample = faces[0]
    assert sample["image"].shape == (100, 120, 3) and sample["image"].dtype == np.uint8
    assert sample["keypoints"].shape == (68, 2) and sample["keypoints"].dtype == np.float32
    np.testing.assert_array_equal(sample["keypoints"][[0, 1, 67]], [[20, 30], [21, 30.5], [87, 63.5]])
    np.testing.assert_array_equal(sample["box"], [19, 28, 70, 36])  # x, y, w, h of left, top, width, height
    np.testing.assert_array_equal(faces[3]["box"], [-2, 5, 12, 10])  # the second face of one photo


def test_mirrored_entries_are_recognised_and_have_mirrored_points(folder):
    faces = IbugFaces(folder / "train.xml")
    np.testing.assert_array_equal(faces.mirrored, [False, True, False, False])
    expected = IBUG_68.swap_sides(faces[0]["keypoints"]) * [-1, 1] + [119, 0]
    np.testing.assert_array_equal(faces[1]["keypoints"], expected)


def test_labels_move_left_by_a_pixel_or_right_in_mirrored_copies_and_y_stays(folder):
    published = IbugFaces(folder / "train.xml")
    faces = centre_labels(published)
    np.testing.assert_allclose(faces[0]["keypoints"][[0, 67]], [[19, 30], [86, 63.5]], atol=1e-4)
    expected = IBUG_68.swap_sides(faces[0]["keypoints"]) * [-1, 1] + [119, 0]
    np.testing.assert_allclose(faces[1]["keypoints"], expected, atol=1e-4)
    np.testing.assert_allclose(shifted(faces.keypoints, faces.label_shift), published.keypoints, atol=1e-4)


def test_a_test_file_has_boxes_and_no_points(folder):
    sample = IbugFaces(folder / "test.xml")[0]
    assert sample["keypoints"].shape == (0, 2)
    np.testing.assert_array_equal(sample["box"], [19, 28, 70, 36])
    assert FaceCuts(IbugFaces(folder / "test.xml"), size=64)[0]["image"].shape == (64, 64, 3)


@pytest.mark.parametrize(
    "file, photo",
    [
        ("afw/134212_1.jpg", "134212"),
        ("afw/134212_2_mirror.jpg", "134212"),
        ("helen/trainset/100040721_12.jpg", "100040721"),
        ("lfpw/trainset/image_0042.jpg", "image_0042"),
        ("lfpw/trainset/image_0042_mirror.jpg", "image_0042"),
        ("lfpw/testset/image_0042.jpg", "testset/image_0042"),
        ("ibug/image_003_1.jpg", "image_003"),
    ],
)
def test_pictures_of_one_photo_belong_together(file, photo):
    assert photo_of(file) == photo


def archive(folder, names):
    """A training file with an entry for each of these names, whose pictures are empty."""
    (folder / "t.xml").write_text(f"{HEAD}{''.join(picture(name, FACE) for name in names)}</images></dataset>")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return IbugFaces(folder / "t.xml")


def test_photos_of_300_w_are_held_out_by_name_whichever_others_there_are(tmp_path):
    held_out = sorted(held_out_photos() - set().union(*twins()))
    assert len(held_out) > 300
    ours = [f"helen/trainset/{name}{copy}.jpg" for name in held_out[:5] for copy in ("_1", "_1_mirror", "_2")]
    others = [f"lfpw/{part}/image_{number}.jpg" for part in ("trainset", "testset") for number in range(2000, 2010)]
    seen, test = split_photos(archive(tmp_path, ours + others + ["lfpw/testset/image_0006.jpg"]))
    assert sorted(set(test.photos)) == held_out[:5] and len(test) == 10 and not test.mirrored.any()
    assert len(seen) == 21 and not set(seen.photos) & held_out_photos()


def test_a_training_photo_is_not_tested_on_under_another_name(tmp_path):
    names = sorted(held_out_photos() | set().union(*twins()))
    seen, test = split_photos(archive(tmp_path, [f"{name}.jpg" for name in names]))
    assert set(seen.photos) == set(names) - held_out_photos()
    assert len(test) == 338 and set(test.photos) < held_out_photos()
    for group in twins():
        assert not (group & set(seen.photos) and group & set(test.photos))


def test_a_split_by_photo_leaks_no_copy_and_no_second_face(tmp_path):
    names = [f"afw/{n}_{face}{copy}.jpg" for n in range(30) for face in (1, 2) for copy in ("", "_mirror")]
    seen, test = split_photos(archive(tmp_path, names), 0.2)
    assert len(test) == 12 and len(seen) == 96 and not test.mirrored.any() and seen.mirrored.sum() == 48
    assert not set(seen.photos) & set(test.photos)


@pytest.mark.parametrize(
    "old, new, where, message",
    [
        ("</box>", "", "</image>", "not XML"),
        ("x='20'", "x='abc'", "x='abc'", "<part> has x='abc', which is no number"),
        ("x='20'", "x='nan'", "x='nan'", "which is no number"),
        (" x='20'", "", "name='00' y=", "<part> has no 'x'"),
        ("      <part name='03' x='23' y='31.5'/>\n", "", "</box>", "ends with 67 parts, expected 68"),
        ("name='03'", "name='02'", "x='23'", "part 2 is not one of 0 to 67, or is there twice"),
        ("name='03'", "name='68'", "x='23'", "part 68 is not one of 0 to 67"),
        ("top='28' ", "", "<box left='19'", "<box> has no 'top'"),
        ("width='70'", "width='0'", "width='0'", "no width"),
        ("<image file='afw/134212_1.jpg'", "<image", "<image width", "<image> has no 'file'"),
    ],
)
def test_a_bad_entry_is_one_sentence_with_file_and_line(folder, old, new, where, message):
    path = edited(folder, old, new)
    with pytest.raises(DataError) as error:
        IbugFaces(path)
    assert str(error.value).startswith(f"{path}: line {line_of(path, where)}: ") and message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_picture_without_a_box_and_a_file_with_some_points_missing_are_errors(folder):
    body = picture("afw/134212_1.jpg", FACE) + picture("lfpw/trainset/image_0001.jpg", (*FACE[:4], ""))
    (folder / "mixed.xml").write_text(f"{HEAD}{body}</images></dataset>")
    with pytest.raises(DataError, match=r"mixed.xml: line 81: some boxes have parts"):
        IbugFaces(folder / "mixed.xml")
    (folder / "bare.xml").write_text(f"{HEAD}{picture('afw/134212_1.jpg')}</images></dataset>")
    with pytest.raises(DataError, match=r"bare.xml: line 9: <image> afw/134212_1.jpg holds no <box>"):
        IbugFaces(folder / "bare.xml")
    (folder / "empty.xml").write_text(f"{HEAD}</images></dataset>")
    with pytest.raises(DataError, match="empty.xml: no <box> in it"):
        read_dlib_xml(folder / "empty.xml")
    with pytest.raises(DataError, match="none.xml: no such file"):
        read_dlib_xml(folder / "none.xml")


def test_a_missing_picture_is_named_with_its_line(folder):
    (folder / "helen/trainset/77_1.jpg").unlink()
    with pytest.raises(DataError, match=r"train.xml: line \d+: .*77_1.jpg is missing"):
        IbugFaces(folder / "train.xml")


def test_cut_outs_have_their_keypoints_in_their_own_pixels(folder):
    faces = IbugFaces(folder / "train.xml")
    cuts = FaceCuts(faces.subset([2, 0]), size=100, margin=0.5)
    sample = cuts[1]
    # By hand: the box (19, 28, 70, 36) has its centre at (54, 46); 140 photo pixels become 100, the middle 49.5.
    expected = (faces[0]["keypoints"] - [54, 46]) / 1.4 + 49.5
    np.testing.assert_allclose(sample["keypoints"], expected, atol=1e-3)
    np.testing.assert_allclose(sample["box"], [24.5, 36.643, 50, 25.714], atol=1e-2)
    assert sample["image"].shape == (100, 100, 3) and (sample["image"] == 90).all()
    np.testing.assert_array_equal(cuts.photo_keypoints[1], faces[0]["keypoints"])
    np.testing.assert_array_equal(cuts.photo_boxes[1], faces[0]["box"])
    assert list(cuts.photos) == ["77", "134212"]


def test_published_mirror_images_and_boxes_are_not_used_in_training(folder):
    faces = IbugFaces(folder / "train.xml")
    cuts = training_faces(faces)
    assert list(cuts.names) == ["afw/134212_1.jpg", "helen/trainset/77_1.jpg", "helen/trainset/77_1.jpg"]
    assert "box" not in cuts[0] and cuts[0]["image"].shape == (256, 256, 3)
    np.testing.assert_array_equal(cuts.photo_keypoints, faces.keypoints[[0, 2, 3]])


def test_decoded_photos_do_not_pile_up_and_the_label_shift_is_kept(folder, monkeypatch):
    waiting, most = [], []

    def decoded(faces, index):
        waiting.append(index)
        most.append(len(waiting))
        return np.zeros((100, 120, 3), np.uint8)

    def slowly(*arguments):
        time.sleep(0.005)
        waiting.pop()
        return warp(*arguments)

    monkeypatch.setattr(face_cuts, "THREADS", 2)
    monkeypatch.setattr(face_cuts, "warp", slowly)
    monkeypatch.setattr(IbugFaces, "_image", decoded)
    faces = centre_labels(IbugFaces(folder / "train.xml"))
    cuts = FaceCuts(faces.subset([0, 1, 2, 3] * 5), size=8)
    assert len(cuts.images) == 20 and max(most) <= 2
    np.testing.assert_array_equal(cuts.label_shift[:4], faces.label_shift)


def test_a_box_moves_with_the_matrix():
    moved = transform_box(np.array([[-2.0, 0, 100], [0, 3, 1]]), np.array([10, 20, 5, 6]))
    np.testing.assert_allclose(moved, [70, 61, 10, 18])


def test_drawn_faces_are_read_back_and_grouped_by_person(drawn):
    faces = IbugFaces(drawn_xml(drawn))
    assert len(faces) == 24 and len(np.unique(faces.photos)) == 8
    x, y, w, h = faces[0]["box"]
    np.testing.assert_allclose(faces[0]["keypoints"].min(axis=0), [x, y], atol=1e-3)
    np.testing.assert_allclose(np.ptp(faces[0]["keypoints"], axis=0), [w, h], atol=1e-3)


def test_without_the_folder_drawn_faces_are_used_and_a_line_says_so(monkeypatch, tmp_path, drawn):
    monkeypatch.setenv("KEYPOINTS_DATA", str(tmp_path))
    monkeypatch.setattr("data_sets.ibug_300w.write_dataset", lambda folder: drawn)
    faces, about = load_ibug()
    assert len(faces) == 24 and about.startswith("24 drawn faces, since there is no ibug_300W") and "\n" not in about
    assert load_ibug_test() is None


def test_with_the_folder_its_faces_are_loaded(monkeypatch, folder, tmp_path):
    monkeypatch.setattr(ibug_300w, "find_folder", lambda name: folder)
    (folder / "train.xml").rename(folder / ibug_300w.TRAINING_XML)
    (folder / "test.xml").rename(folder / ibug_300w.TEST_XML)
    faces, about = load_ibug()
    assert about == "4 faces of 300-W (AFW, HELEN) in 2 photos"
    np.testing.assert_allclose(faces[0]["keypoints"][0], [19, 30], atol=1e-4)  # published as 20, 30
    assert len(load_ibug_test()) == 1


def test_the_submission_counts_x_and_y_of_every_point_from_0(tmp_path):
    keypoints = np.arange(2 * 68 * 2).reshape(2, 68, 2) + 0.25
    write_submission(tmp_path / "new" / "out.csv", keypoints)
    lines = (tmp_path / "new" / "out.csv").read_text().splitlines()
    assert lines[:4] == ["Id,Predicted", "0,0.250", "1,1.250", "2,2.250"]
    assert lines[137] == "136,136.250" and lines[-1] == "271,271.250" and len(lines) == 1 + 2 * 136


@pytest.mark.parametrize("bad", [np.zeros((2, 67, 2)), np.zeros((68, 2)), np.full((1, 68, 2), np.nan)])
def test_a_submission_of_other_shapes_or_nan_is_refused(tmp_path, bad):
    with pytest.raises(DataError, match=r"out.csv: keypoints of shape .* expected finite numbers, \(N, 68, 2\)"):
        write_submission(tmp_path / "out.csv", bad)
    assert not (tmp_path / "out.csv").exists()
