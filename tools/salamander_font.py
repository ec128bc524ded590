"""Makes a SoundFont of the Salamander Grand Piano (Alexander Holm, CC BY 3.0), one of the pianos our renderings use.

    python tools/salamander_font.py SAMPLES OUT.sf2

SAMPLES: a folder with the samples as .ogg, .flac or .wav, at any depth, named by note and velocity layer as their author
names them (A0v2.ogg, D#4v10.ogg ...); layers 2, 4 ... 16 are used. Each layer is brought to the loudness of layer 10,
because a synthesiser makes loud notes louder itself: only the colour of a layer is kept.
"""

import re
import struct
import sys
from pathlib import Path

import numpy as np
import soundfile
import soxr

RATE, SECONDS, PAUSE = 22050, 14, 46  # a font wants 46 zeros after each sample
STEPS = {"C": 0, "D#": 3, "F#": 6, "A": 9}
LAYERS = {
    2: (0, 36),
    4: (37, 46),
    6: (47, 56),
    8: (57, 72),
    10: (73, 88),
    12: (89, 104),
    14: (105, 116),
    16: (117, 127),
}
LAST_DAMPER = 90  # keys above it ring on when released


def load(path):
    """One sample: mono at RATE, from 2 ms before its attack, faded at its end."""
    wave, sr = soundfile.read(path, dtype="float32", always_2d=True)
    wave = soxr.resample(wave.mean(1), sr, RATE)
    attack = int(np.argmax(np.abs(wave) > 0.05 * np.abs(wave).max()))
    wave = wave[max(attack - RATE // 500, 0) :][: RATE * SECONDS]
    fade = min(len(wave), 4000)
    wave[-fade:] *= np.linspace(1, 0, fade)
    return wave


def samples(folder):
    """{(MIDI key, layer): wave} of a folder."""
    found = {}
    for path in sorted(p for p in Path(folder).rglob("*") if p.suffix in (".ogg", ".flac", ".wav")):
        name = re.fullmatch(r"([A-G]#?)(\d)v(\d+)", path.stem)
        if name and name[1] in STEPS and int(name[3]) in LAYERS:
            found[12 * (int(name[2]) + 1) + STEPS[name[1]], int(name[3])] = load(path)
    if not found:
        sys.exit(f"{folder}: no samples named like A0v2.ogg for layers {', '.join(map(str, LAYERS))}")
    return found


def chunk(tag, data):
    """A RIFF chunk."""
    return tag + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def table(rows, form):
    """Rows as packed records."""
    return b"".join(struct.pack(form, *row) for row in rows)


def font(found):
    """Bytes of a SoundFont 2 with one preset: every layer of every key, keys stretched to half way to their neighbours."""
    keys = sorted({k for k, _ in found})
    loudness = lambda wave: float(np.sqrt(np.mean(wave[:RATE] ** 2)))
    target = {k: loudness(found.get((k, 10), next(w for (key, _), w in found.items() if key == k))) for k in keys}
    peak = max(np.abs(w).max() / loudness(w) * target[k] for (k, _), w in found.items())
    edges = [0, *[(a + b) // 2 + 1 for a, b in zip(keys, keys[1:])], 128]
    data, headers, generators, bags, position = [], [], [], [], 0
    for (key, layer), wave in sorted(found.items(), key=lambda item: (item[0][1], item[0][0])):
        pcm = (wave / loudness(wave) * target[key] / peak * 32000).astype("<i2")
        i, low, high = keys.index(key), *LAYERS[layer]
        release = round(1200 * np.log2(0.28 if key < LAST_DAMPER else 3.0))
        bags.append((len(generators), 0))
        generators += [
            (43, edges[i] | (edges[i + 1] - 1) << 8),
            (44, low | high << 8),
            (38, release & 0xFFFF),
            (53, len(headers)),
        ]
        headers.append(
            (
                f"{key}v{layer}".encode(),
                position,
                position + len(pcm),
                position,
                position + len(pcm) - 1,
                RATE,
                key,
                0,
                0,
                1,
            )
        )
        data += [pcm, np.zeros(PAUSE, "<i2")]
        position += len(pcm) + PAUSE
    headers.append((b"EOS", 0, 0, 0, 0, 0, 0, 0, 0, 0))
    bags.append((len(generators), 0))
    parts = {
        b"phdr": table([(b"Salamander", 0, 0, 0, 0, 0, 0), (b"EOP", 0, 0, 1, 0, 0, 0)], "<20sHHHIII"),
        b"pbag": table([(0, 0), (1, 0)], "<HH"),
        b"pmod": bytes(10),
        b"pgen": table([(41, 0), (0, 0)], "<HH"),
        b"inst": table([(b"Salamander", 0), (b"EOI", len(bags) - 1)], "<20sH"),
        b"ibag": table(bags, "<HH"),
        b"imod": bytes(10),
        b"igen": table([*generators, (0, 0)], "<HH"),
        b"shdr": table(headers, "<20sIIIIIBbHH"),
    }
    about = (
        chunk(b"ifil", struct.pack("<HH", 2, 1))
        + chunk(b"isng", b"EMU8000\0")
        + chunk(b"INAM", b"Salamander Grand Piano, A. Holm, CC BY 3.0\0\0")
    )
    lists = chunk(b"LIST", b"INFO" + about) + chunk(b"LIST", b"sdta" + chunk(b"smpl", np.concatenate(data).tobytes()))
    lists += chunk(b"LIST", b"pdta" + b"".join(chunk(tag, part) for tag, part in parts.items()))
    return chunk(b"RIFF", b"sfbk" + lists)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    Path(sys.argv[2]).write_bytes(font(samples(sys.argv[1])))
