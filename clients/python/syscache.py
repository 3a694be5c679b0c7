"""A reader of syscache's on-disk format, version 1, written from docs/FORMAT.md alone.

    with syscache.open("/opt/sage", "star-imports") as cache:
        value = cache.get(b"sage.rings")

Promise: what `get` and `scan` hand out is what the builder wrote, for an install that the pointer's witnesses do not
contradict; everything else is an exception that says which of missing, stale, corrupt, untrusted or too new it is, and
why. `NotFound` means that the row key is not in the table, never that bytes were damaged. Nothing here writes, locks
or sets a time, and no length read from a file is believed before it is compared with the file's size.

Not promised: an edit that no witness shows; what docs/FORMAT.md leaves to whoever may write the install.

Lifetimes: keys and values are copies and the caller's to keep. A Reader holds one descriptor (kind table) or none (kind
files) until it is closed, keeps reading its generation when a newer one is published, and may be shared by threads. The
directory of a files generation is not held: it stays for a while after it was superseded, a day by default.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import io
import os
import re
import stat
import struct
import sys
import time
from collections.abc import Iterator
from zlib import crc32

VERSION = 1
TABLE, FILES = 1, 2
FILE, DIRECTORY, LINK, ABSENT = 1, 2, 3, 4
NONE = bytes(32)  # an identity that certifies nothing
UNMAPPED = 65534  # every owner that a user namespace does not know
PAGE, ROWS_PER_ENTRY, FIRST_ROW = 4096, 64, 128
LONGEST_KEY, LONGEST_VALUE = 65535, 1 << 30

join = os.path.join


class Error(Exception):
    """Why there is no answer: `detail` says what was found, `hint` what to do about it."""

    exit = 1
    advice = ""

    def __init__(self, detail: str, advice: str = ""):
        super().__init__(detail)
        self.detail, self.op, self.root, self.cache = detail, "read", "", ""
        self.advice = advice or self.advice

    @property
    def hint(self) -> str:
        return self.advice.format(root=self.root, cache=self.cache)

    def __str__(self) -> str:
        return f"{self.op} {self.cache}: {self.detail}"


class Missing(Error):
    exit, advice = 4, "`syscache --root {root} refresh {cache}` builds it"


class Stale(Error):
    exit, advice = 4, "the install changed: run `syscache --root {root} refresh {cache}`"


class TooNew(Error):
    exit, advice = 4, "a newer syscache wrote it: update this reader"


class Corrupt(Error):
    exit, advice = 6, "`syscache --root {root} refresh {cache}` builds it anew; if it comes back, check the disk"


class Untrusted(Error):
    exit, advice = 7, "only who may write {root} may own or write it, and you and those you name"


class NotFound(KeyError):
    """The table, undamaged, has no such row key."""


# What the kernel says where something else than expected lies; anything not listed is a plain Error.
_MEANING = {
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.ESTALE), Missing),
    **dict.fromkeys((errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EISDIR), Untrusted),
}


@contextlib.contextmanager
def _telling(op: str, root: bytes, cache: str):
    """Name the operation, root and cache in whatever goes wrong inside."""
    try:
        try:
            yield
        except OSError as error:
            where = f"{_show(error.filename)}: " if error.filename else ""
            raise _MEANING.get(error.errno, Error)(f"{where}{error.strerror}") from error
    except Error as error:
        error.op, error.root, error.cache = op, os.fsdecode(root), cache
        raise


def _show(path: bytes) -> str:
    return repr(os.fsdecode(path))  # quoted: a name may hold newlines and need not be UTF-8


# --- Bytes -----------------------------------------------------------------------------------------------------------


class _File(io.FileIO):
    """A regular file, opened without following a link or waiting for a writer; reads stay within the size it had."""

    def __init__(self, path: bytes):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        super().__init__(path, opener=lambda path, _: os.open(path, flags))
        self.path = path
        try:
            self.stat = os.fstat(self.fileno())
        except OSError as error:
            error.filename = path
            raise
        if not stat.S_ISREG(self.stat.st_mode):
            self.close()
            raise OSError(errno.ENXIO, "not a regular file", path)

    def at(self, offset: int, length: int) -> bytes:
        if offset + length > self.stat.st_size:
            raise Corrupt(f"{_show(self.path)} ends too early")
        if length > LONGEST_KEY + LONGEST_VALUE + 7:  # nothing is longer than a row; a sparse file may say otherwise
            raise Corrupt(f"{_show(self.path)} has {length} bytes to read at once")
        data = b""
        try:
            while len(data) < length:  # a network file system may give less at a time
                more = self.some(length - len(data), offset + len(data))
                if not more:
                    raise Corrupt(f"{_show(self.path)} was cut while it was read")
                data += more
        except MemoryError:
            raise Corrupt(f"{_show(self.path)}: {length} bytes do not fit into memory") from None
        return data

    def some(self, length: int, offset: int) -> bytes:
        try:
            return os.pread(self.fileno(), length, offset)
        except OSError as error:
            error.filename = self.path
            raise

    def close(self) -> None:
        with contextlib.suppress(OSError):  # nothing was written that could be lost
            super().close()

    def sha256(self) -> bytes:
        digest, offset = hashlib.sha256(), 0
        while chunk := self.some(1 << 20, offset):
            digest.update(chunk)
            offset += len(chunk)
        return digest.digest()


class _Cursor:
    """Fields one after the other, never beyond `end`."""

    def __init__(self, what: str, data: bytes, offset: int, end: int):
        self.what, self.data, self.offset, self.end = what, data, offset, end

    def take(self, length: int) -> bytes:
        start, self.offset = self.offset, self.offset + length
        self.require(self.offset <= self.end, "lengths do not add up")
        return self.data[start : self.offset]

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "little")

    def name(self, width: int = 2) -> bytes:
        return self.take(self.number(width))

    def require(self, holds: bool, detail: str) -> None:
        if not holds:
            raise Corrupt(f"{self.what}: {detail}")

    def finish(self) -> None:
        self.require(self.offset == self.end, "lengths do not add up")


def _unseal(what: str, magic: bytes, data: bytes) -> _Cursor:
    """A cursor behind the version of data that begins with magic and version and ends with its own CRC-32."""
    cursor = _Cursor(what, data, 0, len(data) - 4)
    cursor.require(cursor.take(8) == magic, "wrong magic")
    version = cursor.number(4)
    cursor.require(crc32(data[:-4]) == int.from_bytes(data[-4:], "little"), "wrong checksum")
    # The pointer's version speaks for all that it names: elsewhere another one is damage.
    if version > VERSION and magic == b"SYSC-PTR":
        raise TooNew(f"{what}: format version {version}, this reader knows {VERSION}")
    cursor.require(version == VERSION, f"format version {version}")
    return cursor


def _sound(path: bytes) -> bool:
    return b"\0" not in path and not {b"", b".", b".."} & set(path.split(b"/"))


# --- Identities and digests ------------------------------------------------------------------------------------------


def _own_identity(st: os.stat_result) -> bytes:
    # Masked: times beyond 64 bits wrap, as they do for a writer with fixed widths, rather than raise.
    fields = (st.st_size, st.st_mtime_ns, st.st_ctime_ns, st.st_ino)
    return struct.pack("<4Q", *(field & (1 << 64) - 1 for field in fields))


def _type(st: os.stat_result) -> int:
    return {stat.S_IFREG: FILE, stat.S_IFDIR: DIRECTORY, stat.S_IFLNK: LINK}.get(stat.S_IFMT(st.st_mode), 0)


def _identity(path: bytes, st: os.stat_result) -> bytes:
    own = _own_identity(st)
    return _listing(path, own, lambda _, st: _own_identity(st)) if _type(st) == DIRECTORY else own


def _content(path: bytes, st: os.stat_result) -> bytes:
    """The SHA-256 of a file's contents or a link's target; of a directory and all else nothing."""
    if _type(st) == FILE:
        with _File(path) as file:
            return file.sha256()
    return hashlib.sha256(os.readlink(path)).digest() if _type(st) == LINK else bytes(32)


def _listing(path: bytes, start: bytes, of) -> bytes:
    digest = hashlib.sha256(start)
    for name in sorted(os.listdir(path)):
        st = os.lstat(join(path, name))
        digest.update(b"ofdl"[_type(st) :][:1] + struct.pack("<H", len(name)) + name + of(join(path, name), st))
    return digest.digest()


ABSENT_SIGHT = ()
SETTLED = 2_000_000_000  # ns: longer than the coarsest granularity of a file system's clock


def _sight(st: os.stat_result, before: int) -> tuple | None:
    """What tells a file from any other later at its place; None of one so young that a later one may look the same."""
    return (st.st_dev, _own_identity(st)) if st.st_ctime_ns <= before - SETTLED else None


def _where(name) -> tuple | None:
    try:
        st = os.stat(name)
        return st.st_dev, st.st_ino
    except OSError:
        return None


def _unmoved(path: bytes, sight: tuple | None) -> bool:
    try:
        st = os.lstat(path)
    except OSError as error:
        return sight == ABSENT_SIGHT and error.errno in (errno.ENOENT, errno.ENOTDIR)
    return sight == (st.st_dev, _own_identity(st))


def _contradiction(root: bytes, witness: tuple) -> str | None:
    """Why the witness does not hold, or None. What cannot be looked at does not hold either."""
    type, path, identity, digest = witness
    full = join(root, path)
    try:
        st = os.lstat(full)
        if type == ABSENT:
            return f"{_show(path)} exists"
        if _type(st) != type:
            return f"{_show(path)} is something else now"
        if identity != NONE and identity == _identity(full, st):
            return None
        now = _listing(full, b"", _content) if type == DIRECTORY else _content(full, st)
        return None if now == digest else f"{_show(path)} changed"
    except OSError as error:
        if type == ABSENT and error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        return f"{_show(path)}: {error.strerror}"


# --- The table -------------------------------------------------------------------------------------------------------


class _Table:
    def __init__(self, file: _File, size: int, key: bytes):
        if file.stat.st_size != size:
            raise Corrupt(f"table: it has {file.stat.st_size} bytes, the pointer says {size}")
        head = file.at(0, FIRST_ROW)
        cursor = _unseal("table", b"SYSC-TAB", head)
        length, named, whole, n, e, m, t, l, per_entry = struct.unpack_from("<I32s5Q2I", head, 12)
        self.file, self.rows, self.end, self.homes, self.slots, self.reach = file, n, e, m, t, l
        self.entries = -(-n // ROWS_PER_ENTRY)
        self.index = 8 * t + 4 * self.entries
        pages = -(-self.index // PAGE)
        cursor.require(named == key, "it belongs to another generation")
        cursor.require(length == FIRST_ROW and per_entry == ROWS_PER_ENTRY and not any(head[96:124]), "unknown header")
        cursor.require(e % 8 == 0 and FIRST_ROW + 16 * n <= e and (n > 0 or e == FIRST_ROW), "rows do not add up")
        cursor.require(m == n + n // 4 + 1 and m <= t <= m + n and l < t, "slots do not add up")
        cursor.require(whole == size == e + self.index + 4 * pages, "sizes do not add up")
        self.page = (-1, b"")

    def get(self, key: bytes) -> bytes:
        """The row is at the first slot of the window that is not below (hash, key): find that by halves.

        A slot after an empty one has a greater hash than one whose home is before both, so "empty or not below" never
        turns false again within the window. Every slot looked at comes from a page whose checksum was verified.
        """
        hash = crc32(key)
        low = hash * self.homes >> 32
        high = min(low + self.reach + 1, self.slots)
        while low < high:
            middle = (low + high) // 2
            slot = self.slot(middle)
            below = slot != 0 and slot >> 32 < hash
            if slot != 0 and slot >> 32 == hash:
                found, value, _ = self.row(8 * (slot & 0xFFFFFFFF))
                if found == key:
                    return value
                below = found < key
            low, high = (middle + 1, high) if below else (low, middle)
        raise NotFound(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        low, high = 0, self.entries
        while low < high:
            middle = (low + high) // 2
            if self.row(8 * self.entry(middle))[0] <= prefix:
                low = middle + 1
            else:
                high = middle
        offset = 8 * self.entry(low - 1) if low else FIRST_ROW
        while offset < self.end:
            key, value, offset = self.row(offset)
            if key.startswith(prefix):
                yield key, value
            elif key > prefix:
                return

    def verify(self) -> None:
        """Rows, order and slots are what a writer of these rows must have written: so every row can be found."""
        slots, last, offset = [], None, FIRST_ROW
        while offset < self.end:
            start, n = offset, len(slots)
            key, _, offset = self.row(start)
            self.require(last is None or last < key, f"row at {start}: not in order")
            self.require(n < self.rows, "more rows than it says")
            self.require(n % ROWS_PER_ENTRY or self.entry(n // ROWS_PER_ENTRY) == start // 8, f"order of row {n}")
            slots.append(crc32(key) << 32 | start // 8)
            last = key
        self.require(len(slots) == self.rows, "fewer rows than it says")
        place, reach, want = -1, 0, [0] * self.slots
        for slot in sorted(slots):  # rows of one hash: by offset, which is by key
            home = (slot >> 32) * self.homes >> 32
            place = max(home, place + 1)
            reach = max(reach, place - home)
            self.require(place < self.slots, "too few slots")
            want[place] = slot
        self.require(reach == self.reach, "wrong largest displacement")
        for i, slot in enumerate(want):  # slots and order are the index: this has read every page
            self.require(self.slot(i) == slot, f"slot {i} is wrong")

    def slot(self, i: int) -> int:
        return self.indexed(8 * i, 8)

    def entry(self, i: int) -> int:
        return self.indexed(8 * self.slots + 4 * i, 4)

    def indexed(self, offset: int, width: int) -> int:
        """A number of the index. The last page is kept: a look-up's slots, and an order's end, are close together."""
        number, offset = divmod(offset, PAGE)
        held, page = self.page
        if held != number:
            page = self.file.at(self.end + PAGE * number, min(PAGE, self.index - PAGE * number))
            want = self.file.at(self.end + self.index + 4 * number, 4)
            self.require(crc32(page) == int.from_bytes(want, "little"), f"index page {number}: wrong checksum")
            self.page = number, page  # one assignment: threads see one page or the other
        return int.from_bytes(page[offset : offset + width], "little")

    def row(self, offset: int) -> tuple[bytes, bytes, int]:
        """A row's key and value, and where the next one begins; only after its checksum was found right."""
        if not FIRST_ROW <= offset <= self.end - 16:
            raise Corrupt(f"row at {offset}: outside the rows")
        head = self.file.at(offset, 12)
        want, k, v = struct.unpack("<3I", head)
        end = offset + (12 + k + v + 7 & ~7)
        if k > LONGEST_KEY or v > LONGEST_VALUE or end > self.end:
            raise Corrupt(f"row at {offset}: impossible lengths")
        body = self.file.at(offset + 12, end - offset - 12)
        if crc32(body, crc32(head[4:])) != want or any(body[k + v :]):
            raise Corrupt(f"row at {offset}: wrong checksum or padding")
        return body[:k], body[k : k + v], end

    def require(self, holds: bool, detail: str) -> None:
        if not holds:
            raise Corrupt(f"table: {detail}")


# --- The reader ------------------------------------------------------------------------------------------------------


def open(root, cache: str, *, cache_dirs=None, allow_stale: bool = False, trust_uids=()) -> Reader:
    """The fresh, trusted generation of a cache, or an Error that says why not.

    cache_dirs stand in for <root>/var/cache/syscache and <root>/usr/lib/syscache. allow_stale: serve what is there
    although the install changed, and say so in `stale`. trust_uids: owners to trust besides the usual.
    """
    with _telling("open", os.fsencode(root), cache):
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", cache):
            raise Missing(f"{cache!r} cannot be the name of a cache", "`syscache --root {root} status` lists them")
    return Reader(root, cache, cache_dirs, allow_stale, trust_uids)


def _secure() -> bool:
    """AT_SECURE: whoever ran this, and set its environment, may do less than it may.

    The ids do not tell of file capabilities. The kernel keeps users from looking into a process that it marked so, and
    be it their own: not to be let read this file is an answer.
    """
    if os.geteuid() != os.getuid() or os.getegid() != os.getgid():
        return True
    try:
        with io.open("/proc/self/auxv", "rb") as file:
            return any(key == 23 and value for key, value in struct.iter_unpack("@2L", file.read()))
    except (OSError, struct.error) as error:  # without /proc, or not on Linux, the ids have to do
        return isinstance(error, PermissionError)


def _own_places(root: bytes) -> list[bytes]:
    return [join(root, b"var/cache/syscache"), join(root, b"usr/lib/syscache")]


def _places(root: bytes, given) -> list[tuple[bytes, bool]]:
    """The cache_dirs in order, each with whether it is one of the two under the root."""
    own = _own_places(root)
    named = os.environb.get(b"SYSCACHE_CACHE_DIR", b"")
    if given is None and os.path.isabs(named) and not _secure():
        given = [named]
    if given is None:
        return [(path, True) for path in own]
    real = [os.path.realpath(path) for path in own]
    resolved = [os.path.realpath(os.fsencode(path)) for path in given]
    return [(path, path in real) for path in resolved]


class Reader:
    """One generation: `kind` is "table" or "files", `generation` its key, `stale` None or why it should not be served.

    `dir` is the directory of a files generation, None for a table; `rows` is 0 for files.
    """

    def __init__(self, root, cache: str, cache_dirs, allow_stale: bool, trust_uids):
        cache_dirs, trust_uids = list(cache_dirs) if cache_dirs is not None else None, frozenset(trust_uids)
        self._names = [root, *(cache_dirs or [])]  # what may be symbolic links, and lead elsewhere by and by
        self._where = [_where(name) for name in self._names]
        self._root, self._cache = os.path.realpath(os.fsencode(root)), cache
        self._places, self._trust_uids = _places(self._root, cache_dirs), trust_uids
        self._allow_stale, self._again = allow_stale, (root, cache, cache_dirs, allow_stale, trust_uids)
        self._table = None
        with self._telling("open"):
            for _ in range(2):  # a refresher may come between pointer and generation: begin again, once
                try:
                    self._read_pointer()
                    came_between = self._open_generation()
                except OSError as error:
                    if error.errno != errno.ESTALE:  # what another host removed
                        raise
                    came_between = Missing(f"{_show(error.filename)}: {error.strerror}")
                if not came_between:
                    return
            raise came_between

    def get(self, key: bytes) -> bytes:
        """The value of a row key, or NotFound."""
        with self._telling("get"):
            return self._rows().get(key)

    def scan(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """The rows whose keys begin with prefix, in the order of their bytes; ends with an exception or completely."""
        with self._telling("scan"):
            yield from self._rows().scan(prefix)

    def verify(self) -> None:
        """Check every byte of the generation against its digests, and that nothing else lies in it."""
        with self._telling("verify"):
            try:
                outputs = self._read_meta()
                for path, output in outputs.items():
                    self._verify_output(path, *output)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise Corrupt(f"{_show(error.filename)} is missing") from error
            if self._table:
                self._table.verify()
                return
            for path, _ in _tree(os.fsencode(self.dir)):
                if join(b"files", path) not in outputs:
                    raise Corrupt(f"{_show(join(b'files', path))} does not belong to the generation")

    def current(self) -> bool:
        """Whether `open`, asked the same, would now give this generation, as fresh or as stale as it is.

        Where it would give none, its Error. While nothing moves this costs an lstat of the pointer and the check of
        the witnesses: a program that runs for long asks before each use, and opens anew if this is not True.
        """
        seen, marked, (*_, witnesses, directories) = self._seen
        if self._where != [_where(name) for name in self._names]:
            return self._is(Reader(*self._again))
        if not all(_unmoved(*sight) for sight in seen):
            return self._look_again()
        if marked:
            return True
        with self._telling("open"):
            why = self._contradicted(witnesses, directories)
            if why and not self._allow_stale:
                raise Stale(why)
            return bool(why) == bool(self.stale)

    def _look_again(self) -> bool:
        """current, after something moved or might have. The generation is opened only if the pointer is another."""
        now = object.__new__(Reader)
        now.__dict__ = {name: value for name, value in self.__dict__.items() if name != "_root_stat"}
        with self._telling("open"):
            now._read_pointer()
        return self._is(now if now._seen[2] == self._seen[2] else Reader(*self._again))

    def _is(self, now: Reader) -> bool:
        if now._table is not self._table:
            now.close()
        same = (now._key, now._meta, bool(now.stale)) == (self._key, self._meta, bool(self.stale))
        if same and now._root == self._root:
            self._seen = now._seen  # one assignment: threads see the one or the other
        return same

    def close(self) -> None:
        if self._table:
            self._table.file.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _telling(self, op: str):
        return _telling(op, self._root, self._cache)

    def _rows(self) -> _Table:
        if not self._table:
            raise Error("a cache of kind files has no rows", "`list` names its files, `path` their directory")
        return self._table

    # Trust

    @functools.cached_property
    def _root_stat(self) -> os.stat_result:
        return os.stat(self._root)

    def _trust(self, st: os.stat_result, path: bytes, inside: bool, is_type=stat.S_ISREG) -> None:
        """Who may write the root may write its cache; nobody else."""
        self._trust_alone(st, path, inside, is_type)
        if not self._owns(st.st_uid, inside):
            self._trust_above(path)

    def _trust_alone(self, st: os.stat_result, path: bytes, inside: bool, is_type) -> None:
        if not is_type(st.st_mode):
            raise Untrusted(f"{_show(path)} is not what it should be: {stat.filemode(st.st_mode)}")
        if st.st_mode & 0o002:
            raise Untrusted(f"{_show(path)} may be written by others")
        if not self._owns(st.st_uid, inside) and not (inside and self._shared_with(st.st_gid)):
            raise Untrusted(f"{_show(path)} belongs to uid {st.st_uid}")
        if st.st_mode & 0o020 and not self._shared_with(st.st_gid):
            raise Untrusted(f"{_show(path)} may be written by group {st.st_gid}")

    def _trust_above(self, path: bytes) -> None:
        """Nobody outside the root's group, to which path belongs, can have put it there.

        Others can make a file of the group, in a set-group-id directory that is open to all.
        """
        if self._root_stat.st_mode & 0o002:
            raise Untrusted(f"{_show(self._root)} may be written by others")
        if not any(path.startswith(place + b"/") for place in _own_places(self._root)):
            raise Untrusted(f"{_show(path)} is reached through a symbolic link")
        parts = path[len(self._root.rstrip(b"/")) + 1 :].split(b"/")
        for i in range(1, len(parts)):
            directory = join(self._root, *parts[:i])
            self._trust_alone(os.lstat(directory), directory, True, stat.S_ISDIR)

    def _owns(self, uid: int, inside: bool) -> bool:
        if uid == UNMAPPED:  # might be anybody
            return inside and self._root_stat.st_uid == UNMAPPED
        return uid in {0, os.geteuid(), *self._trust_uids} or uid == self._root_stat.st_uid

    def _shared_with(self, gid: int) -> bool:
        return bool(self._root_stat.st_mode & 0o020) and gid == self._root_stat.st_gid != UNMAPPED

    def _home(self, home: bytes, inside: bool) -> os.stat_result | None:
        """A cache's directory, trusted before anything in it is opened; None if it is not there."""
        try:
            st = os.lstat(home)
        except (FileNotFoundError, NotADirectoryError):
            return None
        self._trust(st, home, inside, stat.S_ISDIR)
        return st

    # The pointer

    def _read_pointer(self) -> None:
        before, passed = time.time_ns(), []
        for self._place, (place, inside) in enumerate(self._places):
            home = join(place, self._cache.encode())
            st = self._home(home, inside)
            # `current` twice: a publish between the first two looks renames one and removes the other.
            for name in (b"current", b"stale", b"current") if st else ():
                try:
                    if name == b"stale" and not self._allow_stale:
                        os.lstat(join(home, name))
                        raise Stale(f"marked stale in {_show(home)}")
                    file = _File(join(home, name))
                except FileNotFoundError:
                    continue
                with file:
                    self._trust(file.stat, file.path, inside)
                    witnesses, directories = self._decode_pointer(file, inside)
                if name == b"stale":
                    self.stale, passed = "marked stale", [*passed, (join(home, b"current"), ABSENT_SIGHT)]
                else:
                    self.stale = self._contradicted(witnesses, directories)
                if self.stale and not self._allow_stale:
                    raise Stale(self.stale)
                seen = [*passed, (file.path, _sight(file.stat, before))]
                pointer = self._place, self._key, self._meta, self._size, witnesses, directories
                self._seen = seen, name == b"stale", pointer
                return
            passed.append((home, _sight(st, before) if st else ABSENT_SIGHT))
        if not os.path.exists(self._root):
            raise Missing(f"the root {_show(self._root)} does not exist", "name the directory of an install")
        raise Missing("no pointer in " + " or ".join(_show(place) for place, _ in self._places))

    def _decode_pointer(self, file: _File, inside: bool) -> tuple[list, list]:
        head = file.at(0, min(file.stat.st_size, 4096))
        length = int.from_bytes(head[12:16], "little")
        _Cursor("pointer", head, 0, len(head)).require(24 <= length <= len(head), "impossible length")
        cursor = _unseal("pointer", b"SYSC-PTR", head[:length])
        cursor.require(length >= 113, "impossible length")
        cursor.offset = 16
        kind, flags, count, zero, size, section, self._key, self._meta = struct.unpack("<BBHIQQ32s32s", cursor.take(88))
        cursor.require(kind in (TABLE, FILES) and flags <= 1 and zero == 0, "unknown kind or flags")
        cursor.require(bool(section) == bool(flags) and length + section == file.stat.st_size, "sizes do not add up")
        cursor.require(kind == TABLE or size == 0, "files with a table's size")
        cursor.require(cursor.name() == self._cache.encode(), "it belongs to another cache")
        root = cursor.name()
        absolute = root == b"/" or root.startswith(b"/") and _sound(root[1:])
        cursor.require(root == b"" or absolute, f"root {_show(root)} is not absolute")
        witnesses = [self._decode_witness(cursor) for _ in range(count)]
        cursor.finish()
        directories = self._decode_section(file.at(length, section)) if section else []
        if root != self._root and (root or not inside):
            raise Missing(f"the pointer is for {_show(root)}" if root else "the pointer does not name its root")
        self.kind, self.generation, self._size = ("table", "files")[kind - 1], self._key.hex(), size
        return witnesses, directories

    def _decode_witness(self, cursor: _Cursor) -> tuple:
        type, flags, path = cursor.number(1), cursor.number(1), cursor.name()
        cursor.require(FILE <= type <= ABSENT and flags <= (type != ABSENT) and _sound(path), "impossible witness")
        identity, digest = (NONE, NONE) if type == ABSENT else (cursor.take(32), cursor.take(32))
        cursor.require((flags == 1) == (identity != NONE), "impossible witness")
        return type, path, identity, digest

    def _decode_section(self, data: bytes) -> list:
        cursor = _Cursor("stat section", data, 0, len(data) - 4)
        count, files = cursor.number(4), cursor.number(4)
        cursor.require(crc32(data[:-4]) == int.from_bytes(data[-4:], "little"), "wrong checksum")
        directories, last = [], None
        for _ in range(count):
            path, checked, identity, names = cursor.name(), cursor.number(1), cursor.take(32), []
            sound = path in (b"", b"/") or _sound(path.removeprefix(b"/"))
            cursor.require(sound and (last is None or last < path), "impossible or unsorted path")
            cursor.require(checked <= 1 and (checked == 1 or identity == NONE), "impossible identity")
            for _ in range(cursor.number(4)):
                name = cursor.name(1)
                sorted_ = not names or names[-1][0] < name
                cursor.require(sorted_ and b"/" not in name and _sound(name), "impossible or unsorted name")
                names.append((name, cursor.take(32)))
            files, last = files - len(names), path
            directories.append((path, identity if checked else None, names))
        cursor.require(files == 0, "files do not add up")
        cursor.finish()
        return directories

    def _contradicted(self, witnesses: list, directories: list) -> str | None:
        for witness in witnesses:
            if why := _contradiction(self._root, witness):
                return f"witness {why}"
        for directory, own, names in directories:
            if directory and os.path.islink(join(self._root, directory)):
                return f"{_show(directory)} is a symbolic link now"
            for name, identity in [(b"", own)] * (own is not None) + names:
                path = join(directory, name) if name else directory
                try:
                    # Zeros stand for times that could not certify anything.
                    if identity == NONE or identity != _own_identity(os.lstat(join(self._root, path))):
                        return f"input {_show(path)} changed"
                except OSError as error:
                    return f"input {_show(path)}: {error.strerror}"
        return None

    # The generation

    def _open_generation(self) -> Error | None:
        """What a refresher that came between may have caused is returned; then nothing is held open."""
        gone: Error = Missing(f"generation {self.generation} is gone")
        for i in range(len(self._places)):  # the pointer's own first
            place, inside = self._places[(self._place + i) % len(self._places)]
            home = join(place, self._cache.encode())
            try:
                if i > 0 and not self._home(home, inside):
                    continue
            except Untrusted as error:
                gone = error  # unless another one has it
                continue
            self._directory, self._inside = join(home, b"g", self.generation.encode()), inside
            path = join(self._directory, self.kind.encode())
            try:
                if self.kind == "files":
                    self._trust(os.lstat(path), path, inside, stat.S_ISDIR)
                    self.dir, self.rows = os.fsdecode(path), 0
                    return None
                file = self._open(b"table")
            except (FileNotFoundError, NotADirectoryError):
                continue
            try:
                self._table = _Table(file, self._size, self._key)
                self.dir, self.rows = None, self._table.rows
                return None
            except BaseException as error:
                file.close()
                if isinstance(error, Corrupt):
                    return error
                raise
        return gone

    def _read_meta(self) -> dict[bytes, tuple]:
        with self._open(b"meta") as meta, self._open(b"manifest") as manifest:
            data, manifest_sha256 = meta.at(0, meta.stat.st_size), manifest.sha256()
        cursor = _unseal("meta", b"SYSC-MET", data)
        cursor.require(hashlib.sha256(data).digest() == self._meta, "not the one that the pointer names")
        kind, key, digest, rows, count = struct.unpack("<B3x32s32sQI", cursor.take(80))
        cursor.require(key == self._key and data[13:16] == bytes(3), "it belongs to another generation")
        cursor.require(kind == (TABLE if self._table else FILES) and rows == self.rows, "another kind or size")
        cursor.require(digest == manifest_sha256, "the manifest is another one")
        outputs, last = {}, b""
        for _ in range(count):
            type, zero, mode, size, digest = struct.unpack("<BBHQ32s", cursor.take(44))
            path = cursor.name()
            modes = {FILE: (0o644, 0o755), DIRECTORY: (0o755,), LINK: (0o777,)}.get(type, ())
            cursor.require(zero == 0 and mode in modes and (type != DIRECTORY or size == 0), "impossible output")
            cursor.require(_sound(path) and last < path, "impossible or unsorted path")
            outputs[path], last = (type, mode, size, digest), path
        cursor.finish()
        if self._table:
            fit = b"table" in outputs and outputs.keys() <= {b"table", b"origins"}
            fit = fit and all(type == FILE for type, *_ in outputs.values())
        else:
            fit = all(path == b"files" or path.startswith(b"files/") for path in outputs)
            fit = fit and b"files" in outputs and outputs[b"files"][0] == DIRECTORY
        cursor.require(fit, "outputs of another kind")
        return outputs

    def _verify_output(self, path: bytes, type: int, mode: int, size: int, digest: bytes) -> None:
        full = join(self._directory, path)
        held = self._table.file if path == b"table" and self._table else None
        st = held.stat if held else os.lstat(full)
        is_type = {FILE: stat.S_ISREG, DIRECTORY: stat.S_ISDIR, LINK: stat.S_ISLNK}[type]
        if not is_type(st.st_mode):
            raise Corrupt(f"{_show(path)} is something else")
        if type != LINK:  # a link's own bits mean nothing
            self._trust(st, full, self._inside, is_type)
            shared = 0o020 if type == DIRECTORY and self._shared_with(st.st_gid) else 0
            if st.st_mode & 0o777 not in (mode, mode | shared):
                raise Corrupt(f"{_show(path)} has mode {st.st_mode & 0o777:04o}, not {mode:04o}")
        now = held.sha256() if held else _content(full, st)
        if (st.st_size if type != DIRECTORY else 0) != size or now != digest:
            raise Corrupt(f"{_show(path)} is not what was published")

    def _open(self, name: bytes) -> _File:
        file = _File(join(self._directory, name))
        try:
            self._trust(file.stat, file.path, self._inside)
        except BaseException:
            file.close()
            raise
        return file


def _tree(top: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    """Everything below a directory, with its lstat; a stack, so that no depth exhausts the interpreter's."""
    pending = [b""]
    while pending:
        directory = pending.pop()
        for name in os.listdir(join(top, directory)):
            path = join(directory, name)
            st = os.lstat(join(top, path))
            yield path, st
            if stat.S_ISDIR(st.st_mode):
                pending.append(path)


# --- The command: what it alone needs is imported here, since every program that reads a cache pays for the rest ------


def _json_line(key: bytes, value: bytes) -> bytes:
    import base64
    import json

    def base64_text(data):
        return json.dumps(base64.b64encode(data).decode()).encode()

    try:
        line = b'{"key": ' + json.dumps(key.decode(), ensure_ascii=False).encode()
    except UnicodeDecodeError:
        line = b'{"key_base64": ' + base64_text(key)
    try:
        # Only whether it is JSON matters: `len` makes no number of long digits, `int` refuses NaN and Infinity.
        json.loads(value.decode(), parse_int=len, parse_float=len, parse_constant=int)
        # Outside of strings, where JSON has no raw line ends, a blank is as good; and a row is one line.
        return line + b', "value": ' + value.replace(b"\r", b" ").replace(b"\n", b" ") + b"}\n"
    except (ValueError, RecursionError):
        return line + b', "value_base64": ' + base64_text(value) + b"}\n"


def _answer(reader: Reader, command: str, argument: str | None) -> list[bytes]:
    """Everything before the first byte is printed: a failure leaves nothing on stdout."""
    operand = os.fsencode(argument or "")
    if command == "get":
        return [reader.get(operand) + b"\n"]
    if command == "verify":
        reader.verify()
        return [f"{reader.generation} ok\n".encode()]
    if reader.kind == "table":
        if command == "path":
            raise Error("a cache of kind table has no directory", "`list` and `get` read its rows")
        return [_json_line(*row) for row in reader.scan(operand)]
    if command == "path":
        return [os.fsencode(reader.dir) + b"\n"]
    files = (path for path, st in _tree(os.fsencode(reader.dir)) if not stat.S_ISDIR(st.st_mode))
    return [path + b"\n" for path in sorted(files) if path.startswith(operand)]


def main(arguments=None) -> int:
    import argparse

    parser = argparse.ArgumentParser(prog="syscache", description="Read a syscache, in any root, without its tools.")
    parser.add_argument("--root", default="/", metavar="DIR", help="the install root (default: %(default)s)")
    parser.add_argument("--cache-dir", metavar="DIR", help="look here instead of in <root>/var/cache/syscache")
    commands = parser.add_subparsers(dest="command", required=True, metavar="get|list|path|verify")
    for name, operand, about in (
        ("get", "ROWKEY", "print the value of a row key"),
        ("list", "PREFIX", "print rows as JSON lines, or the paths of files"),
        ("path", None, "print the directory of a cache of kind files"),
        ("verify", None, "check every byte of the generation"),
    ):
        command = commands.add_parser(name, help=about, description=about)
        command.add_argument("cache", metavar="CACHE")
        if operand:
            command.add_argument("argument", metavar=operand, nargs="?" if name == "list" else None)
    given = parser.parse_args(arguments)

    def fail(status: int, message, hint: str) -> int:
        print(f"syscache: {message}" + f"\nhint: {hint}" * bool(hint), file=sys.stderr)
        return status

    try:
        with _telling(given.command, os.fsencode(given.root), given.cache):
            cache_dirs = [given.cache_dir] if given.cache_dir else None
            with open(given.root, given.cache, cache_dirs=cache_dirs) as reader:
                answer = _answer(reader, given.command, getattr(given, "argument", None))
    except NotFound as error:
        return fail(3, f"get {given.cache}: row key not found: {_show(error.args[0])}", "`list` shows the row keys")
    except Error as error:
        return fail(error.exit, error, error.hint)
    try:
        with io.open(1, "wb", closefd=False) as out:
            out.writelines(answer)
    except OSError as error:
        return fail(1, f"write: {error.strerror}", "")
    return 0


if __name__ == "__main__":
    sys.exit(main())
