"""Legal holds: an authority's order to keep an expert's bytes, asked for and approved by two.

A hold makes erasure wait and nothing else: the expert is disabled as ever, and its sealed bytes are
used by nobody. It ends by itself on its last day; whatever waited for it then goes on.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from governance.errors import InvalidTerms, NotPermitted, UnlawfulMove
from governance.log import events
from governance.models import Account, Expert, FollowUp, LegalHold, Membership, Withdrawal
from governance.services import eyes, locks
from governance.vocabulary import (
    EventTag,
    ExpertState,
    FollowUpKind,
    FollowUpState,
    HoldState,
    Role,
)


@transaction.atomic
def request(
    expert: Expert, *, authority: str, reason: str, until_at: datetime, by: Account, at: datetime
) -> LegalHold:
    """Ask that an expert's bytes be kept until `until_at`; a second person decides.

    Raises:
        NotPermitted: the person is not legal staff.
        InvalidTerms: no authority, no reason, or a last day that is past.
        UnlawfulMove: the bytes are gone already.
    """
    _check_legal(by)
    fields = {}
    if not authority.strip():
        fields["authority"] = "Say who ordered it, with the file number."
    if not reason.strip():
        fields["reason"] = "Say why the bytes must be kept."
    if until_at <= at:
        fields["until_at"] = "Choose a day to come; a hold without an end is none."
    if fields:
        found = "; ".join(f"{name}: {said}" for name, said in fields.items())
        raise InvalidTerms(f"expected the terms of a hold, found {found}", fields=fields)
    row = Expert.objects.select_for_update().get(pk=expert.pk)
    if row.state == ExpertState.ERASED:
        raise UnlawfulMove(f"expected bytes to hold, found {row} erased. Nothing is left to keep.")
    hold = LegalHold.objects.create(
        expert=row,
        authority=authority.strip()[:200],
        reason=reason.strip(),
        until_at=until_at,
        requested_by=by,
        requested_at=at,
    )
    _stage(EventTag.HOLD_REQUESTED, hold, by, at)
    return hold


@transaction.atomic
def approve(hold: LegalHold, *, by: Account, at: datetime) -> LegalHold:
    """Put a hold in force: erasure waits from now until its last day.

    Raises:
        NotPermitted: the person is not legal staff.
        FourEyes: the requester may not approve.
        UnlawfulMove: it was decided already, its last day is past, or the bytes are gone.
    """
    found = _to_decide(hold, by)
    if found.until_at <= at or found.expert.state == ExpertState.ERASED:
        raise UnlawfulMove(
            f"expected a hold that can still keep something, found {found} too late."
        )
    found.state, found.decided_by, found.decided_at = HoldState.IN_FORCE, by, at
    found.save(update_fields=["state", "decided_by", "decided_at"])
    _stage(EventTag.HOLD_APPROVED, found, by, at)
    return found


@transaction.atomic
def refuse(hold: LegalHold, *, by: Account, at: datetime) -> LegalHold:
    """Refuse a hold that was asked for.

    Raises:
        NotPermitted: the person is not legal staff.
        FourEyes: the requester may not decide.
        UnlawfulMove: it was decided already.
    """
    found = _to_decide(hold, by)
    found.state, found.decided_by, found.decided_at = HoldState.REFUSED, by, at
    found.save(update_fields=["state", "decided_by", "decided_at"])
    _stage(EventTag.HOLD_REFUSED, found, by, at)
    return found


@transaction.atomic
def lift(hold: LegalHold, *, by: Account, at: datetime, reason: str = "") -> LegalHold:
    """End a hold early; an erasure that waited for it goes on at once.

    One person is enough, but not who asked for the hold: what it kept is gone for good after.

    Raises:
        NotPermitted: the person is not legal staff.
        FourEyes: the requester may not lift it.
        UnlawfulMove: it is not in force.
    """
    _check_legal(by)
    found = _locked(hold)
    if found.state != HoldState.IN_FORCE:
        raise UnlawfulMove(f"expected a hold in force, found {found} {found.state}.")
    eyes.check(by, asked=[found.requested_by_id], to=f"lift {found}")
    found.state, found.lifted_by, found.lifted_at = HoldState.LIFTED, by, at
    found.lifted_because = reason
    found.save(update_fields=["state", "lifted_by", "lifted_at", "lifted_because"])
    _stage(EventTag.HOLD_LIFTED, found, by, at)
    if standing(found.expert, at=at) is None:
        _wake_erasure(found.expert, at)
    return found


def standing(expert: Expert, *, at: datetime) -> LegalHold | None:
    """The hold in force that lasts longest, if there is one. A read."""
    return LegalHold.objects.in_force(at).filter(expert=expert).order_by("-until_at").first()


def _wake_erasure(expert: Expert, at: datetime) -> None:
    withdrawals = Withdrawal.objects.filter(expert=expert).values_list("pk", flat=True)
    FollowUp.objects.filter(
        kind=FollowUpKind.ERASE,
        subject_kind="withdrawal",
        subject_id__in=list(withdrawals),
        state=FollowUpState.DUE,
    ).update(due_at=at, sent_at=None)
    locks.wake(locks.Channel.FOLLOW_UP, FollowUpKind.ERASE.value)


def _to_decide(hold: LegalHold, by: Account) -> LegalHold:
    _check_legal(by)
    found = _locked(hold)
    if found.state != HoldState.REQUESTED:
        raise UnlawfulMove(f"expected a hold that awaits a decision, found {found} {found.state}.")
    eyes.check(by, asked=[found.requested_by_id], to=f"decide on {found}")
    return found


def _locked(hold: LegalHold) -> LegalHold:
    rows = LegalHold.objects.select_for_update(of=("self",)).select_related("expert")
    return rows.get(pk=hold.pk)


def _check_legal(by: Account) -> None:
    if not Membership.objects.filter(account=by, role=Role.LEGAL).exists():
        raise NotPermitted(f"expected legal staff, found {by}. Ask one of them.")


def _stage(tag: EventTag, hold: LegalHold, by: Account, at: datetime) -> None:
    events.stage(
        tag,
        subject=f"expert:{hold.expert.name}",
        by=by,
        at=at,
        details={
            "hold": hold.pk,
            "authority": hold.authority,
            "until_at": hold.until_at,
            "reason": hold.lifted_because or hold.reason,
        },
    )
