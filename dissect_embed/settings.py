"""A section of a config as a model: whatever is wrong with a setting is one line.

Also the JSON schema of all settings, for editors, and their page for readers.
"""

import difflib
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from dissect_embed.errors import ConfigError

# Settings that had another name before: where a config still has it, the error says the new one.
RENAMED = {"dissection.null_seed": "chance.seed"}

PATTERNS = {
    r"^[A-Za-z0-9][A-Za-z0-9._-]*$": "letters, digits, '.', '_' and '-', no other sign",
    r"^([0-9a-f]{64})?$": "a SHA-256: 64 digits of 0-9 and a-f",
    r"[.]h5$": "a file that ends in .h5",
}
Name = Annotated[str, Field(pattern=next(iter(PATTERNS)))]
Text = Annotated[str, Field(min_length=1)]
Seed = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


def unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return some values, of which none may stand there twice."""
    doubled = [value for n, value in enumerate(values) if value in values[:n]]
    if doubled:
        msg = f"{doubled[0]!r} stands there twice; name each once"
        raise ValueError(msg)
    return values


def is_path(weights: str) -> bool:
    """Say whether ``model.weights`` is the path of a file: what exists as one, or looks like it."""
    if weights in ("random", "trained"):
        return False
    return (
        "/" in weights
        or "\\" in weights
        or Path(weights).suffix in (".pt", ".pth", ".bin", ".tar", ".ckpt", ".safetensors")
        or Path(weights).is_file()
    )


def all_none_or_layers(value: Any) -> Any:
    """Check what stands for which layers are stored, as ``activations.cache`` has it."""
    if value in ("all", "none"):
        return value
    if isinstance(value, list | tuple) and value and all(isinstance(v, str) and v for v in value):
        return unique(tuple(value))
    msg = "expected 'all', 'none' or a list of layers, each a text; put numbers in quotes"
    raise ValueError(msg)


# What the axes of a layer's output can be: (image, unit, y, x) and so on. Tokens go row by row.
AXES = (
    "image unit y x",
    "image y x unit",
    "image token unit",
    "image unit token",
    "token image unit",
    "image unit",
)


def auto_or_layers(value: Any) -> Any:
    """Return the layers to probe; the word 'auto' alone stands for a list of it."""
    return (value,) if value == "auto" else value


def height_and_width(value: Any) -> Any:
    """Return the height and width that one number or two mean."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int) or (isinstance(value, str) and value.isdecimal()):
        return (value, value)
    if not isinstance(value, list | tuple) or len(value) != 2:
        msg = "expected one number or two, height and width"
        raise ValueError(msg)
    return value


def number_of_text(value: Any) -> Any:
    """Return the whole number that a text means: Snakemake's command line has nothing but texts."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def rising_or_none(values: tuple[float, ...]) -> tuple[float, ...]:
    """Return what black and white become, or none."""
    if values and (len(values) != 2 or values[0] >= values[1]):
        msg = "expected two numbers, what black and what white becomes, black the smaller"
        raise ValueError(msg)
    return values


def one_three_or_none(values: tuple[float, ...]) -> tuple[float, ...]:
    """Return numbers for red, green and blue, one for gray, or none."""
    if len(values) not in (0, 1, 3):
        msg = "expected three numbers, red, green, blue, or one for gray"
        raise ValueError(msg)
    return values


def three_or_none(values: tuple[float, ...]) -> tuple[float, ...]:
    """Return numbers for red, green and blue, or none."""
    if len(values) not in (0, 3):
        msg = "expected three numbers: red, green, blue"
        raise ValueError(msg)
    return values


def not_the_quantile(value: float) -> float:
    """Return the share of values above a quantile, which is not the quantile itself."""
    if value > 0.5:
        msg = (
            "expected at most 0.5: it is the share of activations above the threshold, 0.005 for "
            "the 99.5 % quantile"
        )
        raise ValueError(msg)
    return value


def one_of(names: Iterable[str]) -> Callable[[str], str]:
    """Return a function that takes one of some names, and nothing else."""
    known = list(names)

    def check(value: str) -> str:
        if value not in known:
            msg = f"expected one of {', '.join(known)}"
            raise ValueError(msg)
        return value

    return check


Seeds = Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(unique)]


class Section(BaseModel):
    """A part of a config; whatever is wrong with it is one line a setting.

    Raises
    ------
    ConfigError
        If a setting is unknown, of another type or out of bounds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    # Where it stands in a config file.
    path: ClassVar[str] = ""

    def __init__(self, **values: Any) -> None:
        # No setting is a truth value, which Python would take for 0 or 1.
        wrong = [
            f"{self.path}.{key}: {value!r}, expected no truth value".lstrip(".")
            for key, value in values.items()
            if isinstance(value, bool) and key in type(self).model_fields
        ]
        if wrong:
            raise ConfigError("; ".join(wrong))
        try:
            super().__init__(**values)
        except ValidationError as error:
            found = error.errors()
            # What is wrong inside of a list makes pydantic doubt the list as well.
            inner = {e["loc"][:n] for e in found for n in range(1, len(e["loc"]))}
            lines = [_explain(type(self), dict(e)) for e in found if e["loc"] not in inner]
            raise ConfigError("; ".join(dict.fromkeys(lines))) from None


def _explain(section: type[Section], error: dict[str, Any]) -> str:
    """Return what is wrong with a setting, and what would be right."""
    key = ".".join(filter(None, [section.path, *map(str, error["loc"])]))
    value, context, kind = error["input"], error.get("ctx", {}), error["type"]
    if kind == "extra_forbidden":
        if key in RENAMED:
            return f"{key}: is called {RENAMED[key]} now; rename it"
        known = list(section.model_fields)
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        return f"{key}: no such setting in this version; {hint}"
    if kind == "missing":
        return f"{key}: missing; add it"
    if kind == "value_error" and isinstance(context["error"], ConfigError):
        # Of a section within, which does not know its place in a list.
        parent, _, place = key.rpartition(".")
        text = str(context["error"])
        return text.replace(f"{parent}.", f"{key}.") if place.isdigit() else text
    if kind == "string_type" and isinstance(value, int | float):
        # YAML reads 1.10 as 1.1 and 010 as 8.
        return f"{key}: {value!r} is a number, expected a text; put it in quotes"
    if kind == "value_error":
        return f"{key}: {value!r}: {context['error']}"
    expected = {
        "greater_than": "more than {gt}",
        "greater_than_equal": "at least {ge}",
        "less_than": "less than {lt}",
        "less_than_equal": "at most {le}",
        "finite_number": "a finite number",
        "literal_error": "{expected}",
        "too_short": "at least {min_length} of them",
        "string_too_short": "a text that is not empty",
        "string_pattern_mismatch": PATTERNS.get(context.get("pattern", ""), "{pattern}"),
        "string_type": "a text",
        "tuple_type": "a list",
        "model_type": "settings by name",
        "dict_type": "settings by name",
    }.get(kind)
    if expected is None:
        expected = "a whole number" if kind.startswith("int") else str(error["msg"])
        expected = "a number" if kind.startswith("float") else expected
    bounds = {k: f"{v:g}" if isinstance(v, float) else v for k, v in context.items()}
    return f"{key}: {value!r}, expected {expected.format(**bounds)}"


def json_schema(config: type[Section]) -> str:
    """Return the JSON schema of a config as YAML, for editors."""
    import yaml

    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **config.model_json_schema(),
    }
    return str(yaml.safe_dump(schema, sort_keys=False, width=100, allow_unicode=True))


def describe_settings(config: type[Section]) -> str:
    """Return a page of all settings in Markdown: a table a section."""
    lines = ["# Settings", "", f"{config.__doc__} A key that is not listed here is an error.", ""]
    todo: list[tuple[str, type[Section]]] = [("", config)]
    while todo:
        path, section = todo.pop(0)
        plain, deeper = [], []
        for key, field in section.model_fields.items():
            inner = _section_of(field.annotation)
            if inner is None:
                default = "required" if field.is_required() else f"`{_show(field.default)}`"
                bounds = _bounds(section.model_json_schema()["properties"][key])
                plain.append(f"| `{key}` | {default} | {bounds} | {field.description} |")
            else:
                deeper.append((f"{path}.{key}".strip("."), inner))
        if plain:
            doc = "" if section is config else f"{inspect.getdoc(section)}\n\n"
            title = f"## {path or 'The run'}"
            head = "| key | default | what | |\n| --- | --- | --- | --- |"
            lines += [title, "", f"{doc}{head}", *plain, ""]
        todo = deeper + todo
    return "\n".join(lines)


def _section_of(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _section_of(arg))), None)


def _show(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_show, value))}]"
    return "" if value is None else str(value)


def _bounds(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_bounds(s) for s in schema["anyOf"] if s.get("type") != "null")
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_bounds(schema['items'])}"
    names = {"integer": "whole number", "number": "number", "string": "text"}
    words = [names.get(str(schema.get("type")), str(schema.get("type")))]
    for key, sign in (
        ("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<")
    ):  # fmt: skip
        if key in schema:
            words.append(f"{sign} {schema[key]:g}")
    return " ".join(words)
