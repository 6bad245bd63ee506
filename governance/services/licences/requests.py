"""Asking for a licence: new terms, or the next version of terms that stand."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.db.models import Q

from governance.errors import InvalidTerms
from governance.log import events
from governance.models import Account, Corpus, Licence
from governance.services import approvals, corpora
from governance.services import terms as terms_of
from governance.services.approvals import subjects
from governance.services.terms import Terms
from governance.vocabulary import EventTag, LicenceState


@transaction.atomic
def request(
    corpus: Corpus,
    *,
    terms: Terms,
    supersedes: Licence | None = None,
    needs_countersignature: bool = False,
    by: Account,
    at: datetime,
) -> Licence:
    """Put terms up for a second person's decision. Nothing is granted yet.

    Args:
        supersedes: the version these terms replace once they are approved and begin.
        needs_countersignature: whether approval alone leaves it out of force until the owner has
            countersigned.

    Raises:
        InvalidTerms: with a message for every field that is wrong.
    """
    terms_of.check(terms)
    corpora.check_sources(corpus, terms)
    _check_overlap(corpus, terms, supersedes)
    # The corpus row is the lock under which versions are counted.
    corpus = Corpus.objects.select_for_update().select_related("owner").get(pk=corpus.pk)
    if supersedes is not None:
        _check_newest(corpus, supersedes)
    number = Licence.objects.filter(corpus=corpus).count() + 1
    licence = Licence.objects.create(
        reference=_reference(corpus, number),
        corpus=corpus,
        supersedes=supersedes,
        needs_countersignature=needs_countersignature,
        terms_digest=terms_of.digest(corpus, terms),
        requested_by=by,
        requested_at=at,
        **terms_of.columns(terms),
    )
    approvals.opened(subjects.licence(licence), by=by, at=at, words=terms.note)
    events.stage(
        EventTag.LICENCE_REQUESTED,
        subject=f"licence:{licence.reference}",
        by=by,
        at=at,
        details={
            "corpus": corpus.slug,
            "terms_digest": licence.terms_digest,
            "supersedes": supersedes.reference if supersedes else None,
            "needs_countersignature": needs_countersignature,
        },
    )
    return licence


def _reference(corpus: Corpus, number: int) -> str:
    stem = corpus.slug if len(corpus.slug) <= 24 else f"{corpus.slug[:15]}-{str(corpus.pk)[:8]}"
    return f"{stem}-v{number}"


def _check_newest(corpus: Corpus, supersedes: Licence) -> None:
    """Only an approved version that no other version replaces, or waits to replace."""
    found = Licence.objects.get(pk=supersedes.pk)
    waiting = found.successors.exclude(state=LicenceState.REJECTED).first()
    if found.corpus_id == corpus.pk and found.state == LicenceState.APPROVED and waiting is None:
        return
    what = f"{found}, which {waiting} replaces" if waiting else f"{found} ({found.state})"
    raise InvalidTerms(
        f"expected an approved licence of {corpus} that nothing supersedes yet, found {what}. "
        "Choose the newest version.",
        fields={"supersedes": "Choose the newest approved version of this collection's licence."},
    )


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
        raise overlaps(other.reference)


def overlaps(found: str) -> InvalidTerms:
    """The refusal of a period that an exclusive licence fills."""
    return InvalidTerms(
        f"expected no licence of this collection beside an exclusive one, found {found} in the "
        "same period. Choose another period, or end the other licence first.",
        fields={"starts_at": f"Overlaps {found}, and one of the two is exclusive."},
    )
