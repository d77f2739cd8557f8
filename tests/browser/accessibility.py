"""axe-core looks at a page: https://github.com/dequelabs/axe-core."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def violations_of(browser: Browser, page: Page, *, color_scheme: str = "light") -> list[str]:
    """What is wrong with the page: a line for each violation, with the elements.

    The page is opened once more, as the same viewer, in a browser that lets scripts of others in:
    our policy keeps axe out.
    """
    context = browser.new_context(
        bypass_csp=True,
        storage_state=page.context.storage_state(),
        viewport=page.viewport_size,
        color_scheme="dark" if color_scheme == "dark" else "light",
    )
    try:
        other = context.new_page()
        other.goto(page.url)
        found = Axe().run(other, options={"runOnly": {"type": "tag", "values": RULES}})
    finally:
        context.close()
    return [
        f"{one['id']}: {one['help']}: {[node['target'] for node in one['nodes']]}"
        for one in found.response["violations"]
    ]
