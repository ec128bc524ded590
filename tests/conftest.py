"""Tests leave the user's folders alone; where ./test left torch out (tools/environment.py), what imports it is skipped."""

import importlib.util
import os
import sys

import pytest

NEED_TORCH = {"torch", "lightning", "nnAudio"}


class Skips:
    """Finds nothing: a test, or a file of tests, that imports what needs torch is skipped."""

    def find_spec(self, name, path=None, target=None):
        """None for every module but those."""
        if name.split(".")[0] in NEED_TORCH:
            pytest.skip("needs torch, of which no build without CUDA was to be had here", allow_module_level=True)


if importlib.util.find_spec("torch") is None:
    sys.meta_path.insert(0, Skips())


@pytest.fixture(scope="session", autouse=True)
def state_of_its_own(tmp_path_factory):
    """What the command line remembers of the files that tests have it write does not reach the user's own folder."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture
def shell(capfd, monkeypatch, tmp_path):
    """Runs a command line in this process, in an empty folder: (exit code, output, errors)."""
    from amt_nb.workshop import cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AMT_NB_SETTINGS", raising=False)

    def run(*words):
        capfd.readouterr()
        try:
            code = cli.main(list(map(str, words)))
        except SystemExit as stopped:
            code = stopped.code
        return code, *capfd.readouterr()

    return run
