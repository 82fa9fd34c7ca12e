"""The notebooks' text: links of GRADING.md and of the contents lists, short cells, numbers that outputs bear out."""

import re
from urllib.parse import unquote

import nbformat
import pytest

from tools.run_notebooks import ROOT, find_notebooks

NOTEBOOKS = {path.name: nbformat.read(path, as_version=4) for path in find_notebooks()}


def texts(notebook) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def sections(notebook) -> list[str]:
    return [title for text in texts(notebook) for title in re.findall(r"^## (.+)$", text, re.MULTILINE)]


def anchor(title: str) -> str:
    """As Jupyter and nbviewer make it."""
    return title.replace(" ", "-")


def test_every_requirement_leads_to_a_section_of_that_name():
    page = (ROOT / "GRADING.md").read_text(encoding="utf-8")
    links = re.findall(r"\[(\d), ([^\]]+)\]\(([^)#]+)#([^)]+)\)", page)
    assert len(links) == page.count(".ipynb") > 30
    for number, title, file, place in links:
        assert unquote(file).startswith(f"{number}. ") and title in sections(NOTEBOOKS[unquote(file)]), title
        assert unquote(place) == anchor(title)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_contents_list_links_every_section(name):
    first, *_ = texts(NOTEBOOKS[name])
    assert re.findall(r"^\d+\. \[(.+?)\]\(#(.+?)\)", first, re.MULTILINE) == [
        (title, anchor(title)) for title in sections(NOTEBOOKS[name])
    ]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_notebook_ends_with_what_we_take_along(name):
    assert sections(NOTEBOOKS[name])[-1] == "What we take along"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_cells_of_text_are_short(name):
    for text in texts(NOTEBOOKS[name]):
        prose = [line for line in text.splitlines() if not re.match(r"\||\d+\. \[|#", line)]
        assert len(" ".join(prose).split()) < 150, text[:80]


# Numbers with a point or in percent that no run changes: what others published, settings, examples.
SETTLED = {
    1: {"5 %": "an example of the ruler", "2 %": "the lattice, printed with a digit more", "3.1": "the lattice"},
    3: {"5 %": "what confidence is about", "79.5": "the middle of 160 pixels"},
    5: {"0.0011": "four times the published 0.000272"},
    6: {
        "1.5": "boxes in a crop",
        "1.78": "published",
        "7.73": "published",
        "5 %": "protocol.jittered",
        "8 %": "the same",
    },
}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_numbers_in_the_text_are_in_the_outputs(name):
    notebook = NOTEBOOKS[name]
    text = re.sub(r"\]\([^)]*\)", "", " ".join(texts(notebook)))
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = " ".join([cell.source for cell in code] + [str(cell.outputs) for cell in code])
    numbers = set(re.findall(r"\d+\.\d+|\d+ %", text)) - SETTLED.get(int(name[0]), {}).keys()
    assert not {number for number in numbers if number not in shown}
