"""Every network, and saving and loading weights. A network takes (N, C, H, W) in [0, 1] and returns (N, K, 2)."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from data_load import DataError
from landmarks import NUM_KEYPOINTS


@dataclass(frozen=True)
class Expects:
    """What a network expects of its input and means by its output; saved inside its weights file.

    size: the input is size x size pixels, gray; margin: of the face crop (geometry.crop_matrix);
    mean, std: of the keypoint normalisation (data_load.Normalize); scheme: which points.
    """

    size: int = 224
    margin: float = 0.25
    mean: float = 100.0
    std: float = 50.0
    scheme: str = "ibug-68"


class Net(nn.Module):
    """Five convolutions and two fully connected layers on 1x224x224; 9 million parameters, nearly all in fc1.

    After NaimishNet (Agarwal et al., "Facial Key Points Detection using Deep Convolutional Neural Network",
    arXiv:1710.00977, table 1), with the layer sizes of the coursework.
    """

    def __init__(self, num_keypoints: int = NUM_KEYPOINTS):
        super().__init__()
        self.num_keypoints = num_keypoints
        self.conv1 = nn.Conv2d(1, 16, 7)  # 224 -> 218, pooled 109
        self.conv2 = nn.Conv2d(16, 32, 5)  # 105, 52
        self.conv3 = nn.Conv2d(32, 64, 3)  # 50, 25
        self.conv4 = nn.Conv2d(64, 128, 3)  # 23, 11
        self.conv5 = nn.Conv2d(128, 512, 3)  # 9, 4
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(512 * 4 * 4, 1024)
        self.dropout = nn.Dropout(0.6)
        self.fc2 = nn.Linear(1024, num_keypoints * 2)

    def forward(self, x):
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4, self.conv5):
            x = torch.relu(self.pool(conv(x)))  # the same as pool(relu(x)), a quarter of the work
        x = self.dropout(torch.relu(self.fc1(x.flatten(1))))
        return self.fc2(x).view(-1, self.num_keypoints, 2)


class BatchNormNet(nn.Module):
    """Four 5x5 convolutions, each with ReLU, pooling and batch norm, then two fully connected layers; 1x224x224.

    Batch norm: Ioffe and Szegedy, "Batch Normalization", arXiv:1502.03167.
    """

    def __init__(self, num_keypoints: int = NUM_KEYPOINTS):
        super().__init__()
        self.num_keypoints = num_keypoints
        self.conv1, self.norm1 = nn.Conv2d(1, 32, 5), nn.BatchNorm2d(32)  # 224 -> 220, pooled 110
        self.conv2, self.norm2 = nn.Conv2d(32, 64, 5), nn.BatchNorm2d(64)  # 106, 53
        self.conv3, self.norm3 = nn.Conv2d(64, 128, 5), nn.BatchNorm2d(128)  # 49, 24
        self.conv4, self.norm4 = nn.Conv2d(128, 256, 5), nn.BatchNorm2d(256)  # 20, 10
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(256 * 10 * 10, 1000)
        self.dropout = nn.Dropout(0.2)
        self.fc2 = nn.Linear(1000, num_keypoints * 2)

    def forward(self, x):
        for conv, norm in (
            (self.conv1, self.norm1),
            (self.conv2, self.norm2),
            (self.conv3, self.norm3),
            (self.conv4, self.norm4),
        ):
            x = norm(torch.relu(self.pool(conv(x))))
        x = self.dropout(torch.relu(self.fc1(x.flatten(1))))
        return self.fc2(x).view(-1, self.num_keypoints, 2)


NETWORKS = {net.__name__: net for net in (Net, BatchNormNet)}


def initialize(model: nn.Module) -> nn.Module:
    """He's start for ReLU networks (He et al., "Delving deep into rectifiers", arXiv:1502.01852, eq. 10).

    Every layer passes the spread of its input on, where torch's default start lets it die out on the way down:
    then all faces look alike to the last layers. The output layer starts near zero, at the middle of the picture.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    nn.init.normal_(layer.weight, std=0.01)  # the last one
    return model


def count_parameters(model: nn.Module) -> int:
    """How many numbers training changes."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def write_atomically(content: dict, path: str | Path) -> None:
    """torch.save that leaves the old file or the new one, never half of one.

    Raises DataError when the disk is full or the folder cannot be written.
    """
    part = Path(f"{path}.part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, part)
        os.replace(part, path)
    except (OSError, RuntimeError) as error:  # torch tells a full disk by a RuntimeError
        raise DataError(f"{path}: could not be written ({str(error).splitlines()[0]})") from None
    finally:
        part.unlink(missing_ok=True)


def save_model(model: nn.Module, path: str | Path, expects: Expects, dtype=torch.float32) -> None:
    """Save weights (torch.float16 for those that ship), the network's name and what it expects."""
    weights = {k: v.detach().cpu().to(dtype) if v.is_floating_point() else v for k, v in model.state_dict().items()}
    content = {
        "network": type(model).__name__,
        "num_keypoints": model.num_keypoints,
        "expects": asdict(expects),
        "weights": weights,
    }
    write_atomically(content, path)


def load_model(path: str | Path) -> nn.Module:
    """The network of a weights file, in evaluation mode, with `.expects`; needs nothing but the path.

    Raises DataError for a missing file and for one that save_model did not write.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        model = NETWORKS[content["network"]](content["num_keypoints"])
        model.load_state_dict(content["weights"])  # copies into float32 parameters, whatever was saved
        model.expects = Expects(**content["expects"])
    except FileNotFoundError:
        raise DataError(f"{path}: no such weights file; run notebook 2 or `python train.py` to make one") from None
    except Exception as error:  # torch.load raises nearly anything on a damaged file
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(f"{path}: not a weights file of this project ({reason})") from None
    return model.eval()
