"""Destroying what we hold of a withdrawn expert: blobs, exports, working folders. No torch.

Evidence names every digest and path with its size and that it is gone. It says nothing about
copies outside our folders, nor about a disk's own spare blocks.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from governance.models import Build, Expert, ExpertRevision, FollowUp, Withdrawal
from governance.services import leases
from modelops.artefacts.store import Store
from modelops.errors import ArtefactError
from worker.tasks.courier import Later

UNLOAD_LOOK_S = 0.5
LONGEST_EVIDENCE_BYTES = 40_000

Report = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Places:
    """Where our copies can be: the state folder and the artefact store."""

    home: Path
    store: Path

    def work(self, follow_up_id: UUID) -> Path:
        """The working folder of a follow-up."""
        return self.home / "work" / str(follow_up_id)

    def export(self, build: Build) -> Path:
        """Where a build is exported to."""
        return self.home / "builds" / f"build-{build.number:04d}"


def require_unloaded(withdrawal: Withdrawal, *, at: datetime) -> list[dict[str, Any]]:
    """What each live runner said after it had applied the withdrawal, none holding the expert.

    Raises:
        Later: a live runner has not said so yet.
    """
    name = withdrawal.expert.name
    said = []
    for lease in leases.live(at=at):
        told_epoch = int(lease.stats.get("policy_epoch", 0))
        holds = [entry for entry in lease.loaded if entry.get("name") == name]
        if told_epoch < withdrawal.policy_epoch or holds:
            raise Later(f"runner {lease.runner} has not unloaded {name} yet", UNLOAD_LOOK_S)
        said.append(
            {
                "runner": lease.runner,
                "incarnation": str(lease.incarnation),
                "policy_epoch": told_epoch,
                "loaded": [entry.get("name") for entry in lease.loaded],
                "withdrawals": [
                    ack for ack in lease.stats.get("withdrawals", []) if ack.get("expert") == name
                ],
            }
        )
    return said


def erase(expert: Expert, places: Places, report: Report) -> dict[str, Any]:
    """Destroy every copy in our places. Repeatable: what is gone already is listed as gone."""
    revisions = list(ExpertRevision.objects.filter(expert=expert))
    report(0, 3, "erasing exports")
    folders = [*_export_folders(expert, places), *_work_folders(expert, revisions, places)]
    files = [entry for folder in folders for entry in _remove(folder, places.home)]
    report(1, 3, "erasing weights")
    store = Store(places.store)
    blobs = [entry for revision in revisions for entry in _erase_revision(store, expert, revision)]
    report(3, 3, "erased")
    return _bounded(
        store,
        {
            "expert": expert.name,
            "blobs": blobs,
            "files": files,
            "folders": [
                {"path": _shown(folder, places.home), "gone": not folder.exists()}
                for folder in folders
            ],
            "not_claimed": [
                "answers already given",
                "corpus files, which their owner and the operator keep",
                "copies outside this installation's folders, among them its backups",
            ],
        },
    )


def _bounded(store: Store, evidence: dict[str, Any]) -> dict[str, Any]:
    """`evidence`, its long lists kept in the store by digest where a log entry could not hold them.

    The lists name digests and paths, never what the bytes said.
    """
    whole = json.dumps(evidence, sort_keys=True).encode()
    if len(whole) <= LONGEST_EVIDENCE_BYTES:
        return evidence
    digest = store.put_bytes(whole)
    counts = {name: len(evidence[name]) for name in ("blobs", "files", "folders")}
    blobs = [{**blob, "tensors": len(blob.get("tensors", []))} for blob in evidence["blobs"]]
    short = {"expert": evidence["expert"], "not_claimed": evidence["not_claimed"]}
    return {**short, "blobs": blobs, "counts": counts, "whole_list_digest": digest}


def _erase_revision(
    store: Store, expert: Expert, revision: ExpertRevision
) -> Iterator[dict[str, Any]]:
    tensors = _tensor_digests(store, revision.digest)
    for what, digest in (("weights", revision.weights_digest), ("manifest", revision.digest)):
        if not digest:
            continue
        if _is_anothers(expert, digest):
            yield {"what": what, "digest": digest, "gone": False, "why": "another expert's too"}
            continue
        erasure = asdict(store.erase(digest))
        entry = {"what": what, "revision": revision.number, "gone": not store.has(digest)}
        # The digests stay, so that anyone can look for the tensors again; the tensors do not.
        yield entry | erasure | ({"tensors": tensors} if what == "weights" else {})


def _tensor_digests(store: Store, expert_digest: str) -> list[str]:
    try:
        return sorted(entry.digest for entry in store.expert(expert_digest).tensors)
    except ArtefactError:
        return []  # gone already; the first erasure's evidence lists them


def _is_anothers(expert: Expert, digest: str) -> bool:
    others = ExpertRevision.objects.exclude(expert=expert)
    return others.filter(digest=digest).exists() or others.filter(weights_digest=digest).exists()


def _export_folders(expert: Expert, places: Places) -> list[Path]:
    holding = [
        build
        for build in Build.objects.all()
        if any(entry["name"] == expert.name for entry in build.experts)
    ]
    found = {places.export(build) for build in holding}
    found |= {Path(build.export_path) for build in holding if build.export_path}
    return sorted(each for folder in found for each in (folder, _beside(folder, ".partial")))


def _work_folders(expert: Expert, revisions: list[ExpertRevision], places: Places) -> list[Path]:
    subjects = [expert.pk, *(revision.pk for revision in revisions)]
    ids = FollowUp.objects.filter(subject_id__in=subjects).values_list("pk", flat=True)
    folders = [places.work(one) for one in ids]
    return sorted(each for folder in folders for each in (folder, _beside(folder, ".training")))


def _beside(folder: Path, suffix: str) -> Path:
    return folder.with_name(folder.name + suffix)


def _remove(folder: Path, home: Path) -> list[dict[str, Any]]:
    """Delete a folder of ours; what was in it, by path, size in bytes and digest."""
    if not folder.exists() or not folder.resolve().is_relative_to(home.resolve()):
        return []
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    found = [(path, path.stat().st_size, _digest(path)) for path in files]
    shutil.rmtree(folder)
    return [
        {
            "path": _shown(path, home),
            "size_bytes": size_bytes,
            "digest": digest,
            "gone": not path.exists(),
        }
        for path, size_bytes, digest in found
    ]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _shown(path: Path, home: Path) -> str:
    return str(path.relative_to(home)) if path.is_relative_to(home) else path.name
