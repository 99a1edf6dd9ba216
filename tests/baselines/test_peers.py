"""What all adapters to libraries share: sets of peers that install together, FLA held to its own kernels, refusals."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement as Line

from baselines import fla_core
from kernels.scalar_decay.linear_attention.spec import linear_attention
from suite import Requirement
from suite.discovery import discover
from tests.baselines.delta_rules import parameters

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
SETS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
PAGE = (ROOT / "docs" / "peers.md").read_text()


def requirements() -> dict[str, Requirement]:
    """Every requirement of a peer, by the place that registers it."""
    found = {}
    for operator in discover(ROOT).operators.values():
        for made in operator.implementations.values():
            if made.origin == "peer":
                assert made.requires is not None, made.place
                found[f"{operator.name}/{made.name}"] = made.requires
    return found


REQUIREMENTS = requirements()


@pytest.mark.parametrize("name", sorted(REQUIREMENTS))
def test_a_hint_names_a_set_of_pyproject_that_holds_the_library_in_the_same_versions(name: str) -> None:
    requires = REQUIREMENTS[name]
    assert requires.extra in SETS
    lines = {line.name: line for line in map(Line, SETS[requires.extra])}
    assert str(lines[requires.distribution].specifier) == str(Line(f"x{requires.versions}").specifier)
    remedy = requires.remedy()
    assert remedy.endswith(f" (set {requires.extra} of docs/peers.md)")
    assert f"{requires.distribution}{requires.versions}" in remedy


def test_the_page_names_every_set_of_peers_and_every_library_in_it() -> None:
    for name in sorted({requires.extra for requires in REQUIREMENTS.values()}):
        (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |")]
        for line in map(Line, SETS[name]):
            assert line.name in row, f"{name}: {line.name}"


def test_the_page_says_which_triton_each_library_needs() -> None:
    for requires in REQUIREMENTS.values():
        if requires.triton:
            assert re.search(rf"{requires.distribution}.*`{re.escape(requires.triton)}`", PAGE)


@pytest.mark.parametrize(
    ("triton", "served"),
    [
        ("3.6.0", True),
        ("3.8.0", True),
        ("3.8.1+git12", True),
        ("3.9.0", False),
        ("3.10.0", False),
        (None, True),
    ],
)
def test_a_library_that_another_triton_compiles_is_refused_before_the_call(
    triton: str | None, served: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {"triton": triton, "mlstm_kernels": "2.0.6"}
    monkeypatch.setattr("suite.requirement.installed", lambda name: versions.get(name))
    monkeypatch.setattr("suite.requirement._importable", lambda module: True)
    reason = REQUIREMENTS["mlstm/tfla_chunk"].missing()
    assert reason is None if served else str(reason).startswith(f"mlstm_kernels needs triton<3.9, here it is {triton}:")


# What is passed to code that no test runs, as it was read: (distribution, version, file, function, parameters).
SIGNATURES = [
    (
        "mamba-ssm",
        "2.3.2.post1",
        "mamba_ssm/ops/selective_scan_interface.py",
        "selective_scan_fn",
        "u delta A B C D z delta_bias delta_softplus",
    ),
    (
        "flash-attn-4",
        "4.0.0b36",
        "flash_attn/cute/interface.py",
        "flash_attn_func",
        "q k v softmax_scale causal window_size",
    ),
    (
        "flash-attn",
        "2.8.3.post2",
        "flash_attn/flash_attn_interface.py",
        "flash_attn_varlen_func",
        "q k v cu_seqlens_q cu_seqlens_k max_seqlen_q max_seqlen_k softmax_scale causal window_size",
    ),
    (
        "flash-attn",
        "2.8.3.post2",
        "flash_attn/flash_attn_interface.py",
        "flash_attn_with_kvcache",
        "q k_cache v_cache cache_seqlens block_table softmax_scale causal",
    ),
    (
        "flashinfer-python",
        "0.7.4",
        "flashinfer/gdn_prefill.py",
        "chunk_gated_delta_rule",
        "q k v g beta scale initial_state output_final_state cu_seqlens use_qk_l2norm_in_kernel output_state",
    ),
    (
        "flash-qla",
        "0.1.3",
        "flash_qla/ops/gated_delta_rule/chunk/__init__.py",
        "chunk_gated_delta_rule",
        "q k v g beta scale initial_state output_final_state use_qk_l2norm_in_kernel cu_seqlens",
    ),
]


@pytest.mark.parametrize(("distribution", "version", "file", "entry", "names"), SIGNATURES)
def test_an_installed_library_takes_what_its_adapter_passes(
    distribution: str, version: str, file: str, entry: str, names: str
) -> None:
    found = parameters(distribution, file, entry)
    assert [name for name in found if name in names.split()] == names.split(), f"{distribution} {version} had these"


@pytest.fixture
def installed_fla() -> None:
    if Requirement("fla.backends", "fla-core", ">=0.6,<0.7").missing():
        pytest.skip("fla-core is not installed")


def answer(code: str, **environment: str) -> str:
    """What a fresh process prints, with no setting of FLA's but the given."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FLA_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | environment, cwd=ROOT, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.usefixtures("installed_fla")
def test_fla_is_held_to_its_own_kernels_and_says_so() -> None:
    code = """
from baselines.scalar_decay.linear_attention.flash_linear_attention import FLA
import fla.ops.common.chunk_h as module
dispatched = module.chunk_fwd_h.__code__.co_filename != module.__file__
print(FLA.missing(), FLA.backend(), "dispatched" if dispatched else "its own", sep=" | ")
"""
    assert answer(code) == "None | fla triton | its own"


@pytest.mark.usefixtures("installed_fla")
def test_a_fla_that_was_imported_before_its_adapters_is_refused_and_tells_which_backend_answered() -> None:
    code = """
import fla.backends as dispatcher
from baselines.fla_core import backend, conflict
print(conflict(), backend(), sep=" | ")

@dispatcher.dispatch
def double(x):
    return x + x

class Other(dispatcher.BaseBackend):
    backend_type = "other"

@dispatcher.register(double, backend=Other, verifier=lambda x: (x > 1, "only above 1"))
def other_double(x):
    return 2 * x

for x in (1, 2):
    double(x)
    print(backend())
"""
    first, *rest = answer(code).split("\n")
    assert first.startswith("fla was imported before FLA_DISABLE_BACKEND_DISPATCH=1 was set, ")
    assert first.endswith(" | fla triton")
    assert rest == ["fla triton", "fla other"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("FLA_DISABLE_BACKEND_DISPATCH", "0", "FLA_DISABLE_BACKEND_DISPATCH=0 lets fla-core call other libraries"),
        ("FLA_TILELANG", "1", "FLA_TILELANG=1 asks fla-core for another library's kernels"),
        ("FLA_FLASH_QLA", "yes", "FLA_FLASH_QLA=yes asks"),
        ("FLA_FLASH_KDA", "", "FLA_FLASH_KDA= asks"),
        ("FLA_INTRACARD_CP", "1", "FLA_INTRACARD_CP=1 asks"),
        ("FLA_TILELANG", "0", None),
        ("FLA_DISABLE_BACKEND_DISPATCH", "1", None),
    ],
)
def test_a_setting_that_contradicts_is_named(
    name: str, value: str, words: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for known in (fla_core.SWITCH, *fla_core.ASKING):
        monkeypatch.delenv(known, raising=False)
    monkeypatch.setenv(fla_core.SWITCH, fla_core.OFF)
    monkeypatch.setenv(name, value)
    monkeypatch.delitem(sys.modules, "fla.backends", raising=False)
    reason = fla_core.conflict()
    assert reason is None if words is None else str(reason).startswith(words)
    assert reason is None or reason.endswith("unset it")


def test_every_adapter_to_fla_is_held_to_its_own_kernels() -> None:
    held = {name for name, requires in REQUIREMENTS.items() if requires.distribution == "fla-core"}
    assert len(held) > 30
    for name in held:
        assert REQUIREMENTS[name].conflict is fla_core.conflict
        assert REQUIREMENTS[name].backend is fla_core.backend
    assert linear_attention.implementations["fla_chunk"].requires is not None
