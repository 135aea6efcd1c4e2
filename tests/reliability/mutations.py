"""Damage of bytes and of JSON values, as a careless or hostile sender might do it; the same for the same `Random`."""

import json
from collections.abc import Sequence
from copy import deepcopy
from random import Random
from typing import Any

__all__ = ["mutate_bytes", "mutate_json_text", "mutate_value"]

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
_HEADER = 512  # bytes at the start that half of the damage meets


def mutate_bytes(raw: bytes, other: bytes, random: Random, *, fields: Sequence[int] = ()) -> bytes:
    """Flip, overwrite, delete, insert, cut or splice, once or several times.

    Args:
        raw: the bytes.
        other: another file's, to splice with.
        random: what is drawn from.
        fields: places that the format counts by, which a third of the damage meets.
    """
    broken = bytearray(raw)
    for _ in range(random.choice((1, 1, 1, 2, 4, 12))):
        if not broken:
            break
        most = len(broken) if random.random() < 0.5 else min(_HEADER, len(broken))
        start = random.choice(fields) if fields and random.random() < 0.33 else random.randrange(most)
        start = min(start, len(broken) - 1)
        kind = random.choice(("flip", "flip", "number", "number", "number", "delete", "insert", "cut", "splice"))
        length = random.choice((1, 2, 4, 8, 64, 1000))
        if kind == "flip":
            broken[start] ^= 1 << random.randrange(8)
        elif kind == "number":
            width = random.choice((1, 2, 4, 8))
            number = random.choice(_NUMBERS) % 2 ** (8 * width)
            broken[start : start + width] = number.to_bytes(width, random.choice(("little", "big")))
        elif kind == "delete":
            del broken[start : start + length]
        elif kind == "insert":
            broken[start:start] = random.choice((b"\0" * length, b"\xff" * length, random.randbytes(length)))
        elif kind == "cut" and random.random() < 0.5:
            del broken[start:]
        elif kind == "splice":
            at = random.randrange(len(other))
            broken[start : start + random.choice((length, len(broken)))] = other[at : at + random.choice((16, 4096))]
    return bytes(broken)


def _odd_value(random: Random) -> Any:
    nested: Any = random.choice(({}, []))
    for _ in range(random.choice((1, 50, 500))):
        nested = [nested] if random.random() < 0.5 else {"a": nested}
    return random.choice(
        (
            *(None, True, False, 0, 1, -1, 2.5, 1e308, 2**31, 2**63, 2**64, 10**400, 10**30),
            *(float("nan"), float("inf"), -float("inf"), "", " ", "0", "nan", "\0", "a\nb", "\x1b[2J", "\ud800"),
            *("../../../etc/passwd", "/dev/zero", "/", ".", "~", "x" * 5000, "9" * 5000, "é²٣", "%s{0}{", "a/" * 3000),
            *("{a:(", "{a:x{99999999999}}", "[" * 3000, "[" * 400 + "]" * 400, "{a:" + "(" * 300 + ")" * 300 + "}"),
            *([], {}, [[]], [None], {"": ""}, nested, [0] * 10000),
        )
    )


def mutate_value(value: Any, random: Random) -> Any:
    """Change something somewhere inside a JSON value: its type, a key, its place; or leave it out or say it twice."""
    changed = deepcopy(value)
    for _ in range(random.choice((1, 1, 2, 4))):
        holder, key = _anywhere(changed, random)
        if holder is None:
            return _odd_value(random)
        kind = random.choice(("odd", "odd", "odd", "number", "remove", "key", "swap"))
        found = holder[key]
        if kind == "number" and isinstance(found, int):
            holder[key] = random.choice((-1, 10, 1000, 10**6, 10**12, 10**400)) * (found or 1)
        elif kind == "remove":
            del holder[key]
        elif kind == "key" and isinstance(holder, dict):
            odd = _odd_value(random)
            holder[odd if isinstance(odd, str) else str(odd)[:100]] = holder.pop(key)
        elif kind == "swap":
            other, place = _anywhere(changed, random)
            if other is not None:
                holder[key] = deepcopy(other[place])
        else:
            holder[key] = _odd_value(random)
    return changed


def _anywhere(value: Any, random: Random) -> tuple[Any, Any]:
    """A holder and a key in it."""
    holder: Any = None
    key: Any = None
    inner = value
    while isinstance(inner, dict | list) and inner and (holder is None or random.random() < 0.7):
        holder = inner
        key = random.choice(list(inner)) if isinstance(inner, dict) else random.randrange(len(inner))
        inner = holder[key]
    return holder, key


def mutate_json_text(value: Any, other: bytes, random: Random) -> bytes:
    """A damaged JSON file of a value."""
    kind = random.choice(("value", "value", "value", "bytes", "bytes", "twice", "deep", "coding"))
    text = json.dumps(mutate_value(value, random) if kind == "value" else value, indent=random.choice((None, 1)))
    if kind == "bytes":
        return mutate_bytes(text.encode(), other, random)
    if kind == "twice":
        place = random.choice([index for index, letter in enumerate(text) if letter == "{"])
        return f'{text[: place + 1]}"name": 1, "name": 2, {text[place + 1 :]}'.encode()
    if kind == "deep":
        place = random.choice([index for index, letter in enumerate(text) if letter == ":"])
        opened = random.choice(("[", '{"a":')) * random.choice((100, 3000, 100_000))
        return f"{text[: place + 1]}{opened}{text[place + 1 :]}".encode()
    if kind == "coding":
        return random.choice(("\ufeff", "", "\0")).encode() + text.encode(
            random.choice(("utf-16", "utf-32", "utf-8", "cp037"))
        )
    return text.encode(errors="surrogatepass")
