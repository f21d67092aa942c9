"""Mask what others must not read: secrets, keys and signatures.

For the archive that goes to support, and for messages that quote an option.
Every pattern takes linear time: an instance may have written a part of a log.
"""

import json
import re
import urllib.parse
from collections.abc import Callable, Iterable

MASK = "***"
# Shorter ones are parts of ordinary words.
_SHORTEST = 4
# Our option "tokens" is not one: its value is a mode.
_NAMES = (
    r"passw|secret|token(?!(?<=\btoken)s\b)|credential|signature|"
    "api[_-]?key|transport_url"
)
_PEM = "[A-Z0-9 ]{1,40}-----"
_KEY = re.compile(
    rf"-----BEGIN {_PEM}.*?(?:-----END {_PEM}|\Z)"
    # The end of one whose beginning was cut off.
    rf"|[A-Za-z0-9+/=]{{0,100}}\s{{0,4}}-----END {_PEM}",
    re.DOTALL,
)
_NAMED = re.compile(
    rf"((?:{_NAMES})[\w.-]{{0,60}}[\"']?[ \t]{{0,9}}(?:=|:(?=[ \t])))"
    r"(?:(?<==)[ \t]*(\S+).*|[ \t]+(\S{8,}))",
    re.IGNORECASE,
)
# A signature or digest, or a line of a PEM file. Paths have other characters.
_LONG = re.compile(r"[A-Za-z0-9+/]{40,}={0,2}")


def is_secret(name: str, text: str) -> bool:
    """Return whether an option NAME, of any program, with TEXT has one."""
    named = re.search(_NAMES, name, re.IGNORECASE) or _NAMED.search(text)
    return named is not None or without_credentials(text) != text


def without_credentials(text: str) -> str:
    """Return TEXT with no private key, and no user and password before @."""
    if "-----" in text:
        text = _KEY.sub(MASK, text)
    return re.sub(r"\S+", _mask_user, text) if "@" in text else text


def _mask_user(word: re.Match[str]) -> str:
    start, user, host = _split(word[0])
    return f"{start}{MASK}{host}" if ":" in user else word[0]


def _split(word: str) -> tuple[str, str, str]:
    """Return what is before the user in a URL or host, the user, the rest.

    A password may have any character in it, so it ends with the last @.
    """
    before, at, host = word.rpartition("@")
    start = before[: before.find("://") + 3] if "://" in before else ""
    return start, before[len(start) :], at + host


def masker(secrets: Iterable[str]) -> Callable[[str], str]:
    """Return a function that masks SECRETS, and all that looks like one.

    Equal digests and signatures have equal marks, of 16 bits: one can see
    whether two are the same. The marks differ in each process.
    """
    found = {form for secret in secrets for form in _forms(secret)}
    known = sorted(found, key=len, reverse=True)

    def mask(text: str) -> str:
        for form in known:
            text = text.replace(form, MASK)
        text = _NAMED.sub(rf"\1 {MASK}", without_credentials(text))
        return _LONG.sub(
            lambda found: f"{MASK}{hash(found[0]) & 0xFFFF:04x}", text
        )

    return mask


def _forms(secret: str) -> list[str]:
    """Return SECRET as it may be written, without the shortest."""
    _, user, _ = _split(secret)
    texts = [secret, user.partition(":")[2], user.rpartition(":")[2]]
    texts += [*re.findall(r":([^:@,]+)@", secret), *secret.splitlines()]
    texts += [found[2] or found[3] for found in _NAMED.finditer(secret)]
    forms = [
        form
        for text in {*texts, *map(urllib.parse.unquote, texts)}
        for form in (
            text.strip(),
            json.dumps(text)[1:-1],
            json.dumps(text, ensure_ascii=False)[1:-1],
            repr(text)[1:-1],
            urllib.parse.quote(text),
            urllib.parse.quote(text, safe=""),
            urllib.parse.quote_plus(text),
        )
    ]
    return [form for form in forms if len(form) >= _SHORTEST]
