"""What the environment may say to the web side, read once and typed.

Pure: `read(environ)` takes a mapping and gives frozen groups, so a test needs no process. Every
name is declared in `SETTINGS`; reading an undeclared one is a KeyError, and `docs/operate.md`
must list them all (a guard test compares).
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from governance.services.limits import MOST, KeyLimits

# The kernel's sun_path is 108 bytes on Linux and 104 on macOS, one of them a closing zero.
SOCKET_PATH_MAX_BYTES: Final = 100


CONTROLLER: Final = {
    "name": "The operator of this Reclaim installation",
    "address": "At the operator's registered office",
    "storage": "On the operator's own servers",
    "retention": "Until withdrawn or the licence ends, then erased; the record stays as evidence",
}
"""How consents name the operator until it says so itself."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One name the environment may carry; `may_be_file` allows NAME_FILE for secrets."""

    name: str
    default: str
    meaning: str
    may_be_file: bool = False


SETTINGS: Final = {
    setting.name: setting
    for setting in (
        Setting("RECLAIM_HOME", ".reclaim beside manage.py", "state folder"),
        Setting("DATABASE_URL", "embedded server", "postgresql://… of the one database", True),
        Setting("REDIS_URL", "embedded server", "redis://… of the broker", True),
        Setting("RECLAIM_DATABASE_KEEP_S", "0", "seconds a connection outlives its request"),
        Setting("RECLAIM_SECRET_KEY", "made once in keys/django.key", "signs sessions", True),
        Setting("RECLAIM_DEBUG", "no", "yes shows tracebacks; never on a served site"),
        Setting("RECLAIM_PUBLIC_URL", "http://127.0.0.1:8000", "where people reach the site"),
        Setting("RECLAIM_ALLOWED_HOSTS", "the public host and loopback", "comma-separated hosts"),
        Setting("RECLAIM_STEP_UP_MINUTES", "15", "a legal act needs a log-in this fresh, 1 to 720"),
        Setting("RECLAIM_BEHIND_PROXY", "no", "yes trusts X-Forwarded-Proto of the proxy"),
        Setting("RECLAIM_STORE", "HOME/store", "artefact store"),
        Setting("RECLAIM_KEYS", "HOME/keys", "signing keys"),
        Setting("RECLAIM_LEASE_S", "10", "runner lease, 1 to 300 seconds"),
        Setting("RECLAIM_RUNNERS", "1", "runners that `reclaim up` starts, 1 to 16"),
        Setting("RECLAIM_RUNNER_URL", "unix://HOME/run/runner.sock", "runners, comma-separated"),
        Setting("RECLAIM_ENGINE", "reference", "what a runner computes with: reference or vllm"),
        Setting("RECLAIM_DEVICE", "cpu", "where the reference engine computes: cpu or cuda"),
        Setting("RECLAIM_LAYOUT", "fastest", "weights on a CPU: fastest, packed or mapped"),
        Setting("RECLAIM_OPEN_ANSWERS", "1024", "answers open at once in one web process"),
        Setting("RECLAIM_GRACE_S", "5", "seconds answers may go on when a process is stopped"),
        Setting("RECLAIM_REQUESTS_PER_MINUTE", "0", "of a key that has no limit itself; 0: none"),
        Setting("RECLAIM_TOKENS_PER_MINUTE", "0", "of a key that has no limit itself; 0: none"),
        Setting("RECLAIM_ANSWERS_AT_ONCE", "0", "of a key that has no limit itself; 0: none"),
        Setting("RECLAIM_LOG_ORIGIN", "HOST/log", "name in the signed log head"),
        Setting("RECLAIM_WEBHOOK_HOSTS", "none", "hosts told in spite of a private address"),
        Setting("RECLAIM_LOG_LEVEL", "INFO", "DEBUG, INFO, WARNING or ERROR"),
        Setting("RECLAIM_LOG_FORMAT", "json", "json, or text for people"),
        Setting("RECLAIM_SMTP_URL", "files in HOME/mail", "smtp:// or smtps:// server", True),
        Setting("RECLAIM_MAIL_FROM", "reclaim@HOST", "sender of mail"),
        Setting("RECLAIM_STAFF_MFA", "no", "yes: staff need a second factor before any page"),
        Setting("RECLAIM_CONTROLLER_NAME", CONTROLLER["name"], "operator, as consents name it"),
        Setting("RECLAIM_CONTROLLER_ADDRESS", CONTROLLER["address"], "its postal address"),
        Setting("RECLAIM_CONTROLLER_CONTACT", "RECLAIM_MAIL_FROM", "its address for requests"),
        Setting("RECLAIM_CONTROLLER_STORAGE", CONTROLLER["storage"], "where experts are stored"),
        Setting("RECLAIM_CONTROLLER_RETENTION", CONTROLLER["retention"], "how long they are kept"),
    )
}


@dataclass(frozen=True, slots=True)
class Places:
    """Folders, absolute. Nothing is created by reading them but `keys`, for the secret key."""

    home: Path
    store: Path
    keys: Path
    mail: Path


@dataclass(frozen=True, slots=True)
class Database:
    """Address of the PostgreSQL database; `options` go to libpq (sslmode and the like)."""

    name: str
    host: str
    port: str
    account: str
    password: str
    options: tuple[tuple[str, str], ...]
    keep_s: int


@dataclass(frozen=True, slots=True)
class Servers:
    """None where neither the environment nor servers.json names the server."""

    database: Database | None
    redis_url: str | None


@dataclass(frozen=True, slots=True)
class Site:
    public_url: str
    allowed_hosts: tuple[str, ...]
    is_https: bool
    is_behind_proxy: bool
    debug: bool
    secret_key: str
    step_up_minutes: int


@dataclass(frozen=True, slots=True)
class Serving:
    lease_s: int
    runner_urls: tuple[str, ...]
    engine: str
    device: str
    layout: str
    open_answers: int
    grace_s: int
    key_limits: KeyLimits
    log_origin: str
    webhook_hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lines:
    level: str
    as_json: bool


@dataclass(frozen=True, slots=True)
class Mail:
    """`host` is empty where mail goes to files."""

    host: str
    port: int
    account: str
    password: str
    use_ssl: bool
    sender: str


@dataclass(frozen=True, slots=True)
class Controller:
    """Who decides about the processing, as consent records and receipts name it."""

    name: str
    address: str
    contact: str
    storage: str
    retention: str


@dataclass(frozen=True, slots=True)
class Configuration:
    places: Places
    servers: Servers
    site: Site
    serving: Serving
    lines: Lines
    mail: Mail
    controller: Controller
    is_staff_mfa_forced: bool


def read(environ: Mapping[str, str], beside: Path) -> Configuration:
    """All groups.

    Args:
        environ: as os.environ.
        beside: the folder that holds manage.py; a relative RECLAIM_HOME starts there.

    Raises:
        ImproperlyConfigured: a value is odd; the message says expected, found and what to do.
    """
    source = _Source(environ)
    places = _places(source, beside)
    site = _site(source, places)
    host = urlsplit(site.public_url).hostname or "localhost"
    return Configuration(
        places=places,
        servers=_servers(source, places.home),
        site=site,
        serving=Serving(
            lease_s=source.whole("RECLAIM_LEASE_S", 10, low=1, high=300),
            runner_urls=_runner_urls(source, places.home),
            engine=source.choice("RECLAIM_ENGINE", ("reference", "vllm")),
            device=source.choice("RECLAIM_DEVICE", ("cpu", "cuda")),
            layout=source.choice("RECLAIM_LAYOUT", ("fastest", "packed", "mapped")),
            open_answers=source.whole("RECLAIM_OPEN_ANSWERS", 1024, low=1, high=65536),
            grace_s=source.whole("RECLAIM_GRACE_S", 5, low=0, high=600),
            key_limits=KeyLimits(
                source.limit("RECLAIM_REQUESTS_PER_MINUTE"),
                source.limit("RECLAIM_TOKENS_PER_MINUTE"),
                source.limit("RECLAIM_ANSWERS_AT_ONCE"),
            ),
            log_origin=source.text("RECLAIM_LOG_ORIGIN") or f"{host}/log",
            webhook_hosts=tuple(
                one.strip()
                for one in source.text("RECLAIM_WEBHOOK_HOSTS").split(",")
                if one.strip()
            ),
        ),
        lines=Lines(
            level=source.choice("RECLAIM_LOG_LEVEL", ("INFO", "DEBUG", "WARNING", "ERROR")),
            as_json=source.choice("RECLAIM_LOG_FORMAT", ("json", "text")) == "json",
        ),
        mail=_mail(source, host),
        controller=_controller(source, _mail(source, host).sender),
        is_staff_mfa_forced=source.yes("RECLAIM_STAFF_MFA"),
    )


class _Source:
    """Typed reads of declared names; an empty value counts as not set."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: str) -> str:
        setting = SETTINGS[name]
        value = self._environ.get(name, "").strip()
        file = self._environ.get(f"{name}_FILE", "").strip() if setting.may_be_file else ""
        if value and file:
            raise refused(name, "one of the two", f"both {name} and {name}_FILE", "unset one")
        if not file:
            return value
        try:
            return Path(file).read_text(encoding="utf-8").strip()
        except OSError as failure:
            raise refused(
                f"{name}_FILE", "a readable file", f"{file} ({failure.strerror})", "correct it"
            ) from failure

    def whole(self, name: str, default: int, *, low: int, high: int) -> int:
        text = self.text(name)
        if not text:
            return default
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise refused(name, f"a whole number {low} to {high}", text, "correct or unset it")
        return int(text)

    def limit(self, name: str) -> int | None:
        """A whole number; 0 is none."""
        return self.whole(name, 0, low=0, high=MOST) or None

    def yes(self, name: str) -> bool:
        text = self.text(name).lower()
        if text in {"", "0", "no", "false", "off"}:
            return False
        if text in {"1", "yes", "true", "on"}:
            return True
        raise refused(name, "yes or no", text, "correct or unset it")

    def choice(self, name: str, among: tuple[str, ...]) -> str:
        """One of `among`; the first is the default."""
        text = self.text(name)
        for word in among:
            if text.lower() == word.lower():
                return word
        if text:
            raise refused(name, "one of " + ", ".join(among), text, "correct or unset it")
        return among[0]


def refused(name: str, expected: str, found: str, to_do: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"{name}: expected {expected}, found {found}. To do: {to_do}.")


def _places(source: _Source, beside: Path) -> Places:
    home = (beside / (source.text("RECLAIM_HOME") or ".reclaim")).expanduser().absolute()
    if home.exists() and not home.is_dir():
        raise refused("RECLAIM_HOME", "a folder", f"the file {home}", "name a folder")
    return Places(
        home=home,
        store=home / (source.text("RECLAIM_STORE") or "store"),
        keys=home / (source.text("RECLAIM_KEYS") or "keys"),
        mail=home / "mail",
    )


def _site(source: _Source, places: Places) -> Site:
    public_url = (source.text("RECLAIM_PUBLIC_URL") or "http://127.0.0.1:8000").rstrip("/")
    parts = urlsplit(public_url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path or parts.query:
        raise refused(
            "RECLAIM_PUBLIC_URL",
            "http(s)://host[:port] without a path",
            public_url,
            "give the address people type",
        )
    hosts = [part.strip() for part in source.text("RECLAIM_ALLOWED_HOSTS").split(",")]
    named = tuple(host for host in hosts if host)
    return Site(
        public_url=public_url,
        allowed_hosts=named or (parts.hostname, "localhost", "127.0.0.1", "[::1]"),
        is_https=parts.scheme == "https",
        is_behind_proxy=source.yes("RECLAIM_BEHIND_PROXY"),
        debug=source.yes("RECLAIM_DEBUG"),
        secret_key=_secret_key(source, places.keys),
        step_up_minutes=source.whole("RECLAIM_STEP_UP_MINUTES", 15, low=1, high=720),
    )


def _secret_key(source: _Source, keys: Path) -> str:
    given = source.text("RECLAIM_SECRET_KEY")
    if given:
        if len(given) < 32:
            raise refused(
                "RECLAIM_SECRET_KEY", "32 characters or more", f"{len(given)}", "make a longer one"
            )
        return given
    return kept_secret(keys / "django.key")


def kept_secret(path: Path) -> str:
    """The secret in `path`, made there once with mode 0600.

    Safe when several processes start together: the file appears whole or not at all, and the
    first one wins.

    Raises:
        ImproperlyConfigured: the folder cannot be written or the file holds too little.
    """
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _place_once(path, secrets.token_urlsafe(48))
        kept = path.read_text(encoding="ascii").strip()
    except OSError as failure:
        raise refused(
            "RECLAIM_SECRET_KEY",
            "a value, or a folder where one may be kept",
            f"{path.parent} ({failure.strerror})",
            "set RECLAIM_SECRET_KEY_FILE, or let this account write to RECLAIM_HOME",
        ) from failure
    if len(kept) < 32:
        raise refused(
            str(path), "32 characters or more", f"{len(kept)}", "delete the file; all log in again"
        )
    return kept


def _place_once(path: Path, text: str) -> None:
    # link() fails where the name exists, so a slower process never replaces a key in use.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            return
    finally:
        draft.unlink(missing_ok=True)


def _servers(source: _Source, home: Path) -> Servers:
    started = _started_servers(home / "servers.json")
    database_url = source.text("DATABASE_URL") or started.get("database_url", "")
    redis_url = source.text("REDIS_URL") or started.get("redis_url", "")
    if redis_url and urlsplit(redis_url).scheme not in {"redis", "rediss", "unix", "redis+socket"}:
        raise refused("REDIS_URL", "redis://… or unix://…", redis_url, "correct or unset it")
    keep_s = source.whole("RECLAIM_DATABASE_KEEP_S", 0, low=0, high=3600)
    return Servers(
        database=_database(database_url, keep_s) if database_url else None,
        redis_url=redis_url or None,
    )


def _started_servers(path: Path) -> dict[str, str]:
    """What the embedded servers wrote when they started; empty where they did not."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as failure:
        raise refused(
            str(path), "JSON with database_url and redis_url", str(failure), "delete the file"
        ) from failure
    if not isinstance(found, dict):
        raise refused(str(path), "a JSON object", type(found).__name__, "delete the file")
    return {str(name): value for name, value in found.items() if isinstance(value, str)}


def _database(url: str, keep_s: int) -> Database:
    parts = urlsplit(url)
    name = unquote(parts.path.lstrip("/"))
    if parts.scheme not in {"postgres", "postgresql"} or not name:
        # The password must not reach a log, so the message shows the scheme and host alone.
        found = f"{parts.scheme or 'no scheme'}://…@{parts.hostname or ''}/{name}"
        raise refused(
            "DATABASE_URL",
            "postgresql://account:password@host:port/name",
            found,
            "name a PostgreSQL database, or unset it to use the embedded server",
        )
    options = dict(parse_qsl(parts.query))
    return Database(
        name=name,
        host=options.pop("host", "") or unquote(parts.hostname or ""),
        port=options.pop("port", "") or str(parts.port or ""),
        account=options.pop("user", "") or unquote(parts.username or ""),
        password=options.pop("password", "") or unquote(parts.password or ""),
        options=tuple(sorted(options.items())),
        keep_s=keep_s,
    )


def _runner_urls(source: _Source, home: Path) -> tuple[str, ...]:
    """Where runners listen: number k on the k-th address."""
    runners = source.whole("RECLAIM_RUNNERS", 1, low=1, high=16)
    given = [one.strip() for one in source.text("RECLAIM_RUNNER_URL").split(",") if one.strip()]
    if not given:
        return tuple(f"unix://{_socket_path(home, number)}" for number in range(1, runners + 1))
    for url in given:
        _check_runner_url(url)
    if len(set(given)) < max(runners, len(given)):
        raise refused(
            "RECLAIM_RUNNER_URL",
            f"an address of its own for each runner, {runners} or more",
            ", ".join(given),
            "name more, or correct RECLAIM_RUNNERS",
        )
    return tuple(given)


def _check_runner_url(url: str) -> None:
    scheme, _, rest = url.partition("://")
    if scheme not in {"unix", "tcp"} or not rest:
        raise refused("RECLAIM_RUNNER_URL", "unix:///path or tcp://host:port", url, "correct it")
    if scheme == "unix" and len(rest.encode()) > SOCKET_PATH_MAX_BYTES:
        raise refused(
            "RECLAIM_RUNNER_URL",
            f"a path of at most {SOCKET_PATH_MAX_BYTES} bytes",
            f"{len(rest.encode())}",
            "choose a shorter path or unset it",
        )


def _socket_path(home: Path, number: int) -> Path:
    """A runner's socket: under the home, or under the temp folder where that is too long.

    Who creates the folder makes it 0700; the name depends on the home alone, so both sides agree.
    """
    name = "runner.sock" if number == 1 else f"runner-{number}.sock"
    path = home / "run" / name
    if len(str(path).encode()) <= SOCKET_PATH_MAX_BYTES:
        return path
    short = hashlib.sha256(str(home).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"reclaim-{short}" / name


def _mail(source: _Source, host: str) -> Mail:
    url = source.text("RECLAIM_SMTP_URL")
    sender = source.text("RECLAIM_MAIL_FROM") or f"reclaim@{host}"
    parts = urlsplit(url)
    if url and (parts.scheme not in {"smtp", "smtps"} or not parts.hostname):
        raise refused(
            "RECLAIM_SMTP_URL",
            "smtp(s)://account:password@host:port",
            f"{parts.scheme}://…",
            "correct it",
        )
    return Mail(
        host=parts.hostname or "",
        port=parts.port or (465 if parts.scheme == "smtps" else 25),
        account=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        use_ssl=parts.scheme == "smtps",
        sender=sender,
    )


def _controller(source: _Source, sender: str) -> Controller:
    said = Controller(
        name=source.text("RECLAIM_CONTROLLER_NAME") or CONTROLLER["name"],
        address=source.text("RECLAIM_CONTROLLER_ADDRESS") or CONTROLLER["address"],
        contact=source.text("RECLAIM_CONTROLLER_CONTACT") or sender,
        storage=source.text("RECLAIM_CONTROLLER_STORAGE") or CONTROLLER["storage"],
        retention=source.text("RECLAIM_CONTROLLER_RETENTION") or CONTROLLER["retention"],
    )
    for name, value, longest in (
        ("NAME", said.name, 200),
        ("STORAGE", said.storage, 64),
        ("RETENTION", said.retention, 200),
    ):
        if len(value) > longest:
            raise refused(
                f"RECLAIM_CONTROLLER_{name}",
                f"at most {longest} characters",
                str(len(value)),
                "say it in fewer words",
            )
    return said
