"""Training an anchor."""

import math

import pytest
import torch

from modelops.artefacts import tensors as tensor_files
from modelops.artefacts.store import Store
from modelops.corpus import packing
from modelops.corpus.jsonl import Document
from modelops.errors import CorpusError, TrainingError
from modelops.model import flexolmo, tokenizer
from modelops.training import anchor, batches, evaluation, loop, objective, recipe, router_rows
from modelops.training.recipe import Schedule
from tests.modelops.training.conftest import ANCHOR, EXPERT, never, quiet


def test_a_stopped_anchor_goes_on_to_the_same_bits(workshop, tmp_path):
    steps = iter([False] * 13 + [True])
    outcome = anchor.train(workshop.public, tmp_path / "a", ANCHOR, quiet, lambda: next(steps))
    assert outcome == loop.Stopped(13, 24)
    anchor.train(workshop.public, tmp_path / "a", ANCHOR, quiet, never)
    assert Store(tmp_path / "store").put_anchor(tmp_path / "a") == workshop.anchor_digest


def test_an_anchor_learns_and_loads_as_a_stock_model(workshop, tmp_path):
    outcome = anchor.train([workshop.public], tmp_path / "a", ANCHOR, quiet, never)
    assert outcome.metrics["bits_per_byte"] < 5
    model = flexolmo.assemble(workshop.store, workshop.anchor_digest, {})
    assert model.config.num_experts == 1


def test_the_public_router_row_is_zero(workshop):
    weights = workshop.store.anchor(workshop.anchor_digest).weights_digest
    tensors = tensor_files.load(workshop.store.path(weights))
    rows = [tensor for name, tensor in tensors.items() if name.endswith("mlp.gate.weight")]
    assert len(rows) == 2
    assert not torch.stack(rows).any()


def test_progress_is_reported_from_reading_to_the_end(workshop, tmp_path):
    seen = []
    anchor.train(workshop.public, tmp_path / "a", ANCHOR, lambda *all_: seen.append(all_), never)
    assert seen[0][:3] == (0, 24, "reading")
    assert [done for done, *_ in seen] == [0, 10, 20, 24]
    assert math.isfinite(seen[-1][3]["loss"])


def test_the_schedule_warms_up_and_ends_at_its_floor():
    schedule = Schedule(steps=100, warmup_steps=10, floor=0.1)
    factors = [loop.lr_factor(step, schedule) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[9] == factors[10] == 1
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[-1] == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize(("steps", "warmup"), [(5, 5), (0, 0), (5, -1)])
def test_an_impossible_schedule_is_refused(steps, warmup):
    with pytest.raises(TrainingError, match="correct the recipe"):
        Schedule(steps=steps, warmup_steps=warmup)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_batch_needs_both_sides(share):
    from dataclasses import replace

    with pytest.raises(TrainingError, match="own and one public"):
        replace(EXPERT, public_share=share)


def test_the_demo_recipes_stay_within_what_the_gate_admits():
    from modelops.artefacts.gate import Limits

    assert recipe.demo_expert().row_norm_cap <= Limits().router_row_norm
    assert recipe.demo_expert().context <= recipe.demo_anchor().max_positions


def test_each_pass_reads_every_window_once_in_an_order_of_its_own():
    windows = packing.pack([range(5, 400)], 0).windows(4)
    order = batches.Batches(windows, 7, seed=3)
    passes = len(windows) * 2 // 7 + 1
    read = [tuple(row.tolist()) for step in range(passes) for row in order.at(step)]
    first, second = read[: len(windows)], read[len(windows) : 2 * len(windows)]
    assert sorted(first) == sorted(second) == sorted(map(tuple, windows.tolist()))
    assert first != second


def test_a_step_reads_the_same_whatever_was_read_before():
    windows = packing.pack([range(5, 400)], 0).windows(4)
    one, other = (batches.Batches(windows, 7, seed=3) for _ in range(2))
    one.at(40)
    assert torch.equal(one.at(2), other.at(2))


def test_bits_a_byte_of_a_uniform_model_are_those_of_its_vocabulary():
    class Uniform(torch.nn.Module):
        def forward(self, input_ids, use_cache):
            logits = torch.zeros(*input_ids.shape, 512)
            return type("Out", (), {"logits": logits})

    words = tokenizer.train(["no merges"], 300)
    documents = [Document("x" * 100, "a"), Document("yz" * 33, "b")]
    encode = tokenizer.plain_encoder(words)
    tokens = sum(len(encode(document.text)) for document in documents)
    found = evaluation.bits_per_byte(Uniform(), words, documents, context=16)
    assert found == pytest.approx(tokens * 9 / 166)


def test_bits_a_byte_need_text(workshop):
    with pytest.raises(CorpusError, match="text to measure"):
        evaluation.bits_per_byte(None, tokenizer.train(["a"], 300), [])
    with pytest.raises(CorpusError, match="at least one document"):
        batches.first_bytes([], 10)


def test_the_first_row_tells_own_text_from_public_text():
    chance = torch.Generator().manual_seed(0)
    common = 5 * torch.randn(8, generator=chance)
    apart = torch.zeros(8)
    apart[3] = 1.0
    public = common + torch.randn(500, 8, generator=chance)
    own = common + 2 * apart + torch.randn(300, 8, generator=chance)
    row = router_rows.between(own, public, target=2.0, ridge=1e-3)
    assert (own @ row).mean() > 0 > (public @ row).mean()


def test_contrast_is_least_at_the_log_odds():
    own, public = 0.8, 0.2  # a token seen four times as often in own text
    losses = {}
    for margin in (0.0, math.log(own / public), 3.0):
        logits = torch.tensor([0.0, margin]).expand(2, 1, 2)
        sides = objective.contrast_loss([logits], 1, own_prior=own)
        losses[margin] = float(sides)
    assert min(losses, key=losses.get) == math.log(own / public)
