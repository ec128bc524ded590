"""What the command line says: each line names its file and comes once; what is broken off may be begun again."""

import contextlib
import io
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from amt_nb.notes import as_notes
from amt_nb.workshop import cli, cli_notes
from amt_nb.workshop.midi import read_pedal, write_midi
from amt_nb.workshop.midi_parsing import parse_midi
from amt_nb.workshop.players import played_by
from amt_nb.workshop.synth import render

SR = 16000
TUNE = as_notes([0.1, 0.5], [0.4, 0.9], [60, 67])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder: tune.wav of a second, silence.wav, tune.mid."""
    monkeypatch.chdir(tmp_path)
    soundfile.write("tune.wav", render(TUNE, SR, seconds=1.0), SR)
    soundfile.write("silence.wav", np.zeros(SR), SR)
    return tmp_path


def shell(*words):
    """(exit code, output, errors) of a command line in this process."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            code = cli.main([os.fspath(word) for word in words])
        except SystemExit as stopped:
            code = stopped.code
    assert "Traceback" not in err.getvalue() and "fault of amt-nb" not in err.getvalue(), err.getvalue()
    return code, out.getvalue(), err.getvalue()


def test_every_complaint_names_its_recording(folder):
    """Also where what went wrong does not know of which file it comes: silence cannot be engraved, 900 Hz are too few."""
    soundfile.write("slow.wav", np.zeros(900), 900)
    code, out, err = shell("transcribe", "silence.wav", "slow.wav", "tune.wav", "--musicxml", "--no-progress")
    assert code == 1 and out.startswith("tune.mid: ") and out.count("\n") == 1
    beginnings = (
        "silence.mid: too few",
        "amt-nb: silence.wav: no note",
        "amt-nb: slow.wav: sample rate 900",
        "tune.mid: ",
    )
    lines = err.splitlines()
    assert len(lines) == 4 and all(line.startswith(begin) for line, begin in zip(lines, beginnings)), err
    write_midi(TUNE, "score.mid")
    for words in (("align", "slow.wav", "score.mid"), ("transcribe", "slow.wav"), ("demo", "slow.wav")):
        code, out, err = shell(*words, "--no-progress")
        assert code == 1 and err == "amt-nb: slow.wav: " + err.partition("slow.wav: ")[2] and err.count("slow.wav") == 1


def test_one_oddity_is_one_line_however_often_the_sound_is_read(folder):
    wave, _ = soundfile.read("tune.wav")
    soundfile.write("odd.wav", np.c_[wave, -wave], SR)
    code, _, err = shell("transcribe", "odd.wav", "--picture", "--sound", "--bends", "--no-progress")
    assert code == 0 and err.count("\n") == err.count("opposite phase") == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143), OSError(28, "No space left on device")])
def test_what_is_broken_off_may_be_begun_again(folder, monkeypatch, error):
    """Its files are whole, and its own; what lay there before is not, also under --force."""
    words = ["transcribe", "tune.wav", "--csv", "--json", "--picture", "--no-progress"]

    def stop(*ignored, **named):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("amt_nb.workshop.midi.midi_bytes", stop)
        assert shell(*words)[0] != 0
    assert sorted(p.name for p in folder.glob("tune.*")) == ["tune.csv", "tune.json", "tune.png", "tune.wav"]
    assert shell(*words)[0] == 0
    Path("tune.mid").write_bytes(b"mine")
    with monkeypatch.context() as patch:
        patch.setattr("amt_nb.workshop.midi.midi_bytes", stop)
        assert shell(*words, "--force")[0] != 0
    code, _, err = shell(*words)
    assert code == 1 and "tune.mid is there already" in err and Path("tune.mid").read_bytes() == b"mine"


@pytest.mark.skipif(os.name != "posix", reason="a signal of POSIX")
def test_what_was_written_before_a_kill_is_its_own(folder):
    words = ["transcribe", "tune.wav", "--csv", "--json", "--no-progress"]
    script = """
        import os, sys
        from amt_nb.workshop import cli, midi
        midi.midi_bytes = lambda *ignored, **named: os.kill(os.getpid(), 9)
        cli.main(sys.argv[1:])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), *words], capture_output=True)
    assert done.returncode == -9 and Path("tune.csv").exists() and not Path("tune.mid").exists()
    code, _, err = shell(*words)
    assert code == 0 and err == "" and Path("tune.mid").exists()


def test_an_alignment_that_is_broken_off_may_be_begun_again(folder, monkeypatch):
    from amt_nb.alignment import align

    write_midi(TUNE, "score.mid")
    words, whole = ["align", "tune.wav", "score.mid", "--json", "--midi", "--no-progress"], align.write

    def without_room(found, kind, path, recording):
        if kind == "csv":
            raise OSError(28, "No space left on device", str(path))
        whole(found, kind, path, recording)

    with monkeypatch.context() as patch:
        patch.setattr(align, "write", without_room)
        assert shell(*words)[0] == 1
    assert Path("tune.mid").exists() and not Path("tune.csv").exists()
    assert shell(*words)[0] == 0


@pytest.mark.parametrize(
    "words", [["demo", "tune.wav"], ["transcribe", "tune.wav"], ["transcribe", "tune.wav", "silence.wav"]]
)
@pytest.mark.parametrize("out", ["out.mp3", "out.csv", "out.musicxml"])
def test_a_file_that_is_no_midi_file_becomes_no_folder(folder, words, out):
    before = sorted(folder.iterdir())
    code, _, err = shell(*words, "-o", out)
    assert code == 1 and f"{out}: the output is a MIDI file and ends in .mid, or it is a folder and ends in" in err
    assert sorted(folder.iterdir()) == before
    Path(out).mkdir()
    assert shell(*words, "-o", out, "--no-progress")[0] == 0 and (Path(out) / "tune.mid").exists()


def test_what_is_no_recording_is_said_before_anything_else(folder):
    write_midi(TUNE, "tune.mid")
    Path("empty.wav").touch()
    code, out, err = shell("transcribe", "tune.mid", "empty.wav", "silence.wav", "--no-progress")
    assert code == 1 and "tune.mid is a MIDI file, not a recording" in err and "empty.wav is empty" in err
    assert out.startswith("silence.mid: ")


def test_bars_of_too_few_notes_are_said_of_their_file(capsys):
    cli_notes.bars_for(TUNE, "a\nb.mid")
    assert capsys.readouterr().err == "a\\nb.mid: too few notes for beats: the bars are two seconds long\n"


@pytest.mark.parametrize("words", [["table1"], ["--dry-run"], ["--seeds", "1"], ["--data", "maps"], ["-o", "runs"]])
def test_a_list_of_tables_does_nothing_beside(folder, words):
    code, out, err = shell("sweep", "--list", *words)
    assert code == 1 and out == "" and "--list names the tables and does nothing else" in err
    assert shell("sweep", "--list")[0] == 0


@pytest.mark.parametrize("text", ["[demo]\nno_such_key = 1\n", "[demo]\n[dmeo]\ndecode_gap_frames = 1\n"])
def test_a_setting_that_there_is_not_is_an_error_of_every_command(folder, monkeypatch, text):
    Path("settings.ini").write_text(text)
    write_midi(TUNE, "score.mid")
    for words in (["transcribe", "tune.wav"], ["demo"], ["score", "score.mid"], ["sweep", "--list"]):
        code, out, err = shell(*words)
        assert code == 1 and out == "" and "settings.ini: unknown" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "words, said",
    [
        (["--instrument", "piano", "--bends"], "--bends is for what glides"),
        (["--instrument", "mallets", "--bends"], "--bends is for what glides"),
        (["--instrument", "violin", "--pedal"], "--pedal is the piano's"),
    ],
)
def test_options_that_contradict_each_other_are_refused_before_work(folder, words, said):
    code, out, err = shell("transcribe", "tune.wav", *words)
    assert code == 1 and out == "" and err.startswith(f"amt-nb: {said}") and err.count("\n") == 1
    assert not Path("tune.mid").exists()


def test_a_pedal_without_a_piano_is_said_and_not_written(folder, monkeypatch):
    monkeypatch.setattr(cli_notes, "players_of", lambda notes, *_: played_by("violin", notes))
    code, _, err = shell("transcribe", "tune.wav", "--instrument", "auto", "--pedal", "--no-progress")
    assert code == 0 and "tune.mid: no piano is heard, so no pedal is written" in err
    assert not len(read_pedal("tune.mid"))


def test_bends_keep_the_instruments_apart(folder):
    assert shell("transcribe", "tune.wav", "--instrument", "flute", "--bends", "--no-progress")[0] == 0
    assert list(parse_midi("tune.mid").names.values()) == ["flute"]


@pytest.mark.parametrize("score", ["tune.wav", "page.gif", "page.webp", "score"])
def test_what_is_no_score_is_told_both_kinds_and_the_order(folder, score):
    Path(score).exists() or Path(score).write_bytes(b"GIF89a")
    code, _, err = shell("align", "silence.wav", score)
    assert code == 1 and err.startswith(f"amt-nb: {score}: a score ends in .mid") and err.count("\n") == 1
    assert ".pdf" in err and "the recording is named first" in err


@pytest.mark.parametrize("text", ["3-1", "0", "a", "1-", "-1", "1-2-3", ""])
def test_pages_that_are_none_are_told_how_to_be_named(folder, text):
    code, _, err = shell("align", "tune.wav", "a.pdf", f"--pages={text}")
    assert code == 2 and "is no page like 5 and no pages like 3-8" in err and "page_range" not in err


@pytest.mark.parametrize("address", ["https://web.org/a.mp3", "ftp://web.org/a.mp3", "file:///music/none.mp3"])
@pytest.mark.parametrize("words", [["transcribe"], ["demo"], ["adapt"], ["align", "tune.wav"], ["score"]])
def test_an_address_is_not_fetched_and_that_is_said(folder, words, address):
    address = address.replace(".mp3", ".mid") if words[0] in ("align", "score") else address
    code, _, err = shell(*words, address)
    assert code == 1 and "an address is not fetched: download it first" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["transcribe", "tune.wav", "--tuning", "0", "--tuning", "50"],
        ["transcribe", "tune.wav", "-o", "a/", "--out", "b/"],
        ["align", "tune.wav", "a.mid", "--semitones", "1", "--semitones", "2"],
        ["evaluate", "--data", "embedded", "--size", "demo", "--size", "demo"],
    ],
)
def test_an_option_of_one_value_is_given_once(folder, words):
    code, _, err = shell(*words)
    assert code == 2 and err.endswith("is given twice\n") and not Path("a").exists() and not Path("b").exists()


def test_options_of_several_values_add_up(folder):
    """The first of two --set, or of two --data, was forgotten in silence."""
    args = cli.make_parser().parse_args("train r --data maps --set a=1 b=2 --data asap --set c=3".split())
    assert args.data == ["maps", "asap"] and args.set == ["a=1", "b=2", "c=3"]
    code, _, err = shell("train", "r", "--data", "embedded", "--set", "train_steps=5", "--set", "train_steps=6")
    assert code == 1 and "train_steps is given twice" in err and not Path("r").exists()


def test_pages_without_music_are_named(folder):
    for name in ("a.png", "b.png"):
        Image.new("L", (800, 1000), 255).save(name)
    code, _, err = shell("align", "tune.wav", "a.png", "b.png", "--no-progress")
    assert code == 1 and err.startswith("amt-nb: a.png, b.png: no page has bars") and err.count("\n") == 1


def test_a_role_that_there_is_not_is_told_the_roles_that_there_are(folder):
    code, _, err = shell("evaluate", "--data", "embedded", "--role", "nope", "--cache", "cache")
    assert code == 1 and err.endswith(
        "no labelled recording of role nope in embedded; there is test, train, validation\n"
    )


@pytest.mark.parametrize("words", [["transcribe", "tune.wav"], ["align", "tune.wav", "score.mid"]])
def test_what_another_process_wrote_meanwhile_stays(folder, monkeypatch, words):
    """Two runs with one output: the later one writes none of its files, not some of them."""
    from amt_nb.alignment import align
    from amt_nb.transcription import transcribe

    write_midi(TUNE, "score.mid")
    for module, name in ((transcribe, "stream_activations"), (align, "align")):

        def beside(*args, whole=getattr(module, name), **more):
            Path("out.csv").write_text("theirs")
            return whole(*args, **more)

        monkeypatch.setattr(module, name, beside)
    out = ["-o", "out.mid", "--csv"] if words[0] == "transcribe" else ["-o", "out.csv", "--midi"]
    code, _, err = shell(*words, *out, "--no-progress")
    assert code == 1 and "out.csv is there already" in err
    assert Path("out.csv").read_text() == "theirs" and not Path("out.mid").exists()
