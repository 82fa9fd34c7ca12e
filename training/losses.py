"""The loss functions."""

import torch
from torch import nn
from torch.nn import functional

from heatmaps import gaussian_heatmaps, soft_argmax


class HeatmapLoss:
    """Kullback-Leibler divergence of the softmax of predicted maps from Gaussians, mean over the points.

    sigma: of the Gaussians, in cells; points_weight: the weight of an added term, the L1 distance of the soft-argmax
    points as a fraction of the picture. For predicted points, which a HeatmapUNet returns in evaluation mode, the loss
    is their L1 distance alone.
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


class SpreadLoss:
    """Negative log-likelihood of true points (N, K, 2) under a models.SureNet's output (N, K, 5), mean over points.

    Up to a constant it is -log(exp(-r) / sqrt(det C)), from a Laplace distribution in the plane: C is the covariance
    of the map, r the Mahalanobis distance of the true point. The loss is smallest if the map is as wide as the error
    in each direction; errors along the jaw, for example, can be larger than across it. For points alone, which the
    network returns in evaluation mode, it is the mean distance. Points whose true position is unknown (NaN) do not
    count.
    After Kendall and Gal, arXiv:1703.04977, section 3; directions: Zhou et al., "STAR loss", arXiv:2306.02763.
    """

    def __call__(self, predicted, true):
        known = true.isfinite().all(dim=2)
        predicted, true = predicted[known], true[known]
        off = predicted[:, :2] - true
        if predicted.shape[1] == 2:
            return off.norm(dim=1).mean()
        (x, y), (across, down, both) = off.unbind(dim=1), predicted[:, 2:].unbind(dim=1)
        determinant = across * down - both**2
        squared = (down * x**2 - 2 * both * x * y + across * y**2) / determinant
        return ((squared + 1e-8).sqrt() + determinant.log() / 2).mean()  # the root of exactly 0 has no gradient


LOSSES = {"mse": nn.MSELoss, "l1": nn.L1Loss, "smooth_l1": nn.SmoothL1Loss, "spread": SpreadLoss}
