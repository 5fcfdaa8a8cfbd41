"""The tree of errors."""

from __future__ import annotations

import errno

import pytest

from orchestra import errors
from orchestra.errors import BY_CODE, OrchestraError, error_of, is_full

ALL = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, OrchestraError)]


def test_every_error_that_is_raised_has_a_code_of_its_own() -> None:
    own = [each for each in ALL if "code" in vars(each)]
    assert len({each.code for each in own}) == len(own)
    leaves = [each for each in ALL if not each.__subclasses__()]
    assert all("code" in vars(each) for each in leaves)
    for each in own:
        assert BY_CODE[each.code] is each


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = [line.strip("│├└─ ").split()[0] for line in (errors.__doc__ or "").splitlines()[2:] if line.strip()]
    assert sorted(drawn) == sorted(each.__name__ for each in ALL)


def test_what_comes_over_the_wire_is_the_same_error_again() -> None:
    for each in ALL:
        if "code" in vars(each):
            again = error_of(each.code, "why")
            assert (type(again), str(again)) == (each, "why")
    assert type(error_of("of a later version", "why")) is OrchestraError


def test_nothing_is_fatal_and_temporary() -> None:
    assert not [each for each in ALL if each.is_fatal and each.is_temporary]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_from_other_trouble_with_files(number: int) -> None:
    assert is_full(OSError(number, "x"))
    assert not is_full(PermissionError(errno.EACCES, "x"))
