"""Receipts: what is on record about one answer, for the consumer who asked. Never a prompt."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

from governance.models import DecisionRecord, UsageRecord
from governance.services import usage
from governance.vocabulary import Why
from web.gateway.errors import GatewayError
from web.gateway.orders import reasons
from web.gateway.render import shares

OPEN: Final = "open"
"""An answer is still being given; ask again for its end."""


def receipt(name: str, *, consumer: str) -> dict[str, Any]:
    """What is on record under an answer's `id`, or under a decision's; `status` says how far it is:
    `open`, `closed`, `not_begun` (permitted, but no runner has begun it) or `denied`.

    Raises:
        GatewayError: 404, none of this consumer's.
    """
    decision = _decision(name)
    if decision is None or decision.input.get("consumer") != consumer:
        raise GatewayError(
            HTTPStatus.NOT_FOUND,
            "receipt_not_found",
            f"Expected the id of an answer to this key's consumer, found {name!r}.",
        )
    rows = list(
        UsageRecord.objects.filter(decision_id=decision.pk)
        .exclude(finish_reason=usage.REFUSED)
        .order_by("opened_at", "order_id")
    )
    denied = {one: tuple(map(Why, whys)) for one, whys in decision.result["denied"].items()}
    return {
        "object": "receipt",
        "id": str(decision.pk),
        "status": _status(decision, rows),
        "decision_id": str(decision.pk),
        "decided_at": decision.timestamp.isoformat(),
        "policy_epoch": decision.policy_epoch,
        "build": decision.bundles["build"]["revision"].removeprefix("sha256:"),
        "purpose": decision.input["purpose"],
        "experts_allowed": decision.result["allowed"],
        "experts_denied": reasons(denied),
        "experts_used": shares(row.mass for row in rows),
        "experts_withdrawn": sorted({name for row in rows for name in row.recomputed_without}),
        "usage": _usage(rows),
        "answers": [_answer(row) for row in rows],
    }


def _decision(name: str) -> DecisionRecord | None:
    try:
        found = UUID(name.removeprefix("chatcmpl-").removeprefix("cmpl-"))
    except ValueError:
        return None
    return DecisionRecord.objects.filter(pk=found).first()


def _status(decision: DecisionRecord, rows: list[UsageRecord]) -> str:
    if not decision.result["is_permitted"]:
        return "denied"
    if not rows:
        return "not_begun"
    return OPEN if any(row.closed_at is None for row in rows) else "closed"


def _usage(rows: list[UsageRecord]) -> dict[str, int]:
    prompt = max((row.prompt_tokens for row in rows), default=0)
    completion = sum(row.completion_tokens for row in rows)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _answer(row: UsageRecord) -> dict[str, Any]:
    return {
        "policy_epoch": row.policy_epoch,
        "experts_allowed": row.allowed,
        "experts_used": shares([row.mass]),
        "experts_withdrawn": row.recomputed_without,
        "prompt_tokens": row.prompt_tokens,
        "completion_tokens": row.completion_tokens,
        "finish_reason": row.finish_reason or None,
        "cause": row.cause or None,
        "opened_at": row.opened_at.isoformat(),
        "closed_at": row.closed_at.isoformat() if row.closed_at else None,
    }
