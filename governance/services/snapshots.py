"""Policy snapshots: what rows say now, compiled into the policy of one numbered epoch.

Publishing is part of the act that changes policy, in its transaction and under the policy lock, so
a policy epoch exists exactly when its cause is committed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Exists, OuterRef, Prefetch, Q

from governance.errors import NotFound
from governance.log import events
from governance.models import (
    Build,
    Ending,
    Expert,
    ExpertRevision,
    Finding,
    FollowUp,
    Licence,
    PolicySnapshot,
)
from governance.policy.compiler import compile_snapshot
from governance.policy.types import (
    BuildRef,
    ExpertRef,
    Gap,
    Grant,
    Snapshot,
    Standing,
    read_grant,
    read_standing,
)
from governance.services import approvals, followups, leases, locks
from governance.services.approvals import subjects
from governance.vocabulary import (
    BuildState,
    EventTag,
    ExpertState,
    FollowUpKind,
    FollowUpState,
    RevisionState,
    Verdict,
)

RUNS_OUT = timedelta(minutes=15)
"""How long after a build was replaced policy still speaks of it, for the answers begun on it."""

MOST_FORMER = 3
_APPROVED = (RevisionState.ACTIVATED, RevisionState.SUPERSEDED)
_ENDED = (ExpertState.WITHDRAWN, ExpertState.ERASED)


def publish(
    *, reason: str, build: Build | None = None, past: int = 0, at: datetime
) -> PolicySnapshot:
    """Compile and publish the next policy epoch.

    Args:
        reason: the act, for people.
        build: the build it speaks about; default the promoted one, and without one a snapshot
            that names no expert, so that the epoch still rises.
        past: a policy epoch that runners have seen and this database has lost.
    """
    with locks.policy_act():
        build = build or (
            Build.objects.select_related("anchor").filter(state=BuildState.PROMOTED).first()
        )
        newest = PolicySnapshot.objects.order_by("-policy_epoch").first()
        policy_epoch = max(newest.policy_epoch if newest else 0, past) + 1
        compiled = (
            _compiled(policy_epoch, build, at, _former(policy_epoch, build, at))
            if build
            else compile_snapshot(policy_epoch, None, [], [])
        )
        published = PolicySnapshot.objects.create(
            policy_epoch=compiled.policy_epoch,
            digest=compiled.digest,
            body=compiled.to_body(),
            build=build,
            reason=reason[:200],
            history=leases.history(),
            published_at=at,
        )
        _tell_of_gaps(compiled.gaps, compiled.policy_epoch, at)
        locks.wake(locks.Channel.POLICY, str(compiled.policy_epoch))
    return published


def _compiled(
    policy_epoch: int, build: Build, at: datetime, former: Iterable[Snapshot] = ()
) -> Snapshot:
    return compile_snapshot(
        policy_epoch, build_ref(build), standings(build), grants(build, at), former
    )


def _former(policy_epoch: int, served: Build, at: datetime) -> Iterator[Snapshot]:
    """Policy over the builds served until shortly before, where answers begun on them need it.

    They do where such a build has an expert that was not withdrawn and that `served` lacks, or has
    in another revision.
    """
    replaced_at, since = served.promoted_at, at - RUNS_OUT
    if replaced_at is None or replaced_at <= since:
        return  # as it mostly is; then this costs no query
    kept = {(row["name"], row["digest"]) for row in served.experts}
    earlier = Build.objects.filter(promoted_at__isnull=False, number__lt=served.number)
    for build in earlier.select_related("anchor").order_by("-number")[:MOST_FORMER]:
        if replaced_at is None or replaced_at <= since:
            return
        left = [row["name"] for row in build.experts if (row["name"], row["digest"]) not in kept]
        if left and Expert.objects.filter(name__in=left).exclude(state__in=_ENDED).exists():
            yield _compiled(policy_epoch, build, at)
        replaced_at = build.promoted_at


def current() -> Snapshot | None:
    """The newest policy; None until a build has been promoted."""
    newest = PolicySnapshot.objects.order_by("-policy_epoch").first()
    if newest is None or newest.build_id is None:
        return None
    return Snapshot.from_body(newest.body)


def read(policy_epoch: int) -> Snapshot:
    """The policy of one epoch, exactly as it was published.

    Raises:
        NotFound: no such epoch.
    """
    found = PolicySnapshot.objects.filter(pk=policy_epoch).first()
    if found is None:
        raise NotFound(f"expected a published policy epoch, found none numbered {policy_epoch}.")
    return Snapshot.from_body(found.body)


def build_ref(build: Build) -> BuildRef:
    """The build as policy speaks about it."""
    return BuildRef(
        digest=build.digest,
        anchor_digest=build.anchor.digest,
        top_k=build.top_k,
        experts=tuple(ExpertRef(row["name"], row["digest"]) for row in build.experts),
    )


def standings(build: Build) -> list[Standing | Gap]:
    """How each expert of `build` stands, whatever its licences say.

    A revision once approved may be served while the build with its successor is being made; one
    that never was approved, or was erased, may not.
    """
    in_build = {row["name"]: row["digest"] for row in build.experts}
    revisions = ExpertRevision.objects.filter(
        Q(state=RevisionState.ACTIVATED) | Q(state__in=_APPROVED, digest__in=in_build.values())
    ).prefetch_related(Prefetch("findings", Finding.objects.order_by("-found_at")))
    experts = Expert.objects.filter(name__in=in_build).prefetch_related(
        Prefetch("revisions", revisions), _endings()
    )
    return [_standing(expert, in_build[expert.name]) for expert in experts]


def _standing(expert: Expert, digest: str) -> Standing | Gap:
    approved = {revision.digest: revision for revision in expert.revisions.all()}
    newest = next((one for one in approved.values() if one.state == RevisionState.ACTIVATED), None)
    revision = approved.get(digest) or newest
    finding = next(iter(revision.findings.all()), None) if revision else None
    fields: dict[str, Any] = {
        "digest": revision.digest if revision else None,
        "state": expert.state,
        "verdict": _verdict(revision, finding),
        "extraction_rate": finding.rate_high if finding else None,
        "stops": _stops(expert.endings.all()),
    }
    return read_standing(expert.name, fields)


def _verdict(revision: ExpertRevision | None, finding: Finding | None) -> str | None:
    """The newest verdict, or PASS where a waiver for exactly these findings stands.

    A waiver speaks about our verdict alone: the rate each licence bounds is compared as found.
    """
    if revision is None or finding is None:
        return None
    if finding.verdict != Verdict.PASS and approvals.approved(subjects.waiver(revision)):
        return Verdict.PASS
    return finding.verdict


def grants(build: Build, at: datetime) -> Iterator[Grant | Gap]:
    """What every agreed licence grants on the experts of `build`, ended ones included.

    A version is left out once its approved successor has begun; until then both are in, each with
    its own window, so the change-over needs no republishing.
    """
    names: dict[Any, list[str]] = {}
    in_build = [row["name"] for row in build.experts]
    for name, corpus_id in Expert.objects.filter(name__in=in_build).values_list(
        "name", "corpus_id"
    ):
        names.setdefault(corpus_id, []).append(name)
    begun = Licence.objects.agreed().filter(supersedes=OuterRef("pk"), starts_at__lte=at)
    licences = (
        Licence.objects.agreed()
        .filter(corpus__in=names)
        .exclude(Exists(begun))
        .prefetch_related(_endings())
    )
    for licence in licences:
        columns = {name: getattr(licence, name) for name in (*_GRANT_FIELDS, "expert_digest")}
        for name in names[licence.corpus_id]:
            yield grant(name, licence.reference, columns, licence.endings.all())


def grant(
    expert: str, reference: str, columns: Mapping[str, Any], endings: Iterable[Ending]
) -> Grant | Gap:
    """What terms as columns of a licence grant on `expert`, as far as no act has ended them."""
    fields = {name: columns[name] for name in _GRANT_FIELDS}
    fields |= {"revision": columns["expert_digest"], "stops": _stops(endings)}
    return read_grant(expert, reference, fields)


_GRANT_FIELDS = (
    "uses",
    "prohibited_uses",
    "purposes",
    "prohibited_purposes",
    "starts_at",
    "ends_at",
    "consumers",
    "excluded_consumers",
    "recipient_classes",
    "sectors",
    "excluded_sectors",
    "territories",
    "excluded_territories",
    "max_extraction_rate",
    "on_withdrawal",
)


def _endings() -> Prefetch[str, Any, str]:
    standing = Ending.objects.filter(lifts=None).select_related("lifted_by")
    return Prefetch("endings", standing)


def _stops(endings: Iterable[Ending]) -> list[dict[str, Any]]:
    """The acts as stops: one each, two where some consumers may wind down first."""
    stops: list[dict[str, Any]] = []
    for ending in endings:
        lifting = getattr(ending, "lifted_by", None)
        ends_at = lifting.effective_at if lifting else None
        scope = {"purposes": ending.purposes, "consumers": ending.consumers}
        act = {"instrument": ending.instrument, **scope}
        spared, spared_until = ending.wind_down_consumers, ending.wind_down_until
        steps: list[tuple[datetime, datetime | None, list[str]]]
        if spared_until is None:
            steps = [(ending.effective_at, ends_at, [])]
        else:
            steps = [
                (ending.effective_at, min(spared_until, ends_at or spared_until), spared),
                (spared_until, ends_at, []),
            ]
        stops += [
            {**act, "starts_at": begin, "ends_at": end, "spares": spares}
            for begin, end, spares in steps
            if end is None or end > begin
        ]
    return stops


def _tell_of_gaps(gaps: Iterable[Gap], policy_epoch: int, at: datetime) -> None:
    """Tell legal staff of what could not be read, once for each gap that nobody works on yet."""
    for gap in gaps:
        expert_id = Expert.objects.values_list("pk", flat=True).filter(name=gap.expert).first()
        if expert_id is None:
            continue
        order = {"expert": gap.expert, "licence": gap.licence, "problem": gap.problem}
        is_known = FollowUp.objects.filter(
            kind=FollowUpKind.RESOLVE_GAP,
            subject_id=expert_id,
            order=order,
            state__in=(FollowUpState.DUE, FollowUpState.CLAIMED),
        ).exists()
        if is_known:
            continue
        followups.open(
            FollowUpKind.RESOLVE_GAP,
            subject_kind="expert",
            subject_id=expert_id,
            cause=f"policy epoch {policy_epoch} could not read {gap.licence or gap.expert}",
            order=order,
            at=at,
        )
        events.stage(
            EventTag.POLICY_GAP_FOUND,
            subject=f"expert:{gap.expert}",
            by=None,
            at=at,
            details={"policy_epoch": policy_epoch, **order},
        )
