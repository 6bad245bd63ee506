"""`reclaim`: start it, look at it, stop it, check it.

An entry point: it reads the environment and hands it on. Exit codes: 0 done; 1 something found
wrong; 2 wrong usage; 3 not (all) running; 4 and 5 as in `worker/remote.py`; 20 and up as in
`worker/processes/errors.py`.
Nothing heavy is imported before a command needs it, so `reclaim --help` is quick.
"""

import importlib.util
import json
import os
import sys
from dataclasses import asdict
from typing import Annotated, Any, NoReturn

import typer

from worker import remote
from worker.processes.errors import ProcessesError
from worker.processes.home import Home

app = typer.Typer(
    name="reclaim",
    help="Keeps a language model's training data on licence.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def _home() -> Home:
    return Home.named_in(os.environ)


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _fail(error: ProcessesError) -> NoReturn:
    _say(f"reclaim: {error}")
    raise typer.Exit(error.exit_code)


def _django(home: Home) -> None:
    """Make Django ready in this process, with the servers that run under this home."""
    from worker import processes

    os.environ["RECLAIM_HOME"] = str(home.path)
    os.environ.setdefault("RECLAIM_PUBLIC_URL", processes.web_url(home))
    from worker import boot

    boot.boot()


def _servers() -> Home:
    """The home, with the servers it needs up; what already runs is left as it is."""
    from worker import processes

    home = _home()
    processes.start(home, os.environ, processes.SERVERS, _say)
    return home


@app.command()
def up(as_json: AsJson = False) -> None:
    """Start the servers, migrate, start everything else, and return."""
    from worker import processes

    try:
        home = _servers()
        _migrate(home)
        rows = processes.start(home, os.environ, say=_say)
    except ProcessesError as error:
        _fail(error)
    url = processes.web_url(home)
    if as_json:
        typer.echo(json.dumps({"url": url, "processes": [asdict(row) for row in rows]}))
    else:
        typer.echo(f"Reclaim runs at {url}")


@app.command()
def down(
    erase: Annotated[
        bool, typer.Option(help="Also remove RECLAIM_HOME: database, artefacts, keys, logs.")
    ] = False,
) -> None:
    """Stop everything; what is stored stays unless --erase is given."""
    from worker import processes

    home = _home()
    try:
        ran = processes.stop(home, _say)
        if erase:
            processes.erase(home)
    except ProcessesError as error:
        _fail(error)
    typer.echo("stopped" if ran else "nothing was running")


@app.command()
def status(as_json: AsJson = False) -> None:
    """What runs, since when. Exit code 3 unless everything does."""
    from worker import processes

    home = _home()
    rows = processes.status(home)
    running = all(row.state == "running" for row in rows)
    if as_json:
        content = {"running": running, "url": processes.web_url(home), "home": str(home.path)}
        typer.echo(json.dumps({**content, "processes": [asdict(row) for row in rows]}))
    else:
        for row in rows:
            since = f"pid {row.pid}, up {row.up_s} s" if row.pid else row.note
            typer.echo(f"{row.name:<16} {row.state:<9} {since}".rstrip())
        if running:
            typer.echo(processes.web_url(home))
    if not running:
        raise typer.Exit(3)


@app.command()
def logs(
    name: Annotated[str, typer.Argument(help="A name that `reclaim status` lists.")] = "",
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as it grows.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=1)] = 40,
) -> None:
    """The end of a process's log; of all of them when no name is given."""
    from worker import processes

    home = _home()
    named = [name] if name else [row.name for row in processes.status(home)]
    try:
        for each in named:
            for line in processes.logs(home, each, lines):
                typer.echo(line if name else f"{each:<16} {line}", nl=False)
        if follow:
            for origin, text in processes.follow(home, named):
                typer.echo(text if name else f"{origin:<16} {text}", nl=False)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    except ProcessesError as error:
        _fail(error)


@app.command()
def migrate() -> None:
    """Bring the database to this version's tables (starts the private server if need be)."""
    try:
        _migrate(_servers())
    except ProcessesError as error:
        _fail(error)


def _migrate(home: Home) -> None:
    _django(home)
    from django.core.management import call_command

    call_command("migrate", interactive=False, verbosity=0)


@app.command("verify-log", context_settings={"ignore_unknown_options": True})
def verify_log(arguments: Annotated[list[str] | None, typer.Argument()] = None) -> None:
    """Check the whole event log: nothing edited, removed, inserted or swapped."""
    try:
        _django(_servers())
    except ProcessesError as error:
        _fail(error)
    from django.core.management import CommandError, call_command

    try:
        call_command("verify_log", *(arguments or []))
    except CommandError as error:
        _say(f"reclaim: {error}")
        raise typer.Exit(error.returncode) from error


@app.command()
def doctor(
    only: Annotated[
        str, typer.Option(help="One check, for a container: anything but ok is exit code 1.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Say what is missing or misconfigured, and what to do. Exit code 1 if anything is."""
    from worker import doctor as clinic

    home = _home()
    if only and only not in clinic.ALONE:
        raise typer.BadParameter(f"expected one of {', '.join(clinic.ALONE)}; found {only!r}")
    if only:
        checks = clinic.examine_one(only, lambda: _django(home))
        wrong = any(check.state != "ok" for check in checks)
    else:
        checks = clinic.examine(home, os.environ, prepare_django=lambda: _django(home))
        wrong = any(check.state == "fail" for check in checks)
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in checks]))
    else:
        typer.echo(clinic.table(checks))
    if wrong:
        raise typer.Exit(1)


@app.command()
def demo(
    foreground: Annotated[bool, typer.Option(help="Stay, and stop everything at the end.")] = False,
) -> None:
    """Train a tiny anchor and experts on real text, merge, audit, serve; then return."""
    from worker import processes

    try:
        home = _servers()
        _migrate(home)
        processes.start(home, os.environ, say=_say)
        from worker import demo as story

        code = story.main()
        if foreground:
            _stay(home)
    except ProcessesError as error:
        _fail(error)
    raise typer.Exit(code or 0)


def _stay(home: Home) -> None:
    from worker import processes

    typer.echo("running in the foreground; Ctrl-C stops everything")
    try:
        for _, text in processes.follow(home, ["web"]):
            typer.echo(text, nl=False)
    except KeyboardInterrupt:
        processes.stop(home, _say)


@app.command()
def tour(as_json: AsJson = False) -> None:
    """Tell the whole story against the running demo; exit code 0 only if every claim held."""
    home = _home()
    _django(home)
    from worker import tour as story

    raise typer.Exit(story.main(as_json=as_json))


remote.mount(app)


def _mount(target: typer.Typer) -> None:
    """Add the owner's kit (`reclaim train`, `check`, `send` …) beside the commands above."""
    if importlib.util.find_spec("modelops.cli") is None:
        return
    import modelops.cli as kit

    target.add_typer(kit.app)


def main(arguments: list[str] | None = None) -> Any:
    """Console script `reclaim`."""
    _mount(app)
    return app(args=sys.argv[1:] if arguments is None else arguments, prog_name="reclaim")


if __name__ == "__main__":
    main()
