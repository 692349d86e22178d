import json
import os
import pty
import select
import signal
import subprocess
import sys
import time

import polars as pl
import pytest

from cytofast import open_store
from cytofast.cli.shell import Shell
from cytofast.errors import RecipeError
from tests import toy


@pytest.fixture
def store(tmp_path):
    return toy.make_store(tmp_path / "s").path


QUERY = "SELECT Metadata_Plate AS plate, count(*) AS n, list(DISTINCT Metadata_Site) AS sites FROM cells GROUP BY ALL ORDER BY 1"


def test_formats_on_standard_output(cytofast, store):
    status, out, _ = cytofast("sql", QUERY, "--store", store)
    assert status == 0
    assert "plate" in out
    status, out, _ = cytofast("sql", QUERY, "--store", store, "--format", "json")
    assert json.loads(out) == [{"plate": "P1", "n": 60, "sites": [1]}, {"plate": "P2", "n": 60, "sites": [1]}]
    assert len(out.splitlines()) == 2, "a row a line"
    status, out, _ = cytofast("sql", QUERY, "--store", store, "--format", "csv")
    assert out.splitlines() == ["plate,n,sites", "P1,60,[1]", "P2,60,[1]"]
    status, out, _ = cytofast("sql", "SELECT 0 / 0 AS x, 1 AS y WHERE false", "--store", store, "--format", "json")
    assert json.loads(out) == []
    status, out, _ = cytofast("sql", "SELECT 'nan'::DOUBLE AS x, [1, NULL] AS y", "--store", store, "--format", "json")
    assert json.loads(out) == [{"x": None, "y": [1, None]}]


@pytest.mark.parametrize("ending", ["parquet", "csv", "json", "txt"])
def test_files(cytofast, store, tmp_path, ending):
    path = tmp_path / f"answer.{ending}"
    status, _, said = cytofast("sql", QUERY, "--store", store, "-o", path)
    assert status == 0
    assert f"wrote {path}: 2 rows" in said
    if ending == "parquet":
        assert pl.read_parquet(path)["n"].to_list() == [60, 60]
    else:
        assert "P2" in path.read_text()
    assert {p.name for p in tmp_path.iterdir()} == {"s", path.name}
    status, _, said = cytofast("sql", "SELECT 1", "--store", store, "-o", tmp_path / "no" / f"x.{ending}")
    assert (status == 1) == (ending != "parquet"), "Parquet makes the folder"


def test_a_file_with_parameters_and_a_table(cytofast, store, tmp_path):
    plain, declared, table = tmp_path / "plain.sql", tmp_path / "declared.sql", tmp_path / "t.csv"
    plain.write_text("SELECT count(*) AS n FROM cells WHERE Metadata_Plate = $plate")
    declared.write_text("-- Counts.\n-- param n INTEGER = 3  how many\n-- grain n\nSELECT $n + 1 AS n")
    table.write_text("broad_sample,target\nBRD-1,A\n")
    assert (
        json.loads(cytofast("sql", "--file", plain, "--param", "plate=P1", "--store", store, "--format", "json")[1])[0][
            "n"
        ]
        == 60
    )
    assert json.loads(cytofast("sql", "--file", declared, "--store", store, "--format", "json")[1])[0]["n"] == 4
    assert (
        json.loads(cytofast("sql", "--file", declared, "--param", "n=7", "--store", store, "--format", "json")[1])[0][
            "n"
        ]
        == 8
    )
    query = "SELECT Metadata_target AS t, count(*) AS n FROM cells JOIN c USING (Metadata_broad_sample) GROUP BY ALL"
    out = cytofast("sql", query, "--store", store, "--table", f"c={table}", "--format", "json")[1]
    assert json.loads(out) == [{"t": "A", "n": 10}]


def test_questions(cytofast, store):
    status, out, _ = cytofast("ask")
    assert status == 0
    assert "control_drift" in out
    assert len(json.loads(cytofast("ask", "--format", "json")[1])) >= 12
    status, out, _ = cytofast("ask", "plate_coverage", "--store", store, "--batch", "B1", "--format", "json")
    assert [row["cells"] for row in json.loads(out)] == [60, 60]
    assert json.loads(cytofast("ask", "plate_coverage", "--store", store, "--batch=none", "--format", "json")[1]) == []
    assert (
        json.loads(cytofast("ask", "plate_coverage", "--store", store, "--param", "batch=none", "--format", "json")[1])
        == []
    )


def test_a_catalog(cytofast, store, tmp_path):
    status, out, _ = cytofast("catalog", store)
    assert status == 0
    assert (store / "catalog.duckdb").is_file()
    assert "duckdb -readonly catalog.duckdb" in out
    status, out, _ = cytofast("catalog", store, "-o", tmp_path / "x.duckdb", "--absolute")
    assert (tmp_path / "x.duckdb").is_file()


@pytest.mark.parametrize(
    ("arguments", "message", "status"),
    [
        (("sql", "--store", "s"), "give a query", 2),
        (("sql", "SELECT 1", "--file", "x.sql", "--store", "s"), "give a query", 2),
        (("sql", "--file", "x.sql", "--store", "s"), "x.sql: cannot be read", 1),
        (("sql", "SELECT 1", "--store", "nowhere"), "nowhere does not exist", 1),
        (("sql", "SELEC 1", "--store", "s"), "syntax error", 2),
        (("sql", "SELECT $a", "--store", "s"), "the query wants '$a'", 2),
        (("sql", "SELECT 1", "--param", "a", "--store", "s"), "not NAME=VALUE", 2),
        (("sql", "SELECT 1", "--param", "a=1", "--param", "a=2", "--store", "s"), "given twice", 2),
        (("sql", "SELECT 1", "-o", "x.docx", "--store", "s"), "does not tell the format", 2),
        (("sql", "COPY cells TO 'x.csv'", "--store", "s"), "refused: COPY", 2),
        (("sql", "SELECT count(*) FROM range(99999999999) r WHERE hash(r.range) = 1", "--store", "s", "--time-limit", "0.2"), "stopped after 0.2", 1),  # noqa: E501
        (("ask", "control_drif", "--store", "s"), "did you mean 'control_drift'", 2),
        (("ask", "control_drift"), "--store DIR", 2),
        (("ask", "control_drift", "--store", "s", "--bach", "x"), "did you mean 'batch'", 2),
        (("ask", "control_drift", "--store", "s", "--batch"), "needs a value", 2),
        (("ask", "control_drift", "--store", "s", "x"), "not an option", 2),
        (("catalog", "nowhere"), "nowhere does not exist", 1),
        (("shell", "nowhere"), "nowhere does not exist", 1),
    ],
)  # fmt: skip
def test_errors(cytofast, store, tmp_path, monkeypatch, arguments, message, status):
    monkeypatch.chdir(tmp_path)
    found, out, said = cytofast(*arguments)
    assert message in " ".join(said.split()), said
    assert found == status
    assert "Traceback" not in said + out
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


# --- the shell -----------------------------------------------------------------------------------------------------


def test_nothing_is_written_into_the_store(cytofast, store, tmp_path):
    """A slip of the hand would replace a plate: the files of a store are its own."""
    held = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    plate = next(path for path in held if path.suffix == ".parquet")
    opened = open_store(store)
    for output in (plate, store / "new.parquet", store / "level=cells" / ".." / "x.csv"):
        status, _, said = cytofast("sql", "FROM plates", "--store", store, "-o", output)
        assert (status, "lies inside the store" in said) == (2, True)
        with pytest.raises(RecipeError, match="inside the store"):
            opened.join("cells", pl.DataFrame({"k": ["P1"]}), on={"Metadata_Plate": "k"}).write(output)
    status, _, said = cytofast("map", "cells", "--store", store, "--pos-sameby", "Metadata_Plate", "-o", plate)
    assert (status, "lies inside the store" in said) == (2, True)
    status, _, said = cytofast("catalog", store, "-o", plate)
    assert (status, "no DuckDB file" in said) == (1, True)
    assert {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} == held


def test_a_catalog_is_written_anew_whatever_has_become_of_it(cytofast, store, tmp_path):
    for there in (b"", b"damaged"):
        (store / "catalog.duckdb").write_bytes(there)
        assert cytofast("sql", "SELECT 1", "--store", store)[0] == 0
        assert cytofast("catalog", store)[0] == 0
    for _ in range(2):
        assert cytofast("catalog", store, "-o", tmp_path / "mine.db")[0] == 0


def test_a_query_of_the_users_own_needs_no_more_than_its_parameters(cytofast, store, tmp_path):
    file = tmp_path / "mine.sql"
    file.write_text("-- param n INTEGER = 3  how many\nSELECT $n AS n")
    _, out, _ = cytofast("sql", "--file", file, "--store", store, "--param", "n=4", "--format", "csv")
    assert out.splitlines() == ["n", "4"]
    file.write_text("-- param n INT = 3\nSELECT $n AS n")
    status, _, said = cytofast("sql", "--file", file, "--store", store)
    assert status == 2
    assert f"{file}: the header line" in said.replace("\n", "")
    assert "VARCHAR, INTEGER, DOUBLE or BOOLEAN" in said


@pytest.fixture
def shell(store, tmp_path):
    return Shell(open_store(store), history=tmp_path / "history")


def test_the_shell_answers_line_by_line(shell, capfd):
    for line in [
        "SELECT count(*)",
        "AS n FROM cells;",
        ".format json",
        "SELECT 7 AS n;",
        ".views",
        ".ask plate_coverage",
        ".help",
    ]:
        assert shell.take(line)
    out, said = capfd.readouterr()
    assert "120" in out
    assert '[{"n": 7}]' in out
    assert "platemap_wells" in out
    assert said == ""
    for line, message in [
        ("SELEC;", "syntax"),
        (".ask x", "unknown question"),
        ("COPY cells TO 'x';", "refused"),
        (".ask", ""),
    ]:
        assert shell.take(line)
        assert message in capfd.readouterr().err
    assert not shell.take(".quit")


def test_the_shell_completes_views_columns_and_questions(shell):
    assert shell.complete("Metadata_bro", 0) == "Metadata_broad_sample"
    assert shell.complete("plate_c", 0) == "plate_coverage"
    assert shell.complete("dropped_f", 0) in {"dropped_features", "dropped_feature_reasons"}
    assert shell.complete("cells_intensity_meanintensity_1", 0) == "Cells_Intensity_MeanIntensity_1"
    assert shell.complete("nothing_like_it", 0) is None


def test_ctrl_c_stops_the_query_and_not_the_shell(store, tmp_path):
    leader, follower = pty.openpty()
    environment = {**os.environ, "HOME": str(tmp_path), "TERM": "dumb"}
    code = "from cytofast.cli.app import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "shell", str(store)],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=environment,
        start_new_session=True,
    )
    os.close(follower)
    seen = ""

    def until(text: str) -> None:
        nonlocal seen
        end = time.monotonic() + 60
        while text not in seen:
            assert time.monotonic() < end, seen
            if select.select([leader], [], [], 0.1)[0]:
                seen += os.read(leader, 65536).decode(errors="replace")

    try:
        until("cytofast>")
        os.write(leader, b"SELECT count(*) FROM range(99999999999) r WHERE hash(r.range) = 1;\n")
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        until("stopped")
        os.write(leader, b"SELECT 40 + 2 AS answer;\n")
        until("42")
        os.write(leader, b".quit\n")
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(leader)
    assert "40 + 2" in (tmp_path / ".cytofast_history").read_text()


def test_a_value_with_spaces_is_quoted_in_the_shell(shell, capfd):
    assert shell.take(".format json")
    assert shell.take('.ask replicate_counts --by "Metadata_broad sample"')
    assert shell.take(".ask replicate_counts --by Metadata_broad_sample")
    assert shell.take('.ask replicate_counts --by "left open')
    said = capfd.readouterr()
    assert said.out.startswith("[]\n[{")
    assert "No closing quotation" in said.err
