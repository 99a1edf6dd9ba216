"""triton_chunk and triton_step of Lightning Attention-2 against the oracle, in Triton's interpreter.

The kernels are retention's (tests/kernels/scalar_decay/retention): what differs are decays, from none at all to strong
ones.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kernels.scalar_decay.lightning_attention.chunk import chunk_lightning_attention
from kernels.scalar_decay.lightning_attention.decode import step_lightning_attention
from kernels.scalar_decay.lightning_attention.spec import LAYERS, lightning_attention, log_decays
from suite import Problem
from suite.checks.checker import check_case
from suite.targets import REPRESENTATIVES, aim

pytestmark = pytest.mark.interpret


@pytest.mark.parametrize(("sms", "seed"), [(1, 0), (4096, 3)], ids=["last_head-on-chip", "first_head-segments"])
def test_outputs_states_and_gradients(sms: int, seed: int) -> None:
    case = Problem(H=4, T=80, K=16, V=16, dtype="fp32", pass_="fwdbwd", initial_state=True)
    with aim(replace(REPRESENTATIVES["sm_90"], sms=sms)):
        found = check_case(lightning_attention, "triton_chunk", case, {"chunk": 16}, device="interpret", seed=seed)
    assert found.ok, found.reason
    assert {"o", "dq", "dk", "dv", "dinitial_state"} <= set(found.errors)


@pytest.mark.parametrize("layer", LAYERS)
def test_the_layer_sets_the_decays(layer: float) -> None:
    q, k, v = (torch.randn(1, 40, 4, 16) for _ in range(3))
    with aim("sm_90"):
        ours, state = chunk_lightning_attention(q, k, v, layer=layer, output_final_state=True, chunk=16)
        given, _ = chunk_lightning_attention(q, k, v, log_decays(4, layer), chunk=16)
        one = [x[:, :1] for x in (q, k, v)]
        assert state is not None
        stepped = step_lightning_attention(*one, state=state.clone(), layer=layer)
        expected = step_lightning_attention(*one, log_decays(4, layer), state=state.clone())
    assert torch.equal(ours, given)
    assert torch.equal(stepped, expected)


def test_step() -> None:
    case = Problem(B=2, H=4, T=100, K=32, dtype="fp32", pass_="decode")
    for seed in range(4):
        found = check_case(lightning_attention, "triton_step", case, device="interpret", seed=seed)
        assert found.ok, found.reason
