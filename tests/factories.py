"""One factory an aggregate: the least that is lawful, everything else overridden by name.

These write rows directly, so that a test of one service does not lean on another. Where a test
wants a story told through the services, it uses `tests.cast`.
"""

from __future__ import annotations

import hashlib
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from governance.models import (
    Account,
    Anchor,
    ApiKey,
    Build,
    Consumer,
    Corpus,
    DataOwner,
    Ending,
    Expert,
    ExpertRevision,
    Finding,
    FollowUp,
    Licence,
    Membership,
    PolicySnapshot,
    RunnerLease,
    UsageRecord,
    WebhookDelivery,
    WebhookEndpoint,
    Withdrawal,
)
from governance.services import leases
from governance.vocabulary import (
    BuildState,
    ExpertState,
    FollowUpKind,
    Instrument,
    LicenceState,
    OwnerRole,
    RevisionState,
    Role,
    Verdict,
)

NOW = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
"""The instant the tests live at unless they say otherwise."""

_numbers = itertools.count(1)


def after(seconds: float = 0, *, days: float = 0) -> datetime:
    """NOW and so much later."""
    return NOW + timedelta(seconds=seconds, days=days)


def digest_of(text: str) -> str:
    """A digest that a reader of a failure can trace back to its text."""
    return hashlib.sha256(text.encode()).hexdigest()


def account(
    name: str = "",
    *,
    role: Role | None = None,
    owner: DataOwner | None = None,
    owner_role: OwnerRole = OwnerRole.ADMIN,
) -> Account:
    """A person, with a role where one is named."""
    name = name or f"Person {next(_numbers)}"
    email = f"{name.lower().replace(' ', '.')}@example.org"
    made: Account = Account.objects.create_user(email, full_name=name)
    if role is not None:
        Membership.objects.create(
            account=made, role=role, owner=owner, owner_role=owner_role if owner else ""
        )
    return made


def owner(**fields: Any) -> DataOwner:
    """A registered data owner."""
    number = next(_numbers)
    defaults = {"slug": f"owner-{number}", "legal_name": f"Owner {number}", "jurisdiction": "NL"}
    return DataOwner.objects.create(**{**defaults, "registered_at": NOW, **fields})


def consumer(**fields: Any) -> Consumer:
    """A registered consumer."""
    number = next(_numbers)
    defaults = {"slug": f"consumer-{number}", "name": f"Consumer {number}", "territory": "NL"}
    return Consumer.objects.create(**{**defaults, "registered_at": NOW, **fields})


def api_key(**fields: Any) -> ApiKey:
    """A key whose secret nobody knows."""
    number = next(_numbers)
    defaults: dict[str, Any] = {
        "label": "tests",
        "prefix": f"p{number}",
        "secret_digest": digest_of(f"secret {number}"),
        "purposes": ["research"],
    }
    if "consumer" not in fields:
        defaults["consumer"] = consumer()
    return ApiKey.objects.create(**{**defaults, "issued_at": NOW, **fields})


def corpus(**fields: Any) -> Corpus:
    """A described corpus."""
    number = next(_numbers)
    fields = {"owner": fields.pop("owner", None) or owner(), **fields}
    defaults = {"slug": f"corpus-{number}", "title": f"Corpus {number}", "source_licence": "own"}
    return Corpus.objects.create(**{**defaults, "described_at": NOW, **fields})


def licence(*, is_approved: bool = True, **fields: Any) -> Licence:
    """A licence for training and answering, approved by a second person unless told otherwise."""
    number = next(_numbers)
    defaults: dict[str, Any] = {
        "reference": f"L-{number:05}",
        "corpus": fields.pop("corpus", None) or corpus(),
        "uses": ["train", "answer"],
        "purposes": ["research", "education"],
        "starts_at": NOW - timedelta(days=30),
        "terms_digest": digest_of(f"terms {number}"),
        "requested_by": fields.pop("requested_by", None) or account(),
        "requested_at": NOW - timedelta(days=31),
    }
    if is_approved:
        defaults |= {
            "state": LicenceState.APPROVED,
            "decided_by": account(),
            "decided_at": NOW - timedelta(days=30),
        }
    return Licence.objects.create(**{**defaults, **fields})


def anchor(**fields: Any) -> Anchor:
    """A registered anchor."""
    number = next(_numbers)
    defaults = {"digest": digest_of(f"anchor {number}"), "title": f"Anchor {number}"}
    return Anchor.objects.create(**{**defaults, "registered_at": NOW, **fields})


def expert(**fields: Any) -> Expert:
    """An expert, ACTIVE unless told otherwise."""
    number = next(_numbers)
    found = fields.pop("corpus", None) or corpus()
    defaults = {
        "name": f"expert-{number}",
        "title": f"Expert {number}",
        "owner": found.owner,
        "corpus": found,
        "state": ExpertState.ACTIVE,
    }
    return Expert.objects.create(**{**defaults, "proposed_at": NOW, **fields})


def revision(**fields: Any) -> ExpertRevision:
    """A revision, ACTIVATED unless told otherwise."""
    number = next(_numbers)
    of = fields.pop("expert", None) or expert()
    defaults = {
        "expert": of,
        "number": of.revisions.count() + 1,
        "digest": digest_of(f"revision {number}"),
        "weights_digest": digest_of(f"weights {number}"),
        "anchor": fields.pop("anchor", None) or anchor(),
        "size_bytes": 1_000,
        "state": RevisionState.ACTIVATED,
    }
    return ExpertRevision.objects.create(**{**defaults, "submitted_at": NOW, **fields})


def finding(**fields: Any) -> Finding:
    """A passing extraction audit."""
    defaults: dict[str, Any] = {
        "revision": fields.pop("revision", None) or revision(),
        "verdict": Verdict.PASS,
        "rate": 0.001,
        "rate_low": 0.0,
        "rate_high": 0.004,
        "threshold": 0.01,
        "seed": 7,
        "found_at": NOW,
    }
    return Finding.objects.create(**{**defaults, **fields})


def build(*revisions: ExpertRevision, **fields: Any) -> Build:
    """A promoted build of these revisions, on the anchor of the first."""
    number = next(_numbers)
    experts = sorted(
        ({"name": one.expert.name, "digest": one.digest} for one in revisions),
        key=lambda row: row["name"],
    )
    base = fields.pop("anchor", None) or (revisions[0].anchor if revisions else anchor())
    defaults: dict[str, Any] = {
        "number": number,
        "digest": digest_of(f"build {number}"),
        "anchor": base,
        "experts": experts,
        "top_k": min(4, len(experts) + 1),
        "state": BuildState.PROMOTED,
        "proof": {"is_proved": True},
        "planned_at": NOW,
        "assembled_at": NOW,
    }
    return Build.objects.create(**{**defaults, **fields})


def snapshot(policy_epoch: int, **fields: Any) -> PolicySnapshot:
    """A published policy epoch whose body only tells its number."""
    body = {"policy_epoch": policy_epoch}
    defaults = {
        "digest": digest_of(f"snapshot {policy_epoch}"),
        "body": body,
        "reason": "tests",
        "history": leases.history(),
        "published_at": NOW,
    }
    return PolicySnapshot.objects.create(policy_epoch=policy_epoch, **{**defaults, **fields})


def lease(**fields: Any) -> RunnerLease:
    """An open lease of ten seconds, renewed just now."""
    defaults: dict[str, Any] = {
        "incarnation": uuid4(),
        "runner": "runner-1",
        "applied_epoch": 1,
        "granted_at": NOW,
        "renewed_at": NOW,
        "lease_s": 10.0,
        "started_at": NOW,
    }
    return RunnerLease.objects.create(**{**defaults, **fields})


def withdrawal(**fields: Any) -> Withdrawal:
    """A committed withdrawal with its ending; its fence is the test's own business."""
    of = fields.pop("expert", None) or expert(state=ExpertState.WITHDRAWN)
    ending = Ending.objects.create(
        instrument=Instrument.WITHDRAW, expert=of, effective_at=NOW, recorded_at=NOW
    )
    defaults: dict[str, Any] = {
        "expert": of,
        "ending": ending,
        "instrument": Instrument.WITHDRAW,
        "policy_epoch": 2,
        "committed_at": NOW,
        "lease_s": 10.0,
    }
    return Withdrawal.objects.create(**{**defaults, **fields})


def follow_up(kind: FollowUpKind = FollowUpKind.VERIFY, **fields: Any) -> FollowUp:
    """A follow-up due now."""
    defaults: dict[str, Any] = {
        "kind": kind,
        "subject_kind": "expert",
        "subject_id": uuid4(),
        "cause": "tests",
        "opened_at": NOW,
        "due_at": NOW,
    }
    return FollowUp.objects.create(**{**defaults, **fields})


def usage(**fields: Any) -> UsageRecord:
    """A closed answer of 100 tokens that only the public expert gave."""
    row = fields.pop("incarnation", None) or lease()
    defaults: dict[str, Any] = {
        "incarnation": row,
        "gw_seq": row.usage.count() + 1,
        "order_id": uuid4(),
        "decision_id": uuid4(),
        "consumer": fields.pop("consumer", None) or consumer(),
        "purpose": "research",
        "policy_epoch": 1,
        "build_digest": digest_of("build"),
        "allowed": [],
        "opened_at": NOW,
        "closed_at": NOW,
        "finish_reason": "stop",
        "prompt_tokens": 40,
        "completion_tokens": 60,
        "routed": {"public": 100},
        "mass": {"public": 100.0},
    }
    return UsageRecord.objects.create(**{**defaults, **fields})


def webhook(**fields: Any) -> WebhookEndpoint:
    """An endpoint of ours that is told of everything."""
    if "created_by" not in fields:
        fields["created_by"] = account()
    return WebhookEndpoint.objects.create(**{"url": "https://hooks.example/in", **fields})


def webhook_delivery(**fields: Any) -> WebhookDelivery:
    """A message that is due."""
    if "endpoint" not in fields:
        fields["endpoint"] = webhook()
    defaults: dict[str, Any] = {
        "key": f"delivery {next(_numbers)}",
        "kind": "webhook.test",
        "body": "{}",
        "created_at": NOW,
        "due_at": NOW,
    }
    return WebhookDelivery.objects.create(**{**defaults, **fields})
