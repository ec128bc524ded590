"""Makes the pictures of the front page that move, or that gather what several chapters show; same input, same bytes.

    python tools/pictures.py [FOLDER]     (default: media)

collapse.gif: the shift of a transcriber moves; its notes go with it, the cycle loss does not, Frame F1 falls.
five_ways.png: five ways of playing one score, the true path (black) and the one that is found (blue).
"""

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
BLUE, RED, NOTE = "#1f6fd6", "#dd2222", "#3d9bff"
WIDTH_IN, DPI = 7.2, 100  # 720 pixels
# (shift, time it is shown in ms): up to a fifth, back, and down to a fourth
STEPS = [
    (0, 1600),
    *((k, 220) for k in range(1, 7)),
    (7, 2000),
    *((k, 160) for k in range(6, 0, -1)),
    (0, 1200),
    *((k, 220) for k in range(-1, -5, -1)),
    (-5, 2000),
    *((k, 160) for k in range(-4, 0)),
]
BARS = 24  # of the page that is played in five ways, a second each
WAYS = {
    "as written": [(0, 24)],
    "bars 9–16 twice": [(0, 16), (8, 24)],
    "bars 9–16 left out": [(0, 8), (16, 24)],
    "back to the start": [(0, 24), (0, 8)],
    "repeat and cut": [(0, 12), (4, 12), (18, 24)],
}


def style():
    """Matplotlib as the pictures want it."""
    from matplotlib import rcParams

    rcParams.update(
        {
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "font.family": "DejaVu Sans",
            "svg.hashsalt": "0",
        }
    )


# ---- the collapse ----------------------------------------------------------------------------------------------------


class Collapse:
    """One figure of a `LinearWorld`, drawn anew for each shift."""

    def __init__(self, world):
        from amt_nb.workshop.grids import FPS

        self.world, self.seconds, self.shifts = world, len(world.cqt) / FPS, np.arange(-12, 13)
        rows = np.array([world.terms(int(k), 0.0) for k in self.shifts])
        self.cycle, self.f1 = rows[:, 0], 100 * rows[:, 3]

    def frame(self, shift):
        """The picture at a shift as a PIL image."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from PIL import Image

        figure = Figure(figsize=(WIDTH_IN, 4.2), dpi=DPI)
        FigureCanvasAgg(figure)
        left, loss, score = (
            figure.add_axes((0.065, 0.12, 0.515, 0.66)),
            figure.add_axes((0.67, 0.53, 0.31, 0.25)),
            figure.add_axes((0.67, 0.12, 0.31, 0.25)),
        )
        self.sound(left, shift)
        self.curve(loss, shift, self.cycle, RED, 0.3, "Cycle loss: flat", "{:.3f}")
        self.curve(score, shift, self.f1, BLUE, 110, "Frame F1 (%): one right key", "{:.0f}")
        score.set_xlabel("shift (semitones)")
        self.slider(figure.add_axes((0.065, 0.86, 0.915, 0.13)), shift)
        figure.canvas.draw()
        return Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3].copy())

    def sound(self, ax, shift):
        """The recording's CQT, what was played (white), what is transcribed (blue)."""
        from amt_nb.notes import from_roll

        ax.imshow(
            self.world.cqt.T,
            origin="lower",
            aspect="auto",
            cmap="magma",
            extent=(0, self.seconds, 20.5, 108.5),
            interpolation="nearest",
        )
        for notes, colour, width in (
            (self.world.notes, "white", 4.5),
            (from_roll(self.world.transcription(shift)), NOTE, 2.6),
        ):
            notes = notes[notes["offset_s"] - notes["onset_s"] > 0.05]
            ax.hlines(notes["pitch"], notes["onset_s"], notes["offset_s"], color=colour, lw=width)
        ax.set(ylim=(36, 92), yticks=range(36, 93, 12), yticklabels=[f"C{i}" for i in range(2, 7)], xlabel="time (s)")
        ax.set_title("The recording: played (white), transcribed (blue)", fontsize=9, loc="left")

    def curve(self, ax, shift, values, colour, top, title, form):
        """A term of the objective against the shift, with a mark."""
        i = shift + 12
        ax.plot(self.shifts, values, color=colour, lw=1.6)
        ax.plot(shift, values[i], "o", color=colour, ms=8)
        ax.annotate(
            form.format(values[i]),
            (shift, values[i]),
            xytext=(8 if shift < 6 else -8, 6),
            textcoords="offset points",
            weight="bold",
            ha="left" if shift < 6 else "right",
        )
        ax.axvline(shift, color="0.6", lw=0.8, ls=":")
        ax.set(ylim=(0, top), xlim=(-12.5, 12.5), xticks=(-12, -5, 0, 7, 12))
        ax.set_title(title, fontsize=9, loc="left")

    def slider(self, ax, shift):
        """A slider with its words."""
        words = (
            "where it was played"
            if shift == 0
            else f"{abs(shift)} semitone{'s' * (abs(shift) > 1)} too {'high' if shift > 0 else 'low'}"
        )
        ax.plot([-12, 12], [0, 0], color="0.75", lw=4, solid_capstyle="round")
        ax.plot(self.shifts, np.zeros(25), "|", color="0.6", ms=6)
        ax.plot(shift, 0, "o", color=BLUE, ms=13)
        ax.text(-12, 1, f"Every note is written {words}", fontsize=12, weight="bold", va="center")
        ax.set(xlim=(-12.3, 12.3), ylim=(-0.8, 1.6))
        ax.axis("off")


def palette():
    """A PIL image whose palette holds what the frames are drawn in: magma, greys, the colours of lines fading out."""
    from matplotlib import colormaps
    from matplotlib.colors import to_rgb
    from PIL import Image

    fade = np.linspace(0, 1, 12)[:, None]
    ramps = [
        (1 - fade) * np.array(to_rgb(a)) + fade * np.array(to_rgb(b))
        for a, b in (("white", BLUE), ("white", RED), ("black", NOTE), ("white", NOTE))
    ]
    colours = np.concatenate(
        [colormaps["magma"](np.linspace(0, 1, 64))[:, :3], np.repeat(np.linspace(0, 1, 24)[:, None], 3, 1), *ramps]
    )
    image = Image.new("P", (1, 1))
    image.putpalette((255 * colours).round().astype(np.uint8).tobytes())
    return image


def only_changes(frames, clear=255):
    """Palette images, after the first with the index `clear` wherever they are like the one before."""
    from PIL import Image

    indices = [np.asarray(frame) for frame in frames]
    out = [frames[0]]
    for before, now in zip(indices, indices[1:]):
        image = Image.fromarray(np.where(before == now, np.uint8(clear), now), "P")
        image.putpalette(frames[0].getpalette())
        out.append(image)
    return out


def collapse_gif(path):
    """Writes the moving picture."""
    from amt_nb.notes import as_notes
    from amt_nb.workshop.shift_widget import PIECES, LinearWorld
    from PIL import Image

    scene, colours = Collapse(LinearWorld(as_notes(*PIECES["chords"]))), palette()
    drawn = {
        k: scene.frame(k).quantize(palette=colours, dither=Image.Dither.NONE) for k in sorted({k for k, _ in STEPS})
    }
    first, *rest = only_changes([drawn[k] for k, _ in STEPS])
    first.save(
        path,
        save_all=True,
        append_images=rest,
        duration=[ms for _, ms in STEPS],
        loop=0,
        optimize=False,
        disposal=1,
        transparency=255,
    )


# ---- five ways -------------------------------------------------------------------------------------------------------


def page():
    """(Score, notes): 24 bars in eighths over chords, made at random once and for all."""
    from amt_nb.workshop.scores import Score
    from amt_nb.notes import as_notes

    rng = np.random.default_rng(12)
    line, chords = 60 + rng.choice([0, 2, 4, 5, 7, 9, 11, 12], BARS * 8), 40 + rng.choice([0, 3, 5, 7, 8, 10], BARS * 2)
    at = np.r_[np.arange(BARS * 8) / 8, np.arange(BARS * 2) / 2]
    notes = as_notes(at, at + np.r_[np.full(BARS * 8, 0.11), np.full(BARS * 2, 0.46)], np.r_[line, chords])
    return Score(
        notes, np.array([0, 0.25]), np.array([0.0, 1.0]), np.arange(BARS) * 1.0, [str(i + 1) for i in range(BARS)]
    ), notes


def performed(notes, order, slower=1.12):
    """(wave at 16 kHz, [(from s, to s, from bar, to bar)]): the bars in an order on a piano, and the true path."""
    from amt_nb.workshop.synth import render

    rng, parts, path, start = np.random.default_rng(0), [], [], 0.0
    for first, end in order:
        part = notes[(notes["onset_s"] >= first - 1e-6) & (notes["onset_s"] < end - 1e-6)].copy()
        length = part["offset_s"] - part["onset_s"]
        part["onset_s"] = (
            start + (part["onset_s"] - first) * slower + rng.normal(0, 0.008, len(part)).clip(-0.02, 0.02) + 0.03
        )
        part["offset_s"] = part["onset_s"] + length * slower
        parts.append(part)
        path.append((start + 0.03, start + 0.03 + (end - first) * slower, first, end))
        start += (end - first) * slower
    return render(np.concatenate(parts), 16000), path


def five_ways(path):
    """Writes the picture of the five ways."""
    from amt_nb.alignment.align import align
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    score, notes = page()
    figure = Figure(figsize=(WIDTH_IN, 4.2), dpi=2 * DPI, layout="constrained")
    FigureCanvasAgg(figure)
    *axes, last = figure.subplots(2, 3, sharex=True, sharey=True).flat
    for ax, (name, order) in zip(axes, WAYS.items(), strict=True):
        wave, true = performed(notes, order)
        draw_way(ax, align(wave, score, 16000), true, name)
    last.set_axis_off()
    last.legend(*axes[0].get_legend_handles_labels(), loc="center", fontsize=10, frameon=False)
    for ax in axes:
        ax.tick_params(labelbottom=True)
    figure.supylabel("score (bars)", fontsize=9)
    figure.savefig(path, metadata={"Software": None})


def draw_way(ax, found, true, name):
    """One panel: the true path (black), the one found (blue)."""
    from amt_nb.workshop.grids import FPS

    for i, (a, b, c, d) in enumerate(true):
        ax.plot((a, b), (c, d), color="black", lw=3.2, solid_capstyle="butt", label="true" if i == 0 else None)
    for i, (first, end) in enumerate(found.map.edges):
        rows = slice(int(np.ceil(first * FPS)), int(end * FPS))
        ax.plot(
            found.map.recording_s[rows],
            found.map.score_s[rows],
            color="#4da3ff",
            lw=1.4,
            label="found" if i == 0 else None,
        )
    ax.set(xlim=(0, 36), ylim=(0, 24.5), xticks=(0, 10, 20, 30), yticks=(0, 8, 16, 24), xlabel="recording (s)")
    ax.set_title(name, fontsize=9)


def main(folder=ROOT / "media"):
    """Writes both pictures into `folder`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    style()
    collapse_gif(folder / "collapse.gif")
    five_ways(folder / "five_ways.png")
    for name in ("collapse.gif", "five_ways.png"):
        print(f"{(folder / name).stat().st_size / 1000:.0f} kB {name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
