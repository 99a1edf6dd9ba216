"""Sizes of loads and products that stand in the TTGIR only."""

from __future__ import annotations

from suite.static.model import Dots
from suite.static.timing.hints import hints_of
from suite.static.timing.units import Hints
from tests.suite.static.timing.made import one, program

COPY = """\
    ttng.async_tma_copy_global_to_local %q_desc[%0, %1] %q, %bar, %true : !tt.tensordesc<tensor<128x64xbf16>>, \
!ttg.memdesc<1xi64, #shared2, #smem, mutable> -> !ttg.memdesc<128x64xbf16, #shared, #smem, mutable>
    ttng.async_tma_copy_global_to_local %k_desc[%2, %1] %k, %bar, %true : !tt.tensordesc<tensor<64x64xf32>>, \
!ttg.memdesc<1xi64, #shared2, #smem, mutable> -> !ttg.memdesc<1x64x64xf32, #shared, #smem, mutable, 3x64x64>
"""
LOADS = program([one("UTMALDG.4D", "[UR8], [UR10]")] * 2, one("NOP"))


def test_the_bytes_of_tma_loads_are_spread_over_the_instructions() -> None:
    assert hints_of(LOADS, COPY, None) == Hints(tma_bytes=(128 * 64 * 2 + 64 * 64 * 4) / 2)
    # A copy of 64 KiB may take several instructions.
    assert hints_of(LOADS * 2, COPY, None).tma_bytes == (128 * 64 * 2 + 64 * 64 * 4) / 4


def test_without_loads_or_text_there_is_nothing_to_tell() -> None:
    assert hints_of(program(one("NOP")), COPY, None) == Hints()
    assert hints_of(LOADS, None, None) == Hints()
    assert hints_of(LOADS, "", None) == Hints()


def test_products_are_spread_over_the_instructions() -> None:
    products = program([one("UTCHMMA", "gdesc[UR4], gdesc[UR6]")] * 8)
    flops = 2 * 128 * 64 * 128
    assert hints_of(products, "", Dots(total=1, flops=flops)).tensor_fmas == flops / 2 / 8
    assert hints_of(products, "", Dots(reason="not read")).tensor_fmas == 0
    assert hints_of(LOADS, "", Dots(total=1, flops=flops)).tensor_fmas == 0
