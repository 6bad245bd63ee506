"""Every page in a real browser: axe finds nothing serious by day and by night, a narrow phone
scrolls one way only, and neither console nor the site's rules complain."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone
from playwright.sync_api import Page

from governance.models import ApiKey, ApprovalRequest, ConsentRecord, Duty, Licence
from governance.policy.decide import decide
from governance.policy.types import Ask
from governance.services import decisions, documents, duties, holds, licences, snapshots, statements
from governance.vocabulary import BuildState, ConsumerStatus, OwnerStatus, Purpose, Use
from tests import factories
from tests.guards.test_views_are_gated import ALL

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PATHS = {
    "cato": (
        "/legal/",
        "/legal/staff/",
        "/legal/owners/",
        "/legal/owners/new/",
        "/legal/owners/alder-press/",
        "/legal/owners/alder-press/edit/",
        "/legal/owners/alder-press/history/",
        "/legal/corpora/",
        "/legal/corpora/new/",
        "/legal/corpora/code-texts/",
        "/legal/exchange/",
        "/legal/licences/",
        "/legal/licences/new/",
        "/legal/licences/code-texts-v1/",
        "/legal/licences/code-texts-v1/terms/",
        "/legal/licences/code-texts-v1/history/",
        "/legal/licences/code-texts-v1/machine/",
        "/legal/licences/code-texts-v1/what-if/",
        "/legal/licences/plays-texts-v1/",
        "/legal/consumers/",
        "/legal/consumers/dara/",
        "/legal/consumers/dara/edit/",
        "/legal/consumers/dara/keys/{key}/",
        "/legal/keys/",
    ),
    "celia": (
        "/legal/approvals/",
        "/legal/approvals/{request}/",
        "/legal/approvals/routes/",
        "/legal/approvals/routes/new/",
        "/legal/approvals/routes/licence/",
        "/legal/approvals/absence/",
        "/legal/approvals/ask/key/",
        "/legal/approvals/ask/waiver/{revision}/",
        "/legal/approvals/ask/export/3/",
        "/legal/approvals/ask/promotion/{assembled}/",
        "/legal/approvals/ask/owner/cedar/",
        "/legal/approvals/ask/consumer/nova/",
        "/legal/licences/plays-texts-v1/",
        "/legal/licences/{file}/terms/",
        "/legal/experts/code/",
        "/legal/due/",
        "/legal/duties/",
        "/legal/duties/{duty}/",
        "/legal/statements/",
        "/legal/statements/{statement}/",
        "/legal/quotas/",
        "/notices/",
        "/notices/preferences/",
        "/notices/webhooks/",
        "/notices/webhooks/{hook}/",
        "/api/",
        "/api/keys/",
    ),
    "aude": (
        "/legal/log/",
        "/legal/decisions/",
        "/legal/decisions/{decision}/",
        "/legal/consents/",
        "/legal/consents/{consent}/",
    ),
    "ada": (
        "/owner/",
        "/owner/experts/code/",
        "/owner/experts/poems/",
        "/owner/licences/",
        "/owner/licences/code-texts-v1/",
        "/owner/consents/",
        "/owner/consents/{consent}/",
        "/owner/duties/",
        "/owner/statements/",
        "/owner/statements/{statement}/",
        "/owner/withdrawals/",
        "/owner/withdrawals/{withdrawal}/",
        "/people/of/alder-press/",
    ),
    "edda": (
        "/engineer/experts/",
        "/engineer/experts/news/",
        "/engineer/runs/",
        "/engineer/builds/",
        "/engineer/builds/1/",
        "/engineer/builds/3/",
        "/engineer/runners/",
        "/engineer/audits/",
        "/playground/",
    ),
    "mallory": ("/", "/receipts/check/"),
}
# Where what is shown has no page of its own, is a page of these, or is in test_design_axe.
NO_PAGES = re.compile(
    r"^(account/|v1/|healthz$|readyz$|api/v1|api/schema|api/\^|design/|lists/|effects/|confirmed/|invitation/)"
    r"|/(preview|import|contract|authority|manifest|files/<.*|receipt\.json|consent\.jsonld)/?$"
    r"|/(said|contracts)/<|certificate\.zip$|check\.py$|<str:name>$|^notices/(<|acknowledge/)"
    r"|^$"
)
# The API's page has an operation in each of its hundreds, all made alike.
OPEN = "for (const one of [...document.querySelectorAll('details')].slice(0, 40)) one.open = true"
# A change of colours or of width may be on its way: what it passes through is nobody's page.
SETTLE = """async () => {
  for (let round = 0; round < 5; round++) {
    await new Promise(requestAnimationFrame);
    for (const each of document.getAnimations()) {
      if (each.effect.getComputedTiming().endTime !== Infinity) each.finish();
    }
  }
}"""


def findings(page: Page, *rules: str) -> list[str]:
    """What axe finds serious or critical, of `rules` if some are named: one line a rule."""
    options = {"resultTypes": ["violations"]} | ({"runOnly": list(rules)} if rules else {})
    return [
        f"{found['id']}: {found['nodes'][0]['html'][:200]}"
        for found in Axe().run(page, options=options).response["violations"]
        if found["impact"] in ("serious", "critical")
    ]


def tell_more(story) -> dict[str, object]:
    """Rows for the pages the story has none for; the names the addresses ask for."""
    cast, now = story.cast, timezone.now()
    ask, snapshot = Ask("dara", "research", "NL", sector="M"), snapshots.current()
    decided = decisions.record(
        decide(snapshot, ask, now), decision_id=uuid4(), ask=ask, snapshot=snapshot,
        path="gateway/chat", requested_by="abc12345", labels={"gateway": "g1"}, at=now,
    )  # fmt: skip
    holds.request(
        cast.experts["code"], authority="Court of Utrecht, 12/3", reason="An order",
        until_at=now + timedelta(days=9), by=cast.cato, at=now,
    )  # fmt: skip
    then = datetime(now.year - 1, 2, 10, tzinfo=UTC)
    corpus = factories.corpus(owner=cast.alder)
    licence = factories.licence(
        corpus=corpus, starts_at=then, decided_at=then, minimum_per_period=5,
        requires_attribution=True, attribution_text="By Alder Press",
    )  # fmt: skip
    duties.open_due(at=now)
    statement = statements.issue(cast.alder, month=then.date().replace(day=1), by=None, at=now)
    factories.owner(slug="cedar", status=OwnerStatus.PROSPECT)
    factories.api_key(consumer=cast.dara, scopes=["playground"])
    factories.consumer(slug="nova", status=ConsumerStatus.PROSPECT)
    return {
        "assembled": factories.build(number=700, state=BuildState.ASSEMBLED).number,
        "withdrawal": story.withdrawal.pk,
        "revision": story.audited.pk,
        "request": ApprovalRequest.objects.get(subject_id=story.waiting_licence.pk).pk,
        "key": ApiKey.objects.get(pk=cast.dara_key.api_key.pk).prefix,
        "consent": ConsentRecord.objects.filter(owner=cast.alder).first().pk,
        "decision": decided.pk,
        "duty": Duty.objects.filter(licence=licence).first().pk,
        "statement": statement.pk,
        "hook": factories.webhook(created_by=cast.celia).pk,
        "file": _with_file(story, now).reference,
    }


def _with_file(story, now: datetime) -> Licence:
    """A licence of the news that waits for a second reader of its file."""
    file = documents.store(
        b"May answer.", name="c.txt", media_type="text/plain", by=story.cast.cato, at=now
    )
    terms = licences.Terms(
        uses=[Use.ANSWER], purposes=[Purpose.EDUCATION], starts_at=now, contract_digest=file.digest
    )
    corpus = story.cast.experts["news"].corpus
    return licences.request(corpus, terms=terms, by=story.cast.cato, at=now)


@pytest.mark.parametrize("name", PATHS)
def test_pages_are_sound_by_day_by_night_and_on_a_phone(site, name):
    names, wrong = tell_more(site.story), []
    page = site.page_of(name, reduced_motion="reduce")
    for pattern in PATHS[name]:
        path = pattern.format(**names)
        assert page.goto(path).status == 200, path
        page.evaluate(OPEN)
        for theme, rules in (("light", ()), ("dark", ("color-contrast",))):  # only colours change
            page.emulate_media(color_scheme=theme)
            page.evaluate(SETTLE)
            wrong += [f"{path} {theme} {found}" for found in findings(page, *rules)]
        page.set_viewport_size({"width": 320, "height": 640})
        page.wait_for_function("innerWidth === 320")
        page.evaluate(SETTLE)
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > 320:
            wrong.append(f"{path} is {width} px wide on a phone of 320 px")
        wrong += [f"{path} narrow {found}" for found in findings(page)]
        page.set_viewport_size({"width": 1280, "height": 900})
    assert wrong == []


def test_every_page_is_looked_at():
    """A new page is added above, for somebody who sees it."""
    seen = [re.sub(r"\{\w+\}", "x", path) for paths in PATHS.values() for path in paths]
    missing = [
        address
        for address, view in ALL.items()
        if not NO_PAGES.search(address)
        and not _is_pressed_alone(view)
        and not any(re.fullmatch(_pattern(address), path) for path in seen)
    ]
    assert missing == []


def _pattern(address: str) -> str:
    return "/" + re.sub(r"<(\w+:)?\w+>", "[^/]+", address)


def _is_pressed_alone(view) -> bool:
    """Whether a view answers no GET."""
    while view is not None:
        held = getattr(view, "__closure__", None) or ()
        if any(cell.cell_contents == ["POST"] for cell in held if cell.cell_contents is not None):
            return True
        view = getattr(view, "__wrapped__", None)
    return False
