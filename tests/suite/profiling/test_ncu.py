"""Running ncu, played by recordings: what it is asked, and one clear line for each way that it refuses."""

import json
from pathlib import Path

import pytest

from suite.errors import Exit, SubquadError, UsageError
from suite.problem import Case, Problem
from suite.profiling import Options, ncu
from suite.profiling.running import FailedCase, profile
from tests.suite.profiling.recordings import fake_ncu, on_path

TARGET = ["python", "-m", "suite.profiling.target", "somewhere"]


def asked(folder: Path) -> list[list[str]]:
    """The words of each call of the fake."""
    return [json.loads(line) for line in (folder / "asked.jsonl").read_text().splitlines()]


def runs(folder: Path) -> list[list[str]]:
    return [words for words in asked(folder) if "--export" in words]


def test_a_call_is_counted(tmp_path: Path) -> None:
    found = ncu.count(str(fake_ncu(tmp_path)), TARGET, tmp_path, "application")
    assert found.counters["dram_bytes"] == 470_550_528
    assert found.missing == ()
    assert found.report == tmp_path / "counters.ncu-rep"
    (run,) = runs(tmp_path)
    assert run[-len(TARGET) :] == TARGET
    assert run[run.index("--profile-from-start") + 1] == "off"
    assert run[run.index("--replay-mode") + 1] == "application"
    assert run[run.index("--cache-control") + 1] == "none"
    assert "dram__bytes_read.sum" in run[run.index("--metrics") + 1].split(",")


def test_kernels_replayed_alone_start_with_empty_caches(tmp_path: Path) -> None:
    ncu.count(str(fake_ncu(tmp_path)), TARGET, tmp_path, "kernel")
    (run,) = runs(tmp_path)
    assert run[run.index("--cache-control") + 1] == "all"
    assert "--app-replay-mode" not in run


def test_a_metric_that_ncu_does_not_know_is_left_out_and_named(tmp_path: Path) -> None:
    made = fake_ncu(tmp_path, lacks="smsp__inst_executed_pipe_xu")
    found = ncu.count(str(made), TARGET, tmp_path, "application")
    assert found.missing == ("special: ncu does not know smsp__inst_executed_pipe_xu",)
    assert "special" not in found.counters
    assert "dram_bytes" in found.counters
    assert ["pipe_xu" in str(run) for run in runs(tmp_path)] == [True, False]


def test_a_metric_that_was_never_asked_for_does_not_repeat_forever(tmp_path: Path) -> None:
    with pytest.raises(SubquadError, match="was not asked for"):
        ncu.count(str(fake_ncu(tmp_path, lacks="dram__bytes_read")), TARGET, tmp_path, "application")


@pytest.mark.parametrize("where", ["query", "run"])
def test_refused_counters_say_which_permission_is_missing(tmp_path: Path, where: str) -> None:
    made = fake_ncu(tmp_path, **{where: "ncu_refused.txt"})
    with pytest.raises(UsageError) as error:
        ncu.count(str(made), TARGET, tmp_path, "application")
    said = str(error.value)
    assert "NVreg_RestrictProfilingToAdminUsers=0" in said
    assert "CAP_SYS_ADMIN" in said
    assert "\n" not in said
    assert error.value.exit_code == Exit.USAGE
    assert len(runs(tmp_path)) == (where == "run")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ({"run": "ncu_held.txt"}, "another program holds the GPU's performance counters, such as DCGM"),
        ({"run": "ncu_empty.txt"}, "launched no kernel on the GPU"),
        ({"raw": "ncu_empty.txt"}, "launched no kernel on the GPU"),
        ({"run": "ncu_version.txt"}, "ncu wrote no report: Version"),
    ],
)
def test_other_refusals(tmp_path: Path, script: dict, said: str) -> None:
    with pytest.raises(SubquadError, match=said):
        ncu.count(str(fake_ncu(tmp_path, **script)), TARGET, tmp_path, "application")


def test_where_ncu_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match="nsight-compute"):
        ncu.find(places=())
    old, new = (fake_ncu(tmp_path / "nsight" / version) for version in ("2024.1", "2025.3"))
    places = (f"{tmp_path}/nsight/*/ncu",)
    assert ncu.find(places) == str(new)
    new.chmod(0o644)
    assert ncu.find(places) == str(old)
    monkeypatch.setenv("PATH", on_path(tmp_path / "first"))
    first = fake_ncu(tmp_path / "first")
    assert ncu.find(places) == str(first)
    assert ncu.version(str(first)) == "2025.3.1.0"


def test_what_is_no_program_is_told(tmp_path: Path) -> None:
    path = tmp_path / "ncu"
    path.write_text("not a program")
    with pytest.raises(UsageError, match="cannot be run: Permission denied"):
        ncu.version(str(path))


CASE = Case("linear_attention", "triton_chunk", Problem(T=128), (("chunk", 64),))
ON_GPU = Options(tool="ncu", device="cuda")


def test_a_profile_by_ncu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_ncu(tmp_path / "bin", result={"status": "ok", "reason": "", "device": "NVIDIA H200"})
    monkeypatch.setenv("PATH", on_path(tmp_path / "bin"))
    found = profile(CASE, ON_GPU, tmp_path / "out")
    assert (found.tool, found.version, found.device, found.replay) == (
        "ncu",
        "2025.3.1.0",
        "NVIDIA H200",
        "application",
    )
    columns = found.columns(compulsory=235_275_264.0)
    assert columns["profile.dram_bytes"] == 470_550_528
    assert columns["profile.dram_ratio"] == 2.0
    assert columns["profile.launches"] == 3
    assert columns["profile.missing"] == []
    assert columns["profile.kernels"][0]["name"] == "linear_fwd_output_kernel"
    assert not [name for name in columns if "time" in name or name.endswith(("_ms", "_ns"))]
    request = json.loads((tmp_path / "out" / "request.json").read_text())
    assert (request["tool"], request["tunables"]) == ("ncu", {"chunk": 64})


def test_a_case_that_fails_under_ncu_says_its_own_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_ncu(tmp_path / "bin", run="ncu_empty.txt", result={"status": "oom", "reason": "no memory"})
    monkeypatch.setenv("PATH", on_path(tmp_path / "bin"))
    with pytest.raises(FailedCase, match="no memory") as error:
        profile(CASE, ON_GPU, tmp_path / "out")
    assert error.value.status == "oom"


def test_a_report_of_an_earlier_profile_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "counters.ncu-rep").write_text("an old report")
    fake_ncu(tmp_path / "bin", run="ncu_empty.txt")
    monkeypatch.setenv("PATH", on_path(tmp_path / "bin"))
    with pytest.raises(UsageError, match="launched no kernel"):
        profile(CASE, ON_GPU, out)
