"""The selective scan of mamba_ssm: adapters to its CUDA kernel and its Triton decode step. CUDA only.

Entries: mamba_ssm.ops.selective_scan_interface.selective_scan_fn on u, delta, z [B, D, T] and B, C [B, G, N, T], and
mamba_ssm.ops.triton.selective_state_update.selective_state_update on a state [B, D, N]. The transposition of tokens and
channels is done by PyTorch and belongs to the time, as it does in a model whose layers have channels last.
The first takes no initial state and no packed sequences. Its offsets have 32 bits: beyond 2^31 elements it is refused.
Source: Gu and Dao 2023, github.com/state-spaces/mamba.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType

import torch

from kernels.scan.selective_scan.spec import selective_scan
from suite import Problem, Requirement
from suite.problem import Value

EXTENSION = "selective_scan_cuda"
MAX_ELEMENTS = 2**31
MAX_MODES = 256


def requirement(module: str, conflict: Callable[[], str | None] | None = None) -> Requirement:
    """mamba-ssm 2 with one of its modules."""
    return Requirement(
        module,
        "mamba-ssm",
        ">=2.2,<3",
        "pip install --no-build-isolation 'mamba-ssm>=2.2,<3', which needs torch and builds with nvcc",
        extra="peers-mamba",
        conflict=conflict,
    )


def has_extension() -> bool:
    """Whether mamba_ssm's CUDA code was built."""
    return importlib.util.find_spec(EXTENSION) is not None


def _without_extension() -> str | None:
    return None if has_extension() else "mamba-ssm is installed without its CUDA code: install it again where nvcc is"


def triton_module(name: str) -> ModuleType:
    """A module of mamba_ssm.ops.triton, also where the CUDA code was not built.

    The package itself imports that code. Where it is missing, the module is imported under an empty package, and
    nothing else of mamba_ssm can be imported afterwards.
    """
    path = f"mamba_ssm.ops.triton.{name}"
    if not {path, "mamba_ssm"} & sys.modules.keys() and not has_extension():
        spec = importlib.util.find_spec("mamba_ssm")
        assert spec is not None, "the requirement was looked at before"
        sys.modules["mamba_ssm"] = importlib.util.module_from_spec(spec)
    return import_module(path)


MAMBA = requirement("mamba_ssm.ops.selective_scan_interface", _without_extension)
TRITON = requirement("mamba_ssm.ops.triton")


def supports(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why selective_scan_fn cannot serve a problem, or None."""
    p = problem
    if p.K > MAX_MODES:
        return f"mamba_ssm's selective_scan_fn takes at most {MAX_MODES} modes, not K{p.K}"
    if p.B * p.T * p.HS * p.V >= MAX_ELEMENTS:
        return "mamba_ssm's selective_scan_fn has 32-bit offsets: B x T x channels must be below 2^31"
    return None


@selective_scan.implementation(
    "mamba_ssm", origin="peer", devices={"cuda"}, requires=MAMBA, supports=supports, deterministic=False
)
def mamba_ssm_scan(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    z: torch.Tensor,
    delta_bias: torch.Tensor,
) -> tuple[torch.Tensor, None]:
    """Shapes as in the operator's spec -> (o [B,T,HS,V], None)."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn  # pyright: ignore[reportMissingImports]

    heads = u.shape[2:]
    channels_first = [x.flatten(2).transpose(1, 2).contiguous() for x in (u, delta, z)]
    modes = [x.permute(0, 2, 3, 1).contiguous() for x in (B, C)]
    o = selective_scan_fn(
        channels_first[0],
        channels_first[1],
        A.flatten(0, 1),
        *modes,
        D=D.flatten(),
        z=channels_first[2],
        delta_bias=delta_bias.flatten(),
        delta_softplus=True,
    )
    return o.transpose(1, 2).unflatten(2, heads), None


@selective_scan.implementation(
    "mamba_ssm_step", origin="peer", devices={"cuda", "interpret"}, passes={"decode"}, requires=TRITON
)
def mamba_ssm_step(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    z: torch.Tensor,
    delta_bias: torch.Tensor,
    *,
    state: torch.Tensor,
) -> torch.Tensor:
    """One token of each input -> o [B,1,HS,V]; the kernel updates a view of `state` in place, channels before modes."""
    # Heads are the library's, so that the transposed state is a view: [B, HS, V, N].
    return triton_module("selective_state_update").selective_state_update(
        state.transpose(2, 3),
        u[:, 0],
        delta[:, 0],
        A,
        B[:, 0],
        C[:, 0],
        D=D,
        z=z[:, 0],
        dt_bias=delta_bias,
        dt_softplus=True,
    )[:, None]
