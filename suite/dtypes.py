"""Names of dtypes: flags accept the short and the long one, records store the long one, ids the short one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from suite.errors import unknown

if TYPE_CHECKING:
    import torch

SHORT = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "float64": "fp64"}
BYTES = {"bfloat16": 2, "float16": 2, "float32": 4, "float64": 8}
_LONG = {short: long for long, short in SHORT.items()} | {long: long for long in SHORT}


def canonical(name: str) -> str:
    """The long name of a dtype; raises UsageError with the nearest name otherwise."""
    if name not in _LONG:
        raise unknown("dtype", name, _LONG)
    return _LONG[name]


def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype of a long or short name."""
    import torch

    return getattr(torch, canonical(name))
