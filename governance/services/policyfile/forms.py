"""What may stand in a policy file, section by section. Lawfulness is judged by the services."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    create_model,
)
from pydantic_core import ErrorDetails

from governance.models import Consumer, DataOwner
from governance.services.approvals import Step
from governance.services.consumers import FACTS as CONSUMER_FACTS
from governance.services.owners import FACTS as OWNER_FACTS
from governance.services.policyfile.reading import Source, Wrong, WrongFile, told
from governance.services.terms import Terms
from governance.vocabulary import ApprovalKind, DutyAction

_MAX_COUNT, _MAX_SIZE = 2**31 - 1, 2**63 - 1
Name = Annotated[str, StringConstraints(pattern=r"^[-a-zA-Z0-9_]+$", max_length=64)]
Count = Annotated[int, Field(ge=0, strict=True)]


def _instant(found: object) -> datetime:
    """An instant written out with its time zone; a bare number would read as seconds of 1970."""
    with contextlib.suppress(ValueError, OverflowError):
        at = datetime.fromisoformat(found) if isinstance(found, str) else None
        if at is not None and at.tzinfo is not None:
            return at.astimezone(UTC)
    raise ValueError("an instant with its time zone such as 2027-03-01T12:00:00Z")


Instant = Annotated[datetime, BeforeValidator(_instant)]


class Entry(BaseModel):
    """One thing in a file; a field nobody knows is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @property
    def told(self) -> dict[str, Any]:
        """The fields the file gives."""
        return {name: getattr(self, name) for name in type(self).model_fields if self.gives(name)}

    def gives(self, name: str) -> bool:
        """Whether the file gives a field."""
        return name in self.model_fields_set


def _facts(model: Any, names: tuple[str, ...], *needed: str) -> dict[str, Any]:
    """Text fields as long as their columns."""
    found: dict[str, Any] = {}
    for name in names:
        longest = model._meta.get_field(name).max_length or 2_000  # noqa: SLF001 - public by use
        kind = Annotated[str, StringConstraints(max_length=longest)]
        found[name] = (kind, ...) if name in needed else (kind, "")
    return found


OwnerEntry: Any = create_model(
    "OwnerEntry",
    __base__=Entry,
    is_distinct=(bool, False),
    **_facts(
        DataOwner,
        tuple(name for name in OWNER_FACTS if name != "authority"),
        *("legal_name", "jurisdiction"),
    ),
)
ConsumerEntry: Any = create_model(
    "ConsumerEntry", __base__=Entry, **_facts(Consumer, CONSUMER_FACTS, "name", "territory")
)


class CorpusEntry(Entry):
    """A corpus, described and never held."""

    owner: Name
    title: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    source_licence: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    languages: list[Annotated[str, StringConstraints(max_length=16)]] = []
    document_count: Annotated[Count, Field(le=_MAX_COUNT)]
    text_bytes: Annotated[Count, Field(le=_MAX_SIZE)]
    merkle_root: str = ""
    description: str = ""


class DutyEntry(Entry):
    """Something the licence obliges us to do."""

    action: DutyAction
    within_days: Count
    about: str = ""


def _terms() -> dict[str, Any]:
    """Every term of a licence, with the kind and default it has there."""
    hints, found = get_type_hints(Terms), {}
    for each in fields(Terms):
        kind = hints[each.name]
        if each.name == "duties":
            kind = list[DutyEntry]
        elif kind is datetime:
            kind = Instant
        elif kind == datetime | None:
            kind = Instant | None
        elif kind is bool or kind == int | None:
            kind = Annotated[kind, Field(strict=True)]
        default = each.default_factory() if each.default_factory is not MISSING else each.default
        found[each.name] = (kind, ... if default is MISSING else default)
    return found


LicenceEntry: Any = create_model(
    "LicenceEntry",
    __base__=Entry,
    corpus=(Name, ...),
    version_of=(Name | None, None),
    needs_countersignature=(bool, False),
    **_terms(),
)


class StepEntry(Entry):
    """One step of a route."""

    title: Annotated[str, StringConstraints(max_length=200)]
    role: Annotated[str, StringConstraints(max_length=16)] = ""
    group: Annotated[str, StringConstraints(max_length=64)] = ""
    needed: Annotated[Count, Field(ge=1, le=9)] = 1
    days: Annotated[Count, Field(ge=1, le=3650)] | None = None

    def step(self) -> Step:
        """As the engine takes it."""
        return Step(**dict(self))


class RouteEntry(Entry):
    """How requests of a kind go."""

    kind: ApprovalKind
    title: Annotated[str, StringConstraints(max_length=200)]
    steps: list[StepEntry]
    conditions: dict[str, Any] = {}
    rules: list[str] = []
    is_on: Annotated[bool, Field(strict=True)] = True


class PolicyFile(Entry):
    """The whole file. A section that is left out says nothing about what exists."""

    reclaim: Literal[1]
    owners: dict[Name, OwnerEntry] | None = None
    consumers: dict[Name, ConsumerEntry] | None = None
    corpora: dict[Name, CorpusEntry] | None = None
    licences: list[LicenceEntry] | None = None
    routes: dict[Name, RouteEntry] | None = None


def fitted(source: Source) -> PolicyFile:
    """What a file says as typed entries.

    Raises:
        WrongFile: fields that are missing, unknown or of another kind.
    """
    try:
        return PolicyFile.model_validate(source.content)
    except ValidationError as error:
        raise WrongFile(source.name, list(_wrong(source, error))) from error


def _wrong(source: Source, error: ValidationError) -> Iterator[Wrong]:
    for each in error.errors(include_url=False):
        path = tuple(one for one in each["loc"] if one not in ("[key]", "constrained-str"))
        yield told(source.line(path), path, _expected(each), _found(each))


def _expected(each: ErrorDetails) -> str:
    match each["type"]:
        case "missing":
            return "a value"
        case "extra_forbidden":
            return "a field this form has"
        case "value_error":
            return str(each["ctx"]["error"])
        case "model_type" | "dict_type":
            return "fields with values"
    _, _, wanted = each["msg"].partition(" should ")
    return wanted.removeprefix("be ") or each["msg"]


def _found(each: ErrorDetails) -> str:
    match each["type"], each["input"]:
        case "missing", _:
            return "nothing"
        case "extra_forbidden", _:
            return f"“{each['loc'][-1]}”"
        case _, dict():
            return "fields"
        case _, list():
            return "a list"
    return repr(each["input"])[:100]
