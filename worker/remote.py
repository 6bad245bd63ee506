"""`reclaim` verbs that ask a running Reclaim over REST, with the rights of a personal key.

One table of verbs, one way to call them: names first, then `FIELD=VALUE` for what else the
operation takes (a query where it reads, the request's body where it changes). `--json` prints the
answer as it came. Exit codes: 2 wrong usage, 4 the server refused, 5 it cannot be reached.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn
from urllib.parse import parse_qs, quote, urlsplit

import typer

REFUSED, UNREACHED = 4, 5
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Verb:
    """A command and the operation it asks for; `columns` are those of its table."""

    command: str
    method: str
    path: str
    about: str
    columns: tuple[str, ...] = ()
    always: tuple[tuple[str, str], ...] = ()

    @property
    def names(self) -> list[str]:
        """What the path leaves to be named."""
        return re.findall(r"{(\w+)}", self.path)


_OF_LICENCE = ("reference", "corpus", "state", "starts_at", "ends_at", "purposes")
_OF_REQUEST = ("id", "kind", "title", "state", "requested_by", "due_at")
VERBS = (
    Verb("me", "GET", "me", "Who the key is and what it may do."),
    Verb("why", "GET", "decisions/{identity}", "Why a request was permitted or denied; replayed."),
    Verb("in-force", "GET", "licences", "Licences in force now, or at as_of=… as known_at=…",
         _OF_LICENCE, (("as_of", ""),)),
    Verb("due", "GET", "due", "Every clock that runs.", ("deadline", "clock", "what", "words")),
    Verb("owners list", "GET", "owners", "Data owners.", ("slug", "legal_name", "jurisdiction")),
    Verb("owners register", "POST", "owners", "Register one: legal_name=… jurisdiction=…"),
    Verb("consumers list", "GET", "consumers", "Consumers.", ("slug", "name", "territory")),
    Verb("consumers register", "POST", "consumers", "Register one: name=… territory=…"),
    Verb("corpora list", "GET", "corpora", "Corpora.", ("slug", "owner", "title")),
    Verb("corpora show", "GET", "corpora/{slug}", "One corpus."),
    Verb("licences list", "GET", "licences", "Licences; narrow by state=…", _OF_LICENCE),
    Verb("licences show", "GET", "licences/{reference}", "One licence with all its terms."),
    Verb("licences words", "GET", "licences/{reference}/words", "A licence in plain words."),
    Verb("licences versions", "GET", "licences/{reference}/versions", "Its chain.", _OF_LICENCE),
    Verb("licences what-if", "GET", "licences/{reference}/what-if", "What it would change: days=…"),
    Verb("licences request", "POST", "licences", "Ask for one: corpus=… uses=… purposes=… …"),
    Verb("licences approve", "POST", "licences/{reference}/approve", "Sign another's request."),
    Verb("licences reject", "POST", "licences/{reference}/reject", "Reject one: note=…"),
    Verb("licences return", "POST", "licences/{reference}/return", "Return for change: note=…"),
    Verb("licences effect", "GET", "licences/{reference}/effect", "Before ending: instrument=…"),
    Verb("licences end", "POST", "licences/{reference}/end", "End or pause: instrument=…"),
    Verb("licences resume", "POST", "licences/{reference}/resume", "Lift a pause."),
    Verb("experts list", "GET", "experts", "Experts.", ("name", "owner", "corpus", "state")),
    Verb("experts show", "GET", "experts/{name}", "One expert."),
    Verb("experts effect", "GET", "experts/{name}/effect", "Before acting: instrument=…"),
    Verb("experts withdraw", "POST", "experts/{name}/withdraw", "Take one back, as its owner."),
    Verb("approvals list", "GET", "approvals", "Requests; narrow by state=… kind=…", _OF_REQUEST),
    Verb("approvals show", "GET", "approvals/{identity}", "One request with its thread."),
    Verb("approvals approve", "POST", "approvals/{identity}/approve", "Approve another's."),
    Verb("approvals reject", "POST", "approvals/{identity}/reject", "Reject one: words=…"),
    Verb("approvals return", "POST", "approvals/{identity}/return", "Return one: words=…"),
    Verb("decisions list", "GET", "decisions", "Decisions, newest first.",
         ("decision_id", "timestamp", "requested_by", "policy_epoch")),
    Verb("decisions why-not", "GET", "decisions/why", "Why an expert could not be used: "
         "consumer=… purpose=… territory=… expert=… at=…"),
    Verb("withdrawals list", "GET", "withdrawals", "Withdrawals.",
         ("id", "expert", "instrument", "committed_at", "erased_at")),
    Verb("withdrawals show", "GET", "withdrawals/{identity}", "How far one is."),
    Verb("duties list", "GET", "duties", "Duties, most urgent first.",
         ("due_at", "action", "owner", "licence", "state")),
    Verb("statements list", "GET", "statements", "Statements.", ("id", "owner", "month")),
)  # fmt: skip
_MARKS = {
    "create": "+",
    "change": "~",
    "request": "?",
    "keep": "=",
    "blocked": "!",
    "unlisted": "·",
}

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Most = Annotated[int, typer.Option("--limit", min=1, help="At most so many rows of a list.")]
PolicyPath = Annotated[Path, typer.Argument(exists=True, dir_okay=False, metavar="FILE")]


def mount(app: typer.Typer) -> None:
    """Add every verb of the table, and `plan` and `apply`."""
    groups: dict[str, typer.Typer] = {}
    for verb in VERBS:
        group, _, name = verb.command.rpartition(" ")
        if group and group not in groups:
            groups[group] = typer.Typer(no_args_is_help=True, help=f"Ask about {group} over REST.")
            app.add_typer(groups[group], name=group)
        (groups[group] if group else app).command(name, help=verb.about)(_command(verb))
    app.command("plan", help="What applying a policy file would do.")(_policy("policy-plan"))
    app.command("apply", help="Carry a policy file out, all or nothing.")(_policy("policy-apply"))


def _command(verb: Verb) -> Any:
    metavar = " ".join([*(name.upper() for name in verb.names), "[FIELD=VALUE]..."])

    def run(
        words: Annotated[list[str] | None, typer.Argument(metavar=metavar)] = None,
        limit: Most = 50,
        as_json: AsJson = False,
    ) -> None:
        named, given = _split(verb, words or [])
        path = verb.path.format(**{name: quote(each, safe="") for name, each in named.items()})
        answer = _ask(verb.method, path, given)
        rows = list(_rows(path, answer, limit)) if _is_list(answer) else None
        if as_json:
            typer.echo(json.dumps(answer if rows is None else rows))
        else:
            typer.echo("\n".join(_facts(answer) if rows is None else _table(rows, verb.columns)))

    return run


def _policy(path: str) -> Any:
    def run(file: PolicyPath, as_json: AsJson = False) -> None:
        answer = _ask("POST", path, {"content": file.read_text(), "name": file.name})
        if as_json:
            typer.echo(json.dumps(answer))
        else:
            typer.echo("\n".join(_steps(answer["steps"])))
        if any(step["action"] == "blocked" for step in answer["steps"]):
            raise typer.Exit(1)

    return run


def _split(verb: Verb, words: list[str]) -> tuple[dict[str, str], dict[str, Any]]:
    """The names a path needs and the fields that follow; one given twice is a list."""
    count = len(verb.names)
    if len(words) < count or any("=" in word for word in words[:count]):
        raise typer.BadParameter(f"expected {' '.join(verb.names)}, found {' '.join(words)!r}")
    fields: dict[str, Any] = dict(verb.always)
    said: dict[str, list[Any]] = {}
    for word in words[count:]:
        name, is_given, value = word.partition("=")
        if not is_given:
            raise typer.BadParameter(f"expected FIELD=VALUE, found {word!r}")
        said.setdefault(name, []).append(value if verb.method == "GET" else _value(value))
    fields |= {name: values if len(values) > 1 else values[0] for name, values in said.items()}
    return dict(zip(verb.names, words, strict=False)), fields


def _value(text: str) -> Any:
    """A value of a body: JSON where it reads as such, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _ask(method: str, path: str, given: dict[str, Any]) -> Any:
    """The answer to a request, parsed."""
    import httpx

    key = os.environ.get("RECLAIM_KEY", "")
    if not key:
        _stop(2, "expected a personal key in RECLAIM_KEY, found none. Make one at /api/keys/.")
    how: dict[str, Any] = {"params": given} if method == "GET" else {"json": given}
    try:
        answer = httpx.request(
            method,
            f"{_site()}/api/v1/{path}",
            headers={"Authorization": f"Bearer {key}", "Accept": "application/json"},
            timeout=_PATIENCE_S,
            **how,
        )
    except httpx.TransportError as error:
        _stop(UNREACHED, f"expected Reclaim at {_site()}, found no answer ({error}).")
    if not answer.is_success:
        _stop(REFUSED, *_refusal(answer))
    return answer.json() if answer.content else {}


def _site() -> str:
    named = os.environ.get("RECLAIM_URL", "").rstrip("/")
    if named:
        return named
    from worker import processes
    from worker.processes.home import Home

    return processes.web_url(Home.named_in(os.environ))


def _refusal(answer: Any) -> Iterator[str]:
    """A problem (RFC 9457) as lines."""
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    yield f"{answer.status_code}: {problem.get('detail') or answer.reason_phrase}"
    for field, told in problem.get("fields", {}).items():
        yield f"  {field}: {' '.join(told) if isinstance(told, list) else told}"


def _stop(code: int, *lines: str) -> NoReturn:
    for number, line in enumerate(lines):
        typer.echo(line if number else f"reclaim: {line}", err=True)
    raise typer.Exit(code)


def _is_list(answer: Any) -> bool:
    return isinstance(answer, list) or "results" in answer


def _rows(path: str, answer: Any, limit: int) -> Iterator[Any]:
    """The rows of a list, page after page, as many as are wanted."""
    while limit > 0:
        page = answer if isinstance(answer, list) else answer["results"]
        yield from page[:limit]
        limit -= len(page)
        following = None if isinstance(answer, list) else answer["next"]
        if not following:
            return
        # Its query alone: the key goes to no other site than the one that was named.
        answer = _ask("GET", path, parse_qs(urlsplit(following).query))


def _table(rows: list[Any], columns: tuple[str, ...]) -> list[str]:
    if not rows:
        return ["none"]
    lines = [list(columns), *([_said(row.get(name)) for name in columns] for row in rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def _facts(answer: Any) -> list[str]:
    return [f"{name}: {_said(value)}" for name, value in answer.items()] or ["done"]


def _said(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ", ".join(value) or "-"
    return value if isinstance(value, str) else json.dumps(value)


def _steps(steps: list[Any]) -> Iterator[str]:
    """A plan, one thing a line, and what differs beneath it."""
    for step in steps:
        why = f" ({step['why']})" if step["why"] else ""
        yield f"{_MARKS[step['action']]} {step['action']:<8} {step['kind']} {step['name']}{why}"
        for change in step["changes"]:
            yield f"    {change['field']}: {change['before'] or '-'} -> {change['after']}"
    if not steps:
        yield "the file says nothing"
