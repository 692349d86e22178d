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


def around(raw: bytes, first: int, last: int) -> tuple[bytes, bytes]:
    r"""What stands before field ``first`` of a structure, which has both, and what after field ``last``, up to its end.

    Without making anything of it: schemas of thousands of columns are thousands of structures.

    >>> around(encode({1: (I32, 5), 3: (I64, 0), 4: (LIST, (I64, [-1, 2])), 6: (BINARY, b"x")}), 3, 4)
    (b'\x15\n', b'(\x01x\x00')
    """
    return _Reader(raw).around(first, last)


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
        kind, which = self._field(0)
        while kind != _STOP:
            fields[which] = (kind, self._value(kind))
            kind, which = self._field(which)
        return fields

    def around(self, first: int, last: int) -> tuple[bytes, bytes]:
        which = before = 0
        while which < last:
            at = self._at
            kind, which = self._field(which)
            if kind == _STOP:
                raise ValueError(f"a structure ends before its field {last}")
            if which == first:
                before = at
            self._skip(kind)
        return self._raw[:before], self._raw[self._at :]

    def _field(self, before: int) -> tuple[int, int]:
        """The kind and the number of the next field; kind ``_STOP`` at the end."""
        head = self._raw[self._at]
        self._at += 1
        kind = head & 0x0F
        if head == _STOP:
            return _STOP, before
        return kind, before + (head >> 4) if head >> 4 else self._number()

    def _skip(self, kind: int) -> None:
        if kind in _WHOLE_NUMBERS:
            self._varint()
        elif kind == BINARY:
            size = self._varint()
            self._at += size
        elif kind == STRUCT:
            which = 0
            kind, which = self._field(which)
            while kind != _STOP:
                self._skip(kind)
                kind, which = self._field(which)
        elif kind == LIST:
            of, length = self._list()
            for _ in range(length):
                self._skip(BYTE if of in (TRUE, FALSE) else of)
        elif kind in (BYTE, DOUBLE):
            self._at += 1 if kind == BYTE else 8
        elif kind not in (TRUE, FALSE):  # which have no bytes
            raise _unknown(kind)

    def _list(self) -> tuple[int, int]:
        """Of what kind the elements are, and how many."""
        head = self._raw[self._at]
        self._at += 1
        return head & 0x0F, head >> 4 if head >> 4 < _LONG else self._varint()

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
            of, length = self._list()
            truths = of in (TRUE, FALSE)
            return of, [self._take(1)[0] if truths else self._value(of) for _ in range(length)]
        if kind in (BYTE, DOUBLE):
            return self._take(1 if kind == BYTE else 8)
        raise _unknown(kind)


def _unknown(kind: int) -> ValueError:
    return ValueError(f"a footer holds a field of kind {kind}")
