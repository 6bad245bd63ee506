"""Plain grants and standings in, the snapshot of one policy epoch out. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from governance.canonical import canonical_json
from governance.errors import InvalidTerms
from governance.policy.terms import (
    BuildRef,
    Gap,
    Grant,
    Standing,
    read_grant,
    read_standing,
)
from governance.policy.types import Snapshot
from governance.vocabulary import PUBLIC_EXPERT

_NO_BUILD = BuildRef(digest="", anchor_digest="", top_k=1, experts=())


def compile_snapshot(
    policy_epoch: int,
    build: BuildRef | None,
    standings: Iterable[Standing | Gap],
    grants: Iterable[Grant | Gap],
    former: Iterable[Snapshot] = (),
) -> Snapshot:
    """The policy of `policy_epoch` over the experts of `build` (None: nothing promoted yet).

    `former` was compiled for the same epoch over builds whose answers may run out.

    Every approved licence version that has not been superseded belongs in `grants`, also one that
    has ended, so that a denial can say so. Order does not matter. What cannot be read, a second
    standing of one expert and an expert without a standing become gaps, never errors: one bad row
    must not stop a withdrawal from being published.

    Raises:
        InvalidTerms: the build itself contradicts itself (public or twice-named experts).
    """
    build = build or _NO_BUILD
    names = [ref.name for ref in build.experts]
    if PUBLIC_EXPERT in names or len(set(names)) != len(names):
        raise InvalidTerms(
            f"expected each licensed expert once and never {PUBLIC_EXPERT!r}, found {names}; "
            "correct the build"
        )
    wanted = frozenset(names)
    kept_standings, standing_gaps = _standings(standings, wanted)
    kept_grants, grant_gaps = _grants(grants, wanted)
    missing = {
        Gap(name, "", "expected a standing of this expert, found none")
        for name in wanted - kept_standings.keys() - {gap.expert for gap in standing_gaps}
    }
    return Snapshot(
        policy_epoch=policy_epoch,
        build_digest=build.digest,
        anchor_digest=build.anchor_digest,
        top_k=build.top_k,
        experts=build.experts,
        standings=tuple(kept_standings[name] for name in sorted(kept_standings)),
        grants=kept_grants,
        gaps=tuple(sorted(standing_gaps | grant_gaps | missing)),
        former=tuple(former),
    )


def _standings(
    standings: Iterable[Standing | Gap], wanted: frozenset[str]
) -> tuple[dict[str, Standing], set[Gap]]:
    kept: dict[str, Standing] = {}
    gaps: set[Gap] = set()
    for standing in standings:
        found = standing if isinstance(standing, Gap) else _again(standing)
        if isinstance(found, Gap):
            gaps |= {found} if found.expert in wanted else set()
        elif found.name in kept and kept[found.name] != found:
            gaps.add(Gap(found.name, "", "expected one standing of this expert, found two"))
        elif found.name in wanted:
            kept[found.name] = found
    dark = {gap.expert for gap in gaps}
    return {name: found for name, found in kept.items() if name not in dark}, gaps


def _grants(
    grants: Iterable[Grant | Gap], wanted: frozenset[str]
) -> tuple[tuple[Grant, ...], set[Gap]]:
    kept: set[Grant] = set()
    gaps: set[Gap] = set()
    for grant in grants:
        if grant.expert not in wanted:
            continue
        found = grant if isinstance(grant, Gap) else _read_again(grant)
        if isinstance(found, Gap):
            gaps.add(found)
        else:
            kept.add(found)
    named = Counter((one.expert, one.licence) for one in kept)

    def place(one: Grant) -> tuple[str, str, bytes]:
        name = (one.expert, one.licence)
        # Bytes are dear, and only decide between grants of one licence on one expert.
        return (*name, canonical_json(one.to_body()) if named[name] > 1 else b"")

    return tuple(sorted(kept, key=place)), gaps


def _again(standing: Standing) -> Standing | Gap:
    """`standing` through the same reading as stored ones: a type that lies is found here."""
    return read_standing(standing.name, _fields(standing))


def _read_again(grant: Grant) -> Grant | Gap:
    return read_grant(grant.expert, grant.licence, _fields(grant))


def _fields(terms: Grant | Standing) -> dict[str, object]:
    return {name: getattr(terms, name) for name in terms.__dataclass_fields__}
