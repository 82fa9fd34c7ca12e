"""The figures of the notebooks. Ground truth is always green, predictions magenta, boxes red.

Functions return a closed matplotlib Figure: a notebook shows it as the cell's result, a script saves it.
Keypoints are (K, 2) in pixels of the image they are drawn on.
"""

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, NullFormatter

import metrics
from facial_keypoints.geometry import tight_box
from facial_keypoints.schemes import IBUG_68, Scheme

TRUE, PREDICTED, BOX = "lime", "magenta", "red"  # as in facial_keypoints.drawing


def to_image(picture) -> np.ndarray:
    """A picture for imshow: a tensor (C, H, W) becomes an array (H, W) or (H, W, C)."""
    if isinstance(picture, torch.Tensor):
        return np.squeeze(picture.detach().cpu().float().numpy().transpose(1, 2, 0))
    return picture


def show_images(pictures, true=None, predicted=None, titles=None, columns: int = 4, width: float = 10.0) -> Figure:
    """A grid of pictures with ground truth (N, K, 2) in green and predictions in magenta; either may be None.

    With both there is a legend below. Axes end at the picture's border, so points outside it are not drawn.
    """
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    tallest = max(to_image(p).shape[0] / to_image(p).shape[1] for p in pictures)
    cell = width / columns
    lines = max((title.count("\n") + 1 for title in titles or ()), default=0)
    legend = 0.3 if true is not None and predicted is not None else 0.0
    height = rows * (cell * tallest + 0.05 + 0.18 * lines + 0.1 * bool(lines)) + legend
    figure, axes = plt.subplots(rows, columns, figsize=(width, height))
    axes = np.atleast_1d(axes).ravel()
    for index, ax in enumerate(axes):
        ax.axis("off")
        if index < len(pictures):
            _show_one(ax, pictures[index], _at(true, index), _at(predicted, index), 6 * cell / 2.5)
            ax.set_title(titles[index] if titles else "", fontsize=9)
    figure.tight_layout(rect=(0, legend / height, 1, 1), pad=0.3, w_pad=0.4, h_pad=0.5)
    if legend:
        dots = [Line2D([], [], marker="o", linestyle="", color=color) for color in (TRUE, PREDICTED)]
        figure.legend(dots, ["ground truth", "prediction"], loc="lower center", ncols=2, fontsize=9, frameon=False)
    return _finish(figure, tight=False)


def _at(points, index):
    return None if points is None else points[index]


def _show_one(ax, picture, true, predicted, dot):
    image = to_image(picture)
    ax.imshow(image, cmap="gray" if image.ndim == 2 else None, vmin=0, vmax=255 if image.dtype == np.uint8 else 1)
    height, width = image.shape[:2]
    for points, color in ((true, TRUE), (predicted, PREDICTED)):
        if points is not None:
            size = dot if len(points) > 1 else 6 * dot  # a single point is drawn larger
            ax.scatter(points[:, 0], points[:, 1], s=size, c=color, linewidths=0)
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def mosaic(samples: list[dict], columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples of equal size tiled into one RGB image; returns it with all keypoints (N, K, 2) in its pixels."""
    height, width = samples[0]["image"].shape[:2]
    rows = -(-len(samples) // columns)
    photo = np.zeros((rows * height, columns * width, 3), np.uint8)
    keypoints = []
    for index, sample in enumerate(samples):
        top, left = index // columns * height, index % columns * width
        photo[top : top + height, left : left + width] = sample["image"]
        keypoints.append(sample["keypoints"] + np.array([left, top], np.float32))
    return photo, np.stack(keypoints)


def show_samples(samples: dict, width: float = 10.0) -> Figure:
    """Samples {title: sample} side by side, with axes in pixels that show their sizes."""
    figure, axes = plt.subplots(1, len(samples), figsize=(width, width / len(samples) * 1.3))
    for ax, (title, sample) in zip(np.atleast_1d(axes), samples.items(), strict=True):
        _show_one(ax, sample["image"], sample["keypoints"], None, 8)
        height, across = to_image(sample["image"]).shape[:2]
        ax.set_title(f"{title}\n{across} x {height}", fontsize=9)
        ax.tick_params(labelsize=7)
    return _finish(figure)


def show_landmark_map(image: np.ndarray, keypoints: np.ndarray, scheme: Scheme = IBUG_68) -> Figure:
    """A face with its points joined along the scheme's contours and numbered from 0.

    Numbers are placed outside their contour, except for the corners of an inner one (the inner lips). Points on no
    contour are shown as well.
    """
    scheme.check(keypoints)
    contours = {name: list(points) for name, points in scheme.contours.items()}
    contours |= {f"point {n}": [n] for n in set(range(scheme.num_points)).difference(*contours.values())}
    figure, ax = plt.subplots(figsize=(7.5, 7.5))
    ax.imshow(image, alpha=0.6)
    for name, points in contours.items():
        ax.plot(*keypoints[points].T, ".-", color=TRUE, linewidth=1, markersize=5)
        closed = len(points) > 1 and points[0] == points[-1]
        middle = keypoints[points].mean(axis=0) if closed else keypoints.mean(axis=0)
        corners = (points[0], points[len(points) // 2]) if name.startswith("inner") else ()
        for number in dict.fromkeys(points):
            out = keypoints[number] - middle
            out *= (-8 if number in corners else 8) / max(np.linalg.norm(out), 1e-6)
            ax.annotate(str(number), keypoints[number], (out[0], -out[1]), textcoords="offset points", ha="center",
                        va="center", fontsize=8)  # fmt: skip
    x, y, w, h = tight_box(keypoints)
    ax.set(xlim=(x - 0.15 * w, x + 1.15 * w), ylim=(y + 1.1 * h, y - 0.25 * h))
    ax.axis("off")
    return _finish(figure)


def show_sizes(sizes: np.ndarray, eye_distances: np.ndarray) -> Figure:
    """Image sizes (N, 2) w, h as a scatter, and the outer-eye-corner distances (N,) as a histogram."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
    left.scatter(*sizes.T, s=4, alpha=0.4)
    left.set(xlabel="width (pixels)", ylabel="height (pixels)", title="image sizes", aspect="equal")
    right.hist(eye_distances, bins=40)
    right.set(xlabel="distance of the outer eye corners (pixels)", ylabel="frames", title="face sizes")
    return _finish(figure)


def show_lattice(image: np.ndarray, keypoints: np.ndarray, gaps: np.ndarray) -> Figure:
    """One face with a line at each distinct x value of its labels, and a histogram of the gaps between such values."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    _show_one(left, image, keypoints, None, 8)
    values = np.unique(keypoints[:, 0])
    left.vlines(values, -0.5, image.shape[0] - 0.5, color=TRUE, linewidth=0.5, alpha=0.6)
    left.set_title(f"{len(keypoints)} points share {len(values)} x values")
    left.axis("off")
    right.hist(100 * gaps, bins=np.arange(0, 12, 0.25))
    right.set(xlabel="gap between neighbouring x values (% of the face size)", ylabel="count", title="large faces")
    return _finish(figure)


def show_loss_curves(histories: dict[str, pd.DataFrame], log: bool = False) -> Figure:
    """Training and validation loss per epoch, and validation NME if all have it; {name: history of training.loop.fit}.

    log: a logarithmic loss axis with shared limits, for long runs whose last epochs matter.
    """
    with_error = all("validation NME %" in history for history in histories.values())
    figure, axes = plt.subplots(1, len(histories) + with_error, figsize=(10, 3.2), squeeze=False)
    style = {"marker": "o" if max(map(len, histories.values())) <= 30 else None, "markersize": 3}
    for ax, (name, history) in zip(axes[0], histories.items(), strict=False):
        ax.plot(history["epoch"], history["training loss"], **style, label="training")
        ax.plot(history["epoch"], history["validation loss"], **style, label="validation")
        ax.set(title=name, xlabel="epoch", ylabel="loss", **({"yscale": "log"} if log else {"ylim": (0, None)}))
        ax.legend(fontsize=8)
    if log:
        _share_y(axes[0][: len(histories)])
    if with_error:
        _show_nme(axes[0][-1], histories, style)
    for ax in axes[0]:
        ax.xaxis.get_major_locator().set_params(integer=True)
    return _finish(figure)


def _share_y(axes):
    limits = np.array([ax.get_ylim() for ax in axes])
    for ax in axes:
        ax.set_ylim(limits.min(), limits.max())


def _show_nme(ax, histories, style):
    for name, history in histories.items():
        ax.plot(history["epoch"], history["validation NME %"], **style, label=name)
    ax.set(title="validation error", xlabel="epoch", ylabel="NME (% of eye distance)")
    _log_axis(ax)
    _legend_beside(ax)


def show_error_curves(errors: dict[str, np.ndarray], up_to: float = 0.4) -> Figure:
    """Cumulative error curves: {name: NME per face (N,)}."""
    figure, ax = plt.subplots(figsize=(9, 4))
    for name, values in errors.items():
        thresholds, parts = metrics.error_curve(values, up_to)
        ax.plot(100 * thresholds, 100 * parts, label=name)
    ax.axvline(8, color="gray", linestyle=":", label="failure above 8 %")
    ax.set(xlabel="error (% of the outer-eye-corner distance)", ylabel="faces at or below (%)", ylim=(0, 101))
    ax.set_xlim(0, 100 * up_to)
    ax.grid(alpha=0.3)
    _legend_beside(ax)
    return _finish(figure)


def show_worst(pictures, true: np.ndarray, predicted: np.ndarray, count: int = 8, scheme: Scheme = IBUG_68) -> Figure:
    """The faces with the largest NME, worst first, each with its NME; pictures[i] belongs to true[i]."""
    errors = metrics.nme(predicted, true, scheme)
    worst = np.argsort(-errors)[:count]
    titles = [f"{100 * errors[i]:.1f} %" for i in worst]
    return show_images([pictures[i] for i in worst], true[worst], predicted[worst], titles, columns=6)


def show_best_and_worst(pictures, true: np.ndarray, predicted: np.ndarray, count: int = 4) -> Figure:
    """Top row: the faces with the smallest mean distance; bottom row: the largest; distances in pixels as titles."""
    errors = metrics.distances(predicted, true).mean(axis=1)
    order = np.argsort(errors)
    picks = [*order[:count], *order[-count:]]
    titles = [f"{errors[i]:.1f} pixels" for i in picks]
    return show_images([pictures[i] for i in picks], true[picks], predicted[picks], titles, columns=count)


def show_filters(weights: torch.Tensor, columns: int = 16) -> Figure:
    """The first input channel of convolution weights (out, in, k, k); dark is negative, bright positive."""
    kernels = weights.detach().cpu().float().numpy()[:, 0]
    limit = np.abs(kernels).max()
    rows = -(-len(kernels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(10, 10 / columns * rows * 1.25), squeeze=False)
    for index, ax in enumerate(axes.ravel()):
        ax.axis("off")
        if index < len(kernels):
            ax.imshow(kernels[index], cmap="gray", vmin=-limit, vmax=limit)
            ax.set_title(str(index), fontsize=7, pad=2)
    return _finish(figure)


def show_filtered(image: np.ndarray, kernels: np.ndarray, titles: list[str]) -> Figure:
    """Each kernel (k, k) above the response of cv2.filter2D on a gray image (H, W) in [0, 1]; mid-gray is zero."""
    figure, axes = plt.subplots(2, len(kernels), figsize=(10, 20 / len(kernels) * 1.1), squeeze=False)
    for (above, below), kernel, title in zip(axes.T, kernels, titles, strict=True):
        response = cv2.filter2D(image, cv2.CV_32F, kernel)
        for ax, picture in ((above, kernel), (below, response)):
            limit = np.abs(picture).max()
            ax.imshow(picture, cmap="gray", vmin=-limit, vmax=limit)
            ax.axis("off")
        above.set_title(title, fontsize=9)
    return _finish(figure)


def show_feature_maps(maps: torch.Tensor, count: int = 16, columns: int = 8) -> Figure:
    """The `count` strongest of one face's feature maps (C, H, W), each scaled to its own maximum."""
    strongest = maps.amax(dim=(1, 2)).argsort(descending=True)[:count].sort().values.tolist()
    rows = -(-len(strongest) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(10, 10 / columns * rows * 1.15), squeeze=False)
    for ax, index in zip(axes.ravel(), strongest, strict=False):
        ax.imshow(maps[index].detach().cpu().float().numpy(), cmap="viridis")
        ax.set_title(f"map {index}", fontsize=7, pad=2)
    for ax in axes.ravel():
        ax.axis("off")
    return _finish(figure)


def show_numbered(images, keypoints: np.ndarray, titles: list[str], numbers=(0, 16, 17, 26, 36, 45, 48, 54)) -> Figure:
    """Pictures in a row with ground truth (N, K, 2); the points in `numbers` are labelled with their number."""
    figure, axes = plt.subplots(1, len(images), figsize=(10, 10 / len(images) * 1.1), squeeze=False)
    for ax, image, points, title in zip(axes.ravel(), images, keypoints, titles, strict=True):
        _show_one(ax, image, points, None, 8)
        for number in numbers:
            ax.annotate(str(number), points[number], (3, 3), textcoords="offset points", color="white", fontsize=9,
                        path_effects=[withStroke(linewidth=2, foreground="black")])  # fmt: skip
        ax.set_title(title, fontsize=9)
        ax.axis("off")
    return _finish(figure)


def show_heatmaps(images, maps, titles: list[str], columns: int = 4) -> Figure:
    """Heatmaps (N, h, w), each over its picture and scaled to its own maximum."""
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(10, 10 / columns * rows * 1.1), squeeze=False)
    for ax in axes.ravel():
        ax.axis("off")
    for ax, image, heat, title in zip(axes.ravel(), images, maps, titles, strict=False):
        picture = to_image(image)
        height, width = picture.shape[:2]
        ax.imshow(0.5 * picture / (255 if picture.dtype == np.uint8 else 1), cmap="gray", vmin=0, vmax=1)  # dimmed
        heat = np.asarray(heat) / np.asarray(heat).max()
        ax.imshow(heat, cmap="inferno", alpha=np.sqrt(heat), extent=(-0.5, width - 0.5, height - 0.5, -0.5))
        ax.set_title(title, fontsize=9)
    return _finish(figure)


def show_curves(panels: dict[str, dict[str, pd.Series]]) -> Figure:
    """Curves over the epochs side by side: {label of the y axis: {name: one value per epoch}}."""
    figure, axes = plt.subplots(1, len(panels), figsize=(10, 3.4), squeeze=False)
    for ax, (label, curves) in zip(axes.ravel(), panels.items(), strict=True):
        for name, values in curves.items():
            ax.plot(np.arange(1, len(values) + 1), values, "o-", markersize=3, label=name)
        ax.set(xlabel="epoch", ylabel=label)
        ax.xaxis.get_major_locator().set_params(integer=True)
        _log_axis(ax)
    _legend_beside(ax)
    return _finish(figure)


def _log_axis(ax):
    """A logarithmic y axis with plain ticks at 1, 2, 5, 10, ..."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())


def _legend_beside(ax):
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))  # not on the curves


def _finish(figure: Figure, tight: bool = True) -> Figure:
    if tight:
        figure.tight_layout()
    plt.close(figure)  # otherwise a notebook would show it twice
    return figure
