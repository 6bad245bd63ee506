"""What corpora have in common, and where signals speak against licences."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from governance.exchange import croissant
from governance.exchange.source_licences import limits_of
from governance.models import Corpus, CorpusSketch, CorpusSource, ReservationSignal
from governance.models.corpora import SKETCH_SIZE
from governance.services import corpora

_Z = 1.96
"""Ninety-five of a hundred intervals hold the true value."""


@dataclass(frozen=True)
class Overlap:
    """How much of two corpora is the same, as estimated from their sketches.

    `jaccard` is the share of shingles (runs of words) that both hold among all that either holds;
    `low` and `high` bound it with 95 % confidence (Wilson). It counts equal passages: a
    translation or a rewording is not seen.
    """

    corpus: Corpus
    jaccard: float
    low: float
    high: float

    @property
    def is_certain(self) -> bool:
        """Whether chance is ruled out: corpora without a common passage share no value."""
        return self.jaccard > 0

    def __str__(self) -> str:
        error = max(self.high - self.jaccard, self.jaccard - self.low)
        if not self.is_certain:
            return f"less than {self.high:.1%} in common"
        return f"{self.jaccard:.1%} ± {error:.1%} in common"


def overlaps(corpus: Corpus, *, of_others: bool = True) -> list[Overlap]:
    """The other corpora with a sketch, the most similar first.

    Args:
        of_others: only corpora of other owners: these a withdrawal of this one does not clear.
    """
    mine = corpus.sketches.first()
    if mine is None:
        return []
    others = CorpusSketch.objects.exclude(corpus=corpus).filter(scheme=mine.scheme)
    if of_others:
        others = others.exclude(corpus__owner_id=corpus.owner_id)
    newest = others.select_related("corpus__owner").order_by("corpus_id", "-noted_at")
    found = [
        _overlap(mine.minima, each.minima, each.corpus) for each in newest.distinct("corpus_id")
    ]
    return sorted(found, key=lambda each: (-each.jaccard, each.corpus.slug))


def not_cleared_by(corpus: Corpus) -> list[Overlap]:
    """What stays with other owners when this corpus is withdrawn: certain overlaps."""
    return [each for each in overlaps(corpus) if each.is_certain]


def _overlap(one: list[int], other: list[int], corpus: Corpus) -> Overlap:
    same = sum(a == b for a, b in zip(one, other, strict=True))
    low, high = _wilson(same, SKETCH_SIZE)
    return Overlap(corpus, same / SKETCH_SIZE, low, high)


def _wilson(hits: int, tries: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    share, square = hits / tries, _Z * _Z
    middle = (share + square / (2 * tries)) / (1 + square / tries)
    half = _Z * sqrt(share * (1 - share) / tries + square / (4 * tries**2)) / (1 + square / tries)
    return max(0.0, middle - half), min(1.0, middle + half)


def facts(corpus: Corpus) -> croissant.CorpusFacts:
    """A corpus as its manifest describes it: all that is known without the data."""
    profile, sketch = corpus.profiles.first(), corpus.sketches.first()
    return croissant.CorpusFacts(
        slug=corpus.slug,
        title=corpus.title,
        source_licence=corpus.source_licence,
        description=corpus.description,
        owner_name=corpus.owner.legal_name,
        languages=tuple(corpus.languages),
        document_count=corpus.document_count,
        text_bytes=corpus.text_bytes,
        period_from=profile.period_from if profile else None,
        period_to=profile.period_to if profile else None,
        sensitive=tuple(profile.sensitive) if profile else (),
        merkle_root=corpus.merkle_root or (sketch.merkle_root if sketch else ""),
        sketch=_sketch(sketch) if sketch else None,
        sources=tuple(_source(row) for row in corpora.sources(corpus)),
    )


def _sketch(sketch: CorpusSketch) -> dict[str, object]:
    return {
        "scheme": sketch.scheme,
        "minima": sketch.minima,
        "document_count": sketch.document_count,
        "shingle_words": sketch.shingle_words,
        "merkle_root": sketch.merkle_root,
    }


def _source(row: CorpusSource) -> croissant.SourceFacts:
    return croissant.SourceFacts(
        title=row.title,
        licence=row.licence,
        url=row.url,
        rights_holder=row.rights_holder,
        languages=tuple(row.languages),
        document_count=row.document_count,
        text_bytes=row.text_bytes,
        period_from=row.period_from,
        period_to=row.period_to,
    )


def contradictions(corpus: Corpus) -> list[ReservationSignal]:
    """Signals that reserve rights in a corpus of which a source claims to be open to everyone.

    Of several signals from one address only the last counts.
    """
    licences = [row.licence for row in corpora.sources(corpus)] or [corpus.source_licence]
    if not any(limits_of(licence).is_public for licence in licences):
        return []
    newest: dict[tuple[str, str], ReservationSignal] = {}
    for signal in corpus.signals.order_by("seen_at", "noted_at"):
        newest[signal.kind, signal.url] = signal
    return [signal for signal in newest.values() if signal.reserves]
