"""The audit of a real expert out of the store."""

import json

import pytest

from modelops.audits import report
from modelops.corpus import writer
from modelops.corpus.jsonl import Document


@pytest.fixture
def paths(tmp_path):
    found = []
    for name in ("members", "controls"):
        documents = [
            Document(text=f"{name} {n} " + "the quick brown fox jumps over lazy dogs " * 6,
                     id=f"{name}-{n}", source="invented", licence="CC0-1.0")
            for n in range(60)
        ]  # fmt: skip
        path = tmp_path / name / "train.jsonl.xz"
        writer.write(path, documents)
        found.append(path)
    return found


def test_an_expert_is_audited_from_the_store_and_the_report_is_json(tiny, paths):
    name, digest = next(iter(tiny.experts.items()))
    seen = []
    found = report.audit_expert(
        tiny.store, tiny.anchor_digest, name, digest,
        members_path=paths[0], controls_path=paths[1], seed=3, threshold=0.2,
        spec=report.Spec(prefix=8, suffix=8, windows=55, paper_windows=2),
        report=lambda done, total, note, metrics: seen.append((done, total)),
    )  # fmt: skip
    assert json.loads(json.dumps(found.to_json()))["verdict"] == found.verdict
    assert found.verdict == "pass"
    assert found.sizes["members"] == 55
    assert seen[-1] == (55, 55)
    assert 0 < found.rate_high < 0.2
