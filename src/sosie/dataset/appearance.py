"""What a caption that a model or a program wrote says of the person's looks, taken out: that belongs to the trigger.

Hair, beard, eyes, skin, features, age, sex and beauty go, with the words before them that describe them; clothes,
place, light, pose and expression stay. English alone: a caption in another language is left as it is.
"""

from __future__ import annotations

import re

_COLOURS = """
    black brown blonde blond red ginger auburn grey gray white silver blue green hazel amber dark light fair pale tan
    tanned olive golden copper chestnut platinum strawberry bright deep rosy freckled reddish brownish greyish jet
"""
_SHAPES = """
    long short medium mid shoulder waist length curly wavy straight braided plaited thick thin frizzy messy neat shaggy
    wild big large small narrow wide full bushy trimmed smooth soft striking piercing sharp round oval square loose
    natural dyed cropped shaved shoulder-length waist-length medium-length chin-length pulled-back almond-shaped
    high low prominent clear wrinkled expressive intense kind warm very
"""
_LOOKS = """
    beautiful pretty handsome attractive gorgeous cute lovely good-looking young younger old older elderly middle-aged
    adult teenage teenaged mature slim slender skinny fat chubby muscular tall petite asian african american european
    caucasian latin latina hispanic indian arab nordic chinese japanese korean bald balding bearded
"""
_FEATURES = """
    hair hairs hairstyle hairdo haircut ponytail ponytails pigtails braid braids plait plaits bangs curls eye eyes
    eyebrow eyebrows eyelashes lashes beard moustache mustache goatee stubble freckle freckles dimple dimples wrinkle
    wrinkles skin complexion cheek cheeks cheekbones jaw jawline chin nose lip lips forehead face features mole scar
"""
_PERSONS = "woman man girl boy lady guy gentleman female male person teenager teen child kid human"
_EXPRESSIONS = "smiling laughing happy sad serious angry surprised crying sleeping"
_ALONE = "blonde blond brunette redhead redheaded bearded bald balding freckled"
_STYLES = "is are tied pulled styled worn swept combed braided parted down up back loose closed"


def _any(*lists: str) -> str:
    """An expression for one of the words; the longer before the shorter."""
    words = {word for words in lists for word in words.split()}
    return "(?:" + "|".join(sorted(words, key=lambda word: (-len(word), word))) + ")"


_WORD_BEFORE = rf"(?:{_any(_COLOURS, _SHAPES, _LOOKS)}\b(?:\s*,|\s+and\b)?\s+)"
_OWNER = r"(?:(?:an?|the|her|his|their|its)\s+)?"
_STYLE = (
    rf"(?:\s+(?:{_any(_STYLES)}|(?:in|into)\s+(?:an?\s+)?(?:\w+\s+)?(?:bun|knot|ponytail|pigtails|braids?|plaits?))\b)*"
)
_FEATURE = re.compile(rf"\b{_OWNER}{_WORD_BEFORE}*{_any(_FEATURES)}\b(?:\s+braids?\b)?{_STYLE}", re.IGNORECASE)
_COMPOUND = re.compile(r"\b[a-z]+(?:\s|-)(?:haired|eyed|skinned|faced|cheeked)\b(?:\s*,)?", re.IGNORECASE)
_PERSON = re.compile(
    rf"\b(?:(?:an?|the|one|this)\s+)?({_any(_EXPRESSIONS)}\s+)?{_WORD_BEFORE}*{_any(_PERSONS)}\b(?:'s)?", re.IGNORECASE
)
_ON_FACE = re.compile(r"\bon (?:her|his|their|the) face\b|^\s*araf\w*", re.IGNORECASE)
"""After an expression; and a word that means nothing, with which BLIP begins many captions."""

_ADJECTIVE = re.compile(rf"\b(?:an?\s+)?{_any(_ALONE)}\b", re.IGNORECASE)
_AGE = re.compile(r"\b(?:in (?:her|his|their) (?:early |mid |late )?\w+ties|\d+[- ]years?[- ]old)\b", re.IGNORECASE)
_PRONOUN = re.compile(r"\b(?:she|he|they)(?:'s)?(?:\s+(?:is|are|has|have))?\b", re.IGNORECASE)
_POSSESSIVE = re.compile(r"\b(?:her|his|their)\b", re.IGNORECASE)

_TIDY: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        (r"[.;:!]+(?=\s|$)", ","),
        (r"\s+", " "),
        (r"\s+,", ","),
        (r"\b(with|has|having)(?: and)+ ", r"\1 "),
        (r"\b(?:with|has|having) (?=(?:with|has|having|wearing|in|on|at|is|are|standing|sitting|smiling)\b)", ""),
        (r"(?:\b(?:with|and|has|have|having|of|the|an?|is|are)\b ?)+(?=,|$)", ""),
        (r"(?:, ?(?:and\b)? ?)+", ", "),
        (r"^(?:(?:and|has|have|is|are|who|that|of)\b ?|, ?)+", ""),
        (r"[ ,]+$", ""),
    )
)


def without_face(text: str) -> str:
    """The caption without what it says of the person's looks, tidied; empty if it says nothing else.

    The person who opens the caption goes too, since the trigger stands there; elsewhere it is `a person`.
    """
    text = _COMPOUND.sub(" ", _AGE.sub(" ", _ON_FACE.sub(" ", text)))
    text = _FEATURE.sub(" ", text).strip()
    text = _PERSON.sub(lambda match: f" a {match[1] or ''}person " if match.start() else f" {match[1] or ''} ", text)
    text = _ADJECTIVE.sub(" ", text)
    text = _POSSESSIVE.sub("the", _PRONOUN.sub(" ", text))
    before = ""
    while before != text:
        before = text
        for pattern, replacement in _TIDY:
            text = pattern.sub(replacement, text).strip()
    return text
