"""Computes the player of the pitch-shifted collapse: a page that needs no kernel, no server and no network.

    python tools/collapse_page.py [FOLDER]     (default: media/collapse)

For each piece of `LinearWorld`, and for the beginning of the recording that comes with the book: its CQT and the
rendered one as pictures, its sound and the rendered one as small files, and in data.js the notes and every term of the
objective at every shift and labelled share. collapse.html, collapse.js and collapse.css are written by hand; they are
copied when FOLDER is another one. Same input, same bytes.
"""

import re
import json
import shutil
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
HAND_WRITTEN = ("collapse.html", "collapse.js", "collapse.css")
SHIFTS = range(-12, 13)  # semitones
SHARES = np.arange(21) / 20  # of the piece that is labelled
LOW, HIGH = 24, 100  # MIDI pitches that the pictures show, C1 to E7
LEVELS = 64  # colours of a picture
RATE = 16000  # Hz, of the sounds


def worlds():
    """{name: LinearWorld} of the pieces the player offers."""
    from amt_nb.workshop.shift_widget import standard_worlds

    return standard_worlds()


def terms(world, shift, share):
    """(cycle loss, discriminator, pairs, Frame F1) of a world, 0..1 but for the losses, which have no unit."""
    return world.terms(shift, share)


def transcription(world, shift):
    """Notes that the shifted transcriber writes."""
    from amt_nb.notes import from_roll

    return from_roll(world.transcription(shift))


def triples(notes):
    """Notes as [onset (ms), offset (ms), MIDI pitch]."""
    return [[round(1000 * float(n["onset_s"])), round(1000 * float(n["offset_s"])), int(n["pitch"])] for n in notes]


def picture(cqt, path):
    """Writes a CQT (T, 352) in [-1, 1] as a PNG of one pixel a bin and frame, pitch up, in the colours of magma."""
    from matplotlib import colormaps
    from PIL import Image

    shown = cqt[:, 4 * (LOW - 21) : 4 * (HIGH - 21)].T[::-1]
    index = np.clip(np.round((shown + 1) / 2 * (LEVELS - 1)), 0, LEVELS - 1).astype(np.uint8)
    image = Image.fromarray(index, "P")
    image.putpalette((colormaps["magma"](np.linspace(0, 1, LEVELS))[:, :3] * 255).round().astype(np.uint8).tobytes())
    image.save(path, optimize=True)


def sound(wave, sr, path):
    """Writes a sound as MP3, which every browser plays, at 16 kHz."""
    import soundfile
    import soxr

    wave = soxr.resample(wave, sr, RATE) if sr != RATE else wave
    soundfile.write(
        path, wave, RATE, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode="CONSTANT", compression_level=0.75
    )


def rendered_pictures(world, stem, folder):
    """{shift: file name} of the rendered CQTs; "" stands for all shifts that look like shift 0."""
    usual = world.rendered(0)
    files = {"": f"{stem}_rendered.png"}
    picture(usual, folder / files[""])
    for k in SHIFTS:
        if abs(world.rendered(k) - usual).max() > 1 / LEVELS:  # notes fell off the keyboard
            files[str(k)] = f"{stem}_rendered{k:+d}.png"
            picture(world.rendered(k), folder / files[str(k)])
    return files


def piece(name, world, folder):
    """What the player knows of one piece; writes its pictures and sounds."""
    from amt_nb.workshop.grids import FPS
    from amt_nb.workshop.shift_widget import sound_of

    stem = re.sub(r"\W+", "_", name).strip("_")
    picture(world.cqt, folder / f"{stem}_recording.png")
    sound(world.wave, world.sr, folder / f"{stem}_recording.mp3")
    sound(sound_of(world, "rendered", 0), world.sr, folder / f"{stem}_rendered.mp3")
    if name == "chords":  # two transcriptions as files too, for where no script runs
        for k in (0, 7):
            sound(sound_of(world, "transcription", k), world.sr, folder / f"{stem}_transcribed{k:+d}.mp3")
    rows = [terms(world, k, 0.0) for k in SHIFTS]
    pairs = [[round(terms(world, k, float(share))[2], 4) for k in SHIFTS] for share in SHARES]
    cycle, discriminator, _, f1 = ([round(value, 5) for value in column] for column in zip(*rows))
    return {
        "name": name,
        "seconds": len(world.cqt) / FPS,
        "truth": triples(world.notes),
        "transcribed": triples(transcription(world, 0)),
        "recording": f"{stem}_recording.png",
        "rendered": rendered_pictures(world, stem, folder),
        "sounds": {"recording": f"{stem}_recording.mp3", "rendered": f"{stem}_rendered.mp3"},
        "cycle": cycle,
        "discriminator": discriminator,
        "pairs": pairs,
        "f1": f1,
    }


def main(folder=None):
    """Writes the player into `folder`."""
    home = ROOT / "media" / "collapse"
    folder = Path(folder or home)
    folder.mkdir(parents=True, exist_ok=True)
    if folder.resolve() != home:
        for name in HAND_WRITTEN:
            shutil.copy(home / name, folder)
    data = {
        "low": LOW,
        "high": HIGH,
        "shifts": list(SHIFTS),
        "shares": SHARES.tolist(),
        "lambdaCycle": 5,
        "pieces": [piece(name, world, folder) for name, world in worlds().items()],
    }
    text = json.dumps(data, separators=(",", ":"))
    (folder / "data.js").write_text(f"window.COLLAPSE = {text};\n", encoding="utf-8")
    print(f"{sum(f.stat().st_size for f in folder.iterdir()) / 1000:.0f} kB in {folder}")


if __name__ == "__main__":
    main(*sys.argv[1:])
