"""What a static profile consists of: binaries, launches and the profile of a case, all plain data.

Bytes are bytes, times milliseconds. Nothing here imports torch or Triton.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from suite.problem import split_case_id
from suite.static.timing.uncertainty import Uncertainty, uncertainty_of

TENSOR_PATHS = ("utchmma", "hgmma", "hmma")


@dataclass(frozen=True)
class Binary:
    """What one compiled kernel is, read off its machine code.

    hash:              sha256 of the binary, compiled without line information
    registers:         registers of a thread
    stack_bytes:       local memory of a thread: spills and legitimate local arrays together
    spill_store_bytes: bytes that a thread's spill stores write, each instruction counted once; from ptxas
    spill_load_bytes:  the same for spill loads
    instructions:      machine instructions, padding left out
    mix:               instructions by kind, zero where absent: hgmma, utchmma, hmma, ffma, mufu, ldg_128, stg_128, …
    """

    hash: str
    registers: int
    stack_bytes: int
    spill_store_bytes: int
    spill_load_bytes: int
    instructions: int
    mix: dict[str, int]

    @property
    def spill_bytes(self) -> int:
        """Spill stores and loads together."""
        return self.spill_store_bytes + self.spill_load_bytes

    @property
    def tensor_path(self) -> str:
        """The tensor-core instruction it uses, the newest first, or "none"."""
        return next((path for path in TENSOR_PATHS if self.mix.get(path)), "none")


@dataclass(frozen=True)
class Residency:
    """How many blocks of a kernel one SM holds, and which limit decides it.

    occupancy: resident warps over the most an SM can have
    waves:     rounds in which the grid runs on the named GPU; None where no block fits
    """

    blocks: int
    occupancy: float
    limit: str
    waves: float | None


@dataclass(frozen=True)
class Dots:
    """The matrix products of a kernel, as it is compiled for one block: each once, however often a loop runs it.

    total:      products
    replicated: those of which several warps (or threads, in products on CUDA cores) compute the same elements
    flops:      FLOPs that the products need, 2 m n k each
    flops_exec: FLOPs that the block's warps execute for them
    reason:     why they cannot be read, "" where they can
    """

    total: int = 0
    replicated: int = 0
    flops: int = 0
    flops_exec: int = 0
    reason: str = ""

    @property
    def share(self) -> str:
        """Replicated products of all, such as 2/6."""
        return f"{self.replicated}/{self.total}"

    @property
    def ratio(self) -> float | None:
        """Executed FLOPs over those that are needed; None without a product."""
        return self.flops_exec / self.flops if self.flops else None


@dataclass(frozen=True)
class Prediction:
    """The predicted time of a launch.

    ms:           milliseconds, the launch itself among them; None where it cannot be predicted, and the reason
    bound:        what bounds it: issue, tensor, chain, shared, memory, special or launch
    cycles:       of the SM clock, from the first block's begin to the last one's end
    instructions: that a warp issues, the mean over the launch
    busy:         the share of that time for which each unit is busy: issue, fma, alu, special, tensor, uniform, shared,
                  and l2 and dram
    issued:       instructions of all warps
    l2_bytes, dram_bytes: that pass the L2 cache, and the memory bus
    waits:        the share of a warp's time that it waits, by what for; `selected` is issuing, `stall` the control code
    notes:        what had to be assumed
    """

    ms: float | None = None
    bound: str = ""
    cycles: float = 0.0
    instructions: float = 0.0
    busy: dict[str, float] = field(default_factory=dict)
    issued: float = 0.0
    l2_bytes: float = 0.0
    dram_bytes: float = 0.0
    waits: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    reason: str = ""

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Prediction:
        return cls(**{**values, "notes": tuple(values["notes"])})


@dataclass(frozen=True)
class Fork:
    """Two ways of a launch whose jumps depend on data. Until it is known which one is taken, the shorter one is.

    at:        source line of the first such jump, "kernels/delta/forward.py:91"
    longer:    source lines that only the longer way executes
    predicted: the prediction of the longer way
    """

    at: str
    longer: tuple[str, ...]
    predicted: Prediction

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Fork:
        return cls(values["at"], tuple(values["longer"]), Prediction.from_dict(values["predicted"]))


@dataclass(frozen=True)
class Stall:
    """What a warp waits for before one instruction.

    address, instruction: where, and its text
    waits_for:            load, copy, tma, barrier, tensor, shared, issue (other warps), operands, or a unit
    cycles:               a trip of the loop, the mean over warps
    maker:                the instruction that it waits for, with its address; "" where it is not one of the same warp
    line:                 its source line, "" where that is not known
    """

    address: int
    instruction: str
    waits_for: str
    cycles: float
    line: str = ""
    maker: str = ""


@dataclass(frozen=True)
class Explanation:
    """Why a launch takes its predicted time: the loop in which most instructions are executed.

    loop, lines:  where it is, in machine code and in the source
    trips:        how often it runs in one program, the mean over the launch
    cycles:       that one trip takes, with as many blocks as an SM holds
    instructions: that a warp issues in one trip, by kind
    waits:        the longest waits
    what_ifs:     milliseconds that the launch would take, by what were free
    """

    loop: str
    lines: str
    trips: float
    cycles: float
    instructions: dict[str, int]
    waits: tuple[Stall, ...]
    what_ifs: dict[str, float]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Explanation:
        return cls(**{**values, "waits": tuple(Stall(**each) for each in values["waits"])})


@dataclass(frozen=True)
class Tuning:
    """What an autotuner's configurations are predicted to take, where all of them were tried.

    key:      what its choice depends on, see suite.tuning.peers.key_of
    config:   that with the least predicted time
    us:       microseconds of the launch with it
    first_us: the same with the first of the list
    tried:    how many have a predicted time
    """

    key: str
    config: dict[str, int]
    us: float
    first_us: float
    tried: int


@dataclass(frozen=True)
class Launch:
    """One kernel launch as the host code made it.

    kernel:        the kernel's function name
    grid:          blocks along x, y, z
    config:        the autotuner's configuration, "" without an autotuner
    traffic_bytes: bytes of its distinct tensor arguments
    shared_bytes:  shared memory of a block
    status:        ok, compile_error or over_limit, and the reason
    dots:          its matrix products; None where it did not compile
    predicted:     its predicted time; None where it did not compile, or the GPU is not one with a machine table
    explained:     why it takes that; None where that was not asked for
    fork:          the ways between which data decide; None where they do not, or it is known which one they take
    tuning:        what its autotuner's configurations are predicted to take; None where not all of them were tried
    """

    kernel: str
    grid: tuple[int, int, int]
    config: str = ""
    traffic_bytes: int = 0
    warps: int = 0
    stages: int = 0
    shared_bytes: int = 0
    binary: Binary | None = None
    residency: Residency | None = None
    status: str = "ok"
    reason: str = ""
    dots: Dots | None = None
    predicted: Prediction | None = None
    explained: Explanation | None = None
    fork: Fork | None = None
    tuning: Tuning | None = None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Launch:
        values = dict(values, grid=tuple(values["grid"]))
        values["binary"] = values["binary"] and Binary(**values["binary"])
        values["residency"] = values["residency"] and Residency(**values["residency"])
        values["dots"] = values["dots"] and Dots(**values["dots"])
        values["predicted"] = values["predicted"] and Prediction.from_dict(values["predicted"])
        values["fork"] = values["fork"] and Fork.from_dict(values["fork"])
        values["explained"] = values["explained"] and Explanation.from_dict(values["explained"])
        values["tuning"] = values["tuning"] and Tuning(**values["tuning"])
        return cls(**values)


@dataclass(frozen=True)
class Floor:
    """The time below which an implementation cannot run on a named GPU.

    bytes:      what has to cross the memory bus even if the last-level cache kept all it can between launches
    memory_ms:  those bytes at the GPU's bandwidth
    compute_ms: executed FLOPs at its matrix throughput
    special_ms: the operator's special functions at its rate for them; 0 where it counts none, or the rate is not known
    traffic_ms: launch and eager traffic at its bandwidth: what it takes when caches keep nothing between launches
    source:     "measured" or "datasheet"
    """

    gpu: str
    source: str
    bytes: int
    memory_ms: float
    compute_ms: float
    traffic_ms: float
    special_ms: float = 0.0

    @property
    def ms(self) -> float:
        return max(self.parts.values())

    @property
    def parts(self) -> dict[str, float]:
        """Milliseconds by what takes them."""
        return {"memory": self.memory_ms, "compute": self.compute_ms, "special": self.special_ms}

    @property
    def bound(self) -> str:
        """What sets it: `memory`, `compute` or `special`."""
        return max(self.parts, key=lambda name: self.parts[name])


@dataclass(frozen=True)
class Issued:
    """What the kernels really load and store, counted in the interpreter at a small shape.

    shape:            the small problem, as in a case id
    bytes:            bytes of all loads, stores and atomics; lanes that read one address in one load count once
    traffic_bytes:    launch traffic at that shape
    compulsory_bytes: compulsory bytes at that shape
    dot_flops:        FLOPs of its matrix products
    kernels:          names of the kernels that ran, each once
    ways:             of each fork by its line: how often it was reached, and how often the longer way was taken
    reason:           why there is no count, "" where there is one
    """

    shape: str
    bytes: int = 0
    traffic_bytes: int = 0
    compulsory_bytes: float = 0.0
    dot_flops: int = 0
    kernels: tuple[str, ...] = ()
    ways: dict[str, tuple[int, int]] = field(default_factory=dict)
    reason: str = ""

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Issued:
        ways = {line: (reached, longer) for line, (reached, longer) in values["ways"].items()}
        return cls(**{**values, "kernels": tuple(values["kernels"]), "ways": ways})


@dataclass(frozen=True)
class Profile:
    """The static profile of one case on one architecture.

    launches:           in the order of the host code
    candidates:         launches in the configurations that were not chosen, where they were asked for
    eager_bytes:        bytes read and written by eager PyTorch operations between the launches
    eager_ms:           milliseconds that these operations take on the named GPU, by their bytes and launches
    intermediate_bytes: bytes allocated during the call and not returned by it
    peak_bytes:         rise of live memory over the inputs
    kept_bytes:         what the forward pass leaves for a backward pass, beyond inputs and outputs; 0 in other passes
    counted_T:          tokens at which a small problem launches the same kernels: where issued traffic is counted; or 0
    io_bound_bytes:     what any algorithm has to move, given the target's on-chip memory; 0 where no bound is known
    pass_:              of its problem
    ptxas:              full version of the ptxas that compiled the launches; "" where it is not known
    """

    case_id: str
    arch: str
    status: str = "ok"
    reason: str = ""
    launches: tuple[Launch, ...] = ()
    candidates: tuple[Launch, ...] = ()
    eager_bytes: int = 0
    eager_ops: int = 0
    eager_ms: float = 0.0
    intermediate_bytes: int = 0
    peak_bytes: int = 0
    kept_bytes: int = 0
    flops_alg: float = 0.0
    flops_exec: float = 0.0
    special: float = 0.0
    bytes_compulsory: float = 0.0
    counted_T: int = 0
    io_bound_bytes: float = 0.0
    floor: Floor | None = None
    issued: Issued | None = None
    pass_: str = "fwd"
    ptxas: str = ""

    @property
    def traffic_bytes(self) -> int:
        """Launch traffic: bytes of every launch's distinct tensor arguments."""
        return sum(launch.traffic_bytes for launch in self.launches)

    @property
    def traffic_ratio(self) -> float:
        """Launch and eager traffic over compulsory bytes."""
        return (self.traffic_bytes + self.eager_bytes) / self.bytes_compulsory if self.bytes_compulsory else 0.0

    @property
    def predicted(self) -> Prediction | None:
        """The predicted time of the call, its eager operations among it, never below the floor.

        Its bound is that of the launch that takes longest. None without a launch that was predicted; without a time,
        and with the reason, where one of them cannot be.
        """
        found = [(launch.kernel, launch.predicted) for launch in self.launches]
        if not found or any(each is None for _, each in found):
            return None
        known = [(kernel, each) for kernel, each in found if each]
        if reason := next((f"{kernel}: {each.reason}" for kernel, each in known if each.ms is None), ""):
            return Prediction(reason=reason)
        ms = sum(each.ms or 0.0 for _, each in known) + self.eager_ms
        longest = max((each for _, each in known), key=lambda each: each.ms or 0.0)
        notes = dict.fromkeys(f"{kernel}: {note}" for kernel, each in known for note in each.notes)
        return Prediction(
            ms=max(ms, self.floor.ms if self.floor else 0.0),
            bound=longest.bound,
            cycles=sum(each.cycles for _, each in known),
            instructions=sum(each.instructions for _, each in known),
            notes=tuple(notes),
        )

    @property
    def hash(self) -> str:
        """One hash over all launches: binary, grid, warps, stages and shared memory; "" when one did not compile."""
        return fingerprint(self.launches)

    def columns(self) -> dict[str, Any]:
        """The flat `static.*` columns of a record. See docs/static.md."""
        values: dict[str, Any] = {"arch": self.arch}
        if self.launches:
            values |= self._traffic() | _of_binaries(self.launches) | _of_dots(self.launches)
            values |= {"ptxas": self.ptxas} if self.ptxas else {}
        if self.floor:
            values |= {
                "floor_ms": self.floor.ms,
                "floor_gpu": self.floor.gpu,
                "floor_source": self.floor.source,
                "floor_bound": self.floor.bound,
                "floor_bytes": self.floor.bytes,
                "traffic_ms": self.floor.traffic_ms,
                **{f"floor_{name}_ms": value for name, value in self.floor.parts.items()},
            }
        if predicted := self.predicted:
            values |= _of_prediction(predicted, self.uncertainty, self.floor.ms if self.floor else 0.0)
        if self.io_bound_bytes:
            values["io_bound_bytes"] = self.io_bound_bytes
        if self.issued:
            values |= _of_issued(self.issued)
        return {f"static.{name}": value for name, value in values.items()}

    @property
    def uncertainty(self) -> Uncertainty:
        """How far the predicted time may be off."""
        operator, implementation, *_ = split_case_id(self.case_id)
        return uncertainty_of(f"{operator}/{implementation}", self.arch, self.pass_)

    def _traffic(self) -> dict[str, Any]:
        return {
            "launches": len(self.launches),
            "traffic_bytes": self.traffic_bytes,
            "traffic_ratio": self.traffic_ratio,
            "eager_bytes": self.eager_bytes,
            "eager_ops": self.eager_ops,
            "intermediate_bytes": self.intermediate_bytes,
            "peak_bytes": self.peak_bytes,
            **({"kept_bytes": self.kept_bytes} if self.pass_ == "bwd" else {}),
            "flops_exec": self.flops_exec,
            "kernels": [launch.kernel for launch in self.launches],
        }

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Profile:
        values = dict(values)
        for name in ("launches", "candidates"):
            values[name] = tuple(Launch.from_dict(each) for each in values[name])
        values["floor"] = values["floor"] and Floor(**values["floor"])
        if values["issued"]:
            values["issued"] = Issued.from_dict(values["issued"])
        return cls(**values)


def fingerprint(launches: Iterable[Launch]) -> str:
    """sha256 over binaries and launch configurations, "" when one has no binary."""
    parts = [
        (launch.binary.hash, launch.grid, launch.warps, launch.stages, launch.shared_bytes) if launch.binary else None
        for launch in launches
    ]
    if not parts or None in parts:
        return ""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _of_binaries(launches: tuple[Launch, ...]) -> dict[str, Any]:
    binaries = [launch.binary for launch in launches if launch.binary]
    if not binaries:
        return {}
    resident = [launch.residency for launch in launches if launch.residency]
    mix = {name: sum(each.mix.get(name, 0) for each in binaries) for name in TENSOR_PATHS}
    return {
        "registers": max(each.registers for each in binaries),
        "spill_bytes": sum(each.spill_bytes for each in binaries),
        "stack_bytes": max(each.stack_bytes for each in binaries),
        "shared_bytes": max(launch.shared_bytes for launch in launches),
        "occupancy": min((each.occupancy for each in resident), default=None),
        "instructions": sum(each.instructions for each in binaries),
        **mix,
        "hash": fingerprint(launches),
    }


def dots_of_all(launches: Iterable[Launch]) -> Dots | None:
    """The products of all launches that compiled, together; None where none did. One that is not read has a reason."""
    found = [(launch.kernel, launch.dots) for launch in launches if launch.dots]
    if not found:
        return None
    if reason := next((f"{kernel}: {dots.reason}" for kernel, dots in found if dots.reason), ""):
        return Dots(reason=reason)
    return Dots(
        total=sum(dots.total for _, dots in found),
        replicated=sum(dots.replicated for _, dots in found),
        flops=sum(dots.flops for _, dots in found),
        flops_exec=sum(dots.flops_exec for _, dots in found),
    )


def _of_dots(launches: tuple[Launch, ...]) -> dict[str, Any]:
    dots = dots_of_all(launches)
    if dots is None:
        return {}
    if dots.reason:
        return {"dots_reason": dots.reason}
    values = {"dots": dots.total, "dots_replicated": dots.replicated, "dots_ratio": dots.ratio}
    return {name: value for name, value in values.items() if value is not None}


def _of_prediction(predicted: Prediction, uncertainty: Uncertainty, floor_ms: float) -> dict[str, Any]:
    if predicted.ms is None:
        return {"predicted_reason": predicted.reason}
    values: dict[str, Any] = {
        "predicted_ms": predicted.ms,
        "predicted_low_ms": max(uncertainty.low(predicted.ms), floor_ms),
        "predicted_high_ms": uncertainty.high(predicted.ms),
        "predicted_bound": predicted.bound,
    }
    return values | ({"predicted_notes": list(predicted.notes)} if predicted.notes else {})


def _of_issued(issued: Issued) -> dict[str, Any]:
    if issued.reason:
        return {"issued_shape": issued.shape, "issued_reason": issued.reason}
    return {
        "issued_shape": issued.shape,
        "issued_bytes": issued.bytes,
        "issued_dot_flops": issued.dot_flops,
        "issued_ratio": issued.bytes / issued.compulsory_bytes,
        "issued_reread": issued.bytes / issued.traffic_bytes,
    }
