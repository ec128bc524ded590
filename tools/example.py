"""Makes amt_nb/data/example.ogg: the first bars of Bach's prelude in C (BWV 846), played by a piano that is a formula.

    python tools/example.py

Everything in the sound is made here, so that it is free: the notes are written out below (the piece is in the
public domain), and each tone is a sum of decaying partials with a stiff string's inharmonicity, two strings a key a
little apart, and the knock of a hammer. Room and humanised playing are those of the synth chapter.
"""
import os
from pathlib import Path

import numpy as np

CHORDS = """C4 E4 G4 C5 E5|C4 D4 A4 D5 F5|B3 D4 G4 D5 F5|C4 E4 G4 C5 E5|C4 E4 A4 E5 A5|C4 D4 F#4 A4 D5|B3 D4 G4 D5 G5|B3 C4 E4 G4 C5
A3 C4 E4 G4 C5|D3 A3 D4 F#4 C5|G3 B3 D4 G4 B4|G3 A#3 E4 G4 C#5|F3 A3 D4 A4 D5|F3 G#3 D4 F4 B4|E3 G3 C4 G4 C5|E3 F3 A3 C4 F4"""
SR = 22050


def pitch(name):
    """MIDI pitch of a note name such as F#4."""
    return {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}[name[0]] + name.count("#") + 12 * (int(name[-1]) + 1)


def notes(sixteenth_s=0.21):
    """The prelude's sixteen bars as a note array, two broken chords a bar, and a last chord."""
    from amt_nb.notes import as_notes
    rows, at = [], 0.3
    for chord in CHORDS.replace("\n", "|").split("|"):
        keys = [pitch(k) for k in chord.split()]
        for half in range(2):
            for step, key in enumerate([*keys, *keys[2:]]):
                onset = at + (8 * half + step) * sixteenth_s
                held = {0: 7.6, 1: 6.6}.get(step, 0.95) * sixteenth_s
                rows.append((onset, onset + held, key, 84 if step == 0 else 62 + 4 * (step == 4)))
        at += 16 * sixteenth_s
    rows += [(at + 0.02 * i, at + 2.5, pitch(k), 74) for i, k in enumerate("C3 G3 E4 C5".split())]
    return as_notes(*map(list, zip(*rows)))


def tone(key, velocity, seconds, rng):
    """One key of the formula piano at SR, held for `seconds`."""
    f0, n = 440 * 2 ** ((key - 69) / 12), int((seconds + 0.35) * SR)
    t, stiff = np.arange(n) / SR, 1e-4 * 2 ** ((key - 60) / 10)
    bright, wave = 0.35 + 0.5 * velocity / 127, np.zeros(n)
    for h in range(1, 24):
        f = f0 * h * np.sqrt(1 + stiff * h * h)
        if f > 0.45 * SR:
            break
        strength = bright ** (0.75 * (h - 1)) * abs(np.sin(np.pi * h / 8.3)) / np.sin(np.pi / 8.3)
        slow = (0.25 + 0.06 * h) * 2 ** ((key - 60) / 14)
        decay = 0.75 * np.exp(-slow * 6 * t) + 0.25 * np.exp(-slow * t)
        for cents in (-0.6, 0.7):
            wave += strength * decay * np.sin(2 * np.pi * f * 2 ** (cents / 1200) * t + rng.uniform(0, 0.6))
    knock = rng.standard_normal(n) * np.exp(-t / 0.006) * 0.35 * bright
    damper = np.clip(1 - (t - seconds) / 0.12, 0, 1)
    return (wave + knock) * np.minimum(1, t / 0.0015) * damper * (velocity / 127) ** 1.7


def main():
    """Plays, records and writes the example."""
    import soundfile
    from amt_nb.synth import humanise, room
    rng, played = np.random.default_rng(846), humanise(notes(), seed=846)
    wave = np.zeros(int((played["offset_s"].max() + 2) * SR))
    for note in played:
        sound = tone(int(note["pitch"]), int(note["velocity"]), float(note["offset_s"] - note["onset_s"]), rng)
        at = round(float(note["onset_s"]) * SR)
        wave[at:at + len(sound)] += sound[:len(wave) - at]
    wave = room((0.3 * wave / np.abs(wave).max()).astype(np.float32), SR, seed=846)
    wave = 0.6 * wave[:int(30 * SR)] / np.abs(wave).max()
    wave *= np.clip((30 - np.arange(len(wave)) / SR) / 1.5, 0, 1)
    target = Path(__file__).resolve().parents[1] / "amt_nb" / "data" / "example.ogg"
    target.parent.mkdir(exist_ok=True)
    fresh = target.with_suffix(".tmp")
    with soundfile.SoundFile(str(fresh), "w", SR, 1, "VORBIS", format="OGG") as file:
        for at in range(0, len(wave), SR):
            file.write(wave[at:at + SR])
    os.replace(fresh, target)
    print(f"{target.name}: {len(wave) / SR:.1f} s, {target.stat().st_size / 1000:.0f} kB, {(played['onset_s'] < 30).sum()} notes")


if __name__ == "__main__":
    main()
