#!/usr/bin/env python3
"""Second opinion on a citykeep log and on a settlement receipt: Python 3.11 standard library, no code shared with the service.

  verify.py selftest
  verify.py log DIR --vkey FILE
  verify.py receipt --log DIR --vkey FILE --receipt receipt.json --day day.txt --verdicts out.csv [--lineage L]
  verify.py tamper DIR --vkey FILE --every K

Written from src/keep/translog/SPEC.md and src/keep/wire/SPEC.md. It checks signatures of the log key, the tree, the files and the
form of every entry; approvals and state roots are replayed by `citykeep audit verify`. Exit code 0, or 1 and what is wrong."""
import argparse, base64, csv, datetime, hashlib, json, os, re, struct, sys


class Bad(Exception):
    pass


def need(holds, why):
    if not holds:
        raise Bad(why)


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


# Ed25519 verification, RFC 8032 §5.1.7 and §6, without cofactor; small keys and long scalars refused.
P = 2**255 - 19
Q = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT_M1 = pow(2, (P - 1) // 4, P)


def add(a, b):
    e, f = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    c, d = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = f - e, d - c, d + c, f + e
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(n, point):
    total = (0, 1, 1, 0)
    while n:
        if n & 1:
            total = add(total, point)
        point, n = add(point, point), n >> 1
    return total


def same(a, b):
    return (a[0] * b[2] - b[0] * a[2]) % P == 0 and (a[1] * b[2] - b[1] * a[2]) % P == 0


def point(data):
    y, sign = int.from_bytes(data, "little") & (2**255 - 1), data[31] >> 7
    need(len(data) == 32 and y < P, "a curve point is not in its shortest form")
    x2 = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(x2, (P + 3) // 8, P)
    x = x if (x * x - x2) % P == 0 else x * ROOT_M1 % P
    need((x * x - x2) % P == 0 and not (x == 0 and sign), "a curve point is not on the curve")
    x = x if x & 1 == sign else P - x
    return x, y, 1, x * y % P


BASE = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def ed25519(key, text, signature):
    try:
        a, r, s = point(key), point(signature[:32]), int.from_bytes(signature[32:], "little")
    except Bad:
        return False
    if len(signature) != 64 or s >= Q or any(same(times(8, small), (0, 1, 1, 0)) for small in (a, r)):
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + text).digest(), "little") % Q
    return same(times(s, BASE), add(r, times(h, a)))


# Tree, RFC 6962 §2.1.
def tree_root(leaves):
    if len(leaves) < 2:
        return leaves[0] if leaves else sha()
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return sha(b"\1", tree_root(leaves[:k]), tree_root(leaves[k:]))


def path_root(leaf, index, size, path):
    at, last, root, rest = index, size - 1, leaf, list(path)
    need(0 <= index < size, "an index is beyond its tree")
    while last:
        if at & 1 or at < last:  # else: no sibling on this level
            need(rest, "an inclusion path is too short")
            root = sha(b"\1", rest.pop(0), root) if at & 1 else sha(b"\1", root, rest.pop(0))
        at, last = at >> 1, last >> 1
    need(not rest, "an inclusion path is too long")
    return root


# Notes, C2SP signed-note and tlog-checkpoint.
def unbase64(text):
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        data = None
    need(data is not None and base64.b64encode(data).decode() == text, "base64 text is not in its one form")
    return data


def read_vkey(text):
    name, label, key = (text.removesuffix("\n").split("+", 2) + ["", ""])[:3]
    data = unbase64(key)
    need(name and data[:1] == b"\1" and len(data) == 33, "the vkey is not an Ed25519 verifier key")
    need(sha(name.encode(), b"\n", data)[:4].hex() == label, "the vkey's label does not fit its name and key")
    return name, data[1:], bytes.fromhex(label)


def read_note(note, vkey):
    name, key, label = vkey
    body, gap, lines = note.rpartition("\n\n")
    need(gap and lines.endswith("\n") and not re.search(r"[\x00-\x09\x0b-\x1f]", note), "it is not a signed note")
    text, good, unknown = body + "\n", 0, 0
    for line in lines[:-1].split("\n"):
        match = re.fullmatch(r"\u2014 ([^\s+]+) (\S+)", line)
        need(match, "it has a line that is no signature")
        data = unbase64(match[2])
        if match[1] == name and data[:4] == label:
            need(ed25519(key, text.encode(), data[4:]), "the log key's signature is not over this checkpoint")
            good += 1
        else:
            unknown += 1
    need(good, "it is not signed by the log key")
    match = re.fullmatch(r"([^\n]+)\n(0|[1-9][0-9]{0,18})\n([^\n]{44})\n", text)
    need(match and match[1] == name, "its text is not origin, size and root of this log")
    root = unbase64(match[3])
    need(len(root) == 32, "its root is not 32 bytes")
    return int(match[2]), root, unknown


# Deterministic CBOR.
def cbor(data):
    value, end = cbor_at(data, 0)
    need(end == len(data), "bytes follow the CBOR value")
    return value


def cbor_at(data, at):
    need(at < len(data), "CBOR is cut short")
    if data[at] in (0xF4, 0xF5):
        return data[at] == 0xF5, at + 1
    major, info, at = data[at] >> 5, data[at] & 31, at + 1
    need(info < 28 and major in (0, 1, 2, 3, 4, 5), "CBOR of a kind that entries do not have")
    size = 0 if info < 24 else 1 << info - 24
    need(at + size <= len(data), "CBOR is cut short")
    n = int.from_bytes(data[at : at + size], "big") if size else info
    need(n >= {0: 0, 1: 24, 2: 2**8, 4: 2**16, 8: 2**32}[size], "CBOR is not in its shortest form")
    at += size
    if major < 2:
        return (n if major == 0 else -1 - n), at
    if major < 4:
        need(at + n <= len(data), "CBOR is cut short")
        part = data[at : at + n]
        return (part if major == 2 else part.decode("utf-8")), at + n
    if major == 4:
        items = []
        for _ in range(n):
            item, at = cbor_at(data, at)
            items.append(item)
        return items, at
    pairs, last = {}, -1
    for _ in range(n):
        key, at = cbor_at(data, at)
        need(type(key) is int and key > last, "CBOR map keys do not ascend")
        pairs[key], at = cbor_at(data, at)
        last = key
    return pairs, at


# Entries: (kind, required fields, optional fields).
KINDS = {1: ("genesis", 5, ()), 2: ("boot", 3, ()), 3: ("command", 1, (1, 2)), 4: ("component", 2, (2,)), 5: ("batch", 12, (10,)),
         6: ("single", 3, ()), 7: ("failures", 1, ()), 8: ("asserted", 5, (2, 3)), 9: ("denied", 4, ())}
FIELDS = [int, int, bytes, bytes, int, int, int, bytes, bytes, list]
LENGTHS = {2: 16, 3: 16, 7: 16, 8: 32}


def read_entry(data):
    entry = cbor(data)
    need(type(entry) is dict and list(entry) == list(range(10)), "its fields are not 0 to 9")
    need(all(type(entry[k]) is kind for k, kind in enumerate(FIELDS)), "a field has another type")
    need(all(len(entry[k]) == size for k, size in LENGTHS.items()), "an id or digest has another length")
    need(entry[0] == 1 and entry[4] == 0, "its format is not 1 or its epoch not 0")
    need(len(entry[9]) == 2 and type(entry[9][0]) is int and entry[9][0] in KINDS and type(entry[9][1]) is dict, "its event is unknown")
    name, count, optional = KINDS[entry[9][0]]
    fields = set(entry[9][1]) | set(optional)
    need(fields == set(range(count)) | set(optional), f"a {name} event has missing or unknown fields")
    return entry


def check_chain(entry, seen):
    """Sequence, module, boots and clock; `seen` is what went before."""
    kind, boot = entry[9][0], entry[3]
    need(entry[1] == seen["next"], f"its seq is {entry[1]}")
    need((kind == 1) == (entry[1] == 0), "genesis comes first and once")
    need(entry[2] == seen.setdefault("node", entry[2]), "it is of another module")
    if kind in (1, 2):
        need(boot not in seen["boots"], "its boot id comes twice")
        seen["boots"].add(boot)
    else:
        need(boot == seen["boot"], "it is of another boot than the entries before it")
        need(entry[6] >= seen["mono"], "the module's clock went back within a boot")
    seen.update(next=entry[1] + 1, boot=boot, mono=entry[6])


class Files:
    """A published directory; `changed` replaces files in memory."""

    def __init__(self, root, changed=()):
        self.root, self.changed = root, dict(changed)
        walk = ((os.path.relpath(os.path.join(top, name), root)) for top, _, names in os.walk(root) for name in names)
        self.names = {name.replace(os.sep, "/") for name in walk}

    def read(self, name):
        if name in self.changed:
            return self.changed[name]
        need(name in self.names, f"{name}: the file is missing")
        with open(os.path.join(self.root, name), "rb") as file:
            return file.read()


def tile_name(level, n, width):
    text, rest = f"{n % 1000:03}", n // 1000
    while rest:
        text, rest = f"x{rest % 1000:03}/{text}", rest // 1000
    return f"tile/{level}/{text}" + (f".p/{width}" if width < 256 else "")


def check_log(files, vkey_text):
    """Everything in a published directory; gives origin, root, entries and leaf hashes."""
    vkey = read_vkey(vkey_text)
    need("vkey" not in files.names or files.read("vkey").decode() == vkey_text.removesuffix("\n") + "\n", "vkey: it is not the given one")
    size, root, unknown = about("checkpoint", lambda: read_note(files.read("checkpoint").decode(), vkey))
    need(not unknown and size, "checkpoint: it is empty or has a signature by a key that was not given")
    belong, entries, hashes, level = {"checkpoint", "vkey"}, [], [], 0
    seen = {"next": 0, "boots": set()}
    for n in range(-(-size // 256)):
        width = min(256, size - 256 * n)
        name, rest = tile_name("entries", n, width), files.read(tile_name("entries", n, width))
        belong.add(name)
        for index in range(256 * n, 256 * n + width):
            need(len(rest) >= 2 + int.from_bytes(rest[:2], "big"), f"{name}: entry {index} is cut short")
            data, rest = rest[2 : 2 + int.from_bytes(rest[:2], "big")], rest[2 + int.from_bytes(rest[:2], "big") :]
            entry = about(f"{name}: entry {index}", lambda: read_entry(data))
            about(f"{name}: entry {index}", lambda: check_chain(entry, seen))
            entries.append(data)
            hashes.append(sha(b"\0", data))
        need(not rest, f"{name}: bytes follow the last entry")
    leaves = hashes
    while hashes:
        for n in range(-(-len(hashes) // 256)):
            row = hashes[256 * n : 256 * n + 256]
            name = tile_name(level, n, len(row))
            tile = files.read(name)
            wrong = next((i for i, h in enumerate(row) if tile[32 * i : 32 * i + 32] != h), None)
            where = f" at entry {256 * n + wrong}" if level == 0 and wrong is not None else ""
            need(tile == b"".join(row), f"{name}: its hashes are not those of what lies below{where}")
            belong.add(name)
        hashes = [tree_root(hashes[i : i + 256]) for i in range(0, len(hashes) - 255, 256)]
        level += 1
    need(tree_root(leaves) == root, "checkpoint: its root is not that of the entries")
    stray = sorted(files.names - belong)
    need(not stray, f"{stray and stray[0]}: it does not belong into this log")
    genesis = about("entry 0", lambda: cbor(entries[0]))[9][1]
    command = about("entry 0", lambda: cbor(cbor(genesis[0])[0]))
    need((genesis[2], command[9][1][0]) == (vkey[1], vkey[0]), "entry 0: origin or log key of the genesis are not the vkey's")
    return vkey, root, entries, leaves


def about(what, check):
    try:
        return check()
    except (Bad, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise Bad(f"{what}: {error}") from None


# F1 lines, batch records, the arity-16 tree (wire/SPEC.md).
def fields(line):
    """(version, issuer), record without group; or None: malformed."""
    digits, hexes = rb"[0-9]*", rb"[0-9A-Fa-f]*"
    cut = lambda at, size, form: line[at : at + size] if re.fullmatch(form, line[at : at + size]) else None
    parts = [cut(12, 20, digits), cut(79, 8, hexes), cut(95, 2, rb"0[69]"), cut(117, 12, hexes), cut(129, 9, digits),
             cut(147, 8, digits), cut(155, 6, rb"([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]"), cut(161, 8, hexes),
             cut(169, 2, hexes), cut(177, 16, hexes)]
    if len(line) != 315 or not line.isascii() or None in parts:
        return None
    serial, amount, kind, psam, sequence, date, time, tac, version, issuer = (part.decode() for part in parts)
    try:
        datetime.date(int(date[:4]), int(date[4:6]), int(date[6:]))
    except ValueError:
        return None
    card, issuer, h = bytes.fromhex(serial[4:]), bytes.fromhex(issuer), bytes.fromhex
    if {card, issuer} & {bytes(8), b"\xff" * 8}:
        return None
    data = h(amount) + h(kind) + h(psam) + struct.pack(">I", int(sequence)) + h(date) + h(time)
    return (int(version, 16), issuer), (card + data + h(tac))


def arity16(row):
    while len(row) > 1:
        row = [sha(b"\1node", *row[i : i + 16]) for i in range(0, len(row), 16)]
    return row[0] if row else bytes(32)


VERDICTS = ["ok", "bad_tac", "unknown_key", "malformed", "withheld"]


def recount(day, verdicts, lineage):
    lines = day.removesuffix(b"\n").split(b"\n") if day else []
    need(verdicts[:1] == [["line", "verdict"]], "the verdict file has no header line,verdict")
    rows = verdicts[1:]
    need(len(rows) == len(lines), f"{len(lines)} lines in the day, {len(rows)} verdicts")
    groups, leaves, total, versions = {}, [], [0] * 5, {}
    for number, (line, row) in enumerate(zip(lines, rows), 1):
        need(len(row) == 2 and row[0] == str(number) and row[1] in VERDICTS, f"line {number} of the verdicts is {row}")
        verdict, parsed = VERDICTS.index(row[1]), fields(line)
        total[verdict] += 1
        if parsed:
            group = groups.setdefault(parsed[0], len(groups))
            record = parsed[1] + struct.pack(">H4x", group)
            versions.setdefault(parsed[0][0], [0] * 5)[verdict] += 1
        else:
            record = sha(line) + struct.pack(">xxHB3x", 0xFFFF, 1)
        leaves.append(sha(b"\0rec", record, bytes([verdict])))
    header = struct.pack(">4s4H100s", b"CKB1", 1, 1, 40, len(groups), lineage.encode())
    header += b"".join(struct.pack(">B7x8s", *group) for group in groups)
    root = sha(b"\2root", struct.pack(">Q", len(leaves)), sha(b"\3hdr", header), arity16(leaves))
    return root, total, dict(sorted(versions.items())), leaves


def check_receipt(receipt, log, day, verdicts, lineage):
    vkey, _, entries, leaves = log
    need((receipt["version"], receipt["suite"]) == (1, 1), "its format is not version 1, suite 1")
    root, total, versions, records = recount(day, verdicts, lineage)
    counts = lambda row: dict(zip(VERDICTS, row))
    need(receipt["records"] == len(records) and receipt["counts"] == counts(total), "its counts are not those of day and verdicts")
    named = [{"version": f"{v:02X}", "counts": counts(row)} for v, row in versions.items()]
    need(receipt["versions"] == named, "its counts by key version are not those of day and verdicts")
    need(receipt["root"] == root.hex().upper(), "its root is not that of day, verdicts and lineage")
    head, note = receipt["proof"].split("\n\n", 1)
    first, at, *path = head.split("\n")
    need(first == "c2sp.org/tlog-proof@v1" and re.fullmatch(r"index (0|[1-9]\d*)", at), "its proof is no tlog-proof")
    index, data, indices = int(at[6:]), bytes.fromhex(receipt["entry"]), receipt["indices"]
    need(receipt["entry"] == data.hex().upper() and indices == sorted(set(indices)) and indices[-1:] == [index], "its entry or indices are misspelt")
    size, head_root, _ = read_note(note, vkey)
    need(path_root(sha(b"\0", data), index, size, [unbase64(line) for line in path]) == head_root, "its proof does not lead to the signed root")
    need(size <= len(leaves), f"the log has {len(leaves)} entries and the receipt is of {size}: fetch a newer one")
    need(tree_root(leaves[:size]) == head_root and entries[index] == data, f"the log has another entry {index} or another root at {size}")
    event = read_entry(data)[9]
    own = [{0: v, 1: dict(enumerate(row))} for v, row in versions.items()]
    need(event[0] == 5 and event[1].get(10) == {0: len(records), 1: root, 2: dict(enumerate(total)), 3: own}, f"entry {index} has another total")
    ids = [bytes.fromhex(receipt["batch"]), receipt["client"], 1, receipt["lineage"]]
    for part, at in enumerate(indices):
        batch = cbor(entries[at])[9]
        need(batch[0] == 5 and [batch[1][k] for k in range(4)] == ids and batch[1][4] == part and not batch[1][11], f"entry {at} is not part {part}")
        chunk = records[part * 65536 :][:65536]
        need((batch[1][5], batch[1][6]) == (len(chunk), arity16(chunk)), f"entry {at} has other records")
    need(len(indices) == len(records) // 65536 + 1, "parts of the batch are missing")
    instance = cbor(cbor(cbor(entries[0])[9][1][0])[0])[2]
    names = (instance.hex().upper(), vkey[0], "purchase-tac", lineage)
    need((receipt["instance"], receipt["origin"], receipt["profile"], receipt["lineage"]) == names, "it is of another instance, origin, profile or lineage")
    return f"receipt good: {len(records)} records, batch {receipt['batch']}, entry {index} of {vkey[0]}"


VKEY = "hsm.example/audit-1+651737db+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4\n"
NOTE = """hsm.example/audit-1
7
kTlgHMHKirKnoMLBNMBIRfKxulSag9bIRc/NpDnMWF0=

\u2014 hsm.example/audit-1 ZRc328nN2JkxRdAAYmYv3K453CUxy4ezNNTcHMwjqlvEc1HgvJOrQWtIMvkUqqFrtwojngV1SGmyOMvWqiVq5lc9LQA=
\u2014 witness.example/w1 IDJKvgAAAABlU/EA057p5khAWTUjToGPLb9299ATjAWZ/gCTUjz6B/5dEWuw7IpR2chg78M5ojmfFthusWjktvyWb2FHWpl75an/DQ==
"""
PATH = """049d7dcdb56bcfebd313304c9839f196a3d4b6ef3bdc0b08298f93ac8191f0a8 2f27a5082c1d42afa488ac350a9fc4390c084f54f71ecdff859e98db8429b479
e429c5b5ccaa9523c37297f1846766f903137e82195c5199e6be57130d1006c8"""


def selftest():
    """Vectors of SPEC.md §Vectors; a verifier that fails them says nothing about any log."""
    entries = [b"entry-%d" % n for n in range(7)]
    leaves = [sha(b"\0", entry) for entry in entries]
    need(leaves[0].hex() == "40766b2033429026f53d54502679a839706b4741f8dcaf3a8bba5f41b5ffe075", "selftest: leaf")
    need(tree_root(leaves[:3]).hex() == "a64bf26e09128f6fe2fe6f8b2d8c801e166b57c047a7cd9b2b809e7a96a2f1cb", "selftest: root of 3")
    root = tree_root(leaves)
    need(root.hex() == "9139601cc1ca8ab2a7a0c2c134c04845f2b1ba549a83d6c845cfcda439cc585d", "selftest: root of 7")
    need(path_root(leaves[3], 3, 7, map(bytes.fromhex, PATH.split())) == root, "selftest: inclusion")
    need(read_note(NOTE, read_vkey(VKEY)) == (7, root, 1), "selftest: note")
    for bad in (NOTE.replace("\n7\n", "\n8\n"), NOTE.replace("9LQA=", "9LQB="), NOTE.replace("ZRc328", "ZRc329"), NOTE.replace("ZRc3", "ZRc4")):
        try:
            read_note(bad, read_vkey(VKEY))
        except Bad:
            continue
        raise Bad("selftest: a changed note was believed")
    bundle = b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)
    need(sha(bundle).hex() == "0327f91917f94f5ad8edb07c834864a3926394c6f7e12cd5dbfc646403a2847b", "selftest: bundle")
    need(sha(*leaves).hex() == "e99f493b599ba703533533aef52f8c7d065829a1ab763aac3f97a11854400cc9", "selftest: tile")
    need(tile_name(0, 1234067, 7) == "tile/0/x001/x234/067.p/7" and cbor(b"\xa1\x00\x82\x18\x18\xf5") == {0: [24, True]}, "selftest: tile name, CBOR")


def tamper(root, vkey, every):
    """Flips a bit of every K-th byte of every file, in memory, and counts what is found."""
    files, made, found = Files(root), 0, 0
    for name in sorted(files.names):
        data = files.read(name)
        for at in range(made % every, len(data), every):
            flipped = bytearray(data)
            flipped[at] ^= 1 << at % 8
            files.changed = {name: bytes(flipped)}
            made += 1
            try:
                about("log", lambda: check_log(files, vkey))
            except Bad:
                found += 1
    need(found == made, f"{found} of {made} tamperings found")
    return f"{found} of {made} tamperings found"


def main():
    parser = argparse.ArgumentParser(description="Verify a citykeep log or receipt.")
    modes = parser.add_subparsers(dest="mode", required=True)
    modes.add_parser("selftest")
    for mode in ("log", "tamper"):
        modes.add_parser(mode).add_argument("dir")
        modes.choices[mode].add_argument("--vkey", required=True)
    modes.choices["tamper"].add_argument("--every", type=int, default=1)
    for name in ("log", "vkey", "receipt", "day", "verdicts"):
        (modes.choices.get("receipt") or modes.add_parser("receipt")).add_argument(f"--{name}", required=True)
    modes.choices["receipt"].add_argument("--lineage", default="transit/purse/tac")
    a = parser.parse_args()
    text = lambda name, mode="r": open(name, mode, **({} if "b" in mode else {"encoding": "utf-8", "newline": ""}))
    try:
        selftest()
        said = "selftest: every vector agrees"
        if a.mode != "selftest":
            vkey = text(a.vkey).read()
        if a.mode == "tamper":
            said = tamper(a.dir, vkey, a.every)
        elif a.mode in ("log", "receipt"):
            log = about("log", lambda: check_log(Files(a.dir if a.mode == "log" else a.log), vkey))
            said = f"log good: {len(log[2])} entries, origin {log[0][0]}, root {log[1].hex()}"
        if a.mode == "receipt":
            parts = json.load(text(a.receipt)), log, text(a.day, "rb").read(), list(csv.reader(text(a.verdicts))), a.lineage
            said = about("receipt", lambda: check_receipt(*parts))
    except (Bad, OSError, ValueError) as error:
        print(f"NOT GOOD: {error}")
        return 1
    print(said)
    return 0


if __name__ == "__main__":
    sys.exit(main())
