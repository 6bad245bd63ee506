"""What each stage of a withdrawal may claim, and the rows that must hold before it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db.models import Q

from governance.canonical import plain
from governance.errors import UnlawfulMove
from governance.models import (
    Build,
    ExpertFence,
    LegalHold,
    PolicySnapshot,
    UsageRecord,
    Withdrawal,
)
from governance.services import leases
from governance.services.leases import CLOCK_MARGIN
from governance.vocabulary import BuildState, CertificateStage, HoldState

_MOST_LISTED = 1_000

_NEVER_CLAIMED = (
    "that answers given before the withdrawal were recalled",
    "anything about the public expert, or about models others made from answers",
    "that no unlogged copy of a runner exists: only attested hardware could show that",
)


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence that holds, the evidence for it, and what it leaves open."""

    claim: str
    evidence: Mapping[str, Any]
    not_claimed: tuple[str, ...]


def of_stage(withdrawal: Withdrawal, stage: CertificateStage, *, at: datetime) -> Claim:
    """The claim of `stage`, if its facts hold, with every legal hold that made erasure wait.

    Raises:
        UnlawfulMove: they do not, or not yet.
    """
    claimed, holds = _of_stage(withdrawal, stage, at), _holds(withdrawal, at)
    return replace(claimed, evidence={**claimed.evidence, "holds": holds}) if holds else claimed


def _holds(withdrawal: Withdrawal, at: datetime) -> list[dict[str, Any]]:
    """Holds that were put in force on the expert, in their order."""
    found = LegalHold.objects.filter(expert_id=withdrawal.expert_id)
    found = found.filter(state__in=(HoldState.IN_FORCE, HoldState.LIFTED)).order_by("decided_at")
    return [
        plain(
            {
                "authority": hold.authority,
                "in_force_since": hold.decided_at,
                "until_at": hold.until_at,
                "lifted_at": hold.lifted_at,
                "is_sealed": hold.state == HoldState.IN_FORCE and hold.until_at > at,
            }
        )
        for hold in found
    ]


def _of_stage(withdrawal: Withdrawal, stage: CertificateStage, at: datetime) -> Claim:
    match stage:
        case CertificateStage.BLOCKED:
            return _blocked(withdrawal)
        case CertificateStage.UNLOADED:
            return _unloaded(withdrawal, at)
        case CertificateStage.REBUILT:
            return _rebuilt(withdrawal)
        case CertificateStage.BACKUPS:
            raise UnlawfulMove(
                "expected a record of destroyed backup keys, found none: this installation keeps "
                "no backups of its own and can certify nothing about others'. Ask whoever "
                "keeps them."
            )


def withdrawal_facts(withdrawal: Withdrawal) -> dict[str, Any]:
    """What was withdrawn, by which act and when: the same in every stage. No names of people."""
    ended_by = withdrawal.ending.ended_by_id
    found: dict[str, Any] = plain(
        {
            "id": withdrawal.pk,
            "expert": withdrawal.expert.name,
            "owner": withdrawal.expert.owner_id,
            "instrument": withdrawal.instrument,
            "by": "system" if ended_by is None else f"account:{ended_by}",
            "policy_epoch": withdrawal.policy_epoch,
            "committed_at": withdrawal.committed_at,
        }
    )
    return found


def _blocked(withdrawal: Withdrawal) -> Claim:
    quiesced_at = withdrawal.quiesced_at
    fence = ExpertFence.objects.filter(expert_id=withdrawal.expert_id, is_quiesced=True)
    if quiesced_at is None or not fence.exists():
        raise _not_yet(withdrawal, "settled on every runner", "it still being enforced")
    name = withdrawal.expert.name
    evidence = {
        "committed_at": withdrawal.committed_at,
        "effective_at": quiesced_at,
        "seconds_to_effective": (quiesced_at - withdrawal.committed_at).total_seconds(),
        "method": withdrawal.quiesced_by,
        "lease_s": withdrawal.lease_s,
        "clock_margin": CLOCK_MARGIN,
        "runners": withdrawal.settled,
        "policy": _epochs(withdrawal.policy_epoch),
        **_uses(withdrawal),
    }
    return Claim(
        f"since {quiesced_at.isoformat()} no runner releases a token made with expert {name}",
        plain(evidence),
        (
            "that bytes are destroyed: blocked is not erased",
            "that bytes already handed to a network connection were called back",
            "that an answer which went on without it (finish_reason recomputed) keeps no words "
            "from before",
            *_NEVER_CLAIMED,
        ),
    )


def _epochs(policy_epoch: int) -> dict[str, Any]:
    digests = dict(
        PolicySnapshot.objects.filter(
            policy_epoch__in=[policy_epoch - 1, policy_epoch]
        ).values_list("policy_epoch", "digest")
    )
    return {
        "before": {"policy_epoch": policy_epoch - 1, "digest": digests.get(policy_epoch - 1)},
        "after": {"policy_epoch": policy_epoch, "digest": digests.get(policy_epoch)},
    }


def _uses(withdrawal: Withdrawal) -> dict[str, Any]:
    """The last answer that used the expert, and those under way when it was withdrawn."""
    name = withdrawal.expert.name
    answers = UsageRecord.objects.filter(
        allowed__contains=[name], policy_epoch__lt=withdrawal.policy_epoch
    )
    last = answers.filter(routed__has_key=name).order_by("-opened_at").first()
    under_way = answers.filter(
        Q(closed_at=None) | Q(closed_at__gt=withdrawal.committed_at)
    ).order_by("opened_at")
    return {
        "last_use": last and {"order": last.order_id, "closed_at": last.closed_at},
        "under_way_count": under_way.count(),
        "under_way": [
            {
                "order": answer.order_id,
                "policy_epoch": answer.policy_epoch,
                "closed_at": answer.closed_at,
                "finish_reason": answer.finish_reason,
                "cause": answer.cause,
            }
            for answer in under_way[:_MOST_LISTED]
        ],
    }


def _unloaded(withdrawal: Withdrawal, at: datetime) -> Claim:
    name = withdrawal.expert.name
    said = withdrawal.erasure.get("runners")
    if withdrawal.erased_at is None or said is None:
        raise _not_yet(withdrawal, "unloaded by every runner", "no record of that")
    holding = [runner["runner"] for runner in said if name in runner.get("loaded", ())]
    holding += [
        lease.runner
        for lease in leases.live(at=at)
        if any(loaded.get("name") == name for loaded in lease.loaded)
    ]
    if holding:
        raise _not_yet(withdrawal, "unloaded by every runner", f"it held by {sorted(holding)}")
    return Claim(
        f"no live runner holds expert {name} in memory; each said so after it applied policy "
        f"epoch {withdrawal.policy_epoch}, or was gone",
        plain({"runners": said, "settled": withdrawal.settled, "stated_at": withdrawal.erased_at}),
        (
            "that memory was inspected from outside: runners report what they hold",
            "that swap or a crash dump of the machine never held a page of it",
            *_NEVER_CLAIMED,
        ),
    )


def _rebuilt(withdrawal: Withdrawal) -> Claim:
    name = withdrawal.expert.name
    if withdrawal.erased_at is None:
        raise _not_yet(withdrawal, "erased", "no record of that")
    build = Build.objects.select_related("anchor").filter(state=BuildState.PROMOTED).first()
    unfit = _why_unfit(withdrawal, build)
    if build is None or unfit:
        raise _not_yet(withdrawal, "answered by a promoted and proved build", unfit)
    former = [one for one in Build.objects.order_by("number") if _names(one, name)]
    living = [one.number for one in former if one.state != BuildState.TOMBSTONED]
    if living:
        raise _not_yet(withdrawal, "gone from every build", f"builds {living} not buried")
    evidence = {
        "build": {
            "number": build.number,
            "digest": build.digest,
            "anchor_digest": build.anchor.digest,
            "experts": build.experts,
            "is_router_tuned": build.is_router_tuned,
            "promoted_at": build.promoted_at,
            "files": build.export_files,
        },
        "proof": build.proof,
        "tombstoned": [{"number": one.number, "digest": one.digest} for one in former],
        "erased_at": withdrawal.erased_at,
        "erasure": withdrawal.erasure,
    }
    return Claim(
        f"the model served is build {build.number}, made without expert {name}, and the copies of "
        f"the expert's bytes that this installation held are destroyed",
        plain(evidence),
        (
            "that backups, exports copied elsewhere or the owner's own copy are destroyed",
            "that a disk's spare blocks were overwritten",
            *_NEVER_CLAIMED,
        ),
    )


def _why_unfit(withdrawal: Withdrawal, build: Build | None) -> str:
    """Why the promoted build does not answer this withdrawal; empty if it does.

    It need not be the one planned for it: where two owners withdraw at once, one build answers
    both.
    """
    if build is None:
        return "no promoted build"
    if _names(build, withdrawal.expert.name):
        return f"{build} with the expert in it"
    if build.promoted_at is None or build.promoted_at < withdrawal.committed_at:
        return f"{build} promoted before the withdrawal"
    if build.is_router_tuned:
        return f"{build} with a tuned router, whose rows were trained beside the expert"
    if not build.proof or any(result is False for result in build.proof.values()):
        return f"{build} not proved"
    return ""


def _names(build: Build, name: str) -> bool:
    return any(row["name"] == name for row in build.experts)


def _not_yet(withdrawal: Withdrawal, expected: str, found: str) -> UnlawfulMove:
    return UnlawfulMove(f"expected the {withdrawal} {expected}, found {found}. Wait for it.")
