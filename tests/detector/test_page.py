"""The page at /ui, in a real browser: direct, and through the router."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, expect, sync_playwright

from bentos.detector.contract import DetectAnswer
from bentos.detector.page import HEADERS, HTML, content_policy

ROOT = Path(__file__).resolve().parents[2]
QUIET = ("background-networking", "component-update", "default-apps", "gpu", "quic", "sync")
TRUCK, BUS = (0xE6, 0x9F, 0x00), (0x00, 0x9E, 0x73)  # the page's colours of classes 1 and 2
DROP = """([content, name, type]) => {
  const data = new DataTransfer(), bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
  data.items.add(new File([bytes], name, {type}));
  document.getElementById("stage").dispatchEvent(
    new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
}"""
PIXEL = """([x, y, width]) => {
  const canvas = document.getElementById("view"), scale = canvas.width / width;
  const copy = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  copy.drawImage(canvas, -Math.round(x * scale), -Math.round(y * scale));
  return [...copy.getImageData(0, 0, 1, 1).data].slice(0, 3);
}"""


def test_the_policy_names_what_is_in_the_page_and_nothing_more() -> None:
    policy = HEADERS["content-security-policy"]
    (script,) = re.findall(rb"<script[^>]*>(.*?)</script>", HTML, flags=re.DOTALL)
    assert f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'" in policy
    assert "unsafe" not in policy and "http" not in policy
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy
    assert policy != content_policy(HTML.replace(b"</script>", b" </script>"))
    assert "script-src 'none'" in content_policy(b"<p>text</p>")


def test_the_page_is_one_file_without_foreign_assets() -> None:
    text = HTML.decode()
    assert not re.findall(r"\son\w+=|\sstyle=|@import|<link(?! rel=\"icon\" href=\"data:)", text)
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", text)
    assert "innerHTML" not in text and "localStorage" not in text and "sessionStorage" not in text
    assert set(re.findall(r'at\("([\w-]+)"\)', text)) <= set(re.findall(r'\bid="([\w-]+)"', text))


@pytest.fixture(scope="module")
def routed(served_graph: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a router with the served graph as its champion."""
    state = tmp_path_factory.mktemp("router")
    command = [sys.executable, "-m", "bentos.router", "--port", "0", "--admin-port", "0", "--state-dir", str(state)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = next(line for line in process.stderr if "listening on" in line)
    words = line.replace(",", "").split()
    champion = {"version": "1", "digest": "d", "url": served_graph}
    snapshot = {"epoch": 1, "generation": 1, "mode": "champion", "share": 0, "promotion": None}
    token = (state / "token").read_text().strip()
    httpx.put(
        f"{words[-1]}/routing",
        json={**snapshot, "champion": champion, "candidate": None},
        headers={"authorization": f"Bearer {token}"},
    ).raise_for_status()
    yield words[words.index("on") + 1]
    process.terminate()
    process.wait(timeout=30)
    process.stderr.close()


def test_the_router_passes_on_what_is_not_a_frame(served_graph: str, routed: str) -> None:
    for path in ("/ui", "/openapi.json", "/v1/model"):
        direct, passed_on = httpx.get(served_graph + path), httpx.get(routed + path)
        assert (passed_on.status_code, passed_on.content) == (200, direct.content)
        assert passed_on.headers["content-type"] == direct.headers["content-type"]
    assert httpx.get(f"{routed}/ui").headers["content-security-policy"] == HEADERS["content-security-policy"]
    assert httpx.head(f"{routed}/ui").headers["content-length"] == str(len(HTML))
    assert httpx.post(f"{routed}/ui").status_code == 405


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium on the path (Debian: apt-get install chromium)")
    expect.set_options(timeout=60_000)
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in QUIET)]
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        yield browser
        browser.close()


class Visit:
    """A page in a browser, and what went on there."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.asked: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.asked.append(f"{request.method} {request.url}"))
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(f"{url}/ui")

    def _hear(self, said: ConsoleMessage) -> None:
        if said.type in ("error", "warning"):
            self.complaints.append(said.text)

    def drop(self, content: bytes, name: str = "frame.png", media: str = "image/png") -> None:
        self.page.evaluate(DROP, [base64.b64encode(content).decode(), name, media])

    def pixel(self, x: float, y: float, width: int = 640) -> tuple[int, ...]:
        """Colour of the canvas where (x, y) of the picture is."""
        expect(self.page.locator("#view")).to_be_visible()
        return tuple(self.page.evaluate(PIXEL, [x, y, width]))

    @property
    def frames(self) -> list[str]:
        return [line for line in self.asked if line.startswith("POST ")]

    def is_quiet(self) -> bool:
        """Whether the page spoke to its own service only, and the browser had nothing to complain of."""
        own = tuple(f"{method} {start}" for method in ("GET", "POST") for start in (self.url, "blob:", "data:"))
        return all(line.startswith(own) for line in self.asked) and not self.complaints


@pytest.fixture(params=["direct", "through the router"])
def origin(request: pytest.FixtureRequest) -> str:
    """Address of the graph's service, or of the router before it."""
    return str(request.getfixturevalue("served_graph" if request.param == "direct" else "routed"))


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visit]]:
    contexts = []

    def open_page(url: str, **options: Any) -> Visit:
        contexts.append(browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options}))
        return Visit(contexts[-1].new_page(), url)

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def bright(encode: Callable[..., bytes]) -> bytes:
    """640 x 320 of grey 200: a truck is 200 / 255 sure."""
    return encode(np.full((320, 640, 3), 200, dtype=np.uint8), "PNG")


@pytest.fixture
def dark(encode: Callable[..., bytes]) -> bytes:
    """The same of grey 40: the truck is below the model's threshold."""
    return encode(np.full((320, 640, 3), 40, dtype=np.uint8), "PNG")


def close_to(colour: tuple[int, ...], wanted: tuple[int, ...], within: int = 40) -> bool:
    return max(abs(a - b) for a, b in zip(colour, wanted, strict=True)) <= within


def test_a_dropped_picture_gets_its_boxes(origin: str, visit: Callable[..., Visit], bright: bytes) -> None:
    seen = visit(origin)
    expect(seen.page.locator("#state")).to_have_text("ready")
    seen.drop(bright)
    expect(seen.page.locator("#count")).to_have_text("2")
    expect(seen.page.locator("#legend button")).to_have_text(["bus1", "truck1"])
    expect(seen.page.locator("#summary")).to_have_text("1 bus, 1 truck")
    for x, y, colour in ((100, 150, TRUCK), (300, 150, TRUCK), (200, 250, TRUCK), (400, 150, BUS), (450, 250, BUS)):
        assert close_to(seen.pixel(x, y), colour), (x, y)
    for x, y in ((200, 150), (450, 150), (350, 150), (50, 20), (600, 300)):
        assert seen.pixel(x, y) == (200, 200, 200), (x, y)
    expect(seen.page.locator("#figures dt")).to_have_text(
        ["decode", "queue", "inference", "postprocess", "rest", "seen from this browser"]
    )
    expect(seen.page.locator("#facts")).to_contain_text("tiny")
    assert seen.is_quiet(), (seen.asked, seen.complaints)


def test_a_chosen_picture_of_a_phone_is_upright(
    served_graph: str, visit: Callable[..., Visit], encode: Callable[..., bytes], tmp_path: Path
) -> None:
    from PIL import Image

    stored = np.full((640, 320, 3), 200, dtype=np.uint8)
    stored[600:, :] = (200, 0, 200)  # shown turned by 90 degrees clockwise (orientation 6): at the left
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "phone.jpg").write_bytes(encode(stored, exif=exif))
    seen = visit(served_graph, viewport={"width": 390, "height": 800}, device_scale_factor=2)
    seen.page.locator("#choose").set_input_files(tmp_path / "phone.jpg")
    expect(seen.page.locator("#count")).to_have_text("2")
    expect(seen.page.locator("#size")).to_have_text("640 × 320 px")
    assert close_to(seen.pixel(20, 160), (200, 0, 200)) and close_to(seen.pixel(600, 160), (200, 200, 200))
    assert close_to(seen.pixel(100, 150), TRUCK) and close_to(seen.pixel(500, 150), BUS)
    width = seen.page.evaluate("() => document.documentElement.scrollWidth")
    assert width <= 390
    assert seen.is_quiet()


def test_the_slider_filters_at_once_and_asks_for_less_sure_boxes(
    served_graph: str, visit: Callable[..., Visit], bright: bytes, dark: bytes
) -> None:
    seen = visit(served_graph)
    expect(seen.page.locator("#conf")).to_have_value("0.25")
    seen.drop(bright)
    expect(seen.page.locator("#count")).to_have_text("2")
    seen.page.locator("#conf").fill("0.6")
    expect(seen.page.locator("#count")).to_have_text("1")
    expect(seen.page.locator("#legend button")).to_have_text(["truck1"])
    assert seen.pixel(400, 150) == (200, 200, 200) and close_to(seen.pixel(100, 150), TRUCK)
    seen.page.locator("#conf").fill("0.3")
    expect(seen.page.locator("#count")).to_have_text("2")
    assert len(seen.frames) == 1
    seen.drop(dark, "dark.png")
    expect(seen.page.locator("#name")).to_have_text("dark.png")
    expect(seen.page.locator("#count")).to_have_text("1")
    seen.page.locator("#conf").fill("0.1")
    expect(seen.page.locator("#count")).to_have_text("2")
    assert seen.frames[-1].endswith("/v1/detect?conf=0.1")
    assert seen.is_quiet()


def test_what_is_no_picture_gets_the_reason_of_the_service(
    served_graph: str, visit: Callable[..., Visit], bright: bytes
) -> None:
    seen = visit(served_graph)
    seen.drop(b"hello", "notes.txt", "text/plain")
    expect(seen.page.locator("#error-title")).to_have_text("Refused: unsupported_media (415)")
    expect(seen.page.locator("#error-text")).to_contain_text("'text/plain' is not read")
    expect(seen.page.locator("#error-id")).to_have_text(re.compile(r"request [0-9a-f]{32}"))
    seen.drop(bright[:200], "half.png")
    expect(seen.page.locator("#error-title")).to_have_text("Refused: bad_image (400)")
    seen.drop(bright)
    expect(seen.page.locator("#error")).to_be_hidden()
    expect(seen.page.locator("#count")).to_have_text("2")
    expect(seen.page.locator("#strip span")).to_have_text(["!", "!", "2"])


@pytest.mark.parametrize("num_refusals", [2, 99])
def test_a_busy_service_is_asked_again_but_not_for_ever(
    served_graph: str, visit: Callable[..., Visit], bright: bytes, num_refusals: int
) -> None:
    seen = visit(served_graph)
    error = {"code": "overloaded", "message": "too much", "request_id": "r", "details": {}}

    def answer(route: Route) -> None:
        if len(seen.frames) <= num_refusals:
            route.fulfill(status=503, json={"error": error}, headers={"retry-after": "0"})
        else:
            route.continue_()

    seen.page.route("**/v1/detect", answer)
    num_asked = min(num_refusals, 3) + 1
    with seen.page.expect_event("requestfinished", lambda _: len(seen.frames) == num_asked):
        seen.drop(bright)
    if num_refusals < num_asked:
        expect(seen.page.locator("#count")).to_have_text("2")
        expect(seen.page.locator("#error")).to_be_hidden()
    else:
        expect(seen.page.locator("#error-title")).to_have_text("Refused: overloaded (503)")
        seen.page.unroute("**/v1/detect")
        seen.page.locator("#again").click()
        expect(seen.page.locator("#count")).to_have_text("2")
        num_asked += 1
    assert len(seen.frames) == num_asked


def test_it_is_used_by_keyboard_alone(
    served_graph: str, visit: Callable[..., Visit], bright: bytes, dark: bytes
) -> None:
    seen = visit(served_graph)
    seen.drop(bright, "bright.png")
    seen.drop(dark, "dark.png")
    expect(seen.page.locator("#strip span")).to_have_text(["2", "1"])
    keyboard = seen.page.keyboard
    seen.page.locator("#strip button").nth(1).focus()
    keyboard.press("ArrowLeft")
    expect(seen.page.locator("#name")).to_have_text("bright.png")
    seen.page.locator("#legend button").nth(1).focus()
    keyboard.press("Enter")
    expect(seen.page.locator("#count")).to_have_text("1")
    focused = seen.page.locator("#legend button:focus")
    expect(focused).to_have_attribute("aria-pressed", "false")
    assert seen.pixel(100, 150) == (200, 200, 200)
    keyboard.press("Enter")
    expect(seen.page.locator("#count")).to_have_text("2")
    seen.page.locator("#list summary").focus()
    keyboard.press("Enter")
    keyboard.press("Tab")
    expect(seen.page.locator("#rows tr:focus td").first).to_have_text("truck")
    seen.page.locator("#conf").focus()
    keyboard.press("End")
    expect(seen.page.locator("#count")).to_have_text("0")
    expect(seen.page.locator("#view")).to_have_attribute("aria-label", "bright.png: no boxes")


def test_the_answer_is_saved_and_the_request_is_copied_as_curl(
    served_graph: str, visit: Callable[..., Visit], bright: bytes, tmp_path: Path
) -> None:
    name = "it's a frame.png"
    (tmp_path / name).write_bytes(bright)
    seen = visit(served_graph, permissions=["clipboard-read", "clipboard-write"])
    seen.page.locator("#choose").set_input_files(tmp_path / name)
    expect(seen.page.locator("#count")).to_have_text("2")
    with seen.page.expect_download() as download:
        seen.page.locator("#save").click()
    assert download.value.suggested_filename == "it's a frame.json"
    saved = DetectAnswer.model_validate(json.loads(download.value.path().read_text()))
    seen.page.locator("#copy").click()
    expect(seen.page.locator("#copy")).to_have_text("Copied")
    command = shlex.split(seen.page.evaluate("() => navigator.clipboard.readText()"))
    assert command == [
        "curl", "--data-binary", f"@{name}", "-H", "content-type: image/png", f"{served_graph}/v1/detect",
    ]  # fmt: skip
    answer = httpx.post(command[-1], content=bright, headers={"content-type": "image/png"})
    assert DetectAnswer.model_validate(answer.json()).detections == saved.detections


def test_a_service_with_keys_asks_for_one(
    served_with_keys: tuple[str, str], visit: Callable[..., Visit], picture: bytes
) -> None:
    url, token = served_with_keys
    seen = visit(url)
    expect(seen.page.locator("#state")).to_have_text("asks for a key")
    seen.drop(picture, "car.jpg", "image/jpeg")
    expect(seen.page.locator("#error-title")).to_have_text("Refused: unauthorized (401)")
    seen.page.locator("#key").fill(token)
    seen.page.keyboard.press("Enter")
    expect(seen.page.locator("#legend button")).to_have_text(["car1"])
    expect(seen.page.locator("#state")).to_have_text("ready")
    shown = seen.page.locator("#curl").text_content()
    assert shown is not None and "$API_KEY" in shown and token not in shown
    seen.page.reload()
    expect(seen.page.locator("#state")).to_have_text("asks for a key")


def test_nothing_foreign_runs_in_the_page_or_is_spoken_to(served_graph: str, visit: Callable[..., Visit]) -> None:
    seen = visit(served_graph)
    fetched = seen.page.evaluate("""() => {
      const told = document.documentElement.dataset;
      addEventListener("securitypolicyviolation", event => {
        told.violated = [...(told.violated ?? "").split(" "), event.effectiveDirective].sort().join(" ").trim();
      });
      const script = document.createElement("script");
      script.textContent = "document.documentElement.dataset.broken = 'yes'";
      document.body.append(script);
      const styled = document.createElement("p");
      styled.setAttribute("style", "color: red");
      document.body.append(styled);
      return fetch("http://127.0.0.1:9/").then(() => true, () => false);
    }""")
    assert fetched is False
    page = seen.page.locator("html")
    expect(page).to_have_attribute("data-violated", "connect-src script-src-elem style-src-attr")
    expect(page).not_to_have_attribute("data-broken", "yes")
