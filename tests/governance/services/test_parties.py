"""Owners, people, consumers, keys and corpora; decisions as records; bytes gone last."""

from uuid import uuid4

import pytest
from django.db import IntegrityError

from governance.errors import InvalidTerms, NotFound, UnlawfulMove
from governance.models import ApiKey, DecisionRecord, Membership, PolicySnapshot
from governance.policy.decide import decide
from governance.policy.types import Ask
from governance.services import (
    consumers,
    corpora,
    decisions,
    owners,
    snapshots,
    withdrawals,
)
from governance.vocabulary import ConsumerStatus, ExpertState, KeyScope, RevisionState, Role
from tests import cast as story
from tests import factories
from tests.factories import NOW, after

pytestmark = pytest.mark.django_db


def test_an_account_is_known_by_its_address_alone():
    account = owners.open_account("New@Example.org", full_name="New")
    assert account.email == "new@example.org"
    assert not account.has_usable_password()
    with pytest.raises(InvalidTerms) as refusal:
        owners.open_account("new@example.org", full_name="Other")
    assert list(refusal.value.fields) == ["email"]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"jurisdiction": "nl"}, "jurisdiction"),
        ({"jurisdiction": "NLD"}, "jurisdiction"),
        ({"legal_name": "Alder Press"}, "legal_name"),
        ({"legal_name": "…"}, "legal_name"),
        ({"registry_number": "1"}, "registry_number"),
    ],
)
def test_an_owner_that_cannot_be_told_apart_is_refused(wrong, field):
    owners.register("Alder Press", jurisdiction="NL", registry_number="1", by=None, at=NOW)
    fields = {"legal_name": "Other", "jurisdiction": "NL", "registry_number": "2", **wrong}
    with pytest.raises(InvalidTerms) as refusal:
        owners.register(fields.pop("legal_name"), by=None, at=NOW, **fields)
    assert list(refusal.value.fields) == [field]


def test_a_role_is_held_once():
    account, other, owner = factories.account(), factories.account(), factories.owner()
    for _ in range(2):
        owners.add_member(owner, account=account, by=None, at=NOW)
        owners.appoint(other, role=Role.AUDITOR, by=None, at=NOW)
    assert Membership.objects.count() == 2
    with pytest.raises(InvalidTerms):
        owners.appoint(other, role=Role.OWNER, by=None, at=NOW)


def test_consumers_are_told_apart_by_name():
    assert consumers.register("Dara", territory="NL", by=None, at=NOW).slug == "dara"
    for name, territory in (("DARA", "NL"), ("Nova", "Netherlands")):
        with pytest.raises(InvalidTerms):
            consumers.register(name, territory=territory, by=None, at=NOW)


def issued(**fields):
    defaults = {"label": "l", "purposes": ["research"], "by": None, "at": NOW}
    return consumers.issue_key(factories.consumer(), **{**defaults, **fields})


def test_a_secret_is_shown_once_and_opens_until_it_ends():
    key = issued(expires_at=after(60))
    assert key.secret.startswith(f"rk_{key.api_key.prefix}_")
    assert key.secret not in repr(key)
    assert key.secret not in str(list(ApiKey.objects.values()))
    found = consumers.authenticate(key.secret, at=after(59))
    assert found == key.api_key
    assert consumers.authenticate(key.secret, at=after(60)) is None


def test_only_the_secret_itself_opens():
    key, other = issued(), issued()
    prefix = key.api_key.prefix
    tail = other.secret.split("_", 2)[2]
    for secret in (
        "",
        "rk",
        "rk__",
        f"rk_{prefix}",
        f"rk_{prefix}_",
        f"rk_{prefix}_{tail}",
        key.secret[:-1],
        key.secret + "x",
        key.secret.replace("rk_", "sk_"),
        key.api_key.secret_digest,
        "rk_" + "\x00" * 10 + "_x",
    ):
        assert consumers.authenticate(secret, at=NOW) is None, secret


def test_a_revoked_key_opens_nothing_from_then_on():
    key = issued()
    consumers.revoke_key(key.api_key, by=None, at=after(1))
    assert consumers.authenticate(key.secret, at=after(1)) is None


def test_last_use_is_noted_at_most_once_a_minute():
    key = issued()
    for at in (after(0), after(59), after(61)):
        consumers.authenticate(key.secret, at=at)
    assert ApiKey.objects.get().last_used_at == after(61)
    consumers.authenticate(key.secret, at=after(100))
    assert ApiKey.objects.get().last_used_at == after(61)


def test_the_playground_takes_only_keys_that_are_open_and_issued_for_it():
    own = issued(scopes=["playground"]).api_key
    consumer = own.consumer
    issued(scopes=["chat"])
    issued(scopes=None)  # "all endpoints" is said by customers, and never means our staff's
    for fields in (
        {"consumer": consumer, "revoked_at": NOW},
        {"consumer": consumer, "expires_at": after(1)},
        {"consumer": factories.consumer(status=ConsumerStatus.SUSPENDED)},
    ):
        factories.api_key(scopes=["playground"], **fields)
    assert list(consumers.playground_keys(at=after(1))) == [own]
    assert consumers.take_playground_key(own.prefix, at=after(1)) == own
    assert ApiKey.objects.get(pk=own.pk).last_used_at == after(1)
    assert consumers.take_playground_key("p1", at=after(1)) is None


@pytest.mark.parametrize("scope", KeyScope)
def test_a_key_for_all_endpoints_does_not_open_the_playground(scope):
    everything = factories.api_key(scopes=None)
    assert consumers.may_call(everything, scope) == (scope != KeyScope.PLAYGROUND)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"purposes": []}, "purposes"),
        ({"purposes": ["war"]}, "purposes"),
        ({"expires_at": NOW}, "expires_at"),
    ],
)
def test_a_key_without_a_purpose_or_a_future_is_refused(wrong, field):
    with pytest.raises(InvalidTerms) as refusal:
        issued(**wrong)
    assert list(refusal.value.fields) == [field]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"slug": "taken"}, "slug"),
        ({"document_count": -1}, "document_count"),
        ({"text_bytes": -1}, "text_bytes"),
        ({"merkle_root": "ABC"}, "merkle_root"),
    ],
)
def test_a_corpus_that_cannot_be_is_refused(wrong, field):
    factories.corpus(slug="taken")
    fields = {"slug": "new", "document_count": 1, "text_bytes": 1, "merkle_root": "", **wrong}
    with pytest.raises(InvalidTerms) as refusal:
        corpora.describe(
            factories.owner(),
            title="T",
            source_licence="own",
            languages=["en"],
            by=None,
            at=NOW,
            **fields,
        )
    assert list(refusal.value.fields) == [field]


# ── Snapshots and decisions ──────────────────────────────────────────────────────────────────────
def test_until_a_build_is_promoted_there_is_no_policy_but_the_epoch_rises():
    for _ in range(2):
        snapshots.publish(reason="tests", at=NOW)
    assert snapshots.current() is None
    assert list(PolicySnapshot.objects.values_list("policy_epoch", flat=True)) == [2, 1]
    with pytest.raises(NotFound):
        snapshots.read(3)


def test_a_snapshot_is_read_back_as_it_was_published():
    cast = story.meet()
    story.served(cast)
    for row in PolicySnapshot.objects.all():
        assert snapshots.read(row.policy_epoch).digest == row.digest


def test_publishing_takes_as_many_queries_for_many_experts_as_for_few(
    django_assert_max_num_queries,
):
    cast = story.meet()
    story.served(cast, "code")
    with django_assert_max_num_queries(50) as few:
        snapshots.publish(reason="few", at=cast.later())
    story.served(cast, *(f"expert-{letter}" for letter in "abcd"))
    with django_assert_max_num_queries(len(few)):
        snapshots.publish(reason="many", at=cast.later())


def test_a_decision_is_kept_with_every_reason_and_no_prompt():
    cast = story.meet()
    story.served(cast)
    snapshot, ask = snapshots.current(), Ask("dara", "education", "NL", frozenset({"languages"}))
    decision_id = uuid4()
    for decision in (
        decide(snapshot, ask, cast.at),
        decide(snapshot, Ask("dara", "education", "NL", require=frozenset({"code"})), cast.at),
    ):
        decisions.record(
            decision,
            decision_id=decision_id,
            ask=ask,
            snapshot=snapshot,
            path="/v1/chat/completions",
            requested_by=cast.dara_key.api_key.prefix,
            labels={"gateway": "g1"},
            at=cast.at,
        )
        decision_id = uuid4()
    permitted = DecisionRecord.objects.get(result__is_permitted=True)
    assert permitted.input["exclude"] == ["languages"]
    assert permitted.result["denied"]["code"] == ["PURPOSE"]
    assert permitted.bundles["licences"]["revision"].startswith(f"{snapshot.policy_epoch}+sha256:")
    denied = DecisionRecord.objects.get(result__is_permitted=False)
    assert "PURPOSE" in denied.result["why"]
    with pytest.raises(IntegrityError):
        decisions.record(
            decision,
            decision_id=denied.pk,
            ask=ask,
            snapshot=snapshot,
            path="p",
            requested_by="x",
            labels={},
            at=cast.at,
        )


# ── Bytes ────────────────────────────────────────────────────────────────────────────────────────
def test_bytes_go_only_after_the_withdrawal_is_settled():
    cast = story.meet()
    story.served(cast)
    factories.lease(applied_epoch=1)
    withdrawal = story.withdraw(cast, "code")
    with pytest.raises(UnlawfulMove, match="still being enforced"):
        withdrawals.record_erased(withdrawal, evidence={}, at=cast.later())
    withdrawals.try_settle(withdrawal, waited_s=99, at=cast.later())
    erased = withdrawals.record_erased(withdrawal, evidence={"files": 2}, at=cast.later())
    again = withdrawals.record_erased(withdrawal, evidence={"files": 9}, at=cast.later())
    assert again.erasure == erased.erasure == {"files": 2}
    expert = cast.experts["code"]
    expert.refresh_from_db()
    assert expert.state == ExpertState.ERASED
    assert expert.revisions.get().state == RevisionState.ERASED
