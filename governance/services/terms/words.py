"""Terms in sentences a person can agree or object to. Each says which terms it speaks of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from governance.models import Corpus, Licence
from governance.services.terms.labels import (
    days,
    duty,
    joined,
    label,
    last_moment,
    moment,
    money,
    percent,
)
from governance.services.terms.value import Terms, of
from governance.vocabulary import OnWithdrawal, PaymentType, QuotaPeriod, Use


@dataclass(frozen=True)
class Sentence:
    """A sentence and the terms it says."""

    fields: tuple[str, ...]
    text: str


_DONE = {
    Use.TRAIN: "used to train an expert",
    Use.ANSWER: "used to answer",
    Use.MERGE: "merged into a build",
    Use.AUDIT: "audited",
    Use.TUNE_ROUTER: "used to tune the router",
    Use.QUANTISE: "quantised",
    Use.DISTIL: "distilled",
    Use.FINE_TUNE: "fine-tuned",
    Use.REDISTRIBUTE: "redistributed",
}
_WHATEVER = "whatever another licence says"
_PERIODS = {
    QuotaPeriod.DAY: "a day",
    QuotaPeriod.MONTH: "a calendar month",
    QuotaPeriod.YEAR: "a calendar year",
    QuotaPeriod.TERM: "over its whole term",
}
_PAID = {
    PaymentType.FREE: "Free of charge.",
    PaymentType.PURCHASE: "Paid for by one purchase.",
    PaymentType.SUBSCRIPTION: "Paid for by subscription.",
    PaymentType.TRAINING: "Paid for by training on it.",
    PaymentType.CRAWL: "Paid for by each crawl.",
    PaymentType.CONTRIBUTION: "Paid for by a contribution in kind.",
    PaymentType.ATTRIBUTION: "Paid for by naming the source.",
}


def plain_words(licence: Licence) -> str:
    """What a licence allows, forbids and asks, in sentences."""
    return words_of(licence.corpus, of(licence))


def words_of(corpus: Corpus | None, terms: Terms) -> str:
    """The same for terms that are no licence yet; without a corpus its name is left out."""
    owner = "" if corpus is None else corpus.owner.legal_name.removesuffix(".")
    named = [] if corpus is None else [f"{corpus.title} of {owner}."]
    return " ".join([*named, *(sentence.text for sentence in sentences(terms))])


def sentences(terms: Terms) -> tuple[Sentence, ...]:
    """Every term in words; terms left at "any", "none" or nothing say nothing of their own."""
    return tuple(
        sentence
        for part in (
            _uses,
            _answering,
            _narrowed,
            _barred,
            _period,
            _limits,
            _price,
            _owed,
            _end,
            _paper,
        )
        for sentence in part(terms)
    )


def _uses(terms: Terms) -> Iterator[Sentence]:
    if Use.TRAIN in terms.uses:
        yield Sentence(("uses",), "May train an expert.")
    elif Use.TRAIN not in terms.prohibited_uses:
        yield Sentence(("uses",), "May not train an expert.")
    others = [_done(use) for use in Use if use in terms.uses and use not in (Use.TRAIN, Use.ANSWER)]
    if others:
        yield Sentence(("uses",), f"May also be {joined(others)}.")
    barred = [_done(use) for use in Use if use in terms.prohibited_uses]
    if barred:
        said = joined(barred, last="or")
        yield Sentence(("prohibited_uses",), f"May not be {said}, {_WHATEVER}.")


def _done(use: Use) -> str:
    return _DONE[use]


def _answering(terms: Terms) -> Iterator[Sentence]:
    named = ("uses", "purposes", "consumers", "excluded_consumers", "territories")
    if Use.ANSWER not in terms.uses:
        yield Sentence(("uses",), "May not answer anybody.")
    purposes = joined(sorted(label("purposes", one).lower() for one in terms.purposes))
    if Use.ANSWER in terms.uses:
        where = "anywhere"
        if terms.territories is not None:
            where = f"in {joined(_places('territories', terms.territories), none='no territory')}"
        yield Sentence(named, f"May answer for {purposes}, asked by {_askers(terms)}, {where}.")
    elif terms.purposes:
        yield Sentence(("purposes",), f"Covers work for {purposes}.")


def _askers(terms: Terms) -> str:
    """Who may ask: "anyone but never dara"."""
    who = "anyone" if terms.consumers is None else joined(sorted(terms.consumers), none="nobody")
    if terms.excluded_consumers:
        who += f" but never {joined(sorted(terms.excluded_consumers), last='or')}"
    return who


def _places(name: str, codes: Sequence[str]) -> list[str]:
    """Countries by code, groups by name with their article."""
    found = []
    for code in sorted(codes):
        said = label(name, code)
        found.append(f"the {said}" if said != code else said)
    return found


def _narrowed(terms: Terms) -> Iterator[Sentence]:
    """Kinds of organisation and sectors; and who and where, if that was not said of answers."""
    if terms.recipient_classes is not None:
        labels = [
            label("recipient_classes", one).lower() for one in sorted(terms.recipient_classes)
        ]
        said = joined(labels, last="or", none="no kind of")
        yield Sentence(("recipient_classes",), f"Only for {said} organisations.")
    if terms.sectors is not None:
        said = _sectors("sectors", terms.sectors)
        yield Sentence(("sectors",), f"Only for organisations in the sector {said}.")
    if Use.ANSWER in terms.uses:
        return
    if terms.consumers is not None or terms.excluded_consumers:
        yield Sentence(("consumers", "excluded_consumers"), f"Only for {_askers(terms)}.")
    if terms.territories is not None:
        said = joined(_places("territories", terms.territories), none="no territory")
        yield Sentence(("territories",), f"Only in {said}.")


def _barred(terms: Terms) -> Iterator[Sentence]:
    if terms.prohibited_purposes:
        labels = sorted(label("purposes", one).lower() for one in terms.prohibited_purposes)
        said = joined(labels, last="or")
        yield Sentence(("prohibited_purposes",), f"Never for {said}, {_WHATEVER}.")
    if terms.excluded_sectors:
        said = _sectors("excluded_sectors", terms.excluded_sectors)
        yield Sentence(("excluded_sectors",), f"Never for anyone in the sector {said}.")
    if terms.excluded_territories:
        said = joined(_places("excluded_territories", terms.excluded_territories), last="or")
        yield Sentence(("excluded_territories",), f"Never in {said}.")


def _sectors(name: str, codes: Sequence[str]) -> str:
    return joined([f"“{label(name, one)}”" for one in sorted(codes)], last="or", none="of nobody")


def _period(terms: Terms) -> Iterator[Sentence]:
    until = f"until {last_moment(terms.ends_at)}" if terms.ends_at else "with no end named"
    said = f"In force from {moment(terms.starts_at)} {until}."
    yield Sentence(("starts_at", "ends_at"), said)
    if terms.is_exclusive:
        said = "No other licence on this collection may run beside it."
        yield Sentence(("is_exclusive",), said)
    if terms.expert_digest:
        said = f"Covers only the revision {terms.expert_digest[:12]}… of the expert."
        yield Sentence(("expert_digest",), said)


def _limits(terms: Terms) -> Iterator[Sentence]:
    counts = [
        f"{count:,} {noun if count != 1 else noun.removesuffix('s')}"
        for count, noun in ((terms.max_tokens, "tokens"), (terms.max_answers, "answers"))
        if count is not None
    ]
    if counts:
        known = terms.quota_period in set(QuotaPeriod)
        over = _PERIODS[QuotaPeriod(terms.quota_period)] if known else "over a period not named yet"
        named = ("max_tokens", "max_answers", "quota_period")
        yield Sentence(named, f"At most {joined(counts)} {over}.")
    share = percent(terms.max_extraction_rate)
    said = f"Served only while its audited extraction rate is at most {share}."
    yield Sentence(("max_extraction_rate",), said)


def _price(terms: Terms) -> Iterator[Sentence]:
    if terms.payment_type in _PAID:
        yield Sentence(("payment_type",), _PAID[PaymentType(terms.payment_type)])
    least = f"{money(terms.minimum_per_period)} {terms.currency} a calendar month"
    named = ("rate_per_million_tokens", "minimum_per_period", "currency")
    if terms.rate_per_million_tokens:
        rate = f"{money(terms.rate_per_million_tokens)} {terms.currency}"
        said = f"Costs {rate} for a million tokens the expert accounts for"
        more = f", and at least {least}" if terms.minimum_per_period else ""
        yield Sentence(named, f"{said}{more}.")
    elif terms.minimum_per_period:
        yield Sentence(named, f"Costs {least}.")


def _owed(terms: Terms) -> Iterator[Sentence]:
    if terms.requires_attribution:
        named = ("requires_attribution", "attribution_text")
        yield Sentence(named, f"Answers name the source: “{terms.attribution_text}”.")
    if terms.duties:
        owed = joined([duty(one) for one in terms.duties])
        yield Sentence(("duties",), f"We must {owed}.")


def _end(terms: Terms) -> Iterator[Sentence]:
    notice = (
        f"{days(terms.notice_days)}{_OF[terms.notice_days == 1]}" if terms.notice_days else "no"
    )
    after = f" and {days(terms.wind_down_days)} of wind-down" if terms.wind_down_days else ""
    yield Sentence(
        ("notice_days", "wind_down_days"),
        f"Termination takes {notice} notice{after}; the owner may withdraw at any time, at once.",
    )
    if terms.on_withdrawal == OnWithdrawal.RECOMPUTE:
        yield Sentence(
            ("on_withdrawal",),
            "An answer under way then goes on without the expert, and the words already handed "
            "over stay; an order of an authority or a court ends it at once.",
        )
    if terms.survival:
        yield Sentence(("survival",), f"Outlasts the licence: {_stopped(terms.survival)}")


_OF = {True: "'s", False: "'"}


def _paper(terms: Terms) -> Iterator[Sentence]:
    if terms.governing_law:
        said = f"Governing law: {_stopped(terms.governing_law)}"
        yield Sentence(("governing_law",), said)
    if terms.contract_digest:
        said = f"Bound to the signed file with the digest {terms.contract_digest[:12]}…"
        count = len(terms.clauses)
        cited = f"; {count} term{'' if count == 1 else 's'} cite a clause of it" if count else ""
        yield Sentence(("contract_digest", "clauses"), f"{said}{cited}.")
    if terms.note:
        yield Sentence(("note",), f"Note: {_stopped(terms.note)}")


def _stopped(text: str) -> str:
    found = text.strip()
    return found if found.endswith((".", "!", "?")) else f"{found}."
