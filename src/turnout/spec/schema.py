"""JSON Schema of a document, for editors: `turnout schema` prints it.

Made from the same classes that check documents, so it cannot drift. It says less than
`turnout check`: references between parts, and files, are not for a schema to know. A stage
file fits it only where it is a whole document.
"""

from typing import Any, TypeAlias

from turnout.spec import document, units

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SECTIONS = ("models", "pipelines", "endpoints", "experiments")

Schema: TypeAlias = dict[str, Any]
"""JSON has no narrower type, hence Any."""


def json_schema() -> Schema:
    """The schema, as JSON-able data."""
    schema = _tidied(document.Document.model_json_schema(by_alias=True))
    properties = schema["properties"]
    names = properties["models"]["patternProperties"]
    properties["models"]["patternProperties"] = dict.fromkeys(names, _model(schema["$defs"]))
    for section in SECTIONS:
        properties[section]["type"] = ["object", "null"]
    properties["endpoints"] |= {"type": "object", "minProperties": 1}
    return {"$schema": DIALECT, "title": "Turnout document", **schema, "required": ["endpoints"]}


def _model(definitions: Schema) -> Schema:
    """One model: which class it is decides `runtime`, else the source's suffix, else `code`."""
    known: Schema = {"enum": list(document.RUNTIMES)}
    custom: Schema = {"type": "string", "pattern": ":"}
    chain: Schema = {
        "type": "object",
        "required": ["runtime"],
        "properties": {"runtime": {"anyOf": [known, custom], "description": "Built in, or 'package.module:Class'."}},
    }
    for name, part in document.MODEL_CLASSES.items():
        reference = {"$ref": f"#/$defs/{part.__name__}"}
        assert part.__name__ in definitions, part
        named = custom if name == "custom" else {"const": name}
        conditions: list[Schema] = [{"required": ["runtime"], "properties": {"runtime": named}}]
        suffixes = [suffix for suffix, runtime in document.RUNTIME_OF_SUFFIX.items() if runtime == name]
        unnamed: Schema = {"not": {"anyOf": [{"required": ["runtime"]}, {"required": ["code"]}]}}
        for suffix in suffixes:
            ending = {"required": ["source"], "properties": {"source": {"type": "string", "pattern": rf"\{suffix}$"}}}
            conditions.append({"allOf": [unnamed, ending]})
        if name == "python":
            conditions.append({"required": ["code"], "not": {"required": ["runtime"]}})
        chain = {"if": {"anyOf": conditions}, "then": reference, "else": chain}
    return chain


def _tidied(schema: Any) -> Any:
    """Without the titles pydantic makes of names, and without keys that a part would refuse."""
    if isinstance(schema, list):
        return [_tidied(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    tidied = {key: _tidied(value) for key, value in schema.items() if not (key == "title" and isinstance(value, str))}
    properties = schema.get("properties")
    if isinstance(properties, dict):
        kept = {name: value for name, value in properties.items() if value.get("not") != {}}
        tidied["properties"] = {name: _tidied(value) for name, value in kept.items()}
    if "patternProperties" in tidied:
        tidied.setdefault("additionalProperties", False)
    return _with_readable_default(tidied)


def _with_readable_default(schema: Schema) -> Schema:
    """A default as one would write it: durations with their unit, nothing for null and whole parts."""
    default = schema.get("default")
    if isinstance(default, float) and units.DURATION_PATTERN in str(schema.get("pattern")):
        return {**schema, "default": units.duration_text(default)}
    if "default" in schema and (default is None or isinstance(default, dict | list | tuple)):
        return {key: value for key, value in schema.items() if key != "default"}
    return schema
