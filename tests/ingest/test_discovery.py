import pytest

from cytofast.errors import DataError, RecipeError
from cytofast.ingest.cellprofiler import plan
from cytofast.ingest.discovery import discover
from tests.ingest.exports import write_site


def gallery(root, batch="B1", plate="P", well="A01", site=1, **changes):
    folder = root / "analysis" / batch / plate / "analysis" / f"{plate}-{well}-{site}"
    return write_site(folder, **{"plate": plate, "well": well, "site": site, **changes})


def test_the_gallery_layout_is_the_same_from_every_level(tmp_path):
    site = gallery(tmp_path)
    gallery(tmp_path, well="A02")
    for source in (tmp_path, tmp_path / "analysis", site.parents[2], site.parents[1], site.parent):
        (export,) = discover(source)
        assert (export.batch, export.plate) == ("B1", "P")
        assert [folder.name for folder in export.folders] == ["P-A01-1", "P-A02-1"]
    (alone,) = discover(site)
    assert alone.batch == "B1"
    assert alone.folders[0].table_number == discover(tmp_path)[0].folders[0].table_number


def test_a_relative_source_is_named_by_where_it_is(tmp_path, monkeypatch):
    write_site(tmp_path / "Plate7", plate=None)
    monkeypatch.chdir(tmp_path / "Plate7")
    (export,) = discover(".")
    assert export.plate == "Plate7"
    assert export.named_by == "the folder's name"


def test_plates_of_two_batches_are_kept_apart(tmp_path):
    gallery(tmp_path, batch="B2")
    gallery(tmp_path, batch="B1")
    assert [(e.batch, e.plate) for e in discover(tmp_path)] == [("B1", "P"), ("B2", "P")]


def test_plate_names_may_hold_anything(tmp_path):
    gallery(tmp_path, plate="my-plate 1-é", well="AF48")
    (export,) = discover(tmp_path)
    assert export.plate == "my-plate 1-é"
    assert plan(export).sites[0].well == "AF48"


def test_folders_of_folders_and_names_in_any_case(tmp_path):
    for name, well in (("1", "A01"), ("2", "b2")):
        folder = write_site(tmp_path / "data" / name, well=well)
        (folder / "Image.csv").rename(folder / "image.csv")
        (folder / "Cells.csv").rename(folder / "CELLS.csv")
    (export,) = discover(tmp_path)
    assert [site.well for site in plan(export).sites] == ["A01", "B02"]


def test_folder_names_tell_well_and_site_where_the_image_does_not(tmp_path):
    write_site(tmp_path / "X" / "C05-3", plate=None, well=None, site=None)
    (export,) = discover(tmp_path)
    (site,) = plan(export).sites
    assert (export.plate, site.well, site.site) == ("X", "C05", "3")
    assert discover(tmp_path, plate="told")[0].plate == "told"


def test_a_contradiction_names_both(tmp_path):
    gallery(tmp_path, well="A01")
    write_site(tmp_path / "analysis/B1/P/analysis/P-A02-1", plate="Q", well="A02")
    with pytest.raises(DataError, match=r"Metadata_Plate is 'Q'.*'P-A02-1' is of plate 'P'"):
        plan(discover(tmp_path)[0])
    write_site(tmp_path / "analysis/B1/P/analysis/P-A02-1", plate="P", well="A03")
    with pytest.raises(DataError, match=r"Metadata_Well is 'A03'.*of well 'A02'"):
        plan(discover(tmp_path)[0])


def test_an_argument_that_contradicts_is_an_error(tmp_path):
    gallery(tmp_path)
    with pytest.raises(DataError, match=r"Metadata_Plate is 'P' here, but 'Q' was asked for"):
        discover(tmp_path, plate="Q")
    with pytest.raises(DataError, match=r"Metadata_Batch is 'B1' here, but 'Z' was asked for"):
        discover(tmp_path, batch="Z")
    assert discover(tmp_path, plate="P", batch="B1")


def test_loops_of_links_end(tmp_path):
    write_site(tmp_path / "data" / "1")
    (tmp_path / "data" / "loop").symlink_to(tmp_path)
    (tmp_path / "data" / "loop2").symlink_to(tmp_path / "data" / "loop2")
    (export,) = discover(tmp_path / "data")
    assert len(export.folders) == 1


def test_linked_folders_are_read(tmp_path):
    write_site(tmp_path / "elsewhere")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "A01-1").symlink_to(tmp_path / "elsewhere")
    assert len(discover(tmp_path / "source")[0].folders) == 1


def test_nothing_to_find_says_what_was_looked_for(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        discover(tmp_path / "absent")
    with pytest.raises(DataError, match=r"Looked for Image.csv and Cells.csv, Cytoplasm.csv, Nuclei.csv"):
        discover(tmp_path)
    (tmp_path / "MyExpt_Image.csv").write_text("ImageNumber\n1\n")
    with pytest.raises(DataError, match="prefix 'MyExpt_'"):
        discover(tmp_path)
    with pytest.raises(DataError, match="a file, but"):
        discover(tmp_path / "MyExpt_Image.csv")


def test_objects_without_images_are_refused(tmp_path):
    (write_site(tmp_path) / "Image.csv").unlink()
    with pytest.raises(DataError, match=r"'Cells.csv', 'Cytoplasm.csv', 'Nuclei.csv' but no Image.csv"):
        discover(tmp_path)


def test_compartments_are_named_once(tmp_path):
    with pytest.raises(RecipeError, match="name each object once"):
        discover(write_site(tmp_path), compartments=["Cells", "Cells"])
