"""Erasure: every copy we hold, each named with its digest, and nothing of anybody else's."""

from __future__ import annotations

import json

import pytest
from django.utils import timezone

from governance.models import ExpertRevision, FollowUp
from governance.services import withdrawals
from governance.vocabulary import ExpertState, FollowUpKind, FollowUpState
from tests import factories
from tests.worker.tasks.conftest import due
from worker.tasks import builds, enforcement, erasing


def take(row, task):
    FollowUp.objects.filter(pk=row.pk).update(due_at=timezone.now())
    task.run(str(row.pk))
    row.refresh_from_db()
    return row


def row_of(kind, **order):
    return FollowUp.objects.get(kind=kind, **order)


@pytest.fixture
def withdrawn(story):
    """`alder-news` withdrawn, quiesced, and the build without it assembled."""
    withdrawal = story.withdraw("alder-news")
    withdrawals.try_settle(withdrawal, waited_s=0, at=timezone.now())
    take(row_of(FollowUpKind.QUIESCE), enforcement.quiesce)
    row = take(row_of(FollowUpKind.REBUILD), builds.rebuild)
    assert row.state == FollowUpState.DONE, row.last_error
    withdrawal.refresh_from_db()
    return withdrawal


def test_weights_manifest_exports_and_working_folders_go_and_the_evidence_names_each(
    withdrawn, story, tiny, home
):
    digest = tiny.experts["alder-news"]
    weights = tiny.store.expert(digest).weights_digest
    training = due(FollowUpKind.TRAIN, "expert", story.experts["alder-news"])
    for folder in (f"work/{training.pk}", f"work/{training.pk}.training"):
        (home / folder).mkdir(parents=True)
        (home / folder / "state.safetensors").write_bytes(b"optimiser state")
    export = erasing.Places(home, home / "store").export(story.build)
    export.mkdir(parents=True)
    (export / "model.safetensors").write_bytes(b"with the expert")

    row = take(row_of(FollowUpKind.ERASE), enforcement.erase)
    assert row.state == FollowUpState.DONE, row.last_error
    assert not tiny.store.has(digest)
    assert not tiny.store.has(weights)
    assert not export.exists()
    assert not list((home / "work").glob(f"{training.pk}*"))
    evidence = row.evidence
    assert {blob["digest"] for blob in evidence["blobs"]} == {digest, weights}
    assert all(blob["gone"] and blob["links_left"] == 0 for blob in evidence["blobs"])
    assert all(file["gone"] and file["size_bytes"] and file["digest"] for file in evidence["files"])
    assert len(evidence["files"]) == 3
    assert evidence["not_claimed"]
    withdrawn.expert.refresh_from_db()
    assert withdrawn.expert.state == ExpertState.ERASED


def test_nothing_of_the_others_is_touched(withdrawn, tiny, home):
    rebuilt = withdrawn.builds.get()
    take(row_of(FollowUpKind.ERASE), enforcement.erase)
    for name in ("alder-notes", "birch-archive"):
        assert tiny.store.has(tiny.experts[name])
        assert tiny.store.has(tiny.store.expert(tiny.experts[name]).weights_digest)
    assert tiny.store.anchor(tiny.anchor_digest)
    assert (home / "builds" / f"build-{rebuilt.number:04d}" / "config.json").exists()


def test_erasing_again_finds_nothing_left_and_still_says_so(withdrawn, tiny, home):
    take(row_of(FollowUpKind.ERASE), enforcement.erase)
    places = erasing.Places(home, home / "store")
    evidence = erasing.erase(withdrawn.expert, places, lambda *_: None)
    assert all(blob["gone"] and not blob["was_present"] for blob in evidence["blobs"])


def test_bytes_that_another_expert_is_made_of_too_stay_and_that_is_said(withdrawn, story, tiny):
    digest = tiny.experts["alder-news"]
    weights = tiny.store.expert(digest).weights_digest
    factories.revision(
        expert=story.experts["birch-archive"], weights_digest=weights, state="verified"
    )
    row = take(row_of(FollowUpKind.ERASE), enforcement.erase)
    said = {blob["what"]: blob for blob in row.evidence["blobs"]}
    assert said["weights"]["gone"] is False
    assert tiny.store.has(weights)


def test_it_waits_for_every_live_runner_to_have_unloaded_the_expert(withdrawn, tiny):
    now = timezone.now()
    loaded = [{"name": "alder-news", "digest": tiny.experts["alder-news"]}]
    lease = factories.lease(
        granted_at=now, renewed_at=now, started_at=now, loaded=loaded, stats={"policy_epoch": 99}
    )
    erase = row_of(FollowUpKind.ERASE)
    assert take(erase, enforcement.erase).state == FollowUpState.DUE
    lease.loaded, lease.stats = [], {"policy_epoch": withdrawn.policy_epoch - 1}
    lease.save()
    assert take(erase, enforcement.erase).state == FollowUpState.DUE  # it has not heard of it yet
    lease.stats = {
        "policy_epoch": withdrawn.policy_epoch,
        "withdrawals": [{"expert": "alder-news"}],
    }
    lease.save()
    row = take(erase, enforcement.erase)
    assert row.state == FollowUpState.DONE, row.last_error
    [said] = row.evidence["runners"]
    assert said["withdrawals"] == [{"expert": "alder-news"}]


def test_a_folder_outside_our_own_is_never_removed(withdrawn, story, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "precious").write_text("not ours")
    story.build.export_path = str(elsewhere)
    story.build.save()
    take(row_of(FollowUpKind.ERASE), enforcement.erase)
    assert (elsewhere / "precious").exists()


def test_long_lists_are_kept_by_digest_where_the_log_could_not_hold_them(
    withdrawn, story, tiny, home
):
    training = due(FollowUpKind.TRAIN, "expert", story.experts["alder-news"])
    folder = home / "work" / str(training.pk)
    folder.mkdir(parents=True)
    for number in range(300):
        (folder / f"checkpoint-with-a-rather-long-name-{number:05}").write_bytes(b"x")
    row = take(row_of(FollowUpKind.ERASE), enforcement.erase)
    assert row.state == FollowUpState.DONE, row.last_error
    assert row.evidence["counts"]["files"] == 300
    whole = json.loads(tiny.store.read(row.evidence["whole_list_digest"]))
    assert len(whole["files"]) == 300


def test_every_stage_is_certified_once(withdrawn):
    for row in FollowUp.objects.filter(kind=FollowUpKind.CERTIFY):
        if row.order["stage"] != "blocked":
            continue
        take(row, enforcement.certify)
        assert row.state in (FollowUpState.DUE, FollowUpState.DONE)
        row.refresh_from_db()
        assert row.state == FollowUpState.DONE, row.last_error
        FollowUp.objects.filter(pk=row.pk).update(state=FollowUpState.DUE, ended_at=None)
        take(row, enforcement.certify)
    assert withdrawn.certificates.filter(stage="blocked").count() == 1
    assert ExpertRevision.objects.count() == 3
