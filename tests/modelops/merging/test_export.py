"""Exports: a folder that stock transformers loads, and that is the build it says."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, FlexOlmoForCausalLM

from modelops.artefacts.manifest import BuildManifest
from modelops.contract import ExpertRef
from modelops.errors import AnchorMismatch, MergeError, MissingArtefact
from modelops.merging.export import BUILD, export
from modelops.model import flexolmo

TEXT = "Dara asks a question."


@pytest.fixture(scope="module")
def exported(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports") / "build"
    return export(tiny.store, tiny.build_digest, folder)


def refs(world, *names):
    return tuple(ExpertRef(name, world.experts[name]) for name in names)


def logits(model, ids):
    with torch.no_grad():
        return model(ids).logits


def test_stock_transformers_loads_it_and_says_what_the_assembled_build_says(tiny, exported):
    loaded, report = AutoModelForCausalLM.from_pretrained(exported.folder, output_loading_info=True)
    words = AutoTokenizer.from_pretrained(exported.folder)
    assert isinstance(loaded, FlexOlmoForCausalLM)
    assert not any(report.values())
    ids = words(TEXT, return_tensors="pt").input_ids
    assert ids[0].tolist() == tiny.tokenizer.encode(TEXT).ids
    assembled = flexolmo.assemble(tiny.store, tiny.anchor_digest, tiny.experts, top_k=2)
    assert torch.equal(logits(loaded, ids), logits(assembled, ids))
    assert loaded.config.num_experts == 4
    assert loaded.config.num_experts_per_tok == 2
    assert loaded.dtype == torch.float32


def test_it_generates_and_stops_by_the_tokenizers_ids(exported):
    loaded = AutoModelForCausalLM.from_pretrained(exported.folder)
    words = AutoTokenizer.from_pretrained(exported.folder)
    settings = loaded.generation_config
    assert settings.eos_token_id == words.eos_token_id == loaded.config.eos_token_id == 0
    assert settings.pad_token_id == words.pad_token_id == loaded.config.pad_token_id == 1
    asked = words(TEXT, return_tensors="pt")
    answer = loaded.generate(**asked, max_new_tokens=3, do_sample=False)
    assert answer.shape[1] > asked.input_ids.shape[1]


@pytest.mark.parametrize("names", [(), ("alder-news",), ("alder-notes", "birch-archive")])
def test_a_build_of_fewer_experts_loads_with_top_k_clamped(tiny, tmp_path, names):
    manifest = BuildManifest(tiny.anchor_digest, refs(tiny, *names), top_k=4)
    out = export(tiny.store, tiny.store.put_build(manifest), tmp_path / "out")
    loaded = AutoModelForCausalLM.from_pretrained(out.folder)
    ids = torch.tensor([[5, 9, 100]])
    assembled = flexolmo.assemble(
        tiny.store, tiny.anchor_digest, {n: tiny.experts[n] for n in names}, top_k=4
    )
    assert loaded.config.num_experts_per_tok == len(names) + 1
    assert torch.equal(logits(loaded, ids), logits(assembled, ids))


def test_the_report_lists_every_file_of_the_folder(exported):
    assert [f.name for f in exported.files] == sorted(p.name for p in exported.folder.iterdir())
    for file in exported.files:
        assert file.size_bytes == (exported.folder / file.name).stat().st_size


def test_the_folder_says_which_build_it_is(tiny, exported):
    stated = BuildManifest.from_json((exported.folder / BUILD).read_bytes())
    assert stated == tiny.store.build(tiny.build_digest)


def test_the_index_points_every_tensor_to_its_file(exported):
    index = json.loads((exported.folder / "model.safetensors.index.json").read_bytes())
    assert set(index["weight_map"].values()) == {
        file.name for file in exported.files if file.name.endswith(".safetensors")
    }


def test_repeating_an_export_changes_nothing(tiny, tmp_path):
    first = export(tiny.store, tiny.build_digest, tmp_path / "out")
    again = export(tiny.store, tiny.build_digest, tmp_path / "out")
    assert [f.digest for f in again.files] == [f.digest for f in first.files]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_holds_something_else_is_left_alone(tiny, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(MergeError, match="something else"):
        export(tiny.store, tiny.build_digest, tmp_path / "mine")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["letter.txt"]


def test_another_build_never_overwrites_an_export(tiny, tmp_path):
    export(tiny.store, tiny.build_digest, tmp_path / "out")
    other = tiny.store.put_build(BuildManifest(tiny.anchor_digest, refs(tiny, "alder-news"), 1))
    with pytest.raises(MergeError):
        export(tiny.store, other, tmp_path / "out")


def test_unfinished_work_of_another_build_is_not_taken_up(tiny, tmp_path):
    partial = tmp_path / "out.partial"
    other = tiny.store.put_build(BuildManifest(tiny.anchor_digest, refs(tiny, "alder-news"), 1))
    export(tiny.store, other, tmp_path / "other").folder.rename(partial)
    (partial / "left").mkdir()
    report = export(tiny.store, tiny.build_digest, tmp_path / "out")
    assert not any(file.was_kept for file in report.files)
    assert [f.name for f in report.files] == sorted(p.name for p in report.folder.iterdir())


def test_two_exports_into_one_folder_at_once_are_refused(tiny, tmp_path):
    partial = tmp_path / "out.partial"
    partial.mkdir()
    fd = os.open(partial, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with pytest.raises(MergeError, match="under way"):
            export(tiny.store, tiny.build_digest, tmp_path / "out")
    finally:
        os.close(fd)
    export(tiny.store, tiny.build_digest, tmp_path / "out")


def test_a_build_that_names_an_erased_expert_cannot_be_exported(own_tiny, tmp_path):
    own_tiny.store.erase(own_tiny.experts["alder-news"])
    with pytest.raises(MissingArtefact):
        export(own_tiny.store, own_tiny.build_digest, tmp_path / "out")
    assert list(tmp_path.glob("out*")) == []


def test_a_build_of_experts_of_another_anchor_cannot_be_exported(own_tiny, tmp_path):
    expert = own_tiny.store.expert(own_tiny.experts["alder-news"])
    stated = json.loads(expert.to_json()) | {"anchor_digest": "0" * 64}
    false = own_tiny.store.put_bytes(
        json.dumps(stated, sort_keys=True, separators=(",", ":")).encode()
    )
    manifest = BuildManifest(own_tiny.anchor_digest, (ExpertRef("false", false),), 2)
    with pytest.raises(AnchorMismatch):
        export(own_tiny.store, own_tiny.store.put_build(manifest), tmp_path / "out")


def test_planning_and_exporting_never_load_torch():
    code = "import sys, modelops.merging.export; sys.exit('torch' in sys.modules)"
    root = Path(flexolmo.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
