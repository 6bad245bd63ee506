"""From nothing to a licence that is read, approved and countersigned, in the pages alone."""

from __future__ import annotations

import re

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from governance.models import ContractReading, Countersignature, Licence
from governance.vocabulary import LicenceState

pytestmark = pytest.mark.browser
FILE = {"name": "signed.txt", "mimeType": "text/plain", "buffer": b"1. May train.\n2. In the EU.\n"}


def ask(page: Page) -> None:
    """Fill in the form for the plays of Alder Press, from the template for research."""
    page.goto("/legal/licences/")
    page.get_by_role("link", name="Request a licence").first.click()
    page.get_by_label("Start from a template").select_option(label="Research only, European Union")
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_label("Corpus", exact=True).select_option(label="Plays, 1600 to 1900")
    preview = page.locator("#preview")
    expect(preview).to_contain_text("May answer for research, asked by anyone, in the European")
    expect(preview).to_contain_text("May not be distilled, fine-tuned or redistributed")
    purposes = page.get_by_role("group", name="Purposes", exact=False).first
    purposes.get_by_label("Research", exact=True).uncheck()
    purposes.get_by_label("Academic research").check()
    expect(preview).to_contain_text("May answer for academic research")
    page.get_by_label("Notice (days)").fill("14")
    expect(preview).to_contain_text("Termination takes 14 days' notice")
    page.locator("#id_territories").fill("EU Bavaria")
    expect(preview).to_contain_text("found BAVARIA")
    page.locator("#id_territories").fill("EU")
    expect(preview).not_to_contain_text("BAVARIA")


def attach(page: Page) -> None:
    """Attach the signed file; it appears beside the terms, with its digest kept in the form."""
    page.get_by_label("Attach the signed contract").set_input_files(FILE)
    expect(page.locator("#contract-side").get_by_text("1. May train.")).to_be_visible()
    page.get_by_text("Cite the clause of each term").click()
    page.locator("#id_clause_territories").fill("§ 2")
    page.get_by_label("Not in force before the owner has countersigned").check()


def test_from_nothing_to_a_countersigned_licence(site):
    cato = site.page_of("cato")
    ask(cato)
    attach(cato)
    cato.get_by_role("button", name="Request approval").click()
    expect(cato.get_by_text("A second person approves it.")).to_be_visible()
    reference = "plays-texts-v2"
    cato.get_by_role("link", name="Terms by clause").click()
    expect(cato.get_by_text("Waits for a second reader.")).to_be_visible()
    expect(cato.get_by_role("button", name="Record what I found")).to_have_count(0)

    celia = site.page_of("celia")
    celia.goto(f"/legal/licences/{reference}/terms/")
    row = celia.get_by_role("row").filter(has_text="Territories")
    expect(row).to_contain_text("European Union")
    expect(row).to_contain_text("§ 2")
    expect(celia.get_by_text("1. May train.")).to_be_visible()
    celia.get_by_label("says what the terms say").check()
    celia.get_by_role("button", name="Record what I found").click()
    expect(celia.get_by_text("It is recorded that the contract matches the terms.")).to_be_visible()
    assert ContractReading.objects.get().reader == site.story.cast.celia
    celia.goto(f"/legal/licences/{reference}/")
    approve(celia)
    expect(celia.get_by_text("Not yet countersigned")).to_be_visible()
    licence = Licence.objects.get(reference=reference)
    assert licence.state == LicenceState.APPROVED
    assert not Licence.objects.in_force(timezone.now()).filter(pk=licence.pk).exists()

    ada = site.page_of("ada")
    ada.goto("/owner/licences/")
    card = ada.locator(".card").filter(has_text=reference)
    card.get_by_role("link", name="Read and countersign").click()
    expect(ada.get_by_text("1. May train.")).to_be_visible()
    ada.get_by_role("button", name="Countersign").click()
    expect(ada.get_by_text(f"{reference} is countersigned.")).to_be_visible()
    assert Countersignature.objects.get().signed_by == site.story.cast.ada
    assert Licence.objects.in_force(timezone.now()).filter(pk=licence.pk).exists()


def approve(page: Page) -> None:
    page.get_by_role("button", name=re.compile(r"^(Approve|Sign)")).first.click()


def test_a_new_version_is_compared_and_looked_at_in_two_times(site):
    page = site.page_of("cato")
    page.goto("/legal/licences/code-texts-v1/")
    page.get_by_role("link", name="Request a new version").click()
    expect(page.get_by_role("heading", name="Request a new version")).to_be_visible()
    expect(page.get_by_label("Notice (days)")).to_have_value("14")
    page.get_by_label("Notice (days)").fill("30")
    page.get_by_role("button", name="Request approval").click()
    page.get_by_role("link", name="History", exact=True).click()
    row = page.get_by_role("row").filter(has_text="Notice of termination")
    expect(row).to_contain_text("14 days")
    expect(row).to_contain_text("30 days")
    page.get_by_label("As known on").fill("2020-01-01")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("Nothing was known")).to_be_visible()
    page.get_by_role("link", name="Machine view").click()
    expect(page.get_by_label("Licence for machines", exact=True)).to_contain_text("odrl")
    page.get_by_role("link", name="What if").click()
    expect(page.get_by_role("heading", name="code-texts-v2")).to_be_visible()


def test_what_was_typed_and_not_sent_is_not_lost_without_asking(site):
    page = site.page_of("cato")
    page.goto("/legal/licences/new/")
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    expect(page.locator("#preview")).to_contain_text("May train")
    with page.expect_response("**/preview/"):  # else leaving cuts it off, and htmx complains
        page.locator("#id_governing_law").fill("Netherlands")
    page.get_by_role("link", name="Cancel").click()
    expect(page.locator("#id_governing_law")).to_have_value("Netherlands")
    assert asked == ["beforeunload"]


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until what `selector` names is focused, and see that it shows."""
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", f"{selector} does not show its focus"
            return
    raise AssertionError(f"Tab never reached {selector}")


def test_a_licence_is_requested_by_keyboard_alone(site):
    page = site.page_of("cato")
    page.goto("/legal/licences/new/?template=research-eu")
    tab_to(page, "#id_corpus")
    page.keyboard.type("Plays")
    tab_to(page, "input[name=purposes][value=education]")
    page.keyboard.press("Space")
    expect(page.locator("#preview")).to_contain_text("education")
    tab_to(page, "#id_territories")
    page.keyboard.type("DE NL")
    tab_to(page, "#id_notice_days")
    page.keyboard.type("60")
    tab_to(page, "#id_duty_1_action")
    tab_to(page, "#id_needs_countersignature")
    page.keyboard.press("Space")
    tab_to(page, "#licence-form .actions button")
    page.keyboard.press("Enter")
    expect(page.get_by_text("A second person approves it.")).to_be_visible()
    asked = Licence.objects.get(reference="plays-texts-v2")
    assert asked.territories == ["DE", "NL"]
    assert (asked.notice_days, asked.needs_countersignature) == (60, True)


def test_a_licence_is_requested_without_script(site):
    page = site.page_of("cato", java_script_enabled=False)
    page.goto("/legal/licences/new/?template=research-eu")
    page.get_by_label("Corpus", exact=True).select_option(label="Plays, 1600 to 1900")
    page.get_by_label("Attach the signed contract").set_input_files(FILE)
    page.get_by_role("button", name="Request approval").click()
    expect(page.get_by_text("A second person approves it.")).to_be_visible()
    assert Licence.objects.get(reference="plays-texts-v2").contract_digest
