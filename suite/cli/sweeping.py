"""What `bench` and `check` have in common: the device, the worker, the sweep, the exit code."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from suite.cli import values
from suite.errors import Exit, UsageError
from suite.hardware.gpus import visible_gpus

if TYPE_CHECKING:
    from suite.measuring.case import Settings
    from suite.plan import Group
    from suite.registry import Registry
    from suite.running.budget import Budget
    from suite.running.process import WorkerProcess
    from suite.running.progress import Told
    from suite.running.sweep import Options, Sweep


def add_running(parser: argparse.ArgumentParser, devices: Sequence[str]) -> None:
    """Flags of commands that run implementations."""
    group = parser.add_argument_group("how to run")
    group.add_argument("--device", choices=devices, help="default: cuda if there is a GPU, else cpu")
    group.add_argument("--seed", type=values.seed, metavar="N", help="seed of the inputs; default: 0")
    group.add_argument(
        "--timeout",
        type=values.span,
        metavar="S",
        help="stop a case that reports nothing for S seconds; default: 300",
    )
    group.add_argument("--json", action="store_true", help="print records as JSON lines instead of a table")


def add_telling(parser: argparse.ArgumentParser) -> None:
    """`--quiet` and `--verbose`, of commands that run a sweep."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--quiet", action="store_true", help="print failures and where the results are; no table")
    group.add_argument(
        "--verbose", action="store_true", help="print a line for each case when it is done, and the whole table"
    )


def told_of(args: argparse.Namespace) -> Told:
    """How much the flags ask to be told while cases run."""
    return "quiet" if args.quiet else "verbose" if args.verbose else "usual"


def add_shard(group: argparse._ArgumentGroup, does: str) -> None:
    """`--shard`. does: what the command does with a part, for the help."""
    group.add_argument(
        "--shard",
        type=values.shard,
        metavar="I/N",
        help=f"{does} the I-th of N parts of the plan, on one of N machines",
    )


def sharded(groups: list[Group], shard: tuple[int, int] | None) -> list[Group]:
    """Every N-th problem: each part spans all lengths, and together they are the plan."""
    if shard is None:
        return groups
    part, parts = shard
    if parts > len(groups):
        raise UsageError(f"--shard {part}/{parts}: the plan has fewer problems ({len(groups)}); use fewer parts")
    return groups[part - 1 :: parts]


def add_gpu(parser: argparse.ArgumentParser) -> None:
    """Flags of commands that time on a GPU."""
    group = parser.add_argument_group("the GPU")
    group.add_argument(
        "--gpu", type=values.index, metavar="N", help="number of the visible GPU, from 0; it is locked while in use"
    )
    group.add_argument(
        "--wait", type=values.pause, default=0.0, metavar="S", help="seconds to wait for a GPU that is in use"
    )
    group.add_argument(
        "--lock-clocks",
        type=values.count,
        nargs="?",
        const=0,
        metavar="MHZ",
        help="lock the SM clock, by default at the base clock; needs root",
    )


def gpu_variables(args: argparse.Namespace, device: str) -> dict[str, str]:
    """What a worker's environment says of the GPU that --gpu names. UsageError when there is no such GPU."""
    for flag, given in (("--gpu", args.gpu), ("--lock-clocks", args.lock_clocks)):
        if given is not None and device != "cuda":
            raise UsageError(f"{flag} needs a CUDA device, and this sweep runs on {device}; remove it")
    if args.gpu is None:
        return {}
    import torch

    names = visible_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"), torch.cuda.device_count())
    if not 0 <= args.gpu < len(names):
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        why = (
            "" if named is None else f" of CUDA_VISIBLE_DEVICES={named!r}, in which CUDA hides all after a wrong entry"
        )
        raise UsageError(f"--gpu {args.gpu}: {len(names)} GPU(s) are visible{why}; count from 0")
    return {"CUDA_VISIBLE_DEVICES": names[args.gpu]}


@contextmanager
def holding(args: argparse.Namespace, uuid: str | None) -> Iterator[None]:
    """Hold the GPU's lock, and its clocks where --lock-clocks asks, inside the block; nothing for a CPU (None)."""
    if uuid is None:
        yield
        return
    from suite.telemetry import find_gpu, gpu_lock, locked_clocks

    with gpu_lock(uuid, wait_s=args.wait), ExitStack() as stack:
        if args.lock_clocks is not None:
            stack.enter_context(locked_clocks(find_gpu(uuid), args.lock_clocks or None))
        yield


def device_of(args: argparse.Namespace) -> str:
    """The device the flags ask for; UsageError when it is not there."""
    import torch

    available = torch.cuda.is_available()
    if args.device == "cuda" and not available:
        raise UsageError("--device cuda: no CUDA device here; use --device cpu, or `check --device interpret`")
    return args.device or ("cuda" if available else "cpu")


def run_sweep(
    registry: Registry,
    groups: Sequence[Group],
    settings: Settings,
    options: Options,
    *,
    start: Callable[[], WorkerProcess],
    store: Callable[[dict[str, Any]], None],
    budget: Budget | None = None,
    interrupted: Callable[[], None] = lambda: None,
    review: Callable[[dict[str, Any]], dict[str, Any]] = lambda record: record,
    told: Told = "usual",
) -> Sweep:
    """Run a plan with progress; returns the sweep, which knows its statuses and what was left out.

    budget:      how long all may take, counted from when it was made; no end when None
    interrupted: called when Ctrl-C ended the sweep; what was measured until then is kept
    review:      judges each record once more before it is kept
    told:        how much is said while it runs
    """
    from suite.running.budget import Budget
    from suite.running.progress import make_progress
    from suite.running.sweep import Sweep

    make = partial(make_progress, told=told)
    sweep = Sweep(registry, groups, settings, options, start, store, make, budget or Budget(), review)

    def on_interrupt(*_: object) -> None:
        # Told at once: an exception that is raised inside a destructor is swallowed by Python.
        sweep.stopped = True
        raise KeyboardInterrupt

    # Only the main thread can take signals: elsewhere Ctrl-C is not this sweep's.
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, on_interrupt) if main else None
    try:
        sweep.run()
    except KeyboardInterrupt:
        interrupted()
    finally:
        if main:
            signal.signal(signal.SIGINT, before)
    return sweep


def exit_of(statuses: dict[str, int]) -> Exit:
    """1 when anything is incorrect, implausible, crashed, timed out, an error or did not compile."""
    from suite.faults import FAILURES

    return Exit.REGRESSION if FAILURES & set(statuses) else Exit.PASS


def summary_of(statuses: dict[str, int]) -> str:
    """`24 ok, 3 unsupported`."""
    return ", ".join(
        f"{count} {status}" for status, count in sorted(statuses.items(), key=lambda x: (x[0] != "ok", x[0]))
    )
