"""Requests as the board and one page show them: who is waited for, what runs late, who said what.

Notices about deadlines are read from `overdue` and `waiting_for`; nothing is pushed from here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import F, QuerySet

from governance.models import (
    Account,
    ApprovalAct,
    ApprovalDelegation,
    ApprovalRequest,
    ApprovalStep,
    DataOwner,
    Membership,
)
from governance.vocabulary import ApprovalState, ApprovalVerb, Role

OPEN_SHOWN = 200
"""Open requests on the board at once; overdue and nearly due ones come first."""


@dataclass(frozen=True)
class Card:
    """One request on the board, and what it means to whoever looks at it."""

    request: ApprovalRequest
    step: ApprovalStep | None
    step_count: int
    given: int
    is_own: bool
    is_mine: bool
    is_overdue: bool


@dataclass(frozen=True)
class Board:
    """The open requests by whom they wait for."""

    mine: list[Card]
    others: list[Card]
    returned: list[Card]


@dataclass(frozen=True)
class Place:
    """A step of a request on its page; `state` is done, now or next."""

    step: ApprovalStep
    state: str
    approvals: list[ApprovalAct]


def listed() -> QuerySet[ApprovalRequest]:
    """Requests with what a card shows."""
    return ApprovalRequest.objects.select_related("owner", "requested_by").prefetch_related(
        "steps", "acts__actor"
    )


def overdue(at: datetime) -> QuerySet[ApprovalRequest]:
    """Open requests whose step's deadline is past while its clock runs, the longest first."""
    return (
        listed().filter(state=ApprovalState.OPEN, due_at__lt=at, paused_at=None).order_by("due_at")
    )


def waiting_for(account: Account, at: datetime) -> list[ApprovalRequest]:
    """The open requests this account can decide now, by right or for an absent colleague."""
    return [card.request for card in board(account, at=at).mine]


def board(
    account: Account,
    *,
    at: datetime,
    rows: QuerySet[ApprovalRequest] | None = None,
) -> Board:
    """What is undecided, overdue first, then by deadline; without one last."""
    undecided = (listed() if rows is None else rows).filter(
        state__in=(ApprovalState.OPEN, ApprovalState.RETURNED)
    )
    eyes = _Eyes.of(account, at)
    ordered = undecided.order_by(F("due_at").asc(nulls_last=True), "opened_at")[:OPEN_SHOWN]
    cards = [eyes.card(row, at) for row in ordered]
    late_first = sorted(cards, key=lambda card: not card.is_overdue)
    waiting = [card for card in late_first if card.request.state == ApprovalState.OPEN]
    return Board(
        mine=[card for card in waiting if card.is_mine],
        others=[card for card in waiting if not card.is_mine],
        returned=[card for card in cards if card.request.state == ApprovalState.RETURNED],
    )


@dataclass(frozen=True)
class _Eyes:
    """What an account may decide, read once for a whole board."""

    account: Account
    rights: dict[int, tuple[frozenset[str], frozenset[str]]]
    lent: list[ApprovalDelegation]

    @classmethod
    def of(cls, account: Account, at: datetime) -> _Eyes:
        lent = list(
            ApprovalDelegation.objects.filter(taker=account, starts_at__lte=at, ends_at__gt=at)
            .exclude(revoked_at__lte=at)
            .select_related("giver")
        )
        people = [account, *(row.giver for row in lent)]
        return cls(account, _rights(people), lent)

    def card(self, request: ApprovalRequest, at: datetime) -> Card:
        acts, steps = list(request.acts.all()), list(request.steps.all())
        in_round = [step for step in steps if step.round == request.round]
        step = next((one for one in in_round if one.number == request.step_number), None)
        approvals = [
            act for act in acts if act.verb == ApprovalVerb.APPROVE and act.round == request.round
        ]
        asked = {act.actor_id for act in acts if act.verb == ApprovalVerb.SUBMIT}
        asked.add(request.requested_by_id)
        counted = {one for act in approvals for one in (act.actor_id, act.on_behalf_of_id)}
        may = (
            step is not None
            and request.state == ApprovalState.OPEN
            and self.account.pk not in asked | counted
            and any(person not in asked | counted for person in self._fitting(request, step, acts))
        )
        return Card(
            request=request,
            step=step,
            step_count=len(in_round),
            given=sum(1 for act in approvals if act.step_number == request.step_number),
            is_own=self.account.pk in asked,
            is_mine=may,
            is_overdue=request.due_at is not None
            and request.paused_at is None
            and request.due_at < at,
        )

    def _fitting(
        self, request: ApprovalRequest, step: ApprovalStep, acts: Iterable[ApprovalAct]
    ) -> list[int]:
        """Oneself and those one stands in for, as far as the step asks for them."""
        if _fits(step, *self.rights[self.account.pk], is_self=True):
            return [self.account.pk]
        lent = [row.giver_id for row in self.lent if row.kinds is None or request.kind in row.kinds]
        handed = [
            act.actor_id
            for act in acts
            if act.verb == ApprovalVerb.DELEGATE
            and act.delegate_id == self.account.pk
            and act.round == request.round
            and act.actor_id is not None
        ]
        found = [giver for giver in lent if _fits(step, *self.rights[giver], is_self=False)]
        return [*found, *handed]


def _rights(people: Iterable[Account]) -> dict[int, tuple[frozenset[str], frozenset[str]]]:
    keys = [person.pk for person in people]
    roles: dict[int, set[str]] = {key: set() for key in keys}
    groups: dict[int, set[str]] = {key: set() for key in keys}
    for account_id, role in Membership.objects.filter(account__in=keys).values_list(
        "account_id", "role"
    ):
        roles[account_id].add(role)
    for account_id, name in Account.objects.filter(pk__in=keys, groups__isnull=False).values_list(
        "pk", "groups__name"
    ):
        groups[account_id].add(name)
    return {key: (frozenset(roles[key]), frozenset(groups[key])) for key in keys}


def _fits(
    step: ApprovalStep, roles: frozenset[str], groups: frozenset[str], *, is_self: bool
) -> bool:
    if not step.role and not step.group:
        return is_self and Role.LEGAL in roles
    return (not step.role or step.role in roles) and (not step.group or step.group in groups)


def decided(rows: QuerySet[ApprovalRequest] | None = None) -> QuerySet[ApprovalRequest]:
    """What is over, the newest first."""
    return (
        (listed() if rows is None else rows)
        .exclude(state__in=(ApprovalState.OPEN, ApprovalState.RETURNED))
        .order_by("-closed_at")
    )


def places(request: ApprovalRequest) -> list[Place]:
    """The steps of the round a request is in, each with who approved there."""
    acts = list(
        request.acts.filter(round=request.round, verb=ApprovalVerb.APPROVE).select_related(
            "actor", "on_behalf_of"
        )
    )
    found = []
    for step in request.steps.filter(round=request.round):
        given = [act for act in acts if act.step_number == step.number]
        if len(given) >= step.needed:
            state = "done"
        elif request.state == ApprovalState.OPEN and step.number == request.step_number:
            state = "now"
        elif request.state in (ApprovalState.REJECTED, ApprovalState.VOID) and (
            step.number == request.step_number
        ):
            state = "failed"
        else:
            state = "next"
        found.append(Place(step, state, given))
    return found


def thread(request: ApprovalRequest) -> QuerySet[ApprovalAct]:
    """Everything that was done and said, oldest first."""
    return request.acts.select_related("actor", "on_behalf_of", "delegate", "document").defer(
        "document__content"
    )


def said_to_owners(owners: Iterable[DataOwner]) -> QuerySet[ApprovalAct]:
    """What staff said or attached for these owners to read, the newest first."""
    return (
        ApprovalAct.objects.filter(is_visible_to_owner=True, request__owner__in=owners)
        .select_related("request", "actor", "document")
        .defer("document__content")
        .order_by("-acted_at")
    )
