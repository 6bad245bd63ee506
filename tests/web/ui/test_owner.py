"""An owner sees use and money, consents, and takes back with one click."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from governance.log import sequencer
from governance.models import ConsentEvent, FollowUp, Withdrawal
from governance.services import certificates, licences, snapshots, withdrawals
from governance.vocabulary import (
    CertificateStage,
    ExpertState,
    FollowUpKind,
    FollowUpState,
    Purpose,
    Use,
)
from tests.web import stories

HTMX = {"HX-Request": "true"}


def text_of(answer) -> str:
    return answer.content.decode()


def asked_anew(story):
    """A second licence for `news` that nobody has consented to."""
    cast = story.cast
    terms = licences.Terms(
        uses=[Use.ANSWER],
        purposes=[Purpose.EDUCATION],
        starts_at=timezone.now() - timedelta(hours=2),
    )
    at = timezone.now() - timedelta(hours=1)
    corpus = cast.experts["news"].corpus
    asked = licences.request(corpus, terms=terms, by=cast.cato, at=at)
    return licences.approve(asked, by=cast.celia, at=at)


def test_an_owner_sees_its_own_experts_alone(by):
    page = text_of(by("ada").get("/owner/"))
    assert "Code of Alder Press" in page
    assert "Languages of Birch Archive" not in page


def test_use_and_money_add_up(by):
    page = text_of(by("ada").get("/owner/experts/code/"))
    # 50 answers of 13,200 tokens, 45 of 100 parts by `code`, 40 EUR for a million
    assert "297,000" in page
    assert "50 requests" in page
    assert "11.88" in page
    assert "Dara" in page


def test_an_approved_licence_waits_for_consent_and_gets_it(by, story):
    licence = asked_anew(story)
    path = "/owner/experts/news/"
    assert f"{licence} waits for your consent" in text_of(by("ada").get(path))
    by("ada").post(f"{path}consent/{licence}/")
    assert "waits for your consent" not in text_of(by("ada").get(path))
    assert ConsentEvent.objects.filter(record__licence=licence, actor=story.cast.ada).exists()


def test_what_is_consented_to_is_said_in_plain_words_first(by, story):
    licence = asked_anew(story)
    page = by("ada").get("/owner/experts/news/")
    assert licences.plain_words(licence) in [plain for _, plain in page.context["licences"]]


def test_a_licence_of_another_corpus_is_not_there_to_consent_to(by):
    assert by("ada").post("/owner/experts/code/consent/news-texts-v1/").status_code == 404


def test_one_post_takes_an_expert_back(by):
    before = snapshots.current().policy_epoch
    answer = by("ada").post("/owner/experts/code/withdraw/", {"reason": "A new publisher"})
    withdrawal = Withdrawal.objects.get(expert__name="code")
    assert answer.url == f"/owner/withdrawals/{withdrawal.pk}/"
    assert withdrawal.ending.reason == "A new publisher"
    assert stories.expert("code").state == ExpertState.WITHDRAWN
    assert snapshots.current().policy_epoch == before + 1


def test_pressing_twice_is_the_same_withdrawal(by):
    ada = by("ada")
    first = ada.post("/owner/experts/code/withdraw/").url
    again = snapshots.current().policy_epoch
    assert ada.post("/owner/experts/code/withdraw/").url == first
    assert snapshots.current().policy_epoch == again
    assert Withdrawal.objects.filter(expert__name="code").count() == 1


def test_what_was_taken_back_offers_no_second_click(by):
    page = text_of(by("ada").get("/owner/experts/poems/"))
    assert "/owner/experts/poems/withdraw/" not in page
    assert "See how far it is" in page


def test_consent_to_what_was_taken_back_is_refused(by, story):
    path = f"/owner/experts/poems/consent/{story.licence('poems')}/"
    assert "propose a new expert" in text_of(by("ada").post(path, follow=True))


def states_of(answer) -> dict[str, str]:
    return {step.title: step.state for step in answer.context["steps"]}


def test_a_fresh_withdrawal_waits_for_the_runners(by, story):
    answer = by("ada").get(f"/owner/withdrawals/{story.withdrawal.pk}/")
    assert states_of(answer) == {
        "Withdrawn": "done",
        "Blocked": "now",
        "Rebuilt": "next",
        "Erased": "next",
        "Certified": "next",
    }
    assert 'hx-trigger="every 1s"' in text_of(answer)


def test_what_never_was_in_a_build_needs_no_rebuild(by):
    ada = by("ada")
    url = ada.post("/owner/experts/news/withdraw/").url
    assert "Rebuilt" not in states_of(ada.get(url))


def test_a_stage_we_could_not_finish_is_not_shown_as_going_on(by, story):
    quiesce = FollowUp.objects.filter(kind=FollowUpKind.QUIESCE, subject_id=story.withdrawal.pk)
    quiesce.update(state=FollowUpState.FAILED)
    states = states_of(by("ada").get(f"/owner/withdrawals/{story.withdrawal.pk}/"))
    assert (states["Blocked"], states["Rebuilt"]) == ("failed", "next")


def test_the_live_part_comes_alone(by, story):
    answer = by("ada").get(f"/owner/withdrawals/{story.withdrawal.pk}/", headers=HTMX)
    assert text_of(answer).lstrip().startswith('<div id="withdrawal"')


@pytest.fixture
def blocked(story):
    """The withdrawal of the story, in force everywhere, with its first certificate."""
    now = timezone.now()
    assert withdrawals.try_settle(story.withdrawal, waited_s=9_999, at=now)
    log = sequencer.configured()
    certificates.issue(story.withdrawal, stage=CertificateStage.BLOCKED, signer=log.signer, at=now)
    story.withdrawal.refresh_from_db()
    return story.withdrawal


def test_a_certificate_is_listed_as_soon_as_it_is_signed(by, blocked):
    page = text_of(by("ada").get(f"/owner/withdrawals/{blocked.pk}/"))
    assert "Download the certificate" in page
    assert "Blocked" in text_of(by("ada").get("/owner/withdrawals/"))
    assert "poems" not in text_of(by("bela").get("/owner/withdrawals/"))
