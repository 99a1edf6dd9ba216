"""`subquad campaign NAME`: commands in the order of what they prove, where the time on a device is short."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from suite.cli import values
from suite.errors import Exit, UsageError

if TYPE_CHECKING:
    from suite.campaign import Campaign, Step


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="gpu-first, gpu-day, or a TOML file of your own")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="default: cuda")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of its runs and logs; default: results/local/NAME"
    )
    parser.add_argument("--budget", type=values.budget, metavar="TIME", help="time limit of all steps, such as 12m")
    parser.add_argument(
        "--only", type=values.words, default=(), metavar="STEPS", help="steps to run, finished or not, comma-separated"
    )
    parser.add_argument("--ptxas", type=Path, metavar="FILE", help="a second ptxas: failures are compiled again by it")
    parser.add_argument(
        "--rehearse", action="store_true", help="run every step on small shapes, to see that the commands work"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the steps and the most time that they take")


def run(args: argparse.Namespace) -> Exit:
    from suite.campaign import UNFINISHED, Campaign, Terms, read
    from suite.discovery import ROOT
    from suite.hardware.assemblers import is_assembler
    from suite.running.budget import Budget

    plan = read(args.name)
    if args.ptxas and not is_assembler(str(args.ptxas)):
        raise UsageError(f"--ptxas {args.ptxas} is no ptxas: it does not answer --version as one; name another file")
    terms = Terms(
        args.device, args.rehearse, str(args.ptxas.resolve()) if args.ptxas else "", tuple(args.only), _jobs()
    )
    folder = (args.out or ROOT / "results" / "local" / plan.name).resolve()
    campaign = Campaign(plan, folder, terms, Budget(args.budget), _tell)
    wanted = campaign.wanted()
    for step in wanted:
        _parse(step, campaign)
    if args.dry_run:
        print(plan.description)
        for step in wanted:
            why = campaign.why_not(step)
            print(f"{step.name:<12} {'skipped: ' + why if why else f'at most {step.seconds:.0f} s'}; {step.proves}")
            print(f"{'':<12} {shlex.join(campaign.command(step, step.seconds)[2:])}")
    print(_estimate(campaign.seconds, len(wanted), args.budget), file=sys.stderr)
    if args.dry_run:
        return Exit.PASS
    _refuse_no_device(args.device)
    code = campaign.run()
    found = campaign.outcomes()
    for outcome in found:
        if not args.only or outcome.step in args.only:
            print(outcome.line)
    if refused := [outcome.step for outcome in found if outcome.status == "refused"]:
        print(f"refused: {', '.join(refused)}; mend what the line says, then give the same command")
    if left := [outcome.step for outcome in found if outcome.status in UNFINISHED]:
        print(f"not finished: {', '.join(left)}; {'without --only ' if args.only else ''}the same command goes on")
    print(f"campaign: {folder}")
    return code


def _parse(step: Step, campaign: Campaign) -> None:
    """UsageError where a command does not take the words of a step."""
    from suite.cli import parser

    if step.program == "pytest":
        return
    try:
        parser(step.program).parse_args(campaign.command(step, step.seconds)[3:])
    except UsageError as error:
        raise UsageError(f"step {step.name} of {campaign.plan.name}: {error}") from error


def _estimate(seconds: float, steps: int, budget: float | None) -> str:
    if not steps:
        return "every step is finished; --only STEP runs one again"
    from suite.running.estimate import duration

    cut = f", of which --budget allows {duration(budget)}" if budget is not None and budget < seconds else ""
    return f"{steps} steps take at most {duration(seconds)}{cut}"


def _tell(line: str) -> None:
    print(line, flush=True)


def _jobs() -> int:
    """Processes that share the device: all cores but two."""
    from suite.static.ahead import cores

    return max(1, cores() - 2)


def _refuse_no_device(device: str) -> None:
    if device != "cuda":
        return
    import torch

    if not torch.cuda.is_available():
        raise UsageError("there is no GPU here; `--device cpu --rehearse` shows that the commands work")
