"""What compiling and tuning did: Triton's real compiler and autotuner, on kernels that are not run."""

from pathlib import Path

import pytest
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.autotuner import Autotuner, Config

from suite.hardware.assemblers import assemblers
from suite.measuring.compiling import Watch


@triton.jit
def add_one_kernel(x, N: tl.constexpr):
    tl.store(x + tl.arange(0, N), tl.load(x + tl.arange(0, N)) + 1)


def compile_for(n: int) -> None:
    source = ASTSource(add_one_kernel, {"x": "*fp32", "N": "constexpr"}, {(1,): n})
    triton.compile(source, target=GPUTarget("cuda", 90, 32))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def test_cold_and_warm_and_mixed() -> None:
    with Watch() as cold:
        compile_for(16)
    found = cold.columns()
    assert (found["compile.cache"], found["compile.kernels"], found["compile.loaded"]) == ("cold", 1, 0)
    assert 0 < found["compile.seconds"] < 60
    assert found["compile.ptxas"] == assemblers()["ptxas"].version
    with Watch() as warm:
        compile_for(16)
    found = warm.columns()
    assert (found["compile.cache"], found["compile.kernels"], found["compile.loaded"]) == ("warm", 0, 1)
    assert found["compile.seconds"] == 0
    assert found["compile.ptxas"] == assemblers()["ptxas"].version
    assert 0 < found["compile.load_s"] < 60
    mixed = Watch()
    for n in (16, 32):
        with mixed:
            compile_for(n)
    assert mixed.columns()["compile.cache"] == "mixed"


def test_what_happens_outside_is_not_noted() -> None:
    before, run = triton.knobs.compilation.listener, Autotuner.run
    with Watch() as watch:
        pass
    compile_for(16)
    assert watch.columns() == {}
    assert triton.knobs.compilation.listener is before
    assert Autotuner.run is run


def test_a_listener_that_was_there_goes_on_listening(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = []
    monkeypatch.setattr(triton.knobs.compilation, "listener", lambda **told: heard.append(told["cache_hit"]))
    with Watch() as watch:
        compile_for(16)
    compile_for(16)
    assert watch.compiled == 1
    assert heard == [False, True]


class Kernel:
    """Stands for a jitted function: is asked to run, and does nothing."""

    arg_names = ("x", "T")

    def __init__(self) -> None:
        def scan_kernel(x, T):
            raise AssertionError("never called")

        self.fn = scan_kernel

    def run(self, *args, **kwargs) -> None:
        pass


def autotuner(times: dict[int, float]) -> Autotuner:
    """A real autotuner on configurations whose times are given by their width."""
    made = Autotuner(
        Kernel(), Kernel.arg_names, [Config({"W": w}, num_warps=w // 16) for w in times], ["T"], None, None
    )
    made._bench = lambda *args, config, **meta: [times[config.kwargs["W"]]] * 3
    return made


def test_what_an_autotuner_chose() -> None:
    tuner = autotuner({16: 3.0, 32: 2.0, 64: 2.5, 128: float("inf")})
    with Watch() as watch:
        tuner.run("x", 100)
    found = watch.columns()
    chosen = found["tuning.kernels"]["scan_kernel"]
    assert chosen["configuration"] == {"W": 32, "num_warps": 2, "num_ctas": 1, "num_stages": 3}
    assert chosen["candidates"] == 4
    assert found["tuning.runner_up"] == chosen["runner_up"] == pytest.approx(1.25)
    assert found["tuning.seconds"] == chosen["seconds"] == tuner.bench_time


def test_a_choice_that_was_made_before_costs_nothing_now() -> None:
    tuner = autotuner({16: 3.0, 32: 2.0})
    tuner.run("x", 100)
    with Watch() as watch:
        tuner.run("x", 100)
    found = watch.columns()
    assert found["tuning.kernels"]["scan_kernel"]["configuration"]["W"] == 32
    assert found["tuning.seconds"] == 0
    assert found["tuning.runner_up"] is None


def test_the_last_tuning_of_a_kernel_stays_when_it_is_used_again() -> None:
    tuner = autotuner({16: 3.0, 32: 2.0})
    watch = Watch()
    with watch:
        tuner.run("x", 100)
        tuner.run("x", 100)
    with watch:
        tuner.run("x", 100)
    assert watch.columns()["tuning.runner_up"] == pytest.approx(1.5)


def test_one_configuration_is_a_choice_without_a_runner_up() -> None:
    with Watch() as watch:
        autotuner({16: 3.0}).run("x", 100)
    chosen = watch.columns()["tuning.kernels"]["scan_kernel"]
    assert (chosen["candidates"], chosen["runner_up"], chosen["seconds"]) == (1, None, 0.0)
