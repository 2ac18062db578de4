"""The welcome page and the documentation: by source, and in a browser if there is one."""

import re
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest
from harness import BACKENDS, ROOT, generate, name_of, run, uv
from jinja2 import Template
from running import BROWSERS, ask, dev, find_browser, free_port, wait_for
from uv import find_uv_bin


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


def page_of(project: Path, backends: Sequence[str]) -> Outline:
    """Return the welcome page of a project, with these backends and the nonce `once`."""
    source = (project / "src/orders/blueprints/examples.py").read_text()
    template = re.search(r'^PAGE = """\\\n(.*?)^"""$', source, re.DOTALL | re.MULTILINE)
    assert template
    report = {name: {"status": "ok", "latency_ms": 1.5} for name in backends}
    return Outline(Template(template[1], autoescape=True).render(backends=report, nonce="once"))


@pytest.mark.parametrize("backends", [[], list(BACKENDS)], ids=name_of)
def test_the_page_says_what_its_parts_are(backends: list[str], tmp_path: Path) -> None:
    """Language, title, landmark, heading; its style has a nonce and is part of it."""
    page = page_of(generate(tmp_path / "orders", backends), backends)

    (html,) = page.all("html")
    links = [str(each["href"]) for each in page.all("a")]
    assert html["lang"] == "en"
    assert [len(page.all(tag)) for tag in ("title", "main", "h1")] == [1] * 3
    assert "width=device-width" in str(page.all("meta"))
    assert {"name": "color-scheme", "content": "light dark"} in page.all("meta")
    assert links[:2] == ["docs", "health/ready"]
    # Relative, for services behind a path prefix.
    assert not [link for link in links if link.startswith("/") or ":" in link]
    assert page.all("style") == [{"nonce": "once"}]
    assert page.all("link") == [{"rel": "icon", "href": "data:,"}]
    assert not page.all("img", "iframe", "script")
    assert not [
        name for _, each in page.elements for name in each if name == "style" or name[:2] == "on"
    ]


@pytest.mark.slow
def test_the_pages_in_a_browser(tmp_path: Path) -> None:
    """Light and dark, on desktop and phone; `tools/browser.py` says what is looked at."""
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
            *("python", ROOT / "tools" / "browser.py"),
            *(browser, f"http://127.0.0.1:{port}/", tmp_path),
            cwd=tmp_path,
        )

    assert {path.stem for path in tmp_path.glob("*.png")} == {
        f"{page}-{scheme}-{size}"
        for page in ("welcome", "docs")
        for scheme in ("light", "dark")
        for size in ("desktop", "phone")
    }
