"""fla-core, held to its own Triton kernels: the requirement that every adapter to flash-linear-attention has.

fla-core 0.6 hands calls to FlashQLA, FlashKDA or TileLang where those are installed, and a row `fla_chunk` would then
bear another library's time. Importing this module sets the switch that turns that off; the library reads it when it is
imported itself, which the adapters do in their calls. Every process that measures, checks or profiles imports the
adapters first. The other libraries have rows of their own, such as gated_delta_rule/flash_qla.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from suite import Requirement

SWITCH = "FLA_DISABLE_BACKEND_DISPATCH"
OFF = "1"
# What asks FLA for another backend in the operators that are measured here. FLA takes any value but 0 for yes.
ASKING = ("FLA_TILELANG", "FLA_FLASH_QLA", "FLA_FLASH_KDA", "FLA_INTRACARD_CP")
OWN = "fla triton"

os.environ.setdefault(SWITCH, OFF)


def requirement(module: str) -> Requirement:
    """fla-core 0.6 with one of its modules, on its own kernels."""
    return Requirement(
        module,
        "fla-core",
        ">=0.6,<0.7",
        "pip install 'fla-core>=0.6,<0.7' einops",
        extra="peers",
        conflict=conflict,
        backend=backend,
        pretend=pretend,
    )


def conflict() -> str | None:
    """Why a call of this process might be handed to another library, with the remedy, or None."""
    if (value := os.environ.get(SWITCH)) != OFF:
        return f"{SWITCH}={value or ''} lets fla-core call other libraries, and this row is its own kernels: unset it"
    for name in ASKING:
        if (value := os.environ.get(name, "0")) != "0":
            return f"{name}={value} asks fla-core for another library's kernels, and this row is its own: unset it"
    dispatcher = sys.modules.get("fla.backends")
    if dispatcher is not None and not dispatcher._DISPATCH_DISABLED:
        return f"fla was imported before {SWITCH}={OFF} was set, so that it may call other libraries: set it yourself"
    return None


def backend() -> str:
    """Which code answered FLA's calls in this process, read from its dispatcher; "" before it was imported."""
    dispatcher = sys.modules.get("fla.backends")
    if dispatcher is None:
        return ""
    others = sorted({name for registry in _registries(dispatcher) for name in _answered(registry)})
    return " + ".join(f"fla {name}" for name in others) or OWN


def pretend() -> None:
    """Have fla-core choose its tiles by the shared memory of device 0 for tensors whose device has no index.

    It looks up the tensor's own device in a list, and takes an index of None for a GPU with little shared memory.
    """
    hardware: Any = importlib.import_module("fla.utils.hardware")
    if not getattr(hardware.get_all_max_shared_mem, "of_one", False):
        listed = hardware.get_all_max_shared_mem

        def of_one() -> dict[int | None, int]:
            found = listed()
            return {None: found[0], **dict(enumerate(found))}

        # So that it is replaced once.
        of_one.of_one = True  # type: ignore[attr-defined]
        hardware.get_all_max_shared_mem = of_one


def _registries(dispatcher: Any) -> list[Any]:
    return [*dispatcher._operation_registries.values(), *dispatcher._function_registries.values()]


def _answered(registry: Any) -> list[str]:
    # A backend that answered is noted as operation:function:backend, one that refused with a fourth word.
    return [note.split(":")[2] for note in registry._logged if note.count(":") == 2]
