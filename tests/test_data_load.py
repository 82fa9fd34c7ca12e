import shutil
import subprocess
import sys
import tracemalloc
from functools import partial

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import data_load
from data_load import FacialKeypointsDataset, person_split
from data_sets.drawn_faces import MARKER, write_dataset
from data_sets.find import ROOT, DataFolder, Kind, find_data
from facial_keypoints import images
from facial_keypoints.images import DataError, as_rgb, read_image
from facial_keypoints.schemes import IBUG_68, Scheme
from transforms import Resize


@pytest.fixture
def frames(drawn, tmp_path):
    """A copy of the drawn training frames that a test may damage: csv path, image folder."""
    shutil.copytree(drawn / "training", tmp_path / "training")
    shutil.copy(drawn / "training_frames_keypoints.csv", tmp_path / "frames.csv")
    return tmp_path / "frames.csv", tmp_path / "training"


def edit_row(csv_file, number, change):
    lines = csv_file.read_text().splitlines()
    lines[number] = change(lines[number])
    csv_file.write_text("\n".join(lines) + "\n")


def test_samples_are_rgb_uint8_with_the_points_that_pandas_reads_as_float32(frames):
    csv_file, folder = frames
    dataset, table = FacialKeypointsDataset(csv_file, folder), pd.read_csv(csv_file)
    assert len(dataset) == len(table) == 24
    sample = dataset[5]
    assert sample["image"].dtype == np.uint8 and sample["image"].shape[2] == 3
    assert sample["keypoints"].dtype == np.float32
    np.testing.assert_allclose(sample["keypoints"].ravel(), table.iloc[5, 1:].to_numpy(float), rtol=1e-6)


def test_images_in_memory_are_decoded_once_and_handed_out_as_copies(frames):
    csv_file, folder = frames
    dataset = FacialKeypointsDataset(csv_file, folder, in_memory=True)
    expected = dataset[0]["image"]
    assert dataset.load_into_memory() == sum(dataset[i]["image"].nbytes for i in range(len(dataset)))
    shutil.rmtree(folder)
    dataset[0]["image"][:] = 0
    np.testing.assert_array_equal(dataset[0]["image"], expected)


def test_cached_samples_are_transformed_once_and_need_no_files(frames):
    csv_file, folder = frames
    seen = []

    def halved(sample):
        seen.append(1)
        return Resize(40)(sample)

    part = FacialKeypointsDataset(csv_file, folder).subset([5, 2, 9])
    expected = [Resize(40)(part[i]) for i in range(3)]
    small = part.cached(halved).with_transform(None)
    shutil.rmtree(folder)
    for _ in range(2):
        for sample, same in zip([small[i] for i in range(3)], expected, strict=True):
            np.testing.assert_array_equal(sample["image"], same["image"])
            np.testing.assert_array_equal(sample["keypoints"], same["keypoints"])
    assert len(seen) == 3 and part.boxes is None and part.keypoints[5].max() > 40


def test_a_short_row_is_named(frames):
    edit_row(frames[0], 17, lambda line: line.rsplit(",", 1)[0])
    with pytest.raises(DataError, match=r'frames.csv: row 17 \(".*jpg"\) has 135 numbers, expected 136'):
        FacialKeypointsDataset(*frames)


@pytest.mark.parametrize("word", ["abc", "nan", ""])
def test_a_value_that_is_not_a_number_is_named(frames, word):
    edit_row(frames[0], 3, lambda line: line.rsplit(",", 1)[0] + "," + word)
    with pytest.raises(DataError, match=r"frames.csv: row 3 \("):
        FacialKeypointsDataset(*frames)


def test_an_unlabelled_row_is_named(frames):
    edit_row(frames[0], 3, lambda line: line.split(",")[0] + ",0.0" * 136)
    with pytest.raises(DataError, match=r'frames.csv: row 3 \(".*jpg"\) has all its keypoints in one spot'):
        FacialKeypointsDataset(*frames)


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("name,0,1\n", "no rows below its header"),
        ("name,0,1,2\na.jpg,1,2,3\n", "the header names 3 numbers"),
        ("name\na.jpg\n", "the header names 0 numbers"),
        ("name,0\na.jpg,1\n", "the header names 1 numbers"),
        ("name,0,1\na.jpg,1,2\n\nb.jpg,1,2\n", r'row 2 \(""\) has 0 numbers, expected 2'),
    ],
)
def test_a_csv_without_points_is_one_sentence(tmp_path, text, sentence):
    (tmp_path / "frames.csv").write_text(text)
    with pytest.raises(DataError, match=f"frames.csv: {sentence}"):
        FacialKeypointsDataset(tmp_path / "frames.csv", tmp_path)


def test_a_folder_instead_of_the_csv_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match="not a readable file"):
        FacialKeypointsDataset(tmp_path, tmp_path)


def test_a_single_point_is_not_mistaken_for_an_unlabelled_row(tmp_path):
    (tmp_path / "tips.csv").write_text("name,0,1\na.jpg,1,2\n")
    assert data_load.read_keypoints(tmp_path / "tips.csv")[1].tolist() == [[[1, 2]]]


def test_a_missing_image_is_named(frames):
    dataset = FacialKeypointsDataset(*frames)
    (frames[1] / dataset.names[4]).unlink()
    with pytest.raises(DataError, match=rf'row 5 \("{dataset.names[4]}"\): .* is missing'):
        FacialKeypointsDataset(*frames)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"not a picture at all"])
def test_a_truncated_or_unreadable_image_is_named(frames, damage):
    dataset = FacialKeypointsDataset(*frames)
    path = frames[1] / dataset.names[2]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"frames.csv: row 3 \(.*not a readable picture"):
        dataset[2]


def test_a_missing_csv_says_how_to_get_it(tmp_path):
    with pytest.raises(DataError, match="make data"):
        FacialKeypointsDataset(tmp_path / "none.csv", tmp_path)


def picture_of_every_kind():
    color = np.array([[[200, 100, 50]] * 3] * 2, np.uint8)
    gray = np.array([[0, 128, 255]] * 2, np.uint8)
    yield "rgb", Image.fromarray(color), color
    yield "rgba", Image.fromarray(np.dstack([color, np.full((2, 3), 255, np.uint8)])), color
    yield "gray", Image.fromarray(gray), np.repeat(gray[..., None], 3, 2)
    yield "16 bits", Image.fromarray(gray.astype(np.uint16) * 257), np.repeat(gray[..., None], 3, 2)
    yield "palette", Image.fromarray(color).quantize(4), color


@pytest.mark.parametrize("kind, picture, expected", list(picture_of_every_kind()))
def test_every_kind_of_picture_is_read_as_rgb_whatever_its_ending(kind, picture, expected, tmp_path):
    path = tmp_path / "picture.jpg"
    picture.save(path, format="PNG")
    image = read_image(path)
    assert image.dtype == np.uint8
    np.testing.assert_allclose(image, expected, atol=1)


@pytest.mark.parametrize("kind, picture, expected", list(picture_of_every_kind()))
def test_a_pillow_image_is_read_like_its_file(kind, picture, expected):
    np.testing.assert_allclose(as_rgb(picture), expected, atol=1)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_32_bits_a_channel_are_refused_in_one_sentence(dtype, tmp_path):
    picture = Image.fromarray(np.full((5, 5), 70_000, dtype))
    picture.save(tmp_path / "deep.tif")
    with pytest.raises(DataError, match=r"deep.tif: not a readable picture \(it has 32 bits a channel"):
        read_image(tmp_path / "deep.tif")
    with pytest.raises(DataError, match="32 bits a channel"):
        as_rgb(picture)


def test_16_bit_gray_files_that_pillow_opens_with_32_bits_are_read(tmp_path):
    (tmp_path / "deep.pgm").write_bytes(b"P5 2 1 65535\n" + bytes([255, 255, 128, 0]))
    assert read_image(tmp_path / "deep.pgm")[0, :, 0].tolist() == [255, 128]


def test_large_photos_are_read_without_a_warning_and_huge_ones_refused_in_one_sentence(tmp_path):
    Image.new("1", (10_000, 10_000)).save(tmp_path / "large.png")
    Image.new("1", (20_000, 15_001)).save(tmp_path / "larger.png")
    script = "import sys; from facial_keypoints.images import read_image; print(read_image(sys.argv[1]).shape)"
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "large.png"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout == "(10000, 10000, 3)\n" and done.stderr == ""
    with pytest.raises(DataError, match="larger.png: over 300 megapixels"):
        read_image(tmp_path / "larger.png")


def test_a_large_photo_is_read_in_strips_without_a_second_copy(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "STRIP", 10_000)
    pixels, exif = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8), Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    tracemalloc.start()
    image = read_image(tmp_path / "turned.png")
    most = tracemalloc.get_traced_memory()[1]  # without what Pillow decodes into
    tracemalloc.stop()
    np.testing.assert_array_equal(image, np.rot90(pixels, -1))
    assert most < 1.5 * image.nbytes


def test_a_panorama_of_many_megapixels_is_read(tmp_path):
    shades = np.linspace(0, 255, 40_000).astype(np.uint8)
    Image.fromarray(np.tile(shades, (1300, 1))).save(tmp_path / "panorama.jpg")
    image = read_image(tmp_path / "panorama.jpg")
    assert image.shape == (1300, 40_000, 3)
    assert np.abs(image[[0, 650, 1299]].astype(int) - shades[:, None]).max() <= 3


def test_a_photo_taken_sideways_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    Image.fromarray(np.zeros((20, 40, 3), np.uint8)).save(tmp_path / "side.jpg", exif=exif)
    assert read_image(tmp_path / "side.jpg").shape == (40, 20, 3)


@pytest.mark.parametrize(("fraction", "count"), [(0.3, 3), (0.26, 3), (0.01, 1), (0.0, 1)])
def test_the_given_fraction_of_the_people_is_held_out_and_at_least_one(fraction, count):
    people = np.repeat([f"Person_{n}" for n in range(10)], np.arange(1, 11))
    kept, held_out = person_split(people, fraction)
    assert len(set(people[held_out])) == count and len(set(people[kept])) == 10 - count
    assert len(kept) + len(held_out) == len(people)


def test_of_two_people_one_is_held_out_and_a_single_person_is_refused():
    kept, held_out = person_split(np.array(["Ann", "Bob", "Ann"]))
    assert sorted([len(kept), len(held_out)]) == [1, 2]
    with pytest.raises(DataError, match="3 pictures of one person .Ann."):
        person_split(np.array(["Ann"] * 3))


def test_another_seed_holds_out_other_people():
    people = np.array([f"Person_{n}" for n in range(30)])
    drawn = {tuple(person_split(people, 0.2, seed)[1]) for seed in range(5)}
    assert len(drawn) == 5 and all(len(held_out) == 6 for held_out in drawn)


def test_splits_share_no_person(drawn):
    people = FacialKeypointsDataset(drawn / "training_frames_keypoints.csv", drawn / "training").people
    kept, held_out = person_split(people, 0.25, seed=3)
    assert sorted([*kept, *held_out]) == list(range(len(people)))
    assert not set(people[kept]) & set(people[held_out]) and len(held_out)
    np.testing.assert_array_equal(held_out, person_split(people, 0.25, seed=3)[1])


def test_a_person_is_the_name_without_video_and_frame(frames):
    csv_file, folder = frames
    name = FacialKeypointsDataset(csv_file, folder).names[0]
    edit_row(csv_file, 1, lambda line: line.replace(name, "Ann_B_01.jpg"))
    (folder / name).rename(folder / "Ann_B_01.jpg")
    assert FacialKeypointsDataset(csv_file, folder).people[0] == "Ann_B"


PHOTOS = ["IMG_0001.jpg", "IMG_0002.jpg", "IMG_0003.jpg"]


def own_data(folder, people=None):
    """Three pictures with two points each, in a CSV file with or without a column of people."""
    rows = [[name, 1, 2, 30, 40] for name in PHOTOS]
    if people:
        rows = [[name, who, *numbers] for (name, *numbers), who in zip(rows, people, strict=True)]
    header = ["image", *(["person"] if people else []), "x0", "y0", "x1", "y1"]
    (folder / "own.csv").write_text("\n".join(",".join(map(str, row)) for row in [header, *rows]))
    for name in PHOTOS:
        Image.new("RGB", (50, 50)).save(folder / name)
    return folder / "own.csv", folder


def test_the_person_is_taken_from_a_column_or_the_name_or_is_the_picture_itself(tmp_path):
    csv_file, folder = own_data(tmp_path)
    assert FacialKeypointsDataset(csv_file, folder).people.tolist() == ["IMG"] * 3
    assert FacialKeypointsDataset(csv_file, folder, person=None).people.tolist() == PHOTOS
    csv_file, folder = own_data(tmp_path, ["ann", "bob", "ann"])
    faces = FacialKeypointsDataset(csv_file, folder)
    assert faces.people.tolist() == ["ann", "bob", "ann"] and faces.subset([1, 2]).people.tolist() == ["bob", "ann"]
    assert faces.keypoints[2].tolist() == [[1, 2], [30, 40]]


def test_a_short_row_is_named_where_there_is_a_column_of_people(tmp_path):
    csv_file, folder = own_data(tmp_path, ["ann", "bob", "ann"])
    edit_row(csv_file, 2, lambda line: line.rsplit(",", 1)[0])
    with pytest.raises(DataError, match=r'own.csv: row 2 \("IMG_0002.jpg"\) has 3 numbers, expected 4'):
        FacialKeypointsDataset(csv_file, folder)


def test_data_carries_a_scheme_that_fits_its_points(tmp_path, drawn):
    csv_file, folder = own_data(tmp_path)
    assert FacialKeypointsDataset(csv_file, folder).scheme == Scheme("2 points", 2)
    assert FacialKeypointsDataset(csv_file, folder, scheme=Scheme("eyes", 2)).scheme.name == "eyes"
    assert FacialKeypointsDataset(drawn / "test_frames_keypoints.csv", drawn / "test").scheme is IBUG_68
    with pytest.raises(DataError, match="own.csv: .*2 keypoints, but the scheme ibug-68 has 68"):
        FacialKeypointsDataset(csv_file, folder, scheme=IBUG_68)


def test_a_keypoints_data_folder_without_data_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("KEYPOINTS_DATA", str(tmp_path))
    with pytest.raises(DataError, match="no training_frames_keypoints.csv"):
        find_data()


def test_keypoints_data_names_the_folder(monkeypatch, drawn):
    monkeypatch.setenv("KEYPOINTS_DATA", str(drawn))
    assert find_data() == DataFolder(drawn, Kind.DRAWN, f"drawn faces in {drawn}")


def test_only_the_published_frames_are_called_published(monkeypatch, drawn, tmp_path):
    own = shutil.copytree(drawn, tmp_path / "own", ignore=shutil.ignore_patterns(MARKER))
    monkeypatch.setenv("KEYPOINTS_DATA", str(own))
    assert find_data() == DataFolder(own, Kind.OWN, f"your own frames in {own}")
    table = own / "training_frames_keypoints.csv"
    table.write_text("\n".join(["header", "Luis_Fonsi_21.jpg,1,2", *["a.jpg,1,2"] * 3461]))
    assert find_data().kind is Kind.PUBLISHED


def test_without_any_data_faces_are_drawn_in_the_published_layout(monkeypatch, tmp_path):
    monkeypatch.delenv("KEYPOINTS_DATA", raising=False)
    monkeypatch.setattr("data_sets.find.ROOT", tmp_path)
    monkeypatch.setattr("data_sets.find.write_dataset", partial(write_dataset, num_training=5, num_test=3))
    data = find_data()
    assert data.kind is Kind.DRAWN and "make data" in data.about
    assert len(FacialKeypointsDataset(data.path / "training_frames_keypoints.csv", data.path / "training")) == 5
    assert len(FacialKeypointsDataset(data.path / "test_frames_keypoints.csv", data.path / "test")) == 3
