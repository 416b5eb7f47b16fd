"""Write tickets.csv, the invented support tickets of README: an id that gives the team away, subject, message, team.

    python scripts/make_tickets.py            (tickets.csv with 1,600 rows, new.csv with three that have no team)

A team's own words are mixed with those of the others, and one ticket in twelve was sent to the wrong team.
"""

from __future__ import annotations

import csv
import random
from pathlib import Path

TEAMS = {
    "account": "login password locked profile email verification username session device sign-in",
    "billing": "invoice charge refund card payment receipt price subscription discount renewal",
    "delivery": "parcel courier address late tracking package shipment doorstep customs depot",
    "technical": "crash error freeze update screen install version offline button blank",
}
WORDS = "please help me since yesterday the my order app still not again after with team thanks urgent today can when"
ENDING = {"account": "A", "billing": "B", "delivery": "D", "technical": "T"}


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


def main() -> None:
    """Write both files into the current folder."""
    draw = random.Random(7)  # noqa: S311 - no secret
    with Path("tickets.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["ticket_id", "subject", "message", "team"])
        for number in range(1600):
            subject, message, team = ticket(draw)
            writer.writerow([f"{ENDING[team]}-{10_000 + number}", subject, message, team])
    with Path("new.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["subject", "message"])
        writer.writerows(ticket(draw)[:2] for _ in range(3))
    print("tickets.csv: 1,600 tickets; new.csv: three without a team\nnext   agnews inspect tickets.csv")


if __name__ == "__main__":
    main()
