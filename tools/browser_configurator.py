"""Use the configurator in a browser: `browser_configurator.py <browser> <page> <folder> <choices>`.

It checks the page on desktop and phone, with the keyboard and with axe. Then it makes random
choices, and writes what the page shows for each one to `choices.json` in the folder.
It needs playwright and axe-playwright-python, and raises AssertionError for the first problem.
"""

import json
import random
import sys
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from browser import OVERFLOWS, SIZES
from playwright.sync_api import Page, sync_playwright

FOCUSED = "document.activeElement.name || document.activeElement.textContent"

SHOWN = """() => [...document.querySelectorAll("#configurator .tree button")].map((button) => {
  button.click();
  return [
    button.value,
    button.lastChild.textContent,
    document.querySelector("#configurator .file pre").textContent,
    document.querySelector("#configurator .file h2").textContent,
  ];
})"""
"""Opens each file: its path, its lines as the tree has them, its text, and the heading above it."""

NAMES = ("Orders", "a.b-C_d 9", "Bill It")


def check(page: Page, url: str) -> None:
    """Check the page: nothing from elsewhere, no errors, no overflow, no complaint of axe."""
    complaints: list[str] = []
    requested: list[str] = []
    failed: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("requestfailed", lambda request: failed.append(request.url.rpartition("/")[2]))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requested.append(request.url))
    page.goto(url, wait_until="networkidle")

    # The theme looks for its search there when the site is opened as a file.
    assert failed == ["search.js"], failed
    assert [text for text in complaints if "ERR_FILE_NOT_FOUND" not in text] == [], complaints
    assert [each for each in requested if not each.startswith(("file:", "data:", "blob:"))] == []
    assert not page.evaluate(OVERFLOWS)
    found = Axe().run(page, context="#configurator")
    assert found.violations_count == 0, found.generate_report()


def check_keyboard(page: Page) -> None:
    """Choose, open a file and copy the command with the keyboard alone."""
    page.get_by_label("Name of the service").focus()
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED) == "backends"
    assert page.get_by_role("button", name="postgres.py").count() > 0
    page.keyboard.press("Space")
    assert page.get_by_role("button", name="postgres.py").count() == 0
    assert "-d 'backends=[mongo, redis, http]'" in page.get_by_label("Command").inner_text()
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate(FOCUSED).startswith("app.py"):
            break
    page.keyboard.press("Enter")
    assert page.get_by_role("heading", name="app.py").count() == 1
    assert page.locator("#configurator [aria-current=true]").count() == 1
    page.get_by_role("button", name="Copy the command").press("Enter")
    page.get_by_text("Copied.").or_(page.get_by_text("Selected.")).wait_for()


def check_refusal(page: Page) -> None:
    """Check that a name that Copier refuses is refused here, in the same words."""
    name = page.get_by_label("Name of the service")
    for wrong, words in (("", "Enter a name"), ("1st", "Start with"), ("json", "Reserved")):
        name.fill(wrong)
        assert words in page.get_by_role("alert").first.inner_text()
        assert name.get_attribute("aria-invalid") == "true"
        assert page.get_by_role("button", name="Copy the command").is_disabled()
    name.fill("Orders")
    assert page.get_by_role("alert").all_inner_texts() == ["", ""]


def choose(page: Page, chance: random.Random) -> dict[str, Any]:
    """Make a random choice that is not refused, and return what the page shows for it."""
    copy = page.get_by_role("button", name="Copy the command")
    page.get_by_label("Name of the service").fill(chance.choice(NAMES))
    while True:
        for box in page.locator("#configurator fieldset input").all():
            box.set_checked(chance.random() < 0.5)
        if copy.is_enabled():
            break
        assert page.get_by_role("alert").last.inner_text() != ""
    for select in page.locator("#configurator select").all():
        values = select.locator("option").evaluate_all("all => all.map((one) => one.value)")
        select.select_option(chance.choice(values))
    return {
        "command": page.get_by_label("Command").inner_text(),
        "size": page.locator("#configurator p[role=status]").inner_text(),
        "files": page.evaluate(SHOWN),
    }


def main(executable: str, url: str, folder: Path, choices: int) -> None:
    """Check the page, and write down what it shows."""
    chance = random.Random()  # noqa: S311 - other choices in each run
    with sync_playwright() as playwright:
        # Without the sandbox, the browser also runs as root. It opens only this page.
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            for size_name, size in SIZES.items():
                page = browser.new_page(
                    color_scheme="dark" if scheme == "dark" else "light", viewport=size
                )
                check(page, url)
                page.screenshot(path=folder / f"{scheme}-{size_name}.png", full_page=True)
                check_keyboard(page)
                check_refusal(page)
                page.close()
        page = browser.new_page(viewport=SIZES["desktop"])
        page.goto(url)
        found = [choose(page, chance) for _ in range(choices)]
        (folder / "choices.json").write_text(json.dumps(found))
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
