"""The core does without every extra, each extra is missed in one line, the lock is what is installed, CUDA is never fetched."""

import ast
import functools
import importlib
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from amt_nb.workshop.cli import example_recording, make_parser
from amt_nb.workshop.extras import EXTRA_OF, install_line

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
environment = importlib.import_module("environment")

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M))
LOCK = {environment.name_of(name): version for name, version in LOCK.items()}


@functools.cache
def told_by(name):
    """What the installed package `name` requires, markers and all; None when it is not installed."""
    try:
        return [Requirement(r) for r in importlib.metadata.requires(name) or []]
    except importlib.metadata.PackageNotFoundError:
        return None  # `test_what_is_installed_is_what_is_locked` reports it


def closure(requirements):
    """Normal names of the installed packages that `requirements` bring here, themselves included."""
    found, todo = {}, [Requirement(r) for r in requirements]
    while todo:
        requirement = todo.pop()
        name = environment.name_of(requirement.name)
        for extra in requirement.extras or {""}:
            if extra in found.setdefault(name, set()):
                continue
            found[name].add(extra)
            todo += [r for r in told_by(name) or [] if not r.marker or r.marker.evaluate({"extra": extra})]
    return set(found)


CORE = closure(PROJECT["dependencies"])
MODULES = {
    module: {environment.name_of(d) for d in owners}
    for module, owners in importlib.metadata.packages_distributions().items()
}
BEYOND = sorted(m for m, owners in MODULES.items() if not owners & (CORE | {"amt-nb"}) and m.isidentifier())
ALONE = """\
import importlib.abc, sys
beyond = set(sys.argv.pop(1).split(","))
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in beyond:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from amt_nb.workshop.cli import main
sys.exit(main())
"""


def alone(*words, cwd, missing=BEYOND):
    """Runs `amt-nb` in the folder `cwd` as if the modules `missing` were not installed (default: all beyond the core)."""
    command = [sys.executable, "-c", ALONE, ",".join(missing), *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)


@pytest.fixture(scope="module")
def notes(tmp_path_factory):
    """MIDI of the example recording, as the core alone writes it."""
    folder = tmp_path_factory.mktemp("core")
    done = alone("transcribe", example_recording(), "--csv", "--json", "--no-progress", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert sorted(p.suffix for p in folder.iterdir()) == [".csv", ".json", ".mid"]
    return folder / "example.mid"


def test_extras_are_beyond_the_core():
    assert {"scipy", "matplotlib", "numba", "music21", "pytest"} <= set(BEYOND)
    assert not {"numpy", "soundfile", "soxr", "mido"} & set(BEYOND)


def test_the_core_alone_aligns(notes, tmp_path):
    done = alone("align", example_recording(), notes, "-o", "a.csv", "--midi", "--json", "--no-progress", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "a.json", "a.mid"]


def test_the_core_alone_reads_a_written_score(tmp_path):
    score = example_recording().with_name("example.musicxml")
    done = alone("align", example_recording(), score, "-o", "a.csv", "--no-progress", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_core_alone_shows_a_score(tmp_path):
    done = alone("score", example_recording().with_name("example.musicxml"), "-o", "s.csv", cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "s.csv").exists(), done.stderr


MISSED = [
    (["transcribe", "{example}", "--picture"], "--picture", "listen"),
    (["transcribe", "{example}", "--sound"], "--sound", "listen"),
    (["align", "{example}", "{notes}", "--picture"], "--picture", "listen"),
    (["align", "{example}", "{notes}", "--sound"], "--sound", "listen"),
    (["demo"], "demo", "listen"),
    (["prepare", "--data", "maps={folder}"], "prepare", "train"),
    (["train", "runs", "--data", "maps={folder}"], "train", "train"),
    (["adapt", "{example}"], "adapt", "listen,train"),
    (["sweep", "table1", "--data", "maps={folder}"], "sweep", "train"),
    (["evaluate", "--data", "maps={folder}"], "evaluate", "train"),
]


@pytest.mark.parametrize("words, what, extra", MISSED, ids=lambda x: " ".join(x[:1]) if isinstance(x, list) else x)
def test_a_missing_extra_is_one_line(words, what, extra, notes, tmp_path):
    words = [w.format(example=example_recording(), notes=notes, folder=tmp_path) for w in words]
    done = alone(*words, cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"amt-nb: {what} needs ") and f'pip install "amt-nb[{extra}]"' in done.stderr
    assert not list(tmp_path.iterdir())


def test_no_command_is_left_out():
    """Each command is run above with the core alone, or is known to need nothing more."""
    commands = make_parser()._subparsers._group_actions[0].choices
    assert set(commands) <= {"transcribe", "align", "score"} | {words[0] for words, _, _ in MISSED}


def test_what_does_not_load_is_one_line_too(tmp_path):
    done = alone("transcribe", example_recording(), cwd=tmp_path, missing=["numpy"])
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "numpy" in done.stderr, done.stderr


# ---- pyproject.toml, the table of extras, the lock ---------------------------------------------------------------


def imported(path):
    """Root names of all that a module imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (a.name.split(".")[0] for a in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


def test_every_import_is_asked_for():
    """What amt_nb imports is of the standard library, of the core, or in the table that `needs` speaks from."""
    asked = {environment.name_of(r) for r in PROJECT["dependencies"]}
    core = {module for module, owners in MODULES.items() if owners & asked}
    names = {n for p in (ROOT / "amt_nb").rglob("*.py") for n in imported(p)} - sys.stdlib_module_names - {"amt_nb"}
    inside = {"lightning_fabric", "llvmlite", "triton"}  # come with lightning, numba, torch
    assert names - core - set(EXTRA_OF) - inside == set()


@pytest.mark.parametrize("module", EXTRA_OF)
def test_the_table_of_extras_is_that_of_pyproject(module):
    """A module comes with the extra that the table names, and the core does without it."""
    owners = MODULES.get(module)
    if owners is None:
        pytest.skip(f"{module} is not installed")
    assert owners & closure(environment.requirements(ROOT, EXTRA_OF[module])) and not owners & CORE
    assert f"[{EXTRA_OF[module]}]" in install_line([module])


def reached():
    """Every installed package that pyproject.toml reaches here, with its version; those that are not there with None."""
    names = CORE | closure(environment.requirements(ROOT, "test"))
    if importlib.util.find_spec("torch") is None:
        names -= set(environment.NEED_TORCH)
    there = {environment.name_of(d.name): d.version for d in importlib.metadata.distributions()}
    return {name: there.get(name) for name in sorted(names - {"amt-nb"})}


def test_what_is_installed_is_what_is_locked():
    """The lock names everything that is reached from pyproject.toml, and it is what is installed."""
    plain = {name: version and version.partition("+")[0] for name, version in reached().items()}
    cuda = ("nvidia-", "cuda-", "triton")  # where there is a graphics card, torch says which
    wrong = {n: (v, LOCK.get(n)) for n, v in plain.items() if v != LOCK.get(n) and not n.startswith(cuda)}
    assert not wrong, "(installed, locked)"


def test_the_lock_satisfies_the_ranges():
    for line in [
        *PROJECT["dependencies"],
        *(r for e in PROJECT["optional-dependencies"] for r in environment.requirements(ROOT, e)),
    ]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(LOCK[environment.name_of(requirement.name)]), line


def test_all_is_all():
    """[all] is what the commands need beyond the core, [test] has everything."""
    extras = PROJECT["optional-dependencies"]
    need = lambda extra: {environment.name_of(r) for r in environment.requirements(ROOT, extra)}
    assert need("all") == need("listen") | need("score") | need("train") | need("pages")
    assert need("test") >= {environment.name_of(m) for m in EXTRA_OF if m not in ("IPython", "PIL", "nnAudio")}
    assert need("test") == set().union(*(need(extra) for extra in extras))


# ---- tools/environment.py ----------------------------------------------------------------------------------------


class Recorder:
    """Stands for `environment.Pip`: keeps what it is asked, and refuses what names one of the words `no`."""

    def __init__(self, no=()):
        self.root, self.no, self.asked = ROOT, no, []
        self.python, self.env, self.log = Path(sys.executable), {}, Path("/dev/null")

    def __call__(self, title, *arguments):
        self.asked.append(arguments)
        return not any(word in str(a) for a in arguments for word in self.no)

    def failure(self, what):
        return environment.Failed(what)


@pytest.fixture
def bare(monkeypatch):
    """A Linux machine without a graphics card and without TORCH_INDEX, on which uv finds nothing."""
    monkeypatch.delenv("TORCH_INDEX", raising=False)
    monkeypatch.setattr(environment, "has_gpu", lambda: False)
    monkeypatch.setattr(environment.sys, "platform", "linux")
    monkeypatch.setattr(environment, "by_uv", lambda *_: False)
    monkeypatch.setattr(environment, "brings_cuda", lambda *_: True)
    return monkeypatch


def test_run_needs_no_torch(bare):
    pip = Recorder()
    assert environment.install(pip, "run") and len(pip.asked) == 1
    names = {environment.name_of(r) for r in pip.asked[0][2:]}
    assert names == {"matplotlib", "midirenderer", "pretty-midi"}


def test_the_build_for_cpus_is_taken(bare):
    pip = Recorder()
    assert environment.install(pip, "test")
    assert [a[-1] for a in pip.asked[:1]] == [f"torch=={LOCK['torch']}+cpu"]
    assert any(environment.name_of(r) == "lightning" for r in pip.asked[1][2:])


def test_without_a_build_for_cpus_nothing_brings_torch(bare, capsys):
    """The general build would fetch gigabytes of CUDA: what needs it is left out, and that is said."""
    pip = Recorder(no=["+cpu"])
    assert not environment.install(pip, "test")
    assert len(pip.asked) == 2 and "-e" in pip.asked[1]
    names = {environment.name_of(r) for r in pip.asked[1][2:]}
    assert not names & set(environment.NEED_TORCH) and {"pytest", "music21", "scipy"} <= names
    assert "TORCH_INDEX" in capsys.readouterr().err


def test_uv_is_asked_before_torch_is_left_out(bare):
    bare.setattr(environment, "by_uv", lambda *_: True)
    pip = Recorder(no=["+cpu"])
    assert environment.install(pip, "test") and len(pip.asked) == 2


def test_a_general_build_without_cuda_is_taken(bare):
    bare.setattr(environment, "brings_cuda", lambda *_: False)
    pip = Recorder(no=["+cpu"])
    assert environment.install(pip, "test") and pip.asked[1] == (f"torch=={LOCK['torch']}",)


def test_a_folder_of_wheels_is_looked_at_first(bare, tmp_path):
    bare.setenv("TORCH_INDEX", str(tmp_path))
    pip = Recorder()
    assert environment.install(pip, "test") and pip.asked[0][:2] == ("--find-links", str(tmp_path))


def test_with_a_graphics_card_the_general_build_is_taken(bare):
    bare.setattr(environment, "has_gpu", lambda: True)
    pip = Recorder()
    assert environment.install(pip, "test") and pip.asked[0] == (f"torch=={LOCK['torch']}",)


def test_cuda_is_known_by_its_names(bare, monkeypatch, tmp_path):
    report = lambda *names: json.dumps({"install": [{"metadata": {"name": n}} for n in names]}).encode()
    monkeypatch.undo()
    for told, wanted in ((report("torch", "sympy"), False), (report("torch", "nvidia-cublas"), True), (b"", True)):
        done = subprocess.CompletedProcess([], 0, stdout=told)
        monkeypatch.setattr(environment.subprocess, "run", lambda *_, **__: done)
        assert environment.brings_cuda(Recorder(), "torch") is wanted
        monkeypatch.undo()


@pytest.mark.parametrize("name", ["lightning", "nnaudio"])
def test_what_needs_torch_is_known(name):
    """Exactly the requirements that bring torch are those that are left out without it."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    direct = {environment.name_of(r) for r in environment.requirements(ROOT, "test")}
    assert {n for n in direct if "torch" in closure([n])} == set(environment.NEED_TORCH)


def test_wheels_alone_and_the_lock_reach_pip(tmp_path, monkeypatch):
    """The real `Pip`, with a stand-in for the interpreter that writes down what it is called with."""
    stub = tmp_path / "venv" / "bin" / "python"
    stub.parent.mkdir(parents=True)
    stub.write_text('#!/bin/sh\necho "$PIP_CONSTRAINT $@"\n')
    stub.chmod(0o755)
    assert environment.Pip(tmp_path, tmp_path / "venv")("title", "a", "b")
    told = (tmp_path / "venv" / "install.log").read_text()
    assert "constraints.txt -m pip install" in told and "--only-binary=:all: a b" in told
