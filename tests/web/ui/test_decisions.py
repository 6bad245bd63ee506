"""Decisions to look through, for legal staff and auditors, over pages and REST."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.utils import timezone

from governance.models import DecisionRecord, PolicySnapshot
from governance.policy.decide import decide
from governance.policy.types import Ask
from governance.services import decisions, snapshots

READERS = {"cato", "celia", "aude"}


def recorded(ask: Ask, requested_by: str = "abc12345") -> DecisionRecord:
    at, snapshot = timezone.now(), snapshots.current()
    return decisions.record(
        decide(snapshot, ask, at),
        decision_id=uuid4(),
        ask=ask,
        snapshot=snapshot,
        path="gateway/chat",
        requested_by=requested_by,
        labels={"gateway": "g1", "api_key": "abc12345"},
        at=at,
    )


@pytest.fixture
def permitted(story):
    return recorded(Ask("dara", "research", "NL", sector="M"))


@pytest.fixture
def denied(story):
    return recorded(Ask("dara", "advertising", "NL", require=frozenset({"code"})))


def text_of(answer) -> str:
    return answer.content.decode()


def test_only_legal_staff_and_auditors_see_decisions(by, permitted):
    for path in ("", f"{permitted.pk}/"):
        for name in ("cato", "celia", "aude", "edda", "ada", "mallory"):
            expected = 200 if name in READERS else 404
            assert by(name).get(f"/legal/decisions/{path}").status_code == expected, (name, path)


def test_the_list_is_filtered_by_consumer_expert_and_epoch(by, permitted, denied):
    def shown(query: str) -> set[str]:
        text = text_of(by("aude").get(f"/legal/decisions/?{query}"))
        return {str(one.pk) for one in (permitted, denied) if str(one.pk) in text}

    assert shown("") == {str(permitted.pk), str(denied.pk)}
    assert shown("purpose=advertising") == {str(denied.pk)}
    assert shown("consumer=dara&purpose=research") == {str(permitted.pk)}
    assert shown("consumer=nobody") == set()
    assert shown("expert=ghost") == set()
    assert shown(f"policy_epoch={permitted.policy_epoch}") == {str(permitted.pk), str(denied.pk)}
    assert "No decision matches" in text_of(by("aude").get("/legal/decisions/?consumer=nobody"))


def test_a_decision_names_the_licence_of_each_expert_and_is_decided_again(by, permitted):
    text = text_of(by("aude").get(f"/legal/decisions/{permitted.pk}/"))
    for reference in permitted.result["licences"].values():
        assert f"/legal/licences/{reference}/" in text
    assert "The same answer, byte for byte" in text
    assert "Professional, scientific and technical activities" in text


def test_a_denial_says_why_in_words(by, denied):
    text = text_of(by("cato").get(f"/legal/decisions/{denied.pk}/"))
    assert "Why the request was denied" in text
    assert "The licence does not cover this purpose." in text


def test_a_record_that_does_not_agree_with_its_policy_says_so(by, permitted):
    forged = DecisionRecord.objects.create(
        **{
            name: getattr(permitted, name)
            for name in ("timestamp", "bundles", "path", "input", "requested_by", "policy_epoch")
        },
        result={**permitted.result, "allowed": []},
    )
    assert "Another answer" in text_of(by("aude").get(f"/legal/decisions/{forged.pk}/"))
    lost = DecisionRecord.objects.create(
        path="p", input={}, result={}, requested_by="k", policy_epoch=999
    )
    assert "Cannot be decided again" in text_of(by("aude").get(f"/legal/decisions/{lost.pk}/"))


def test_unknown_decisions_are_404(by):
    assert by("aude").get(f"/legal/decisions/{uuid4()}/").status_code == 404


# ── REST ─────────────────────────────────────────────────────────────────────────────────────────
def test_rest_lists_and_filters_decisions(by, permitted, denied):
    found = by("aude").get("/api/v1/decisions?purpose=advertising").json()["results"]
    assert [one["decision_id"] for one in found] == [str(denied.pk)]
    assert by("aude").get("/api/v1/decisions?policy_epoch=soon").status_code in (400, 422)
    since = by("aude").get("/api/v1/decisions", {"since": permitted.timestamp.isoformat()})
    assert str(permitted.pk) in [one["decision_id"] for one in since.json()["results"]]
    until = by("aude").get("/api/v1/decisions", {"until": permitted.timestamp.isoformat()})
    assert str(permitted.pk) not in [one["decision_id"] for one in until.json()["results"]]


def test_rest_replays_one_decision(by, permitted):
    found = by("aude").get(f"/api/v1/decisions/{permitted.pk}").json()
    assert found["replay"]["is_same"]
    assert found["replay"]["policy_is_same"]
    assert found["replay"]["decided"] == found["result"]
    assert {one["expert"]: one["licence"] for one in found["licences"]} == (
        permitted.result["licences"]
    )
    assert found["erased"] == ["/input/messages"]


def test_a_decision_at_the_playground_names_the_person_and_the_key(by, story):
    found = recorded(Ask("dara", "research", "NL"), f"account:{story.cast.edda.pk}")
    text = text_of(by("aude").get(f"/legal/decisions/{found.pk}/"))
    assert "Asked at the playground by" in text
    assert "Edda" in text
    assert "abc12345…" in text


def test_rest_tells_why_an_ask_could_not_use_an_expert(by, permitted):
    asked = {
        "consumer": "dara",
        "purpose": "advertising",
        "territory": "NL",
        "expert": "code",
        "at": timezone.now().isoformat(),
    }
    found = by("aude").get("/api/v1/decisions/why", asked).json()
    assert found["why"] == ["PURPOSE"]
    assert found["policy_epoch"] == PolicySnapshot.objects.first().policy_epoch
    assert by("edda").get("/api/v1/decisions/why", asked).status_code == 404
    early = by("aude").get("/api/v1/decisions/why", asked | {"at": "2001-01-01T00:00:00Z"})
    assert early.status_code in (400, 422)


def test_rest_says_what_taking_a_licence_away_would_change(by, permitted, story):
    address = f"/api/v1/licences/{story.licence('code').reference}/what-if"
    told = by("cato").get(address, {"days": 7}).json()
    assert (told["requests"], told["changed"]) == (1, 1)
    assert {"expert": "code", "gained": 0, "lost": 1} in told["experts"]
    assert "days" in by("cato").get(address, {"days": 91}).json()["fields"]
    for name in ("edda", "aude", "ada", "mallory"):
        assert by(name).get(address).status_code == 404
