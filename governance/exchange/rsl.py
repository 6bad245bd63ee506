"""RSL 1.0 (Really Simple Licensing, recommendation of December 2025): licences in XML.

RSL speaks of assets on the web, we of closed corpora: there is no word for answering with an
expert, for purposes or for consumers, and its prices are not per token. On the way in the law is
that of ODRL: what cannot be read takes the licence with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element, ParseError, SubElement, tostring

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from governance.exchange.rights import (
    Direction,
    Exported,
    Imported,
    Loss,
    Rights,
    shown,
    text_of,
    unreadable,
    unsaid,
)
from governance.vocabulary import PaymentType, Purpose, RecipientClass, TerritoryGroup, Use

MEDIA_TYPE = "application/rsl+xml"
NAMESPACE = "https://rslstandard.org/rsl"
_NS = f"{{{NAMESPACE}}}"
_WHAT = f"an RSL document (namespace {NAMESPACE})"

_PERMITTED = {
    "ai-train": (Use.TRAIN,),
    "train-ai": (Use.TRAIN,),
    "ai-all": (Use.TRAIN, Use.ANSWER),
    "all": (Use.TRAIN, Use.ANSWER),
}
_LEARNING = (Use.TRAIN, Use.TUNE_ROUTER, Use.DISTIL, Use.FINE_TUNE)
_FORBIDDEN = {
    "ai-train": _LEARNING,
    "train-ai": _LEARNING,
    "ai-input": (Use.ANSWER,),
    "ai-index": (),
    "search": (),
    "ai-all": tuple(Use),
    "all": tuple(Use),
}
"""What a prohibited usage keeps us from; indexing and search are not done with a corpus at all."""
_CLASSES = {str(each).replace("_", "-"): str(each) for each in RecipientClass}
_REASONS = {
    "uses": "RSL has ai-train for training; it has no words for our other uses.",
    "purposes": "RSL has no purposes of whoever asks the build.",
    "prohibited_purposes": "RSL has no purposes of whoever asks the build.",
    "consumers": "RSL names classes of users, never one of them.",
    "excluded_consumers": "RSL names classes of users, never one of them.",
    "starts_at": "An RSL document holds while it is published; it has no period.",
    "ends_at": "An RSL document holds while it is published; it has no period.",
    "rate_per_million_tokens": "RSL prices are for a crawl, a use or a term, never for tokens.",
    "minimum_per_period": "RSL has no minimum.",
}


def export(rights: Rights) -> Exported:
    """The licence as an RSL document."""
    terms = rights.terms
    root = Element("rsl", xmlns=NAMESPACE)
    content = SubElement(root, "content", url=f"/corpora/{rights.corpus or 'unnamed'}/")
    licence = SubElement(content, "license")
    may_train = Use.TRAIN in terms["uses"] and Use.TRAIN not in terms["prohibited_uses"]
    if may_train:
        _listed(licence, "permits", "usage", ["ai-train"])
    else:
        _listed(licence, "prohibits", "usage", ["ai-all"])
    if terms["recipient_classes"] is not None:
        users = [code.replace("_", "-") for code in terms["recipient_classes"]]
        _listed(licence, "permits", "user", users)
    if terms["territories"] is not None:
        _listed(licence, "permits", "geo", terms["territories"])
    if terms["excluded_territories"]:
        _listed(licence, "prohibits", "geo", terms["excluded_territories"])
    SubElement(licence, "payment", type=terms["payment_type"])
    if rights.policy_url:
        SubElement(content, "terms").text = rights.policy_url
    if rights.owner_name:
        SubElement(content, "copyright", type="organization").text = rights.owner_name
    body = tostring(root, encoding="utf-8", xml_declaration=True)
    losses = unsaid(
        terms, load(body).terms_fields, reasons=_REASONS, because="RSL has no word for it."
    )
    return Exported(media_type=MEDIA_TYPE, body=body, losses=losses)


def _listed(licence: Element, name: str, kind: str, words: list[str]) -> None:
    SubElement(licence, name, type=kind).text = " ".join(words)


@dataclass
class _Reading:
    """What one licence says; `problem` is why it cannot be taken over."""

    uses: set[str] = field(default_factory=set)
    forbidden: set[str] = field(default_factory=set)
    terms: dict[str, Any] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)
    problem: str = ""
    names_usage: bool = False

    def lose(self, term: str, value: Any, reason: str, direction: Direction) -> None:
        self.losses.append(Loss(term, shown(value), reason, direction))


def load(body: bytes) -> Imported:
    """The terms an RSL document offers for its first asset.

    Raises:
        InvalidTerms: no XML, an entity or a document type in it, or no RSL.
    """
    contents = _contents(body)
    readings = [_licence(each) for each in contents[0].iter(f"{_NS}license")]
    losses = [loss for each in readings for loss in each.losses]
    losses += _beside(contents)
    # Where licences for one asset conflict, the most restrictive combination holds (§4.9): what
    # one of them prohibits, none permits.
    forbidden = {use for each in readings for use in each.forbidden}
    for each in readings:
        if each.problem:
            losses.append(Loss("licence", each.problem, "Not taken over.", Direction.REFUSED))
    offers = [each for each in readings if not each.problem and each.uses - forbidden]
    for each in offers[1:]:
        reason = "Offered beside the first; hand it in by itself to take it instead."
        losses.append(Loss("licence", shown(each.terms), reason, Direction.REFUSED))
    terms: dict[str, Any] = {"uses": [], "purposes": [], "prohibited_uses": sorted(forbidden)}
    if offers:
        terms |= offers[0].terms | {"uses": sorted(offers[0].uses - forbidden)}
    if Use.ANSWER in terms["uses"]:
        terms["purposes"] = sorted(str(p) for p in Purpose if p.parent is None)
    return Imported(terms, tuple(dict.fromkeys(losses)))


def reserves(body: bytes) -> bool | None:
    """Whether the document keeps training to those it licenses; None where it says nothing.

    Raises:
        InvalidTerms: as `load`.
    """
    found = load(body).terms_fields
    if Use.TRAIN in found["uses"]:
        return found.get("payment_type") not in (PaymentType.FREE, PaymentType.ATTRIBUTION)
    return True if Use.TRAIN in found["prohibited_uses"] else None


def _contents(body: bytes) -> list[Element]:
    try:
        root = fromstring(text_of(body, _WHAT), forbid_dtd=True)
    except ParseError as error:
        raise unreadable(_WHAT, f"no XML ({error})", "Check that the file is whole.") from error
    except DefusedXmlException as error:
        raise unreadable(_WHAT, "a document type or an entity", "Take it out.") from error
    except ValueError as error:
        raise unreadable(_WHAT, f"no XML ({error})", "Save it as UTF-8.") from error
    if root.tag != f"{_NS}rsl":
        raise unreadable(_WHAT, f"the element {root.tag}", "Check the namespace.")
    found = list(root.iter(f"{_NS}content"))
    if not found:
        raise unreadable("an RSL document with content", "none in it", "Name the asset.")
    return found


def _beside(contents: list[Element]) -> list[Loss]:
    """What stands around the licences of the first asset."""
    found = [
        Loss("target", each.get("url", ""), "Another asset; hand it in apart.", Direction.REFUSED)
        for each in contents[1:]
    ]
    first = contents[0]
    if server := first.get("server"):
        reason = "Holds only once this licence server has issued a licence."
        found.append(Loss("server", server, reason, Direction.CONFIRM))
    for name in ("terms", "copyright"):
        for element in first.iter(f"{_NS}{name}"):
            reason = "Stands beside the terms and is not part of them."
            found.append(Loss(name, (element.text or "").strip(), reason, Direction.UNSAID))
    return found


def _licence(licence: Element) -> _Reading:
    found = _Reading()
    paid = False
    for element in licence:
        name = str(element.tag).removeprefix(_NS)
        kind = element.get("type", "")
        words = re.split(r"[\s,]+", (element.text or "").strip())
        words = [word for word in words if word]
        reader = _READERS.get((name, kind))
        if reader is not None:
            reader(words, found)
        elif name == "payment":
            paid = True
            _payment(element, found)
        elif name == "legal":
            reason = "Warranties and disclaimers have no term here; they stand in the contract."
            found.lose("legal", f"{kind}: {' '.join(words)}", reason, Direction.UNSAID)
        else:
            found.problem = f"it holds <{name}>, which we cannot keep to"
    if not paid:
        found.terms["payment_type"] = str(PaymentType.FREE)
    if not found.names_usage and not found.problem:
        found.problem = "it names no usage"
    return found


def _permits_usage(words: list[str], found: _Reading) -> None:
    found.names_usage = True
    for word in words:
        uses = _PERMITTED.get(word)
        if uses is None:
            found.lose("uses", word, "We do not do this with data.", Direction.REFUSED)
            continue
        found.uses |= {str(use) for use in uses}
        if word in ("ai-all", "all"):
            reason = "Read as training and answering; nothing further."
            found.lose("uses", word, reason, Direction.CONFIRM)


def _prohibits_usage(words: list[str], found: _Reading) -> None:
    found.names_usage = True
    for word in words:
        found.forbidden |= {str(use) for use in _FORBIDDEN.get(word, tuple(Use))}
        if word not in _FORBIDDEN:
            reason = "We cannot tell what this keeps us from, so it forbids every use."
            found.lose("prohibited_uses", word, reason, Direction.NARROWER)


def _permits_user(words: list[str], found: _Reading) -> None:
    _drop_unknown("recipient_classes", [w for w in words if w not in _CLASSES], found)
    found.terms["recipient_classes"] = sorted(_CLASSES[w] for w in words if w in _CLASSES)
    reason = "RSL means whoever runs the system. Confirm that we are of this class too."
    found.lose("recipient_classes", words, reason, Direction.CONFIRM)


def _prohibits_user(words: list[str], found: _Reading) -> None:
    if unknown := [word for word in words if word not in _CLASSES]:
        found.problem = f"it prohibits users we do not know ({shown(unknown)})"
    kept = found.terms.get("recipient_classes") or sorted(_CLASSES.values())
    barred = {_CLASSES[word] for word in words if word in _CLASSES}
    found.terms["recipient_classes"] = [each for each in kept if each not in barred]


def _permits_geo(words: list[str], found: _Reading) -> None:
    _drop_unknown("territories", [word for word in words if not _is_place(word)], found)
    found.terms["territories"] = sorted({word for word in words if _is_place(word)})


def _prohibits_geo(words: list[str], found: _Reading) -> None:
    if unknown := [word for word in words if not _is_place(word)]:
        found.problem = f"it prohibits places we do not know ({shown(unknown)})"
    found.terms["excluded_territories"] = sorted({word for word in words if _is_place(word)})


def _is_place(word: str) -> bool:
    return word in set(TerritoryGroup) or re.fullmatch(r"[A-Z]{2}", word) is not None


def _drop_unknown(term: str, words: list[str], found: _Reading) -> None:
    for word in words:
        reason = "We have no word for it; left out of what is allowed."
        found.lose(term, word, reason, Direction.NARROWER)


_READERS = {
    ("permits", "usage"): _permits_usage,
    ("permits", "user"): _permits_user,
    ("permits", "geo"): _permits_geo,
    ("prohibits", "usage"): _prohibits_usage,
    ("prohibits", "user"): _prohibits_user,
    ("prohibits", "geo"): _prohibits_geo,
}


def _payment(payment: Element, found: _Reading) -> None:
    """How it is paid for. A price becomes a duty in words: ours are per token, RSL's are not."""
    kind = payment.get("type", "")
    if kind not in set(PaymentType):
        found.problem = f"it is paid for in a way we do not know ({kind or 'none named'})"
        return
    found.terms["payment_type"] = kind
    if kind == PaymentType.ATTRIBUTION:
        found.terms["requires_attribution"] = True
    said = []
    for element in payment:
        name = str(element.tag).removeprefix(_NS)
        text = " ".join((element.text or "").split())
        if name == "amount":
            currency = element.get("currency", "")
            said.append(f"{text} {currency} ({kind})")
            if re.fullmatch(r"[A-Z]{3}", currency):
                found.terms["currency"] = currency
        else:
            said.append(f"{name}: {text or element.get('type', '')}")
    if said:
        about = "; ".join(said)[:300]
        found.terms["duties"] = [{"action": "compensate", "about": about}]
        reason = "Taken over in words; agree on a rate, a minimum or a sum."
        found.lose("payment", about, reason, Direction.CONFIRM)
