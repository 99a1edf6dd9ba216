"""Runs that look like real ones: softmax against linear attention on a CPU, with what fails there.

Times follow a launch overhead plus FLOPs over a throughput that each implementation is given, so that a test knows
where lines cross; nothing here was measured.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from suite.reporting.charts.palette import assign
from suite.reporting.charts.series import Styles
from suite.reporting.data.frame import Run, normalise
from suite.reporting.data.groups import Group, gather
from suite.store import create
from suite.store.frames import frame_of
from suite.store.schema import upgraded

if TYPE_CHECKING:
    from pathlib import Path

LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192)
# implementation -> (origin, overhead in ms, attained TFLOP/s, MiB a token or a token pair)
QUADRATIC = {
    "naive": ("baseline", 0.05, 0.05, 4 / 1024**2),
    "sdpa_flash": ("peer", 0.02, 0.25, 0.0),
    "sdpa_math": ("peer", 0.04, 0.08, 4 / 1024**2),
}
LINEAR = {
    "naive": ("baseline", 0.05, 0.05, 4 / 1024**2),
    "torch_chunk": ("baseline", 0.4, 0.06, 0.02),
    "triton_chunk": ("ours", 0.0, 0.0, 0.0),
}
CEILINGS = {
    "copy": [
        {"bytes": 256 * 1024, "gbs": 110.0, "low": 108.0, "high": 112.0},
        {"bytes": 16 * 1024**2, "gbs": 60.0, "low": 58.0, "high": 61.0},
        {"bytes": 1024**3, "gbs": 20.0, "low": 19.5, "high": 20.2},
    ],
    "matmul": {"float32": {"tflops": 0.4, "low": 0.39, "high": 0.41}},
    "measured": "2026-01-02T03:04:05+00:00",
}
ENVIRONMENT: dict[str, Any] = {
    "schema": "1.0",
    "created": "2026-01-02T03:05:00+00:00",
    "commit": "0123456789abcdef",
    "argv": ["bench", "cpu"],
    "preset": "cpu",
    "seed": 0,
    "fingerprint": {"device": "Example CPU", "torch": "2.13.0", "triton": "3.6.0", "python": "3.11.7", "threads": 2},
    "device": {"kind": "cpu", "name": "Example CPU", "arch": "cpu", "threads": 2},
    "ceilings": CEILINGS,
    "datasheet": None,
    "absent": [{"module": "baselines.fla", "reason": "fla is not installed"}],
    "plan": {"problems": 56, "cases": 168},
}


def cost(operator: str, pass_: str, T: int, H: int, K: int) -> tuple[float, float]:
    """Algorithm FLOPs and compulsory bytes of float32 inputs at B = 1."""
    if pass_ == "decode":
        state = H * K * K * 4 if operator == "linear_attention" else T * H * K * 4
        return (5.0 * H * K * K, 2.0 * state) if operator == "linear_attention" else (4.0 * T * H * K, 2.0 * state)
    per = 4.0 * K * K * T * H if operator == "linear_attention" else 4.0 * K * H * T * (T + 1) / 2
    factor = 3.5 if pass_ == "fwdbwd" else 1.0
    return per * factor, 4.0 * H * K * 4 * T * (2.5 if pass_ == "fwdbwd" else 1.0)


def record(operator: str, implementation: str, T: int, **changes: Any) -> dict[str, Any]:
    """A timed record with status ok; `changes` are columns, `time_ms` among them."""
    pass_, K, H = changes.get("pass", "fwd"), changes.get("K", 64), changes.get("H", 4)
    dtype = changes.get("dtype", "float32")
    flops, moved = cost(operator, pass_, T, H, K)
    time = changes.pop("time_ms", 1.0)
    seconds = time / 1e3
    row = {
        "schema": "1.0",
        "kind": "timed",
        "mode": "warm-cpu",
        "device": "Example CPU",
        "launch": 0,
        "case_id": f"{operator}/{implementation}/B1_T{T}_H{H}_K{K}_V{K}_{dtype}_{pass_}",
        "problem_id": f"{operator}/B1_T{T}_H{H}_K{K}_V{K}_{dtype}_{pass_}",
        "operator": operator,
        "implementation": implementation,
        "origin": "baseline",
        "tags": ["linear" if operator == "linear_attention" else "quadratic"],
        "B": 1,
        "T": T,
        "H": H,
        "HK": H,
        "HV": H,
        "K": K,
        "V": K,
        "dtype": dtype,
        "state_dtype": "float32",
        "pass": pass_,
        "layout": "dense",
        "initial_state": False,
        "status": "ok",
        "reason": "",
        "seed": 0,
        "commit": "0123456789abcdef",
        "created": "2026-01-02T03:05:00+00:00",
        "timer": "cpu",
        "l2": "warm",
        "samples": [time],
        "check": {"o": 1e-6},
        "flops_alg": flops,
        "flops_exec": flops,
        "bytes_compulsory": moved,
        "time_ms": time,
        "p20_ms": time * 0.98,
        "p80_ms": time * 1.05,
        "memory_mib": 1.0,
        "tflops": flops / seconds / 1e12,
        "gbs": moved / seconds / 1e9,
        "intensity": flops / moved,
        "roof_pct": 40.0,
        "bound": "memory",
        "tokens_per_s": T / seconds,
    }
    return row | changes


def failed(operator: str, implementation: str, T: int, status: str, reason: str, **changes: Any) -> dict[str, Any]:
    """A timed record that has no time."""
    row = record(operator, implementation, T, **changes) | {"status": status, "reason": reason}
    return {key: value for key, value in row.items() if key not in OF_OK}


OF_OK = {
    "samples",
    "time_ms",
    "p20_ms",
    "p80_ms",
    "memory_mib",
    "tflops",
    "gbs",
    "intensity",
    "roof_pct",
    "bound",
    "tokens_per_s",
}


def static(operator: str, implementation: str, T: int, arch: str = "sm_90", **changes: Any) -> dict[str, Any]:
    """A static record: nothing in it was timed."""
    row = failed(operator, implementation, T, "ok", "", **changes) | {
        "kind": "static",
        "mode": "static",
        "device": arch,
    }
    row["case_id"] += f"_{arch}"
    floor = row["flops_alg"] / 300e12 * 1e3
    return row | {
        "static.arch": arch,
        "static.launches": 3,
        "static.registers": 210,
        "static.spill_bytes": 0,
        "static.shared_bytes": 102_400,
        "static.occupancy": 0.25,
        "static.floor_ms": floor,
        "static.floor_gpu": "NVIDIA H200",
        "static.floor_bound": "memory",
        "static.traffic_ratio": 2.5,
    }


def records(seed: int = 0) -> list[dict[str, Any]]:
    """The CPU sweep: two operators, three implementations each, head dims 64 and 128, three passes, T 128 to 8192."""
    rng = np.random.default_rng(seed)
    rows = []
    for pass_ in ("fwd", "fwdbwd", "decode"):
        for K in (64, 128):
            for operator, implementations in (("softmax_attention", QUADRATIC), ("linear_attention", LINEAR)):
                for name, given in implementations.items():
                    rows += [_one(rng, operator, name, given, T, pass_, K) for T in LENGTHS]
    return rows


def _one(rng: np.random.Generator, operator: str, name: str, given: Any, T: int, pass_: str, K: int) -> dict[str, Any]:
    origin, overhead, tflops, mib = given
    where: dict[str, Any] = {"pass": pass_, "K": K, "origin": origin}
    if name == "triton_chunk":
        return failed(operator, name, T, "unsupported", "triton_chunk runs on cuda, not on cpu", **where)
    quadratic = operator == "softmax_attention" or name == "naive"
    if quadratic and mib and T == 8192 and pass_ == "fwdbwd":
        return failed(operator, name, T, "oom", "needs 4,096 MiB, 2,048 MiB are free", **where)
    if name == "sdpa_math" and K == 128 and T == 4096:
        reason = "o: error 2.1e-04 exceeds the limit 1.0e-04"
        return failed(operator, name, T, "incorrect", reason, **where)
    done = cost(operator, pass_, T, 4, K)[0]
    if operator == "linear_attention" and name == "naive" and pass_ != "decode":
        done = cost("softmax_attention", pass_, T, 4, K)[0]
    moved = cost(operator, pass_, T, 4, K)[1]
    time = (overhead + max(done / tflops / 1e9, moved / 18 / 1e6)) * float(np.exp(rng.normal(0, 0.02)))
    memory = mib * T * T if quadratic else mib * T
    return record(operator, name, T, time_ms=time, memory_mib=memory + 0.01 * T, **where)


def many_records(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """`count` records as a long sweep has them: 20 implementations, settings of 10 lengths, samples, telemetry."""
    rng = np.random.default_rng(seed)
    noise = np.exp(rng.normal(0, 0.02, size=(count, 60))).round(5)
    rows = []
    for i in range(count):
        setting, rest = divmod(i, 200)
        name, step = divmod(rest, 10)
        linear = name % 2
        operator, T = "linear_attention" if linear else "softmax_attention", 128 * 2**step
        time = (0.1 + name / 20) * (2.0**step if linear else 4.0**step / 8) / 10
        samples = (noise[i] * time).tolist()
        more = {"B": setting + 1, "samples": samples, "time_ms": median(samples)}
        row = record(operator, f"implementation_{name:02}", T, **more)
        row["case_id"] += f"_B{setting + 1}"
        row |= {f"telemetry.{each}": float(1000 * noise[i][j]) for j, each in enumerate(TELEMETRY)}
        if i % 7 == 0:
            row = {key: value for key, value in row.items() if key not in OF_OK}
            row |= {"status": "oom", "reason": f"reason {i % 50}"}
        rows.append(row)
    return rows


TELEMETRY = ("sm_clock_mhz", "sm_clock_min_mhz", "memory_clock_mhz", "power_w", "power_max_w", "temperature_c")


def run_of(rows: list[dict[str, Any]], name: str = "example", **environment: Any) -> Run:
    """Rows as a run that needs no folder."""
    return Run(name, frame_of([upgraded(dict(row)) for row in rows]), ENVIRONMENT | environment, "0123456789ab")


def prepared(*runs: Run) -> tuple[list[Group], Styles]:
    """The groups of some runs, and the looks of all that is in them."""
    rows = normalise(runs)
    return gather(rows), assign((row["name"] for row in rows), (row["variant"] for row in rows))


def stored(rows: list[dict[str, Any]], folder: Path, **environment: Any) -> Path:
    """Rows as a run's folder."""
    with create(folder, ENVIRONMENT | environment) as writer:
        for row in rows:
            writer.append(row)
    return folder


H200 = {
    "device": {"kind": "cuda", "name": "NVIDIA H200", "arch": "sm_90", "sms": 132},
    "fingerprint": {"device": "NVIDIA H200", "driver": "570.0", "cuda": "12.8", "torch": "2.13.0", "triton": "3.6.0"},
    "ceilings": {
        "copy": [{"bytes": 2 * 1024**3, "gbs": 4100.0, "low": 4080.0, "high": 4110.0}],
        "matmul": {"bfloat16": {"tflops": 720.0, "low": 715.0, "high": 726.0}},
    },
    "datasheet": {
        "name": "NVIDIA H200",
        "gbs": 4800,
        "tflops": {"bfloat16": 989, "float32": 67},
        "clock_mhz": 1830,
        "source": "NVIDIA H200 datasheet",
    },
}


def on_h200() -> Run:
    """A run of a GPU: several tunables, two timings, a datasheet, static floors."""
    rows: list[dict[str, Any]] = []
    gpu: dict[str, Any] = {
        "device": "NVIDIA H200",
        "dtype": "bfloat16",
        "K": 128,
        "H": 16,
        "timer": "events",
        "l2": "cold",
    }
    for T in (1024, 2048, 4096, 8192, 16384, 32768):
        flops, moved = cost("linear_attention", "fwd", T, 16, 128)
        for chunk, slower in ((64, 1.0), (128, 1.2)):
            time = 0.02 + slower * max(flops / 100e12, moved / 2 / 2.0e12) * 1e3
            own = gpu | {"origin": "ours", "tunable.chunk": chunk, "bytes_compulsory": moved / 2, "mode": "cold-events"}
            rows.append(_gpu("linear_attention", "triton_chunk", T, time, own))
        time = 0.015 + cost("softmax_attention", "fwd", T, 16, 128)[0] / 500e12 * 1e3
        own = gpu | {"origin": "peer", "bytes_compulsory": moved / 2, "mode": "cold-events"}
        rows.append(_gpu("softmax_attention", "sdpa_cudnn", T, time, own))
        computed = static("linear_attention", "triton_chunk", T, origin="ours", dtype="bfloat16", K=128, H=16)
        floor = computed["flops_alg"] / 150e12 * 1e3 + 0.005
        rows.append(computed | {"bytes_compulsory": moved / 2, "static.floor_ms": floor})
    return run_of(rows, "h200", **H200)


def _gpu(operator: str, implementation: str, T: int, time: float, own: dict[str, Any]) -> dict[str, Any]:
    row = record(operator, implementation, T, time_ms=time, **own)
    row["case_id"] += f"_C{own['tunable.chunk']}" if "tunable.chunk" in own else ""
    moved = row["bytes_compulsory"]
    return row | {"gbs": moved / time / 1e6, "intensity": row["flops_alg"] / moved}
