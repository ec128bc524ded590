"""Bad input of more than two hundred kinds, and what the command line makes of each: a table by area and verdict.

    python benchmarks/bad_inputs.py [WORD ...] [--all] [--slow SECONDS]

Each kind is built in an empty folder and given to `amt-nb`, in this process unless streams or signals are the matter.
Verdicts: "refused in one line" (exit code not 0, nothing left behind), "read and said" (the notes may differ, and a
line says so), "read right" (the notes are the known ones), FAULT (a traceback, a wrong result without a word, more than
one line, more than 10 CPU seconds or 1 GB, a half-written file, a changed input). WORDs choose kinds by a part of
"area/name"; --all prints every kind with what was said; exit code 1 when there is a FAULT.
"""

import argparse
import contextlib
import csv
import hashlib
import io
import os
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
MOST_S, MOST_MB, HANGS_S = 10, 1000, 60
TUNE = [(0.2, 60), (0.7, 64), (1.2, 67)]  # seconds and pitches of the recording that most sound files hold


@dataclass
class Kind:
    """One kind of bad input. build(folder): makes it, returns the words of the command line, or of a subprocess.

    may: what is good enough, a text of r (refused), s (read and said), v (read right). right(folder): are the results
    the known ones? None: there is nothing to compare. keeps: patterns of files that a refusal may leave."""

    area: str
    name: str
    build: object
    may: str = "r"
    right: object = None
    keeps: tuple = ()


@dataclass
class Answer:
    """What a command did."""

    code: object = None
    out: str = ""
    err: str = ""
    escaped: str = ""
    cpu_s: float = 0
    peak_mb: float = 0
    changed: list = field(default_factory=list)
    left: list = field(default_factory=list)


# ---- running -------------------------------------------------------------------------------------------------------


def prints(folder) -> dict:
    """{relative path: digest} of the ordinary files below a folder."""
    out = {}
    for path in Path(folder).rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 300 << 20:
            with contextlib.suppress(OSError):
                out[str(path.relative_to(folder))] = hashlib.sha1(path.read_bytes()).hexdigest()
    return out


@contextlib.contextmanager
def caught(answer):
    """Standard output and errors of this process and its libraries, kept in `answer`."""
    sys.stdout.flush(), sys.stderr.flush()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        numbers, streams = (os.dup(1), os.dup(2)), (sys.stdout, sys.stderr)
        os.dup2(out.fileno(), 1), os.dup2(err.fileno(), 2)
        sys.stdout, sys.stderr = (open(n, "w", encoding="utf-8", closefd=False) for n in (1, 2))
        try:
            yield
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
            sys.stdout, sys.stderr = streams
            for number, kept in enumerate(numbers, 1):
                os.dup2(kept, number), os.close(kept)
            out.seek(0), err.seek(0)
            answer.out, answer.err = out.read().decode(errors="replace"), err.read().decode(errors="replace")


def used_s() -> float:
    """CPU seconds of this process and its children so far."""
    return sum(resource.getrusage(who)[i] for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN) for i in (0, 1))


def peak_mb(anew: bool = False) -> float:
    """The most memory this process had since the last call with `anew`."""
    with contextlib.suppress(OSError):
        if anew:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    return 0.0


def late(*_):
    """What a command that hangs gets."""
    raise TimeoutError(f"more than {HANGS_S} s")


def call(words) -> object:
    """The exit code of the command line `words` in this process, or of words[0](), a subprocess."""
    from amt_nb.workshop.cli import main

    if callable(words):
        return words()
    try:
        return main([str(w) for w in words])
    except SystemExit as stopped:
        return stopped.code


def run(kind, folder) -> Answer:
    """What the command makes of one kind, built in `folder`."""
    answer, here = Answer(), os.getcwd()
    os.chdir(folder)
    handler = signal.signal(signal.SIGALRM, late)
    try:
        words = kind.build(Path(folder))
        before, started = prints(folder), used_s()
        peak_mb(anew=True)
        signal.alarm(HANGS_S)
        try:
            with caught(answer), warnings.catch_warnings():
                answer.code = call(words)
        except BaseException as error:
            answer.escaped = f"{type(error).__name__}: {error}"[:300]
        signal.alarm(0)
        answer.cpu_s, answer.peak_mb = used_s() - started, peak_mb()
        after = prints(folder)
        answer.changed = [name for name in before if after.get(name) != before[name]]
        answer.left = sorted(set(after) - set(before))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        os.chdir(here)
    return answer


# ---- judging -------------------------------------------------------------------------------------------------------


def told(answer) -> list:
    """The lines that say something was odd: those of standard error, and those of `score` after the tempo."""
    lines = [
        x for x in answer.err.replace("\r", "\n").splitlines() if x.strip() and "%|" not in x and "shell-init" not in x
    ]
    out = answer.out.splitlines()
    tempo = next((i for i, x in enumerate(out) if "quarters a minute" in x or "no tempo" in x), len(out))
    return lines + out[tempo + 1 :]


def unbearable(kind, answer) -> str:
    """What is wrong with an answer whatever its verdict; '' for nothing."""
    lines = told(answer)
    if answer.escaped:
        return f"escaped: {answer.escaped}"
    if "Traceback (" in answer.err + answer.out or "fault of amt-nb" in answer.err:
        return "traceback: " + " ".join(lines)[-300:]
    if any(ord(c) < 32 and c not in "\n\r\t" for c in answer.out + answer.err):
        return "a control character reaches the terminal"
    if answer.cpu_s > MOST_S:
        return f"{answer.cpu_s:.1f} CPU s"
    if answer.peak_mb > MOST_MB:
        return f"{answer.peak_mb:.0f} MB"
    if answer.changed:
        return f"changed: {answer.changed}"
    if [name for name in answer.left if name.endswith(".tmp") or "/.tmp" in name]:
        return f"temporary files left: {answer.left}"
    return ""


def as_known(kind, folder) -> bool:
    """Are the results the known ones? False where they cannot be read."""
    try:
        return bool(kind.right(Path(folder)))
    except (OSError, ValueError, csv.Error):
        return False


def verdict(kind, answer, folder) -> tuple[str, str]:
    """(verdict, why or what was said)."""
    lines, bad = told(answer), unbearable(kind, answer)
    what = (lines or answer.out.splitlines() or [""])[-1][:200]
    if bad:
        return "FAULT", bad
    if answer.code not in (0, None):
        left = [name for name in answer.left if not any(Path(name).match(p) for p in kind.keeps)]
        if "r" not in kind.may:
            return "FAULT", f"refused: {what}"
        if left:
            return "FAULT", f"refused, and left {left}"
        notes = sum(": note: " in line for line in lines)  # of what is odd besides
        if (
            len(lines) == notes
            or answer.code == 1
            and len(lines) - notes
            # in data sets a head, a line for each of two recordings, and the end
            > (4 if kind.area == "data sets" else 1 + (bool(kind.keeps) or kind.name == "two of one name"))
        ):
            return "FAULT", f"{len(lines)} lines: {' / '.join(lines)[:300]}"
        if kind.keeps and kind.right and not as_known(kind, folder):
            return "FAULT", f"the others are not done: {what}"
        return ("read and said" if kind.keeps else "refused in one line"), what
    good = as_known(kind, folder) if kind.right else True
    if good and "v" in kind.may:
        return "read right", what if lines else ""
    if lines and "s" in kind.may:
        return "read and said", what
    return "FAULT", f"exit 0, {'right' if good else 'wrong'}, said: {' / '.join(lines)[:200] or 'nothing'}"


# ---- scores ----------------------------------------------------------------------------------------------------------

KINDS: list[Kind] = []
WHOLE = [(0.0, 60), (4.0, 61), (8.0, 62), (12.0, 63)]  # the score that most kinds spoil


def notes_read(folder) -> list:
    """Sorted (quarter, pitch) of the table that `amt-nb score` wrote."""
    with open(folder / "o.csv") as file:
        return sorted((round(float(row["onset_quarter"]), 2), int(row["pitch"])) for row in csv.DictReader(file))


def score(name, data, may="r", right=None, suffix=".musicxml", area="scores"):
    """A kind of score: text, bytes or a function of either."""

    def build(folder):
        content = data() if callable(data) else data
        (folder / f"s{suffix}").write_bytes(content if isinstance(content, bytes) else content.encode())
        return ["score", f"s{suffix}", "-o", "o.csv"]

    wanted = None if right is None else (lambda folder: notes_read(folder) == sorted(right))
    KINDS.append(Kind(area, name, build, may, wanted))


def musicxml_kinds():
    """MusicXML that is cut, odd, forged, or only unusual."""
    from written_music import document, measures_of, note_xml, packed

    bars = measures_of(n=4)
    good = document({"P1": bars})
    head = '<?xml version="1.0" encoding="UTF-8"?>'
    one = lambda inside, first="<attributes><divisions>1</divisions></attributes>": document(
        {"P1": [first + inside, *bars[1:]]}
    )
    first_note = note_xml(60, 4)
    swap = lambda old, new: good.replace(old, new, 1)
    rest = WHOLE[1:]

    for name, text in {
        "empty": "", "blank": " \n\t\n", "zeros": b"\0" * 500, "prose": "dear diary " * 99,
        "html": "<!doctype html><html><body>404</body></html>", "svg": "<svg xmlns='http://www.w3.org/2000/svg'/>",
        "opus": "<opus><score href='a.xml'/></opus>", "json": '{"score": 1}', "random bytes": bytes(range(256)) * 9,
        "cut in half": good[: len(good) // 2], "cut by a byte": good[:-1], "a tag never closed": swap("</measure>", ""),
        "no parts": "<score-partwise><part-list/></score-partwise>", "parts without bars": document({"P1": [], "P2": []}),
        "rests alone": document({"P1": [note_xml("rest", 4)]}), "bars without notes": document({"P1": ["", "", ""]}),
        "percussion alone": one("<note><unpitched/><duration>4</duration></note>").split("<measure number=\"2\"")[0] + "</part></score-partwise>",
        "below the keyboard": document({"P1": [bars[0].replace("<octave>4", "<octave>-3")]}),
        "pdf": b"%PDF-1.7\n" + bytes(99), "a root only": "<score-partwise/>", "not a tree": "<a/><b/>",
        "deep": "<score-partwise>" + "<a>" * 200_000, "a MIDI file": b"MThd\0\0\0\6\0\1\0\1\1\xe0",
    }.items():  # fmt: skip
        score(f"musicxml {name}", text)

    dtd = '<!DOCTYPE score-partwise [<!ENTITY x SYSTEM "file:///etc/hostname">]>'
    laughs = "<!DOCTYPE s [<!ENTITY a '%s'>%s]>" % (
        "ha" * 50, "".join(f"<!ENTITY {c} '{('&' + p + ';') * 20}'>" for p, c in zip("abcdef", "bcdefg")),
    )  # fmt: skip
    score("musicxml an entity that names a file", head + dtd + swap("<part-name>P1", "<part-name>&x;"), "rsv", WHOLE)
    score("musicxml a billion laughs", head + laughs + swap("<part-name>P1", "<part-name>&g;"), "rsv", WHOLE)
    score("musicxml an entity nobody defined", swap("<part-name>P1", "<part-name>&nbsp;"), "rsv", WHOLE)
    score("musicxml a quarter of a million attributes", swap("<measure ", "<measure " + " ".join(f'a{i}="1"' for i in range(250_000)) + " "), "rsv", WHOLE)  # fmt: skip
    score("musicxml sixty megabytes of blanks", lambda: good.replace("</part-list>", " " * (60 << 20) + "</part-list>"), "rv", WHOLE)  # fmt: skip

    for name, text in {
        "UTF-16": good.encode("utf-16"), "UTF-8 with a mark": b"\xef\xbb\xbf" + good.encode(),
        "Latin-1 that says UTF-8": (head + swap("<part-name>P1", "<part-name>Für")).encode("latin-1"),
        "an encoding nobody knows": head.replace("UTF-8", "klingon") + good, "no declaration": good,
        "timewise": document({"P1": bars}, timewise=True), "a namespace": swap("<score-partwise", "<score-partwise xmlns='urn:x'"),
        "comments in values": good.replace("<step>C<", "<step>C<!-- no --><"), "blanks in values": good.replace("<duration>4<", "<duration>\n 4\t<"),
        "CDATA": good.replace("<step>C<", "<step><![CDATA[C]]><"), "instructions": good.replace("<measure", "<?page 1?><measure"),
        "unknown elements": good.replace("<note>", "<sparkle x='1'><y/></sparkle><note>"), "carriage returns": good.replace("><", ">\r\n<"),
        "no divisions": document({"P1": measures_of(n=4)}).replace("<divisions>1</divisions>", ""), "no voices": good.replace("<voice>1</voice>", ""),
        "a thousandth staff": good.replace("<staff>1<", "<staff>1000<"), "staff 0": good.replace("<staff>1<", "<staff>0<"),
        "bars without numbers": __import__("re").sub(r' number="\d+"', "", good), "bars of one number": __import__("re").sub(r'number="\d+"', 'number="1"', good),
        "durations as decimals": good.replace("<duration>4<", "<duration>4.0<"), "no part list": __import__("re").sub("<part-list>.*</part-list>", "", good),
        "a part the list lacks": good.replace('<part id="P1"', '<part id="P9"'), "a part without an id": good.replace('<part id="P1"', "<part"),
        "no name": good.replace("<part-name>P1</part-name>", ""), "a name of escape sequences": good.replace("<part-name>P1", "<part-name>&#155;31m"),
        "a name of a megabyte": good.replace("<part-name>P1", "<part-name>" + "n" * 1_000_000),
        "time 0/4": swap("</attributes>", "<time><beats>0</beats><beat-type>4</beat-type></time></attributes>"),
        "time 4/0": swap("</attributes>", "<time><beats>4</beats><beat-type>0</beat-type></time></attributes>"),
        "time 3+2/8": swap("</attributes>", "<time><beats>3+2</beats><beat-type>8</beat-type></time></attributes>"),
        "time of words": swap("</attributes>", "<time><beats>many</beats><beat-type>few</beat-type></time></attributes>"),
        "key of 99 sharps": swap("</attributes>", "<key><fifths>99</fifths></key></attributes>"),
        "a clef of nothing": swap("</attributes>", "<clef/></attributes>"),
    }.items():  # fmt: skip
        score(f"musicxml {name}", text, "sv", WHOLE)

    sound = lambda tempo: swap("<note>", f'<sound tempo="{tempo}"/><note>')
    for name in ("0", "-60", "nan", "inf", "1e308", "fast", "", "0.01", "1e9", "c. 66", "60–66"):
        score(f"musicxml tempo {name!r}", sound(name), "rsv", WHOLE)
    for name in ("0", "-4", "nan", "1e400", "many", "", "0.5", "1000000000000"):
        score(
            f"musicxml divisions {name!r}",
            swap("<divisions>1<", f"<divisions>{name}<"),
            "rsv" if name == "0.5" else "rs",
        )
    for name in ("-4", "nan", "1e400", "many", "1000000000", "1,5"):
        score(f"musicxml duration {name!r}", swap("<duration>4<", f"<duration>{name}<"), "rs")
    for name, pitch in {
        "step H": "<pitch><step>H</step><octave>4</octave></pitch>", "no step": "<pitch><octave>4</octave></pitch>",
        "no octave": "<pitch><step>C</step></pitch>", "octave 99": "<pitch><step>C</step><octave>99</octave></pitch>",
        "octave of words": "<pitch><step>C</step><octave>four</octave></pitch>", "alter of words": "<pitch><step>C</step><alter>up</alter><octave>4</octave></pitch>",
        "alter nan": "<pitch><step>C</step><alter>nan</alter><octave>4</octave></pitch>", "alter 1e9": "<pitch><step>C</step><alter>1e9</alter><octave>4</octave></pitch>",
        "alter inf": "<pitch><step>C</step><alter>inf</alter><octave>4</octave></pitch>", "a quarter tone": "<pitch><step>C</step><alter>0.5</alter><octave>4</octave></pitch>",
        "an empty pitch": "<pitch/>",
    }.items():  # fmt: skip
        score(f"musicxml {name}", one(f"<note>{pitch}<duration>4</duration></note>"), "rs")
    for name, inside, right in [
        ("a chord first", "<note><chord/>" + first_note.removeprefix("<note>"), WHOLE), ("a tie never ended", note_xml(60, 4, tie="start"), WHOLE),
        ("a tie never begun", note_xml(60, 4, tie="stop"), WHOLE), ("a note without duration", note_xml(60, 4) + note_xml(62, 4).replace("<duration>4</duration>", ""), None),
        ("a backup before the bar", "<backup><duration>9</duration></backup>" + first_note, WHOLE), ("a backup of words", "<backup><duration>x</duration></backup>" + first_note, WHOLE),
        ("a forward of a billion", first_note + "<forward><duration>1000000000</duration></forward>", WHOLE), ("a negative forward", first_note + "<forward><duration>-9</duration></forward>", WHOLE),
        ("a note in a note", first_note.replace("</note>", "<note/></note>"), WHOLE), ("an empty note", "<note/>" + first_note, WHOLE),
        ("a direction past the bar", f"<direction><direction-type><words>x</words></direction-type><offset>99</offset></direction>{first_note}", WHOLE),
        ("an offset of words", f"<direction><offset>late</offset><sound tempo='60'/></direction>{first_note}", WHOLE),
        ("a grace note alone in its bar", first_note + "<note><grace/><pitch><step>D</step><octave>5</octave></pitch></note>", None),
    ]:  # fmt: skip
        score(f"musicxml {name}", one(inside), "rsv" if right else "rs", right)

    repeat = lambda attributes: '<barline location="right"><repeat direction="backward"' + attributes + "/></barline>"
    for name, signs, right in [
        ("ten thousand times", {3: ("", repeat(' times="10000"'))}, None), ("minus one times", {3: ("", repeat(' times="-1"'))}, None),
        ("times of words", {3: ("", repeat(' times="often"'))}, None), ("a direction of its own", {3: ("", '<barline><repeat direction="up"/></barline>')}, WHOLE),
        ("an ending of words", {1: ('<barline location="left"><ending number="last" type="start"/></barline>', "")}, WHOLE),
        ("an ending that only stops", {1: ("", '<barline><ending number="1" type="stop"/></barline>')}, WHOLE),
        ("a forward sign never closed", {1: ('<barline location="left"><repeat direction="forward"/></barline>', "")}, WHOLE),
        ("dal segno without segno", {3: ("", '<sound dalsegno="a"/>')}, WHOLE), ("to a coda without coda", {1: ("", '<sound tocoda="a"/>')}, WHOLE),
    ]:  # fmt: skip
        score(
            f"musicxml repeat {name}", document({"P1": measures_of(n=4, signs=signs)}), "rsv" if right else "rs", right
        )
    many = document({"P1": [b + repeat(' times="9"') for b in measures_of(n=90)]})
    score("musicxml ninety sections nine times each", many, "sv", [(4.0 * (9 * i + k), 60 + i) for i in range(90) for k in range(9)])  # fmt: skip
    score("musicxml parts of unlike length", document({"P1": bars, "P2": measures_of(n=2)}), "sv", WHOLE + WHOLE[:2])
    score("musicxml two parts of one id", good.replace("</part>", "</part>" + good[good.index("<part id") : good.rindex("</score")], 1), "sv", WHOLE + WHOLE)  # fmt: skip
    score("musicxml transposed by a thousand octaves", swap("</attributes>", "<transpose><chromatic>0</chromatic><octave-change>1000</octave-change></transpose></attributes>"), "rs")  # fmt: skip
    score("musicxml transposed by words", swap("</attributes>", "<transpose><chromatic>down</chromatic></transpose></attributes>"), "rs")  # fmt: skip
    score("musicxml thirty thousand notes at once", lambda: one(first_note + "".join(note_xml(60 + k % 12, 4, chord=True) for k in range(30_000))), "rsv")  # fmt: skip
    score("musicxml as many notes as are read", lambda: limits(good, note_xml), "rsv")
    score("musicxml more notes than are read", lambda: limits(good, note_xml, 30), "r")

    for name, data, may in [
        ("no container", packed({"a.xml": good}), "sv"), ("a container that names another", packed({"a.xml": good}, "b.xml"), "s"),
        ("two scores, the second named", packed({"a.xml": swap("C<", "G<"), "b.xml": good}, "b.xml"), "v"),
        ("two scores, none named", packed({"a.xml": good, "b.xml": good}), "s"), ("a name that climbs", packed({"../../a.xml": good}, "../../a.xml"), "rsv"),
        ("a broken container", packed({"a.xml": good, "META-INF/container.xml": "<container"}), "sv"), ("junk beside it", packed({"a.xml": good, "x.png": "x" * 99, "__MACOSX/._a.xml": "\0\5"}, "a.xml"), "v"),
    ]:  # fmt: skip
        score(f"mxl {name}", data, may, WHOLE, ".mxl")
    archive = packed({"a.xml": good}, "a.xml")
    spoilt = bytearray(archive)
    spoilt[60] ^= 255
    locked = bytearray(archive)
    locked[6] |= 1
    locked[archive.rindex(b"PK\1\2", 0, archive.rindex(b"PK\1\2")) + 8] |= 1
    for name, data in {
        "empty": b"", "cut": archive[:-30], "cut in half": archive[: len(archive) // 2], "a byte changed": bytes(spoilt), "locked": bytes(locked),
        "nothing in it": packed({}), "no score in it": packed({"a.txt": "hello"}), "an archive in an archive": packed({"a.mxl": "PK"}, "a.mxl"),
    }.items():  # fmt: skip
        score(f"mxl {name}", data, suffix=".mxl")
    score("mxl a bomb", lambda: packed({"a.xml": "<score-partwise>" + " " * (200 << 20)}, "a.xml"), suffix=".mxl")
    score("mxl five thousand files", lambda: packed({f"{i}.xml": "" for i in range(5000)} | {"a.xml": good}), suffix=".mxl")  # fmt: skip
    score("mxl called musicxml", archive, "v", WHOLE)
    score("mxl that is plain text", good, "v", WHOLE, ".mxl")
    assert rest


def limits(good, note_xml, more=0):
    """MusicXML of as many printed notes as are read, and `more` percent."""
    from amt_nb.workshop.score_files import MAX_EVENTS

    a_bar = "".join(
        f"<note>{p}<duration>1</duration></note>" for p in ("<pitch><step>C</step><octave>4</octave></pitch>",) * 8
    )
    n = (MAX_EVENTS - 10) * (100 + more) // 100 // 8
    head = (
        "<score-partwise><part-list><score-part id='P1'><part-name>x</part-name></score-part></part-list><part id='P1'>"
    )
    return head + "<measure><attributes><divisions>16</divisions></attributes></measure>" + f"<measure>{a_bar}</measure>" * n + "</part></score-partwise>"  # fmt: skip


def kern_kinds():
    """**kern that is cut, odd or forged."""
    good = "**kern\n*M4/4\n=1\n1c\n=2\n1c#\n=3\n1d\n=4\n1d#\n==\n*-\n"
    for name, text in {
        "empty": "", "no header": "1c\n1d\n", "prose": "dear diary\n" * 99, "another table": "**dynam\np\nf\n*-\n", "zeros": b"\0" * 99, "random bytes": bytes(range(256)) * 9,
        "rests alone": "**kern\n1r\n1r\n*-\n", "nulls alone": "**kern\n.\n.\n*-\n", "header alone": "**kern\n*-\n", "musicxml": "<score-partwise/>", "UTF-32": good.encode("utf-32"),
    }.items():  # fmt: skip
        score(f"kern {name}", text, suffix=".krn", area="scores")
    for name, text in {
        "carriage returns": good.replace("\n", "\r\n"), "old Macintosh lines": good.replace("\n", "\r"), "UTF-16": good.encode("utf-16"), "a mark first": "\ufeff" + good,
        "no end": good.removesuffix("*-\n"), "no bar lines": good.replace("=", "!!="), "Latin-1 in a comment": ("!!!COM: Dvo\xe9\n" + good).encode("latin-1"),
        "blank lines": good.replace("\n", "\n\n"), "blanks at the ends": good.replace("\n", " \n"), "unknown interpretations": good.replace("=1", "*foo:bar\n*xyzzy\n=1"),
        "tempo 0": good.replace("=1", "*MM0\n=1"), "tempo -5": good.replace("=1", "*MM-5\n=1"), "tempo of words": good.replace("=1", "*MM[Allegro]\n=1"), "time 0/0": good.replace("*M4/4", "*M0/0"),
        "letters that mean nothing": good.replace("1c\n", "1c@%$\n"), "a section that is not there": good.replace("*M4/4", "*>[A,B]\n*M4/4"),
    }.items():  # fmt: skip
        score(f"kern {name}", text, "sv" if "0" not in name and "not there" not in name else "rsv", WHOLE, ".krn")
    for name, text in {
        "a row of three columns": good.replace("1c#", "1c#\t1d\t1e"), "a length of 0 digits": good.replace("1c#", "c#"), "a length of a billion": good.replace("1c#", "1000000000c#"),
        "a breve of zeros": good.replace("1c#", "00000000000c#"), "a length of minus": good.replace("1c#", "-1c#"), "a pitch of c and e": good.replace("1c#", "1ce"), "octave 40": good.replace("1c#", "1" + "c" * 40),
        "a split without end": good.replace("1c#", "*^\n1c#"), "a join of one": good.replace("=2", "*v\n=2"), "cut in a row": good[:25],
        "a split a row, forty rows": "**kern\n" + "".join("\t".join(["*^"] * 2**k) + "\n" for k in range(14)) + "1c\n*-\n",
        "sections without number": good.replace("*M4/4", "*>[" + "A," * 300_000 + "A]\n*>A\n*M4/4"), "tuplets of a thousand dots": good.replace("1c#", "1" + "." * 1000 + "c#"),
    }.items():  # fmt: skip
        score(f"kern {name}", text, "rs", suffix=".krn", area="scores")


# ---- MIDI -------------------------------------------------------------------------------------------------------------

PLAIN = [(0.0, 60), (1.0, 62), (2.0, 64), (3.0, 65)]


def track(body: bytes, kind=b"MTrk", length=None) -> bytes:
    """A chunk of a MIDI file."""
    return kind + (len(body) if length is None else length).to_bytes(4, "big") + body


def header(kind=1, count=1, ticks=480, length=6) -> bytes:
    """The first chunk of a MIDI file."""
    return b"MThd" + length.to_bytes(4, "big") + b"".join(n.to_bytes(2, "big") for n in (kind, count, ticks))


END = b"\0\xff\x2f\0"
FOUR = b"".join(b"\0\x90" + bytes([p, 80]) + b"\x83\x60\x80" + bytes([p, 0]) for p in (60, 62, 64, 65))


def midi_kinds():
    """MIDI that is cut, odd or forged."""
    good = header() + track(FOUR + END)
    one = lambda body, **how: header(**how) + track(body)
    for name, data in {
        "empty": b"", "four bytes": b"MThd", "header alone": header(), "prose": b"dear diary " * 9, "zeros": bytes(99), "a track alone": track(FOUR + END), "musicxml": b"<score-partwise/>",
        "no note": one(END), "no byte in its track": one(b""), "0 ticks": one(FOUR + END, ticks=0), "header of 2 bytes": one(FOUR + END, length=2), "SMPTE of no tick": one(FOUR + END, ticks=0xE700),
        "three patterns": header(2, 3) + track(FOUR + END) * 3, "a tempo of 0": one(b"\0\xff\x51\3\0\0\0" + FOUR + END), "a zip": b"PK\3\4" + bytes(99),
        "drums alone": one(FOUR.replace(b"\x90", b"\x99").replace(b"\x80", b"\x89") + END) , "a note at the end of time": one(b"\xff\xff\xff\x7f\x90\x3c\x50" * 20 + b"\x10\x80\x3c\0" + END, ticks=1),
        "below the keyboard": one(b"\0\x90\0\x50\x60\x80\0\0" + END),
    }.items():  # fmt: skip
        score(f"midi {name}", data, "rs" if name.startswith("drums") else "r", suffix=".mid", area="MIDI")
    for name, data in {
        "an unknown chunk first": header() + track(b"hello", b"XFIH") + track(FOUR + END), "an unknown chunk last": good + track(b"hello", b"XFKM"), "zeros behind": good + bytes(50), "prose behind": good + b"dear diary",
        "header of 7 bytes": b"MThd\0\0\0\7\0\1\0\1\1\xe0\0" + track(FOUR + END), "RIFF": b"RIFF" + (len(good) + 12).to_bytes(4, "little") + b"RMIDdata" + len(good).to_bytes(4, "little") + good,
        "a MacBinary head": bytes(128) + good, "no end of track": one(FOUR), "an end with data behind": one(FOUR + END + b"\0\x90\x64\x50"), "format 0 of one track": one(FOUR + END, kind=0),
        "format 3": one(FOUR + END, kind=3), "0 tracks counted": one(FOUR + END, count=0), "9 tracks counted": one(FOUR + END, count=9), "a track too many": header(1, 1) + track(END) + track(FOUR + END),
        "format 0 of two tracks": header(0, 2) + track(END) + track(FOUR + END), "a sysex": one(b"\0\xf0\3\1\2\xf7" + FOUR + END), "a sysex never ended": one(b"\0\xf0\3\1\2\3" + FOUR + END),
        "running status after a sysex": one(FOUR[:4] + b"\0\xf0\2\1\xf7\x83\x60\x3c\0" + FOUR[9:] + END), "an escape": one(b"\0\xf7\2\xf3\1" + FOUR + END), "a real-time byte": one(b"\0\xf8" + FOUR + END),
        "an unknown meta event": one(b"\0\xff\x77\3abc" + FOUR + END), "a text of escape sequences": one(b"\0\xff\3\4\x1b[2J" + FOUR + END), "a text in no encoding": one(b"\0\xff\1\3\xff\xfe\x80" + FOUR + END),
        "a key of 99 sharps": one(b"\0\xff\x59\2\x63\0" + FOUR + END), "time 0/4": one(b"\0\xff\x58\4\0\2\x18\x08" + FOUR + END), "time 1/2^15": one(b"\0\xff\x58\4\1\x0f\x18\x08" + FOUR + END),
        "time 4/2^255": one(b"\0\xff\x58\4\4\xff\x18\x08" + FOUR + END), "a tempo of two bytes": one(b"\0\xff\x51\2\7\xa1" + FOUR + END), "an event after a year": one(FOUR + b"\xff\xff\xff\x7f\xb0\7\x64" + END),
        "a note off for nothing": one(b"\0\x80\x40\0" + FOUR + END), "off by velocity 0": one(b"".join(b"\0\x90" + bytes([p, 80]) + b"\x83\x60" + bytes([p, 0]) for p in (60, 62, 64, 65)) + END),
        "the last note never let go": one(FOUR[:-4] + END), "a pedal never let go": one(b"\0\xb0\x40\x7f" + FOUR + END), "pitch bend to the end": one(b"\0\xe0\x7f\x7f" + FOUR + END),
    }.items():  # fmt: skip
        score(f"midi {name}", data, "sv", PLAIN, ".mid", area="MIDI")
    known = {  # every key is down once; the notes begin a tick a tempo later
        "a hundred thousand notes at once": [(0.0, pitch) for pitch in range(21, 109)],
        "a hundred thousand tempos": [(round(100_000 / 480 + onset, 2), pitch) for onset, pitch in PLAIN],
    }
    for name, data in {
        "cut in the middle of a note": good[:-12], "cut by a byte": good[:-1], "a track longer than the file": header() + track(FOUR + END, length=9999), "a track shorter than it is": header() + track(FOUR + END, length=17),
        "a track of 4 GB": header() + track(FOUR + END, length=2**32 - 1), "a delta of five bytes": one(b"\x81\x80\x80\x80\0\x90\x3c\x50" + FOUR + END), "data of 200": one(b"\0\x90\xc8\x50" + FOUR + END), "data without status": one(b"\0\x3c\x50" + FOUR + END),
        "a meta event past the end": one(FOUR + b"\0\xff\1\xff\xff\x7f"), "a note without length": one(b"\0\x90\x3c\x50\0\x80\x3c\0" + FOUR + END), "a tempo of a second a tick": one(b"\0\xff\x51\3\xff\xff\xff" + FOUR + END, ticks=1),
        "SMPTE of 1 frame": one(FOUR + END, ticks=0xFF01), "negative SMPTE of 255": one(FOUR + END, ticks=0x80FF), "the same note a thousand times": one(b"\0\x90\x3c\x50" * 1000 + FOUR + END),
        "a hundred thousand notes at once": one(b"".join(b"\0\x90" + bytes([21 + k % 88, 80]) for k in range(100_000)) + b"\x10\x80\x3c\0" + END),
        "a hundred thousand tempos": one(b"\1\xff\x51\3\7\xa1\x20" * 100_000 + FOUR + END), "a quarter of a million programs": one(b"\0\xc0\5" * 250_000 + FOUR + END),
        "a thousand empty tracks": header(1, 1001) + track(END) * 1000 + track(FOUR + END), "32767 ticks": one(FOUR + END, ticks=32767),
    }.items():  # fmt: skip
        score(
            f"midi {name}",
            data,
            "rsv",
            known.get(name, PLAIN) if not name.startswith("32767") and "SMPTE" not in name else None,
            ".mid",
            area="MIDI",
        )


# ---- sound ------------------------------------------------------------------------------------------------------------

_MADE: dict = {}


def tune(sr=16000):
    """The wave (S,) of TUNE, 2.5 s."""
    from amt_nb.notes import as_notes
    from amt_nb.workshop.synth import render

    if sr not in _MADE:
        _MADE[sr] = render(as_notes([0.2, 0.7, 1.2], [0.6, 1.1, 1.9], [60, 64, 67]), sr, seconds=2.5)
    return _MADE[sr]


def wav(sr=16000, **how) -> bytes:
    """TUNE as a wav of 16 bits."""
    import soundfile

    soundfile.write(out := io.BytesIO(), tune(sr), sr, format="WAV", **how)
    return out.getvalue()


def pcm(format_tag=1, channels=1, rate=16000, bits=16, block=None, size=None, data=None, between=b"") -> bytes:
    """A wav put together by hand, with whatever in its head."""
    body = wav()[44:] if data is None else data
    block = channels * bits // 8 if block is None else block
    fmt = b"".join(n.to_bytes(k, "little") for n, k in ((format_tag, 2), (channels, 2), (rate, 4), (rate * block % 2**32, 4), (block % 65536, 2), (bits, 2)))  # fmt: skip
    chunk = b"data" + (len(body) if size is None else size).to_bytes(4, "little") + body
    inside = b"WAVEfmt \x10\0\0\0" + fmt + between + chunk
    return b"RIFF" + len(inside).to_bytes(4, "little") + inside


def notes_heard(path) -> bool:
    """Are the notes of a MIDI file those of TUNE, to a tenth of a second?"""
    from amt_nb.workshop.midi import read_midi

    notes = read_midi(path)
    found = sorted((n["onset_s"], n["pitch"]) for n in notes)
    held = [any(abs(a - b) < 0.1 and p == q for a, p in found) for b, q in TUNE]
    return all(held) and len(found) <= 8  # the nets hear an overtone more in the clean file too


def hears(folder) -> bool:
    """Were the notes of TUNE written to o.mid?"""
    return (folder / "o.mid").is_file() and notes_heard(folder / "o.mid")


def sound(name, data, may="r", right=hears, file="a.wav"):
    """A kind of sound file: bytes, or a function of the folder that makes it."""

    def build(folder):
        if callable(data):
            made = data(folder)
            if made is not None:
                (folder / file).write_bytes(made)
        else:
            (folder / file).write_bytes(data)
        return ["transcribe", "--no-progress", "--weights", "align-12k", file, "-o", "o.mid"]

    KINDS.append(Kind("sound", name, build, may, right))


def float_wav(change, subtype="FLOAT", sr=16000):
    """A function that writes a.wav: TUNE, changed."""

    def make(folder):
        import soundfile

        soundfile.write(folder / "a.wav", change(tune(sr).astype("f8")), sr, subtype=subtype)

    return make


def encoded(name, codec, sr=44100, change=lambda data: data):
    """A function that writes TUNE by FFmpeg's codec, and then changes the bytes."""

    def make(folder):
        import soundfile
        from sounds import encode

        path = folder / f"made-{name}"
        if codec == "vorbis":
            soundfile.write(path, tune(sr), sr, format="OGG", subtype="VORBIS")
        else:
            encode(path, codec, tune(sr), sr)
        data = path.read_bytes()
        path.unlink()
        return change(data)

    return make


def sound_kinds():
    """Sound files that are none, lie, are cut, or only unusual."""
    import numpy as np
    from sounds import hurt

    for name, data in {
        "empty": b"", "one byte": b"R", "prose": b"dear diary " * 99, "zeros": bytes(9999), "random bytes": np.random.default_rng(0).bytes(9999), "a MIDI file": header() + track(FOUR + END),
        "an image": b"\x89PNG\r\n\x1a\n" + bytes(99), "a page": b"<html>404</html>", "an archive": b"PK\3\4" + bytes(99), "a program": b"\x7fELF" + bytes(99), "a head alone": wav()[:44], "half a head": wav()[:20],
        "a playlist": b"#EXTM3U\n/etc/hostname\n", "a script that names files": b"ffconcat version 1.0\nfile take.wav\n", "a stream list": b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
        "a session description": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\n", "a pointer": b"version https://git-lfs.github.com/spec/v1\nsize 3\n", "an mp4 without its table": b"\0\0\0\x18ftypM4A \0\0\0\0" + b"\0\0\4\0mdat" + bytes(1016),
        "an Ogg of nothing": b"OggS" + bytes(60), "a FLAC of nothing": b"fLaC" + bytes(60), "an ID3 tag alone": b"ID3\4\0\0\0\0\0\x7f" + bytes(127), "subtitles": b"1\n00:00:00,000 --> 00:00:01,000\nhello\n",
    }.items():  # fmt: skip
        sound(name, data)
    sound("a tag that claims 256 MB", b"ID3\4\0\0\x7f\x7f\x7f\x7f" + bytes(500), file="a.mp3")
    for name, data in {
        "0 channels": pcm(channels=0), "0 Hz": pcm(rate=0), "0 bits": pcm(bits=0, block=2), "7 bits": pcm(bits=7, block=1), "128 bits": pcm(bits=128), "a codec nobody knows": pcm(format_tag=0x7777), "1 Hz": pcm(rate=1), "4 GHz": pcm(rate=2**32 - 1),
        "65,535 channels": pcm(channels=65535, block=2),
    }.items():  # fmt: skip
        sound(f"wav of {name}", data, "rs" if name in ("7 bits",) else "r")
    junk = lambda n: b"junk" + n.to_bytes(4, "little") + bytes(n + n % 2)
    for name, data in {
        "a data size of 0": pcm(size=0), "a data size of 0xffffffff": pcm(size=2**32 - 1), "a data size of 0x7ffff000": pcm(size=0x7FFFF000), "a block of 0": pcm(block=0), "a block of 7": pcm(block=7), "a RIFF size of 0": b"RIFF\0\0\0\0" + pcm()[8:],
        "a chunk of odd length": pcm(between=junk(7)), "a megabyte of junk": pcm(between=junk(1 << 20)), "the word data in a comment": pcm(between=b"LIST\x10\0\0\0INFOICMT\4\0\0\0data"), "a chunk past the end": pcm() + b"LIST\xff\xff\xff\x7f",
        "junk behind": pcm() + b"dear diary" * 9, "a data size of half": pcm(size=40000), "a second data chunk": pcm() + b"data\4\0\0\0\1\0\2\0", "an mp3's name": pcm(), "a byte too many": pcm(data=wav()[44:] + b"\1"),
    }.items():  # fmt: skip
        sound(f"wav with {name}", data, "rsv", file="a.mp3" if "mp3" in name else "a.wav")
    sound(
        "wav of 64 channels",
        lambda f: pcm(channels=64, data=np.repeat((tune() * 32767).astype("<i2"), 64).tobytes()),
        "rsv",
    )
    sound("wav of 1,024 channels", lambda f: pcm(channels=1024, data=bytes(2048 * 999)), "rs")
    for name, rate in (("1 kHz", 1000), ("999 Hz", 999), ("8 kHz", 8000), ("192 kHz", 192000), ("384 kHz", 384000), ("800 kHz", 800000)):  # fmt: skip
        sound(f"wav of {name}", lambda f, rate=rate: wav(rate) if rate in (8000, 192000) else pcm(rate=rate), "rsv", hears if rate in (8000, 192000) else None)  # fmt: skip
    for name, change, may in [
        ("a NaN", lambda x: np.where(np.arange(len(x)) == 9000, np.nan, x), "rs"), ("infinity", lambda x: np.where(np.arange(len(x)) == 9000, np.inf, x), "rs"), ("1e30", lambda x: x * 1e30, "rsv"), ("1e-30", lambda x: x * 1e-30, "rsv"),
        ("silence", lambda x: x * 0, "s"), ("one sample", lambda x: x[:1], "rs"), ("no sample", lambda x: x[:0], "r"), ("a constant", lambda x: x * 0 + 0.5, "sv"), ("a constant added", lambda x: x * 0.4 + 0.5, "sv"), ("samples up to 1000", lambda x: x * 1000, "sv"),
        ("opposite channels", lambda x: np.stack([x, -x], 1), "v"), ("one silent channel", lambda x: np.stack([x, x * 0], 1), "v"), ("faint noise", lambda x: np.random.default_rng(0).normal(size=len(x)) * 1e-4, "s"), ("a note in quarters of a second", lambda x: x[:4000], "sv"),
    ]:  # fmt: skip
        sound(
            f"floats of {name}",
            float_wav(change),
            may,
            None if "quarters" in name or name == "a constant" else hears if "v" in may else (lambda f: False),
        )
    for file, codec, sr in [("a.flac", "flac", 44100), ("a.mp3", "libmp3lame", 44100), ("a.opus", "libopus", 48000), ("a.m4a", "aac", 44100), ("v.ogg", "vorbis", 44100)]:  # fmt: skip
        for how, may in (("cut", "rs"), ("short", "rsv"), ("flip", "rsv"), ("noise", "rsv")):
            words = {
                "cut": "cut at 60 %",
                "short": "a byte short",
                "flip": "a bit turned",
                "noise": "noise in the middle",
            }
            sound(f"{file.split('.')[1]} {words[how]}", encoded(file, codec, sr, lambda d, how=how: hurt(d, how)), may, file=file)  # fmt: skip
    sound("mp3 behind junk", encoded("a.mp3", "libmp3lame", 44100, lambda d: b"junk " * 300 + d), "rsv", file="a.mp3")
    sound("flac called wav", encoded("a.flac", "flac"), "v")
    sound("two wavs joined", pcm() + pcm(), "rs", lambda f: False)
    sound("two mp3 joined", encoded("a.mp3", "libmp3lame", 44100, lambda d: d + d), "rsv", lambda f: 6 <= len(heard(f)) <= 8, "a.mp3")  # fmt: skip


def heard(folder):
    """The notes in o.mid."""
    from amt_nb.workshop.midi import read_midi

    return read_midi(folder / "o.mid")


# ---- weights ------------------------------------------------------------------------------------------------------------


def weights_kinds():
    """Files of weights that are none, are cut, or hold what no net of ours has."""
    import numpy as np
    from test_bad_inputs_data import raw, shipped, weights

    def kind(name, make, may="r"):
        def build(folder):
            (folder / "take.wav").write_bytes(wav())
            data = make(folder / "w.safetensors")
            if isinstance(data, bytes):
                (folder / "w.safetensors").write_bytes(data)
            return ["transcribe", "--no-progress", "take.wav", "-o", "o.mid", "--weights", "./w.safetensors"]

        KINDS.append(Kind("weights", name, build, may, hears))

    whole = lambda path: weights(path).read_bytes()
    kind("as shipped", lambda p: whole(p), "v")
    kind("empty", lambda p: b"")
    kind("a wav", lambda p: wav())
    kind("a pickle of torch", lambda p: b"PK\3\4archive/data.pkl" + bytes(99))
    kind("a pickle", lambda p: b"\x80\4c__builtin__\nprint\n(S'hi'\ntR.")
    kind("a pointer", lambda p: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    kind("a page", lambda p: b"<html>404</html>")
    kind("cut by a byte", lambda p: whole(p)[:-1])
    kind("cut in half", lambda p: whole(p)[: len(whole(p)) // 2])
    kind("longer by a byte", lambda p: whole(p) + b"\0")
    kind("a head of 0 bytes", lambda p: raw(b""))
    kind("a head of 2 GB", lambda p: raw(b"{}", 2**31))
    kind("a head that is deep", lambda p: raw(b'{"a":' * 100_000))
    kind("a name twice", lambda p: raw(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}') + bytes(4))  # fmt: skip
    kind("tensors that overlap", lambda p: raw(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}') + bytes(6))  # fmt: skip
    kind(
        "a name of escape sequences",
        lambda p: raw(b'{"\\u001b[2J":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}') + bytes(4),
    )
    tensors = lambda change: lambda p: weights(p, {k: np.asarray(change(v)) for k, v in shipped()[0].items()}) and None
    kind("every tensor NaN", tensors(lambda v: v * np.nan))
    kind("every tensor as complex numbers", tensors(lambda v: v.astype("c8")))
    kind("every tensor flat", tensors(lambda v: v.reshape(-1)))
    kind("every tensor a thousand times larger", tensors(lambda v: v.astype("f4") * 1000), "rs")
    kind("every tensor as doubles", tensors(lambda v: v.astype("f8")), "rv")
    kind("thresholds as words", lambda p: weights(p, config={"decode": {"onset_threshold": "high"}}) and None)
    kind("a threshold of true", lambda p: weights(p, config={"decode": {"onset_threshold": True}}) and None)
    kind("an instrument of its own", lambda p: weights(p, config={"harmonic": {"instruments": 99}}) and None)
    kind("a configuration of nothing", lambda p: weights(p, header={"config": "{}"}) and None)
    kind("a folder", lambda p: p.mkdir())
    for name, words in {"a name nobody knows": "piano-1000k", "a path that climbs": "../../../etc/passwd", "a device": "/dev/zero", "a net that aligns nothing": "pedal-4k", "a name with a zero": "a\0b"}.items():  # fmt: skip
        KINDS.append(Kind("weights", name, lambda f, words=words: [(f / "a.wav").write_bytes(wav()) and "transcribe", "--no-progress", "a.wav", "-o", "o.mid", "--weights", words]))  # fmt: skip


# ---- settings and values ---------------------------------------------------------------------------------------------------


def with_tune(folder, *more):
    """A folder with take.wav and take.krn of TUNE."""
    (folder / "take.wav").write_bytes(wav())
    (folder / "take.mid").write_bytes(header() + track(FOUR + END))
    return list(more)


def settings_kinds():
    """Values on the command line, and settings files, that mean nothing."""
    plain = ["transcribe", "--no-progress", "take.wav", "-o", "o.mid", "--weights", "align-12k"]
    say = lambda name, words, may="r", right=None: KINDS.append(Kind("settings and values", name, lambda f: with_tune(f, *words), may, right))  # fmt: skip
    for option, values in {
        "--min-note-ms": ("-1", "nan", "1e9", "0x10", "", "many", "99999999999999999999", "1.5"), "--onset-threshold": ("2", "-0.1", "nan", "inf", "", "0,3", "half"), "--frame-threshold": ("1.01", "nan", "-inf"),
        "--weights": ("", ".", "/"), "-o": ("", "o.wav", "a.mid/b.mid", "/nowhere/at/all/o.mid", "/dev/full", "/proc/o.mid", "o\0.mid", "o" * 300 + ".mid"),
    }.items():  # fmt: skip
        for value in values:
            say(f"transcribe {option} {value[:20]!r}", [*plain, option, value])
    align = ["align", "--no-progress", "take.wav", "take.mid", "-o", "o.csv"]
    for value in ("nan", "1.5", "1000", "-1000", "", "up"):
        say(f"align --semitones {value!r}", [*align, "--semitones", value])
    for name, words in {
        "no command": [], "a command nobody knows": ["transcripe", "a.wav"], "no recording": ["transcribe"], "an option nobody knows": [*plain, "--colour"], "a recording twice to one file": ["transcribe", "take.wav", "take.wav", "-o", "o.mid"],
        "align without a score": ["align", "take.wav"], "align the wrong way round": ["align", "take.mid", "take.wav", "-o", "o.csv"], "align a score to itself": ["align", "take.wav", "take.wav", "-o", "o.csv"],
        "evaluate nothing": ["evaluate", "--data"], "evaluate a role nobody has": ["evaluate", "--data", "embedded", "--role", "judge"], "a limit of -1": ["evaluate", "--data", "embedded", "--limit", "-1"], "a limit of 0": ["evaluate", "--data", "embedded", "--limit", "0"],
        "jobs of a million": ["prepare", "--data", "maps=nowhere", "--jobs", "1000000"], "jobs of 0": ["prepare", "--data", "maps=nowhere", "--jobs", "0"], "a size nobody knows": ["prepare", "--data", "embedded", "--size", "huge"],
        "a seed of half": ["train", "r", "--data", "embedded", "--seed", "0.5"], "a ratio and minutes": ["train", "r", "--data", "embedded", "--ratio", "1:1", "--minutes", "3"], "a setting without a value": ["train", "r", "--data", "embedded", "--set", "train_steps"],
        "a web address": ["transcribe", "http://127.0.0.1:9/a.wav", "-o", "o.mid"], "a file: address": ["transcribe", "file:take.wav", "-o", "o.mid"], "a concat: address": ["transcribe", "concat:take.wav|take.wav", "-o", "o.mid"], "a data: address": ["transcribe", "data:audio/wav;base64,UklGRg==", "-o", "o.mid"],
        "standard input": ["transcribe", "-", "-o", "o.mid"], "a name with a zero": ["transcribe", "a\0.wav", "-o", "o.mid"], "a pattern nothing matches": ["transcribe", "*.flac", "-o", "o.mid"], "an empty name": ["transcribe", "", "-o", "o.mid"], "score of a sound": ["score", "take.wav"],
        "score to a picture": ["score", "take.mid", "-o", "o.png"], "score of nothing": ["score"], "score of a device": ["score", "/dev/zero"], "transcribe a device": ["transcribe", "/dev/zero", "-o", "o.mid"],
    }.items():  # fmt: skip
        say(name, words)

    def ini(name, text, may="r", words=align):
        def build(folder):
            (folder / "settings.ini").write_bytes(text if isinstance(text, bytes) else text.encode())
            return with_tune(folder, *words)

        KINDS.append(Kind("settings and values", f"settings: {name}", build, may))

    for name, text in {
        "an unknown key": "[common]\npath_flour = 1\n", "an unknown section": "[demos]\nx = 1\n[demo]\n", "a key twice": "[demo]\npath_floor = 0.1\npath_floor = 0.2\n", "a line without a section": "path_floor = 1\n[demo]\n", "a section twice": "[demo]\n[demo]\n",
        "no text": b"[demo]\n\0\1\2", "Latin-1": "[demo]\n; f\xfcr\n".encode("latin-1"), "two megabytes": "[demo]\n" + "; x\n" * 600_000, "a broken section": "[demo\n[demo]\nx\n", "nan": "[common]\npath_floor = nan\n", "a word": "[common]\npath_floor = low\n",
        "infinity": "[common]\npath_jump = inf\n", "minus": "[common]\npath_floor = -1\n", "nothing": "[common]\npath_floor =\n",
    }.items():  # fmt: skip
        ini(name, text)
    ini("somebody else's file", "[server]\nport = 80\n", "sv")

    def named(folder, value):
        os.environ["AMT_NB_SETTINGS"] = str(value)
        return with_tune(folder, *align)

    def forgotten(words):
        from amt_nb.workshop.cli import main

        try:
            return main(words)
        finally:
            del os.environ["AMT_NB_SETTINGS"]

    for name, value in {"a file that is not there": "nowhere.ini", "a folder": ".", "a sound": "take.wav", "a device": "/dev/zero"}.items():  # fmt: skip
        KINDS.append(Kind("settings and values", f"AMT_NB_SETTINGS of {name}", lambda f, value=value: (lambda words=named(f, value): forgotten(words))))  # fmt: skip


# ---- data sets --------------------------------------------------------------------------------------------------------------


def data_kinds():
    """Data sets and label tables: whatever is wrong with one recording, the others are done, and it is said."""
    from test_bad_inputs_data import TABLE, original_maps, packed_maps, rezip

    def take(folder):
        (folder / "take.wav").write_bytes(wav())
        return folder / "take.wav"

    words = ["prepare", "--data", "maps=d", "--cache", "c", "--jobs", "1"]
    features = lambda folder: len(list((folder / "c" / "features").glob("*.cqt.npy"))) == 1
    rows = lambda line: "OnsetTime\tOffsetTime\tMidiPitch\n" + line
    for name, table in {
        "empty": "", "prose": "dear diary\n" * 9, "MIDI": header() + track(FOUR + END), "a page": "<html>\n", "JSON": "[[0, 1, 60]]", "commas": TABLE.replace("\t", ","), "UTF-32": TABLE.encode("utf-32"), "a zero in it": TABLE.encode() + b"\0", "columns of words": rows("a\tb\tc\n"),
        "pitch 128": rows("0.1\t0.5\t128\n"), "pitch 60.5": rows("0.1\t0.5\t60.5\n"), "onset nan": rows("nan\t0.5\t60\n"), "onset infinite": rows("inf\tinf\t60\n"), "onset 1e308": rows("1e308\t1e308\t60\n"), "ends before it begins": rows("0.5\t0.1\t60\n"), "one column": "0.1\n0.2\n", "a row that is cut": TABLE + "1.9\t2.1",
        "sixty megabytes": "x" * (60 << 20),
    }.items():  # fmt: skip
        data = table if isinstance(table, bytes) else table.encode()
        build = lambda f, data=data: original_maps(f / "d", take(f), data) and list(words)
        KINDS.append(Kind("data sets", f"a table: {name}", build, "r", features, ("c/**/*", "c/*", "c/features/*")))

    def broken(name, change, may="r", keeps=()):
        def build(folder):
            change(packed_maps(folder / "d", take(folder)))
            return list(words)

        KINDS.append(Kind("data sets", name, build, may, None, keeps))

    broken("a list that is none", lambda d: (d / "splits.csv").write_bytes(b"\x89PNG"))
    broken("a list of names that climb", lambda d: (d / "splits.csv").write_text("recording,piece,group,role,seconds,audio_lag_ms\n../../take,p,g,train,2.5,0\n"))  # fmt: skip
    broken("a list that names one twice", lambda d: (d / "splits.csv").write_text((d / "splits.csv").read_text() + "r0,piece0,g,train,2.5,0\n"))  # fmt: skip
    broken("labels in no archive", lambda d: (d / "labels.zip").unlink())
    broken("labels in a folder", lambda d: ((d / "labels.zip").unlink(), (d / "labels.zip").mkdir()))
    broken(
        "labels of nobody", lambda d: rezip(d, ["x.tsv"]), keeps=("c/features/*.cqt.npy", "c/features/*.sum")
    )  # a whole one and the files' digests, for next time
    for name, data in {"a folder that is not there": "maps=nowhere", "an empty folder": "maps=e", "a file": "maps=take.wav", "no such set": "mops=d", "nothing": "", "two at once": "maps=d=e"}.items():  # fmt: skip
        KINDS.append(Kind("data sets", f"a set: {name}", lambda f, data=data: [take(f) and (f / "e").mkdir() or "prepare", "--data", data, "--cache", "c", "--jobs", "1"]))  # fmt: skip


# ---- outputs, names, streams -------------------------------------------------------------------------------------------------


def shell(line, code=None):
    """What a shell makes of `line`, in which amt-nb is the command: its exit code, its words on this process's streams."""
    import shlex
    import subprocess

    program = f"PYTHONPATH={shlex.quote(str(ROOT))} {shlex.quote(sys.executable)} -m amt_nb.workshop.cli"
    done = subprocess.run(["bash", "-c", line.replace("amt-nb", program)], capture_output=True, timeout=HANGS_S)
    sys.stdout.write(done.stdout.decode(errors="replace"))
    sys.stderr.write(done.stderr.decode(errors="replace"))
    return done.returncode


def output_kinds():
    """Outputs that are somebody's, names that are odd, streams that are closed."""
    go = ["transcribe", "--no-progress", "--weights", "align-12k"]
    put = lambda name, build, may="r", right=None, keeps=(): KINDS.append(Kind("outputs, names, streams", name, build, may, right, keeps))  # fmt: skip

    def neighbour(name, *words):
        def build(folder):
            with_tune(folder)
            (folder / name).write_bytes(b"mine")
            return list(words)

        return build

    for name in ("take.csv", "take.json", "take.png", "take.stereo.ogg", "take.musicxml"):
        option = {"png": "--picture", "ogg": "--sound"}.get(name.split(".")[-1], "--" + name.split(".")[-1])
        put(f"a neighbour called {name}", neighbour(name, *go, "take.wav", "-o", "./", option))
    put("a MIDI file of the recording's name", lambda f: with_tune(f, *go, "take.wav"))
    put("a score's table that is there", neighbour("o.csv", "score", "take.mid", "-o", "o.csv"))
    put("an aligned table that is there", neighbour("o.csv", "align", "take.wav", "take.mid", "-o", "o.csv"))
    put("a score written over itself", neighbour("s.csv", "score", "s.csv", "-o", "s.csv", "--force"))
    put("a link to the input as output", lambda f: with_tune(f, (f / "o.mid").symlink_to("take.wav") or go[0], *go[1:], "take.wav", "-o", "o.mid", "--force"))  # fmt: skip
    put("a hard link to the input as output", lambda f: [with_tune(f) or (f / "o.mid").hardlink_to(f / "take.wav") or go[0], *go[1:], "take.wav", "-o", "o.mid", "--force"])  # fmt: skip
    put(
        "a folder called as the output",
        lambda f: [with_tune(f) or (f / "o.csv").mkdir() or "score", "take.mid", "-o", "o.csv"],
        "rv",
    )
    put("a link to nowhere as output", lambda f: [with_tune(f) or (f / "o.csv").symlink_to("x/y.csv") or "score", "take.mid", "-o", "o.csv"], "rv")  # fmt: skip
    put("a link to itself as input", lambda f: [(f / "a.wav").symlink_to("a.wav") or "transcribe", "a.wav"])
    put("a pipe as input", lambda f: [os.mkfifo(f / "a.wav") or "transcribe", "a.wav"])
    put("a pipe as score", lambda f: [os.mkfifo(f / "a.mid") or "score", "a.mid"])
    put(
        "a pipe as output",
        lambda f: [with_tune(f) or os.mkfifo(f / "o.csv") or "score", "take.mid", "-o", "o.csv", "--force"],
    )
    put("one good, one bad", lambda f: with_tune(f, *go, "take.wav", (f / "b.wav").write_bytes(b"no") and "b.wav", "-o", "n/"), "r", lambda f: notes_heard(f / "n" / "take.mid"), ("n/*",))  # fmt: skip
    put("two of one name", lambda f: with_tune(f, *go, "take.wav", (f / "take.flac").write_bytes(wav()) and "take.flac", "-o", "n/"))  # fmt: skip

    def odd(name):
        def build(folder):
            path = os.fsencode(folder) + b"/" + name
            with open(path, "wb") as file:
                file.write(wav())
            return [*go, os.fsdecode(name), "-o", "o.mid"]

        return build

    for what, name in {
        "of escape sequences": b"\x1b[2J\x1b]0;x\7.wav", "of a line break": b"a\nb.wav", "that is no UTF-8": b"\xff\xfe.wav", "of mathematics": b"$\\x$.wav", "of two dots": b"a..wav", "without a suffix": b"recording", "of blanks": b"   .wav", "that begins with a dash": b"-o.wav", "that turns the line": "a\u202egnp.wav".encode(),
        "of 250 bytes": b"n" * 246 + b".wav", "of Japanese": "日本語.wav".encode(), "of a percent sign": b"%s%d%n.wav", "of braces": b"{0}{x}.wav", "of a protocol": b"http:a.wav", "of a pattern": b"%03d.wav", "of a suffix in capitals": b"TAKE.WAV",
    }.items():  # fmt: skip
        words = (lambda f, name=name: [*go, "-o", "o.mid", "--", odd(name)(f) and os.fsdecode(name)]) if name.startswith(b"-") else odd(name)  # fmt: skip
        put(f"a name {what}", words, "v", hears)

    scored = lambda line: lambda f: with_tune(f) or (lambda: shell(line))
    complete = lambda f: notes_read(f) == PLAIN
    for name, line, may, right in [
        ("standard output closed", "amt-nb score take.mid -o o.csv >&-", "v", complete), ("standard error closed", "amt-nb score take.mid -o o.csv 2>&-", "v", complete), ("all streams closed", "amt-nb score take.mid -o o.csv <&- >&- 2>&-", "v", complete),
        ("a reader who has gone", "amt-nb score take.mid -o o.csv | true", "v", complete), ("an output that is full", "amt-nb score take.mid > /dev/full", "r", None), ("no home, no folder for temporary files", "env -u HOME TMPDIR=/nowhere amt-nb score take.mid -o o.csv", "v", complete),
        ("a folder that is gone", "mkdir x && cd x && rmdir ../x && amt-nb score ../take.mid", "rv", None), ("files of at most a kilobyte", "cp take.wav b.wav; ulimit -f 1; amt-nb transcribe --no-progress --weights align-12k --sound take.wav -o n/", "r", None),
        ("twenty open files", "ulimit -n 20; amt-nb score take.mid -o o.csv", "rv", complete), ("ASCII streams", "cp take.mid ä.mid; PYTHONIOENCODING=ascii LC_ALL=C amt-nb score ä.mid -o o.csv", "v", complete),
    ]:  # fmt: skip
        put(name, scored(line.replace("env -u HOME TMPDIR=/nowhere amt-nb", "unset HOME; export TMPDIR=/nowhere; amt-nb")), may, right, ("x", "b.wav", "n/*.tmp0") if "kilobyte" in name else ())  # fmt: skip


# ---- the table ---------------------------------------------------------------------------------------------------------

VERDICTS = ("refused in one line", "read and said", "read right", "FAULT")
MAKERS = ("musicxml_kinds", "kern_kinds", "midi_kinds", "sound_kinds", "weights_kinds", "settings_kinds", "data_kinds", "output_kinds")  # fmt: skip


def all_kinds() -> list:
    """Every kind, made once."""
    if not KINDS:
        for maker in MAKERS:
            globals()[maker]()
    names = Counter(f"{k.area}/{k.name}" for k in KINDS)
    assert max(names.values()) == 1, names.most_common(3)
    return KINDS


def tried(kind) -> tuple[str, str, Answer]:
    """(verdict, why or what was said, answer) of one kind, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="bad-") as folder:
        answer = run(kind, folder)
        return *verdict(kind, answer, folder), answer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD", help="only kinds whose area/name holds one of these")
    parser.add_argument("--all", action="store_true", help="print every kind and what was said")
    parser.add_argument("--slow", type=float, metavar="SECONDS", help="print the kinds that took longer")
    args = parser.parse_args()
    chosen = [k for k in all_kinds() if not args.words or any(w in f"{k.area}/{k.name}" for w in args.words)]
    counts, faults, started = Counter(), 0, used_s()
    with tempfile.TemporaryDirectory() as state:
        os.environ |= {"XDG_STATE_HOME": state, "XDG_CACHE_HOME": state}
        os.environ.pop("AMT_NB_SETTINGS", None)
        for kind in chosen:
            found, why, answer = tried(kind)
            counts[kind.area, found] += 1
            faults += found == "FAULT"
            if found == "FAULT" or args.all or args.slow is not None and answer.cpu_s > args.slow:
                print(f"{found:20s} {answer.cpu_s:5.2f} s  {kind.area}/{kind.name}: {why}", flush=True)
    areas = dict.fromkeys(k.area for k in chosen)
    print(f"\n{'area':24s}{'kinds':>8s}" + "".join(f"{v:>22s}" for v in VERDICTS))
    for area in (*areas, "all"):
        row = [sum(n for (a, v), n in counts.items() if v == w and area in (a, "all")) for w in VERDICTS]
        print(f"{area:24s}{sum(row):8d}" + "".join(f"{n:22d}" for n in row))
    print(f"{used_s() - started:.0f} CPU s")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
