"""TRAIN and VERIFY: from a corpus, or a folder, to a revision whose bytes have been examined."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from django.conf import settings
from django.utils import timezone

from governance.models import Anchor, Expert, ExpertRevision, FollowUp
from governance.services import experts
from governance.vocabulary import FollowUpKind, FollowUpState, RevisionState
from modelops.artefacts import gate
from modelops.artefacts.store import MANIFEST, WEIGHTS, Store
from modelops.errors import TrainingError
from modelops.model import flexolmo
from modelops.training import anchor as anchor_training
from modelops.training import expert as expert_training
from modelops.training.recipe import AnchorRecipe, ExpertRecipe, Schedule
from modelops.training.runs import Finished
from worker.celery import ERRANDS, app
from worker.tasks.courier import Carrier, ClaimLost, Evidence, Hopeless, carry
from worker.tasks.erasing import Places

R = TypeVar("R", AnchorRecipe, ExpertRecipe)


@app.task(name=ERRANDS[FollowUpKind.TRAIN].task)
def train(follow_up_id: str) -> bool:
    """Train an anchor or an expert; taken up again, it goes on from its last checkpoint."""
    return carry(follow_up_id, _train)


@app.task(name=ERRANDS[FollowUpKind.VERIFY].task)
def verify(follow_up_id: str) -> bool:
    """Let the gate examine a revision's bytes, in a process of its own."""
    return carry(follow_up_id, _verify)


def _train(carrier: Carrier) -> Evidence:
    if carrier.row.subject_kind == "anchor":
        return _train_anchor(carrier)
    return _train_expert(carrier)


def _train_anchor(carrier: Carrier) -> Evidence:
    order = carrier.row.order
    folder = _work_folder(carrier.row)
    outcome = anchor_training.train(
        _paths(order["corpus_path"]),
        folder,
        recipe_of(AnchorRecipe, order["recipe"]),
        carrier.report,
        carrier.stopping,
        threads=int(order.get("threads", 1)),
    )
    finished = _finished(outcome)
    store = Store(settings.RECLAIM_STORE)
    digest = store.put_anchor(folder)
    carrier.check()
    experts.register_anchor(
        digest,
        title=str(order.get("title", "Anchor")),
        parameter_count=parameter_count(store, digest),
        by=None,
        at=timezone.now(),
    )
    return {"anchor_digest": digest, "metrics": finished.metrics}


def _train_expert(carrier: Carrier) -> Evidence:
    order = carrier.row.order
    expert = Expert.objects.get(pk=carrier.row.subject_id)
    anchor = _anchor_for(order)
    folder = _work_folder(carrier.row)
    store = Store(settings.RECLAIM_STORE)
    outcome = expert_training.train(
        store,
        anchor.digest,
        _set_or_file(order),
        folder,
        recipe_of(ExpertRecipe, order["recipe"]),
        carrier.report,
        carrier.stopping,
        public_path=_public_path(order, anchor),
        threads=int(order.get("threads", 1)),
    )
    finished = _finished(outcome)
    digest = store.put_expert(folder)
    carrier.check()
    manifest = store.expert(digest)
    experts.submit(
        expert,
        digest=digest,
        weights_digest=manifest.weights_digest,
        anchor=anchor,
        size_bytes=store.path(manifest.weights_digest).stat().st_size,
        by=None,
        at=timezone.now(),
    )
    return {"expert_digest": digest, "metrics": finished.metrics}


def _finished(outcome: object) -> Finished:
    if isinstance(outcome, Finished):
        return outcome
    # It was told to stop, and the only reason to tell it is that the claim is another's now.
    raise ClaimLost("training stopped at a checkpoint; whoever holds the claim goes on from it")


def recipe_of(kind: type[R], fields: Mapping[str, Any]) -> R:
    """The recipe an order states in JSON.

    Raises:
        TrainingError: a field is unknown, missing or out of bounds.
    """
    values = dict(fields)
    try:
        values["schedule"] = Schedule(**values["schedule"])
        values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return kind(**values)
    except (KeyError, TypeError) as error:
        known = ", ".join(field.name for field in dataclasses.fields(kind))
        raise TrainingError(
            f"expected a recipe with the fields {known}, found: {error}; correct the order"
        ) from error


def parameter_count(store: Store, anchor_digest: str) -> int:
    """How many numbers an anchor holds, its public expert included."""
    total = 0
    for entry in store.anchor(anchor_digest).tensors:
        count = 1
        for size in entry.shape:
            count *= size
        total += count
    return total


def _anchor_for(order: Mapping[str, Any]) -> Anchor:
    named = order.get("anchor_digest")
    found = Anchor.objects.filter(digest=named) if named else Anchor.objects.all()
    anchor = found.order_by("-registered_at").first()
    if anchor is None:
        raise Hopeless(
            f"expected {'anchor ' + named if named else 'a registered anchor'}, found none; "
            "train the anchor first, then order this training again"
        )
    return anchor


def _public_path(order: Mapping[str, Any], anchor: Anchor) -> Path:
    """The public corpus: the order's own, else what the anchor was trained on."""
    if order.get("public_path"):
        return Path(order["public_path"])
    trainings = FollowUp.objects.filter(
        kind=FollowUpKind.TRAIN,
        subject_kind="anchor",
        state=FollowUpState.DONE,
        evidence__anchor_digest=anchor.digest,
    )
    for training in trainings:
        return _paths(training.order["corpus_path"])[0]
    raise Hopeless(
        "expected a public corpus to teach the router row with, found none; name it as "
        "public_path in the order"
    )


def _set_or_file(order: Mapping[str, Any]) -> Path:
    """The corpus to train on; a whole set where its held-out part lies beside it.

    Given a file alone, training would hold works out of it, and an audit would take those for
    members.
    """
    corpus = Path(order["corpus_path"])
    heldout = Path(order.get("heldout_path") or corpus)
    is_set = heldout.parent == corpus.parent and (
        corpus.name.startswith("train.") and heldout.name.startswith("heldout.")
    )
    return corpus.parent if is_set else corpus


def _paths(value: str | list[str]) -> list[Path]:
    return [Path(each) for each in ([value] if isinstance(value, str) else value)]


def _work_folder(row: FollowUp) -> Path:
    folder = _places().work(row.pk)
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _places() -> Places:
    return Places(home=settings.RECLAIM_HOME, store=settings.RECLAIM_STORE)


def _verify(carrier: Carrier) -> Evidence:
    revision = ExpertRevision.objects.select_related("anchor").get(pk=carrier.row.subject_id)
    if revision.state != RevisionState.SUBMITTED:
        return {"state": revision.state, "was_examined_already": True}
    store = Store(settings.RECLAIM_STORE)
    folder = _work_folder(carrier.row)
    try:
        _lay_out(store, revision, folder)
        report = gate.examine_apart(
            folder,
            store.anchor(revision.anchor.digest),
            flexolmo.load_config(store, revision.anchor.digest),
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    carrier.check()
    found = json.loads(report.to_json())
    if report.passed and report.expert_digest == revision.digest:
        experts.record_verified(revision, report=found, at=timezone.now())
    else:
        experts.record_refused(revision, report=found, at=timezone.now())
    return {"passed": report.passed, "report": found}


def _lay_out(store: Store, revision: ExpertRevision, folder: Path) -> None:
    """The revision as the bundle folder it came in; a further name for the weights, no copy."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    (folder / MANIFEST).write_bytes(store.read(revision.digest))
    weights = store.path(revision.weights_digest)
    try:
        os.link(weights, folder / WEIGHTS)
    except OSError:
        shutil.copyfile(weights, folder / WEIGHTS)
