"""The gated delta rule of flash-linear-attention: its chunked and recurrent entries of fla-core 0.6.

Both take more value heads than heads of q and k as they are. The recurrent one has no backward pass.
"""

from __future__ import annotations

from baselines.delta.flash_linear_attention import Entry, register
from kernels.delta.gated_delta_rule.spec import gated_delta_rule

CHUNK = Entry("fla.ops.gated_delta_rule", "chunk_gated_delta_rule")
RECURRENT = Entry("fla.ops.gated_delta_rule", "fused_recurrent_gated_delta_rule")
register(gated_delta_rule, CHUNK, RECURRENT, gated=True, recurrent_passes={"fwd"})
