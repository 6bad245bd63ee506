"""The requests board: whom it waits for, deciding, step-up that loses nothing, and four eyes."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone

from governance.models import (
    Account,
    ApiKey,
    ApprovalDelegation,
    ApprovalRequest,
    ApprovalRoute,
    Licence,
)
from governance.services import approvals, signoffs
from governance.services.approvals import subjects
from governance.vocabulary import ApprovalKind, ApprovalState, LicenceState, Role
from tests import cast as people
from web import stepup

pytestmark = pytest.mark.django_db


def text_of(answer) -> str:
    return answer.content.decode()


@pytest.fixture
def plays(story) -> ApprovalRequest:
    """The licence of the plays, which Cato requested."""
    return ApprovalRequest.objects.get(subject_id=story.waiting_licence.pk)


@pytest.fixture
def laws(story) -> ApprovalRequest:
    """The activation of the laws, which Edda requested."""
    return ApprovalRequest.objects.get(subject_id=story.waiting_revision.pk)


@pytest.fixture
def key(story) -> ApprovalRequest:
    """A key Cato asks for."""
    subject = subjects.api_key(
        story.cast.dara, label="web", purposes=["research"], scopes=None, expires_at=None
    )
    return approvals.ask(subject, by=story.cast.cato, at=timezone.now())


def state_of(request) -> str:
    request.refresh_from_db()
    return request.state


def stale(client) -> None:
    """As if the log-in were an hour ago."""
    session = client.session
    session[stepup.LOGGED_IN] = time.time() - 3600
    session.save()


def test_the_board_sorts_requests_by_whom_they_wait_for(by, key):
    mine = by("celia").get("/legal/approvals/").context["board"]
    assert len(mine.mine) == 3
    own = by("cato").get("/legal/approvals/").context["board"]
    assert [card.request.kind for card in own.mine] == ["activation"]
    assert {card.request.kind for card in own.others if card.is_own} == {"licence", "api_key"}
    assert by("aude").get("/legal/approvals/").context["board"].mine == []


def test_the_board_is_filtered_by_kind_and_words_and_lateness(by, key):
    def titles(query):
        found = by("celia").get(f"/legal/approvals/?{query}").context["board"]
        return sorted(card.request.kind for card in found.mine + found.others)

    assert titles("kind=licence") == ["licence"]
    assert titles("find=birch") == ["activation"]
    assert titles("overdue=1") == []
    ApprovalRequest.objects.filter(pk=key.pk).update(due_at=timezone.now() - timedelta(days=1))
    assert titles("overdue=1") == ["api_key"]


def test_one_request_shows_words_digest_steps_and_thread(by, plays):
    page = text_of(by("celia").get(f"/legal/approvals/{plays.pk}/"))
    assert "Plays" in page
    assert plays.digest[:12] in page
    assert "Return for change" in page


def test_a_request_is_signed_on_its_page(by, laws, story):
    answer = by("celia").post(
        f"/legal/approvals/{laws.pk}/approve/", {"words": "Read"}, follow=True
    )
    assert "is approved" in text_of(answer)
    story.waiting_revision.refresh_from_db()
    assert story.waiting_revision.state == "activated"


def test_returning_needs_words_and_keeps_the_thread(by, plays):
    path = f"/legal/approvals/{plays.pk}/"
    assert "expected words" in text_of(by("celia").post(f"{path}return/", follow=True))
    by("celia").post(f"{path}return/", {"words": "Shorter"})
    assert state_of(plays) == ApprovalState.RETURNED
    assert "Ask for it as it should be" in text_of(by("cato").get(path))


def test_words_and_files_join_the_thread_and_only_some_are_the_owners(by, plays, story):
    path = f"/legal/approvals/{plays.pk}/"
    celia = by("celia")
    celia.post(f"{path}comment/", {"words": "Between us"})
    celia.post(f"{path}comment/", {"words": "We need a week", "is_visible_to_owner": "on"})
    file = SimpleUploadedFile("memo.txt", b"memo", content_type="text/plain")
    celia.post(f"{path}attach/", {"file": file, "words": "Memo"})
    page = text_of(celia.get(path))
    assert "Between us" in page
    digest = plays.acts.get(verb="attach").document_id
    assert celia.get(f"{path}files/{digest}/").content == b"memo"
    act = plays.acts.get(verb="attach")
    assert by("ada").get(f"/owner/said/{act.pk}/").status_code == 404
    assert celia.post(f"{path}comment/", {"words": ""}).status_code == 422


def test_the_clock_is_paused_with_a_reason_and_goes_on(by, plays):
    path = f"/legal/approvals/{plays.pk}/"
    by("celia").post(f"{path}pause/", {"words": "Holiday"})
    plays.refresh_from_db()
    assert plays.paused_at
    assert "Clock paused" in text_of(by("celia").get("/legal/approvals/"))
    by("celia").post(f"{path}resume/")
    plays.refresh_from_db()
    assert plays.paused_at is None


def test_a_changed_subject_is_said_before_anybody_decides(by, laws, story):
    people.audit(story.cast, story.waiting_revision)
    path = f"/legal/approvals/{laws.pk}/"
    assert "has changed since" in text_of(by("celia").get(path))
    by("celia").post(f"{path}approve/")
    assert state_of(laws) == ApprovalState.VOID


def test_a_key_is_asked_for_approved_and_issued_once(by):
    cato = by("cato")
    asked = {"consumer": "dara", "label": "phone", "purposes": ["research"], "words": "Pilot",
             "answers_at_once": 2}  # fmt: skip
    path = cato.post("/legal/approvals/ask/key/", asked).url
    shown = text_of(cato.get(path))
    assert "You asked for this" in shown
    assert "Answers at once" in shown
    assert "Tokens per minute" not in shown
    by("celia").post(f"{path}approve/")
    assert "Issue the key" in text_of(cato.get(path))
    step = approvals.Step("Legal", role=Role.LEGAL)
    account = Account.objects.get(email="cato@example.org")
    other = Account.objects.get(email="celia@example.org")
    proposed = approvals.propose(
        "api-key",
        kind=ApprovalKind.API_KEY,
        title="Keys",
        steps=[step],
        by=account,
        at=timezone.now(),
    )
    signoffs.approve(proposed, by=other, at=timezone.now())
    shown = cato.post(f"{path}issue/")
    made = ApiKey.objects.get(label="phone")
    assert f"rk_{made.prefix}_" in text_of(shown)
    assert (made.answers_at_once, made.tokens_per_minute) == (2, None)
    cato.post(f"{path}issue/")
    assert ApiKey.objects.filter(label="phone").count() == 1


def test_a_route_is_proposed_and_comes_into_force_by_a_colleague(by):
    cato = by("cato")
    form = {
        "key": "licence", "kind": "licence", "title": "Two of legal", "is_on": "on",
        "form-TOTAL_FORMS": "1", "form-INITIAL_FORMS": "1", "form-0-title": "Both",
        "form-0-role": "legal", "form-0-needed": "2", "form-0-days": "3",
    }  # fmt: skip
    page = cato.get("/legal/approvals/routes/licence/")
    assert page.status_code == 200
    answer = cato.post("/legal/approvals/routes/licence/", form)
    assert answer.status_code == 302
    assert ApprovalRoute.objects.get().adopted_at is None
    by("celia").post(f"{answer.url}approve/")
    assert ApprovalRoute.objects.get().adopted_at is not None
    assert "Two of legal" in text_of(cato.get("/legal/approvals/routes/"))
    wrong = cato.post("/legal/approvals/routes/licence/", {**form, "is_on": ""})
    assert wrong.status_code == 422


def test_an_absence_is_named_and_taken_back(by):
    celia = by("celia")
    edda = Account.objects.get(email="edda@example.org")
    today = timezone.now().date()
    form = {"taker": edda.pk, "starts_on": today, "ends_on": today + timedelta(days=2)}
    celia.post("/legal/approvals/absence/", form)
    row = ApprovalDelegation.objects.get()
    assert by("cato").post(f"/legal/approvals/absence/{row.pk}/end/").status_code == 404
    celia.post(f"/legal/approvals/absence/{row.pk}/end/")
    row.refresh_from_db()
    assert row.revoked_at is not None


# ── Step-up ──────────────────────────────────────────────────────────────────────────────────────


def test_an_old_log_in_is_confirmed_first_and_nothing_filled_in_is_lost(story, client):
    celia = Account.objects.get(pk=story.cast.celia.pk)
    celia.set_password(people.PASSWORD)
    celia.save()
    client.force_login(celia, backend="allauth.account.auth_backends.AuthenticationBackend")
    stale(client)
    path = "/legal/licences/plays-texts-v1/approve/"
    asked = client.post(path, {"note": "Read in full"})
    assert asked.url == "/account/reauthenticate/?next=%2Fconfirmed%2F"
    assert Licence.objects.get(reference="plays-texts-v1").state == LicenceState.REQUESTED
    confirmed = client.post(asked.url, {"password": people.PASSWORD, "next": "/confirmed/"})
    assert confirmed.url == "/confirmed/"
    page = client.get("/confirmed/")
    assert "Read in full" in text_of(page)
    assert "Approve plays-texts-v1" in text_of(page)
    assert path in text_of(page)
    client.post(path, dict(page.context["kept"]["fields"]))
    assert Licence.objects.get(reference="plays-texts-v1").decision_note == "Read in full"
    assert client.get("/confirmed/").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/legal/licences/plays-texts-v1/approve/",
        "/legal/licences/code-texts-v1/end/",
        "/legal/approvals/groups/",
        "/legal/approvals/routes/new/",
        "/legal/consumers/dara/keys/",
        "/legal/approvals/{plays}/approve/",
        "/legal/approvals/{plays}/reject/",
        "/legal/revisions/{revision}/approve/",
    ],
)
def test_a_legal_act_asks_for_a_fresh_log_in(by, plays, story, path):
    celia = by("celia")
    stale(celia)
    answer = celia.post(path.format(plays=plays.pk, revision=story.waiting_revision.pk))
    assert answer.status_code == 302
    assert answer.url.startswith("/account/reauthenticate/")


def test_htmx_is_told_to_go_there(by, plays):
    celia = by("celia")
    stale(celia)
    answer = celia.post(f"/legal/approvals/{plays.pk}/approve/", headers={"HX-Request": "true"})
    assert answer.headers["HX-Redirect"].startswith("/account/reauthenticate/")


def test_an_owner_withdraws_however_old_the_log_in(by):
    ada = by("ada")
    stale(ada)
    assert ada.post("/owner/experts/code/withdraw/").url.startswith("/owner/withdrawals/")


def test_rest_names_what_is_missing(by, plays):
    celia = by("celia")
    stale(celia)
    for path in (
        f"/api/v1/approvals/{plays.pk}/approve",
        "/api/v1/licences/plays-texts-v1/approve",
    ):
        answer = celia.post(path, {}, content_type="application/json")
        assert (answer.status_code, answer.json()["code"]) == (403, "step_up_required")
        assert answer.headers["Content-Type"] == "application/problem+json"
