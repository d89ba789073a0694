"""The report of a made-up run: what is on the page, in its folder, and in the viewer's volumes."""

import base64
import gzip
import json
import math
import re
import shutil
from html.parser import HTMLParser
from importlib.metadata import PackageNotFoundError

import made_up_run as run
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from places import ROOT

from uad.common import pictures
from uad.common.errors import InputError
from uad.reporting.benchmarks import read_benchmarks
from uad.reporting.elements import duration, number
from uad.reporting.page import (
    breakdown,
    build,
    comparisons,
    costs,
    niivue,
    origins,
    quality,
    scan_rows,
    scans,
    sections,
)

PLACE = ("brats21", "t2")


class Page(HTMLParser):
    """Links, pictures, headings and ids of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.pictures, self.headings, self.ids, self.text = [], [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.links += [attributes[key] for key in ("src", "href") if key in attributes]
        if tag == "img":
            self.pictures.append(attributes)
        if tag in ("h1", "h2", "h3"):
            self.headings.append(tag)
        if "id" in attributes:
            self.ids.append(attributes["id"])

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return run.write_run(tmp_path_factory.mktemp("run") / "made-up")


@pytest.fixture(scope="module")
def report(inputs):
    folder = inputs["results"] / "report"
    build.build_report(run.SETTINGS, build.Inputs(**inputs), folder, lambda line: None)
    return folder


@pytest.fixture(scope="module")
def page(report):
    return Page((report / "index.html").read_text())


def volumes(report, name):
    """The NIfTI images of one of the viewer's scripts."""
    text = (report / "volumes" / f"{name}.js").read_text()
    stem, encoded = json.loads("[" + text.strip().removeprefix("uadbench.put(").removesuffix(");") + "]")
    assert stem == f"volumes/{name}"
    return {key: nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(data))) for key, data in encoded.items()}


def shown(report):
    """(place, subject) -> entry of the viewer's catalogue."""
    text = (report / "index.html").read_text()
    catalogue = json.loads(re.search(r'id="scans-shown">(.*?)</script>', text, re.DOTALL)[1])
    return {(entry["place"], entry["subject"]): entry for entry in catalogue}


def stored(image):
    """A volume of the viewer as the store keeps it, [Z, Y, X]."""
    return np.asarray(image.dataobj).transpose(2, 1, 0)


def texts(table):
    return [[cell.text for cell in line] for line in table.lines]


# --- the page ---


def test_everything_that_the_page_names_lies_in_its_folder(report, page):
    files = [link for link in page.links if not link.startswith(("#", "data:", "https://arxiv.org/"))]
    assert len(files) > 20
    assert not [link for link in files if ":" in link or link.startswith("/")]  # no network, no other folder
    assert not [link for link in files if not (report / link).is_file()]


def test_sections_can_be_reached_and_read(page):
    assert page.headings.count("h1") == 1 and page.headings[0] == "h1"
    assert len(page.ids) == len(set(page.ids))
    anchors = [link[1:] for link in page.links if link.startswith("#")]
    assert len(set(anchors)) == 17 and set(anchors) <= set(page.ids)
    assert all(picture["alt"] and int(picture["width"]) and int(picture["height"]) for picture in page.pictures)


def test_phantom_runs_say_so_in_every_heading_and_caption(report, page):
    assert "Phantom data." in page.text
    text = (report / "index.html").read_text()
    badge = ' <span class="badge">phantom data</span></'
    assert text.count(f"{badge}h2>") == page.headings.count("h2") > 10
    assert text.count(f"{badge}caption>") == text.count("</caption>") == text.count("<table") > 10


def test_real_runs_carry_no_badge(inputs, tmp_path):
    build.build_report(
        {**run.SETTINGS, "phantom": False}, build.Inputs(**inputs), tmp_path / "report", lambda line: None
    )
    assert "badge" not in (tmp_path / "report" / "index.html").read_text()


def test_every_head_says_what_it_is_the_head_of(report):
    heads = re.findall(r"<th(?:\s[^>]*)?>", (report / "index.html").read_text())
    assert len(heads) > 50 and all(" scope=" in head for head in heads)


def test_every_table_has_a_caption_that_says_something(report):
    captions = re.findall(r"<caption>(.*?)</caption>", (report / "index.html").read_text(), re.DOTALL)
    assert not [caption for caption in captions if caption.startswith(" <span")]


def test_names_from_the_data_are_text_not_markup(report):
    text = (report / "index.html").read_text()
    assert run.ODD_SITE not in text and "<b>North" not in text
    assert "&lt;b&gt;North&lt;/b&gt; &amp; South" in text
    assert "truncated &lt;file&gt;" in text


def test_the_reproduction_report_is_part_of_the_page(report, page):
    text = (report / "index.html").read_text()
    section = text[text.index('<section id="reproduction"') : text.index('<section id="tables"')]
    summary, details = section.split("<details>")
    assert "Reference: the tables of arXiv 2312.04215" in summary and ">Table 3</th>" in summary
    assert "<h3>Misses: outside the band (2)</h3>" in details
    assert "<code>train.learning_rate</code>" in details
    assert "&lt;b&gt;North&lt;/b&gt;" in details  # a setting is no markup
    assert "reproduction.md" in page.links and page.headings.count("h1") == 1


def test_printed_tables_are_as_their_sheets(report):
    text = (report / "index.html").read_text()
    section = text[text.index('<section id="headline"') : text.index('<section id="significance"')]
    assert '<caption>Table 3: detection on the test sets <span class="badge">phantom data</span></caption>' in section
    assert '<td class="stub">✓</td><td><b>75.25</b><br><small>(7.00)</small></td>' in section
    assert 'colspan="1" scope="colgroup">BraTS21 (T2)</th>' in section
    assert 'Run made-up.\nFiles: <a href="tables/table3.csv">table3.csv</a>.' in section


def test_detection_per_scan_and_lesion_stands_beside_what_it_contains(report):
    text = (report / "index.html").read_text()
    section = text[text.index('<section id="detection"') : text.index('<section id="figures"')]
    assert "contain the shift between cohorts" in " ".join(section.split())
    assert "<td>50.00</td>" in section and 'With the shift.\nFiles: <a href="tables/table5.csv">' in section


def test_figures_come_with_the_overview_first_and_the_curves_apart(report, page):
    pictures = [picture["src"] for picture in page.pictures if picture["src"].startswith("figures/")]
    assert pictures == [
        f"figures/{stem}.png" for stem in ("differences", "overview", "fig4-brats21-t2", "fig5", "curves-t2")
    ]
    assert (report / "figures" / "overview.svg").exists() and not (report / "figures" / "fig5.svg").exists()


@pytest.mark.parametrize(("size", "folded"), [((1000, 2400), False), ((1000, 2600), True), ((4000, 4700), False)])
def test_a_figure_that_is_taller_than_a_screen_is_folded(tmp_path, size, folded):
    """Figures have twice the pixels of the page (300 and 150 dpi): 2,600 are 1,300; 4,000 wide shrink to 1,000."""
    inputs = run.write_run(tmp_path / "made-up")
    (figure,) = (path for path in inputs["figures"] if path.stem == "fig5")
    Image.new("L", size).save(figure)
    build.build_report(run.SETTINGS, build.Inputs(**inputs), tmp_path / "report", lambda line: None)
    text = (tmp_path / "report" / "index.html").read_text()
    summary = "<summary>Figure 5: Dice against the noise level t_test; dashed: the ensemble</summary>"
    assert (summary in text) is folded


def test_a_second_report_replaces_the_first_whole(inputs, tmp_path):
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "stale.js").touch()
    build.build_report(run.SETTINGS, build.Inputs(**inputs), folder, lambda line: None)
    assert not (folder / "stale.js").exists() and (folder / "index.html").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report"]


def test_a_failed_report_leaves_the_one_before(inputs, tmp_path):
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "index.html").write_text("before")
    broken = run.write_run(tmp_path / "broken")
    (broken["results"] / "tables" / "sheets.json").write_text("{")
    with pytest.raises(InputError, match=r"sheets.json: holds no tables"):
        build.build_report(run.SETTINGS, build.Inputs(**broken), folder, lambda line: None)
    assert (folder / "index.html").read_text() == "before"


def test_a_figure_without_caption_is_named(tmp_path):
    inputs = run.write_run(tmp_path / "made-up")
    odd = inputs["figures"][0].with_name("fig99.png")
    shutil.copyfile(inputs["figures"][0], odd)
    with pytest.raises(InputError, match=r"fig99.png: has no caption"):
        build.build_report(
            run.SETTINGS, build.Inputs(**{**inputs, "figures": [odd]}), tmp_path / "report", lambda line: None
        )


def test_snakemakes_report_has_the_captions_of_the_page():
    of_files = (
        "headline",
        "significance",
        "reproduction",
        "tables",
        "detection",
        "figures",
        "curves",
    )  # their captions are those of files
    spec = [section for section in sections.read_spec() if section.name in of_files]
    captions = {name: caption for section in spec for name, caption in section.captions.items()}
    folder = ROOT / "rules" / "report"
    said = dict(
        re.findall(r"^(\S+)\n  (.+)$", "\n".join(path.read_text() for path in folder.glob("*.rst")), re.MULTILINE)
    )
    assert said == {name: captions[name].partition(" {")[0].rstrip(".") for name in captions}


# --- the viewer's volumes ---


def test_volumes_keep_values_and_lie_as_preprocessed_scans_do(report):
    found = volumes(report, "brats21_t2_3")
    image = found["image"]
    assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
    assert image.header.get_zooms() == (4.0, 4.0, 4.0) and image.get_data_dtype() == np.uint8
    # halfway between neighbouring steps at worst
    assert np.abs(stored(image) - run.image_of("brats21", "scan-3")).max() <= 0.9 / 255 / 2 + 1e-6
    assert np.argwhere(stored(found["label"]) == 1).min(axis=0).tolist() == [2, 3, 4]


def test_reconstruction_prediction_and_scale_of_an_arm_that_reconstructs(report):
    found = volumes(report, "brats21_t2_3_near")  # level 500 reconstructs the healthy image
    expected = np.abs(run.image_of("brats21", "scan-3") - run.healthy_image("scan-3"))
    assert set(found) == {"reconstruction", "prediction"}  # the page computes the residual
    assert np.abs(stored(found["reconstruction"]) - run.healthy_image("scan-3")).max() < 2e-3  # float16, then 256 steps
    reading = next(one for one in shown(report)[("brats21_t2", "scan-3")]["readings"] if one["label"] == "Near")
    assert reading["map_max"] == pytest.approx(expected.max(), abs=1e-3)
    assert (stored(found["prediction"]) == (expected > run.THRESHOLD)).all()
    assert stored(found["prediction"]).sum() == 27


def test_the_ensemble_is_the_mean_of_its_levels(report):
    found = volumes(report, "brats21_t2_3_near_ens")  # 0.1 less, 0, 0.1 more: their mean is level 500
    assert np.abs(stored(found["reconstruction"]) - run.healthy_image("scan-3")).max() < 3e-3


def test_a_map_has_no_reconstruction_and_a_healthy_scan_no_prediction(report):
    assert set(volumes(report, "brats21_t2_3_blank")) == {"map", "prediction"}
    assert set(volumes(report, "ixi_t2_3_near")) == {"reconstruction"}


def test_the_viewer_offers_methods_not_controls(report):
    assert not list((report / "volumes").glob("*oracle*"))
    # 2 cohorts x 2 scans x (scan itself, near, near as ensemble, blank)
    assert len(list((report / "volumes").iterdir())) == 16


def test_equal_volumes_give_equal_text():
    values = np.random.default_rng(0).random((3, 4, 5), np.float32)
    assert scans.nifti_base64(values, 2.0) == scans.nifti_base64(values.copy(), 2.0)


def test_a_cohort_that_was_left_out_is_named(inputs, tmp_path):
    settings = {**run.SETTINGS, "left_out": ["lgg"]}
    build.build_report(settings, build.Inputs(**inputs), tmp_path / "report", lambda line: None)
    assert '<p class="warning">Left out: lgg. It is optional' in (tmp_path / "report" / "index.html").read_text()


def test_of_the_scans_that_were_kept_as_many_are_shown_as_asked_for_and_the_extremes_of_each_arm(inputs, tmp_path):
    settings = {**run.SETTINGS, "viewer_scans": 1}
    build.build_report(settings, build.Inputs(**inputs), tmp_path / "report", lambda line: None)
    found = {subject: entry for (place, subject), entry in shown(tmp_path / "report").items() if place == "brats21_t2"}
    # the smaller of the two lesions; scan-3 is the median and the best of both arms, in their main reading
    labels = {subject: [one["label"] for one in entry["readings"]] for subject, entry in found.items()}
    assert labels == {"scan-2": ["Near", "Near (ENS)", "Blank"], "scan-3": ["Near (ENS)", "Blank"]}
    assert found["scan-3"]["title"] == "BraTS21 (T2): scans of single arms"


@pytest.fixture
def without_a_scan(inputs, tmp_path):
    """The run's inputs where scoring kept scan-3 of brats21 of the arm blank alone."""
    (near,) = (path for path in inputs["viewer"] if "near" in path.parts)
    file = tmp_path / "near" / "t2" / "fold0.npz"
    file.parent.mkdir(parents=True)
    kept = np.load(near)
    np.savez(file, **{name: kept[name] for name in kept if not name.startswith("brats21/scan-3/")})
    return {**inputs, "viewer": [file if path == near else path for path in inputs["viewer"]]}


@pytest.mark.parametrize("count", [2, "all"])
def test_a_scan_that_one_arm_has_is_shown_of_this_arm(without_a_scan, tmp_path, count):
    settings = {**run.SETTINGS, "viewer_scans": count}
    build.build_report(settings, build.Inputs(**without_a_scan), tmp_path / "report", lambda line: None)
    entry = shown(tmp_path / "report")[("brats21_t2", "scan-3")]
    assert [one["label"] for one in entry["readings"]] == ["Blank"]


# --- the table of single scans ---


def test_scores_of_single_scans_are_means_over_folds_in_printed_units(report):
    text = (report / "scans" / "brats21_t2.js").read_text()
    name, rows = json.loads("[" + text.strip().removeprefix("uadbench.put(").removesuffix(");") + "]")
    assert name == "scans/brats21_t2"
    assert rows["subjects"] == ["scan-2", "scan-3"] and rows["sites"] == ["Plain", run.ODD_SITE]
    assert [column["title"] for column in rows["columns"]] == [
        "Dice (%)", "AUPRC (%)", "Threshold", "Lesion (ml)", "Predicted (ml)", "False positive (ml)",
        "False positives (number)",
    ]  # fmt: skip
    near = next(arm for arm in rows["arms"] if arm["label"] == "Near")
    assert near["values"] == [[70.0, 80.0], [70.0, 80.0], [0.3, 0.3], [0.5, 20.0], [3.0, 3.0], [1.25, 1.25], [2.0, 2.0]]


def test_a_scan_counts_as_its_mean_over_folds_and_columns_that_were_not_scored_are_left_out(lines):
    first = lines[0].rows.drop(columns=["predicted_ml", "false_positive_ml", "false_positives"])
    second = first.assign(fold=1, dice=[0.5, np.nan])
    rows = scan_rows.scan_rows([breakdown.Line("Near", False, pd.concat([first, second]))])
    assert [column["title"] for column in rows["columns"]] == ["Dice (%)", "AUPRC (%)", "Threshold", "Lesion (ml)"]
    assert rows["arms"][0]["values"][0] == [60.0, 80.0]  # (70 + 50) / 2; one fold of scan-3 has no Dice


def test_undefined_scores_of_single_scans_are_null(report):
    text = (report / "scans" / "ixi_t2.js").read_text()
    assert "NaN" not in text and '"values":[[null,null]' in text


def test_the_file_of_all_scores_is_linked(page):
    assert "tables/scans.csv" in page.links


# --- NiiVue ---


def test_niivue_comes_with_its_licence():
    files = niivue.niivue_files()
    assert "BSD 2-Clause License" in files["niivue-LICENSE.txt"]
    assert "Niivue:Niivue" in files["niivue.js"].rsplit("window.niivue={", 1)[1]
    assert files["niivue.js"].startswith("/* NiiVue, from the Python package ipyniivue ")


def test_a_module_becomes_a_script():
    script = niivue.classic_script("const a=1;var B=2;export{a,B as Big};\n")
    assert script == '(function(){"use strict";const a=1;var B=2;window.niivue={a:a,Big:B};})();\n'
    with pytest.raises(ValueError, match="one export list"):
        niivue.classic_script("const a=1;")


def test_the_module_is_found_in_the_widget():
    widget = 'var x="no",o2="var%20a%3D1",b;nv.saveHTML(h,c,decodeURIComponent(o2))'
    assert niivue.embedded_module(widget) == "var a=1"
    with pytest.raises(ValueError, match="does not hold the library"):
        niivue.embedded_module('var o2="a";')


def test_a_missing_package_is_named(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(niivue.importlib.metadata, "distribution", missing)
    with pytest.raises(InputError, match="ipyniivue: is not installed"):
        niivue.niivue_files()


# --- the breakdowns ---


@pytest.fixture(scope="module")
def lines():
    return breakdown.lines_of(run.score_rows(), run.ARMS, PLACE, range(1), "500")


def test_every_reading_is_a_line(lines):
    assert [(line.label, line.control) for line in lines] == [
        ("Near", False), ("Near (ENS)", False), ("Blank", False), ("oracle", True),
    ]  # fmt: skip


def test_spread_over_test_volumes(lines):
    table = breakdown.cohort_table(lines, range(1))
    # scan-2 0.70, scan-3 0.80: quartiles lie a quarter of the way in
    assert texts(table)[0][:6] == ["Near", "2", "75.0", "75.0", "72.5", "77.5"]


def test_sites_and_sizes_hold_their_own_volumes(lines):
    sites = breakdown.site_table(lines, range(1), "dice")
    assert sites.heads == ["Arm", f"{run.ODD_SITE} (n = 1)", "Plain (n = 1)"]
    assert texts(sites)[0] == ["Near", "80.00", "70.00"]
    sizes = breakdown.lesion_table(lines, range(1))
    assert sizes.heads[1:] == [
        "below 1 ml (n = 1)", "1 to 10 ml (n = 0)", "10 to 50 ml (n = 1)", "50 ml and more (n = 0)",
    ]  # fmt: skip
    assert texts(sizes)[0] == ["Near", "70.00", "–", "80.00", "–"]


def test_a_stratum_includes_its_lower_edge(lines):
    moved = [breakdown.Line("Near", False, lines[0].rows.assign(lesion_ml=[1.0, 50.0]))]
    sizes = breakdown.lesion_table(moved, range(1))
    assert texts(sizes)[0] == ["Near", "–", "70.00", "–", "80.00"]


def test_a_cohort_of_one_site_has_no_table_of_sites(lines):
    alone = [breakdown.Line(line.label, line.control, line.rows.assign(site="here")) for line in lines]
    assert breakdown.site_table(alone, range(1), "dice") is None


# --- significance ---


def test_arms_are_ordered_by_their_mean_and_controls_left_out(inputs):
    long = pd.read_csv(inputs["results"] / "tables" / "table3.csv")
    (table,) = comparisons.comparison_tables(long, run.ARMS)
    assert table.heads == ["Arm", "Dice (%)", "against", "p"]
    assert texts(table) == [
        ["Near (ENS)", "75.25*", "Near (ENS)", "< 0.0001"],
        ["Near", "65.00", "Near (ENS)", "0.5000"],
        ["Blank", "10.00", "Near (ENS)", "0.0400"],
    ]


def test_errors_are_ordered_with_the_smallest_first_and_intervals_are_one_column():
    means = pd.DataFrame({"arm": ["near", "blank"], "mean": [9.0, 4.0]})
    place = {"ens": 0, "cohort": "ixi", "modality": "t2", "metric": "l1", "star": 0, "p_value": np.nan,
             "n_volumes": 20, "n_undefined": 0}  # fmt: skip
    rows = means.assign(**place, ci_low=means["mean"] - 1, ci_high=means["mean"] + 2)
    (table,) = comparisons.comparison_tables(rows, run.ARMS)
    assert texts(table) == [["Blank", "4.00", "3.00 to 6.00", "–"], ["Near", "9.00", "8.00 to 11.00", "–"]]


@pytest.mark.parametrize(("volumes", "undefined", "few"), [(5, 0, True), (6, 0, False), (6, 1, True)])
def test_too_few_volumes_for_any_star_have_no_p(inputs, volumes, undefined, few):
    """2 / 2^5 is 6.25 %, 2 / 2^6 is 3.1 %."""
    long = pd.read_csv(inputs["results"] / "tables" / "table3.csv").assign(n_volumes=volumes, n_undefined=undefined)
    assert comparisons.too_few(long) == ({PLACE: 5} if few else {})
    (table,) = comparisons.comparison_tables(long, run.ARMS, comparisons.too_few(long))
    assert ("p" in table.heads) is not few


@pytest.mark.parametrize(("unit", "times"), [("volumes", 1), ("folds", 0)])
def test_the_page_says_once_where_no_test_can_be_significant(inputs, tmp_path, unit, times):
    folder = tmp_path / "tables"
    shutil.copytree(inputs["results"] / "tables", folder)
    long = pd.read_csv(folder / "table3.csv").assign(n_volumes=3)
    long.to_csv(folder / "table3.csv", index=False)
    few = build.Inputs(**{**inputs, "tables": sorted(folder.glob("*.csv"))})
    config = {**run.SETTINGS["config"], "tables": {"test_unit": unit}}
    build.build_report({**run.SETTINGS, "config": config}, few, tmp_path / "report", lambda line: None)
    text = (tmp_path / "report" / "index.html").read_text()
    assert text.count("Too few test volumes") == times
    assert text.count("BraTS21 (T2): n = 3, p ≥ 0.25.") == times


# --- quality, costs, provenance ---


def test_failed_scans_are_counted_and_named(inputs):
    rows = quality.read_shards(inputs["shards"])
    table = quality.preprocessing_table(rows, [PLACE])
    # brain 1400, 1410, 1420, 1430 ml; atlas Dice 0.95, 0.94, 0.93, 0.92
    assert texts(table) == [
        ["BraTS21 (T2)", "5", "1", "1415", "1400", "1430", "0.935", "0.920", "0.90", "1.20", "0.10", "1.5"]
    ]
    assert texts(quality.failure_table(rows)) == [["lost", "BraTS21 (T2)", "truncated <file>"]]


def test_flags_of_the_shards_and_of_the_store_are_named(inputs, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "brats21_t2.json").write_text('{"flags": {"scan-9": "the packed box cuts off all"}}')
    table = quality.flag_table(quality.read_shards(inputs["shards"]), [PLACE], tmp_path)
    assert texts(table) == [
        ["scan-0", "BraTS21 (T2)", "n4_ratio is 1"], ["scan-9", "BraTS21 (T2)", "the packed box cuts off all"],
    ]  # fmt: skip


def test_thumbnails_show_the_worst_scans_first(report):
    text = (report / "index.html").read_text()
    shown = [text.index(f'alt="Three slices of scan-{scan} ') for scan in (3, 2, 1)]
    assert shown == sorted(shown) and "Three slices of scan-0" not in text


def test_a_thumbnail_outlines_brain_and_lesion():
    label = np.zeros(run.SHAPE, np.uint8)
    label[run.LESION] = 1
    image = run.image_of("brats21", "scan-0")
    picture = pictures.scan_picture(image, image > 0, label)
    factor = 13  # 10 rows become 130
    assert picture.shape == (10 * factor, (8 + 8 + 10) * factor, 3)
    colours = {tuple(colour) for colour in picture.reshape(-1, 3)}
    assert {(230, 159, 0), (86, 180, 233)} <= colours
    centre = picture[4 * factor + factor // 2, 5 * factor + factor // 2]  # voxel y 4, x 5 of the axial view
    assert centre.tolist() == [229, 229, 229]  # 0.9 of 255, no outline


def test_stages_add_up_and_unmeasured_memory_is_left_out(inputs):
    jobs = read_benchmarks(inputs["results"] / "benchmarks")
    table = costs.stage_table(jobs)
    assert texts(table) == [
        ["train", "2", "1:01:40", "0:30:50", "1:00:00 (near-t2-fold0)", "0:50:00", "900"],
        ["tables", "1", "2.0 s", "2.0 s", "2.0 s", "1.5 s", "200"],
    ]
    assert table.note == "Total job time 1:01:42 (jobs that ran in parallel are added up)."
    assert [line[0].text for line in costs.job_table(jobs).lines] == [
        "train near-t1-fold0", "train near-t2-fold0", "tables",
    ]  # fmt: skip


def test_a_run_without_benchmarks_has_an_empty_table(tmp_path):
    assert costs.stage_table(read_benchmarks(tmp_path)).lines == []


def test_two_commits_and_two_versions_are_seen(inputs, report):
    found = origins.read_origins(inputs["results"])
    assert len(found) == 5  # two stores, three arms; the copies in the report do not count
    facts = dict(texts(origins.summary_table(found, run.SETTINGS["config"])))
    assert facts["Commit"] == "bbbbbbbbbb (3); aaaaaaaaaa (2)"
    assert facts["Machine"] == "abacus, 3 cores" and facts["Seed of the run"] == "31"
    assert texts(origins.package_table(found)) == [["numpy", "2.1 (3); 2.0 (2)"]]
    assert (report / "provenance" / "store" / "ixi_t2.json").is_file()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.9, "59.9 s"), (60, "0:01:00"), (3725.4, "1:02:05"), (math.nan, "–")]
)
def test_durations(seconds, text):
    assert duration(seconds).text == text


def test_numbers_without_a_value_sort_last():
    assert number(None).text == number(math.nan).text == "–" and math.isnan(number(None).sort)
    assert number(1.25, 1, " ml").text == "1.2 ml"
