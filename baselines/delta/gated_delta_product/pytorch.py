"""Products of gated delta steps in PyTorch: the forms of baselines/delta/pytorch.py."""

from __future__ import annotations

from baselines.delta.pytorch import CHUNKS, naive, square_flops, tile_flops, torch_chunk, torch_step
from kernels.delta.gated_delta_product.spec import gated_delta_product

gated_delta_product.implementation("naive", origin="baseline", flops_exec=square_flops)(naive)
gated_delta_product.implementation("torch_chunk", origin="baseline", tunables={"chunk": CHUNKS}, flops_exec=tile_flops)(
    torch_chunk
)
gated_delta_product.implementation("torch_step", origin="baseline", passes={"decode"})(torch_step)
