"""What several delta steps per token mean, on the CPU."""

from __future__ import annotations

import torch

from baselines.delta.pytorch import torch_chunk
from kernels.delta.gated_delta_product.spec import gated_delta_product, recurrence
from kernels.delta.gated_delta_rule.spec import recurrence as one_step
from suite import Problem
from suite.checks.inputs import draw_inputs


def test_one_step_is_the_gated_delta_rule() -> None:
    at = gated_delta_product.complete(Problem(T=30, H=2, K=8, dtype="fp32"), {"steps": 1})
    inputs = {name: x.double() for name, x in draw_inputs(gated_delta_product, at, 0).items()}
    expected, _ = one_step(**{name: x.squeeze(2) if name in ("k", "v", "beta") else x for name, x in inputs.items()})
    assert torch.equal(recurrence(**inputs, steps=1)[0], expected)


def test_the_gate_acts_once_a_token() -> None:
    """Without writes the state only decays: by e^(sum of the log decays), however many steps a token has."""
    state = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    q, k = (torch.zeros(*shape, dtype=torch.float64) for shape in ((1, 5, 1, 4), (1, 5, 3, 1, 4)))
    beta, gate = torch.ones(1, 5, 3, 1, dtype=torch.float64), torch.full((1, 5, 1), -0.5, dtype=torch.float64)
    for run in (recurrence, torch_chunk):
        _, final = run(q, k, k, beta, gate, steps=3, initial_state=state, output_final_state=True)
        torch.testing.assert_close(final, state * torch.tensor(-2.5, dtype=torch.float64).exp())
