"""The transcription model: windows that cover every frame once, arrays and blocks alike, several instruments."""

import numpy as np
import pytest
import torch

from amt_nb.cqt import CQTConfig
from amt_nb.workshop.transcription_model import TranscriptionModel, cqt_activations, windows


def bare(x):
    """A net without parameters: a key sounds when its loudest bin is within 20 dB of the level."""
    loudest = x[:, 0].unflatten(-1, (88, 4)).amax(-1)
    rise = loudest - torch.nn.functional.pad(loudest, (0, 0, 3, 0))[:, :-3]
    return {"frame": 20 * (loudest - 0.5), "onset": 20 * (rise - 0.3)}


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


def test_no_block_no_window():
    assert list(windows(iter([]), 16, 0)) == []


def test_cqt_activations_takes_arrays_and_blocks_alike():
    cqt = np.random.default_rng(0).uniform(-1, 1, (700, 352)).astype(np.float32)
    whole = cqt_activations(cqt, 700, TranscriptionModel(bare, CQTConfig()))
    parts = cqt_activations(iter([(0, cqt[:300]), (300, cqt[300:])]), 700, TranscriptionModel(bare))
    assert all(np.array_equal(a, b) for a, b in zip(whole, parts))


def test_several_instruments_go_through_the_same_door():
    several = TranscriptionModel(lambda x: {k: torch.stack([v, -v], 1) for k, v in bare(x).items()})
    values = np.random.default_rng(1).uniform(-1, 1, (256, 352)).astype(np.float32)
    two, one = several.activations(values), TranscriptionModel(bare).activations(values)
    for name, roll in one.items():
        assert two[name].shape == (2, 256, 88) and two[name].dtype == np.float32
        assert np.array_equal(two[name][0], roll) and np.allclose(two[name][1], 1 - roll, atol=1e-6)
