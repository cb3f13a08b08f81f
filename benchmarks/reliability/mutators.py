"""Ways to damage a file: bytes, lines, columns, characters, and values inside JSON."""

from __future__ import annotations

import codecs
import json
import random
import re
from collections.abc import Callable
from typing import Any

Mutator = Callable[[bytes, random.Random], bytes]

STRANGE = (
    "\0", "\ufeff", "\r", "\r\n", "\n", "\t", " ", "\x0b", "\x1f", "\x85", "\xa0", "\u2028",
    "\u200b", "\u200d", "\u202e", "\u0301", "\ufffd", "\U0001f468\u200d\U0001f469", "שלום", "ß",
    '"', "'", "\\", "\\ud800", "\\u0000", ",", "{", "}", "[", "]", "#", "=", "-", "O", "B-",
    "I-PER", "U-", "x" * 10_000, "\u200b" * 50,
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 3, 0.5, 1.0, -7.25, 1e300, float("nan"), float("inf"), 10**30,
    "", " ", "-1", "x", "\u200b", "\ud83d", "a\0b", [], [None], ["a"], [[1, 2]], {}, {"text": "x"},
)  # fmt: skip

SETTINGS = (
    b"0", b"-1", b"1", b"2.5", b"nan", b"inf", b"9" * 5000, b"true", b"false", b"1979-05-27",
    b'""', b'" "', b'"~nobody/x"', b'"a\\u0000b"', b'"/"', b'".."', b'"' + b"x" * 300 + b'"',
    b"[]", b"[1]", b'["a", "a"]', b"{}", b'{ path = "train.tsv" }', b'"hex"', b'"utf-16"', b'"\\n"',
    b'"SL"', b'"QA"', b'"C"', b'"test"', b'"train.json"', b'"first 9/8"', b'{ kind = 1 }',
)  # fmt: skip


def flip_bit(data: bytes, draw: random.Random) -> bytes:
    """One bit of one byte."""
    place = draw.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :]


def delete(data: bytes, draw: random.Random) -> bytes:
    """Some bytes vanish."""
    place = draw.randrange(len(data))
    return data[:place] + data[place + draw.choice([1, 1, 2, 5, 40]) :]


def insert_bytes(data: bytes, draw: random.Random) -> bytes:
    """Some bytes come in."""
    place = draw.randrange(len(data) + 1)
    return data[:place] + draw.randbytes(draw.choice([1, 1, 2, 8])) + data[place:]


def insert_character(data: bytes, draw: random.Random) -> bytes:
    """A control, invisible, combining or very long character string, between characters."""
    place = draw.randrange(len(data) + 1)
    while place < len(data) and data[place] & 0xC0 == 0x80:
        place += 1
    return data[:place] + draw.choice(STRANGE).encode("utf-8", "surrogatepass") + data[place:]


def truncate(data: bytes, draw: random.Random) -> bytes:
    """The end is missing, seldom all."""
    return data[: draw.randrange(len(data))]


def swap_lines(data: bytes, draw: random.Random) -> bytes:
    """Two lines change places."""
    lines = data.split(b"\n")
    one, other = draw.randrange(len(lines)), draw.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"\n".join(lines)


def double_line(data: bytes, draw: random.Random) -> bytes:
    """A line occurs twice."""
    lines = data.split(b"\n")
    place = draw.randrange(len(lines))
    return b"\n".join([*lines[:place], lines[place], *lines[place:]])


def drop_lines(data: bytes, draw: random.Random) -> bytes:
    """A line vanishes, or all empty ones."""
    lines = data.split(b"\n")
    if draw.random() < 0.2:
        return b"\n".join(line for line in lines if line)
    place = draw.randrange(len(lines))
    return b"\n".join([*lines[:place], *lines[place + 1 :]])


def swap_columns(data: bytes, draw: random.Random) -> bytes:
    """The columns of one line, or of all, are in reverse order."""
    lines = data.split(b"\n")
    chosen = range(len(lines)) if draw.random() < 0.2 else [draw.randrange(len(lines))]
    for place in chosen:
        lines[place] = b"\t".join(reversed(lines[place].split(b"\t")))
    return b"\n".join(lines)


def ragged(data: bytes, draw: random.Random) -> bytes:
    """A line loses a column or gets one more, or its separator is another."""
    lines = data.split(b"\n")
    place = draw.randrange(len(lines))
    fields = lines[place].split(b"\t")
    if draw.random() < 0.4:
        lines[place] = b" ".join(fields)
    elif draw.random() < 0.5:
        fields.insert(draw.randrange(len(fields) + 1), draw.choice([b"", b"x", b"O"]))
        lines[place] = b"\t".join(fields)
    else:
        del fields[draw.randrange(len(fields))]
        lines[place] = b"\t".join(fields)
    return b"\n".join(lines)


def other_line_ends(data: bytes, draw: random.Random) -> bytes:
    """All line ends, or one, become those of Windows or of old Macs."""
    end = draw.choice([b"\r\n", b"\r", b"\r\r\n"])
    if draw.random() < 0.5:
        return data.replace(b"\n", end)
    places = [match.start() for match in re.finditer(b"\n", data)] or [0]
    place = draw.choice(places)
    return data[:place] + end + data[place + 1 :]


def other_encoding(data: bytes, draw: random.Random) -> bytes:
    """The whole file in another encoding, or with a byte order mark."""
    if draw.random() < 0.3:
        return codecs.BOM_UTF8 + data
    name = draw.choice(["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-32"])
    return data.decode(errors="replace").encode(name, errors="replace")


def change_number(data: bytes, draw: random.Random) -> bytes:
    """A number becomes another one."""
    places = list(re.finditer(rb"-?\d+", data))
    if not places:
        return data
    match = draw.choice(places)
    near = str(int(match[0][:9]) + draw.choice([-3, -1, 1, 2, 20])).encode()
    value = draw.choice([near, near, near, b"-1", b"0", b"1.5", b"1e9", b"9" * 5000, b"null"])
    return data[: match.start()] + value + data[match.end() :]


def change_value(data: bytes, draw: random.Random) -> bytes:
    """A value inside JSON becomes another, a key vanishes or gets another name."""
    try:
        lines = [data] if data.startswith(b"{\n") else data.split(b"\n")
        place = draw.choice([number for number, line in enumerate(lines) if line])
        value = json.loads(lines[place])
        holders = list(_holders(value))
        holder = draw.choice(holders)
        key = draw.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        change = draw.random()
        if isinstance(holder, dict) and change < 0.15:
            holder[draw.choice(["label", "text", "answers", "Key"])] = holder.pop(key)
        elif change < 0.3:
            del holder[key]
        else:
            holder[key] = draw.choice(VALUES)
        lines[place] = json.dumps(value).encode()
        return b"\n".join(lines)
    except (ValueError, IndexError, RecursionError):  # no JSON any more
        return insert_character(data, draw)


def _holders(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    below = [holder for each in inner for holder in _holders(each)]
    return [value, *below] if inner else below


def change_setting(data: bytes, draw: random.Random) -> bytes:
    """A value in a TOML file becomes another."""
    places = list(re.finditer(rb"(?<== )[^,\n}]+", data))
    if not places:
        return data
    match = draw.choice(places)
    return data[: match.start()] + draw.choice(SETTINGS) + data[match.end() :]


def nest(data: bytes, draw: random.Random) -> bytes:
    """Thousands of brackets."""
    place = draw.randrange(len(data) + 1)
    return data[:place] + draw.choice([b"[", b"{", b'{"a":']) * 5000 + data[place:]


COMMON: tuple[Mutator, ...] = (
    flip_bit, delete, insert_bytes, insert_character, insert_character, truncate, swap_lines,
    double_line, drop_lines, other_line_ends, other_encoding, change_number, change_number, nest,
)  # fmt: skip
TABLES: tuple[Mutator, ...] = (*COMMON, swap_columns, swap_columns, ragged, ragged)
JSONS: tuple[Mutator, ...] = (*COMMON, *[change_value] * 8)
TOML: tuple[Mutator, ...] = (*COMMON, *[change_setting] * 8)


def mutated(data: bytes, ways: tuple[Mutator, ...], draw: random.Random) -> tuple[bytes, list[str]]:
    """The data with one to three mutations, and their names."""
    chosen = draw.choices(ways, k=draw.choice([1, 1, 1, 2, 3]))
    for mutate in chosen:
        if data:
            data = mutate(data, draw)
    return data, [mutate.__name__ for mutate in chosen]
