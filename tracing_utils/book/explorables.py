"""Charts to play with: the reader drags along training, picks a layer, or switches a control off.

Rule: like `charts`, these draw the table they get (columns `step`, `revision`, `layer`, `dimension`, `concept_set`, `value`,
`low`, `high`) and save nothing; only the difference of two checkpoints that the reader picks is computed in the page. Only
pages show them: no notebook depends on this file. A chart's `usermeta` says what the page's script adds to Vega's own
controls: `ticks` (a slider over places shows the training step of its place, and can be played), `pick` (a click or a drag
on a mark sets a control from the mark's data), `scenes` (buttons that set several parameters at once) and `link` (a
parameter that holds the address of a checkpoint's page).
"""

import itertools
import math

import altair as alt
import pandas as pd

from . import encodings
from .encodings import (
    GREY,
    LAYERS,
    LINES,
    TITLES,
    colour,
    controls,
    ends,
    fitted,
    legend,
    options,
    panels,
    select,
    shown,
    step_axis,
    tooltip,
)

__all__ = ["training", "probe_trajectories", "layer_map", "compare_checkpoints", "information_plane", "ratios"]

_CONTROLS = {"floor": [1, 4], "lexical floor": [6, 3], "shuffled labels": [4, 1], "control task": [8, 2, 2, 2]}
_DASHES = {"probe": [1, 0]} | _CONTROLS
_KEEP = ["step", "revision", "layer", "dimension", "concept_set", "value", "low", "high"]
_PICKED = shown("dimension", "statements")


def _slider(steps: list[int], *picked: str) -> tuple[list[alt.Parameter], dict]:
    """Return a slider `at` over checkpoints, the parameter `step`, and `usermeta`: a click on a mark sets these and `picked`."""
    last = len(steps) - 1
    bind = alt.binding_range(min=0, max=last, step=1, name="training step")
    parameters = [alt.param(name="at", bind=bind, value=last), alt.param(name="step", expr=f"{steps}[at]")]
    return parameters, {"ticks": {"at": steps}, "pick": {"at": "step"} | {name: name for name in picked}}


def _rows(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Return these columns in the order of steps and layers."""
    return table[columns].astype({"layer": int}).sort_values(["step", "layer"], kind="stable")


def _strips(steps: list[int]) -> pd.DataFrame:
    """Return each step with the borders halfway to its neighbours on the axis of `step_axis`."""
    place = [math.log1p(step / 8) for step in steps]
    halfway = [8 * math.expm1((a + b) / 2) for a, b in itertools.pairwise(place)]
    left, right = [steps[0], *halfway], [*halfway, steps[-1]]
    return pd.DataFrame({"step": steps, "left": left, "right": right}).round(1)


def _title(text: str) -> alt.TitleParams:
    """Return a title that changes with the choices; `text` is a Vega expression."""
    return alt.TitleParams(text=alt.ExprRef(text), anchor="start", fontSize=12)


def _large_where(condition: str, large: int, small: int) -> dict:
    return alt.condition(condition, alt.value(large), alt.value(small))


def _wide(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the logistic probe's rows with the value of each control in a column of its own, which takes less room."""
    rows = table[table["metric"] == metric]
    probe = rows[rows["method"] == "logistic"][[*_KEEP, *(["href"] if "href" in table else [])]].astype({"layer": int})
    for name in _CONTROLS:
        control = rows[rows["method"] == name].rename(columns={"value": name})
        level = control["layer"].isna().all()
        on = ["revision", "dimension", "concept_set", *([] if level else ["layer"])]
        probe = probe.merge(control.dropna(subset=[] if level else ["layer"])[[*on, name]], on=on, how="left")
    return probe.sort_values(["step", "layer"], kind="stable")


def _range(rows: pd.DataFrame, *more: str) -> list[float]:
    """Return an axis that has room for all intervals and controls, so that it stays when the reader chooses."""
    edges = rows[["low", "high", *_CONTROLS, *more]]
    room = 0.02  # a line on the frame would not be seen
    return [round(float(edges.min().min()) - room, 2), round(float(edges.max().max()) + room, 2)]


def _controls_of(base: alt.Chart) -> alt.Chart:
    """Return one row a control from the columns that `_wide` wrote."""
    return base.transform_fold(list(_CONTROLS), as_=["method", "value"])


def training(table: pd.DataFrame, dimension: str, description: str, page: str = "") -> alt.ConcatChart:
    """Chart held-out accuracy over training, up to the step that the reader drags to, and over the layers at that step.

    It opens without controls on the first statements of a dimension, as the paper shows it. Buttons add the controls, and show
    the second statements where there are any. The rows are those of `probing.csv`; `page` is the prefix of the address of a
    featured checkpoint's notebook, for rows whose `featured` is true.
    """
    if page:
        addresses = zip(table["revision"], table["featured"], strict=True)
        table = table.assign(href=[f"{page}{revision}.html" if there else "" for revision, there in addresses])
    rows = _wide(table, "accuracy")
    steps, choices = options(rows, "step"), controls(rows, "dimension", "statements", "layer", middle=True)
    choices = [select("dimension", options(rows, "dimension"), dimension), *choices[1:], alt.param(name="controls", value=False)]
    y = fitted(TITLES["accuracy"], domain=_range(rows))
    # One dimension at a time needs no hue of its own; the figure above has the arms', which two have too.
    hue = alt.value(LINES[0])
    base = alt.Chart(rows).transform_filter(_PICKED).encode(color=hue)
    over, across = _over_training(base, rows, steps, y), _over_layers(base, y)
    over = over.properties(width=400, height=270, title=_title("dimension + ', layer ' + layer + ', through training'"))
    across = across.properties(width=150, height=270, title=_title("'all layers, at step ' + step"))
    slider, meta = _slider(steps, "layer")
    meta["scenes"] = _scenes(options(rows, "concept_set"))
    if page:
        linked = {f"{row.concept_set} {row.step}": row.href for row in rows.itertuples() if row.href}
        choices.append(alt.param(name="notebook", expr=f"{linked}[statements + ' ' + step]"))
        meta["link"] = "notebook"
    chart = alt.concat(over, across, columns=2, spacing=25).resolve_scale(y="shared")
    return chart.add_params(*slider, *choices).properties(description=description, usermeta=meta)


def _scenes(sets: list[str]) -> dict[str, dict]:
    """Return what each button sets, from the names of the sets of statements."""
    scenes = {
        "What the paper shows": {"statements": sets[0], "controls": False},
        "Add the floor": {"statements": sets[0], "controls": True},
    }
    if len(sets) > 1:
        scenes["Balance the words"] = {"statements": sets[1], "controls": True}
    return scenes


def _dash(drawn: str) -> alt.StrokeDash:
    """Return the dashes of probe and controls, with a legend; `drawn` says of a label whether its line is drawn."""
    scale = alt.Scale(domain=list(_DASHES), range=list(_DASHES.values()))
    named = f"datum.label == 'probe' ? 'probe (coloured)' : {drawn} ? datum.label : datum.label + ' (off)'"
    legend = alt.Legend(title=None, orient="bottom", columns=3, symbolStrokeColor=GREY, symbolSize=300, labelExpr=named)
    return alt.StrokeDash("method:N", scale=scale, legend=legend)


def _over_training(base: alt.Chart, rows: pd.DataFrame, steps: list[int], y: alt.Y) -> alt.LayerChart:
    """Return the curve of the chosen layer with its controls, the other layers pale, and a rule at the step on show."""
    x, dash = step_axis(rows), _dash("controls")
    strips = alt.Chart(_strips(steps))
    here = strips.transform_filter("datum.step == step").mark_rule(color=GREY, strokeWidth=1.5).encode(x=x)
    span = {"x": alt.X("left:Q", scale=x["scale"], axis=x["axis"], title="training step"), "x2": "right:Q"}
    probe = base.transform_calculate(method="'probe'").encode(x=x)
    line = probe.transform_filter("datum.layer == layer")
    drawn, pale = (part.transform_filter("datum.step <= step") for part in (line, probe))
    others = _controls_of(base.transform_filter("controls && datum.layer == layer && datum.step <= step"))
    says = tooltip("revision", "layer")
    points = drawn.mark_point(filled=True, opacity=1).encode(y=y, size=_large_where("datum.step == step", 120, 35), tooltip=says)
    if "href" in rows:
        rings = drawn.transform_filter("datum.href != ''").mark_point(size=150, strokeWidth=1.5, opacity=1, aria=False)
        points = alt.layer(points.encode(href="href:N"), rings.encode(y=y, href="href:N", tooltip=says))
    return alt.layer(
        here,
        pale.mark_line(strokeWidth=1, opacity=0.3).encode(y=y, detail="layer:N"),
        others.mark_line(strokeWidth=1.5, aria=False).encode(x=x, y=y, strokeDash=dash, color=alt.value(GREY)),
        drawn.mark_area(opacity=0.2).encode(**ends(y)),
        drawn.mark_line(strokeWidth=2.5).encode(y=y, strokeDash=dash),
        strips.mark_rect(opacity=0, cursor="ew-resize").encode(**span),
        points,
    )


def _over_layers(base: alt.Chart, y: alt.Y) -> alt.LayerChart:
    """Return all layers at the step on show, with the controls of that step."""
    y = y.copy().title(None)
    at = base.transform_filter("datum.step == step")
    at = at.encode(x=alt.X("layer:O", axis=alt.Axis(labelAngle=0, labelOverlap="greedy"), title="layer"))
    points = at.mark_point(filled=True, opacity=1, cursor="pointer")
    return alt.layer(
        _controls_of(at.transform_filter("controls"))
        .mark_line(strokeWidth=1.5, aria=False)
        .encode(y=y, strokeDash=_dash("controls"), color=alt.value(GREY)),
        at.mark_rule(strokeWidth=3, opacity=0.6).encode(**ends(y)),
        points.encode(y=y, size=_large_where("datum.layer == layer", 120, 35), tooltip=tooltip("revision", "layer")),
    )


def probe_trajectories(
    table: pd.DataFrame, metric: str, description: str, paper: pd.DataFrame | None = None, claim: pd.DataFrame | None = None
) -> alt.FacetChart:
    """Chart a probe metric over training steps, one panel a dimension, with controls that can be switched off.

    Args:
        table: rows of `probing.csv`.
        metric: `accuracy`, `auroc` or `log_loss`.
        description: the alt text; states the finding.
        paper: columns `dimension`, `concept_set`, `value`: level lines of the paper's, on the statements it shares.
        claim: rows of one claim of `claims.csv`; the windows of training that its verdicts are about are shaded.
    """
    rows = _wide(table, metric)
    switches = [*_CONTROLS, "untrained"]
    if paper is not None:
        rows = rows.merge(paper.rename(columns={"value": "paper"}), on=["dimension", "concept_set"], how="left")
        switches.append("the paper")
    choices = controls(rows, "layer", "statements", middle=True)
    for name in switches:
        box = alt.binding_checkbox(name=name)
        choices.append(alt.param(name=name.replace(" ", "_"), bind=box, value=name != "untrained"))
    if claim is not None and claim["windows"].notna().any():
        rows = pd.concat([rows, encodings.windows(claim[claim["concept_set"].isin(rows["concept_set"])])])
    return panels(_trajectory(rows, metric), rows, description, choices)


def _trajectory(rows: pd.DataFrame, metric: str) -> alt.LayerChart:
    """Return one panel of `probe_trajectories`."""
    papers = ["paper"] if "paper" in rows else []
    y = fitted(TITLES[metric], domain=_range(rows, *papers))
    base = alt.Chart(rows).transform_filter(shown("layer", "statements"))
    switches = "{" + ", ".join(f"'{name}': {name.replace(' ', '_')}" for name in _CONTROLS) + "}"
    x, dash = step_axis(rows), _dash(f"{switches}[datum.label]")
    probe = base.transform_calculate(method="'probe'").encode(x=x, color=colour())
    others = _controls_of(base).transform_filter(f"{switches}[datum.method]")
    points = probe.mark_point(filled=True, size=35, opacity=1)
    layers = [encodings.shade(alt.Chart(rows).transform_filter(shown("statements")), rows)] if "until" in rows else []
    layers += [
        probe.mark_area(opacity=0.2).encode(**ends(y)),
        others.mark_line(color=GREY, strokeWidth=1.5, aria=False).encode(x=x, y=y, strokeDash=dash),
        *_level(base.transform_filter("datum.step == 0 && untrained").encode(y=y), "untrained"),
        probe.mark_line(strokeWidth=2).encode(y=y, strokeDash=dash),
        points.encode(y=y, tooltip=tooltip("revision", "layer")),
    ]
    if papers:
        theirs = base.transform_filter("datum.step == 0 && isValid(datum.paper) && the_paper")
        theirs = theirs.encode(y=fitted(TITLES[metric], "paper", _range(rows, *papers)))
        layers += _level(theirs, "the paper", below="datum.paper > 0.9")
    return alt.layer(*layers)


def _level(base: alt.Chart, name: str, below: str = "false") -> list[alt.Chart]:
    """Return a thin level line with its name on it, or below it where the Vega expression `below` is true."""
    place = {"baseline": alt.ExprRef(f"{below} ? 'top' : 'bottom'"), "dy": alt.ExprRef(f"{below} ? 4 : -2")}
    text = base.mark_text(align="right", dx=-3, fontSize=12, fontStyle="italic", color=GREY, aria=False, **place)
    # Without `aria=False` an empty mark, where the line is switched off, would ask for an alt text.
    return [base.mark_rule(color=GREY, strokeWidth=0.8, aria=False), text.encode(x=alt.value("width"), text=alt.value(name))]


def layer_map(table: pd.DataFrame, title: str, description: str) -> alt.ConcatChart:
    """Chart a quantity as a map of layers over steps, with its cross-sections through the cell that the reader picks.

    `title` says what `value` is; the map is white at 0.
    """
    table = _rows(table, _KEEP)
    steps, choices = options(table, "step"), controls(table, "dimension", "statements", "layer", middle=True)
    reach = float(table["value"].abs().max())
    base = alt.Chart(table).transform_filter(_PICKED)
    columns = alt.X("step:O", axis=alt.Axis(labelOverlap="greedy", labelSeparation=4, labelAngle=0, title="training step"))
    rows = alt.Y("layer:O", sort="descending")
    scale = alt.Scale(scheme="purplegreen", domain=[-reach, reach])
    gradient = alt.Legend(title=title, orient="top", gradientLength=200, direction="horizontal")
    cells = base.mark_rect(cursor="pointer")
    cells = cells.encode(
        color=alt.Color("value:Q", scale=scale, legend=gradient), tooltip=tooltip("revision", "layer", form="+.3f")
    )
    picked = base.transform_filter("datum.layer == layer && datum.step == step")
    area = alt.layer(cells, picked.mark_rect(filled=False, stroke=GREY, strokeWidth=3)).encode(x=columns, y=rows)
    at_step, of_layer = base.transform_filter("datum.step == step"), base.transform_filter("datum.layer == layer")
    column = _section(base, at_step.encode(y=rows.title(None)), "x", title, "layer").properties(title=_title("'at step ' + step"))
    row = _section(base, of_layer.encode(x=columns), "y", title, "step").properties(title=_title("'of layer ' + layer"))
    sizes = ((area, 370, 150), (column, 140, 150), (row, 370, 120))
    parts = (part.properties(width=width, height=height) for part, width, height in sizes)
    slider, meta = _slider(steps, "layer")
    chart = alt.concat(*parts, columns=2, spacing=10).add_params(*slider, *choices)
    return chart.properties(description=description, usermeta=meta)


def _zero(axis: str, title: str) -> alt.Chart:
    """Return a dashed line at 0 of an axis."""
    channel = {"x": alt.X, "y": alt.Y}[axis]("zero:Q", title=title)
    return alt.Chart(pd.DataFrame({"zero": [0]})).mark_rule(color=GREY, strokeDash=[2, 2]).encode(**{axis: channel})


def _section(whole: alt.Chart, part: alt.Chart, axis: str, title: str, along: str) -> alt.LayerChart:
    """Return a cross-section of a map, on the axis of the whole: intervals and values, the picked one large, a line at 0."""
    make = {"x": alt.X, "y": alt.Y}[axis]
    ends = {axis: make("low:Q", title=title, axis=alt.Axis(tickCount=4)), f"{axis}2": "high:Q"}
    points = part.mark_point(filled=True, opacity=1, cursor="pointer")
    size, value = _large_where(f"datum.{along} == {along}", 110, 30), {axis: make("value:Q", title=title)}
    return alt.layer(
        whole.mark_rule(strokeWidth=0).encode(**ends),
        _zero(axis, title),
        part.mark_rule(strokeWidth=4, opacity=0.6).encode(color=colour(), **ends),
        points.encode(color=colour(), size=size, tooltip=tooltip("revision", "layer", form="+.3f"), **value),
    )


def compare_checkpoints(table: pd.DataFrame, title: str, description: str) -> alt.ConcatChart:
    """Chart a quantity over the layers at two checkpoints that the reader picks, and their difference.

    The interval of the difference joins those of both as if they were independent (Zou and Donner's MOVER). On the same
    statements they mostly are not. `title` says what `value` is.
    """
    table = _rows(table, _KEEP)
    steps = options(table, "step")
    pair = [select("from step", steps, steps[0]), select("to step", steps, steps[-1])]
    x, y = alt.X("layer:O", axis=alt.Axis(labelAngle=0, labelOverlap="greedy")), fitted(title)
    base = alt.Chart(table).transform_filter(_PICKED).encode(x=x, color=colour())
    sides = []
    for name, strokes in {"from_step": [4, 3], "to_step": [1, 0]}.items():
        side = base.transform_filter(f"datum.step == {name}")
        points = side.mark_point(size=45, filled=name == "to_step", opacity=1)
        sides += [
            side.mark_area(opacity=0.15).encode(**ends(y)),
            side.mark_line(strokeWidth=2, strokeDash=strokes).encode(y=y),
            points.encode(y=y, tooltip=tooltip("revision", "layer")),
        ]
    both = alt.layer(*sides).properties(title=_title("'step ' + to_step + ', dashed: step ' + from_step"))
    difference = _difference(base).properties(title=_title("'step ' + to_step + ' minus step ' + from_step"))
    parts = [part.properties(width=250, height=220) for part in (both, difference)]
    chart = alt.concat(*parts, columns=2, spacing=25).add_params(*pair, *controls(table, "dimension", "statements"))
    return chart.properties(description=description)


def _difference(base: alt.Chart) -> alt.LayerChart:
    """Return the difference at each layer, with its interval."""
    ends_of = itertools.product(("from_step", "to_step"), ("value", "low", "high"))
    parts = {f"{name}_{column}": f"datum.step == {name} ? datum.{column} : null" for name, column in ends_of}
    joined = base.transform_filter("datum.step == from_step || datum.step == to_step").transform_calculate(**parts)
    joined = joined.transform_aggregate(**{name: f"max({name})" for name in parts}, groupby=["layer", "dimension"])
    reach = {
        "low": "- sqrt(pow(datum.to_step_value - datum.to_step_low, 2) + pow(datum.from_step_high - datum.from_step_value, 2))",
        "high": "+ sqrt(pow(datum.to_step_high - datum.to_step_value, 2) + pow(datum.from_step_value - datum.from_step_low, 2))",
    }
    joined = joined.transform_calculate(value="datum.to_step_value - datum.from_step_value")
    joined = joined.transform_calculate(**{end: f"datum.value {width}" for end, width in reach.items()})
    y = alt.Y("value:Q", title="difference")
    points = joined.mark_point(filled=True, size=60, opacity=1).encode(y=y, tooltip=tooltip("layer", form="+.3f"))
    return alt.layer(_zero("y", "difference"), joined.mark_rule(strokeWidth=4, opacity=0.6).encode(**ends(y)), points)


def information_plane(table: pd.DataFrame, description: str) -> alt.LayerChart:
    """Chart column `nhsic_ty` against `nhsic_tx`, one point a layer, with the trace of each layer up to the step on show."""
    table = _rows(table, ["step", "revision", "layer", "dimension", "concept_set", "nhsic_tx", "nhsic_ty"])
    steps = options(table, "step")
    scale = alt.Scale(zero=False, padding=12)
    x, y = (channel(f"{name}:Q", title=TITLES[name], scale=scale) for channel, name in ((alt.X, "nhsic_tx"), (alt.Y, "nhsic_ty")))
    layer = alt.Color("layer:O", scale=LAYERS, legend=legend("layer"))
    base = alt.Chart(table).transform_filter(_PICKED).encode(x=x, y=y)
    now, so_far = base.transform_filter("datum.step == step"), base.transform_filter("datum.step <= step")
    says = ["revision", "layer", alt.Tooltip("nhsic_tx:Q", format=".3f"), alt.Tooltip("nhsic_ty:Q", format=".4f")]
    trace = so_far.encode(color=layer, order="step:Q")
    chart = alt.layer(
        base.mark_point(size=0),  # so that the axes are those of the whole training
        trace.mark_line(strokeWidth=1.5, opacity=0.45),
        trace.mark_point(filled=True, size=18, opacity=0.6, cursor="pointer").encode(tooltip=says),
        now.mark_line(color=GREY, strokeDash=[4, 3], strokeWidth=1.2).encode(order="layer:Q"),
        now.mark_point(filled=True, size=140, opacity=1).encode(color=layer, tooltip=says),
        now.mark_text(dx=12, align="left", fontWeight="bold").encode(text="layer:N"),
    )
    slider, meta = _slider(steps)
    chart = chart.properties(width=500, height=320, description=description, usermeta=meta)
    return chart.add_params(*slider, *controls(table, "dimension", "statements"))


def ratios(table: pd.DataFrame, description: str) -> alt.FacetChart:
    """Chart how many times faster one way is than others, with the spread over pairs, and a tick at the target, by goal.

    Columns: `what`, `against`, `goal`, `ratio`, `low`, `high`, `target` (nan: none) and `reached`.
    """
    table = table[["what", "against", "goal", "ratio", "low", "high", "target", "reached"]]
    table = table.assign(row=table["what"] + " : " + table["against"], goal=table["goal"].astype(str))
    # Names are above their marks, inside the panel: on a phone there is no room for them next to it.
    label = {"labelAlign": "left", "labelPadding": -4, "labelOffset": -12, "labelLimit": 420, "labelFontSize": 11}
    axis = alt.Axis(ticks=False, domain=False, grid=False, **label)
    base = alt.Chart(table).encode(y=alt.Y("row:N", sort=None, title=None, axis=axis, scale=alt.Scale(padding=0.6)))
    decades = alt.Axis(values=[0.1, 1, 10, 100, 1000], format="~g")
    x = alt.X("ratio:Q", scale=alt.Scale(type="log"), title="times faster", axis=decades)
    words = "{yes: 'reached', no: 'missed'}[datum.label] || datum.label"
    scale = alt.Scale(domain=["yes", "no", "no target"], range=["#0072B2", "#D55E00", GREY])
    shade = alt.Color("reached:N", scale=scale, legend=legend(labelExpr=words))
    points = base.mark_point(filled=True, size=60, opacity=1).encode(x=x, color=shade, tooltip=["row", "ratio", "low", "high"])
    spread = base.mark_rule(strokeWidth=3, opacity=0.6).encode(x=alt.X("low:Q"), x2="high:Q", color=shade)
    target = base.mark_tick(color=GREY, thickness=2, size=16, aria=False).encode(x="target:Q")
    chart = alt.layer(spread, target, points).properties(width=430, height=alt.Step(38))
    header = alt.Header(labelAngle=0, labelAnchor="start", labelOrient="top", labelFontSize=12, labelFontWeight="bold")
    chart = chart.facet(row=alt.Row("goal:N", title=None, header=header)).resolve_axis(x="independent")
    return chart.resolve_scale(y="independent", x="shared").properties(description=description)
