"""Command-line options as dataclasses, one for each topic.

typer reads options from the signature of a function, and a verb may have thirty of them. `expand_options` lets a verb
take a few dataclasses instead:

    @dataclass(frozen=True, kw_only=True)
    class CameraOptions:
        width: Annotated[int, typer.Option(help='Pixels.')] = 640
        height: Annotated[int, typer.Option(help='Pixels.')] = 480

    @expand_options()
    def demo(camera: CameraOptions, as_json: Json = False) -> None: ...

typer then sees --width, --height and --json, and `demo` receives a CameraOptions. A topic with a `panel`, such as
`panel: ClassVar[str] = 'Camera'`, has its options under that title in --help.
"""

import copy
import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

Json = Annotated[bool, typer.Option('--json', help='Print one JSON document for a program to read.')]


def expand_options(order: str = '') -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a decorator that shows the fields of dataclass parameters to typer as options.

    Args:
        order: names of all options, separated by blanks, in the order of --help and of the command that is recorded
            with results. Needed only where the options of two topics alternate; the order of the signature otherwise.

    Returns:
        The decorator. The decorated function takes every option by keyword.

    Raises:
        TypeError: (from the decorator) `order` does not name every option exactly once.
    """

    def decorate(verb: Callable[..., Any]) -> Callable[..., Any]:
        hints = get_type_hints(verb, include_extras=True)
        topics = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
        parameters: dict[str, inspect.Parameter] = {}
        for name, parameter in inspect.signature(verb).parameters.items():
            if name in topics:
                parameters |= _parameters_of(topics[name])
            else:
                parameters[name] = parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        if order:
            names = order.split()
            options = [name for name, parameter in parameters.items() if parameter.annotation is not typer.Context]
            if sorted(names) != sorted(options):
                raise TypeError(f'order names {sorted(names)}, but the options are {sorted(options)}')
            rest = [name for name in parameters if name not in names]
            parameters = {name: parameters[name] for name in (*rest, *names)}

        @functools.wraps(verb)
        def call(**values: Any) -> Any:
            grouped = {
                name: topic(**{field: values.pop(field) for field in option_names(topic)})
                for name, topic in topics.items()
            }
            return verb(**values, **grouped)

        call.__signature__ = inspect.Signature(list(parameters.values()))
        call.__annotations__ = {name: parameter.annotation for name, parameter in parameters.items()}
        return call

    return decorate


def option_names(topic: type) -> tuple[str, ...]:
    """Return the parameter names of the options of a topic."""
    return tuple(field.name for field in dataclasses.fields(topic))


def _parameters_of(topic: type) -> dict[str, inspect.Parameter]:
    """Return the fields of a dataclass as keyword parameters with their defaults."""
    hints = get_type_hints(topic, include_extras=True)
    if panel := getattr(topic, 'panel', ''):
        hints |= {field.name: _in_panel(hints[field.name], panel) for field in dataclasses.fields(topic)}
    return {
        field.name: inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(topic)
    }


def _in_panel(hint: Any, panel: str) -> Any:
    """Return the annotation of an option that --help shows in a panel; several verbs may share the one given."""
    option = copy.copy(hint.__metadata__[0])
    option.rich_help_panel = panel
    return Annotated[hint.__origin__, option]
