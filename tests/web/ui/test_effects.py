"""Pages of instruments, holds, notices and webhooks: who sees what, and what a click does."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from governance.models import Ending, FollowUp, LegalHold, Notice, WebhookDelivery, WebhookEndpoint
from governance.services import holds, notices
from governance.vocabulary import ExpertState, FollowUpKind, FollowUpState
from tests import factories

HTMX = {"HX-Request": "true"}


def text_of(answer) -> str:
    assert answer.status_code == 200, answer.status_code
    return answer.content.decode()


def told(account, **fields):
    defaults = {
        "key": f"n{Notice.objects.count()}",
        "kind": "expert.withdrawn",
        "subject": "expert:code",
        "title": "Expert code is withdrawn",
        "text": "Disabled for everyone now.",
        "account": account,
    }
    return Notice.objects.create(**{**defaults, **fields})


# ── Preview and scope ────────────────────────────────────────────────────────────────────────────
def test_an_owner_sees_what_a_withdrawal_would_do_before_the_click(by):
    page = text_of(by("ada").get("/owner/experts/code/"))
    assert "/effects/experts/code/" in page
    assert "now: everything" in page
    shown = text_of(by("ada").get("/effects/experts/code/", headers=HTMX))
    assert "disabled at once" in shown
    assert "Yes, all of it" in shown


def test_a_preview_of_a_part_says_that_nothing_is_erased(by):
    shown = text_of(by("ada").get("/effects/experts/code/?purposes=research", headers=HTMX))
    assert "Disabled, not erased" in shown
    assert "Nothing" in shown


@pytest.mark.parametrize(
    ("who", "path", "status"),
    [
        ("bela", "/effects/experts/code/", 404),
        ("mallory", "/effects/experts/code/", 404),
        ("edda", "/effects/experts/code/", 200),
        ("cato", "/effects/experts/code/", 200),
        ("cato", "/effects/experts/code/?instrument=astrology", 404),
        ("edda", "/legal/experts/code/", 404),
        ("ada", "/legal/experts/code/", 404),
        ("aude", "/legal/experts/code/", 404),
    ],
)
def test_what_is_not_for_a_person_is_not_there(by, who, path, status):
    assert by(who).get(path).status_code == status


def test_an_owner_takes_back_a_part_with_one_click(by, story):
    answer = by("ada").post(
        "/owner/experts/code/withdraw/", {"purposes": ["research"], "reason": "only that"}
    )
    assert answer.url == "/owner/experts/code/"
    ending = Ending.objects.latest("recorded_at")
    assert (ending.purposes, ending.erases) == (["research"], False)


def test_an_owner_still_takes_back_everything_with_one_click(by):
    answer = by("ada").post("/owner/experts/code/withdraw/")
    assert answer.url.startswith("/owner/withdrawals/")
    assert Ending.objects.latest("recorded_at").erases


def test_an_odd_scope_changes_nothing(by):
    before = Ending.objects.count()
    by("ada").post("/owner/experts/code/withdraw/", {"purposes": ["astrology"]})
    assert Ending.objects.count() == before


def test_an_owner_pauses_and_lifts_and_an_engineer_cannot_lift_that(by, story):
    path, back = "/effects/experts/code/", {"back": "/owner/experts/code/"}
    assert by("ada").post(f"{path}suspend/", back).url == "/owner/experts/code/"
    expert = story.cast.experts["code"]
    expert.refresh_from_db()
    assert expert.state == ExpertState.SUSPENDED
    by("edda").post(f"{path}resume/", {})
    expert.refresh_from_db()
    assert expert.state == ExpertState.SUSPENDED
    by("ada").post(f"{path}resume/", back)
    expert.refresh_from_db()
    assert expert.state == ExpertState.ACTIVE


def test_a_form_sends_nobody_to_a_foreign_site(by):
    answer = by("ada").post(
        "/effects/experts/code/suspend/", {"back": "https://elsewhere.example/"}
    )
    assert answer.url == "/"


# ── Holds ────────────────────────────────────────────────────────────────────────────────────────
def test_a_hold_is_asked_for_by_one_and_approved_by_another(by):
    until = (timezone.now() + timedelta(days=40)).date().isoformat()
    asked = {"authority": "Court, 1 K 2/27", "reason": "evidence", "until_on": until}
    assert by("cato").post("/legal/experts/code/hold/", asked).status_code == 302
    hold = LegalHold.objects.get()
    by("cato").post(f"/legal/holds/{hold.pk}/approve/")
    hold.refresh_from_db()
    assert hold.state == "requested"
    by("celia").post(f"/legal/holds/{hold.pk}/approve/")
    hold.refresh_from_db()
    assert hold.state == "in_force"
    page = text_of(by("cato").get("/legal/experts/code/"))
    assert "Court, 1 K 2/27" in page


def test_a_hold_without_its_terms_is_shown_again(by):
    assert by("cato").post("/legal/experts/code/hold/", {}).status_code == 422
    assert not LegalHold.objects.exists()


def test_the_owner_is_shown_the_hold(by, story):
    expert = story.withdrawal.expert
    asked = holds.request(
        expert,
        authority="Court of Delft",
        reason="r",
        until_at=timezone.now() + timedelta(days=9),
        by=story.cast.cato,
        at=timezone.now(),
    )
    holds.approve(asked, by=story.cast.celia, at=timezone.now())
    name = "ada" if expert.owner == story.cast.alder else "bela"
    assert "Court of Delft" in text_of(by(name).get(f"/owner/withdrawals/{story.withdrawal.pk}/"))


def test_legal_staff_put_an_instrument_into_effect(by):
    answer = by("cato").post(
        "/legal/experts/code/effect/",
        {"instrument": "revoke", "reason": "breach", "purposes": ["research"]},
    )
    assert answer.status_code == 302
    ending = Ending.objects.latest("recorded_at")
    assert (ending.instrument, ending.purposes) == ("revoke", ["research"])


def test_who_ordered_it_stands_on_the_pages(by):
    act = {
        "instrument": "invalidate", "reason": "x", "purposes": ["research"],
        "authority": "Court of Utrecht", "authority_reference": "C/16/1", "authority_url": "https://court.example/c-16-1",
    }  # fmt: skip
    refused = by("cato").post("/legal/experts/code/effect/", {**act, "authority_url": "ftp://x"})
    assert (refused.status_code, list(refused.context["effect_form"].errors)) == (
        422, ["authority_url"],
    )  # fmt: skip
    by("cato").post("/legal/experts/code/effect/", act)
    by("cato").post("/legal/licences/code-texts-v1/end/", act)
    for page in ("experts/code/", "licences/code-texts-v1/history/", "due/"):
        told = text_of(by("cato").get(f"/legal/{page}"))
        assert 'Ordered by Court of Utrecht, file C/16/1, <a href="https://court' in told


# ── Due ──────────────────────────────────────────────────────────────────────────────────────────
def test_a_gap_is_resolved_from_the_board_with_a_note(by):
    gap = FollowUp.objects.filter(kind=FollowUpKind.RESOLVE_GAP).first()
    by("cato").post(f"/legal/due/gaps/{gap.pk}/", {"note": " "})
    gap.refresh_from_db()
    assert gap.state != FollowUpState.DONE
    by("cato").post(f"/legal/due/gaps/{gap.pk}/", {"note": "terms corrected"})
    gap.refresh_from_db()
    assert (gap.state, gap.evidence["note"]) == (FollowUpState.DONE, "terms corrected")


def test_a_clock_is_paused_with_its_reason_and_runs_again(by):
    gap = FollowUp.objects.filter(kind=FollowUpKind.RESOLVE_GAP).first()
    by("cato").post(f"/legal/due/gap/{gap.pk}/pause/", {"reason": "asked the owner"})
    assert "asked the owner" in text_of(by("cato").get("/legal/due/?clock=gap"))
    by("cato").post(f"/legal/due/gap/{gap.pk}/resume/")
    assert "asked the owner" not in text_of(by("cato").get("/legal/due/?clock=gap"))


def test_the_laws_own_clock_is_not_paused_from_the_board(by, story):
    by("cato").post(f"/legal/due/withdrawal/{story.withdrawal.pk}/pause/", {"reason": "busy"})
    assert "busy" not in text_of(by("cato").get("/legal/due/"))


# ── Notices ──────────────────────────────────────────────────────────────────────────────────────
def test_an_inbox_shows_ones_own_and_counts_what_is_unread(by, story):
    mine = told(story.cast.ada)
    told(story.cast.bela, title="Somebody else's")
    page = text_of(by("ada").get("/notices/"))
    assert mine.title in page
    assert "Somebody else" not in page
    assert ", 1 unread" in page
    assert by("ada").get(f"/notices/{mine.pk}/").url == "/owner/experts/code/"
    assert ", 1 unread" not in text_of(by("ada").get("/notices/"))
    assert by("bela").get(f"/notices/{mine.pk}/").status_code == 404


def test_a_preference_is_kept(by, story):
    by("ada").post("/notices/preferences/", {"mail": "daily", "never_mailed": ["build.changed"]})
    kept = notices.preference_of(story.cast.ada)
    assert (kept.mail, kept.never_mailed) == ("daily", ["build.changed"])


def test_a_recipient_acknowledges_without_an_account(by, story):
    asked = told(None, consumer=story.cast.dara, needs_acknowledgement=True)
    path = f"/notices/acknowledge/{notices.token_of(asked)}/"
    assert asked.text in text_of(by("").get(path))
    assert by("").post(path, {"as_whom": ""}).status_code == 422
    by("").post(path, {"as_whom": "Dora of Dara"})
    asked.refresh_from_db()
    assert asked.acknowledged_as == "Dora of Dara"
    assert by("").get("/notices/acknowledge/nonsense/").status_code == 404


# ── Webhooks ─────────────────────────────────────────────────────────────────────────────────────
def test_a_secret_is_shown_once(by):
    client = by("ada")
    asked = {"url": "https://hooks.example/in", "party": "owner:alder-press"}
    first = client.post("/notices/webhooks/", asked)
    assert "whsec_" in text_of(first)
    assert first["Cache-Control"] == "no-store"
    endpoint = WebhookEndpoint.objects.get()
    assert "whsec_" not in text_of(client.get(f"/notices/webhooks/{endpoint.pk}/"))
    assert by("bela").get(f"/notices/webhooks/{endpoint.pk}/").status_code == 404
    assert by("edda").get("/notices/webhooks/").status_code == 404


def test_an_owner_cannot_make_an_endpoint_for_another(by):
    asked = {"url": "https://hooks.example/in", "party": "owner:birch-archive"}
    assert by("ada").post("/notices/webhooks/", asked).status_code == 422
    assert not WebhookEndpoint.objects.exists()


def test_a_test_is_sent_and_a_failed_message_is_replayed(by, story):
    endpoint = factories.webhook(created_by=story.cast.cato)
    client = by("cato")
    client.post(f"/notices/webhooks/{endpoint.pk}/test/")
    message = WebhookDelivery.objects.get()
    WebhookDelivery.objects.update(state="failed", ended_at=timezone.now())
    assert "Replay" in text_of(client.get(f"/notices/webhooks/{endpoint.pk}/"))
    client.post(f"/notices/webhooks/{endpoint.pk}/replay/{message.pk}/")
    message.refresh_from_db()
    assert message.state == "due"
    client.post(f"/notices/webhooks/{endpoint.pk}/disable/")
    endpoint.refresh_from_db()
    assert endpoint.disabled_at is not None
    assert client.post(f"/notices/webhooks/{endpoint.pk}/explode/").status_code == 404
