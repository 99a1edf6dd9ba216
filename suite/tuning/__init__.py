"""Tuned configs: the choice of blocks, warps and stages that `subquad tune` measured on a GPU.

A kernel's plan asks `choice(key)` before it takes its own table's config. A key is text that names the kernel and all
that changes its winner, such as "scalar_decay/output/K128/V128/bfloat16/C64/on-chip"; the GPU is the file's.

    >>> with forcing({"toy/scan/K64": {"width": 32, "warps": 4}}):
    ...     choice("toy/scan/K64")
    {'width': 32, 'warps': 4}
"""

from __future__ import annotations

from suite.tuning.choices import Config, choice, forcing, use_root

__all__ = ["Config", "choice", "forcing", "use_root"]
