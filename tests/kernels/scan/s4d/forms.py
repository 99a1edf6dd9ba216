"""The forms in which S4D can be computed, each with its floor by the cost model: which one is worth a kernel.

python -m tests.kernels.scan.s4d.forms [--gpu "NVIDIA H200"] [--length 8192] [--modes 64]
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from suite import Problem

COLUMNS = ("form", "B", "memory us", "tensor us", "float32 us", "special us", "floor us", "bound")
CHANNELS, BATCHES = 1024, (1, 16)


@dataclass(frozen=True)
class Form:
    """What a forward pass needs: bytes, FLOPs of tensor cores and of float32 units, special functions."""

    name: str
    bytes: float
    tensor: float
    float32: float
    special: float = 0.0


def forms(problem: Problem) -> list[Form]:
    """All forms of a problem's forward pass, on chip: each reads u once and writes o once, but for torch's FFT.

    Products with chunks: kernels/scan/s4d. A Toeplitz matrix of all T taps would be T multiply-adds per token. An FFT
    in one kernel holds a sequence's whole spectrum. PyTorch's FFT goes through memory: u widened, its spectrum of
    length 2 T, the product with the kernel's spectrum, back, and the sum with D u.
    """
    from baselines.scan.s4d.recurrent import fft_flops, fft_size
    from kernels.scan.s4d.chunk import STATE_FLOPS, flops_exec
    from kernels.scan.s4d.plan import of_problem
    from kernels.scan.s4d.spec import s4d

    cost, shape = s4d.cost_of(problem), of_problem(problem)
    n = float(problem.tokens * shape.channels)
    states = n * STATE_FLOPS * shape.size / shape.chunk
    fft, taps = fft_flops(problem, {}), 2.0 * n * problem.T / 2
    spectrum = 4.0 * n * fft_size(problem.T) / problem.T
    through_memory = n * (2 + 4 + 4) + spectrum * (1 + 1 + 1 + 1 + 1) + n * (4 + 4 + 2)
    return [
        Form("recurrence", cost.bytes_compulsory, 0.0, cost.flops_alg, cost.special),
        Form("products with chunks", cost.bytes_compulsory, flops_exec(problem, {}) - states, states),
        Form("product with all taps", cost.bytes_compulsory, taps, 0.0),
        Form("FFT in one kernel", cost.bytes_compulsory, 0.0, fft),
        Form("FFT by torch", through_memory, 0.0, fft),
    ]


def times(form: Form, gpu: str) -> dict[str, float]:
    """Microseconds that each part of a form takes at least on a GPU, by its datasheet."""
    from suite.errors import UsageError
    from suite.hardware.gpus import known

    sheet = known(gpu)
    if sheet is None or sheet.special_gops is None:
        raise UsageError(f"no datasheet of a GPU called {gpu!r}; name one as its driver does, as in 'NVIDIA H200'")
    return {
        "memory": form.bytes / sheet.gbs / 1e3,
        "tensor": form.tensor / sheet.tflops["bfloat16"] / 1e6,
        "float32": form.float32 / sheet.tflops["float32"] / 1e6,
        "special": form.special / sheet.special_gops / 1e3,
    }


def problem_of(B: int, T: int, N: int) -> Problem:
    """A layer of CHANNELS channels in bfloat16."""
    from kernels.scan.s4d.spec import s4d
    from suite import Problem

    return s4d.complete(Problem(B=B, T=T, H=16, K=N, V=CHANNELS // 16, dtype="bf16", pass_="fwd"))


def table(gpu: str, T: int, N: int) -> str:
    """The forms as a Markdown table."""
    rows = [COLUMNS, ("---",) * len(COLUMNS)]
    for B in BATCHES:
        for form in forms(problem_of(B, T, N)):
            rows.append(_row(form, B, times(form, gpu)))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(form: Form, B: int, parts: Mapping[str, float]) -> tuple[str, ...]:
    bound = max(parts, key=lambda name: parts[name])
    return (form.name, str(B), *(f"{value:.1f}" for value in parts.values()), f"{parts[bound]:.1f}", bound)


def main() -> None:
    parser = argparse.ArgumentParser(description="floors of S4D's forms by the cost model")
    parser.add_argument("--gpu", default="NVIDIA H200")
    parser.add_argument("--length", type=int, default=8192, metavar="T")
    parser.add_argument("--modes", type=int, default=64, metavar="N")
    given = parser.parse_args()

    from suite.errors import SubquadError
    from suite.targets import aim

    try:
        with aim("sm_90"):
            print(table(given.gpu, given.length, given.modes))
    except SubquadError as error:
        raise SystemExit(f"forms: {error}") from None


if __name__ == "__main__":
    main()
