"""The licences of a file against those that are there: kept, or asked for as a version's request.

An entry and a stored licence are the same when their terms have the same digest. Nothing is granted
here: a request waits for a second person whether a page or a file made it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from governance.errors import InvalidTerms
from governance.models import Corpus, Licence
from governance.services import licences
from governance.services import terms as terms_of
from governance.services.policyfile.steps import UNLISTED, Action, Changed, Doing, Step
from governance.services.terms import Terms
from governance.vocabulary import LicenceState


@dataclass(frozen=True)
class Standing:
    """The versions of one corpus, and which of them each chain has come to."""

    corpus: Corpus
    rows: tuple[Licence, ...]
    doing: Doing

    def newest_of(self, licence: Licence) -> Licence:
        """The last version of the chain a licence is in; a rejected one counts until another."""
        after = [row for row in self.rows if row.supersedes_id == licence.pk]
        alive = [row for row in after if row.state != LicenceState.REJECTED]
        if alive:
            return self.newest_of(alive[-1])
        return after[-1] if after else licence

    def is_over(self, licence: Licence) -> bool:
        """Whether nothing can follow it but a licence of its own."""
        ends = [one for one in (licence.ends_at, licence.stops_at) if one is not None]
        return licence.state == LicenceState.REJECTED or any(one <= self.doing.at for one in ends)

    def heads(self) -> list[Licence]:
        """The version each living chain has come to: asked for, or approved and not over."""
        followed = {row.supersedes_id for row in self.rows if row.state != LicenceState.REJECTED}
        return [row for row in self.rows if row.pk not in followed and not self.is_over(row)]

    def same(self, entry: Any) -> Licence | None:
        """The licence that says what the entry says, unless another version has taken its place."""
        digest = terms_of.digest(self.corpus, terms(entry))
        for row in reversed(self.rows):
            is_same = (row.terms_digest, row.needs_countersignature) == (
                digest,
                entry.needs_countersignature,
            )
            if is_same and self._is_last(row):
                return row
        return None

    def _is_last(self, row: Licence) -> bool:
        first = next((one for one in self.rows if one.pk == row.supersedes_id), row)
        return self.newest_of(row) == row and (first == row or self.newest_of(first) == row)


def standing(slug: str, doing: Doing) -> Standing:
    """What there is of a corpus.

    Raises:
        InvalidTerms: no such corpus, neither registered nor in the file.
    """
    corpus = Corpus.objects.filter(slug=slug).select_related("owner").first()
    if corpus is None:
        raise InvalidTerms(
            f"expected a described corpus, found {slug}.",
            fields={"corpus": f"Expected a described corpus, found {slug}. List it too."},
        )
    return Standing(corpus, tuple(corpus.licences.order_by("requested_at", "reference")), doing)


def terms(entry: Any) -> Terms:
    """The terms of an entry."""
    told = {each.name: getattr(entry, each.name) for each in fields(Terms)}
    return Terms(**{**told, "duties": [duty.model_dump() for duty in entry.duties]})


def licence(entry: Any, beside: list[Any], doing: Doing) -> Step:
    """Keep an entry that is asked for already, else ask for it: as a next version where it is one.

    Args:
        beside: every entry of the file about the same corpus, this one too.

    Raises:
        InvalidTerms: the terms do not hold, or it is open which licence they are to replace.
    """
    found = standing(entry.corpus, doing)
    same = found.same(entry)
    if same is not None:
        return Step("licence", same.reference, Action.KEEP, _how_it_stands(same, found))
    said = [found.same(other) for other in beside]
    heads = [head for head in found.heads() if head not in said]
    return _asked(entry, found, _former(entry, found, heads, alike=said.count(None)))


def _asked(entry: Any, found: Standing, former: Licence | None) -> Step:
    changes: tuple[Changed, ...] = ()
    if former is not None:
        changes = tuple(
            Changed(each.field, each.before, each.after)
            for each in terms_of.differences(terms_of.of(former), terms(entry))
        )
        if former.state == LicenceState.REQUESTED:
            why = "waits for a second person; have it decided or returned first"
            return Step("licence", former.reference, Action.BLOCKED, why, changes)
    made = licences.request(
        found.corpus,
        terms=terms(entry),
        supersedes=former,
        needs_countersignature=entry.needs_countersignature,
        by=found.doing.by,
        at=found.doing.at,
    )
    why = f"replaces {former.reference} once a second person has approved it" if former else ""
    return Step(
        "licence", made.reference, Action.REQUEST, why or "a second person decides", changes
    )


def _former(entry: Any, found: Standing, heads: list[Licence], *, alike: int) -> Licence | None:
    if entry.version_of is not None:
        named = next((row for row in found.rows if row.reference == entry.version_of), None)
        if named is None:
            raise InvalidTerms(
                f"expected a licence of {found.corpus.slug}, found {entry.version_of}.",
                fields={
                    "version_of": f"Expected a licence of this corpus, found {entry.version_of}."
                },
            )
        return next((head for head in heads if head == found.newest_of(named)), None)
    if heads and (len(heads) > 1 or alike > 1):
        names = ", ".join(head.reference for head in heads)
        raise InvalidTerms(
            f"expected version_of, because {names} and {alike} of the file's may belong together.",
            fields={
                "version_of": f"Expected one of {names}, found nothing. Say which it replaces."
            },
        )
    return heads[0] if heads else None


def _how_it_stands(licence: Licence, found: Standing) -> str:
    if licence.state == LicenceState.REQUESTED:
        return "waits for a second person"
    if licence.state == LicenceState.REJECTED:
        return "was rejected; change its terms to ask again"
    return "is over; change its period to ask again" if found.is_over(licence) else "is approved"


def unlisted(listed: set[str], doing: Doing) -> list[Step]:
    """Living licences that no entry is about."""
    rows: dict[Any, list[Licence]] = {}
    for row in Licence.objects.select_related("corpus").order_by("requested_at", "reference"):
        rows.setdefault(row.corpus_id, []).append(row)
    return [
        Step("licence", head.reference, Action.UNLISTED, UNLISTED)
        for each in rows.values()
        for head in Standing(each[0].corpus, tuple(each), doing).heads()
        if head.reference not in listed
    ]
