# SPDX-License-Identifier: Apache-2.0
"""Structured dtypes as JSON text, for the description that travels with a message.

The text comes from a peer, so parse() takes lists of fields with plain names, plain type strings
and sizes, and nothing else: no object dtype, no pickle, no evaluation.
"""

import json
import re
from typing import Any

import numpy as np
from numpy.lib.format import descr_to_dtype

_PLAIN = re.compile(r"[<>|][biufcSUVmM]\d{1,10}(\[[0-9A-Za-z]{1,16}\])?")
_DEPTH_MAX = 32


def describe(dtype: np.dtype[Any]) -> str:
    """Return the text of a structured dtype; TypeError when a peer could not rebuild it."""
    try:
        text = json.dumps(dtype.descr, separators=(",", ":"))
        rebuilt = parse(text.encode())
    except (TypeError, ValueError) as error:
        raise TypeError(f"dtype {dtype} cannot be sent: {error}") from None
    if rebuilt != dtype:
        raise TypeError(f"dtype {dtype} cannot be sent: it would arrive as {rebuilt}")
    return text


def parse(text: bytes) -> np.dtype[Any]:
    """Return the dtype that describe() gave text for; ValueError when it is anything else."""
    dtype: np.dtype[Any] = descr_to_dtype(_fields(json.loads(text), _DEPTH_MAX))
    return dtype


def _fields(value: Any, depth: int) -> list[Any]:
    if not isinstance(value, list) or depth == 0:
        raise ValueError("not a list of fields")
    return [_field(field, depth) for field in value]


def _field(value: Any, depth: int) -> tuple[Any, ...]:
    match value:
        case [name, kind]:
            return _name(name), _kind(kind, depth)
        case [name, kind, shape]:
            return _name(name), _kind(kind, depth), _shape(shape)
    raise ValueError("not a field")


def _name(value: Any) -> str | tuple[str, str]:
    match value:
        case str():
            return value
        case [str() as title, str() as name]:
            return title, name
    raise ValueError("not the name of a field")


def _kind(value: Any, depth: int) -> str | list[Any]:
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        return value
    return _fields(value, depth - 1)


def _shape(value: Any) -> tuple[int, ...]:
    if isinstance(value, list) and all(type(item) is int and item >= 0 for item in value):
        return tuple(value)
    raise ValueError("not the shape of a field")
