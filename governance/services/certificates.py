"""Certificates of a withdrawal: one signed statement a stage, each only when its facts hold.

A statement is in-toto's (v1) in a DSSE envelope. Its issue is a log event sealed in the same
transaction, so a certificate always knows its place in the log. `docs/certificate.md` says what
each stage claims; every statement says what it does not.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import resources
from typing import Any

from django.db import transaction

from governance.canonical import (
    IN_TOTO,
    Signer,
    canonical_json,
    from_base64,
    seal,
    sha256_hex,
    to_base64,
)
from governance.errors import LogIntegrityError, NotFound
from governance.log import checkpoint, events, sequencer
from governance.log.sequencer import Log
from governance.log.tree import LeafNodes, Nodes, inclusion_proof, root_of_inclusion
from governance.models import Certificate, LogCheckpoint, LogLeaf, Withdrawal
from governance.services import claims
from governance.vocabulary import CertificateStage, EventTag

PREDICATE_TYPE = "https://reclaim.example/withdrawal/v1"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"

_STAGES = (
    CertificateStage.BLOCKED,
    CertificateStage.UNLOADED,
    CertificateStage.REBUILT,
    CertificateStage.BACKUPS,
)
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the same bundle has the same bytes


def issue(
    withdrawal: Withdrawal,
    *,
    stage: CertificateStage,
    signer: Signer,
    at: datetime,
    log: Log | None = None,
) -> Certificate:
    """Certify one stage of a withdrawal. Repeated, it gives the first certificate back.

    Raises:
        UnlawfulMove: the facts the stage claims do not hold in the database.
        LogIntegrityError: the log is not what was signed; nothing is issued on top of it.
    """
    log = log or sequencer.configured()
    with transaction.atomic():
        found = (
            Withdrawal.objects.select_for_update(of=("self",))
            .select_related("expert", "ending")
            .get(pk=withdrawal.pk)
        )
        first = Certificate.objects.filter(withdrawal=found, stage=stage).first()
        if first is not None:
            return first
        statement = _statement(found, stage, signer, log.origin, at)
        envelope = canonical_json(seal(IN_TOTO, canonical_json(statement), [signer]))
        certificate = Certificate(
            withdrawal=found,
            stage=stage,
            envelope=envelope.decode(),
            digest=sha256_hex(envelope),
            issued_at=at,
        )
        certificate.leaf_index = _sealed_event(certificate, signer, log, at)
        certificate.save(force_insert=True)
    return certificate


def _sealed_event(certificate: Certificate, signer: Signer, log: Log, at: datetime) -> int:
    """Stage the event of issue, seal it now, and give its place in the log."""
    event: dict[str, Any] = {
        "subject": f"expert:{certificate.withdrawal.expert.name}",
        "by": None,
        "at": at,
        "details": {
            "certificate": certificate.pk,
            "withdrawal": certificate.withdrawal_id,
            "stage": certificate.stage,
            "digest": certificate.digest,
            "key_id": signer.key_id,
        },
    }
    events.stage(EventTag.CERTIFICATE_ISSUED, **event)
    before = LogCheckpoint.objects.values_list("size", flat=True).first() or 0
    sequencer.seal_now(at, log=log)
    body = events.event_body(EventTag.CERTIFICATE_ISSUED, **event)
    return LogLeaf.objects.get(seq__gte=before, body=body).seq


def _statement(
    withdrawal: Withdrawal, stage: CertificateStage, signer: Signer, origin: str, at: datetime
) -> dict[str, Any]:
    claimed = claims.of_stage(withdrawal, stage, at=at)
    subject = claims.withdrawal_facts(withdrawal)
    return {
        "_type": STATEMENT_TYPE,
        "subject": [
            {
                "name": f"withdrawal/{withdrawal.pk}",
                "digest": {"sha256": sha256_hex(canonical_json(subject))},
            },
            *(
                {
                    "name": f"expert/{withdrawal.expert.name}/revision/{revision.number}",
                    "digest": {"sha256": revision.digest},
                }
                for revision in withdrawal.expert.revisions.order_by("number")
            ),
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "stage": stage.value,
            "claim": claimed.claim,
            "evidence": claimed.evidence,
            "not_claimed": list(claimed.not_claimed),
            "withdrawal": subject,
            "issued_at": at.isoformat(),
            "log_origin": origin,
            "signed_by": {"key_id": signer.key_id, "public": to_base64(signer.verifier.public)},
            "verify_with": "python verify.py certificate.zip",
        },
    }


def bundle(withdrawal: Withdrawal, *, log: Log | None = None) -> bytes:
    """A ZIP that proves every certificate issued so far, to anyone, offline.

    Raises:
        NotFound: nothing has been certified yet.
        LogIntegrityError: the log does not prove what it should.
    """
    log = log or sequencer.configured()
    issued = {one.stage: one for one in Certificate.objects.filter(withdrawal=withdrawal)}
    if not issued:
        raise NotFound(
            f"expected a certificate of the {withdrawal}, found none yet; ask again once it is "
            "enforced"
        )
    head = LogCheckpoint.objects.latest("size")
    files: dict[str, bytes] = {"checkpoint": head.note.encode()}
    for number, stage in enumerate(_STAGES, start=1):
        if stage in issued:
            files |= _stage_files(f"{number}-{stage}", issued[stage], head, log)
    files["keys.json"] = _keys(list(issued.values()), log)
    files["verify.py"] = _verifier()
    files["README.txt"] = _readme(withdrawal, list(issued)).encode()
    return _zipped(files)


def _stage_files(
    stem: str, certificate: Certificate, head: LogCheckpoint, log: Log
) -> dict[str, bytes]:
    index = certificate.leaf_index
    leaf = None if index is None else LogLeaf.objects.filter(seq=index).first()
    if index is None or leaf is None or index >= head.size:
        raise LogIntegrityError(
            f"expected the log to hold the issue of {certificate}, found it gone; run verify_log"
        )
    path = _proof(index, bytes(leaf.leaf_hash), head, log)
    proof = "\n".join(
        ["c2sp.org/tlog-proof@v1", f"index {index}", *map(to_base64, path), "", head.note]
    )
    return {
        f"statements/{stem}.json": certificate.envelope.encode(),
        f"events/{stem}.json": bytes(leaf.body),
        f"proofs/{stem}.tlog-proof": proof.encode(),
    }


def _proof(index: int, leaf: bytes, head: LogCheckpoint, log: Log) -> list[bytes]:
    """The inclusion proof, out of a few tiles, or out of all rows where the tiles do not serve."""
    sources: Sequence[Nodes] = (log.tiles, _Rows())
    for nodes in sources:
        try:
            path = inclusion_proof(nodes, index, head.size)
        except (LogIntegrityError, IndexError):
            continue
        if root_of_inclusion(leaf, index, head.size, path) == bytes(head.root_hash):
            return path
    raise LogIntegrityError(
        f"expected a proof of leaf {index} at the head of {head.size}, found that the leaves "
        "give another root; run verify_log"
    )


class _Rows:
    """Subtrees out of the leaves in the database."""

    def node(self, level: int, index: int) -> bytes:
        rows = LogLeaf.objects.filter(seq__gte=index << level, seq__lt=(index + 1) << level)
        hashes = rows.order_by("seq").values_list("leaf_hash", flat=True)
        return LeafNodes([bytes(found) for found in hashes]).node(level, 0)


def _keys(issued: Sequence[Certificate], log: Log) -> bytes:
    """The public keys, as the statements themselves and the log name them."""
    signed_by = [_predicate(one)["signed_by"] for one in issued]
    by_id = {key["key_id"]: key for key in signed_by}
    return canonical_json(
        {
            "certificate_keys": [by_id[key_id] for key_id in sorted(by_id)],
            "log_key": checkpoint.published_key(log.origin, log.signer.verifier),
        }
    )


def _predicate(certificate: Certificate) -> Mapping[str, Any]:
    statement = json.loads(from_base64(json.loads(certificate.envelope)["payload"]))
    predicate: Mapping[str, Any] = statement["predicate"]
    return predicate


def _verifier() -> bytes:
    return resources.files("governance.verifier").joinpath("reclaim_verify.py").read_bytes()


def _readme(withdrawal: Withdrawal, stages: Sequence[str]) -> str:
    return f"""Certificate of withdrawal: expert {withdrawal.expert.name}
Stages certified: {", ".join(stages)}

To check it, with Python 3.11 or later and the package cryptography:

    python verify.py certificate.zip

It needs no network and nothing of the issuer. It prints every claim with OK or FAILED, and the
public keys. The keys came in this file: compare them with ones you got another way, or pass them
with --log-key and --certificate-key. If you trust nothing in this file, take verify.py from the
project's source instead: it is governance/verifier/reclaim_verify.py.

statements/  what is claimed, signed (DSSE envelopes of in-toto statements, Ed25519)
events/      the log entries of their issue
proofs/      that the log holds those entries (C2SP tlog-proof)
checkpoint   the log's signed head (C2SP checkpoint)
keys.json    the public keys
"""


def _zipped(files: Mapping[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _ZIP_TIME)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name])
    return target.getvalue()
