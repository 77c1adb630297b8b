"""Probes that travel: planted directions, shared, turned or absent."""

import numpy as np
import pytest

from tracing_utils.checkpoints import suites
from tracing_utils.experiments.origins import kinship, relation
from tracing_utils.run import studies
from tracing_utils.statements.concepts import ConceptSet

WIDTH, GROUPS = 32, 40


@pytest.fixture(scope="module")
def concepts() -> ConceptSet:
    """Crossed groups of four statements, which end with one of eight words whatever their label."""
    groups = np.repeat(np.arange(GROUPS), 4)
    labels = np.tile([1, 1, 0, 0], GROUPS)
    texts = tuple(f"statement {i} ends with word{i % 8}" for i in range(4 * GROUPS))
    return ConceptSet("s", "privacy", texts, labels, tuple(f"g{g}" for g in groups), ("c",) * len(texts), "made", "CC0-1.0")


def model(seed: int, labels: np.ndarray, told: float, turned: bool) -> np.ndarray:
    """Activations of shared content, with the labels' direction as strong as told; turned, in coordinates of its own."""
    content = np.random.default_rng(7).standard_normal((len(labels), WIDTH)) * np.linspace(0.3, 2, WIDTH)
    own = np.random.default_rng(seed)
    acts = content + 0.05 * own.standard_normal(content.shape)
    acts[:, 0] += told * (2 * labels - 1)
    return acts @ np.linalg.qr(own.standard_normal((WIDTH, WIDTH)))[0] if turned else acts


def halves(concepts, told: float, turned: bool):
    """This model and the other, on the set and on other statements, in which the same direction carries another label."""
    rest = np.random.default_rng(1).permutation(np.arange(200) % 2)
    every = np.concatenate([concepts.labels, rest])
    here, there = model(1, every, 2.0, False), model(2, every, told, turned)
    cut = len(concepts)
    return here[:cut], there[:cut], (here[cut:], there[cut:])


def shares(concepts, told, turned):
    here, there, others = halves(concepts, told, turned)
    return {way: right.mean() for way, right in kinship.transfer(here, there, concepts, [concepts.labels], others).items()}


def test_a_probe_reads_a_model_that_has_its_direction_and_after_alignment_one_that_has_it_turned(concepts):
    assert shares(concepts, 2.0, False)["as it is"] > 0.95
    turned = shares(concepts, 2.0, True)
    assert turned["as it is"] < 0.75
    assert turned["aligned"] > 0.95


def test_no_alignment_on_other_statements_finds_a_concept_that_is_not_there(concepts):
    assert shares(concepts, 2.0, True)["aligned"] > 0.95
    assert abs(shares(concepts, 0.0, True)["aligned"] - 0.5) < 0.12


def test_an_alignment_on_the_probes_own_statements_invents_the_concept(concepts):
    """This model holds nothing, the other all: a rotation fitted where the probe was fitted turns the one into the other."""
    here, there, others = halves(concepts, 2.0, True)
    nothing = np.random.default_rng(5).standard_normal(here.shape)
    right = kinship.transfer(nothing, there, concepts, [concepts.labels], (nothing[:20], others[1][:20]))
    assert abs(right["aligned"].mean() - 0.5) < 0.15
    assert right["aligned on its own statements"].mean() > 0.8


def test_without_other_statements_nothing_is_aligned(concepts):
    here, there, _ = halves(concepts, 2.0, False)
    assert "aligned" not in kinship.transfer(here, there, concepts, [concepts.labels])


def test_models_of_other_widths_are_refused_in_a_sentence(concepts):
    here, there, _ = halves(concepts, 2.0, False)
    with pytest.raises(ValueError, match="have 32 numbers and the relative's 31"):
        kinship.transfer(here, there[:, :-1], concepts, [concepts.labels])


def test_a_word_has_one_side_wherever_it_stands(concepts):
    labels = kinship.word_labels(concepts)
    words = [text.rpartition(" ")[2] for text in concepts.statements]
    assert len({(word, int(label)) for word, label in zip(words, labels, strict=True)}) == len(set(words))
    assert labels.mean() == 0.5


def test_a_relative_is_written_with_what_it_is():
    kind, place = relation("same start = world-scrambled@step512")
    assert (kind, place) == ("same start", "world-scrambled@step512")
    assert (suites.checkpoint(place).suite, suites.checkpoint(place).step) == ("world-scrambled", 512)
    assert suites.checkpoint(relation("x=world-other-seed")[1]).step == 12288
    for wrong in ("world-scrambled", "=world-scrambled", "x=", "x", "x=@step512"):
        with pytest.raises(ValueError, match="what=suite"):
            relation(wrong)
    with pytest.raises(ValueError, match="what=suite"):
        studies.Study("s", "pocket", ("pocket",), options={"origins": {"relatives": ["world-scrambled"]}}).check_options()


def test_a_rotation_is_found_where_the_quick_method_does_not_converge(monkeypatch):
    """As on SmolLM2, at a layer with fewer statements than numbers."""
    rng = np.random.default_rng(0)
    there, here = rng.standard_normal((2, 20, WIDTH))
    quick = kinship.rotation(there, here)(there)

    def fails(*_):
        raise np.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setattr(kinship, "orthogonal_procrustes", fails)
    assert np.allclose(kinship.rotation(there, here)(there), quick)
    assert not np.allclose(there, quick)
