"""Builds: planned from what is active, assembled and proved by workers, promoted by policy.

A build that names a withdrawn expert is tombstoned and never returns, whatever state it was in.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db.models import Max, Q, QuerySet

from governance.errors import UnlawfulMove
from governance.log import events
from governance.models import (
    Account,
    Anchor,
    Build,
    Expert,
    ExpertRevision,
    FollowUp,
    PolicySnapshot,
    Withdrawal,
)
from governance.services import approvals, followups, snapshots
from governance.services.approvals import subjects
from governance.services.locks import policy_act
from governance.vocabulary import (
    BuildState,
    EventTag,
    ExpertState,
    FollowUpKind,
    RevisionState,
)

TOP_K = 4
"""Experts a token is routed to, the public one included, where that many are in the build."""

ABOUT_BUILDS = (
    FollowUpKind.ASSEMBLE,
    FollowUpKind.REBUILD,
    FollowUpKind.LOAD,
    FollowUpKind.EXPORT,
)
_ENDED = (ExpertState.WITHDRAWN, ExpertState.ERASED)


def plan_current(
    *,
    reason: str,
    by: Account | None,
    at: datetime,
    withdrawal: Withdrawal | None = None,
    after: FollowUp | None = None,
) -> Build:
    """Plan a build of every active expert's activated revision on the newest anchor.

    Raises:
        UnlawfulMove: no anchor is registered yet.
    """
    with policy_act():
        build, _ = draft(reason=reason, at=at, withdrawal=withdrawal, after=after)
        events.stage(
            EventTag.BUILD_PLANNED,
            subject=f"build:{build.number}",
            by=by,
            at=at,
            details={"reason": reason, "experts": build.experts},
        )
    return build


def draft(
    *,
    reason: str,
    at: datetime,
    withdrawal: Withdrawal | None = None,
    after: FollowUp | None = None,
) -> tuple[Build, FollowUp]:
    """The rows of `plan_current` without its event, for acts that plan a build as a consequence.

    Call it inside `policy_act`: the policy lock is what makes the number and the members right.
    """
    anchor = Anchor.objects.order_by("-registered_at").first()
    if anchor is None:
        raise UnlawfulMove("expected a registered anchor to build on, found none. Train one first.")
    experts = _members(anchor)
    newest = Build.objects.aggregate(number=Max("number"))["number"] or 0
    build = Build.objects.create(
        number=newest + 1,
        anchor=anchor,
        experts=experts,
        top_k=min(TOP_K, len(experts) + 1),
        reason=reason[:200],
        withdrawal=withdrawal,
        planned_at=at,
    )
    follow_up = followups.open(
        FollowUpKind.REBUILD if withdrawal else FollowUpKind.ASSEMBLE,
        subject_kind="build",
        subject_id=build.pk,
        cause=reason,
        order={"number": build.number, "expert_names": [row["name"] for row in experts]},
        after=after,
        at=at,
    )
    return build, follow_up


def _members(anchor: Anchor) -> list[dict[str, str]]:
    activated = ExpertRevision.objects.filter(
        state=RevisionState.ACTIVATED, anchor=anchor, expert__state=ExpertState.ACTIVE
    ).values_list("expert__name", "digest")
    return [{"name": name, "digest": digest} for name, digest in sorted(activated)]


def holding(name: str) -> QuerySet[Build]:
    """Builds of any state that name the expert."""
    return Build.objects.filter(experts__contains=[{"name": name}])


def record_assembled(
    build: Build,
    *,
    digest: str,
    export_path: str,
    export_files: Mapping[str, str],
    proof: Mapping[str, Any],
    at: datetime,
) -> Build:
    """Note that a planned build exists, with what proves it; runners are to load it next.

    Repeating it with the same digest changes nothing. A build overtaken by a newer promoted one is
    retired on the spot: it is evidence, and will not be served.

    Args:
        export_files: name to SHA-256 of each file of the export.
        proof: check to result; a False among the results means that it is not what it claims.

    Raises:
        UnlawfulMove: the build was tombstoned, failed, or assembled as something else.
    """
    with policy_act():
        found = Build.objects.select_for_update().get(pk=build.pk)
        if found.digest == digest and found.state not in (BuildState.PLANNED, BuildState.FAILED):
            _refuse_tombstoned(found)
            return found
        if found.state != BuildState.PLANNED:
            raise UnlawfulMove(
                f"expected {found} to be planned, found it {found.state}. Plan a new build."
            )
        is_overtaken = Build.objects.filter(
            state=BuildState.PROMOTED, number__gt=found.number
        ).exists()
        found.digest, found.assembled_at = digest, at
        found.export_path, found.export_files = export_path, dict(export_files)
        found.proof = dict(proof)
        found.state = BuildState.RETIRED if is_overtaken else BuildState.ASSEMBLED
        found.save()
        if not is_overtaken:
            followups.open(
                FollowUpKind.LOAD,
                subject_kind="build",
                subject_id=found.pk,
                cause=f"{found} assembled: {found.reason}",
                order={"number": found.number, "digest": digest},
                at=at,
            )
        events.stage(
            EventTag.BUILD_ASSEMBLED,
            subject=f"build:{found.number}",
            by=None,
            at=at,
            details={"digest": digest, "experts": found.experts, "is_proved": _is_proved(found)},
        )
    return found


def _refuse_tombstoned(build: Build) -> None:
    if build.state == BuildState.TOMBSTONED:
        raise UnlawfulMove(
            f"expected a build without withdrawn experts, found {build} tombstoned. Delete what "
            "was made of it; its successor is planned."
        )


def record_failed(build: Build, *, error: str, at: datetime) -> Build:
    """Note that a planned or assembled build will not be. Repeating it changes nothing."""
    with policy_act():
        found = Build.objects.select_for_update().get(pk=build.pk)
        if found.state not in (BuildState.PLANNED, BuildState.ASSEMBLED):
            return found
        found.state = BuildState.FAILED
        found.save(update_fields=["state"])
        followups.cancel_about(
            "build", [found.pk], kinds=[FollowUpKind.LOAD], reason="build failed", at=at
        )
        events.stage(
            EventTag.BUILD_FAILED,
            subject=f"build:{found.number}",
            by=None,
            at=at,
            details={"error": error[:2000]},
        )
    return found


def promote(build: Build, *, at: datetime) -> PolicySnapshot:
    """Serve this build from the next policy epoch on. Repeating it gives the newest epoch back.

    Call it when every runner holds it: policy never promises what a runner lacks. The build served
    so far retires, and so do older ones that wait; what names a withdrawn expert is tombstoned.

    Where a route is on it needs approval, unless it answers a withdrawal: taking an expert out
    never waits for people.

    Raises:
        NotPermitted: exactly this build needs an approval and has none.
        UnlawfulMove: it is not assembled, not proved, older than the one served, or names an
            expert that is not active now.
    """
    with policy_act():
        found = (
            Build.objects.select_related("anchor").select_for_update(of=("self",)).get(pk=build.pk)
        )
        if found.state == BuildState.PROMOTED:
            return PolicySnapshot.objects.latest("policy_epoch")
        _refuse_unfit(found)
        if found.withdrawal_id is None:
            approvals.spend(subjects.promotion(found), at=at)
        overtaken = Q(state=BuildState.ASSEMBLED, number__lt=found.number)
        Build.objects.filter(Q(state=BuildState.PROMOTED) | overtaken).update(
            state=BuildState.RETIRED, retired_at=at
        )
        found.state, found.promoted_at = BuildState.PROMOTED, at
        found.save(update_fields=["state", "promoted_at"])
        tombstoned = _tombstone_ended(at)
        published = snapshots.publish(reason=f"{found} promoted", build=found, at=at)
        events.stage(
            EventTag.BUILD_PROMOTED,
            subject=f"build:{found.number}",
            by=None,
            at=at,
            details={
                "digest": found.digest,
                "experts": found.experts,
                "policy_epoch": published.policy_epoch,
                "tombstoned": tombstoned,
            },
        )
    return published


def _refuse_unfit(build: Build) -> None:
    _refuse_tombstoned(build)
    if build.state != BuildState.ASSEMBLED:
        raise UnlawfulMove(f"expected {build} assembled, found it {build.state}. Assemble it.")
    if not _is_proved(build):
        raise UnlawfulMove(
            f"expected every proof of {build} to hold, found {build.proof or 'none'}. Assemble it "
            "again; if that does not help, look at the failed check."
        )
    if is_overtaken(build):
        raise UnlawfulMove(f"expected {build} to be the newest, found a newer one served already.")
    names = [row["name"] for row in build.experts]
    active = Expert.objects.filter(name__in=names, state=ExpertState.ACTIVE)
    missing = sorted(set(names) - set(active.values_list("name", flat=True)))
    if missing:
        raise UnlawfulMove(
            f"expected only active experts in {build}, found {', '.join(missing)} not active. "
            "Plan a build of what is active now."
        )


def _is_proved(build: Build) -> bool:
    return bool(build.proof) and all(result is not False for result in build.proof.values())


def _tombstone_ended(at: datetime) -> list[int]:
    names = Expert.objects.filter(state__in=_ENDED).values_list("name", flat=True)
    return [number for name in names for number in tombstone(name, at=at, is_served_spared=True)]


def tombstone(name: str, *, at: datetime, is_served_spared: bool) -> list[int]:
    """Bury every build that names the expert; their numbers.

    The promoted one is spared until its successor is: policy already denies the expert in it, and
    the others in it still serve. Call it inside `policy_act`.
    """
    builds = holding(name).exclude(state=BuildState.TOMBSTONED)
    if is_served_spared:
        builds = builds.exclude(state=BuildState.PROMOTED)
    numbers = sorted(builds.values_list("number", flat=True))
    Build.objects.filter(number__in=numbers).update(state=BuildState.TOMBSTONED, retired_at=at)
    return numbers


def replan_without(name: str, *, reason: str, at: datetime) -> Build | None:
    """Replace builds not served yet that name an expert which may not be served now.

    They could not be promoted, and whatever else waits for them would wait with them. Call it
    inside `policy_act`, once the expert's state says so. None where no such build was on its way.
    """
    pending = list(
        holding(name)
        .filter(state__in=(BuildState.PLANNED, BuildState.ASSEMBLED), number__gt=_served_number())
        .select_related("withdrawal")
    )
    if not pending:
        return None
    ids = [build.pk for build in pending]
    called_off = followups.cancel_about("build", ids, kinds=ABOUT_BUILDS, reason=reason, at=at)
    Build.objects.filter(pk__in=ids).update(state=BuildState.FAILED)
    answered = next((build.withdrawal for build in pending if build.withdrawal), None)
    build, follow_up = draft(reason=reason, at=at, withdrawal=answered)
    followups.wait_instead(called_off, after=follow_up)
    return build


def waits_for_approval(build: Build) -> bool:
    """Whether an assembled build is not promoted before somebody has approved it."""
    if build.state != BuildState.ASSEMBLED or build.withdrawal_id is not None:
        return False
    subject = subjects.promotion(build)
    return approvals.required(subject) and approvals.approved(subject) is None


def is_overtaken(build: Build) -> bool:
    """Whether a newer build is served already, so that this one never will be."""
    return build.number < _served_number()


def wanted() -> list[Build]:
    """What runners should hold: the promoted build and those assembled since, newest first."""
    is_next = Q(state=BuildState.ASSEMBLED, number__gt=_served_number())
    rows = Build.objects.select_related("anchor")
    return list(rows.filter(Q(state=BuildState.PROMOTED) | is_next))


def was_served(digest: str) -> bool:
    """Whether policy has ever named a build whose digest begins so."""
    return PolicySnapshot.objects.filter(build__digest__startswith=digest).exists()


def _served_number() -> int:
    served = Build.objects.filter(state=BuildState.PROMOTED)
    return served.values_list("number", flat=True).first() or 0


def answering(withdrawal: Withdrawal) -> Build | None:
    """The build that shows the withdrawn expert gone: the newest one served since, without it.

    It need not be the one this withdrawal planned; a later withdrawal may have overtaken that.
    """
    return (
        Build.objects.filter(
            promoted_at__gte=withdrawal.committed_at, planned_at__gte=withdrawal.committed_at
        )
        .exclude(experts__contains=[{"name": withdrawal.expert.name}])
        .first()
    )
