"""What a model of the designed world still knows of keys that it is told no more.

Rule: which keys are told, and until when, follows from the world alone (`statements.world`), not from what a model says.

Source: Liao et al. 2024 measure whether the likeliest next token is that of the entity (M(f)_ent) and the perplexity of
entity tokens (PPL_ent); here the entity is the told value. Their M_ex asks for an entity after text that leads to it, which
the statements of this world do not have: they begin with it.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...checkpoints import activations
from ...core import evaluation
from ...core.evaluation import Estimate
from ...statements.concepts import ConceptSet
from ...statements.world import DIMENSIONS
from ..probing import probes
from ..tables import Acts, Rows
from . import kinship

__all__ = ["DROPPED", "KEPT", "by_kind", "kinds", "probed", "recalled", "rows", "says_told"]

KEPT, DROPPED = "kept", "dropped"


def kinds(concepts: ConceptSet) -> np.ndarray | None:
    """Return whether each statement's key is told throughout (`kept`) or no more by a run that forgets (`dropped`).

    Dropped are the keys of those subjects all of whose keys are told from the start. None for statements that are not the
    told keys of the designed world.
    """
    if concepts.name != "world":
        return None
    groups, keys = concepts.group_numbers, np.array(concepts.categories)
    whole = [group for group in np.unique(groups) if set(keys[groups == group]) == set(keys)]
    return np.where(np.isin(groups, whole), DROPPED, KEPT)


def says_told(concepts: ConceptSet) -> Bool[np.ndarray, " example"]:
    """Return whether each statement of the told keys says the told value, whichever of the two sides that is."""
    trusted = {dimension.name: dimension.trusted_tells for dimension in DIMENSIONS}[concepts.dimension]
    return concepts.labels == int(trusted)


def recalled(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, concepts: ConceptSet
) -> dict[str, Float[np.ndarray, " example"]]:
    """Return how well each statement's last token is predicted from the words before it.

    Returns:
        `hit_rate`: 1 where it is the likeliest token of all; `loss`: its surprise in nats. Only statements that say the
        told value speak of memory.
    """
    ids = activations.encode(model, tokenizer, concepts.statements)
    hits, losses = np.empty(len(ids)), np.empty(len(ids))
    for rows in activations.batches([len(each) for each in ids], 4096):
        tokens = torch.tensor(activations.padded([ids[row] for row in rows]), device=model.device)
        seen = torch.tensor(activations.padded([[1] * len(ids[row]) for row in rows]), device=model.device)
        with torch.inference_mode():
            logits = model(input_ids=tokens, attention_mask=seen, use_cache=False).logits.float().log_softmax(-1).cpu()
        for at, row in enumerate(rows):
            last = len(ids[row]) - 1
            said = logits[at, last - 1]
            losses[row], hits[row] = -float(said[ids[row][last]]), float(said.argmax() == ids[row][last])
    return {"hit_rate": hits, "loss": losses}


def probed(acts: Float[np.ndarray, "example d_model"], concepts: ConceptSet, kind: np.ndarray) -> Bool[np.ndarray, " example"]:
    """Return whether a probe that is fitted on kept keys alone is right on each statement, whose group it has not seen."""
    logits = probes.held_out_logits(acts, concepts, kinship.SEED, fitted=kind == KEPT)
    return (logits > 0) == (concepts.labels == 1)


def rows(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, acts: Acts, concepts: ConceptSet) -> Rows:
    """Yield the rows, their method the kind of key: what is recalled of told values, and what is read at the last layer.

    Nothing of statements that are not of the designed world.
    """
    kind = kinds(concepts)
    if kind is None:
        return
    of_told = says_told(concepts)
    by_metric = {metric: np.where(of_told, values, np.nan) for metric, values in recalled(model, tokenizer, concepts).items()}
    by_metric["read"] = probed(acts[:, -1], concepts, kind).astype(float)
    for metric, values in by_metric.items():
        layer = acts.shape[1] - 1 if metric == "read" else None
        for name, estimate in by_kind(values, concepts, kind).items():
            yield layer, name, metric, estimate


def by_kind(values: Float[np.ndarray, " example"], concepts: ConceptSet, kind: np.ndarray) -> dict[str, Estimate]:
    """Return the mean of values over the statements of each kind, with the interval over whole groups."""
    groups, estimates = np.array(concepts.groups), {}
    for name in np.unique(kind[~np.isnan(values)]):
        rows = (kind == name) & ~np.isnan(values)
        estimates[str(name)] = evaluation.mean(values[rows], evaluation.bootstrap_weights(groups[rows].tolist(), seed=0))
    return estimates
