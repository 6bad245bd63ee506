"""One service, one lawful act, one log event: the whole story is told and its events counted.

Every public function of `governance.services` is either bookkeeping, a read, or an act of the
story below; a new one fails the first test until it is put in its place.
"""

import importlib
import inspect
import json
import pkgutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from governance import services
from governance.canonical import Signer
from governance.models import Account, DataOwner, FollowUp, StagedEvent
from governance.services import (
    builds,
    consent,
    consumers,
    documents,
    experts,
    invitations,
    licences,
    owners,
    withdrawals,
)
from governance.vocabulary import (
    ConsumerStatus,
    Instrument,
    LawfulBasis,
    OwnerRole,
    OwnerStatus,
    Role,
    SignalKind,
    SuppressedKind,
    Use,
    Verdict,
)
from tests import cast as story
from tests.factories import NOW, digest_of

pytestmark = pytest.mark.django_db

BOOKKEEPING = {
    "decisions",
    "followups",
    "leases",
    "locks",
    "policyfile",
    "quotas",
    "snapshots",
    "terms",
    "usage",
    "whatif",
}
"""Modules whose writes are no acts of law; `snapshots.publish` is a part of the act it serves, and
a policy file is carried out by the acts of other modules, each with its event."""

NO_ACTS = {
    "builds": {
        "answering",
        "draft",
        "holding",
        "is_overtaken",
        "replan_without",
        "tombstone",
        "waits_for_approval",
        "wanted",
        "was_served",
    },
    "activities": {"current"},
    "consent": {"check", "digest_of", "faults", "receipt", "standing", "with_state"},
    "consumers": {
        "authenticate",
        "may_ask_for",
        "may_call",
        "playground_keys",
        "take_playground_key",
    },
    "corpora": {"beyond_sources", "check_sources", "sources", "strictest"},
    "experts": {"needs_waiver"},
    "eyes": {"check"},
    "invitations": {"account_of", "find"},
    "licences": {
        "check_contract",
        "contract_is_confirmed",
        "contract_of",
        "plain_words",
        "template",
        "templates",
    },
    "owners": {
        "as_of",
        "check_country",
        "check_may_manage",
        "check_one_kind",
        "duplicates",
        "may_bind",
        "name_key",
        "open_account",
    },
    "suppression": {
        "check_grant",
        "check_weights",
        "is_suppressed",
        "keyed_hash",
        "suppress_erased",
    },
    "withdrawals": {"look", "progress"},
}
ELSEWHERE = {
    "approvals",
    "certificates",
    "claims",
    "clocks",
    "documents",
    "duties",
    "effects",
    "exports",
    "gaps",
    "holds",
    "notices",
    "personal_keys",
    "shadows",
    "signoffs",
    "statements",
    "webhooks",
}
"""Modules held to the same rule by tests of their own."""


def acts() -> dict[str, Callable[..., Any]]:
    """Public functions defined under `governance.services`, by `module.function`."""
    found = {}
    for module_info in pkgutil.iter_modules(services.__path__):
        name = module_info.name
        if name in BOOKKEEPING | ELSEWHERE:
            continue
        module = importlib.import_module(f"governance.services.{name}")
        for function_name, function in inspect.getmembers(module, inspect.isfunction):
            home = inspect.unwrap(function).__module__
            is_own = home == module.__name__ or home.startswith(f"{module.__name__}.")
            if (
                is_own
                and not function_name.startswith("_")
                and function_name not in NO_ACTS.get(name, set())
            ):
                found[f"{name}.{function_name}"] = function
    return found


class Counted:
    """Calls acts, and notes what each one staged."""

    def __init__(self) -> None:
        self.staged: dict[str, list[str]] = {}

    def __call__(self, name: str, *args: Any, **kwargs: Any) -> Any:
        before = StagedEvent.objects.count()
        result = acts()[name](*args, **kwargs)
        rows = StagedEvent.objects.order_by("id").values_list("body", flat=True)[before:]
        self.staged[name] = [json.loads(bytes(body))["tag"] for body in rows]
        return result


def tell(act: Counted, cast: story.Cast) -> None:
    """The story, each act once, at its own instant."""
    later = cast.later
    person = owners.open_account("new@example.org", full_name="New")
    owner = tell_of_owners(act, cast, person)
    tell_of_consumers(act, cast)
    corpus = act(
        "corpora.describe",
        owner,
        slug="plays",
        title="Plays",
        source_licence="own",
        languages=["fr"],
        document_count=1,
        text_bytes=1,
        by=cast.cato,
        at=later(),
    )
    tell_of_the_corpus(act, cast, corpus)
    licence = tell_of_licences(act, cast, corpus, person)
    expert = act(
        "experts.propose",
        "plays",
        title="Plays",
        owner=owner,
        corpus=corpus,
        by=cast.edda,
        at=later(),
    )
    asked = {"licence": licence, "method": "page"}
    act("consent.ask", expert, by=cast.cato, at=later(), **asked)
    act("consent.refuse", expert, by=person, at=later(), **asked)
    record = act("consent.give", expert, by=person, at=later(), **asked)
    act("consent.issue", record, signer=Signer(Ed25519PrivateKey.generate()), at=later())
    basis = {"activity": Use.TRAIN, "lawful_basis": LawfulBasis.CONTRACT, "licence": licence}
    act("activities.record", expert, by=cast.cato, at=later(), **basis)
    tell_of_experts(act, cast, expert)
    tell_of_the_end(act, cast, expert, person, licence)


def tell_of_owners(act: Counted, cast: story.Cast, person: Account) -> DataOwner:
    later = cast.later
    owner = act("owners.register", "Cedar House", jurisdiction="FR", by=cast.cato, at=later())
    facts = {"postal_address": "1 Rue des Cèdres, Paris"}
    act("owners.change", owner, facts=facts, by=cast.cato, at=later())
    act("owners.move", owner, to=OwnerStatus.SUSPENDED, by=cast.cato, at=later())
    owners.move(owner, to=OwnerStatus.ACTIVE, by=cast.cato, at=later())
    act("owners.add_member", owner, account=person, by=cast.cato, at=later())
    other = owners.open_account("other@example.org", full_name="Other")
    member = owners.add_member(owner, account=other, by=cast.cato, at=later())
    act("owners.change_member", member, owner_role=OwnerRole.VIEWER, by=cast.cato, at=later())
    act("owners.remove_member", member, by=cast.cato, at=later())
    act("owners.appoint", other, role=Role.AUDITOR, by=cast.cato, at=later())
    invited = {"full_name": "Guest", "role": Role.OWNER, "owner": owner, "by": cast.cato}
    act("invitations.invite", "guest@example.org", at=later(), **invited)
    sent = invitations.invite("guest@example.org", at=later(), **invited)
    sent = act("invitations.resend", sent.invitation, by=cast.cato, at=later(120))
    act("invitations.accept", sent.token, password=story.PASSWORD, at=later())
    sent = invitations.invite("guest@example.org", at=later(), **invited)
    act("invitations.revoke", sent.invitation, by=cast.cato, at=later())
    return owner


def tell_of_consumers(act: Counted, cast: story.Cast) -> None:
    later = cast.later
    consumer = act("consumers.register", "Nova", territory="FR", by=cast.cato, at=later())
    issued = act(
        "consumers.issue_key", consumer, label="l", purposes=["research"], by=None, at=later()
    )
    brief = timedelta(hours=1)
    act("consumers.rotate_key", issued.api_key, overlap=brief, by=cast.cato, at=later())
    act("consumers.revoke_key", issued.api_key, by=cast.cato, at=later())
    act("consumers.change", consumer, facts={"sector": "J"}, by=cast.cato, at=later())
    act("consumers.move", consumer, to=ConsumerStatus.SUSPENDED, by=cast.cato, at=later())


def tell_of_the_corpus(act: Counted, cast: story.Cast, corpus: Any) -> None:
    by: dict[str, Any] = {"by": cast.cato}
    days: dict[str, Any] = {"period_from": None, "period_to": None}
    act("corpora.profile", corpus, sensitive=["minors"], **days, **by, at=cast.later())
    act("corpora.note_source", corpus, title="Own", licence="own", **by, at=cast.later())
    sketch = {
        "scheme": "minhash-sha1-32/512/seed-1/words-8",
        "minima": [1] * 512,
        "document_count": 1,
        "shingle_words": 8,
    }
    act("corpora.sketched", corpus, sketch, **by, at=cast.later())
    seen: dict[str, Any] = {"url": "https://cedar.example/", "seen_at": cast.at}
    raw = b"Content-Usage: train-ai=n"
    kind = SignalKind.AIPREF
    act("corpora.note_signal", corpus, kind=kind, raw=raw, **seen, **by, at=cast.later())


def tell_of_licences(act: Counted, cast: story.Cast, corpus: Any, speaker: Any) -> Any:
    terms = licences.Terms(
        uses=["train", "answer"], purposes=["research"], starts_at=NOW - timedelta(days=1)
    )
    signed = documents.store(
        b"signed", name="c", media_type="text/plain", by=cast.cato, at=cast.later()
    )
    refused = act(
        "licences.request",
        corpus,
        terms=replace(terms, contract_digest=signed.digest),
        by=cast.cato,
        at=cast.later(),
    )
    act("licences.save_template", "ours", title="Ours", terms=terms, by=cast.cato, at=cast.later())
    act("licences.read_contract", refused, is_match=True, by=cast.celia, at=cast.later())
    act("licences.reject", refused, by=cast.celia, at=cast.later())
    returned = licences.request(corpus, terms=terms, by=cast.cato, at=cast.later())
    act("licences.send_back", returned, by=cast.celia, at=cast.later(), note="shorter")
    licence = licences.request(corpus, terms=terms, by=cast.cato, at=cast.later())
    licence = act("licences.approve", licence, by=cast.celia, at=cast.later())
    act("licences.countersign", licence, by=speaker, at=cast.later())
    pause = {"instrument": Instrument.SUSPEND, "by": cast.cato, "at": cast.later()}
    act("licences.end", licence, **pause)
    act("licences.resume", licence, by=cast.cato, at=cast.later())
    return licence


def tell_of_experts(act: Counted, cast: story.Cast, expert: Any) -> None:
    later = cast.later
    base = act(
        "experts.register_anchor",
        digest_of("base"),
        title="Base",
        parameter_count=1,
        by=cast.edda,
        at=later(),
    )
    act("experts.order_anchor_training", order={}, by=cast.edda, at=later())
    act("experts.order_training", expert, order={}, by=cast.edda, at=later())

    def submit(text: str, call: Callable[..., Any]) -> Any:
        fields = {"digest": digest_of(text), "weights_digest": "", "size_bytes": 1}
        return call(expert, anchor=base, by=cast.edda, at=later(), **fields)

    hostile = submit("hostile", lambda *a, **k: act("experts.submit", *a, **k))
    act("experts.record_refused", hostile, report={}, at=later())
    revision = submit("good", experts.submit)
    act("experts.record_verified", revision, report={}, at=later())
    act("experts.order_audit", revision, order={}, by=cast.edda, at=later())
    finding = {"rate": 0.0, "rate_low": 0.0, "rate_high": 0.001, "threshold": 0.01, "seed": 7}
    act("experts.record_finding", revision, verdict=Verdict.PASS, report={}, at=later(), **finding)
    act("experts.request_activation", revision, by=cast.edda, at=later())
    act("experts.reject_activation", revision, by=cast.cato, at=later())
    experts.request_activation(revision, by=cast.edda, at=later())
    act("experts.return_activation", revision, by=cast.cato, at=later(), note="audit more")
    experts.request_activation(revision, by=cast.edda, at=later())
    act("experts.take_back_activation", revision, by=cast.edda, at=later())
    experts.request_activation(revision, by=cast.edda, at=later())
    act("experts.approve_activation", revision, by=cast.cato, at=later())


def tell_of_the_end(act: Counted, cast: story.Cast, expert: Any, person: Any, licence: Any) -> None:
    later = cast.later
    failing = act("builds.plan_current", reason="tests", by=cast.edda, at=later())
    act("builds.record_failed", failing, error="disk full", at=later())
    build = builds.plan_current(reason="again", by=cast.edda, at=later())
    fields = {"digest": digest_of("b"), "export_path": "p", "export_files": {}}
    build = act("builds.record_assembled", build, proof={"ok": True}, at=later(), **fields)
    act("builds.promote", build, at=later())
    act("experts.suspend", expert, by=cast.cato, at=later(), reason="dispute")
    act("experts.resume", expert, by=cast.cato, at=later())
    withdrawal = act("consent.withdraw", expert, by=person, at=later(), method="page")
    act("withdrawals.try_settle", withdrawal, waited_s=0, at=later())
    act("withdrawals.record_erased", withdrawal, evidence={"files": []}, at=later())
    kept = {"owner": expert.owner, "by": person, "at": later()}
    act("suppression.lift", SuppressedKind.EXPERT, expert.name, **kept)
    assert FollowUp.objects.exists()
    assert licence


def test_every_act_of_the_services_writes_exactly_one_event():
    act = Counted()
    tell(act, story.meet())
    assert set(act.staged) == set(acts()), "the story must tell of every act"
    wrong = {name: staged for name, staged in act.staged.items() if len(staged) != 1}
    assert not wrong


def test_no_two_acts_share_an_event_but_those_that_mean_the_same():
    act = Counted()
    tell(act, story.meet())
    by_tag: dict[str, set[str]] = {}
    for name, staged in act.staged.items():
        by_tag.setdefault(staged[0], set()).add(name)
    shared = {tag: names for tag, names in by_tag.items() if len(names) > 1}
    assert shared == {
        "owner.member_added": {"owners.add_member", "owners.appoint"},
        "expert.training_ordered": {"experts.order_training", "experts.order_anchor_training"},
        "approval.returned": {"licences.send_back", "experts.return_activation"},
    }


def test_repeating_an_act_that_changes_nothing_writes_nothing():
    cast = story.meet()
    story.served(cast, "code")
    withdrawal = story.withdraw(cast, "code")
    withdrawals.try_settle(withdrawal, waited_s=0, at=cast.later())
    withdrawals.record_erased(withdrawal, evidence={}, at=cast.later())
    consumers.revoke_key(cast.dara_key.api_key, by=cast.cato, at=cast.later())
    before = StagedEvent.objects.count()
    story.withdraw(cast, "code")
    withdrawals.try_settle(withdrawal, waited_s=0, at=cast.later())
    withdrawals.record_erased(withdrawal, evidence={}, at=cast.later())
    consumers.revoke_key(cast.dara_key.api_key, by=cast.cato, at=cast.later())
    owners.add_member(cast.alder, account=cast.ada, by=cast.cato, at=cast.later())
    story.anchor(cast)
    assert StagedEvent.objects.count() == before
    assert consent.receipt(cast.experts["code"].consents.get())["state"] == "withdrawn"
