"""The engine's loop: takes orders, runs steps, hands out what the lease allows at that moment.

One thread computes. Everything shared with other threads (the line, the ends of sequences, the
errands) changes under one lock, and a token is checked and handed over under that same lock:
once `withdraw` holds it, nothing computed with the withdrawn expert can follow.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import TypeVar

from modelops.artefacts.store import Store
from modelops.contract import (
    Authority,
    Delta,
    Done,
    EndCause,
    ExpertRef,
    FinishReason,
    GenerationOrder,
    RefusalReason,
    Refused,
    Warrant,
    WithdrawalAck,
)
from modelops.engine import lease
from modelops.engine.backend import Backend, Plan
from modelops.engine.counts import Counts, EngineStats
from modelops.engine.intake import Intake
from modelops.engine.progress import Progress
from modelops.engine.routing import StepAbandoned
from modelops.engine.runner_step import Outcome
from modelops.engine.scheduler import StepPlan
from modelops.engine.sequence import Deliver, Loss, Sequence
from modelops.errors import EngineError, RoutingGuardError
from modelops.model import flexolmo, tokenizer

T = TypeVar("T")
log = logging.getLogger(__name__)


class Engine:
    """Continuous batching over one anchor and the experts loaded beside it.

    `backend` computes and holds the weights; what is computed for whom, and what leaves, is
    decided here. At most `most_open` requests run or wait at a time.

    `authority` is asked while the engine's lock is held: it must answer from memory and must not
    wait for anything that waits for this engine.

    Raises:
        MissingArtefact, ManifestMismatch: the store lacks the anchor, or it is damaged.
    """

    def __init__(
        self,
        store: Store,
        anchor_digest: str,
        authority: Authority,
        backend: Backend,
        *,
        most_open: int,
    ) -> None:
        config = flexolmo.load_config(store, anchor_digest)
        words = tokenizer.load(store.path(store.anchor(anchor_digest).tokenizer_digest))
        self._backend, self._authority, self._most_open = backend, authority, most_open
        self._intake = Intake(
            words, anchor_digest, backend.length, int(config.vocab_size), backend.most_places
        )
        self._progress = Progress(self._intake.bytes_of, _end_ids(config.eos_token_id))
        self._lock = threading.RLock()
        self._wake = threading.Condition(self._lock)
        self._errands: deque[Callable[[], None]] = deque()
        self._outbox: deque[tuple[Deliver, Done | Refused]] = deque()
        self._open: dict[str, Sequence] = {}
        self._interrupted = False
        self._closing = False
        self._thread: threading.Thread | None = None
        self._counts = Counts()

    # ---- what others may call, from any thread -------------------------------------------------

    def start(self) -> None:
        """Start the loop thread.

        Raises:
            EngineError: it was started or closed before.
        """
        with self._lock:
            if self._thread is not None or self._closing:
                raise EngineError("expected a fresh engine, found one started or closed; make one")
            self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End every stream, refuse who waits, and stop the loop. Safe to repeat."""
        with self._lock:
            self._closing = self._interrupted = True
            self._wake.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        with self._lock:
            self._thread = None
            self._end_all("the engine was closed")
            self._settle()
            self._backend.close()

    def retire(self) -> bool:
        """Close, unless a stream is open; says whether it did."""
        with self._lock:
            if self._open:
                return False
            self._closing = True
        self.close()
        return True

    def load(self, ref: ExpertRef) -> None:
        """Bring an expert into memory and into the router; it serves from the next step on.

        Raises:
            MissingArtefact, AnchorMismatch, ManifestMismatch: see `ExpertBank.prepare`.
            EngineError: there is no place for another expert.
        """
        prepared = self._backend.prepare(ref)
        self._between_steps(lambda: self._backend.attach(prepared))

    def unload(self, name: str, digest: str = "") -> int:
        """Drop expert `name` (one revision, if `digest` is given); returns the bytes freed.

        While a stream may use it nothing is dropped: what must go at once is withdrawn.
        """
        return self._between_steps(lambda: self._detach_unused(name, digest))

    def loaded(self) -> frozenset[ExpertRef]:
        """The licensed experts in memory."""
        return self._backend.refs()

    def submit(self, order: GenerationOrder, deliver: Deliver) -> None:
        """Take in an order. `deliver` gets its Deltas and exactly one Done or Refused, from the
        loop thread (from this one where the engine is closed) and under the engine's lock: it must
        be cheap and must not wait."""
        found = self._intake.examine(order, deliver)
        with self._lock:
            if isinstance(found, Sequence):
                found = self._why_no_place(found) or found
            if isinstance(found, Refused):
                self._outbox.append((deliver, found))
                if self._closing:
                    self._post()  # no loop may be left to do it
            else:
                self._open[order.order_id] = found
                self._backend.add(found)
            self._wake.notify_all()

    def cancel(self, order_id: str) -> None:
        """End a stream whose client has gone; unknown ids are ignored, it may just have ended."""
        with self._lock:
            sequence = self._open.get(order_id)
            if sequence is not None:
                self._end(sequence, sequence.done(FinishReason.CANCELLED))
                self._wake.notify_all()

    def withdraw(self, name: str, policy_epoch: int) -> WithdrawalAck:
        """Stop everything expert `name` has a part in, wipe it and unload the expert.

        From the moment this has the lock, no token computed with the expert is handed over; when
        it returns, the rows are wiped and the weights are gone from memory. It does not erase
        the file they came from. Orders that say so are computed again without the expert.
        """
        loss = Loss(
            EndCause.CONSENT_WITHDRAWN,
            RefusalReason.NOT_PERMITTED,
            f"policy epoch {policy_epoch} withdrew {name}; ask again to be served without it",
            name,
            lost=frozenset({name}),
        )
        was_loaded, begun_s = any(ref.name == name for ref in self.loaded()), time.monotonic()
        with self._lock:
            hit = [s for s in self._backend if s.may_use(name)]
            for sequence in hit:
                self._lose(sequence, loss)
            # Whoever is hit or not, the running step is given up: the weights must go now.
            self._interrupted = True
        freed = self._between_steps(lambda: self._backend.detach(name, ""))
        return WithdrawalAck(
            name,
            policy_epoch,
            was_loaded,
            streams_ended=tuple(s.order_id for s in hit if s.is_ended),
            freed_bytes=freed,
            streams_recomputed=tuple(s.order_id for s in hit if not s.is_ended),
            done_at=time.time(),
            took_s=time.monotonic() - begun_s,
        )

    def stats(self) -> EngineStats:
        """The counts now."""
        with self._lock:
            live = sum(sequence.is_begun for sequence in self._open.values())
            return self._counts.stats(
                live=live,
                waiting=len(self._open) - live,
                kv_bytes=self._backend.kv_bytes,
                layout=self._backend.layout,
            )

    def step(self) -> bool:
        """One turn of the loop; False if there was nothing to compute. The loop thread calls it;
        only who never starts the engine may call it, and then from one thread."""
        with self._lock:
            self._settle()
            warrant = self._authority.warrant()  # D1
            for sequence in list(self._backend):
                self._review(sequence, warrant)  # D2
            self._settle()
            plan = self._backend.plan()
        if plan is None:
            return False
        try:
            steps = self._backend.run(plan, lambda: self._interrupted)  # D3
        except StepAbandoned:
            with self._lock:
                self._counts.steps_abandoned += 1
            return True
        except RoutingGuardError as wrong:
            self._fail(str(wrong))
            return True
        except Exception:  # the stream's end is an edge: a step's fault ends its own rows only
            log.exception("a step failed")
            self._give_up(plan)
            return True
        with self._lock:
            self._counts.steps += 1
            for done, outcome in steps:
                self._release(done, outcome, warrant)  # D4
            self._settle()
        return True

    # ---- the loop ------------------------------------------------------------------------------

    def _serve(self) -> None:
        while not self._closing:
            try:
                worked = self.step()
            except Exception:  # the serve loop is an edge: a bug must not leave streams hanging
                log.exception("engine step failed")
                self._fail("a step failed; see the engine's log")
                worked = True
            with self._lock:
                while not (worked or self._closing or self._has_work()):
                    self._wake.wait()

    def _has_work(self) -> bool:
        return bool(self._errands or self._outbox or self._open)

    def _settle(self) -> None:
        """Between steps, under the lock: clear ended rows, run errands, send what is due."""
        self._interrupted = self._closing
        self._post()
        self._backend.clear_ended()
        for sequence in list(self._backend):
            if sequence.losing:
                self._restart(sequence, sequence.losing)
        while self._errands:
            self._errands.popleft()()

    def _review(self, sequence: Sequence, warrant: Warrant | None) -> None:
        """End `sequence` if it lost permission or an expert; else bind its lanes for this step."""
        loss = lease.loss(sequence, warrant, self._authority)
        if loss is None and not self._backend.bind(sequence):
            loss = self._unavailable(sequence)
        if loss is not None:
            self._lose(sequence, loss)
            if sequence.losing:
                self._restart(sequence, sequence.losing)
                self._review(sequence, warrant)

    def _lose(self, sequence: Sequence, loss: Loss) -> None:
        """End `sequence`, or have it restarted without what it lost if its order says so."""
        if sequence.is_begun and self._may_outlive(sequence.order, loss):
            before = sequence.losing.lost if sequence.losing else frozenset()
            sequence.losing = replace(loss, lost=loss.lost | before)
        else:
            self._end(sequence, sequence.closing(loss))

    def _may_outlive(self, order: GenerationOrder, loss: Loss) -> bool:
        """By the terms it was admitted under, and by the policy of this moment: both must agree."""
        return (
            loss.is_lawful
            and loss.lost.issubset(order.recompute_without)
            and self._authority.may_outlive(order, loss.lost)
        )

    def _restart(self, sequence: Sequence, loss: Loss) -> None:
        """Go on without the experts `sequence` is losing, from what its reader has already got."""
        sent_ids = tuple(self._intake.encode_plain(sequence.sent_text))
        to_come = sequence.order.sampling.max_tokens - len(sequence.sent_output())
        if len(sequence.prompt_ids) + len(sent_ids) + to_come > self._backend.length:
            # The same text may take more tokens than it was written in, and not fit any more.
            self._end(sequence, sequence.closing(loss))
            return
        self._backend.rewind(sequence, sent_ids)
        lost = tuple(sorted(loss.lost))
        self._send(sequence, Delta(sequence.order_id, "", recomputed_without=lost))

    def _unavailable(self, sequence: Sequence) -> Loss:
        missing = [ref.name for ref in sequence.order.allowed if ref not in self._backend.refs()]
        return Loss(
            EndCause.NONE,
            RefusalReason.EXPERT_UNAVAILABLE,
            f"expected the loaded revision of {', '.join(missing)}, found none; "
            "ask again once the build is loaded here",
        )

    def _release(self, plan: StepPlan, outcome: Outcome, warrant: Warrant | None) -> None:
        """Hand out what the step computed, as far as the lease still covers it (D4)."""
        names = self._backend.names()
        for index, sequence in enumerate(plan.sequences):
            if sequence.is_ended or sequence.losing or sequence.generations is None:
                continue  # it ended, or it is to be computed again, since the step began
            # Asked for each sequence, not once a step: the deadline may pass between two of them.
            if not lease.may_release(sequence, warrant, self._authority):
                self._counts.rows_discarded += 1
                self._backend.hold(sequence, plan, outcome)
                continue
            self._backend.keep(sequence, plan, outcome.uses[index])
            delta, done = self._progress.advance(plan, outcome, index, names)
            if delta is not None:
                self._counts.tokens_released += len(delta.token_ids)
                self._send(sequence, delta)
            if done is not None:
                self._end(sequence, done)

    def _send(self, sequence: Sequence, delta: Delta) -> None:
        sequence.sent_text += delta.text
        try:
            sequence.deliver(delta)
        except Exception:  # a stream's end is an edge: its reader's fault must not stop the others
            log.exception("delivery failed; ending the stream %s", sequence.order_id)
            self._end(sequence, sequence.done(FinishReason.CANCELLED))

    def _end(self, sequence: Sequence, message: Done | Refused) -> None:
        """Mark `sequence` ended, once; its row is wiped and `message` sent between steps."""
        if not sequence.is_ended:
            sequence.is_ended = True
            self._open.pop(sequence.order_id, None)
            self._outbox.append((sequence.deliver, message))

    def _post(self) -> None:
        while self._outbox:
            deliver, message = self._outbox.popleft()
            try:
                deliver(message)
            except Exception:  # as in `_send`; there is nobody left to tell
                log.exception("delivery of the last message of %s failed", message.order_id)

    def _end_all(self, detail: str) -> None:
        loss = Loss(
            EndCause.ENGINE_FAULT,
            RefusalReason.OVERLOADED,
            detail,
            reason=FinishReason.ERROR,
        )
        for sequence in list(self._backend):
            self._end(sequence, sequence.closing(loss))

    def _give_up(self, plan: Plan) -> None:
        with self._lock:
            for sequence in plan.sequences:
                detail = "the step failed inside the engine; ask again"
                fault = EndCause.ENGINE_FAULT
                self._end(sequence, sequence.done(FinishReason.ERROR, fault, detail=detail))

    def _fail(self, detail: str) -> None:
        """Stop serving for good: what was computed last cannot be trusted."""
        log.critical("engine stopped: %s", detail)
        with self._lock:
            self._counts.fault = detail
            self._end_all(detail)
            self._settle()

    def _why_no_place(self, sequence: Sequence) -> Refused | None:
        order_id = sequence.order_id
        if order_id in self._open:
            detail = f"expected a new order, found {order_id} running; give each its own id"
            return Refused(order_id, RefusalReason.BAD_ORDER, detail)
        if self._closing or self._counts.fault:
            detail = (
                f"expected a running engine, found it stopped: {self._counts.fault or 'closed'}"
            )
            return Refused(order_id, RefusalReason.OVERLOADED, detail, retry=True)
        if len(self._open) >= self._most_open:
            detail = f"expected fewer than {self._most_open} requests here; try again shortly"
            return Refused(order_id, RefusalReason.OVERLOADED, detail, retry=True)
        return None

    def _detach_unused(self, name: str, digest: str) -> int:
        is_used = any(sequence.may_use(name, digest) for sequence in self._open.values())
        return 0 if is_used else self._backend.detach(name, digest)

    def _between_steps(self, errand: Callable[[], T]) -> T:
        """Run `errand` in the loop thread before its next step, and return what it returns."""
        if self._thread is None or self._thread is threading.current_thread():
            with self._lock:
                self._settle()
                return errand()
        result: Future[T] = Future()

        def run() -> None:
            try:
                result.set_result(errand())
            except Exception as error:  # noqa: BLE001  # carried to the thread that waits for it
                result.set_exception(error)

        with self._lock:
            self._errands.append(run)
            self._wake.notify_all()
        return result.result()


def _end_ids(eos_token_id: int | list[int] | None) -> frozenset[int]:
    if eos_token_id is None:
        return frozenset()
    return frozenset([eos_token_id] if isinstance(eos_token_id, int) else eos_token_id)
