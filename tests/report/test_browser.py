"""The page in a browser without a network: it draws, it searches, it complains of nothing and asks for nothing."""

import base64
import os
import re
import shutil
from pathlib import Path

import pytest

import cytofast
from tests.report.devtools import tab

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BEFORE = """
const seen = { errors: [] };
addEventListener("error", (event) => seen.errors.push(event.message));
addEventListener("unhandledrejection", (event) => seen.errors.push(String(event.reason)));
for (const name of ["error", "warn"]) {
  const kept = console[name].bind(console);
  console[name] = (...words) => { seen.errors.push(words.join(" ")); kept(...words); };
}
addEventListener("securitypolicyviolation", (event) => seen.errors.push(event.blockedURI));
"""
UNTIL = "async (done) => { while (!done()) await new Promise((next) => setTimeout(next, 50)); }"
DRAWN = f"({UNTIL})(() => document.documentElement.dataset.drawn)"
LOOK = """
(async () => {
  const until = UNTIL;
  await until(() => document.documentElement.dataset.drawn);
  seen.sections = [...document.querySelectorAll("section")].map((section) => section.id);
  seen.plots = [...document.querySelectorAll(".plot")].map((box) => [box.dataset.name, box.querySelectorAll(".main-svg").length]);
  seen.buttons = [...new Set([...document.querySelectorAll(".modebar-btn")].map((button) => button.dataset.title))];
  const hits = document.querySelector("#retrieval [data-table]:not(details *)");
  const rows = () => [...hits.querySelectorAll("tbody tr")].map((row) => row.textContent);
  seen.all = rows().length;
  const search = hits.querySelector("input[type=search]");
  search.value = "WORD";
  search.dispatchEvent(new Event("input"));
  seen.found = rows();
  search.value = "";
  search.dispatchEvent(new Event("input"));
  const head = [...hits.querySelectorAll("th button")].find((button) => button.textContent === "q_value");
  head.click();
  head.click();
  seen.sorted = [...hits.querySelectorAll("th")].map((cell) => cell.getAttribute("aria-sort")).filter((way) => way !== "none");
  const plates = document.querySelector('.plot[data-name="plates"]');
  const [{ xaxis, yaxis }, drag] = [plates._fullLayout, plates.querySelector(".nsewdrag")];
  const corner = drag.getBoundingClientRect();
  const at = { clientX: corner.left + xaxis.d2p(1), clientY: corner.top + yaxis.d2p(1), bubbles: true };
  drag.dispatchEvent(new MouseEvent("mouseover", at));
  drag.dispatchEvent(new MouseEvent("mousemove", at));
  const hover = plates.querySelector(".hoverlayer");
  await until(() => hover.textContent);
  seen.hover = hover.textContent;
  const before = plates.data[0].z;
  const choose = plates.closest("figure").querySelector("select");
  choose.value = choose.options.length - 1;
  choose.dispatchEvent(new Event("change"));
  await until(() => before !== plates.data[0].z);
  seen.coloured = plates.calcdata[0][0].z.flat().filter((value) => Number.isFinite(value)).length;
  const made = [];
  const make = URL.createObjectURL;
  URL.createObjectURL = (blob) => { made.push(blob); return make(blob); };
  HTMLAnchorElement.prototype.click = () => {};
  [...hits.querySelectorAll("button")].find((button) => button.textContent === "Download CSV").click();
  seen.csv = (await made[0].text()).split("\\n").slice(0, 2);
  dispatchEvent(new Event("beforeprint"));
  const drift = document.querySelector('.plot[data-name="drift"]');
  await until(() => drift.layout.width === 690);
  dispatchEvent(new Event("afterprint"));
  await until(() => drift.layout.width !== 690);
  seen.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  return seen;
})()
""".replace("UNTIL", UNTIL)


@pytest.fixture(scope="module")
def browser():
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser to open the page in: none of {', '.join(BROWSERS)} is installed")
    return found


@pytest.mark.parametrize("width", [1400, 390])
def test_the_page_works_without_a_network(browser, small_folder, small_page, tmp_path, width):
    profiles = cytofast.open_store(small_folder / "store").scan("profiles").collect()
    word = sorted(set(profiles["Metadata_broad_sample"].drop_nulls()))[3]
    with tab(browser, tmp_path) as page:
        page.size(width, 900)
        page.open(small_page.path, BEFORE)
        seen = page.run(LOOK.replace("WORD", word))
        assert page.asked_for() == []
    assert seen["errors"] == []
    assert seen["sections"][0] == "store"
    assert len(seen["sections"]) == 9
    assert all(layers > 0 for _, layers in seen["plots"])
    assert len(seen["plots"]) >= 8
    assert not [
        name for name in seen["buttons"] if re.search("cloud|share|upload|chart studio", str(name), re.IGNORECASE)
    ]
    assert seen["all"] > 1
    assert seen["found"]
    assert all(word in row for row in seen["found"])
    assert seen["sorted"] == ["descending"]
    assert seen["coloured"] > 50
    assert "A01" in seen["hover"]
    assert seen["csv"][0].startswith("broad_sample,")
    assert seen["wide"] <= 0, "nothing hangs over the edge"


def test_an_empty_store_opens(browser, tmp_path):
    store = cytofast.open_store(tmp_path / "store", create=True)
    page = cytofast.write_report(store, tmp_path / "r.html").path
    with tab(browser, tmp_path) as opened:
        opened.open(page, BEFORE)
        assert opened.run("[document.documentElement.dataset.drawn, seen.errors]") == ["0", []]
        assert opened.asked_for() == []


@pytest.mark.parametrize(("width", "height"), [(1400, 9000), (390, 16000)])
def test_pictures_are_kept_to_be_looked_at(browser, small_page, tmp_path, width, height):
    kept = os.environ.get("CYTOFAST_SCREENSHOTS")
    if not kept:
        pytest.skip("no pictures of the report are kept; set CYTOFAST_SCREENSHOTS to a folder for them")
    folder = Path(kept)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder.resolve() / f"report-{width}.png"
    target.unlink(missing_ok=True)
    with tab(browser, tmp_path) as page:
        page.size(width, height)
        page.open(small_page.path, BEFORE)
        page.run(DRAWN)
        target.write_bytes(base64.b64decode(page.ask("Page.captureScreenshot", format="png")["data"]))
    assert target.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert target.stat().st_size > 50_000
