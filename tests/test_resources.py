import pytest

from cytofast import RecipeError, resources


@pytest.mark.parametrize("text", ["abc", "0", "-3", "1.5", "²", "٣x"])
def test_a_number_of_threads_that_is_none_is_refused(monkeypatch, text):
    monkeypatch.setenv("CYTOFAST_THREADS", text)
    with pytest.raises(RecipeError, match=f"CYTOFAST_THREADS must be a whole number, at least 1, not '{text}'"):
        resources.current()


def test_the_environment_says_how_many_threads(monkeypatch):
    monkeypatch.setenv("CYTOFAST_THREADS", " 3 ")
    assert resources.current().threads == 3


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "many"])
def test_limits_refuse_the_same(threads):
    with (
        pytest.raises(RecipeError, match="threads must be a whole number, at least 1"),
        resources.limits(threads=threads),
    ):
        pass
