"""Products that warps compute more than once: as the TTGIR, Triton's own layouts and the machine code have them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from suite.errors import Exit
from suite.reporting.renderers.tables import static as static_table
from suite.static import Launch, capture
from suite.static.binary import count_kinds
from suite.static.compare import judge
from suite.static.dots import Layout, dots_of
from suite.static.model import Dots, Profile, dots_of_all
from suite.static.rows import CASE_COLUMNS, LAUNCH_COLUMNS, case_row, launch_rows, markdown, notes
from suite.store.columns import OPTIONAL
from tests.suite.reporting.synthetic import static as static_record
from tests.suite.static import toys
from tests.suite.static.test_compare import launch

HEAD = 'module attributes {"ttg.num-ctas" = 1 : i32, "ttg.num-warps" = 8 : i32} {'


def mma(version: int, warps: str, instruction: str) -> str:
    return (
        f"#mma = #ttg.nvidia_mma<{{versionMajor = {version}, versionMinor = 0, "
        f"warpsPerCTA = [{warps}], instrShape = [{instruction}]}}>"
    )


def blocked(size: str, threads: str, warps: str) -> str:
    return (
        f"#blocked = #ttg.blocked<{{sizePerThread = [{size}], threadsPerWarp = [{threads}], "
        f"warpsPerCTA = [{warps}], order = [1, 0]}}>"
    )


def ampere(m: int, n: int, k: int, batch: str = "") -> str:
    left, right = (f"#ttg.dot_op<{{opIdx = {i}, parent = #mma, kWidth = 2}}>" for i in (0, 1))
    return (
        f"    %30 = tt.dot %28, %29, %cst, inputPrecision = tf32 : tensor<{batch}{m}x{k}xbf16, {left}> * "
        f"tensor<{batch}{k}x{n}xbf16, {right}> -> tensor<{batch}{m}x{n}xf32, #mma> loc(#loc)"
    )


def hopper(m: int, n: int, k: int) -> str:
    return (
        f"      %b_s:2 = ttng.warp_group_dot %1, %2, %3 {{inputPrecision = 0 : i32, isAsync = true}} : "
        f"tensor<{m}x{k}xbf16, #ttg.dot_op<{{opIdx = 0, parent = #mma, kWidth = 2}}>> * "
        f"!ttg.memdesc<{k}x{n}xbf16, #shared, #smem, mutable, 3x{k}x{n}> -> tensor<{m}x{n}xf32, #mma> loc(#loc)\n"
        f"      %4:2 = ttng.warp_group_dot_wait %b_s, %1 {{pendings = 0 : i32}} : tensor<{m}x{n}xf32, #mma>"
    )


def blackwell(m: int, n: int, k: int) -> str:
    return (
        f"    ttng.tc_gen5_mma %1, %2, %3[%token], %false, %true, %4[%true] {{is_async}} : "
        f"!ttg.memdesc<{m}x{k}xbf16, #shared, #smem>, !ttg.memdesc<{k}x{n}xbf16, #shared, #smem>, "
        f"!ttg.memdesc<{m}x{n}xf32, #tmem, #ttng.tensor_memory, mutable>, !ttg.memdesc<1xi64, #shared1, #smem>"
    )


def fma(m: int, n: int, k: int) -> str:
    left, right = (f"#ttg.dot_op<{{opIdx = {i}, parent = #blocked}}>" for i in (0, 1))
    return (
        f"    %24 = tt.dot %22, %23, %cst : tensor<{m}x{k}xf32, {left}> * tensor<{k}x{n}xf32, {right}>"
        f" -> tensor<{m}x{n}xf32, #blocked>"
    )


def ttgir(layout: str, *operations: str) -> str:
    return "\n".join([layout, HEAD, "  tt.func public @k() {", *operations, "  }", "}"])


@pytest.mark.parametrize(
    ("layout", "operation", "replicated", "factor"),
    [
        # 8 warps of 16 rows for 64 rows: both warp groups compute the same.
        (mma(3, "8, 1", "16, 64, 16"), hopper(64, 64, 64), 1, 2),
        (mma(3, "8, 1", "16, 64, 16"), hopper(128, 64, 64), 0, 1),
        (mma(3, "4, 1", "16, 64, 16"), hopper(64, 64, 64), 0, 1),
        # The second warp group has the other columns, unless one instruction has all of them.
        (mma(3, "4, 2", "16, 32, 16"), hopper(64, 64, 64), 0, 1),
        (mma(3, "4, 2", "16, 64, 16"), hopper(64, 64, 64), 1, 2),
        (mma(3, "16, 1", "16, 32, 16"), hopper(64, 128, 16), 1, 4),
        (mma(2, "8, 1", "16, 8"), ampere(64, 64, 64), 1, 2),
        (mma(2, "2, 4", "16, 8"), ampere(64, 64, 64), 0, 1),
        (mma(2, "4, 2", "16, 8"), ampere(16, 16, 16), 1, 4),
        (mma(2, "1, 8", "16, 8"), ampere(16, 16, 16), 1, 4),
        # A batch of 2 over 4 warps; a batch of 4.
        (mma(2, "4, 1, 1", "1, 16, 8"), ampere(16, 16, 16, "2x"), 1, 2),
        (mma(2, "4, 1, 1", "1, 16, 8"), ampere(16, 16, 16, "4x"), 0, 1),
        # An instruction has 16 rows also where the result has 8: executed, but by one warp alone.
        (mma(2, "1, 2", "16, 8"), ampere(8, 16, 16), 0, 2),
        (mma(2, "2, 2", "16, 8"), ampere(8, 16, 16), 1, 4),
        # One issue for the block.
        ("", blackwell(64, 64, 64), 0, 1),
        # 128 threads for 64 elements; for 2048; 4 x 4 of them a thread, in one row a thread computes no more than 4.
        (blocked("1, 1", "2, 16", "4, 1"), fma(4, 16, 16), 1, 2),
        (blocked("4, 4", "2, 16", "4, 1"), fma(32, 64, 16), 0, 1),
        (blocked("4, 4", "2, 16", "4, 1"), fma(1, 64, 16), 1, 8),
    ],
)
def test_who_computes_what(layout: str, operation: str, replicated: int, factor: int) -> None:
    found = dots_of(ttgir(layout, operation))
    assert (found.total, found.replicated, found.reason) == (1, replicated, "")
    assert found.flops_exec == factor * found.flops


def test_a_product_weighs_its_flops() -> None:
    """64 x 64 x 64 twice over and 128 x 32 x 16 once; what is no product does not count."""
    layout = mma(3, "8, 1", "16, 32, 16")
    found = dots_of(ttgir(layout, hopper(64, 64, 64), "%dot = tt.load %mma : f32", hopper(128, 32, 16)))
    first, second = 2 * 64 * 64 * 64, 2 * 128 * 32 * 16
    assert found == Dots(2, 1, first + second, 2 * first + second)
    assert found.share == "1/2"
    assert found.ratio == (2 * first + second) / (first + second)


def test_a_batch_has_its_flops_each() -> None:
    assert dots_of(ttgir(mma(2, "4, 1, 1", "1, 16, 8"), ampere(16, 32, 64, "4x"))).flops == 4 * 2 * 16 * 32 * 64


def test_a_kernel_without_products_has_none() -> None:
    assert dots_of(ttgir("", "%1 = tt.load %0 : f32")) == Dots()
    assert Dots().ratio is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "Triton gives no TTGIR of this kernel"),
        (ttgir(mma(4, "4, 1", "16, 8"), ampere(64, 64, 64)), "the layout nvidia_mma<{versionMajor = 4"),
        (ttgir(mma(2, "4, 1, 1", "1, 16, 8"), ampere(64, 64, 64)), "the layout nvidia_mma<{versionMajor = 2"),
        (ttgir(mma(2, "4, 1", "16, 8")[:-2] + ", CGALayout = [[0, 1]]}>", ampere(64, 64, 64)), "CGALayout"),
        (ttgir("#mma = #ttg.linear<{register = [[0, 1]], warp = []}>", ampere(64, 64, 64)), "the layout linear"),
        (ttgir("", ampere(64, 64, 64)), "the result of tt.dot has no layout that is known"),
        (ttgir(mma(2, "4, 1", "16, 8"), ampere(64, 64, 64).replace("64x64xf32", "64x32xf32")), "do not agree"),
        (ttgir("", "%1 = tt.dot_scaled %2 scale %3, %4, %5 : tensor<8x8xi8>"), "tt.dot_scaled is not known"),
        (ttgir("", blackwell(64, 64, 64)).replace('ctas" = 1', 'ctas" = 2'), "several CTAs"),
    ],
)
def test_what_is_not_known_is_no_number(text: str | None, reason: str) -> None:
    found = dots_of(text)
    assert reason in found.reason
    assert found == Dots(reason=found.reason)


V2, V3, BATCH, BLOCKED = "v2", "v3", "batched", "blocked"
LAYOUTS = [
    *(
        (V3, warps, (16, n, 16), shape)
        for warps in ((4, 1), (8, 1), (4, 2))
        for n, shape in ((64, (64, 64)), (32, (128, 64)))
    ),
    *((V2, warps, (16, 8), shape) for warps in ((8, 1), (2, 4), (1, 8)) for shape in ((16, 16), (64, 64), (8, 16))),
    *((V2, (4, 1, 1), (1, 16, 8), (batch, 16, 16)) for batch in (2, 4)),
    *((BLOCKED, (4, 1), (2, 16), shape) for shape in ((4, 16), (16, 16), (64, 64))),
]


@pytest.mark.parametrize(("kind", "warps", "unit", "shape"), LAYOUTS)
def test_the_rule_is_that_of_tritons_linear_layouts(
    kind: str, warps: tuple[int, ...], unit: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    """Of N basis vectors of a linear layout that are zero, 2^N warps (or lanes) hold the same element.

    threads x registers is 2 to the number of all basis vectors; over the elements it is what is computed over what is
    needed.
    """
    bases = linear(kind, warps, unit, shape)
    if kind == BLOCKED:
        layout = Layout(tuple(a * b for a, b in zip(warps, unit, strict=True)), (2, 2), padded=False)
        holders = bases["lane"] + bases["warp"]
    else:
        layout, holders = Layout(warps, unit[: len(shape)], padded=True), bases["warp"]
    assert layout.copies(shape) == 2 ** sum(not any(basis) for basis in holders)
    assert layout.computed(shape) == 2 ** sum(map(len, bases.values()))


def linear(
    kind: str, warps: tuple[int, ...], unit: tuple[int, ...], shape: tuple[int, ...]
) -> dict[str, list[list[int]]]:
    from triton._C.libtriton import gluon_ir, ir  # pyright: ignore[reportMissingImports]
    from triton.experimental.gluon.language import BlockedLayout, NVMMADistributedLayout

    context = ir.context()
    ir.load_dialects(context)
    builder = gluon_ir.GluonOpBuilder(context)
    layout: Any
    if kind == BLOCKED:
        layout = BlockedLayout([2, 2], list(unit), list(warps), [1, 0])
    else:
        layout = NVMMADistributedLayout([int(kind[1]), 0], list(warps), list(unit))
    found = builder.to_linear_layout(layout._to_ir(builder), list(shape))
    return {"register": found.reg_bases, "lane": found.lane_bases, "warp": found.warp_bases}


@pytest.mark.parametrize(
    ("arch", "warps", "replicated", "instruction"),
    [
        # FLOPs of one instruction: m16n8k16 of a warp; m64nNk16 of a group of four warps.
        ("sm_80", 8, 2, 2 * 16 * 8 * 16),
        ("sm_80", 4, 0, 2 * 16 * 8 * 16),
        ("sm_90", 8, 1, 2 * 64 * 32 * 16 // 4),
        ("sm_90", 4, 0, 2 * 64 * 64 * 16 // 4),
    ],
)
def test_a_compiled_kernel_executes_what_is_said(arch: str, warps: int, replicated: int, instruction: int) -> None:
    """Two products of 64 rows: 8 warps have 128. The machine code has no loop, so that its instructions add up."""
    (found,) = capture(lambda: toys.chained(64, warps), arch)
    assert found.binary
    assert found.dots
    assert (found.dots.total, found.dots.replicated, found.dots.reason) == (2, replicated, "")
    assert found.dots.flops == 2 * 2 * 64 * 64 * 64
    instructions = found.binary.mix["hmma"] + found.binary.mix["hgmma"]
    assert found.dots.flops_exec == instructions * warps * instruction


TWICE, ONCE, UNREAD = Dots(4, 3, 100, 175), Dots(2, 0, 300, 300), Dots(reason="tt.dot_scaled is not known")


def profile(*dots: Dots | None) -> Profile:
    mix = count_kinds(Counter())
    launches = tuple(launch(f"{index}_kernel", mix=mix, dots=each) for index, each in enumerate(dots))
    return Profile("op/impl/case", "sm_90", launches=launches)


def dots_columns(*dots: Dots | None) -> dict[str, Any]:
    columns = profile(*dots).columns()
    return {name: value for name, value in columns.items() if name.startswith("static.dots")}


def test_columns_have_all_launches() -> None:
    expected = {"static.dots": 6, "static.dots_replicated": 3, "static.dots_ratio": 475 / 400}
    assert dots_columns(TWICE, ONCE) == expected
    assert dots_columns(Dots()) == {"static.dots": 0, "static.dots_replicated": 0}
    unread = dots_columns(TWICE, UNREAD)
    assert unread == {"static.dots_reason": "1_kernel: tt.dot_scaled is not known"}
    assert expected.keys() | unread.keys() <= OPTIONAL.keys()
    assert dots_columns(None) == {}
    assert dots_of_all([Launch("k", (1, 1, 1))]) is None


def test_tables_show_replicated_of_all() -> None:
    found = profile(TWICE, ONCE)
    assert dict(zip(CASE_COLUMNS, case_row(found), strict=True))["dots"] == "3/6"
    rows = [dict(zip(LAUNCH_COLUMNS, row, strict=True)) for row in launch_rows(found.launches)]
    assert [(row["dots"], row["x dots"]) for row in rows] == [("3/4", "1.75"), ("0/2", "1.00")]
    head, _, row = markdown([found]).splitlines()
    assert dict(zip(head.split(" | "), row.split(" | "), strict=True))["dots"] == "3/6"


def test_tables_say_why_products_are_not_read() -> None:
    found = profile(TWICE, UNREAD)
    assert dict(zip(CASE_COLUMNS, case_row(found), strict=True))["dots"] == "-"
    assert list(notes([found])) == ["op/impl/case sm_90: dots not read: 1_kernel: tt.dot_scaled is not known"]


def test_the_report_lists_them() -> None:
    row = static_record("linear_attention", "triton_chunk", 4096) | dots_columns(TWICE, ONCE)
    table = static_table([row | {"name": "linear_attention/triton_chunk"}])
    cells = dict(zip(table.columns, table.rows[0], strict=True))
    assert (cells["dots"].text, cells["replicated dots"].text) == ("6", "3")
    assert cells["dots, executed / needed"].value == 475 / 400


def test_a_change_is_a_difference_and_no_verdict() -> None:
    before = profile(Dots(4, 0, 100, 100))
    after = Profile(
        "op/impl/case", "sm_90", launches=(launch("0_kernel", "b", mix=count_kinds(Counter()), dots=TWICE),)
    )
    decision = judge(before, after)
    assert (decision.verdict, decision.exit) == ("same", Exit.PASS)
    assert decision.reason.startswith(
        "0_kernel: replicated dots 0/4 -> 3/4; 0_kernel: executed over needed FLOPs of dots 1.00 -> 1.75; "
    )


def test_a_profile_with_dots_survives_its_way_through_json() -> None:
    import json

    found = profile(TWICE, UNREAD, None)
    assert Profile.from_dict(json.loads(json.dumps(found.to_dict()))) == found
