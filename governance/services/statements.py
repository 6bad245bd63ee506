"""Statements: an owner's month, issued once and never changed, open to dispute."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date, datetime, timedelta
from typing import Any

from django.db import transaction

from governance.canonical import canonical_json, plain, sha256_hex
from governance.errors import InvalidTerms, NotPermitted, UnlawfulMove
from governance.log import events
from governance.models import Account, DataOwner, Membership, Statement, StatementRemark
from governance.selectors import accounts
from governance.services.duties import ended_months
from governance.vocabulary import EventTag, RemarkKind, Role

SETTLE = timedelta(hours=1)
"""How long after a month's end rows that runners still owed may come in before it is issued."""

VERSION = 1


def issue(owner: DataOwner, *, month: date, by: Account | None, at: datetime) -> Statement:
    """Issue the statement of a month that has ended. Issuing it again gives the first one back.

    Raises:
        UnlawfulMove: the month has not ended, or ended less than an hour ago.
    """
    month = month.replace(day=1)
    _, ends_at = accounts.bounds(month)
    if at < ends_at + SETTLE:
        raise UnlawfulMove(
            f"expected a month that ended at least an hour ago, found {month:%B %Y}. Issue it "
            f"after {ends_at + SETTLE:%Y-%m-%d %H:%M} UTC."
        )
    with transaction.atomic():
        # The owner's row is the lock under which a month is issued once.
        owner = DataOwner.objects.select_for_update().get(pk=owner.pk)
        found = Statement.objects.filter(owner=owner, month=month).first()
        if found is not None:
            return found
        account = accounts.account_of(owner, month)
        body = body_of(account)
        statement = Statement.objects.create(
            owner=owner,
            month=month,
            body=body,
            digest=sha256_hex(canonical_json(body)),
            rows_digest=body["rows_digest"],
            row_count=account.row_count,
            issued_by=by,
            issued_at=at,
        )
        events.stage(
            EventTag.STATEMENT_ISSUED,
            subject=f"statement:{statement.pk}",
            by=by,
            at=at,
            details={
                "owner": owner.slug,
                "month": f"{month:%Y-%m}",
                "digest": statement.digest,
                "rows_digest": statement.rows_digest,
                "totals": body["totals"],
            },
        )
    return statement


def issue_due(*, at: datetime) -> int:
    """Issue last month's statement for every owner that had one of its experts used, or a licence
    in force with a minimum; how many. For the upkeep task."""
    month = next(ended_months(at, 1))
    if at < accounts.bounds(month)[1] + SETTLE:
        return 0
    issued = 0
    for owner in DataOwner.objects.exclude(statements__month=month).order_by("slug"):
        if next(accounts.rows_of(owner, month), None) is not None:
            issue(owner, month=month, by=None, at=at)
            issued += 1
    return issued


def body_of(account: accounts.Account) -> dict[str, Any]:
    """What a statement says, as JSON: decimals as text, so that nothing is rounded on the way."""
    body: dict[str, Any] = plain(
        {
            "version": VERSION,
            "owner": account.owner.slug,
            "owner_name": account.owner.legal_name,
            "month": f"{account.month:%Y-%m}",
            "unit": accounts.UNIT,
            "rounding": accounts.ROUNDING,
            "lines": [asdict(line) for line in account.lines],
            "totals": dict(account.totals),
            "groups": [asdict(group) for group in account.groups],
            "min_group": accounts.MIN_GROUP,
            "row_count": account.row_count,
            "rows_digest": account.rows_digest,
        }
    )
    return body


def remark(
    statement: Statement, *, kind: RemarkKind, text: str, by: Account, at: datetime
) -> StatementRemark:
    """Dispute or comment a statement (its owner), answer or settle a dispute (legal staff).

    Raises:
        InvalidTerms: no words.
        NotPermitted: this kind of remark is the other side's.
        UnlawfulMove: nothing is disputed that could be answered or settled.
    """
    kind, text = RemarkKind(kind), text.strip()
    if not text:
        raise InvalidTerms(
            "expected words, found none. Say what is meant.", fields={"text": "Say."}
        )
    is_owners = kind in (RemarkKind.DISPUTED, RemarkKind.COMMENTED)
    speaks = Membership.objects.filter(
        account=by, **({"owner": statement.owner_id} if is_owners else {"role": Role.LEGAL})
    )
    if not speaks.exists():
        side = "someone who speaks for the owner" if is_owners else "legal staff"
        raise NotPermitted(f"expected {side} to say {kind.label.lower()}, found someone else.")
    with transaction.atomic():
        Statement.objects.select_for_update().get(pk=statement.pk)
        if not is_owners and standing(statement) not in (RemarkKind.DISPUTED, RemarkKind.ANSWERED):
            raise UnlawfulMove("expected a statement that is disputed, found nothing to answer.")
        made = StatementRemark.objects.create(
            statement=statement, kind=kind, text=text, written_by=by, written_at=at
        )
        events.stage(
            EventTag.STATEMENT_REMARKED,
            subject=f"statement:{statement.pk}",
            by=by,
            at=at,
            details={"kind": kind.value, "text": text[:2_000]},
        )
    return made


def standing(statement: Statement) -> RemarkKind | None:
    """Where a dispute stands: the last remark that is no mere comment; None undisputed."""
    said = statement.remarks.exclude(kind=RemarkKind.COMMENTED)
    last = said.order_by("written_at").values_list("kind", flat=True).last()
    return None if last is None else RemarkKind(last)
