"""Small SQLite files as CellProfiler and cytominer-database write them, from the CSV files of an export."""

import csv
import sqlite3
from pathlib import Path


def read_csv(path):
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    return header, [[None if field in ("", "nan") else number(field) for field in row] for row in rows]


def number(field):
    try:
        return int(field)
    except ValueError:
        try:
            return float(field)
        except ValueError:
            return field


def write_database(path: Path, folder: Path, *, style="per", table=None, order=lambda rows: rows, prefix="") -> Path:
    """The tables of ``folder``: ``style`` is ``per`` (CellProfiler) or ``plain`` (cytominer-database)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    for file in sorted(folder.glob("*.csv")):
        name = file.stem
        header, rows = read_csv(file)
        columns = []
        for column in header:
            if column == "ObjectNumber" and style == "per":
                columns.append(f"{name}_Number_Object_Number")
            elif column in ("ImageNumber", "ObjectNumber", "TableNumber"):
                columns.append(column)
            else:
                columns.append(f"{name}_{column}")
        if table is not None:
            columns, rows = ["TableNumber", *columns], [[table, *row] for row in rows]
        make_table(connection, f"{prefix}Per_{name}" if style == "per" else name, columns, order(rows))
    connection.commit()
    connection.close()
    return path


def make_table(connection, name, columns, rows):
    exists = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", [name]).fetchone()
    if not exists:
        types = ["TEXT" if column == "TableNumber" or "Metadata_" in column else "FLOAT" for column in columns]
        described = ", ".join(f'"{column}" {kind}' for column, kind in zip(columns, types, strict=True))
        connection.execute(f'CREATE TABLE "{name}" ({described})')
    connection.executemany(f'INSERT INTO "{name}" VALUES ({", ".join("?" * len(columns))})', rows)


def change(path: Path, *statements: str) -> Path:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return path
