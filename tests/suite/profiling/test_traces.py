"""Chrome traces of torch.profiler: recorded on a CPU, and in the form that a GPU leaves."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.errors import SubquadError
from suite.profiling.traces import own_times, read_trace
from tests.suite.profiling.recordings import RECORDED, text


def span(name: str, ts: float, dur: float, tid: int = 1) -> dict:
    return {"ph": "X", "cat": "cpu_op", "name": name, "ts": ts, "dur": dur, "pid": 1, "tid": tid}


def test_an_operator_has_the_time_that_those_inside_it_do_not() -> None:
    events = [span("outer", 0, 10_000), span("inner", 1_000, 4_000), span("innermost", 2_000, 1_000)]
    assert dict(own_times(events)) == {"outer": 6.0, "inner": 3.0, "innermost": 1.0}


def test_neighbours_and_other_threads_take_nothing_from_each_other() -> None:
    events = [span("a", 0, 1_000), span("b", 1_000, 2_000), span("c", 500, 3_000, tid=2)]
    assert dict(own_times(events)) == {"a": 1.0, "b": 2.0, "c": 3.0}


def test_two_that_begin_together_are_nested() -> None:
    assert dict(own_times([span("in", 5, 1_000), span("around", 5, 3_000)])) == {"around": 2.0, "in": 1.0}


@st.composite
def nested(draw: st.DrawFn, low: float = 0.0, high: float = 1e6, depth: int = 4) -> list[dict]:
    """Spans of one thread, each wholly inside or wholly beside every other one."""
    cuts = sorted(draw(st.lists(st.floats(low, high), max_size=4, unique=True)))
    found = []
    for start, end in zip(cuts[::2], cuts[1::2], strict=False):
        found.append(span(f"op{depth}", start, end - start))
        if depth:
            found += draw(nested(start, end, depth - 1))
    return found


@given(nested())
def test_own_times_add_up_to_what_the_outermost_take(events: list[dict]) -> None:
    outermost = sum(event["dur"] for event in events if event["name"] == "op4")
    assert sum(ms for _, ms in own_times(events)) == pytest.approx(outermost / 1e3, abs=1e-6)


def test_recorded_on_a_cpu() -> None:
    kernels = read_trace(RECORDED / "torch_cpu.json", 2, "cpu")
    by_name = {kernel.name: kernel for kernel in kernels}
    assert by_name["aten::bmm"].calls == 2
    assert by_name["aten::tril"].calls == 1
    assert sum(kernel.share for kernel in kernels) == pytest.approx(1.0)
    assert [kernel.ms for kernel in kernels] == sorted((kernel.ms for kernel in kernels), reverse=True)
    events = json.loads(text("torch_cpu.json"))["traceEvents"]
    inclusive = sum(e["dur"] for e in events if e.get("name") == "aten::matmul") / 2e3
    assert by_name["aten::matmul"].ms < inclusive / 2
    steps = sum(e["dur"] for e in events if str(e.get("name")).startswith("ProfilerStep")) / 2e3
    assert 0.2 * steps < sum(kernel.ms for kernel in kernels) < steps


def test_a_gpu_has_kernels_and_not_what_launched_them() -> None:
    kernels = read_trace(RECORDED / "torch_cuda.json", 2, "cuda")
    assert [kernel.name for kernel in kernels] == [
        "linear_fwd_output_kernel",
        "linear_fwd_state_kernel",
        "Memset (Device)",
    ]
    assert [kernel.calls for kernel in kernels] == [1, 1, 1]
    assert kernels[0].ms == pytest.approx((389.5 + 388.5) / 2 / 1e3)
    assert kernels[1].ms == pytest.approx((210.5 + 211.5) / 2 / 1e3)
    assert kernels[0].share == pytest.approx(389.0 / (389.0 + 211.0 + 1.5))


@pytest.mark.parametrize(
    ("content", "device", "said"),
    [
        ("{", "cpu", "is not a Chrome trace"),
        ('{"traceEvent": []}', "cpu", "is not a Chrome trace"),
        ('{"traceEvents": []}', "cpu", "nothing that ran on the CPU"),
        (text("torch_cpu.json"), "cuda", "nothing that ran on the GPU"),
    ],
)
def test_what_is_no_trace_is_told(tmp_path: Path, content: str, device: str, said: str) -> None:
    path = tmp_path / "trace.json"
    path.write_text(content)
    with pytest.raises(SubquadError, match=said):
        read_trace(path, 1, device)
