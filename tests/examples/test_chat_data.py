"""The corpus is real and large enough, and nobody is asked what trained the reranker."""

from collections.abc import Callable
from typing import Any

import numpy as np


def test_the_corpus_has_a_few_thousand_questions_and_texts(example: Callable[[str], Any], entries: list[Any]) -> None:
    assert len(entries) > 3_000
    assert len(example("corpus").texts(entries)) > 5_000


def test_every_entry_has_a_question_and_an_answer(entries: list[Any]) -> None:
    assert all(entry.question and entry.answers and all(entry.answers) for entry in entries)


def test_about_half_of_the_questions_are_held_out(example: Callable[[str], Any], entries: list[Any]) -> None:
    held_out = example("corpus").held_out
    assert 0.45 < sum(held_out(entry.question) for entry in entries) / len(entries) < 0.55


def test_questions_in_capitals_are_held_out_together_with_their_small_twins(example: Callable[[str], Any]) -> None:
    held_out = example("corpus").held_out
    assert all(held_out(text) == held_out(text.upper()) for text in ("what is ai", "who are you", "tell me a joke"))


def test_the_same_user_is_the_same_person_every_time(example: Callable[[str], Any]) -> None:
    people = example("people")
    known = [("What is AI?", ("Clever machines.",)), ("Who are you?", ("A program.",))]
    assert people.person("u-1", known) == people.person("u-1", known)
    assert len({people.person(f"u-{number}", known).typed for number in range(50)}) > 5


def test_people_type_something_whatever_the_question_is(example: Callable[[str], Any]) -> None:
    people = example("people")
    for question in ("?", "Hi", "a b c", "Wer bist du?", "¿Qué?"):
        assert all(people.person(f"u-{number}", [(question, ("x",))]).typed for number in range(50))


def test_a_right_reply_never_makes_a_person_leave_who_would_have_stayed(example: Callable[[str], Any]) -> None:
    people = example("people")
    crowd = [people.person(f"u-{number}", [("What is AI?", ("Right.",))]) for number in range(2_000)]
    assert all(person.keeps_talking("Right.") for person in crowd if person.keeps_talking("Wrong."))
    assert abs(np.mean([person.keeps_talking("Right.") for person in crowd]) - people.STAYS_IF_RIGHT) < 0.03
    assert abs(np.mean([person.keeps_talking("Wrong.") for person in crowd]) - people.STAYS_IF_WRONG) < 0.03
