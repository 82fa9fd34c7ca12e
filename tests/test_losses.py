import numpy as np
import pytest
import torch

from models import SureNet
from training.loop import fit
from training.losses import HeatmapLoss, SpreadLoss


def test_the_spread_loss_is_smallest_for_the_distribution_of_the_points():
    """The radius under exp(-r / s) in the plane has a Gamma(2, s) distribution; stretched and turned, an ellipse."""
    torch.manual_seed(0)
    radius, angle = torch.distributions.Gamma(2.0, 1 / 0.03).sample((50000,)), 2 * np.pi * torch.rand(50000)
    matrix = torch.tensor([[1.5, -0.6], [0.4, 0.8]])
    true = (torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1) @ matrix.T)[None]
    assert SpreadLoss()(0 * true, true) == pytest.approx(true.norm(dim=2).mean().item(), rel=1e-4), "points alone"

    def loss(c):
        return SpreadLoss()(torch.cat([0 * true, c[[0, 1, 0], [0, 1, 1]].expand(1, 50000, 3)], dim=2), true)

    best = 0.03**2 * matrix @ matrix.T
    entropy = 2 + torch.log(best.det()) / 2  # the 2 is the mean of r / s
    assert loss(best) == pytest.approx(entropy.item(), abs=0.02)
    for wrong in (1.1 * best, best / 1.1, torch.diag(best.diag()), best.trace() / 2 * torch.eye(2)):
        assert loss(wrong) > loss(best)


def test_a_network_learns_points_and_their_spread(faces):
    """The labels of half of the points are noisy, by 0.05: their spread must become larger."""
    torch.manual_seed(0)

    class Noisy(torch.utils.data.Dataset):
        def __len__(self):
            return 32

        def __getitem__(self, number):
            image, jump = torch.zeros(1, 32, 32), torch.zeros(4, 2)
            image[:, 8:12, 8:12], jump[:2] = 1.0, 0.05 * torch.randn(2, 2)
            return {"image": image, "keypoints": torch.full((4, 2), 0.3) + jump}

    model = SureNet(num_keypoints=4, width=8)
    fit(model, Noisy(), None, "spread", "adamw", lr=5e-3, epochs=30, batch_size=8, one_cycle=True)
    points, spread = model.eval().points_and_spread(Noisy()[0]["image"][None])[0].split([2, 1], dim=1)
    assert (points - 0.3).abs().max() < 0.03 and spread[:2].min() > 1.5 * spread[2:].max()


def test_the_heatmap_loss_is_the_divergence_from_gaussians():
    torch.manual_seed(0)
    maps, true = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.rand(2, 3, 2, dtype=torch.float64)
    y, x = np.mgrid[:8, :8] + 0.5
    expected = []
    for scores, point in zip(maps.numpy().reshape(6, 8, 8), true.numpy().reshape(6, 2), strict=True):
        target = np.exp(-((x - 8 * point[0]) ** 2 + (y - 8 * point[1]) ** 2) / (2 * 1.5**2))
        target, softmax = target / target.sum(), np.exp(scores) / np.exp(scores).sum()
        expected.append((target * np.log(target / softmax)).sum())
    assert HeatmapLoss()(maps, true).item() == pytest.approx(np.mean(expected), rel=1e-4)
    softmax = maps.flatten(2).softmax(dim=2).view(maps.shape).numpy()
    places = np.stack([(softmax * x).sum(axis=(2, 3)), (softmax * y).sum(axis=(2, 3))], axis=-1) / 8
    both = np.mean(expected) + 7 * np.abs(places - true.numpy()).mean()
    assert HeatmapLoss(points_weight=7.0)(maps, true).item() == pytest.approx(both, rel=1e-4)
    assert HeatmapLoss()(true + 0.25, true).item() == pytest.approx(0.25), "points alone"


def test_the_spread_loss_by_hand_and_its_gradient_at_an_exact_prediction():
    off, covariance = np.array([0.3, -0.1]), np.array([[0.05, 0.02], [0.02, 0.03]])
    answer = torch.tensor([[[0.3, -0.1, 0.05, 0.03, 0.02]]], requires_grad=True)
    expected = np.sqrt(off @ np.linalg.inv(covariance) @ off) + np.log(np.linalg.det(covariance)) / 2
    assert SpreadLoss()(answer, torch.zeros(1, 1, 2)).item() == pytest.approx(expected, rel=1e-4)
    SpreadLoss()(answer, torch.tensor([[[0.3, -0.1]]])).backward()
    assert answer.grad.isfinite().all()


@pytest.mark.parametrize("unknown", [(np.nan, 0.2), (0.2, np.nan), (np.nan, np.nan)])
def test_points_with_an_unknown_coordinate_do_not_count(unknown):
    answer = torch.tensor([[[0.3, -0.1, 0.05, 0.03, 0.02], [0.5, 0.5, 0.01, 0.01, 0.0], [0.1, 0.9, 0.02, 0.04, 0.01]]])
    true = torch.tensor([[[0.2, 0.1], unknown, [0.1, 0.8]]])
    for numbers in (5, 2):
        expected = SpreadLoss()(answer[:, [0, 2], :numbers], true[:, [0, 2]])
        torch.testing.assert_close(SpreadLoss()(answer[..., :numbers], true), expected)
