"""Which files and folders of the old protocol are trusted: any process could write them. Pure."""

from __future__ import annotations

import stat
from dataclasses import dataclass

from orchestra.errors import BadFile, UnfinishedFile

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_ROOT = 0


@dataclass(frozen=True, slots=True)
class Trust:
    """Attributes:
    owner: the user (uid) whose files are taken.
    owner_name: what people call that user.
    reader: the user this process runs as, whose folders are as good.
    bytes_max: the largest file that is read.
    """

    owner: int
    owner_name: str
    reader: int
    bytes_max: int

    def check_folder(self, *, mode: int, uid: int, name: str) -> None:
        """Raises:
        BadFile: if others could put files into the folder `name`, or exchange those that are there.
        """
        if uid not in (self.owner, self.reader, _ROOT):
            raise BadFile(f"its folder {name} does not belong to {self.owner_name}")
        if mode & _OTHERS_WRITE:
            raise BadFile(f"others may write its folder {name}; mend it with: chmod go-w {name}")

    def check_file(self, *, mode: int, uid: int, links: int, size: int) -> None:
        """Raises:
        UnfinishedFile: if it has a second name: some writers link a file into its place and then drop the draft.
        BadFile: if it may be somebody else's, or is too large.
        """
        if stat.S_ISLNK(mode):
            raise BadFile("it is a symbolic link; files are only taken where they are")
        if not stat.S_ISREG(mode):
            raise BadFile("it is not a regular file")
        if uid != self.owner:
            raise BadFile(f"it does not belong to {self.owner_name} but to the user {uid}; see --owner")
        if mode & _OTHERS_WRITE:
            raise BadFile("others may write it; let its writer run with umask 022")
        if size > self.bytes_max:
            raise BadFile(f"it is {size} bytes; the limit is {self.bytes_max}")
        if links > 1:
            raise UnfinishedFile("it has a second name (a hard link), through which it can be changed")
