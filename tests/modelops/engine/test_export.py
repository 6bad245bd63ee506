"""A masked request against the export that never had the expert, loaded by stock transformers."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from modelops.artefacts.manifest import BuildManifest
from modelops.contract import ExpertRef
from modelops.merging.export import export
from tests.modelops.engine.rig import PROMPTS, make_rig, removal_sets


@pytest.fixture(scope="module")
def folders(tiny, tmp_path_factory):
    """An exported folder for each set of experts that may be left."""
    found = {}
    for names in removal_sets(tiny):
        refs = tuple(ExpertRef(name, tiny.experts[name]) for name in names)
        digest = tiny.store.put_build(BuildManifest(tiny.anchor_digest, refs, top_k=2))
        found[names] = tmp_path_factory.mktemp("export") / "build"
        export(tiny.store, digest, found[names])
    return found


def stock_answer(folder, prompt, count):
    """Greedy token ids and the logits they were chosen from, by transformers alone."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = AutoTokenizer.from_pretrained(folder)(prompt, return_tensors="pt").input_ids
    with torch.inference_mode():
        found = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False,
            output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
    return found.sequences[0, ids.shape[1] :].tolist(), torch.cat(found.logits)


@pytest.mark.parametrize("prompt", PROMPTS[:2])
def test_masked_in_one_batch_equals_every_export_without_the_experts(tiny, folders, prompt):
    rig = make_rig(tiny)
    asked = {names: rig.ask(names, prompt) for names in folders}
    rig.run()
    for names, order_id in asked.items():
        tokens, logits_SV = stock_answer(folders[names], prompt, 10)
        assert rig.tokens(order_id) == tokens, f"expected the tokens of the export with {names}"
        found_SV = torch.stack(rig.logits[order_id])
        assert (found_SV - logits_SV[: len(found_SV)]).abs().max() <= 1e-5
