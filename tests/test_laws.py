"""Laws of the house, read off the source: what may import what, what every public name has, what no file may hold."""

import ast
import functools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, BOOK = ROOT / "amt_nb", ROOT / "nbs"
CHAPTERS = sorted(BOOK.glob("[0-9]*.ipynb"))
LEAVES = {"pitch_shift", "aligners", "sheet", "cli", "index", "experiments"}
HEAVY = {
    "torch",
    "librosa",
    "soundfile",
    "matplotlib",
    "lightning",
    "music21",
    "numba",
    "pretty_midi",
    "mir_eval",
    "nnAudio",
    "pandas",
    "sklearn",
}
LIGHT = {
    "settings",
    "notes",
    "cqt",
    "synth",
    "recordings",
    "corpora",
    "metrics",
    "transcribe",
    "piano",
    "paths",
    "align",
    "cli",
}  # start without torch or numba


def number(path):
    """Number of a chapter from its file name."""
    return int(path.stem.split("_")[0])


@functools.cache
def code(path):
    """Sources of a notebook's code cells, magics turned into Python."""
    from IPython.core.inputtransformer2 import TransformerManager

    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [TransformerManager().transform_cell("".join(c["source"])) for c in cells if c["cell_type"] == "code"]


def module_of(path):
    """Name of the module a chapter exports."""
    return next((m.group(1) for c in code(path) if (m := re.search(r"#\|\s*default_exp\s+(\w+)", c))), None)


NUMBER_OF = {module_of(p): number(p) for p in CHAPTERS}


def imported(tree):
    """Modules of amt_nb that a parsed file imports, wherever it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            if node.level == 1:  # how the export writes amt_nb.module
                yield node.module
            elif node.module == "amt_nb":
                yield from (alias.name for alias in node.names if alias.name in NUMBER_OF or alias.name in LEAVES)
            elif node.module.startswith("amt_nb."):
                yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("amt_nb."))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_a_chapter_imports_only_earlier_ones(path):
    assert not [c for c in code(path) for n in ast.walk(ast.parse(c)) if isinstance(n, ast.ImportFrom) and n.level], (
        "imports are absolute"
    )
    trees = [ast.parse(c) for c in code(path)] + [ast.parse((PACKAGE / f"{module_of(path)}.py").read_text())]
    for name in {name for tree in trees for name in imported(tree)} - {module_of(path)}:
        assert name in NUMBER_OF, f"{path.name} imports amt_nb.{name}, which no chapter makes"
        assert NUMBER_OF[name] < number(path), (
            f"{path.name} imports amt_nb.{name} of the later chapter {NUMBER_OF[name]}"
        )
        assert name not in LEAVES, f"{path.name} imports the leaf amt_nb.{name}"


def top_level(tree):
    """Root names of what a file imports when it is imported itself."""
    todo = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, (ast.If, ast.Try, ast.With, ast.ClassDef)):
            todo += [n for n in ast.iter_child_nodes(node) if isinstance(n, ast.stmt)]


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("[a-z]*.py")), ids=lambda p: p.stem)
def test_heavy_imports_stay_inside_functions(path):
    may = set() if path.stem in LIGHT else {"torch", "numba"}  # what defines nets or kernels
    names = list(top_level(ast.parse(path.read_text())))
    heavy = {n for n in names if n.split(".")[0] in HEAVY - may or n.startswith("scipy.signal")}
    assert not heavy, f"{path.name} imports {sorted(heavy)} at its top"
    if path.stem in ("settings", "cli"):
        assert not {n.split(".")[0] for n in names} & {"numpy", "scipy", "joblib", "tqdm", "safetensors"}, (
            f"{path.name} must start at once"
        )


@pytest.mark.parametrize("module", ["amt_nb", "amt_nb.settings", "amt_nb.cli"])
def test_importing_loads_nothing_heavy(module):
    script = f"import sys, {module}; print(*sorted(m for m in {HEAVY | {'scipy'}!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_no_star_imports():
    sources = {p: [p.read_text()] for folder in (PACKAGE, ROOT / "tests", ROOT / "tools") for p in folder.glob("*.py")}
    sources |= {p: code(p) for p in BOOK.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts}
    stars = [
        p.name
        for p, texts in sources.items()
        for text in texts
        for n in ast.walk(ast.parse(text))
        if isinstance(n, ast.ImportFrom) and n.names[0].name == "*"
    ]
    assert not stars


def without_docstring(tree, prefix=""):
    """Names of public functions, classes and methods that say nothing about themselves (a class speaks for its forward and backward)."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            if node.name not in ("forward", "backward") and not ast.get_docstring(node):
                yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from without_docstring(node, f"{prefix}{node.name}.")


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("[a-z]*.py")), ids=lambda p: p.stem)
def test_every_public_name_has_a_docstring(path):
    assert not list(without_docstring(ast.parse(path.read_text())))


def tracked():
    """Text files of the checkout, as git lists them, else every file outside hidden folders."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    names = (
        done.stdout.decode().split("\0")
        if done.returncode == 0
        else [
            str(p.relative_to(ROOT))
            for p in ROOT.rglob("*")
            if p.is_file() and not any(x.startswith(".") for x in p.relative_to(ROOT).parts[:-1])
        ]
    )
    for name in filter(None, names):
        try:
            yield name, (ROOT / name).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue


def test_no_path_of_one_machine():
    private = re.compile(r"(?<![\w.~}/-])/(?:work|root|home|Users)/(?!someone)[\w.]")
    temporary = re.compile(r"(?<![\w.~}])/tmp/\w{3,}")
    found = [
        f"{name}: {m.group()}"
        for name, text in tracked()
        for m in [private.search(text) or temporary.search(text)]
        if m
    ]
    assert not found


def test_nothing_names_a_registry_or_a_neighbouring_folder():
    recipes, folders = {"constraints.txt", "pyproject.toml", "run", "test", "book"}, ("tools/", ".ci/", ".github/")
    hosts = [
        name
        for name, text in tracked()
        if (name in recipes or name.startswith(folders)) and re.search(r"https?://", text)
    ]
    assert not hosts, "recipes for installing name no address"
    pattern = re.compile(r"[\"'(]\.\./" + "shared")
    assert not [
        n
        for n, text in tracked()
        if n.startswith(("amt_nb/", "tests/", "tools/", "run", "test", "book")) and pattern.search(text)
    ]


def test_files_are_small_enough_for_git():
    big = [
        f"{n}: {(ROOT / n).stat().st_size / 1e6:.1f} MB"
        for n in subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
        if (ROOT / n).exists() and (ROOT / n).stat().st_size > 1e6 and not n.endswith(".safetensors")
    ]
    assert not big
    weights = sum(p.stat().st_size for p in PACKAGE.rglob("*.safetensors"))
    assert weights <= 12e6
