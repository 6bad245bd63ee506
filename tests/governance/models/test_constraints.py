"""The database states the law: what no code path may write, tried in raw SQL."""

import pytest
from django.db import IntegrityError, ProgrammingError, connection, transaction

from governance.models import (
    ConsentEvent,
    ConsentRecord,
    DecisionRecord,
    Ending,
    Expert,
    ExpertRevision,
    Licence,
    RunnerLease,
)
from tests import factories
from tests.factories import NOW, after, digest_of

pytestmark = pytest.mark.django_db


def sql(statement, *values):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, values)


def set_column(row, **columns):
    names = ", ".join(f'"{name}" = %s' for name in columns)
    table, key = row._meta.db_table, row._meta.pk.column
    sql(f'UPDATE "{table}" SET {names} WHERE "{key}" = %s', *columns.values(), row.pk)


def refused(name, row, **columns):
    with pytest.raises(IntegrityError, match=name):
        set_column(row, **columns)


def protected(name, row, **columns):
    with pytest.raises(ProgrammingError, match=name):
        set_column(row, **columns)


def test_the_requester_of_a_licence_never_decides():
    licence = factories.licence()
    refused("licence_requester_never_decides", licence, decided_by_id=licence.requested_by_id)


def test_a_decided_licence_has_a_name_and_a_time():
    refused("licence_decided_with_name_and_time", factories.licence(), decided_at=None)
    refused(
        "licence_decided_with_name_and_time",
        factories.licence(is_approved=False),
        state="approved",
    )


@pytest.mark.parametrize(
    ("constraint", "columns"),
    [
        ("licence_ends_after_it_starts", {"ends_at": after(days=-31)}),
        ("licence_money_not_negative", {"rate_per_million_tokens": -1}),
        ("licence_extraction_rate_is_a_share", {"max_extraction_rate": 1.01}),
    ],
)
def test_terms_that_cannot_be_are_not_stored(constraint, columns):
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        factories.licence(**columns)


@pytest.mark.parametrize(("first", "second"), [(True, True), (True, False), (False, True)])
def test_approved_licences_never_overlap_an_exclusive_one(first, second):
    corpus = factories.corpus()
    factories.licence(corpus=corpus, is_exclusive=first, ends_at=after(days=1))
    with pytest.raises(IntegrityError, match="exclusi"), transaction.atomic():
        factories.licence(corpus=corpus, is_exclusive=second)
    factories.licence(corpus=corpus, is_exclusive=second, starts_at=after(days=1))
    factories.licence(is_exclusive=True)


def test_an_ended_licence_fills_its_period_only_up_to_its_end():
    corpus = factories.corpus()
    factories.licence(corpus=corpus, is_exclusive=True, stops_at=NOW)
    with pytest.raises(IntegrityError, match="exclusi"), transaction.atomic():
        factories.licence(corpus=corpus, is_exclusive=True, starts_at=after(-1))
    assert factories.licence(corpus=corpus, is_exclusive=True, starts_at=NOW)


@pytest.mark.parametrize(
    "columns",
    [
        {"purposes": ["commercial"]},
        {"ends_at": after(days=900)},
        {"excluded_consumers": ["dara"]},
        {"rate_per_million_tokens": 1},
        {"terms_digest": digest_of("other")},
    ],
)
def test_terms_are_never_updated(columns):
    protected("licence_terms_never_updated", factories.licence(), **columns)


def test_a_licence_lists_reflect_what_was_stored():
    licence = factories.licence(consumers=None, territories=[])
    licence.refresh_from_db()
    assert licence.consumers is None
    assert licence.territories == []
    assert Licence.objects.in_force(NOW).get() == licence


def test_an_ending_names_an_expert_or_a_licence_and_never_both():
    expert, licence = factories.expert(), factories.licence()
    for fields in ({}, {"expert": expert, "licence": licence}):
        with pytest.raises(IntegrityError, match="ending_names_one_target"), transaction.atomic():
            Ending.objects.create(instrument="withdraw", effective_at=NOW, **fields)


def test_the_public_expert_cannot_be_owned():
    with pytest.raises(IntegrityError, match="expert_name_is_not_public"), transaction.atomic():
        factories.expert(name="public")


@pytest.mark.parametrize("state", ["active", "suspended", "ready", "in_review"])
@pytest.mark.parametrize("ended", ["withdrawn", "erased"])
def test_a_withdrawn_expert_never_returns(ended, state):
    protected("expert_withdrawn_never_returns", factories.expert(state=ended), state=state)


def test_a_withdrawn_expert_may_be_erased():
    expert = factories.expert(state="withdrawn")
    set_column(expert, state="erased")
    assert Expert.objects.get().state == "erased"


def test_one_revision_of_an_expert_is_activated():
    expert = factories.expert()
    factories.revision(expert=expert)
    other = factories.revision(expert=expert, state="audited")
    refused("revision_one_activated_an_expert", other, state="activated")


def test_the_requester_never_approves_activation():
    account = factories.account()
    revision = factories.revision(activation_requested_by=account)
    refused("revision_requester_never_activates", revision, activation_decided_by_id=account.pk)


def test_one_build_is_served():
    factories.build()
    with pytest.raises(IntegrityError, match="build_one_promoted"), transaction.atomic():
        factories.build()


def test_what_a_build_is_made_of_never_changes():
    build = factories.build(factories.revision())
    protected("build_content_never_updated", build, experts="[]")
    set_column(build, state="tombstoned")
    protected("build_tombstoned_never_returns", build, state="promoted")


def test_a_router_tuned_build_never_answers_a_withdrawal():
    with (
        pytest.raises(IntegrityError, match="build_router_tuned_never_answers"),
        transaction.atomic(),
    ):
        factories.build(withdrawal=factories.withdrawal(), is_router_tuned=True)


def test_what_a_runner_applied_never_goes_back_and_closed_stays_closed():
    lease = factories.lease(applied_epoch=5)
    protected("lease_epoch_never_decreases", lease, applied_epoch=4)
    set_column(lease, closed_at=NOW)
    protected("lease_closed_never_reopened", lease, closed_at=None)
    assert RunnerLease.objects.get().applied_epoch == 5


def test_a_settled_withdrawal_says_how():
    withdrawal = factories.withdrawal()
    refused("withdrawal_quiesced_says_how", withdrawal, quiesced_at=NOW)
    refused("withdrawal_quiesced_says_how", withdrawal, quiesced_by="acks")


def test_a_usage_row_is_closed_once_with_a_reason_and_never_deleted():
    row = factories.usage(closed_at=None, finish_reason="")
    refused("usage_closed_says_why", row, closed_at=NOW)
    set_column(row, closed_at=NOW, finish_reason="stop")
    protected("usage_closed_never_updated", row, completion_tokens=1)
    with pytest.raises(ProgrammingError, match="usage_never_deleted"):
        sql("DELETE FROM governance_usagerecord")


def test_numbers_of_an_incarnation_are_given_out_once():
    row = factories.usage()
    with pytest.raises(IntegrityError, match="usage_sequence_once"), transaction.atomic():
        factories.usage(incarnation=row.incarnation, gw_seq=row.gw_seq)


@pytest.mark.parametrize("interval", [(0.2, 0.3), (0.0, 0.05)])
def test_a_rate_lies_inside_its_interval(interval):
    low, high = interval
    with pytest.raises(IntegrityError, match="finding_rate_inside"), transaction.atomic():
        factories.finding(rate=0.1, rate_low=low, rate_high=high)


@pytest.mark.parametrize(("role", "has_owner"), [("owner", False), ("legal", True)])
def test_only_the_owner_role_names_an_owner(role, has_owner):
    owner = factories.owner() if has_owner else None
    with pytest.raises(IntegrityError, match="membership_owner_role"), transaction.atomic():
        factories.account(role=role, owner=owner)


def test_territories_and_jurisdictions_are_country_codes():
    for make, name in ((factories.owner, "jurisdiction"), (factories.consumer, "territory")):
        with pytest.raises(IntegrityError, match="is_a_country"), transaction.atomic():
            make(**{name: "nl"})


def test_a_registry_number_is_used_once_a_country():
    factories.owner(registry_number="1", jurisdiction="NL")
    factories.owner(registry_number="1", jurisdiction="DE")
    with pytest.raises(IntegrityError, match="registry_number_once"), transaction.atomic():
        factories.owner(registry_number="1", jurisdiction="NL")


def test_a_follow_up_that_is_done_has_an_end():
    refused("follow_up_done_has_an_end", factories.follow_up(), state="done")


def test_digests_of_one_expert_are_never_taken_twice():
    revision = factories.revision()
    with pytest.raises(IntegrityError, match="revision_digest_once"), transaction.atomic():
        factories.revision(expert=revision.expert, digest=revision.digest, state="audited")
    assert ExpertRevision.objects.count() == 1


def test_append_only_tables_still_take_new_rows():
    expert = factories.expert()
    record = ConsentRecord.objects.create(
        owner=expert.owner,
        expert=expert,
        licence=factories.licence(corpus=expert.corpus),
        controller="c",
        jurisdiction="NL",
        notice_digest=digest_of("notice"),
        withdrawal_method="page",
    )
    ConsentEvent.objects.create(record=record, kind="given", method="page")
    DecisionRecord.objects.create(path="p", input={}, result={}, requested_by="k", policy_epoch=1)
    assert record.events.count() == DecisionRecord.objects.count() == 1
