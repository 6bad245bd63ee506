"""The benchmark for a GPU, as far as a machine without one can try it."""

import pytest
import torch

from bench import gpu
from modelops.engine import linear


@pytest.mark.skipif(torch.cuda.is_available(), reason="here there is one")
def test_without_a_gpu_it_says_so_and_measures_nothing(capsys):
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "expected a CUDA device, found none" in capsys.readouterr().err


def test_the_model_has_a_billion_parameters_and_eight_experts():
    wanted = gpu.chosen(["--device", "cpu"])
    assert wanted.shape.step_bytes(len(gpu.NAMES) + 1) / 2 > 1e9
    assert len(gpu.NAMES) + 1 == 8
    assert wanted.batches == (1, 8, 32, 64)


def test_where_no_rows_are_promised_alike_no_product_is_cut_into_blocks():
    weight_ND = torch.empty(64, 32, device="meta", dtype=torch.bfloat16)
    for layout in (linear.Layout.POOLED, linear.Layout.MAPPED):
        assert type(linear.steady_linear(weight_ND, layout)) is linear._Mapped
