"""What in the data makes it: which runs share a direction, and what is forgotten once it is told no more."""

from .. import Experiment

__all__ = ["EXPERIMENT", "relation"]


def relation(text: str) -> tuple[str, str]:
    """Return what a model is to the traced one, and its place, from `what=suite` or `what=suite@revision`.

    Raises:
        ValueError: if the text is not of that form.
    """
    kind, _, place = (part.strip() for part in text.partition("="))
    if not (kind and place.partition("@")[0].strip()):
        raise ValueError(f"relatives must each be written `what=suite` or `what=suite@revision`; {text!r} is not.")
    return kind, place


def _check(options: dict, _: int | None) -> None:
    kinds = ["same run", *(relation(text)[0] for text in options["relatives"])]
    if twice := next((kind for kind in kinds if kinds.count(kind) > 1), None):
        raise ValueError(f"Each of the relatives must be another one; {twice!r} stands for two models. Name one otherwise.")


EXPERIMENT = Experiment(pace=4e-6, last=True, inputs=("relatives",), check=_check)
