"""recordings and corpora: layouts, faults, leaks, resuming. All data sets are look-alikes made here."""

import errno
import json
import multiprocessing
import os
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings, strategies as st

from amt_nb.workshop import recordings as sources
from amt_nb.workshop import corpora as co
from amt_nb.workshop import renderings
from amt_nb.workshop import pools as pools_module
from amt_nb.cqt import CQTConfig
from amt_nb.notes import as_notes, to_roll, to_rolls
from amt_nb.workshop.files import DiskFull, save_array, temporary_name
from amt_nb.workshop.midi import write_midi
from amt_nb.workshop.asap import asap
from amt_nb.workshop.guitarset import guitarset
from amt_nb.workshop.maps import maps, table_file
from amt_nb.workshop.settings import Paths, UserError

FINE = CQTConfig(filter_scale=0.6, centre=0.5)
SR = 16000


def tune(seed, n=60, instruments=(0,)):
    rng = np.random.default_rng(seed)
    on = np.cumsum(rng.uniform(0.1, 0.4, n))
    return as_notes(on, on + rng.uniform(0.1, 0.5, n), rng.integers(40, 90, n), 80, rng.choice(instruments, n))


def noise(seed, seconds=12.0):
    return (np.random.default_rng(seed).normal(size=int(seconds * SR)) * 0.1).astype(np.float32)


class Tone:
    """A sound that travels to other processes."""

    def __init__(self, seed):
        self.seed = seed

    def __call__(self):
        return noise(self.seed), SR

    def key(self):
        return f"tone{self.seed}"


def recordings(n=6, **changes):
    return [
        sources.Recording(f"r{k}", f"piece{k}", "g", "train", 12.0, Tone(k), tune(k, 40), source="demo", **changes)
        for k in range(n)
    ]


def flat(chunks):
    return set(map(tuple, chunks.tolist()))


# ---------------------------------------------------------------- layouts


def maps_packed(path):
    path.mkdir()
    rows = [
        ("MAPS_MUS-alb_esp2_AkPnCGdD", "AkPnCGdD", "alb_esp2", "paired", 0),
        ("MAPS_MUS-chpn-e01_ENSTDkCl", "ENSTDkCl", "chpn-e01", "real_test", 16),
    ]
    with zipfile.ZipFile(path / "labels.zip", "w") as z:
        for name, *_ in rows:
            z.writestr(f"{name}.tsv", "onset_s\toffset_s\tpitch\tvelocity\n0.5\t1.0\t60\t53\n0.2\t0.4\t48\t50\n")
    for name, *_ in rows:
        soundfile.write(path / f"{name}.ogg", noise(0, 2.0), SR, format="OGG", subtype="VORBIS")
    (path / "splits.csv").write_text(
        "recording,group,piece,composer,title,seconds,role,notes,audio_lag_ms\n"
        + "".join(f"{a},{g},{p},C,T,2.0,{r},2,{lag}\n" for a, g, p, r, lag in rows)
    )
    return path


def test_maps_packed(tmp_path):
    a, b = maps(maps_packed(tmp_path / "maps"))
    assert (a.role, b.role, b.lag_s, b.piece) == ("paired", "real_test", 0.016, "chopin_etudes_op_10_1")
    assert a.load_notes()["pitch"].tolist() == [48, 60] and a.load_notes()["velocity"].tolist() == [50, 53]
    assert len(a.load_audio()[0]) == 2 * SR


def test_maps_original(tmp_path):
    for group, piece in (("AkPnBcht", "chpn_op10_e01"), ("AkPnBcht", "alb_se3"), ("ENSTDkCl", "chpn-e01")):
        folder = tmp_path / group / "MUS"
        folder.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"MAPS_MUS-{piece}_{group}.wav", noise(0, 1.0), 44100)
        if piece == "alb_se3":
            write_midi(tune(1), folder / f"MAPS_MUS-{piece}_{group}.mid")
        else:
            (folder / f"MAPS_MUS-{piece}_{group}.txt").write_text("OnsetTime\tOffsetTime\tMidiPitch\n0.5\t1.0\t60\n\n")
    roles = {r.id: r.role for r in maps(tmp_path)}
    assert roles == {
        "maps/MAPS_MUS-alb_se3_AkPnBcht": "train",
        "maps/MAPS_MUS-chpn_op10_e01_AkPnBcht": "overlap",
        "maps/MAPS_MUS-chpn-e01_ENSTDkCl": "test",
    }
    assert sorted(len(r.load_notes()) for r in maps(tmp_path)) == [1, 1, 60]


def asap_tree(root):
    folder = root / "asap" / "Chopin" / "Etudes_op_10" / "1"
    folder.mkdir(parents=True)
    write_midi(tune(1), folder / "midi_score.mid")
    write_midi(
        tune(1),
        folder / "HSU02.mid",
        pedal=np.array([(0.5, 127, 0), (1.0, 0, 0)], [("time_s", "f8"), ("value", "i2"), ("channel", "i2")]),
    )
    row = "Chopin,Etudes_op_10_1,Chopin/Etudes_op_10/1,,Chopin/Etudes_op_10/1/midi_score.mid,Chopin/Etudes_op_10/1/HSU02.mid,"
    gone = row.replace("HSU02", "missing")
    (root / "asap" / "metadata.csv").write_text(
        "composer,title,folder,xml_score,midi_score,midi_performance,audio_performance\n" + row + "\n" + gone + "\n"
    )
    return root


def test_asap_unpacked_packed_and_around(tmp_path):
    root = asap_tree(tmp_path / "tree")
    with tarfile.open(tmp_path / "asap.tar.xz", "w:xz") as t:
        t.add(root / "asap", "asap")
    a = asap(root / "asap")
    for other in (
        asap(root),
        asap(tmp_path / "asap.tar.xz", tmp_path / "cache"),
        asap(tmp_path / "asap.tar.xz", tmp_path / "cache"),
    ):
        assert [(r.id, r.piece, r.role) for r in a] == [(r.id, r.piece, r.role) for r in other]
    assert [r.role for r in a] == ["performance", "score"] and a[0].piece == sources.piece_key("chpn-e01")
    assert a[0].load_pedal().tolist() == pytest.approx(np.array([[0.5, 127], [1.0, 0]]), abs=1e-3)
    assert not list((tmp_path / "cache" / "unpacked").glob(".*"))


def test_broken_archive(tmp_path):
    (tmp_path / "asap.tar.xz").write_bytes(b"no archive at all")
    with pytest.raises(UserError, match="cannot be unpacked"):
        asap(tmp_path / "asap.tar.xz", tmp_path / "cache")
    assert not list((tmp_path / "cache" / "unpacked").iterdir())


def test_guitarset(tmp_path):
    (tmp_path / "annotation").mkdir(), (tmp_path / "audio_mono-mic").mkdir()
    jams = {
        "annotations": [
            {
                "namespace": "note_midi",
                "data": [{"time": 2.0, "duration": 0.5, "value": 64.4}, {"time": 1.0, "duration": 0.0, "value": 64.0}],
            },
            {"namespace": "chord", "data": [{"time": 0, "duration": 1, "value": "C"}]},
        ]
    }
    for name in ("00_BN1-129-Eb_comp", "04_BN3-154-E_comp"):
        (tmp_path / "annotation" / f"{name}.jams").write_text(json.dumps(jams))
    soundfile.write(tmp_path / "audio_mono-mic" / "00_BN1-129-Eb_comp_mic.wav", noise(0, 3.0), 44100)
    a, b = guitarset(tmp_path)
    assert (a.role, b.role, a.audio is None, b.audio, b.lag_s) == ("train", "validation", False, None, -0.409)
    assert a.load_notes()["onset_s"].tolist() == [1.0, 2.0] and a.load_notes()["offset_s"][0] > 1.0
    assert a.piece == "guitarset_bn1-129-eb" and a.seconds > 0
    with pytest.raises(UserError, match="has no sound"):
        b.load_audio()


def test_guitarset_tables_and_unlabelled(tmp_path):
    soundfile.write(tmp_path / "03_Jazz2-110-Bb_comp.ogg", noise(0, 1.0), SR, format="OGG", subtype="VORBIS")
    (tmp_path / "00_BN1-129-Eb_comp.tsv").write_text("onset_s offset_s pitch pitch_float string\n0.1 0.5 51 50.97 2\n")
    a, b = guitarset(tmp_path)
    assert a.load_notes()["velocity"].tolist() == [80] and b.load_notes() is None and b.audio


@pytest.mark.parametrize("name", ["maestro", "maps", "asap", "guitarset", "musicnet"])
def test_missing_and_empty_folders_are_named(tmp_path, name):
    for path in (None, tmp_path / "nowhere", tmp_path):
        with pytest.raises(UserError, match=name):
            co.dataset(name, Paths(cache=tmp_path / "cache", **{name: path}))


# ---------------------------------------------------------------- pieces and leaks


@pytest.mark.parametrize(
    "names",
    [
        ("chpn-e01", "chpn_op10_e01", "MAPS_MUS-chpn-e01", "Chopin Etudes_op_10_1"),
        ("chpn-p11-format0", "chpn-p11"),
        ("pathetique_2", "Beethoven/Piano_Sonatas_8-2"),
        ("schumm-1", "schubert_Moment_Musical_no_1"),
        ("scn16_4", "Schumann Kreisleriana_4"),
        ("mz_331_3", "Mozart Piano_Sonatas_11-3"),
        ("mz_311_1", "Mozart Piano_Sonatas_9-1"),
        ("liz_et_trans5", "Liszt Transcendental_Etudes_5"),
    ],
)
def test_one_key_for_all_names(names):
    assert len({sources.piece_key(n) for n in names}) == 1


def test_different_pieces_stay_apart():
    names = [
        "chpn-p1",
        "chpn-p11",
        "chpn_op25_e1",
        "chpn_op10_e1",
        "scn15_1",
        "scn16_1",
        "bach_847",
        "bach_850",
        "liz_et4",
        "liz_et_trans4",
    ]
    assert len({sources.piece_key(n) for n in names}) == len(names)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_a_performance_is_recognised_without_its_name(seed):
    """Another tempo, chords rolled, 5 % wrong notes: still the same piece; another tune: never."""
    rng = np.random.default_rng(seed)
    n = tune(seed, 200)
    m = n.copy()
    m["onset_s"] = n["onset_s"] * 1.3 + rng.normal(size=len(n)) * 0.005
    m["offset_s"] = m["onset_s"] + 0.1
    wrong = rng.random(len(n)) < 0.05
    m["pitch"][wrong] += 1
    m = m[np.argsort(m["onset_s"])]
    assert sources.likeness(sources.fingerprint(n), sources.fingerprint(m)) > sources.SAME_PIECE
    assert sources.likeness(sources.fingerprint(n), sources.fingerprint(tune(seed + 1, 200))) == 0


def test_leaks_by_name_and_by_notes():
    test = [sources.Recording("t", "a", notes=tune(1, 100))]
    train = [
        sources.Recording("same name", "a"),
        sources.Recording("same notes", "b", notes=tune(1, 100)),
        sources.Recording("other", "c", notes=tune(2, 100)),
        sources.Recording("sound only", "d"),
    ]
    assert [i for i, _, _ in sources.leaks(train, test)] == ["same name", "same notes"]
    assert [r.id for r in sources.without_leaks(train, test)] == ["other", "sound only"]


# ---------------------------------------------------------------- prepare


def test_prepare_resumes_and_serves_from_the_cache(tmp_path):
    first = co.prepare(recordings(2), tmp_path, FINE, 1, progress=False)
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "features").iterdir()}
    again = co.prepare(recordings(3), tmp_path, FINE, 1, progress=False)
    assert again[:2] == first and all(p.stat().st_mtime_ns == s for p, s in stamps.items())
    assert co.prepare(recordings(1), tmp_path, CQTConfig(), 1, progress=False)[0].cqt_path != first[0].cqt_path
    r = recordings(1)[0]
    assert np.array_equal(first[0].roll(), to_roll(r.load_notes(), first[0].frames)) and np.array_equal(
        first[0].load_notes(), r.load_notes()
    )
    assert first[0].frames == 600 and np.abs(first[0].cqt()).max() <= 1


def test_processes_agree_with_one(tmp_path):
    a = co.prepare(recordings(2), tmp_path / "a", FINE, 1, progress=False)
    b = co.prepare(recordings(2), tmp_path / "b", FINE, 2, progress=False)
    assert [f.id for f in b] == [f.id for f in a]
    assert all(np.array_equal(x.cqt(), y.cqt()) and np.array_equal(x.roll(), y.roll()) for x, y in zip(a, b))


def test_damaged_recordings_are_reported_not_fatal(tmp_path, capsys):
    good = recordings(1)
    soundfile.write(tmp_path / "whole.wav", noise(0), SR)
    (tmp_path / "torn.wav").write_bytes((tmp_path / "whole.wav").read_bytes()[:30])
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "words.tsv").write_text("onset\n\nthis is not a number\n")
    import functools

    bad = [
        sources.Recording("torn", "x", audio=tmp_path / "torn.wav"),
        sources.Recording("empty", "x", audio=tmp_path / "empty.wav"),
        sources.Recording("gone", "x", audio=tmp_path / "gone.wav"),
        sources.Recording(
            "labels", "x", audio=tmp_path / "whole.wav", notes=functools.partial(table_file, tmp_path / "words.tsv")
        ),
        sources.Recording("nothing", "x"),
    ]
    failures = []
    features = co.prepare(good + bad, tmp_path / "cache", FINE, 1, failures=failures, progress=False)
    assert [f.id for f in features] == ["r0"] and [i for i, _ in failures] == [
        "torn",
        "empty",
        "gone",
        "labels",
        "nothing",
    ]
    out = capsys.readouterr()
    assert out.out == "" and "5 of 6 recordings" in out.err and all(why for _, why in failures)


def test_full_disk_stops_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*a, **k):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    with pytest.raises(DiskFull, match="is full"):
        co.prepare(recordings(2), tmp_path, FINE, 1, progress=False)
    assert not list((tmp_path / "features").iterdir())
    with pytest.raises(DiskFull):
        save_array(tmp_path / "a.npy", np.zeros(3))


def test_killed_writers_leave_no_trace(tmp_path):
    folder = tmp_path / "features"
    folder.mkdir()
    old, new = temporary_name(folder / "a.npy"), temporary_name(folder / "b.npy")
    old.write_bytes(b"x"), new.write_bytes(b"x")
    os.utime(old, (0, 0))
    co.prepare([], tmp_path, FINE, 1, progress=False)
    assert not old.exists() and new.exists()  # the young one may belong to a living process


def _prepare_all(path):
    co.prepare(recordings(3), path, FINE, 1, progress=False)


def test_two_processes_share_a_cache(tmp_path):
    workers = [multiprocessing.get_context("spawn").Process(target=_prepare_all, args=(tmp_path,)) for _ in range(2)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert [w.exitcode for w in workers] == [0, 0] and not list((tmp_path / "features").glob(".*"))
    assert len(co.prepare(recordings(3), tmp_path, FINE, 1, progress=False)) == 3


def test_long_files_are_streamed_alike(tmp_path, monkeypatch):
    from amt_nb.workshop.synth import render

    wave = render(tune(3, 30), seconds=10.0)
    soundfile.write(tmp_path / "long.wav", wave, SR, subtype="FLOAT")
    r = sources.Recording("long", "x", audio=tmp_path / "long.wav")
    whole = co.prepare_one(r, tmp_path / "a", FINE).cqt()
    monkeypatch.setattr(co, "LONG_S", 5.0)
    streamed = co.prepare_one(r, tmp_path / "b", FINE).cqt()
    loud = whole > -0.5
    assert whole.shape == streamed.shape and np.abs(whole - streamed)[loud].max() < 0.01


def test_scores_without_sound_and_sounds_without_notes(tmp_path):
    score, sound = co.prepare(
        [sources.Recording("s", "a", notes=tune(0)), sources.Recording("w", "b", audio=Tone(0))],
        tmp_path,
        FINE,
        1,
        progress=False,
    )
    assert score.cqt_path is None and sound.load_notes() is None
    p = pools_module.split([score, sound], ratio="0:1")
    assert set(p.audio[:, 0]) == {1} and set(p.score[:, 0]) == {0} and not len(p.paired)
    b = pools_module.Batches(p, 2)(0)
    assert set(b) == {"audio", "score"}


@settings(max_examples=30, deadline=None)
@given(frames=st.integers(1, 256), every=st.integers(1, 300), most=st.integers(1, 6), step=st.integers(0, 9))
def test_crops_are_cut_on_the_grid_and_pairs_together(frames, every, most, step):
    import torch

    count = (
        torch.arange(256.0)[None, None, :, None] + 1000 * torch.arange(4.0)[:, None, None, None]
    )  # a value tells sample and frame
    whole = {"audio": count, "score": count, "paired_audio": count, "paired_score": -count}
    cut = pools_module.Crops(lambda step: whole, 5, frames, every, most)(step)
    for k, v in cut.items():
        first = v[:, 0, 0, 0].abs() - 1000 * torch.arange(len(v))
        assert (
            v.shape == (min(most, 4), 1, frames, 1)
            and (v.abs().diff(dim=2) == 1).all()
            and (first % every == 0).all()
            and first.min() >= 0
        )
    assert torch.equal(cut["paired_audio"], -cut["paired_score"])


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"frames": 257}, {"every": 0}])
def test_crops_longer_than_a_chunk_are_refused(wrong):
    with pytest.raises(UserError, match="1 to 256 frames"):
        pools_module.Crops(lambda step: {}, **wrong)


def test_a_changed_file_is_prepared_anew(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(1), SR)
    r = sources.Recording("a", "x", audio=tmp_path / "a.wav")
    one = co.prepare_one(r, tmp_path / "f", FINE).cqt_path
    soundfile.write(tmp_path / "a.wav", noise(2), SR)
    os.utime(tmp_path / "a.wav", (1, 1))
    assert co.prepare_one(r, tmp_path / "f", FINE).cqt_path != one


def test_cluster_without_dask_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "dask", None)
    with pytest.raises(UserError, match="dask"):
        co.prepare(recordings(1), tmp_path, FINE, cluster="tcp://localhost:1", progress=False)


@pytest.mark.parametrize("threads", (1, 2))
def test_a_cluster_prepares_as_a_table_does(threads, tmp_path):
    """On a worker of one thread what is made here; one of several is refused, as `amt-nb sweep` refuses it."""
    distributed = pytest.importorskip("distributed")
    here = dict(threads_per_worker=threads, processes=False, dashboard_address=None)
    with distributed.LocalCluster(1, **here) as cluster:
        made = lambda: co.prepare(recordings(2), tmp_path, FINE, cluster=cluster.scheduler_address, progress=False)
        if threads == 1:
            assert made() == co.prepare(recordings(2), tmp_path, FINE, n_jobs=1, progress=False)
        else:
            with pytest.raises(UserError, match="2 threads"):
                made()


# ---------------------------------------------------------------- pools and batches


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    cache = tmp_path_factory.mktemp("pool")
    made = [
        sources.Recording(f"r{k}", f"piece{k // 2}", "g", "train", 12.0, Tone(k), tune(k, 40, instruments=(k % 3, 2)))
        for k in range(10)
    ]
    return co.prepare(made, cache, FINE, 1, progress=False)


def fake(frames, piece="p"):
    return co.Features("f", piece, "", "", frames, cqt_path="x", roll_path="x", notes_path="x")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 3000), min_size=2, max_size=30),
    st.sampled_from(["0:1", "1:1000", "1:100", "1:19", "1:9", "1:0", "1:3:1", "2:1:5"]),
    st.sampled_from(["same", "disjoint"]),
    st.integers(0, 99),
)
def test_pools_keep_their_promises(lengths, ratio, unpaired, seed):
    features = [fake(n, f"p{k}") for k, n in enumerate(lengths)]
    total = sum(max(1, n // 256) for n in lengths)
    p = pools_module.split(features, ratio=ratio, unpaired=unpaired, seed=seed)
    q = pools_module.split(features, ratio=ratio, unpaired=unpaired, seed=seed)
    assert all(np.array_equal(getattr(p, k), getattr(q, k)) for k in ("paired", "audio", "score"))
    assert not flat(p.paired) & (flat(p.audio) | flat(p.score))
    assert len(flat(p.audio)) == len(p.audio) and len(flat(p.paired)) == len(p.paired)
    a, b, c = pools_module.parse_ratio(ratio)
    if not a:
        assert not len(p.paired)
    elif not b:
        assert len(p.paired) == total and not len(p.audio) and not len(p.score)
    else:
        assert len(p.paired) == max(1, round(total * a / (a + max(b, c))))
    if unpaired == "disjoint":
        assert not {features[i].piece for i, _ in p.audio} & {features[i].piece for i, _ in p.score}
    if b == c and unpaired == "same" and b:
        assert len(p.paired) + len(p.audio) == total


def test_few_pairs_are_part_of_many_and_spread():
    features = [fake(2560, f"p{k}") for k in range(50)]
    pools = [pools_module.split(features, minutes=m) for m in (1.0, 4.0, 20.0)]
    assert flat(pools[0].paired) < flat(pools[1].paired) < flat(pools[2].paired)
    assert [len(p.paired) for p in pools] == [12, 47, 234]
    assert len(set(pools[1].paired[:, 0])) >= 40  # 47 chunks over 50 recordings


def test_unpaired_minutes_cap():
    features = [fake(2560, f"p{k}") for k in range(50)]
    p = pools_module.split(features, minutes=1.0, unpaired_minutes=2.0)
    assert len(p.audio) == len(p.score) == round(2 * 60 * 50 / 256)


def test_bad_pools():
    for ratio in ("", "1", "1:-1", "0:0", "a:b", "1:2:3:4"):
        with pytest.raises(UserError, match="ratio"):
            pools_module.split([fake(2560)], ratio=ratio)
    with pytest.raises(UserError, match="same or disjoint"):
        pools_module.split([fake(2560)], unpaired="both")
    with pytest.raises(UserError, match="minutes"):
        pools_module.split([fake(2560)], minutes=99)
    with pytest.raises(UserError, match="empty"):
        pools_module.Batches(pools_module.split([]))


def test_zero_to_one_has_no_pair_anywhere(features):
    b = pools_module.Batches(pools_module.split(features, ratio="0:1"), 4, balanced=True, onsets=True)
    assert all(set(b(s)) == {"audio", "score"} for s in range(3)) and b.pools.minutes["paired"] == 0


def test_batches_hold_what_the_files_hold(features):
    p = pools_module.split(features, ratio="1:1", seed=3)
    b = pools_module.Batches(p, 3, seed=5, n_instruments=11, onsets=True)
    batch, rows = b(7), b.rows("paired", 7)
    for k, (i, s) in enumerate(rows):
        whole = to_rolls(features[i].load_notes(), features[i].frames)
        assert np.array_equal(batch["paired_score"][k].numpy() > 0, whole[:, s : s + 256])
        assert np.array_equal(batch["paired_audio"][k, 0].numpy(), features[i].cqt(s, 256))
        assert ((batch["paired_onset"][k] == 1) <= (batch["paired_score"][k] == 1)).all()
    assert batch["score"].shape == (3, 11, 256, 88) and str(batch["audio"].dtype) == "torch.float32"


def test_batches_do_not_remember(features):
    """Asked in any order, after any other steps, a step's batch is the same."""
    p = pools_module.split(features, ratio="1:1")
    a, b = pools_module.Batches(p, 3, seed=5), pools_module.Batches(p, 3, seed=5)
    late = a(200)
    for s in (3, 250, 1):
        b(s)
    assert all((late[k] == b(200)[k]).all() for k in late)
    assert not np.array_equal(pools_module.Batches(p, 3, seed=6).rows("audio", 0), a.rows("audio", 0))
    assert not np.array_equal(a.rows("audio", 0), a.rows("score", 0))  # sounds and scores are drawn apart


def test_an_epoch_is_a_permutation(features):
    p = pools_module.split(features, ratio="0:1")
    b = pools_module.Batches(p, 4)
    n = len(p.audio)
    rows = np.concatenate([b.rows("audio", s) for s in range(n)])  # 4 epochs
    assert all(flat(rows[e * n : (e + 1) * n]) == flat(p.audio) for e in range(4))


def test_balanced_batches_visit_every_instrument(features):
    p = pools_module.split(features, ratio="1:0")
    b = pools_module.Batches(p, 6, n_instruments=11, balanced=True, min_chunks=2)
    assert set(b.instruments) == {0, 1, 2}
    heard = (b(0)["paired_score"] > 0).any(-1).any(-1).numpy()
    assert heard[:, 0].sum() >= 2 and heard[:, 1].sum() >= 2 and heard[:, 2].sum() >= 2


def test_short_recordings_give_one_padded_chunk(tmp_path):
    short = sources.Recording("short", "x", audio=lambda: (noise(0, 2.0), SR), notes=as_notes([0.5], [1.0], [60]))
    b = pools_module.Batches(pools_module.split([co.prepare_one(short, tmp_path, FINE)], ratio="1:0"), 2)(0)
    assert (
        b["paired_audio"].shape == (2, 1, 256, 352)
        and (b["paired_audio"][:, :, 100:] == -1).all()
        and (b["paired_score"][:, :, 100:] == -1).all()
    )


# ---------------------------------------------------------------- synthetic recordings


def test_renderings_cut_notes_and_pedal_alike(tmp_path):
    score = sources.Recording("s", "p", notes=tune(5, 80), pedal=np.array([[1.0, 127.0], [9.0, 0.0], [9.5, 127.0]]))
    r = renderings.render_scores([score], seed=2, seconds_per_piece=4.0, cache=tmp_path)[0]
    n, p = r.load_notes(), r.load_pedal()
    assert len(r.load_audio()[0]) == 4 * SR and n["onset_s"].min() >= 0 and n["offset_s"].max() <= 4.0
    start = score.notes["onset_s"][np.flatnonzero(score.notes["pitch"] == n["pitch"][0])] - n["onset_s"][0]
    start = start[(start > 0)][
        np.argmin(
            [
                np.abs((score.notes["onset_s"][:, None] - s - n["onset_s"][:3]).__abs__()).min(0).sum()
                for s in start[start > 0]
            ]
        )
    ]
    if 1.0 < start < 9.0:
        assert p[0].tolist() == [0.0, 127.0]
    assert p[:, 0].min() >= 0


def test_rendering_is_deterministic_and_cached(tmp_path):
    score = sources.Recording("s", "p", notes=tune(5, 20))
    make = lambda cache, seed=2: renderings.render_scores(
        [score], ("piano", "nylon guitar"), seed=seed, human=True, pedal="legato", cache=cache
    )[0]
    a, b = make(tmp_path / "a").load_audio()[0], make(tmp_path / "b").load_audio()[0]
    assert np.array_equal(a, b) and len(list((tmp_path / "a" / "audio").iterdir())) == 1
    assert np.array_equal(make(tmp_path / "a").load_audio()[0], a) and np.abs(a).max() < 1
    assert make(tmp_path, 3).audio.key() != make(tmp_path).audio.key()


def test_other_scores_do_not_change_a_rendering(tmp_path):
    s = [sources.Recording(f"s{k}", f"p{k}", notes=tune(k, 20)) for k in range(3)]
    assert renderings.render_scores(s, seed=1)[1].audio == renderings.render_scores(s[1:2], seed=1)[0].audio
    assert len(renderings.render_scores(s, variants=2)) == 6


def test_embedded_corpus_promises():
    config = renderings.CorpusConfig(keyboard=5, chorales=40, quartets=20)
    items = co.embedded(config, "unused")
    assert len(items) == 65 and len({r.id for r in items}) == 65
    groups = {r.group for r in items}
    assert {
        "piano",
        "bright piano",
        "honky-tonk",
        "nylon guitar",
        "steel guitar",
        "winds",
        "mixed",
        "strings",
    } == groups
    roles = [r.role for r in items]
    assert roles.count("test") >= 8 and roles.count("validation") >= 4
    assert {r.group for r in items if r.role == "test"} >= {"piano", "nylon guitar", "winds", "strings"}
    test = {r.piece for r in items if r.role == "test"}
    assert not test & {r.piece for r in items if r.role != "test"}


def test_import_is_light():
    code = "import sys, amt_nb.workshop.corpora; assert not {'torch', 'music21', 'joblib', 'soundfile', 'scipy', 'tqdm', 'midirenderer', 'numba'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
