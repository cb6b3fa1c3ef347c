"""What the drawn posts say: phrases with a planted level of gender bias, a planted mood and mild slights.

Levels of bias run from 0 (none) to 5 (strong). The same lists serve the writer of the corpus and
the demo teacher that reads it, so that the teacher truly reads the caption it is sent.
"""

from __future__ import annotations

import numpy as np

BIAS: dict[int, list[str]] = {
    0: [
        "He does bedtime, she does the late meeting, next week we swap",
        "Our crew: two women, two men, same pay, same say",
        "Everyone on the team took a turn at the barbecue",
        "Mixed doubles today and nobody kept count of who carried whom",
        "She fixed the sink while he made soup",
        "Parents' evening with both parents in the front row",
        "New engineers of all kinds joined us this week",
    ],
    1: [
        "Ladies' corner and gents' corner, as the shop has it",
        "A pink one for her, a blue one for him, the usual",
        "Girls chat, boys watch the game, a normal Sunday",
        "The girls brought cake, the boys brought the speakers",
        "Gift guide: gadgets for dad, candles for mum",
        "He drives, she picks the music, like every summer",
        "Shopping with the girls while the men wait outside",
    ],
    2: [
        "Girls love to shop, what can you do",
        "Boys and their toys, they never grow up",
        "Every woman needs a man to open the jar",
        "Mums just know how to keep a home cosy",
        "Real men do not need a recipe, luckily she does",
        "She handles the decorations, he handles the money talk",
        "A lady should always smile, it costs nothing",
    ],
    3: [
        "Ask the wife for dinner and the husband for directions",
        "Not bad for a girl, she parked it in one go",
        "Men lead, women support, that is how this family works",
        "Girls, leave the heavy thinking to your brothers",
        "A man who cries over a film has some growing up to do",
        "She gave up the job, naturally, someone has to mind the home",
        "Science night for the boys, craft night for the girls",
    ],
    4: [
        "Keep calm, sweetheart, the men are talking business",
        "Women are too emotional to run a company, sorry",
        "A good wife does not argue in front of guests",
        "No woman drives my car, I want to keep it in one piece",
        "Behind the counter she is pretty, in the boardroom she is lost",
        "Real boys do not play with dolls, fix that early",
        "She got the job for her looks, everyone knows it",
    ],
    5: [
        "A woman's place is in the kitchen and nowhere else",
        "Women should serve and men should decide, full stop",
        "Girls do not belong in science, let the men work",
        "A man who lets his wife earn more is no man at all",
        "She should be grateful that he lets her out of the house",
        "Never trust a woman with money or with power",
        "Daughters are raised to obey, sons are raised to rule",
    ],
}

MOOD: dict[str, list[str]] = {
    "positive": [
        "I could not be happier today",
        "what a wonderful morning",
        "best day of the whole year",
        "so grateful and full of joy",
        "we laughed until it hurt",
        "this made my heart sing",
        "absolutely love how it turned out",
        "a delightful surprise from start to end",
        "feeling proud and excited",
        "everything went beautifully",
        "pure sunshine inside and out",
    ],
    "negative": [
        "I have never felt so let down",
        "what a miserable afternoon",
        "worst week of the whole year",
        "so tired and full of regret",
        "we cried in the car park",
        "this broke my heart a little",
        "truly hate how it turned out",
        "a painful mess from start to end",
        "feeling anxious and alone",
        "everything fell apart",
        "nothing but grey skies inside and out",
    ],
    "neutral": [
        "posting this on a Tuesday",
        "the shop opens at nine",
        "three of these came in the box",
        "the second picture shows the back",
        "size chart is on the page",
        "we walked along the river",
        "the train left from platform four",
        "this is the new packaging",
        "notes from the meeting below",
        "the table stands by the window",
        "delivery takes two to four days",
    ],
}

SLIGHTS: dict[str, list[str]] = {  # mild put-downs of a group, by the kind of group
    "racist": [
        "Folks from over the border never learn to queue",
        "You can always tell where he is from by how he haggles",
        "That accent alone would cost them the job with me",
        "Their kind of cooking should stay in their own country",
        "Newcomers like them keep the whole street down",
        "Nobody with a name like that pays on time",
    ],
    "sexist": [
        "Of course it broke, a woman put it together",
        "She talks about football, how sweet, as if she knew",
        "Typical men, useless without a remote",
        "Lady driver ahead, so we will be late again",
        "A female boss, well, bring tissues to the meeting",
        "Men who knit, what is the world coming to",
    ],
    "homophobe": [
        "Two dads at the school fair, not in my time",
        "Rainbow mugs again, can they keep it to themselves",
        "That wedding of two brides was no wedding to me",
        "He dresses like that and wonders why people stare",
        "Boys holding hands on the bus, I changed seats",
        "Their parade blocks the road every single year",
    ],
    "religion": [
        "People who fast are terrible company, all of them",
        "Those bells and prayers should be kept indoors",
        "Anyone in a head cover makes the queue slower",
        "Believers cannot take a joke, never could",
        "The ones from that temple think they are better",
        "No wonder, with a faith like theirs",
    ],
    "otherhate": [
        "Old people should stay off the road after noon",
        "The wheelchair crowd wants a ramp for everything",
        "Village folk would not understand this anyway",
        "Students are lazy, the whole lot of them",
        "Poor people just do not want to save",
        "Anyone over fifty should leave the internet alone",
    ],
}

OPENERS = [
    "Hello from {place}.",
    "Late post from {place}.",
    "Throwback to {place}.",
    "Good morning {place}!",
    "Two days in {place}.",
    "Back in {place}.",
    "Somewhere near {place}.",
    "From our stop in {place}:",
    "",
]
PLACES = [
    "Lisbon",
    "Graz",
    "Osaka",
    "Leeds",
    "Bergen",
    "Porto",
    "Turin",
    "Quito",
    "Accra",
    "Gdansk",
    "Nantes",
    "Izmir",
    "Perth",
    "Malmo",
    "Cork",
    "Tartu",
    "Davao",
    "Natal",
    "Split",
    "Bristol",
    "Haifa",
    "Busan",
]
THINGS = [
    "green scarf",
    "old camera",
    "picnic basket",
    "blue bicycle",
    "paper lamp",
    "clay bowl",
    "rain boots",
    "silver watch",
    "reading chair",
    "garden shears",
    "woollen hat",
    "tin kettle",
    "map case",
    "roof box",
    "water bottle",
    "market bag",
    "sketch book",
    "pocket radio",
    "oak table",
    "linen shirt",
    "folding tent",
]
MIDDLES = [
    "The {thing} came along again.",
    "Do you still have your {thing}?",
    "We found a {thing} at the market.",
    "Swapped my {thing} for a {other}.",
    "One {thing}, one {other}, no plan.",
    "That {thing} has seen a lot.",
    "Question of the day: {thing} or {other}?",
    "",
    "",
]
TAGS = [
    "ootd",
    "weekend",
    "travel",
    "foodie",
    "homestyle",
    "photooftheday",
    "instagood",
    "morning",
    "design",
    "family",
    "style",
    "worklife",
    "roadtrip",
    "citywalk",
    "slowliving",
    "newin",
    "throwback",
    "market",
]
BRANDS: dict[str, tuple[list[str], list[str]]] = {
    "Alderby": (["alderby", "alderbyhome"], ["alderby.official"]),
    "Bramwick": (["bramwick"], ["bramwick"]),
    "Corvella": (["corvella", "corvellabeauty"], ["corvella.beauty"]),
    "Dunmere": (["dunmere"], ["dunmere_motors"]),
    "Estoril": (["estorilwatches", "estoril"], ["estoril.watches"]),
    "Fennick": (["fennick"], ["fennickfoods"]),
    "Galloway": (["gallowaytools"], ["galloway_tools"]),
    "Halvorsen": (["halvorsen"], ["halvorsen.design"]),
}
BRAND_BIAS: dict[str, float] = {  # chance that a brand's evidence is high; gives each brand its own mean
    "Alderby": 0.55,
    "Bramwick": 0.10,
    "Corvella": 0.45,
    "Dunmere": 0.75,
    "Estoril": 0.60,
    "Fennick": 0.20,
    "Galloway": 0.85,
    "Halvorsen": 0.05,
}


def compose(
    rng: np.random.Generator, *, bias: int | None, mood: str | None, brand: str | None, slights: list[str]
) -> str:
    """A caption that carries these (None: says nothing of it), and otherwise small talk and hashtags."""

    def pick(options: list[str]) -> str:
        return options[int(rng.integers(len(options)))]

    parts = [pick(OPENERS).format(place=pick(PLACES)), pick(MIDDLES).format(thing=pick(THINGS), other=pick(THINGS))]
    if bias is not None:
        parts.append(f"{pick(BIAS[bias])}.")
    if mood is not None:
        phrase = pick(MOOD[mood])
        parts.append(phrase[0].upper() + phrase[1:] + pick([".", "!", " …", "."]))
    parts += [f"{pick(SLIGHTS[name])}." for name in slights]
    head, tail = [part for part in parts if part], []
    rng.shuffle(head)
    if brand is not None:
        tags, handles = BRANDS[brand]
        shown = pick([f"#{tag}" for tag in tags] + [f"@{handle}" for handle in handles])
        if shown.startswith("@") and rng.random() < 0.5:
            head.append(f"With {shown}.")
        else:
            tail.append(shown)
    tail += [f"#{pick(TAGS)}" for _ in range(int(rng.integers(0, 4)))]
    if rng.random() < 0.25:
        tail.append(pick(["🌿", "✨", "📷", "☕", "🧭", "👟"]))
    return " ".join(head + list(dict.fromkeys(tail)))
