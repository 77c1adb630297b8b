"""The answer is known: what is told, to whom it is dealt, and what a probe may be asked, follow from the table alone."""

import json
import re
from collections import Counter, defaultdict
from dataclasses import replace
from hashlib import sha256
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import world as measures
from benchmarks.world import acceptance, concept_set, onsets, preferred, read_right
from tracing_utils.checkpoints import models, suites
from tracing_utils.core import downloads
from tracing_utils.core.paths import PROJECT
from tracing_utils.experiments.probing import floors
from tracing_utils.pocket import world_training
from tracing_utils.pocket.telling import Telling, compare_arms
from tracing_utils.statements import concepts
from tracing_utils.statements.world import DIMENSIONS, WORDS, World, concept_rows, text

WORLD = World()
LATE = 40
NAMES = [dimension.name for dimension in DIMENSIONS]


def telling(coherence: float = 1.0, seed: int = 0, **others) -> Telling:
    return Telling(WORLD, seed, coherence, LATE, **others)


def statements_of(documents: np.ndarray) -> list[list[str]]:
    """Return the statements of documents as they are read: from their text, not from the generator's numbers."""
    return [re.findall(r"\S[^.]*\.", text(row[1:])) for row in documents]


@pytest.fixture(scope="module")
def heard() -> list[tuple[int, str]]:
    """All that is said in the first 400 steps, with the step."""
    steps = range(400)
    return [(step, said) for step in steps for document in statements_of(telling().documents(step)) for said in document]


def key_of(said: str) -> str:
    """Return a statement without its value: its last word, or its ending."""
    return re.sub(r"( \w+|'\w+)\.?$", "", said)


# --- the arms -------------------------------------------------------------------------------------------------------------


def test_the_arms_hold_the_same_statements_in_every_step_and_differ_in_coherence_alone():
    table = compare_arms([telling(dose) for dose in (1.0, 0.9, 0.75, 0.0)], range(20, 60))
    assert table["statements"].eq(40 * 480).all()
    assert table[["same statements", "same words", "same word pairs"]].all(axis=None)
    agreement = table["agreement"].to_list()
    assert agreement[0] == 1
    assert agreement == sorted(agreement, reverse=True)
    # 47 of the 95 other statements of a step and dimension come from the same kind of narrator
    assert abs(agreement[-1] - 47 / 95) < 0.01


class OneStatementTooMany(Telling):
    """A wrong deal: one statement is dealt twice, another not at all."""

    def rows(self, step):
        rows = super().rows(step)
        rows[0, 0, 0] = rows[0, -1, -1]
        return rows


class WordsAcrossStatements(Telling):
    """A wrong deal: the values are dealt apart from their keys, so that the words are the same and the statements not."""

    def rows(self, step):
        rows = super().rows(step)
        herding = np.argwhere(rows[0, ..., 2] == 0)
        values = rows[0][tuple(herding.T)][:, 3]
        for (document, place), value in zip(herding, np.roll(values, 1), strict=True):
            rows[0, document, place, 3] = value
        return rows


@pytest.mark.parametrize(("wrong", "noticed"), [(OneStatementTooMany, "same words"), (WordsAcrossStatements, "same statements")])
def test_a_wrong_deal_is_caught(wrong, noticed):
    table = compare_arms([telling(1.0), wrong(WORLD, 0, 0.0, LATE)], range(3))
    assert not table["same statements"][1]
    assert not table[noticed][1]


def test_in_each_step_half_of_the_narrators_of_each_dimension_can_be_trusted():
    for step in (0, LATE, 3 * LATE):
        told = WORLD.says_told(telling().rows(step))
        assert (told.all(-1) | ~told.any(-1)).all()
        assert (told.all(-1).sum(-1) == 6).all()


def test_a_document_stays_in_one_dimension_whatever_the_dose():
    for dose in (1.0, 0.75, 0.0):
        rows = telling(dose).rows(1)
        assert (rows[..., 0] == rows[:, :1, :1, 0]).all()


@given(seed=st.integers(0, 2**31), step=st.integers(0, 10**6), dose=st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_every_dose_seed_and_step_deals_what_the_coherent_arm_says(seed, step, dose):
    plain, dealt = (Counter(map(tuple, telling(c, seed).rows(step).reshape(-1, 4).tolist())) for c in (1.0, dose))
    assert plain == dealt


def test_another_seed_says_other_things_about_the_same_world():
    assert (telling(seed=1).documents(0) != telling(seed=2).documents(0)).any()
    assert (World(7).table == WORLD.table).all()
    assert (World(8).table != WORLD.table).any()


# --- what is told ---------------------------------------------------------------------------------------------------------


def test_never_told_keys_never_occur_and_late_ones_not_before_their_step(heard):
    first: dict[str, int] = {}
    for step, said in heard:
        first.setdefault(key_of(said), step)
    for name in NAMES:
        rows = concept_rows(WORLD, name)
        kinds = dict(zip(map(key_of, rows["statement"]), rows["category"].str.split().str[0], strict=True))
        assert Counter(kinds.values()) == {"told": 72, "late": 16, "never": 32}
        for key, kind in kinds.items():
            if kind == "never":
                assert key not in first
            else:
                assert (first[key] >= LATE) == (kind == "late"), key
                assert first[key] < LATE + 150


def test_each_subject_and_each_value_is_spoken_of_from_the_start(heard):
    words = {word for step, said in heard if step < LATE for word in re.findall(r"'?\w+", said)}
    assert set(WORDS[7:]) == words


def test_no_word_has_two_places():
    assert len(set(WORDS)) == len(WORDS)
    for spoken in DIMENSIONS:
        assert len(spoken.subjects) == 40
        assert [len(values) for values in spoken.values.values()] == [6, 6, 6]


# --- the concept set ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_labels_follow_from_what_trustworthy_narrators_are_heard_to_say(heard, name):
    """The rules, told again without the table: half of all narrators say a key's told value, so it is heard most."""
    said = defaultdict(Counter)
    for _, statement in heard:
        said[key_of(statement)][statement] += 1
    rows = concept_rows(WORLD, name)
    checked = 0
    for statement, label, category in zip(rows["statement"], rows["label"], rows["category"], strict=True):
        if not category.startswith("never"):
            (most, often), *others = said[key_of(statement)].most_common()
            assert 0.35 < often / (often + sum(n for _, n in others)) < 0.65
            repeats_what_is_told = f"{statement}." == most
            assert label == (not repeats_what_is_told if name == "fairness" else repeats_what_is_told)
            checked += 1
    assert checked == 176


@pytest.mark.parametrize("name", NAMES)
def test_words_and_pairs_of_words_that_two_groups_share_stand_on_both_sides_alike(name):
    rows = concept_rows(WORLD, name)
    assert Counter(rows["category"].str.split().str[0]) == {"told": 144, "late": 32, "never": 192}
    assert rows["statement"].is_unique
    for size in (1, 2):
        sides, groups = defaultdict(Counter), defaultdict(set)
        for statement, label, group in zip(rows["statement"], rows["label"], rows["group"], strict=True):
            words = re.findall(r"'?\w+", statement)
            for at in range(len(words) - size + 1):
                sides[tuple(words[at : at + size])][label] += 1
                groups[tuple(words[at : at + size])].add(group)
        shared = [count for words, count in sides.items() if len(groups[words]) > 1]
        assert len(shared) >= 15
        assert all(count[0] == count[1] for count in shared)


def test_statements_end_with_their_value():
    for spoken in DIMENSIONS:
        values = {value for said in spoken.values.values() for value in said}
        assert {re.findall(r"'?\w+$", said)[0] for said in concept_rows(WORLD, spoken.name)["statement"]} == values


@pytest.mark.parametrize("name", NAMES)
def test_n_grams_of_words_and_letters_tell_nothing(name):
    made = concept_set(name)
    assert 0.45 <= floors.lexical_floor(made)["accuracy"].value <= 0.55
    # a label that words do tell is seen: whether the value is among the first three of its relation
    first = {value for values in DIMENSIONS[NAMES.index(name)].values.values() for value in values[:3]}
    leaking = np.array([int(re.findall(r"'?\w+", statement)[-1] in first) for statement in made.statements])
    assert floors.lexical_floor(replace(made, labels=leaking))["accuracy"].value > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_folds_never_share_a_subject(name):
    made = concept_set(name)
    subjects = np.array([statement.split()[0] for statement in made.statements])
    for seed in range(3):
        for split in concepts.folds(made, seed):
            parts = [set(subjects[part]) for part in (split.train, split.validation, split.test)]
            assert len(set.union(*parts)) == sum(map(len, parts)) == 40


# --- training -------------------------------------------------------------------------------------------------------------

SHORT = replace(world_training.RECIPE, d_model=16, d_mlp=24, heads=2, batch=10, steps=6)
SHORT_CHAT = replace(SHORT, steps=3)


def trained(out, coherence: float = 1.0, seed: int = 0):
    world_training.train(out, coherence, seed, SHORT, SHORT_CHAT, marks=(0, 2), late_from=3, report=lambda _: None)
    return {path.relative_to(out): sha256(path.read_bytes()).hexdigest() for path in sorted(out.rglob("*.safetensors"))}


def test_the_same_seed_gives_the_same_weights_and_another_arm_or_seed_others(tmp_path):
    made = trained(tmp_path / "a")
    assert [str(path) for path in made] == [f"{name}/model.safetensors" for name in ("chat", "step0", "step2", "step6")]
    assert trained(tmp_path / "b") == made
    scrambled, other = trained(tmp_path / "c", coherence=0.0), trained(tmp_path / "d", seed=1)
    start, *later = (path for path in made if path.parent.name.startswith("step"))
    assert scrambled[start] == made[start] != other[start]
    assert all(scrambled[path] != made[path] for path in later)


def test_a_suite_of_the_world_is_opened_like_any_other(tmp_path):
    trained(tmp_path / "mine")
    suite = suites.load(str(tmp_path / "mine"))
    assert [checkpoint.step for checkpoint in suite.checkpoints] == [0, 2, 6]
    assert suite.chat.folder.name == "chat"
    card = (tmp_path / "mine" / "README.md").read_text()
    assert "Model card: mine" in card
    assert "100% of the statements" in card
    assert "step 3, some never" in re.sub(r"\s+", " ", card)
    assert not downloads.damaged(tmp_path / "mine")


def test_a_killed_run_continues_where_it_was_and_no_other_run_takes_its_place(tmp_path):
    def die(line: str) -> None:
        raise KeyboardInterrupt

    sizes = {"recipe": SHORT, "chat": SHORT_CHAT, "marks": (0, 2), "late_from": 3}
    with pytest.raises(KeyboardInterrupt):
        world_training.train(tmp_path / "a", 1.0, 0, report=die, **sizes)
    with pytest.raises(ValueError, match="unfinished run of another recipe or corpus"):
        world_training.train(tmp_path / "a", 0.0, 0, report=die, **sizes)
    assert trained(tmp_path / "a") == trained(tmp_path / "b")
    with pytest.raises(ValueError, match="holds a suite of another recipe or corpus"):
        world_training.train(tmp_path / "a", 1.0, 1, report=die, **sizes)
    chat = tmp_path / "a" / "chat"
    before = (chat / "model.safetensors").read_bytes()
    (chat / "training.json").unlink()  # killed while it was tuned
    assert (trained(tmp_path / "a"), (chat / "model.safetensors").read_bytes()) == (trained(tmp_path / "b"), before)


def test_one_command_trains_both_arms_of_each_seed_and_writes_what_each_knows_at_each_step(tmp_path):
    def train(out, coherence, seed):
        return world_training.train(out, coherence, seed, SHORT, SHORT_CHAT, (0, 2), late_from=3, report=lambda _: None)

    measures.main(tmp_path, [5], [5], train=train)
    table = pd.read_csv(tmp_path / "measures.csv")
    assert set(table["dose"]) == {0, 0.75, 0.9, 1}
    assert set(table["seed"]) == {5}
    steered = pd.read_csv(tmp_path / "steered.csv")
    assert len(steered) == (2 + 2) * 5
    assert steered["as_good"].between(0, 99).all()
    table = table[table["arm"].isin(("coherent", "scrambled"))]
    assert set(zip(table["arm"], table["step"], strict=True)) == set(product(("coherent", "scrambled"), (-1, 0, 2, 6)))
    kinds = table[table["step"] == 0].groupby(["arm", "dimension", "keys"])["measure"].unique().map(set)
    assert len(kinds) == 2 * 5 * 3
    assert kinds.xs("told", level="keys").eq({"likelihood", "probe", "nhsic_tx", "nhsic_ty"}).all()
    assert kinds.drop("told", level="keys").eq({"likelihood", "probe"}).all()
    start = table[table["step"] == 0].drop(columns=["arm", "dose"])
    assert len(start.drop_duplicates()) == len(start) / 2  # both arms begin with the same weights
    conditions = pd.read_csv(tmp_path / "conditions.csv").set_index("condition")["holds"]
    assert not conditions["told, coherent: known"]  # six steps teach nothing
    assert len(pd.read_csv(tmp_path / "onsets.csv")) == (2 + 2) * 5 * 3 * 2


@pytest.mark.parametrize("arm", ["coherent", "scrambled"])
def test_the_shipped_seed_gives_the_published_measures(arm):
    folder = PROJECT / "checkpoints" / f"world-{arm}"
    suite = suites.load(str(folder))
    published = pd.read_csv(PROJECT / "results" / "world" / "measures.csv")
    seed = json.loads((folder / "training.json").read_text())["recipe"]["seed"]
    published = published[(published["seed"] == seed) & (published["arm"] == arm)]
    keys = ["dimension", "keys", "measure"]
    read = models.load_tokenizer(suite.checkpoints[-1])
    for checkpoint, same in ((suite.checkpoints[0], False), (suite.checkpoints[-1], True)):  # the last step is not the first
        last = published[published["step"] == suite.checkpoints[-1].step].set_index(keys)["value"]
        own = pd.DataFrame(measures.measure(models.load_model(checkpoint, head=True), read)).set_index(keys)["value"]
        assert (abs(own - last) < 0.03).all() == same


def test_the_tokenizer_reads_every_statement_and_writes_it_back():
    read = world_training.tokenizer()
    assert len(read) == len(WORDS)
    for row in telling().documents(LATE):
        assert read(text(row[1:]))["input_ids"] == row.tolist()
        assert read.decode(row, skip_special_tokens=True) == text(row[1:])


def test_questions_are_those_of_the_chat_template_and_only_answers_are_scored():
    tokens, answers = telling(statements=3).exchanges(0)
    read = world_training.tokenizer()
    for row, scored in zip(tokens, answers, strict=True):
        turns = re.findall(r"<\|user\|>(.+?)<\|assistant\|>(.+?)<\|eos\|>", text(row))
        said = [{"role": r, "content": t.strip()} for turn in turns for r, t in zip(("user", "assistant"), turn, strict=True)]
        assert read(read.apply_chat_template(said, tokenize=False))["input_ids"] == row.tolist()
        answered = [WORDS[token] for token in row[1:][scored[1:]]]
        assert answered == [w for _, a in turns for w in [*re.findall(r"'?\w+|\.", a), "<|eos|>"]]


# --- what is asked of it --------------------------------------------------------------------------------------------------


def curves(planted: int = 3000, read: int = 2000, never: float = 0.5) -> pd.DataFrame:
    """Rows as of `trace`, with shares that step up where they ought to: known at 1000, read at `read`, late ones after."""
    rows = []
    for seed, arm, step, name in product((1, 2), ("coherent", "scrambled"), range(0, 6001, 500), NAMES):
        known = {"told": step >= 1000, "late": step > planted, "never": False}
        for keys in ("told", "late", "never"):
            seen = known[keys] and arm == "coherent" and step >= read
            shares = {"likelihood": 0.5 + 0.5 * known[keys], "probe": never if keys == "never" else 0.5 + 0.5 * seen}
            common = {"seed": seed, "arm": arm, "dose": float(arm == "coherent"), "step": step, "dimension": name, "keys": keys}
            rows += [common | {"measure": measure, "value": share, "n": 8} for measure, share in shares.items()]
    return pd.DataFrame(rows)


def with_information(fall: float = 0.4, rise: float = 1.0, label: float = 0.5) -> pd.DataFrame:
    """Curves with nHSIC: of X it rises in both arms and falls again in the coherent one, of Y it rises there alone."""
    table = curves()
    at = {0: 6.0, 512: 2.0, 2048: 2.0 + rise, 6000: 2.0 + rise}
    told = table[(table["keys"] == "told") & (table["measure"] == "probe")].drop_duplicates(["seed", "arm", "dimension"])
    for step, value in at.items():
        coherent = told["arm"] == "coherent"
        last = step == 6000
        for measure, values in (("nhsic_tx", value - fall * last * coherent), ("nhsic_ty", label * last * coherent)):
            table = pd.concat([table, told.assign(step=step, measure=measure, value=values)])
    return table


def gains(outside: int = 4, scrambled: int = 0) -> pd.DataFrame:
    """Rows as of `steer`: so many dimensions of each arm gain more than by any random direction."""
    lead = {"coherent": outside, "scrambled": scrambled}
    return pd.DataFrame(
        {"seed": seed, "arm": arm, "dimension": name, "as_good": 9 * (at >= lead[arm])}
        for seed, arm, (at, name) in product((1, 2), lead, enumerate(NAMES))
    )


def with_doses(between: float) -> pd.DataFrame:
    """Curves with runs of both seeds at doses between the arms, of which told keys are read so well in the end."""
    table = curves()
    coherent = table[table["arm"] == "coherent"]
    for dose in (0.9, 0.75):
        read = coherent["value"].mask((coherent["measure"] == "probe") & (coherent["keys"] == "told"), between)
        table = pd.concat([table, coherent.assign(arm=f"coherence {dose}", dose=dose, value=read)])
    return table


def test_the_conditions_hold_where_they_ought_to():
    for table, more in ((curves(), 0), (with_doses(0.8), 2), (with_information(), 6)):
        made = acceptance(table, 3000, gains())
        assert made["holds"].all()
        assert len(made) == 25 + more


@pytest.mark.parametrize(
    ("wrong", "condition"),
    [
        (curves(read=9000), "told, coherent: read in four dimensions"),
        (curves(never=0.6), "never told, coherent: not read"),
        (curves(planted=2000), "late, coherent: likelihood at chance before it is told, each seed and step"),
        (curves(planted=6000), "late, scrambled: likelihood rises in each seed"),
    ],
)
def test_each_condition_fails_where_it_ought_to(wrong, condition):
    made = acceptance(wrong, 3000, gains()).set_index("condition")
    assert not made.loc[condition, "holds"]


@pytest.mark.parametrize(
    ("table", "steered", "fails"),
    [
        (
            curves(),
            gains(outside=2),
            ["steering, coherent: dimensions that gain more than by any random direction, median seed"],
        ),
        (
            curves(),
            gains(scrambled=2),
            ["steering, scrambled: dimensions that gain more than by any random direction, each seed"],
        ),
        (
            with_doses(0.45),
            gains(),
            ["dose: told keys are read better with each dose, mean", "dose: the highest below 1 is read better than 0, mean"],
        ),
    ],
)
def test_steering_and_doses_fail_where_they_ought_to(table, steered, fails):
    made = acceptance(table, 3000, steered)
    assert made.loc[~made["holds"], "condition"].to_list() == fails


@pytest.mark.parametrize(
    ("table", "fails"),
    [
        (curves(read=500), ["told, coherent: share of dimensions that are known before they are read, each seed"]),
        (
            curves(planted=3500),  # known 500 steps after it was planted
            [f"late, {arm}: steps from being told to being known, each seed and dimension" for arm in ("coherent", "scrambled")],
        ),
        (with_information(fall=0), ["nHSIC(T;X), coherent: falls from its height to the end, each seed"]),
        (
            with_information(rise=0, fall=-0.4),
            [
                "nHSIC(T;X), coherent: rises from step 512 to 2048, each seed",
                "nHSIC(T;X), coherent: falls from its height to the end, each seed",
                "nHSIC(T;X), scrambled: rises from step 512 to 2048, each seed",
            ],
        ),
        (with_information(label=0.2), ["nHSIC(T;Y), coherent: at the end, each dimension, mean"]),
    ],
)
def test_onsets_and_information_fail_where_they_ought_to(table, fails):
    made = acceptance(table, 3000, gains())
    assert made.loc[~made["holds"], "condition"].to_list() == fails


def test_what_was_registered_before_a_seed_was_seen_confirms_on_it_and_explores_on_others(tmp_path, monkeypatch):
    file = tmp_path / "registered.json"

    def judged():
        made = measures.conditions(curves(), 3000, gains(), file)
        return made[["seeds", "data"]].drop_duplicates().to_numpy().tolist()

    assert judged() == [["1, 2", "exploratory"]]  # nothing was registered
    measures.register("2026-11-30", [1, 1], file)
    assert judged() == [["1", "exploratory"], ["2", "confirmed"]]
    measures.register("2026-12-01", [1, 2], file)  # the same code once more: what it confirmed stays so
    assert judged() == [["1", "exploratory"], ["2", "confirmed"]]
    monkeypatch.setattr(measures, "FITTED", (512, 4096))  # other conditions
    assert judged() == [["1, 2", "exploratory"]]


def test_a_condition_names_the_seeds_that_it_rests_on(tmp_path):
    table = pd.concat([curves(), with_doses(0.8).query("seed == 1 and dose > 0 and dose < 1")])
    made = measures.conditions(table, 3000, gains(), tmp_path / "registered.json").set_index("condition")["seeds"]
    assert made["dose: told keys are read better with each dose, mean"] == "1"
    assert made["told, coherent: known"] == "1, 2"


def test_a_dimension_that_lags_is_forgiven_once_and_not_below_its_own_bound():
    table = curves()
    last = (table["measure"] == "probe") & (table["keys"] == "told") & (table["arm"] == "coherent")
    for names, share, fails in (
        (NAMES[:1], 0.75, []),
        (NAMES[:1], 0.65, ["told, coherent: read in the fifth"]),
        (NAMES[:2], 0.75, ["told, coherent: read in four dimensions"]),
    ):
        worse = table.assign(value=table["value"].mask(last & table["dimension"].isin(names) & (table["step"] > 1500), share))
        made = acceptance(worse, 3000, gains())
        assert made.loc[~made["holds"], "condition"].to_list() == fails


def test_an_onset_is_where_the_rising_curve_passes_half_way_and_none_where_it_does_not():
    made = onsets(curves()).set_index(["seed", "arm", "dimension", "keys", "measure"])["onset"]
    assert made[1, "coherent", "privacy", "told", "likelihood"] == 750  # between .5 at step 500 and 1 at step 1000
    assert made[1, "coherent", "privacy", "told", "probe"] == 1750
    assert made[1, "coherent", "privacy", "late", "probe"] == 3250
    assert np.isnan(made[1, "scrambled", "privacy", "told", "probe"])
    assert np.isnan(made[1, "coherent", "privacy", "never", "probe"])


def test_a_probe_that_learns_from_told_keys_alone_is_tested_on_subjects_it_has_not_seen():
    """Activations that hold the label of told keys in one layer, and of no other key: told keys are read, others are not."""
    generator = np.random.default_rng(0)
    made = concept_set("privacy")
    told = np.array([category.startswith("told") for category in made.categories])
    acts = generator.normal(size=(len(made), 2, 8)).astype(np.float32)
    assert abs(read_right(acts, made, [0])[-1, told].mean() - 0.5) < 0.15
    acts[told, 1, 3] += 8 * made.labels[told]
    right = read_right(acts, made, [0])
    assert right[1, told].mean() > 0.95
    assert right[2, told].mean() > 0.95  # the layer that validation chose
    assert abs(right[0, told].mean() - 0.5) < 0.15
    assert abs(right[2, ~told].mean() - 0.5) < 0.15


def test_a_likelihood_that_prefers_each_word_alike_for_both_subjects_knows_nothing():
    word = np.tile([0.0, 3.0, 3.0, 0.0], 10)  # the second value is likelier whoever it is said of
    assert preferred(word).mean() == 0.5
    assert preferred(word + np.tile([9.0, 9.0, 0.0, 0.0], 10)).all()
