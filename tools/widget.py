"""Shows the shift explorer (nbs/workshop/shift_widget.ipynb) alone as a page.

    python tools/widget.py [Voila options]

Writes a notebook of one cell to a temporary folder and serves it with Voila until the process is ended.
"""

import json
import sys
import tempfile
from pathlib import Path

CELL = "from amt_nb.workshop.shift_widget import ShiftExplorer\nShiftExplorer()"


def page(source: str) -> str:
    """A notebook of one code cell, as JSON."""
    cell = {"cell_type": "code", "execution_count": None, "id": "page", "metadata": {}, "outputs": [], "source": source}
    kernel = {"name": "python3", "display_name": "python3", "language": "python"}
    return json.dumps({"cells": [cell], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5})


def main(options: list[str]) -> int:
    """Serves the page until it is ended."""
    sys.modules["rfc3987_syntax"] = None  # compiles a grammar for seconds, to check addresses that no page here has
    from voila.app import Voila

    with tempfile.TemporaryDirectory() as folder:
        notebook = Path(folder) / "shift.ipynb"
        notebook.write_text(page(CELL), encoding="utf-8")
        Voila.launch_instance([str(notebook), "--Voila.ip=127.0.0.1", *options])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
