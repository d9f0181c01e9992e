#!/usr/bin/env bash
# citykeep by curl, jq and openssl. Arguments: URL PKI LICENCE FIRST KBPK DAY VKEY OUT (see README.md).
set -euo pipefail
url=$1 pki=$2 licence=$3 first=$4 kbpk=$5 day=$6 vkey=$7 out=$8

call() { # client, then curl's own words
    local client=$1
    shift
    curl --silent --show-error --fail-with-body --cacert "$pki/ca.pem" --cert "$pki/$client.pem" --key "$pki/$client.key" "$@"
}
cmac() { openssl mac -cipher AES-128-CBC -macopt "hexkey:$1" -in <(printf %s "$2" | xxd -r -p) CMAC; }

echo "status: $(call line "$url/v1/status" | jq -r .state)"

# Ten cards, one number after the other. Leading zeros stay: bash would read the number as octal without 10#.
cards=$(for n in {0..9}; do printf '{"serial":"%020d"}\n' $((10#$first + n)); done | jq --slurp --compact-output .)
sets=$(call line --json "{\"licence\":\"$licence\",\"form\":\"tr31\",\"cards\":$cards}" "$url/v1/cards/keys")

# The digest of the answer: SHA-256 over serial and check values, card by card. It stands in the log entry too.
digest=$(jq -r '.cards[] | .serial + ([.keys[].kcv] | add)' <<<"$sets" | tr -d '\n' | xxd -r -p | openssl dgst -sha256 -r | cut -d' ' -f1)
[[ ${digest^^} == "$(jq -r .digest <<<"$sets")" ]] || { echo "the digest is wrong" >&2; exit 1; }

# Unwrap every card's keys and compute their check values.
encryption=$(cmac "$kbpk" 0100000000020080) authentication=$(cmac "$kbpk" 0100010000020080)
checked=0
while read -r algorithm kcv block; do
    mac=${block: -32} cipher=${block: -96:64} header=${block:0:$((${#block} - 96))}
    plain=$(printf %s "$cipher" | xxd -r -p | openssl enc -d -aes-128-cbc -nopad -K "$encryption" -iv "$mac" | xxd -p -c 64)
    [[ $(cmac "$authentication" "$(printf %s "$header" | xxd -p -c 999)$plain") == "${mac^^}" ]] || { echo "a block's MAC is wrong" >&2; exit 1; }
    key=${plain:4:32}
    if [[ $algorithm == sm4 ]]; then
        found=$(printf '%032d' 0 | xxd -r -p | openssl enc -sm4-ecb -nopad -K "$key" | xxd -p)
    else
        found=$(printf '%016d' 0 | xxd -r -p | openssl enc -des-ede -nopad -K "$key" | xxd -p)
    fi
    [[ ${found:0:6} == "${kcv,,}" ]] || { echo "check value $kcv, computed ${found:0:6}" >&2; exit 1; }
    checked=$((checked + 1))
done < <(jq -r '.roles as $roles | .cards[] | [$roles, .keys] | transpose[] | [.[0].algorithm, .[1].kcv, .[1].block] | @tsv' <<<"$sets")
echo "key sets: $(jq '.cards | length' <<<"$sets") cards, $checked keys unwrapped, check values good"

# A settlement day, as it is; verdicts as CSV, the receipt by its id.
call clearing --header 'Content-Type: text/plain' --dump-header "$out/head" --data-binary "@$day" \
    --output "$out/verdicts.csv" "$url/v1/settlement/verify"
batch=$(tr -d '\r' <"$out/head" | awk 'tolower($1) == "citykeep-batch:" { print $2 }')
call clearing --output "$out/receipt.json" "$url/v1/receipts/$batch"
# Our own tool, offline; sample.py and Sample.java show how to do without it.
citykeep receipt verify --receipt "$out/receipt.json" --vkey "$vkey" --day "$day" --verdicts "$out/verdicts.csv" >/dev/null
echo "day: $(($(wc -l <"$out/verdicts.csv") - 1)) verdicts, the receipt is good"
