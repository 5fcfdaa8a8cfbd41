"""Vectors from a service that speaks the `/v1/embeddings` of OpenAI, as Ollama and many others do."""

from __future__ import annotations

import json
import math
import time
from array import array
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from orchestra.errors import BadOption, EmbedFault, RowRefused
from orchestra.limits import EMBED_CHARS_MAX, EMBED_REPLY_BYTES_MAX, EMBED_WAIT_S

_CHUNK: Final = 1 << 16
_ROW_STATUS: Final = (400, 413, 422)  # the text is to blame, not the service


class Endpoint:
    """A model behind `url` (that ends in `/v1`). Each call ends within its time."""

    def __init__(self, url: str, model: str, *, key: str, wait_s: float = EMBED_WAIT_S) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadOption(f"{url!r} is no address of an embedding service; write http://127.0.0.1:11434/v1")
        self._host = parts.hostname
        self._address = f"{url.rstrip('/')}/embeddings"
        self._model, self._key, self._wait_s = model, key, wait_s

    def embed(self, texts: list[str]) -> list[bytes]:
        """Return a vector of length 1 for each text: little-endian float32.

        Raises:
            EmbedFault: if the service does not answer in time, or not as it should.
            RowRefused: if it refuses these texts.
        """
        found = self._ask({"model": self._model, "input": [text[:EMBED_CHARS_MAX] or " " for text in texts]})
        try:
            rows = sorted(found["data"], key=lambda each: int(each["index"]))
            vectors = [unit(each["embedding"]) for each in rows]
        except (KeyError, TypeError, ValueError) as exc:
            raise EmbedFault(f"{self._host} gave no vectors: {exc}") from exc
        if len(vectors) != len(texts) or len({len(each) for each in vectors}) > 1:
            raise EmbedFault(f"{self._host} gave {len(vectors)} vectors for {len(texts)} texts")
        return vectors

    def _ask(self, body: dict[str, Any]) -> Any:
        request = Request(self._address, json.dumps(body).encode(), {"Content-Type": "application/json"})
        if self._key:  # for this address alone: where it redirects to is somebody else
            request.add_unredirected_header("Authorization", f"Bearer {self._key}")
        deadline = time.monotonic() + self._wait_s
        read = bytearray()
        try:
            with urlopen(request, timeout=self._wait_s) as reply:  # the scheme was looked at above  # nosec B310
                while chunk := reply.read1(_CHUNK):
                    read += chunk
                    if len(read) > EMBED_REPLY_BYTES_MAX:
                        raise EmbedFault(f"{self._host} answers with more than {EMBED_REPLY_BYTES_MAX} bytes")
                    if time.monotonic() > deadline:
                        raise TimeoutError
            return json.loads(read)
        except HTTPError as exc:
            said = f"{self._host} answered {exc.code} {exc.reason}"
            exc.close()
            raise (RowRefused if exc.code in _ROW_STATUS else EmbedFault)(said) from exc
        except TimeoutError as exc:
            raise EmbedFault(f"{self._host} did not answer within {self._wait_s:g} s") from exc
        except URLError as exc:
            if isinstance(exc.reason, TimeoutError):
                raise EmbedFault(f"{self._host} did not answer within {self._wait_s:g} s") from exc
            raise EmbedFault(f"{self._host} can't be reached: {exc.reason}") from exc
        except (OSError, ValueError) as exc:
            raise EmbedFault(f"{self._host} did not answer as it should: {exc}") from exc


def unit(numbers: list[Any]) -> bytes:
    """Return a vector with length 1 as little-endian float32.

    Raises:
        ValueError: if it has no direction.
    """
    values = [float(each) for each in numbers]
    length = math.sqrt(math.fsum(each * each for each in values))
    if not values or not math.isfinite(length) or length == 0:
        raise ValueError("a vector without a direction")
    return array("f", [each / length for each in values]).tobytes()
