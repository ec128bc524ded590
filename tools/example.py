"""Makes amt_nb/data/example.ogg from the recording that the Python package Matchmaker brings as its own example.

    python tools/example.py mozart_k265_var1.mp3 mozart_k265_var1.musicxml

Both files are in github.com/pymatchmaker/matchmaker, folder matchmaker/assets, commit d5c58d7f9db6a2e5c4d8d21d02136e5555c977c2
(Apache License 2.0). The sound becomes mono at 22,050 Hz and Ogg Vorbis; the score is kept as it is. See amt_nb/data/example.md.
"""

import os
import sys
from pathlib import Path

import numpy as np

SR = 22050


def main(recording, score):
    """Writes the example and its score into the package."""
    import soundfile
    import soxr

    wave, sr = soundfile.read(recording, dtype="float32")
    wave = soxr.resample(wave.mean(1) if wave.ndim > 1 else wave, sr, SR)
    wave = (0.7 * wave / np.abs(wave).max()).astype(np.float32)
    target = Path(__file__).resolve().parents[1] / "amt_nb" / "data" / "example.ogg"
    fresh = target.with_suffix(".tmp")
    with soundfile.SoundFile(str(fresh), "w", SR, 1, "VORBIS", format="OGG") as file:
        for at in range(0, len(wave), SR):
            file.write(wave[at : at + SR])
    os.replace(fresh, target)
    target.with_suffix(".musicxml").write_bytes(Path(score).read_bytes())
    print(f"{target.name}: {len(wave) / SR:.1f} s, {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(*sys.argv[1:3])
