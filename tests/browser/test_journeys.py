"""People at work in a real browser, on the real application: request and approve, consent and take
back, look after runs and builds; and taking back by keyboard alone."""

from __future__ import annotations

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from governance.models import Build, Licence, RunnerLease, Withdrawal
from governance.services import licences
from governance.vocabulary import LicenceState, Purpose, Use
from tests.cast import PASSWORD

pytestmark = pytest.mark.browser


def test_cato_requests_a_licence_and_celia_approves_it(site):
    cato = site.page_of("cato")
    cato.goto("/legal/licences/")
    cato.get_by_role("link", name="Request a licence").first.click()
    cato.get_by_label("Corpus", exact=True).select_option(label="Plays, 1600 to 1900")
    cato.get_by_role("group", name="Purposes").first.get_by_label("Research", exact=True).check()
    cato.locator("#id_territories").fill("DE Bavaria")
    expect(cato.get_by_label("Starts on")).to_have_value(f"{timezone.now():%Y-%m-%d}")
    cato.get_by_role("button", name="Request approval").click()
    expect(cato.locator("#id_territories_error")).to_contain_text("found BAVARIA")
    cato.locator("#id_territories").fill("DE NL")
    cato.get_by_role("button", name="Request approval").click()
    expect(cato.get_by_text("A second person approves it.")).to_be_visible()
    expect(cato.get_by_role("button", name="Approve")).to_have_count(0)

    celia = site.page_of("celia")
    celia.goto("/legal/approvals/")
    row = celia.get_by_role("row").filter(has_text="plays-texts-v2")
    row.get_by_role("link", name="Read and decide").click()
    expect(celia.get_by_text("May answer for research")).to_be_visible()
    celia.get_by_label("Note").fill("Read in full")
    celia.get_by_role("button", name="Approve").click()
    expect(celia.get_by_text("Plays, 1600 to 1900 is approved.")).to_be_visible()
    assert Licence.objects.get(reference="plays-texts-v2").state == LicenceState.APPROVED


def ask_anew(site) -> Licence:
    """A licence for `news` that waits for its owner's consent."""
    cast, at = site.story.cast, timezone.now()
    terms = licences.Terms(uses=[Use.ANSWER], purposes=[Purpose.EDUCATION], starts_at=at)
    asked = licences.request(cast.experts["news"].corpus, terms=terms, by=cast.cato, at=at)
    return licences.approve(asked, by=cast.celia, at=at)


def test_ada_consents_and_takes_back_with_one_click(site):
    licence = ask_anew(site)
    page = site.page_of("ada")
    page.goto("/owner/")
    card = page.locator(".card").filter(has_text="News of Alder Press")
    card.get_by_role("link", name="Open").click()
    page.get_by_role("button", name="Give consent").click()
    expect(page.get_by_text(f"Consent under {licence} is recorded.")).to_be_visible()

    page.goto("/owner/")
    card = page.locator(".card").filter(has_text="Code of Alder Press")
    card.get_by_role("button", name="Withdraw").click()
    expect(page.get_by_role("heading", name="Withdrawal of Code of Alder Press")).to_be_visible()
    expect(page.get_by_text("0 of 2")).to_be_visible()
    withdrawal = Withdrawal.objects.get(expert__name="code")
    RunnerLease.objects.filter(runner="runner-1").update(applied_epoch=withdrawal.policy_epoch)
    expect(page.get_by_text("1 of 2")).to_be_visible()  # counted live, nobody reloads
    RunnerLease.objects.update(applied_epoch=withdrawal.policy_epoch)
    expect(page.get_by_text("2 of 2")).to_be_visible()


def test_edda_looks_after_runs_and_builds(site):
    page = site.page_of("edda")
    page.goto("/engineer/runs/")
    expect(page.get_by_role("progressbar", name="Audit")).to_have_attribute("value", "120")
    page.get_by_label("State").select_option(label="Failed")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_text("expected 1.2 GB free")).to_be_visible()
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Runners").click()
    expect(page.get_by_role("row").filter(has_text="runner-2")).to_contain_text("Stale")
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Builds").click()
    page.get_by_role("button", name="Rebuild").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("A new anchor")
    dialog.get_by_role("button", name="Rebuild").click()
    expect(page.get_by_text("is planned from what is active now.")).to_be_visible()
    assert Build.objects.latest("number").reason == "A new anchor"


def tab_to(page: Page, name: str) -> None:
    """Press Tab until what is focused says `name`; a person would have given up by sixty."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == name:
            return
    raise AssertionError(f"Tab never reached {name!r}")


def test_taking_back_needs_no_mouse(site):
    page = site.page_of("ada")
    page.goto("/owner/experts/code/")
    tab_to(page, "Withdraw")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Withdrawal of Code of Alder Press")).to_be_visible()
    assert Withdrawal.objects.filter(expert__name="code").count() == 1


def test_taking_back_works_without_script(site):
    page = site.page_of("ada", java_script_enabled=False)
    page.goto("/owner/experts/code/")
    page.get_by_label("Reason").fill("A new publisher")
    page.get_by_role("button", name="Withdraw").click()
    expect(page.get_by_text("0 of 2")).to_be_visible()
    assert Withdrawal.objects.get(expert__name="code").ending.reason == "A new publisher"


def test_the_whole_log_is_checked_in_place(site):
    page = site.page_of("aude")
    page.goto("/legal/log/")
    page.get_by_role("button", name="Verify the whole log").click()
    expect(page.get_by_text("The log is whole.")).to_be_visible()
    assert page.url.endswith("/legal/log/")


def test_a_person_logs_in_and_lands_on_their_page(site):
    cato = site.story.cast.cato
    cato.set_password(PASSWORD)
    cato.save()
    page = site.page_of("")
    page.goto("/legal/approvals/")
    page.locator("input[name=login]").fill(cato.email)
    page.locator("input[name=password]").fill(PASSWORD)
    page.locator("main").get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Approvals")).to_be_visible()
