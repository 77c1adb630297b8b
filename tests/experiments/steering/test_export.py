"""What is exported is read back by the tools it was written for, and does there what it does here."""

import gguf
import numpy as np
import pytest
import torch

from tracing_utils.checkpoints.models import load_model
from tracing_utils.experiments.steering.export import to_gguf, to_harness
from tracing_utils.experiments.steering.intervention import steer

VECTORS = {1: np.linspace(-1, 1, 16).astype(np.float32), 2: np.ones(16, dtype=np.float32)}


def test_the_harness_steers_as_we_do_in_every_family(checkpoint, tokenizer, sentences, tmp_path):
    steered = pytest.importorskip("lm_eval.models.hf_steered", reason="lm-evaluation-harness is an extra").SteeredModel
    model = load_model(checkpoint, head=True)
    to_harness(model, VECTORS, 2.5, tmp_path / "v.pt")
    theirs = steered(
        str(checkpoint.folder), steer_path=str(tmp_path / "v.pt"), tokenizer=tokenizer, device="cpu", dtype="float32"
    )
    ids = torch.tensor([tokenizer.encode(sentences[0])])
    with torch.no_grad():
        plain = model(ids).logits
        with steer(model, VECTORS, multiplier=2.5):
            ours = model(ids).logits
        torch.testing.assert_close(theirs._model_call(ids), ours, rtol=1e-4, atol=1e-4)
    assert (ours - plain).abs().max() > 1e-2


def test_the_harness_file_holds_nothing_that_runs_code(family_checkpoints, tmp_path):
    to_harness(load_model(family_checkpoints["llama"], head=True), VECTORS, 2.5, tmp_path / "v.pt")
    content = torch.load(tmp_path / "v.pt", weights_only=True)
    assert list(content) == ["layers.1", "layers.2"]
    assert np.array_equal(content["layers.1"]["steering_vector"].numpy(), VECTORS[1])
    assert content["layers.1"]["steering_coefficient"] == 2.5


def test_a_control_vector_is_read_back_by_the_gguf_reader(family_checkpoints, tmp_path):
    to_gguf(load_model(family_checkpoints["llama"], head=True), VECTORS, -2.0, tmp_path / "v.gguf")
    reader = gguf.GGUFReader(tmp_path / "v.gguf")
    assert reader.get_field("general.architecture").contents() == "controlvector"
    assert reader.get_field("controlvector.model_hint").contents() == "llama"
    assert reader.get_field("controlvector.layer_count").contents() == 2
    assert {tensor.name for tensor in reader.tensors} == {"direction.1", "direction.2"}
    for tensor in reader.tensors:
        np.testing.assert_allclose(tensor.data, -2 * VECTORS[int(tensor.name.split(".")[1])])
    assert [path.name for path in tmp_path.iterdir()] == ["v.gguf"]


@pytest.mark.parametrize(
    ("write", "vectors", "name", "sentence"),
    [
        (to_gguf, {0: VECTORS[1]}, "v.gguf", r"A layer must be 1 to 2 \(llama.cpp cannot steer block 0\); 0 came\."),
        (to_gguf, {3: VECTORS[1]}, "v.gguf", r"A layer must be 1 to 2"),
        (to_harness, {3: VECTORS[1]}, "v.pt", r"A layer must be 0 to 2; 3 came\."),
        (to_harness, {1: VECTORS[1][:4]}, "v.pt", r"must have the model's width, 16; the one of layer 1 has 4\."),
        (to_harness, VECTORS, "v.safetensors", r"files that end in \.pt"),
    ],
)
def test_what_the_other_tool_could_not_use_is_refused_in_a_sentence(family_checkpoints, tmp_path, write, vectors, name, sentence):
    with pytest.raises(ValueError, match=sentence):
        write(load_model(family_checkpoints["llama"], head=True), vectors, 1.0, tmp_path / name)
    assert list(tmp_path.iterdir()) == []
