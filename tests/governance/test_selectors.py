"""What pages read: right sums in exact decimals, and as many queries for one row as for many."""

from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from governance import selectors
from governance.vocabulary import CertificateStage, Role
from tests import cast as story
from tests import factories
from tests.factories import NOW, after

pytestmark = pytest.mark.django_db


def licensed(name="code", **terms):
    """An active expert under a licence of 40 EUR for a million tokens."""
    corpus = factories.corpus()
    licence = factories.licence(corpus=corpus, **{"rate_per_million_tokens": Decimal(40), **terms})
    return factories.expert(name=name, corpus=corpus), licence


def answer(expert, share, *, tokens=1_000, **fields):
    """A closed answer of `tokens` of which the expert's share of the router weight is `share`."""
    return factories.usage(
        allowed=[expert.name],
        prompt_tokens=tokens // 4,
        completion_tokens=tokens - tokens // 4,
        mass={"public": 8 * (1 - share), expert.name: 8 * share},
        **fields,
    )


def queries(read):
    with CaptureQueriesContext(connection) as seen:
        read()
    return len(seen)


def test_money_is_tokens_times_share_times_rate():
    expert, _ = licensed()
    answer(expert, 0.25)
    answer(expert, 0.5, tokens=3_000)
    figures = selectors.expert_figures(expert, at=after(1))
    assert figures.tokens == 250 + 1_500
    assert figures.amount == Decimal("0.07")
    assert (figures.requests, figures.currency) == (2, "EUR")
    assert figures.last_used_at == NOW


def test_open_answers_and_those_without_the_expert_cost_nothing():
    expert, _ = licensed()
    answer(expert, 0.5, closed_at=None, finish_reason="")
    factories.usage()
    figures = selectors.expert_figures(expert, at=after(1))
    assert (figures.requests, figures.amount, figures.last_used_at) == (0, 0, None)


def test_an_answer_no_licence_covered_is_shown_and_not_charged():
    expert, _ = licensed(purposes=["commercial"])
    answer(expert, 0.5, purpose="research")
    found = selectors.statement(expert.owner, from_at=NOW, until_at=after(1))
    assert [(line.licence, line.amount) for line in found.lines] == [("", Decimal("0.00"))]
    assert found.totals == {}


def test_the_licence_of_the_moment_says_the_price():
    expert, first = licensed(ends_at=NOW)
    factories.licence(
        corpus=expert.corpus, starts_at=NOW, rate_per_million_tokens=Decimal(80), currency="USD"
    )
    answer(expert, 0.5, opened_at=after(-60))
    answer(expert, 0.5)
    found = selectors.statement(expert.owner, from_at=after(-99), until_at=after(1))
    assert found.totals == {"EUR": Decimal("0.02"), "USD": Decimal("0.04")}
    assert {line.licence for line in found.lines} >= {first.reference}


def test_a_statement_has_a_line_for_each_consumer_and_only_its_period():
    expert, _ = licensed()
    dara, other = factories.consumer(name="Dara"), factories.consumer(name="Other")
    answer(expert, 0.5, consumer=dara)
    answer(expert, 0.5, consumer=dara)
    answer(expert, 0.25, consumer=other)
    answer(expert, 0.5, consumer=other, closed_at=after(10))
    found = selectors.statement(expert.owner, from_at=NOW, until_at=after(10))
    lines = {line.consumer: (line.requests, line.tokens, line.amount) for line in found.lines}
    assert lines == {
        "Dara": (2, Decimal(1_000), Decimal("0.04")),
        "Other": (1, Decimal(250), Decimal("0.01")),
    }
    assert found.totals == {"EUR": Decimal("0.05")}


def test_owners_see_their_own_experts_only():
    mine, _ = licensed("mine")
    theirs, _ = licensed("theirs")
    answer(theirs, 0.5)
    rows = selectors.owner_experts([mine.owner], at=after(1))
    assert [(row.expert.name, row.tokens) for row in rows] == [("mine", 0)]


def test_the_end_of_the_longest_licence_in_force_is_shown():
    expert, _ = licensed(ends_at=after(days=3))
    factories.licence(corpus=expert.corpus, ends_at=after(days=9))
    factories.licence(corpus=expert.corpus, ends_at=after(days=20), is_approved=False)
    row = selectors.expert_figures(expert, at=after(1))
    assert row.licence_ends_at == after(days=9)


def test_who_used_an_expert_is_listed_most_first():
    expert, _ = licensed()
    little, much = factories.consumer(name="Little"), factories.consumer(name="Much")
    answer(expert, 0.1, consumer=little)
    answer(expert, 0.9, consumer=much, opened_at=after(-5))
    rows = selectors.consumers_of(expert, at=after(1))
    assert [(row.name, row.requests, row.tokens) for row in rows] == [
        ("Much", 1, 900),
        ("Little", 1, 100),
    ]
    assert rows[0].last_used_at == after(-5)


def test_queries_do_not_grow_with_rows():
    first, _ = licensed("first")
    owner = first.owner
    answer(first, 0.5)

    def read():
        rows = selectors.owner_experts([owner], at=after(1))
        assert [row.expert.corpus.title for row in rows]
        selectors.statement(owner, from_at=NOW, until_at=after(1))
        selectors.consumers_of(first, at=after(1))
        selectors.due_items(at=NOW)
        selectors.runners(policy_epoch=1, at=NOW)

    before = queries(read)
    for number in range(6):
        corpus = factories.corpus(owner=owner)
        licence = factories.licence(corpus=corpus, ends_at=after(days=5))
        factories.licence(corpus=corpus, is_approved=False)
        expert = factories.expert(name=f"more-{number}", corpus=corpus)
        factories.revision(expert=expert, state="activation_requested")
        factories.follow_up(state="failed")
        answer(expert, 0.5)
        assert licence.pk
    assert len(selectors.owner_experts([owner], at=after(1))) == 7
    assert queries(read) == before


def test_due_items_say_who_has_to_do_what():
    factories.licence(is_approved=False, reference="waits-v1")
    factories.licence(ends_at=after(days=5), reference="ends-v1")
    factories.licence(ends_at=after(days=300), reference="runs-v1")
    factories.follow_up(state="failed", cause="training of code was ordered")
    found = {(item.what, item.about, item.role) for item in selectors.due_items(at=NOW)}
    assert found == {
        ("Decide on a licence", "waits-v1", Role.LEGAL),
        ("Renew a licence", "ends-v1", Role.LEGAL),
        ("Look at a failure", "training of code was ordered", Role.ENGINEER),
    }


def test_runners_tell_who_is_live_and_who_is_behind():
    factories.lease(runner="a", applied_epoch=3)
    factories.lease(runner="b", applied_epoch=2, renewed_at=after(-20))
    factories.lease(runner="c", closed_at=NOW)
    found = [
        (line.lease.runner, line.remaining_s, line.is_live, line.is_current)
        for line in selectors.runners(policy_epoch=3, at=after(4))
    ]
    assert found == [("a", 6.0, True, True), ("b", 0.0, False, False)]


def test_withdrawal_progress_follows_the_story_to_its_end():
    cast = story.meet()
    story.served(cast)
    factories.lease(applied_epoch=1)
    withdrawal = story.withdraw(cast, "code")
    found = selectors.withdrawal_progress(withdrawal)
    assert (found.confirmed, found.runners, found.took_ms, found.rebuilt) == (0, 1, None, None)
    assert found.stages == (
        CertificateStage.BLOCKED,
        CertificateStage.UNLOADED,
        CertificateStage.REBUILT,
    )
    story.promote(cast, withdrawal.builds.get())
    assert selectors.withdrawal_progress(withdrawal).rebuilt == withdrawal.builds.get()
