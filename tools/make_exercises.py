"""Student versions of notebooks 1 to 4 and their modules, with the parts of tools/exercises.py left open.

    python -m tools.make_exercises                writes build/exercises/

They are made from the current modules and notebooks, in nbgrader's format: release/facial_keypoints/ is for the
students; in source/facial_keypoints/ the cells have their solutions between nbgrader's marks. Both need the installed
library and torch, nothing else from this repository. To collect and grade, use build/exercises as nbgrader's course
folder: `nbgrader generate_assignment facial_keypoints` makes the same release/ from source/.
"""

import argparse
import ast
import inspect
import shutil
import textwrap
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools.exercises import EXERCISES, Exercise
from tools.run_notebooks import METADATA, ROOT, find_notebooks

ASSIGNMENT = "facial_keypoints"
MODULES = ("transforms.py", "models.py")
GIVEN = ("heatmaps.py",)  # imported by models.py
STUB = "# YOUR CODE HERE\nraise NotImplementedError()"


def find_function(code: str, name: str) -> ast.FunctionDef | None:
    """The definition of "function" or "Class.method" in a piece of code."""
    body = ast.parse(code).body
    for part in name.split("."):
        node = next((node for node in body if getattr(node, "name", None) == part), None)
        if node is None:
            return None
        body = node.body
    return node


def body_lines(function: ast.FunctionDef) -> slice:
    """The lines of a function's body, without its docstring, counted from 0."""
    first = function.body[ast.get_docstring(function) is not None]
    return slice(first.lineno - 1, function.end_lineno)


def body_of(code: str, name: str) -> str:
    """The body of a function, without its docstring and not indented."""
    return textwrap.dedent("\n".join(code.splitlines()[body_lines(find_function(code, name))]))


def with_body(code: str, name: str, body: str) -> str:
    """The code with another body for one function."""
    function, lines = find_function(code, name), code.splitlines()
    lines[body_lines(function)] = textwrap.indent(body, " " * function.body[0].col_offset).splitlines()
    return "\n".join(lines) + "\n"


def cells_of(number: int) -> list[str]:
    """The code cells of a notebook."""
    (path,) = find_notebooks([number])
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def solution_of(exercise: Exercise) -> str:
    """The cell that an exercise leaves open: the imports of what its function uses, and the function."""
    (name,) = exercise.functions
    first, *cells = cells_of(exercise.notebook)
    (cell,) = (cell for cell in cells if find_function(cell, name))
    function = ast.get_source_segment(cell, find_function(cell, name))
    used = {node.id for node in ast.walk(ast.parse(function)) if isinstance(node, ast.Name)}
    imports = []
    for node in ast.parse(first).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            node.names = [alias for alias in node.names if (alias.asname or alias.name) in used]
            imports += [ast.unparse(node)] if node.names else []
    return "\n".join([*imports, "\n", function]).lstrip() + "\n"


def graded(cell, name: str, marks: int | None = None, solution: bool = False):
    """A cell with nbgrader's metadata: read-only, a check with marks, or one to write."""
    about = {"grade_id": name, "grade": marks is not None, "solution": solution, "locked": not solution, "task": False}
    cell.metadata["nbgrader"] = about | {"schema_version": 3} | ({} if marks is None else {"points": marks})
    cell["id"] = name
    return cell


def cells_for(exercise: Exercise, body_wanted: bool) -> list:
    """The statement, the cell to write if the exercise is in the notebook, and the check."""
    where = f"\n\nWrite `{'` and `'.join(exercise.functions)}` in `{exercise.place}`, save it, and restart the kernel."
    statement = f"## {exercise.title} ({exercise.marks} marks)\n\n{inspect.getdoc(exercise.check)}"
    text = statement + (where if exercise.place else "")
    cells = [graded(new_markdown_cell(text), f"{exercise.name}-statement")]
    if not exercise.place:
        code, (name,) = solution_of(exercise), exercise.functions
        marked = f"### BEGIN SOLUTION\n{body_of(code, name)}\n### END SOLUTION"
        cell = with_body(code, name, marked if body_wanted else STUB)
        cells.append(graded(new_code_cell(cell.strip()), exercise.name, solution=True))
    check = body_of(textwrap.dedent(inspect.getsource(exercise.check)), exercise.name)
    return [*cells, graded(new_code_cell(check), f"{exercise.name}-check", marks=exercise.marks)]


def write_notebook(number: int, folder: Path, solutions: bool) -> None:
    """The exercises of one notebook, with or without the solutions of its cells."""
    (path,) = find_notebooks([number])
    own = [exercise for exercise in EXERCISES if exercise.notebook == number]
    title = f"# {path.stem}: exercises\n\nEach check below ends with a sentence that says what is still wrong."
    cells = [graded(new_markdown_cell(title), "title")]
    cells += [cell for exercise in own for cell in cells_for(exercise, solutions)]
    notebook = new_notebook(cells=cells, metadata=METADATA)
    nbformat.validate(notebook)
    nbformat.write(notebook, folder / path.name)


def open_module(name: str) -> str:
    """The code of a module with the bodies of its exercises left open."""
    code = (ROOT / name).read_text(encoding="utf-8")
    for exercise in EXERCISES:
        for function in exercise.functions if exercise.place == name else ():
            code = with_body(code, function, STUB)
    return code


def make(folder: Path) -> None:
    """Write both versions below a folder, in place of older ones."""
    for version in ("source", "release"):
        target = folder / version / ASSIGNMENT
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in MODULES:
            (target / name).write_text(open_module(name), encoding="utf-8")
        for name in GIVEN:
            shutil.copy(ROOT / name, target / name)
        for number in sorted({exercise.notebook for exercise in EXERCISES}):
            write_notebook(number, target, solutions=version == "source")


def main() -> None:
    """Write the exercises and say how many marks there are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "exercises")
    args = parser.parse_args()
    make(args.output)
    marks = sum(exercise.marks for exercise in EXERCISES)
    print(f"{len(EXERCISES)} exercises, {marks} marks: {args.output / 'release' / ASSIGNMENT}")


if __name__ == "__main__":
    main()
