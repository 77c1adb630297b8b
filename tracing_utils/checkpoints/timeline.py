"""When in training each revision was saved, as the names of all of them tell together.

Rule: no two checkpoints lie at one time. A stage that counts anew is counted on; of alternatives one is kept.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from itertools import pairwise

from .types import alternative, counts_tokens, parse_revision, tokens_seen

__all__ = ["told", "until_ten"]

_EPOCH = re.compile(r"epoch[-_=]?(\d+)", re.IGNORECASE)
_Times = dict[str, tuple[int, int | None]]


def told(names: Collection[str], entry: dict) -> tuple[_Times, list[str]]:
    """Return step and tokens seen of each revision, in the order of training, and notes on what the names leave to decide.

    A second stage follows the last checkpoint of the first: where its steps or tokens begin anew, those of that checkpoint are
    added. Of runs that part within a stage (OLMo's ingredients, seeds) the first is kept. Tokens that become fewer within a
    stage are told and not used. `entry` is the suite's of `suites.yml`, or empty.

    Raises:
        ValueError: if two names of one stage tell the same step, steps begin anew with an epoch, or some names tell steps and
            others tokens alone.
    """
    stages = defaultdict(lambda: defaultdict(dict))
    for name in sorted(names):
        stage, step, tokens = parse_revision(name)
        at = stages[stage][alternative(name)]
        if step in at:
            raise ValueError(
                f"Each step must be one checkpoint; {at[step][0]} and {name} both say step {step}. Rename or remove one, or list "
                "the folder of each step under `steps:` in the study."
            )
        at[step] = name, tokens
    _check_epochs(names)
    _check_units(names)
    times, notes, parts = {}, [], []
    for stage in sorted(stages):
        first, *others = sorted(stages[stage], key=lambda branch: (len(branch), branch))
        for other in others:
            named = [name for name, _ in stages[stage][other].values()]
            notes.append(f"left out (an alternative to {first or f'stage {stage}'}): {until_ten(named)}")
        parts.append(stages[stage][first])
    if back := next(filter(None, map(_going_back, parts)), None):
        notes.append(f"tokens in the names are not used, since {back[1]} tells fewer than {back[0]} before it")
        parts = [{step: (name, None) for step, (name, _) in stage.items()} for stage in parts]
    for stage in parts:
        notes += _count_on(times, stage, entry)
    return times, notes


def _going_back(stage: dict[int, tuple[str, int | None]]) -> tuple[str, str] | None:
    """Return the names of the first two checkpoints of a stage, name and tokens by step, of which the later has fewer tokens."""
    counted = [stage[step] for step in sorted(stage) if stage[step][1] is not None]
    return next(((one, two) for (one, before), (two, after) in pairwise(counted) if after < before), None)


def _count_on(times: _Times, stage: dict[int, tuple[str, int | None]], entry: dict) -> list[str]:
    """Put a stage, name and tokens by step, behind what is in `times`; return notes on how a later stage was put there."""
    last, (steps, tokens) = next(reversed(times.items()), ("", (-1, None)))
    first = min(stage)
    begun = stage[first][1]
    anew = bool(times) and (first <= steps or (begun is not None and tokens is not None and begun < tokens))
    left = [stage.pop(0)[0]] if anew and first == 0 and len(stage) > 1 else []  # the end of the stage before
    for step in sorted(stage):
        name, own = stage[step]
        if anew:
            own = None if own is None or tokens is None else tokens + own
        whole = steps + step if anew else step
        times[name] = whole, tokens_seen(entry, whole, own)
    begins = left[0] if left else stage[first][0]
    notes = [f"left out (the end of the stage before): {left[0]}"] if left else []
    how = f"steps counted on from {last}, since {begins} begins to count anew"
    return [*notes, how if anew else f"{begins} follows {last}: another stage, whose steps go on"] if last else []


def _check_epochs(names: Iterable[str]) -> None:
    """Refuse names whose steps begin anew in a later epoch."""
    counted = sorted((int(match[1]), parse_revision(name)[1], name) for name in names if (match := _EPOCH.search(name)))
    last = (-1, -1, "")
    for epoch, step, name in counted:
        if epoch > last[0] and step <= last[1]:
            raise ValueError(
                f"Steps must count on from epoch to epoch; {name} says step {step} after {last[2]}. List the folder of each step "
                "under `steps:` in the study."
            )
        last = (epoch, step, name)


def _check_units(names: Iterable[str]) -> None:
    """Refuse names of which some tell steps and others tokens alone, so that nobody knows which came first."""
    units = {counts_tokens(name): name for name in sorted(names, reverse=True)}
    if len(units) > 1:
        raise ValueError(
            f"The checkpoints of a run must be counted alike; {units[True]} tells tokens and {units[False]} steps. Rename "
            "one kind, or list the folder of each step under `steps:` in the study."
        )


def until_ten(names: Iterable[str]) -> str:
    """Return names with commas between them; after ten, how many more there are."""
    names = list(names)
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
