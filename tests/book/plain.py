"""What a plain sentence is: the sentences of a page, as written or as built, and what makes one hard to read."""

import re

from bs4 import BeautifulSoup

MOST_WORDS = 32
MOST_COMMAS = 2

PLAINER = {
    r"\b(?:stands?|lies?|lay) (?:beside|next to)\b|\bbeside (?:it|them|each|that) (?:stands?|lies?)\b": "is shown with",
    r"\b(?:holds?|held) [\w ]{0,30}?against\b": "compare with",
    r"\b(?:gives?|gave|given) away\b|\bgive [\w ]{1,20} away\b": "reveal",
    r"\b(?:is|are|was|were|be|been) (?:then )?told\b(?! apart)|; told\b": "is reported",
    r"\bis to be\b|\bare to be\b|\bis to say\b|\bto be had\b": "must, can, will",
    r"\bnothing but\b": "only",
    r"\bone (?:\w+ )?in (?:ten|twenty|forty|a hundred)\b|thirty-nine times in forty": "1 time in 40",
    r"\bpa(?:ys|id) for\b": "corrects for",
    r"\bturned? to one side\b|\bturns the second kind\b": "is reversed, so that 1 always means trustworthy",
    r"\bflatters?\b": "gives too high a number",
    r"\bwhom\b|\bwhose\b[^.]{0,40}\bwhose\b": "say who does what",
    r"\bwhich is why\b|\bthereof\b|\bhereby\b|\bherein\b|\bin truth\b": "two sentences",
    r"\ball the same\b": "nevertheless, or: even so",
    r"\bof one's own\b": "your own",
    r"\bcomes? to tell\b": "learns to tell",
    r"\bthat is so\b|\bwhat is so\b": "true",
    r"\bso many\b|\bsuch as (?:change|grow|differ)\b": "this many, those that",
    r"\bno more than\b": "at most, or: only",
    r"\bmake it,? that\b|\bgoes by\b|\bspeaks? of\b|\blies? there\b": "an exact verb",
    r"\bby heart\b": "word for word, or: memorise",
    r"\bmay not be\b[^.]{0,20}\bunless\b": "must ... first",
    r"\bon the way\b|\bthan that no\b": "a shorter sentence",
    r"\ba reader who\b": "a program that",
}
"""Constructions that recurred, as patterns, and what to write instead."""

VERBS = (
    "is are was were be been has have had do does did can could may might must will would should shows? showed says? said "
    "asks? asked finds? found gives? gave takes? took makes? made lies? stands? needs? keeps? kept uses? means? rises? rose "
    "falls? fell comes? came goes? went reads? tells? told sets? compares? measures? reports? counts? holds? adds? names? "
    "writes? wrote runs? follows? begins? began ends? reach(?:es)? differs? learns? learnt knows? knew trains? tests? "
    "draws? drew lacks? stays? becomes? became gets? got changes? changed press choose drag opens? looks? sees? prints? "
    "builds? built leaves? left works? costs? rests? appears? starts? fits? covers? puts? turns? lets? tr(?:y|ies) belongs? "
    "checks? moves? judges? speaks? depends? happens? helps? loses? gains? fails?"
).replace(" ", "|")
"""Finite verbs of the book, as a pattern. A sentence without any of them is a fragment, whose commas are not counted."""


def without_code(text):
    """A page's text without its fenced code; what stands in other fences (a note, a solution) is prose."""
    kept, closing = [], ""
    for line in text.splitlines():
        opening = re.match(r"\s*(`{3,}|~{3,})(?:\{(?:code-cell|eval-rst|math|code-block|literalinclude)\}|[a-z]|$)", line)
        if closing:
            closing = "" if line.strip() == closing else closing
        elif opening:
            closing = opening[1]
        else:
            kept.append(line)
    return "\n".join(kept)


def sentences(text):
    """The sentences of a page's prose: without front matter, code, maths, comments and headings.

    A link is its words, a role or a piece of code one word. A list's entry and a table's cell end a sentence.
    """
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.S)
    captions = re.findall(r"^    caption: \|\n((?:      .*\n)+)", text, flags=re.M)
    text = without_code(re.sub(r"^(?=\s*(?:`{3,}|~{3,}))", "\n", text, flags=re.M)) + "".join(
        f"\n\n{caption}\n" for caption in captions
    )
    text = re.sub(r"\$\$.*?\$\$|<!--.*?-->|<[^>]+>|^%[^\n]*$|\(eq-[\w-]+\)", " ", text, flags=re.S | re.M)
    text = re.sub(r"\|", "\n\n", text)
    text = re.sub(r"^(?:#|`{3,}|:{3,}|\(|:\w+:).*$", "", text, flags=re.M)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"\{cite\}`[^`]*`|\[\^[^\]]*\]", "", text)
    text = re.sub(r"(?:\{[^}\s]+\})?`[^`]*`|\$[^$\n]+\$", "X", text)
    text = re.sub(r"[*_]{1,2}(?=\S)|(?<=\S)[*_]{1,2}", "", text)
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.)\s)|\n(?=  [A-Z1])", text):
        yield from _split(re.sub(r"^\s*(?:[-*]|\d+\.)\s", "", block))


def _split(block):
    """The sentences of a paragraph; a single word is none."""
    parts = re.split(r"(?<=[.!?])\s+(?=[A-Z\d\"“])", " ".join(block.split()))
    return [part.strip() for part in parts if re.search(r"\w\s+\w", part)]


RECORDS = {"costs", "faults", "what_stands"}
"""Built pages whose tables hold what programs printed, or the registered words of a claim: their cells are not checked."""


def rendered(name, html):
    """The sentences of a built page as its reader sees them, with every number filled in.

    A formula, a piece of code, and a list of bare numbers are one word; the source of a citation is none.
    """
    article = BeautifulSoup(html, "html.parser").select_one("article")
    cells = "td, " if name in RECORDS else ""
    gone = "pre, script, style, h1, h2, h3, h4, .admonition-title, .headerlink, .citation, .vega-chart, button, label, dl.py"
    for node in article.select(cells + gone):
        node.replace_with(" ")
    for node in article.select("code, .math, .footnote-reference"):
        node.replace_with("X")
    for node in article.select("p, li, td, th, dt, dd, figcaption, caption, summary"):
        node.insert_before("\n\n")
        node.insert_after("\n\n")
    text = re.sub(r"\[[^][]*\b\d{4}[a-z]?\]", "", article.get_text())
    text = re.sub(r"\d[\d.]*(?:, \d[\d.]*)+(?: and \d[\d.]*)?", "X", text)
    for block in re.split(r"\n\s*\n", text):
        yield from _split(block)


def faults(sentence):
    """What is hard to read in a sentence."""
    words = re.findall(r"[\w'.,/-]*\w[\w'/-]*", sentence)
    found = [f"{len(words)} words"] if len(words) > MOST_WORDS else []
    verb = re.search(rf"\b(?:{VERBS})\b", sentence, flags=re.I)
    commas = sentence[: verb.start()].count(",") if verb else 0
    found += [f"{commas} commas before the verb"] if commas > MOST_COMMAS else []
    return found + [
        f"{match[0]!r}: {plain}" for form, plain in PLAINER.items() if (match := re.search(form, sentence, flags=re.I))
    ]
