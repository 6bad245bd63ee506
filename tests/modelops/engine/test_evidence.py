"""What an acknowledgement stands for: caches, router rows and the file's mapping are gone; and for
each, the engine that leaves it behind is caught."""

import gc
from pathlib import Path
from unittest import mock

import pytest
import torch

from modelops.artefacts.tensors import load, router_row
from modelops.engine.bank import ExpertBank
from modelops.engine.linear import Layout
from modelops.engine.prefix import PrefixStore
from tests.modelops.engine import test_prefix
from tests.modelops.engine.rig import make_rig

NEWS, BIRCH = "alder-news", "birch-archive"


def assert_caches_are_dropped(tiny):
    """Chunks that the expert had a part in are wiped and forgotten; others stay."""
    rig = test_prefix.make(tiny)
    for names in ((NEWS, BIRCH), (NEWS,)):
        rig.ask(names, test_prefix.LONG)
        rig.run()
    chunks = list(rig.engine._backend.prefixes._chunks.values())
    with_it = [chunk for chunk in chunks if BIRCH in chunk.experts]
    assert 0 < len(with_it) < len(chunks)
    rig.engine.withdraw(BIRCH, 2)
    assert not any(chunk.halves.any() for chunk in with_it), "a cache outlived the expert"
    left = list(rig.engine._backend.prefixes._chunks.values())
    assert left == [chunk for chunk in chunks if BIRCH not in chunk.experts]


def assert_router_rows_are_zeroed(tiny, layout):
    """No row of any layer's router is the expert's, and the places of none are all zero."""
    rig = make_rig(tiny, layout=layout)
    tensors, bank = load(tiny.bundles[BIRCH] / "weights.safetensors"), rig.engine._backend.bank
    assert torch.equal(bank._wide_LED[1, bank.names().index(BIRCH)], tensors[router_row(1)])
    rig.engine.withdraw(BIRCH, 2)
    for layer, rows_ED in enumerate(bank._wide_LED):
        is_its_own = (rows_ED == tensors[router_row(layer)]).all(dim=1)
        assert not is_its_own.any(), "the router still holds the expert's row"
        assert not rows_ED[len(bank.names()) :].any()


def assert_file_is_unmapped(tiny):
    """The process no longer maps the expert's file."""
    weights = tiny.store.path(tiny.store.expert(tiny.experts[BIRCH]).weights_digest)

    def is_mapped():
        gc.collect()
        return str(weights) in Path("/proc/self/maps").read_text()

    rig = make_rig(tiny, layout=Layout.MAPPED)
    assert is_mapped()
    rig.engine.withdraw(BIRCH, 2)
    assert not is_mapped(), "the expert's file is still mapped"


@pytest.mark.parametrize("layout", list(Layout))
def test_a_withdrawal_zeroes_the_router_rows(tiny, layout):
    assert_router_rows_are_zeroed(tiny, layout)


def test_a_withdrawal_drops_the_caches_the_expert_had_a_part_in(tiny):
    assert_caches_are_dropped(tiny)


def test_a_withdrawal_unmaps_the_file(own_tiny):
    assert_file_is_unmapped(own_tiny)


def test_an_engine_that_keeps_its_caches_is_caught(tiny):
    with (
        mock.patch.object(PrefixStore, "drop", return_value=0),
        pytest.raises(AssertionError, match="a cache outlived"),
    ):
        assert_caches_are_dropped(tiny)


def test_an_engine_that_keeps_its_router_is_caught(tiny):
    arrange = ExpertBank._arrange

    def only_while_it_grows(bank):
        if bank._wide_LED is None or len(bank._residents) > len(tiny.experts):
            arrange(bank)

    with (
        mock.patch.object(ExpertBank, "_arrange", only_while_it_grows),
        pytest.raises(AssertionError, match="the router still holds"),
    ):
        assert_router_rows_are_zeroed(tiny, Layout.MAPPED)


def test_an_engine_that_holds_on_to_an_expert_is_caught(own_tiny):
    held, detach = [], ExpertBank.detach

    def holding(bank, *args):
        held.extend(bank._residents)
        return detach(bank, *args)

    with (
        mock.patch.object(ExpertBank, "detach", holding),
        pytest.raises(AssertionError, match="still mapped"),
    ):
        assert_file_is_unmapped(own_tiny)
