"""Owners, consumers, people, consents, groups, clocks: what pages do, done over REST."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core import mail
from django.utils import timezone

from governance.models import (
    ApiKey,
    ApprovalRequest,
    ConsentRecord,
    DataOwner,
    Invitation,
    Membership,
    NoticePreference,
)
from governance.services import clocks
from governance.vocabulary import Clock, FollowUpKind
from tests import factories
from tests.web.api.test_api import API, post, refusal


def patch(client, path, **facts):
    return client.patch(f"{API}/{path}", facts, content_type="application/json")


# path, method, body, who may; everyone else of the cast must find nothing there
ACTS = {
    "owners/alder-press": ("patch", {"dpo_name": "Dee"}, "cato", 200),
    "owners/alder-press/status": ("post", {"to": "suspended", "reason": "x"}, "cato", 200),
    "consumers/dara": ("patch", {"sector": "education"}, "cato", 200),
    "consumers/dara/status": ("post", {"to": "suspended"}, "cato", 200),
    "owners/alder-press/people": (
        "post",
        {"email": "abe@example.org", "full_name": "Abe", "owner_role": "viewer"},
        "ada",
        201,
    ),
    "staff": (
        "post", {"email": "cleo@example.org", "full_name": "Cleo", "role": "legal"}, "cato", 201,
    ),
    "approval-groups": ("post", {"name": "board", "members": ["celia@example.org"]}, "cato", 200),
}  # fmt: skip


@pytest.mark.parametrize("path", ACTS)
def test_an_act_is_for_its_people_alone(by, path):
    method, asked, name, status = ACTS[path]
    for other in ("bela", "edda", "aude", "mallory"):
        answer = getattr(by(other), method)(f"{API}/{path}", asked, content_type="application/json")
        assert refusal(answer, 404)["code"] == "not_found", other
    answer = getattr(by(name), method)(f"{API}/{path}", asked, content_type="application/json")
    assert answer.status_code == status, answer.content


def test_an_owner_is_edited_fact_by_fact(by, story):
    before = by("cato").get(f"{API}/owners/alder-press").json()
    after = patch(by("cato"), "owners/alder-press", dpo_name="Dee", jurisdiction="BE").json()
    assert (after["dpo_name"], after["jurisdiction"]) == ("Dee", "BE")
    assert {name for name in before if before[name] != after[name]} == {"dpo_name", "jurisdiction"}
    assert "jurisdiction" in refusal(
        patch(by("cato"), "owners/alder-press", jurisdiction="be"), 422
    )["fields"]  # fmt: skip
    assert by("ada").get(f"{API}/owners/alder-press").json() == after
    refusal(by("bela").get(f"{API}/owners/alder-press"), 404)
    refusal(patch(by("ada"), "owners/alder-press", dpo_name="Ada"), 404)


def test_an_edit_is_bound_to_the_version_it_was_read_at(by):
    client = by("cato")
    version = client.get(f"{API}/owners/alder-press")["ETag"]
    for expected in (200, 412):
        answer = client.patch(
            f"{API}/owners/alder-press", {"dpo_name": "Dee"}, content_type="application/json",
            headers={"If-Match": version},
        )  # fmt: skip
        assert answer.status_code == expected


def test_an_owner_moves_and_a_consumer_is_suspended_at_once(by, story):
    told = post(by("cato"), "owners/alder-press/status", {"to": "left"})
    assert "in use" in refusal(told, 409)["detail"]
    moved = post(by("cato"), "consumers/dara/status", {"to": "suspended", "reason": "Unpaid"})
    assert moved.json()["status"] == "suspended"


def test_an_owner_is_registered_with_all_its_facts(by):
    asked = {
        "legal_name": "Cedar", "jurisdiction": "FR", "registry_number": "7", "dpo_email": "d@x.org",
        "postal_address": "Rue 1", "signatory_name": "Cy",
    }  # fmt: skip
    made = post(by("cato"), "owners", asked).json()
    assert {name: made[name] for name in asked} == asked
    again = refusal(post(by("cato"), "owners", {**asked, "registry_number": "8"}), 422)
    assert again["fields"]
    assert DataOwner.objects.filter(legal_name="Cedar").count() == 1


def test_a_key_is_rotated_and_the_old_secret_ends_in_its_time(by, story):
    prefix = ApiKey.objects.get(consumer=story.cast.dara).prefix
    answer = post(by("cato"), f"consumers/dara/keys/{prefix}/rotate", {"overlap_hours": 2})
    assert "no-store" in answer["Cache-Control"]
    assert answer.json()["secret"].startswith(f"rk_{prefix}_")
    key = ApiKey.objects.get(prefix=prefix)
    assert key.previous_until - key.rotated_at == timedelta(hours=2)
    refusal(post(by("ada"), f"consumers/dara/keys/{prefix}/rotate"), 404)


def test_members_are_invited_given_roles_and_removed(by, story):
    asked = {"email": "abe@example.org", "full_name": "Abe", "owner_role": "viewer"}
    sent = post(by("ada"), "owners/alder-press/people", asked).json()
    assert sent["is_mailed"]
    assert mail.outbox[-1].to == ["abe@example.org"]
    people = by("ada").get(f"{API}/owners/alder-press/people").json()
    assert [one["email"] for one in people["members"]] == ["ada@example.org"]
    assert [one["id"] for one in people["invited"]] == [sent["id"]]
    refusal(post(by("bela"), f"invitations/{sent['id']}/revoke"), 404)
    too_soon = refusal(post(by("ada"), f"invitations/{sent['id']}/resend"), 409)
    assert "a minute apart" in too_soon["detail"]
    Invitation.objects.update(sent_at=timezone.now() - timedelta(minutes=2))
    assert post(by("ada"), f"invitations/{sent['id']}/resend").json()["sent_count"] == 2
    assert post(by("ada"), f"invitations/{sent['id']}/revoke").json()["revoked_at"]
    assert Invitation.objects.get(pk=sent["id"]).revoked_at is not None

    member = people["members"][0]["id"]
    refusal(post(by("bela"), f"members/{member}/role", {"owner_role": "viewer"}), 404)
    role = {"owner_role": "signatory"}
    assert post(by("cato"), f"members/{member}/role", role).json()["owner_role"] == "signatory"
    refusal(post(by("bela"), f"members/{member}/remove"), 404)
    assert post(by("cato"), f"members/{member}/remove").status_code == 204
    assert not Membership.objects.filter(pk=member).exists()
    refusal(by("ada").get(f"{API}/owners/alder-press/people"), 404)


def test_the_last_of_legal_staff_stays(by, story):
    members = by("cato").get(f"{API}/staff").json()["members"]
    legal = [one["id"] for one in members if one["role"] == "legal"]
    codes = [post(by("cato"), f"members/{each}/remove").status_code for each in legal]
    assert sorted(codes)[0] == 204
    assert Membership.objects.filter(role="legal").exists()


def test_consents_are_read_by_their_owner_and_law_alone(by, story):
    record = ConsentRecord.objects.get(expert__name="code")
    for name, seen in {
        "ada": True,
        "cato": True,
        "aude": True,
        "bela": False,
        "edda": False,
    }.items():
        rows = by(name).get(f"{API}/consents").json()["results"]
        assert (str(record.pk) in {row["id"] for row in rows}) is seen, name
        assert by(name).get(f"{API}/consents/{record.pk}").status_code == (200 if seen else 404)
    asked = {"activity": "train", "lawful_basis": "contract"}
    assert post(by("cato"), f"consents/{record.pk}/basis", asked).status_code == 201
    refusal(post(by("ada"), f"consents/{record.pk}/basis", asked), 404)


def test_nobody_puts_themselves_into_a_group(by):
    own = {"name": "board", "members": ["cato@example.org"]}
    refusal(post(by("cato"), "approval-groups", own), 409)
    unknown = {"name": "board", "members": ["nobody@example.org"]}
    assert "members" in refusal(post(by("cato"), "approval-groups", unknown), 400)["fields"]
    assert post(by("celia"), "approval-groups", own).json()["members"] == ["cato@example.org"]
    assert by("edda").get(f"{API}/approval-groups").json()[0]["name"] == "board"


def test_an_absence_is_ended_by_whoever_gave_it(by):
    now = timezone.now()
    asked = {"taker": "celia@example.org", "starts_at": now, "ends_at": now + timedelta(days=2)}
    row = post(by("cato"), "absences", asked).json()
    refusal(post(by("celia"), f"absences/{row['id']}/end"), 404)
    assert post(by("cato"), f"absences/{row['id']}/end").json()["revoked_at"]


def test_an_approved_key_is_issued_once_exactly_as_approved(by):
    route = {
        "key": "api-key", "kind": "api_key", "title": "Keys", "is_on": True,
        "steps": [{"title": "A second person", "role": "legal"}],
    }  # fmt: skip
    proposed = post(by("cato"), "approval-routes", route).json()["id"]
    assert post(by("celia"), f"approvals/{proposed}/approve").status_code == 200
    asked = {
        "consumer": "dara", "label": "batch", "purposes": ["research"], "tokens_per_minute": 900,
    }  # fmt: skip
    request = post(by("cato"), "approvals/keys", asked).json()["id"]
    refusal(post(by("cato"), f"approvals/{request}/issue"), 404)
    assert post(by("celia"), f"approvals/{request}/approve").status_code == 200
    refusal(post(by("edda"), f"approvals/{request}/issue"), 404)
    made = post(by("cato"), f"approvals/{request}/issue")
    assert (made.status_code, made.json()["label"]) == (201, "batch")
    assert (made.json()["tokens_per_minute"], made.json()["answers_at_once"]) == (900, None)
    refusal(post(by("cato"), f"approvals/{request}/issue"), 403)
    assert ApprovalRequest.objects.get(pk=request).spent_at is not None


def test_a_clock_stands_still_with_its_reason_and_runs_again(by, story):
    gap = factories.follow_up(FollowUpKind.RESOLVE_GAP)
    path = f"clocks/gap/{gap.pk}"
    assert post(by("cato"), f"{path}/pause").status_code == 422
    assert post(by("cato"), f"{path}/pause", {"reason": "Court"}).status_code == 204
    assert clocks.standing(Clock.GAP, gap.pk) is not None
    assert post(by("cato"), f"{path}/resume").status_code == 204
    assert clocks.standing(Clock.GAP, gap.pk) is None
    refusal(post(by("ada"), f"{path}/pause", {"reason": "x"}), 404)
    refusal(post(by("cato"), f"clocks/sundial/{gap.pk}/pause"), 404)


def test_a_gap_is_seen_to_by_law_alone(by, story):
    gap = factories.follow_up(FollowUpKind.RESOLVE_GAP)
    refusal(post(by("edda"), f"gaps/{gap.pk}/resolve", {"note": "Read it"}), 404)
    assert post(by("cato"), f"gaps/{gap.pk}/resolve", {"note": "Read it"}).json()["state"] == "done"


def test_one_says_how_to_be_told(by, story):
    asked = {"mail": "daily", "never_mailed": ["statement_issued"]}
    kinds = by("ada").get(f"{API}/notices/preferences").json()
    assert kinds["mail"]
    answer = post(by("ada"), "notices/preferences", {**asked, "never_mailed": []})
    assert answer.json() == {"mail": "daily", "never_mailed": []}
    assert NoticePreference.objects.get(account=story.cast.ada).mail == "daily"
    refusal(post(by("ada"), "notices/preferences", {"mail": "hourly"}), 400)


# ── Evidence ─────────────────────────────────────────────────────────────────────────────────────
def test_an_owners_history_tells_each_change_newest_first(by):
    assert patch(by("cato"), "owners/alder-press", contact_name="Iris Blom").status_code == 200
    told = by("cato").get(f"{API}/owners/alder-press/history").json()["results"]
    assert {one["reason"] for one in told} >= {"registered"}
    [edit] = [one for one in told if one["changed"] == ["contact_name"]]
    assert (edit["facts"]["contact_name"], edit["actor"]) == ("Iris Blom", "Cato")
    assert [one["at"] for one in told] == sorted((one["at"] for one in told), reverse=True)
    assert by("ada").get(f"{API}/owners/alder-press/history").status_code == 404


def test_the_log_is_checked_over_rest_by_law_and_auditors(by):
    assert by("aude").get("/api/v1/log/verification").json()["is_sound"] is True
    assert by("ada").get("/api/v1/log/verification").status_code == 404


def test_a_consent_reads_as_linked_data(by):
    record = by("ada").get("/api/v1/consents").json()["results"][0]
    told = by("ada").get(f"/api/v1/consents/{record['id']}/linked-data").json()
    assert "@context" in told
    assert by("bela").get(f"/api/v1/consents/{record['id']}/linked-data").status_code == 404
