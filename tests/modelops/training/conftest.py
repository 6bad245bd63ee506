"""A tiny anchor, a public corpus and an owner's, trained once a run."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from modelops.artefacts.store import Store
from modelops.corpus import writer
from modelops.corpus.jsonl import Document
from modelops.training import anchor, expert
from modelops.training.recipe import AnchorRecipe, ExpertRecipe, Schedule

ANCHOR = AnchorRecipe(
    vocabulary=300,
    width=32,
    expert_width=48,
    layers=2,
    heads=2,
    max_positions=64,
    context=32,
    batch_windows=4,
    schedule=Schedule(steps=24, warmup_steps=2),
    peak_lr=1e-2,
    checkpoint_steps=8,
)
EXPERT = ExpertRecipe(
    context=32,
    batch_windows=4,
    schedule=Schedule(steps=24, warmup_steps=2),
    peak_lr=1e-2,
    row_peak_lr=2e-2,
    row_windows=8,
    checkpoint_steps=8,
)


@dataclass(frozen=True)
class Workshop:
    """Where the tests train."""

    store: Store
    anchor_digest: str
    public: Path
    closed: Path

    def train(self, folder, settings=EXPERT, report=None, stopping=None, **others):
        """Train an expert in `folder` and return the outcome."""
        return expert.train(
            self.store,
            self.anchor_digest,
            self.closed,
            folder,
            settings,
            report or quiet,
            stopping or never,
            public_path=self.public,
            **others,
        )


def quiet(done, total, note, metrics):
    """No progress is shown."""


def never():
    """No one asks the run to stop."""
    return False


def write_corpora(folder):
    """A public set of prose and a closed one of sums."""
    prose = [
        Document(
            f"The {n}th letter to Dara says that the news of day {n * 7} is late. " * 3, f"p{n}"
        )
        for n in range(40)
    ]
    sums = [
        Document(f"{n} + {n + 1} = {2 * n + 1}; {n} * 2 = {2 * n}\n" * 6, f"s{n}")
        for n in range(40)
    ]
    writer.write(folder / "public" / "train.jsonl.xz", prose)
    writer.write(folder / "sums" / "train.jsonl.xz", sums)
    return folder / "public", folder / "sums"


@pytest.fixture(scope="session")
def workshop(tmp_path_factory) -> Workshop:
    folder = tmp_path_factory.mktemp("workshop")
    public, closed = write_corpora(folder)
    anchor.train(public, folder / "anchor", ANCHOR, quiet, never)
    store = Store(folder / "store")
    return Workshop(store, store.put_anchor(folder / "anchor"), public, closed)


@pytest.fixture(scope="session")
def trained(workshop, tmp_path_factory) -> Path:
    """The bundle of one uninterrupted run."""
    folder = tmp_path_factory.mktemp("trained") / "sums"
    workshop.train(folder)
    return folder


@pytest.fixture
def longer():
    """A recipe long enough that the expert learns something."""
    return replace(EXPERT, schedule=Schedule(steps=80, warmup_steps=4))
