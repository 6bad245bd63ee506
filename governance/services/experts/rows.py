"""Rows as the acts on experts need them: locked, the expert before its revision, and checked."""

from __future__ import annotations

from datetime import datetime

from governance.errors import NotCovered, UnlawfulMove
from governance.models import (
    Expert,
    ExpertRevision,
    Licence,
)
from governance.services import consent
from governance.vocabulary import (
    ExpertState,
    Use,
)

SERVING = (ExpertState.ACTIVE, ExpertState.SUSPENDED)


def locked(expert: Expert) -> Expert:
    rows = Expert.objects.select_for_update(of=("self",)).select_related("owner", "corpus")
    return rows.get(pk=expert.pk)


def locked_revision(revision: ExpertRevision) -> ExpertRevision:
    """The revision and its expert, both locked, the expert first as everywhere."""
    expert = locked(Expert(pk=revision.expert_id))
    found = (
        ExpertRevision.objects.select_for_update(of=("self",))
        .select_related("anchor")
        .get(pk=revision.pk)
    )
    found.expert = expert
    return found


def move(expert: Expert, state: ExpertState) -> None:
    if expert.state == state:
        return
    if not ExpertState(expert.state).may_become(state):
        raise UnlawfulMove(
            f"expected an expert that may become {state}, found {expert} {expert.state}."
        )
    expert.state = state
    expert.save(update_fields=["state"])


def check_not_ended(expert: Expert) -> None:
    if expert.state in (ExpertState.WITHDRAWN, ExpertState.ERASED):
        raise UnlawfulMove(
            f"expected an expert in its owner's consent, found {expert} {expert.state}. Stop here."
        )


def check_covered(expert: Expert, at: datetime) -> None:
    check_not_ended(expert)
    if not consent.standing(expert).exists():
        raise NotCovered(
            f"expected a standing consent of {expert.owner} for {expert}, found none. Ask for it."
        )
    if (
        not Licence.objects.in_force(at)
        .filter(corpus_id=expert.corpus_id, uses__contains=[Use.TRAIN.value])
        .exists()
    ):
        raise NotCovered(
            f"expected a licence of {expert.corpus} in force that lets us train, found none. "
            "Request one."
        )
