"""settings.ini: schema, overlay, search order, conversion, paths."""

import ast
import inspect
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hyp
from hypothesis import strategies as st

from amt_nb.workshop import grids as grids_module
from amt_nb.workshop import settings as S
from amt_nb.workshop.settings import UserError


@dataclass(frozen=True)
class Every:
    count: int = 1
    rate: float = 0.5
    on: bool = False
    name: str = "x"
    widths: tuple[int, ...] = (1, 2)
    rates: tuple[float, ...] = ()
    strides: tuple[tuple[int, int], ...] = ((2, 2),)
    words: tuple[str, ...] = ()
    pair: tuple[int, float] = (1, 2.0)
    maybe: float | None = None


@pytest.fixture
def ini(tmp_path, monkeypatch):
    """Writes a settings file and returns its path; no other file is in force."""
    monkeypatch.delenv("AMT_NB_SETTINGS", raising=False)
    monkeypatch.chdir(tmp_path)

    def write(text, name="mine.ini"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


def test_the_three_sizes_have_the_same_keys():
    sections = S.read_ini(S.schema_path())
    assert list(sections) == ["paths", "common", "demo", "gpu", "paper", *S.BASED_ON]
    for size in ("gpu", "paper"):
        assert set(sections[size]) == set(sections["demo"]), set(sections[size]) ^ set(sections["demo"])
    assert not set(sections["common"]) & set(sections["demo"])


def test_a_size_holds_only_what_differs():
    sections = S.read_ini(S.schema_path())
    alike = [k for k in sections["demo"] if len({sections[size][k] for size in ("demo", "gpu", "paper")}) == 1]
    assert not alike, "alike in all sizes: it belongs into [common]"


def test_sizes_of_several_instruments_say_only_what_differs_from_their_own(ini):
    """The paper's multi-instrument run [A, training]: batch 32, 500k steps, both warm-ups 2,000 steps."""
    sections, known = S.read_ini(S.schema_path()), S.load()
    for size, base in S.BASED_ON.items():
        assert all(known[base][k] != v for k, v in sections[size].items()) and set(known[size]) == set(known[base])
        assert known[size]["vae_instruments"] == known[size]["harmonic_instruments"] == "11"
    multi = known["paper-multi"]
    told = {"train_steps": 500_000, "train_warmup_steps": 2000, "cycle_warm_up_steps": 2000, "condition_batch": 32}
    told |= {"condition_paired_batch": 32, "condition_vae_batch": 64, "vae_width": 64, "g_width": 32}
    assert {k: int(multi[k]) for k in told} == told
    mine = S.load(ini("[paper]\ncondition_batch = 16\n"))
    assert (
        mine["paper-multi"]["condition_batch"] == "16" and mine.origin["paper-multi", "condition_batch"][1] == "paper"
    )


def test_common_of_the_user_wins_over_shipped_sizes(ini):
    p = ini("[common]\ndecode_min_frames = 3\n[paper]\ndecode_min_frames = 4\n")
    settings = S.load(p)
    assert [settings[size]["decode_min_frames"] for size in S.SIZES] == ["3", "3", "4", "3", "4"]
    assert settings.origin["demo", "decode_min_frames"] == (p, "common")
    assert settings.origin["paper", "decode_min_frames"] == (p, "paper")
    assert settings.origin["demo", "decode_frame_threshold"] == (S.schema_path(), "common")
    assert set(settings.origin) == {(s, k) for s in settings.sections for k in settings[s]}
    assert "common" not in settings.sections


def test_every_path_key_has_a_field_and_ships_empty():
    import dataclasses

    shipped = S.read_ini(S.schema_path())["paths"]
    assert list(shipped) == [f.name for f in dataclasses.fields(S.Paths)] and not any(shipped.values())


def test_constants_of_the_method():
    assert (
        grids_module.FPS,
        grids_module.PITCH_MIN,
        grids_module.PITCH_MAX,
        grids_module.N_KEYS,
        grids_module.F_MIN_HZ,
    ) == (50, 21, 108, 88, 27.5)
    assert (
        grids_module.BINS_PER_OCTAVE,
        grids_module.N_BINS,
        grids_module.BINS_PER_KEY,
        grids_module.CHUNK_FRAMES,
    ) == (48, 352, 4, 256)
    assert (
        grids_module.LATENT_CHANNELS,
        grids_module.LATENT_STRIDE,
        grids_module.LATENT_FRAMES,
        grids_module.LATENT_KEYS,
    ) == (8, 8, 32, 11)
    assert len(set(grids_module.INSTRUMENTS)) == 11 and grids_module.INSTRUMENT_PROGRAMS == (
        0,
        6,
        40,
        41,
        42,
        45,
        60,
        68,
        70,
        71,
        73,
    )


def test_search_order(ini, monkeypatch, tmp_path):
    assert S.user_file() is None and S.load().file == S.schema_path()
    here = ini("[demo]\ndecode_gap_frames = 3\n", "settings.ini")
    assert S.load()["demo"]["decode_gap_frames"] == "3"
    env = ini("[demo]\ndecode_gap_frames = 4\n", "env.ini")
    monkeypatch.setenv("AMT_NB_SETTINGS", str(env))
    assert S.load()["demo"]["decode_gap_frames"] == "4"
    assert S.load(here)["demo"]["decode_gap_frames"] == "3" and S.load(str(here)).file == here
    monkeypatch.setenv("AMT_NB_SETTINGS", str(tmp_path / "gone.ini"))
    with pytest.raises(UserError, match="gone.ini does not exist"):
        S.load()


def test_a_settings_ini_of_another_project_is_left_alone(ini):
    ini("[DEFAULT]\nlib_name = other\n", "settings.ini")
    assert S.user_file() is None


@pytest.mark.parametrize(
    "text, message",
    [
        ("[dmeo]\n", "unknown section .dmeo.: did you mean 'demo'"),
        ("[demo]\ndecode_gap_frame = 1", "unknown key 'decode_gap_frame' in .demo.: did you mean 'decode_gap_frames'"),
        ("[demo]\nDecode_gap_frames = 1", "did you mean 'decode_gap_frames'"),
        ("[paths]\nmap = x", "did you mean 'maps'"),
        ("[common]\ndecode_gap_frame = 1", "'decode_gap_frame' in .common.: did you mean 'decode_gap_frames'"),
        ("[common]\nmaps = x", "unknown key 'maps' in .common."),
        ("[comon]\n", "unknown section .comon.: did you mean 'common'"),
        ("[DEFAULT]\na = 1\n[demo]\n", "unknown section .DEFAULT."),
        ("decode_gap_frames = 1", "no section headers"),
        ("[demo]\n[demo]\n", "already exists"),
        ("[demo]\ndecode_gap_frames = 1\ndecode_gap_frames = 2", "already exists"),
        ("[demo]\nnonsense", "mine.ini"),
    ],
)
def test_mistakes_in_a_file(ini, text, message):
    with pytest.raises(UserError, match=message) as e:
        S.load(ini(text))
    assert "\n" not in str(e.value)


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "x.ini").write_bytes(b"\xff\xfe\0[demo]")
    with pytest.raises(UserError, match="x.ini"):
        S.load(tmp_path / "x.ini")


def test_percent_sign_byte_order_mark_and_comment_lines(ini):
    p = ini("\ufeff; a comment\n[paths]\n# another\nmaps = 100%/maps\n")
    assert S.paths(p).maps == p.parent / "100%" / "maps"


@pytest.mark.parametrize(
    "field, text, value",
    [
        ("count", " 12 ", 12),
        ("count", "1e6", 1_000_000),
        ("count", "-3", -3),
        ("rate", "2e-4", 2e-4),
        ("rate", "1", 1.0),
        ("on", "Yes", True),
        ("on", "0", False),
        ("name", " two words ", "two words"),
        ("widths", "64, 128 128", (64, 128, 128)),
        ("widths", "(3)", (3,)),
        ("widths", "", ()),
        ("rates", ".1,.2", (0.1, 0.2)),
        ("strides", "2x2, 1x2", ((2, 2), (1, 2))),
        ("strides", "(2, 2), (1, 2)", ((2, 2), (1, 2))),
        ("strides", "((2,2),)", ((2, 2),)),
        ("strides", "2 2, 1 2", ((2, 2), (1, 2))),
        ("words", "french horn, box", ("french horn", "box")),
        ("pair", "3, 0.5", (3, 0.5)),
        ("maybe", "", None),
        ("maybe", "0.1", 0.1),
    ],
)
def test_text_to_value(field, text, value):
    made = getattr(S.make(Every, {field: text}), field)
    assert made == value and type(made) is type(value)


@pytest.mark.parametrize(
    "field, value",
    [
        ("count", "1.5"),
        ("count", "one"),
        ("count", True),
        ("count", float("inf")),
        ("count", "nan"),
        ("rate", "fast"),
        ("rate", True),
        ("on", "maybe"),
        ("on", 2),
        ("widths", "1, b"),
        ("strides", "2x2x2"),
        ("strides", "2"),
        ("pair", "1"),
        ("widths", 3),
        ("count", None),
    ],
)
def test_wrong_values_name_the_field(field, value):
    with pytest.raises(UserError, match=f"^{field} = "):
        S.make(Every, {field: value})


numbers = st.floats(allow_nan=False, allow_infinity=False)


@hyp(max_examples=60, deadline=None)
@given(
    st.integers(),
    numbers,
    st.booleans(),
    st.lists(st.integers(0, 999)),
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1),
)
def test_what_is_written_is_read_back(count, rate, on, widths, strides):
    text = {
        "count": str(count),
        "rate": repr(rate),
        "on": str(on),
        "widths": ", ".join(map(str, widths)),
        "strides": ", ".join(f"{a}x{b}" for a, b in strides),
    }
    if abs(count) < 2**53:
        made = S.make(Every, text)
        assert made == Every(count, rate, on, widths=tuple(widths), strides=tuple(strides))
        import dataclasses
        import json

        assert S.make(Every, json.loads(json.dumps(dataclasses.asdict(made)))) == made  # as stored with weights


def test_fill_strength_and_prefix(ini):
    @dataclass(frozen=True)
    class Toy:
        gap_frames: int = 9
        other: int = 7

    p = ini("[gpu]\ndecode_gap_frames = 5\n")
    assert S.fill(Toy, "demo", "decode", p) == Toy(1, 7)
    assert S.fill(Toy, "gpu", "decode", p) == Toy(5, 7)
    assert S.fill(Toy, "gpu", "decode", p, gap_frames="6", other=None) == Toy(6, 7)
    assert S.fill(Toy, "paper", "nothing") == Toy(9, 7)
    with pytest.raises(UserError, match="'gpu'"):
        S.fill(Toy, "gpus")
    with pytest.raises(UserError, match="did you mean 'gap_frames'"):
        S.fill(Toy, gap_frame=1)
    with pytest.raises(UserError, match=r"\[demo\] decode_gap_frames = .few. is not a whole number"):
        S.fill(Toy, "demo", "decode", ini("[demo]\ndecode_gap_frames = few\n"))
    with pytest.raises(UserError, match=r"mine.ini \[common\] decode_gap_frames = .few. is not a whole number"):
        S.fill(Toy, "demo", "decode", ini("[common]\ndecode_gap_frames = few\n"))


def test_paths(ini, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("DISK", "/disk")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    p = ini(
        f"[paths]\nmaps = ~/maps\nasap = $DISK/asap\nguitarset = data\nfonts = a.sf2{os.pathsep}~/b.sf3{os.pathsep}\n"
    )
    got = S.paths(p)
    assert (got.maps, got.asap, got.guitarset) == (Path("/home/someone/maps"), Path("/disk/asap"), p.parent / "data")
    assert (
        got.fonts == (p.parent / "a.sf2", Path("/home/someone/b.sf3"))
        and got.musicnet is None
        and S.paths().fonts == ()
    )
    assert got.cache == Path("/home/someone/.cache/amt_nb")
    monkeypatch.setenv("XDG_CACHE_HOME", "/fast")
    assert (
        S.paths().cache == Path("/fast/amt_nb") and S.paths(ini("[paths]\ncache = here\n")).cache == p.parent / "here"
    )


def test_public_names_have_docstrings():
    for name, thing in vars(S).items():
        if getattr(thing, "__module__", "") == S.__name__ and callable(thing):
            assert inspect.getdoc(thing), name


def test_importing_settings_and_notes_is_cheap():
    code = (
        "import sys, amt_nb, amt_nb.workshop.settings, amt_nb.notes, amt_nb.metrics; "
        "print([m for m in ('torch', 'scipy', 'matplotlib', 'mido', 'numba', 'mir_eval') if m in sys.modules])"
    )
    assert (
        ast.literal_eval(
            subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        )
        == []
    )


# ---------------------------------------------------------------- ranges

CONFIGS = {
    "decode": "workshop.decoding.DecodeConfig",
    "train": "transcription.training.TrainConfig",
    "synth_human": "workshop.performances.HumanConfig",
    "synth_room": "workshop.rooms.RoomConfig",
    "corpus": "workshop.renderings.CorpusConfig",
    "pool": "workshop.pools.PoolConfig",
    "condition": "transcription.unpaired.ConditionConfig",
    "teacher": "transcription.conditions.TeacherConfig",
    "renderer": "transcription.learnt_renderer.RendererConfig",
    "harmonic": "transcription.direct.HarmonicConfig",
    "augment": "transcription.direct.AugmentConfig",
    "piano": "transcription.piano.PianoConfig",
    "vae": "transcription.score_vae.VAEConfig",
    "g": "transcription.translators.TranslatorConfig",
    "f": "transcription.translators.TranslatorConfig",
    "dx": "transcription.discriminators.DiscriminatorConfig",
    "dz": "transcription.discriminators.LatentDiscriminatorConfig",
    "cycle": "transcription.cycle.CycleConfig",
    "sdtw": "alignment.soft_dtw.SoftDTWConfig",
    "tied": "transcription.collapse.TiedConfig",
    "sasa": "alignment.sasa_aligner.AlignerConfig",
    "sasa_data": "alignment.structure.ExampleConfig",
    "path": "alignment.jump_dtw.PathConfig",
    "embedding": "sheet.page_embeddings.EmbeddingConfig",
    "film": "sheet.conditioned_unet.FilmConfig",
}


def config_class(prefix):
    """The dataclass that the keys of `prefix` fill."""
    import importlib

    module, _, name = CONFIGS[prefix].rpartition(".")
    return getattr(importlib.import_module(f"amt_nb.{module}"), name)


def number_fields(cls):
    """(name, annotation with its range, annotation without) of the fields of a dataclass that hold numbers."""
    import typing

    plain, ranged = typing.get_type_hints(cls), typing.get_type_hints(cls, include_extras=True)
    for name, kind in plain.items():
        if kind in (int, float) or typing.get_origin(kind) is tuple and kind != tuple[str, ...]:
            yield name, ranged[name], kind


@pytest.mark.parametrize("prefix", CONFIGS)
def test_every_number_of_settings_ini_has_a_range_and_ships_inside_it(prefix):
    """CQTConfig alone checks its numbers itself, wherever it is made."""
    cls = config_class(prefix)
    checked = {"strides": "TranslatorConfig", "attention": "TranslatorConfig"}  # in __post_init__
    for name, hint, kind in number_fields(cls):
        assert checked.get(name) == cls.__name__ or isinstance(getattr(hint, "__metadata__", [0])[0], S.Range), name
    for size in S.SIZES:
        S.fill(cls, size, prefix)


@pytest.mark.parametrize("prefix", ["cqt", *CONFIGS])
@pytest.mark.parametrize("value", ["nan", "inf", "-1e30", "1e30", "", "many"])
def test_no_number_of_settings_ini_takes_what_means_nothing(ini, prefix, value):
    from amt_nb.cqt import CQTConfig

    cls = CQTConfig if prefix == "cqt" else config_class(prefix)
    known = S.load()["demo"]
    for name, *_ in number_fields(cls):
        if f"{prefix}_{name}" in known and (name, value) != ("attention", ""):  # none at all is a choice
            with pytest.raises(UserError, match=name) as e:
                S.fill(cls, "demo", prefix, ini(f"[common]\n{prefix}_{name} = {value}\n"))
            assert "\n" not in str(e.value) and len(str(e.value)) < 400


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda p: p.mkdir(), "no ordinary file"),
        (lambda p: os.mkfifo(p), "no ordinary file"),
        (lambda p: p.write_bytes(b"ID3\x04\0\0"), "no settings file"),
        (lambda p: p.write_bytes(b"; \xe9\n[demo]\n"), "no UTF-8 text"),
        (lambda p: p.write_bytes("[demo]\n".encode("utf-16")), "no settings file"),
        (lambda p: p.write_bytes(b"; much\n" * 200_000), "no settings file"),
        (lambda p: p.symlink_to(p), "does not exist"),
        (lambda p: p.write_text("[demo]\n" + "x" * 9000 + "\n"), "x.ini"),
    ],
    ids=["folder", "pipe", "sound", "latin-1", "utf-16", "long", "loop", "long line"],
)
def test_what_is_no_settings_file_is_one_line(tmp_path, make, says):
    make(tmp_path / "x.ini")
    with pytest.raises(UserError, match=says) as e:
        S.load(tmp_path / "x.ini")
    assert "\n" not in str(e.value) and len(str(e.value)) < 500
