"""Events: server-sent events out of bytes, however they were cut into packets."""

from __future__ import annotations

from intaglio.load.failure import Failure

LONGEST = 16 << 20  # bytes of one line


class Events:
    """Works on bytes and on whole lines, so that no character is cut. Lines end with LF or CR LF."""

    def __init__(self) -> None:
        self._rest = b""  # of a line that has not ended
        self._data: list[bytes] = []  # of an event that has not ended

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of every event that ends in this piece. Raises Failure."""
        *lines, self._rest = (self._rest + piece).split(b"\n") if self._rest else piece.split(b"\n")
        if len(self._rest) > LONGEST:
            raise Failure("broken stream", f"a line of more than {LONGEST} bytes")
        found = []
        for line in lines:
            line = line.rstrip(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif line.startswith(b"error:"):  # how older llama.cpp ends a stream that failed
                raise Failure("error in the stream", line[6:].decode(errors="replace"))
            elif not line and self._data:
                found.append(b"\n".join(self._data))
                self._data.clear()
        return found
