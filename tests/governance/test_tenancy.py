"""No owner's row is seen or written by another, whatever the query forgot to say.

The database is asked directly: through the ORM without a filter, in plain SQL, and for the shape of
its catalogue, so that a table made tomorrow cannot slip through.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
from django.apps import apps
from django.db import ProgrammingError, connection, transaction

from governance import tenancy
from governance.models import (
    Build,
    Certificate,
    Corpus,
    DataOwner,
    Expert,
    FollowUp,
    Licence,
    Membership,
    PolicySnapshot,
    StagedEvent,
)
from governance.policy.types import Snapshot
from governance.services import consent, effects, experts, snapshots
from governance.services.effects.scope import Scope
from governance.vocabulary import CertificateStage, Instrument, Role
from tests import cast as people
from tests.factories import NOW, digest_of

pytestmark = pytest.mark.django_db

CORE = {
    "DataOwner", "Membership", "Corpus", "Licence", "Ending", "ConsentRecord", "ConsentEvent",
    "Expert", "ExpertRevision", "Finding", "Withdrawal", "Certificate",
}  # fmt: skip
MODELS = {model.__name__: model for model in apps.get_app_config("governance").get_models()}


@pytest.fixture
def cast(db):
    """Both owners with a served expert each, and one of Alder's taken back."""
    cast = people.meet()
    people.served(cast, "code", "languages", "poems")
    withdrawal = people.withdraw(cast, "poems")
    Certificate.objects.create(
        withdrawal=withdrawal, stage=CertificateStage.BLOCKED, digest=digest_of("certificate")
    )
    # ALTER TABLE, which the mutants need, waits for no deferred check.
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    return cast


@pytest.fixture
def alder(cast):
    return tenancy.of_owners([cast.alder.pk])


@pytest.fixture
def birch(cast):
    return tenancy.of_owners([cast.birch.pk])


def counts():
    return {name: MODELS[name].objects.count() for name in tenancy.OWNED}


def leaks(mine, theirs):
    """Owned tables of which two owners see a common row that belongs to one of them."""
    found = []
    for name in tenancy.OWNED:
        seen = []
        for tenant in (mine, theirs):
            rows = MODELS[name].objects.all()
            if name in tenancy.COMMON_ROWS:
                rows = rows.extra(where=[f"NOT ({tenancy.COMMON_ROWS[name]})"])
            with tenancy.acting_as(tenant):
                seen.append(set(rows.values_list("pk", flat=True)))
        if seen[0] & seen[1]:
            found.append(name)
    return found


def forged(cast):
    """A corpus written in Birch Archive's name."""
    return Corpus(owner=cast.birch, slug="forged", title="Forged", source_licence="none")


# ── The catalogue ────────────────────────────────────────────────────────────────────────────────


def ways_to_an_owner():
    """Tables from which foreign keys lead to an owner, not counting ways through exempt ones."""
    leading = {"DataOwner"}
    while True:
        found = {
            name
            for name, model in MODELS.items()
            if name not in tenancy.EXEMPT
            and any(
                field.many_to_one or field.one_to_one
                for field in model._meta.concrete_fields
                if field.is_relation and field.related_model.__name__ in leading
            )
        }
        if found <= leading:
            return leading
        leading |= found


def test_every_table_that_leads_to_an_owner_is_owned_or_says_why_not():
    unheld = ways_to_an_owner() - set(tenancy.OWNED)
    assert not unheld, f"add a line to governance.tenancy.OWNED (or EXEMPT) for {sorted(unheld)}"


def test_no_table_is_both_owned_and_exempt_and_all_exist():
    assert not set(tenancy.OWNED) & set(tenancy.EXEMPT)
    assert set(tenancy.OWNED) | set(tenancy.EXEMPT) <= set(MODELS)
    assert all(tenancy.EXEMPT.values())


def test_every_owned_table_has_forced_security_and_a_policy():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_class c WHERE c.relrowsecurity AND c.relforcerowsecurity"
            " AND EXISTS (SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid AND p.polcmd = '*'"
            " AND p.polqual IS NOT NULL AND p.polwithcheck IS NOT NULL)"
        )
        secured = {row[0] for row in cursor.fetchall()}
    assert secured == {MODELS[name]._meta.db_table for name in tenancy.OWNED}


def test_our_database_role_is_bound_by_the_policies():
    assert tenancy.role_passes_policies(connection) is False


def test_what_is_installed_is_not_touched_again():
    assert tenancy.missing(connection) == []
    assert tenancy.install(connection) == []


def test_a_table_whose_security_was_taken_off_is_named_and_mended():
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE governance_licence NO FORCE ROW LEVEL SECURITY")
    assert tenancy.missing(connection) == ["governance_licence"]
    assert tenancy.install(connection) == ["governance_licence"]
    assert tenancy.missing(connection) == []


# ── Reading ──────────────────────────────────────────────────────────────────────────────────────


def test_who_is_nobody_sees_no_row_of_any_owner(cast):
    rows = counts()
    assert all(rows[name] for name in CORE), "the story must leave a row in each of these"
    with tenancy.acting_as(tenancy.NOBODY):
        assert not any(counts().values())


@pytest.mark.parametrize("tenant", [tenancy.STAFF, tenancy.SYSTEM])
def test_staff_and_our_own_processes_see_everything(cast, tenant):
    expected = counts()
    with tenancy.acting_as(tenant):
        assert counts() == expected


@pytest.mark.parametrize("odd", ["staff ", "STAFF", "system,staff", "*", "staff,"])
def test_a_tenant_that_is_not_exactly_one_of_the_words_sees_nothing(cast, odd):
    with tenancy.acting_as(odd):
        assert not any(counts().values())


def test_two_owners_have_no_row_in_common(cast, alder, birch):
    assert leaks(alder, birch) == []
    with tenancy.acting_as(alder):
        assert set(Expert.objects.values_list("name", flat=True)) == {"code", "poems"}
        assert not Licence.objects.filter(corpus__slug="languages-texts").exists()
    with tenancy.acting_as(birch):
        assert set(Expert.objects.values_list("name", flat=True)) == {"languages"}


def test_plain_sql_is_held_like_the_orm(cast, alder):
    with tenancy.acting_as(alder), connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT o.slug FROM governance_licence l"
            " JOIN governance_corpus c ON c.id = l.corpus_id"
            " RIGHT JOIN governance_dataowner o ON o.id = c.owner_id"
        )
        assert cursor.fetchall() == [("alder-press",)]


def test_the_mutant_without_security_is_caught(cast, alder, birch):
    with connection.cursor() as cursor:
        for table in tenancy.statements():
            cursor.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    assert set(leaks(alder, birch)) >= CORE


def test_a_person_of_two_owners_sees_both_and_no_third(cast):
    with tenancy.acting_as(tenancy.of_owners([cast.alder.pk, cast.birch.pk])):
        assert DataOwner.objects.count() == 2
    with tenancy.acting_as(tenancy.of_owners([])):
        assert DataOwner.objects.count() == 0


# ── Writing ──────────────────────────────────────────────────────────────────────────────────────


def test_an_owner_cannot_write_in_anothers_name(cast, alder):
    with (
        tenancy.acting_as(alder),
        pytest.raises(ProgrammingError, match="row-level security"),
        transaction.atomic(),
    ):
        forged(cast).save(force_insert=True)
    assert not Corpus.objects.filter(slug="forged").exists()


def test_an_owner_can_neither_change_delete_nor_give_away(cast, alder):
    with tenancy.acting_as(alder):
        assert Expert.objects.filter(name="languages").update(title="mine") == 0
        assert DataOwner.objects.filter(pk=cast.birch.pk).update(legal_name="mine") == 0
        with connection.cursor() as cursor:
            cursor.execute(
                "DELETE FROM governance_membership WHERE account_id = %s", [cast.bela.pk]
            )
            assert cursor.rowcount == 0
        with (
            pytest.raises(ProgrammingError, match="row-level security"),
            transaction.atomic(),
        ):
            Corpus.objects.filter(slug="code-texts").update(owner=cast.birch)
    assert Expert.objects.get(name="languages").title != "mine"
    assert Membership.objects.filter(account=cast.bela).exists()


def test_an_owner_sees_who_is_staff_and_cannot_become_it(cast, alder):
    with tenancy.acting_as(alder):
        assert Membership.objects.filter(role=Role.LEGAL).count() == 2
        with (
            pytest.raises(ProgrammingError, match="row-level security"),
            transaction.atomic(),
        ):
            Membership.objects.create(account=cast.ada, role=Role.LEGAL)
        assert Membership.objects.filter(role=Role.LEGAL).update(account=cast.ada) == 0


def test_policy_published_in_an_owners_act_still_knows_all_owners(cast, alder):
    with tenancy.acting_as(alder):
        published = snapshots.publish(reason="an owner's act", at=NOW)
        assert tenancy.now() == alder
    compiled = Snapshot.from_body(published.body)
    assert {grant.expert for grant in compiled.grants} >= {"code", "languages"}


ACTS = {
    "withdraw": lambda cast: consent.withdraw(
        cast.experts["code"], by=cast.ada, at=NOW, method="owner page"
    ),
    "withdraw for a purpose": lambda cast: consent.withdraw(
        cast.experts["code"], by=cast.ada, at=NOW, method="owner page",
        scope=Scope(purposes=("research",)),
    ),
    "suspend": lambda cast: experts.suspend(
        cast.experts["code"], reason="paused", by=cast.ada, at=NOW
    ),
    "terminate a licence": lambda cast: effects.put_on_licence(
        Instrument.TERMINATE, cast.licences["code"], by=cast.ada, at=NOW
    ),
    "give consent again": lambda cast: consent.give(
        cast.experts["code"], licence=cast.licences["code"], by=cast.ada, at=NOW,
        method="owner page",
    ),
}  # fmt: skip


def aftermath():
    """What an act left behind that others than its owner depend on."""
    return {
        "policy": PolicySnapshot.objects.order_by("-policy_epoch").values_list("digest").first(),
        "builds": list(Build.objects.order_by("number").values("number", "state", "experts")),
        "work": sorted(
            FollowUp.objects.values_list("kind", "subject_kind", "state", "cause"), key=str
        ),
        "log": StagedEvent.objects.count(),
    }


@pytest.mark.parametrize("name", ACTS)
def test_an_owners_act_leaves_behind_what_it_would_if_everyones_rows_were_seen(cast, alder, name):
    found = []
    for tenant in (tenancy.SYSTEM, alder):
        mark = transaction.savepoint()
        with tenancy.acting_as(tenant):
            ACTS[name](cast)
        found.append(aftermath())
        transaction.savepoint_rollback(mark)
    assert found[1] == found[0]


def test_the_build_after_an_owners_withdrawal_keeps_the_others_experts(cast, alder):
    with tenancy.acting_as(alder):
        ACTS["withdraw"](cast)
    planned = Build.objects.order_by("-number").first()
    assert [row["name"] for row in planned.experts] == ["languages"]


# ── Who a connection is ──────────────────────────────────────────────────────────────────────────


def test_one_is_again_who_one_was(alder, birch):
    assert tenancy.now() == tenancy.SYSTEM
    with tenancy.acting_as(alder):
        with tenancy.acting_as(birch):
            assert tenancy.now() == birch
        assert tenancy.now() == alder
    assert tenancy.now() == tenancy.SYSTEM


def test_also_after_an_error_in_the_database(alder):
    with pytest.raises(ProgrammingError), transaction.atomic(), tenancy.acting_as(alder):
        connection.cursor().execute("SELECT nonsense")
    assert tenancy.now() == tenancy.SYSTEM
    with pytest.raises(ProgrammingError), tenancy.acting_as(alder), transaction.atomic():
        connection.cursor().execute("SELECT nonsense")
    assert tenancy.now() == tenancy.SYSTEM


def test_a_rolled_back_transaction_takes_its_tenant_with_it(alder):
    with transaction.atomic():
        tenancy.take(alder)
        transaction.set_rollback(True)
    assert tenancy.now() == tenancy.SYSTEM


def test_leaving_comes_back_to_what_the_process_is(alder):
    tenancy.take(alder)
    tenancy.leave()
    assert tenancy.now() == tenancy.SYSTEM


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("entry", "expected"),
    [("import web.asgi", ""), ("from worker.boot import boot; boot()", tenancy.SYSTEM)],
    ids=["the web", "our own processes"],
)
def test_a_process_is_nobody_unless_it_is_ours(entry, expected, db):
    told = subprocess.run(
        [sys.executable, "-c", f"{entry}\nfrom governance import tenancy\nprint(tenancy.now())"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert told.stdout.strip() == expected
