"""Settings of the Jupyter server that ./book starts: what it saves is what git should see.

An editor adds its version, cell metadata and execution counts to every notebook it saves. The hook takes them out
again, so that a mere save changes no file and every change in git is somebody's.
"""

import importlib.util
import sys
from pathlib import Path

import nbformat

TOOLS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOOLS))
chapters = importlib.import_module("chapters")


def leave_what_git_keeps(model, **_):
    """Tidies a notebook on its way to the disk; other files are left alone."""
    if model["type"] == "notebook" and model["content"]["nbformat"] == 4:
        model["content"] = chapters.tidy(nbformat.from_dict(model["content"]))


c.ContentsManager.pre_save_hook = leave_what_git_keeps  # noqa: F821  (Jupyter defines c)
