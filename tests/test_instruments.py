"""Eleven instruments on one path: from pools to weights, from weights to tracks, parts, columns, colours and metrics."""

import itertools
import json
from functools import partial

import numpy as np
import pytest
import soundfile
import torch

from amt_nb import metrics as M
from amt_nb.cqt import CQTConfig
from amt_nb.notes import as_notes, empty_notes, sonify, to_rolls
from amt_nb.transcription import transcribe
from amt_nb.transcription.conditions import train_condition
from amt_nb.transcription.score_vae import ScoreVAE, VAEConfig
from amt_nb.transcription.translators import AudioToLatent, Transcriber, TranslatorConfig
from amt_nb.transcription.unpaired import evaluate_model, spread_minutes
from amt_nb.workshop import cli
from amt_nb.workshop.corpora import Features, prepare
from amt_nb.workshop.decoding import decode, DecodeConfig
from amt_nb.workshop.grids import INSTRUMENT_PROGRAMS, INSTRUMENTS
from amt_nb.workshop.midi import read_midi
from amt_nb.workshop.midi_parsing import parse_midi
from amt_nb.workshop.recordings import Recording
from amt_nb.workshop.settings import fill
from amt_nb.workshop.transcription_figures import COLOURS, sign_of
from amt_nb.workshop.transcription_model import cqt_activations, TranscriptionModel

SR = 16000
CELLO, FLUTE = INSTRUMENTS.index("cello"), INSTRUMENTS.index("flute")
DUET = as_notes(
    [0.2, 0.2, 0.8, 1.4, 1.4], [0.7, 1.3, 1.3, 2.2, 2.2], [76, 45, 79, 72, 40], 80, [FLUTE, CELLO, FLUTE, FLUTE, CELLO]
)


class Low(torch.nn.Module):
    """What is below middle C is played by a cello, what is above by a flute; each key by its own fundamental."""

    instruments = 11

    def forward(self, x):
        own = x[:, 0, :, :352].unflatten(-1, (88, 4)).amax(-1)
        below = torch.nn.functional.pad(own, (12, 0), value=-1.0)[..., :88]
        rolls = torch.full((len(x), 11, *own.shape[1:]), -9.0)
        sounds = 20 * (
            torch.where(below > own - 0.1, -1.0, own) - 0.6
        )  # an octave over something as loud is an overtone
        rolls[:, CELLO, :, :39], rolls[:, FLUTE, :, 39:] = sounds[..., :39], sounds[..., 39:]
        return {"frame": rolls}


@pytest.fixture
def duet(tmp_path, monkeypatch):
    """A sound file of DUET, and a model that `load_model` gives whatever it is asked for."""
    soundfile.write(tmp_path / "duet.wav", sonify(DUET, SR, seconds=2.6), SR)
    model = TranscriptionModel(Low(), decode=DecodeConfig(min_frames=8))
    monkeypatch.setattr(transcribe, "load_model", lambda weights=None: model)
    return tmp_path / "duet.wav"


def test_transcribe_writes_a_track_a_part_a_column_and_a_colour_an_instrument(duet, tmp_path, capsys):
    out = tmp_path / "out.mid"
    kinds = ["--csv", "--json", "--musicxml", "--picture"]
    assert cli.main(["transcribe", str(duet), "-o", str(out), "--no-progress", *kinds]) == 0, capsys.readouterr().err
    notes = read_midi(out)
    assert set(notes["instrument"]) == {CELLO, FLUTE}
    parts = lambda notes: set(zip(notes["pitch"].tolist(), notes["instrument"].tolist()))
    assert parts(DUET) <= parts(notes) and all((pitch < 60) == (i == CELLO) for pitch, i in parts(notes))
    programs = sorted(m[3] for m in parse_midi(out).messages if m[2] >> 4 == 0xC)
    assert programs == sorted(INSTRUMENT_PROGRAMS[i] for i in (CELLO, FLUTE))
    header, *rows = out.with_suffix(".csv").read_text().splitlines()
    assert header == "onset_s,offset_s,pitch,name,velocity,instrument" and len(rows) == len(notes)
    assert {row.split(",")[-1] for row in rows} == {"cello", "flute"}
    told = json.loads(out.with_suffix(".json").read_text())["notes"]
    assert [(n["pitch"], n["instrument"]) for n in told] == [(n["pitch"], INSTRUMENTS[n["instrument"]]) for n in notes]
    score = out.with_suffix(".musicxml").read_text()
    assert score.count("<part-name>") == 2 and "Cello" in score and "Flute" in score
    assert out.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"


def test_bars_and_pedal_leave_every_note_with_its_instrument(duet, tmp_path, capsys):
    plain, bars = tmp_path / "plain.mid", tmp_path / "bars.mid"
    assert cli.main(["transcribe", str(duet), "-o", str(plain), "--no-progress"]) == 0
    assert cli.main(["transcribe", str(duet), "-o", str(bars), "--no-progress", "--beats", "--pedal"]) == 0
    one, other = read_midi(plain), read_midi(bars)
    assert one["instrument"].tolist() == other["instrument"].tolist() and len(one)
    assert np.abs(one["onset_s"] - other["onset_s"]).max() < 2e-3


def test_evaluate_asks_who_played(duet, tmp_path, monkeypatch, capsys):
    from amt_nb.workshop import cli_data

    recordings = [Recording("duet", "duet", role="test", audio=duet, notes=DUET)]
    monkeypatch.setattr(cli_data, "recordings_of", lambda args: (recordings, None))
    told = tmp_path / "told.json"
    assert cli.main(["evaluate", "--data", "chamber", "--role", "test", "--json", str(told)]) == 0
    lines, told = capsys.readouterr().out.splitlines(), json.loads(told.read_text())
    assert lines[0].split()[-1] == "multi_note_f1" and [w.split(",")[0] for w in lines[-2:]] == ["cello", "flute"]
    assert list(told["instruments"]) == ["cello", "flute"] and told["instruments"]["flute"]["recordings"] == 1
    mean = told["mean"]
    assert mean["multi_frame_f1"] <= mean["frame_f1"] and told["pooled"]["multi_frame_f1"] == mean["multi_frame_f1"]
    assert told["pooled"]["multi_frame_chunk_mean"] < 2 / 11


@pytest.fixture(scope="module")
def ensembles(tmp_path_factory):
    """Prepared recordings of cello and flute, plain tones, of 11 s each: two may teach, one is to choose on."""

    def notes(k):
        onset = np.arange(0.2, 10, 0.5)
        pitch = np.concatenate([72 + (np.arange(20) * 5 + k) % 12, 40 + (np.arange(20) * 7 + k) % 12])
        return as_notes(np.tile(onset, 2), np.tile(onset + 0.4, 2), pitch, 80, np.repeat([FLUTE, CELLO], 20))

    made = [
        Recording(
            f"e{k}", f"e{k}", role=role, audio=partial(lambda k: (sonify(notes(k), SR, 11.0), SR), k), notes=notes(k)
        )
        for k, role in enumerate(["train", "train", "validation"])
    ]
    folder = tmp_path_factory.mktemp("ensembles")
    return prepare(made, folder, fill(CQTConfig, "demo-multi", "cqt"), n_jobs=1, progress=False)


SMALL = {
    "direct": {"harmonic": dict(width=6, blocks="s", memory=0, hidden=6)},
    "pseudo_labels": {"harmonic": dict(width=6, blocks="s", memory=0, hidden=6)},
    "mean_teacher": {"harmonic": dict(width=6, blocks="s", memory=0, hidden=6)},
    "rendered": {
        "harmonic": dict(width=6, blocks="s", memory=0, hidden=6),
        "renderer": dict(partials=4, hidden=8, steps=3, rendered=4),
    },
    "paired": {"vae": dict(width=8), "g": dict(width=4), "f": dict(width=4)},
    "cycle": {"vae": dict(width=8), "g": dict(width=4), "f": dict(width=4), "dx": dict(width=4), "dz": dict(width=4)},
}


@pytest.mark.parametrize("condition", list(SMALL))
def test_every_condition_trains_eleven_rolls_that_transcribe(condition, ensembles, tmp_path):
    changes = SMALL[condition] | {
        "train": dict(steps=2, warmup_steps=0, validate_every=2, record_every=1, prefetch=0, accelerator="cpu"),
        "condition": dict(paired_batch=2, validation_minutes=0.1),
    }
    if "vae" in changes:
        changes["condition"] |= dict(vae_steps=2, vae_batch=2)
    if unpaired := condition in ("cycle", "pseudo_labels", "mean_teacher", "rendered"):
        changes["condition"] |= dict(batch=1)
    pools = {"ratio": "1:1:1", "minutes": 0.1} if unpaired else {"ratio": "1:1"}
    history, weights = train_condition(condition, ensembles, tmp_path / condition, "demo-multi", changes, pools)
    model = transcribe.load_model(weights)
    rolls = cqt_activations(ensembles[2].cqt(), ensembles[2].frames, model)
    assert model.instruments == 11 and rolls[0].shape == rolls[2].shape == (11, ensembles[2].frames, 88)
    validated = [r for r in history.records if "multi_frame_f1" in r]
    assert validated and validated[-1]["validation_minutes"] == 0.1 and "frame_f1" in validated[-1]


def test_a_wrong_instrument_costs_a_model_its_marks(ensembles):
    """The piano alone was evaluated once, against all instruments merged."""

    class Truth(torch.nn.Module):
        def __init__(self, rolls):
            super().__init__()
            self.rolls, self.instruments = torch.from_numpy(20 * (rolls - 0.5)), 11

        def forward(self, x):
            return {"frame": self.rolls[None, :, : x.shape[2]]}

    f = ensembles[2]
    right = np.pad(to_rolls(f.load_notes(), f.frames).astype(np.float32), ((0, 0), (0, 600), (0, 0)))
    swapped = right[[(CELLO if i == FLUTE else FLUTE if i == CELLO else i) for i in range(11)]]
    good, bad = (
        evaluate_model(TranscriptionModel(Truth(rolls), window=1024, margin=0), [f]) for rolls in (right, swapped)
    )
    assert good["multi_frame_f1"] > 0.99 and good["frame_f1"] == bad["frame_f1"] and bad["multi_frame_f1"] == 0
    assert bad["multi_note_macro"] == 0 and good["multi_note_f1"] > 0.99


def test_latent_nets_see_the_window_of_their_training():
    """Linear attention over 2,048 frames is another function than over the 256 that were learnt."""
    torch.manual_seed(0)
    net = Transcriber(AudioToLatent(TranslatorConfig(width=4)), ScoreVAE(VAEConfig(width=8))).eval()
    for p in net.G.parameters():  # as if it had learnt: attention counts
        p.data += 0.02 * torch.randn_like(p)
    cqt, seen = np.random.default_rng(0).uniform(-1, 1, (700, 352)).astype(np.float32), []
    net.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[2]))
    model = TranscriptionModel(net)
    assert (model.window, model.margin) == (256, 32) and model.instruments == 1
    cqt_activations(cqt, 700, model)
    assert set(seen) == {256} and len(seen) == 4  # 192 frames kept of each
    wide = TranscriptionModel(net, window=1024, margin=128)
    assert not np.allclose(cqt_activations(cqt, 700, wide)[0], cqt_activations(cqt, 700, model)[0], atol=1e-3)


@pytest.mark.parametrize("onsets", [False, True])
def test_eleven_rolls_decoded_in_pieces_are_those_decoded_at_once(onsets):
    rng = np.random.default_rng(3)
    frames = np.repeat(rng.random((3, 90, 88)) > 0.9, 10, axis=1) * rng.uniform(0.6, 1, (3, 900, 88))
    starts = (rng.random((3, 900, 88)) > 0.995) * 0.9 if onsets else None
    velocities = rng.integers(1, 127, (3, 900, 88))
    config, cut = DecodeConfig(), lambda roll, a: None if roll is None else roll[:, a : a + 75]
    blocks = [(cut(frames, a), cut(starts, a), cut(velocities, a)) for a in range(0, 900, 75)]
    whole = decode(frames, starts, velocities, config=config)
    pieces = transcribe.decoded(blocks, config, enough=150)
    rounded = lambda notes: sorted((round(a, 6), round(b, 6), *rest) for a, b, *rest in notes.tolist())
    assert len(whole) > 300 and set(whole["instrument"]) == {0, 1, 2} and rounded(whole) == rounded(pieces)


def test_metrics_by_instrument_equal_sets_of_cells_and_notes():
    rng = np.random.default_rng(5)

    def some(n):
        onset = rng.integers(0, 40, n) / 10
        return as_notes(onset, onset + 0.3, rng.integers(60, 64, n), 80, rng.choice([0, 2, 10], n))

    for pred, truth in [(some(20), some(20)), (some(5), empty_notes()), (empty_notes(), some(5))]:
        counts = M.instrument_counts(pred, truth, 250)
        cells = [{tuple(c) for c in np.argwhere(to_rolls(n, 250))} for n in (pred, truth)]
        assert counts[:, 0].sum(0).tolist() == [len(cells[0] & cells[1]), len(cells[0]), len(cells[1])]
        each = [
            M.evaluate(*(n[n["instrument"] == i] for n in (pred, truth)), 250) for i in np.unique(truth["instrument"])
        ]
        scores = M.instrument_scores(counts)
        if each:
            assert np.isclose(scores["multi_frame_macro"], np.mean([e["frame_f1"] for e in each]))
            assert np.isclose(scores["multi_note_macro"], np.mean([e["note_f1"] for e in each]))
        else:
            assert set(scores.values()) == {0.0}
    assert set(M.instrument_scores(M.instrument_counts(empty_notes(), empty_notes(), 9)).values()) == {1.0}


def test_the_authors_multi_instrument_mean_is_taken_chunk_by_chunk():
    """A flute that plays in one of two chunks has 1 in that and 0 in the other: 1/22 in all, not 1/11 [A code]."""
    rolls = to_rolls(as_notes(0, 1, 70, 80, FLUTE), 512)
    assert np.isclose(M.frame_f1_channel_mean([rolls], [rolls]), 1 / 22)


def test_minutes_to_choose_on_are_spread_over_all_recordings():
    features = [Features(str(k), str(k), "", "validation", 3000) for k in range(40)]
    parts = spread_minutes(features, 10)
    assert len(parts) == 40 and sum(n for *_, n in parts) == 40 * 750 and {start for _, start, _ in parts} == {1125}
    few = spread_minutes(features, 1)
    assert len(few) == 10 and sum(n for *_, n in few) == 3000 and len({f.id for f, *_ in few}) == 10
    assert [(start, n) for _, start, n in spread_minutes(features)] == [(0, 3000)] * 40 and not spread_minutes([], 1)


SEES = {  # linear RGB as eyes without one kind of cone have it (matrices of a model of colour vision, full severity)
    "all cones": np.eye(3),
    "no L cones": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no M cones": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no S cones": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(colour, eyes):
    """CIELAB of '#rrggbb' as these eyes see it."""
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(SEES[eyes]) @ linear, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = (lambda t: np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116))(to_xyz @ seen / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eyes", SEES)
def test_colours_of_instruments_can_be_told_apart_by_every_eye(eyes):
    """Ten units of CIELAB are a difference that is seen at a glance; two instruments of one colour differ in form."""
    for (a, one), (b, other) in itertools.combinations(COLOURS.items(), 2):
        assert np.linalg.norm(lab(one, eyes) - lab(other, eyes)) > 10, (a, b)
    assert all(lab(colour, eyes)[0] > 35 for colour in COLOURS.values()), "too dark on black"
    assert len({sign_of(i) for i in range(11)}) == 11
