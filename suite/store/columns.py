"""Columns: every field that a record may have, defined once.

Three things follow from this list: what a reader accepts (schema.py), what a report loads
(suite/reporting/data/frame.py), and the tables of docs/records.md, docs/static.md and docs/profiling.md, which
`python -m suite.store.tables` writes. The standard axes are those of suite/problem.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from suite.axes import StandardAxis
from suite.problem import STANDARD
from suite.registry import ORIGINS
from suite.store.rules import (
    AMOUNT,
    ANY_OBJECT,
    COUNT,
    ERRORS,
    FLAG,
    MHZ,
    MIB,
    RATE,
    SCALAR,
    SECONDS,
    SIZE,
    TEXT,
    TEXTS,
    TIME,
    WATTS,
    WHOLE,
    List,
    Object,
    Rule,
    Spec,
    choice,
    number,
    numbers,
)

SCHEMA = "1.5"
KINDS = ("timed", "check", "static")
STATUSES = (
    "ok",
    "unsupported",
    "oom",
    "incorrect",
    "implausible",
    "over_limit",
    "compile_error",
    "crashed",
    "timeout",
    "error",
    "unchecked",
)


@dataclass(frozen=True)
class Columns:
    """One or several fields that a table describes in one row.

    names:    the fields; `<...>` at the end of one stands for what an operator, an implementation or a counter names
    spec:     what their values must be
    help:     what they say, in Markdown
    source:   where the figures come from, in Markdown, in tables that say so
    required: whether every record has them, never null
    shown:    whether a report loads them
    """

    names: tuple[str, ...]
    spec: Spec
    help: str
    source: str = ""
    required: bool = False
    shown: bool = False


def _of(
    names: str, spec: Spec, help: str, source: str = "", *, required: bool = False, shown: bool = False, group: str = ""
) -> Columns:
    return Columns(tuple(f"{group}{name}" for name in names.split()), spec, help, source, required, shown)


def _of_axis(name: str, axis: StandardAxis) -> Columns:
    spec = {"size": SIZE, "flag": FLAG}.get(axis.kind, TEXT)
    since = "" if axis.required else f"; since schema {axis.since}, and {axis.default} in older records"
    return Columns((name,), spec, f"{axis.help}{since}", required=axis.required, shown=True)


def _group(
    start: str, *rows: tuple[str, Spec, str] | tuple[str, Spec, str, str], shown: str = ""
) -> tuple[Columns, ...]:
    """Columns whose names begin alike. shown: names that a report loads."""
    return tuple(
        _of(names, spec, help, *source, group=start, shown=bool(set(names.split()) & set(shown.split())))
        for names, spec, help, *source in rows
    )


_PERCENT = number(0, 1e6)
_MS = number(0, 1e9, "ms")
_PAIRS = List(Object({"kernel": TEXT, "figure": TEXT, "predicted": AMOUNT, "counted": AMOUNT}))
_KERNELS = List(Object({"name": TEXT, "calls": AMOUNT, "share": AMOUNT}, required=("name",)))

# Section -> its columns, in the order of the tables.
SECTIONS: dict[str, tuple[Columns, ...]] = {
    "key": (
        _of(
            "case_id",
            TEXT,
            "operator/implementation/axes in registry order without defaults, then tunables",
            required=True,
            shown=True,
        ),
        _of("kind", choice(KINDS), "`timed`, `check` or `static`", required=True, shown=True),
        _of(
            "mode",
            TEXT,
            "timed: `<l2>-<timer>`, such as `cold-events`, `warm-graph`, `rotated-graph`, `cold-wall`, "
            "`warm-cpu`; check: `cuda`, `cpu`, `interpret`; static: `static`",
            required=True,
            shown=True,
        ),
        _of(
            "device",
            TEXT,
            "`cpu`, a GPU's name, or for static records the architecture (`sm_90`)",
            required=True,
            shown=True,
        ),
        _of("launch", COUNT, "number of the fresh process that measured it, from 0", required=True, shown=True),
    ),
    "always": (
        _of("schema", TEXT, f"`major.minor`, now {SCHEMA}"),
        _of("operator implementation", TEXT, "what was measured", required=True, shown=True),
        _of("origin", choice(ORIGINS), "`ours`, `baseline`, `peer`", required=True, shown=True),
        _of("tags", TEXTS, "the operator's tags (`linear`, `quadratic`, ...)", required=True),
        _of(
            "problem_id",
            TEXT,
            "operator/axes; cases with the same value are compared; since schema 1.2",
            shown=True,
        ),
        *(_of_axis(name, axis) for name, axis in STANDARD.items()),
        _of("axis.<name>", SCALAR, "the operator's own axes (`axis.causal`)"),
        _of("tunable.<name>", SCALAR, "the implementation's tunables (`tunable.chunk`)"),
        _of(
            "status",
            choice(STATUSES),
            f"`{', '.join(STATUSES)}`; if a kernel, cost or `supports` raised, the reason "
            "of an `error` names the file and line; `unchecked`: the oracle itself failed, so nothing is known of the "
            "implementation",
            required=True,
            shown=True,
        ),
        _of("reason", TEXT, "why the status is not `ok`; empty when it is", required=True, shown=True),
        _of(
            "commit",
            TEXT,
            "revision of the measured code, with `-dirty` if it had changes; empty if git cannot "
            "name it, and `no_commit` of environment.json says why",
            required=True,
            shown=True,
        ),
        _of("configuration", ANY_OBJECT, "what the implementation chose: regime, warps, stages"),
        _of(
            "left_behind",
            TEXTS,
            "state of the whole process that the implementation changed, such as `number of threads: 2 -> 1`; it "
            "was put back. See [measuring.md](measuring.md#what-an-implementation-leaves-behind); since schema 1.4",
        ),
        _of("backend", TEXT, "which code ran in the check's calls, if the library says so: `fla triton`"),
        _of(
            "timer l2",
            TEXT,
            "the timer; the state of the cache: `cold`, `warm` or `rotated`. See [measuring.md](measuring.md)",
            shown=True,
        ),
        _of("host_inclusive", FLAG, "whether the host's time is inside the span"),
        _of("seed", WHOLE, "seed of the inputs"),
        _of("samples", numbers(TIME), "every sample that counts, in ms and in order"),
        _of("check", ERRORS, "error of each output and gradient by name: RMS error over RMS of the oracle"),
        _of("check_T", SIZE, "the T of the check, if it is not the T of the problem", shown=True),
        _of("flops_alg flops_exec bytes_compulsory", AMOUNT, "the cost of one call", shown=True),
        _of("stderr", TEXT, "the end of what a worker printed before it died"),
        _of("created", TEXT, "ISO 8601, UTC", required=True),
    ),
    "timed": (
        _of("time_ms p20_ms p80_ms", TIME, "median and percentiles of the samples", shown=True),
        _of("ci_low_ms ci_high_ms", TIME, "95 % confidence interval of the median", shown=True),
        _of(
            "stop",
            TEXT,
            "why sampling stopped: `interval`, `time_limit`, `budget`, `throttled` (retaking did not help)",
        ),
        _of("blocks", List(SIZE), "number of samples in each block, in order: the interval comes from their medians"),
        _of("host_ms", TIME, "the host's time to queue one call or replay; of events and graphs"),
        _of(
            "host_bound",
            FLAG,
            "whether the span is the host's time: the device had begun before the call was queued, and was done when "
            "all of it was",
            shown=True,
        ),
        _of("empty_span_us", RATE, "the span of a kernel that does nothing, by the same timer in the same process"),
        _of("calls", SIZE, "number of calls of which one sample is the mean: the input sets of a rotation, else 1"),
        _of(
            "compile_s",
            SECONDS,
            "seconds of two calls: the first of the check (compiling, tuning) and the first on the timed inputs",
            shown=True,
        ),
        _of("warmup_s", SECONDS, "seconds of the warm-up after these calls"),
        _of("memory_mib", MIB, "peak memory beyond the inputs, with what is kept between calls", shown=True),
        _of(
            "kept_mib",
            MIB,
            "memory that the implementation keeps between calls, such as a workspace, and part of `memory_mib`; since "
            "schema 1.4",
        ),
        _of(
            "memory_method",
            TEXT,
            "how memory was measured: `allocator` (the framework's counter) or `profiler` (traced in a separate call)",
        ),
        _of("tflops", RATE, "flops_alg over time", shown=True),
        _of("gbs", RATE, "bytes_compulsory over time", shown=True),
        _of("intensity", AMOUNT, "flops_alg over bytes_compulsory", shown=True),
        _of("roof_pct", RATE, "percent of the roofline at that intensity, from measured ceilings", shown=True),
        _of(
            "bound",
            TEXT,
            "`memory`, `compute`, `special` (functions), or `latency` if the case is below half of each ceiling",
            shown=True,
        ),
        _of("special_pct", RATE, "percent of the time that the special functions take at the measured rate"),
        _of("tokens_per_s", RATE, "tokens over time", shown=True),
        _of(
            "recheck_pick",
            WHOLE,
            "which sequence and heads of the last timed call were compared with the oracle; each run draws it; "
            "since schema 1.4",
        ),
        _of(
            "witnessed",
            FLAG,
            "whether another process, in which no implementation runs, found the last timed call right too; only under "
            "`--paranoid`; since schema 1.4",
        ),
        _of("repeatable", FLAG, "whether two calls on the same inputs agree bit for bit"),
        _of(
            "equivariant",
            FLAG,
            "whether outputs move bit for bit with their inputs, when sequences and heads change places; "
            "since schema 1.3",
        ),
        _of(
            "approximation_error",
            AMOUNT,
            "relative RMS error of the float64 oracle's output against the operator that it "
            "approximates (softmax attention for feature maps), on the same inputs; forward, T up to 2048",
        ),
        _of("check_limit", AMOUNT, "the largest error in `check` that is allowed"),
        _of("naive_ratio", AMOUNT, "error of the output over the error of `naive` in the same dtype"),
        _of(
            "bytes_state special",
            AMOUNT,
            "bytes of the state, part of `bytes_compulsory`; special-function evaluations",
        ),
    ),
    "telemetry": _group(
        "telemetry.",
        ("readings", COUNT, "number of readings"),
        ("sm_clock_mhz sm_clock_min_mhz sm_clock_max_mhz", MHZ, "a GPU's SM clock: median and extremes"),
        ("memory_clock_mhz", MHZ, "a GPU's memory clock, median"),
        (
            "cpu_clock_mhz cpu_clock_min_mhz cpu_clock_max_mhz",
            MHZ,
            "the processors' mean clock; in a virtual machine often the nominal one",
        ),
        (
            "power_w power_max_w",
            WATTS,
            "the board's power; on most boards a reading is the mean of one second, in which several short cases run",
        ),
        ("temperature_c temperature_max_c", number(-300, 1e4, "degrees"), "temperature of the GPU or processor"),
        ("utilization_pct", _PERCENT, "percent of the time in which a kernel ran, as the driver counts it"),
        ("events", TEXTS, "all clock events that occurred: `power_cap`, `sw_thermal_slowdown`, `hw_power_brake`, ..."),
        ("other_processes", COUNT, "the largest number of other processes on the GPU"),
        ("other_memory_mib", MIB, "their memory; absent in a container that sees the host's pids"),
        ("other_pids", numbers(COUNT), "their pids; absent in a container that sees the host's pids"),
        ("load", _PERCENT, "load average of one minute"),
        (
            "other_share steal_share",
            _PERCENT,
            "fraction of all cores' time that other processes, and the hypervisor, took",
        ),
        ("throttled_samples", COUNT, "samples that were taken under throttle; absent if that is not known"),
        ("throttled_kept", FLAG, "whether `samples` includes them, because retaken samples were throttled too"),
        ("retaken_ms", numbers(TIME), "throttled samples that were taken again; `samples` does not include them"),
        ("energy_j_token", AMOUNT, "joules per token over the saturated window of `--energy`"),
        ("energy_window_s", SECONDS, "length of that window"),
        ("energy_w", WATTS, "mean power of that window"),
        ("energy_method", TEXT, "`counter` (the board's), `power` (integrated readings) or `rapl`"),
        ("idle_w", WATTS, "power of the idle device, measured before; it is not subtracted"),
        ("no_energy", TEXT, "why there is no energy although `--energy` was given"),
        shown="energy_j_token",
    ),
    "compile": (
        *_group(
            "compile.",
            ("cache", TEXT, "`cold` (every kernel was compiled), `warm` (every one came from Triton's cache), `mixed`"),
            (
                "kernels loaded",
                COUNT,
                "kernels compiled; kernels found in the cache. Kernels loaded earlier count in neither",
            ),
            (
                "ptxas",
                TEXT,
                "full version of the ptxas that made these kernels' machine code (`12.8.93`); since schema 1.3",
            ),
            ("seconds load_s", SECONDS, "seconds spent on compiling; on loading"),
        ),
        *_group(
            "tuning.",
            (
                "kernels",
                Object(others=ANY_OBJECT),
                "autotuned kernel -> `{configuration, candidates, runner_up, seconds}`",
            ),
            ("seconds", SECONDS, "seconds spent on trying configurations; 0 if all were chosen before"),
            (
                "runner_up",
                AMOUNT,
                "time of the second best configuration over that of the best, for the kernel with the smallest ratio",
            ),
            shown="seconds",
        ),
    ),
    "static": _group(
        "static.",
        ("arch", TEXT, "architecture for which the kernels were compiled", "`--arch`"),
        ("ptxas", TEXT, "full version of the ptxas that compiled them; since schema 1.3", "`ptxas --version`"),
        ("launches", COUNT, "kernel launches of one call", "host code"),
        ("kernels", TEXTS, "their names in order", "host code"),
        ("registers", COUNT, "registers per thread, the largest of all launches", "`cuobjdump -res-usage`"),
        (
            "spill_bytes",
            COUNT,
            "bytes that the spill stores and loads of a thread move, each instruction counted once, over all launches",
            "ptxas's log",
        ),
        (
            "stack_bytes",
            COUNT,
            "local memory per thread, the largest of all launches: spills and local arrays",
            "`cuobjdump -res-usage`",
        ),
        ("shared_bytes", COUNT, "shared memory per block, the largest of all launches", "Triton"),
        (
            "occupancy",
            AMOUNT,
            "resident warps over the maximum of an SM, the smallest of all launches",
            "NVIDIA's occupancy rules",
        ),
        ("instructions", COUNT, "machine instructions without padding, over all launches", "disassembly"),
        (
            "hgmma utchmma hmma",
            COUNT,
            "tensor-core instructions of Hopper, Blackwell and Ampere, over all launches",
            "disassembly",
        ),
        (
            "dots",
            COUNT,
            "matrix products in the code of all launches, each once, however often a loop runs it; since schema 1.4",
            "TTGIR",
        ),
        (
            "dots_replicated",
            COUNT,
            "those of which several warps, or threads, compute the same elements; since schema 1.4",
            "TTGIR",
        ),
        (
            "dots_ratio",
            AMOUNT,
            "FLOPs that the warps execute for these products over FLOPs that the products need; since schema 1.4",
            "TTGIR",
        ),
        ("dots_reason", TEXT, "why the products cannot be read, with the kernel; since schema 1.4", "TTGIR"),
        ("traffic_bytes", AMOUNT, "launch traffic", "arguments of the launches"),
        ("eager_bytes", AMOUNT, "bytes read and written by eager operations between the launches", "dispatch mode"),
        ("eager_ops", COUNT, "number of such operations", "dispatch mode"),
        ("traffic_ratio", AMOUNT, "launch and eager traffic over compulsory bytes"),
        ("intermediate_bytes", AMOUNT, "bytes that the call allocates and does not return", "dispatch mode"),
        ("peak_bytes", AMOUNT, "peak of live memory beyond the inputs", "dispatch mode"),
        (
            "kept_bytes",
            AMOUNT,
            "bytes that the forward pass leaves for the backward pass, beyond inputs and outputs; only in pass `bwd`; "
            "since schema 1.5",
            "dispatch mode",
        ),
        ("flops_exec", AMOUNT, "executed FLOPs, as the operator or the implementation states them", "cost"),
        ("issued_bytes", AMOUNT, "issued traffic", "interpreter"),
        ("issued_shape", TEXT, "shape at which issued traffic was counted", "interpreter"),
        ("issued_ratio", AMOUNT, "issued traffic over compulsory bytes at that shape"),
        (
            "issued_reread",
            AMOUNT,
            "issued traffic over launch traffic at that shape: above 1, a launch reads its arguments more than once",
        ),
        (
            "issued_dot_flops",
            AMOUNT,
            "FLOPs of the matrix products that the kernels execute at that shape",
            "interpreter",
        ),
        ("issued_reason", TEXT, "why issued traffic was not counted"),
        (
            "predicted_ms",
            _MS,
            "predicted time of the call, never below the floor; since schema 1.5",
            "machine code, [predicted-time.md](predicted-time.md)",
        ),
        (
            "predicted_low_ms predicted_high_ms",
            _MS,
            "the range that published timings of the same family leave it; since schema 1.5",
            "results/published/spreads.json",
        ),
        (
            "predicted_bound",
            TEXT,
            "what bounds the launch that takes longest: `issue`, `tensor`, `chain`, `shared`, `memory`, `special` or "
            "`launch`; since schema 1.5",
        ),
        ("predicted_notes", TEXTS, "what had to be assumed, with the kernel; since schema 1.5"),
        ("predicted_reason", TEXT, "why no time is predicted, with the kernel; since schema 1.5"),
        ("floor_ms", _MS, "the floor: a lower bound of the time", "above"),
        ("floor_bytes", AMOUNT, "bytes of the floor", "above"),
        ("floor_bound", TEXT, "what sets the floor: `memory`, `compute` or `special`", "above"),
        (
            "floor_memory_ms floor_compute_ms floor_special_ms",
            _MS,
            "the three times; the largest is the floor",
            "above",
        ),
        ("floor_gpu", TEXT, "the GPU of the floor"),
        (
            "floor_source",
            TEXT,
            "whether its ceilings are `measured` or from a `datasheet`",
            "results/, suite/hardware/gpus.py",
        ),
        ("traffic_ms", _MS, "time of launch and eager traffic at the GPU's bandwidth"),
        (
            "io_bound_bytes",
            AMOUNT,
            "lower bound of the bytes that any algorithm moves with this GPU's on-chip memory, if the operator has one",
            "the operator's `io_bound`",
        ),
        ("hash", TEXT, "SHA-256 of all launches: binaries, grids, warps, stages, shared memory"),
        shown="arch predicted_ms predicted_low_ms predicted_high_ms predicted_bound predicted_reason "
        "kept_bytes floor_ms floor_bound floor_gpu floor_source io_bound_bytes",
    ),
    "profile": _group(
        "profile.",
        (
            "kernels",
            _KERNELS,
            "list of `{name, calls, share}`: name, launches in one call, part of the time of all kernels",
            "any",
        ),
        ("kernels_from", TEXT, "the tool that listed the kernels", "any"),
        ("launches", AMOUNT, "launches in one call (GPU)", "any"),
        ("torch_version proton_version ncu_version", TEXT, "versions of the tools; proton has that of Triton", "any"),
        ("commit created", TEXT, "revision and time of the last profile", "any"),
        (
            "dram_read_bytes dram_write_bytes dram_bytes",
            AMOUNT,
            "bytes read and written over the memory bus, and their sum",
            "`dram__bytes_read`, `dram__bytes_write`",
        ),
        ("dram_ratio", AMOUNT, "`dram_bytes` over `bytes_compulsory`"),
        ("l2_bytes", AMOUNT, "bytes that passed the last-level cache", "`lts__t_bytes`"),
        (
            "flops_tensor",
            AMOUNT,
            "operations of the tensor cores in bfloat16, float16 and tf32; a multiply-add counts as two",
            "`sm__ops_path_tensor_src_*`",
        ),
        (
            "flops_fma",
            AMOUNT,
            "FLOPs of the other units in single and half precision, without masked threads",
            "`smsp__sass_thread_inst_executed_op_{ffma,fadd,fmul,hfma,hadd,hmul}_pred_on`",
        ),
        ("flops", AMOUNT, "`flops_tensor` plus `flops_fma`"),
        (
            "special",
            AMOUNT,
            "evaluations on the special-function units, with the conversions that run there too",
            "`smsp__inst_executed_pipe_xu` x 32",
        ),
        (
            "occupancy",
            AMOUNT,
            "resident warps over the maximum of an SM, while it is active, weighted by duration",
            "`sm__warps_active`",
        ),
        (
            "stall_<reason>",
            AMOUNT,
            "part of the time between two instructions of a warp that it waits for this reason, "
            "weighted by duration; `selected` is issuing itself",
            "`smsp__average_warps_issue_stalled_*_per_issue_active`",
        ),
        (
            "instructions",
            AMOUNT,
            "instructions that warps issued; since schema 1.5",
            "`smsp__inst_executed`",
        ),
        (
            "issue_busy alu_busy fma_busy special_busy tensor_busy shared_busy",
            AMOUNT,
            "part of the time for which schedulers and units are busy, weighted by duration; since schema 1.5",
            "`smsp__issue_active`, `sm__inst_executed_pipe_*`, `sm__pipe_tensor_cycles_active`, "
            "`l1tex__data_pipe_lsu_wavefronts`",
        ),
        (
            "predicted",
            _PAIRS,
            "list of `{kernel, figure, predicted, counted}`: what the static profile predicts beside what was counted; "
            "since schema 1.5",
            "[predicted-time.md](predicted-time.md#predicted-against-counted)",
        ),
        ("missing", TEXTS, "counters that the device did not give, with the reason"),
        ("replay", TEXT, "how ncu repeated the work"),
        shown="dram_bytes dram_ratio",
    ),
}

COLUMNS = tuple(each for section in SECTIONS.values() for each in section)


def _named(found: Iterable[Columns]) -> dict[str, Spec]:
    return {name: each.spec for each in found for name in each.names if not name.endswith(">")}


def kind_of(spec: Spec) -> str:
    """The type of a value in one or a few words, as the tables of the documentation have it."""
    if isinstance(spec, Rule):
        return spec.kind
    return "object" if isinstance(spec, Object) else f"list of {kind_of(spec.of)}"


# Every record has these, never null.
REQUIRED = _named(each for each in COLUMNS if each.required)
# Absent or null where they do not apply, as a static record's samples.
OPTIONAL = _named(each for each in COLUMNS if not each.required)
# Fields whose names an operator, an implementation or a counter gives, by how they begin.
GROUPS = {name.partition("<")[0]: each.spec for each in COLUMNS for name in each.names if name.endswith(">")}
# What a report loads, but for the standard axes: name -> kind of value.
SHOWN = {name: kind_of(each.spec) for each in COLUMNS if each.shown for name in each.names if name not in STANDARD}
