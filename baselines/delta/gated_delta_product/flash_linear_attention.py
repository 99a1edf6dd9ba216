"""Products of gated delta steps of flash-linear-attention: chunk_gated_delta_product of fla-core 0.6.

There is no recurrent entry.
"""

from __future__ import annotations

from baselines.delta.flash_linear_attention import Entry, register
from kernels.delta.gated_delta_product.spec import gated_delta_product

CHUNK = Entry("fla.ops.gated_delta_product", "chunk_gated_delta_product", equal_heads=True)
register(gated_delta_product, CHUNK, gated=True)
