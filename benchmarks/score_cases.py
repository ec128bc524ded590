"""Scores whose right notes are known, read by this checkout and by an older one: a table by kind.

    python benchmarks/score_cases.py FOLDER [--before CHECKOUT] [--wrong]

FOLDER/musicxml holds scores and right.json: {stem: {"right_notes": [[onset, pitch, length], ...], "right_bpm": number
or null}}, in quarters, repeats played; the kind of a score is the first letter of its name. FOLDER/scores holds scores
with a NAME.notes.json of such notes each; FOLDER/mxl holds packings of one score of two whole notes, C4 and D4, but for
those whose name begins with other. A score is right when the number of its notes, all onsets (to 1/24 quarter) and all
pitches are, and its first tempo where that is given. --wrong names the scores that are not.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

KINDS = {
    "f": "files and parts", "m": "tempo marks", "o": "marks past the bar", "p": "faulty or odd data", "q": "bars out of step",
    "r": "repeats and endings", "s": "staves", "t": "ties", "v": "voices, rests, odd notes", "w": "order of bars, rarer signs",
    "x": "transposition", "scores": "whole pieces", "mxl": "packings and encodings",
}  # fmt: skip
LIMIT_S = 60
PACKED = [[0, 60], [4, 62]]  # the score in FOLDER/mxl


def answer(path):
    """What the package on the path reads in a score: [[onset, pitch], ...] in quarters, quarters a minute, seconds."""
    from amt_nb.workshop.scores import read_score

    before = time.process_time()
    score = read_score(path)
    spent = time.process_time() - before
    layout = getattr(score, "layout", None)
    onsets = score.notes["onset_s"] / score.beat_s[1] if layout is None else layout["onset"]
    tempo = 60 * (score.beat[1] - score.beat[0]) / (score.beat_s[1] - score.beat_s[0])
    return [list(map(float, onsets)), list(map(int, score.notes["pitch"])), float(tempo), spent]


def serve():
    """Answers one path a line, for another process; a reader that takes longer than a minute has failed."""

    def late(*_):
        raise TimeoutError("more than a minute")

    signal.signal(signal.SIGALRM, late)
    for line in sys.stdin:
        signal.alarm(LIMIT_S)
        try:
            out = answer(line.rstrip("\n"))
        except Exception as error:
            out = f"{type(error).__name__}: {error}"
        signal.alarm(0)
        print("answer " + json.dumps(out), flush=True)


class Reader:
    """The package of a checkout in a process of its own."""

    def __init__(self, checkout):
        script = f"import sys; sys.path[:0] = [{str(checkout)!r}, {str(Path(__file__).parent)!r}]; import score_cases; score_cases.serve()"
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.process = subprocess.Popen([sys.executable, "-c", script], **pipes)

    def __call__(self, path):
        print(path, file=self.process.stdin, flush=True)
        while not (line := self.process.stdout.readline()).startswith("answer "):
            if not line:
                raise SystemExit("a reader ended")
        return json.loads(line[7:])


def cases(folder):
    """(kind, path, right notes, right tempo or None) of every case of a folder."""
    right = folder / "musicxml" / "right.json"
    for stem, case in json.loads(right.read_text()).items() if right.exists() else ():
        yield stem[0], right.with_name(f"{stem}.musicxml"), case["right_notes"], case.get("right_bpm")
    for notes in sorted((folder / "scores").glob("*.notes.json")):
        yield "scores", notes.with_name(notes.name.removesuffix(".notes.json")), json.loads(notes.read_text()), None
    for path in sorted((folder / "mxl").glob("*")):
        if not path.stem.startswith("other"):
            yield "mxl", path, None, None


def is_right(read, notes, tempo) -> bool:
    """Whether what was read is right: its notes, and its tempo where that is given."""
    if isinstance(read, str):
        return False
    ours = sorted((round(24 * onset), pitch) for onset, pitch in zip(*read[:2]))
    wanted = sorted((round(24 * onset), pitch) for onset, pitch, *_ in notes)
    return ours == wanted and (tempo is None or abs(read[2] - tempo) < 0.01)


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--before", type=Path, help="a checkout to compare with")
    parser.add_argument("--wrong", action="store_true", help="name the scores that are not right")
    args = parser.parse_args()
    if not (some := list(cases(args.folder))):
        sys.exit(f"score_cases: {args.folder} holds no case: musicxml/right.json, scores/*.notes.json or mxl/*")
    readers = {"before": Reader(args.before)} if args.before else {}
    readers["now"] = Reader(Path(__file__).resolve().parents[1])
    right, number, seconds = defaultdict(int), defaultdict(int), defaultdict(float)
    for kind, path, notes, tempo in some:
        number[kind] += 1
        for name, reader in readers.items():
            read = reader(path)
            good = is_right(read, notes or PACKED, tempo)
            right[name, kind] += good
            seconds[name] += 0 if isinstance(read, str) else read[3]
            if args.wrong and not good:
                print(name, path.name, read if isinstance(read, str) else f"{len(read[0])} notes")
    print("| kind | n |", *(f"right {name} |" for name in readers))
    print("|---|---|" + "---|" * len(readers))
    for kind in number:
        print(f"| {KINDS.get(kind, kind)} | {number[kind]} |", *(f"{right[name, kind]} |" for name in readers))
    totals = {name: sum(right[name, kind] for kind in number) for name in readers}
    print(f"| all | {sum(number.values())} |", *(f"{totals[name]} |" for name in readers))
    print(*(f"{name}: {seconds[name]:.1f} CPU-s" for name in readers), sep=", ")


if __name__ == "__main__":
    main()
