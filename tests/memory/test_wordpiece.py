"""Texts as numbers: exactly those of the reference, Hugging Face's `tokenizers`, which comes with ChromaDB."""

from __future__ import annotations

import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from orchestra.memory.minilm import TOKENS_MAX, VOCABULARY, words_of
from orchestra.memory.model import folder_of
from orchestra.memory.wordpiece import WordPiece

SMALL = WordPiece(
    "[PAD] [UNK] [CLS] [SEP] un ##want ##ed want runn ##ing , lo ##w [ ] sep".split()  # noqa: SIM905  # shorter so
)
TEXTS = [
    "",
    "Hello wörld → x ─── naïve café İstanbul ΣΑΣ ος 数据库被锁定了 don't $x+1=2 foo_bar",
    "\x1c\x85\u200b\u2028a\tb\r\nc\u00a0d \u3000e\ufffd\x00",
    "a" * 100 + " " + "a" * 101 + " 🦀 e\u0301 ﬁ Ⅷ ｆｕｌｌ",
    "word " * 400,
]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", [2, 3]),
        ("UNwanted, running", [2, 4, 5, 6, 10, 8, 9, 3]),
        ("unwanty lo low", [2, 1, 11, 11, 12, 3]),
        ("ｗ 数", [2, 1, 1, 3]),
        ("[SEP]", [2, 13, 15, 14, 3]),
    ],
)
def test_words_are_cut_into_the_longest_pieces_and_marks_in_a_text_are_text(text: str, ids: list[int]) -> None:
    assert SMALL.ids(text, count_max=20) == ids


def test_a_long_text_is_cut_off_and_ends_with_the_end_mark() -> None:
    assert SMALL.ids("want " * 100, count_max=5) == [2, 7, 7, 7, 3]


def test_a_vocabulary_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[CLS\], \[SEP\]"):
        WordPiece(["[UNK]", "a"])


@pytest.fixture(scope="module")
def reference(models: Path) -> Any:
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = str(folder_of(models) / VOCABULARY)
    made = tokenizers.BertWordPieceTokenizer(vocabulary, lowercase=True)
    made.enable_truncation(TOKENS_MAX)
    return made


def _lasting(code: int) -> bool:
    """Whether the character is the same since Unicode 3.2: the reference knows none that came after Unicode 8."""
    return unicodedata.category(chr(code)) == unicodedata.ucd_3_2_0.category(chr(code)) not in ("Cn", "Cs")


def _random_texts(count: int) -> list[str]:
    chance = random.Random(5)
    near = [chr(code) for code in range(0x20, 0x500) if _lasting(code)]
    far = [chr(code) for code in range(0x500, 0x110000) if _lasting(code)]

    def char() -> str:
        return chance.choice((chance.choice("abcdefgh  .,-"), chance.choice(near), chance.choice(far)))

    return ["".join(char() for _ in range(chance.randrange(1, 60))) for _ in range(count)]


def test_every_text_gets_the_numbers_of_the_reference(models: Path, reference: Any) -> None:
    ours = words_of(folder_of(models))
    for text in [*TEXTS, *_random_texts(2000)]:
        assert ours.ids(text, count_max=TOKENS_MAX) == reference.encode(text).ids, text
