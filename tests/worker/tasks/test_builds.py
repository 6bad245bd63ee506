"""Builds: merged, proved, and never promoted before every live runner holds them."""

from __future__ import annotations

import shutil

import pytest
import torch
from django.utils import timezone

from governance.models import Build, FollowUp, RunnerLease
from governance.services import approvals, signoffs
from governance.services import builds as build_acts
from governance.services.approvals import subjects
from governance.vocabulary import ApprovalKind, BuildState, FollowUpKind, FollowUpState, Role
from modelops.artefacts import tensors
from modelops.artefacts.manifest import BuildManifest
from modelops.contract import ExpertRef
from modelops.merging.export import export
from tests import factories
from worker.tasks import builds, loading, proofs


def take(kind: FollowUpKind, task) -> FollowUp:
    """Carry the newest follow-up of this kind, and see what became of it."""
    row = FollowUp.objects.filter(kind=kind).latest("opened_at")
    task.run(str(row.pk))
    row.refresh_from_db()
    return row


def planned(reason="tests"):
    return build_acts.plan_current(reason=reason, by=None, at=timezone.now())


def exported(tiny, folder, names=None):
    names = tiny.experts if names is None else names
    refs = tuple(ExpertRef(name, tiny.experts[name]) for name in sorted(names))
    digest = tiny.store.put_build(BuildManifest(tiny.anchor_digest, refs, 3))
    return export(tiny.store, digest, folder)


def test_a_planned_build_is_merged_proved_and_recorded(story, home):
    build = planned()
    row = take(FollowUpKind.ASSEMBLE, builds.assemble)
    build.refresh_from_db()
    assert (row.state, build.state) == (FollowUpState.DONE, BuildState.ASSEMBLED)
    assert build.proof["equals_sources"] is True
    assert build.proof["details"]["sources"]["equal"] > 10
    assert (home / "builds").is_dir()
    assert "config.json" in build.export_files
    assert FollowUp.objects.filter(kind=FollowUpKind.LOAD, subject_id=build.pk).exists()


def test_assembling_twice_changes_nothing(story):
    planned()
    first = take(FollowUpKind.ASSEMBLE, builds.assemble)
    FollowUp.objects.filter(pk=first.pk).update(state=FollowUpState.DUE, ended_at=None)
    again = take(FollowUpKind.ASSEMBLE, builds.assemble)
    assert again.evidence["was_assembled_already"]


def test_a_build_whose_weights_are_missing_fails_and_says_so(story, tiny):
    for digest in tiny.experts.values():
        tiny.store.erase(tiny.store.expert(digest).weights_digest)
    build = planned()
    row = take(FollowUpKind.ASSEMBLE, builds.assemble)
    build.refresh_from_db()
    assert (row.state, build.state) == (FollowUpState.FAILED, BuildState.FAILED)
    assert "MissingArtefact" in row.last_error


def test_after_a_withdrawal_the_rebuild_is_proved_without_the_expert(story):
    withdrawal = story.withdraw("alder-news")
    row = take(FollowUpKind.REBUILD, builds.rebuild)
    build = withdrawal.builds.get()
    assert row.state == FollowUpState.DONE, row.last_error
    assert [entry["name"] for entry in build.experts] == ["alder-notes", "birch-archive"]
    assert build.proof["withdrawn_expert_absent"] is True
    assert build.proof["masked_equals_rebuilt"] is True
    masked = build.proof["details"]["masked_equals_rebuilt"]
    assert masked["greedy_tokens_equal"] == masked["greedy_tokens"] > 0
    assert masked["max_abs_logprob_difference"] <= 1e-5
    assert build.proof["details"]["absence"]["tensors_looked_for"] > 0


def test_a_rebuild_after_the_bytes_are_gone_says_that_it_could_not_compare(story, tiny):
    story.withdraw("alder-news")
    digest = tiny.experts["alder-news"]
    tiny.store.erase(tiny.store.expert(digest).weights_digest)
    tiny.store.erase(digest)
    row = take(FollowUpKind.REBUILD, builds.rebuild)
    assert row.state == FollowUpState.DONE, row.last_error
    assert "erased already" in row.evidence["proof"]["masked_equals_rebuilt"]


def test_a_rebuild_that_cannot_be_made_is_never_given_up(story, tiny):
    story.withdraw("alder-news")
    tiny.store.erase(tiny.store.expert(tiny.experts["birch-archive"]).weights_digest)
    row = take(FollowUpKind.REBUILD, builds.rebuild)
    assert row.state == FollowUpState.DUE
    assert "MissingArtefact" in row.last_error


# ── What the proofs find ─────────────────────────────────────────────────────────────────────────


def change(folder, damage):
    """Rewrite the first shard that `damage` accepts."""
    for shard in sorted(folder.glob("*.safetensors")):
        found = tensors.load(shard)
        found = {name: tensor.clone() for name, tensor in found.items()}
        if damage(found):
            tensors.save(shard, found)
            return
    raise AssertionError("nothing to damage")


def test_one_changed_number_in_the_folder_is_found(tiny, tmp_path):
    report = exported(tiny, tmp_path / "build")
    assert proofs.equals_sources(tiny.store, report)["different"] == []

    def damage(found):
        name = next((n for n in found if "experts.2.up_proj" in n), None)
        if name:
            found[name][0, 0] += 1e-3
        return bool(name)

    change(report.folder, damage)
    [different] = proofs.equals_sources(tiny.store, report)["different"]
    assert "experts.2.up_proj" in different


def test_swapped_router_rows_are_found(tiny, tmp_path):
    report = exported(tiny, tmp_path / "build")

    def damage(found):
        name = next((n for n in found if n.endswith("mlp.gate.weight")), None)
        if name:
            found[name] = found[name][torch.tensor([0, 2, 1, 3])]
        return bool(name)

    change(report.folder, damage)
    assert len(proofs.equals_sources(tiny.store, report)["different"]) == 2


@pytest.mark.parametrize("residue", ["up_proj", "router row"])
def test_a_tensor_of_the_withdrawn_expert_left_in_the_folder_is_found(tiny, tmp_path, residue):
    gone, kept = "alder-news", ["alder-notes", "birch-archive"]
    report = exported(tiny, tmp_path / "build", kept)
    digests = [tiny.experts[gone]]
    assert proofs.absence(tiny.store, report, gone, digests)["found"] == []
    theirs = tensors.load(tiny.bundles[gone] / "weights.safetensors")

    def damage(found):
        wanted = "gate.weight" if residue == "router row" else "experts.1.up_proj"
        name = next((n for n in found if f"layers.0.mlp.{wanted}" in n), None)
        if name is None:
            return False
        if residue == "router row":
            found[name][1] = theirs["model.layers.0.mlp.router_row"]
        else:
            found[name] = theirs["model.layers.0.mlp.expert.up_proj.weight"].clone()
        return True

    change(report.folder, damage)
    proof = {
        "sources": proofs.equals_sources(tiny.store, report),
        "absence": proofs.absence(tiny.store, report, gone, digests),
    }
    assert proof["absence"]["found"]
    assert any("still in it" in wrong for wrong in proofs.failures(proof))


def test_a_rebuilt_folder_that_answers_otherwise_is_found(tiny, tmp_path):
    report = exported(tiny, tmp_path / "build", ["alder-notes", "birch-archive"])
    gone = ExpertRef("alder-news", tiny.experts["alder-news"])
    sources = {"sources": {"different": []}}
    honest = proofs.masked_equals_rebuilt(tiny.store, report, gone)
    assert proofs.failures({**sources, "masked_equals_rebuilt": honest}) == []

    def damage(found):
        name = next((n for n in found if "experts.1.down_proj" in n), None)
        if name:
            found[name] *= 1.01
        return bool(name)

    change(report.folder, damage)
    found = proofs.masked_equals_rebuilt(tiny.store, report, gone)
    assert proofs.failures({**sources, "masked_equals_rebuilt": found})


# ── Promotion ────────────────────────────────────────────────────────────────────────────────────


def lease(**stats):
    now = timezone.now()
    return factories.lease(granted_at=now, renewed_at=now, started_at=now, stats=stats)


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(loading, "STAY_S", 0.05)
    monkeypatch.setattr(loading, "LOOK_S", 0.01)


def test_a_build_is_promoted_once_every_live_runner_holds_it(story, short):
    build = planned()
    take(FollowUpKind.ASSEMBLE, builds.assemble)
    first, second = lease(builds=[str(build.pk)]), lease(builds=[])
    row = take(FollowUpKind.LOAD, loading.load)
    assert (row.state, row.attempts) == (FollowUpState.DUE, 0)
    RunnerLease.objects.filter(pk=second.pk).update(stats={"builds": [str(build.pk)]})
    FollowUp.objects.filter(pk=row.pk).update(due_at=timezone.now())
    row = take(FollowUpKind.LOAD, loading.load)
    build.refresh_from_db()
    assert build.state == BuildState.PROMOTED
    assert len(row.evidence["runners"]) == 2
    assert str(first.incarnation) in " ".join(row.evidence["runners"])


def test_a_build_that_every_runner_holds_waits_for_its_approval(story, short):
    celia, cato = (factories.account(name, role=Role.LEGAL) for name in ("Celia", "Cato"))
    step = approvals.Step("Legal", role=Role.LEGAL)
    kind, told = ApprovalKind.PROMOTION, {"by": cato, "at": timezone.now()}
    route = approvals.propose(kind.value, kind=kind, title="t", steps=[step], **told)
    signoffs.approve(route, by=celia, at=timezone.now())
    build = planned()
    take(FollowUpKind.ASSEMBLE, builds.assemble)
    lease(builds=[str(build.pk)])
    row = take(FollowUpKind.LOAD, loading.load)
    build.refresh_from_db()
    assert (row.state, row.last_error) == (FollowUpState.DUE, "")
    assert build.state == BuildState.ASSEMBLED
    asked = approvals.ask(subjects.promotion(build), **told)
    signoffs.approve(asked, by=celia, at=timezone.now())
    FollowUp.objects.filter(pk=row.pk).update(due_at=timezone.now())
    take(FollowUpKind.LOAD, loading.load)
    build.refresh_from_db()
    assert build.state == BuildState.PROMOTED


def test_without_any_live_runner_nothing_is_promoted(story, short):
    build = planned()
    take(FollowUpKind.ASSEMBLE, builds.assemble)
    take(FollowUpKind.LOAD, loading.load)
    build.refresh_from_db()
    assert build.state == BuildState.ASSEMBLED


def test_a_build_overtaken_by_a_withdrawal_is_not_promoted(story, short):
    build = planned()
    take(FollowUpKind.ASSEMBLE, builds.assemble)
    load = FollowUp.objects.get(kind=FollowUpKind.LOAD)
    lease(builds=[str(build.pk)])
    story.withdraw("alder-news")
    FollowUp.objects.filter(pk=load.pk).update(state=FollowUpState.DUE, ended_at=None)
    loading.load.run(str(load.pk))
    assert Build.objects.get(pk=build.pk).state == BuildState.TOMBSTONED
    load.refresh_from_db()
    assert load.evidence["promoted"] is False


def test_an_export_is_written_again_where_it_was_and_equals_the_record(story):
    build = planned()
    take(FollowUpKind.ASSEMBLE, builds.assemble)
    build.refresh_from_db()
    shutil.rmtree(build.export_path)
    factories.follow_up(
        FollowUpKind.EXPORT,
        subject_kind="build",
        subject_id=build.pk,
        opened_at=timezone.now(),
        due_at=timezone.now(),
    )
    row = take(FollowUpKind.EXPORT, builds.export_again)
    assert row.state == FollowUpState.DONE, row.last_error
    assert row.evidence["files"] == build.export_files
