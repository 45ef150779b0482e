"""Texts of the synthetic training corpus: a template grammar, spoken numbers, dates and spelling, and word chains.

`Texts(seed, transcripts).draw()` gives one `Text`: what is written in the manifest (a-z, space, apostrophe) and what espeak-ng is
asked to say. The two differ where espeak-ng would misread, as in the letter `a`, which it takes for the article.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import vocabulary as v

DIGITS = v.words("zero one two three four five six seven eight nine")
TEENS = v.words("ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen")
TENS = v.words("twenty thirty forty fifty sixty seventy eighty ninety")
MONTHS = v.words("january february march april may june july august september october november december")
ORDINALS = v.words(
    """first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth
    seventeenth eighteenth nineteenth twentieth"""
) + tuple(f"twenty {o}" for o in v.words("first second third fourth fifth sixth seventh eighth ninth")) + ("thirtieth", "thirty first")
COMMANDS = v.words("yes no go stop start help erase rubout repeat enter")
SPOKEN = {"a": "[['eI]]", "z": "[[z'i:]]", "rubout": "rub out"}  # espeak-ng mnemonics, the same in every English voice
SUBJECT_WORDS = {"i": 0, "you": 0, "we": 0, "they": 0, "he": 1, "she": 1, "it": 1}  # column of the present tense in a verb's forms


@dataclass(frozen=True)
class Text:
    """One utterance: `text` for the manifest, `spoken` for espeak-ng, `kind` of template."""

    text: str
    spoken: str
    kind: str


def below_hundred(n: int) -> str:
    """0..99 in words, 7 -> `seven`, 42 -> `forty two`."""
    if n < 20:
        return (DIGITS + TEENS)[n]
    return TENS[n // 10 - 2] + (f" {DIGITS[n % 10]}" if n % 10 else "")


def in_words(n: int, joiner: str = "") -> str:
    """0..999,999 in words; `joiner` (`and`) stands before the last two digits if given."""
    parts = []
    if n >= 1000:
        parts.append(in_words(n // 1000) + " thousand")
    if n % 1000 >= 100:
        parts.append(DIGITS[n % 1000 // 100] + " hundred")
    if n % 100 or not parts:
        parts += ([joiner] if parts and joiner else []) + [below_hundred(n % 100)]
    return " ".join(parts)


def say_spelling(letters: Sequence[str]) -> str:
    """What espeak-ng needs to say each of `letters` (single letters or whole words) by its name."""
    return " ".join(SPOKEN.get(letter, letter) for letter in letters)


class Texts:
    """An endless, seeded source of texts.

    `transcripts`: training transcripts whose word pairs are recombined (`chain`); without any, that kind is never drawn.
    """

    def __init__(self, seed: int, transcripts: Sequence[str] = ()) -> None:
        self.random = random.Random(seed)
        self.followers: dict[str, list[str]] = defaultdict(list)
        for transcript in transcripts:
            row = transcript.split()
            if row and sum(len(word) == 1 and word not in "ai" for word in row) < 2:  # spelled words would chain into noise
                for first, second in zip(["", *row], [*row, ""], strict=True):
                    self.followers[first].append(second)
        self.vocabulary = sorted(
            {form for verb in v.VERBS + v.VERBS_ALONE for form in verb}
            | {w for group in (v.FOODS, v.ANIMALS, v.PEOPLE, v.THINGS, v.PLACES, v.ADJECTIVES, v.ADVERBS, v.EXTRA, v.ABSTRACT) for w in group}
            | {w for w in self.followers if w}
        )
        kinds: list[tuple[Callable[[], str], float]] = [
            (self.sentence, 30),
            (self.long_sentence, 9),
            (self.chain, 24 if self.followers else 0),
            (self.word_salad, 5),
            (self.spelled, 9),
            (self.command, 9),
            (self.number, 9),
            (self.date, 3),
            (self.address, 2),
        ]
        self.kinds = [kind for kind, _ in kinds]
        self.weights = [weight for _, weight in kinds]

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

    # simple English

    def pick(self, words: Sequence[str]) -> str:
        return self.random.choice(words)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def plural(self, noun: str) -> str:
        irregular = {"man": "men", "woman": "women", "child": "children", "foot": "feet", "tooth": "teeth", "mouse": "mice", "goose": "geese",
                     "sheep": "sheep", "fish": "fish", "deer": "deer", "people": "people", "leaf": "leaves", "knife": "knives",
                     "wolf": "wolves", "thief": "thieves", "wife": "wives", "policeman": "policemen", "scarf": "scarves"}  # fmt: skip
        if noun in irregular:
            return irregular[noun]
        if noun.endswith(("s", "sh", "ch", "x", "z", "potato", "tomato")):
            return noun + "es"
        if noun.endswith("y") and noun[-2] not in "aeiou":
            return noun[:-1] + "ies"
        return noun + "s"

    def article(self, phrase: str) -> str:
        return ("an " if phrase[0] in "aeio" or phrase.startswith(("umbrella", "uncle", "ugly", "honest", "hour")) else "a ") + phrase

    def noun_phrase(self) -> str:
        noun = self.pick(self.pick((v.THINGS, v.THINGS, v.FOODS, v.ANIMALS, v.PEOPLE, v.PLACES)))
        adjective = f"{self.pick(v.ADJECTIVES)} " if self.chance(0.3) else ""
        form = self.random.randrange(6)
        if form == 0:
            return self.article(adjective + noun)
        if form == 1:
            return f"{self.pick(('some', 'many', 'these', 'those', 'all the', 'two', 'three', 'a lot of', 'the'))} {adjective}{self.plural(noun)}"
        if form == 2:
            return f"{self.pick(('my', 'your', 'his', 'her', 'our', 'their', 'its'))} {adjective}{noun}"
        if form == 3:
            return f"{self.pick(v.NAMES)}'s {adjective}{noun}"
        return f"{self.pick(('the', 'the', 'this', 'that', 'every'))} {adjective}{noun}"

    def subject(self) -> tuple[str, int]:
        """A subject and the column of its present tense in a verb's forms (0 `go`, 1 `goes`)."""
        form = self.random.randrange(5)
        if form < 2:
            word = self.pick(tuple(SUBJECT_WORDS))
            return word, SUBJECT_WORDS[word]
        if form == 2:
            return self.pick(v.NAMES), 1
        if form == 3:
            return f"the {self.plural(self.pick(v.PEOPLE + v.ANIMALS))}", 0
        return f"{self.pick(('the', 'my', 'our', 'that', 'her', 'his'))} {self.pick(v.PEOPLE + v.ANIMALS + v.THINGS)}", 1

    def be(self, subject: str, column: int, past: bool) -> str:
        if past:
            return "were" if subject in ("you", "we", "they") or (column == 0 and subject != "i") else "was"
        return "am" if subject == "i" else ("are", "is")[column]

    def place(self) -> str:
        if self.chance(0.2):
            return f"in {self.pick(v.COUNTRIES + v.CITIES)}"
        return f"{self.pick(v.PREPOSITIONS)} {self.pick(('the', 'the', 'my', 'a', 'our'))} {self.pick(v.PLACES + v.THINGS)}"

    def tail(self) -> str:
        form = self.random.randrange(6)
        return ("", f" {self.pick(v.TIMES)}", f" {self.place()}", f" {self.pick(v.ADVERBS)}", "", f" with {self.noun_phrase()}")[form]

    def clause(self) -> str:
        subject, column = self.subject()
        transitive = self.chance(0.6)
        verb = self.pick(v.VERBS if transitive else v.VERBS_ALONE)  # type: ignore[arg-type]
        thing = (f" {self.noun_phrase()}" if self.chance(0.85) else self.pick((" him", " her", " it", " them", " me", " us"))) if transitive else ""
        past = self.chance(0.5)
        form = self.random.randrange(10)
        if form < 3:
            core = f"{subject} {verb[2] if past else verb[column]}{thing}"
        elif form == 3:
            core = f"{subject} {self.pick(('can', 'will', 'must', 'should', 'may', 'might', 'could', 'would', 'shall'))} {verb[0]}{thing}"
        elif form == 4:
            auxiliary = self.pick(("did not", "didn't")) if past else (("do not", "don't"), ("does not", "doesn't"))[column][self.random.randrange(2)]
            core = f"{subject} {auxiliary} {verb[0]}{thing}"
        elif form == 5:
            core = f"{subject} {self.be(subject, column, past)} {self.pick(('', 'not ', 'still ', 'always '))}{verb[4]}{thing}"
        elif form == 6:
            core = f"{subject} {'had' if past else ('have', 'has')[column]} {self.pick(('', 'never ', 'already ', 'just '))}{verb[3]}{thing}"
        elif form == 7:
            core = f"{subject} {('want', 'wants')[column]} to {verb[0]}{thing}"
        elif form == 8:
            core = f"{subject} {self.be(subject, column, past)} {self.pick(('very ', 'so ', 'too ', 'quite ', 'not ', ''))}{self.pick(v.ADJECTIVES)}"
        else:
            core = self.pick(("let's", "please", "never", "don't")) + f" {verb[0]}{thing}"
        return core + self.tail()

    def sentence(self) -> str:
        form = self.random.randrange(14)
        verb = self.pick(v.VERBS)  # type: ignore[arg-type]
        if form < 6:
            return self.clause()
        if form == 6:
            who = self.pick(("you", "we", "they", "he", "she", "i"))
            do = "did" if self.chance(0.4) else ("does" if who in ("he", "she") else "do")
            word = self.pick(("", "", *v.QUESTION_WORDS))
            return f"{word} {do} {who} {verb[0]} {self.noun_phrase()}{self.tail()}".strip()
        if form == 7:
            return self.pick((
                f"what is {self.pick(('your', 'his', 'her', 'their'))} {self.pick(v.THINGS)}",
                f"where is {self.noun_phrase()}",
                f"how {self.pick(('much', 'many', 'old', 'big', 'long', 'far'))} is {self.noun_phrase()}",
                f"who is {self.pick(('that', 'the', 'your'))} {self.pick(v.PEOPLE)}",
                f"can i {verb[0]} {self.noun_phrase()}",
                f"would you like {self.article(self.pick(v.FOODS))}",
            ))  # fmt: skip
        if form == 8:
            return self.pick((
                f"it's {self.pick(v.WEATHER)} {self.pick(v.TIMES)}",
                f"the weather is {self.pick(v.WEATHER)} in {self.pick(v.CITIES)}",
                f"my {self.pick(v.BODY)} hurts",
                f"i like {self.pick(v.SUBJECTS)} and {self.pick(v.SUBJECTS)}",
                f"{self.pick(v.NAMES)} plays {self.pick(v.SPORTS)} {self.pick(v.TIMES)}",
                f"{self.pick(v.NAMES)} wants to be {self.pick(v.JOBS)}",
                f"we are going to {self.pick(v.COUNTRIES)} {self.pick(v.TIMES)}",
                f"it is {self.pick((*TEENS[:3], *DIGITS[1:]))} o'clock",
                f"there {self.pick(('is', 'was'))} {self.article(self.pick(v.THINGS + v.ANIMALS))} {self.place()}",
                f"i have {self.pick(DIGITS[2:] + TEENS)} {self.plural(self.pick(v.THINGS + v.ANIMALS))}",
            ))  # fmt: skip
        if form == 9:
            return f"{self.pick(v.FILLERS)} {self.clause()}"
        if form == 10:
            return f"{self.pick(v.NAMES)} {self.pick(v.SURNAMES)} {verb[2]} {self.noun_phrase()}"
        if form == 11:
            return f"{self.noun_phrase()} {self.place()}"
        if form == 12:
            return f"{self.pick(v.ADJECTIVES)} {self.pick(v.THINGS)} and {self.pick(v.ADJECTIVES)} {self.pick(v.ANIMALS)}"
        return f"{self.pick(('i think', 'i know', 'she said', 'he told me', 'we hope', 'i wonder if', 'they say'))} {self.clause()}"

    def long_sentence(self) -> str:
        """Two clauses, or a literary sentence of prepositional phrases, in the manner of an audio book."""
        if self.chance(0.5):
            return f"{self.clause()} {self.pick(v.CONJUNCTIONS)} {self.clause()}"
        return (
            f"the {self.pick(v.ADJECTIVES)} {self.pick(v.ABSTRACT)} of the {self.pick(v.PEOPLE + v.PLACES)} "
            f"{self.pick(('was', 'is', 'may be', 'had been', 'must be'))} {self.pick(v.VERBS)[3]} by {self.noun_phrase()} "
            f"{self.pick(('in the', 'for the', 'and the', 'of the', 'with the'))} {self.pick(v.ABSTRACT + v.EXTRA)}"
        )

    def chain(self) -> str:
        """A walk over the word pairs of the training transcripts, 2 to 14 words."""
        row: list[str] = []
        word = ""
        while len(row) < 14:
            word = self.pick(self.followers[word])
            if not word:
                break
            row.append(word)
        return " ".join(row) if len(row) > 1 else ""

    def word_salad(self) -> str:
        """1 to 6 unrelated words: no context to lean on, so that letters are learned from sound."""
        return " ".join(self.random.choices(self.vocabulary, k=self.random.randint(1, 6)))

    # letters, numbers, dates, commands

    def letters(self, low: int, high: int) -> str:
        return " ".join(self.random.choices("abcdefghijklmnopqrstuvwxyz", k=self.random.randint(low, high)))

    def spelled(self) -> str:
        """A name, street, city or word letter by letter, or random letters."""
        form = self.random.randrange(6)
        if form == 5:
            return self.letters(2, 8)
        word = self.pick((v.NAMES, v.SURNAMES, v.CITIES, v.STREETS, self.vocabulary)[form])
        return " ".join(word.replace("'", ""))

    def digits(self, low: int, high: int) -> str:
        zero = self.pick(("zero", "oh"))
        return " ".join(zero if d == "zero" else d for d in self.random.choices(DIGITS, k=self.random.randint(low, high)))

    def number(self) -> str:
        form = self.random.randrange(8)
        n = self.random.randrange
        if form == 0:
            return self.digits(1, 5)
        if form == 1:
            return self.digits(5, 5) if self.chance(0.5) else self.digits(7, 10)  # zip codes, telephone numbers
        if form == 2:
            return f"{below_hundred(n(10, 100))} {below_hundred(n(10, 100))}"
        if form == 3:
            return f"{DIGITS[n(1, 10)]} {below_hundred(n(10, 100))}"
        if form == 4:
            return in_words(n(100, 10000), self.pick(("", "and")))
        if form == 5:
            return below_hundred(n(100))
        if form == 6:
            return f"{DIGITS[n(1, 10)]} {self.pick(('oh', 'zero'))} {DIGITS[n(1, 10)]}"
        return in_words(n(1000, 200000)) if self.chance(0.3) else f"{self.digits(1, 3)} {below_hundred(n(10, 100))}"

    def year(self) -> str:
        century = self.pick(("nineteen", "nineteen", "nineteen", "eighteen", "twenty"))
        rest = self.random.randrange(100)
        if rest < 10:
            return f"{century} {'hundred' if rest == 0 else 'oh ' + DIGITS[rest]}"
        return f"{century} {below_hundred(rest)}"

    def date(self) -> str:
        month, day = self.pick(MONTHS), self.pick(ORDINALS)
        n = self.random.randrange
        return self.pick((
            f"{month} {day} {self.year()}",
            f"{month} {day}",
            f"the {day} of {month} {self.year()}",
            f"{below_hundred(n(1, 13))} {below_hundred(n(1, 32))} {below_hundred(n(30, 100))}",
            f"{month} {below_hundred(n(1, 32))} {self.year()}",
            f"{self.pick(v.words('monday tuesday wednesday thursday friday saturday sunday'))} {month} {day}",
        ))  # fmt: skip

    def command(self) -> str:
        """an4's manner: a command word, letters, a number."""
        form = self.random.randrange(8)
        n = self.random.randrange
        figure = self.pick((self.digits(1, 4), below_hundred(n(100)), in_words(n(100, 3000)), f"{below_hundred(n(10, 100))} {below_hundred(n(10, 100))}"))
        if form < 2:
            return f"{self.pick(('rubout', 'erase', 'rubout', 'enter', 'repeat'))} {self.letters(3, 6)} {figure}"
        if form < 4:
            return f"enter {figure}"
        if form == 4:
            return self.pick(COMMANDS)
        if form == 5:
            return f"{self.letters(3, 6)} {figure}"
        if form == 6:
            return self.letters(4, 6)
        return " ".join(self.random.choices(COMMANDS, k=self.random.randint(1, 3)))

    def address(self) -> str:
        """House number, street, apartment, or a spoken spelling inside a sentence."""
        street = self.pick(v.STREETS)
        number = self.pick((self.digits(2, 4), below_hundred(self.random.randrange(10, 100))))
        return self.pick((
            f"{number} {street} {self.pick(('street', 'avenue', 'road', 'drive', 'lane'))}",
            f"{number} {' '.join(street)} {self.pick(('street', 'avenue', 'ave'))}",
            f"apartment {self.digits(1, 3)} {street} street",
            f"area code {self.digits(3, 3)} {self.digits(7, 7)}",
            f"{' '.join(self.pick(v.NAMES))} {' '.join(self.pick('abcdefghijklmnopqrstuvwxyz'))}",
        ))  # fmt: skip
