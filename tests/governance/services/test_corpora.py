"""Corpora without their data: sources limit licences, sketches tell overlaps, signals speak."""

from datetime import date

import pytest

from governance.errors import InvalidTerms
from governance.models import StagedEvent
from governance.selectors import corpora as selected
from governance.services import corpora, licences
from governance.services.effects.preview import preview
from governance.services.terms import Terms
from governance.vocabulary import Instrument, Purpose, SignalKind, Use
from tests import factories
from tests.factories import NOW, after

pytestmark = pytest.mark.django_db

SKETCH = {"scheme": corpora.SCHEME, "document_count": 3, "shingle_words": 8}


def terms(**fields):
    return Terms(**{"uses": ["train"], "purposes": [], "starts_at": NOW, **fields})


def sketched(corpus, minima, at=NOW):
    return corpora.sketched(corpus, {**SKETCH, "minima": minima}, by=None, at=at)


def note(corpus, licence, title="Leaves"):
    return corpora.note_source(corpus, title=title, licence=licence, by=None, at=NOW)


def test_a_corpus_of_its_owners_own_text_limits_nothing():
    corpus = factories.corpus(source_licence="own")
    everything = [purpose for purpose in Purpose if purpose.parent is None]
    assert corpora.beyond_sources(corpus, terms(uses=list(Use), purposes=everything)) == {}


@pytest.mark.parametrize(
    "purpose", ["commercial", "advertising", "research", "industrial_research"]
)
def test_a_non_commercial_source_forbids_what_earns(purpose):
    corpus = factories.corpus()
    note(corpus, "own", title="Own")
    note(corpus, "CC-BY-NC-4.0")
    wrong = corpora.beyond_sources(corpus, terms(purposes=[purpose]))
    assert "Leaves (CC-BY-NC-4.0) forbids" in wrong["purposes"]


def test_a_wide_purpose_passes_once_the_forbidden_part_is_prohibited():
    corpus = factories.corpus(source_licence="CC-BY-NC-4.0")
    wide = terms(purposes=["research"], prohibited_purposes=["industrial_research"])
    assert corpora.beyond_sources(corpus, wide) == {}


def test_a_licence_beyond_its_sources_is_refused_at_the_request():
    corpus = factories.corpus(source_licence="cc-by-nd-4.0")
    asked = terms(uses=["train", "distil"])
    with pytest.raises(InvalidTerms) as refusal:
        licences.request(corpus, terms=asked, by=factories.account(), at=NOW)
    assert "Distil is forbidden by" in refusal.value.fields["uses"]


def test_a_source_that_asks_for_credit_makes_answers_give_it():
    corpus = factories.corpus(source_licence="CC-BY-4.0")
    answering = {"uses": ["answer"], "purposes": ["education"]}
    assert set(corpora.beyond_sources(corpus, terms(**answering))) == {"requires_attribution"}
    assert corpora.beyond_sources(corpus, terms(**answering, requires_attribution=True)) == {}


def test_a_licence_of_ones_own_words_is_named_for_a_person_to_read():
    corpus = factories.corpus(source_licence="Deed of 1911")
    assert corpora.strictest(corpus).unread == (f"{corpus.title} (Deed of 1911)",)


def test_a_corrected_source_no_longer_counts_and_a_gone_one_neither():
    corpus = factories.corpus(source_licence="own")
    first = note(corpus, "CC-BY-NC-4.0")
    again = corpora.note_source(
        corpus, title="Leaves", licence="CC-BY-4.0", replaces=first, by=None, at=NOW
    )
    assert corpora.sources(corpus) == [again]
    with pytest.raises(InvalidTerms, match="nothing has replaced yet"):
        corpora.note_source(corpus, title="x", licence="own", replaces=first, by=None, at=NOW)
    corpora.note_source(
        corpus, title="Leaves", licence="none", replaces=again, is_gone=True, by=None, at=NOW
    )
    assert corpora.sources(corpus) == []


def test_each_act_stages_one_event():
    corpus = factories.corpus()
    before = StagedEvent.objects.count()
    note(corpus, "own")
    corpora.profile(
        corpus, period_from=date(2001, 1, 1), period_to=None, sensitive=["minors"], by=None, at=NOW
    )
    sketched(corpus, [5] * 512)
    assert StagedEvent.objects.count() == before + 3


@pytest.mark.parametrize(
    "spoilt",
    [
        {"scheme": "other"},
        {"minima": [1] * 511},
        {"minima": [-1] * 512},
        {"minima": [1 << 32] * 512},
        {"minima": ["1"] * 512},
        {"document_count": 0},
        {"merkle_root": "abc"},
    ],
)
def test_what_is_no_sketch_of_our_scheme_is_refused(spoilt):
    with pytest.raises(InvalidTerms, match="reclaim sketch"):
        corpora.sketched(
            factories.corpus(), {**SKETCH, "minima": [1] * 512, **spoilt}, by=None, at=NOW
        )


def test_overlaps_are_of_other_owners_newest_sketches_with_an_interval():
    mine, other = factories.corpus(), factories.corpus()
    sibling = factories.corpus(owner=mine.owner)
    sketched(mine, list(range(512)))
    sketched(sibling, list(range(512)))
    sketched(other, [10_000] * 512)
    sketched(other, [*range(64), *([10_000] * 448)], at=after(1))
    found = selected.overlaps(mine)
    assert [each.corpus for each in found] == [other]
    assert found[0].jaccard == 64 / 512
    assert found[0].low < 0.125 < found[0].high
    assert found[0].high - found[0].low < 0.06
    assert str(found[0]).startswith("12.5% ± 3")
    assert [each.corpus for each in selected.overlaps(mine, of_others=False)] == [sibling, other]


def test_no_equal_value_is_no_proof_of_nothing_in_common():
    mine, other = factories.corpus(), factories.corpus()
    sketched(mine, [1] * 512)
    sketched(other, [2] * 512)
    found = selected.overlaps(mine)[0]
    assert not found.is_certain
    assert str(found) == "less than 0.7% in common"
    assert selected.not_cleared_by(mine) == []


def test_a_corpus_without_a_sketch_has_no_overlaps():
    assert selected.overlaps(factories.corpus()) == []


def test_a_signal_is_read_and_kept_as_it_was_found():
    corpus = factories.corpus()
    row = corpora.note_signal(
        corpus,
        kind=SignalKind.TDMREP,
        url="https://leaves.example/.well-known/tdmrep.json",
        raw=b'[{"location": "/", "tdm-reservation": 1}]',
        seen_at=NOW,
        by=None,
        at=NOW,
    )
    assert (row.reserves, row.value) == (True, "tdm-reservation 1")


@pytest.mark.parametrize(
    ("raw", "seen_at", "problem"),
    [(b"x" * 65_537, NOW, "65536"), (b"train-ai=n", after(1), "future")],
)
def test_a_signal_too_long_or_from_the_future_is_refused(raw, seen_at, problem):
    with pytest.raises(InvalidTerms, match=problem):
        corpora.note_signal(
            factories.corpus(), kind=SignalKind.AIPREF, url="https://a.example/", raw=raw,
            seen_at=seen_at, by=None, at=NOW,
        )  # fmt: skip


def test_a_reservation_against_a_public_source_is_a_contradiction_until_it_is_gone():
    corpus = factories.corpus(source_licence="CC0-1.0")
    seen = {"kind": SignalKind.AIPREF, "url": "https://a.example/", "by": None, "at": after(9)}
    signal = corpora.note_signal(corpus, raw=b"train-ai=n", seen_at=NOW, **seen)
    assert selected.contradictions(corpus) == [signal]
    corpora.note_signal(corpus, raw=b"train-ai=y", seen_at=after(5), **seen)
    assert selected.contradictions(corpus) == []


def test_a_reservation_by_an_owner_of_closed_text_contradicts_nothing():
    corpus = factories.corpus(source_licence="own")
    corpora.note_signal(
        corpus, kind=SignalKind.AIPREF, url="https://a.example/", raw=b"train-ai=n", seen_at=NOW,
        by=None, at=NOW,
    )  # fmt: skip
    assert selected.contradictions(corpus) == []


def test_the_preview_of_a_withdrawal_names_what_others_still_hold():
    expert = factories.expert()
    other = factories.corpus()
    sketched(expert.corpus, list(range(512)))
    sketched(other, [*range(64), *([10_000] * 448)])
    shown = preview(expert, instrument=Instrument.WITHDRAW, at=after(1))
    said = f"It does not clear {other} of {other.owner}: estimated overlap 12.5% ± "
    assert any(sentence.startswith(said) for sentence in shown.sentences)
