"""The report in headless Chromium, opened from disk: no errors, tables sort, the viewer follows its controls."""

import contextlib
import io
import shutil

import made_up_run as run
import numpy as np
import pytest
from PIL import Image

from uad.reporting.page import build

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER),
        reason="needs Chromium and its driver (Debian: apt-get install chromium chromium-driver)",
    ),
]
SECONDS = 120  # a busy machine draws WebGL in software slowly
SOFTWARE_WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    results = tmp_path_factory.mktemp("run") / "made-up"
    inputs = run.write_run(results)
    build.build_report(run.SETTINGS, build.Inputs(**inputs), results / "report", lambda line: None)
    return (results / "report" / "index.html").as_uri()


@contextlib.contextmanager
def chromium(*flags):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1366,900", *QUIET, *flags):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield browser
    finally:
        browser.quit()


@pytest.fixture(scope="module")
def browser():
    with chromium(*SOFTWARE_WEBGL) as opened:
        yield opened


@pytest.fixture
def page(browser, address):
    browser.get(address)
    return browser


@pytest.fixture
def viewer(page):
    """The page with the viewer in sight and started."""
    page.execute_script("document.getElementById('viewer').scrollIntoView()")
    wait_for(page, "ready")
    return page


def wait_for(page, state):
    section = page.find_element(By.ID, "viewer")
    WebDriverWait(page, SECONDS).until(lambda _: section.get_attribute("data-state") in (state, "failed"))
    message = page.find_element(By.ID, "viewer-message").text
    assert section.get_attribute("data-state") == state, message
    return message


def picture(page, panel):
    """The pixels of a panel as drawn; the crosshair is part of them."""
    return page.find_element(By.CSS_SELECTOR, f"#viewer-{panel} .canvas").screenshot_as_png


def slide(page, place):
    page.execute_script(
        "const slider = document.getElementById('viewer-slice'); slider.value = arguments[0];"
        "slider.dispatchEvent(new Event('input'));",
        place,
    )


def column(page, table, place):
    rows = page.find_elements(By.CSS_SELECTOR, f"{table} tbody tr")
    return [row.find_elements(By.CSS_SELECTOR, "th, td")[place].text.split("\n")[0] for row in rows]


def test_the_page_and_its_viewer_load_without_console_message(viewer):
    assert "made-up" in viewer.title
    assert [entry for entry in viewer.get_log("browser") if entry["level"] != "INFO"] == []


def test_the_headline_sorts_both_ways(page):
    table = "#headline table"
    assert column(page, table, 2) == ["65.00", "75.25", "10.00", "100.00"]
    head = page.find_elements(By.CSS_SELECTOR, f"{table} thead tr:last-child th")[2]
    button = head.find_element(By.TAG_NAME, "button")
    button.click()
    assert column(page, table, 2) == ["100.00", "75.25", "65.00", "10.00"]
    assert head.get_attribute("aria-sort") == "descending"
    button.click()
    assert column(page, table, 2) == ["10.00", "65.00", "75.25", "100.00"]
    page.find_element(By.CSS_SELECTOR, f"{table} thead tr:last-child th button").click()
    assert column(page, table, 0) == ["Blank", "Near", "Near", "oracle"]
    assert head.get_attribute("aria-sort") is None


def test_cells_without_value_sort_last_and_times_by_their_length(page):
    for _ in range(2):
        page.find_elements(By.CSS_SELECTOR, "#costs > .scroll thead button")[2].click()
    assert column(page, "#costs > .scroll table", 2) == ["2.0 s", "1:01:40"]
    page.find_element(By.CSS_SELECTOR, "#costs details summary").click()
    for _ in range(2):
        page.find_elements(By.CSS_SELECTOR, "#costs details thead button")[3].click()
        assert column(page, "#costs details table", 3)[-1] == "–"


def test_the_arm_stays_in_sight_while_a_wide_table_scrolls(page):
    lefts = page.execute_script(
        "const box = document.querySelector('#headline .scroll'); box.style.width = '200px'; box.scrollLeft = 90;"
        "const cells = box.querySelector('tbody tr').cells;"
        "return [box, cells[0], cells[2]].map((element) => element.getBoundingClientRect().left);"
    )
    assert lefts[1] == pytest.approx(lefts[0], abs=1)
    assert lefts[2] < lefts[0] + 200  # the scores slide below it


def test_an_infinite_score_counts_as_the_highest(page):
    table = "#headline table"
    page.execute_script(f"document.querySelector('{table} tbody tr').cells[2].textContent = '∞'")
    page.find_elements(By.CSS_SELECTOR, f"{table} thead tr:last-child th button")[2].click()
    assert column(page, table, 2) == ["∞", "100.00", "75.25", "10.00"]


def test_the_slider_changes_the_picture(viewer):
    before = {panel: picture(viewer, panel) for panel in ("input", "truth")}
    slide(viewer, 0)
    assert viewer.find_element(By.ID, "viewer-place").text == "1 of 6"
    after = {panel: picture(viewer, panel) for panel in ("input", "truth")}
    assert all(before[panel] != after[panel] for panel in before)
    viewer.find_element(By.ID, "viewer-lesion").click()
    assert picture(viewer, "input") == before["input"]


def test_arm_scan_and_plane_can_be_chosen(viewer):
    arm = Select(viewer.find_element(By.ID, "viewer-arm"))
    assert [option.text for option in arm.options] == ["Near", "Near (ENS)", "Blank"]
    assert arm.first_selected_option.text == "Near (ENS)"  # the last that reconstructs
    arm.select_by_visible_text("Near")
    wait_for(viewer, "ready")
    near = picture(viewer, "residual")
    assert "Dice 70.0 %" in viewer.find_element(By.ID, "viewer-facts").text
    arm.select_by_visible_text("Blank")
    wait_for(viewer, "ready")
    assert picture(viewer, "residual") != near
    assert viewer.find_element(By.CSS_SELECTOR, "#viewer-reconstruction .none").is_displayed()
    Select(viewer.find_element(By.ID, "viewer-scan")).select_by_visible_text(f"scan-3, {run.ODD_SITE}")
    wait_for(viewer, "ready")
    assert "Dice 15.0 %" in viewer.find_element(By.ID, "viewer-facts").text
    assert Select(viewer.find_element(By.ID, "viewer-arm")).first_selected_option.text == "Blank"
    axial = picture(viewer, "input")
    Select(viewer.find_element(By.ID, "viewer-plane")).select_by_value("sagittal")
    assert viewer.find_element(By.ID, "viewer-slice").get_attribute("max") == "7"
    assert picture(viewer, "input") != axial


def test_the_lesion_shows_where_it_is(viewer):
    """Radiological view: the lesion lies at high x, which is the patient's left, hence right of the middle."""
    pixels = np.asarray(Image.open(io.BytesIO(picture(viewer, "truth"))).convert("RGB")).astype(int)
    blue = np.argwhere((pixels[..., 2] > 150) & (pixels[..., 0] < 130))
    y, x = blue.mean(axis=0) / pixels.shape[:2]
    assert len(blue) > 100
    assert x > 0.55 and y < 0.5  # voxels x 4 to 6 of 8, y 3 to 5 of 10


def test_without_webgl_the_viewer_says_so(address):
    with chromium("--disable-3d-apis") as browser:
        browser.get(address)
        browser.execute_script("document.getElementById('viewer').scrollIntoView()")
        message = wait_for(browser, "failed")
        assert "no WebGL 2" in message
        assert not browser.find_element(By.ID, "viewer-panels").is_displayed()


def test_a_missing_volume_is_named(viewer, address, tmp_path):
    folder = tmp_path / "report"
    shutil.copytree(address.removeprefix("file://").removesuffix("/index.html"), folder)
    (folder / "volumes" / "brats21_t2_2_near_ens.js").unlink()
    viewer.get((folder / "index.html").as_uri())
    viewer.execute_script("document.getElementById('viewer').scrollIntoView()")
    assert "volumes/brats21_t2_2_near_ens.js is missing" in wait_for(viewer, "failed")
    viewer.get_log("browser")  # Chromium reports the missing file there too
