"""Words that differ: the pieces join to the texts, and what is unmarked on both sides is the same words."""

from __future__ import annotations

from hypothesis import given, strategies as st

from ui.explore.text_diff import mark_differences

TEXTS = st.text(alphabet="ab \n<&", max_size=40)


@given(TEXTS, TEXTS)
def test_pieces_join_to_the_texts_and_share_what_is_unmarked(left: str, right: str) -> None:
    marked = mark_differences(left, right)
    assert ["".join(text for text, _ in pieces) for pieces in marked] == [left, right]
    shared = [" ".join(text for text, differs in pieces if not differs).split() for pieces in marked]
    assert shared[0] == shared[1]


def test_a_word_is_marked_whole() -> None:
    left, right = mark_differences("the red fox ran", "the blue fox ran")
    assert left == [("the", False), (" red", True), (" fox ran", False)]
    assert right == [("the", False), (" blue", True), (" fox ran", False)]
