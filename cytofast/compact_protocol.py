"""Thrift's compact protocol, as far as the footers of Parquet need it.

A structure is a dict of its fields, ``number: (kind, value)``, in the order in which they stand in the file. A value that is
a structure may be given as its bytes, too. https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from typing import Any

Struct = dict[int, tuple[int, Any]]

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 9, 12
_WHOLE_NUMBERS = (I16, I32, I64)
_STOP = 0
_LONG = 15


def varint(value: int) -> bytes:
    """A whole number from 0 up in as few bytes as it needs.

    >>> varint(300).hex()
    'ac02'
    """
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(value: int) -> bytes:
    """A whole number with its sign in the lowest bit.

    >>> number(-1).hex(), number(1).hex()
    ('01', '02')
    """
    return varint(value << 1 if value >= 0 else (-value << 1) - 1)


def field(before: int, which: int, kind: int) -> bytes:
    """What stands before a field's value; ``before`` is the number of the field before it."""
    step = which - before
    return bytes([step << 4 | kind]) if 0 < step <= _LONG else bytes([kind]) + number(which)


def sequence(kind: int, length: int) -> bytes:
    """What stands before the elements of a list."""
    return bytes([length << 4 | kind]) if length < _LONG else bytes([_LONG << 4 | kind]) + varint(length)


def encode(struct: Struct) -> bytes:
    """The bytes of a structure.

    >>> encode({1: (I32, 5), 3: (BINARY, b"Metadata_Well")}).hex()
    '150a280d4d657461646174615f57656c6c00'
    """
    out, before = [], 0
    for which, (kind, value) in struct.items():
        out += [field(before, which, kind), _encoded(kind, value)]
        before = which
    return b"".join([*out, bytes([_STOP])])


def _encoded(kind: int, value: Any) -> bytes:
    if kind in (TRUE, FALSE):
        return b""
    if kind in _WHOLE_NUMBERS:
        return number(value)
    if kind == LIST:
        of, elements = value
        return sequence(of, len(elements)) + b"".join(_element(of, element) for element in elements)
    if kind == STRUCT and not isinstance(value, bytes):
        return encode(value)
    raw = bytes(value)
    return varint(len(raw)) + raw if kind == BINARY else raw


def _element(kind: int, value: Any) -> bytes:
    """In a list, which has no room for it in its field, a truth is a byte."""
    return bytes([value]) if kind in (TRUE, FALSE) else _encoded(kind, value)


def decode(raw: bytes) -> Struct:
    """A structure out of its bytes.

    >>> decode(encode({1: (I32, 5), 30: (LIST, (I64, [-1, 2]))}))
    {1: (5, 5), 30: (9, (6, [-1, 2]))}
    """
    return _Reader(raw).struct()


class _Reader:
    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    def _take(self, size: int) -> bytes:
        self._at += size
        return self._raw[self._at - size : self._at]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._raw[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            if byte <= 0x7F:
                return value
            shift += 7

    def _number(self) -> int:
        coded = self._varint()
        return (coded >> 1) ^ -(coded & 1)

    def struct(self) -> Struct:
        fields: Struct = {}
        which = 0
        while (head := self._take(1)[0]) != _STOP:
            kind = head & 0x0F
            which = which + (head >> 4) if head >> 4 else self._number()
            fields[which] = (kind, self._value(kind))
        return fields

    def _value(self, kind: int) -> Any:
        if kind in (TRUE, FALSE):
            return kind == TRUE
        if kind in _WHOLE_NUMBERS:
            return self._number()
        if kind == BINARY:
            return self._take(self._varint())
        if kind == STRUCT:
            return self.struct()
        if kind == LIST:
            head = self._take(1)[0]
            length = head >> 4 if head >> 4 < _LONG else self._varint()
            of = head & 0x0F
            truths = of in (TRUE, FALSE)
            return of, [self._take(1)[0] if truths else self._value(of) for _ in range(length)]
        if kind in (BYTE, DOUBLE):
            return self._take(1 if kind == BYTE else 8)
        raise ValueError(f"a footer holds a field of kind {kind}")
