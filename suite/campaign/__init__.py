"""Campaigns: commands that are run one after another on a device whose time is short, each within seconds of its own.

    name, steps = "gpu-first", read("gpu-first")
    Campaign(steps, folder, Terms(device="cuda")).run()

A campaign is TOML: a description, and steps in the order of what they prove.

    description = "what it is for"

    [[step]]
    name = "check"
    proves = "kernels answer what the oracle does"
    run = "check --preset first-contact --origin ours"    # a command of subquad, or pytest
    seconds = 240                                          # the most that the step may take
    needs = "ptxas"                                        # only where the campaign is given one
    of_failures = "check"                                  # only the implementations that failed in that step
    rehearsal = "--device interpret --seq-len 40"          # added to the command in a rehearsal, which needs no GPU
"""

from suite.campaign.running import UNFINISHED, Campaign, Outcome, Terms
from suite.campaign.steps import Plan, Step, names, read

__all__ = ["UNFINISHED", "Campaign", "Outcome", "Plan", "Step", "Terms", "names", "read"]
