"""A page with three times the rows asks the database no more often."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from governance.vocabulary import FollowUpKind, RevisionState
from tests import factories

PATHS = {
    "cato": (
        "/legal/owners/",
        "/legal/owners/alder-press/",
        "/legal/licences/",
        "/legal/consumers/",
        "/legal/approvals/",
        "/legal/due/",
        "/legal/log/",
    ),
    "ada": ("/owner/", "/owner/withdrawals/"),
    "edda": (
        "/engineer/experts/",
        "/engineer/runs/",
        "/engineer/builds/",
        "/engineer/runners/",
        "/engineer/audits/",
    ),
}


def queries_of(client, path: str) -> int:
    with CaptureQueriesContext(
        connection,
    ) as asked:
        assert client.get(path).status_code == 200
    return len(asked)


def another_of_everything(story) -> None:
    now = timezone.now()
    corpus = factories.corpus(owner=story.cast.alder)
    factories.licence(corpus=corpus, ends_at=now + timedelta(days=20), starts_at=now)
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
    assert before <= 15
