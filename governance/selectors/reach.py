"""What an API key may reach now: what would fall silent if it were revoked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from governance.models import ApiKey
from governance.policy.decide import decide
from governance.policy.types import Ask, Permitted, Snapshot
from governance.services.consumers import may_ask_for
from governance.vocabulary import ExpertName, Purpose, Sector


@dataclass(frozen=True)
class Reach:
    """Experts by purpose, the public one left out; purposes with the same experts stay apart."""

    by_purpose: tuple[tuple[Purpose, tuple[ExpertName, ...]], ...]

    @property
    def experts(self) -> tuple[ExpertName, ...]:
        """Every expert the key may reach for some purpose."""
        found = {name for _, names in self.by_purpose for name in names}
        return tuple(sorted(found))


def reach_of(api_key: ApiKey, snapshot: Snapshot | None, *, at: datetime) -> Reach:
    """Decide for every purpose a request of the key may name.

    It is policy's answer for this instant; quotas and the consumer's own exclusions are left out.
    Without a snapshot nothing is reached.
    """
    purposes = [purpose for purpose in Purpose if may_ask_for(api_key, purpose)]
    if snapshot is None:
        return Reach(tuple((purpose, ()) for purpose in purposes))
    return Reach(tuple((purpose, _allowed(api_key, purpose, snapshot, at)) for purpose in purposes))


def _allowed(
    api_key: ApiKey, purpose: Purpose, snapshot: Snapshot, at: datetime
) -> tuple[ExpertName, ...]:
    consumer = api_key.consumer
    ask = Ask(
        consumer=consumer.slug,
        purpose=purpose,
        territory=consumer.territory,
        sector=Sector.named(consumer.sector) or consumer.sector,
        recipient_class=consumer.recipient_class,
    )
    decision = decide(snapshot, ask, at)
    if not isinstance(decision, Permitted):
        return ()
    return tuple(sorted(ExpertName(expert.name) for expert in decision.allowed))
