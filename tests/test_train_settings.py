"""amt-nb train: a setting that changes nothing is refused, a run says what it did, and the sceptic's conditions are fair."""

import json
import re
import warnings

import numpy as np
import pytest
import soundfile

from amt_nb.notes import as_notes
from amt_nb.workshop.cli_data import TRAINABLE
from amt_nb.workshop.settings import UserError, load
from amt_nb.workshop.synth import render

SR = 16000
TINY = (
    "train_warmup_steps=1 train_ema_start=1 train_prefetch=0 train_accelerator=cpu train_record_every=1 "
    "condition_paired_batch=2 condition_crop_frames=64 harmonic_width=4 harmonic_blocks=s harmonic_memory=0 harmonic_hidden=4"
).split()


def tune(seed, n=24):
    """Notes of a piece of its own, 7 s."""
    rng = np.random.default_rng(seed)
    onset = np.arange(n) * 0.27 + 0.2
    return as_notes(onset, onset + 0.22, rng.integers(45, 80, n), 80)


def data_set(folder, roles, thin=()):
    """A packed data set with one recording of each role, each a piece of its own; a role 'ROLE=k' has the notes of piece k;
    thin: numbers of the recordings whose labels lack every other note."""
    import zipfile

    folder.mkdir()
    rows = ["recording,piece,group,role,seconds,audio_lag_ms"]
    with zipfile.ZipFile(folder / "labels.zip", "w") as labels:
        for k, role in enumerate(roles):
            role, _, same = role.partition("=")
            notes = tune(int(same or k))
            soundfile.write(folder / f"r{k}.wav", render(notes, SR, seconds=7.0), SR)
            lines = "".join(
                f"{n['onset_s']:.4f}\t{n['offset_s']:.4f}\t{n['pitch']}\t{n['velocity']}\n"
                for n in notes[:: 1 + (k in thin)]
            )
            labels.writestr(f"r{k}.tsv", "onset_s\toffset_s\tpitch\tvelocity\n" + lines)
            rows.append(f"r{k},piece{k},g,{role},7.0,0")
    (folder / "splits.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """A data set with everything a condition may want."""
    return data_set(tmp_path_factory.mktemp("sets") / "d", ["paired", "paired", "unpaired", "score", "real_val"])


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Features, shared by the tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def train(shell, maps, cache):
    """amt-nb train in ./run, as short as can be; --set as given, with TINY."""

    def run(*words, data=maps, settings=(), steps=2, condition="direct", folder="run"):
        from amt_nb.transcription.conditions import reads

        given = {item.partition("=")[0] for item in settings}
        tiny = [s for s in TINY if reads(condition, s.partition("=")[0]) and s.partition("=")[0] not in given]
        where = ["--data", f"maps={data}", "--cache", cache, "--jobs", 1, "--steps", steps, "--condition", condition]
        return shell("train", folder, *where, *words, "--set", *tiny, *settings)

    return run


def header(path="run/weights.safetensors"):
    """(card, configurations) of a file of weights."""
    from amt_nb.workshop.weights import load_weights

    with open(path, "rb") as file:
        text = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return json.loads(text["__metadata__"]["card"]), load_weights(path)[1]


def tensors(path):
    """Checksum of the tensors in a file of weights."""
    from amt_nb.workshop.files import checksum
    from amt_nb.workshop.weights import read_weights

    return checksum(*(v for _, v in sorted(read_weights(path)[0].items())))


# ---- what is set is used, or refused ------------------------------------------------------------------------------


def test_the_command_line_knows_every_condition():
    from amt_nb.transcription.conditions import CONDITIONS

    assert TRAINABLE == tuple(CONDITIONS)


@pytest.mark.parametrize("condition", TRAINABLE)
def test_every_key_of_the_settings_is_read_or_refused(condition):
    """For each key that there is: read exactly where the condition has a configuration with that field and uses it."""
    from dataclasses import fields

    from amt_nb.transcription.conditions import CONDITIONS, check_changes, reads

    known, way = load()["demo"], CONDITIONS[condition]
    right = {f"{prefix}_{f.name}" for prefix, cls in way.reads.items() for f in fields(cls)}
    assert way.unread <= right, "a key that is not read, and that there is not"
    assert {key for key in known if reads(condition, key)} == (right - way.unread) & set(known)
    wrong = {key.partition("_")[0]: key for key in known if not reads(condition, key)}
    for prefix, key in wrong.items():
        with pytest.raises(UserError, match=f"does not read {key}"):
            check_changes(condition, "demo", {prefix: {key.removeprefix(f"{prefix}_"): known[key]}})


@pytest.mark.parametrize("setting", ["pool_seed=7", "pool_ratio=1:2", "pool_minutes=0.1", "cqt_top_db=70"])
def test_a_setting_of_pools_and_features_changes_the_run(train, setting):
    """What is accepted does something: the pairs, the features, or what the header says is another one."""
    key = setting.partition("=")[0]
    assert train(folder="a")[0] == 0 and train(settings=[setting], folder="b")[0] == 0
    runs = [json.loads(open(f"{name}/run.json").read()) for name in "ab"]
    assert runs[0] != runs[1]
    cards = [header(f"{name}/weights.safetensors") for name in "ab"]
    if key == "cqt_top_db":
        assert [about["cqt"]["top_db"] for _, about in cards] == [80, 70] and runs[0]["recordings"] != runs[1][
            "recordings"
        ]
    if key in ("pool_ratio", "pool_minutes"):
        assert cards[0][0]["minutes"]["paired"] != cards[1][0]["minutes"]["paired"]


def test_transcription_hears_the_cqt_that_training_heard(train, maps, cache):
    """The features that a run learnt from are those that its own weights make of the same sound."""
    from amt_nb.transcription.transcribe import load_model
    from amt_nb.workshop.streaming import cqt

    assert train(settings=["cqt_top_db=60", "cqt_centre=0.25"])[0] == 0
    model = load_model("./run/weights.safetensors")
    assert (model.cqt.top_db, model.cqt.centre) == (60, 0.25)
    wave, sr = soundfile.read(maps / "r0.wav", dtype="float32")
    made = cqt(wave, sr, model.cqt).astype(np.float16)
    from amt_nb.workshop.recordings import digest

    kept = [np.load(p) for p in (cache / "features").glob(f"*-{digest(model.cqt)}.cqt.npy")]
    assert any(k.shape == made.shape and np.abs(k - made).max() < 2e-3 for k in kept)


REFUSED = {
    "corpus of no corpus": ("corpus_seconds=4", "direct"),
    "the aligner's": ("path_floor=0.1", "direct"),
    "unpaired pools of pairs alone": ("pool_unpaired=disjoint", "direct"),
    "unpaired chunks of pairs alone": ("condition_batch=4", "paired"),
    "another net's": ("g_width=4", "direct"),
    "another stage's": ("piano_steps=5", "renderings"),
    "the teacher's": ("teacher_decay=0.9", "pseudo_labels"),
    "crops of whole chunks": ("condition_crop_frames=64", "cycle"),
    "discriminators of pairs alone": ("dx_width=4", "paired"),
    "the cycle's weight": ("cycle_lambda_fm=1", "paired"),
}


@pytest.mark.parametrize("setting, condition", REFUSED.values(), ids=REFUSED)
def test_a_setting_that_nothing_reads_is_refused_before_anything_is_computed(shell, maps, setting, condition):
    words = ["train", "run", "--data", f"maps={maps}", "--cache", "c", "--condition", condition, "--set", setting]
    code, _, err = shell(*words)
    assert code == 1 and len(err.splitlines()) == 1
    assert setting.partition("=")[0] in err and condition in err
    from pathlib import Path

    assert not Path("c").exists() and not Path("run").exists()


def test_the_users_own_file_is_told_of_exactly_what_training_does_nothing_with(train, tmp_path):
    (tmp_path / "settings.ini").write_text(
        "[common]\nsplit_maps = usual\npool_seed = 3\npool_unpaired = disjoint\ng_width = 4\ncqt_top_db = 80\ncorpus_seed = 1\n"
    )
    code, _, err = train()
    assert code == 0 and "does nothing with corpus_seed, g_width, pool_unpaired" in err
    assert not re.search("pool_seed|cqt_top_db|split_maps", err)


# ---- ratio and minutes ------------------------------------------------------------------------------------------


def test_minutes_and_multiples_go_together_and_a_share_and_minutes_do_not(train):
    code, _, err = train("--minutes", "0.1", "--ratio", "1:1:1")
    assert code == 0, err
    card, _ = header()
    assert card["minutes"] == {"paired": 0.09, "audio": 0.09, "score": 0.09}
    for ratio in ("1:9", "0:1"):
        code, _, err = train("--minutes", "0.1", "--ratio", ratio, folder="other")
        assert code == 1 and len(err.splitlines()) == 1 and "two things" in err


def test_a_pool_that_is_smaller_than_asked_for_is_said_where_it_is_learnt_from(train):
    settings = ["condition_batch=1", "teacher_weight=1"]
    code, _, err = train("--minutes", "0.1", "--ratio", "1:90:1", condition="mean_teacher", settings=settings)
    assert code == 0 and "asks for 7.7 minutes of unpaired sound" in err, err
    assert header()[0]["asked"] == {"audio": 7.68}
    code, _, err = train("--minutes", "0.1", "--ratio", "1:90:1", folder="pairs alone")
    assert code == 0 and "asks for" not in err and header("pairs alone/weights.safetensors")[0]["asked"] == {}


# ---- leaks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["paired", "unpaired", "score", "overlap"])
def test_train_leaves_out_and_names_what_has_a_test_piece(train, tmp_path, role):
    same = "" if role == "overlap" else "=3"
    roles = ["paired", "paired", f"{role}{same}", "real_test", "real_val", "unpaired", "score"]
    data = data_set(tmp_path / "leaky", roles)
    code, _, err = train(data=data, condition="mean_teacher", settings=["condition_batch=1"])
    assert code == 0, err
    assert "1 recordings do not teach" in err and "maps/r2 (" in err
    card, _ = header()
    assert card["left_out"] == ["maps/r2"] and card["recordings"] == 4


# ---- chosen by what -----------------------------------------------------------------------------------------------


def test_the_last_step_stands_where_nothing_is_chosen_and_the_card_says_so(train):
    from amt_nb.workshop.weights import read_weights

    assert train(settings=["train_best=", "train_validate_every=1"], steps=3)[0] == 0
    card, _ = header()
    assert card["best"] is None and card["chosen"] == "the last step: no label was looked at" and card["steps"] == 3
    last, kept = (read_weights(f"run/{n}.safetensors")[0] for n in ("last", "weights"))
    assert all((last[k] == v).all() for k, v in kept.items()) and kept


def test_a_checkpoint_is_chosen_by_the_sound_alone(train, tmp_path):
    data = data_set(tmp_path / "d", ["paired", "paired", "unpaired"])  # nothing to choose on but unlabelled sound
    settings = ["train_best=support_f1", "train_validate_every=1"]
    assert train(data=data, settings=settings, steps=3)[0] == 0
    card, _ = header()
    assert set(card["best"]["metrics"]) == {"support_f1"} and "no label" in card["chosen"]
    assert train(data=data, settings=["train_validate_every=1"], folder="plain")[0] == 0
    assert "nothing to choose on" in header("plain/weights.safetensors")[0]["chosen"]


def test_labels_do_not_change_what_is_chosen_by_sound(train, tmp_path):
    settings, cards = ["train_best=support_f1", "train_validate_every=1"], []
    for name in ("a", "b"):
        data = data_set(tmp_path / name, ["paired", "paired", "real_val"], thin={2} if name == "b" else ())
        assert train(data=data, settings=settings, steps=3, folder=f"run {name}")[0] == 0
        cards.append(header(f"run {name}/weights.safetensors")[0])
    assert cards[0]["best"]["metrics"]["support_f1"] == cards[1]["best"]["metrics"]["support_f1"]


# ---- the sceptic's conditions -----------------------------------------------------------------------------------

SCEPTIC = {"renderings": "score", "pseudo_labels": "audio", "mean_teacher": "audio"}
FONT = ["piano_seconds_per_piece=4"]
OWN = {"renderings": FONT, "mixture": [*FONT, "renderer_steps=2", "renderer_rendered=6", "renderer_heard=2"]}


@pytest.mark.parametrize("condition", [*SCEPTIC, "mixture"])
def test_a_condition_of_the_sceptic_leaves_weights_and_goes_on(train, condition):
    settings = ["condition_batch=2", *OWN.get(condition, [])]
    code, out, err = train(condition=condition, settings=settings)
    assert code == 0 and f"condition {condition}, 2 steps" in out, err
    before = tensors("run/weights.safetensors")
    assert train(condition=condition, settings=settings)[0] == 0 and tensors("run/weights.safetensors") == before
    card, _ = header()
    assert card["condition"] == condition and card["minutes"][SCEPTIC.get(condition, "score")] > 0


@pytest.mark.parametrize("condition", [*SCEPTIC, "mixture"])
def test_a_condition_without_its_pool_is_refused_in_one_line(train, tmp_path, condition):
    data = data_set(tmp_path / "d", ["paired", "paired", "real_val"])
    code, _, err = train(data=data, condition=condition)
    assert code == 1 and f"condition {condition} learns from unpaired" in err.splitlines()[-1]


@pytest.fixture(scope="module")
def pools(maps, cache):
    """Pools of the data set, and its features."""
    from amt_nb.cqt import CQTConfig
    from amt_nb.transcription.unpaired import pools_of
    from amt_nb.workshop.corpora import prepare
    from amt_nb.workshop.maps import maps as maps_recordings
    from amt_nb.workshop.settings import fill

    return pools_of(prepare(maps_recordings(maps), cache, fill(CQTConfig, "demo", "cqt"), 1, progress=False))


@pytest.mark.parametrize("condition", ["direct", *SCEPTIC])
def test_every_direct_condition_sees_the_same_pairs_at_every_step(pools, tmp_path, monkeypatch, condition):
    """Whatever is learnt from beside them, crop for crop and step for step."""
    from amt_nb.transcription import conditions
    from amt_nb.transcription.direct import HarmonicConfig, HarmonicNet

    seen = []

    def stand_in(start, features, folder, batches, watch, given=None, loss_of=None):
        seen.append(batches)
        return (
            None,
            {"net": HarmonicNet(HarmonicConfig(width=4, blocks="s", memory=0, hidden=4))},
            start.about,
        )

    monkeypatch.setattr(conditions, "_fit_direct", stand_in)
    changes = {
        "condition": {"paired_batch": 3, "batch": 2, "crop_frames": 64},
        "train": {"steps": 9, "warmup_steps": 1},
    }
    own = changes | ({"piano": {"seconds_per_piece": 4}} if condition == "renderings" else {})
    conditions.CONDITIONS["direct"].train(pools, [], None, "demo", changes)
    conditions.CONDITIONS[condition].train(pools, [], None, "demo", own)
    alone, other = seen[0], seen[-1]
    for step in (0, 1, 7, 1000):
        first, second = alone(step), other(step)
        assert all((second[k][:3] == v).all() for k, v in first.items()) and len(first["cqt"]) == 3
        more = len(second["cqt"]) - 3 + len(second.get("sound", ()))
        assert more == (0 if condition == "direct" else 2)
        assert all((other(step)[k] == v).all() for k, v in second.items())


def test_a_teacher_follows_its_student_and_is_kept(pools):
    import torch

    from amt_nb.transcription.conditions import MeanTeacher, TeacherConfig
    from amt_nb.transcription.direct import HarmonicConfig, HarmonicNet

    torch.manual_seed(0)
    net = HarmonicNet(HarmonicConfig(width=4, blocks="s", memory=0, hidden=4))
    teacher = MeanTeacher(net, TeacherConfig(decay=0.75), 10)
    with torch.no_grad():
        for p in net.parameters():
            p += 1
    teacher.follow(net, 0)  # the first step: forgets all
    assert all(torch.equal(a, b) for a, b in zip(teacher.net.parameters(), net.parameters()))
    with torch.no_grad():
        for p in net.parameters():
            p += 1
    teacher.follow(net, 99)
    assert all(torch.allclose(b - a, torch.tensor(0.75)) for a, b in zip(teacher.net.parameters(), net.parameters()))
    other = MeanTeacher(net, TeacherConfig(), 10)
    other.load_state_dict(teacher.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(teacher.net.parameters(), other.net.parameters()))
    assert not any(p.requires_grad for p in teacher.net.parameters()) and not teacher.net.training


def test_runs_of_chunks_are_what_the_pool_holds_and_no_more(pools):
    from dataclasses import replace

    from amt_nb.workshop.pools import pool_parts

    rows = np.array([[2, 512], [2, 0], [0, 0], [2, 256], [2, 1024], [0, 512]])
    found = pool_parts(replace(pools, audio=rows), "audio")
    assert [(f.id, first, n) for f, first, n in found] == [
        (pools.features[0].id, 0, 256),
        (pools.features[0].id, 512, 256),
        (pools.features[2].id, 0, 768),
        (pools.features[2].id, 1024, 256),
    ]


def test_python_callers_are_refused_what_a_condition_does_not_read(pools, tmp_path):
    from amt_nb.transcription.conditions import read_of, train_condition

    for changes in ({"hamonic": {"width": 4}}, {"g": {"width": 4}}, {"pool": {"unpaired": "same"}}):
        with warnings.catch_warnings(), pytest.raises(UserError, match="does not read"):
            train_condition("direct", list(pools.features), tmp_path / "r", "demo", changes)
    with pytest.raises(UserError, match="has no score VAE"):
        train_condition("direct", list(pools.features), tmp_path / "r", vae="some.safetensors")
    assert read_of("direct", {"g": {"width": 4}, "train": {"steps": 3}}) == {"train": {"steps": 3}}
