"""What strange recordings and hostile outputs get from amt-nb transcribe: one line, the right exit code, no half file."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from amt_nb.workshop.cli import main
from amt_nb.notes import as_notes
from amt_nb.workshop.midi import read_midi, write_midi
from amt_nb.workshop.synth import render

SR = 16000
TUNE = as_notes([0.2, 0.7, 1.2], [0.6, 1.1, 1.9], [60, 64, 67])


@pytest.fixture(scope="session")
def wave():
    """Three notes in 2.5 s at 16 kHz."""
    return render(TUNE, SR, seconds=2.5)


@pytest.fixture
def shell(capsys, monkeypatch, tmp_path):
    """Runs a command line in this process, in an empty folder: (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        capsys.readouterr()
        try:
            code = main(["transcribe", *map(str, words), "--no-progress"])
        except SystemExit as stopped:
            code = stopped.code
        return code, *capsys.readouterr()

    return run


def only(folder, *names):
    """True when `folder` holds these files and nothing else, hidden ones included."""
    return sorted(p.name for p in Path(folder).iterdir()) == sorted(names)


def sound(path, wave, sr=SR, **kw):
    """Writes `wave` to `path` and returns the path."""
    soundfile.write(path, wave, sr, **kw)
    return path


def refused(answer, *words):
    """Asserts exit code 1, nothing on standard output and one line of errors that holds `words`."""
    code, out, err = answer
    assert code == 1 and out == ""
    assert err.count("\n") == 1 and err.startswith("amt-nb: ") and "Traceback" not in err
    for word in words:
        assert word in err
    return True


# ---- recordings that are none ------------------------------------------------------------------------------------


def test_missing(shell, tmp_path):
    assert refused(shell("nowhere.wav"), "nowhere.wav") and only(tmp_path)


def test_a_folder(shell, tmp_path):
    (tmp_path / "disc").mkdir()
    assert refused(shell("disc"), "disc") and only(tmp_path, "disc")


def test_empty_file(shell, tmp_path):
    (tmp_path / "empty.wav").touch()
    assert refused(shell("empty.wav"), "empty.wav") and only(tmp_path, "empty.wav")


@pytest.mark.parametrize(
    "name, content",
    [
        ("text.wav", b"dear diary " * 99),
        ("image.png", b"\x89PNG\r\n\x1a\n" + bytes(500)),
        ("noise.mp3", bytes(range(256)) * 40),
    ],
)
def test_wrong_type(shell, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert refused(shell(name), name) and only(tmp_path, name)


def test_midi_instead_of_sound(shell, tmp_path):
    write_midi(TUNE, tmp_path / "score.mid")
    assert refused(shell("score.mid", "-o", "out.mid"), "score.mid") and only(tmp_path, "score.mid")


@pytest.mark.parametrize("suffix", ["flac", "ogg", "wav"])
def test_cut_in_the_head(shell, tmp_path, wave, suffix):
    data = sound(tmp_path / f"cut.{suffix}", wave).read_bytes()
    (tmp_path / f"cut.{suffix}").write_bytes(data[:30])
    assert refused(shell(f"cut.{suffix}"), f"cut.{suffix}") and only(tmp_path, f"cut.{suffix}")


def test_header_only(shell, tmp_path):
    sound(tmp_path / "none.wav", np.zeros(0, np.float32))
    assert refused(shell("none.wav"), "none.wav") and only(tmp_path, "none.wav")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_a_number(shell, tmp_path, wave, bad):
    broken = wave.copy()
    broken[9000] = bad
    sound(tmp_path / "nan.wav", broken, subtype="FLOAT")
    assert refused(shell("nan.wav"), "nan.wav") and only(tmp_path, "nan.wav")


# ---- recordings that are odd but sound ---------------------------------------------------------------------------


def test_silence_gives_a_valid_empty_file(shell, tmp_path):
    sound(tmp_path / "silence.flac", np.zeros(SR * 3, np.float32))
    code, out, err = shell("silence.flac")
    assert code == 0 and "0 notes" in out and "silence" in err
    assert len(read_midi(tmp_path / "silence.mid")) == 0


def test_faint_noise_is_not_blown_up_to_music(shell, tmp_path):
    sound(tmp_path / "noise.flac", 1e-5 * np.random.default_rng(0).standard_normal(SR * 3), subtype="PCM_24")
    code, out, err = shell("noise.flac")
    assert code == 0 and len(read_midi(tmp_path / "noise.mid")) == 0


def test_one_sample(shell, tmp_path):
    sound(tmp_path / "click.wav", np.array([0.5], np.float32))
    code, out, err = shell("click.wav")
    assert code in (0, 1) and "Traceback" not in err
    assert (code == 0) == (tmp_path / "click.mid").exists()


def test_one_note(shell, tmp_path):
    sound(tmp_path / "one.wav", render(as_notes([0.5], [1.2], [69]), SR, seconds=2))
    assert shell("one.wav")[0] == 0
    notes = read_midi(tmp_path / "one.mid")
    assert 69 in notes["pitch"] and abs(notes["onset_s"][notes["pitch"] == 69][0] - 0.5) < 0.05


def test_clipping(shell, tmp_path, wave):
    sound(tmp_path / "loud.wav", np.clip(wave * 30, -1, 1))
    assert shell("loud.wav")[0] == 0
    assert set(TUNE["pitch"]) <= set(read_midi(tmp_path / "loud.mid")["pitch"])


@pytest.mark.parametrize("sr", [8000, 11025, 22050, 37800, 44100, 96000])
def test_sample_rates(shell, tmp_path, sr):
    sound(tmp_path / "rate.wav", render(TUNE, sr, seconds=2.5), sr)
    assert shell("rate.wav")[0] == 0
    notes = read_midi(tmp_path / "rate.mid")
    assert set(TUNE["pitch"]) <= set(notes["pitch"])
    for note in TUNE:
        assert np.abs(notes["onset_s"][notes["pitch"] == note["pitch"]] - note["onset_s"]).min() < 0.05


def test_six_channels(shell, tmp_path, wave):
    sound(tmp_path / "surround.flac", np.stack([wave * g for g in (1, 0.9, 0.2, 0.1, 0.5, 0.5)], 1))
    assert shell("surround.flac")[0] == 0
    assert set(TUNE["pitch"]) <= set(read_midi(tmp_path / "surround.mid")["pitch"])


def test_mp3(shell, tmp_path, wave):
    sound(tmp_path / "tune.mp3", wave)
    assert shell("tune.mp3")[0] == 0
    assert set(TUNE["pitch"]) <= set(read_midi(tmp_path / "tune.mid")["pitch"])


def test_cut_in_the_middle_says_so_or_gives_what_is_there(shell, tmp_path, wave):
    data = sound(tmp_path / "cut.flac", np.tile(wave, 4)).read_bytes()
    (tmp_path / "cut.flac").write_bytes(data[: len(data) * 2 // 3])
    code, out, err = shell("cut.flac")
    assert (code == 1 and "cut.flac" in err and only(tmp_path, "cut.flac")) or (
        code == 0 and len(read_midi(tmp_path / "cut.mid"))
    )


def test_names_with_spaces_accents_and_dots(shell, tmp_path, wave):
    sound(tmp_path / "Für Elise (1. Satz) – 浜辺.v2.wav", wave)
    assert shell("Für Elise (1. Satz) – 浜辺.v2.wav", "--picture", "--sound")[0] == 0
    stem = "Für Elise (1. Satz) – 浜辺.v2"
    assert only(tmp_path, *(stem + s for s in (".wav", ".mid", ".png", ".stereo.ogg")))


def test_a_name_that_looks_like_an_option(shell, tmp_path, wave):
    sound(tmp_path / "-v.wav", wave)
    assert shell("./-v.wav")[0] == 0 and only(tmp_path, "-v.wav", "-v.mid")


# ---- outputs that cannot be ---------------------------------------------------------------------------------------


def test_output_is_the_input(shell, tmp_path, wave):
    data = sound(tmp_path / "tune.wav", wave).read_bytes()
    os.link(tmp_path / "tune.wav", tmp_path / "link.mid")
    assert refused(shell("tune.wav", "-o", "link.mid"), "link.mid", "reads it")
    assert refused(shell("tune.wav", "-o", "link.mid", "--force"), "link.mid", "reads it")
    assert (tmp_path / "tune.wav").read_bytes() == data
    assert refused(shell("tune.wav", "-o", "tune.wav"), ".mid")


def test_two_recordings_of_one_name(shell, tmp_path, wave):
    for folder in "ab":
        (tmp_path / folder).mkdir()
        sound(tmp_path / folder / "tune.wav", wave)
    code, out, err = shell("a/tune.wav", "b/tune.wav", "-o", "out/")
    assert code == 1 and err.count("both") == 2 and out == "" and only(tmp_path, "a", "b")


def test_several_go_on_after_a_bad_one(shell, tmp_path, wave):
    sound(tmp_path / "good.wav", wave)
    (tmp_path / "bad.wav").write_bytes(b"no")
    code, out, err = shell("bad.wav", "good.wav", "-o", "out/")
    assert code == 1 and "bad.wav" in err and "good.mid" in out and only(tmp_path / "out", "good.mid")


def test_existing_output_is_replaced_whole(shell, tmp_path, wave):
    sound(tmp_path / "tune.wav", wave)
    (tmp_path / "tune.mid").write_bytes(b"old" * 10_000)
    assert shell("tune.wav", "--force")[0] == 0
    assert set(TUNE["pitch"]) <= set(read_midi(tmp_path / "tune.mid")["pitch"]) and only(
        tmp_path, "tune.wav", "tune.mid"
    )


def test_a_link_as_output_stays_a_link(shell, tmp_path, wave):
    sound(tmp_path / "tune.wav", wave)
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x.mid").write_bytes(b"old")
    (tmp_path / "tune.mid").symlink_to(tmp_path / "real" / "x.mid")
    assert shell("tune.wav", "--force")[0] == 0
    assert (
        (tmp_path / "tune.mid").is_symlink()
        and len(read_midi(tmp_path / "real" / "x.mid")) >= 3
        and only(tmp_path / "real", "x.mid")
    )


@pytest.mark.parametrize("out", ["nowhere/tune.mid", "/dev/full", "/dev/null", "tune.txt", "tune"])
def test_outputs_that_are_refused_before_work_begins(shell, tmp_path, wave, out):
    sound(tmp_path / "tune.wav", wave)
    started = time.process_time()
    assert refused(shell("tune.wav", "-o", out)) and only(tmp_path, "tune.wav")
    assert time.process_time() - started < 1


def test_read_only_folder(shell, tmp_path, wave):
    sound(tmp_path / "tune.wav", wave)
    if os.geteuid() == 0:  # whom modes do not stop; the kernel's own folder does
        closed = Path("/proc")
    else:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o555)
    assert refused(shell("tune.wav", "-o", closed / "tune.mid"), "tune.mid")
    assert not (closed / "tune.mid").exists()


# ---- processes -----------------------------------------------------------------------------------------------------


def process(*words, folder, **kw):
    """Starts amt-nb as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "amt_nb.workshop.cli", *map(str, words)],
        cwd=folder,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=kw.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        **kw,
    )


def test_full_disk(tmp_path, wave):
    """A file may not grow beyond 200 bytes: what was there stays, nothing half-written is left."""
    sound(tmp_path / "tune.wav", np.tile(wave, 20))
    assert (
        main(["transcribe", str(tmp_path / "tune.wav"), "-o", str(tmp_path / "tune.mid"), "--no-progress"]) == 0
    )  # whatever is compiled once is
    (tmp_path / "tune.mid").write_bytes(b"old")

    def small_disk():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))

    p = process(
        "transcribe",
        "tune.wav",
        "--force",
        folder=tmp_path,
        preexec_fn=small_disk,
        env=dict(os.environ, PYTHONDONTWRITEBYTECODE="1"),
    )
    out, err = p.communicate(timeout=600)
    assert p.returncode == 1 and out == "" and "Traceback" not in err and "tune.mid" in err.splitlines()[-1]
    assert (tmp_path / "tune.mid").read_bytes() == b"old"
    assert only(tmp_path, "tune.wav", "tune.mid")


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(tmp_path, wave, number, code):
    sound(tmp_path / "long.wav", np.tile(wave, 1200))  # 50 minutes
    (tmp_path / "out").mkdir()

    def hears():
        """A test run in the background inherits an ignored Ctrl-C, and its children would too."""
        signal.signal(number, signal.SIG_DFL)

    p = process("transcribe", "long.wav", "-o", "out/", "--sound", folder=tmp_path, preexec_fn=hears)
    assert "long.wav" in p.stderr.readline()  # the first word of progress: it is at work
    p.send_signal(number)
    out, err = p.communicate(timeout=300)
    assert p.returncode == code and out == "" and "Traceback" not in err
    assert only(tmp_path / "out")


def test_results_into_a_full_device(tmp_path, wave):
    sound(tmp_path / "tune.wav", wave)
    with open("/dev/full", "w") as full:
        p = process("transcribe", "tune.wav", folder=tmp_path, stdout=full)
        _, err = p.communicate(timeout=600)
    assert p.returncode == 1 and "Traceback" not in err and "No space left" in err
