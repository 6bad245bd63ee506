"""RECLAIM_HOME: the one folder that holds everything a running Reclaim leaves on a machine."""

import contextlib
import fcntl
import json
import os
import random
import secrets
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.processes.errors import FolderNotWritable, PathTooLong, PathUnfit, PortTaken

# the folder of manage.py: programs start in it, and a relative RECLAIM_HOME is beside it
CODE = Path(__file__).resolve().parents[2]

LOOPBACK = "127.0.0.1"

# sun_path holds 108 bytes with its closing zero; supervisord binds "<name>.<pid>" before it renames
SOCKET_PATH_BYTES = 107 - len(".4194304")

_MARK = "made-by-reclaim"

# below the range the kernel hands to outgoing connections, above what services usually claim
_PORTS = range(20_000, 32_000)


@dataclass(frozen=True)
class Home:
    """Paths and small state files under one RECLAIM_HOME. `path` is absolute."""

    path: Path

    @classmethod
    def named_in(cls, environ: Mapping[str, str]) -> "Home":
        """The folder RECLAIM_HOME names, else `.reclaim`; a relative one lies beside manage.py.

        Links are not resolved: `web/settings.py` derives names from the same text.
        """
        return cls((CODE / (environ.get("RECLAIM_HOME") or ".reclaim")).expanduser().absolute())

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def log(self) -> Path:
        return self.path / "log"

    @property
    def supervisor_socket(self) -> Path:
        return self.run / "supervisor.sock"

    def prepare(self) -> None:
        """Create the folders, private to this account; an existing folder keeps its rights.

        As root a fresh top folder may be crossed (0711), because PostgreSQL refuses to be root
        and has to reach its own folder inside; nobody else can list or read it.

        Raises:
            FolderNotWritable: a folder cannot be created or written.
            PathTooLong: a Unix socket inside would not fit in its 108 bytes.
            PathUnfit: supervisord's configuration cannot express the path.
        """
        self._refuse_odd_path()
        try:
            is_ours = not self.path.exists() or self._holds_nothing_foreign()
            if not self.path.exists():
                self.path.mkdir(parents=True)
                self.path.chmod(0o711 if os.geteuid() == 0 else 0o700)
            for folder in (self.run, self.log):
                folder.mkdir(exist_ok=True)
                folder.chmod(0o700)
            if is_ours:
                (self.path / _MARK).touch()
            with (self.run / "lock").open("a"):
                pass
        except OSError as error:
            raise FolderNotWritable(
                f"expected to write in RECLAIM_HOME={self.path}, found: {error}. "
                "Choose another folder with RECLAIM_HOME, or give this account the right to write."
            ) from error

    def _refuse_odd_path(self) -> None:
        if not self.path.is_absolute():
            raise PathUnfit(f"expected an absolute RECLAIM_HOME, found {str(self.path)!r}.")
        odd = any(mark in str(self.path) for mark in (" ;", " #", "\n", "\r", '"'))
        if odd or self.path.name.endswith("'"):
            raise PathUnfit(
                f"expected RECLAIM_HOME without line breaks, double quotes, ' ;', ' #' or a quote "
                f"at its end, found {str(self.path)!r}: supervisord cannot be given it. Choose "
                "another folder."
            )
        length = len(os.fsencode(self.supervisor_socket))
        if length > SOCKET_PATH_BYTES:
            raise PathTooLong(
                f"RECLAIM_HOME={self.path} makes a Unix socket path of {length} bytes; expected at "
                f"most {SOCKET_PATH_BYTES}. Set RECLAIM_HOME to a shorter folder."
            )

    def _holds_nothing_foreign(self) -> bool:
        # reading the settings alone already leaves a key, before anything is started
        return {child.name for child in self.path.iterdir()} <= {"keys", "mail", "store"}

    @property
    def may_be_erased(self) -> bool:
        """Whether the folder was made by us, so that no foreign file is lost with it."""
        return (self.path / _MARK).is_file()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder's lock: two starts or stops at once take turns."""
        with (self.run / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def read(self, name: str) -> dict[str, Any]:
        """A state file such as `ports.json`; empty when it was never written."""
        try:
            found = json.loads((self.path / name).read_text())
        except FileNotFoundError:
            return {}
        except ValueError:
            # only a cut-off write leaves this; every file here can be made again
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Replace a state file in one step, readable by this account alone."""
        target = self.path / name
        fresh = target.with_name(f".{name}.{os.getpid()}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(content, file, indent=2, sort_keys=True)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(target)

    def passwords(self) -> dict[str, str]:
        """Passwords of the private servers, made on first use and kept."""
        names = ("postgres_superuser", "postgres", "redis")
        kept = self.read("secrets.json")
        if any(name not in kept for name in names):
            kept = {name: kept.get(name) or secrets.token_urlsafe(24) for name in names}
            self.write("secrets.json", kept)
        return {name: str(kept[name]) for name in names}

    def ports(
        self, names: tuple[str, ...], asked_web: int | None, *, ours_run: bool
    ) -> dict[str, int]:
        """Ports by name, chosen once and remembered in `ports.json`.

        Args:
            names: any of "postgres", "redis", "web".
            asked_web: the port the operator named for the web, or None.
            ours_run: our own processes are up, so a remembered port is busy because it is ours.

        Raises:
            PortTaken: `asked_web` belongs to another program.
        """
        kept = {name: int(port) for name, port in self.read("ports.json").items()}
        if asked_web is not None and "web" in names:
            if not (ours_run and kept.get("web") == asked_web) and not port_is_free(asked_web):
                raise PortTaken(
                    f"expected port {asked_web} to be free for the web, found another program "
                    "on it. Stop that program, or set RECLAIM_WEB_PORT to another number."
                )
            kept["web"] = asked_web
        for name in names:
            if name in kept and (ours_run or port_is_free(kept[name])):
                continue
            kept[name] = _web_port() if name == "web" else _free_port(set(kept.values()))
        self.write("ports.json", kept)
        return {name: kept[name] for name in names}


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # as servers do: a port in TIME_WAIT is free, one that is listened on is not
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def _web_port() -> int:
    return next(port for port in range(8000, 9000) if port_is_free(port))


def _free_port(taken: set[int]) -> int:
    draw = random.SystemRandom()
    while True:
        port = draw.choice(_PORTS)
        if port not in taken and port_is_free(port):
            return port
