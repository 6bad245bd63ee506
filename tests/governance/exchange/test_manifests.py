"""Manifests and bills of materials: the shape other tools expect of them."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from governance.errors import InvalidTerms
from governance.exchange import croissant, export, load
from governance.exchange.rights import Rights, normal

TERMS = normal({"uses": ["train"], "ends_at": datetime(2029, 1, 1, tzinfo=UTC)})
RIGHTS = Rights(
    terms=TERMS,
    reference="letters-v1",
    corpus="letters",
    title="Letters",
    owner="birch",
    owner_name="Birch Archive",
    is_agreed=True,
    decided_at=datetime(2027, 1, 1, tzinfo=UTC),
    languages=("de",),
    document_count=12,
    merkle_root="ab" * 32,
)
FACTS = croissant.CorpusFacts(
    slug="letters",
    title="Letters",
    source_licence="own",
    description="Of two centuries.",
    owner_name="Birch Archive",
    languages=("de", "en"),
    document_count=12,
    text_bytes=3_400,
    period_from=date(1801, 1, 1),
    period_to=None,
    sensitive=("personal_data",),
    merkle_root="ab" * 32,
    sketch={"scheme": "s", "minima": [1, 2]},
    sources=(
        croissant.SourceFacts(
            title="Estate", licence="own", url="https://birch.example/", rights_holder="Heirs",
            languages=("de",), document_count=2, text_bytes=9, period_from=date(1801, 1, 1),
            period_to=date(1832, 3, 22),
        ),
    ),
)  # fmt: skip


def test_a_manifest_comes_back_with_every_fact():
    body = croissant.written(croissant.manifest(FACTS))
    assert croissant.load_manifest(body) == FACTS
    assert croissant.load_manifest(body).losses == ()


def test_a_manifest_without_facts_comes_back_too():
    bare = croissant.CorpusFacts(slug="a", title="A")
    assert croissant.load_manifest(croissant.written(croissant.manifest(bare))) == bare


def test_a_manifest_names_the_standard_and_offers_no_file():
    found = croissant.manifest(FACTS)
    assert found["conformsTo"][0] == "http://mlcommons.org/croissant/1.1"
    assert found["distribution"] == []


def test_what_a_manifest_of_others_holds_beyond_is_named():
    found = {**croissant.manifest(FACTS), "recordSet": [], "distribution": [{"name": "f"}]}
    lost = {loss.term for loss in croissant.load_manifest(croissant.written(found)).losses}
    assert lost == {"recordSet", "distribution"}


@pytest.mark.parametrize(
    "spoilt",
    [
        {"reclaim:documentCount": -1},
        {"reclaim:documentCount": "many"},
        {"temporalCoverage": "long ago"},
        {"conformsTo": "http://elsewhere.example/"},
    ],
)
def test_a_manifest_with_what_it_cannot_hold_is_refused(spoilt):
    with pytest.raises(InvalidTerms, match="manifest"):
        croissant.load_manifest(croissant.written({**croissant.manifest(FACTS), **spoilt}))


def test_a_manifest_without_a_policy_proposes_nothing():
    with pytest.raises(InvalidTerms, match="usageInfo"):
        load("croissant", croissant.written(croissant.manifest(FACTS)))


def test_spdx_ties_the_dataset_to_its_licence_for_its_period():
    graph = {node["type"]: node for node in json.loads(export("spdx", RIGHTS).body)["@graph"]}
    assert graph["Relationship"]["relationshipType"] == "hasDeclaredLicense"
    assert graph["Relationship"]["from"] == graph["dataset_DatasetPackage"]["spdxId"]
    assert graph["Relationship"]["to"] == [graph["simplelicensing_SimpleLicensingText"]["spdxId"]]
    assert graph["Relationship"]["endTime"] == "2029-01-01T00:00:00Z"
    assert graph["CreationInfo"]["specVersion"] == "3.0.1"
    assert graph["dataset_DatasetPackage"]["dataset_datasetSize"] == 12


def test_cyclonedx_names_the_licensor_and_the_end():
    bom = json.loads(export("cyclonedx", RIGHTS).body)
    licensing = bom["components"][0]["licenses"][0]["license"]["licensing"]
    assert bom["specVersion"] == "1.6"
    assert licensing == {
        "licenseTypes": ["custom-metric"],
        "altIds": ["letters-v1"],
        "licensor": {"organization": {"name": "Birch Archive"}},
        "lastRenewal": "2027-01-01T00:00:00+00:00",
        "expiration": "2029-01-01T00:00:00+00:00",
    }


def test_a_purchase_with_an_end_is_not_called_perpetual():
    bought = replace(RIGHTS, terms={**TERMS, "payment_type": "purchase"})
    assert b"perpetual" not in export("cyclonedx", bought).body
    assert (
        b"perpetual"
        in export("cyclonedx", replace(bought, terms={**bought.terms, "ends_at": None})).body
    )


def test_an_agreed_licence_is_an_agreement_with_both_parties():
    policy = json.loads(export("odrl", RIGHTS).body)
    assert policy["@type"] == "Agreement"
    assert policy["assigner"] == "urn:reclaim:owner:birch"
    assert policy["assignee"] == "urn:reclaim:operator"
    assert policy["target"] == "urn:reclaim:corpus:letters"
