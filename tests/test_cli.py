"""The command line: it starts at once, teaches, and says what it did. (Bad input: test_faults.py.)"""

import csv
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from amt_nb.workshop import cli
from amt_nb.workshop.cli_data import TEACH_DATA
from amt_nb.workshop.cli_score import TEACH_SCORE
from amt_nb.notes import as_notes
from amt_nb.workshop.midi import read_midi
from amt_nb.workshop.synth import render

ROOT = Path(__file__).resolve().parents[1]
TUNE = as_notes([0.2, 0.7, 1.2], [0.6, 1.1, 1.9], [60, 64, 67])

TEACH = cli.TEACH | TEACH_DATA | TEACH_SCORE


def amt_nb(*words, **kw):
    """Runs amt-nb as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "amt_nb.workshop.cli", *map(str, words)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=900,
        **kw,
    )


@pytest.fixture(scope="module")
def tune(tmp_path_factory):
    """A sound file of three notes, in a folder of its own."""
    path = tmp_path_factory.mktemp("cli") / "tune.wav"
    soundfile.write(path, render(TUNE, 16000, seconds=2.5), 16000)
    return path


def test_help_answers_within_a_second():
    """Of CPU time, so that a busy machine does not count; best of three."""

    def spent():
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    best = float("inf")
    for _ in range(3):
        before = spent()
        done = amt_nb("--help")
        best = min(best, spent() - before)
    assert done.returncode == 0 and best < 1
    for command in TEACH:
        assert command in done.stdout


@pytest.mark.parametrize("command", TEACH)
def test_every_command_teaches_with_examples_that_parse(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([command, "--help"])
    text = capsys.readouterr().out
    assert stopped.value.code == 0 and "examples:" in text
    examples = re.findall(r"^  (amt-nb \S.*?)(?:  |$)", text, re.M)
    assert examples
    for example in examples:
        cli.make_parser().parse_args(example.split()[1:])


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["transkribe"],
        ["transcribe"],
        ["transcribe", "a.wav", "--onset-threshold", "2"],
        ["transcribe", "a.wav", "--min-note-ms", "x"],
        ["--nonsense"],
    ],
)
def test_wrong_usage_is_exit_code_2(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(words)
    assert stopped.value.code == 2 and "usage:" in capsys.readouterr().err


def test_it_is_installed_under_its_name():
    command = Path(sys.executable).parent / "amt-nb"
    done = subprocess.run([command, "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and re.fullmatch(r"amt-nb \d+\.\d+\.\d+\n", done.stdout)


def test_all_the_files_at_once(tune, tmp_path):
    out = tmp_path / "with space" / "x.mid"
    out.parent.mkdir()
    done = amt_nb(
        "transcribe", tune, "-o", out, "--picture", "--sound", "--csv", "--json", "--no-progress", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and done.stdout.startswith(f"{out}: ")
    assert sorted(p.name for p in out.parent.iterdir()) == ["x.csv", "x.json", "x.mid", "x.png", "x.stereo.ogg"]
    notes = read_midi(out)
    assert f"{len(notes)} notes" in done.stdout
    rows = list(csv.DictReader((out.parent / "x.csv").open()))
    told = json.loads((out.parent / "x.json").read_text())
    assert len(rows) == len(told["notes"]) == len(notes) and told["recording"] == "tune.wav" and told["seconds"] == 2.5
    assert np.allclose([float(r["onset_s"]) for r in rows], notes["onset_s"], atol=0.001)
    sound, sr = soundfile.read(out.parent / "x.stereo.ogg")
    assert sound.shape == (40000, 2) and sr == 16000 and np.abs(sound).max(0).min() > 0.01
    assert (out.parent / "x.png").read_bytes()[1:4] == b"PNG"


def test_thresholds_and_the_shortest_note_are_heeded(tune, tmp_path, capsys):
    counts = []
    for extra in (
        ["--frame-threshold", "0.02", "--onset-threshold", "0.02"],
        [],
        ["--min-note-ms", "400", "--frame-threshold", "0.999", "--onset-threshold", "1"],
    ):
        assert cli.main(["transcribe", str(tune), "-o", str(tmp_path / "x.mid"), "-f", "--no-progress", *extra]) == 0
        counts.append(len(read_midi(tmp_path / "x.mid")))
    assert counts[0] >= counts[1] >= counts[2] and counts[0] > counts[2]


def test_progress_is_on_standard_error_only(tune, tmp_path):
    done = amt_nb("transcribe", tune, "-o", tmp_path / "x.mid")
    assert done.returncode == 0 and "%" not in done.stdout and done.stdout.count("\n") == 1


def test_weights_that_are_none(tune, tmp_path, capsys):
    (tmp_path / "no.safetensors").write_bytes(b"nothing")
    for weights, word in (
        ("no.safetensors", "no.safetensors"),
        ("gone.safetensors", "gone.safetensors"),
        ("banjo", "any-142k"),
    ):
        assert (
            cli.main(
                [
                    "transcribe",
                    str(tune),
                    "-o",
                    str(tmp_path / "x.mid"),
                    "--weights",
                    str(tmp_path / weights) if "." in weights else weights,
                ]
            )
            == 1
        )
        err = capsys.readouterr().err
        assert word in err and err.count("\n") == 1
    assert not (tmp_path / "x.mid").exists()


def test_demo_tells_where_everything_lies(tmp_path):
    done = amt_nb("demo", "--no-progress", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines()[:4])
    assert set(lines) == {"recording", "MIDI", "picture", "sound"} and " s in all" in done.stdout
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["example.mid", "example.png", "example.stereo.ogg"]
    assert len(read_midi(tmp_path / "out" / "example.mid")) > 50


def test_demo_takes_a_recording_and_a_folder(tune, tmp_path):
    done = amt_nb("demo", tune, "-o", tmp_path / "new folder", "--no-progress", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / "new folder").iterdir()) == ["tune.mid", "tune.png", "tune.stereo.ogg"]


def test_doors_know_their_names_and_work_from_anywhere(tmp_path):
    """Each door answers from another folder, without a terminal, and silently finds the environment that is there already."""
    if not (ROOT / ".venv" / "made-from.test").exists():
        pytest.skip("the checkout has no .venv of its own making")
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHON", "PYTHONPATH")} | {"CI": "true"}
    for door, option, word in (
        ("run", "--help", "RECORDING"),
        ("test", "--help", "CHAPTER"),
        ("book", "--version", "."),
    ):
        done = subprocess.run(
            [ROOT / door, option],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=600,
        )
        assert done.returncode == 0 and word in done.stdout and "environment" not in done.stderr, done.stderr


def test_a_wrong_python_is_told_in_one_line(tmp_path):
    env = dict(os.environ, PYTHON=str(tmp_path / "no-python"))
    done = subprocess.run(
        [ROOT / "run", "--help"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
    )
    assert (
        done.returncode == 1
        and done.stdout == ""
        and done.stderr.count("\n") == 1
        and "3.11, 3.12 or 3.13" in done.stderr
    )
