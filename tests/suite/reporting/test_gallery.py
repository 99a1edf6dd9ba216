import pytest

from suite.cli import main
from suite.errors import UsageError
from suite.reporting.gallery import rebuild
from tests.suite.reporting.synthetic import record, stored


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Pictures are tested by themselves."""
    monkeypatch.setattr(
        "suite.reporting.renderers.picture.draw", lambda chart, path, footer: path.write_text(chart.slug)
    )


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with two kept runs of one machine and a local one."""
    lengths = (128, 256)
    for name, passes in (("first", ["fwd"]), ("second", ["fwd", "decode"])):
        rows = [record("linear_attention", "x", T, **{"pass": each}) for T in lengths for each in passes]
        rows += [record("softmax_attention", "y", T, **{"pass": each}) for T in lengths for each in passes]
        stored(rows, tmp_path / "results" / "cpu_one" / name)
    stored([record("a", "x", 128)], tmp_path / "results" / "local" / "tonight")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_kept_run_has_its_pictures_and_a_part_of_the_page(root):
    done = rebuild("results", "reports")
    folders = {path.parent.as_posix() for path in done.pictures}
    assert folders == {"reports/cpu_one/first", "reports/cpu_one/second"}
    assert all(path.is_file() for path in done.pictures)
    names = {path.name for path in done.pictures if path.parent.name == "second"}
    assert {"time_fwd_fp32_K64_B1-H4_warm-cpu.png", "gbs_decode_fp32_K64_B1-H4_warm-cpu.png"} <= names
    text = done.readme.read_text()
    assert "## cpu_one/first" in text
    assert "- At T = 256, K = V = 64" in text
    shown = [line.partition("](")[2].rstrip(")") for line in text.splitlines() if line.startswith("![")]
    assert {f"reports/{name}" for name in shown} == {path.as_posix() for path in done.pictures}
    assert "local" not in text.replace("`local/`", "").replace("local runs", "")


def test_it_is_the_same_each_time_and_what_no_run_has_any_more_goes(root):
    first = rebuild("results", "reports")
    before = {path: path.read_bytes() for path in (*first.pictures, first.readme)}
    own = root / "reports" / "mine" / "time.png"
    own.parent.mkdir(parents=True)
    own.touch()
    rebuild("results", "reports")
    assert {path: path.read_bytes() for path in before} == before
    gone = root / "results" / "cpu_one" / "second"
    gone.rename(root / "second")
    left = rebuild("results", "reports").pictures
    assert {path for path in before if path.suffix == ".png" and path.exists()} == set(left)
    assert own.exists()


def test_a_picture_that_the_readme_shows_and_no_run_has_is_named_and_exits_1(root, capsys):
    there = "reports/cpu_one/first/time_fwd_fp32_K64_B1-H4_warm-cpu.png"
    (root / "README.md").write_text(f"![a]({there})\n![b](reports/cpu_one/gone.png)\n![c](elsewhere/x.png)\n")
    assert main(["report", "--gallery"]) == 1
    said = capsys.readouterr()
    assert [line for line in said.err.splitlines() if line.startswith("subquad:")] == [
        "subquad: README.md shows reports/cpu_one/gone.png, which no run in results/ has; show another picture"
    ]
    assert there in said.out


def test_without_a_kept_run_it_is_one_line(tmp_path):
    with pytest.raises(UsageError, match="no run lies below"):
        rebuild(tmp_path, tmp_path)
