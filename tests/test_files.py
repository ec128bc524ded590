"""Files are written whole, keep their permissions and links, and what a killed writer leaves is taken away."""

import multiprocessing
import os
import signal
import socket
import stat
import time

import pytest

from amt_nb.workshop.files import TEMPORARY, DiskFull, atomic_write, is_abandoned, sweep, temporary_name
from amt_nb.workshop.settings import UserError

posix = pytest.mark.skipif(os.name != "posix", reason="permissions and locks of POSIX")


def mode(path):
    """Permissions of the file at `path`."""
    return stat.S_IMODE(path.stat().st_mode)


def temporary(folder):
    """Names of the temporary files in `folder`."""
    return [p.name for p in folder.iterdir() if TEMPORARY.fullmatch(p.name)]


@posix
@pytest.mark.parametrize("bits", [0o600, 0o640, 0o644, 0o664, 0o444])
def test_a_replaced_file_keeps_its_permissions(tmp_path, bits):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(bits)
    atomic_write(path, b"new")
    assert path.read_bytes() == b"new" and mode(path) == bits


@posix
@pytest.mark.parametrize("umask, bits", [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_what_the_umask_leaves(tmp_path, umask, bits):
    before = os.umask(umask)
    try:
        assert mode(atomic_write(tmp_path / "a", b"new")) == bits
    finally:
        os.umask(before)


@posix
def test_nobody_else_can_read_a_secret_file_while_it_is_written(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o600)
    seen = []

    def fill(file):
        file.write(b"secret")
        seen.extend(mode(tmp_path / name) for name in temporary(tmp_path))

    atomic_write(path, fill)
    assert seen == [0o600]


@posix
def test_a_link_stays_a_link_and_a_dangling_one_is_filled(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real/file")
    for content in (b"first", b"second"):
        assert atomic_write(tmp_path / "link", content) == tmp_path / "link"
        assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "file").read_bytes() == content
    assert not temporary(tmp_path) and not temporary(tmp_path / "real")


@posix
def test_what_is_no_ordinary_file_is_left_alone(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as s:
        monkeypatch.chdir(tmp_path)  # an address has room for a hundred bytes
        s.bind("socket")
    for name in ("pipe", "folder", "socket"):
        with pytest.raises(UserError, match=name):
            atomic_write(tmp_path / name, b"new")
    with pytest.raises(UserError, match="/dev/null"):
        atomic_write("/dev/null", b"new")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode) and not temporary(tmp_path)


@pytest.mark.parametrize("length", [200, 240, 251, 255])
def test_every_legal_name_can_be_written(tmp_path, length):
    path = tmp_path / ("n" * length)
    assert atomic_write(path, b"x").read_bytes() == b"x"
    assert len(os.fsencode(temporary_name(path).name)) < 40


@posix
def test_names_that_are_no_text(tmp_path):
    path = tmp_path / os.fsdecode(b"F\xfcr\n\x1b[31m$\\x$")
    assert atomic_write(path, b"x").read_bytes() == b"x" and len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def fill(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(DiskFull, match="is full"):
        atomic_write(path, fill)
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def write_and_wait(path, ready):
    """Begins to write `path` and never ends."""

    def fill(file):
        file.write(b"half")
        file.flush()
        ready.set()
        time.sleep(600)

    atomic_write(path, fill)


@posix
def test_what_a_killed_process_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path):
    spawn = multiprocessing.get_context("fork")
    ready = spawn.Event()
    writer = spawn.Process(target=write_and_wait, args=(tmp_path / "a", ready))
    writer.start()
    assert ready.wait(60)
    (left,) = [tmp_path / name for name in temporary(tmp_path)]
    os.utime(left, (0, 0))  # it looks as if it had lain there for ever
    assert not is_abandoned(left) and sweep(tmp_path) == []
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    assert left.exists() and is_abandoned(left)
    os.utime(left)
    assert sweep(tmp_path) == []  # a young one may be about to be locked
    os.utime(left, (0, 0))
    (tmp_path / ".other.tmp").write_bytes(b"")
    os.utime(tmp_path / ".other.tmp", (0, 0))
    assert sweep(tmp_path) == [left] and (tmp_path / ".other.tmp").exists()


@posix
def test_writing_sweeps_the_folder_once(tmp_path):
    left = temporary_name(tmp_path / "a")
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    atomic_write(tmp_path / "a", b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@posix
def test_a_trap_under_our_name_does_no_harm(tmp_path):
    pipe, link, folder = (temporary_name(tmp_path / "a") for _ in range(3))
    (tmp_path / "mine").write_bytes(b"mine")
    os.utime(tmp_path / "mine", (0, 0))
    os.mkfifo(pipe)
    link.symlink_to("mine")
    folder.mkdir()
    assert sweep(tmp_path) == [] and (tmp_path / "mine").exists() and link.is_symlink()


def test_writers_of_one_name_do_not_meet(tmp_path, monkeypatch):
    """As in two containers, whose processes have one number."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    names = {temporary_name(tmp_path / "a") for _ in range(1000)}
    assert len(names) == 1000
