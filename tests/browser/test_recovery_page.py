"""The recovery PIN as a person meets it: three real homeservers, a real browser, and the SDK that clients use.

Two of three bring the key back, the smallest set there is; five homeservers, those that lie, and restored ones are in
``tests/modules/test_recovery_realms.py``.
"""

import json
import subprocess
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from app_pages import DESKTOP, PHONE, ROOT, Page, web_tools

from benchmarks.realms import Realms
from super_app.names import AccountDataType
from synapse_super_app.commands.matrix_client import MatrixClient, wait_until

PIN, NEW_PIN, WRONG = "482915", "730164", "615208"
READY = "From now on this PIN brings your recovery key back."


@pytest.fixture(scope="module")
def realms(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Realms]:
    assert chromium is not None  # without a browser they are not started
    with Realms(tmp_path_factory.mktemp("realms")) as running:
        yield running


@pytest.fixture(scope="module")
def axe() -> str:
    web_tools("host")  # it installs what is in web/package-lock.json
    return (ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


def sdk(*arguments: str, text: str = "") -> str:
    """What matrix-js-sdk says."""
    script = ROOT / "web" / "tests" / "secret-storage.mjs"
    done = subprocess.run(
        [str(ROOT / "tools" / "web"), "run", str(script), *arguments],
        input=text,
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return done.stdout.strip()


@contextmanager
def device(chromium: Any, realms: Realms, size: tuple[int, int] = PHONE) -> Generator[Page]:
    """A browser that has never been here."""
    context = chromium.new_context(viewport={"width": size[0], "height": size[1]}, locale="en-GB")
    try:
        yield Page(context, realms.processes[0].client_url)
    finally:
        context.close()


def sign_in(visit: Page, name: str) -> Any:
    page = visit.page
    page.goto(f"{visit.origin}/superapp/recover/")
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill(f"{name}-password")
    page.get_by_role("button", name="Sign in").click()
    visit.heading("Recovery PIN")
    return page


def shown_key(page: Any, pin: str) -> str:
    page.get_by_label("PIN", exact=True).fill(pin)
    page.get_by_role("button", name="Get your recovery key").click()
    page.get_by_role("heading", name="Your recovery key", exact=True).wait_for()
    return str(page.locator("output").inner_text())


def set_of(client: MatrixClient) -> dict[str, Any]:
    found: dict[str, Any] = client.account_data(AccountDataType.RECOVERY) or {}
    return found


def assistant_said(client: MatrixClient, what: str) -> bool:
    return any(
        what in str(event["content"].get("body", ""))
        for room_id in client.joined_rooms()
        for event in client.messages(room_id)
        if event["type"] == "m.room.message"
    )


def test_a_lost_phone_and_six_digits_bring_back_what_a_client_has_encrypted(
    chromium: Any, realms: Realms, axe: str
) -> None:
    alice = realms.account("alice")
    made = json.loads(sdk("make"))
    for data_type, content in made["data"].items():
        alice.set_account_data(data_type, content)
    key = made["recoveryKey"]
    _sets_up(chromium, realms, key, axe)
    stored = set_of(alice)["set"]
    assert [each["server"] for each in stored["realms"]] == realms.names
    assert (stored["threshold"], stored["version"]) == (2, 1)

    # On a new device.
    with device(chromium, realms, DESKTOP) as visit:
        page = sign_in(visit, "alice")
        page.get_by_label("PIN", exact=True).fill(WRONG)
        page.get_by_role("button", name="Get your recovery key").click()
        page.get_by_text("Wrong PIN. 9 guesses are left.").wait_for()
        wait_until(
            lambda: assistant_said(alice, "tried the PIN of your recovery key"),
            timeout_s=120,
            what="the assistant to tell of the wrong PIN",
        )
        recovered = shown_key(page, PIN)
        visit.shot("recovery-key-desktop-light")
        # Another PIN, with the old one alone.
        page.get_by_role("button", name="Change PIN, key or homeservers").click()
        _types_new_pin(page, NEW_PIN)
        page.get_by_role("button", name="Set up").click()
        page.get_by_text(READY).wait_for()
        assert visit.complaints == []
    assert recovered == key
    kept = {data_type: alice.account_data(data_type) for data_type in made["data"]}
    assert sdk("open", recovered, text=json.dumps(kept)) == "the secret of this account"
    assert set_of(alice)["set"]["version"] == 2

    # With one realm away; and then no PIN any more.
    realms.processes[2].stop()
    with device(chromium, realms) as visit:
        page = sign_in(visit, "alice")
        assert shown_key(page, NEW_PIN) == key
        page.get_by_text(f"{realms.names[2]} did not answer. The others sufficed.").wait_for()
        page.get_by_role("button", name="Give the PIN up").click()
        page.get_by_role("button", name="Destroy all shares now").click()
        page.get_by_text("The PIN is gone, and so are the shares.").wait_for()
        assert visit.complaints == []
    assert "set" not in set_of(alice)
    for name in realms.names[:2]:
        shares = alice.superapp("GET", f"recovery/realms/{name}/state")["shares"]
        assert {each["state"] for each in shares} == {"retired"}
    alice.close()


def _sets_up(chromium: Any, realms: Realms, key: str, axe: str) -> None:
    with device(chromium, realms) as visit:
        page = sign_in(visit, "alice")
        page.get_by_label("Recovery key").fill(key[:-2])
        _types_new_pin(page, "123456")
        page.get_by_role("button", name="Set up").click()
        page.get_by_text("This is no recovery key").wait_for()
        page.get_by_text("among the first that anybody would try").wait_for()
        _types_new_pin(page, "4829")
        page.get_by_text("Four digits have only ten thousand possibilities.").wait_for()
        assert page.get_by_role("button", name="Set up").is_disabled()
        page.get_by_label("I want four digits all the same").check()
        assert page.get_by_role("button", name="Set up").is_enabled()
        page.evaluate(axe)
        found = page.evaluate("async () => (await axe.run(document, {resultTypes: ['violations']})).violations")
        assert [f"{fault['id']}: {node['html'][:120]}" for fault in found for node in fault["nodes"]] == []
        visit.shot("recovery-set-up-phone-light")
        page.get_by_label("Recovery key").fill(key)
        _types_new_pin(page, PIN)
        assert page.get_by_role("checkbox", checked=True).count() == 3
        page.get_by_role("button", name="Set up").click()
        page.get_by_text(READY).wait_for()
        assert visit.complaints == []
        assert visit.hosts == {visit.origin.removeprefix("http://")}


def _types_new_pin(page: Any, pin: str) -> None:
    page.get_by_label("New PIN", exact=True).fill(pin)
    page.get_by_label("New PIN once more").fill(pin)
