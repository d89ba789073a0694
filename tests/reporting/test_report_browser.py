"""The report in headless Chromium, opened from disk: no errors, tables sort, the viewer follows its controls, and a
checker of accessibility finds nothing serious.
"""

import contextlib
import io
import shutil

import made_up_run as run
import numpy as np
import pytest
from PIL import Image
from places import ROOT

from uad.reporting.page import build

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
AXE = ROOT / ".venv" / "axe" / "package" / "axe.min.js"  # `make test` fetches it
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
    canvas = page.find_element(By.CSS_SELECTOR, f"#viewer-{panel} .canvas")
    page.execute_script("arguments[0].scrollIntoView({block: 'end'})", canvas)  # what is out of sight would be cut off
    return canvas.screenshot_as_png


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


def test_the_headline_sorts_both_ways_and_back_with_the_control_last(page):
    table = "#headline table"
    assert column(page, table, 2) == ["65.00", "75.25", "10.00", "100.00"]
    head = page.find_elements(By.CSS_SELECTOR, f"{table} thead tr:last-child th")[2]
    button = head.find_element(By.TAG_NAME, "button")
    button.click()
    assert column(page, table, 2) == ["75.25", "65.00", "10.00", "100.00"]  # 100: the oracle
    assert head.get_attribute("aria-sort") == "descending"
    button.click()
    assert column(page, table, 2) == ["10.00", "65.00", "75.25", "100.00"]
    button.click()
    assert column(page, table, 2) == ["65.00", "75.25", "10.00", "100.00"]
    assert head.get_attribute("aria-sort") is None
    page.find_element(By.CSS_SELECTOR, f"{table} thead tr:last-child th button").click()
    assert column(page, table, 0) == ["Blank", "Near", "Near", "oracle"]


def test_a_column_of_marks_sorts_the_marks_first(page):
    page.find_elements(By.CSS_SELECTOR, "#headline table thead tr:last-child th button")[1].click()
    assert column(page, "#headline table", 1) == ["✓", "", "", ""]


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
    assert column(page, table, 2) == ["∞", "75.25", "10.00", "100.00"]


def test_the_slider_changes_the_picture(viewer):
    before = {panel: picture(viewer, panel) for panel in ("input", "marks")}
    slide(viewer, 0)
    assert viewer.find_element(By.ID, "viewer-place").text == "1 of 6"
    after = {panel: picture(viewer, panel) for panel in ("input", "marks")}
    assert all(before[panel] != after[panel] for panel in before)
    viewer.find_element(By.ID, "viewer-lesion").click()
    assert picture(viewer, "input") == before["input"]


def test_arm_scan_and_plane_can_be_chosen(viewer):
    arm = Select(viewer.find_element(By.ID, "viewer-arm"))
    assert [option.text for option in arm.options] == ["Near", "Near (ENS)", "Blank"]
    assert arm.first_selected_option.text == "Near (ENS)"  # the last that reconstructs
    arm.select_by_visible_text("Near")
    wait_for(viewer, "ready")
    near = picture(viewer, "map")
    assert viewer.find_element(By.CSS_SELECTOR, "#viewer-map .title").text == "Residual"
    assert "Dice 70.0 %" in viewer.find_element(By.ID, "viewer-facts").text
    arm.select_by_visible_text("Blank")
    wait_for(viewer, "ready")
    assert picture(viewer, "map") != near
    assert viewer.find_element(By.CSS_SELECTOR, "#viewer-map .title").text == "Anomaly map"
    assert viewer.find_element(By.CSS_SELECTOR, "#viewer-reconstruction .none").is_displayed()
    choose_scan(viewer, f"scan-3, {run.ODD_SITE}")
    wait_for(viewer, "ready")
    assert "Dice 15.0 %" in viewer.find_element(By.ID, "viewer-facts").text
    assert Select(viewer.find_element(By.ID, "viewer-arm")).first_selected_option.text == "Blank"
    axial = picture(viewer, "input")
    Select(viewer.find_element(By.ID, "viewer-plane")).select_by_value("sagittal")
    assert viewer.find_element(By.ID, "viewer-slice").get_attribute("max") == "7"
    assert picture(viewer, "input") != axial


def choose_scan(viewer, label):
    Select(viewer.find_element(By.ID, "viewer-scan")).select_by_visible_text(label)


def choose_arm(viewer, label):
    Select(viewer.find_element(By.ID, "viewer-arm")).select_by_visible_text(label)
    wait_for(viewer, "ready")


def press(page, name):
    page.find_element(By.ID, f"viewer-{name}").click()


def coloured(viewer, panel, colour):
    """Places [y, x] in 0..1 of a panel's pixels near a colour, the crosshair hidden."""
    if viewer.find_element(By.ID, "viewer-crosshair").is_selected():
        press(viewer, "crosshair")
    pixels = np.asarray(Image.open(io.BytesIO(picture(viewer, panel))).convert("RGB")).astype(int)
    return np.argwhere(np.abs(pixels - colour).max(axis=-1) < 30) / pixels.shape[:2]


LESION_CENTRE = (4.5 / 10, 5.5 / 8)  # y, x: voxels 3 to 5 of 10 and 4 to 6 of 8
HIT, MISS, GREY = (240, 228, 66), (86, 180, 233), (229, 229, 229)


def test_hits_and_misses_show_where_they_are(viewer):
    """Radiological view: the lesion lies at high x, which is the patient's left, hence right of the middle.

    `near` predicts the whole lesion, `blank` (0.25 everywhere, threshold 0.3) nothing.
    """
    viewer.execute_script(
        "const slider = document.getElementById('viewer-opacity'); slider.value = 1;"
        "slider.dispatchEvent(new Event('input'));"
    )
    hits = coloured(viewer, "marks", HIT)
    assert len(hits) > 100 and not len(coloured(viewer, "marks", MISS))
    y, x = hits.mean(axis=0)
    assert (y, x) == pytest.approx(LESION_CENTRE, abs=0.02)
    choose_arm(viewer, "Blank")
    misses = coloured(viewer, "marks", MISS)
    assert misses.mean(axis=0) == pytest.approx(LESION_CENTRE, abs=0.02) and not len(coloured(viewer, "marks", HIT))


def test_the_overlay_can_be_switched_off(viewer):
    assert picture(viewer, "marks") != picture(viewer, "input")
    press(viewer, "overlay")
    assert not len(coloured(viewer, "marks", HIT)) and len(coloured(viewer, "marks", GREY)) > 100  # 0.9 of 255


def test_the_residual_is_that_of_input_and_reconstruction(viewer):
    """Bright where the lesion is: `near` reconstructs the healthy image."""
    press(viewer, "crosshair")
    pixels = np.asarray(Image.open(io.BytesIO(picture(viewer, "map"))).convert("RGB")).astype(int)
    bright = np.argwhere(pixels[..., 0] > 180) / pixels.shape[:2]
    assert bright.mean(axis=0) == pytest.approx(LESION_CENTRE, abs=0.02)
    ends = viewer.find_element(By.CSS_SELECTOR, "#viewer-bar i").value_of_css_property("background-image")
    assert str(tuple(pixels.reshape(-1, 3)[pixels.sum(axis=-1).argmax()].tolist())) in ends.replace("rgb", "")
    assert float(viewer.find_elements(By.CSS_SELECTOR, "#viewer-bar > span")[1].text) == pytest.approx(
        np.abs(run.image_of("brats21", "scan-2") - run.healthy_image("scan-2")).max(), abs=0.01
    )


def test_arms_of_a_scan_can_share_a_scale(viewer):
    """`blank` draws a map, which has no common unit with the residuals."""
    top = [entry["map_max"] for entry in catalogue(viewer)[0]["readings"]]
    Select(viewer.find_element(By.ID, "viewer-scale")).select_by_value("shared")
    numbers = viewer.find_elements(By.CSS_SELECTOR, "#viewer-bar > span")
    assert float(numbers[1].text) == pytest.approx(max(top[:2]), abs=0.006)
    choose_arm(viewer, "Blank")
    assert float(numbers[1].text) == 0.25


def catalogue(page):
    return page.execute_script("return JSON.parse(document.getElementById('scans-shown').textContent)")


def test_the_crosshair_can_be_hidden_and_the_zoom_undone(viewer):
    first = picture(viewer, "input")
    press(viewer, "in")
    nearer = picture(viewer, "input")
    assert nearer != first
    press(viewer, "reset")
    assert picture(viewer, "input") == first
    press(viewer, "crosshair")
    assert picture(viewer, "input") not in (first, nearer)


def slice_of(page):
    return page.find_element(By.ID, "viewer-place").text


def test_wheel_and_arrow_keys_move_the_slices_without_a_click(viewer):
    panel = viewer.find_element(By.CSS_SELECTOR, "#viewer-input canvas")
    viewer.execute_script("arguments[0].scrollIntoView({block: 'center'})", panel)
    before, top = slice_of(viewer), viewer.execute_script("return scrollY")
    assert before == "3 of 6"
    ActionChains(viewer).move_to_element(panel).scroll_from_origin(ScrollOrigin.from_element(panel), 0, -40).perform()
    WebDriverWait(viewer, SECONDS).until(lambda _: slice_of(viewer) == "4 of 6")
    ActionChains(viewer).send_keys(Keys.ARROW_DOWN).perform()
    assert slice_of(viewer) == "3 of 6"
    ActionChains(viewer).send_keys(Keys.ARROW_UP).perform()
    assert slice_of(viewer) == "4 of 6" and viewer.execute_script("return scrollY") == top
    assert panel.get_attribute("aria-label") == "Input, axial slice 4 of 6"


def test_neighbouring_scans_can_be_chosen(viewer):
    press(viewer, "next")
    wait_for(viewer, "ready")
    assert Select(viewer.find_element(By.ID, "viewer-scan")).first_selected_option.text == f"scan-3, {run.ODD_SITE}"
    assert Select(viewer.find_element(By.ID, "viewer-arm")).first_selected_option.text == "Near (ENS)"
    press(viewer, "previous")
    wait_for(viewer, "ready")
    assert not viewer.find_element(By.ID, "viewer-previous").is_enabled()


def test_canvases_are_no_stops_of_the_tab_key(viewer):
    canvases = viewer.find_elements(By.CSS_SELECTOR, "#viewer canvas")
    assert len(canvases) == 4 and {canvas.get_attribute("tabindex") for canvas in canvases} == {"-1"}


@pytest.fixture
def scan_table(page):
    page.execute_script("document.getElementById('scans').scrollIntoView()")
    WebDriverWait(page, SECONDS).until(lambda _: page.find_element(By.ID, "scans-table").is_displayed())
    return page


def test_single_scans_can_be_sorted_and_filtered(scan_table):
    assert column(scan_table, "#scans-table", 0) == ["scan-2", "scan-3"]
    dice = scan_table.find_elements(By.CSS_SELECTOR, "#scans-table thead button")[2]
    orders = []
    for _ in range(3):
        dice.click()
        orders.append(column(scan_table, "#scans-table", 2))
    assert orders == [["80.0", "70.0"], ["70.0", "80.0"], ["70.0", "80.0"]]
    scan_table.find_element(By.ID, "scans-filter").send_keys("north")
    assert column(scan_table, "#scans-table", 0) == ["scan-3"]
    assert scan_table.find_element(By.ID, "scans-message").text == "1 of 1 scans"


def test_a_row_and_the_extremes_open_their_scan_in_the_viewer(scan_table):
    Select(scan_table.find_element(By.ID, "scans-arm")).select_by_visible_text("Blank")
    scan_table.find_elements(By.CSS_SELECTOR, "#scans-table tbody button")[1].click()
    assert opened(scan_table) == (f"scan-3, {run.ODD_SITE}", "Blank")
    Select(scan_table.find_element(By.ID, "scans-arm")).select_by_visible_text("Near")
    scan_table.find_element(By.CSS_SELECTOR, "[data-extreme=worst]").click()  # 70 %, the other has 80 %
    assert opened(scan_table) == ("scan-2, Plain", "Near")


def opened(page):
    wait_for(page, "ready")
    return tuple(
        Select(page.find_element(By.ID, f"viewer-{name}")).first_selected_option.text for name in ("scan", "arm")
    )


def test_a_control_has_no_scan_to_open(scan_table):
    Select(scan_table.find_element(By.ID, "scans-arm")).select_by_visible_text("oracle")
    assert not scan_table.find_elements(By.CSS_SELECTOR, "#scans-table tbody button")
    assert not scan_table.find_element(By.CSS_SELECTOR, "[data-extreme=best]").is_enabled()


def test_heads_stay_in_sight_while_a_long_table_scrolls(page):
    tops = page.execute_script(
        "const box = document.querySelector('#headline .scroll'); box.style.maxHeight = '150px'; box.scrollTop = 90;"
        "const table = box.querySelector('table');"
        "return [box, table.tHead].map((element) => element.getBoundingClientRect().top);"
    )
    assert tops[1] == pytest.approx(tops[0], abs=1)


def width_of(page, width):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


@pytest.fixture
def phone(viewer):
    """The page with its viewer at the width of a phone."""
    width_of(viewer, 400)
    yield viewer
    viewer.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_phone_shows_the_first_number_and_scrolls_no_page_sideways(phone):
    cell = phone.find_element(By.CSS_SELECTOR, "#headline tbody tr td:nth-child(3)")
    right = phone.execute_script("return arguments[0].getBoundingClientRect().right", cell)
    assert right <= 400
    assert phone.execute_script("return document.documentElement.scrollWidth") <= 400


def check_access(page):
    """No finding of the checker that is serious or critical."""
    page.execute_script(AXE.read_text())
    page.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    found = page.execute_async_script(
        "const done = arguments[0]; axe.run().then((result) => done(result.violations.map("
        "(one) => [one.impact, one.id, one.nodes.slice(0, 3).map((node) => node.html)])))"
    )
    assert not [violation for violation in found if violation[0] in ("serious", "critical")]


needs_axe = pytest.mark.skipif(not AXE.is_file(), reason="needs axe-core, which `make test` fetches with npm")


@needs_axe
def test_the_checker_of_accessibility_finds_nothing_serious(viewer):
    check_access(viewer)


@needs_axe
def test_the_checker_finds_nothing_serious_on_a_phone(phone):
    check_access(phone)


def test_buttons_have_names_and_are_large_enough(viewer):
    buttons = viewer.execute_script(
        "return [...document.querySelectorAll('button, select, input')].filter((one) => one.offsetParent).map("
        "(one) => [one.textContent || one.ariaLabel || one.labels?.[0]?.textContent,"
        " one.getBoundingClientRect().width, one.getBoundingClientRect().height])"
    )
    assert len(buttons) > 40
    assert not [button for button in buttons if not button[0] or min(button[1:]) < 24]


def test_print_keeps_every_column_of_a_wide_table(page):
    """24 columns of means and deviations on A4 across, 273 mm between the margins: 1,031 CSS pixels."""
    size = {"width": 1031, "height": 700, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        right = page.execute_script(
            "const table = document.querySelector('#headline table');"
            "for (const row of table.tBodies[0].rows) for (let more = 0; more < 21; more++)"
            "  row.insertCell().textContent = '39.75 ± 13.37';"
            "return table.getBoundingClientRect().right;"
        )
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert 500 < right <= 1031


def test_print_opens_the_details(page):
    page.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert not page.find_elements(By.CSS_SELECTOR, "details:not([open])")
    page.execute_script("dispatchEvent(new Event('afterprint'))")
    assert page.find_elements(By.CSS_SELECTOR, "details:not([open])")


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
