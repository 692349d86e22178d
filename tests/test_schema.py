import pytest

from cytofast import RecipeError, SchemaError
from cytofast.schema import as_columns, parse_features


def test_a_single_name_is_one_feature():
    name = "Cells_Texture_Contrast_Mito_10_03_256"
    assert parse_features(name).equals(parse_features([name]))


def test_names_that_are_no_text_are_refused():
    with pytest.raises(SchemaError, match="names of features are text, not None"):
        parse_features(["Cells_A_b", None])


def test_columns_named_twice_are_refused():
    with pytest.raises(RecipeError, match="'a' are named more than once in 'a', 'b', 'a'"):
        as_columns(["a", "b", "a"])
