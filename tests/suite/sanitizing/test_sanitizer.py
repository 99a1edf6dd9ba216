"""Self-test of the sanitizer: each kind of fault is planted and found, with the right words; what is right is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

from suite.errors import SubquadError
from suite.sanitizing import Finding, Sanitizer
from suite.sanitizing.examining import examine
from tests.suite.sanitizing import planted

pytestmark = pytest.mark.interpret

HERE = Path(planted.__file__)


def line(kernel: str, mark: str = "here", file: Path = HERE) -> str:
    """FILE:LINE of the marked line of a planted kernel."""
    lines = file.read_text().splitlines()
    start = lines.index(next(x for x in lines if x.startswith(f"def {kernel}(")))
    return f"{HERE.name}:{next(i for i in range(start, len(lines)) if lines[i].endswith(f'# {mark}')) + 1}"


def found(kernel: Any, grid: tuple[int, ...], *args: Any, **words: Any) -> list[Finding]:
    with Sanitizer() as sanitizer:
        kernel[grid](*args, **words)
    assert sanitizer.launches == 1
    return sanitizer.findings


def only(findings: list[Finding], kind: str) -> Finding:
    assert [x.kind for x in findings] == [kind], findings
    return findings[0]


def test_clean_kernel_has_no_findings() -> None:
    x = torch.randn(100)

    def run() -> dict[str, torch.Tensor]:
        o = torch.zeros(100)
        planted.clean_kernel[(2,)](x, o, 100, B=64)
        return {"o": o}

    examined = examine(run)
    assert (examined.findings, examined.launches) == ([], 1)
    assert torch.equal(examined.outputs["o"], 2 * x)


def test_read_out_of_bounds() -> None:
    o = torch.zeros(100)
    x = torch.randn(100)
    finding = only(found(planted.reads_outside_kernel, (2,), x, o, 100, B=64), "out of bounds")
    assert (finding.kernel, finding.tensor) == ("reads_outside_kernel", "x")
    assert "program (1, 0, 0) of (2, 1, 1)" in finding.text
    assert "reads offsets 100 to 127 of x, of shape [100]: 28 elements" in finding.text
    assert finding.place.endswith(line("reads_outside_kernel"))
    assert torch.equal(o, x), "what is inside must be computed all the same"


def test_write_out_of_bounds_names_the_call_too() -> None:
    storage = torch.full((64,), 7.0)
    o = storage[8:40]
    finding = only(found(planted.writes_outside_kernel, (1,), torch.ones(32), o, 32, B=32), "out of bounds")
    assert "writes offsets -1 of o, of shape [32]: 1 element" in finding.text
    innermost, caller = finding.place.split(", called at ")
    assert innermost.endswith(line("save"))
    assert HERE.name in caller
    assert storage[7] == 7.0, "a write out of bounds must not be done"


def test_pointers_of_two_tensors_are_of_both() -> None:
    x, o = torch.ones(64), torch.zeros(64)
    assert not found(planted.reads_either_kernel, (1,), x, o, 64, B=64, num_warps=1)
    read, written = found(planted.reads_either_kernel, (1,), x, o[:60], 64, B=64, num_warps=1)
    assert "reads offsets 61 to 63 of o, of shape [60]: 2 elements" in read.text
    assert "writes offsets 60 to 63 of o, of shape [60]: 4 elements" in written.text


def test_gap_of_a_view_is_outside_and_parts_of_tuples_have_names() -> None:
    x, o = torch.ones(16, 4)[:, :2], torch.zeros(32)
    finding = only(found(planted.reads_gap_kernel, (1,), (x, o), 32, B=32), "out of bounds")
    assert finding.tensor == "parts[0]"
    assert "reads offsets 2 to 31 of parts[0], of shape [16, 2]: 16 elements" in finding.text


def test_race_between_programs() -> None:
    findings = found(planted.races_kernel, (3,), torch.ones(128), torch.zeros(512), B=128)
    race = next(x for x in findings if x.kind == "race")
    assert "program (1, 0, 0) of (3, 1, 1)" in race.text
    assert "at offset 128 of o, of shape [512] reads what program (0, 0, 0) writes in the same launch" in race.text
    assert race.place.endswith(line("races_kernel"))
    order = next(x for x in findings if x.kind == "order")
    assert "to o, of shape [512] when its programs (3, 1, 1) run reversed" in order.text


def test_equal_values_written_by_all_are_no_race() -> None:
    assert not found(planted.same_values_kernel, (3,), torch.zeros(128), B=128)


def test_missing_barrier_within_a_program() -> None:
    findings = found(planted.reverses_kernel, (1,), torch.zeros(128), B=128, WAITS=False)
    first = findings[0]
    assert (first.kind, first.tensor) == ("missing barrier", "o")
    assert "at offset 127 of o, of shape [128] reads what it wrote, without a barrier between the two" in first.text
    assert first.place.endswith(line("reverses_kernel"))
    assert not found(planted.reverses_kernel, (1,), torch.zeros(128), B=128, WAITS=True)


def test_in_place_is_right_only_where_each_thread_has_its_own_elements() -> None:
    assert not found(planted.in_place_kernel, (1,), torch.ones(64), B=64, num_warps=2)
    finding = only(found(planted.in_place_kernel, (1,), torch.ones(64), B=64, num_warps=4), "missing barrier")
    assert "writes what it read, without a barrier between the two" in finding.text


def test_nan_of_masked_lanes_leaks() -> None:
    x, y = torch.ones(20), torch.ones(20)

    def run() -> dict[str, torch.Tensor]:
        o, other = torch.zeros(1), torch.zeros(20)
        planted.leaks_kernel[(1,)](x, o, 20, B=32)
        planted.clean_kernel[(1,)](y, other, 20, B=32)
        return {"o": o, "other": other}

    finding = only(examine(run).findings, "masked lanes")
    assert (finding.kernel, finding.tensor) == ("leaks_kernel", "x")
    assert "a load of x without `other`: they reach o (1 of 1 elements)" in finding.text
    assert finding.place.endswith(line("leaks_kernel"))


def test_index_of_masked_lanes_is_far_outside() -> None:
    index = torch.arange(20, dtype=torch.int32)
    findings = found(planted.leaks_index_kernel, (1,), torch.ones(20), index, torch.zeros(20), 20, B=32)
    assert only(findings, "out of bounds").tensor == "x"


def test_order_of_programs_matters() -> None:
    x = torch.tensor([1e8, 1.0, 1.0, -1e8])
    finding = only(found(planted.ordered_kernel, (4,), x, torch.zeros(1)), "order")
    assert "ordered_kernel writes other bits to o, of shape [1]" in finding.text
    assert "at 1 offset, 0" in finding.text


def test_order_leaves_what_the_launch_makes_in_order() -> None:
    x, o = torch.tensor([1e8, 1.0, 1.0, -1e8]), torch.zeros(1)
    alone = torch.zeros(1)
    with Sanitizer(look=False):
        planted.ordered_kernel[(4,)](x, alone)
    found(planted.ordered_kernel, (4,), x, o)
    assert torch.equal(o, alone)


@pytest.mark.parametrize(
    ("start", "column", "mark", "words"),
    [
        (1, 0, "base", "the base of a descriptor of x is 4 bytes past a multiple of 16"),
        (0, 2, "block", "a block of a descriptor of x begins 8 bytes past a multiple of 16"),
    ],
)
def test_misaligned_descriptor(start: int, column: int, mark: str, words: str) -> None:
    x = torch.ones(16 * 16 + 16)

    def run() -> dict[str, torch.Tensor]:
        o = torch.zeros(16)
        planted.described_kernel[(1,)](x, o, START=start, COLUMN=column, B=16)
        return {"o": o}

    finding = only(examine(run).findings, "misaligned")
    assert words in finding.text
    assert finding.place.endswith(line("described_kernel", mark))


def test_descriptor_keeps_to_its_tensor() -> None:
    finding = only(
        found(planted.described_kernel, (1,), torch.ones(15 * 16), torch.zeros(16), START=0, COLUMN=0, B=16),
        "out of bounds",
    )
    assert "reads offsets 240 to 255 of x, of shape [240]: 16 elements" in finding.text


def meta(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device="meta")


def test_int32_overflow_at_sizes_that_do_not_exist() -> None:
    row, rows = 1 << 16, 1 << 16
    x, o = meta(rows, row), meta(rows, row)
    findings = found(planted.overflows_kernel, (rows,), x, o, ROW=row, WIDE=False, B=64)
    assert {(x.kind, x.tensor) for x in findings} == {("overflow", "x"), ("overflow", "o")}
    first = findings[0]
    assert "int32 arithmetic overflows in an offset into x, of shape [65536, 65536]" in first.text
    assert "comes out as -2147483648 to -2147483585" in first.text
    assert first.place.endswith(line("overflows_kernel"))
    assert not found(planted.overflows_kernel, (rows,), x, o, ROW=row, WIDE=True, B=64)


def test_loops_count_in_int32_at_sizes_that_do_not_exist() -> None:
    x, o = meta(1 << 16, 1 << 16), meta(1 << 16, 1 << 16)
    findings = found(planted.overflows_in_loop_kernel, (1,), x, o, 1 << 16, ROW=1 << 16, B=64)
    assert {x.kind for x in findings} == {"overflow"}
    assert findings[0].place.endswith(line("overflows_in_loop_kernel"))


def test_first_and_last_programs_run_at_sizes_that_do_not_exist() -> None:
    findings = found(planted.reads_outside_kernel, (1 << 24,), meta((1 << 30) - 1), meta(1 << 30), 1 << 30, B=64)
    finding = only(findings, "out of bounds")
    assert "program (16777215, 0, 0)" in finding.text
    assert "reads offsets 1073741823 of x" in finding.text


def test_grid_beyond_what_cuda_takes() -> None:
    finding = only(found(planted.same_values_kernel, (1, 65536), meta(128), B=128), "grid")
    assert "65536 programs along y; CUDA takes 65535 at most" in finding.text


def test_interpreter_is_what_it_was_afterwards() -> None:
    from triton.runtime import interpreter

    owners = (interpreter, interpreter.InterpreterBuilder, interpreter.GridExecutor, interpreter.TensorDescHandle)
    before = [dict(vars(owner)) for owner in owners]
    with pytest.raises(ZeroDivisionError), Sanitizer():
        raise ZeroDivisionError
    assert [dict(vars(owner)) for owner in owners] == before


def test_hooks_call_what_they_found() -> None:
    from triton.runtime import interpreter

    builder, seen = interpreter.InterpreterBuilder, []
    load = builder.create_masked_load

    def counted(*args: Any, **words: Any) -> Any:
        seen.append(1)
        return load(*args, **words)

    builder.create_masked_load = counted
    try:
        found(planted.clean_kernel, (1,), torch.ones(64), torch.zeros(64), 64, B=64)
    finally:
        builder.create_masked_load = load
    assert seen


@pytest.mark.parametrize("kernel", [planted.leaks_into_maximum_kernel, planted.counts_leaks_kernel])
def test_masked_lanes_leak_where_nan_does_not_show(kernel: Any) -> None:
    def run() -> dict[str, torch.Tensor]:
        o = torch.zeros(1)
        kernel[(1,)](torch.ones(20), o, 20, B=32)
        return {"o": o}

    finding = only(examine(run).findings, "masked lanes")
    assert finding.place.endswith(line(kernel.__name__))


def test_an_other_of_one_element_that_is_0_is_one() -> None:
    def run() -> dict[str, torch.Tensor]:
        o = torch.zeros(1)
        planted.scalar_with_other_kernel[(1,)](torch.full((1,), 5.0), o, 20)
        return {"o": o}

    examined = examine(run)
    assert (examined.findings, float(examined.outputs["o"])) == ([], 1.0)


def test_what_differs_from_call_to_call_is_not_blamed_on_masks() -> None:
    calls = iter(range(100))

    def run() -> dict[str, torch.Tensor]:
        o = torch.zeros(1)
        planted.leaks_kernel[(1,)](torch.full((20,), float(next(calls))), o, 20, B=32)
        return {"o": o}

    with pytest.raises(SubquadError, match="two calls differ as they are"):
        examine(run)


def test_an_atomic_operation_on_what_another_thread_stored() -> None:
    kernel = planted.stores_then_adds_kernel
    finding = only(found(kernel, (1,), torch.zeros(128), B=128, WAITS=False), "missing barrier")
    assert "changes by an atomic operation what it wrote" in finding.text
    assert finding.place.endswith(line("stores_then_adds_kernel"))
    assert found(kernel, (1,), torch.zeros(128), B=128, WAITS=True) == []


def test_a_read_of_what_several_programs_change_is_a_race() -> None:
    finding = next(x for x in found(planted.adds_then_reads_kernel, (2,), torch.zeros(1), torch.zeros(1)) if x.place)
    assert finding.kind == "race"
    assert finding.place.endswith(line("adds_then_reads_kernel"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_atomic_sums_of_each_format_have_no_findings(dtype: torch.dtype) -> None:
    x, o = torch.ones(32, dtype=dtype), torch.zeros(32, dtype=dtype)
    assert found(planted.adds_kernel, (3,), x, o, B=32) == []
    assert torch.equal(o, 3 * x)


def test_lanes_of_one_store_give_an_element_different_values() -> None:
    finding = only(found(planted.stores_twice_kernel, (1,), torch.zeros(64), B=128), "race")
    assert "is given different values by several lanes of one store" in finding.text
