"""What holds for every address of the REST API: pages, versions, repeats, keys, problems."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.utils import timezone

from governance.models import Corpus, DataOwner, KeptAnswer, StagedEvent
from governance.services import personal_keys
from tests.web.api.test_api import API, post, refusal
from web.api import repeats
from web.api.credentials import PersonRate

CEDAR = {"legal_name": "Cedar", "jurisdiction": "FR"}


@pytest.fixture
def key(story):
    """`key("cato")` is the secret of a personal key of Cato's."""

    def made(name: str, *, may_write: bool = True) -> str:
        account, at = getattr(story.cast, name), timezone.now()
        return personal_keys.issue(
            account,
            label="tests",
            may_write=may_write,
            expires_at=at + timedelta(days=1),
            by=account,
            at=at,
        ).secret

    return made


def bearing(secret: str) -> Client:
    return Client(headers={"Authorization": f"Bearer {secret}"})


# ── Lists ────────────────────────────────────────────────────────────────────────────────────────


def walked(client, path):
    """All rows of a list, page by page."""
    rows, url = [], f"{API}/{path}"
    while url:
        page = client.get(url).json()
        rows += page["results"]
        url = page["next"]
    return rows


def test_pages_by_cursor_hold_every_row_once_whatever_is_added_meanwhile(by, story):
    client = by("cato")
    expected = [row["id"] for row in client.get(f"{API}/corpora?order=slug").json()["results"]]
    page = client.get(f"{API}/corpora?order=slug&limit=2").json()
    seen = [row["id"] for row in page["results"]]
    Corpus.objects.create(owner=story.cast.alder, slug="aaa", title="First", source_licence="own")
    while page["next"]:
        page = client.get(page["next"]).json()
        seen += [row["id"] for row in page["results"]]
    assert seen == expected
    assert len(set(seen)) == len(seen) > 2


def test_a_list_is_ordered_both_ways_and_only_as_it_allows(by):
    up = [row["slug"] for row in walked(by("cato"), "corpora?order=slug&limit=3")]
    down = [row["slug"] for row in walked(by("cato"), "corpora?order=-slug&limit=3")]
    assert up == sorted(up) == down[::-1]
    fields = refusal(by("cato").get(f"{API}/corpora?order=owner__contact_email"), 400)["fields"]
    assert "Expected one of" in fields["order"][0]


@pytest.mark.parametrize("limit", ["0", "201", "-1", "x", "1e3", "²"])
def test_an_odd_limit_is_refused(by, limit):
    assert "limit" in refusal(by("cato").get(f"{API}/experts", {"limit": limit}), 400)["fields"]


@pytest.mark.parametrize("cursor", ["x", "cD0x", "!!!!", "cD0lMDA="])
def test_a_forged_cursor_is_no_fault_of_ours(by, cursor):
    answer = by("cato").get(f"{API}/experts", {"cursor": cursor})
    assert answer.status_code in (200, 400, 404)


# ── Versions ─────────────────────────────────────────────────────────────────────────────────────


def test_what_has_not_changed_is_not_sent_again(by):
    first = by("ada").get(f"{API}/experts/code")
    assert first["Cache-Control"] == "private, no-cache"
    again = by("ada").get(f"{API}/experts/code", headers={"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = by("ada").get(f"{API}/experts/poems", headers={"If-None-Match": first["ETag"]})
    assert other.status_code == 200


def test_a_change_bound_to_a_version_happens_once(by):
    seen = by("cato").get(f"{API}/licences/code-texts-v1")["ETag"]
    end = {"instrument": "suspend", "reason": "a question"}
    first = post(by("cato"), "licences/code-texts-v1/end", end, **{"If-Match": seen})
    assert first.status_code == 200, first.content
    late = post(by("celia"), "licences/code-texts-v1/resume", {}, **{"If-Match": seen})
    assert refusal(late, 412)["code"] == "changed_since"
    now = by("celia").get(f"{API}/licences/code-texts-v1")["ETag"]
    assert now != seen
    fresh = post(by("celia"), "licences/code-texts-v1/resume", {}, **{"If-Match": now})
    assert fresh.status_code == 200


def test_a_version_of_what_one_may_not_see_matches_nothing(by):
    seen = by("bela").get(f"{API}/experts/languages")["ETag"]
    refusal(post(by("ada"), "experts/languages/withdraw", {}, **{"If-Match": seen}), 412)
    refusal(post(by("ada"), "experts/languages/withdraw", {}, **{"If-Match": "*"}), 412)


# ── Repeats ──────────────────────────────────────────────────────────────────────────────────────


def test_a_change_repeated_with_its_key_happens_once(by):
    first = post(by("cato"), "owners", CEDAR, **{"Idempotency-Key": "k1"})
    events = StagedEvent.objects.count()
    again = post(by("cato"), "owners", CEDAR, **{"Idempotency-Key": "k1"})
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again["Content-Type"] == first["Content-Type"]
    assert (first.get("Idempotency-Replayed"), again["Idempotency-Replayed"]) == (None, "true")
    assert DataOwner.objects.filter(legal_name="Cedar").count() == 1
    assert StagedEvent.objects.count() == events


def test_a_key_stands_for_one_request_of_one_person(by):
    post(by("cato"), "owners", CEDAR, **{"Idempotency-Key": "k2"})
    other = {**CEDAR, "legal_name": "Cedar Two"}
    refused = refusal(post(by("cato"), "owners", other, **{"Idempotency-Key": "k2"}), 422)
    assert refused["code"] == "idempotency_key_reused"
    assert post(by("celia"), "owners", other, **{"Idempotency-Key": "k2"}).status_code == 201


def test_a_refusal_is_not_kept(by):
    asked = {"legal_name": "Cedar"}
    refusal(post(by("cato"), "owners", asked, **{"Idempotency-Key": "k3"}), 400)
    refusal(post(by("ada"), "owners", CEDAR, **{"Idempotency-Key": "k3"}), 404)
    assert not KeptAnswer.objects.exists()
    assert post(by("cato"), "owners", CEDAR, **{"Idempotency-Key": "k3"}).status_code == 201


def test_the_answer_is_kept_for_a_day(by):
    post(by("cato"), "owners", CEDAR, **{"Idempotency-Key": "k4"})
    KeptAnswer.objects.update(made_at=timezone.now() - repeats.KEPT_FOR - timedelta(minutes=1))
    other = {**CEDAR, "legal_name": "Cedar Two"}
    assert post(by("cato"), "owners", other, **{"Idempotency-Key": "k4"}).status_code == 201


def test_a_secret_is_not_kept_for_a_repeat(by):
    asked = {"label": "x", "purposes": ["research"]}
    first = post(by("cato"), "consumers/dara/keys", asked, **{"Idempotency-Key": "k5"})
    assert first.status_code == 201
    secret = first.json()["secret"].encode()
    assert all(secret not in bytes(row.body or b"") for row in KeptAnswer.objects.all())
    again = post(by("cato"), "consumers/dara/keys", asked, **{"Idempotency-Key": "k5"})
    assert refusal(again, 409)["code"] == "secret_shown_once"


@pytest.mark.parametrize("odd", ["", "x" * 256, "a\tb"])
def test_an_odd_key_is_refused(by, odd):
    refusal(post(by("cato"), "owners", CEDAR, **{"Idempotency-Key": odd}), 400)


def test_the_same_request_under_way_is_told_so(by, story):
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            told = repeats.lock_number(story.cast.cato, "k6")
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [told])
            refused = refusal(post(by("cato"), "owners", CEDAR, **{"Idempotency-Key": "k6"}), 409)
            assert refused["code"] == "request_under_way"
            cursor.execute("ROLLBACK")
    finally:
        other.close()
    assert post(by("cato"), "owners", CEDAR, **{"Idempotency-Key": "k6"}).status_code == 201


# ── Personal keys ────────────────────────────────────────────────────────────────────────────────


def test_a_personal_key_has_its_persons_rights_and_no_more(key):
    assert bearing(key("ada")).get(f"{API}/me").json()["owners"] == ["alder-press"]
    refusal(bearing(key("ada")).get(f"{API}/experts/languages"), 404)
    assert bearing(key("edda")).get(f"{API}/runs").status_code == 200
    refusal(bearing(key("mallory")).get(f"{API}/runs"), 404)


def test_a_personal_key_needs_no_csrf_token_and_opens_no_page(key):
    client = Client(enforce_csrf_checks=True, headers={"Authorization": f"Bearer {key('cato')}"})
    assert post(client, "owners", CEDAR).status_code == 201
    assert client.get("/legal/licences/").status_code == 302


def test_a_key_that_may_read_changes_nothing(key):
    client = bearing(key("cato", may_write=False))
    assert client.get(f"{API}/owners").status_code == 200
    refusal(post(client, "owners", CEDAR), 403)
    assert not DataOwner.objects.filter(legal_name="Cedar").exists()


def test_a_key_that_ended_was_revoked_or_is_wrong_opens_nothing(key, story):
    secret, cato = key("cato"), story.cast.cato
    held = cato.personal_keys.get()
    assert refusal(bearing(secret[:-1]).get(f"{API}/me"), 401)["code"] == "authentication_failed"
    refusal(bearing("rp_x_y").get(f"{API}/me"), 401)
    refusal(bearing("é").get(f"{API}/me"), 401)
    assert personal_keys.authenticate(secret, at=held.expires_at) is None
    personal_keys.revoke(held, by=cato, at=timezone.now())
    answer = bearing(secret).get(f"{API}/me")
    refusal(answer, 401)
    assert answer["WWW-Authenticate"].startswith("Bearer")


def test_issuing_and_revoking_a_personal_key_are_one_event_each(story):
    cato, at = story.cast.cato, timezone.now()
    before = StagedEvent.objects.count()
    made = personal_keys.issue(
        cato, label="x", may_write=True, expires_at=at + timedelta(days=1), by=cato, at=at
    )
    assert StagedEvent.objects.count() == before + 1
    for _ in range(2):
        personal_keys.revoke(made.personal_key, by=cato, at=at)
    assert StagedEvent.objects.count() == before + 2


# ── Problems ─────────────────────────────────────────────────────────────────────────────────────


def test_every_refusal_is_a_problem(by):
    client = by("cato")
    assert refusal(client.get(f"{API}/nowhere"), 404)["code"] == "not_found"
    assert refusal(client.get(f"{API}/withdrawals/nonsense"), 404)["code"] == "not_found"
    assert refusal(client.delete(f"{API}/owners"), 405)["code"] == "method_not_allowed"
    odd = client.post(f"{API}/owners", "a", content_type="text/csv")
    assert refusal(odd, 415)["code"] == "unsupported_media_type"
    broken = client.post(f"{API}/owners", "{", content_type="application/json")
    assert refusal(broken, 400)["code"] == "parse_error"
    assert refusal(client.get(f"{API}/me", headers={"Accept": "text/csv"}), 406)


def test_who_asks_too_often_is_told_when_to_come_back(by, monkeypatch):
    cache.clear()
    monkeypatch.setattr(PersonRate, "rate", "2/min", raising=False)
    client = by("cato")
    answers = [client.get(f"{API}/me") for _ in range(3)]
    assert [answer.status_code for answer in answers[:2]] == [200, 200]
    assert refusal(answers[2], 429)["code"] == "throttled"
    assert 0 < int(answers[2]["Retry-After"]) <= 60
    cache.clear()
