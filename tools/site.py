"""Makes the site: the front page and every notebook of the book as a page, from stored outputs; nothing is executed.

    python tools/site.py [FOLDER]     (default: _site)

Needs the extra `site` (pip install -e ".[site]"): Sphinx with MyST-NB and the theme Furo. The notebooks are prepared in
a temporary folder (`prepare`), Sphinx makes pages of them with every warning an error, and `dead_links` follows every
link of the result. Nothing is fetched, neither here nor by a page: mathematics, search and fonts come with the site.
"""

import base64
import hashlib
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
# the parts of the contents in reading order: folder below nbs -> caption; any other folder comes before the experiments
PARTS = {
    "": "Start",
    "transcription": "Transcription",
    "sheet": "Sheet music",
    "alignment": "Alignment",
    "workshop": "Workshop",
    "experiments": "Experiments",
}
PAPERS = {"CONTRIBUTING.md": "How to change a chapter", "LOG.md": "What was tried"}  # pages that are not notebooks
# a widget whose cell holds the key is replaced by this player; a chapter that exports a module of HOMES opens with it
PLAYERS = {"ShiftExplorer": "collapse"}
HOMES = {"collapse": ("collapse",)}
STILLS = {
    "collapse": "The shift of a transcriber moves: its notes go with it, the cycle loss stays, Frame F1 falls"
}  # media/NAME.gif
RAW = re.compile(
    r"""<(?:img|audio|source|video)\b[^>]*?\bsrc=["']([^"':]+)["']"""
)  # files that HTML in a cell shows or plays
BUTTON = re.compile(r"\[!\[([^]]*)\]\(https?:[^)]*\)\]\((https?://colab\.[^)]*)\)")  # becomes a link in words
BADGE = re.compile(
    r"""\[!\[[^]]*\]\(https?:[^)]*\)\]\([^)]*\)|!\[[^]]*\]\(https?:[^)]*\)|<img\b[^>]*src=["']https?:[^>]*>"""
)
HREF = re.compile(r"""(<a\b[^>]*?\bhref=["'])([^"':#]+)(#[^"']*)?(["'])""")
LINK = re.compile(r"(?P<before>\]\(<?)(?P<target>[^)\s>]+)(?P<after>>?(?:\s+\"[^\"]*\")?\))")


# ---- the book ------------------------------------------------------------------------------------------------------


def notebooks(root=ROOT):
    """Paths, from `root`, of the front page and all notebooks of the book, in reading order."""
    found = [p.relative_to(root) for p in (root / "nbs").rglob("*.ipynb")]
    found = [p for p in found if not any(part.startswith((".", "_")) for part in p.parts)]
    return [Path("index.ipynb"), *sorted(found, key=lambda p: (rank(folder_of(p)), p))]


def folder_of(path):
    """Folder of a chapter below nbs: "" for nbs itself."""
    return path.parts[1] if len(path.parts) > 2 else ""


def rank(folder):
    """Place of a part in the contents; a folder that PARTS does not know stands before the experiments."""
    known = list(PARTS)
    return known.index(folder) if folder in known else len(known) - 1.5


def title_of(nb, path):
    """The first heading of notebook `nb`."""
    for cell in nb.cells:
        if cell.cell_type == "markdown" and (found := re.search(r"^# +(.+?)\s*$", cell.source, re.M)):
            return found.group(1)
    raise SystemExit(f"site: {path} has no heading to be its title")


def short_title(title, path):
    """How a page is called in the contents: its number, and its title as far as the colon."""
    number = re.match(r"\d+[a-i]?", path.stem)
    term = re.sub(r"^Experiment: *", "", title).split(": ")[0]
    return f"{number.group()} {term[0].upper()}{term[1:]}" if number else term


def contents(titles):
    """MyST text of the contents: {path: title} -> one hidden toctree a part."""
    parts = {}
    for path, title in titles.items():
        if path != Path("index.ipynb"):
            folder = folder_of(path)
            parts.setdefault(PARTS.get(folder, folder.capitalize()), []).append(
                f"{short_title(title, path)} <{path.with_suffix('')}>"
            )
    parts["About"] = [f"{title} <{Path(name).stem}>" for name, title in PAPERS.items() if (ROOT / name).exists()]
    return "\n\n".join(
        "```{toctree}\n:hidden:\n:caption: " + caption + "\n\n" + "\n".join(entries) + "\n```"
        for caption, entries in parts.items()
        if entries
    )


# ---- one notebook --------------------------------------------------------------------------------------------------


def directives(source):
    """The `#|` lines of a cell, without the mark."""
    return re.findall(r"^#\|\s*(.+?)\s*$", source, re.M)


def only_imports(source):
    """True for a cell that holds nothing but imports and comments."""
    lines = re.sub(r"\([^)]*\)", "()", source).splitlines()
    return all(re.match(r"\s*(from|import|#|$)", line) for line in lines) and bool(source.strip())


def titles_in(source):
    """What the figures of a cell are called, read off its source: the strings given as titles."""
    found = re.findall(r"""(?:title\s*=\s*|set_title\(\s*|suptitle\(\s*)f?(['"])(.+?)\1""", source)
    texts = dict.fromkeys(re.sub(r"\{[^}]*\}|\\n", "…", text) for _, text in found)
    return "; ".join(
        text for text in texts if len(re.findall(r"[a-zA-Z]", text)) > 4
    )  # a title made of numbers says nothing


class Chapter:
    """One notebook on its way to a page.

    extra: files that it links to. raw: files that its HTML shows or plays. dead: lines about links to nothing.
    """

    def __init__(self, path, target, root=ROOT):
        import nbformat

        self.path, self.target, self.root = path, target, root
        self.nb = nbformat.read(root / path, as_version=4)
        self.up = "../" * (len(path.parts) - 1)
        self.title, self.heading, self.extra = title_of(self.nb, path), "", set()
        self.raw, self.dead, self.played = set(), [], set()

    def prepared(self):
        """The notebook as Sphinx is to see it (changed in place)."""
        from nbformat import v4

        cells, opening = [], self.at_home()
        self.played.update(opening)
        for cell in self.nb.cells:
            if "hide" not in directives(cell.source):
                cells += (
                    self.markdown(cell)
                    if cell.cell_type == "markdown"
                    else self.code(cell)
                    if cell.cell_type == "code"
                    else []
                )
        cells[1:1] = [v4.new_markdown_cell(self.player(name)) for name in opening]
        for i, cell in enumerate(cells):  # ids are the same at each run
            cell["id"] = f"c{i}"
        self.nb.cells = cells
        return self.nb

    def at_home(self):
        """Players that open this chapter, by the module it exports; none where its widget stands before a heading."""
        told = [d for cell in self.nb.cells for d in directives(cell.source) if d.startswith("default_exp ")]
        module = told[0].split()[1].rpartition(".")[2] if told else ""
        first = itertools.takewhile(lambda cell: not re.search("^## ", cell.source, re.M), self.nb.cells)
        has_widget = any(is_widget(output) for cell in first for output in cell.get("outputs", []))
        return [player for player, modules in HOMES.items() if module in modules and not has_widget]

    def markdown(self, cell):
        """A cell of text, its links made those of the site."""
        cell.source = self.linked(BADGE.sub("", BUTTON.sub(r"[\1](\2)", cell.source)))
        if found := re.findall(r"^#+ +(.+?)\s*$", cell.source, re.M):
            self.heading = found[-1]
        cell.pop("attachments", None)
        return [cell] if cell.source.strip() else []

    def code(self, cell):
        """A code cell without its directives, and what stands for its widgets."""
        from nbformat import v4

        told = directives(cell.source)
        alt = next((d.partition(":")[2].strip() for d in told if d.startswith("fig-alt:")), "")
        cell.source = re.sub(r"^#\|.*\n?", "", cell.source, flags=re.M).strip()
        tags = [t for t in cell.metadata.get("tags", []) if t in ("hide-input", "hide-output", "remove-output")]
        tags += ["remove-input"] * ("echo: false" in told) + ["hide-input"] * only_imports(cell.source)
        cell.metadata = type(cell.metadata)(tags=tags, mystnb={"image": self.image(cell, alt)})
        instead = [v4.new_markdown_cell(self.instead(cell.source))] if any(is_widget(o) for o in cell.outputs) else []
        cell.outputs = [
            self.output(o)
            for o in cell.outputs
            if not is_widget(o) and not (o.output_type == "stream" and o.name == "stderr")
        ]
        return [cell] * bool(cell.source or cell.outputs) + instead

    def image(self, cell, alt):
        """How the pictures of a cell are shown: described, and as wide (CSS pixels) as they were drawn."""
        shown = {
            "alt": (alt or titles_in(cell.source) or f"Picture of the section {self.heading or self.title}").replace(
                "\n", " "
            )
        }
        for output in cell.outputs:
            if width := output.get("metadata", {}).get("image/png", {}).get("width"):
                shown["width"] = f"{round(width)}px"
        return shown

    def output(self, output):
        """An output, its sounds taken out into files."""
        if "data" in output:
            output.data.pop("application/vnd.jupyter.widget-view+json", None)
            if "text/markdown" in output.data:
                output.data["text/markdown"] = self.linked(output.data["text/markdown"])
            if "text/html" in output.data:
                output.data["text/html"] = re.sub(
                    r"data:audio/(?:x-)?(\w+);base64,([\w+/=\s]+)", self.sound, output.data["text/html"]
                ).replace("<audio ", '<audio preload="none" ')
        return output

    def sound(self, found):
        """Address of a sound that lay in a page as text, now a file."""
        data = base64.b64decode(found.group(2))
        kind = "mp3" if data[:3] == b"ID3" or data[:1] == b"\xff" else "ogg" if data[:4] == b"OggS" else "wav"
        name = f"sounds/{hashlib.sha256(data).hexdigest()[:16]}.{kind}"
        write(self.target / "_static" / name, data)
        return f"{self.up}_static/{name}"

    def player(self, name):
        """HTML of the player `name`, which needs no kernel."""
        at = f"{self.up}_static/media/{name}/"
        still = f"{self.up}_static/media/{name}.gif"
        return (
            f'<div id="{name}">\n<{name}-player src="{at}"></{name}-player>\n'
            f'<noscript><img src="{still}" alt="{STILLS[name]}"></noscript>\n'
            f'<script src="{at}data.js" defer></script>\n'
            f'<script src="{at}{name}.js" defer></script>\n</div>'
        )

    def instead(self, source):
        """What a page shows where a kernel would show a widget."""
        name = next((player for key, player in PLAYERS.items() if key in source), None)
        if name is None:
            return "*The widget of this cell answers in a running notebook; the pictures beside it say the same.*"
        if name not in self.played:
            self.played.add(name)
            return self.player(name)
        return (
            "*The widget of this cell answers in a running notebook. Without one, "
            f'<a href="#{name}">the player above</a> does the same.*'
        )

    def linked(self, text):
        """Markdown whose links to files of the repository are links of the site; a missing file is an error."""
        pieces = re.split(r"(```.*?```|`[^`\n]*`)", text, flags=re.S)  # code is left as it is
        for src in RAW.findall("".join(pieces[::2])):
            self.raw.update(self.existing(src))
        done = (piece if i % 2 else HREF.sub(self.href, LINK.sub(self.link, piece)) for i, piece in enumerate(pieces))
        return "".join(done)

    def href(self, found):
        """A link written in HTML, which Sphinx leaves as it is: to a notebook's page, or to a file that is copied."""
        before, name, place, after = found.groups()
        for file in self.existing(name):
            if file.suffix in (".ipynb", ".md"):
                self.extra.update([file] * (file.suffix == ".md"))
                name = str(Path(name).with_suffix(".html"))
            elif (self.root / file).is_file():
                self.raw.add(file)
        return f"{before}{name}{slug((place or '#')[1:]) and '#' + slug(place[1:])}{after}"

    def existing(self, target):
        """[path from the root] of a file that the notebook names; [] and a line in `dead` for a missing one."""
        file = (self.root / self.path).parent / unquote(target)
        if not file.exists():
            self.dead.append(f"{self.path} links to {target}, which does not exist")
            return []
        return [file.resolve().relative_to(self.root.resolve())]

    def link(self, found):
        """One link: to a heading in the site's spelling, to a file that is copied, or, to a folder, none."""
        target = found["target"]
        if re.match(r"\w+:|#", target):
            return found.group()
        name, _, place = target.partition("#")
        for file in self.existing(name):
            if (self.root / file).is_dir():
                return "]"
            if file.suffix != ".ipynb":
                self.extra.add(file)
        return f"{found['before']}{name}{'#' * bool(place)}{slug(place)}{found['after']}"


def slug(place):
    """A heading's anchor as Jupyter spells it, as the site spells it."""
    return re.sub(r"[^\w\- ]", "", place.lower()).replace(" ", "-")


def is_widget(output):
    """True for an output that is a widget, or the text that stands for one."""
    data = output.get("data", {})
    return (
        "application/vnd.jupyter.widget-view+json" in data
        or "text/plain" in data
        and len(data) == 1
        and bool(re.match(r"\w*(Box|Slider|Dropdown|Button|Output|Image)\(", data["text/plain"]))
    )


def write(path, data):
    """Writes text or bytes, making the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


# ---- the tree that Sphinx reads --------------------------------------------------------------------------------------

THEME = Path(__file__).with_name("site_theme")  # conf.py, and what every page loads


def mathjax():
    """The bytes of MathJax as one file, from the installed package that brings it."""
    for file in metadata.files("sphinx-mathjax-offline"):
        if file.name == "tex-svg-full.js":
            return Path(file.locate()).read_bytes()
    raise SystemExit("site: MathJax is missing: pip install -e '.[site]'")


def prepare(target, root=ROOT):
    """Writes the tree that Sphinx reads to the folder `target`. Returns the paths of the notebooks in it."""
    import nbformat
    from nbformat import v4

    titles, front, raw, dead = {}, None, set(), []
    extra = {Path(name) for name in PAPERS if (root / name).exists()}
    for path in notebooks(root):
        chapter = Chapter(path, target, root)
        nb = chapter.prepared()
        titles[path], extra, raw, dead = chapter.title, extra | chapter.extra, raw | chapter.raw, dead + chapter.dead
        front = front or nb
        if nb is not front:
            write(target / path, nbformat.writes(nb))
    if dead:
        raise SystemExit("site: dead links\n" + "\n".join(dead))
    front.cells.append(v4.new_markdown_cell(contents(titles), id="contents"))
    write(target / "index.ipynb", nbformat.writes(front))
    for path in sorted(extra):
        copy_extra(path, target, root)
    for path in sorted(raw):  # Sphinx leaves HTML as it is, so the file lies where the notebook says
        write(target / "_extra" / path, (root / path).read_bytes())
    write(target / "conf.py", (THEME / "conf.py").read_bytes())
    for name in ("book.css", "book.js", "favicon.svg"):
        write(target / "_static" / name, (THEME / name).read_bytes())
    write(target / "_static" / "mathjax.js", mathjax())
    (target / "_extra").mkdir(exist_ok=True)
    shutil.copytree(root / "media", target / "_static" / "media", dirs_exist_ok=True)
    return list(titles)


def copy_extra(path, target, root):
    """Copies a file that a notebook links to; Markdown becomes a page outside the contents unless PAPERS has it."""
    if path.suffix != ".md":
        write(target / path, (root / path).read_bytes())
        return
    text = re.sub(
        LINK,
        lambda m: (
            m.group()
            if re.match(r"\w+:|#", m["target"]) or (root / path).parent.joinpath(m["target"]).suffix == ".ipynb"
            else "]"
        ),
        (root / path).read_text(encoding="utf-8"),
    )
    if not re.search(r"^# ", text, re.M):
        text = f"# {path.stem}\n\n{text}"
    write(target / path, text if path.name in PAPERS else f"---\norphan: true\n---\n{text}")


# ---- what came out ---------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Links and anchors of a page: `links` (href and src), `ids`."""

    def __init__(self, path):
        super().__init__()
        self.links, self.ids = [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append(value)
            elif name == "id" or name == "name" and tag == "a":
                self.ids.add(value)


def dead_links(folder):
    """Lines "page: link" for every link inside the site at `folder` that leads to no file or no place in it."""
    pages = {path.resolve(): Page(path) for path in sorted(folder.rglob("*.html"))}
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if (
                not there.exists()
                or parts.fragment
                and there in pages
                and unquote(parts.fragment) not in pages[there].ids
            ):
                dead.append(f"{path.relative_to(folder.resolve())}: {link}")
    return dead


def build(folder, root=ROOT):
    """Builds the site in `folder`, emptied first; returns the number of notebooks; SystemExit tells what is wrong."""
    folder = Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="site") as scratch:
        source = Path(scratch) / "source"
        paths = prepare(source, root)
        command = [
            sys.executable,
            "-m",
            "sphinx",
            "-q",
            "-W",
            "--keep-going",
            "-E",
            "-b",
            "html",
            "-d",
            f"{scratch}/trees",
            str(source),
            str(folder),
        ]
        env = dict(os.environ, SOURCE_DATE_EPOCH="0", PYTHONHASHSEED="0")
        done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=scratch)
        if done.returncode:
            raise SystemExit(done.stderr.replace(str(source), ".") + done.stdout)
    (folder / ".buildinfo").unlink(missing_ok=True)
    (folder / ".nojekyll").touch()  # a code host's pages leave out folders that begin with _ without it
    if dead := dead_links(folder):
        raise SystemExit("site: dead links\n" + "\n".join(dead))
    return len(paths)


def main():
    """Builds the site into the folder of the command line."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "_site")
    print(f"{build(folder)} pages in {folder}")


if __name__ == "__main__":
    main()
