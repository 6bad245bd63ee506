"""The demo: an invented cast, real text, and the whole way from licence to a served build.

Everything goes the way it goes in production: services record acts, follow-ups are carried out by
the Celery workers, the runner loads what they made. This module only plays the people: it signs,
approves, orders and waits. Each step asks first whether it has been done, so that a second run
takes seconds and an interrupted one goes on.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone
from rich.console import Console

from governance.models import (
    Account,
    Anchor,
    ApiKey,
    Build,
    Consumer,
    Corpus,
    DataOwner,
    Expert,
    ExpertRevision,
    FollowUp,
    Licence,
)
from governance.services import (
    consent,
    consumers,
    corpora,
    experts,
    licences,
    owners,
)
from governance.services.consumers import IssuedKey
from governance.vocabulary import (
    BuildState,
    ExpertState,
    FollowUpKind,
    FollowUpState,
    KeyScope,
    Purpose,
    RevisionState,
    Role,
    Use,
)
from modelops.corpus import installed, jsonl, merkle
from modelops.training import recipe as recipes
from worker.processes.home import Home
from worker.waiting import Waiting, Watch, WorkFailed

PUBLIC_SET = "public"


@dataclass(frozen=True)
class Party:
    """An invented data owner of the demo, and the person who speaks for it."""

    slug: str
    legal_name: str
    jurisdiction: str
    member: str
    email: str


OWNERS = (
    Party("alder-press", "Alder Press", "NL", "Ada Alder", "ada@alder-press.example"),
    Party("birch-archive", "Birch Archive", "DE", "Bo Birch", "bo@birch-archive.example"),
    Party("cedar-institute", "Cedar Institute", "FR", "Cleo Cedar", "cleo@cedar-inst.example"),
)
STAFF = (
    (Role.LEGAL, "Cato", "cato@reclaim.example"),
    (Role.LEGAL, "Celia", "celia@reclaim.example"),
    (Role.ENGINEER, "Edda", "edda@reclaim.example"),
    (Role.AUDITOR, "Alva", "alva@reclaim.example"),
)
PERMITTED = ("dara-research", "Dara Research", "DE", Purpose.RESEARCH)
RESTRICTED = ("ember-analytics", "Ember Analytics", "US", Purpose.RESEARCH)
OUR_STAFF = ("our-staff", "Our own staff", "DE", Purpose.RESEARCH)


def main() -> int:
    """Bring the demo to where a build is served, and print how to look at it. 0 when it is."""
    story = Story(Path(settings.RECLAIM_HOME), Console())
    try:
        story.run()
    except WorkFailed as failure:
        story.console.print(f"[red]{failure}[/red]")
        return 1
    story.say_where()
    return 0


class Story:
    """The demo's steps, in the order of the story."""

    def __init__(self, home: Path, console: Console) -> None:
        self.home = home
        self.console = console
        self.notes = _Notes(home / "demo.json")
        self.waiting = Waiting(console, Watch(Home(home)))

    def run(self) -> None:
        """Every step; what is done already is passed over."""
        self.people()
        folders = self.corpora()
        closed = [name for name in sorted(folders) if name != PUBLIC_SET][: len(OWNERS)]
        for name, party in zip(closed, OWNERS, strict=False):
            self.licence(name, party, folders[name])
        self.anchor(folders)
        self.train(closed, folders)
        self.activate(closed)
        self.serve(closed)
        self.notes.put("experts", {n: self._described(n, folders[n]) for n in closed})
        self.notes.put("public_heldout", str(folders[PUBLIC_SET] / "heldout.jsonl.xz"))
        self.notes.put("url", settings.RECLAIM_PUBLIC_URL)

    # ── People ───────────────────────────────────────────────────────────────────────────────

    def people(self) -> None:
        """Staff, owners with a member each, and two consumers with an API key each."""
        at = timezone.now()
        for role, name, email in STAFF:
            account = self._account(email, name, str(role))
            if not account.memberships.exists():
                owners.appoint(account, role=role, by=None, at=at)
        legal = self._legal()
        for party in OWNERS:
            account = self._account(party.email, party.member, f"owner: {party.legal_name}")
            owner = DataOwner.objects.filter(slug=party.slug).first() or owners.register(
                party.legal_name,
                jurisdiction=party.jurisdiction,
                slug=party.slug,
                contact_email=party.email,
                by=legal,
                at=at,
            )
            if not account.memberships.exists():
                owners.add_member(owner, account=account, by=legal, at=at)
        for slug, name, territory, purpose in (PERMITTED, RESTRICTED):
            issued = self._consumer(slug, name, territory, purpose, by=legal, at=at)
            if issued is not None:
                keys = self.notes.get("api_keys", {})
                self.notes.put("api_keys", {**keys, slug: issued.secret})
        self._consumer(*OUR_STAFF, scopes=[KeyScope.PLAYGROUND], by=legal, at=at)

    def _account(self, email: str, name: str, what: str) -> Account:
        known = Account.objects.filter(email=email).first()
        if known is not None:
            return known
        password = secrets.token_urlsafe(12)
        account = owners.open_account(email, full_name=name, password=password)
        logins = self.notes.get("logins", [])
        self.notes.put("logins", [*logins, {"email": email, "password": password, "role": what}])
        return account

    def _consumer(
        self, slug: str, name: str, territory: str, purpose: Purpose,
        *, scopes: list[KeyScope] | None = None, by: Account, at: datetime,
    ) -> IssuedKey | None:  # fmt: skip
        """Register a consumer with a key; None if it has one already."""
        consumer = Consumer.objects.filter(slug=slug).first() or consumers.register(
            name, territory=territory, sector="research", slug=slug, by=by, at=at
        )
        if ApiKey.objects.filter(consumer=consumer).exists():
            return None
        return consumers.issue_key(
            consumer, label="demo", purposes=[purpose], scopes=scopes, by=by, at=at
        )

    def _legal(self, index: int = 0) -> Account:
        emails = [email for role, _, email in STAFF if role is Role.LEGAL]
        return Account.objects.get(email=emails[index])

    def _engineer(self) -> Account:
        return Account.objects.get(email="edda@reclaim.example")

    # ── Text and terms ───────────────────────────────────────────────────────────────────────

    def corpora(self) -> dict[str, Path]:
        """Folders of text by set: those of RECLAIM_CORPORA, else text this installation has."""
        named = os.environ.get("RECLAIM_CORPORA", "")
        if named:
            return _folders_in(Path(named))
        folder = self.home / "demo" / "corpora"
        if not (folder / "complete").exists():
            self.console.print("Gathering text that this installation already has …")
            installed.write_all(folder)
            (folder / "complete").touch()
        return _folders_in(folder)

    def licence(self, name: str, party: Party, folder: Path) -> None:
        """Describe the corpus, request and approve its licence, propose the expert, consent."""
        at = timezone.now()
        owner = DataOwner.objects.get(slug=party.slug)
        corpus = Corpus.objects.filter(slug=name).first() or self._describe(name, owner, folder)
        expert = Expert.objects.filter(name=name).first() or experts.propose(
            name,
            title=f"{name.capitalize()} of {party.legal_name}",
            owner=owner,
            corpus=corpus,
            by=self._engineer(),
            at=at,
        )
        if Licence.objects.filter(corpus=corpus).exists():
            return
        terms = licences.Terms(
            uses=[Use.TRAIN, Use.ANSWER],
            purposes=[Purpose.RESEARCH, Purpose.EDUCATION],
            excluded_consumers=[RESTRICTED[0]] if party is OWNERS[0] else [],
            starts_at=at - timedelta(minutes=1),
            ends_at=at + timedelta(days=365),
            max_extraction_rate=0.05,
            rate_per_million_tokens=40,
            note="Terms of the demo; the text itself is under the licence its corpus names.",
        )
        requested = licences.request(corpus, terms=terms, by=self._legal(0), at=at)
        licences.approve(requested, by=self._legal(1), at=timezone.now(), note="read and matched")
        requested.refresh_from_db()
        consent.give(
            expert,
            licence=requested,
            by=Account.objects.get(email=party.email),
            at=timezone.now(),
            method="owner page",
        )

    def _describe(self, name: str, owner: DataOwner, folder: Path) -> Corpus:
        documents = list(jsonl.read(folder / "train.jsonl.xz"))
        sources = sorted({f"{doc.source}, {doc.licence}" for doc in documents})
        return corpora.describe(
            owner,
            slug=name,
            title=f"{name.capitalize()} collection",
            source_licence="; ".join(sources)[:200],
            languages=["en"],
            document_count=len(documents),
            text_bytes=sum(len(document.text.encode()) for document in documents),
            merkle_root=merkle.commit(documents, self._secret_of(owner)).root,
            description="Text for the demo. It is under the licences named here and belongs to "
            f"the projects named here; {owner.legal_name} is invented.",
            by=self._legal(),
            at=timezone.now(),
        )

    def _secret_of(self, owner: DataOwner) -> bytes:
        """The secret an owner keeps to commit to its documents; here the demo keeps it."""
        kept = self.notes.get("commitment_secrets", {})
        if owner.slug not in kept:
            kept = {**kept, owner.slug: secrets.token_hex(32)}
            self.notes.put("commitment_secrets", kept)
        return bytes.fromhex(kept[owner.slug])

    # ── Training, audit, activation ──────────────────────────────────────────────────────────

    def anchor(self, folders: Mapping[str, Path]) -> None:
        """Train the public anchor, unless one is registered."""
        if Anchor.objects.exists():
            return
        running = _unfinished(FollowUpKind.TRAIN, subject_kind="anchor")
        run = running or experts.order_anchor_training(
            order={
                "title": "Demo anchor",
                "corpus_path": str(folders[PUBLIC_SET] / "train.jsonl.xz"),
                "heldout_path": _heldout(folders[PUBLIC_SET]),
                "recipe": asdict(recipes.demo_anchor()),
            },
            by=self._engineer(),
            at=timezone.now(),
        )
        self.waiting.for_runs({"anchor": run.pk})

    def train(self, names: list[str], folders: Mapping[str, Path]) -> None:
        """Train the experts side by side, then let the gate and the audit have their say."""
        runs = {}
        for name in names:
            expert = Expert.objects.get(name=name)
            if expert.revisions.exists() or expert.state == ExpertState.WITHDRAWN:
                continue
            running = _unfinished(FollowUpKind.TRAIN, subject_id=expert.pk)
            runs[name] = (running or self._order(expert, folders)).pk
        self.waiting.for_runs(runs)
        for revision in ExpertRevision.objects.filter(state=RevisionState.VERIFIED):
            self._audit_again(revision)
        self.waiting.for_rows("gate and audit", names, _is_audited)

    def _order(self, expert: Expert, folders: Mapping[str, Path]) -> FollowUp:
        folder = folders[expert.name]
        return experts.order_training(
            expert,
            order={
                "corpus_path": str(folder / "train.jsonl.xz"),
                "heldout_path": _heldout(folder),
                "public_path": str(folders[PUBLIC_SET] / "train.jsonl.xz"),
                "recipe": asdict(recipes.demo_expert()),
            },
            by=self._engineer(),
            at=timezone.now(),
        )

    def _audit_again(self, revision: ExpertRevision) -> None:
        """Order another audit where the last one failed for a reason that may be gone."""
        audits = FollowUp.objects.filter(kind=FollowUpKind.AUDIT, subject_id=revision.pk)
        newest = audits.order_by("-opened_at").first()
        if newest is not None and newest.state == FollowUpState.FAILED:
            experts.order_audit(revision, order={}, by=self._engineer(), at=timezone.now())

    def activate(self, names: list[str]) -> None:
        """The engineer asks, legal staff approves: four eyes for each expert."""
        for name in names:
            expert = Expert.objects.get(name=name)
            revision = expert.revisions.first()
            if expert.state != ExpertState.READY or revision is None:
                continue
            if revision.state == RevisionState.AUDITED:
                experts.request_activation(revision, by=self._engineer(), at=timezone.now())
                revision.refresh_from_db()
            experts.approve_activation(revision, by=self._legal(), at=timezone.now())

    def serve(self, names: list[str]) -> None:
        """Wait until a build with every active expert is promoted and held by the runners."""
        active = set(
            Expert.objects.filter(name__in=names, state=ExpertState.ACTIVE).values_list(
                "name", flat=True
            )
        )

        def is_served(_: str) -> bool:
            build = Build.objects.filter(state=BuildState.PROMOTED).first()
            return build is not None and active <= {entry["name"] for entry in build.experts}

        self.waiting.for_rows("merge, prove, load, promote", ["build"], is_served)

    # ── What to show ─────────────────────────────────────────────────────────────────────────

    def _described(self, name: str, folder: Path) -> dict[str, Any]:
        expert = Expert.objects.select_related("owner").get(name=name)
        member = expert.owner.memberships.select_related("account").get()
        return {
            "owner": expert.owner.slug,
            "email": member.account.email,
            "heldout": str(folder / "heldout.jsonl.xz"),
        }

    def say_where(self) -> None:
        """Print addresses, log-ins and keys."""
        url = settings.RECLAIM_PUBLIC_URL
        self.console.rule("Reclaim is running")
        self.console.print(f"Pages      {url}")
        self.console.print(f'Gateway    {url}/v1   (OpenAI-compatible, model "reclaim")')
        self.console.print(f"REST API   {url}/api/")
        for login in self.notes.get("logins", []):
            self.console.print(f"  {login['email']:<26} {login['password']:<18} {login['role']}")
        for slug, secret in self.notes.get("api_keys", {}).items():
            self.console.print(f"  API key of {slug:<15} {secret}")
        self.console.print("Next: `reclaim tour` tells the story; `make stop` stops everything.")


class _Notes:
    """What the demo must remember between runs: log-ins, keys, places. Kept private."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, name: str, default: Any) -> Any:
        return self._all().get(name, default)

    def put(self, name: str, value: Any) -> None:
        notes = {**self._all(), name: value}
        fresh = self.path.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(notes, indent=1))
        fresh.replace(self.path)

    def _all(self) -> dict[str, Any]:
        if not self.path.exists():
            return {}
        found: dict[str, Any] = json.loads(self.path.read_text())
        return found


def _folders_in(folder: Path) -> dict[str, Path]:
    """Sets by name: every sub-folder with a `train.jsonl.xz`.

    Raises:
        WorkFailed: no public set, or no closed one.
    """
    found = {path.parent.name: path.parent for path in sorted(folder.glob("*/train.jsonl.xz"))}
    if PUBLIC_SET not in found or len(found) < 2:
        raise WorkFailed(
            f"expected {folder}/public/train.jsonl.xz and at least one closed set beside it, "
            f"found {', '.join(found) or 'nothing'}; point RECLAIM_CORPORA at such a folder"
        )
    return found


def _heldout(folder: Path) -> str:
    path = folder / "heldout.jsonl.xz"
    return str(path) if path.exists() else ""


def _unfinished(kind: FollowUpKind, **subject: Any) -> FollowUp | None:
    states = (FollowUpState.DUE, FollowUpState.CLAIMED)
    return FollowUp.objects.filter(kind=kind, state__in=states, **subject).first()


def _is_audited(name: str) -> bool:
    expert = Expert.objects.get(name=name)
    if expert.state == ExpertState.REJECTED:
        raise WorkFailed(f"expected expert {name} to pass the gate and its audit; it was rejected")
    return expert.state in (
        ExpertState.READY,
        ExpertState.ACTIVE,
        ExpertState.WITHDRAWN,
        ExpertState.ERASED,
    )
