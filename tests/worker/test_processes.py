"""The private servers under a RECLAIM_HOME: real ones, started, killed and started again."""

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from worker import processes
from worker.processes import Home, control, errors, orphans, servers, supervision
from worker.waiting import MOST_FALLS, Watch, WorkFailed

BOTH = processes.SERVERS
NO_URLS = {
    key: value
    for key, value in os.environ.items()
    if key not in {"DATABASE_URL", "REDIS_URL", "RECLAIM_HOME", "RECLAIM_PUBLIC_URL"}
}


def fresh_folder():
    # pytest's own folders are closed to the account PostgreSQL runs under when we are root
    folder = Path(tempfile.mkdtemp(prefix="reclaim-"))
    folder.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def home():
    folder = fresh_folder()
    one = Home(folder / "a home with 100% odd name")
    processes.start(one, NO_URLS, BOTH)
    yield one
    processes.erase(one)
    shutil.rmtree(folder)


@pytest.fixture
def own_folder():
    folder = fresh_folder()
    yield folder
    for child in folder.iterdir():
        if child.is_dir():
            processes.erase(Home(child))
    shutil.rmtree(folder)


def pids(one):
    return {row.name: row.pid for row in processes.status(one) if row.name in BOTH}


def ask_database(one, statement):
    with psycopg.connect(processes.addresses(one)["database_url"], autocommit=True) as connection:
        return connection.execute(statement).fetchone()


def wait_until(is_so, patience_s=60):
    deadline = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def descendants(one):
    return psutil.Process(supervision.supervisor_pid(one)).children(recursive=True)


def test_starting_twice_leaves_the_same_servers_running(home):
    before = pids(home)
    processes.start(home, NO_URLS, BOTH)
    assert pids(home) == before
    assert all(before.values())


def test_the_servers_answer_at_the_addresses_written(home):
    assert ask_database(home, "SELECT current_database()") == ("reclaim",)
    with redis.Redis.from_url(processes.addresses(home)["redis_url"]) as client:
        assert client.ping()


def test_our_account_is_no_superuser_yet_may_use_gist_exclusion(home):
    assert ask_database(home, "SHOW is_superuser") == ("off",)
    ask = "SELECT rolcreatedb, rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user"
    assert ask_database(home, ask) == (True, False, False)
    with psycopg.connect(processes.addresses(home)["database_url"]) as connection:
        connection.execute("CREATE EXTENSION btree_gist")
        connection.rollback()


def test_postgres_keeps_fsync_on_and_listens_on_loopback_alone(home):
    assert ask_database(home, "SHOW fsync") == ("on",)
    assert ask_database(home, "SHOW listen_addresses") == ("127.0.0.1",)


def test_a_wrong_password_opens_neither_server(home):
    written = processes.addresses(home)
    password = processes.Home(home.path).passwords()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(written["database_url"].replace(password["postgres"], "wrong"))
    with (
        redis.Redis.from_url(written["redis_url"].replace(password["redis"], "wrong")) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_files_with_passwords_are_for_this_account_alone(home):
    secret = ("secrets.json", "servers.json", "run/redis.conf", "run/supervisord.conf")
    for name in secret:
        assert stat.S_IMODE((home.path / name).stat().st_mode) == 0o600, name
    for folder in (home.run, home.log):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    assert stat.S_IMODE(home.path.stat().st_mode) == (0o711 if os.geteuid() == 0 else 0o700)


def test_no_password_is_on_a_command_line(home):
    lines = [" ".join(each.cmdline()) for each in descendants(home)]
    assert lines
    for word in home.passwords().values():
        assert not any(word in line for line in lines)


def test_a_second_home_gets_other_ports_for_web_and_servers_too(home, own_folder):
    second = Home(own_folder / "second")
    with socket.socket() as web_of_the_first:
        web_of_the_first.bind(("127.0.0.1", home.read("ports.json")["web"]))
        web_of_the_first.listen()
        processes.start(second, NO_URLS, BOTH)
        first_ports, second_ports = home.read("ports.json"), second.read("ports.json")
    assert first_ports.keys() == second_ports.keys() == {"postgres", "redis", "web"}
    assert not set(first_ports.values()) & set(second_ports.values())
    assert ask_database(second, "SELECT 1") == (1,)
    assert ask_database(home, "SELECT 1") == (1,)


def test_a_killed_server_is_started_again(home):
    before = pids(home)["redis"]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: pids(home)["redis"] not in {None, before})
    processes.start(home, NO_URLS, BOTH)
    with redis.Redis.from_url(processes.addresses(home)["redis_url"]) as client:
        assert client.ping()


def test_who_waits_for_work_is_told_of_a_process_that_keeps_dying(home):
    watch = Watch(home)
    watch.look()
    for _ in range(MOST_FALLS):
        fell = pids(home)["redis"]
        os.kill(fell, signal.SIGKILL)
        wait_until(lambda fell=fell: pids(home)["redis"] not in {None, fell})
        watch.look()
    fell = pids(home)["redis"]
    os.kill(fell, signal.SIGKILL)
    wait_until(lambda: pids(home)["redis"] not in {None, fell})
    with pytest.raises(WorkFailed, match=r"expected redis to stay up, found it started anew 5"):
        watch.look()


@pytest.mark.faults
def test_rows_survive_a_killed_supervisor_and_its_servers_are_not_left_behind(own_folder):
    one = Home(own_folder / "killed")
    processes.start(one, NO_URLS, BOTH)
    with psycopg.connect(processes.addresses(one)["database_url"]) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 41 AS policy_epoch")
    old = pids(one)
    os.kill(supervision.supervisor_pid(one), signal.SIGKILL)
    wait_until(lambda: supervision.supervisor_pid(one) is None)
    assert all(orphans.lives(pid) for pid in old.values())  # so the next start has work to do
    said = []
    processes.start(one, NO_URLS, BOTH, said.append)
    assert "ended what an earlier run left behind: postgres, redis" in said
    assert not any(orphans.lives(pid) for pid in old.values())
    assert ask_database(one, "SELECT policy_epoch FROM kept") == (41,)


@pytest.mark.faults
def test_a_machine_that_lost_power_starts_again(own_folder):
    one = Home(own_folder / "dark")
    processes.start(one, NO_URLS, BOTH)
    everything = [*descendants(one), psutil.Process(supervision.supervisor_pid(one))]
    for each in reversed(everything):
        with contextlib.suppress(psutil.NoSuchProcess):  # it may end with the one killed before it
            each.kill()
    wait_until(lambda: not any(orphans.lives(each.pid) for each in everything))
    cluster = next(one.path.glob("postgres/cluster"), servers.roots_own_folder(one) / "cluster")
    # after a reboot the number in the file may be that of anybody: here, of this very test
    lines = (cluster / "postmaster.pid").read_text().splitlines()
    (cluster / "postmaster.pid").write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    processes.start(one, NO_URLS, BOTH)
    assert ask_database(one, "SELECT 1") == (1,)


def test_stop_leaves_no_process_and_says_whether_any_ran(own_folder):
    one = Home(own_folder / "brief")
    processes.start(one, NO_URLS, ("redis",))
    running = [*descendants(one), psutil.Process(supervision.supervisor_pid(one))]
    assert processes.stop(one) is True
    assert not any(orphans.lives(each.pid) for each in running)
    assert {row.state for row in processes.status(one)} == {"stopped"}
    assert processes.stop(one) is False


def test_a_cluster_cut_off_while_it_was_made_is_made_anew(own_folder):
    one = Home(own_folder / "cut")
    one.prepare()
    place = servers.seat(one)
    (place.folder / "cluster.unfinished").mkdir()
    (place.folder / "cluster.unfinished/PG_VERSION").write_text("18\n")
    processes.start(one, NO_URLS, ("postgres",))
    assert ask_database(one, "SELECT 1") == (1,)


def test_a_cluster_of_another_version_is_refused_with_both_versions(own_folder):
    one = Home(own_folder / "old")
    one.prepare()
    place = servers.seat(one)
    place.cluster.mkdir()
    (place.cluster / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(errors.NotReady, match=r"expected a PostgreSQL 1\d .* found version 9\.6"):
        processes.start(one, NO_URLS, ("postgres",))


def test_a_server_named_by_its_url_is_not_started(own_folder):
    one = Home(own_folder / "given")
    given = {**NO_URLS, "DATABASE_URL": "postgresql://a@elsewhere/b"}
    assert processes.prepare(one, given).keys() == {"redis_url"}
    by_file = {**NO_URLS, "DATABASE_URL_FILE": "/run/secrets/a", "REDIS_URL_FILE": "/run/secrets/b"}
    assert processes.prepare(one, by_file) == {}


def test_the_log_of_a_failed_server_is_in_the_error(own_folder):
    one = Home(own_folder / "taken")
    ports = processes.prepare(one, NO_URLS) and one.read("ports.json")
    one.prepare()
    layout = control._layout(one, NO_URLS)
    with socket.socket() as other:
        other.bind(("127.0.0.1", ports["redis"]))
        other.listen()
        control._supervise(one, NO_URLS, layout, print)
        control._begin(one, "redis", print)
        with pytest.raises(errors.NotReady, match="Address already in use"):
            control._await(one, "redis", lambda: False, 90)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to step down to start PostgreSQL")
def test_root_may_keep_its_home_in_a_folder_closed_to_all_others():
    folder = Path(tempfile.mkdtemp(prefix="reclaim-"))  # 0700
    one = Home(folder / "private")
    try:
        processes.start(one, NO_URLS, ("postgres",))
        assert ask_database(one, "SELECT 1") == (1,)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert servers.roots_own_folder(one).is_dir()
    finally:
        processes.erase(one)
        shutil.rmtree(folder)
    assert not servers.roots_own_folder(one).exists()


def python_open_to_all():
    """An interpreter of this version that a plain account may run, and where it finds packages."""
    for path in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        ran = subprocess.run(
            ["/bin/sh", "-c", '"$0" -c "import psycopg"', path],
            **as_nobody(),
            check=False,
        )
        if ran.returncode == 0:
            return path
    return None


def as_nobody(**more):
    packages = os.pathsep.join([str(Path.cwd()), sysconfig.get_path("purelib")])
    return {
        "user": "nobody",
        "group": "nogroup",
        "extra_groups": [],
        "cwd": "/",
        "capture_output": True,
        "env": {**NO_URLS, "PYTHONPATH": packages, "PYTHONDONTWRITEBYTECODE": "1", **more},
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="the whole suite runs as a plain account then")
def test_a_plain_account_starts_the_servers_as_well(own_folder):
    python = python_open_to_all()
    if python is None:
        pytest.skip("every interpreter of this version is closed to plain accounts")
    own_folder.chmod(0o777)
    code = (
        "import os; from worker import processes as p; h = p.Home.named_in(os.environ)\n"
        "p.start(h, os.environ, p.SERVERS); print(*p.addresses(h)); p.erase(h)"
    )
    ran = subprocess.run(
        [python, "-c", code],
        # redis-py needs one package more on 3.11.2 than on later ones, and Redis minds no account
        **as_nobody(RECLAIM_HOME=str(own_folder / "plain"), REDIS_URL="redis://elsewhere"),
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["database_url"]
    assert not (own_folder / "plain").exists()
