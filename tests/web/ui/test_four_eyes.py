"""Nobody decides what they asked for: at every door, page or REST, by themselves, as a superuser,
by a seat in a group, in an absent colleague's place; and where the services would let them, the
database does not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pgtrigger
import pytest
from django.contrib.auth.models import Group
from django.db import IntegrityError
from django.utils import timezone

from governance.models import (
    Account,
    ApiKey,
    ApprovalAct,
    ApprovalRequest,
    Build,
    Consumer,
    ContractReading,
    Countersignature,
    DataOwner,
    HandOut,
    LegalHold,
    Licence,
    Membership,
)
from governance.services import (
    approvals,
    consumers,
    documents,
    experts,
    eyes,
    holds,
    licences,
    owners,
    signoffs,
)
from governance.services.approvals import seats, subjects
from governance.vocabulary import (
    ApprovalKind,
    ApprovalState,
    ApprovalVerb,
    ConsumerStatus,
    OwnerRole,
    OwnerStatus,
    Purpose,
    Role,
    Use,
)
from tests import factories
from tests.web.ui.doors import DECIDES, DECIDES_NOTHING, PRESSED, Door
from web.ui.lists import listing

pytestmark = pytest.mark.django_db
WAYS = ("themselves", "superuser", "group", "delegation")
DOORS = [door for rows in DECIDES.values() for door in rows]
TRIGGER = "governance.ApprovalAct:approval_four_eyes"


@dataclass(frozen=True)
class Asked:
    """What Cato asked for: the names its doors are reached by, and whether nothing came of it."""

    names: dict[str, Any]
    is_untouched: Callable[[], bool]


def _request(row: ApprovalRequest, **names: Any) -> Asked:
    def is_untouched() -> bool:
        row.refresh_from_db()
        is_quiet = not row.acts.exclude(verb=ApprovalVerb.SUBMIT).exists()
        return row.state == ApprovalState.OPEN and row.paused_at is None and is_quiet

    return Asked({"request": row.pk, **names}, is_untouched)


def _licence(story, *, by: Account, contract: str = "", **terms: Any) -> Licence:
    """Terms for the plays asked for anew, so that they go the way that is in force now."""
    licences.reject(story.waiting_licence, by=story.cast.celia, at=timezone.now())
    asked = licences.Terms(
        uses=[Use.ANSWER],
        purposes=[Purpose.EDUCATION],
        starts_at=timezone.now(),
        contract_digest=contract,
    )
    corpus = story.waiting_licence.corpus
    return licences.request(corpus, terms=asked, by=by, at=timezone.now(), **terms)


def licence(story) -> Asked:
    row = _licence(story, by=story.cast.cato)
    asked = ApprovalRequest.objects.get(subject_id=row.pk)
    return _request(asked, reference=row.reference, licence=row.pk)


def _with_file(story, *, handed_in_by: Account, requested_by: Account) -> Asked:
    now = timezone.now()
    file = documents.store(
        b"May answer.", name="c.txt", media_type="text/plain", by=handed_in_by, at=now
    )
    row = _licence(story, by=requested_by, contract=file.digest)
    return Asked({"reference": row.reference}, lambda: not ContractReading.objects.exists())


def contract(story) -> Asked:
    return _with_file(story, handed_in_by=story.cast.cato, requested_by=story.cast.cato)


def file(story) -> Asked:
    return _with_file(story, handed_in_by=story.cast.cato, requested_by=story.cast.celia)


def countersignature(story) -> Asked:
    """Cato asked for the licence, and has since changed sides."""
    cast = story.cast
    row = _licence(story, by=cast.cato, needs_countersignature=True)
    licences.approve(row, by=cast.celia, at=timezone.now())
    Membership.objects.filter(account=cast.cato).delete()
    Membership.objects.create(
        account=cast.cato,
        role=Role.OWNER,
        owner=cast.alder,
        owner_role=OwnerRole.SIGNATORY,
        since_at=timezone.now(),
    )
    return Asked({"reference": row.reference}, lambda: not Countersignature.objects.exists())


def activation(story) -> Asked:
    cast, now = story.cast, timezone.now()
    experts.reject_activation(story.waiting_revision, by=cast.celia, at=now)
    experts.request_activation(story.waiting_revision, by=cast.cato, at=now)
    rows = ApprovalRequest.objects.filter(subject_id=story.waiting_revision.pk)
    return _request(rows.get(state=ApprovalState.OPEN), revision=story.waiting_revision.pk)


def key(story) -> Asked:
    cast = story.cast
    subject = subjects.api_key(
        cast.dara, label="own", purposes=["research"], scopes=None, expires_at=None
    )
    row = approvals.ask(subject, by=cast.cato, at=timezone.now())
    return _request(row, celia=cast.celia.pk)


def unapproved_key(story) -> Asked:
    _adopt(story, ApprovalKind.API_KEY, approvals.Step("Legal", role=Role.LEGAL))
    return Asked(key(story).names, lambda: not ApiKey.objects.filter(label="own").exists())


def waiver(story) -> Asked:
    subject = subjects.waiver(story.audited)
    return _request(approvals.ask(subject, by=story.cast.cato, at=timezone.now()))


def route(story) -> Asked:
    step = approvals.Step("Legal", role=Role.LEGAL)
    return _request(
        approvals.propose(
            "licence",
            kind=ApprovalKind.LICENCE,
            title="t",
            steps=[step],
            by=story.cast.cato,
            at=timezone.now(),
        )
    )


def _asked(story, subject: approvals.Subject) -> Asked:
    return _request(approvals.ask(subject, by=story.cast.cato, at=timezone.now()))


def _cedar(story) -> DataOwner:
    status = OwnerStatus.PROSPECT
    return owners.register(
        "Cedar House", jurisdiction="FR", status=status, by=story.cast.cato, at=timezone.now()
    )


def owner(story) -> Asked:
    return _asked(story, subjects.owner(_cedar(story)))


def unapproved_owner(story) -> Asked:
    _adopt(story, ApprovalKind.OWNER, approvals.Step("Legal", role=Role.LEGAL))
    row = _cedar(story)
    return Asked({}, lambda: DataOwner.objects.get(pk=row.pk).status == OwnerStatus.PROSPECT)


def _nova(story) -> Consumer:
    return consumers.register("Nova", territory="FR", by=story.cast.cato, at=timezone.now())


def consumer(story) -> Asked:
    row = _nova(story)
    row.status = ConsumerStatus.PROSPECT
    row.save()
    return _asked(story, subjects.consumer(row))


def unapproved_consumer(story) -> Asked:
    _adopt(story, ApprovalKind.CONSUMER, approvals.Step("Legal", role=Role.LEGAL))
    row = _nova(story)
    return Asked({}, lambda: Consumer.objects.get(pk=row.pk).status == ConsumerStatus.PROSPECT)


def promotion(story) -> Asked:
    return _asked(story, subjects.promotion(factories.build(number=700, state="assembled")))


def _exported(story) -> Build:
    """A build of the public expert alone, whose file is this one."""
    here = Path(__file__)
    files = {here.name: hashlib.sha256(here.read_bytes()).hexdigest()}
    return factories.build(
        number=700, state="retired", export_path=str(here.parent), export_files=files
    )


def export(story) -> Asked:
    return _asked(story, subjects.export(_exported(story), "A"))


def unapproved_export(story) -> Asked:
    _adopt(story, ApprovalKind.EXPORT, approvals.Step("Legal", role=Role.LEGAL))
    cato = story.cast.cato
    Membership.objects.create(account=cato, role=Role.ENGINEER, since_at=timezone.now())
    build = _exported(story)
    approvals.ask(subjects.export(build, "A"), by=cato, at=timezone.now())
    return Asked({"number": build.number}, lambda: not HandOut.objects.exists())


def hold(story) -> Asked:
    now = timezone.now()
    row = holds.request(
        story.cast.experts["code"],
        authority="Court of Utrecht, 12/3",
        reason="An order",
        until_at=now + timedelta(days=9),
        by=story.cast.cato,
        at=now,
    )
    return _held(row)


def _held(row: LegalHold) -> Asked:
    before = LegalHold.objects.get(pk=row.pk).state
    return Asked({"hold": row.pk}, lambda: LegalHold.objects.get(pk=row.pk).state == before)


def standing_hold(story) -> Asked:
    row = LegalHold.objects.get(pk=hold(story).names["hold"])
    return _held(holds.approve(row, by=story.cast.celia, at=timezone.now()))


ASK = {
    "licence": licence,
    "contract": contract,
    "file": file,
    "countersignature": countersignature,
    "activation": activation,
    "key": key,
    "unapproved key": unapproved_key,
    "waiver": waiver,
    "route": route,
    "owner": owner,
    "unapproved owner": unapproved_owner,
    "consumer": consumer,
    "unapproved consumer": unapproved_consumer,
    "promotion": promotion,
    "export": export,
    "unapproved export": unapproved_export,
    "hold": hold,
    "standing hold": standing_hold,
}


def _adopt(story, kind: ApprovalKind, step: approvals.Step) -> None:
    """A route that Celia proposes and Cato approves: nothing of his own yet."""
    cast = story.cast
    proposed = approvals.propose(
        kind.value.replace("_", "-"),
        kind=kind,
        title="As told",
        steps=[step],
        by=cast.celia,
        at=timezone.now(),
    )
    signoffs.approve(proposed, by=cast.cato, at=timezone.now())


def empower(way: str, story) -> None:
    """Give Cato what might be mistaken for a right to decide for himself."""
    cast, now = story.cast, timezone.now()
    if way == "superuser":
        Account.objects.filter(pk=cast.cato.pk).update(is_superuser=True, is_staff=True)
    if way == "group":
        Group.objects.create(name="board").user_set.add(cast.cato, cast.celia)
        for kind in (ApprovalKind.LICENCE, ApprovalKind.ACTIVATION, ApprovalKind.WAIVER):
            _adopt(story, kind, approvals.Step("The board", group="board"))
    if way == "delegation":
        approvals.record_absence(
            giver=cast.celia,
            taker=cast.cato,
            starts_at=now - timedelta(hours=1),
            ends_at=now + timedelta(days=1),
            by=cast.celia,
            at=now - timedelta(hours=2),
        )


def press(client, door: Door, asked: Asked) -> Any:
    """Send what the door takes to where it is."""
    path = door.path.format(**asked.names)
    sent = {
        name: value.format(**asked.names) if isinstance(value, str) else value
        for name, value in door.sent.items()
    }
    if path.startswith("/api/"):
        return client.post(path, sent, content_type="application/json")
    return client.post(path, sent, follow=True)


def walk(client, door: Door, asked: Asked) -> None:
    """Cato presses, is told why not, and nothing has come of it."""
    answer = press(client, door, asked)
    if door.path.startswith("/api/"):
        assert (answer.status_code, answer.json().get("code")) == (door.status, door.code)
    else:
        assert door.said in answer.content.decode()
    assert asked.is_untouched()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("door", DOORS, ids=str)
def test_nobody_decides_what_they_asked_for(by, story, door, way):
    empower(way, story)
    walk(by("cato"), door, ASK[door.asked](story))


def unseeing(monkeypatch) -> None:
    """Mutant: the services no longer look who asked."""
    monkeypatch.setattr(eyes, "check", lambda *_, **__: None)
    monkeypatch.setattr(seats, "check_eyes", lambda *_, **__: None)


@pytest.mark.parametrize("door", [one for one in DOORS if one.is_held_by_the_database], ids=str)
def test_the_database_refuses_where_the_services_do_not_look(by, story, door, monkeypatch):
    asked = ASK[door.asked](story)
    unseeing(monkeypatch)
    with pytest.raises(IntegrityError, match=r"four_eyes|requester_never|is_the_owners"):
        press(by("cato"), door, asked)
    assert asked.is_untouched()


@pytest.mark.parametrize("kind", ["key", "route", "waiver"])
def test_the_mutant_that_nothing_holds_is_caught(by, story, kind, monkeypatch):
    """With neither services nor trigger the deed is done, and the walk says so."""
    asked = ASK[kind](story)
    unseeing(monkeypatch)
    door = Door(kind, "/api/v1/approvals/{request}/approve")
    with pgtrigger.ignore(TRIGGER), pytest.raises(AssertionError):
        walk(by("cato"), door, asked)
    assert ApprovalAct.objects.filter(verb=ApprovalVerb.APPROVE, request=asked.names["request"])


OTHERS = [
    door
    for door in DOORS
    if door.asked not in ("countersignature", "file")
    and not door.asked.startswith("unapproved")
    and "hand-over" not in door.path
]


@pytest.mark.parametrize("door", OTHERS, ids=str)
def test_a_colleague_gets_through_the_same_door(by, story, door):
    """Else the doors might be shut to everybody."""
    asked = ASK[door.asked](story)
    assert press(by("celia"), door, asked).status_code in (200, 201)
    assert not asked.is_untouched()


def test_every_door_is_walked_or_decides_nothing():
    """A new address that takes more than reading is added to tests/web/ui/doors.py."""
    exempt = [address for addresses in DECIDES_NOTHING.values() for address in addresses]
    assert sorted([*DECIDES, *exempt]) == sorted(PRESSED)


def test_every_bulk_act_that_decides_is_walked():
    offered = {(name, act.code) for name, one in listing._LISTINGS.items() for act in one.acts}
    deciding = {"approve", "reject", "return", "refuse", "lift", "countersign", "issue", "promote"}
    walked = {("licences", door.sent["act"]) for door in DECIDES["lists/<slug:name>/act/"]}
    assert {(name, code) for name, code in offered if code in deciding} == walked


def test_the_page_of_ones_own_request_offers_no_decision(by, story):
    for kind in ("licence", "activation", "key", "waiver", "route", "owner", "consumer", "export"):
        asked = ASK[kind](story)
        page = by("cato").get(f"/legal/approvals/{asked.names['request']}/").content.decode()
        assert "You asked for this" in page
        assert f"{asked.names['request']}/approve/" not in page


def test_a_viewer_does_not_sign_for_the_owner(by, story):
    cast = story.cast
    row = _licence(story, by=cast.cato, needs_countersignature=True)
    licences.approve(row, by=cast.celia, at=timezone.now())
    Membership.objects.filter(account=cast.ada).update(owner_role=OwnerRole.VIEWER)
    page = f"/owner/licences/{row.reference}/"
    assert "countersign/" not in by("ada").get(page).content.decode()
    assert "expected an administrator" in (
        by("ada").post(f"{page}countersign/", follow=True).content.decode()
    )
    assert not Countersignature.objects.exists()


def test_who_asked_for_a_hold_is_not_offered_to_lift_it(by, story):
    asked = standing_hold(story)
    lift = f"/legal/holds/{asked.names['hold']}/lift/"
    assert lift not in by("cato").get("/legal/experts/code/").content.decode()
    assert lift in by("celia").get("/legal/experts/code/").content.decode()
