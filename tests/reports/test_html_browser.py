"""The HTML report in headless Chromium: what a reader clicks, types, prints, and what the page never does."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clbench.reports.html import page, sources
from clbench.testing.runs import write_run
from clbench.testing.traces import make_trace
from support import make_run

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium, of the extra dev")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="needs chromium and chromedriver"),
    pytest.mark.xdist_group("browser"),  # they share one
]
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,900",
    "about:blank",
)  # fmt: skip
SCRIPT = "<script>document.title = 'broken in'</script>"
NAMES = ("naive", "er", "ewc", SCRIPT, "<img src=x onerror=\"document.title = 'broken in'\">")


def accuracies(method: int, seed: int) -> Any:
    """Three tasks of 60 evaluations each, (3, 60, 3); the lowest value of the first is at one evaluation alone."""
    n = np.linspace(0, 1, 60)
    curves = np.full((3, 60, 3), np.nan)
    for v in range(3):
        curves[v, :, v] = 0.9 * n**0.3
        for task in range(v):
            curves[v, :, task] = curves[v - 1, -1, task] - (0.1 + 0.02 * method + 0.01 * seed) * n
    curves[1, 20, 0] = 0.05
    return curves


def contents(out: Path) -> page.Contents:
    for i, name in enumerate(NAMES):
        for seed in range(2):
            run = make_run("er", f"strategy.memory={10 + i}", seed=seed)
            config = run.model_dump(mode="json") | {"strategy": {"name": name}}
            changes = {"config": config, "config_hash": f"{i:064x}", "run_id": f"{10 * i + seed:064x}"}
            place = write_run(out, run, make_trace(accuracies(i, seed)), costs={"train_s": 1.0 + i}, **changes)
    stream = json.loads((place / "run.json").read_text())["stream"]
    write_run(out, make_run("lwf", seed=1), None, failure=f"no {SCRIPT} luck", stream=stream)
    some, excluded = sources.Reader().read([out])
    return page.Contents("A report", some, excluded)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    path = folder / "report.html"
    path.write_bytes(page.build(contents(folder / "out")))
    return path


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield browser
    browser.quit()


@pytest.fixture
def browser(chromium: Any, report: Path) -> Iterator[Any]:
    """The page, freshly loaded; at the end no message in the console, and no request but for the page."""
    look(chromium, 1280, "light")
    for kind in ("browser", "performance"):
        chromium.get_log(kind)
    chromium.get(report.as_uri())
    is_ready(chromium)
    yield chromium
    chromium.execute_script("sessionStorage.clear()")  # what was chosen
    assert [entry["message"] for entry in chromium.get_log("browser")] == []
    assert {url for url in requests(chromium) if not url.startswith(("data:", "blob:"))} <= {report.as_uri()}
    assert chromium.title == "A report"


def requests(browser: Any) -> list[str]:
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


def is_ready(browser: Any) -> None:
    ready = "return !window.old && document.documentElement.dataset.ready === 'true'"
    WebDriverWait(browser, 20, poll_frequency=0.02).until(lambda _: browser.execute_script(ready))


def look(browser: Any, width: int, mode: str) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": mode}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def column(browser: Any, table: str, number: int) -> list[str]:
    """Texts of a column."""
    cells = (
        f"return [...document.querySelectorAll('{table} tbody tr')].map(row => row.cells[{number}].textContent.trim())"
    )
    return list(browser.execute_script(cells))


def drawn(browser: Any, kind: str) -> Any:
    """A figure, in sight and drawn."""
    figure = browser.find_element(By.CSS_SELECTOR, f"[data-figure={kind}]")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", figure)
    WebDriverWait(browser, 20, poll_frequency=0.02).until(lambda _: figure.get_attribute("data-drawn"))
    return figure


def lines(browser: Any, kind: str = "accuracy") -> list[str]:
    """Names of the lines in a figure, bands left out."""
    script = (
        f"return document.querySelector('[data-figure={kind}] .drawing').data.filter(t => !t.fill).map(t => t.name)"
    )
    return list(browser.execute_script(script))


def axis(browser: Any, name: str = "x") -> list[float]:
    script = f"return document.querySelector('[data-figure=accuracy] .drawing').layout.{name}axis.range"
    return [float(end) for end in browser.execute_script(script)]


# ------------------------------------------------------------------------------------------------ tables
def test_tables_sort_by_click_and_by_keyboard(browser: Any) -> None:
    heads = browser.find_elements(By.CSS_SELECTOR, "table.ranking thead button")
    words = [head.text for head in heads]
    by = next(i for i, text in enumerate(words) if text.startswith("average_"))
    before = column(browser, "table.ranking", by)
    heads[by].click()
    down = column(browser, "table.ranking", by)
    values = [float(text.partition(" ")[0]) for text in down if text]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == len(NAMES)
    assert down[-1] == "", "without a value last"
    heads[by].send_keys(Keys.ENTER)
    up = column(browser, "table.ranking", by)
    assert up == [*down[:-1][::-1], ""]
    head = browser.find_element(By.CSS_SELECTOR, "table.ranking th[aria-sort]")
    assert head.get_attribute("aria-sort") == "ascending"
    assert browser.find_element(By.ID, "announcement").get_attribute("textContent").endswith("ascending")
    heads[0].send_keys(Keys.SPACE)
    assert sorted(column(browser, "table.ranking", by)) == sorted(before)


def test_a_definition_is_one_hover_or_focus_away(browser: Any) -> None:
    tip = browser.find_element(By.ID, "tip")
    button = browser.find_element(By.CSS_SELECTOR, "[data-tip=metric-average_accuracy]")
    assert not tip.is_displayed()
    webdriver.ActionChains(browser).move_to_element(button).perform()
    assert "1/T sum_j R[V-1, j]" in tip.text
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.ESCAPE)
    assert not tip.is_displayed()
    other = browser.find_element(By.CSS_SELECTOR, "[data-tip=metric-min_acc]")
    browser.execute_script("arguments[0].focus()", other)
    assert "min-ACC" in tip.text
    inside = "const r = arguments[0].getBoundingClientRect(); return r.left >= 0 && r.right <= innerWidth && r.top >= 0"
    assert browser.execute_script(inside, tip)


def test_differences_turn_with_the_reference(browser: Any) -> None:
    def rows() -> dict[str, str]:
        return dict(zip(column(browser, ".differences", 0), column(browser, ".differences", 2), strict=True))

    def choose(text: str) -> None:
        select = browser.find_element(By.CSS_SELECTOR, "[data-control=reference]")
        choice = next(o for o in select.find_elements(By.TAG_NAME, "option") if o.get_attribute("textContent") == text)
        choice.click()

    choose("naive")
    er = rows()["er"]
    assert set(rows()) == set(NAMES) - {"naive"}
    choose("er")
    assert er.startswith("−")
    assert rows()["naive"] == er.replace("−", "+")


# ------------------------------------------------------------------------------------------------ curves
def test_curves_are_drawn_when_they_come_into_sight(browser: Any) -> None:
    assert browser.find_elements(By.CSS_SELECTOR, "[data-figure=costs][data-drawn]") == []
    drawn(browser, "costs")
    assert browser.find_elements(By.CSS_SELECTOR, "[data-figure=costs] .js-plotly-plot .point")


def test_curves_go_off_and_on_by_click_and_by_keyboard(browser: Any) -> None:
    drawn(browser, "accuracy")
    everything = lines(browser)
    assert len(everything) == len(NAMES)
    legend = browser.find_element(By.CSS_SELECTOR, ".legend")
    er = next(b for b in legend.find_elements(By.CSS_SELECTOR, "button.method") if b.text == "er")
    er.click()
    assert er.get_attribute("aria-pressed") == "false"
    assert set(everything) - set(lines(browser)) == {"er"}
    er.send_keys(Keys.SPACE)
    assert er.get_attribute("aria-pressed") == "true"
    assert lines(browser) == everything
    none = next(b for b in legend.find_elements(By.TAG_NAME, "button") if b.text == "none")
    none.send_keys(Keys.ENTER)
    assert lines(browser) == []
    drawn(browser, "gap")
    assert lines(browser, "gap") == [], "the other curves of the board follow"


def test_what_a_curve_shows_and_without_colour(browser: Any) -> None:
    drawn(browser, "accuracy")
    select = browser.find_element(By.CSS_SELECTOR, "[data-control=task]")
    select.find_element(By.CSS_SELECTOR, "option[value='0']").click()
    traces = browser.execute_script("return document.querySelector('[data-figure=accuracy] .drawing').data")
    curves = [trace for trace in traces if not trace.get("fill")]
    assert all(min(y for y in curve["y"] if y is not None) == 0 for curve in curves), "n = 0 of the first experience"
    assert all(5.0 in curve["y"] for curve in curves), "the lowest point after it"
    looks = {(curve["line"]["dash"], curve["marker"]["symbol"]) for curve in curves}
    assert len(looks) == len(curves), "told apart by dashes and markers"


def test_zoom_by_keyboard_and_by_dragging(browser: Any) -> None:
    figure = drawn(browser, "accuracy")
    whole = axis(browser)
    assert whole == [0, 174]
    figure.send_keys("+")
    assert axis(browser) == [43.5, 130.5]
    figure.send_keys(Keys.ARROW_RIGHT)
    assert axis(browser) == [65.25, 152.25]
    assert "65 to 152" in browser.find_element(By.ID, "announcement").get_attribute("textContent")
    figure.send_keys("0")
    assert axis(browser) == whole
    area = figure.find_element(By.CSS_SELECTOR, ".nsewdrag")
    action = webdriver.ActionChains(browser, duration=30)
    action.move_to_element_with_offset(area, -100, 0).click_and_hold().move_by_offset(150, 2).release().perform()
    WebDriverWait(browser, 20, poll_frequency=0.02).until(lambda _: axis(browser) != whole)
    low, high = axis(browser)
    assert 0 < low < high < 174
    WebDriverWait(browser, 20, poll_frequency=0.02).until(lambda _: axis(browser, "y")[1] > 10)  # all is drawn again
    heights = axis(browser, "y")
    browser.find_element(By.CSS_SELECTOR, ".legend button.method").click()
    assert (axis(browser), axis(browser, "y")) == ([low, high], heights), "the zoom stays"
    browser.execute_script("arguments[0].querySelector('.drawing').emit('plotly_doubleclick')", figure)
    WebDriverWait(browser, 20, poll_frequency=0.02).until(lambda _: axis(browser) == whole)
    figure.send_keys("+")
    reset = browser.find_element(By.CSS_SELECTOR, "[data-zoom=reset]")
    reset.send_keys(Keys.ENTER)
    assert axis(browser) == whole


# ------------------------------------------------------------------------------------------------ everywhere
def test_names_are_text_in_figures_too(browser: Any) -> None:
    for kind in ("accuracy", "gap", "matrix", "stream", "costs"):
        drawn(browser, kind)
    assert SCRIPT in column(browser, ".differences", 0) + column(browser, "table.ranking", 1)
    labels = browser.execute_script(
        "return [...document.querySelectorAll('[data-figure=costs] .textpoint')].map(t => t.textContent)"
    )
    assert f"{SCRIPT[:23]}\u2026" in labels
    assert browser.execute_script("return document.querySelectorAll('img:not([src^=data])').length") == 0


def test_the_policy_refuses_requests_and_other_scripts(browser: Any) -> None:
    """Were a name markup after all, the browser would still do nothing for it."""
    refused = browser.execute_async_script("""
        const done = arguments[0], seen = [];
        document.addEventListener("securitypolicyviolation", (event) => {
            seen.push(event.effectiveDirective);
            if (seen.length === 3) done(seen.sort());
        });
        new Image().src = "http://127.0.0.1:9/a.png";
        fetch("http://127.0.0.1:9/").catch(() => {});
        const script = document.createElement("script");
        script.textContent = "document.title = 'broken in'";
        document.body.append(script);""")
    assert refused == ["connect-src", "img-src", "script-src-elem"]
    assert all("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))
    browser.get_log("performance")  # where refused requests stand too


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_it_fits_a_phone_and_follows_the_mode(browser: Any, width: int, mode: str) -> None:
    look(browser, width, mode)
    drawn(browser, "accuracy")
    wide, visible = browser.execute_script("return [document.documentElement.scrollWidth, document.body.clientWidth]")
    assert wide <= visible <= width
    colour, background = browser.execute_script(
        "const s = getComputedStyle(document.body);"
        "return [s.color, s.backgroundColor].map(c => Number(c.match(/[0-9]+/)[0]))"
    )
    assert (background > 200 > colour) if mode == "light" else (background < 60 < colour)
    fonts = browser.execute_script(
        "return document.querySelector('[data-figure=accuracy] .drawing').layout.font.color.toLowerCase()"
    )
    assert fonts == {"light": "#1d2127", "dark": "#e3e7ec"}[mode]


def test_paper_has_everything(browser: Any) -> None:
    look(browser, 1280, "dark")
    made = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert base64.b64decode(made["data"]).startswith(b"%PDF")
    figures = browser.find_elements(By.CSS_SELECTOR, "div[data-figure]")
    assert [figure.get_attribute("data-drawn") for figure in figures] == ["true"] * len(figures)
    assert browser.find_elements(By.CSS_SELECTOR, "details[open]:not(.contents)") == [], "closed again afterwards"


def test_a_followed_page_keeps_what_was_chosen(chromium: Any, tmp_path: Path) -> None:
    """It loads itself again; the scroll position, the curves that are off and the order of a table stay."""
    path = tmp_path / "followed.html"
    made = contents(tmp_path / "out")
    path.write_bytes(page.build(page.Contents(made.title, made.sources, reload_s=5)))
    look(chromium, 1280, "light")
    held = {"source": "window.setInterval = (act, ms) => { window.act = act; window.ms = ms; };"}  # time is the test's
    script = chromium.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", held)
    chromium.get(path.as_uri())
    is_ready(chromium)
    assert chromium.execute_script("return window.ms") == 5000
    chromium.find_element(By.CSS_SELECTOR, "table.ranking thead button").click()
    figure = drawn(chromium, "accuracy")
    chromium.find_element(By.CSS_SELECTOR, ".legend button.method").click()
    figure.send_keys("+")
    range_ = axis(chromium)
    chromium.execute_script("scrollTo(0, 500); window.old = true; window.act()")
    is_ready(chromium)
    assert chromium.execute_script("return scrollY") == 500
    er = chromium.find_element(By.CSS_SELECTOR, ".legend button.method")
    assert er.get_attribute("aria-pressed") == "false"
    assert chromium.find_element(By.CSS_SELECTOR, "th[aria-sort]").get_attribute("aria-sort") == "ascending"
    drawn(chromium, "accuracy")
    assert axis(chromium) == range_
    chromium.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)
    chromium.get("about:blank")
