"""The pages of reports: what they say, and what they do in a browser."""

import json
import os
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from scenes import noisy, scene, tiny

from dip_sci import provenance, report
from dip_sci.image import Image
from dip_sci.report.pictures import png
from dip_sci.restore import denoise


def made(image, **changes):
    result = denoise(image, tiny(**changes))
    record = json.loads(json.dumps(provenance.record(image, result.report, digest="0123456789abcdef")))
    return report.page(image, result, record)


@pytest.fixture(scope="module")
def image_page():
    """The report of a small volume with all there is to show: planes, a spread, a stop curve, a classical result."""
    image = noisy(6, 32, 40, axes="ZYX", spacing=(1.0, 1.0, 1.0))
    return made(
        image,
        fit={"steps": 30, "seeds": 2},
        stop={"rule": "held_out"},
        generator={"ndim": "2d"},
        output={"classical": "blend"},
    )


@pytest.fixture(scope="module")
def batch_folder(tmp_path_factory):
    """A folder with six reports and their overview: the fourth scan is unlike the others, and one more failed."""
    folder = tmp_path_factory.mktemp("batch")
    entries = {}
    for n in range(6):
        noise = np.random.default_rng(n).normal(0, 60.0 if n == 3 else 8.0, (32, 32))
        image = Image((scene(32, 32) + noise).astype(np.float32), "YX")
        (folder / f"scan {n}.html").write_text(made(image), encoding="utf-8")
        entries[f"scan {n}.tif"] = {"state": "done", "report": f"scan {n}.html"}
    entries["<b>bad</b>.tif"] = {"state": "failed", "error": "It holds <i>text</i>."}
    (folder / "report.html").write_text(report.overview(folder, entries), encoding="utf-8")
    return folder


def test_a_page_says_how_it_came_about(image_page):
    for words in ("Gaussian noise", "Before and after", "held_out", "0123456789ab", "non-local means", "Provenance"):
        assert words in image_page
    assert "the spread over them is shown here" not in image_page
    assert image_page.count("<tr>") > 20


def test_a_page_asks_nothing_of_a_network_and_names_no_file(image_page, batch_folder):
    for page in (image_page, (batch_folder / "report.html").read_text(encoding="utf-8")):
        assert re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(https?:|//)""", page) == []
        assert "default-src 'none'" in page
    assert "/tmp" not in image_page


def test_what_a_scan_is_called_is_text(batch_folder):
    page = (batch_folder / "report.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;bad&lt;/b&gt;" in page
    assert "<b>bad" not in page
    assert 'href="scan%203.html"' in page


def test_the_same_run_gives_the_same_page():
    image = noisy(32, 32)
    result = denoise(image, tiny())
    record = provenance.record(image, result.report)
    assert report.page(image, result, record) == report.page(image, result, record)


@pytest.mark.parametrize(
    "image",
    [
        noisy(3, 2, 24, 24, axes="TCYX"),
        noisy(24, 24, 3, axes="YXS"),
        Image(np.full((24, 24), 7, np.uint8), "YX"),
        Image(np.where(np.eye(24) > 0, np.nan, noisy(24, 24).array), "YX"),
        noisy(24, 32, dtype=np.uint16),
    ],
    ids=["time and channels", "colour", "constant", "not finite", "whole numbers"],
)
def test_every_image_has_a_page(image):
    assert "Values kept" in made(image)


def test_means_in_bands_are_those_of_the_values(image_page):
    rows = re.findall(
        r'<td>(whole image|darkest fifth)</td><td class="n">(\d+)</td>\s*<td class="n">([\d.]+)</td>', image_page
    )
    (_, count, mean), (_, fifth, dark) = rows
    values = noisy(6, 32, 40, axes="ZYX").array
    assert int(count) == values.size
    assert int(fifth) == pytest.approx(values.size / 5, abs=1)
    assert float(mean) == pytest.approx(values.mean(), rel=1e-3)
    assert float(dark) < float(mean)


def test_a_damaged_report_costs_its_row_only(batch_folder, tmp_path):
    entries = {"a.tif": {"state": "done", "report": "a.html"}, "gone.tif": {"state": "done", "report": "gone.html"}}
    (tmp_path / "a.html").write_text('<script type="application/json" id="summary">{"bef')
    page = report.overview(tmp_path, entries)
    assert page.count("<tr>") == 3


def test_a_picture_has_the_grey_values_of_its_window():
    import base64
    import io

    from PIL import Image as Picture

    address = png(np.array([[0.0, 1.0], [2.0, np.nan]]), 0, 2)
    grey = np.asarray(Picture.open(io.BytesIO(base64.b64decode(address.split(",")[1]))))
    assert grey.tolist() == [[0, 128], [255, 0]]


# In a real browser.


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Debian's Chromium; elsewhere the tests are skipped, but never where every change is checked."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        if "CI" in os.environ:
            pytest.fail("chromium and chromium-driver are missing: .ci/system installs them")
        pytest.skip("needs Debian's chromium and chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"),
        *("disable-component-update", "disable-sync", "window-size=1200,1400", "disable-dev-shm-usage"),
        f"user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    window = webdriver.Chrome(options=options, service=Service(driver))
    yield window
    window.quit()


LOCAL = {"file", "data", "chrome"}
"""Kinds of addresses that lead nowhere else; the last is of the browser's own pages."""


def asked_for(browser):
    """Addresses that the page has asked for since the last look."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


def opened(browser, path):
    asked_for(browser)
    browser.get(path.as_uri())
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    return SimpleNamespace(
        run=browser.execute_script,
        set=lambda name, value: browser.execute_script(
            f"const e = document.getElementById('{name}'); e.value = '{value}'; e.dispatchEvent(new Event('input'));"
        ),
    )


def test_in_a_browser_the_slider_moves_the_line_between_the_images(browser, image_page, tmp_path):
    (tmp_path / "page.html").write_text(image_page, encoding="utf-8")
    page = opened(browser, tmp_path / "page.html")
    sizes = page.run("return [...document.images].map(i => [i.complete, i.naturalWidth])")
    assert len(sizes) == 6
    assert all(complete and width > 10 for complete, width in sizes)
    assert page.run("return getComputedStyle(document.getElementById('right')).clipPath").endswith("50%)")
    slider = browser.find_element("id", "where")
    slider.send_keys(*["\ue012"] * 20)
    assert page.run("return document.getElementById('right').style.clipPath").endswith(" 30%)")
    assert page.run("return document.getElementById('line').style.left") == "30%"
    assert {a.split(":")[0] for a in asked_for(browser)} <= LOCAL


def test_in_a_browser_planes_and_parts_can_be_chosen(browser, image_page, tmp_path):
    (tmp_path / "page.html").write_text(image_page, encoding="utf-8")
    page = opened(browser, tmp_path / "page.html")
    seen = {(page.run("return left.src"), page.run("return residual.src"), page.run("return spread.src"))}
    for n in range(5):
        page.set("plane", n)
        seen.add((page.run("return left.src"), page.run("return residual.src"), page.run("return spread.src")))
    assert len(seen) == 5
    after = page.run("return right.src")
    page.set("rightpart", "classical")
    assert page.run("return right.src") != after
    assert page.run("return rightname.textContent") == "classical"
    browser.find_element("id", "blink").click()
    page.run("return new Promise(done => setTimeout(done, 900))")
    assert page.run("return right.style.visibility") == "hidden"
    browser.find_element("id", "blink").click()
    assert page.run("return right.style.visibility") == ""


def test_in_a_browser_the_oddest_come_first_and_the_table_sorts(browser, batch_folder):
    page = opened(browser, batch_folder / "report.html")

    def column(number):
        return page.run(
            f"return [...document.querySelectorAll('#scans tbody tr')].map(r => r.cells[{number}].textContent)"
        )

    assert column(2)[:2] == ["<b>bad</b>.tif", "scan 3.tif"]
    assert column(5)[1] != ""
    heads = browser.find_elements("css selector", "#scans th")
    heads[2].click()
    assert column(2) == ["<b>bad</b>.tif", *(f"scan {n}.tif" for n in range(6))]
    heads[2].click()
    assert column(2)[0] == "scan 5.tif"
    heads[6].click()
    taken = [float(text) for text in column(6)[:-1]]
    assert taken == sorted(taken)
    assert column(6)[-1] == "–"
    browser.find_element("link text", "scan 0.tif").click()
    assert browser.title == "dip_sci: report of one image"
    assert {a.split(":")[0] for a in asked_for(browser)} <= LOCAL
