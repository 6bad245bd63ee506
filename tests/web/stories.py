"""A week in a small installation, told through the services: rows for every page.

Alder Press has `code` (served), `news` (audited), `poems` (taken back) and `plays` (its licence
waits for a second person). Birch Archive has `languages` (served) and `laws` (it waits too).
The clock is the machine's own, because the pages read it; everything happened in the past days.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from django.db import transaction
from django.utils import timezone

from governance.log import sequencer
from governance.models import Build, Expert, ExpertRevision, Licence, Withdrawal
from governance.services import corpora, experts, licences
from governance.vocabulary import FollowUpKind, FollowUpState, Purpose, Role, Use
from tests import cast as people
from tests import factories
from tests.cast import Cast


@dataclass(frozen=True)
class Story:
    """What the pages show, by the names a test asks for."""

    cast: Cast
    build: Build
    audited: ExpertRevision
    waiting_revision: ExpertRevision
    waiting_licence: Licence
    withdrawal: Withdrawal

    def licence(self, name: str) -> Licence:
        """The approved licence of an expert's corpus."""
        return self.cast.licences[name]


def tell(*, has_passwords: bool = False) -> Story:
    """Write the week's rows."""
    now = timezone.now()
    began_at = now - timedelta(days=5)
    cast = people.meet(began_at, has_passwords=has_passwords)
    _grant(cast, began_at, now)
    people.served(cast, "code", "languages", "poems")
    audited = people.contribute(cast, cast.experts["news"])
    waiting = people.contribute(cast, cast.experts["laws"])
    experts.request_activation(waiting, by=cast.edda, at=cast.later())
    _use(cast, now)
    withdrawal = people.withdraw(cast, "poems")
    build = Build.objects.get(state="promoted")
    _run(audited, build, withdrawal, now)
    licence = _ask_for_plays(cast, now)
    sequencer.seal_now(now)
    return Story(cast, build, audited, waiting, licence, withdrawal)


@contextmanager
def told_for_a_module() -> Iterator[Story]:
    """The story inside a transaction that is undone at the end; each test gets a savepoint."""
    with transaction.atomic():
        yield tell()
        transaction.set_rollback(True)


def _grant(cast: Cast, began_at: datetime, now: datetime) -> None:
    terms = {"starts_at": began_at - timedelta(days=30)}
    people.grant(cast, "code", ends_at=now + timedelta(days=40), notice_days=14, **terms)
    people.grant(cast, "languages", territories=["DE", "NL"], **terms)
    people.grant(cast, "news", **terms)
    people.grant(cast, "poems", **terms)
    people.grant(cast, "laws", owner=cast.birch, **terms)


def _use(cast: Cast, now: datetime) -> None:
    """Two runners that are up; fifty answers by `code`, the last an hour ago."""
    factories.lease(
        runner="runner-2",
        applied_epoch=1,
        granted_at=now,
        renewed_at=now - timedelta(seconds=40),
        started_at=now - timedelta(days=3),
    )
    lease = factories.lease(
        applied_epoch=3,
        granted_at=now,
        renewed_at=now,
        lease_s=3_600,
        started_at=now - timedelta(days=4),
        loaded=[{"name": "code", "digest": factories.digest_of("code first")}],
    )
    for hour in range(1, 51):
        factories.usage(
            incarnation=lease,
            gw_seq=hour,
            consumer=cast.dara,
            allowed=["code", "languages"],
            mass={"public": 40.0, "code": 45.0, "languages": 15.0},
            prompt_tokens=12_400,
            completion_tokens=800,
            opened_at=now - timedelta(hours=hour),
            closed_at=now - timedelta(hours=hour) + timedelta(seconds=2),
        )


def _run(audited: ExpertRevision, build: Build, withdrawal: Withdrawal, now: datetime) -> None:
    """Work in every state: half done, failed, and a gap that waits for a person."""
    factories.follow_up(
        FollowUpKind.AUDIT,
        subject_kind="revision",
        subject_id=audited.pk,
        cause="an audit was ordered",
        state=FollowUpState.CLAIMED,
        claimed_by="worker-1",
        claimed_until=now + timedelta(seconds=30),
        started_at=now - timedelta(minutes=3),
        progress_done=120,
        progress_total=300,
        progress_note="windows of training text",
        opened_at=now - timedelta(minutes=4),
        due_at=now - timedelta(minutes=4),
    )
    factories.follow_up(
        FollowUpKind.EXPORT,
        subject_kind="build",
        subject_id=build.pk,
        cause="an export was ordered",
        state=FollowUpState.FAILED,
        started_at=now - timedelta(hours=5),
        ended_at=now - timedelta(hours=4),
        attempts=3,
        last_error="expected 1.2 GB free under exports, found 0.4 GB. Free space, export again",
        opened_at=now - timedelta(hours=5),
        due_at=now - timedelta(hours=5),
    )
    factories.follow_up(
        FollowUpKind.RESOLVE_GAP,
        subject_kind="expert",
        subject_id=uuid4(),
        cause="the licence of news names the purpose 'folklore', which nobody knows",
        opened_at=now - timedelta(hours=2),
        due_at=now - timedelta(hours=2),
    )


def _ask_for_plays(cast: Cast, now: datetime) -> Licence:
    corpus = corpora.describe(
        cast.alder,
        slug="plays-texts",
        title="Plays, 1600 to 1900",
        source_licence="own",
        languages=["en"],
        document_count=214,
        text_bytes=31_004_200,
        by=cast.cato,
        at=cast.later(),
    )
    terms = licences.Terms(
        uses=[Use.TRAIN, Use.ANSWER], purposes=[Purpose.EDUCATION], starts_at=now
    )
    return licences.request(corpus, terms=terms, by=cast.cato, at=cast.later())


def expert(name: str) -> Expert:
    """An expert of the story as it is now."""
    return Expert.objects.get(name=name)


STAFF = {Role.LEGAL: "cato", Role.ENGINEER: "edda", Role.AUDITOR: "aude"}
