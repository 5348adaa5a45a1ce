"""Check characters of public identifiers: EIDR and ISAN (ISO 7064 MOD 37,36), EAN-13 (mod 10), ISBN-10 (mod 11).

Each takes the identifier without its check character; other signs than letters and digits are skipped.
"""

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def check_37_36(text: str) -> str:
    """ISO 7064 MOD 37,36, the check character of EIDR (over the 20 hex digits) and ISAN."""
    product = 36
    for sign in text.upper():
        if sign in ALPHABET:
            total = (product + ALPHABET.index(sign)) % 36 or 36
            product = total * 2 % 37
    return ALPHABET[(37 - product) % 36]


def digits(text: str) -> list[int]:
    return [int(sign) for sign in text if sign in "0123456789"]


def check_mod_10(text: str) -> str:
    """EAN and GTIN: weights 3, 1, 3 ... from the right."""
    return str(-sum(value * (3 if i % 2 == 0 else 1) for i, value in enumerate(reversed(digits(text)))) % 10)


def check_mod_11(text: str) -> str:
    """ISBN-10 and ISSN: weights 2, 3, 4 ... from the right; 10 is written X."""
    rest = -sum(value * (i + 2) for i, value in enumerate(reversed(digits(text)))) % 11
    return "X" if rest == 10 else str(rest)
