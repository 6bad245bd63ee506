"""A page with more rows asks the database no more often, and never often."""

from __future__ import annotations

import json
from datetime import date, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from governance.models import (
    ConsentEvent,
    ConsentRecord,
    DecisionRecord,
    Duty,
    LogLeaf,
    Notice,
    Statement,
)
from governance.vocabulary import FollowUpKind, RevisionState
from tests import factories

PATHS = {
    "cato": (
        "/legal/",
        "/legal/owners/",
        "/legal/owners/alder-press/",
        "/legal/owners/alder-press/history/",
        "/legal/licences/",
        "/legal/licences/code-texts-v1/history/",
        "/legal/corpora/",
        "/legal/consumers/",
        "/legal/consumers/dara/",
        "/legal/keys/",
        "/legal/consents/",
        "/legal/approvals/",
        "/legal/approvals/routes/",
        "/legal/approvals/absence/",
        "/legal/due/",
        "/legal/duties/",
        "/legal/statements/",
        "/legal/quotas/",
        "/legal/decisions/",
        "/legal/staff/",
        "/legal/log/",
        "/legal/exchange/",
        "/notices/",
        "/notices/webhooks/",
    ),
    "aude": ("/legal/corpora/", "/legal/decisions/", "/legal/consents/", "/legal/log/"),
    "ada": (
        "/owner/",
        "/owner/licences/",
        "/owner/statements/",
        "/owner/duties/",
        "/owner/consents/",
        "/owner/withdrawals/",
        "/people/of/alder-press/",
        "/notices/",
        "/notices/webhooks/",
    ),
    "edda": (
        "/engineer/experts/",
        "/engineer/runs/",
        "/engineer/builds/",
        "/engineer/runners/",
        "/engineer/audits/",
        "/playground/",
    ),
}
MOST = 20
"""Eight are every page's own: session, account, who it is (three), policy epoch, unread notices,
and letting go of the tenant. The widest asks for eight kinds of clocks and what belongs to them."""
MOST_OF = {"/legal/": 32}  # the board of requests and the board of clocks on one page


def queries_of(client, path: str) -> int:
    with CaptureQueriesContext(
        connection,
    ) as asked:
        assert client.get(path).status_code == 200
    return len(asked)


def another_of_everything(story) -> None:
    now = timezone.now()
    corpus = factories.corpus(owner=story.cast.alder)
    licence = factories.licence(corpus=corpus, ends_at=now + timedelta(days=20), starts_at=now)
    factories.licence(corpus=corpus, is_approved=False)
    expert = factories.expert(corpus=corpus)
    anchor = factories.anchor()
    revision = factories.revision(expert=expert, anchor=anchor)
    factories.finding(revision=revision)
    waiting = factories.revision(
        expert=expert,
        anchor=anchor,
        state=RevisionState.ACTIVATION_REQUESTED,
        activation_requested_by=story.cast.edda,
    )
    factories.finding(revision=waiting)
    taken_back = factories.expert(corpus=corpus, state="withdrawn")
    factories.withdrawal(expert=taken_back)
    build = factories.build(
        revision, anchor=anchor, number=100 + expert.pk.int % 10**6, state="retired"
    )
    lease = factories.lease(loaded_build=build, renewed_at=now, granted_at=now)
    factories.usage(
        incarnation=lease, allowed=[expert.name], mass={"public": 1.0, expert.name: 1.0},
        opened_at=now - timedelta(hours=1), closed_at=now - timedelta(hours=1),
    )  # fmt: skip
    consumer = factories.consumer()
    factories.api_key(consumer=consumer, scopes=["playground"])
    factories.webhook(owner=story.cast.alder)
    DecisionRecord.objects.create(
        path="p", requested_by="k", policy_epoch=1, input={}, result={"allowed": [expert.name]}
    )
    record = ConsentRecord.objects.create(
        owner=story.cast.alder, expert=expert, licence=licence, controller="us",
        jurisdiction="NL", notice_digest=factories.digest_of("n"), withdrawal_method="page",
    )  # fmt: skip
    ConsentEvent.objects.create(record=record, kind="given", method="page")
    LogLeaf.objects.create(
        seq=LogLeaf.objects.count(),
        body=json.dumps(
            {"tag": "owner_changed", "subject": "o", "by": f"account:{factories.account().pk}",
             "at": f"{now:%FT%TZ}"}
        ).encode(),
        leaf_hash=bytes(32), staged_at=now,
    )  # fmt: skip
    for account in (story.cast.cato, story.cast.ada):
        Notice.objects.create(
            key=f"k:{account.pk}:{expert.pk}", kind="test", subject="s", account=account
        )
    Duty.objects.create(
        key=f"d:{expert.pk}", owner=story.cast.alder, licence=licence, action="inform", due_at=now
    )
    Statement.objects.create(
        owner=story.cast.alder, month=date(2000 + Statement.objects.count(), 1, 1),
        body={"totals": {}}, digest="0" * 64, rows_digest="0" * 64, row_count=0,
    )  # fmt: skip
    for kind, subject in (("expert", expert), ("revision", revision), ("build", build)):
        factories.follow_up(FollowUpKind.VERIFY, subject_kind=kind, subject_id=subject.pk)


@pytest.mark.parametrize(("name", "path"), [(n, path) for n in PATHS for path in PATHS[n]])
def test_queries_do_not_grow_with_rows(by, story, name, path):
    client = by(name)
    another_of_everything(story)
    queries_of(client, path)
    before = queries_of(client, path)
    for _ in range(3):
        another_of_everything(story)
    assert queries_of(client, path) == before
    assert before <= MOST_OF.get(path, MOST)
