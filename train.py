"""Train any recipe from the command line.

python train.py accurate                         # the network that ships; Ctrl-C and run again to resume
python train.py course-mse --epochs 5 --seed 1

On your own pictures and points:

python train.py fast --data FOLDER --scheme mine.toml --start saved_models/fast.pt

FOLDER holds pictures and keypoints.csv: a header row, then in every row a file name and x0, y0, x1, y1, ... in
pixels; an optional column "person" says who is in the picture. The course's layout and IMM's .asf files work too.
A fifth of the people (of the pictures, if there is no column "person") is held out for validation.
mine.toml describes the points, see facial_keypoints/schemes.py. Without it, 68 points count as those of 300-W;
any other number is trained without mirror images, with errors in percent of the box size. --start fine-tunes weights.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from torch.utils.data import ConcatDataset

from data_load import KeypointsDataset
from data_sets.course import course_data
from data_sets.find import find_data
from data_sets.own import own_data
from data_sets.splits import Split, real_splits
from facial_keypoints.images import DataError
from facial_keypoints.schemes import TWO_JAWS, Scheme, read_scheme
from recipes import RECIPES, Recipe
from training import processes
from training.checkpoints import delete_checkpoints, stage_checkpoints
from training.device import keep_freed_memory
from training.loop import evaluate, fit
from training.weights import network_name, save_model, start_from
from turned_heads.sources import make_views
from turned_heads.two_jaws import with_turned_heads

SAVED_MODELS = Path(__file__).resolve().parent / "saved_models"

# The minimum number of optimiser steps on one's own data: from scratch, and when fine-tuning.
STEPS, STEPS_FROM_START = 3000, 1000


def run_recipe(
    recipe: Recipe,
    training,
    validation=None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    start: Path | None = None,
    **more,
) -> tuple[nn.Module, pd.DataFrame]:
    """Build and train the network of a recipe, stage by stage; returns it with its training history.

    The network has the recipe's `.expects`, like one that load_model returns.

    training: a data set, or several that are mixed; checkpoint: where training is saved and resumed, see
    training.checkpoints.stage_checkpoints; start: weights to start from; more: arguments of `fit`.
    """
    model, histories = recipe.build(seed), []
    if start:
        print(f"start: {start_from(model, start)}")
    parts = training if isinstance(training, tuple) else (training,)
    paths = stage_checkpoints(recipe, checkpoint) if checkpoint else [None] * len(recipe.stages)
    if checkpoint and not paths[0].is_file():
        delete_checkpoints(recipe, checkpoint)  # without the first stage's, the second's is from another run
    for stage, path in zip(recipe.stages, paths, strict=True):
        transform = stage.training_transform
        data = ConcatDataset([part.with_transform(transform) for part in parts])
        held_out = validation and validation.with_transform(stage.transform)
        histories.append(fit(model, data, held_out, **stage.settings() | more, seed=seed, checkpoint=path))
        if len(histories[-1]) < stage.epochs:  # Ctrl-C
            break
    model.expects = recipe.expects
    history = pd.concat(histories, ignore_index=True)
    return model, history.assign(epoch=history.index + 1)


def train_and_save(
    recipe: Recipe,
    path: Path,
    training,
    validation=None,
    seed: int = 0,
    dtype=torch.float16,
    start: Path | None = None,
) -> nn.Module | None:
    """`run_recipe`, then save the weights to `path`; returns None after Ctrl-C.

    Checkpoints lie beside `path` and are deleted once the weights are written, so a weights file is always
    complete. Raises DataError, before training, for a network that load_model could not load.
    """
    network_name(recipe.network())
    model, history = run_recipe(recipe, training, validation, seed, checkpoint=path, start=start, progress=True)
    if len(history) < recipe.total_epochs:
        return None
    save_model(model, path, recipe.expects, dtype)
    delete_checkpoints(recipe, path)
    return model


def default_output(args: argparse.Namespace) -> Path:
    """saved_models/RECIPE.pt (for "fast" and "accurate" the shipped file); other options are added to the name."""
    parts = [
        args.recipe,
        args.data and args.data.resolve().name,
        args.start and f"from-{args.start.stem}",
        args.epochs and str(args.epochs),
        args.seed and f"seed{args.seed}",
    ]
    return SAVED_MODELS / f"{'-'.join(part for part in parts if part)}.pt"


@dataclass(frozen=True)
class Job:
    """A training job: a recipe, training data (one data set or several), validation data and tests.

    tests: name -> data set with the recipe's transform, evaluated after training.
    """

    recipe: Recipe
    training: KeypointsDataset | tuple
    validation: KeypointsDataset | None
    tests: dict


def training_data(recipe: Recipe, split: Split) -> tuple[KeypointsDataset, ...]:
    """The training data of a recipe: the faces of a split, and turned views of them if it predicts two jaw lines.

    Views that do not exist yet are made first.
    """
    if recipe.expects.scheme != TWO_JAWS:
        return split.faces(recipe)
    root = find_data().path
    if processes.index() == 0:
        make_views(root)
    processes.wait()
    return with_turned_heads(split, root)


def course_job(recipe: Recipe) -> Job:
    """A recipe on the course's frames; the shipped recipes train on 300-W and on turned views too."""
    data = find_data()
    print(f"data: {data.about}")
    if recipe.ships:
        split = real_splits(data)[0]
        print(f"300-W: {split.about}")
        tests = {name: test.crops(test.exact_boxes(), recipe.transform) for name, test in split.tests.items()}
        return Job(recipe, training_data(recipe, split), None, tests)
    training, validation, test = course_data(data.path)
    return Job(recipe, training, validation, prepared(recipe, {"validation": validation, "test": test}))


def own_job(recipe: Recipe, folder: Path, scheme: Scheme | None, start: bool, epochs: int | None) -> Job:
    """A recipe on one's own data, with its scheme; by default the epochs follow from the number of pictures."""
    training, validation, test = own_data(folder, scheme, whole_frames=recipe.expects.margin is None)
    print(f"data: {folder}, {training.scheme.name}: {len(training)} faces to learn from, {len(validation)} held out")
    recipe = replace(recipe.fine_tuning() if start else recipe, ships=False).for_scheme(training.scheme)
    recipe = recipe.lasting(epochs or recipe.enough_epochs(len(training), STEPS_FROM_START if start else STEPS))
    tests = {"validation": validation} | ({"test": test} if test else {})
    return Job(recipe, training, validation, prepared(recipe, tests))


def prepared(recipe: Recipe, tests: dict) -> dict:
    """The data sets with the recipe's transform."""
    return {name: data.with_transform(recipe.transform) for name, data in tests.items()}


def positive_integer(text: str) -> int:
    """For argparse: a whole number above zero."""
    if int(text) < 1:
        raise ValueError
    return int(text)


def arguments() -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=RECIPES, help="; ".join(f"{n}: {r}" for n, r in RECIPES.items()))
    parser.add_argument("--epochs", type=positive_integer, help="total number, default: the recipe's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="weights file (default: saved_models/, named after the options)")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="your own pictures and keypoints")
    parser.add_argument("--scheme", type=Path, metavar="FILE", help="landmark scheme of --data, a TOML file")
    parser.add_argument("--start", type=Path, metavar="FILE", help="weights to fine-tune")
    args = parser.parse_args()
    if args.scheme and not args.data:
        parser.error("--scheme needs --data")
    return args


def main() -> None:
    """Train a recipe, save the weights, evaluate them."""
    args = arguments()
    keep_freed_memory()
    recipe, output = RECIPES[args.recipe], args.output or default_output(args)
    if args.data:
        scheme = read_scheme(args.scheme) if args.scheme else None
        job = own_job(recipe, args.data, scheme, bool(args.start), args.epochs)
    else:
        recipe = replace(recipe, first=None) if args.start else recipe  # weights to start from replace the first stage
        job = course_job(recipe.lasting(args.epochs) if args.epochs else recipe)
    recipe = job.recipe
    print(f"recipe: {recipe}\ncheckpoint: {stage_checkpoints(recipe, output)[0]}")
    dtype = torch.float16 if recipe.ships else torch.float32
    model = train_and_save(recipe, output, job.training, job.validation, args.seed, dtype, args.start)
    if model is None:  # Ctrl-C
        return
    print(f"weights: {output} (for the library: python -m training.export {output})")
    for name, data in job.tests.items():
        numbers = evaluate(model, data, recipe.expects)
        print(f"{name}: " + ", ".join(f"{key} {value:.3g}" for key, value in numbers.items()))


if __name__ == "__main__":
    try:
        with processes.joined():
            main()
    except DataError as error:
        raise SystemExit(str(error)) from None
