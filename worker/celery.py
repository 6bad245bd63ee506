"""The Celery application: four queues, which task serves which follow-up, and the beat.

The row is the truth. A message only says "look at this follow-up now": it may come twice, late or
never, and nothing is wrong but the delay.

    enforce   what a withdrawal waits for: quiesce, load, erase, certify. Nothing slow may stand
              before it, and it never loads torch, so that it starts in a second.
    models    hours of tensors: train, verify, audit, assemble, rebuild, export.
    upkeep    the clock's work: seal the log, look after dead runners, gaps and expiry.
    notices   telling people and endpoints; waits for others' servers, so nothing waits for it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from celery import Celery
from django.core.exceptions import ImproperlyConfigured

from worker import boot

boot.boot()

from django.conf import settings  # noqa: E402 - settings exist only after boot

from governance.vocabulary import FollowUpKind  # noqa: E402


class Queue(StrEnum):
    """The queues; see the head of this module for what each is for."""

    ENFORCE = "enforce"
    MODELS = "models"
    UPKEEP = "upkeep"
    NOTICES = "notices"


@dataclass(frozen=True)
class Errand:
    """Which task carries a kind of follow-up, and over which queue."""

    task: str
    queue: Queue


_HEAVY = (
    FollowUpKind.TRAIN,
    FollowUpKind.VERIFY,
    FollowUpKind.AUDIT,
    FollowUpKind.ASSEMBLE,
    FollowUpKind.REBUILD,
    FollowUpKind.EXPORT,
)
_URGENT = (FollowUpKind.QUIESCE, FollowUpKind.LOAD, FollowUpKind.ERASE, FollowUpKind.CERTIFY)

ERRANDS: Mapping[FollowUpKind, Errand] = {
    **{kind: Errand(f"reclaim.{kind.value}", Queue.MODELS) for kind in _HEAVY},
    **{kind: Errand(f"reclaim.{kind.value}", Queue.ENFORCE) for kind in _URGENT},
}
"""RESOLVE_GAP is missing on purpose: a person does that."""

MODULES: Mapping[Queue, tuple[str, ...]] = {
    Queue.ENFORCE: ("worker.tasks.enforcement", "worker.tasks.loading"),
    Queue.MODELS: ("worker.tasks.contributions", "worker.tasks.audits", "worker.tasks.builds"),
    Queue.UPKEEP: ("worker.tasks.upkeep",),
    Queue.NOTICES: ("worker.tasks.telling",),
}

UPKEEP_TASKS: Mapping[str, float] = {
    "reclaim.seal_log": 1.0,
    "reclaim.reap_leases": 5.0,
    "reclaim.watch_licences": 60.0,
    "reclaim.watch_follow_ups": 30.0,
    "reclaim.watch_duties": 300.0,
    "reclaim.issue_statements": 900.0,
}
"""What the clock asks for, and every how many seconds."""

NOTICE_TASKS: Mapping[str, float] = {
    "reclaim.tell_of_log": 2.0,
    "reclaim.deliver_webhooks": 2.0,
    "reclaim.send_mails": 15.0,
    "reclaim.remind": 300.0,
}
"""Likewise, of the queue that waits for others."""


def queues_asked(argv: Sequence[str]) -> tuple[Queue, ...]:
    """The queues after `-Q` or `--queues`; all of them for a worker that names none.

    A process that is no worker (relay, beat, tests) serves none and loads no task module.
    """
    if "worker" not in argv:
        return ()
    named = ""
    for place, word in enumerate(argv):
        if word in ("-Q", "--queues"):
            named = argv[place + 1] if place + 1 < len(argv) else ""
        elif word.startswith("--queues="):
            named = word.partition("=")[2]
        elif word.startswith("-Q") and len(word) > 2:
            named = word[2:]
    if not named:
        return tuple(Queue)
    return tuple(Queue(name.strip()) for name in named.split(","))


def _broker_url() -> str:
    if settings.REDIS_URL is None and "worker" in sys.argv:
        raise ImproperlyConfigured(
            "expected a Redis to take work from, found none. Run `reclaim up`, or set REDIS_URL."
        )
    return settings.REDIS_URL or "memory://"


app = Celery(
    "reclaim",
    broker=_broker_url(),
    include=[module for queue in queues_asked(sys.argv) for module in MODULES[queue]],
)
app.conf.update(
    accept_content=["json"],
    task_serializer="json",
    result_serializer="json",
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    task_default_queue=Queue.UPKEEP.value,
    task_create_missing_queues=False,
    task_queues={queue.value: {} for queue in Queue},
    task_routes={errand.task: {"queue": errand.queue.value} for errand in ERRANDS.values()}
    | {name: {"queue": Queue.UPKEEP.value} for name in UPKEEP_TASKS}
    | {name: {"queue": Queue.NOTICES.value} for name in NOTICE_TASKS},
    # Acknowledged at the start: what a dead worker held comes back through its follow-up.
    task_acks_late=False,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_connection_timeout=1.0,
    # One try and a short one: the relay has a database to go back to.
    broker_transport_options={
        "socket_connect_timeout": 1.0,
        "socket_timeout": 5.0,
        "retry_on_timeout": False,
        "max_retries": 0,
    },
    enable_utc=True,
    timezone="UTC",
    beat_schedule={
        name: {"task": name, "schedule": every_s, "options": {"expires": max(5.0, every_s)}}
        for name, every_s in {**UPKEEP_TASKS, **NOTICE_TASKS}.items()
    },
)
