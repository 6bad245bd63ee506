"""AUDIT: how much of its training text an expert gives away, and what the licence says to that."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import Min
from django.utils import timezone

from governance.models import ExpertRevision, FollowUp, Licence
from governance.services import experts
from governance.vocabulary import FollowUpKind, LicenceState, RevisionState, Verdict
from modelops.artefacts.store import Store
from modelops.audits import report as extraction
from modelops.audits.extraction import Report
from worker.celery import ERRANDS, app
from worker.tasks.courier import Carrier, Evidence, Hopeless, carry

DEFAULT_SEED = 7
DEFAULT_THRESHOLD = 0.01


@app.task(name=ERRANDS[FollowUpKind.AUDIT].task)
def audit(follow_up_id: str) -> bool:
    """Audit one revision beside its anchor, on members and on held-out controls."""
    return carry(follow_up_id, _audit)


def _audit(carrier: Carrier) -> Evidence:
    revision = ExpertRevision.objects.select_related("anchor", "expert__corpus").get(
        pk=carrier.row.subject_id
    )
    if revision.state in (RevisionState.REFUSED, RevisionState.ERASED):
        raise Hopeless(f"expected a verified revision, found it {revision.state}")
    order = {**_training_paths(revision), **carrier.row.order}
    missing = [name for name in ("members_path", "controls_path") if not order.get(name)]
    if missing:
        raise Hopeless(
            f"expected {' and '.join(missing)} in the order, found none; order the audit with the "
            "texts the expert was trained on and with held-out ones of the same source"
        )
    result = _run(revision, order, carrier)
    carrier.check()
    finding = experts.record_finding(
        revision,
        verdict=Verdict(result.verdict),
        rate=result.rate,
        rate_low=min(result.rate_low, result.rate),
        rate_high=max(result.rate_high, result.rate),
        threshold=result.threshold,
        seed=result.seed,
        report=result.to_json(),
        at=timezone.now(),
    )
    return {"finding": str(finding.pk), "verdict": result.verdict, "rate": result.rate}


def _run(
    revision: ExpertRevision, order: Mapping[str, Any], carrier: Carrier
) -> extraction.ExtractionReport:
    """The one place that calls the audit."""
    windows = order.get("windows")
    spec = extraction.Spec(windows=int(windows)) if windows else extraction.Spec()
    return extraction.audit_expert(
        Store(settings.RECLAIM_STORE),
        revision.anchor.digest,
        revision.expert.name,
        revision.digest,
        members_path=Path(order["members_path"]),
        controls_path=Path(order["controls_path"]),
        seed=int(order.get("seed", DEFAULT_SEED)),
        threshold=float(order.get("threshold", _threshold(revision))),
        spec=spec,
        report=_reporting(carrier),
    )


def _threshold(revision: ExpertRevision) -> float:
    """The strictest rate an approved licence of the corpus asks for."""
    strictest = Licence.objects.filter(
        corpus=revision.expert.corpus, state=LicenceState.APPROVED
    ).aggregate(rate=Min("max_extraction_rate"))["rate"]
    return DEFAULT_THRESHOLD if strictest is None else float(strictest)


def _reporting(carrier: Carrier) -> Report:
    def report(done: int, total: int, note: str, metrics: Mapping[str, float]) -> None:
        carrier.check()
        carrier.report(done, total, note, metrics)

    return report


def _training_paths(revision: ExpertRevision) -> dict[str, str]:
    """Members and controls as the expert's own training named them, where we trained it."""
    training = (
        FollowUp.objects.filter(
            kind=FollowUpKind.TRAIN,
            subject_id=revision.expert_id,
            evidence__expert_digest=revision.digest,
        ).first()
        or FollowUp.objects.filter(kind=FollowUpKind.TRAIN, subject_id=revision.expert_id)
        .order_by("-opened_at")
        .first()
    )
    if training is None:
        return {}
    return {
        "members_path": str(training.order.get("corpus_path", "")),
        "controls_path": str(training.order.get("heldout_path", "")),
    }
