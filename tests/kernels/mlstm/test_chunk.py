"""triton_chunk of mLSTM against the oracle, in Triton's interpreter: forward, every gradient, states, both regimes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from baselines.mlstm.pytorch import naive
from kernels.mlstm.chunk import chunk_mlstm
from kernels.mlstm.spec import mlstm
from suite.checks.checker import check_case
from suite.checks.inputs import draw_inputs
from suite.errors import UsageError
from suite.numerics import difference
from tests.kernels.mlstm.cases import GATES, SMS, STATE, aimed, errors, problem
from tests.parameters import with_long

pytestmark = pytest.mark.interpret

PACKED = {"layout": "packed:ragged", **STATE}
# gate, regime, chunk, sizes. Between them, every pair of gate, regime and feature occurs.
CASES: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    "one_token": ("exp", "on-chip", 16, {"T": 1, **STATE}),
    "one_token_sigmoid": ("sigmoid", "on-chip", 16, {"T": 1}),
    "tail": ("exp", "on-chip", 32, {"T": 63, "H": 1, "B": 2}),
    "value_heads": ("exp", "on-chip", 16, {"T": 35, "H": 1, "HV": 4, "V": 16, **STATE}),
    "odd": ("exp", "on-chip", 16, {"T": 20, "K": 60, "V": 100, "H": 1, "HV": 2}),
    "odd_sigmoid": ("sigmoid", "on-chip", 16, {"T": 20, "K": 100, "V": 60, "H": 1, "HV": 2, **STATE}),
    "slices": ("exp", "on-chip", 16, {"T": 20, "K": 128, "V": 20, "H": 1, **STATE}),
    "packed": ("exp", "on-chip", 16, {"T": 70, "H": 1, "K": 16, **PACKED}),
    "half": ("exp", "on-chip", 64, {"T": 100, "K": 64, "H": 1, "dtype": "fp16", **STATE}),
    "wide_chunk": ("exp", "on-chip", 256, {"T": 150, "H": 1, "dtype": "fp16"}),
    "segments": ("exp", "segments", 16, {"T": 140, "H": 1, **STATE}),
    "segments_sigmoid": ("sigmoid", "segments", 16, {"T": 140, "H": 1, "K": 16, **STATE}),
    "segments_value_heads": ("exp", "segments", 16, {"T": 100, "H": 1, "HV": 2, "K": 48, "V": 16}),
    "segments_packed": ("exp", "segments", 16, {"T": 200, "H": 1, "K": 16, **PACKED}),
    "segments_half": ("sigmoid", "segments", 16, {"T": 130, "H": 1, "dtype": "fp16"}),
}
# The input gate's shift from a trained model's bias: exp(-m) is the larger term of all denominators, of about half, of
# hardly any; and a shift that falls faster than the state decays, so that the first tokens weigh most to the end.
SHIFTS = {"floor": 0.0, "both": 8.0, "normaliser": 13.0, "falling": torch.linspace(25, 0, 150)[:, None]}


@pytest.mark.parametrize("name", with_long(CASES, "segments_half", "tail", "odd", "segments_sigmoid", "segments"))
def test_outputs_states_and_gradients(name: str) -> None:
    gate, regime, chunk, sizes = CASES[name]
    with aimed(regime):
        found = check_case(
            mlstm, "triton_chunk", problem(gate, pass_="fwdbwd", **sizes), {"chunk": chunk}, device="interpret"
        )
    assert found.ok, found.reason
    assert {"o", "dq", "dk", "dv", "dinput_gate", "dforget_gate"} <= set(found.errors)
    assert ("dinitial_state[1]" in found.errors) == (gate == "exp" and bool(sizes.get("initial_state")))
    assert found.repeatable


def signs(like: torch.Tensor) -> torch.Tensor:
    return torch.randint(0, 2, like.shape, generator=torch.Generator().manual_seed(1)) * 2.0 - 1.0


def drawn(gate: str, **sizes: Any) -> dict[str, Any]:
    """Inputs whose n . q, of either sign, is not near 0: there one over the denominator grows, and errors with it."""
    inputs = draw_inputs(mlstm, problem(gate, **{"H": 1, "K": 16, "V": 16, **sizes}), 0)
    inputs["k"] = inputs["k"].abs()
    inputs["q"] = inputs["q"].abs() * signs(inputs["q"][..., :1]).to(inputs["q"])
    if isinstance(inputs.get("initial_state"), tuple):
        C, n, m = inputs["initial_state"]
        inputs["initial_state"] = C, n.abs(), m
    return inputs


@pytest.mark.parametrize("regime", with_long(SMS, "segments"))
@pytest.mark.parametrize("shift", SHIFTS)
def test_either_term_of_the_denominator(shift: str, regime: str) -> None:
    inputs = drawn("exp", T=150, HV=2, **STATE)
    inputs["input_gate"] = inputs["input_gate"] + SHIFTS[shift]
    with aimed(regime):
        found = errors(chunk_mlstm, inputs, gate="exp", chunk=16)
    assert max(found.values()) < 1e-4, found


EXTREMES = {
    "thirty": lambda i, f: (30 * signs(i), -30 * signs(f).roll(3, 1)),
    "never_forgets": lambda i, f: (i + 10, f * 0 + 1e4),
    "forgets_at_once": lambda i, f: (i + 10, f * 0 - 20),
    "far": lambda i, f: (1e4 * signs(i), torch.where(signs(f).roll(5, 1) > 0, -1e4, f)),
    "closed": lambda i, f: (i * 0 - 1e4, f * 0 - 1e4),
}


EXTREME_CASES = [
    *((name, "on-chip", "exp") for name in EXTREMES),
    *((name, "segments", "exp") for name in ("thirty", "far")),
    *((name, "segments", "sigmoid") for name in EXTREMES),
]


@pytest.mark.parametrize(("name", "regime", "gate"), EXTREME_CASES)
def test_extreme_gates(name: str, regime: str, gate: str) -> None:
    inputs = drawn(gate, T=70, **STATE)
    inputs["input_gate"], inputs["forget_gate"] = EXTREMES[name](inputs["input_gate"], inputs["forget_gate"])
    with aimed(regime):
        found = errors(chunk_mlstm, inputs, gate=gate, chunk=16)
    # Where all is forgotten, the forget gate's gradient is what rounding leaves of differences. fp32 tells stabilisers
    # near 1e4, and sums of a chunk's gates that shut, apart by 1e-3.
    loose = {"dforget_gate": 5e-2} | ({"end[2]": 5e-3} if name == "far" else {})
    usual = 1e-3 if name == "far" else 5e-4
    assert all(error < loose.get(part, usual) for part, error in found.items()), found


@pytest.mark.parametrize("regime", SMS)
def test_minus_infinity_is_a_gate_that_is_shut(regime: str) -> None:
    inputs = draw_inputs(mlstm, problem("exp", T=70, H=1, K=16, V=16), 0)
    shut = {**inputs, "forget_gate": inputs["forget_gate"].clone(), "input_gate": inputs["input_gate"].clone()}
    shut["forget_gate"][:, 33], shut["input_gate"][:, 20] = -torch.inf, -torch.inf
    far = {**shut, "forget_gate": inputs["forget_gate"].clone(), "input_gate": inputs["input_gate"].clone()}
    far["forget_gate"][:, 33], far["input_gate"][:, 20] = -1e6, -1e6
    with aimed(regime):
        o, _ = chunk_mlstm(**shut, chunk=16)
        expected, _ = chunk_mlstm(**far, chunk=16)
    assert torch.equal(o, expected)
    assert o.isfinite().all()


@pytest.mark.parametrize("gate", GATES)
def test_not_a_number_stays_one(gate: str) -> None:
    for name in ("q", "v", "input_gate", "forget_gate"):
        inputs = draw_inputs(mlstm, problem(gate, T=20, H=1, K=16, V=16), 0)
        inputs[name].view(1, 20, -1)[:, 10] = torch.nan
        with aimed("on-chip"):
            o, _ = chunk_mlstm(**inputs, gate=gate, chunk=16)
        assert o[:, 10].isnan().all(), name


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("regime", SMS)
def test_gradients_are_those_of_the_quadratic_form(regime: str, gate: str) -> None:
    """In float64, by autograd through the T x T form, which shares nothing with the recurrence or the chunks."""
    inputs = drawn(gate, T=70, HV=2, V=20)
    inputs["input_gate"] = inputs["input_gate"] + 9
    inputs = {name: x.requires_grad_() for name, x in inputs.items()}
    exact = {name: x.detach().double().requires_grad_() for name, x in inputs.items()}
    weight = torch.randn(1, 70, 2, 20, generator=torch.Generator().manual_seed(0))
    with aimed(regime):
        o, _ = chunk_mlstm(**inputs, gate=gate, chunk=16)
        found = torch.autograd.grad((o * weight).sum(), list(inputs.values()))
    expected = torch.autograd.grad((naive(**exact, gate=gate)[0] * weight).sum(), list(exact.values()))
    for name, ours, oracle in zip(inputs, found, expected, strict=True):
        assert difference(ours, oracle).error < 2e-5, name


@pytest.mark.parametrize(("gate", "regime"), [("exp", "on-chip"), ("exp", "segments"), ("sigmoid", "segments")])
def test_two_halves_with_the_carried_state_are_the_whole(regime: str, gate: str) -> None:
    inputs = draw_inputs(mlstm, problem(gate, T=150, H=1, V=20), 0)
    inputs["input_gate"] += 9

    def run(first: int, end: int, state=None):
        part = {name: x[:, first:end] for name, x in inputs.items()}
        return chunk_mlstm(**part, gate=gate, initial_state=state, output_final_state=True, chunk=16)

    with aimed(regime):
        whole, end = run(0, 150)
        first, state = run(0, 70)
        second, last = run(70, 150, state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(last, end, rtol=1e-4, atol=1e-5)


def test_sums_over_a_long_sequence_keep_their_digits() -> None:
    """The forget gate's gradient adds up differences over all later tokens: what two sweeps round differently shows."""
    inputs = drawn("exp", T=600, K=32, dtype="fp16")
    inputs["input_gate"] = inputs["input_gate"] + 9
    with aimed("on-chip"):
        found = errors(chunk_mlstm, inputs, gate="exp", chunk=64)
    # Rounded differently, it errs by several times as much as the other gradients.
    assert found["dforget_gate"] < 1e-3, found


@pytest.mark.long
@pytest.mark.parametrize("regime", SMS)
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("size", [64, 128, 256])
def test_large_heads(size: int, gate: str, regime: str) -> None:
    at = problem(gate, pass_="fwdbwd", T=500, H=1, HV=2, K=size, V=size, dtype="fp16", **STATE)
    with aimed(regime):
        found = check_case(mlstm, "triton_chunk", at, device="interpret")
    assert found.ok, found.reason


@pytest.mark.long
@pytest.mark.parametrize("regime", SMS)
@pytest.mark.parametrize("gate", GATES)
def test_long_memory(gate: str, regime: str) -> None:
    """A decay near 1 over 2000 tokens, input gates as trained: where n . q outgrows exp(-m), it passes through 0.

    The quotient is ill-conditioned there: with biases 9 higher, `naive` in float32 errs by 3e-3 in its gradients.
    """
    inputs = draw_inputs(mlstm, problem(gate, T=2000, H=1, K=16, V=16, **STATE), 0)
    inputs["forget_gate"] += 10
    with aimed(regime):
        found = errors(chunk_mlstm, inputs, gate=gate, chunk=64)
    assert max(found.values()) < 1e-4, found


def test_bad_calls_are_refused_in_one_line() -> None:
    inputs = draw_inputs(mlstm, problem("exp", T=20, **STATE), 0)
    C, n, m = inputs["initial_state"]
    for words, text in (
        ({"gate": "tanh"}, "tanh"),
        ({"chunk": 48}, "power of two"),
        ({"scale": 0}, "scale = 0"),
        ({"input_gate": inputs["input_gate"][:, :5]}, "input_gate is"),
        ({"initial_state": C}, "the tuple (C, n, m)"),
        ({"initial_state": (C, n[:, :1], m)}, "state n is"),
        ({"gate": "sigmoid"}, "C alone"),
    ):
        with pytest.raises(UsageError, match=".*".join(text.replace("(", r"\(").replace(")", r"\)").split())):
            chunk_mlstm(**{**inputs, **words})
