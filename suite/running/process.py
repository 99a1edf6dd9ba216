"""A worker process as the runner sees it: start it, send requests, end it with all its children."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from suite import cachefolder
from suite.discovery import ROOT
from suite.errors import DiscoveryError, IncomparableError, UsageError
from suite.hardware import assemblers
from suite.running.messages import Channel, Disconnected

START_TIMEOUT_S = 300.0
GRACE_S = 2.0
KILL_S = 4.0
TAIL_BYTES = 4096


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
    """One worker process in a session of its own: `python -m MODULE FD WORDS...` on the other end of a channel.

    Raises DiscoveryError when it cannot load what it works on, IncomparableError when that is not this suite's fault.
    """

    def __init__(
        self, module: str, words: Sequence[str], variables: Mapping[str, str], start_s: float = START_TIMEOUT_S
    ) -> None:
        mine, theirs = socket.socketpair()
        self.channel = Channel(mine)
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
        try:
            first = self.channel.receive(start_s)
        except Disconnected:
            first, how = None, self.how_it_ended()
        if first is None:
            self.kill()
            raise DiscoveryError(f"a worker did not start ({how}): {self.tail() or 'it printed nothing'}")
        if first["event"] == "failed":
            self.kill()
            raise (DiscoveryError if first["kind"] == "usage" else IncomparableError)(first["error"])

    def ask(self, timeout_s: float = START_TIMEOUT_S, **request: Any) -> dict[str, Any]:
        """A request whose answer is one message.

        Raises Disconnected when none comes in time or the worker dies, UsageError when it tells what the user can mend.
        """
        self.channel.send(request)
        answer = self.channel.receive(timeout_s)
        if answer is None:
            raise Silent(f"no answer to '{request['do']}' in {timeout_s:.0f} s")
        if answer.get("event") == "failed":
            raise UsageError(answer["error"])
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
        """End its whole process group at once: it holds nothing that is not stored.

        A process that a driver holds in the kernel cannot be ended; after KILL_S it is left behind, and named.
        """
        self.end()
        try:
            self._process.wait(KILL_S)
        except subprocess.TimeoutExpired:
            print(
                f"process {self._process.pid} does not die: a driver holds it; its device may stay busy",
                file=sys.stderr,
            )
        self.channel.close()
        self._tail.join(GRACE_S)

    def end(self) -> None:
        """Send its process group the signal and do not wait: the channel tells whoever is reading."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


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
        return self._kept.decode(errors="replace").strip()
