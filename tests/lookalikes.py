"""Data sets that look like the real ones: names, columns, formats and folders of the originals, a handful of recordings
of a dozen seconds each, synthesised from the labels that lie beside them."""

import csv
import functools
import io
import json
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import soundfile

from amt_nb.notes import as_notes
from amt_nb.workshop.grids import INSTRUMENT_PROGRAMS
from amt_nb.workshop.midi import PEDAL_DTYPE, read_midi, under_pedal, write_midi
from amt_nb.workshop.synth import legato_pedal, render

SECONDS = 12.0


def seed_of(*names):
    """A number that names give, the same in every process."""
    return zlib.crc32(" ".join(map(str, names)).encode())


@functools.lru_cache(maxsize=256)
def tune(seed, seconds=SECONDS, instruments=(0,), low=43):
    """Notes (N,) of a piece of its own: a walk over a scale for each instrument, chords under the first one."""
    rng, parts = np.random.default_rng([seed, 31]), []
    scale = np.sort(rng.choice(12, 7, replace=False)) + rng.integers(0, 5)
    steps = np.concatenate([scale + 12 * k for k in range(4)])
    for n, instrument in enumerate(instruments):
        onset = np.cumsum(rng.choice([0.15, 0.3, 0.45], int(seconds / 0.2))) + 0.3 + 0.05 * n
        onset = onset[onset < seconds - 1]
        place = np.clip(14 + np.cumsum(rng.integers(-2, 3, len(onset))), 0, len(steps) - 1)
        long = onset + rng.uniform(0.1, 0.28, len(onset))
        parts.append(as_notes(onset, long, low + steps[place], rng.integers(50, 100, len(onset)), instrument))
        if n == 0:
            beats = np.arange(0.3, seconds - 1.5, 1.2)
            bass = low + steps[rng.integers(0, 7, len(beats))]
            parts.append(as_notes(beats, beats + 0.9, bass, 60, instrument))
    notes = np.concatenate(parts)
    return notes[np.lexsort((notes["pitch"], notes["onset_s"]))]


def pedal_rows(pedal):
    """Pedal (K, 2) of time_s and value as rows that `write_midi` takes."""
    return np.array([(t, v, 0) for t, v in pedal], PEDAL_DTYPE)


def save_sound(path, notes, sr, channels=1, pedal=None, seconds=SECONDS, subtype="PCM_16", late_s=0.0):
    """Writes the sound of `notes` to `path`; late_s: how much later than its labels it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    moved = notes.copy()
    moved["onset_s"] += late_s
    moved["offset_s"] += late_s
    wave = render(moved, sr, pedal=None if pedal is None else pedal + [late_s, 0], seconds=seconds)
    soundfile.write(path, np.stack([wave] * channels, 1), sr, subtype=subtype)


# ---- MAESTRO ------------------------------------------------------------------------------------------------------

MAESTRO_COLUMNS = "canonical_composer canonical_title split year midi_filename audio_filename duration".split()
MAESTRO_PIECES = (
    ("Alban Berg", "Sonata Op. 1"),
    ("Franz Schubert / Franz Liszt", 'Lied, "Ständchen"'),
    ("Frédéric Chopin", "Ballade No. 1 in G Minor, Op. 23"),
    ("Sergei Rachmaninoff", "Étude-tableau Op. 39, No. 5"),
)


def maestro_rows(train=6, validation=2, test=2, rates=(44100, 48000), seconds=SECONDS):
    """Rows of the table as dicts, each with its sample rate under `rate`."""
    splits = ["train"] * train + ["validation"] * validation + ["test"] * test
    rows = []
    for k, split in enumerate(splits):
        composer, title = MAESTRO_PIECES[k % len(MAESTRO_PIECES)]
        year = (2018, 2004, 2011)[k % 3]
        stem = f"{year}/MIDI-Unprocessed_Chamber{k}_MID--AUDIO_{k:02d}_R3_{year}_wav--{k % 4 + 1}"
        values = composer, f"{title} ({k})", split, year, f"{stem}.midi", f"{stem}.wav", seconds - 0.75
        rows.append(dict(zip(MAESTRO_COLUMNS, values)) | {"rate": rates[k % len(rates)]})
    return rows


def maestro(root, version="3.0.0", formats=("csv", "json"), sound=True, **sizes):
    """Folder root/maestro-v`version` with years, stereo wav, midi with pedal, and the table in these formats."""
    folder, rows = Path(root) / f"maestro-v{version}", maestro_rows(**sizes)
    folder.mkdir(parents=True)
    seconds = sizes.get("seconds", SECONDS)
    for k, row in enumerate(rows):
        notes = tune(seed_of("maestro", k), seconds)
        pedal = legato_pedal(notes)
        (folder / row["midi_filename"]).parent.mkdir(exist_ok=True)
        write_midi(notes, folder / row["midi_filename"], resolution=480, pedal=pedal_rows(pedal))
        if sound:
            save_sound(folder / row["audio_filename"], notes, row["rate"], 2, pedal, seconds)
    told = [{c: r[c] for c in MAESTRO_COLUMNS} for r in rows]
    if "csv" in formats:
        text = io.StringIO()
        writer = csv.DictWriter(text, MAESTRO_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(told)
        (folder / f"maestro-v{version}.csv").write_text(text.getvalue(), encoding="utf-8")
    if "json" in formats:
        columns = {c: {str(k): r[c] for k, r in enumerate(told)} for c in MAESTRO_COLUMNS}
        (folder / f"maestro-v{version}.json").write_text(json.dumps(columns if version[0] == "3" else told))
    (folder / "README").write_text("Please visit the page of the data set")
    (folder / "LICENSE").write_text("Creative Commons Attribution-NonCommercial-ShareAlike 4.0")
    return folder


def zipped(folder, archive):
    """Zip archive of `folder`, the folder itself included; returns its path."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as z:
        for path in sorted(folder.rglob("*")):
            z.write(path, path.relative_to(folder.parent))
    return archive


def tarred(folder, archive, name=None):
    """Tar archive of `folder` under `name`, compressed as its ending says; returns its path."""
    with tarfile.open(archive, f"w:{archive.suffix[1:]}") as t:
        t.add(folder, name or folder.name)
    return archive


# ---- MAPS ---------------------------------------------------------------------------------------------------------

MAPS_PIECES = (  # piano, piece as the data set calls it, seed of its notes
    ("AkPnBcht", "alb_se3", 1),
    ("AkPnBsdf", "chpn-p7", 2),
    ("SptkBGAm", "chpn_op10_e01", 3),  # the Disklavier's chpn-e01, by name
    ("StbgTGd2", "nobody_knows", 4),  # the Disklavier's mz_331_3, by its notes alone
    ("ENSTDkAm", "chpn-e01", 3),
    ("ENSTDkCl", "mz_331_3", 4),
)


def maps_label_text(notes):
    """Notes as the text beside a MAPS recording has them."""
    rows = "".join(f"{n['onset_s']:.6f}\t{n['offset_s']:.6f}\t{n['pitch']}\r\n" for n in notes)
    return "OnsetTime\tOffsetTime\tMidiPitch\r\n" + rows + "\r\n"


def maps(root):
    """Folder root/MAPS with a folder a piano, MUS and an ISOL that is not read; stereo wav, mid with pedal, txt."""
    folder = Path(root) / "MAPS"
    for piano, piece, seed in MAPS_PIECES:
        notes = tune(seed_of("maps", seed))
        stem = folder / piano / "MUS" / f"MAPS_MUS-{piece}_{piano}"
        pedal = legato_pedal(notes)
        save_sound(stem.with_suffix(".wav"), notes, 44100, 2, pedal)
        write_midi(notes, stem.with_suffix(".mid"), pedal=pedal_rows(pedal))
        stem.with_suffix(".txt").write_bytes(maps_label_text(notes).encode())
    isol = folder / "AkPnBcht" / "ISOL" / "NO" / "MAPS_ISOL_NO_F_S0_M60_AkPnBcht.wav"
    save_sound(isol, tune(0)[:1], 44100, 2, seconds=1.0)
    return folder


MAPS_PACKED = (
    ("alb_esp2_AkPnCGdD", "paired", 24),
    ("chpn-p7_AkPnBsdf", "unpaired", -16),
    ("ty_mai_ENSTDkAm", "real_val", 24),
)


def maps_packed(root):
    """Folder root/maps_packed with ogg at 16 kHz, labels.zip and splits.csv, whose sounds are audio_lag_ms late."""
    folder, rows = Path(root) / "maps_packed", ["recording,group,piece,composer,title,seconds,role,notes,audio_lag_ms"]
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "labels.zip", "w") as labels:
        for name, role, lag_ms in MAPS_PACKED:
            notes, stem = tune(seed_of("maps_packed", name)), f"MAPS_MUS-{name}"
            piece, _, piano = name.rpartition("_")
            wave = render(as_notes(*late(notes, lag_ms / 1000)), 16000, seconds=SECONDS)
            soundfile.write(folder / f"{stem}.ogg", wave, 16000, format="OGG", subtype="VORBIS")
            text = "".join(f"{n['onset_s']:.4f}\t{n['offset_s']:.4f}\t{n['pitch']}\t{n['velocity']}\n" for n in notes)
            labels.writestr(f"{stem}.tsv", "onset_s\toffset_s\tpitch\tvelocity\n" + text)
            rows.append(f"{stem},{piano},{piece},C,T,{SECONDS},{role},{len(notes)},{lag_ms}")
    (folder / "splits.csv").write_text("\n".join(rows) + "\n")
    return folder


def late(notes, seconds):
    """Columns of notes moved by seconds, as `as_notes` takes them."""
    return (
        notes["onset_s"] + seconds,
        notes["offset_s"] + seconds,
        notes["pitch"],
        notes["velocity"],
        notes["instrument"],
    )


# ---- ASAP ---------------------------------------------------------------------------------------------------------

ASAP_COLUMNS = (
    "composer,title,folder,xml_score,midi_score,midi_performance,performance_annotations,midi_score_annotations,"
    "maestro_midi_performance,maestro_audio_performance,start,end,audio_performance"
)


def asap(root):
    """Folder root/asap with metadata.csv and two pieces, of which one has two performances with pedal."""
    folder, rows = Path(root) / "asap", [ASAP_COLUMNS]
    for composer, title, place, players in (
        ("Bach", "Fugue_bwv_846", "Bach/Fugue/bwv_846", ("Shi05M", "Lee01M")),
        ("Chopin", "Etudes_op_10_1", "Chopin/Etudes_op_10/1", ("HSU02",)),
    ):
        (folder / place).mkdir(parents=True)
        notes = tune(seed_of("asap", title))
        write_midi(notes, folder / place / "midi_score.mid")
        for player in players:
            write_midi(notes, folder / place / f"{player}.mid", pedal=pedal_rows(legato_pedal(notes)))
            parts = [composer, title, place, "", f"{place}/midi_score.mid", f"{place}/{player}.mid"]
            parts += [f"{place}/{player}_annotations.txt", f"{place}/midi_score_annotations.txt"]
            parts += [
                f"{{maestro}}/2006/{player}.midi",
                f"{{maestro}}/2006/{player}.wav",
                "144.5",
                "",
                f"{place}/{player}.wav",
            ]
            rows.append(",".join(parts))
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    return folder


# ---- GuitarSet ----------------------------------------------------------------------------------------------------

GUITARSET_NAMES = (
    "00_BN1-129-Eb_comp",
    "01_Rock2-85-F_solo",
    "02_Funk2-119-G_comp",
    "04_Jazz1-200-B_comp",  # labels 0.309 s late
    "04_BN3-154-E_comp",  # labels 0.409 s late
    "05_SS3-98-C_solo",
)
GUITARSET_LATE_S = {"04_Jazz1-200-B_comp": 0.309, "04_BN3-154-E_comp": 0.409}


def jams(notes, title, seconds=SECONDS, doubled=False):
    """Text of a JAMS file as GuitarSet's: contour and notes of six strings, beats, tempo, chords and key."""
    about = {"curator": {"name": "", "email": ""}, "annotator": {}, "version": "", "corpus": "", "annotation_tools": ""}
    about |= {"annotation_rules": "", "validation": ""}
    annotations = []

    def add(namespace, data, source=""):
        head = {"annotation_metadata": about | {"data_source": source}, "namespace": namespace, "sandbox": {}}
        annotations.append(head | {"data": data, "time": 0, "duration": seconds})

    for string in range(6):
        mine = notes[np.arange(len(notes)) % 6 == string][::-1]  # out of order, as in the original
        rows = [
            {
                "time": float(n["onset_s"]),
                "duration": float(n["offset_s"] - n["onset_s"]),
                "value": n["pitch"] + 0.03,
                "confidence": None,
            }
            for n in mine
        ]
        values = [{"voiced": True, "index": 0, "frequency": 440.0}]
        add("pitch_contour", {"time": [0.1], "duration": [0.0], "value": values, "confidence": [None]}, str(string))
        add("note_midi", rows + (rows[:1] if doubled and string == 0 else []), str(string))
    beat = {"position": 1, "beat_units": 4, "measure": 1, "num_beats": 4}
    add("beat_position", [{"time": 0.0, "duration": 0.0, "value": beat, "confidence": None}])
    add("tempo", [{"time": 0.0, "duration": seconds, "value": 129.0, "confidence": 1.0}])
    add("chord", [{"time": 0.0, "duration": seconds, "value": "D#:maj", "confidence": None}])
    add("key_mode", [{"time": 0.0, "duration": seconds, "value": "Eb:major", "confidence": 1}])
    told = {
        "title": title,
        "artist": "",
        "release": "",
        "duration": seconds,
        "identifiers": {},
        "jams_version": "0.3.1",
    }
    return json.dumps({"annotations": annotations, "file_metadata": told, "sandbox": {}})


def guitarset(root):
    """Folder root/GuitarSet with annotation/*.jams, audio_mono-mic/*_mic.wav and one file of the pickups' folder."""
    folder = Path(root) / "GuitarSet"
    (folder / "annotation").mkdir(parents=True)
    for name in GUITARSET_NAMES:
        notes = tune(seed_of("guitarset", name[3:]), low=40)
        late_s = GUITARSET_LATE_S.get(name, 0.0)
        labels = notes.copy()
        labels["onset_s"] += late_s
        labels["offset_s"] += late_s
        text = jams(labels, name, doubled=name.startswith("02_Funk2"))
        (folder / "annotation" / f"{name}.jams").write_text(text)
        save_guitar(folder / "audio_mono-mic" / f"{name}_mic.wav", notes)
    save_guitar(folder / "audio_mono-pickup_mix" / f"{GUITARSET_NAMES[0]}_mix.wav", notes[:3])
    return folder


def save_guitar(path, notes, sr=44100):
    """Writes the sound of notes on a nylon guitar."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, render(notes, sr, program="nylon guitar", seconds=SECONDS), sr, subtype="PCM_16")


# ---- MusicNet and MusicNet-EM -------------------------------------------------------------------------------------

MUSICNET_COLUMNS = "id,composer,composition,movement,ensemble,source,transcriber,catalog_name,seconds"
MUSICNET_SONGS = {  # number: composer, catalogue, ensemble, instruments (indices of grids.INSTRUMENTS)
    "1727": ("Schubert", "OP114", "Piano Quintet", (0, 2, 3, 4)),
    "1728": ("Schubert", "OP114", "Piano Quintet", (0, 2, 3, 4)),
    "1735": ("Schubert", "D958", "Solo Piano", (0,)),
    "1758": ("Mozart", "K465", "String Quartet", (2, 3, 4)),
    "1759": ("Schubert", "D959", "Solo Piano", (0,)),
    "1788": ("Mozart", "K452", "Quintet", (0, 7, 8, 9, 6)),
    "1819": ("Mozart", "K375", "Wind Octet", (6, 7, 8, 9)),
    "2075": ("Dvorak", "OP77", "String Quintet", (2, 3, 4)),
    "2104": ("Bach", "BWV1007", "Solo Cello", (4,)),
    "2116": ("Brahms", "OP120", "Clarinet and Piano", (0, 9)),
    "2194": ("Bach", "BWV1013", "Solo Flute", (10,)),  # has no EM labels
    "2203": ("Bach", "BWV1013", "Solo Flute", (10,)),
    "2628": ("Faure", "OP15", "Piano Quartet", (0, 2, 3, 4)),
}
MUSICNET_NO_EM = ("2194",)


def musicnet_csv(notes):
    """Text of one of MusicNet's own label files: samples at 44.1 kHz, programs counted from 1."""
    programs = np.array(INSTRUMENT_PROGRAMS)[notes["instrument"]] + 1
    rows = [
        f"{round(n['onset_s'] * 44100)},{round(n['offset_s'] * 44100)},{p},{n['pitch']},{n['onset_s'] * 2},0.5,Eighth"
        for n, p in zip(notes, programs)
    ]
    return "start_time,end_time,instrument,note,start_beat,end_beat,note_value\n" + "\n".join(rows) + "\n"


def musicnet(root, layout="yourmt3", seconds=SECONDS):
    """Folder root/musicnet_yourmt3_16k (16 kHz, EM labels in train_em and test_em) or, layout="original",
    root/musicnet (44.1 kHz, musicnet_em beside it); in both unaligned scores lie around under the same numbers."""
    ours = layout == "yourmt3"
    folder, sr = Path(root) / ("musicnet_yourmt3_16k" if ours else "musicnet"), 16000 if ours else 44100
    table = [MUSICNET_COLUMNS]
    for number, (composer, catalogue, ensemble, instruments) in MUSICNET_SONGS.items():
        notes = tune(seed_of("musicnet", number), seconds, instruments)
        part = "test" if number in ("1759", "1819", "2628") else "train"
        table.append(
            f"{number},{composer},Work,1. Allegro,{ensemble},European Archive,someone,{catalogue},{seconds:.0f}"
        )
        save_sound(
            folder / f"{part}_data" / f"{number}.wav", notes, sr, seconds=seconds, subtype="PCM_16" if ours else "FLOAT"
        )
        aligned = folder / (f"{part}_em" if ours else "musicnet_em")
        score = folder / f"{part}_labels_midi" / f"{number}.mid"
        if not ours:
            score = folder / "musicnet_midis" / composer / f"{number}_{composer.lower()}_{catalogue.lower()}_1.mid"
        for place in (aligned, folder / f"{part}_labels", score.parent):
            place.mkdir(parents=True, exist_ok=True)
        if number not in MUSICNET_NO_EM:
            write_midi(notes, aligned / f"{number}.mid")
        (folder / f"{part}_labels" / f"{number}.csv").write_text(musicnet_csv(notes))
        unaligned = notes.copy()
        unaligned["onset_s"] *= 2
        unaligned["offset_s"] *= 2
        write_midi(unaligned, score)
    (folder / "musicnet_metadata.csv").write_text("\n".join(table) + "\n")
    return folder


# ---- Gardner Museum -----------------------------------------------------------------------------------------------

GARDNER_FILES = {  # name: (seconds, why it is left out, or None)
    "schubert_op114_musicians.mp3": (21.0, "name"),  # the same piece, played by others
    "mozart_unknown_quartet.mp3": (12.6, "duration"),  # as long as one recording
    "schubert_trout_complete.mp3": (24.5, "movements"),  # as long as both movements of op. 114
    "brahms_op25_ravinia.mp3": (18.0, None),
    "debussy_op10_marlboro.mp3": (31.0, None),
    "mozart_k465x_someone.mp3": (27.0, None),  # another token
}


def gardner(root):
    """Folder root/gardner with mp3 files (44.1 kHz, stereo) and urls.txt, which also names a file that is not there."""
    folder = Path(root) / "gardner"
    for name, (seconds, _) in GARDNER_FILES.items():
        save_sound(
            folder / name, tune(seed_of("gardner", name), seconds, (0, 2)), 44100, 2, None, seconds, "MPEG_LAYER_III"
        )
    names = [*GARDNER_FILES, "Handel%20op6_no11_AFarCry.mp3"]
    (folder / "urls.txt").write_text("".join(f"https://example.org/concerts/{n}\n" for n in names))
    return folder


# ---- Mazurka-BL ---------------------------------------------------------------------------------------------------

MAZURKA_BARS = 24


def mazurka_xml(pitches, upbeat):
    """MusicXML 2.0 of one voice in 3/4, a quarter a note, bars numbered from 1 as in the set, the first one an upbeat."""
    note = (
        "<note><pitch><step>{}</step><octave>{}</octave></pitch><duration>1</duration><voice>1</voice>"
        "<type>quarter</type></note>"
    )
    heads = ("<attributes><divisions>1</divisions><time><beats>3</beats><beat-type>4</beat-type></time></attributes>",)
    bars = (
        np.split(np.array(pitches), range(upbeat, len(pitches), 3)) if upbeat else np.split(pitches, len(pitches) // 3)
    )
    body = "".join(
        f'<measure number="{n}">{heads[0] if n == 1 else ""}'
        + "".join(note.format("CDEFGAB"[p % 7], 3 + p // 7) for p in bar)
        + "</measure>"
        for n, bar in enumerate(bars, 1)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><score-partwise version="2.0"><part-list><score-part id="P1">'
        f'<part-name>Piano</part-name></score-part></part-list><part id="P1">{body}</part></score-partwise>'
    )


def mazurka(root):
    """Folder root/MazurkaBL with tables of beats, scores and the sound of five recordings of three mazurkas.

    One mazurka has an upbeat, one has no score; one recording has no sound, one name stands in two tables."""
    folder = Path(root) / "MazurkaBL"
    for place in ("beat_time", "beat_dyn", "xml_scores", "sound/M17-2"):
        (folder / place).mkdir(parents=True)
    for work, upbeat, names in (
        ("M06-1", 1, ("pid1263-01", "pid9058-01", "pid52932-01")),
        ("M17-2", 0, ("pid1263-07", "pid9070b-01")),
        ("M63-2", 0, ("pid9070b-01",)),
    ):
        rng = np.random.default_rng(seed_of("mazurka", work))
        n = 3 * (MAZURKA_BARS - 1) + (upbeat or 3)
        walk = np.abs(np.cumsum(rng.choice([-2, -1, 1, 2, 3], n))) % 21
        bar, beat = np.divmod(np.arange(n) + (3 - upbeat if upbeat else 0), 3)
        times = {name: 0.8 + np.cumsum(rng.uniform(0.28, 0.42, n)) for name in names}
        rows = [["", "measure_number", "beat_number", *names]]
        rows += [[i, bar[i] + 1, beat[i], *(f"{times[name][i]:.7f}" for name in names)] for i in range(n)]
        text = io.StringIO()
        csv.writer(text).writerows(rows)
        (folder / "beat_time" / f"{work}beat_time.csv").write_text(text.getvalue())
        (folder / "beat_dyn" / f"{work}beat_dynNORM.csv").write_text(text.getvalue())
        if work != "M63-2":
            name = ("Mazurka" if work == "M06-1" else "mazurka") + work[1:] + ".xml"
            (folder / "xml_scores" / name).write_text(mazurka_xml(walk, upbeat))
        keys = np.array([48, 50, 52, 53, 55, 57, 59])[walk % 7] + 12 * (walk // 7)
        for name in names[: 2 if work == "M06-1" else None]:
            own = folder / "sound" / ("M17-2" if name == "pid9070b-01" else "")
            on = times[name]
            if work != "M63-2":
                save_sound(own / f"{name}.flac", as_notes(on, on + 0.3, keys), 22050, seconds=float(on[-1] + 1.5))
    return folder


def extended(path):
    """Notes of a MIDI file as long as the pedal holds them, by the other way: key-held notes, then the pedal."""
    from amt_nb.workshop.midi import pedal_events

    return under_pedal(read_midi(path), pedal_events(path))
