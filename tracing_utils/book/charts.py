"""Charts: a tidy table in, an Altair chart out.

Rule: a chart never computes and never saves; what it draws is in the table it was given.

Charts that the reader plays with, and that only pages show, are in `explorables`.

Public names: `COLOURS`, `protocol_comparison`, `onset_steps`, `checkpoint_matrix`, `by_layer`, `two_phases`,
`dose_response`, `effect_by_source`, `gain_and_cost`, `side_effects`, `probe_and_effect`, `loss_curve`, `layer_profile`, `beside_paper`.
"""

import math

import altair as alt
import pandas as pd

COLOURS = {
    "reliability": "#0072B2",
    "privacy": "#E69F00",
    "toxicity": "#D55E00",
    "fairness": "#009E73",
    "robustness": "#CC79A7",
}
"""One colour a dimension, the same everywhere (Okabe and Ito's palette, safe for colour-blind readers)."""

_CONTROL = "#888888"
_WIDTH, _HEIGHT = 165, 130
_NARROW = 140  # panels with an axis of their own
_STEPS = [0, 8, 32, 128, 512, 2048, 8192, 32768, 131072, 524288]
_TITLES = {
    "accuracy": "held-out accuracy",
    "auroc": "area under the ROC curve",
    "log_loss": "held-out log-loss (bits)",
    "selectivity": "selectivity",
    "conditional_gain": "gain over text (bits)",
    "compression": "compression",
    "change": "change of accuracy",
    "direction_cosine": "cosine of directions",
    "transfer_accuracy": "accuracy of another's direction",
    "nhsic_tx": "nHSIC(T;X)",
    "nhsic_ty": "nHSIC(T;Y)",
    "cka": "debiased CKA to word n-grams",
    "cka_x": "debiased CKA to block 0",
    "cka_y": "debiased CKA to the labels",
    "participation_ratio": "participation ratio",
    "effective_rank": "effective rank",
    "usable_information": "usable information (bits)",
    "fano_bound": "Fano's bound (bits)",
    "ksg_y": "KSG estimate (bits)",
}


_PROTOCOLS = {
    "logistic": "#0072B2",
    "released, grouped, scaled on train": "#009E73",
    "released, grouped": "#E69F00",
    "released": "#D55E00",
    "control task": "#888888",
    "floor": "#444444",
    "lexical floor": "#999999",
    "surface": "#BBBBBB",
}


def _step(table: pd.DataFrame) -> alt.X:
    """Return the axis of training steps: linear up to step 8, then logarithmic, so that step 0 has a place."""
    last = table["step"].max()
    ticks = [tick for tick in _STEPS if tick <= last]
    scale = alt.Scale(type="symlog", constant=8, domain=[0, int(last)], nice=False)
    return alt.X(
        "step:Q",
        scale=scale,
        axis=alt.Axis(values=ticks, format="d", labelOverlap="greedy", labelSeparation=4, grid=False, title="training step"),
    )


def _colour() -> alt.Color:
    return alt.Color("dimension:N", scale=alt.Scale(domain=list(COLOURS), range=list(COLOURS.values())), legend=None)


def _choice(name: str, options: list, value: object) -> alt.Parameter:
    return alt.param(name=name.replace(" ", "_"), bind=alt.binding_select(options=options, name=name), value=value)


def _facets(chart: alt.Chart | alt.LayerChart, table: pd.DataFrame, description: str, *choices: alt.Parameter) -> alt.FacetChart:
    """Return one panel a dimension, in the order of the palette."""
    order = [dimension for dimension in COLOURS if dimension in set(table["dimension"])]
    facet = alt.Facet("dimension:N", sort=order, title=None, header=alt.Header(labelFontWeight="bold", labelFontSize=13))
    panels = chart.facet(facet, columns=min(3, len(order))).resolve_axis(x="independent")
    return panels.add_params(*choices).properties(description=description)


def protocol_comparison(table: pd.DataFrame, description: str) -> alt.FacetChart:
    """Chart the accuracy of both protocols, of the steps between them and of controls over the layers, one panel a dimension.

    Args:
        table: accuracy rows of `results/<study>/probing.csv`, of one checkpoint or several, of one concept set or several;
            rows without a layer are drawn as level lines.
        description: the alt text.
    """
    keep = ["step", "revision", "layer", "dimension", "concept_set", "method", "value", "low", "high", "n"]
    table = table[table["method"].isin(list(_PROTOCOLS))][keep]
    methods = [method for method in _PROTOCOLS if method in set(table["method"])]
    base, choices = _chosen(alt.Chart(), table)
    title = _TITLES["accuracy"]
    scale = alt.Scale(domain=methods, range=[_PROTOCOLS[method] for method in methods])
    legend = alt.Legend(title=None, orient="bottom", columns=2, labelLimit=300, symbolOpacity=1)
    colour = alt.Color("method:N", scale=scale, legend=legend)
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False))
    low = alt.Y("low:Q", title=title, scale=alt.Scale(zero=False))
    measured, level = base.transform_filter("isValid(datum.layer)"), base.transform_filter("!isValid(datum.layer)")
    x = alt.X("layer:Q", axis=alt.Axis(tickMinStep=1, format="d", grid=False))
    tooltip = ["revision", "layer", "method", *(alt.Tooltip(c, format=".3f") for c in ("value", "low", "high")), "n"]
    layers = [
        measured.mark_area(opacity=0.1).encode(x=x, y=low, y2="high:Q", color=colour),
        measured.mark_line(point=True).encode(x=x, y=y, color=colour, tooltip=tooltip),
        level.mark_rule(strokeDash=[6, 3], strokeWidth=1.5).encode(y=y, color=colour, tooltip=tooltip),
    ]
    return _facets(alt.layer(*layers, data=table).properties(width=_WIDTH, height=_HEIGHT), table, description, *choices)


def _chosen(base: alt.Chart, table: pd.DataFrame) -> tuple[alt.Chart, list[alt.Parameter]]:
    """Return the chart of one checkpoint and concept set, and the choices where there are several of them."""
    choices = []
    for name, column in (("checkpoint", "revision"), ("statements", "concept_set")):
        options = list(dict.fromkeys(table[column]))
        if len(options) > 1:
            choices.append(_choice(name, options, options[-1] if column == "revision" else options[0]))
            base = base.transform_filter(f"datum.{column} == {name}")
    return base, choices


def onset_steps(table: pd.DataFrame, description: str) -> alt.FacetChart:
    """Chart the onset step of every layer, and of the selected layer, with its interval, one panel a dimension.

    Args:
        table: rows of `results/<study>/dynamics.csv` with metric `onset_step`; what has no onset is left out.
        description: the alt text.
    """
    table = table.dropna(subset=["value"])
    table = table[["dimension", "concept_set", "layer", "value", "low", "high", "n"]].assign(
        layer=table["layer"].astype("Int64").astype("string").fillna("selected")
    )
    sets = list(dict.fromkeys(table["concept_set"]))
    choices = [_choice("statements", sets, sets[0])] if len(sets) > 1 else []
    base = alt.Chart(table)
    if choices:
        base = base.transform_filter("datum.concept_set == statements")
    layers = [str(layer) for layer in sorted(int(layer) for layer in set(table["layer"]) - {"selected"})]
    y = alt.Y("layer:N", sort=["selected", *reversed(layers)], title="layer")
    last = float(table["high"].max())
    scale = alt.Scale(type="symlog", constant=8, domain=[0, last], nice=False)
    axis = alt.Axis(values=[t for t in _STEPS if t <= last], format="d", labelOverlap="greedy", grid=False)
    tooltip = ["layer", *(alt.Tooltip(c, format="d") for c in ("value", "low", "high")), "n"]
    bar = base.mark_rule(strokeWidth=3, opacity=0.4).encode(
        x=alt.X("low:Q", scale=scale, axis=axis, title="onset step"), x2="high:Q", y=y, color=_colour()
    )
    point = base.mark_point(filled=True, size=50).encode(
        x=alt.X("value:Q", scale=scale, axis=axis, title="onset step"), y=y, color=_colour(), tooltip=tooltip
    )
    return _facets(alt.layer(bar, point).properties(width=_WIDTH, height=_HEIGHT), table, description, *choices)


def checkpoint_matrix(table: pd.DataFrame, metric: str, description: str) -> alt.FacetChart:
    """Chart what holds between all pairs of checkpoints as a map, one panel a dimension.

    Args:
        table: rows of `results/<study>/dynamics.csv`; those of the metric with method `logistic` are drawn.
        metric: `direction_cosine` or `transfer_accuracy`.
        description: the alt text.
    """
    rows = table[(table["metric"] == metric) & (table["method"] == "logistic")]
    rows = rows[["step", "to_step", "revision", "to_revision", "dimension", "concept_set", "value", "low", "high"]]
    sets = list(dict.fromkeys(rows["concept_set"]))
    choices = [_choice("statements", sets, sets[0])] if len(sets) > 1 else []
    base = alt.Chart(rows.astype({"to_step": int}))
    if choices:
        base = base.transform_filter("datum.concept_set == statements")
    middle = 0.5 if metric == "transfer_accuracy" else 0.0
    reach = float((rows["value"] - middle).abs().max())
    scale = alt.Scale(scheme="purplegreen", domain=[middle - reach, middle + reach])
    tooltip = ["revision", "to_revision", *(alt.Tooltip(c, format=".3f") for c in ("value", "low", "high"))]
    panel = base.mark_rect().encode(
        x=alt.X("to_step:O", axis=alt.Axis(labelOverlap="greedy", title="activations of step")),
        y=alt.Y("step:O", sort="descending", axis=alt.Axis(labelOverlap="greedy", title="direction of step")),
        color=alt.Color("value:Q", scale=scale, legend=alt.Legend(title=_TITLES[metric], orient="bottom", gradientLength=220)),
        tooltip=tooltip,
    )
    return _facets(panel.properties(width=_WIDTH, height=_WIDTH), rows, description, *choices)


def by_layer(table: pd.DataFrame, metric: str, description: str, floor: str = "") -> alt.FacetChart:
    """Chart a metric over steps, one line a layer, one panel a dimension.

    Args:
        table: rows of a tidy table, possibly of several concept sets.
        metric: which metric's rows to draw.
        description: the alt text.
        floor: name of the control method whose mean over layers is drawn as a dashed line, if any.
    """
    rows = table[table["metric"] == metric].copy()
    sets = list(dict.fromkeys(rows["concept_set"]))
    choices = [_choice("statements", sets, sets[0])] if len(sets) > 1 else []
    rows["layer"] = rows["layer"].astype(int)
    rows = rows[["step", "revision", "layer", "dimension", "concept_set", "method", "value", "low", "high", "n"]]
    base = alt.Chart(rows).encode(x=_step(rows))
    if choices:
        base = base.transform_filter("datum.concept_set == statements")
    y = alt.Y("value:Q", title=_TITLES[metric], scale=alt.Scale(zero=False))
    colour = alt.Color(
        "layer:O", scale=alt.Scale(scheme="viridis"), legend=alt.Legend(orient="bottom", title="layer", symbolOpacity=1)
    )
    measured = base.transform_filter(f"datum.method != '{floor}'")
    tooltip = ["revision", "layer", *(alt.Tooltip(c, format=".3f") for c in ("value", "low", "high")), "n"]
    layers = [
        measured.mark_area(opacity=0.12).encode(
            y=alt.Y("low:Q", title=_TITLES[metric], scale=alt.Scale(zero=False)), y2="high:Q", color=colour
        ),
        measured.mark_line(strokeWidth=1.8).encode(y=y, color=colour),
        measured.mark_point(filled=True, size=22).encode(y=y, color=colour, tooltip=tooltip),
    ]
    if floor:
        control = base.transform_filter(f"datum.method == '{floor}'")
        layers.append(
            control.mark_line(color=_CONTROL, strokeDash=[6, 3]).encode(y=alt.Y("mean(value):Q", title=_TITLES[metric]))
        )
    panel = alt.layer(*layers).properties(width=_NARROW, height=_HEIGHT)
    return _facets(panel, rows, description, *choices).resolve_scale(y="independent")


_PHASES = {"nhsic_tx": "nhsic_tx", "nhsic_ty": "nhsic_ty", "effective_rank": "effective_rank", "usable_information": "shannon"}
_METHODS = ("released", "covariance", "probe")


def two_phases(table: pd.DataFrame, control: pd.DataFrame, description: str) -> alt.VConcatChart:
    """Chart the measures over training, and beside each the same for features that are only weighted anew.

    One row a measure, both panels on one axis: the model, one line a dimension; the control, whose information is
    the same throughout.

    Args:
        table: rows of `results/<study>/mutual_information.csv`, possibly of several concept sets.
        control: rows of `results/<study>/reweighting.csv`.
        description: the alt text.
    """
    rows = table[table["metric"].isin(_PHASES) & table["method"].isin(_METHODS)].astype({"layer": int})
    rows = rows[["step", "revision", "layer", "dimension", "concept_set", "metric", "value", "low", "high", "n"]]
    control = control[control["metric"].isin(_PHASES.values())][["exponent", "metric", "value", "low", "high"]]
    layers, sets = sorted({int(layer) for layer in rows["layer"]}), list(dict.fromkeys(rows["concept_set"]))
    shown = "datum.layer == layer && datum.concept_set == statements"
    model = alt.Chart(rows).transform_filter(shown)
    weighted = alt.Chart(control)
    panels = [_phase(model, weighted, metric, rows) for metric in _PHASES]
    choices = _choice("layer", layers, layers[-1]), _choice("statements", sets, sets[0])
    return alt.vconcat(*panels, spacing=2).add_params(*choices).properties(description=description)


def _phase(model: alt.Chart, weighted: alt.Chart, metric: str, rows: pd.DataFrame) -> alt.HConcatChart:
    """Return one measure of `two_phases`: over training steps, and over the exponent of the control."""
    first, last = metric == next(iter(_PHASES)), metric == list(_PHASES)[-1]
    wide = metric in {"nhsic_ty", "effective_rank"}  # model and control are orders of magnitude apart
    scale = alt.Scale(type="log") if wide else alt.Scale(zero=False)
    axis = alt.Axis(minExtent=45, tickCount=4, grid=not wide)

    def side(base: alt.Chart, colour: alt.Color | dict, title: str | None, heading: str, *named: str) -> alt.LayerChart:
        y = alt.Y("value:Q", title=title, scale=scale, axis=axis)
        tooltip = [*named, *(alt.Tooltip(c, format=".3g") for c in ("value", "low", "high"))]
        line = base.mark_line(strokeWidth=1.8).encode(y=y, color=colour)
        points = base.mark_point(filled=True, size=22).encode(y=y, color=colour, tooltip=tooltip)
        band = base.mark_area(opacity=0.15).encode(
            y=alt.Y("low:Q", title=title, scale=scale, axis=axis), y2="high:Q", color=colour
        )
        # On a logarithmic axis an interval that reaches 0 has no end.
        layers = [line, points] if wide else [band, line, points]
        return alt.layer(*layers).properties(width=250, height=110, title=heading)

    step = _step(rows) if last else _step(rows).axis(values=[], title=None)
    exponent = alt.X("exponent:Q", axis=alt.Axis(grid=False, title="exponent", tickCount=4))
    model = model.transform_filter(f"datum.metric == '{metric}'").encode(x=step)
    weighted = weighted.transform_filter(f"datum.metric == '{_PHASES[metric]}'").encode(
        x=exponent if last else exponent.axis(labels=False, title=None, grid=False)
    )
    colour = _colour().legend(title=None, orient="bottom", columns=5, symbolOpacity=1)
    title = "information (bits)" if last else _TITLES[metric]
    headings = ("the model", "the control") if first else ("", "")
    left = side(model, colour, title, headings[0], "revision", "dimension")
    right = side(weighted, alt.value(_CONTROL), None, headings[1], "exponent")
    return alt.hconcat(left, right, spacing=0).resolve_scale(y="shared")


_GAIN = "gain (nats per token)"
_NULLS = ("random direction", "shuffled labels")
_GAIN_COLUMNS = ["step", "revision", "layer", "dimension", "concept_set", "method", "dose", "value", "low", "high", "n"]


def _gain_layers(base: alt.Chart) -> list[alt.Chart]:
    """Return band, line and points of a gain."""
    tooltip = ["revision", "layer", "dose", *(alt.Tooltip(c, format="+.4f") for c in ("value", "low", "high")), "n"]
    y = alt.Y("value:Q", title=_GAIN)
    return [
        base.mark_area(opacity=0.18).encode(y=alt.Y("low:Q", title=_GAIN), y2="high:Q", color=_colour()),
        base.mark_line().encode(y=y, color=_colour()),
        base.mark_point(filled=True, size=35).encode(y=y, color=_colour(), tooltip=tooltip),
    ]


def _drawn(base: alt.Chart) -> alt.Chart:
    """Return the gains of null directions as ticks, random ones grey and those of shuffled labels light."""
    scale = alt.Scale(domain=list(_NULLS), range=[_CONTROL, "#CCCCCC"])
    legend = alt.Legend(title=None, orient="bottom", symbolType="stroke", symbolOpacity=1)
    nulls = base.transform_filter(alt.FieldOneOfPredicate("method", list(_NULLS)))
    tooltip = ["method", "layer", alt.Tooltip("value", format="+.4f")]
    return nulls.mark_tick(opacity=0.5, thickness=1, size=22, orient="horizontal").encode(
        y=alt.Y("value:Q", title=_GAIN), stroke=alt.Stroke("method:N", scale=scale, legend=legend), tooltip=tooltip
    )


def dose_response(table: pd.DataFrame, description: str) -> alt.FacetChart:
    """Chart the gain in preference over the dose, in front of the gains of directions that mean nothing.

    Args:
        table: rows of a sweep in `results/<study>/steering.csv` with metric `gain`, possibly of several concept sets, and
            those of the target's null directions, which stand behind every source.
        description: the alt text.
    """
    table = table[_GAIN_COLUMNS]
    vectors = table[~table["method"].isin(_NULLS)]
    layers = sorted(int(layer) for layer in vectors["layer"].unique())
    sources, sets = (list(dict.fromkeys(vectors[column])) for column in ("revision", "concept_set"))
    shown = "datum.layer == layer && datum.concept_set == statements"
    base = alt.Chart().transform_filter(shown).encode(x=alt.X("dose:Q", title="dose (sd)", axis=alt.Axis(grid=False)))
    own = base.transform_filter("datum.revision == source && datum.method == 'vector'")
    panel = alt.layer(_drawn(base), *_gain_layers(own), data=table)
    choices = _choice("layer", layers, layers[-1]), _choice("source", sources, sources[-1]), _choice("statements", sets, sets[0])
    chart = _facets(panel.properties(width=_NARROW, height=_HEIGHT), table, description, *choices)
    return chart.resolve_scale(y="independent")


def effect_by_source(table: pd.DataFrame, description: str) -> alt.FacetChart:
    """Chart the gain of each checkpoint's vector over its step, in front of the range of null directions.

    The level line is the chat model's own vector.

    Args:
        table: rows of `results/<study>/steering.csv` with metric `gain` at one dose, possibly of several concept sets; those
            with method `null range` have the 95 % range of the null directions as their interval.
        description: the alt text.
    """
    table = table[_GAIN_COLUMNS]
    layers, sets = sorted(int(layer) for layer in table["layer"].unique()), list(dict.fromkeys(table["concept_set"]))
    base = alt.Chart().transform_filter("datum.layer == layer && datum.concept_set == statements")
    sources = base.transform_filter("datum.revision != 'chat' && datum.method == 'vector'").encode(x=_step(table))
    own = base.transform_filter("datum.revision == 'chat' && datum.method == 'vector'")
    rule = own.mark_rule(strokeDash=[6, 3], color=_CONTROL).encode(y=alt.Y("value:Q", title=_GAIN))
    null = base.transform_filter("datum.method == 'null range'").mark_rect(color=_CONTROL, opacity=0.25)
    null = null.encode(y=alt.Y("low:Q", title=_GAIN), y2="high:Q")
    layered = alt.layer(null, *_gain_layers(sources), rule, data=table).properties(width=_NARROW, height=_HEIGHT)
    choices = _choice("layer", layers, layers[-1]), _choice("statements", sets, sets[0])
    return _facets(layered, table, description, *choices).resolve_scale(y="independent")


def gain_and_cost(table: pd.DataFrame, description: str) -> alt.FacetChart:
    """Chart the gain against the perplexity it costs, settings joined in the order of the dose.

    Args:
        table: columns of a steering table with metric `gain`, and `cost` (perplexity as a multiple of the unsteered).
        description: the alt text.
    """
    table = table[[*_GAIN_COLUMNS, "cost"]]
    layers = sorted(int(layer) for layer in table["layer"].unique())
    sources, sets = (list(dict.fromkeys(table[column])) for column in ("revision", "concept_set"))
    shown = "datum.layer == layer && datum.revision == source && datum.concept_set == statements"
    x = alt.X("cost:Q", title="perplexity / unsteered", scale=alt.Scale(zero=False), axis=alt.Axis(grid=False))
    base = alt.Chart(table).transform_filter(shown).encode(x=x, order="dose:Q")
    panel = alt.layer(*_gain_layers(base)[1:])
    choices = _choice("layer", layers, layers[-1]), _choice("source", sources, sources[-1]), _choice("statements", sets, sets[0])
    chart = _facets(panel.properties(width=_NARROW, height=_HEIGHT), table, description, *choices)
    return chart.resolve_scale(x="independent", y="independent")


def side_effects(table: pd.DataFrame, description: str) -> alt.LayerChart:
    """Chart what the vector of each dimension does to the preferences of every dimension, as a map with its numbers.

    Args:
        table: rows of `results/<study>/steering.csv` with metric `side_effect`, possibly of several sources and sets.
        description: the alt text.
    """
    table = table[["revision", "dimension", "vector_of", "concept_set", "value", "low", "high", "p", "p_loss"]]
    base, choices = _chosen(alt.Chart(table), table)
    order, reach = list(COLOURS), float(table["value"].abs().max())
    scale = alt.Scale(scheme="purplegreen", domain=[-reach, reach])
    axis = alt.Axis(labelAngle=-30)
    base = base.encode(
        x=alt.X("dimension:N", sort=order, title="pairs of", axis=axis),
        y=alt.Y("vector_of:N", sort=order, title="vector of"),
        tooltip=["vector_of", "dimension", *(alt.Tooltip(c, format="+.4f") for c in ("value", "low", "high")), "p", "p_loss"],
    )
    cells = base.mark_rect().encode(color=alt.Color("value:Q", scale=scale, legend=alt.Legend(title=_GAIN, orient="bottom")))
    numbers = base.mark_text(fontSize=11).encode(text=alt.Text("value:Q", format="+.3f"))
    return alt.layer(cells, numbers).add_params(*choices).properties(width=330, height=190, description=description)


def probe_and_effect(table: pd.DataFrame, description: str) -> alt.FacetChart:
    """Chart the gain of each checkpoint's vector against its probe's accuracy, one point a checkpoint.

    Args:
        table: columns `revision`, `step`, `dimension`, `concept_set`, `accuracy`, `gain`.
        description: the alt text.
    """
    table = table[["revision", "step", "dimension", "concept_set", "accuracy", "gain"]]
    sets = list(dict.fromkeys(table["concept_set"]))
    points = (
        alt.Chart(table)
        .transform_filter("datum.concept_set == statements")
        .mark_point(filled=True, size=45)
        .encode(
            x=alt.X("accuracy:Q", title=_TITLES["accuracy"], scale=alt.Scale(zero=False), axis=alt.Axis(grid=False)),
            y=alt.Y("gain:Q", title=_GAIN),
            color=_colour(),
            tooltip=["revision", alt.Tooltip("accuracy", format=".3f"), alt.Tooltip("gain", format="+.4f")],
        )
    )
    chart = _facets(points.properties(width=_NARROW, height=_HEIGHT), table, description, _choice("statements", sets, sets[0]))
    return chart.resolve_scale(x="independent", y="independent")


def layer_profile(table: pd.DataFrame, metric: str, description: str) -> alt.LayerChart:
    """Chart a metric over the layers, one colour a dimension, controls dashed.

    Args:
        table: rows of one checkpoint or several, of one concept set or several; rows without a layer are drawn as level
            lines.
        metric: which metric's rows to draw.
        description: the alt text.
    """
    keep = ["revision", "layer", "dimension", "concept_set", "method", "value", "low", "high", "n"]
    rows = table[table["metric"] == metric][keep]
    base, choices = _chosen(alt.Chart(), rows)
    legend = alt.Legend(title=None, orient="bottom", columns=3, symbolOpacity=1)
    dash = alt.StrokeDash("method:N", legend=alt.Legend(title=None, orient="bottom", symbolStrokeColor=_CONTROL))
    title = _TITLES.get(metric, metric)
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False))
    base = base.encode(color=_colour().legend(legend))
    measured, level = base.transform_filter("isValid(datum.layer)"), base.transform_filter("!isValid(datum.layer)")
    measured = measured.encode(x=alt.X("layer:Q", axis=alt.Axis(tickMinStep=1, format="d", grid=False)))
    band = measured.mark_area(opacity=0.12).encode(
        y=alt.Y("low:Q", title=title, scale=alt.Scale(zero=False)), y2="high:Q", detail="method:N"
    )
    line = measured.mark_line(point=True).encode(
        y=y, strokeDash=dash, tooltip=["dimension", "method", "layer", alt.Tooltip("value", format=".3f")]
    )
    layers = [band, line]
    if rows["layer"].isna().any():
        layers.append(level.mark_rule().encode(y=y, strokeDash=dash))
    chart = alt.layer(*layers, data=rows).properties(width=420, height=240, description=description)
    return chart.add_params(*choices) if choices else chart


def loss_curve(table: pd.DataFrame, description: str) -> alt.Chart:
    """Chart the training loss over steps.

    Args:
        table: columns `step` and `loss`.
        description: the alt text.
    """
    return (
        alt.Chart(table)
        .mark_line(color=COLOURS["reliability"])
        .encode(
            x=alt.X("step:Q", scale=alt.Scale(type="log"), axis=alt.Axis(grid=False, title="training step")),
            y=alt.Y("loss:Q", scale=alt.Scale(zero=False), title="loss (nats per token)"),
        )
        .properties(width=480, height=220, description=description)
    )


_DASHES = [[1, 0], [6, 3], [8, 2, 2, 2], [10, 5], [4, 6], [12, 3]]


def beside_paper(table: pd.DataFrame, x_title: str, y_title: str, description: str) -> alt.FacetChart:
    """Chart our curves over training with the paper's as thin, grey, dotted lines, one panel a dimension.

    Args:
        table: columns `x`, `value`, `dimension`, `source` (what the line is called) and `paper` (whether it is the paper's).
        x_title: what `x` is; drawn linearly up to a hundredth of its largest value and logarithmically from there.
        y_title: what `value` is.
        description: the alt text.
    """
    table = table[["x", "value", "dimension", "source", "paper"]]
    own, theirs = (list(dict.fromkeys(table[table["paper"] == paper]["source"])) for paper in (False, True))
    dashes = [_DASHES[i % len(_DASHES)] for i in range(len(own))] + [[2, 2]] * len(theirs)
    last = float(table["x"].max())
    scale = alt.Scale(type="symlog", constant=last / 100, domain=[0, last], nice=False)
    ticks = [0, *(10.0 ** (math.floor(math.log10(last)) - power) for power in (1, 0))]
    dash = alt.StrokeDash(
        "source:N",
        scale=alt.Scale(domain=[*own, *theirs], range=dashes),
        legend=alt.Legend(title=None, orient="bottom", columns=2, symbolStrokeColor=_CONTROL, labelLimit=260),
    )
    base = alt.Chart(table).encode(
        x=alt.X("x:Q", scale=scale, axis=alt.Axis(values=ticks, format=".1~r", grid=False, title=x_title)),
        y=alt.Y("value:Q", scale=alt.Scale(zero=False), title=y_title),
        detail="source:N",
    )
    reference = base.transform_filter("datum.paper").mark_line(color=_CONTROL, strokeWidth=1.2).encode(strokeDash=dash)
    mine = base.transform_filter("!datum.paper").encode(color=_colour())
    lines = mine.mark_line(strokeWidth=2).encode(strokeDash=dash)
    tooltip = ["source", alt.Tooltip("x", format=".3~g"), alt.Tooltip("value", format=".3f")]
    points = mine.mark_point(filled=True, size=25).encode(tooltip=tooltip)
    panel = alt.layer(reference, lines, points).properties(width=_WIDTH, height=_HEIGHT)
    return _facets(panel, table, description)
