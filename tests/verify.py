#!/usr/bin/env python3
"""Second opinion on a citykeep log and on a settlement receipt: Python 3.11 standard library, no code shared with the service.
  verify.py selftest
  verify.py log DIR --vkey FILE
  verify.py receipt --log DIR --vkey FILE --receipt receipt.json --day day.txt --verdicts out.csv [--lineage L]
  verify.py tamper DIR --vkey FILE --every K
--policy FILE (c2sp.org/tlog-policy) in place of --vkey asks for the quorum's cosignatures too.
Written from src/keep/translog/SPEC.md and src/keep/wire/SPEC.md. It checks all signatures of the head, the tree, the files and the form of
every entry; approvals and state roots are replayed by `citykeep audit verify`. Exit code 0, or 1 and what is wrong."""
import argparse, base64, csv, datetime, hashlib, json, pathlib, re, struct, sys
class Bad(Exception): pass
def need(holds, why):
    if not holds: raise Bad(why)
def about(what, check, *parts):
    try: return check(*parts)
    except (Bad, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise Bad(f"{what}: {error}") from None
def sha(*parts): return hashlib.sha256(b"".join(parts)).digest()

# Ed25519 verification, RFC 8032 §5.1.7 and §6, without cofactor; small keys and long scalars refused.
P, Q = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D, ROOT_M1, ZERO = -121665 * pow(121666, -1, P) % P, pow(2, (P - 1) // 4, P), (0, 1, 1, 0)
def add(a, b):
    e, f = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    c, d = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = f - e, d - c, d + c, f + e
    return e * f % P, g * h % P, f * g % P, e * h % P
def times(n, point):
    total = ZERO
    for bit in f"{n:b}":
        total = add(add(total, total), point if bit == "1" else ZERO)
    return total
def same(a, b): return (a[0] * b[2] - b[0] * a[2]) % P == 0 and (a[1] * b[2] - b[1] * a[2]) % P == 0
def point(data):
    y, sign = int.from_bytes(data, "little") & (2**255 - 1), data[31] >> 7
    x2 = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(x2, (P + 3) // 8, P)
    x = x if (x * x - x2) % P == 0 else x * ROOT_M1 % P
    need(y < P and (x * x - x2) % P == 0 and not (x == 0 and sign), "bytes are no curve point")
    x = x if x & 1 == sign else P - x
    return x, y, 1, x * y % P
BASE = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
def ed25519(key, text, signature):
    need(len(signature) == 64 and len(key) == 32, "a signature or key has another length")
    a, r, s = point(key), point(signature[:32]), int.from_bytes(signature[32:], "little")
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + text).digest(), "little") % Q
    return s < Q and not same(times(8, a), ZERO) and not same(times(8, r), ZERO) and same(times(s, BASE), add(r, times(h, a)))

# Tree, RFC 6962 §2.1.
def tree_root(leaves):
    if len(leaves) < 2: return leaves[0] if leaves else sha()
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return sha(b"\1", tree_root(leaves[:k]), tree_root(leaves[k:]))
def path_root(root, at, size, path):
    last, rest = size - 1, list(path)
    need(0 <= at < size, "an index is beyond its tree")
    while last:
        if at & 1 or at < last:  # else it has no sibling on this level
            root = sha(b"\1", rest.pop(0), root) if at & 1 else sha(b"\1", root, rest.pop(0))
        at, last = at >> 1, last >> 1
    need(not rest, "an inclusion path is too long")
    return root

# Notes, C2SP signed-note and tlog-checkpoint.
def unbase64(text):
    need(base64.b64encode(base64.b64decode(text, validate=True)).decode() == text, "base64 text is not in its one form")
    return base64.b64decode(text)
def read_vkey(text, kind=b"\1"):
    name, label, key = text.removesuffix("\n").split("+", 2)
    data = unbase64(key)
    need(re.fullmatch(r"[^\s+]+", name) and data[:1] == kind and len(data) == 33, "it is not an Ed25519 verifier key of this kind")
    need(sha(name.encode(), b"\n", data)[:4].hex() == label, "its label does not fit its name and key")
    return name, data[1:], bytes.fromhex(label)
def read_note(note, name, key, label):
    body, gap, lines = note.rpartition("\n\n")
    need(gap and lines.endswith("\n") and not re.search(r"[\x00-\x09\x0b-\x1f]", note), "it is not a signed note")
    matches = [re.fullmatch(r"\u2014 ([^\s+]+) (\S+)", line) for line in lines[:-1].split("\n")]
    need(all(matches), "it has a line that is no signature")
    signatures = [(match[1], unbase64(match[2])) for match in matches]
    ours = [data[4:] for by, data in signatures if (by, data[:4]) == (name, label)]
    good = ours and all(ed25519(key, f"{body}\n".encode(), signature) for signature in ours)
    need(good, "it is not signed by the log key: it was changed, or made by another key")
    match = re.fullmatch(r"([^\n]+)\n(0|[1-9][0-9]{0,18})\n([^\n]{44})", body)
    need(match and match[1] == name, "its text is not origin, size and root of this log")
    return int(match[2]), unbase64(match[3]), [(by, data) for by, data in signatures if (by, data[:4]) != (name, label)]

# Policies and cosignatures, C2SP tlog-policy and tlog-cosignature v1.
def read_policy(text):
    """Logs, witnesses by name, groups (K, members) by name, quorum."""
    logs, witnesses, groups, quorum, members = [], {}, {}, [], []
    for line in text.split("\n"):
        need(not re.search(r"[\x00-\x08\x0a-\x1f\x7f]", line), "it has a control character")
        words = [word for word in re.split("[ \t]", line) if word]
        if not words or words[0][0] == "#": continue
        new = lambda name: need(name not in {**witnesses, **groups, "none": 0}, f"the name {name} is taken")
        match words:
            case ["log", key] | ["log", key, _]: logs.append(read_vkey(key))
            case ["witness", name, key] | ["witness", name, key, _]:
                new(name)
                witnesses[name] = read_vkey(key, b"\4")
            case ["group", name, count, *own]:
                new(name)
                members += own
                need(all(one in {**witnesses, **groups} for one in own) and len(members) == len({*members}), f"a member of {name} is unknown or twice")
                count = {"any": "1", "all": str(len(own))}.get(count, count)
                need(re.fullmatch("[1-9][0-9]?", count) and int(count) <= len(own), f"{name} needs all, any or a number of its members")
                groups[name] = int(count), own
            case ["quorum", name]:
                need(name in {**witnesses, **groups, "none": 0}, f"{name} is not defined above")
                quorum.append(name)
            case _: raise Bad(f"a line that is no statement: {words[0]}")
    need(logs and len(quorum) == 1 and max(len(logs), len(witnesses), len(groups)) <= 32, "it needs logs and one quorum, and at most 32 of each")
    for keys in (logs, witnesses.values()):
        need(len({key for _, key, _ in keys}) == len(keys), "a key is in it twice")
    return logs, witnesses, groups, quorum[0]
def cosigned(text, data, key):
    """The time of a cosignature over a checkpoint's text; `data` is what stands behind the key id."""
    need(len(data) == 72 and data[0] < 128, "a cosignature has another form")
    time = int.from_bytes(data[:8])
    need(ed25519(key, f"cosignature/v1\ntime {time}\n".encode() + text, data[8:]), "a witness's cosignature does not fit the checkpoint")
    return time
def vouch(note, policy):
    """The log's vkey, size and root of a note that satisfies a policy, and its lines by neither the log nor a witness."""
    logs, witnesses, groups, quorum = policy
    vkey = next((log for log in logs if note.startswith(log[0] + "\n")), logs[0])
    size, root, others = read_note(note, *vkey)
    text, by, rest = note.rpartition("\n\n")[0].encode() + b"\n", set(), []
    for line in others:
        name = next((own for own, key in witnesses.items() if (line[0], line[1][:4]) == (key[0], key[2])), None)
        if name:
            cosigned(text, line[1][4:], witnesses[name][1])
            by.add(name)
        else: rest.append(line)
    has = lambda name: name in by if name in witnesses else sum(map(has, groups[name][1])) >= groups[name][0]
    need(quorum == "none" or has(quorum), f"its head is cosigned by {len(by)} of {len(witnesses)} witnesses, and the quorum {quorum} asks for more")
    return vkey, size, root, rest, len(by)
def only(vkey): return [read_vkey(vkey)], {}, {}, "none"

# Deterministic CBOR.
def cbor(data, at=None):
    """The one value in `data`; with `at` the value there and where it ends."""
    if at is None:
        value, end = cbor(data, 0)
        need(end == len(data), "bytes follow the CBOR value")
        return value
    if data[at] in (0xF4, 0xF5): return data[at] == 0xF5, at + 1
    major, info, at = data[at] >> 5, data[at] & 31, at + 1
    need(info < 28 and major < 6, "CBOR of a kind that entries do not have")
    size = 0 if info < 24 else 1 << info - 24
    n, at = (int.from_bytes(data[at : at + size], "big") if size else info), at + size
    need(n >= {0: 0, 1: 24, 2: 2**8, 4: 2**16, 8: 2**32}[size], "CBOR is not in its shortest form")
    need(at <= len(data) and (major < 2 or at + n <= len(data)), "CBOR is cut short")
    if major < 2: return (-1 - n if major else n), at
    if major < 4: return (data[at : at + n].decode() if major == 3 else data[at : at + n]), at + n
    items = []
    for _ in range(n * (major - 3)):
        item, at = cbor(data, at)
        items.append(item)
    if major == 4: return items, at
    keys = items[::2]
    need(all(type(key) is int for key in keys) and keys == sorted(set(keys)), "CBOR map keys do not ascend")
    return dict(zip(keys, items[1::2])), at
# Entries. Event number: name, fields, which of them may be absent.
KINDS = {1: ("genesis", 6, (5,)), 2: ("boot", 4, (3,)), 3: ("command", 3, (1, 2)), 4: ("component", 3, (2,)), 5: ("batch", 12, (10,)),
         6: ("single", 3, ()), 7: ("failures", 1, ()), 8: ("asserted", 5, (2, 3)), 9: ("denied", 4, ()),
         10: ("issued", 7, ()), 11: ("list", 12, ()), 12: ("load", 9, (8,)), 13: ("script", 4, ()),
         14: ("epoch", 5, ()), 15: ("heartbeat", 2, ()), 16: ("witness", 3, ()), 17: ("intent", 3, ()), 18: ("closed", 2, ()),
         19: ("truncated", 2, ())}
FIELDS = [int, int, 16, 16, int, int, int, 16, 32, list]
def read_entry(data):
    entry = cbor(data)
    need(type(entry) is dict and list(entry) == list(range(10)), "its fields are not 0 to 9")
    fits = lambda value, form: type(value) is form or type(value) is bytes and len(value) == form
    need(all(map(fits, entry.values(), FIELDS)), "a field has another type or length")
    need(entry[0] == 1, "its format is not 1")
    name, count, optional = KINDS[entry[9][0]]
    need({*entry[9][1], *optional} == {*range(count)}, f"a {name} event has missing or unknown fields")
    return entry
def check_chain(data, seen):
    """One entry after those before it: form, sequence, module, boots, clock and epochs."""
    _, seq, node, boot, epoch, _, mono, _, _, (kind, event) = read_entry(data).values()
    need(seq == seen["next"], f"its seq is {seq}")
    need((kind == 1) == (seq == 0), "genesis comes first and once")
    need(node == seen.setdefault("node", node), "it is of another module")
    starts = kind in (1, 2)
    need(boot not in seen["boots"] if starts else boot == seen["boots"][-1], "its boot id comes twice or is not the one before it")
    need(starts or mono >= seen["mono"], "the module's clock went back within a boot")
    if kind == 1: seen["instance"] = cbor(cbor(event[0])[0])[2]
    epochs, key = seen["epochs"], event.get({1: 5, 2: 3}.get(kind))
    need(not starts or key or not epochs, "a boot without an epoch key in a log that has epochs")
    if key: begin_epoch(epochs, seq, key)
    need(epoch == len(epochs), "it names another epoch than its own")
    seen["alive"] = kind == 15 or seen.get("alive", False) and not key
    if kind == 14:
        number, key, size, root, signature = event.values()
        text = b"".join([b"citykeep epoch v1\0", seen["instance"], node, struct.pack(">Q", number), key, struct.pack(">Q", size), root])
        need(seen["alive"] and epochs and (number, size) == (epoch + 1, seq), "an epoch ends without a heartbeat, or in another place")
        need(ed25519(epochs[-1][1], text, signature), "the next epoch's key is not certified by the key of the epoch that ends")
        begin_epoch(epochs, seq + 1, key)
        seen["turns"].append((seq, root))
        seen["alive"] = False
    seen.update(next=seq + 1, boots=[*seen["boots"], boot] if starts else seen["boots"], mono=mono)
def begin_epoch(epochs, first, key):
    need(len(key) == 32 and not same(times(8, point(key)), ZERO), "an epoch's key is no key")
    need(key not in [old for _, old in epochs], "an epoch's key had an epoch before")
    epochs.append((first, key))
class Files(dict):
    """Every file below a directory, by its relative name."""
    def __missing__(self, name):
        raise Bad(f"{name}: the file is missing")
def load(root):
    paths = [path for path in pathlib.Path(root).rglob("*") if path.is_symlink() or not path.is_dir()]
    return Files((path.relative_to(root).as_posix(), path.read_bytes()) for path in paths)
def tile_name(level, n, width):
    groups = [f"x{n // 1000**k % 1000:03}/" for k in (4, 3, 2, 1) if n >= 1000**k]
    return f"tile/{level}/{''.join(groups)}{n % 1000:03}" + (f".p/{width}" if width < 256 else "")

def check_log(files, policy):
    """Everything in a published directory; gives vkey, root, entries and leaf hashes."""
    belong, entries, seen = {"checkpoint", "vkey"}, [], {"next": 0, "boots": [], "epochs": [], "turns": []}
    vkey, size, root, others, witnesses = about("checkpoint", lambda note: vouch(note.decode(), policy), files["checkpoint"])
    line = f"{vkey[0]}+{vkey[2].hex()}+{base64.b64encode(bytes([1]) + vkey[1]).decode()}\n".encode()
    need(files.get("vkey", line) == line, "vkey: it is not the given one")
    need(size, "checkpoint: it is empty")
    for n in range(-(-size // 256)):
        name, at = tile_name("entries", n, min(256, size - 256 * n)), 0
        bundle = files[name]
        for index in range(256 * n, min(size, 256 * n + 256)):
            at, end = at + 2, at + 2 + int.from_bytes(bundle[at : at + 2], "big")
            about(f"{name}: entry {index}", check_chain, bundle[at:end], seen)
            entries.append(bundle[at:end])
            at = end
        need(at == len(bundle), f"{name}: it does not end with entry {index}")
        belong.add(name)
    leaves = row = [sha(b"\0", entry) for entry in entries]
    level = 0
    while row:
        for n in range(-(-len(row) // 256)):
            hashes = row[256 * n : 256 * n + 256]
            name = tile_name(level, n, len(hashes))
            wrong = [256 * n + i for i, h in enumerate(hashes) if files[name][32 * i : 32 * i + 32] != h and level == 0]
            need(files[name] == b"".join(hashes), f"{name}: its hashes are not those of what lies below; first at entry {wrong[:1]}")
            belong.add(name)
        row, level = [tree_root(row[i : i + 256]) for i in range(0, len(row) - 255, 256)], level + 1
    need(tree_root(leaves) == root, "checkpoint: its root is not that of the entries")
    key = [key for first, key in seen["epochs"] if first < size][-1:]
    label = [(vkey[0], sha(vkey[0].encode(), b"\n\1", key)[:4]) for key in key]
    text, _, lines = files["checkpoint"].rpartition(b"\n\n")
    text, first = text + b"\n", lines.split(b"\n")[0].split(b" ")
    need(lines.count(b"\n") == 1 + len(label) + witnesses and unbase64(first[-1].decode())[:4] == vkey[2] and first[1] == vkey[0].encode(),
         "checkpoint: its lines are not one of the log, one of the epoch, and one of each witness")
    need([(by, data[:4]) for by, data in others] == label and all(ed25519(key[0], text, data[4:]) for _, data in others),
         "checkpoint: it is not signed by the epoch that its last entry belongs to, or has a signature by a key that was not given")
    for at, locked in seen["turns"]:
        need(tree_root(leaves[:at]) == locked, f"entry {at}: the epoch that ended here had another root: the log before it was rewritten")
    need(files.keys() <= belong, f"{min(files.keys() - belong, default='')}: it does not belong into this log")
    genesis = cbor(entries[0])[9][1]
    need((cbor(cbor(genesis[0])[0])[9][1][0], genesis[2]) == vkey[:2], "entry 0: origin or log key of the genesis are not the vkey's")
    return vkey, root, entries, leaves

# F1 lines, batch records, the tree of arity 16 (wire/SPEC.md).
TIME, HEX = r"(?:[01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]", "[0-9A-Fa-f]"
F1 = re.compile(f"(?s).{{12}}([0-9]{{20}}).{{47}}({HEX}{{8}}).{{8}}(0[69]).{{20}}({HEX}{{12}})([0-9]{{9}}).{{9}}([0-9]{{8}})({TIME})"
                f"({HEX}{{8}})({HEX}{{2}}).{{6}}({HEX}{{16}}).{{122}}")
def fields(line):
    """(version, issuer) and the record without its group; None for a malformed line."""
    try:
        serial, amount, kind, psam, sequence, date, time, tac, version, issuer = F1.fullmatch(line.decode("ascii")).groups()
        datetime.date(int(date[:4]), int(date[4:6]), int(date[6:]))
    except (AttributeError, ValueError):
        return None
    record = bytes.fromhex(serial[4:] + amount + kind + psam + f"{int(sequence):08X}" + date + time + tac)
    refused = {serial[4:], issuer.upper()} & {"0" * 16, "F" * 16}
    return None if refused else ((int(version, 16), bytes.fromhex(issuer)), record)
def arity16(row):
    while len(row) > 1:
        row = [sha(b"\1node", *row[i : i + 16]) for i in range(0, len(row), 16)]
    return row[0] if row else bytes(32)
VERDICTS = ["ok", "bad_tac", "unknown_key", "malformed", "withheld"]
def recount(day, verdicts, lineage):
    lines, rows = (day.removesuffix(b"\n").split(b"\n") if day else []), verdicts[1:]
    need(verdicts[:1] == [["line", "verdict"]] and len(rows) == len(lines), f"{len(lines)} lines in the day, {len(rows)} verdicts after a header")
    groups, leaves, total, versions = {}, [], [0] * 5, {}
    for number, (line, row) in enumerate(zip(lines, rows), 1):
        need(len(row) == 2 and row[0] == str(number) and row[1] in VERDICTS, f"line {number} of the verdicts is {row}")
        verdict, parsed = VERDICTS.index(row[1]), fields(line)
        total[verdict] += 1
        if parsed:
            record = parsed[1] + struct.pack(">H4x", groups.setdefault(parsed[0], len(groups)))
            versions.setdefault(parsed[0][0], [0] * 5)[verdict] += 1
        else:
            record = sha(line) + struct.pack(">2xHB3x", 0xFFFF, 1)
        leaves.append(sha(b"\0rec", record, bytes([verdict])))
    header = struct.pack(">4s4H100s", b"CKB1", 1, 1, 40, len(groups), lineage.encode())
    header += b"".join(struct.pack(">B7x8s", *group) for group in groups)
    root = sha(b"\2root", struct.pack(">Q", len(leaves)), sha(b"\3hdr", header), arity16(leaves))
    return root, total, sorted(versions.items()), leaves

def check_receipt(receipt, policy, vkey, entries, leaves, day, verdicts, lineage):
    root, total, versions, records = recount(day, verdicts, lineage)
    counts = lambda row: dict(zip(VERDICTS, row))
    own = {"version": 1, "suite": 1, "origin": vkey[0], "profile": "purchase-tac", "lineage": lineage, "records": len(records),
           "counts": counts(total), "versions": [{"version": f"{v:02X}", "counts": counts(row)} for v, row in versions],
           "root": root.hex().upper(), "instance": cbor(cbor(cbor(entries[0])[9][1][0])[0])[2].hex().upper()}
    wrong = [name for name, value in own.items() if receipt[name] != value]
    need(not wrong, f"not what day, verdicts and log give: {', '.join(wrong)}")
    head, note = receipt["proof"].split("\n\n", 1)
    first, at, *path = head.split("\n")
    need(first == "c2sp.org/tlog-proof@v1" and re.fullmatch(r"index (0|[1-9]\d*)", at), "its proof is no tlog-proof")
    index, data, indices = int(at[6:]), bytes.fromhex(receipt["entry"]), receipt["indices"]
    _, size, head_root, _, _ = vouch(note, policy)
    proved = path_root(sha(b"\0", data), index, size, map(unbase64, path))
    need(proved == head_root and receipt["entry"] == data.hex().upper(), "its proof does not lead from its entry to the signed root")
    need(size <= len(leaves), f"the log has {len(leaves)} entries and the receipt is of {size}: fetch a newer copy of the log")
    need(tree_root(leaves[:size]) == head_root and entries[index] == data, f"the log has another entry {index} or another root at {size}")
    whole = {0: len(records), 1: root, 2: dict(enumerate(total)), 3: [{0: v, 1: dict(enumerate(row))} for v, row in versions]}
    need(read_entry(data)[9][1].get(10) == whole, f"entry {index} has another total")
    need(indices[-1:] == [index] and len(indices) == len(records) // 65536 + 1, "its indices are not those of its parts")
    for part, at in enumerate(indices):
        kind, event = read_entry(entries[at])[9]
        chunk = records[part * 65536 :][:65536]
        named = [bytes.fromhex(receipt["batch"]), receipt["client"], 1, lineage, part, len(chunk), arity16(chunk), False]
        need(kind == 5 and [event[field] for field in (0, 1, 2, 3, 4, 5, 6, 11)] == named, f"entry {at} is not part {part} of its batch")
    return f"receipt good: {len(records)} records, batch {receipt['batch']}, entry {index} of {vkey[0]}"

VKEY = "hsm.example/audit-1+651737db+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4\n"
NOTE = """hsm.example/audit-1\n7\nkTlgHMHKirKnoMLBNMBIRfKxulSag9bIRc/NpDnMWF0=\n
\u2014 hsm.example/audit-1 ZRc328nN2JkxRdAAYmYv3K453CUxy4ezNNTcHMwjqlvEc1HgvJOrQWtIMvkUqqFrtwojngV1SGmyOMvWqiVq5lc9LQA=
\u2014 witness.example/w1 IDJKvgAAAABlU/EA057p5khAWTUjToGPLb9299ATjAWZ/gCTUjz6B/5dEWuw7IpR2chg78M5ojmfFthusWjktvyWb2FHWpl75an/DQ==
"""
HASHES = """40766b2033429026f53d54502679a839706b4741f8dcaf3a8bba5f41b5ffe075 a64bf26e09128f6fe2fe6f8b2d8c801e166b57c047a7cd9b2b809e7a96a2f1cb
9139601cc1ca8ab2a7a0c2c134c04845f2b1ba549a83d6c845cfcda439cc585d 0327f91917f94f5ad8edb07c834864a3926394c6f7e12cd5dbfc646403a2847b
e99f493b599ba703533533aef52f8c7d065829a1ab763aac3f97a11854400cc9 049d7dcdb56bcfebd313304c9839f196a3d4b6ef3bdc0b08298f93ac8191f0a8
2f27a5082c1d42afa488ac350a9fc4390c084f54f71ecdff859e98db8429b479 e429c5b5ccaa9523c37297f1846766f903137e82195c5199e6be57130d1006c8"""

def selftest():
    """Vectors of SPEC.md §Vectors; a verifier that fails them says nothing about any log."""
    entries = [b"entry-%d" % n for n in range(7)]
    leaves, (leaf, root_3, root, bundle, tile, *path) = [sha(b"\0", entry) for entry in entries], map(bytes.fromhex, HASHES.split())
    need((leaves[0], tree_root(leaves[:3]), tree_root(leaves)) == (leaf, root_3, root), "selftest: tree")
    need(path_root(leaf, 0, 1, []) == leaf and path_root(leaves[3], 3, 7, path) == root, "selftest: inclusion")
    need((sha(*(b"\0\7" + entry for entry in entries)), sha(*leaves)) == (bundle, tile), "selftest: bundle and tile")
    need(read_note(NOTE, *read_vkey(VKEY))[:2] == (7, root), "selftest: note")
    witness = "witness.example/w1+20324abe+BCmsuuFBvMrwsi4alNNNC8c2HlJtC/4SyJeUvJMilm3X"
    policy = read_policy(f"# ours\nlog {VKEY}witness w {witness}\ngroup g 1 w\nquorum g\n")
    need(vouch(NOTE, policy)[1:] == (7, root, [], 1), "selftest: policy and cosignature")
    for old, new in [("IDJKvg", "IDJKvw"), ("5an/DQ", "5an/DA"), ("AABlU/EA", "AABlU/EB")]:
        try: vouch(NOTE.replace(old, new), policy)
        except Bad: continue
        raise Bad(f"selftest: a cosignature was believed with {new!r} for {old!r}")
    for old, new in [("\n7\n", "\n8\n"), ("9LQA=", "9LQB="), ("9LQA=", "9LQE="), ("ZRc328", "ZRc329"), ("ZRc3", "ZRc4")]:
        try: read_note(NOTE.replace(old, new), *read_vkey(VKEY))
        except Bad: continue
        raise Bad(f"selftest: a note was believed with {new!r} for {old!r}")
    need(tile_name(0, 1234067, 7) == "tile/0/x001/x234/067.p/7" and tile_name(1, 5, 256) == "tile/1/005", "selftest: tile names")
def tamper(files, policy, every):
    """Flips a bit of every K-th byte of all files together, in memory, and counts what is found."""
    places, found = [(name, at) for name in sorted(files) for at in range(len(files[name]))][::every], 0
    for name, at in places:
        data = files[name]
        try: about("log", check_log, Files(files | {name: data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]}), policy)
        except Bad: found += 1
    need(places and found == len(places), f"{found} of {len(places)} tamperings found")
    return f"{found} of {found} tamperings found"
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["selftest", "log", "receipt", "tamper"])
    parser.add_argument("dir", nargs="?", help="the published directory")
    for name, default in {"log": "", "vkey": "", "policy": "", "receipt": "", "day": "", "verdicts": "", "lineage": "transit/purse/tac", "every": "1"}.items():
        parser.add_argument(f"--{name}", default=default)
    a = parser.parse_args()
    trust = bool(a.vkey) != bool(a.policy)
    given = {"selftest": True, "receipt": a.log and trust and a.receipt and a.day and a.verdicts}.get(a.mode, a.dir and trust)
    given or parser.error(f"{a.mode} needs more arguments; see --help")
    text = lambda name: pathlib.Path(name).read_text(encoding="utf-8")
    try:
        selftest()
        said = "selftest: every vector agrees"
        if a.mode != "selftest":
            policy = about("policy", read_policy, text(a.policy)) if a.policy else about("vkey", only, text(a.vkey))
        if a.mode == "tamper":
            said = tamper(load(a.dir or a.log), policy, int(a.every))
        elif a.mode != "selftest":
            log = about("log", check_log, load(a.dir or a.log), policy)
            said = f"log good: {len(log[2])} entries, origin {log[0][0]}, root {log[1].hex()}"
        if a.mode == "receipt":
            day, verdicts = pathlib.Path(a.day).read_bytes(), list(csv.reader(text(a.verdicts).splitlines()))
            said = about("receipt", check_receipt, json.loads(text(a.receipt)), policy, log[0], *log[2:], day, verdicts, a.lineage)
    except (Bad, OSError, ValueError) as error:
        sys.exit(f"NOT GOOD: {error}")
    print(said)

if __name__ == "__main__":
    main()
