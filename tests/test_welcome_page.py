"""The welcome page: in a real browser where there is one, and by its source everywhere."""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from harness import generate, run, uv
from running import BROWSERS, ask, dev, find_browser, free_port, wait_for
from uv import find_uv_bin

STATIC = Path("src/orders/examples/static")
PAGE = Path("src/orders/examples/templates/welcome.html")


class Outline(HTMLParser):
    """Collects the elements of a page, with their attributes, in their order."""

    def __init__(self, html: str) -> None:
        """Read the page."""
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect one."""
        self.elements.append((tag, dict(attrs)))

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        """Return the attributes of all elements with these tags."""
        return [attributes for tag, attributes in self.elements if tag in tags]


def test_the_page_says_what_its_parts_are(tmp_path: Path) -> None:
    """Language, title, landmarks, headings in order, headers of the table, a live region."""
    page = Outline((generate(tmp_path / "orders") / PAGE).read_text())

    (html,) = page.all("html")
    headings = [tag for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    identifiers = [each["id"] for _, each in page.elements if "id" in each]
    labels = [each["aria-labelledby"] for each in page.all("section", "table")]
    assert html["lang"] == "en"
    assert [len(page.all(tag)) for tag in ("title", "main", "header", "table")] == [1] * 4
    assert "width=device-width" in str(page.all("meta"))
    assert headings == ["h1", "h2", "h2", "h2"]
    assert all(each.get("scope") in {"col", "row"} for each in page.all("th"))
    assert len(set(identifiers)) == len(identifiers)
    assert set(labels) <= set(identifiers)
    assert [each["role"] for each in page.all("p") if "role" in each] == ["status"]
    assert all("style" not in each and "onclick" not in each for _, each in page.elements)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_told_apart(scheme: str, tmp_path: Path) -> None:
    """WCAG 2.2, level AA: 4.5 to 1 for text, 3 to 1 for signs."""
    css = (generate(tmp_path / "orders") / STATIC / "welcome.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    colours = dict(re.findall(r"--(\w+): (#\w{6});", light))
    if scheme == "dark":
        colours |= dict(re.findall(r"--(\w+): (#\w{6});", dark))

    assert len(colours) == 8
    for behind in ("background", "surface"):
        for text in ("text", "quiet", "accent"):
            assert contrast(colours[text], colours[behind]) >= 4.5, (text, behind)
        for sign in ("good", "bad"):
            assert contrast(colours[sign], colours[behind]) >= 3, (sign, behind)


def contrast(one: str, other: str) -> float:
    """Return the ratio of the luminances of two colours, such as #ffffff."""
    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    """Return how bright a colour is, from 0 to 1, as WCAG defines it."""
    parts = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    linear = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.slow
def test_the_page_in_a_browser(tmp_path: Path) -> None:
    """Light and dark, on desktop and phone; `browser.py` says what is looked at."""
    browser = find_browser()
    if browser is None:
        pytest.skip(f"none of these browsers is installed: {', '.join(BROWSERS)}")
    project = generate(tmp_path / "orders", ["redis", "http"])
    uv("sync", "--quiet", cwd=project)
    port = free_port()
    with dev(project, "--port", str(port)):
        wait_for(lambda: ask(port, "/health/ready")[0] == 200, 30)
        run(
            *(find_uv_bin(), "run", "--quiet", "--no-project", "--python", sys.executable),
            *("--with", "playwright>=1.65", "--with", "axe-playwright-python>=0.1.8"),
            *("python", Path(__file__).parent / "browser.py"),
            *(browser, f"http://127.0.0.1:{port}/", tmp_path),
            cwd=tmp_path,
        )

    pictures = sorted(path.name for path in tmp_path.glob("*.png"))
    assert pictures == [
        "dark-desktop.png",
        "dark-phone.png",
        "light-desktop.png",
        "light-phone.png",
    ]
