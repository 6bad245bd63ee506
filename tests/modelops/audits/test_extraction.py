"""One pass against the truth: sampling, greedy decoding, and a model that did memorise."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from modelops.audits import extraction, paper, report
from modelops.audits.windows import Windows
from modelops.errors import AuditError
from modelops.model import flexolmo

PREFIX, SUFFIX, VOCABULARY = 4, 4, 24


class Fixed(torch.nn.Module):
    """A model whose next-token logits depend on the last token alone."""

    def __init__(self, table_VV):
        super().__init__()
        self.table_VV = table_VV

    def forward(self, ids_BW, **_):
        return SimpleNamespace(logits=self.table_VV[ids_BW])


@pytest.fixture(scope="module")
def fixed():
    return Fixed(torch.randn(VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(1)))


def _windows(count=64, seed=0):
    generator = np.random.default_rng(seed)
    tokens = generator.integers(0, VOCABULARY, (count, PREFIX + SUFFIX)).astype(np.int32)
    return Windows(tokens, tuple(map(str, range(count))), 0)


def _slow_log_q(logits, token, decoder):
    """The decoder's distribution written out plainly, for one position."""
    scaled = logits.double() / decoder.temperature
    order = sorted(range(len(scaled)), key=lambda i: -float(scaled[i]))
    kept = order[: decoder.top_k] if decoder.top_k else order
    shares = torch.softmax(scaled[kept], 0).tolist()
    nucleus, before = [], 0.0
    for index, share in zip(kept, shares, strict=True):
        assume(abs(before - decoder.top_p) > 1e-4 or decoder.top_p == 1)  # a tie in float32
        if before < decoder.top_p or decoder.top_p == 1:
            nucleus.append(index)
        before += share
    if token not in nucleus:
        return -np.inf
    return float(scaled[token] - torch.logsumexp(scaled[nucleus], 0))


TRUNCATING = (
    extraction.Decoder("k=3", 1.0, top_k=3),
    extraction.Decoder("k=9 p=.6", 0.8, top_k=9, top_p=0.6),
)


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from((*extraction.DECODERS, *TRUNCATING)))
def test_every_decoder_gives_the_probability_its_definition_gives(seed, decoder):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(VOCABULARY, generator=generator)
    token = seed % VOCABULARY
    found = extraction.log_q(logits[None, None], logits[token][None, None, None], decoder)
    expected = _slow_log_q(logits, token, decoder)
    assert found.item() == pytest.approx(expected, abs=1e-4)


def test_the_pass_predicts_how_often_sampling_hits(fixed):
    draws, windows = 400, _windows(24)
    scores = extraction.score(fixed, windows.tokens_NW[:, : PREFIX + 1], prefix=PREFIX)
    chance_N = np.exp(scores.log_p_DN[0])
    generator = torch.Generator().manual_seed(9)
    logits_NV = fixed.table_VV[torch.from_numpy(windows.tokens_NW[:, PREFIX - 1]).long()]
    drawn_NR = torch.multinomial(logits_NV.softmax(1), draws, replacement=True, generator=generator)
    target_N1 = torch.from_numpy(windows.tokens_NW[:, PREFIX : PREFIX + 1]).long()
    hits = int((drawn_NR == target_N1).sum())
    expected, spread = draws * chance_N.sum(), np.sqrt((draws * chance_N * (1 - chance_N)).sum())
    assert abs(hits - expected) < 4 * spread


def test_rank_bits_bound_every_untruncated_decoder(fixed):
    scores = extraction.score(fixed, _windows().tokens_NW, prefix=PREFIX)
    bits_DN = -scores.log_p_DN / np.log(2)
    assert (bits_DN >= scores.rank_bits_N[None] - 1e-6).all()


def test_greedy_windows_are_those_greedy_decoding_writes(fixed):
    windows = _windows(8)
    for row in windows.tokens_NW[::2]:
        for place in range(PREFIX, PREFIX + SUFFIX):
            row[place] = int(fixed.table_VV[int(row[place - 1])].argmax())
    scores = extraction.score(fixed, windows.tokens_NW, prefix=PREFIX)
    assert scores.is_greedy_N[::2].all()
    assert (scores.hit_chance_N(1)[::2] == 1).all()


def test_batches_do_not_change_the_scores(fixed):
    windows = _windows(23)
    one = extraction.score(fixed, windows.tokens_NW, prefix=PREFIX, batch=23)
    other = extraction.score(fixed, windows.tokens_NW, prefix=PREFIX, batch=4)
    assert np.allclose(one.log_p_DN, other.log_p_DN, atol=1e-5)
    assert np.array_equal(one.rank_bits_N, other.rank_bits_N)


def test_more_draws_never_lower_the_chance(fixed):
    scores = extraction.score(fixed, _windows().tokens_NW, prefix=PREFIX)
    chances = [scores.hit_chance_N(n) for n in (1, 10, 1000)]
    assert (chances[0] <= chances[1] + 1e-12).all()
    assert (chances[1] <= chances[2] + 1e-12).all()


@pytest.fixture(scope="module")
def memorised():
    """A tiny anchor, and the same made to learn sixty windows by heart: the positive control."""
    torch.manual_seed(0)
    anchor = flexolmo.new_anchor_model(flexolmo.tiny_config(64, hidden_size=32), seed=0)
    learner = copy.deepcopy(anchor)
    generator = np.random.default_rng(0)
    tokens = generator.integers(5, 64, (120, 16)).astype(np.int32)
    ids = torch.from_numpy(tokens[:60]).long()
    optimiser = torch.optim.AdamW(learner.parameters(), lr=1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        learner(ids, labels=ids).loss.backward()
        optimiser.step()
    members = Windows(tokens[:60], tuple(map(str, range(60))), 0)
    controls = Windows(tokens[60:], tuple(map(str, range(60, 120))), 3)
    return {"anchor": anchor, "expert": learner}, members, controls


def _audit(memorised, **changes):
    arms, members, controls = memorised
    options = {"prefix": 8, "suffix": 8, "paper_windows": 4, "fewest_windows": 50} | changes
    return report.audit(
        arms, members, controls, lambda ids: " ".join(map(str, ids)),
        seed=1, threshold=0.05, spec=report.Spec(**options),
    )  # fmt: skip


def test_a_model_that_memorised_is_seen_and_fails(memorised):
    found = _audit(memorised)
    assert found.verdict == "fail"
    assert found.rate > 0.8
    assert found.rate_low <= found.rate <= found.rate_high
    assert found.excess > 0.8
    assert found.reference_auc["low"] > 0.9
    assert found.paper["suffix_only"]["estimate"] > 0.5


def test_what_was_never_learned_is_not_counted_against_it(memorised):
    arms, _, controls = memorised
    found = _audit((arms, controls, controls))
    assert found.excess == 0
    assert found.verdict in ("pass", "review")
    assert found.sizes["controls_too_short"] == 3


def test_the_same_seed_gives_the_same_report(memorised):
    assert _audit(memorised).to_json() == _audit(memorised).to_json()


def test_an_audit_too_small_to_mean_anything_is_refused(memorised):
    with pytest.raises(AuditError, match="at least 61 windows"):
        _audit(memorised, fewest_windows=61)


def test_the_papers_metric_credits_the_given_prefix():
    drawn, target = [[1, 2, 3, 4, 5, 6, 7, 8, 9, 99]], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]

    def decode(ids):
        return "".join(chr(97 + token % 26) * 3 for token in ids)

    whole, suffix = paper._extracted(drawn, target, decode, prefix=8)
    assert whole
    assert not suffix
