"""The design page and the log-in, in a real browser: reachable by all, in every theme and width."""

from __future__ import annotations

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

PATHS = ("/design/", "/account/login/")


def findings(page: Page) -> list[str]:
    """What axe reports, whatever its weight: one line a rule."""
    return [
        f"{found['id']} ({found['impact']}): {found['nodes'][0]['html'][:200]}"
        for found in Axe().run(page).response["violations"]
    ]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_on_a_desk(page, live_server, path, theme):
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    page.goto(live_server.url + path)
    assert findings(page) == []


@pytest.mark.parametrize("path", PATHS)
def test_a_narrow_phone_scrolls_one_way_only(page, live_server, path):
    page.set_viewport_size({"width": 320, "height": 640})
    page.goto(live_server.url + path)
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    assert findings(page) == []


def test_a_stacked_table_stays_a_table_to_those_who_listen(page, live_server):
    page.set_viewport_size({"width": 320, "height": 640})
    page.goto(live_server.url + "/design/")
    table = page.get_by_role("table", name="Licences")
    expect(table.get_by_role("row")).to_have_count(6)
    state = table.get_by_role("cell", name="Suspended")
    assert state.evaluate("cell => getComputedStyle(cell, '::before').content") == '"State"'


def test_a_dialog_opens_and_closes_by_key_and_gives_the_focus_back(page, live_server):
    page.goto(live_server.url + "/design/")
    opener = page.get_by_role("button", name="Open a dialog")
    opener.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Withdraw news?")
    expect(dialog).to_be_visible()
    assert findings(page) == []
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(opener).to_be_focused()


def test_the_first_tab_stop_skips_to_the_content(page, live_server):
    page.goto(live_server.url + "/design/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()


def test_a_chosen_theme_is_there_at_the_next_first_paint(page, live_server):
    page.emulate_media(color_scheme="light")
    page.goto(live_server.url + "/design/")
    page.locator("summary", has_text="Theme").click()
    page.get_by_role("button", name="Dark").click()
    answer = page.request.get(live_server.url + "/design/")
    assert 'data-theme="dark"' in answer.text()
    page.reload()
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(19, 20, 18)"


def test_a_digest_is_copied_whole(page, live_server):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(live_server.url + "/design/")
    page.get_by_role("button", name="Copy digest of news").click()
    expect(page.get_by_text("Copied", exact=True)).to_have_count(1)
    assert len(page.evaluate("navigator.clipboard.readText()")) == 64


def test_instants_follow_the_readers_zone_and_keep_utc_at_hand(chromium, live_server):
    context = chromium.new_context(timezone_id="Asia/Tokyo", locale="en-US")
    page = context.new_page()
    page.goto(live_server.url + "/design/")
    instant = page.locator("time.instant").first
    expect(instant).to_have_attribute("data-local", "")
    expect(instant).to_have_text(re.compile(r"^\d+ [A-Z][a-z]+ \d{4}, \d\d:\d\d$"))  # en-GB's
    hour = int(instant.get_attribute("title").split(", ")[1][:2])
    assert f"{(hour + 9) % 24:02d}:" in instant.text_content()
    context.close()


def test_an_inline_script_is_refused(chromium, live_server):
    context = chromium.new_context()
    page = context.new_page()
    page.goto(live_server.url + "/design/")
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'),"
        " {textContent: 'window.planted = true'}))"
    )
    assert page.evaluate("window.planted") is None
    context.close()
