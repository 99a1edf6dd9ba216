"""`subquad new-kernel NAME`: the skeleton of an operator, its baseline and their tests."""

from __future__ import annotations

import argparse
from pathlib import Path

from suite.errors import Exit


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="the operator's name, in snake_case")
    parser.add_argument("--root", type=Path, help="checkout to write to; default: this one")


def run(args: argparse.Namespace) -> Exit:
    from suite.discovery import ROOT
    from suite.scaffold import write_skeleton

    root = args.root or ROOT
    for path in write_skeleton(args.name, root):
        print(path.relative_to(root))
    print(f"next: TRITON_INTERPRET=1 python -m pytest tests/kernels/{args.name}")
    return Exit.PASS
