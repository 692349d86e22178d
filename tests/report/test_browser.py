"""The page in a browser without a network: it draws, it searches, it complains of nothing and asks for nothing."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import cytofast

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
ACTIONS = """
<script>
const seen = { errors: [], sections: [], asked: [] };
addEventListener("error", (event) => seen.errors.push(event.message));
addEventListener("unhandledrejection", (event) => seen.errors.push(String(event.reason)));
for (const name of ["error", "warn"]) {
  const kept = console[name].bind(console);
  console[name] = (...words) => { seen.errors.push(words.join(" ")); kept(...words); };
}
addEventListener("securitypolicyviolation", (event) => seen.errors.push(event.blockedURI));
</script>
"""
LOOK = """
<script>
const look = async () => {
  if (!document.documentElement.dataset.drawn) { setTimeout(look, 50); return; }
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
  await new Promise((done) => setTimeout(done, 500));
  seen.hover = plates.querySelector(".hoverlayer").textContent;
  const before = plates.data[0].z;
  const choose = plates.closest("figure").querySelector("select");
  choose.value = choose.options.length - 1;
  choose.dispatchEvent(new Event("change"));
  await new Promise((done) => setTimeout(done, 300));
  seen.changed = before !== plates.data[0].z;
  seen.coloured = plates.calcdata[0][0].z.flat().filter((value) => Number.isFinite(value)).length;
  const made = [];
  const make = URL.createObjectURL;
  URL.createObjectURL = (blob) => { made.push(blob); return make(blob); };
  HTMLAnchorElement.prototype.click = () => {};
  [...hits.querySelectorAll("button")].find((button) => button.textContent === "Download CSV").click();
  seen.csv = (await made[0].text()).split("\\n").slice(0, 2);
  dispatchEvent(new Event("beforeprint"));
  await new Promise((done) => setTimeout(done, 300));
  seen.printed = document.querySelector('.plot[data-name="drift"]').layout.width;
  dispatchEvent(new Event("afterprint"));
  seen.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  document.title = "seen " + JSON.stringify(seen);
};
setTimeout(look, 50);
</script>
"""


@pytest.fixture(scope="module")
def browser():
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser to open the page in: none of {', '.join(BROWSERS)} is installed")
    return found


def open_page(browser: str, page, folder, width: int = 1400) -> tuple[str, list[str]]:
    """The page's content after its scripts ran, and every address that the browser asked for."""
    log = folder / "net.json"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += ["--disable-component-update", "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command += [f"--user-data-dir={folder / 'user'}", f"--window-size={width},900", f"--log-net-log={log}"]
    command += ["--virtual-time-budget=60000", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, sorted(set(re.findall(r'"url":"(https?://[^"]+)"', log.read_text())))


def looked_at(browser: str, text: str, word: str, folder, width: int = 1400) -> tuple[dict, list[str]]:
    """What a script sees and does on the page."""
    page = folder / "page.html"
    look = LOOK.replace("WORD", word)
    page.write_text(text.replace("<head>", f"<head>{ACTIONS}", 1).replace("</body>", f"{look}</body>"))
    content, asked = open_page(browser, page, folder, width)
    title = re.search(r"<title>seen (.*?)</title>", content, re.DOTALL)
    assert title, f"the page did not finish: {content[-500:]}"
    return json.loads(title[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")), asked


@pytest.mark.parametrize("width", [1400, 500])
def test_the_page_works_without_a_network(browser, small_folder, small_page, tmp_path, width):
    profiles = cytofast.open_store(small_folder / "store").scan("profiles").collect()
    word = sorted(set(profiles["Metadata_broad_sample"].drop_nulls()))[3]
    seen, asked = looked_at(browser, small_page.path.read_text(), word, tmp_path, width)
    assert seen["errors"] == []
    own = [
        address for address in asked if not re.match(r"https?://([a-z0-9.-]+\.)?(google|gvt1|googleapis)\.com", address)
    ]
    assert own == [], "the browser's own calls aside, nothing is asked for"
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
    assert seen["changed"]
    assert seen["coloured"] > 50
    assert "A01" in seen["hover"]
    assert seen["csv"][0].startswith("broad_sample,")
    assert seen["printed"] == 690
    assert seen["wide"] <= 0, "nothing hangs over the edge"


def test_an_empty_store_opens(browser, tmp_path):
    store = cytofast.open_store(tmp_path / "store", create=True)
    page = cytofast.write_report(store, tmp_path / "r.html").path
    (tmp_path / "b").mkdir()
    page.write_text(
        page.read_text()
        .replace("<head>", f"<head>{ACTIONS}", 1)
        .replace(
            "</body>",
            "<script>document.title = JSON.stringify([seen.errors, "
            "document.documentElement.dataset.drawn])</script></body>",
        )
    )
    content, _ = open_page(browser, page, tmp_path / "b")
    assert "<title>[[],&quot;0&quot;]</title>" in content or '<title>[[],"0"]</title>' in content


FRAME = '<body style="margin:0"><iframe src="{page}" style="border:0;width:{width}px;height:{height}px"></iframe>'


def picture(browser: str, page: Path, folder: Path, size: tuple[int, int], target: Path) -> None:
    """The page as a picture; in a frame, since a browser's own window is never as narrow as a telephone."""
    frame = folder / "frame.html"
    frame.write_text(FRAME.format(page=page.as_uri(), width=size[0], height=size[1]))
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'user'}"]
    command += [f"--window-size={max(size[0], 500)},{size[1]}", "--virtual-time-budget=60000", f"--screenshot={target}"]
    done = subprocess.run([*command, frame.as_uri()], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(("width", "height"), [(1400, 9000), (390, 16000)])
def test_pictures_are_kept_to_be_looked_at(browser, small_page, tmp_path, width, height):
    kept = os.environ.get("CYTOFAST_SCREENSHOTS")
    if not kept:
        pytest.skip("no pictures of the report are kept; set CYTOFAST_SCREENSHOTS to a folder for them")
    folder = Path(kept)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder.resolve() / f"report-{width}.png"
    target.unlink(missing_ok=True)
    picture(browser, small_page.path, tmp_path, (width, height), target)
    assert target.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert target.stat().st_size > 50_000
