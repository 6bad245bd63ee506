"""What may be asked for, as a value: its words, and the digest of exactly what would be approved.

Whatever the outcome hangs on is in `content`, so that any changed byte changes the digest. For what
has a row the content can be read again (`again`), and an approval of anything else is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.forms import model_to_dict

from governance.canonical import canonical_json, plain, sha256_hex
from governance.models import (
    ApprovalRequest,
    ApprovalRoute,
    Build,
    Consumer,
    DataOwner,
    ExpertRevision,
    Finding,
    Licence,
)
from governance.services import terms as terms_of
from governance.services.limits import KeyLimits
from governance.vocabulary import ApprovalKind, BuildState, ConsumerStatus, OwnerStatus

NOT_EXPORTED = (BuildState.PLANNED, BuildState.FAILED, BuildState.TOMBSTONED)
"""Builds that are not there yet, never will be, or hold a withdrawn expert."""


@dataclass(frozen=True)
class Subject:
    """One thing that may be asked for.

    `facts` are what the conditions of a route look at; a request returned for change goes on with
    what its requester asks for next of the same kind in the same `thread`.
    """

    kind: ApprovalKind
    subject_kind: str
    subject_id: str
    title: str
    content: Mapping[str, Any]
    thread: str
    owner: DataOwner | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical content, with kind and subject."""
        return digest(self.kind, self.subject_kind, self.subject_id, self.content)


def digest(kind: str, subject_kind: str, subject_id: str, content: Mapping[str, Any]) -> str:
    """What a request is bound to."""
    bound = {"version": 1, "kind": kind, "subject": [subject_kind, subject_id], **content}
    return sha256_hex(canonical_json(plain(bound)))


def licence(row: Licence) -> Subject:
    """A licence version: its terms as they are stored now, and the signed file."""
    return Subject(
        ApprovalKind.LICENCE,
        "licence",
        str(row.pk),
        f"Licence {row.reference}: {row.corpus.title}",
        {
            "reference": row.reference,
            "terms_digest": terms_of.digest(row.corpus, terms_of.of(row)),
            "contract_digest": row.contract_digest,
            "needs_countersignature": row.needs_countersignature,
            "supersedes": row.supersedes.reference if row.supersedes else None,
        },
        thread=f"corpus:{row.corpus.slug}",
        owner=row.corpus.owner,
        facts={
            "owner": row.corpus.owner.slug,
            "payment_type": str(row.payment_type),
            "is_exclusive": row.is_exclusive,
            "rate": float(row.rate_per_million_tokens),
        },
    )


def activation(row: ExpertRevision) -> Subject:
    """A revision to be served: its weights, its anchor, and every finding about it."""
    return Subject(
        ApprovalKind.ACTIVATION,
        "revision",
        str(row.pk),
        f"Activation of {row.expert.title}, revision {row.number}",
        _revision(row),
        thread=f"expert:{row.expert.name}",
        owner=row.expert.owner,
        facts={"owner": row.expert.owner.slug},
    )


def waiver(row: ExpertRevision) -> Subject:
    """Serving a revision although its audit did not pass."""
    return Subject(
        ApprovalKind.WAIVER,
        "revision",
        str(row.pk),
        f"Audit waiver for {row.expert.title}, revision {row.number}",
        _revision(row),
        thread=f"expert:{row.expert.name}",
        owner=row.expert.owner,
        facts={"owner": row.expert.owner.slug},
    )


def _revision(row: ExpertRevision) -> dict[str, Any]:
    return {
        "expert": row.expert.name,
        "revision": row.number,
        "digest": row.digest,
        "weights_digest": row.weights_digest,
        "anchor": row.anchor.digest,
        "findings": sorted(finding_digest(found) for found in row.findings.all()),
    }


def finding_digest(row: Finding) -> str:
    """SHA-256 of everything a finding says."""
    found = {
        "audit": row.audit,
        "verdict": row.verdict,
        "rate": [row.rate, row.rate_low, row.rate_high],
        "threshold": row.threshold,
        "seed": row.seed,
        "report": row.report,
        "found_at": row.found_at,
    }
    return sha256_hex(canonical_json(plain(found)))


def owner(row: DataOwner) -> Subject:
    """A data owner to be dealt with: all its facts, and that it is a prospect."""
    return Subject(
        ApprovalKind.OWNER,
        "owner",
        str(row.pk),
        f"Taking on {row.legal_name}",
        plain(model_to_dict(row, exclude=["name_key"])),
        thread=f"owner:{row.slug}",
        owner=row,
        facts={"owner": row.slug},
    )


def consumer(row: Consumer) -> Subject:
    """A consumer that is to ask the model: all its facts, and that it is a prospect."""
    return Subject(
        ApprovalKind.CONSUMER,
        "consumer",
        str(row.pk),
        f"Taking on {row.name}",
        plain(model_to_dict(row)),
        thread=f"consumer:{row.slug}",
    )


def promotion(row: Build) -> Subject:
    """A build to be served: its manifest, its files and what proved it."""
    return Subject(
        ApprovalKind.PROMOTION,
        "build",
        str(row.pk),
        f"Promotion of build {row.number}",
        {
            **_build(row),
            "top_k": row.top_k,
            "is_router_tuned": row.is_router_tuned,
            "proof": row.proof,
        },
        thread=f"build:{row.number}",
    )


def export(row: Build, recipient: str) -> Subject:
    """The files of a build for one recipient."""
    return Subject(
        ApprovalKind.EXPORT,
        "build",
        str(row.pk),
        f"Export of build {row.number} to {recipient}",
        {**_build(row), "recipient": recipient},
        thread=f"build:{row.number}",
    )


def _build(row: Build) -> dict[str, Any]:
    return {
        "build": row.number,
        "digest": row.digest,
        "anchor": row.anchor.digest,
        "experts": row.experts,
        "export_files": row.export_files,
    }


def api_key(
    consumer: Consumer,
    *,
    label: str,
    purposes: Sequence[str],
    scopes: Sequence[str] | None,
    expires_at: datetime | None,
    limits: KeyLimits | None = None,
) -> Subject:
    """A key of a consumer, bound to purposes and limits."""
    return Subject(
        ApprovalKind.API_KEY,
        "consumer",
        str(consumer.pk),
        f"API key “{label}” for {consumer.name}",
        {
            "consumer": consumer.slug,
            "territory": consumer.territory,
            "label": label,
            "purposes": sorted({str(purpose) for purpose in purposes}),
            "scopes": sorted({str(scope) for scope in scopes}) if scopes is not None else None,
            "expires_at": plain(expires_at.astimezone(UTC)) if expires_at else None,
            **asdict(limits or KeyLimits()),
        },
        thread=f"consumer:{consumer.slug}",
    )


def route(row: ApprovalRoute) -> Subject:
    """A new version of a route."""
    return Subject(
        ApprovalKind.ROUTE,
        "route",
        str(row.pk),
        f"Route “{row.title}”, version {row.version}",
        {
            "key": row.key,
            "version": row.version,
            "for": row.kind,
            "title": row.title,
            "conditions": row.conditions,
            "steps": row.steps,
            "rules": sorted(row.rules),
            "is_on": row.is_on,
        },
        thread=f"route:{row.key}",
    )


def again(request: ApprovalRequest) -> Subject | None:
    """The subject of a request as its rows say it now; None where there is nothing to approve."""
    key = request.subject_id
    match ApprovalKind(request.kind):
        case ApprovalKind.LICENCE:
            licences = Licence.objects.select_related("corpus__owner", "supersedes")
            found = licences.filter(pk=key).first()
            return licence(found) if found else None
        case ApprovalKind.ACTIVATION | ApprovalKind.WAIVER as kind:
            revisions = ExpertRevision.objects.select_related("expert__owner", "anchor")
            revision = revisions.filter(pk=key).first()
            make = activation if kind == ApprovalKind.ACTIVATION else waiver
            return make(revision) if revision else None
        case ApprovalKind.OWNER:
            prospect = DataOwner.objects.filter(pk=key, status=OwnerStatus.PROSPECT).first()
            return owner(prospect) if prospect else None
        case ApprovalKind.CONSUMER:
            asks = Consumer.objects.filter(pk=key, status=ConsumerStatus.PROSPECT).first()
            return consumer(asks) if asks else None
        case ApprovalKind.PROMOTION:
            builds = Build.objects.select_related("anchor").filter(state=BuildState.ASSEMBLED)
            build = builds.filter(pk=key).first()
            return promotion(build) if build else None
        case ApprovalKind.EXPORT:
            builds = Build.objects.select_related("anchor").exclude(state__in=NOT_EXPORTED)
            build = builds.filter(pk=key).first()
            return export(build, request.content["recipient"]) if build else None
        case ApprovalKind.ROUTE:
            row = ApprovalRoute.objects.filter(pk=key).first()
            return route(row) if row else None
        case _:
            return _as_written(request)


def _as_written(request: ApprovalRequest) -> Subject | None:
    """A subject that is its content, and for a key the consumer's row beside it."""
    content = dict(request.content)
    if request.kind == ApprovalKind.API_KEY:
        asks = Consumer.objects.filter(pk=request.subject_id).first()
        if asks is None:
            return None
        content |= {"consumer": asks.slug, "territory": asks.territory}
    return Subject(
        ApprovalKind(request.kind),
        request.subject_kind,
        request.subject_id,
        request.title,
        content,
        thread=request.thread,
        owner=request.owner,
    )
