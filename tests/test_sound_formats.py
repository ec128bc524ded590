"""Every format of sound: clicks where they were, damage that costs its own length and a sentence, and what is refused."""

import gc
import os
import subprocess
import sys
import warnings

import av
import numpy as np
import pytest
import soundfile
from sounds import CLICKS_S, FORMATS, clicks, encode, hurt, late_ms

from amt_nb.workshop.audio import AudioBlocks, load_audio
from amt_nb.workshop.settings import UserError
from amt_nb.workshop.sound_files import SoundReader, ogg_pages, placed

EVERY = tuple(np.arange(0.25, 6, 0.25))


def room(sr, seconds=6.0, at=EVERY):
    """Clicks over a steady sound that no codec can make small."""
    t = np.arange(round(seconds * sr)) / sr
    steady = 0.05 * np.sin(2 * np.pi * 330 * t) * (1 + 0.3 * np.sin(7 * t))
    return clicks(sr, seconds, at) + steady + 0.003 * np.random.default_rng(0).standard_normal(len(t))


def encoded(path, codec, wave, sr, **options):
    try:
        return encode(path, codec, wave, sr, **options)
    except (av.FFmpegError, ValueError) as error:
        pytest.skip(f"no encoder {codec}: {error}")


def read(path):
    """(first channel, rate, warnings) of a file."""
    reader = SoundReader(path)
    pieces = list(reader)
    return np.concatenate(pieces)[:, 0], reader.sr, reader.words


@pytest.mark.parametrize("name, codec, sr", FORMATS, ids=[f[0] for f in FORMATS])
def test_a_click_is_where_it_was(tmp_path, name, codec, sr):
    bare = {"write_xing": "0"} if name.startswith("bare") else {}
    wave, rate, words = read(encoded(tmp_path / name, codec, clicks(sr), sr, **bare))
    assert rate == sr and words == []
    assert np.abs(late_ms(wave, sr)).max() < 1
    assert -0.02 < len(wave) / sr - 3 < 0.035


@pytest.mark.parametrize("name, codec", [("a.amr", "libopencore_amrnb"), ("amr.3gp", "libopencore_amrnb")])
def test_a_telephone_codec_is_right_within_its_blur(tmp_path, name, codec):
    wave, sr, _ = read(encoded(tmp_path / name, codec, clicks(8000), 8000, bit_rate=12200))
    assert abs(np.median(late_ms(wave, sr))) < 1


def test_vorbis_by_libsndfile(tmp_path):
    soundfile.write(tmp_path / "a.ogg", room(44100), 44100, format="OGG", subtype="VORBIS")
    wave, sr, words = read(tmp_path / "a.ogg")
    assert len(wave) == 6 * sr and words == [] and np.abs(late_ms(wave, sr, EVERY)).max() < 0.1
    theirs = soundfile.read(tmp_path / "a.ogg", dtype="float32")[0]
    assert np.abs(wave - theirs).max() < 1e-6


SUBTYPES = [(f, s) for f in ("WAV", "AIFF", "W64", "RF64", "CAF", "AU", "FLAC") for s in ("PCM_16", "PCM_24")]
SUBTYPES += [("WAV", s) for s in ("PCM_U8", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")]


@pytest.mark.parametrize("kind, subtype", SUBTYPES)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_samples_are_those_of_libsndfile_to_the_bit(tmp_path, kind, subtype, channels):
    x = np.random.default_rng(0).uniform(-0.9, 0.9, (9999, channels))
    soundfile.write(tmp_path / "x.sound", x, 44100, subtype, format=kind)
    theirs = soundfile.read(tmp_path / "x.sound", dtype="float32", always_2d=True)[0]
    reader = SoundReader(tmp_path / "x.sound")
    assert np.array_equal(np.concatenate(list(reader)), theirs) and reader.words == [] and reader.channels == channels


@pytest.mark.parametrize("channels", [8, 9, 16, 64, 255])
@pytest.mark.parametrize("codec", ["pcm", "wavpack"])
def test_many_channels(tmp_path, channels, codec):
    x = np.tile(clicks(8000, 0.5, (0.25,))[:, None], channels).astype(np.float32)
    if codec == "pcm":
        soundfile.write(tmp_path / "x.wav", x, 8000, "FLOAT")
    elif channels == 8:
        encoded(tmp_path / "x.wv", codec, x, 8000)
    else:
        pytest.skip("this encoder has no more than eight channels")
    (path,) = tmp_path.iterdir()
    wave, sr = load_audio(path)
    assert np.abs(wave - x[:, 0]).max() < 0.01 and abs(late_ms(wave, sr, (0.25,))[0]) < 0.2


def test_a_thousand_channels_are_read_or_refused(tmp_path):
    soundfile.write(tmp_path / "x.wav", np.zeros((8000, 1024), np.float32), 8000, "PCM_16")
    with pytest.raises(UserError, match="x.wav holds no sound that can be decoded"):
        load_audio(tmp_path / "x.wav")


DAMAGED = [
    "a.flac",
    "a.ogg",
    "a.opus",
    "a.mp3",
    "bare.mp3",
    "a.aac",
    "a.mp4",
    "opus.webm",
    "a.wma",
    "a.ts",
    "a.wav",
    "a.w64",
]
CODEC = {"flac": "flac", "opus": "libopus", "mp3": "libmp3lame", "webm": "libopus", "wma": "wmav2", "wav": "pcm_s16le"}


def example(path):
    kind = path.suffix[1:]
    sr = 48000 if kind in ("opus", "webm") else 44100
    if kind == "ogg":
        soundfile.write(path, room(sr), sr, format="OGG", subtype="VORBIS")
        return path
    options = (
        {"write_xing": "0"} if path.name.startswith("bare") else {"movflags": "faststart"} if kind == "mp4" else {}
    )
    return encoded(path, CODEC.get(kind, "pcm_s16le" if kind == "w64" else "aac"), room(sr), sr, **options)


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("how", ["flip", "noise"])
def test_after_damage_nothing_is_early(tmp_path, name, how):
    path = example(tmp_path / name)
    path.write_bytes(hurt(path.read_bytes(), how))
    wave, sr, words = read(path)
    late = np.array(late_ms(wave, sr, EVERY))
    lost = np.isnan(late)
    apart = np.abs(late[~lost]) > 1
    assert len(wave) == pytest.approx(6 * sr, abs=0.06 * sr) and apart.sum() <= 1 and lost.sum() <= 12
    assert np.abs(late[-4:]).max() < 1 or lost[-4:].any()
    assert words or lost.sum() + apart.sum() <= 1  # a flipped bit may be a wrong sample, which nobody can know
    assert all("damaged" in w for w in words)


@pytest.mark.parametrize("name", [n for n in DAMAGED if n != "a.ts"])
@pytest.mark.parametrize("how", ["cut", "short"])
def test_a_broken_end_is_said(tmp_path, name, how):
    path = example(tmp_path / name)
    path.write_bytes(hurt(path.read_bytes(), how))
    wave, sr, words = read(path)
    late = np.array(late_ms(wave, sr, EVERY))
    assert np.nanmax(np.abs(late)) < 1 and len(wave) > (2.9 if how == "cut" else 5.8) * sr
    assert how == "short" and len(wave) > 5.97 * sr or any("breaks off" in w or "cut off" in w for w in words)


def test_an_mpeg4_without_its_table_is_refused(tmp_path):
    path = encoded(tmp_path / "a.m4a", "aac", room(44100), 44100)
    path.write_bytes(hurt(path.read_bytes(), "cut"))
    with pytest.raises(UserError, match="a.m4a is an MPEG-4 file that is cut off"):
        load_audio(path)


@pytest.mark.parametrize("name", ["a.opus", "a.ogg", "a.mp3", "low.mp3"])
def test_joined_files_are_read_to_the_end(tmp_path, name):
    sr = 48000 if name == "a.opus" else 16000 if name == "low.mp3" else 44100
    if name == "a.ogg":
        soundfile.write(tmp_path / name, clicks(sr), sr, format="OGG", subtype="VORBIS")
    else:
        encoded(tmp_path / name, CODEC[name[-3:].replace("pus", "opus")], clicks(sr), sr)
    once = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(once * 3)
    wave, sr, words = read(tmp_path / name)
    at = [k * 3 + s for k in range(3) for s in CLICKS_S]
    early = 6 if name == "a.ogg" else 1  # FFmpeg's Vorbis may end 3 ms before the last sample
    assert abs(len(wave) - 9 * sr) < 0.01 * sr and words == [] and np.abs(late_ms(wave, sr, at)).max() < early


def test_junk_around_an_mp3(tmp_path):
    mp3 = encoded(tmp_path / "a.mp3", "libmp3lame", clicks(44100), 44100).read_bytes()
    picture = b"ID3\x04\0\0\0\0\x7f\x7f" + b"APIC" + bytes(16379)
    (tmp_path / "b.mp3").write_bytes(picture + mp3 + b"APETAGEX" + bytes(200) + b"TAG" + bytes(125))
    wave, sr, words = read(tmp_path / "b.mp3")
    assert np.abs(late_ms(wave, sr)).max() < 1 and words == []


def test_a_second_wav_behind_the_first_is_said(tmp_path):
    soundfile.write(tmp_path / "a.wav", clicks(44100), 44100)
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes() * 2)
    wave, sr, words = read(tmp_path / "a.wav")
    assert len(wave) == 3 * sr and "0.3 MB behind the end of its sound: they are not read" in words[0]


def chunk(name, data, order="little"):
    """A chunk with its padding."""
    return name + len(data).to_bytes(4, order) + data + bytes(len(data) % 2)


def sound_bytes(tmp_path, kind="WAV", subtype="PCM_16", **options):
    """(bytes of a file of room, where the size of its sound stands)."""
    soundfile.write(tmp_path / "made", room(8000), 8000, subtype, format=kind, **options)
    data = (tmp_path / "made").read_bytes()
    return data, data.index(b"SSND" if kind == "AIFF" else b"data") + 4


@pytest.mark.parametrize("kind, subtype", [("WAV", "PCM_16"), ("WAV", "PCM_U8"), ("WAV", "FLOAT"), ("WAVEX", "PCM_24"), ("RIFX", "PCM_16"), ("AIFF", "PCM_16")])  # fmt: skip
def test_a_size_of_half_is_said(tmp_path, kind, subtype):
    order = "little" if kind.startswith("WAV") else "big"
    options = {"endian": "BIG"} if kind == "RIFX" else {}
    data, at = sound_bytes(tmp_path, "WAV" if kind == "RIFX" else kind, subtype, **options)
    half = int.from_bytes(data[at : at + 4], order) // 8 * 4
    for behind in (b"", chunk(b"LIST", b"INFO" + bytes(80), order)):
        (tmp_path / "a.wav").write_bytes(data[:at] + half.to_bytes(4, order) + data[at + 4 :] + behind)
        _, _, words = read(tmp_path / "a.wav")
        assert len(words) == 1 and "behind the end of its sound: they are not read" in words[0]


def test_what_follows_a_sound_by_right_is_not_remarked(tmp_path):
    data, at = sound_bytes(tmp_path)
    noise = np.random.default_rng(0).bytes(70_001)
    for behind in (
        *(chunk(name, noise) for name in (b"LIST", b"id3 ", b"JUNK", b"bext", b"zzzz")),
        *(b"LIST" + (99_999).to_bytes(4, "little") + noise, chunk(b"id3 ", noise)[:-1], chunk(b"cue ", b"") + bytes(9)),
        *(b"ID3\x04" + noise, b"TAG" + noise[:125], b"APETAGEX" + noise, bytes(100_000), bytes(1), b"\xff" * 500),
    ):
        (tmp_path / "a.wav").write_bytes(data + behind)
        wave, _, words = read(tmp_path / "a.wav")
        assert words == [] and len(wave) == 48000, behind[:8]
    for size in (0, 0x7FFFF000, 0xFFFFFFFF):
        (tmp_path / "a.wav").write_bytes(data[:at] + size.to_bytes(4, "little") + data[at + 4 :])
        wave, _, words = read(tmp_path / "a.wav")
        assert words == [] and len(wave) == 48000


@pytest.mark.parametrize("kind", ["RF64", "W64", "CAF"])
def test_a_size_of_half_in_64_bits_is_said(tmp_path, kind):
    data, at = sound_bytes(tmp_path, kind)
    where, order = {"RF64": (28, "little"), "W64": (at + 12, "little"), "CAF": (at, "big")}[kind]
    size = int.from_bytes(data[where : where + 8], order)
    assert 96_000 <= size < 97_000
    changed = data[:where] + (size // 16 * 8).to_bytes(8, order) + data[where + 8 :]
    if kind == "RF64":
        changed = changed[:at] + b"\xff" * 4 + changed[at + 4 :]
    (tmp_path / "a.wav").write_bytes(changed)
    wave, _, words = read(tmp_path / "a.wav")
    assert len(wave) == 48000 or any("behind the end of its sound" in w for w in words)


@pytest.mark.parametrize("seconds", [2.5, 6])
@pytest.mark.parametrize("what", ["flip", "noise", "head", "gone"])
def test_a_lost_page_of_opus_costs_its_own_time(tmp_path, seconds, what):
    """FFmpeg puts the last page in the place of a lost one before it."""
    whole = encoded(tmp_path / "a.opus", "libopus", room(48000, seconds), 48000)
    before, _, words = read(whole)
    data, pages = bytearray(whole.read_bytes()), list(ogg_pages(whole))
    assert words == [] and sum(len(page) for _, page in pages) == len(data)
    for at, page in pages[2:-1]:
        hurt_one = bytearray(data)
        if what == "gone":
            del hurt_one[at : at + len(page)]
        elif what == "noise":
            hurt_one[at + 400 : at + 1900] = np.random.default_rng(0).bytes(1500)
        else:
            hurt_one[at + (1 if what == "head" else 500)] ^= 4
        (tmp_path / "b.opus").write_bytes(hurt_one)
        wave, sr, words = read(tmp_path / "b.opus")
        assert len(words) == 1 and "is damaged" in words[0]
        late = np.array(late_ms(wave, sr, [t for t in EVERY if t < seconds]))
        assert abs(len(wave) - len(before)) < 0.025 * sr and not np.abs(late[-1]) > 1
        assert (np.abs(late[~np.isnan(late)]) > 1).sum() <= 1 and np.isnan(late).sum() <= 5


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFF00])
@pytest.mark.parametrize("order", ["little", "big"])
def test_a_wav_from_a_pipe_has_no_length_to_keep(tmp_path, size, order):
    soundfile.write(tmp_path / "a.wav", clicks(8000), 8000, "PCM_16", endian="BIG" if order == "big" else "LITTLE")
    data = bytearray((tmp_path / "a.wav").read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = size.to_bytes(4, order)
    (tmp_path / "a.wav").write_bytes(data)
    wave, sr, words = read(tmp_path / "a.wav")
    assert len(wave) == 3 * sr and words == [] and data[:4] == (b"RIFX" if order == "big" else b"RIFF")


def test_the_word_data_in_a_comment(tmp_path):
    soundfile.write(tmp_path / "a.wav", clicks(8000), 8000)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    comment = (
        b"LIST" + (26).to_bytes(4, "little") + b"INFOICMT" + (14).to_bytes(4, "little") + b"the data\xff\xff\xff\x7f.."
    )
    data[12:12] = comment
    data[4:8] = (len(data) - 8).to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(data)
    wave, sr, words = read(tmp_path / "a.wav")
    assert len(wave) == 3 * sr and words == []


def test_a_flac_of_unknown_length_is_read_to_its_last_sample(tmp_path):
    data = bytearray(encoded(tmp_path / "a.flac", "flac", room(16000), 16000).read_bytes())
    assert data[4] & 0x7F == 0  # the head: its last five bytes but sixteen hold the number of samples
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(data)
    wave, sr, words = read(tmp_path / "a.flac")
    assert len(wave) == 6 * sr and words == []


def test_opus_from_vorbis_pages_has_no_hole(tmp_path):
    """Opus written from Vorbis's packets: pages as libsndfile refuses them."""
    soundfile.write(
        tmp_path / "a.ogg", room(44100, 40, tuple(np.arange(0.5, 40, 0.5))), 44100, format="OGG", subtype="VORBIS"
    )
    with av.open(str(tmp_path / "a.ogg")) as source, av.open(str(tmp_path / "a.opus"), "w") as target:
        stream, convert = (
            target.add_stream("libopus", rate=48000, layout="mono"),
            av.AudioResampler("s16", "mono", 48000),
        )
        for frame in source.decode(audio=0):
            for converted in convert.resample(frame):
                target.mux(stream.encode(converted))
        for converted in [*convert.resample(None), None]:
            target.mux(stream.encode(converted))
    wave, sr, words = read(tmp_path / "a.opus")
    late = late_ms(wave, sr, np.arange(0.5, 40, 0.5))
    assert words == [] and np.abs(late).max() < 1 and abs(len(wave) / sr - 40) < 0.03


def test_places_that_make_no_sense_fill_no_memory():
    far, back = [(0, 2), (10**12, 2), (10**12 + 2, 2)], [(0, 4), (4, 4), (-9000, 4), (-8996, 4)]
    for places in (far, back):
        holes = []
        rows = list(placed(((at, np.ones((n, 1))) for at, n in places), 1000, holes))
        assert sum(map(len, rows)) == sum(n for _, n in places) and holes == []


def test_a_playlist_or_a_pipe_is_no_recording(tmp_path):
    (tmp_path / "a.wav").write_text("#EXTM3U\n#EXTINF:9,\nfile:///etc/hostname\n")
    (tmp_path / "b.wav").write_text(f"ffconcat version 1.0\nfile {tmp_path / 'c.wav'}\n")
    soundfile.write(tmp_path / "c.wav", clicks(8000), 8000)
    os.mkfifo(tmp_path / "d.wav")
    for name, words in (("a", "no sound file"), ("b", "no sound file"), ("d", "is a pipe")):
        with pytest.raises(UserError, match=words):
            load_audio(tmp_path / f"{name}.wav")


@pytest.mark.parametrize("inverted", [1, -1, -0.9])
def test_channels_of_opposite_phase_are_heard(tmp_path, inverted):
    x = room(16000)
    soundfile.write(tmp_path / "a.wav", np.c_[x, inverted * x], 16000, "FLOAT")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        wave, sr = load_audio(tmp_path / "a.wav")
    assert np.abs(late_ms(wave, sr, EVERY)).max() < 0.1 and np.std(wave) == pytest.approx(np.std(x), rel=0.06)
    assert [("opposite phase: in 6.0 s" in str(w.message)) for w in caught] == [True] * (inverted < 0)


def test_turning_round_does_not_hang_on_the_blocks(tmp_path):
    x = room(16000, 9.0, np.arange(0.1, 9, 0.25))
    x = np.c_[x, np.r_[x[:48000], -x[48000:96000], x[96000:]]]
    soundfile.write(tmp_path / "a.wav", x, 16000, "FLOAT")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, other = (np.concatenate(list(AudioBlocks(tmp_path / "a.wav", s))) for s in (0.37, 30))
    assert np.array_equal(one, other) and len(one) == 9 * 16000
    assert np.abs(np.diff(one - x[:, 0])).max() < 0.3  # it fades over, without a click


def test_nothing_is_printed_and_nothing_stays_open(tmp_path):
    for name, codec, sr in (("low.mp3", "libmp3lame", 16000), ("a.aac", "aac", 44100), ("a.opus", "libopus", 48000)):
        path = encoded(tmp_path / name, codec, room(sr), sr)
        path.write_bytes(hurt(path.read_bytes() * 2, "noise"))
    code = """if 1:
        import os, sys, warnings; from pathlib import Path; warnings.simplefilter("ignore")
        from amt_nb.workshop.audio import load_audio, audio_blocks
        for p in sorted(Path(sys.argv[1]).iterdir()):
            load_audio(p)
            for block in audio_blocks(p, 0.5): break
        import gc; gc.collect()
        print([os.readlink(f"/proc/self/fd/{f}") for f in os.listdir("/proc/self/fd") if f.isdigit() and int(f) > 2
               and os.path.exists(f"/proc/self/fd/{f}") and sys.argv[1] in os.readlink(f"/proc/self/fd/{f}")])"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")
    gc.collect()


def test_of_two_tracks_of_sound_one_is_read_and_that_is_said(tmp_path):
    """A film in two languages: until then nobody was told which was heard."""
    with av.open(str(tmp_path / "film.mkv"), "w") as container:
        for stream, gain in [(container.add_stream("pcm_s16le", rate=16000, layout="mono"), g) for g in (0.5, 0.0)]:
            wave = (gain * clicks(16000) * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
            frame.sample_rate = 16000
            container.mux([*stream.encode(frame), *stream.encode(None)])
    with pytest.warns(UserWarning, match="holds 2 tracks of sound: track 1 alone is read"):
        wave, _ = load_audio(tmp_path / "film.mkv")
    assert np.abs(wave).max() > 0.2


def test_noise_taken_for_a_head_of_many_channels_ends_nothing(tmp_path):
    """Decoders may claim dozens of channels for a damaged packet; the interpreter must live."""
    path = encoded(tmp_path / "a.mp4", "aac", room(44100), 44100, movflags="faststart")
    data = path.read_bytes()
    code = "import sys, warnings; warnings.simplefilter('ignore'); from amt_nb.workshop.audio import load_audio; load_audio(sys.argv[1])"
    for at in (len(data) // 2, len(data) // 3):
        path.write_bytes(data[:at] + data[at + 3001 :])
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
        assert done.returncode in (0, 1) and (not done.returncode or "UserError" in done.stderr)


def test_a_wav_whose_sound_lies_in_two_chunks_is_refused(tmp_path):
    sound = (9000 * np.sin(np.arange(16000) * 0.1)).astype("<i2").tobytes()
    piece = b"data" + len(sound).to_bytes(4, "little") + sound
    body = b"WAVEfmt " + bytes.fromhex("1000000001000100803e0000007d000002001000")
    for n in (1, 2):
        file = tmp_path / f"{n}.wav"
        file.write_bytes(b"RIFF" + (len(body) + n * len(piece)).to_bytes(4, "little") + body + n * piece)
    assert len(load_audio(tmp_path / "1.wav")[0]) == 16000
    with pytest.raises(UserError, match="2.wav holds its sound in two pieces"):
        load_audio(tmp_path / "2.wav")
