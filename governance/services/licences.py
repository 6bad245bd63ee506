"""Licences: requested by one person, decided by another, ended by a named instrument.

A licence's own window needs no republishing and its expiry no job: the window is compiled into
the grant, and `decide` is given the instant.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import Q

from governance.errors import FourEyes, InvalidTerms, UnlawfulMove
from governance.log import events
from governance.models import Account, Corpus, Ending, Licence
from governance.services import snapshots
from governance.services import terms as terms_of
from governance.services.locks import policy_act
from governance.services.terms import Terms, plain_words
from governance.vocabulary import EventTag, Instrument, LicenceState

__all__ = ["Terms", "approve", "end", "plain_words", "reject", "request", "resume"]


@transaction.atomic
def request(
    corpus: Corpus,
    *,
    terms: Terms,
    supersedes: Licence | None = None,
    by: Account,
    at: datetime,
) -> Licence:
    """Put terms up for a second person's decision. Nothing is granted yet.

    Raises:
        InvalidTerms: with a message for every field that is wrong.
    """
    terms_of.check(terms)
    _check_overlap(corpus, terms, supersedes)
    # The corpus row is the lock under which versions are counted.
    corpus = Corpus.objects.select_for_update().select_related("owner").get(pk=corpus.pk)
    if supersedes is not None and (
        supersedes.corpus_id != corpus.pk or Licence.objects.filter(supersedes=supersedes).exists()
    ):
        raise InvalidTerms(
            f"expected a licence of {corpus} that nothing supersedes yet, found {supersedes}.",
            fields={"supersedes": "Choose the newest version of this collection's licence."},
        )
    number = Licence.objects.filter(corpus=corpus).count() + 1
    licence = Licence.objects.create(
        reference=_reference(corpus, number),
        corpus=corpus,
        supersedes=supersedes,
        terms_digest=terms_of.digest(corpus, terms),
        requested_by=by,
        requested_at=at,
        **terms_of.columns(terms),
    )
    events.stage(
        EventTag.LICENCE_REQUESTED,
        subject=f"licence:{licence.reference}",
        by=by,
        at=at,
        details={"corpus": corpus.slug, "terms_digest": licence.terms_digest},
    )
    return licence


def _reference(corpus: Corpus, number: int) -> str:
    stem = corpus.slug if len(corpus.slug) <= 24 else f"{corpus.slug[:15]}-{str(corpus.pk)[:8]}"
    return f"{stem}-v{number}"


def _check_overlap(corpus: Corpus, terms: Terms, supersedes: Licence | None) -> None:
    """The rule of the exclusion constraints, in words; they hold it when two approve at once."""
    beside = Licence.objects.filter(corpus=corpus, state=LicenceState.APPROVED)
    if supersedes is not None:
        beside = beside.exclude(pk=supersedes.pk)
    if not terms.is_exclusive:
        beside = beside.filter(is_exclusive=True)
    if terms.ends_at is not None:
        beside = beside.filter(starts_at__lt=terms.ends_at)
    other = (
        beside.filter(Q(ends_at=None) | Q(ends_at__gt=terms.starts_at))
        .filter(Q(stops_at=None) | Q(stops_at__gt=terms.starts_at))
        .first()
    )
    if other is not None:
        raise _overlaps(other.reference)


def _overlaps(found: str) -> InvalidTerms:
    return InvalidTerms(
        f"expected no licence of this collection beside an exclusive one, found {found} in the "
        "same period. Choose another period, or end the other licence first.",
        fields={"starts_at": f"Overlaps {found}, and one of the two is exclusive."},
    )


def approve(licence: Licence, *, by: Account, at: datetime, note: str = "") -> Licence:
    """Grant what was requested, and publish it.

    Raises:
        FourEyes: the requester may not approve.
        UnlawfulMove: decided already, or the terms are not those requested (then nothing stands).
        InvalidTerms: an exclusive licence approved meanwhile overlaps.
    """
    try:
        with policy_act():
            found = _decided(licence, LicenceState.APPROVED, by, at, note)
            if found.supersedes is not None:
                _replace(found.supersedes, found, by, at)
            found.save()
            events.stage(
                EventTag.LICENCE_APPROVED,
                subject=f"licence:{found.reference}",
                by=by,
                at=at,
                details={"terms_digest": found.terms_digest, "requested_by": found.requested_by_id},
            )
            snapshots.publish(reason=f"licence {found.reference} approved", at=at)
    except IntegrityError as refusal:
        if "licence_exclusive" not in str(refusal) and "licence_none_beside" not in str(refusal):
            raise
        raise _overlaps("one approved meanwhile") from refusal
    return found


def _replace(former: Licence, newer: Licence, by: Account, at: datetime) -> None:
    """A superseded version ends where its successor begins, or now if that is past."""
    stops_at = max(newer.starts_at, at)
    Ending.objects.create(
        instrument=Instrument.TERMINATE,
        licence=former,
        reason=f"superseded by {newer.reference}",
        ended_by=by,
        effective_at=stops_at,
        recorded_at=at,
    )
    # The window freed for the constraint may not exceed what the new terms fill.
    Licence.objects.filter(pk=former.pk).update(stops_at=min(stops_at, newer.starts_at))


@transaction.atomic
def reject(licence: Licence, *, by: Account, at: datetime, note: str = "") -> Licence:
    """Refuse what was requested.

    Raises:
        FourEyes: the requester may not decide.
        UnlawfulMove: decided already, or the terms are not those requested.
    """
    found = _decided(licence, LicenceState.REJECTED, by, at, note)
    found.save()
    events.stage(
        EventTag.LICENCE_REJECTED,
        subject=f"licence:{found.reference}",
        by=by,
        at=at,
        details={"terms_digest": found.terms_digest, "note": note},
    )
    return found


def _decided(
    licence: Licence, state: LicenceState, by: Account, at: datetime, note: str
) -> Licence:
    found = (
        Licence.objects.select_for_update(of=("self",))
        .select_related("corpus", "supersedes")
        .get(pk=licence.pk)
    )
    if found.state != LicenceState.REQUESTED:
        raise UnlawfulMove(
            f"expected {found} to await a decision, found it {found.state}. Request new terms."
        )
    if found.requested_by_id == by.pk:
        raise FourEyes(
            f"expected a second person to decide on {found}, found the requester. Ask a colleague."
        )
    if terms_of.digest(found.corpus, terms_of.of(found)) != found.terms_digest:
        raise UnlawfulMove(
            f"expected the terms of {found} as they were requested, found them changed since. "
            "Request them anew; nothing was approved."
        )
    found.state, found.decided_by, found.decided_at = state, by, at
    found.decision_note = note
    return found


def end(
    licence: Licence, *, instrument: Instrument, by: Account | None, at: datetime, reason: str = ""
) -> Ending:
    """End or pause a licence, and publish it. Ending it twice gives the first ending back.

    A termination takes effect after the licence's notice; every other instrument at once. Bytes
    stay: what erases is the withdrawal of an expert.

    Raises:
        UnlawfulMove: the licence was never approved.
    """
    instrument = Instrument(instrument)
    with policy_act():
        found = Licence.objects.select_for_update().get(pk=licence.pk)
        if found.state != LicenceState.APPROVED:
            raise UnlawfulMove(
                f"expected an approved licence, found {found} {found.state}. Reject it instead."
            )
        standing = _standing(found, instrument, at)
        if standing is not None:
            return standing
        days = found.notice_days if instrument == Instrument.TERMINATE else 0
        ending = Ending.objects.create(
            instrument=instrument,
            licence=found,
            reason=reason,
            ended_by=by,
            effective_at=at + timedelta(days=days),
            recorded_at=at,
        )
        if instrument != Instrument.SUSPEND:
            earliest = min(found.stops_at or ending.effective_at, ending.effective_at)
            Licence.objects.filter(pk=found.pk).update(stops_at=earliest)
        events.stage(
            EventTag.LICENCE_ENDED,
            subject=f"licence:{found.reference}",
            by=by,
            at=at,
            details={
                "instrument": instrument.value,
                "effective_at": ending.effective_at,
                "reason": reason,
            },
        )
        snapshots.publish(reason=f"licence {found.reference}: {instrument.label.lower()}", at=at)
    return ending


def _standing(licence: Licence, instrument: Instrument, at: datetime) -> Ending | None:
    """The ending that already does what is asked: a pause for a pause, else one as early."""
    endings = licence.endings.filter(lifts=None, lifted_by=None)
    if instrument == Instrument.SUSPEND:
        return endings.first()
    return (
        endings.exclude(instrument=Instrument.SUSPEND)
        .filter(Q(instrument=instrument) | Q(effective_at__lte=at))
        .order_by("effective_at")
        .first()
    )


def resume(licence: Licence, *, by: Account, at: datetime, reason: str = "") -> Ending:
    """Lift the suspension of a licence, and publish it.

    Raises:
        UnlawfulMove: it is not suspended.
    """
    with policy_act():
        found = Licence.objects.select_for_update().get(pk=licence.pk)
        paused = found.endings.filter(
            instrument=Instrument.SUSPEND, lifts=None, lifted_by=None
        ).first()
        if paused is None:
            raise UnlawfulMove(f"expected a suspended licence, found {found} not suspended.")
        lifting = Ending.objects.create(
            instrument=Instrument.SUSPEND,
            licence=found,
            lifts=paused,
            reason=reason,
            ended_by=by,
            effective_at=at,
            recorded_at=at,
        )
        events.stage(
            EventTag.LICENCE_RESUMED,
            subject=f"licence:{found.reference}",
            by=by,
            at=at,
            details={"suspended_at": paused.effective_at, "reason": reason},
        )
        snapshots.publish(reason=f"licence {found.reference} resumed", at=at)
    return lifting
