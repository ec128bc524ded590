"""The experiments of paper A's tables and figures, from raw files to their end: at size paper, with small nets and a handful of steps."""

import ast
import json
import warnings
from pathlib import Path

import lookalikes
import pytest
import torch
from test_sweep import data, one_core, places, SMALL  # noqa: F401

from amt_nb.transcription import tables, training
from amt_nb.workshop.settings import UserError

ROOT = Path(__file__).resolve().parents[1]
torch.set_num_threads(1)
NOTEBOOKS = {  # experiment -> amounts of pairs, and settings beside SMALL, that are enough to see it run
    "A_table1": ("1:9 1:0", ""),
    "A_table2": ("", "pool_minutes=0.1 pool_ratio=1:1:1"),
    "A_table3": ("", "pool_minutes=0.1"),
    "A_table4": ("1:100", ""),
    "A_table5": ("", "pool_minutes=0.1 pool_unpaired_minutes=0.3"),
    "A_fig3": ("1:100", ""),
    "A_fig5": ("", "pool_minutes=0.1 pool_ratio=1:1:1"),
}


def trace(name, **parameters):
    """Runs the code of an experiment as papermill would, with these parameters; returns its names."""
    cells = json.loads((ROOT / "nbs" / "experiments" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    found, shown = {}, []
    for cell in cells:
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse("".join(cell["source"]))
        if isinstance(tree.body[-1], ast.Expr):
            tree.body[-1] = ast.Assign([ast.Name("_shown", ast.Store())], tree.body[-1].value)
        exec(compile(ast.fix_missing_locations(tree), name, "exec"), found)
        shown.append(found.pop("_shown", None))
        if "parameters" in cell["metadata"].get("tags", []):
            assert set(parameters) <= set(found)
            found |= parameters
    return found | {"shown": [s for s in shown if s is not None]}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_experiment_at_paper_size_from_raw_files_to_its_end(name, data, tmp_path, monkeypatch):  # noqa: F811
    """Every experiment, at size paper on look-alikes, with small nets; Tables 1 and 4 on a device that is not the CPU."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    if name in ("A_table1", "A_table4"):
        elsewhere = pytest.importorskip("elsewhere", reason="this torch knows no devices written in Python")
        monkeypatch.setattr(training, "make_fabric", elsewhere.fabric)
        monkeypatch.setattr(tables, "make_fabric", elsewhere.fabric)
    used = " ".join(places(data)[: 2 if name in ("A_table3", "A_table4") else 1])
    ratio, more = NOTEBOOKS[name]
    found = trace(
        name, size="paper", data=used, ratio=ratio, seeds="0", settings=" ".join(f"{SMALL} {more}".split()),
        folder=str(tmp_path), cache=str(data / "cache"), records=str(tmp_path),
    )  # fmt: skip
    assert not found["errors"] and len(found["done"]) == len(found["sweep"].runs) > 0
    text = found["shown"][0].text
    assert f"{len(found['done'])} of {len(found['done'])} runs" in text and "Size paper" in text
    printed = [p for p in tables.PAPER[found["sweep"].beside] if p.row in {r.row for r in found["sweep"].runs}]
    assert printed and all(p.f1 in text for p in printed)
    assert len(list(tmp_path.glob("*.json"))) == len(found["done"])


def test_table_six_at_paper_size_from_raw_files_to_its_end(tmp_path, monkeypatch):
    """Eleven rolls: songs of MusicNet-EM and concerts of the museum, each row by instrument too."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    used = f"musicnet={lookalikes.musicnet(tmp_path, seconds=6.0)} gardner={lookalikes.gardner(tmp_path)}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what of them is left out
        found = trace(
            "A_table6_instruments", size="paper-multi", data=used, settings=" ".join(SMALL.split()),
            folder=str(tmp_path / "runs"), cache=str(tmp_path / "cache"),
        )  # fmt: skip
    assert not found["errors"] and len(found["done"]) == 3
    text = found["shown"][0].text
    assert "3 of 3 runs" in text and all(p.f1 in text for p in tables.PAPER["table6"])
    by_instrument = [r["runs"][0]["metrics"]["test, by instrument"]["frame_f1"] for r in found["done"]]
    assert all(0 < f1 < 1 for f1 in by_instrument)


def test_experiments_without_data_refuse_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in NOTEBOOKS:
        with pytest.raises(UserError, match="nowhere|no path for|no maestro") as error:
            trace(
                name, size="paper", data="maestro=nowhere guitarset=nowhere", folder=str(tmp_path), cache=str(tmp_path)
            )
        assert "\n" not in str(error.value)
