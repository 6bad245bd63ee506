"""`reclaim tour`: the whole promise, told and checked against a running demo.

Only public interfaces are used: the gateway as a consumer would, pages and REST as people would,
and the verifier that ships inside the certificate. Every claim is checked as it is made; the tour
succeeds only if all of them held.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
from rich.console import Console
from rich.table import Table

from modelops.corpus import jsonl
from worker.visitors import Consumer, Staff, VisitFailed

DOMAINS_COST_AT_MOST = 0.05
"""How much bits per byte of another domain may change when an expert is taken out."""
PASSAGES, PASSAGE_CHARS = 12, 420
STREAM_TOKENS = 320
WAIT_S = 300


@dataclass(frozen=True)
class Claim:
    """One thing the tour said, whether it held, and the figures behind it."""

    id: str
    says: str
    held: bool
    found: Mapping[str, Any] = field(default_factory=dict)


def main(*, as_json: bool = False) -> int:
    """Tell the story. 0 if every claim held, 1 if one did not, 2 without a running demo."""
    console = Console(stderr=as_json)
    try:
        tour = Tour(_notes(), console)
        with tour:
            tour.tell()
    except (VisitFailed, httpx.HTTPError) as failure:
        console.print(f"[red]The tour stopped: {failure}[/red]")
        return 2
    failed = [claim for claim in tour.claims if not claim.held]
    if as_json:
        claims = [asdict(claim) for claim in tour.claims]
        sys.stdout.write(json.dumps({"held": not failed, "claims": claims}, indent=1) + "\n")
    console.rule(
        f"{len(tour.claims) - len(failed)} of {len(tour.claims)} claims held"
        + (f"; not: {', '.join(claim.id for claim in failed)}" if failed else "")
    )
    return 1 if failed else 0


def _notes() -> dict[str, Any]:
    path = Path(os.environ.get("RECLAIM_HOME", ".reclaim")) / "demo.json"
    try:
        notes: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise VisitFailed(
            f"expected a demo described in {path}, found none; run `make demo`"
        ) from None
    if "url" not in notes:
        raise VisitFailed(f"expected a finished demo in {path}; run `make demo` again")
    return notes


class Tour:
    """The story's scenes, in order; `claims` grows as they are told."""

    def __init__(self, notes: Mapping[str, Any], console: Console) -> None:
        self.console = console
        self.claims: list[Claim] = []
        self.experts: dict[str, dict[str, str]] = dict(notes["experts"])
        self.passages = {
            "public": _passages(notes["public_heldout"]),
            **{name: _passages(found["heldout"]) for name, found in self.experts.items()},
        }
        url, keys = notes["url"], notes["api_keys"]
        self.dara = Consumer(url, keys["dara-research"])
        self.ember = Consumer(url, keys["ember-analytics"])
        logins = {login["email"]: login["password"] for login in notes["logins"]}
        self.people: Callable[[str], Staff] = lambda email: Staff(url, email, logins[email])
        self.edda = self.people("edda@reclaim.example")
        self.forbidden_is_gone = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for visitor in (self.dara, self.ember, self.edda):
            visitor.close()

    def tell(self) -> None:
        """Every scene."""
        served = self.dara.model()["reclaim"]["experts_allowed"]
        active = [name for name in sorted(self.experts) if name in served]
        self.forbidden_is_gone = len(active) < len(self.experts)
        if not active:
            raise VisitFailed(
                "expected an expert that is still served, found none left to withdraw; "
                "`reclaim down --erase` and `make demo` start afresh"
            )
        self.permitted(active)
        self.skill(active)
        forbidden = self.restricted()
        self.withdrawal(next((name for name in active if name != forbidden), forbidden))

    def claim(self, identity: str, says: str, *, held: bool, **found: Any) -> None:
        """State a claim with what was found."""
        self.claims.append(Claim(identity, says, held, found))
        mark = "[green]✓[/green]" if held else "[red]✗[/red]"
        self.console.print(f"{mark} {says}")

    # ── Asking ───────────────────────────────────────────────────────────────────────────────

    def permitted(self, active: list[str]) -> None:
        """A permitted consumer asks; the answer says who answered."""
        self.console.rule("A permitted consumer asks")
        answer = self.dara.chat(self.passages[active[0]][0][:200], max_tokens=24)
        about = answer["reclaim"]
        self.console.print(f"  {answer['choices'][0]['message']['content']!r}")
        self.console.print(f"  shares of routing: {about['experts_used']}")
        self.claim(
            "answer.says_why",
            f"the answer names policy epoch {about['policy_epoch']}, its decision and its build",
            held=bool(about["decision_id"] and about["build"] and about["policy_epoch"]),
            reclaim=about,
        )
        self.claim(
            "answer.experts",
            f"a permitted consumer may route to {', '.join(active)}",
            held=set(about["experts_allowed"]) == set(active)
            and set(about["experts_used"]) <= {"public", *active},
        )

    def skill(self, active: list[str]) -> None:
        """Bits per byte of each domain, with all experts and without each one."""
        self.console.rule("What each expert is good for: bits per byte of text nobody trained on")
        columns = {"all": [], **{f"without {name}": [name] for name in active}}
        bits = {
            domain: {c: self._bits(domain, exclude) for c, exclude in columns.items()}
            for domain in ("public", *sorted(self.experts))
        }
        self._show_bits(bits)
        for name in active:
            own = bits[name][f"without {name}"] / bits[name]["all"] - 1
            self.claim(
                f"skill.{name}.helps",
                f"without {name}, its own domain costs {own:+.1%} bits",
                held=own > 0,
                change=own,
            )
            others = {
                domain: row[f"without {name}"] / row["all"] - 1
                for domain, row in bits.items()
                if domain != name
            }
            worst = max(others.values())
            self.claim(
                f"skill.{name}.spares_others",
                f"without {name}, no other domain costs more than {worst:+.1%} "
                f"(bound {DOMAINS_COST_AT_MOST:.0%})",
                held=worst <= DOMAINS_COST_AT_MOST,
                changes=others,
            )

    def _bits(self, domain: str, exclude: list[str]) -> float:
        nats = size_bytes = 0.0
        for passage in self.passages[domain]:
            scored = self.dara.score(passage, exclude=exclude)
            nats -= sum(logprob for logprob in scored["token_logprobs"] if logprob is not None)
            size_bytes += len(passage.encode()) - len(scored["tokens"][0].encode())
        return nats / math.log(2) / size_bytes

    def _show_bits(self, bits: Mapping[str, Mapping[str, float]]) -> None:
        table = Table("domain")
        for column in next(iter(bits.values())):
            table.add_column(column, justify="right")
        for domain, row in bits.items():
            table.add_row(domain, *(f"{value:.3f}" for value in row.values()))
        self.console.print(table)

    def restricted(self) -> str:
        """A consumer whose licence forbids one expert; returns that expert."""
        self.console.rule("A consumer whose licence forbids one expert asks")
        answer = self.ember.chat("def main():", max_tokens=8)
        denied = answer["reclaim"]["experts_denied"]
        forbidden = next(
            (n for n, why in denied.items() if "CONSUMER" in {w["code"] for w in why}), ""
        )
        if not forbidden and self.forbidden_is_gone:
            self.console.print("  The expert that was forbidden to it has been withdrawn since.")
            return ""
        self.claim(
            "denied.named",
            f"{forbidden or 'no expert'} is denied to it, with the reason CONSUMER; "
            "the others answer",
            held=bool(forbidden)
            and forbidden not in answer["reclaim"]["experts_allowed"]
            and forbidden not in answer["reclaim"]["experts_used"],
            denied=denied,
        )
        refused = self.ember.refused("def main():", require=[forbidden])
        self.claim(
            "denied.required",
            f"requiring it anyway is refused with {refused.get('status')} {refused.get('code')}",
            held=refused.get("status") == 403,
            refused=refused,
        )
        return forbidden

    # ── Taking back ──────────────────────────────────────────────────────────────────────────

    def withdrawal(self, name: str) -> None:
        """The owner withdraws while a stream is running; then the evidence, step by step."""
        self.console.rule(f"The owner takes {name} back, in the middle of a stream")
        before = self._prints(exclude=[name])
        former = self._promoted()
        with self.people(self.experts[name]["email"]) as owner:
            streams = [_Listening(self.dara, self.passages[name][n][:120], n) for n in range(4)]
            for stream in streams:
                stream.begun.wait(30)
            withdrawal_id = owner.withdraw(name)
            for stream in streams:
                stream.join(60)
            self._streams_ended(streams, name)
            after = self.dara.chat("Once more:", max_tokens=8)["reclaim"]
            self.claim(
                "withdrawal.next_answer",
                f"the next answer (policy epoch {after['policy_epoch']}) cannot route to {name}",
                held=name not in after["experts_allowed"] and name not in after["experts_used"],
                reclaim=after,
            )
            self._enforced(owner, withdrawal_id, name, former)
            after_rebuild = self._prints(exclude=[])
            self.claim(
                "rebuild.masked_equals_rebuilt",
                f"denying {name} before and the rebuilt build now answer alike, on every domain",
                held=before == after_rebuild,
                domains=sorted(before),
            )
            self._certificate(owner, withdrawal_id)

    def _prints(self, exclude: list[str]) -> dict[str, list[str]]:
        return {
            domain: [
                self.dara.complete(passage[:160], max_tokens=16, exclude=exclude)
                for passage in passages[:3]
            ]
            for domain, passages in self.passages.items()
        }

    def _streams_ended(self, streams: list[_Listening], name: str) -> None:
        cut = [s for s in streams if s.reclaim.get("ended_by", {}).get("expert") == name]
        for stream in cut[:1]:
            self.console.print(f"  a stream's last words: {stream.text[-60:]!r}")
        ended_by = [stream.reclaim["ended_by"] for stream in cut]
        self.claim(
            "withdrawal.stream_ends",
            f"{len(cut)} of {len(streams)} streams were cut by it; no other was running still",
            finish_reasons=sorted(s.finish_reason for s in streams),
            held=bool(cut)
            and all(end["reason"] == "consent_withdrawn" for end in ended_by)
            and all(s.finish_reason == "content_filter" for s in cut)
            and all(s.finish_reason in ("stop", "length") for s in streams if s not in cut),
            ended_by=ended_by,
        )

    def _enforced(self, owner: Staff, withdrawal_id: str, name: str, former: int) -> None:
        state = _until(lambda: owner.withdrawal(withdrawal_id), lambda found: found["quiesced_at"])
        took_s = owner.seconds_between(state["committed_at"], state["quiesced_at"])
        self.claim(
            "withdrawal.quiesced",
            f"{len(state['settled'])} runner(s) confirmed by {state['quiesced_by']}, "
            f"{took_s * 1000:.0f} ms after the click was committed",
            held=took_s <= state["lease_s"] * 1.01 + 0.25,
            seconds=took_s,
        )
        build = _until(
            lambda: self.edda.get("/api/v1/builds?state=promoted")["results"][0],
            lambda found: (
                found["number"] > former
                and name not in {expert["name"] for expert in found["experts"]}
            ),
        )
        proof = build["proof"]
        self.claim(
            "rebuild.promoted",
            f"build {build['number']} without {name} is served instead of build {former}",
            held=bool(proof),
            proof=proof,
        )
        state = _until(lambda: owner.withdrawal(withdrawal_id), lambda found: found["erased_at"])
        self.claim(
            "erasure.recorded",
            "the expert's bytes are gone, with evidence",
            held=bool(state["erasure"]),
            erasure=state["erasure"],
        )

    def _certificate(self, owner: Staff, withdrawal_id: str) -> None:
        _until(
            lambda: owner.withdrawal(withdrawal_id),
            lambda found: (
                {"blocked", "unloaded", "rebuilt"}
                <= {certificate["stage"] for certificate in found["certificates"]}
            ),
        )
        bundle = owner.download(f"/api/v1/withdrawals/{withdrawal_id}/certificate")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "certificate.zip"
            path.write_bytes(bundle)
            with zipfile.ZipFile(path) as parts:
                parts.extract("verify.py", folder)
            checked = subprocess.run(
                [sys.executable, "-I", f"{folder}/verify.py", str(path)],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        self.console.print(checked.stdout.rstrip())
        self.claim(
            "certificate.verifies",
            "the certificate verifies with the verifier it carries, without us",
            held=checked.returncode == 0,
            output=checked.stdout[-2000:],
        )

    def _promoted(self) -> int:
        number: int = self.edda.get("/api/v1/builds?state=promoted")["results"][0]["number"]
        return number


class _Listening(threading.Thread):
    """A consumer reading a long stream while something else happens."""

    def __init__(self, consumer: Consumer, prompt: str, seed: int) -> None:
        super().__init__(daemon=True)
        self.text, self.finish_reason, self.reclaim = "", "", dict[str, Any]()
        self.begun = threading.Event()
        self._chunks = consumer.stream(prompt, max_tokens=STREAM_TOKENS, seed=seed)
        self.start()

    def run(self) -> None:
        """Read until the stream ends, whatever ends it."""
        try:
            for chunk in self._chunks:
                self.reclaim = chunk.get("reclaim", self.reclaim)
                for choice in chunk["choices"]:
                    self.text += choice["delta"].get("content", "")
                    self.finish_reason = choice["finish_reason"] or self.finish_reason
                if len(self.text) > 8:
                    self.begun.set()
        finally:
            self.begun.set()


def _until(
    read: Callable[[], dict[str, Any]], is_there: Callable[[dict[str, Any]], Any]
) -> dict[str, Any]:
    end_s = time.monotonic() + WAIT_S
    while time.monotonic() < end_s:
        found = read()
        if is_there(found):
            return found
        time.sleep(0.25)
    raise VisitFailed(f"waited {WAIT_S} s for it; last seen: {json.dumps(found)[:400]}")


def _passages(path: str) -> list[str]:
    """The beginnings of held-out documents, short enough for a tiny context."""
    texts = (document.text for document in jsonl.read(Path(path)))
    long_enough = (text for text in texts if len(text) >= PASSAGE_CHARS)
    return [text[:PASSAGE_CHARS] for text, _ in zip(long_enough, range(PASSAGES), strict=False)]
