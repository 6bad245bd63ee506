"""The REST API: the same acts as the pages, the same rights, refusals a program can read."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from governance.models import Build, ConsentRecord, DecisionRecord, Expert, FollowUp, Withdrawal
from governance.services import consumers
from governance.vocabulary import FollowUpKind, LicenceState, RevisionState
from tests import factories

API = "/api/v1"
EVERYONE = ("ada", "bela", "cato", "celia", "edda", "aude", "mallory")
STAFF = ("cato", "celia", "edda", "aude")
TERMS = {
    "corpus": "plays-texts",
    "uses": ["train", "answer"],
    "purposes": ["education"],
    "starts_at": "2026-01-01T00:00:00Z",
}


def post(client, path: str, asked: object = None, **headers: str):
    return client.post(
        f"{API}/{path}", asked or {}, content_type="application/json", headers=headers
    )


def refusal(answer, status: int) -> dict:
    """The problem of a refused request."""
    assert answer.status_code == status, answer.content
    assert answer.headers["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["title"]
    assert body["type"] == "about:blank"
    return body


READS = {
    "me": EVERYONE,
    "owners": EVERYONE,
    "consumers": ("cato", "celia", "aude"),
    "consumers/dara/keys": ("cato", "celia", "aude"),
    "corpora": EVERYONE,
    "licences": EVERYONE,
    "licences/code-texts-v1": (*STAFF, "ada"),
    "experts": EVERYONE,
    "experts/code": (*STAFF, "ada"),
    "experts/languages": (*STAFF, "bela"),
    "revisions": EVERYONE,
    "builds": STAFF,
    "builds/1": STAFF,
    "runs": STAFF,
    "runners": STAFF,
    "withdrawals": EVERYONE,
}


@pytest.mark.parametrize("path", READS)
def test_a_read_is_there_for_its_people_and_for_nobody_else(by, path):
    for name in EVERYONE:
        answer = by(name).get(f"{API}/{path}")
        if name in READS[path]:
            assert answer.status_code == 200, name
        else:
            assert refusal(answer, 404)["code"] == "not_found", name


@pytest.mark.parametrize("path", READS)
def test_a_stranger_is_asked_who_they_are(by, path):
    assert refusal(by("").get(f"{API}/{path}"), 401)["code"] == "not_authenticated"


@pytest.mark.parametrize(
    "path", ["owners", "corpora", "licences", "experts", "revisions", "withdrawals"]
)
def test_a_list_holds_for_mallory_nothing_and_for_an_owner_their_own(by, path):
    assert by("mallory").get(f"{API}/{path}").json()["count"] == 0
    ada, cato = by("ada").get(f"{API}/{path}").json(), by("cato").get(f"{API}/{path}").json()
    assert 0 < ada["count"] <= cato["count"]
    assert "laws" not in str(ada["results"])


def test_who_is_logged_in_and_what_they_may_do(by):
    assert by("ada").get(f"{API}/me").json() == {
        "email": "ada@example.org",
        "name": "Ada",
        "roles": ["owner"],
        "owners": ["alder-press"],
    }


def test_a_list_is_filtered_and_an_odd_filter_refused(by):
    waiting = by("cato").get(f"{API}/licences?state=requested").json()["results"]
    assert [row["reference"] for row in waiting] == ["plays-texts-v1"]
    assert "state" in refusal(by("cato").get(f"{API}/licences?state=odd"), 400)["fields"]


def test_a_page_of_a_list_is_as_long_as_asked(by):
    page = by("cato").get(f"{API}/experts?limit=2").json()
    assert (len(page["results"]), page["count"]) == (2, 5)


# path, the body, who may, and who must not although they see something of it
ACTS = {
    "owners": ({"legal_name": "Cedar", "jurisdiction": "FR"}, "cato", ("ada", "edda", "aude"), 201),
    "consumers": ({"name": "Ember", "territory": "DE"}, "cato", ("ada", "edda", "aude"), 201),
    "consumers/dara/keys": (
        {"label": "x", "purposes": ["research"]}, "cato", ("edda", "aude", "ada"), 201,
    ),
    "corpora": (
        {
            "owner": "alder-press", "slug": "maps", "title": "Maps", "source_licence": "own",
            "document_count": 3, "text_bytes": 900,
        }, "cato", ("bela", "edda", "aude"), 201,
    ),
    "licences": (TERMS, "cato", ("ada", "edda", "aude"), 201),
    "licences/plays-texts-v1/approve": ({"note": "Read"}, "celia", ("ada", "edda", "aude"), 200),
    "licences/plays-texts-v1/reject": ({}, "celia", ("ada", "edda", "aude"), 200),
    "licences/code-texts-v1/end": (
        {"instrument": "invalidate", "reason": "x", "authority": "Court of Utrecht"},
        "cato", ("ada", "edda", "aude"), 200,
    ),
    "experts": (
        {"name": "plays", "title": "Plays", "corpus": "plays-texts"}, "edda", ("ada", "cato"), 201,
    ),
    "experts/code/consent": ({"licence": "code-texts-v1"}, "ada", ("bela", "cato", "edda"), 201),
    "experts/code/withdraw": ({}, "ada", ("bela", "cato", "edda", "aude"), 200),
    "experts/code/training": (
        {"corpus_path": "/c", "recipe": {}}, "edda", ("ada", "cato", "aude"), 201,
    ),
    "builds": ({"reason": "A new anchor"}, "edda", ("ada", "cato", "aude"), 201),
}  # fmt: skip


@pytest.mark.parametrize("path", ACTS)
def test_an_act_is_done_for_its_people(by, path):
    asked, name, _, status = ACTS[path]
    answer = post(by(name), path, asked)
    assert answer.status_code == status, answer.content


@pytest.mark.parametrize("path", ACTS)
def test_an_act_is_refused_to_everyone_else(by, path):
    asked, _, others, _ = ACTS[path]
    for name in (*others, "mallory"):
        assert refusal(post(by(name), path, asked), 404)["code"] == "not_found", name
    refusal(post(by(""), path, asked), 401)


@pytest.mark.parametrize("path", ACTS)
def test_an_act_needs_the_csrf_token(by, path):
    asked, name, _, _ = ACTS[path]
    client = by(name, enforce_csrf_checks=True)
    assert "CSRF" in refusal(post(client, path, asked), 403)["detail"]


def test_with_the_token_the_act_is_done(by):
    client = by("cato", enforce_csrf_checks=True)
    client.get("/legal/owners/")
    token = client.cookies["reclaim-csrf"].value
    asked = {"legal_name": "Cedar", "jurisdiction": "FR"}
    assert post(client, "owners", asked, **{"X-CSRFToken": token}).status_code == 201


MALFORMED = {
    "owners": ({"legal_name": "", "jurisdiction": "France"}, 400, {"legal_name", "jurisdiction"}),
    "consumers": ({"name": "Ember", "territory": "de"}, 422, {"territory"}),
    "consumers/dara/keys": ({"label": "x", "purposes": ["mischief"]}, 422, {"purposes"}),
    "licences": ({**TERMS, "ends_at": "2025-01-01T00:00:00Z"}, 422, {"ends_at"}),
    "licences/code-texts-v1/end": ({"instrument": "smite"}, 400, {"instrument"}),
    "corpora": ({"owner": "alder-press"}, 400, None),
}


@pytest.mark.parametrize("path", MALFORMED)
def test_what_does_not_fit_is_refused_field_by_field(by, path):
    asked, status, fields = MALFORMED[path]
    found = refusal(post(by("cato"), path, asked), status)["fields"]
    assert fields is None or set(found) == fields


def test_what_is_no_json_is_refused(by):
    answer = by("cato").post(f"{API}/owners", "{", content_type="application/json")
    assert refusal(answer, 400)["code"] == "parse_error"


def test_a_method_nobody_offers_is_refused(by):
    assert refusal(by("cato").delete(f"{API}/owners"), 405)["code"] == "method_not_allowed"


def test_nobody_approves_what_they_requested(by, story):
    body = refusal(post(by("cato"), "licences/plays-texts-v1/approve"), 403)
    assert body["code"] == "four_eyes"
    assert "expected a second person" in body["detail"]
    story.waiting_licence.refresh_from_db()
    assert story.waiting_licence.state == LicenceState.REQUESTED


def test_a_decided_licence_is_not_decided_again(by):
    assert refusal(post(by("celia"), "licences/code-texts-v1/approve"), 409)["code"] == (
        "unlawful_move"
    )


def test_a_licence_is_suspended_and_resumed(by):
    cato = by("cato")
    post(cato, "licences/code-texts-v1/end", {"instrument": "suspend", "reason": "x"})
    answer = post(cato, "licences/code-texts-v1/resume", {"reason": "settled"})
    assert len(answer.json()["endings"]) == 2
    refusal(post(cato, "licences/code-texts-v1/resume"), 409)
    refusal(post(by("edda"), "licences/code-texts-v1/resume"), 404)


def test_withdrawing_twice_is_the_same_withdrawal(by):
    first = post(by("ada"), "experts/code/withdraw", {"reason": "A new publisher"}).json()
    again = post(by("ada"), "experts/code/withdraw", {"reason": "Another"}).json()
    assert again == first
    assert Withdrawal.objects.filter(expert__name="code").count() == 1
    found = by("ada").get(f"{API}/withdrawals/{first['id']}").json()
    assert found["policy_epoch"] == first["policy_epoch"]


def test_a_withdrawal_is_shown_to_its_owner_and_to_staff(by, story):
    path = f"{API}/withdrawals/{story.withdrawal.pk}"
    for name in EVERYONE:
        expected = 200 if name in (*STAFF, "ada") else 404
        assert by(name).get(path).status_code == expected, name


def test_before_the_first_stage_there_is_no_certificate(by, story):
    answer = by("ada").get(f"{API}/withdrawals/{story.withdrawal.pk}/certificate")
    assert "found none yet" in refusal(answer, 404)["detail"]


def test_consent_answers_with_its_receipt(by, story):
    receipt = post(by("ada"), "experts/code/consent", {"licence": "code-texts-v1"}).json()
    assert receipt["pii_principal_id"] == "alder-press"
    assert ConsentRecord.objects.get(pk=receipt["record_id"]).expert.name == "code"
    refusal(post(by("ada"), "experts/code/consent", {"licence": "news-texts-v1"}), 404)
    poems = {"licence": str(story.licence("poems"))}
    refusal(post(by("ada"), "experts/poems/consent", poems), 409)


def test_an_activation_takes_an_engineer_and_legal_staff(by, story):
    path = f"revisions/{story.audited.pk}"
    refusal(post(by("cato"), f"{path}/request-activation"), 404)
    assert post(by("edda"), f"{path}/request-activation").status_code == 200
    refusal(post(by("edda"), f"{path}/approve-activation"), 404)
    assert post(by("celia"), f"{path}/approve-activation").json()["state"] == "activated"
    refusal(post(by("celia"), f"{path}/reject-activation"), 409)


def test_an_activation_is_rejected(by, story):
    answer = post(by("celia"), f"revisions/{story.waiting_revision.pk}/reject-activation")
    assert answer.status_code == 200
    story.waiting_revision.refresh_from_db()
    assert story.waiting_revision.state == RevisionState.AUDITED


def test_an_audit_is_ordered(by, story):
    asked = {"members_path": "/m", "controls_path": "/c", "windows": 300}
    path = f"revisions/{story.audited.pk}/audit"
    run = post(by("edda"), path, asked).json()
    assert FollowUp.objects.get(pk=run["id"]).kind == FollowUpKind.AUDIT
    assert "windows" in refusal(post(by("edda"), path, {**asked, "windows": 1}), 400)["fields"]
    refusal(post(by("ada"), path, asked), 404)


def test_training_what_was_taken_back_is_refused(by):
    refusal(post(by("edda"), "experts/poems/training", {"corpus_path": "/c"}), 409)


def test_a_secret_is_in_the_answer_once_and_opens_until_revoked(by):
    cato = by("cato")
    answer = post(cato, "consumers/dara/keys", {"label": "x", "purposes": ["research"]})
    issued, now = answer.json(), timezone.now()
    assert answer.headers["Cache-Control"] == "no-store"
    assert consumers.authenticate(issued["secret"], at=now) is not None
    assert "secret" not in str(cato.get(f"{API}/consumers/dara/keys").json())
    revoked = post(cato, f"consumers/dara/keys/{issued['prefix']}/revoke").json()
    assert revoked["revoked_at"]
    assert consumers.authenticate(issued["secret"], at=now) is None
    refusal(post(by("edda"), f"consumers/dara/keys/{issued['prefix']}/revoke"), 404)
    refusal(post(cato, "consumers/dara/keys/0000/revoke"), 404)


def test_an_owner_describes_a_corpus_of_its_own(by):
    asked = ACTS["corpora"][0]
    assert post(by("ada"), "corpora", asked).status_code == 201
    assert "slug" in refusal(post(by("ada"), "corpora", asked), 422)["fields"]


def test_a_rebuild_is_planned(by):
    number = post(by("edda"), "builds", {"reason": "A new anchor"}).json()["number"]
    assert Build.objects.get(number=number).reason == "A new anchor"


def test_a_decision_is_told_to_legal_staff_and_auditors(by):
    record = DecisionRecord.objects.create(
        path="gateway/answer", input={"purpose": "research"}, result={"allowed": ["code"]},
        requested_by="consumer:dara", policy_epoch=3,
    )  # fmt: skip
    path = f"{API}/decisions/{record.pk}"
    for name in EVERYONE:
        expected = 200 if name in ("cato", "celia", "aude") else 404
        assert by(name).get(path).status_code == expected, name
    assert by("aude").get(path).json()["result"] == {"allowed": ["code"]}


@pytest.mark.parametrize("path", [path for path in READS if path.count("/") == 0 and path != "me"])
def test_queries_do_not_grow_with_rows(by, story, path):
    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            assert client.get(f"{API}/{path}").status_code == 200
        return len(asked)

    client, before = by("cato"), 0
    for round_ in range(3):
        now = timezone.now()
        corpus = factories.corpus()
        factories.licence(corpus=corpus)
        factories.api_key()
        expert = factories.expert(corpus=corpus, state="withdrawn")
        revision = factories.revision(expert=expert)
        factories.finding(revision=revision)
        factories.withdrawal(expert=expert)
        build = factories.build(revision, state="retired")
        factories.lease(loaded_build=build, renewed_at=now, granted_at=now + timedelta(seconds=1))
        factories.follow_up()
        found = queries()
        before = found if round_ == 1 else before
    assert found == before


def test_the_schema_is_whole_and_nobody_else_reads_it(by, tmp_path):
    call_command(
        "spectacular", "--fail-on-warn", "--validate", "--file", str(tmp_path / "schema.yml"),
        stdout=StringIO(), stderr=StringIO(),
    )  # fmt: skip
    assert "/api/v1/experts/{name}/withdraw" in (tmp_path / "schema.yml").read_text()
    assert by("mallory").get("/api/schema").status_code == 200
    assert by("").get("/api/schema").status_code == 401


def test_the_page_of_the_api_names_every_operation(by):
    from web.api import docs

    page = by("mallory").get("/api/").content.decode()
    operations = [operation for group in docs.groups().values() for operation in group]
    assert len(operations) > 30
    for operation in operations:
        assert f"{operation.method} {operation.path}" in page
        assert operation.about, operation.path
    told = [operation.about for operation in operations]
    assert len(set(told)) == len(told)


def test_an_expert_named_by_the_api_belongs_to_the_owner_of_its_corpus(by):
    post(by("edda"), "experts", ACTS["experts"][0])
    assert Expert.objects.get(name="plays").owner.slug == "alder-press"
