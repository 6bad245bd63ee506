"""Whether an expert serves: activated by two people, suspended, resumed."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from governance.errors import FourEyes, UnlawfulMove
from governance.log import events
from governance.models import (
    Account,
    Anchor,
    Expert,
    ExpertRevision,
)
from governance.services import builds, effects, snapshots
from governance.services.experts import rows
from governance.services.locks import policy_act
from governance.vocabulary import (
    EventTag,
    ExpertState,
    Instrument,
    RevisionState,
)


@transaction.atomic
def request_activation(revision: ExpertRevision, *, by: Account, at: datetime) -> ExpertRevision:
    """Ask that an audited revision be served; a second person decides.

    Raises:
        UnlawfulMove: it has not passed an audit, or its expert was withdrawn.
    """
    found = rows.locked_revision(revision)
    rows.check_not_ended(found.expert)
    if found.state != RevisionState.AUDITED:
        raise UnlawfulMove(
            f"expected a revision that passed its audit, found {found} {found.state}. Audit it."
        )
    found.state, found.activation_requested_by = RevisionState.ACTIVATION_REQUESTED, by
    found.activation_decided_by, found.activation_decided_at = None, None
    found.save()
    events.stage(
        EventTag.ACTIVATION_REQUESTED,
        subject=f"expert:{found.expert.name}",
        by=by,
        at=at,
        details={"revision": found.number, "digest": found.digest},
    )
    return found


def approve_activation(revision: ExpertRevision, *, by: Account, at: datetime) -> ExpertRevision:
    """Let a revision into the next build, and plan that build.

    Raises:
        FourEyes: the requester may not approve.
        NotCovered: consent no longer stands, or no licence in force covers it.
        UnlawfulMove: activation was not requested, or the anchor is not the newest.
    """
    with policy_act():
        found = _second_look(revision, by)
        rows.check_covered(found.expert, at)
        newest = Anchor.objects.order_by("-registered_at").first()
        if newest is None or found.anchor_id != newest.pk:
            raise UnlawfulMove(
                f"expected a revision trained beside the newest anchor, found {found} beside "
                f"{found.anchor}. Train it again."
            )
        found.expert.revisions.filter(state=RevisionState.ACTIVATED).update(
            state=RevisionState.SUPERSEDED
        )
        found.state = RevisionState.ACTIVATED
        found.activation_decided_by, found.activation_decided_at = by, at
        found.save()
        if found.expert.state not in rows.SERVING:
            rows.move(found.expert, ExpertState.ACTIVE)
        build, _ = builds.draft(reason=f"{found} activated", at=at)
        events.stage(
            EventTag.ACTIVATION_APPROVED,
            subject=f"expert:{found.expert.name}",
            by=by,
            at=at,
            details={"revision": found.number, "digest": found.digest, "build": build.number},
        )
        snapshots.publish(reason=f"{found} activated", at=at)
    return found


@transaction.atomic
def reject_activation(revision: ExpertRevision, *, by: Account, at: datetime) -> ExpertRevision:
    """Refuse to serve a revision; it stays audited and may be asked for again.

    Raises:
        FourEyes: the requester may not decide.
        UnlawfulMove: activation was not requested.
    """
    found = _second_look(revision, by)
    found.state = RevisionState.AUDITED
    found.activation_decided_by, found.activation_decided_at = by, at
    found.save()
    events.stage(
        EventTag.ACTIVATION_REJECTED,
        subject=f"expert:{found.expert.name}",
        by=by,
        at=at,
        details={"revision": found.number, "digest": found.digest},
    )
    return found


def _second_look(revision: ExpertRevision, by: Account) -> ExpertRevision:
    found = rows.locked_revision(revision)
    rows.check_not_ended(found.expert)
    if found.state != RevisionState.ACTIVATION_REQUESTED:
        raise UnlawfulMove(
            f"expected {found} to await a decision, found it {found.state}. Request activation."
        )
    if found.activation_requested_by_id == by.pk:
        raise FourEyes(
            f"expected a second person to decide on {found}, found the requester. Ask a colleague."
        )
    return found


def suspend(
    expert: Expert,
    *,
    by: Account | None,
    at: datetime,
    reason: str,
    scope: effects.Scope = effects.EVERYTHING,
) -> Expert:
    """Disable an expert, or a part of its use, for a while: nothing is erased.

    Repeating it changes nothing. A build on its way that names the expert could not be promoted,
    so another is planned in its place.

    Raises:
        NotPermitted: the person is neither staff nor speaks for the owner.
        UnlawfulMove: the expert is not active.
    """
    effects.put_into_effect(
        Instrument.SUSPEND, expert, by=by, at=at, scope=scope, reason=reason, method="suspension"
    )
    return Expert.objects.select_related("owner", "corpus").get(pk=expert.pk)


def resume(expert: Expert, *, by: Account | None, at: datetime, reason: str = "") -> Expert:
    """Lift a suspension. Where the build served was made without the expert, plan another.

    Raises:
        UnlawfulMove: the expert is not suspended.
        NotPermitted: the other side suspended it: an owner's pause only the owner lifts.
    """
    effects.lift_pause(expert, by=by, at=at, reason=reason)
    return Expert.objects.select_related("owner", "corpus").get(pk=expert.pk)
