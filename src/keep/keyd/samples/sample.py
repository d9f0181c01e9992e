#!/usr/bin/env python3
"""citykeep by requests, psec and cryptography. Arguments: URL PKI LICENCE FIRST KBPK DAY VKEY OUT (see README.md); or, offline,
receipt RECEIPT VKEY DAY VERDICTS, which needs nothing of citykeep either."""
import base64, datetime, hashlib, json, pathlib, re, struct, sys

import psec
import requests
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
try:
    from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
except ImportError:
    TripleDES = algorithms.TripleDES


def session(pki, client):
    made = requests.Session()
    # A CA bundle or proxy from the environment would take the place of ours.
    made.trust_env = False
    made.verify, made.cert = f"{pki}/ca.pem", (f"{pki}/{client}.pem", f"{pki}/{client}.key")
    return made


def good(response):
    if not response.ok:
        # RFC 9457: `code` is for programs and stable, `detail` is for people.
        problem = response.json()
        sys.exit(f"{problem['status']} {problem['code']}: {problem['detail']}")
    return response


def check_value(algorithm, key):
    cipher = algorithms.SM4(key) if algorithm == "sm4" else TripleDES(key + key[:8])
    encryptor = Cipher(cipher, modes.ECB()).encryptor()
    return (encryptor.update(bytes(16)) + encryptor.finalize())[:3].hex().upper()


class NotGood(Exception):
    pass


def need(holds, why):
    if not holds:
        raise NotGood(why)


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def check_receipt(receipt, vkey, day, verdicts):
    """wire/SPEC.md 3.2: day and verdicts give a root, the root stands in a log entry, the entry is under a head that the log's key signed."""
    head, note = receipt["proof"].split("\n\n", 1)
    first, at, *path = head.split("\n")
    need(first == "c2sp.org/tlog-proof@v1" and at.startswith("index "), "its proof is none")
    index, entry = int(at[6:]), bytes.fromhex(receipt["entry"])
    size, root = open_note(note, vkey)
    path = [base64.b64decode(line, validate=True) for line in path]
    need(path_root(sha256(b"\0", entry), index, size, path) == root, "its entry is not in the log")

    fields, end = cbor(entry)
    kind, event = fields[9]
    # Event 5 is a batch: 0 id, 1 client, 3 lineage, 10 total {0 records, 1 root, 2 counts}, 11 aborted (translog/SPEC.md, Entry).
    need(end == len(entry) and fields[1] == index and kind == 5 and not event[11] and 10 in event, "its entry closes no batch")
    total = event[10]
    said = [receipt[name] for name in ("batch", "client", "lineage", "records", "root")] + [receipt["indices"][-1]]
    need(said == [event[0].hex().upper(), event[1], event[3], total[0], total[1].hex().upper(), index], "it says other things than its entry")
    need(receipt["counts"] == {word: total[2][n] for n, word in enumerate(VERDICTS)}, "its counts are not its entry's")
    need((total[0], total[1]) == batch_root(day, verdicts, event[3]), "its root is not that of this day and these verdicts")


def open_note(note, vkey):
    """A checkpoint under the log's key (translog/SPEC.md, Note): its size and root. Lines by others are not judged here."""
    name, label, key = vkey.strip().split("+", 2)
    key = base64.b64decode(key, validate=True)
    need(key[:1] == b"\1" and sha256(name.encode(), b"\n", key)[:4].hex() == label, "the vkey is none")
    text, _, lines = note.rpartition("\n\n")
    signatures = [base64.b64decode(line.rpartition(" ")[2], validate=True) for line in lines.splitlines() if line.startswith(f"\u2014 {name} ")]
    ours = [signature[4:] for signature in signatures if signature[:4].hex() == label]
    need(ours, "its checkpoint is not signed by the log's key")
    try:
        for signature in ours:
            Ed25519PublicKey.from_public_bytes(key[1:]).verify(signature, f"{text}\n".encode())
    except InvalidSignature:
        raise NotGood("its checkpoint was changed, or signed by another key") from None
    origin, size, root = text.split("\n")
    need(origin == name, "its checkpoint is of another log")
    return int(size), base64.b64decode(root, validate=True)


def path_root(node, at, size, path):
    """RFC 6962 2.1.1, from the leaf up."""
    need(0 <= at < size, "its index is beyond the log")
    last = size - 1
    while last:
        if at & 1 or at < last:  # else it has no sibling on this level
            need(path, "its path is too short")
            other = path.pop(0)
            node = sha256(b"\1", other, node) if at & 1 else sha256(b"\1", node, other)
        at, last = at >> 1, last >> 1
    need(not path, "its path is too long")
    return node


def cbor(data, at=0):
    """The value at `at`, of the kinds that entries have, and where it ends."""
    if data[at] in (0xF4, 0xF5):
        return data[at] == 0xF5, at + 1
    major, n, at = data[at] >> 5, data[at] & 31, at + 1
    need(n < 28 and major in (0, 2, 3, 4, 5), "its entry is no entry")
    if n >= 24:
        size = 1 << n - 24
        n, at = int.from_bytes(data[at : at + size], "big"), at + size
    if major == 0:
        return n, at
    if major < 4:
        return (data[at : at + n].decode() if major == 3 else data[at : at + n]), at + n
    items = []
    for _ in range(n * (major - 3)):
        item, at = cbor(data, at)
        items.append(item)
    return (items if major == 4 else dict(zip(items[::2], items[1::2]))), at


# F1 lines (service-protocol 5): serial, amount, type, PSAM, sequence, date, time, TAC, key version, issuer.
TIME, HEX = r"(?:[01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]", "[0-9A-Fa-f]"
F1 = re.compile(f"(?s).{{12}}([0-9]{{20}}).{{47}}({HEX}{{8}}).{{8}}(0[69]).{{20}}({HEX}{{12}})([0-9]{{9}}).{{9}}([0-9]{{8}})({TIME})"
                f"({HEX}{{8}})({HEX}{{2}}).{{6}}({HEX}{{16}}).{{122}}")
VERDICTS = ["ok", "bad_tac", "unknown_key", "malformed", "withheld"]


def record(line, groups):
    """One line as a record of 40 bytes (wire/SPEC.md 3); its group gets the next number if it is new."""
    try:
        serial, amount, kind, psam, sequence, date, time, tac, version, issuer = F1.fullmatch(line.decode("ascii")).groups()
        datetime.date(int(date[:4]), int(date[4:6]), int(date[6:]))
        need(not {serial[4:], issuer.upper()} & {"0" * 16, "F" * 16}, "a factor is refused")
    except (AttributeError, ValueError, NotGood):
        return sha256(line) + struct.pack(">2xHB3x", 0xFFFF, 1)
    group = groups.setdefault((int(version, 16), bytes.fromhex(issuer)), len(groups))
    return bytes.fromhex(serial[4:] + amount + kind + psam + f"{int(sequence):08X}" + date + time + tac) + struct.pack(">H4x", group)


def batch_root(day, verdicts, lineage):
    """How many records, and the root over them, their verdicts and the header (wire/SPEC.md 3.1)."""
    lines, rows = (day.removesuffix(b"\n").split(b"\n") if day else []), verdicts.splitlines()
    need(rows[:1] == ["line,verdict"] and len(rows) == len(lines) + 1, "day and verdicts have not the same number of lines")
    groups, row = {}, []
    for number, (line, verdict) in enumerate(zip(lines, rows[1:]), 1):
        at, _, word = verdict.partition(",")
        need(at == str(number) and word in VERDICTS, f"row {number} of the verdicts is none")
        row.append(sha256(b"\0rec", record(line, groups), bytes([VERDICTS.index(word)])))
    count = len(row)
    while len(row) > 1:
        row = [sha256(b"\1node", *row[at : at + 16]) for at in range(0, len(row), 16)]
    header = struct.pack(">4s4H100s", b"CKB1", 1, 1, 40, len(groups), lineage.encode())
    header += b"".join(struct.pack(">B7x8s", *group) for group in groups)
    return count, sha256(b"\2root", struct.pack(">Q", count), sha256(b"\3hdr", header), row[0] if row else bytes(32))


def offline(receipt, vkey, day, verdicts):
    """Checks files, without any network and without anything of citykeep."""
    text = lambda path: pathlib.Path(path).read_text(encoding="utf-8")
    try:
        check_receipt(json.loads(text(receipt)), text(vkey), pathlib.Path(day).read_bytes(), text(verdicts))
    except (NotGood, ValueError, KeyError, IndexError, TypeError) as error:
        sys.exit(f"THE RECEIPT IS NOT GOOD 回执无效: {error}; use no verdict and tell operator and auditor")
    print("the receipt is good 回执有效")


def main(url, pki, licence, first, kbpk, day, vkey, out):
    line, clearing = session(pki, "line"), session(pki, "clearing")
    print("status:", good(line.get(f"{url}/v1/status")).json()["state"])

    cards = [{"serial": f"{int(first) + n:020}"} for n in range(10)]
    sets = good(line.post(f"{url}/v1/cards/keys", json={"licence": licence, "form": "tr31", "cards": cards})).json()
    digest, checked = hashlib.sha256(), 0
    for card in sets["cards"]:
        digest.update(bytes.fromhex(card["serial"] + "".join(key["kcv"] for key in card["keys"])))
        for role, wrapped in zip(sets["roles"], card["keys"], strict=True):
            _, key = psec.tr31.unwrap(bytes.fromhex(kbpk), wrapped["block"])
            if check_value(role["algorithm"], key) != wrapped["kcv"]:
                sys.exit(f"{card['serial']} {role['role']}: the check value is wrong")
            checked += 1
    if digest.hexdigest().upper() != sets["digest"]:
        sys.exit("the digest is wrong")
    print(f"key sets: {len(sets['cards'])} cards, {checked} keys unwrapped, check values good")

    answer = good(clearing.post(f"{url}/v1/settlement/verify", data=pathlib.Path(day).read_bytes(), headers={"Content-Type": "text/plain"}))
    receipt = good(clearing.get(f"{url}/v1/receipts/{answer.headers['citykeep-batch']}"))
    out = pathlib.Path(out)
    (out / "verdicts.csv").write_bytes(answer.content)
    (out / "receipt.json").write_bytes(receipt.content)
    offline(out / "receipt.json", vkey, day, out / "verdicts.csv")
    print(f"day: {answer.text.count(chr(10)) - 1} verdicts, the receipt is good")


if __name__ == "__main__":
    offline(*sys.argv[2:]) if sys.argv[1] == "receipt" else main(*sys.argv[1:])
