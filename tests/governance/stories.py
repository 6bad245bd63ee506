"""A withdrawal at each of its stages, told in rows, with a log of its own."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from governance.canonical import Signer
from governance.log import sequencer
from governance.log.sequencer import Log
from governance.models import Build, ExpertFence, Withdrawal
from governance.services import certificates
from governance.vocabulary import BuildState, CertificateStage, ExpertState, QuiescedBy
from tests import factories
from tests.factories import after, digest_of


def signer_of(number: int) -> Signer:
    """The same key for the same number, in every run."""
    return Signer(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))


def a_log(folder: Path) -> Log:
    """A log signed by key 1 and published in `folder`."""
    return Log("reclaim.example/log", signer_of(1), folder)


def committed() -> Withdrawal:
    """Alder Press has withdrawn; nothing followed yet. Its former build is buried."""
    expert = factories.expert(name="alder", state=ExpertState.WITHDRAWN)
    revision = factories.revision(expert=expert, digest=digest_of("alder r1"))
    factories.build(revision, state=BuildState.TOMBSTONED)
    factories.snapshot(1)
    factories.snapshot(2)
    withdrawal = factories.withdrawal(expert=expert)
    ExpertFence.objects.create(expert=expert, expert_name=expert.name, revoked_epoch=2)
    return withdrawal


def quiesced(withdrawal: Withdrawal) -> None:
    """One runner acknowledged, another one's lease ran out."""
    withdrawal.quiesced_at, withdrawal.quiesced_by = after(10.1), QuiescedBy.EXPIRY
    withdrawal.settled = [
        {"runner": "runner-1", "incarnation": "1", "how": "acked"},
        {"runner": "runner-2", "incarnation": "2", "how": "expired"},
    ]
    withdrawal.save()
    ExpertFence.objects.update(is_quiesced=True)


def erased(withdrawal: Withdrawal) -> None:
    """Every runner said that it holds the expert no more, and the bytes are gone."""
    withdrawal.erased_at = after(60)
    withdrawal.erasure = {
        "runners": [{"runner": "runner-1", "policy_epoch": 2, "loaded": ["birch"]}],
        "blobs": [{"digest": digest_of("alder r1"), "gone": True}],
    }
    withdrawal.save()


def rebuilt(withdrawal: Withdrawal, /, **fields) -> Build:
    """A build without the expert is served."""
    birch = factories.revision(expert=factories.expert(name="birch"))
    terms = {
        "withdrawal": withdrawal,
        "promoted_at": after(50),
        "proof": {"equals_sources": True, "withdrawn_expert_absent": True},
    }
    return factories.build(birch, **(terms | fields))


def certified(withdrawal: Withdrawal, log: Log, stages=("blocked", "unloaded", "rebuilt")) -> bytes:
    """The bundle of a withdrawal taken through these stages."""
    quiesced(withdrawal)
    erased(withdrawal)
    rebuilt(withdrawal)
    for number, stage in enumerate(stages):
        certificates.issue(
            withdrawal,
            stage=CertificateStage(stage),
            signer=signer_of(2),
            at=after(100 + number),
            log=log,
        )
    sequencer.publish(log)  # the test's transaction never commits, so say it here
    return certificates.bundle(withdrawal, log=log)
