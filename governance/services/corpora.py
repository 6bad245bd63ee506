"""Corpora: described, committed to, and never held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from django.db import transaction

from governance.canonical import canonical_json, sha256_hex
from governance.errors import InvalidTerms
from governance.exchange import signals
from governance.exchange.source_licences import limits_of
from governance.log import events
from governance.models import (
    Account,
    Corpus,
    CorpusProfile,
    CorpusSketch,
    CorpusSource,
    DataOwner,
    ReservationSignal,
)
from governance.models.corpora import MAX_SIGNAL_BYTES, SKETCH_SIZE
from governance.vocabulary import EventTag, Purpose, Sensitive, SignalKind, Use

SCHEME = "minhash-sha1-32/512/seed-1/words-8"
"""The one scheme whose sketches are taken: those of another could not be compared."""
_LEAST, _MOST = 0, (1 << 32) - 1


@transaction.atomic
def describe(
    owner: DataOwner,
    *,
    slug: str,
    title: str,
    source_licence: str,
    languages: Sequence[str],
    document_count: int,
    text_bytes: int,
    merkle_root: str = "",
    description: str = "",
    by: Account | None,
    at: datetime,
) -> Corpus:
    """Write down what an owner's data is, without the data.

    Args:
        languages: BCP 47 codes.
        merkle_root: commitment to the documents, 64 hexadecimal characters; blank if none yet.

    Raises:
        InvalidTerms: the slug is taken, a number is negative or the root is no digest.
    """
    fields = {}
    if Corpus.objects.filter(slug=slug).exists():
        fields["slug"] = "A corpus of this name is described already."
    if document_count < 0:
        fields["document_count"] = "A count is not negative."
    if text_bytes < 0:
        fields["text_bytes"] = "A size is not negative."
    if merkle_root and not _is_digest(merkle_root):
        fields["merkle_root"] = "64 lowercase hexadecimal characters, or nothing."
    _refuse("a new and plausible corpus", fields)
    corpus = Corpus.objects.create(
        owner=owner,
        slug=slug,
        title=title,
        description=description,
        source_licence=source_licence,
        languages=list(languages),
        document_count=document_count,
        text_bytes=text_bytes,
        merkle_root=merkle_root,
        described_at=at,
    )
    details = {
        "owner": owner.slug,
        "document_count": document_count,
        "text_bytes": text_bytes,
        "merkle_root": merkle_root,
    }
    _staged(EventTag.CORPUS_DESCRIBED, corpus, details, by, at)
    return corpus


@transaction.atomic
def profile(
    corpus: Corpus,
    *,
    period_from: date | None,
    period_to: date | None,
    sensitive: Sequence[str],
    by: Account | None,
    at: datetime,
) -> CorpusProfile:
    """Say from when the corpus stems (days inclusive, None: not known) and what to be careful of.

    Raises:
        InvalidTerms: the period runs backwards, or an unknown word for what is sensitive.
    """
    fields = _wrong_period(period_from, period_to)
    if unknown := sorted(set(sensitive) - set(Sensitive)):
        fields["sensitive"] = f"Unknown {', '.join(unknown)}; known are {', '.join(Sensitive)}."
    _refuse("a period and known kinds of sensitive content", fields)
    row = CorpusProfile.objects.create(
        corpus=corpus,
        period_from=period_from,
        period_to=period_to,
        sensitive=sorted(set(sensitive)),
        noted_by=by,
        noted_at=at,
    )
    details = {
        "period_from": period_from.isoformat() if period_from else None,
        "period_to": period_to.isoformat() if period_to else None,
        "sensitive": row.sensitive,
    }
    _staged(EventTag.CORPUS_PROFILED, corpus, details, by, at)
    return row


@transaction.atomic
def note_source(
    corpus: Corpus,
    *,
    title: str,
    licence: str,
    replaces: CorpusSource | None = None,
    is_gone: bool = False,
    by: Account | None,
    at: datetime,
    **facts: Any,
) -> CorpusSource:
    """Write down one source of a corpus, or correct or strike one written down before.

    Args:
        licence: an SPDX id, or the owner's own words.
        replaces: the row this corrects; with `is_gone`, the row that no longer holds.
        facts: the remaining columns of `CorpusSource`.

    Raises:
        InvalidTerms: no licence, a period backwards, or a row of another corpus or replaced before.
    """
    fields = _wrong_period(facts.get("period_from"), facts.get("period_to"))
    if not licence.strip():
        fields["licence"] = "An SPDX id such as CC-BY-4.0, or words of your own."
    if replaces is not None:
        was_replaced = CorpusSource.objects.filter(replaces=replaces).exists()
        if replaces.corpus_id != corpus.pk or was_replaced:
            fields["replaces"] = "A source of this corpus that nothing has replaced yet."
    elif is_gone:
        fields["is_gone"] = "Say which source is gone."
    _refuse("a source with its licence", fields)
    row = CorpusSource.objects.create(
        corpus=corpus,
        title=title,
        licence=licence.strip(),
        replaces=replaces,
        is_gone=is_gone,
        noted_by=by,
        noted_at=at,
        **facts,
    )
    details = {
        "title": title,
        "licence": row.licence,
        "replaces": str(replaces.pk) if replaces else None,
        "is_gone": is_gone,
    }
    _staged(EventTag.CORPUS_SOURCE_NOTED, corpus, details, by, at)
    return row


@transaction.atomic
def sketched(
    corpus: Corpus, sketch: Mapping[str, Any], *, by: Account | None, at: datetime
) -> CorpusSketch:
    """Take in what `reclaim sketch` printed at the owner's.

    Raises:
        InvalidTerms: not such a sketch, or one of another scheme.
    """
    minima: Any = sketch.get("minima")
    root = str(sketch.get("merkle_root") or "")
    fields = {}
    if sketch.get("scheme") != SCHEME:
        fields["sketch"] = (
            f"Expected scheme {SCHEME}, found {sketch.get('scheme')}. Update the kit."
        )
    elif not _is_sketch(minima):
        fields["sketch"] = (
            f"Expected {SKETCH_SIZE} whole numbers of 32 bits. Hand in the file whole."
        )
    if root and not _is_digest(root):
        fields["merkle_root"] = "64 lowercase hexadecimal characters, or nothing."
    counts = [sketch.get("document_count"), sketch.get("shingle_words")]
    if not all(isinstance(count, int) and 0 < count < 1 << 31 for count in counts):
        fields.setdefault("sketch", "Expected document_count and shingle_words, both above 0.")
    _refuse("what reclaim sketch prints", fields)
    row = CorpusSketch.objects.create(
        corpus=corpus,
        scheme=SCHEME,
        minima=minima,
        shingle_words=sketch["shingle_words"],
        document_count=sketch["document_count"],
        merkle_root=root,
        digest=sha256_hex(canonical_json(dict(sketch))),
        noted_by=by,
        noted_at=at,
    )
    details = {"digest": row.digest, "merkle_root": root, "document_count": row.document_count}
    _staged(EventTag.CORPUS_SKETCHED, corpus, details, by, at)
    return row


@transaction.atomic
def note_signal(
    corpus: Corpus,
    *,
    kind: SignalKind,
    url: str,
    raw: bytes,
    seen_at: datetime,
    by: Account | None,
    at: datetime,
) -> ReservationSignal:
    """Keep a reservation of rights as it was found at `url` at `seen_at`, and what it says.

    Raises:
        InvalidTerms: longer than 64 KiB, not of this kind, or seen in the future.
    """
    fields = {}
    if len(raw) > MAX_SIGNAL_BYTES:
        fields["raw"] = f"Expected at most {MAX_SIGNAL_BYTES} bytes, found {len(raw)}."
    if seen_at > at:
        fields["seen_at"] = "Nothing has been seen in the future."
    _refuse("a signal as it was seen", fields)
    found = signals.read(kind, raw)
    row = ReservationSignal.objects.create(
        corpus=corpus,
        kind=kind,
        url=url,
        value=found.value,
        reserves=found.reserves,
        seen_at=seen_at,
        raw=raw,
        digest=sha256_hex(raw),
        noted_by=by,
        noted_at=at,
    )
    details = {"kind": str(kind), "url": url, "reserves": found.reserves, "digest": row.digest}
    _staged(EventTag.RESERVATION_NOTED, corpus, details, by, at)
    return row


@dataclass(frozen=True)
class Strictest:
    """What the sources of a corpus leave together: each limit, and the sources it comes from."""

    purposes: dict[Purpose, tuple[str, ...]] = field(default_factory=dict)
    uses: dict[Use, tuple[str, ...]] = field(default_factory=dict)
    attribution: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


def sources(corpus: Corpus) -> list[CorpusSource]:
    """The sources that hold now: not replaced, not gone."""
    return list(corpus.sources.filter(replaced_by__isnull=True, is_gone=False))


def strictest(corpus: Corpus) -> Strictest:
    """What any one source forbids is forbidden for the corpus: its texts cannot be told apart.

    A corpus without sources has one, the licence it was described with.
    """
    named = [(row.title, row.licence) for row in sources(corpus)]
    named = named or [(corpus.title, corpus.source_licence)]
    purposes: dict[Purpose, tuple[str, ...]] = {}
    uses: dict[Use, tuple[str, ...]] = {}
    attribution, unread = [], []
    for title, licence in named:
        limits, said = limits_of(licence), f"{title} ({licence})"
        for purpose in limits.forbidden_purposes:
            purposes[purpose] = (*purposes.get(purpose, ()), said)
        for use in limits.forbidden_uses:
            uses[use] = (*uses.get(use, ()), said)
        if limits.requires_attribution:
            attribution.append(said)
        if not limits.is_read:
            unread.append(said)
    return Strictest(purposes, uses, tuple(attribution), tuple(unread))


def check_sources(corpus: Corpus, terms: Any) -> None:
    """Refuse terms that grant more than the sources of the corpus leave.

    Raises:
        InvalidTerms: with a message for every field that goes too far.
    """
    _refuse("terms that the licences of the sources leave room for", beyond_sources(corpus, terms))


def beyond_sources(corpus: Corpus, terms: Any) -> dict[str, str]:
    """Where terms grant more than the sources of the corpus leave: field to message.

    A purpose covers all below it, so a wide one is refused too, unless what is forbidden of it is
    among the prohibited purposes.
    """
    limits = strictest(corpus)
    wrong = {}
    prohibited = [Purpose(code) for code in terms.prohibited_purposes if code in set(Purpose)]
    granted = [Purpose(code) for code in terms.purposes if code in set(Purpose)]
    for forbidden, because in limits.purposes.items():
        hit = [one for one in granted if one.is_part_of(forbidden) or forbidden.is_part_of(one)]
        if hit and not any(forbidden.is_part_of(one) for one in prohibited):
            wrong["purposes"] = (
                f"{_labels(hit)} includes {forbidden.label.lower()}, which {because[0]} forbids. "
                f"Leave it out, or prohibit {forbidden.label.lower()}."
            )
    for use, sources_of in limits.uses.items():
        if use in terms.uses and use not in terms.prohibited_uses:
            wrong["uses"] = f"{use.label} is forbidden by {sources_of[0]}. Leave it out."
    if limits.attribution and Use.ANSWER in terms.uses and not terms.requires_attribution:
        wrong["requires_attribution"] = f"{limits.attribution[0]} asks for credit. Require it."
    return wrong


def _labels(purposes: Sequence[Purpose]) -> str:
    return ", ".join(purpose.label for purpose in purposes)


def _staged(
    tag: EventTag, corpus: Corpus, details: dict[str, Any], by: Account | None, at: datetime
) -> None:
    events.stage(tag, subject=f"corpus:{corpus.slug}", by=by, at=at, details=details)


def _refuse(expected: str, fields: Mapping[str, str]) -> None:
    if fields:
        found = "; ".join(f"{name}: {message}" for name, message in fields.items())
        raise InvalidTerms(f"expected {expected}, found {found}", fields=fields)


def _wrong_period(begin: date | None, end: date | None) -> dict[str, str]:
    if begin is not None and end is not None and end < begin:
        return {"period_to": f"Ends before it begins ({begin})."}
    return {}


def _is_sketch(minima: Any) -> bool:
    return (
        isinstance(minima, list)
        and len(minima) == SKETCH_SIZE
        and all(isinstance(value, int) and _LEAST <= value <= _MOST for value in minima)
    )


def _is_digest(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")
