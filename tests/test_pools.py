"""Pools: who may teach what, how many pairs a ratio means, what is refused, what is said, and that no test piece teaches."""

from dataclasses import replace

import lookalikes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amt_nb.cqt import CQTConfig
from amt_nb.notes import as_notes
from amt_nb.transcription.unpaired import NEVER, TEACH, for_training, held_back, pools_of
from amt_nb.workshop import recordings as rooms
from amt_nb.workshop.corpora import Features, prepare, save_checked
from amt_nb.workshop.gardner import gardner as gardner_recordings
from amt_nb.workshop.musicnet import musicnet
from amt_nb.workshop.pools import PER_MINUTE, split
from amt_nb.workshop.recordings import CHOOSE, REPORT, leaks, likeness, without_leaks
from amt_nb.workshop.settings import UserError, fill


def fake(id, role="train", chunks=10, sound=True, notes=True, piece=None, notes_path=None):
    """Features of a recording that nobody reads: of so many chunks, a piece of its own."""
    roll = f"{id}.roll" if notes else None
    return Features(id, piece or id, "", role, 256 * chunks, "toy", f"{id}.cqt" if sound else None, roll, notes_path)


def chunks(rows):
    """The chunks of a pool as a set."""
    return set(map(tuple, rows.tolist()))


def ids(pools, rows):
    """The recordings that a pool draws from."""
    return {pools.features[i].id for i, _ in rows}


def refused(call, *words):
    """Asserts a UserError of one line that holds the words; returns it."""
    with pytest.raises(UserError) as e:
        call()
    line = str(e.value)
    assert "\n" not in line and len(line) < 400
    for word in words:
        assert word in line, (word, line)
    return line


# ---- roles ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [*TEACH, *CHOOSE, *REPORT, *NEVER])
def test_a_role_lets_teach_what_it_says_and_nothing_else(role):
    found = for_training([fake("a", role)])
    if role not in TEACH:
        assert found == []
        return
    (f,) = found
    sound, notes = f.cqt_path is not None, f.roll_path is not None
    assert (sound, notes) == {"both": (True, True), "sound": (True, False), "notes": (False, True)}[TEACH[role]]
    pools = split(found, ratio="1:1" if sound and notes else "0:1")
    assert bool(len(pools.paired)) == (sound and notes) and bool(len(pools.audio)) == sound
    assert bool(len(pools.score)) == notes


def test_an_unknown_role_and_one_that_leaves_nothing_are_one_line():
    refused(lambda: for_training([fake("x/1", "unpared")]), "x/1", "unpared", "did you mean 'unpaired'")
    refused(lambda: for_training([fake("x/1", "unpaired", sound=False)]), "x/1", "sound alone may teach")
    refused(lambda: for_training([fake("x/1", "score", notes=False)]), "x/1", "notes alone may teach")
    refused(lambda: pools_of([fake("x/1", "paired", notes=False)]), "x/1", "named as a pair")


def test_musicnet_beside_concerts_gives_pairs_sound_and_scores(tmp_path):
    """A look-alike of MusicNet-EM and of the Gardner Museum: three songs are pairs, concerts the sound, the rest scores."""
    songs = musicnet(lookalikes.musicnet(tmp_path, seconds=6.0))
    concerts = gardner_recordings(lookalikes.gardner(tmp_path), tmp_path / "c", tmp_path / "musicnet_yourmt3_16k")
    assert {r.role for r in concerts} == {"unpaired"} and not any(r.notes for r in concerts)
    features = prepare([*songs, *concerts], tmp_path / "c", fill(CQTConfig, "demo", "cqt"), 1, progress=False)
    roles = {f.id: f.role for f in features}
    pools = pools_of(features)
    assert ids(pools, pools.paired) == {i for i, role in roles.items() if role == "paired"}
    assert ids(pools, pools.score) == {i for i, role in roles.items() if role == "score"} != set()
    assert ids(pools, pools.audio) == {r.id for r in concerts} and len(ids(pools, pools.paired)) == 3
    assert pools.minutes["score"] > 0 and not [f for f in pools.features if f.role == "score" and f.cqt_path]


# ---- named pairs ------------------------------------------------------------------------------------------------


def test_named_pairs_are_the_anchor_whatever_else_has_labels():
    named, guitar = [fake(f"p{k}", "paired") for k in range(2)], [fake(f"g{k}") for k in range(10)]
    lone = fake("u", "unpaired", 30)
    pools = pools_of([*guitar[:5], *named, lone, *guitar[5:]])
    assert ids(pools, pools.paired) == {"p0", "p1"} and len(pools.paired) == 20
    assert len(pools.audio) == 100 + 30 and len(pools.score) == 100
    assert ids(pools, pools.score) == {f.id for f in guitar} == ids(pools, pools.audio) - {"u"}
    few = pools_of([*guitar, *named, lone], ratio="1:149")
    assert len(few.paired) == 1 and ids(few, few.paired) <= {"p0", "p1"} and len(few.audio) == 149
    some = pools_of([*guitar, *named, lone], minutes=1)
    assert len(some.paired) == 12 and ids(some, some.paired) <= {"p0", "p1"}
    assert chunks(few.paired) <= chunks(some.paired) <= chunks(pools_of([*guitar, *named, lone]).paired)


def test_more_pairs_than_are_named_is_ambiguous_and_refused():
    features = [fake("p", "paired"), *[fake(f"g{k}") for k in range(10)]]
    line = refused(lambda: pools_of(features, minutes=5), "5.0 minutes", "0.9 minutes are named", "8.5 minutes")
    assert "role paired" in line and "or not" in line
    refused(lambda: pools_of(features, ratio="1:1"), "named as pairs", "1:1")


def test_minutes_in_the_settings_hold_for_named_pairs_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings.ini").write_text("[common]\npool_minutes = 0.5\n")
    assert len(pools_of([fake("p", "paired", 30)]).paired) == round(0.5 * PER_MINUTE)
    refused(lambda: pools_of([fake("p", "paired", 30)], ratio="1:9"), "pool_minutes 0.5", "pool_ratio 1:9")


def test_a_share_and_minutes_say_two_things():
    for changes in (dict(minutes=1, ratio="1:9"), dict(minutes="1", ratio="0:1")):
        refused(lambda: pools_of([fake("a", chunks=99)], **changes), "two things", "paired:audio:score")
    assert len(pools_of([fake("a", chunks=99)], minutes=0, ratio="1:9").paired) == 10
    assert len(pools_of([fake("a", chunks=99)], minutes=1, ratio="1:2:3").paired) == 12


# ---- ratios -----------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    labelled=st.integers(1, 400),
    unheard=st.integers(0, 4000),
    lone=st.integers(0, 400),
    ratio=st.sampled_from(["1:1000", "1:100", "1:19", "1:9", "1:1", "1:0", "2:3"]),
)
def test_a_share_is_one_of_all_that_may_teach(labelled, unheard, lone, ratio):
    features = [
        fake("l", chunks=labelled),
        fake("u", chunks=unheard or 1, notes=False),
        fake("s", chunks=lone or 1, sound=False),
    ]
    p, u = map(float, ratio.split(":"))
    whole = labelled + ((unheard or 1) if u else 0)
    n = max(1, round(whole * p / (p + u)))
    if n > labelled:
        refused(
            lambda: split(features, ratio=ratio), ratio, f"{labelled / PER_MINUTE:,.1f} minutes have sound and notes"
        )
        return
    pools = split(features, ratio=ratio)
    assert len(pools.paired) == n and len(pools.audio) == (whole - n if u else 0)
    assert len(pools.score) == (labelled - n + (lone or 1) if u else 0)
    assert not chunks(pools.paired) & (chunks(pools.audio) | chunks(pools.score))


def test_the_share_of_the_help_on_six_minutes_of_labels():
    """1:100 of six labelled minutes among 317 unlabelled ones gave one chunk; it is the 101st part of all."""
    pools = split([fake("l", chunks=70), fake("u", chunks=3715, notes=False)], ratio="1:100")
    assert len(pools.paired) == 37 and len(pools.audio) == 3785 - 37
    line = refused(lambda: split(pools.features, ratio="1:9"), "32.3 minutes", "6.0 minutes", "323.0 minutes")
    assert "by ratio or by minutes" in line
    refused(lambda: split([fake("u", notes=False)], ratio="1:9"), "0.0 minutes have sound and notes", "0:1")


@settings(max_examples=60, deadline=None)
@given(
    minutes=st.sampled_from([0, 0.3, 1.0]),
    a=st.sampled_from([0, 1, 3, 10, 90]),
    s=st.sampled_from([0, 1, 3, 10, 90]),
    unpaired=st.sampled_from(["same", "disjoint"]),
    seed=st.integers(0, 9),
)
def test_multiples_are_multiples_of_one_paired_budget(minutes, a, s, unpaired, seed):
    features = [fake(f"l{k}", chunks=10) for k in range(40)] + [fake("u", chunks=50, notes=False)]
    pools = split(features, ratio=f"1:{a}:{s}", minutes=minutes, unpaired=unpaired, seed=seed)
    n = len(pools.paired)
    if minutes:
        other = split(features, ratio="1:1:1", minutes=minutes, unpaired="same", seed=seed)
        assert n == round(minutes * PER_MINUTE) and (pools.paired == other.paired).all()
    for name, part in (("audio", a), ("score", s)):
        have = len(getattr(pools, name))
        assert have <= n * part
        if have < n * part - part:
            assert (
                pools.asked[name] == round(n * part / PER_MINUTE, 2)
                and f"{pools.asked[name]:,.1f}" in pools.words[name]
            )
        if name not in pools.asked and minutes:
            assert have == n * part
    if not minutes and max(a, s):
        assert n == max(1, round((400 + (50 if a >= s else 0)) / (1 + max(a, s))))
    if unpaired == "disjoint":
        assert not ids(pools, pools.audio) & ids(pools, pools.score)


def test_without_pairs_multiples_are_of_each_other():
    pools = split([fake("a", chunks=90)], ratio="0:9:1")
    assert (len(pools.paired), len(pools.audio), len(pools.score)) == (0, 90, 10)


def test_a_smaller_multiple_is_a_part_of_a_larger_one():
    features = [fake(f"l{k}", chunks=10) for k in range(40)]
    sets = [split(features, ratio=f"1:{a}:{a}", minutes=0.5) for a in (1, 3, 10, 60)]
    for small, large in zip(sets, sets[1:]):
        assert chunks(small.audio) <= chunks(large.audio) and chunks(small.score) <= chunks(large.score)


def test_a_cap_below_half_a_chunk_is_no_absent_cap():
    assert len(split([fake("a", chunks=90)], ratio="1:1", unpaired_minutes=0.01).audio) == 1


def test_disjoint_means_pieces_of_all_recordings():
    """Sound alone and scores alone of one piece, from two data sets, are no disjoint material either."""
    sound = [fake(f"maps{k}", "unpaired", 10, notes=False, piece=f"piece {k}") for k in range(6)]
    scores = [fake(f"asap{k}", "score", 10, sound=False, piece=f"piece {k}") for k in range(3, 9)]
    pools = split([*sound, *scores], ratio="0:1", unpaired="disjoint")
    piece = lambda rows: {pools.features[i].piece for i, _ in rows}
    assert not piece(pools.audio) & piece(pools.score) and len(piece(pools.audio) | piece(pools.score)) == 9
    assert {"piece 0", "piece 1", "piece 2"} <= piece(pools.audio)


# ---- leaks ------------------------------------------------------------------------------------------------------


def piece_of(seed, n=200):
    """Notes of a piece of its own."""
    rng = np.random.default_rng([seed, 5])
    onset = np.cumsum(rng.uniform(0.05, 0.3, n))
    return as_notes(onset, onset + 0.2, rng.integers(40, 90, n))


@pytest.fixture
def noted(tmp_path):
    """Makes features whose notes lie in a file."""

    def make(id, role, seed, **more):
        path = save_checked(tmp_path / f"{id}.notes.npy", piece_of(seed))
        return replace(fake(id, role, **more), notes_path=str(path))

    return make


@pytest.mark.parametrize("judge", [*CHOOSE, *REPORT])
@pytest.mark.parametrize("role", [r for r in TEACH if r])
def test_no_test_piece_teaches_by_name_or_by_notes(noted, judge, role):
    test = noted("t", judge, 1)
    features = [
        test,
        noted("same notes", role, 1),
        replace(noted("same piece", role, 2), piece="t"),
        noted("free", role, 3),
    ]
    assert [f.id for f in for_training(features)] == ["free"]
    told = dict(held_back(features))
    assert set(told) == {"same notes", "same piece"} and "100% of the notes" in told["same notes"]
    assert all("as in t" in why for why in told.values())
    assert "same piece" not in {f.id for f in pools_of(features, ratio="0:1").features}


def test_what_overlaps_with_the_test_never_teaches():
    features = [fake("a"), fake("b", "overlap")]
    assert [f.id for f in for_training(features)] == ["a"] and "overlap" in dict(held_back(features))["b"]


def test_all_at_once_finds_what_pair_by_pair_finds():
    rng = np.random.default_rng(0)
    train = [rooms.Recording(f"a{k}", f"a{k}", notes=piece_of(k, 60)) for k in range(12)]
    test = []
    for k in range(9):
        notes = piece_of(k if k < 5 else 100 + k, 60)
        test.append(
            rooms.Recording(f"b{k}", f"b{k}", notes=notes[np.sort(rng.choice(60, 50 + k % 3 * 5, replace=False))])
        )
    test.append(rooms.Recording("short", "short", notes=piece_of(0, 5)))
    prints = {r.id: rooms.fingerprint(r.notes) for r in [*train, *test]}
    slow = {}
    for r in train:
        best = max((likeness(prints[r.id], prints[t.id]), t.id) for t in test)
        if best[0] >= rooms.SAME_PIECE:
            slow[r.id] = best
    found = {a: (why, b) for a, b, why in leaks(train, test)}
    assert set(found) == set(slow) and len(slow) > 2
    assert all(found[a] == (f"{share:.0%} of the notes are the same", b) for a, (share, b) in slow.items())
    assert leaks(train, []) == [] == leaks([], test) and len(without_leaks(train, test)) == 12 - len(slow)


def test_leaks_are_cheap_enough_for_a_large_data_set():
    """Two hundred times two hundred recordings: pair by pair this takes half a minute."""
    import time

    many = [rooms.Recording(f"m{k}", f"m{k}", notes=piece_of(k, 1500)) for k in range(400)]
    began = time.process_time()
    assert leaks(many[:200], many[200:]) == []
    assert time.process_time() - began < 5
