"""ASSEMBLE, REBUILD and EXPORT: experts by digest in, a proved checkpoint folder out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone

from governance.models import Build, ExpertRevision
from governance.services import builds
from governance.vocabulary import BuildState, FollowUpKind
from modelops.artefacts.manifest import BuildManifest
from modelops.artefacts.store import Store
from modelops.contract import ExpertRef
from modelops.errors import ModelopsError
from modelops.merging.export import ExportReport, export
from worker.celery import ERRANDS, app
from worker.tasks import proofs
from worker.tasks.courier import Carrier, Evidence, Hopeless, carry
from worker.tasks.erasing import Places


@app.task(name=ERRANDS[FollowUpKind.ASSEMBLE].task)
def assemble(follow_up_id: str) -> bool:
    """Merge a planned build and prove that it is what it claims."""
    return carry(follow_up_id, _assemble)


@app.task(name=ERRANDS[FollowUpKind.REBUILD].task)
def rebuild(follow_up_id: str) -> bool:
    """The same after a withdrawal, with the proof that nothing of the expert is left in it."""
    return carry(follow_up_id, _assemble)


@app.task(name=ERRANDS[FollowUpKind.EXPORT].task)
def export_again(follow_up_id: str) -> bool:
    """Write a build's checkpoint folder again, for instance after its folder was moved away."""
    return carry(follow_up_id, _export_again)


def _assemble(carrier: Carrier) -> Evidence:
    build = Build.objects.select_related("anchor", "withdrawal__expert").get(
        pk=carrier.row.subject_id
    )
    if build.state != BuildState.PLANNED:
        return {"build": build.number, "state": build.state, "was_assembled_already": True}
    try:
        exported, proof = _merge_and_prove(build, carrier)
    except (ModelopsError, Hopeless) as error:
        # A rebuild is tried again for as long as it takes; a build that was only wished for fails.
        if carrier.row.kind == FollowUpKind.ASSEMBLE:
            builds.record_failed(build, error=str(error), at=timezone.now())
        raise
    carrier.check()
    builds.record_assembled(
        build,
        digest=exported.build_digest,
        export_path=str(exported.folder),
        export_files={file.name: file.digest for file in exported.files},
        proof=proof,
        at=timezone.now(),
    )
    return {"build": build.number, "digest": exported.build_digest, "proof": proof}


def _merge_and_prove(build: Build, carrier: Carrier) -> tuple[ExportReport, dict[str, Any]]:
    store = Store(settings.RECLAIM_STORE)
    exported = _export(store, build, carrier)
    carrier.check()
    carrier.report(0, 0, "proving")
    found: dict[str, Any] = {"sources": proofs.equals_sources(store, exported)}
    if build.withdrawal is not None:
        expert = build.withdrawal.expert
        digests = ExpertRevision.objects.filter(expert=expert).values_list("digest", flat=True)
        found["absence"] = proofs.absence(store, exported, expert.name, list(digests))
        carrier.check()
        served = _last_served(build, expert.name)
        found["masked_equals_rebuilt"] = (
            proofs.masked_equals_rebuilt(store, exported, served)
            if served is not None
            else {"compared": False, "why": "no build ever served the expert"}
        )
    wrong = proofs.failures(found)
    if wrong:
        raise Hopeless(f"build {build.number} is not what it claims: {'; '.join(wrong)}")
    return exported, {**proofs.verdicts(found), "details": found}


def _export(store: Store, build: Build, carrier: Carrier) -> ExportReport:
    refs = tuple(ExpertRef(entry["name"], entry["digest"]) for entry in build.experts)
    manifest = BuildManifest(build.anchor.digest, tuple(sorted(refs)), build.top_k)
    folder = Places(home=settings.RECLAIM_HOME, store=settings.RECLAIM_STORE).export(build)
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    def report(done: int, total: int, note: str = "") -> None:
        carrier.check()
        carrier.report(done, total, note or "merging")

    return export(store, store.put_build(manifest), folder, report)


def _last_served(build: Build, expert_name: str) -> ExpertRef | None:
    """The expert as the newest earlier build held it."""
    for earlier in Build.objects.filter(number__lt=build.number).order_by("-number"):
        for entry in earlier.experts:
            if entry["name"] == expert_name:
                return ExpertRef(entry["name"], entry["digest"])
    return None


def _export_again(carrier: Carrier) -> Evidence:
    build = Build.objects.select_related("anchor").get(pk=carrier.row.subject_id)
    if build.state in (BuildState.TOMBSTONED, BuildState.FAILED, BuildState.PLANNED):
        raise Hopeless(f"expected a build that may be exported, found it {build.state}")
    exported = _export(Store(settings.RECLAIM_STORE), build, carrier)
    found = {file.name: file.digest for file in exported.files}
    if found != build.export_files:
        raise Hopeless(f"expected the files of build {build.number} as recorded, found others")
    return {"path": str(Path(exported.folder)), "files": found}
