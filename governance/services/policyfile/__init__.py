"""Policy as code: owners, consumers, corpora, licences and approval routes in one YAML file.

Applying asks for what the file says through the services that pages use; four eyes stay four eyes.
A plan is the same, undone at the end: it cannot promise what an application would not do.
Nothing that exists is deleted; what the file does not name is reported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db import transaction

from governance.errors import GovernanceError
from governance.models import Account
from governance.services import locks
from governance.services.policyfile import licensing, steps
from governance.services.policyfile.forms import fitted
from governance.services.policyfile.reading import MAX_BYTES, Path, Source, Wrong, WrongFile, read
from governance.services.policyfile.steps import Action, Changed, Doing, Step

__all__ = ["MAX_BYTES", "Action", "Changed", "Step", "Wrong", "WrongFile", "apply", "plan"]


@transaction.atomic
def plan(text: str, *, name: str, by: Account, at: datetime) -> tuple[Step, ...]:
    """What applying a file would do. Nothing stays of it.

    Raises:
        WrongFile: everything that is wrong, with lines.
    """
    found = apply(text, name=name, by=by, at=at)
    transaction.set_rollback(True)
    return found


@transaction.atomic
def apply(text: str, *, name: str, by: Account, at: datetime) -> tuple[Step, ...]:
    """Carry a file out: register, edit and ask, all or nothing. Repeating it changes nothing.

    Args:
        name: how messages call the file.
        by: who asks; somebody else decides what needs a decision.

    Raises:
        WrongFile: everything that is wrong, with lines; then nothing was done.
    """
    source = read(text, name=name)
    # Two files at once would each find missing what the other is about to make.
    locks.hold_alone(locks.Lock.POLICY_FILE)
    file, work = fitted(source), _Work(source, [], [])
    doing = Doing(by, at)
    for section, act in (
        ("owners", steps.owner),
        ("consumers", steps.consumer),
        ("corpora", steps.corpus),
        ("routes", steps.route),
    ):
        entries = getattr(file, section)
        for key, entry in (entries or {}).items():
            work.carry_out((section, key), act, key, entry, doing)
        if entries is not None:
            work.done.extend(steps.unlisted(section, set(entries)))
    licences = file.licences or []
    for number, entry in enumerate(licences):
        beside = [one for one in licences if one.corpus == entry.corpus]
        work.carry_out(("licences", number), licensing.licence, entry, beside, doing)
    if file.licences is not None:
        work.done.extend(licensing.unlisted({step.name for step in work.done}, doing))
    if work.wrong:
        raise WrongFile(name, work.wrong)
    return tuple(work.done)


@dataclass(frozen=True)
class _Work:
    """A file being carried out: what was done, and what was refused."""

    source: Source
    done: list[Step]
    wrong: list[Wrong]

    def carry_out(self, path: Path, act: Callable[..., Step], *arguments: Any) -> None:
        """Do one entry; a refusal is noted with its line, and the next ones are tried as well."""
        try:
            with transaction.atomic():
                done = act(*arguments)
        except GovernanceError as error:
            for field, told in (error.fields or {"": error.message}).items():
                place = (*path, field) if field else path
                # A form shows what was filled in beside a field's message; a file does not.
                is_whole = "found" in told or len(error.fields) > 1
                message = told if is_whole else error.message
                self.wrong.append(Wrong(self.source.line(place), place, message))
        else:
            self.done.append(replace(done, line=self.source.line(path)))
