"""Nothing is lost: no output is an input, what is there stays, and whatever is wrong with one file, the others are done."""

import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from amt_nb.notes import as_notes
from amt_nb.workshop import cli, written
from amt_nb.workshop.cli_options import check_output, plan
from amt_nb.workshop.inputs import check_input
from amt_nb.workshop.midi import read_midi, write_midi
from amt_nb.workshop.settings import UserError
from amt_nb.workshop.synth import render
from amt_nb.workshop.terminal import Stream, printable

SR = 16000
TUNE = as_notes([0.1, 0.5], [0.4, 0.9], [60, 67])
posix = pytest.mark.skipif(os.name != "posix", reason="names, pipes and closed streams of POSIX")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The bytes of a sound file of a second: two notes."""
    path = tmp_path_factory.mktemp("sound") / "tune.wav"
    soundfile.write(path, render(TUNE, SR, seconds=1.0), SR)
    return path.read_bytes()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def shell(capsys):
    """Runs a command line in this process: (exit code, output, errors); no traceback, no unforeseen error."""

    def run(*words):
        capsys.readouterr()
        try:
            code = cli.main([os.fspath(word) for word in words])
        except SystemExit as stopped:
            code = stopped.code
        out, err = capsys.readouterr()
        assert "Traceback" not in err and "fault of amt-nb" not in err, err
        return code, out, err

    return run


def digests(folder):
    """What the files in `folder` hold, by name."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in Path(folder).iterdir() if p.is_file()}


def names(folder):
    """The names in `folder`, hidden ones included."""
    return sorted(p.name for p in Path(folder).iterdir())


# ---- what is there stays -------------------------------------------------------------------------------------------


def test_a_second_input_is_not_written_over_by_the_first(folder, shell, sound):
    for name in ("a.wav", "a.stereo.ogg"):
        Path(name).write_bytes(sound)
    for force in ([], ["--force"]):
        code, out, err = shell("transcribe", "--sound", "--no-progress", "a.wav", "a.stereo.ogg", *force)
        assert code == 1 and "a.stereo.ogg" in err and "reads it" in err
        assert Path("a.stereo.ogg").read_bytes() == sound
    assert {"a.stereo.mid", "a.stereo.stereo.ogg"} <= set(names(folder)) and not Path("a.mid").exists()


def test_an_output_that_is_not_there_yet_is_no_input_either(folder, shell, sound):
    Path("a.wav").write_bytes(sound)
    code, _, err = shell("transcribe", "--sound", "--no-progress", "a.wav", "a.stereo.ogg")
    assert code == 1 and err.count("a.stereo.ogg") >= 2 and names(folder) == ["a.wav"]


@pytest.mark.parametrize("name", ["a.mid", "a.png", "a.stereo.ogg", "a.csv", "a.json"])
def test_a_neighbour_stays(folder, shell, sound, name):
    """Also as a link to a file elsewhere, and whatever else was asked for: nothing of that recording is begun."""
    Path("a.wav").write_bytes(sound)
    Path("b.wav").write_bytes(sound)
    (folder / "far").mkdir()
    for make in (lambda: Path(name).write_bytes(b"mine"), lambda: Path(name).symlink_to(folder / "far" / "x")):
        make()
        (folder / "far" / "x").write_bytes(b"mine")
        words = ["transcribe", "--picture", "--sound", "--csv", "--json", "--no-progress", "-o", "."]
        code, out, err = shell(*words, "a.wav")
        assert code == 1 and out == "" and err.count("\n") == 1 and name in err and "--force" in err
        assert Path(name).read_bytes() == b"mine" and names(folder) == sorted(["a.wav", "b.wav", "far", name])
        Path(name).unlink()


def test_force_replaces_and_the_others_are_done_without_it(folder, shell, sound):
    for name in ("a.wav", "b.wav"):
        Path(name).write_bytes(sound)
    Path("a.mid").write_bytes(b"mine")
    code, out, err = shell("transcribe", "--no-progress", "a.wav", "b.wav")
    assert code == 1 and "a.mid" in err and out.startswith("b.mid: ") and Path("a.mid").read_bytes() == b"mine"
    code, out, err = shell("transcribe", "--no-progress", "a.wav", "-f")
    assert code == 0 and len(read_midi("a.mid"))


@posix
def test_a_replaced_output_keeps_its_permissions(folder, shell, sound):
    Path("a.wav").write_bytes(sound)
    Path("a.mid").write_bytes(b"mine")
    Path("a.mid").chmod(0o600)
    assert shell("transcribe", "--no-progress", "a.wav", "--force")[0] == 0
    assert Path("a.mid").stat().st_mode & 0o777 == 0o600 and len(read_midi("a.mid"))


def test_align_and_transcribe_do_not_replace_each_other_s_table(folder, shell, sound):
    Path("a.wav").write_bytes(sound)
    for name in ("score.mid", "other.mid"):
        write_midi(TUNE, name)
    assert shell("align", "--no-progress", "a.wav", "score.mid")[0] == 0
    before = digests(folder)
    assert shell("transcribe", "--no-progress", "--csv", "a.wav")[0] == 1 and digests(folder) == before
    assert shell("align", "--no-progress", "a.wav", "other.mid")[0] == 1 and digests(folder) == before
    for words in (["score.mid"], ["other.mid", "--force"]):
        assert shell("align", "--no-progress", "a.wav", *words)[0] == 0


def test_a_result_may_replace_itself(folder, shell, sound, monkeypatch):
    """The same command again is done; not so after a change by hand, from another recording, or where nothing was
    remembered."""
    (folder / "other").mkdir()
    for path in ("a.wav", "other/a.wav"):
        Path(path).write_bytes(sound)
    words = ["transcribe", "--csv", "--json", "--no-progress", "-o", ".", "a.wav"]
    assert shell(*words)[0] == shell(*words)[0] == shell(*words, "--onset-threshold", "0.9")[0] == 0
    before = digests(folder)
    assert shell(*words[:-1], "other/a.wav")[0] == 1 and digests(folder) == before
    with monkeypatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "a.wav"))  # a file: nothing can be remembered there
        assert shell(*words)[0] == 1 and shell(*words, "-f")[0] == 0
    assert shell(*words, "-f")[0] == shell(*words)[0] == 0
    for name in ("a.mid", "a.csv", "a.json"):
        content = Path(name).read_bytes()
        Path(name).write_bytes(content + b" ")
        code, out, err = shell(*words)
        assert code == 1 and name in err and Path(name).read_bytes() == content + b" "
        Path(name).write_bytes(content)
    assert shell(*words)[0] == 0


@pytest.mark.parametrize("score", ["a.mid", "b.mid"])
def test_align_leaves_its_score_alone(folder, shell, sound, score):
    Path("a.wav").write_bytes(sound)
    write_midi(TUNE, "a.mid")
    if score != "a.mid":
        os.link("a.mid", score)
    before = digests(folder)
    code, _, err = shell("align", "--no-progress", "--midi", "--force", "a.wav", score)
    assert code == 1 and "a.mid" in err and "read by" in err and digests(folder) == before


def test_weights_are_an_input_too(folder, shell, sound):
    Path("a.wav").write_bytes(sound)
    Path("w.safetensors").write_bytes(b"mine")
    os.link("w.safetensors", "a.mid")
    code, _, err = shell("transcribe", "--force", "a.wav", "--weights", "./w.safetensors")
    assert code == 1 and "a.mid" in err and Path("w.safetensors").read_bytes() == b"mine"


def test_a_demo_replaces_its_own_and_nothing_else(folder, shell, sound):
    Path("my.wav").write_bytes(sound)
    words = ["demo", "my.wav", "-o", "new", "--no-progress"]
    assert shell(*words)[0] == shell(*words)[0] == 0 and names("new") == ["my.mid", "my.png", "my.stereo.ogg"]
    Path("new/my.png").write_bytes(b"mine")
    before = digests("new")
    code, out, err = shell(*words)
    assert code == 1 and "my.png" in err and digests("new") == before


@pytest.mark.parametrize(
    "name, word", [("a.wav", ".json"), ("a.json", "--force"), ("b.json", "read by"), ("no/a.json", "no")]
)
def test_metrics_are_written_over_nothing(folder, shell, sound, name, word):
    Path("a.wav").write_bytes(sound)
    Path("a.json").write_bytes(b"mine")
    Path("w.safetensors").write_bytes(b"mine")
    os.link("w.safetensors", "b.json")
    force = ["--force"] if name == "b.json" else []
    words = ["evaluate", "--data", f"maps={folder}", "--weights", "./w.safetensors", "--json", name, *force]
    before = digests(folder)
    code, out, err = shell(*words)
    assert code == 1 and out == "" and err.count("\n") == 1 and word in err and digests(folder) == before


def test_plans_are_made_for_all_before_any_is_begun(folder):
    for name in ("a.wav", "b.wav", "c.wav"):
        Path(name).write_bytes(b"RIFF")
    jobs = [(Path(f"{n}.wav"), {"midi": Path("x.mid" if n in "ab" else "c.mid")}) for n in "abc"]
    good, bad = plan(jobs)
    assert [s.name for s, _ in good] == ["c.wav"] and [s.name for s, _ in bad] == ["a.wav", "b.wav"]
    linked = [(Path("a.wav"), {"midi": Path("real/x.mid")}), (Path("b.wav"), {"midi": Path("link/x.mid")})]
    Path("real").mkdir()
    Path("link").symlink_to("real")
    assert len(plan(linked)[1]) == 2
    assert len(plan([jobs[2], jobs[2]])[0]) == 1  # named twice: done once
    Path("b.wav").unlink()  # what cannot be read writes nothing, and so stands in nobody's way
    assert [s.name for s, _ in plan(jobs)[0]] == ["a.wav", "c.wav"]


def test_a_thousand_files_are_planned_at_once(folder):
    jobs = []
    for i in range(1000):
        Path(f"{i}.wav").write_bytes(b"RIFF")
        jobs.append((Path(f"{i}.wav"), {"midi": Path(f"{i}.mid"), "sound": Path(f"{i}.stereo.ogg")}))
    started = time.process_time()
    assert len(plan(jobs)[0]) == 1000 and time.process_time() - started < 2


# ---- what is no file -----------------------------------------------------------------------------------------------


def strange(kind, name):
    """Makes something at `name` that is no ordinary file; returns what keeps it."""
    if kind == "pipe":
        os.mkfifo(name)
    elif kind == "folder":
        os.mkdir(name)
    elif kind == "loop":
        os.symlink(name, name)
    elif kind == "device":
        os.symlink("/dev/zero", name)
    elif kind == "socket":
        kept = socket.socket(socket.AF_UNIX)
        kept.bind(name)
        return kept


@pytest.fixture
def in_time():
    """Ends a test that hangs."""

    def late(*ignored):
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@posix
@pytest.mark.parametrize("kind", ["pipe", "folder", "loop", "device", "socket"])
def test_what_is_no_file_is_neither_read_nor_written(folder, shell, sound, in_time, kind):
    Path("a.wav").write_bytes(sound)
    write_midi(TUNE, "s.mid")
    before = digests(folder)
    kept = [strange(kind, name) for name in ("x.wav", "x.mid", "x.csv", "x.safetensors")]
    for words in (
        ["transcribe", "x.wav"],
        ["align", "x.wav", "s.mid"],
        ["align", "a.wav", "x.mid"],
        ["transcribe", "a.wav", "--weights", "./x.safetensors"],
    ):
        code, out, err = shell(*words)
        assert code == 1 and out == "" and err.count("\n") == 1 and "x." in err
    for words in (["transcribe", "a.wav", "-o", "x.mid"], ["align", "a.wav", "s.mid", "-o", "x.csv"]):
        for force in ([], ["-f"]) if kind != "folder" else ():  # into a folder the files go
            code, out, err = shell(*words, *force)
            assert code == 1 and out == "" and err.count("\n") == 1 and "x." in err
    assert digests(folder) == before
    del kept


@posix
def test_standard_input_is_said_what_to_do_with(folder, shell):
    assert "save it to a file" in shell("transcribe", "-")[2]
    reading, writing = os.pipe()
    try:
        code, out, err = shell("transcribe", f"/dev/fd/{reading}")
        assert code == 1 and "is a pipe" in err and "save it to a file" in err
    finally:
        os.close(reading), os.close(writing)


# ---- one odd file ends no batch ------------------------------------------------------------------------------------

ODD = {
    "mathematics": rb"$\x$.wav",
    "dollars": b"A$AP $ong.wav",
    "no UTF-8": b"F\xfcr.wav",
    "line break": b"one\ntwo.wav",
    "escape": b"\x1b[31mred\x1b]0;title\x07.wav",
    "direction": "\u202egnos.wav".encode(),
    "long": b"n" * 248 + b".wav",
    "long characters": "曲".encode() * 82 + b".wav",
    "percent": b"100%s {x}.wav",
    "option": b"-v.wav",
}


@posix
@pytest.mark.parametrize("kind", ODD)
def test_an_odd_name_is_done_or_told(folder, shell, sound, kind):
    name = os.fsdecode(ODD[kind])
    for path in (name, "good.wav"):
        Path(path).write_bytes(sound)
    code, out, err = shell("transcribe", f"./{name}", "good.wav", "-o", "out/", "--picture", "--json", "--no-progress")
    made = names("out")
    assert code == 0 and len(made) == 6 and f"{Path(name).stem}.png" in made and err == "", err
    assert not any(c in out for c in "\x1b\x07\u202e\udcfc") and out.count("\n") == 2
    told = json.loads((folder / "out" / f"{Path(name).stem}.json").read_text())
    assert told["recording"] == printable(name)


@posix
def test_a_name_too_long_for_one_output_is_told_before_work(folder, shell, sound):
    name = "n" * 251 + ".wav"  # with .stereo.ogg it would be longer than a name may be
    for path in (name, "good.wav"):
        Path(path).write_bytes(sound)
    code, out, err = shell("transcribe", name, "good.wav", "--sound", "--no-progress")
    assert code == 1 and err.count("\n") == 1 and "too long" in err and Path("good.mid").exists()
    assert shell("transcribe", "a/" * 3000 + "x.wav", "good.wav", "-f", "--no-progress")[0] == 1


@posix
@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may search every folder")
def test_a_folder_that_may_not_be_searched(folder, shell, sound):  # pragma: no cover
    Path("closed").mkdir()
    Path("closed/a.wav").write_bytes(sound)
    Path("good.wav").write_bytes(sound)
    Path("closed").chmod(0)
    try:
        code, out, err = shell("transcribe", "closed/a.wav", "good.wav", "--no-progress")
    finally:
        Path("closed").chmod(0o755)
    assert code == 1 and "closed/a.wav" in err and Path("good.mid").exists()


@pytest.mark.parametrize(
    "error, words",
    [
        (MemoryError(), "not enough memory"),
        (PermissionError(13, "Permission denied", "bad.wav"), "bad.wav: Permission denied"),
        (OSError(5, "Input/output error"), "bad.wav: Input/output error"),
        (OSError(28, "No space left on device", "bad.mid"), "bad.mid: No space left"),
        (UserError("bad.wav is strange"), "bad.wav is strange"),
        (ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib"), "pip install"),
        (BrokenPipeError(32, "Broken pipe"), "Broken pipe"),
    ],
)
def test_whatever_is_wrong_with_one_the_others_are_done(folder, shell, sound, monkeypatch, error, words):
    for name in ("bad.wav", "good.wav"):
        Path(name).write_bytes(sound)
    whole = cli.transcribe_one

    def one(recording, paths, args):
        if recording.name == "bad.wav":
            raise error
        return whole(recording, paths, args)

    monkeypatch.setattr(cli, "transcribe_one", one)
    code, out, err = shell("transcribe", "bad.wav", "good.wav", "--no-progress")
    assert code == 1 and words in err and err.count("\n") == 1 and Path("good.mid").exists()


def test_what_nobody_foresaw_is_one_line_and_its_place_on_request(folder, capsys, sound, monkeypatch):
    for name in ("bad.wav", "good.wav"):
        Path(name).write_bytes(sound)

    def one(recording, paths, args):
        if recording.name == "bad.wav":
            raise RecursionError("maximum\nrecursion depth exceeded")
        return "done"

    monkeypatch.setattr(cli, "transcribe_one", one)
    for debug in (False, True):
        monkeypatch.setenv("AMT_NB_DEBUG", "1" if debug else "")
        assert cli.main(["transcribe", "bad.wav", "good.wav"]) == 1
        out, err = capsys.readouterr()
        assert out == "good.mid: done\n" and ("Traceback" in err) == debug
        line = err.splitlines()[-1]
        assert "bad.wav: RecursionError: maximum recursion depth exceeded" in line and "AMT_NB_DEBUG=1" in line


def test_wrong_weights_are_told_once(folder, shell, sound):
    for name in ("a.wav", "b.wav"):
        Path(name).write_bytes(sound)
    code, out, err = shell("transcribe", "a.wav", "b.wav", "--weights", "banjo")
    assert code == 1 and err.count("\n") == 1 and "banjo" in err


# ---- streams -------------------------------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_an_output_that_cannot_hold_a_name(folder, sound, monkeypatch, encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    for name in ("浜.wav", os.fsdecode(b"F\xfcr.wav")):
        Path(name).write_bytes(sound)
    assert cli.main(["transcribe", "浜.wav", os.fsdecode(b"F\xfcr.wav"), "--no-progress"]) == 0
    said = stream.buffer.getvalue().decode(encoding)
    assert (
        said.count("\n") == 2 and ("浜.mid" if encoding == "utf-8" else r"\u6d5c.mid") in said and r"F\xfcr.mid" in said
    )


class Failing(io.StringIO):
    """A stream that raises `error` at each flush."""

    def __init__(self, error):
        super().__init__()
        self.failure = error

    def flush(self):
        raise self.failure


@pytest.mark.parametrize(
    "error, code", [(BrokenPipeError(32, "Broken pipe"), 0), (OSError(28, "No space left on device"), 1)]
)
def test_a_reader_who_has_gone_and_a_full_disk(folder, capsys, sound, monkeypatch, error, code):
    for name in ("a.wav", "b.wav"):
        Path(name).write_bytes(sound)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Failing(error))
        assert cli.main(["transcribe", "a.wav", "b.wav", "--no-progress"]) == code
    assert Path("a.mid").exists() and Path("b.mid").exists()
    err = capsys.readouterr().err
    assert ("No space left" in err) == (code == 1) and err.count("\n") == code


@posix
def test_a_folder_that_is_gone(folder, shell, sound):
    Path("a.wav").write_bytes(sound)
    Path("gone").mkdir()
    os.chdir("gone")
    (folder / "gone").rmdir()
    code, out, err = shell("transcribe", "a.wav")
    assert code == 1 and err.count("\n") == 1 and "a.wav" in err or "is gone" in err
    assert shell("transcribe", folder / "a.wav", "-o", folder / "a.mid", "--no-progress")[0] == 0


def test_streams_that_are_none(folder, sound, monkeypatch):
    Path("a.wav").write_bytes(sound)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        patch.setattr(sys, "stderr", None)
        assert cli.main(["transcribe", "a.wav", "gone.wav"]) == 1
    assert Path("a.mid").exists()


@posix
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-", "| true"])
def test_processes_whose_streams_are_closed(folder, sound, closed):
    Path("a.wav").write_bytes(sound)
    command = f'"{sys.executable}" -m amt_nb.workshop.cli transcribe --no-progress a.wav gone.wav {closed}'
    done = subprocess.run(
        ["bash", "-c", f"{command}; echo ${{PIPESTATUS[0]}} > code"], capture_output=True, text=True, timeout=300
    )
    assert Path("code").read_text() == "1\n"  # for gone.wav
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
    assert len(read_midi("a.mid")) and names(folder) == ["a.mid", "a.wav", "code"]


def test_a_stream_shows_nothing_that_a_terminal_obeys():
    paper = io.StringIO()
    Stream(paper).write("a\x1b[2J\x07\x9b1m\u202e\ud800 \r\x1b[K浜\n\t")
    assert paper.getvalue() == "a\\x1b[2J\\x07\\x9b1m\\u202e\\ud800 \r\x1b[K浜\n\t"


# ---- values --------------------------------------------------------------------------------------------------------

WRONG = ("", " ", "x", "nan", "inf", "-inf", "1e999", "-1", "٣", "²", "1" * 5000, "0x10", "1,5", "\udcff", "é" * 100)


def options(command):
    """(flag, its action) of every option of `command` that takes a value."""
    (commands,) = [a for a in cli.make_parser()._actions if a.choices and "transcribe" in a.choices]
    return {a.option_strings[-1]: a for a in commands.choices[command]._actions if a.option_strings and a.nargs != 0}


@pytest.mark.parametrize("command", ["transcribe", "demo", "align", "score", "prepare", "train", "evaluate"])
def test_no_value_of_any_option_is_a_traceback(folder, shell, sound, command):
    """Of numbers all of these are wrong; of names the empty ones are, and nothing is done with the others."""
    needed = {
        "transcribe": ["gone.wav"],
        "demo": ["gone.wav"],
        "align": ["gone.wav", "gone.mid"],
        "score": ["gone.mid"],
        "prepare": ["--data", "maps=gone"],
        "train": ["run", "--data", "maps=gone"],
        "evaluate": ["--data", "maps=gone"],
    }[command]
    for flag, action in options(command).items():
        for value in WRONG:
            code, out, err = shell(command, *needed, f"{flag}={value}")
            assert code in (1, 2) and out == "", (flag, value)
            assert err.splitlines()[-1].startswith("amt-nb"), (flag, value, err)
            if code == 2:
                assert len(err.splitlines()[-1]) < 300 or len(value) > 1000, (flag, value)
            assert code == 2 or value.strip() or action.type is None, f"{command} {flag} takes an empty value"
    assert names(folder) == []


@pytest.mark.parametrize(
    "words", [["transcribe", ""], ["align", "", "a.mid"], ["align", "a.wav", " "], ["demo", ""], ["train", ""]]
)
def test_an_empty_name_is_no_name(folder, shell, words):
    more = ["--data", "maps"] if words[0] == "train" else []
    code, out, err = shell(*words, *more)
    assert code == 2 and "empty name" in err


@pytest.mark.parametrize("ms", [0, 60, 200, 400, 2000])
def test_the_shortest_note_is_as_long_as_was_asked(folder, shell, sound, ms):
    """Shorter ones are left out, and none is made longer."""
    Path("a.wav").write_bytes(sound)

    def lengths(*words):
        assert shell("transcribe", "a.wav", "--csv", "-f", "--no-progress", *words)[0] == 0
        table = np.genfromtxt("a.csv", delimiter=",", names=True, dtype=None, encoding="utf-8", ndmin=1)
        return sorted(np.round(1000 * (table["offset_s"] - table["onset_s"]), 1).tolist()) if table.size else []

    assert lengths("--min-note-ms", str(ms)) == [x for x in lengths() if x >= ms - 0.2]


@pytest.mark.parametrize("weights, told", [(None, "any-142k"), ("align-12k", "align-12k")])
def test_the_weights_that_were_used_are_told(folder, shell, sound, weights, told):
    Path("a.wav").write_bytes(sound)
    assert shell("transcribe", "a.wav", "--json", "--no-progress", *(["--weights", weights] if weights else []))[0] == 0
    assert json.loads(Path("a.json").read_text())["weights"] == told


def test_the_help_says_the_shipped_threshold():
    from amt_nb.transcription.transcribe import load_model

    assert f"any-142k's own: {load_model().decode.onset_threshold}" in cli.TEACH["transcribe"][2]


# ---- the functions -------------------------------------------------------------------------------------------------


def test_check_output_knows_links_and_case(folder):
    Path("a.wav").touch()
    Path("dangling.mid").symlink_to("b.mid")
    check_output("dangling.mid", "a.wav")
    Path("dangling2.mid").symlink_to("no/b.mid")
    with pytest.raises(UserError, match="does not exist"):
        check_output("dangling2.mid", "a.wav")
    Path("link.mid").symlink_to("a.wav")
    for force in (False, True):
        with pytest.raises(UserError, match="is read by"):
            check_output("link.mid", "a.wav", force=force)
    assert check_input("a.wav") == Path("a.wav")


def test_what_is_remembered_is_bounded_and_says_no_name(folder, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    monkeypatch.setattr(written, "MOST_LINES", 5)
    for i in range(40):
        Path(f"{i}.mid").write_bytes(b"x")
        written.remember([f"{i}.mid"], "a.wav")
    lines = written.memory().read_text().split()
    assert len(lines) <= 12 and all(len(line) == 32 for line in lines)
    assert written.is_own("39.mid", "a.wav") and not written.is_own("0.mid", "a.wav")
    written.memory().write_bytes(b"\xff\xfe")
    assert not written.is_own("39.mid", "a.wav")
    for home in ("", "relative"):
        monkeypatch.setenv("XDG_STATE_HOME", home)
        monkeypatch.setenv("HOME", "relative")
        assert written.memory() is None and written.remember(["1.mid"]) is None and not written.is_own("1.mid")
