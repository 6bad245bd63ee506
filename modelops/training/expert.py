"""Training one owner's expert beside the frozen anchor (paper §3.3).

Only the expert's feed-forward and its router rows learn. What is shared is frozen, and that is
checked, not assumed: every anchor tensor is digested again after training, and a run that moved
one is not published.
"""

# L layers, D hidden width, N tokens of a sample

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from modelops.artefacts import bundle
from modelops.artefacts.manifest import AnchorManifest, shared_digests
from modelops.artefacts.store import Store
from modelops.artefacts.tensors import load, tensor_digest
from modelops.corpus import merkle, split
from modelops.errors import TrainingError
from modelops.model import flexolmo, tokenizer
from modelops.training import batches, evaluation, loop, objective, recipe, router_rows, runs
from modelops.training.beside import Beside, frozen_tensors, own_tensors, place_beside
from modelops.training.recipe import ExpertRecipe

_SPLIT_KEY = b"reclaim held-out works"


@dataclass(frozen=True)
class _Material:
    """What the run reads: the anchor, and the two sides of every batch."""

    model: Any
    words: Tokenizer
    blocks: Sequence[Beside]
    own: batches.Batches
    public: batches.Batches


def train(
    store: Store,
    anchor_digest: str,
    corpus_path: Path,
    folder: Path,
    settings: ExpertRecipe,
    report: loop.Report,
    stopping: loop.Stopping,
    *,
    public_path: Path,
    secret: bytes = b"",
    threads: int = 1,
) -> runs.Outcome:
    """Train an expert on an owner's corpus and leave its bundle in `folder`.

    `public_path` is a public corpus, read for the share of each batch that shows the router where
    the expert does not help. With a `secret` (16 bytes or more) the manifest commits to the
    training documents (`merkle.commit`) and works are held out by it. Called again after a stop or
    a kill with the same arguments, it goes on from the last checkpoint, to the same bits.

    Raises:
        CorpusError: a corpus cannot be read or is too small.
        MissingArtefact: the store lacks the anchor.
        TrainingError: `folder` holds another run, the loss is not finite, or an anchor tensor is
            no longer what it was.
    """
    torch.set_num_threads(threads)
    corpus, public = split.digest(corpus_path), split.digest(public_path)
    identity = recipe.identity(settings, anchor=anchor_digest, corpus=corpus, public=public)
    if done := runs.finished(folder, identity):
        return done
    report(0, settings.schedule.steps, "reading", {})
    documents = split.open_corpus(corpus_path, secret or _SPLIT_KEY)
    material = _material(store, anchor_digest, documents, public_path, settings)
    sample = batches.first_bytes(documents.heldout, settings.evaluation_bytes)
    before = evaluation.bits_per_byte(material.model, material.words, sample, settings.context)
    plan = _plan(material, settings, identity, runs.place_for(folder))
    if not (plan.folder / loop.STATE).exists():
        _first_rows(material, settings)
    ended = loop.run(plan, report, stopping)
    if isinstance(ended, loop.Stopped):
        return ended
    after = evaluation.bits_per_byte(material.model, material.words, sample, settings.context)
    ended |= {"bits_per_byte_anchor": before, "bits_per_byte": after}
    root = merkle.commit(documents.train, secret).root if secret else ""
    tensors, shared = (
        own_tensors(material.model),
        still_frozen(store, anchor_digest, material.model),
    )
    fields = recipe.as_fields(settings)
    return runs.publish(
        folder,
        identity,
        ended,
        lambda to: bundle.write_expert(to, tensors, anchor_digest, shared, fields, root),
    )


def still_frozen(store: Store, anchor_digest: str, model: Any) -> dict[str, str]:
    """The digest of each anchor tensor as the trained model holds it.

    Raises:
        TrainingError: one differs from the anchor's; nothing may be published.
    """
    found = {name: tensor_digest(tensor) for name, tensor in frozen_tensors(model).items()}
    expected = shared_digests(store.anchor(anchor_digest))
    moved = sorted(name for name in expected | found if expected.get(name) != found.get(name))
    if moved:
        raise TrainingError(
            f"expected every shared tensor bit-equal to the anchor's, found {len(moved)} changed "
            f"({', '.join(moved[:3])}); this expert must not leave, train it again from the anchor"
        )
    return found


def _material(
    store: Store,
    anchor_digest: str,
    documents: split.Split,
    public_path: Path,
    settings: ExpertRecipe,
) -> _Material:
    manifest: AnchorManifest = store.anchor(anchor_digest)
    words = tokenizer.load(store.path(manifest.tokenizer_digest))
    config = flexolmo.load_config(store, anchor_digest)
    model: Any = flexolmo.compose(config, load(store.path(manifest.weights_digest)), [])
    encode = tokenizer.plain_encoder(words)
    public = batches.first_bytes(
        split.in_chance_order(split.open_corpus(public_path, _SPLIT_KEY).train, _SPLIT_KEY),
        settings.public_bytes,
    )
    own = batches.first_bytes(
        split.in_chance_order(documents.train, _SPLIT_KEY), settings.corpus_bytes
    )
    own_windows = batches.windows_of(own, encode, settings.context)
    public_windows = batches.windows_of(public, encode, settings.context)
    own_count = settings.batch_windows - settings.public_windows
    return _Material(
        model=model,
        words=words,
        blocks=place_beside(model),
        own=batches.Batches(own_windows, own_count, settings.seed),
        public=batches.Batches(public_windows, settings.public_windows, settings.seed + 1),
    )


def _first_rows(material: _Material, settings: ExpertRecipe) -> None:
    own = router_rows.hidden_states(material.model, material.own.sample(settings.row_windows))
    public = router_rows.hidden_states(material.model, material.public.sample(settings.row_windows))
    with torch.no_grad():
        for block, own_ND, public_ND in zip(material.blocks, own, public, strict=True):
            difference_D = router_rows.between(
                own_ND, public_ND, settings.row_target, settings.row_ridge
            )
            block.row.copy_(block.public_row + difference_D)
    _cap_rows(material.blocks, settings.row_norm_cap)


def _plan(material: _Material, settings: ExpertRecipe, identity: str, place: Path) -> loop.Plan:
    own_windows = settings.batch_windows - settings.public_windows

    def loss(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        tokens_BT = torch.cat((material.own.at(step), material.public.at(step)))
        nats, partition = objective.language_loss(material.model, tokens_BT)
        logits = [block.logits for block in material.blocks if block.logits is not None]
        contrast = objective.contrast_loss(logits, own_windows, settings.own_prior)
        whole = (
            nats
            + settings.z_loss * partition
            + settings.router_z_loss * objective.router_z_loss(logits)
            + settings.contrast * contrast
        )
        return whole, {"loss": float(nats.detach()), "contrast": float(contrast.detach())}

    rows = {f"{n}.row": block.row for n, block in enumerate(material.blocks)}
    weights = {f"{n}.gate_up": block.gate_up for n, block in enumerate(material.blocks)}
    weights |= {f"{n}.down": block.down for n, block in enumerate(material.blocks)}
    return loop.Plan(
        identity=identity,
        folder=place,
        groups=(
            loop.Group(weights, settings.peak_lr),
            loop.Group(rows, settings.row_peak_lr),
        ),
        schedule=settings.schedule,
        loss=loss,
        betas=settings.betas,
        clip_norm=settings.clip_norm,
        checkpoint_steps=settings.checkpoint_steps,
        settle=lambda: _cap_rows(material.blocks, settings.row_norm_cap),
    )


def _cap_rows(blocks: Sequence[Beside], longest: float) -> None:
    """Shorten rows beyond the cap: no owner may take the router over by size."""
    with torch.no_grad():
        for block in blocks:
            length = float(block.row.norm())
            if length > longest:
                block.row.mul_(longest / length)
