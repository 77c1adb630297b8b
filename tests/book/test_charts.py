"""Every chart is a valid Vega-Lite specification that draws the table it was given, with its description."""

import itertools
import json
import math
import re
from functools import cache
from types import SimpleNamespace

import pandas as pd
import pytest
import vl_convert

from tracing_utils.book import charts, encodings, explorables

TEXT = "Accuracy rises in every dimension."
STEPS, LAYERS, DIMENSIONS = (0, 8, 64, 512), (0, 1, 2), ("fairness", "privacy")


def tidy(methods: dict[str, tuple[int | None, ...]], metric: str, **more) -> pd.DataFrame:
    """A tidy table: for each method its layers, over all steps and dimensions."""
    rows = []
    for step, dimension, (method, layers) in itertools.product(STEPS, DIMENSIONS, methods.items()):
        for layer in layers:
            value = 0.5 + 0.0001 * step + 0.01 * (layer or 0)
            rows.append(
                {"suite": "tiny", "revision": f"step{step}", "step": step, "tokens": step * 4096, "layer": layer}
                | {"dimension": dimension, "concept_set": "pocket", "method": method, "metric": metric}
                | {"value": value, "low": value - 0.05, "high": value + 0.05, "n": 100, "seed": "0-4"}
                | more
            )
    return pd.DataFrame(rows).astype({"tokens": "Int64", "layer": "Int64"})


def probing() -> pd.DataFrame:
    methods = {"logistic": LAYERS, "shuffled labels": LAYERS, "lexical floor": (None,)}
    return tidy(methods | {"control task": LAYERS, "floor": (None,)}, "accuracy")


def protocols() -> pd.DataFrame:
    methods = {"released": LAYERS, "released, grouped": LAYERS, "released, grouped, scaled on train": LAYERS}
    return pd.concat([probing(), tidy(methods, "accuracy")])


def onsets() -> pd.DataFrame:
    rows = tidy({"logistic": (*LAYERS, None)}, "onset_step").query("step == 512")
    return rows.assign(value=64.0, low=8.0, high=512.0)


def matrix(metric: str = "transfer_accuracy") -> pd.DataFrame:
    rows = tidy({"logistic": (1,)}, metric)
    return pd.concat([rows.assign(to_step=float(step), to_revision=f"step{step}") for step in STEPS])


def steering() -> pd.DataFrame:
    drawn = tidy({"random direction": LAYERS, "shuffled labels": LAYERS, "null range": LAYERS}, "gain", dose=2.0)
    drawn = drawn.query("step == 512").assign(revision="chat", step=-1)
    return pd.concat([*(tidy({"vector": LAYERS}, "gain", dose=dose, relative_norm=0.06) for dose in (-2.0, 2.0)), drawn])


def side_effects() -> pd.DataFrame:
    rows = tidy({"vector": (1,)}, "side_effect", dose=2.0, p=0.3, p_loss=0.71).query("step == 512")
    return pd.concat([rows.assign(vector_of=dimension) for dimension in ("privacy", "fairness")])


def own() -> pd.DataFrame:
    return steering().query("step == 512 and method == 'vector'").assign(revision="chat", step=-1)


def plane() -> pd.DataFrame:
    return tidy({"released": LAYERS}, "x").assign(nhsic_tx=lambda t: t["value"], nhsic_ty=lambda t: t["value"] / 10)


PHASES = {"released": "nhsic_tx", "also released": "nhsic_ty", "covariance": "effective_rank", "probe": "usable_information"}


def information() -> pd.DataFrame:
    parts = [tidy({method.removeprefix("also "): LAYERS}, metric) for method, metric in PHASES.items()]
    return pd.concat([*parts, tidy({"shuffled": LAYERS}, "nhsic_tx").assign(value=77.0)])


def control() -> pd.DataFrame:
    rows = itertools.product((0.1, 1.0, 3.0), ("nhsic_tx", "nhsic_ty", "effective_rank", "shannon", "participation_ratio"))
    made = pd.DataFrame(rows, columns=["exponent", "metric"])
    return made.assign(value=made["exponent"] + 1, low=made["exponent"] + 0.9, high=made["exponent"] + 1.1)


def beside() -> pd.DataFrame:
    own = probing().query("method == 'lexical floor'").assign(x=lambda t: t["step"], source="pocket", paper=False)
    return pd.concat([own, own.assign(source="the paper", paper=True)])


def theirs() -> pd.DataFrame:
    return pd.DataFrame({"dimension": ["privacy"], "concept_set": "tracingllm", "value": 0.91})


def logistic() -> pd.DataFrame:
    return probing().query("method == 'logistic'")


def difference() -> pd.DataFrame:
    return logistic().assign(value=lambda t: t["value"] - 0.6)


def two_sets() -> pd.DataFrame:
    return pd.concat([probing(), probing().assign(concept_set="tracingllm")])


def costs() -> pd.DataFrame:
    rows = [(1, "ours", "theirs", 5.0, 4.0, 6.0, 3.0, "yes"), (2, "ours", "others", 2.0, 1.5, 2.5, math.nan, "no target")]
    rows.append((2, "ours", "a third", 2.5, 2.0, 2.9, 3.0, "no"))
    return pd.DataFrame(rows, columns=["goal", "what", "against", "ratio", "low", "high", "target", "reached"])


def arms() -> pd.DataFrame:
    """A rising and a level curve of two seeds in two dimensions."""
    rows = [
        (seed, dimension, step, arm, "told", value - seed / 10)
        for seed in (0, 1)
        for dimension in ("reliability", "privacy")
        for arm, values in {"coherent": (0.5, 0.7, 0.9), "scrambled": (0.5, 0.5, 0.5)}.items()
        for step, value in zip((0, 8, 64), values, strict=True)
    ]
    return pd.DataFrame(rows, columns=["seed", "dimension", "step", "arm", "keys", "value"])


def verdicts() -> pd.DataFrame:
    """A claim on two windows in one dimension, and one that could not be tested."""
    rows = [("fairness", "pocket", "supported", "0-64;64-512"), ("privacy", "pocket", "not testable here", None)]
    return pd.DataFrame(rows, columns=["dimension", "concept_set", "verdict", "windows"])


def arm_keys() -> pd.DataFrame:
    """Told and never-told keys of both arms, known and read."""
    table = arms().query("seed == 1").assign(method=lambda t: t["arm"] + ", known", low=0.4, high=1.0, n=2)
    return pd.concat([table, table.assign(keys="never", value=0.5)])


def steered() -> pd.DataFrame:
    """Gains of two seeds in both arms, with the range of random directions."""
    table = arms().query("step == 64").rename(columns={"value": "gain"})
    return table.assign(random_low=-0.1, random_high=0.2)


BOTH_ARMS = [("coherent", "told"), ("scrambled", "told")]


CHARTS = {
    "training": lambda: explorables.training(two_sets(), "privacy", TEXT),
    "training with pages": lambda: explorables.training(
        two_sets().assign(featured=lambda t: (t["step"] == 64) & (t["concept_set"] == "pocket")),
        "privacy",
        TEXT,
        page="runs/probing-",
    ),
    "probe_trajectories": lambda: explorables.probe_trajectories(probing(), "accuracy", TEXT),
    "probe_trajectories of two sets": lambda: explorables.probe_trajectories(two_sets(), "accuracy", TEXT, paper=theirs()),
    "probe_trajectories with a verdict": lambda: explorables.probe_trajectories(two_sets(), "accuracy", TEXT, claim=verdicts()),
    "by_layer with a verdict": lambda: charts.by_layer(
        tidy({"released": LAYERS, "shuffled": LAYERS}, "nhsic_tx"), "nhsic_tx", TEXT, floor="shuffled", claim=verdicts()
    ),
    "layer_map": lambda: explorables.layer_map(difference(), "accuracy minus floor", TEXT),
    "compare_checkpoints": lambda: explorables.compare_checkpoints(logistic(), "accuracy", TEXT),
    "head_map": lambda: charts.head_map(pd.concat([logistic().query("step == 64").assign(head=head) for head in range(3)]), TEXT),
    "beside_paper": lambda: charts.beside_paper(beside(), "training step", "accuracy", TEXT),
    "protocol_comparison": lambda: charts.protocol_comparison(protocols().query("step == 64"), TEXT),
    "protocol_comparison of checkpoints and sets": lambda: charts.protocol_comparison(
        pd.concat([protocols(), protocols().assign(concept_set="tracingllm")]), TEXT
    ),
    "onset_steps": lambda: charts.onset_steps(onsets(), TEXT),
    "onset_steps of two sets": lambda: charts.onset_steps(pd.concat([onsets(), onsets().assign(concept_set="b")]), TEXT),
    "checkpoint_matrix": lambda: charts.checkpoint_matrix(matrix(), "transfer_accuracy", TEXT),
    "checkpoint_matrix of cosines": lambda: charts.checkpoint_matrix(matrix("direction_cosine"), "direction_cosine", TEXT),
    "by_layer": lambda: charts.by_layer(tidy({"released": LAYERS}, "nhsic_tx"), "nhsic_tx", TEXT),
    "by_layer with a floor": lambda: charts.by_layer(
        tidy({"released": LAYERS, "shuffled": LAYERS}, "nhsic_ty"), "nhsic_ty", TEXT, floor="shuffled"
    ),
    "information_plane": lambda: explorables.information_plane(plane(), TEXT),
    "two_phases": lambda: charts.two_phases(information(), control(), TEXT),
    "dose_response": lambda: charts.dose_response(steering(), TEXT),
    "gain_and_cost": lambda: charts.gain_and_cost(
        steering().query("method == 'vector'").assign(cost=lambda t: 1 + t["dose"].abs() / 10), TEXT
    ),
    "side_effects": lambda: charts.side_effects(side_effects(), TEXT),
    "probe_and_effect": lambda: charts.probe_and_effect(
        probing().query("method == 'logistic'").assign(accuracy=lambda t: t["value"], gain=lambda t: t["value"] / 10), TEXT
    ),
    "effect_by_source": lambda: charts.effect_by_source(pd.concat([steering(), own()]).query("dose == 2"), TEXT),
    "layer_profile": lambda: charts.layer_profile(probing().query("step == 64"), "accuracy", TEXT),
    "layer_profile without controls": lambda: charts.layer_profile(
        tidy({"covariance": LAYERS}, "participation_ratio").query("step == 64"), "participation_ratio", TEXT
    ),
    "ratios": lambda: explorables.ratios(costs(), TEXT),
    "two_arms": lambda: charts.two_arms(arms(), BOTH_ARMS, arms().query("seed == 1"), 8, TEXT),
    "curves": lambda: charts.curves(probing().query("layer == 1"), "accuracy", TEXT, level=0.5),
    "curves of two sets": lambda: charts.curves(two_sets().query("layer == 1"), "accuracy", TEXT),
    "curves of a choice": lambda: charts.curves(arm_keys(), "accuracy", TEXT, choice="keys"),
    "over_dose": lambda: charts.over_dose(
        arms().query("step == 64").assign(dose=lambda t: t["arm"] == "coherent"), "accuracy", TEXT
    ),
    "against_random": lambda: charts.against_random(steered(), TEXT),
    "instruments": lambda: charts.instruments(
        onsets().assign(instrument=lambda t: "probe of " + t["layer"].fillna(9).astype(str)), TEXT
    ),
    "loss_curve": lambda: charts.loss_curve(pd.DataFrame({"step": [16, 32, 48], "loss": [6.0, 5.0, 4.5]}), TEXT),
}


def values(spec: dict) -> list[dict]:
    """All rows of data in a specification."""
    return [row for rows in spec.get("datasets", {}).values() for row in rows]


@cache
def specification(name: str) -> dict:
    """A chart of `CHARTS` as it is written; made once, so leave it as it is."""
    return CHARTS[name]().to_dict()


@pytest.fixture(params=CHARTS)
def spec(request) -> dict:
    return specification(request.param)


def test_checkpoints_to_choose_from_stand_in_the_order_of_training_whatever_study_they_come_from():
    """A study with more checkpoints than the one before had put its own last, and its chart began without a mark."""
    one, more = pd.DataFrame({"revision": ["step8", "chat"], "step": [8, -1]}), pd.DataFrame({"revision": ["step4"], "step": [4]})
    assert encodings.options(pd.concat([one, more]), "revision") == ["step4", "step8", "chat"]
    assert encodings.options(pd.concat([one, more])[["revision"]], "revision") == ["step8", "chat", "step4"]


def test_the_arms_are_drawn_as_mean_and_range_over_the_seeds_and_the_own_run_as_it_is():
    table = pd.DataFrame(values(specification("two_arms")))
    last = table[(table["step"] == 64) & (table["dimension"] == "privacy") & (table["curve"] == "coherent, told")]
    mean, own = last[~last["own"]].iloc[0], last[last["own"]].iloc[0]
    assert (mean["value"], mean["low"], mean["high"]) == pytest.approx((0.85, 0.8, 0.9))
    assert own["value"] == pytest.approx(0.8)


def test_a_choice_that_is_no_choice_of_statements_filters_by_its_own_column():
    spec = specification("curves of a choice")
    (chosen,) = (param for param in spec["params"] if param["name"] == "keys")
    assert chosen["bind"]["options"] == ["told", "never"]
    assert "datum.keys == keys" in json.dumps(spec)


def test_a_steered_seed_stands_before_the_range_of_its_own_random_directions():
    drawn = pd.DataFrame(values(specification("against_random")))
    assert len(drawn) == 2 * 2 * 2  # seeds, arms, dimensions
    layers = specification("against_random")["spec"]["layer"]
    assert [layer["mark"]["type"] for layer in layers] == ["bar", "point"]
    assert (layers[0]["encoding"]["y"]["field"], layers[0]["encoding"]["y2"]["field"]) == ("random_low", "random_high")


def test_every_public_chart_is_tried_here():
    tried = {name.split(" ")[0] for name in CHARTS}
    assert {*charts.__all__, *explorables.__all__} == tried


def test_every_chart_compiles_to_vega_and_to_a_picture_without_a_complaint(spec):
    compiled = vl_convert.vegalite_to_vega(spec, vl_version="6.4")
    assert compiled["marks"]
    svg = vl_convert.vegalite_to_svg(spec, vl_version="6.4")
    assert "<path" in svg
    assert "NaN" not in svg


def test_a_chart_with_a_mark_that_does_not_exist_would_not_compile():
    broken = specification("loss_curve") | {"mark": {"type": "lnie"}}
    with pytest.raises(ValueError, match="Vega-Lite to Vega conversion failed"):
        vl_convert.vegalite_to_vega(broken, vl_version="6.4")


def test_every_chart_carries_its_description_and_data(spec):
    assert spec["description"] == TEXT
    assert len(values(spec)) >= 3


def test_every_chart_is_written_the_same_way_twice():
    for name, make in CHARTS.items():
        assert json.dumps(make().to_dict()) == json.dumps(specification(name))


CONTROLS = ("floor", "lexical floor", "shuffled labels", "control task")


@pytest.mark.parametrize("name", ["probe_trajectories", "training"])
def test_every_number_of_a_trajectory_is_the_table_s(name):
    table = two_sets() if name == "training" else probing()
    drawn = [row for row in values(specification(name)) if "value" in row]
    keys = ["concept_set", "dimension", "step", "layer", "method"]
    known = table.astype({"layer": float}).set_index(keys)["value"]
    assert len(drawn) == int((table["method"] == "logistic").sum())
    for row in drawn:
        at = (row["concept_set"], row["dimension"], row["step"])
        assert row["value"] == known[(*at, row["layer"], "logistic")]
        for control in CONTROLS:
            layer = float("nan") if control in ("floor", "lexical floor") else row["layer"]
            assert row[control] == known[(*at, layer, control)]


def test_only_the_metric_that_was_asked_for_is_drawn():
    both = pd.concat([probing(), probing().assign(metric="auroc", value=0.99)])
    drawn = values(explorables.probe_trajectories(both, "accuracy", TEXT).to_dict())
    assert 0.99 not in {row[name] for row in drawn for name in ("value", *CONTROLS)}
    assert len(drawn) == len(logistic())


def test_panels_stand_in_the_order_of_the_palette_and_have_its_colours():
    facet = specification("probe_trajectories")
    assert facet["facet"]["sort"] == ["privacy", "fairness"]
    assert sorted(DIMENSIONS) == ["fairness", "privacy"]  # neither the order of letters nor of the rows
    text = json.dumps(facet)
    assert all(colour in text for colour in encodings.COLOURS.values())
    assert len(set(encodings.COLOURS.values())) == 5


def test_a_chart_does_not_change_its_table():
    drawn = (
        (probing(), lambda table: explorables.probe_trajectories(table, "accuracy", TEXT)),
        (probing(), lambda table: charts.layer_profile(table, "accuracy", TEXT)),
        (tidy({"released": LAYERS}, "nhsic_tx"), lambda table: charts.by_layer(table, "nhsic_tx", TEXT)),
        (steering(), lambda table: charts.dose_response(table, TEXT)),
        (plane(), lambda table: explorables.information_plane(table, TEXT)),
        (probing(), lambda table: explorables.training(table, "privacy", TEXT)),
        (information(), lambda table: charts.two_phases(table, control(), TEXT)),
    )
    for table, make in drawn:
        before = table.copy()
        make(table)
        pd.testing.assert_frame_equal(table, before)


def test_only_featured_checkpoints_link_to_a_page():
    spec = specification("training with pages")
    drawn = [row for row in values(spec) if "value" in row]
    assert {row["href"] for row in drawn} == {"", "runs/probing-step64.html"}
    assert {(row["revision"], row["concept_set"]) for row in drawn if row["href"]} == {("step64", "pocket")}
    (notebook,) = (parameter for parameter in spec["params"] if parameter["name"] == spec["usermeta"]["link"])
    assert notebook["expr"].startswith("{'pocket 64': 'runs/probing-step64.html'}")


def test_a_choice_of_statements_is_offered_only_where_there_are_two_sets():
    one, two = (
        {parameter["name"] for parameter in specification(key)["params"] if "bind" in parameter}
        for key in ("probe_trajectories", "probe_trajectories of two sets")
    )
    assert two - one == {"statements", "the_paper"}


SLIDERS = ("training", "layer_map", "information_plane")


@pytest.mark.parametrize("name", SLIDERS)
def test_a_slider_stands_at_a_step_of_the_table_and_a_click_can_set_it(name):
    spec = specification(name)
    parameters = {parameter["name"]: parameter for parameter in spec["params"]}
    assert spec["usermeta"]["ticks"] == {"at": list(STEPS)}
    assert parameters["step"]["expr"] == f"{list(STEPS)}[at]"
    assert parameters["at"]["bind"]["max"] == parameters["at"]["value"] == len(STEPS) - 1
    fields = spec["usermeta"]["pick"]
    assert set(fields) <= set(parameters)
    assert all(field in row for field in fields.values() for row in values(spec) if "dimension" in row)


def test_training_opens_as_the_paper_shows_it_and_buttons_add_the_controls_and_balance_the_words():
    spec = explorables.training(two_sets(), "privacy", TEXT).to_dict()
    opened = {parameter["name"]: parameter.get("value") for parameter in spec["params"]}
    first, floor, balanced = spec["usermeta"]["scenes"].values()
    assert first == {name: opened[name] for name in first}
    assert opened["dimension"] == "privacy"
    assert floor == first | {"controls": True}
    assert balanced == floor | {"statements": balanced["statements"]} != floor
    one = two_sets().query("concept_set == 'pocket'")
    assert len(explorables.training(one, "privacy", TEXT).to_dict()["usermeta"]["scenes"]) == 2


def svg(spec: dict, **parameters) -> str:
    """The picture of a chart with some of its parameters at other values."""
    moved = json.loads(json.dumps(spec))
    for parameter in moved["params"]:
        parameter["value" if "value" in parameter else "expr"] = parameters.get(
            parameter["name"], parameter.get("value", parameter.get("expr"))
        )
    return re.sub(r"(gradient|clip)_?\d+", "", vl_convert.vegalite_to_svg(moved, vl_version="6.4"))


SWITCHES = ("floor", "lexical_floor", "shuffled_labels", "control_task", "untrained")


@pytest.mark.parametrize(
    ("name", "moves"),
    [
        *((name, [{"at": 1}]) for name in SLIDERS),
        ("training", [{"controls": True}]),
        ("probe_trajectories", [{name: name == "untrained"} for name in SWITCHES]),
        ("probe_trajectories of two sets", [{"statements": "tracingllm"}]),
        ("layer_map", [{"layer": 0}]),
        ("compare_checkpoints", [{"from_step": 8}, {"to_step": 8}]),
    ],
)
def test_every_control_of_an_explorable_changes_what_is_drawn(name, moves):
    spec = specification(name)
    assert svg(spec) == svg(spec)
    assert len({svg(spec, **moved) for moved in [{}, *moves]}) == 1 + len(moves)


def test_the_paper_s_line_stands_on_the_statements_that_it_is_about_and_can_be_taken_away():
    spec = specification("probe_trajectories of two sets")  # both sets have the same numbers
    assert "the paper</text>" in svg(spec, statements="tracingllm")
    assert svg(spec, statements="tracingllm", the_paper=False) == svg(spec)


def test_a_drag_s_strips_cover_training_and_hold_one_step_each():
    strips = explorables._strips([0, 8, 64, 512])
    assert (strips["left"].iloc[0], strips["right"].iloc[-1]) == (0, 512)
    assert strips["left"].tolist()[1:] == strips["right"].tolist()[:-1]
    assert all((strips["left"] <= strips["step"]) & (strips["step"] <= strips["right"]))
    assert strips["right"].iloc[1] == pytest.approx(8 * (math.sqrt(2 * 9) - 1), abs=0.05)  # halfway in log(1 + step / 8)


def test_a_difference_of_checkpoints_has_the_interval_of_two_independent_numbers():
    columns = ["revision", "step", "value", "low", "high"]
    table = pd.DataFrame([("x0", 0, 0.5, 0.4, 0.55), ("x9", 9, 0.7, 0.67, 0.9)], columns=columns).assign(
        layer=0, dimension="privacy", concept_set="pocket"
    )
    compiled = vl_convert.vegalite_to_vega(explorables.compare_checkpoints(table, "accuracy", TEXT).to_dict(), vl_version="6.4")
    formulas = {t["as"]: t["expr"] for d in compiled["data"] for t in d.get("transform", []) if t["type"] == "formula"}
    ends = {"from_step": table.iloc[0], "to_step": table.iloc[1]}
    names = {f"{end}_{column}": row[column] for end, row in ends.items() for column in ("value", "low", "high")}
    datum = SimpleNamespace(**names, value=0.7 - 0.5)
    low, high = (eval(formulas[end], {"sqrt": math.sqrt, "pow": pow, "datum": datum}) for end in ("low", "high"))
    assert low == pytest.approx(0.2 - math.hypot(0.03, 0.05))
    assert high == pytest.approx(0.2 + math.hypot(0.2, 0.1))


@pytest.mark.parametrize("name", ["by_layer with a verdict", "probe_trajectories with a verdict"])
def test_the_windows_that_a_verdict_is_about_are_shaded_in_its_own_panel_and_nowhere_else(name):
    """A chapter that counts another rise than its verdict contradicted it."""
    facet = specification(name)
    (rows,) = facet["datasets"].values()
    shaded = [row for row in rows if row.get("until") is not None]
    assert [(row["dimension"], row["step"], row["until"]) for row in shaded] == [("fairness", 0, 64), ("fairness", 64, 512)]
    rects = [layer for layer in facet["spec"]["layer"] if layer["mark"]["type"] == "rect"]
    assert len(rects) == 1 and rects[0]["encoding"]["x"]["scale"]["domain"] == [0, 512]
    plain = specification(name.replace("with a verdict", "with a floor" if name.startswith("by") else "of two sets"))
    assert not [layer for layer in plain["spec"]["layer"] if layer["mark"]["type"] == "rect"]
    drawn = vl_convert.vegalite_to_vega(facet, vl_version="6.4")
    assert 'isValid(datum["until"])' in json.dumps(drawn) or "isValid(datum.until)" in json.dumps(drawn)


def test_step_0_has_a_place_on_the_axis():
    drawn = vl_convert.vegalite_to_vega(specification("probe_trajectories"), vl_version="6.4")
    scales = {scale["name"]: scale for scale in drawn["scales"]}
    assert scales["x"]["type"] == "symlog"
    assert scales["x"]["domain"] == [0, 512]


def test_the_two_phases_stand_beside_their_control_on_one_axis_and_leave_other_rows_out():
    spec = specification("two_phases")
    assert len(spec["vconcat"]) == 4
    assert all(row["resolve"] == {"scale": {"y": "shared"}} for row in spec["vconcat"])
    drawn = values(spec)
    assert {row["metric"] for row in drawn if "exponent" in row} == {"nhsic_tx", "nhsic_ty", "effective_rank", "shannon"}
    assert 77.0 not in {row["value"] for row in drawn}
    assert sum("exponent" in row for row in drawn) == 3 * 4


def test_what_has_no_onset_is_not_drawn_and_the_selected_layer_is():
    table = onsets()
    table.loc[table["layer"] == 1, ["value", "low", "high"]] = float("nan")
    drawn = values(charts.onset_steps(table, TEXT).to_dict())
    assert {row["layer"] for row in drawn} == {"0", "2", "selected"}


def test_a_trajectory_leaves_out_the_selected_layer_s_shuffled_labels_and_other_probes():
    more = pd.concat([probing(), tidy({"ridge": LAYERS, "shuffled labels": (None,), "selected layer": (None,)}, "accuracy")])
    drawn = values(explorables.probe_trajectories(more, "accuracy", TEXT).to_dict())
    assert drawn == values(specification("probe_trajectories"))


def test_the_figure_below_that_of_both_arms_has_no_hue_of_an_arm():
    drawn = {name: json.dumps(CHARTS[name]().to_dict()) for name in ("two_arms", "training")}
    hues = {name: {hue for hue in encodings.ARMS.values() if hue in spec} for name, spec in drawn.items()}
    assert hues == {"two_arms": set(encodings.ARMS.values()), "training": set()}


def test_an_axis_of_two_layers_names_each_once():
    for rows in (tidy({"released": (0, 1)}, "nhsic_ty"), tidy({"released": (0, 1, 2)}, "nhsic_ty")):
        svg = vl_convert.vegalite_to_svg(charts.layer_profile(rows, "nhsic_ty", TEXT).properties(width=60).to_dict())
        names = re.search(r"aria-label=\"X-axis.*?role-axis-title", svg, flags=re.S)[0]
        assert re.findall(r">(\d+)</text>", names) == sorted({str(layer) for layer in rows["layer"]})


def test_a_map_of_checkpoints_is_white_where_nothing_is_told():
    for metric, middle in (("transfer_accuracy", 0.5), ("direction_cosine", 0.0)):
        low, high = charts.checkpoint_matrix(matrix(metric), metric, TEXT).to_dict()["spec"]["encoding"]["color"]["scale"][
            "domain"
        ]
        assert (low + high) / 2 == pytest.approx(middle)


def test_null_directions_stand_behind_every_source_and_its_own_gains_alone_have_lines():
    """The layers of the chart, from behind: ticks of the null at its dose, then band, line and points of the source chosen."""
    null, *effect = specification("dose_response")["spec"]["layer"]
    assert null["mark"]["type"] == "tick"
    assert "random direction" in json.dumps(null) and "datum.method != 'vector' ||" in json.dumps(null["transform"])
    assert [layer["mark"]["type"] for layer in effect] == ["area", "line", "point"]
    assert all("datum.revision == source" in json.dumps(layer["transform"]) for layer in effect)
