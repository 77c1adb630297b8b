"""Values that people write into YAML files, checked by pydantic models; the first mistake becomes one sentence.

Rule: the description of a field completes the sentence "<key> must be ...".
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from .errors import brief, unknown

__all__ = ["Count", "Counts", "Dtype", "Names", "Number", "Numbers", "Steps", "Switch", "Text", "Validated", "validate"]

_MOST = 10**9


class Validated(BaseModel):
    """A model that cannot be changed and has no other fields than its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError(f"must be text, not {brief(text)}.")
    return text


def _each_once(values: tuple) -> tuple:
    if repeated := [value for value in values if values.count(value) > 1]:
        raise ValueError(f"must name each once; {brief(repeated[0])} stands twice.")
    return values


_Whole = Annotated[int, Field(strict=True, ge=0, le=_MOST)]
_Finite = Annotated[float, Field(strict=True, ge=-_MOST, le=_MOST, allow_inf_nan=False)]
_Name = Annotated[str, Field(strict=True, pattern=r"\S")]

Text = Annotated[str, Field(strict=True, description="text"), AfterValidator(_not_blank)]
Dtype = Annotated[Literal["auto", "float32", "bfloat16"], Field(description="auto, float32 or bfloat16")]
Switch = Annotated[bool, Field(strict=True, description="true or false")]
Count = Annotated[int, Field(strict=True, ge=1, le=_MOST, description=f"a positive whole number up to {_MOST:,}")]
Number = Annotated[_Finite, Field(description=f"a finite number up to {_MOST:,}")]
Names = Annotated[tuple[_Name, ...], Field(min_length=1, description="a list of names"), AfterValidator(_each_once)]
Counts = Annotated[
    tuple[_Whole, ...],
    Field(min_length=1, description=f"a list of whole numbers from 0 to {_MOST:,}"),
    AfterValidator(_each_once),
]
Steps = Annotated[
    dict[_Whole, Text],
    Field(description="a table of steps, whole numbers, with the folder of each"),
]
Numbers = Annotated[
    tuple[_Finite, ...],
    Field(min_length=1, description=f"a list of finite numbers up to {_MOST:,}"),
    AfterValidator(_each_once),
]

_Model = TypeVar("_Model")


def validate(model: type[_Model], values: Mapping[Any, object], file: str, owner: str = "") -> _Model:
    """Return `values` as a `model`.

    Args:
        model: a model or dataclass of pydantic; each field has a description, which completes "<key> must be ...".
        values: as YAML gives them, by key.
        file: its name, which errors begin with.
        owner: what the keys belong to, where a file holds several such mappings (a suite, an experiment).

    Raises:
        ValueError: one sentence, for the first of: an unknown key (with the nearest one), a missing key, a wrong value.
            A validator of the model that raises `ValueError("must ...")` writes the end of that sentence itself.
    """
    fields = {field.alias or name: field for name, field in model.__pydantic_fields__.items()}
    of = f" of {owner}" if owner else ""
    for key in values:
        if key not in fields:
            raise unknown(f"entry{of} in {file}" if owner else f"entry of {file}", key, fields)
    try:
        return model(**values)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
    fault = min(faults, key=lambda fault: fault["type"] != "missing")
    if not fault["loc"]:
        raise ValueError(f"{file}: {owner} {fault['ctx']['error']}" if owner else f"{file} {fault['ctx']['error']}")
    key, *inside = map(str, fault["loc"])
    if fault["type"] == "missing" and not inside:
        raise ValueError(f"{file} must name its {key}{of}; the entry is missing.")
    if fault["type"] == "value_error":
        raise ValueError(f"{file}: {key}{of} {fault['ctx']['error']}")
    raise ValueError(f"{file}: {key}{of} must be {_words(fields[key])}, not {brief(values[key])}.")


def _words(field: FieldInfo) -> str:
    """Return the description of a field, or of the type inside `... | None`."""
    inside = (part for kind in get_args(field.annotation) for part in getattr(kind, "__metadata__", ()))
    described = [field, *(part for part in inside if isinstance(part, FieldInfo))]
    return next((part.description for part in described if part.description), "another kind of value")
