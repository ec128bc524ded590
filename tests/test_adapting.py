"""amt-nb adapt: what it learns, where it goes on, and above all when it writes nothing."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from amt_nb.cqt import CQTConfig
from amt_nb.notes import as_notes
from amt_nb.transcription import adapting
from amt_nb.transcription.adapting import AdaptConfig, Looks, adapt, refused, unlabelled_metrics
from amt_nb.transcription.transcribe import load_model, transcribe_file
from amt_nb.workshop.cli_adapt import sound_files
from amt_nb.workshop.settings import UserError
from amt_nb.workshop.shift_widget import PIECES
from amt_nb.workshop.streaming import cqt
from amt_nb.workshop.synth import render
from amt_nb.workshop.weights import read_weights

SR = 16000
TINY = AdaptConfig(
    **dict(steps=4, look_every=2, renderings=8, renderer_steps=20, crop_frames=32, heard=1, rendered=1, control=1),
    **dict(views=1, least_s=5, pieces=2, piece_s=4, most_agreement=1.0),
)
SETTINGS = "[common]\n" + "".join(
    f"adapt_{k} = {getattr(TINY, k)}\n"
    for k in ("steps", "look_every", "renderings", "crop_frames", "heard", "rendered", "control", "views", "least_s")
    + ("pieces", "piece_s", "renderer_steps", "most_agreement")
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def guitar():
    """Sixteen seconds of chords and a tune on a guitar."""
    parts = [render(as_notes(*PIECES[name]), SR, "nylon guitar") for name in ("chords", "a tune")]
    return np.concatenate(parts * 2)[: 16 * SR]


@pytest.fixture(scope="module")
def piano():
    """Two pairs for the control."""
    pieces = [as_notes(*PIECES[name]) for name in ("chords", "a tune")]
    return [(cqt(render(notes, SR), SR, CQTConfig(0.6, 0.5)), notes) for notes in pieces]


def speech(seconds: float) -> np.ndarray:
    """Syllables that glide: a buzz through two formants, four a second, with hisses between them."""
    t, rng = np.arange(round(seconds * SR)) / SR, np.random.default_rng(0)
    hz = 120 + 30 * np.sin(2 * np.pi * 0.7 * t) + 25 * np.sin(2 * np.pi * 3.1 * t) + 12 * np.sin(2 * np.pi * 7.3 * t)
    phase, wave = 2 * np.pi * np.cumsum(hz) / SR, 0
    f1, f2 = 500 + 250 * np.sin(2 * np.pi * 2.3 * t), 1500 + 500 * np.sin(2 * np.pi * 1.7 * t)
    for h in range(1, 30):
        level = np.exp(-(((h * hz - f1) / 120) ** 2)) + 0.5 * np.exp(-(((h * hz - f2) / 200) ** 2))
        wave = wave + level * np.sin(h * phase)
    voiced = np.clip(np.sin(2 * np.pi * 4 * t) + 0.3, 0, 1)
    return (0.1 * (wave * voiced + 0.3 * rng.standard_normal(len(t)) * (voiced == 0))).astype(np.float32)


def learnt(folder, guitar, piano, config=TINY):
    model = load_model()
    return adapt([cqt(guitar, SR, model.cqt)], None, piano, config, 0, folder)


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(guitar, piano, tmp_path, monkeypatch):
    whole = learnt(tmp_path / "whole", guitar, piano)
    look, stopped = Looks.validate, []

    def once(self, models, step):
        if not stopped:
            stopped.append(step)
            os.kill(os.getpid(), signal.SIGINT)
        return look(self, models, step)

    monkeypatch.setattr(Looks, "validate", once)
    with pytest.raises(KeyboardInterrupt):
        learnt(tmp_path / "cut", guitar, piano)
    again = learnt(tmp_path / "cut", guitar, piano)
    assert stopped == [2] and again.history.step == whole.history.step
    for name, tensor in whole.net.state_dict().items():
        assert torch.equal(tensor, again.net.state_dict()[name]), name
    assert again.after == whole.after


def test_a_run_of_other_sound_is_not_gone_on_with(guitar, piano, tmp_path):
    learnt(tmp_path, guitar, piano)
    with pytest.raises(UserError, match="another configuration"):
        learnt(tmp_path, guitar[: 12 * SR], piano)


def test_a_collapse_is_refused(guitar, piano, tmp_path):
    broken = learnt(None, guitar, piano, replace(TINY, learning_rate=0.1))
    assert any("collapsed" in why or "forgot" in why for why in broken.reasons), broken.reasons
    with pytest.raises(UserError, match="no better, so none are written: "):
        adapting.save_adapted(tmp_path / "w.safetensors", broken, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("late_s", [-0.03, 0.0, 0.012, 0.045])
def test_onsets_are_left_where_they_were(late_s, guitar):
    model, silence = load_model(), np.full((500, 352), -1, np.float32)
    sounds = [cqt(guitar[: 6 * SR], SR, model.cqt), silence]
    own = model.decode.onset_shift_s
    strict = replace(
        model.decode, onset_shift_s=round(own + late_s, 4), onset_threshold=0.6
    )  # hears fewer, and those later
    after = replace(model, decode=strict)
    assert adapting.moved_s(sounds, model, after) == pytest.approx(late_s, abs=1e-3)
    assert adapting.in_place(sounds, model, after).decode == replace(strict, onset_shift_s=pytest.approx(own, abs=1e-3))
    assert adapting.in_place([silence], model, after).decode == strict


def test_music_is_told_from_speech():
    model = load_model()
    found = unlabelled_metrics([cqt(speech(20.0), SR, model.cqt)], model)
    assert "not to be believed" in refused(20.0, found, AdaptConfig()), found


WAVES = {
    "silence": (lambda: np.zeros(30 * SR, np.float32), "almost no notes"),
    "noise": (lambda: np.random.default_rng(0).normal(0, 0.1, 30 * SR).astype(np.float32), "almost no notes"),
    "short": (lambda: render(as_notes(*PIECES["chords"]), SR)[: 3 * SR], "3.0 s of sound are too little"),
    "speech": (lambda: speech(30.0), "not to be believed"),
}


@pytest.mark.parametrize("kind", WAVES)
def test_what_teaches_nothing_is_refused_in_one_line(kind, shell, tmp_path):
    make, said = WAVES[kind]
    soundfile.write(tmp_path / "a.wav", make(), SR)
    code, out, err = shell("adapt", "a.wav", "-o", "w.safetensors", "--cache", "cache")
    errors = [line for line in err.splitlines() if "nothing to learn from" in line]
    assert code == 1 and out == "" and len(errors) == 1 and said in errors[0], err
    assert not (tmp_path / "w.safetensors").exists()


@pytest.mark.parametrize(
    "words, said",
    [
        (["missing.wav"], "there is no such file"),
        (["empty"], "no sound file is in this folder; folders in it are not looked into"),
        (["a.wav", "-o", "w.mid"], "ends in .safetensors"),
        (["a.wav", "-o", "a.safetensors"], "--force replaces it"),
        (["a.wav", "--weights", "beats-10k"], "holds no transcriber"),
        (["notes.wav"], "a MIDI file"),
        (["a.wav", "--steps", "0"], "--steps"),
    ],
)
def test_wrong_words_are_one_line(words, said, shell, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(SR, np.float32), SR)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.safetensors").write_bytes(b"somebody's")
    (tmp_path / "notes.wav").write_bytes(b"MThd and more")
    code, out, err = shell("adapt", *words)
    assert code in (1, 2) and out == "" and said in err.splitlines()[-1], err
    assert (tmp_path / "a.safetensors").read_bytes() == b"somebody's"


def test_what_lies_in_a_folder_and_is_not_heard_is_named(tmp_path, capsys):
    (tmp_path / "more").mkdir()
    (tmp_path / "list.txt").write_text("takes")
    for name in ("a.wav", "more/b.wav"):
        soundfile.write(tmp_path / name, np.zeros(SR, np.float32), SR)
    assert [p.name for p in sound_files([tmp_path])] == ["a.wav"]
    assert capsys.readouterr().err == "amt-nb: no sound files, left alone: list.txt, more/\n"


def test_weights_that_pass_are_written_and_used(guitar, shell, tmp_path, monkeypatch):
    (tmp_path / "settings.ini").write_text(SETTINGS)
    (tmp_path / "mine").mkdir()
    soundfile.write(tmp_path / "mine" / "a.flac", guitar, SR)
    monkeypatch.setattr(adapting, "worse", lambda *any: [])
    words = ("adapt", "mine", "-o", "w.safetensors", "--cache", "cache")
    code, out, err = shell(*words)
    assert code == 0, err
    assert out.count("->") == 5 and out.splitlines()[-1].startswith("w.safetensors: any-142k, adapted to 1 "), out
    _, config, card = read_weights(tmp_path / "w.safetensors")
    shift = load_model().decode.onset_shift_s - card["onsets_moved_ms"] / 1000
    assert abs(card["onsets_moved_ms"]) < 50 and config["decode"]["onset_shift_s"] == pytest.approx(shift, abs=1e-4)
    assert card["base"] == "any-142k" and card["base_card"]["labels"] and card["seed"] == 0
    assert set(card["before"]) == set(card["after"]) >= {"agreement", "support", "control", "shift"}
    assert len(transcribe_file(tmp_path / "mine" / "a.flac", tmp_path / "w.safetensors"))
    assert shell("transcribe", "mine/a.flac", "--weights", "w.safetensors", "--no-progress")[0] == 0
    assert shell(*words)[0] == 0  # its own output, from the same input: replaced


def test_without_torch_it_says_what_to_install(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(SR, np.float32), SR)
    hide = "import sys; sys.modules['torch'] = None; import importlib.util as u; f = u.find_spec; "
    hide += "u.find_spec = lambda n, *a: None if n == 'torch' else f(n, *a); "
    script = hide + "from amt_nb.workshop.cli import main; sys.exit(main(['adapt', 'a.wav']))"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and 'pip install "amt-nb[train]"' in done.stderr
