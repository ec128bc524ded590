"""Whole and streamed: one CQT, whatever the length and the rate."""

import numpy as np
import pytest

from amt_nb.cqt import CQTConfig
from amt_nb.workshop.streaming import cqt_magnitude, stream


@pytest.mark.parametrize("sr", [16000, 44100, 48000, 96000])
@pytest.mark.parametrize("config", [CQTConfig(), CQTConfig(0.6, 0.5)], ids=["paper", "demo"])
@pytest.mark.parametrize("seconds", [0.3, 1])
def test_a_short_clip_is_what_a_stream_makes_of_it(sr, config, seconds):
    """A clip that begins at once: within 0.05 % in every cell above -60 dB (1.3 % without room for the low-pass to ring)."""
    t = np.arange(int(sr * seconds)) / sr
    wave = 0.01 * np.random.default_rng(0).standard_normal(len(t)) + 0.3 * np.sin(2 * np.pi * 440 * t) * np.exp(-t)
    whole = cqt_magnitude(wave.astype(np.float32), sr, config)
    streamed = np.concatenate([m for _, m in stream(wave, sr, config)])
    loud = whole > whole.max() / 1000
    assert (np.abs(whole - streamed)[loud] / whole[loud]).max() < 5e-4
