"""A template grammar of simple English over `vocabulary.py`: clauses, questions, two-clause sentences.

Subjects and verbs agree; sense is not attempted, so that a recogniser learns sounds and not phrases.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import proper_names as names
import vocabulary as v
from spoken_numbers import DIGITS, TEENS

PAST_NEGATIVES = ("did not", "didn't")
MODALS = v.words("can will must should may might could would shall")
# A pronoun and the column of its present tense in a verb's forms: 0 `go`, 1 `goes`.
PRONOUNS = {"i": 0, "you": 0, "we": 0, "they": 0, "he": 1, "she": 1, "it": 1}
IRREGULAR_PLURALS = dict(
    pair.split(":")
    for pair in v.words(
        """
        man:men woman:women child:children foot:feet tooth:teeth mouse:mice goose:geese sheep:sheep
        fish:fish deer:deer people:people leaf:leaves knife:knives wolf:wolves thief:thieves wife:wives
        policeman:policemen scarf:scarves
        """
    )
)


def plural(noun: str) -> str:
    """The plural of one of the vocabulary's nouns."""
    if noun in IRREGULAR_PLURALS:
        return IRREGULAR_PLURALS[noun]
    if noun.endswith(("s", "sh", "ch", "x", "z", "potato", "tomato")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def with_article(phrase: str) -> str:
    """`phrase` after `a` or `an`."""
    vowel = phrase[0] in "aeio" or phrase.startswith(("umbrella", "uncle", "ugly", "honest", "hour"))
    return f"{'an' if vowel else 'a'} {phrase}"


def be(subject: str, column: int, past: bool) -> str:
    """The form of `to be` that goes with `subject`, whose other verbs stand in `column`."""
    if past:
        return "were" if column == 0 and subject != "i" else "was"
    return "am" if subject == "i" else ("are", "is")[column]


class Grammar:
    """Draws sentences with the numbers of `generator` alone."""

    def __init__(self, generator: random.Random) -> None:
        self.random = generator

    def pick(self, words: Sequence[str]) -> str:
        return self.random.choice(words)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def noun_phrase(self) -> str:
        noun = self.pick(self.random.choice((v.THINGS, v.THINGS, v.FOODS, v.ANIMALS, v.PEOPLE, v.PLACES)))
        adjective = f"{self.pick(v.ADJECTIVES)} " if self.chance(0.3) else ""
        form = self.random.randrange(6)
        if form == 0:
            return with_article(adjective + noun)
        if form == 1:
            count = self.pick(
                ("some", "many", "these", "those", "all the", "two", "three", "a lot of", "the")
            )
            return f"{count} {adjective}{plural(noun)}"
        if form == 2:
            return f"{self.pick(('my', 'your', 'his', 'her', 'our', 'their', 'its'))} {adjective}{noun}"
        if form == 3:
            return f"{self.pick(names.NAMES)}'s {adjective}{noun}"
        return f"{self.pick(('the', 'the', 'this', 'that', 'every'))} {adjective}{noun}"

    def subject(self) -> tuple[str, int]:
        """A subject and the column of its present tense in a verb's forms (0 `go`, 1 `goes`)."""
        form = self.random.randrange(5)
        if form < 2:
            word = self.pick(tuple(PRONOUNS))
            return word, PRONOUNS[word]
        if form == 2:
            return self.pick(names.NAMES), 1
        if form == 3:
            return f"the {plural(self.pick(v.PEOPLE + v.ANIMALS))}", 0
        whose = self.pick(("the", "my", "our", "that", "her", "his"))
        return f"{whose} {self.pick(v.PEOPLE + v.ANIMALS + v.THINGS)}", 1

    def place(self) -> str:
        if self.chance(0.2):
            return f"in {self.pick(names.COUNTRIES + names.CITIES)}"
        where, which = self.pick(v.PREPOSITIONS), self.pick(("the", "the", "my", "a", "our"))
        return f"{where} {which} {self.pick(v.PLACES + v.THINGS)}"

    def somewhere(self) -> str:
        return f"{with_article(self.pick(v.THINGS + v.ANIMALS))} {self.place()}"

    def tail(self) -> str:
        form = self.random.randrange(6)
        time, place = f" {self.pick(v.TIMES)}", f" {self.place()}"
        adverb, company = f" {self.pick(v.ADVERBS)}", f" with {self.noun_phrase()}"
        return ("", time, place, adverb, "", company)[form]

    def thing(self) -> str:
        """The object of a transitive verb, after a space."""
        if self.chance(0.85):
            return f" {self.noun_phrase()}"
        return self.pick((" him", " her", " it", " them", " me", " us"))

    def clause(self) -> str:
        subject, column = self.subject()
        transitive = self.chance(0.6)
        verb = self.random.choice(v.VERBS if transitive else v.VERBS_ALONE)
        thing = self.thing() if transitive else ""
        past = self.chance(0.5)
        form = self.random.randrange(10)
        if form < 3:
            core = f"{subject} {verb[2] if past else verb[column]}{thing}"
        elif form == 3:
            core = f"{subject} {self.pick(MODALS)} {verb[0]}{thing}"
        elif form == 4:
            present = (("do not", "don't"), ("does not", "doesn't"))[column]
            core = f"{subject} {self.pick(PAST_NEGATIVES if past else present)} {verb[0]}{thing}"
        elif form == 5:
            manner = self.pick(("", "not ", "still ", "always "))
            core = f"{subject} {be(subject, column, past)} {manner}{verb[4]}{thing}"
        elif form == 6:
            have = "had" if past else ("have", "has")[column]
            core = f"{subject} {have} {self.pick(('', 'never ', 'already ', 'just '))}{verb[3]}{thing}"
        elif form == 7:
            core = f"{subject} {('want', 'wants')[column]} to {verb[0]}{thing}"
        elif form == 8:
            degree = self.pick(("very ", "so ", "too ", "quite ", "not ", ""))
            core = f"{subject} {be(subject, column, past)} {degree}{self.pick(v.ADJECTIVES)}"
        else:
            core = self.pick(("let's", "please", "never", "don't")) + f" {verb[0]}{thing}"
        return core + self.tail()

    def sentence(self) -> str:
        form = self.random.randrange(14)
        verb = self.random.choice(v.VERBS)
        if form < 6:
            return self.clause()
        if form == 6:
            return self.question(verb[0])
        if form == 7:
            return self.short_question(verb[0])
        if form == 8:
            return self.everyday()
        if form == 9:
            return f"{self.pick(v.FILLERS)} {self.clause()}"
        if form == 10:
            return f"{self.pick(names.NAMES)} {self.pick(names.SURNAMES)} {verb[2]} {self.noun_phrase()}"
        if form == 11:
            return f"{self.noun_phrase()} {self.place()}"
        if form == 12:
            first = f"{self.pick(v.ADJECTIVES)} {self.pick(v.THINGS)}"
            return f"{first} and {self.pick(v.ADJECTIVES)} {self.pick(v.ANIMALS)}"
        opening = ("i think", "i know", "she said", "he told me", "we hope", "i wonder if", "they say")
        return f"{self.pick(opening)} {self.clause()}"

    def question(self, verb: str) -> str:
        who = self.pick(("you", "we", "they", "he", "she", "i"))
        do = "did" if self.chance(0.4) else ("does" if who in ("he", "she") else "do")
        word = self.pick(("", "", *v.QUESTION_WORDS))
        return f"{word} {do} {who} {verb} {self.noun_phrase()}{self.tail()}".strip()

    def short_question(self, verb: str) -> str:
        return self.pick(
            (
                f"what is {self.pick(('your', 'his', 'her', 'their'))} {self.pick(v.THINGS)}",
                f"where is {self.noun_phrase()}",
                f"how {self.pick(('much', 'many', 'old', 'big', 'long', 'far'))} is {self.noun_phrase()}",
                f"who is {self.pick(('that', 'the', 'your'))} {self.pick(v.PEOPLE)}",
                f"can i {verb} {self.noun_phrase()}",
                f"would you like {with_article(self.pick(v.FOODS))}",
            )
        )

    def everyday(self) -> str:
        """Weather, body, school, sport, jobs, travel, time: what a beginner says."""
        return self.pick(
            (
                f"it's {self.pick(v.WEATHER)} {self.pick(v.TIMES)}",
                f"the weather is {self.pick(v.WEATHER)} in {self.pick(names.CITIES)}",
                f"my {self.pick(v.BODY)} hurts",
                f"i like {self.pick(v.SUBJECTS)} and {self.pick(v.SUBJECTS)}",
                f"{self.pick(names.NAMES)} plays {self.pick(v.SPORTS)} {self.pick(v.TIMES)}",
                f"{self.pick(names.NAMES)} wants to be {self.pick(v.JOBS)}",
                f"we are going to {self.pick(names.COUNTRIES)} {self.pick(v.TIMES)}",
                f"it is {self.pick((*TEENS[:3], *DIGITS[1:]))} o'clock",
                f"there {self.pick(('is', 'was'))} {self.somewhere()}",
                f"i have {self.pick(DIGITS[2:] + TEENS)} {plural(self.pick(v.THINGS + v.ANIMALS))}",
            )
        )

    def long_sentence(self) -> str:
        """Two clauses, or a literary sentence of prepositional phrases, in the manner of an audio book."""
        if self.chance(0.5):
            return f"{self.clause()} {self.pick(v.CONJUNCTIONS)} {self.clause()}"
        subject = (
            f"the {self.pick(v.ADJECTIVES)} {self.pick(v.ABSTRACT)} of the {self.pick(v.PEOPLE + v.PLACES)}"
        )
        be = self.pick(("was", "is", "may be", "had been", "must be"))
        deed = f"{self.random.choice(v.VERBS)[3]} by {self.noun_phrase()}"
        link = self.pick(("in the", "for the", "and the", "of the", "with the"))
        return f"{subject} {be} {deed} {link} {self.pick(v.ABSTRACT + v.EXTRA)}"
