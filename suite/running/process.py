"""A worker process as the runner sees it: start it, send requests, end it with all that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from suite import cachefolder
from suite.discovery import ROOT
from suite.errors import DiscoveryError, IncomparableError, UsageError
from suite.hardware import assemblers
from suite.running import keeper
from suite.running.lastwords import without_lists
from suite.running.messages import Disconnected, Refused, runners_end

START_TIMEOUT_S = 300.0
GRACE_S = 2.0
KILL_S = 4.0
POLL_S = 0.01
TAIL_BYTES = 16384


def measuring_worker(
    device: str,
    plugins: Sequence[str] = (),
    root: Path = ROOT,
    module: str = "suite.running.worker",
    environment: Mapping[str, str] | None = None,
    start_s: float = START_TIMEOUT_S,
) -> WorkerProcess:
    """A worker that measures and checks.

    device:      `cuda`, `cpu` or `interpret`; the last turns Triton's interpreter on before anything is imported
    plugins:     files for --load
    root:        checkout whose kernels/ and baselines/ are loaded
    module:      the worker's code, where it does more than suite.running.worker
    environment: further variables: which GPU, whose compile cache
    start_s:     the longest that it may take to be ready
    """
    variables = {"SUBQUAD_WORKER_DEVICE": device}
    if device != "cuda":
        variables["CUDA_VISIBLE_DEVICES"] = ""
    if device == "interpret":
        variables["TRITON_INTERPRET"] = "1"
    return WorkerProcess(module, [str(root), *plugins], {**variables, **(environment or {})}, start_s)


class Silent(Disconnected):
    """A worker that is there and does not answer."""


class WorkerProcess:
    """One worker process under a keeper, in a session of its own: `python -m MODULE FD WORDS...` on the other end of a
    channel.

    Raises DiscoveryError when it cannot load what it works on, IncomparableError when that is not this suite's fault.
    """

    def __init__(
        self, module: str, words: Sequence[str], variables: Mapping[str, str], start_s: float = START_TIMEOUT_S
    ) -> None:
        mine, theirs = socket.socketpair()
        self.channel = runners_end(mine)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, str(theirs.fileno()), *words],
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            cwd=ROOT,
            env={**os.environ, **cachefolder.variables(), **assemblers.variables(), **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        theirs.close()
        self._tail = _Tail(self._process.stdout)
        self._await_ready(start_s)

    def _await_ready(self, start_s: float) -> None:
        how = f"not within {start_s:.0f} s"
        until = time.monotonic() + start_s
        try:
            # Said before anybody else's code is loaded: whoever writes on the channel later is compared with it.
            answer = self.channel.receive(start_s)
            if answer is not None:
                self.channel.know_peer()
                answer = self.channel.receive(max(0.0, until - time.monotonic()))
        except Refused as error:
            answer, how = None, str(error)
        except Disconnected:
            answer, how = None, self.how_it_ended()
        if answer is None:
            self.kill()
            raise DiscoveryError(f"a worker did not start ({how}): {self.tail() or 'it printed nothing'}")
        if answer.get("event") == "failed":
            self.kill()
            raise (DiscoveryError if answer.get("kind") == "usage" else IncomparableError)(str(answer.get("error")))

    def ask(self, timeout_s: float = START_TIMEOUT_S, **request: Any) -> dict[str, Any]:
        """A request whose answer is one message.

        Raises Disconnected when none comes in time or the worker dies, UsageError when it tells what the user can mend.
        """
        self.channel.send(request)
        answer = self.channel.receive(timeout_s)
        if answer is None:
            raise Silent(f"no answer to '{request['do']}' in {timeout_s:.0f} s")
        if answer.get("event") == "failed":
            raise UsageError(str(answer.get("error")))
        return answer

    def tail(self) -> str:
        """The end of what the worker and its libraries printed."""
        return self._tail.text()

    def how_it_ended(self) -> str:
        """`exit code 3`, `signal SIGSEGV`, or `closing its channel while it was still running`."""
        try:
            code = self._process.wait(timeout=GRACE_S)
        except subprocess.TimeoutExpired:
            return "closing its channel while it was still running"
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    @property
    def killed_by_kernel(self) -> bool:
        """Whether it ended by SIGKILL, which is how the kernel ends a process when memory is gone."""
        return self._process.poll() == -signal.SIGKILL

    def kill(self) -> None:
        """End it at once, with every process that it started: it holds nothing that is not stored.

        A process that a driver holds in the kernel cannot be ended; after KILL_S it is left behind, and named.
        """
        self.end()
        try:
            self._process.wait(KILL_S)
        except subprocess.TimeoutExpired:
            # The keeper waits for what does not die, or is stopped.
            left = keeper.processes_below(self._process.pid)
            keeper.kill([*left, self._process.pid])
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_S)
            if left := _after(GRACE_S, left):
                print(
                    f"process {', '.join(map(str, left))} does not die: a driver holds it; its device may stay busy",
                    file=sys.stderr,
                )
        self.channel.close()
        self._tail.join(GRACE_S)

    def end(self) -> None:
        """Have its keeper end it and do not wait: the channel tells whoever is reading."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)


def _after(seconds: float, processes: list[int]) -> list[int]:
    """Which of the processes that were killed are there after so long: ending one takes the kernel a moment."""
    end = time.monotonic() + seconds
    while (found := [pid for pid in processes if _alive(pid)]) and time.monotonic() < end:
        time.sleep(POLL_S)
    return found


def _alive(pid: int) -> bool:
    """Whether a process is there and runs, or waits in the kernel."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in "ZX"


class _Tail(threading.Thread):
    """Keeps the end of a stream and reads the rest away, so that a worker that prints does not block."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        super().__init__(daemon=True)
        self._stream, self._kept = stream, b""
        self.start()

    def run(self) -> None:
        assert self._stream is not None
        while data := self._stream.read1(1 << 16):  # type: ignore[attr-defined]
            self._kept = (self._kept + data)[-TAIL_BYTES:]

    def text(self) -> str:
        self.join(timeout=GRACE_S)
        return without_lists(self._kept.decode(errors="replace")).strip()
