"""A broker that vanishes, workers that are killed: nothing is lost, nothing comes out else."""

from __future__ import annotations

import dataclasses
import shutil
import time

import pytest
from django.utils import timezone

from governance.models import Anchor, FollowUp
from governance.services import builds as build_acts
from governance.services import experts
from governance.vocabulary import BuildState, FollowUpKind, FollowUpState
from modelops.artefacts import bundle
from modelops.artefacts.manifest import BuildManifest, shared_digests
from modelops.artefacts.store import Store
from modelops.contract import Done, ExpertRef
from modelops.merging.export import export
from modelops.model import flexolmo, tokenizer
from modelops.training import anchor as anchor_training
from modelops.training.recipe import Schedule
from tests import factories
from tests.modelops import worlds
from tests.modelops.training.conftest import ANCHOR, never, quiet, write_corpora
from tests.worker import clients, served
from tests.worker.installation import wait_until

pytestmark = pytest.mark.faults


def claim_runs_out(row):
    """As if the thirty seconds of a dead worker's claim had passed."""
    FollowUp.objects.filter(pk=row.pk).update(claimed_until=timezone.now(), sent_at=None)


def is_done(row):
    found = FollowUp.objects.get(pk=row.pk)
    assert found.state != FollowUpState.FAILED, found.last_error
    return found.state == FollowUpState.DONE


def test_without_redis_answers_go_on_a_withdrawal_is_enforced_and_the_rest_follows_later(
    clean, whole, stub
):
    tiny = worlds.build(whole.home)
    story = served.served(tiny.anchor_digest, tiny.experts)
    url = stub("one")
    whole.relay()
    for queue in ("enforce", "models"):
        whole.worker(queue, "-P", "solo")
    wait_until(lambda: clients.health(url)["loaded"], 30, "the runner")
    clean.redis.kill()
    assert isinstance(clients.ask(url, story.order("birch-archive"))[-1], Done)

    withdrawal = story.withdraw("alder-news")
    quiesce = FollowUp.objects.get(kind=FollowUpKind.QUIESCE)
    wait_until(lambda: is_done(quiesce), 30, "the withdrawal enforced without a broker")
    blocked = FollowUp.objects.get(kind=FollowUpKind.CERTIFY, order={"stage": "blocked"})
    wait_until(lambda: is_done(blocked), 30, "the first certificate without a broker")
    rebuild = FollowUp.objects.get(kind=FollowUpKind.REBUILD)
    assert rebuild.state == FollowUpState.DUE

    clean.redis.start()
    wait_until(lambda: is_done(rebuild), 60, "the rebuild once the broker is back")
    unfinished = FollowUp.objects.exclude(state=FollowUpState.DONE)
    wait_until(lambda: not unfinished.exists(), 60, "everything that follows")
    assert withdrawal.builds.get().state == BuildState.PROMOTED


def test_a_training_whose_worker_is_killed_goes_on_and_ends_in_the_same_bytes(clean, whole):
    public, _ = write_corpora(whole.home / "corpora")
    recipe = dataclasses.replace(
        ANCHOR, schedule=Schedule(steps=600, warmup_steps=2), checkpoint_steps=10
    )
    corpus = public / "train.jsonl.xz"
    undisturbed = whole.home / "undisturbed"
    anchor_training.train(corpus, undisturbed, recipe, quiet, never)
    expected = Store(whole.home / "other").put_anchor(undisturbed)

    row = experts.order_anchor_training(
        order={"corpus_path": str(corpus), "recipe": dataclasses.asdict(recipe)},
        by=None,
        at=timezone.now(),
    )
    place = whole.home / "work" / f"{row.pk}.training" / "state.safetensors"
    whole.relay()
    whole.worker("models", "-P", "solo")
    wait_until(place.exists, 60, "a first checkpoint")
    whole.kill("models")
    assert not is_done(row)
    claim_runs_out(row)
    whole.worker("models", "-P", "solo")
    wait_until(lambda: is_done(row), 60, "the training taken up again")
    row.refresh_from_db()
    assert row.attempts == 2
    assert Anchor.objects.get().digest == expected


@pytest.fixture
def heavy(clean, whole):
    """Two experts of 25 MB each, so that merging takes long enough to be killed in."""
    store = Store(whole.home / "store")
    words = tokenizer.train(worlds.TEXTS, vocab_size=300)
    config = flexolmo.tiny_config(
        words.get_vocab_size(),
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=8,
        max_position_embeddings=128,
    )
    place = whole.home / "bundles"
    model = flexolmo.new_anchor_model(config, seed=7)
    manifest = bundle.write_anchor(
        place / "public",
        flexolmo.anchor_tensors(model),
        flexolmo.config_json(model.config),
        tokenizer.to_json(words),
    )
    anchor_digest = store.put_anchor(place / "public")
    digests = {}
    for seed, name in enumerate(served.NAMES):
        bundle.write_expert(
            place / name,
            worlds.random_expert(config, seed),
            anchor_digest,
            shared_digests(manifest),
            recipe={},
        )
        digests[name] = store.put_expert(place / name)
    shutil.rmtree(place)
    return store, served.served(anchor_digest, digests)


def test_a_merge_whose_worker_is_killed_goes_on_and_ends_in_the_same_bytes(heavy, whole):
    store, story = heavy
    build = build_acts.plan_current(reason="tests", by=None, at=timezone.now())
    row = FollowUp.objects.get(kind=FollowUpKind.ASSEMBLE)
    folder = whole.home / "builds" / f"build-{build.number:04d}"
    partial = folder.with_name(f"{folder.name}.partial")
    whole.relay()
    whole.worker("models", "-P", "solo")
    wait_until(lambda: any(partial.glob("model-*.safetensors")), 60, "a first shard")
    whole.kill("models")
    assert not folder.exists(), "the merge was over before it could be killed"
    claim_runs_out(row)
    whole.worker("models", "-P", "solo")
    wait_until(lambda: is_done(row), 90, "the merge taken up again")
    build.refresh_from_db()
    assert build.state == BuildState.ASSEMBLED
    assert build.proof["equals_sources"] is True

    refs = tuple(ExpertRef(entry["name"], entry["digest"]) for entry in build.experts)
    manifest = BuildManifest(story.build.anchor.digest, refs, build.top_k)
    undisturbed = export(store, store.put_build(manifest), whole.home / "undisturbed")
    for file in undisturbed.files:
        assert (folder / file.name).read_bytes() == (undisturbed.folder / file.name).read_bytes()


def test_a_withdrawal_whose_coordinator_is_killed_in_mid_wait_is_waited_for_anew(clean, whole):
    lease_s = 2.0
    story = served.served()
    factories.lease(lease_s=lease_s)
    whole.relay()
    workers = [whole.worker("enforce", "-P", "solo", "-n", f"{name}@%h") for name in "ab"]
    whole.running |= {str(worker.pid): worker for worker in workers}
    wait_until(lambda: whole.log("enforce").count(" ready.") == 2, 40, "both workers")
    withdrawal = story.withdraw("code")
    row = FollowUp.objects.filter(kind=FollowUpKind.QUIESCE)
    wait_until(row.filter(state=FollowUpState.CLAIMED).exists, 20, "the wait begun")
    time.sleep(lease_s / 4)
    whole.kill(row.get().claimed_by.split(":")[1])  # host:pid:run
    taken_over_at = row.get().claimed_until
    wait_until(row.filter(state=FollowUpState.DONE).exists, 30, "the other's wait")
    withdrawal.refresh_from_db()
    assert withdrawal.quiesced_by == "expiry"
    assert row.get().attempts == 2
    assert (withdrawal.quiesced_at - taken_over_at).total_seconds() >= lease_s * 1.01
