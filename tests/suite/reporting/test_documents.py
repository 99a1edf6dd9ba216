import pytest

from suite.reporting.renderers.documents import escape, grid, latex, markdown
from suite.reporting.rendering import prepare
from tests.suite.reporting.synthetic import failed, prepared, record, run_of

HOSTILE = "<b>a|b</b>_$x$ [l](u)\n# \\x"


def times():
    rows = [record("linear_attention", "x", T, time_ms=T / 1000) for T in (512, 2048)]
    rows += [record("softmax_attention", "y", T, time_ms=(T / 1000) ** 2) for T in (512, 2048)]
    return [*rows, failed("softmax_attention", "y", 4096, "oom", "no"), record("linear_attention", "x", 4096)]


def test_the_grid_has_a_row_an_implementation_and_marks_the_least_of_each_length():
    (group,), _ = prepared(run_of(times()))
    found = grid(group)
    assert found.lengths == (512, 2048, 4096)
    assert found.names == ("linear_attention/x", "softmax_attention/y")
    assert found.cells == (("0.512", "2.05", "1.00"), ("0.262", "4.19", "oom"))
    assert found.best == {(1, 0), (0, 1), (0, 2)}


def test_markdown_has_sentences_times_with_the_least_in_bold_and_crossings():
    text = markdown(prepare([run_of(times())]))
    assert "| implementation | 512 | 2k | 4k |\n| :-- | --: | --: | --: |\n" in text
    assert "| linear\\_attention/x | 0.512 | **2.05** | **1.00** |" in text
    assert "- At T = 2,048, K = V = 64" in text
    assert "| linear\\_attention/x | softmax\\_attention/y | from T = 1,000" in text
    assert "What changed" not in text


def test_several_runs_have_their_changes_as_a_table():
    runs = [run_of([record("a", "x", 128, time_ms=time)], name) for name, time in (("old", 1.0), ("new", 2.0))]
    text = markdown(prepare(runs))
    assert "### What changed" in text
    assert "| slower | new | a/x/B1" in text.replace("\\_", "_")


def test_markdown_keeps_hostile_text_on_one_line_and_without_a_meaning():
    row = record(HOSTILE, HOSTILE, 128, commit=HOSTILE)
    text = markdown(prepare([run_of([row, failed("a", "y", 128, "error", HOSTILE)])]))
    assert "<b>" not in text
    assert "](u)" not in text.replace("\\]", "")
    (line,) = [line for line in text.splitlines() if line.endswith("**1.00** |")]
    assert line.count(" | ") == 1
    assert escape("a|b\n*c*") == "a\\|b \\*c\\*"


def test_latex_is_a_table_a_setting_with_everything_escaped():
    text = latex(prepare([run_of([record("a_b", "x&y%", 2048, K=64), *times()])]))
    assert text.count("\\begin{table}") == text.count("\\end{table}") == 2
    assert "a\\_b/x\\&y\\%" in text
    assert "\\toprule" in text
    assert "\\bfseries 1.00" in text
    assert text.count("{") == text.count("}")
    # Every special character that is no command's is escaped.
    body = text.replace("\\_", "").replace("\\&", "").replace("\\%", "")
    rows = [line for line in body.splitlines() if line.endswith("\\\\")]
    assert rows
    assert not [line for line in rows if "_" in line or "%" in line]


@pytest.mark.parametrize("writer", [markdown, latex])
def test_a_run_without_a_time_has_no_table_and_no_error(writer):
    text = writer(prepare([run_of([failed("a", "x", 128, "error", "broke")])]))
    assert "Example CPU" in text
    assert "tabular" not in text
