"""Batches rendered as a whole, as on a GPU, agree with those made picture by picture."""

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader
from torchvision.transforms import Compose

from data_load import FacialKeypointsDataset
from facial_keypoints.schemes import TWO_JAWS
from recipes import RECIPES, TWO_JAWS_OF_128, face_input
from training.batches import DeviceFaces, blur, can_be_rendered, noise, training_loader
from training.processes import Shares
from transforms import RandomAffine, RandomBlur, RandomColor, RandomOcclusion, RandomTurn, ToTensor

CPU = torch.device("cpu")
REPEATABLE = (RandomColor(), RandomBlur(p=0.5), RandomOcclusion(p=0.5))  # unlike noise, which the device draws


@pytest.fixture(scope="module")
def frames(drawn):
    """Blurred frames in three sizes (interpolations differ at sharp edges), with faces of about 0.5 to 3 crops."""
    data = FacialKeypointsDataset(drawn / "training_frames_keypoints.csv", drawn / "training", in_memory=True)
    data.load_into_memory()
    for index, image in data.images.items():
        scale = (0.6, 1.0, 3.0)[index % 3]
        image = cv2.resize(image, None, fx=scale, fy=scale)
        data.images[index] = cv2.GaussianBlur(image, (0, 0), 2 * max(scale, 1))
        data.keypoints[index] = data.keypoints[index] * scale + (scale - 1) / 2
    return data


def both_ways(data, batch_size=8):
    """Pairs of batches, made picture by picture and as a whole, from the same state of torch's generator."""
    faces, batches = DeviceFaces(data, CPU), []
    for loader in (
        DataLoader(data, batch_size, shuffle=True),
        DataLoader(faces, batch_sampler=Shares(faces, batch_size), collate_fn=faces.render),
    ):
        torch.manual_seed(5)
        batches.append(list(loader))
    return zip(*batches, strict=True)


@pytest.mark.parametrize("color", [False, True])
def test_points_are_equal_and_pixels_nearly_so(frames, color):
    expects = RECIPES["face-crops"].expects
    expects = type(expects)(96, margin=0.25, color=color)
    transform = face_input(expects, RandomAffine(), *REPEATABLE, turn=RandomTurn())
    data = ConcatDataset([frames.with_transform(transform), frames.subset(range(3)).with_transform(transform)])
    for one, whole in both_ways(data):
        torch.testing.assert_close(whole["keypoints"], one["keypoints"], rtol=0, atol=0)
        assert whole["image"].shape == one["image"].shape and whole["image"].dtype == one["image"].dtype
        off = 255 * (whole["image"] - one["image"]).abs().flatten(1)
        assert off.mean() < 0.6 and off.quantile(0.99) < 4
        assert off.mean(dim=1).max() < 1.5, "in every face"


def test_unknown_points_stay_unknown(frames):
    jaws = frames.subset(range(6))
    jaws.keypoints = np.concatenate([frames.keypoints, frames.keypoints[:, :17] + 2], axis=1)
    jaws.keypoints[::2, :17], jaws.scheme = np.nan, TWO_JAWS
    data = jaws.with_transform(face_input(TWO_JAWS_OF_128, RandomAffine(), turn=RandomTurn()))
    for one, whole in both_ways(data):
        torch.testing.assert_close(whole["keypoints"], one["keypoints"], rtol=0, atol=0, equal_nan=True)
        assert whole["keypoints"].isnan().any() and whole["keypoints"].shape[1:] == (85, 2)


def test_blur_equals_opencvs_and_leaves_the_other_images_alone():
    images = 255 * torch.rand(4, 3, 40, 50).round()
    sigmas = torch.tensor([[0.0], [0.4], [0.0], [1.7]])
    blurred = blur(images, sigmas)
    assert torch.equal(blurred[::2], images[::2])
    for number in (1, 3):
        image = np.ascontiguousarray(images[number].permute(1, 2, 0).numpy().astype(np.uint8))
        expected = cv2.GaussianBlur(image, (0, 0), sigmas[number].item())
        assert np.abs(blurred[number].permute(1, 2, 0).numpy() - expected).max() <= 3


def test_noise_has_the_standard_deviation_that_was_drawn():
    torch.manual_seed(0)
    noisy = noise(torch.full((3, 3, 64, 64), 128.0), torch.tensor([[0.0], [3.0], [9.0]]))
    assert noisy.flatten(1).std(dim=1).tolist() == pytest.approx([0, 3, 9], rel=0.03)


def test_only_augmented_face_crops_are_rendered_as_a_whole(frames):
    own = Compose([*face_input(TWO_JAWS_OF_128).transforms, lambda sample: sample])
    whole = {name: can_be_rendered(frames.with_transform(r.training_transform)) for name, r in RECIPES.items()}
    assert whole == {name: not name.startswith("course-") for name in RECIPES}
    for transform in (own, Compose([ToTensor()]), ToTensor(), None):
        assert not can_be_rendered(frames.with_transform(transform))
    apart = [frames.with_transform(RECIPES["fast"].training_transform) for _ in range(2)]
    assert not can_be_rendered(ConcatDataset(apart)) and not can_be_rendered([{"image": 0}])


def test_on_the_cpu_batches_are_made_picture_by_picture(frames):
    data = frames.with_transform(RECIPES["face-crops"].training_transform)
    assert training_loader(data, 4, CPU).dataset is data
