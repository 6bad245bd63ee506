"""`python -m bench` lists the benchmarks by name; each runs as `python -m bench.NAME`."""

import importlib.util
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


if __name__ == "__main__":
    print(*names(), sep="\n")
