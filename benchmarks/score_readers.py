"""Score readers against each other: who finds which notes in the scores of a folder, and in what time.

    python benchmarks/score_readers.py FOLDER [FOLDER ...] [--oracle-python PYTHON] [--sample 60] [--json OUT.json]

Every reader runs in a process of its own with a time limit a file; the three oracles are partitura, verovio and music21,
used where PYTHON can import them (`pip install partitura verovio music21`; nothing of the package needs them). Two
readers agree on a score when they find as many notes and all pitches and onsets are equal, onsets to 1/24 quarter;
grace notes are left out. They are compared twice: as written, and with the repeats played. A score counts as right
when at least one oracle agrees. `--own before=CHECKOUT` adds the package of another checkout to the table.
"""

import argparse
import gzip
import hashlib
import json
import os
import random
import select
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

ENDINGS = (".mxl", ".musicxml", ".xml", ".krn")
LARGE = 100


def own_notes(path):
    """The package's own readers; a checkout from before them has only `read_score`, which gives played notes."""
    try:
        from amt_nb.workshop.kern import read_kern
        from amt_nb.workshop.musicxml import read_musicxml
        from amt_nb.workshop.repeats import bars_in_order
        from amt_nb.workshop.written_scores import played
    except ImportError:
        from amt_nb.workshop.scores import read_score

        score = read_score(path)
        onsets = score.notes["onset_s"] / score.beat_s[1]
        return {"played": [[float(b), int(p)] for b, p in zip(onsets, score.notes["pitch"])]}
    score = (read_kern if path.endswith(".krn") else read_musicxml)(path)
    rows = lambda order: [[float(n["onset"] / score.ticks), int(n["pitch"])] for n in played(score, order)]
    order = bars_in_order(score.marks)[0] if score.order is None else score.order
    return {"played": rows(order), "written": rows(range(len(score.bar_length)))}


def without_cues(path) -> str:
    """The path, or that of a copy without cue notes: they are silent in MusicXML, but the oracles play them."""
    import tempfile
    import zipfile

    from lxml import etree

    data = Path(path).read_bytes()
    if data.startswith(b"PK"):
        archive = zipfile.ZipFile(path)
        data = archive.read(next(n for n in archive.namelist() if n.endswith("xml") and not n.startswith("META-INF")))
    if b"<cue" not in data:
        return path
    root = etree.fromstring(data, etree.XMLParser(load_dtd=False, no_network=True))
    for note in [n for n in root.iter("note") if n.find("cue") is not None]:
        after = note.getnext()
        if note.find("chord") is None and after is not None and after.find("chord") is not None:
            after.remove(after.find("chord"))  # the next note of its chord takes its place
        elif note.find("chord") is None and note.find("duration") is not None:
            forward = etree.Element("forward")
            forward.extend([e for e in (note.find(tag) for tag in ("duration", "voice", "staff")) if e is not None])
            note.addprevious(forward)
        note.getparent().remove(note)
    with tempfile.NamedTemporaryFile(suffix=".musicxml", delete=False) as file:
        file.write(etree.tostring(root))
    return file.name


def partitura_notes(path):
    """partitura: note arrays of all parts, transposed to sounding pitch; repeats by `unfold_part_maximal`."""
    import warnings

    warnings.simplefilter("ignore")
    import partitura
    from partitura import score as parts

    loaded = partitura.load_kern(path) if path.endswith(".krn") else partitura.load_musicxml(path)

    def rows(part):
        array = part.note_array()
        array = array[array["duration_div"] > 0]
        shifts = sorted((t.start.t, t.chromatic or 0) for t in part.iter_all(parts.Transposition))
        shift = lambda div: next((s for at, s in reversed(shifts) if at <= div), 0)
        start = float(part.quarter_map(part.first_point.t))  # below 0 with a pickup
        return [[float(n["onset_quarter"]) - start, int(n["pitch"]) + shift(n["onset_div"])] for n in array]

    written = [row for part in loaded.parts for row in rows(part)]
    try:
        unfolded = parts.unfold_part_maximal(loaded, ignore_leaps=False)
    except Exception:
        return {"written": written}
    return {"played": [row for part in unfolded.parts for row in rows(part)], "written": written}


def verovio_notes(path):
    """verovio: its MIDI, once with and once without expansion of the repeats.

    It plays arpeggios, grace notes and tremolos in a time of its own; these go first."""
    import base64
    import io

    import mido
    import verovio
    from lxml import etree

    verovio.enableLog(verovio.LOG_OFF)
    toolkit = verovio.toolkit()
    if not toolkit.loadFile(path):
        raise ValueError("verovio cannot load it")
    tree, mei = etree.fromstring(toolkit.getMEI().encode()), "{http://www.music-encoding.org/ns/mei}"
    for element in list(tree.iter(f"{mei}arpeg", f"{mei}graceGrp", f"{mei}note", f"{mei}chord")):
        if element.get("grace") or element.tag.endswith(("arpeg", "graceGrp")):
            element.getparent().remove(element)
    for tremolo in list(tree.iter(f"{mei}bTrem")):
        for child in list(tremolo):
            tremolo.addprevious(child)
        tremolo.getparent().remove(tremolo)
    out = {}
    for kind, options in (("played", {}), ("written", {"expandNever": True})):
        toolkit, out[kind] = verovio.toolkit(), []
        toolkit.setOptions(options)
        toolkit.loadData(etree.tostring(tree, encoding="unicode"))
        midi = mido.MidiFile(file=io.BytesIO(base64.b64decode(toolkit.renderToMIDI())))
        for track in midi.tracks:
            tick = 0
            for message in track:
                tick += message.time
                if message.type == "note_on" and message.velocity:
                    out[kind].append([tick / midi.ticks_per_beat, message.note])
    return out


def music21_notes(path):
    """music21: flattened parts at sounding pitch, ties stripped; repeats by `expandRepeats` where it can."""
    import warnings

    warnings.simplefilter("ignore")
    import music21

    def rows(stream):
        for part in stream.parts:
            for element in part.stripTies().flatten().notes:
                if not element.duration.isGrace and "Harmony" not in element.classes and hasattr(element, "pitches"):
                    yield from ([float(element.offset), int(p.midi)] for p in element.pitches)

    written = music21.converter.parse(path, forceSource=True).toSoundingPitch()
    try:
        played = list(rows(written.expandRepeats()))
    except Exception:
        played = None
    return {"played": played, "written": list(rows(written))}


ORACLES = {"partitura": partitura_notes, "verovio": verovio_notes, "music21": music21_notes}


def work(reader):
    """Answer one line of JSON for each path on stdin. What libraries print goes to stderr."""
    import threading

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.setrecursionlimit(1_000_000)
    threading.stack_size(512 << 20)

    def loop():
        for line in sys.stdin:
            path = line.rstrip("\n")
            if reader is not own_notes and not path.endswith(".krn"):
                path = without_cues(path)
            began, out = time.process_time(), {}
            try:
                out = reader(path)
            except BaseException as error:
                out = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
            print(json.dumps({**out, "cpu_s": time.process_time() - began}), file=answers, flush=True)

    thread = threading.Thread(target=loop)
    thread.start()
    thread.join()


class Reader:
    """A reader in a process of its own, started anew after each file it does not finish in `limit_s`."""

    def __init__(self, name, python, root, limit_s):
        self.name, self.limit_s, self.process = name, limit_s, None
        self.command = [python, __file__, "--work", name if name in ORACLES else "own"]
        self.environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

    def read(self, path) -> dict:
        if self.process is None:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            self.process = subprocess.Popen(self.command, text=True, env=self.environment, **pipes)
        try:
            print(path, file=self.process.stdin, flush=True)
            ready, _, _ = select.select([self.process.stdout], [], [], self.limit_s)
            line = self.process.stdout.readline() if ready else ""
        except BrokenPipeError:
            ready, line = True, ""
        if line:
            return json.loads(line)
        self.close()
        return {"error": "its process died" if ready else f"not done in {self.limit_s:g} s", "cpu_s": None}

    def close(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.process = None


def stored(reader, path, cache) -> dict:
    """`reader.read`, kept in the folder `cache` by the content of the file."""
    if cache is None:
        return reader.read(path)
    at = Path(cache) / reader.name / f"{hashlib.sha256(path.read_bytes()).hexdigest()[:24]}.json.gz"
    if at.exists():
        return json.loads(gzip.decompress(at.read_bytes()))
    answer = reader.read(path)
    at.parent.mkdir(parents=True, exist_ok=True)
    at.write_bytes(gzip.compress(json.dumps(answer).encode(), 1))
    return answer


def differences(a, b) -> int:
    """Notes of two lists of (onset, pitch) that have no partner in the other, within 1/24 quarter."""
    rows = lambda notes: sorted((pitch, onset) for onset, pitch in notes)
    a, b, i, j, paired = rows(a), rows(b), 0, 0, 0
    while i < len(a) and j < len(b):
        gap = a[i][1] - b[j][1]
        if a[i][0] == b[j][0] and abs(gap) < 1 / 24:
            i, j, paired = i + 1, j + 1, paired + 1
        elif (a[i][0], gap) < (b[j][0], 0):
            i += 1
        else:
            j += 1
    return len(a) + len(b) - 2 * paired


def judge(answers, families) -> dict:
    """Of each reader: its notes, seconds, error, and the notes by which each other reader differs from it."""
    out = {}
    for name, answer in answers.items():
        row = {"notes": len(answer.get("played") or []), "cpu_s": answer.get("cpu_s"), "error": answer.get("error")}
        for kind in ("played", "written"):
            others = {
                o: a for o, a in answers.items() if families.get(o, o) != families.get(name, name) and a.get(kind)
            }
            row[kind] = {o: differences(answer[kind], a[kind]) for o, a in others.items()} if answer.get(kind) else {}
        out[name] = row
    return out


def table(rows, names) -> str:
    """Markdown: of each corpus its files and notes, and of each reader on how many of the large scores it is agreed with."""
    lines = [
        "corpus | reader | files | failed | ≥ 100 notes | agreed as played | agreed as written | CPU s a file\n-|-|-|-|-|-|-|-"
    ]
    for corpus in dict.fromkeys(row["corpus"] for row in rows):
        for name in names:
            mine = [row["readers"][name] for row in rows if row["corpus"] == corpus and name in row["readers"]]
            large = [
                r["readers"][name]
                for r in rows
                if r["corpus"] == corpus and r["notes"] >= LARGE and name in r["readers"]
            ]
            agreed = [sum(0 in r[kind].values() for r in large) for kind in ("played", "written")]
            cpu = sorted(r["cpu_s"] for r in mine if r["cpu_s"] is not None)
            lines.append(
                f"{corpus} | {name} | {len(mine)} | {sum(bool(r['error']) for r in mine)} | {len(large)} | {agreed[0]} | {agreed[1]}"
                f" | {cpu[len(cpu) // 2] if cpu else float('nan'):.2f}"
            )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--oracle-python", default=sys.executable, help="interpreter that can import the oracles")
    parser.add_argument("--oracles", nargs="*", default=list(ORACLES), choices=list(ORACLES))
    parser.add_argument("--own", nargs="*", default=[], metavar="NAME=CHECKOUT", help="further checkouts to measure")
    parser.add_argument("--skip-now", action="store_true", help="do not read with this checkout")
    parser.add_argument("--sample", type=int, help="this many files of each folder, drawn with --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=120.0, help="seconds a file")
    parser.add_argument("--cache", type=Path, help="folder in which the answers of all but this checkout are kept")
    parser.add_argument("--json", type=Path, help="all rows are written here")
    args = parser.parse_args()
    if args.work:
        return work({**ORACLES, "own": own_notes}[args.work])
    if not args.folders:
        sys.exit("score_readers: name a folder of scores, or several")
    found = {
        folder: sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())
        for folder in args.folders
    }
    if empty := [folder for folder, files in found.items() if not files]:
        sys.exit(f"score_readers: {empty[0]} holds no score ({', '.join(ENDINGS)})")
    readers = [Reader(n, args.oracle_python, "", args.limit) for n in args.oracles]
    roots = dict(item.split("=", 1) for item in args.own)
    readers += [Reader(n, sys.executable, root, args.limit) for n, root in roots.items()]
    if not args.skip_now:
        readers.append(Reader("now", sys.executable, Path(__file__).resolve().parent.parent, args.limit))
    families, rows = {n: "music21" for n in roots}, []
    for folder, files in found.items():
        if args.sample is not None:
            random.Random(args.seed).shuffle(files)  # a larger sample holds the smaller one
            files = sorted(files[: args.sample])
        for path in files:
            answers = {r.name: stored(r, path, None if r.name == "now" else args.cache) for r in readers}
            judged = judge(answers, families)
            notes = Counter(row["notes"] for row in judged.values() if row["notes"]).most_common(1)
            rows.append(
                {"corpus": folder.name, "file": str(path), "notes": notes[0][0] if notes else 0, "readers": judged}
            )
            shown = {n: r["error"] or "" for n, r in judged.items()}
            print(
                path.relative_to(folder),
                rows[-1]["notes"],
                {n: r["played"] for n, r in judged.items()},
                shown,
                flush=True,
            )
            if args.json:
                args.json.write_text(json.dumps(rows, indent=1))
    for reader in readers:
        reader.close()
    print(table(rows, [reader.name for reader in readers]))


if __name__ == "__main__":
    main()
