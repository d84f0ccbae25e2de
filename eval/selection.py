"""Which scores a table or a figure shows, where it is not to show all: by the values of their fields."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from artifacts.errors import InputError
from artifacts.settings import Settings, load_settings
from eval.results import Result, alike_hours

type Selection = Mapping[str, Sequence[str | int | float]]
"""Field of a score -> the values wanted; a field that is not named is not asked about."""


class _Selections(Settings):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, dict[str, list[str | int | float]]]


def select(results: Sequence[Result], wanted: Selection) -> list[Result]:
    """Keep a result if each field of it that is asked about is empty or has one of the values wanted.

    Empty fields pass, so that ``num_units: [256]`` keeps the features that the units are made of, too. Hours of speech
    are the same where `read_results` takes them to be the same.

    Raises:
        InputError: A field that scores do not have, or a value that none of them can have.
    """
    check(wanted)
    return [
        result
        for result in results
        if all(
            (value := getattr(result, field)) is None or any(_same(field, value, one) for one in values)
            for field, values in wanted.items()
        )
    ]


def _same(field: str, value: Any, wanted: Any) -> bool:
    return alike_hours(value, wanted) if field == "hours" else value == wanted


def check(wanted: Selection) -> None:
    """Refuse a selection that no score could meet.

    Raises:
        InputError: A field that scores do not have, or a value of a type that the field does not take.
    """
    for field, values in wanted.items():
        if field not in Result.model_fields:
            raise InputError(f"{field}: no field of a score, expected one of {', '.join(Result.model_fields)}")
        annotation: Any = Result.model_fields[field].annotation
        kind = TypeAdapter[Any](annotation)
        for value in values:
            try:
                kind.validate_python(value, strict=True)
            except ValidationError as error:
                expected = error.errors()[0]["msg"].removeprefix("Input should be ")
                raise InputError(f"{field}: found {value!r}, expected {expected}") from None


def parse_selections(text: str) -> dict[str, Selection]:
    """The selections given on the command line: a JSON object, name of a table or a figure -> its selection.

    Raises:
        InputError: It has another form.
    """
    selections = load_settings(_Selections, text, "--select").__pydantic_extra__
    for name, wanted in selections.items():
        try:
            check(wanted)
        except InputError as error:
            raise InputError(f"--select: {name}.{error}") from None
    return dict(selections)
