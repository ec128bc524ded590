"""Makes the site: index.ipynb and every chapter as a page, from stored outputs, with nbconvert alone.

python tools/site.py [FOLDER]     (default: _site)
"""

import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def without_hidden(nb):
    """Notebook `nb` without the cells that begin with `#| hide` and without directive lines (changed in place)."""
    nb.cells = [c for c in nb.cells if not re.search(r"^#\|\s*hide\s*$", c.source, re.M)]
    for cell in nb.cells:
        if cell.cell_type == "code":
            if re.search(r"^#\|\s*echo:\s*false", cell.source, re.M):
                cell.metadata["tags"] = [*cell.metadata.get("tags", []), "remove_input"]
            cell.source = re.sub(r"^#\|.*\n?", "", cell.source, flags=re.M)
    return nb


def page(exporter, path):
    """HTML of the notebook at `path`; links to notebooks become links to pages."""
    import nbformat

    nb = without_hidden(nbformat.read(path, as_version=4))
    html, _ = exporter.from_notebook_node(nb, {"metadata": {"name": path.stem}})
    return re.sub(r'(href="(?!https?:)[^"]+)\.ipynb', r"\1.html", html)


def main():
    """Writes all pages."""
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    target = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "_site")
    config = Config({"TagRemovePreprocessor": {"remove_input_tags": {"remove_input"}, "enabled": True}})
    exporter = HTMLExporter(config=config)
    exporter.register_preprocessor("nbconvert.preprocessors.TagRemovePreprocessor", enabled=True)
    paths = [
        ROOT / "index.ipynb",
        *sorted((ROOT / "nbs").glob("[0-9]*.ipynb")),
        *sorted((ROOT / "nbs" / "experiments").glob("*.ipynb")),
    ]
    for path in paths:
        out = (target / path.relative_to(ROOT)).with_suffix(".html")
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page(exporter, path), encoding="utf-8")
    for sound in (ROOT / "nbs").rglob("*.ogg"):
        shutil.copy(sound, (target / sound.relative_to(ROOT)).parent)
    print(f"{len(paths)} pages in {target}")


if __name__ == "__main__":
    main()
