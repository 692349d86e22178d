"""SQL over a store reads the store and nothing else: every line here is an attempt to do more."""

from pathlib import Path

import pytest

from cytofast import RecipeError, StoreError, limits
from cytofast.store import query_safety
from cytofast.store.answering import Limits, connect, watched
from tests import toy

SECRET = "secret,of,others\n1,2,3\n"

ATTEMPTS = [
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM read_csv_auto('{secret}')",
    "SELECT * FROM '{secret}'",
    'SELECT * FROM "{secret}"',
    "FROM '{secret}'",
    "DESCRIBE SELECT * FROM '{secret}'",
    "SUMMARIZE '{secret}'",
    "SELECT * FROM query_table('{secret}')",
    "SELECT * FROM sniff_csv('{secret}')",
    "SELECT content FROM read_text('{secret}')",
    "SELECT content FROM read_blob('{secret}')",
    "SELECT * FROM read_json('{secret}')",
    "SELECT * FROM parquet_scan('{secret}')",
    "SELECT * FROM parquet_metadata('{secret}')",
    "SELECT * FROM read_duckdb('{secret}')",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM 'https://example.org/x.csv'",
    "SELECT * FROM read_parquet('s3://bucket/x.parquet')",
    "WITH a AS (SELECT * FROM read_csv('{secret}')) SELECT * FROM a",
    "SELECT (SELECT count(*) FROM read_csv('{secret}'))",
    "SELECT * FROM wells WHERE EXISTS (SELECT 1 FROM read_text('{secret}'))",
    "SELECT 1 UNION ALL SELECT count(*) FROM read_csv('{secret}')",
    "SELECT * FROM query('SELECT * FROM read_csv(''{secret}'')')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "COPY (SELECT 1) TO '{folder}/out.csv'",
    "COPY cells TO '{folder}/out.parquet'",
    "COPY (SELECT 1 AS a) TO '{own}'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{folder}/out.csv'",
    "EXPLAIN COPY (SELECT 1) TO '{folder}/out.csv'",
    "PRAGMA database_list; COPY wells TO '{folder}/out.parquet'",
    "SELECT 1; COPY cells TO '{folder}/out.parquet'",
    "SELECT 1; SELECT 2",
    "EXPORT DATABASE '{folder}/out'",
    "IMPORT DATABASE '{folder}/out'",
    "ATTACH '{folder}/out.duckdb'",
    "DETACH memory",
    "USE memory",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "RESET memory_limit",
    "SET memory_limit = '100GB'",
    "SET VARIABLE x = 1",
    "PRAGMA enable_profiling",
    "PRAGMA database_list",
    "CALL enable_logging()",
    "SELECT * FROM enable_logging(storage := 'file', storage_path := '{folder}/out')",
    "SELECT write_log('x')",
    "CREATE TABLE t AS SELECT 1",
    "CREATE OR REPLACE VIEW cells AS SELECT 1",
    "CREATE MACRO f(x) AS x",
    "CREATE SECRET (TYPE s3)",
    "CREATE TYPE t AS ENUM ('a')",
    "INSERT INTO stored.partitions VALUES (1)",
    "DELETE FROM stored.partitions",
    "UPDATE stored.partitions SET rows = 0",
    "WITH x AS (INSERT INTO stored.partitions BY NAME SELECT 'x' AS level RETURNING *) SELECT * FROM x",
    "WITH x AS (DELETE FROM stored.partitions RETURNING *) SELECT * FROM x",
    "DROP VIEW cells",
    "ALTER VIEW cells RENAME TO x",
    "COMMENT ON VIEW cells IS 'x'",
    "TRUNCATE stored.partitions",
    "VACUUM",
    "CHECKPOINT",
    "BEGIN",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "SELECT * FROM checkpoint()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM pandas_scan(1)",
    "SELECT getenv('HOME')",
    "",
    "-- nothing",
    "SELEC 1",
]


@pytest.fixture
def store(tmp_path):
    return toy.make_store(tmp_path / "store")


@pytest.mark.parametrize("query", ATTEMPTS)
def test_an_attempt_is_refused_with_a_clear_error(store, tmp_path, query):
    secret = tmp_path / "secret.csv"
    secret.write_text(SECRET)
    own = store.partitions("cells")[0].path
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    filled = query.format(secret=secret, folder=tmp_path, own=own)
    with pytest.raises(RecipeError) as caught:
        store.sql(filled)
    assert "secret,of" not in str(caught.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("query", [q for q in ATTEMPTS if "{secret}" in q or "/etc/" in q or "glob(" in q])
def test_the_engine_alone_opens_no_other_file(store, tmp_path, monkeypatch, query):
    """The second lock holds without the first."""
    secret = tmp_path / "secret.csv"
    secret.write_text(SECRET)
    monkeypatch.setattr(query_safety, "checked", lambda connection, text: set())
    with pytest.raises((RecipeError, StoreError)):
        store.sql(query.format(secret=secret, folder=tmp_path))


@pytest.mark.parametrize(
    "query", [q for q in ATTEMPTS if "{folder}/out" in q or q.startswith(("SET e", "SET l", "INS", "LOAD"))]
)
def test_the_engine_alone_writes_no_file_and_keeps_its_settings(store, tmp_path, monkeypatch, query):
    monkeypatch.setattr(query_safety, "checked", lambda connection, text: set())
    with pytest.raises((RecipeError, StoreError)):
        store.sql(query.format(folder=tmp_path))
    assert not list(tmp_path.glob("out*"))


def test_variables_of_the_caller_are_not_tables(store):
    private = toy.cells("P9")  # noqa: F841  (a table by this name must not be found)
    with pytest.raises(RecipeError, match=r"views are .*'cells'"):
        store.sql("SELECT * FROM private")


ALLOWED = [
    "SELECT count(*) FROM cells",
    "FROM cells LIMIT 1",
    "VALUES (1)",
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 3) SELECT * FROM t",
    "SELECT * FROM range(3), unnest([1, 2])",
    "DESCRIBE cells",
    "SUMMARIZE SELECT Metadata_Well FROM cells",
    "SHOW TABLES",
    "EXPLAIN SELECT 1",
    "EXPLAIN ANALYZE SELECT count(*) FROM cells",
    "PIVOT (SELECT Metadata_Plate, Metadata_Well FROM cells) ON Metadata_Plate IN ('P1', 'P2') USING count(*)",
    "SELECT COLUMNS('Cells_.*') FROM cells",
    "SELECT table_name FROM information_schema.tables",
    "SELECT Metadata_Well, count(*) OVER () FROM cells QUALIFY row_number() OVER () = 1;",
]


@pytest.mark.parametrize("query", ALLOWED)
def test_what_reads_is_allowed(store, query):
    assert store.sql(query).height > 0


def test_pivot_says_what_to_do(store):
    with pytest.raises(RecipeError, match=r"PIVOT table ON column IN"):
        store.sql("PIVOT cells ON Metadata_Plate USING count(*)")


def test_unrestricted_is_a_choice(store, tmp_path):
    (tmp_path / "open.csv").write_text("a\n1\n")
    assert store.sql(f"SELECT a FROM read_csv('{tmp_path}/open.csv')", unrestricted=True)["a"].to_list() == [1]


def test_values_are_bound_not_pasted(store):
    nasty = "P1' OR '1'='1"
    assert store.sql("SELECT count(*) AS n FROM cells WHERE Metadata_Plate = $p", {"p": nasty})["n"].item() == 0
    assert store.sql("SELECT count(*) AS n FROM cells WHERE Metadata_Plate = ?", ["P1"])["n"].item() == 60
    for given, message in [({}, r"\$p"), ({"p": 1, "q": 2}, r"\$q"), ([1], r"wants '\$p'"), ("P1", "not a text")]:
        with pytest.raises(RecipeError, match=message):
            store.sql("SELECT $p", given)


def test_a_time_limit_stops_a_query(store):
    with pytest.raises(StoreError, match=r"stopped after 0\.2 seconds"):
        store.sql("SELECT count(*) FROM range(100000000000) AS r WHERE hash(r.range) % 7 = 1", seconds=0.2)


def test_a_memory_limit_is_an_error_with_a_hint(store, tmp_path, monkeypatch):
    monkeypatch.setenv("CYTOFAST_SCRATCH", "/proc/nowhere")
    with limits("300MB", 1), pytest.raises(StoreError):
        store.sql("SELECT list(hash(r.range)) FROM range(200000000) AS r")


def test_spilling_leaves_no_files_behind(store, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("CYTOFAST_SCRATCH", str(scratch))
    with limits("300MB", 2):
        query = (
            "SELECT max(n) AS n FROM (SELECT row_number() OVER (ORDER BY k) AS n FROM "
            "(SELECT hash(r.range)::VARCHAR || repeat('x', 60) AS k FROM range(2000000) AS r))"
        )
        assert store.sql(query)["n"].item() == 2_000_000
    assert not list(scratch.iterdir())


def test_an_interrupt_stops_the_query_at_once():
    import _thread
    import signal
    import threading

    connection = connect()
    # A shell starts what runs in the background with interrupts ignored; nothing would ever stop the query then.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Timer(0.3, _thread.interrupt_main).start()
        with pytest.raises(KeyboardInterrupt):
            watched(
                connection,
                lambda: connection.sql(
                    "SELECT count(*) FROM range(100000000000) r WHERE hash(r.range) % 7 = 1"
                ).fetchall(),
                Limits(),
            )
    finally:
        signal.signal(signal.SIGINT, before)
    assert connection.sql("SELECT 1").fetchall() == [(1,)]


def test_every_reading_function_of_this_engine_is_refused():
    """A new version of the engine may bring new doors; those known by their names are looked at here."""
    connection = connect()
    names = connection.sql(
        "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = 'table'"
    ).fetchall()
    doors = {n for (n,) in names if n.startswith(("read_", "parquet_", "sniff", "glob", "pandas", "arrow", "python"))}
    assert len(doors) > 10
    for name in doors:
        with pytest.raises(RecipeError, match="not allowed"):
            query_safety.checked(connection, f"SELECT * FROM {name}('x')")


def test_a_store_in_an_awkward_folder_is_read(tmp_path):
    folder = tmp_path / 'it\'s $x 100% a "store"'
    folder.mkdir()
    store = toy.make_store(Path(folder) / "s")
    assert store.sql("SELECT count(*) AS n FROM cells")["n"].item() == 120
