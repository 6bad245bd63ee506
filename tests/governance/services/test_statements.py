"""Statements: issued once, recomputed by a stranger from exported rows, disputed in the open."""

import csv
import itertools
import json
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from django.db import ProgrammingError, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from governance.errors import InvalidTerms, NotPermitted, UnlawfulMove
from governance.models import Licence, StagedEvent, Statement, UsageRecord
from governance.selectors import accounts
from governance.services import statements
from governance.verifier import reclaim_statement
from governance.vocabulary import RemarkKind, Role
from tests import factories

pytestmark = pytest.mark.django_db

MARCH = date(2027, 3, 1)
IN_MARCH = datetime(2027, 3, 10, 9, 30, tzinfo=UTC)
LATER = datetime(2027, 4, 1, 2, 0, tzinfo=UTC)
SCRIPT = Path(reclaim_statement.__file__)


def licensed(name, owner=None, **terms):
    """An expert with a licence; both."""
    corpus = factories.corpus(**({"owner": owner} if owner else {}))
    fields = {"rate_per_million_tokens": Decimal(40), "starts_at": IN_MARCH.replace(day=1)}
    fields["decided_at"] = fields["starts_at"]
    return factories.expert(name=name, corpus=corpus), factories.licence(
        corpus=corpus, **{**fields, **terms}
    )


def answered(licences, mass, prompt=40, completion=60, **fields):
    """A closed answer; `licences` by expert."""
    return factories.usage(
        allowed=sorted(licences),
        licences={name: licence.reference for name, licence in licences.items()},
        mass=mass,
        prompt_tokens=prompt,
        completion_tokens=completion,
        **{"closed_at": IN_MARCH, "opened_at": IN_MARCH, **fields},
    )


@pytest.fixture
def alder():
    return factories.owner(slug="alder", legal_name="Alder Press")


def issued(owner, month=MARCH, at=LATER):
    return statements.issue(owner, month=month, by=None, at=at)


def exported(statement, folder, suffix="jsonl"):
    """The two files an owner downloads."""
    rows, said = folder / f"rows.{suffix}", folder / "statement.json"
    found = list(accounts.rows_of(statement.owner, statement.month))
    if suffix == "csv":
        with rows.open("w", newline="") as file:
            table = csv.DictWriter(file, list(asdict(found[0])))
            table.writeheader()
            table.writerows(asdict(row) for row in found)
    else:
        rows.write_text("".join(accounts.json_line(row) for row in found))
    said.write_text(json.dumps({"body": statement.body, "digest": statement.digest}))
    return rows, said


def verified(*files):
    """What the stand-alone script says, in a process that can import nothing of ours."""
    done = subprocess.run(
        [sys.executable, "-I", SCRIPT, *files], capture_output=True, text=True, cwd="/", check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_tokens_are_attributed_by_routing_mass_and_paid_at_the_licences_rate(alder):
    _, licence = licensed("code", alder)
    answered({"code": licence}, {"public": 60.0, "code": 40.0}, 400_000, 600_000)
    body = issued(alder).body
    [line] = body["lines"]
    assert (line["expert"], line["licence"], line["answers"]) == ("code", licence.reference, 1)
    assert (line["prompt_tokens"], line["completion_tokens"]) == (400_000, 600_000)
    assert Decimal(line["attributed_tokens"]) == 400_000
    assert body["totals"] == {"EUR": "16.00"}


def test_only_answers_closed_in_the_month_and_routed_to_the_owners_experts_count(alder):
    _, licence = licensed("code", alder)
    _, others = licensed("languages")
    half = {"public": 1.0, "code": 1.0}
    answered({"code": licence}, half)
    answered({"code": licence}, half, closed_at=LATER)
    answered({"code": licence}, half, closed_at=datetime(2027, 4, 1, tzinfo=UTC))
    answered({"code": licence}, half, closed_at=datetime(2027, 2, 28, 23, 59, tzinfo=UTC))
    answered({"code": licence, "languages": others}, {"public": 1.0, "languages": 1.0})
    UsageRecord.objects.create(  # still open
        **{
            field: getattr(factories.usage(), field)
            for field in ("incarnation", "consumer", "purpose", "policy_epoch", "build_digest")
        },
        gw_seq=99,
        order_id="00000000-0000-4000-8000-000000000099",
        decision_id="00000000-0000-4000-8000-000000000098",
        allowed=["code"],
        opened_at=IN_MARCH,
    )
    [line] = issued(alder).body["lines"]
    assert line["answers"] == 1


def test_cents_are_rounded_half_up_once_a_line(alder):
    _, licence = licensed("code", alder, rate_per_million_tokens=Decimal("1"))
    for _ in range(3):  # 3 × 1,666.666667 tokens
        answered({"code": licence}, {"public": 2.0, "code": 1.0}, 0, 5_000)
    [line] = issued(alder).body["lines"]
    assert line["attributed_tokens"] == "5000.000001"
    assert line["amount"] == "0.01"  # 0.005000000001


def test_a_minimum_is_made_up_to_and_only_where_it_is_missed(alder):
    _, licence = licensed("code", alder, minimum_per_period=Decimal("25.00"))
    _, idle = licensed("poems", alder, minimum_per_period=Decimal("7.50"), currency="USD")
    _, busy = licensed("plays", alder, minimum_per_period=Decimal("1.00"))
    answered({"code": licence}, {"code": 1.0}, 250_000, 250_000)  # 20.00
    answered({"plays": busy}, {"plays": 1.0}, 250_000, 250_000)
    body = issued(alder).body
    made_up = {line["licence"]: line["amount"] for line in body["lines"] if not line["expert"]}
    assert made_up == {licence.reference: "5.00", idle.reference: "7.50"}
    assert body["totals"] == {"EUR": "45.00", "USD": "7.50"}


def test_a_statement_is_issued_once_and_only_after_the_month(alder):
    _, licence = licensed("code", alder)
    answered({"code": licence}, {"code": 1.0})
    with pytest.raises(UnlawfulMove):
        issued(alder, at=datetime(2027, 4, 1, 0, 30, tzinfo=UTC))
    before = StagedEvent.objects.count()
    first = issued(alder)
    answered({"code": licence}, {"code": 1.0})
    assert issued(alder) == first
    assert StagedEvent.objects.count() == before + 1
    for change in (Statement.objects.all().delete, lambda: Statement.objects.update(row_count=0)):
        with pytest.raises(ProgrammingError), transaction.atomic():
            change()


def test_last_months_statements_are_issued_for_those_who_have_something(alder):
    _, licence = licensed("code", alder)
    answered({"code": licence}, {"code": 1.0})
    licensed("languages")
    assert statements.issue_due(at=datetime(2027, 4, 1, 0, 30, tzinfo=UTC)) == 0
    assert statements.issue_due(at=LATER) == 1
    assert statements.issue_due(at=LATER) == 0
    assert Statement.objects.get().owner == alder


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_an_owner_recomputes_it_from_the_rows_alone(alder, tmp_path, suffix):
    _, licence = licensed("code", alder, minimum_per_period=Decimal("3.00"))
    licensed("poems", alder, minimum_per_period=Decimal("7.50"))
    for number in range(1, 20):
        answered({"code": licence}, {"public": number / 7, "code": 1 / 3}, number, 997 * number)
    code, said = verified(*exported(issued(alder), tmp_path, suffix))
    assert code == 0, said
    assert "OK the statement is what its rows say" in said
    assert "total 10.50 EUR" in said


@pytest.mark.parametrize(
    ("old", "new"),
    [('"amount": "', '"amount": "9'), ('"totals": {"EUR": "', '"totals": {"EUR": "9')],
)
def test_a_changed_statement_is_found_out(alder, tmp_path, old, new):
    _, licence = licensed("code", alder)
    answered({"code": licence}, {"code": 1.0}, 10**6, 0)
    rows, said = exported(issued(alder), tmp_path)
    assert old in said.read_text()
    said.write_text(said.read_text().replace(old, new))
    code, words = verified(rows, said)
    assert code == 1
    assert "FAILED" in words


def test_a_missing_row_is_found_out(alder, tmp_path):
    _, licence = licensed("code", alder)
    for _ in range(3):
        answered({"code": licence}, {"code": 1.0}, 10**6, 0)
    rows, said = exported(issued(alder), tmp_path)
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[1:]))
    code, words = verified(rows, said)
    assert code == 1
    assert "FAILED the digest of the rows" in words


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rate=st.decimals("0", "99999.9999", places=4),
    minimum=st.decimals("0", "500", places=2),
    answers=st.lists(
        st.tuples(
            st.integers(0, 5_000),
            st.integers(0, 5_000),
            st.floats(0, 1e6, allow_subnormal=False),
            st.floats(0, 1e6, allow_subnormal=False),
        ),
        max_size=8,
    ),
)
def test_service_and_stranger_agree_on_any_rows(rate, minimum, answers):
    with transaction.atomic():
        expert, licence = licensed(
            f"x{Licence.objects.count()}", rate_per_million_tokens=rate, minimum_per_period=minimum
        )
        for prompt, completion, own, public in answers:
            mass = {"public": public, expert.name: own}
            answered({expert.name: licence}, mass, prompt, completion)
        statement = issued(expert.owner)
        rows = [asdict(row) for row in accounts.rows_of(expert.owner, MARCH)]
        lines = reclaim_statement.lines_of(rows)
        said = {"body": statement.body, "digest": statement.digest}
        assert reclaim_statement.problems(said, lines, statement.body["rows_digest"]) == []
        transaction.set_rollback(True)


def test_rows_name_no_consumer_and_groups_are_never_small(alder):
    _, licence = licensed("code", alder)
    sectors = ["P", "P", "P", "P", "J", "J", "K"]
    for sector in sectors:
        answered({"code": licence}, {"code": 1.0}, consumer=factories.consumer(sector=sector))
    statement = issued(alder)
    text = "".join(accounts.json_line(row) for row in accounts.rows_of(alder, MARCH))
    assert "consumer" not in text
    groups = [(group["sectors"], group["consumers"]) for group in statement.body["groups"]]
    assert groups == [(["P"], 4), (["J", "K"], 3)]


@pytest.mark.parametrize(
    ("sectors", "expected"),
    [
        (["P", "P"], []),
        (["P", "P", "P"], [(["P"], 3)]),
        (["P", "P", "P", "J"], [(["J", "P"], 4)]),
        (["P", "P", "P", "P", "K", "K", "K", "J"], [(["P"], 4), (["J", "K"], 4)]),
    ],
)
def test_nobody_is_found_by_subtracting(alder, sectors, expected):
    _, licence = licensed("code", alder)
    for sector in sectors:
        answered({"code": licence}, {"code": 1.0}, consumer=factories.consumer(sector=sector))
    found = accounts.account_of(alder, MARCH).groups
    assert [(list(group.sectors), group.consumers) for group in found] == expected


def test_an_owner_disputes_staff_answer_and_settle(alder):
    ada = factories.account(role=Role.OWNER, owner=alder)
    cato, mallory = factories.account(role=Role.LEGAL), factories.account()
    _, licence = licensed("code", alder)
    answered({"code": licence}, {"code": 1.0})
    statement = issued(alder)

    minutes = itertools.count()

    def say(kind, by, text="words"):
        at = LATER + timedelta(minutes=next(minutes))
        return statements.remark(statement, kind=kind, text=text, by=by, at=at)

    with pytest.raises(UnlawfulMove):
        say(RemarkKind.ANSWERED, cato)
    with pytest.raises(InvalidTerms):
        say(RemarkKind.DISPUTED, ada, "  ")
    for kind, wrong in ((RemarkKind.DISPUTED, cato), (RemarkKind.SETTLED, ada)):
        with pytest.raises(NotPermitted):
            say(kind, wrong)
    with pytest.raises(NotPermitted):
        say(RemarkKind.DISPUTED, mallory)
    before = StagedEvent.objects.count()
    assert statements.standing(statement) is None
    for kind, by in (
        (RemarkKind.DISPUTED, ada),
        (RemarkKind.ANSWERED, cato),
        (RemarkKind.COMMENTED, ada),
    ):
        say(kind, by)
    assert statements.standing(statement) == RemarkKind.ANSWERED
    say(RemarkKind.SETTLED, cato)
    assert statements.standing(statement) == RemarkKind.SETTLED
    assert StagedEvent.objects.count() == before + 4
