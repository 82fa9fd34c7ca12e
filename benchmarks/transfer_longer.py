"""Train one of notebook 6's networks for longer and add its row to results/ibug_longer.csv.

python -m benchmarks.transfer_longer resnet18 20
"""

import argparse
from pathlib import Path

import pandas as pd

from benchmarks.tables import RESULTS, merge_rows
from data_sets.find import ROOT
from facial_keypoints.images import DataError
from models import count_parameters
from train import positive_integer
from transfer.experiments import LONGER, build_and_train, errors, predict_in_photos, split_faces
from transfer.networks import with_mirror_image


def main() -> None:
    """Train one network for longer and add its row and its curve to results/."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=LONGER)
    parser.add_argument("epochs", type=positive_integer)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the table and the curves")
    args = parser.parse_args()
    training, validation, about = split_faces()
    print(about)
    checkpoint = ROOT / "saved_models" / f"{args.network}_{args.epochs}.checkpoint"
    settings = LONGER[args.network] | {"epochs": args.epochs, "checkpoint": checkpoint, "progress": True}
    model, history = build_and_train(args.network, training, validation, **settings)
    if len(history) < args.epochs:  # Ctrl-C
        return
    keys = {"network": args.network, "epochs": args.epochs}
    row = {"parameters": count_parameters(model)} | errors(predict_in_photos(model, validation), validation)
    averaged = predict_in_photos(with_mirror_image(model), validation)
    row["NME %, mirror averaged"] = errors(averaged, validation)["NME %"]
    merge_rows(pd.DataFrame([keys | row]).round(3), args.output / "ibug_longer.csv", list(keys))
    merge_rows(history.assign(**keys).round(4), args.output / "ibug_longer_curves.csv", [*keys, "epoch"])
    checkpoint.unlink()
    print(pd.DataFrame([keys | row]).T.to_string(header=False))


if __name__ == "__main__":
    try:
        main()
    except DataError as error:
        raise SystemExit(str(error)) from None
