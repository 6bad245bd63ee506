"""The gate: everything Mallory may send, and what Alder Press does send."""

import dataclasses
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from modelops.artefacts import bundle, gate, tensors
from modelops.artefacts.gate import GateReport, Limits, examine, examine_apart
from modelops.artefacts.manifest import ExpertManifest, TensorEntry, shared_digests
from modelops.artefacts.refusals import RefusalCode as Code
from modelops.artefacts.refusals import quoted
from tests.modelops import worlds
from tests.modelops.artefacts import hostile

GATE_0 = "model.layers.0.mlp.expert.gate_proj.weight"
ROW_1 = "model.layers.1.mlp.router_row"


class Upload:
    """A bundle folder that a test changes before it knocks at the gate."""

    def __init__(self, tiny, folder):
        self.tiny = tiny
        self.anchor = tiny.store.anchor(tiny.anchor_digest)
        self.folder = folder
        self.weights = folder / "weights.safetensors"
        self.manifest = folder / "manifest.json"
        self.write(worlds.random_expert(tiny.config, seed=11))

    def write(self, named, shared=None):
        shared = shared_digests(self.anchor) if shared is None else shared
        bundle.write_expert(self.folder, named, self.tiny.anchor_digest, shared, recipe={})

    def tensors(self):
        return {name: tensor.clone() for name, tensor in tensors.load(self.weights).items()}

    def reword(self, **fields):
        stated = json.loads(self.manifest.read_bytes()) | fields
        self.manifest.write_bytes(json.dumps(stated).encode())

    def examine(self, **limits):
        return examine(self.folder, self.anchor, self.tiny.config, Limits(**limits))

    def codes(self, **limits):
        report = self.examine(**limits)
        assert report.passed == (not report.refusals)
        assert all(r.expected and r.found and r.remedy for r in report.refusals)
        return [refusal.code for refusal in report.refusals]


@pytest.fixture
def upload(tiny, tmp_path):
    return Upload(tiny, tmp_path / "upload")


def test_an_honest_expert_passes_with_the_digest_the_store_will_give(upload, own_tiny):
    report = upload.examine()
    assert report.passed
    assert report.refusals == ()
    assert report.expert_digest == own_tiny.store.put_expert(upload.folder)
    assert report.size_bytes == upload.weights.stat().st_size


def test_weights_alone_are_examined_without_claims_about_an_expert(upload, tiny):
    report = examine(upload.weights, upload.anchor, tiny.config)
    assert report.passed
    assert report.expert_digest == ""
    assert report.weights_digest == upload.examine().weights_digest


def _pickled() -> bytes:
    archive = io.BytesIO()
    torch.save({"weight": torch.zeros(3)}, archive)
    return archive.getvalue()


def _zipped() -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("x", "y")
    return archive.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"\0" * 8,
        b"GGUF" + bytes(60),
        b"\x93NUMPY" + bytes(60),
        _pickled(),
        _zipped(),
        (10).to_bytes(8, "little") + b"{" + b"\xff" * 40,
        (1000).to_bytes(8, "little") + b"{}      ",
        (2).to_bytes(8, "little") + b"[]" + bytes(8),
        (100_000).to_bytes(8, "little") + b'{"a":' * 20_000,
    ],
)
def test_what_is_not_safetensors_is_refused_and_never_crashes(upload, content):
    upload.weights.write_bytes(content)
    assert upload.codes() == [Code.NOT_SAFETENSORS]


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=200), keep=st.integers(0, 2000), at=st.integers(0, 1500))
def test_a_file_damaged_anywhere_is_refused_and_never_crashes(
    tmp_path_factory, tiny, content, keep, at
):
    upload = Upload(tiny, tmp_path_factory.mktemp("upload"))
    honest = upload.weights.read_bytes()
    damaged = honest[:at] + content + honest[at + keep :]
    upload.weights.write_bytes(damaged)
    assert upload.examine().passed == (damaged == honest)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", [GATE_0, ROW_1])
def test_numbers_that_are_not_finite_are_refused(upload, value, name):
    named = upload.tensors()
    named[name].view(-1)[-1] = value
    upload.write(named)
    report = upload.examine()
    assert [(r.code, r.tensor) for r in report.refusals] == [(Code.NOT_FINITE, name)]


@pytest.mark.parametrize("place", [0, 700, -1])
def test_a_tensor_read_in_many_pieces_is_examined_in_every_one(upload, monkeypatch, place):
    whole = upload.examine()
    monkeypatch.setattr(gate.scan, "SCAN_BYTES", 64)
    assert upload.examine() == whole
    named = upload.tensors()
    named[GATE_0].view(-1)[place] = torch.nan
    upload.write(named)
    assert upload.codes() == [Code.NOT_FINITE]


@pytest.mark.parametrize("bits", [0x7FC0, 0x7F80, 0xFF80, 0x7F81])
def test_numbers_that_are_not_finite_are_found_in_bfloat16_too(bits):
    words = torch.tensor([0x3F80, bits], dtype=torch.int32).to(torch.uint16)
    values = gate.scan.values(words.numpy().tobytes(), "BF16")
    assert values[0] == 1.0
    assert not torch.isfinite(torch.from_numpy(values.copy())[1])


@settings(deadline=None)
@given(st.lists(st.floats(width=16, allow_nan=False), min_size=1), st.sampled_from(["BF16", "F16"]))
def test_half_precision_values_are_read_as_torch_reads_them(numbers, code):
    tensor = torch.tensor(numbers).to(getattr(torch, tensors.DTYPES[code]))
    found = gate.scan.values(bytes(tensors.little_endian(tensor)), code)
    assert found.tolist() == tensor.double().tolist()


def test_a_wrong_shape_is_refused(upload):
    named = upload.tensors()
    named[GATE_0] = named[GATE_0].t().contiguous()
    upload.write(named)
    assert upload.codes() == [Code.WRONG_SHAPE]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int32])
def test_a_wrong_dtype_is_refused(upload, dtype):
    named = upload.tensors() | {ROW_1: upload.tensors()[ROW_1].to(dtype)}
    save_file(named, upload.weights, metadata={"format": "pt"})
    assert upload.codes() == [Code.WRONG_DTYPE]


def test_a_missing_tensor_is_refused(upload):
    named = upload.tensors()
    del named[ROW_1]
    upload.write(named)
    report = upload.examine()
    assert [(r.code, r.tensor) for r in report.refusals] == [(Code.MISSING_TENSOR, ROW_1)]


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.mlp.expert.bias",
        "model.layers.2.mlp.router_row",
        "model.layers.00.mlp.router_row",
        "model.layers.0.mlp.experts.1.gate_proj.weight",
    ],
)
def test_an_extra_tensor_is_refused(upload, name):
    upload.write(upload.tensors() | {name: torch.ones(3)})
    report = upload.examine()
    assert [(r.code, r.tensor) for r in report.refusals] == [(Code.EXTRA_TENSOR, name)]


def test_a_doubled_tensor_name_is_refused_before_the_last_one_wins(upload):
    fields, body = hostile.opened(upload.weights)
    hostile.write(upload.weights, hostile.spelt([*fields, fields[-1]]), body)
    assert upload.codes() == [Code.DUPLICATE_TENSOR]


def test_a_doubled_field_inside_a_tensor_is_refused(upload):
    fields, body = hostile.opened(upload.weights)
    text = hostile.spelt(fields).replace(b'{"dtype":"F32"', b'{"dtype":"I8","dtype":"F32"', 1)
    hostile.write(upload.weights, text, body)
    assert upload.codes() == [Code.DUPLICATE_TENSOR]


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/etc/passwd", "a/b", "a\\b", "..", "a\0b", "a b", "é", "x" * 300, ""],
)
def test_a_name_that_could_be_a_path_is_refused_and_shown_harmless(upload, name):
    fields, body = hostile.opened(upload.weights)
    fields[-1] = (name, fields[-1][1])
    hostile.write(upload.weights, hostile.spelt(fields), body)
    (refusal,) = upload.examine().refusals
    assert refusal.code == Code.UNSAFE_NAME
    assert len(refusal.tensor) <= 81
    assert "\0" not in refusal.tensor


def test_a_header_that_is_too_large_is_refused_unread(upload):
    fields, body = hostile.opened(upload.weights)
    text = hostile.spelt([("__metadata__", {"format": "pt", "x": "y" * (1 << 20)}), *fields[1:]])
    hostile.write(upload.weights, text, body)
    assert upload.codes() == [Code.HEADER_TOO_LARGE]


def test_a_header_length_beyond_all_bounds_allocates_nothing(upload):
    fields, body = hostile.opened(upload.weights)
    hostile.write(upload.weights, hostile.spelt(fields), body, length=2**63)
    assert upload.codes() == [Code.HEADER_TOO_LARGE]


def test_padding_is_no_place_to_hide(upload):
    fields, body = hostile.opened(upload.weights)
    hostile.write(upload.weights, hostile.spelt(fields) + b" " * 50_000, body)
    assert upload.codes() == [Code.HEADER_PADDED]


def test_metadata_is_no_place_to_hide(upload):
    fields, body = hostile.opened(upload.weights)
    fields[0] = ("__metadata__", {"format": "pt", "note": "smuggled"})
    hostile.write(upload.weights, hostile.spelt(fields), body)
    assert upload.codes() == [Code.METADATA]


def test_spacing_inside_the_header_is_no_place_to_hide(upload):
    fields, body = hostile.opened(upload.weights)
    text = hostile.spelt(fields).replace(b'"F32",', b'"F32", \t', 1)
    hostile.write(upload.weights, text, body)
    assert upload.codes() == [Code.HEADER_NOT_CANONICAL]


def test_escapes_inside_the_header_are_no_place_to_hide(upload):
    fields, body = hostile.opened(upload.weights)
    text = hostile.spelt(fields).replace(b'"F32"', b'"\\u004632"', 1)
    hostile.write(upload.weights, text, body)
    assert upload.codes() == [Code.HEADER_NOT_CANONICAL]


def test_bytes_after_the_last_tensor_are_refused(upload):
    with upload.weights.open("ab") as file:
        file.write(b"payload")
    assert upload.codes() == [Code.TRAILING_BYTES]


def test_a_file_cut_short_is_refused(upload):
    upload.weights.write_bytes(upload.weights.read_bytes()[:-4])
    assert upload.codes() == [Code.LAYOUT]


def _shift_last(fields, by):
    begin, end = fields[-1][1]["data_offsets"]
    fields[-1][1]["data_offsets"] = [begin + by, end + by]
    return fields


@pytest.mark.parametrize(("by", "more"), [(-4, b""), (4, bytes(4))])
def test_overlaps_and_holes_between_tensors_are_refused(upload, by, more):
    fields, body = hostile.opened(upload.weights)
    hostile.write(upload.weights, hostile.spelt(_shift_last(fields, by)), body + more)
    assert upload.codes() == [Code.LAYOUT]


@pytest.mark.parametrize(
    "shape",
    [[0, 2**62], [2**62, 0], [0], [2**62, 2**62], [2**70], [-1, -32], [1] * 99, "32", [3.0]],
)
def test_dimensions_that_promise_what_the_data_does_not_hold_are_refused(upload, shape):
    fields, body = hostile.opened(upload.weights)
    begin, end = fields[-1][1]["data_offsets"]
    is_empty = isinstance(shape, list) and 0 in shape
    fields[-1][1].update(shape=shape, data_offsets=[begin, begin if is_empty else end])
    body = body[:begin] if is_empty else body
    hostile.write(upload.weights, hostile.spelt(fields), body)
    assert upload.codes() == [Code.LAYOUT]


def test_a_router_row_too_long_to_be_fair_is_refused(upload):
    named = upload.tensors()
    named[ROW_1] *= 100
    upload.write(named)
    report = upload.examine()
    assert [(r.code, r.tensor) for r in report.refusals] == [(Code.ROUTER_NORM, ROW_1)]


@pytest.mark.parametrize(("factor", "code"), [(1e3, Code.NORM_TOO_LARGE), (0, Code.NORM_TOO_SMALL)])
def test_weights_out_of_their_band_are_refused(upload, factor, code):
    named = upload.tensors()
    named[GATE_0] *= factor
    upload.write(named)
    assert upload.codes() == [code]


def test_a_file_that_carries_a_changed_shared_tensor_is_refused_as_that(upload, tiny):
    shared = tensors.load(tiny.bundles["public"] / "weights.safetensors")
    changed = shared["model.norm.weight"] + 1e-6
    upload.write(upload.tensors() | {"model.norm.weight": changed})
    assert upload.codes() == [Code.SHARED_TENSOR]


def test_a_file_that_carries_a_true_shared_tensor_is_refused_as_extra(upload, tiny):
    shared = tensors.load(tiny.bundles["public"] / "weights.safetensors")
    upload.write(upload.tensors() | {"model.norm.weight": shared["model.norm.weight"]})
    assert upload.codes() == [Code.EXTRA_TENSOR]


@pytest.mark.parametrize("way", ["changed", "left out", "added"])
def test_a_manifest_whose_shared_digests_are_not_the_anchors_is_refused(upload, way):
    shared = shared_digests(upload.anchor)
    if way == "changed":
        shared["model.layers.0.mlp.experts.0.up_proj.weight"] = "0" * 64
    elif way == "left out":
        del shared["model.layers.0.mlp.gate.weight"]
    else:
        shared["model.extra.weight"] = "0" * 64
    upload.write(upload.tensors(), shared)
    assert upload.codes() == [Code.SHARED_TENSOR]


def test_an_expert_for_another_anchor_is_refused(upload):
    upload.reword(anchor_digest="0" * 64)
    assert upload.codes() == [Code.WRONG_ANCHOR]


def test_weights_exchanged_after_the_manifest_was_written_are_refused(upload, tiny):
    other = tensors.load(tiny.bundles["birch-archive"] / "weights.safetensors")
    tensors.save(upload.weights, other)
    codes = upload.codes()
    assert set(codes) == {Code.MANIFEST_DIFFERS}
    assert len(codes) == len(other) + 1


def test_a_manifest_that_lists_other_tensors_is_refused(upload):
    stated = ExpertManifest.from_json(upload.manifest.read_bytes())
    fewer = dataclasses.replace(
        stated, tensors=(*stated.tensors[1:], TensorEntry("ghost", "F32", (1,), "0" * 64))
    )
    upload.manifest.write_bytes(fewer.to_json())
    report = upload.examine()
    assert {r.code for r in report.refusals} == {Code.MANIFEST_DIFFERS}
    assert {r.tensor for r in report.refusals} == {stated.tensors[0].name, "ghost"}


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"kind":"build"}', b"\xff"])
def test_an_unreadable_manifest_is_refused(upload, text):
    upload.manifest.write_bytes(text)
    assert upload.codes() == [Code.MANIFEST_UNREADABLE]


def test_a_manifest_too_large_is_refused_unread(upload):
    assert upload.codes(manifest_bytes=100) == [Code.TOO_LARGE]


def test_a_file_too_large_for_its_tensors_is_refused_unread(upload):
    os.truncate(upload.weights, 1 << 30)
    assert upload.codes() == [Code.TOO_LARGE]


@pytest.mark.parametrize("name", ["weights.safetensors", "manifest.json"])
def test_a_missing_file_is_refused(upload, name):
    (upload.folder / name).unlink()
    assert Code.MISSING_FILE in upload.codes()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "modeling_evil.py", ".hidden"])
def test_further_files_are_refused(upload, name):
    (upload.folder / name).write_bytes(b"x")
    assert upload.codes() == [Code.EXTRA_FILE]


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_what_is_not_a_plain_file_is_refused_without_waiting(upload, tmp_path, kind):
    upload.weights.rename(tmp_path / "elsewhere")
    if kind == "link":
        upload.weights.symlink_to(tmp_path / "elsewhere")
    elif kind == "folder":
        upload.weights.mkdir()
    else:
        os.mkfifo(upload.weights)
    assert upload.codes() == [Code.NOT_A_FILE]


def test_a_folder_behind_a_link_is_refused(upload, tiny, tmp_path):
    (tmp_path / "link").symlink_to(upload.folder)
    report = examine(tmp_path / "link", upload.anchor, tiny.config)
    assert [r.code for r in report.refusals] == [Code.NOT_A_FILE]


def test_several_faults_are_reported_together(upload):
    named = upload.tensors()
    named[GATE_0] = named[GATE_0][:-1]
    del named[ROW_1]
    upload.write(named | {"model.more": torch.ones(1)})
    assert set(upload.codes()) == {Code.WRONG_SHAPE, Code.MISSING_TENSOR, Code.EXTRA_TENSOR}


def test_an_examination_apart_gives_the_same_report(upload):
    apart = examine_apart(upload.folder, upload.anchor, upload.tiny.config)
    assert apart == upload.examine()
    upload.weights.write_bytes(b"GGUF")
    apart = examine_apart(upload.folder, upload.anchor, upload.tiny.config)
    assert apart == upload.examine()
    assert not apart.passed


@pytest.mark.parametrize("limits", [Limits(memory_bytes=1 << 20), Limits(wall_s=0.001)])
def test_an_examination_that_runs_over_a_bound_is_a_refusal(upload, limits):
    report = examine_apart(upload.folder, upload.anchor, upload.tiny.config, limits)
    assert not report.passed
    assert [r.code for r in report.refusals] == [Code.EXAMINATION_FAILED]


@pytest.mark.parametrize(
    "deed",
    ["while True: pass", "open(sys.argv[1], 'wb', 0).write(b'x')", "bytes(2 << 30)"],
    ids=["spins", "writes", "hoards"],
)
def test_a_confined_process_can_neither_spin_nor_write_nor_hoard(tmp_path, deed):
    confined = (
        "import sys; from modelops.artefacts import apart, gate; "
        "apart.confine(gate.Limits(cpu_s=1)); "
    )
    script = tmp_path / "deed.py"
    script.write_text(f"{confined}\n{deed}\n")
    done = subprocess.run(
        [sys.executable, script, tmp_path / "written"],
        env={"PYTHONPATH": str(Path(gate.__file__).parents[2])},
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode != 0
    assert not (tmp_path / "written").exists() or (tmp_path / "written").read_bytes() == b""


def test_a_report_survives_its_wire_form(upload):
    upload.weights.write_bytes(b"{}")
    report = upload.examine()
    assert GateReport.from_json(report.to_json()) == report
    with pytest.raises(ValueError, match="gate report"):
        GateReport.from_json(b"[]")


@given(st.text())
def test_quoted_text_is_short_and_printable(text):
    assert quoted(text).removesuffix("…").isascii()
    assert quoted(text).isprintable()
    assert len(quoted(text)) <= 81
