"""Builds: planned from what is active, promoted only when proved, newest and lawful."""

import pytest

from governance.errors import UnlawfulMove
from governance.models import Build, Expert, FollowUp
from governance.services import builds, experts, followups, snapshots
from governance.vocabulary import BuildState, FollowUpKind, FollowUpState
from tests import cast as story
from tests.factories import digest_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast():
    return story.meet()


def names(build):
    return [row["name"] for row in build.experts]


def ready(cast, *names):
    """Experts activated, each in a planned build; the last build has them all."""
    return [story.activate(cast, story.contribute(cast, story.grant(cast, name))) for name in names]


def plan(cast, reason="tests"):
    return builds.plan_current(reason=reason, by=cast.edda, at=cast.later())


def test_without_an_anchor_there_is_nothing_to_build_on(cast):
    with pytest.raises(UnlawfulMove, match="anchor"):
        plan(cast)


def test_an_anchor_alone_can_be_built(cast):
    story.anchor(cast)
    build = plan(cast)
    assert (build.experts, build.top_k, build.number) == ([], 1, 1)
    assert FollowUp.objects.get().kind == FollowUpKind.ASSEMBLE


def test_a_plan_holds_every_active_expert_by_name_and_digest(cast):
    _, build = ready(cast, "languages", "code")
    assert build.experts == [
        {"name": "code", "digest": digest_of("code first")},
        {"name": "languages", "digest": digest_of("languages first")},
    ]
    assert build.top_k == 3
    suspended = cast.experts["code"]
    experts.suspend(suspended, by=cast.cato, at=cast.later(), reason="dispute")
    assert names(plan(cast)) == ["languages"]


def test_the_experts_a_token_is_routed_to_are_bounded(cast):
    build = ready(cast, *(f"expert-{letter}" for letter in "abcde"))[-1]
    assert build.top_k == builds.TOP_K


def test_an_expert_beside_an_older_anchor_is_left_out_and_not_activated(cast):
    (build,) = ready(cast, "code")
    revision = story.contribute(cast, story.grant(cast, "languages"))
    experts.register_anchor(
        digest_of("newer"), title="Newer", parameter_count=1, by=cast.edda, at=cast.later()
    )
    experts.request_activation(revision, by=cast.edda, at=cast.later())
    with pytest.raises(UnlawfulMove, match="newest anchor"):
        experts.approve_activation(revision, by=cast.cato, at=cast.later())
    assert names(build) == ["code"]
    assert names(plan(cast)) == []


def test_assembling_opens_loading_and_repeats_without_harm(cast):
    (build,) = ready(cast, "code")
    first = story.assemble(cast, build)
    assert story.assemble(cast, build) == first
    load = FollowUp.objects.get(kind=FollowUpKind.LOAD)
    assert load.order == {"number": build.number, "digest": digest_of(f"build {build.number}")}
    with pytest.raises(UnlawfulMove):
        story.assemble(cast, build, digest=digest_of("another"))


@pytest.mark.parametrize("proof", [{}, {"masked_equals_rebuilt": True, "is_absent": False}])
def test_what_is_not_proved_is_not_promoted(cast, proof):
    (build,) = ready(cast, "code")
    story.assemble(cast, build, proof=proof)
    with pytest.raises(UnlawfulMove, match="proof"):
        builds.promote(build, at=cast.later())
    assert snapshots.current() is None


def test_what_is_not_assembled_is_not_promoted(cast):
    (build,) = ready(cast, "code")
    with pytest.raises(UnlawfulMove, match="assembled"):
        builds.promote(build, at=cast.later())


def test_promoting_retires_the_former_and_names_the_build_in_policy(cast):
    first, second = ready(cast, "code", "languages")
    story.promote(cast, first)
    published = story.promote(cast, second)
    assert builds.promote(second, at=cast.later()) == published
    assert [b.state for b in Build.objects.order_by("number")] == ["retired", "promoted"]
    current = snapshots.current()
    assert current.build_digest == digest_of(f"build {second.number}")
    assert [ref.name for ref in current.experts] == ["code", "languages"]
    assert snapshots.read(published.policy_epoch) == current


def test_policy_speaks_of_a_former_build_where_answers_begun_on_it_may_need_it(cast):
    """Not where the served one has all its experts, nor once answers have had their time."""
    first, second = ready(cast, "code", "languages")
    story.promote(cast, first)
    story.promote(cast, second)
    assert snapshots.current().former == ()
    experts.register_anchor(
        digest_of("newer"), title="Newer", parameter_count=1, by=cast.edda, at=cast.later()
    )
    story.promote(cast, plan(cast))
    current = snapshots.current()
    assert current.experts == ()
    for build, live in ((second, ["code", "languages"]), (first, ["code"])):
        former = current.over(digest_of(f"build {build.number}"))
        assert former.policy_epoch == current.policy_epoch
        assert [ref.name for ref in former.live] == live
    assert current.over(digest_of("another")) is current
    for gone, left in (("code", ["languages"]), ("languages", [])):
        story.withdraw(cast, gone)
        former = snapshots.current().former
        assert [ref.name for one in former for ref in one.live] == left
    assert not former


def test_after_a_while_policy_no_longer_speaks_of_a_former_build(cast):
    (build,) = ready(cast, "code")
    story.promote(cast, build)
    experts.register_anchor(
        digest_of("newer"), title="Newer", parameter_count=1, by=cast.edda, at=cast.later()
    )
    story.promote(cast, plan(cast))
    replaced_at = Build.objects.get(state=BuildState.PROMOTED).promoted_at
    for wait, count in ((snapshots.RUNS_OUT / 2, 1), (snapshots.RUNS_OUT, 0)):
        snapshots.publish(reason="tests", at=replaced_at + wait)
        assert len(snapshots.current().former) == count


def test_a_build_overtaken_by_a_newer_one_is_never_served(cast):
    first, second = ready(cast, "code", "languages")
    story.assemble(cast, first)
    story.promote(cast, second)
    assert builds.is_overtaken(first)
    assert Build.objects.get(pk=first.pk).state == BuildState.RETIRED
    with pytest.raises(UnlawfulMove, match="assembled"):
        builds.promote(first, at=cast.later())
    assert builds.wanted() == [Build.objects.get(pk=second.pk)]


def test_one_assembled_after_it_was_overtaken_is_retired_on_the_spot(cast):
    first, second = ready(cast, "code", "languages")
    story.promote(cast, second)
    assert story.assemble(cast, first).state == BuildState.RETIRED
    assert not FollowUp.objects.filter(kind=FollowUpKind.LOAD, subject_id=first.pk).exists()


def test_a_suspension_replaces_the_build_on_its_way_so_that_the_others_are_served(cast):
    _, build = ready(cast, "code", "languages")
    story.assemble(cast, build)
    experts.suspend(cast.experts["code"], by=cast.cato, at=cast.later(), reason="dispute")
    with pytest.raises(UnlawfulMove, match="assembled"):
        builds.promote(build, at=cast.later())
    instead = Build.objects.latest("number")
    assert names(instead) == ["languages"]
    story.promote(cast, instead)
    assert [ref.name for ref in snapshots.current().experts] == ["languages"]


def test_a_suspension_during_a_rebuild_keeps_the_promise_to_the_one_who_withdrew(cast):
    _, build = ready(cast, "code", "languages")
    story.promote(cast, build)
    withdrawal = story.withdraw(cast, "code")
    experts.suspend(cast.experts["languages"], by=cast.cato, at=cast.later(), reason="dispute")
    rebuild = FollowUp.objects.get(kind=FollowUpKind.REBUILD, state=FollowUpState.DUE)
    instead = Build.objects.get(pk=rebuild.subject_id)
    assert (names(instead), instead.withdrawal) == ([], withdrawal)
    assert FollowUp.objects.get(kind=FollowUpKind.ERASE).after == rebuild


def test_a_build_is_not_promoted_while_an_expert_of_it_is_not_active(cast):
    (build,) = ready(cast, "code")
    story.assemble(cast, build)
    Expert.objects.update(state="suspended")
    with pytest.raises(UnlawfulMove, match="not active"):
        builds.promote(build, at=cast.later())


def test_a_build_with_an_expert_withdrawn_meanwhile_is_never_promoted(cast):
    (build,) = ready(cast, "code")
    story.assemble(cast, build)
    load = FollowUp.objects.get(kind=FollowUpKind.LOAD)
    story.withdraw(cast, "code")
    with pytest.raises(UnlawfulMove, match="tombstoned"):
        builds.promote(build, at=cast.later())
    load.refresh_from_db()
    assert load.state == FollowUpState.CANCELLED
    assert not [one for one in builds.wanted() if "code" in names(one)]


def test_runners_hold_what_is_served_and_what_comes_next(cast):
    first, second, third = ready(cast, "code", "languages", "letters")
    story.promote(cast, first)
    story.assemble(cast, second)
    assert [b.number for b in builds.wanted()] == [second.number, first.number]
    assert third.state == BuildState.PLANNED


def test_a_failed_build_calls_its_loading_off_and_says_so_once(cast):
    (build,) = ready(cast, "code")
    story.assemble(cast, build)
    builds.record_failed(build, error="runner lacks memory", at=cast.later())
    assert builds.record_failed(build, error="again", at=cast.later()).state == BuildState.FAILED
    assert FollowUp.objects.get(kind=FollowUpKind.LOAD).state == FollowUpState.CANCELLED


def test_a_resumed_expert_comes_back_with_a_new_build_where_it_is_missing(cast):
    _, both = ready(cast, "code", "languages")
    story.promote(cast, both)
    experts.suspend(cast.experts["code"], by=cast.cato, at=cast.later(), reason="dispute")
    newest = Build.objects.latest("number")
    experts.resume(cast.experts["code"], by=cast.cato, at=cast.later())
    assert Build.objects.latest("number") == newest
    experts.suspend(cast.experts["code"], by=cast.cato, at=cast.later(), reason="dispute")
    story.promote(cast, plan(cast))
    experts.resume(cast.experts["code"], by=cast.cato, at=cast.later())
    assert names(Build.objects.latest("number")) == ["code", "languages"]


def test_a_worker_of_a_buried_build_learns_so_at_its_next_renewal(cast):
    (build,) = ready(cast, "code")
    row = FollowUp.objects.get(kind=FollowUpKind.ASSEMBLE)
    assert followups.claim(row.pk, worker="w", for_s=30, at=cast.later())
    story.withdraw(cast, "code")
    assert not followups.renew(row.pk, worker="w", for_s=30, at=cast.later())
    build.refresh_from_db()
    assert build.state == BuildState.TOMBSTONED
