"""Executes chapters, each in a process of its own, and holds what they show to what is stored; then runs tests/.

    ./test                      every chapter, then every file of tests/, some at a time; those that drive a browser last, one at a time
    ./test 02 tests/test_cqt.py these alone (a number, a name or a file)
    ./test --write 02           executes chapter 02, stores its outputs, exports its module, remakes README.md
    ./test --export             writes amt_nb/ anew from all chapters, without executing any; --export 02: that one
    ./test --list               what there is

A chapter fails when a cell raises, when a cell prints something else than is stored (numbers may differ by one unit
of their last digit or by 1 %; pictures and sounds only have to be there), or when it takes more than its 60 seconds.

Three tags of a cell say what its numbers hang on:

    trained   weights that the chapter trains: each processor rounds in its own way, and some steps of an optimiser make
              of the last digit one that can be seen; the words must agree, and every number, whole or not, may be up to
              twice the stored one, or down to half of it, or five units of the last digit away
    varies    the clock or the machine: anything may be printed
    exact     nothing that differs, though something was trained: compared like a cell without a tag

tests/test_chapters.py finds the cells that must carry one of them (tools/trained.py says how). The time that counts is
the smaller of wall time and CPU time (a machine that is busy with something else stretches the first, several threads
the second), and the 60 seconds are stretched by how much slower this machine is than the one the budget was set on,
measured at the start.
"""

import argparse
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import house

ROOT = Path(__file__).resolve().parents[1]
BUDGET_S = 60  # a chapter's time on the machine of the next line
REFERENCE_S = 0.30  # CPU seconds of `measure_machine` there (2 cores, no load)
HANGS_S = 900  # wall time after which a process is ended, stretched as the budget is
INSTALL = """\
#| hide
# Where the book is not installed yet (Colab, for one), this cell installs it.
import importlib.util

if importlib.util.find_spec("amt_nb") is None:
    %pip install --quiet "amt-nb[book] @ git+{address}"
"""
MAP = "nbs/00_start.ipynb"  # the chapter with the map of both papers
NEED_TORCH = ("torch", "lightning", "nnAudio")  # what ./test may have had to leave out: see tools/environment.py
NO_TORCH = "needs torch, of which no build without CUDA was to be had here"
SKIPPED = 77  # exit code of a chapter that needs it
CELL_HANGS_S = 600  # wall time after which a cell is given up, so that the report can say which one it was
# how far a number in a cell tagged `trained` may be from the stored one: so many times, or units of the last digit
TRAINED_TIMES, TRAINED_UNITS = 2, 5
NUMBER = re.compile(r"[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?:[eE][-+]?\d+)?")


def chapters(root=ROOT):
    """Paths of the notebooks that are executed: the front page, then the chapters part by part, in reading order."""
    return [root / "index.ipynb"] * (root / "index.ipynb").exists() + house.chapters(root)


def name_of(path):
    """How a job is called in the report: the path from the root of the checkout."""
    return str(path.relative_to(ROOT))


# ---- what a notebook shows -------------------------------------------------------------------------------------


def joined(outputs):
    """What a cell put out, without stderr, the parts of a text on stdout as one: where a kernel cuts it differs from run to run."""
    kept = []
    for output in (o for o in outputs if not (o.output_type == "stream" and o.name == "stderr")):
        if kept and output.output_type == kept[-1].output_type == "stream":
            kept[-1] = type(output)(output | {"text": kept[-1].text + output.text})
        else:
            kept.append(output)
    return kept


def folded(source):
    """True for a code cell that a reader need not see: hidden ones, and those that only import."""
    lines = [
        line for line in re.sub(r"\([^)]*\)", "", source).splitlines() if line.strip() and not line.startswith("#|")
    ]
    imports = bool(lines) and all(re.match(r"(from|import)\s", line) for line in lines)
    return source.startswith("#| hide") or (imports and source.startswith("#| export"))


def tidy(nb):
    """Leaves of notebook `nb` (changed in place) what belongs into git: sources, tags, outputs without traces of a run.

    What an editor adds when it saves is set here too, so that a mere save changes nothing.
    """
    new = type(nb.metadata)
    nb.metadata = new(
        kernelspec={"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        language_info={"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
    )
    for cell in nb.cells:
        kept = {k: v for k, v in cell.metadata.items() if k == "tags" and v}
        if cell.cell_type == "code" and folded(cell.source):
            kept["jupyter"] = {"source_hidden": True}
        cell.metadata = new(kept)
        cell.pop("attachments", None)
        if cell.cell_type != "code":
            continue
        cell.execution_count = None
        cell.outputs = joined(cell.outputs)
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = None
    return nb


def furnish(nb, path):
    """Puts under the title of a chapter what it stands on, and before its first code the cell that installs the book.

    Both are generated: `nb` (changed in place) has them once, whatever was there.
    """
    if not path.is_relative_to(ROOT / "nbs") or path.parent.name == house.EXPERIMENTS:
        return nb
    from nbformat.v4 import new_code_cell, new_markdown_cell

    nb.cells = [cell for cell in nb.cells if cell.id not in ("stands-on", "install")]
    aim, target = ("the front page", "index.ipynb") if path.stem == "00_start" else ("the map of both papers", MAP)
    links = f"{house.colab(path)} [{aim}]({house.relative(path, target)})"
    above = f"{house.head(path)}\n\n{links}" if house.module_of(path) else links
    first_code = next(i for i, cell in enumerate(nb.cells) if cell.cell_type == "code")
    nb.cells.insert(first_code, new_code_cell(INSTALL.format(address=house.address()).rstrip(), id="install"))
    nb.cells.insert(1, new_markdown_cell(above, id="stands-on"))
    return nb


def text_of(nb):
    """The file text of notebook `nb`: sorted keys, one space of indentation, so that changes read well in git."""
    import nbformat

    return json.dumps(json.loads(nbformat.writes(nb)), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def shown(cell):
    """What a code cell shows: (its text, kinds of everything else, such as 'image/png', in order)."""
    words, things = [], []
    for output in joined(cell.outputs):
        if output.output_type == "stream":
            words.append(output.text)
        elif output.output_type == "error":
            words.append(f"{output.ename}: {output.evalue}")
        else:
            rich = sorted(kind for kind in output.data if kind not in ("text/plain", "text/html", "text/markdown"))
            things.append(rich[0] if rich else "text/html" if "text/html" in output.data else "text/plain")
            if not rich:
                words.append(output.data.get("text/plain") or output.data.get("text/markdown") or "")
    return re.sub(r" at 0x[0-9a-fA-F]+", "", "\n".join(words)), things


def same_number(stored, fresh, trained=False):
    """True when two printed numbers agree: whole ones exactly, others to one unit of the last digit or to 1 %.

    trained: they hang on trained weights; whole or not, one may be TRAINED_TIMES the other, or TRAINED_UNITS away."""
    if stored == fresh:
        return True
    whole = re.fullmatch(r"[-+]?[\d,]+", stored) and re.fullmatch(r"[-+]?[\d,]+", fresh)
    a, b = (float(x.replace(",", "")) for x in (stored, fresh))
    mantissa, _, power = stored.lower().partition("e")
    unit = 10.0 ** (int(power or 0) - len(mantissa.partition(".")[2]))
    if trained:
        return abs(a - b) <= max((TRAINED_UNITS + 0.001) * unit, (1 - 1 / TRAINED_TIMES) * max(abs(a), abs(b)))
    return a == b if whole else abs(a - b) <= max(1.001 * unit, 0.01 * abs(a))


def difference(stored, fresh, trained=False):
    """None when two texts say the same, else the first place where they do not, in one line. trained: see `same_number`."""
    a, b = (" ".join(text.split()) for text in (stored, fresh))
    words_a, words_b = (re.sub(r"\s+", " ", NUMBER.sub("#", text)) for text in (a, b))
    if words_a != words_b:
        at = next((i for i, (x, y) in enumerate(zip(words_a, words_b)) if x != y), min(len(words_a), len(words_b)))
        return f"stored {words_a[max(0, at - 30) : at + 50]!r}, now {words_b[max(0, at - 30) : at + 50]!r}"
    for x, y in zip(NUMBER.findall(a), NUMBER.findall(b)):
        if not same_number(x, y, trained):
            return f"stored {x}, now {y} (in {a[:60]!r})"
    return None


def compare(stored, fresh):
    """Lines saying where notebook `fresh`, just executed, shows something else than `stored`."""
    wrong = []
    for number, (old, new) in enumerate(zip(stored.cells, fresh.cells), 1):
        if old.cell_type != "code":
            continue
        first = old.source.strip().splitlines()[:1]
        where = f"cell {number} ({first[0][:60] if first else 'empty'})"
        (text_a, things_a), (text_b, things_b) = shown(old), shown(new)
        if things_a != things_b:
            wrong.append(f"{where}: stored outputs {things_a or 'none'}, now {things_b or 'none'}")
        elif bool(text_a.strip()) != bool(text_b.strip()):
            wrong.append(f"{where}: stored text {text_a.strip()[:60]!r}, now {text_b.strip()[:60]!r}")
        elif "varies" not in old.metadata.get("tags", []):
            found = difference(text_a, text_b, "trained" in old.metadata.get("tags", []))
            wrong += [f"{where}: {found}"] if found else []
    return wrong


# ---- one chapter, in this process --------------------------------------------------------------------------------


def execute(path):
    """Executes notebook `path` top to bottom in a fresh kernel whose folder is the notebook's own.

    Returns the executed notebook. Raises nbclient's CellExecutionError with the cell and its traceback. The user's
    own kernels, profiles and start-up files are left out of it.
    """
    import nbformat
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpecManager
    from nbclient import NotebookClient

    nb = nbformat.read(path, as_version=4)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    with tempfile.TemporaryDirectory(prefix="book") as scratch:
        os.environ.update(
            IPYTHONDIR=f"{scratch}/ipython",
            JUPYTER_RUNTIME_DIR=f"{scratch}/run",
            PYTHONHASHSEED="0",
            MPLBACKEND="module://matplotlib_inline.backend_inline",
        )
        os.mkdir(f"{scratch}/run")

        class Manager(AsyncKernelManager):
            """Starts this interpreter's kernel, and talks to it through sockets that have a name, so that no two can pick one port."""

            def __init__(self, **kw):
                super().__init__(**kw | {"kernel_spec_manager": KernelSpecManager(kernel_dirs=[])})
                if len(scratch) < 60:
                    self.transport, self.ip = "ipc", f"{scratch}/k"

        client = NotebookClient(
            nb, kernel_name="python3", timeout=CELL_HANGS_S, resources={"metadata": {"path": str(path.parent)}}
        )
        client.kernel_manager_class = Manager
        client.execute(env=dict(os.environ))
    return nb


def write(path, nb):
    """Stores executed notebook `nb` at `path`, tidied, and exports its module."""
    import nbformat

    house.cells.cache_clear()
    house.trees.cache_clear()
    nbformat.validate(store(path, nb))
    export(path)


def store(path, nb):
    """Puts notebook `nb`, tidy and furnished, at `path` in one step where that changes the file; returns it."""
    text = text_of(tidy(furnish(nb, path)))
    if text != path.read_text(encoding="utf-8"):
        fresh = path.with_suffix(".ipynb.tmp")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
    return nb


def export(path, library=ROOT / "amt_nb"):
    """Writes the module that the chapter at `path` exports, if it exports one."""
    if "#| default_exp" not in path.read_text(encoding="utf-8"):
        return
    from nbdev.export import nb_export

    nb_export(str(path), lib_path=str(library))


def furnish_all(paths=None):
    """Stores the notebooks at `paths` (all where None) tidy and furnished, without executing any."""
    import nbformat

    for path in paths or [*chapters(), *sorted((ROOT / "nbs" / house.EXPERIMENTS).glob("*.ipynb"))]:
        store(path, nbformat.read(path, as_version=4))


def export_all(root=ROOT):
    """Writes every module of root/amt_nb anew, and the index of names; what no chapter exports any more goes."""
    library = root / "amt_nb"
    os.chdir(root)
    for path in chapters(root):
        export(path, library)
    made = {
        library.joinpath(*name.split(".")).with_suffix(".py") for name in map(house.module_of, chapters(root)) if name
    }
    for module in library.rglob("*.py"):
        if module not in made and not module.name.startswith("_"):
            module.unlink()
    from nbdev.doclinks import _build_modidx

    _build_modidx()


def is_about_torch(error):
    """True for a cell that failed over an import of what the environment had to leave out."""
    found = re.match(r"No module named '(\w+)", getattr(error, "evalue", ""))
    return bool(found) and found[1] in NEED_TORCH and importlib.util.find_spec("torch") is None


def one(path, storing):
    """Executes one chapter; prints what is wrong with it. Returns the exit code."""
    import nbformat
    from nbclient.exceptions import CellExecutionError, CellTimeoutError

    try:
        fresh = execute(path)
    except (CellExecutionError, CellTimeoutError) as error:
        if is_about_torch(error):
            print(NO_TORCH)
            return SKIPPED
        print(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()[-3000:])
        return 1
    if storing:
        write(path, fresh)
        return 0
    wrong = compare(nbformat.read(path, as_version=4), fresh)
    print("\n".join(wrong + [f"./test --write {path.stem.partition('_')[0]} stores what it shows now"] * bool(wrong)))
    return bool(wrong)


# ---- all of them, two or more at a time --------------------------------------------------------------------------


def measure_machine():
    """CPU seconds of a fixed computation, best of three: how fast this machine is today."""
    import numpy as np

    best, a = float("inf"), np.random.default_rng(0).random((300, 300))
    for _ in range(3):
        start = time.process_time()
        for _ in range(40):
            a = np.cos(a @ a / 300)
        sum(i * i for i in range(1_500_000))
        best = min(best, time.process_time() - start)
    return best


class Runner:
    """Runs jobs as processes, reports each in a line, counts what passed."""

    def __init__(self, jobs, storing, allowance):
        self.jobs, self.storing, self.allowance = jobs, storing, allowance
        self.hangs_s = HANGS_S * allowance
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}
        self.done, self.running, self.lock, self.stopped = 0, set(), threading.Lock(), False
        self.env = dict(os.environ, OMP_NUM_THREADS="1", PYTHONUNBUFFERED="1")

    def process(self, command):
        """Runs `command`; returns (exit code or None when it was ended for taking too long, output, wall s, CPU s)."""
        with tempfile.TemporaryFile() as output:
            started = time.monotonic()
            with self.lock:
                if self.stopped:
                    return 1, "", 0.0, 0.0
                process = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=self.env,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                self.running.add(process.pid)
            late = threading.Timer(self.hangs_s, lambda: self.end(process.pid))
            late.start()
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            late.cancel()
            with self.lock:
                self.running.discard(process.pid)
            wall = time.monotonic() - started
            output.seek(0)
            return (
                None if wall >= self.hangs_s else process.returncode,
                output.read().decode("utf-8", "replace"),
                wall,
                used.ru_utime + used.ru_stime,
            )

    def end(self, pid):
        """Ends the process group of `pid` if it still runs."""
        with self.lock:
            if pid in self.running:
                os.killpg(pid, signal.SIGKILL)

    def chapter(self, path):
        """Runs one chapter; returns (passed, failed, skipped, remarks, seconds)."""
        code, output, wall, cpu = self.process(
            [sys.executable, __file__, "--one", str(path)] + ["--write"] * self.storing
        )
        if code == SKIPPED:
            return 0, 0, 1, output.strip(), f"{wall:5.1f} s ({cpu:.1f} CPU-s)"
        wrong = output.strip() if code else ""
        if code is None:
            wrong = f"still running after {self.hangs_s:.0f} s"
        elif code and not wrong:
            wrong = f"its process ended with {code}"
        limit = BUDGET_S * self.allowance
        if min(wall, cpu) > limit and not self.storing:
            wrong += f"\ntook {wall:.0f} s ({cpu:.0f} CPU-s); the budget is {limit:.0f} s"
        return not wrong, bool(wrong), 0, wrong, f"{wall:5.1f} s ({cpu:.1f} CPU-s)"

    def tests(self, path):
        """Runs one file of tests; returns (passed, failed, skipped, remarks, seconds)."""
        with tempfile.TemporaryDirectory(prefix="book") as folder:
            report = Path(folder) / "report.xml"
            code, output, wall, cpu = self.process(
                [
                    sys.executable,
                    "-m",
                    "pytest",
                    str(path),
                    "-q",
                    "-rs",
                    "-p",
                    "no:cacheprovider",
                    f"--junitxml={report}",
                    "--color=no",
                ]
            )
            try:
                suite = ElementTree.parse(report).getroot().find("testsuite")
                total, failed, skipped = (int(suite.get(k)) for k in ("tests", "failures", "skipped"))
                failed += int(suite.get("errors"))
            except (OSError, ElementTree.ParseError):
                total, failed, skipped = 1, 1, 0
        failed = max(failed, code not in (0, 5))
        skips = "\n".join(line for line in output.splitlines() if line.startswith("SKIPPED"))
        remarks = output.strip()[-6000:] if failed else skips
        if code is None:
            remarks += f"\nstill running after {self.hangs_s:.0f} s"
        return max(0, total - failed - skipped), failed, skipped, remarks, f"{wall:5.1f} s ({cpu:.1f} CPU-s)"

    def __call__(self, path):
        """Runs the job `path` and reports it."""
        passed, failed, skipped, remarks, seconds = (self.tests if path.suffix == ".py" else self.chapter)(path)
        with self.lock:
            if self.stopped:
                return
            self.done += 1
            for kind, n in zip(self.counts, (passed, failed, skipped)):
                self.counts[kind] += n
            word = "FAILED" if failed else "ok" if passed or not skipped else "skipped"
            print(
                f"[{self.done:2}/{len(self.jobs)}] {name_of(path):32} {word:7} {seconds}"
                + (f"  {passed} passed, {failed} failed, {skipped} skipped" if path.suffix == ".py" else ""),
                flush=True,
            )
            if remarks:
                print("    " + remarks.strip().replace("\n", "\n    "), flush=True)


def choose(words):
    """The jobs that `words` name: chapters by number or name, test files by name or path; everything without words."""
    every = chapters() + sorted((ROOT / "tests").glob("test_*.py"))
    if not words:
        return every
    chosen = []
    for word in words:
        stem = Path(word).stem
        found = [
            p
            for p in every
            if p.stem == stem
            or (p.suffix == ".ipynb" and (p.stem.startswith(stem + "_") or p.stem.partition("_")[2] == stem))
        ] or [p for p in every if stem == p.stem.removeprefix("test_") and p.suffix == ".py"]
        if not found:
            sys.exit(f"test: no chapter or test file is called {word}; ./test --list shows them all")
        chosen += [p for p in found if p not in chosen]
    return chosen


def state_of_tree():
    """What git says is changed or new in the checkout; None without git."""
    git = shutil.which("git")
    done = git and subprocess.run([git, "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout if done and done.returncode == 0 else None


def wants_the_machine(path):
    """Whether a job runs by itself, after all others: one that drives a browser measures how soon a page answers."""
    return path.name.endswith("_browser.py")


def main():
    """Parses the command line, runs the jobs, prints the count. Returns the exit code."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser = argparse.ArgumentParser(
        prog="./test", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="CHAPTER|FILE", help="what to run (default: everything)")
    parser.add_argument("--write", action="store_true", help="store what the chapters show instead of comparing it")
    parser.add_argument(
        "--export",
        action="store_true",
        help="write the package (or the named chapters' modules) anew from the chapters and stop",
    )
    parser.add_argument("--list", action="store_true", help="show the names and stop")
    parser.add_argument(
        "--jobs",
        type=int,
        default=max(1, min(4, cores)),
        metavar="N",
        help="processes at a time (default: %(default)s)",
    )
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return one(args.one.resolve(), args.write)
    if args.export and args.names:
        named = [path for path in choose(args.names) if path.suffix == ".ipynb"]
        furnish_all(named)
        for path in named:
            export(path)
        return 0
    if args.export:
        furnish_all()
        export_all()
        return 0
    jobs = choose(args.names)
    if args.write:
        jobs = [p for p in jobs if p.suffix == ".ipynb"]
    if args.list:
        print("\n".join(map(name_of, jobs)))
        return 0
    allowance = max(1.0, measure_machine() / REFERENCE_S)
    print(
        f"{len(jobs)} jobs, {args.jobs} at a time; a chapter may take {BUDGET_S * allowance:.0f} s "
        f"({BUDGET_S} s x {allowance:.2f} for this machine)",
        flush=True,
    )
    runner, before, started = Runner(jobs, args.write, allowance), state_of_tree(), time.monotonic()
    with ThreadPoolExecutor(args.jobs) as pool:
        try:
            list(pool.map(runner, [path for path in jobs if not wants_the_machine(path)]))
            list(map(runner, filter(wants_the_machine, jobs)))
        except KeyboardInterrupt:
            runner.stopped = True
            for pid in list(runner.running):
                runner.end(pid)
            pool.shutdown(cancel_futures=True)
            print("interrupted", file=sys.stderr)
            return 130
    if args.write:
        subprocess.run(
            [sys.executable, "-c", "from nbdev.doclinks import _build_modidx; _build_modidx()"], cwd=ROOT, check=True
        )
        subprocess.run([sys.executable, str(ROOT / "tools" / "readme.py")], check=True)
    elif os.environ.get("CI") and before != state_of_tree():
        runner.counts["failed"] += 1
        print(f"the run changed the checkout:\n{state_of_tree()}")
    print(f"{time.monotonic() - started:.0f} s in all")
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**runner.counts))
    return 1 if runner.counts["failed"] or not runner.counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
