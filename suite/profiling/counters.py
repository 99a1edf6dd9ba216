"""The counters of a GPU, and the names that ncu has for them.

A counter's `ways` are alternatives, since names differ between architectures and versions of ncu: the first one that
the device has is asked for. Names and meanings are those of NVIDIA's Nsight Compute profiling guide.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Way = Mapping[str, float]


@dataclass(frozen=True)
class Counter:
    """A figure of a profile.

    name:     its column, without `profile.`; counters of one name are added up, and are there together or not at all
    ways:     metrics with the factor that each one counts with
    over:     how kernels of a call become one figure: their `sum`, or their `mean` weighted by duration
    optional: whether a device without it lacks nothing: stall reasons and instructions that it does not have
    """

    name: str
    ways: tuple[Way, ...]
    over: Literal["sum", "mean"] = "sum"
    optional: bool = False

    def chosen(self, available: Collection[str]) -> Way | None:
        """The first way that the device has whole, or None."""
        return next((way for way in self.ways if all(base(metric) in available for metric in way)), None)


def base(metric: str) -> str:
    """A metric's name without its suffixes: `dram__bytes_read` of `dram__bytes_read.sum`."""
    return metric.partition(".")[0]


DURATION = "gpu__time_duration.sum"
THREADS_OF_WARP = 32
_SASS = "smsp__sass_thread_inst_executed_op_{}_pred_on.sum"
_OPS = "sm__ops_path_tensor_src_{}.sum"
_STALLED = "smsp__average_warps_issue_stalled_{}_per_issue_active.ratio"
STALL = "stall_"
STALLS = (
    "barrier",
    "branch_resolving",
    "dispatch_stall",
    "drain",
    "gmma",
    "imc_miss",
    "lg_throttle",
    "long_scoreboard",
    "math_pipe_throttle",
    "membar",
    "mio_throttle",
    "misc",
    "no_instruction",
    "not_selected",
    "selected",
    "short_scoreboard",
    "sleeping",
    "tex_throttle",
    "wait",
    "warpgroup_arrive",
)


def _sass(**factors: float) -> Way:
    return {_SASS.format(name): factor for name, factor in factors.items()}


def _tensor(*sources: str) -> Way:
    # These metrics count a multiply-add as two operations.
    return {_OPS.format(source): 1.0 for source in sources}


def _busy(metric: str) -> Way:
    return {f"{metric}.avg.pct_of_peak_sustained_active": 0.01}


COUNTERS = (
    Counter("duration_ns", ({DURATION: 1e6},)),
    Counter("dram_read_bytes", ({"dram__bytes_read.sum": 1.0}, {"dram__bytes_op_read.sum": 1.0})),
    Counter("dram_write_bytes", ({"dram__bytes_write.sum": 1.0}, {"dram__bytes_op_write.sum": 1.0})),
    Counter("l2_bytes", ({"lts__t_bytes.sum": 1.0},)),
    Counter("flops_tensor", (_tensor("bf16_dst_fp32"),)),
    Counter("flops_tensor", (_tensor("fp16"), _tensor("fp16_dst_fp32", "fp16_dst_fp16"))),
    Counter("flops_tensor", (_tensor("tf32_dst_fp32"),)),
    Counter("flops_fma", (_sass(ffma=2.0, fadd=1.0, fmul=1.0),)),
    # A half-precision instruction works on two values at once, and so does a packed single-precision one of Blackwell.
    Counter("flops_fma", (_sass(hfma=4.0, hadd=2.0, hmul=2.0),)),
    Counter("flops_fma", (_sass(ffma2=4.0, fadd2=2.0, fmul2=2.0),), optional=True),
    Counter("special", ({"smsp__inst_executed_pipe_xu.sum": float(THREADS_OF_WARP)},)),
    Counter("occupancy", ({"sm__warps_active.avg.pct_of_peak_sustained_active": 0.01},), "mean"),
    Counter("instructions", ({"smsp__inst_executed.sum": 1.0},), optional=True),
    Counter("issue_busy", (_busy("smsp__issue_active"),), "mean", optional=True),
    Counter("alu_busy", (_busy("sm__inst_executed_pipe_alu"),), "mean", optional=True),
    Counter("fma_busy", (_busy("sm__inst_executed_pipe_fma"),), "mean", optional=True),
    Counter("special_busy", (_busy("sm__inst_executed_pipe_xu"),), "mean", optional=True),
    Counter(
        "tensor_busy",
        (_busy("sm__pipe_tensor_cycles_active"), _busy("sm__inst_executed_pipe_tensor")),
        "mean",
        optional=True,
    ),
    Counter("shared_busy", (_busy("l1tex__data_pipe_lsu_wavefronts"),), "mean", optional=True),
    *(Counter(STALL + name, ({_STALLED.format(name): 1.0},), "mean", optional=True) for name in STALLS),
)


@dataclass(frozen=True)
class Plan:
    """Which metrics are asked for, and which counters the device does not have."""

    ways: tuple[tuple[Counter, Way], ...]
    missing: tuple[str, ...]

    @property
    def metrics(self) -> list[str]:
        """The metrics, each once."""
        return list(dict.fromkeys(metric for _, way in self.ways for metric in way))

    def without(self, metric: str) -> Plan:
        """The plan after ncu refused a metric: its counter is missing."""
        refused = [counter for counter, way in self.ways if any(base(each) == base(metric) for each in way)]
        kept = [(counter, way) for counter, way in self.ways if counter not in refused]
        needed = [counter.name for counter in refused if not counter.optional]
        lost = [f"{name}: ncu does not know {base(metric)}" for name in needed]
        return Plan(_whole(kept, needed), (*self.missing, *lost))


def plan(available: Collection[str]) -> Plan:
    """A way for each counter that the device has."""
    ways, lacking = [], {}
    for counter in COUNTERS:
        way = counter.chosen(available)
        if way is not None:
            ways.append((counter, way))
        elif not counter.optional:
            lacking.setdefault(counter.name, f"this device has no {base(next(iter(counter.ways[0])))}")
    return Plan(_whole(ways, lacking), tuple(f"{name}: {reason}" for name, reason in lacking.items()))


def _whole(ways: Iterable[tuple[Counter, Way]], lacking: Collection[str]) -> tuple[tuple[Counter, Way], ...]:
    """The ways of counters that lack no part: a part of a sum would be taken for all of it."""
    return tuple((counter, way) for counter, way in ways if counter.name not in lacking)


def figures_of(values: Mapping[str, float], chosen: Plan) -> dict[str, float]:
    """Counters of one kernel out of its metrics; one whose metrics are not all there is left out."""
    lacking = {counter.name for counter, way in chosen.ways if not all(metric in values for metric in way)}
    found: dict[str, float] = {}
    for counter, way in _whole(chosen.ways, lacking):
        amount = sum(values[metric] * factor for metric, factor in way.items())
        found[counter.name] = found.get(counter.name, 0.0) + amount
    return _stall_shares(found)


def over_call(kernels: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Counters of a call out of those of its kernels, and what follows from them.

    A counter that any kernel lacks is left out: a sum over some of them would be taken for the whole.
    """
    means = {counter.name for counter in COUNTERS if counter.over == "mean"}
    names = dict.fromkeys(name for kernel in kernels for name in kernel)
    found: dict[str, float] = {}
    for name in names:
        if name.startswith(STALL):
            found[name] = _mean(name, [{name: 0.0, **kernel} for kernel in kernels])
        elif all(name in kernel for kernel in kernels):
            found[name] = _mean(name, kernels) if name in means else sum(kernel[name] for kernel in kernels)
    return derived(found)


def derived(found: Mapping[str, float]) -> dict[str, float]:
    """The counters with `dram_bytes` and `flops`, where both of their parts were counted."""
    more = dict(found)
    for name, parts in (
        ("dram_bytes", ("dram_read_bytes", "dram_write_bytes")),
        ("flops", ("flops_tensor", "flops_fma")),
    ):
        if all(part in found for part in parts):
            more[name] = sum(found[part] for part in parts)
    return more


def _mean(name: str, kernels: Sequence[Mapping[str, float]]) -> float:
    weights = [kernel.get("duration_ns", 1.0) for kernel in kernels]
    whole = sum(weights)
    return sum(kernel[name] * weight for kernel, weight in zip(kernels, weights, strict=True)) / whole if whole else 0.0


def _stall_shares(found: dict[str, float]) -> dict[str, float]:
    """Stall reasons as parts of the time that a warp spends between two instructions."""
    whole = sum(value for name, value in found.items() if name.startswith(STALL))
    return {
        name: (value / whole if whole else 0.0) if name.startswith(STALL) else value for name, value in found.items()
    }
