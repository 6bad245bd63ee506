"""What an act would do, said before the click. Nothing here writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.db.models import Count, F, Max, Q, Sum

from governance.models import Build, Consumer, Corpus, Expert, LegalHold, Licence, UsageRecord
from governance.selectors import corpora as selected
from governance.services.effects import notice
from governance.services.effects.rules import RULES, Rule
from governance.services.effects.scope import EVERYTHING, Scope
from governance.vocabulary import BuildState, Instrument, Purpose

LOOK_BACK = timedelta(days=30)
_FALLEN = (BuildState.TOMBSTONED, BuildState.FAILED)


@dataclass(frozen=True, slots=True)
class Affected:
    """A consumer whose use of the last 30 days the act would stop; tokens are whole answers'."""

    slug: str
    name: str
    requests: int
    tokens: int
    last_used_at: datetime
    may_wind_down: bool


@dataclass(frozen=True, slots=True)
class Preview:
    """The effect of an act that has not happened. `sentences` say all of it for people.

    `erases` is what the act itself would have destroyed; with `held_until` the bytes are sealed
    first. `builds` are the numbers of those that could never serve again.
    """

    rule: Rule
    target: str
    scope: Scope
    disabled_at: datetime
    wind_down_until: datetime | None
    erases: bool
    held_until: datetime | None
    consumers: tuple[Affected, ...]
    builds: tuple[int, ...]
    sentences: tuple[str, ...]

    @property
    def requests(self) -> int:
        """Requests of the last 30 days that would have been answered without it."""
        return sum(one.requests for one in self.consumers)

    @property
    def tokens(self) -> int:
        """Tokens of those requests."""
        return sum(one.tokens for one in self.consumers)


def preview(
    target: Expert | Licence,
    *,
    instrument: Instrument,
    at: datetime,
    scope: Scope = EVERYTHING,
) -> Preview:
    """What putting `instrument` on `target` at `at` would disable and erase, and whom it reaches.

    Raises:
        InvalidTerms: the scope names what does not exist.
    """
    scope.check()
    rule = RULES[Instrument(instrument)]
    is_expert = isinstance(target, Expert)
    disabled_at, wind_down_until = _clocks(target, rule.instrument, at, scope)
    erases = is_expert and rule.erases_expert and scope.is_everything
    names = [target.name] if isinstance(target, Expert) else _names_under(target)
    spared = set(
        notice.existing_consumers(target, before=at)
        if isinstance(target, Licence) and wind_down_until
        else ()
    )
    held = LegalHold.objects.in_force(at).filter(expert__name__in=names) if erases else None
    shown = Preview(
        rule=rule,
        target=str(target),
        scope=scope,
        disabled_at=disabled_at,
        wind_down_until=wind_down_until,
        erases=erases,
        held_until=held.aggregate(until=Max("until_at"))["until"] if held is not None else None,
        consumers=_affected(names, scope, at, spared),
        builds=_builds_that_fall(names) if erases else (),
        sentences=(),
    )
    return _with_sentences(shown, at, target.corpus)


def _clocks(
    target: Expert | Licence, instrument: Instrument, at: datetime, scope: Scope
) -> tuple[datetime, datetime | None]:
    if instrument == Instrument.EXPIRE and isinstance(target, Licence):
        return target.ends_at or at, None
    if instrument != Instrument.TERMINATE:
        return at, None
    if isinstance(target, Licence):
        phases = notice.phases(target, at, scope)
        return phases.effective_at, phases.wind_down_until
    return at + timedelta(days=notice.notice_days(target, at)), None


def _names_under(licence: Licence) -> list[str]:
    return list(Expert.objects.filter(corpus_id=licence.corpus_id).values_list("name", flat=True))


def in_scope(scope: Scope) -> Q:
    """Usage rows an act of this scope would have stopped."""
    found = Q()
    if scope.purposes is not None:
        wanted = {Purpose(one) for one in scope.purposes}
        found &= Q(purpose__in=[one for one in Purpose if wanted & set(one.lineage)])
    if scope.consumers is not None:
        found &= Q(consumer__slug__in=scope.consumers)
    return found


def _affected(
    names: Sequence[str], scope: Scope, at: datetime, spared: set[str]
) -> tuple[Affected, ...]:
    used = UsageRecord.objects.filter(
        in_scope(scope), allowed__overlap=list(names), opened_at__gte=at - LOOK_BACK
    )
    lines = (
        used.order_by()
        .values("consumer__slug", "consumer__name")
        .annotate(
            requests=Count("id"),
            tokens=Sum(F("prompt_tokens") + F("completion_tokens")),
            last=Max("opened_at"),
        )
        .order_by("-tokens", "consumer__slug")
    )
    return tuple(
        Affected(
            line["consumer__slug"],
            line["consumer__name"],
            line["requests"],
            line["tokens"] or 0,
            line["last"],
            line["consumer__slug"] in spared,
        )
        for line in lines
    )


def _builds_that_fall(names: Sequence[str]) -> tuple[int, ...]:
    standing = Build.objects.exclude(state__in=_FALLEN).values_list("number", "experts")
    wanted = set(names)
    fallen = [n for n, experts in standing if wanted & {row["name"] for row in experts}]
    return tuple(sorted(fallen))


def _with_sentences(shown: Preview, at: datetime, corpus: Corpus | None) -> Preview:
    said = [_when(shown, at), _who(shown), _bytes(shown)]
    if shown.builds:
        numbers = ", ".join(str(number) for number in shown.builds)
        said.append(
            f"Builds that can never serve again: {numbers}. One without it is made and proved; "
            "what the model loses by that is measured on the new build, not known beforehand."
        )
    if shown.rule.instrument == Instrument.WITHDRAW or shown.erases:
        said.append(
            "Answers already given cannot be recalled, and past use stays lawful. Coming back "
            "takes a new consent."
        )
    if shown.erases and corpus is not None:
        said += _what_others_hold(corpus)
    return replace(shown, sentences=tuple(said))


def _what_others_hold(corpus: Corpus) -> list[str]:
    """A sentence for each corpus of another owner that holds some of the same text."""
    return [
        f"It does not clear {each.corpus} of {each.corpus.owner}: estimated overlap {each}."
        for each in selected.not_cleared_by(corpus)
    ]


def _when(shown: Preview, at: datetime) -> str:
    reach = "All use" if shown.scope.is_everything else shown.scope.words.capitalize()
    if shown.disabled_at <= at:
        return f"{reach} of {shown.target} is disabled at once, from the next token on."
    day = _day(shown.disabled_at)
    if shown.wind_down_until is None:
        return f"{reach} of {shown.target} goes on until {day} and is disabled then, by itself."
    return (
        f"{reach} of {shown.target} goes on until {day}; after that only consumers that used it "
        f"before today may go on, until {_day(shown.wind_down_until)}. Then nobody."
    )


def _who(shown: Preview) -> str:
    if not shown.consumers:
        known = Consumer.objects.count()
        return f"Nobody used it in the last 30 days; {_count(known, 'consumer')} could have."
    reached = _count(len(shown.consumers), "consumer")
    return (
        f"It reaches {reached}: {_count(shown.requests, 'request')} and "
        f"{_count(shown.tokens, 'token')} in the last 30 days."
    )


def _bytes(shown: Preview) -> str:
    if not shown.erases:
        return "Disabled, not erased: the bytes stay and no request in this scope uses them."
    if shown.held_until is not None:
        return (
            "Disabled, and erased once a legal hold ends: until "
            f"{_day(shown.held_until)} at the latest the bytes are sealed and nobody can use them."
        )
    return "Disabled, and erased: the bytes are destroyed once every runner has confirmed."


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _day(at: datetime) -> str:
    return f"{at.day} {at:%B %Y}"
