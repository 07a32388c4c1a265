"""Read the types of settings given on Snakemake's command line.

``--config embedding='{"seeds": [0, 1]}'`` reaches a Snakefile as ``{"seeds": ["0", "1"]}``. The
config's schema says what is meant.
"""

from collections.abc import Mapping
from typing import Any


def read_types(value: Any, schema: Mapping[str, Any]) -> Any:
    """Return a config whose texts are numbers where its JSON schema wants numbers, and the reverse.

    What cannot be read stays as it is, for the validation to name.

    Examples
    --------
    >>> schema = {"properties": {"seeds": {"type": "array", "items": {"type": "integer"}}}}
    >>> read_types({"seeds": ["0", "x"]}, schema)
    {'seeds': [0, 'x']}
    """
    if isinstance(value, Mapping):
        properties = schema.get("properties", {})
        return {key: read_types(item, properties.get(key, {})) for key, item in value.items()}
    if isinstance(value, list):
        return [read_types(item, schema.get("items", {})) for item in value]
    kind = schema.get("type")
    if kind == "string" and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if kind in ("integer", "number") and isinstance(value, str):
        try:
            return int(value) if kind == "integer" else float(value)
        except ValueError:
            return value
    return value
