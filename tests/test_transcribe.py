"""Long recordings: no drift, bounded memory, windows equal to the whole; and the corners of pictures and stereo sound."""

import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings as hypothesis_settings, strategies as st

from amt_nb.cqt import CQTConfig
from amt_nb.metrics import note_f1
from amt_nb.workshop.decoding import decode, DecodeConfig
from amt_nb.notes import as_notes
from amt_nb.workshop.settings import UserError
from amt_nb.workshop.synth import render
from amt_nb.workshop.transcription_model import cqt_activations, TranscriptionModel, windows
from amt_nb.transcription.transcribe import decoded, activations, load_model, notes_of, transcribe, transcribe_file
from amt_nb.workshop.transcription_figures import figure, stereo, write_picture, write_stereo

SR = 16000


def bare(x):
    """A net without parameters: a key sounds when its loudest bin is within 20 dB of the level."""
    loudest = x[:, 0].unflatten(-1, (88, 4)).amax(-1)
    rise = loudest - torch.nn.functional.pad(loudest, (0, 0, 3, 0))[:, :-3]
    return {"frame": 20 * (loudest - 0.5), "onset": 20 * (rise - 0.3)}


class Ticks:
    """A tone of 880 Hz for 0.1 s at every tenth second, made while it is heard."""

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
    heard = activations(Ticks(3600, sr), sr, TranscriptionModel(bare))
    assert heard.frames.shape == (3600 * 50, 88)
    notes = decode(heard.frames, heard.onsets)
    onsets = notes["onset_s"][notes["pitch"] == 81]
    late = onsets - 10 * np.arange(1, 360)
    assert np.ptp(late) < 0.0005 and abs(late.mean()) < 0.02


@pytest.mark.parametrize("lengths", [[1], [7, 9, 3], [100], [10, 0, 10], [9]])
@pytest.mark.parametrize("window, margin", [(16, 0), (24, 8), (32, 8)])
def test_windows_cover_every_frame_once_with_its_neighbours(lengths, window, margin):
    n = sum(lengths)
    values = np.arange(1, n + 1, dtype=np.float32)[:, None]
    edges = np.cumsum([0, *lengths])
    found = list(windows([(a, values[a:b]) for a, b in zip(edges[:-1], edges[1:])], window, margin))
    assert [a for a, _, _ in found] == [0, *[b for _, b, _ in found][:-1]] and found[-1][1] == n
    around = np.concatenate([np.full(margin, -1), values[:, 0], np.full(window, -1)])
    for a, b, v in found:
        assert (
            v.shape == (window, 1) and np.array_equal(v[:, 0], around[a : a + window]) and b - a <= window - 2 * margin
        )


def test_nothing_in_nothing_out():
    heard = activations(np.zeros(0, np.float32), SR, TranscriptionModel(bare))
    assert heard.frames.shape == (0, 88) and not heard.sounding
    assert list(windows(iter([]), 16, 0)) == []


def test_shipped_net_hears_in_windows_what_it_hears_whole():
    """One window or many, for the weights of the book: at most one cell in 1,000 changes, and hardly a note (their net has a memory)."""
    rng = np.random.default_rng(1)
    onset = np.sort(rng.uniform(0, 58, 300))
    wave = render(as_notes(onset, onset + rng.uniform(0.1, 1.5, 300), rng.integers(30, 95, 300)), SR, seconds=60)
    listener = load_model()
    whole = activations(
        wave, SR, TranscriptionModel(listener.net, listener.cqt, listener.decode, window=3400, margin=listener.margin)
    )
    cut = activations(wave, SR, listener)
    assert len(whole.frames) == 3000 and listener.window < 3000
    difference = np.abs(whole.frames.astype(float) - cut.frames)
    assert difference.mean() < 1e-3 and ((whole.frames > 0.5) != (cut.frames > 0.5)).mean() < 0.001
    assert note_f1(notes_of(cut, listener), notes_of(whole, listener)) > 0.98


def test_a_file_gives_what_its_samples_give(tmp_path):
    wave = render(as_notes([0.2, 0.8], [0.7, 1.4], [60, 67]), SR, seconds=2)
    soundfile.write(tmp_path / "a.wav", wave, SR, subtype="FLOAT")
    assert np.array_equal(transcribe_file(tmp_path / "a.wav"), transcribe(wave, SR))
    assert np.array_equal(transcribe(np.stack([wave, wave]), SR), transcribe(np.stack([wave, wave], 1), SR))


def test_progress_rises_to_one():
    told = []
    activations(
        render(as_notes([0.2], [0.7], [60]), SR, seconds=20), SR, TranscriptionModel(bare, window=512), told.append
    )
    assert told == sorted(told) and told[-1] == 1 and len(told) > 5


def test_long_recordings_are_computed_twice_and_come_out_the_same(monkeypatch):
    wave = render(as_notes([0.2, 5], [0.7, 6], [60, 64]), SR, seconds=8)
    kept = activations(wave, SR, TranscriptionModel(bare))
    monkeypatch.setattr("amt_nb.transcribe.KEEP_FRAMES", 10)
    again = activations(wave, SR, TranscriptionModel(bare))
    assert np.array_equal(kept.frames, again.frames) and kept.level_db == again.level_db


def test_a_listener_without_onsets_and_with_velocities():
    heard = activations(
        render(as_notes([0.2], [0.7], [60]), SR, seconds=1),
        SR,
        TranscriptionModel(lambda x: {"frame": bare(x)["frame"], "velocity": torch.zeros(1, x.shape[2], 88)}),
    )
    assert heard.onsets is None and set(np.unique(heard.velocities)) == {64}


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
def test_plain_nets_say_what_torch_says(name):
    """The book's weights in the net of chapter 19: logits within 1e-4."""
    from amt_nb.transcription.direct import HarmonicConfig, HarmonicNet
    from amt_nb.workshop.weights import load_weights, part_of
    from amt_nb.workshop.settings import make
    from amt_nb.transcription.transcribe import weights_file

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
from tests.test_transcribe import Ticks, bare
from amt_nb.workshop.transcription_model import TranscriptionModel
from amt_nb.transcription.transcribe import activations, notes_of
torch.set_num_threads(1)
listener = Listener(bare)
hear(Ticks(60, 16000), 16000, listener)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
notes = notes_of(hear(Ticks(int(sys.argv[1]), 16000), 16000, listener), listener)
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
        env=dict(os.environ, PYTHONPATH=root),
    )
    grown_kb, n = map(int, done.stdout.split())
    assert n >= 239 and grown_kb < 170_000


def test_stereo_of_silence_of_no_notes_and_of_notes_beyond_the_end():
    silence = np.zeros(3 * SR, np.float32)
    one = as_notes([2.5], [9.0], [60])
    for wave, notes in ((silence, one), (silence + 0.1, one[:0]), (silence + 0.1, as_notes([50], [51], [60]))):
        both = np.concatenate(list(stereo([wave], SR, notes, part_s=2)))
        assert both.shape == (3 * SR, 2) and np.array_equal(both[:, 0], wave) and not both[:, 1].any()
    assert list(stereo([], SR, one)) == []


def test_stereo_in_parts_rings_on_over_their_seams():
    notes = as_notes([1.9], [4.5], [48])
    wave = np.full(6 * SR, 0.1, np.float32)
    both = np.concatenate(list(stereo([wave], SR, notes, part_s=2)))
    assert np.abs(both[int(2.1 * SR) : int(4 * SR), 1]).max() > 0.01
    step = np.abs(np.diff(both[2 * SR - 5 : 2 * SR + 5, 1])).max()
    assert step < 0.2


def test_pictures_of_any_length(tmp_path):
    for n in (0, 1, 1000, 6001):
        assert (
            write_picture(tmp_path / "p.png", np.full((n, 352), -1, np.float32), as_notes([0.0], [0.01], [60]))
            .stat()
            .st_size
            > 500
        )
    assert len(figure(np.zeros((1000, 352)), as_notes([0], [1], [108])).axes) == 1


def test_sounds_that_cannot_be_written(tmp_path):
    wave = np.zeros(SR, np.float32)
    with pytest.raises(UserError, match="nowhere"):
        write_stereo(tmp_path / "nowhere" / "a.wav", wave, as_notes([], [], []), SR)
    with pytest.raises(UserError, match=".wav, .flac, .ogg"):
        write_stereo(tmp_path / "a.txt", wave, as_notes([], [], []), SR)
    assert not list(tmp_path.iterdir())


def test_hear_cqt_takes_arrays_and_blocks_alike():
    cqt = np.random.default_rng(0).uniform(-1, 1, (700, 352)).astype(np.float32)
    whole = cqt_activations(cqt, 700, TranscriptionModel(bare, CQTConfig()))
    parts = cqt_activations(iter([(0, cqt[:300]), (300, cqt[300:])]), 700, TranscriptionModel(bare))
    assert all(np.array_equal(a, b) for a, b in zip(whole, parts))
