"""Last-token activations as other packages give them; runs inside their environment and takes orders on standard input.

Rule: each package is used as its own documentation shows; nothing of this project is imported.

Usage: python peers.py nnterp|TransformerLens MODEL_FOLDER STATEMENTS.json OUTPUT_FOLDER
Each line read is the number of a part; the answer is a line `seconds FILE`.
"""

# ruff: noqa: PLC0415 - each run imports one of the packages

import json
import os
import sys
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "disabled"

import numpy as np
import torch

BATCH = 32


def nnterp(folder):
    """Left padding, the head is not run, one copy a layer."""
    from nnterp import StandardizedTransformer
    from nnterp.nnsight_utils import collect_token_activations_batched

    model = StandardizedTransformer(folder, dtype=torch.float32, device_map="cpu")
    return lambda statements: collect_token_activations_batched(model, statements, BATCH).transpose(0, 1).numpy()


def transformer_lens(folder):
    """All tokens of every block are cached, of which the last ones are taken."""
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoTokenizer

    model = TransformerBridge.boot_transformers(folder, device="cpu", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)  # the bridge's own puts a token in front that the model's does not
    names = [f"blocks.{layer}.hook_out" for layer in range(model.cfg.n_layers)]

    def run(statements):
        batches = []
        for start in range(0, len(statements), BATCH):
            batch = statements[start : start + BATCH]
            rows = [torch.tensor(row) for row in tokenizer(batch)["input_ids"]]
            last = torch.tensor([len(row) - 1 for row in rows])
            tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
            with torch.inference_mode():
                _, cache = model.run_with_cache(tokens, names_filter=names)
            batches.append(torch.stack([cache[name][torch.arange(len(batch)), last] for name in names], 1))
        return torch.cat(batches).numpy()

    return run


def main(package, folder, statements, out):
    """Load the model, then answer."""
    torch.set_num_threads(1)
    parts = json.loads(Path(statements).read_text(encoding="utf-8"))
    run = {"nnterp": nnterp, "TransformerLens": transformer_lens}[package](folder)
    run(parts[0][:2])
    print("ready", flush=True)
    for line in sys.stdin:
        begun = time.process_time()
        acts = run(parts[int(line)])
        taken = time.process_time() - begun
        np.save(path := f"{out}/{package}.npy", acts)
        print(f"took {taken} {path}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
