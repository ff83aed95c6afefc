"""A JSON schema as a reward."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pyro_llm.errors import MissingExtraError, OptionError
from pyro_llm.rewards.composition.derived import check_probability
from pyro_llm.rewards.verifiers.verifier import Verifier


@dataclass(frozen=True, init=False)
class JsonSchemaReward(Verifier):
    """Accepts texts that are JSON and satisfy a schema (the package jsonschema; extra `verifiers`).

    It judges whole texts: a prefix of a JSON document is none. Nothing is fetched: a `$ref` must lead to a place in the
    schema itself. `NaN` and `Infinity` are no JSON.

    Args:
        schema: a JSON schema (a mapping or a bool), of the draft that its `$schema` names, else of 2020-12.
        valid: probability of a text that satisfies it.
        invalid: probability of any other.

    Raises:
        MissingExtraError: jsonschema is not installed.
        OptionError: the schema is none, or refers to what is not in it; a probability is none.

    Examples:
        >>> JsonSchemaReward({"type": "object", "required": ["answer"]}).probability('{"answer": 95}')
        1.0
    """

    schema: str
    valid: float
    invalid: float

    def __init__(self, schema: Mapping[str, Any] | bool, valid: float = 1.0, invalid: float = 0.0) -> None:
        try:
            written = json.dumps(schema, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise OptionError(f"The schema is no JSON: {error}.") from error
        for name, value in (("schema", written), ("valid", valid), ("invalid", invalid)):
            object.__setattr__(self, name, value)
        check_probability("valid", valid)
        check_probability("invalid", invalid)
        self._is_valid(None)  # finds out what is wrong with the schema before any text is written

    @cached_property
    def _validator(self) -> Any:
        try:
            from jsonschema import SchemaError
            from jsonschema.validators import Draft202012Validator, validator_for
            from referencing import Registry
        except ImportError as error:
            raise MissingExtraError(
                "A JSON schema as a reward needs the package jsonschema: pip install 'pyro-llm[verifiers]'."
            ) from error
        schema = json.loads(self.schema)
        kind = validator_for(schema, default=Draft202012Validator)
        try:
            kind.check_schema(schema)
        except SchemaError as error:
            place = "/".join(map(str, error.absolute_path)) or "its root"
            raise OptionError(f"This is no JSON schema: {error.message} (at {place}).") from error
        return kind(schema, registry=Registry())

    def _is_valid(self, value: Any) -> bool:
        validator = self._validator
        from referencing.exceptions import Unresolvable

        try:
            return bool(validator.is_valid(value))
        except Unresolvable as error:
            raise OptionError(
                f"The schema refers to {error.ref!r}, which is not in it. Put it under $defs; nothing is fetched."
            ) from error

    def probability(self, text: str) -> float:
        """`valid` or `invalid`."""
        try:
            value = json.loads(text, parse_constant=_refuse)
            return self.valid if self._is_valid(value) else self.invalid
        except (ValueError, RecursionError):
            return self.invalid

    def __getstate__(self) -> dict[str, Any]:
        """Without the validator, which is made anew."""
        return {name: value for name, value in self.__dict__.items() if name != "_validator"}


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
