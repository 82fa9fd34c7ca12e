"""Train any recipe from the command line.

python train.py accurate                         # the network that ships; Ctrl-C and run again to resume
python train.py course-mse --epochs 5 --seed 1
"""

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from torch.utils.data import ConcatDataset

from data_sets.course import course_data
from data_sets.find import find_data
from data_sets.splits import real_splits
from facial_keypoints.images import DataError
from recipes import RECIPES, Recipe
from training.checkpoints import delete_checkpoints, stage_checkpoints
from training.device import keep_freed_memory
from training.loop import evaluate, fit
from training.weights import network_name, save_model

SAVED_MODELS = Path(__file__).resolve().parent / "saved_models"


def run_recipe(
    recipe: Recipe, training, validation=None, seed: int = 0, checkpoint: str | Path | None = None, **more
) -> tuple[nn.Module, pd.DataFrame]:
    """Build and train the network of a recipe, stage by stage; `more` goes to `fit`. Returns it with its history.

    The network has `.expects` of the recipe, as one of a weights file.

    training: a data set, or several that are mixed; checkpoint: of the first stage, that of the second lies beside it.
    """
    model, histories = recipe.build(seed), []
    parts = training if isinstance(training, tuple) else (training,)
    paths = stage_checkpoints(recipe, checkpoint) if checkpoint else [None] * len(recipe.stages)
    if checkpoint and not paths[0].is_file():
        delete_checkpoints(recipe, checkpoint)  # a second stage without its first continued another run
    for stage, path in zip(recipe.stages, paths, strict=True):
        data = ConcatDataset([part.with_transform(stage.training_transform) for part in parts])
        held_out = validation and validation.with_transform(stage.transform)
        histories.append(fit(model, data, held_out, **stage.settings(), seed=seed, checkpoint=path, **more))
        if len(histories[-1]) < stage.epochs:  # Ctrl-C
            break
    model.expects = recipe.expects
    history = pd.concat(histories, ignore_index=True)
    return model, history.assign(epoch=history.index + 1)


def train_and_save(
    recipe: Recipe, path: Path, training, validation=None, seed: int = 0, dtype=torch.float16
) -> nn.Module | None:
    """run_recipe into a weights file, with its checkpoints beside it until that is written; None after Ctrl-C.

    Half-trained weights never take the place of finished ones. Raises DataError, before it trains, for a network
    that load_model would not know.
    """
    network_name(recipe.network())
    model, history = run_recipe(recipe, training, validation, seed, checkpoint=path, progress=True)
    if len(history) < recipe.total_epochs:
        return None
    save_model(model, path, recipe.expects, dtype)
    delete_checkpoints(recipe, path)
    return model


def default_output(name: str, recipe: Recipe, seed: int) -> Path:
    """saved_models/NAME.pt, which may be a file that ships, for the recipe as it is; else a name that says how not."""
    epochs = "" if recipe.epochs == RECIPES[name].epochs else f"-{recipe.epochs}"
    return SAVED_MODELS / f"{name}{epochs}{f'-seed{seed}' if seed else ''}.pt"


def positive_integer(text: str) -> int:
    """For argparse: a whole number above zero."""
    if int(text) < 1:
        raise ValueError
    return int(text)


def main() -> None:
    """Train a recipe, save the weights, measure them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=RECIPES, help="; ".join(f"{n}: {r}" for n, r in RECIPES.items()))
    parser.add_argument("--epochs", type=positive_integer, help="instead of the recipe's (of its last stage)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="weights file (default: in saved_models/, named after all this)")
    args = parser.parse_args()
    keep_freed_memory()
    recipe = RECIPES[args.recipe]
    recipe = replace(recipe, epochs=args.epochs or recipe.epochs)
    output = args.output or default_output(args.recipe, recipe, args.seed)

    data = find_data()
    print(f"data: {data.about}\nrecipe: {recipe}\ncheckpoint: {stage_checkpoints(recipe, output)[0]}")
    if recipe.ships:
        split = real_splits(data)[0]
        print(f"300-W: {split.about}")
        training, validation = split.faces(recipe), None
        tests = {name: test.crops(test.exact_boxes(), recipe.transform) for name, test in split.tests.items()}
    else:
        training, validation, test = course_data(data.path)
        tests = {"validation": validation, "test": test}
        tests = {name: data.with_transform(recipe.transform) for name, data in tests.items()}
    dtype = torch.float16 if recipe.ships else torch.float32
    model = train_and_save(recipe, output, training, validation, args.seed, dtype)
    if model is None:  # Ctrl-C
        return
    print(f"weights: {output}")
    for name, data in tests.items():
        numbers = evaluate(model, data, recipe.expects)
        print(f"{name}: " + ", ".join(f"{key} {value:.3g}" for key, value in numbers.items()))


if __name__ == "__main__":
    try:
        main()
    except DataError as error:
        raise SystemExit(str(error)) from None
