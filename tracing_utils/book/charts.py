"""Charts: a tidy table in, an Altair chart out.

Rule: a chart never computes and never saves; it draws the table it gets: rows of `results/<study>/*.csv`, or the columns that
its docstring names. `description` is its alt text. Charts that the reader plays with are in `explorables`.
"""

import math
from collections.abc import Sequence

import altair as alt
import pandas as pd

from .encodings import (
    ARMS,
    COLOURS,
    GREY,
    LAYERS,
    LINES,
    NARROW,
    TITLES,
    banded,
    colour,
    column_of,
    controls,
    ends,
    fitted,
    legend,
    options,
    panels,
    shade,
    shown,
    step_axis,
    tooltip,
    windows,
)  # fmt: skip

__all__ = [
    "head_map", "protocol_comparison", "onset_steps", "checkpoint_matrix", "by_layer", "two_phases", "dose_response",
    "effect_by_source", "gain_and_cost", "side_effects", "probe_and_effect", "layer_profile", "loss_curve", "beside_paper",
    "two_arms", "curves", "over_dose", "against_random", "instruments",
]  # fmt: skip

_PROTOCOLS = {
    **dict(zip(("logistic", "released, grouped, scaled on train", "released, grouped", "released"), LINES, strict=True)),
    "control task": GREY,
    "floor": "#777777",
    "lexical floor": "#999999",
    "surface": "#BBBBBB",
}
_WHOLE = "datum.value % 1 ? '' : datum.label"  # a short axis has ticks between two layers, which have no name
_BLOCKS = alt.X("layer:Q", axis=alt.Axis(tickMinStep=1, format="d", grid=False, labelExpr=_WHOLE))
_TWO_COLUMNS = legend(columns=2, labelLimit=300)
_DASHED = alt.Legend(
    title=None, orient="bottom", columns=2, symbolType="stroke", symbolStrokeColor=GREY, symbolSize=300, labelLimit=300
)


def _by_layer_or_level() -> tuple[alt.Chart, alt.Chart]:
    """Return the chart of rows with a layer, drawn over the layers, and that of rows without, which are level lines."""
    base = alt.Chart().transform_filter(shown("checkpoint", "statements"))
    return base.transform_filter("isValid(datum.layer)").encode(x=_BLOCKS), base.transform_filter("!isValid(datum.layer)")


def head_map(table: pd.DataFrame, description: str) -> alt.FacetChart:
    """Chart the value of every head (columns `layer` and `head`) as a field of cells, one panel a dimension."""
    rows = table[["revision", "layer", "head", "dimension", "concept_set", "value", "low", "high", "n"]].astype({"head": int})
    heads = alt.Y("head:O", title="head", scale=alt.Scale(reverse=True))
    base = (
        alt.Chart(rows)
        .transform_filter(shown("checkpoint", "statements"))
        .encode(x=alt.X("layer:O", title="block", axis=alt.Axis(labelOverlap="greedy", labelAngle=0)), y=heads)
    )
    shade = alt.Color("value:Q", scale=alt.Scale(scheme="viridis"), legend=alt.Legend(title=TITLES["accuracy"], orient="bottom"))
    cells = base.mark_rect().encode(color=shade, tooltip=tooltip("layer:O", "head:O", more=("n:Q",)))
    return panels(cells, rows, description, controls(rows, "checkpoint", "statements"))


def protocol_comparison(table: pd.DataFrame, description: str) -> alt.FacetChart:
    """Chart the accuracy rows of `probing.csv` over the layers, one panel a dimension: protocols and controls."""
    table = table[table["method"].isin(list(_PROTOCOLS))]
    table = table[["step", "revision", "layer", "dimension", "concept_set", "method", "value", "low", "high", "n"]]
    methods = [method for method in _PROTOCOLS if method in set(table["method"])]
    scale = alt.Scale(domain=methods, range=[_PROTOCOLS[method] for method in methods])
    method, y = alt.Color("method:N", scale=scale, legend=_TWO_COLUMNS), fitted(TITLES["accuracy"])
    says = tooltip("revision:N", "layer:Q", "method:N", more=("n:Q",))
    measured, level = _by_layer_or_level()
    layers = [
        measured.mark_area(opacity=0.1).encode(**ends(y), color=method),
        measured.mark_line(point=True).encode(y=y, color=method, tooltip=says),
        level.mark_rule(strokeDash=[6, 3], strokeWidth=1.5).encode(y=y, color=method, tooltip=says),
    ]
    return panels(alt.layer(*layers, data=table), table, description, controls(table, "checkpoint", "statements"))


def onset_steps(table: pd.DataFrame, description: str) -> alt.FacetChart:
    """Chart the onset step of each layer and of the selected layer with its interval (rows `onset_step` of `dynamics.csv`)."""
    table = table.dropna(subset=["value"])[["dimension", "concept_set", "layer", "value", "low", "high", "n"]]
    layers = [str(layer) for layer in options(table, "layer")]
    table = table.assign(layer=table["layer"].astype("Int64").astype("string").fillna("selected"))
    base = alt.Chart(table).transform_filter(shown("statements"))
    base = base.encode(y=alt.Y("layer:N", sort=["selected", *reversed(layers)], title="layer"), color=colour())
    layers = _dated(base, table, "onset step", tooltip("layer", form="d", more=("n",)))
    return panels(alt.layer(*layers), table, description, controls(table, "statements"))


def _dated(base: alt.Chart, table: pd.DataFrame, title: str, says: list[alt.Tooltip]) -> list[alt.Chart]:
    """Return steps as points, which tell `says`, on the rules of their intervals."""
    low, value = (step_axis(table, column, title, last="high") for column in ("low", "value"))
    rules = base.mark_rule(strokeWidth=3, opacity=0.7).encode(x=low, x2="high:Q")
    return [rules, base.mark_point(filled=True, size=50).encode(x=value, tooltip=says)]


def checkpoint_matrix(table: pd.DataFrame, metric: str, description: str) -> alt.FacetChart:
    """Chart `direction_cosine` or `transfer_accuracy` of `dynamics.csv` for all pairs of checkpoints, one map a dimension."""
    rows = table[(table["metric"] == metric) & (table["method"] == "logistic")].astype({"to_step": int})
    rows = rows[["step", "to_step", "revision", "to_revision", "dimension", "concept_set", "value", "low", "high"]]
    middle = 0.5 if metric == "transfer_accuracy" else 0.0
    reach = float((rows["value"] - middle).abs().max())
    scale = alt.Scale(scheme="purplegreen", domain=[middle - reach, middle + reach])
    gradient = alt.Legend(title=TITLES[metric], orient="bottom", gradientLength=220)
    cells = alt.Chart(rows).transform_filter(shown("statements")).mark_rect()
    cells = cells.encode(
        x=alt.X("to_step:O", axis=alt.Axis(labelOverlap="greedy", title="activations of step")),
        y=alt.Y("step:O", sort="descending", axis=alt.Axis(labelOverlap="greedy", title="direction of step")),
        color=alt.Color("value:Q", scale=scale, legend=gradient),
        tooltip=tooltip("revision", "to_revision"),
    )
    return panels(cells, rows, description, controls(rows, "statements"), height=165)


def by_layer(
    table: pd.DataFrame,
    metric: str,
    description: str,
    floor: str = "",
    claim: pd.DataFrame | None = None,
    choice: str = "statements",
) -> alt.FacetChart:
    """Chart a metric over steps, one line a layer, one panel a dimension; the mean of the control `floor` is dashed.

    The windows of training that the verdicts on a `claim` are about (its rows of `claims.csv`) are shaded. The reader's
    `choice` is of statements or of a suite.
    """
    rows = table[table["metric"] == metric].astype({"layer": int})
    rows = rows[["step", "revision", "layer", "dimension", column_of(choice), "method", "value", "low", "high", "n"]]
    judged = claim is not None and claim["windows"].notna().any()
    if judged:
        rows = pd.concat([rows.astype({"layer": "Int64"}), windows(claim)])
    base = alt.Chart(rows).encode(x=step_axis(rows)).transform_filter(shown(choice))
    y = fitted(TITLES[metric])
    layer = alt.Color("layer:O", scale=LAYERS, legend=legend("layer"))
    measured = base.transform_filter(f"datum.method != '{floor}' && isValid(datum.layer)").encode(color=layer)
    layers = [shade(base, rows)] if judged else []
    layers += banded(measured, y, tooltip("revision", "layer", more=("n",)))
    if floor:
        control = base.transform_filter(f"datum.method == '{floor}'").mark_line(color=GREY, strokeDash=[6, 3])
        layers.append(control.encode(y=alt.Y("mean(value):Q", title=TITLES[metric])))
    chart = panels(alt.layer(*layers), rows, description, controls(rows, choice), NARROW)
    return chart.resolve_scale(y="independent")


_PHASES = {"nhsic_tx": "nhsic_tx", "nhsic_ty": "nhsic_ty", "effective_rank": "effective_rank", "usable_information": "shannon"}
_METHODS = ("released", "covariance", "probe")


def two_phases(table: pd.DataFrame, control: pd.DataFrame, description: str) -> alt.VConcatChart:
    """Chart four measures over training, each next to the same measure of features that are only reweighted.

    One row a measure, both panels on one axis: the model (rows of `mutual_information.csv`), one line a dimension, and the
    control (rows of `reweighting.csv`), whose information is the same throughout.
    """
    rows = table[table["metric"].isin(_PHASES) & table["method"].isin(_METHODS)].astype({"layer": int})
    rows = rows[["step", "revision", "layer", "dimension", "concept_set", "metric", "value", "low", "high", "n"]]
    control = control[control["metric"].isin(_PHASES.values())][["exponent", "metric", "value", "low", "high"]]
    model, weighted = alt.Chart(rows).transform_filter(shown("layer", "statements")), alt.Chart(control)
    chart = alt.vconcat(*(_phase(model, weighted, metric, rows) for metric in _PHASES), spacing=2)
    return chart.add_params(*controls(rows, "layer", "statements")).properties(description=description)


def _phase(model: alt.Chart, weighted: alt.Chart, metric: str, rows: pd.DataFrame) -> alt.HConcatChart:
    """Return one measure of `two_phases`: over training steps, and over the exponent of the control."""
    first, last = metric == next(iter(_PHASES)), metric == list(_PHASES)[-1]
    wide = metric in {"nhsic_ty", "effective_rank"}  # model and control are orders of magnitude apart
    scale = alt.Scale(type="log") if wide else alt.Scale(zero=False)
    axis = alt.Axis(minExtent=45, tickCount=4, grid=not wide)

    def side(base: alt.Chart, colour: alt.Color | dict, title: str | None, heading: str, *named: str) -> alt.LayerChart:
        y = alt.Y("value:Q", title=title, scale=scale, axis=axis)
        base = base.encode(color=colour)
        line = base.mark_line(strokeWidth=1.8).encode(y=y)
        points = base.mark_point(filled=True, size=22).encode(y=y, tooltip=tooltip(*named, form=".3g"))
        band = base.mark_area(opacity=0.15).encode(**ends(y))
        # On a logarithmic axis an interval that reaches 0 has no end.
        layers = [line, points] if wide else [band, line, points]
        return alt.layer(*layers).properties(width=250, height=110, title=heading)

    step, exponent = step_axis(rows), alt.X("exponent:Q", axis=alt.Axis(grid=False, title="exponent", tickCount=4))
    if not last:
        step, exponent = step.axis(values=[], title=None), exponent.axis(labels=False, title=None, grid=False)
    model = model.transform_filter(f"datum.metric == '{metric}'").encode(x=step)
    weighted = weighted.transform_filter(f"datum.metric == '{_PHASES[metric]}'").encode(x=exponent)
    dimension = colour(legend(columns=5))
    title = "information (bits)" if last else TITLES[metric]
    headings = ("the model", "the control") if first else ("", "")
    left = side(model, dimension, title, headings[0], "revision", "dimension")
    right = side(weighted, alt.value(GREY), None, headings[1], "exponent")
    return alt.hconcat(left, right, spacing=0).resolve_scale(y="shared")


_GAIN = "gain (nats per token)"
_NULLS = ("random direction", "shuffled labels")
_GAIN_COLUMNS = ["step", "revision", "layer", "dimension", "concept_set", "method", "dose", "value", "low", "high", "n"]


def _gain_layers(base: alt.Chart, *more: alt.Tooltip) -> list[alt.Chart]:
    """Return band, line and points of a gain, which tell `more`."""
    says = [*tooltip("revision:N", "layer:Q", "dose:Q", form="+.4f", more=("n:Q",)), *more]
    return banded(base.encode(color=colour()), alt.Y("value:Q", title=_GAIN), says, size=35)


def _drawn(base: alt.Chart) -> alt.Chart:
    """Return the gains of null directions as ticks, random ones grey and those of shuffled labels light."""
    scale = alt.Scale(domain=list(_NULLS), range=[GREY, "#CCCCCC"])
    strokes = legend(symbolType="stroke", columnPadding=4)  # fits a phone
    nulls = base.transform_filter(alt.FieldOneOfPredicate("method", list(_NULLS)))
    says = ["method", "layer", alt.Tooltip("value", format="+.4f")]
    return nulls.mark_tick(opacity=0.5, thickness=1, size=22, orient="horizontal").encode(
        y=alt.Y("value:Q", title=_GAIN), stroke=alt.Stroke("method:N", scale=scale, legend=strokes), tooltip=says
    )


def dose_response(table: pd.DataFrame, description: str) -> alt.FacetChart:
    """Chart the gain (nats per token) over the push, in front of the gains of the target's null directions.

    The push is the column `relative_norm`, the length of what is added as a share of a typical activation's, with the sign of
    the dose. Null directions have none in the table: their ticks stand where the vector on show has their dose.
    """
    table, names = table[[*_GAIN_COLUMNS, "relative_norm"]], ("layer", "source", "statements")
    vectors = table[~table["method"].isin(_NULLS)]
    title = "push / activation's length"
    x = alt.X("push:Q", title=title, axis=alt.Axis(grid=False, format="~%", tickCount=3))
    own = f"({shown('source')} && datum.method == 'vector')"
    base = alt.Chart().transform_filter(f"{shown('layer', 'statements')} && (datum.method != 'vector' || {own})").encode(x=x)
    base = base.transform_joinaggregate(norm="max(relative_norm)", groupby=["dimension", "dose"])
    base = base.transform_calculate(push="datum.dose < 0 ? -datum.norm : datum.norm")
    effect = _gain_layers(base.transform_filter(own), alt.Tooltip("push:Q", title=title, format="+.1%"))
    chart = panels(alt.layer(_drawn(base), *effect, data=table), table, description, controls(vectors, *names), NARROW)
    return chart.resolve_scale(x="independent", y="independent")


def effect_by_source(table: pd.DataFrame, description: str, choice: str = "statements") -> alt.FacetChart:
    """Chart the gain of each checkpoint's vector over its step at one dose, in front of the range of null directions.

    Rows of method `null range` have the 95 % range of the null directions as their interval. The level line is the chat
    model's own vector. The reader's `choice` is of statements or of a suite.
    """
    table, names = table[list(dict.fromkeys([*_GAIN_COLUMNS, column_of(choice)]))], ("layer", choice)
    base = alt.Chart().transform_filter(shown(*names))
    sources = base.transform_filter("datum.revision != 'chat' && datum.method == 'vector'").encode(x=step_axis(table))
    own = base.transform_filter("datum.revision == 'chat' && datum.method == 'vector'")
    y = alt.Y("value:Q", title=_GAIN)
    rule = own.mark_rule(strokeDash=[6, 3], color=GREY).encode(y=y)
    null = base.transform_filter("datum.method == 'null range'").mark_rect(color=GREY, opacity=0.25, aria=False).encode(**ends(y))
    layered = alt.layer(null, *_gain_layers(sources), rule, data=table)
    return panels(layered, table, description, controls(table, *names), NARROW).resolve_scale(y="independent")


def gain_and_cost(table: pd.DataFrame, description: str) -> alt.FacetChart:
    """Chart the gain against `cost`, the perplexity as a multiple of the unsteered, joined in the order of the dose."""
    table, names = table[[*_GAIN_COLUMNS, "cost"]], ("layer", "source", "statements")
    x = alt.X("cost:Q", title="perplexity / unsteered", scale=alt.Scale(zero=False), axis=alt.Axis(grid=False))
    base = alt.Chart(table).transform_filter(shown(*names)).encode(x=x, order="dose:Q")
    chart = panels(alt.layer(*_gain_layers(base)[1:]), table, description, controls(table, *names), NARROW)
    return chart.resolve_scale(x="independent", y="independent")


def side_effects(table: pd.DataFrame, description: str) -> alt.LayerChart:
    """Chart what the vector of each dimension does to the preferences of every dimension, as a map with its numbers.

    The numbers are in thousandths, since they must stand in the cells of a phone.
    The rows are those of `steering.csv` with metric `side_effect`, possibly of several sources and sets.
    """
    table = table[["step", "revision", "dimension", "vector_of", "concept_set", "value", "low", "high", "p", "p_loss"]]
    names = ("source", "statements")
    base = alt.Chart(table).transform_filter(shown(*names))
    order, reach = list(COLOURS), float(table["value"].abs().max())
    scale = alt.Scale(scheme="purplegreen", domain=[-reach, reach])
    axis = alt.Axis(labelAngle=-30)
    base = base.encode(
        x=alt.X("dimension:N", sort=order, title="pairs of", axis=axis),
        y=alt.Y("vector_of:N", sort=order, title="vector of"),
        tooltip=tooltip("vector_of:N", "dimension:N", form="+.4f", more=("p:Q", "p_loss:Q")),
    )
    legend = alt.Legend(title=f"thousandths: {_GAIN}", orient="bottom", labelExpr="format(1000 * datum.value, '+.0f')")
    cells = base.mark_rect().encode(color=alt.Color("value:Q", scale=scale, legend=legend))
    strong = alt.expr.abs(alt.datum["value"]) > 0.6 * reach  # a dark cell, in either theme
    ink = alt.condition(strong, alt.value("white"), alt.value("#1a1a1a"))
    words = "abs(datum.value) < 0.0005 ? '0' : format(1000 * datum.value, '+.0f')"
    numbers = base.transform_calculate(thousandths=words).mark_text(fontSize=12).encode(text="thousandths:N", color=ink)
    chart = alt.layer(cells, numbers).add_params(*controls(table, *names))
    return chart.properties(width=330, height=190, description=description)


def probe_and_effect(table: pd.DataFrame, description: str) -> alt.FacetChart:
    """Chart the column `gain` of each checkpoint's vector against the column `accuracy` of its probe, one point a checkpoint."""
    table = table[["revision", "step", "dimension", "concept_set", "accuracy", "gain"]]
    points = alt.Chart(table).transform_filter(shown("statements")).mark_point(filled=True, size=45)
    points = points.encode(
        x=alt.X("accuracy:Q", title=TITLES["accuracy"], scale=alt.Scale(zero=False), axis=alt.Axis(grid=False)),
        y=alt.Y("gain:Q", title=_GAIN),
        color=colour(),
        tooltip=["revision", alt.Tooltip("accuracy", format=".3f"), alt.Tooltip("gain", format="+.4f")],
    )
    chart = panels(points, table, description, controls(table, "statements"), NARROW)
    return chart.resolve_scale(x="independent", y="independent")


def layer_profile(table: pd.DataFrame, metric: str, description: str) -> alt.LayerChart:
    """Chart a metric over the layers, one colour a dimension, controls dashed; rows without a layer are level lines."""
    rows = table[table["metric"] == metric]
    rows = rows[["revision", "layer", "dimension", "concept_set", "method", "value", "low", "high", "n"]]
    dimension = colour(legend(columns=2))
    dash = alt.StrokeDash("method:N", legend=_DASHED)
    y, says = fitted(TITLES.get(metric, metric.replace("_", " "))), tooltip("dimension:N", "method:N", "layer:Q")
    measured, level = (part.encode(color=dimension) for part in _by_layer_or_level())
    layers = [
        measured.mark_area(opacity=0.12).encode(**ends(y), detail="method:N"),
        measured.mark_line().encode(y=y, strokeDash=dash),
        measured.mark_point(filled=True, size=30).encode(y=y, detail="method:N", tooltip=says),
    ]
    if rows["layer"].isna().any():
        layers.append(level.mark_rule().encode(y=y, strokeDash=dash))
    chart = alt.layer(*layers, data=rows).properties(width=420, height=240, description=description)
    return chart.add_params(*controls(rows, "checkpoint", "statements"))


def loss_curve(table: pd.DataFrame, description: str) -> alt.Chart:
    """Chart the training loss (columns `step` and `loss`, nats per token) over steps."""
    line = alt.Chart(table).mark_line(color=COLOURS["reliability"])
    line = line.encode(
        x=alt.X("step:Q", scale=alt.Scale(type="log"), axis=alt.Axis(grid=False, title="training step")),
        y=fitted("loss (nats per token)", "loss"),
    )
    return line.properties(width=480, height=220, description=description)


def two_arms(
    measures: pd.DataFrame, lines: Sequence[tuple[str, str]], own: pd.DataFrame, planted: int, description: str
) -> alt.FacetChart:
    """Chart both arms of the designed world over training, one panel a dimension.

    Args:
        measures: one measure of several seeds: `seed`, `arm`, `keys`, `dimension`, `step` and `value`. Drawn are the mean over
            the seeds and a band from the lowest to the highest.
        lines: the arm and the kind of keys of each curve, in the order of the legend.
        own: the seed that is shipped and traced, `arm`, `dimension`, `step` and `value`; drawn as circles.
        planted: the step in which late keys are first told; a rule stands there.
        description: the alt text.
    """
    names = [f"{arm}, {keys}" for arm, keys in lines]
    curves = measures.assign(curve=measures["arm"] + ", " + measures["keys"])
    curves = curves[curves["curve"].isin(names)].groupby(["curve", "dimension", "step"], sort=False)["value"]
    table = curves.agg(value="mean", low="min", high="max").reset_index()
    coherent, scrambled = ARMS.values()
    colours = {"coherent, told": coherent, "coherent, late": LINES[1], "coherent, never": GREY, "scrambled, told": scrambled}
    scale = alt.Scale(domain=names, range=[colours[name] for name in names])
    y, curve = fitted(TITLES["accuracy"]), alt.Color("curve:N", scale=scale, legend=_TWO_COLUMNS)
    own = own.assign(curve=own["arm"] + ", told")[["dimension", "step", "curve", "value"]]
    table = pd.concat([table, own.assign(own=True)]).fillna({"own": False})
    base = alt.Chart().encode(x=step_axis(table), color=curve)
    mean, circles = base.transform_filter("!datum.own"), base.transform_filter("datum.own")
    layers = [
        *banded(mean, y, tooltip("step:Q", "curve:N"), size=12),
        circles.mark_point(size=40).encode(y=y, tooltip=tooltip("step:Q", "curve:N")),
        alt.Chart().mark_rule(strokeDash=[4, 4], color=GREY, description=f"step {planted}").encode(x=alt.datum(planted)),
    ]
    return panels(alt.layer(*layers, data=table), table, description, [])


_DASHES = [[1, 0], [6, 3], [8, 2, 2, 2], [10, 5], [4, 6], [12, 3]]


def curves(
    table: pd.DataFrame, title: str, description: str, level: float | None = None, choice: str = "statements"
) -> alt.FacetChart:
    """Chart rows of one metric over training, one line a method with its interval, one panel a dimension.

    The tidy rows, one a step, dimension and method, stand in the order in which the methods shall be named; those of the chat
    model (step -1) are left out. Of a method `coherent, probe` the first word is the colour, the second the dash. A dashed line
    lies at `level`, such as chance. The reader's `choice` is of statements or of another column.
    """
    rows = table[table["step"] >= 0][["step", "dimension", column_of(choice), "method", "value", "low", "high", "n"]]
    parts = rows["method"].str.partition(", ")
    rows = rows.assign(line=parts[0], kind=parts[2])
    lines, kinds = (list(dict.fromkeys(rows[column])) for column in ("line", "kind"))
    free = iter([*LINES, GREY])
    colours = [ARMS[name] if name in ARMS else next(free) for name in lines]
    dashes = _DASHED if len(kinds) > 1 else None
    base = (
        alt.Chart()
        .transform_filter(shown(choice))
        .encode(
            x=step_axis(rows),
            color=alt.Color("line:N", scale=alt.Scale(domain=lines, range=colours), legend=_TWO_COLUMNS),
            detail="kind:N",
        )
    )
    dash = alt.StrokeDash("kind:N", scale=alt.Scale(domain=kinds, range=_DASHES[: len(kinds)]), legend=dashes)
    y = fitted(title)
    band, line, points = banded(base, y, tooltip("step:Q", "method:N", more=("n:Q",)))
    layers = [band, line.encode(strokeDash=dash), points]
    if level is not None:
        layers.append(alt.Chart().mark_rule(strokeDash=[4, 4], color=GREY, description=f"{level:g}").encode(y=alt.datum(level)))
    return panels(alt.layer(*layers, data=rows), rows, description, controls(rows, choice))


def over_dose(table: pd.DataFrame, title: str, description: str) -> alt.FacetChart:
    """Chart `value` over the share `dose` of coherence, one line a `seed`, one panel a dimension."""
    base = alt.Chart().encode(
        x=alt.X("dose:Q", title="coherence", axis=alt.Axis(grid=False, format=".0%", values=[0, 0.5, 1])),
        y=fitted(title),
        color=colour(),
        detail="seed:N",
    )
    points = base.mark_point(size=30).encode(tooltip=["seed:N", "dose:Q", alt.Tooltip("value:Q", format=".3f")])
    return panels(alt.layer(base.mark_line(), points, data=table[["seed", "dose", "dimension", "value"]]), table, description, [])


def against_random(table: pd.DataFrame, description: str) -> alt.FacetChart:
    """Chart the `gain` of each seed's own direction, a colour an arm, before the range of random ones, one panel a dimension.

    Further columns: `seed`, `arm`, `dimension`, and `random_low` and `random_high`, in nats per token.
    """
    table = table[["seed", "arm", "dimension", "gain", "random_low", "random_high"]]
    y = alt.Y("gain:Q", title=_GAIN)
    low = y.copy()
    low["shorthand"] = "random_low:Q"
    base = alt.Chart().encode(
        x=alt.X("seed:N", title="seed", axis=alt.Axis(labelAngle=0)), xOffset=alt.XOffset("arm:N", sort=list(ARMS))
    )
    random = base.mark_bar(color=GREY, opacity=0.35, size=6).encode(y=low, y2="random_high:Q")
    scale = alt.Scale(domain=list(ARMS), range=list(ARMS.values()))
    says = ["arm:N", "seed:N", *(alt.Tooltip(f"{name}:Q", format="+.3f") for name in ("gain", "random_low", "random_high"))]
    own = base.mark_point(filled=True, size=45).encode(y=y, color=alt.Color("arm:N", scale=scale, legend=legend()), tooltip=says)
    return panels(alt.layer(random, own, data=table), table, description, [])


def instruments(table: pd.DataFrame, description: str) -> alt.FacetChart:
    """Chart when each instrument says that a concept is there, with its interval, one panel a dimension.

    Columns: `instrument`, in the order from top to bottom, `dimension`, and `value`, `low` and `high` in steps.
    """
    rows = table.dropna(subset=["value"])[["instrument", "dimension", "value", "low", "high"]]
    base = alt.Chart().encode(y=alt.Y("instrument:N", sort=list(dict.fromkeys(table["instrument"])), title=None), color=colour())
    says = [alt.Tooltip("instrument:N"), *(alt.Tooltip(f"{name}:Q", format=",.0f") for name in ("value", "low", "high"))]
    return panels(alt.layer(*_dated(base, rows, "training step", says), data=rows), rows, description, [])


def beside_paper(table: pd.DataFrame, x_title: str, y_title: str, description: str) -> alt.FacetChart:
    """Chart our curves over training with the paper's as thin, grey, dotted lines, one panel a dimension.

    Columns: `x`, `value`, `dimension`, `source` (the name of the line) and `paper` (whether it is the paper's). The axis of `x`
    is linear up to a hundredth of its largest value and logarithmic from there.
    """
    table = table[["x", "value", "dimension", "source", "paper"]]
    own, theirs = (options(table[table["paper"] == paper], "source") for paper in (False, True))
    dashes = [_DASHES[i % len(_DASHES)] for i in range(len(own))] + [[2, 2]] * len(theirs)
    last = float(table["x"].max())
    ticks = [0, *(10.0 ** (math.floor(math.log10(last)) - power) for power in (1, 0))]
    scale = alt.Scale(type="symlog", constant=last / 100, domain=[0, last], nice=False)
    x = alt.X("x:Q", scale=scale, axis=alt.Axis(values=ticks, format=".1~r", grid=False, title=x_title))
    strokes = alt.Legend(title=None, orient="bottom", columns=2, symbolStrokeColor=GREY, labelLimit=260)
    dash = alt.StrokeDash("source:N", scale=alt.Scale(domain=[*own, *theirs], range=dashes), legend=strokes)
    base = alt.Chart(table).encode(x=x, y=fitted(y_title), detail="source:N")
    reference = base.transform_filter("datum.paper").mark_line(color=GREY, strokeWidth=1.2).encode(strokeDash=dash)
    ours = base.transform_filter("!datum.paper").encode(color=colour())
    says = ["source", alt.Tooltip("x", format=".3~g"), alt.Tooltip("value", format=".3f")]
    lines, points = ours.mark_line(strokeWidth=2).encode(strokeDash=dash), ours.mark_point(filled=True, size=25)
    return panels(alt.layer(reference, lines, points.encode(tooltip=says)), table, description, [])
