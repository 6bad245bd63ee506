"""What may be done to many rows at once: the same acts under the same law, row by row."""

from __future__ import annotations

import csv
import io
import time
from datetime import timedelta

import pytest
from django.utils import timezone

from governance.models import Consumer, Duty, Ending, Licence
from governance.services import consumers, duties, licences
from governance.services import terms as terms_of
from governance.vocabulary import LicenceState, OwnerStatus, Purpose
from tests import factories
from web import stepup

LISTS = {
    "owners": ("cato", "/legal/owners/"),
    "consumers": ("cato", "/legal/consumers/"),
    "keys": ("cato", "/legal/keys/"),
    "corpora": ("aude", "/legal/corpora/"),
    "licences": ("cato", "/legal/licences/"),
    "duties": ("cato", "/legal/duties/"),
    "statements": ("cato", "/legal/statements/"),
    "consents": ("aude", "/legal/consents/"),
    "own-consents": ("ada", "/owner/consents/"),
    "decisions": ("aude", "/legal/decisions/"),
    "experts": ("edda", "/engineer/experts/"),
}


def carry_out(client, listing: str, act: str, *, query: str = "", reason: str = ""):
    """Pick all rows of a filter, look at what would happen, and press the button."""
    asked = {"act": act, "which": "all", "query": query}
    looked = client.post(f"/lists/{listing}/act/", asked)
    assert looked.status_code == 200
    sent = {
        "act": act,
        "query": query,
        "confirmed": looked.context["count"],
        "row": [str(row.pk) for row in looked.context["rows"]],
        "reason": reason,
    }
    return client.post(f"/lists/{listing}/act/", sent)


def refusals(done) -> dict[str, str]:
    """The refusal of each row by its name; empty where it was done."""
    return {str(outcome.row): outcome.refusal for outcome in done.context["outcomes"]}


@pytest.mark.parametrize("name", LISTS)
def test_each_list_shows_and_exports_the_same_rows(by, story, name):
    who, path = LISTS[name]
    client = by(who)
    shown = client.get(path).context["shown"]
    answer = client.get(f"/lists/{name}/export.csv")
    rows = list(csv.reader(io.StringIO(answer.content.decode())))
    assert rows[0] == [column.title for column in shown.listing.columns]
    assert str(len(rows) - 1) == shown.count_words
    assert "[invalid name]" not in [field.label for field in shown.form]
    for sort in shown.listing.sorts:
        assert client.get(path, {"sort": f"-{sort}"}).status_code == 200


@pytest.mark.parametrize("name", LISTS)
def test_what_nothing_matches_says_so(by, story, name):
    who, path = LISTS[name]
    word = {"decisions": "consumer"}.get(name, "find")
    answer = by(who).get(path, {word: "no such thing"})
    assert not answer.context["shown"].rows
    assert "matches" in answer.content.decode()


@pytest.mark.parametrize("name", LISTS)
def test_no_list_is_exported_to_whoever_may_not_see_it(by, story, name):
    stranger = "edda" if name != "experts" else "cato"
    assert by(stranger).get(f"/lists/{name}/export.csv").status_code == 404
    assert by("mallory").get(f"/lists/{name}/export.csv").status_code == 404


def test_an_owner_exports_its_own_consents_alone(by, story):
    answer = by("bela").get("/lists/own-consents/export.csv").content.decode()
    assert "Birch Archive" in answer
    assert "Alder Press" not in answer


@pytest.mark.parametrize(
    ("name", "query", "found"),
    [
        ("owners", {"find": "birch"}, ["Birch Archive"]),
        ("owners", {"status": "suspended"}, []),
        ("owners", {"jurisdiction": "xx"}, []),
        ("corpora", {"find": "alder plays"}, ["Plays, 1600 to 1900"]),
        ("corpora", {"about": "reserved"}, []),
        ("duties", {"shown": "done"}, []),
        ("statements", {"month": "1999-01"}, []),
        ("keys", {"standing": "revoked"}, []),
    ],
)
def test_filters_find(by, story, name, query, found):
    who, path = LISTS[name]
    shown = by(who).get(path, query).context["shown"]
    assert sorted(str(row).lower() for row in shown.rows) == sorted(one.lower() for one in found)


def test_nobody_approves_their_own_in_bulk_but_the_others_go_through(by, story):
    mine = story.waiting_licence
    theirs = licences.request(
        factories.corpus(), terms=terms_of.of(mine), by=story.cast.celia, at=timezone.now()
    )
    said = refusals(
        carry_out(by("cato"), "licences", "approve", query="state=requested", reason="Read")
    )
    assert "expected a second person" in said[mine.reference]
    assert said[theirs.reference] == ""
    mine.refresh_from_db()
    theirs.refresh_from_db()
    assert (mine.state, theirs.state) == (LicenceState.REQUESTED, LicenceState.APPROVED)
    assert theirs.decision_note == "Read"


@pytest.mark.parametrize("act", ["approve", "reject", "suspend"])
def test_a_legal_act_on_many_asks_who_it_is_and_loses_nothing(by, story, act):
    client = by("celia")
    session = client.session
    session[stepup.LOGGED_IN] = time.time() - 3600
    session.save()
    done = carry_out(client, "licences", act, query="find=plays", reason="Read in full")
    assert done.status_code == 302
    assert "/account/reauthenticate/" in done.url
    assert story.waiting_licence.state == Licence.objects.get(pk=story.waiting_licence.pk).state
    assert not Ending.objects.filter(licence=story.waiting_licence).exists()
    kept = dict(client.session[stepup.KEPT]["fields"])
    assert (kept["reason"], kept["act"]) == ("Read in full", act)


def test_renewals_are_requested_for_as_long_again_and_decided_by_others(by, story):
    former = story.licence("code")
    done = carry_out(by("cato"), "licences", "renew", query=f"find={former.reference}")
    assert refusals(done) == {former.reference: ""}
    asked = Licence.objects.get(supersedes=former)
    assert asked.state == LicenceState.REQUESTED
    assert asked.starts_at == former.ends_at
    assert asked.ends_at - asked.starts_at == former.ends_at - former.starts_at
    assert asked.purposes == former.purposes
    again = carry_out(by("cato"), "licences", "renew", query=f"find={former.reference}")
    assert "supersedes" in refusals(again)[former.reference]


def test_what_has_no_end_is_not_renewed(by, story):
    open_ended = story.licence("languages")
    done = carry_out(by("cato"), "licences", "renew", query=f"find={open_ended.reference}")
    assert "open-ended" in refusals(done)[open_ended.reference]
    assert not Licence.objects.filter(supersedes=open_ended).exists()


def test_many_licences_are_suspended_with_a_reason(by, story):
    done = carry_out(
        by("cato"), "licences", "suspend", query="find=alder&standing=in_force", reason="Complaint"
    )
    done_rows = [name for name, said in refusals(done).items() if not said]
    assert len(done_rows) >= 2
    suspended = Ending.objects.filter(instrument="suspend", reason="Complaint")
    assert {str(one.licence) for one in suspended} == set(done_rows)


def test_consumers_are_suspended_and_their_keys_open_nothing(by, story):
    others = [factories.consumer(name=f"Tall Trees {number}") for number in range(2)]
    key = consumers.issue_key(
        others[0], label="k", purposes=[Purpose.RESEARCH], expires_at=None, by=None,
        at=timezone.now(),
    )  # fmt: skip
    assert consumers.authenticate(key.secret, at=timezone.now())
    done = carry_out(by("cato"), "consumers", "suspend", query="find=tall+trees", reason="Unpaid")
    assert list(refusals(done).values()) == ["", ""]
    assert set(Consumer.objects.filter(name__startswith="Tall")
               .values_list("status", flat=True)) == {"suspended"}  # fmt: skip
    assert consumers.authenticate(key.secret, at=timezone.now()) is None
    carry_out(by("cato"), "consumers", "resume", query="find=tall+trees", reason="Paid")
    assert consumers.authenticate(key.secret, at=timezone.now())


def test_keys_are_revoked_for_good(by, story):
    keys = [factories.api_key(label="old one") for _ in range(2)]
    carry_out(by("cato"), "keys", "revoke", query="find=old")
    for key in keys:
        key.refresh_from_db()
        assert key.revoked_at is not None


def test_an_owner_that_left_is_not_suspended_and_the_others_are(by, story):
    gone = factories.owner(legal_name="Tall Oaks", status=OwnerStatus.LEFT)
    here = factories.owner(legal_name="Tall Elms")
    done = carry_out(by("cato"), "owners", "suspend", query="find=tall", reason="Complaint")
    assert refusals(done)["Tall Oaks"]
    here.refresh_from_db()
    gone.refresh_from_db()
    assert (here.status, gone.status) == (OwnerStatus.SUSPENDED, OwnerStatus.LEFT)
    carry_out(by("cato"), "owners", "activate", query="find=elms", reason="Settled")
    here.refresh_from_db()
    assert here.status == OwnerStatus.ACTIVE


def test_duties_are_closed_with_one_proof(by, story):
    yesterday = timezone.now() - timedelta(days=1)
    licence = factories.licence(
        corpus=factories.corpus(owner=story.cast.birch),
        starts_at=yesterday,
        decided_at=yesterday,
        requires_attribution=True,
        attribution_text="By Birch Archive",
    )
    duties.open_due(at=timezone.now())
    waiting = Duty.objects.filter(licence=licence, done_at=None)
    assert waiting.exists()
    carry_out(by("cato"), "duties", "done", query="find=birch", reason="Sent on paper")
    assert not waiting.exists()
    assert set(Duty.objects.filter(licence=licence).values_list("proof", flat=True)) == {
        "Sent on paper"
    }
