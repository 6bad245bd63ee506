"""A served build in a real database, by real clocks: what runners and couriers work on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from django.utils import timezone

from governance.models import Build, Consumer, Expert, Licence
from governance.services import consent, snapshots
from governance.vocabulary import BuildState, Instrument, LicenceState
from modelops.contract import ExpertRef, GenerationOrder, Sampling
from tests import factories

NAMES = ("code", "languages")


@dataclass
class Served:
    """A promoted build of `code` and `languages`, both licensed to Dara for research."""

    build: Build
    dara: Consumer
    experts: dict[str, Expert]

    def ref(self, name: str) -> ExpertRef:
        """An expert as the build names it."""
        row = next(one for one in self.build.experts if one["name"] == name)
        return ExpertRef(row["name"], row["digest"])

    @property
    def ask(self) -> dict[str, Any]:
        """What the gateway puts into Dara's orders."""
        return {"consumer": "dara", "purpose": "research", "territory": "NL"}

    def order(self, *names: str, max_tokens: int = 5, **fields: Any) -> GenerationOrder:
        """Dara's order with these experts (default both) under the newest policy epoch."""
        current = snapshots.current()
        assert current is not None
        defaults: dict[str, Any] = {
            "order_id": str(uuid4()),
            "decision_id": str(uuid4()),
            "policy_epoch": current.policy_epoch,
            "build_digest": current.build_digest,
            "anchor_digest": current.anchor_digest,
            "allowed": tuple(self.ref(name) for name in names or NAMES),
            "top_k": 3,
            "prompt": "Alder Press prints",
            "sampling": Sampling(max_tokens=max_tokens, temperature=0.0),
            "ask": self.ask,
        }
        return GenerationOrder(**{**defaults, **fields})

    def limit(self, name: str, **quota: Any) -> str:
        """Give an expert a licence with a quota for this month; its reference."""
        return self.relicense(name, quota_period="month", **quota)

    def relicense(self, name: str, **terms: Any) -> str:
        """Replace the licence of an expert by one with these terms; its reference."""
        former = Licence.objects.get(corpus=self.experts[name].corpus, state=LicenceState.APPROVED)
        Licence.objects.filter(pk=former.pk).update(state=LicenceState.REJECTED)
        found = factories.licence(corpus=former.corpus, starts_at=former.starts_at, **terms)
        snapshots.publish(reason="other terms", at=timezone.now())
        return found.reference

    def withdraw(self, name: str, instrument: Instrument = Instrument.WITHDRAW) -> Any:
        """The owner presses the button; by the clock on the wall."""
        return consent.withdraw(
            self.experts[name], by=None, at=timezone.now(), method="tests", instrument=instrument
        )


def served(
    anchor_digest: str = "",
    experts: dict[str, str] | None = None,
    *,
    ends_at: datetime | None = None,
) -> Served:
    """Rows of a promoted build and its policy; digests as given, or invented."""
    at = timezone.now()
    begin = at - timedelta(days=1)
    anchor = factories.anchor(**({"digest": anchor_digest} if anchor_digest else {}))
    found: dict[str, Expert] = {}
    revisions = []
    for name in experts or dict.fromkeys(NAMES, ""):
        corpus = factories.corpus(slug=f"{name}-texts")
        factories.licence(corpus=corpus, starts_at=begin, ends_at=ends_at)
        found[name] = factories.expert(name=name, corpus=corpus)
        digest = (experts or {}).get(name)
        revision = factories.revision(
            expert=found[name], anchor=anchor, **({"digest": digest} if digest else {})
        )
        factories.finding(revision=revision, found_at=begin)
        revisions.append(revision)
    dara = factories.consumer(slug="dara", name="Dara", territory="NL")
    build = factories.build(*revisions, state=BuildState.PROMOTED, promoted_at=begin)
    snapshots.publish(reason="the story begins", build=build, at=at)
    return Served(build, dara, found)
