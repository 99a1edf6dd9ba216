"""The pool: profiles or compiles many tasks in a few worker processes, each of one target, and survives a crash of one.

Example::

    profiles = take_profiles(tasks, jobs=2)       # in the order of the tasks
    compiled = compile_ahead(tasks, jobs=16)

What was answered before, and nothing has changed since, comes from the cache: then no worker is started.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.discovery import ROOT
from suite.errors import DiscoveryError, IncomparableError
from suite.running.budget import Budget
from suite.running.compiled import VARIABLE as CACHE_VARIABLE
from suite.running.messages import Disconnected
from suite.running.process import START_TIMEOUT_S, Silent, WorkerProcess
from suite.static import kept
from suite.static.forks import Forks, taken, telling
from suite.static.kept import Key, Keys
from suite.static.model import Issued, Profile
from suite.static.progress import Progress, Step, silent
from suite.static.stub_driver import target_of
from suite.static.tasks import Ahead, Task

if TYPE_CHECKING:
    from suite.static.compiling import Compiled

JOBS = 2
# The status of what the budget left no time for.
LEFT_OUT = "left_out"
# The longest that one profile or one count may take.
TASK_S = 600.0
OTHER_KERNELS = Issued("", reason="a problem small enough for the interpreter launches other kernels")
# What an item's worker is started for: the kind of work, the target as JSON, the checkout, and the Triton cache.
Place = tuple[str, str, str, str]
_DO = {"static": "profile", "issued": "issued", "ahead": "ahead"}
_OVER = {"lost": "the budget ended", "status": LEFT_OUT}


@dataclass
class Item:
    """One request to a worker: the static profile of a task, the count of its issued traffic at T tokens, its kernels.

    key:   that of its answer in the cache
    forks: source lines whose executions are counted with the issued traffic, as `telling` gives them
    """

    kind: str
    task: Task
    key: Key
    T: int = 0
    forks: Forks = field(default_factory=dict)
    answer: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """OPERATOR/IMPLEMENTATION of its task."""
        return f"{self.task.case.operator}/{self.task.case.implementation}"

    @property
    def place(self) -> Place:
        """Items of one place can be served by one process."""
        return self.kind, json.dumps(asdict(self.task.target)), self.task.root or str(ROOT), self.task.cache


@dataclass(frozen=True)
class _Terms:
    """How the items are served."""

    load: Sequence[str]
    jobs: int
    timeout_s: float
    refresh: bool
    budget: Budget


def take_profiles(
    tasks: Sequence[Task],
    *,
    load: Sequence[str] = (),
    jobs: int = JOBS,
    progress: Progress = silent,
    timeout_s: float = TASK_S,
    refresh: bool = False,
    budget: Budget | None = None,
) -> list[Profile | None]:
    """Profiles of the tasks, in their order; None where the task's checkout has no such implementation.

    jobs:      processes at a time
    timeout_s: the longest that one profile may take
    refresh:   whether all is taken again, whatever the cache has
    budget:    how long all may take; what it left no time for, and the cache has not, has the status LEFT_OUT
    Raises DiscoveryError, or IncomparableError for another checkout, when a worker cannot load the operators.
    """
    terms = _Terms(load, jobs, timeout_s, refresh, budget or Budget())
    keys = Keys(load, {task.root for task in tasks})
    static = [Item("static", task, keys.of("profiles", task)) for task in tasks]
    _answer(static, terms, progress, "compiling")
    profiles = [_profile(item) for item in static]
    wanted = [
        i for i, (task, p) in enumerate(zip(tasks, profiles, strict=True)) if task.issued and p and p.status == "ok"
    ]
    items = [_count(tasks[i], profiles[i], keys) for i in wanted]
    _answer([item for item in items if item.T], terms, progress, "counting loads and stores")
    for i, item in zip(wanted, items, strict=True):
        counted = _issued(item) if item.T else OTHER_KERNELS
        profiles[i] = taken(replace(profiles[i], issued=counted))  # type: ignore[type-var]
    return profiles


def _count(task: Task, profile: Profile | None, keys: Keys) -> Item:
    """What counts the issued traffic of a case, and which ways its kernels take."""
    assert profile is not None
    T, forks = profile.counted_T, telling(profile)
    return Item("issued", task, keys.of("issued", task, T, forks), T, forks)


def compile_ahead(
    tasks: Sequence[Ahead],
    *,
    load: Sequence[str] = (),
    jobs: int = JOBS,
    progress: Progress = silent,
    timeout_s: float = TASK_S,
    budget: Budget | None = None,
) -> list[Compiled]:
    """The kernels of the tasks, compiled into their caches, in the order of the tasks.

    A case whose kernels are all in its cache still, with nothing changed since, costs no worker. What the budget left
    no time for has the status LEFT_OUT. Parameters and errors are those of `take_profiles`.
    """
    from suite.static.compiling import Compiled

    terms, keys = _Terms(load, jobs, timeout_s, False, budget or Budget()), Keys(load)
    items = [Item("ahead", task, keys.of("ahead", task)) for task in tasks]
    _answer(items, terms, progress, "compiling ahead")
    return [
        Compiled.from_dict(answer["ahead"])
        if "ahead" in (answer := item.answer or {})
        else Compiled(status=answer.get("status", "unsupported"), reason=answer.get("lost", "it is not registered"))
        for item in items
    ]


def names(root: str, arch: str, load: Sequence[str] = ()) -> list[str]:
    """OPERATOR/IMPLEMENTATION of everything that a checkout registers; "" is this one."""
    root = root or str(ROOT)
    key = Keys(load, {root}).of_names(root)
    if found := kept.recall(key):
        return found["names"]
    worker = _Worker(("static", json.dumps(asdict(target_of(arch))), root, ""), load)
    try:
        answer = worker.ask({"do": "names"}, TASK_S)
    finally:
        worker.close()
    kept.keep(key, answer)
    return answer["names"]


def _answer(items: list[Item], terms: _Terms, progress: Progress, work: str) -> None:
    """Fill in the answers: from the cache, and the others by workers, which keep them."""
    for item in items if not terms.refresh else ():
        item.answer = _still_there(kept.recall(item.key))
    missing = [item for item in items if item.answer is None]
    if not missing:
        return
    with progress(work, len(missing)) as step:
        _serve_all(missing, terms, step)
    kept.prune(missing[0].key.kind)


def _still_there(answer: dict[str, Any] | None) -> dict[str, Any] | None:
    """An answer that was kept; None where it tells of kernels that are no longer in the cache."""
    kernels = answer["ahead"]["kernels"] if answer and "ahead" in answer else ()
    for kernel in kernels:
        if kernel["path"] and not Path(kernel["path"]).is_file():
            return None
        kernel["seconds"] = 0.0
    return answer


def _serve_all(items: list[Item], terms: _Terms, step: Step) -> None:
    queue = _Queue(items)
    with ThreadPoolExecutor(terms.jobs) as threads:
        slots = [threads.submit(_serve, queue, terms, step) for _ in range(min(terms.jobs, len(items)))]
        try:
            for slot in slots:
                slot.result()
        except BaseException:
            # Ctrl-C comes to this thread alone.
            queue.stop()
            raise


def _serve(queue: _Queue, terms: _Terms, step: Step) -> None:
    """One slot: a worker of one place at a time, replaced when the place changes or it dies."""
    worker: _Worker | None = None
    item: Item | None = None
    try:
        while (item := queue.take(item)) is not None:
            if terms.budget.over:
                item.answer = _OVER
                continue
            request = {"do": _DO[item.kind], "T": item.T, "forks": item.forks, **item.task.to_dict()}
            try:
                if worker is None or worker.place != item.place:
                    if worker:
                        worker.close()
                    worker = None
                    worker = _Worker(item.place, terms.load, terms.budget.within(START_TIMEOUT_S))
                    queue.watch(worker)
                item.answer = worker.ask(request, terms.budget.within(terms.timeout_s))
            except (Disconnected, DiscoveryError, IncomparableError) as error:
                if terms.budget.over:
                    item.answer = _OVER
                elif worker is None or not isinstance(error, Disconnected):
                    raise
                else:
                    item.answer = {"lost": str(error), "status": worker.lost_status}
                if worker:
                    worker.close()
                worker = None
            kept.keep(item.key, item.answer)
            queue.finish(item, step)
    except BaseException:
        queue.empty()
        raise
    finally:
        if worker:
            worker.close()


class _Queue:
    """Items that are still to be served, shared by the slots."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._left = list(items)
        self._served: Counter[str] = Counter()
        self._workers: list[_Worker] = []
        self._stopped = False
        self._lock = threading.Lock()

    def take(self, last: Item | None) -> Item | None:
        """The next item after `last`, or None.

        One of the same place comes first, as starting a worker takes seconds; among those one of the same
        implementation, as its kernels are compiled by now; then one of an implementation that no other slot is at.
        """
        with self._lock:
            if last:
                self._served[last.name] -= 1

            def cost(item: Item) -> tuple[bool, bool, bool]:
                same = last is not None and item.name == last.name
                return last is not None and item.place != last.place, not same, self._served[item.name] > 0

            if not self._left:
                return None
            taken = self._left.pop(min(range(len(self._left)), key=lambda i: cost(self._left[i])))
            self._served[taken.name] += 1
            return taken

    def finish(self, item: Item, step: Step) -> None:
        with self._lock:
            step(f"{item.task.case.case_id} {item.task.arch}")

    def empty(self) -> None:
        with self._lock:
            self._left.clear()

    def watch(self, worker: _Worker) -> None:
        """End a worker when the work is stopped."""
        with self._lock:
            self._workers.append(worker)
        if self._stopped:
            worker.end()

    def stop(self) -> None:
        """Take no more items, and end the workers, each in the middle of what it does."""
        self.empty()
        self._stopped = True
        with self._lock:
            workers = list(self._workers)
        for worker in workers:
            worker.end()


class _Worker:
    """A worker process that serves the items of one place."""

    def __init__(self, place: Place, load: Sequence[str], start_s: float = START_TIMEOUT_S) -> None:
        self.place = place
        self.lost_status = "crashed"
        kind, target, root, cache = place
        variables = {"CUDA_VISIBLE_DEVICES": "", "TRITON_INTERPRET": "1" if kind == "issued" else "0"}
        if cache:
            variables[CACHE_VARIABLE] = cache
        try:
            self._process = WorkerProcess("suite.static.worker", [kind, target, root, *load], variables, start_s)
        except DiscoveryError as error:
            other = root != str(ROOT)
            raise (IncomparableError if other else DiscoveryError)(
                f"the kernels of {root if other else 'this checkout'} do not load: {error}"
            ) from error

    def ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Raises Disconnected when the worker dies, or says nothing for too long."""
        try:
            return self._process.ask(timeout_s, **request)
        except Silent as error:
            self.lost_status = "timeout"
            raise Disconnected(f"no profile after {timeout_s:.0f} s") from error
        except Disconnected as error:
            how = self._process.how_it_ended()
            raise Disconnected(f"the profiling process ended by {how}: {self._process.tail()}") from error

    def close(self) -> None:
        self._process.kill()

    def end(self) -> None:
        """End the process; whoever waits for its answer is told."""
        self._process.end()


def _profile(item: Item) -> Profile | None:
    answer = item.answer or {}
    if "profile" in answer:
        return Profile.from_dict(answer["profile"])
    if "lost" in answer:
        return Profile(item.task.case.case_id, item.task.arch, answer["status"], answer["lost"])
    return None


def _issued(item: Item) -> Issued:
    answer = item.answer or {}
    if "issued" in answer:
        return Issued.from_dict(answer["issued"])
    return Issued("", reason=answer.get("lost", "not counted"))
