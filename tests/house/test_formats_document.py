"""docs/formats.md: its Python runs, its mapping is one, and it names the formats that there are."""

import doctest
import re
from pathlib import Path

from cytofast import ColumnMapping
from cytofast.ingest.endings import kind_of

DOCUMENT = Path(__file__).parents[2] / "docs" / "formats.md"


def test_its_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = doctest.testfile(str(DOCUMENT), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.attempted > 3
    assert results.failed == 0


def test_its_mapping_is_one():
    text = DOCUMENT.read_text()
    mapping = ColumnMapping.from_toml(re.search(r"```toml\n(.*?)```", text, re.DOTALL)[1])
    assert mapping.objects["Primary Target"] == "Nuclei"


def test_its_formats_are_known():
    named = re.findall(r"^\| ((?:`\.[a-z0-9.]+`[ ()]*)+)", DOCUMENT.read_text(), re.MULTILINE)
    endings = [ending for cell in named for ending in re.findall(r"`(\.[a-z0-9.]+)`", cell)]
    assert len(endings) >= 8
    for ending in endings:
        assert kind_of(Path(f"x{'.csv' if ending == '.gz' else ''}{ending}"))
