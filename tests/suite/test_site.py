"""The documentation site: it builds without a warning, loads nothing from elsewhere, and what it has is found."""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from suite.discovery import ROOT

pytest.importorskip("mkdocs")
sys.path.insert(0, str(ROOT / "docs" / "site"))
from docstrings import markdown
from hooks import PAGES, rewritten


def build(tree: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """A strict build of a checkout's site, as `make docs` and CI make it."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=tree,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    # A link or an anchor that leads nowhere, a page that the navigation lacks, a name that does not exist. With --quiet
    # a strict build passes with all of them.
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_every_page_is_there(site: Path) -> None:
    wanted = [*PAGES, *(path.name for path in (ROOT / "docs").glob("*.md"))]
    missing = [page for page in wanted if not (site / page).with_suffix(".html").is_file()]
    assert missing == []


def test_what_leads_nowhere_is_named_and_fails_the_build(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    left_out = shutil.ignore_patterns(
        ".git", ".venv", ".triton-newest", "__pycache__", "local", "tests", "site-packages"
    )
    shutil.copytree(ROOT, tree, ignore=left_out)
    wrong = "# Doctor\n\n[gone](gate.md#no-such-part)\n"
    (tree / "docs" / "doctor.md").write_text(wrong)
    (tree / "docs" / "forgotten.md").write_text("# Forgotten\n")
    done = build(tree, tmp_path / "site")
    assert done.returncode != 0
    assert "does not contain an anchor '#no-such-part'" in done.stderr
    assert "  - forgotten.md" in done.stderr


def test_pictures_of_pages_are_there(site: Path) -> None:
    home = (site / "index.html").read_text()
    pictures = re.findall(r'<img[^>]* src="([^"]+)"', home)
    assert pictures
    assert [picture for picture in pictures if not (site / picture).is_file()] == []


def test_the_reference_has_what_suite_exports(site: Path) -> None:
    import suite

    page = (site / "api.html").read_text()
    assert [name for name in suite.__all__ if f">{name}<" not in page and f'.{name}"' not in page] in ([], ["Case"])


def test_what_a_docstring_lists_is_a_list() -> None:
    text = "What it does: this.\n\nfolder: the run,\n        as it is\nexit, code:   how it ended\nRaises TypeError."
    text += "\n\nSo::\n\n    x: 1"
    assert markdown(text).splitlines() == [
        "What it does: this.",
        "",
        "- `folder`: the run,",
        "  as it is",
        "- `exit`, `code`: how it ended",
        "",
        "Raises TypeError.",
        "",
        "So:",
        "",
        "    x: 1",
    ]


@pytest.mark.parametrize(
    ("link", "source", "page", "made"),
    [
        ("[gate](docs/gate.md#budget)", "README.md", "index.md", "[gate](gate.md#budget)"),
        ("[k](../kernels/delta/README.md)", "docs/operators.md", "operators.md", "[k](kernels/delta.md)"),
        ("[api](../suite/api.py)", "docs/gate.md", "gate.md", "api (`suite/api.py`)"),
        ("[`api`](../suite/api.py)", "docs/gate.md", "gate.md", "`api`"),
        ("[o](operators.md)", "docs/gate.md", "gate.md", "[o](operators.md)"),
        ("[d](../../docs/static.md)", "kernels/delta/README.md", "kernels/delta.md", "[d](../static.md)"),
        ("[a](https://a.b/c.md) [b](#c)", "docs/gate.md", "gate.md", "[a](https://a.b/c.md) [b](#c)"),
        ("`[x](y.md)`", "docs/gate.md", "gate.md", "`[x](y.md)`"),
        ("```\n[x](y.md)\n```", "docs/gate.md", "gate.md", "```\n[x](y.md)\n```"),
    ],
)  # fmt: skip
def test_links_of_the_repository_are_links_of_the_site(link: str, source: str, page: str, made: str) -> None:
    assert rewritten(link, source, page) == (made, set())


def test_a_link_to_nothing_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"docs/gate.md links to gone.py"):
        rewritten("[x](gone.py)", "docs/gate.md", "gate.md")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def served(site: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.browser
def test_a_reader_finds_a_word_and_nothing_is_loaded_from_elsewhere(served: str, browser: Any) -> None:
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{served}/index.html")
    page.locator(".md-search__input").click()
    page.locator(".md-search__input").press_sequentially("roofline")
    page.wait_for_selector(".md-search-result__link")
    assert page.locator(".md-search-result__link").count() > 1
    assert [url for url in asked if not url.startswith(served)] == []
    page.close()
