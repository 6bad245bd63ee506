"""The people and parties of the tests, and their story told through the services.

Alder Press owns the expert `code`, Birch Archive owns `languages`. Cato and Celia are legal staff
(two, because approval takes four eyes), Edda is the engineer, Dara asks the model, and Mallory has
an account and must get nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from governance.models import (
    Account,
    Anchor,
    Build,
    Consumer,
    DataOwner,
    Expert,
    ExpertRevision,
    FollowUp,
    Licence,
    PolicySnapshot,
    Withdrawal,
)
from governance.services import (
    builds,
    consent,
    consumers,
    corpora,
    experts,
    followups,
    licences,
    owners,
)
from governance.services.consumers import IssuedKey
from governance.vocabulary import FollowUpKind, Purpose, Role, Use, Verdict
from tests.factories import NOW, digest_of

PASSWORD = "correct horse battery staple"
PROVED: Mapping[str, Any] = {"masked_equals_rebuilt": True, "is_absent": True}


@dataclass
class Cast:
    """Everybody, and what they have made so far. `at` is when the next act happens."""

    alder: DataOwner
    birch: DataOwner
    ada: Account
    bela: Account
    cato: Account
    celia: Account
    edda: Account
    aude: Account
    mallory: Account
    dara: Consumer
    dara_key: IssuedKey
    at: datetime = NOW
    experts: dict[str, Expert] = field(default_factory=dict)
    licences: dict[str, Licence] = field(default_factory=dict)

    def later(self, seconds: float = 1) -> datetime:
        """Move the story on; the new instant."""
        self.at += timedelta(seconds=seconds)
        return self.at

    def speaker(self, owner: DataOwner) -> Account:
        """Who speaks for an owner."""
        return self.ada if owner == self.alder else self.bela


def meet(at: datetime = NOW, *, has_passwords: bool = False) -> Cast:
    """Everybody arrives: Ada speaks for Alder Press, Bela for Birch Archive, Aude audits.

    With `has_passwords` all can log in with `PASSWORD`; hashing one takes a while, so only the
    tests that log in ask for it.
    """
    people = {
        name: owners.open_account(
            f"{name}@example.org",
            full_name=name.capitalize(),
            password=PASSWORD if has_passwords else None,
        )
        for name in ("ada", "bela", "cato", "celia", "edda", "aude", "mallory")
    }
    for name, role in (
        ("cato", Role.LEGAL),
        ("celia", Role.LEGAL),
        ("edda", Role.ENGINEER),
        ("aude", Role.AUDITOR),
    ):
        owners.appoint(people[name], role=role, by=None, at=at)
    cato = people["cato"]
    alder = owners.register("Alder Press", jurisdiction="NL", by=cato, at=at)
    birch = owners.register("Birch Archive", jurisdiction="DE", by=cato, at=at)
    owners.add_member(alder, account=people["ada"], by=cato, at=at)
    owners.add_member(birch, account=people["bela"], by=cato, at=at)
    dara = consumers.register("Dara", territory="NL", sector="research", by=cato, at=at)
    key = consumers.issue_key(
        dara, label="tests", purposes=[Purpose.RESEARCH, Purpose.EDUCATION], by=cato, at=at
    )
    return Cast(alder=alder, birch=birch, dara=dara, dara_key=key, at=at, **people)


def grant(cast: Cast, name: str, *, owner: DataOwner | None = None, **terms: Any) -> Expert:
    """Corpus, licence by two people, expert and consent: everything before there are weights."""
    owner = owner or (cast.birch if name == "languages" else cast.alder)
    corpus = corpora.describe(
        owner,
        slug=f"{name}-texts",
        title=f"{name.capitalize()} texts",
        source_licence="own",
        languages=["en"],
        document_count=10,
        text_bytes=10_000,
        merkle_root=digest_of(name),
        by=cast.cato,
        at=cast.later(),
    )
    defaults: dict[str, Any] = {
        "uses": [Use.TRAIN, Use.ANSWER],
        "purposes": [Purpose.RESEARCH],
        "starts_at": NOW - timedelta(days=1),
        "max_extraction_rate": 0.05,
        "rate_per_million_tokens": 40,
    }
    requested = licences.request(
        corpus, terms=licences.Terms(**{**defaults, **terms}), by=cast.cato, at=cast.later()
    )
    cast.licences[name] = licences.approve(requested, by=cast.celia, at=cast.later())
    expert = experts.propose(
        name,
        title=f"{name.capitalize()} of {owner}",
        owner=owner,
        corpus=corpus,
        by=cast.edda,
        at=cast.later(),
    )
    consent.give(
        expert,
        licence=cast.licences[name],
        by=cast.speaker(owner),
        at=cast.later(),
        method="owner page",
    )
    cast.experts[name] = expert
    return expert


def carry_out(cast: Cast, subject: Any, *kinds: FollowUpKind) -> None:
    """A courier takes what is due about a subject and says that it is done."""
    for row in FollowUp.objects.filter(subject_id=subject.pk, kind__in=kinds):
        if followups.claim(row.pk, worker="courier", for_s=30, at=cast.at):
            followups.complete(row.pk, worker="courier", evidence={"done": True}, at=cast.at)


def anchor(cast: Cast, title: str = "Anchor") -> Anchor:
    """The anchor of the story."""
    return experts.register_anchor(
        digest_of(title), title=title, parameter_count=1_000, by=cast.edda, at=cast.at
    )


def contribute(cast: Cast, expert: Expert, *, text: str = "first") -> ExpertRevision:
    """Weights arrive, pass the gate and an audit."""
    revision = experts.submit(
        expert,
        digest=digest_of(f"{expert.name} {text}"),
        weights_digest=digest_of(f"{expert.name} {text} weights"),
        anchor=anchor(cast),
        size_bytes=1_000,
        by=cast.edda,
        at=cast.later(),
    )
    experts.record_verified(revision, report={"passed": True}, at=cast.later())
    carry_out(cast, revision, FollowUpKind.VERIFY, FollowUpKind.AUDIT)
    audit(cast, revision)
    revision.refresh_from_db()
    return revision


def audit(cast: Cast, revision: ExpertRevision, verdict: Verdict = Verdict.PASS) -> None:
    """An audit of 300 windows comes out with `verdict`."""
    rate = 0.2 if verdict == Verdict.FAIL else 0.001
    experts.record_finding(
        revision,
        verdict=verdict,
        rate=rate,
        rate_low=rate / 2,
        rate_high=rate * 2,
        threshold=0.05,
        seed=7,
        report={"windows": 300},
        at=cast.later(),
    )


def activate(cast: Cast, revision: ExpertRevision) -> Build:
    """Edda asks, Cato approves; the build that was planned."""
    experts.request_activation(revision, by=cast.edda, at=cast.later())
    experts.approve_activation(revision, by=cast.cato, at=cast.later())
    return Build.objects.latest("number")


def assemble(cast: Cast, build: Build, **fields: Any) -> Build:
    """A worker assembles and proves the build."""
    defaults: dict[str, Any] = {
        "digest": digest_of(f"build {build.number}"),
        "export_path": f"exports/{build.number}",
        "export_files": {"config.json": digest_of("config")},
        "proof": PROVED,
    }
    assembled = builds.record_assembled(build, at=cast.later(), **{**defaults, **fields})
    carry_out(cast, build, FollowUpKind.ASSEMBLE, FollowUpKind.REBUILD)
    return assembled


def promote(cast: Cast, build: Build) -> PolicySnapshot:
    """The build is assembled, loaded everywhere and served."""
    published = builds.promote(assemble(cast, build), at=cast.later())
    carry_out(cast, build, FollowUpKind.LOAD)
    return published


def served(cast: Cast, *names: str) -> Build:
    """The whole way for these experts, up to one served build with all of them."""
    for name in names or ("code", "languages"):
        expert = cast.experts.get(name) or grant(cast, name)
        build = activate(cast, contribute(cast, expert))
    promote(cast, build)
    build.refresh_from_db()
    return build


def withdraw(cast: Cast, name: str) -> Withdrawal:
    """The owner presses the button."""
    expert = cast.experts[name]
    return consent.withdraw(
        expert, by=cast.speaker(expert.owner), at=cast.later(), method="owner page"
    )
