"""Looks at the welcome page in a real browser: `browser.py <browser> <url> <folder for pictures>`.

It needs playwright and axe-playwright-python, and fails with an AssertionError.
"""

import json
import sys
from itertools import product
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route, ViewportSize, sync_playwright

SIZES: dict[str, ViewportSize] = {
    "desktop": {"width": 1280, "height": 900},
    "phone": {"width": 320, "height": 640},
}

BACKGROUND = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
FOCUSED = """() => {
  const focused = document.activeElement;
  return [focused.getAttribute("href"), getComputedStyle(focused).outlineStyle];
}"""
LINKS = "[...document.querySelectorAll('a')].map((link) => link.getAttribute('href'))"
STICKS_OUT = "document.documentElement.scrollWidth > innerWidth"
DARK = 60


def look(page: Page, url: str, scheme: str, picture: Path) -> None:
    """Check how the page is shown: nothing sticks out, the scheme is followed, axe is content."""
    complaints: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    page.screenshot(path=picture, full_page=True)

    assert not page.evaluate(STICKS_OUT)
    assert (max(page.evaluate(BACKGROUND)) < DARK) is (scheme == "dark")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert complaints == []
    assert [other for other in asked if not other.startswith((url, "data:"))] == []


def press_tab(page: Page) -> None:
    """Check that the keyboard reaches every link, in their order, and shows where it is."""
    for link in page.evaluate(LINKS):
        page.keyboard.press("Tab")
        assert page.evaluate(FOCUSED) == [link, "solid"]


def lose_backends(page: Page, url: str) -> None:
    """Check that the page tells, also to screen readers, what goes away and comes back."""
    said = page.get_by_role("status")
    answer = {"backends": {name: {"status": "ok", "latency_ms": 1} for name in ("redis", "http")}}

    def ask_again(expected: str) -> None:
        page.clock.fast_forward(5_000)
        said.filter(has_text=expected).wait_for(timeout=5_000)

    def reply(route: Route) -> None:
        route.fulfill(status=503, content_type="application/json", body=json.dumps(answer))

    page.clock.install()
    page.goto(url)
    page.route("**/health/ready", reply)
    answer["backends"]["redis"]["status"] = "unavailable"
    ask_again("redis is unavailable now.")
    assert page.locator("[data-backend=redis] .state").inner_text() == "unavailable"
    assert not page.evaluate(STICKS_OUT)
    page.unroute("**/health/ready")
    page.route("**/health/ready", lambda route: route.abort())
    ask_again("The service does not answer.")
    assert page.locator(".state").all_inner_texts() == ["unknown", "unknown"]
    page.unroute("**/health/ready")
    ask_again("The service answers again.")
    assert page.locator(".state").all_inner_texts() == ["ok", "ok"]


def main(executable: str, url: str, folder: Path) -> None:
    """Look at everything."""
    with sync_playwright() as playwright:
        # Without its sandbox it also runs as root; it sees nothing but this page.
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        for scheme, (name, size) in product(("light", "dark"), SIZES.items()):
            page = browser.new_page(color_scheme=scheme, viewport=size)
            look(page, url, scheme, folder / f"{scheme}-{name}.png")
            page.close()
        page = browser.new_page(viewport=SIZES["phone"])
        page.goto(url)
        press_tab(page)
        lose_backends(page, url)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
