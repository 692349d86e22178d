"""Every file is valid for every reader, and says exactly what was given: our pages beside pyarrow's, in one footer."""

from __future__ import annotations

import datetime as dt
import errno
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytofast import SchemaError, StoreError, resources
from cytofast.compact_protocol import (
    BINARY,
    BYTE,
    DOUBLE,
    FALSE,
    I16,
    I32,
    I64,
    LIST,
    STRUCT,
    TRUE,
    around,
    decode,
    encode,
)
from cytofast.durable import NewFile
from cytofast.parquet import row_group_rows
from cytofast.plain_pages import PlainReader
from cytofast.schema import is_metadata
from cytofast.sharing import Chunk
from tests.row_groups import written

TEXT = st.sampled_from(["", "A01", "µ", "細胞", "x" * 5000, "\0", "Z"])
FLOATS = st.sampled_from([0.0, -0.0, 1.5, float("nan"), float("inf"), -float("inf"), 1e-45, 2.0**-140, -3.25])
DAYS = st.datetimes(dt.datetime(1950, 1, 1), dt.datetime(2050, 1, 1))
SPANS = st.timedeltas(dt.timedelta(-9), dt.timedelta(9))
NESTED = pl.Struct({"a": pl.Int64, "b": pl.Struct({"c": pl.String, "d": pl.List(pl.Int8)})})
OTHERS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (pl.String, TEXT),
    (pl.Categorical, TEXT),
    (pl.Enum(["a", "b", "µ"]), st.sampled_from(["a", "b", "µ"])),
    (pl.Boolean, st.booleans()),
    *(
        (kind, st.integers(low, high))
        for kind, low, high in [
            (pl.Int8, -(2**7), 2**7 - 1),
            (pl.Int16, -(2**15), 2**15 - 1),
            (pl.Int32, -(2**31), 2**31 - 1),
            (pl.Int64, -(2**63), 2**63 - 1),
            (pl.UInt8, 0, 2**8 - 1),
            (pl.UInt16, 0, 2**16 - 1),
            (pl.UInt32, 0, 2**32 - 1),
            (pl.UInt64, 0, 2**64 - 1),
        ]
    ),
    (pl.Date, st.dates(dt.date(1900, 1, 1), dt.date(2100, 1, 1))),
    *((pl.Datetime(unit), DAYS) for unit in ("ms", "us", "ns")),
    (pl.Datetime("us", "Europe/Berlin"), st.datetimes(timezones=st.just(dt.UTC))),
    *((pl.Duration(unit), SPANS) for unit in ("ms", "us", "ns")),
    (pl.Time, st.times()),
    (pl.Decimal(20, 3), st.integers(-(10**9), 10**9).map(lambda n: Decimal(n).scaleb(-3))),
    (pl.Binary, st.binary(max_size=5)),
    (pl.List(pl.String), st.lists(st.none() | TEXT, max_size=3)),
    (pl.List(pl.Float32), st.lists(st.none() | st.just(1.5), max_size=3)),
    (NESTED, st.fixed_dictionaries({"a": st.none() | st.integers(0, 9), "b": st.just({"c": "x", "d": [1, None]})})),
    (pl.Null, st.none()),
]
FEATURES = [(pl.Float32, FLOATS), (pl.Float64, FLOATS)]
METADATA = ["Metadata_Well", "Metadata_µM", "Metadata_" + "long" * 60, "Metadata_a.b"]
PROFILE = ["Cells_a", "Cells_b c.d", "Nuclei_細胞", "Cells_" + "Texture" * 40, "Image_x"]


@st.composite
def frames(draw: st.DrawFn) -> pl.DataFrame:
    rows = draw(st.sampled_from([0, 1, 2, 3, 7, 8, 9, 17, 40]))
    metadata = draw(st.lists(st.sampled_from(METADATA), unique=True))
    features = draw(st.lists(st.sampled_from(PROFILE), unique=True, min_size=0 if metadata else 1))
    columns = []
    for name in draw(st.permutations([*metadata, *features])):
        kinds = [*OTHERS, *FEATURES]
        kind, values = draw(st.sampled_from(kinds if is_metadata(name) else [*FEATURES, *FEATURES, *kinds]))
        holes = draw(st.sampled_from([st.none(), st.none() | values, values]))
        few = draw(st.lists(holes, min_size=min(rows, 9), max_size=min(rows, 9)))
        columns.append(pl.Series(name, (few * rows)[:rows], dtype=kind, strict=False))
    return pl.DataFrame(columns)


def _by_pyarrow(path: Path, frame: pl.DataFrame, group: int) -> Path:
    table = frame.with_columns(pl.col(pl.Float32, pl.Float64).fill_nan(None)).to_arrow(
        compat_level=pl.CompatLevel.oldest()
    )
    pq.write_table(table, path, row_group_size=group, store_schema=False)
    return path


def _check_footer(path: Path, frame: pl.DataFrame, group: int) -> None:
    """What the footer says is so: pieces lie in the file, one after the other, and are counted rightly."""
    found = pq.read_metadata(path)
    assert found.num_rows == frame.height
    assert found.num_row_groups == -(-frame.height // group)
    places = []
    for number in range(found.num_row_groups):
        part = found.row_group(number)
        rows = frame[number * group : (number + 1) * group]
        assert part.num_rows == rows.height
        columns = [part.column(index) for index in range(found.num_columns)]
        begins = [c.dictionary_page_offset if c.has_dictionary_page else c.data_page_offset for c in columns]
        places += [(begin, c.total_compressed_size) for begin, c in zip(begins, columns, strict=True)]
        assert begins[0] == min(begins), "a reader that takes the first column for the row group's begin is right"
        for column in columns:
            assert column.num_values >= rows.height
            if is_metadata(column.path_in_schema) and column.statistics is not None:
                series = rows[column.path_in_schema] if column.path_in_schema in rows.columns else None
                if series is not None and not series.dtype.is_float():
                    assert column.statistics.null_count == series.null_count()
    end = 4
    for begin, size in sorted(places):
        assert begin == end
        end = begin + size
    footer = int.from_bytes(path.read_bytes()[-8:-4], "little")
    assert end + footer + 8 == path.stat().st_size


def _bounds(path: Path) -> list[Any]:
    """Statistics of columns that are no features."""
    found = pq.read_metadata(path)
    out = []
    for number in range(found.num_row_groups):
        for index in range(found.num_columns):
            column = found.row_group(number).column(index)
            if is_metadata(column.path_in_schema) and column.statistics is not None:
                out.append((number, column.path_in_schema, column.statistics.to_dict()))
    return out


@settings(max_examples=60)
@given(frame=frames(), group=st.integers(1, 20))
def test_that_all_readers_find_what_they_find_in_a_file_of_pyarrow(
    tmp_path_factory: pytest.TempPathFactory, frame: pl.DataFrame, group: int
) -> None:
    folder = tmp_path_factory.mktemp("pages")
    ours = written(folder / "ours.parquet", [frame], group)
    theirs = _by_pyarrow(folder / "theirs.parquet", frame, group)
    _check_footer(ours, frame, group)

    found, expected = pq.read_table(ours), pq.read_table(theirs)
    assert found.schema == expected.schema
    assert found.to_pydict() == expected.to_pydict()
    assert pq.read_table(ours, page_checksum_verification=True).equals(found)
    assert pq.ParquetFile(ours).schema.equals(pq.ParquetFile(theirs).schema)

    read = pl.read_parquet(ours)
    assert read.schema == pl.read_parquet(theirs).schema
    assert read.equals(pl.read_parquet(theirs))
    for name in read.columns:
        if read[name].dtype in (pl.Float32, pl.Float64) and frame[name].dtype == read[name].dtype:
            there = read[name].is_not_null()
            assert read[name].filter(there).to_numpy().tobytes() == frame[name].filter(there).to_numpy().tobytes()

    asked = "SELECT * FROM read_parquet($path)"
    by_duckdb = [duckdb.sql(asked, params={"path": str(path)}).to_arrow_table() for path in (ours, theirs)]
    assert by_duckdb[0].schema == by_duckdb[1].schema
    assert by_duckdb[0].to_pydict() == by_duckdb[1].to_pydict()

    file, other = pq.ParquetFile(ours), pq.ParquetFile(theirs)
    for number in range(file.num_row_groups):
        for names in (frame.columns, frame.columns[:1], frame.columns[-1:]):
            assert file.read_row_group(number, names).to_pydict() == other.read_row_group(number, names).to_pydict()
    plain = [name for name in frame.columns if frame[name].dtype == pl.Float32 and not is_metadata(name)]
    if plain and frame.height:
        reader = PlainReader(ours)
        assert reader.reads(plain)
        values = frame.select(plain).to_numpy().astype(np.float32)
        assert np.array_equal(reader.read(plain).T, values, equal_nan=True)
        assert np.array_equal(
            reader.read(plain, [(min(1, frame.height), min(3, frame.height))]).T, values[1:3], equal_nan=True
        )


def test_that_statistics_of_metadata_are_those_of_pyarrow_in_every_row_group(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "Cells_a": np.arange(100, dtype=np.float32),
            "Metadata_Well": [None if i % 7 == 0 else f"W{i:02}" for i in range(100)],
            "Metadata_dose": [float(i) for i in range(100)],
            "Metadata_day": [dt.date(2020, 1, 1) + dt.timedelta(i) for i in range(100)],
        }
    )
    ours = written(tmp_path / "ours.parquet", [frame], 9)
    assert _bounds(ours) == _bounds(_by_pyarrow(tmp_path / "theirs.parquet", frame, 9))
    assert len(_bounds(ours)) == 3 * 12


@settings(max_examples=20)
@given(wells=st.lists(st.none() | st.sampled_from(["A01", "B02", "µ", ""]), min_size=1, max_size=40), data=st.data())
def test_that_filters_by_statistics_find_the_right_rows(
    tmp_path_factory: pytest.TempPathFactory, wells: list[str | None], data: st.DataObject
) -> None:
    height = len(wells)
    frame = pl.DataFrame(
        {
            "Cells_a": pl.Series(range(height), dtype=pl.Float32),
            "Metadata_Well": pl.Series(wells, dtype=pl.String),
            "Metadata_n": list(range(height)),
            "Cells_b": pl.Series([None if i % 3 else 0.5 for i in range(height)], dtype=pl.Float64),
        }
    )
    path = written(tmp_path_factory.mktemp("filter") / "p.parquet", [frame], data.draw(st.integers(1, 9)))
    well = data.draw(st.sampled_from(["A01", "B02", "µ", "", "absent"]))
    conditions = [
        (pl.col("Metadata_Well") == well, f"Metadata_Well = '{well}'"),
        (pl.col("Metadata_Well") > well, f"Metadata_Well > '{well}'"),
        (pl.col("Metadata_Well").is_null(), "Metadata_Well IS NULL"),
        (pl.col("Metadata_n") >= height - 2, f"Metadata_n >= {height - 2}"),
        (pl.col("Cells_b").is_null(), "Cells_b IS NULL"),
        (pl.col("Cells_a") > 3, "Cells_a > 3"),
    ]
    for condition, text in conditions:
        expected = frame.filter(condition)
        assert pl.scan_parquet(path).filter(condition).collect().equals(expected)
        asked = f"SELECT * FROM read_parquet($path) WHERE {text} ORDER BY Metadata_n"
        assert duckdb.sql(asked, params={"path": str(path)}).pl().rows() == expected.rows()
    table = pq.read_table(path, filters=[("Metadata_Well", "==", well)])
    assert table["Metadata_n"].to_pylist() == frame.filter(pl.col("Metadata_Well") == well)["Metadata_n"].to_list()


def test_that_more_row_groups_than_an_ordinal_can_count_are_read_by_all(tmp_path: Path) -> None:
    height = (1 << 15) + 5
    frame = pl.DataFrame({"Cells_a": np.arange(height, dtype=np.float32)})
    path = written(tmp_path / "p.parquet", [frame], 1)
    assert pl.read_parquet(path).equals(frame)
    assert pq.ParquetFile(path).metadata.num_row_groups == height
    assert duckdb.sql("SELECT sum(Cells_a) FROM read_parquet($p)", params={"p": str(path)}).fetchall() == [
        (frame["Cells_a"].cast(pl.Float64).sum(),)
    ]


@pytest.mark.parametrize("width", [0, 1, 2])
@pytest.mark.parametrize("kind", [pl.Float32, pl.Float64])
def test_that_a_page_stays_far_below_what_its_size_can_say(width: int, kind: type[pl.DataType]) -> None:
    schema = pl.Schema({"Metadata_Well": pl.String(), **{f"Cells_{i}": kind() for i in range(width)}})
    # 2^26 rows is what pyarrow puts into one row group; 2^31 bytes what a page can hold.
    assert row_group_rows(schema) <= 1 << 22


def test_that_heavy_metadata_count_and_a_few_more_change_nothing() -> None:
    features = {f"Cells_{i}": pl.Float32() for i in range(100)}
    plain, annotated = pl.Schema(features), pl.Schema({"Metadata_dose": pl.Float64(), **features})
    assert row_group_rows(annotated) == row_group_rows(plain)
    heavy = pl.Schema({"Cells_0": pl.Float32(), **{f"Metadata_{i}": pl.Float64() for i in range(30)}})
    with resources.limits(memory="512MB") as chosen:
        assert row_group_rows(heavy) * (4 + 30 * 8) <= chosen.working_bytes // 4


def test_that_rows_beyond_one_row_group_of_pyarrow_are_refused_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = pq.ParquetWriter.write_table

    def in_two(self: Any, table: pa.Table, row_group_size: int) -> None:
        plain(self, table, row_group_size=row_group_size // 2)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", in_two)
    with pytest.raises(ValueError, match="too many values"):
        written(tmp_path / "p.parquet", [pl.DataFrame({"Metadata_n": [1, 2, 3, 4]})], 4)
    assert not list(tmp_path.iterdir())


FIRST = pl.DataFrame({"Metadata_Well": ["A"], "Cells_a": pl.Series([1.5], dtype=pl.Float32), "Cells_b": [2.5]})


@pytest.mark.parametrize(
    "second",
    [
        FIRST.drop("Cells_a"),
        FIRST.drop("Metadata_Well"),
        FIRST.with_columns(Cells_c=1.0),
        FIRST.with_columns(Metadata_c=1),
        FIRST.cast({"Cells_a": pl.Float64}),
        FIRST.cast({"Cells_a": pl.String}),
        FIRST.cast({"Cells_b": pl.Int64}),
        FIRST.cast({"Metadata_Well": pl.Categorical}),
        Chunk(FIRST.select("Metadata_Well"), np.ones((1, 1), np.float32), ["Cells_a"]),
    ],
)
def test_that_rows_with_other_columns_are_refused_and_nothing_is_left(tmp_path: Path, second: Any) -> None:
    with pytest.raises(SchemaError, match="other columns than those before"):
        written(tmp_path / "p.parquet", [FIRST, second], 1)
    assert not list(tmp_path.iterdir())


def test_that_columns_in_another_order_come_where_they_belong(tmp_path: Path) -> None:
    path = written(tmp_path / "p.parquet", [FIRST, FIRST.select(reversed(FIRST.columns))], 3)
    assert pl.read_parquet(path).equals(pl.concat([FIRST, FIRST]))


@pytest.mark.parametrize("first", [[], ["Image_x"], ["Image_y"], ["Image_x", "Image_y"]])
def test_that_chunks_are_written_like_their_frames(tmp_path: Path, first: list[str]) -> None:
    """Also where floats are among the metadata that are pages in the file, and with features in another order."""
    metadata = pl.DataFrame(
        {"Metadata_W": ["a", "b"], "Image_x": [1.0, None], "Image_y": pl.Series([1, 2], dtype=pl.Float32)}
    )
    metadata = metadata.select("Metadata_W", *first)
    values = np.array([[1.5, np.nan], [3, 4]], dtype=np.float32)
    one = Chunk(metadata, values, ["Cells_a", "Cells_b"])
    two = Chunk(metadata, values[::-1], ["Cells_b", "Cells_a"])
    expected = pl.concat([one.frame(), one.frame()]).with_columns(pl.col(pl.Float32, pl.Float64).fill_nan(None))
    for parts in ([one, two], [one.frame(), two], [one, two.frame()]):
        assert pl.read_parquet(written(tmp_path / "p.parquet", parts, 3)).equals(expected)
    bare = Chunk(metadata, values[:0], [])
    assert pl.read_parquet(written(tmp_path / "p.parquet", [bare], 3)).equals(metadata)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=9), st.integers(1, 6))
def test_that_chunks_may_be_overwritten_when_the_next_has_been_taken_and_another_comes(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[int, bool]], group: int
) -> None:
    memory = [np.empty((2, 9), np.float32) for _ in range(3)]
    frames = []

    def coming() -> Iterator[pl.DataFrame | Chunk]:
        for number, (height, framed) in enumerate(parts):
            values = memory[number % 3]
            values[:] = np.arange(18).reshape(2, 9) + 100 * number
            metadata = pl.DataFrame({"Metadata_Well": pl.Series([f"W{number}"] * height, dtype=pl.String)})
            chunk = Chunk(metadata, values[:, :height], ["Cells_a", "Cells_b"])
            frames.append(Chunk(metadata, values[:, :height].copy(), chunk.features).frame())
            yield frames[-1] if framed else chunk

    path = written(tmp_path_factory.mktemp("chunks") / "p.parquet", coming(), group)
    if frames:
        assert pl.read_parquet(path).equals(pl.concat(frames))


def test_that_a_chunk_with_too_few_rows_of_metadata_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 rows of metadata, but 3 of features"):
        written(tmp_path / "p.parquet", [Chunk(FIRST[["Metadata_Well"]], np.ones((1, 3), np.float32), ["Cells_a"])], 2)


@pytest.mark.parametrize(
    "frame",
    [
        pl.DataFrame({"Metadata_n": pl.Series([1], dtype=pl.Int128)}),
        pl.DataFrame({"Metadata_n": pl.Series([{}], dtype=pl.Struct([]))}),
        pl.DataFrame({"Metadata_n": pl.Series([object()], dtype=pl.Object)}),
        pl.DataFrame(height=5),
    ],
)
def test_that_what_parquet_does_not_know_is_refused(tmp_path: Path, frame: pl.DataFrame) -> None:
    with pytest.raises(SchemaError, match=r"p\.parquet"):
        written(tmp_path / "p.parquet", [frame], 2)
    assert not list(tmp_path.iterdir())


def test_that_a_frame_of_nothing_is_a_file_of_nothing(tmp_path: Path) -> None:
    assert pl.read_parquet(written(tmp_path / "p.parquet", [pl.DataFrame()], 2)).shape == (0, 0)


@pytest.mark.parametrize("room", [0, 4, 60, 400, 700])
def test_that_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    plain = NewFile.write

    def write(self: NewFile, data: Any, /) -> int:
        if not self._given_up and self.tell() + memoryview(data).nbytes > room:
            raise OSError(errno.ENOSPC, "full")
        return plain(self, data)

    monkeypatch.setattr(NewFile, "write", write)
    (tmp_path / "p.parquet").write_text("before")
    threads = threading.active_count()
    with pytest.raises(StoreError, match="No space left"):
        written(tmp_path / "p.parquet", [FIRST] * 20, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["p.parquet"]
    assert (tmp_path / "p.parquet").read_text() == "before"
    assert threading.active_count() == threads


def test_that_a_folder_that_cannot_be_is_the_error_that_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "p.parquet", tmp_path / "file" / "in" / "p.parquet", tmp_path / ("n" * 300)):
        with pytest.raises(StoreError, match="cannot be written"):
            written(path, [FIRST], 2)


WHOLE = st.integers(-(2**63), 2**63 - 1)
VALUES: st.SearchStrategy[tuple[int, Any]] = st.recursive(
    st.one_of(
        st.tuples(st.sampled_from([I16, I32, I64]), WHOLE),
        st.tuples(st.just(BINARY), st.binary(max_size=200)),
        st.tuples(st.just(BYTE), st.binary(min_size=1, max_size=1)),
        st.tuples(st.just(DOUBLE), st.binary(min_size=8, max_size=8)),
        st.sampled_from([(TRUE, True), (FALSE, False)]),
        st.tuples(st.just(LIST), st.tuples(st.just(I64), st.lists(WHOLE, max_size=20))),
        st.tuples(st.just(LIST), st.tuples(st.just(TRUE), st.lists(st.sampled_from([1, 2]), max_size=20))),
        st.tuples(st.just(LIST), st.tuples(st.just(BINARY), st.lists(st.binary(max_size=3), max_size=20))),
    ),
    lambda inner: st.one_of(
        st.tuples(st.just(STRUCT), st.dictionaries(st.integers(1, 2**15 - 1), inner, max_size=4)),
        st.tuples(
            st.just(LIST),
            st.tuples(st.just(STRUCT), st.lists(st.dictionaries(st.integers(1, 40), inner, max_size=3), max_size=17)),
        ),
    ),
    max_leaves=12,
)


@given(struct=st.dictionaries(st.integers(1, 2**15 - 1), VALUES, max_size=6))
def test_that_decoding_undoes_encoding(struct: Any) -> None:
    assert decode(encode(struct)) == struct
    assert list(decode(encode(struct))) == list(struct)


@given(struct=st.dictionaries(st.integers(1, 2**15 - 1), VALUES, min_size=1, max_size=6), data=st.data())
def test_that_what_stands_around_fields_is_found(struct: Any, data: st.DataObject) -> None:
    fields = dict(sorted(struct.items()))
    first, last = sorted([data.draw(st.sampled_from(list(fields))), data.draw(st.sampled_from(list(fields)))])
    raw = encode(fields)
    before = encode({which: value for which, value in fields.items() if which < first})[:-1]
    upto = encode({which: value for which, value in fields.items() if which <= last})[:-1]
    assert around(raw, first, last) == (before, raw[len(upto) :])


@pytest.mark.parametrize("raw", [b"\x1b\x00\x00", encode({1: (I32, 5)})], ids=["a map", "too short"])
def test_that_what_cannot_be_passed_over_is_told(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"of kind 11|ends before its field 2"):
        around(raw, 1, 2)


@settings(max_examples=20)
@given(frame=frames())
def test_that_footers_of_all_writers_are_kept_to_the_byte(
    tmp_path_factory: pytest.TempPathFactory, frame: pl.DataFrame
) -> None:
    path = tmp_path_factory.mktemp("footers") / "p.parquet"
    names = [name for name in frame.columns if frame[name].dtype != pl.Null]
    writers = [
        lambda: pq.write_table(frame.to_arrow(), path, row_group_size=3, write_page_index=True),
        lambda: pq.write_table(frame.to_arrow(), path, compression="gzip", data_page_version="2.0"),
        lambda: frame.write_parquet(path, row_group_size=3),
        lambda: written(path, [frame], 3),
    ]
    # DuckDB writes no negative spans.
    if names and not any(isinstance(frame[name].dtype, pl.Enum | pl.Categorical | pl.Duration) for name in names):
        given = frame.select(names).to_arrow()
        writers.append(lambda: duckdb.from_arrow(given).write_parquet(str(path)))
    for write in writers:
        write()
        raw = path.read_bytes()
        footer = raw[-8 - int.from_bytes(raw[-8:-4], "little") : -8]
        assert encode(decode(footer)) == footer
