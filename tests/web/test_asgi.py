"""The three lanes: files without Django, the gateway without sessions, pages with everything."""

from __future__ import annotations

import httpx
import pytest


@pytest.fixture
async def site(db):
    from web import asgi

    transport = httpx.ASGITransport(app=asgi.application)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


async def test_a_static_file_comes_whole_and_is_not_sent_twice(site):
    first = await site.get("/static/web/tokens.css")
    assert first.status_code == 200
    assert first.headers["content-type"].startswith("text/css")
    assert first.headers["x-content-type-options"] == "nosniff"
    assert b"--accent" in first.content
    again = await site.get(
        "/static/web/tokens.css", headers={"If-None-Match": first.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")


async def test_no_path_climbs_out_of_the_static_files(site):
    for path in ("/static/web/../../settings.py", "/static/%2e%2e/settings.py", "/static/web/"):
        assert (await site.get(path)).status_code == 404


async def test_the_gateway_lane_knows_no_session_and_sets_no_cookie(site):
    answer = await site.get("/v1/models", headers={"Cookie": "reclaim-session=stolen"})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert "x-request-id" not in answer.headers or len(answer.headers["x-request-id"]) != 32


async def test_a_page_comes_through_the_whole_chain(site):
    answer = await site.get("/account/login/")
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_the_lifespan_is_answered():
    from web import asgi

    events = iter(({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}))
    sent = []

    async def receive():
        return next(events)

    async def send(message):
        sent.append(message["type"])

    await asgi.application({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
