"""List pages over a large installation: how long they take, and how often they ask the database.

    python -m bench.pages [--quick] --json FILE

A database is filled with 1,000 owners, 5,000 licences, 2,000 consumers and a million decisions,
and what goes with them (`--quick`: a tenth). Each list, on its page and over REST, is asked for by
a person who may see it: plain, filtered, searched, sorted, and deep in it. A time counts from the
request to the whole answer, through every middleware and row-level security, in one process and
without a network; rounds are mixed, so that a busy moment hits all alike. The same addresses are
asked over a twentieth of the rows first, to see whether any asks the database more often when there
is more. Exports of 5,000 licences are timed beside that.
"""

from __future__ import annotations

import gc
import random
import re
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from html import unescape
from statistics import median, quantiles
from typing import Any

from bench import database
from bench.installation import NOW, Size, fill
from bench.record import Record, options

ROUNDS, QUICK_ROUNDS = 40, 3
BOUND_MS = 300
EXPORT_BOUND_S = 5
WHOLE = Size(owners=1_000, licences=5_000, consumers=2_000, decisions=1_000_000, events=20_000)
THEN = (NOW - timedelta(days=1)).date()

LISTS = (
    ("legal", "/legal/owners/", ("", "?find=00003", "?sort=-licences", "?page=999")),
    ("legal", "/legal/licences/", (
        "", "?find=press+00003", "?state=approved&sort=ends_at", "?standing=in_force",
        "?ends_within=90", f"?valid={THEN}&known={THEN}", "?page=999",
    )),
    ("legal", "/legal/consumers/", ("", "?find=00003", "?sort=-keys", "?page=999")),
    ("legal", "/legal/keys/", ("", "?find=00003&standing=unused", "?page=999")),
    ("auditor", "/legal/corpora/", ("", "?find=press+00003", "?about=no_sketch")),
    ("legal", "/legal/duties/", ("", "?find=press+00003&shown=overdue", "?page=999")),
    ("legal", "/legal/statements/", ("", "?find=press+00003&month=2026-01")),
    ("legal", "/legal/consents/", ("", "?find=press+00003&state=given")),
    ("auditor", "/legal/decisions/", (
        "", "?consumer=consumer-00001", "?consumer=nobody", "?purpose=research", "?purpose=justice",
        "?expert=news-00000", "?expert=news-00003", "?expert=nothing",
        "?consumer=consumer-00001&purpose=education&expert=news-00000", "?policy_epoch=3",
        f"?until={THEN}T00:00:00Z", "deep",
    )),
    ("auditor", "/legal/log/", ("", "deep")),
    ("legal", "/legal/approvals/", ("",)),
    ("legal", "/legal/due/", ("", "?clock=duty")),
    ("legal", "/legal/quotas/", ("",)),
    ("legal", "/notices/", ("", "?page=99")),
    ("engineer", "/engineer/experts/", ("", "?find=press+00003", "?page=999")),
    ("owner", "/owner/", ("",)),
    ("owner", "/owner/licences/", ("",)),
    ("legal", "/api/v1/owners", ("", "?limit=200")),
    ("legal", "/api/v1/licences", ("", "?state=approved", "?find=00003")),
    ("legal", "/api/v1/consumers", ("",)),
    ("legal", "/api/v1/corpora", ("",)),
    ("legal", "/api/v1/duties", ("",)),
    ("legal", "/api/v1/approvals", ("",)),
    ("auditor", "/api/v1/decisions", ("", "?consumer=consumer-00001", "?expert=news-00003")),
    ("engineer", "/api/v1/experts", ("",)),
)  # fmt: skip
EXPORTS = ("/lists/licences/export.csv", "/lists/licences/export.xlsx")


def main() -> int:
    """Fill a little, count queries; fill the rest, count again and time; print and write."""
    wanted = options(__doc__ or "")
    whole = WHOLE.shrunk(10) if wanted.quick else WHOLE
    rounds = QUICK_ROUNDS if wanted.quick else ROUNDS
    record = Record("pages", {**vars(whole), "rounds": rounds, "bound_ms": BOUND_MS}, wanted)
    with database.fresh():
        import logging

        logging.disable(logging.INFO)
        few = whole.shrunk(20)
        fill(few, first=0)
        before = {name: queries_of(client, path) for name, client, path in addresses()}
        fill(whole.beyond(few), first=few.owners)
        judge(record, before, rounds)
        export(record)
    return record.finish()


def judge(record: Record, before: dict[str, int], rounds: int) -> None:
    """Time every list in turn, round after round."""
    asked = list(addresses())
    after = {name: queries_of(client, path) for name, client, path in asked}
    took: dict[str, list[float]] = {name: [] for name, _, _ in asked}
    gc.collect()
    order = random.Random(7)
    for _ in range(rounds):
        order.shuffle(asked)
        for name, client, path in asked:
            took[name].append(timed_ms(client, path))
    for name, times in took.items():
        counts = {"queries": after[name], "queries_with_few_rows": before[name]}
        record.row(name, p50_ms=median(times), p95_ms=p95(times), **counts)
    everything = [each for times in took.values() for each in times]
    record.claim("pages.p95_ms", p95(everything), "ms", f"<= {BOUND_MS}")
    worst = max(p95(times) for times in took.values())
    record.claim("pages.worst_p95_ms", worst, "ms", f"<= {BOUND_MS}")
    growing = [name for name, count in after.items() if count > before[name]]
    record.claim("pages.with_queries_growing", len(growing), "pages", "== 0")


def export(record: Record) -> None:
    """Time all licences as a file."""
    legal = client_of("legal")
    slowest = 0.0
    for path in EXPORTS:
        took = [timed_ms(legal, path) / 1000 for _ in range(3)]
        record.row(path, s=median(took))
        slowest = max(slowest, *took)
    record.claim("pages.export_s", slowest, "s", f"<= {EXPORT_BOUND_S}")


def p95(times: Sequence[float]) -> float:
    """The 95th percentile, never above the slowest."""
    return quantiles(times, n=20, method="inclusive")[-1]


def timed_ms(client: Any, path: str) -> float:
    """Milliseconds from the request to the whole answer."""
    began = time.perf_counter()
    answer = client.get(path)
    took = (time.perf_counter() - began) * 1000
    if answer.status_code != 200:
        raise SystemExit(f"expected an answer at {path}, found status {answer.status_code}")
    return took


def queries_of(client: Any, path: str) -> int:
    """How often an address asks the database."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    client.get(path)  # what is read once a process is not this answer's
    with CaptureQueriesContext(connection) as asked:
        timed_ms(client, path)
    return len(asked)


def addresses() -> Iterator[tuple[str, Any, str]]:
    """Each address by a name for the table, and who asks."""
    clients = {who: client_of(who) for who in {who for who, _, _ in LISTS}}
    for who, path, queries in LISTS:
        for query in queries:
            whole = _deep(clients[who], path) if query == "deep" else path + query
            yield f"{path} {query}".strip(), clients[who], whole


def _deep(client: Any, path: str) -> str:
    """The address of the third page of a list that is paged by place, or of its last."""
    for _ in range(2):
        found = re.search(r'href="([^"]+)" rel="next"', client.get(path).content.decode())
        path = unescape(found[1]) if found else path
    return path


def client_of(name: str) -> Any:
    """A browser in which somebody is logged in."""
    from django.test import Client

    from governance import tenancy
    from governance.models import Account

    client = Client(SERVER_NAME="localhost")
    with tenancy.as_system():
        account = Account.objects.get(email=f"{name}@example.org")
    client.force_login(account, backend="allauth.account.auth_backends.AuthenticationBackend")
    return client


if __name__ == "__main__":
    raise SystemExit(main())
