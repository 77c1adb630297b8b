"""What the notebook keeps of every dimension: who is asked, the rows of its table, answers, and the evidence of each pair."""

import itertools
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from zlib import crc32

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ... import results
from ...checkpoints.types import Checkpoint
from ...core.evaluation import Estimate
from ...statements.concepts import ConceptSet, Split, draw, folds, subset
from ..tables import Acts, Table
from . import behaviour, capability, intervention, likelihoods, nulls

__all__ = ["PARTS", "Parts", "Run", "parts"]

PARTS = ("validation", "test")
"""Settings are chosen on the first and reported on the second; vectors are made from the rest."""


@dataclass(frozen=True, eq=False)
class Parts:
    """The statements of a dimension and who is asked about them.

    Attributes:
        split: which of them vectors are made from, and which are held out.
        rows: of each held-out part, the statements that are asked about.
        pairs: of each held-out part, rows of a trustworthy and an untrustworthy statement.
    """

    concepts: ConceptSet
    split: Split
    rows: dict[str, Int[np.ndarray, " row"]]
    pairs: dict[str, Int[np.ndarray, "pair 2"]]

    @property
    def groups(self) -> list[str]:
        """The group of each test pair."""
        return [self.concepts.groups[i] for i in self.pairs["test"][:, 0]]


def parts(concepts: ConceptSet, asked: int) -> Parts:
    """Return a dimension cut in parts, with at most `asked` statements (0: all) in each held-out one."""
    split, rows, pairs = folds(concepts, seed=0)[0], {}, {}
    for part in PARTS:
        held = getattr(split, part)
        rows[part] = held[draw(subset(concepts, held), asked or len(held))]
        pairs[part] = likelihoods.held_out_pairs(concepts, rows[part])
    return Parts(concepts, split, rows, pairs)


@dataclass(eq=False)
class Run:
    """One checkpoint's vectors on one chat model: what is measured goes into `table`, dimension after dimension.

    Attributes:
        table: the rows; its checkpoint is the source of the vectors.
        target: the chat model's checkpoint, of which `model` has the head.
        own: the chat model's activations, by dimension.
        vectors: by dimension and method, one a layer.
        layers: 0-based blocks.
        doses: in standard deviations of the chat model's projections; `nulls.DOSE` is one of them.
        positions: where vectors are added, as in `Sweep`.
        concept_set: as the notebook names it; says which neutral text is read.
    """

    table: Table
    target: Checkpoint
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    parts: Mapping[str, Parts]
    own: Mapping[str, Acts]
    vectors: Mapping[str, Mapping[str, Float[np.ndarray, "layer d_model"]]]
    layers: Sequence[int]
    doses: Sequence[float]
    positions: str
    concept_set: str

    def text(self, name: str, part: str = "test") -> tuple[str, ...]:
        """Return the neutral text that perplexity is measured on."""
        return likelihoods.neutral_text(name, part, self.concept_set)

    @cached_property
    def sweeps(self) -> dict[tuple[str, str], intervention.Sweep]:
        """What scores the pairs under a vector, by dimension and part."""
        return {
            (name, part): intervention.Sweep(
                self.model, self.tokenizer, each.concepts, each.pairs[part], self.layers, self.text(name, part), self.positions
            )
            for name, each in self.parts.items()
            for part in PARTS
        }

    @cached_property
    def plain(self) -> dict[tuple[str, str], tuple[Float[np.ndarray, " pair"], likelihoods.Perplexity]]:
        """Preferences and perplexity without a vector, by dimension and part."""
        return {which: sweep.unsteered() for which, sweep in self.sweeps.items()}

    @cached_property
    def chosen(self) -> dict[str, tuple[int, int] | None]:
        """Places of the layer and the positive dose that the validation part chooses, by dimension; None where nothing gains."""
        places = {}
        for name in self.parts:
            plain, vectors = self.plain[name, "validation"], self.vectors[name]["vector"]
            trial = intervention.dose_response(self.sweeps[name, "validation"], self.layers, vectors, self.positive, plain)
            places[name] = intervention.choose(trial, self.positive, intervention.BOUND)
        return places

    @property
    def positive(self) -> list[float]:
        """The doses that may be chosen."""
        return [dose for dose in self.doses if dose > 0]

    @cached_property
    def responses(self) -> dict[tuple[str, str], intervention.Response]:
        """What the test pairs did under every layer and dose, by dimension and method."""
        return {
            (name, method): self._respond(name, vectors, self.doses)
            for name, methods in self.vectors.items()
            for method, vectors in methods.items()
        }

    def _respond(self, name: str, vectors: np.ndarray, doses: Sequence[float]) -> intervention.Response:
        return intervention.dose_response(self.sweeps[name, "test"], self.layers, vectors, doses, self.plain[name, "test"])

    @cached_property
    def null(self) -> dict[str, nulls.Null]:
        """What directions that mean nothing do, by dimension; runs side by side begin with different ones."""
        by_dimension, source = {}, self.table.checkpoint.revision
        for name in sorted(self.parts, key=lambda name: crc32(f"{source} {name}".encode())):
            each = self.parts[name]
            asked = each.concepts, each.split.train, each.pairs["test"], self.layers, self.text(name), self.positions
            by_dimension[name] = nulls.measured(self.model, self.tokenizer, self.own[name], *asked)
        return by_dimension

    @property
    def _standard(self) -> int:
        return list(self.doses).index(nulls.DOSE)

    def _add(self, name: str, at: int | None, method: str, dose: float, effect: Mapping[str, Estimate], **more: object) -> None:
        rows = ((at, method, metric, estimate) for metric, estimate in effect.items())
        self.table.add(self.parts[name].concepts, rows, dose=dose, **more)

    def _effect(self, name: str, after: np.ndarray, cost: likelihoods.Perplexity) -> dict[str, Estimate]:
        """Return gain, preferred and perplexity of one setting."""
        return intervention.effects(self.plain[name, "test"][0], after, self.parts[name].groups) | {"perplexity": cost}

    def add_sweep(self) -> None:
        """Add the effect of every vector at every layer and dose, and what the model does without."""
        for name in self.parts:
            self._add(name, None, "unsteered", 0.0, self._effect(name, *self.plain[name, "test"]))
        for (name, method), response in self.responses.items():
            train = self.own[name][self.parts[name].split.train]
            norms = intervention.relative_norms(self.vectors[name][method], train, self.layers)
            for (i, at), (j, dose) in itertools.product(enumerate(self.layers), enumerate(self.doses)):
                effect = self._effect(name, response.after[i, j], response.costs[i][j])
                self._add(name, at, method, dose, effect, relative_norm=abs(dose) * norms[i])

    def add_gain_over_own(self) -> None:
        """Add by how much more a checkpoint's vector brings than the chat model's own, on the same pairs."""
        for name, each in self.parts.items() if self.table.checkpoint != self.target else ():
            own = self.own[name]
            mine = intervention.directions(own, own, each.concepts, each.split.train, self.layers)["vector"]
            reference = self._respond(name, mine, [nulls.DOSE])
            for i, at in enumerate(self.layers):
                after = self.responses[name, "vector"].after[i, self._standard]
                gain = intervention.effects(reference.after[i, 0], after, each.groups)["gain"]
                self._add(name, at, "vector", nulls.DOSE, {"gain_over_own": gain})

    def add_gain_over_null(self) -> None:
        """Add by how much more a vector brings than directions that mean nothing; of the chat model's run also these."""
        for (name, method), response in self.responses.items():
            for i, at in enumerate(self.layers):
                for null, estimate, p in self.null[name].against(response.gain[i, self._standard], i):
                    self._add(name, at, method, nulls.DOSE, {f"gain_over_{null.replace(' ', '_')}": estimate}, **p)
        self.table.rows.extend(self.drawn if self.table.checkpoint == self.target else [])

    @property
    def drawn(self) -> list[dict]:
        """A row for the gain of each direction that means nothing; they are the chat model's."""
        return [
            results.row(self.target, each.concepts, at, null, "gain", Estimate(value, value, value, n), str(number))
            | {"dose": nulls.DOSE}
            for (name, each), null, (i, at) in itertools.product(self.parts.items(), nulls.METHODS, enumerate(self.layers))
            for n in [len(each.pairs["test"][: nulls.PAIRS])]
            for number, value in enumerate(self.null[name].gain[null][:, i])
        ]

    def add_side_effects(self) -> None:
        """Add what each dimension's vector does to the pairs of every dimension, at the middle one of the layers."""
        k = len(self.layers) // 2
        for made_for, name in itertools.product(self.parts, self.parts):
            after = self.responses[name, "vector"].after[k, self._standard]
            if made_for != name:
                shift = np.asarray(nulls.DOSE * self.vectors[made_for]["vector"][k], dtype=np.float32)
                after, _ = self.sweeps[name, "test"](self.layers[k], shift)
            before = self.plain[name, "test"][0]
            gain = intervention.effects(before, after, self.parts[name].groups)["gain"]
            _, _, p = next(self.null[name].against(after - before, k))
            self._add(name, self.layers[k], "vector", nulls.DOSE, {"side_effect": gain}, vector_of=made_for, **p)

    def add_measures(self, measures: Sequence[str], toxicity_judge: str = "") -> None:
        """Add what the chosen settings, and one random direction in their place, do to what the model answers.

        Measures are `trust`, `ability`, or others, which ask nothing.
        """
        toxicity, trust = self.parts.get("toxicity"), "trust" in measures
        judge = behaviour.judge(toxicity_judge, toxicity.concepts, toxicity.split) if trust and toxicity else None
        general = capability.measure(self.model, self.tokenizer) if "ability" in measures else {}
        for name in self.parts:
            before = (self._trust(name, judge) if trust else {}) | general
            unsteered = {metric: behaviour.compare(measured, measured)[0] for metric, measured in before.items()}
            self._add(name, None, "unsteered", 0.0, unsteered)
            for label in ("chosen", "chosen, random direction") if self.chosen[name] else ():
                self._add_measured(name, label, before, judge, trust, bool(general))
        if judge:
            self._add("toxicity", None, f"classifier {toxicity_judge}".strip(), 0.0, {"auroc": judge.auroc})

    def _trust(self, name: str, judge: behaviour.Judge | None) -> dict[str, behaviour.Measured]:
        part = subset(self.parts[name].concepts, self.parts[name].rows["test"])
        chat = self.tokenizer.chat_template is not None
        return behaviour.measure(self.model, self.tokenizer, part, chat=chat, judge=judge)

    def _add_measured(
        self, name: str, label: str, before: Mapping, judge: behaviour.Judge | None, trust: bool, ability: bool
    ) -> None:
        (i, j), each = self.chosen[name], self.parts[name]
        at, dose, one = self.layers[i], self.positive[j], self.vectors[name]["vector"][i]
        if label != "chosen":
            one = nulls.directions(self.own[name][:, at], each.concepts, each.split.train, at)["random direction"][0]
        swept = self.sweeps[name, "test"](at, np.asarray(dose * one, dtype=np.float32))
        self._add(name, at, label, dose, self._effect(name, *swept))
        with intervention.steer(self.model, one, layer=at, multiplier=dose, positions=self.positions):
            after = self._trust(name, judge) if trust else {}
            after |= capability.measure(self.model, self.tokenizer) if ability else {}
        for metric, measured in after.items():
            value, change = behaviour.compare(before[metric], measured)
            self._add(name, at, label, dose, {metric: value, f"{metric}_change": change}, p=change.p)

    def answers(self, wanted: bool) -> pd.DataFrame:
        """Return answers before and after, in every dimension at its chosen setting; no rows if they are not wanted."""
        rows, chat = [], self.tokenizer.chat_template is not None
        for name, each in self.parts.items() if wanted else ():
            i, j = self.chosen[name] or (0, None)
            at, dose, prompts = self.layers[i], 0.0 if j is None else self.positive[j], behaviour.PROMPTS[name]
            said = []
            for push in (nullcontext(), self._pushed(name, i, dose)):
                with push:
                    said.append(behaviour.generate(self.model, self.tokenizer, prompts, 40, chat=chat))
            source = self.table.checkpoint
            common = [source.suite, source.revision, each.concepts.name, name, at, dose]
            rows += [[*common, *answer] for answer in zip(prompts, *said, strict=True)]
        columns = ["suite", "revision", "concept_set", "dimension", "layer", "dose", "prompt", "before", "after"]
        return pd.DataFrame(rows, columns=columns)

    def _pushed(self, name: str, place: int, dose: float) -> AbstractContextManager:
        vector = self.vectors[name]["vector"][place]
        return intervention.steer(self.model, vector, layer=self.layers[place], multiplier=dose, positions=self.positions)

    def save_evidence(self, file: str) -> None:
        """Write the vectors and the numbers of every pair."""
        arrays = {}
        for (name, method), response in self.responses.items():
            arrays |= {f"{name}/gain/{method}": response.gain, f"{name}/nats/{method}": response.losses}
            arrays[f"{name}/direction/{method}"] = self.vectors[name][method]
        for name, each in self.parts.items():
            arrays[f"{name}/nats/unsteered"] = self.plain[name, "test"][1].losses
            arrays |= {f"{name}/groups": np.unique(each.groups, return_inverse=True)[1], f"{name}/doses": self.doses}
            for method, gain in self.null[name].gain.items():
                arrays |= {f"{name}/null/gain/{method}": gain, f"{name}/null/cost/{method}": self.null[name].cost[method]}
        source, provenance = self.table.checkpoint, {"null_dose": nulls.DOSE, "null_pairs": nulls.PAIRS}
        provenance |= {"suite": source.suite, "revision": source.revision, "scaled_like": self.target.revision}
        provenance |= {"layers": self.layers, "doses": self.doses}
        provenance["statements"] = {name: each.concepts.sha256 for name, each in self.parts.items()}
        intervention.save(file, arrays, provenance)
