"""Legal staff takes on owners, licences and consumers, decides in pairs, and sees what is due."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from governance.models import (
    ApiKey,
    Consumer,
    Corpus,
    DataOwner,
    Invitation,
    Licence,
)
from governance.services import snapshots
from governance.vocabulary import Instrument, LicenceState, RevisionState
from tests import factories

TERMS = {
    "corpus": "plays-texts",
    "uses": ["train", "answer"],
    "purposes": ["education"],
    "starts_on": "2026-01-01",
    "ends_on": "2029-01-01",
    "notice_days": "0",
    "max_extraction_rate": "0.01",
    "rate_per_million_tokens": "40",
}


def text_of(answer) -> str:
    return answer.content.decode()


def errors_of(answer) -> dict[str, list[str]]:
    return dict(answer.context["form"].errors)


def test_an_owner_is_registered(by):
    asked = {"legal_name": "Cedar Institute", "jurisdiction": "FR"}
    answer = by("cato").post("/legal/owners/new/", asked)
    assert (answer.status_code, answer.url) == (302, "/legal/owners/cedar-institute/")
    assert DataOwner.objects.get(slug="cedar-institute").jurisdiction == "FR"


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"legal_name": "", "jurisdiction": "FR"}, "legal_name"),
        ({"legal_name": "Cedar", "jurisdiction": "France"}, "jurisdiction"),
        ({"legal_name": "Cedar", "jurisdiction": "FR", "contact_email": "x"}, "contact_email"),
    ],
)
def test_bad_input_is_shown_at_its_field(by, asked, field):
    answer = by("cato").post("/legal/owners/new/", asked)
    assert answer.status_code == 422
    assert list(errors_of(answer)) == [field]
    assert f'id="id_{field}_error"' in text_of(answer)


@pytest.mark.parametrize("asks_for_it", [True, False])
def test_the_way_to_a_licence_asks_for_a_countersignature_only_where_the_licence_does(
    by, asks_for_it
):
    licence = factories.licence(needs_countersignature=asks_for_it)
    last = by("cato").get(f"/legal/owners/{licence.corpus.owner.slug}/").context["stages"][-1]
    assert last.is_done is not asks_for_it


def test_an_owner_is_found_by_part_of_its_name(by):
    assert "Birch" not in text_of(by("cato").get("/legal/owners/?find=alder"))


def test_a_corpus_is_described_and_its_twin_refused_at_the_name(by):
    asked = {
        "slug": "maps",
        "title": "Maps",
        "source_licence": "own",
        "languages": "en nl",
        "document_count": "3",
        "text_bytes": "900",
    }
    cato = by("cato")
    assert cato.post("/legal/owners/alder-press/", asked).status_code == 302
    assert Corpus.objects.get(slug="maps").languages == ["en", "nl"]
    again = cato.post("/legal/owners/alder-press/", asked)
    assert again.status_code == 422
    assert list(errors_of(again)) == ["slug"]


def test_a_licence_is_requested_and_waits(by):
    answer = by("cato").post("/legal/licences/new/", {**TERMS, "on_withdrawal": "recompute"})
    assert answer.url == "/legal/licences/plays-texts-v2/"
    licence = Licence.objects.get(reference="plays-texts-v2")
    assert licence.state == LicenceState.REQUESTED
    assert (licence.consumers, licence.territories) == (None, None)
    assert licence.on_withdrawal == "recompute"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"ends_on": "2025-01-01"}, "ends_on"),
        ({"uses": []}, "uses"),
        ({"purposes": []}, "purposes"),
        ({"territories": "DE Bavaria"}, "territories"),
        ({"consumers": ["dara"], "excluded_consumers": ["dara"]}, "excluded_consumers"),
        ({"max_extraction_rate": "2"}, "max_extraction_rate"),
        ({"corpus": "nobodys"}, "corpus"),
    ],
)
def test_terms_that_do_not_hold_together_are_refused_at_their_field(by, change, field):
    answer = by("cato").post("/legal/licences/new/", {**TERMS, **change})
    assert answer.status_code == 422
    assert list(errors_of(answer)) == [field]
    assert not Licence.objects.filter(reference="plays-texts-v2").exists()


def test_nobody_approves_what_they_requested(by):
    path = "/legal/licences/plays-texts-v1/"
    assert f"{path}approve/" not in text_of(by("cato").get(path))
    refused = by("cato").post(f"{path}approve/", follow=True)
    assert "expected a second person" in text_of(refused)
    assert Licence.objects.get(reference="plays-texts-v1").state == LicenceState.REQUESTED


def test_a_second_person_approves_and_policy_follows(by):
    before = snapshots.current().policy_epoch
    path = "/legal/licences/plays-texts-v1/"
    assert f"{path}approve/" in text_of(by("celia").get(path))
    answer = by("celia").post(f"{path}approve/", {"note": "Read in full"}, follow=True)
    assert "plays-texts-v1 is approved." in text_of(answer)
    assert Licence.objects.get(reference="plays-texts-v1").decision_note == "Read in full"
    assert snapshots.current().policy_epoch == before + 1


def test_a_second_person_rejects(by):
    by("celia").post("/legal/licences/plays-texts-v1/reject/")
    assert Licence.objects.get(reference="plays-texts-v1").state == LicenceState.REJECTED


def test_only_approve_and_reject_are_verbs(by):
    assert by("celia").post("/legal/licences/plays-texts-v1/delete/").status_code == 404


def test_a_licence_is_suspended_and_resumed(by):
    path, celia = "/legal/licences/code-texts-v1/", by("celia")
    celia.post(f"{path}end/", {"instrument": "suspend", "reason": "A complaint"})
    licence = Licence.objects.get(reference="code-texts-v1")
    assert not Licence.objects.in_force(timezone.now()).filter(pk=licence.pk).exists()
    assert "Lift the suspension" in text_of(celia.get(path))
    assert "Suspend<" in text_of(celia.get("/legal/licences/?state=approved"))
    celia.post(f"{path}resume/", {"reason": "Settled"})
    assert Licence.objects.in_force(timezone.now()).filter(pk=licence.pk).exists()
    assert "Suspension lifted" in text_of(celia.get(f"{path}history/"))
    listed = celia.get("/legal/licences/").context["shown"].rows
    assert not any(row.standing for row in listed)
    assert "There is nothing to lift." in text_of(celia.post(f"{path}resume/", follow=True))


def test_a_termination_waits_for_its_notice(by):
    path = "/legal/licences/code-texts-v1/"
    by("celia").post(f"{path}end/", {"instrument": "terminate", "reason": "Agreed"})
    ending = Licence.objects.get(reference="code-texts-v1").endings.get()
    assert ending.instrument == Instrument.TERMINATE
    assert ending.effective_at - ending.recorded_at >= timedelta(days=13)


def test_an_ending_without_a_reason_is_refused_at_the_field(by):
    answer = by("celia").post("/legal/licences/code-texts-v1/end/", {"instrument": "revoke"})
    assert answer.status_code == 422
    assert list(answer.context["end_form"].errors) == ["reason"]
    assert not Licence.objects.get(reference="code-texts-v1").endings.exists()


def test_a_licence_never_approved_cannot_be_ended(by):
    asked = {"instrument": "revoke", "reason": "x"}
    answer = by("celia").post("/legal/licences/plays-texts-v1/end/", asked)
    assert answer.status_code == 422
    assert "Reject it instead" in text_of(answer)


def test_an_activation_is_decided_by_somebody_else(by, story):
    page = text_of(by("celia").get("/legal/approvals/"))
    assert "plays-texts-v1" in page
    assert "Activation of Laws" in page
    by("celia").post(f"/legal/revisions/{story.waiting_revision.pk}/approve/")
    story.waiting_revision.refresh_from_db()
    assert story.waiting_revision.state == RevisionState.ACTIVATED


def test_an_unknown_activation_is_not_there(by):
    zero = "00000000-0000-0000-0000-000000000000"
    assert by("celia").post(f"/legal/revisions/{zero}/approve/").status_code == 404


def test_what_is_due_names_endings_gaps_and_failures(by):
    page = text_of(by("cato").get("/legal/due/"))
    for said in ("code-texts-v1", "folklore", "expected 1.2 GB free", "Withdraw: poems"):
        assert said in page


def test_the_log_shows_its_newest_event_first(by):
    answer = by("aude").get("/legal/log/")
    numbers = [event["seq"] for event in answer.context["events"]]
    assert numbers == sorted(numbers, reverse=True)
    assert len(numbers) == 25
    assert {event["by"] for event in answer.context["events"]} >= {"system", "Cato", "Edda"}


def test_the_whole_log_is_checked_on_demand(by):
    answer = by("aude").post("/legal/log/verify/", headers={"HX-Request": "true"})
    assert answer.status_code == 200
    assert answer.context["report"].size > 25


def test_a_consumer_is_registered_and_its_key_shown_once(by):
    cato = by("cato")
    asked = {"name": "Ember Analytics", "territory": "DE", "sector": "J"}
    assert cato.post("/legal/consumers/", asked).url == "/legal/consumers/ember-analytics/"
    path = "/legal/consumers/ember-analytics/"
    terms = {"label": "first", "purposes": ["research"], "requests_per_minute": 1200}
    shown = cato.post(f"{path}keys/", terms)
    key = ApiKey.objects.get(consumer__slug="ember-analytics")
    assert f"rk_{key.prefix}_" in text_of(shown)
    assert "no-store" in shown.headers["Cache-Control"]
    again = text_of(cato.get(path))
    assert key.prefix in again
    assert f"rk_{key.prefix}_" not in again
    about = text_of(cato.get(f"{path}keys/{key.prefix}/"))
    assert "Requests per minute" in about
    assert "1,200" in about
    assert about.count("No limit") == 2


@pytest.mark.parametrize(
    ("change", "field"), [({"purposes": []}, "purposes"), ({"label": ""}, "label")]
)
def test_a_key_without_purpose_or_label_is_refused(by, change, field):
    asked = {"label": "first", "purposes": ["research"], **change}
    answer = by("cato").post("/legal/consumers/dara/keys/", asked)
    assert answer.status_code == 422
    assert list(answer.context["form"].errors) == [field]


def test_a_revoked_key_opens_nothing_any_more(by, story):
    prefix = story.cast.dara_key.api_key.prefix
    by("cato").post(f"/legal/consumers/dara/keys/{prefix}/revoke/")
    assert ApiKey.objects.get(prefix=prefix).revoked_at is not None


def test_a_consumer_of_no_country_is_refused_at_the_field(by):
    answer = by("cato").post("/legal/consumers/", {"name": "Ember", "territory": "Germany"})
    assert answer.status_code == 422
    assert list(errors_of(answer)) == ["territory"]
    assert not Consumer.objects.filter(name="Ember").exists()


def test_a_member_is_invited(by):
    asked = {"full_name": "Ann", "email": "ann@example.org"}
    by("cato").post("/legal/owners/alder-press/members/", asked)
    invitation = Invitation.objects.get(owner__slug="alder-press", email="ann@example.org")
    assert (invitation.full_name, invitation.owner_role) == ("Ann", "viewer")


def test_a_member_without_an_address_is_refused_at_the_field(by):
    answer = by("cato").post("/legal/owners/alder-press/members/", {"full_name": "Ann"})
    assert answer.status_code == 422
    assert list(answer.context["member_form"].errors) == ["email"]
