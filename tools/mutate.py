"""Put small faults into the core, one at a time, and see whether the tests notice.

python -m tools.mutate                        # 100 faults -> results/mutation.csv; resumes after Ctrl-C
python -m tools.mutate --count 30 --seed 1    # another sample, printed only

Each fault goes into a copy of the tree in build/mutation/, never into the tree itself. Tests that execute the changed
line run first, fastest first, then the module's other tests. Faults already noticed are cached until their module
changes; `make clean` clears the cache.
"""

import argparse
import ast
import copy
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "mutation"
TREE, WATCHED, TRIED = BUILD / "tree", BUILD / "watched.json", BUILD / "tried.json"
OUTPUT = ROOT / "results" / "mutation.csv"

# Every fault runs in a process of its own, forked from one that has already imported these, the slowest imports.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["cv2", "torch", "torchvision", "pandas", "pytest", "scipy.optimize", "skimage.data"])

SUBJECTS = {  # modules and their tests; the faults are divided evenly among the subjects
    "geometry": (["facial_keypoints/geometry.py"], ["test_geometry.py", "test_transforms.py"]),
    "transforms": (["transforms.py"], ["test_transforms.py", "test_augmentations.py"]),
    "metrics": (["metrics.py"], ["test_metrics.py", "test_protocol.py"]),
    "splits": (
        ["data_load.py", "data_sets/splits.py", "data_sets/ibug_300w.py"],
        ["test_data_load.py", "test_protocol.py", "test_ibug_300w.py"],
    ),
    "training": (
        ["training/loop.py", "training/losses.py", "training/checkpoints.py"],
        ["test_loop.py", "test_losses.py", "test_checkpoints.py", "test_train.py"],
    ),
    "pipeline": (
        [f"facial_keypoints/{name}.py" for name in ("pipeline", "network", "pose", "filters", "eyes")],
        ["test_pipeline.py", "test_library.py", "test_fuzz.py", "test_pose.py", "test_filters.py", "test_schemes.py"],
    ),
    "detectors": (
        ["detector_architectures/*.py"],
        ["test_haar.py", "test_yunet.py", "test_library.py", "test_pipeline.py"],
    ),
}

FLIPS = {
    ast.Lt: [ast.LtE, ast.GtE],
    ast.LtE: [ast.Lt, ast.Gt],
    ast.Gt: [ast.GtE, ast.LtE],
    ast.GtE: [ast.Gt, ast.Lt],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.In: [ast.NotIn],
    ast.NotIn: [ast.In],
    ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is],
}

OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
}

PAIRS = [("min", "max"), ("any", "all"), ("floor", "ceil"), ("argmin", "argmax"), ("mean", "sum"), ("cos", "sin")]
NAMES = {name: other for pair in PAIRS for name, other in (pair, pair[::-1])}

# Faults without an observable effect: the module, a part of the line, the fault.
EQUIVALENT = [
    # 1 - u is as uniform as u
    ("transforms.py", "uniform", "uniform(0, 1) -> uniform(1, 0)"),
    ("transforms.py", "uniform", "uniform(0, 255) -> uniform(255, 0)"),
    # Python can count the processors
    ("data_load.py", "os.cpu_count()", "1 -> 0"),
    ("data_load.py", "os.cpu_count()", "1 -> 2"),
    # the default of open() on Linux and macOS
    ("data_load.py", "open(", "open(csv_file, newline='', encoding='utf-8') -> open(csv_file, newline='')"),
    # OpenCV takes the size of the kernel from sigma unless it is above 0
    ("transforms.py", "GaussianBlur", "0 -> -1"),
    # a uniform random number practically never equals p
    ("transforms.py", "uniform", "uniform(0, 1) >= self.p -> uniform(0, 1) > self.p"),
    ("transforms.py", "uniform", "uniform(0, 1) < self.mirror -> uniform(0, 1) <= self.mirror"),
    ("transforms.py", "uniform", "uniform(0, 1) < self.p -> uniform(0, 1) <= self.p"),
    ("transforms.py", "uniform", "uniform(0, 1) < self.often -> uniform(0, 1) <= self.often"),
    # an angle is as likely as its negative
    ("transforms.py", "self.steep", "uniform(-self.steep, self.steep) -> uniform(self.steep, -self.steep)"),
    # the crop is scaled to the box, so the scale of the turned keypoints cancels out
    ("transforms.py", "similarity_matrix(self.turn", "1 -> 2"),
    # int(-0.5) is 0
    ("transforms.py", "uniform(0, 255)", "0 -> -1"),
    # three channels are never more than height and width
    ("facial_keypoints/geometry.py", "LONGEST_SIDE", "2 -> 3"),
    # any margin of at least a pixel of the small picture will do
    ("facial_keypoints/geometry.py", "* shrink", "2 -> 1"),
    ("facial_keypoints/geometry.py", "* shrink", "2 -> 3"),
    ("facial_keypoints/geometry.py", "* shrink", "np.floor -> np.ceil"),
    ("facial_keypoints/geometry.py", "* shrink", "np.ceil -> np.floor"),
    # a crop of the region that it needs is the same crop
    ("facial_keypoints/geometry.py", "LONGEST_SIDE", "shrink > 1 or max(image.shape[:2]) > LONGEST_SIDE -> True"),
    # all entries have the same number of points, otherwise reading raised a DataError
    ("data_sets/ibug_300w.py", "entries[0].points", "0 -> -1"),
    # heatmaps are square
    ("training/losses.py", "predicted.shape[-1]", "1 -> 2"),
    # the line that a warning is attributed to
    ("facial_keypoints/pipeline.py", "warnings.warn", "3 -> 2"),
    # how many bytes are read at a time
    ("detector_architectures/yunet.py", "read1", "16 -> 17"),
    ("detector_architectures/yunet.py", "read1", "16 -> 15"),
    # numpy infers any negative length from the others
    ("metrics.py", "reshape(-1", "1 -> 2"),
    # distances are symmetric
    ("metrics.py", "mean_distance", "mean_distance(predicted, true) -> mean_distance(true, predicted)"),
]


@dataclass(frozen=True)
class Fault:
    """One change of a module's source: the module with the change, where it is and what it is."""

    subject: str
    module: str
    line: int
    text: str  # the line before the change
    what: str
    source: bytes

    @property
    def key(self) -> str:
        """Identifies the fault in this version of its module."""
        return hashlib.sha256(self.source).hexdigest()


def changeable(node: ast.AST):
    """The nodes below `node` that do something: no annotations, messages or long tables of numbers.

    Nor zip(..., strict=True), which linters require even where the lengths cannot differ.
    """
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "exc"):
            continue
        for child in value if isinstance(value, list) else [value]:
            match child:
                case ast.Import() | ast.ImportFrom() | ast.JoinedStr() | ast.keyword(arg="strict"):
                    continue
                case ast.Assign() if sum(isinstance(n, ast.Constant) for n in ast.walk(child)) > 40:
                    continue
                case ast.AST():
                    yield child
                    yield from changeable(child)


def variants(node: ast.AST):
    """Pairs of a node and the source that replaces it: every small fault at this node."""

    def changed(**fields):
        other = copy.copy(node)
        for name, value in fields.items():
            setattr(other, name, value)
        return node, f"({ast.unparse(other)})"

    match node:
        case ast.Constant(value=bool(value)):
            yield changed(value=not value)
        case ast.Constant(value=int(value)):
            yield from (changed(value=value + step) for step in (1, -1))
        case ast.Constant(value=float(value)):
            yield changed(value=2 * value or 1.0)
        case ast.Compare(ops=[op]):
            yield from (changed(ops=[flip()]) for flip in FLIPS[type(op)])
        case ast.BinOp(op=op) | ast.BoolOp(op=op) if type(op) in OPERATORS:
            yield changed(op=OPERATORS[type(op)]())
        case ast.UnaryOp(operand=operand):
            yield node, f"({ast.unparse(operand)})"
        case ast.Name(id=name, ctx=ast.Load()) if name in NAMES:
            yield changed(id=NAMES[name])
        case ast.Attribute(attr=name, ctx=ast.Load()) if name in NAMES:
            yield changed(attr=NAMES[name])
        case ast.Call(args=arguments, keywords=keywords):
            alike = isinstance(node.func, ast.Name) and node.func.id in ("min", "max")  # the order is irrelevant
            if len(arguments) > 1 and not alike and not any(isinstance(a, ast.Starred) for a in arguments[:2]):
                yield changed(args=[arguments[1], arguments[0], *arguments[2:]])
            dropped = [keyword for keyword in keywords if keyword.arg not in (None, "strict")]
            yield from (changed(keywords=[k for k in keywords if k is not one]) for one in dropped)
        case ast.If(test=test) | ast.IfExp(test=test):
            yield from ((test, text) for text in ("(True)", "(False)"))
        case ast.Expr() | ast.AugAssign() | ast.Raise() | ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):  # a docstring
                yield node, "pass"


def faults_of(module: str, subject: str) -> list[Fault]:
    """Every small fault of a module that leaves it valid Python."""
    source = (ROOT / module).read_bytes()
    lines = source.splitlines(keepends=True)
    starts = [0, *accumulate(map(len, lines))]
    faults = {}
    for node in changeable(ast.parse(source)):
        for place, text in variants(node):
            begin = starts[place.lineno - 1] + place.col_offset
            end = starts[place.end_lineno - 1] + place.end_col_offset
            changed = source[:begin] + text.encode() + source[end:]
            old, new = (ast.unparse(place), text.removeprefix("(").removesuffix(")"))
            if text == "pass" or old != new:
                line = lines[place.lineno - 1].decode().strip()
                faults[changed] = Fault(subject, module, place.lineno, line, f"{old} -> {new}", changed)
    return list(faults.values())


def is_equivalent(fault: Fault) -> bool:
    """Whether a fault is one of EQUIVALENT."""
    return any((fault.module, fault.what) == (m, what) and part in fault.text for m, part, what in EQUIVALENT)


def sample(count: int, seed: int) -> list[Fault]:
    """`count` faults, divided evenly among the subjects."""
    chosen, shares = [], [count * (i + 1) // len(SUBJECTS) - count * i // len(SUBJECTS) for i in range(len(SUBJECTS))]
    for (subject, (patterns, _)), share in zip(SUBJECTS.items(), shares, strict=True):
        modules = sorted(str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern))
        faults = [fault for module in modules for fault in faults_of(module, subject)]
        shuffled = random.Random(seed).sample(faults, len(faults))
        chosen += [fault for fault in shuffled if not is_equivalent(fault)][:share]
    return chosen


def copy_tree() -> None:
    """Copy the working tree, except for what git ignores, to TREE."""
    shutil.rmtree(TREE, ignore_errors=True)
    files = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(files, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (TREE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, TREE / name)


# Run in TREE: measures how long each test takes and, for every line of the modules, which tests execute it.
WATCH = """
import coverage, json, pytest, sys
output, state, *files = sys.argv[1:]
tests = [file for file in files if file.startswith("tests/")]
watch = coverage.Coverage(data_file=None, include=[file for file in files if file not in tests])
seconds = {}
class Watcher:
    def pytest_runtest_protocol(self, item): watch.switch_context(item.nodeid)
    def pytest_runtest_logreport(self, report):
        seconds[report.nodeid] = seconds.get(report.nodeid, 0) + report.duration
watch.start()
code = pytest.main(["-x", "-p", "no:cacheprovider", *tests], plugins=[Watcher()])
watch.stop()
data = watch.get_data()
lines = {file: data.contexts_by_lineno(file) for file in data.measured_files()}
if not code:
    json.dump({"state": state, "seconds": seconds, "lines": lines}, open(output, "w"))
sys.exit(code)
"""


def watch_tests() -> dict:
    """Which tests execute which lines, in how many seconds; ends the script if they fail without any fault."""
    sources = sorted(path for path in TREE.rglob("*.py") if "build" not in path.parts[len(TREE.parts) :])
    state = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    if WATCHED.is_file() and (watched := json.loads(WATCHED.read_text()))["state"] == state:
        return watched
    print("running the tests once, watching which lines each executes", flush=True)
    modules = sorted({str(path) for patterns, _ in SUBJECTS.values() for p in patterns for path in TREE.glob(p)})
    tests = sorted({f"tests/{name}" for _, names in SUBJECTS.values() for name in names})
    done = subprocess.run([sys.executable, "-c", WATCH, WATCHED, state, *modules, *tests], cwd=TREE)
    if done.returncode:
        raise SystemExit("the tests fail without any fault: fix them first")
    return json.loads(WATCHED.read_text())


def tests_for(fault: Fault, watched: dict) -> list[str]:
    """The tests of the fault's subject: those that execute its line, then the others; the fastest first."""
    lines = watched["lines"].get(str(TREE / fault.module), {})
    files = {f"tests/{name}" for name in SUBJECTS[fault.subject][1]}
    tests = [test for test in watched["seconds"] if test.split("::")[0] in files]
    execute = set(lines.get(str(fault.line), []))
    return sorted(tests, key=lambda test: (test not in execute, watched["seconds"][test]))


def run_tests(tests: list[str], report: Path) -> None:
    """In a process of its own: pytest in TREE until the first test fails."""
    os.chdir(TREE)
    sys.path = [str(TREE), *(folder for folder in sys.path if Path(folder or ".").resolve() != ROOT)]
    sys.modules.pop("tools", None)
    with open(report, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.exit(pytest.main(["-x", "-q", "--tb=no", "-rfE", "-p", "no:cacheprovider", *tests]))


def noticed_by(fault: Fault, tests: list[str], limit: float) -> str:
    """The test that fails with the fault in place, "" if none does."""
    path, report = TREE / fault.module, BUILD / "report.txt"
    sound, process = path.read_bytes(), PROCESSES.Process(target=run_tests, args=(tests, report))
    try:
        path.write_bytes(fault.source)
        process.start()
        process.join(limit)
        if process.is_alive():
            return "the time limit"
    finally:
        process.kill()
        path.write_bytes(sound)
    failed = [line for line in report.read_text().splitlines() if line.startswith(("FAILED ", "ERROR "))]
    if failed:
        return failed[0].split(" ", 1)[1].split(" - ")[0]
    return "the import" if process.exitcode else ""


def try_all(faults: list[Fault]) -> pd.DataFrame:
    """Which test notices each fault, one row per fault; faults noticed before are not tried again."""
    tried = json.loads(TRIED.read_text()) if TRIED.is_file() else {}
    copy_tree()
    watched, rows = watch_tests(), []
    for number, fault in enumerate(faults, start=1):
        if not tried.get(fault.key):
            tests = tests_for(fault, watched)
            limit = 60 + 5 * sum(watched["seconds"][test] for test in tests)
            tried[fault.key] = noticed_by(fault, tests, limit) if tests else ""
            TRIED.write_text(json.dumps(tried))
        rows.append({"module": fault.module, "line": fault.line, "fault": fault.what, "noticed by": tried[fault.key]})
        missed = sum(not row["noticed by"] for row in rows)
        found = tried[fault.key] or "NOT NOTICED"
        print(f"{number:3d} ({missed} missed)  {fault.module}:{fault.line}  {fault.what}  {found}", flush=True)
    return pd.DataFrame(rows)


def main() -> None:
    """Draw faults, try them, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    os.environ.pop("KEYPOINTS_DATA", None)
    try:
        table = try_all(sample(args.count, args.seed))
    except KeyboardInterrupt:
        raise SystemExit("\ninterrupted; the same command resumes where it stopped") from None
    print(f"{(table['noticed by'] != '').sum()} of {len(table)} faults are noticed")
    if (args.count, args.seed) == (100, 0):
        table.to_csv(OUTPUT, index=False)


if __name__ == "__main__":
    main()
