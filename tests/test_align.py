"""Alignment: what would clutter chapters 35 and 38. Faults of input, the command line, structure by hypothesis, odd recordings."""

import json
import subprocess
import sys
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings as hypothesis_settings, strategies as st
from amt_nb.alignment.align import Alignment, align, as_score, at_any_pitch, in_words, jumps, retimed
from amt_nb.workshop.grids import FPS
from amt_nb.workshop.tuning import tuning_cents
from amt_nb.workshop.scores import read_score
from amt_nb.notes import as_notes, onset_roll, sort_notes, to_roll
from amt_nb.workshop.midi import read_midi, write_midi
from amt_nb.alignment.jump_dtw import first_path, jump_path, PathConfig, segments_of
from amt_nb.alignment.refinement import follow, in_tempo, near_path, refined_map
from amt_nb.workshop.scores import extrapolate
from amt_nb.workshop.cli import main
from amt_nb.workshop.settings import fill, UserError
from amt_nb.workshop.synth import render
from amt_nb.workshop.time_maps import points_to_map


def tune(n=48, seed=5, step=0.35):
    rng = np.random.default_rng(seed)
    onset = np.arange(n) * step
    return as_notes(
        np.r_[onset, onset],
        np.r_[onset + step * 0.9, onset + step * 0.95],
        np.r_[rng.integers(60, 80, n), rng.integers(36, 56, n)],
    )


def played(score, segments):
    """The score's notes as segments [(start, end), ...] one after another, and where each segment starts."""
    parts, at, starts = [], 0.0, []
    for a, b in segments:
        part = score[(score["onset_s"] >= a - 1e-6) & (score["onset_s"] < b - 1e-6)].copy()
        for edge in ("onset_s", "offset_s"):
            part[edge] += at - a
        starts.append(at)
        parts.append(part)
        at += b - a
    notes = np.concatenate(parts)
    return notes[np.argsort(notes["onset_s"], kind="stable")], starts


def heard(notes, seed=0):
    rng = np.random.default_rng(seed)
    roll = to_roll(notes)
    unsure = lambda r: np.clip(0.85 * r + rng.normal(0.04, 0.04, r.shape), 0, 1).astype(np.float32)
    return unsure(roll), unsure(onset_roll(notes, len(roll)))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("é align")
    score = tune()
    write_midi(score, folder / "score.mid")
    soundfile.write(folder / "take.flac", render(score, 16000), 16000)
    return folder, score


def command(*args, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "amt_nb.workshop.cli", *map(str, args)], capture_output=True, text=True, cwd=cwd
    )


@hypothesis_settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 31), st.integers(12, 16)), min_size=1, max_size=3), st.integers(0, 99))
def test_any_order_of_sections_is_followed(sections, seed):
    score = tune(seed=seed)
    segments = [(a * 0.35, min(a + n, 48) * 0.35) for a, n in sections]
    notes, starts = played(score, segments)
    found = follow(*heard(notes, seed), score)
    error = []
    for (a, b), s in zip(segments, starts):
        onsets = np.unique(score["onset_s"][(score["onset_s"] >= a - 1e-6) & (score["onset_s"] < b - 1e-6)])
        error += list(np.abs(np.interp(onsets - a + s + 0.01, found.recording_s, found.score_s) - onsets))
    assert np.mean(np.array(error) < 0.05) > 0.9 and np.all(np.diff(found.recording_s) > 0)


def test_what_is_not_in_the_score_is_outside():
    score = tune()
    other = tune(20, seed=77)
    notes, _ = played(score, [(0, 8.4)])
    for edge in ("onset_s", "offset_s"):
        other[edge] += 8.4
    rest = score[score["onset_s"] >= 8.4 - 1e-6].copy()
    for edge in ("onset_s", "offset_s"):
        rest[edge] += 7.0
    found = follow(*heard(np.concatenate([notes, other, rest])), score)
    middle = (found.recording_s > 9.5) & (found.recording_s < 14.5)
    assert found.confidence[middle].mean() < 0.4 and found.confidence[~middle].mean() > 0.7


@pytest.mark.parametrize("factor", [0.4, 0.75, 1.6, 3.0])
def test_any_tempo(factor):
    score = tune()
    slow = score.copy()
    for edge in ("onset_s", "offset_s"):
        slow[edge] *= factor
    found = follow(*heard(slow), score)
    error = np.interp(slow["onset_s"] + 0.01, found.recording_s, found.score_s) - score["onset_s"]
    assert len(found.edges) == 1 and np.mean(np.abs(error) * factor < 0.05) > 0.95


def test_one_note_and_a_very_short_recording():
    score = tune()
    for frames in (1, 5, 30, 100):
        roll, onsets = heard(score)
        found = follow(roll[:frames], onsets[:frames], score)
        assert len(found.recording_s) == frames and np.isfinite(found.score_s).all()
    one = follow(*heard(score[:1]), score[:1])
    assert np.isfinite(one.score_s).all() and (one.confidence <= 1).all()


def test_ninety_minutes_in_bounded_memory():
    score = tune(3000, seed=9)
    long = score.copy()
    for edge in ("onset_s", "offset_s"):
        long[edge] *= 5
    config = PathConfig(most_cells=500_000)
    found = follow(*heard(long), score, config)
    error = np.interp(long["onset_s"] + 0.01, found.recording_s, found.score_s) - score["onset_s"]
    assert found.fit.size < 810_001 and found.recording_s[-1] > 5000 and np.mean(np.abs(error) * 5 < 0.1) > 0.98


def test_segments_of_a_path():
    path, jumped = np.array([-1, -1, *range(10), *range(3, 12), -1, *range(8)]), np.zeros(30, int)
    jumped[12] = 1
    assert segments_of(path, jumped) == [(2, 12), (12, 21), (22, 30)]


@pytest.mark.parametrize("cents", [-45, -20, 0, 25, 40])
def test_tuning_of_a_piano(cents):
    wave = render(tune(24), 16000)
    rate = 16000 * 2 ** (cents / 1200)
    rate = 50 * round(rate / 50)
    assert abs(tuning_cents(wave, rate) - 1200 * np.log2(rate / 16000)) < 8


def test_transposed_and_out_of_tune(files):
    folder, score = files
    up = score.copy()
    up["pitch"] += 2
    rate = 50 * round(16000 * 2 ** (35 / 1200) / 50)
    found = align(render(up, 16000), score, rate)
    speed = rate / 16000
    error = np.interp(score["onset_s"] / speed + 0.01, found.map.recording_s, found.map.score_s) - score["onset_s"]
    assert (
        found.semitones == 2
        and np.mean(np.abs(error) < 0.05) > 0.95
        and abs(found.seconds - (score["offset_s"].max() + 1) / speed) < 2
    )
    assert any("2 semitones above" in line for line in in_words(found)) and any(
        "cents above" in line for line in in_words(found)
    )
    assert set(retimed(found)["pitch"]) <= set(up["pitch"])


@pytest.mark.parametrize("sr, channels", [(8000, 1), (22050, 2), (44100, 6), (48000, 1)])
def test_any_rate_and_channels(files, sr, channels):
    folder, score = files
    wave = render(score, sr)
    found = align(np.repeat(wave[:, None], channels, 1) if channels > 1 else wave, score, sr)
    assert found.confidence > 0.6 and not jumps(found)


def test_bad_input_in_one_line(files, tmp_path):
    folder, score = files
    take, midi = folder / "take.flac", folder / "score.mid"
    (tmp_path / "empty.mid").write_bytes(b"")
    (tmp_path / "cut.mid").write_bytes((folder / "score.mid").read_bytes()[:60])
    (tmp_path / "text.flac").write_text("not a sound")
    write_midi(score[:0], tmp_path / "no notes.mid")
    soundfile.write(tmp_path / "silent.wav", np.zeros(48000), 16000)
    cases = {
        (tmp_path / "none.flac", midi): "none.flac",
        (take, tmp_path / "none.mid"): "there is no such file",
        (take, tmp_path / "empty.mid"): "empty",
        (take, tmp_path / "cut.mid"): "cut",
        (tmp_path / "text.flac", midi): "text.flac",
        (take, tmp_path / "no notes.mid"): "no note",
        (tmp_path / "silent.wav", midi): "silent",
        (take, take): "a score ends in",
        (take, tmp_path): "is a folder",
    }
    from amt_nb.workshop.cli import main

    for (recording, other), message in cases.items():
        out = tmp_path / "out.csv"
        done = in_process(main, "align", recording, other, "-o", out)
        assert done[0] == 1 and message in done[1] and done[1].count("\n") == 1, (recording, other, done)
        assert not out.exists()


def in_process(main, *args):
    import contextlib
    import io

    err = io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        code = main([str(a) for a in (*args, "--no-progress")])
    return code, err.getvalue()


def test_command_line_writes_everything(files, tmp_path):
    folder, score = files
    done = command(
        "align",
        folder / "take.flac",
        folder / "score.mid",
        "-o",
        tmp_path / "a b" / "über.csv",
        "--midi",
        "--picture",
        "--sound",
        "--json",
        "--no-progress",
    )
    assert done.returncode == 0, done.stderr
    rows = np.genfromtxt(tmp_path / "a b" / "über.csv", delimiter=",", names=True)
    assert rows.dtype.names == ("recording_s", "score_s", "score_beat", "confidence") and np.allclose(
        np.diff(rows["recording_s"]), 0.02, atol=1e-6
    )
    assert np.median(np.abs(rows["score_s"] - rows["recording_s"])[50:-100]) < 0.04 and np.allclose(
        rows["score_beat"], 2 * rows["score_s"], atol=0.02
    )
    assert json.loads((tmp_path / "a b" / "über.json").read_text())["jumps"] == []
    assert abs(len(read_midi(tmp_path / "a b" / "über.mid")) - len(score)) <= 2
    assert sorted(p.suffix for p in (tmp_path / "a b").iterdir()) == [".csv", ".json", ".mid", ".ogg", ".png"]


def test_outputs_never_overwrite_inputs(files):
    folder, score = files
    from amt_nb.workshop.cli import main

    before = (folder / "score.mid").read_bytes()
    code, said = in_process(
        main, "align", folder / "take.flac", folder / "score.mid", "-o", folder / "score.csv", "--midi"
    )
    assert (
        code == 1
        and "choose another output" in said
        and (folder / "score.mid").read_bytes() == before
        and not (folder / "score.csv").exists()
    )
    assert in_process(main, "align", folder / "take.flac", folder / "score.mid", "-o", folder / "x.txt")[0] == 1


@pytest.mark.parametrize("first, semitones", [(3, 0), (9, 2)])
def test_an_excerpt_of_two_seconds_finds_its_place(first, semitones):
    score = tune(120, seed=3)
    part = score[(score["onset_s"] >= first) & (score["onset_s"] < first + 2)].copy()
    for edge in ("onset_s", "offset_s"):
        part[edge] -= first - 0.1
    part["pitch"] += semitones
    found = align(render(part, 16000)[:33000], score, 16000)
    error = np.interp(part["onset_s"] + 0.01, found.map.recording_s, found.map.score_s) - (
        part["onset_s"] + first - 0.1
    )
    assert found.semitones == semitones and np.median(np.abs(error)) < 0.05 and found.confidence > 0.5


def test_aligning_needs_neither_torch_nor_numba(files, tmp_path):
    folder, score = files
    code = (
        "import sys; from amt_nb.workshop.cli import main; main(['align', sys.argv[1], sys.argv[2], '-o', sys.argv[3], '--no-progress']); "
        "print(sorted(m for m in ('torch', 'numba', 'scipy', 'matplotlib', 'music21') if m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder / "take.flac"), str(folder / "score.mid"), str(tmp_path / "a.csv")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip().endswith("[]") and (tmp_path / "a.csv").exists()


FIVE_MINUTES = """
import pathlib, re, sys, time
from amt_nb.workshop.cli import main
code, status = main(['align', *sys.argv[1:], '--no-progress']), pathlib.Path('/proc/self/status')
print(code, time.process_time(), re.search(r'VmHWM:\\s*(\\d+)', status.read_text())[1] if status.exists() else 0)
"""


def test_five_minutes_in_little_time_and_memory(tmp_path):
    """Loading included: half of this on an idle core (2.5 CPU s), 140 MB."""
    score = tune(855, seed=4)
    write_midi(score, tmp_path / "score.mid")
    soundfile.write(tmp_path / "take.flac", render(score, 16000, seconds=300), 16000)
    args = [str(tmp_path / name) for name in ("take.flac", "score.mid")]
    done = subprocess.run(
        [sys.executable, "-c", FIVE_MINUTES, *args, "-o", str(tmp_path / "a.csv")],
        capture_output=True,
        text=True,
        check=True,
    )
    code, cpu_s, kb = map(float, done.stdout.split()[-3:])
    assert code == 0 and cpu_s < 7 and kb < 250_000


def test_foreign_score_is_called_so(files):
    folder, score = files
    found = align(folder / "take.flac", as_score(tune(seed=1234)))
    assert found.confidence < 0.25 and "hardly fits" in in_words(found)[-1]
    assert read_score(folder / "score.mid").place(0.0) == "bar 1, beat 1"
    with pytest.raises(UserError):
        as_score(np.zeros(3))


def test_the_penalty_of_a_jump_decides():
    fit = np.full((60, 40), -1.0, np.float32)
    for n in range(60):
        fit[n, n % 30] = 3
    cheap, dear = (jump_path(fit, np.ones(40, bool), PathConfig(jump_penalty=p, leave_penalty=p)) for p in (5.0, 500.0))
    assert cheap[1].sum() == 1 and dear[1].sum() == 0


@pytest.mark.parametrize("size", ["demo", "gpu", "paper"])
def test_the_path_s_numbers_are_those_of_the_settings(size):
    """What a user may change in settings.ini is what the functions take when nobody says anything."""
    assert fill(PathConfig, size, "path") == PathConfig()


def test_a_user_s_settings_reach_the_command(tmp_path, monkeypatch, capsys):
    """With a penalty of a jump that nobody can pay, a repeat is not followed."""
    score = tune()
    notes, _ = played(score, [(0, 12), (5, 17)])
    write_midi(score, tmp_path / "tune.mid")
    soundfile.write(tmp_path / "twice.wav", render(notes, 16000), 16000)
    (tmp_path / "mine.ini").write_text("[demo]\npath_jump_penalty = 1e6\npath_leave_penalty = 1e6\n")

    def segments_found():
        words = ["align", tmp_path / "twice.wav", tmp_path / "tune.mid", "-o", tmp_path / "out.csv", "--force"]
        assert main([str(word) for word in words]) == 0
        return int(next(line for line in capsys.readouterr().out.splitlines() if "segment" in line).split()[0])

    monkeypatch.delenv("AMT_NB_SETTINGS", raising=False)
    assert segments_found() == 2
    monkeypatch.setenv("AMT_NB_SETTINGS", str(tmp_path / "mine.ini"))
    assert segments_found() == 1


def test_a_path_that_stands_still_is_continued_level():
    assert np.array_equal(extrapolate([1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [0.0, 1.5, 5.0]), [0.0, 3.0, 10.0])
    assert np.array_equal(extrapolate([1.0, 1.0], [2.0, 4.0], [0.0, 5.0]), [2.0, 4.0])
    assert np.array_equal(extrapolate([1.0], [2.0], [0.0, 5.0]), [2.0, 2.0])


def test_a_part_is_followed_through_what_the_others_play_while_it_rests():
    whole, octave = tune(160, seed=11), 12
    melody = whole[(whole["pitch"] >= 60) & ((whole["onset_s"] < 14) | (whole["onset_s"] > 34))].copy()
    found = at_any_pitch(*heard(whole), melody)[0]
    error = np.interp(melody["onset_s"] + 0.01, found.recording_s, found.score_s) - melody["onset_s"]
    assert len(found.edges) <= 2 and np.mean(np.abs(error) < 0.05) > 0.95  # the rest may be left out
    assert found.confidence[found.inside].mean() > 0.5
    melody["pitch"] += octave + 2  # a tone put down, and written an octave above what sounds
    found, semitones = at_any_pitch(*heard(whole), melody)
    error = np.interp(melody["onset_s"] + 0.01, found.recording_s, found.score_s) - melody["onset_s"]
    assert semitones == -octave - 2 and np.mean(np.abs(error) < 0.05) > 0.95


def test_a_foreign_melody_is_not_believed():
    whole, other = tune(160, seed=11), tune(160, seed=12)
    found = at_any_pitch(*heard(whole), other[other["pitch"] >= 60])[0]
    assert found.confidence.mean() < 0.05


def test_other_music_is_claimed_neither_before_nor_after():
    """Half a second of it at either end at most, with and without a pause between, and the piece keeps its notes."""
    own, before, after = (heard(tune(n, seed=s)) for n, s in ((48, 21), (48, 22), (48, 23)))
    for pause in (0, 100):
        quiet = np.zeros((pause, 88), np.float32)
        joined = [np.concatenate([b, quiet, o, quiet, a]) for b, o, a in zip(before, own, after)]
        found = follow(*joined, tune(48, seed=21))
        first, end = (len(before[0]) + pause) / FPS, (len(before[0]) + pause + len(own[0])) / FPS
        assert len(found.edges) == 1
        assert first - 0.5 < found.edges[0][0] < first + 1.5 and end - 1.5 < found.edges[0][1] < end + 0.5


def test_a_segment_that_is_other_music_is_left_out():
    """Twelve seconds of other music after a piece, laid on a place of its score by a jump."""
    own, after = (heard(tune(n, seed=s)) for n, s in ((96, 21), (48, 22)))
    joined, end = [np.concatenate(rolls) for rolls in zip(own, after)], len(own[0]) / FPS
    at = np.arange(0, len(joined[0]) / FPS, 0.1)
    rough = points_to_map(at, np.where(at < end, at, 5 + at - end))
    found = refined_map(rough, *joined, tune(96, seed=21))
    assert len(rough.jumps()) == 1 == len(found.edges) and abs(found.edges[0][1] - end) < 0.5


def test_a_soft_run_at_the_end_that_the_model_hardly_hears_stays(monkeypatch):
    """Of its 26 notes two are found, and three resonances are taken for onsets: what is heard is not other music.

    In the piece before it one note in eight is missed or wrong."""
    from amt_nb.workshop import confidence

    score = tune(96, seed=21)
    end_s = float(score["onset_s"].max()) + 0.4
    onset = end_s + 0.08 * np.arange(26)
    run = as_notes(onset, onset + 0.07, 66 + np.arange(26))
    chord = as_notes(np.full(3, onset[-1] + 1), np.full(3, onset[-1] + 2), np.array([45, 52, 60]))
    faint, false = run[[9, 19]], as_notes(onset[1::6] + 0.04, onset[1::6] + 0.3, np.full(5, 50))[:3]
    whole, inexact = sort_notes(np.concatenate([score, run, chord])), score.copy()
    inexact["pitch"][::8] += 7
    frames, onsets = heard(sort_notes(np.concatenate([inexact, faint, false, chord])))
    at = np.arange(0, len(frames) / FPS, 0.1)
    ends = lambda: refined_map(points_to_map(at, at), frames, onsets, whole).edges[-1][1]
    assert ends() > onset[-1] + 1
    monkeypatch.setattr(confidence, "added_up", lambda nats: np.r_[0.0, np.cumsum(nats.sum(0))])
    assert ends() < onset[3]  # were every note that is not found to count


def test_a_segment_of_which_no_event_is_left_is_no_segment(monkeypatch):
    """Once its ends are cut off nothing may be left of a segment; nothing is claimed of it, and nothing fails."""
    from amt_nb.alignment import refinement

    score = tune()
    sound, whole = heard(score), follow(*heard(score), score)
    monkeypatch.setattr(refinement, "without_ends", lambda edges, nats: [(a + 5, a + 6) for a, _ in edges])
    bare = refinement.refined_map(whole.time_map(), *sound, score)
    assert len(whole.segments) == 1 and not bare.segments
    assert not bare.confidence.any() and len(bare.score_s) == len(whole.score_s)


def test_a_page_six_times_as_fast_as_written_is_found():
    """A score without tempi: fifteen seconds of 42 are written six times as long; the path walks twice as fast at most."""
    curve = np.array([0.0, 15, 30, 100]), np.array([0.0, 15, 105, 175])
    music = tune(120, seed=6)
    rolls, written = heard(music), in_tempo(music, curve)
    found = follow(*rolls, written)
    first = near_path(*rolls, written, first_path(*rolls, written))
    off = [
        np.interp(np.interp(music["onset_s"] + 0.01, f.recording_s, f.score_s), *curve[::-1]) - music["onset_s"]
        for f in (first, found)
    ]
    assert np.mean(np.abs(off[0]) < 0.1) < 0.8 and np.mean(np.abs(off[1]) < 0.1) > 0.98
    assert len(found.edges) == 1 and abs(found.edges[0][1] - len(rolls[0]) / FPS) < 1
    shown, agreed = (f.fit.argmax(1) / f.fit.shape[1] * f.end_s for f in (first, found))  # pictures: in score seconds
    assert abs(found.end_s - first.end_s) < 2 and np.median(np.abs(agreed - shown)) < 2


def small_tune(n, rng):
    """n notes, a third to two thirds of a second apart, in two octaves."""
    onset = np.r_[0, np.cumsum(rng.choice([0.35, 0.5, 0.7], n - 1))]
    keys = np.arange(55, 80)
    return as_notes(onset, onset + 0.33, rng.choice(keys, n))


@pytest.mark.parametrize("n", [3, 4, 6, 8, 12])
def test_a_short_wrong_score_is_doubted_and_no_short_right_one(n):
    """Six takes of each length, against six of another tune."""
    wrong = []
    for seed in range(6):
        rng = np.random.default_rng([n, seed])
        score, other = small_tune(n, rng), small_tune(14, rng)
        other = other[other["onset_s"] < 6]
        own, foreign = (
            Alignment(*at_any_pitch(*rolls, score)[:1], as_score(score), len(rolls[0]) / FPS)
            for rolls in (heard(score, seed), heard(other, seed))
        )
        assert "Is it this piece?" not in str(in_words(own)) and own.confidence > 0.6
        wrong.append("Is it this piece?" in str(in_words(foreign)))
    assert np.mean(wrong) >= 0.8
