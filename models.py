"""Every network, and saving and loading weights. A network takes (N, C, H, W) in [0, 1] and returns (N, K, 2)."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from data_load import DataError
from landmarks import MIRROR, NUM_KEYPOINTS


@dataclass(frozen=True)
class Expects:
    """What a network expects of its input and means by its output; saved inside its weights file.

    size: the input is size x size pixels; margin: of the face crop (geometry.crop_matrix), None for whole frames;
    mean, std: of the keypoint normalisation (data_load.Normalize); scheme: which points; color: RGB, not gray.
    """

    size: int = 224
    margin: float | None = 0.25
    mean: float = 100.0
    std: float = 50.0
    scheme: str = "ibug-68"
    color: bool = False


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


class PlainNet(nn.Module):
    """Padded convolutions with ReLU, the first `pools` followed by 2x2 pooling, then two fully connected layers.

    size: (h, w) of the input, whose [0, 1] becomes [-0.5, 0.5] first; channels: of the convolutions;
    hidden: between the fully connected layers.
    """

    def __init__(self, size, channels, kernel_size: int, pools: int, hidden: int, num_keypoints: int):
        super().__init__()
        self.num_keypoints, self.pools = num_keypoints, pools
        pairs = zip((1, *channels), channels, strict=False)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, kernel_size, padding=kernel_size // 2) for a, b in pairs)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(channels[-1] * (size[0] >> pools) * (size[1] >> pools), hidden)
        self.fc2 = nn.Linear(hidden, num_keypoints * 2)

    def forward(self, x):
        x = x - 0.5
        for number, conv in enumerate(self.convs):
            x = conv(x)
            x = torch.relu(self.pool(x) if number < self.pools else x)  # pooling first is the same and cheaper
        x = torch.relu(self.fc1(x.flatten(1)))
        return self.fc2(x).view(-1, self.num_keypoints, 2)


class NoseNet(PlainNet):
    """One point on 1x60x80: 3 convolutions with pooling, 16, 32, 64 channels; a fourth, 64, comes without pooling."""

    def __init__(self, layers: int = 3, kernel_size: int = 3):
        super().__init__((60, 80), (16, 32, 64, 64)[:layers], kernel_size, pools=3, hidden=128, num_keypoints=1)


class FullFaceNet(PlainNet):
    """58 points on 1x180x240: 5 convolutions with pooling, 16 to 256 channels."""

    def __init__(self, kernel_size: int = 3):
        super().__init__((180, 240), (16, 32, 64, 128, 256), kernel_size, pools=5, hidden=256, num_keypoints=58)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm beside a shortcut (He et al., arXiv:1512.03385, figure 2)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x):
        return torch.relu(self.body(x) + self.shortcut(x))


def soft_argmax(maps: torch.Tensor) -> torch.Tensor:  # (N, K, 2)
    """The mean place of each heatmap (N, K, H, W) after a softmax, as a part of its width and height.

    0 is the left or upper edge, 1 the right or lower one (Sun et al., arXiv:1711.08229, equation 2).
    """
    height, width = maps.shape[2:]
    weights = maps.float().flatten(2).softmax(dim=2).view(maps.shape)
    x, y = ((torch.arange(n, device=maps.device) + 0.5) / n for n in (width, height))
    sums = (weights.sum(dim=2) * x).sum(dim=2), (weights.sum(dim=3) * y).sum(dim=2)  # @ would be rounded to bfloat16
    return torch.stack(sums, dim=2)


def map_covariance(maps: torch.Tensor, points: torch.Tensor) -> torch.Tensor:  # (N, K, 3)
    """How wide each heatmap (N, K, H, W) is about its mean place (N, K, 2), after a softmax, and in which direction.

    The variances along x and y and their covariance, in parts of the picture's size: how far off the map expects
    its answer. None is narrower than a thousandth of the picture.
    """
    height, width = maps.shape[2:]
    weights = maps.float().flatten(2).softmax(dim=2).view(maps.shape)
    dx, dy = (
        (torch.arange(n, device=maps.device) + 0.5) / n - points[..., axis, None]
        for axis, n in enumerate((width, height))
    )
    across = (weights.sum(dim=2) * dx**2).sum(dim=2) + 1e-6
    down = (weights.sum(dim=3) * dy**2).sum(dim=2) + 1e-6
    both = ((weights * dx[:, :, None]).sum(dim=3) * dy).sum(dim=2)
    return torch.stack([across, down, both], dim=2)


class HeatmapNet(nn.Module):
    """A small residual net that goes down to a sixteenth and back up to a quarter, one heatmap per point.

    Keypoints are parts of the picture's width and height, see `soft_argmax`; any input size. Two shortcuts bring
    the fine maps back in (Newell et al., arXiv:1603.06937, section 3.1).
    """

    def __init__(self, num_keypoints: int = NUM_KEYPOINTS, width: int = 32):
        super().__init__()
        self.num_keypoints = num_keypoints
        a, b, c, d = width, 2 * width, 3 * width, 4 * width
        self.stem = nn.Sequential(nn.Conv2d(1, a, 5, 2, 2, bias=False), nn.BatchNorm2d(a), nn.ReLU())
        self.down = nn.ModuleList([ResidualBlock(a, b, 2), ResidualBlock(b, c, 2), ResidualBlock(c, d, 2)])
        self.middle = ResidualBlock(d, d)
        self.up = nn.ModuleList([ResidualBlock(d + c, c), ResidualBlock(c + b, b)])
        self.head = nn.Conv2d(b, num_keypoints, 1)

    def heatmaps(self, x):
        """(N, K, H / 4, W / 4), before the softmax."""
        quarter = self.down[0](self.stem(x))
        eighth = self.down[1](quarter)
        x = self.middle(self.down[2](eighth))
        for block, finer in zip(self.up, (eighth, quarter), strict=True):
            x = nn.functional.interpolate(x, size=finer.shape[2:], mode="bilinear", align_corners=False)
            x = block(torch.cat([x, finer], dim=1))
        return self.head(x)

    def forward(self, x):
        return soft_argmax(self.heatmaps(x))


def mirror_averaged(ask, images: torch.Tensor, shift: int = 0) -> torch.Tensor:  # (N, 68, 2 or more)
    """The mean of what `ask` says of pictures (N, C, H, W) and of their mirror images, put back. Twice the time.

    Columns of its answer: x, y in parts of the picture, and others that have no side. The mirror image is moved right
    and down by `shift` pixels first; what leaves it on one side comes in on the other.
    """
    height, width = images.shape[2:]
    other = ask(images.flip(3).roll((shift, shift), (2, 3)))[:, MIRROR]
    x, y = 1 - other[..., :1] + shift / width, other[..., 1:2] - shift / height
    return (ask(images) + torch.cat([x, y, other[..., 2:]], dim=2)) / 2


class SureNet(HeatmapNet):
    """A HeatmapNet whose maps are the wider the less certain their answers are, see train.SpreadLoss.

    breadth: how many times as wide as its answer is uncertain a map is. Maps narrower than a cell draw their answers
    to the middle of one (results/log.md, item 21).
    In training it returns (N, K, 5): x, y and their covariance (`map_covariance`); evaluated, (N, K, 2) as all.
    """

    breadth = 1

    def points_and_covariance(self, x):
        """(N, K, 5), in parts of the picture."""
        maps = self.heatmaps(x)
        points = soft_argmax(maps)
        return torch.cat([points, map_covariance(maps, points) / self.breadth**2], dim=2)

    def locate(self, x):
        """Keypoints and their spread together, (N, K, 3), in parts of the picture.

        The spread is the standard deviation along an axis, both axes taken together.
        """
        answer = self.points_and_covariance(x)
        return torch.cat([answer[..., :2], answer[..., 2:4].mean(dim=2, keepdim=True).sqrt()], dim=2)

    def forward(self, x):
        return self.points_and_covariance(x) if self.training else super().forward(x)


class AccurateNet(SureNet):
    """The larger of the two networks that ship. Evaluated, it looks at the mirror image too: 68 keypoints only.

    Its maps are narrow and draw answers to the middle of a cell, which is 4 pixels; the mirror image is moved by
    half a cell, so that the two looks err to different sides.
    """

    def __init__(self, num_keypoints: int = NUM_KEYPOINTS):
        super().__init__(num_keypoints, width=48)

    def locate(self, x):
        return mirror_averaged(super().locate, x, shift=2)

    def forward(self, x):
        return super().forward(x) if self.training else mirror_averaged(super().forward, x, shift=2)


class FastNet(SureNet):
    """The smaller one, for one face in a millisecond on one core: it looks once, with maps that are broad."""

    breadth = 3

    def __init__(self, num_keypoints: int = NUM_KEYPOINTS):
        super().__init__(num_keypoints, width=16)


NETWORKS = {net.__name__: net for net in (Net, BatchNormNet, AccurateNet, FastNet)}


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


def network_name(model: nn.Module) -> str:
    """The name by which load_model finds the network's class; raises DataError for one that it would not find."""
    name = type(model).__name__
    if NETWORKS.get(name) is not type(model):
        raise DataError(f"{name}: load_model does not know this network, add it to models.NETWORKS")
    return name


def save_model(model: nn.Module, path: str | Path, expects: Expects, dtype=torch.float32) -> None:
    """Save weights (torch.float16 for those that ship), the network's name and what it expects.

    Raises DataError for a network that is not in NETWORKS and when the file cannot be written.
    """
    weights = {k: v.detach().cpu().to(dtype) if v.is_floating_point() else v for k, v in model.state_dict().items()}
    content = {
        "network": network_name(model),
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
        raise DataError(f"{path}: no such weights file; `python train.py RECIPE` makes one") from None
    except Exception as error:  # torch.load raises nearly anything on a damaged file
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(f"{path}: not a weights file of this project ({reason})") from None
    return model.eval()
