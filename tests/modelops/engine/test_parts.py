"""The parts on their own: arena, scheduler, bank and steady products."""

import gc
import weakref
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelops.contract import ExpertRef, Sampling
from modelops.engine import kv, linear
from modelops.engine.bank import LANES, ExpertBank
from modelops.engine.kv import KVArena, StepKV
from modelops.engine.linear import FusedNorm, Layout, steady_linear
from modelops.engine.routing import Places, StepDesk, StepRouting
from modelops.engine.scheduler import Scheduler
from modelops.engine.sequence import NO_ROW, Sequence
from modelops.engine.text import TextStream
from modelops.errors import EngineError, RoutingGuardError, StaleGeneration
from modelops.model import flexolmo
from modelops.model.router import NO_EXPERT, route
from tests.modelops.engine.rig import make_rig

CONFIG = flexolmo.tiny_config(300, hidden_size=32, num_hidden_layers=2, num_attention_heads=4)


def arena(rows=4, length=20):
    return KVArena(CONFIG, rows, length, torch.float32)


def halves(store):
    return (*store.keys_LRPHW, *store.values_LRPHW)


def fill(store, row, length, value):
    cache = StepKV(store, [row], [0], length)
    for layer in range(2):
        new = torch.full((1, length, 4, 8), float(value))
        cache.update(new, new, layer)


def test_a_wiped_row_is_zero_and_its_neighbours_are_not():
    store = arena()
    for row in range(3):
        fill(store, row, 5 + row, row + 1)
    store.wipe(1)
    for half in halves(store):
        assert not half[1].any()
        assert (half[0, :5] == 1).all()
        assert (half[2, :7] == 3).all()


def test_a_moved_row_leaves_nothing_behind():
    store = arena()
    fill(store, 2, 6, 9)
    store.move(2, 0)
    for half in halves(store):
        assert (half[0, :6] == 9).all()
        assert not half[1:].any()


@pytest.mark.parametrize("rows", [[0, 1], [2, 0], [1, 3]])
def test_a_step_writes_and_sees_its_own_rows_only(rows):
    store = arena()
    cache = StepKV(store, rows, [3, 1], 1)
    new = torch.tensor([10.0, 20.0]).view(2, 1, 1, 1).expand(2, 1, 4, 8)
    seen, _ = cache.update(new, new, 1)
    assert (store.keys_LRPHW[1][rows[0], 3] == 10).all()
    assert (store.keys_LRPHW[1][rows[1], 1] == 20).all()
    assert seen.sum() == store.keys_LRPHW[1].sum() == (10 + 20) * 4 * 8
    assert seen.shape[2] % kv.BLOCK == 0


def test_the_mask_hides_what_a_row_has_not_reached():
    mask = StepKV(arena(), [0, 1], [0, 4], 2).mask_B1SP
    open_to = (mask == 0).sum(dim=-1)[:, 0].tolist()
    assert open_to == [[1, 2], [5, 6]]


def sequence(prompt_tokens, rig):
    order = rig.order((), sampling=Sampling(max_tokens=4))
    return Sequence(order, print, tuple(range(prompt_tokens)), TextStream())


@pytest.fixture(scope="module")
def rig(tiny):
    return make_rig(tiny, ())


@given(st.lists(st.tuples(st.integers(1, 30), st.booleans()), min_size=1, max_size=9))
@settings(max_examples=40, deadline=None)
def test_rows_stay_dense_and_everyone_gets_a_turn(rig, arrivals):
    scheduler = Scheduler(arena(rows=3, length=64), prefill_chunk=8)
    everyone = [sequence(size, rig) for size, _ in arrivals]
    scheduler.waiting.extend(everyone)
    for (_, ends_early), one in zip(arrivals, everyone, strict=True):
        one.is_ended = ends_early and one.row == NO_ROW
    served = set()
    for _ in range(400):
        scheduler.clear_ended()
        scheduler.admit()
        plan = scheduler.next()
        if plan is None:
            break
        assert [s.row for s in scheduler.live] == list(range(len(scheduler.live)))
        for one in plan.sequences:
            one.computed = plan.end if plan.is_prefill else one.computed + 1
            one.is_ended = one.computed > len(one.prompt_ids) + 2
            served.add(id(one))
    assert plan is None
    expected = [one for (_, early), one in zip(arrivals, everyone, strict=True) if not early]
    assert {id(one) for one in expected} <= served


def test_a_long_prompt_lets_the_others_have_tokens_in_between(rig):
    scheduler = Scheduler(arena(rows=2, length=512), prefill_chunk=8)
    short, long = sequence(4, rig), sequence(400, rig)
    scheduler.waiting.extend([short, long])
    scheduler.admit()
    short.computed = 4
    gaps, gap = [], 0
    while not long.is_prefilled:
        plan = scheduler.next()
        if plan.is_prefill:
            assert plan.sequences == (long,)
            long.computed, gap = plan.end, gap + plan.end - plan.start
        else:
            gaps, gap = [*gaps, gap], 0
    assert gaps
    assert max(gaps) <= 4 * 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", list(Layout))
@given(
    rows=st.integers(1, 40),
    first=st.integers(0, 200),
    sizes=st.sampled_from([(32, 48), (48, 33), (256, 64)]),
)
@settings(max_examples=30, deadline=None)
def test_a_steady_products_row_is_the_same_in_any_company(layout, dtype, rows, first, sizes):
    D, N = sizes
    chance = torch.Generator().manual_seed(D * N)
    weight_ND = torch.randn(N, D, generator=chance).to(dtype)
    x_RD = torch.randn(240, D, generator=chance).to(dtype)
    product = steady_linear(weight_ND, layout)
    assert torch.equal(product(x_RD[first : first + rows]), product(x_RD)[first : first + rows])
    gap = (product(x_RD).float() - x_RD.float() @ weight_ND.float().T).abs().max()
    assert gap < (1e-3 if dtype is torch.float32 else 0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_fused_norm_has_the_bits_of_the_stock_one(dtype):
    from transformers.models.flex_olmo.modeling_flex_olmo import FlexOlmoRMSNorm

    stock = FlexOlmoRMSNorm(256).to(dtype)
    stock.weight.data.uniform_()
    fused = FusedNorm(stock.weight, stock.variance_epsilon)
    for rows in (1, 3, 8, 64):
        x = (torch.randn(rows, 1, 256) * 3).to(dtype)
        assert torch.equal(stock(x), fused(x))


def test_unloading_frees_the_weights(tiny):
    bank = ExpertBank(tiny.store, tiny.anchor_digest, tiny.config, Layout.MAPPED)
    ref = next(iter(make_rig(tiny).refs.values()))
    resident = bank.prepare(ref)
    gone = weakref.ref(resident)
    bank.attach(resident)
    generations = bank.generations((ref,))
    del resident
    size = sum(e.shape[0] * (e.shape[1] if len(e.shape) > 1 else 1) * 4
               for e in tiny.store.expert(ref.digest).tensors)  # fmt: skip
    assert bank.detach(ref.name) == size
    gc.collect()
    assert gone() is None
    assert bank.names() == ["public"]
    with pytest.raises(StaleGeneration):
        bank.lanes(generations)


def test_a_pool_keeps_its_addresses_and_forgets_what_left(tiny):
    bank = ExpertBank(tiny.store, tiny.anchor_digest, tiny.config, Layout.POOLED, slots=3)
    news, notes, birch = (ExpertRef(name, digest) for name, digest in tiny.experts.items())
    x_ND = torch.randn(3, 32)
    bank.attach(bank.prepare(news))
    before, answer = addresses(bank), bank.run(1, 1, x_ND)
    bank.attach(bank.prepare(notes))
    with pytest.raises(EngineError, match="found all 3 taken"):
        bank.prepare(birch)
    assert bank.detach(news.name) > 0
    assert not any(half[1].any() for half in (bank._pool._inward, bank._pool._down))
    bank.attach(bank.prepare(birch))
    bank.detach(notes.name)
    bank.attach(bank.prepare(news))
    assert bank.names() == ["public", news.name, birch.name]
    assert torch.equal(bank.run(1, 1, x_ND), answer)
    assert addresses(bank) == before


def addresses(bank):
    """Where the pool and the routers lie."""
    pool = bank._pool
    return [t.data_ptr() for t in (pool._inward, pool._down, bank._wide_LED)]


def test_an_expert_loaded_twice_takes_one_slot(tiny):
    bank = ExpertBank(tiny.store, tiny.anchor_digest, tiny.config, Layout.POOLED, slots=3)
    ref = ExpertRef("alder-news", tiny.experts["alder-news"])
    for _ in range(4):
        bank.attach(bank.prepare(ref))
    assert len(bank._pool._free) == 1


def test_the_public_expert_stays(tiny):
    bank = ExpertBank(tiny.store, tiny.anchor_digest, tiny.config, Layout.MAPPED)
    with pytest.raises(ValueError, match="always stays"):
        bank.detach("public")
    assert bank.router_logits(0, torch.randn(3, 32)).shape == (3, 1)
    assert LANES == 16


@pytest.mark.parametrize(
    ("lanes", "top_k"), [([], []), ([(0,)], [1, 2]), ([(1, 2)], [1]), ([(0,)], [0])]
)
def test_a_step_needs_a_set_with_the_public_expert_for_each_row(lanes, top_k):
    with pytest.raises(RoutingGuardError):
        StepRouting(lanes, top_k, tokens_per_row=1, lanes_in_use=3)


def test_a_step_whose_layers_did_not_all_run_is_refused():
    step = StepRouting([(0,)], [1], tokens_per_row=1, lanes_in_use=1)
    step.enter(0, (1, 1, 32))
    step.choose(torch.zeros(1, 1))
    with pytest.raises(RoutingGuardError, match="found layer 0"):
        step.enter(0, (1, 1, 32))
    with pytest.raises(RoutingGuardError, match="2 governed layers"):
        step.use(layers=2)


def test_only_one_step_lies_on_the_desk():
    desk, step = StepDesk(), StepRouting([(0,)], [1], tokens_per_row=1, lanes_in_use=1)
    with desk.open(step), pytest.raises(RoutingGuardError), desk.open(step):
        pass
    with pytest.raises(RoutingGuardError):
        desk.step()


def test_places_are_sorted_by_lane_and_come_back_by_token():
    places = Places([(0, 2), (1,), (0, 1, 2)], E=4)
    assert places.groups == [(0, 2), (1, 2), (2, 2)]
    assert places.tokens_P.tolist() == [0, 2, 1, 2, 0, 2]
    x_TD = torch.arange(3.0).view(3, 1).expand(3, 4) + 1
    gathered = zip((0, 1, 2), places.gather(x_TD), strict=True)
    answers = [rows * 10.0**lane for lane, rows in gathered]
    found_TD = places.combine(answers, torch.ones(6))
    assert found_TD[:, 0].tolist() == [1 + 100, 20, 3 + 30 + 300]


@given(st.lists(st.sets(st.integers(1, 5)), min_size=1, max_size=6), st.integers(1, 7), st.data())
@settings(max_examples=60, deadline=None)
def test_a_step_chooses_as_the_router_does(sets, top_k, data):
    lanes = [(0, *sorted(found)) for found in sets]
    # Few values, so that ties are common.
    value = st.sampled_from([-1.0, 0.0, 0.5, 2.0])
    logits_TE = torch.tensor([[data.draw(value) for _ in range(6)] for _ in lanes])
    allowed_TE = torch.tensor([[lane in row for lane in range(6)] for row in lanes])
    weights_TK, experts_TK = route(logits_TE, allowed_TE, top_k)
    step = StepRouting(lanes, [top_k] * len(lanes), tokens_per_row=1, lanes_in_use=6)
    step.enter(0, (len(lanes), 1, 32))
    places, weights_P = step.choose(logits_TE)
    found = {
        (cell // 6, cell % 6): weight
        for cell, weight in zip(places.cells_P.tolist(), weights_P.tolist(), strict=True)
    }
    wanted = {
        (token, expert): weight
        for token, (experts, weights) in enumerate(
            zip(experts_TK.tolist(), weights_TK.tolist(), strict=True)
        )
        for expert, weight in zip(experts, weights, strict=True)
        if expert != NO_EXPERT
    }
    assert found == wanted


def test_weights_moved_to_large_pages_are_the_same_weights():
    weight_ND = torch.randn(1500, 700)
    assert weight_ND.nbytes > linear.LARGE_PAGE
    x_RD = torch.randn(5, 700)
    with mock.patch.object(
        linear, "_move_to_large_pages", wraps=linear._move_to_large_pages
    ) as moved:
        packed = linear._Packed(weight_ND)
    assert moved.call_count == 1
    assert (packed(x_RD) - x_RD @ weight_ND.T).abs().max() < 1e-3


def test_a_product_that_minds_large_batches_is_computed_in_blocks(monkeypatch):
    class Minding(torch.nn.Module):
        """Adds up otherwise from 20 rows on."""

        def __init__(self, weight_ND):
            super().__init__()
            self.weight_ND = weight_ND

        def forward(self, x):
            found = x @ self.weight_ND.T
            return found + 1e-3 if x.numel() // x.shape[-1] >= 20 else found

    monkeypatch.setattr(linear, "_Mapped", Minding)
    monkeypatch.setattr(linear, "_least_rows_of", {})
    product = steady_linear(torch.randn(8, 32), Layout.MAPPED)
    x_RD = torch.randn(3, 15, 32)
    assert torch.equal(product(x_RD).reshape(45, 8)[3:8], product(x_RD.reshape(45, 32)[3:8]))
