"""Sound files of all kinds, and waves in memory: what is read, what is refused, and what breaks off."""

import os
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amt_nb.cqt import CQTConfig
from amt_nb.workshop.audio import audio_blocks, load_audio, prepare_wave
from amt_nb.workshop.settings import UserError
from amt_nb.workshop.streaming import features, stream

OURS = CQTConfig(0.6, 0.5)


def streamed(*args):
    return np.concatenate([m for _, m in stream(*args)])


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 8),
    st.integers(9, 50),  # of less than 1,000 samples nobody can say that channels cut each other out
    st.booleans(),
    st.sampled_from(["float32", "float64", "float16", "int16", "int32", "uint8"]),
)
def test_prepare_wave_shapes_and_types(channels, n, first, dtype):
    x = np.random.default_rng(n).uniform(-0.9, 0.9, (n, channels))
    scale = {"int16": 2**15, "int32": 2**31, "uint8": 128}.get(dtype, 1)
    given = (x * scale + (128 if dtype == "uint8" else 0)).astype(dtype)
    wave, sr = prepare_wave(given.T if first else given, 44100)
    assert wave.dtype == np.float32 and wave.shape == (n,) and sr == 44100 and wave.flags.c_contiguous
    assert np.abs(wave - x.mean(1)).max() < (0.02 if dtype == "uint8" else 2e-3)


@pytest.fixture(scope="module")
def tone():
    t = np.arange(44100 * 8) / 44100
    return (0.3 * np.sin(2 * np.pi * 440 * t) + 0.02 * np.random.default_rng(0).standard_normal(len(t))).astype(
        np.float32
    )


def write(path, x, sr=44100, **kw):
    import soundfile

    soundfile.write(path, x, sr, **kw)
    return path


@pytest.mark.parametrize("name", ["a.wav", "b.flac", "c.ogg", "d.mp3", "Où est l'été — № 5.FLAC", "no_suffix"])
def test_formats_and_names(tmp_path, tone, name):
    folder = tmp_path / "música ñ 日本"
    folder.mkdir()
    path = write(folder / name, np.c_[tone, tone], format=None if "." in name else "WAV")
    wave, sr = load_audio(path)
    assert sr == 44100 and abs(len(wave) - len(tone)) < 100 and wave.dtype == np.float32
    assert np.sqrt(np.mean((wave[: len(tone)] - tone[: len(wave)]) ** 2)) < 0.03
    blocks = audio_blocks(str(path), 1.7)
    assert np.array_equal(np.concatenate(list(blocks)), wave) and np.array_equal(np.concatenate(list(blocks)), wave)
    assert np.array_equal(streamed(path, None, OURS), streamed(wave, sr, OURS))
    with pytest.raises(UserError, match="44100 Hz, not 16000"):
        stream(path, 16000)


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("empty.wav", b"", "is empty"),
        ("text.wav", b"hello\n" * 99, "no sound file"),
        ("text.mp3", b"hello\n" * 99, "no sound file"),
        ("song.m4a", b"\0\0\0 ftypM4A " + bytes(999), "an MPEG-4 file that is cut off"),
        ("song.mp3", b"MThd\0\0\0\6" + bytes(99), "a MIDI file"),
        ("x.wav", b"RIFF\0\0\0\0WAVEfmt ", "a broken sound file"),
        ("cut.flac", b"fLaC\0\0", "a broken sound file|holds no s"),
        ("zeros.wav", bytes(70000), "no sound file"),
    ],
)
def test_no_sound_files(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    for f in (load_audio, audio_blocks, lambda p: list(features(p))):
        with pytest.raises(UserError, match=words) as e:
            f(tmp_path / name)
        assert "\n" not in str(e.value) and name in str(e.value)


def test_missing_folder_and_forbidden(tmp_path, tone):
    with pytest.raises(UserError, match="no such file"):
        load_audio(tmp_path / "missing.wav")
    with pytest.raises(UserError, match="is a folder"):
        load_audio(tmp_path)
    path = write(tmp_path / "mine.wav", tone)
    path.chmod(0)
    if not os.access(path, os.R_OK):
        with pytest.raises(UserError, match="cannot be read"):
            load_audio(path)


def test_no_samples_and_nan(tmp_path):
    with pytest.raises(UserError, match="holds no samples"):
        load_audio(write(tmp_path / "none.wav", np.zeros((0, 2))))
    bad = np.zeros(44100 * 3, np.float32)
    bad[44100 * 2] = np.nan
    with pytest.raises(UserError, match=r"nan.wav holds NaN.* at 2\.00 s"):
        load_audio(write(tmp_path / "nan.wav", bad, subtype="FLOAT"))


@pytest.mark.parametrize("suffix", ["mp3", "flac", "wav"])
def test_what_breaks_off_is_used_as_far_as_it_goes(tmp_path, tone, suffix):
    path = write(tmp_path / f"whole.{suffix}", tone)
    data = path.read_bytes()
    (half := tmp_path / f"half.{suffix}").write_bytes(data[: len(data) // 2])
    with pytest.warns(UserWarning, match="breaks off"):
        wave, sr = load_audio(half)
    assert 3 * sr < len(wave) < 4.5 * sr and np.isfinite(wave).all()
    assert abs(np.corrcoef(wave[sr : 2 * sr], tone[sr : 2 * sr])[0, 1]) > 0.95


def test_a_cut_ogg_does_not_know_how_long_it_was(tmp_path, tone):
    data = write(tmp_path / "whole.ogg", tone).read_bytes()
    (half := tmp_path / "half.ogg").write_bytes(data[: len(data) // 2])
    with pytest.warns(UserWarning, match="has no end mark: it may be cut off"):
        wave, sr = load_audio(half)
    assert 3 * sr < len(wave) < 5 * sr
    with pytest.warns(UserWarning, match="no end mark"):
        assert list(features(half)) != []


def test_a_wav_from_a_pipe_has_no_length_to_keep(tmp_path, tone):
    data = bytearray(write(tmp_path / "piped.wav", tone).read_bytes())
    data[4:8] = data[40:44] = b"\xff" * 4
    (tmp_path / "piped.wav").write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wave, sr = load_audio(tmp_path / "piped.wav")
    assert len(wave) == len(tone)


def test_noise_in_the_middle_of_a_file(tmp_path, tone):
    data = bytearray(write(tmp_path / "whole.flac", tone).read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = np.random.default_rng(0).bytes(3000)
    (tmp_path / "hurt.flac").write_bytes(data)
    with pytest.warns(UserWarning, match="is damaged: what cannot be decoded is silence here"):
        wave, sr = load_audio(tmp_path / "hurt.flac")
    assert len(wave) == len(tone) and np.array_equal(wave[-2 * sr :], load_audio(tmp_path / "whole.flac")[0][-2 * sr :])


def test_clipping_warns_once_and_goes_on(tmp_path, tone):
    path = write(tmp_path / "loud.wav", np.clip(5 * tone, -1, 1))
    blocks = audio_blocks(path)
    with pytest.warns(UserWarning, match="clipped: .* %"):
        list(blocks)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(blocks)
        load_audio(write(tmp_path / "fine.wav", tone))


def test_floats_beyond_full_scale_are_not_clipped(tmp_path, tone):
    """Nothing was cut off; the ten seconds are as they were written."""
    path = write(tmp_path / "hot.wav", 50 * tone, subtype="FLOAT")
    warm = write(tmp_path / "warm.wav", 1.5 * tone / np.abs(tone).max(), subtype="FLOAT")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.abs(load_audio(path)[0] - 50 * tone).max() < 1e-4
        prepare_wave(50 * tone, 44100)
        assert load_audio(warm)[0].max() > 1.4  # no decoder overshot: what is lossless was written so
    with pytest.warns(UserWarning, match="clipped"):
        load_audio(write(tmp_path / "cut.wav", np.clip(5 * tone, -1, 1), subtype="FLOAT"))


@pytest.mark.parametrize(
    ("sr", "said"), [(1000, "500 Hz, so no note above B4"), (4000, "2,000 Hz, so no note above B6"), (8000, "")]
)
def test_what_a_low_rate_cannot_hold_is_said_once(tmp_path, sr, said):
    blocks = audio_blocks(write(tmp_path / "low.wav", 0.1 * np.sin(np.arange(2 * sr)), sr))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        list(blocks), list(blocks)
    assert len(caught) == bool(said) and all(said in str(w.message) for w in caught)


@pytest.mark.parametrize("channels", [1, 2, 6, 12])
def test_any_number_of_channels_in_a_file(tmp_path, tone, channels):
    x = np.zeros((44100, channels), np.float32)
    x[:, 0] = tone[:44100]
    wave, _ = load_audio(write(tmp_path / "many.wav", x, subtype="FLOAT"))
    assert np.abs(wave - tone[:44100] / channels).max() < 1e-6


def test_an_array_of_nothing_is_a_sound_of_no_samples():
    for shape in ((0,), (0, 2), (2, 0)):
        wave, sr = prepare_wave(np.zeros(shape), 16000)
        assert wave.shape == (0,) and sr == 16000


def test_an_array_of_opposite_phase_is_heard(tone):
    with pytest.warns(UserWarning, match="the wave has channels of opposite phase: in 8.0 s"):
        wave, _ = prepare_wave(np.c_[tone, -tone], 44100)
    assert np.abs(wave - tone).max() < 1e-6
