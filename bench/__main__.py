"""`python -m bench` lists the benchmarks that can run here; each runs as `python -m bench.NAME`."""

import importlib.util
import sys
from pathlib import Path


def names() -> list[str]:
    """Every module beside this one that has a `main` to run; stubs are parts of the others."""
    modules = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))
    return [
        name for name in modules if not name.startswith("stub_") and "\ndef main(" in _source(name)
    ]


def _source(name: str) -> str:
    found = importlib.util.find_spec(f"bench.{name}")
    return Path(found.origin).read_text() if found and found.origin else ""


def missing(name: str) -> str:
    """What this machine lacks for a benchmark; empty where it can run."""
    if name == "vllm" and importlib.util.find_spec("vllm") is None:
        return "vLLM is not installed"
    if name == "gpu" and not _has_gpu():
        return "there is no CUDA device"
    return ""


def _has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


if __name__ == "__main__":
    for one in names():
        if lack := missing(one):
            print(f"left out: bench.{one}, because {lack}", file=sys.stderr)
        else:
            print(one)
