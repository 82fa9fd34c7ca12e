"""Keypoints as heatmaps: the Gaussian targets, reading a map by its highest cell, the loss.

Maps are (N, K, size, size). Points are (N, K, 2) as parts of the picture, 0 its left or upper edge, 1 the right or
lower one, which mean the same in the picture and in a map of any size. models.soft_argmax is the other way to read.
"""

import torch
from torch.nn import functional

from models import soft_argmax


def gaussian_heatmaps(points: torch.Tensor, size: int, sigma: float) -> torch.Tensor:  # (N, K, size, size)
    """For every point a Gaussian about it, sigma in cells, that sums to 1 over its map.

    A point outside the picture gives a map that leans against the nearest edge; it still sums to 1.
    """
    cells = points * size - 0.5  # centres of cells at whole numbers
    off = torch.arange(size, device=points.device) - cells[..., None]  # (N, K, 2, size)
    along_x, along_y = torch.softmax(-(off**2) / (2 * sigma**2), dim=-1).unbind(dim=2)
    return along_y[..., :, None] * along_x[..., None, :]


def hard_argmax(maps: torch.Tensor) -> torch.Tensor:  # (N, K, 2)
    """The centre of every map's highest cell: never nearer to the truth than the grid allows."""
    height, width = maps.shape[2:]
    best = maps.flatten(2).argmax(dim=2)
    return torch.stack([(best % width + 0.5) / width, (best // width + 0.5) / height], dim=2)


class HeatmapLoss:
    """Kullback-Leibler divergence of the softmax of predicted maps from Gaussians, mean over the points.

    sigma: of the Gaussians, in cells; points_weight adds the L1 distance of the soft-argmax points, in parts of the
    picture. Given points, as a HeatmapUNet returns them when it is evaluated, the loss is their L1 distance alone.
    """

    def __init__(self, sigma: float = 1.5, points_weight: float = 0.0):
        self.sigma, self.points_weight = sigma, points_weight

    def __call__(self, predicted, true):
        if predicted.ndim == 3:
            return functional.l1_loss(predicted, true)
        target = gaussian_heatmaps(true, predicted.shape[-1], self.sigma).flatten(2)
        log_parts = torch.log_softmax(predicted.flatten(2), dim=2)
        loss = functional.kl_div(log_parts, target, reduction="sum") / target.shape[:2].numel()
        if self.points_weight:
            loss = loss + self.points_weight * functional.l1_loss(soft_argmax(predicted), true)
        return loss
