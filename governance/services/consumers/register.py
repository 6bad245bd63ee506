"""The register of consumers: taken on, edited, moved from status to status."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils.text import slugify

from governance.errors import InvalidTerms, UnlawfulMove
from governance.log import events
from governance.models import Account, Consumer
from governance.services import approvals
from governance.services.approvals import subjects
from governance.services.owners import check_country
from governance.vocabulary import ConsumerStatus, EventTag, RecipientClass, Sector

FACTS = (
    "name",
    "registry_name",
    "registry_number",
    "contact_name",
    "contact_email",
    "territory",
    "sector",
    "recipient_class",
)
"""What may be edited; the status moves by an act of its own."""


@transaction.atomic
def register(
    name: str,
    *,
    territory: str,
    slug: str | None = None,
    by: Account | None,
    at: datetime,
    **facts: Any,
) -> Consumer:
    """Take on an organisation that may ask the model: as a prospect that `by` asks approval for,
    where a route says so.

    Args:
        territory: ISO 3166-1 alpha-2 code of where its answers are used.
        facts: others of `FACTS`; a sector by its letter, its title or an everyday word.

    Raises:
        InvalidTerms: not a country code, an unknown sector or class, or the name is taken.
    """
    told = _checked({"name": name, "territory": territory, **facts})
    slug = slug or slugify(name)[:64]
    if not slug or Consumer.objects.filter(slug=slug).exists():
        raise InvalidTerms(
            f"expected a name no consumer has yet, found {name!r}. Add what tells them apart.",
            fields={"name": "A consumer of this name is registered already."},
        )
    consumer = Consumer.objects.create(slug=slug, registered_at=at, **told)
    if by is not None and approvals.required(subjects.consumer(consumer)):
        consumer.status = ConsumerStatus.PROSPECT
        consumer.save(update_fields=["status"])
        approvals.opened(subjects.consumer(consumer), by=by, at=at)
    events.stage(
        EventTag.CONSUMER_REGISTERED,
        subject=f"consumer:{slug}",
        by=by,
        at=at,
        details={
            "name": name,
            "territory": territory,
            "sector": consumer.sector,
            "status": ConsumerStatus(consumer.status).value,
        },
    )
    return consumer


@transaction.atomic
def change(
    consumer: Consumer, *, facts: Mapping[str, Any], by: Account | None, at: datetime
) -> Consumer:
    """Edit a consumer. Policy sees the new sector, class and territory from its next request on.

    Raises:
        InvalidTerms: not a country code, or an unknown sector, class or fact.
    """
    found = Consumer.objects.select_for_update().get(pk=consumer.pk)
    told = _checked(facts)
    before = {name: getattr(found, name) for name in told}
    changed = sorted(name for name in told if told[name] != before[name])
    if not changed:
        return found
    for name in changed:
        setattr(found, name, told[name])
    found.save(update_fields=changed)
    # What policy reads is written out; who to call stays in the table.
    seen = {"territory", "sector", "recipient_class"}.intersection(changed)
    values = {name: {"from": before[name], "to": told[name]} for name in sorted(seen)}
    events.stage(
        EventTag.CONSUMER_CHANGED,
        subject=f"consumer:{found.slug}",
        by=by,
        at=at,
        details={"changed": changed, **values},
    )
    return found


@transaction.atomic
def move(
    consumer: Consumer,
    *,
    to: ConsumerStatus,
    by: Account | None,
    at: datetime,
    reason: str = "",
) -> Consumer:
    """Suspend, resume or close a consumer: unless active, its keys open nothing, at once.

    Repeating it changes nothing. Where a route is on, a prospect becomes active by the last
    signature of its request alone (`services.signoffs`).

    Raises:
        NotPermitted: a prospect that nobody approved as it is.
        UnlawfulMove: not from this status.
    """
    found = Consumer.objects.select_for_update().get(pk=consumer.pk)
    before = ConsumerStatus(found.status)
    if to == before:
        return found
    if to not in before.moves:
        allowed = " or ".join(sorted(before.moves)) or "nothing else"
        raise UnlawfulMove(f"expected {allowed} after {before}, found {to}. Register it anew.")
    if before == ConsumerStatus.PROSPECT and to == ConsumerStatus.ACTIVE:
        approvals.spend(subjects.consumer(found), at=at)
    found.status = to
    found.save(update_fields=["status"])
    events.stage(
        EventTag.CONSUMER_MOVED,
        subject=f"consumer:{found.slug}",
        by=by,
        at=at,
        details={"from": before.value, "to": to.value, "reason": reason},
    )
    return found


def _checked(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts as they are kept."""
    unknown = sorted(set(facts) - set(FACTS))
    if unknown:
        raise InvalidTerms(f"expected facts out of {', '.join(FACTS)}, found {', '.join(unknown)}.")
    told = dict(facts)
    if "territory" in told:
        check_country(told["territory"], field="territory")
    if told.get("sector"):
        sector = Sector.named(told["sector"])
        if sector is None:
            raise InvalidTerms(
                f"expected a section of NACE Rev. 2 (A to U), found {told['sector']!r}.",
                fields={"sector": "Choose one of the sections A to U."},
            )
        told["sector"] = sector.value
    if "recipient_class" in told and told["recipient_class"] not in set(RecipientClass):
        known = ", ".join(RecipientClass)
        raise InvalidTerms(
            f"expected a recipient class out of {known}, found {told['recipient_class']!r}.",
            fields={"recipient_class": "Choose one of the known classes."},
        )
    return told
