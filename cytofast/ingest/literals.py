"""Plain data out of pickled bytes, read as data: nothing is imported and nothing is called.

DeepProfiler keeps the metadata of a site as a pickled dictionary. Loading a pickle runs whatever its author wrote into it, so
here its instructions are only listed (by the standard library) and those that build text, numbers, lists and dictionaries
are followed. Everything else is refused by its name.
"""

from __future__ import annotations

import pickletools
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
_EMPTY: dict[str, type] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_STORES = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_RECALLS = {"GET", "BINGET", "LONG_BINGET"}
_SILENT = {"PROTO", "FRAME", "STOP"}
_ARRAY_MODULES = {"numpy.core.multiarray", "numpy._core.multiarray"}
_NAMES = {
    *((module, name) for module in _ARRAY_MODULES for name in ("_reconstruct", "scalar")),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
    ("__builtin__", "bytes"),
    ("builtins", "bytes"),
}
_MARK = object()
_Name = tuple[str, str]


class NotPlainError(ValueError):
    """The bytes are damaged, or build something else than plain data."""


@dataclass
class _Array:
    content: list[Any] = field(default_factory=list)


@dataclass
class _Type:
    code: str


def plain_object(data: bytes) -> Any:
    """Read the object of a pickled zero-dimensional NumPy array: dictionaries, lists, text and numbers.

    Raises
    ------
    NotPlainError
        It holds anything else; the message names it.
    """
    machine = _Machine()
    try:
        with warnings.catch_warnings():
            # Of escapes in damaged text.
            warnings.simplefilter("ignore", DeprecationWarning)
            for opcode, argument, _ in pickletools.genops(data):
                machine.take(opcode.name, argument)
    except NotPlainError:
        raise
    except (ValueError, IndexError, TypeError, KeyError, AttributeError) as error:
        raise NotPlainError(f"damaged ({error})") from error
    return machine.result()


class _Machine:
    """A stack and a memo, as the instructions ask for."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def result(self) -> Any:
        """What is left at the end."""
        if len(self._stack) != 1:
            raise NotPlainError("damaged (it ends early)")
        found = self._stack[0]
        if isinstance(found, _Array):
            if len(found.content) != 1:
                raise NotPlainError(f"an array of {len(found.content):,} objects")
            return found.content[0]
        return found

    def take(self, name: str, argument: Any) -> None:
        """Follow one instruction."""
        stack = self._stack
        if name in _SILENT:
            return
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _STORES:
            self._memo[len(self._memo) if argument is None else int(argument)] = stack[-1]
        elif name in _RECALLS:
            stack.append(self._memo[int(argument)])
        elif name in _TUPLES:
            stack.append(tuple(self._popped(_TUPLES[name])))
        elif name in {"TUPLE", "LIST", "DICT"}:
            stack.append(_collected(name, self._to_mark()))
        else:
            self._change(name, argument)

    def _change(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in {"APPEND", "APPENDS"}:
            items = self._popped(1) if name == "APPEND" else self._to_mark()
            stack[-1].extend(items)
        elif name in {"SETITEM", "SETITEMS"}:
            items = self._popped(2) if name == "SETITEM" else self._to_mark()
            stack[-1].update(_collected("DICT", items))
        elif name == "GLOBAL":
            stack.append(_known(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            stack.append(_known(*self._popped(2)))
        elif name == "REDUCE":
            called, arguments = self._popped(2)
            stack.append(_built(called, arguments))
        elif name == "BUILD":
            _set_state(stack[-2], stack.pop())
        else:
            raise NotPlainError(f"the instruction {name}, which plain data do not need")

    def _popped(self, count: int) -> list[Any]:
        taken = [self._stack.pop() for _ in range(count)]
        return taken[::-1]

    def _to_mark(self) -> list[Any]:
        taken = []
        while (item := self._stack.pop()) is not _MARK:
            taken.append(item)
        return taken[::-1]


def _collected(name: str, items: list[Any]) -> Any:
    if name == "DICT":
        return dict(zip(items[::2], items[1::2], strict=True))
    return tuple(items) if name == "TUPLE" else items


def _known(module: str, name: str) -> _Name:
    if (module, name) not in _NAMES:
        raise NotPlainError(f"{module}.{name}, which is no plain data and was not run")
    return module, name


def _built(called: object, arguments: tuple[Any, ...]) -> Any:
    """What a call would have given, for the few calls that stand for data."""
    name = called[1] if isinstance(called, tuple) else called
    if name == "_reconstruct":
        return _Array()
    if name == "dtype":
        return _Type(str(arguments[0]))
    if name == "bytes" and arguments == ():
        return b""
    if name == "encode" and arguments[1:] == ("latin1",):
        return arguments[0].encode("latin-1")
    if name == "scalar" and isinstance(arguments[0], _Type) and arguments[0].code[:1] in set("iufbSU"):
        return np.frombuffer(arguments[1], dtype=np.dtype(arguments[0].code).newbyteorder("<"))[0].item()
    raise NotPlainError(f"a call of {name!r}")


def _set_state(target: object, state: Any) -> None:
    if isinstance(target, _Array):
        target.content = list(state[-1])
    elif not isinstance(target, _Type):
        raise NotPlainError(f"a state for {type(target).__name__}")
