"""supervisord: its configuration, and the conversation with it over a Unix socket."""

import http.client
import os
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker.processes.errors import NotReady, PathUnfit
from worker.processes.home import CODE, Home

_LOG_SIZE, _LOG_COPIES = "10MB", 3


@dataclass(frozen=True)
class Unit:
    """One program as supervisord runs it."""

    name: str
    command: tuple[str, ...]
    stop_signal: str
    stop_s: int
    order: int
    environ: Mapping[str, str] = field(default_factory=dict)
    account: str | None = None
    folder: Path = CODE


def configuration(home: Home, units: Sequence[Unit]) -> str:
    """The whole supervisord.conf; equal input gives equal text."""
    sections: list[tuple[str, dict[str, str]]] = [
        (
            "supervisord",
            {
                "logfile": _literal(home.log / "supervisord.log"),
                "logfile_maxbytes": _LOG_SIZE,
                "logfile_backups": str(_LOG_COPIES),
                "pidfile": _literal(home.run / "supervisord.pid"),
                "childlogdir": _literal(home.log),
                "umask": "077",
                # naming the account we already are keeps supervisord from warning about root
                **({"user": "root"} if os.geteuid() == 0 else {}),
            },
        ),
        (
            "unix_http_server",
            {"file": _literal(home.supervisor_socket), "chmod": "0600"},
        ),
        (
            "rpcinterface:supervisor",
            {"supervisor.rpcinterface_factory": ("supervisor.rpcinterface:make_main_rpcinterface")},
        ),
        *((f"program:{unit.name}", _program(home, unit)) for unit in units),
    ]
    return "\n".join(
        f"[{title}]\n" + "".join(f"{key}={value}\n" for key, value in keys.items())
        for title, keys in sections
    )


def _program(home: Home, unit: Unit) -> dict[str, str]:
    environ = {
        **unit.environ,
        "RECLAIM_HOME": str(home.path),
        "RECLAIM_PROCESS": unit.name,
        "PYTHONUNBUFFERED": "1",
    }
    return {
        "command": _literal(shlex.join(unit.command)),
        "directory": _literal(unit.folder),
        "environment": _literal(
            ",".join(f"{name}={_quoted(value)}" for name, value in sorted(environ.items()))
        ),
        **({"user": unit.account} if unit.account else {}),
        "priority": str(unit.order),
        "autostart": "false",
        "autorestart": "true",
        "startsecs": "2",
        # a database that is away for an hour must find its clients trying when it is back
        "startretries": "100000",
        "stopsignal": unit.stop_signal,
        "stopwaitsecs": str(unit.stop_s),
        "killasgroup": "true",
        # supervisord expands this one value twice
        "stdout_logfile": _literal(_literal(home.log / f"{unit.name}.log")),
        "redirect_stderr": "true",
        "stdout_logfile_maxbytes": _LOG_SIZE,
        "stdout_logfile_backups": str(_LOG_COPIES),
    }


def _literal(text: object) -> str:
    # supervisord expands %(name)s; what it cannot express is refused by Home.prepare
    return str(text).replace("%", "%%")


def _quoted(value: str) -> str:
    # supervisord knows no escape between the quotes, and strips quotes of both kinds at the ends
    if '"' in value or "\n" in value or value != value.strip("'"):
        raise PathUnfit(
            f"expected a value without double quotes, line breaks and quotes at its ends for a "
            f"process, found {value!r}. Correct RECLAIM_HOME or RECLAIM_PUBLIC_URL."
        )
    return f'"{value}"'


def ask(home: Home, verb: str, *arguments: object) -> Any:
    """Call one verb of supervisord's `supervisor` namespace on this home's socket.

    Raises:
        xmlrpc.client.Fault: supervisord refused.
        OSError, http.client.HTTPException: nobody answers.
    """
    from supervisor.xmlrpc import SupervisorTransport

    transport = SupervisorTransport(None, None, f"unix://{home.supervisor_socket}")
    proxy = xmlrpc.client.ServerProxy("http://localhost", transport=transport)
    try:
        return getattr(proxy.supervisor, verb)(*arguments)
    finally:
        transport.close()


def supervisor_pid(home: Home) -> int | None:
    """The pid of the supervisord that answers on this home's socket, or None."""
    if not home.supervisor_socket.exists():
        return None
    try:
        return int(ask(home, "getPID"))
    except (OSError, http.client.HTTPException, xmlrpc.client.Error):
        return None


def launch(home: Home, text: str, environ: Mapping[str, str]) -> None:
    """Start supervisord as a daemon with this configuration and wait until it answers.

    Raises:
        NotReady: it did not answer within 20 s.
    """
    conf = configuration_file(home)
    conf.touch(mode=0o600)
    conf.write_text(text)
    started = subprocess.run(
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(conf)],
        env={**environ, "RECLAIM_HOME": str(home.path)},
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    deadline = time.monotonic() + 20
    while started.returncode == 0 and time.monotonic() < deadline:
        if supervisor_pid(home) is not None:
            return
        time.sleep(0.05)
    raise NotReady(
        f"expected supervisord to answer on {home.supervisor_socket}, it did not. It said: "
        f"{started.stdout.strip()[-800:] or 'nothing'}. Its log: {home.log / 'supervisord.log'}."
    )


def configuration_file(home: Home) -> Path:
    return home.run / "supervisord.conf"
