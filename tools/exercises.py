"""The exercises that tools/make_exercises.py makes of notebooks 1 to 4: what is left open, what is asked, the check.

Each function below is one exercise: its docstring is what the student reads, its body is the check, which ends with
an AssertionError whose text says what is wrong. The decorator names what is to be written: functions of a module
("transforms.py: Rescale.__call__"), or a function of the notebook's cells ("to_input"), which the check then takes
as its parameter.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Exercise:
    """notebook: its number; place: the file, or "" for the notebook itself; functions: what is left open in it."""

    notebook: int
    title: str
    place: str
    functions: tuple[str, ...]
    marks: int
    check: Callable

    @property
    def name(self) -> str:
        """The name of the check, and of its cells."""
        return self.check.__name__


EXERCISES: list[Exercise] = []


def exercise(notebook: int, title: str, opened: str, marks: int):
    """Register a check; opened: "FILE: FUNCTION, FUNCTION" or "FUNCTION" of the notebook."""
    place, _, functions = opened.rpartition(": ")

    def register(check):
        EXERCISES.append(Exercise(notebook, title, place, tuple(functions.split(", ")), marks, check))
        return check

    return register


@exercise(1, "A transform", "transforms.py: Rescale.__call__", marks=2)
def rescale():
    """`Rescale(size)` scales a sample so that the shorter side of its picture is `size` pixels and the aspect ratio
    stays. The picture alone is not enough: the keypoints have to move with it. `Resize`, which is given, resizes both
    to exactly (h, w) pixels.
    """
    import numpy as np

    from transforms import Rescale

    sample = {"image": np.zeros((60, 80, 3), np.uint8), "keypoints": np.array([[39.5, 29.5], [79, 0]], np.float32)}
    result = Rescale(120)(sample)
    shape = result["image"].shape
    assert shape == (120, 160, 3), (
        f"60 x 80 pixels should become 120 x 160, but became {shape}: one factor for both sides."
    )
    off = np.abs(result["keypoints"] - 2 * sample["keypoints"]).max()
    assert off < 1, (
        f"The picture doubled, but a keypoint is {off:.0f} pixels off: scale the keypoints by the same factor."
    )
    assert Rescale(30)(sample)["image"].shape == (30, 40, 3), (
        "60 x 80 should become 30 x 40: the shorter side may shrink."
    )
    assert sample["image"].shape == (60, 80, 3), "The sample that came in has changed; return a new one."


@exercise(1, "A random crop", "transforms.py: RandomCrop.offset", marks=2)
def random_crop():
    """`RandomCrop` cuts out a window. `offset(room)` says where it begins along one side, if the picture is `room`
    pixels longer than the window. Every place has to be possible, the first and the last included, all equally likely;
    a window as large as the picture has only one place. Draw from torch's generator, so that a seed repeats it.
    """
    import torch

    from transforms import RandomCrop

    torch.manual_seed(0)
    drawn = [RandomCrop(8).offset(3) for _ in range(600)]
    assert max(drawn) == 3, (
        f"With 3 pixels of room the last place is 3, but it is never drawn; the largest is {max(drawn)}."
    )
    assert sorted(set(drawn)) == [0, 1, 2, 3], f"The places should be 0, 1, 2 and 3, but are {sorted(set(drawn))}."
    assert min(map(drawn.count, range(4))) > 100, "Some places are drawn much more often than others."
    assert RandomCrop(8).offset(0) == 0, "A window as large as the picture can only begin at 0."
    torch.manual_seed(0)
    assert drawn == [RandomCrop(8).offset(3) for _ in range(600)], (
        "The same seed of torch should give the same places."
    )


@exercise(1, "Normalisation", "transforms.py: Normalize.__call__", marks=2)
def normalize():
    """`Normalize(mean, std)` makes the picture gray, float32 (H, W), with 0 for black and 1 for white, and keypoints
    (k - mean) / std. The picture comes as RGB `uint8` (H, W, 3).
    """
    import numpy as np

    from transforms import Normalize

    white = {"image": np.full((4, 6, 3), 255, np.uint8), "keypoints": np.array([[150, 100], [50, 125]], np.float32)}
    result = Normalize(100, 50)(white)
    assert result["image"].shape == (4, 6), f"A gray picture has the shape (4, 6), not {result['image'].shape}."
    assert result["image"].dtype == np.float32, f"The picture should be float32, not {result['image'].dtype}."
    brightest = result["image"].max()
    assert abs(brightest - 1) < 1e-3, (
        f"White should be 1, but is {brightest:.4f}: gray levels reach 255; divide by that once."
    )
    points = result["keypoints"]
    assert np.allclose(points, [[1, 0], [-1, 0.5]]), (
        f"(150, 100) and (50, 125) should be (1, 0) and (-1, 0.5), not {points}."
    )
    assert white["image"].max() == 255, "The sample that came in has changed; return a new one."


@exercise(1, "Its inverse", "transforms.py: Normalize.inverse", marks=1)
def inverse():
    """`inverse` takes normalised keypoints back to pixels; an array or a tensor, of any number of points."""
    import numpy as np

    from transforms import Normalize

    back = Normalize(10, 4).inverse(np.array([[2.0, -1.0]]))
    assert np.allclose(back, [[18, 6]]), f"With mean 10 and std 4, (2, -1) should be (18, 6) in pixels, not {back[0]}."


@exercise(1, "Mirror images", "transforms.py: RandomAffine.place", marks=2)
def mirror():
    """`RandomAffine` draws a random 2x3 matrix; now and then it mirrors. `place(keypoints, matrix, size)` returns two
    things: `matrix` followed by a random one into a picture of `size` (w, h), as one matrix, and the keypoints
    moved by it. `self.draw(w, h)` gives the random matrix and whether it mirrors, `compose(outer, inner)` multiplies
    matrices, `transform_points` moves points. In a mirror image the left eye is where the right one was:
    `self.scheme.swap_sides` renumbers the points.
    """
    import numpy as np

    from transforms import RandomAffine

    keypoints = np.random.default_rng(0).uniform(5, 35, (68, 2)).astype(np.float32)
    matrix, points = RandomAffine(rotation=0, scale=0, shift=0, mirror=1).place(keypoints, np.eye(2, 3), (60, 40))
    mirrored = np.allclose(matrix, [[-1, 0, 59], [0, 1, 0]])
    assert mirrored, "The matrix does not mirror a picture 60 pixels wide: is the random one part of it?"
    there = keypoints * [-1, 1] + [59, 0]
    kept = np.abs(points - there).max() < 0.01
    assert not kept, "The points moved with the picture, but kept their names: 36 now lies on the other eye."
    assert np.allclose(points[36], there[45], atol=0.01), "Point 36 should be where the mirrored 45 is."
    shift = np.array([[1.0, 0, 3], [0, 1, 2]])
    matrix, points = RandomAffine(rotation=0, scale=0, shift=0, mirror=0).place(keypoints, shift, (60, 40))
    assert np.allclose(matrix, shift), "Without anything random, the matrix should be the one that came in."
    assert np.allclose(points, keypoints + [3, 2], atol=0.01), "A shift by (3, 2) should move the points by just that."


@exercise(2, "The network", "models.py: Net.__init__, Net.forward", marks=3)
def network():
    """`Net` takes pictures (N, 1, 224, 224) to points (N, 68, 2). Five convolutions, `conv1` to `conv5`, not padded:
    1 to 16 channels with 7x7 kernels, to 32 with 5x5, to 64, 128 and 512 with 3x3; after each ReLU and 2x2 max pooling
    (`pool`). Then `fc1` to 1024 numbers, ReLU, `dropout` with 0.6, and `fc2` to two numbers a point.
    """
    import torch

    from models import Net

    torch.manual_seed(0)
    net, pictures = Net().eval(), torch.rand(2, 1, 224, 224)
    with torch.inference_mode():
        points = net(pictures)
    assert points.shape == (2, 68, 2), (
        f"Two pictures should give points of shape (2, 68, 2), not {tuple(points.shape)}."
    )
    count = sum(p.numel() for p in net.parameters())
    assert count == 9_225_352, (
        f"The network has {count:,} parameters, 9,225,352 were asked for: check the layers' sizes."
    )
    assert net.dropout.p == 0.6, f"Dropout should be 0.6, not {net.dropout.p}."
    dropped = net.train()(pictures).allclose(net(pictures))
    assert not dropped, "Two runs in training mode give the same points: is dropout used in forward?"
    assert Net(num_keypoints=5).eval()(pictures).shape == (2, 5, 2), (
        "Net(num_keypoints=5) should answer with five points."
    )


@exercise(2, "The loop of one epoch", "one_epoch", marks=3)
def loop(one_epoch):
    """`one_epoch(model, loader, loss_function, optimizer)` goes through the training data once. In each step: predict
    from `batch["image"]`, compare with `batch["keypoints"]`, clear the old gradients, compute the new ones, update
    the weights. It returns the mean loss of all *samples*; the last batch may be smaller than the others.
    """
    import torch
    from torch import nn
    from torch.utils.data import DataLoader

    class Guess(nn.Module):
        """Answers every picture with the same two points, which it learns."""

        def __init__(self):
            super().__init__()
            self.points = nn.Parameter(torch.zeros(2, 2))

        def forward(self, images):
            return self.points.expand(len(images), 2, 2)

    data = [{"image": torch.zeros(1), "keypoints": torch.full((2, 2), float(value))} for value in (1, 1, 4)]
    still = Guess().eval()
    loss = one_epoch(still, DataLoader(data, 2), nn.MSELoss(), torch.optim.SGD(still.parameters(), lr=0.0))
    assert abs(float(loss) - 6) < 1e-4, (
        f"Losses of 1, 1 and 16 have the mean 6, not {loss:.3f}: weigh each batch by its size."
    )
    assert still.training, "The model should be in training mode, or its dropout does nothing."
    model = Guess()
    one_epoch(model, DataLoader(data[:2], 1), nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1))
    place = model.points[0, 0].item()
    assert place != 0, "The weights have not moved: is there a step of the optimiser?"
    # by hand: the slope of the loss is (p - 1) / 2, so p goes from 0 to 0.05 and on to 0.0975
    assert abs(place - 0.1475) > 1e-4, "Each step adds to the gradients of the one before: forget the old ones first."
    assert abs(place - 0.0975) < 1e-4, f"After two steps the points should be at 0.0975, but are at {place:.4f}."


@exercise(3, "The crop for the network", "to_input", marks=2)
def crop(to_input):
    """`to_input(photo, matrix, size)` makes the network's input from a photo: the face cut out by the 2x3 matrix into
    size x size pixels (`warp`), gray, float32 with 0 for black and 1 for white, of shape (1, size, size).
    """
    import numpy as np

    photo = np.zeros((100, 120, 3), np.uint8)
    photo[40:60, 60:80] = 255  # a white square: 10 pixels wide after the warp, at 20 from the left and 15 from the top
    face = to_input(photo, np.array([[0.5, 0, -10], [0, 0.5, -5]]), 32)
    assert face.shape == (1, 32, 32), f"The shape should be (1, 32, 32), one channel first, not {face.shape}."
    assert face.dtype == np.float32, f"The type should be float32, not {face.dtype}."
    assert abs(face.max() - 1) < 1e-3, f"White should be 1, but is {face.max():.4f}."
    place = np.argwhere(face[0] > 0.5).mean(axis=0)
    assert np.abs(place - [19.5, 24.5]).max() < 1, (
        f"What was at (70, 50) in the photo is at {place[::-1]}, not (24.5, 19.5)."
    )


@exercise(3, "The way back to the photo", "to_photo", marks=2)
def way_back(to_photo):
    """`to_photo(answer, matrix, expects)` takes a network's normalised keypoints (K, 2) to pixels of the photo:
    `expects.in_pixels` goes to pixels of the crop; `matrix` goes from the photo to the crop, so `invert` it to go
    back, with `transform_points`.
    """
    import numpy as np

    from facial_keypoints.network import Expects

    expects, matrix = Expects(size=160, mean=-0.5, std=160.0), np.array([[0.5, 0, -10], [0, 0.5, -5]])
    points = to_photo(np.array([[0.5, 0.25]]), matrix, expects)
    assert np.shape(points) == (1, 2), f"One point should come back as (1, 2), not {np.shape(points)}."
    in_crop = np.allclose(points, [[79.5, 39.5]], atol=0.01)
    assert not in_crop, "These are pixels of the crop: the inverse of the matrix scales them back to the photo."
    assert np.abs(points).max() > 25, "The points are still normalised: in_pixels comes first."
    assert np.allclose(points, [[179, 89]], atol=0.01), (
        f"The point should be at (179, 89) in the photo, not {points[0]}."
    )


@exercise(4, "Alpha blending", "blend", marks=2)
def blending(blend):
    """`blend(photo, picture, alpha)` lays a picture over a photo of the same size, both RGB `uint8` (H, W, 3). `alpha`
    (H, W) says, from 0 to 1, how much of the picture is seen; the rest is the photo. The result is rounded `uint8`.
    """
    import numpy as np

    photo, picture = np.full((2, 3, 3), 100, np.uint8), np.full((2, 3, 3), 200, np.uint8)
    alpha = np.array([[0, 0.25, 1], [0, 0.75, 1]])
    result = blend(photo, picture, alpha)
    assert result.dtype == np.uint8, f"The result should be uint8, not {result.dtype}."
    assert result[0, 0, 0] == 100 and result[0, 2, 0] == 200, (
        "Where alpha is 0 the photo is seen, where it is 1 the picture."
    )
    seen = result[:, 1, 0].tolist()
    assert seen != [100, 200], "Alpha was taken for yes or no; a quarter of 200 and three quarters of 100 make 125."
    assert seen == [125, 175], f"Alpha 0.25 and 0.75 should give 125 and 175, not {seen}."
    assert (photo == 100).all(), "The photo that came in has changed; return a new one."
