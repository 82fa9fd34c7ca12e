"""Put the tables of results/ into the three README.md files, between <!-- NAME --> and <!-- end -->.

python -m tools.write_tables         after the benchmarks that wrote results/
"""

import re
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
PAGES = (ROOT / "README.md", RESULTS / "README.md", ROOT / "saved_models" / "README.md")
TESTS = {"official": "official", "unseen": "unseen people", "300-W": "300-W"}
SHIPPED = ("accurate", "fast")
ANSWERS = {"accurate-frontal": "accurate, no turned heads", "fast-frontal": "fast, no turned heads"}  # in pose.csv
TURNS = ("0-30", "30-60", "60-90")


def measured(labels: str = "centred") -> pd.DataFrame:
    """The rows of comparison.csv on "centred" labels (constant offset removed) or on labels "as published"."""
    return pd.read_csv(RESULTS / "comparison.csv").query("labels == @labels")


def by_turn(row: pd.Series, points: str, digits: int = 1) -> str:
    """The errors of a row of pose.csv at 0-30 / 30-60 / 60-90 degrees."""
    return " / ".join(f"{row[f'{points} {turn}']:.{digits}f}" for turn in TURNS if pd.notna(row[f"{points} {turn}"]))


def turned_heads() -> dict[str, str]:
    """The errors of each answer on the pose set in exact boxes, by turn."""
    table = pd.read_csv(RESULTS / "pose.csv").query("set == 'pose set' and boxes == 'exact'")
    return {ANSWERS.get(row["network"], row["network"]): by_turn(row, "all") for _, row in table.iterrows()}


def comparison() -> pd.DataFrame:
    """NME of every answer on every test, in exact / jittered / Haar's boxes, and on turned heads."""
    rows = {
        answer: {
            title: " / ".join(f"{row['NME %']:.2f}" for _, row in table[table["test"] == test].iterrows())
            for test, title in TESTS.items()
        }
        for answer, table in measured().query("boxes != 'yunet'").groupby("answer", sort=False)
    }
    table = pd.DataFrame(rows).T.rename_axis("answer").reset_index()
    return table.assign(**{"turned heads": table["answer"].map(turned_heads())})


def labels() -> pd.DataFrame:
    """NME in exact boxes on centred labels and on labels as published, where both were measured."""
    keys = ["answer", "test", "boxes"]
    both = measured().merge(measured("as published"), on=keys, suffixes=(", centred", ", as published"))
    columns = [column for column in both if column.startswith("NME %")]
    return both.query("boxes in ('exact', 'none')")[["answer", "test", *columns]].round(2)


def shipped() -> pd.DataFrame:
    """All measurements of the shipped networks."""
    table = pd.read_csv(RESULTS / "comparison.csv").query("answer in @SHIPPED")
    table["NME %"] = [f"{row['NME %']:.2f} ({row['from']:.2f} to {row['to']:.2f})" for _, row in table.iterrows()]
    numbers = ("median %", "NME by box %", "failures at 8 %", "failures at 10 %", "AUC to 8 %")
    table = table.assign(**{name: table[name].map("{:.2f}".format) for name in numbers})
    return table[["answer", "test", "boxes", "labels", "NME %", *numbers, "faces", "missed"]]


def parts() -> pd.DataFrame:
    """NME of the shipped networks by part of the face (exact boxes)."""
    table = measured().query("answer in @SHIPPED and boxes == 'exact'")
    names = [f"{part} %" for part in ("jaw", "brows", "nose", "eyes", "mouth")]
    return table[["answer", "test", *names]].round(2)


def whole(name: str, digits: int = 2):
    """A function that returns the table of a CSV file, rounded."""
    return lambda: pd.read_csv(RESULTS / f"{name}.csv").convert_dtypes().round(digits)


def buckets() -> pd.DataFrame:
    """The error by head turn, sharpness and light: a row per bucket, faces and NME of both networks."""
    table = pd.read_csv(RESULTS / "buckets.csv")
    table["column"] = table["test"] + ", " + table["network"]
    wide = table.pivot(index="bucket", columns="column", values="NME %").loc[table["bucket"].unique()]
    return wide.map("{:.2f}".format).reset_index()


def mutation() -> pd.DataFrame:
    """How many of the faults put into each module its tests noticed."""
    table = pd.read_csv(RESULTS / "mutation.csv")
    rows = table.groupby("module")["noticed by"].agg(faults="size", noticed="count").reset_index()
    rows.loc[len(rows)] = ["all", *rows[["faults", "noticed"]].sum()]
    return rows


def turned_ablation() -> pd.DataFrame:
    """The ablation's errors over all points at 0-30 / 30-60 / 60-90 degrees of yaw: a column for each set."""
    table = pd.read_csv(RESULTS / "turned_ablation.csv")
    table["cell"] = [by_turn(row, "all", 2) for _, row in table.iterrows()]
    wide = table.pivot(index="row", columns="set", values="cell")
    return wide.loc[table["row"].unique(), table["set"].unique()].reset_index()


def pose() -> pd.DataFrame:
    """NME by sqrt(w h) at 0-30 / 30-60 / 60-90 degrees of yaw: all points, inner points, jaw."""
    table = pd.read_csv(RESULTS / "pose.csv")
    cells = {points: [by_turn(row, points) for _, row in table.iterrows()] for points in ("all", "inner", "jaw")}
    return table[["network", "set", "boxes"]].assign(**cells, **{"spread correlation": table["spread correlation"]})


def pose_set() -> pd.DataFrame:
    """The shipped networks' rows of `pose` on the pose set."""
    return pose().query("network in @SHIPPED and set == 'pose set'").drop(columns="set")


def video() -> pd.DataFrame:
    """Error, jitter and lag of faces in videos; lengths in % of the box's longer side, before / after smoothing."""
    table = pd.read_csv(RESULTS / "video.csv")
    pairs = {
        name: [
            f"{before:.2f} / {after:.2f}" if pd.notna(after) else ""
            for before, after in table[[f"{name}, not smoothed", name]].itertuples(index=False)
        ]
        for name in ("error", "sway", "jitter")
    }
    counts = table[["what", "person", "frames", "lost", "identity switches"]]
    lag = table["lag, frames"].map("{:.2f}".format, na_action="ignore")
    return counts.assign(**pairs, **{"lag, frames": lag})


def video_filters() -> pd.DataFrame:
    """Jitter of filters in videos, in % of the box's longer side, before / after smoothing, and their lag."""
    table = pd.read_csv(RESULTS / "video_filters.csv")
    pairs = table[["jitter, not smoothed", "jitter"]].itertuples(index=False)
    table["cell"] = [f"{before:.2f} / {after:.2f}" for before, after in pairs]
    table["lag"] = table["lag, frames"].map("{:.2f}".format, na_action="ignore")
    wide = table.pivot(index="what", columns="filter", values=["cell", "lag"]).loc[table["what"].unique()]
    titles = {"cell": "jitter", "lag": "lag, frames"}
    columns = {
        f"{name}, {title}": wide[kind, name] for name in table["filter"].unique() for kind, title in titles.items()
    }
    return pd.DataFrame(columns).reset_index()


def peers() -> pd.DataFrame:
    """Ours and other pip packages: errors in jittered / own detectors' boxes, turned heads, speed and size."""
    errors = pd.read_csv(RESULTS / "peers.csv").assign(error=lambda table: table["error %"].map("{:.1f}".format))
    turned = errors["test"].str.startswith("turned")
    errors["column"] = errors["test"].where(~turned, "turned by 0-30 / 30-60 / 60-90")
    shown = errors[~turned | (errors["boxes"] == "jittered")]
    cells = shown.groupby(["answer", "column"], sort=False)["error"].agg(" / ".join)
    table = cells.reset_index().pivot(index="answer", columns="column", values="error")
    speed = pd.read_csv(RESULTS / "peers_speed.csv").set_index("answer").round(1)
    columns = ["ms a face, one core", "ms a photo of 1, two cores", "memory, MB", "installed, MB", "cold start, s"]
    table = table[shown["column"].unique()].join(speed[columns])
    return table.loc[shown["answer"].unique()].reset_index()


TABLES = {
    "comparison": comparison,
    "labels": labels,
    "shipped": shipped,
    "parts": parts,
    "buckets": buckets,
    "confidence": whole("confidence"),
    "speed": whole("speed"),
    "int8": whole("int8"),
    "library": whole("library"),
    "detector": whole("detector"),
    "ablation": whole("ablation"),
    "turned_ablation": turned_ablation,
    "seeds": whole("seeds"),
    "label_shift": whole("label_shift"),
    "first_pixel": whole("first_pixel"),
    "first_pixel_trends": whole("first_pixel_trends"),
    "pose": pose,
    "pose_set": pose_set,
    "head_pose": whole("head_pose"),
    "open_closed": whole("open_closed"),
    "filters": whole("filters"),
    "folder": whole("folder"),
    "video": video,
    "video_filters": video_filters,
    "video_speed": whole("video_speed", 1),
    "bulk": whole("bulk"),
    "bulk_forecast": whole("bulk_forecast"),
    "peers": peers,
    "peers_errors": whole("peers"),
    "peers_speed": whole("peers_speed", 1),
    "mutation": mutation,
}
# The CSV file of a table, if it has another name.
SOURCES = {name: "comparison" for name in ("labels", "shipped", "parts")} | {
    "peers_errors": "peers",
    "pose_set": "pose",
}


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown; missing values are empty cells."""
    rows = [table.columns, ["---"] * table.shape[1], *table.astype(object).fillna("").astype(str).values]
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def fill(text: str) -> str:
    """The text of a page with its tables replaced from results/; tables without a CSV file stay unchanged."""

    def replacement(match):
        if not (RESULTS / f"{SOURCES.get(match[1], match[1])}.csv").is_file():
            return match[0]
        return f"<!-- {match[1]} -->\n{markdown(TABLES[match[1]]())}\n<!-- end -->"

    return re.sub(rf"<!-- ({'|'.join(TABLES)}) -->\n.*?<!-- end -->", replacement, text, flags=re.DOTALL)


def main() -> None:
    """Fill the tables of all pages."""
    for page in PAGES:
        page.write_text(fill(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
