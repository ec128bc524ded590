"""Makes the checkout's .venv from pyproject.toml and constraints.txt; standard library only.

Called by run, test and book through environment.sh, with its own name, when .venv is missing, out of date or made for
a door that needs less. One process at a time installs, the others wait; an installation that was interrupted is taken
up again by the next call; what is right already is not touched. Wheels alone are taken, in the versions of
constraints.txt: nothing is compiled. Progress goes to standard error, pip's own words to .venv/install.log.

torch is the one package that exists in builds of very different size. Where there is no NVIDIA GPU no library of CUDA
is ever fetched: see `without_cuda`. Where no such build is to be had, what needs torch is left out, and ./test says so.
"""

import fcntl
import json
import os
import re
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

EXTRA = {"run": "listen", "book": "book", "test": "test"}  # what each door needs
INSIDE = {"run": ["run"], "book": ["run", "book"], "test": ["run", "book", "test"]}  # doors that it then serves
NEED_TORCH = ("torch", "lightning", "nnaudio")  # what brings torch with it
LOCK = "constraints.txt"


class Failed(Exception):
    """One line for the user."""


def say(text, end="\n"):
    """Writes `text` to standard error at once."""
    print(text, end=end, file=sys.stderr, flush=True)


def recipe(root):
    """What an environment is made from, as environment.sh writes it: the root's path and the two files' text."""
    return f"{root}\n{(root / 'pyproject.toml').read_text()}{(root / 'constraints.txt').read_text()}".rstrip("\n")


def has_gpu():
    """True where an NVIDIA GPU answers."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    try:
        return b"GPU" in subprocess.run([tool, "-L"], capture_output=True, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False


def name_of(requirement):
    """The normal form of the name in a requirement: 'PyYAML>=6' -> 'pyyaml'."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement).group()).lower()


def requirements(root, extra):
    """The requirements of an extra in root/pyproject.toml, those of the extras that it names itself included."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    found = []
    for requirement in project["optional-dependencies"][extra]:
        inner = re.fullmatch(re.escape(project["name"]) + r"\[([\w,]+)\]", requirement)
        found += [r for e in inner[1].split(",") for r in requirements(root, e)] if inner else [requirement]
    return found


class Pip:
    """pip of the environment at `venv`, with a line of progress instead of its hundreds."""

    def __init__(self, root, venv):
        self.root, self.python, self.log = root, venv / "bin" / "python", venv / "install.log"
        self.env = {
            k: v
            for k, v in os.environ.items()
            if k not in ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV")
        }
        self.env |= {"PIP_CONSTRAINT": LOCK, "PIP_BUILD_CONSTRAINT": LOCK}  # what builds this package is pinned too

    def __call__(self, title, *arguments):
        """Installs `arguments`; returns True when pip succeeded."""
        command = [
            self.python,
            "-m",
            "pip",
            "install",
            "--no-input",
            "--progress-bar",
            "off",
            "--disable-pip-version-check",
            "--only-binary=:all:",
            *arguments,
        ]
        started, packages, shown = time.monotonic(), 0, 0.0
        with open(self.log, "a", encoding="utf-8") as log:
            log.write(f"\n$ pip install {' '.join(map(str, arguments))}\n")
            process = subprocess.Popen(
                command,
                cwd=self.root,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            try:
                with selectors.DefaultSelector() as ready:
                    ready.register(process.stdout, selectors.EVENT_READ)
                    last = b""
                    while True:
                        if ready.select(timeout=1):
                            chunk = os.read(process.stdout.fileno(), 65536)
                            if not chunk:
                                break
                            log.write(chunk.decode("utf-8", "replace"))
                            log.flush()
                            *lines, last = (last + chunk).split(b"\n")
                            packages += sum(line.startswith((b"Collecting", b"Requirement already")) for line in lines)
                        seconds = time.monotonic() - started
                        if seconds - shown >= (1 if sys.stderr.isatty() else 20):
                            shown = seconds
                            say(
                                f"{title}: {packages} packages looked at, {seconds:.0f} s",
                                end="\r" if sys.stderr.isatty() else "\n",
                            )
                code = process.wait()
            except BaseException:
                process.terminate()
                process.wait()
                raise
        if code == 0:
            say(f"{title}: done in {time.monotonic() - started:.0f} s" + " " * 30)
        return code == 0

    def failure(self, what):
        """A `Failed` that shows the end of pip's log."""
        end = "\n    ".join(self.log.read_text(encoding="utf-8").rstrip().splitlines()[-8:])
        return Failed(
            f"{what}. The end of {self.log}:\n    {end}\nMend that (network? disk space?) and call again: what is installed is kept."
        )


def works(venv):
    """True when `venv` is an environment of this interpreter's version, with pip."""
    if not (venv / "pyvenv.cfg").exists():
        return False
    check = f"import sys, pip; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    try:
        return subprocess.run([venv / "bin" / "python", "-c", check], capture_output=True).returncode == 0
    except OSError:
        return False


def moved(venv, root):
    """True when `venv` was made for a checkout at another path (its scripts still name that path)."""
    return any(stamp.read_text().split("\n", 1)[0] != str(root) for stamp in venv.glob("made-from*"))


def create(venv):
    """Makes an empty environment with pip at `venv`, by ensurepip or else by the interpreter's own pip."""
    tries = [[sys.executable, "-m", "venv", "--clear", venv]]
    bare = [sys.executable, "-m", "venv", "--clear", "--without-pip", venv]
    seed = [sys.executable, "-m", "pip", "--python", venv / "bin" / "python", "install", "--no-input", "pip"]
    errors = []
    for steps in ([tries[0]], [bare, seed]):
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True, stdin=subprocess.DEVNULL)
            if done.returncode:
                errors += (done.stderr or done.stdout).strip().splitlines()[-1:]
                break
        else:
            return
    raise Failed(
        f"{sys.executable} cannot make a virtual environment ({'; '.join(errors)}). "
        "On Debian: apt install python3-venv; or set PYTHON to another Python 3.11 to 3.13."
    )


def brings_cuda(pip, requirement):
    """True unless pip, asked without fetching anything large, says that `requirement` comes without CUDA's libraries."""
    command = [pip.python, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    told = subprocess.run(
        [*command, "--only-binary=:all:", requirement], cwd=pip.root, env=pip.env, capture_output=True
    )
    try:
        names = [item["metadata"]["name"] for item in json.loads(told.stdout)["install"]]
    except (ValueError, KeyError):
        return True
    return any(name.startswith(("nvidia-", "cuda-", "triton")) for name in names)


def by_uv(pip, title, pin):
    """Installs the CPU build of torch with uv, which knows where its makers keep it; True when that succeeded.

    uv itself goes into a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="uv") as folder:
        if not pip(f"{title}: uv, to look for it", "--target", folder, "uv"):
            return False
        command = [Path(folder, "bin", "uv"), "pip", "install", "--python", pip.python, "--torch-backend", "cpu"]
        command += ["--only-binary", ":all:", "--constraint", LOCK, "--no-progress", pin]
        with open(pip.log, "a", encoding="utf-8") as log:
            log.write(f"\n$ uv pip install --torch-backend cpu {pin}\n")
            log.flush()
            return not subprocess.run(
                command, cwd=pip.root, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            ).returncode


def without_cuda(pip, title, pin, index):
    """Installs torch, `pin`, in a build without CUDA, from where the user says, pip's own sources, or by uv.

    Returns False when there is none for this Python and machine."""
    if pip(f"{title} for CPUs", *index, f"{pin}+cpu"):
        return True
    if not brings_cuda(pip, pin):  # where the general build is one for CPUs: macOS, and some others
        return pip(title, pin)
    return by_uv(pip, title, pin)


def torch(pip, title):
    """Installs torch as suits this machine. Returns False when there is no build that does without CUDA."""
    pin = re.search(r"^torch==\S+", (pip.root / LOCK).read_text(), re.M).group()
    where = os.environ.get("TORCH_INDEX", "")
    index = (["--find-links", where] if os.path.isdir(where) else ["--extra-index-url", where]) if where else []
    if sys.platform == "linux" and not has_gpu():
        return without_cuda(pip, f"{title} {pin}", pin, index)
    if not pip(f"{title} {pin}", *index, pin):
        raise pip.failure("torch could not be installed")
    return True


def install(pip, door):
    """Installs what `door` needs. Returns False when what needs torch had to be left out."""
    wanted = requirements(pip.root, EXTRA[door])
    need = [r for r in wanted if name_of(r) in NEED_TORCH]
    there = not need or torch(pip, "[1/2]")
    if not there:
        wanted = [r for r in wanted if r not in need]
        say(
            "no build of torch without CUDA is to be had here for this Python: what needs torch is left out\n"
            "  (TORCH_INDEX=<an index or a folder with such wheels> brings it)"
        )
    if not pip("[2/2] packages" if need else "[1/1] packages", "-e", ".", *wanted):
        raise pip.failure("the packages could not be installed")
    return there


def make(root, door):
    """Brings root/.venv in step with the two files that describe it, as far as `door` needs it."""
    venv = root / ".venv"
    folder = os.open(root, os.O_RDONLY)  # the lock ends with this process, however that ends
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("another command is making the environment; waiting for it")
        fcntl.flock(folder, fcntl.LOCK_EX)
    stamp, wanted = venv / f"made-from.{door}", recipe(root)
    torchless = venv / "no-torch"
    again = torchless.exists() and os.environ.get("TORCH_INDEX")
    if stamp.exists() and stamp.read_text().rstrip("\n") == wanted and works(venv) and not again:
        return
    started = time.monotonic()
    if moved(venv, root) or not works(venv):
        say(f"making {venv} with Python {sys.version.split()[0]}: once, a minute for ./run, a few for the others")
        create(venv)
    for old in venv.glob("made-from*"):
        if old.read_text().rstrip("\n") != wanted or old == stamp:
            old.unlink(missing_ok=True)
    torchless.unlink(missing_ok=True)
    if not install(Pip(root, venv), door):
        torchless.touch()
    check = subprocess.run(
        [venv / "bin" / "python", "-c", "import numpy, soundfile, av, lxml.etree, amt_nb"],
        capture_output=True,
        text=True,
        cwd=venv,
    )
    if check.returncode:
        raise Failed("installed, but it does not import: " + check.stderr.strip().splitlines()[-1])
    for served in INSIDE[door]:
        fresh = venv / f"made-from.{served}.new"
        fresh.write_text(wanted + "\n")
        fresh.replace(venv / f"made-from.{served}")
    say(f"environment ready after {time.monotonic() - started:.0f} s: {venv}")


if __name__ == "__main__":
    try:
        make(Path(sys.argv[1]), sys.argv[2])
    except Failed as error:
        sys.exit(f"environment: {error}")
    except KeyboardInterrupt:
        say("\nenvironment: interrupted; the next call takes it up again")
        sys.exit(130)
    except OSError as error:
        sys.exit(f"environment: {error}")
