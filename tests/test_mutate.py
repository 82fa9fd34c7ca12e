import ast

import pytest

from tools import mutate

SMALL = '''
"""A module."""

TABLE = {"half": 0.5}


def clipped(value: float | None = 2, low=-1, *, twice=True):
    """A docstring of 3 words."""
    if value < low or not twice:
        raise ValueError(f"{value + 1} is below {low}")
    return max(value, low) * 2
'''


@pytest.fixture
def small(tmp_path, monkeypatch):
    (tmp_path / "small.py").write_text(SMALL)
    monkeypatch.setattr(mutate, "ROOT", tmp_path)
    return mutate.faults_of("small.py", "small")


def test_faults_change_what_the_code_does_and_neither_strings_nor_types(small):
    assert {fault.what for fault in small} == {
        "0.5 -> 1.0", "2 -> 3", "2 -> 1", "-1 -> 1", "1 -> 2", "1 -> 0", "True -> False",
        "value < low -> value <= low", "value < low -> value >= low", "not twice -> twice",
        "value < low or not twice -> value < low and (not twice)",
        "value < low or not twice -> True", "value < low or not twice -> False",
        "raise ValueError(f'{value + 1} is below {low}') -> pass",
        "max -> min", "max(value, low) * 2 -> max(value, low) / 2",
    }  # fmt: skip


def test_every_fault_changes_one_line_of_valid_python(small):
    for fault in small:
        ast.parse(fault.source)
        lines = zip(fault.source.decode().splitlines(), SMALL.splitlines(), strict=True)
        assert [number for number, (new, old) in enumerate(lines, start=1) if new != old] == [fault.line]
    assert len({fault.key for fault in small}) == len(small)


def test_a_sample_is_repeatable_and_balanced_over_the_subjects():
    first, again, other = (mutate.sample(30, seed) for seed in (4, 4, 5))
    assert first == again and first != other and len(first) == 30
    counts = [sum(fault.subject == subject for fault in first) for subject in mutate.SUBJECTS]
    assert sum(counts) == 30 and max(counts) - min(counts) <= 1


def test_the_tests_that_execute_the_line_run_first_and_the_fastest_of_them_before_the_others(small, monkeypatch):
    monkeypatch.setitem(mutate.SUBJECTS, "small", (["small.py"], ["test_small.py"]))
    seconds = {"tests/test_small.py::a": 2.0, "tests/test_small.py::b": 1.0, "tests/test_small.py::c": 0.1}
    watched = {
        "seconds": seconds | {"tests/test_other.py::d": 0.0},
        "lines": {str(mutate.TREE / "small.py"): {str(small[0].line): list(seconds)[:2]}},
    }
    assert [test[-1] for test in mutate.tests_for(small[0], watched)] == ["b", "a", "c"]
