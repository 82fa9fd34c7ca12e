"""For the tests of training: a network that trains in milliseconds, and a loss that raises KeyboardInterrupt."""

import torch
from torch import nn

from training.losses import LOSSES


class Small(nn.Module):
    """A network that trains in milliseconds, with dropout, so that random numbers matter."""

    num_keypoints = 68

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.AvgPool2d(16), nn.Flatten(), nn.Linear(196, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 136)
        )

    def forward(self, x):
        return self.layers(x).view(-1, 68, 2)


def small_model():
    torch.manual_seed(7)
    return Small()


class InterruptedLoss:
    """A loss that raises KeyboardInterrupt at one of its calls, as Ctrl-C does."""

    def __init__(self, at, loss="mse"):
        self.calls, self.at, self.loss = 0, at, LOSSES[loss]()

    def __call__(self, predicted, true):
        self.calls += 1
        if self.calls == self.at:
            raise KeyboardInterrupt
        return self.loss(predicted, true)
