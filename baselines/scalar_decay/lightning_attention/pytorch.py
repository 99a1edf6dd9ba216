"""Lightning Attention-2 in PyTorch: the forms of baselines/scalar_decay, with the constant decays that are an input."""

from __future__ import annotations

from baselines.scalar_decay.chunk import torch_chunk
from baselines.scalar_decay.linear_attention.chunk import chunk_flops
from baselines.scalar_decay.linear_attention.naive import square_flops
from baselines.scalar_decay.naive import naive
from baselines.scalar_decay.step import torch_step
from kernels.scalar_decay.lightning_attention.spec import lightning_attention

lightning_attention.implementation("naive", origin="baseline", flops_exec=square_flops)(naive)
lightning_attention.implementation(
    "torch_chunk", origin="baseline", tunables={"chunk": (64, 32, 128, 256)}, flops_exec=chunk_flops
)(torch_chunk)
lightning_attention.implementation("torch_step", origin="baseline", passes={"decode"})(torch_step)
