#!/usr/bin/env python3
"""citykeep by requests and psec. Arguments: URL PKI LICENCE FIRST KBPK DAY VKEY OUT (see README.md)."""
import hashlib, pathlib, subprocess, sys

import psec
import requests
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
    verify = ["citykeep", "receipt", "verify", "--receipt", out / "receipt.json", "--vkey", vkey, "--day", day, "--verdicts", out / "verdicts.csv"]
    subprocess.run(verify, check=True, stdout=subprocess.DEVNULL)
    print(f"day: {answer.text.count(chr(10)) - 1} verdicts, the receipt is good")


if __name__ == "__main__":
    main(*sys.argv[1:])
