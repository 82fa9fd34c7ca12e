"""The student versions: no marks unchanged, full marks with the real solutions, fewer with a mistake."""

import json
import os
import shutil
import subprocess
import sys

import nbformat
import pytest

from tools.exercises import EXERCISES
from tools.make_exercises import ASSIGNMENT, MODULES, ROOT, make, solution_of

# What nbgrader does with a submission: the cells in order, marks for every check that raises nothing.
GRADE = """
import json, pathlib, nbformat
marks = {}
for path in sorted(pathlib.Path().glob("*.ipynb")):
    names = {}
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "code":
            about, said = cell.metadata["nbgrader"], None
            try:
                exec(cell.source, names)
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
            if about["grade"]:
                marks[about["grade_id"].removesuffix("-check")] = (0 if said else about["points"], said)
print(json.dumps(marks))
"""


def grade(folder) -> dict[str, tuple[int, str | None]]:
    """The marks of every exercise, and what its check said."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}  # for the library; the folder's own modules come first
    done = subprocess.run(
        [sys.executable, "-c", GRADE], cwd=folder, env=env, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exercises")
    make(folder)
    return folder


@pytest.fixture
def solved(made, tmp_path):
    """solved(old, new) -> the students' folder with the real solutions, with one piece of code replaced."""

    def solve(old="", new=""):
        folder, replaced = tmp_path / ASSIGNMENT, 0
        shutil.copytree(made / "release" / ASSIGNMENT, folder)
        for name in MODULES:
            code = (ROOT / name).read_text(encoding="utf-8")
            replaced += bool(old) and code.count(old)
            (folder / name).write_text(code.replace(old, new) if old else code, encoding="utf-8")
        solutions = {exercise.name: solution_of(exercise) for exercise in EXERCISES if not exercise.place}
        for path in folder.glob("*.ipynb"):
            notebook = nbformat.read(path, as_version=4)
            for cell in notebook.cells:
                if cell["id"] in solutions:
                    code = solutions[cell["id"]]
                    replaced += bool(old) and code.count(old)
                    cell.source = code.replace(old, new) if old else code
            nbformat.write(notebook, path)
        assert replaced == bool(old), "the piece of code is there once"
        return folder

    return solve


def test_left_open_every_check_asks_for_the_code(made):
    marks = grade(made / "release" / ASSIGNMENT)
    assert marks.keys() == {exercise.name for exercise in EXERCISES}
    assert all(earned == 0 and said.startswith("NotImplementedError") for earned, said in marks.values())


def test_the_real_solutions_earn_full_marks(solved):
    marks = grade(solved())
    assert {name: earned for name, (earned, _) in marks.items()} == {e.name: e.marks for e in EXERCISES}, marks


@pytest.mark.parametrize(
    ("old", "new", "lost", "sentence"),
    [
        ("torch.randint(room + 1, ())", "torch.randint(room, ())", "random_crop", "the last place is 3"),
        (
            "return matrix, self.scheme.swap_sides(keypoints) if mirrored else keypoints",
            "return matrix, keypoints",
            "mirror",
            "kept their names",
        ),
        (
            ".astype(np.float32) / 255\n        return",
            ".astype(np.float32) / 255 / 255\n        return",
            "normalize",
            "once",
        ),
        (
            "transform_points(invert(matrix), expects.in_pixels(answer))",
            "expects.in_pixels(answer)",
            "way_back",
            "back",
        ),
    ],
    ids=["the off-by-one crop", "mirrored names", "255 twice", "not scaled back"],
)
def test_a_typical_mistake_loses_just_its_marks_and_is_named(old, new, lost, sentence, solved):
    marks = grade(solved(old, new))
    assert [name for name, (earned, _) in marks.items() if not earned] == [lost]
    said = marks[lost][1]
    assert said.startswith("AssertionError: ") and sentence in said and said.endswith(".") and "\n" not in said


def test_the_teachers_version_has_the_solutions_between_nbgraders_marks(made):
    for exercise in EXERCISES:
        cells = {
            version: {cell["id"]: cell for cell in nbformat.read(path, as_version=4).cells}
            for version in ("source", "release")
            for path in (made / version / ASSIGNMENT).glob(f"{exercise.notebook}.*.ipynb")
        }
        assert cells["source"].keys() == cells["release"].keys()
        for version in cells.values():
            check = version[f"{exercise.name}-check"].metadata["nbgrader"]
            assert check["grade"] and check["locked"] and check["points"] == exercise.marks and not check["solution"]
        if not exercise.place:
            source, release = (cells[version][exercise.name] for version in ("source", "release"))
            assert source.metadata["nbgrader"]["solution"] and not source.metadata["nbgrader"]["locked"]
            kept = [line for line in source.source.splitlines() if "### " not in line]
            assert kept == solution_of(exercise).splitlines()
            assert "SOLUTION" not in release.source and release.source.endswith("raise NotImplementedError()")
