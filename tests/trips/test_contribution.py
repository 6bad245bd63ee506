"""Trip 3: two corpora become an anchor and an expert that serves, by our own processes."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from governance.models import Anchor, Build, Expert, ExpertRevision, FollowUp
from governance.services import experts, snapshots
from governance.vocabulary import BuildState, ExpertState, FollowUpState
from modelops.contract import Done, ExpertRef, GenerationOrder, Sampling
from modelops.corpus import writer
from modelops.corpus.jsonl import Document
from tests import cast as casting
from tests.modelops.training.conftest import ANCHOR, EXPERT
from tests.worker import clients
from tests.worker.installation import database_of_test, installation, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def whole(transactional_db, tmp_path, redis_url):
    made = installation(tmp_path, database_of_test(), redis_url)
    yield made
    made.stop()


def write_texts(folder):
    """A public set, and an owner's with held-out texts beside it; long enough to audit."""

    def letters(begin, count):
        return [
            Document(
                f"The {n}th letter to Dara says: the news of day {n * 7} is late. " * 4, f"p{n}"
            )
            for n in range(begin, begin + count)
        ]

    def sums(begin, count):
        return [
            Document(f"{n} + {n + 1} = {2 * n + 1}; {n} * 2 = {2 * n}\n" * 8, f"s{n}")
            for n in range(begin, begin + count)
        ]

    writer.write(folder / "public" / "train.jsonl.xz", letters(0, 60))
    writer.write(folder / "sums" / "train.jsonl.xz", sums(0, 150))
    writer.write(folder / "sums" / "heldout.jsonl.xz", sums(1000, 150))
    return folder / "public" / "train.jsonl.xz", folder / "sums"


def is_done(row):
    found = FollowUp.objects.get(pk=row.pk)
    assert found.state != FollowUpState.FAILED, f"{found.kind}: {found.last_error}"
    return found.state == FollowUpState.DONE


def no_failures():
    failed = FollowUp.objects.filter(state=FollowUpState.FAILED).first()
    assert failed is None, f"{failed.kind}: {failed.last_error}"
    return True


def state_of(model, **which):
    return model.objects.values_list("state", flat=True).get(**which)


def test_a_corpus_becomes_an_expert_that_answers(whole):
    now = timezone.now()
    public, sums = write_texts(whole.home / "texts")
    cast = casting.meet(at=now)
    expert = casting.grant(cast, "sums", starts_at=now - timedelta(days=1), max_extraction_rate=0.1)
    whole.runner("r")
    whole.relay()
    whole.worker("enforce", "-P", "solo")
    whole.worker("models", "-P", "solo")

    anchor_run = experts.order_anchor_training(
        order={"corpus_path": str(public), "recipe": dataclasses.asdict(ANCHOR)},
        by=cast.edda,
        at=timezone.now(),
    )
    wait_until(lambda: is_done(anchor_run), 90, "the anchor")
    experts.order_training(
        expert,
        order={
            "corpus_path": str(sums / "train.jsonl.xz"),
            "heldout_path": str(sums / "heldout.jsonl.xz"),
            "recipe": dataclasses.asdict(EXPERT),
        },
        by=cast.edda,
        at=timezone.now(),
    )
    wait_until(
        lambda: no_failures() and state_of(Expert, pk=expert.pk) == ExpertState.READY,
        90,
        "training, gate and audit",
    )
    revision = ExpertRevision.objects.get(expert=expert)
    assert revision.gate_report["passed"]
    assert revision.findings.get().verdict == "pass"

    experts.request_activation(revision, by=cast.edda, at=timezone.now())
    experts.approve_activation(revision, by=cast.cato, at=timezone.now())
    build = Build.objects.get()
    wait_until(
        lambda: no_failures() and state_of(Build, pk=build.pk) == BuildState.PROMOTED,
        90,
        "merge, load and promotion",
    )
    policy = snapshots.current()
    order = GenerationOrder(
        order_id=str(uuid4()),
        decision_id=str(uuid4()),
        policy_epoch=policy.policy_epoch,
        build_digest=policy.build_digest,
        anchor_digest=Anchor.objects.get().digest,
        allowed=(ExpertRef("sums", revision.digest),),
        top_k=policy.top_k,
        prompt="12 + 13 =",
        sampling=Sampling(max_tokens=8, temperature=0.0),
        ask={"consumer": cast.dara.slug, "purpose": "research", "territory": "NL"},
    )
    end = clients.ask(whole.runner_url, order)[-1]
    assert isinstance(end, Done)
    assert end.tally.routed["sums"] > 0
    assert all(is_done(row) for row in FollowUp.objects.all())
