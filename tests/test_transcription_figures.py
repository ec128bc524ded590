"""Pictures and stereo sounds of a transcription: any length, silence, seams, and what cannot be written."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile

from amt_nb.notes import as_notes
from amt_nb.workshop.settings import UserError
from amt_nb.workshop.transcription_figures import figure, stereo, write_picture, write_stereo

SR = 16000


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


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_a_disk_that_is_full_is_one_line(tmp_path, suffix):
    """An error inside libsndfile's calls of Python would be printed with its traceback."""
    code = "import resource, sys, numpy as np; from amt_nb.workshop.transcription_figures import write_stereo; "
    code += "from amt_nb.notes import empty_notes; from amt_nb.workshop.settings import UserError\n"
    code += "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)\n"
    code += "try: write_stereo(sys.argv[1], np.random.default_rng(0).uniform(-0.5, 0.5, 80000), empty_notes(), 16000)\n"
    code += "except (UserError, OSError) as e: sys.exit(str(e))"
    for most in (10, 1000, 30_000):
        words = [sys.executable, "-c", code, tmp_path / f"a.{suffix}", str(most)]
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and "cannot write" in done.stderr, done.stderr
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sr", [192_000, 200_001, 352_800, 768_000])
@pytest.mark.parametrize("suffix", ["ogg", "flac", "wav"])
def test_sound_of_any_rate_is_written(tmp_path, sr, suffix):
    """Vorbis's encoder ends the interpreter above 200 kHz."""
    wave = (0.3 * np.sin(2 * np.pi * 440 * np.arange(sr) / sr)).astype(np.float32)
    code = "import sys, numpy as np; from amt_nb.workshop.transcription_figures import write_stereo; from amt_nb.notes import empty_notes; "
    code += "write_stereo(sys.argv[1], np.load(sys.argv[2]), empty_notes(), int(sys.argv[3]))"
    np.save(tmp_path / "a.npy", wave)
    out = tmp_path / f"a.{suffix}"
    done = subprocess.run(
        [sys.executable, "-c", code, out, tmp_path / "a.npy", str(sr)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    x, rate = soundfile.read(out)
    assert rate == (sr if sr <= 192_000 else 48_000) and len(x) == rate and abs(np.abs(x[:, 0]).max() - 0.3) < 0.03
