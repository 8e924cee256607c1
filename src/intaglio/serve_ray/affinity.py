"""Affinity: which replica a request belongs to, so that prompts that begin alike find the pages of others."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

import msgspec

PATHS = ("/v1/chat/completions", "/v1/completions")  # where prompts are remembered
LENGTHS = (1024, 256, 64)  # bytes of a beginning that count; between two of them, the shorter
SLACK = 4  # requests by which the replica of a key may be behind the least busy one, and half as much again


class _Message(msgspec.Struct):
    role: msgspec.Raw = msgspec.Raw(b"")


class _Asked(msgspec.Struct):
    """What decides about a prompt's pages; unread JSON, since only its bytes matter."""

    model: msgspec.Raw = msgspec.Raw(b"")
    cache_salt: msgspec.Raw = msgspec.Raw(b"")
    prompt: msgspec.Raw = msgspec.Raw(b"")
    messages: list[msgspec.Raw] = []


_asked = msgspec.json.Decoder(_Asked)
_message = msgspec.json.Decoder(_Message)


def key(path: str, body: bytes) -> str:
    """A name for how a request begins; "" when it may go anywhere.

    Requests of one conversation have one key, and mostly those whose prompts begin with the same text.
    """
    if path not in PATHS:
        return ""
    try:
        asked = _asked.decode(body)
        opening = _opening(asked.messages) if asked.messages else bytes(asked.prompt)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return ""  # the replica will say what is wrong with it
    length = next((length for length in LENGTHS if length <= len(opening)), len(opening))
    whole = (bytes(asked.model), bytes(asked.cache_salt), opening[:length])
    return blake2b(b"\0".join(whole), digest_size=16).hexdigest() if opening else ""


def _opening(messages: list[msgspec.Raw]) -> bytes:
    """Up to the user's first message: it stays the same while the conversation grows."""
    opening = b""
    for message in messages:
        opening += bytes(message)
        if len(opening) >= LENGTHS[0] or bytes(_message.decode(message).role) == b'"user"':
            break
    return opening


def ranked(key: str, queues: Mapping[str, int]) -> list[str]:
    """Replicas, by name, in the order in which a request is to try them; `queues` are the requests each has.

    Each replica weighs the key for itself (rendezvous hashing): when one comes or goes, only its own share of
    the keys moves. Those that have much more to do than the least busy one come last: pages that need not be
    computed are not worth the wait.
    """
    least = min(queues.values())
    most = least + least // 2 + SLACK
    return sorted(queues, key=lambda name: (queues[name] > most, -_weight(key, name)))


def _weight(key: str, name: str) -> int:
    return int.from_bytes(blake2b(f"{key}\0{name}".encode(), digest_size=8).digest())
