"""What no act causes: ends that come near, duties overdue, notices nobody acknowledged."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db.models import Exists, F, OuterRef, Q

from governance.models import Duty, Licence, Notice
from governance.services import clocks
from governance.services.notices.stories import LEGAL, Told
from governance.services.notices.telling import tell
from governance.vocabulary import Clock, NoticeKind

REMIND_DAYS = (90, 30, 7)
CHASE_DAYS = (7, 21)
"""When a consumer that has not acknowledged a notice is asked again."""


def remind(*, at: datetime) -> dict[str, int]:
    """Tell what is due at `at`, each once; how many of each.

    A run that comes late tells of the nearest threshold alone: told today that 30 days are left,
    nobody needs to hear that 90 were.
    """
    return {
        "expiring": _tell_new(_expiring(at), at),
        "overdue": _tell_new(_overdue(at), at),
        "chased": _tell_new(_unacknowledged(at), at),
    }


def _tell_new(told: Iterable[Told], at: datetime) -> int:
    by_key = {one.key: one for one in told}
    subjects = {one.subject for one in by_key.values()}
    kinds = {one.kind for one in by_key.values()}
    keys = Notice.objects.filter(subject__in=subjects, kind__in=kinds).values_list("key", flat=True)
    known = {key.rpartition(":")[0] for key in keys}
    return sum(1 for key, one in by_key.items() if key not in known and tell(one, at=at))


def _expiring(at: datetime) -> Iterable[Told]:
    """Licences whose written end is near; not those ended otherwise or already renewed."""
    renewed = Licence.objects.agreed().filter(supersedes=OuterRef("pk"))
    near = Licence.objects.agreed().filter(
        Q(stops_at=None) | Q(stops_at__gte=F("ends_at")),
        ends_at__gt=at,
        ends_at__lte=at + timedelta(days=max(REMIND_DAYS)),
    )
    for licence in near.exclude(Exists(renewed)).select_related("corpus"):
        assert licence.ends_at is not None
        left = licence.ends_at - at
        days = min(one for one in REMIND_DAYS if left <= timedelta(days=one))
        yield Told(
            kind=NoticeKind.LICENCE_EXPIRING,
            key=f"expiring:{licence.pk}:{days}",
            subject=f"licence:{licence.reference}",
            title=f"{licence.reference} ends within {days} days",
            text=f"Its written end is {licence.ends_at.day} {licence.ends_at:%B %Y}. Without a "
            f"renewal nobody may use what {licence.corpus} taught from then on; that takes no act.",
            roles=LEGAL,
            owner_id=licence.corpus.owner_id,
            details={"ends_at": licence.ends_at, "days": days},
        )


def _overdue(at: datetime) -> Iterable[Told]:
    late = Duty.objects.filter(done_at=None, due_at__lte=at).order_by("due_at")
    for duty in late:
        if clocks.standing(Clock.DUTY, duty.pk) is not None:
            continue
        if duty.due_at + clocks.stood_still(Clock.DUTY, duty.pk, at=at) > at:
            continue
        yield Told(
            kind=NoticeKind.DUTY_OVERDUE,
            key=f"overdue:{duty.pk}",
            subject=f"duty:{duty.pk}",
            title=f"A duty is overdue: {duty.about}"[:200],
            text=f"It was due on {duty.due_at.day} {duty.due_at:%B %Y}: {duty.cause}.",
            roles=LEGAL,
            owner_id=duty.owner_id,
            details={"due_at": duty.due_at},
        )


def _unacknowledged(at: datetime) -> Iterable[Told]:
    """Ask again those consumers that were told and have not said so."""
    silent = Notice.objects.filter(
        needs_acknowledgement=True,
        acknowledged_at=None,
        consumer__isnull=False,
        told_at__lte=at - timedelta(days=min(CHASE_DAYS)),
    ).exclude(key__startswith="chase:")
    for notice in silent:
        if clocks.standing(Clock.ACKNOWLEDGEMENT, notice.pk) is not None:
            continue
        assert notice.consumer_id is not None
        waited = at - notice.told_at - clocks.stood_still(Clock.ACKNOWLEDGEMENT, notice.pk, at=at)
        passed = [one for one in CHASE_DAYS if waited >= timedelta(days=one)]
        if passed:
            yield Told(
                kind=NoticeKind(notice.kind),
                key=f"chase:{notice.pk}:{max(passed)}",
                subject=notice.subject,
                title=f"Please acknowledge: {notice.title}"[:200],
                text=notice.text,
                consumer_ids=frozenset({notice.consumer_id}),
                consumer_text=notice.text,
                needs_acknowledgement=True,
            )
