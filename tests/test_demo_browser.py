"""The page of `demo` in a real browser: Chromium with its driver, where they are installed."""

import io
import shutil

import jax
import numpy as np
import pytest
from helpers import run_train
from PIL import Image
from serving import serving
from untrained import untrained_forecast, untrained_text

import rnn_jax as rnn
from rnn_jax.app.readers import make_reader
from rnn_jax.data import load_dataset

selenium = pytest.importorskip("selenium")
if not (shutil.which("chromium") and shutil.which("chromedriver")):
    pytest.skip("chromium or chromedriver is not installed", allow_module_level=True)

from selenium import webdriver  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

SEVEN = ((-70, -80), (140, 0), (-35, 80), (-35, 90))  # from the middle of the pad, then step by step

UNNAMED = """
    return [...document.querySelectorAll("button, input, select, textarea, canvas[role]")].filter(each =>
        !(each.labels && each.labels.length) && !each.textContent.trim() && !each.getAttribute("aria-label")
        && each.offsetParent).map(each => each.id || each.outerHTML);
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    options = "--dataset=digits", "--cell=gru", "--hidden-size=32", "--steps=400", "--no-pictures"
    with jax.numpy_dtype_promotion("standard"):
        assert run_train(None, *options, "--batch-size=64", "--output-dir", folder)[0] == 0
    with serving(make_reader(rnn.load_run(folder), folder)) as server:
        yield server


@pytest.fixture(scope="module")
def untrained_server(tmp_path_factory, request):
    """The server of an untrained run; the parameter makes it."""
    folder = tmp_path_factory.mktemp("run")
    with serving(make_reader(request.param(folder), folder)) as server:
        yield server


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    yield browser
    browser.quit()


@pytest.fixture
def page(browser, server):
    """The page, loaded anew; afterwards its console must be empty."""
    open_page(browser, server)
    yield browser
    assert browser.get_log("browser") == []


@pytest.fixture
def own_page(browser, untrained_server):
    """The page of a run on own data."""
    open_page(browser, untrained_server)
    yield browser
    assert browser.get_log("browser") == []


def open_page(browser, server):
    emulate(browser, 1280)
    browser.get(server.url)
    wait(browser, lambda: text(browser, "mistakes"))


def emulate(browser, width, scheme="light"):
    """Sets the width in pixels, the colours, and calm: a reading is then shown at once, not played."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
    features = [{"name": name, "value": value} for name, value in features.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def text(browser, name):
    return browser.find_element("id", name).text


def wait(browser, condition):
    WebDriverWait(browser, 30, poll_frequency=0.05).until(lambda _: condition())


def drop(browser, content, name):
    """Drops a file onto the page."""
    script = """
        const data = new DataTransfer(), bytes = new Uint8Array(arguments[0]);
        data.items.add(new File([bytes], arguments[1]));
        document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true}));
    """
    browser.execute_script(script, list(content), name)


def draw_seven(browser):
    start, *moves = SEVEN
    mouse = ActionChains(browser, duration=20).move_to_element_with_offset(browser.find_element("id", "pad"), *start)
    mouse.click_and_hold()
    for move in moves:
        mouse.move_by_offset(*move)
    mouse.release().perform()
    wait(browser, lambda: browser.execute_script("return reading && !busy && !next && strokes.length"))


def test_a_seven_drawn_with_the_mouse_is_read(page):
    draw_seven(page)
    wait(page, lambda: text(page, "answer") == "7")
    assert "after row 8 of 8" in text(page, "belief")
    shown = page.execute_script("return reading.answers")
    assert np.argmax(shown[-1]) == 7
    page.find_element("id", "clear").click()
    assert "waiting" in page.find_element("tag name", "body").get_attribute("class")


def test_an_answer_that_comes_after_clear_is_not_shown(page):
    page.execute_script("""
        const ask = fetch;
        window.fetch = (...request) => ask(...request).then(answer => new Promise(go => setTimeout(go, 300, answer)));
        strokes.push([[50, 50], [200, 200]]);
        send();
    """)
    wait(page, lambda: page.execute_script("return busy"))
    page.find_element("id", "clear").click()
    wait(page, lambda: not page.execute_script("return busy"))
    assert "waiting" in page.find_element("tag name", "body").get_attribute("class")


def test_the_slider_and_the_arrow_keys_go_through_time(page):
    draw_seven(page)
    slider = page.find_element("id", "time")
    slider.send_keys(Keys.HOME)
    assert text(page, "at") == "1 / 8"
    slider.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    page.find_element("id", "play").send_keys(Keys.ARROW_RIGHT)
    assert text(page, "at") == "4 / 8"
    row = page.execute_script("return reading.answers[3]")
    assert text(page, "answer") == str(np.argmax(row))
    assert "After row 4 of 8" in slider.get_attribute("aria-valuetext")
    wait(page, lambda: "After row 4 of 8" in page.find_element("id", "announce").get_attribute("textContent"))


def test_a_file_that_is_opened_or_dropped_is_read(page, tmp_path):
    test = load_dataset("digits").test
    image = np.kron(test.inputs[np.flatnonzero(test.targets == 0)[0]].astype(float) / 16, np.ones((20, 20)))
    content = io.BytesIO()
    Image.fromarray((255 * image).astype(np.uint8)).save(content, "png")
    (tmp_path / "zero.png").write_bytes(content.getvalue())
    (tmp_path / "notes.png").write_text("no picture")
    page.find_element("id", "file").send_keys(str(tmp_path / "zero.png"))
    wait(page, lambda: text(page, "answer") == "0")
    drop(page, b"no picture", "notes.png")
    wait(page, lambda: "notes.png is neither a picture nor" in text(page, "message"))
    assert [entry["message"] for entry in page.get_log("browser") if "422" not in entry["message"]] == []
    drop(page, content.getvalue(), "zero.png")
    wait(page, lambda: text(page, "message") == "" and text(page, "answer") == "0")


def test_an_example_shows_its_gates_and_the_gradient_of_another_class(page):
    page.find_element("css selector", "#examples button").click()
    wait(page, lambda: "True class" in text(page, "notes"))
    options = page.find_elements("css selector", "#part option")
    assert [option.text for option in options] == ["state h", "reset gate", "update gate"]
    options[1].click()
    assert text(page, "memory-title") == "Memory: reset gate"
    assert page.execute_script("return document.getElementById('memory').width") == 32
    page.find_element("css selector", "#bars button[value='3']").click()
    wait(page, lambda: text(page, "image-title") == "Gradient of 3")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_its_width_in_light_and_dark(page, width, scheme):
    emulate(page, width, scheme)
    page.find_element("css selector", "#examples button").click()
    wait(page, lambda: "True class" in text(page, "notes"))
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    assert page.find_element("id", "image-title").size["height"] < 40
    background = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(250, 248, 245)", "dark": "rgb(23, 22, 21)"}[scheme]
    assert page.get_screenshot_as_png().startswith(b"\x89PNG")


@pytest.mark.parametrize("untrained_server", [untrained_text], indirect=True)
def test_a_typed_text_is_read_and_written_on(own_page, untrained_server):
    page, model = own_page, untrained_server.reader.model
    page.find_element("id", "text").send_keys("the cat")
    wait(page, lambda: "of 7" in text(page, "belief"))
    shown = page.execute_script("return reading.likeliest[6].map(([i, p]) => p)")
    assert text(page, "bars").splitlines()[1] == f"{100 * shown[0]:.1f} %"
    shades = "return [...document.querySelectorAll('#typed span')].map(each => each.style.getPropertyValue('--shade'))"
    by_bits = page.execute_script(shades)
    page.find_element("id", "unit").send_keys("3")
    assert page.find_element("id", "colour").get_attribute("value") == "unit"
    assert len(page.execute_script(shades)) == 7
    assert page.execute_script(shades) != by_bits
    page.find_elements("css selector", "#typed span")[2].click()
    assert text(page, "at") == "3 / 7"
    for name, value in (("length", "20"), ("temperature", "0.5")):
        page.execute_script("document.getElementById(arguments[0]).value = arguments[1]", name, value)
    page.find_element("id", "write").click()
    expected = "the cat" + "".join(model.generate("the cat", length=20, temperature=0.5, seed=0))
    wait(page, lambda: page.find_element("id", "text").get_attribute("value") == expected)
    wait(page, lambda: f"of {len(expected)}" in text(page, "belief") and text(page, "write") == "Write on")
    assert page.execute_script(UNNAMED) == []


@pytest.mark.parametrize("untrained_server", [untrained_forecast], indirect=True)
def test_a_table_that_is_dropped_or_pasted_is_plotted_and_forecast(own_page, untrained_server):
    page, model = own_page, untrained_server.reader.model
    content = model.config.data.read_bytes()
    drop(page, content, "sales.csv")
    wait(page, lambda: "after step 8 of 8" in text(page, "belief"))
    values = np.array([[float(line.split(b",")[1])] for line in content.splitlines()[1:]])
    first = float(text(page, "answer").split(",")[0])
    np.testing.assert_allclose(first, model.predict([values])[0, 0], rtol=1e-3)
    assert "sales:" in text(page, "lines")
    drawn = "const c = document.getElementById('plot'); return c.getContext('2d').getImageData(0, 0, c.width, c.height)"
    assert page.execute_script(drawn + ".data.some(v => v)")
    box = page.find_element("id", "text")
    page.execute_script("arguments[0].value = arguments[1]", box, content.decode().replace(",0.000", ",9.000"))
    page.find_element("id", "paste").click()
    wait(page, lambda: "after step 8 of 8" in text(page, "belief") and text(page, "message") == "")
    page.find_element("css selector", "#examples button").click()
    wait(page, lambda: "truth, dotted" in text(page, "lines"))
    emulate(page, 390)
    assert page.execute_script("return document.documentElement.scrollWidth") <= 390
    assert page.execute_script(UNNAMED) == []


def test_every_control_has_a_name(page):
    page.find_element("css selector", "#examples button").click()
    wait(page, lambda: "True class" in text(page, "notes"))
    assert page.execute_script(UNNAMED) == []
