"""The rows of a large installation, for benchmarks: written straight to the tables."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

NOW = datetime.now(UTC)
PEOPLE = ("legal", "engineer", "auditor", "owner", "second")


@dataclass(frozen=True)
class Size:
    """How many rows of each kind. A duty goes with each licence, a key with each consumer, an
    expert, a consent and a statement with each owner."""

    owners: int
    licences: int
    consumers: int
    decisions: int
    events: int

    def shrunk(self, by: int) -> Size:
        """A smaller installation of the same shape."""
        return Size(*(max(count // by, 1) for count in astuple(self)))

    def beyond(self, other: Size) -> Size:
        """What is left to add to `other`."""
        return Size(*(a - b for a, b in zip(astuple(self), astuple(other), strict=True)))


def fill(size: Size, *, first: int) -> None:
    """Add so many rows; owners are numbered from `first` on, the rest in step with them."""
    from django.db import connection, transaction

    from governance import tenancy

    with tenancy.as_system():
        with transaction.atomic():
            if first == 0:
                _people()
            licences = _parties(size, first)
            _decisions(size.decisions, licences)
            _events(size.events)
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")  # what autovacuum does meanwhile elsewhere


def _people() -> None:
    from governance.models import Account, Membership

    for name in PEOPLE:
        account = Account.objects.create_user(f"{name}@example.org", full_name=name.capitalize())
        if name in ("legal", "engineer", "auditor"):
            Membership.objects.create(account=account, role=name)


def _account(name: str) -> Any:
    from governance.models import Account

    return Account.objects.get(email=f"{name}@example.org")


def _parties(size: Size, first: int) -> Sequence[str]:
    """Owners with what is theirs, and consumers; the references of the licences."""
    from governance.models import Consumer, Corpus, DataOwner, Expert, Membership
    from governance.vocabulary import OwnerRole, Role

    chance = random.Random(first)
    numbers = range(first, first + size.owners)
    owners = DataOwner.objects.bulk_create(
        DataOwner(slug=f"owner-{n:05}", legal_name=f"Press {n:05} Ltd", jurisdiction="NL")
        for n in numbers
    )
    if first == 0:
        Membership.objects.create(
            account=_account("owner"), role=Role.OWNER, owner=owners[0], owner_role=OwnerRole.ADMIN
        )
    corpora = Corpus.objects.bulk_create(
        Corpus(slug=f"corpus-{n:05}", title=f"News {n:05}", owner=owner, source_licence="own")
        for n, owner in zip(numbers, owners, strict=True)
    )
    experts = Expert.objects.bulk_create(
        Expert(
            name=f"news-{n:05}", title=f"News {n:05}", owner=owner, corpus=corpus, state="active"
        )
        for n, owner, corpus in zip(numbers, owners, corpora, strict=True)
    )
    _keys(
        Consumer.objects.bulk_create(
            Consumer(slug=f"consumer-{n:05}", name=f"Consumer {n:05}", territory="DE")
            for n in range(2 * first, 2 * first + size.consumers)
        )
    )
    licences = _licences(size.licences, corpora, chance)
    _papers(owners, experts, licences)
    return [licence.reference for licence in licences]


def _keys(consumers: Sequence[Any]) -> None:
    from governance.models import ApiKey

    ApiKey.objects.bulk_create(
        ApiKey(
            consumer=consumer,
            label="main",
            prefix=consumer.slug.removeprefix("consumer-"),
            secret_digest=f"{n:064x}",
            purposes=["research"],
        )
        for n, consumer in enumerate(consumers)
    )


def _licences(count: int, corpora: Sequence[Any], chance: random.Random) -> Sequence[Any]:
    """One in twenty waits for a second person; ends lie from tomorrow to four years ahead."""
    from governance.models import Licence

    legal, second = _account("legal"), _account("second")
    decided = {"state": "approved", "decided_by": second, "decided_at": NOW}
    return Licence.objects.bulk_create(
        Licence(
            reference=f"{corpora[n % len(corpora)].slug}-v{n // len(corpora) + 1}",
            corpus=corpora[n % len(corpora)],
            uses=["train", "answer"],
            purposes=["research", "education"],
            starts_at=NOW - timedelta(days=chance.randint(2, 700)),
            ends_at=NOW + timedelta(days=1 + n * 61 % 1400),
            terms_digest=f"{chance.getrandbits(256):064x}",
            requested_by=legal,
            requested_at=NOW - timedelta(days=2, minutes=n),
            **({} if n % 20 == 3 else decided),
        )
        for n in range(count)
    )


def _papers(owners: Sequence[Any], experts: Sequence[Any], licences: Sequence[Any]) -> None:
    """What goes with licences: requests that wait, duties, consents, statements, notices."""
    from governance.models import (
        ApprovalRequest,
        ApprovalStep,
        ConsentEvent,
        ConsentRecord,
        Duty,
        Notice,
        Statement,
    )

    legal = _account("legal")
    waiting = ApprovalRequest.objects.bulk_create(
        ApprovalRequest(
            kind="licence", subject_kind="licence", subject_id=str(one.pk), thread=one.reference,
            title=f"Licence {one.reference}", digest=one.terms_digest, owner=one.corpus.owner,
            route_key="licence", requested_by=legal, due_at=NOW + timedelta(days=9),
        )
        for one in licences if one.state == "requested"
    )  # fmt: skip
    ApprovalStep.objects.bulk_create(
        ApprovalStep(request=one, number=1, title="Legal", role="legal") for one in waiting
    )
    Duty.objects.bulk_create(
        Duty(
            key=f"bench:{one.reference}", owner=one.corpus.owner, licence=one, action="attribute",
            about=f"Attribute {one.reference}", cause="the licence was approved",
            due_at=NOW + timedelta(hours=n - 500),
        )
        for n, one in enumerate(licences)
    )  # fmt: skip
    records = ConsentRecord.objects.bulk_create(
        ConsentRecord(
            owner=expert.owner, expert=expert, licence=licence, controller="bench",
            jurisdiction="NL", notice_digest=licence.terms_digest, withdrawal_method="page",
        )
        for expert, licence in zip(experts, licences, strict=False)
    )  # fmt: skip
    ConsentEvent.objects.bulk_create(
        ConsentEvent(record=record, kind="given", method="owner page") for record in records
    )
    Statement.objects.bulk_create(
        Statement(
            owner=owner, month=date(2026, 1, 1), body={"totals": {"EUR": "12.00"}},
            digest="0" * 64, rows_digest="0" * 64, row_count=1,
        )
        for owner in owners
    )  # fmt: skip
    Notice.objects.bulk_create(
        Notice(
            key=f"bench:{one.reference}", kind="licence_expiring", account=legal,
            subject=f"licence:{one.reference}", title=f"{one.reference} ends", text="Renew it.",
        )
        for one in licences
    )  # fmt: skip


# One expert is in all of them, one in a thousand in each; every tenth was denied.
_DECISIONS = """
INSERT INTO governance_decisionrecord
    (decision_id, timestamp, labels, bundles, path, input, result, experts, requested_by,
     policy_epoch, erased, masked, metrics)
SELECT gen_random_uuid(), %(now)s - n * interval '2 seconds', '{"gateway": "bench"}', '{}',
    '/v1/chat/completions',
    jsonb_build_object('consumer', 'consumer-' || lpad((n %% %(consumers)s)::text, 5, '0'),
        'purpose', (ARRAY['research', 'education', 'commercial'])[1 + n %% 3],
        'territory', 'DE', 'exclude', '[]'::jsonb, 'require', '[]'::jsonb),
    jsonb_build_object('is_permitted', n %% 10 > 0,
        'allowed', jsonb_build_array('news-00000', 'news-' || lpad((n %% 1000)::text, 5, '0')),
        'why', '[]'::jsonb,
        'denied', jsonb_build_object('news-00001', '["PURPOSE"]'::jsonb),
        'licences', jsonb_build_object('news-00000', %(licence)s::text)),
    '{}', 'rk_bench', 1 + n / 10000, '[]', '[]', '{}'
FROM generate_series(1, %(count)s) AS n
"""


def _decisions(count: int, licences: Sequence[str]) -> None:
    from django.db import connection

    from governance.models import Consumer

    with connection.cursor() as cursor:
        named = {"now": NOW, "count": count, "licence": licences[0]}
        cursor.execute(_DECISIONS, {**named, "consumers": Consumer.objects.count()})


def _events(count: int) -> None:
    """Leaves of the log, as pages read them; this log proves nothing."""
    from governance.canonical import canonical_json
    from governance.models import LogLeaf

    first = LogLeaf.objects.count()
    by = f"account:{_account('legal').pk}"
    LogLeaf.objects.bulk_create(
        (
            LogLeaf(
                seq=seq,
                body=canonical_json(
                    {
                        "tag": "owner_changed",
                        "subject": f"owner:{seq}",
                        "by": by,
                        "at": f"{NOW:%FT%TZ}",
                    }
                ),
                leaf_hash=bytes(32),
                staged_at=NOW,
            )
            for seq in range(first, first + count)
        ),
        batch_size=5_000,
    )
