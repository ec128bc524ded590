"""Where clicks lie in every format of sound, and what decoding costs: python benchmarks/sound_formats.py [--minutes 0]

Files are made on the spot by FFmpeg's encoders (tests/sounds.py) and read by `SoundReader`; the error is the largest of four
clicks, in ms. With --minutes N a stereo noise of N minutes is written in eight formats, and CPU seconds for an hour are printed.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from sounds import FORMATS, clicks, encode, late_ms

from amt_nb.workshop.sound_files import SoundReader

TIMED = [
    f for f in FORMATS if f[0] in ("pcm.wav", "a.flac", "a.opus", "a.mp3", "a.m4a", "opus.webm", "a.wma", "alac.m4a")
]


def click_table(folder):
    """Prints format, codec, rate, largest error in ms and the error of the length in ms."""
    print("| file | codec | rate (Hz) | click error (ms) | length error (ms) |\n|---|---|---|---|---|")
    for name, codec, sr in FORMATS:
        try:
            path = encode(folder / name, codec, clicks(sr), sr, **({"write_xing": "0"} if "bare" in name else {}))
        except (av.FFmpegError, ValueError) as error:
            print(f"| {name} | {codec} | {sr} | no encoder: {error} | |")
            continue
        wave = np.concatenate(list(SoundReader(path)))[:, 0]
        late = max(late_ms(wave, sr), key=abs)
        print(f"| {name} | {codec} | {sr} | {late:.2f} | {1000 * (len(wave) / sr - 3):.1f} |")


def cost_table(folder, minutes):
    """Prints the CPU seconds that an hour of stereo takes to decode."""
    for name, codec, sr in TIMED:
        wave = 0.1 * np.random.default_rng(0).standard_normal((int(minutes * 60 * sr), 2))
        path = encode(folder / name, codec, wave.astype(np.float32), sr)
        start = time.process_time()
        samples = sum(len(x) for x in SoundReader(path))
        print(f"{name:10} {codec:11} {(time.process_time() - start) * 3600 * sr / samples:6.2f} CPU s an hour")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        click_table(Path(name))
        if args.minutes:
            cost_table(Path(name), args.minutes)
