"""What a model finds likely: log-likelihoods of statements, preferences inside pairs, choices inside groups, perplexity.

Rule: members of a pair or a choice may differ in length, so a preference is always per token.
"""

import inspect
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...checkpoints import activations, models
from ...core import evaluation
from ...statements.concepts import DESIGNED, DIMENSIONS, ConceptSet, grammar, load

__all__ = [
    "Forest", "Batch", "encoded_log_likelihoods", "token_log_likelihoods", "held_out_pairs", "neutral_text", "preference",
    "grammatical", "Perplexity", "perplexity", "multiple_choice",
]  # fmt: skip


@dataclass(frozen=True)
class Batch:
    """Trees of tokens that run together, and what is read off them.

    Attributes:
        inputs: what the model is called with; tokens `line node`, one tree behind the other, padded on the right.
        roots: the nodes, counted through the batch, that begin a tree.
        places: the nodes, counted through the batch, after which something is scored.
        slots: for each scored token, which of `places` it follows.
        targets: the scored tokens.
        rows: whose they are.
    """

    inputs: dict[str, torch.Tensor]
    roots: Int[torch.Tensor, " tree"]
    places: Int[torch.Tensor, " place"]
    slots: Int[torch.Tensor, " scored"]
    targets: Int[torch.Tensor, " scored"]
    rows: Int[torch.Tensor, " scored"]


class Forest:
    """Rows of tokens as trees: what rows begin with alike is run once, and the head only where a token is scored.

    A node sees its ancestors and nothing else, by an attention mask and position ids, so short trees stand in one line
    and little is padding. Models that do not follow those to the letter (BLOOM, windows shorter than a row) are found by
    a trial, and then each row is a tree and a line of its own.

    Example:
        forest = Forest(model, ids, [1] * len(ids))
        nats = forest.nats(lambda batch, _: model(**batch.inputs, use_cache=False).logits)
    """

    def __init__(self, model: PreTrainedModel, ids: Sequence[Sequence[int]], begins: Sequence[int]):
        """Grow the trees; tokens are scored from the position `begins` of each row on (1 at least: the first conditions)."""
        self._model, self._ids, self._begins = model, ids, begins
        trees = sorted(_trees(ids), key=lambda tree: (tree.forks, max(tree.depths)))
        if trees and trees[-1].forks and self._follows(trees[-2:]):
            lines = _lines(trees)
        else:
            lines = [[_Tree.of(ids, [row])] for row in range(len(ids)) if len(ids[row]) > 1]
        order = activations.batches([_length(line) for line in lines], activations.BUDGET[model.device.type])
        self.batches = [self._batch([lines[i] for i in some]) for some in order]

    def _follows(self, trees: Sequence["_Tree"]) -> bool:
        """Return whether the model gives at the leaves of trees in one line what it gives at the ends of their rows run alone."""
        part = models.decoder(self._model)
        if "position_ids" not in inspect.signature(part.forward).parameters:
            return False
        begins = np.cumsum([0, *(len(tree.tokens) for tree in trees)])
        leaves = [int(begin) + path[-1] for begin, tree in zip(begins, trees, strict=False) for path in tree.paths.values()]
        rows = [row for tree in trees for row in tree.paths]
        alone = self._batch([[_Tree.of(self._ids, [row])] for row in rows]).inputs
        with torch.inference_mode():
            grown = part(**self._batch([trees]).inputs, use_cache=False).last_hidden_state[0, leaves].float()
            straight = part(**alone, use_cache=False).last_hidden_state
        straight = straight[torch.arange(len(rows)), torch.tensor([len(self._ids[row]) - 2 for row in rows])].float()
        off = (grown - straight).abs().median(1).values
        return bool((off <= _TOLERANCE[self._model.dtype] * straight.abs().median(1).values).all())

    def _batch(self, lines: Sequence[Sequence["_Tree"]]) -> Batch:
        device, width = self._model.device, max(map(_length, lines))
        inputs = {"input_ids": np.zeros((len(lines), width), dtype=np.int64)}
        if any(len(line) > 1 or line[0].forks for line in lines):
            inputs |= {
                "position_ids": inputs["input_ids"].copy(),
                "attention_mask": np.tile(np.eye(width, dtype=bool), (len(lines), 1, 1, 1)),
            }
        scored: dict[int, int] = {}
        triples, roots = [], []
        for k, line in enumerate(lines):
            begin = 0
            for tree in line:
                here = slice(begin, begin + len(tree.tokens))
                inputs["input_ids"][k, here] = tree.tokens
                if "position_ids" in inputs:
                    inputs["position_ids"][k, here], inputs["attention_mask"][k, 0, here, here] = tree.depths, tree.sees
                roots.append(k * width + begin)
                for row, path in tree.paths.items():
                    for at in range(self._begins[row], len(self._ids[row])):
                        slot = scored.setdefault(roots[-1] + path[at - 1], len(scored))
                        triples.append((slot, self._ids[row][at], row))
                begin = here.stop
        slots, targets, rows = torch.tensor(triples, device=device, dtype=torch.long).reshape(-1, 3).T
        tensors = {name: torch.tensor(value, device=device) for name, value in inputs.items()}
        if "attention_mask" in tensors:  # added to the scores, which all kinds of attention understand
            least = torch.finfo(self._model.dtype).min
            tensors["attention_mask"] = torch.zeros(
                tensors["attention_mask"].shape, dtype=self._model.dtype, device=device
            ).masked_fill(~tensors["attention_mask"], least)
        places = torch.tensor(list(scored), device=device, dtype=torch.long)
        return Batch(tensors, torch.tensor(roots, device=device), places, slots, targets, rows)

    def nats(self, run: Callable[[Batch, int], torch.Tensor]) -> Float[np.ndarray, " row"]:
        """Return the log-likelihood of each row of tokens, summed from where it begins to be scored.

        `run` gives the model's logits on a batch, whose number is told too.
        """
        total = torch.zeros(len(self._ids), dtype=torch.float64, device=self._model.device)
        places = torch.empty(0)
        head = self._model.get_output_embeddings()
        handle = head.register_forward_pre_hook(lambda _, args: (args[0].flatten(0, 1)[places][None], *args[1:]))
        try:
            with torch.inference_mode():
                for number, batch in enumerate(self.batches):
                    places = batch.places
                    logp = run(batch, number)[0].float().log_softmax(1)
                    total.index_add_(0, batch.rows, logp[batch.slots, batch.targets].double())
        finally:
            handle.remove()
        return total.cpu().numpy()


# Of a typical entry of the last hidden state: rounding, and far less than a token that is seen or missed.
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}

_SHARED = 4  # tokens that rows must begin with alike to stand in one tree
_LARGEST = 256  # nodes of a tree, since every node is compared with every other


@dataclass(frozen=True)
class _Tree:
    """Rows that begin alike: tokens in an order in which each stands behind its parent, and each row's path of nodes."""

    tokens: list[int]
    depths: list[int]
    sees: Bool[np.ndarray, "node node"]
    paths: dict[int, list[int]]

    @property
    def forks(self) -> bool:
        return len(self.paths) > 1

    @classmethod
    def of(cls, ids: Sequence[Sequence[int]], rows: Sequence[int]) -> "_Tree":
        """Plant the rows; the last token of a row is predicted only, so it is no node."""
        nodes: dict[tuple[int, int], int] = {}
        paths: dict[int, list[int]] = {}
        for row in rows:
            path = [-1]
            for token in ids[row][:-1]:
                path.append(nodes.setdefault((path[-1], token), len(nodes)))
            paths[row] = path[1:]
        sees, depths = np.eye(len(nodes), dtype=bool), []
        for (parent, _), node in nodes.items():
            depths.append(0 if parent < 0 else depths[parent] + 1)
            if parent >= 0:
                sees[node] |= sees[parent]
        return cls([token for _, token in nodes], depths, sees, paths)


def _trees(ids: Sequence[Sequence[int]]) -> list[_Tree]:
    """Return trees of rows that share their beginning with the row before, in the order of their tokens."""
    rows_of: list[list[int]] = []
    before: Sequence[int] = ()
    size = 0
    for row in sorted((i for i in range(len(ids)) if len(ids[i]) > 1), key=lambda i: list(ids[i])):
        shared = next(
            (at for at, (a, b) in enumerate(zip(before, ids[row], strict=False)) if a != b), min(len(before), len(ids[row]))
        )
        size += len(ids[row]) - shared
        if not rows_of or shared < _SHARED or size > _LARGEST:
            rows_of.append([])
            size = len(ids[row])
        rows_of[-1].append(row)
        before = ids[row]
    return [_Tree.of(ids, rows) for rows in rows_of]


def _length(line: Sequence[_Tree]) -> int:
    return sum(len(tree.tokens) for tree in line)


def _lines(trees: Sequence[_Tree]) -> list[list[_Tree]]:
    """Return lines no longer than the largest tree: each tree, the larger first, stands in the first line with room."""
    lines: list[list[_Tree]] = []
    most = max(len(tree.tokens) for tree in trees)
    for tree in sorted(trees, key=lambda tree: -len(tree.tokens)):
        line = next((line for line in lines if _length(line) + len(tree.tokens) <= most), None)
        if line is None:
            lines.append(line := [])
        line.append(tree)
    return lines


def encoded_log_likelihoods(
    model: PreTrainedModel, ids: Sequence[Sequence[int]], begins: Sequence[int]
) -> Float[np.ndarray, " example"]:
    """Return the log-likelihood in nats of each row of tokens from position `begins` on (1 at least: the first conditions)."""
    return Forest(model, ids, begins).nats(lambda batch, _: model(**batch.inputs, use_cache=False).logits)


def token_log_likelihoods(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, statements: Sequence[str]
) -> tuple[Float[np.ndarray, " example"], Int[np.ndarray, " example"]]:
    """Return each statement's log-likelihood in nats and the number of tokens it is summed over.

    The first token (`<|bos|>` where the tokenizer adds one) conditions and is not scored.
    """
    ids = activations.encode(model, tokenizer, statements)
    nats = encoded_log_likelihoods(model, ids, [1] * len(ids))
    return nats, np.array([len(row) - 1 for row in ids])


def held_out_pairs(concepts: ConceptSet, held_out: Int[np.ndarray, " test"]) -> Int[np.ndarray, "pair 2"]:
    """Return (trustworthy, untrustworthy) indices among the held-out statements.

    Every such combination inside a group is a pair. Where most statements stand in groups of one label (the paper's
    files of single statements) each trustworthy statement is paired with the next untrustworthy one in the file.

    Raises:
        ValueError: if one of the labels does not occur among the held-out statements.
    """
    mixed = list(_mixed_groups(concepts, held_out).values())
    if 2 * sum(len(zeros) + len(ones) for zeros, ones in mixed) > len(held_out):
        return np.array([(one, zero) for zeros, ones in mixed for one in ones for zero in zeros])
    ones, zeros = ([int(i) for i in held_out if concepts.labels[i] == label] for label in (1, 0))
    if not ones or not zeros:
        raise ValueError(f"The held-out part of {concepts.name}/{concepts.dimension} must hold both labels; it holds one.")
    return np.array(list(zip(ones, zeros, strict=False)))


def _mixed_groups(concepts: ConceptSet, held_out: np.ndarray) -> dict[str, tuple[list[int], list[int]]]:
    """Return the untrustworthy and the trustworthy members of each group that has both."""
    sides: dict[str, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for i in held_out:
        sides[concepts.groups[i]][concepts.labels[i]].append(int(i))
    return {group: both for group, both in sides.items() if all(both)}


_NEUTRAL = {"test": slice(0, 15), "validation": slice(15, 25)}


def neutral_text(dimension: str, part: str = "test", concept_set: str = "pocket") -> tuple[str, ...]:
    """Return text to measure perplexity on: trustworthy statements of the four other dimensions.

    They are the pocket set's, this book's own, so no pre-training corpus held them; beside the sets of the designed world,
    whose models know no other words, they are the world's. `test` has 60 statements, `validation`, which settings are
    chosen on, 40 others.
    """
    out: list[str] = []
    for other in DIMENSIONS:
        if other != dimension:
            concepts = load("world" if concept_set in DESIGNED else "pocket", other)
            out += [concepts.statements[i] for i in np.flatnonzero(concepts.labels == 1)[_NEUTRAL[part]]]
    return tuple(out)


def preference(
    nats: Float[np.ndarray, " example"], tokens: Int[np.ndarray, " example"], pairs: Int[np.ndarray, "pair 2"]
) -> Float[np.ndarray, " pair"]:
    """Return by how much the trustworthy member of each pair is preferred, in nats per token.

    Likelihoods are divided by the number of tokens, since members may differ in length. A pair is the indices of its
    trustworthy and its untrustworthy member.
    """
    per_token = nats / tokens
    return per_token[pairs[:, 0]] - per_token[pairs[:, 1]]


def grammatical(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, evaluation.Estimate]:
    """Return how often the grammatical sentence of a pair is the likelier one per token: over all kinds, and by kind.

    Source: after BLiMP (Warstadt et al. 2020), which sums over tokens; the pairs are our own (`concepts.grammar`).
    """
    sentences = grammar()
    scored = token_log_likelihoods(model, tokenizer, sentences.statements)
    right = preference(*scored, np.arange(len(sentences)).reshape(-1, 2)) > 0
    groups, kinds = sentences.groups[::2], np.array(sentences.categories[::2])
    parts = {"grammar": np.full(len(kinds), True)} | {kind: kinds == kind for kind in dict.fromkeys(sentences.categories)}
    drawn = {name: evaluation.bootstrap_weights([*compress(groups, part)], seed=0) for name, part in parts.items()}
    return {name: evaluation.mean(right[part].astype(float), drawn[name]) for name, part in parts.items()}


@dataclass(frozen=True, eq=False)
class Perplexity(evaluation.Estimate):
    """A perplexity, and the loss of each text behind it in nats per token."""

    losses: Float[np.ndarray, " example"]


def perplexity(nats: Float[np.ndarray, " example"], tokens: Int[np.ndarray, " example"]) -> Perplexity:
    """Return exp(mean negative log-likelihood per token), with a bootstrap interval over statements."""
    weights = evaluation.bootstrap_weights([str(i) for i in range(len(tokens))], seed=0)
    low, high = np.exp(np.quantile(-(weights @ nats) / (weights @ tokens), [0.025, 0.975]))
    value = float(np.exp(-nats.sum() / tokens.sum()))
    return Perplexity(value, float(low), float(high), len(tokens), -nats / tokens)


def multiple_choice(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, concepts: ConceptSet
) -> tuple[dict[str, Float[np.ndarray, " choice"]], tuple[str, ...]]:
    """Score each group that has both labels as a multiple choice (TruthfulQA: one question and its answers).

    What all members of a group begin with (the question) conditions; the rest of each is scored, in nats per token.

    Returns:
        `mc1`: 1 where the first trustworthy member is likelier than every untrustworthy one, else 0; `mc2`: the
        trustworthy members' share of the probability, that of a member being exp(nats per token); and the groups.

    Source: MC1 and MC2 of TruthfulQA (Lin et al. 2022), which sum over tokens; divided by length here, since true
    answers are longer.
    """
    if not (groups := _mixed_groups(concepts, np.arange(len(concepts)))):
        return {"mc1": np.empty(0), "mc2": np.empty(0)}, ()
    rows = [i for zeros, ones in groups.values() for i in (*zeros, *ones)]
    ids = dict(zip(rows, activations.encode(model, tokenizer, [concepts.statements[i] for i in rows]), strict=True))
    begin = {}
    for zeros, ones in groups.values():
        members = [ids[i] for i in (*zeros, *ones)]
        shared = next((at for at, column in enumerate(zip(*members, strict=False)) if len(set(column)) > 1), len(members[0]))
        begin |= {i: max(1, min(shared, len(ids[i]) - 1)) for i in (*zeros, *ones)}
    nats = dict(zip(rows, encoded_log_likelihoods(model, [ids[i] for i in rows], [begin[i] for i in rows]), strict=True))
    score = {i: nats[i] / (len(ids[i]) - begin[i]) for i in rows}
    mc1, mc2 = [], []
    for zeros, ones in groups.values():
        mc1.append(float(score[ones[0]] > max(score[i] for i in zeros)))
        right, wrong = (np.exp([score[i] for i in side]).sum() for side in (ones, zeros))
        mc2.append(right / (right + wrong))
    return {"mc1": np.array(mc1), "mc2": np.array(mc2)}, tuple(groups)
