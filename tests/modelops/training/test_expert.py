"""An expert learns its own domain, and nothing else of the model moves."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from modelops.artefacts import tensors as tensor_files
from modelops.artefacts.gate import examine
from modelops.artefacts.manifest import ExpertManifest, shared_digests
from modelops.corpus import merkle, split
from modelops.errors import TrainingError
from modelops.model import flexolmo
from modelops.training import beside, expert, loop, objective
from modelops.training.runs import Finished
from tests.modelops.training.conftest import EXPERT, Workshop, never, quiet

KILLED_AT = 20  # between the checkpoints of steps 16 and 24


def manifest_of(folder):
    return ExpertManifest.from_json((folder / "manifest.json").read_bytes())


def beside_model(workshop):
    config = flexolmo.load_config(workshop.store, workshop.anchor_digest)
    weights = workshop.store.anchor(workshop.anchor_digest).weights_digest
    model = flexolmo.compose(config, tensor_files.load(workshop.store.path(weights)), [])
    beside.place_beside(model)
    return model


def test_an_expert_lowers_the_bits_of_its_own_text(workshop, tmp_path, longer):
    outcome = workshop.train(tmp_path / "sums", longer)
    assert isinstance(outcome, Finished)
    before, after = (outcome.metrics[f"bits_per_byte{which}"] for which in ("_anchor", ""))
    assert after < 0.9 * before
    assert outcome.metrics["contrast"] < 0.4  # chance would be ln 2


def test_what_is_shared_is_bit_equal_to_the_anchor_afterwards(workshop, trained):
    expected = shared_digests(workshop.store.anchor(workshop.anchor_digest))
    assert manifest_of(trained).shared == expected


def test_the_bundle_passes_the_gate_and_holds_nothing_else(workshop, trained):
    config = flexolmo.load_config(workshop.store, workshop.anchor_digest)
    report = examine(trained, workshop.store.anchor(workshop.anchor_digest), config)
    assert report.passed, report.refusals
    assert {path.name for path in trained.iterdir()} == {"weights.safetensors", "manifest.json"}
    assert not (trained.with_name("sums.training") / loop.STATE).exists()


@pytest.mark.parametrize("name", ["public_row", "public_down", "public_gate_up"])
def test_a_moved_public_expert_is_never_published(workshop, name):
    model = beside_model(workshop)
    expert.still_frozen(workshop.store, workshop.anchor_digest, model)
    with torch.no_grad():
        getattr(model.model.layers[1].mlp, name).view(-1)[0] += 1e-7
    with pytest.raises(TrainingError, match="1 changed"):
        expert.still_frozen(workshop.store, workshop.anchor_digest, model)


def test_a_run_that_moves_a_shared_tensor_leaves_no_bundle(workshop, tmp_path, monkeypatch):
    """The mutant: a step that also nudges the embedding, as an optimiser with decay would."""

    def with_a_nudge(model, tokens_BT):
        with torch.no_grad():
            model.model.embed_tokens.weight.mul_(1 - 1e-4)
        return language_loss(model, tokens_BT)

    language_loss = objective.language_loss
    monkeypatch.setattr(objective, "language_loss", with_a_nudge)
    with pytest.raises(TrainingError, match="must not leave"):
        workshop.train(tmp_path / "sums")
    assert not (tmp_path / "sums").exists()


def test_training_reaches_only_the_owners_parameters(workshop):
    model = beside_model(workshop)
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    own = {f"model.layers.{n}.mlp.{part}" for n in range(2) for part in ("gate_up", "down", "row")}
    assert trainable == own


def test_the_pair_in_training_computes_what_the_stock_build_computes(workshop, trained):
    store, digest = workshop.store, workshop.anchor_digest
    build = flexolmo.assemble(store, digest, {"sums": store.put_expert(trained)}, top_k=2)
    own = tensor_files.load(trained / "weights.safetensors")
    model = beside_model(workshop)
    with torch.no_grad():
        for n, layer in enumerate(model.model.layers):
            part = f"model.layers.{n}.mlp.expert.{{}}_proj.weight".format
            layer.mlp.gate_up.copy_(torch.cat((own[part("gate")], own[part("up")])))
            layer.mlp.down.copy_(own[part("down")])
            layer.mlp.row.copy_(own[f"model.layers.{n}.mlp.router_row"])
        ids = torch.arange(5, 45).view(2, 20)
        difference = (build(input_ids=ids).logits - model(input_ids=ids).logits).abs().max()
    assert difference <= 1e-5
    assert beside.own_tensors(model).keys() == own.keys()


def test_a_killed_run_ends_in_the_same_bits(workshop, trained, tmp_path):
    folder = tmp_path / "sums"
    script = tmp_path / "victim.py"
    script.write_text(
        "import sys\n"
        "from tests.modelops.training.test_expert import be_killed\n"
        "be_killed(*sys.argv[1:])\n"
    )
    arguments = [
        workshop.store.root,
        workshop.anchor_digest,
        workshop.public,
        workshop.closed,
        folder,
    ]
    root = Path(__file__).parents[3]
    ended = subprocess.run(
        [sys.executable, script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        check=False,
        timeout=120,
    )
    assert ended.returncode == -signal.SIGKILL
    assert not folder.exists()
    seen = []
    workshop.train(folder, report=lambda done, *_: seen.append(done))
    assert min(step for step in seen if step) > 16  # it went on, it did not begin again
    assert (folder / "weights.safetensors").read_bytes() == (
        trained / "weights.safetensors"
    ).read_bytes()
    assert manifest_of(folder) == manifest_of(trained)


def be_killed(root, anchor_digest, public, closed, folder):
    """What the victim runs: training that is killed from outside its own control flow."""
    from modelops.artefacts.store import Store

    def report(done, total, note, metrics):
        if done >= KILLED_AT:
            os.kill(os.getpid(), signal.SIGKILL)

    shop = Workshop(Store(Path(root)), anchor_digest, Path(public), Path(closed))
    shop.train(Path(folder), report=report)


def test_a_stopped_run_goes_on_where_it_was(workshop, trained, tmp_path):
    steps = iter([False] * 5 + [True])
    outcome = workshop.train(tmp_path / "sums", stopping=lambda: next(steps))
    assert outcome == loop.Stopped(5, 24)
    workshop.train(tmp_path / "sums")
    assert (tmp_path / "sums" / "weights.safetensors").read_bytes() == (
        trained / "weights.safetensors"
    ).read_bytes()


def test_a_finished_run_is_not_run_again(workshop, trained):
    called = []
    outcome = workshop.train(trained, report=lambda *_: called.append(1))
    assert isinstance(outcome, Finished)
    assert not called


def test_another_recipe_does_not_take_over_a_run(workshop, trained, tmp_path):
    other = replace(EXPERT, seed=1)
    with pytest.raises(TrainingError, match="another folder"):
        workshop.train(trained, other)
    steps = iter([False] * 3 + [True])
    workshop.train(tmp_path / "sums", stopping=lambda: next(steps))
    with pytest.raises(TrainingError, match="another run"):
        workshop.train(tmp_path / "sums", other)


def test_a_damaged_checkpoint_is_refused(workshop, tmp_path):
    steps = iter([False] * 3 + [True])
    workshop.train(tmp_path / "sums", stopping=lambda: next(steps))
    state = tmp_path / "sums.training" / loop.STATE
    state.write_bytes(state.read_bytes()[:-40])
    with pytest.raises(TrainingError, match="damage"):
        workshop.train(tmp_path / "sums")


def test_a_secret_commits_the_expert_to_its_documents(workshop, tmp_path):
    secret = b"alder press keeps this to itself"
    workshop.train(tmp_path / "sums", secret=secret)
    train = split.open_corpus(workshop.closed, secret).train
    assert manifest_of(tmp_path / "sums").corpus_root == merkle.commit(train, secret).root


def test_the_recipe_is_published_with_every_number(trained):
    recipe = json.loads((trained / "manifest.json").read_bytes())["recipe"]
    assert recipe["schedule"]["steps"] == 24
    assert recipe["peak_lr"] == EXPERT.peak_lr


def test_no_router_row_is_longer_than_the_cap(workshop, tmp_path):
    workshop.train(tmp_path / "sums", replace(EXPERT, row_peak_lr=1.0, row_norm_cap=0.5))
    own = tensor_files.load(tmp_path / "sums" / "weights.safetensors")
    rows = [tensor.norm() for name, tensor in own.items() if name.endswith("router_row")]
    assert max(rows) == pytest.approx(0.5, rel=1e-5)


def test_a_diverging_run_says_so_and_publishes_nothing(workshop, tmp_path, monkeypatch):
    def infinite(model, tokens_BT):
        nats, partition = language_loss(model, tokens_BT)
        return nats * float("inf"), partition

    language_loss = objective.language_loss
    monkeypatch.setattr(objective, "language_loss", infinite)
    with pytest.raises(TrainingError, match="finite loss at step 0"):
        workshop.train(tmp_path / "sums", report=quiet, stopping=never)
    assert not (tmp_path / "sums").exists()
