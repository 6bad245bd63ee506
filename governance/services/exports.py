"""Exports: a build's files handed out to somebody outside, once every licence lets them go."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from governance.errors import InvalidTerms, NotPermitted, UnlawfulMove
from governance.log import events
from governance.models import Account, Build, Expert, HandOut, Licence
from governance.services import approvals
from governance.services.approvals import subjects
from governance.services.locks import policy_act
from governance.vocabulary import EventTag, ExpertState, Use

RECIPIENT_CHARACTERS = 200


def hand_out(build: Build, *, recipient: str, by: Account, at: datetime) -> HandOut:
    """Note that the files of a build go to `recipient`; whoever calls sends them.

    What was handed out is beyond us: a later withdrawal does not reach it. Whether the recipient is
    one a licence names is for people to read; only the use itself is checked here.

    Raises:
        InvalidTerms: no recipient.
        UnlawfulMove: the build is planned, failed or tombstoned, or its files are not there.
        NotPermitted: an expert in it may not be redistributed now, or exactly this needs an
            approval and has none.
    """
    recipient = check_recipient(recipient)
    with policy_act():
        found = Build.objects.select_related("anchor").get(pk=build.pk)
        _check_files(found)
        held = sorted({row["name"] for row in found.experts} - _redistributable(found, at))
        if held:
            raise NotPermitted(
                f"expected a licence in force that permits redistribution for every expert in "
                f"{found}, found none for {', '.join(held)}. Plan a build without them."
            )
        spent = approvals.spend(subjects.export(found, recipient), at=at)
        row = HandOut.objects.create(build=found, recipient=recipient, by=by, at=at)
        events.stage(
            EventTag.BUILD_HANDED_OUT,
            subject=f"build:{found.number}",
            by=by,
            at=at,
            details={
                "recipient": recipient,
                "digest": found.digest,
                "files": found.export_files,
                "experts": found.experts,
                "request": str(spent.pk) if spent else None,
            },
        )
    return row


def check_recipient(said: str) -> str:
    """Who is to have the files, as it is kept.

    Raises:
        InvalidTerms: nobody, or at too great length.
    """
    recipient = " ".join(said.split())
    if not 0 < len(recipient) <= RECIPIENT_CHARACTERS:
        raise InvalidTerms(
            "expected the name of who receives the files, found none or a very long one.",
            fields={"recipient": "Say who receives the files."},
        )
    return recipient


def _check_files(build: Build) -> None:
    if build.state in subjects.NOT_EXPORTED or not build.export_files:
        raise UnlawfulMove(
            f"expected a build with files to hand out, found {build} {build.state}. Hand out one "
            "that is assembled or newer."
        )
    missing = [
        name for name in build.export_files if not (Path(build.export_path) / name).is_file()
    ]
    if missing:
        raise UnlawfulMove(
            f"expected the files of {build} in its folder, found none of the name "
            f"{', '.join(sorted(missing))}. Let a worker export it again."
        )


def _redistributable(build: Build, at: datetime) -> set[str]:
    """Experts of the build that are active and whose owner lets the very revision in it go."""
    digests = {row["name"]: row["digest"] for row in build.experts}
    licences = (
        Licence.objects.in_force(at)
        .filter(corpus__experts__name__in=digests, uses__contains=[Use.REDISTRIBUTE])
        .exclude(prohibited_uses__contains=[Use.REDISTRIBUTE])
    )
    letting: dict[object, set[str]] = {}
    for corpus_id, digest in licences.values_list("corpus_id", "expert_digest"):
        letting.setdefault(corpus_id, set()).add(digest)
    active = Expert.objects.filter(name__in=digests, state=ExpertState.ACTIVE)
    return {
        expert.name
        for expert in active
        if letting.get(expert.corpus_id, set()) & {"", digests[expert.name]}
    }
