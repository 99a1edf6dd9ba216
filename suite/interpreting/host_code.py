"""Host code around interpreted kernels: it is told of a GPU that is not there, and neither tunes nor compiles.

So kernels of other people, whose host code asks CUDA and tunes, run in Triton's interpreter as ours do.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock

from suite.static.stub_driver import answering
from suite.targets import Target


@contextmanager
def interpreted_on(target: Target) -> Iterator[Target]:
    """Answer for `target` wherever host code asks what the device is; autotuners take their first configuration."""
    from triton.runtime.autotuner import Autotuner

    # Equal times, as in the static profile. There is no compiled kernel whose choice a file could name.
    untimed = {"_bench": _no_time, "check_disk_cache": _not_from_disk}
    with answering(target), mock.patch.multiple(Autotuner, **untimed), _nothing_compiled():
        yield target


def _nothing_compiled() -> AbstractContextManager[Any]:
    """torch.compile returns functions as they are: it would generate code for the GPU that is not there."""
    if (dynamo := sys.modules.get("torch._dynamo")) is not None:
        return mock.patch.object(dynamo.config, "disable", True)
    # Read when torch._dynamo is imported, which takes seconds.
    return mock.patch.dict(os.environ, {"TORCH_COMPILE_DISABLE": "1"})


def _no_time(tuner: Any, *args: Any, **meta: Any) -> float:
    return 0.0


def _not_from_disk(tuner: Any, key: Any, configs: Any, bench: Callable[[], None]) -> bool:
    bench()
    return False
