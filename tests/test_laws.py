"""Laws of the house, read off the source: what may import what, what every public name has, what no file may hold."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
house = importlib.import_module("house")

PACKAGE, BOOK = ROOT / "amt_nb", ROOT / "nbs"
CHAPTERS = house.chapters()
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if not p.name.startswith("_"))
NOTEBOOKS = [ROOT / "index.ipynb", *CHAPTERS, *sorted((BOOK / "experiments").glob("*.ipynb"))]
CHAPTER_OF = {house.module_of(p): p for p in CHAPTERS if house.module_of(p)}
HEAVY = {
    "torch", "librosa", "soundfile", "matplotlib", "lightning", "music21", "numba", "pretty_midi", "mir_eval", "nnAudio", "pandas",
    "sklearn", "av", "lxml", "midirenderer",
}  # fmt: skip
MAY_LOAD_TORCH = {  # what defines nets, trains them or compiles kernels; everything else starts without torch and numba
    "transcription.score_vae", "transcription.translators", "transcription.discriminators", "transcription.cycle",
    "transcription.training", "transcription.step_speed", "transcription.unpaired", "transcription.collapse", "transcription.direct", "transcription.any_instrument", "transcription.conditions", "transcription.learnt_renderer", "transcription.adapting", "transcription.tables",
    "alignment.soft_dtw", "alignment.sasa_layer", "alignment.sasa_aligner", "alignment.unet_aligner", "alignment.one_shot",
    "alignment.dtw_baselines", "alignment.learnt_baselines", "alignment.table_one", "sheet.page_embeddings", "sheet.conditioned_unet",
    "workshop.checkpoints", "workshop.runs", "workshop.devices", "workshop.prefetch", "workshop.posteriors",
    "workshop.pools", "workshop.simd_lanes", "workshop.compiled", "workshop.soft_dtw_kernels", "workshop.soft_dtw_diagonals", "workshop.soft_dtw_gpu", "workshop.sasa_kernels",
}  # fmt: skip


def dotted(path):
    """Name of a module's file without the package's: 'workshop.settings'."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def is_ground(path):
    """True for a chapter that everything may stand on: the ground floor and the workshop, its doors left out."""
    return house.part_of(path) in ("", "workshop") and house.module_of(path) not in house.DOORS


def ids(path):
    """A chapter's name in the report of a test: its path below nbs/."""
    return str(path.relative_to(BOOK).with_suffix("")) if path.is_relative_to(BOOK) else path.stem


@pytest.mark.parametrize("path", CHAPTERS, ids=ids)
def test_imports_are_absolute_and_known(path):
    assert not [n for _, tree in house.trees(path) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level]
    unknown = house.imports(path, exported_only=False) - set(CHAPTER_OF) - {"", "amt_nb"}
    assert not unknown, f"no chapter makes {sorted(unknown)}"


def test_modules_import_each_other_without_a_circle():
    below = {name: house.imports(path) & set(CHAPTER_OF) - {name} for name, path in CHAPTER_OF.items()}
    while below:
        free = [name for name, names in below.items() if not names]
        assert free, f"a circle runs through {sorted(below)}"
        below = {name: names - set(free) for name, names in below.items() if name not in free}


@pytest.mark.parametrize("path", CHAPTERS, ids=ids)
def test_a_chapter_imports_only_what_lies_below_it(path):
    """Reading chapters import earlier ones, the ground floor and the workshop; those two import only each other."""
    if house.module_of(path) in house.DOORS:
        return
    for name in house.imports(path, exported_only=not house.number(path)) & set(CHAPTER_OF) - {house.module_of(path)}:
        other = CHAPTER_OF[name]
        assert name not in house.DOORS, f"{name} is a door: nothing imports it"
        if is_ground(path):
            assert is_ground(other), f"{ids(path)} is a foundation and imports {ids(other)}"
        elif not is_ground(other):
            assert house.number(other) < house.number(path), f"{ids(path)} imports the later {ids(other)}"


def defined(path):
    """Names that the module of a chapter defines itself."""
    exported = [node for exported, tree in house.trees(path) if exported for node in tree.body]
    return {name for node in exported for name in bound(ast.Module([node], []), {"assign", "define", "branches"})}


def imported_names(path):
    """(module, name) of everything that a file takes from the package by name."""
    trees = [ast.parse(path.read_text())] if path.suffix == ".py" else [tree for _, tree in house.trees(path)]
    nodes = [n for tree in trees for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module and not n.level]
    return {
        (n.module.removeprefix("amt_nb."), a.name) for n in nodes if n.module.startswith("amt_nb.") for a in n.names
    }


def test_a_name_is_imported_from_where_it_is_defined():
    """No module hands on what it has from another: a reader finds a name's chapter by its import."""
    own = {name: defined(path) for name, path in CHAPTER_OF.items()}
    python = [p for folder in ("tests", "tools", "benchmarks") for p in (ROOT / folder).glob("*.py")]
    taken = {(module, name, path.name) for path in [*NOTEBOOKS, *python] for module, name in imported_names(path)}
    wrong = sorted(t for t in taken if t[0] in own and t[1] not in own[t[0]])
    assert not wrong, f"(module, name, file): {wrong[:9]}"


@pytest.mark.parametrize("path", [p for p in CHAPTERS if house.module_of(p)], ids=ids)
def test_what_a_chapter_stands_on_is_said_under_its_title(path):
    assert house.head(path) in house.cells(path)[1][1], "python tools/chapters.py --export writes it"


@pytest.mark.parametrize("path", CHAPTERS, ids=ids)
def test_generated_cells_stand_once(path):
    """A copied chapter keeps no second line on what it stands on and no second cell that installs the book."""
    texts = [source for _, source in house.cells(path)]
    for start in ("*Stands on*", "#| hide\n# Where the book is not installed"):
        assert sum(text.startswith(start) for text in texts) <= 1, start


@pytest.mark.parametrize("path", CHAPTERS, ids=ids)
def test_a_chapter_has_one_subject(path):
    code = [s for kind, s in house.cells(path) if kind == "code" and "Where the book is not installed yet" not in s]
    words = sum(len(s.split()) for kind, s in house.cells(path)[2:] if kind == "markdown" and "| " not in s)
    assert len(code) <= 45, f"{len(code)} code cells: at most 45"
    assert words <= 1600, f"{words} words: at most 1,500 or so"


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_a_module_is_small(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500


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


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_heavy_imports_stay_inside_functions(path):
    may = {"torch", "numba"} if dotted(path) in MAY_LOAD_TORCH else set()
    names = list(top_level(ast.parse(path.read_text())))
    heavy = {n for n in names if n.split(".")[0] in HEAVY - may or n.startswith("scipy.signal")}
    assert not heavy, f"{path.name} imports {sorted(heavy)} at its top"
    if dotted(path) in ("workshop.settings", *house.DOORS):
        assert not {n.split(".")[0] for n in names} & {"numpy", "scipy", "joblib", "tqdm", "safetensors"}, (
            f"{path.name} must start at once"
        )


@pytest.mark.parametrize("module", ["amt_nb", "amt_nb.workshop.settings", "amt_nb.workshop.cli"])
def test_importing_loads_nothing_heavy(module):
    script = f"import sys, {module}; print(*sorted(m for m in {HEAVY | {'scipy'}!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_no_star_imports():
    python = [
        p for folder in (PACKAGE, ROOT / "tests", ROOT / "tools", ROOT / "benchmarks") for p in folder.rglob("*.py")
    ]
    parsed = {p: [ast.parse(p.read_text())] for p in python}
    parsed |= {p: [tree for _, tree in house.trees(p)] for p in NOTEBOOKS}
    nodes = [(p.name, n) for p, trees in parsed.items() for tree in trees for n in ast.walk(tree)]
    assert not [name for name, n in nodes if isinstance(n, ast.ImportFrom) and n.names[0].name == "*"]


def test_one_hand():
    """The formatter has nothing to do, and no line holds two statements."""
    where = ["nbs", "index.ipynb", "tests", "tools", "benchmarks"]
    ruff = [sys.executable, "-m", "ruff"]
    done = subprocess.run([*ruff, "format", "--check", "--quiet", *where], cwd=ROOT, capture_output=True, text=True)
    assert not done.returncode, f"ruff format {' '.join(where)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    done = subprocess.run(
        [*ruff, "check", "--select", "E702,E703,F811", *where], cwd=ROOT, capture_output=True, text=True
    )
    assert not done.returncode, done.stdout[-4000:]


def bound(tree, kinds):
    """Names that statements of these kinds bind at the top of a syntax tree, branches and loops included."""
    todo, found = list(tree.body), set()
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(a.asname or a.name).split(".")[0] for a in node.names} if "import" in kinds else set()
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found |= {node.name} if "define" in kinds else set()
        else:
            stored = [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
            inner = {
                n.id
                for c in ast.walk(node)
                if isinstance(c, ast.comprehension)
                for n in ast.walk(c.target)
                if isinstance(n, ast.Name)
            }
            branch = isinstance(node, ast.If | ast.Try) and "branches" not in kinds  # one of two ways to bind a name
            found |= set(stored) - inner if "assign" in kinds and not branch else set()
            todo += [n for n in ast.iter_child_nodes(node) if isinstance(n, ast.stmt)]
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)
def test_no_cell_rebinds_an_imported_name(path):
    brought, taken = set(), set()
    for _, tree in house.trees(path):
        brought |= bound(tree, {"import"})
        taken |= brought & bound(tree, {"assign", "define"})
    assert not taken, f"{sorted(taken)} are imported and then bound to something else"


def without_docstring(tree, prefix=""):
    """Names of public functions, classes and methods that say nothing about themselves (a class speaks for its forward and backward)."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            if node.name not in ("forward", "backward") and not ast.get_docstring(node):
                yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from without_docstring(node, f"{prefix}{node.name}.")


@pytest.mark.parametrize("path", MODULES, ids=dotted)
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
    texts = {n: text for n, text in tracked() if n in recipes or n.startswith(folders)}
    texts["pyproject.toml"] = re.sub(r"^\[project\.urls\]\n(?:.+\n)*", "", texts["pyproject.toml"], flags=re.M)
    elsewhere = r"https?://(?!colab\.research\.google\.com|127\.0\.0\.1|www\.w3\.org/2000/svg)"
    found = [f"{n}: {m.group()}" for n, text in texts.items() if (m := re.search(elsewhere + r"[\w.]\S*", text))]
    assert not found, "recipes for installing name no address; links lead to the code host alone"
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
