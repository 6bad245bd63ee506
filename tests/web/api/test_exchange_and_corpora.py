"""REST: licences in other vocabularies, proposals out of them, corpora without their data."""

import json

import pytest

from governance import exchange
from governance.models import Licence
from governance.services.corpora import SCHEME

API = "/api/v1"
SKETCH = {"scheme": SCHEME, "minima": [7] * 512, "document_count": 3, "shingle_words": 8}


def post(client, path, **fields):
    return client.post(f"{API}{path}", json.dumps(fields), content_type="application/json")


def export_path(story, code):
    return f"{API}/licences/{story.licence('code').reference}/export/{code}"


@pytest.mark.parametrize("code", sorted(exchange.FORMATS))
def test_staff_and_the_owner_get_a_licence_in_every_vocabulary(story, by, code):
    for name in ("cato", "edda", "aude", "ada"):
        answer = by(name).get(export_path(story, code))
        assert answer.status_code == 200
        assert answer["Content-Type"] == exchange.export(code, story.licence("code")).media_type
        assert "attachment" in answer["Content-Disposition"]


@pytest.mark.parametrize("name", ["bela", "mallory"])
def test_strangers_get_no_licence_in_any_vocabulary(story, by, name):
    assert by(name).get(export_path(story, "odrl")).status_code == 404


def test_nobody_gets_an_unknown_vocabulary(story, by):
    answer = by("cato").get(export_path(story, "pdf"))
    assert answer.status_code == 422
    assert "found pdf" in answer.json()["detail"]


def test_a_report_names_what_was_lost(story, by):
    report = by("cato").get(export_path(story, "rsl"), {"report": 1}).json()
    assert report["media_type"] == "application/rsl+xml"
    assert "<rsl" in report["body"]
    assert {"term": "purposes", "direction": "wider"}.items() <= next(
        loss for loss in report["losses"] if loss["term"] == "purposes"
    ).items()


def test_an_export_comes_back_as_a_proposal_and_stores_nothing(story, by):
    before = Licence.objects.count()
    policy = by("cato").get(export_path(story, "odrl")).content.decode()
    answer = post(by("cato"), "/imports", format="odrl", content=policy)
    assert answer.status_code == 200
    assert answer.json()["losses"] == []
    assert answer.json()["terms"]["uses"] == sorted(story.licence("code").uses)
    assert Licence.objects.count() == before


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"format": "odrl", "content": "no"}, "ODRL"),
        ({"format": "odrl"}, "either content or file"),
        ({"format": "spdx", "content": "{}"}, "spdx"),
        ({"format": "rsl", "content": '<!DOCTYPE x [<!ENTITY a "b">]><rsl/>'}, "entity"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_reason(story, by, fields, problem):
    answer = post(by("cato"), "/imports", **fields)
    assert answer.status_code in (400, 422)
    assert problem in answer.content.decode()


@pytest.mark.parametrize("name", ["edda", "ada", "mallory"])
def test_only_legal_staff_import(story, by, name):
    assert post(by(name), "/imports", format="aipref", content="train-ai=n").status_code == 404


def test_an_owner_describes_its_corpus_step_by_step(story, by):
    ada = by("ada")
    slug = "code-texts"
    source = {"title": "Leaves", "licence": "CC-BY-4.0", "languages": ["en"]}
    assert post(ada, f"/corpora/{slug}/sources", **source).status_code == 201
    profile = {"period_from": "2001-01-01", "period_to": None, "sensitive": ["minors"]}
    assert post(ada, f"/corpora/{slug}/profile", **profile).status_code == 201
    assert post(ada, f"/corpora/{slug}/sketches", **SKETCH).status_code == 201
    signal = {"kind": "aipref", "url": "https://leaves.example/", "raw": "train-ai=n",
              "seen_at": "2026-01-01T00:00:00Z"}  # fmt: skip
    kept = post(ada, f"/corpora/{slug}/signals", **signal)
    assert kept.status_code == 201
    assert kept.json()["reserves"] is True
    manifest = ada.get(f"{API}/corpora/{slug}/manifest").json()
    assert manifest["isBasedOn"][0]["license"] == "CC-BY-4.0"
    assert manifest["temporalCoverage"] == "2001-01-01/.."
    assert ada.get(f"{API}/corpora/{slug}/profile").json()["sensitive"] == ["minors"]
    assert len(ada.get(f"{API}/corpora/{slug}/sketches").json()) == 1
    assert "minima" not in ada.get(f"{API}/corpora/{slug}/sketches").json()[0]


@pytest.mark.parametrize("part", ["", "/manifest", "/sources", "/profile", "/sketches", "/signals"])
@pytest.mark.parametrize("name", ["bela", "mallory"])
def test_a_stranger_sees_nothing_of_a_corpus(story, by, part, name):
    assert by(name).get(f"{API}/corpora/code-texts{part}").status_code == 404


@pytest.mark.parametrize("name", ["bela", "edda", "mallory"])
def test_who_may_not_describe_a_corpus_changes_nothing_of_it(story, by, name):
    answer = post(by(name), "/corpora/code-texts/sources", title="x", licence="own")
    assert answer.status_code == 404


def test_overlaps_are_shown_to_staff_and_to_no_owner(story, by):
    for name, slug in (("ada", "code-texts"), ("bela", "languages-texts")):
        assert post(by(name), f"/corpora/{slug}/sketches", **SKETCH).status_code == 201
    found = by("cato").get(f"{API}/corpora/code-texts/overlaps").json()
    assert [each["corpus"] for each in found] == ["languages-texts"]
    assert found[0]["jaccard"] == 1.0
    assert by("ada").get(f"{API}/corpora/code-texts/overlaps").status_code == 404
