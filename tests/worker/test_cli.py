"""The `reclaim` command: quick to start, one exit code per cause."""

import json
import socket
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from worker.cli import app
from worker.processes import Home, errors


@pytest.fixture
def home(tmp_path, monkeypatch):
    one = Home(tmp_path / "h")
    monkeypatch.setenv("RECLAIM_HOME", str(one.path))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("REDIS_URL", raising=False)
    return one


def reclaim(*arguments):
    return CliRunner().invoke(app, list(arguments))


def test_help_loads_nothing_heavy():
    code = (
        "import sys, worker.cli as c\n"
        "try: c.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch','django','celery','transformers','psycopg'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"
    for command in ("up", "down", "status", "logs", "doctor", "demo", "tour", "verify-log"):
        assert command in ran.stdout


def test_status_of_nothing_is_exit_code_three(home):
    told = reclaim("status", "--json")
    assert told.exit_code == 3
    content = json.loads(told.stdout)
    assert content["running"] is False
    assert {row["state"] for row in content["processes"]} == {"stopped"}
    assert not home.path.exists()  # looking leaves no trace


def test_down_where_nothing_runs_is_no_error(home):
    told = reclaim("down")
    assert (told.exit_code, told.stdout) == (0, "nothing was running\n")


def test_logs_of_an_unknown_name_lists_the_known_ones(home):
    told = reclaim("logs", "wbe")
    assert told.exit_code == errors.UnknownProcess.exit_code
    assert "web, runner" in told.stderr


def test_logs_shows_the_last_lines_only(home):
    home.prepare()
    (home.log / "relay.log").write_text("".join(f"line {n}\n" for n in range(100)))
    assert reclaim("logs", "relay", "-n", "2").stdout == "line 98\nline 99\n"


def test_up_on_a_taken_port_says_so_with_its_own_exit_code(home, monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        monkeypatch.setenv("RECLAIM_WEB_PORT", str(other.getsockname()[1]))
        told = reclaim("up")
    assert told.exit_code == errors.PortTaken.exit_code
    assert "RECLAIM_WEB_PORT" in told.stderr


def test_every_cause_has_its_own_exit_code():
    causes = errors.ProcessesError.__subclasses__()
    codes = [cause.exit_code for cause in causes]
    assert len(set(codes)) == len(codes)
    assert min(codes) > errors.ProcessesError.exit_code
