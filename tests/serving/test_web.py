"""The page in a real browser: an image goes in, its overlay and the areas of its classes come out."""

import base64
import io
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from keras_exfuse.export import export_savedmodel
from keras_exfuse.inference import Predictor
from tests.export import export_images
from tests.serving.mlserver_process import free_ports

pytestmark = pytest.mark.backend_independent
REPOSITORY = Path(__file__).resolve().parents[2]
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
]
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@pytest.fixture(scope="module")
def model():
    pytest.importorskip("gradio", reason="gradio is missing: install the extra `web`")
    pytest.importorskip("selenium", reason="selenium is missing: pip install selenium")
    if not CHROMIUM or not DRIVER:
        pytest.skip(
            "chromium or chromedriver is missing: on Debian, apt-get install chromium chromium-driver"
        )
    return export_images.tiny_model()


@pytest.fixture(scope="module")
def page(model, tmp_path_factory):
    """The address of the page, served by a process of its own."""
    folder = tmp_path_factory.mktemp("web")
    given = os.environ.get("KERAS_EXFUSE_WEB_MODEL")  # A trained model, for a screenshot worth seeing.
    served = given or export_savedmodel(model, folder / "exfuse" / "1", class_names=export_images.CLASS_NAMES)
    [port] = free_ports(1)
    command = [
        sys.executable,
        str(REPOSITORY / "examples/serving/web/page.py"),
        str(served),
        f"--port={port}",
    ]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    log = folder / "log.txt"
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: True if process.poll() is not None or answers(address) else None, 120)
        assert process.poll() is None, log.read_text()
        yield address
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def browser(model, tmp_path_factory):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield browser
    browser.quit()


def answers(address):
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def wait_for(condition, seconds=60):
    """The first value of a condition that is not None."""
    deadline = time.monotonic() + seconds
    while (value := condition()) is None:
        assert time.monotonic() < deadline, "the page does not do what it should"
        time.sleep(0.3)
    return value


def shown_image(browser):
    """The overlay as the browser has it, or None."""
    script = """
    const image = document.querySelector('#overlay img');
    if (!image || !image.complete || !image.naturalWidth) return null;
    const canvas = document.createElement('canvas');
    canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
    canvas.getContext('2d').drawImage(image, 0, 0);
    return canvas.toDataURL('image/png');
    """
    from PIL import Image

    content = browser.execute_script(script)
    if content is None:
        return None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content.split(",")[1]))).convert("RGB"))


def test_a_dropped_image_is_segmented(model, page, browser, tmp_path):
    from selenium.webdriver.common.by import By

    image = export_images.real_image()
    file = tmp_path / "chelsea.png"
    file.write_bytes(export_images.as_file(image, "PNG"))
    browser.get(page)
    chooser = "#image input[type=file]"
    wait_for(lambda: next(iter(browser.find_elements(By.CSS_SELECTOR, chooser)), None)).send_keys(str(file))
    drawn = wait_for(lambda: shown_image(browser))
    assert drawn.shape == image.shape and np.abs(drawn.astype(int) - image).mean() > 1
    text = wait_for(lambda: browser.find_element(By.ID, "areas").text or None)
    screenshot = os.environ.get("KERAS_EXFUSE_SCREENSHOT")
    if screenshot:
        time.sleep(1)
        browser.save_screenshot(screenshot)
    if "KERAS_EXFUSE_WEB_MODEL" in os.environ:
        return
    labels = Predictor(model)(image)
    for label, name in enumerate(export_images.CLASS_NAMES):
        share = round(100 * np.mean(labels == label))
        assert name in text and f"{share}%" in text, text
