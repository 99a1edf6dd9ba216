"""What the baselines and adapters of the three delta rules have in common, on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

import baselines.delta.delta_rule.flash_linear_attention
import baselines.delta.delta_rule.pytorch
import baselines.delta.gated_delta_product.flash_linear_attention
import baselines.delta.gated_delta_product.pytorch
import baselines.delta.gated_delta_rule.flash_linear_attention
import baselines.delta.gated_delta_rule.pytorch  # noqa: F401  (registers)
from baselines.delta.pytorch import naive, torch_chunk, torch_step
from kernels.delta.delta_rule.spec import delta_rule
from kernels.delta.gated_delta_product.spec import gated_delta_product
from kernels.delta.gated_delta_rule.spec import gated_delta_rule
from kernels.delta.reference import recurrence
from suite import Operator, Problem
from suite.errors import UsageError
from tests.baselines.delta_rules import check_adapter, check_sequence, check_step, parameters, stand_in

# name -> (sizes, the operators' axes)
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "one_token": ({"T": 1, "initial_state": True}, {}),
    "ragged": ({"T": 63, "K": 20, "V": 28, "initial_state": True}, {}),
    "value_heads": ({"T": 130, "B": 2, "HV": 4, "initial_state": True}, {"negative_eigenvalues": True}),
    "packed": ({"T": 130, "layout": "packed:ragged", "initial_state": True}, {}),
    "l2norm": ({"T": 70, "H": 1, "HV": 2}, {"l2norm": True}),
    "half": ({"T": 130, "K": 64, "V": 64, "dtype": "fp16"}, {}),
    "brain": ({"T": 130, "K": 64, "V": 64, "dtype": "bf16"}, {}),
}
# Operator -> how many steps a token has in these tests, where that is an axis.
OPERATORS: dict[str, tuple[Operator, dict[str, Any]]] = {
    "plain": (delta_rule, {}),
    "gated": (gated_delta_rule, {}),
    "product": (gated_delta_product, {"steps": 3}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("implementation", ["naive", "torch_chunk"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_outputs_states_and_gradients(operator: str, implementation: str, case: str) -> None:
    which, own = OPERATORS[operator]
    sizes, axes = CASES[case]
    check_sequence(which, implementation, {**axes, **own}, **sizes)


@pytest.mark.parametrize("steps", [1, 4])
def test_every_number_of_steps(steps: int) -> None:
    sizes, axes = CASES["value_heads"]
    check_sequence(gated_delta_product, "torch_chunk", {**axes, "steps": steps}, **sizes)
    check_step(gated_delta_product, {"steps": steps, "l2norm": True})


@pytest.mark.parametrize("sizes", [{}, {"dtype": "bf16", "state_dtype": "bf16"}], ids=["single", "narrow"])
@pytest.mark.parametrize("l2norm", [False, True])
@pytest.mark.parametrize("operator", OPERATORS)
def test_step_updates_its_state_in_place(operator: str, l2norm: bool, sizes: dict[str, Any]) -> None:
    which, own = OPERATORS[operator]
    check_step(which, {"l2norm": l2norm, **own}, **sizes)


@pytest.mark.parametrize("run", [naive, torch_chunk, torch_step])
def test_steps_have_to_agree_with_the_shape_of_k(run: Callable[..., Any]) -> None:
    q, k, beta = torch.ones(1, 1, 1, 4), torch.ones(1, 1, 2, 1, 4), torch.ones(1, 1, 2, 1)
    words = {"state": torch.ones(1, 1, 4, 4)} if run is torch_step else {}
    run(q, k, k, beta, steps=2, **words)
    with pytest.raises(UsageError, match="give steps = 2"):
        run(q, k, k, beta, steps=3, **words)


@pytest.mark.parametrize("pass_", ["fwd", "bwd", "fwdbwd"])
def test_executed_flops_count_every_sequence_s_padded_chunks(pass_: str) -> None:
    """Two sequences of 40 tokens, two packed ones of 20, one of 40 tokens with 3 steps each; chunks of at most 32."""
    factor = {"fwd": 1, "bwd": 2, "fwdbwd": 3}[pass_]
    cases: list[tuple[Operator, dict[str, Any], dict[str, Any], int, int]] = [
        (delta_rule, {}, {"B": 2}, 2 * 64, 32),
        (gated_delta_rule, {}, {"layout": "packed:halves"}, 2 * 20, 20),
        (gated_delta_product, {"steps": 3}, {}, 128, 32),
    ]
    for which, own, sizes, rows, C in cases:
        at = which.complete(Problem(T=40, H=2, K=8, V=12, pass_=pass_, **sizes), own)
        found = which.cost_of(at, which.implementations["torch_chunk"], {"chunk": 32}).flops_exec
        assert found == factor * 2 * rows * (6 * 8 * 12 + C * (5 * 8 + 3 * 12))


@dataclass(frozen=True)
class Peer:
    """An operator of the library: ours by name, its module, what its entries do, their names, parameters of its own."""

    operator: str
    module: str
    entry: Callable[..., Any]
    chunk: str
    recurrent: str = ""
    more: frozenset[str] = frozenset()


def contract(equal_heads: bool) -> Callable[..., Any]:
    """What the library's entries take: heads that are equal or not, steps as rows, boundaries in tokens."""

    def entry(
        q,
        k,
        v,
        g=None,
        *,
        beta,
        num_householder=0,
        scale=None,
        initial_state=None,
        output_final_state=False,
        use_qk_l2norm_in_kernel=False,
        cu_seqlens=None,
        cu_seqlens_cpu=None,
    ):
        assert q.shape[2] == k.shape[2]
        assert not equal_heads or k.shape[2] == v.shape[2]
        if num_householder:
            k, v, beta = (x.unflatten(1, (-1, num_householder)) for x in (k, v, beta))
        return recurrence(
            q,
            k,
            v,
            beta,
            g,
            l2norm=use_qk_l2norm_in_kernel,
            scale=scale,
            initial_state=initial_state,
            output_final_state=output_final_state,
            cu_seqlens=cu_seqlens,
        )

    return entry


PEERS = {
    "delta_rule": Peer("plain", "delta_rule", contract(True), "chunk_delta_rule", "fused_recurrent_delta_rule"),
    "gated_delta_rule": Peer(
        "gated",
        "gated_delta_rule",
        contract(False),
        "chunk_gated_delta_rule",
        "fused_recurrent_gated_delta_rule",
        frozenset({"g"}),
    ),
    "gated_delta_product": Peer(
        "product",
        "gated_delta_product",
        contract(True),
        "chunk_gated_delta_product",
        more=frozenset({"g", "num_householder"}),
    ),
}
CALLS = [
    ("fla_chunk", {"initial_state": True}),
    ("fla_chunk", {"layout": "packed:ragged", "T": 40}),
    ("fla_fused_recurrent", {"initial_state": True}),
    ("fla_step", {"pass_": "decode", "B": 2}),
]
HAS = [(peer, name, sizes) for peer in PEERS for name, sizes in CALLS if name == "fla_chunk" or PEERS[peer].recurrent]


@pytest.mark.parametrize(("peer", "name", "sizes"), HAS)
def test_adapters_call_the_library(
    peer: str, name: str, sizes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = PEERS[peer]
    which, own = OPERATORS[made.operator]
    entries = {each: made.entry for each in (made.chunk, made.recurrent) if each}
    stand_in(monkeypatch, f"fla.ops.{made.module}", entries)
    check_adapter(which, name, {"l2norm": True, **own}, **sizes)


def test_adapters_are_there_where_the_library_has_an_entry() -> None:
    found = {(peer, name) for peer, made in PEERS.items() for name in OPERATORS[made.operator][0].implementations}
    assert {each for each in found if each[1].startswith("fla_")} == {(peer, name) for peer, name, _ in HAS}
    gated = gated_delta_rule.implementations["fla_fused_recurrent"]
    assert gated.passes == {"fwd"}
    assert delta_rule.implementations["fla_fused_recurrent"].passes == {"fwd", "bwd", "fwdbwd"}


FILES = [(peer, "chunk", made.chunk) for peer, made in PEERS.items()]
FILES += [(peer, "fused_recurrent", made.recurrent) for peer, made in PEERS.items() if made.recurrent]


@pytest.mark.parametrize(("peer", "file", "name"), FILES)
def test_the_installed_library_has_the_parameters_used(peer: str, file: str, name: str) -> None:
    made = PEERS[peer]
    found = parameters("fla-core", f"fla/ops/{made.module}/{file}.py", name)
    used = {"beta", "scale", "initial_state", "output_final_state", "use_qk_l2norm_in_kernel", "cu_seqlens", *made.more}
    assert found[:3] == ["q", "k", "v"]
    assert used | ({"cu_seqlens_cpu"} if file == "chunk" else set()) <= set(found)
