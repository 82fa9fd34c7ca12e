"""Keypoints as heatmaps: reading a map by its mean or its highest cell, and the Gaussian targets.

Maps are (N, K, H, W). Points are (N, K, 2) as parts of the picture, 0 its left or upper edge, 1 the right or lower
one, which mean the same in the picture and in a map of any size.
"""

import torch


def probabilities(maps: torch.Tensor) -> torch.Tensor:  # (N, K, H, W)
    """The softmax of each heatmap over its cells, in float32."""
    return maps.float().flatten(2).softmax(dim=2).view(maps.shape)


def cell_centres(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # (W,), (H,)
    """The centres of the columns and of the rows, as parts of the map's width and height."""
    x, y = ((torch.arange(n, device=maps.device) + 0.5) / n for n in (maps.shape[3], maps.shape[2]))
    return x, y


def mean_place(weights: torch.Tensor) -> torch.Tensor:  # (N, K, 2)
    """The mean place of each map of weights that sum to 1, as a part of its width and height."""
    x, y = cell_centres(weights)
    sums = (weights.sum(dim=2) * x).sum(dim=2), (weights.sum(dim=3) * y).sum(dim=2)  # @ would be rounded to bfloat16
    return torch.stack(sums, dim=2)


def soft_argmax(maps: torch.Tensor) -> torch.Tensor:  # (N, K, 2)
    """The mean place of each heatmap (N, K, H, W) after a softmax, as a part of its width and height.

    0 is the left or upper edge, 1 the right or lower one (Sun et al., arXiv:1711.08229, equation 2).
    """
    return mean_place(probabilities(maps))


def points_and_covariance(maps: torch.Tensor) -> torch.Tensor:  # (N, K, 5)
    """`soft_argmax` of each heatmap (N, K, H, W), and how wide it is about that place and in which direction.

    x, y, then the variances along x and y and their covariance, in parts of the picture's size: how far off the map
    expects its answer. No variance is less than that of a thousandth of the picture.
    """
    weights = probabilities(maps)
    points = mean_place(weights)
    dx, dy = (centres - points[..., axis, None] for axis, centres in enumerate(cell_centres(maps)))
    across = (weights.sum(dim=2) * dx**2).sum(dim=2) + 1e-6
    down = (weights.sum(dim=3) * dy**2).sum(dim=2) + 1e-6
    both = ((weights * dx[:, :, None]).sum(dim=3) * dy).sum(dim=2)
    return torch.cat([points, torch.stack([across, down, both], dim=2)], dim=2)


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
