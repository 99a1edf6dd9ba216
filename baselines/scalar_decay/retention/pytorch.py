"""Retention in PyTorch: the forms of baselines/scalar_decay, with the constant decays that come as an input."""

from __future__ import annotations

from baselines.scalar_decay.chunk import torch_chunk
from baselines.scalar_decay.linear_attention.chunk import chunk_flops
from baselines.scalar_decay.linear_attention.naive import square_flops
from baselines.scalar_decay.naive import naive
from baselines.scalar_decay.step import torch_step
from kernels.scalar_decay.retention.spec import retention

retention.implementation("naive", origin="baseline", flops_exec=square_flops)(naive)
retention.implementation(
    "torch_chunk", origin="baseline", tunables={"chunk": (64, 32, 128, 256)}, flops_exec=chunk_flops
)(torch_chunk)
retention.implementation("torch_step", origin="baseline", passes={"decode"})(torch_step)
