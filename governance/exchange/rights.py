"""What all formats share: a licence as plain fields, and the losses of a journey in or out.

No Django here: a format is given a licence (anything with the attributes of one), terms, or a
mapping, and knows only their fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from governance.errors import InvalidTerms
from governance.vocabulary import OnWithdrawal, PaymentType, Use

MAX_BYTES = 1 << 20
"""The largest file an import reads."""

ABSENT: Mapping[str, Any] = MappingProxyType(
    {
        "uses": [],
        "prohibited_uses": [],
        "purposes": [],
        "prohibited_purposes": [],
        "consumers": None,
        "excluded_consumers": [],
        "recipient_classes": None,
        "sectors": None,
        "excluded_sectors": [],
        "territories": None,
        "excluded_territories": [],
        "starts_at": None,
        "ends_at": None,
        "is_exclusive": False,
        "expert_digest": "",
        "max_tokens": None,
        "max_answers": None,
        "quota_period": "",
        "max_extraction_rate": 0.01,
        "payment_type": str(PaymentType.USE),
        "rate_per_million_tokens": Decimal("0.0000"),
        "minimum_per_period": Decimal("0.00"),
        "currency": "EUR",
        "requires_attribution": False,
        "attribution_text": "",
        "duties": [],
        "notice_days": 0,
        "wind_down_days": 0,
        "on_withdrawal": str(OnWithdrawal.ABORT),
        "governing_law": "",
        "survival": "",
        "clauses": {},
        "contract_digest": "",
        "note": "",
    }
)
"""Every term, and what it is where nothing is said about it. A test holds it to `Terms`."""

LIMITS = frozenset(
    {"prohibited_uses", "purposes", "prohibited_purposes", "consumers", "excluded_consumers"}
    | {"recipient_classes", "sectors", "excluded_sectors", "territories", "excluded_territories"}
    | {"starts_at", "ends_at", "expert_digest", "max_tokens", "max_answers", "quota_period"}
    | {"max_extraction_rate"}
)
"""Terms that narrow what is granted: a file that leaves one out reads wider than the licence."""

_MONEY = {"rate_per_million_tokens": Decimal("0.0001"), "minimum_per_period": Decimal("0.01")}


class Direction(StrEnum):
    """What a loss does to what is granted."""

    NARROWER = "narrower"
    REFUSED = "refused"
    CONFIRM = "confirm"
    UNSAID = "unsaid"
    WIDER = "wider"

    @property
    def label(self) -> str:
        """What it means, in words for whoever reads the report."""
        return _LABELS[self]


_LABELS = {
    Direction.NARROWER: "Taken over more narrowly than it was written",
    Direction.REFUSED: "Not taken over",
    Direction.CONFIRM: "Taken over; a person must confirm how it was read",
    Direction.UNSAID: "Has no word on the other side; it binds all the same",
    Direction.WIDER: "Missing in the file, which therefore reads wider than the licence",
}


@dataclass(frozen=True)
class Loss:
    """One thing the other vocabulary cannot say, or ours cannot."""

    term: str
    value: str
    reason: str
    direction: Direction


@dataclass(frozen=True)
class Exported:
    """A licence in another vocabulary, and what that vocabulary could not say of it."""

    media_type: str
    body: bytes
    losses: tuple[Loss, ...] = ()


@dataclass(frozen=True)
class Imported:
    """Proposed terms, and what could not be taken over. Nothing here is agreed or stored.

    `terms_fields` holds fields of `Terms`, `uses` and `purposes` always; a missing field was not
    spoken of. No loss of an import is ever `Direction.WIDER`.
    """

    terms_fields: dict[str, Any]
    losses: tuple[Loss, ...] = ()


@dataclass(frozen=True)
class Rights:
    """A licence as the formats see it: its terms, and about what and between whom they are."""

    terms: Mapping[str, Any]
    reference: str = ""
    corpus: str = ""
    title: str = ""
    description: str = ""
    owner: str = ""
    owner_name: str = ""
    is_agreed: bool = False
    decided_at: datetime | None = None
    source_licence: str = ""
    languages: tuple[str, ...] = ()
    document_count: int = 0
    text_bytes: int = 0
    merkle_root: str = ""
    policy_url: str = ""
    """Where the terms can be read by anyone, for vocabularies that only point to them."""


def of(source: object) -> Rights:
    """The rights of a licence row, of terms, or of a mapping of fields."""
    if isinstance(source, Rights):
        return source
    if isinstance(source, Mapping):
        return Rights(terms=normal(source))
    terms = normal({name: getattr(source, name) for name in ABSENT})
    corpus: Any = getattr(source, "corpus", None)
    licence: Any = source
    if corpus is None:
        return Rights(terms=terms)
    return Rights(
        terms=terms,
        reference=licence.reference,
        corpus=corpus.slug,
        title=corpus.title,
        description=corpus.description,
        owner=corpus.owner.slug,
        owner_name=corpus.owner.legal_name,
        is_agreed=licence.state == "approved",
        decided_at=licence.decided_at,
        source_licence=corpus.source_licence,
        languages=tuple(corpus.languages),
        document_count=corpus.document_count,
        text_bytes=corpus.text_bytes,
        merkle_root=corpus.merkle_root,
    )


def normal(fields: Mapping[str, Any]) -> dict[str, Any]:
    """All terms in one form: lists sorted without repeats, instants in UTC, money in its places."""
    found: dict[str, Any] = {}
    for name, absent in ABSENT.items():
        found[name] = _normal(name, fields.get(name, absent))
    return found


def _normal(name: str, value: Any) -> Any:
    if name in _MONEY:
        return Decimal(value).quantize(_MONEY[name])
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if name == "duties":
        return [dict(duty) for duty in value]
    if name == "clauses":
        return dict(value)
    if isinstance(ABSENT[name], list) or name in ("consumers", "recipient_classes", "sectors",
                                                  "territories"):  # fmt: skip
        return value if value is None else sorted({str(code) for code in value})
    if name == "max_extraction_rate":
        return float(value)
    return str(value) if isinstance(value, str) else value


def spoken(terms: Mapping[str, Any]) -> dict[str, Any]:
    """The terms that differ from what is meant where nothing is said."""
    return {name: value for name, value in normal(terms).items() if value != ABSENT[name]}


def unsaid(
    terms: Mapping[str, Any], said: Mapping[str, Any], *, reasons: Mapping[str, str], because: str
) -> tuple[Loss, ...]:
    """A loss for every term of `terms` that `said`, the file read back, does not hold alike.

    This is what makes an export honest: whatever a format's author forgot is named here too.
    """
    read_back = normal(said)
    return tuple(
        Loss(
            term=name,
            value=shown(value),
            reason=reasons.get(name, because),
            direction=_direction(name, value, read_back[name]),
        )
        for name, value in spoken(terms).items()
        if read_back[name] != value
    )


def _direction(name: str, value: Any, said: Any) -> Direction:
    if name == "uses":
        return Direction.NARROWER if set(said) <= set(value) else Direction.WIDER
    if name.startswith(("prohibited_", "excluded_")) and set(said) >= set(value):
        return Direction.NARROWER
    # A reader of a format without a word for a limit takes its silence for no limit.
    return Direction.WIDER if name in LIMITS else Direction.UNSAID


def is_open_to_all(terms: Mapping[str, Any]) -> bool:
    """Whether anyone may train on the data, free and without a limit or a duty.

    Only then may a statement to the public say so: what one party was granted is no preference
    towards all others.
    """
    said = set(spoken(terms))
    needless = {"uses", "starts_at", "payment_type", "purposes", "contract_digest", "clauses"}
    is_free = terms["payment_type"] == PaymentType.FREE
    return Use.TRAIN in terms["uses"] and is_free and said <= needless | {"note"}


def shown(value: Any) -> str:
    """A term's value as a person reads it in a report, cut to 200 characters."""
    if isinstance(value, datetime):
        text = value.isoformat()
    elif isinstance(value, list | tuple | set | frozenset):
        text = ", ".join(shown(one) for one in value) or "none"
    elif isinstance(value, Mapping):
        text = ", ".join(f"{key}: {shown(one)}" for key, one in value.items())
    else:
        text = str(value)
    return text if len(text) <= 200 else f"{text[:199]}…"


def text_of(body: bytes, what: str) -> str:
    """A file as text.

    Raises:
        InvalidTerms: longer than `MAX_BYTES`, or no UTF-8.
    """
    if len(body) > MAX_BYTES:
        raise unreadable(
            what, f"a file of {len(body)} bytes", f"Hand in at most {MAX_BYTES} bytes."
        )
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise unreadable(
            what, f"byte 0x{body[error.start]:02x} at {error.start}", "Re-encode it as UTF-8."
        ) from error


def unreadable(expected: str, found: str, remedy: str) -> InvalidTerms:
    """The refusal of a file that is not what it should be."""
    message = f"expected {expected}, found {found}. {remedy}"
    return InvalidTerms(message, fields={"file": message[0].upper() + message[1:]})


Export = Callable[[Rights], Exported]
Load = Callable[[bytes], Imported]


@dataclass(frozen=True)
class Format:
    """One vocabulary we write and, where that makes sense, read."""

    code: str
    title: str
    status: str
    suffix: str
    export: Export
    load: Load | None

    @property
    def is_readable(self) -> bool:
        """Whether files in it are read as well as written."""
        return self.load is not None
