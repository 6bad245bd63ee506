"""LOAD: a build is promoted only once every live runner holds it. Policy never promises more."""

from __future__ import annotations

import time

from django.utils import timezone

from governance.models import Build
from governance.services import builds, leases
from governance.vocabulary import BuildState, FollowUpKind
from worker.celery import ERRANDS, app
from worker.tasks.courier import Carrier, Evidence, Later, carry

LOOK_S, STAY_S, AGAIN_S = 0.1, 3.0, 1.0
APPROVAL_AGAIN_S = 10.0


@app.task(name=ERRANDS[FollowUpKind.LOAD].task)
def load(follow_up_id: str) -> bool:
    """Wait for the runners, then promote the build."""
    return carry(follow_up_id, _load)


def _load(carrier: Carrier) -> Evidence:
    until_s = time.monotonic() + STAY_S
    while True:
        build = Build.objects.get(pk=carrier.row.subject_id)
        if build.state == BuildState.PROMOTED:
            return {"build": build.number, "was_promoted_already": True}
        if build.state != BuildState.ASSEMBLED or builds.is_overtaken(build):
            # Overtaken by a newer build or by a withdrawal: it must not be promoted any more.
            return {"build": build.number, "state": build.state, "promoted": False}
        held_by, missing = _runners(build)
        if held_by and not missing:
            break
        carrier.report(len(held_by), len(held_by) + len(missing), "loading")
        carrier.check()
        if time.monotonic() > until_s:
            # Given back meanwhile: this queue is for what a withdrawal waits for.
            raise Later(f"runners without the build: {', '.join(missing) or 'none live'}", AGAIN_S)
        time.sleep(LOOK_S)
    if builds.waits_for_approval(build):
        raise Later(f"{build} waits for approval of its promotion", APPROVAL_AGAIN_S)
    snapshot = builds.promote(build, at=timezone.now())
    return {"build": build.number, "runners": held_by, "policy_epoch": snapshot.policy_epoch}


def _runners(build: Build) -> tuple[list[str], list[str]]:
    """Live runners with and without the whole build, by name and incarnation."""
    held_by: list[str] = []
    missing: list[str] = []
    for lease in leases.live(at=timezone.now()):
        named = f"{lease.runner} {lease.incarnation}"
        holds = str(build.pk) in lease.stats.get("builds", [])
        (held_by if holds else missing).append(named)
    return held_by, missing
