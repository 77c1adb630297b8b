"""Charts to play with: the reader drags along training, picks a layer, or takes a control away.

Rule: like `charts`, these draw what is in the table and save nothing; only a difference of two checkpoints, which the
reader picks, is taken in the page. They stand apart because only pages show them: no notebook depends on this file.

What the page's script does beyond Vega's own controls stands in a chart's `usermeta`: `ticks` (a slider over places
shows the training step of its place, and can be played), `pick` (a click or a drag on a mark sets a control from the
mark's data) and `link` (a parameter that holds the address of the page of the checkpoint on show).

Public names: `training`, `probe_trajectories`, `layer_map`, `compare_checkpoints`, `information_plane`, `ratios`.
"""

import math
from itertools import pairwise

import altair as alt
import pandas as pd

from .charts import COLOURS, _CONTROL, _HEIGHT, _TITLES, _WIDTH, _choice, _colour, _facets, _step

_DASHES = {
    "probe": [1, 0],
    "floor": [1, 4],
    "lexical floor": [6, 3],
    "shuffled labels": [4, 1],
    "control task": [8, 2, 2, 2],
}
_CONTROLS = ("floor", "lexical floor", "shuffled labels", "control task")
_KEEP = ["step", "revision", "layer", "dimension", "concept_set", "value", "low", "high"]


def _options(table: pd.DataFrame, column: str) -> list:
    """Return the values of a column in the order in which they come; dimensions in the order of the palette."""
    found = [value.item() if hasattr(value, "item") else value for value in dict.fromkeys(table[column])]
    return [dimension for dimension in COLOURS if dimension in found] if column == "dimension" else found


def _chosen(table: pd.DataFrame, layer: bool = True) -> tuple[str, list[alt.Parameter]]:
    """Return the choices of dimension, statements and layer, and the filter of the first two."""
    dimensions, sets = _options(table, "dimension"), _options(table, "concept_set")
    choices = [_choice("dimension", dimensions, dimensions[0]), _choice("statements", sets, sets[0])]
    if layer:
        layers = sorted(_options(table, "layer"))
        choices.append(_choice("layer", layers, layers[len(layers) // 2]))
    return "datum.dimension == dimension && datum.concept_set == statements", choices


def _slider(steps: list[int], first: int) -> list[alt.Parameter]:
    """Return a slider `at` over the places of the checkpoints, and the parameter `step` that follows from it."""
    bind = alt.binding_range(min=0, max=len(steps) - 1, step=1, name="training step")
    return [alt.param(name="at", bind=bind, value=first), alt.param(name="step", expr=f"{steps}[at]")]


def _strips(steps: list[int]) -> pd.DataFrame:
    """Return each step with the borders halfway to its neighbours on the axis of `charts`, linear at first, then logarithmic."""
    place = [math.log1p(step / 8) for step in steps]
    halfway = [8 * math.expm1((a + b) / 2) for a, b in pairwise(place)]
    left, right = [steps[0], *halfway], [*halfway, steps[-1]]
    return pd.DataFrame({"step": steps, "left": left, "right": right}).round(1)


def _title(text: str) -> alt.TitleParams:
    """Return a title that changes with the choices; `text` is a Vega expression."""
    return alt.TitleParams(text=alt.ExprRef(text), anchor="start", fontSize=12)


def _tooltip(*names: str, form: str = ".3f") -> list:
    return [*names, *(alt.Tooltip(f"{column}:Q", format=form) for column in ("value", "low", "high"))]


def _wide(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the logistic probe's rows with the value of each control in a column of its own, which takes less room.

    Args:
        table: rows of `results/<study>/probing.csv`, possibly of several concept sets.
        metric: `accuracy`, `auroc` or `log_loss`.
    """
    rows = table[table["metric"] == metric]
    probe = rows[rows["method"] == "logistic"]
    keep = [*_KEEP, *(["href"] if "href" in table else [])]
    probe = probe[keep].astype({"layer": int})
    for name in _CONTROLS:
        control = rows[rows["method"] == name].rename(columns={"value": name})
        level = control["layer"].isna().all()
        on = ["revision", "dimension", "concept_set", *([] if level else ["layer"])]
        probe = probe.merge(control.dropna(subset=[] if level else ["layer"])[[*on, name]], on=on, how="left")
    return probe.sort_values(["step", "layer"], kind="stable")


def training(table: pd.DataFrame, description: str, page: str = "") -> alt.ConcatChart:
    """Chart held-out accuracy over training, and beside it over the layers at the step that the reader drags to.

    Args:
        table: rows of `results/<study>/probing.csv`, possibly of several concept sets.
        description: the alt text; states the finding.
        page: prefix of the address of a featured checkpoint's notebook, for rows whose `featured` is true.
    """
    if page:
        addresses = zip(table["revision"], table["featured"], strict=True)
        table = table.assign(href=[f"{page}{revision}.html" if there else "" for revision, there in addresses])
    rows = _wide(table, "accuracy")
    steps = sorted(_options(rows, "step"))
    shown, choices = _chosen(rows)
    low, high = float(rows[["low", *_CONTROLS]].min().min()), float(rows[["high", *_CONTROLS]].max().max())
    y = alt.Y("value:Q", title=_TITLES["accuracy"], scale=alt.Scale(domain=[round(low, 2), round(high, 2)], zero=False))
    base = alt.Chart(rows).transform_filter(shown)
    over = _over_training(base, rows, steps, y).properties(
        width=400, height=270, title=_title("dimension + ', layer ' + layer + ', through training'")
    )
    across = _over_layers(base, y).properties(width=150, height=270, title=_title("'all layers, at step ' + step"))
    meta = {"ticks": {"at": steps}, "pick": {"at": "step", "layer": "layer"}}
    if page:
        linked = {f"{row.concept_set} {row.step}": row.href for row in rows.itertuples() if row.href}
        choices.append(alt.param(name="notebook", expr=f"{linked}[statements + ' ' + step]"))
        meta["link"] = "notebook"
    chart = alt.concat(over, across, columns=2, spacing=25).resolve_scale(y="shared")
    return chart.add_params(*_slider(steps, len(steps) - 1), *choices).properties(description=description, usermeta=meta)


def _dash(methods: tuple[str, ...], columns: int = 3) -> alt.StrokeDash:
    scale = alt.Scale(domain=list(methods), range=[_DASHES[method] for method in methods])
    legend = alt.Legend(
        title=None, orient="bottom", columns=columns, symbolStrokeColor=_CONTROL, symbolSize=300,
        labelExpr="datum.label == 'probe' ? 'probe (coloured)' : datum.label",
    )  # fmt: skip
    return alt.StrokeDash("method:N", scale=scale, legend=legend)


def _over_training(base: alt.Chart, rows: pd.DataFrame, steps: list[int], y: alt.Y) -> alt.LayerChart:
    """Return the curve of the chosen layer with its controls, the other layers pale, and a rule at the step on show."""
    x, dash, colour = _step(rows), _dash(("probe", *_CONTROLS)), _colour()
    strips = alt.Chart(_strips(steps))
    span = {"x": alt.X("left:Q", scale=x["scale"], axis=x["axis"], title="training step"), "x2": "right:Q"}
    here = strips.transform_filter("datum.step == step").mark_rule(color=_CONTROL, strokeWidth=1.5).encode(x=x)
    probe = base.transform_calculate(method="'probe'").encode(x=x)
    line = probe.transform_filter("datum.layer == layer")
    controls = base.transform_filter("datum.layer == layer").transform_fold(list(_CONTROLS), as_=["method", "value"])
    size = alt.condition("datum.step == step", alt.value(120), alt.value(35))
    points = line.mark_point(filled=True, opacity=1).encode(y=y, color=colour, size=size, tooltip=_tooltip("revision", "layer"))
    if "href" in rows:
        rings = line.transform_filter("datum.href != ''").mark_point(size=150, strokeWidth=1.5, opacity=1, aria=False)
        rings = rings.encode(y=y, color=colour, href="href:N", tooltip=_tooltip("revision", "layer"))
        points = alt.layer(points.encode(href="href:N"), rings)
    return alt.layer(
        here,
        probe.mark_line(strokeWidth=1, opacity=0.3).encode(y=y, detail="layer:N", color=colour),
        controls.mark_line(color=_CONTROL, strokeWidth=1.5).encode(x=x, y=y, strokeDash=dash),
        line.mark_area(opacity=0.2).encode(y=alt.Y("low:Q", scale=y["scale"], title=y["title"]), y2="high:Q", color=colour),
        line.mark_line(strokeWidth=2.5).encode(y=y, color=colour, strokeDash=dash),
        strips.mark_rect(opacity=0, cursor="ew-resize").encode(**span),
        points,
    )


def _over_layers(base: alt.Chart, y: alt.Y) -> alt.LayerChart:
    """Return all layers at the step on show, with the controls of that step."""
    x = alt.X("layer:O", axis=alt.Axis(labelAngle=0, labelOverlap="greedy"), title="layer")
    y = y.copy().title(None)
    at = base.transform_filter("datum.step == step").encode(x=x)
    controls = at.transform_fold(list(_CONTROLS), as_=["method", "value"])
    size = alt.condition("datum.layer == layer", alt.value(120), alt.value(35))
    return alt.layer(
        controls.mark_line(color=_CONTROL, strokeWidth=1.5).encode(y=y, strokeDash=_dash(("probe", *_CONTROLS))),
        at.mark_rule(strokeWidth=3, opacity=0.3).encode(
            y=alt.Y("low:Q", scale=y["scale"], title=y["title"]), y2="high:Q", color=_colour()
        ),
        at.mark_point(filled=True, opacity=1, cursor="pointer").encode(
            y=y, color=_colour(), size=size, tooltip=_tooltip("revision", "layer")
        ),
    )


def probe_trajectories(table: pd.DataFrame, metric: str, description: str, paper: pd.DataFrame | None = None) -> alt.FacetChart:
    """Chart a probe metric over training steps, one panel a dimension, with controls that can be taken away.

    Args:
        table: rows of `results/<study>/probing.csv`, possibly of several concept sets.
        metric: `accuracy`, `auroc` or `log_loss`.
        description: the alt text; states the finding.
        paper: columns `dimension`, `concept_set`, `value`: level lines of the paper's, on the statements it shares.
    """
    rows = _wide(table, metric)
    switches = [*_CONTROLS, "untrained"]
    if paper is not None:
        rows = rows.merge(paper.rename(columns={"value": "paper"}), on=["dimension", "concept_set"], how="left")
        switches.append("the paper")
    sets, layers = _options(rows, "concept_set"), sorted(_options(rows, "layer"))
    choices = [_choice("layer", layers, layers[len(layers) // 2])]
    if len(sets) > 1:
        choices.append(_choice("statements", sets, sets[0]))
    choices += [
        alt.param(name=name.replace(" ", "_"), bind=alt.binding_checkbox(name=name), value=name != "untrained")
        for name in switches
    ]
    panel = _trajectory(rows, metric, len(sets) > 1)
    return _facets(panel.properties(width=_WIDTH, height=_HEIGHT), rows, description, *choices)


def _trajectory(rows: pd.DataFrame, metric: str, choose: bool) -> alt.LayerChart:
    """Return one panel of `probe_trajectories`; the axis stays as it is when a control is taken away."""
    edges = rows[["low", "high", *_CONTROLS, *(["paper"] if "paper" in rows else [])]]
    scale = alt.Scale(domain=[round(float(edges.min().min()), 2), round(float(edges.max().max()), 2)], zero=False)
    y, low = (alt.Y(f"{column}:Q", scale=scale, title=_TITLES[metric]) for column in ("value", "low"))
    x, dash, colour = _step(rows), _dash(("probe", *_CONTROLS)), _colour()
    shown = "datum.layer == layer" + (" && datum.concept_set == statements" if choose else "")
    base = alt.Chart(rows).transform_filter(shown)
    probe = base.transform_calculate(method="'probe'").encode(x=x)
    switched = ", ".join(f"'{name}': {name.replace(' ', '_')}" for name in _CONTROLS)
    controls = base.transform_fold(list(_CONTROLS), as_=["method", "value"]).transform_filter(f"{{{switched}}}[datum.method]")
    layers = [
        probe.mark_area(opacity=0.2).encode(y=low, y2="high:Q", color=colour),
        controls.mark_line(color=_CONTROL, strokeWidth=1.5, aria=False).encode(x=x, y=y, strokeDash=dash),
        *_level(base.transform_filter("datum.step == 0 && untrained").encode(y=y), "untrained"),
        probe.mark_line(strokeWidth=2).encode(y=y, color=colour, strokeDash=dash),
        probe.mark_point(filled=True, size=35, opacity=1).encode(y=y, color=colour, tooltip=_tooltip("revision", "layer")),
    ]
    if "paper" in rows:
        theirs = base.transform_filter("datum.step == 0 && isValid(datum.paper) && the_paper")
        layers += _level(theirs.encode(y=alt.Y("paper:Q", scale=scale, title=_TITLES[metric])), "the paper")
    return alt.layer(*layers)


def _level(base: alt.Chart, name: str) -> list[alt.Chart]:
    """Return a thin level line with its name on it; where it is switched off, an empty mark must not ask for an alt text."""
    text = base.mark_text(
        align="right", baseline="bottom", dx=-3, dy=-2, fontSize=9, fontStyle="italic", color=_CONTROL, aria=False
    )
    return [base.mark_rule(color=_CONTROL, strokeWidth=0.8, aria=False), text.encode(x=alt.value("width"), text=alt.value(name))]


def layer_map(table: pd.DataFrame, title: str, description: str) -> alt.ConcatChart:
    """Chart a quantity as a map of layers over steps, with its cross-sections through the cell that the reader picks.

    Args:
        table: columns `step`, `revision`, `layer`, `dimension`, `concept_set`, `value`, `low`, `high`.
        title: what `value` is; it is white at 0.
        description: the alt text.
    """
    table = table[_KEEP].astype({"layer": int}).sort_values(["step", "layer"], kind="stable")
    steps = sorted(_options(table, "step"))
    shown, choices = _chosen(table)
    reach = float(table["value"].abs().max())
    base = alt.Chart(table).transform_filter(shown)
    axis = alt.Axis(labelOverlap="greedy", labelSeparation=4, labelAngle=0, title="training step")
    columns = alt.X("step:O", axis=axis)
    rows = alt.Y("layer:O", sort="descending")
    colour = alt.Color(
        "value:Q",
        scale=alt.Scale(scheme="purplegreen", domain=[-reach, reach]),
        legend=alt.Legend(title=title, orient="top", gradientLength=200, direction="horizontal"),
    )
    cells = base.mark_rect(cursor="pointer").encode(color=colour, tooltip=_tooltip("revision", "layer", form="+.3f"))
    picked = base.transform_filter("datum.layer == layer && datum.step == step")
    outline = picked.mark_rect(filled=False, stroke=_CONTROL, strokeWidth=3)
    area = alt.layer(cells, outline).encode(x=columns, y=rows)
    at_step, of_layer = base.transform_filter("datum.step == step"), base.transform_filter("datum.layer == layer")
    column = _section(base, at_step.encode(y=rows.title(None)), "x", title, "layer").properties(title=_title("'at step ' + step"))
    row = _section(base, of_layer.encode(x=columns), "y", title, "step").properties(title=_title("'of layer ' + layer"))
    parts = (
        area.properties(width=400, height=150),
        column.properties(width=110, height=150),
        row.properties(width=400, height=120),
    )
    chart = alt.concat(*parts, columns=2, spacing=10).add_params(*_slider(steps, len(steps) - 1), *choices)
    meta = {"ticks": {"at": steps}, "pick": {"at": "step", "layer": "layer"}}
    return chart.properties(description=description, usermeta=meta)


def _section(whole: alt.Chart, part: alt.Chart, axis: str, title: str, along: str) -> alt.LayerChart:
    """Return a cross-section of a map: intervals and values, the picked one large, and a line at 0.

    The axis is that of the whole map, so that it stays as it is from one section to the next.
    """
    make = {"x": alt.X, "y": alt.Y}[axis]
    ends = {axis: make("low:Q", title=title, axis=alt.Axis(tickCount=4)), f"{axis}2": "high:Q"}
    nothing = alt.Chart(pd.DataFrame({"zero": [0]})).mark_rule(color=_CONTROL, strokeDash=[2, 2])
    size = alt.condition(f"datum.{along} == {along}", alt.value(110), alt.value(30))
    return alt.layer(
        whole.mark_rule(strokeWidth=0).encode(**ends),
        nothing.encode(**{axis: make("zero:Q", title=title)}),
        part.mark_rule(strokeWidth=4, opacity=0.3).encode(color=_colour(), **ends),
        part.mark_point(filled=True, opacity=1, cursor="pointer").encode(
            color=_colour(), size=size, tooltip=_tooltip("revision", "layer", form="+.3f"), **{axis: make("value:Q", title=title)}
        ),
    )


def compare_checkpoints(table: pd.DataFrame, title: str, description: str) -> alt.ConcatChart:
    """Chart a quantity over the layers at two checkpoints that the reader picks, and beside it their difference.

    The interval of the difference joins those of both as if they were independent (Zou and Donner's MOVER). On the same
    statements they mostly are not, and the paired interval is then narrower.

    Args:
        table: columns `step`, `revision`, `layer`, `dimension`, `concept_set`, `value`, `low`, `high`.
        title: what `value` is.
        description: the alt text.
    """
    table = table[_KEEP].astype({"layer": int}).sort_values(["step", "layer"], kind="stable")
    steps = sorted(_options(table, "step"))
    shown, choices = _chosen(table, layer=False)
    pair = [_choice("from step", steps, steps[0]), _choice("to step", steps, steps[-1])]
    base = alt.Chart(table).transform_filter(shown)
    x = alt.X("layer:O", axis=alt.Axis(labelAngle=0, labelOverlap="greedy"))
    y, low = (alt.Y(f"{column}:Q", title=title, scale=alt.Scale(zero=False)) for column in ("value", "low"))
    dash = {"from_step": [4, 3], "to_step": [1, 0]}
    sides = []
    for name, strokes in dash.items():
        side = base.transform_filter(f"datum.step == {name}").encode(x=x, color=_colour())
        sides += [
            side.mark_area(opacity=0.15).encode(y=low, y2="high:Q"),
            side.mark_line(strokeWidth=2, strokeDash=strokes).encode(y=y),
            side.mark_point(size=45, filled=name == "to_step", opacity=1).encode(y=y, tooltip=_tooltip("revision", "layer")),
        ]
    two = alt.layer(*sides).properties(width=250, height=220, title=_title("'step ' + to_step + ', dashed: step ' + from_step"))
    difference = _difference(base, x, "difference").properties(
        width=250, height=220, title=_title("'step ' + to_step + ' minus step ' + from_step")
    )
    chart = alt.concat(two, difference, columns=2, spacing=25).add_params(*pair, *choices)
    return chart.properties(description=description)


def _difference(base: alt.Chart, x: alt.X, title: str) -> alt.LayerChart:
    """Return the difference at each layer, with its interval."""
    columns = ("value", "low", "high")
    parts = {
        f"{name}_{column}": f"datum.step == {name} ? datum.{column} : null"
        for name in ("from_step", "to_step")
        for column in columns
    }
    joined = base.transform_filter("datum.step == from_step || datum.step == to_step").transform_calculate(**parts)
    joined = joined.transform_aggregate(**{name: f"max({name})" for name in parts}, groupby=["layer", "dimension"])
    reach = {
        "low": "- sqrt(pow(datum.to_step_value - datum.to_step_low, 2) + pow(datum.from_step_high - datum.from_step_value, 2))",
        "high": "+ sqrt(pow(datum.to_step_high - datum.to_step_value, 2) + pow(datum.from_step_value - datum.from_step_low, 2))",
    }
    joined = joined.transform_calculate(value="datum.to_step_value - datum.from_step_value")
    joined = joined.transform_calculate(**{end: f"datum.value {width}" for end, width in reach.items()})
    nothing = alt.Chart(pd.DataFrame({"zero": [0]})).mark_rule(color=_CONTROL, strokeDash=[2, 2]).encode(y="zero:Q")
    joined = joined.encode(x=x, color=_colour())
    return alt.layer(
        nothing,
        joined.mark_rule(strokeWidth=4, opacity=0.35).encode(y=alt.Y("low:Q", title=title), y2="high:Q"),
        joined.mark_point(filled=True, size=60, opacity=1).encode(
            y=alt.Y("value:Q", title=title), tooltip=_tooltip("layer", form="+.3f")
        ),
    )


def information_plane(table: pd.DataFrame, description: str) -> alt.LayerChart:
    """Chart nHSIC(T;Y) against nHSIC(T;X), one point a layer, with the trace that each has left up to the step on show.

    Args:
        table: columns `step`, `revision`, `layer`, `dimension`, `concept_set`, `nhsic_tx`, `nhsic_ty`.
        description: the alt text.
    """
    table = table[["step", "revision", "layer", "dimension", "concept_set", "nhsic_tx", "nhsic_ty"]]
    table = table.astype({"layer": int}).sort_values(["step", "layer"], kind="stable")
    steps = sorted(_options(table, "step"))
    shown, choices = _chosen(table, layer=False)
    x, y = (alt.X("nhsic_tx:Q", title=_TITLES["nhsic_tx"]), alt.Y("nhsic_ty:Q", title=_TITLES["nhsic_ty"]))
    x, y = (axis.scale(zero=False, padding=12) for axis in (x, y))
    legend = alt.Legend(orient="bottom", title="layer", symbolOpacity=1)
    layer = alt.Color("layer:O", scale=alt.Scale(scheme="viridis"), legend=legend)
    base = alt.Chart(table).transform_filter(shown).encode(x=x, y=y)
    now, so_far = base.transform_filter("datum.step == step"), base.transform_filter("datum.step <= step")
    tooltip = ["revision", "layer", alt.Tooltip("nhsic_tx:Q", format=".3f"), alt.Tooltip("nhsic_ty:Q", format=".4f")]
    trace = so_far.encode(color=layer, order="step:Q")
    chart = alt.layer(
        base.mark_point(size=0),  # so that the axes are those of the whole training
        trace.mark_line(strokeWidth=1.5, opacity=0.45),
        trace.mark_point(filled=True, size=18, opacity=0.6, cursor="pointer").encode(tooltip=tooltip),
        now.mark_line(color=_CONTROL, strokeDash=[4, 3], strokeWidth=1.2).encode(order="layer:Q"),
        now.mark_point(filled=True, size=140, opacity=1).encode(color=layer, tooltip=tooltip),
        now.mark_text(dx=12, align="left", fontWeight="bold").encode(text="layer:N"),
    )
    chart = chart.properties(width=500, height=320, description=description)
    meta = {"ticks": {"at": steps}, "pick": {"at": "step"}}
    return chart.add_params(*_slider(steps, len(steps) - 1), *choices).properties(usermeta=meta)


def ratios(table: pd.DataFrame, description: str) -> alt.FacetChart:
    """Chart how many times faster one way is than others, with the spread over pairs and the target as a tick, by goal.

    Args:
        table: columns `what`, `against`, `goal`, `ratio`, `low`, `high`, `target` (nan: none) and `reached`.
        description: the alt text.
    """
    table = table[["what", "against", "goal", "ratio", "low", "high", "target", "reached"]]
    table = table.assign(row=table["what"] + " : " + table["against"], goal="goal " + table["goal"].astype(str))
    # Names stand above their marks, inside the panel: beside it they would leave a phone no room for it.
    axis = alt.Axis(
        labelAlign="left",
        labelPadding=-4,
        labelOffset=-11,
        labelLimit=250,
        labelFontSize=9,
        ticks=False,
        domain=False,
        grid=False,
    )
    base = alt.Chart(table).encode(y=alt.Y("row:N", sort=None, title=None, axis=axis, scale=alt.Scale(padding=0.6)))
    decades = alt.Axis(values=[0.1, 1, 10, 100, 1000], format="~g")
    x = alt.X("ratio:Q", scale=alt.Scale(type="log"), title="times faster", axis=decades)
    words = "{yes: 'reached', no: 'missed'}[datum.label] || datum.label"
    legend = alt.Legend(title=None, orient="bottom", symbolOpacity=1, labelExpr=words)
    scale = alt.Scale(domain=["yes", "no", "no target"], range=["#0072B2", "#D55E00", _CONTROL])
    shade = alt.Color("reached:N", scale=scale, legend=legend)
    points = base.mark_point(filled=True, size=60, opacity=1).encode(x=x, color=shade, tooltip=["row", "ratio", "low", "high"])
    spread = base.mark_rule(strokeWidth=3, opacity=0.35).encode(x=alt.X("low:Q"), x2="high:Q", color=shade)
    target = base.mark_tick(color=_CONTROL, thickness=2, size=16).encode(x="target:Q")
    chart = alt.layer(spread, target, points).properties(width=320, height=alt.Step(34))
    rows = alt.Row("goal:N", title=None, header=alt.Header(labelAngle=0, labelAlign="left", labelOrient="top"))
    return chart.facet(row=rows).resolve_scale(y="independent", x="shared").properties(description=description)
