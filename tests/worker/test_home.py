"""Ports, state files and the configuration derived from them: no server is started here."""

import json
import shlex
import socket
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from supervisor.options import ServerOptions

from worker.processes import catalogue, control, errors, servers, supervision
from worker.processes.home import CODE, SOCKET_PATH_BYTES, Home, port_is_free


@pytest.fixture
def home(tmp_path):
    one = Home(tmp_path / "h")
    one.prepare()
    return one


@pytest.fixture
def busy_port():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_relative_home_lies_beside_the_code_whatever_the_current_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert Home.named_in({}).path == CODE / ".reclaim"
    assert Home.named_in({"RECLAIM_HOME": "other"}).path == CODE / "other"
    assert Home.named_in({"RECLAIM_HOME": "/srv/x"}).path == Path("/srv/x")


def test_ports_are_chosen_once_and_remembered(home):
    names = ("postgres", "redis", "web")
    first = home.ports(names, None, ours_run=False)
    assert home.ports(names, None, ours_run=False) == first
    assert len(set(first.values())) == 3
    assert 8000 <= first["web"] < 9000


def test_a_remembered_port_that_someone_took_is_replaced(home, busy_port):
    home.write("ports.json", {"redis": busy_port})
    assert home.ports(("redis",), None, ours_run=False)["redis"] != busy_port
    home.write("ports.json", {"redis": busy_port})
    assert home.ports(("redis",), None, ours_run=True)["redis"] == busy_port


def test_a_web_port_asked_for_by_number_is_never_replaced(home, busy_port):
    with pytest.raises(errors.PortTaken, match=f"port {busy_port} .* RECLAIM_WEB_PORT"):
        home.ports(("web",), busy_port, ours_run=False)
    home.write("ports.json", {"web": busy_port})
    assert home.ports(("web",), busy_port, ours_run=True) == {"web": busy_port}


def test_a_port_is_free_again_once_nobody_listens(busy_port):
    assert not port_is_free(busy_port)


def test_a_folder_that_cannot_be_written_is_named():
    with (
        tempfile.NamedTemporaryFile() as file,  # a short path: pytest's own may be too long
        pytest.raises(errors.FolderNotWritable, match=r"found: .*Not a directory"),
    ):
        Home(Path(file.name) / "home").prepare()


def test_a_path_too_long_for_a_socket_is_refused_with_both_lengths(tmp_path):
    deep = tmp_path / ("d" * 120)
    with pytest.raises(errors.PathTooLong, match=f"at most {SOCKET_PATH_BYTES}"):
        Home(deep).prepare()
    assert not deep.exists()


def test_a_folder_that_was_there_before_keeps_its_rights_and_is_never_erased(tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "thesis.tex").write_text("years of work")
    one = Home(tmp_path)
    one.prepare()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    with pytest.raises(errors.NotOurs, match="held other files before"):
        control.erase(one)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_folder_in_which_the_settings_left_a_key_is_still_ours(tmp_path):
    (tmp_path / "keys").mkdir()
    one = Home(tmp_path)
    one.prepare()
    control.erase(one)
    assert not tmp_path.exists()


def test_a_relative_path_never_becomes_a_home():
    with pytest.raises(errors.PathUnfit, match="absolute"):
        Home(Path()).prepare()


@pytest.mark.parametrize("name", ["a ;b", "a #b", "a\nb", 'a"b'])
def test_a_path_that_supervisord_would_misread_is_refused(tmp_path, name):
    with pytest.raises(errors.PathUnfit, match="Choose another folder"):
        Home(tmp_path / name).prepare()


def test_a_state_file_is_private_and_replaced_whole(home):
    home.write("x.json", {"a": 1})
    assert stat.S_IMODE((home.path / "x.json").stat().st_mode) == 0o600
    assert [path.name for path in home.path.glob(".x*")] == []
    (home.path / "x.json").write_text('{"a": 1')
    assert home.read("x.json") == {}
    assert home.read("never.json") == {}


def test_passwords_are_made_once_and_differ(home):
    made = home.passwords()
    assert home.passwords() == made
    assert len(set(made.values())) == 3
    assert min(len(word) for word in made.values()) >= 32


def test_missing_binaries_say_what_to_install_or_set(monkeypatch):
    monkeypatch.setattr(servers, "_wheel_folder", lambda _: None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(errors.BinaryMissing, match=r"reclaim\[embedded\].*DATABASE_URL"):
        servers.postgres_binaries()
    with pytest.raises(errors.BinaryMissing, match=r"reclaim\[embedded\].*REDIS_URL"):
        servers.redis_binary()


def test_redis_on_path_serves_where_the_wheel_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(servers, "_wheel_folder", lambda _: None)
    (tmp_path / "redis-server").write_text("#!/bin/sh\n")
    (tmp_path / "redis-server").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert servers.redis_binary() == tmp_path / "redis-server"


def test_root_without_an_account_for_postgres_says_so(monkeypatch):
    monkeypatch.setattr(servers, "_ACCOUNTS", ("nobody-of-this-name",))
    with pytest.raises(errors.AccountMissing, match="DATABASE_URL"):
        servers._account()


def read_by_supervisord(path):
    options = ServerOptions()
    options.realize(["-c", str(path)])
    return {
        program.process_configs[0].name: program.process_configs[0]
        for program in options.process_group_configs
    }


@example("'")
@given(
    st.text(st.characters(codec="utf-8", exclude_characters='/\0\n\r";#'), min_size=1, max_size=8)
)
def test_supervisord_reads_back_what_was_written(tmp_path_factory, name):
    if name != name.strip() or name in {".", ".."} or name.splitlines() != [name]:
        return  # such folders cannot be made or named
    home = Home(tmp_path_factory.mktemp("q") / name)
    if name.endswith("'"):
        with pytest.raises(errors.PathUnfit, match="a quote at its end"):
            home.prepare()
        return
    home.prepare()
    command = ("/bin/p", "-x", "with space", "100%", "it's", "a@%h", str(home.path))
    unit = supervision.Unit("web", command, "TERM", 7, 200, {"A": "1,2 '%d' \\"})
    conf = supervision.configuration_file(home)
    conf.write_text(supervision.configuration(home, [unit]))
    found = read_by_supervisord(conf)["web"]
    assert tuple(shlex.split(found.command)) == command
    assert found.stdout_logfile == str(home.log / "web.log")
    assert found.environment["A"] == "1,2 '%d' \\"
    assert found.environment["RECLAIM_HOME"] == str(home.path)
    assert (found.stopwaitsecs, found.autostart) == (7, False)


def test_each_queue_has_exactly_one_worker_and_no_program_is_named_twice():
    listed = catalogue.programs(web_host="127.0.0.1", web_port=8000, state="/s")
    assert len({program.name for program in listed}) == len(listed)
    queues = [p.arguments[p.arguments.index("-Q") + 1] for p in listed if "-Q" in p.arguments]
    assert sorted(queues) == ["enforce", "models", "notices", "upkeep"]


def test_each_runner_has_its_own_name_and_place_in_the_list_of_addresses():
    listed = catalogue.programs(web_host="", web_port=0, state="", runners=3, grace_s=20)
    runners = [program for program in listed if program.arguments[1] == "worker.runner.main"]
    assert [program.name for program in runners] == ["runner", "runner-2", "runner-3"]
    assert [program.arguments[2:] for program in runners] == [
        (), ("--number", "2"), ("--number", "3"),
    ]  # fmt: skip
    assert all(program.stop_s > 20 for program in runners)
    assert all(catalogue.is_program(program.name) for program in listed)
    assert not catalogue.is_program("runner-../x")


def test_the_models_worker_does_not_wait_for_a_training_when_stopped():
    named = {p.name: p for p in catalogue.programs(web_host="", web_port=0, state="")}
    assert named["worker-models"].stop_signal == "QUIT"
    assert named["worker-models"].environ == {"OMP_NUM_THREADS": "1"}


def test_urls_carry_the_passwords_in_a_form_that_needs_no_quoting(home):
    from urllib.parse import quote

    for word in home.passwords().values():
        assert quote(word, safe="") == word
    assert json.loads((home.path / "secrets.json").read_text()) == home.passwords()
