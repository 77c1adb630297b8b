"""Fuzz one parser, guided by which lines run: `python tests/fuzz/fuzz.py TARGET FOLDER [options of libFuzzer]`.

`make fuzz` does it for all of them. What is found becomes a case in `test_bad_input.py` or `test_parsers.py`.
"""

import os
import sys
from pathlib import Path

import atheris

os.environ["HF_HUB_OFFLINE"] = "1"  # a study may name a hub

with atheris.instrument_imports(include=["tracing_utils", "yaml"]):
    from targets import TARGETS

_, name, folder, *options = sys.argv
target = TARGETS[name]
(corpus := Path(folder)).mkdir(parents=True, exist_ok=True)
for i, seed in enumerate(target.seeds):
    (corpus / f"seed-{i}").write_bytes(seed)
escaped = ("".join(f"\\x{byte:02x}" for byte in word.encode(errors="surrogatepass")) for word in target.words if len(word) < 60)
(words := corpus.with_suffix(".dict")).write_text("".join(f'"{word}"\n' for word in escaped))

# Long files take long and say nothing new.
atheris.Setup([sys.argv[0], f"-dict={words}", "-max_len=3000", f"-artifact_prefix={corpus}-", *options, str(corpus)], target)
atheris.Fuzz()
