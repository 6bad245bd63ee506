"""Tensor names and the canonical digest."""

import hashlib
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modelops.artefacts import names, tensors
from modelops.model import flexolmo


def test_the_digest_is_over_dtype_shape_and_little_endian_bytes():
    expected = hashlib.sha256(b"F32:1x2\n" + struct.pack("<2f", 1.5, -2.0)).hexdigest()
    assert tensors.tensor_digest(torch.tensor([[1.5, -2.0]])) == expected


def test_a_scalar_and_a_bfloat16_tensor_have_digests():
    half = torch.tensor(1.0, dtype=torch.bfloat16)
    assert tensors.tensor_digest(half) == hashlib.sha256(b"BF16:\n\x80\x3f").hexdigest()


@given(st.integers(1, 5), st.integers(1, 5), st.sampled_from(["t", "stride", "view", "expand"]))
def test_the_digest_does_not_depend_on_how_a_tensor_is_stored(rows, columns, form):
    base = torch.arange(4.0 * rows * columns).reshape(2 * rows, 2 * columns)
    odd = {
        "t": base.t(),
        "stride": base[::2, ::2],
        "view": base[rows:, 1:],
        "expand": base[:1].expand(rows, -1),
    }[form]
    plain = odd.clone(memory_format=torch.contiguous_format)
    assert tensors.tensor_digest(odd) == tensors.tensor_digest(plain)


def test_equal_bytes_of_another_form_have_another_digest():
    flat = torch.zeros(4)
    forms = [flat, flat.reshape(2, 2), flat.reshape(1, 4), torch.zeros(8, dtype=torch.bfloat16)]
    assert len({tensors.tensor_digest(form) for form in forms}) == 4


def test_negative_zero_is_not_zero():
    assert tensors.tensor_digest(torch.tensor([0.0])) != tensors.tensor_digest(torch.tensor([-0.0]))


def test_a_dtype_weights_are_not_stored_in_is_refused():
    with pytest.raises(ValueError, match="expected a dtype"):
        tensors.tensor_digest(torch.zeros(2, dtype=torch.int64))


def test_the_specs_name_exactly_what_a_model_holds(tiny):
    model = flexolmo.assemble(tiny.store, tiny.anchor_digest, tiny.experts)
    anchor = {name: tuple(t.shape) for name, t in flexolmo.anchor_tensors(model).items()}
    expert = {name: tuple(t.shape) for name, t in flexolmo.expert_tensors(model, 2).items()}
    assert anchor == names.anchor_tensor_specs(tiny.config)
    assert expert == names.expert_tensor_specs(tiny.config)


def test_the_specs_know_fewer_key_heads_than_query_heads():
    config = flexolmo.tiny_config(300, num_key_value_heads=2)
    model = flexolmo.new_anchor_model(config, seed=1)
    held = {name: tuple(t.shape) for name, t in flexolmo.anchor_tensors(model).items()}
    assert held == names.anchor_tensor_specs(config)


def test_a_saved_view_comes_back_whole(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    tensors.save(tmp_path / "w.safetensors", {"a": base.t(), "b": base[1:]})
    loaded = tensors.load(tmp_path / "w.safetensors")
    assert torch.equal(loaded["a"], base.t())
    assert torch.equal(loaded["b"], base[1:])
