"""Check the pages of a service in a browser: `browser.py <browser> <url> <folder for pictures>`.

It needs playwright and axe-playwright-python, and raises AssertionError for the first problem.
"""

import sys
import zlib
from itertools import product
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, ViewportSize, sync_playwright

SIZES: dict[str, ViewportSize] = {
    "desktop": {"width": 1280, "height": 900},
    "phone": {"width": 320, "height": 640},
}

PAGES = {"welcome": "", "docs": "docs"}
"""The pages of a service, relative to its URL."""

CHECKED_BY_AXE = {"welcome"}
"""Pages whose content is ours. The other one is Swagger UI, with flaws of its own."""

FOCUSED = "document.activeElement.getAttribute('href')"
LINKS = "[...document.querySelectorAll('a')].map((link) => link.getAttribute('href'))"
OVERFLOWS = "document.documentElement.scrollWidth > innerWidth"
DARK = 60


def check(page: Page, url: str, name: str, picture: Path) -> None:
    """Check a page: no overflow, no errors, nothing from other hosts, no complaint of axe."""
    complaints: list[str] = []
    requested: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("request", lambda request: requested.append(request.url))
    page.goto(url + PAGES[name], wait_until="networkidle")
    page.screenshot(path=picture, full_page=True)

    assert complaints == []
    assert [other for other in requested if not other.startswith((url, "data:"))] == []
    if name in CHECKED_BY_AXE:
        assert not page.evaluate(OVERFLOWS)
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()


def check_scheme(page: Page, scheme: str) -> None:
    """Check that the page follows the colour scheme of the system."""
    corner = page.screenshot(clip={"x": 2, "y": 2, "width": 1, "height": 1})
    # A PNG of one pixel: its data is a filter, then the shares of red, green and blue.
    start = corner.index(b"IDAT") + 4
    length = int.from_bytes(corner[start - 8 : start - 4], "big")
    pixel = zlib.decompressobj().decompress(corner[start : start + length])
    assert (max(pixel[1:4]) < DARK) is (scheme == "dark"), pixel


def check_keyboard(page: Page, url: str) -> None:
    """Check that the Tab key reaches every link of the welcome page, in order."""
    page.goto(url)
    for link in page.evaluate(LINKS):
        page.keyboard.press("Tab")
        assert page.evaluate(FOCUSED) == link


def main(executable: str, url: str, folder: Path) -> None:
    """Check all pages in all sizes and colour schemes."""
    with sync_playwright() as playwright:
        # Without the sandbox, the browser also runs as root. It opens only these pages.
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        for scheme, (size_name, size), name in product(("light", "dark"), SIZES.items(), PAGES):
            page = browser.new_page(
                color_scheme="dark" if scheme == "dark" else "light", viewport=size
            )
            check(page, url, name, folder / f"{name}-{scheme}-{size_name}.png")
            check_scheme(page, scheme)
            page.close()
        check_keyboard(browser.new_page(viewport=SIZES["desktop"]), url)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
