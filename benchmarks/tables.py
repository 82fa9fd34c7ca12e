"""The results folder, and merging new rows into a CSV file."""

from pathlib import Path

import pandas as pd

from data_sets.find import ROOT

RESULTS = ROOT / "results"


def merge_rows(table: pd.DataFrame, path: Path, keys: list[str], order=()) -> None:
    """Write rows to a CSV file, replacing rows with the same keys, sorted by the first key as in `order`."""
    parts = [pd.read_csv(path), table] if path.is_file() else [table]
    records = [record for part in parts for record in part.to_dict("records")]
    rows = {tuple(record[key] for key in keys): record for record in records}  # new rows replace old ones in place
    places = {name: place for place, name in enumerate(order)}
    table = pd.DataFrame(sorted(rows.values(), key=lambda record: places.get(record[keys[0]], 0)))
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)
