"""Owners check what they earned, staff fulfil duties: pages and REST alike."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta

import pytest
from django.utils import timezone

from governance.models import Duty, Statement
from governance.services import duties, quotas, statements
from tests import factories

MONTH = date(2026, 2, 1)
THEN = datetime(2026, 2, 10, tzinfo=UTC)


@pytest.fixture
def alder(story):
    return story.cast.alder


@pytest.fixture
def statement(story, alder):
    """February: one answer in which Alder Press's expert took half, and one of Birch's."""
    for name, owner in (("novels", alder), ("letters", story.cast.birch)):
        corpus = factories.corpus(owner=owner)
        factories.expert(name=name, corpus=corpus)
        licence = factories.licence(
            corpus=corpus,
            starts_at=THEN - timedelta(days=9),
            decided_at=THEN - timedelta(days=9),
            rate_per_million_tokens=50,
            minimum_per_period=5,
        )
        factories.usage(
            allowed=[name],
            licences={name: licence.reference},
            mass={"public": 1.0, name: 1.0},
            prompt_tokens=400_000,
            completion_tokens=600_000,
            opened_at=THEN,
            closed_at=THEN,
        )
    return statements.issue(alder, month=MONTH, by=None, at=timezone.now())


@pytest.fixture
def duty(alder):
    corpus = factories.corpus(owner=alder)
    licence = factories.licence(
        corpus=corpus,
        starts_at=THEN,
        decided_at=THEN,
        requires_attribution=True,
        attribution_text="By Alder Press",
    )
    duties.open_due(at=timezone.now())
    return Duty.objects.get(licence=licence, action="attribute")


def body(answer) -> bytes:
    return b"".join(answer.streaming_content) if answer.streaming else answer.content


def test_an_owner_sees_its_statement_and_recomputes_it_from_the_downloads(by, statement, tmp_path):
    ada = by("ada")
    assert "25.00 EUR" in ada.get("/owner/statements/").content.decode()
    page = ada.get(f"/owner/statements/{statement.pk}/").content.decode()
    assert "novels" in page
    assert "Router weight is a unit of account" in page
    files = []
    for name in ("rows.jsonl", "statement.json"):
        files.append(tmp_path / name)
        files[-1].write_bytes(body(ada.get(f"/owner/statements/{statement.pk}/{name}")))
    script = tmp_path / "check.py"
    script.write_bytes(body(ada.get("/owner/statements/check.py")))
    done = subprocess.run(
        [sys.executable, "-I", script, *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "total 25.00 EUR" in done.stdout
    assert hashlib.sha256(files[0].read_bytes()).hexdigest() == statement.rows_digest
    table = body(ada.get(f"/owner/statements/{statement.pk}/rows.csv")).decode().splitlines()
    assert len(table) == 2
    assert "letters" not in "".join(table)


@pytest.mark.parametrize("name", ["", "rows.jsonl", "rows.csv", "statement.json", "rows.exe"])
def test_another_owners_statement_is_not_there(by, statement, name):
    assert by("bela").get(f"/owner/statements/{statement.pk}/{name}").status_code == 404


def test_a_dispute_goes_back_and_forth(by, statement):
    ada, cato = by("ada"), by("cato")
    at = f"/owner/statements/{statement.pk}/"
    assert ada.post(f"{at}remark/", {"text": ""}).status_code == 422
    assert ada.post(f"{at}remark/", {"text": "Too little", "dispute": "1"}).status_code == 302
    page = cato.get(f"/legal/statements/{statement.pk}/").content.decode()
    assert "The owner disputes this statement" in page
    answer = cato.post(f"/legal/statements/{statement.pk}/answer/", {"text": "See row 1"})
    assert answer.status_code == 302
    assert "See row 1" in ada.get(at).content.decode()
    cato.post(f"/legal/statements/{statement.pk}/answer/", {"text": "Agreed", "settle": "1"})
    assert statements.standing(statement) == "settled"


def test_staff_issue_a_statement_once(by, story):
    cato = by("cato")
    asked = {"owner": "birch-archive", "month": "2026-01"}
    first = cato.post("/legal/statements/", asked)
    assert first.status_code == 302
    assert cato.post("/legal/statements/", asked).url == first.url
    assert Statement.objects.filter(owner=story.cast.birch).count() == 1
    now = f"{timezone.now():%Y-%m}"
    assert cato.post("/legal/statements/", {**asked, "month": now}).status_code == 422


def test_a_duty_is_done_with_proof_and_the_owner_sees_it(by, duty):
    cato, ada = by("cato"), by("ada")
    at = f"/legal/duties/{duty.pk}/"
    assert duty.about in cato.get("/legal/duties/?find=alder").content.decode()
    assert duty.about in cato.get("/legal/duties/?shown=overdue&action=attribute").content.decode()
    assert duty.about not in cato.get("/legal/duties/?action=delete").content.decode()
    assert duty.about in ada.get("/owner/duties/").content.decode()
    assert cato.post(at, {}).status_code == 422
    assert cato.post(at, {"proof": "It is in the footer"}).status_code == 302
    assert "It is in the footer" in ada.get("/owner/duties/").content.decode()
    assert "It is in the footer" in cato.get(at).content.decode()
    assert by("bela").get("/owner/duties/").content.decode().count(duty.about) == 0


def test_quotas_are_shown_as_they_stand(by, alder):
    licence = factories.licence(
        corpus=factories.corpus(owner=alder),
        starts_at=THEN,
        max_tokens=1_000,
        quota_period="month",
    )
    lease = factories.lease()
    part = quotas.reserve(licence.reference, incarnation=lease.pk, tokens=990, at=timezone.now())
    quotas.promise([part.id], incarnation=lease.pk, tokens=990)
    [found] = by("ada").get("/api/v1/quotas").json()
    assert (found["licence"], found["is_used_up"]) == (licence.reference, True)
    assert by("bela").get("/api/v1/quotas").json() == []
    assert "Used up" in by("cato").get("/legal/quotas/").content.decode()


def test_rest_says_the_same(by, statement, duty):
    ada, bela, cato = by("ada"), by("bela"), by("cato")
    [mine] = ada.get("/api/v1/statements").json()["results"]
    assert (mine["month"], mine["digest"]) == ("2026-02", statement.digest)
    assert bela.get("/api/v1/statements").json()["results"] == []
    rows = body(ada.get(f"/api/v1/statements/{statement.pk}/rows"))
    assert hashlib.sha256(rows).hexdigest() == statement.rows_digest
    assert bela.get(f"/api/v1/statements/{statement.pk}/rows").status_code == 404
    said = {"kind": "disputed", "text": "Why?"}
    where = f"/api/v1/statements/{statement.pk}/remarks"
    answer = ada.post(where, json.dumps(said), content_type="application/json")
    assert answer.status_code == 201
    assert answer.json()["remarks"][0]["kind"] == "disputed"
    refused = cato.post(where, json.dumps(said), content_type="application/json")
    assert refused.status_code == 403
    about = [row["about"] for row in ada.get("/api/v1/duties").json()["results"]]
    assert duty.about in about
    assert duty.about not in str(bela.get("/api/v1/duties").json())
    done = f"/api/v1/duties/{duty.pk}/fulfilment"
    given = json.dumps({"proof": "in the footer"})
    assert ada.post(done, given, content_type="application/json").status_code == 404
    answer = cato.post(done, given, content_type="application/json")
    assert (answer.status_code, answer.json()["state"]) == (200, "done")
    assert cato.post(done, given, content_type="application/json").status_code == 409


@pytest.mark.parametrize("path", ["duties", "statements", "quotas"])
def test_pages_of_money_are_for_their_people(by, path):
    assert by("cato").get(f"/legal/{path}/").status_code == 200
    for name in ("ada", "edda", "mallory"):
        assert by(name).get(f"/legal/{path}/").status_code == 404
