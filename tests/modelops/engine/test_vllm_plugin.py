"""The parts of the vLLM plugin that need no vLLM: whose tokens get which bias, and its failures."""

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelops.contract import PUBLIC
from modelops.engine import vllm_plugin
from modelops.engine.vllm_plugin import require_hooks
from modelops.engine.vllm_plugin.rights import EXTRA_ARG, RightsTable, cache_salt
from modelops.errors import EngineError, UnknownExpert

NAMES = (PUBLIC, "alder", "birch", "cedar")
T = 24


def table():
    return RightsTable(NAMES, most_requests=6, most_tokens=T)


def allowed_by(bias_TE):
    """The names each token may be routed to."""
    return [{NAMES[e] for e, bias in enumerate(row) if bias == 0} for row in bias_TE.tolist()]


def assert_tokens_get_their_requests_rights(rights, batch, most=T):
    """`batch` are (row, names, tokens); whatever comes after them is padding."""
    rights.bias_TE.zero_()  # what an earlier step left there
    for row, names, _ in batch:
        rights.admit(f"request-{row}", row, {EXTRA_ARG: sorted(names)})
    starts = torch.tensor([0, *(n for _, _, n in batch)]).cumsum(0).int()
    rights.fill(torch.tensor([row for row, _, _ in batch]), starts, most)
    wanted = [{PUBLIC, *names} for _, names, tokens in batch for _ in range(tokens)]
    assert allowed_by(rights.bias_TE[:most]) == wanted + [{PUBLIC}] * (most - len(wanted))


batches = st.lists(
    st.tuples(st.integers(0, 5), st.sets(st.sampled_from(NAMES[1:])), st.integers(1, 4)),
    min_size=1, max_size=6, unique_by=lambda one: one[0],
)  # fmt: skip


@given(batches)
@settings(max_examples=60, deadline=None)
def test_each_token_has_its_requests_rights_and_padding_the_public_expert_alone(batch):
    assert_tokens_get_their_requests_rights(table(), batch)


def test_rows_in_order_of_arrival_instead_of_the_batchs_are_caught():
    """Mutant: the step's order of requests is taken for the order of the table."""
    rights, batch = table(), [(3, {"alder"}, 2), (0, {"birch"}, 1)]
    fill = rights.fill
    with (
        mock.patch.object(
            rights, "fill", lambda rows, *others: fill(torch.arange(len(rows)), *others)
        ),
        pytest.raises(AssertionError),
    ):
        assert_tokens_get_their_requests_rights(rights, batch)


@pytest.mark.parametrize("extra_args", [None, {}, {"other": 1}, {EXTRA_ARG: []}])
def test_a_request_that_names_no_experts_gets_the_public_one_alone(extra_args):
    rights = table()
    rights.admit("before", 2, {EXTRA_ARG: ["alder", "cedar"]})
    rights.release("before")
    rights.admit("bare", 2, extra_args)
    rights.fill(torch.tensor([2]), torch.tensor([0, 3]), 4)
    assert allowed_by(rights.bias_TE[:4]) == [{PUBLIC}] * 4


def test_a_withdrawal_closes_rows_and_buffer_at_once_and_names_who_had_it():
    rights = table()
    rights.admit("with", 0, {EXTRA_ARG: ["alder", "birch"]})
    rights.admit("without", 1, {EXTRA_ARG: ["cedar"]})
    address = rights.bias_TE.data_ptr()
    rights.fill(torch.tensor([0, 1]), torch.tensor([0, 2, 3]), 3)
    assert rights.withdraw("birch") == ["with"]
    assert allowed_by(rights.bias_TE[:3]) == [{PUBLIC, "alder"}] * 2 + [{PUBLIC, "cedar"}]
    with pytest.raises(UnknownExpert, match="birch"):
        rights.admit("late", 4, {EXTRA_ARG: ["birch", "alder"]})
    rights.fill(torch.tensor([4, 0]), torch.tensor([0, 1, 2]), 2)
    assert allowed_by(rights.bias_TE[:2]) == [{PUBLIC}, {PUBLIC, "alder"}]
    assert rights.bias_TE.data_ptr() == address


@pytest.mark.parametrize("name", [PUBLIC, "dara"])
def test_only_a_licensed_expert_of_the_build_is_withdrawn(name):
    with pytest.raises(UnknownExpert):
        table().withdraw(name)


@pytest.mark.parametrize("names", [(), ("alder", PUBLIC), (PUBLIC, "alder", "alder")])
def test_a_table_needs_the_public_expert_first_and_each_once(names):
    with pytest.raises(EngineError, match="first"):
        RightsTable(names, 1, 1)


def test_a_cache_salt_tells_apart_all_that_shapes_keys_and_values():
    experts = [("alder", "a" * 64, 1), ("birch", "b" * 64, 2)]
    salts = {
        cache_salt("d", experts, 2), cache_salt("e", experts, 2), cache_salt("d", experts, 1),
        cache_salt("d", experts[:1], 2), cache_salt("d", [], 2),
        cache_salt("d", [("alder", "a" * 64, 3), experts[1]], 2),
        cache_salt("d", [("alder", "c" * 64, 1), experts[1]], 2),
    }  # fmt: skip
    assert len(salts) == 7
    assert cache_salt("d", experts[::-1], 2) in salts


class Hooks:
    """The hooks of the vLLM this was written against."""

    def add_request(self, req_index, new_req_data): ...
    def remove_request(self, req_id): ...
    def prepare_inputs(self, input_batch, req_states): ...
    def prepare_dummy_inputs(self, num_reqs, num_tokens): ...


class MovedHook(Hooks):
    def add_request(self, new_req_data): ...


class LostHook(Hooks):
    remove_request = None


def test_a_vllm_with_other_hooks_is_refused():
    require_hooks(Hooks)
    for other in (MovedHook, LostHook):
        with pytest.raises(EngineError, match=vllm_plugin.WRITTEN_AGAINST):
            require_hooks(other)
