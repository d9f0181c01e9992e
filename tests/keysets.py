#!/usr/bin/env python3
"""Checks a personalization job against the practice masters: another language, other libraries, the same standards.

usage: keysets.py MASTERS.json JOB-DIRECTORY TRANSPORT-KEY ISSUER [CARDS [DERIVED-KEYS]]

For CARDS random cards of the job (100): derives every card key from its master (card-crypto A.1, A.2) with the `cryptography`
package, compares its check value with the one in the key file, unwraps the TR-31 block with `psec`, and compares the bytes.
DERIVED-KEYS gets what was derived, in hex, for a test that looks for these keys where they must not be.
"""
import json, pathlib, random, sys

import psec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
try:
    from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
except ImportError:
    TripleDES = algorithms.TripleDES


def ecb(algorithm, key, data):
    cipher = algorithms.SM4(key) if algorithm == "sm4" else TripleDES(key + key[:8])
    encryptor = Cipher(cipher, modes.ECB()).encryptor()
    return encryptor.update(data) + encryptor.finalize()


def child(algorithm, key, factor):
    # One SM4 block or two DES blocks: X followed by its complement.
    return ecb(algorithm, key, factor + bytes(byte ^ 0xFF for byte in factor))


def combined(version):
    key = bytes(16)
    for component in version["components"]:
        key = bytes(a ^ b for a, b in zip(key, bytes.fromhex(component["hex"])))
    return key


def main(masters, job, transport, issuer, cards="100", derived=None):
    keys = {}
    for row in json.loads(pathlib.Path(masters).read_text())["keys"]:
        for version in row["versions"]:
            name = f"{row['applet']}/{row['key_set']}/{row['role']}@{version['version']}"
            keys[name] = version["algorithm"], combined(version)
    sets = []
    for path in sorted(pathlib.Path(job).glob("keys/*.jsonl")):
        head, *lines = map(json.loads, path.read_text().splitlines())
        sets += [(head["roles"], line) for line in lines]
    checked, found = 0, []
    for roles, card in random.sample(sets, min(int(cards), len(sets))):
        factor = bytes.fromhex(card["serial"])[2:]
        for role, wrapped in zip(roles, card["keys"], strict=True):
            algorithm, master = keys[f"{role['key']}@{role['version']}"]
            key = child(algorithm, child(algorithm, master, bytes.fromhex(issuer)), factor)
            kcv = ecb(algorithm, key, bytes(16))[:3].hex().upper()
            where = f"card {card['serial']}, role {role['role']}"
            if kcv != wrapped["kcv"]:
                sys.exit(f"{where}: check value {wrapped['kcv']}, derived {kcv}")
            header, unwrapped = psec.tr31.unwrap(keys[transport][1], wrapped["block"])
            if unwrapped != key:
                sys.exit(f"{where}: the block holds another key")
            label = header.blocks["LB"]
            if not label.startswith(f"{card['serial']}/{role['role']}/") or header.version_num != role["version"]:
                sys.exit(f"{where}: the block is labelled {label}, version {header.version_num}")
            checked += 1
            found.append(key.hex())
    if derived:
        pathlib.Path(derived).write_text("\n".join(found))
    print(f"{len(sets)} key sets; {checked} keys of {min(int(cards), len(sets))} cards derived, unwrapped and equal")


if __name__ == "__main__":
    main(*sys.argv[1:])
