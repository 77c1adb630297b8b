"""A study file is read as it stands; how mistakes in it are refused is in `test_bad_input`."""

import pytest
import yaml

from tracing_utils.checkpoints import suites
from tracing_utils.checkpoints.hub import HubError
from tracing_utils.core.paths import PROJECT
from tracing_utils.experiments import get, names, notebook
from tracing_utils.run import workflow
from tracing_utils.run.studies import Study, parameters, read
from tracing_utils.statements import concepts


@pytest.fixture
def write(tmp_path, suite_folder):
    """Return a function that writes a study over the tiny suite, with some entries changed or (None) left out."""

    def make(**entries) -> str:
        content = {"suite": str(suite_folder), "concepts": "pocket"} | entries
        content = {key: value for key, value in content.items() if value is not ...}
        (path := tmp_path / "mine.yml").write_text(yaml.safe_dump(content))
        return str(path)

    return make


def test_a_short_file_gets_the_defaults_and_its_name_from_the_file(write):
    study = read(write())
    assert (study.name, study.concepts, study.cell_timeout) == ("mine", ("pocket",), Study.cell_timeout)
    assert study.experiments == names()
    assert study.options_of("probing") == {name: option.default for name, option in notebook.options("probing").items()}
    assert study.dimensions == concepts.DIMENSIONS
    assert study.traced() == ["step0", "step1", "step2", "step8", "step64"]


def test_every_entry_of_a_full_file_is_taken(write):
    full = {
        "checkpoints": 3,
        "dimensions": ["privacy", "fairness"],
        "experiments": ["probing", "steering"],
        "statements": 300,
        "featured": ["step8"],
        "allow_duplicates": True,
        "trust_remote_code": True,
        "dtype": "bfloat16",
        "cell_timeout": 60,
    }
    options = {
        "probing": {"seeds": 2, "protocols": ["released"]},
        "steering": {"layers": [0, 1], "doses": [-1, 1.5], "asked": 50, "measures": ["trust", "ability"]},
    }
    study = read(write(**full, **options))
    for key, value in full.items():
        assert getattr(study, key) == (tuple(value) if isinstance(value, list) else value)
    for experiment, written in options.items():
        assert {name: study.options_of(experiment)[name] for name in written} == written
    assert study.entries() == full | options | {"suite": study.suite, "concepts": ["pocket"]}
    assert study.traced() == ["step0", "step8", "step64"]


def test_checkpoints_can_be_named_one_by_one(write):
    assert read(write(revisions=["step8", "step1"])).traced() == ["step8", "step1"]


def test_a_table_of_steps_is_read_resolved_and_traced(write, suite_folder, tmp_path):
    path = write(suite=str(suite_folder), steps={0: "step8", 7: str(suite_folder / "step0"), 90: "chat"}, experiments=["probing"])
    assert read(path).traced() == ["step0", "step7", "step90"]
    resolved = read(workflow.write_resolved(read(path), tmp_path / "runs"))
    assert resolved.steps == {}
    assert [(c.suite, c.revision, c.step, c.folder) for c in resolved.loaded.checkpoints] == [
        ("tiny", "step0", 0, suite_folder / "step8"),
        ("tiny", "step7", 7, suite_folder / "step0"),
        ("tiny", "step90", 90, suite_folder / "chat"),
    ]
    for wrong in ({"one": "step8"}, {-1: "step8"}, {1: 2}, ["step8"], {1: ""}):
        with pytest.raises(ValueError, match=r"steps must be"):
            read(write(steps=wrong))


def test_several_sets_are_filed_under_their_own_names_each_with_the_dimensions_it_has(write, tmp_path, own_statements):
    study = read(write(concepts=["pocket", str(own_statements)], dimensions=["privacy", "toxicity"]))
    assert study.sets == {"pocket": "pocket", own_statements.name: str(own_statements)}
    assert study.dimensions_of("pocket") == ("privacy", "toxicity")
    assert study.dimensions_of(own_statements.name) == ("privacy",)


def test_a_cap_keeps_whole_groups_and_the_order_of_the_file(write):
    whole, capped = (read(write(**more)).concept_set("pocket", "privacy") for more in ({}, {"statements": 100}))
    assert len(capped) == 100 < len(whole)
    places = [whole.statements.index(statement) for statement in capped.statements]
    assert places == sorted(places)
    torn = {g for g in capped.groups if capped.groups.count(g) < whole.groups.count(g)}
    assert len(torn) <= 1


@pytest.mark.parametrize("path", sorted((PROJECT / "studies").glob("*.yml")), ids=lambda path: path.stem)
def test_a_study_of_this_repository_can_be_read_as_far_as_its_suite_is_here(path):
    """Those of the hub and of the wheel stop where the hub is asked, after their entries were found in order."""
    try:
        assert read(path).traced()
    except (HubError, suites.NotFetchedError):
        assert yaml.safe_load(path.read_text())["suite"] in set(suites.known()) - {"pocket"}


def test_another_concept_source_makes_a_study_of_another_name(write, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "privacy.csv").touch()
    study = read(write(featured=["step8"]), str(tmp_path / "mine"))
    assert (study.name, study.concepts, study.featured) == ("mine-mine", (str(tmp_path / "mine"),), ())
    assert read(write(), "pocket").name == "mine"


def test_layer_0_is_a_layer(write):
    assert read(write(steering={"layers": [0]})).options_of("steering")["layers"] == [0]


def test_only_the_experiments_a_study_names_are_run(write):
    study = read(write(experiments=["probing"]))
    assert study.runs() == ["probing"]
    assert "chat" not in study.needed()
    assert "chat" in read(write()).needed()


def test_a_study_makes_the_tables_of_the_experiments_it_runs_and_no_others(write):
    assert read(write(checkpoints=2)).summaries() == ["preference_gains", "reweighting", "dynamics", "answers"]
    assert read(write(checkpoints=2, experiments=["mutual_information"])).summaries() == ["reweighting"]
    assert read(write(revisions=["step8"], experiments=["probing"])).summaries() == []  # one checkpoint has no dynamics


def test_steering_also_takes_the_chat_model_s_own_vectors_and_needs_a_chat_model(write, suite_folder, tmp_path):
    assert read(write(checkpoints=2)).traced("steering") == ["step0", "step64", "chat"]
    for name in ("step0", "step1"):
        (tmp_path / "plain").mkdir(exist_ok=True)
        (tmp_path / "plain" / name).symlink_to(suite_folder / name)
    plain = read(write(suite=str(tmp_path / "plain")))
    assert plain.traced("steering") == []
    assert plain.runs() == [name for name in names() if not get(name).target]


@pytest.mark.parametrize("experiment", ["mutual_information", "probing", "steering"])
def test_a_notebook_gets_what_its_study_says(write, experiment):
    options = {"probing": {"seeds": 2}, "mutual_information": {"examples": 50}, "steering": {"layers": [1], "doses": [3]}}
    study = read(write(**options))
    values = parameters(study, "pocket", experiment, "step8")
    assert (values["suite"], values["revision"], values["concept_set"]) == (study.suite, "step8", "pocket")
    own = {"probing": ("seeds", 2), "mutual_information": ("examples", 50), "steering": ("doses", [3.0])}
    name, value = own[experiment]
    assert values[name] == value
    assert not {key for other, (key, _) in own.items() if other != experiment} & set(values)


def test_steering_is_measured_in_depth_with_featured_and_the_chat_model_s_own_vectors_only(write):
    study = read(write(featured=["step8"]))
    taken = {revision: parameters(study, "pocket", "steering", revision)["measures"] for revision in ("step1", "step8", "chat")}
    assert taken == {"step1": [], "step8": ["trust"], "chat": ["trust"]}


def test_an_unknown_experiment_is_answered_with_the_nearest(write):
    with pytest.raises(ValueError, match="Did you mean 'steering'"):
        parameters(read(write()), "pocket", "stering", "step8")
