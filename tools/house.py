"""What the book's structure is, read off its notebooks: chapters and parts, the module each exports, what it stands on.

python tools/house.py          prints the parts with their chapters, and what each stands on
python tools/house.py walk transcribe|align [RECORDING [SCORE]]
                               follows one recording through a command: which rooms it enters, and how often
"""

import ast
import functools
import json
import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = {  # folders of nbs/ that hold chapters, in reading order, with what a reader finds there
    "": "Start",
    "transcription": "Transcription: recordings become notes with almost no supervision [A]",
    "alignment": "Alignment: performances and scores, synchronised [B]",
    "sheet": "Sheet music: performances on printed pages [B]",
    "workshop": "Workshop: looked up when needed",
}
EXPERIMENTS = "experiments"
COLAB = "https://colab.research.google.com"
DOORS = (
    "workshop.cli",
    "workshop.cli_adapt",
    "workshop.cli_data",
    "workshop.cli_score",
    "workshop.cli_notes",
    "workshop.cli_pages",
    "workshop.cli_sweep",
)  # import everything, imported by each other alone


def chapters(root=ROOT):
    """Paths of all chapters, part by part, in reading order."""
    return [path for part in PARTS for path in sorted((root / "nbs" / part).glob("*.ipynb"))]


@functools.cache
def cells(path):
    """Cells of the notebook at `path` as (kind, source)."""
    return [(c["cell_type"], "".join(c["source"])) for c in json.loads(path.read_text(encoding="utf-8"))["cells"]]


def opening(path):
    """(title, sentence) of a chapter: its first line and the line behind `>`."""
    lines = [line.strip() for line in cells(path)[0][1].splitlines() if line.strip()]
    return lines[0].lstrip("# "), next((line.lstrip("> ") for line in lines if line.startswith(">")), "")


def term(path):
    """The standard term that a chapter's title begins with."""
    return opening(path)[0].partition(":")[0]


def module_of(path):
    """Dotted name, without the package's own, of the module that a chapter exports; None where it exports none."""
    found = (re.search(r"^#\|\s*default_exp\s+([\w.]+)", source, re.M) for _, source in cells(path))
    return next((m.group(1) for m in found if m), None)


def part_of(path):
    """Folder of nbs/ in which a chapter lies: '' for the ground floor."""
    return "" if path.parent.name == "nbs" else path.parent.name


def number(path):
    """Number in a chapter's file name, 51.02 for the 51b between 51 and 52; None where it has none."""
    found = re.match(r"(\d+)([a-i]?)_", path.name)
    return int(found[1]) + " abcdefghi".index(found[2] or " ") / 100 if found else None


@functools.cache
def trees(path):
    """Syntax trees of a notebook's code cells as (exported, tree), magics turned into Python."""
    from IPython.core.inputtransformer2 import TransformerManager

    code = [source for kind, source in cells(path) if kind == "code"]
    return [
        (bool(re.search(r"^#\|\s*exporti?\b", s, re.M)), ast.parse(TransformerManager().transform_cell(s)))
        for s in code
    ]


def imports(path, exported_only=True):
    """Dotted names of the modules of this package that a chapter imports, wherever it does."""
    found = set()
    for exported, tree in trees(path):
        for node in ast.walk(tree) if exported or not exported_only else ():
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("amt_nb"):
                inside = node.module.removeprefix("amt_nb").lstrip(".")
                packages = inside in PARTS
                found |= {f"{inside}.{a.name}".lstrip(".") for a in node.names} if packages else {inside}
            elif isinstance(node, ast.Import):
                found |= {a.name.removeprefix("amt_nb.") for a in node.names if a.name.startswith("amt_nb.")}
    return found


def stands_on(path, root=ROOT):
    """Chapters whose modules the module of `path` imports, in reading order; none for what exports nothing."""
    by_module = {module_of(p): p for p in chapters(root)}
    return [p for p in chapters(root) if p != path and p in {by_module.get(m) for m in imports(path)}]


def head(path, root=ROOT):
    """The line under a chapter's opening: what it stands on, as links. It is generated, so it cannot be wrong."""
    below = stands_on(path, root)
    links = {True: [], False: []}
    for other in below:
        target = os.path.relpath(other, path.parent).replace(os.sep, "/")
        workshop = part_of(other) == "workshop"
        links[workshop].append(f"[{other.stem if workshop else term(other)}]({target})")
    words = ["*Stands on* " + ", ".join(links[False])] * bool(links[False])
    words += [("from the workshop " if words else "*Stands on* the workshop's ") + ", ".join(links[True])] * bool(
        links[True]
    )
    return "; ".join(words) + "." if words else "*Stands on* nothing but Python."


@functools.cache
def address(root=ROOT):
    """The repository's address, from [project.urls] of pyproject.toml: whoever moves the project changes one line."""
    import tomllib

    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]


def colab(path):
    """The button that opens the notebook at `path` in Colab, as Markdown."""
    place = re.sub(r"^https?://github\.com/", "", address())
    opens = f"{COLAB}/github/{place}/blob/main/{path.relative_to(ROOT).as_posix()}"
    return f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({opens})"


def relative(path, target):
    """Link from the notebook at `path` to the file `target`, a path from the root of the checkout."""
    return os.path.relpath(ROOT / target, path.parent).replace(os.sep, "/")


def walk(command, recording, score=None):
    """How one recording goes through the package: (from which room, into which, by which function), in order.

    A room is entered when a function of it is called from a function of another one; the second walk counts, so that
    loading weights for the first time does not.
    """
    entries, package = [], str(ROOT / "amt_nb") + os.sep

    def room(code):
        name = code.co_filename
        return name[len(package) :].removesuffix(".py").replace(os.sep, ".") if name.startswith(package) else None

    def follow(frame, event, _):
        if event == "call" and (here := room(frame.f_code)) and frame.f_code.co_name != "<module>":
            caller = frame.f_back
            while caller and not room(caller.f_code):
                caller = caller.f_back
            there = room(caller.f_code) if caller else None
            if there != here:
                entries.append((there, here, frame.f_code.co_name))

    if command == "transcribe":
        from amt_nb.transcription.transcribe import transcribe_file as run

        arguments = (recording,)
    else:
        from amt_nb.alignment.align import align as run

        arguments = (recording, score)
    run(*arguments)
    sys.setprofile(follow)
    try:
        run(*arguments)
    finally:
        sys.setprofile(None)
    return entries


def show_walk(entries, home):
    """Prints the rooms that the command's own room sends a recording to, in order, and how often each is entered."""
    sent = [here for there, here, _ in entries if there in (None, home)]
    print("in order:", " > ".join(here for i, here in enumerate(sent) if i == 0 or sent[i - 1] != here))
    for name in dict.fromkeys(here for _, here, _ in entries):
        doors = [door for _, here, door in entries if here == name]
        print(f"{name:36} {len(doors):5} times by {', '.join(dict.fromkeys(doors))}")


def main():
    """Prints the house, or a walk through it."""
    if sys.argv[1:2] == ["walk"]:
        data = ROOT / "amt_nb" / "data"
        given = sys.argv[3:] or [data / "example.ogg", data / "example.musicxml"]
        home = {"transcribe": "transcription.transcribe", "align": "alignment.align"}[sys.argv[2]]
        show_walk(walk(sys.argv[2], *given), home)
        return
    for part, title in PARTS.items():
        print(f"\n{title}")
        for path in (p for p in chapters() if part_of(p) == part):
            print(f"  {path.stem:28} {opening(path)[0]}")
            print(f"  {'':28} {head(path)}")


if __name__ == "__main__":
    main()
