"""One pass over statements: how likely each is, how original, and what the head reads at its last token.

Rule: what the head reads is taken where the head takes it, behind the final norm; logits are used and thrown away.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from transformers import PreTrainedModel

from ...checkpoints import activations

__all__ = ["Reading", "frequencies", "gram", "one_pass", "one_step_later"]

_MOST = 4096  # tokens of a batch: each has a logit for every word


@dataclass(frozen=True, eq=False)
class Reading:
    """What a model makes of statements. The first token of each conditions and is not scored.

    Attributes:
        nats: log-likelihood of each.
        tokens: how many tokens it is summed over, 1 at least.
        originality: mean over these tokens of the highest probability minus that of the token that stands there.
        last: the vector from which the head makes the logits at the last token.
    """

    nats: Float[np.ndarray, " example"]
    tokens: Int[np.ndarray, " example"]
    originality: Float[np.ndarray, " example"]
    last: Float[np.ndarray, "example d_model"]


def one_pass(model: PreTrainedModel, ids: Sequence[Sequence[int]]) -> Reading:
    """Run a model with its head over the tokens of statements, in batches padded on the right.

    Source of originality: SPOT (Yvinec and Kasser 2024).
    """
    lengths, tokens = [len(row) for row in ids], np.array([max(len(row) - 1, 1) for row in ids])
    sums, last, seen = torch.zeros(2, len(ids), dtype=torch.float64), [None] * len(ids), []
    handle = model.get_output_embeddings().register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    try:
        for rows in activations.batches(lengths, min(activations.BUDGET[model.device.type], _MOST)):
            padded = torch.tensor(activations.padded([ids[i] for i in rows]), device=model.device)
            seen.clear()
            with torch.inference_mode():
                logits = model(input_ids=padded, use_cache=False).logits[:, :-1].float()
                spoken = torch.stack([logits.gather(2, padded[:, 1:, None])[..., 0], logits.amax(-1)]) - logits.logsumexp(-1)
            said, most = spoken.double()
            lacking = most.exp() - said.exp()
            scored = (
                torch.arange(padded.shape[1] - 1, device=model.device)
                < torch.tensor(lengths, device=model.device)[rows, None] - 1
            )
            sums[:, rows] = torch.stack([said, lacking]).masked_fill(~scored, 0).sum(-1).cpu()
            for i, vectors in zip(rows, seen[0], strict=True):
                last[i] = vectors[lengths[i] - 1].float().cpu()
    finally:
        handle.remove()
    nats, lacking = sums.numpy()
    return Reading(nats, tokens, lacking / tokens, torch.stack(last).numpy())


def gram(model: PreTrainedModel) -> Float[np.ndarray, "d_model d_model"]:
    """Return the Gram matrix of what turns the vector that the head reads into logits, before a family's own cap on them.

    A bias of the head is left out: it is the same for every text.
    """
    weight = model.get_output_embeddings().weight.detach().double()
    return (weight.T @ weight).cpu().numpy()


def one_step_later(
    model: PreTrainedModel, ids: Sequence[Sequence[int]], reading: Reading
) -> Float[np.ndarray, "example d_model"]:
    """Return what the head reads at decoding step 1, when the likeliest token has been said behind each text.

    The head is given that one vector a text, so no other logits are made. `reading` is that of these texts, at step 0.
    """
    head = model.get_output_embeddings()
    with torch.inference_mode():
        said = head(torch.as_tensor(reading.last, device=model.device, dtype=head.weight.dtype)).argmax(-1).tolist()
    longer, out = [[*row, token] for row, token in zip(ids, said, strict=True)], np.empty(reading.last.shape, np.float32)
    lengths, rows = [len(row) for row in longer], []

    def keep(_module, args):
        last = args[0][range(len(rows)), [lengths[i] - 1 for i in rows]]
        out[rows] = last.float().cpu().numpy()
        return (last[:, None],)

    with torch.inference_mode(), head.register_forward_pre_hook(keep):
        for rows in activations.batches(lengths, activations.BUDGET[model.device.type]):
            model(input_ids=torch.tensor(activations.padded([longer[i] for i in rows]), device=model.device), use_cache=False)
    return out


def frequencies(ids: Sequence[Sequence[int]]) -> Float[np.ndarray, " example"]:
    """Return how common the scored tokens of each statement are among all of these statements: mean log-frequency, in nats.

    It needs no model: what a preference shares with it is a preference for common words.
    """
    rows = [np.asarray(row[1:] if len(row) > 1 else row) for row in ids]
    counts = np.bincount(np.concatenate(rows))
    return np.array([np.log(counts[row] / counts.sum()).mean() for row in rows])
