"""What withdrawals are measured and tried on: licensed experts, runner processes, their readers.

The runners are real processes around the stub engine, which writes into each word when it was
released. Nothing here asserts anything.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from modelops.contract import (
    Delta,
    Done,
    ExpertRef,
    GenerationOrder,
    Refused,
    Sampling,
    from_wire,
    to_wire,
)

ANCHOR = "a" * 64
READ_LATE_S = 0.25
"""How late a busy machine may let a reader see what had been written before."""

_ROOT = Path(__file__).resolve().parents[1]


class Stage:
    """One promoted build after another, each of `size` fresh experts licensed to one consumer."""

    def __init__(self, size: int) -> None:
        from governance.models import Account, Anchor, Consumer, DataOwner

        self._size = size
        self._anchor = Anchor.objects.create(digest=ANCHOR, title="bench")
        self._owner = DataOwner.objects.create(slug="bench", legal_name="Bench", jurisdiction="NL")
        self._asker, self._decider = (
            Account.objects.create(email=f"{name}@bench.example") for name in ("asker", "decider")
        )
        Consumer.objects.create(slug="bench", name="Bench", territory="NL")
        self.experts: dict[str, Any] = {}
        self.refs: dict[str, ExpertRef] = {}
        self._builds = 0

    def promote(self) -> list[str]:
        """Serve a build of fresh experts from now on; their names."""
        from django.utils import timezone

        from governance.models import Build
        from governance.services import locks, snapshots
        from governance.vocabulary import BuildState

        at = timezone.now()
        first = self._builds * self._size
        self._builds += 1
        self._license(first, at)
        with locks.policy_act():
            Build.objects.filter(state=BuildState.PROMOTED).update(state=BuildState.RETIRED)
            # Each withdrawal plans a build of its own, so the numbers in use are not ours to know.
            newest = Build.objects.order_by("-number").values_list("number", flat=True).first()
            build = Build.objects.create(
                number=(newest or 0) + 1,
                digest=f"{self._builds:064x}",
                anchor=self._anchor,
                experts=[{"name": ref.name, "digest": ref.digest} for ref in self.refs.values()],
                top_k=4,
                state=BuildState.PROMOTED,
                proof={"bench": True},
                promoted_at=at,
            )
            snapshots.publish(reason="bench", build=build, at=at)
        return list(self.refs)

    def _license(self, first: int, at: datetime) -> None:
        """Make experts number `first` and on, each with a corpus, a licence, a clean revision."""
        from governance.models import Expert, ExpertRevision, Finding
        from governance.vocabulary import ExpertState, RevisionState, Verdict

        numbers = range(first, first + self._size)
        names = [f"expert-{number:05}" for number in numbers]
        digests = [f"{number:064x}" for number in numbers]
        corpora = self._licensed_corpora(names, at)
        experts = Expert.objects.bulk_create(
            Expert(
                name=corpus.slug,
                title=corpus.slug,
                owner=self._owner,
                corpus=corpus,
                state=ExpertState.ACTIVE,
            )
            for corpus in corpora
        )
        revisions = ExpertRevision.objects.bulk_create(
            ExpertRevision(
                expert=expert,
                number=1,
                digest=digest,
                weights_digest=digest,
                anchor=self._anchor,
                state=RevisionState.ACTIVATED,
            )
            for expert, digest in zip(experts, digests, strict=True)
        )
        Finding.objects.bulk_create(
            Finding(
                revision=revision,
                verdict=Verdict.PASS,
                rate=0,
                rate_low=0,
                rate_high=0.001,
                threshold=0.01,
                seed=1,
            )
            for revision in revisions
        )
        self.experts |= dict(zip(names, experts, strict=True))
        self.refs = {name: ExpertRef(name, one) for name, one in zip(names, digests, strict=True)}

    def _licensed_corpora(self, names: Sequence[str], at: datetime) -> list[Any]:
        from governance.models import Corpus, Licence
        from governance.vocabulary import LicenceState

        corpora = Corpus.objects.bulk_create(
            Corpus(owner=self._owner, slug=name, title=name, source_licence="own") for name in names
        )
        Licence.objects.bulk_create(
            Licence(
                reference=f"B-{corpus.slug}",
                corpus=corpus,
                uses=["train", "answer"],
                purposes=["research"],
                starts_at=at - timedelta(days=1),
                terms_digest="c" * 64,
                state=LicenceState.APPROVED,
                requested_by=self._asker,
                requested_at=at,
                decided_by=self._decider,
                decided_at=at,
            )
            for corpus in corpora
        )
        return corpora

    def order(self, name: str) -> GenerationOrder:
        """An endless order that routes to one expert, and is refused without it."""
        return GenerationOrder(
            order_id=str(uuid4()),
            decision_id=str(uuid4()),
            policy_epoch=0,
            build_digest=f"{self._builds:064x}",
            anchor_digest=ANCHOR,
            allowed=(self.refs[name],),
            top_k=4,
            prompt="bench",
            sampling=Sampling(max_tokens=10**6),
            ask={
                "consumer": "bench",
                "purpose": "research",
                "territory": "NL",
                "require": [name],
            },
        )

    def withdraw(self, name: str) -> Any:
        """The owner presses the button; the row of the withdrawal."""
        from django.utils import timezone

        from governance.services import consent

        return consent.withdraw(self.experts[name], by=None, at=timezone.now(), method="bench")


@contextmanager
def runners(
    home: Path, count: int, *, lease_s: float, token_s: float, more: Sequence[str] = ()
) -> Iterator[list[str]]:
    """So many runner processes; their URLs."""
    urls = [f"unix://{home / f'r{number}.sock'}" for number in range(count)]
    processes = [
        start_runner(f"runner-{number}", url, os.environ, lease_s, token_s, more)
        for number, url in enumerate(urls)
    ]
    try:
        yield urls
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=30)


def start_runner(
    name: str,
    url: str,
    environ: Mapping[str, str],
    lease_s: float,
    token_s: float,
    more: Sequence[str] = (),
    module: str = "bench.stub_runner",
) -> subprocess.Popen[bytes]:
    """One runner process around the stub engine."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", module, "--name", name, "--url", url),
            *("--lease-s", str(lease_s), "--token-s", str(token_s), *more),
        ],
        cwd=_ROOT,
        env={**environ, "RECLAIM_LOG_LEVEL": "ERROR"},
    )


def health(url: str) -> Mapping[str, Any]:
    """What a runner says about itself.

    Raises:
        OSError, ValueError: nobody is there, or not yet.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(5)
        line.connect(url.removeprefix("unix://"))
        line.sendall(b'{"kind": "health"}\n')
        with line.makefile("rb") as lines:
            found: dict[str, Any] = json.loads(lines.readline())
    return found


def wait_for(url: str, expert: str, timeout_s: float = 60) -> None:
    """Until the runner holds the expert and a lease.

    Raises:
        RuntimeError: it did not in time.
    """
    until_s = time.monotonic() + timeout_s
    while time.monotonic() < until_s:
        try:
            said = health(url)
            if said["policy_epoch"] and expert in said["loaded"]:
                return
        except (OSError, ValueError):
            pass
        time.sleep(0.05)
    raise RuntimeError(f"expected a runner at {url} within {timeout_s} s, found none; see its log")


@dataclass
class Reader:
    """A stream of one runner, read in a thread; words as the instants they were released at.

    `end` stays None where the runner died.
    """

    url: str
    order: GenerationOrder
    released_at: list[float] = field(default_factory=list)
    read_at: list[float] = field(default_factory=list)
    end: Done | Refused | None = None

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def is_reading(self) -> bool:
        """Whether more may come."""
        return self._thread.is_alive()

    def _read(self) -> None:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.connect(self.url.removeprefix("unix://"))
            line.sendall(to_wire(self.order))
            with line.makefile("rb") as lines:
                for text in lines:
                    message = from_wire(text)
                    if isinstance(message, Delta):
                        self.read_at.append(time.time())
                        self.released_at.append(float(message.text))
                    elif isinstance(message, Done | Refused):
                        self.end = message

    def join(self) -> None:
        """Wait for the end of the stream."""
        self._thread.join(timeout=30)

    def late(self, effective_at: float) -> int:
        """Words that left after `effective_at`, in seconds since 1970."""
        released = sum(at > effective_at for at in self.released_at)
        return max(released, sum(at > effective_at + READ_LATE_S for at in self.read_at))
