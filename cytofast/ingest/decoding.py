"""Text of older programs, in whichever of two encodings it is."""

from __future__ import annotations


def decoded(data: bytes) -> str:
    """Text in UTF-8 or, where it is not, in Latin-1, which older exports are in (a micro sign, an accent)."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")
