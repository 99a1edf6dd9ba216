"""The keeper: a small process between the runner and a worker, so that nothing the worker started outlives it.

    runner -> keeper -> worker -> whatever implementations start

The keeper is the nearest subreaper: a process whose parent ended becomes its child, whatever session or group it has
moved to. When the worker ends, or the runner asks, or the runner itself dies, the keeper kills every process below it.
Then it ends as the worker did, with the same exit code or signal. While the worker runs it waits, and takes no time.

A process that kills its keeper on purpose may leave others behind: it has the rights of the same user.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
# How long processes below the keeper may take to be gone.
END_S = 3.0
POLL_S = 0.005


def keep() -> None:
    """Fork, and return in the child, which is the worker. The parent keeps it, and never returns."""
    watched = {signal.SIGCHLD, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    # Where it is ignored, as a parent may have left it, nobody learns how a child ended.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    worker = os.fork()
    if worker == 0:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # A signal to its process group, which it may send, is not the keeper's.
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    # No other signal is for the keeper, Ctrl-C least of all.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    _let_go()
    _end_as(_await(worker, watched))


def processes_below(pid: int) -> list[int]:
    """All processes that descend from one, as /proc tells them."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            # The command in parentheses may hold anything.
            parent = int(path.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found, waiting = [], [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def kill(processes: list[int]) -> None:
    """Kill processes; those that are gone already, or are another user's, are left."""
    for each in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(each, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _let_go() -> None:
    """Hold nothing that the worker has open: its channel and its output end with it."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _await(worker: int, watched: set[signal.Signals]) -> int:
    """The worker's wait status, once it and all that it started are gone."""
    status = None
    while status is None:
        if signal.sigwait(watched) == signal.SIGTERM:
            os.kill(worker, signal.SIGKILL)
        status = _reap(worker)
    end = time.monotonic() + END_S
    while (found := processes_below(os.getpid())) and time.monotonic() < end:
        kill(found)
        _reap(worker)
        time.sleep(POLL_S)
    return status


def _reap(worker: int) -> int | None:
    """Take the status of every child that ended; the worker's, where it is among them."""
    found = None
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == worker:
                found = ended[1]
    return found


def _end_as(status: int) -> None:
    if os.WIFSIGNALED(status):
        how = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if how not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(how, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {how})
        os.kill(os.getpid(), how)
    os._exit(os.WEXITSTATUS(status))
