"""Where results are written, and rows that replace their older selves."""

from pathlib import Path

import pandas as pd

from data_sets.find import ROOT

RESULTS = ROOT / "results"


def merge_rows(table: pd.DataFrame, path: Path, keys: list[str], order=()) -> None:
    """Put rows into a CSV file in the place of those with the same keys, sorted by the first key as in `order`."""
    if path.is_file():
        table = pd.concat([pd.read_csv(path), table], ignore_index=True)
        places = table.groupby(keys, sort=False, dropna=False).ngroup().sort_values(kind="stable")
        table = table.loc[places.index].drop_duplicates(keys, keep="last")
    places = {name: place for place, name in enumerate(order)}
    table = table.sort_values(keys[0], key=lambda names: names.map(lambda name: places.get(name, 0)), kind="stable")
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)
