"""What charts share: colours, titles, axes, controls and panels."""

import altair as alt
import pandas as pd

__all__ = [
    "ARMS", "COLOURS", "GREY", "LAYERS", "LINES", "NARROW", "TITLES", "step_axis", "colour", "legend", "fitted", "ends",
    "tooltip", "SETS", "select", "options", "column_of", "controls", "shown", "windows", "shade", "banded", "panels",
]  # fmt: skip

COLOURS = {
    "reliability": "#0072B2",
    "privacy": "#E69F00",
    "toxicity": "#D55E00",
    "fairness": "#009E73",
    "robustness": "#CC79A7",
}
"""One colour a dimension, the same everywhere (Okabe and Ito's palette, safe for colour-blind readers)."""

GREY = "#888888"
"""The colour of controls and of the paper's lines."""

ARMS = {"coherent": "#0072B2", "scrambled": "#D55E00"}
"""One colour an arm of the designed world; where arms are compared, dashes tell the measures."""

LINES = ["#9467C9", "#1C9099", "#A6761D", "#C2407E"]
"""Colours of measures, protocols and rungs: none of a dimension or an arm, three to one at least on white and in the dark."""

LAYERS = alt.Scale(scheme=alt.SchemeParams(name="viridis", extent=[0.3, 0.75]))
"""Colours of lines that are layers: neither so dark nor so pale that one theme swallows them."""

NARROW = 140
"""How wide panels are that have a vertical axis each."""

TITLES = {
    "accuracy": "held-out accuracy",
    "auroc": "area under the ROC curve",
    "log_loss": "held-out log-loss (bits)",
    "direction_cosine": "cosine of directions",
    "transfer_accuracy": "accuracy of another's direction",
    "nhsic_tx": "nHSIC(T;X)",
    "nhsic_ty": "nHSIC(T;Y)",
    "cka": "debiased CKA to word n-grams",
    "cka_x": "debiased CKA to block 0",
    "effective_rank": "effective rank",
    "usable_information": "usable information (bits)",
    "kappa": "kappa",
    "rankme": "RankMe",
    "margin_right": "pairs with a margin above 0",
}
"""What an axis calls each metric."""

SETS = {"tracingllm": "the paper's", "pocket": "hand-written", "corrected": "corrected originals", "world": "the world's"}
"""What a control and a column call a set of statements."""

_TICKS = [0, 8, 32, 128, 512, 2048, 8192, 32768, 131072, 524288]
_LABELS = {"revision": "checkpoint", "low": "interval from", "high": "interval to"}  # columns whose names say too little
_COLUMNS = {"statements": "concept_set", "source": "revision", "checkpoint": "revision"}  # of controls with another name
_LAST = {"layer", "source", "checkpoint", "dose"}  # controls that begin with their last option


def step_axis(table: pd.DataFrame, column: str = "step", title: str = "training step", last: str = "step") -> alt.X:
    """Return the axis of training steps: linear up to the first step after 0, then logarithmic, so that step 0 has a place.

    It draws `column` and ends at the largest value of the column `last`. Steps of a run that begins late begin there.
    """
    steps = table[last].astype(float)
    end, least = int(steps.max()), max(8, int(steps[steps > 0].min())) if (steps > 0).any() else 8
    begin = 0 if last != "step" or steps.min() <= 0 or least == 8 else least
    ticks = [tick for tick in _TICKS if begin <= tick <= end and (tick == 0 or tick >= least)]
    some = {"values": ticks} if len(ticks) > 2 else {"tickCount": 4}
    axis = alt.Axis(**some, format="d", labelOverlap="greedy", labelSeparation=4, grid=False, title=title)
    return alt.X(f"{column}:Q", scale=alt.Scale(type="symlog", constant=least, domain=[begin, end], nice=False), axis=axis)


def colour(legend: alt.Legend | None = None) -> alt.Color:
    """Return the colour of a dimension."""
    return alt.Color("dimension:N", scale=alt.Scale(domain=list(COLOURS), range=list(COLOURS.values())), legend=legend)


def legend(title: str | None = None, **more: object) -> alt.Legend:
    """Return a legend below the panels, its symbols as strong as its lines."""
    return alt.Legend(title=title, orient="bottom", symbolOpacity=1, **more)


def fitted(title: str, column: str = "value", domain: list[float] | None = None) -> alt.Y:
    """Return an axis that need not begin at 0, over all values or over `domain`."""
    scale = alt.Scale(zero=False) if domain is None else alt.Scale(domain=domain, zero=False)
    return alt.Y(f"{column}:Q", title=title, scale=scale)


def ends(y: alt.Y) -> dict:
    """Return the two ends of the interval around the values of `y`, on the same axis."""
    low = y.copy()
    low["shorthand"] = "low:Q"
    return {"y": low, "y2": "high:Q"}


def tooltip(*names: str, form: str = ".3f", more: tuple[str, ...] = ()) -> list[alt.Tooltip]:
    """Return the tooltip of a mark: the columns `names`, its value with the interval in the format `form`, and `more`."""
    fields = [*names, "value:Q", "low:Q", "high:Q", *more]
    formats = {"value:Q": {"format": form}, "low:Q": {"format": form}, "high:Q": {"format": form}}
    titles = [_LABELS.get(field.partition(":")[0], field.partition(":")[0]) for field in fields]
    return [alt.Tooltip(field, title=title, **formats.get(field, {})) for field, title in zip(fields, titles, strict=True)]


def banded(base: alt.Chart, y: alt.Y, says: list[alt.Tooltip], size: int = 22) -> list[alt.Chart]:
    """Return values as a line with points, which tell `says`, in a band of their intervals."""
    band, line = base.mark_area(opacity=0.15).encode(**ends(y)), base.mark_line().encode(y=y)
    return [band, line, base.mark_point(filled=True, size=size).encode(y=y, tooltip=says)]


def select(name: str, options: list, value: object) -> alt.Parameter:
    """Return a list to choose from; where there is a single option, its value without a list."""
    labels = [SETS.get(option, str(option)) for option in options]
    bind = {"bind": alt.binding_select(options=options, labels=labels, name=name)} if len(options) > 1 else {}
    return alt.param(name=name.replace(" ", "_"), value=value, **bind)


def options(table: pd.DataFrame, column: str) -> list:
    """Return the values of a column: numbers sorted, dimensions in the order of the palette, others as they come.

    Checkpoints stand in the order of training, the tuned ones last: a study may have some that the one before has not.
    """
    if column == "revision" and "step" in table:
        table = table.sort_values("step", key=lambda step: step.where(step >= 0), kind="stable")
    values = [value.item() if hasattr(value, "item") else value for value in dict.fromkeys(table[column].dropna())]
    if column == "dimension":
        return [dimension for dimension in COLOURS if dimension in values] or values
    return values if any(isinstance(value, str) for value in values) else sorted(values)


def column_of(control: str) -> str:
    """Return the column that a control chooses from."""
    return _COLUMNS.get(control, control)


def controls(table: pd.DataFrame, *names: str, middle: bool = False) -> list[alt.Parameter]:
    """Return a list to choose from for each control; that of layers begins with the last, or with the middle one."""
    lists = []
    for name in names:
        values = options(table, column_of(name))
        first = len(values) // 2 if middle and name == "layer" else -1 if name in _LAST else 0
        lists.append(select(name, values, values[first]))
    return lists


def shown(*names: str) -> str:
    """Return the filter of the rows that the controls of these names choose, as a Vega expression."""
    return " && ".join(f"datum.{column_of(name)} == {name}" for name in names)


def windows(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Return the windows of training that verdicts on one claim are about, one row each, to stand among the rows of a chart.

    Returns:
        Columns `dimension`, `concept_set`, `method` ("window"), `step` and `until` (its ends), `phase` (which of them, from 0)
        and `verdict`.
    """
    rows = verdicts[["dimension", "concept_set", "verdict", "windows"]].dropna(subset="windows").reset_index(drop=True)
    rows = rows.assign(window=rows.pop("windows").str.split(";")).explode("window")
    between = rows.pop("window").str.extract(r"^(\d+)-(\d+)$").astype(float)
    return rows.assign(method="window", step=between[0], until=between[1], phase=rows.groupby(level=0).cumcount())


def shade(base: alt.Chart, table: pd.DataFrame) -> alt.Chart:
    """Return the `windows` among the rows of a chart as shaded stretches of training, every other one paler."""
    rows = base.transform_filter("isValid(datum.until)")
    opacity = alt.condition("datum.phase % 2 == 0", alt.value(0.14), alt.value(0.05))
    titles = {"verdict": "verdict", "step": "from step", "until": "to step"}
    says = [alt.Tooltip(name, title=title) for name, title in titles.items()]
    return rows.mark_rect(color=GREY, aria=False).encode(x=step_axis(table), x2="until:Q", opacity=opacity, tooltip=says)


def panels(
    chart: alt.Chart | alt.LayerChart,
    table: pd.DataFrame,
    description: str,
    choices: list[alt.Parameter],
    width: int = 165,
    height: int = 130,
) -> alt.FacetChart:
    """Return one panel a dimension, in the order of the palette, with the controls of all panels."""
    order = options(table, "dimension")
    header = alt.Header(labelFontWeight="bold", labelFontSize=13)
    facet = alt.Facet("dimension:N", sort=order, title=None, header=header)
    chart = chart.properties(width=width, height=height).facet(facet, columns=min(3, len(order)))
    return chart.resolve_axis(x="independent").add_params(*choices).properties(description=description)
