"""Duties: opened by what happens, once; closed by proof, once."""

from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import ProgrammingError, transaction

from governance.errors import InvalidTerms, UnlawfulMove
from governance.models import Certificate, Duty, Ending, StagedEvent
from governance.services import documents, duties
from tests import factories
from tests.factories import NOW, after, digest_of

pytestmark = pytest.mark.django_db


def opened(at=NOW):
    """The duties there are after a look at `at`, as action and due day."""
    duties.open_due(at=at)
    return {(duty.action, duty.due_at) for duty in Duty.objects.all()}


def test_a_licence_without_terms_owes_nothing():
    factories.licence()
    assert opened() == set()


def test_approval_opens_what_the_licence_obliges_to():
    licence = factories.licence(
        starts_at=after(days=10),
        decided_at=NOW,
        duties=[
            {"action": "attribute", "within_days": 5, "about": "Name Alder Press on the site"},
            {"action": "inform", "about": "Tell of the first build"},
            {"action": "delete", "within_days": 3},
            {"action": "sing"},
        ],
    )
    assert opened() == {("attribute", after(days=15)), ("inform", after(days=40))}
    found = Duty.objects.get(action="attribute")
    assert (found.owner, found.licence) == (licence.corpus.owner, licence)
    assert found.about == "Name Alder Press on the site"


def test_required_attribution_is_a_duty_unless_the_licence_names_one_itself():
    factories.licence(decided_at=NOW, requires_attribution=True, attribution_text="By Alder")
    factories.licence(
        decided_at=NOW,
        requires_attribution=True,
        duties=[{"action": "attribute", "about": "On every page"}],
    )
    duties.open_due(at=NOW)
    assert set(Duty.objects.values_list("about", flat=True)) == {"By Alder", "On every page"}


def test_nothing_is_owed_for_what_was_not_approved():
    factories.licence(is_approved=False, requires_attribution=True, rate_per_million_tokens=40)
    assert opened(after(days=90)) == set()


@pytest.mark.parametrize(
    "terms",
    [
        {"rate_per_million_tokens": 40},
        {"minimum_per_period": 10},
        {"duties": [{"action": "compensate", "within_days": 30}]},
    ],
)
def test_every_month_in_force_is_to_be_paid(terms):
    begin = datetime(2027, 1, 20, tzinfo=UTC)
    factories.licence(starts_at=begin, ends_at=datetime(2027, 3, 1, tzinfo=UTC), **terms)
    found = opened(datetime(2027, 5, 2, tzinfo=UTC))
    assert found == {
        ("compensate", datetime(2027, 2, 1, tzinfo=UTC) + timedelta(days=30)),
        ("compensate", datetime(2027, 3, 1, tzinfo=UTC) + timedelta(days=30)),
    }


def test_an_ending_opens_word_to_the_owner_and_deletion_where_it_is_agreed():
    licence = factories.licence(
        duties=[{"action": "delete", "within_days": 7}], stops_at=after(days=1)
    )
    plain = factories.licence()
    for one in (licence, plain):
        Ending.objects.create(instrument="revoke", licence=one, effective_at=after(days=1))
    Ending.objects.create(instrument="suspend", licence=plain, effective_at=NOW)
    assert opened(NOW) == set()
    duties.open_due(at=after(days=1))
    assert set(Duty.objects.values_list("licence", "action", "due_at")) == {
        (licence.pk, "inform", after(days=31)),
        (licence.pk, "delete", after(days=8)),
        (plain.pk, "inform", after(days=31)),
    }


def test_a_version_that_was_followed_has_not_ended():
    former = factories.licence(duties=[{"action": "delete"}])
    factories.licence(corpus=former.corpus, supersedes=former)
    Ending.objects.create(instrument="terminate", licence=former, effective_at=NOW)
    assert opened() == set()


def test_a_withdrawal_opens_erasure_and_word_and_both_are_proved_by_what_follows():
    withdrawal = factories.withdrawal()
    assert opened(NOW) == {("delete", after(days=30)), ("inform", after(days=30))}
    Certificate.objects.create(
        withdrawal=withdrawal, stage="blocked", envelope="{}", digest=digest_of("c")
    )
    duties.open_due(at=after(60))
    assert list(Duty.objects.filter(done_at=None).values_list("action", flat=True)) == ["delete"]
    withdrawal.erased_at = after(90)
    withdrawal.save()
    duties.open_due(at=after(120))
    found = Duty.objects.get(action="delete")
    assert (found.done_at, found.done_by) == (after(120), None)
    assert "erased at" in found.proof


def test_looking_again_opens_nothing_and_every_opening_is_in_the_log_once():
    factories.licence(requires_attribution=True, rate_per_million_tokens=40)
    factories.withdrawal()
    first = duties.open_due(at=after(days=60))
    events = StagedEvent.objects.count()
    assert first == Duty.objects.count() == events > 3
    assert duties.open_due(at=after(days=60)) == 0
    assert StagedEvent.objects.count() == events


def owed():
    factories.licence(requires_attribution=True)
    duties.open_due(at=NOW)
    return Duty.objects.get()


def test_done_needs_proof_and_happens_once_with_one_event():
    duty, cato = owed(), factories.account()
    with pytest.raises(InvalidTerms):
        duties.mark_done(duty, by=cato, at=NOW, proof="  ")
    file = documents.store(b"shown", name="a.txt", media_type="text/plain", by=cato, at=NOW)
    before = StagedEvent.objects.count()
    done = duties.mark_done(duty, by=cato, at=after(5), document=file)
    assert (done.done_by, done.proof_document, done.done_at) == (cato, file, after(5))
    with pytest.raises(UnlawfulMove):
        duties.mark_done(duty, by=cato, at=after(6), proof="again")
    assert StagedEvent.objects.count() == before + 1


@pytest.mark.parametrize("change", [{"done_at": None, "proof": ""}, {"proof": "other words"}])
def test_the_database_keeps_what_was_done_as_it_was(change):
    duties.mark_done(owed(), by=None, at=NOW, proof="named on the site")
    with pytest.raises(ProgrammingError, match="Cannot"), transaction.atomic():
        Duty.objects.update(**change)


def test_the_database_never_moves_a_deadline():
    owed()
    with pytest.raises(ProgrammingError), transaction.atomic():
        Duty.objects.update(due_at=after(days=999))
    with pytest.raises(ProgrammingError), transaction.atomic():
        Duty.objects.all().delete()


def test_months_are_calendar_months():
    assert list(duties.ended_months(datetime(2028, 3, 1, tzinfo=UTC), 2)) == [
        date(2028, 2, 1),
        date(2028, 1, 1),
    ]
    assert duties.next_month(date(2027, 12, 31)) == date(2028, 1, 1)
