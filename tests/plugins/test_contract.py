"""The built-in formats keep the contract that third parties are held to: the same suite."""

from __future__ import annotations

from mtlplug_c import Classification
from mtlplug_qa import QuestionAnswering
from mtlplug_sl import SequenceLabelling

from mtlplug.testing import FormatContract


class TestSequenceLabelling(FormatContract):
    """SL."""

    format = SequenceLabelling()
    rows = [
        {"tokens": text.split(), "tags": tags.split()}
        for text, tags in [
            ("Ada Byron lives in London .", "B-PER I-PER O O B-LOC O"),
            ("the train to Paris leaves Rome at noon", "O O O B-LOC O B-LOC O O"),
            ("Marie Curie met Ada", "B-PER I-PER O B-PER"),
            ("nobody was there yesterday evening after all", "O O O O O O O"),
            ("Oslo and Bergen are rainy", "B-LOC O B-LOC O O"),
        ]
    ]
    uncounted = [
        {"tokens": ["Rover"], "tags": ["B-DOG"]},
        {"tokens": ["\u200b"], "tags": ["B-PER"]},  # which becomes no token
    ]


class TestClassification(FormatContract):
    """C."""

    format = Classification()
    rows = [
        {"text": "a film to remember and to see again", "text_pair": "go!", "label": "good"},
        {"text": "two hours of my life that nobody gives back", "text_pair": "no", "label": "bad"},
        {"text": "it begins, it ends", "text_pair": "so what", "label": "so-so"},
        {"text": "wonderful from the first picture on", "text_pair": "yes", "label": "good"},
        {"text": "the popcorn was warm, the plot was cold", "text_pair": "well", "label": "bad"},
    ]
    uncounted = [{"text": "a film", "text_pair": "hm", "label": "undecided"}]


class TestQuestionAnswering(FormatContract):
    """QA, with questions that have no answer, and contexts of several windows."""

    format = QuestionAnswering()
    task = {"options": {"max_length": 48, "stride": 6, "max_question": 12}}
    rows = [
        {"question": question, "context": context, "answers": {"text": [a], "answer_start": [s]}}
        for question, context, a, s in [
            ("who lives here ?", "in the old house lives a miller with three sons", "a miller", 23),
            ("what is blue ?", "the sky is grey today , but the door is blue", "the door", 28),
            ("how many ?", "they counted seven hens and one cock", "seven", 13),
            ("where to ?", "at noon the coach went on to the coast", "to the coast", 26),
        ]
    ] + [
        {
            "question": "when ?",
            "context": "nobody knows",
            "answers": {"text": [], "answer_start": []},
        }
    ]
    uncounted = [
        {
            "question": "who ?",
            "context": "somebody did it",
            "answers": {"text": ["nobody"], "answer_start": [0]},
        }
    ]
