"""A build takes another's place: answers begun on the former one run out, nothing new begins."""

from __future__ import annotations

from functools import partial

import pytest
from django.utils import timezone

from governance.policy.types import Snapshot
from governance.services import builds, licences
from governance.vocabulary import BuildState, Instrument, RevisionState
from modelops.contract import EndCause, FinishReason, RefusalReason
from tests import factories
from tests.worker import clients
from tests.worker.installation import wait_until
from tests.worker.runner.conftest import Running
from worker.runner import service
from worker.tasks import enforcement

eventually = partial(wait_until, timeout_s=10)
ENDLESS = 1_000_000


@pytest.fixture(autouse=True)
def looks_often(monkeypatch):
    monkeypatch.setattr(service, "REPORT_S", 0.02)


def replaced(story, running, *names, anchor=None):
    """Promote a build of these experts, on another anchor in new revisions; wait until the runner
    has it and has looked after its builds once more."""
    revisions = [story.experts[name].revisions.get() for name in names]
    if anchor:
        for one in revisions:
            one.state = RevisionState.SUPERSEDED
            one.save()
        revisions = [factories.revision(expert=one.expert, anchor=anchor) for one in revisions]
        for one in revisions:
            factories.finding(revision=one, found_at=timezone.now())
    build = factories.build(
        *revisions, state=BuildState.ASSEMBLED, anchor=anchor or story.build.anchor
    )
    eventually(lambda: build.digest in clients.health(running.url)["builds"])
    builds.promote(build, at=timezone.now())
    eventually(lambda: clients.health(running.url)["build"] == build.digest)
    eventually(lambda: clients.health(running.url)["builds"] == [build.digest])
    return build


def let_end(running):
    """Each answer under way has one word left to say."""
    for engine in running.engines:
        for stream in engine.streams.values():
            stream.said = stream.order.sampling.max_tokens - 1


def begun(running, order):
    answer = clients.stream(running.url, order)
    next(answer)
    return answer


def test_an_answer_runs_out_on_the_build_it_began_on_and_its_expert_is_unloaded_then(
    running, story
):
    order = story.order("code", max_tokens=ENDLESS)
    answer = begun(running, order)
    replaced(story, running, "languages")
    (engine,) = running.engines
    assert engine.loaded() == {story.ref("code"), story.ref("languages")}
    [refused] = clients.ask(running.url, story.order("code", build_digest=story.build.digest))
    assert refused.reason is RefusalReason.UNKNOWN_BUILD
    [*_, end] = clients.ask(running.url, story.order("code", "languages", max_tokens=1))
    assert end.tally.routed.keys() == {"public", "languages"}
    assert order.order_id in engine.streams
    let_end(running)
    end = list(answer)[-1][1]
    assert (end.finish_reason, end.cause) == (FinishReason.LENGTH, EndCause.NONE)
    eventually(lambda: engine.loaded() == {story.ref("languages")})


def test_a_withdrawal_ends_it_at_once_and_is_acknowledged(running, story):
    answer = begun(running, story.order("code", max_tokens=ENDLESS))
    replaced(story, running, "languages")
    withdrawal = story.withdraw("code")
    enforcement.settle(withdrawal, lambda: None)
    withdrawal.refresh_from_db()
    assert withdrawal.quiesced_by == "acks"
    assert running.engines[0].loaded() == {story.ref("languages")}
    end = list(answer)[-1][1]
    assert (end.finish_reason, end.cause) == (
        FinishReason.CONTENT_FILTER,
        EndCause.CONSENT_WITHDRAWN,
    )


def test_a_licence_ended_meanwhile_ends_it_at_once(running, story):
    answer = begun(running, story.order("code", max_tokens=ENDLESS))
    replaced(story, running, "languages")
    licence = story.experts["code"].corpus.licences.get()
    licences.end(licence, instrument=Instrument.REVOKE, by=None, at=timezone.now())
    assert list(answer)[-1][1].finish_reason is FinishReason.CONTENT_FILTER


@pytest.mark.parametrize("allowed", ["code", ""], ids=["licensed", "public alone"])
def test_the_engine_of_a_former_anchor_stays_until_its_last_answer_has_ended(
    running, story, allowed
):
    kept = tuple(story.ref(name) for name in ([allowed] if allowed else []))
    answer = begun(running, story.order(max_tokens=ENDLESS, allowed=kept))
    replaced(story, running, "code", anchor=factories.anchor())
    former, latter = running.engines
    eventually(lambda: former.loaded() == set(kept))
    [*_, end] = clients.ask(running.url, story.order(max_tokens=1, allowed=tuple(latter.loaded())))
    assert end.tally.routed.keys() == {"public", "code"}
    assert former.streams
    let_end(running)
    assert list(answer)[-1][1].finish_reason is FinishReason.LENGTH
    eventually(lambda: running.runner.fleet.loaded() == latter.loaded())
    eventually(former._stopping.is_set)


def test_a_lost_wake_up_is_noticed_where_a_withdrawn_expert_is_still_in_memory(story, tmp_path):
    deaf = Running(tmp_path, lease_s=120, listens=False).start()
    answer = begun(deaf, story.order("code", max_tokens=ENDLESS))
    story.withdraw("code")
    eventually(lambda: deaf.engines[0].loaded() == {story.ref("languages")})
    assert list(answer)[-1][1].cause is EndCause.CONSENT_WITHDRAWN
    deaf.stop()


def test_policy_that_forgot_the_former_build_would_cut_the_answer(running, story, monkeypatch):
    monkeypatch.setattr(Snapshot, "over", lambda snapshot, _: snapshot)
    answer = begun(running, story.order("code", max_tokens=ENDLESS))
    replaced(story, running, "languages")
    assert list(answer)[-1][1].finish_reason is FinishReason.CONTENT_FILTER
