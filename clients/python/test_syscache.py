"""Tests of the reader, against a writer of their own that knows docs/FORMAT.md and nothing of the reader's code.

Numbers in brackets, as in [I7], are the invariants that a test guards.
"""

import base64
import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import unittest
from hashlib import sha256
from pathlib import Path
from unittest import mock
from zlib import crc32

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import syscache  # noqa: E402

KEY = bytes(range(32))
ROOT_USER = unittest.skipUnless(os.geteuid() == 0, "only root can give files to other users")
MISSES = (syscache.Missing, syscache.Stale, syscache.Corrupt, syscache.Untrusted, syscache.TooNew)


# --- The writer ------------------------------------------------------------------------------------------------------


def name(data, width=2):
    return len(data).to_bytes(width, "little") + data


def seal(data):
    return data + struct.pack("<I", crc32(data))


def table(rows, key=KEY, order=sorted):
    rows = order(rows)
    body, slots, entries = b"", [], b""
    for i, (k, v) in enumerate(rows):
        at = (128 + len(body)) // 8
        row = struct.pack("<II", len(k), len(v)) + k + v
        row += bytes(-(len(row) + 4) % 8)
        body += struct.pack("<I", crc32(row)) + row
        slots.append((crc32(k), k, at))
        entries += struct.pack("<I", at) if i % 64 == 0 else b""
    homes, placed, reach, last = len(rows) + len(rows) // 4 + 1, {}, 0, -1
    for h, k, at in sorted(slots):
        home = h * homes >> 32
        last = max(home, last + 1)
        reach = max(reach, last - home)
        placed[last] = h << 32 | at
    count = max(homes, last + 1)
    index = b"".join(struct.pack("<Q", placed.get(i, 0)) for i in range(count)) + entries
    pages = b"".join(struct.pack("<I", crc32(index[i : i + 4096])) for i in range(0, len(index), 4096))
    end = 128 + len(body)
    size = end + len(index) + len(pages)
    head = b"SYSC-TAB" + struct.pack("<II32s5Q2I", 1, 128, key, size, len(rows), end, homes, count, reach, 64)
    return seal(head + bytes(28)) + body + index + pages


def own(path):
    st = os.lstat(path)
    return struct.pack("<QqqQ", st.st_size, st.st_mtime_ns, st.st_ctime_ns, st.st_ino)


def letter(path):
    mode = os.lstat(path).st_mode
    return b"f" if stat.S_ISREG(mode) else b"d" if stat.S_ISDIR(mode) else b"l" if stat.S_ISLNK(mode) else b"o"


def content(path):
    kind = letter(path)
    data = path.read_bytes() if kind == b"f" else os.fsencode(os.readlink(path)) if kind == b"l" else None
    return sha256(data).digest() if data is not None else bytes(32)


def listing(path, of):
    names = sorted(os.fsencode(p.name) for p in path.iterdir())
    return b"".join(letter(path / os.fsdecode(n)) + name(n) + of(path / os.fsdecode(n)) for n in names)


def witness(root, path, identity=True, digest=True):
    """A witness as it is now; without identity or with a wrong digest, on demand."""
    full = root / os.fsdecode(path)
    if not os.path.lexists(full):
        return struct.pack("BB", 4, 0) + name(path)
    kind = {b"f": 1, b"d": 2, b"l": 3}[letter(full)]
    said = own(full) if kind != 2 else sha256(own(full) + listing(full, own)).digest()
    held = content(full) if kind != 2 else sha256(listing(full, content)).digest()
    said, held = said if identity else bytes(32), held if digest else b"\xff" * 32
    return struct.pack("BB", kind, bool(identity)) + name(path) + said + held


def section(root, directories):
    """The stat section for {directory: (checked, names)}."""
    out = struct.pack("<II", len(directories), sum(len(names) for _, names in directories.values()))
    for path, (checked, names) in sorted(directories.items()):
        full = root / os.fsdecode(path)
        out += name(path) + bytes([checked]) + (own(full) if checked else bytes(32)) + struct.pack("<I", len(names))
        out += b"".join(name(n, 1) + own(full / os.fsdecode(n)) for n in sorted(names))
    return seal(out)


def pointer(cache=b"demo", kind=1, size=0, meta=bytes(32), root=b"", witnesses=(), stats=b"", key=KEY, version=1):
    body = name(cache) + name(root) + b"".join(witnesses)
    head = struct.pack(
        "<IIBBHIQQ32s32s",
        *(version, 108 + len(body), kind, bool(stats), len(witnesses), 0, size, len(stats), key, meta),
    )
    return seal(b"SYSC-PTR" + head + body) + stats


def output(path, kind, mode, data=b""):
    digest = bytes(32) if kind == 2 else sha256(data).digest()
    return struct.pack("<BBHQ", kind, 0, mode, len(data)) + digest + name(path)


def metadata(kind, rows, manifest, outputs, key=KEY):
    head = struct.pack("<IB3x32s32sQI", 1, kind, key, sha256(manifest).digest(), rows, len(outputs))
    return seal(b"SYSC-MET" + head + b"".join(outputs))


MANIFEST = b"SYSC-MAN" + struct.pack("<III", 1, 0, 0)


class Root:
    """An install root in a temporary directory, with what a refresher would leave in it."""

    def __init__(self, path):
        self.path = Path(os.path.realpath(path))
        self.cache_dir = self.path / "var/cache/syscache"

    def home(self, cache_dir=None):
        home = (cache_dir or self.cache_dir) / "demo"
        home.mkdir(parents=True, exist_ok=True, mode=0o755)
        return home

    def write(self, path, data=b"", mode=0o644):
        full = self.path / path
        full.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            full.unlink()
        full.write_bytes(data)
        full.chmod(mode)
        return full

    def table(self, rows, cache_dir=None, pointer_dir=None, origins=None, **claims):
        data = table(rows)
        outputs = [output(b"table", 1, 0o644, data)]
        files = {"table": data, "manifest": MANIFEST}
        if origins is not None:
            outputs.insert(0, output(b"origins", 1, 0o644, origins))
            files["origins"] = origins
        files["meta"] = meta = metadata(1, len(rows), MANIFEST, outputs)
        home = self.home(cache_dir)
        for file, bytes_ in files.items():
            self.write(home / "g" / KEY.hex() / file, bytes_)
        self.point(pointer_dir or cache_dir, size=len(data), meta=sha256(meta).digest(), **claims)

    def files(self, **claims):
        g = self.home() / "g" / KEY.hex()
        odd = b"files/odd\n\xff"
        self.write(g / "files/a/b", b"one")
        self.write(g / "files/tool", b"two", 0o755)
        self.write(g / os.fsdecode(odd), b"")
        (g / "files/link").symlink_to("a/b")
        outputs = [
            output(b"files", 2, 0o755),
            output(b"files/a", 2, 0o755),
            output(b"files/a/b", 1, 0o644, b"one"),
            output(b"files/link", 3, 0o777, b"a/b"),
            output(odd, 1, 0o644),
            output(b"files/tool", 1, 0o755, b"two"),
        ]
        meta = metadata(2, 0, MANIFEST, outputs)
        self.write(g / "meta", meta)
        self.write(g / "manifest", MANIFEST)
        self.point(kind=2, meta=sha256(meta).digest(), **claims)
        return g

    def point(self, cache_dir=None, file="current", **claims):
        self.write(self.home(cache_dir) / file, pointer(**claims))


def colliding(count):
    """Keys of eight bytes with one CRC-32: sums of what the (linear) CRC does not see, on top of any key."""
    zero, seen, blind = crc32(bytes(8)), {}, []
    for bit in range(64):
        key, image = 1 << bit, crc32((1 << bit).to_bytes(8, "big")) ^ zero
        while image and image.bit_length() in seen:
            other, reduced = seen[image.bit_length()]
            key, image = key ^ other, image ^ reduced
        if image:
            seen[image.bit_length()] = key, image
        else:
            blind.append(key)
    keys = []
    for chosen in itertools.islice(itertools.product((0, 1), repeat=7), count):
        value = int.from_bytes(b"colliding"[:8], "big")
        for bit, vector in zip(chosen, blind):
            value ^= vector * bit
        keys.append(value.to_bytes(8, "big"))
    assert len({crc32(k) for k in keys}) == 1 and len(set(keys)) == count
    return keys


# --- The tests -------------------------------------------------------------------------------------------------------


class Case(unittest.TestCase):
    def setUp(self):
        # Everything in the tests is made with usual modes, whatever the caller's umask. [I11]
        self.addCleanup(os.umask, os.umask(0o022))
        scratch = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, scratch)
        os.chmod(scratch, 0o755)
        self.scratch = Path(os.path.realpath(scratch))
        (self.scratch / "root").mkdir()
        self.root = Root(self.scratch / "root")
        environ = mock.patch.dict(os.environ)
        environ.start()
        self.addCleanup(environ.stop)
        os.environ.pop("SYSCACHE_CACHE_DIR", None)
        before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
        self.addCleanup(lambda: before and self.assertEqual(set(os.listdir("/proc/self/fd")), before, "descriptors"))

    def open(self, **options):
        reader = syscache.open(str(self.root.path), "demo", **options)
        self.addCleanup(reader.close)
        return reader

    def rows(self, **options):
        with self.open(**options) as reader:
            return list(reader.scan())

    def refuses(self, error, words="", **options):
        with self.assertRaises(error) as caught:
            self.open(**options).close()
        self.assertIs(type(caught.exception), error)
        self.assertIn(words, str(caught.exception))
        self.assertEqual(caught.exception.cache, "demo")
        self.assertEqual(caught.exception.root, str(self.root.path))
        self.assertEqual(bool(caught.exception.hint), error is not syscache.Error)
        return caught.exception

    @contextlib.contextmanager
    def within(self, seconds=5):
        """A FIFO without a writer must not stop anybody."""

        def late(*_):
            raise AssertionError("it waits")

        self.addCleanup(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, late))
        signal.alarm(seconds)
        try:
            yield
        finally:
            signal.alarm(0)


class Tables(Case):
    def check(self, rows, absent=()):
        self.root.table(rows)
        with self.open() as reader:
            self.assertEqual((reader.kind, reader.rows, reader.generation), ("table", len(rows), KEY.hex()))
            self.assertIsNone(reader.stale)
            self.assertIsNone(reader.dir)
            reader.verify()
            self.assertEqual(list(reader.scan()), sorted(rows))
            for key, value in rows:
                self.assertEqual(reader.get(key), value)
            present = dict(rows)
            for key in [*absent, b"", b"\0", b"\xff" * 9, b"k" * 70000]:
                if key not in present:
                    with self.assertRaises(syscache.NotFound):
                        reader.get(key)
            some = [k[:40] for k, _ in rows[:200]] + [b"\0", b"zz", b"\xff\xff"]
            for prefix in {k[:n] for k in some for n in range(len(k) + 1)}:
                self.assertEqual(list(reader.scan(prefix)), [r for r in sorted(rows) if r[0].startswith(prefix)])

    def test_sizes(self):
        for count in (0, 1, 2, 63, 64, 65, 128, 129, 1000):
            with self.subTest(count):
                rows = [(b"key %d" % i, b"value %d" % i * (i % 7)) for i in range(count)]
                self.check(rows, [b"key %d" % i for i in range(count, count + 500)])

    def test_odd_keys_and_values(self):
        odd = [b"", b"\0", b"\0\0", b"a", b"a\0", b"a\n", b"\n", b"\xff", b"\xff\xfe", b"\xc3\x28", b"k" * 65535]
        self.check([(key, key[:3]) for key in odd])

    def test_empty_value_and_large_value(self):
        self.check([(b"empty", b""), (b"large", os.urandom(3 << 20))])

    def test_keys_of_one_hash(self):
        keys = colliding(128)
        for count in (1, 2, 40, 100):
            rows = [(key, b"%d" % i) for i, key in enumerate(keys[:count])]
            self.check(rows + [(b"other %d" % i, b"") for i in range(30)], keys[count:])

    def test_every_hash_in_the_last_home(self):
        # A run that reaches T, behind a home that no key has.
        keys = [k for k in (b"%d" % i for i in range(200000)) if crc32(k) > 0xFFF00000]
        self.check([(k, k) for k in keys[:20]], keys[20:])

    def test_no_look_up_reads_the_whole_table(self):
        self.root.table([(b"%d" % i, b"") for i in range(20000)] + [(k, b"x") for k in colliding(128)])
        with self.open() as reader:
            read = []
            real = os.pread
            with mock.patch("os.pread", lambda fd, n, at: read.append(n) or real(fd, n, at)):
                self.assertEqual(reader.get(b"777"), b"")
                self.assertEqual(reader.get(colliding(128)[77]), b"x")
            self.assertLess(len(read), 60)
            self.assertLess(sum(read), 40000)

    def test_a_reader_keeps_its_generation(self):
        self.root.table([(b"a", b"1")])
        with self.open() as reader:
            shutil.rmtree(self.root.cache_dir)
            self.assertEqual(reader.get(b"a"), b"1")
            with self.assertRaises(syscache.Error):
                reader.verify()

    def test_closed(self):
        self.root.table([(b"a", b"1")])
        with self.open() as reader:
            pass
        reader.close()
        for call in (lambda: reader.get(b"a"), lambda: list(reader.scan())):
            with self.assertRaisesRegex(ValueError, "closed"):
                call()

    def test_verify_finds_what_no_checksum_shows(self):
        good = table([(b"a", b"1"), (b"b", b"2"), (b"c", b"3")])
        end, t, l = (struct.unpack_from(f, good, at)[0] for f, at in (("<Q", 64), ("<Q", 80), ("<I", 88)))

        def reseal(data):
            index = data[end : end + 8 * t + 4]
            return seal(data[:124]) + data[128:end] + index + struct.pack("<I", crc32(index))

        def swapped(at, width, with_):
            return reseal(good[:at] + with_.to_bytes(width, "little") + good[at + width :])

        first = next(i for i in range(t) if any(good[end + 8 * i : end + 8 * i + 8]))
        damaged = {
            "a row that no slot names": swapped(end + 8 * first, 8, 0),
            "order": swapped(end + 8 * t, 4, 128 // 8 + 2),
            "displacement": swapped(88, 4, l + 1),
            "row order": table([(b"b", b"2"), (b"a", b"1"), (b"c", b"3")], order=list),
            "the same row twice": table([(b"a", b"1"), (b"a", b"1"), (b"c", b"3")]),
            "number of rows": reseal(table([(b"a", b"1"), (b"b", b"2")], KEY)[:128] + good[128:]),
        }
        for what, data in damaged.items():
            with self.subTest(what):
                meta = metadata(1, 3, MANIFEST, [output(b"table", 1, 0o644, data)])
                self.root.write(self.root.home() / "g" / KEY.hex() / "table", data)
                self.root.write(self.root.home() / "g" / KEY.hex() / "meta", meta)
                self.root.write(self.root.home() / "g" / KEY.hex() / "manifest", MANIFEST)
                self.root.point(size=len(data), meta=sha256(meta).digest())
                with self.assertRaises(syscache.Corrupt), self.open() as reader:
                    reader.verify()

    def test_right_checksums_over_wrong_things(self):
        good = table([(b"a", b"1")])
        end, t = (struct.unpack_from("<Q", good, at)[0] for at in (64, 80))

        def row(data):
            return good[:128] + seal_row(data) + good[128 + 4 + len(data) :]

        def seal_row(data):
            return struct.pack("<I", crc32(data)) + data

        def index(data):
            return good[:end] + data + struct.pack("<I", crc32(data))

        slots = good[end : end + 8 * t]
        lengths = struct.pack("<II", 1, len(good) - 128 - 12 - 1)
        for what, words, data in (
            ("padding", "padding", row(good[132:143] + b"!")),
            ("a row that reaches into the index", "impossible lengths", row(lengths + good[140:])),
            ("a row before the rows", "outside", index(slots.replace(struct.pack("<I", 16), bytes(4)) + bytes(4))),
            ("a row behind the rows", "outside", index(slots + b"\xff" * 4)),
            ("a file of another size", "sizes", seal(good[:48] + bytes(8) + good[56:124]) + good[128:]),
            ("hardly a file", "ends too early", good[:100]),
        ):
            with self.subTest(what):
                self.assertNotEqual(data, good)
                self.root.table([(b"a", b"1")])
                self.root.write(self.root.home() / "g" / KEY.hex() / "table", data)
                self.root.point(size=len(data))
                with self.assertRaisesRegex(syscache.Corrupt, words), self.open() as reader:
                    reader.get(b"a")
                    list(reader.scan())

    def test_verify_reads_meta_and_manifest(self):
        for file in ("meta", "manifest", "table"):
            for change in (lambda d: d[:-9] + bytes([d[-9] ^ 1]) + d[-8:], lambda d: d[:-1], lambda d: d + b"\0", None):
                self.root.table([(b"a", b"1")])
                path = self.root.home() / "g" / KEY.hex() / file
                with self.subTest(file=file), self.assertRaises(syscache.Corrupt), self.open() as reader:
                    data = path.read_bytes()
                    path.unlink()
                    if change:
                        self.root.write(path, change(data))
                    elif file == "table":
                        raise syscache.Corrupt("a table is held open: nothing to find missing")
                    with self.open() if file == "table" else contextlib.nullcontext(reader) as again:
                        again.verify()

    def test_a_meta_that_says_something_else(self):
        data = table([(b"a", b"1")])
        right = output(b"table", 1, 0o644, data)
        for what, meta in {
            "another kind": metadata(2, 0, MANIFEST, [output(b"files", 2, 0o755)]),
            "another key": metadata(1, 1, MANIFEST, [right], bytes(32)),
            "another number of rows": metadata(1, 2, MANIFEST, [right]),
            "another manifest": metadata(1, 1, b"", [right]),
            "no output": metadata(1, 1, MANIFEST, []),
            "two outputs": metadata(1, 1, MANIFEST, [right, output(b"table/x", 1, 0o644)]),
            "origins alone": metadata(1, 1, MANIFEST, [output(b"origins", 1, 0o644)]),
            "origins that are a directory": metadata(1, 1, MANIFEST, [output(b"origins", 2, 0o755), right]),
            "twice": metadata(1, 1, MANIFEST, [right, right]),
            "another digest": metadata(1, 1, MANIFEST, [output(b"table", 1, 0o644, data[::-1])]),
            "another size": metadata(1, 1, MANIFEST, [right[:4] + bytes(8) + right[12:]]),
            "another mode": metadata(1, 1, MANIFEST, [output(b"table", 1, 0o755, data)]),
            "a path that climbs": metadata(1, 1, MANIFEST, [output(b"../table", 1, 0o644, data)]),
            "a count that lies": seal(metadata(1, 1, MANIFEST, [right])[:88] + b"\xff\xff\xff\xff" + right),
        }.items():
            with self.subTest(what):
                self.root.table([(b"a", b"1")])
                self.root.write(self.root.home() / "g" / KEY.hex() / "meta", meta)
                self.root.point(size=len(data), meta=sha256(meta).digest())
                with self.open() as reader, self.assertRaises(syscache.Corrupt):
                    reader.verify()
        self.root.table([(b"a", b"1")])
        self.root.point(size=len(data))
        with self.open() as reader, self.assertRaisesRegex(syscache.Corrupt, "pointer names"):
            reader.verify()


    def test_origins(self):
        origins = b"SYSC-ORG" + struct.pack("<III", 1, 1, 0)
        for what, change in {
            "nothing": lambda path: None,
            "a changed byte": lambda path: path.write_bytes(origins[:-1] + b"\1"),
            "a longer file": lambda path: path.write_bytes(origins + b"\0"),
            "another mode": lambda path: path.chmod(0o600),
            "a link": lambda path: (path.rename(self.scratch / "o"), path.symlink_to(self.scratch / "o")),
            "missing": lambda path: path.unlink(),
        }.items():
            self.root.table([(b"a", b"1")], origins=origins)
            path = self.root.home() / "g" / KEY.hex() / "origins"
            with self.subTest(what), self.open() as reader:
                change(path)
                self.assertEqual(reader.get(b"a"), b"1")
                if what == "nothing":
                    reader.verify()
                    continue
                with self.assertRaises(syscache.Corrupt):
                    reader.verify()


class Files(Case):
    def test_reads(self):
        generation = self.root.files()
        with self.open() as reader:
            self.assertEqual((reader.kind, reader.rows), ("files", 0))
            self.assertEqual(reader.dir, str(generation / "files"))
            reader.verify()
            for call in (lambda: reader.get(b"a"), lambda: list(reader.scan())):
                with self.assertRaisesRegex(syscache.Error, "no rows"):
                    call()

    def test_verify(self):
        generation = self.root.files() / "files"
        changes = {
            "a changed byte": lambda: (generation / "a/b").write_bytes(b"onf"),
            "a longer file": lambda: (generation / "a/b").write_bytes(b"one more"),
            "one more": lambda: (generation / "a/c").write_bytes(b""),
            "one more directory": lambda: (generation / "z").mkdir(),
            "one less": (generation / "tool").unlink,
            "another target": lambda: ((generation / "link").unlink(), (generation / "link").symlink_to("a/c")),
            "a file for a link": lambda: ((generation / "link").unlink(), (generation / "link").write_bytes(b"a/b")),
            "a link for a directory": lambda: (
                (generation / "a").rename(self.scratch / "a"),
                (generation / "a").symlink_to(self.scratch / "a"),
            ),
            "another mode": lambda: (generation / "tool").chmod(0o644),
            "a fifo": lambda: ((generation / "a/b").unlink(), os.mkfifo(generation / "a/b")),
        }
        for what, change in changes.items():
            with self.subTest(what), self.within():
                shutil.rmtree(self.root.path / "var", ignore_errors=True)
                shutil.rmtree(self.scratch / "a", ignore_errors=True)
                self.root.files()
                with self.open() as reader:
                    reader.verify()
                    change()
                    with self.assertRaises(syscache.Corrupt):
                        reader.verify()

    def test_files_that_is_none(self):
        generation = self.root.files()
        (generation / "files").rename(generation / "moved")
        self.refuses(syscache.Missing, "is gone")
        (generation / "files").symlink_to("moved")
        self.refuses(syscache.Untrusted)
        (generation / "files").unlink()
        (generation / "files").write_bytes(b"")
        self.refuses(syscache.Untrusted)


class Witnesses(Case):
    """[I2]"""

    def setUp(self):
        super().setUp()
        self.root.write("share/MANIFEST", b"sage 10.9")
        self.make_plugins()
        (self.root.path / "link").symlink_to("share/MANIFEST")

    def make_plugins(self):
        self.root.write("plugins/one.so", b"1")
        (self.root.path / "plugins/two.so").symlink_to("one.so")
        (self.root.path / "plugins/sub").mkdir()
        os.mkfifo(self.root.path / "plugins/pipe")

    def holds(self, *witnesses):
        self.root.table([(b"a", b"1")], witnesses=witnesses)
        with self.within():
            self.assertEqual(self.rows(), [(b"a", b"1")])

    def changes(self, claim, change):
        self.root.table([(b"a", b"1")], witnesses=[claim])
        self.rows()
        change()
        with self.within():
            self.refuses(syscache.Stale, "witness")
            with self.open(allow_stale=True) as reader:
                self.assertIn("witness", reader.stale)
                self.assertEqual(reader.get(b"a"), b"1")

    def claim(self, path, **how):
        return witness(self.root.path, path, **how)

    def test_hold(self):
        for path in (b"share/MANIFEST", b"link", b"plugins", b"plugins/sub", b"plugins/two.so"):
            with self.subTest(path):
                self.holds(self.claim(path))
                self.holds(self.claim(path, identity=False))
                self.holds(self.claim(path, digest=False))
        self.holds(self.claim(b"not/there"), self.claim(b"share/MANIFEST/below-a-file"), self.claim(b"gone\n\xff"))
        self.holds(*[self.claim(p) for p in (b"plugins", b"share/MANIFEST", b"absent")])

    def test_many_fill_a_pointer(self):
        self.holds(*[self.claim(b"absent/%d" % i) for i in range(200)])

    def test_touched_only(self):
        # Times moved, contents did not: identities differ, digests decide.
        for path in (b"share/MANIFEST", b"plugins"):
            claim = self.claim(path)
            os.utime(self.root.path / os.fsdecode(path), ns=(1, 1))
            self.holds(claim)

    def test_flag_without_identity(self):
        claim = self.claim(b"share/MANIFEST")
        start = len(claim) - 64
        self.root.table([], witnesses=[claim[:start] + bytes(32) + claim[-32:]])
        self.refuses(syscache.Corrupt)

    def test_file(self):
        for how in ({}, {"identity": False}):
            self.root.write("share/MANIFEST", b"sage 10.9")
            self.changes(self.claim(b"share/MANIFEST", **how), lambda: self.root.write("share/MANIFEST", b"sage 11.0"))
        self.changes(self.claim(b"share/MANIFEST"), (self.root.path / "share/MANIFEST").unlink)

    def test_file_that_became_something_else(self):
        path = self.root.path / "share/MANIFEST"
        for make in (path.mkdir, lambda: os.mkfifo(path), lambda: path.symlink_to("copy")):
            self.root.write("share/copy", b"sage 10.9")
            self.root.write("share/MANIFEST", b"sage 10.9")
            self.changes(self.claim(b"share/MANIFEST", identity=False), lambda: (path.unlink(), make()))
            path.rmdir() if path.is_dir() else path.unlink()

    def test_file_that_becomes_a_fifo_while_it_is_looked_at(self):
        self.root.table([], witnesses=[self.claim(b"share/MANIFEST", identity=False)])
        path, real = os.fsencode(self.root.path / "share/MANIFEST"), os.lstat

        def lstat(asked):
            st = real(asked)
            if asked == path:
                os.unlink(path)
                os.mkfifo(path)
            return st

        with mock.patch("os.lstat", lstat), self.within():
            self.refuses(syscache.Stale, "not a regular file")

    def test_link(self):
        path = self.root.path / "link"
        self.changes(self.claim(b"link", identity=False), lambda: (path.unlink(), path.symlink_to("share/OTHER")))
        path.unlink()
        path.symlink_to("share/MANIFEST")
        self.changes(self.claim(b"link"), lambda: (path.unlink(), self.root.write("link", b"share/MANIFEST")))

    def test_directory(self):
        plugins = self.root.path / "plugins"
        for change in (
            lambda: (plugins / "new").write_bytes(b""),
            (plugins / "sub/../one.so").unlink,
            lambda: self.root.write("plugins/one.so", b"2"),
            lambda: ((plugins / "two.so").unlink(), (plugins / "two.so").symlink_to("sub")),
            lambda: ((plugins / "pipe").unlink(), (plugins / "pipe").mkdir()),
            lambda: shutil.rmtree(plugins),
        ):
            for how in ({}, {"identity": False}):
                shutil.rmtree(plugins, ignore_errors=True)
                self.make_plugins()
                self.changes(self.claim(b"plugins", **how), change)

    def test_directory_sees_no_subdirectory(self):
        claim = self.claim(b"plugins", identity=False)
        self.root.write("plugins/sub/more", b"")
        self.holds(claim)

    def test_absent(self):
        self.changes(self.claim(b"new"), lambda: self.root.write("new"))
        (self.root.path / "new").unlink()
        self.changes(self.claim(b"new"), lambda: (self.root.path / "new").symlink_to("nowhere"))

    def test_what_cannot_be_looked_at_does_not_hold(self):
        claim = struct.pack("BB", 4, 0) + name(b"loop/x")
        (self.root.path / "loop").symlink_to("loop")
        self.root.table([], witnesses=[claim])
        self.refuses(syscache.Stale, "witness 'loop/x'")

    def test_impossible(self):
        good = self.claim(b"share/MANIFEST")
        for what, bad in {
            "type 0": b"\0" + good[1:],
            "type 5": b"\5" + good[1:],
            "flags": good[:1] + b"\2" + good[2:],
            "identity without flag": good[:1] + b"\0" + good[2:],
            "absent with identity": struct.pack("BB", 4, 1) + name(b"x"),
            "climbing": struct.pack("BB", 4, 0) + name(b"x/../../y"),
            "absolute": struct.pack("BB", 4, 0) + name(b"/x"),
            "empty component": struct.pack("BB", 4, 0) + name(b"x//y"),
            "empty": struct.pack("BB", 4, 0) + name(b""),
            "nul": struct.pack("BB", 4, 0) + name(b"x\0y"),
            "cut": good[:-1],
            "length beyond the header": struct.pack("BBH", 4, 0, 65535) + b"x",
            "too long": good + b"\0",
        }.items():
            with self.subTest(what):
                self.root.table([], witnesses=[bad])
                self.refuses(syscache.Corrupt)


class StatSection(Case):
    """[I2]"""

    def setUp(self):
        super().setUp()
        self.outside = self.scratch / "outside"
        self.outside.mkdir()
        (self.outside / "tool").write_bytes(b"x")
        for path in ("lib/a.py", "lib/b.py", "lib/odd\n\udcff", "top"):
            self.root.write(path, b"")
        self.tree = {
            b"": (1, [b"top", b"lib"]),
            b"lib": (1, [b"a.py", b"b.py", b"odd\n\xff"]),
            os.fsencode(self.outside): (0, [b"tool"]),
        }

    def publish(self, stats=None):
        self.root.home()  # what makes directories under the root comes before the root's own identity
        self.root.table([(b"a", b"1")], stats=stats if stats is not None else section(self.root.path, self.tree))

    def test_holds(self):
        self.publish()
        self.assertEqual(self.rows(), [(b"a", b"1")])
        (self.outside / "not listed").write_bytes(b"")
        self.assertEqual(self.rows(), [(b"a", b"1")])
        self.publish(section(self.root.path, {}))
        self.assertEqual(self.rows(), [(b"a", b"1")])

    def test_changes(self):
        for what, change in {
            "edited": lambda: (self.root.path / "lib/a.py").write_bytes(b"new"),
            "gone": (self.root.path / "lib/b.py").unlink,
            "new": lambda: (self.root.path / "lib/c.py").write_bytes(b""),
            "at the top": lambda: (self.root.path / "new").write_bytes(b""),
            "outside": lambda: (self.outside / "tool").write_bytes(b"yy"),
            "touched": lambda: os.utime(self.root.path / "top"),
        }.items():
            with self.subTest(what):
                self.root.write("lib/b.py")
                self.publish()
                self.rows()
                change()
                self.assertIn("input", self.refuses(syscache.Stale).detail)
                with self.open(allow_stale=True) as reader:
                    self.assertIn("input", reader.stale)

    def test_zeros_certify_nothing(self):
        for path in (b"lib/a.py", b"lib"):
            self.publish()
            stats = section(self.root.path, self.tree)
            stats = stats.replace(own(self.root.path / os.fsdecode(path)), bytes(32))
            self.publish(seal(stats[:-4]))
            self.refuses(syscache.Stale, repr(path.decode()))

    def test_impossible(self):
        def directory(path, names=b"", count=0, checked=0, identity=bytes(32)):
            return name(path) + bytes([checked]) + identity + struct.pack("<I", count) + names

        def whole(d, f, *directories):
            return seal(struct.pack("<II", d, f) + b"".join(directories))

        file = [name(n, 1) + bytes(32) for n in (b"a", b"b", b"x/y", b"..", b"", b"n\0")]
        for what, bad in {
            "cut short": b"\0" * 3,
            "wrong checksum": section(self.root.path, self.tree)[:-1] + b"\0",
            "more directories than there are": whole(0xFFFFFFFF, 0),
            "more files than there are": whole(1, 0xFFFFFFFF, directory(b"lib", b"", 0xFFFFFFFF)),
            "files do not add up": whole(1, 2, directory(b"lib", file[0], 1)),
            "unsorted directories": whole(2, 0, directory(b"lib"), directory(b"a")),
            "the same twice": whole(2, 0, directory(b"lib"), directory(b"lib")),
            "unsorted names": whole(1, 2, directory(b"lib", file[1] + file[0], 2)),
            "slash": whole(1, 1, directory(b"lib", file[2], 1)),
            "dots": whole(1, 1, directory(b"lib", file[3], 1)),
            "no name": whole(1, 1, directory(b"lib", file[4], 1)),
            "nul": whole(1, 1, directory(b"lib", file[5], 1)),
            "climbing": whole(1, 0, directory(b"../lib")),
            "climbing from the top": whole(1, 0, directory(b"/../lib")),
            "two slashes": whole(1, 0, directory(b"//lib")),
            "unchecked with identity": whole(1, 0, directory(b"lib", identity=b"x" * 32)),
            "neither checked nor not": whole(1, 0, directory(b"lib", checked=2)),
            "more behind": whole(0, 0, b"\0"),
        }.items():
            with self.subTest(what):
                self.publish(bad)
                self.refuses(syscache.Corrupt, "stat section")


class Pointers(Case):
    def test_missing(self):
        self.refuses(syscache.Missing, "no pointer")
        self.root.home()
        self.refuses(syscache.Missing, "no pointer")
        shutil.rmtree(self.root.cache_dir)
        self.root.cache_dir.write_bytes(b"a file where a directory should be")
        self.refuses(syscache.Missing)
        shutil.rmtree(self.root.path)
        self.refuses(syscache.Missing, f"the root '{self.root.path}' does not exist")

    def test_stale(self):
        self.root.table([(b"a", b"1")])
        (self.root.home() / "current").rename(self.root.home() / "stale")
        self.refuses(syscache.Stale, "marked stale")
        with self.open(allow_stale=True) as reader:
            self.assertEqual((reader.stale, reader.get(b"a")), ("marked stale", b"1"))
        self.root.table([(b"a", b"2")])  # published anew, `stale` not yet removed
        with self.open(allow_stale=True) as reader:
            self.assertEqual((reader.stale, reader.get(b"a")), (None, b"2"))

    def test_a_stale_mark_decides_before_the_second_cache_dir(self):
        second = self.root.path / "usr/lib/syscache"
        self.root.table([(b"a", b"image")], cache_dir=second)
        self.root.home()
        self.assertEqual(self.rows(), [(b"a", b"image")])
        self.root.write(self.root.home() / "stale", b"")
        self.refuses(syscache.Stale)

    def test_published_between_two_looks(self):
        self.root.table([(b"a", b"1")])
        real, hidden = os.open, [True]

        def open_(path, *rest):
            if path.endswith(b"/current") and hidden.pop():
                hidden.append(False)
                raise FileNotFoundError(2, "hidden", path)
            hidden.append(False)
            return real(path, *rest)

        with mock.patch("os.open", open_):
            self.assertEqual(self.rows(), [(b"a", b"1")])

    def test_too_new(self):
        self.root.table([])
        self.root.point(version=2)
        self.refuses(syscache.TooNew, "version 2")
        # A later version keeps magic, H and CRC, and nothing else: not even a header of 112 bytes.
        self.root.write(self.root.home() / "current", seal(b"SYSC-PTR" + struct.pack("<IIQ", 7, 28, 0)) + b"whatever")
        self.refuses(syscache.TooNew, "version 7")
        self.root.write(self.root.home() / "current", pointer(version=2)[:-1] + b"\0")
        self.refuses(syscache.Corrupt)
        self.root.point(version=0)
        self.refuses(syscache.Corrupt, "version 0")

    def test_impossible(self):
        good = pointer(size=192)
        for what, (at, bytes_) in {
            "magic": (0, b"SYSC-TAB"),
            "length": (12, struct.pack("<I", 4097)),
            "huge length": (12, b"\xff\xff\xff\xff"),
            "no length": (12, bytes(4)),
            "kind 0": (16, b"\0"),
            "kind 3": (16, b"\3"),
            "flags": (17, b"\2"),
            "a stat section without bytes": (17, b"\1"),
            "zero": (20, b"\1"),
            "witnesses": (18, b"\xff\xff"),
            "bytes without a stat section": (32, b"\1"),
            "huge stat section": (32, b"\xff" * 8),
            "files with a size": (16, b"\2"),
            "long name": (104, b"\xff\xff"),
            "another cache": (106, b"demi"),
        }.items():
            with self.subTest(what):
                self.root.write(self.root.home() / "current", seal(good[:at] + bytes_ + good[at + len(bytes_) : -4]))
                self.refuses(syscache.Corrupt)
        self.root.write(self.root.home() / "current", good + b"\0")
        self.refuses(syscache.Corrupt, "sizes")

    def test_hostile_sizes_are_not_allocated(self):
        try:
            os.truncate(self.root.write(self.root.home() / "current", pointer(size=1 << 62)), 1 << 42)
        except OSError as error:
            self.skipTest(f"no sparse file of 4 TiB here: {error.strerror}")
        self.refuses(syscache.Corrupt)
        head = pointer()
        head = bytearray(head[:-4])
        struct.pack_into("<B", head, 17, 1)
        struct.pack_into("<Q", head, 32, (1 << 42) - len(head) - 4)
        self.root.write(self.root.home() / "current", seal(bytes(head)))
        os.truncate(self.root.home() / "current", 1 << 42)
        self.refuses(syscache.Corrupt, "at once")

    def test_generation_that_does_not_fit(self):
        self.root.table([(b"a", b"1")])
        path = self.root.home() / "g" / KEY.hex() / "table"
        data = path.read_bytes()
        other = table([(b"a", b"1")], key=bytes(32))
        for what, bad in {"longer": data + b"\0", "empty": b"", "another key": other}.items():
            with self.subTest(what):
                self.root.write(path, bad)
                self.refuses(syscache.Corrupt, "table")
        path.unlink()
        self.refuses(syscache.Missing, "is gone")

    def test_a_refresher_comes_between(self):
        # LESSONS: ESTALE and ENOENT between pointer and file: reopen once, then a miss.
        self.root.table([(b"a", b"1")])
        for wrong, where in ((2, b"/table"), (116, b"/table"), (116, b"/current")):
            for times in (1, 2):
                real, left = os.open, [times]

                def open_(path, *rest, where=where):
                    if path.endswith(where) and left[0]:
                        left[0] -= 1
                        raise OSError(wrong, "gone", path)
                    return real(path, *rest)

                with self.subTest(wrong=wrong, where=where, times=times), mock.patch("os.open", open_):
                    if times == 1:
                        self.assertEqual(self.rows(), [(b"a", b"1")])
                    else:
                        self.refuses(syscache.Missing)

    def test_root_named(self):
        root = os.fsencode(self.root.path)
        self.root.table([(b"a", b"1")], root=root)
        self.assertEqual(self.rows(), [(b"a", b"1")])
        link = self.scratch / "link"
        link.symlink_to(self.root.path)
        with syscache.open(os.fsencode(link), "demo") as reader:
            self.assertEqual(reader.get(b"a"), b"1")
        self.root.table([(b"a", b"1")], root=b"/elsewhere")
        self.refuses(syscache.Missing, "'/elsewhere'")

    def test_names_that_no_cache_has(self):
        for bad in ("", "..", "../demo", "Demo", "-x", "a" * 65, "a\n", "a/b", "dämo"):
            with self.subTest(bad), self.assertRaises(syscache.Missing):
                syscache.open(self.root.path, bad)


class CacheDirs(Case):
    def setUp(self):
        super().setUp()
        self.elsewhere = self.scratch / "elsewhere"
        self.elsewhere.mkdir()
        self.second = self.root.path / "usr/lib/syscache"
        self.name = os.fsencode(self.root.path)

    def test_second(self):
        self.root.table([(b"a", b"2")], cache_dir=self.second)
        self.assertEqual(self.rows(), [(b"a", b"2")])
        self.root.table([(b"a", b"1")])
        self.assertEqual(self.rows(), [(b"a", b"1")])

    def test_second_supplies_a_generation(self):
        self.root.table([(b"a", b"2")], cache_dir=self.second, pointer_dir=self.root.cache_dir)
        (self.second / "demo").chmod(0o755)
        self.assertEqual(self.rows(), [(b"a", b"2")])
        (self.second / "demo").chmod(0o777)
        self.refuses(syscache.Untrusted)

    def test_explicit(self):
        self.root.table([(b"a", b"x")], cache_dir=self.elsewhere, root=self.name)
        self.refuses(syscache.Missing)
        self.assertEqual(self.rows(cache_dirs=[self.elsewhere]), [(b"a", b"x")])
        self.assertEqual(self.rows(cache_dirs=[os.fsencode(self.elsewhere)]), [(b"a", b"x")])

    def test_explicit_without_root_name(self):
        self.root.table([(b"a", b"x")], cache_dir=self.elsewhere)
        self.refuses(syscache.Missing, "does not name its root", cache_dirs=[self.elsewhere])

    def test_explicit_but_under_the_root(self):
        self.root.table([(b"a", b"1")])
        link = self.scratch / "link"
        link.symlink_to(self.root.cache_dir)
        for path in (self.root.cache_dir, link):
            self.assertEqual(self.rows(cache_dirs=[path]), [(b"a", b"1")])

    def test_explicit_stands_in_for_both(self):
        self.root.table([(b"a", b"1")])
        self.root.table([(b"a", b"2")], cache_dir=self.second)
        self.refuses(syscache.Missing, cache_dirs=[self.elsewhere])
        self.assertEqual(self.rows(cache_dirs=[self.elsewhere, self.second]), [(b"a", b"2")])

    def test_environment(self):
        self.root.table([(b"a", b"x")], cache_dir=self.elsewhere, root=self.name)
        os.environ["SYSCACHE_CACHE_DIR"] = str(self.elsewhere)
        self.assertEqual(self.rows(), [(b"a", b"x")])
        self.refuses(syscache.Missing, cache_dirs=[self.root.cache_dir])
        with mock.patch("os.getuid", lambda: os.geteuid() + 1):
            self.refuses(syscache.Missing)
        os.environ["SYSCACHE_CACHE_DIR"] = "relative"
        self.refuses(syscache.Missing)


class Trust(Case):
    """LESSONS: nobody checks who owns the cache file that they believe. We do. [I7]"""

    def setUp(self):
        super().setUp()
        self.root.table([(b"a", b"1")])
        home = self.root.home()
        self.paths = [home, home / "current", home / "g" / KEY.hex() / "table"]

    def each(self):
        for path in self.paths:
            with self.subTest(path.name):
                mode = path.stat().st_mode & 0o777
                yield path
                path.chmod(mode)
        self.assertEqual(self.rows(), [(b"a", b"1")])

    def test_writable_by_others(self):
        for path in self.each():
            path.chmod(0o757)
            self.refuses(syscache.Untrusted, "written by others")

    def test_writable_by_the_group(self):
        for path in self.each():
            path.chmod(0o775)
            self.refuses(syscache.Untrusted, "written by group")
            self.root.path.chmod(0o775)
            self.assertEqual(self.rows(), [(b"a", b"1")])
            self.root.path.chmod(0o755)

    @ROOT_USER
    def test_writable_by_another_group(self):
        self.root.path.chmod(0o775)
        for path in self.each():
            os.chown(path, -1, 4321)
            path.chmod(0o775)
            self.refuses(syscache.Untrusted, "group 4321")
            os.chown(path, -1, 0)

    @ROOT_USER
    def test_owner(self):
        for path in self.each():
            os.chown(path, 12345, -1)
            self.refuses(syscache.Untrusted, "uid 12345")
            self.assertEqual(self.rows(trust_uids=[12345]), [(b"a", b"1")])
            os.chown(self.root.path, 12345, -1)
            self.assertEqual(self.rows(), [(b"a", b"1")])
            os.chown(self.root.path, 0, -1)
            os.chown(path, 0, -1)

    @ROOT_USER
    def test_unmapped_owner(self):
        for path in self.each():
            os.chown(path, 65534, -1)
            self.refuses(syscache.Untrusted, "uid 65534", trust_uids=[65534])
            os.chown(self.root.path, 65534, -1)
            self.assertEqual(self.rows(), [(b"a", b"1")])
            with mock.patch("os.geteuid", lambda: 65534):
                self.assertEqual(self.rows(), [(b"a", b"1")])
            os.chown(self.root.path, 0, -1)
            os.chown(path, 0, -1)

    @ROOT_USER
    def test_unmapped_owner_outside_the_root(self):
        elsewhere = self.scratch / "elsewhere"
        self.root.table([], cache_dir=elsewhere, root=os.fsencode(self.root.path))
        os.chown(elsewhere / "demo/current", 65534, -1)
        os.chown(self.root.path, 65534, -1)
        self.refuses(syscache.Untrusted, "uid 65534", cache_dirs=[elsewhere])

    @ROOT_USER
    def test_what_members_of_the_roots_group_wrote(self):
        for path in [self.root.path, *self.root.path.rglob("*")]:
            os.chown(path, 12345, 4321)
            path.chmod(0o2775 if path.is_dir() else 0o644)
        os.chown(self.root.path, 0, -1)
        self.assertEqual(self.rows(), [(b"a", b"1")])
        g = self.paths[2].parent
        for path in (self.root.path, *self.paths[2].relative_to(self.root.path).parents):
            with self.subTest(path):  # where others can write, others can have put what has the group
                (self.root.path / path).chmod(0o2777)
                self.refuses(syscache.Untrusted, "written by others")
                (self.root.path / path).chmod(0o2775)
        for path in (*self.paths, g.parent, g, self.root.path / "var"):
            with self.subTest(path):
                os.chown(path, -1, 4322)
                self.refuses(syscache.Untrusted, "uid 12345")
                os.chown(path, -1, 4321)
        self.root.path.chmod(0o2755)
        self.refuses(syscache.Untrusted, "uid 12345")
        self.root.path.chmod(0o2775)
        (self.root.path / "var").rename(self.root.path / "elsewhere")
        (self.root.path / "var").symlink_to("elsewhere")
        self.refuses(syscache.Untrusted, "not what it should be")
        self.refuses(syscache.Untrusted, "symbolic link", cache_dirs=[self.root.cache_dir])

    def test_links_fifos_and_the_like(self):
        for path in self.paths:
            aside = path.with_name("aside")
            path.rename(aside)
            for make in (
                lambda: path.symlink_to(aside),
                lambda: path.symlink_to(path),
                lambda: os.mkfifo(path),
                lambda: path.mkdir() if path.name != "demo" else path.write_bytes(b""),
            ):
                with self.subTest(path.name), self.within():
                    make()
                    self.refuses(syscache.Untrusted)
                    path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            aside.rename(path)
        self.assertEqual(self.rows(), [(b"a", b"1")])

    def test_verify_trusts_no_stranger_either(self):
        for file in ("meta", "manifest"):
            path = self.root.home() / "g" / KEY.hex() / file
            path.chmod(0o646)
            with self.open() as reader, self.assertRaises(syscache.Untrusted):
                reader.verify()
            path.chmod(0o644)

    @unittest.skipIf(os.geteuid() == 0, "root may read everything")
    def test_unreadable(self):
        self.paths[1].chmod(0)
        self.refuses(syscache.Error, "Permission denied")


class Current(Case):
    def setUp(self):
        super().setUp()
        self.input = self.root.write("input", b"1")
        self.root.table([(b"a", b"1")], witnesses=[witness(self.root.path, b"input")])

    def each(self, **options):
        """A reader whose pointer is too young to be told by its times, and one whose is not."""
        for settled in (1 << 62, 0):
            with self.subTest(settled=settled), mock.patch("syscache.SETTLED", settled):
                with self.open(**options) as reader:
                    self.assertIs(reader.current(), True)
                    yield reader

    def test_nothing_moved_and_nothing_is_read(self):
        for reader in self.each():
            with mock.patch("os.open", side_effect=os.open) as opened:
                self.assertIs(reader.current(), True)
            self.assertEqual(opened.call_count, syscache.SETTLED > 0)

    def test_contradicted_and_back(self):
        for reader in self.each():
            self.input.write_bytes(b"2")
            with self.assertRaises(syscache.Stale) as caught:
                reader.current()
            self.assertTrue(caught.exception.hint)
            self.input.write_bytes(b"1")
            self.assertIs(reader.current(), True)

    def test_stale_as_it_was(self):
        self.input.write_bytes(b"2")
        for reader in self.each(allow_stale=True):
            self.assertTrue(reader.stale)
            self.input.write_bytes(b"1")
            self.assertIs(reader.current(), False)
            self.input.write_bytes(b"2")

    def test_another_generation(self):
        for reader in self.each():
            self.root.table([(b"a", b"22")])
            self.assertIs(reader.current(), False)
            self.root.table([(b"a", b"1")], witnesses=[witness(self.root.path, b"input")])
            self.assertIs(reader.current(), True)

    def test_gone(self):
        for reader in self.each():
            home = self.root.home()
            home.rename(home.with_name("away"))
            with self.assertRaises(syscache.Missing):
                reader.current()
            home.with_name("away").rename(home)


class Damage(Case):
    """Every bit and every length: the right answer or a stated reason, never a wrong or absent one. [I7]"""

    def answers(self, rows, absent, read=True):
        """Whether the cache answered rightly; False if it said why not. Anything else fails the test."""
        try:
            with syscache.open(self.root.path, "demo") as reader:
                if not read:
                    return True
                with contextlib.suppress(syscache.Corrupt):
                    self.assertEqual(list(reader.scan()), rows)
                for key, value in rows:
                    with contextlib.suppress(syscache.Corrupt):
                        self.assertEqual(reader.get(key), value)
                for key in absent:
                    with contextlib.suppress(syscache.Corrupt, syscache.NotFound):
                        self.fail(f"found {reader.get(key)}")
                with contextlib.suppress(*MISSES):
                    reader.verify()
                    return True
                return False
        except MISSES:
            return False

    def every_damage(self, path, rows, absent, read=True):
        data = path.read_bytes()
        self.assertTrue(self.answers(rows, absent))
        for bit in range(8 * len(data)):
            bad = bytearray(data)
            bad[bit // 8] ^= 1 << bit % 8
            path.write_bytes(bad)
            self.assertFalse(self.answers(rows, absent, read), f"bit {bit % 8} of byte {bit // 8}")
        for length in range(len(data)):
            path.write_bytes(data[:length])
            self.assertFalse(self.answers(rows, absent, read), f"cut to {length} bytes")
        path.write_bytes(data)
        self.assertTrue(self.answers(rows, absent))

    def test_pointer(self):
        self.root.write("share/MANIFEST", b"1")
        self.root.write("lib/a", b"2")
        (self.root.home() / "g").mkdir()
        rows = [(b"a", b"1"), (b"b", b"2")]
        witnesses = [witness(self.root.path, p) for p in (b"share", b"share/MANIFEST", b"absent")]
        stats = section(self.root.path, {b"lib": (1, [b"a"]), b"share": (0, [b"MANIFEST"])})
        self.root.table(rows, witnesses=witnesses, stats=stats)
        self.every_damage(self.root.home() / "current", rows, [b"c"], read=False)

    def test_table(self):
        for rows in ([], [(b"", b""), (b"a", b"1"), *((b"row %d" % i, b"%d" % i * i) for i in range(7))]):
            self.root.table(rows)
            path = self.root.home() / "g" / KEY.hex() / "table"
            self.every_damage(path, rows, [b"c", b"row 99", b"\xff"])

    def test_table_of_one_hash(self):
        keys = colliding(12)
        rows = sorted((key, b"%d" % i) for i, key in enumerate(keys[:9]))
        self.root.table(rows)
        self.every_damage(self.root.home() / "g" / KEY.hex() / "table", rows, keys[9:])

    def test_larger_table_now_and_then(self):
        rows = sorted((b"%d" % i, b"v") for i in range(600))  # two index pages, ten order entries
        self.root.table(rows)
        path = self.root.home() / "g" / KEY.hex() / "table"
        data, chance = path.read_bytes(), random.Random(13622)
        for bit in chance.sample(range(8 * len(data)), 60):
            bad = bytearray(data)
            bad[bit // 8] ^= 1 << bit % 8
            path.write_bytes(bad)
            self.assertFalse(self.answers(rows, [b"x%d" % i for i in range(600)]), f"bit {bit}")

    def test_order(self):
        # An entry may come to name another row that is in order itself: then no row's checksum shows it.
        rows = sorted((b"%d" % i, b"") for i in range(600))
        self.root.table(rows)
        path = self.root.home() / "g" / KEY.hex() / "table"
        data = path.read_bytes()
        end, slots = (struct.unpack_from("<Q", data, at)[0] for at in (64, 80))
        for bit in range(8 * (end + 8 * slots), 8 * (end + 8 * slots + 4 * 10)):
            bad = bytearray(data)
            bad[bit // 8] ^= 1 << bit % 8
            path.write_bytes(bad)
            with self.open() as reader:
                for prefix in (b"0", b"15", b"42", b"599"):
                    with contextlib.suppress(syscache.Corrupt):
                        self.assertEqual(list(reader.scan(prefix)), [r for r in rows if r[0].startswith(prefix)])

    def test_files_of_noise(self):
        chance = random.Random(13622)
        self.root.table([(b"a", b"1")])
        for path in (self.root.home() / "current", self.root.home() / "g" / KEY.hex() / "table"):
            data = path.read_bytes()
            for _ in range(300):
                bad = bytearray(data)
                for _ in range(chance.randrange(1, 20)):
                    bad[chance.randrange(len(bad))] = chance.randrange(256)
                length = 124 if path.name == "table" else len(bad) - 4  # noise under a right checksum
                bad[length : length + 4] = struct.pack("<I", crc32(bytes(bad[:length])))
                path.write_bytes(bad)
                self.answers([(b"a", b"1")], [b"b"])
            path.write_bytes(data)

    def test_cut_while_open(self):
        rows = [(b"%d" % i, b"v") for i in range(100)]
        self.root.table(rows)
        with self.open() as reader:
            os.truncate(self.root.home() / "g" / KEY.hex() / "table", 200)
            calls = [lambda: list(reader.scan()), lambda: reader.get(b"77"), lambda: reader.get(b"x"), reader.verify]
            for call in calls:
                with self.assertRaises(syscache.Corrupt):
                    call()


class Calls(Case):
    def test_no_call_writes_locks_or_follows(self):
        """[I3] What the interpreter reports of every file that it opens, and of everything it would change."""
        self.root.write("share/MANIFEST", b"1")
        self.root.table([(b"a", b"1")], witnesses=[witness(self.root.path, b"share", identity=False)])
        script = f"""if True:
            import sys; sys.path.insert(0, {str(HERE)!r})
            import os, syscache
            def hook(event, args):
                if event == "open" and args[1]:  # FileIO, before it asks its opener
                    asked.append(args[0])
                elif event == "open":
                    asked.remove(args[0])
                    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                    assert args[2] & (flags | os.O_ACCMODE | os.O_CREAT) == flags | os.O_RDONLY, (event, args)
                assert event.split(".")[0] not in ("shutil", "subprocess", "tempfile", "fcntl"), event
                assert event not in ("os.utime", "os.chmod", "os.rename", "os.remove", "os.mkdir", "os.truncate"), event
            with syscache.open({str(self.root.path)!r}, "demo") as r:
                pass  # imports are done
            asked = []
            sys.addaudithook(hook)
            with syscache.open({str(self.root.path)!r}, "demo") as r:
                print(r.get(b"a"), list(r.scan()), r.verify(), asked)
        """
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        self.assertEqual((done.stderr, done.stdout), ("", "b'1' [(b'a', b'1')] None []\n"))

    def test_errors_travel(self):
        import pickle

        error = pickle.loads(pickle.dumps(self.refuses(syscache.Missing)))
        self.assertEqual((error.op, error.cache, error.exit), ("open", "demo", 4))
        self.assertIn("refresh demo", error.hint)
        self.assertTrue(issubclass(syscache.NotFound, KeyError))
        self.assertFalse(issubclass(syscache.NotFound, syscache.Error))


class Command(Case):
    def run_(self, *arguments, **options):
        command = [sys.executable, str(HERE / "syscache.py"), "--root", str(self.root.path), *arguments]
        return subprocess.run(command, capture_output=True, **options)

    def says(self, status, out, *arguments, words=b""):
        done = self.run_(*arguments)
        self.assertEqual((done.returncode, done.stdout), (status, out), done.stderr)
        if not status:
            self.assertEqual(done.stderr, b"")
        elif status != 2:
            self.assertRegex(done.stderr, rb"\Asyscache: [^\n]+\nhint: [^\n]+\n\Z")
        self.assertIn(words, done.stderr)

    def test_table(self):
        values = {
            b"a": b'{"x": [1, 2.50, "\xc3\xa4"]}',
            b"b\n": b"plain",
            b"c\xff": b'"\xff"',
            "d\u00e4".encode(): b'{\n "pretty": 1\r\n}',
            b"e": b"NaN",
            b"f": b"1" * 5000,
            b"g": b"[" * 100000 + b"]" * 100000,
            b"h": b'"\\ud800"',
            b"i": b"",
        }
        self.root.table(list(values.items()))
        self.says(0, b"plain\n", "get", "demo", "b\n")
        self.says(0, values[b"a"] + b"\n", "get", "demo", "a")
        self.says(0, values[b"c\xff"] + b"\n", "get", "demo", b"c\xff")
        done = self.run_("list", "demo")
        lines = done.stdout.splitlines()
        self.assertEqual((done.returncode, done.stderr, len(lines)), (0, b"", len(values)))
        self.assertEqual(lines[0], b'{"key": "a", "value": {"x": [1, 2.50, "\xc3\xa4"]}}')
        self.assertEqual(lines[1], b'{"key": "b\\n", "value_base64": "cGxhaW4="}')
        self.assertEqual(lines[2], b'{"key_base64": "Y/8=", "value_base64": "Iv8i"}')
        by_key = {json.loads(line).get("key"): line for line in lines if len(line) < 4000}
        self.assertEqual(json.loads(by_key["d\u00e4"])["value"], {"pretty": 1})
        self.assertIn(b'"value_base64": "TmFO"', by_key["e"])
        self.assertIn(b'"value": "\\ud800"', by_key["h"])
        self.assertIn(b'"value_base64": ""', by_key["i"])
        self.assertIn(b'"value": ' + b"1" * 5000, done.stdout)
        self.says(0, lines[1] + b"\n", "list", "demo", "b")
        self.says(0, b"", "list", "demo", "none")
        self.says(0, KEY.hex().encode() + b" ok\n", "verify", "demo")
        self.says(1, b"", "path", "demo", words=b"kind table")
        self.says(3, b"", "get", "demo", "no\nsuch", words=b"row key not found: 'no\\nsuch'")

    def test_files(self):
        generation = self.root.files()
        self.says(0, os.fsencode(generation / "files") + b"\n", "path", "demo")
        self.says(0, b"a/b\nlink\nodd\n\xff\ntool\n", "list", "demo")
        self.says(0, b"a/b\n", "list", "demo", "a/")
        self.says(0, KEY.hex().encode() + b" ok\n", "verify", "demo")
        self.says(1, b"", "get", "demo", "x", words=b"no rows")
        (generation / "files/tool").write_bytes(b"ten")
        self.says(6, b"", "verify", "demo", words=b"'files/tool'")

    def test_exit_codes(self):
        self.says(4, b"", "get", "demo", "a", words=b"syscache: get demo: no pointer")
        self.root.table([(b"a", b"1"), (b"b", b"2")], witnesses=[witness(self.root.path, b"new")])
        self.says(0, b"1\n", "get", "demo", "a")
        self.root.write("new")
        self.says(4, b"", "get", "demo", "a", words=b"witness 'new' exists")
        self.root.table([(b"a", b"1"), (b"b", b"2")])
        path = self.root.home() / "g" / KEY.hex() / "table"
        data = path.read_bytes()
        path.write_bytes(data[:157] + b"!" + data[158:])
        self.says(6, b"", "list", "demo", words=b"row at 144")  # nothing of the row before it
        path.chmod(0o646)
        self.says(7, b"", "get", "demo", "a", words=b"written by others")
        path.chmod(0o644)
        self.root.point(version=2)
        self.says(4, b"", "get", "demo", "a", words=b"version 2")
        self.says(4, b"", "get", "../demo", "a")
        for usage in (["get", "demo"], ["frob"], [], ["path", "demo", "x"]):
            self.says(2, b"", *usage)

    def test_cache_dir(self):
        elsewhere = self.scratch / "elsewhere"
        self.root.table([(b"a", b"x")], cache_dir=elsewhere, root=os.fsencode(self.root.path))
        self.says(0, b"x\n", "--cache-dir", str(elsewhere), "get", "demo", "a")
        os.environ["SYSCACHE_CACHE_DIR"] = str(elsewhere)
        self.says(0, b"x\n", "get", "demo", "a")

    @unittest.skipUnless(os.path.exists("/dev/full"), "there is no /dev/full")
    def test_nowhere_to_print(self):
        self.root.table([(b"a", b"1")])
        command = [sys.executable, str(HERE / "syscache.py"), "--root", str(self.root.path), "get", "demo", "a"]
        with open("/dev/full", "wb") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE)
        self.assertEqual((done.returncode, done.stderr), (1, b"syscache: write: No space left on device\n"))


class GoldenVectors(Case):
    """What the refresher itself wrote: testdata/format/<case>/ is a root, cases.json says what a reader finds there."""

    VECTORS = HERE.parents[1] / "testdata" / "format"
    ERRORS = {
        "missing": syscache.Missing,
        "stale": syscache.Stale,
        "corrupt": syscache.Corrupt,
        "untrusted": syscache.Untrusted,
        "toonew": syscache.TooNew,
    }

    @unittest.skipUnless((VECTORS / "cases.json").exists(), "there is no testdata/format/cases.json here")
    def test_golden_vectors(self):
        cases = json.loads((self.VECTORS / "cases.json").read_text())
        self.assertTrue(cases)
        for case in cases:
            with self.subTest(case["case"]):
                self.check(case)

    def check(self, case):
        # A copy: a checkout has the modes of its owner's umask, which another group may write.
        root = self.scratch / case["case"]
        shutil.copytree(self.VECTORS / case["case"], root, symlinks=True)
        for path in (root, *root.rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & ~0o022)
        expected = self.ERRORS[case["error"].replace(" ", "")] if case.get("error") else None
        with self.assertRaises(expected) if expected else contextlib.nullcontext():
            with syscache.open(root, case["cache"]) as reader:
                found = {}
                for key, value in case.get("get", []):
                    key = base64.b64decode(key)
                    try:
                        found[key] = reader.get(key)
                    except syscache.NotFound:
                        found[key] = None
                    self.assertEqual(found[key], None if value is None else base64.b64decode(value))
                if reader.kind == "table":
                    rows = dict(reader.scan())
                    self.assertEqual(len(rows), reader.rows)
                    self.assertEqual({k: rows.get(k) for k in found}, found)
                reader.verify()


if __name__ == "__main__":
    unittest.main()
