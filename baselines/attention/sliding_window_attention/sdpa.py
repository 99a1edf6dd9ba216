"""PyTorch's scaled_dot_product_attention under a mask of the band, one backend at a time.

The mask [T, T] is made in the first call of a length and kept: it is not part of the time, but it is read. The flash
backend takes no mask on a GPU.
"""

from __future__ import annotations

import torch

from baselines.attention.sliding_window_attention.band import seen
from baselines.attention.softmax_attention.naive import square_flops
from baselines.attention.softmax_attention.sdpa import BACKENDS, Backend, attend
from kernels.attention.sliding_window_attention.spec import sliding_window_attention

MASKED = ("cudnn", "efficient", "math")


def _register(name: str, backend: Backend) -> None:
    @sliding_window_attention.implementation(
        f"sdpa_{name}",
        origin="baseline",
        devices=backend.devices,
        dtypes=backend.dtypes,
        supports=backend.supports,
        flops_exec=square_flops,
        deterministic=backend.deterministic,
    )
    def sequence(
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        *,
        causal: bool = True,
        window: int = 1024,
        dilation: int = 1,
        scale: float | None = None,
    ) -> tuple[torch.Tensor, None]:
        mask = seen(q.shape[1], causal, window, dilation, q.device)
        return attend(backend.choice, q, k, v, causal=False, scale=scale, mask=mask), None


for _name in MASKED:
    _register(_name, BACKENDS[_name])
