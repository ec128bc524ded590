"""What the command line does with the notes it is asked for: which weights, which thresholds, how short a note."""

import json

import numpy as np
import pytest
import soundfile
from safetensors import safe_open

from amt_nb.alignment import align as align_module
from amt_nb.notes import as_notes
from amt_nb.transcription.transcribe import load_model, weights_file
from amt_nb.workshop import cli
from amt_nb.workshop.midi import read_midi, write_midi
from amt_nb.workshop.settings import UserError
from amt_nb.workshop.synth import render

TUNE = as_notes([0.2, 0.7, 1.2, 2.0, 2.1], [0.6, 1.1, 1.9, 2.05, 2.16], [60, 64, 67, 72, 76])


@pytest.fixture(scope="module")
def tune(tmp_path_factory):
    """A sound file of three longer and two short notes."""
    path = tmp_path_factory.mktemp("notes") / "tune.wav"
    soundfile.write(path, render(TUNE, 16000, seconds=2.5), 16000)
    return path


def transcribed(tune, folder, *words):
    """Notes and the JSON that a command line writes."""
    out = folder / f"{len(list(folder.iterdir()))}.mid"
    assert cli.main(["transcribe", str(tune), "-o", str(out), "--json", "--no-progress", *words]) == 0
    return read_midi(out), json.loads(out.with_suffix(".json").read_text())


def test_notes_shorter_than_asked_are_left_out_and_the_others_stay_as_they_are(tune, tmp_path):
    everything, _ = transcribed(tune, tmp_path)
    lengths_ms = np.round(1000 * (everything["offset_s"] - everything["onset_s"]))
    assert len(set(lengths_ms.tolist())) > 2
    for ms in (0, 20, *(int(length) for length in sorted(lengths_ms)[1:4]), 250, 10_000):
        kept, _ = transcribed(tune, tmp_path, "--min-note-ms", str(ms))
        surely, perhaps = everything[lengths_ms > ms + 1], everything[lengths_ms >= ms - 1]
        assert len(surely) <= len(kept) <= len(perhaps) and np.isin(kept, everything).all()
    assert not len(kept)
    exact = as_notes([0, 1, 2], [0.06, 1.0599, 2.0601], 60)
    assert cli.long_enough(exact, 60)["onset_s"].tolist() == [0, 2] and len(cli.long_enough(exact, None)) == 3


@pytest.mark.parametrize("words, used", [((), "any-142k"), (("--weights", "align-12k"), "align-12k")])
def test_transcribe_uses_the_weights_it_tells_of(tune, tmp_path, monkeypatch, words, used):
    import amt_nb.transcription.transcribe as module

    loaded = []
    monkeypatch.setattr(module, "load_model", lambda weights=None: loaded.append(weights) or load_model(weights))
    _, told = transcribed(tune, tmp_path, *words)
    read = {weights_file(w) for w in loaded if not hasattr(w, "net")}
    assert told["weights"] == used and read == {weights_file(used)}


@pytest.mark.parametrize("name", ["violin", "piano", "auto"])
def test_an_instrument_that_is_named_changes_no_weights(tune, tmp_path, name):
    _, told = transcribed(tune, tmp_path, "--instrument", name)
    assert told["weights"] == "any-142k"
    _, told = transcribed(tune, tmp_path, "--instrument", name, "--weights", "align-12k")
    assert told["weights"] == "align-12k"


@pytest.mark.parametrize("level, heard", [(0.0, []), (0.3, [69])])
def test_silence_is_none_and_one_note_is_one(tmp_path, level, heard):
    sound = level * render(as_notes([0.3], [1.5], [69]), 16000, seconds=2.0)
    soundfile.write(tmp_path / "few.wav", sound, 16000)
    notes, _ = transcribed(tmp_path / "few.wav", tmp_path)
    assert notes["pitch"].tolist() == heard


@pytest.mark.parametrize("words, used", [((), "align-12k"), (("--weights", "piano-100k"), "piano-100k")])
def test_align_says_which_weights_listened(tune, tmp_path, words, used):
    score = write_midi(TUNE, tmp_path / "score.mid")
    assert (
        cli.main(["align", str(tune), str(score), "-o", str(tmp_path / "x.csv"), "--json", "--no-progress", *words])
        == 0
    )
    assert json.loads((tmp_path / "x.json").read_text())["heard_by"] == used


@pytest.mark.parametrize("words, used", [((), "None"), (("--weights", "piano-100k"), "piano-100k")])
def test_align_chooses_the_weights_unless_told_otherwise(tune, tmp_path, monkeypatch, capsys, words, used):
    def align(recording, score, weights=None, **_):
        raise UserError(f"asked for {weights}")

    monkeypatch.setattr(align_module, "align", align)
    score = write_midi(TUNE, tmp_path / "score.mid")
    assert cli.main(["align", str(tune), str(score), "-o", str(tmp_path / "x.csv"), "--no-progress", *words]) == 1
    assert capsys.readouterr().err == f"amt-nb: asked for {used}\n"


@pytest.mark.parametrize("command", ["transcribe", "demo"])
def test_help_tells_the_thresholds_that_the_weights_hold(command, capsys):
    with safe_open(str(weights_file()), "np") as file:
        held = json.loads(file.metadata()["config"])["decode"]
    assert cli.own_decoding() == held and load_model().decode.onset_threshold == held["onset_threshold"]
    with pytest.raises(SystemExit):
        cli.make_parser().parse_args([command, "--help"])
    told = " ".join(capsys.readouterr().out.split())
    for name in ("onset", "frame"):
        assert f"any-142k: {held[name + '_threshold']:g})" in told
    assert "neutral" not in told


def test_thresholds_change_what_is_found(tune, tmp_path):
    usual, _ = transcribed(tune, tmp_path)
    own = cli.own_decoding()
    same, _ = transcribed(tune, tmp_path, "--onset-threshold", str(own["onset_threshold"]))
    assert (same == usual).all() and len(usual) >= 3
    more, _ = transcribed(tune, tmp_path, "--onset-threshold", "0.02", "--frame-threshold", "0.02")
    none, _ = transcribed(tune, tmp_path, "--onset-threshold", "1", "--frame-threshold", "1")
    assert len(more) > len(usual) and not len(none)
