"""Source lines of instructions: the kernel compiled once more with line information, beside the binary of the hash."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from suite.discovery import ROOT

_LINE = re.compile(r'^\s*//## File "(?P<file>[^"]*)", line (?P<line>\d+)')
_INSTRUCTION = re.compile(r"^\s*/\*(?P<address>[0-9a-f]{4,})\*/")
_SECTION = re.compile(r"^\s*\.section\s+(\S+?),")


def with_lines(fn: Any, compile_: Callable[[], Any]) -> dict[int, str]:
    """The source line of each instruction of a kernel, by address: "kernels/delta/forward.py:91".

    fn, compile_: the Triton function, and what compiles it as it was launched
    Empty where the binary has no line information.
    """
    from triton import knobs

    with knobs.compilation.scope():
        knobs.compilation.disable_line_info = False
        # A function remembers what it compiled, whatever the setting.
        fn.device_caches.clear()
        try:
            kernel = compile_()
        finally:
            fn.device_caches.clear()
    return lines_of(_disassembled(kernel.asm["cubin"]))


def lines_of(listing: str) -> dict[int, str]:
    """Source lines by address in nvdisasm's listing of one function with line information."""
    found, place, inside = dict[int, str](), "", False
    for text in listing.splitlines():
        if section := _SECTION.match(text):
            inside = section[1].strip('"').startswith(".text.")
        elif line := _LINE.match(text):
            place = f"{short(line['file'])}:{line['line']}"
        elif inside and place and (instruction := _INSTRUCTION.match(text)):
            found[int(instruction["address"], 16)] = place
    return found


def short(file: str) -> str:
    """A source file as lines name it: from the checkout's root on, or from site-packages on."""
    path = Path(file)
    if path.is_relative_to(ROOT):
        return str(path.relative_to(ROOT))
    parts = path.parts
    return str(Path(*parts[parts.index("site-packages") + 1 :])) if "site-packages" in parts else file


def _disassembled(cubin: bytes) -> str:
    from triton import knobs

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [knobs.nvidia.nvdisasm.path, "-g", "-c", file.name]
        return subprocess.run(command, capture_output=True, text=True).stdout
