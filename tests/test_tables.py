import pandas as pd
import pytest

from tools import write_tables
from tools.write_tables import PAGES, fill


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.parent.name))
def test_the_tables_on_the_pages_are_those_of_the_results(page):
    text = page.read_text(encoding="utf-8")
    assert fill(text) == text, "run python -m tools.write_tables"


def test_a_table_is_put_between_its_marks_and_nowhere_else(tmp_path, monkeypatch):
    monkeypatch.setattr(write_tables, "RESULTS", tmp_path)
    page = "before\n<!-- speed -->\nold\n<!-- end -->\nafter\n<!-- ablation -->\nkept\n<!-- end -->\n"
    pd.DataFrame({"answer": ["a", "b"], "ms": [0.8456, None]}).to_csv(tmp_path / "speed.csv", index=False)
    rows = "| answer | ms |\n| --- | --- |\n| a | 0.85 |\n| b |  |\n"
    assert fill(page) == page.replace("old\n", rows)
