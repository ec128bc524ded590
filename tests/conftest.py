"""Where ./test had to leave torch out (tools/environment.py), what imports it is skipped, and says so."""

import importlib.util
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
