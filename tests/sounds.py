"""Sound files of all kinds, made on the spot: clicks of which it is known when they are, and what time does to files."""

import av
import numpy as np

CLICKS_S = (0.25, 0.75, 1.5, 2.5)
FORMATS = [  # file, codec, rate
    ("pcm.wav", "pcm_s16le", 44100),
    ("float.wav", "pcm_f32le", 48000),
    ("ima.wav", "adpcm_ima_wav", 44100),
    ("ulaw.wav", "pcm_mulaw", 8000),
    ("pcm.w64", "pcm_s24le", 44100),
    ("pcm.aiff", "pcm_s16be", 44100),
    ("pcm.au", "pcm_s16be", 44100),
    ("alac.caf", "alac", 44100),
    ("a.flac", "flac", 44100),
    ("flac.ogg", "flac", 44100),
    ("opus.ogg", "libopus", 48000),
    ("a.opus", "libopus", 48000),
    ("a.mp3", "libmp3lame", 44100),
    ("low.mp3", "libmp3lame", 16000),
    ("bare.mp3", "libmp3lame", 44100),
    ("a.mp2", "mp2", 44100),
    ("a.m4a", "aac", 44100),
    ("a.mp4", "aac", 48000),
    ("a.mov", "aac", 44100),
    ("a.3gp", "aac", 44100),
    ("alac.m4a", "alac", 44100),
    ("opus.mp4", "libopus", 48000),
    ("a.aac", "aac", 44100),
    ("opus.webm", "libopus", 48000),
    ("aac.mkv", "aac", 44100),
    ("mp3.mkv", "libmp3lame", 44100),
    ("pcm.mka", "pcm_s16le", 44100),
    ("a.wma", "wmav2", 44100),
    ("a.ac3", "ac3", 48000),
    ("a.ts", "aac", 44100),
    ("mp2.ts", "mp2", 48000),
    ("a.flv", "aac", 44100),
    ("a.avi", "libmp3lame", 44100),
    ("a.wv", "wavpack", 44100),
    ("a.tta", "tta", 44100),
]


def clicks(sr: int, seconds: float = 3.0, at=CLICKS_S) -> np.ndarray:
    """A wave (S,) of short bursts of 1.5 kHz with their middle at the seconds `at`."""
    t = np.arange(round(seconds * sr)) / sr
    d = t[:, None] - np.array(at)
    return (0.6 * (np.abs(d) < 0.006) * np.cos(np.pi * d / 0.012) ** 2 * np.cos(2 * np.pi * 1500 * d)).sum(1)


def late_ms(wave: np.ndarray, sr: int, at=CLICKS_S) -> list[float]:
    """By how many milliseconds each click of a wave (S,) is late; NaN where there is none."""
    model, late = clicks(sr, 0.02, (0.01,)), []
    for s in at:
        a = max(round((s - 0.2) * sr), 0)
        near = wave[a : round((s + 0.2) * sr)]
        match = np.correlate(near, model, "valid") if len(near) > len(model) else np.zeros(1)
        heard = match.max() > 0.5 * np.vdot(model, model)
        late.append((match.argmax() + a - round((s - 0.01) * sr)) / sr * 1000 if heard else float("nan"))
    return late


def encode(path, codec: str, wave: np.ndarray, sr: int, bit_rate: int = 128_000, **options):
    """`path`, after a wave (S,) or (S, C) was written to it by FFmpeg's libraries; options are the container's."""
    wave = wave[:, None] if wave.ndim == 1 else wave
    layout = {1: "mono", 2: "stereo", 8: "7.1"}[wave.shape[1]]
    with av.open(str(path), "w", options=options) as file:
        stream = file.add_stream(codec, rate=sr, layout=layout)
        formats = stream.codec_context.codec.audio_formats
        stream.codec_context.format = kind = formats[0].name if formats else "s16"
        stream.bit_rate, convert = bit_rate, av.AudioResampler(kind, layout, sr)
        for at in range(0, len(wave), 4096):
            part = np.ascontiguousarray(wave[at : at + 4096], np.float32).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(part, "flt", layout)
            frame.sample_rate, frame.pts = sr, at
            for converted in convert.resample(frame):
                file.mux(stream.encode(converted))
        for converted in convert.resample(None):
            file.mux(stream.encode(converted))
        file.mux(stream.encode(None))
    return path


def hurt(data: bytes, how: str) -> bytes:
    """The bytes of a file after an accident: 'flip' a bit, 'noise' over a hundredth, 'cut' at 60 %, 'short' by one."""
    data = bytearray(data)
    if how == "flip":
        data[len(data) // 2] ^= 4
    elif how == "noise":
        size = max(len(data) // 100, 1500)
        data[len(data) // 2 : len(data) // 2 + size] = np.random.default_rng(0).bytes(size)
    elif how == "cut":
        del data[len(data) * 6 // 10 :]
    elif how == "short":
        del data[-1:]
    return bytes(data)
