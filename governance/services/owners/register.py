"""The register of data owners: taken on, edited with history, moved from status to status."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils.text import slugify

from governance.canonical import plain
from governance.errors import InvalidTerms, UnlawfulMove
from governance.log import events
from governance.models import Account, DataOwner, Document, Licence, OwnerChange
from governance.services import approvals
from governance.services.approvals import subjects
from governance.services.owners.names import duplicates, name_key
from governance.vocabulary import EventTag, ExpertState, OwnerStatus

FACTS = (
    "legal_name",
    "jurisdiction",
    "registry_name",
    "registry_number",
    "postal_address",
    "contact_name",
    "contact_email",
    "dpo_name",
    "dpo_email",
    "signatory_name",
    "signatory_role",
    "signatory_email",
    "authority",
)
"""What may be edited; the status moves by an act of its own."""

_GONE = (ExpertState.PROPOSED, ExpertState.WITHDRAWN, ExpertState.ERASED)


@transaction.atomic
def register(
    legal_name: str,
    *,
    jurisdiction: str,
    slug: str | None = None,
    status: OwnerStatus = OwnerStatus.ACTIVE,
    is_distinct: bool = False,
    by: Account | None,
    at: datetime,
    **facts: Any,
) -> DataOwner:
    """Take on a data owner: as a prospect that `by` asks approval for, where a route says so.

    Args:
        jurisdiction: ISO 3166-1 alpha-2 code of the country it is registered in.
        is_distinct: whether somebody has looked at the owners of alike name or number and says
            that this is another.
        facts: others of `FACTS`.

    Raises:
        InvalidTerms: not a country code, name or registry number are taken, or one registered
            already may be the same and nobody has said that it is not.
    """
    facts = {"legal_name": legal_name, "jurisdiction": jurisdiction, **facts}
    check_country(jurisdiction, field="jurisdiction")
    slug = slug or slugify(legal_name)[:64]
    if not slug or DataOwner.objects.filter(slug=slug).exists():
        raise InvalidTerms(
            f"expected a name no owner has yet, found {legal_name!r}. Add what tells them apart.",
            fields={"legal_name": "An owner of this name is registered already."},
        )
    _check_facts(facts)
    if not is_distinct:
        _check_distinct(facts)
    owner = DataOwner(slug=slug, status=status, registered_at=at)
    _set(owner, facts)
    owner.save(force_insert=True)
    if by is not None and approvals.required(subjects.owner(owner)):
        owner.status = status = OwnerStatus.PROSPECT
        owner.save(update_fields=["status"])
        approvals.opened(subjects.owner(owner), by=by, at=at)
    _keep(owner, changed=[], reason="registered", by=by, at=at)
    events.stage(
        EventTag.OWNER_REGISTERED,
        subject=f"owner:{owner.slug}",
        by=by,
        at=at,
        details={"legal_name": legal_name, "jurisdiction": jurisdiction, "status": status.value},
    )
    return owner


@transaction.atomic
def change(
    owner: DataOwner,
    *,
    facts: Mapping[str, Any],
    by: Account | None,
    at: datetime,
    reason: str = "",
) -> DataOwner:
    """Edit an owner; what it was before stays readable (`as_of`). Nothing new changes nothing.

    The log names which facts changed, not their content: names and addresses stay in tables.

    Raises:
        InvalidTerms: an unknown fact, not a country code, or the registry number is taken.
    """
    found = DataOwner.objects.select_for_update().get(pk=owner.pk)
    _check_facts(facts, besides=found)
    changed = sorted(name for name, told in facts.items() if getattr(found, name) != told)
    if not changed:
        return found
    _set(found, facts)
    found.save()
    _keep(found, changed=changed, reason=reason, by=by, at=at)
    events.stage(
        EventTag.OWNER_CHANGED,
        subject=f"owner:{found.slug}",
        by=by,
        at=at,
        details={"changed": changed, "reason": reason},
    )
    return found


@transaction.atomic
def move(
    owner: DataOwner, *, to: OwnerStatus, by: Account | None, at: datetime, reason: str = ""
) -> DataOwner:
    """Move an owner to another status. Repeating it changes nothing.

    A suspended owner signs nothing new; what runs goes on under its licences, until these are
    suspended or withdrawn themselves. Where a route is on, a prospect becomes active by the last
    signature of its request alone (`services.signoffs`).

    Raises:
        NotPermitted: a prospect that nobody approved as it is.
        UnlawfulMove: not from this status, or it would leave with experts or licences in use.
    """
    found = DataOwner.objects.select_for_update().get(pk=owner.pk)
    before = OwnerStatus(found.status)
    if to == before:
        return found
    if to not in before.moves:
        raise UnlawfulMove(
            f"expected {' or '.join(sorted(before.moves))} after {before}, found {to}. Take the "
            "step between."
        )
    if to == OwnerStatus.LEFT:
        _check_may_leave(found, at)
    if before == OwnerStatus.PROSPECT and to == OwnerStatus.ACTIVE:
        approvals.spend(subjects.owner(found), at=at)
    found.status = to
    found.save(update_fields=["status"])
    _keep(found, changed=["status"], reason=reason, by=by, at=at)
    events.stage(
        EventTag.OWNER_MOVED,
        subject=f"owner:{found.slug}",
        by=by,
        at=at,
        details={"from": before.value, "to": to.value, "reason": reason},
    )
    return found


def as_of(owner: DataOwner, at: datetime) -> dict[str, Any] | None:
    """Every fact of the owner as it stood at `at`; None before it was registered."""
    standing = OwnerChange.objects.filter(owner=owner, at__lte=at).order_by("-at", "-id").first()
    return None if standing is None else dict(standing.facts)


def check_country(code: str, *, field: str) -> None:
    """Refuse what is not shaped like an ISO 3166-1 alpha-2 code.

    Raises:
        InvalidTerms: naming `field`.
    """
    if not (len(code) == 2 and code.isascii() and code.isalpha() and code.isupper()):
        raise InvalidTerms(
            f"expected a country as two capital letters (ISO 3166-1), found {code!r}.",
            fields={field: "Two capital letters, such as NL."},
        )


def _check_facts(facts: Mapping[str, Any], *, besides: DataOwner | None = None) -> None:
    unknown = sorted(set(facts) - set(FACTS))
    if unknown:
        raise InvalidTerms(f"expected facts out of {', '.join(FACTS)}, found {', '.join(unknown)}.")
    if not str(facts.get("legal_name", "x")).strip():
        raise InvalidTerms(
            "expected a legal name, found none.", fields={"legal_name": "Say its name."}
        )
    if "jurisdiction" in facts:
        check_country(facts["jurisdiction"], field="jurisdiction")
    authority = facts.get("authority")
    if authority is not None and not isinstance(authority, Document):
        raise InvalidTerms("expected a stored document as proof of authority. Hand in the file.")
    number = facts.get("registry_number", "")
    country = facts.get("jurisdiction", besides.jurisdiction if besides else "")
    taken = DataOwner.objects.filter(jurisdiction=country, registry_number=number)
    if besides is not None:
        taken = taken.exclude(pk=besides.pk)
    if number and taken.exists():
        raise InvalidTerms(
            f"expected a registry number new in {country}, found {number}. Use the owner "
            "registered under it.",
            fields={"registry_number": "Registered already in this country."},
        )


def _check_distinct(facts: Mapping[str, Any]) -> None:
    alike = duplicates(
        facts["legal_name"],
        jurisdiction=facts["jurisdiction"],
        registry_number=facts.get("registry_number", ""),
    )
    if alike:
        names = ", ".join(f"{one} ({one.jurisdiction})" for one in alike)
        raise InvalidTerms(
            f"expected an owner not registered yet, found {names}, which may be the same. Use "
            "that one, or say that this is another.",
            fields={"is_distinct": f"May be the same as {names}."},
        )


def _check_may_leave(owner: DataOwner, at: datetime) -> None:
    in_use = owner.experts.exclude(state__in=_GONE).values_list("name", flat=True)
    in_force = Licence.objects.in_force(at).filter(corpus__owner=owner)
    held = [*in_use, *in_force.values_list("reference", flat=True)]
    if held:
        raise UnlawfulMove(
            f"expected nothing of {owner} in use, found {', '.join(held)}. Withdraw its experts "
            "and end its licences first."
        )


def _set(owner: DataOwner, facts: Mapping[str, Any]) -> None:
    for name, told in facts.items():
        setattr(owner, name, told)
    owner.name_key = name_key(owner.legal_name)


def _keep(
    owner: DataOwner, *, changed: list[str], reason: str, by: Account | None, at: datetime
) -> None:
    facts = {name: getattr(owner, name) for name in FACTS if name != "authority"}
    facts |= {"authority": owner.authority_id, "status": owner.status}
    OwnerChange.objects.create(
        owner=owner, facts=plain(facts), changed=changed, reason=reason, by=by, at=at
    )
