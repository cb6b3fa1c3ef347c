"""Captions that seem to speak to the teacher rather than to people. They are flagged, never changed or dropped."""

from __future__ import annotations

import re
import unicodedata

WORDS = {
    "ORDERS": r"(?:rubric|instructions?|prompts?|guidelines?|rules?|directions?|system|criteria|task|commands?)",
    "DROP": r"(?:ignore|disregard|forget|override|bypass|skip|drop|discard|neglect)",
    "ANSWER": (
        r"(?:answer|respond|reply|output|return|print|say|write|give|rate|score|label|classify|mark"
        r"|assign|grade)"
    ),
    "RATED": r"(?:score[ds]?|rated?|rating|label(?:led)?|class(?:ified)?|answer(?:ed)?|output)",
    "MODEL": r"(?:ai|llm|assistant|model|rater|annotator|classifier|judge|grader|bot|chatbot|gpt|chatgpt|claude|qwen)",
    "VALUE": r"(?:10|ten|0|zero|maximum|minimum|max|min|highest|lowest|top\s+score|full\s+marks|perfect\s+score)",
    "CLASS": r"(?:positive|negative|neutral|high|low|hateful|none|safe)",
}
PATTERNS = {
    "override": [r"\b DROP \b .{0,40} \b (?: ORDERS | above | previous | prior | earlier | everything ) \b"],
    "new_orders": [
        r"\b (?: new | updated? | revised | real | actual | true ) \s+ ORDERS \s* :",
        r"\b from \s+ now \s+ on \b .{0,40} \b (?: answer | respond | rate | score | output | you ) \b",
    ],
    "role": [
        r"\b (?: you \s+ are | you're | act \s+ as | pretend \s+ to \s+ be | behave \s+ as ) \s+"
        r"(?: now \s+ )? (?: an? \s+ | the \s+ )? (?: \w+ \s+ ){0,3} (?: MODEL | dan | system ) \b"
    ],
    "address": [
        r"\b (?: dear | hey | hello | attention | note \s+ to | message \s+ (?: to | for ) | to ) [,:]? \s+"
        r"(?: the \s+ | an? \s+ | any \s+ | all \s+ )? (?: \w+ \s+ ){0,1} MODEL s? \b \s* [:,!.\-]"
    ],
    "demand": [
        r"^ \s* ANSWER \s* : \s* [\"']? VALUE [\"']? \s* [.!]? \s* $",
        r"\b ANSWER \b .{0,40} (?: \b VALUE \b | [\"'] \w+ [\"'] ) .{0,30}"
        r"(?: \b (?: only | regardless | always | instead | score | rating ) \b | \b no \s+ matter \b"
        r"| \b out \s+ of \b"
        r"| \b nothing \s+ else \b | \b as \s+ (?: the \s+ )? (?: answer | label ) \b )",
        r"^ \s* (?: just \s+ | please \s+ | simply \s+ | only \s+ )? ANSWER \s+ (?: with \s+ )? \W? VALUE \W* $",
    ],
    "must": [
        r"\b (?: must | should | shall | has \s+ to | have \s+ to | is \s+ required \s+ to ) \b .{0,40} \b RATED \b"
        r".{0,30} (?: \b \d | \b CLASS \b )",
        r"\b (?: correct | right | true | expected | official ) \s+ (?: answer | score | rating | label ) \b"
        r".{0,30} (?: \b \d | \b CLASS \b )",
        r"\b ground \s+ truth \b",
    ],
    "chat_marks": [
        r"< \| [^|]{0,30} \| > | \[ /? INST \] | << \s* /? SYS | < (?: start | end ) _of_turn >",
        r"^ \s* \#{2,} \s* (?: system | instruction | assistant | user ) \b",
        r"^ \s* \[? (?: system | assistant | developer | operator | admin ) \s* (?: message | prompt | note"
        r"| override )? \]? \s* :",
    ],
    "fence": [
        r"< / \s* (?: caption | post | data | content | document | text | input | user | system"
        r"| assistant ) [\w-]* \s* >",
        r"-{3,} \s* (?: end | begin | stop ) \b | `{3}",
        r"\b end \s+ of \s+ (?: the \s+ )? (?: caption | post | data | content | user \s+ input ) \b",
    ],
    "json": [r"[\"“”'] (?: score | rating | labels? | reason ) [\"“”'] \s* [:=] \s* [\[\"'\d]"],
    "reveal": [
        r"\b (?: reveal | show | print | repeat | leak | output"
        r"| tell \s+ me ) \b .{0,30} \b (?: system \s+ prompt | your \s+ ORDERS ) \b"
    ],
    "languages": [
        r"\b (?: ignoriere | vergiss | ignorez | oubliez | ignora | ignore[ns]? \s+ (?: as | las | die | de )"
        r"| olvida | esqueça"
        r"| negeer | игнорируй | забудь ) \w* \b .{0,60}",
        r"忽略 | 無視 | 无视 | 무시하 | تجاهل | इग्नोर",
    ],
    "encoded": [
        r"\b (?: base64 | rot13 | hex ) \b .{0,40} \b (?: decode | follow | obey | execute | do | instructions? ) \b",
        r"\b (?: decode | execute | follow | obey ) \b .{0,40} \b (?: base64 | rot13 | hex ) \b",
        r"(?<! [\w/] ) [A-Za-z0-9+]{40,} ={0,2} (?! [\w/] )",
    ],
    "authority": [
        r"\b (?: i \s+ am | i'm | this \s+ is | we \s+ are | signed | authori[sz]ed \s+ by"
        r"| on \s+ behalf \s+ of ) \b .{0,30}"
        r"\b (?: developer | operator | administrator | annotation \s+ team | openai | anthropic"
        r"| your \s+ (?: creator | owner | supervisor ) ) \b"
    ],
    "rater_talk": [
        r"\b (?: as \s+ an \s+ ai | ai \s+ (?: language \s+ )? model | language \s+ model | raters?"
        r"| annotators? | labell?er ) \b .{0,60}"
        r"\b (?: must | should | please | give | rate | score | answer | label | ignore | skip ) \b",
        r"\b (?: rate | score | label | classify | grade ) \s+ (?: this | my ) \s+ (?: \w+ \s+ )? (?: post"
        r"| caption | image | picture"
        r"| photo | tweet ) \b .{0,40} (?: \b \d | \b as \s+ CLASS \b )",
    ],
}


def _compiled(patterns: list[str]) -> re.Pattern[str]:
    whole = "|".join(patterns)
    for name, words in WORDS.items():
        whole = re.sub(rf"\b{name}\b", lambda _, words=words: words, whole)  # type: ignore[misc]
    return re.compile(whole, re.IGNORECASE | re.DOTALL | re.MULTILINE | re.VERBOSE)


_COMPILED = {name: _compiled(patterns) for name, patterns in PATTERNS.items()}
_DISGUISED = ("override", "role", "reveal", "new_orders")  # looked for again where the writing is disguised
_HIDDEN = re.compile("[\u200b-\u200f\u2060-\u2064\ufeff\u00ad\U000e0000-\U000e007f]")
_TAGS = re.compile("[\U000e0020-\U000e007f]{4,}")  # tag characters: text that people do not see
_LOOKALIKES = str.maketrans("аеорсухіјѕԁΑΕΟοАВЕКМНОРСТХІЈЅ", "aeopcyxijsdAEOoABEKMHOPCTXIJS")
_LEET = [str.maketrans(f"0{one}3457@$", "oieastas") for one in "1l"] + [str.maketrans("01345@", "oleasa")]


def suspicions(text: str) -> list[str]:
    """Which kinds of speaking to the teacher a text shows, none for most; a hint for people, not a verdict."""
    if not text:
        return []
    found = [name for name, pattern in _COMPILED.items() if pattern.search(text)]
    bare = unicodedata.normalize("NFKC", _HIDDEN.sub("", text))
    latin = bare.translate(_LOOKALIKES) if re.search(r"[A-Za-z]", bare) else bare
    spaced = re.sub(r"(?<=\b\w)[ .\-_*](?=\w\b)", "", latin)
    for changed in {latin, spaced, *(latin.translate(table) for table in _LEET)} - {text}:
        found += [name for name in _DISGUISED if name not in found and _COMPILED[name].search(changed)]
    return [*found, "hidden"] if _TAGS.search(text) else found
