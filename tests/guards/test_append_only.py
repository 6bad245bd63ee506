"""Every table that promises to be append-only refuses UPDATE and DELETE in the database itself."""

from uuid import uuid4

import pytest
from django.apps import apps
from django.db import ProgrammingError, connection, transaction

from governance.models import (
    Certificate,
    ClockPause,
    ConsentEvent,
    ConsentReceipt,
    ConsentRecord,
    ContractReading,
    CorpusProfile,
    CorpusSketch,
    CorpusSource,
    Countersignature,
    DecisionRecord,
    HandOut,
    LicenceTemplate,
    LogCheckpoint,
    LogLeaf,
    OwnerChange,
    ProcessingActivity,
    ReservationSignal,
    Statement,
    StatementRemark,
    Suppression,
    SuppressionLift,
    WholeHistory,
)
from governance.services import approvals, documents
from tests import factories
from tests.factories import NOW, digest_of

pytestmark = pytest.mark.django_db

PROMISED = {
    "ApprovalAct",
    "ApprovalStep",
    "SuppressionLift",
    "Suppression",
    "ProcessingActivity",
    "OwnerChange",
    "ConsentReceipt",
    "Certificate",
    "ClockPause",
    "ConsentEvent",
    "ConsentRecord",
    "ContractReading",
    "CorpusProfile",
    "CorpusSketch",
    "CorpusSource",
    "Countersignature",
    "DecisionRecord",
    "Document",
    "Ending",
    "Finding",
    "HandOut",
    "LicenceTemplate",
    "LogCheckpoint",
    "LogLeaf",
    "PolicySnapshot",
    "ReservationSignal",
    "Statement",
    "StatementRemark",
    "WebhookAttempt",
    "WholeHistory",
}
"""Tables that hold evidence; taking one off this list takes a decision record in docs."""


def consent_record():
    expert = factories.expert()
    return ConsentRecord.objects.create(
        owner=expert.owner,
        expert=expert,
        licence=factories.licence(corpus=expert.corpus),
        controller="c",
        jurisdiction="NL",
        notice_digest=digest_of("notice"),
        withdrawal_method="page",
    )


def consent_receipt():
    record = consent_record()
    event = ConsentEvent.objects.create(record=record, kind="given", method="page")
    return ConsentReceipt.objects.create(
        record=record, event=event, envelope="{}", digest=digest_of("receipt")
    )


def suppression():
    return Suppression.objects.create(keyed_hash=digest_of("kept"), kind="weights")


def contract_reading():
    document = documents.store(b"signed", name="a", media_type="text/plain", by=None, at=NOW)
    licence = factories.licence(contract_digest=document.digest)
    return ContractReading.objects.create(
        licence=licence,
        terms_digest=licence.terms_digest,
        contract_digest=document.digest,
        is_match=True,
        reader=factories.account(),
    )


def countersignature():
    licence = factories.licence()
    return Countersignature.objects.create(
        licence=licence,
        owner=licence.corpus.owner,
        terms_digest=licence.terms_digest,
        signed_by=factories.account(),
        method="page",
    )


def statement():
    fields = {"month": "2027-03-01", "body": {}, "row_count": 0, "rows_digest": digest_of("rows")}
    return Statement.objects.create(owner=factories.owner(), digest=digest_of("body"), **fields)


def approval_request():
    return approvals.ask(
        approvals.Subject(
            kind="hold", subject_kind="x", subject_id="x", title="x", content={}, thread="x"
        ),
        by=factories.account(),
        at=NOW,
    )


ROWS = {
    "ApprovalAct": lambda: approval_request().acts.get(),
    "ApprovalStep": lambda: approval_request().steps.get(),
    "ConsentReceipt": consent_receipt,
    "OwnerChange": lambda: OwnerChange.objects.create(owner=factories.owner(), facts={}),
    "ProcessingActivity": lambda: ProcessingActivity.objects.create(
        expert=factories.expert(), activity="train", lawful_basis="public_domain"
    ),
    "Suppression": suppression,
    "SuppressionLift": lambda: SuppressionLift.objects.create(
        suppression=suppression(), by=factories.account()
    ),
    "Certificate": lambda: Certificate.objects.create(
        withdrawal=factories.withdrawal(), stage="blocked", envelope="{}", digest=digest_of("c")
    ),
    "ClockPause": lambda: ClockPause.objects.create(
        clock="gap", subject_id=uuid4(), reason="r", paused_by=factories.account()
    ),
    "ConsentEvent": lambda: ConsentEvent.objects.create(
        record=consent_record(), kind="given", method="page"
    ),
    "ConsentRecord": consent_record,
    "ContractReading": contract_reading,
    "CorpusProfile": lambda: CorpusProfile.objects.create(corpus=factories.corpus()),
    "CorpusSketch": lambda: CorpusSketch.objects.create(
        corpus=factories.corpus(), minima=[1] * 512, shingle_words=8, document_count=1
    ),
    "CorpusSource": lambda: CorpusSource.objects.create(
        corpus=factories.corpus(), title="t", licence="own"
    ),
    "ReservationSignal": lambda: ReservationSignal.objects.create(
        corpus=factories.corpus(),
        kind="rsl",
        value="v",
        url="https://a.example/",
        seen_at=NOW,
        raw=b"r",
    ),
    "Countersignature": countersignature,
    "DecisionRecord": lambda: DecisionRecord.objects.create(
        path="p", input={}, result={}, requested_by="k", policy_epoch=1
    ),
    "Document": lambda: documents.store(
        b"text", name="a", media_type="text/plain", by=None, at=NOW
    ),
    "Ending": lambda: factories.withdrawal().ending,
    "Finding": factories.finding,
    "HandOut": lambda: HandOut.objects.create(
        build=factories.build(), recipient="A", by=factories.account("a")
    ),
    "LicenceTemplate": lambda: LicenceTemplate.objects.create(
        name="t", title="T", saved_by=factories.account()
    ),
    "LogCheckpoint": lambda: LogCheckpoint.objects.create(
        size=1, root_hash=b"0" * 32, note="n", sealed_at=NOW
    ),
    "LogLeaf": lambda: LogLeaf.objects.create(
        seq=0, body=b"{}", leaf_hash=b"0" * 32, staged_at=NOW, sealed_at=NOW
    ),
    "PolicySnapshot": lambda: factories.snapshot(1),
    "WholeHistory": lambda: WholeHistory.objects.create(history="7393/00000001"),
    "Statement": statement,
    "StatementRemark": lambda: StatementRemark.objects.create(
        statement=statement(), kind="disputed", text="t", written_by=factories.account()
    ),
    "WebhookAttempt": lambda: factories.webhook_delivery().attempts.create(),
}


def declared():
    """Models whose triggers protect both UPDATE and DELETE without a condition."""
    found = set()
    for model in apps.get_app_config("governance").get_models():
        triggers = getattr(model._meta, "triggers", [])
        names = {trigger.name for trigger in triggers if not trigger.condition}
        if any(n.endswith("_never_updated") for n in names) and any(
            n.endswith("_never_deleted") for n in names
        ):
            found.add(model.__name__)
    return found


def test_the_promise_and_the_tables_are_the_same():
    assert declared() == PROMISED == set(ROWS)


@pytest.mark.parametrize("name", sorted(PROMISED))
@pytest.mark.parametrize("act", ["UPDATE", "DELETE"])
def test_append_only_table_refuses(act, name):
    row = ROWS[name]()
    table, key = row._meta.db_table, row._meta.pk.column
    statement = {
        "UPDATE": f'UPDATE "{table}" SET "{key}" = "{key}"',
        "DELETE": f'DELETE FROM "{table}"',
    }[act]
    with (
        pytest.raises(ProgrammingError, match="Cannot"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
    assert type(row).objects.filter(pk=row.pk).exists()
