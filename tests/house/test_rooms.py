"""Does a line know its room? What may stand only where it belongs."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "cytofast"
MODULES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(PACKAGE)) for path in MODULES]

# What a line may hold only in these rooms: (pattern of the unparsed call or name, rooms).
CALLS = {
    "prange": {"kernels"},
    "pl.col": {"steps", "retrieval", "modalities", "tasks", "schema.py", "blocks.py"},
    "scan_parquet": {"ingest", "store"},
    "sink_parquet": {"ingest", "store"},
    "execute": {"store"},
    "environ": {"resources.py"},
    "getenv": {"resources.py"},
    "default_rng": {"kernels"},
    "SeedSequence": {"kernels"},
    "perf_counter": set(),
    "typer.Option": {"cli"},
    "typer.Argument": {"cli"},
    "pickle.load": set(),
}
# Asks databases that CellProfiler wrote, which only SQL can read.
SQL_ROOMS = {"store", "ingest/sqlite_file.py"}
NOWHERE = {"eval", "exec"}
SQL = re.compile(r"^\s*(SELECT|CREATE|INSERT|ATTACH|COPY|WITH)\s+\S+.*\s(FROM|AS|TO|VIEW|INTO|TABLE)\b", re.DOTALL)


def room(name: str) -> str:
    return name.split("/", maxsplit=1)[0]


def violations(name: str, tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            text = ast.unparse(node)
            if text in NOWHERE:
                found.append(f"{name}:{node.lineno}: {text}")
            for call, rooms in CALLS.items():
                if (text == call or text.endswith(f".{call}")) and room(name) not in rooms:
                    found.append(f"{name}:{node.lineno}: {text}")
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and SQL.match(node.value)
            and not {room(name), name} & SQL_ROOMS
        ):
            found.append(f"{name}:{node.lineno}: SQL text")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_line_knows_its_room(name):
    assert not violations(name, ast.parse((PACKAGE / name).read_text()))


def test_the_look_finds_what_it_looks_for():
    wrong = "import os, polars as pl\nos.environ['X']\npl.col('a')\nq = 'SELECT a FROM b'\nconnection.execute(q)\n"
    assert len(violations("cli/app.py", ast.parse(wrong))) == 4


@pytest.mark.parametrize("name", NAMES)
def test_modules_are_small_and_say_what_they_are(name):
    text = (PACKAGE / name).read_text()
    assert ast.get_docstring(ast.parse(text)), "a module begins with what it is"
    assert text.count("\n") <= 400, "would it be better as two rooms?"
    assert Path(name).stem not in {"utils", "helpers", "manager", "misc", "common"}


@pytest.mark.parametrize("name", NAMES)
def test_public_names_are_documented(name):
    tree = ast.parse((PACKAGE / name).read_text())
    bare = [
        f"{node.name} (line {node.lineno})"
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert not bare
