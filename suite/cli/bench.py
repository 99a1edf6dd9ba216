"""`subquad bench`: measure cases, store a run, render its report."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from suite.cli import values
from suite.cli.compiling import add_compiling, compile_first, target_of_worker
from suite.cli.runs import (
    Resumption,
    add_run,
    environment_of,
    judged,
    preset_name,
    refuse_both,
    settle,
    start_run,
    take_seed,
    taken,
)
from suite.cli.selection import add_selection, selected
from suite.cli.sweeping import (
    add_gpu,
    add_running,
    add_shard,
    add_telling,
    device_of,
    exit_of,
    gpu_variables,
    holding,
    run_sweep,
    sharded,
    summary_of,
    told_of,
)
from suite.errors import Exit, unknown

if TYPE_CHECKING:
    from suite.measuring.case import Settings
    from suite.plan import Group
    from suite.problem import Case
    from suite.registry import Registry
    from suite.running.process import WorkerProcess
    from suite.running.sweep import Sweep
    from suite.store import Key, Writer

RUNS = Path("results/local")
REPORTS = Path("reports/local")
INTERRUPTED = 130
# A board's energy counter moves about ten times a second: a shorter window would measure its steps.
ENERGY_S = 2.0


def configure(parser: argparse.ArgumentParser) -> None:
    add_selection(parser)
    add_running(parser, ("cuda", "cpu"))
    add_telling(parser)
    add_gpu(parser)
    add_compiling(parser)
    group = parser.add_argument_group("how to measure and store")
    group.add_argument(
        "--mode",
        type=values.words,
        metavar="NAMES",
        help="cache state and timer, such as cold-events,rotated-graph (CUDA) or warm-cpu",
    )
    group.add_argument(
        "--warmup", type=values.pause, metavar="MS", help="time of the warm-up before the first sample, in ms"
    )
    group.add_argument("--rep", type=values.span, metavar="MS", help="longest time for sampling one case, in ms")
    group.add_argument("--launches", type=values.count, metavar="N", help="measure everything in N fresh processes")
    add_shard(group, "measure")
    group.add_argument("--cool-down", type=values.pause, metavar="S", help="pause before each problem, in seconds")
    group.add_argument(
        "--recheck-pick",
        type=values.seed,
        metavar="N",
        help="which sequence and heads of timed outputs are compared with the oracle; default: drawn, and recorded",
    )
    group.add_argument(
        "--paranoid",
        action="store_true",
        help="judge what each last timed call returned once more, in a process in which no implementation runs",
    )
    group.add_argument("--energy", action="store_true", help="also measure energy per token (adds about 2 s per case)")
    add_run(group, f"{RUNS}/<time>")
    group.add_argument("--extend", type=Path, metavar="DIR", help="add the selected cases to a run of this machine")
    group.add_argument(
        "--no-static", action="store_true", help="without a GPU: do not compile the Triton kernels of the plan"
    )
    group.add_argument("--no-report", action="store_true", help="store the run without rendering its report")
    group.add_argument("--list", action="store_true", help="print the cases of the plan and stop")
    group.add_argument(
        "--dry-run", action="store_true", help="print the number of cases and the estimated time, and stop"
    )


def run(args: argparse.Namespace) -> Exit | int:
    if args.list or args.dry_run:
        return _announced(args)
    done = measured(args, table=not args.json and not args.quiet)
    return INTERRUPTED if done.interrupted else done.exit


def measured(args: argparse.Namespace, table: bool = False) -> Bench:
    """The bench that the flags ask for, when it has run: its folder, its exit code, what was left out.

    table: whether to print the results
    """
    with _prepared(args, table) as bench:
        bench.run()
        return bench


def _announced(args: argparse.Namespace) -> Exit:
    """The plan's cases, or how long they will take; nothing is measured."""
    if args.list:
        return _list(_planned_of(args)[1], args)
    with _prepared(args) as bench:
        return bench.tell()


@contextmanager
def _prepared(args: argparse.Namespace, table: bool = False) -> Iterator[Bench]:
    """A bench whose folder is taken and whose plan is made."""
    from suite.plan import shuffled

    registry, groups, resumption = _planned_of(args)
    groups = groups if resumption else shuffled(groups, args.seed)
    with taken(args, RUNS / f"{datetime.now():%Y%m%d-%H%M%S}-{preset_name(args.preset)}") as writer:
        yield Bench(args, registry, args.device, groups, writer, resumption, table)


def _planned_of(args: argparse.Namespace) -> tuple[Registry, list[Group], Resumption | None]:
    """The registry and the plan of the flags, or of the run that is resumed; the flags get their defaults."""
    from suite.discovery import discover

    refuse_both(args)
    resumption = Resumption(args, "bench") if args.resume else None
    if args.extend:
        take_seed(args)
    registry = discover(load=args.load)
    device = device_of(args)
    groups = resumption.plan.groups(registry) if resumption else _planned(args, registry, device)
    _settle(args, device)
    return registry, groups, resumption


def _planned(args: argparse.Namespace, registry: Registry, device: str) -> list[Group]:
    """The plan that the flags select; what the preset says of timing is taken into args."""
    args.preset = args.preset or ("gpu" if device == "cuda" else "cpu")
    preset, groups = selected(args, registry, args.preset)
    args.warmup = preset.warmup_ms if args.warmup is None else args.warmup
    args.rep = preset.rep_ms if args.rep is None else args.rep
    args.no_static = args.no_static or not preset.static
    return sharded(groups, args.shard)


def _settle(args: argparse.Namespace, device: str) -> None:
    from suite.measuring.timers import DEFAULT_MODES, modes

    settle(args)
    args.device = device
    args.mode = args.mode or (DEFAULT_MODES[device],)
    for mode in args.mode:
        if mode not in modes(device):
            raise unknown(f"mode on {device}", mode, modes(device))


def _list(groups: list[Group], args: argparse.Namespace) -> Exit:
    for case in (case for group in groups for case in group.cases):
        print(json.dumps({"case_id": case.case_id}) if args.json else case.case_id)
    return Exit.PASS


class Bench:
    """One bench: `tell` says how long it will take, `run` measures.

    exit:        what the statuses of its records say
    interrupted: whether Ctrl-C ended it
    left_out:    cases that have no record, because the budget or Ctrl-C ended it
    table:       whether it prints its results
    """

    def __init__(
        self,
        args: argparse.Namespace,
        registry: Registry,
        device: str,
        groups: list[Group],
        writer: Writer,
        resumption: Resumption | None,
        table: bool = False,
    ) -> None:
        from suite.running.budget import Budget
        from suite.store import done_keys

        self.args, self.registry, self.device, self.groups = args, registry, device, groups
        self.table = table
        self.writer, self.resumption, self.folder = writer, resumption, writer.folder
        self.continued: bool = bool(args.resume or args.extend)
        self.variables = gpu_variables(args, device)
        self.budget = Budget(args.budget)
        self.interrupted, self.left_out, self.exit = False, 0, Exit.PASS
        self.compiling_s = 0.0
        self.done: set[Key] = done_keys(self.folder) if self.continued else set()
        self.before: dict[str, Any] | None = None

    def tell(self) -> Exit:
        """How many cases, and about how long they will take, once all that a run would refuse was refused."""
        import torch

        from suite.discovery import ROOT
        from suite.hardware.environment import answered, physical_cores
        from suite.running.estimate import estimate

        # As in the workers, whose fingerprint it is compared with.
        torch.set_num_threads(physical_cores())
        found = answered(self.device, ROOT, self.registry.absent)
        environment = self._environment(found)
        settings = self._settings(environment)
        about = estimate(
            self.registry,
            self.groups,
            settings,
            self.args.launches,
            found["fingerprint"],
            RUNS,
            self.done,
            before_s=self._estimated_compiling_s(settings),
        )
        cases = sum(len(group.cases) for group in self.groups)
        print(f"{cases} cases of {len(self.groups)} problems, {self.args.launches} launch(es)")
        if self.done:
            print(f"{cases * self.args.launches - about.missing} of them are in {self.folder} already")
        print(about.told(self.budget.seconds))
        for reason in about.reasons if not about.runnable else ():
            print(f"nothing would be measured: {reason}")
        return Exit.PASS

    def run(self) -> None:
        """Measure, store, and render the report."""
        from suite.running.compiled import compile_cache

        with compile_cache(self.folder) as cache:
            self.variables |= cache.variables
            self._run(self._start())
            cache.keep = self.interrupted or self.left_out > 0

    def _run(self, worker: WorkerProcess) -> None:
        try:
            found = worker.ask(do="describe", device=self.device)
            environment = self._environment(found)
        except BaseException:
            worker.kill()
            raise
        with holding(self.args, found["device"].get("uuid")):
            sweep = self._measure(worker, environment | self._ceilings(worker, found))
        self.exit = exit_of(sweep.statuses)
        self._say(sweep)
        if not self.interrupted and not self.args.no_report:
            self._report(self.folder)

    def _environment(self, found: dict[str, Any]) -> dict[str, Any]:
        """The present environment. UsageError when the run that is continued was made in another one."""
        environment = environment_of(found, self.args.preset, self.groups, self.args.seed)
        if self.continued:
            self.before = judged(self.args, environment, self.resumption)
        return environment

    def _measure(self, worker: WorkerProcess, environment: dict[str, Any]) -> Sweep:
        start_run(self.writer, self.args, "bench", self.groups, environment, self.before)
        # Told first too: who kills this process can resume the run.
        print(f"measuring into {self.folder}", file=sys.stderr)
        self._compile(worker, environment)
        sweep = self._sweep(worker, environment, self.writer)
        if self.device == "cpu" and not self.interrupted and not self.args.no_static:
            self._static(self.writer, environment)
        self._close(self.writer, environment, sweep)
        self.left_out = sweep.left_out
        return sweep

    def _missing(self, settings: Settings) -> list[Case]:
        """Cases that lack a record of any mode and launch, in the order of the plan."""
        from suite.running.sweep import is_done

        launches = range(self.args.launches)
        cases = [case for group in self.groups for case in group.cases]
        return [
            case
            for case in cases
            if not all(is_done(case, settings, "timed", launch, self.done) for launch in launches)
        ]

    @property
    def _compiles(self) -> bool:
        return self.device == "cuda" and not self.args.no_compile

    def _estimated_compiling_s(self, settings: Settings) -> float:
        from suite.static.ahead import cores, estimated_s

        return estimated_s(self.registry, self._missing(settings), cores()) if self._compiles else 0.0

    def _compile(self, worker: WorkerProcess, environment: dict[str, Any]) -> None:
        """On a GPU, compile what the cases that are missing will launch, on all cores, before the first is measured."""
        from suite.running.compiled import folder_of
        from suite.static.ahead import Wanted

        if not self._compiles:
            return
        try:
            wanted = [Wanted(case) for case in self._missing(self._settings(environment))]
            target = target_of_worker(worker)
            found = compile_first(self.args, self.registry, wanted, target, self.budget, folder=folder_of(self.folder))
        except BaseException as error:
            worker.kill()
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(f"while compiling; `subquad bench --resume {self.folder}` goes on") from None
            raise
        self.compiling_s = found.seconds

    def _say(self, sweep: Sweep) -> None:
        folder = self.folder
        if sweep.statuses and self.table:
            self._print_results()
        print(
            f"{summary_of(sweep.statuses) or ('nothing was measured' if sweep.left_out else 'nothing to do')}",
            file=sys.stderr,
        )
        for line in sweep.nothing_ran() if not self.table else ():
            print(line, file=sys.stderr)
        if sweep.left_out:
            command = "--extend" if self.args.extend else "--resume"
            more = ", with the same flags," if self.args.extend else ""
            print(
                f"{sweep.left_out} cases left out; `subquad bench {command} {folder}`{more} measures them",
                file=sys.stderr,
            )
        print(f"run: {folder}", file=sys.stderr if self.args.json else sys.stdout)

    def _print_results(self) -> None:
        from suite.cli.results import print_results
        from suite.reporting.data.frame import read

        print_results(read([self.folder])[0], everything=self.args.verbose)

    def _start(self, module: str = "suite.running.worker") -> WorkerProcess:
        from suite.running.process import measuring_worker

        plugins = [str(Path(path).resolve()) for path in self.args.load]
        return measuring_worker(self.device, plugins, module=module, environment=self.variables)

    def _ceilings(self, worker: WorkerProcess, found: dict[str, Any]) -> dict[str, Any]:
        from suite.ceilings import warning

        identity = {**found["fingerprint"], "arch": found["device"]["arch"]}
        answer = worker.ask(do="ceilings", device=self.device, identity=identity, refresh=False)
        if said := warning(answer["ceilings"]):
            print(f"note: {said}", file=sys.stderr)
        return {"ceilings": answer["ceilings"]}

    def _settings(self, environment: dict[str, Any]) -> Settings:
        from suite.measuring.case import Settings

        device = environment["device"]
        return Settings(
            device=self.device,
            device_name="cpu" if self.device == "cpu" else device["name"],
            modes=self.args.mode,
            warmup_ms=self.args.warmup,
            rep_ms=self.args.rep,
            seed=self.args.seed,
            recheck_pick=values.drawn_pick() if self.args.recheck_pick is None else self.args.recheck_pick,
            commit=environment["commit"],
            ceilings=environment["ceilings"],
            llc_bytes=device["llc_bytes"],
            energy_s=ENERGY_S if self.args.energy else None,
        )

    def _sweep(self, worker: WorkerProcess, environment: dict[str, Any], writer: Writer) -> Sweep:
        from suite.running.sweep import Options

        settings = self._settings(environment)
        options = Options("timed", self.args.launches, self.args.timeout, self.done, self.args.cool_down)
        ready = [worker]
        with self._witnessed(settings) as (settings, review):
            return run_sweep(
                self.registry,
                self.groups,
                settings,
                options,
                start=lambda: ready.pop() if ready else self._start(),
                store=self._store(writer),
                budget=self.budget,
                interrupted=self._interrupt,
                review=review,
                told=told_of(self.args),
            )

    @contextmanager
    def _witnessed(self, settings: Settings) -> Iterator[tuple[Settings, Callable[[dict[str, Any]], dict[str, Any]]]]:
        """The settings, and what judges a record once more, under --paranoid in another process."""
        if not self.args.paranoid:
            yield settings, lambda record: record
            return
        from suite.running.witness import Witness

        with TemporaryDirectory(prefix="subquad-evidence-") as folder:
            settings = replace(settings, evidence=folder)
            witness = Witness(settings, lambda: self._start("suite.running.witness"), self.args.timeout)
            try:
                yield settings, witness.review
            finally:
                witness.end()

    def _static(self, writer: Writer, environment: dict[str, Any]) -> None:
        """Without a GPU the plan's Triton cases are not timed: they are compiled, and their profiles stand beside."""
        from suite.static import records
        from suite.static.progress import shown
        from suite.static.recording import ARCHS, COMPILED, static_cases
        from suite.store import record_key

        plugins = [str(Path(path).resolve()) for path in self.args.load]
        found = records(
            self.registry,
            self.groups,
            ARCHS,
            origins=COMPILED,
            load=plugins,
            commit=environment["commit"],
            issued=False,
            progress=shown,
            timeout_s=self.args.timeout,
            budget=self.budget,
        )
        for record in found:
            # Why a peer has no kernel here, its timed record says.
            compiles = record["origin"] == "ours" or record["status"] != "unsupported"
            if compiles and record_key(record) not in self.done:
                self._store(writer)(record)
        wanted = len(static_cases(self.registry, self.groups, COMPILED)) * len(ARCHS)
        if missing := wanted - len(found):
            again = f"`subquad bench --resume {self.folder}` takes them"
            print(f"{missing} of {wanted} static profiles left out under --budget; {again}", file=sys.stderr)

    def _interrupt(self) -> None:
        self.interrupted = True

    def _store(self, writer: Writer) -> Any:
        def store(record: dict[str, Any]) -> None:
            writer.append(record)
            if self.args.json:
                print(json.dumps(record), flush=True)

        return store

    def _close(self, writer: Writer, environment: dict[str, Any], sweep: Sweep) -> None:
        from suite.running.resuming import finished
        from suite.store.writing import write_environment

        phases = ({"compile": self.compiling_s} if self._compiles else {}) | sweep.clock.seconds
        seconds = {phase: round(spent, 3) for phase, spent in phases.items()}
        if self.before is None:
            # What the last records were judged by: a case may have shown that a ceiling had been measured too low.
            environment["ceilings"] = sweep.settings.ceilings
            environment["plan"] |= {"left_out": sweep.left_out, "seconds": seconds}
            write_environment(writer.folder, environment)
        elif self.resumption:
            write_environment(writer.folder, finished(self.before, sweep.left_out, seconds))

    def _report(self, folder: Path) -> None:
        from suite.reporting import render
        from suite.reporting.data.frame import read

        rendered = render(read([folder]), REPORTS / folder.resolve().name)
        for note in rendered.notes:
            print(f"note: {note}", file=sys.stderr)
        print(f"report: {rendered.page}", file=sys.stderr if self.args.json else sys.stdout)
