import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset
from torchvision.transforms import Compose

from data_sets.find import find_folder
from data_sets.imm_faces import (
    FROM_68,
    IMM_58,
    NOSE_TIP,
    ImmFaces,
    find_imm,
    read_asf,
    relative_to_image,
    to_58,
    write_asf,
    write_drawn,
)
from facial_keypoints.images import DataError
from facial_keypoints.pose import FACE_3D
from facial_keypoints.schemes import IBUG_68
from heatmaps import soft_argmax
from models import FullFaceNet, HeatmapNet, NoseNet, count_parameters
from training.loop import fit, predict
from transforms import RandomAffine, ToTensor

HEAD = """######################################################################
#
#    AAM Shape File  -  written: Wednesday March 07 - 2001 [11:00]
#
######################################################################

#
# number of model points
#
58

#
# model points
#
# format: <path#> <type> <x rel.> <y rel.> <point#> <connects from> <connects to>
#
"""
FIRST_POINT = HEAD.count("\n") + 1
COUNT_LINE = HEAD.split("\n").index("58") + 1


def asf_text(name, user=""):
    """A file in the published format, with point i at (i / 100 + 0.1, 0.9 - i / 80)."""
    points = "".join(
        f"0 \t4 \t{i / 100 + 0.1:.8f} \t{0.9 - i / 80:.8f} \t{i} \t{max(i - 1, 0)} \t{i + 1}{user}\n"
        for i in range(58)
    )
    return f"{HEAD}{points}\n#\n# host image\n#\n{name}.jpg\n"


@pytest.fixture
def folder(tmp_path):
    """Two people: one colour photo, one stored gray; the second file has the three extra numbers of some files."""
    (tmp_path / "01-1m.asf").write_text(asf_text("01-1m"))
    (tmp_path / "07-6f.asf").write_text(asf_text("07-6f", "\t0.00\t0.00\t0.00"))
    Image.new("RGB", (640, 480), (200, 10, 10)).save(tmp_path / "01-1m.jpg")
    Image.new("L", (320, 240), 90).save(tmp_path / "07-6f.jpg")
    return tmp_path


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    root = write_drawn(tmp_path_factory.mktemp("imm") / "drawn", people=4, views=2, size=(120, 160))
    return ImmFaces(root, in_memory=True)


def edit_line(path, number, change):
    lines = path.read_text().split("\n")
    lines[number - 1] = change(lines[number - 1])
    path.write_text("\n".join(lines))


def test_keypoints_are_relative_coordinates_times_width_and_height(folder):
    dataset = ImmFaces(folder)
    assert dataset.names == ["01-1m.jpg", "07-6f.jpg"]
    first, second = dataset[0], dataset[1]
    # by hand: point 0 is (0.1, 0.9), point 40 (0.5, 0.4), the nose tip, point 52, (0.62, 0.25)
    np.testing.assert_allclose(first["keypoints"][[0, 40, NOSE_TIP]], [(64, 432), (320, 192), (396.8, 120)], rtol=1e-6)
    np.testing.assert_allclose(second["keypoints"], first["keypoints"] / 2, rtol=1e-6)
    assert first["keypoints"].shape == (58, 2) and first["keypoints"].dtype == np.float32


def test_gray_photos_are_read_as_rgb_like_the_others(folder):
    colour, gray = ImmFaces(folder)[0]["image"], ImmFaces(folder)[1]["image"]
    assert colour.shape == (480, 640, 3) and gray.shape == (240, 320, 3)
    assert colour.dtype == gray.dtype == np.uint8 and (gray == 90).all()


def test_people_and_views_are_read_from_the_names_and_follow_a_subset(folder):
    dataset = ImmFaces(folder)
    assert dataset.people.tolist() == [1, 7] and dataset.views.tolist() == [1, 6]
    assert dataset.subset(dataset.people > 1).people.tolist() == [7]


def test_resized_photos_stay_in_memory_and_their_points_are_scaled_too(folder):
    dataset = ImmFaces(folder)
    small = dataset.resized((60, 80))
    (folder / "01-1m.jpg").unlink()
    assert [small[i]["image"].shape for i in range(2)] == [(60, 80, 3)] * 2
    # by hand: a pixel's edges keep their place, so (64, 432) becomes (64.5 / 8 - 0.5, 432.5 / 8 - 0.5)
    np.testing.assert_allclose(small[0]["keypoints"][0], (7.5625, 53.5625), rtol=1e-6)
    assert dataset.keypoints[0, 0].tolist() == [64, 432], "the original keeps its own"


def test_relative_coordinates_do_not_depend_on_the_size_and_have_one_inverse(faces):
    large, small = faces, faces.resized((60, 80))
    relative = [relative_to_image(s).mean for s in ((120, 160), (60, 80))]
    assert relative == [-0.5, -0.5]
    there = [(relative_to_image(s), d[3]) for s, d in (((120, 160), large), ((60, 80), small))]
    first, second = (step(sample)["keypoints"] for step, sample in there)
    np.testing.assert_allclose(first, second, atol=1e-6)
    np.testing.assert_allclose(there[1][0].inverse(second), small[3]["keypoints"], atol=1e-4)
    assert (there[1][0].inverse(np.array([[0, 0], [1, 1]])) == [(-0.5, -0.5), (79.5, 59.5)]).all()


@pytest.mark.parametrize(
    ("line", "change", "message"),
    [
        (COUNT_LINE, lambda line: "57", 'line 10: "57", expected the number of points, 58'),
        (FIRST_POINT + 4, lambda line: line.rsplit("\t", 1)[0], "has 6 fields, a point has 7"),
        (FIRST_POINT + 4, lambda line: line.replace("0.14000000", "0.14,0"), "could not convert string to float"),
        (FIRST_POINT + 4, lambda line: line.replace("0.14000000", "nan"), "a coordinate is not finite"),
        (FIRST_POINT + 4, lambda line: line.replace("\t4 \t3", "\t9 \t3"), "point 9, expected point 4"),
    ],
)
def test_a_bad_line_is_named_with_its_file_and_number(folder, line, change, message):
    edit_line(folder / "01-1m.asf", line, change)
    with pytest.raises(DataError, match=rf"01-1m.asf: line {line}: .*{message.removeprefix(f'line {line}: ')}"):
        ImmFaces(folder)


def test_a_cut_off_file_says_how_many_points_it_has(folder):
    path = folder / "01-1m.asf"
    path.write_text("\n".join(path.read_text().split("\n")[: FIRST_POINT + 19]))
    with pytest.raises(DataError, match=rf"line {FIRST_POINT + 19}: the file ends after 20 of 58 points"):
        ImmFaces(folder)
    path.write_text("# nothing\n")
    with pytest.raises(DataError, match="line 1: the file ends before the number of points"):
        read_asf(path)


def test_a_missing_or_broken_photo_a_wrong_name_and_an_empty_folder_are_one_sentence(folder, tmp_path_factory):
    (folder / "01-1m.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match="01-1m.jpg: not a readable picture"):
        ImmFaces(folder)
    (folder / "01-1m.jpg").unlink()
    with pytest.raises(DataError, match="01-1m.asf: 01-1m.jpg is missing beside it"):
        ImmFaces(folder)
    (folder / "01-1m.asf").rename(folder / "ann.asf")
    with pytest.raises(DataError, match="ann.asf: the name should be PP-Vg.asf"):
        ImmFaces(folder)
    with pytest.raises(DataError, match="holds no .asf files"):
        ImmFaces(tmp_path_factory.mktemp("empty"))


def test_every_point_is_in_one_contour_and_one_part_and_the_eye_corners_swap():
    assert IMM_58.mirror[IMM_58.ruler[0]] == IMM_58.ruler[1] and IMM_58.mirror[NOSE_TIP] == NOSE_TIP
    for groups in (IMM_58.contours, IMM_58.parts):
        assert sorted(i for points in groups.values() for i in set(points)) == list(range(58))


def test_the_mirror_table_agrees_with_that_of_the_68_points():
    """Mirroring in the 68-point scheme and converting equals converting and mirroring."""
    face = FACE_3D[:, :2] * [1.3, 0.9] + FACE_3D[:, 1:2]  # sheared, so that left and right differ
    np.testing.assert_allclose(to_58(IBUG_68.swap_sides(face)), IMM_58.swap_sides(to_58(face)), atol=1e-12)
    assert len(FROM_68) == 58


def test_a_mirrored_sample_is_the_mirrored_face(faces):
    mirror = RandomAffine(rotation=0, scale=0, shift=0, mirror=1, scheme=IMM_58)
    sample, width = faces[0], faces[0]["image"].shape[1]
    mirrored = mirror(sample)
    np.testing.assert_array_equal(mirrored["image"], sample["image"][:, ::-1])
    np.testing.assert_allclose(
        mirrored["keypoints"][IMM_58.ruler[0], 0], width - 1 - sample["keypoints"][13, 0], atol=1e-3
    )
    np.testing.assert_allclose(mirror(mirrored)["keypoints"], sample["keypoints"], atol=1e-3)


def test_drawn_faces_have_the_published_layout(faces):
    assert len(faces) == 8 and faces.people.tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    colourful = [np.ptp(faces[i]["image"], axis=2).max() > 20 for i in range(8)]
    assert colourful == [True, True] + [False] * 6, "gray photos among colour ones"
    left, right = (faces.keypoints[:, corner] for corner in IMM_58.ruler)
    assert (left[:, 0] < right[:, 0]).all()
    assert (faces.keypoints[:, 6, 1] > faces.keypoints[:, NOSE_TIP, 1]).all(), "the chin is below the nose"


def test_drawn_faces_are_written_once_and_never_over_other_files(faces, tmp_path):
    before = (faces.root_dir / faces.names[0]).stat().st_mtime_ns
    write_drawn(faces.root_dir, people=4, views=2, size=(120, 160))
    assert (faces.root_dir / faces.names[0]).stat().st_mtime_ns == before
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="not empty and not drawn faces"):
        write_drawn(tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_points_written_to_a_file_are_read_back(tmp_path):
    points = np.random.default_rng(0).random((58, 2))
    write_asf(tmp_path / "01-1m.asf", points)
    np.testing.assert_allclose(read_asf(tmp_path / "01-1m.asf"), points, atol=1e-7)


def test_the_real_folder_comes_first(folder, monkeypatch):
    root = folder / "data"
    (root / "imm_face_db").mkdir(parents=True)
    monkeypatch.setenv("KEYPOINTS_DATA", str(root))
    assert find_imm().path == find_folder("imm_face_db") == root / "imm_face_db"
    assert find_folder("no_such_data") is None


@pytest.mark.parametrize(
    ("net", "size", "points", "parameters"),
    [  # by hand: (k*k*in + 1) * out for each convolution, (in + 1) * out for each fully connected layer
        (NoseNet(), (60, 80), 1, 160 + 4640 + 18496 + 4481 * 128 + 258),
        (NoseNet(layers=4), (60, 80), 1, 160 + 4640 + 18496 + 36928 + 4481 * 128 + 258),
        (NoseNet(kernel_size=5), (60, 80), 1, 416 + 12832 + 51264 + 4481 * 128 + 258),
        (FullFaceNet(3), (180, 240), 58, 160 + 4640 + 18496 + 73856 + 295168 + 8961 * 256 + 257 * 116),
        (FullFaceNet(9), (180, 240), 58, 1312 + 41504 + 165952 + 663680 + 2654464 + 8961 * 256 + 257 * 116),
    ],
)
def test_the_coursework_networks_have_the_right_shapes_and_parameters(net, size, points, parameters):
    assert count_parameters(net) == parameters
    assert net(torch.rand(2, 1, *size)).shape == (2, points, 2)


def test_the_first_layer_gets_gray_between_minus_and_plus_a_half():
    net = NoseNet()
    seen = []
    net.convs[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    net(torch.stack([torch.zeros(1, 60, 80), torch.ones(1, 60, 80)]))
    assert seen[0].amin(dim=(1, 2, 3)).tolist() == [-0.5, 0.5]


def test_soft_argmax_finds_a_peak_at_the_middle_of_its_cell():
    maps = torch.zeros(1, 2, 6, 8)
    maps[0, 0, 1, 2] = maps[0, 1, 5, 0] = 50
    torch.testing.assert_close(soft_argmax(maps)[0], torch.tensor([[2.5 / 8, 1.5 / 6], [0.5 / 8, 5.5 / 6]]))


def test_the_heatmap_net_takes_any_size_and_predicts_inside_the_picture():
    points = HeatmapNet(58)(torch.rand(2, 1, 90, 124))
    assert points.shape == (2, 58, 2) and 0 < points.min() and points.max() < 1


def test_a_heatmap_net_can_overfit_four_faces(faces):
    size = (48, 64)
    to_input = Compose([relative_to_image(size), ToTensor()])
    four = faces.resized(size).subset(range(0, 8, 2)).with_transform(to_input)
    torch.manual_seed(0)
    net = HeatmapNet(58, width=8)
    fit(net, ConcatDataset([four] * 10), four, "l1", lr=1e-2, epochs=8, batch_size=4, one_cycle=True, error=None)
    predicted, true = predict(net, four)
    assert np.abs(predicted - true).mean() < 0.015


def test_one_point_is_trained_without_an_nme_and_prints_every_third_epoch(faces, capsys):
    size = (60, 80)
    nose = faces.only([NOSE_TIP]).resized(size).with_transform(Compose([relative_to_image(size), ToTensor()]))
    torch.manual_seed(0)
    history = fit(NoseNet(), nose, nose, "mse", lr=1e-3, epochs=8, batch_size=4, error=None, print_every=3)
    assert "validation NME %" not in history and len(history) == 8
    assert [int(line.split()[1]) for line in capsys.readouterr().out.splitlines()] == [3, 6, 8]
    assert history["validation loss"].iloc[-1] < history["validation loss"].iloc[0] / 3
