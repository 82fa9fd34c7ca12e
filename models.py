"""The networks of the coursework and the two that ship. Input (N, C, H, W) in [0, 1], output keypoints (N, K, 2)."""

import torch
from torch import nn

from facial_keypoints.schemes import IBUG_68
from heatmaps import points_and_covariance, soft_argmax


class Net(nn.Module):
    """Five convolutions and two fully connected layers on 1x224x224; 9 million parameters, nearly all in fc1.

    After NaimishNet (Agarwal et al., "Facial Key Points Detection using Deep Convolutional Neural Network",
    arXiv:1710.00977, table 1), with the layer sizes of the coursework.
    """

    def __init__(self, num_keypoints: int = IBUG_68.num_points):
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

    @property
    def output_layer(self) -> nn.Module:
        """The layer that predicts the keypoints."""
        return self.fc2

    def forward(self, x):
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4, self.conv5):
            x = torch.relu(self.pool(conv(x)))  # equals pool(relu(x)) and computes a quarter of the ReLUs
        x = self.dropout(torch.relu(self.fc1(x.flatten(1))))
        return self.fc2(x).view(-1, self.num_keypoints, 2)


class BatchNormNet(nn.Module):
    """Four 5x5 convolutions, each with ReLU, pooling and batch norm, then two fully connected layers; 1x224x224.

    Batch norm: Ioffe and Szegedy, "Batch Normalization", arXiv:1502.03167.
    """

    def __init__(self, num_keypoints: int = IBUG_68.num_points):
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

    @property
    def output_layer(self) -> nn.Module:
        """The layer that predicts the keypoints."""
        return self.fc2

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

    size: (h, w) of the input, which is shifted from [0, 1] to [-0.5, 0.5] first; channels: output channels of each
    convolution; hidden: outputs of the first fully connected layer.
    """

    def __init__(self, size, channels, kernel_size: int, pools: int, hidden: int, num_keypoints: int):
        super().__init__()
        self.num_keypoints, self.kernel_size, self.pools = num_keypoints, kernel_size, pools
        pairs = zip((1, *channels), channels, strict=False)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, kernel_size, padding=kernel_size // 2) for a, b in pairs)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(channels[-1] * (size[0] >> pools) * (size[1] >> pools), hidden)
        self.fc2 = nn.Linear(hidden, num_keypoints * 2)

    @property
    def output_layer(self) -> nn.Module:
        """The layer that predicts the keypoints."""
        return self.fc2

    def forward(self, x):
        x = x - 0.5
        for number, conv in enumerate(self.convs):
            x = conv(x)
            x = torch.relu(self.pool(x) if number < self.pools else x)  # pooling first gives the same result, cheaper
        x = torch.relu(self.fc1(x.flatten(1)))
        return self.fc2(x).view(-1, self.num_keypoints, 2)


class NoseNet(PlainNet):
    """One point from 1x60x80: 3 convolutions (16, 32, 64 channels), pooled; layers=4 adds one of 64, not pooled."""

    def __init__(self, layers: int = 3, kernel_size: int = 3):
        super().__init__((60, 80), (16, 32, 64, 64)[:layers], kernel_size, pools=3, hidden=128, num_keypoints=1)
        self.layers = layers


class FullFaceNet(PlainNet):
    """58 points from 1x180x240: 5 convolutions with pooling, 16 to 256 channels."""

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


class HeatmapNet(nn.Module):
    """A small residual encoder-decoder: down to 1/16 of the input size, back up to 1/4, one heatmap per point.

    Keypoints are fractions of the image's width and height, see `soft_argmax`; any input size works. Two skip
    connections carry fine detail to the decoder (Newell et al., arXiv:1603.06937, section 3.1).
    """

    def __init__(self, num_keypoints: int = IBUG_68.num_points, width: int = 32):
        super().__init__()
        self.num_keypoints, self.width = num_keypoints, width
        a, b, c, d = width, 2 * width, 3 * width, 4 * width
        self.stem = nn.Sequential(nn.Conv2d(1, a, 5, 2, 2, bias=False), nn.BatchNorm2d(a), nn.ReLU())
        self.down = nn.ModuleList([ResidualBlock(a, b, 2), ResidualBlock(b, c, 2), ResidualBlock(c, d, 2)])
        self.middle = ResidualBlock(d, d)
        self.up = nn.ModuleList([ResidualBlock(d + c, c), ResidualBlock(c + b, b)])
        self.head = nn.Conv2d(b, num_keypoints, 1)

    @property
    def output_layer(self) -> nn.Module:
        """The layer that predicts the keypoints."""
        return self.head

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


class SureNet(HeatmapNet):
    """A HeatmapNet that also predicts its error: the width of each heatmap, trained by training.losses.SpreadLoss.

    breadth: a map's standard deviation is `breadth` times the predicted error. Maps narrower than a cell pull the
    keypoint towards the cell's centre (results/log.md, item 21). mirror_shift: see facial_keypoints.network.Expects.
    In training mode it returns (N, K, 5), x, y and their covariance (see heatmaps.points_and_covariance); in
    evaluation mode (N, K, 2), like every other network.
    """

    breadth = 1
    mirror_shift = None

    def points_and_covariance(self, x):
        """Keypoints and their predicted covariance, (N, K, 5), in fractions of the image size."""
        points, covariance = points_and_covariance(self.heatmaps(x)).split([2, 3], dim=2)
        return torch.cat([points, covariance / self.breadth**2], dim=2)

    def points_and_spread(self, x):
        """Keypoints and their spread, (N, K, 3), in fractions of the image size.

        The spread is the standard deviation along one axis: the square root of the mean of the two variances.
        """
        answer = self.points_and_covariance(x)
        return torch.cat([answer[..., :2], answer[..., 2:4].mean(dim=2, keepdim=True).sqrt()], dim=2)

    def forward(self, x):
        return self.points_and_covariance(x) if self.training else super().forward(x)


class AccurateNet(SureNet):
    """The larger of the two networks that ship: broad maps, predictions averaged with those for the mirror image.

    The mirror image is shifted by 2 pixels, half a cell of the heatmaps, so that the remaining bias towards the
    centres of cells partly cancels.
    """

    breadth = 3
    mirror_shift = 2

    def __init__(self, num_keypoints: int = IBUG_68.num_points):
        super().__init__(num_keypoints, width=48)


class FastNet(SureNet):
    """The smaller one, one to three milliseconds a face on one core: broad maps, a single pass, no mirror image."""

    breadth = 3

    def __init__(self, num_keypoints: int = IBUG_68.num_points):
        super().__init__(num_keypoints, width=16)


# The networks that weights files may name. Each keeps its constructor arguments as attributes of the same names.
NETWORKS = {net.__name__: net for net in (Net, BatchNormNet, NoseNet, FullFaceNet, HeatmapNet, AccurateNet, FastNet)}


def initialize(model: nn.Module) -> nn.Module:
    """He initialisation for ReLU networks (He et al., "Delving deep into rectifiers", arXiv:1502.01852, eq. 10).

    It keeps the variance of the activations from layer to layer. With torch's default it shrinks at every layer, until
    all faces look alike to the last ones. `output_layer` starts near zero, so that points start at the image's centre.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    nn.init.normal_(model.output_layer.weight, std=0.01)
    return model


def count_parameters(model: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
