"""A certificate is issued only when its facts hold, once, signed, and with its place in the log."""

from __future__ import annotations

import io
import json
import zipfile

import pytest

from governance.canonical import from_base64, open_envelope, sha256_hex
from governance.errors import LogIntegrityError, NotFound, UnlawfulMove
from governance.log.verify import verify
from governance.models import Certificate, LogLeaf, RunnerLease, StagedEvent
from governance.services import certificates
from governance.vocabulary import BuildState, CertificateStage
from tests import factories
from tests.factories import NOW, after, digest_of
from tests.governance import stories
from tests.governance.log.conftest import as_intruder
from tests.governance.stories import signer_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def log(tmp_path):
    return stories.a_log(tmp_path / "log")


@pytest.fixture
def withdrawal():
    return stories.committed()


def issue(withdrawal, log, stage="blocked", seconds=100.0):
    return certificates.issue(
        withdrawal, stage=CertificateStage(stage), signer=signer_of(2), at=after(seconds), log=log
    )


def said(certificate):
    payload = open_envelope(json.loads(certificate.envelope), [signer_of(2).verifier])
    return json.loads(payload)


def refused(withdrawal, log, stage, match):
    with pytest.raises(UnlawfulMove, match=match):
        issue(withdrawal, log, stage)
    assert not Certificate.objects.exists()
    assert not StagedEvent.objects.exists()
    assert not LogLeaf.objects.exists()


def test_nothing_is_blocked_before_it_is_settled(withdrawal, log):
    refused(withdrawal, log, "blocked", "found it still being enforced")


def test_a_fence_that_does_not_stand_is_no_block(withdrawal, log):
    stories.quiesced(withdrawal)
    withdrawal.expert.fence.is_quiesced = False
    withdrawal.expert.fence.save()
    refused(withdrawal, log, "blocked", "still being enforced")


def test_blocked_says_when_how_and_for_whom(withdrawal, log):
    stories.quiesced(withdrawal)
    statement = said(issue(withdrawal, log))
    predicate = statement["predicate"]
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert predicate["stage"] == "blocked"
    assert predicate["evidence"]["method"] == "expiry"
    assert predicate["evidence"]["seconds_to_effective"] == pytest.approx(10.1)
    assert [one["how"] for one in predicate["evidence"]["runners"]] == ["acked", "expired"]
    assert predicate["evidence"]["policy"]["after"]["digest"] == digest_of("snapshot 2")
    assert any("blocked is not erased" in line for line in predicate["not_claimed"])


def test_the_subject_is_the_withdrawal_and_every_revision(withdrawal, log):
    stories.quiesced(withdrawal)
    subject = said(issue(withdrawal, log))["subject"]
    assert subject[0]["name"] == f"withdrawal/{withdrawal.pk}"
    assert subject[1] == {
        "name": "expert/alder/revision/1",
        "digest": {"sha256": digest_of("alder r1")},
    }


def test_a_certificate_names_nobody(withdrawal, log):
    stories.quiesced(withdrawal)
    person = factories.account("Cato Elder")
    with as_intruder("governance_ending") as cursor:
        cursor.execute("UPDATE governance_ending SET ended_by_id = %s", [person.pk])
    certificate = issue(withdrawal, log)
    whole = from_base64(json.loads(certificate.envelope)["payload"])
    assert f"account:{person.pk}".encode() in whole
    assert b"Cato" not in whole
    assert b"@" not in whole


def test_answers_under_way_and_the_last_use_are_listed(withdrawal, log):
    early = factories.usage(
        allowed=["alder"], routed={"alder": 3}, opened_at=after(-60), closed_at=after(-50)
    )
    cut = factories.usage(
        allowed=["alder"], opened_at=after(-1), closed_at=after(0.2), finish_reason="content_filter"
    )
    factories.usage(allowed=["birch"], opened_at=after(-1), closed_at=after(1))
    stories.quiesced(withdrawal)
    evidence = said(issue(withdrawal, log))["predicate"]["evidence"]
    assert evidence["last_use"]["order"] == str(early.order_id)
    assert [one["order"] for one in evidence["under_way"]] == [str(cut.order_id)]
    assert evidence["under_way_count"] == 1


def test_unloaded_needs_the_runners_own_word(withdrawal, log):
    stories.quiesced(withdrawal)
    refused(withdrawal, log, "unloaded", "found no record of that")
    stories.erased(withdrawal)
    withdrawal.erasure["runners"][0]["loaded"] = ["alder"]
    withdrawal.save()
    refused(withdrawal, log, "unloaded", r"held by \['runner-1'\]")


def test_unloaded_is_refused_while_a_live_lease_still_lists_the_expert(withdrawal, log):
    stories.quiesced(withdrawal)
    stories.erased(withdrawal)
    factories.lease(
        runner="runner-3", renewed_at=after(99), loaded=[{"name": "alder", "digest": "d"}]
    )
    refused(withdrawal, log, "unloaded", r"held by \['runner-3'\]")
    RunnerLease.objects.update(renewed_at=NOW)  # it died: its lease ran out long ago
    assert said(issue(withdrawal, log, "unloaded"))["predicate"]["stage"] == "unloaded"


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"promoted_at": after(-5)}, "promoted before the withdrawal"),
        ({"is_router_tuned": True, "withdrawal": None}, "tuned router"),
        ({"proof": {}}, "not proved"),
        ({"proof": {"equals_sources": False}}, "not proved"),
        ({"state": BuildState.ASSEMBLED}, "found no promoted build"),
    ],
)
def test_rebuilt_needs_a_promoted_and_proved_build(withdrawal, log, fields, match):
    stories.quiesced(withdrawal)
    stories.erased(withdrawal)
    stories.rebuilt(withdrawal, **fields)
    refused(withdrawal, log, "rebuilt", match)


def test_rebuilt_needs_the_erasure(withdrawal, log):
    stories.quiesced(withdrawal)
    stories.rebuilt(withdrawal)
    refused(withdrawal, log, "rebuilt", "erased")


def test_rebuilt_needs_every_build_with_the_expert_buried(withdrawal, log):
    stories.quiesced(withdrawal)
    stories.erased(withdrawal)
    stories.rebuilt(withdrawal)
    left = factories.build(withdrawal.expert.revisions.get(), state=BuildState.RETIRED)
    refused(withdrawal, log, "rebuilt", rf"builds \[{left.number}\] not buried")


def test_rebuilt_is_refused_while_the_expert_is_in_the_build_served(withdrawal, log):
    stories.quiesced(withdrawal)
    stories.erased(withdrawal)
    factories.build(withdrawal.expert.revisions.get(), promoted_at=after(50))
    refused(withdrawal, log, "rebuilt", "with the expert in it")


def test_one_build_may_answer_two_withdrawals(withdrawal, log):
    stories.quiesced(withdrawal)
    stories.erased(withdrawal)
    build = stories.rebuilt(withdrawal, withdrawal=None)
    predicate = said(issue(withdrawal, log, "rebuilt"))["predicate"]
    assert predicate["evidence"]["build"]["digest"] == build.digest
    assert predicate["evidence"]["proof"]["equals_sources"] is True


def test_backups_are_never_certified_without_a_record(withdrawal, log):
    stories.quiesced(withdrawal)
    refused(withdrawal, log, "backups", "keeps no backups")


def test_a_certificate_knows_its_place_in_the_log(withdrawal, log):
    stories.quiesced(withdrawal)
    certificate = issue(withdrawal, log)
    leaf = LogLeaf.objects.get(seq=certificate.leaf_index)
    event = json.loads(bytes(leaf.body))
    assert event["tag"] == "certificate.issued"
    assert event["subject"] == "expert:alder"
    assert event["details"]["digest"] == certificate.digest
    assert certificate.digest == sha256_hex(certificate.envelope.encode())
    assert verify(log.origin, log.signer.verifier).is_sound


def test_issuing_again_gives_the_first_certificate(withdrawal, log):
    stories.quiesced(withdrawal)
    first = issue(withdrawal, log)
    again = issue(withdrawal, log, seconds=500)
    assert again == first
    assert LogLeaf.objects.count() == 1


def test_nothing_is_issued_on_a_log_that_was_touched(withdrawal, log):
    stories.quiesced(withdrawal)
    stories.erased(withdrawal)
    issue(withdrawal, log)
    with as_intruder() as cursor:
        cursor.execute("DELETE FROM governance_logleaf")
    with pytest.raises(LogIntegrityError):
        issue(withdrawal, log, "unloaded")
    assert Certificate.objects.count() == 1


def test_a_bundle_holds_each_stage_with_its_proof(withdrawal, log):
    content = stories.certified(withdrawal, log)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == sorted(
            ["README.txt", "checkpoint", "keys.json", "verify.py"]
            + [
                f"{kind}/{number}-{stage}.{end}"
                for kind, end in (
                    ("statements", "json"),
                    ("events", "json"),
                    ("proofs", "tlog-proof"),
                )
                for number, stage in enumerate(("blocked", "unloaded", "rebuilt"), start=1)
            ]
        )
        assert archive.read("proofs/1-blocked.tlog-proof").startswith(b"c2sp.org/tlog-proof@v1\n")


def test_a_bundle_is_the_same_with_tiles_and_without(withdrawal, log, tmp_path):
    with_tiles = stories.certified(withdrawal, log)
    elsewhere = stories.a_log(tmp_path / "nowhere")
    assert certificates.bundle(withdrawal, log=elsewhere) == with_tiles


def test_there_is_no_bundle_before_the_first_certificate(withdrawal, log):
    with pytest.raises(NotFound, match="none yet"):
        certificates.bundle(withdrawal, log=log)


def test_a_bundle_is_refused_when_the_log_no_longer_proves_it(withdrawal, log):
    stories.certified(withdrawal, log)
    with as_intruder() as cursor:
        cursor.execute("UPDATE governance_logleaf SET leaf_hash = %s WHERE seq = 1", [b"\0" * 32])
    with pytest.raises(LogIntegrityError, match="run verify_log"):
        certificates.bundle(withdrawal, log=log)
