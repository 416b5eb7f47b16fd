"""Write three invented corpora, tickets.csv, reviews.csv, intents.csv; docs/how-to/own-corpora.md shows them used.

    python scripts/make_tickets.py            (into the current folder; the same rows on every machine)

tickets.csv has an id that gives the team away, a team's words mixed with those of the others, and one ticket in twelve
sent to the wrong team; reviews.csv is half English and half German; intents.csv has twelve classes, one of four rows.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

TEAMS = {
    "account": "login password locked profile email verification username session device sign-in",
    "billing": "invoice charge refund card payment receipt price subscription discount renewal",
    "delivery": "parcel courier address late tracking package shipment doorstep customs depot",
    "technical": "crash error freeze update screen install version offline button blank",
}
WORDS = "please help me since yesterday the my order app still not again after with team thanks urgent today can when"
ENDING = {"account": "A", "billing": "B", "delivery": "D", "technical": "T"}

REVIEWS = {
    "en": (
        "I bought this {thing} for my {who} last month and it is {word}; the {part} feels {word} after a few weeks",
        "kettle lamp backpack keyboard headphones jacket",
        "sister office kitchen brother garden",
        "handle surface cable zip cover",
        {
            "good": "great solid lovely reliable excellent",
            "bad": "poor weak cheap broken useless",
            "mixed": "acceptable average ordinary usable plain",
        },
    ),
    "de": (
        "Ich habe diese Sache ({thing}) im letzten Monat für {who} gekauft und sie ist {word}; "
        "nach einigen Wochen wirkt {part} {word}",
        "Wasserkocher Lampe Rucksack Tastatur Kopfhörer Jacke",
        "Schwester Büro Küche Bruder Garten",
        "Griff Oberfläche Kabel Verschluss Deckel",
        {
            "good": "großartig stabil schön zuverlässig hervorragend",
            "bad": "schlecht schwach billig kaputt nutzlos",
            "mixed": "annehmbar durchschnittlich gewöhnlich brauchbar schlicht",
        },
    ),
}
"""By language: a sentence, things, people and places, parts, and the words of each verdict."""

INTENTS = {
    "balance": "balance account available money", "transfer": "transfer send iban recipient",
    "card_lost": "lost stolen card block", "card_new": "new card order design", "pin": "pin forgot code reset",
    "limit": "limit raise daily maximum", "loan": "loan interest borrow rate", "fees": "fee charged cost monthly",
    "address": "moved address street change", "hours": "open branch hours saturday",
    "complaint": "complain unhappy service waited", "closing": "close cancel end leave",
}  # fmt: skip


def ticket(draw: random.Random) -> tuple[str, str, str]:
    """Return subject, message and team of one ticket."""
    team = draw.choice(list(TEAMS))
    about = [draw.choice(TEAMS[team if draw.random() < 0.7 else draw.choice(list(TEAMS))].split()) for _ in range(3)]
    message = [*about[1:], *draw.sample(WORDS.split(), draw.randint(5, 12))]
    draw.shuffle(message)
    subject = [about[0], *draw.sample(WORDS.split(), 2)]
    if draw.random() < 1 / 12:
        team = draw.choice(list(TEAMS))
    return " ".join(subject), " ".join(message), team


def review(draw: random.Random) -> tuple[str, str]:
    """Return text and verdict of one review; one in ten speaks with another verdict's words."""
    sentence, things, people, parts, words = REVIEWS[draw.choice(list(REVIEWS))]
    verdict = draw.choice(list(words))
    spoken = verdict if draw.random() < 0.9 else draw.choice(list(words))
    chosen = {"thing": things, "who": people, "part": parts, "word": words[spoken]}
    return sentence.format(**{key: draw.choice(text.split()) for key, text in chosen.items()}), verdict


def intent(draw: random.Random, name: str) -> tuple[str, str]:
    """Return a question to a bank and its intent; a fifth of its own words is another intent's."""
    own = [INTENTS[name if draw.random() < 0.8 else draw.choice(list(INTENTS))] for _ in range(3)]
    words = [*(draw.choice(text.split()) for text in own), *draw.sample(WORDS.split(), 6)]
    draw.shuffle(words)
    return " ".join(words), name


def write(name: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a CSV file into the current folder."""
    with Path(name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def main() -> None:
    """Write all files."""
    draw = random.Random(7)  # noqa: S311 - no secret
    tickets = [ticket(draw) for _ in range(1603)]
    numbered = [(f"{ENDING[row[2]]}-{10_000 + number}", *row) for number, row in enumerate(tickets[:1600])]
    write("tickets.csv", ["ticket_id", "subject", "message", "team"], numbered)
    write("new.csv", ["subject", "message"], [row[:2] for row in tickets[1600:]])
    reviews = [review(draw) for _ in range(1202)]
    write("reviews.csv", ["review", "verdict"], reviews[:1200])
    write("new_reviews.csv", ["review"], [row[:1] for row in reviews[1200:]])
    names = [name for name in INTENTS for _ in range(4 if name == "closing" else 100)]
    intents = [intent(draw, name) for name in [*names, "pin", "fees"]]
    write("new_intents.csv", ["question"], [row[:1] for row in intents[-2:]])
    intents = intents[:-2]
    draw.shuffle(intents)
    write("intents.csv", ["question", "intent"], intents)
    print("tickets.csv: 1,600 tickets; reviews.csv: 1,200 reviews in two languages; intents.csv: 1,104 questions")
    print("new*.csv: rows without a class\nnext   agnews inspect tickets.csv")


if __name__ == "__main__":
    main()
