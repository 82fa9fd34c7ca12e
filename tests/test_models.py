import pytest
import torch
from torch import nn

from facial_keypoints.images import DataError
from facial_keypoints.network import Expects
from heatmaps import points_and_covariance, soft_argmax
from models import (
    NETWORKS,
    AccurateNet,
    BatchNormNet,
    FastNet,
    FullFaceNet,
    HeatmapNet,
    Net,
    NoseNet,
    count_parameters,
    initialize,
)
from recipes import RECIPES
from train import SAVED_MODELS
from training.weights import load_model, save_model, start_from
from transforms import FaceCrop

NETS = [Net, BatchNormNet]


def test_net_has_the_layers_of_the_coursework():
    net = Net()
    convs = [(c.in_channels, c.out_channels, c.kernel_size) for c in net.modules() if isinstance(c, nn.Conv2d)]
    assert convs == [
        (1, 16, (7, 7)), (16, 32, (5, 5)), (32, 64, (3, 3)), (64, 128, (3, 3)), (128, 512, (3, 3)),
    ]  # fmt: skip
    assert (net.fc1.in_features, net.fc1.out_features, net.fc2.out_features) == (8192, 1024, 136)
    assert net.dropout.p == 0.6
    # by hand: (49+1)16 + (16*25+1)32 + (32*9+1)64 + (64*9+1)128 + (128*9+1)512 + 8193*1024 + 1025*136
    assert count_parameters(net) == 800 + 12832 + 18496 + 73856 + 590336 + 8389632 + 139400


def test_batch_norm_net_has_its_layers():
    net = BatchNormNet()
    convs = [(c.out_channels, c.kernel_size) for c in net.modules() if isinstance(c, nn.Conv2d)]
    assert convs == [(32, (5, 5)), (64, (5, 5)), (128, (5, 5)), (256, (5, 5))]
    assert [n.num_features for n in net.modules() if isinstance(n, nn.BatchNorm2d)] == [32, 64, 128, 256]
    assert (net.fc1.in_features, net.fc1.out_features, net.fc2.out_features) == (25600, 1000, 136)
    assert net.dropout.p == 0.2
    # by hand: 26*32 + (32*25+1)64 + (64*25+1)128 + (128*25+1)256 + 2(32+64+128+256) + 25601*1000 + 1001*136
    assert count_parameters(net) == 832 + 51264 + 204928 + 819456 + 960 + 25601000 + 136136


def test_pooling_before_relu_changes_nothing():
    net, x = Net().eval(), torch.rand(2, 1, 224, 224)
    expected = x
    for conv in (net.conv1, net.conv2, net.conv3, net.conv4, net.conv5):
        expected = net.pool(torch.relu(conv(expected)))
    expected = net.fc2(torch.relu(net.fc1(expected.flatten(1)))).view(-1, 68, 2)
    torch.testing.assert_close(net(x), expected)


def test_the_signal_dies_with_the_default_initialisation_and_not_with_hes():
    torch.manual_seed(0)
    x = nn.functional.interpolate(torch.rand(4, 1, 7, 7), size=224, mode="bilinear")  # smooth, as pictures are

    def spread(net):
        features = x
        for conv in (net.conv1, net.conv2, net.conv3, net.conv4, net.conv5):
            features = torch.relu(net.pool(conv(features)))
        return features.std(dim=0).mean()

    assert spread(initialize(Net())) > 20 * spread(Net())
    assert initialize(Net())(x).abs().mean() < 1, "the first predictions stay near the middle of the picture"


@pytest.mark.parametrize("network", [Net, BatchNormNet, NoseNet, FullFaceNet, AccurateNet, FastNet])
def test_hes_initialisation_suits_every_network_and_the_output_layer_starts_near_zero(network):
    model = initialize(network())
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for layer in layers:
        fan_in = layer.weight[0].numel()
        expected = 0.01 if layer is model.output_layer else (2 / fan_in) ** 0.5
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.2)
        assert layer.bias is None or not layer.bias.any()


@pytest.mark.parametrize("network", NETS)
def test_the_output_is_a_pair_of_coordinates_per_keypoint(network):
    assert network()(torch.rand(3, 1, 224, 224)).shape == (3, 68, 2)
    assert network(num_keypoints=5).eval()(torch.rand(1, 1, 224, 224)).shape == (1, 5, 2)


@pytest.mark.parametrize("network", NETS)
def test_a_loaded_model_has_the_same_outputs_and_expects(network, tmp_path):
    torch.manual_seed(0)
    model, x = network().eval(), torch.rand(2, 1, 224, 224)
    expects = Expects(size=224, margin=0.3, mean=90.0, std=40.0)
    save_model(model, tmp_path / "net.pt", expects)
    again = load_model(tmp_path / "net.pt")
    assert again.expects == expects and not again.training
    torch.testing.assert_close(again(x), model(x), rtol=0, atol=0)
    assert [p.name for p in tmp_path.iterdir()] == ["net.pt"]


@pytest.mark.parametrize(
    ("model", "size"),
    [(HeatmapNet(58, width=8), (64, 64)), (NoseNet(layers=4, kernel_size=5), (60, 80)), (FullFaceNet(9), (180, 240)),
     (AccurateNet(98), (64, 64))],
)  # fmt: skip
def test_weights_files_keep_the_arguments_of_the_network(model, size, tmp_path):
    save_model(model.eval(), tmp_path / "net.pt", Expects())
    x = torch.rand(1, 1, *size)
    torch.testing.assert_close(load_model(tmp_path / "net.pt")(x), model(x), rtol=0, atol=0)


def test_a_network_that_does_not_keep_its_arguments_is_not_saved(tmp_path, monkeypatch):
    class Forgets(nn.Linear):
        def __init__(self, points=68):
            super().__init__(4, 2 * points)

    monkeypatch.setitem(NETWORKS, "Forgets", Forgets)
    with pytest.raises(DataError, match="Forgets: keeps no attribute points"):
        save_model(Forgets(), tmp_path / "net.pt", Expects())


@pytest.mark.parametrize("name", ["accurate", "fast"])
def test_the_shipped_weights_can_be_loaded(name):
    assert load_model(SAVED_MODELS / f"{name}.pt").expects == RECIPES[name].expects


def test_training_can_start_from_weights_for_other_points(tmp_path):
    torch.manual_seed(0)
    save_model(FastNet(), tmp_path / "net.pt", Expects())
    model, same = FastNet(98), FastNet()
    assert "68 points, that for 98 starts afresh" in start_from(model, tmp_path / "net.pt")
    assert "all layers" in start_from(same, tmp_path / "net.pt")
    saved = load_model(tmp_path / "net.pt").state_dict()
    assert all(torch.equal(saved[k], v) for k, v in same.state_dict().items())
    assert [k for k, v in model.state_dict().items() if not torch.equal(saved[k], v)] == ["head.weight", "head.bias"]
    with pytest.raises(DataError, match="net.pt: holds FastNet, this recipe trains AccurateNet"):
        start_from(AccurateNet(), tmp_path / "net.pt")


def test_a_network_that_load_model_would_not_find_is_not_saved(tmp_path):
    class MyNet(Net):
        pass

    for network in (MyNet(), type("Net", (nn.Linear,), {"num_keypoints": 68})(1, 1)):  # the second by its name only
        with pytest.raises(DataError, match="Net: load_model makes .* add it to models.NETWORKS"):
            save_model(network, tmp_path / "net.pt", Expects())
    assert not list(tmp_path.iterdir())


def test_a_network_of_whole_frames_says_so_in_its_file(tmp_path):
    recipe = RECIPES["course-mse"]
    save_model(recipe.build(), tmp_path / "net.pt", recipe.expects)
    assert load_model(tmp_path / "net.pt").expects.margin is None
    cuts = {name: isinstance(recipe.transform.transforms[0], FaceCrop) for name, recipe in RECIPES.items()}
    assert cuts == {name: recipe.expects.margin is not None for name, recipe in RECIPES.items()}


def test_half_precision_halves_the_file_and_barely_moves_a_point(tmp_path):
    model, x = Net().eval(), torch.rand(2, 1, 224, 224)
    save_model(model, tmp_path / "full.pt", Expects())
    save_model(model, tmp_path / "half.pt", Expects(), torch.float16)
    assert (tmp_path / "half.pt").stat().st_size < 0.51 * (tmp_path / "full.pt").stat().st_size
    torch.testing.assert_close(load_model(tmp_path / "half.pt")(x), model(x), rtol=0, atol=1e-3)


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 cut off"])
def test_an_unreadable_weights_file_is_one_sentence(content, tmp_path):
    (tmp_path / "bad.pt").write_bytes(content)
    with pytest.raises(DataError, match="bad.pt: not a weights file of this project"):
        load_model(tmp_path / "bad.pt")


def test_the_error_for_a_bad_weights_file_does_not_suggest_loading_it_unsafely(tmp_path):
    torch.save({"weights": Expects()}, tmp_path / "bad.pt")
    with pytest.raises(DataError, match="bad.pt: not a weights file of this project") as caught:
        load_model(tmp_path / "bad.pt")
    assert "weights_only" not in str(caught.value) and "trust" not in str(caught.value)


def test_a_file_of_other_weights_is_one_sentence(tmp_path):
    torch.save({"weights": {}}, tmp_path / "other.pt")
    with pytest.raises(DataError, match="not a weights file of this project"):
        load_model(tmp_path / "other.pt")


def test_a_missing_weights_file_says_what_to_run(tmp_path):
    with pytest.raises(DataError, match="no such weights file; `python train.py"):
        load_model(tmp_path / "none.pt")


def test_a_full_disk_keeps_the_old_weights(tmp_path, monkeypatch):
    model, path = Net(num_keypoints=1), tmp_path / "net.pt"
    save_model(model, path, Expects())
    before = path.read_bytes()

    def full(content, file):
        file.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(DataError, match="net.pt: could not be written .*No space left"):
        save_model(model, path, Expects())
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["net.pt"]


def test_the_covariance_of_a_gaussian_map_is_that_of_the_gaussian():
    x, y = torch.meshgrid(torch.arange(40.0) - 17.3, torch.arange(60.0) - 31.8, indexing="xy")
    expected = torch.tensor([[4.0, 4.0, 0.0], [9.0, 4.0, -3.0]])  # variance of x, of y, and covariance, in cells
    scores = [-(d * x**2 - 2 * c * x * y + a * y**2) / (2 * (a * d - c**2)) for a, d, c in expected.tolist()]
    maps = torch.stack(scores)[None]
    points, covariance = points_and_covariance(maps)[0].split([2, 3], dim=1)
    torch.testing.assert_close(points, soft_argmax(maps)[0])
    torch.testing.assert_close(covariance * torch.tensor([40 * 40, 60 * 60, 40 * 60]), expected, rtol=0, atol=0.01)


@pytest.mark.parametrize(("network", "megabytes"), [(AccurateNet, 6), (FastNet, 2)])
def test_shipped_networks_are_small_and_predict_their_spread(network, megabytes, tmp_path):
    torch.manual_seed(0)
    model, x = network().eval(), torch.rand(2, 1, 128, 128)
    save_model(model, tmp_path / "net.pt", Expects(size=128), torch.float16)
    assert (tmp_path / "net.pt").stat().st_size < megabytes * 1e6
    located = load_model(tmp_path / "net.pt").points_and_spread(x)
    assert located.shape == (2, 68, 3) and model(x).shape == (2, 68, 2)
    torch.testing.assert_close(located[..., :2], model(x), atol=1e-2, rtol=0)
    assert model.train()(x).shape == (2, 68, 5), "training needs the covariance"


def test_accurate_weights_from_before_november_2026_use_the_shifted_mirror_image(tmp_path):
    save_model(AccurateNet(98), tmp_path / "net.pt", Expects(size=64))
    content = torch.load(tmp_path / "net.pt")
    del content["expects"]["mirror_shift"]
    torch.save(content, tmp_path / "older.pt")
    assert load_model(tmp_path / "net.pt").expects.mirror_shift is None
    assert load_model(tmp_path / "older.pt").expects.mirror_shift == 2
    assert RECIPES["accurate"].expects.mirror_shift == 2 and RECIPES["fast"].expects.mirror_shift is None


def test_both_shipped_networks_have_the_same_architecture():
    shapes = [[type(layer) for layer in network().modules()][1:] for network in (AccurateNet, FastNet)]
    assert shapes[0] == shapes[1]
    ratio = count_parameters(AccurateNet()) / count_parameters(FastNet())
    assert ratio == pytest.approx((48 / 16) ** 2, rel=0.05), "three times as wide, nine times as many weights"
