"""A notebook that is opened in the editor of ./book and saved again has not changed."""

import importlib
import json
import shutil
import sys
from pathlib import Path

import pytest
from traitlets.config import PyFileConfigLoader

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
chapters = importlib.import_module("chapters")


def manager(folder):
    """The contents manager of the server that ./book starts, for the notebooks in `folder`."""
    from jupyter_server.services.contents.largefilemanager import LargeFileManager

    config = PyFileConfigLoader("jupyter_server_config.py", path=str(ROOT / "tools" / "jupyter")).load_config()
    return LargeFileManager(root_dir=str(folder), config=config)


def as_an_editor_leaves_it(content):
    """Content of a notebook with what JupyterLab adds to it before saving."""
    content["metadata"]["language_info"] |= {"version": "3.99.1", "codemirror_mode": {"name": "ipython", "version": 3}}
    content["metadata"]["language_info"] |= {"nbconvert_exporter": "python", "pygments_lexer": "ipython3"}
    for number, cell in enumerate(content["cells"]):
        cell["metadata"] |= {"trusted": True, "collapsed": False, "execution": {"iopub.status.busy": "now"}}
        if cell["cell_type"] == "code":
            cell["execution_count"] = number
    return content


@pytest.mark.parametrize("path", chapters.house.chapters()[:3] + [ROOT / "index.ipynb"], ids=lambda p: p.stem)
def test_a_mere_save_changes_nothing(path, tmp_path):
    shutil.copy(path, tmp_path / path.name)
    contents = manager(tmp_path)
    model = contents.get(path.name, content=True, type="notebook")
    model["content"] = as_an_editor_leaves_it(model["content"])
    contents.save(model, path.name)
    assert (tmp_path / path.name).read_text(encoding="utf-8") == path.read_text(encoding="utf-8")


def test_what_a_reader_wrote_is_saved(tmp_path):
    shutil.copy(chapters.house.chapters()[0], tmp_path / "mine.ipynb")
    contents = manager(tmp_path)
    model = contents.get("mine.ipynb", content=True, type="notebook")
    model["content"]["cells"][-1]["source"] = "my own words"
    contents.save(model, "mine.ipynb")
    assert json.loads((tmp_path / "mine.ipynb").read_text())["cells"][-1]["source"] == ["my own words"]
