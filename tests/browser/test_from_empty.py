"""From an empty installation, with two log-ins and no documentation, to a licence in force: each
page says what comes next, and following it is enough."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from django.core.mail import EmailMessage
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect

from governance.models import Corpus, Licence
from governance.services import experts, owners
from governance.vocabulary import Role
from tests.browser import sites
from tests.cast import PASSWORD

pytestmark = pytest.mark.browser
FILE = {"name": "signed.txt", "mimeType": "text/plain", "buffer": b"1. May train.\n2. In the EU.\n"}


@pytest.fixture
def site(transactional_db: None, chromium: Browser, settings) -> Iterator[sites.Site]:
    """The application with nothing in it but two people of legal."""
    now = timezone.now()
    for name in ("Cato Vos", "Celia Brandt"):
        email = f"{name.split()[0].lower()}@example.org"
        account = owners.open_account(email, full_name=name, password=PASSWORD)
        owners.appoint(account, role=Role.LEGAL, by=None, at=now)
    with sites.serving() as url:
        settings.RECLAIM_PUBLIC_URL = url
        found = sites.Site(url, None, chromium, [], [])
        yield found
        for context in found.contexts:
            context.close()
    assert found.complaints == []


def log_in(page: Page, email: str) -> Page:
    page.goto("/")
    page.locator("input[name=login]").fill(email)
    page.locator("input[name=password]").fill(PASSWORD)
    page.locator("main").get_by_role("button", name="Log in").click()
    return page


def way(page: Page):
    """The stage that is next, on the card that says how far it is."""
    return page.locator(".steps [aria-current=step]")


def register_owner(page: Page) -> None:
    expect(page.get_by_role("heading", name="The way to your first licence")).to_be_visible()
    way(page).get_by_role("link", name="Register an owner").click()
    page.get_by_label("Legal name").fill("Alder Press B.V.")
    page.get_by_label("Jurisdiction").fill("NL")
    page.get_by_label("Signatory (optional)", exact=True).fill("Ada Alder")
    page.get_by_label("Signatory’s e-mail").fill("ada@example.org")
    page.get_by_role("button", name="Register").click()
    expect(page.get_by_text("Invite who signs for it next.")).to_be_visible()


def invite_signatory(page: Page, mailoutbox: list[EmailMessage]) -> str:
    """The link of the invitation, from the mail."""
    way(page).get_by_role("link", name="Invite a signatory").click()
    expect(page.locator("#member-email")).to_have_value("ada@example.org")
    expect(page.locator("#member-owner_role")).to_have_value("signatory")
    page.get_by_role("button", name="Invite", exact=True).click()
    expect(page.get_by_text("An invitation is on its way to ada@example.org.")).to_be_visible()
    (mail,) = mailoutbox
    return re.search(r"http\S+/invitation/\S+/", str(mail.body)).group(0)


def accept(page: Page, link: str) -> Page:
    page.goto(link)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password again").fill(PASSWORD)
    page.get_by_role("button", name="Accept").click()
    expect(page.get_by_text("Your account is ready.")).to_be_visible()
    log_in(page, "ada@example.org")
    expect(page.get_by_role("heading", name="My experts")).to_be_visible()
    return page


def describe_corpus(page: Page) -> None:
    way(page).get_by_role("link", name="Describe a corpus").click()
    page.get_by_label("Short name").fill("plays")
    page.get_by_label("Title").fill("Plays, 1600 to 1900")
    page.get_by_label("Licence of the text itself").fill("own")
    page.get_by_label("Documents", exact=True).fill("214")
    page.get_by_label("Bytes of text").fill("31004200")
    page.get_by_role("button", name="Describe", exact=True).click()
    expect(page.get_by_text("Request its licence next.")).to_be_visible()


def request_licence(page: Page) -> None:
    way(page).get_by_role("link", name="Request a licence").click()
    page.get_by_label("Start from a template").select_option(label="Research only, European Union")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.get_by_label("Corpus", exact=True)).to_have_value("plays")
    page.get_by_label("Ends on").fill(f"{timezone.now().year + 1}-12-31")
    expect(page.locator("#preview")).to_contain_text("May answer for research")
    page.get_by_label("Attach the signed contract").set_input_files(FILE)
    expect(page.locator("#contract-side").get_by_text("1. May train.")).to_be_visible()
    page.get_by_label("Not in force before the owner has countersigned").check()
    page.get_by_role("button", name="Request approval").click()
    expect(way(page)).to_contain_text("A colleague reads the file against the terms.")
    expect(page.get_by_role("button", name="Approve")).to_have_count(0)


def read_and_approve(page: Page) -> None:
    page.get_by_role("link", name="Read and decide: Licence plays-v1").click()
    expect(page.get_by_role("button", name="Approve")).to_have_count(0)
    page.get_by_role("link", name="Read it against the terms").click()
    page.get_by_label("says what the terms say").check()
    page.get_by_role("button", name="Record what I found").click()
    expect(way(page)).to_contain_text("A second person decides, below.")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("It is in force once its owner has countersigned.")).to_be_visible()
    expect(way(page)).to_contain_text("Countersigned")


def countersign(page: Page) -> None:
    page.goto("/")
    expect(page.get_by_text("plays-v1 waits for your countersignature.")).to_be_visible()
    page.get_by_role("link", name="Read and countersign").click()
    page.get_by_role("button", name="Countersign").click()
    expect(page.get_by_text("plays-v1 is countersigned.")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_contain_text("In force")


def consent(page: Page) -> None:
    """An engineer proposes an expert; its owner is asked on its first page and says yes."""
    corpus = Corpus.objects.select_related("owner").get(slug="plays")
    experts.propose(
        "plays", title="Plays", owner=corpus.owner, corpus=corpus, by=None, at=timezone.now()
    )
    page.goto("/owner/")
    page.locator(".card").filter(has_text="Plays").get_by_role("link", name="Open").click()
    page.get_by_role("button", name="Give consent").click()
    expect(page.get_by_text("Consent under plays-v1 is recorded.")).to_be_visible()


def put_into_effect(page: Page, instrument: str, reason: str) -> None:
    page.get_by_label("Instrument").select_option(label=instrument)
    page.locator("#end-form").get_by_label("Reason").fill(reason)
    expect(page.locator("#effect")).to_contain_text("Disabled")
    page.get_by_role("button", name="Put into effect").click()
    said = f"Recorded and in the policy: {instrument.lower()} plays-v1."
    expect(page.get_by_text(said)).to_be_visible()


def look_ahead_suspend_and_end(page: Page) -> None:
    page.goto("/legal/licences/")
    page.get_by_role("link", name="plays-v1").click()
    page.get_by_role("link", name="What if").click()
    expect(page.get_by_role("heading", name="Nothing to compare with yet")).to_be_visible()
    page.get_by_role("link", name="Overview").click()
    put_into_effect(page, "Suspend", "A complaint")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Suspended")
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("In force")
    put_into_effect(page, "Terminate", "Agreed with the owner")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Notice runs")
    page.get_by_role("link", name="History", exact=True).click()
    expect(page.get_by_text("Agreed with the owner")).to_be_visible()


def test_from_nothing_to_a_licence_in_force_and_to_its_end(site, mailoutbox):
    cato = log_in(site.page_of(""), "cato@example.org")
    register_owner(cato)
    link = invite_signatory(cato, mailoutbox)
    ada = accept(site.page_of(""), link)
    describe_corpus(cato)
    request_licence(cato)
    read_and_approve(log_in(site.page_of(""), "celia@example.org"))
    countersign(ada)
    assert Licence.objects.in_force(timezone.now()).get().reference == "plays-v1"
    consent(ada)
    cato.goto("/")
    expect(cato.get_by_role("heading", name="What awaits you")).to_be_visible()
    expect(cato.locator(".steps")).to_have_count(0)  # the way is walked
    look_ahead_suspend_and_end(cato)
    assert Licence.objects.get().endings.count() == 3
