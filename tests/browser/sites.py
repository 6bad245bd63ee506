"""The real application on a real socket, with the story's rows, for whoever drives a browser."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, Page

from tests.web.stories import Story

BACKEND = "allauth.account.auth_backends.AuthenticationBackend"


@contextmanager
def serving() -> Iterator[str]:
    """The address of the application while it serves."""
    from web.asgi import application

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(application, log_level="warning", lifespan="on"))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        end_s = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < end_s, "the application did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)


@dataclass
class Site:
    """The story, served; `page_of` gives a page on which somebody is logged in."""

    url: str
    story: Story
    browser: Browser
    contexts: list[BrowserContext]
    complaints: list[str]

    def page_of(self, name: str, **options) -> Page:
        """A fresh profile with the session of `name`; "" is nobody.

        Whatever its console, its scripts or the site's rules complain about is kept.
        """
        context = self.browser.new_context(
            base_url=self.url, viewport={"width": 1280, "height": 900}, **options
        )
        self.contexts.append(context)
        if name:
            client = Client()
            client.force_login(getattr(self.story.cast, name), backend=BACKEND)
            session = client.cookies["reclaim-session"].value
            context.add_cookies([{"name": "reclaim-session", "value": session, "url": self.url}])
        page = context.new_page()
        page.on("pageerror", lambda error: self.complaints.append(f"{page.url}: {error}"))
        page.on("console", lambda message: self._hear(page, message))
        return page

    def _hear(self, page: Page, message) -> None:
        is_refused_form = "status of 422" in message.text  # Chromium tells of every such answer
        if message.type in ("error", "warning") and not is_refused_form:
            self.complaints.append(f"{page.url}: {message.text}")
