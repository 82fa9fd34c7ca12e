import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
import run_notebooks

from data_sets.drawn_faces import write_dataset
from data_sets.find import Kind
from session import Length, Session, run_length, show_source
from transforms import CenterCrop, Rescale

NOTEBOOKS = run_notebooks.find_notebooks()
names = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_the_notebooks_are_there():
    assert [path.name[:2] for path in NOTEBOOKS[:4]] == ["1.", "2.", "3.", "4."]


@names
def test_a_committed_notebook_is_executed_once_in_order_and_clean(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert set(notebook.metadata) == {"kernelspec", "language_info"} and path.stat().st_size < 1e6
    for cell in code:
        assert not cell.metadata, "timestamps would make every run a change"
        outputs = json.dumps(cell.outputs)
        assert all(output.output_type != "error" for output in cell.outputs)
        assert all(output.get("name") != "stderr" for output in cell.outputs), outputs[:300]
        assert not re.search(r"Warning:|application/vnd.jupyter.widget|/(work|root|home|tmp|Users)/", outputs)


@names
def test_a_committed_notebook_was_run_in_full_on_the_real_data(path):
    first = next(cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    printed = "".join(output.get("text", "") for output in first.outputs)
    assert "run: in full" in printed and "YouTube Faces" in printed


@pytest.fixture(scope="module")
def small_data(tmp_path_factory):
    """Drawn faces, about as few as the notebooks take with QUICK=1."""
    return write_dataset(tmp_path_factory.mktemp("data") / "drawn", num_training=120, num_test=32)


def in_turn(path):
    """Notebooks 3 and 4 use the network that notebook 2 has saved, so one worker runs them in this order."""
    marks = [pytest.mark.xdist_group("notebooks 2 to 4")] if path.name[0] in "234" else []
    return pytest.param(path, id=path.stem, marks=marks)


@pytest.mark.parametrize("path", [in_turn(path) for path in NOTEBOOKS])
def test_a_notebook_runs_top_to_bottom_on_drawn_faces(path, small_data, tmp_path, monkeypatch):
    monkeypatch.setenv("QUICK", "1")
    monkeypatch.setenv("KEYPOINTS_DATA", str(small_data))
    run_notebooks.execute(path, tmp_path / path.name)
    assert (tmp_path / path.name).stat().st_size > path.stat().st_size / 20


@pytest.mark.parametrize(
    ("kind", "quick", "full", "length"),
    [
        (Kind.PUBLISHED, "", "", Length.FULL),
        (Kind.OWN, "", "", Length.FULL),
        (Kind.DRAWN, "", "", Length.SHORT),
        (Kind.DRAWN, "", "1", Length.FULL),
        (Kind.PUBLISHED, "1", "1", Length.QUICK),
    ],
)
def test_trainings_are_short_on_drawn_faces_unless_asked_for(kind, quick, full, length, monkeypatch):
    monkeypatch.setenv("QUICK", quick)
    monkeypatch.setenv("FULL", full)
    assert run_length(kind) is length
    epochs = Session(None, kind, length, None).epochs(20)
    assert epochs == {Length.FULL: 20, Length.SHORT: 2, Length.QUICK: 1}[length]


def test_the_minutes_of_every_notebook_are_said():
    line = run_notebooks.forecast(NOTEBOOKS, full=True)
    assert [int(number) for number in re.findall(r"notebook (\d+)", line)] == [1, 2, 3, 4, 5, 6]
    assert max(short for _, short in run_notebooks.MINUTES.values()) <= 2


def test_code_is_shown_below_the_name_of_its_file():
    shown = show_source(Rescale, CenterCrop.offset).data
    assert shown.startswith("```python\n# transforms.py: Rescale\nclass Rescale:\n") and shown.endswith("```")
    assert "\n\n# transforms.py: CenterCrop.offset\ndef offset(self, room):\n    return" in shown


@pytest.fixture
def tiny(tmp_path):
    """tiny(code) -> a process that runs a notebook of one cell; its kernel's id is in the file `kernel`."""
    script = "import run_notebooks as r; r.ROOT = r.Path.cwd(); r.main()"

    def start(code):
        cell = nbformat.v4.new_code_cell(
            f"import os, pathlib\npathlib.Path('kernel').write_text(str(os.getpid()))\n{code}"
        )
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "1. Tiny.ipynb")
        command = [sys.executable, "-c", script, "--output", "copies"]
        env = os.environ | {"PYTHONPATH": str(Path(run_notebooks.__file__).parent), "QUICK": "1"}
        return subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True)

    return start


def is_running(number: str) -> bool:
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(os.name == "nt", reason="a process cannot be sent Ctrl-C there")
def test_ctrl_c_ends_with_a_sentence_and_shuts_the_kernel_down(tiny, tmp_path):
    process, kernel = tiny("import time; time.sleep(60)"), tmp_path / "kernel"
    while not (kernel.exists() and kernel.read_text()):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert (
        process.communicate(timeout=30)[1].splitlines()[-1] == "Stopped in 1. Tiny.ipynb; finished notebooks are kept."
    )
    assert process.returncode == 130 and not is_running(kernel.read_text())


@pytest.mark.parametrize(
    ("code", "sentence"),
    [("1 / 0", "ZeroDivisionError: division by zero"), ("os._exit(1)", "its kernel died, perhaps for lack of memory")],
)
def test_what_failed_is_said_plainly(code, sentence, tiny, tmp_path):
    process = tiny(code)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 1 and f"1. Tiny.ipynb failed: {sentence}\n" in error
    assert "\x1b[" not in error and "nbclient" not in error and (tmp_path / "copies" / "1. Tiny.ipynb").exists()
