"""Training the anchor: the public model that every expert is trained beside and served with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn

from modelops.artefacts import bundle
from modelops.corpus import split
from modelops.corpus.jsonl import Document
from modelops.model import flexolmo, tokenizer
from modelops.training import batches, evaluation, loop, objective, recipe, runs
from modelops.training.beside import Alone
from modelops.training.recipe import AnchorRecipe

_SPLIT_KEY = b"reclaim public held-out works"
_TOKENIZER = "tokenizer.json"


def train(
    corpus_paths: Path | Sequence[Path],
    folder: Path,
    settings: AnchorRecipe,
    report: loop.Report,
    stopping: loop.Stopping,
    *,
    threads: int = 1,
) -> runs.Outcome:
    """Train an anchor on public corpora and leave its bundle in `folder`.

    Each corpus is a set folder or a file (`split.open_corpus`). Called again after a stop or a
    kill with the same arguments, it goes on from the last checkpoint, to the same bits. The
    router row of the public expert is zero: softmax knows only differences between rows, so each
    owner's row is then the log-odds of its own text against public text.

    Raises:
        CorpusError: a corpus cannot be read or is too small.
        TrainingError: `folder` holds another run, or the loss is not finite.
    """
    paths = [corpus_paths] if isinstance(corpus_paths, Path) else list(corpus_paths)
    torch.set_num_threads(threads)
    inputs = {f"corpus {n}": split.digest(path) for n, path in enumerate(paths)}
    identity = recipe.identity(settings, **inputs)
    if done := runs.finished(folder, identity):
        return done
    report(0, settings.schedule.steps, "reading", {})
    parts = [split.open_corpus(path, _SPLIT_KEY) for path in paths]
    documents = batches.first_bytes(
        split.in_chance_order((d for part in parts for d in part.train), _SPLIT_KEY),
        settings.corpus_bytes,
    )
    words = _tokenizer(documents, settings, runs.place_for(folder) / _TOKENIZER)
    model = _new_model(words, settings)
    ended = loop.run(
        _plan(model, words, documents, settings, identity, runs.place_for(folder)), report, stopping
    )
    if isinstance(ended, loop.Stopped):
        return ended
    heldout = [document for part in parts for document in part.heldout]
    sample = batches.first_bytes(heldout, settings.evaluation_bytes)
    ended["bits_per_byte"] = evaluation.bits_per_byte(model, words, sample, settings.context)
    return runs.publish(folder, identity, ended, _writer(model, words))


def _tokenizer(documents: Sequence[Document], settings: AnchorRecipe, path: Path) -> Tokenizer:
    """The run's tokenizer, trained once and then read back, so that a resumed run has the same."""
    if not path.exists():
        made = tokenizer.train((document.text for document in documents), settings.vocabulary)
        part = path.with_suffix(".part")
        part.write_bytes(tokenizer.to_json(made))
        part.replace(path)
    return tokenizer.load(path)


def _new_model(words: Tokenizer, settings: AnchorRecipe) -> Any:
    config = flexolmo.tiny_config(
        words.get_vocab_size(),
        hidden_size=settings.width,
        intermediate_size=settings.expert_width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        max_position_embeddings=settings.max_positions,
        rope_parameters={"rope_type": "default", "rope_theta": settings.rope_theta},
    )
    model = flexolmo.new_anchor_model(config, settings.seed)
    for layer in model.model.layers:
        nn.init.zeros_(layer.mlp.gate.weight).requires_grad_(False)
        layer.mlp = Alone(layer.mlp)
    return model.train()


def _plan(
    model: Any,
    words: Tokenizer,
    documents: Sequence[Document],
    settings: AnchorRecipe,
    identity: str,
    place: Path,
) -> loop.Plan:
    encode = tokenizer.plain_encoder(words)
    windows = batches.windows_of(documents, encode, settings.context)
    order = batches.Batches(windows, settings.batch_windows, settings.seed)

    def loss(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        nats, partition = objective.language_loss(model, order.at(step))
        return nats + settings.z_loss * partition, {"loss": float(nats.detach())}

    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    matrices = {name: p for name, p in trained.items() if p.ndim > 1}
    norms = {name: p for name, p in trained.items() if p.ndim < 2}
    return loop.Plan(
        identity=identity,
        folder=place,
        groups=(
            loop.Group(matrices, settings.peak_lr, settings.weight_decay),
            loop.Group(norms, settings.peak_lr),
        ),
        schedule=settings.schedule,
        loss=loss,
        betas=settings.betas,
        clip_norm=settings.clip_norm,
        checkpoint_steps=settings.checkpoint_steps,
    )


def _writer(model: Any, words: Tokenizer) -> Callable[[Path], object]:
    def write(folder: Path) -> object:
        for layer in model.model.layers:
            layer.mlp = layer.mlp.block
        tensors = flexolmo.anchor_tensors(model)
        config = flexolmo.config_json(model.config)
        return bundle.write_anchor(folder, tensors, config, tokenizer.to_json(words))

    return write
