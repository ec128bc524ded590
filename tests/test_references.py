"""Every citation resolves, every row of the papers' map is true, and no document outside the repository is named."""

import ast
import json
import re
from pathlib import Path

import pytest

from amt_nb.workshop.paper_map import CLAIMS, PAPER_MAP, Recorded, map_table, ours_text
from amt_nb.workshop.references import REFERENCES, author_years, paper_keys, references_of, unresolved

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "nbs"
KEYS = {row.key for row in PAPER_MAP} | {"A", "B", "A code"}
LIST = BOOK / "workshop" / "references.ipynb"
OWN = Path(__file__).resolve()


def text_of(path):
    """What a person wrote in a file: of a notebook the sources of its cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    return "\n\n".join("".join(c["source"]) for c in json.loads(text)["cells"])


def written():
    """Files that people write: notebooks, tests, tools, settings, texts; not the modules, which are made from notebooks."""
    folders = [ROOT / name for name in ("nbs", "tests", "tools", "benchmarks")]
    found = [p for folder in folders for pattern in ("*.ipynb", "*.py", "*.md") for p in folder.rglob(pattern)]
    found += [p for pattern in ("*.md", "*.ini", "*.ipynb") for p in ROOT.glob(pattern)]
    found += [p for folder in ("weights", "data") for p in (ROOT / "amt_nb" / folder).glob("*.md")]
    return sorted(p for p in found if p != OWN and not any(x.startswith(".") for x in p.relative_to(ROOT).parts))


TEXTS = {str(p.relative_to(ROOT)): text_of(p) for p in written()}


def headings(chapter):
    """Headings of a chapter, marks and spaces taken away."""
    cells = json.loads((BOOK / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]
    texts = ["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"]
    return [line.lstrip("# ").strip() for text in texts for line in text.splitlines() if line.startswith("#")]


def names_in(module):
    """Names that the module's file defines or assigns at its top."""
    tree = ast.parse((ROOT / "amt_nb" / Path(*module.split("."))).with_suffix(".py").read_text(encoding="utf-8"))
    defined = {n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    return defined | {
        t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)
    }


SETTINGS = set(re.findall(r"^(\w+) *=", (ROOT / "settings.ini").read_text(encoding="utf-8"), re.M))


@pytest.mark.parametrize("name", TEXTS)
def test_every_key_of_a_paper_resolves_in_the_map(name):
    unknown = sorted(set(paper_keys(TEXTS[name])) - KEYS)
    assert not unknown, f"{unknown}: not in PAPER_MAP; there are {sorted(KEYS)}"
    loose = re.findall(r"(?<![\w\])\"'])\[[AB](?: (?:§|Table|Fig|App|eq|code)|, [a-z])[^\]\n]*\]", TEXTS[name])
    ill = [key for key in loose if not paper_keys(f" {key} ")]
    assert not ill, f"{ill}: one place in a pair of brackets"


@pytest.mark.parametrize("name", [name for name in TEXTS if ROOT / name != LIST])
def test_every_author_and_year_resolves_in_the_references(name):
    assert not unresolved(TEXTS[name]), "add the source to REFERENCES in nbs/workshop/references.ipynb"


def test_every_reference_is_cited():
    texts = [text for name, text in TEXTS.items() if ROOT / name != LIST]
    cited = {key for text in texts for names, year in author_years(text) for key in references_of(names, year)}
    cited |= {key if key in REFERENCES else key[0] for text in texts for key in paper_keys(text)}
    assert sorted(set(REFERENCES) - cited) == [], "these are listed and cited nowhere"


def test_no_document_outside_the_repository_is_named():
    words = "|".join(("METH" + "OD", "FAC" + "TS", "DES" + "IGN", "STY" + "LE"))
    outside = re.compile(rf"\b(?:{words})(?:\.md|'s\b| [A-Z]\d)")
    modules = {str(p.relative_to(ROOT)): p.read_text(encoding="utf-8") for p in (ROOT / "amt_nb").rglob("*.py")}
    found = [f"{name}: {m.group()}" for name, t in (TEXTS | modules).items() for m in [outside.search(t)] if m]
    assert not found, "cite the paper: [A ...] or [B ...]"


@pytest.mark.parametrize("row", PAPER_MAP, ids=lambda r: f"{r.key}: {r.what[:40]}")
def test_a_row_of_the_map_is_true(row):
    assert row.what and row.ours
    if row.chapter:
        assert (BOOK / f"{row.chapter}.ipynb").exists(), f"no chapter {row.chapter}"
        assert row.heading in headings(row.chapter), f"{row.chapter} has {headings(row.chapter)}"
    else:
        assert not row.functions and str(row.ours).startswith("not "), "what has no chapter is not built or not run"
    for dotted in row.functions:
        module, name = dotted.rsplit(".", 1)
        assert name in names_in(module), f"{module} defines no {name}"
    assert set(row.settings) <= SETTINGS, f"settings.ini lacks {sorted(set(row.settings) - SETTINGS)}"
    if isinstance(row.ours, Recorded):
        assert ours_text(row.ours, BOOK / "results")


def test_the_map_names_both_papers_whole():
    """What a reader looks for first: each printed table that the book knows by number has a row, built or not."""
    assert {"A Table 1", "A Fig. 5", "A §5.2", "A §5.4", "B Table I", "B Table II"} <= KEYS
    for part in "AB":
        table = map_table(part, BOOK / "results")
        assert table.count("\n") == 1 + sum(row.key[0] == part for row in PAPER_MAP)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: f"{c.paper}: {c.claim[:40]}")
def test_a_claim_says_what_became_of_it(claim):
    assert claim.status in ("shown", "shown in part", "refuted", "refuted at this size", "not yet run")
    assert (claim.status == "not yet run") == (not claim.chapter)
    assert not claim.chapter or (BOOK / f"{claim.chapter}.ipynb").exists()


def test_the_opening_chapter_names_both_papers_first():
    first = json.loads((BOOK / "00_start.ipynb").read_text(encoding="utf-8"))["cells"][0]["source"]
    line = next(line for line in "".join(first).splitlines() if line.startswith(">"))
    for key in "AB":
        paper = REFERENCES[key]
        assert paper.title in line and str(paper.year) in line and paper.link.split(":")[1] in line
        assert all(author.split()[-1] in line for author in paper.authors.split(", "))


def test_the_citation_file_names_software_and_papers():
    yaml = pytest.importorskip("yaml")
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cff["cff-version"] == "1.2.0" and cff["type"] == "software" and cff["authors"] and cff["message"]
    assert [r["title"] for r in cff["references"]] == [REFERENCES[key].title for key in "AB"]
    arxiv = [i["value"] for r in cff["references"] for i in r["identifiers"] if i["value"].startswith("arXiv:")]
    assert arxiv == [REFERENCES[key].link for key in "AB"]
