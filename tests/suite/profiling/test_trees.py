"""Proton's trees, in the form of its own examples."""

import json
from pathlib import Path

import pytest

from suite.errors import SubquadError
from suite.profiling.trees import leaves, read_tree, scope_metrics
from tests.suite.profiling.recordings import RECORDED, text

TREE = RECORDED / "proton.hatchet"


def test_kernels_of_one_name_are_one_whatever_scope_they_ran_in() -> None:
    output, state = read_tree(TREE, calls=5)
    assert (output.name, state.name) == ("linear_fwd_output_kernel", "linear_fwd_state_kernel")
    assert (output.calls, state.calls) == (2, 1)
    assert output.ms == pytest.approx((1_946_000 + 101_000) / 5 / 1e6)
    assert output.share + state.share == pytest.approx(1.0)
    assert output.counters == {"flops16": (64424509440 + 1024) / 5, "bytes": (805306368 + 2048) / 5}


def test_what_computes_the_metadata_of_a_launch_is_left_out() -> None:
    assert "vectorized_elementwise_kernel" in text("proton.hatchet")
    assert all("elementwise" not in kernel.name for kernel in read_tree(TREE, calls=5))


def test_a_leaf_knows_the_scopes_around_it() -> None:
    found = list(leaves(json.loads(text("proton.hatchet"))[0]))
    assert [leaf.path for leaf in found] == [("ROOT", "call"), ("ROOT", "call", "output"), ("ROOT", "call", "tail")]


def test_a_scope_has_the_metrics_it_was_given() -> None:
    assert scope_metrics(TREE, "call") == {"bytes": 671088640.0, "flops": 42949672960.0}
    assert scope_metrics(TREE, "nowhere") == {}


@pytest.mark.parametrize(("unit", "factor"), [("ns", 1e-6), ("us", 1e-3), ("ms", 1.0), ("s", 1e3)])
def test_units_of_time(tmp_path: Path, unit: str, factor: float) -> None:
    path = tmp_path / "one.hatchet"
    path.write_text(text("proton.hatchet").replace("time (ns)", f"time ({unit})"))
    assert sum(k.ms for k in read_tree(path, 1)) == pytest.approx((1_053_000 + 1_946_000 + 101_000) * factor)


@pytest.mark.parametrize("content", ["", "[]", "{}", '[{"children": []}]', '[{"frame": {"name": 3}, "metrics": {}}]'])
def test_what_is_no_profile_is_told(tmp_path: Path, content: str) -> None:
    path = tmp_path / "one.hatchet"
    path.write_text(content)
    with pytest.raises(SubquadError, match="is not a profile of proton"):
        read_tree(path, 1)
