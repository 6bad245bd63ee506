"""The process list: what runs, by name. The demo and docker-compose.yml start the same commands."""

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


def programs(*, web_host: str, web_port: int, state: str) -> tuple[Program, ...]:
    """Our processes in starting order.

    Args:
        web_host: the address the web listens on.
        web_port: its TCP port.
        state: folder for the beat's schedule.
    """
    one_thread = {"OMP_NUM_THREADS": "1"}  # two trainings side by side must not fight for cores
    return (
        Program(
            "web",
            ("-m", "uvicorn", "web.asgi:application", "--host", web_host, "--port", str(web_port)),
            "pages, REST API and the OpenAI-compatible gateway",
            order=200,
        ),
        Program("runner", ("-m", "worker.runner.main"), "serves the build under its lease"),
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
