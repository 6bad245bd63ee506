"""Terms: every field checked, said in plain words, and held against another version."""

from dataclasses import fields, replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from governance.models.licences import TERM_FIELDS
from governance.services import documents, terms
from governance.services.terms import Terms
from governance.vocabulary import Purpose, Sector, Use
from tests import factories
from tests.factories import NOW, after, digest_of

pytestmark = pytest.mark.django_db


def held(**changed) -> Terms:
    plain = Terms(
        uses=[Use.TRAIN, Use.ANSWER],
        purposes=[Purpose.ACADEMIC_RESEARCH],
        starts_at=datetime(2027, 1, 1, tzinfo=UTC),
        ends_at=datetime(2028, 1, 1, tzinfo=UTC),
    )
    return replace(plain, **changed)


def duty(**changed):
    return {"action": "inform", "within_days": 30, "about": "audits", **changed}


WRONG = [
    ({"uses": []}, "uses"),
    ({"uses": ["sell"]}, "uses"),
    ({"prohibited_uses": ["sell"]}, "prohibited_uses"),
    ({"prohibited_uses": ["answer"]}, "prohibited_uses"),
    ({"purposes": []}, "purposes"),
    ({"purposes": ["war"]}, "purposes"),
    ({"prohibited_purposes": ["war"]}, "prohibited_purposes"),
    ({"prohibited_purposes": ["academic_research"]}, "prohibited_purposes"),
    ({"prohibited_purposes": ["research"]}, "prohibited_purposes"),
    ({"consumers": ["nobody"]}, "consumers"),
    ({"excluded_consumers": ["nobody"]}, "excluded_consumers"),
    ({"recipient_classes": ["royal"]}, "recipient_classes"),
    ({"sectors": ["research"]}, "sectors"),
    ({"excluded_sectors": ["Z"]}, "excluded_sectors"),
    ({"sectors": ["J", "P"], "excluded_sectors": ["J"]}, "excluded_sectors"),
    ({"territories": ["Europe"]}, "territories"),
    ({"territories": ["nl"]}, "territories"),
    ({"excluded_territories": ["ÜS"]}, "excluded_territories"),
    ({"territories": ["DE"], "excluded_territories": ["EU"]}, "excluded_territories"),
    ({"territories": ["EU"], "excluded_territories": ["EEA"]}, "excluded_territories"),
    ({"starts_at": NOW.replace(tzinfo=None)}, "starts_at"),
    ({"ends_at": NOW.replace(tzinfo=None)}, "ends_at"),
    ({"ends_at": datetime(2027, 1, 1, tzinfo=UTC)}, "ends_at"),
    ({"expert_digest": "abc"}, "expert_digest"),
    ({"expert_digest": digest_of("x").upper()}, "expert_digest"),
    ({"max_tokens": 0, "quota_period": "month"}, "max_tokens"),
    ({"max_answers": -1, "quota_period": "month"}, "max_answers"),
    ({"max_tokens": 5}, "quota_period"),
    ({"max_tokens": 5, "quota_period": "week"}, "quota_period"),
    ({"quota_period": "month"}, "quota_period"),
    ({"max_extraction_rate": 1.5}, "max_extraction_rate"),
    ({"max_extraction_rate": float("nan")}, "max_extraction_rate"),
    ({"payment_type": "barter"}, "payment_type"),
    ({"payment_type": "free", "rate_per_million_tokens": 1}, "payment_type"),
    ({"rate_per_million_tokens": -1}, "rate_per_million_tokens"),
    ({"rate_per_million_tokens": Decimal("NaN")}, "rate_per_million_tokens"),
    ({"minimum_per_period": -1}, "minimum_per_period"),
    ({"minimum_per_period": 100}, "minimum_per_period"),
    ({"currency": "euro"}, "currency"),
    ({"currency": "ÄÖÜ"}, "currency"),
    ({"requires_attribution": True}, "attribution_text"),
    ({"attribution_text": "Alder Press"}, "requires_attribution"),
    ({"requires_attribution": True, "attribution_text": "a" * 301}, "attribution_text"),
    ({"duties": [duty(action="bow")]}, "duties"),
    ({"duties": [duty(within_days=-1)]}, "duties"),
    ({"duties": [duty(within_days=1.5)]}, "duties"),
    ({"duties": [duty(within_days=True)]}, "duties"),
    ({"duties": [{"action": "inform"}]}, "duties"),
    ({"duties": [duty(whom="us")]}, "duties"),
    ({"duties": [duty(about=3)]}, "duties"),
    ({"duties": ["inform"]}, "duties"),
    ({"notice_days": -1}, "notice_days"),
    ({"wind_down_days": 4000}, "wind_down_days"),
    ({"on_withdrawal": "continue"}, "on_withdrawal"),
    ({"governing_law": "x" * 101}, "governing_law"),
    ({"contract_digest": digest_of("never stored")}, "contract_digest"),
    ({"contract_digest": "abc"}, "contract_digest"),
    ({"clauses": {"uses": "2.1"}}, "clauses"),
    ({"clauses": {"love": "2.1"}}, "clauses"),
    ({"clauses": {"uses": " "}}, "clauses"),
]


@pytest.mark.parametrize(("wrong", "field"), WRONG)
def test_each_field_that_does_not_hold_is_refused_at_its_name(wrong, field):
    found = terms.wrong_fields(held(**wrong))
    assert list(found) == [field]
    assert "xpected" in found[field]
    assert "found" in found[field]
    assert found[field].endswith(".")


def test_every_term_that_people_type_has_a_check():
    free = {"note", "survival", "is_exclusive"}  # length only, or a yes or no
    assert {field for _, field in WRONG} | free == set(TERM_FIELDS)


@pytest.mark.parametrize(
    "lawful",
    [
        {"prohibited_purposes": ["advertising"], "purposes": ["commercial"]},
        {"territories": ["EU"], "excluded_territories": ["FR"]},
        {"territories": ["EU", "US"], "excluded_territories": ["CN"]},
        {"consumers": []},
        {"payment_type": "subscription", "minimum_per_period": 100},
        {"max_tokens": 1, "quota_period": "term"},
        {"uses": [Use.TRAIN], "purposes": []},
        {"duties": [duty(within_days=0), {"action": "delete", "within_days": 3650}]},
    ],
)
def test_what_narrows_without_contradiction_holds(lawful):
    assert terms.wrong_fields(held(**lawful)) == {}


def full() -> Terms:
    """Terms that use every field."""
    factories.consumer(slug="dara")
    factories.consumer(slug="ember")
    document = documents.store(b"signed", name="c", media_type="text/plain", by=None, at=NOW)
    return held(
        uses=["train", "answer", "quantise"],
        prohibited_uses=["distil", "redistribute"],
        purposes=["academic_research", "teaching"],
        prohibited_purposes=["advertising"],
        consumers=["dara"],
        excluded_consumers=["ember"],
        recipient_classes=["education", "government"],
        sectors=["M", "P"],
        excluded_sectors=["K"],
        territories=["EU", "CH"],
        excluded_territories=["HU"],
        is_exclusive=True,
        expert_digest=digest_of("news"),
        max_tokens=1_000_000,
        max_answers=1,
        quota_period="month",
        max_extraction_rate=0.001,
        rate_per_million_tokens=Decimal("40.5"),
        minimum_per_period=100,
        requires_attribution=True,
        attribution_text="Alder Press",
        duties=[duty(), duty(action="delete", within_days=0, about="samples")],
        notice_days=14,
        wind_down_days=30,
        on_withdrawal="recompute",
        governing_law="Netherlands",
        survival="Payment for past use",
        clauses={"uses": "2.1", "purposes": "2.2"},
        contract_digest=document.digest,
        note="Agreed in Utrecht",
    )


def test_full_terms_hold_and_read_as_one_text():
    agreed = full()
    assert terms.wrong_fields(agreed) == {}
    corpus = factories.corpus(title="Letters", owner=factories.owner(legal_name="Alder Press"))
    assert terms.words_of(corpus, agreed) == (
        "Letters of Alder Press. May train an expert. May also be quantised. May not be distilled "
        "or redistributed, whatever another licence says. May answer for academic research and "
        "teaching, asked by dara but never ember, in CH and the European Union. Only for education "
        "or government organisations. Only for organisations in the sector “Professional, "
        "scientific and technical activities” or “Education”. Never for advertising, whatever "
        "another licence says. Never for anyone in the sector “Financial and insurance "
        "activities”. Never in HU. In force from 1 January 2027 until the end of 31 December 2027. "
        "No other licence on this collection may run beside it. Covers only the revision "
        f"{digest_of('news')[:12]}… of the expert. At "
        "most 1,000,000 tokens and 1 answer a calendar month. Served only while its audited "
        "extraction rate is at most 0.1%. Costs 40.50 EUR for a million tokens the expert accounts "
        "for, and at least 100.00 EUR a calendar month. Answers name the source: “Alder Press”. We "
        "must inform the owner about audits within 30 days and delete samples at once. Termination "
        "takes 14 days' notice and 30 days of wind-down; the owner may withdraw at any time, at "
        "once. An answer under way then goes on without the expert, and the words already handed "
        "over stay; an order of an authority or a court ends it at once. Outlasts the licence: "
        "Payment for past use. Governing law: Netherlands. Bound to "
        f"the signed file with the digest {agreed.contract_digest[:12]}…; 2 terms cite a clause of "
        "it. Note: Agreed in Utrecht."
    )


def test_the_shortest_licence_reads_in_five_sentences():
    assert terms.words_of(None, held(territories=["EU"])) == (
        "May train an expert. May answer for academic research, asked by anyone, in the European "
        "Union. In force from 1 January 2027 until the end of 31 December 2027. Served only while "
        "its audited extraction rate is at most 1%. Termination takes no notice; the owner may "
        "withdraw at any time, at once."
    )


def test_a_licence_to_train_alone_still_says_for_whom_and_where():
    said = terms.words_of(
        None,
        held(
            uses=["train"],
            purposes=[],
            territories=["NL"],
            recipient_classes=["commercial"],
            excluded_consumers=["ember"],
        ),
    )
    assert "May not answer anybody. Only for commercial organisations." in said
    assert "Only for anyone but never ember. Only in NL." in said


def changed(agreed: Terms) -> dict:
    """Another value for every term."""
    return {
        "uses": ["answer"],
        "prohibited_uses": ["distil"],
        "purposes": ["teaching"],
        "prohibited_purposes": [],
        "consumers": None,
        "excluded_consumers": [],
        "recipient_classes": ["education"],
        "sectors": ["M"],
        "excluded_sectors": ["K", "L"],
        "territories": ["CH"],
        "excluded_territories": ["PL"],
        "starts_at": after(1),
        "ends_at": None,
        "is_exclusive": False,
        "expert_digest": "",
        "max_tokens": 999_999,
        "max_answers": None,
        "quota_period": "year",
        "max_extraction_rate": 0.00101,
        "payment_type": "subscription",
        "rate_per_million_tokens": Decimal("40.5001"),
        "minimum_per_period": 0,
        "currency": "CHF",
        "requires_attribution": False,
        "attribution_text": "Alder",
        "duties": [duty(within_days=31)],
        "notice_days": 15,
        "wind_down_days": 0,
        "on_withdrawal": "abort",
        "governing_law": "",
        "survival": "",
        "clauses": {"uses": "2.1"},
        "contract_digest": "",
        "note": "",
    }


@pytest.mark.parametrize("name", TERM_FIELDS)
def test_every_term_changes_the_sentences_and_shows_in_the_difference(name):
    agreed = full()
    other = replace(agreed, **{name: changed(agreed)[name]})
    assert terms.sentences(other) != terms.sentences(agreed)
    assert name in {one.field for one in terms.differences(agreed, other)}


@pytest.mark.parametrize("name", TERM_FIELDS)
def test_every_term_belongs_to_one_group_has_a_label_and_is_spoken_of(name):
    assert sum(name in group.fields for group in terms.GROUPS) == 1
    assert terms.LABELS[name]
    spoken = {field for sentence in terms.sentences(full()) for field in sentence.fields}
    assert name in spoken | {"payment_type"}  # what is paid by use shows in its rate


def test_terms_and_columns_are_the_same_fields():
    assert {field.name for field in fields(Terms)} == set(TERM_FIELDS)


def test_a_difference_is_said_in_words_and_order_makes_none():
    older = held(territories=["DE", "NL"], notice_days=14)
    newer = held(territories=["NL", "EU"], notice_days=0, purposes=["academic_research"] * 2)
    said = [(one.label, one.before, one.after) for one in terms.differences(older, newer)]
    assert said == [
        ("Territories", "DE and NL", "European Union and NL"),
        ("Notice of termination", "14 days", "None"),
    ]
    assert terms.differences(older, held(territories=["NL", "DE"], notice_days=14)) == ()


@pytest.mark.parametrize(
    ("share", "text"), [(0.01, "1%"), (0, "0%"), (1, "100%"), (0.00001, "0.001%"), (0.125, "12.5%")]
)
def test_a_share_is_said_exactly(share, text):
    assert terms.said("max_extraction_rate", held(max_extraction_rate=share)) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [("40", "40.00"), ("40.5", "40.50"), ("0.0001", "0.0001"), ("1e4", "10,000.00")],
)
def test_money_keeps_every_decimal_it_has(amount, text):
    agreed = held(rate_per_million_tokens=Decimal(amount))
    assert terms.said("rate_per_million_tokens", agreed) == f"{text} EUR"


@pytest.mark.parametrize("sector", list(Sector))
def test_sectors_are_the_sections_of_nace_and_known_by_letter_and_title(sector):
    assert Sector.named(sector.value.lower()) is sector
    assert Sector.named(sector.label.upper()) is sector


def test_everyday_names_of_sectors_are_understood_and_others_are_not():
    assert Sector.named("research") is Sector.M
    assert Sector.named("alchemy") is None
    assert "".join(Sector) == "ABCDEFGHIJKLMNOPQRSTU"
