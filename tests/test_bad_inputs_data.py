"""What bad data sets, weights, settings, records and runs get: one line that names them, the right exit code, no half file.

Each kind is a parameter, its id says what is wrong. Everything runs in this process; nothing is longer than a second.
"""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from amt_nb.notes import as_notes
from amt_nb.workshop import corpora
from amt_nb.workshop.cli import main
from amt_nb.workshop.labels import jams_notes, table_notes, table_rows
from amt_nb.workshop.midi import write_midi
from amt_nb.workshop.records import NEEDED, differences, read_record, read_records, show_records
from amt_nb.workshop.settings import UserError
from amt_nb.workshop.synth import render

SR = 16000
TUNE = as_notes([0.2, 0.7, 1.2], [0.6, 1.1, 1.9], [60, 64, 67])
TABLE = "OnsetTime\tOffsetTime\tMidiPitch\n0.2\t0.6\t60\n0.7\t1.1\t64\n1.2\t1.9\t67\n"


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    """Path of a wav of three notes, 2.5 s."""
    path = tmp_path_factory.mktemp("sound") / "take.wav"
    soundfile.write(path, render(TUNE, SR, seconds=2.5), SR)
    return path


def said(answer, *words, lines=1):
    """Asserts exit code 1 (2: the option itself), at most `lines` lines of errors without a traceback, with `words`."""
    code, out, err = answer
    told = [line for line in err.replace("\r", "\n").splitlines() if line.strip() and "%|" not in line]
    assert code in (1, 2) and "Traceback" not in err and "Error:" not in err.replace("UserError:", ""), (code, err)
    assert 1 <= len(told) <= (lines if code == 1 else 40) and all(len(line) < 700 for line in told), err
    for word in words:
        assert word in err, (word, err)
    return True


def one_line(call, *words):
    """Asserts that call() raises a UserError of one line that holds `words`."""
    with pytest.raises(UserError) as e:
        call()
    assert "\n" not in str(e.value) and len(str(e.value)) < 500
    for word in words:
        assert word in str(e.value)
    return True


def nothing_half(folder):
    """True when no temporary file lies anywhere below `folder`."""
    return not [p for p in Path(folder).rglob("*") if p.name.endswith(".tmp")]


# ---- label tables ------------------------------------------------------------------------------------------------

BAD_TABLES = {
    "empty": "",
    "blank lines": "\n\n\n",
    "header alone": "onset offset pitch\n",
    "one column": "onset\n0.5\n",
    "two columns": "onset offset\n0.1 0.5\n",
    "five columns": "a b c d e\n0.1 0.5 60 80 3\n",
    "a row of two columns": TABLE + "2.0\t2.2\n",
    "a row of five columns": TABLE + "2.0\t2.2\t60\t9\t9\n",
    "rows of unlike length": "a b c\n0.1 0.2 60 80\n0.1 0.2 60\n",
    "commas": "onset,offset,pitch\n0.1,0.5,60\n",
    "semicolons": "onset;offset;pitch\n0.1;0.5;60\n",
    "semicolons without header": "0.1;0.5;60\n",
    "decimal commas": "a b c\n0,1 0,5 60\n",
    "note names": "a b c\n0.1 0.5 C4\n",
    "words": "a b c\nnot a number\n",
    "nan": "a b c\nnan 0.5 60\n",
    "inf": "a b c\n0.1 inf 60\n",
    "nan pitch": "a b c\n0.1 0.2 nan\n",
    "negative onset": "a b c\n-0.1 0.5 60\n",
    "offset before onset": "a b c\n0.5 0.2 60\n",
    "swapped in the header": "offset onset pitch\n0.5 0.2 60\n",
    "pitch first in the header": "pitch onset offset\n60 0.1 0.5\n",
    "durations": "onset duration pitch\n0.5 0.2 60\n",
    "pitch first without header": "60 0.1 0.5\n",
    "milliseconds in the header": "onset_ms offset_ms pitch\n100 500 60\n",
    "samples": "a b c\n8820000 8830000 60\n88200000 88300000 60\n88200000000 88300000000 60\n",
    "hertz": "a b c\n0.1 0.5 440\n",
    "frequency in the header": "onset offset frequency\n0.1 0.5 110\n",
    "fractions of a pitch": "a b c\n0.1 0.5 60.5\n",
    "negative pitch": "a b c\n0.1 0.5 -3\n",
    "pitch of a thousand": "a b c\n0.1 0.5 1000\n",
    "velocity 0": "a b c d\n0.1 0.5 60 0\n",
    "velocity 128": "a b c d\n0.1 0.5 60 128\n",
    "velocities as fractions": "a b c d\n0.1 0.5 60 0.7\n",
    "hexadecimal": "a b c\n0x1 0x2 60\n",
    "times of day": "a b c\n00:00:01 00:00:02 60\n",
    "html": "<!doctype html>\n<html>\n",
    "a long line": "a b c\n" + "9" * 100_000 + " 1 60\n",
}


@pytest.mark.parametrize("text", BAD_TABLES.values(), ids=BAD_TABLES)
def test_a_bad_table_of_notes_is_one_line(text):
    assert one_line(lambda: table_notes(text, "labels.txt"), "labels.txt")


@pytest.mark.parametrize(
    "text",
    [TABLE, TABLE.split("\n", 1)[1], TABLE.replace("\t", "   "), TABLE.replace("\n", "\r\n"), "\n" + TABLE + "\n\n"],
    ids=["tabs", "no header", "spaces", "carriage returns", "blank lines"],
)
def test_a_good_table_loses_no_note(text):
    assert table_notes(text)["pitch"].tolist() == [60, 64, 67]


BAD_LABELS = {
    "binary": b"\0\1\2\3" * 99,
    "latin-1": "OnsetTime Für Elise\n0.1 0.5 60\n".encode("latin-1"),
    "cut utf-16": "onset".encode("utf-16")[:-1],
    "two columns": b"h h\n0.1 0.5\n",
    "nothing": b"",
    "a midi": b"MThd\0\0\0\6\0\1",
    "another program's": b"PK\3\4" + bytes(40),
}


def original_maps(folder, sound, bad: bytes):
    """A data set of two recordings, the labels of the second as given."""
    folder.mkdir()
    for name in "ab":
        shutil.copy(sound, folder / f"MAPS_MUS-{name}_ENSTDkCl.wav")
        (folder / f"MAPS_MUS-{name}_ENSTDkCl.txt").write_text(TABLE)
    (folder / "MAPS_MUS-b_ENSTDkCl.txt").write_bytes(bad)
    return folder


@pytest.mark.parametrize("bad", BAD_LABELS.values(), ids=BAD_LABELS)
def test_prepare_goes_on_without_bad_labels_and_says_so(shell, tmp_path, sound, bad):
    original_maps(tmp_path / "d", sound, bad)
    answer = shell("prepare", "--data", "maps=d", "--cache", "c", "--jobs", 1)
    assert said(answer, "MAPS_MUS-b_ENSTDkCl", "1 of 2", lines=3) and "1 recordings" in answer[1]
    assert nothing_half(tmp_path)


@pytest.mark.parametrize("text", [TABLE.encode("utf-16"), b"\xef\xbb\xbf" + TABLE.encode()], ids=["utf-16", "bom"])
def test_text_that_says_its_encoding_is_read(shell, tmp_path, sound, text):
    original_maps(tmp_path / "d", sound, text)
    assert shell("prepare", "--data", "maps=d", "--cache", "c", "--jobs", 1)[0] == 0


BAD_JAMS = {
    "empty": "",
    "not json": "onset offset",
    "a list": "[]",
    "a number": "3",
    "no annotations": "{}",
    "annotations null": '{"annotations": null}',
    "earlier version": '{"note": [{"data": [{"onset": {"value": 1}}]}]}',
    "chords alone": '{"annotations": [{"namespace": "chord", "data": [{"time": 0, "duration": 1, "value": "C"}]}]}',
    "no notes": '{"annotations": [{"namespace": "note_midi", "data": []}]}',
    "data as columns": '{"annotations": [{"namespace": "note_midi", "data": {"time": [1], "value": [60]}}]}',
    "a note without time": '{"annotations": [{"namespace": "note_midi", "data": [{"duration": 1, "value": 60}]}]}',
    "a pitch of words": '{"annotations": [{"namespace": "note_midi", "data": [{"time":0,"duration":1,"value":"C4"}]}]}',
    "nan": '{"annotations": [{"namespace": "note_midi", "data": [{"time": NaN, "duration": 1, "value": 60}]}]}',
    "negative": '{"annotations": [{"namespace": "note_midi", "data": [{"time": -1, "duration": 0.5, "value": 60}]}]}',
    "shrinking": '{"annotations": [{"namespace": "note_midi", "data": [{"time": 1, "duration": -0.5, "value": 60}]}]}',
    "hertz": '{"annotations": [{"namespace": "note_midi", "data": [{"time": 1, "duration": 0.5, "value": 440}]}]}',
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("text", BAD_JAMS.values(), ids=BAD_JAMS)
def test_a_bad_jams_file_is_one_line(tmp_path, text):
    (tmp_path / "a.jams").write_text(text)
    assert one_line(lambda: jams_notes(tmp_path / "a.jams"), "a.jams")


BAD_LISTS = {
    "empty": b"",
    "header alone": b"recording,role\n",
    "semicolons": b"recording;role\na;b\n",
    "other columns": b"name,split\na,b\n",
    "a short row": b"recording,role\na\n",
    "binary": b"\0\1\2",
    "latin-1": b"recording,role\n\xe9,b\n",
    "quote without end": b'recording,role\n"' + b"a" * 200_000,
}


@pytest.mark.parametrize("data", BAD_LISTS.values(), ids=BAD_LISTS)
def test_a_bad_list_of_recordings_is_one_line(tmp_path, data):
    (tmp_path / "splits.csv").write_bytes(data)
    assert one_line(lambda: table_rows(tmp_path / "splits.csv", ["recording", "role"]), "splits.csv")


# ---- data sets ----------------------------------------------------------------------------------------------------


def packed_maps(folder, sound, roles=("train", "real_val")):
    """A packed data set: two recordings of different pieces."""
    folder.mkdir()
    with zipfile.ZipFile(folder / "labels.zip", "w") as z:
        for k, _ in enumerate(roles):
            shutil.copy(sound, folder / f"r{k}.wav")
            z.writestr(f"r{k}.tsv", TABLE)
    rows = [f"r{k},piece{k},g,{role},2.5,0" for k, role in enumerate(roles)]
    (folder / "splits.csv").write_text("recording,piece,group,role,seconds,audio_lag_ms\n" + "\n".join(rows) + "\n")
    return folder


def rezip(folder, names, content=TABLE):
    """labels.zip of `folder` anew, with these members."""
    with zipfile.ZipFile(folder / "labels.zip", "w") as z:
        for name in names:
            z.writestr(name, content)


BAD_SETS = {
    "archive of labels is none": (lambda d: (d / "labels.zip").write_bytes(b"no zip"), "labels.zip"),
    "archive of labels is cut": (
        lambda d: (d / "labels.zip").write_bytes((d / "labels.zip").read_bytes()[:-30]),
        "labels.zip",
    ),
    "seconds are words": (lambda d: replace_in(d / "splits.csv", "2.5", "long"), "seconds"),
    "lag is words": (lambda d: replace_in(d / "splits.csv", "2.5,0", "2.5,late"), "audio_lag_ms"),
    "no column piece": (lambda d: replace_in(d / "splits.csv", "piece,", "song,"), "piece"),
    "empty list": (lambda d: (d / "splits.csv").write_text(""), "splits.csv"),
    "list without rows": (
        lambda d: (d / "splits.csv").write_text("recording,piece,group,role,seconds,audio_lag_ms\n"),
        "splits.csv",
    ),
    "list in latin-1": (lambda d: (d / "splits.csv").write_bytes(b"\xe9,\xe8\n"), "splits.csv"),
    "list is a folder": (lambda d: ((d / "splits.csv").unlink(), (d / "splits.csv").mkdir()), "splits.csv"),
}


def replace_in(path, old, new):
    """The text of `path` with `old` replaced."""
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize("break_it, word", BAD_SETS.values(), ids=BAD_SETS)
def test_a_bad_data_set_is_one_line(shell, tmp_path, sound, break_it, word):
    break_it(packed_maps(tmp_path / "d", sound))
    assert said(shell("prepare", "--data", "maps=d", "--cache", "c", "--jobs", 1), word) and nothing_half(tmp_path)


BAD_ITEMS = {
    "sound missing": lambda d: (d / "r1.wav").unlink(),
    "sound empty": lambda d: (d / "r1.wav").write_bytes(b""),
    "sound is text": lambda d: (d / "r1.wav").write_bytes(b"dear diary " * 99),
    "sound without a sample": lambda d: soundfile.write(d / "r1.wav", np.zeros(0), SR),
    "sound is not finite": lambda d: soundfile.write(d / "r1.wav", np.full(SR, np.nan), SR, subtype="FLOAT"),
    "sound is a folder": lambda d: ((d / "r1.wav").unlink(), (d / "r1.wav").mkdir()),
    "label of two columns": lambda d: rezip(d, ["r0.tsv"]) or add_member(d, "r1.tsv", "a b\n1 2\n"),
    "label without a note": lambda d: rezip(d, ["r0.tsv"]) or add_member(d, "r1.tsv", "a b c\n"),
    "label in milliseconds": lambda d: rezip(d, ["r0.tsv"]) or add_member(d, "r1.tsv", "a b c\n200 600 60\n700 1100 64\n"),
    "label of another recording": lambda d: rezip(d, ["r0.tsv"]) or add_member(d, "r1.tsv", "a b c\n90 91 60\n95 96 64\n"),
}  # fmt: skip


def add_member(folder, name, text):
    """One more member of labels.zip."""
    with zipfile.ZipFile(folder / "labels.zip", "a") as z:
        z.writestr(name, text)


@pytest.mark.parametrize("break_it", BAD_ITEMS.values(), ids=BAD_ITEMS)
def test_one_bad_recording_ends_neither_prepare_nor_evaluate(shell, tmp_path, sound, break_it):
    break_it(packed_maps(tmp_path / "d", sound, ("test", "test")))
    answer = shell("prepare", "--data", "maps=d", "--cache", "c", "--jobs", 1)
    assert said(answer, "maps/r1", "1 of 2", lines=3) and "1 recordings" in answer[1]
    answer = shell("evaluate", "--data", "maps=d", "--role", "test", "--weights", "align-12k")
    if "milliseconds" not in str(break_it) and answer[0] == 0:
        assert answer[1].count("maps/r") == 2  # labels that do not fit the sound are labels all the same
    else:
        assert said(answer, "r1") and "mean of 1 of 2" in answer[1]
    assert nothing_half(tmp_path)


def test_one_damaged_midi_does_not_end_musicnet(shell, tmp_path, sound):
    (tmp_path / "m").mkdir()
    for name in ("1727", "1728"):
        shutil.copy(sound, tmp_path / "m" / f"{name}.wav")
        write_midi(TUNE, tmp_path / "m" / f"{name}.mid")
    (tmp_path / "m" / "1728.mid").write_bytes(b"MThd")
    answer = shell("prepare", "--data", "musicnet=m", "--cache", "c", "--jobs", 1)
    assert said(answer, "musicnet/1728", "1 of 2", lines=4) and "1 recordings" in answer[1]


BAD_DATA = {
    "unknown": ["mops"],
    "empty folder": ["maps="],
    "no folder": ["maps=nowhere"],
    "a file": ["maps=take.wav"],
    "embedded with a folder": ["embedded=d"],
    "twice": ["maps=d", "maps=d"],
    "nothing": [""],
    "an equals sign": ["=d"],
    "a key of paths": ["cache=d"],
    "an archive that is none": ["asap=take.wav"],
}


@pytest.mark.parametrize("data", BAD_DATA.values(), ids=BAD_DATA)
def test_a_data_set_that_is_none_is_one_line(shell, tmp_path, sound, data):
    packed_maps(tmp_path / "d", sound)
    shutil.copy(sound, tmp_path)
    assert said(shell("prepare", "--cache", "c", "--jobs", 1, "--data", *data)) and nothing_half(tmp_path)


def test_a_sound_at_a_path_of_the_settings_that_is_no_folder(shell, tmp_path, sound):
    (tmp_path / "settings.ini").write_text("[paths]\nmaps = nowhere\n")
    assert said(shell("prepare", "--data", "maps", "--cache", "c"), "nowhere")


# ---- the cache ----------------------------------------------------------------------------------------------------


def prepared(shell, folder, sound):
    """The cache files of one prepared recording, by kind."""
    packed_maps(folder / "d", sound, ("train",))
    assert shell("prepare", "--data", "maps=d", "--cache", "c", "--jobs", 1)[0] == 0
    return {kind: next((folder / "c" / "features").glob(f"*.{kind}.npy")) for kind in ("cqt", "roll", "notes")}


def other_array(path):
    """An array of another shape in a whole file."""
    with open(path, "wb") as file:
        np.lib.format.write_array(file, np.zeros((3, 5), np.float32))


def flip(path):
    """One bit of the data turned."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 8
    path.write_bytes(data)


DAMAGE = {
    "cut": lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]),
    "cut in the header": lambda p: p.write_bytes(p.read_bytes()[:50]),
    "empty": lambda p: p.write_bytes(b""),
    "zeros": lambda p: p.write_bytes(bytes(p.stat().st_size)),
    "text": lambda p: p.write_bytes(b"dear diary " * 99),
    "another shape": other_array,
    "a bit flipped": flip,
    "longer": lambda p: p.write_bytes(p.read_bytes() + b"more"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("kind", ["cqt", "roll", "notes"])
def test_a_damaged_file_in_the_cache_is_made_again(shell, tmp_path, sound, damage, kind):
    path = prepared(shell, tmp_path, sound)[kind]
    whole = path.read_bytes()
    damage(path)
    corpora._mapped.cache_clear()
    assert path.read_bytes() != whole
    assert shell("prepare", "--data", "maps=d", "--cache", "c", "--jobs", 1)[0] == 0
    assert path.read_bytes() == whole and nothing_half(tmp_path)


def test_a_cache_of_an_earlier_version_is_believed(shell, tmp_path, sound):
    path = prepared(shell, tmp_path, sound)["cqt"]
    path.write_bytes(path.read_bytes()[:-16])  # without the digest
    before = path.stat().st_mtime_ns
    assert shell("prepare", "--data", "maps=d", "--cache", "c", "--jobs", 1)[0] == 0
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("cache", ["take.wav", "/proc/amt", "d/splits.csv/x"])
def test_a_cache_that_cannot_be_is_one_line(shell, tmp_path, sound, cache):
    packed_maps(tmp_path / "d", sound)
    shutil.copy(sound, tmp_path)
    assert said(shell("prepare", "--data", "maps=d", "--cache", cache, "--jobs", 1), lines=4)


class Killer:
    """A sound whose reading ends the process, as the system does when memory is short."""

    def key(self):
        return "00"

    def __call__(self):
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_a_line_and_the_others_are_done(tmp_path, sound, capfd):
    from amt_nb.workshop.recordings import Recording

    items = [Recording(f"r{k}", f"p{k}", audio=Killer() if k == 1 else sound, notes=TUNE) for k in range(3)]
    failures = []
    found = corpora.prepare(items, tmp_path, n_jobs=2, failures=failures, progress=False)
    assert [f.id for f in found] == ["r0", "r2"] and [i for i, _ in failures] == ["r1"] and "killed" in failures[0][1]
    assert "Traceback" not in capfd.readouterr().err and nothing_half(tmp_path)


@pytest.mark.parametrize("error", [BrokenPipeError, EOFError, ConnectionResetError])
def test_a_broken_pipe_of_the_pool_is_not_taken_for_a_closed_stdout(tmp_path, sound, monkeypatch, error):
    import joblib
    from amt_nb.workshop.recordings import Recording

    class Broken:
        def __init__(self, n_jobs, return_as=None):
            self.breaks = return_as

        def __call__(self, jobs):
            if self.breaks:
                raise error(32, "Broken pipe")
            return [f(*a, **k) for f, a, k in jobs]

    monkeypatch.setattr(joblib, "Parallel", Broken)
    items = [Recording(f"r{k}", f"p{k}", audio=sound, notes=TUNE) for k in range(2)]
    assert len(corpora.prepare(items, tmp_path, n_jobs=2, progress=False)) == 2


# ---- weights ------------------------------------------------------------------------------------------------------


def shipped(name="align-12k"):
    """(tensors, header) of weights of the book."""
    import amt_nb
    from safetensors import safe_open

    with safe_open(Path(amt_nb.__file__).parent / "weights" / f"{name}.safetensors", "np") as f:
        return {k: f.get_tensor(k) for k in f.keys()}, f.metadata()


def weights(path, tensors=None, config=None, header=None):
    """Writes weights like the book's with some tensors (None: left out), parts of the configuration or texts changed."""
    from safetensors.numpy import save

    state, meta = shipped()
    state = {k: v for k, v in (state | (tensors or {})).items() if v is not None}
    known = json.loads(meta["config"])
    for part, change in (config or {}).items():
        known[part] = {**known[part], **change} if isinstance(change, dict) else change
    meta = {k: v for k, v in ({**meta, "config": json.dumps(known)} | (header or {})).items() if v is not None}
    path.write_bytes(save(state, meta or None))
    return path


def tensor(name):
    """A tensor of the book's weights."""
    return shipped()[0][name].copy()


BAD_WEIGHTS = {
    "out cut to a row": dict(tensors=lambda: {"net.out.weight": tensor("net.out.weight")[:1]}),
    "bias cut to one": dict(tensors=lambda: {"net.out.bias": tensor("net.out.bias")[:1]}),
    "mix cut to a row": dict(tensors=lambda: {"net.mix.weight": tensor("net.mix.weight")[:1]}),
    "norm cut to one": dict(tensors=lambda: {"net.norm.weight": tensor("net.norm.weight")[:1]}),
    "mean cut to one": dict(tensors=lambda: {"net.norm.running_mean": tensor("net.norm.running_mean")[:1]}),
    "key cut to one": dict(tensors=lambda: {"net.key": tensor("net.key")[..., :1]}),
    "front transposed": dict(tensors=lambda: {"net.front.weight": np.ascontiguousarray(tensor("net.front.weight").T)}),
    "one axis less": dict(tensors=lambda: {"net.mix.weight": tensor("net.mix.weight")[:, :, 0, 0].copy()}),
    "a scalar": dict(tensors=lambda: {"net.out.bias": np.array(1, np.float32)}),
    "no rows": dict(tensors=lambda: {"net.out.bias": np.zeros(0, np.float32)}),
    "nan": dict(tensors=lambda: {"net.out.bias": np.full(6, np.nan, np.float32)}),
    "inf": dict(tensors=lambda: {"net.mix.weight": tensor("net.mix.weight") * np.float16(np.inf)}),
    "whole numbers": dict(tensors=lambda: {"net.out.bias": np.ones(6, np.int64)}),
    "booleans": dict(tensors=lambda: {"net.out.bias": np.ones(6, bool)}),
    "negative variance": dict(tensors=lambda: {"net.norm.running_var": -tensor("net.norm.running_var")}),
    "overflow": dict(tensors=lambda: {"net.front.weight": np.full((16, 8, 5, 9), 3e38, np.float32)}),
    "a tensor missing": dict(tensors=lambda: {"net.out.weight": None}),
    "a block missing": dict(tensors=lambda: {k: None for k in shipped()[0] if "blocks.1" in k}),
    "a tensor too many": dict(tensors=lambda: {"net.sting": np.ones(3, np.float32)}),
    "only a tensor": dict(tensors=lambda: {k: None for k in shipped()[0] if k != "net.key"}),
    "wider than it is": dict(config={"harmonic": {"width": 17}}),
    "a memory it has not": dict(config={"harmonic": {"memory": 8}}),
    "a block too many": dict(config={"harmonic": {"blocks": "soto"}}),
    "unknown block": dict(config={"harmonic": {"blocks": "sox"}}),
    "blocks are numbers": dict(config={"harmonic": {"blocks": [1, 2, 3]}}),
    "no partials": dict(config={"harmonic": {"partials": []}}),
    "partials of 0": dict(config={"harmonic": {"partials": [0] * 8}}),
    "partials are words": dict(config={"harmonic": {"partials": "many"}}),
    "partials null": dict(config={"harmonic": {"partials": None}}),
    "width 0": dict(config={"harmonic": {"width": 0}}),
    "width -1": dict(config={"harmonic": {"width": -1}}),
    "width of a billion": dict(config={"harmonic": {"width": 10**9}}),
    "width 16.5": dict(config={"harmonic": {"width": 16.5}}),
    "unknown setting": dict(config={"harmonic": {"colour": "red"}}),
    "harmonic is a list": dict(config={"harmonic": []}),
    "harmonic is a word": dict(config={"harmonic": "wide"}),
    "harmonic is null": dict(config={"harmonic": None}),
    "cqt is null": dict(config={"cqt": None}),
    "cqt is a list": dict(config={"cqt": [1, 2]}),
    "cqt of 0 dB": dict(config={"cqt": {"top_db": 0}}),
    "cqt of nan": dict(config={"cqt": {"filter_scale": float("nan")}}),
    "cqt of a thousand": dict(config={"cqt": {"filter_scale": 1000}}),
    "cqt unknown key": dict(config={"cqt": {"bins": 12}}),
    "decode threshold of 7": dict(config={"decode": {"frame_threshold": 7}}),
    "decode threshold of nan": dict(config={"decode": {"onset_threshold": float("nan")}}),
    "decode of -1 frames": dict(config={"decode": {"min_frames": -1}}),
    "decode shift of a day": dict(config={"decode": {"onset_shift_s": 86400}}),
    "decode is a word": dict(config={"decode": "gently"}),
    "no config": dict(header={"config": None}),
    "config is no JSON": dict(header={"config": "{bad"}),
    "config is a list": dict(header={"config": "[]"}),
    "config is a number": dict(header={"config": "3"}),
    "config is deep": dict(header={"config": "[" * 100_000}),
    "config is null": dict(header={"config": "null"}),
    "card is no JSON": dict(header={"card": "{bad"}),
    "card is a list": dict(header={"card": "[1]"}),
}


@pytest.mark.parametrize("how", BAD_WEIGHTS.values(), ids=BAD_WEIGHTS)
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
def test_bad_weights_are_one_line(shell, tmp_path, sound, how):
    tensors = how["tensors"]() if "tensors" in how else None
    weights(tmp_path / "w.safetensors", tensors, how.get("config"), how.get("header"))
    word = "these weights" if how is BAD_WEIGHTS["overflow"] else "w.safetensors"
    assert said(shell("transcribe", "--no-progress", sound, "--weights", "./w.safetensors"), word)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w.safetensors"]


def raw(header: bytes, length=None):
    """The bytes of a safetensors file with this header."""
    return (len(header) if length is None else length).to_bytes(8, "little") + header


BAD_FILES = {
    "empty": lambda: b"",
    "seven bytes": lambda: bytes(7),
    "zeros": lambda: bytes(9999),
    "a header that is too long": lambda: raw(b"{}", 2**62),
    "a header longer than the file": lambda: raw(b"{}", 999),
    "no JSON": lambda: raw(b"dear diary"),
    "not UTF-8": lambda: raw(b'{"\xff": 1}'),
    "no tensors": lambda: raw(b"{}"),
    "a tensor of an unknown kind": lambda: raw(b'{"net.key":{"dtype":"X9","shape":[1],"data_offsets":[0,1]}}') + b"\0",
    "bfloat16": lambda: raw(b'{"net.key":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}') + b"\0\0",
    "float8": lambda: raw(b'{"net.key":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}') + b"\0",
    "offsets beyond the end": lambda: raw(b'{"net.key":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'),
    "a shape of -1": lambda: raw(b'{"net.key":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}') + bytes(4),
    "a shape of a trillion": lambda: raw(b'{"net.key":{"dtype":"F32","shape":[999999999999],"data_offsets":[0,4]}}') + bytes(4),
    "a pickle": lambda: b"\x80\x04\x95\x1e\0\0\0\0\0\0\0\x8c\x08builtins\x94\x8c\x05print\x94\x93\x94\x8c\x02hi\x94\x85\x94R\x94.",
    "a zip": lambda: b"PK\3\4" + bytes(99),
    "text": lambda: b"dear diary " * 99,
}  # fmt: skip


@pytest.mark.parametrize("data", BAD_FILES.values(), ids=BAD_FILES)
def test_what_is_no_file_of_weights_is_one_line(shell, tmp_path, sound, data):
    (tmp_path / "w.safetensors").write_bytes(data())
    answer = shell("transcribe", "--no-progress", sound, "--weights", "./w.safetensors")
    assert said(answer, "w.safetensors") and "hi" not in answer[1].split()


def test_cut_weights_are_one_line(shell, tmp_path, sound):
    data = weights(tmp_path / "w.safetensors").read_bytes()
    for length in (9, 500, len(data) // 2, len(data) - 1):
        (tmp_path / "w.safetensors").write_bytes(data[:length])
        assert said(shell("transcribe", "--no-progress", sound, "--weights", "./w.safetensors"), "w.safetensors")


@pytest.mark.parametrize("name", ["unet-25k", "pianola", "./nowhere.safetensors", ".", "./", ""])
def test_weights_that_are_no_transcriber(shell, tmp_path, sound, name):
    assert said(shell("transcribe", "--no-progress", sound, "--weights", name)) and not list(tmp_path.iterdir())


def test_changed_weights_that_fit_are_taken(shell, tmp_path, sound):
    state, _ = shipped()
    full = {k: v.astype(np.float32) if v.dtype == np.float16 else v for k, v in state.items()}
    weights(tmp_path / "w.safetensors", full)
    assert shell("transcribe", "--no-progress", sound, "--weights", "./w.safetensors")[0] == 0


# ---- settings and values of training -------------------------------------------------------------------------------

BAD_SETTINGS = {
    "steps 0": "train_steps=0",
    "steps -1": "train_steps=-1",
    "steps nan": "train_steps=nan",
    "steps 1.5": "train_steps=1.5",
    "steps 1e30": "train_steps=1e30",
    "steps empty": "train_steps=",
    "steps a word": "train_steps=many",
    "warm-up beyond the steps": "train_warmup_steps=9999999",
    "warm-up -1": "train_warmup_steps=-1",
    "rate 0": "train_learning_rate=0",
    "rate -1": "train_learning_rate=-1",
    "rate nan": "train_learning_rate=nan",
    "rate inf": "train_learning_rate=inf",
    "beta 1": "train_beta1=1",
    "beta -1": "train_beta2=-1",
    "decay -1": "train_weight_decay=-1",
    "schedule": "train_schedule=linear",
    "clip -1": "train_clip_norm=-1",
    "clip nan": "train_clip_norm=nan",
    "ema 1": "train_ema=1",
    "ema every 0": "train_ema_every=0",
    "record every 0": "train_record_every=0",
    "validate every 0": "train_validate_every=0",
    "best": "train_best=accuracy",
    "checkpoints nan": "train_checkpoint_every_s=nan",
    "seed -1": "train_seed=-1",
    "accelerator": "train_accelerator=tpu",
    "devices 0": "train_devices=0",
    "strategy": "train_strategy=magic",
    "precision": "train_precision=foo",
    "prefetch -1": "train_prefetch=-1",
    "cqt of 0 dB": "cqt_top_db=0",
    "cqt centre 2": "cqt_centre=2",
    "decode threshold 2": "decode_frame_threshold=2",
    "batch 0": "condition_paired_batch=0",
    "crop of 0": "condition_crop_frames=0",
    "crop of a thousand": "condition_crop_frames=1000",
    "ratio": "pool_ratio=many",
    "width 0": "harmonic_width=0",
    "blocks": "harmonic_blocks=xyz",
    "memory -1": "harmonic_memory=-1",
    "no partials": "harmonic_partials=",
    "partials 0": "harmonic_partials=0, 1",
    "share 2": "augment_noise_share=2",
    "semitones -1": "augment_semitones=-1",
    "curve nan": "augment_curve_db=nan",
    "another condition's": "g_width=4",
    "another chapter's": "sasa_cells=4",
    "not read": "condition_vae_steps=4",
    "the aligner's": "path_floor=0.1",
    "unknown": "train_stepps=4",
    "no value": "train_steps",
    "no key": "=4",
    "corpus": "corpus_seconds=4",
}


def train(shell, *words):
    """amt-nb train on the data set d of two recordings, as short as can be."""
    return shell("train", "run", "--data", "maps=d", "--cache", "c", "--jobs", 1, *words)


@pytest.mark.parametrize("setting", BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_a_setting_that_means_nothing_is_one_line_before_anything_is_computed(shell, tmp_path, sound, setting):
    packed_maps(tmp_path / "d", sound)
    assert said(train(shell, "--set", setting), setting.split("=")[0].split("_", 1)[-1])
    assert not (tmp_path / "c" / "features").exists() and not (tmp_path / "run").exists()


BAD_LATENT = {
    "no levels": "vae_multipliers=",
    "three levels": "vae_multipliers=1, 2, 4",
    "instruments 5": "vae_instruments=5",
    "heads 0": "vae_heads=0",
    "strides": "g_strides=2x2",
    "strides 0": "g_strides=0x2, 2x2, 2x2, 1x2, 1x2",
    "attention 9": "f_attention=9",
    "width 0": "g_width=0",
    "kernel even": "dx_kernel=2x2",
    "kernel of one": "dz_kernel=3",
    "scales 0": "dz_scales=0",
    "pool share 2": "cycle_pool_share=2",
    "pool -1": "cycle_pool_size=-1",
    "lambda nan": "cycle_lambda_fm=nan",
    "the direct net's": "harmonic_width=4",
}


@pytest.mark.parametrize("setting", BAD_LATENT.values(), ids=BAD_LATENT)
def test_a_setting_of_the_cycle_that_means_nothing(setting):
    from amt_nb.transcription.conditions import check_changes

    key, _, value = setting.partition("=")
    prefix, _, field = key.partition("_")
    assert one_line(lambda: check_changes("cycle", "demo", {prefix: {field: value}}))


BAD_OPTIONS = {
    "minutes nan": ["--minutes", "nan"],
    "minutes inf": ["--minutes", "inf"],
    "minutes -1": ["--minutes", "-1"],
    "minutes beyond": ["--minutes", "99"],
    "minutes of no pairs": ["--minutes", "0.01", "--ratio", "0:1"],
    "ratio nan": ["--ratio", "nan:1"],
    "ratio inf": ["--ratio", "inf:1"],
    "ratio -1": ["--ratio", "-1:1"],
    "ratio 0:0": ["--ratio", "0:0"],
    "ratio of four": ["--ratio", "1:2:3:4"],
    "ratio of words": ["--ratio", "many"],
    "no pairs": ["--ratio", "0:1"],
    "steps 0": ["--steps", "0"],
    "steps and warm-up": ["--steps", "5"],
    "seed -1": ["--seed", "-1"],
    "jobs 0": ["--jobs", "0"],
    "size": ["--size", "huge"],
    "condition": ["--condition", "cycel"],
    "twice": ["--set", "train_seed=1", "train_seed=2"],
    "said twice": ["--steps", "500", "--set", "train_steps=600"],
}


@pytest.mark.parametrize("words", BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_an_option_that_means_nothing_is_one_line(shell, tmp_path, sound, words):
    packed_maps(tmp_path / "d", sound)
    assert said(train(shell, *words)) and not list(tmp_path.rglob("checkpoint*"))


# ---- a run goes on with the same, or not at all -----------------------------------------------------------------------

TINY = (
    "train_warmup_steps=1 train_checkpoint_every_s=0 harmonic_width=4 harmonic_blocks=s harmonic_memory=0 "
    "harmonic_hidden=4 condition_paired_batch=2 condition_crop_frames=32 train_record_every=1 train_accelerator=cpu"
).split()


@pytest.fixture(scope="module")
def run_folder(sound, tmp_path_factory):
    """A folder with data sets d (two recordings) and e (one more), and `run`, two steps trained on d."""
    folder = tmp_path_factory.mktemp("trained")
    packed_maps(folder / "d", sound, ("train", "train"))
    packed_maps(folder / "e", sound, ("train", "train", "train"))
    packed_maps(folder / "f", sound, ("train", "train"))
    soundfile.write(folder / "f" / "r1.wav", render(TUNE, SR, seconds=3), SR)
    words = ["--data", f"maps={folder}/d", "--cache", str(folder / "c"), "--jobs", "1", "--ratio", "1:0"]
    assert main(["train", str(folder / "run"), *words, "--steps", "2", "--set", *TINY]) == 0
    return folder


OTHER = {
    "more recordings": (["--data", "maps=e"], "1 recordings new"),
    "another sound": (["--data", "maps=f"], "1 recordings changed"),
    "another ratio": (["--ratio", "1:1"], "pool.ratio: 1:0 then, 1:1 now"),
    "minutes": (["--minutes", "0.08"], "pool."),
    "another seed": (["--seed", "5"], "seed"),
    "more steps": (["--steps", "3"], "train.steps: 2 then, 3 now"),
    "another rate": (["--set", "train_learning_rate=0.5"], "learning_rate"),
    "another augmentation": (["--set", "augment_curve_db=9"], "augment.curve_db"),
    "another batch": (["--set", "condition_paired_batch=3"], "condition.paired_batch"),
    "another net": (["--set", "harmonic_hidden=5"], "hidden"),
    "another CQT": (["--set", "cqt_top_db=70"], "recordings changed"),
    "another condition": (["--condition", "paired"], "condition: direct then, paired now"),
}


def again(shell, folder, words):
    """The same command once more in a copy of the run's folder, some of its words replaced."""
    from amt_nb.workshop.files import checksum
    from amt_nb.workshop.weights import read_weights

    given = {"--data": ["maps=d"], "--ratio": ["1:0"], "--steps": ["2"], "--set": list(TINY)}
    for option, value in zip(words[::2], words[1::2]):
        if option == "--set":
            key = value.partition("=")[0]
            given["--set"] = [s for s in given["--set"] if not s.startswith(key)] + [value]
        else:
            given[option] = [value]
    if given.get("--condition"):
        given["--set"] = [s for s in given["--set"] if s.startswith("train")]
    if given.get("--minutes"):
        del given["--ratio"]
    for name in ("d", "e", "f", "c", "run"):
        shutil.copytree(folder / name, Path(name), dirs_exist_ok=True)
    line = [x for option, values in given.items() for x in (option, *values)]
    tensors = lambda: checksum(*(v for _, v in sorted(read_weights("run/weights.safetensors")[0].items())))
    before = tensors()
    answer = shell("train", "run", "--cache", "c", "--jobs", 1, *line)
    return answer, tensors() == before


@pytest.mark.parametrize("words, word", OTHER.values(), ids=OTHER)
def test_a_run_does_not_go_on_with_something_else(shell, run_folder, words, word):
    answer, same = again(shell, run_folder, words)
    assert said(answer, word, "run", "another folder") and same


def test_a_run_goes_on_with_the_same(shell, run_folder):
    answer, same = again(shell, run_folder, [])
    assert answer[0] == 0 and same
    answer, same = again(shell, run_folder, ["--set", "train_record_every=2"])  # changes no number
    assert answer[0] == 0


BROKEN_RUNS = {
    "no list": lambda r: (r / "run.json").unlink(),
    "list is text": lambda r: (r / "run.json").write_text("dear diary"),
    "list is a list": lambda r: (r / "run.json").write_text("[]"),
    "checkpoint cut": lambda r: cut_all(r),
    "checkpoint is a folder": lambda r: ((r / "checkpoint.pt").unlink(), (r / "checkpoint.pt").mkdir(), cut_all(r)),
    "checkpoint is a pickle": lambda r: [p.write_bytes(b"\x80\x04N.") for p in r.glob("checkpoint*.pt")],
}


def cut_all(run):
    """Every checkpoint of the run cut short."""
    for p in run.glob("checkpoint*.pt"):
        p.is_file() and p.write_bytes(p.read_bytes()[:-40])


@pytest.mark.parametrize("break_it", BROKEN_RUNS.values(), ids=BROKEN_RUNS)
def test_a_broken_run_is_said_and_its_weights_stay(shell, run_folder, tmp_path, break_it):
    shutil.copytree(run_folder / "run", tmp_path / "run")
    break_it(tmp_path / "run")
    kept = tmp_path / "kept"
    shutil.copytree(tmp_path / "run", kept)
    for name in ("d", "c"):
        shutil.copytree(run_folder / name, tmp_path / name)
    answer = shell("train", "run", "--data", "maps=d", "--cache", "c", "--jobs", 1, "--ratio", "1:0", "--steps", 2, "--set", *TINY)  # fmt: skip
    assert said(answer, "run", lines=4)
    assert (kept / "weights.safetensors").read_bytes() == (tmp_path / "run" / "weights.safetensors").read_bytes()


@pytest.mark.parametrize("line", ["[]", "3", '{"steps": 1}', "\xff", "{" * 9999, '{"step": "two"}'])
def test_odd_lines_of_a_log_are_passed_over(tmp_path, line):
    from amt_nb.workshop.runs import Log

    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 2}\n' + line + "\n", encoding="latin-1")
    assert [r["step"] for r in Log(tmp_path, 9).records] == [1]


def test_training_without_a_recording_ends_with_1(shell, tmp_path, sound):
    packed_maps(tmp_path / "d", sound, ("train", "train"))
    (tmp_path / "d" / "r1.wav").write_bytes(b"torn")
    answer = train(shell, "--ratio", "1:0", "--steps", "2", "--set", *TINY)
    assert said(answer, "maps/r1", "without 1 of 2", lines=4) and (tmp_path / "run" / "weights.safetensors").exists()


# ---- records --------------------------------------------------------------------------------------------------------

GOOD = dict(
    id="a",
    date="2026-01-01",
    commit="0123",
    command="x",
    configuration={},
    runs=[{"id": "a", "metrics": {"t": {"f": 1}}}],
)
BAD_RECORDS = {
    "empty": "",
    "not json": "dear diary",
    "a list": "[]",
    "null": "null",
    "deep": "[" * 100_000,
    "nothing": "{}",
    "no runs": {"runs": None},
    "runs are a table": {"runs": {"a": 1}},
    "a run is a word": {"runs": ["a"]},
    "a run without metrics": {"runs": [{"id": "a"}]},
    "metrics are a list": {"runs": [{"id": "a", "metrics": [1]}]},
    "a role is a number": {"runs": [{"id": "a", "metrics": {"test": 3}}]},
    "id is a number": {"id": 3},
    "date is a number": {"date": 2026},
    "commit is null": {"commit": None},
    "configuration is a word": {"configuration": "small"},
}


@pytest.mark.parametrize("record", BAD_RECORDS.values(), ids=BAD_RECORDS)
def test_a_bad_record_is_one_line(tmp_path, record):
    text = record if isinstance(record, str) else json.dumps(GOOD | record)
    (tmp_path / "a.json").write_text(text)
    assert one_line(lambda: read_record(tmp_path / "a.json"), "a.json")
    assert one_line(lambda: read_records(tmp_path), "a.json")


def test_records_that_cannot_be_read_are_one_line(tmp_path):
    (tmp_path / "b.json").mkdir()
    (tmp_path / "c.json").write_bytes(b"\xff\xfe\0")
    for name in ("b.json", "c.json", "nowhere.json"):
        assert one_line(lambda: read_record(tmp_path / name), name)


def test_a_good_record_is_read(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(GOOD))
    (record,) = read_records(tmp_path)
    assert NEEDED <= set(record) and not differences(record["configuration"], {})
    assert show_records([record | {"metrics": {"t": {"f": 1.0}}, "record": "a"}])


def test_a_twin_network_without_a_recording_is_one_line():
    from amt_nb.alignment.learnt_baselines import siamese_batches

    assert one_line(lambda: siamese_batches([]), "no recording")
