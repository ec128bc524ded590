"""The page of all records: nbs/results/README.md, one row a record with its command, made from the records themselves.

python tools/records_page.py           writes the page anew
python tools/records_page.py --check   exits with 1 when the page is not what the records say
"""

import json
import sys
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "nbs" / "results"
PAGE = RESULTS / "README.md"
FAMILIES = (
    ("latent_", "The paper's transcriber at [demo] size: pairs alone, and pairs with the cycle (A_table1_scaling)"),
    ("direct_", "The direct net: from labels, from rendered scores, from pseudo-labels (A_direct)"),
    ("unpaired_pays_", "Seconds of pairs with unpaired scores and sound, back-translated (A_unpaired_pays)"),
    (
        "unpaired_mixture_",
        "Seconds of pairs with a SoundFont, a learnt renderer and heard sound in one batch (A_unpaired_pays)",
    ),
    ("unpaired_longer_", "The same for 1,800 steps instead of 700 (A_unpaired_pays)"),
    ("table6_", "Table 6, several instruments, at [demo-multi] size (amt-nb sweep table6)"),
    ("unpaired_arrows_", "The four arrows of the cycle, one by one (A_unpaired_arrows)"),
    (("align_12k", "piano_100k"), "The weights that ship, as trained (A_direct)"),
    ("transcribe_", "What amt-nb transcribe writes of real pianos, from sound file to notes (A_shipped)"),
    ("shipped_", "The same by piano-100k, which shipped before (A_shipped)"),
    ("peers_", "The weights that ship beside public transcription tools, same recordings (A_peers)"),
    (("any_scenes", "any_heard", "any_chain", "any_modelled"), "The weights for any instrument, as trained (A_any)"),
    ("any_without", "The same for 250 steps, an ingredient left out (A_any)"),
    ("any_ablated", "These on all kinds of instrument (A_any_peers)"),
    ("any_peers", "All tools on all kinds of instrument, in one run (A_any_peers)"),
    ("robustness", "What bad sound costs (A_robustness)"),
    ("velocity", "Velocities of the net and from the sound (A_velocity)"),
    ("pedal_", "The sustain pedal (A_pedal)"),
    ("beats_", "Beats and bars from notes (A_beats)"),
    ("collapse_", "Runs of the cycle from shifted and from random starts (A_collapse)"),
    ("tied_", "Runs of the tied cycle nets (A_collapse_tied)"),
    ("shift_detector", "The shift detector (A_shift_detector)"),
    ("features", "Features for alignment (B_features)"),
    ("networks_", "Alignment networks, 400 steps, 2,000 steps, on whole performances, on real recordings (B_networks)"),
    ("baselines_", "Networks of the learnt baselines (B_table1_baselines)"),
    ("align_bench", "amt-nb align on real recordings (B_align)"),
    ("pages_real", "Real recordings on scanned pages (B_pages_real)"),
    ("table_two_networks", "Networks that read page against sound (B_table2_networks)"),
    ("table_two_", "Table II, recordings on pages (B_table2)"),
    ("conditioned_unet_", "Nets that draw where a recording is on the page they are given (B_conditioned_unet)"),
    (
        tuple(f"table1_{c}_" for c in ("paired", "cycle", "direct", "rendered", "renderings")),
        "Table 1 of paper A, scaling with pairs, at [demo] size (amt-nb sweep table1)",
    ),
    ("table1_", "Table I on real recordings (B_table1)"),
    ("asap_", "Table I on performances of ASAP (B_table1)"),
    ("soft_dtw", "Speed and accuracy of soft-DTW (benchmarks/soft_dtw_bench.py)"),
)
MAIN = (
    *((role, f"{what}_f1") for role in ("real_val", "real_test") for what in ("frame", "note")),
    *((role, "within_100") for role in ("as_played", "structure", "repeat", "skip", "both")),
    *((role, k) for role in ("real_val", "real_test", "asap") for k in ("correlation_in_recording", "beat_f1")),
    *(("pages", k) for k in ("right_bar", "under_1_s")),
    *((role, "under_1_s") for role in ("as_played", "structure")),
    *(("held_out", k) for k in ("precision", "recall", "loss")),
)


def main_metrics(record):
    """The numbers of a record that matter most, in one text; of several runs their mean."""
    runs = record["runs"]
    own = [run for run in runs if run["id"] == record["id"]] or runs
    told = []
    for role, k in MAIN:
        values = [run["metrics"][role][k] for run in own if k in run["metrics"].get(role, {})]
        if values:
            told.append(f"{role} {k} {mean(values):.3f}")
    return (f"mean of {len(own)} runs: " if len(own) > 1 else "") + ", ".join(told or [f"{len(runs)} runs"])


def row(path):
    """The cells of one record."""
    r = json.loads(path.read_text(encoding="utf-8"))
    code = lambda text: (
        "`` " + text.replace("|", "\\|") + " ``" if "`" in text else "`" + text.replace("|", "\\|") + "`"
    )
    seconds = r.get("seconds")
    return [
        f"[{path.stem}]({path.name})",
        r["date"][:10],
        f"`{r['commit']}`",
        str(r.get("seed", "–")),
        "–" if seconds is None else f"{seconds:,.0f}",
        main_metrics(r),
        r["hardware"],
        code(r["command"]),
    ]


def page():
    """The whole text of the page."""
    header = ["record", "date", "commit", "seed", "seconds", "main metrics", "hardware", "command"]
    left, parts = {p.stem: p for p in sorted(RESULTS.glob("*.json"))}, []
    for start, title in (*FAMILIES, ("", "Others")):
        found = [left.pop(name) for name in list(left) if name.startswith(start)]
        if found:
            lines = [header, ["---"] * 4 + ["--:"] + ["---"] * 3, *map(row, found)]
            parts.append(f"## {title}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines))
    head = (
        "# All records\n\nGenerated by `tools/records_page.py`: one row a run that left a record, with the command that "
        "makes it again (`CASES`: a folder of cases, see `nbs/experiments/B_cases_maps.ipynb` and `B_cases_asap.ipynb`). Shares are between 0 and 1; the "
        "other numbers of a record are in its file. How records are written and read: "
        "[nbs/workshop/records.ipynb](../workshop/records.ipynb)."
    )
    return "\n\n".join([head, *parts]) + "\n"


if __name__ == "__main__":
    text = page()
    if "--check" in sys.argv:
        sys.exit(not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text)
    PAGE.write_text(text, encoding="utf-8")
