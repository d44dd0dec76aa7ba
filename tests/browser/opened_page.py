"""A page in a browser with all that it said, as the tests of pages open it."""

from __future__ import annotations

SIZES = {"wide": (1280, 900), "narrow": (390, 844)}


WITHOUT_3D = "HTMLCanvasElement.prototype.getContext = () => null;"
"""Run in a page: it draws no crystals, which takes a processor seconds each where there is no graphics card."""


class Opened:
    """A page with all that it said."""

    def __init__(self, browser, address, size="wide", scheme="light", offline=True, in_3d=True):
        width, height = SIZES[size]
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, offline=offline, accept_downloads=True,
            reduced_motion="reduce",
        )  # fmt: skip
        if not in_3d:
            self.context.add_init_script(WITHOUT_3D)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.page.on("console", lambda one: self.said.append(one.text) if one.type == "error" else None)
        self.page.on("pageerror", lambda one: self.said.append(str(one)))
        self.performance = self.context.new_cdp_session(self.page)
        self.performance.send("Performance.enable", {"timeDomain": "threadTicks"})  # CPU time
        self.page.goto(address)
        self.page.wait_for_selector("html[data-ready]")

    def formulas(self):
        return self.page.locator("#candidates tbody button.link").all_inner_texts()

    def column(self, key):
        """The cells of a column of the table."""
        keys = self.page.locator("#candidates thead button").evaluate_all("all => all.map((one) => one.dataset.key)")
        return self.page.locator(f"#candidates tbody tr td:nth-child({keys.index(key) + 2})").all_inner_texts()

    def open(self, number):
        self.page.select_option("#view", "all")
        self.page.fill("#find", f"#{number}")
        self.page.click(f"#candidates button[data-id='{number}']")
        self.page.wait_for_selector("#crystal[open]")
        self.page.wait_for_selector("#talk > *")

    def close(self):
        self.context.close()
        assert self.said == []
