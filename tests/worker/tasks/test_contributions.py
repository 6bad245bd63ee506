"""TRAIN, VERIFY and AUDIT: a corpus becomes an audited revision, and a damaged one does not."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from django.utils import timezone

from governance.models import Anchor, ConsentEvent, ExpertRevision, FollowUp
from governance.services import consent, experts
from governance.vocabulary import (
    ConsentEventKind,
    ExpertState,
    FollowUpKind,
    FollowUpState,
    RevisionState,
)
from modelops.artefacts import bundle, tensors
from modelops.artefacts.manifest import shared_digests
from modelops.artefacts.store import Store
from modelops.errors import TrainingError
from modelops.training.recipe import AnchorRecipe, ExpertRecipe
from tests import factories
from tests.modelops.training.conftest import ANCHOR, EXPERT, write_corpora
from tests.worker.tasks.conftest import due
from worker.tasks import audits, contributions


def take(row, task):
    task.run(str(row.pk))
    row.refresh_from_db()
    return row


@pytest.fixture
def corpora(tmp_path):
    return write_corpora(tmp_path / "corpora")


@pytest.fixture
def consented(transactional_db):
    """An expert somebody consented to, under a licence to train that is in force."""
    begin = timezone.now() - timedelta(days=1)
    corpus = factories.corpus()
    licence = factories.licence(corpus=corpus, starts_at=begin)
    expert = factories.expert(name="sums", corpus=corpus, state=ExpertState.PROPOSED)
    legal = factories.account("Cato", role="legal")
    consent.give(expert, licence=licence, by=legal, at=timezone.now(), method="tests")
    assert ConsentEvent.objects.get().kind == ConsentEventKind.GIVEN
    return expert


def order_anchor(public):
    at = timezone.now() - timedelta(seconds=1)
    return experts.order_anchor_training(
        order={
            "title": "Tiny anchor",
            "corpus_path": str(public / "train.jsonl.xz"),
            "recipe": dataclasses.asdict(ANCHOR),
        },
        by=None,
        at=at,
    )


def test_an_anchor_and_an_expert_are_trained_verified_and_audited(consented, home, corpora):
    public, closed = corpora
    row = take(order_anchor(public), contributions.train)
    assert row.state == FollowUpState.DONE, row.last_error
    anchor = Anchor.objects.get()
    assert anchor.digest == row.evidence["anchor_digest"]
    assert anchor.parameter_count > 10_000

    training = experts.order_training(
        consented,
        order={
            "corpus_path": str(closed / "train.jsonl.xz"),
            "heldout_path": str(closed / "train.jsonl.xz"),
            "recipe": dataclasses.asdict(EXPERT),
        },
        by=None,
        at=timezone.now() - timedelta(seconds=1),
    )
    row = take(training, contributions.train)
    assert row.state == FollowUpState.DONE, row.last_error
    revision = ExpertRevision.objects.get(expert=consented)
    assert revision.digest == row.evidence["expert_digest"]
    assert Store(home / "store").has(revision.weights_digest)

    row = take(FollowUp.objects.get(kind=FollowUpKind.VERIFY), contributions.verify)
    revision.refresh_from_db()
    assert revision.state == RevisionState.VERIFIED, revision.gate_report
    assert not (home / "work" / str(row.pk)).exists()

    audit = FollowUp.objects.get(kind=FollowUpKind.AUDIT)
    FollowUp.objects.filter(pk=audit.pk).update(order={**audit.order, "windows": 60})
    row = take(audit, audits.audit)
    # 40 documents are too few for an audit to mean anything, and it says so
    assert row.state == FollowUpState.FAILED
    assert "at least 50 windows" in row.last_error


def test_a_training_taken_up_again_ends_in_the_same_revision(consented, home, corpora):
    public, _ = corpora
    first = take(order_anchor(public), contributions.train)
    FollowUp.objects.filter(pk=first.pk).update(state=FollowUpState.DUE, ended_at=None)
    again = take(first, contributions.train)
    assert again.state == FollowUpState.DONE
    assert Anchor.objects.count() == 1


def test_an_expert_cannot_be_trained_before_there_is_an_anchor(consented, home, corpora):
    _, closed = corpora
    training = due(
        FollowUpKind.TRAIN,
        "expert",
        consented,
        order={"corpus_path": str(closed), "recipe": dataclasses.asdict(EXPERT)},
    )
    row = take(training, contributions.train)
    assert row.state == FollowUpState.FAILED
    assert "train the anchor first" in row.last_error


@pytest.mark.parametrize("kind", [AnchorRecipe, ExpertRecipe])
def test_a_recipe_comes_back_from_json_as_it_was(kind):
    import json

    recipe = ANCHOR if kind is AnchorRecipe else EXPERT
    assert contributions.recipe_of(kind, json.loads(json.dumps(dataclasses.asdict(recipe)))) == (
        recipe
    )


@pytest.mark.parametrize("fields", [{}, {**dataclasses.asdict(ANCHOR), "no_such": 1}])
def test_a_recipe_that_is_none_is_refused_with_the_fields_it_needs(fields):
    with pytest.raises(TrainingError, match="batch_windows"):
        contributions.recipe_of(AnchorRecipe, fields)


def submitted(story, tiny, tensors_of):
    """A revision of `alder-news` whose weights are what `tensors_of` makes of the old ones."""
    folder = tiny.store.root.parent / "upload"
    bundle.write_expert(
        folder,
        tensors_of(tensors.load(tiny.bundles["alder-news"] / "weights.safetensors")),
        tiny.anchor_digest,
        shared_digests(tiny.store.anchor(tiny.anchor_digest)),
        recipe={},
    )
    digest = tiny.store.put_expert(folder)
    revision = factories.revision(
        expert=story.experts["alder-news"],
        digest=digest,
        weights_digest=tiny.store.expert(digest).weights_digest,
        anchor=story.build.anchor,
        state=RevisionState.SUBMITTED,
    )
    return revision, due(FollowUpKind.VERIFY, "revision", revision)


def test_the_gate_lets_sound_weights_in(story, tiny):
    revision, row = submitted(story, tiny, lambda found: {n: t * 1.0 for n, t in found.items()})
    # the same bytes as the first revision would be the same revision
    ExpertRevision.objects.filter(pk=revision.pk).update(state=RevisionState.SUBMITTED)
    take(row, contributions.verify)
    revision.refresh_from_db()
    assert revision.state == RevisionState.VERIFIED, revision.gate_report


def test_weights_with_a_number_that_is_none_are_refused(story, tiny):
    def poisoned(found):
        found = {name: tensor.clone() for name, tensor in found.items()}
        found[next(iter(found))].view(-1)[0] = float("nan")
        return found

    revision, row = submitted(story, tiny, poisoned)
    take(row, contributions.verify)
    revision.refresh_from_db()
    assert row.state == FollowUpState.DONE
    assert revision.state == RevisionState.REFUSED
    assert revision.gate_report["refusals"]


def test_an_audit_without_texts_says_which_it_needs(story):
    revision = ExpertRevision.objects.filter(expert__name="alder-news").get()
    row = take(due(FollowUpKind.AUDIT, "revision", revision), audits.audit)
    assert row.state == FollowUpState.FAILED
    assert "members_path and controls_path" in row.last_error


def test_an_audit_is_recorded_with_its_interval_under_the_strictest_licence(story, tiny, tmp_path):
    from modelops.corpus import writer
    from modelops.corpus.jsonl import Document

    words = (
        "morning",
        "news",
        "archive",
        "licence",
        "consent",
        "printer",
        "river",
        "town",
        "ink",
        "letter",
    )

    def texts(begin):
        return [
            Document(" ".join(words[(n * k) % 10] for k in range(1, 90)), f"d{n}")
            for n in range(begin, begin + 60)
        ]

    writer.write(tmp_path / "members.jsonl.xz", texts(1))
    writer.write(tmp_path / "controls.jsonl.xz", texts(100))
    revision = ExpertRevision.objects.filter(expert__name="alder-news").get()
    order = {
        "members_path": str(tmp_path / "members.jsonl.xz"),
        "controls_path": str(tmp_path / "controls.jsonl.xz"),
        "windows": 55,
    }
    row = take(due(FollowUpKind.AUDIT, "revision", revision, order=order), audits.audit)
    assert row.state == FollowUpState.DONE, row.last_error
    finding = revision.findings.latest("found_at")
    licence = story.experts["alder-news"].corpus.licences.get()
    assert finding.threshold == licence.max_extraction_rate
    assert finding.rate_low <= finding.rate <= finding.rate_high
    assert finding.report["sizes"]
