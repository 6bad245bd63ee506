"""Who is told of what, each once: from the log, by the clock, and through endpoints."""

import json
from datetime import timedelta

import pytest

from governance.errors import InvalidTerms, NotFound, NotPermitted, UnlawfulMove
from governance.log import sequencer
from governance.log.sequencer import Log
from governance.models import Consumer, Notice, NoticeCursor, StagedEvent, WebhookDelivery
from governance.services import clocks, experts, licences, notices, webhooks
from governance.vocabulary import (
    Clock,
    DeliveryState,
    Instrument,
    MailRhythm,
    NoticeKind,
    Role,
)
from tests import cast as story
from tests import factories
from tests.governance.log.conftest import signer_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast(tmp_path):
    made = story.meet()
    story.served(made, "code", "languages")
    made.log = Log("reclaim.example/log", signer_of(1), tmp_path / "tiles")
    tell(made)
    Notice.objects.all().delete()
    return made


def tell(cast):
    """Seal what was staged and tell of it."""
    sequencer.seal_now(cast.at, log=cast.log)
    while notices.tell_of_log(at=cast.at):
        pass


def told(kind, **by):
    return Notice.objects.filter(kind=kind, **by)


def used(cast, *, days_ago=1.0, consumer=None, expert="code"):
    return factories.usage(
        incarnation=factories.lease(),
        consumer=consumer or cast.dara,
        allowed=[expert],
        opened_at=cast.at - timedelta(days=days_ago),
    )


# ── From the log ─────────────────────────────────────────────────────────────────────────────────
def test_a_withdrawal_is_told_to_its_owner_to_staff_and_to_those_who_used_it(cast):
    nova = factories.consumer(slug="nova")
    used(cast)
    used(cast, consumer=nova, days_ago=120)
    story.withdraw(cast, "code")
    tell(cast)
    readers = set(told(NoticeKind.EXPERT_WITHDRAWN).values_list("account__email", flat=True))
    assert readers == {f"{one}@example.org" for one in ("ada", "cato", "celia", "edda")} | {None}
    asked = told(NoticeKind.EXPERT_WITHDRAWN, consumer__isnull=False).get()
    assert asked.consumer == cast.dara
    assert asked.needs_acknowledgement
    assert cast.licences["code"].reference not in asked.text


def test_telling_again_tells_nothing_twice(cast):
    story.withdraw(cast, "code")
    tell(cast)
    before = Notice.objects.count()
    NoticeCursor.objects.update(next_seq=0)
    for row in Notice.objects.all():
        assert row.key
    tell(cast)
    again = Notice.objects.filter(kind=NoticeKind.EXPERT_WITHDRAWN)
    assert again.count() == 4
    assert Notice.objects.count() >= before


def test_every_story_of_the_log_can_be_told(cast):
    used(cast)
    licence = cast.licences["code"]
    experts.suspend(cast.experts["code"], by=cast.edda, at=cast.later(), reason="r")
    experts.resume(cast.experts["code"], by=cast.edda, at=cast.later())
    licences.end(licence, instrument=Instrument.TERMINATE, by=cast.cato, at=cast.later())
    tell(cast)
    kinds = set(Notice.objects.values_list("kind", flat=True))
    assert {
        NoticeKind.EXPERT_SUSPENDED,
        NoticeKind.EXPERT_RESUMED,
        NoticeKind.LICENCE_ENDED,
    } <= kinds
    ended = told(NoticeKind.LICENCE_ENDED, account=cast.ada).get()
    assert "not erased" in ended.text


def test_an_owner_hears_nothing_of_another(cast):
    story.withdraw(cast, "code")
    tell(cast)
    assert not Notice.objects.filter(account=cast.bela, kind=NoticeKind.EXPERT_WITHDRAWN).exists()
    assert not Notice.objects.filter(account=cast.mallory).exists()


def test_an_act_pays_for_no_telling(cast, django_assert_max_num_queries):
    before = (Notice.objects.count(), WebhookDelivery.objects.count())
    factories.webhook(created_by=cast.cato)
    story.withdraw(cast, "code")
    assert (Notice.objects.count(), WebhookDelivery.objects.count()) == before


# ── Reminders ────────────────────────────────────────────────────────────────────────────────────
def expiring(cast, days, **fields):
    return factories.licence(
        corpus=cast.experts["languages"].corpus,
        starts_at=cast.at - timedelta(days=400),
        ends_at=cast.at + timedelta(days=days),
        **fields,
    )


def reminders(licence):
    rows = Notice.objects.filter(kind=NoticeKind.LICENCE_EXPIRING)
    keys = rows.filter(subject=f"licence:{licence.reference}").values_list("key", flat=True)
    return sorted({int(key.split(":")[2]) for key in keys}, reverse=True)


def test_an_end_is_told_at_ninety_thirty_and_seven_days_once_each(cast):
    licence, begun = expiring(cast, 100), cast.at
    for day in range(100):
        notices.remind(at=begun + timedelta(days=day))
        notices.remind(at=begun + timedelta(days=day, hours=1))
    assert reminders(licence) == [90, 30, 7]
    per_person = Notice.objects.filter(kind=NoticeKind.LICENCE_EXPIRING, account=cast.bela)
    assert per_person.count() == 3


def test_a_late_run_tells_of_the_nearest_threshold_alone(cast):
    licence = expiring(cast, 5)
    assert notices.remind(at=cast.at)["expiring"] == 1
    assert notices.remind(at=cast.at + timedelta(days=1))["expiring"] == 0
    assert reminders(licence) == [7]


def test_what_was_ended_otherwise_needs_no_reminder(cast):
    licence = expiring(cast, 20)
    licences.end(licence, instrument=Instrument.REVOKE, by=None, at=cast.later())
    assert notices.remind(at=cast.later())["expiring"] == 0


def test_a_silent_consumer_is_asked_again_unless_the_clock_stands_still(cast):
    used(cast)
    story.withdraw(cast, "code")
    tell(cast)
    first = told(NoticeKind.EXPERT_WITHDRAWN, consumer=cast.dara).get()
    at = first.told_at + timedelta(days=8)
    clocks.pause(Clock.ACKNOWLEDGEMENT, first.pk, by=cast.cato, at=at, reason="moved house")
    assert notices.remind(at=at)["chased"] == 0
    clocks.resume(Clock.ACKNOWLEDGEMENT, first.pk, by=cast.cato, at=at + timedelta(seconds=1))
    assert notices.remind(at=at + timedelta(days=1))["chased"] == 1
    assert notices.remind(at=at + timedelta(days=2))["chased"] == 0
    again = Notice.objects.get(key__startswith="chase:")
    notices.acknowledge(again, by=None, at=at + timedelta(days=3), as_whom="Dara")
    first.refresh_from_db()
    assert first.acknowledged_as == "Dara"
    assert notices.remind(at=at + timedelta(days=60))["chased"] == 0


# ── Readers ──────────────────────────────────────────────────────────────────────────────────────
def test_a_token_proves_what_was_sent_and_no_other(cast):
    used(cast)
    story.withdraw(cast, "code")
    tell(cast)
    asked = told(NoticeKind.EXPERT_WITHDRAWN, consumer=cast.dara).get()
    token = notices.token_of(asked)
    assert notices.of_token(token) == asked
    for odd in (token[:-1], "x", notices.token_of(told(NoticeKind.EXPERT_WITHDRAWN).first())):
        if odd != token:
            with pytest.raises(NotFound):
                notices.of_token(odd)


def test_acknowledging_stages_one_event_and_the_first_one_stands(cast):
    used(cast)
    story.withdraw(cast, "code")
    tell(cast)
    asked = told(NoticeKind.EXPERT_WITHDRAWN, consumer=cast.dara).get()
    with pytest.raises(NotPermitted):
        notices.acknowledge(asked, by=cast.ada, at=cast.later(), as_whom="Dara")
    with pytest.raises(InvalidTerms):
        notices.acknowledge(asked, by=None, at=cast.later(), as_whom=" ")
    before = StagedEvent.objects.count()
    notices.acknowledge(asked, by=None, at=cast.later(), as_whom="Dara")
    notices.acknowledge(asked, by=cast.cato, at=cast.later(), as_whom="by letter")
    assert StagedEvent.objects.count() == before + 1
    asked.refresh_from_db()
    assert asked.acknowledged_as == "Dara"


def test_mail_waits_for_the_morning_or_stays_away_as_its_reader_wants(cast):
    notices.prefer(cast.ada, mail=MailRhythm.DAILY)
    notices.prefer(cast.cato, mail=MailRhythm.NEVER)
    notices.prefer(cast.celia, mail=MailRhythm.AT_ONCE, never_mailed=[NoticeKind.EXPERT_WITHDRAWN])
    story.withdraw(cast, "code")
    tell(cast)
    at = {
        one.account: one.mail_at for one in told(NoticeKind.EXPERT_WITHDRAWN, account__isnull=False)
    }
    assert at[cast.ada].hour == 7
    assert at[cast.ada] > cast.at
    assert at[cast.cato] is None
    assert at[cast.celia] is None
    assert at[cast.edda] == cast.at
    assert notices.unread(cast.cato) >= 1


def test_a_consumer_with_an_address_is_mailed_where_to_acknowledge(cast):
    Consumer.objects.filter(pk=cast.dara.pk).update(contact_email="dara@example.org")
    used(cast)
    story.withdraw(cast, "code")
    tell(cast)
    (mail,) = [one for one in notices.mails_due(at=cast.at) if one.to == "dara@example.org"]
    assert "/notices/acknowledge/" in mail.body


# ── Endpoints ────────────────────────────────────────────────────────────────────────────────────
def endpoint(cast, **fields):
    defaults = {"url": "https://hooks.example/in", "by": cast.cato, "at": cast.later()}
    return webhooks.create(**{**defaults, **fields})


def test_each_party_is_told_its_own_and_only_what_it_asked_for(cast):
    used(cast)
    ours = endpoint(cast)
    alders = endpoint(cast, owner=cast.alder, by=cast.ada)
    birchs = endpoint(cast, owner=cast.birch, by=cast.bela)
    daras = endpoint(cast, consumer=cast.dara)
    picky = endpoint(cast, kinds=[NoticeKind.CERTIFICATE_ISSUED])
    story.withdraw(cast, "code")
    tell(cast)
    got = {
        row.endpoint: webhooks.message_of(row)
        for row in WebhookDelivery.objects.filter(kind=NoticeKind.EXPERT_WITHDRAWN)
    }
    assert set(got) == {ours, alders, daras}
    assert birchs not in got
    assert picky not in got
    assert "acknowledge_url" in got[daras]["data"]
    assert "acknowledge_url" not in got[ours]["data"]
    assert got[ours]["type"] == "expert.withdrawn"


@pytest.mark.parametrize("url", ["ftp://a.example", "https://u:p@a.example/", "https://", "x"])
def test_an_odd_address_is_refused(cast, url):
    with pytest.raises(InvalidTerms):
        endpoint(cast, url=url)


def test_only_who_speaks_for_a_party_makes_or_uses_its_endpoint(cast):
    with pytest.raises(NotPermitted):
        endpoint(cast, by=cast.ada)
    with pytest.raises(NotPermitted):
        endpoint(cast, owner=cast.alder, by=cast.bela)
    made = endpoint(cast, owner=cast.alder, by=cast.ada)
    for act in (webhooks.disable, webhooks.change_secret, webhooks.send_test):
        with pytest.raises(NotPermitted):
            act(made, by=cast.bela, at=cast.later())


def test_a_secret_is_the_same_until_it_is_changed_and_stands_in_no_row(cast):
    made = endpoint(cast)
    secret = webhooks.secret_of(made)
    assert secret == webhooks.secret_of(type(made).objects.get(pk=made.pk))
    changed = webhooks.change_secret(made, by=cast.cato, at=cast.later())
    assert webhooks.secret_of(changed) != secret
    assert secret not in json.dumps(list(type(made).objects.values()), default=str)


def test_acts_on_endpoints_stage_one_event_each(cast):
    def counted(act):
        before = StagedEvent.objects.count()
        result = act()
        assert StagedEvent.objects.count() == before + 1
        return result

    made = counted(lambda: endpoint(cast))
    counted(lambda: webhooks.change_secret(made, by=cast.cato, at=cast.later()))
    row = webhooks.send_test(made, by=cast.cato, at=cast.later())
    with pytest.raises(UnlawfulMove):
        webhooks.replay(row, by=cast.cato, at=cast.later())
    webhooks.record(row, webhooks.Answer(204), at=cast.later())
    again = counted(lambda: webhooks.replay(row, by=cast.cato, at=cast.later()))
    assert again.state == DeliveryState.DUE
    counted(lambda: webhooks.disable(made, by=cast.cato, at=cast.later()))
    webhooks.disable(made, by=cast.cato, at=cast.later())
    with pytest.raises(UnlawfulMove):
        webhooks.send_test(made, by=cast.cato, at=cast.later())


def test_a_message_is_claimed_by_one_courier_and_comes_back_when_it_dies(cast):
    row = webhooks.send_test(endpoint(cast), by=cast.cato, at=cast.later())
    assert webhooks.claim_due(at=cast.at, limit=9) == [row]
    assert webhooks.claim_due(at=cast.at, limit=9) == []
    later = cast.at + timedelta(seconds=webhooks.CLAIM_S)
    assert webhooks.claim_due(at=later, limit=9) == [row]


def test_staff_accounts_that_left_are_told_nothing(cast):
    type(cast.edda).objects.filter(pk=cast.edda.pk).update(is_active=False)
    story.withdraw(cast, "code")
    tell(cast)
    assert not Notice.objects.filter(account=cast.edda).exists()
    assert Notice.objects.filter(account__memberships__role=Role.LEGAL).exists()
