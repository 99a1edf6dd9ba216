"""Fixtures: a page in Chromium, and a clock that only samples move."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.suite.fake_clock import FakeClock

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# A condition that does not come true within this is a failure. Beside other work a page takes seconds to settle.
PATIENCE_MS = 120_000
POLL_MS = 20


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """The clock of suite.measuring.sampling."""
    fake = FakeClock()
    monkeypatch.setattr("suite.measuring.sampling.time", fake)
    return fake


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENCE_MS)
        yield started
        started.close()


@pytest.fixture
def open_page(browser):
    """Opens a file and collects in `page.wrong` what goes wrong: console errors, exceptions, requests elsewhere."""
    pages = []

    def open_(path, width=1280, scheme="light"):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        pages.append(page)
        page.set_default_timeout(PATIENCE_MS)
        page.wrong = []
        page.on("console", lambda message: page.wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        page.on("request", lambda request: None if _own(request.url, path) else page.wrong.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_
    for page in pages:
        page.close()


def _own(url: str, path) -> bool:
    return url.partition("#")[0] == path.as_uri() or url.startswith(("data:", "blob:"))


@pytest.fixture(scope="session")
def becomes() -> Callable[..., None]:
    """`becomes(page, read, wanted)`: waits until `read()` equals `wanted`, or until `wanted(read())` holds.

    What a click, a key or a choice leads to may come after the call that made it has returned: it is waited for, never
    read at once. The page's own content policy forbids predicates that are evaluated inside it.
    """

    def wait(page: Any, read: Callable[[], Any], wanted: Any) -> None:
        end = time.monotonic() + PATIENCE_MS / 1000
        holds = wanted if callable(wanted) else lambda value: value == wanted
        while not holds(value := read()):
            assert time.monotonic() < end, f"still {value!r} after {PATIENCE_MS / 1000:.0f} s, not {wanted!r}"
            page.wait_for_timeout(POLL_MS)

    return wait
