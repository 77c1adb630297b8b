"""Shared fixtures: shape checking of the package, a private cache, tiny random models, a tiny suite, concept sets, a hub."""

# ruff: noqa: E402 - the environment and the import hook must be there before the package is imported
# ruff: noqa: PLC0415 - the process that hands the tests to the workers reads this, too, and needs none of the libraries

import os

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each process that tests start compiles the package anew
# Before numpy and torch are imported, which read them once.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["TRACING_UTILS_RESULTS"] = "published"  # which is what the tests judge, whatever was run here

from jaxtyping import install_import_hook

install_import_hook("tracing_utils", "beartype.beartype")

import gc
import threading
import time
from contextlib import ExitStack
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tracing_utils.checkpoints.types import Checkpoint

FAMILIES = (
    "llama", "gpt_neox", "gpt2", "olmo", "olmo2", "olmo3", "olmoe", "bloom", "smollm3", "mistral", "qwen3", "apertus",
)  # fmt: skip
WIDTH, LAYERS, POSITIONS, VOCABULARY = 16, 3, 256, 320

SENTENCES = (
    "The bridge was closed on Monday because the river had risen.",
    "Her sister teaches chemistry in the town where they grew up.",
    "Nobody told him that the train had already left.",
    "Birds sang.",
    "A letter came from the bank, and it was not good news at all.",
    "They moved the piano into the larger of the two rooms.",
    "Seven of the nine apples were green.",
    "Why did the lamp go out?",
    "The committee will read every answer before it decides.",
    "Rain.",
)


LONGEST = ("test_book.py", "test_pipeline.py", "test_hub_run.py", "test_notebooks.py", "test_world.py", "test_intervention.py")
"""Modules that take half a minute or more."""


SERVER = "TESTS_SERVER_OF_KERNELS"
"""Where the workers find the name of the one server."""


def pytest_configure(config):
    """Start one server of kernels for all workers; it imports the libraries, once, when the first kernel is asked for."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        from tracing_utils.run import warm

        running = ExitStack()
        config.add_cleanup(running.close)
        os.environ[SERVER] = running.enter_context(warm.server(dict(os.environ))).get(warm._SERVER, "")


def pytest_collection_modifyitems(items):
    """Begin with the longest modules, lest one core wait for another's at the end."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def pytest_collection_finish():
    """Leave what the libraries made out of every later collection of garbage: a twentieth of the time."""
    gc.collect()
    gc.freeze()


def _config(family: str):
    from transformers import AutoConfig, BloomConfig, GPT2Config

    common = {"vocab_size": VOCABULARY, "hidden_size": WIDTH}
    # Wide initial weights: position and context then matter visibly, as they do in a trained model.
    wide = {"initializer_range": 0.3}
    deep = {"num_hidden_layers": LAYERS, "num_attention_heads": 2}
    special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    if family == "gpt2":
        shape = {"vocab_size": VOCABULARY, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": 2, "n_positions": POSITIONS}
        return GPT2Config(**shape, **wide, **special)
    if family == "bloom":
        return BloomConfig(**common, n_layer=LAYERS, n_head=2, **wide, **special)
    if family != "gpt_neox":
        deep["num_key_value_heads"] = 1 if family == "qwen3" else 2
    own = {
        "mistral": {"sliding_window": 8, "head_dim": 8},  # shorter than most statements
        "olmo3": {"sliding_window": 8, "layer_types": ["sliding_attention"] * 2 + ["full_attention"]},
        "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
        "opt": {"ffn_dim": 24, "word_embed_proj_dim": WIDTH},
        "qwen3": {"head_dim": 8},
        "smollm3": {"no_rope_layers": [1, 1, 0]},
    }.get(family, {})
    shape = {"intermediate_size": 24, "max_position_embeddings": POSITIONS}
    return AutoConfig.for_model(family, **common, **deep, **shape, **wide, **special, **own)


def _random_model(family: str, seed: int = 0):
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(_config(family)).eval()


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    os.environ["TRACING_UTILS_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def sentences() -> tuple[str, ...]:
    """Ten statements of very different length, so that batches need padding."""
    return SENTENCES


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory) -> Path:
    """A byte-level BPE tokenizer that puts `<|bos|>` first, trained on ten sentences."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tokenizer")
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|bos|>", "<|eos|>", "<|pad|>"]
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(SENTENCES, trainer)
    bpe.post_processor = processors.TemplateProcessing(single="<|bos|> $A", special_tokens=[("<|bos|>", 0)])
    PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<|bos|>", eos_token="<|eos|>", pad_token="<|pad|>").save_pretrained(
        folder
    )
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder):
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)


@pytest.fixture(scope="session")
def family_checkpoints(tmp_path_factory, tokenizer_folder) -> "dict[str, Checkpoint]":
    """One saved random model a family: 3 blocks, d_model 16."""
    from tracing_utils.checkpoints.types import Checkpoint

    root, found = tmp_path_factory.mktemp("families"), {}
    for family in FAMILIES:
        _random_model(family).save_pretrained(root / family)
        found[family] = Checkpoint("families", family, 0, None, root / family, tokenizer_folder)
    return found


@pytest.fixture(scope="session")
def make_model():
    """Return a builder of models with random weights, by family and seed: 3 blocks, d_model 16."""
    return _random_model


@pytest.fixture(params=FAMILIES)
def checkpoint(request, family_checkpoints) -> "Checkpoint":
    """A checkpoint of each family in turn."""
    return family_checkpoints[request.param]


@pytest.fixture
def model(checkpoint):
    """A model with its head, of each family in turn."""
    from tracing_utils.checkpoints.models import load_model

    return load_model(checkpoint, head=True)


@pytest.fixture
def llama(family_checkpoints):
    """A llama with its head."""
    from tracing_utils.checkpoints.models import load_model

    return load_model(family_checkpoints["llama"], head=True)


@pytest.fixture(scope="session")
def suite_folder(tmp_path_factory, tokenizer_folder) -> Path:
    """A suite of five revisions with different random weights, a tokenizer and a chat model. Copy it before changing it."""
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("suites") / "tiny"
    for seed, name in enumerate(("step0", "step1", "step2", "step8", "step64", "chat")):
        _random_model("llama", seed).save_pretrained(folder / name)
    PreTrainedTokenizerFast.from_pretrained(tokenizer_folder).save_pretrained(folder / "tokenizer")
    return folder


@pytest.fixture(scope="session")
def make_concepts():
    """Return a builder of concept sets; statements are made up and groups are rows unless given."""
    import numpy as np

    from tracing_utils.statements.concepts import ConceptSet

    def build(labels, statements=None, groups=None, name="made-up", dimension="reliability") -> ConceptSet:
        labels = np.asarray(labels)
        statements = tuple(statements or (f"Statement number {i}." for i in range(len(labels))))
        groups = tuple(groups or (f"row {i}" for i in range(len(labels))))
        return ConceptSet(name, dimension, statements, labels, groups, ("",) * len(labels), "tests", "CC0-1.0")

    return build


def _beside(name: str) -> Path:
    from tracing_utils.core.paths import PROJECT

    folder = PROJECT.parent / "shared" / "data" / name
    if not folder.is_dir():
        pytest.skip(f"the statements of other people are not in {folder}")
    return folder


@pytest.fixture(scope="session")
def released_folder() -> Path:
    """The paper's released files, where they lie beside the repository."""
    return _beside("tracingllm")


@pytest.fixture(scope="session")
def sources_folder() -> Path:
    """The originals of the released files, where they lie beside the repository."""
    return _beside("sources")


@pytest.fixture(scope="session")
def tracingllm(released_folder, cache) -> str:
    """The name of the set of released files, which are in the cache."""
    from tracing_utils.statements import datasets

    datasets.fetch("tracingllm", released_folder)
    return "tracingllm"


@pytest.fixture(scope="session")
def corrected(tracingllm, sources_folder) -> str:
    """The name of the set of corrected originals, which are in the cache."""
    from tracing_utils.statements import datasets

    datasets.fetch("corrected", sources_folder)
    return "corrected"


@pytest.fixture(scope="session")
def server_of_kernels():
    """The environment in which kernels are forked, as those of a run are."""
    from tracing_utils.run import warm

    return os.environ | {warm._SERVER: os.environ[SERVER]}


@pytest.fixture
def warm_kernels(server_of_kernels, monkeypatch):
    """Kernels are forked from a process that has the libraries."""
    for name in server_of_kernels.keys() - os.environ.keys():
        monkeypatch.setenv(name, server_of_kernels[name])


@pytest.fixture
def serve():
    """Return a function that serves a folder on the loopback interface and returns its address."""
    servers = []

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    def start(folder: Path) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def own_statements(tmp_path_factory) -> Path:
    """A user's folder of statements: one dimension, thirty pairs."""
    folder = tmp_path_factory.mktemp("mine")
    rows = ["statement,label,group"]
    for i in range(30):
        rows += [f"The clerk told neighbour {i} about the letter.,0,{i}", f"The clerk told doctor {i} about the letter.,1,{i}"]
    (folder / "privacy.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A hub, to which the client is pointed, and a Hugging Face cache of this test's own."""
    from hub_server import HubServer
    from huggingface_hub import constants

    served = HubServer()
    monkeypatch.setenv("HF_ENDPOINT", served.address)
    monkeypatch.setenv("TRACING_UTILS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    # The client waits a second and more between its own attempts; the attempts stay, the waiting goes.
    impatient = SimpleNamespace(**vars(time) | {"sleep": lambda _: None})
    monkeypatch.setattr("huggingface_hub.file_download.time", impatient)
    monkeypatch.setattr("huggingface_hub.utils._http.time", impatient)
    yield served
    served.close()
