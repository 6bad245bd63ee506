"""What a policy decision is made from and what it is: all of it values, none of it Django's.

    snapshot = compile_snapshot(42, build, standings, grants)
    decision = decide(snapshot, Ask("dara", "research", "DE"), at)

A `Snapshot` is immutable and content-addressed: `digest` is the SHA-256 of its canonical body, so
two parties that name the same digest decided on the same terms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from governance.canonical import canonical_json, sha256_hex
from governance.errors import InvalidTerms
from governance.policy.masks import Masks, compile_masks
from governance.policy.terms import (
    BuildRef,
    ExpertRef,
    Gap,
    Grant,
    Standing,
    Stop,
    read_grant,
    read_standing,
)
from governance.vocabulary import Why

__all__ = [
    "Ask",
    "BuildRef",
    "Decision",
    "Denied",
    "ExpertRef",
    "Gap",
    "Grant",
    "Permitted",
    "Snapshot",
    "Standing",
    "Stop",
    "read_grant",
    "read_standing",
]

BODY_VERSION = 2
"""Raised whenever a body says something an older reader would not heed; such a reader refuses it.

2: prohibitions, kinds of organisations, sectors, acts with a scope.
"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The compiled policy of one policy epoch.

    `experts` are the licensed experts of the build, in build order; the public expert is never
    among them. `former` is this epoch's policy over builds served shortly before: for answers
    begun on them alone, nothing new begins there. Two snapshots are equal when their bodies are.
    """

    policy_epoch: int
    build_digest: str
    anchor_digest: str
    top_k: int
    experts: tuple[ExpertRef, ...]
    standings: tuple[Standing, ...]
    grants: tuple[Grant, ...]
    gaps: tuple[Gap, ...]
    former: tuple[Snapshot, ...] = ()
    digest: str = field(init=False, compare=False)
    masks: Masks = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        by_name = {standing.name: standing for standing in self.standings}
        masks = compile_masks(self.experts, by_name, self.grants, self.gaps)
        object.__setattr__(self, "masks", masks)
        object.__setattr__(self, "digest", sha256_hex(canonical_json(self.to_body())))

    @property
    def live(self) -> tuple[ExpertRef, ...]:
        """The experts that this policy lets someone use at some time, in build order."""
        live = self.masks.live
        return tuple(ref for ref in self.experts if live & self.masks.bits[ref.name])

    def over(self, build_digest: str) -> Snapshot:
        """What this epoch says of an answer begun on that build, for as long as it may run out."""
        return next((one for one in self.former if one.build_digest == build_digest), self)

    def to_body(self) -> dict[str, Any]:
        """The JSON-able body; `from_body` gives an equal snapshot back."""
        former = [one.to_body() for one in self.former]
        return {
            "version": BODY_VERSION,
            "policy_epoch": self.policy_epoch,
            "build_digest": self.build_digest,
            "anchor_digest": self.anchor_digest,
            "top_k": self.top_k,
            "experts": [ref.to_body() for ref in self.experts],
            "standings": [standing.to_body() for standing in self.standings],
            "grants": [grant.to_body() for grant in self.grants],
            "gaps": [gap.to_body() for gap in self.gaps],
            **({"former": former} if former else {}),
        }

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        """The snapshot a body stands for. Terms in it that cannot be read become gaps.

        Raises:
            InvalidTerms: the body is not one of a snapshot at all.
        """
        try:
            _check_version(body["version"])
            standings = [read_standing(one["name"], one) for one in body["standings"]]
            grants = [read_grant(one["expert"], one["licence"], one) for one in body["grants"]]
            gaps = {Gap(one["expert"], one["licence"], one["problem"]) for one in body["gaps"]}
            gaps |= {one for one in (*standings, *grants) if isinstance(one, Gap)}
            return cls(
                policy_epoch=int(body["policy_epoch"]),
                build_digest=str(body["build_digest"]),
                anchor_digest=str(body["anchor_digest"]),
                top_k=int(body["top_k"]),
                experts=tuple(ExpertRef(one["name"], one["digest"]) for one in body["experts"]),
                standings=tuple(one for one in standings if isinstance(one, Standing)),
                grants=tuple(one for one in grants if isinstance(one, Grant)),
                gaps=tuple(sorted(gaps)),
                former=tuple(cls.from_body(one) for one in body.get("former", ())),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidTerms(
                f"expected the body of a policy snapshot, found one that cannot be read ({error}); "
                "publish the policy again"
            ) from error


def _check_version(version: object) -> None:
    if version != BODY_VERSION:
        raise ValueError(f"expected version {BODY_VERSION}, found {version!r}")


@dataclass(frozen=True, slots=True)
class Ask:
    """Who asks, why, and from where; `exclude` and `require` name experts and only narrow.

    `sector` and `recipient_class` are empty where the consumer has not said: that fits licences
    which do not ask. Prompts are no part of it and never will be.
    """

    consumer: str
    purpose: str
    territory: str
    exclude: frozenset[str] = frozenset()
    require: frozenset[str] = frozenset()
    sector: str = ""
    recipient_class: str = ""

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Self:
        """The question that `fields` hold, as an order carries it or a record keeps it.

        Words policy does not know are kept: it denies them.
        """
        return cls(
            consumer=str(fields.get("consumer", "")),
            purpose=str(fields.get("purpose", "")),
            territory=str(fields.get("territory", "")),
            exclude=frozenset(fields.get("exclude", ())),
            require=frozenset(fields.get("require", ())),
            sector=str(fields.get("sector", "")),
            recipient_class=str(fields.get("recipient_class", "")),
        )


@dataclass(frozen=True, slots=True)
class Permitted:
    """The request may be answered with the public expert and those of `allowed` (build order).

    `denied` gives every reason for every other expert of the build. `recompute_without` names those
    of `allowed` whose loss an answer under way outlives: the licence charged for them says so, and
    the request does not insist on them.
    """

    policy_epoch: int
    allowed: tuple[ExpertRef, ...]
    denied: Mapping[str, tuple[Why, ...]]
    recompute_without: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Denied:
    """The request may not be answered: `why` gathers the reasons of the experts it requires."""

    policy_epoch: int
    why: tuple[Why, ...]
    denied: Mapping[str, tuple[Why, ...]]


Decision = Permitted | Denied
