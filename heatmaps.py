"""Keypoints as heatmaps: reading points from maps by soft-argmax or argmax, and Gaussian target maps.

Maps are (N, K, H, W). Points are (N, K, 2) in fractions of the image size, 0 at the left or upper edge and 1 at the
right or lower one, so that they are the same for the image and for a map of any size.
"""

import torch


def probabilities(maps: torch.Tensor) -> torch.Tensor:  # (N, K, H, W)
    """The softmax of each heatmap over its cells, in float32."""
    return maps.float().flatten(2).softmax(dim=2).view(maps.shape)


def cell_centres(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # (W,), (H,)
    """The centres of the columns and of the rows, as fractions of the map's width and height."""
    x, y = ((torch.arange(n, device=maps.device) + 0.5) / n for n in (maps.shape[3], maps.shape[2]))
    return x, y


def mean_place(weights: torch.Tensor) -> torch.Tensor:  # (N, K, 2)
    """The centroid of each map of weights that sum to 1, as a fraction of its width and height."""
    x, y = cell_centres(weights)
    sums = (weights.sum(dim=2) * x).sum(dim=2), (weights.sum(dim=3) * y).sum(dim=2)  # @ would be rounded to bfloat16
    return torch.stack(sums, dim=2)


def soft_argmax(maps: torch.Tensor) -> torch.Tensor:  # (N, K, 2)
    """The centroid of the softmax of each heatmap (N, K, H, W), as a fraction of its width and height.

    0 is the left or upper edge, 1 the right or lower one (Sun et al., arXiv:1711.08229, equation 2).
    """
    return mean_place(probabilities(maps))


def points_and_covariance(maps: torch.Tensor) -> torch.Tensor:  # (N, K, 5)
    """`soft_argmax` of each heatmap (N, K, H, W) and the covariance of its softmax about that point.

    x, y, then the variances along x and y and the covariance, in fractions of the image size (squared). 1e-6, the
    square of a thousandth of the image, is added to both variances.
    """
    weights = probabilities(maps)
    points = mean_place(weights)
    dx, dy = (centres - points[..., axis, None] for axis, centres in enumerate(cell_centres(maps)))
    across = (weights.sum(dim=2) * dx**2).sum(dim=2) + 1e-6
    down = (weights.sum(dim=3) * dy**2).sum(dim=2) + 1e-6
    both = ((weights * dx[:, :, None]).sum(dim=3) * dy).sum(dim=2)
    return torch.cat([points, torch.stack([across, down, both], dim=2)], dim=2)


def gaussian_heatmaps(points: torch.Tensor, size: int, sigma: float) -> torch.Tensor:  # (N, K, size, size)
    """A Gaussian about every point, sigma in cells, normalised so that each map sums to 1.

    For a point outside the image the map has its maximum at the nearest edge and still sums to 1.
    """
    cells = points * size - 0.5  # centres of cells at whole numbers
    off = torch.arange(size, device=points.device) - cells[..., None]  # (N, K, 2, size)
    along_x, along_y = torch.softmax(-(off**2) / (2 * sigma**2), dim=-1).unbind(dim=2)
    return along_y[..., :, None] * along_x[..., None, :]


def hard_argmax(maps: torch.Tensor) -> torch.Tensor:  # (N, K, 2)
    """The centre of every map's highest cell; its precision is limited by the grid."""
    height, width = maps.shape[2:]
    best = maps.flatten(2).argmax(dim=2)
    return torch.stack([(best % width + 0.5) / width, (best // width + 0.5) / height], dim=2)
