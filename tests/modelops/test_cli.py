"""The owner's kit, as an owner would type it."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from modelops.cli import app
from modelops.corpus import writer
from modelops.corpus.jsonl import Document

NAME = "alder-news"


@pytest.fixture
def kit(tiny, tmp_path):
    def call(*words):
        return CliRunner().invoke(
            app, [str(word) for word in words] + ["--store", str(tmp_path / "kit")]
        )

    admitted = call("admit", tiny.bundles["public"])
    assert admitted.output.strip() == tiny.anchor_digest
    return call


def test_a_sound_bundle_passes_the_gate_at_home(kit, tiny):
    found = kit("check", tiny.bundles[NAME], "--anchor", tiny.anchor_digest)
    assert found.exit_code == 0, found.output
    assert "would let it pass" in found.output


def test_a_damaged_bundle_is_refused_at_home_with_reasons(kit, tiny, tmp_path):
    shutil.copytree(tiny.bundles[NAME], tmp_path / NAME)
    weights = tmp_path / NAME / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    found = kit("check", tmp_path / NAME, "--anchor", tiny.anchor_digest, "--json")
    assert found.exit_code == 1
    assert json.loads(found.output)["refusals"]


def test_an_unknown_anchor_is_said_so(kit, tiny):
    found = kit("check", tiny.bundles[NAME], "--anchor", "0" * 64)
    assert found.exit_code == 1
    assert "0000" in found.output


def test_an_audit_prints_its_report(kit, tiny, tmp_path):
    documents = [
        Document(text=f"{n} " + "a licence may be granted for a year " * 12, id=str(n),
                 source="invented", licence="CC0-1.0")
        for n in range(60)
    ]  # fmt: skip
    paths = []
    for which in ("members", "controls"):
        paths.append(tmp_path / f"{which}.jsonl.xz")
        writer.write(paths[-1], documents)
    found = kit(
        "audit", tiny.bundles[NAME], "--members", paths[0], "--controls", paths[1],
        "--anchor", tiny.anchor_digest,
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    report = json.loads(found.stdout)
    assert report["sizes"]["members"] == 60
    assert report["excess"] == 0
