"""Every page in a real browser: axe finds nothing serious by day and by night, a narrow phone
scrolls one way only, and neither console nor the site's rules complain."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PATHS = {
    "cato": (
        "/legal/owners/",
        "/legal/owners/alder-press/",
        "/legal/licences/",
        "/legal/licences/new/",
        "/legal/licences/code-texts-v1/",
        "/legal/licences/plays-texts-v1/",
        "/legal/consumers/",
        "/legal/consumers/dara/",
        "/legal/due/",
        "/legal/experts/code/",
        "/notices/",
        "/notices/preferences/",
        "/notices/webhooks/",
        "/legal/log/",
    ),
    "celia": ("/legal/approvals/", "/legal/licences/plays-texts-v1/", "/api/"),
    "ada": (
        "/owner/",
        "/owner/experts/code/",
        "/owner/experts/poems/",
        "/owner/withdrawals/",
        "/owner/withdrawals/{withdrawal}/",
    ),
    "edda": (
        "/engineer/experts/",
        "/engineer/experts/news/",
        "/engineer/runs/",
        "/engineer/builds/",
        "/engineer/builds/1/",
        "/engineer/runners/",
        "/engineer/audits/",
    ),
    "mallory": ("/",),
}


# A change of colours may be on its way: what it passes through is nobody's page.
SETTLE = """async () => {
  for (let round = 0; round < 5; round++) {
    await new Promise(requestAnimationFrame);
    for (const each of document.getAnimations()) {
      if (each.effect.getComputedTiming().endTime !== Infinity) each.finish();
    }
  }
}"""


def findings(page: Page) -> list[str]:
    """What axe finds serious or critical: one line a rule."""
    return [
        f"{found['id']}: {found['nodes'][0]['html'][:200]}"
        for found in Axe().run(page).response["violations"]
        if found["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("name", PATHS)
def test_pages_are_sound_by_day_by_night_and_on_a_phone(site, name):
    page, wrong = site.page_of(name, reduced_motion="reduce"), []
    for pattern in PATHS[name]:
        path = pattern.format(withdrawal=site.story.withdrawal.pk)
        assert page.goto(path).status == 200
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            page.evaluate(SETTLE)
            wrong += [f"{path} {theme} {found}" for found in findings(page)]
        page.set_viewport_size({"width": 320, "height": 640})
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > 320:
            wrong.append(f"{path} is {width} px wide on a phone of 320 px")
        wrong += [f"{path} narrow {found}" for found in findings(page)]
        page.set_viewport_size({"width": 1280, "height": 900})
    assert wrong == []
