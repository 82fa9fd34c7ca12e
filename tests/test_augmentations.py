"""Random changes of colour, blur, noise and hidden patches: their distributions, and that points stay."""

import numpy as np
import pytest
import torch
from torchvision.transforms import Compose

from transforms import FaceCrop, RandomAffine, RandomBlur, RandomColor, RandomNoise, RandomOcclusion


@pytest.fixture
def face():
    """A picture of random pixels with random keypoints."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (120, 150, 3), dtype=np.uint8)
    return {"image": image, "keypoints": rng.uniform(30, 90, (68, 2)).astype(np.float32)}


PHOTOMETRIC = [RandomColor(), RandomBlur(p=1), RandomNoise(p=1), RandomOcclusion(p=1)]


@pytest.mark.parametrize("transform", PHOTOMETRIC, ids=lambda t: type(t).__name__)
def test_photometric_augmentations_change_neither_points_nor_input(transform, face):
    before = face["image"].copy()
    torch.manual_seed(0)
    changed = transform(face)
    assert (changed["image"] != before).any() and changed["image"].dtype == np.uint8
    assert changed["image"].shape == before.shape
    np.testing.assert_array_equal(changed["keypoints"], face["keypoints"])
    np.testing.assert_array_equal(face["image"], before)


@pytest.mark.parametrize("transform", [RandomNoise(p=1, sigma=10), RandomColor(brightness=0.0, contrast=0.2)])
def test_colour_and_noise_round_to_the_nearest_gray_level(transform):
    """Truncation would darken every picture by half a gray level."""
    noise = np.random.default_rng(0).integers(60, 190, (128, 128, 3), dtype=np.uint8)
    sample = {"image": noise, "keypoints": np.zeros((68, 2), np.float32)}
    torch.manual_seed(0)
    darker = [noise.mean() - transform(sample)["image"].mean() for _ in range(8)]
    assert abs(np.mean(darker)) < 0.1


def test_one_seed_repeats_every_augmentation(face):
    everything = Compose([FaceCrop(128, 0.2, RandomAffine()), *PHOTOMETRIC])
    torch.manual_seed(5)
    first = everything(face)
    torch.manual_seed(5)
    second = everything(face)
    np.testing.assert_array_equal(first["image"], second["image"])
    np.testing.assert_array_equal(first["keypoints"], second["keypoints"])
    assert (everything(face)["keypoints"] != first["keypoints"]).any()


GRAY = np.full((40, 60, 3), 128, np.uint8)


def draws(transform, image, times):
    """The results of a random transform of a picture, many times."""
    torch.manual_seed(0)
    return [transform({"image": image, "keypoints": np.zeros((1, 2))})["image"].astype(float) for _ in range(times)]


@pytest.mark.parametrize("kind", [RandomBlur, RandomNoise, RandomOcclusion])
@pytest.mark.parametrize("p", [None, 0.0, 0.5, 1.0])
def test_pictures_are_changed_with_the_probability_p(kind, p):
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    transform, p = (kind(), 0.2) if p is None else (kind(p=p), p)
    changed = np.mean([(drawn != image).any() for drawn in draws(transform, image, 400)])
    assert changed == pytest.approx(p, abs=0.06) and (p or not changed)


def test_brightness_is_added_in_gray_levels_with_the_given_sigma():
    means = [image.mean() - 128 for image in draws(RandomColor(15.0, 0.0, 0.0), GRAY, 500)]
    assert np.std(means) == pytest.approx(15, rel=0.1) and abs(np.mean(means)) < 2
    assert np.ptp(draws(RandomColor(15.0, 0.0, 0.0), GRAY, 1)[0]) == 0


def test_contrast_stretches_about_the_mean_gray_and_saturation_about_each_pixels_gray():
    image = np.random.default_rng(0).integers(100, 156, (40, 60, 3), dtype=np.uint8)
    luma = image @ [0.299, 0.587, 0.114]
    for drawn in draws(RandomColor(0.0, 0.3, 0.0), image, 20):
        factor, offset = np.polyfit(image.ravel(), drawn.ravel(), 1)
        np.testing.assert_allclose(drawn, factor * image + offset, atol=0.6)
        assert factor * luma.mean() + offset == pytest.approx(luma.mean(), abs=0.3)
    for drawn in draws(RandomColor(0.0, 0.0, 0.3), image, 20):
        np.testing.assert_allclose(drawn @ [0.299, 0.587, 0.114], luma, atol=1.1)
    for transform in (RandomColor(0.0, 0.3, 0.0), RandomColor(0.0, 0.0, 0.3)):
        factors = [
            np.log(drawn.std(axis=-1).mean() / image.std(axis=-1).mean()) for drawn in draws(transform, image, 300)
        ]
        assert np.std(factors) == pytest.approx(0.3, rel=0.15) and abs(np.mean(factors)) < 0.05


def test_colours_stay_within_bytes_and_gray_stays_gray():
    for image in (np.zeros_like(GRAY), np.full_like(GRAY, 255)):
        changed = [drawn[0, 0] for drawn in draws(RandomColor(), image, 50)]
        assert all(np.ptp(color) == 0 for color in changed), "no channel wraps around"
        assert np.mean([np.array_equal(color, image[0, 0]) for color in changed]) == pytest.approx(0.5, abs=0.2)


def test_noise_is_normal_of_up_to_sigma_gray_levels():
    drawn = np.array([image - 128 for image in draws(RandomNoise(p=1, sigma=10), GRAY, 200)])
    sigmas = drawn.std(axis=(1, 2, 3))
    assert 9 < sigmas.max() < 10.3 and sigmas.min() < 1 and sigmas.mean() == pytest.approx(5, abs=0.6)
    loudest = drawn[sigmas.argmax()] / sigmas.max()
    assert np.mean(np.abs(loudest) < 1) == pytest.approx(0.68, abs=0.05) and abs(loudest.mean()) < 0.05
    white, black = (draws(RandomNoise(p=1), np.full_like(GRAY, level), 20) for level in (255, 0))
    assert min(image.min() for image in white) > 150 and max(image.max() for image in black) < 105
    assert max(image.max() for image in white) == 255 and min(image.min() for image in black) == 0


@pytest.mark.parametrize("across", [False, True])
def test_blur_spreads_an_edge_by_0_3_to_sigma_pixels(across):
    edge = np.repeat((np.arange(60) >= 30)[None, :, None] * np.uint8(255), 60, 0).repeat(3, 2)
    edge = np.ascontiguousarray(edge.transpose(1, 0, 2)) if across else edge

    def width(image):  # the standard deviation of the edge's slope
        slope = np.diff(image[:, 20, 0] if across else image[20, :, 0]) / 255
        place = np.arange(59) - 29
        return np.sqrt(max(0, (slope * place**2).sum() - (slope * place).sum() ** 2))

    widths = np.array([width(image) for image in draws(RandomBlur(p=1), edge, 200)])
    assert 1.8 < widths.max() < 2.05 and widths.min() < 0.5 and widths.mean() == pytest.approx(1.15, abs=0.15)


def test_an_occlusion_is_a_rectangle_of_one_gray_anywhere_in_the_picture():
    image = np.zeros((40, 60, 3), np.uint8)
    image[:] = (0, 1, 0)  # no gray, so that every hidden pixel shows
    drawn, places, grays, sizes = draws(RandomOcclusion(p=1, area=0.15), image, 400), [], [], []
    for picture in drawn:
        hidden = np.argwhere((picture != image).any(axis=2))
        if len(hidden):  # a rectangle less than a pixel wide hides nothing
            (top, left), (bottom, right) = hidden.min(axis=0), hidden.max(axis=0)
            assert len(hidden) == (bottom - top + 1) * (right - left + 1)
            assert np.ptp(picture[top : bottom + 1, left : right + 1]) == 0
            places.append((top, left, bottom, right))
            grays.append(picture[top, left, 0])
            sizes.append((len(hidden) / 2400, (right - left + 1) / (bottom - top + 1)))
    (areas, aspects), places = np.transpose(sizes), np.array(places)
    assert len(places) > 380 and areas.max() < 0.151 and areas.max() > 0.12 and areas.min() > 0.01
    assert areas.mean() == pytest.approx((0.02 + 0.15) / 2, abs=0.015)
    assert places.min(axis=0)[:2].tolist() == [0, 0] and places.max(axis=0)[2:].tolist() == [39, 59]
    assert (
        np.log(aspects * 40 / 60).std() == pytest.approx(0.3, abs=0.08) and abs(np.log(aspects * 2 / 3).mean()) < 0.1
    )
    assert min(grays) < 10 and max(grays) > 245 and np.mean(grays) == pytest.approx(127, abs=15)


def test_an_occlusion_as_large_as_the_picture_hides_all_of_it():
    image = np.zeros((40, 60, 3), np.uint8)
    image[:] = (0, 1, 0)
    drawn = draws(RandomOcclusion(p=1, area=400), image, 100)
    assert np.mean([(picture != image).any(axis=2).all() for picture in drawn]) > 0.95


@pytest.mark.parametrize("settings", [{"contrast": 0.0}, {"saturation": 0.0}])
def test_contrast_and_saturation_have_a_default_sigma_of_a_fifth(settings):
    image = np.random.default_rng(0).integers(100, 156, (40, 60, 3), dtype=np.uint8)
    spread = [drawn.std(axis=-1).mean() for drawn in draws(RandomColor(brightness=0.0, **settings), image, 300)]
    assert np.std(np.log(spread)) == pytest.approx(0.2, rel=0.15)


def test_the_defaults_of_brightness_noise_and_occlusion():
    means = [image.mean() - 128 for image in draws(RandomColor(contrast=0.0), GRAY, 500)]
    assert np.std(means) == pytest.approx(20, rel=0.1)
    assert 9 < max((image - 128).std() for image in draws(RandomNoise(p=1), GRAY, 200)) < 10.3
    hidden = [(image[..., 0] != 128).mean() for image in draws(RandomOcclusion(p=1), GRAY, 300)]
    assert 0.12 < max(hidden) < 0.151
