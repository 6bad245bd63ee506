"""The process list: what runs, by name. The demo and docker-compose.yml start the same commands."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

SERVERS = ("postgres", "redis")


@dataclass(frozen=True)
class Program:
    """One of our own processes.

    `arguments` follow the Python interpreter. `stop_signal` ends it; what has not ended after
    `stop_s` seconds is killed, which every one of them survives (follow-ups are rows, training
    resumes from its folder).
    """

    name: str
    arguments: tuple[str, ...]
    does: str
    environ: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = "TERM"
    stop_s: int = 10
    order: int = 100


def _celery_worker(queue: str, concurrency: int, *more: str) -> tuple[str, ...]:
    return (
        *("-m", "celery", "-A", "worker.celery", "worker", "--loglevel", "INFO"),
        *("-Q", queue, "-n", f"{queue}@%h", "-c", str(concurrency), *more),
    )


def _runner(number: int, stop_s: int) -> Program:
    which = () if number == 1 else ("--number", str(number))
    return Program(
        "runner" if number == 1 else f"runner-{number}",
        ("-m", "worker.runner.main", *which),
        "serves the build under its lease",
        stop_s=stop_s,
    )


def programs(
    *, web_host: str, web_port: int, state: str, runners: int = 1, grace_s: int = 5
) -> tuple[Program, ...]:
    """Our processes in starting order.

    Args:
        web_host: the address the web listens on.
        web_port: its TCP port.
        state: folder for the beat's schedule.
        runners: how many to start.
        grace_s: what web and runners give answers under way when they are stopped.
    """
    stop_s = grace_s + 10
    one_thread = {"OMP_NUM_THREADS": "1"}  # two trainings side by side must not fight for cores
    return (
        Program(
            "web",
            ("-m", "web.serve", "--host", web_host, "--port", str(web_port)),
            "pages, REST API and the OpenAI-compatible gateway",
            stop_s=stop_s,
            order=200,
        ),
        *(_runner(number, stop_s) for number in range(1, runners + 1)),
        Program(
            "worker-enforce",
            _celery_worker("enforce", 2),
            "blocks, unloads, erases, certifies; never waits behind training",
        ),
        Program(
            "worker-models",
            # a fresh child per task gives the memory of a training back to the machine
            _celery_worker("models", 2, "--max-tasks-per-child", "1"),
            "verifies, trains, audits, merges, exports",
            environ=one_thread,
            stop_signal="QUIT",  # a warm shutdown would wait for the whole training
        ),
        Program("worker-upkeep", _celery_worker("upkeep", 1), "seals the log, expires, tidies"),
        Program("worker-notices", _celery_worker("notices", 2), "tells people and endpoints"),
        Program("relay", ("-m", "worker.relay"), "hands due follow-ups to the queues"),
        Program(
            "beat",
            (
                *("-m", "celery", "-A", "worker.celery", "beat", "--loglevel", "INFO"),
                *("--pidfile=", "--schedule", f"{state}/beat-schedule"),
            ),
            "starts what is due by the clock",
        ),
    )


PROGRAM_NAMES = tuple(p.name for p in programs(web_host="", web_port=0, state=""))
"""With one runner; more are `runner-2` and so on."""


def is_program(name: str) -> bool:
    """Whether one of our processes may have this name."""
    return name in PROGRAM_NAMES or re.fullmatch(r"runner-[1-9]\d?", name) is not None
