import cv2
import numpy as np
import pytest
import torch

from facial_keypoints.geometry import compose, crop_matrix, invert, mirror_matrix, tight_box, transform_points, warp
from facial_keypoints.images import DataError
from facial_keypoints.schemes import IBUG_68, Scheme
from transforms import (
    CenterCrop,
    FaceCrop,
    Normalize,
    NormalizeColor,
    RandomAffine,
    RandomCrop,
    RandomTurn,
    Rescale,
    Resize,
    ToTensor,
    warp_sample,
)

SIZE = (260, 300)  # h, w


@pytest.fixture
def blobs():
    """68 blurred dots between the pixels, with their centres as keypoints."""
    generator = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.arange(9) * 26 + 46, np.arange(8) * 26 + 39), -1).reshape(-1, 2)[:68]
    keypoints = (grid + generator.uniform(-0.5, 0.5, (68, 2))).astype(np.float32)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    image = sum(np.exp(-((x - kx) ** 2 + (y - ky) ** 2) / (2 * 2.5**2)) for kx, ky in keypoints)
    image = np.repeat((np.clip(image, 0, 1) * 255).round().astype(np.uint8)[..., None], 3, axis=2)
    return {"image": image, "keypoints": keypoints}


def centroid(image, point, radius):
    """The centre of brightness of the blob near a point."""
    left, top = (np.rint(point) - radius).astype(int)
    window = image[top : top + 2 * radius + 1, left : left + 2 * radius + 1, 0].astype(float)
    window = np.clip(window - 2, 0, None)  # rounding leaves a floor of 1 or 2 levels between blobs
    y, x = np.mgrid[top : top + window.shape[0], left : left + window.shape[1]]
    return np.array([(window * x).sum(), (window * y).sum()]) / window.sum()


def test_image_and_keypoints_of_a_sample_are_moved_by_one_matrix(blobs):
    width = SIZE[1]
    moved = warp_sample(blobs, mirror_matrix(width), SIZE[::-1])
    np.testing.assert_array_equal(moved["image"], blobs["image"][:, ::-1])
    np.testing.assert_allclose(moved["keypoints"], (blobs["keypoints"] - [width - 1, 0]) * [-1, 1], atol=1e-4)


def worst_disagreement(sample):
    """The largest distance between a keypoint and its blob, over the points well inside the picture."""
    image, keypoints = sample["image"], sample["keypoints"]
    height, width = image.shape[:2]
    spacing = np.sort(np.linalg.norm(keypoints[:, None] - keypoints, axis=-1), axis=1)[:, 1].min()
    radius = int(spacing / 2.4)
    inside = (keypoints > radius + 1).all(1) & (keypoints < [width - radius - 2, height - radius - 2]).all(1)
    assert inside.sum() > 20
    return max(np.linalg.norm(centroid(image, p, radius) - p) for p in keypoints[inside])


GEOMETRIC = {
    "rescale up": Rescale(400),
    "rescale down": Rescale(180),
    "resize up": Resize((401, 377)),
    "resize down": Resize((173, 205)),
    "random crop": RandomCrop((200, 230)),
    "center crop": CenterCrop(201),
    "rotation": RandomAffine(rotation=20, scale=0, shift=0, mirror=0),
    "scale": RandomAffine(rotation=0, scale=0.2, shift=0, mirror=0),
    "shift": RandomAffine(rotation=0, scale=0, shift=0.05, mirror=0),
    "mirror": RandomAffine(rotation=0, scale=0, shift=0, mirror=1),
    "all at once": RandomAffine(rotation=10, scale=0.1, shift=0.05, mirror=0.5),
    "face crop": FaceCrop(224, 0.25),
    "turned face crop": FaceCrop(224, 0.2, turn=RandomTurn()),
    "augmented face crop": FaceCrop(224, 0.2, RandomAffine(rotation=10, scale=0.1, shift=0.03)),
}


@pytest.mark.parametrize("name", GEOMETRIC)
def test_image_and_keypoints_move_together(name, blobs):
    for seed in range(3):
        torch.manual_seed(seed)
        assert worst_disagreement(GEOMETRIC[name](blobs)) < 0.05


def test_strong_shrinking_does_not_alias_or_shift():
    image = np.zeros((1200, 1200, 3), np.uint8)
    image[:, ::2] = 255  # stripes one pixel wide, whose mean is gray
    small = warp(image, crop_matrix((200, 200, 800, 800), 100, 0.0), (100, 100))
    assert np.abs(small[10:90, 10:90].astype(float) - 127.5).max() < 20  # without averaging they would be off by 127
    cv2.circle(image := np.zeros_like(image), (700, 500), 40, (255, 255, 255), cv2.FILLED)
    matrix = crop_matrix((203, 207, 811, 801), 100, 0.1)
    small = warp(image, matrix, (100, 100))
    expected = transform_points(matrix, np.array([[700.0, 500.0]]))[0]
    assert np.linalg.norm(centroid(small, expected, 9) - expected) < 0.05


@pytest.mark.parametrize("side", [60, 100, 400])
def test_a_panorama_too_long_for_opencv_is_warped_like_its_part(side):
    part = np.random.default_rng(0).integers(0, 256, (300, 600, 3), dtype=np.uint8)
    panorama = np.zeros((300, 40_000, 3), np.uint8)
    panorama[:, 35_000:35_600] = part
    whole = warp(panorama, crop_matrix((35_250, 100, 100, 100), side, 0.2), (side, side))
    expected = warp(part, crop_matrix((250, 100, 100, 100), side, 0.2), (side, side))
    assert np.abs(whole.astype(int) - expected).max() <= 1


def test_crop_matrix_by_hand():
    matrix = crop_matrix((10, 20, 40, 20), size=120, margin=0.25)  # centre (30, 30), side 60, scale 2
    np.testing.assert_allclose(transform_points(matrix, np.array([[30.0, 30.0]])), [[59.5, 59.5]])
    np.testing.assert_allclose(transform_points(matrix, np.array([[10.0, 20.0]])), [[19.5, 39.5]])
    identity = compose(invert(matrix), matrix)
    np.testing.assert_allclose(identity, [[1, 0, 0], [0, 1, 0]], atol=1e-9)


def test_mirroring_twice_is_identity(blobs):
    mirror = RandomAffine(rotation=0, scale=0, shift=0, mirror=1)
    once, twice = mirror(blobs), mirror(mirror(blobs))
    np.testing.assert_array_equal(twice["image"], blobs["image"])
    np.testing.assert_allclose(twice["keypoints"], blobs["keypoints"], atol=1e-4)
    np.testing.assert_array_equal(once["image"], blobs["image"][:, ::-1])
    renamed = IBUG_68.swap_sides(once["keypoints"])
    np.testing.assert_allclose(renamed[:, 0], SIZE[1] - 1 - blobs["keypoints"][:, 0], atol=1e-4)


def test_points_without_a_mirror_table_are_never_mirrored_and_those_of_another_scheme_refused(blobs):
    five = {**blobs, "keypoints": blobs["keypoints"][:5]}
    always = RandomAffine(rotation=0, scale=0, shift=0, mirror=1, scheme=Scheme("five", 5))
    np.testing.assert_array_equal(always(five)["image"], blobs["image"])
    with pytest.raises(DataError, match="5 keypoints, but the scheme ibug-68 has 68"):
        FaceCrop(64, 0.2, RandomAffine())(five)
    assert FaceCrop(64, 0.2, RandomAffine(mirror=0))(five)["keypoints"].shape == (5, 2)


def test_random_crop_reaches_every_offset():
    ramp = np.repeat(np.arange(6, dtype=np.uint8).reshape(1, 6, 1), 6, 0).repeat(3, 2)
    torch.manual_seed(0)
    crops = [RandomCrop(4)({"image": ramp, "keypoints": np.zeros((68, 2))}) for _ in range(200)]
    assert {int(crop["image"][0, 0, 0]) for crop in crops} == {0, 1, 2}


@pytest.mark.parametrize(("size", "top", "left"), [((4, 6), 3, 2), ((10, 11), 0, 0), ((9, 10), 0, 0), ((1, 1), 4, 5)])
def test_center_crop_leaves_as_much_on_both_sides_and_an_odd_pixel_below_and_right(size, top, left):
    image = np.random.default_rng(0).integers(0, 256, (10, 11, 3), dtype=np.uint8)
    cropped = CenterCrop(size)({"image": image, "keypoints": np.array([[7.0, 5.0]], np.float32)})
    np.testing.assert_array_equal(cropped["image"], image[top : top + size[0], left : left + size[1]])
    assert cropped["keypoints"].tolist() == [[7 - left, 5 - top]]


def test_random_crop_of_the_same_size_is_the_picture(blobs):
    same = RandomCrop(SIZE)(blobs)
    np.testing.assert_array_equal(same["image"], blobs["image"])


@pytest.mark.parametrize("transform", [Rescale(200), Resize(100), RandomCrop(100), CenterCrop(100)])
def test_the_box_of_the_old_picture_is_dropped(transform, blobs):
    moved = transform(blobs | {"box": tight_box(blobs["keypoints"]), "name": "Ann"})
    assert "box" not in moved and moved["name"] == "Ann"


@pytest.mark.parametrize("crop", [RandomCrop(280), CenterCrop((400, 100)), CenterCrop((100, 400))])
def test_a_picture_smaller_than_the_crop_is_a_clear_error(crop, blobs):
    with pytest.raises(ValueError, match=r"Crop of .* the picture is only 260x300"):
        crop(blobs)


def test_rescale_names_the_class_for_exact_sizes():
    with pytest.raises(ValueError, match="Resize takes"):
        Rescale((100, 100))


def test_normalize_and_its_inverse_round_trip(blobs):
    normalize = Normalize()
    sample = normalize(blobs)
    assert sample["image"].dtype == np.float32 and sample["image"].shape == SIZE
    assert 0 <= sample["image"].min() and sample["image"].max() <= 1
    np.testing.assert_allclose(sample["keypoints"], (blobs["keypoints"] - 100) / 50, rtol=1e-6)
    np.testing.assert_allclose(normalize.inverse(sample["keypoints"]), blobs["keypoints"], atol=1e-4)
    tensor = torch.from_numpy(sample["keypoints"])
    np.testing.assert_allclose(normalize.inverse(tensor).numpy(), blobs["keypoints"], atol=1e-4)


def test_gray_uses_the_luma_weights():
    red = {"image": np.full((2, 2, 3), (255, 0, 0), np.uint8), "keypoints": np.zeros((68, 2), np.float32)}
    assert abs(Normalize()(red)["image"][0, 0] - 0.299) < 0.002, "RGB read as BGR would give 0.114"


def test_to_tensor_is_float32_and_channels_first(blobs):
    tensor = ToTensor()(blobs)["image"]
    assert tensor.shape == (3, *SIZE) and tensor.dtype == torch.float32 and tensor.max() <= 1
    assert ToTensor()(Normalize()(blobs))["image"].shape == (1, *SIZE)


def test_face_crop_uses_the_box_of_the_sample(blobs):
    x, y, w, h = tight_box(blobs["keypoints"])
    moved = FaceCrop(100, 0.25)(blobs | {"box": np.array([x + 10, y, w, h])})
    plain = FaceCrop(100, 0.25)(blobs)
    assert (moved["keypoints"][:, 0] < plain["keypoints"][:, 0]).all()
    assert "box" not in moved


def test_to_tensor_divides_bytes_by_255_and_leaves_floats_as_they_are():
    levels = np.array([[[0], [51], [255]]], np.uint8)
    for image in (levels, levels.astype(np.float32) / 255):
        tensor = ToTensor()({"image": image, "keypoints": np.zeros((1, 2))})["image"]
        assert tensor.flatten().tolist() == pytest.approx([0, 0.2, 1])


def test_draws_of_random_affine_are_normal_and_clipped_at_two_sigma():
    torch.manual_seed(0)
    affine = RandomAffine(rotation=10, scale=0.1, shift=0.05, mirror=0)
    matrices = np.stack([affine.draw(101, 201)[0] for _ in range(2000)])
    angles = np.degrees(np.arctan2(matrices[:, 0, 1], matrices[:, 0, 0]))
    scales = np.log(np.hypot(matrices[:, 0, 0], matrices[:, 0, 1]))
    shifts = matrices @ [50, 100, 1] - [50, 100]  # how far the picture's middle moves
    for draws, sigma in ((angles, 10), (scales, 0.1), (shifts[:, 0], 0.05 * 101), (shifts[:, 1], 0.05 * 201)):
        assert np.abs(draws).max() == pytest.approx(2 * sigma, rel=1e-6)
        assert np.mean(np.abs(draws) > 1.9999 * sigma) == pytest.approx(
            0.0455, abs=0.015
        )  # a normal distribution's tails
        assert np.mean(np.abs(draws) < sigma) == pytest.approx(0.6827, abs=0.03) and abs(draws.mean()) < 0.1 * sigma


def test_a_turn_is_either_uniform_up_to_45_degrees_or_small():
    torch.manual_seed(0)
    angles = np.array([RandomTurn().draw() for _ in range(2000)])
    steep = np.array([RandomTurn(mild=0.0).draw() for _ in range(2000)])
    mild = np.array([RandomTurn(often=0.0).draw() for _ in range(2000)])
    assert np.mean(steep != 0) == pytest.approx(0.7, abs=0.04) and mild.std() == pytest.approx(5, rel=0.06)
    steep = steep[steep != 0]
    assert np.abs(steep).max() == pytest.approx(45, abs=0.5) and np.abs(steep).max() <= 45
    assert np.histogram(steep, 3, (-45, 45))[0] / len(steep) == pytest.approx([1 / 3] * 3, abs=0.05)
    assert np.mean(np.abs(angles) > 15) == pytest.approx(0.7 * 2 / 3, abs=0.04)


def test_a_turned_crop_is_centred_on_the_box_of_the_turned_points(blobs):
    torch.manual_seed(0)
    for _ in range(5):
        x, y, w, h = tight_box(FaceCrop(140, 0.2, turn=RandomTurn())(blobs)["keypoints"])
        assert (x + w / 2, y + h / 2, max(w, h)) == pytest.approx((69.5, 69.5, 100), abs=1e-3)


def test_a_crop_is_rotated_about_its_centre(blobs):
    plain = FaceCrop(100, 0.25)(blobs)["keypoints"] - 49.5
    torch.manual_seed(0)
    turned = FaceCrop(100, 0.25, RandomAffine(20, 0, 0, 0))(blobs)["keypoints"] - 49.5
    assert np.abs(turned - plain).max() > 3
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), np.linalg.norm(plain, axis=1), atol=1e-3)
    default = FaceCrop()(blobs)
    assert default["image"].shape == (224, 224, 3)
    np.testing.assert_array_equal(default["keypoints"], FaceCrop(224, 0.25)(blobs)["keypoints"])


def test_points_of_another_scheme_are_refused_where_they_would_be_mirrored():
    five = {"image": np.zeros((40, 60, 3), np.uint8), "keypoints": np.zeros((5, 2), np.float32)}
    for transform in (RandomAffine(mirror=0.5), FaceCrop(32, 0.2, RandomAffine(mirror=0.01))):
        with pytest.raises(DataError, match="5"):
            transform(five | {"box": np.array([5, 5, 20, 20])})
    assert RandomAffine(mirror=0)(five)["keypoints"].shape == (5, 2)


def test_half_of_the_pictures_are_mirrored_by_default():
    torch.manual_seed(0)
    for p, transform in ((0.5, RandomAffine()), (0.2, RandomAffine(mirror=0.2)), (0.0, RandomAffine(mirror=0))):
        drawn = [transform.draw(50, 50) for _ in range(400)]
        assert np.mean([mirrored for _, mirrored in drawn]) == pytest.approx(p, abs=0.07)
        assert all((np.linalg.det(matrix[:, :2]) < 0) == mirrored for matrix, mirrored in drawn)


def test_random_crop_draws_rows_and_columns_independently():
    y, x = np.mgrid[:7, :9]
    torch.manual_seed(0)
    sample = {"image": np.dstack([x, y, x]).astype(np.uint8), "keypoints": np.zeros((1, 2))}
    corners = {tuple(RandomCrop((5, 6))(sample)["image"][0, 0, :2]) for _ in range(400)}
    assert corners == {(left, top) for left in range(4) for top in range(3)}


@pytest.mark.parametrize(
    ("shape", "size", "expected"), [((40, 60), 20, (20, 30)), ((61, 40), 20, (30, 20)), ((9, 9), 20, (20, 20))]
)
def test_rescale_sets_the_shorter_side_and_keeps_the_aspect(shape, size, expected):
    corners = np.array([[-0.5, -0.5], [shape[1] - 0.5, shape[0] - 0.5]], np.float32)
    scaled = Rescale(size)({"image": np.zeros((*shape, 3), np.uint8), "keypoints": corners})
    assert scaled["image"].shape == (*expected, 3)
    np.testing.assert_allclose(scaled["keypoints"], [[-0.5, -0.5], [expected[1] - 0.5, expected[0] - 0.5]], atol=1e-4)


def test_normalize_color_keeps_the_picture_and_normalises_the_points(blobs):
    sample = NormalizeColor(90, 40)(blobs)
    assert sample["image"] is blobs["image"]
    np.testing.assert_allclose(sample["keypoints"], (blobs["keypoints"] - 90) / 40, rtol=1e-6)
    np.testing.assert_allclose(NormalizeColor(90, 40).inverse(sample["keypoints"]), blobs["keypoints"], atol=1e-4)
