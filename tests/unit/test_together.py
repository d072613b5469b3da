"""How statements are spelled that go to PostgreSQL in one exchange."""

from super_app.db.together import Together


def test_statements_keep_their_order_and_their_parameters() -> None:
    waiting = Together()
    waiting.add("INSERT INTO one VALUES (?, ?)", (1, "a"))
    waiting.add("DELETE FROM two WHERE id = ?", ("b",))
    assert waiting.take() == ("INSERT INTO one VALUES (?, ?);\nDELETE FROM two WHERE id = ?", (1, "a", "b"))


def test_what_was_taken_no_longer_waits() -> None:
    waiting = Together()
    waiting.add("SELECT 1", ())
    waiting.take()
    assert waiting.take() is None


def test_a_percent_sign_is_doubled_only_where_the_driver_looks_for_placeholders() -> None:
    alone = Together()
    alone.add("SELECT '5 %'", ())
    assert alone.take() == ("SELECT '5 %'", ())
    beside = Together()
    beside.add("SELECT '5 %'", ())
    beside.add("SELECT ?", (1,))
    assert beside.take() == ("SELECT '5 %%';\nSELECT ?", (1,))
