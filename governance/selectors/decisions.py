"""What auditors ask about decisions, one query each: which licence covered it, what was in force,
why an expert was not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection
from django.db.models import QuerySet
from django.db.models.fields.json import KT

from governance.models import DecisionRecord, Licence, PolicySnapshot
from governance.policy.decide import decide
from governance.policy.types import Ask, Snapshot
from governance.vocabulary import PUBLIC_EXPERT, Why


@dataclass(frozen=True)
class Covered:
    """An expert a decision allowed, and the licence it was charged to."""

    expert: str
    licence: str
    corpus: str
    owner: str
    terms_digest: str


_COVERED = """
SELECT named.key, l.reference, c.title, o.legal_name, l.terms_digest
FROM governance_decisionrecord d
CROSS JOIN LATERAL jsonb_each_text(d.result -> 'licences') named
JOIN governance_licence l ON l.reference = named.value
JOIN governance_corpus c ON c.id = l.corpus_id
JOIN governance_dataowner o ON o.id = c.owner_id
WHERE d.decision_id = %s
ORDER BY named.key
"""


def licences_behind(decision_id: UUID) -> tuple[Covered, ...]:
    """Which licence covered each expert that a decision allowed."""
    with connection.cursor() as cursor:
        cursor.execute(_COVERED, [decision_id])
        return tuple(Covered(*row) for row in cursor.fetchall())


def in_force_on(at: datetime, *, corpus: str = "", expert: str = "") -> QuerySet[Licence]:
    """What was in force at `at`, as rows say it now: all, or on one corpus, or behind one expert.

    What was known at another time is `selectors.as_of`.
    """
    found = Licence.objects.in_force(at).select_related("corpus__owner")
    if corpus:
        found = found.filter(corpus__slug=corpus)
    if expert:
        found = found.filter(corpus__experts__name=expert)
    return found.order_by("reference")


@dataclass(frozen=True)
class WhyNot:
    """Why an expert was not used: by which policy, and every reason; none where it was allowed."""

    expert: str
    policy_epoch: int
    asked_at: datetime
    why: tuple[Why, ...]

    @property
    def sentence(self) -> str:
        """The same for people."""
        if not self.why:
            return f"{self.expert} was allowed by policy epoch {self.policy_epoch}."
        said = "; ".join(why.label[0].lower() + why.label[1:] for why in self.why)
        return f"{self.expert} was not used under policy epoch {self.policy_epoch}: {said}."


def why_not_in(decision_id: UUID, expert: str) -> WhyNot | None:
    """Why a recorded decision left `expert` out; None where there is no such decision."""
    found = DecisionRecord.objects.filter(pk=decision_id).first()
    if found is None:
        return None
    allowed = {PUBLIC_EXPERT, *found.result["allowed"]}
    recorded = found.result["denied"].get(expert, [])
    if not recorded and expert not in allowed and not found.result["is_permitted"]:
        recorded = found.result["why"]  # allowed by itself, but the request as a whole was denied
    elif not recorded and expert not in allowed:
        recorded = [Why.UNKNOWN_EXPERT]
    return WhyNot(expert, found.policy_epoch, found.timestamp, tuple(Why(one) for one in recorded))


def why_not(ask: Ask, expert: str, at: datetime) -> WhyNot | None:
    """Why `ask` could not have used `expert` at `at`, by the policy published by then.

    None where nothing was published yet. Quotas are not part of published policy, so QUOTA is
    never among the reasons.
    """
    published = (
        PolicySnapshot.objects.filter(published_at__lte=at).order_by("-policy_epoch").first()
    )
    if published is None:
        return None
    denied = _denied(Snapshot.from_body(published.body), ask, expert, at)
    return WhyNot(expert, published.policy_epoch, at, denied.get(expert, ()))


def _denied(
    snapshot: Snapshot, ask: Ask, expert: str, at: datetime
) -> Mapping[str, tuple[Why, ...]]:
    known = {PUBLIC_EXPERT, *(ref.name for ref in snapshot.experts)}
    if expert not in known:
        return {expert: (Why.UNKNOWN_EXPERT,)}
    return decide(snapshot, ask, at).denied


def recorded(
    *,
    consumer: str = "",
    purpose: str = "",
    expert: str = "",
    policy_epoch: int | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> QuerySet[DecisionRecord]:
    """Decisions, newest first. `expert` finds those that allowed or denied it by name."""
    found = DecisionRecord.objects.order_by("-timestamp", "decision_id")
    # As text, so that the indexes over consumer or purpose and time serve it.
    if consumer:
        found = found.alias(consumer=KT("input__consumer")).filter(consumer=consumer)
    if purpose:
        found = found.alias(purpose=KT("input__purpose")).filter(purpose=purpose)
    if expert:
        found = found.filter(experts__contains=[expert])
    if policy_epoch is not None:
        found = found.filter(policy_epoch=policy_epoch)
    if since is not None:
        found = found.filter(timestamp__gte=since)
    if until is not None:
        found = found.filter(timestamp__lt=until)
    return found
