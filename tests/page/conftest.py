"""A hub, an agent and a real browser, one of each for all tests here; every test gets a signed-in window of its own."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from ..system.programs import BOUND_S, HUB, LEASH, Place, Program, free_port

CHROMIUM = "/usr/bin/chromium"
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
SHOTS = "ORCHESTRA_TEST_SCREENSHOTS"  # a folder where the pictures stay; otherwise pytest's own
GONE = re.compile(r"ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|WebSocket connection to|status of 401")

expect.set_options(timeout=BOUND_S * 1000)


@dataclass
class Stage:
    """A hub with its gateway and one agent that runs commands."""

    place: Place
    port: int
    gateway_port: int
    hub: Program = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        ports = ("--port", str(self.port), "--gateway-port", str(self.gateway_port))
        env = self.place.env(ORCHESTRA_NO_GATEWAY="0")
        self.hub = self.place.start((*HUB, *LEASH, *ports, "--durability", "fast"), name="hub", env=env)
        self.hub.wait_output("hub ready")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.gateway_port}/"

    def link(self, *options: str) -> str:
        """Return a link that signs in once."""
        made = self.place.run("page", *options)
        assert made.code == 0, made.stderr
        return made.stdout.strip()

    def seq_of(self, title: str) -> int:
        """Return the number of the newest task with this title."""
        tasks = self.place.run("task", "list", "--json").data
        return next(int(task["seq"]) for task in tasks if task["title"] == title)


@pytest.fixture(scope="package")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    place = Place(tmp_path_factory.mktemp("stage"))
    try:
        stage = Stage(place, free_port(), free_port())
        place.agent("runner", "--queue", "work", "--concurrency", "3")
        yield stage
    finally:
        place.close()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        assert not {"CI", "TOX_ENV_NAME"} & set(os.environ), f"{CHROMIUM} is missing, and tox must not skip this"
        pytest.skip(f"{CHROMIUM} is missing; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@dataclass
class Window:
    """A browser window, and what it complained of."""

    page: Page
    may_lose_hub: bool = False
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda said: said.type in ("error", "warning") and self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("websocket", lambda socket: self.asked.append(socket.url))

    def check(self, url: str) -> None:
        """Nothing came from elsewhere, and nothing went wrong in the browser: no error, no violated policy."""
        assert {urlsplit(each).netloc for each in self.asked} == {urlsplit(url).netloc}
        wrong = [each for each in self.complaints if not (self.may_lose_hub and GONE.search(each))]
        assert not wrong, wrong


OpenWindow = Callable[..., Window]


@pytest.fixture
def open_window(stage: Stage, browser: Browser) -> Iterator[OpenWindow]:
    """Open windows of browsers that know nothing of each other; `to` is where they go first."""
    windows: list[Window] = []

    def opened(*, to: str = "", width: int = 1280, height: int = 800, scheme: str = "light") -> Window:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
            reduced_motion="reduce",
        )
        context.set_default_timeout(BOUND_S * 1000)
        window = Window(context.new_page())
        windows.append(window)
        window.page.goto(to or stage.link())
        return window

    yield opened
    for window in windows:
        window.page.context.close()
        window.check(stage.url)


@pytest.fixture
def window(open_window: OpenWindow) -> Window:
    """A window that is signed in and shows what there is."""
    window = open_window()
    expect(window.page.locator("#hub-text")).to_have_text("connected")
    return window


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """Where pictures go."""
    folder = Path(os.environ.get(SHOTS) or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
