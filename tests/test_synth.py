"""synth: what would clutter the workshop's `synth`."""

import io
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amt_nb import notes as notes_module
from amt_nb.notes import as_notes, empty_notes
from amt_nb.workshop import performances, synth
from amt_nb.workshop import rooms as rooms_module
from amt_nb.workshop.midi import read_midi
from amt_nb.workshop.settings import UserError

SR = 16000


def random_notes(seed, n=40, instruments=(0,)):
    rng = np.random.default_rng(seed)
    on = np.sort(rng.uniform(0, 4, n))
    return as_notes(
        on,
        on + rng.uniform(0.05, 1.5, n),
        rng.integers(21, 109, n),
        rng.integers(1, 128, n),
        rng.choice(instruments, n),
    )


def first_sound(wave, sr):
    return np.argmax(np.abs(wave) >= np.abs(wave).max() / 20) / sr


@pytest.mark.parametrize("at", [0.0, 0.50037, 1.23456])
@pytest.mark.parametrize("pitch", [40, 60, 84])
def test_piano_sounds_at_its_label(at, pitch):
    wave = synth.render(as_notes([at], [at + 0.4], [pitch]), 48000, seconds=at + 0.6)
    assert abs(first_sound(wave, 48000) - at) <= 2e-3


def test_same_time_at_other_rates():
    note = as_notes([0.5], [0.9], [72])
    for sr in (16000, 22050, 44100):
        wave = synth.render(note, sr, seconds=1.0)
        assert len(wave) == sr and abs(first_sound(wave, sr) - 0.5) <= 2e-3


def test_labels_hold_in_an_ensemble():
    """Each instrument alone starts at its label, though their attacks differ by 5 ms and more."""
    for instrument in (2, 9):
        note = as_notes([0.5], [1.2], [67], 90, instrument)
        assert abs(first_sound(synth.render(note, 48000, seconds=1.3), 48000) - 0.5) < 3e-3


def test_keys_measured_together_or_alone_agree():
    synth._ATTACKS.clear()
    alone = synth.key_attacks("violin", keys=[60])[39]
    synth._ATTACKS.clear()
    assert synth.key_attacks("violin", keys=range(55, 66))[39] == alone
    assert np.isnan(synth.key_attacks("violin", keys=[60])[0])


def test_deterministic_across_processes():
    code = (
        "import numpy as np, hashlib; from amt_nb.workshop.synth import legato_pedal, render; from amt_nb.workshop.performances import humanise; from amt_nb.workshop.rooms import room; from amt_nb.notes import as_notes;"
        "n = humanise(as_notes([0., .5], [.4, .9], [60, 64]), 3);"
        "print(hashlib.sha256(room(render(n, pedal=legato_pedal(n)), seed=2).tobytes()).hexdigest())"
    )
    runs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(runs) == 1


def test_never_clips_and_keeps_its_peak():
    cluster = as_notes(np.zeros(60), np.ones(60), np.arange(30, 90), 127)
    wave = synth.render(cluster, peak=0.9)
    assert np.abs(wave).max() == pytest.approx(0.9, abs=1e-6)
    assert (np.abs(wave) > 0.899).mean() < 1e-3  # a clipped wave would stay at its peak
    raw = synth.play(synth.sample_midi(cluster, {0: 0}, seconds=1.0))
    assert np.abs(raw).max() >= 0.999  # and this one does clip at full volume


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6))
def test_midi_bytes_are_a_midi_file(seed):
    notes = notes_module.cut_restrikes(random_notes(seed))
    back = read_midi(synth.sample_midi(notes, {0: 0}, seconds=6.0))
    kept = notes[np.r_[True, (np.diff(notes["onset_s"]) > 1e-4)]]
    assert len(back) >= len(kept) - 2
    assert np.abs(back["onset_s"][: len(notes)] - notes["onset_s"][: len(back)]).max() < 5e-5


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_humanise_keeps_every_note(seed):
    notes = notes_module.cut_restrikes(
        notes_module.merge_unisons(random_notes(seed, instruments=(0, 3)), performances.UNISON_S)
    )
    played = performances.humanise(notes, seed)
    assert len(played) == len(notes) and sorted(played["pitch"]) == sorted(notes["pitch"])
    assert np.all(played["offset_s"] > played["onset_s"]) and np.all(played["onset_s"] >= 0)
    assert np.all(np.diff(played["onset_s"]) >= 0) and played["velocity"].min() >= 1 and played["velocity"].max() <= 127
    for key in set(zip(played["instrument"], played["pitch"])):
        same = played[(played["instrument"] == key[0]) & (played["pitch"] == key[1])]
        assert np.all(same["offset_s"][:-1] <= same["onset_s"][1:] + 1e-2)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([16000, 22050, 44100]))
def test_no_room_moves_the_direct_sound(seed, sr):
    click = np.zeros(sr // 2)
    click[1000] = 1
    wet = rooms_module.room(click, sr, seed)
    assert wet.dtype == np.float32 and len(wet) == len(click)
    assert abs(int(np.abs(wet).argmax()) - 1000) <= sr * 1e-4 + 1 and np.abs(wet).max() < 1


def test_room_of_silence_and_of_nothing():
    assert np.isfinite(rooms_module.room(np.zeros(1600))).all() and len(rooms_module.room(np.zeros(0))) == 0


def test_pedal_only_for_pianos():
    note, down = as_notes([0.1], [0.4], [60], 90, 2), [(0.0, 127)]
    assert np.array_equal(synth.render(note, pedal=down, seconds=1.5), synth.render(note, seconds=1.5))
    assert not np.array_equal(
        synth.render(note, program=0, pedal=down, seconds=1.5), synth.render(note, program=0, seconds=1.5)
    )


def test_empty_and_late_notes():
    assert synth.render(empty_notes()).shape == (SR,) and not synth.render(empty_notes()).any()
    assert not synth.render(as_notes([5.0], [6.0], [60]), seconds=2.0).any()
    assert len(performances.humanise(empty_notes())) == 0 and performances.tempo_curve(0).shape[1] == 2


def packed_font(data):
    """The font with its samples packed as Vorbis: what an .sf3 is."""
    import struct

    import soundfile

    lists = {data[a : a + 4]: (a + 4, b) for n, a, b in synth._chunks(data, 12, len(data)) if n == b"LIST"}
    parts = {k: {n: data[a:b] for n, a, b in synth._chunks(data, *v)} for k, v in lists.items()}
    smpl, out, at, headers = parts[b"sdta"][b"smpl"], [], 0, []
    table = parts[b"pdta"][b"shdr"]
    for i in range(0, len(table), 46):
        h = list(struct.unpack_from("<20sIIIIIBbHH", table, i))
        x = np.frombuffer(smpl[2 * h[1] : 2 * h[2]], "<i2")
        if i + 46 < len(table) and len(x):
            buffer = io.BytesIO()
            soundfile.write(buffer, x, 22050, format="OGG", subtype="VORBIS")
            h[3:5] = h[3] - h[1], h[4] - h[1]
            h[1:3] = at, at + buffer.tell()
            h[9] |= 16
            out.append(buffer.getvalue())
            at = h[2]
        headers.append(struct.pack("<20sIIIIIBbHH", *h))
    parts[b"sdta"] = {b"smpl": b"".join(out)}
    parts[b"pdta"][b"shdr"] = b"".join(headers)
    return synth._riff(
        b"RIFF",
        b"sfbk"
        + b"".join(
            synth._riff(b"LIST", k + b"".join(synth._riff(n, x) for n, x in p.items())) for k, p in parts.items()
        ),
    )


def test_sf3_fonts(tmp_path):
    sf3 = tmp_path / "small.sf3"
    sf3.write_bytes(packed_font(synth.default_font().read_bytes()))
    notes = as_notes([0.1, 0.6], [0.5, 1.0], [60, 67])
    a, b = synth.render(notes, seconds=1.5), synth.render(notes, seconds=1.5, font=sf3)
    assert np.corrcoef(a, b)[0, 1] > 0.98


def test_bad_fonts(tmp_path):
    junk = tmp_path / "junk.sf2"
    junk.write_bytes(b"RIFF....sfbk" + b"x" * 100)
    for content in (b"", b"RIFF\x10\0\0\0sfbk" + b"x" * 100, b"hello"):
        junk.write_bytes(content)
        with pytest.raises(UserError, match="junk.sf2"):
            synth.render(as_notes([0.0], [1.0], [60]), font=junk)
    with pytest.raises(UserError, match="no SoundFont"):
        synth.render(as_notes([0.0], [1.0], [60]), font=tmp_path / "missing.sf2")


def test_fonts_of_the_settings(tmp_path, monkeypatch):
    (tmp_path / "mine.sf2").write_bytes(b"x")
    (tmp_path / "settings.ini").write_text(f"[paths]\nfonts = {tmp_path / 'mine.sf2'}\n")
    monkeypatch.setenv("AMT_NB_SETTINGS", str(tmp_path / "settings.ini"))
    assert synth.find_font("mine.sf2") == tmp_path / "mine.sf2"


def test_import_is_light():
    code = "import sys, amt_nb.workshop.synth; assert not {'scipy', 'soundfile', 'torch', 'midirenderer', 'pretty_midi', 'matplotlib'} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
