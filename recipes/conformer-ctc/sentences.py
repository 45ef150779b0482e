"""Texts of the synthetic training corpus: simple English, spelling, numbers, dates, commands, word chains.

`Texts(transcripts)` draws one `Text` after another: what is written in the manifest (a-z, space, apostrophe)
and what espeak-ng is asked to say. The two differ where espeak-ng would misread, as in the letter `a`, which
it takes for the article.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import proper_names as names
import vocabulary as v
from grammar import Grammar
from spoken_numbers import DIGITS, MONTHS, ORDINALS, WEEKDAYS, below_hundred, in_words

LETTERS = "abcdefghijklmnopqrstuvwxyz"
COMMANDS = v.words("yes no go stop start help erase rubout repeat enter")
# In espeak-ng's phoneme mnemonics, the same in every English voice.
SPOKEN = {"a": "[['eI]]", "z": "[[z'i:]]", "rubout": "rub out"}
OPEN_CLASSES = (
    v.FOODS + v.ANIMALS + v.PEOPLE + v.THINGS + v.PLACES + v.ADJECTIVES + v.ADVERBS + v.EXTRA + v.ABSTRACT
)


@dataclass(frozen=True)
class Text:
    """One utterance: `text` for the manifest, `spoken` for espeak-ng, `kind` of template."""

    text: str
    spoken: str
    kind: str


def say_spelling(letters: Sequence[str]) -> str:
    """What espeak-ng needs to say each of `letters` (single letters or whole words) by its name."""
    return " ".join(SPOKEN.get(letter, letter) for letter in letters)


class Texts:
    """An endless source of texts, the same after the same `reseed`.

    `transcripts`: training transcripts whose word pairs are recombined (`chain`); without any, that kind is
    never drawn.
    """

    def __init__(self, transcripts: Sequence[str] = ()) -> None:
        self.random = random.Random(0)
        self.grammar = Grammar(self.random)
        self.followers: dict[str, list[str]] = defaultdict(list)
        for transcript in transcripts:
            row = transcript.split()
            single_letters = sum(len(word) == 1 and word not in "ai" for word in row)
            if row and single_letters < 2:  # spelled words would chain into noise
                for first, second in zip(["", *row], [*row, ""], strict=True):
                    self.followers[first].append(second)
        verbs = {form for verb in v.VERBS + v.VERBS_ALONE for form in verb}
        self.vocabulary = sorted(verbs | set(OPEN_CLASSES) | {word for word in self.followers if word})
        weights: dict[Callable[[], str], float] = {
            self.grammar.sentence: 30,
            self.grammar.long_sentence: 9,
            self.chain: 24 if self.followers else 0,
            self.word_salad: 5,
            self.spelled: 9,
            self.command: 9,
            self.number: 9,
            self.date: 3,
            self.address: 2,
        }
        self.kinds, self.weights = list(weights), list(weights.values())

    def reseed(self, key: str) -> None:
        """Start again from `key`: the texts that follow depend on it alone."""
        self.random.seed(key)

    def draw(self) -> Text:
        """The next text, 1 to 24 words."""
        while True:
            kind = self.random.choices(self.kinds, self.weights)[0]
            text = kind()
            if 0 < len(text.split()) <= 24 and len(text) <= 150:
                spells = kind in (self.spelled, self.command, self.address)
                return Text(text, say_spelling(text.split()) if spells else text, kind.__name__)

    def chain(self) -> str:
        """A walk over the word pairs of the training transcripts, 2 to 14 words."""
        row: list[str] = []
        word = ""
        while len(row) < 14:
            word = self.random.choice(self.followers[word])
            if not word:
                break
            row.append(word)
        return " ".join(row) if len(row) > 1 else ""

    def word_salad(self) -> str:
        """1 to 6 unrelated words: no context to lean on, so that letters are learned from sound."""
        return " ".join(self.random.choices(self.vocabulary, k=self.random.randint(1, 6)))

    def letters(self, low: int, high: int) -> str:
        return " ".join(self.random.choices(LETTERS, k=self.random.randint(low, high)))

    def spelled(self) -> str:
        """A name, street, city or word letter by letter, or random letters."""
        form = self.random.randrange(6)
        if form == 5:
            return self.letters(2, 8)
        word = self.random.choice(
            (names.NAMES, names.SURNAMES, names.CITIES, names.STREETS, self.vocabulary)[form]
        )
        return " ".join(word.replace("'", ""))

    def digits(self, low: int, high: int) -> str:
        zero = self.random.choice(("zero", "oh"))
        row = self.random.choices(DIGITS, k=self.random.randint(low, high))
        return " ".join(zero if digit == "zero" else digit for digit in row)

    def below(self, low: int, high: int) -> str:
        """A number of low..high - 1 (at most 99) in words."""
        return below_hundred(self.random.randrange(low, high))

    def digit(self) -> str:
        return DIGITS[self.random.randrange(1, 10)]

    def number(self) -> str:
        form = self.random.randrange(8)
        if form == 0:
            return self.digits(1, 5)
        if form == 1:  # zip codes, telephone numbers
            return self.digits(5, 5) if self.random.random() < 0.5 else self.digits(7, 10)
        if form == 2:
            return f"{self.below(10, 100)} {self.below(10, 100)}"
        if form == 3:
            return f"{self.digit()} {self.below(10, 100)}"
        if form == 4:
            return in_words(self.random.randrange(100, 10000), self.random.choice(("", "and")))
        if form == 5:
            return self.below(0, 100)
        if form == 6:
            return f"{self.digit()} {self.random.choice(('oh', 'zero'))} {self.digit()}"
        if self.random.random() < 0.3:
            return in_words(self.random.randrange(1000, 200000))
        return f"{self.digits(1, 3)} {self.below(10, 100)}"

    def year(self) -> str:
        century = self.random.choice(("nineteen", "nineteen", "nineteen", "eighteen", "twenty"))
        rest = self.random.randrange(100)
        if rest < 10:
            return f"{century} {'hundred' if rest == 0 else 'oh ' + DIGITS[rest]}"
        return f"{century} {below_hundred(rest)}"

    def date(self) -> str:
        month, day = self.random.choice(MONTHS), self.random.choice(ORDINALS)
        return self.random.choice(
            (
                f"{month} {day} {self.year()}",
                f"{month} {day}",
                f"the {day} of {month} {self.year()}",
                f"{self.below(1, 13)} {self.below(1, 32)} {self.below(30, 100)}",
                f"{month} {self.below(1, 32)} {self.year()}",
                f"{self.random.choice(WEEKDAYS)} {month} {day}",
            )
        )

    def command(self) -> str:
        """an4's manner: a command word, letters, a number."""
        form = self.random.randrange(8)
        figure = self.random.choice(
            (
                self.digits(1, 4),
                self.below(0, 100),
                in_words(self.random.randrange(100, 3000)),
                f"{self.below(10, 100)} {self.below(10, 100)}",
            )
        )
        if form < 2:
            verb = self.random.choice(("rubout", "erase", "rubout", "enter", "repeat"))
            return f"{verb} {self.letters(3, 6)} {figure}"
        if form < 4:
            return f"enter {figure}"
        if form == 4:
            return self.random.choice(COMMANDS)
        if form == 5:
            return f"{self.letters(3, 6)} {figure}"
        if form == 6:
            return self.letters(4, 6)
        return " ".join(self.random.choices(COMMANDS, k=self.random.randint(1, 3)))

    def address(self) -> str:
        """House number and street, apartment, telephone number, a first name spelled with an initial."""
        street = self.random.choice(names.STREETS)
        number = self.random.choice((self.digits(2, 4), self.below(10, 100)))
        return self.random.choice(
            (
                f"{number} {street} {self.random.choice(('street', 'avenue', 'road', 'drive', 'lane'))}",
                f"{number} {' '.join(street)} {self.random.choice(('street', 'avenue', 'ave'))}",
                f"apartment {self.digits(1, 3)} {street} street",
                f"area code {self.digits(3, 3)} {self.digits(7, 7)}",
                f"{' '.join(self.random.choice(names.NAMES))} {' '.join(self.random.choice(LETTERS))}",
            )
        )
