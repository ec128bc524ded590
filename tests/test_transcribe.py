"""Long recordings: no drift, bounded memory, windows equal to the whole, decoding in parts."""

import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from amt_nb.cqt import CQTConfig
from amt_nb.metrics import note_f1
from amt_nb.notes import as_notes
from amt_nb.transcription.transcribe import activations, decoded, load_model, notes_of, transcribe, transcribe_file
from amt_nb.workshop.decoding import DecodeConfig, decode
from amt_nb.workshop.synth import render
from amt_nb.workshop.transcription_model import TranscriptionModel

SR = 16000


def bare(x):
    """A net without parameters: a key sounds when its loudest bin is within 20 dB of the level."""
    loudest = x[:, 0].unflatten(-1, (88, 4)).amax(-1)
    rise = loudest - torch.nn.functional.pad(loudest, (0, 0, 3, 0))[:, :-3]
    return {"frame": 20 * (loudest - 0.5), "onset": 20 * (rise - 0.3)}


class Ticks:
    """A tone of 880 Hz for 0.1 s at every tenth second, made while it is read."""

    def __init__(self, seconds, sr):
        self.seconds, self.sr = seconds, sr

    def __iter__(self):
        tone = 0.5 * np.sin(2 * np.pi * 880 * np.arange(self.sr // 10) / self.sr).astype(np.float32)
        for first in range(0, self.seconds, 10):
            block = np.zeros(10 * self.sr, np.float32)
            if first:
                block[: len(tone)] = tone
            yield block


@pytest.mark.parametrize("sr", [16000])
def test_no_drift_in_an_hour(sr):
    found = activations(Ticks(3600, sr), sr, TranscriptionModel(bare))
    assert found.frames.shape == (3600 * 50, 88)
    notes = decode(found.frames, found.onsets)
    onsets = notes["onset_s"][notes["pitch"] == 81]
    late = onsets - 10 * np.arange(1, 360)
    assert np.ptp(late) < 0.0005 and abs(late.mean()) < 0.02


def test_nothing_in_nothing_out():
    found = activations(np.zeros(0, np.float32), SR, TranscriptionModel(bare))
    assert found.frames.shape == (0, 88) and not found.sounding


def test_shipped_net_in_windows_is_the_net_on_the_whole():
    """One window or many, for the weights of the book: at most one cell in 1,000 changes, and hardly a note (their net has a memory)."""
    rng = np.random.default_rng(1)
    onset = np.sort(rng.uniform(0, 58, 300))
    wave = render(as_notes(onset, onset + rng.uniform(0.1, 1.5, 300), rng.integers(30, 95, 300)), SR, seconds=60)
    model = load_model()
    whole = activations(
        wave, SR, TranscriptionModel(model.net, model.cqt, model.decode, window=3400, margin=model.margin)
    )
    cut = activations(wave, SR, model)
    assert len(whole.frames) == 3000 and model.window < 3000
    difference = np.abs(whole.frames.astype(float) - cut.frames)
    assert difference.mean() < 1e-3 and ((whole.frames > 0.5) != (cut.frames > 0.5)).mean() < 0.001
    assert note_f1(notes_of(cut, model), notes_of(whole, model)) > 0.98


def test_a_file_gives_what_its_samples_give(tmp_path):
    wave = render(as_notes([0.2, 0.8], [0.7, 1.4], [60, 67]), SR, seconds=2)
    soundfile.write(tmp_path / "a.wav", wave, SR, subtype="FLOAT")
    assert np.array_equal(transcribe_file(tmp_path / "a.wav"), transcribe(wave, SR))
    assert np.array_equal(transcribe(np.stack([wave, wave]), SR), transcribe(np.stack([wave, wave], 1), SR))


def test_progress_rises_to_one():
    shares = []
    activations(
        render(as_notes([0.2], [0.7], [60]), SR, seconds=20), SR, TranscriptionModel(bare, window=512), shares.append
    )
    assert shares == sorted(shares) and shares[-1] == 1 and len(shares) > 5


def test_long_recordings_are_computed_twice_and_come_out_the_same(monkeypatch):
    wave = render(as_notes([0.2, 5], [0.7, 6], [60, 64]), SR, seconds=8)
    kept = activations(wave, SR, TranscriptionModel(bare))
    monkeypatch.setattr("amt_nb.workshop.streaming.two_passes.__defaults__", (None, CQTConfig(), None, 10))
    again = activations(wave, SR, TranscriptionModel(bare))
    assert np.array_equal(kept.frames, again.frames) and kept.level_db == again.level_db


def test_a_model_without_onsets_and_with_velocities():
    found = activations(
        render(as_notes([0.2], [0.7], [60]), SR, seconds=1),
        SR,
        TranscriptionModel(lambda x: {"frame": bare(x)["frame"], "velocity": torch.zeros(1, x.shape[2], 88)}),
    )
    assert found.onsets is None and set(np.unique(found.velocities)) == {64}


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 900),
    st.integers(1, 300),
    st.booleans(),
    st.sampled_from([(0.0, 0.0), (-0.03, 0.01), (0.05, -0.05)]),
    st.integers(0, 9),
    st.integers(1, 6),
    st.floats(0.2, 0.8),
)
def test_decoding_in_parts_is_decoding_at_once(seed, n, enough, with_onsets, shifts, gap, shortest, threshold):
    rng = np.random.default_rng(seed)
    slow = np.repeat(rng.random((n // 12 + 1, 88)), 12, 0)[:n] ** rng.choice([0.3, 1, 4])
    frames, onsets = (
        (slow * rng.random((n, 88)) ** rng.choice([0.1, 1])).astype(np.float16),
        (rng.random((n, 88)) ** rng.choice([1, 8, 30])).astype(np.float16),
    )
    frames[:, 5], frames[:, 6], onsets[:, 6] = 1, 0, 0  # a key that never rests, and one that is never touched
    velocities = rng.integers(1, 128, (n, 88)).astype(np.uint8)
    config = DecodeConfig(
        frame_threshold=threshold,
        onset_threshold=threshold,
        gap_frames=gap,
        min_frames=shortest,
        onset_shift_s=shifts[0],
        offset_shift_s=shifts[1],
    )
    cuts = np.sort(rng.integers(0, n + 1, 6))
    blocks = [
        (frames[a:b], onsets[a:b] if with_onsets else None, velocities[a:b]) for a, b in zip([0, *cuts], [*cuts, n])
    ]
    whole, parts = (
        decode(frames, onsets if with_onsets else None, velocities, config=config),
        decoded(blocks, config, enough),
    )
    assert len(whole) == len(parts)
    order = lambda notes: notes[np.lexsort((np.round(notes["onset_s"], 6), notes["pitch"]))]
    for name in whole.dtype.names:
        assert np.allclose(order(whole)[name], order(parts)[name], atol=1e-9, rtol=0)


def test_the_book_s_nets_need_no_torch(tmp_path):
    soundfile.write(tmp_path / "a.wav", render(as_notes([0.2, 0.8], [0.7, 1.4], [60, 67]), SR, seconds=2), SR)
    code = (
        "import sys; from amt_nb.transcription.transcribe import transcribe_file; notes = [transcribe_file(sys.argv[1], w) for w in ('piano-100k', 'align-12k')]; "
        "print(all(len(n) for n in notes), sorted(m for m in ('torch', 'numba', 'scipy') if m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.wav")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "True []"


@pytest.mark.parametrize("name", ["piano-100k", "align-12k"])
def test_numpy_nets_give_what_torch_gives(name):
    """The book's weights in the direct net: logits within 1e-4."""
    from amt_nb.transcription.direct import HarmonicConfig, HarmonicNet
    from amt_nb.transcription.transcribe import weights_file
    from amt_nb.workshop.settings import make
    from amt_nb.workshop.weights import load_weights, part_of

    state, config, _ = load_weights(weights_file(name))
    net = HarmonicNet(make(HarmonicConfig, config["harmonic"])).eval()
    net.load_state_dict(part_of(state, "net"))
    x = np.clip(np.random.default_rng(0).normal(-0.3, 0.6, (701, 352)), -1, 1).astype(np.float32)
    with torch.inference_mode():
        theirs = net(torch.from_numpy(x)[None, None])
    ours = load_model(name).net(x)
    assert set(ours) == set(theirs) and all(np.abs(ours[k] - theirs[k][0].numpy()).max() < 1e-4 for k in ours)


MEMORY = """
import resource, sys, numpy as np, torch
from test_transcribe import Ticks, bare
from amt_nb.workshop.transcription_model import TranscriptionModel
from amt_nb.transcription.transcribe import activations, notes_of
torch.set_num_threads(1)
model = TranscriptionModel(bare)
activations(Ticks(60, 16000), 16000, model)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
notes = notes_of(activations(Ticks(int(sys.argv[1]), 16000), 16000, model), model)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, len(notes))
"""


def test_memory_grows_by_what_is_kept_alone():
    """Forty minutes more cost their probabilities (79 MB an hour) and little else, not their samples or their CQT."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, "2400"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join([root, os.path.join(root, "tests")])),
    )
    grown_kb, n = map(int, done.stdout.split())
    assert n >= 239 and grown_kb < 170_000
