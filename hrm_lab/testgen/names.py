"""Made-up names of partners: an open class, as in life, in the forms that real names take.

Names from a list of sixteen are a closed class to a model: it learned them by heart and copied none that it had not
seen. These are built from syllables; one, two words, with digits, a plus, inner capitals, or capitals only.
"""

from random import Random

ONSETS = "b c d f g h j k l m n p r s t v w z br cl dr fl gr kr pl st tr vl qu sh".split()
VOWELS = "a e i o u a e o ia eo".split()
ENDS = ["", "", "", "n", "r", "s", "x", "l", "m", "nt", "sk"]
SECOND = "Play Kids One Plus Max Sports Films Live World Now Go Classics Prime Select North Studio".split()


def word(rng: Random) -> str:
    parts = [rng.choice(ONSETS) + rng.choice(VOWELS) for _ in range(rng.choice((2, 2, 3)))]
    return ("".join(parts) + rng.choice(ENDS)).capitalize()


def made_up(rng: Random) -> str:
    """A name that no list holds: "Velora", "Dreomax Kids", "Sitano 24", "Plovia+", "GradoLive", "TRK"."""
    form = rng.random()
    if form < 0.5:
        return word(rng)
    if form < 0.65:
        return f"{word(rng)} {rng.choice(SECOND)}"
    if form < 0.75:
        return f"{word(rng)} {rng.randint(2, 99)}"
    if form < 0.82:
        return f"{word(rng)}+"
    if form < 0.92:
        return word(rng) + rng.choice(SECOND)
    return "".join(rng.choice("BCDFGHJKLMNPRSTVWXZ") for _ in range(rng.choice((3, 4))))
