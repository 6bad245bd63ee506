"""What a file comes to, entry by entry: each goes through the service of its own kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from governance.canonical import plain
from governance.errors import InvalidTerms
from governance.models import (
    Account,
    ApprovalRequest,
    ApprovalRoute,
    Consumer,
    Corpus,
    DataOwner,
)
from governance.services import approvals, consumers, corpora, owners
from governance.vocabulary import ApprovalKind, ApprovalState
from governance.vocabulary.words import Labelled


class Action(Labelled):
    """What becomes of an entry."""

    CREATE = "create"
    CHANGE = "change"
    REQUEST = "request"
    KEEP = "keep"
    BLOCKED = "blocked"
    UNLISTED = "unlisted"


@dataclass(frozen=True)
class Changed:
    """One field that the file says otherwise."""

    field: str
    before: str
    after: str


@dataclass(frozen=True)
class Step:
    """What is done about one thing. `line` is None for what is not in the file."""

    kind: str
    name: str
    action: Action
    why: str = ""
    changes: tuple[Changed, ...] = ()
    line: int | None = None


@dataclass(frozen=True)
class Doing:
    """Who applies the file, and when."""

    by: Account
    at: datetime


UNLISTED: Final = "exists and is not in the file; nothing is done about it"


def owner(name: str, entry: Any, doing: Doing) -> Step:
    """Register an owner, or edit its facts as far as the file gives them."""
    told = {fact: value for fact, value in entry.told.items() if fact != "is_distinct"}
    found = DataOwner.objects.filter(slug=name).first()
    if found is None:
        owners.register(**told, slug=name, is_distinct=entry.is_distinct, by=doing.by, at=doing.at)
        return Step("owner", name, Action.CREATE)
    after = owners.change(found, facts=told, reason="policy file", by=doing.by, at=doing.at)
    return _changed("owner", name, found, after, told)


def consumer(name: str, entry: Any, doing: Doing) -> Step:
    """Register a consumer, or edit its facts as far as the file gives them."""
    found = Consumer.objects.filter(slug=name).first()
    if found is None:
        consumers.register(**entry.told, slug=name, by=doing.by, at=doing.at)
        return Step("consumer", name, Action.CREATE)
    after = consumers.change(found, facts=entry.told, by=doing.by, at=doing.at)
    return _changed("consumer", name, found, after, entry.told)


def _changed(kind: str, name: str, before: Any, after: Any, told: Mapping[str, Any]) -> Step:
    changes = _differing({fact: (getattr(before, fact), getattr(after, fact)) for fact in told})
    return Step(kind, name, Action.CHANGE if changes else Action.KEEP, changes=changes)


def _differing(values: Mapping[str, tuple[Any, Any]]) -> tuple[Changed, ...]:
    return tuple(
        Changed(field, str(plain(before)), str(plain(after)))
        for field, (before, after) in values.items()
        if before != after
    )


def corpus(name: str, entry: Any, doing: Doing) -> Step:
    """Describe a corpus. A description stays as it was made; what differs is reported."""
    named = DataOwner.objects.filter(slug=entry.owner).first()
    if named is None:
        raise InvalidTerms(
            f"expected a registered owner or one of the file's, found {entry.owner}.",
            fields={"owner": f"Expected a registered owner, found {entry.owner}. List it too."},
        )
    found = Corpus.objects.filter(slug=name).select_related("owner").first()
    facts = {fact: getattr(entry, fact) for fact in type(entry).model_fields if fact != "owner"}
    if found is None:
        corpora.describe(named, slug=name, **facts, by=doing.by, at=doing.at)
        return Step("corpus", name, Action.CREATE)
    values = {fact: (getattr(found, fact), facts[fact]) for fact in entry.told if fact != "owner"}
    changes = _differing({"owner": (found.owner.slug, entry.owner), **values})
    if changes:
        why = "a description is made once; describe it anew under another name"
        return Step("corpus", name, Action.BLOCKED, why, changes)
    return Step("corpus", name, Action.KEEP)


def route(name: str, entry: Any, doing: Doing) -> Step:
    """Propose the next version of a route; a colleague's approval puts it in force."""
    wanted = {
        "kind": entry.kind,
        "title": entry.title,
        "steps": [vars(step.step()) for step in entry.steps],
        "conditions": entry.conditions,
        "rules": sorted(set(entry.rules)),
        "is_on": entry.is_on,
    }
    standing = {each.key: each for each in approvals.in_force()}.get(name)
    newest = ApprovalRoute.objects.filter(key=name).order_by("-version").first()
    asked = (
        ApprovalRequest.objects.filter(kind=ApprovalKind.ROUTE, subject_id=str(newest.pk))
        .order_by("-opened_at")
        .first()
        if newest and newest.adopted_at is None
        else None
    )
    if newest and asked and _content(newest) == wanted:
        return Step("route", name, Action.KEEP, f"version {newest.version} is {asked.state}")
    if newest and asked and asked.state == ApprovalState.OPEN:
        why = f"version {newest.version} waits for a second person; decide it or take it back first"
        return Step("route", name, Action.BLOCKED, why)
    before = _content(standing) if standing else {}
    if before == wanted:
        return Step("route", name, Action.KEEP)
    approvals.propose(
        name, **{**wanted, "steps": [step.step() for step in entry.steps]},
        by=doing.by, at=doing.at,
    )  # fmt: skip
    changes = _differing({field: (before.get(field, ""), wanted[field]) for field in wanted})
    return Step("route", name, Action.REQUEST, "a second person decides", changes)


def _content(found: approvals.Route | ApprovalRoute) -> dict[str, Any]:
    steps = [step if isinstance(step, dict) else vars(step) for step in found.steps]
    return {
        "kind": found.kind,
        "title": found.title,
        "steps": steps,
        "conditions": dict(found.conditions),
        "rules": sorted(found.rules),
        "is_on": found.is_on,
    }


def unlisted(section: str, listed: set[str]) -> list[Step]:
    """What exists of a section's kind and is not in the file."""
    rows: Any = {"owners": DataOwner, "consumers": Consumer, "corpora": Corpus}.get(section)
    if rows is not None:
        names = rows.objects.order_by("slug").values_list("slug", flat=True)
    else:
        names = [each.key for each in approvals.in_force() if each.version]
    kind = {"corpora": "corpus"}.get(section, section.removesuffix("s"))
    return [Step(kind, name, Action.UNLISTED, UNLISTED) for name in names if name not in listed]
