"""The form of outputs: what an implementation's tensors must be before anything is done with them.

A plain torch.Tensor, because a subclass may compute when it is read. Strided memory on the device of the inputs. `o` in
the problem's dtype, a state in its own or in float32. The shape of the whole tensor, not only of what is compared.
Strides are free: a transposed view is an answer too.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from suite.dtypes import torch_dtype
from suite.problem import Problem


def wrong_form(problem: Problem, outputs: Mapping[str, torch.Tensor], device: torch.device) -> str:
    """What is wrong with the form of outputs or gradients, as a reason; empty when nothing is. It reads no element."""
    for name, x in outputs.items():
        if why := _wrong(x, _dtypes(problem, name), device):
            return f"{name} {why}"
    return ""


def whole_shape(problem: Problem, dims: str, cut: torch.Size) -> list[int]:
    """The shape of a whole output, from the shape of one sequence and head group of it.

    dims: leading dimensions, as in "B T HS V"; those that do not count sequences, heads or packed tokens are as cut
    """
    words = dims.split()
    return [_size(problem, words[i], n) if i < len(words) else n for i, n in enumerate(cut)]


def _size(problem: Problem, word: str, cut: int) -> int:
    packed = problem.cu_seqlens is not None
    if word in ("H", "HK", "HV", "HS", "N") or (word == "B" and not packed) or (word == "T" and packed):
        return getattr(problem, word)
    return cut


def _dtypes(problem: Problem, name: str) -> tuple[torch.dtype, ...]:
    """The dtypes that an output may have; empty for a gradient, which has its input's."""
    own = torch_dtype(problem.dtype)
    if name == "o":
        return (own,)
    if not name.startswith(("final_state", "state")):
        return ()
    # A state may be kept in more precision than was asked for, which costs its own bytes.
    wider = (own,) if own == torch.float64 else ()
    return tuple(dict.fromkeys((torch_dtype(problem.state_dtype), torch.float32, *wider)))


def _wrong(x: torch.Tensor, dtypes: tuple[torch.dtype, ...], device: torch.device) -> str:
    if type(x) is not torch.Tensor:
        return f"is a {type(x).__name__}; return a plain torch.Tensor, which is computed when the call returns"
    if x.layout != torch.strided:
        return f"has the layout {_word(x.layout)}; return a strided tensor"
    if x.device != device:
        return f"is on {x.device}; return it on {device}, where the inputs are"
    if dtypes and x.dtype not in dtypes:
        return f"has dtype {_word(x.dtype)}, not {' or '.join(map(_word, dtypes))}"
    return ""


def _word(value: object) -> str:
    return str(value).removeprefix("torch.")
