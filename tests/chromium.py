"""A headless Chromium for tests of the page, where Debian's chromium and chromium-driver are installed."""

from __future__ import annotations

import base64
import os
import shutil
from pathlib import Path
from typing import Any, Self

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service

ROOT = Path(__file__).parents[1]
#: Screenshots of the page; `make clean` removes them.
SHOTS = ROOT / "build" / "screenshots"
#: A name that someone else's DNS points to this machine.
FOREIGN = "evil.example"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")

#: The lowest contrast of every text shown, and its element. Canvas and SVG are checked by people.
_CONTRAST = """
const channel = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const parse = text => text.match(/[\\d.]+/g).map(Number);
const ground = element => {
  for (; element; element = element.parentElement) {
    const colour = parse(getComputedStyle(element).backgroundColor);
    if (colour.length < 4 || colour[3] > 0.99) return colour;
  }
  return matchMedia("(prefers-color-scheme: dark)").matches ? [18, 23, 29] : [255, 255, 255];
};
const poor = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
  if (element.closest("svg, option")) continue;
  const style = getComputedStyle(element), pair = [light(parse(style.color)), light(ground(element))];
  const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
  const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
  const told = walker.currentNode.data.trim().slice(0, 40);
  if (ratio < (large ? 3 : 4.5)) poor.push(`${ratio.toFixed(2)} ${told}`);
}
return poor;
"""


def missing() -> str:
    """Return why there is no Chromium to drive, or an empty text."""
    if not any(map(shutil.which, _BROWSERS)):
        return "Chromium is not installed (Debian: chromium)"
    return "" if shutil.which("chromedriver") else "its driver is not installed (Debian: chromium-driver)"


class Chromium:
    """A browser with one tab.

    Args:
        port: the page's port.
    """

    def __init__(self, port: int) -> None:
        self.port = port

    def __enter__(self) -> Self:
        options = webdriver.ChromeOptions()
        options.binary_location = str(next(filter(None, map(shutil.which, _BROWSERS))))
        flags = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
        flags += ["--no-sandbox"] if os.geteuid() == 0 else []
        flags += [f"--host-resolver-rules=MAP {FOREIGN} 127.0.0.1", "--no-proxy-server"]
        for flag in [*flags, "--disable-background-networking", "--disable-component-update"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        self.driver.set_page_load_timeout(60)
        return self

    def __exit__(self, *_: object) -> None:
        self.driver.quit()

    def open(self, path: str, host: str = "127.0.0.1") -> None:
        """Open a page."""
        self.driver.get(f"http://{host}:{self.port}{path}")

    def run(self, script: str, *given: object) -> Any:
        """Run a script in the page; return its result."""
        return self.driver.execute_script(script, *given)

    def text(self, selector: str = "body") -> str:
        """Return the text of an element, or an empty text if it is missing."""
        return str(self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def click(self, selector: str) -> None:
        """Click an element; retry once if the page has replaced it meanwhile."""
        for again in (True, True, False):
            try:
                element = self.driver.find_element("css selector", selector)
                self.run("arguments[0].scrollIntoView({block: 'center'})", element)
                element.click()
                return
            except StaleElementReferenceException:
                if not again:
                    raise

    def look(self, width: int, *, dark: bool) -> None:
        """Show the page at a given width, in light or dark mode."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def keep(self, name: str) -> None:
        """Save a screenshot of the whole page."""
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
        SHOTS.mkdir(parents=True, exist_ok=True)
        (SHOTS / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))

    def poor_contrasts(self) -> list[str]:
        """Return texts whose contrast is below the level AA of WCAG."""
        found: list[str] = self.run(_CONTRAST)
        return found

    def complaints(self) -> list[str]:
        """Return problems since the last call: errors, and violations of the content policy."""
        return [one["message"] for one in self.driver.get_log("browser") if one["level"] == "SEVERE"]
