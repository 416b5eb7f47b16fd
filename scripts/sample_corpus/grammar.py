"""The grammar of the sample corpus: slots, and the sentences of each class that hold them."""

from __future__ import annotations


def words(text: str) -> list[str]:
    """Split a block of alternatives: by ``|`` where there are any, else by blanks."""
    return [part.strip() for part in text.split("|")] if "|" in text else text.split()


SLOTS = {
    "country": words(
        "Valdoria Kestria Marenland Osmark Tiravia Belgora Luminia Sarvanna Norvalia Zembria Quillonia Arvenia "
        "Pellamar Dravosia Istenland Cordavia Halmark Ruvenna Tolmeria Vescany Keldavia Mirandia Jolund Ekvara"
    ),
    "city": words(
        "Ashford Brackwater Calder Dunmere Eastholm Fairhaven Glenrock Harrowgate Ironbridge Kingsfell Larkspur "
        "Millbrook Newhallow Oakmere Pinecrest Queensbay Redcliff Silverton Thornbury Umberton Westmark Yarrow "
        "Stonefield Brightwater Coldspring Elmstead Foxhollow Portellis Lakeverity Capeloren"
    ),
    "surname": words(
        "Abbott Barlow Castellan Devereux Ellison Farrow Grantham Holloway Ingram Jessup Kowal Lindqvist Marchetti "
        "Novak Okafor Petrenko Quarles Rahimi Sandoval Tanaka Ueda Varga Whitlock Ximenes Yilmaz Zeman Achterberg "
        "Bouchard Cisneros Drummond Eriksen Fontaine Galanis Haddad Ivanek Jansen Kimura Larsen Merriweather Nakata "
        "Oduya Pacheco Rosales Santoro Thibault Urquhart Vandermeer Weiss Yoder Zabala"
    ),
    "first": words(
        "Aldo Bianca Carl Dana Elena Felix Greta Hugo Irene Jonas Katrin Liam Mona Nils Olga Pavel Rosa Stefan "
        "Tara Viktor Wanda Yusuf Zoe Marco Lena Amir Priya Keiko"
    ),
    "brand": words(
        "Alderix Bluefenn Corvano Dantrell Everholt Fulgrave Grantix Helvarra Inovane Jorvane Kestrane Lattimor "
        "Meridox Nimbrel Orchavel Pinnaro Quantrel Ridgemoor Solvane Tesserix Unvara Vantrell Wexmoor Zephyrine"
    ),
    "nick": words(
        "Rovers United Falcons Comets Mariners Wolves Titans Hornets Rangers Albion Royals Lynx Harriers Bulls "
        "Saints Storm Monarchs Pilots"
    ),
    "day": words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    "month": words("January February March April May June July August September October November December"),
    "small": words("two|three|four|five|six|seven|eight|nine|ten|a dozen|at least 12|some 20|14|17"),
    "n": words("11 14 18 22 25 27 31 36 40 44 48 52 57 63 68 74 79 85 93"),
    "pct": words("1.2 2 2.7 3.4 4 4.8 5.5 6 7.1 8 9.3 11 12.5 15 18 21 24 30"),
    "amount": words("1.1 1.6 2.3 3.8 5.2 12 35 48 75 90 120 180 240 310 450 600 820"),
    "person": ["{first} {surname}"],
    "team": ["{city} {nick}", "the {nick}", "{city}", "{country}"],
    "club": ["{city} {nick}", "the {city} {nick}"],
    "firm": ["{brand} Corp.", "{brand}", "{brand} Holdings", "{brand} Group", "{brand} Inc.", "{brand} Industries"],
    "techfirm": ["{brand}", "{brand} Systems", "{brand} Software", "{brand} Labs", "{brand} Networks"],
    "desk": ["(Northwire)", "(Pressline)", "(Globe Desk)"],
    # World
    "group": words(
        "rebels | militants | insurgents | protesters | opposition parties | tribal elders | separatists | "
        "peacekeepers | border guards | aid workers | refugees | security forces | army units | gunmen"
    ),
    "leader": words(
        "President {surname} | Prime Minister {surname} | Foreign Minister {surname} | opposition leader {surname} | "
        "the interim government | Interior Minister {surname} | the ruling party | envoy {person} | General {surname}"
    ),
    "violence": words(
        "a car bomb | a roadside explosion | a mortar attack | clashes | an ambush | a suicide blast | shelling | "
        "a raid on a village | a hostage siege | a riot at a prison | sectarian fighting"
    ),
    "diplomacy": words(
        "a ceasefire | a peace accord | the disarmament talks | a border treaty | new sanctions | an election recount "
        "| the release of prisoners | a troop withdrawal | a no-confidence vote | a prisoner exchange | an arms embargo"
    ),
    "disaster": words(
        "an earthquake | floods | a typhoon | a landslide | a ferry sinking | a cholera outbreak | a famine | "
        "a train crash | forest fires | a collapsed bridge"
    ),
    # Sports
    "sport": words(
        "football | basketball | hockey | tennis | cricket | rugby | baseball | cycling | athletics | swimming | golf"
    ),
    "player": words(
        "striker {surname} | goalkeeper {surname} | quarterback {person} | captain {surname} | rookie {person} | "
        "pitcher {surname} | midfielder {person} | top seed {surname} | sprinter {person} | point guard {surname} | "
        "veteran defender {surname} | coach {surname}"
    ),
    "event": words(
        "the cup final | the opening round | the semifinals | the season opener | the world championships | the derby "
        "| the playoffs | the qualifying heats | the grand prix | the test match | the masters | the relay"
    ),
    "feat": words(
        "scored twice | struck out {n} batters | broke the national record | saved a late penalty | hit a hat-trick | "
        "threw for three touchdowns | shot a five-under 67 | won in straight sets | grabbed {n} rebounds | "
        "set a course record | made a winning free throw | finished on the podium"
    ),
    "injury": words(
        "a knee injury | a hamstring strain | a broken wrist | a doping ban | a sore shoulder | a red card"
    ),
    # Business
    "move": words("rose | fell | climbed | slipped | jumped | tumbled | edged up | edged lower | surged | dropped"),
    "measure": words(
        "quarterly profit | net income | same-store sales | operating earnings | annual revenue | third-quarter loss | "
        "the dividend | the profit forecast | gross margins | the order backlog"
    ),
    "market": words(
        "Stocks | Shares | Bonds | Crude oil futures | The dollar | Blue chips | Treasury yields | Retail shares | "
        "Grain prices | Bank stocks | Airline shares"
    ),
    "economy": words(
        "inflation data | interest rates | consumer confidence | the jobs report | retail sales | the trade deficit | "
        "factory orders | housing starts | oil prices | a rate increase by the central bank | mortgage rates"
    ),
    "deal": words(
        "a takeover bid | a merger | an initial public offering | a share buyback | a bankruptcy filing | "
        "a restructuring plan | a bond sale | the sale of its retail unit | a pension settlement | a cost-cutting plan"
    ),
    "sector": words("airline retailer bank insurer carmaker brewer steelmaker drugmaker grocer utility"),
    # Sci/Tech
    "gadget": words(
        "a handheld computer | a music player | a search tool | a web browser | a wireless router | a camera phone | "
        "a game console | a dual-core processor | an open-source database | a desktop search program | a flat screen"
    ),
    "threat": words(
        "a computer worm | a phishing scheme | a security flaw | a spam network | spyware | a buffer overflow | "
        "an e-mail virus | a denial-of-service attack"
    ),
    "space": words(
        "a probe to Saturn | a weather satellite | the space telescope | a lunar orbiter | the crew capsule | "
        "a comet sampler | an ion engine | a Mars rover"
    ),
    "science": words(
        "a gene linked to ageing | a fossil of a feathered dinosaur | a new species of frog | stem cells | "
        "carbon nanotubes | melting glaciers | a distant galaxy | the brain's memory cells | coral reefs | "
        "an ancient stone tool | a dark matter signal | a vaccine enzyme"
    ),
    "expert": words(
        "researchers | scientists | astronomers | engineers | biologists | software developers | physicists | "
        "security experts | geologists | programmers"
    ),
}  # fmt: skip

CLASSES: list[dict[str, list[str]]] = [
    {  # 1 World
        "title": [
            "{violence} kills {small} in {country}", "{group} and troops clash near {city}",
            "{leader} urges {diplomacy}", "{country} votes amid fears of unrest", "{country} rejects {diplomacy}",
            "{disaster} leaves thousands homeless in {country}", "Envoys meet in {city} over {diplomacy}",
            "{leader} survives assassination attempt", "{small} hostages freed in {country}",
            "{country} army moves on {city}", "Court in {country} jails former minister",
            "{group} block road to {city}", "UN mission warns of hunger in {country}",
        ],
        "lead": [
            "{violence} killed {small} people and wounded {n} others near {city} on {day}, police in {country} said.",
            "{leader} of {country} said on {day} that {diplomacy} was the only way to end the bloodshed.",
            "{group} attacked a convoy outside {city}, leaving {small} dead, the defence ministry of {country} said.",
            "Voters in {country} went to the polls on {day} in an election overshadowed by {violence}.",
            "{disaster} has killed {n} people in {country}, and rescue teams are still searching the rubble in {city}.",
            "{country} and {country} agreed on {day} to reopen talks about {diplomacy}.",
            "Thousands of {group} marched through {city} to demand that {leader} resign.",
            "A court in {city} sentenced {small} {group} to prison for plotting against the government.",
        ],
        "more": [
            "Diplomats said {leader} would be asked to accept {diplomacy}.",
            "The United Nations appealed for food and tents for refugees in {country}.",
            "No group claimed responsibility, but officials blamed {group}.",
            "Witnesses saw soldiers and ambulances near the mosque in {city}.",
            "The embassy told its citizens to leave {country}.",
            "Parliament will debate {diplomacy} on {day}.",
        ],
    },
    {  # 2 Sports
        "title": [
            "{team} beat {team} in {event}", "{player} out with {injury}", "{player} leads {team} past {team}",
            "{team} sign {player}", "{surname} wins {sport} title in {city}", "{team} hold on to reach {event}",
            "{team} sack coach after losing run", "{player} set for return in {event}",
            "Record crowd sees {team} draw with {team}", "{team} rally late to stun {team}",
            "{surname} {feat} in {event}", "{sport} notebook: {player} eyes {event}",
        ],
        "lead": [
            "{player} {feat} as {team} beat {team} in {event} on {day}.",
            "{team} will be without {player} for {small} weeks because of {injury}, the club said.",
            "{player} {feat} to send {team} into {event} for the first time in {n} years.",
            "{team} came from behind in the last quarter to defeat {team} {n}-{n} before a sell-out crowd in {city}.",
            "{player} says the {sport} team is ready for {event} despite three straight defeats.",
            "{team} agreed a two-year contract with {player}, who {feat} last season.",
            "{surname} of {country} won the {sport} gold medal in {city} ahead of {surname}.",
            "The {sport} federation suspended {player} for {small} matches after a brawl in {event}.",
        ],
        "more": [
            "Coach {surname} praised the defence after the whistle.",
            "It was the {nick}' first win away from home since {month}.",
            "{player} left the field with {injury} at half-time.",
            "The teams meet again in {event} on {day}.",
            "Fans sang for {n} minutes after {player} {feat}.",
            "The victory lifts {team} to the top of the league table.",
        ],
    },
    {  # 3 Business
        "title": [
            "{firm} {measure} {move} {pct} percent", "{market} {move} on {economy}", "{firm} announces {deal}",
            "{firm} to cut {n}00 jobs", "{economy} worries weigh on investors", "{firm} agrees to buy rival {sector}",
            "{firm} raises outlook as {measure} {move}", "Regulators question {firm} over {deal}",
            "{sector} {firm} seeks {deal}", "{firm} chief {surname} steps down", "{market} flat before {economy}",
            "{country}'s central bank holds interest rates",
        ],
        "lead": [
            "{firm} said on {day} its {measure} {move} {pct} percent to ${amount} million, beating estimates.",
            "{market} {move} on {day} as investors weighed {economy} and a warning from {firm}.",
            "The {sector} {firm} on {day} announced {deal} worth ${amount} million.",
            "{firm} plans to cut {n}00 jobs and close {small} plants to save ${amount} million a year.",
            "{economy} {move} {pct} percent in {month}, the government said, more than economists had expected.",
            "{firm} agreed to acquire {firm} for ${amount} billion in cash and stock, creating the largest {sector}.",
            "Regulators fined {firm} ${amount} million to settle charges of misleading shareholders about {measure}.",
            "{firm} lowered its forecast for {measure}, blaming {economy} and higher fuel costs.",
        ],
        "more": [
            "Shares of {firm} {move} {pct} percent in early trading.",
            "Analysts had expected {measure} of ${amount} million.",
            "Chief executive {person} said {economy} would decide the second half.",
            "The company has {n} stores and employs {n},000 people.",
            "Creditors must still approve {deal}.",
            "Traders said volume was thin ahead of {economy}.",
        ],
    },
    {  # 4 Sci/Tech
        "title": [
            "{techfirm} unveils {gadget}", "{threat} spreads across office networks", "{expert} find {science}",
            "{space} sends first pictures", "{techfirm} patches {threat}", "Study links {science} to climate",
            "{techfirm} releases beta of {gadget}", "{expert} test {gadget} in {city}", "Launch of {space} delayed",
            "Review: {gadget} from {techfirm}", "{expert} warn of {threat}", "New chip promises faster {sport} games",
        ],
        "lead": [
            "{techfirm} on {day} introduced {gadget} that lets users share files over a wireless link.",
            "{expert} warned of {threat} that steals passwords from computers running older software.",
            "{expert} at the University of {city} have discovered {science}, a journal reports this week.",
            "{space} reached orbit on {day} after a delay caused by a faulty sensor, mission controllers said.",
            "{techfirm} released a patch for {threat} in its server software and urged users to upgrade.",
            "{expert} say {science} may explain how life survived {n} million years ago.",
            "The next version of {techfirm}'s system will ship with {gadget}, developers were told in {city}.",
            "{techfirm} is testing {gadget} with {n} gigabytes of storage and a faster Internet connection.",
        ],
        "more": [
            "The code has been downloaded {n},000 times since {month}.",
            "{expert} hope to repeat the experiment with {science}.",
            "The device weighs {n} grams and runs for {small} hours on one battery.",
            "Users are advised to update their antivirus programs.",
            "Data from {space} will take years to analyse.",
            "{techfirm} would not say when {gadget} goes on sale.",
        ],
    },
]  # fmt: skip

# (class, class, titles, leads): stories that an editor might file under either.
CROSSOVERS: list[tuple[int, int, list[str], list[str]]] = [
    (0, 2, ["Oil price {move} after {violence} in {country}", "{country} debt talks resume in {city}",
            "Strike halts ports in {country}", "{country} signs pipeline pact with {firm}"],
     ["{economy} dominated the summit in {city}, where {leader} met executives of {firm}.",
      "Exports of {country} have been hit by {diplomacy}, and {firm} has evacuated its staff from {city}.",
      "A general strike over fuel prices closed banks and ministries in {country} on {day}."]),
    (0, 1, ["{country} fans protest in {city}", "Games committee weighs ban on {country}",
            "Bomb alert empties stadium in {city}", "{leader} meets {sport} squad"],
     ["Police in {city} detained {n} supporters of {team} after {violence} outside the stadium.",
      "{leader} said the {sport} team of {country} would boycott {event} unless {diplomacy} is agreed.",
      "Security for {event} in {city} was tightened after threats by {group}."]),
    (0, 3, ["{country} defends nuclear programme", "{country} blocks web sites", "Bird flu reaches {country}",
            "{country} tests rocket over {city}"],
     ["{expert} and inspectors were refused entry to a reactor near {city}, {leader} confirmed on {day}.",
      "The government of {country} ordered Internet providers in {city} to block sites run by {group}.",
      "{expert} fear that the virus found in {country} could spread to humans, the health ministry said."]),
    (1, 2, ["{firm} buys stake in {club}", "{club} owner weighs {deal}", "League lockout costs clubs ${amount} million",
            "{firm} drops sponsorship of {surname}"],
     ["{firm} will pay ${amount} million for the naming rights of the stadium of {club}.",
      "{club} reported that revenue {move} {pct} percent on ticket sales and a broadcast deal with {firm}.",
      "Owners and the players' union failed to agree on a salary cap on {day}, putting the season in doubt."]),
    (1, 3, ["{sport} game tops console charts", "Sensor tracks {sport} players", "New drug test unveiled for {event}",
            "{techfirm} to stream {event}"],
     ["{expert} have built a sensor that measures every move of {player} during {event}.",
      "{techfirm} will show {event} live on mobile phones, and {team} will sell replays on the Internet.",
      "A blood test developed by {expert} in {city} will be used at {event} to catch doping."]),
    (2, 3, ["{techfirm} {measure} {move} on chip demand", "{techfirm} sues {techfirm} over patent",
            "{techfirm} prices public offering", "{techfirm} to buy software maker {brand}"],
     ["{techfirm} said {measure} {move} {pct} percent on strong demand for {gadget}.",
      "{techfirm} agreed to buy {techfirm}, a maker of {gadget}, for ${amount} million.",
      "A judge ruled on {day} that {techfirm} may keep selling {gadget}; shares {move} {pct} percent.",
      "Online retailers expect record holiday sales of {gadget}, a survey by {firm} showed."]),
]  # fmt: skip

VAGUE_TITLES = [
    "{surname} says decision due on {day}", "{city} waits for answer", "Talks go on in {city}", "What {surname} said",
    "{surname} rejects criticism", "A quiet {day} in {city}",
]  # fmt: skip
NEUTRAL = [
    "A spokesman for {surname} declined to comment on {day}.", "The announcement came after a long meeting in {city}.",
    "{person} said more details would follow by {month}.", "It was the second time in {small} weeks.",
    "{surname}, who arrived in {city} on {day}, called it a turning point.", "Few had expected the outcome.",
    "The decision was made public late on {day}.", "Both sides said they were satisfied.",
]  # fmt: skip
