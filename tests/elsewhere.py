"""A device that no machine has: torch tensors that say they live elsewhere, so that what a graphics card would refuse is refused here.

`DEVICE` computes on the CPU, but its tensors will not be mixed with the CPU's, nor read by NumPy: the two mistakes that only readers with
a graphics card would meet. It knows nothing of kernels, streams or mixed precision.
"""

import torch
from lightning.fabric import Fabric
from lightning.fabric.accelerators import CPUAccelerator
from lightning.fabric.strategies import SingleDeviceStrategy
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("elsewhere")
DEVICE = torch.device("elsewhere", 0)
COPIES = ("aten::_to_copy", "aten::copy_", "aten::_foreach_copy_", "aten::to")


class Elsewhere(torch.Tensor):
    """A tensor on DEVICE; `raw` holds its numbers."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, raw):
        """A wrapper of the CPU tensor `raw`."""
        new = torch.Tensor._make_wrapper_subclass(
            cls, raw.size(), strides=raw.stride(), storage_offset=raw.storage_offset(), dtype=raw.dtype, device=DEVICE
        )
        new.raw = raw
        return new

    @classmethod
    def __torch_dispatch__(cls, op, types, args=(), kwargs=None):
        """Computes on the CPU what the operator asks for; RuntimeError when it mixes devices."""
        kwargs = kwargs or {}
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        here, name = [t for t in tensors if isinstance(t, cls)], op._schema.name
        if here and name not in COPIES and any(t.dim() for t in tensors if not isinstance(t, cls)):
            raise RuntimeError(f"{name}: tensors on {DEVICE} and on the CPU: {[tuple(t.shape) for t in tensors]}")
        asked = next(
            (d for d in [kwargs.get("device"), *args] if isinstance(d, torch.device)),
            DEVICE if here else torch.device("cpu"),
        )
        plain = lambda x: x.raw if isinstance(x, cls) else torch.device("cpu") if isinstance(x, torch.device) else x
        out = op(*tree_map(plain, args), **tree_map(plain, kwargs))
        if asked.type != DEVICE.type:
            return out
        known = {id(t.raw): t for t in here}
        return tree_map(
            lambda x: (
                known[id(x)]
                if id(x) in known
                else cls(x)
                if isinstance(x, torch.Tensor) and not isinstance(x, cls)
                else x
            ),
            out,
        )

    def tolist(self):
        """As a list, as of any tensor."""
        return self.raw.tolist()

    def __reduce_ex__(self, protocol):
        """In files there are no devices: they are read on the CPU."""
        return self.raw.__reduce_ex__(protocol)

    def __repr__(self):
        return f"Elsewhere({self.raw})"


def _made_here(op):
    """The factory `op` for DEVICE."""
    return lambda *args, **kwargs: Elsewhere(
        op(*args, **{k: v for k, v in kwargs.items() if k not in ("device", "layout", "pin_memory")})
    )


FACTORIES = torch.library.Library("aten", "IMPL")  # gone when it is collected
FACTORIES.impl("empty.memory_format", _made_here(torch.ops.aten.empty.memory_format), "PrivateUse1")
FACTORIES.impl("empty_strided", _made_here(torch.ops.aten.empty_strided.default), "PrivateUse1")


class _Anywhere(CPUAccelerator):
    def setup_device(self, device):
        """Nothing has to be set up."""


def fabric(config=None):
    """A Fabric whose device is DEVICE, in place of `training.make_fabric`."""
    return Fabric(strategy=SingleDeviceStrategy(device=DEVICE, accelerator=_Anywhere()))
