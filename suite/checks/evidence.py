"""Evidence: the compared part of what a timed call returned, in a file that another process can judge.

A header of one line of JSON names each tensor, its dtype and shape; the bytes of all follow in that order.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import torch

from suite import dtypes
from suite.checks.calling import Tensors
from suite.errors import StoreError


def evidence_name(case_id: str, mode: str, replicate: int) -> str:
    """The name of a case's file."""
    return hashlib.sha256(f"{case_id} {mode} {replicate}".encode()).hexdigest()[:32]


def save(path: Path, parts: Tensors, shapes: dict[str, list[int]]) -> None:
    """Write the compared parts of outputs and gradients; `shapes` are those of the whole outputs, by name."""
    tensors = {name: x.detach().cpu().contiguous() for name, x in parts.items()}
    header = {
        "parts": {name: [str(x.dtype).removeprefix("torch."), list(x.shape)] for name, x in tensors.items()},
        "shapes": shapes,
    }
    with path.open("wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
        for x in tensors.values():
            file.write(x.reshape(-1).view(torch.uint8).numpy().tobytes())


def load(path: Path) -> tuple[Tensors, dict[str, list[int]]]:
    """What `save` wrote. Raises StoreError where it is something else: whoever wrote it is not trusted."""
    try:
        data = path.read_bytes()
        line, _, rest = data.partition(b"\n")
        header = json.loads(line)
        parts, at = {}, 0
        for name, (dtype, shape) in header["parts"].items():
            size = math.prod(_size(n) for n in shape) * dtypes.BYTES[dtype]
            if at + size > len(rest):
                raise ValueError(f"fewer bytes than {name} has")
            raw = torch.tensor(memoryview(rest)[at : at + size], dtype=torch.uint8)
            parts[str(name)] = raw.view(dtypes.torch_dtype(dtype)).reshape(shape)
            at += size
        if at != len(rest):
            raise ValueError("more bytes than its tensors have")
        shapes = {str(name): [_size(n) for n in shape] for name, shape in header["shapes"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise StoreError(f"{path.name} is no evidence: {type(error).__name__}: {error}") from error
    return parts, shapes


def _size(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"a size of {value!r}")
    return value
