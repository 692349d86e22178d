"""select, correct and consensus on files: what they take, what they refuse, and that a fit can be written."""

import numpy as np
import polars as pl
import pytest


@pytest.fixture
def wells(tmp_path):
    rng = np.random.Generator(np.random.PCG64(0))
    x = rng.normal(size=(48, 4))
    head = {
        "Metadata_Plate": ["P", "Q"] * 24,
        "Metadata_pert": [f"t{i % 8}" for i in range(48)],
        "Metadata_control_type": ["negcon" if i % 3 else None for i in range(48)],
    }
    path = tmp_path / "wells.parquet"
    pl.DataFrame(head).hstack(pl.DataFrame(x, schema=[f"Cells_A_f{i}" for i in range(4)])).write_parquet(path)
    return path


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ('drop_listed:blocklist=["Cells_A_f0","Cells_A_f2"]', ["Cells_A_f1", "Cells_A_f3"]),
        ("drop_listed:blocklist=Cells_A_f0", ["Cells_A_f1", "Cells_A_f2", "Cells_A_f3"]),
        ('keep_listed:keep=["Cells_A_f0"]', ["Cells_A_f0"]),
        (
            "drop_outliers:cutoff=0.0, reference=Metadata_control_type IN ('negcon', 'x,y') ,"
            'by=["Metadata_Plate", "Metadata_pert"]',
            [],
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::cytofast.errors.ProfileWarning")
def test_rules_with_commas_of_their_own(cytofast, tmp_path, wells, rule, kept):
    out = tmp_path / "selected.parquet"
    status, _, said = cytofast("select", wells, "-o", out, "--rule", rule, "--report", tmp_path / "why.csv")
    assert status == 0, said
    assert [name for name in pl.read_parquet(out).columns if name.startswith("Cells")] == kept
    assert pl.read_csv(tmp_path / "why.csv").columns[0] == "order"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--method", "spher"), "unknown correction 'spher'; did you mean 'sphere'"),
        (("--method", "aggregate"), "unknown correction 'aggregate'"),
        (("--method", "drop_missing"), "unknown correction 'drop_missing'"),
        (("--set", "epsilon=inf"), "epsilon must be 0 or a positive number"),
        (("--set", "epsilon"), "is not key=value"),
        (("--method", "median_polish", "--reference", "x"), "unknown key of step 'median_polish' 'reference'"),
    ],
)
def test_what_is_no_correction(cytofast, tmp_path, wells, arguments, message):
    status, _, said = cytofast("correct", wells, "-o", tmp_path / "out.parquet", *arguments)
    assert status == 2
    assert message in " ".join(said.split())
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize("method", ["sphere", "principal_components", "inverse_normal"])
def test_a_fit_with_lists_goes_to_parquet_and_is_refused_as_text(cytofast, tmp_path, wells, method):
    out, fit = tmp_path / "out.parquet", tmp_path / "fit.parquet"
    assert cytofast("correct", wells, "-o", out, "--method", method, "--fit", fit)[0] == 0
    assert pl.read_parquet(fit).height == 4
    status, _, said = cytofast(
        "correct", wells, "-o", tmp_path / "b.parquet", "--method", method, "--fit", tmp_path / "f.csv"
    )
    assert status in {1, 2}
    assert "Traceback" not in said
    assert "f.csv" in said


@pytest.mark.parametrize("command", ["select", "correct", "consensus", "recipe", "explain"])
def test_help_fits_80_columns(cytofast, command):
    status, out, _ = cytofast(command, "--help")
    assert status == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "Example:" in out
