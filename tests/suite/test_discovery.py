"""Registering and finding operators."""

import importlib
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from suite import Axis, Cost, Operator, Problem, Requirement
from suite.discovery import FORMER, ROOT, discover
from suite.errors import DiscoveryError, UsageError
from suite.registry import Registry
from tests.suite.plugins import BROKEN, RUNNING_MEAN, write


def operator(name: Any = "toy", **more) -> Operator:
    nothing = dict.fromkeys(("inputs", "oracle"), lambda *_: {})
    return Operator(name, "o = v", "none", cost=lambda p, t: Cost(1, 1, 1), **nothing, **more)  # type: ignore[arg-type]


def test_own_packages_are_found() -> None:
    registry = discover()
    assert {"softmax_attention", "linear_attention"} <= set(registry.operators)
    assert {"naive", "torch_chunk", "triton_chunk"} <= set(registry.operator("linear_attention").implementations)


def test_duplicate_implementation_names_both_places() -> None:
    op = operator()
    op.implementation("a", origin="ours")(lambda q, k, v: (v, None))
    with pytest.raises(
        DiscoveryError, match=r"toy/a is registered twice.*test_discovery.py:\d+.*test_discovery.py:\d+"
    ):
        op.implementation("a", origin="ours")(lambda q, k, v: (v, None))


def test_duplicate_operator_names_both_places() -> None:
    registry = Registry()
    first, second = operator(), operator()
    registry.add(first)
    registry.add(first)
    with pytest.raises(
        DiscoveryError, match=r"'toy' is registered twice.*test_discovery.py:\d+.*test_discovery.py:\d+"
    ):
        registry.add(second)


@pytest.mark.parametrize("name", ["", "a/b", "a-b", "a b", "1a", 7, None, "a" * 65, "a" * 10_000])
def test_a_name_that_can_stand_in_no_case_id_is_refused(name: Any) -> None:
    words = r"not an identifier; use snake_case|letters; use at most 64"
    with pytest.raises(DiscoveryError, match=words) as told:
        operator().implementation(name, origin="ours")(lambda q, k, v: (v, None))
    assert re.search(r"toy's implementation name '.*' \(.*test_discovery.py:\d+\)", str(told.value))
    with pytest.raises(DiscoveryError, match=words) as told:
        operator(name)
    assert len(str(told.value)) < 400


# What a plug-in registers wrongly, and the words of the refusal, which names operator, file and line.
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "one device as text": ({"devices": "cpu"}, "devices is the text 'cpu'; write ('cpu',)"),
    "one pass as text": ({"passes": "fwd"}, "passes is the text 'fwd'; write ('fwd',)"),
    "one dtype as text": ({"dtypes": "float32"}, "dtypes is the text 'float32'; write ('float32',)"),
    "a short dtype": ({"dtypes": ("fp32",)}, "dtype 'fp32' is none of bfloat16, float16, float32, float64"),
    "one value": ({"tunables": {"chunk": 64}}, "tunable 'chunk' has 64; write a tuple of values, the default first"),
    "a text of values": ({"tunables": {"form": "ab"}}, "tunable 'form' has 'ab'; write a tuple of values"),
    "no value": ({"tunables": {"chunk": ()}}, "tunable 'chunk' has (); write a tuple of values"),
    "lists": ({"tunables": {"chunk": ([1], [2])}}, "tunable 'chunk' has the value [1]; use finite numbers and text"),
    "huge": ({"tunables": {"x": (10**30,)}}, f"tunable 'x' has the value {10**30}; use finite numbers and text"),
    "half a pair": (
        {"tunables": {"x": ("\ud800",)}},
        "tunable 'x' has the value '\\ud800'; use finite numbers and text",
    ),
    "NaN": ({"tunables": {"x": (1.0, float("nan"))}}, "tunable 'x' has the value nan; use finite numbers and text"),
    "a standard axis": ({"tunables": {"T": (1,)}}, "tunable 'T' is a standard axis; choose another name"),
    "a name with a blank": ({"tunables": {"a b": (1,)}}, "tunable 'a b' is not an identifier; use snake_case"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_an_implementation_registers_wrongly_is_refused(what: str) -> None:
    words, said = WRONG[what]
    with pytest.raises(DiscoveryError, match=re.escape(said)) as told:
        operator().implementation("a", origin="ours", **words)(lambda q, k, v: (v, None))
    assert re.match(r"toy/a \(.*test_discovery.py:\d+\): ", str(told.value))


@pytest.mark.parametrize("fn", [3, None, torch.cumsum])
def test_what_can_not_be_called_by_keywords_is_no_implementation(fn: Any) -> None:
    with pytest.raises(DiscoveryError, match=r"^toy/a \(.*test_discovery.py:\d+\): .*register a function of Python"):
        operator().implementation("a", origin="ours")(fn)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"passes": ()}, "it has no passes; name at least one of fwd, bwd"),
        ({"passes": "fwd"}, "passes is the text 'fwd'; write ('fwd',)"),
        ({"axes": (Axis("w", ()),)}, "axis 'w' has (); write a tuple of values"),
        ({"axes": (Axis("w", 3),)}, "axis 'w' has 3; write a tuple of values"),  # type: ignore[arg-type]
        ({"axes": (Axis("T", (1,)),)}, "axis 'T' is a standard axis"),
        ({"axes": (Axis("w x", (1,)),)}, "axis 'w x' is not an identifier"),
    ],
)
def test_what_an_operator_registers_wrongly_is_refused(words: dict[str, Any], said: str) -> None:
    with pytest.raises(DiscoveryError, match=re.escape(said)) as told:
        operator(**words)
    assert re.match(r"toy \(.*test_discovery.py:\d+\): ", str(told.value))


def test_unknown_names_give_the_nearest() -> None:
    registry = discover()
    with pytest.raises(UsageError, match="did you mean 'linear_attention'"):
        registry.operator("linear_atention")
    with pytest.raises(UsageError, match="did you mean 'naive'"):
        registry.implementation("linear_attention", "naiv")


def test_plugin(tmp_path: Path) -> None:
    lines = [line for line in RUNNING_MEAN.splitlines() if line.strip()]
    assert len(lines) < 15
    registry = discover(load=[write(tmp_path, RUNNING_MEAN, "mean_plugin.py")])
    assert set(registry.operator("running_mean").implementations) == {"torch"}


@pytest.mark.parametrize(
    ("text", "words"), [(BROKEN, "raises on import: RuntimeError: half a plug-in"), (None, "no such file")]
)
def test_plugin_that_fails(tmp_path: Path, text: str | None, words: str) -> None:
    path = write(tmp_path, text, "broken_plugin.py") if text else tmp_path / "absent.py"
    with pytest.raises(DiscoveryError, match=words):
        discover(load=[path])


def test_a_folder_is_no_plugin(tmp_path: Path) -> None:
    with pytest.raises(DiscoveryError, match="is a folder; name a Python file"):
        discover(load=[tmp_path])


ENDS = {
    "sys.exit(0)": "ends Python on import: exit code 0, {place}",
    "sys.exit()": "ends Python on import: exit code None, {place}",
    "raise SystemExit": "ends Python on import: exit code None, {place}",
    "os._exit(0)": "ends Python on import: exit code 0, {place}",
    "raise BaseException('odd')": "raises on import: BaseException: odd ({place})",
    "raise GeneratorExit": "raises on import: GeneratorExit:  ({place})",
    "1 / 0": "raises on import: ZeroDivisionError: division by zero ({place})",
    "from os import nothing": "raises on import: ImportError",
}


@pytest.mark.parametrize(
    ("where", "ending"),
    [("load", each) for each in ENDS] + [(each, end) for each in ("module", "entry point") for end in list(ENDS)[:5:4]],
)
def test_code_that_ends_python_on_import_is_named(tmp_path: Path, where: str, ending: str) -> None:
    text = f"import os, sys\n{ending}\n"
    for name in ("kernels", "baselines"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    folder, load = {"load": (tmp_path, "load=['{0}']"), "module": (tmp_path / "baselines", "")}.get(
        where, (tmp_path, "")
    )
    path = write(folder, text, "ending.py")
    if where == "entry point":
        info = tmp_path / "end_dist-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: end-dist\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[subquad.operators]\nend = ending\n")
    code = (
        "import pathlib\nfrom suite.discovery import discover\nfrom suite.errors import DiscoveryError\n"
        f"try:\n    discover(pathlib.Path({str(tmp_path)!r}), {load.format(path)})\n"
        "except DiscoveryError as error:\n    print('told:', error)\n    raise SystemExit(2)"
    )
    done = run_python(code, f"{tmp_path}:{ROOT}")
    assert done.returncode == 2, done.stderr
    assert {"load": f"--load {path}", "module": "module baselines.ending", "entry point": "entry point end"}[
        where
    ] in done.stdout
    assert ENDS[ending].format(place=f"{path}:2") in done.stdout


def test_an_import_that_is_interrupted_is_named_and_a_child_may_leave(tmp_path: Path) -> None:
    text = (
        "import os\nfrom os import _exit\npid = os.fork()\nif pid == 0:\n    os._exit(7)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7\n"
    )
    discover(load=[write(tmp_path, text, "forking_plugin.py")])
    path = write(tmp_path, "raise KeyboardInterrupt", "interrupted_plugin.py")
    with pytest.raises(KeyboardInterrupt, match=f"while --load {path} was imported"):
        discover(load=[path])


def test_entry_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, RUNNING_MEAN.replace("running_mean", "entry_mean"), "entry_module.py")
    info = tmp_path / "some_dist-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-dist\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[subquad.operators]\nmine = entry_module\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "entry_mean" in discover().operators


def test_entry_point_that_raises_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "bad_dist-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad-dist\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[subquad.operators]\nbad = absent_module_xyz\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DiscoveryError, match="entry point bad = absent_module_xyz raises"):
        discover()


def run_python(code: str, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": path, "HOME": "/tmp"}, cwd="/"
    )


def test_another_package_that_shadows_kernels(tmp_path: Path) -> None:
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text("__version__ = '0.4.1'")
    code = "import kernels\nfrom suite.cli import main\nraise SystemExit(main(['list']))"
    done = run_python(code, f"{tmp_path}:{ROOT}")
    assert done.returncode == 2
    assert "another package shadows it" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_another_root(tmp_path: Path) -> None:
    for name in ("kernels", "baselines"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    write(tmp_path / "kernels", RUNNING_MEAN.replace("running_mean", "other_mean"), "other.py")
    code = f"import pathlib, suite.discovery as d; print(*d.discover(pathlib.Path({str(tmp_path)!r})).operators)"
    done = run_python(code, str(ROOT))
    assert done.stdout.strip() == "other_mean", done.stderr


def test_module_that_needs_something_absent_is_listed(tmp_path: Path) -> None:
    for name in ("kernels", "baselines"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    write(tmp_path / "baselines", "import a_library_nobody_has", "needy.py")
    code = f"import pathlib, suite.discovery as d; print(*d.discover(pathlib.Path({str(tmp_path)!r})).absent)"
    done = run_python(code, str(ROOT))
    assert "baselines.needy" in done.stdout
    assert "a_library_nobody_has is not installed" in done.stdout


def test_requirement() -> None:
    assert Requirement("torch", "torch").missing() is None
    assert Requirement("torch", "torch", ">=99").missing() == (
        f"torch {importlib.metadata.version('torch')} is not >=99: pip install 'torch>=99'"
    )
    assert Requirement("nobody_has", "nobody-has", ">=1").missing() == (
        "nobody-has is not installed: pip install 'nobody-has>=1'"
    )
    assert Requirement("torch.nobody_has", "torch", install="make it").missing() == "torch is not installed: make it"


def test_signature_decides_what_is_supported() -> None:
    from suite import Axis

    op = operator(axes=(Axis("causal", (True, False)),))
    op.implementation("plain", origin="ours")(lambda q, k, v: (v, None))
    plain = op.implementations["plain"]
    for change, words in (
        ({"initial_state": True}, "takes no initial_state"),
        ({"layout": "packed:halves"}, "takes no cu_seqlens"),
        ({"pass_": "decode"}, "has no decode pass"),
        ({"axes": (("causal", False),)}, "serves only causal, not no-causal"),
        ({"dtype": "float64"}, "does not take float64"),
    ):
        reason = plain.unsupported(op.complete(Problem(**change)), {}, op.axes)
        assert reason is not None
        assert words in reason
    assert plain.unsupported(op.complete(Problem()), {}, op.axes) is None


def test_unknown_own_axis_or_value() -> None:
    from suite import Axis

    op = operator(axes=(Axis("causal", (True, False)),))
    with pytest.raises(UsageError, match="did you mean 'causal'"):
        op.complete(Problem(), {"casual": True})
    with pytest.raises(UsageError, match="no causal = 3; it takes True, False"):
        op.complete(Problem(), {"causal": 3})


def test_kernels_of_an_older_revision_find_what_was_renamed_in_suite(tmp_path: Path) -> None:
    """An older revision is a base of gates: it imports by the former names, which this checkout's own code cannot."""
    for name in ("kernels", "baselines"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    # What the kernels of 1612383 import and today's suite calls otherwise.
    (tmp_path / "kernels" / "plan.py").write_text("from suite.tuning import Launch\n")
    code = "import sys\nfrom suite.discovery import discover\nfrom pathlib import Path\ndiscover(Path(sys.argv[1]))\n"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True)
    for module, former in FORMER.items():
        assert not set(former) & set(vars(importlib.import_module(module)))
