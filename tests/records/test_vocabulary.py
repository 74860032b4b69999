"""Text ↔ ids: characters and words, what can't be a vocabulary, and items that it doesn't have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from worker.records.vocabulary import SKIP, UnknownItemError, Vocabulary, VocabularyError


def test_single_characters_split_text_into_characters() -> None:
    vocabulary = Vocabulary("ab \né")
    assert (len(vocabulary), vocabulary.characters) == (5, True)
    assert vocabulary.ids("b a\né").tolist() == [1, 2, 0, 3, 4]
    assert vocabulary.text([1, 2, 0]) == "b a"
    assert vocabulary.ids("").tolist() == []
    assert vocabulary.ids("").dtype == "int64"


def test_other_items_split_text_at_white_space_and_are_joined_by_one() -> None:
    vocabulary = Vocabulary(["the", "cat", "a", "<end>"])
    assert vocabulary.characters is False
    assert vocabulary.ids("  the\tcat\n<end> ").tolist() == [0, 1, 3]
    assert vocabulary.text([0, 1]) == "the cat"
    assert vocabulary.text([]) == ""


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "the vocabulary has no items"),
        (["a", "b", "a"], "the vocabulary has the item 'a' twice: 0 and 2"),
        (["a", ""], "item 1 of the vocabulary is empty"),
        (["a", 5], "item 1 of the vocabulary is 5, not text"),
        (["the cat", "a"], "item 0 of the vocabulary, 'the cat', holds white space, where words are split"),
        (["the", " "], "item 1 of the vocabulary, ' ', holds white space, where words are split"),
    ],
)
def test_what_is_no_vocabulary(items: list[Any], message: str) -> None:
    with pytest.raises(VocabularyError) as caught:
        Vocabulary(items)
    assert str(caught.value) == message


def test_a_mapping_is_read_by_its_ids_whatever_the_order_of_its_keys() -> None:
    mappings: list[Any] = [
        {"a": 2, "b": 0, "c": 1},
        {2: "a", 0: "b", 1: "c"},
        {np.int64(1): "c", np.int64(2): "a", 0: "b"},
    ]
    for given in mappings:
        assert Vocabulary(given).items == ("b", "c", "a")
    assert Vocabulary({"a": 0, "b": 1}.keys()).items == ("a", "b")


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ({"a", "b"}, "the vocabulary is a set, which has no order: give a list, in the order of the ids"),
        (frozenset("ab"), "the vocabulary is a set, which has no order: give a list, in the order of the ids"),
        ({}, "the vocabulary has no items"),
        ({"a": 1, "b": 2}, "the vocabulary's 2 ids must be 0 to 1: 0 is missing, 2 is the greatest"),
        ({-1: "a", 0: "b"}, "the vocabulary's 2 ids must be 0 to 1: 1 is missing, 0 is the greatest"),
        ({"a": 0, "b": 0}, "the vocabulary gives the id 0 to both 'a' and 'b'"),
        ({0: "a", 1: "a"}, "the vocabulary has the item 'a' twice: 0 and 1"),
        ({0: 5, 1: "a"}, "item 0 of the vocabulary is 5, not text"),
        ({"0": "a"}, "the vocabulary is a mapping with the pair '0', 'a': give {item: id} or {id: item}"),
        ({"a": True}, "the vocabulary is a mapping with the pair 'a', True: give {item: id} or {id: item}"),
        ({"a": 0, 1: "b"}, "the vocabulary is a mapping with the pair 1, 'b': give {item: id} or {id: item}"),
    ],
)
def test_sets_and_mappings_that_name_no_ids(items: Any, message: str) -> None:
    with pytest.raises(VocabularyError) as caught:
        Vocabulary(items)
    assert str(caught.value) == message


def test_an_unknown_item_is_refused_by_name_and_position() -> None:
    with pytest.raises(UnknownItemError) as caught:
        Vocabulary("abc").ids("abxcy")
    assert (caught.value.item, caught.value.position) == ("x", 2)
    assert str(caught.value) == "item 3 of the text, 'x', is none of the vocabulary's 3 items"
    with pytest.raises(UnknownItemError) as caught:
        Vocabulary(["the", "cat"]).ids("the dog sat")
    assert (caught.value.item, caught.value.position) == ("dog", 1)


def test_unknown_items_are_left_out_or_replaced_if_wished() -> None:
    vocabulary = Vocabulary("abc")
    assert vocabulary.ids("abxcy", SKIP).tolist() == [0, 1, 2]
    assert vocabulary.ids("abxcy", vocabulary.id("c")).tolist() == [0, 1, 2, 2, 2]
    with pytest.raises(VocabularyError, match="'x' is none of the vocabulary's 3 items"):
        vocabulary.id("x")
    assert "a" in vocabulary
    assert "x" not in vocabulary
