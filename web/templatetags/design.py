"""What the components need that a template cannot say: tones, words, instants, page numbers.

Built into every template (see `TEMPLATES` in the settings), so no page loads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from django import template
from django.core.paginator import Page
from django.forms import BoundField, CheckboxInput
from django.utils import timezone

from governance.vocabulary import Sector, Why

register = template.Library()

Tone = Literal["good", "waiting", "stopped", "info", "neutral"]

# By the stored value. One value has one meaning in every vocabulary, so one tone too; a value
# nobody lists is neutral, and a test asks for every member of the vocabularies shown on pages.
_TONES: Final[dict[str, Tone]] = {
    # experts, revisions, licences
    "proposed": "info",
    "in_review": "waiting",
    "rejected": "stopped",
    "ready": "info",
    "active": "good",
    "suspended": "waiting",
    "withdrawn": "stopped",
    "erased": "neutral",
    "submitted": "info",
    "verified": "info",
    "audited": "info",
    "activation_requested": "waiting",
    "activated": "good",
    "refused": "stopped",
    "superseded": "neutral",
    "requested": "waiting",
    "approved": "good",
    "ended": "neutral",
    "returned": "waiting",
    "open": "waiting",
    "void": "stopped",
    # builds, audits, follow-ups
    "planned": "info",
    "assembled": "info",
    "promoted": "good",
    "retired": "neutral",
    "tombstoned": "stopped",
    "failed": "stopped",
    "pass": "good",
    "review": "waiting",
    "fail": "stopped",
    "invalid": "stopped",
    "due": "waiting",
    "claimed": "info",
    "done": "good",
    "cancelled": "neutral",
    # statements
    "disputed": "stopped",
    "commented": "neutral",
    "answered": "waiting",
    "settled": "good",
    "issued": "good",
    # withdrawal stages and how they came about
    "blocked": "stopped",
    "unloaded": "stopped",
    "rebuilt": "good",
    "backups": "neutral",
    "acks": "good",
    "expiry": "waiting",
    # instruments
    "suspend": "waiting",
    "withdraw": "stopped",
    "terminate": "stopped",
    "expire": "neutral",
    "revoke": "stopped",
    "invalidate": "stopped",
    # consent events
    "deferred": "waiting",
    "unknown": "neutral",
    "given": "good",
    "renewed": "good",
    "revoked": "stopped",
    "expired": "neutral",
    "invalidated": "stopped",
    # owners, consumers, legal holds, messages
    "prospect": "info",
    "left": "neutral",
    "in_force": "waiting",  # a hold: something waits for it
    "lifted": "neutral",
    "delivered": "good",
    # runners
    "serving": "good",
    "stale": "waiting",
    "closed": "neutral",
}
_HOLLOW: Final = frozenset({"erased", "tombstoned", "cancelled", "superseded", "closed", "retired"})
_LIVE: Final = frozenset({"claimed"})
_WHY_CODES: Final = frozenset(why.value for why in Why)
_SPECIAL_WORDS: Final = {
    "acks": "By acknowledgement",
    "expiry": "By lease expiry",
    "claimed": "Under way",
}

_SOON: Final = timedelta(days=3)
_PAGES_AROUND: Final = 1


@register.filter
def tone(value: object) -> Tone:
    """The tone of a vocabulary value; neutral where none is listed."""
    return _TONES.get(str(value).lower(), "neutral")


@register.filter
def is_hollow(value: object) -> bool:
    """Whether nothing of the thing is left in use."""
    return str(value).lower() in _HOLLOW


@register.filter
def is_live(value: object) -> bool:
    """Whether work on it is going on now."""
    return str(value).lower() in _LIVE


@register.filter
def words(value: object) -> str:
    """A stored code in words for people: `in_review` → "In review", a Why code → its sentence,
    the letter of a sector → its title."""
    text = str(value)
    if text in _WHY_CODES:
        return Why(text).label
    if text in Sector.__members__:
        return Sector(text).label
    return _SPECIAL_WORDS.get(text) or text.replace("_", " ").replace(".", " ").capitalize()


@register.filter
def short_digest(value: object) -> str:
    """The first twelve characters of a digest; shorter text is left whole."""
    text = str(value)
    return text if len(text) <= 16 else f"{text[:12]}…"


@register.filter
def iso(at: datetime) -> str:
    """For the datetime attribute of <time>, in UTC to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@register.filter
def utc(at: datetime) -> str:
    moment = at.astimezone(UTC)
    return f"{moment.day} {moment:%b %Y, %H:%M} UTC"


@register.filter
def utc_date(at: datetime) -> str:
    moment = at.astimezone(UTC)
    return f"{moment.day} {moment:%b %Y}"


@register.filter
def due_words(at: datetime) -> str:
    """A deadline's distance from now in its largest unit: "in 3 days", "5 min overdue"."""
    return distance_words(at - timezone.now(), "overdue")


@register.filter
def distance(at: datetime) -> str:
    """An instant's distance from now in its largest unit: "in 3 days", "5 min ago"."""
    return distance_words(at - timezone.now(), "ago")


@register.filter
def due_tone(at: datetime) -> Tone:
    left = at - timezone.now()
    if left < timedelta(0):
        return "stopped"
    return "waiting" if left < _SOON else "neutral"


def distance_words(left: timedelta, past: str) -> str:
    """`left` in words, cut down and never rounded up: a deadline must not look further off.

    `past` follows the distance where `left` is negative. app.js says the same.
    """
    seconds = int(abs(left).total_seconds())
    for name, size in (("day", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count = seconds // size
        if count:
            unit = "days" if name == "day" and count != 1 else name
            return f"in {count} {unit}" if left > timedelta(0) else f"{count} {unit} {past}"
    return "now"


@register.filter
def share(done: Any, total: Any) -> str:
    """Whole percent, cut down so that 100 % means all of it; empty where it cannot be said."""
    try:
        done_count, total_count = float(done or 0), float(total)
    except (TypeError, ValueError):
        return ""
    if total_count <= 0:
        return ""
    return f"{int(100 * min(done_count, total_count) / total_count)} %"


@register.filter
def is_checkbox(field: BoundField) -> bool:
    return isinstance(field.field.widget, CheckboxInput)


@register.filter
def page_numbers(page: Page[Any]) -> Iterator[int | None]:
    """First, last and those around the present page; None marks a gap."""
    last = page.paginator.num_pages
    around = range(page.number - _PAGES_AROUND, page.number + _PAGES_AROUND + 1)
    shown = sorted({1, last, *(number for number in around if 1 <= number <= last)})
    before = 0
    for number in shown:
        if number - before == 2:
            yield number - 1  # a gap of one page is no shorter than its number
        elif number - before > 2:
            yield None
        yield number
        before = number
