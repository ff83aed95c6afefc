"""Chromium without a window, for the tests of the report and its screenshots."""

import os
import shutil
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def missing():
    """What is not there, as a sentence; None if all is."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed: pip install 'pyro-llm[browser]'"
    if _browser() is None or shutil.which("chromedriver") is None:
        return "there is no Chromium with its driver: apt-get install chromium chromium-driver"
    return None


def _browser():
    return os.environ.get("CHROME") or next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """A page in Chromium, at a width and in a colour scheme."""

    def __init__(self):
        from selenium import webdriver
        from selenium.webdriver.chrome.options import Options
        from selenium.webdriver.chrome.service import Service

        options = Options()
        options.binary_location = _browser()
        for argument in (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))

    def open(self, path, width=1280, height=900, dark=False, reduced_motion=False):
        self.resize(width, height)
        features = {
            "prefers-color-scheme": "dark" if dark else "light",
            "prefers-reduced-motion": "reduce" if reduced_motion else "no-preference",
        }
        self.command("Emulation.setEmulatedMedia", features=[{"name": n, "value": v} for n, v in features.items()])
        self.driver.get(Path(path).resolve().as_uri())
        assert self.run("return document.documentElement.dataset.ready") == "true", self.log()
        return self

    def resize(self, width, height):
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def command(self, name, **arguments):
        return self.driver.execute_cdp_cmd(name, arguments)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait(self, script):
        """The value of a promise."""
        return self.driver.execute_async_script(f"const done = arguments[arguments.length - 1]; ({script}).then(done);")

    def all(self, selector):
        from selenium.webdriver.common.by import By

        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        (element,) = self.all(selector)
        return element

    def log(self):
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def close(self):
        self.driver.quit()
