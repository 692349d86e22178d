"""What is installed is what stands in the tree, and importing it costs nothing."""

import ast
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import cytofast

ROOT = Path(__file__).parents[2]


def test_the_wheel_holds_the_tree(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if tracked.returncode:
        pytest.skip("not a git checkout, so it is not known which files belong to the project")
    for name in tracked.stdout.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    kinds = {".py", ".toml", ".sql", ".typed", ".txt", ".css", ".js"}
    tree = {str(p.relative_to(source)) for p in (source / "cytofast").rglob("*") if p.is_file() and p.suffix in kinds}
    tree |= {
        f"cytofast/sql/{p.relative_to(source / 'sql')}"
        for p in (source / "sql").rglob("*")
        if p.is_file() and p.suffix in kinds
    }
    assert packed == tree


def test_import_loads_nothing_heavy():
    heavy = ("numba", "duckdb", "sklearn", "polars", "pyarrow", "numpy")
    code = f"import sys, cytofast; print(*[m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("name", cytofast.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert getattr(cytofast, name).__doc__


def test_type_checkers_see_the_same_names():
    tree = ast.parse((ROOT / "cytofast" / "__init__.py").read_text())
    checking = next(node for node in tree.body if isinstance(node, ast.If))
    names = {alias.asname for node in checking.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert names == set(cytofast.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Agregate'"):
        cytofast.Agregate  # noqa: B018


def test_every_dependency_has_its_reason():
    text = (ROOT / "pyproject.toml").read_text()
    declared = tomllib.loads(text)["project"]["dependencies"]
    for line in text.splitlines():
        for dependency in declared:
            if line.strip().startswith(f'"{dependency}"'):
                assert "#" in line, f"{dependency} needs a reason"
