"""The constant bank of a launch, against parameters that are written by hand."""

from __future__ import annotations

import struct
from types import SimpleNamespace

import pytest

from suite.static.timing.constants import SPAN, Bank, bank, parameters


def ptx(*kinds: str) -> str:
    """A kernel with parameters of such types, such as ".u32" or ".align 64 .b8[128]"."""
    declared = []
    for n, kind in enumerate(kinds):
        name, _, count = kind.partition("[")
        declared.append(f"\t.param {name} kernel_param_{n}{'[' + count if count else ''}")
    between = ",\n".join(declared)
    return f".version 8.7\n.visible .entry kernel(\n{between}\n)\n.reqntid 128\n{{\n\tret;\n}}\n"


POINTER = ".u64 .ptr .global .align 1"


def test_parameters_are_aligned_in_the_bank() -> None:
    text = ptx(".u32", POINTER, ".u8", ".u16", ".f32", ".align 64 .b8[128]", ".u64")
    assert parameters(text, 0x160) == [
        (0x160, 4),
        (0x168, 8),
        (0x170, 1),
        (0x172, 2),
        (0x174, 4),
        (0x180, 128),
        (0x200, 8),
    ]
    # In a bank whose parameters begin elsewhere the distance from the start is another one.
    assert parameters(ptx(".align 64 .b8[128]"), 0x210) == [(0x240, 128)]
    assert parameters(ptx(), 0x210) == []


def test_arguments_are_where_the_kernel_reads_them() -> None:
    signature = {"x": "*bf16", "n": "i32", "none": "constexpr", "pair": ("i64", ("*fp32", "constexpr")), "s": "fp32"}
    text = ptx(POINTER, ".u32", ".u64", POINTER, ".f32", POINTER, POINTER)
    values = {"x": object(), "n": -1, "none": None, "pair": (1 << 33, (object(), 4)), "s": 0.5}
    made = bank("sm_90", text, signature, values, grid=(5, 6, 7), warps=8)
    assert made.pointers == {"x": SPAN, "pair.1.0": 2 * SPAN}
    words = [made.word(0, 0x210 + at) for at in range(0, 56, 4)]
    half = struct.unpack("<I", struct.pack("<f", 0.5))[0]
    assert words == [0, 256, 0xFFFFFFFF, None, 0, 2, 0, 512, half, None, 0, 0, 0, 0]
    assert [made.word(0, at) for at in range(0, 24, 4)] == [256, 1, 1, 5, 6, 7]
    assert made.word(3, 0x210) is None
    blackwell = bank("sm_100", text, signature, values, grid=(5, 6, 7))
    assert [blackwell.word(0, at) for at in range(0x370, 0x37C, 4)] == [5, 6, 7]


def test_a_descriptor_of_the_hardware_is_unknown_but_for_its_shape() -> None:
    text = ptx(".align 64 .b8[128]", ".u32", ".u32", ".u64", ".u64", ".u32")
    value = SimpleNamespace(shape=(7, 64), strides=(64, 1))
    made = bank("sm_100", text, {"x": "tensordesc<bf16[16, 64]>", "n": "i32"}, {"x": value, "n": 9})
    assert [made.word(0, 0x380 + at) for at in (0, 124, 128, 132, 136, 144, 152)] == [None, None, 7, 64, 64, 1, 9]


@pytest.mark.parametrize("flags", [1, 2])
def test_a_descriptor_without_hardware_is_a_pointer_with_a_shape(flags: int) -> None:
    shape = [".u32", ".u32", ".u64", ".u64"]
    text = ptx(POINTER, ".u64", ".u64", ".u64", ".u64", *[".u8"] * flags, *shape, ".u32")
    value = SimpleNamespace(shape=(7, 64), strides=(64, 1))
    made = bank("sm_80", text, {"x": "tensordesc<bf16[16, 64]>", "n": "i32"}, {"x": value, "n": 9})
    assert [made.word(0, 0x160 + at) for at in (8, 16, 24, 32, 44, 48, 56, 64, 72)] == [7, 64, 64, 1, 7, 64, 64, 1, 9]


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ValueError, match="where sm_70 keeps parameters is not known"):
        bank("sm_70", ptx(), {}, {})
    with pytest.raises(ValueError, match="has 1 parameters; there are more arguments, b among them"):
        bank("sm_90", ptx(".u32"), {"a": "i32", "b": "i32"}, {"a": 1, "b": 2})
    with pytest.raises(ValueError, match="the argument a has 8 bytes; its parameter has 4"):
        bank("sm_90", ptx(".u32"), {"a": "i64"}, {"a": 1})
    with pytest.raises(ValueError, match="no entry"):
        parameters(".version 8.7", 0)


def test_memory_holds_the_contents_of_arguments_that_are_known() -> None:
    made = Bank(pointers={"x": 1 << 36, "y": 2 << 36})
    read = made.memory({"x": bytes([1, 0, 0, 0, 255, 1, 0, 0]), "absent": b"1234"})
    assert (read(1 << 36, 4), read((1 << 36) + 4, 4), read((1 << 36) + 4, 1)) == (1, 511, 255)
    assert (read((1 << 36) + 6, 4), read((1 << 36) - 1, 1), read(2 << 36, 4)) == (None, None, None)
