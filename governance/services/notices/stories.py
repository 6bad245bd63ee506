"""What each event of the log means to whom: title, sentence, readers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from governance.models import Consumer, Expert, Licence
from governance.services.effects.scope import Scope
from governance.vocabulary import EventTag, Instrument, NoticeKind, Role

RECENT = timedelta(days=90)
"""Consumers that used an expert within this time are told what becomes of it (GDPR art. 19)."""

LEGAL = frozenset({Role.LEGAL})
LEGAL_AND_ENGINEERS = frozenset({Role.LEGAL, Role.ENGINEER})


@dataclass(frozen=True, slots=True)
class Told:
    """One thing to be told. `key` names it for good, so that it is told once.

    `consumer_text` is what consumers read; it says nothing of licences.
    """

    kind: NoticeKind
    key: str
    subject: str
    title: str
    text: str
    roles: frozenset[Role] = frozenset()
    owner_id: UUID | None = None
    consumer_ids: frozenset[UUID] = frozenset()
    consumer_text: str = ""
    needs_acknowledgement: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Story:
    """How a kind of event is told."""

    kind: NoticeKind
    title: str
    text: Callable[[Mapping[str, Any]], str]
    roles: frozenset[Role] = LEGAL
    to_owner: bool = True
    to_consumers: bool = False
    needs_acknowledgement: bool = False


def _day(at: Any) -> str:
    found = datetime.fromisoformat(at) if isinstance(at, str) else at
    return f"{found.day} {found:%B %Y}" if isinstance(found, datetime) else "a day not known"


def _always(text: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda _: text


def _licence_ended(details: Mapping[str, Any]) -> str:
    how = Instrument(details["instrument"])
    reach = Scope.of(details.get("purposes"), details.get("consumers")).words
    said = f"{how.label} of {reach}, in effect from {_day(details.get('effective_at'))}."
    if details.get("wind_down_until"):
        until = _day(details["wind_down_until"])
        said += f" Consumers that used it before the notice may go on until {until}."
    return f"{said} Disabled, not erased."


def _withdrawn(details: Mapping[str, Any]) -> str:
    how = Instrument(details["instrument"]).label.lower()
    return (
        f"By the instrument {how}, in policy epoch {details['policy_epoch']}. Disabled for "
        "everyone now; its bytes are erased next, and each step is certified."
    )


def _narrowed(details: Mapping[str, Any]) -> str:
    reach = Scope.of(details.get("purposes"), details.get("consumers")).words
    return f"Disabled: {reach}. The rest goes on, and nothing is erased."


def _notice_given(details: Mapping[str, Any]) -> str:
    return f"Use goes on until {_day(details.get('effective_at'))} and is disabled then, by itself."


def _held(details: Mapping[str, Any]) -> str:
    return (
        f"Ordered by {details.get('authority')}. Until {_day(details.get('until_at'))} at the "
        "latest the bytes are sealed and nobody can use them; erasure follows."
    )


_STORIES: Mapping[EventTag, _Story] = {
    EventTag.LICENCE_REQUESTED: _Story(
        NoticeKind.LICENCE_REQUESTED, "{name} is requested",
        _always("A second person decides on it."), to_owner=False,
    ),
    EventTag.LICENCE_APPROVED: _Story(
        NoticeKind.LICENCE_APPROVED, "{name} is approved",
        _always("It is in the policy from its first day on."),
    ),
    EventTag.LICENCE_REJECTED: _Story(
        NoticeKind.LICENCE_REJECTED, "{name} is rejected",
        _always("Nothing changes; a new request may follow."), to_owner=False,
    ),
    EventTag.LICENCE_ENDED: _Story(
        NoticeKind.LICENCE_ENDED, "{name} ends or pauses", _licence_ended, to_consumers=True
    ),
    EventTag.LICENCE_RESUMED: _Story(
        NoticeKind.LICENCE_RESUMED, "{name} is in force again",
        _always("The pause was lifted."), to_consumers=True,
    ),
    EventTag.CONSENT_WITHDRAWN: _Story(
        NoticeKind.EXPERT_WITHDRAWN, "{name} is withdrawn", _withdrawn,
        roles=LEGAL_AND_ENGINEERS, to_consumers=True, needs_acknowledgement=True,
    ),
    EventTag.CONSENT_NARROWED: _Story(
        NoticeKind.EXPERT_NARROWED, "{name} is withdrawn in part", _narrowed,
        roles=LEGAL_AND_ENGINEERS, to_consumers=True,
    ),
    EventTag.NOTICE_GIVEN: _Story(
        NoticeKind.EXPERT_NOTICE_GIVEN, "Notice is given for {name}", _notice_given,
        roles=LEGAL_AND_ENGINEERS, to_consumers=True,
    ),
    EventTag.EXPERT_SUSPENDED: _Story(
        NoticeKind.EXPERT_SUSPENDED, "{name} is suspended",
        _always("Disabled until the pause is lifted; nothing is erased."),
        roles=LEGAL_AND_ENGINEERS, to_consumers=True,
    ),
    EventTag.EXPERT_RESUMED: _Story(
        NoticeKind.EXPERT_RESUMED, "{name} serves again", _always("The pause was lifted."),
        roles=LEGAL_AND_ENGINEERS, to_consumers=True,
    ),
    EventTag.WITHDRAWAL_QUIESCED: _Story(
        NoticeKind.EXPERT_QUIESCED, "{name} is disabled on every runner",
        _always("No runner releases a token made with it. Its bytes are erased next."),
    ),
    EventTag.EXPERT_ERASED: _Story(
        NoticeKind.EXPERT_ERASED, "The bytes of {name} are erased",
        _always("Erased, not only disabled. What was destroyed is listed by digest."),
        roles=LEGAL_AND_ENGINEERS,
    ),
    EventTag.CERTIFICATE_ISSUED: _Story(
        NoticeKind.CERTIFICATE_ISSUED, "A certificate about {name} is issued",
        lambda details: f"Stage: {details.get('stage')}. Anyone can check it without us.",
    ),
    EventTag.BUILD_PROMOTED: _Story(
        NoticeKind.BUILD_CHANGED, "{name} serves now",
        _always("Answers come from it from now on."),
        roles=frozenset({Role.ENGINEER}), to_owner=False, to_consumers=True,
    ),
    EventTag.POLICY_GAP_FOUND: _Story(
        NoticeKind.GAP_FOUND, "A licence of {name} cannot be read",
        lambda details: f"{details.get('problem')}. The expert is denied until it is corrected.",
        to_owner=False,
    ),
    EventTag.HOLD_REQUESTED: _Story(
        NoticeKind.HOLD_REQUESTED, "A legal hold of {name} is requested", _held, to_owner=False
    ),
    EventTag.HOLD_APPROVED: _Story(
        NoticeKind.HOLD_IN_FORCE, "A legal hold seals the bytes of {name}", _held
    ),
    EventTag.HOLD_LIFTED: _Story(
        NoticeKind.HOLD_LIFTED, "The legal hold of {name} is lifted",
        _always("An erasure that waited for it goes on."),
    ),
}  # fmt: skip

_CONSUMER_TEXT: Mapping[NoticeKind, str] = {
    NoticeKind.EXPERT_WITHDRAWN: (
        "You used {name} within the last 90 days. Since {day} no answer is made with it. Where you "
        "keep what was made with it, or handed it on, please see to what your terms ask of you, "
        "and acknowledge that you have read this."
    ),
    NoticeKind.EXPERT_NARROWED: "Some uses of {name} ended on {day}; yours may be among them.",
    NoticeKind.EXPERT_NOTICE_GIVEN: "{name} will not be part of answers for ever: {text}",
    NoticeKind.EXPERT_SUSPENDED: "{name} is no part of answers since {day}, for the time being.",
    NoticeKind.EXPERT_RESUMED: "{name} is part of answers again since {day}.",
    NoticeKind.LICENCE_ENDED: "What you may ask of {experts} changes: {text}",
    NoticeKind.LICENCE_RESUMED: "{experts} may answer again as before, since {day}.",
    NoticeKind.BUILD_CHANGED: "{name} answers since {day}; answers may differ from earlier ones.",
}


def of_event(event: Mapping[str, Any], *, seq: int) -> Told | None:
    """What leaf `seq` of the log means to people; None where nobody is to be told of it.

    A row that the event names and that is not there any more is no reason to stop: None too.
    """
    try:
        story = _STORIES.get(EventTag(event["tag"]))
    except ValueError:
        return None
    if story is None:
        return None
    kind, _, name = str(event["subject"]).partition(":")
    owner_id, experts = _about(kind, name)
    if owner_id is None and kind != "build":
        return None
    at = datetime.fromisoformat(event["at"])
    shown = f"Build {name}" if kind == "build" else f"Expert {name}" if kind == "expert" else name
    text = story.text(event["details"])
    told = _consumers(experts, before=at) if story.to_consumers else frozenset()
    words = {"name": shown, "day": _day(at), "text": text, "experts": ", ".join(experts) or name}
    return Told(
        kind=story.kind,
        key=f"leaf:{seq}",
        subject=str(event["subject"]),
        title=story.title.format(name=shown),
        text=text,
        roles=story.roles,
        owner_id=owner_id if story.to_owner else None,
        consumer_ids=told,
        consumer_text=_CONSUMER_TEXT[story.kind].format(**words) if told else "",
        needs_acknowledgement=story.needs_acknowledgement,
        details={"at": event["at"]},
    )


def _about(kind: str, name: str) -> tuple[UUID | None, list[str]]:
    """Whose it is, and the experts it bears on; a build bears on all it holds."""
    if kind == "expert":
        owner_id = Expert.objects.filter(name=name).values_list("owner_id", flat=True).first()
        return owner_id, [name]
    if kind == "licence":
        found = Licence.objects.filter(reference=name).values_list("corpus_id", "corpus__owner_id")
        for corpus_id, owner_id in found:
            names = Expert.objects.filter(corpus_id=corpus_id).values_list("name", flat=True)
            return owner_id, list(names)
    return None, []


def _consumers(experts: list[str], *, before: datetime) -> frozenset[UUID]:
    """Consumers with an answer of the last 90 days; of these experts, where any are named."""
    recent = Consumer.objects.filter(
        usage__opened_at__gte=before - RECENT, usage__opened_at__lte=before
    )
    if experts:
        recent = Consumer.objects.filter(
            usage__opened_at__gte=before - RECENT,
            usage__opened_at__lte=before,
            usage__allowed__overlap=experts,
        )
    return frozenset(recent.values_list("pk", flat=True).distinct())
