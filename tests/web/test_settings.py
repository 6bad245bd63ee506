"""What the environment may say, and what is refused."""

from __future__ import annotations

import ast
import inspect
import json
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from governance.services.limits import KeyLimits
from web import environment
from web.nowhere.base import DatabaseWrapper

ROOT = Path(environment.__file__).parent.parent
KEY = "k" * 40


def read(tmp_path: Path, **values: str) -> environment.Configuration:
    named = {"RECLAIM_HOME": str(tmp_path), "RECLAIM_SECRET_KEY": KEY}
    return environment.read(named | values, ROOT)


def test_every_setting_is_in_the_operators_table():
    section = (ROOT / "docs/operate.md").read_text().split("## Settings", 1)[1].split("\n## ")[0]
    documented = set(re.findall(r"^\| `([A-Z_]+)`", section, flags=re.MULTILINE))
    assert documented == set(environment.SETTINGS)


def test_every_name_the_code_reads_is_declared():
    source = inspect.getsource(environment)
    read_names = {
        call.args[0].value
        for call in ast.walk(ast.parse(source))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in {"text", "whole", "yes", "choice", "limit"}
        and call.args
        and isinstance(call.args[0], ast.Constant)
    }
    assert read_names == set(environment.SETTINGS)


def test_nothing_else_on_the_web_side_reads_the_environment():
    allowed = {"settings.py", "asgi.py", "wsgi.py"}
    readers = {
        path.name
        for path in (ROOT / "web").rglob("*.py")
        if re.search(r"os\.environ|getenv", path.read_text()) and path.name != "environment.py"
    }
    assert readers <= allowed


def test_defaults_stand_on_a_bare_machine(tmp_path):
    found = read(tmp_path)
    assert found.servers == environment.Servers(None, None)
    assert found.places.store == tmp_path / "store"
    assert found.places.keys == tmp_path / "keys"
    assert found.serving == environment.Serving(
        10,
        (f"unix://{tmp_path}/run/runner.sock",),
        "reference",
        "cpu",
        "fastest",
        1024,
        5,
        KeyLimits(),
        "127.0.0.1/log",
        (),
    )
    assert not found.site.is_https
    assert not found.site.debug


def test_embedded_servers_are_found_by_the_file_they_write(tmp_path):
    addresses = {"database_url": "postgresql://r@/reclaim?host=/run/pg", "redis_url": "unix:///r"}
    (tmp_path / "servers.json").write_text(json.dumps(addresses))
    servers = read(tmp_path).servers
    assert servers.redis_url == "unix:///r"
    assert servers.database is not None
    assert (servers.database.name, servers.database.host) == ("reclaim", "/run/pg")


def test_a_named_database_beats_the_embedded_one(tmp_path):
    (tmp_path / "servers.json").write_text('{"database_url": "postgresql:///embedded"}')
    url = "postgresql://a:p%40ss@db:6543/named?sslmode=require"
    servers = read(tmp_path, DATABASE_URL=url).servers
    assert servers.database == environment.Database(
        "named", "db", "6543", "a", "p@ss", (("sslmode", "require"),), 0
    )


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("RECLAIM_LEASE_S", "0", "expected a whole number 1 to 300, found 0"),
        ("RECLAIM_LEASE_S", "ten", "found ten"),
        ("RECLAIM_LEASE_S", "²", "found ²"),
        ("RECLAIM_DEBUG", "maybe", "expected yes or no"),
        ("RECLAIM_LOG_LEVEL", "LOUD", "expected one of INFO"),
        ("RECLAIM_PUBLIC_URL", "reclaim.example", "expected http(s)://host"),
        ("RECLAIM_PUBLIC_URL", "https://reclaim.example/sub", "without a path"),
        ("RECLAIM_RUNNER_URL", "/run/runner.sock", "expected unix:///path"),
        ("RECLAIM_RUNNER_URL", "unix:///" + "long/" * 30, "at most 100 bytes"),
        ("RECLAIM_RUNNER_URL", "unix:///a, unix:///a", "an address of its own for each runner"),
        ("RECLAIM_RUNNERS", "17", "a whole number 1 to 16"),
        ("RECLAIM_SECRET_KEY", "short", "32 characters"),
        ("RECLAIM_SMTP_URL", "mail.example", "expected smtp(s)://"),
        ("REDIS_URL", "localhost:6379", "expected redis://"),
        ("DATABASE_URL", "mysql://db/reclaim", "expected postgresql://"),
        ("DATABASE_URL", "postgresql://db", "expected postgresql://"),
    ],
)
def test_an_odd_value_is_refused_with_what_to_do(tmp_path, name, value, says):
    with pytest.raises(ImproperlyConfigured) as refusal:
        read(tmp_path, **{name: value})
    assert name in str(refusal.value)
    assert says in str(refusal.value)
    assert "To do:" in str(refusal.value)


def test_a_refused_database_address_does_not_show_its_password(tmp_path):
    with pytest.raises(ImproperlyConfigured) as refusal:
        read(tmp_path, DATABASE_URL="mysql://a:hunter2@db/reclaim")
    assert "hunter2" not in str(refusal.value)


def test_a_secret_may_come_from_a_file_but_not_from_both(tmp_path):
    file = tmp_path / "database"
    file.write_text("postgresql:///filed\n")
    servers = read(tmp_path, DATABASE_URL_FILE=str(file)).servers
    assert servers.database is not None
    assert servers.database.name == "filed"
    with pytest.raises(ImproperlyConfigured, match="unset one"):
        read(tmp_path, DATABASE_URL_FILE=str(file), DATABASE_URL="postgresql:///other")
    with pytest.raises(ImproperlyConfigured, match="a readable file"):
        read(tmp_path, DATABASE_URL_FILE=str(tmp_path / "absent"))


def test_a_damaged_server_file_is_refused(tmp_path):
    (tmp_path / "servers.json").write_text("{")
    with pytest.raises(ImproperlyConfigured, match=r"servers\.json.*delete the file"):
        read(tmp_path)


def test_the_secret_key_is_made_once_and_kept_private(tmp_path):
    path = tmp_path / "keys" / "django.key"
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(environment.kept_secret, [path] * 8))
    assert len(keys) == 1
    assert keys == {environment.kept_secret(path)}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["django.key"]


def test_a_cut_off_secret_key_is_refused(tmp_path):
    path = tmp_path / "django.key"
    path.write_text("cut")
    with pytest.raises(ImproperlyConfigured, match="delete the file"):
        environment.kept_secret(path)


@limits(deadline=None)
@given(st.text("abcdefgh/", min_size=0, max_size=200))
def test_the_default_socket_always_fits_the_kernel(folder):
    home = Path("/") / folder.strip("/")
    environ = {"RECLAIM_HOME": str(home), "RECLAIM_SECRET_KEY": KEY}
    environ |= {"RECLAIM_RUNNERS": "2"}
    urls = environment.read(environ, ROOT).serving.runner_urls
    assert len(set(urls)) == 2
    for url in urls:
        assert len(url.removeprefix("unix://").encode()) <= environment.SOCKET_PATH_MAX_BYTES
    assert urls == environment.read(environ, ROOT).serving.runner_urls


def test_a_process_without_a_database_says_what_to_do():
    with pytest.raises(ImproperlyConfigured, match="set DATABASE_URL, or start the embedded"):
        DatabaseWrapper({}).cursor()


def test_the_page_rules_allow_no_foreign_or_inline_source():
    directives = settings.CONTENT_SECURITY_POLICY["DIRECTIVES"]
    sources = {str(source) for listed in directives.values() for source in listed}
    assert not any("unsafe" in source or "http" in source or source == "*" for source in sources)
    assert [str(source) for source in directives["default-src"]] == ["'none'"]
    assert [str(source) for source in directives["frame-ancestors"]] == ["'none'"]
