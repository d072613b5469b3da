"""The recovery PIN as a person meets it: five real homeservers, a real browser, and the SDK that clients use.

Three of five bring the key back. Each step at which something may break off, each message that may be replayed and time
that goes by are in ``tests/modules/test_recovery_realms.py``.
"""

import base64
import json
import secrets
import shutil
import sqlite3
import subprocess
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from app_pages import DESKTOP, PHONE, ROOT, Page, web_tools

from benchmarks.realms import Realms
from super_app.ids import ServerName, UserId
from super_app.names import AccountDataType
from super_app.recovery import client as protocol
from super_app.recovery import group
from super_app.recovery.model import Deal, Version
from super_app.signing import from_b64, to_b64
from synapse_super_app.commands.matrix_client import MatrixClient, wait_until

PIN, NEW_PIN, WRONG = "482915", "730164", "615208"
READY = "From now on this PIN brings your recovery key back."


@pytest.fixture(scope="module")
def realms(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Realms]:
    assert chromium is not None  # without a browser they are not started
    with Realms(tmp_path_factory.mktemp("realms")) as running:
        yield running


def set_up_with(realms: Realms, name: str) -> tuple[MatrixClient, str]:
    """A person whose client has made a recovery key, and the key."""
    person = realms.account(name)
    made = json.loads(sdk("make"))
    for data_type, content in made["data"].items():
        person.set_account_data(data_type, content)
    return person, str(made["recoveryKey"])


def database(realms: Realms, at: int) -> Path:
    return realms.processes[at].config_path.parent / "homeserver.db"


def write(realms: Realms, at: int, sql: str, *parameters: Any) -> None:
    """Into the database of a realm, past it: as its operator could, or as time does."""
    with closing(sqlite3.connect(database(realms, at), timeout=60)) as connection, connection:
        connection.execute(sql, parameters)


def states(realms: Realms, person: MatrixClient, at: int) -> dict[int, tuple[str, int]]:
    """The state of each version at a realm and its guesses, from the database: questions at the API are numbered."""
    sql = "SELECT version, state, guesses FROM superapp_recovery_share WHERE user_id = ?"
    with closing(sqlite3.connect(database(realms, at), timeout=60)) as connection:
        rows = connection.execute(sql, (person.user_id,)).fetchall()
    return {version: (state, guesses) for version, state, guesses in rows}


def all_are(realms: Realms, person: MatrixClient, expected: dict[int, tuple[str, int]]) -> None:
    """Wait until they are so at each realm."""

    def found() -> list[dict[int, tuple[str, int]]]:
        return [states(realms, person, at) for at in range(len(realms.names))]

    try:
        wait_until(lambda: found() == [expected] * len(realms.names), timeout_s=120, what="all realms to count so")
    except TimeoutError as late:
        raise AssertionError(f"not {expected} everywhere but {found()}") from late


@pytest.fixture(scope="module")
def axe() -> str:
    web_tools("host")  # it installs what is in web/package-lock.json
    return (ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


def sdk(*arguments: str, text: str = "", script: str = "secret-storage.mjs") -> str:
    """What matrix-js-sdk says."""
    done = subprocess.run(
        [str(ROOT / "tools" / "web"), "run", str(ROOT / "web" / "tests" / script), *arguments],
        input=text,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]
    return done.stdout.strip().rpartition("\n")[2]


def client_with_everything(realms: Realms, name: str) -> tuple[MatrixClient, dict[str, Any]]:
    """A person whose client has encrypted something, and then was lost: what only they know of it."""
    person = realms.account(name)
    return person, client_of(realms, name, "make")


def client_of(realms: Realms, name: str, what: str, **more: str) -> dict[str, Any]:
    wanted = {"base_url": realms.processes[0].client_url, "name": name, "password": f"{name}-password", **more}
    found: dict[str, Any] = json.loads(sdk(what, text=json.dumps(wanted), script="account.mjs"))
    return found


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
    alice, lost = client_with_everything(realms, "alice")
    key = lost["recovery_key"]
    _sets_up(chromium, realms, key, axe)
    stored = set_of(alice)["set"]
    assert [each["server"] for each in stored["realms"]] == realms.names
    assert (stored["threshold"], stored["version"]) == (3, 1)

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
        no_file_holds(realms, key, but=stored["ciphertext"])
        visit.shot("recovery-key-desktop-light")
        # Another PIN, with the old one alone.
        page.get_by_role("button", name="Change PIN, key or homeservers").click()
        _types_new_pin(page, NEW_PIN)
        page.get_by_role("button", name="Set up").click()
        page.get_by_text(READY).wait_for()
        assert visit.complaints == []
    assert recovered == key
    # The client on that device opens the account's secret storage with it, and so the backup of what was encrypted.
    read = client_of(realms, "alice", "read", **{**lost, "recovery_key": recovered})
    assert read == {"before": None, "text": lost["text"], "verified": True}
    assert set_of(alice)["set"]["version"] == 2

    # One realm lies and another is away; each is named, and the three others suffice.
    write(
        realms,
        1,
        "UPDATE superapp_recovery_share SET sealed = ? WHERE user_id = ? AND version = 2",
        *other_share(alice, realms),
    )
    realms.processes[4].stop()
    with device(chromium, realms) as visit:
        page = sign_in(visit, "alice")
        assert shown_key(page, NEW_PIN) == key
        page.get_by_text(f"{realms.names[1]} answered wrongly and was left out.").wait_for()
        page.get_by_text(f"{realms.names[4]} did not answer. The others sufficed.").wait_for()
        # Both are replaced: a new set among those that answer, and the one that lied is left out.
        page.get_by_role("button", name="Change PIN, key or homeservers").click()
        _types_new_pin(page, PIN)
        page.get_by_role("checkbox", name=realms.names[1]).uncheck()
        page.get_by_role("button", name="Set up").click()
        page.get_by_text(READY).wait_for()
        assert visit.complaints == []
    assert [each["server"] for each in set_of(alice)["set"]["realms"]] == [realms.names[at] for at in (0, 2, 3)]
    _an_operator_sees_it(chromium, realms)
    wait_until(
        lambda: states(realms, alice, 1)[2][0] == "retired", timeout_s=120, what="the realm that lied to be told"
    )
    realms.processes[4].start()

    # And then no PIN any more.
    with device(chromium, realms) as visit:
        page = sign_in(visit, "alice")
        assert shown_key(page, PIN) == key
        page.get_by_role("button", name="Give the PIN up").click()
        page.get_by_role("button", name="Destroy all shares now").click()
        page.get_by_text("The PIN is gone, and so are the shares.").wait_for()
        assert visit.complaints == []
    assert "set" not in set_of(alice)
    for at in (0, 2, 3):
        assert {state for state, _ in states(realms, alice, at).values()} == {"retired"}
    alice.close()


def _an_operator_sees_it(chromium: Any, realms: Realms) -> None:
    """For whom shares are held, and which of the other realms is away."""
    with realms.account("operator", admin=True) as admin, device(chromium, realms, DESKTOP) as visit:
        page = visit.page
        page.goto(f"{visit.origin}/superapp/admin/")
        page.get_by_label("User name").fill("operator")
        page.get_by_label("Password").fill("operator-password")
        page.get_by_role("button", name="Sign in").click()
        page.locator("#guards tr", has_text=realms.names[4]).get_by_text("does not answer").wait_for()
        page.locator("#guards tr", has_text=realms.names[3]).get_by_text("open").wait_for()
        held = {each["server"]: each["held"] for each in admin.superapp("GET", "admin/recovery")["shares"]}
        page.locator("#guarded tr", has_text=realms.names[0]).get_by_text(
            str(held[realms.names[0]]), exact=True
        ).wait_for()


def no_file_holds(realms: Realms, key: str, *, but: str) -> None:
    """Neither a database nor a log nor anything else of the five, in whatever form a key is written.

    ``but`` is what one of them does hold, so that it is seen that files are looked through as they are.

    PINs are too short to be looked for, since digits are found everywhere by chance: see
    ``tests/modules/test_recovery_realms.py``.
    """
    number = 0
    for letter in key.replace(" ", ""):
        number = number * 58 + "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz".index(letter)
    whole = number.to_bytes(35, "big")
    assert whole[:2] == b"\x8b\x01"  # the spec's two bytes, 32 of key and one of parity
    raw = whole[2:-1]
    forms = [key.encode(), key.replace(" ", "").encode(), raw, raw.hex().encode(), raw.hex().upper().encode()]
    forms += [base64.b64encode(raw).rstrip(b"="), to_b64(raw).encode()]
    files = [each for process in realms.processes for each in process.config_path.parent.rglob("*") if each.is_file()]
    assert {"homeserver.db", "homeserver.log"} <= {each.name for each in files}
    holders: set[Path] = set()
    for file in files:
        content = file.read_bytes()
        assert not [form for form in forms if form in content], file
        if but.encode() in content:
            holders.add(file.parent)
    assert holders == {realms.processes[0].config_path.parent}


def other_share(person: MatrixClient, realms: Realms) -> tuple[str, str]:
    """A share as the second realm holds it, but of another key: what it answers from now on is wrong."""
    names = [ServerName(each) for each in realms.names]
    found = person.superapp("GET", "recovery/realms")["realms"]
    realm_key = next(each["public_key"] for each in found if each["server"] == names[1])
    deal = Deal(
        user_id=UserId(person.user_id),
        version=Version(2),
        realm=names[1],
        index=2,
        threshold=3,
        realms=tuple(names),
        share=group.scalar_of(7),
        unlock_key=bytes(32),
    )
    return protocol.sealed(deal, from_b64(realm_key), secrets.token_bytes(32)), person.user_id


def test_ten_guesses_over_devices_days_and_a_restored_realm_end_it_everywhere(chromium: Any, realms: Realms) -> None:
    bob, key = set_up_with(realms, "bob")
    with device(chromium, realms) as visit:
        page = sign_in(visit, "bob")
        sets_up(page, key, PIN)

        # Two devices at once.
        with device(chromium, realms, DESKTOP) as other:
            pages = [page, sign_in(other, "bob")]
            for each in pages:
                each.get_by_label("PIN", exact=True).fill(PIN)
            for each in pages:
                each.get_by_role("button", name="Get your recovery key").click()
            for each in pages:
                each.get_by_role("heading", name="Your recovery key", exact=True).wait_for()
                assert each.locator("output").inner_text() == key
                each.get_by_role("button", name="Hide it").click()
            # Behind what is shown, all realms are unlocked for both; not after a page is closed.
            all_are(realms, bob, {1: ("active", 0)})

        # The third realm is put back to before a guess, and does not give it back.
        backup = database(realms, 2).with_suffix(".backup")
        with closing(sqlite3.connect(database(realms, 2))) as now, closing(sqlite3.connect(backup)) as copy:
            now.backup(copy)
        guesses_wrong(page)
        page.get_by_text("Wrong PIN. 9 guesses are left.").wait_for()
        all_are(realms, bob, {1: ("active", 1)})
        realms.processes[2].stop()
        for left in database(realms, 2).parent.glob("homeserver.db-*"):
            left.unlink()
        shutil.copy(backup, database(realms, 2))
        realms.processes[2].start()
        wait_until(
            lambda: states(realms, bob, 2) == {1: ("active", 1)},
            timeout_s=120,
            what="the restored realm to hear what the others know",
        )

        # More of them, from elsewhere and on other days; the tenth and what comes after it on the page.
        for left_now in range(9, 1, -1):
            body = {"version": 1, "attempt_id": secrets.token_hex(16), "blinded": to_b64(group.base_times(group.one))}
            for name in realms.names:
                answered = bob.superapp("POST", f"recovery/realms/{name}/guess", body)
                assert answered["guesses_left"] == left_now - 1
            a_day_goes_by(realms, bob)
        guesses_wrong(page)
        page.get_by_text("Wrong PIN. 0 guesses are left.").wait_for()
        guesses_wrong(page, PIN)
        page.get_by_text("There were ten wrong guesses, so the shares were destroyed.").wait_for()
        assert visit.complaints == []
        all_are(realms, bob, {1: ("spent", 10)})
        for at in range(len(realms.names)):
            with closing(sqlite3.connect(database(realms, at), timeout=60)) as connection:
                rows = connection.execute(
                    "SELECT sealed FROM superapp_recovery_share WHERE user_id = ?", (bob.user_id,)
                ).fetchall()
            assert rows == [(None,)]
        # With the key itself a new PIN is set up.
        page.get_by_role("button", name="Change PIN, key or homeservers").click()
        sets_up(page, key, NEW_PIN)
        assert shown_key(page, NEW_PIN) == key
    bob.close()


CLOSING = """() => {
    const plain = window.fetch.bind(window);
    let begun = Promise.resolve();
    let closed = false;
    new MutationObserver(() => {
        closed ||= document.querySelector("output") !== null;
    }).observe(document.body, { childList: true, subtree: true });
    window.fetch = async (request, ...more) => {
        if (closed) return new Promise(() => {});
        if (request.url.endsWith("/evaluate")) await begun;
        const answered = plain(request, ...more);
        if (request.url.endsWith("/begin")) begun = answered.then((each) => each.clone().text());
        return answered;
    };
}"""
"""From the moment on at which a page shows a key it sends nothing more, as one that is closed then.

All realms have begun the guess before they are asked, as they have where a PIN takes its time.
"""


def test_a_page_that_is_closed_as_soon_as_it_shows_the_key_leaves_no_guess_and_the_account_may_get_another_key(
    chromium: Any, realms: Realms
) -> None:
    dave, key = set_up_with(realms, "dave")
    with device(chromium, realms) as visit:
        page = sign_in(visit, "dave")
        sets_up(page, key, PIN)
        page.evaluate(CLOSING)
        assert shown_key(page, PIN) == key
        page.close()
        all_are(realms, dave, {1: ("active", 0)})
        assert tries_of(realms, dave) == {"right": 2}

        # Then the account gets another recovery key, as when somebody resets it in their client.
        made = json.loads(sdk("make"))
        for data_type, content in made["data"].items():
            dave.set_account_data(data_type, content)
        page = visit.context.new_page()
        page.goto(f"{visit.origin}/superapp/recover/")
        page.get_by_text("this PIN brings only the old one back").wait_for()
        assert shown_key(page, PIN) == key
        page.get_by_text("What comes back is the old one").wait_for()
        page.get_by_role("button", name="Change PIN, key or homeservers").click()
        # The old one is that of the account no more.
        page.get_by_role("textbox", name="Recovery key").fill(key)
        _types_new_pin(page, NEW_PIN)
        page.get_by_role("button", name="Set up").click()
        page.get_by_text("but not that of your account").wait_for()
        sets_up(page, made["recoveryKey"], NEW_PIN)
        page.get_by_text("this PIN brings only the old one back").wait_for(state="detached")
        recovered = shown_key(page, NEW_PIN)
        assert recovered == made["recoveryKey"]
        assert sdk("open", recovered, text=json.dumps(made["data"])) == "the secret of this account"
    # What was set up for the old one is at no realm any more.
    all_are(realms, dave, {1: ("retired", 0), 2: ("active", 0)})
    dave.close()


def tries_of(realms: Realms, person: MatrixClient) -> dict[str, int]:
    """How those of a person ended, from the database of their homeserver."""
    sql = "SELECT outcome, COUNT(*) FROM superapp_recovery_attempt WHERE user_id = ? GROUP BY outcome"
    with closing(sqlite3.connect(database(realms, 0), timeout=60)) as connection:
        return dict(connection.execute(sql, (person.user_id,)).fetchall())


def a_day_goes_by(realms: Realms, person: MatrixClient) -> None:
    sql = "UPDATE superapp_recovery_share SET guessed_ms = guessed_ms - 86400000 WHERE user_id = ?"
    for at in range(len(realms.names)):
        write(realms, at, sql, person.user_id)


def guesses_wrong(page: Any, pin: str = WRONG) -> None:
    page.get_by_label("PIN", exact=True).fill(pin)
    page.get_by_role("button", name="Get your recovery key").click()


def sets_up(page: Any, key: str, pin: str) -> None:
    page.get_by_role("textbox", name="Recovery key").fill(key)
    _types_new_pin(page, pin)
    page.get_by_role("button", name="Set up").click()
    page.get_by_text(READY).wait_for()


def test_where_setting_up_breaks_off_the_page_says_so_and_it_can_begin_again(chromium: Any, realms: Realms) -> None:
    carol, key = set_up_with(realms, "carol")
    with device(chromium, realms) as visit:
        sign_in(visit, "carol")
        # There is a way to it from the wallet, and it says that its PIN is another one.
        page = visit.open("settings")
        page.get_by_role("link", name="Set up or use it").click()
        visit.heading("Recovery PIN")
        page.get_by_text("This is not the PIN of your wallet.").wait_for()
        # While shares are given out, with nothing there before.
        breaks_off(page, f"**/recovery/realms/{realms.names[3].replace(':', '%3A')}/share")
        page.get_by_role("textbox", name="Recovery key").fill(key)
        _types_new_pin(page, PIN)
        page.get_by_role("button", name="Set up").click()
        page.get_by_role("alert").wait_for()
        assert set_of(carol) == {}
        page.unroute_all()
        sets_up(page, key, PIN)
        first = set_of(carol)["set"]["version"]

        # One of the realms leaves, of which the page tells whoever has a share there.
        gone = realms.names[3]
        leaves(page, gone)
        page.reload()
        visit.heading("Recovery PIN")
        page.get_by_text(f"{gone} guards no new shares any more.").wait_for()
        assert shown_key(page, PIN) == key
        assert set_of(carol)["set"]["version"] == first

        # Once the account data names the new set, and before the realms know: its PIN is the one that counts, and they
        # hear of it when the page is next opened.
        page.get_by_role("button", name="Change PIN, key or homeservers").click()
        breaks_off(page, "**/recovery/realms/*/use")
        _types_new_pin(page, NEW_PIN)
        left = page.get_by_role("checkbox", name=gone)
        assert (left.is_checked(), left.is_disabled()) == (False, True)
        page.get_by_role("button", name="Set up").click()
        page.get_by_text(READY).wait_for()
        page.get_by_text(f"{gone} guards no new shares any more.").wait_for(state="detached")
        newest = set_of(carol)["set"]["version"]
        assert gone not in [each["server"] for each in set_of(carol)["set"]["realms"]]
        assert states(realms, carol, 1)[newest][0] == "pending"
        page.unroute_all()
        page.reload()
        visit.heading("Recovery PIN")
        assert shown_key(page, NEW_PIN) == key
    wait_until(
        lambda: all(
            {version: state for version, (state, _) in states(realms, carol, at).items()}
            == {**dict.fromkeys(states(realms, carol, at), "retired"), **({newest: "active"} if at != 3 else {})}
            for at in range(len(realms.names))
        ),
        timeout_s=120,
        what="the realms to hear which set is in use",
    )
    carol.close()


def test_after_each_request_of_setting_up_the_page_may_be_closed(realms: Realms) -> None:
    """The page's own code, without a browser and without the hash of the PIN, so that all of its steps can be tried."""
    with realms.account("erin") as erin, realms.account("frank") as frank:
        people = [{"user_id": each.user_id, "token": each.access_token} for each in (erin, frank)]
        wanted = {"client_url": realms.processes[0].client_url, "people": people}
        found = json.loads(sdk(text=json.dumps(wanted), script="steps.mjs"))
        # What it has, three states, three shares, a try of three requests; the account data; and three to say so. Where
        # a realm is slow to begin the try, one more unlocks it.
        assert found["first"] >= 11
        assert found["again"] >= 14
        newest = set_of(frank)["set"]["version"]
        for at in range(3):
            held = {version: each for version, each in states(realms, frank, at).items() if each[0] != "retired"}
            assert held == {newest: ("active", 0)}


def leaves(page: Any, server: str) -> None:
    """As if its operator had said so in its config: the page is told of it with the list of realms."""

    def route(found: Any) -> None:
        answered = found.fetch()
        content = answered.json()
        for each in content["realms"]:
            each["leaving"] = each["leaving"] or each["server"] == server
        found.fulfill(response=answered, json=content)

    page.route("**/recovery/realms", route)


def breaks_off(page: Any, where: str) -> None:
    page.route(where, lambda found: found.abort())


def _sets_up(chromium: Any, realms: Realms, key: str, axe: str) -> None:
    with device(chromium, realms) as visit:
        page = sign_in(visit, "alice")
        page.get_by_role("textbox", name="Recovery key").fill(key[:-2])
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
        # What it can do and what not stands there, and why it has six digits.
        page.get_by_text("What this can do, and what it cannot").click()
        for said in ("3 of them together can try all PINs", "could make a page that sends your PIN", "drawn by dice"):
            page.get_by_text(said).wait_for()
        page.get_by_role("textbox", name="Recovery key").fill(key)
        _types_new_pin(page, PIN)
        assert page.get_by_role("checkbox", checked=True).count() == 5
        page.get_by_role("button", name="Set up").click()
        page.get_by_text(READY).wait_for()
        assert visit.complaints == []
        assert visit.hosts == {visit.origin.removeprefix("http://")}


def _types_new_pin(page: Any, pin: str) -> None:
    page.get_by_label("New PIN", exact=True).fill(pin)
    page.get_by_label("New PIN once more").fill(pin)
