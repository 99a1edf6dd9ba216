import subprocess
import sys

import pytest

from suite.cli import main
from tests.suite.reporting.synthetic import record, stored


@pytest.fixture
def run(tmp_path):
    return stored([record("op", "x", T, time_ms=1.0) for T in (128, 256)], tmp_path / "tonight")


def test_it_writes_beside_other_local_reports_and_prints_every_path(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(run)]) == 0
    paths = capsys.readouterr().out.split()
    assert paths[0] == "reports/local/tonight/index.html"
    assert len(paths) == 5
    assert all((tmp_path / path).is_file() for path in paths)


def test_out_format_title_and_baseline_are_obeyed(run, tmp_path, capsys):
    flags = ["--out", str(tmp_path / "out"), "--format", "html", "--title", "My title", "--baseline", "op/x"]
    assert main(["report", str(run), *flags]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "out" / "index.html")]
    assert "<h1>My title</h1>" in (tmp_path / "out" / "index.html").read_text()


def test_doubts_go_to_stderr(tmp_path, capsys):
    run = stored([record("op", "x", 128)], tmp_path / "run", commit="0123456789ab-dirty")
    assert main(["report", str(run), "--out", str(tmp_path / "out"), "--format", "html"]) == 0
    assert "uncommitted changes" in capsys.readouterr().err


def test_a_report_that_fails_its_own_check_is_written_and_exits_1_with_one_line(tmp_path, capsys):
    run = stored([record("op", "x", T, roof_pct=250.0) for T in (128, 256)], tmp_path / "run")
    assert main(["report", str(run), "--out", str(tmp_path / "out"), "--format", "html"]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("subquad: ")]
    assert "fails its own check" in line
    assert "250 % of the roofline" in line
    assert line.endswith("(and 1 more)")
    assert (tmp_path / "out" / "index.html").is_file()


@pytest.mark.parametrize(("name", "start"), [("md", "## subquad: Example CPU"), ("latex", "% subquad: Example CPU")])
def test_tables_alone_go_to_stdout_and_with_out_to_a_file(run, tmp_path, monkeypatch, capsys, name, start):
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(run), "--format", name]) == 0
    text = capsys.readouterr().out
    assert text.startswith(start)
    assert not (tmp_path / "reports").exists()
    assert main(["report", str(run), "--format", name, "--out", "out"]) == 0
    assert (tmp_path / capsys.readouterr().out.strip()).read_text() == text


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["nowhere"], "no run at nowhere"),
        (["--format", "pfd"], "unknown format 'pfd'"),
        (["--gallery"], "remove the run folders"),
        (["--baseline", "op/z"], "op/z"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(run, tmp_path, capsys, flags, words):
    runs = flags if flags == ["nowhere"] else [str(run), *flags]
    assert main(["report", *runs, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_no_run_at_all_is_a_mistake_too(capsys):
    assert main(["report"]) == 2
    assert "name a run folder" in capsys.readouterr().err


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from suite.cli import main\n"
        "try: main(['report', '--help'])\n"
        "except SystemExit: pass\n"
        "print('HEAVY', [m for m in ('pandas', 'plotly', 'matplotlib', 'jinja2', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--baseline" in done.stdout
    assert "HEAVY []" in done.stdout
