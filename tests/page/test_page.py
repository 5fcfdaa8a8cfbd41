"""The live page, in a real browser, with a real hub and a real agent behind it."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from orchestra import blocking
from orchestra.address import parse_peer
from orchestra.keys import load_or_make_key, make_key_pair
from orchestra.state import StateFolder

from ..system.programs import ORCHESTRA
from .conftest import OpenWindow, Stage, Window

# Puts out a line, and goes on when its folder has a file of this name.
PATIENT = "echo began; while [ ! -e '{go}' ]; do sleep 0.05; done; echo ended"


def _tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def _row(page: Page, text: str) -> Locator:
    return page.locator("#list .row", has_text=text)


def _submit(page: Page, command: str) -> None:
    """Fill the form for a new task in, and send it off."""
    expect(page.locator("#peers .row", has_text="runner").locator(".dot.online")).to_have_count(1)
    page.keyboard.press("n")
    form = page.get_by_role("dialog", name="New task")
    form.get_by_label("To", exact=True).fill("queue/work")
    expect(form.get_by_label("It is")).to_have_value("argv")  # its agent runs commands
    form.get_by_label("What to do").fill(command)
    form.get_by_role("button", name="Submit").click()
    expect(form).to_have_count(0)


def _peer(stage: Stage, address: str) -> blocking.Client:
    """Let a peer in, and connect as it."""
    key = load_or_make_key(StateFolder(stage.place.state).key_of(parse_peer(address)), owner=address)
    with blocking.connect(state=stage.place.state) as operator:
        operator.call("keys.accept", address=address, public_key=key.public)
    return blocking.connect(state=stage.place.state, address=address)


def _take(peer: blocking.Client, body: bytes) -> None:
    """Wait for a message, and deal with it."""
    message = next(iter(peer.messages()))
    assert message.body == body
    peer.mark_read([message.seq], ack=True)


# Who comes in.


def test_a_link_signs_in_once_and_leaves_no_trace_of_it(stage: Stage, open_window: OpenWindow) -> None:
    link = stage.link()
    window = open_window(to=link)
    expect(window.page.locator("#hub-text")).to_have_text("connected")
    assert window.page.url == stage.url
    assert window.page.evaluate("document.cookie") == ""
    (cookie,) = window.page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert "code" not in window.page.evaluate("performance.getEntriesByType('navigation')[0].name")
    again = open_window(to=link)
    again.may_lose_hub = True
    expect(again.page.locator(".signed-out")).to_contain_text("used already")
    assert not again.page.context.cookies()


def test_who_is_not_signed_in_is_told_how(stage: Stage, open_window: OpenWindow) -> None:
    window = open_window(to=stage.url)
    window.may_lose_hub = True
    expect(window.page.get_by_role("heading", name="You are not signed in")).to_be_visible()
    expect(window.page.locator(".signed-out code")).to_have_text("orchestra page")
    assert not any(url.startswith("ws") for url in window.asked)


def test_who_signs_out_is_out_and_so_is_whose_token_is_revoked(stage: Stage, open_window: OpenWindow) -> None:
    window, other = open_window(), open_window()
    window.may_lose_hub = other.may_lose_hub = True
    for page in (window.page, other.page):
        expect(page.locator("#hub-text")).to_have_text("connected")
    window.page.get_by_role("link", name="sign out").click()
    expect(window.page.get_by_role("heading", name="You are not signed in")).to_be_visible()
    assert not window.page.context.cookies()
    expect(other.page.locator("#hub-text")).to_have_text("connected")
    for token in stage.place.run("token", "list", "--json").data["tokens"]:
        stage.place.run("token", "revoke", token["id"])
    expect(other.page.get_by_role("heading", name="You are not signed in")).to_be_visible()


# What is seen and done.


def test_a_task_is_submitted_runs_on_an_agent_and_is_seen_to_its_end(
    stage: Stage, window: Window, tmp_path: Path
) -> None:
    page, go = window.page, tmp_path / "go"
    _submit(page, shlex.join(["sh", "-c", PATIENT.format(go=go)]))
    row = _row(page, f"while [ ! -e '{go}'")
    expect(row.locator(".state")).to_have_text("working")
    expect(row.locator(".who")).to_have_text("agent/runner")
    expect(row.locator(".tail")).to_have_text("began")
    detail = page.locator("#detail")
    expect(detail.locator(".output")).to_have_text("began\n", use_inner_text=True)
    expect(page.locator("#peers .row", has_text="runner").locator(".load")).to_have_text("1/3")
    go.touch()
    expect(row.locator(".state")).to_have_text("done")
    expect(detail.locator(".output")).to_have_text("began\nended\n", use_inner_text=True)
    expect(detail.locator(".facts")).to_contain_text("Exit code")
    expect(detail.locator(".story")).to_contain_text("it is over: completed")


def test_a_task_that_asks_is_answered(stage: Stage, window: Window) -> None:
    page = window.page
    ask = shlex.join([*ORCHESTRA, "task", "ask", "which one?"])
    _submit(page, shlex.join(["sh", "-c", f'echo "you said $({ask})"']))
    banner = page.locator("#asks")
    expect(banner).to_contain_text("A task waits for an answer")
    row = _row(page, "which one?")
    expect(row.locator(".state")).to_have_text("asks")
    banner.get_by_role("button").click()
    page.get_by_label("Your answer").fill("the <b>second</b>")
    page.get_by_role("button", name="Answer", exact=True).click()
    expect(page.locator("#detail .output")).to_contain_text("you said the <b>second</b>")
    expect(banner).to_be_hidden()


def test_a_task_is_canceled_and_tried_again(window: Window) -> None:
    page = window.page
    _submit(page, "sleep 6151")
    row, detail = _row(page, "sleep 6151"), page.locator("#detail")
    expect(row.locator(".state")).to_have_text("working")
    for _ in range(2):
        detail.get_by_role("button", name="Cancel task").click()
        expect(row.locator(".state")).to_have_text("canceled")
        retry = detail.get_by_role("button", name="Retry")
        expect(retry).to_be_visible()
        if _ == 0:
            retry.click()
            expect(row.locator(".state")).to_have_text("working")


def test_a_message_is_seen_to_be_read(stage: Stage, window: Window) -> None:
    page = window.page
    with _peer(stage, "matrix/reader") as reader:
        expect(page.locator("#peers .row", has_text="reader").locator(".dot.online")).to_be_visible()
        page.keyboard.press("m")
        form = page.get_by_role("dialog", name="New message")
        form.get_by_label("To", exact=True).fill("matrix/reader")
        form.get_by_label("Message").fill("are you there?")
        form.get_by_label("Message").press("Control+Enter")
        _tab(page, "Messages")
        row = _row(page, "are you there?")
        expect(row.locator(".word")).to_have_text("stored")
        _take(reader, b"are you there?")
        expect(row.locator(".word")).to_have_text("acked")
        row.click()
        expect(page.locator("#detail .recipients")).to_contain_text("matrix/reader")
    expect(page.locator("#peers .row", has_text="reader").locator(".dot.offline")).to_be_visible()


def test_a_dead_letter_is_sent_again_and_another_is_dropped(stage: Stage, window: Window) -> None:
    page = window.page
    _peer(stage, "matrix/absent").close()
    for text in ("hold this", "and forget that"):
        stage.place.run("send", "matrix/absent", text, "--expires", "1ms")
    _tab(page, "Dead")
    expect(_row(page, "hold this").locator(".tail")).to_have_text("expired")
    page.locator("#list li", has_text="and forget that").get_by_role("button", name="Drop").click()
    expect(_row(page, "and forget that")).to_have_count(0)
    page.locator("#list li", has_text="hold this").get_by_role("button", name="Resend").click()
    expect(_row(page, "hold this")).to_have_count(0)
    with blocking.connect(state=stage.place.state, address="matrix/absent") as absent:
        _take(absent, b"hold this")
    _tab(page, "Messages")
    expect(_row(page, "hold this").first.locator(".word")).to_have_text("acked")
    expect(_row(page, "hold this").last.locator(".word")).to_have_text("dead")


def test_an_unknown_key_is_accepted_and_revoked(stage: Stage, window: Window) -> None:
    page = window.page
    key = make_key_pair()
    with pytest.raises(Exception, match="does not know this key"):
        blocking.connect(state=stage.place.state, address="agent/stranger", key=key).close()
    _tab(page, "Keys")
    page.locator("#list li", has_text="an unknown key").get_by_role("button", name="Accept").click()
    form = page.get_by_role("dialog", name="Accept this key")
    form.get_by_label("It belongs to").fill("agent/stranger")
    form.get_by_role("button", name="Accept").click()
    with blocking.connect(state=stage.place.state, address="agent/stranger", key=key):
        row = page.locator("#list li", has_text="agent/stranger")
        row.get_by_role("button", name="Revoke").click()
        page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
        expect(row).to_have_count(0)


def test_who_may_not_administer_is_shown_no_keys(stage: Stage, open_window: OpenWindow) -> None:
    _peer(stage, "operator/guest").close()
    stage.place.run("keys", "grant", "operator/guest", "--remove", "administer")
    window = open_window(to=stage.link("--as", "operator/guest"))
    expect(window.page.locator("#me")).to_have_text("operator/guest")
    expect(window.page.get_by_role("tab", name="Messages")).to_be_visible()
    expect(window.page.get_by_role("tab", name="Keys")).to_be_hidden()
    window.page.keyboard.press("4")
    assert window.page.locator("body").get_attribute("data-view") == "tasks"


def test_what_others_wrote_is_only_ever_text(stage: Stage, window: Window) -> None:
    page = window.page
    trap = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    with _peer(stage, "matrix/mallory") as mallory:
        mallory.call("presence.set", state="away", text=trap)
        seq = mallory.send("matrix/mallory", trap)
        mallory.submit("queue/nobody", prompt=trap)
        expect(page.locator("#peers")).to_contain_text(f"away: {trap}")
    expect(_row(page, trap).locator(".title")).to_have_text(trap)
    _tab(page, "Messages")
    _row(page, f"#{seq}").click()
    expect(page.locator("#detail .job")).to_have_text(trap)
    assert page.locator("main img, aside img, #detail img, body script").count() == 0


def test_after_more_than_the_feed_tells_everything_is_read_anew(stage: Stage, window: Window) -> None:
    """The feed tells of the newest 200 of 1,500 messages; the page shows the newest 400, and how far each has come."""
    page = window.page
    _tab(page, "Messages")
    with _peer(stage, "matrix/flooded") as flooded:
        with blocking.connect(state=stage.place.state) as sender:
            seqs = sender.send_all("matrix/flooded", [f"drop {n}" for n in range(1500)])
        expect(page.locator("#list .row")).to_have_count(400)
        expect(page.locator("#list .row").first).to_contain_text("drop 1499")
        expect(page.locator("#list .row").last).to_contain_text("drop 1100")
        flooded.mark_read(seqs[-1000:])
    expect(page.locator("#list .word", has_text="read")).to_have_count(400)


# The hub goes, and comes back.


def test_a_hub_that_is_killed_is_missed_and_taken_up_again_without_doubles(stage: Stage, window: Window) -> None:
    page = window.page
    window.may_lose_hub = True
    _submit(page, "echo before-the-kill")
    expect(_row(page, "before-the-kill").locator(".state")).to_have_text("done")
    stage.hub.signal(signal.SIGKILL)
    stage.hub.wait_end()
    expect(page.locator("#gone")).to_contain_text("The hub is not there")
    expect(page.locator("#new-task")).to_be_disabled()
    expect(_row(page, "before-the-kill")).to_have_count(1)
    stage.start()
    expect(page.locator("#hub-text")).to_have_text("connected")
    expect(page.locator("#gone")).to_be_hidden()
    _submit(page, "echo after-the-kill")
    expect(_row(page, "after-the-kill").locator(".state")).to_have_text("done")
    expect(_row(page, "before-the-kill")).to_have_count(1)
    seqs = page.locator("#list .seq").all_inner_texts()
    assert len(seqs) == len(set(seqs))
    assert sorted(seqs, key=lambda seq: -int(seq[1:])) == seqs


# How it is used and looks.


def test_it_is_used_with_the_keyboard_alone(stage: Stage, window: Window) -> None:
    page = window.page
    for n in range(3):
        stage.place.run("task", "submit", "--to", "queue/nobody", f"wait {n}")
    expect(_row(page, "wait 2")).to_be_visible()
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(_row(page, "wait 1")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#detail h2")).to_have_text(f"Task {stage.seq_of('wait 1')}")
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()
    expect(_row(page, "wait 1")).to_be_focused()
    page.keyboard.press("/")
    page.keyboard.type("wait 0")
    expect(page.locator("#list .row")).to_have_count(1)
    page.keyboard.press("Escape")
    page.keyboard.press("2")
    expect(page.get_by_role("tab", name="Messages")).to_have_attribute("aria-selected", "true")
    page.get_by_role("tab", name="Messages").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Dead")).to_be_focused()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys of the keyboard")).to_be_visible()


@pytest.mark.parametrize(
    ("name", "scheme", "width", "height"),
    [("light", "light", 1440, 900), ("dark", "dark", 1440, 900), ("narrow", "light", 390, 844)],
)
def test_it_is_legible_for_everybody(
    stage: Stage, open_window: OpenWindow, shots: Path, name: str, scheme: str, width: int, height: int
) -> None:
    """No rule of WCAG 2 that axe checks is broken, in any colours and on any width; the pictures are for people."""
    window = open_window(width=width, height=height, scheme=scheme)
    page = window.page
    expect(page.locator("#hub-text")).to_have_text("connected")
    if not page.locator("#list .row").count():
        stage.place.run("task", "submit", "--wait", "--to", "queue/work", "--", "echo", "hello")
    expect(page.locator(".chart .foot .top").last).not_to_have_text("")
    axe = Axe()
    options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}
    for view in ("Tasks", "Messages", "Dead", "Keys", *(["Peers"] if name == "narrow" else [])):
        _tab(page, view)
        page.screenshot(path=shots / f"page-{name}-{view.split()[0].lower()}.png")
        found = axe.run(page, options=options)
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
    _tab(page, "Tasks")
    page.locator("#list .row").first.click()
    expect(page.locator("#detail .story li").first).to_be_visible()
    page.screenshot(path=shots / f"page-{name}-task.png")
    found = axe.run(page, options=options)
    assert found.violations_count == 0, found.generate_report()
    page.keyboard.press("Escape")
    if name != "narrow":
        page.keyboard.press("n")
        page.screenshot(path=shots / f"page-{name}-form.png")
        found = axe.run(page, options=options)
        assert found.violations_count == 0, found.generate_report()
