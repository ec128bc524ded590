"""Makes the checkout's .venv from pyproject.toml and constraints.txt; standard library only.

Called by run, test and book through environment.sh when .venv is missing or out of date. One process at a time
installs, the others wait; an installation that was interrupted is taken up again by the next call; what is
right already is not touched. Progress goes to standard error, pip's own words to .venv/install.log.
"""

import fcntl
import os
import re
import selectors
import shutil
import subprocess
import sys
import time
from pathlib import Path

EXTRAS = "book,test,site"


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


def torch_choices(root):
    """Requirements for torch, best first: where there is no GPU, the build that brings no CUDA libraries."""
    pin = re.search(r"^torch==\S+", (root / "constraints.txt").read_text(), re.M).group()
    return [f"{pin}+cpu", pin] if sys.platform == "linux" and not has_gpu() else [pin]


class Pip:
    """pip of the environment at `venv`, with a line of progress instead of its hundreds."""

    def __init__(self, root, venv):
        self.root, self.python, self.log = root, venv / "bin" / "python", venv / "install.log"
        self.env = {
            k: v
            for k, v in os.environ.items()
            if k not in ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV")
        }

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
    stamp = venv / "made-from"
    return stamp.exists() and stamp.read_text().split("\n", 1)[0] != str(root)


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


def make(root):
    """Brings root/.venv in step with the two files that describe it."""
    venv = root / ".venv"
    folder = os.open(root, os.O_RDONLY)  # the lock ends with this process, however that ends
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("another command is making the environment; waiting for it")
        fcntl.flock(folder, fcntl.LOCK_EX)
    stamp, wanted = venv / "made-from", recipe(root)
    if stamp.exists() and stamp.read_text().rstrip("\n") == wanted and works(venv):
        return
    started = time.monotonic()
    if moved(venv, root) or not works(venv):
        say(f"making {venv} with Python {sys.version.split()[0]}: a few minutes, once")
        create(venv)
    stamp.unlink(missing_ok=True)
    pip = Pip(root, venv)
    where = os.environ.get("TORCH_INDEX", "")
    index = (["--find-links", where] if os.path.isdir(where) else ["--extra-index-url", where]) if where else []
    choices = torch_choices(root)
    for choice in choices:
        if pip(f"[1/2] {choice}", "-c", "constraints.txt", *index, choice):
            break
        if choice != choices[-1]:
            say(
                "no CPU build of torch to be had here, so the general one is taken, which may bring 3 GB of CUDA\n"
                "  (TORCH_INDEX=<an index or a folder with CPU wheels of torch> avoids that)"
            )
    else:
        raise pip.failure("torch could not be installed")
    if not pip("[2/2] packages", "-c", "constraints.txt", "-e", f".[{EXTRAS}]"):
        raise pip.failure("the packages could not be installed")
    check = subprocess.run(
        [venv / "bin" / "python", "-c", "import torch, numpy, soundfile, amt_nb"],
        capture_output=True,
        text=True,
        cwd=venv,
    )
    if check.returncode:
        raise Failed("installed, but it does not import: " + check.stderr.strip().splitlines()[-1])
    fresh = venv / "made-from.new"
    fresh.write_text(wanted + "\n")
    fresh.replace(stamp)
    say(f"environment ready after {time.monotonic() - started:.0f} s: {venv}")


if __name__ == "__main__":
    try:
        make(Path(sys.argv[1]))
    except Failed as error:
        sys.exit(f"environment: {error}")
    except KeyboardInterrupt:
        say("\nenvironment: interrupted; the next call takes it up again")
        sys.exit(130)
    except OSError as error:
        sys.exit(f"environment: {error}")
