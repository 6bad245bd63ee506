"""One Chromium a module, one empty profile a test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser import sites

_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The machine's own Chromium; a module's tests share the process, never a profile."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
    if path is None:
        pytest.skip("no Chromium on PATH")
    # Closed with the module: Playwright keeps an event loop running in this thread, and the
    # asynchronous tests of other modules need that place. The loop also makes Django think that a
    # test's own queries run inside a coroutine; they do not.
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        browser = playwright.chromium.launch(executable_path=path, args=_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A fresh page that fails the test for any error in its console."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on(
        "console",
        lambda message: complaints.append(message.text) if message.type == "error" else None,
    )
    yield opened
    context.close()
    assert complaints == []


@pytest.fixture
def site(transactional_db: None, chromium: Browser) -> Iterator[sites.Site]:
    """The story, served by the real application; the test fails for any complaint of a page."""
    from tests.web import stories

    story = stories.tell()
    with sites.serving() as url:
        found = sites.Site(url, story, chromium, [], [])
        yield found
        for context in found.contexts:
            context.close()
    assert found.complaints == []
