"""What was erased must not come back by accident: kept as keyed hashes, asked before admission.

A hash is HMAC-SHA-256 under a secret of the keys folder, so the table tells nobody what was
withdrawn, and a database copied without that folder cannot be searched. Weights count whoever
offers them; names and corpora count for their owner alone.

It is exact: bytes changed by one bit, or a corpus with one more document, are another thing. The
gate and the audits look at those.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime

from django.conf import settings
from django.db import transaction

from governance import keys
from governance.canonical import canonical_json
from governance.errors import NotFound, NotPermitted, UnlawfulMove
from governance.log import events
from governance.models import Account, DataOwner, Expert, Suppression, SuppressionLift
from governance.services.owners import may_bind
from governance.vocabulary import EventTag, ExpertState, SuppressedKind

_TAKEN_BACK = (ExpertState.WITHDRAWN, ExpertState.ERASED)


def suppress_erased(expert: Expert, *, at: datetime) -> int:
    """Keep the hashes of an erased expert; part of the act that records the erasure.

    The corpus is kept too unless another expert on it is still wanted. Returns how many are kept.
    """
    owner, corpus = expert.owner, expert.corpus
    found = [_row(SuppressedKind.EXPERT, owner, expert.name, at)]
    digests = [one for row in expert.revisions.all() for one in (row.digest, row.weights_digest)]
    found += [_row(SuppressedKind.WEIGHTS, None, digest, at) for digest in digests if digest]
    shared = Expert.objects.filter(corpus=corpus).exclude(pk=expert.pk)
    if corpus.merkle_root and not shared.exclude(state__in=_TAKEN_BACK).exists():
        found.append(_row(SuppressedKind.CORPUS, owner, corpus.merkle_root, at))
    Suppression.objects.bulk_create(found, ignore_conflicts=True)
    return len(found)


def is_suppressed(kind: SuppressedKind, value: str, *, owner: DataOwner | None = None) -> bool:
    """Whether something may not be admitted; `owner` is needed for names and corpora."""
    standing = Suppression.objects.filter(keyed_hash=keyed_hash(kind, owner, value), lift=None)
    return bool(value) and standing.exists()


def check_weights(*digests: str) -> None:
    """Refuse bytes that were erased after a withdrawal.

    Raises:
        UnlawfulMove: one of them was.
    """
    hashes = [keyed_hash(SuppressedKind.WEIGHTS, None, digest) for digest in digests if digest]
    if Suppression.objects.filter(keyed_hash__in=hashes, lift=None).exists():
        raise UnlawfulMove(
            "expected weights never withdrawn, found ones that were erased after their owner took "
            "them back. Train anew under a new consent; these bytes are not admitted again.",
            fields={"digest": "Withdrawn and erased; not admitted again."},
        )


def check_grant(expert: Expert) -> None:
    """Refuse a grant for what its owner took back, until the owner says it is meant.

    Raises:
        UnlawfulMove: its name or its corpus is suppressed.
    """
    asked = {
        f"the expert {expert.name}": (SuppressedKind.EXPERT, expert.name),
        f"the corpus {expert.corpus.slug}": (SuppressedKind.CORPUS, expert.corpus.merkle_root),
    }
    for said, (kind, value) in asked.items():
        if is_suppressed(kind, value, owner=expert.owner):
            raise UnlawfulMove(
                f"expected a grant for something never withdrawn, found that {expert.owner} took "
                f"{said} back and it was erased. If it is meant, an administrator or signatory of "
                "the owner lifts the suppression first."
            )


@transaction.atomic
def lift(
    kind: SuppressedKind,
    value: str,
    *,
    owner: DataOwner,
    by: Account,
    at: datetime,
    reason: str = "",
) -> SuppressionLift:
    """Let an owner's own name or corpus be offered anew. Repeating it changes nothing.

    Raises:
        NotFound: it is not suppressed.
        NotPermitted: weights stay out for good, and only the owner itself lifts the others.
    """
    if kind == SuppressedKind.WEIGHTS or not may_bind(by, owner):
        raise NotPermitted(
            f"expected an administrator or signatory of {owner} lifting the suppression of its "
            f"expert's name or corpus, found {by} for {kind}. Ask the owner; erased weights stay "
            "out for good."
        )
    found = (
        Suppression.objects.select_for_update()
        .filter(keyed_hash=keyed_hash(kind, owner, value))
        .first()
    )
    if found is None:
        raise NotFound(
            f"expected a suppressed {kind} of {owner}, found none by that name. Nothing to lift."
        )
    lifted, is_new = SuppressionLift.objects.get_or_create(
        suppression=found, defaults={"by": by, "at": at, "reason": reason}
    )
    if is_new:
        events.stage(
            EventTag.SUPPRESSION_LIFTED,
            subject=f"owner:{owner.slug}",
            by=by,
            at=at,
            details={"kind": kind.value, "keyed_hash": found.keyed_hash, "reason": reason},
        )
    return lifted


def keyed_hash(kind: SuppressedKind, owner: DataOwner | None, value: str) -> str:
    """HMAC-SHA-256 over kind, owner and value, in hexadecimal."""
    key = keys.secret(settings.RECLAIM_KEYS, keys.SUPPRESSION)
    told = canonical_json([kind.value, str(owner.pk) if owner else "", value])
    return hmac.new(key, told, hashlib.sha256).hexdigest()


def _row(kind: SuppressedKind, owner: DataOwner | None, value: str, at: datetime) -> Suppression:
    return Suppression(keyed_hash=keyed_hash(kind, owner, value), kind=kind, since_at=at)
