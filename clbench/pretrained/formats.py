"""Tensors of weight files in the formats safetensors and ONNX, read from bytes whose SHA-256 was compared before."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

_DTYPES = {"F32": "<f4", "F16": "<f2", "I64": "<i8"}
_FLOAT = 1
"""Number of float32 among ONNX's data types."""


def safetensors(data: bytes) -> dict[str, Tensor]:
    """The tensors of a file: eight bytes with the length of a JSON header, the header, and the values."""
    (length,) = struct.unpack("<Q", data[:8])
    values, tensors = data[8 + length :], {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            array = np.frombuffer(values[begin:end], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
            tensors[name] = torch.from_numpy(array.copy())
    return tensors


def onnx(data: bytes) -> dict[str, Tensor]:
    """The float32 initialisers of a graph by name; a matrix without a name of its own has that of its MatMul node.

    Fields of ONNX's protocol buffers: 7 of a model is its graph; 1 and 5 of a graph are nodes and initialisers; 1, 3
    and 4 of a node are inputs, name and operator; 1, 2, 8 and 9 of a tensor are sizes, data type, name and bytes.
    """
    graph = _messages(memoryview(data), 7)[0]
    tensors: dict[str, Tensor] = {}
    for tensor in _messages(graph, 5):
        sizes, dtype = _numbers(tensor, 1), _numbers(tensor, 2)
        name, values = _messages(tensor, 8), _messages(tensor, 9)
        if dtype == [_FLOAT] and values:
            array = np.frombuffer(values[0], "<f4").reshape(sizes)
            tensors[bytes(name[0]).decode()] = torch.from_numpy(array.copy())
    for node in _messages(graph, 1):
        inputs, names, operators = ([bytes(text).decode() for text in _messages(node, n)] for n in (1, 3, 4))
        if operators == ["MatMul"] and inputs[1] in tensors:
            tensors[names[0]] = tensors.pop(inputs[1])
    return tensors


def _messages(data: memoryview, number: int) -> list[memoryview]:
    """The fields of a number that are bytes."""
    return [value for n, value in _fields(data) if n == number and not isinstance(value, int)]


def _numbers(data: memoryview, number: int) -> list[int]:
    """The fields of a number that are whole numbers."""
    return [value for n, value in _fields(data) if n == number and isinstance(value, int)]


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Numbers and values of the fields of a message in protocol buffers: whole numbers, or bytes."""
    at = 0
    while at < len(data):
        key, at = _whole_number(data, at)
        kind = key & 7
        if kind == 0:
            number, at = _whole_number(data, at)
            yield key >> 3, number
            continue
        if kind == 2:
            length, at = _whole_number(data, at)
        else:
            length = {1: 8, 5: 4}[kind]
        yield key >> 3, data[at : at + length]
        at += length


def _whole_number(data: memoryview, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and the position behind it."""
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at
