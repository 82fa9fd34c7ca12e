"""The networks of notebook 6: torchvision's ResNets with a fresh head, and a U-Net that predicts heatmaps.

Both take RGB images (N, 3, size, size) in [0, 1] and return keypoints (N, K, 2) as fractions of the image size, 0 at
the left or upper edge and 1 at the right or lower one. They start from ImageNet weights if these can be downloaded.
"""

import contextlib
import copy
import io
import socket
import warnings
from dataclasses import replace
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse

import torch
from torch import nn
from torchvision import models

from facial_keypoints.network import Expects
from heatmaps import soft_argmax

with warnings.catch_warnings():  # huggingface_hub warns about missing widgets for progress bars
    warnings.filterwarnings("ignore", message="IProgress not found")
    import segmentation_models_pytorch as smp

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchvision's, of RGB in [0, 1]

RESNETS = {
    "resnet18": (models.resnet18, models.ResNet18_Weights.IMAGENET1K_V1),
    "resnet34": (models.resnet34, models.ResNet34_Weights.IMAGENET1K_V1),
}


def imagenet_weights(name: str) -> tuple[dict | None, str]:
    """torchvision's ImageNet weights of a ResNet, None if they cannot be downloaded, and a line that says which.

    torch.hub caches them on disk, so only the first call needs the internet; without it the call gives up after
    5 seconds. torch.hub downloads to a temporary file and checks its hash, so a broken download leaves nothing behind.
    """
    weights, waited = RESNETS[name][1], socket.getdefaulttimeout()
    log = io.StringIO()  # torch.hub prints the address first; the line below says how it went
    try:
        socket.setdefaulttimeout(5)
        with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            return weights.get_state_dict(progress=False, check_hash=True), f"{name}: ImageNet weights"
    except (OSError, RuntimeError, HTTPException) as error:
        reason = why_not(error, urlparse(weights.url).netloc)
        return None, f"{name}: no ImageNet weights, since {reason}"
    finally:
        socket.setdefaulttimeout(waited)


def why_not(error: Exception, host: str) -> str:
    """The reason for an error of torch.hub, in words."""
    if isinstance(error, HTTPError):
        return f"{host} answers {error.code} {error.reason}"
    if isinstance(error, URLError | HTTPException | TimeoutError | ConnectionError):
        return f"{host} cannot be reached"
    if isinstance(error, RuntimeError):  # the hash
        return f"what {host} sent is not the published file"
    return f"they could not be stored ({error})"


def face_crop(size: int) -> Expects:
    """What these networks expect: a colour crop of 1.5 boxes; keypoints as fractions of its size."""
    return Expects(size, margin=0.25, mean=-0.5, std=float(size), color=True)


class ImageNetInput(nn.Module):
    """Normalises RGB in [0, 1] by the mean and standard deviation that ImageNet networks were trained with."""

    def __init__(self):
        super().__init__()
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, images):
        return (images - self.mean) / self.std


class TransferNet(nn.Module):
    """A ResNet whose last layer is replaced by two fresh fully connected ones, 512 -> hidden -> 2 K.

    He et al., "Deep Residual Learning for Image Recognition", arXiv:1512.03385. `weights`: see imagenet_weights.
    """

    def __init__(self, name="resnet18", weights=None, size=224, hidden=256, num_keypoints=68):
        super().__init__()
        self.num_keypoints, self.expects = num_keypoints, face_crop(size)
        self.input = ImageNetInput()
        self.resnet = RESNETS[name][0]()
        if weights:
            self.resnet.load_state_dict(weights)
        features = self.resnet.fc.in_features
        self.resnet.fc = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, 2 * num_keypoints))
        nn.init.constant_(self.resnet.fc[-1].bias, 0.5)  # all points start in the middle of the crop

    def forward(self, images):
        return self.resnet(self.input(images)).view(-1, self.num_keypoints, 2)


class HeatmapUNet(nn.Module):
    """A U-Net with a ResNet encoder that predicts one heatmap per keypoint, a quarter as wide as its input.

    In training mode it returns the maps (N, K, size / 4, size / 4) before the softmax; in evaluation mode the points
    that `decode` (heatmaps.soft_argmax or heatmaps.hard_argmax) reads from them. The decoder's last two steps, up to
    full size, are left out, since they cost the most. Ronneberger et al., arXiv:1505.04597, built with
    segmentation_models_pytorch.
    """

    def __init__(self, name="resnet18", weights=None, size=128, channels=(128, 96, 64), num_keypoints=68):
        super().__init__()
        self.num_keypoints, self.expects = num_keypoints, face_crop(size)
        self.decode = soft_argmax
        self.input = ImageNetInput()
        steps = len(channels)
        self.unet = smp.Unet(name, encoder_weights=None, decoder_channels=(*channels, *[16] * (5 - steps)))
        if weights:
            body = {name: values for name, values in weights.items() if not name.startswith("fc.")}
            self.unet.encoder.load_state_dict(body)
        self.unet.decoder.blocks = self.unet.decoder.blocks[:steps]
        self.unet.segmentation_head = nn.Conv2d(channels[-1], num_keypoints, 1)

    def heatmaps(self, images):  # (N, K, size / 4, size / 4)
        """The maps before the softmax."""
        return self.unet(self.input(images))

    def forward(self, images):
        maps = self.heatmaps(images)
        return maps if self.training else self.decode(maps)


def with_mirror_image(model: nn.Module, shift: int = 0) -> nn.Module:
    """The same network, sharing its weights, for which `predict` and the pipeline average predictions with those for
    the mirror image, shifted by `shift` pixels: see facial_keypoints.network.mirror_averaged."""
    other = copy.copy(model)
    other.expects = replace(model.expects, mirror_shift=shift)
    return other
