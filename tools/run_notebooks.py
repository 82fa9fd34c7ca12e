"""Execute the notebooks top to bottom, each in a fresh kernel.

    python -m tools.run_notebooks                       copies into build/notebooks/
    python -m tools.run_notebooks --in-place            the committed ones (before a commit)
    python -m tools.run_notebooks --only 3 4            some of them

On drawn faces their trainings are short, unless FULL=1; QUICK=1 cuts them to minutes on any data. KEYPOINTS_DATA
names the data folder.
"""

import argparse
import asyncio
import os
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

# About how many minutes each notebook takes on two cores: in full on the real data, and with short trainings.
MINUTES = {1: (1, 1), 2: (22, 2), 3: (1, 1), 4: (1, 1), 5: (45, 2), 6: (45, 2)}


def find_notebooks(numbers: list[int] | None = None) -> list[Path]:
    """The numbered notebooks at the top of the repository, in order; all, or those with these numbers."""
    notebooks = sorted(ROOT.glob("[0-9]*. *.ipynb"))
    return [path for path in notebooks if not numbers or number_of(path) in numbers]


def number_of(notebook: Path) -> int:
    """The number at the start of a notebook's name."""
    return int(notebook.name.split(".")[0])


class Loop(asyncio.SelectorEventLoop):
    """An event loop that ignores nbclient's faulty Ctrl-C handler, so that asyncio.Runner raises KeyboardInterrupt."""

    def add_signal_handler(self, *_):
        raise NotImplementedError  # nbclient then goes on without its handler, as on Windows


async def run_cells(client: NotebookClient) -> None:
    """Run all cells and always shut the kernel down."""
    try:
        await client.async_execute()
    except DeadKernelError:
        if asyncio.current_task().cancelling():  # nbclient takes Ctrl-C for a dead kernel
            raise asyncio.CancelledError from None
        raise


def execute(path: Path, target: Path) -> float:
    """Run one notebook and write it to target; returns the seconds it took.

    The kernel starts at the top of the repository, as in Jupyter, and is always shut down. Timings and
    machine-dependent metadata are left out, so that equal outputs give equal files. Raises CellExecutionError or
    DeadKernelError; the target then shows the error, unless it is the notebook itself, which is left unchanged.
    """
    notebook = nbformat.read(path, as_version=4)
    cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    bar = tqdm(total=cells, desc=path.stem, unit="cell", leave=False)
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        extra_arguments=["--IPKernelApp.log_level=50"],  # errors are in the notebook
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(ROOT)}},
        on_cell_executed=lambda **_: bar.update(),
    )
    start = time.perf_counter()
    try:
        with asyncio.Runner(loop_factory=Loop) as runner:
            runner.run(run_cells(client))
    except (CellExecutionError, DeadKernelError):
        if target != path:
            write(notebook, target)
        raise
    finally:
        bar.close()
    write(notebook, target)
    return time.perf_counter() - start


def forecast(notebooks: list[Path], full: bool) -> str:
    """A line that says about how long each notebook will take, in full or with short trainings."""
    minutes = {number: MINUTES.get(number, (1, 1))[0 if full else 1] for number in map(number_of, notebooks)}
    each = ", ".join(f"notebook {number}: {count}" for number, count in minutes.items())
    return f"minutes on two cores, at most: {each}"


def failure(notebook: Path, error: Exception) -> str:
    """A sentence that names the error, then the cell and its traceback without colour codes."""
    if isinstance(error, DeadKernelError):
        return f"{notebook.name} failed: its kernel died, perhaps for lack of memory"
    details = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    return f"{notebook.name} failed: {error.ename}: {error.evalue}\n{details}"


def write(notebook, target: Path) -> None:
    """Write a notebook atomically."""
    notebook.metadata = METADATA
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    nbformat.write(notebook, part)
    os.replace(part, target)


def main() -> None:
    """Run the notebooks; print the time, size and path of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--in-place", action="store_true")
    parser.add_argument("--only", type=int, nargs="+", metavar="N", help="numbers of notebooks")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "notebooks")
    args = parser.parse_args()
    notebooks = find_notebooks(args.only)
    if os.environ.get("QUICK") != "1":
        from data_sets.find import find_data
        from session import Length, run_length

        print(forecast(notebooks, run_length(find_data().kind) is Length.FULL), flush=True)
    for path in notebooks:
        target = path if args.in_place else args.output / path.name
        try:
            seconds = execute(path, target)
        except (CellExecutionError, DeadKernelError) as error:
            sys.exit(failure(path, error))
        except KeyboardInterrupt:
            print(f"Stopped in {path.name}; finished notebooks are kept.", file=sys.stderr)
            sys.exit(130)
        print(f"{seconds:6.0f} s  {target.stat().st_size / 1e3:5.0f} KB  {target}", flush=True)


if __name__ == "__main__":
    main()
