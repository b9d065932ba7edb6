"""An address that a browser has: written here, not heard of yet, or one that it was led to."""

from __future__ import annotations

from ui.view.address import Written

A, B, C = ({"mask": mask} for mask in ("1", "2", "3"))


def test_what_was_never_written_is_a_link() -> None:
    written = Written()
    assert written.follow(A)
    assert not written.follow(A)
    assert written.follow(B)


def test_a_browser_that_has_not_heard_of_the_last_address_is_not_led_back() -> None:
    written = Written()
    for address in (A, B, C):
        written.write(address)
    assert not written.follow(A)
    assert not written.follow(B)
    assert not written.follow(C)


def test_an_address_before_one_that_was_heard_of_is_where_somebody_went_back_to() -> None:
    written = Written()
    for address in (A, B):
        written.write(address)
    assert not written.follow(B)
    assert written.follow(A)
    assert not written.follow(A)
    written.write(B)
    assert not written.follow(B)
    assert written.follow(A)
