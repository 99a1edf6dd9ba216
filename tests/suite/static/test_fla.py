"""Launch traffic of fla-core's own host code, forward and backward, against figures counted before, within 2 %.

The table is for fla-core 0.6 at B = 1, T = 8192, H = 16, bfloat16 on an H200: launches, MB.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest
from packaging.version import Version

from suite.discovery import ROOT

pytestmark = pytest.mark.skipif(find_spec("fla") is None, reason="fla-core is not installed")
D = (64, 128, 256)
TABLE = {
    "linear_attn": {"fwd": (3, (168, 403, 1074)), "bwd": (5, (436, 1208, 3758))},
    "retention": {"fwd": (2, (134, 336, 940)), "bwd": (4, (403, 1141, 3624))},
    "simple_gla": {"fwd": (3, (136, 338, 942)), "bwd": (5, (407, 1146, 3631))},
    "gla": {"fwd": (5, (470, 906, 1980)), "bwd": (7, (973, 2181, 5604))},
    "delta_rule": {"fwd": (5, (353, 672, 1510)), "bwd": (6, (638, 1377, 3256))},
    "gated_delta_rule": {"fwd": (5, (289, 608, 1447)), "bwd": (7, (644, 1383, 3264))},
    "kda": {"fwd": (6, (622, 1209, 2584)), "bwd": (7, (1311, 2570, 5492))},
}
# fla refuses these on Hopper with a Triton below 3.7.1, whose compiler gets them wrong.
GATED = {"simple_gla", "gated_delta_rule"}


def refuses_gated() -> bool:
    import triton

    return Version(triton.__version__) < Version("3.7.1")


def captured(*asked: tuple[str, int], compiled: bool = False) -> list[dict]:
    words = [f"{name}:{dim}" for name, dim in asked] + ["compiled"] * compiled
    done = subprocess.run(
        [sys.executable, "-m", "tests.suite.static.fla_rows", *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def compare(name: str, dim: int, found: dict) -> None:
    for pass_, (launches, megabytes) in TABLE[name].items():
        row = found[pass_]
        if pass_ == "bwd" and name in GATED and refuses_gated():
            assert "incorrect results" in row["refused"]
            continue
        assert row["launches"] == launches, (name, dim, pass_)
        assert row["mb"] == pytest.approx(megabytes[D.index(dim)], rel=0.02), (name, dim, pass_)


def test_two_rows_and_the_eager_operations_beside_them() -> None:
    """Normalised linear attention divides in eager PyTorch: more than two times its launches' traffic at D = 64."""
    linear, kda = captured(("linear_attn", 64), ("kda", 128))
    compare("linear_attn", 64, linear)
    compare("kda", 128, kda)
    tensor = 8192 * 16 * 64 * 2 / 1e6
    # k to float32, (cumsum is a kernel), q * scale, times z, summed, plus eps, o / that: at least six tensors move.
    assert linear["fwd"]["eager_mb"] > 6 * tensor
    assert kda["fwd"]["eager_mb"] < linear["fwd"]["eager_mb"]


@pytest.mark.long
def test_the_whole_table() -> None:
    asked = [(name, dim) for name in TABLE for dim in D]
    for (name, dim), found in zip(asked, captured(*asked), strict=True):
        compare(name, dim, found)


@pytest.mark.long
def test_all_of_it_compiles() -> None:
    asked = [(name, 128) for name in TABLE]
    for (name, _), found in zip(asked, captured(*asked, compiled=True), strict=True):
        for row in found.values():
            assert row.get("statuses") == ["ok"] or (name in GATED and "refused" in row)
