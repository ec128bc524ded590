"""Chapters, module files, records and README.md are in step, clean and light. (./test executes the chapters.)"""

import ast
import base64
import dataclasses
import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
chapters, trained = importlib.import_module("chapters"), importlib.import_module("trained")
house = importlib.import_module("house")

NOTEBOOKS = chapters.chapters()
EXPERIMENTS = sorted((ROOT / "nbs" / "experiments").glob("*.ipynb"))


def cell(source, *outputs, tags=()):
    """A code cell with outputs, for the tests of the comparison itself."""
    return nbformat.v4.new_code_cell(source, outputs=list(outputs), metadata={"tags": list(tags)} if tags else {})


def stream(text, name="stdout"):
    """Printed text as an output."""
    return nbformat.v4.new_output("stream", text=text, name=name)


def notebook(*cells):
    """A notebook of `cells`."""
    return nbformat.v4.new_notebook(cells=list(cells))


def disagreements(stored, fresh, **kw):
    """What the comparison says about one cell printing `fresh` where `stored` is stored."""
    return chapters.compare(notebook(cell("x", *stored, **kw)), notebook(cell("x", *fresh, **kw)))


@pytest.mark.parametrize(
    "stored, fresh, agree",
    [
        ("F1 66.81 of 12 notes", "F1  66.80 of 12 notes", True),
        ("F1 66.81", "F1 67.40", True),  # within 1 %
        ("F1 66.81", "F1 68.10", False),
        ("12 notes", "13 notes", False),
        ("4,801,617", "4,801,618", False),
        ("1.0e-08", "1.1e-08", True),
        ("1.0e-08", "1.0e-06", False),
        ("late by 3 ms", "early by 3 ms", False),
        ("-0.00", "0.00", True),
        ("<A at 0x7f00>", "<A at 0x7f11>", True),
    ],
)
def test_comparison_of_printed_text(stored, fresh, agree):
    assert (not disagreements([stream(stored)], [stream(fresh)])) == agree


@pytest.mark.parametrize(
    "stored, fresh, agree",
    [
        ("F1 0.78", "F1 0.71", True),
        ("F1 0.78", "F1 0.39", True),  # half of it
        ("F1 0.78", "F1 0.31", False),
        ("within 100 ms 21 %", "within 100 ms 27 %", True),
        ("within 100 ms 70 %", "within 100 ms 28 %", False),
        ("0 %", "5 %", True),  # five units
        ("0 %", "6 %", False),
        ("median 329 ms", "median 449 ms", True),
        ("median 57 ms", "median 120 ms", False),
        ("loss 0.44 -> 0.23", "loss 0.44 -> -0.23", False),
        ("the loss falls: True", "the loss falls: False", False),
    ],
)
def test_trained_numbers_agree_within_a_factor_of_two(stored, fresh, agree):
    assert (not disagreements([stream(stored)], [stream(fresh)], tags=["trained"])) == agree
    assert (not disagreements([stream(fresh)], [stream(stored)], tags=["trained"])) == agree
    assert disagreements([stream(stored)], [stream(fresh)]) and disagreements(
        [stream(stored)], [stream(fresh)], tags=["exact"]
    )


def test_comparison_wants_outputs_on_both_sides():
    picture = nbformat.v4.new_output("display_data", data={"image/png": "AAAA", "text/plain": "<Figure size 8x2>"})
    other = nbformat.v4.new_output("display_data", data={"image/png": "BBBB", "text/plain": "<Figure size 9x2>"})
    assert disagreements([], [stream("1")]) and disagreements([stream("1")], []) and disagreements([], [picture])
    assert not disagreements([picture], [other])
    assert not disagreements([stream("12 s")], [stream("99 s, and more")], tags=["varies"])
    assert disagreements([], [stream("99 s")], tags=["varies"])
    assert not disagreements([], [stream("a warning", name="stderr")])


def test_what_measures_how_soon_a_page_answers_has_the_machine_for_itself():
    slow = re.compile(r"^from \w+ import .*\bslowness\b", re.M)
    by_themselves = list(filter(chapters.wants_the_machine, chapters.choose([])))
    measuring = [p for p in (chapters.ROOT / "tests").glob("test_*.py") if slow.search(p.read_text())]
    assert measuring and {*measuring, chapters.ROOT / "tests" / "test_shift_widget_browser.py"} <= set(by_themselves)


def test_there_are_chapters():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS + EXPERIMENTS, ids=lambda p: p.stem)
def test_notebook_is_clean(path):
    text = path.read_text(encoding="utf-8")
    nb = nbformat.reads(text, as_version=4)
    nbformat.validate(nb)
    before = json.loads(nbformat.writes(nb))
    after = json.loads(nbformat.writes(chapters.tidy(nb)))
    assert before == after, f"./test --write {path.stem.partition('_')[0]} stores it clean"
    ids = [c["id"] for c in after["cells"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_what_hangs_on_trained_weights_says_so(path):
    """No processor trains the same weights: a cell that prints numbers after training is compared with a tolerance, or says why not."""
    nb = nbformat.read(path, as_version=4)
    mute = [
        c for c in trained.shows_trained(nb) if not {"trained", "varies", "exact"} & set(c.metadata.get("tags", []))
    ]
    assert not mute, "tag `trained`, `exact` or `varies` (./test --help): " + "; ".join(
        f"{c.id} {c.source.strip().splitlines()[0][:60]}" for c in mute
    )


def test_every_tag_of_a_cell_means_something():
    tags = {t for p in NOTEBOOKS for c in nbformat.read(p, as_version=4).cells for t in c.metadata.get("tags", [])}
    assert tags <= {"trained", "varies", "exact", "parameters"}


STEP = "for _ in range(9): loss(model).backward(); optimiser.step()"


@pytest.mark.parametrize(
    "sources, found",
    [
        (
            ["model = net()\noptimiser = torch.optim.Adam(model.parameters())", STEP, "print(score(model))"],
            [2],
        ),  # weights
        (
            ["losses = []\nfor _ in range(9): optimiser.step(); losses.append(loss.item())", "losses[-1]"],
            [],
        ),  # neither model nor loss is known
        (
            [
                "optimiser, losses = torch.optim.Adam(model.parameters()), []",
                "for _ in range(9): l = loss(model); optimiser.step(); losses.append(l.item())",
                "losses[-1]",
            ],
            [2],
        ),
        (
            [
                "from amt_nb.transcription.training import fit",
                "history = fit({'net': model}, turns, make, config)",
                "print(history.step)",
            ],
            [2],
        ),
        (
            [
                "from amt_nb.transcription.training import fit",
                "fit({'net': model}, turns, make, config);",
                "with torch.no_grad(): y = model(x)",
                "f1 = score(y)\nprint(f1)",
            ],
            [3],
        ),
        (
            [
                "def train(net):\n    optimiser.step()\n    return net",
                "net = train(net)\nprint(len(data))",
                "print(net(x))",
                "net = fresh()\nprint(net(x))",
            ],
            [2],
        ),
        (
            [
                "from amt_nb.transcription.conditions import CONDITIONS",
                "runs = {a: CONDITIONS[a](pools) for a in CONDITIONS}",
                "for arm, run in runs.items(): print(arm, run)",
            ],
            [1, 2],  # some conditions say what they did
        ),
        (
            [
                "from amt_nb.alignment.learnt_baselines import DeepCTW\nfrom amt_nb.alignment.dtw_baselines import DTW",
                "print(DTW().align(a, b))",
                "print(DeepCTW().align(a, b))",
            ],
            [2],
        ),
        (
            [
                "from amt_nb.transcription.training import fit",
                "fit({'net': model}, turns, make, config);",
                "from amt_nb.workshop.settings import fails\nfails(model, 3)",
                "model(x);",
                "assert model(x) > 3",
            ],
            [2],
        ),
        (["ax.step(x, y)\nprint(x)", "loss(x).backward()\nprint(x.grad)"], []),  # a picture; a gradient is one step
    ],
)
def test_what_was_trained_is_followed(sources, found):
    nb = notebook(*(cell(s, stream("12")) for s in sources))
    assert [nb.cells.index(c) for c in trained.shows_trained(nb)] == found
    for c in nb.cells:
        c.outputs = [stream("no number <Figure size 8x2>")]
    assert not trained.shows_trained(nb)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_stored_outputs_name_no_place_in_memory(path):
    nb = nbformat.read(path, as_version=4)
    texts = [
        str(o.get("text", "")) + str(o.get("data", {}).get("text/plain", ""))
        for c in nb.cells
        if c.cell_type == "code"
        for o in c.outputs
    ]
    assert not [t for t in texts if " at 0x" in t], (
        "an address in memory is another at each run: end the cell on something else"
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_no_chapter_shows_an_output_widget(path):
    """`interact` and `Output` make the client that executes a notebook write to the socket it is waiting on: now and then it waits for ever."""
    code = [
        c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code" and "ipywidgets" in c.source
    ]
    assert not re.search(r"\b(interact\w*|Output)\b", "\n".join(code)), (
        "observe a slider and set an Image or HTML instead"
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_light(path):
    assert path.stat().st_size <= 1e6, "a notebook weighs at most 1 MB"
    nb = nbformat.read(path, as_version=4)
    outputs = [o for c in nb.cells if c.cell_type == "code" for o in c.outputs if "data" in o]
    figures = [len(base64.b64decode(o.data["image/png"])) for o in outputs if "image/png" in o.data]
    assert max(figures, default=0) <= 100e3, "a figure weighs at most 100 kB"
    assert sum("<audio" in o.data.get("text/html", "") for o in outputs) <= 3, "at most three players"
    assert not [
        c.source
        for c in nb.cells
        if c.cell_type == "code" and any(o.output_type == "stream" and "\r" in o.text for o in c.outputs)
    ]


@pytest.mark.parametrize("path", house.chapters(), ids=lambda p: p.stem)
def test_chapter_opens_as_a_chapter(path):
    first = nbformat.read(path, as_version=4).cells[0]
    lines = [line for line in first.source.splitlines() if line.strip()]
    assert first.cell_type == "markdown" and lines[0].startswith("# ") and lines[1].startswith("> ")


def test_export_is_in_step(tmp_path):
    """A fresh export of all chapters equals amt_nb/, the index of names included."""
    shutil.copytree(
        ROOT / "nbs", tmp_path / "nbs", ignore=shutil.ignore_patterns(".ipynb_checkpoints", "*.ogg", "results")
    )
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    for package in sorted((ROOT / "amt_nb").rglob("__init__.py")):
        copy = tmp_path / package.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(package, copy)
    shutil.copytree(ROOT / "tools", tmp_path / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    script = "import sys; sys.path.insert(0, 'tools'); import chapters; chapters.export_all()"
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True)
    made = {str(p.relative_to(tmp_path)): p.read_text() for p in (tmp_path / "amt_nb").rglob("*.py")}
    kept = {str(p.relative_to(ROOT)): p.read_text() for p in (ROOT / "amt_nb").rglob("*.py")}
    assert set(made) == set(kept)
    assert not [name for name in made if made[name] != kept[name]], "./test --write NN exports a chapter"


def test_readme_is_in_step():
    readme = importlib.import_module("readme")
    assert readme.render(ROOT / "index.ipynb") == (ROOT / "README.md").read_text(encoding="utf-8"), (
        "python tools/readme.py remakes it"
    )


def test_experiments_parse_and_take_parameters():
    from IPython.core.inputtransformer2 import TransformerManager

    for path in EXPERIMENTS:
        cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
        for c in cells:
            ast.parse(TransformerManager().transform_cell(c.source))
        chosen = [c for c in cells if "parameters" in c.metadata.get("tags", [])]
        assert len(chosen) == 1, f"{path.name}: one cell is tagged `parameters`"
        for node in ast.parse(chosen[0].source).body:
            assert isinstance(node, (ast.Assign, ast.AnnAssign)), f"{path.name}: that cell holds plain assignments"
            ast.literal_eval(node.value)


def test_records_fit_the_configurations_of_today():
    """Every record can be read, and no configuration in it has a field that is called otherwise today."""
    from amt_nb import cqt
    from amt_nb.alignment import jump_dtw, learnt_baselines, sasa_aligner, structure
    from amt_nb.transcription import collapse, cycle, direct, piano, score_vae, training, translators, unpaired
    from amt_nb.workshop import decoding, pools, records

    today = {
        "harmonic": direct.HarmonicConfig,
        "augment": direct.AugmentConfig,
        "piano": piano.PianoConfig,
        "cqt": cqt.CQTConfig,
        "decode": decoding.DecodeConfig,
        "vae": score_vae.VAEConfig,
        "G": translators.TranslatorConfig,
        "F": translators.TranslatorConfig,
        "cycle": cycle.CycleConfig,
        "train": training.TrainConfig,
        "tied": collapse.TiedConfig,
        "sasa": sasa_aligner.AlignerConfig,
        "unet": sasa_aligner.AlignerConfig,
        "sasa_data": structure.ExampleConfig,
        "path": jump_dtw.PathConfig,
        "siamese": learnt_baselines.SiameseConfig,
        "dilated": learnt_baselines.DilatedConfig,
        "pool": pools.PoolConfig,
        "condition": unpaired.ConditionConfig,
    }
    for path in sorted((ROOT / "nbs" / "results").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        assert all(record.get(k) for k in ("date", "commit", "command", "runs")), f"{path.name} is no record"
        for name, values in record.get("configuration", {}).items():
            if name in today and isinstance(values, dict):
                fields = {f.name: values[f.name] for f in dataclasses.fields(today[name]) if f.name in values}
                assert fields.keys() == values.keys(), (
                    f"{path.name}: {name} has {sorted(set(values) - set(fields))}, which today's {today[name].__name__} has not"
                )
                assert not records.records_fit({"configuration": {name: values}}, {name: fields})
