"""Files that are written once: the same bytes past the page cache and through it, and nothing where they are given up."""

import os

import numpy as np
import pytest

from cytofast import durable
from cytofast.durable import NewFile


@pytest.fixture(params=["direct", "refused"])
def pieces_of_a_block(request, monkeypatch):
    """Pieces so small that a file has many, on a disk with direct writes and on one without."""
    monkeypatch.setattr(durable, "_PIECE", 8_192)
    if request.param == "refused":
        usual, direct = os.open, getattr(os, "O_DIRECT", 0)

        def refusing(path, flags, *more):
            if flags & direct:
                raise OSError(22, "Invalid argument")
            return usual(path, flags, *more)

        monkeypatch.setattr(os, "open", refusing)


@pytest.mark.parametrize("size", [0, 1, 8_191, 8_192, 8_193, 50_000])
@pytest.mark.usefixtures("pieces_of_a_block")
def test_what_is_read_is_what_was_written(tmp_path, size):
    rng = np.random.Generator(np.random.PCG64(size))
    wanted = rng.bytes(size)
    with NewFile(tmp_path / "new") as file:
        at = 0
        while at < size:
            step = int(rng.integers(1, 20_000))
            assert file.write(wanted[at : at + step]) == len(wanted[at : at + step])
            at += step
            assert file.tell() == min(at, size)
    assert (tmp_path / "new").read_bytes() == wanted


@pytest.mark.usefixtures("pieces_of_a_block")
def test_what_was_there_before_is_replaced(tmp_path):
    (tmp_path / "new").write_bytes(b"x" * 100_000)
    with NewFile(tmp_path / "new") as file:
        file.write(np.arange(3, dtype=np.uint8))
    assert (tmp_path / "new").read_bytes() == b"\x00\x01\x02"


def test_a_file_that_is_given_up_takes_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(durable, "_PIECE", 8_192)
    file = NewFile(tmp_path / "new")
    file.write(b"x" * 10_000)
    file.give_up()
    assert file.write(b"y" * 10_000) == 10_000
    file.close()
    file.close()
    assert (tmp_path / "new").read_bytes() == b"x" * 8_192


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    file = NewFile(tmp_path / "new")
    file.write(b"x")
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        file.close()
    assert file.closed


def test_what_a_disk_refuses_to_take_directly_goes_through_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(durable, "_PIECE", 8_192)
    direct = getattr(os, "O_DIRECT", 1 << 14)
    monkeypatch.setattr(os, "O_DIRECT", direct, raising=False)
    usual_open, usual_write, refused = os.open, os.pwrite, []

    def opening(path, flags, *more):
        handle = usual_open(path, flags & ~direct, *more)
        if flags & direct:
            refused.append(handle)
        return handle

    def refusing(handle, data, at):
        if handle in refused:
            raise OSError(22, "Invalid argument")
        return usual_write(handle, data, at)

    monkeypatch.setattr(os, "open", opening)
    monkeypatch.setattr(os, "pwrite", refusing)
    with NewFile(tmp_path / "new") as file:
        file.write(b"x" * 20_000)
    assert refused
    assert (tmp_path / "new").read_bytes() == b"x" * 20_000


@pytest.mark.parametrize("then", ["write", "close"])
def test_what_a_disk_refuses_while_the_next_piece_is_filled_is_told(tmp_path, monkeypatch, then):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "_PIECE", 8_192)
    monkeypatch.setattr(os, "pwrite", full)
    file = NewFile(tmp_path / "new")
    file.write(b"x" * 8_192)
    with pytest.raises(OSError, match="No space left"):
        file.write(b"x" * 8_192) if then == "write" else file.close()
    file.give_up()
    file.close()
    assert file.closed
