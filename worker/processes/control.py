"""Start, stop and look at everything under one RECLAIM_HOME."""

import os
import shutil
import socket
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from worker.processes import orphans, servers, supervision
from worker.processes.catalogue import PROGRAM_NAMES, SERVERS, Program, is_program, programs
from worker.processes.errors import NotOurs, NotReady, UnknownProcess
from worker.processes.home import LOOPBACK, Home

_READY_S = {"postgres": 60, "redis": 20}
_OURS_READY_S = 120
_HALT_S = 720
"""More than the longest grace a process may have; it is killed by supervisord before."""


@dataclass(frozen=True)
class Row:
    """One line of `reclaim status`. `state` is supervisord's word in lower case, or "stopped"."""

    name: str
    state: str
    pid: int | None
    up_s: int
    note: str


@dataclass(frozen=True)
class _Layout:
    """What a start needs to know: ports, passwords, and which processes are ours to run."""

    embedded: tuple[str, ...]
    ports: Mapping[str, int]
    passwords: Mapping[str, str]
    programs: tuple[Program, ...]


def _silent(_: str) -> None:
    pass


def embedded(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The servers that are ours to run: those no URL in the environment names."""
    given = {"postgres": "DATABASE_URL", "redis": "REDIS_URL"}
    return tuple(
        name
        for name, key in given.items()
        if not environ.get(key) and not environ.get(f"{key}_FILE")
    )


def prepare(home: Home, environ: Mapping[str, str]) -> dict[str, str]:
    """Choose ports and passwords and write `servers.json`, starting nothing.

    Returns:
        What `servers.json` holds: `database_url`, `redis_url`, each only if it is ours to run.
    """
    home.prepare()
    with home.locked():
        _layout(home, environ)
    return addresses(home)


def addresses(home: Home) -> dict[str, str]:
    """`servers.json` as written, empty before the first start."""
    return {name: str(value) for name, value in home.read("servers.json").items()}


def _layout(home: Home, environ: Mapping[str, str]) -> _Layout:
    ours = embedded(environ)
    asked = environ.get("RECLAIM_WEB_PORT")
    ours_run = supervision.supervisor_pid(home) is not None
    ports = home.ports((*ours, "web"), int(asked) if asked else None, ours_run=ours_run)
    passwords = home.passwords()
    urls = {}
    if "postgres" in ours:
        urls["database_url"] = servers.database_url(ports["postgres"], passwords["postgres"])
    if "redis" in ours:
        urls["redis_url"] = servers.redis_url(ports["redis"], passwords["redis"])
    if addresses(home) != urls:
        home.write("servers.json", urls)
    listed = programs(
        web_host=LOOPBACK,
        web_port=ports["web"],
        state=str(home.run),
        runners=_whole(environ, "RECLAIM_RUNNERS", 1),
        grace_s=_whole(environ, "RECLAIM_GRACE_S", 5),
    )
    return _Layout(ours, ports, passwords, listed)


def _whole(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isascii() or not text.isdigit():
        raise NotReady(f"expected a whole number in {name}, found {text!r}. Correct or unset it.")
    return int(text)


def start(
    home: Home,
    environ: Mapping[str, str],
    names: Sequence[str] | None = None,
    say: Callable[[str], None] = _silent,
) -> list[Row]:
    """Start what is named, or all, and does not run yet, and wait until it is ready.

    The private servers a name needs are always started with it. Safe to repeat, and after a
    crash: whatever a killed supervisord left behind is ended first.

    Raises:
        UnknownProcess, and everything in `worker.processes.errors`.
    """
    for name in names or ():
        if name not in SERVERS and not is_program(name):
            raise UnknownProcess(
                f"expected a process name out of {', '.join((*SERVERS, *PROGRAM_NAMES))}; "
                f"found {name!r}."
            )
    home.prepare()
    if not embedded(environ) and names is not None and not set(names) - set(SERVERS):
        return status(home)  # the servers are run by someone else: there is nothing to supervise
    with home.locked():
        if supervision.supervisor_pid(home) is None:
            _sweep(home, say)
        layout = _layout(home, environ)
        _supervise(home, environ, layout, say)
        for name in layout.embedded:
            _begin(home, name, say)
        for name in layout.embedded:
            _await(home, name, partial(_server_answers, layout, name), _READY_S[name])
        if "postgres" in layout.embedded:
            passwords = layout.passwords
            servers.make_database(
                layout.ports["postgres"], passwords["postgres_superuser"], passwords["postgres"]
            )
        listed = [program.name for program in layout.programs]
        wanted = [name for name in listed if names is None or name in names]
        for name in wanted:
            _begin(home, name, say)
        for name in wanted:
            _await(home, name, partial(_ours_runs, home, layout, name), _OURS_READY_S)
    return status(home)


def _sweep(home: Home, say: Callable[[str], None]) -> None:
    folders = (home.path / "postgres", servers.roots_own_folder(home))
    ended = orphans.end(home, tuple(folder / "cluster" for folder in folders))
    if ended:
        say(f"ended what an earlier run left behind: {', '.join(sorted(set(ended)))}")


def _supervise(
    home: Home, environ: Mapping[str, str], layout: _Layout, say: Callable[[str], None]
) -> None:
    ours = {"RECLAIM_PUBLIC_URL": environ.get("RECLAIM_PUBLIC_URL") or web_url(home)}
    text = supervision.configuration(home, _units(home, layout, ours))
    running = supervision.supervisor_pid(home) is not None
    conf = supervision.configuration_file(home)
    if running and conf.exists() and conf.read_text() == text:
        return
    if running:
        say("the process list has changed; starting anew")
        _halt(home, say)
    supervision.launch(home, text, environ)


def web_url(home: Home) -> str:
    """Where the web of this home listens; port 8000 before the first start."""
    return f"http://{LOOPBACK}:{home.read('ports.json').get('web', 8000)}"


def _units(home: Home, layout: _Layout, environ: Mapping[str, str]) -> list[supervision.Unit]:
    units = []
    if "postgres" in layout.embedded:
        place = servers.seat(home)
        servers.make_cluster(place, layout.passwords["postgres_superuser"])
        command = servers.postgres_command(place, layout.ports["postgres"])
        units.append(
            supervision.Unit(
                "postgres",
                tuple(command),
                stop_signal="INT",
                stop_s=60,
                order=10,
                account=place.account,
                folder=Path("/"),
            )
        )
    if "redis" in layout.embedded:
        command = servers.redis_command(home, layout.ports["redis"], layout.passwords["redis"])
        units.append(supervision.Unit("redis", tuple(command), "TERM", 10, 10))
    units.extend(
        supervision.Unit(
            program.name,
            (sys.executable, *program.arguments),
            program.stop_signal,
            program.stop_s,
            program.order,
            {**environ, **program.environ},
        )
        for program in layout.programs
    )
    return units


def _begin(home: Home, name: str, say: Callable[[str], None]) -> None:
    from supervisor.xmlrpc import Faults

    try:
        supervision.ask(home, "startProcess", name, False)
        say(f"starting {name}")
    except xmlrpc.client.Fault as fault:
        if fault.faultCode != Faults.ALREADY_STARTED:
            raise NotReady(f"supervisord would not start {name}: {fault.faultString}") from fault


def _await(home: Home, name: str, is_ready: Callable[[], bool], patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    falls = 0
    while not is_ready():
        found = supervision.ask(home, "getProcessInfo", name)
        # BACKOFF: it ended within its first two seconds; supervisord will try again
        falls += found["statename"] in {"BACKOFF", "FATAL", "EXITED"}
        if falls > 8 or time.monotonic() > deadline:
            raise NotReady(
                f"expected {name} to come up, found it {found['statename'].lower()} "
                f"({found['description'] or 'no reason given'}). The end of its log, "
                f"{home.log / name}.log:\n{''.join(logs(home, name, lines=15))}"
            )
        time.sleep(0.1 if falls == 0 else 0.25)


def _server_answers(layout: _Layout, name: str) -> bool:
    port = layout.ports[name]
    if name == "postgres":
        return servers.postgres_answers(port, layout.passwords["postgres_superuser"])
    return servers.redis_answers(port, layout.passwords["redis"])


def _ours_runs(home: Home, layout: _Layout, name: str) -> bool:
    if supervision.ask(home, "getProcessInfo", name)["statename"] != "RUNNING":
        return False
    if name != "web":
        return True
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        return probe.connect_ex((LOOPBACK, layout.ports["web"])) == 0


def stop(home: Home, say: Callable[[str], None] = _silent) -> bool:
    """Stop everything, our processes before the servers they talk to.

    Returns:
        Whether anything was running.
    """
    if not home.run.is_dir():
        return False
    with home.locked():
        ran = supervision.supervisor_pid(home) is not None
        if ran:
            _halt(home, say)
        _sweep(home, say)
    return ran


def _halt(home: Home, say: Callable[[str], None]) -> None:
    pid = supervision.supervisor_pid(home)
    for are_servers in (False, True):
        going = _running(home, are_servers=are_servers)
        if going:
            say(f"stopping {', '.join(going)}")
        for name in going:
            supervision.ask(home, "stopProcess", name, False)
        deadline = time.monotonic() + _HALT_S
        while time.monotonic() < deadline and _running(home, are_servers=are_servers):
            time.sleep(0.05)
    supervision.ask(home, "shutdown")
    deadline = time.monotonic() + 90
    while pid is not None and orphans.lives(pid):
        if time.monotonic() > deadline:
            raise NotReady(
                f"expected supervisord (pid {pid}) to end within 90 s, it still runs. "
                f"Its log: {home.log / 'supervisord.log'}. End it with: kill {pid}"
            )
        time.sleep(0.05)


def _running(home: Home, *, are_servers: bool) -> list[str]:
    return [row.name for row in status(home) if row.pid and (row.name in SERVERS) is are_servers]


def status(home: Home) -> list[Row]:
    """One row a process, in starting order; all "stopped" when nothing runs."""
    if supervision.supervisor_pid(home) is None:
        return [Row(name, "stopped", None, 0, "") for name in (*SERVERS, *PROGRAM_NAMES)]
    found = {each["name"]: each for each in supervision.ask(home, "getAllProcessInfo")}
    rows = []
    named = (*SERVERS, *PROGRAM_NAMES)
    for name in (*named, *sorted(found.keys() - set(named))):
        if name not in found:
            continue  # a server that is not ours to run
        each = found[name]
        up_s = max(0, each["now"] - each["start"]) if each["pid"] else 0
        note = "" if each["statename"] == "RUNNING" else each["description"]
        rows.append(Row(name, each["statename"].lower(), each["pid"] or None, up_s, note))
    return rows


def logs(home: Home, name: str, lines: int = 200) -> list[str]:
    """The last lines of a process's log, oldest first, each with its line end.

    Raises:
        UnknownProcess: no such name in the process list.
    """
    if name not in (*SERVERS, "supervisord") and not is_program(name):
        known = ", ".join((*SERVERS, *PROGRAM_NAMES, "supervisord"))
        raise UnknownProcess(f"expected a process name out of {known}; found {name!r}.")
    try:
        with (home.log / f"{name}.log").open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 400 * lines))
            return file.read().decode(errors="replace").splitlines(keepends=True)[-lines:]
    except FileNotFoundError:
        return []


def follow(home: Home, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Name and text of each log as it is written, for ever; survives the rotation of a file."""
    positions = {name: _size(home.log / f"{name}.log") for name in names}
    while True:
        is_quiet = True
        for name in names:
            path = home.log / f"{name}.log"
            size = _size(path)
            if size < positions[name]:
                positions[name] = 0  # rotated: the name now belongs to a fresh file
            if size > positions[name]:
                with path.open("rb") as file:
                    file.seek(positions[name])
                    chunk = file.read()
                positions[name] += len(chunk)
                is_quiet = False
                yield name, chunk.decode(errors="replace")
        if is_quiet:
            time.sleep(0.3)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def erase(home: Home) -> None:
    """Stop everything and remove the home with all it holds.

    Raises:
        NotOurs: the folder was there, with other content, before Reclaim used it.
    """
    if home.path.exists() and not home.may_be_erased:
        raise NotOurs(
            f"expected RECLAIM_HOME={home.path} to be a folder that Reclaim made, found one that "
            "held other files before. Remove by hand what you no longer need."
        )
    stop(home)
    for folder in (servers.roots_own_folder(home), home.path):
        if folder.exists():
            shutil.rmtree(folder)
