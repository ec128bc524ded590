"""The renderer learnt from pairs: its planes, what is physical in it, what it renders, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from amt_nb.notes import as_notes
from amt_nb.transcription import learnt_renderer as L
from amt_nb.workshop.grids import BINS_PER_KEY, N_BINS, N_KEYS, PITCH_MIN
from amt_nb.workshop.settings import UserError

SMALL = L.RendererConfig(partials=4, hidden=8, steps=3, crop_frames=16, rendered=8)
NOTES = as_notes([0.1, 0.3], [0.2, 0.9], [60, 64], [80, 100])


def planes_of(notes, frames=64):
    return torch.from_numpy(L.note_planes(notes, 0, frames))[None]


def sound(frames=40, seed=0):
    return np.random.default_rng(seed).uniform(-1, 0, (frames, N_BINS)).astype(np.float32)


def test_planes_show_the_latest_note_of_a_key():
    age, off, velocity = L.note_planes(as_notes([0.0, 0.4], [0.2, 0.5], [60, 60], [127, 64]), 5, 20)[
        :, :, 60 - PITCH_MIN
    ]
    assert age[0] == 5.5 and off[4] == 0 and off[10] == 5.5  # held for 10 frames; the crop begins at the fifth
    assert age[15] == 0.5 and off[15] == 0 and np.isclose(velocity[15], 64 / 127) and velocity[14] == 1


def test_planes_of_nothing_and_of_keys_beyond_the_piano():
    empty = L.note_planes(as_notes([], [], []), 0, 7)
    assert empty.shape == (3, 7, N_KEYS) and (empty[0] == -1).all()
    assert np.array_equal(L.note_planes(as_notes([0.0], [0.1], [PITCH_MIN + N_KEYS]), 0, 7), empty)


def test_powers_of_two_notes_add():
    torch.manual_seed(0)
    net = L.Renderer(1, SMALL)
    timbre = torch.zeros(1, SMALL.style)
    both, one, other = (net.power(planes_of(n), timbre) for n in (NOTES, NOTES[:1], NOTES[1:]))
    quiet = L.FAST * net.attack @ net.curves  # the hammers' noise is heard once for all
    assert torch.allclose(both, one + other, rtol=1e-4, atol=4 * float(torch.exp(2 * quiet.detach()).max()))


def test_a_key_higher_is_four_bins_higher_at_the_start():
    torch.manual_seed(0)
    net = L.Renderer(1, SMALL)
    with torch.no_grad():
        net.levels.weight.zero_()
        net.attack.fill_(-9)
        low, high = (net.power(planes_of(as_notes([0.1], [0.9], [k])), torch.zeros(1, 4))[0, 6] for k in (60, 61))
    assert low[: N_BINS - 4].argmax() + BINS_PER_KEY == high.argmax() == BINS_PER_KEY * (61 - PITCH_MIN)


def test_learning_is_a_function_of_the_seed_and_goes_on(tmp_path):
    pairs = [(sound(), NOTES), (sound(seed=1), NOTES)]
    first, _ = L.fit_renderer(pairs, SMALL, 1, tmp_path / "a")
    again, history = L.fit_renderer(pairs, SMALL, 1, tmp_path / "a")  # finished: nothing more is done
    whole, _ = L.fit_renderer(pairs, SMALL, 1)
    for a, b, c in zip(*(m.state_dict().values() for m in (first, again, whole))):
        assert torch.equal(a, b) and torch.equal(a, c)
    assert len(first.rows) == 2 and history.step == SMALL.steps


def test_a_renderer_goes_on_for_other_recordings():
    net, _ = L.fit_renderer([(sound(), NOTES)], SMALL)
    more = L.started([(sound(seed=k), NOTES) for k in range(3)], SMALL, net)
    assert len(more.rows) == 3 and torch.equal(more.levels.weight, net.levels.weight)
    assert torch.allclose(more.rows[:, -1], net.rows[:, -1].mean().expand(3))


def test_floor_starts_at_the_quiet_of_the_recording():
    quiet = np.full((40, N_BINS), -0.5, np.float32)
    net = L.started([(quiet, NOTES)], SMALL)
    silent = net(planes_of(NOTES[:0]), net.rows[:1]).detach()
    assert np.allclose(silent, -0.5, atol=0.02)


def test_renderings_have_the_labels_of_the_keys_and_the_sound_of_the_pedal():
    score = as_notes([0.0], [0.1], [60], 100), np.array([[0.0, 127.0], [5.0, 0.0]])
    rng, held = np.random.default_rng(0), replace(SMALL, pedal_share=1.0)
    sounding, labels = L.played_crop(score, 64, rng, held)
    assert labels["offset_s"][0] == pytest.approx(0.1) and sounding["offset_s"][0] == pytest.approx(4.1)
    sounding, labels = L.played_crop(score, 64, rng, replace(SMALL, pedal_share=0.0))
    assert np.array_equal(sounding, labels)


def test_heard_leaves_out_silence_and_splicing_keeps_time():
    net = lambda x: {k: torch.full((1, x.shape[2], N_KEYS), -9.0) for k in ("frame", "onset", "velocity")}
    assert L.heard(net, [sound()], SMALL, L.CQTConfig(filter_scale=0.6, centre=0.5)) == []
    ((x, notes),) = L.spliced([(sound(50), NOTES[:1]), (sound(60), NOTES[1:])], 100)
    assert len(x) == 110 and notes["onset_s"].tolist() == [pytest.approx(0.1), pytest.approx(1.3)]
    assert L.spliced([(sound(50), NOTES)], 100)[0][0].shape == (50, N_BINS)


def test_windows_are_of_the_whole_where_it_is_short():
    windows = L.one_window_each([(sound(40), NOTES), (sound(400), NOTES)], 4.0)
    assert [len(x) for x, _ in windows] == [40, 100]


def test_beats_are_as_loud_on_average_and_none_without_depth():
    age, ones = torch.arange(500.0), torch.ones(500, 1)
    assert torch.equal(L.beating(age, 0 * ones, 0.02 * ones, 0 * ones), 0 * ones)
    swing = L.beating(age, 0.9 * ones, 0.02 * ones, 0 * ones)  # ten whole beats
    assert torch.isclose(torch.exp(2 * swing).mean(), torch.tensor(1 + 0.9**2), rtol=1e-3)
    assert torch.isclose(swing.min(), torch.tensor(0.1).log(), atol=1e-3)


def test_a_mixture_renders_nothing_before_it_has_heard(monkeypatch):
    """The first training has pairs and what a SoundFont played; the second has what its net heard, too, and renderings."""
    pairs, played, seen = [(sound(), NOTES)], [(sound(seed=1), NOTES)], []
    monkeypatch.setattr(L, "heard", lambda net, sounds, config, cqt: [(x, NOTES) for x in sounds])

    class Taught:
        models = {"net": None}

    def train(sources, k):
        seen.append({name: len(some) for name, some in sources.items()})
        return Taught

    cqt = L.CQTConfig(filter_scale=0.6, centre=0.5)
    out = L.teach(pairs, [(NOTES, None)], [[sound(seed=2)]], train, SMALL, cqt, 16, played=played)
    assert seen == [{"pairs": 1, "played": 1}, {"pairs": 1, "played": 1, "rendered": 8, "heard": 1}]
    assert out[0][1] is None and len(out[1][1].rows) == 2  # the renderer learns the sound and the pairs
    seen.clear()
    L.teach(pairs, [(NOTES, None)], [], train, SMALL, cqt, 16)
    assert seen == [{"pairs": 1, "rendered": 8}]


@pytest.mark.parametrize("seconds, crops", [(0, 1), (7.68, 1), (61.44, 2), (600, 3), (10**6, 3)])
def test_crops_of_pairs_grow_with_what_is_labelled(seconds, crops):
    assert L.paired_crops(6, seconds) == crops
    assert sum(L.counts(crops, 6 - crops, ("pairs", "played", "rendered", "heard")).values()) == 6


def test_refusals():
    with pytest.raises(UserError, match="there are none"):
        L.fit_renderer([])
    with pytest.raises(UserError, match="no score"):
        L.rendered_crops(L.Renderer(1, SMALL), [], 16)


def test_of_several_instruments_each_has_keys_of_its_own():
    notes = as_notes([0.0, 0.2], [0.4, 0.6], [60, 64], 90, [0, 2])
    planes = L.note_planes(notes, 0, 30, 3).reshape(3, 30, 3, N_KEYS)
    assert [planes[2, -1, i].nonzero()[0].tolist() for i in range(3)] == [[60 - PITCH_MIN], [], [64 - PITCH_MIN]]
    assert np.array_equal(planes[:, :, 2], L.note_planes(notes[notes["instrument"] == 2], 0, 30))
    low = as_notes(
        [0.0], [0.5], [PITCH_MIN], 90, [1]
    )  # moved down it is lost, and does not become another's highest key
    batches = L.RendererBatches([(sound(16), low)], replace(SMALL, batch=40), instruments=2)
    keys = batches(0)["planes"][:, 2].amax(1).nonzero()[:, 1]
    assert 0 < len(keys) < 40 and set(keys.tolist()) == set(range(N_KEYS, N_KEYS + SMALL.semitones + 1))


def test_each_of_several_instruments_has_a_sound_of_its_own():
    torch.manual_seed(0)
    net = L.Renderer(1, SMALL, instruments=2)
    note = lambda i: as_notes([0.0], [0.8], [60], 90, [i])
    planes = torch.from_numpy(np.stack([L.note_planes(note(i), 0, 40, 2) for i in (0, 1)]))
    with torch.no_grad():
        net.decay[1] = -2.0  # the second does not die away
        power = net.power(planes, torch.zeros(2, SMALL.style))[:, [2, 30], 4 * (60 - PITCH_MIN)]
    struck, bowed = power[:, 1] / power[:, 0]
    assert bowed > 1.5 * struck
    learnt, _ = L.fit_renderer([(sound(), note(1))], SMALL, instruments=2)
    assert (
        learnt.instruments == 2 and learnt.decay[1] != 0 and learnt.decay[0] == 0
    )  # nothing is learnt of who is silent
    crops = L.rendered_crops(learnt, [(note(1), None)], 16)
    assert len(crops) == SMALL.rendered and all((labels["instrument"] == 1).all() for _, labels in crops)
    alone = L.Renderer(1, SMALL)
    assert not (alone.voices.requires_grad or alone.decay.requires_grad or alone.voices.any())


def test_an_ensemble_has_no_pedal():
    always = replace(SMALL, pedal_share=1.0)
    down = np.array([[0.0, 127.0], [0.7, 0.0]])
    piano, strings = ((as_notes([0.0, 0.5], [0.2, 0.9], [60, 64], 90, i), down) for i in (0, 2))
    longer = lambda score: L.played_crop(score, 60, np.random.default_rng(0), always)
    assert (longer(piano)[0]["offset_s"] > longer(piano)[1]["offset_s"]).any()
    assert np.array_equal(*longer(strings))
