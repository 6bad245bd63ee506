"""Waiting for long work and showing it: the progress rows of follow-ups as bars in a terminal."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from uuid import UUID

from django.utils import timezone
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from governance.models import FollowUp
from governance.vocabulary import FollowUpState
from worker.processes import control
from worker.processes.home import Home

POLL_S = 0.5
MOST_FALLS = 4


class WorkFailed(Exception):
    """Work that was waited for has failed for good; the message says what to look at."""


class Watch:
    """Notices a process that keeps dying: supervisord starts it anew for ever."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._pids: dict[str, int] = {}
        self._falls: Counter[str] = Counter()

    def look(self) -> None:
        """Count who was started anew since the last look.

        Raises:
            WorkFailed: one process was, more than `MOST_FALLS` times; the end of its log says why.
        """
        for row in control.status(self._home):
            if row.pid is None:
                continue
            self._falls[row.name] += self._pids.get(row.name, row.pid) != row.pid
            self._pids[row.name] = row.pid
            if self._falls[row.name] > MOST_FALLS:
                raise WorkFailed(
                    f"expected {row.name} to stay up, found it started anew {MOST_FALLS + 1} "
                    f"times. The end of its log, {self._home.log / row.name}.log:\n"
                    + "".join(control.logs(self._home, row.name, lines=15))
                )


class Waiting:
    """Shows progress until work is done. `limit_s` bounds one wait; `watch` may end it earlier."""

    def __init__(self, console: Console, watch: Watch, limit_s: float = 1800) -> None:
        self._console = console
        self._watch = watch
        self._limit_s = limit_s
        self._since = timezone.now()

    def for_runs(self, runs: Mapping[str, UUID]) -> None:
        """Wait for follow-ups, by a name to show.

        Raises:
            WorkFailed: one of them failed, was cancelled, or the limit passed.
        """
        if not runs:
            return
        with self._progress() as progress:
            bars = {name: progress.add_task(name, total=None) for name in runs}
            for _ in self._ticks(", ".join(runs)):
                if all(self._show(progress, bars[n], n, run) for n, run in runs.items()):
                    return

    def for_rows(self, what: str, names: Collection[str], is_done: Callable[[str], bool]) -> None:
        """Wait until `is_done` holds for every name."""
        left = [name for name in names if not is_done(name)]
        if not left:
            return
        with self._progress() as progress:
            bar = progress.add_task(what, total=len(left))
            for _ in self._ticks(what):
                self._complain_about_failures()
                done = sum(is_done(name) for name in left)
                progress.update(bar, completed=done)
                if done == len(left):
                    return

    def _show(self, progress: Progress, bar: TaskID, name: str, run_id: UUID) -> bool:
        run = FollowUp.objects.get(pk=run_id)
        progress.update(
            bar,
            completed=run.progress_done,
            total=run.progress_total or None,
            description=f"{name} {run.progress_note}".strip(),
        )
        if run.state in (FollowUpState.FAILED, FollowUpState.CANCELLED):
            raise WorkFailed(
                f"{run.kind} {name} {run.state}: {run.last_error or 'no reason given'}"
            )
        return run.state == FollowUpState.DONE

    def _complain_about_failures(self) -> None:
        failed = FollowUp.objects.filter(
            state=FollowUpState.FAILED, ended_at__gte=self._since
        ).first()
        if failed is not None:
            raise WorkFailed(f"{failed.kind} failed: {failed.last_error}; see `reclaim logs`")

    def _ticks(self, what: str) -> Iterator[None]:
        end_s = time.monotonic() + self._limit_s
        while time.monotonic() < end_s:
            yield
            time.sleep(POLL_S)
            self._watch.look()
        raise WorkFailed(
            f"expected {what} within {self._limit_s:.0f} s; look at `reclaim status` and "
            "`reclaim logs`, then run the same command again: it goes on where it was"
        )

    def _progress(self) -> Progress:
        return Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<44}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            console=self._console,
        )
