"""Texts as the numbers that a BERT model reads: the uncased WordPiece tokenizer. Pure.

Follows Devlin et al. 2018 (BERT) as Hugging Face's `tokenizers` does it, character by character; a test compares both.
One thing differs on purpose: `[SEP]` and the like in somebody's text are text, not the model's marks.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Final

_WORD_CHARS_MAX: Final = 100  # a longer word is unknown
_UNKNOWN, _BEGIN, _END = "[UNK]", "[CLS]", "[SEP]"
# What separates words: the separators of Unicode, tab and line ends. Other control characters are left out of words.
_RUN: Final = re.compile(r"[^ \t\n\r\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
_PLAIN: Final = re.compile(r"[a-z0-9]+|[!-/:-@\[-`{-~]")
# As `tokenizers` has them; BERT's own code begins the last but two at 2B820.
_CHINESE: Final = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


class WordPiece:
    """A tokenizer with this vocabulary: token by token, in the order of their numbers.

    Raises:
        ValueError: if a token that every text needs is not in the vocabulary.
    """

    def __init__(self, vocabulary: Iterable[str]) -> None:
        self._ids = {token: number for number, token in enumerate(vocabulary)}
        if missing := {_UNKNOWN, _BEGIN, _END} - set(self._ids):
            raise ValueError(f"the vocabulary has no {', '.join(sorted(missing))}")

    def ids(self, text: str, *, count_max: int) -> list[int]:
        """Return the numbers of a text, begin and end mark included; what is beyond `count_max` is cut off."""
        found = [self._ids[_BEGIN]]
        for word in _words(text):
            found += self._pieces(word)
            if len(found) >= count_max:
                break
        return [*found[: count_max - 1], self._ids[_END]]

    def _pieces(self, word: str) -> list[int]:
        """Return the longest pieces that the word is made of, from its begin; the unknown one if it can't be made."""
        if len(word) > _WORD_CHARS_MAX:
            return [self._ids[_UNKNOWN]]
        pieces, begin, mark = [], 0, ""
        while begin < len(word):
            for end in range(len(word), begin, -1):
                number = self._ids.get(mark + word[begin:end])
                if number is not None:
                    pieces.append(number)
                    break
            else:
                return [self._ids[_UNKNOWN]]
            begin, mark = end, "##"
        return pieces


def _words(text: str) -> Iterator[str]:
    """Give the words in lower case, without accents; each punctuation mark and each Chinese character is one."""
    for run in _RUN.finditer(text):
        if run[0].isascii() and run[0].isprintable():
            yield from _PLAIN.findall(run[0].lower())
        else:
            yield from _cut(_normal(run[0]))


def _normal(run: str) -> str:
    kept = []
    for char in run:
        if char == "\ufffd" or unicodedata.category(char) in ("Cc", "Cf", "Co"):
            continue
        kept.append(f" {char} " if _is_chinese(char) else char)
    apart = unicodedata.normalize("NFD", "".join(kept))
    # One by one: the lower case of a final Greek sigma depends on its neighbours otherwise.
    return "".join(char.lower() for char in apart if unicodedata.category(char) != "Mn")


def _cut(run: str) -> Iterator[str]:
    word = ""
    for char in run:
        is_mark = _is_punctuation(char)
        if is_mark or char == " ":
            if word:
                yield word
            word = ""
            if is_mark:
                yield char
        else:
            word += char
    if word:
        yield word


def _is_chinese(char: str) -> bool:
    code = ord(char)
    return any(first <= code <= last for first, last in _CHINESE)


def _is_punctuation(char: str) -> bool:
    """Whether Unicode says so, or ASCII: there, symbols such as + and $ count too."""
    return (char.isascii() and char.isprintable() and not char.isalnum() and char != " ") or unicodedata.category(char)[
        0
    ] == "P"
