"""On real text, with trained experts: masked is the exported build without it, in every domain."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from unittest import mock

import pytest
import torch

from modelops.artefacts.manifest import BuildManifest
from modelops.artefacts.store import Store
from modelops.contract import ExpertRef
from modelops.corpus import jsonl, writer
from modelops.engine import routing
from modelops.merging.export import export
from modelops.model import flexolmo, tokenizer
from modelops.training import anchor, expert
from modelops.training.recipe import Schedule
from tests.modelops.engine.rig import make_rig
from tests.modelops.engine.test_export import stock_answer
from tests.modelops.engine.test_mutants import masked_after_softmax
from tests.modelops.training.conftest import ANCHOR, EXPERT, never, quiet
from tests.modelops.worlds import TinyWorld

CORPUS = Path(__file__).resolve().parents[4] / "shared" / "flexmix-mini"
CLOSED = ("news", "creative", "code", "academic", "education", "math", "forum")
SCHEDULE = Schedule(steps=90, warmup_steps=4)
pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason=f"needs the corpus at {CORPUS}")


def texts(domain: str, split: str) -> Iterator[jsonl.Document]:
    return jsonl.read(CORPUS / domain / f"{split}.jsonl.xz")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> TinyWorld:
    """An anchor on public text and an expert on each closed set, trained for a moment."""
    folder = tmp_path_factory.mktemp("domains")
    for domain in ("public", *CLOSED):
        writer.write(folder / domain / "train.jsonl.xz", islice(texts(domain, "train"), 12))
    anchor_recipe = replace(ANCHOR, max_positions=128, schedule=SCHEDULE)
    anchor.train(folder / "public", folder / "anchor", anchor_recipe, quiet, never)
    store = Store(folder / "store")
    anchor_digest = store.put_anchor(folder / "anchor")
    settings, experts = replace(EXPERT, schedule=SCHEDULE), {}
    for domain in CLOSED:
        expert.train(
            store, anchor_digest, folder / domain, folder / f"{domain}-expert", settings,
            quiet, never, public_path=folder / "public",
        )  # fmt: skip
        experts[domain] = store.put_expert(folder / f"{domain}-expert")
    refs = tuple(ExpertRef(name, digest) for name, digest in experts.items())
    build_digest = store.put_build(BuildManifest(anchor_digest, refs, top_k=2))
    words = tokenizer.load(store.path(store.anchor(anchor_digest).tokenizer_digest))
    config = flexolmo.load_config(store, anchor_digest)
    return TinyWorld(store, anchor_digest, experts, build_digest, config, words, {})


@pytest.fixture(scope="module")
def exported(mixed, tmp_path_factory):
    """For each domain the experts left and what their export answers to two of its texts.

    A domain's own expert is left out for its own prompts; for public text, all are."""
    found = {}
    for domain in ("public", *CLOSED):
        left = () if domain == "public" else tuple(name for name in CLOSED if name != domain)
        refs = tuple(ExpertRef(name, mixed.experts[name]) for name in left)
        digest = mixed.store.put_build(BuildManifest(mixed.anchor_digest, refs, top_k=2))
        folder = tmp_path_factory.mktemp("export") / domain
        export(mixed.store, digest, folder)
        prompts = [document.text[:60] for document in islice(texts(domain, "heldout"), 2)]
        found[domain] = left, {prompt: stock_answer(folder, prompt, 10) for prompt in prompts}
    return found


def assert_as_exported(rig, exported):
    """All domains' prompts in one batch get the tokens of the exports; returns the orders."""
    asked = {
        (domain, prompt): rig.ask(left, prompt)
        for domain, (left, answers) in exported.items()
        for prompt in answers
    }
    rig.run()
    for (domain, prompt), order_id in asked.items():
        tokens, logits_SV = exported[domain][1][prompt]
        found_SV = torch.stack(rig.logits[order_id])
        assert rig.tokens(order_id) == tokens, f"{domain}: expected the tokens of the export"
        assert (found_SV - logits_SV[: len(found_SV)]).abs().max() <= 1e-5
    return asked


def test_masked_equals_the_export_without_the_expert_in_every_domain(mixed, exported):
    rig = make_rig(mixed, max_rows=16)
    asked = assert_as_exported(rig, exported)
    whole = {masked: rig.ask(CLOSED, prompt) for (_, prompt), masked in asked.items()}
    rig.run()
    changed = sum(rig.tokens(masked) != rig.tokens(full) for masked, full in whole.items())
    assert changed, "experts that change nothing prove nothing"


def test_a_mask_after_the_softmax_is_not_what_was_exported(mixed, exported):
    with (
        mock.patch.object(routing, "shares", masked_after_softmax),
        pytest.raises(AssertionError),
    ):
        assert_as_exported(make_rig(mixed, max_rows=16), exported)
