"""Makes README.md from index.ipynb: its words, the code a reader should see, and what that code shows.

    python tools/readme.py           writes README.md and its pictures
    python tools/readme.py --check   exits 1 when README.md is out of step

Cells that begin with `#| hide` stay out; of cells that begin with `#| echo: false` only the output is shown; what
stands after `#| fig-alt:` describes the picture of a cell to those who do not see it.
"""

import base64
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def render(notebook):
    """Markdown text of `notebook` (a path). Pictures become references to files that lie beside the notebook."""
    return "\n\n".join(part for part, _ in parts(notebook) if part) + "\n"


def parts(notebook):
    """Pieces of Markdown of `notebook` in order, each with None or (file name, bytes) of the picture it shows."""
    import nbformat

    for number, cell in enumerate(nbformat.read(notebook, as_version=4).cells, 1):
        directives = re.findall(r"^#\|\s*(.+?)\s*$", cell.source, re.M)
        if "hide" in directives:
            continue
        if cell.cell_type == "markdown":
            yield cell.source.strip(), None
        elif cell.cell_type == "code":
            source = re.sub(r"^#\|.*\n?", "", cell.source, flags=re.M).strip()
            if source and "echo: false" not in directives:
                yield f"```python\n{source}\n```", None
            told = next((d.partition(":")[2].strip() for d in directives if d.startswith("fig-alt:")), "")
            for output in cell.outputs:
                yield from shown(output, number, told)


def shown(output, number, told=""):
    """Markdown of one output of cell `number`, with its picture, described as `told`, if it is one."""
    if output.output_type == "stream":
        if output.name == "stdout":
            yield "\n".join("    " + line for line in output.text.rstrip().splitlines()), None
    elif "data" in output:
        if "image/png" in output.data:
            name = f"media/index_{number}.png"
            yield f"![{told}]({name})", (name, base64.b64decode(output.data["image/png"]))
        elif "text/markdown" in output.data:
            yield output.data["text/markdown"].strip(), None
        elif "text/html" not in output.data and "text/plain" in output.data:
            yield "\n".join("    " + line for line in output.data["text/plain"].rstrip().splitlines()), None


def main():
    """Writes README.md, or compares it."""
    notebook, readme = ROOT / "index.ipynb", ROOT / "README.md"
    text = render(notebook)
    if "--check" in sys.argv[1:]:
        same = readme.exists() and readme.read_text(encoding="utf-8") == text
        return 0 if same else "README.md is out of step with index.ipynb: python tools/readme.py remakes it"
    for _, picture in parts(notebook):
        if picture:
            path = ROOT / picture[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture[1])
    readme.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
