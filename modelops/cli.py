"""The owner's kit: train at home, check before sending, audit, export. No server is needed.

Everything works on folders: `STORE` holds artefacts by digest (the anchor's bundle is put there
with `reclaim admit`), and what leaves the house is the expert's bundle folder, never text. Heavy
imports wait until a command needs them.
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
from pathlib import Path
from typing import Annotated, Any

import typer

from modelops.errors import ModelopsError

app = typer.Typer(no_args_is_help=True)

StoreFolder = Annotated[Path, typer.Option("--store", help="Folder of artefacts by digest.")]
Anchor = Annotated[str, typer.Option("--anchor", help="Digest of the anchor.")]
KIT = Path("reclaim-kit")


def _fail(error: ModelopsError) -> typer.Exit:
    typer.echo(f"reclaim: {error}", err=True)
    return typer.Exit(1)


@app.command()
def admit(bundle: Path, store: StoreFolder = KIT) -> None:
    """Put an anchor's bundle folder into the store and print its digest."""
    from modelops.artefacts.store import Store

    try:
        typer.echo(Store(store).put_anchor(bundle))
    except ModelopsError as error:
        raise _fail(error) from error


@app.command()
def train(
    corpus: Annotated[Path, typer.Argument(help="A set folder or a .jsonl[.xz|.zst|.gz].")],
    public: Annotated[Path, typer.Option(help="Public text: shows where the expert is no help.")],
    anchor: Anchor,
    out: Annotated[Path, typer.Option(help="The bundle to send; a stopped run goes on here.")],
    store: StoreFolder = KIT,
    steps: Annotated[int, typer.Option(min=20)] = 280,
    threads: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Train an expert beside the frozen anchor, on text that stays where it is."""
    from modelops.artefacts.store import Store
    from modelops.training import expert, recipe

    chosen = recipe.demo_expert()
    chosen = dataclasses.replace(chosen, schedule=dataclasses.replace(chosen.schedule, steps=steps))

    def report(done: int, total: int, note: str, metrics: Any) -> None:
        figures = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
        typer.echo(f"{done}/{total} {note} {figures}".rstrip(), err=True)

    try:
        expert.train(
            Store(store), anchor, corpus, out, chosen, report, lambda: False,
            public_path=public, threads=threads,
        )  # fmt: skip
    except ModelopsError as error:
        raise _fail(error) from error
    typer.echo(str(out))


@app.command()
def check(
    bundle: Path,
    anchor: Anchor,
    store: StoreFolder = KIT,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Examine a bundle as the gate will: exit code 1 with every refusal, 0 when it passes."""
    from modelops.artefacts import gate
    from modelops.artefacts.store import Store
    from modelops.model import flexolmo

    try:
        held = Store(store)
        found = gate.examine_apart(bundle, held.anchor(anchor), flexolmo.load_config(held, anchor))
    except ModelopsError as error:
        raise _fail(error) from error
    if as_json:
        refusals = [dataclasses.asdict(refusal) for refusal in found.refusals]
        typer.echo(json.dumps({"passed": found.passed, "refusals": refusals}))
    for refusal in found.refusals if not as_json else ():
        typer.echo(
            f"{refusal.code} {refusal.tensor}: expected {refusal.expected}, found "
            f"{refusal.found}. {refusal.remedy}"
        )
    if not found.passed:
        raise typer.Exit(1)
    if not as_json:
        typer.echo("the gate would let it pass")


@app.command()
def sketch(
    corpus: Path,
    secret: Annotated[
        Path, typer.Option(help="Your commitment secret; made here if it does not exist. Keep it.")
    ] = Path("commitment.key"),
) -> None:
    """Describe a corpus without giving it away; prints a root and a sketch as JSON to upload."""
    from modelops.corpus import jsonl, merkle
    from modelops.corpus import sketch as sketches

    try:
        commitment = merkle.commit(jsonl.read(corpus), _secret_at(secret))
        found = sketches.sketch(jsonl.read(corpus))
    except ModelopsError as error:
        raise _fail(error) from error
    fields = {**dataclasses.asdict(found), "merkle_root": commitment.root}
    typer.echo(json.dumps(fields, separators=(",", ":")))


def _secret_at(path: Path) -> bytes:
    """The owner's secret, from a file only the owner can read; made on first use."""
    if not path.exists():
        with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(secrets.token_bytes(32))
    return path.read_bytes()


@app.command()
def audit(
    bundle: Path,
    members: Annotated[Path, typer.Option(help="Documents it was trained on.")],
    controls: Annotated[Path, typer.Option(help="Held-out documents of the same source.")],
    anchor: Anchor,
    store: StoreFolder = KIT,
    threshold: Annotated[float, typer.Option(min=0, max=1)] = 0.01,
    seed: int = 1,
) -> None:
    """How much of its training text the expert gives away; prints the report as JSON."""
    from modelops.artefacts.store import Store
    from modelops.audits import report

    try:
        held = Store(store)
        found = report.audit_expert(
            held, anchor, bundle.name, held.put_expert(bundle),
            members_path=members, controls_path=controls, seed=seed, threshold=threshold,
        )  # fmt: skip
    except ModelopsError as error:
        raise _fail(error) from error
    typer.echo(json.dumps(found.to_json(), indent=1))


@app.command()
def export(build: str, folder: Path, store: StoreFolder = KIT) -> None:
    """Write a build as a folder that transformers and vLLM load."""
    from modelops.artefacts.store import Store
    from modelops.merging import export as merging

    try:
        merging.export(Store(store), build, folder)
    except ModelopsError as error:
        raise _fail(error) from error
    typer.echo(str(folder))
