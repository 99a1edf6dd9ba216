"""The delta rule of flash-linear-attention: chunk_delta_rule and fused_recurrent_delta_rule of fla-core 0.6."""

from __future__ import annotations

from baselines.delta.flash_linear_attention import Entry, register
from kernels.delta.delta_rule.spec import delta_rule

CHUNK = Entry("fla.ops.delta_rule", "chunk_delta_rule", equal_heads=True)
RECURRENT = Entry("fla.ops.delta_rule", "fused_recurrent_delta_rule", equal_heads=True)
register(delta_rule, CHUNK, RECURRENT, gated=False)
