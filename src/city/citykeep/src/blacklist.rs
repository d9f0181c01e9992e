//! `citykeep blacklist`

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use p256::pkcs8::{DecodePublicKey as _, EncodePublicKey as _, LineEnding};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sm2::dsa::signature::Verifier as _;
use time::OffsetDateTime;
use wire::list::{List, ListKind, Range, Single, TRAILER_LEN};
use wire::purse::{bcd, hex, to_hex};

use crate::cli::{BlacklistBuild, BlacklistCheck, BlacklistSign};
use crate::failure::{Failure, Words, words};
use crate::files;
use crate::report::Report;

/// The id of GM/T 0009 and OpenSSL.
const DEFAULT_ID: &str = "1234567812345678";

pub(crate) fn build(arguments: &BlacklistBuild) -> Result<Report, Failure> {
    let place = arguments.csv.display();
    let text = read_text(&arguments.csv)?;
    let date = |text: &str| {
        bcd(text.as_bytes()).ok_or_else(|| {
            Failure::untried(
                format!("{text} 不是日期,格式如 20261231。"),
                "that is no date; write it like 20261231",
            )
        })
    };
    let (kind, base) = match (arguments.delta, arguments.epoch.checked_sub(1)) {
        (true, Some(base)) => (ListKind::Delta, base),
        _ => (ListKind::Full, 0),
    };
    let mut list = List {
        version: arguments.epoch,
        kind,
        base,
        valid_from: date(&arguments.valid_from)?,
        valid_to: date(&arguments.valid_to)?,
        singles: vec![],
        ranges: vec![],
        removals: vec![],
    };
    rows(&text, &mut list).map_err(|why| Failure::untried(format!("{place}: {}", why.zh), why.en))?;
    list.check()
        .map_err(|error| Failure::untried(format!("{place}: 名单不合规,请修正表格:"), error.to_string()))?;
    let body = list.to_bytes();
    fs::write(&arguments.out, &body).map_err(|error| unwritten(&arguments.out, &error))?;
    let digest = to_hex(&Sha256::digest(&body));
    let (singles, ranges, removals) = (list.singles.len(), list.ranges.len(), list.removals.len());
    let lines = vec![
        format!(
            "黑名单 list    {} epoch {}: {singles} cards, {ranges} ranges, {removals} removals",
            list.kind, list.version
        ),
        format!("摘要 SHA-256   {digest}"),
        format!("文件 file      {}", arguments.out.display()),
    ];
    let json = json!({"ok": true, "epoch": list.version, "kind": list.kind.to_string(), "singles": singles,
        "ranges": ranges, "removals": removals, "digest": digest});
    Ok(Report { lines, json })
}

/// Reads the table; a card twice is named with both lines.
fn rows(text: &str, list: &mut List) -> Result<(), Words> {
    let mut seen: BTreeMap<[u8; 10], usize> = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = |zh: &str, en: &str| words(format!("第 {number} 行:{zh}"), format!("line {number}: {en}"));
        let serial = |text: &str| {
            bcd(text.as_bytes()).ok_or_else(|| at("卡号应为 20 位数字。", "a card number has 20 digits"))
        };
        let byte = |text: &str| {
            text.parse().map_err(|_| at("原因和级别应为 0 到 255。", "reason and level are 0 to 255"))
        };
        let words: Vec<&str> = line.split(',').map(str::trim).collect();
        let first = match words.as_slice() {
            ["remove", card] => {
                list.removals.push(serial(card)?);
                serial(card)?
            }
            [card, reason, level] => {
                list.singles.push(Single {
                    serial: serial(card)?,
                    reason: byte(reason)?,
                    level: byte(level)?,
                });
                serial(card)?
            }
            [from, to, reason, level] => {
                let (from, to) = (serial(from)?, serial(to)?);
                list.ranges.push(Range { from, to, reason: byte(reason)?, level: byte(level)? });
                continue;
            }
            _ => {
                let en = "write serial,reason,level or from,to,reason,level or remove,serial";
                return Err(at("格式为 卡号,原因,级别 或 起,止,原因,级别 或 remove,卡号。", en));
            }
        };
        if let Some(other) = seen.insert(first, number) {
            return Err(at(
                &format!("与第 {other} 行的卡号重复,请只保留一行。"),
                &format!("the card of line {other} again; keep one of them"),
            ));
        }
    }
    list.singles.sort_unstable();
    list.ranges.sort_unstable();
    list.removals.sort_unstable();
    Ok(())
}

pub(crate) fn sign(arguments: &BlacklistSign) -> Result<Report, Failure> {
    let body = read(&arguments.body)?;
    let list = List::parse(&body).map_err(|error| {
        Failure::untried(
            format!("{}: 不是名单正文,请用 blacklist build 生成:", arguments.body.display()),
            error.to_string(),
        )
    })?;
    let client = files::client(&arguments.service, None)?;
    let (answer, keys) = files::run(async {
        let answer = client.sign_list(&arguments.wall, body.clone()).await?;
        client.keys().await.map(|keys| (answer, keys.keys))
    })?;
    let wrong = |why: &str| {
        let en = format!("{why}; use nothing of it and tell the operator");
        Failure::no_result("answer", "服务的应答有误,不得使用,请通知运维:", en)
    };
    let trailer: [u8; TRAILER_LEN] =
        hex(answer.trailer.as_bytes()).ok_or_else(|| wrong("the trailer cannot be read"))?;
    let file = [body.as_slice(), &trailer].concat();
    if hex(answer.digest.as_bytes()) != Some(<[u8; 32]>::from(Sha256::digest(&file))) {
        return Err(wrong("the digest is not that of the list that was sent"));
    }
    let at = |name: &str| arguments.out.join(name);
    fs::create_dir_all(&arguments.out).map_err(|error| unwritten(&arguments.out, &error))?;
    let mut made = vec![at("blacklist.bin")];
    for signature in &answer.signatures {
        let key = keys.iter().find(|key| format!("{}@{}", key.lineage, key.version) == signature.key);
        let public =
            key.and_then(|key| key.public.as_ref()).ok_or_else(|| wrong("a signing key is not listed"))?;
        let point: [u8; 65] = hex(public.as_bytes()).ok_or_else(|| wrong("a public key cannot be read"))?;
        let der = from_hex(&signature.signature).ok_or_else(|| wrong("a signature cannot be read"))?;
        let name = signature.algorithm.as_str();
        let pem = public_pem(name, &point).ok_or_else(|| wrong("a public key is no point of its curve"))?;
        // What terminals will do with it is done here first.
        verify(name, &pem, &file, &der).map_err(|why| wrong(&why.en))?;
        // A signature has two names: of the list and of its file, since terminals' scripts know one or the other.
        let files = [
            (format!("{name}.pem"), pem.as_bytes()),
            (format!("blacklist.{name}.sig"), &der),
            (format!("blacklist.bin.{name}.sig"), &der),
        ];
        for (name, bytes) in files {
            fs::write(at(&name), bytes).map_err(|error| unwritten(&at(&name), &error))?;
            made.push(at(&name));
        }
    }
    // The list last: who finds it finds its signatures.
    fs::write(at("blacklist.bin"), &file).map_err(|error| unwritten(&at("blacklist.bin"), &error))?;
    let lines = vec![
        format!(
            "黑名单已签发 signed: {} epoch {}, {} cards, {} ranges",
            answer.kind,
            answer.epoch,
            list.singles.len(),
            list.ranges.len()
        ),
        format!("移出 removed   {} cards", answer.removed),
        format!("摘要 SHA-256   {}", answer.digest),
        format!("日志 log       entry {}", answer.index),
        format!("文件 files     {}", arguments.out.display()),
    ];
    let json = json!({"ok": true, "wall": answer.wall, "epoch": answer.epoch, "digest": answer.digest,
        "index": answer.index, "removed": answer.removed, "files": made});
    Ok(Report { lines, json })
}

pub(crate) fn check(arguments: &BlacklistCheck) -> Result<Report, Failure> {
    let file = read(&arguments.file)?;
    let bad = |why: Words| {
        let (zh, en) = (format!("不得装载此名单:{}", why.zh), format!("DO NOT LOAD THIS LIST: {}", why.en));
        Failure::no_result("list", zh, en)
    };
    let body = file.len().checked_sub(TRAILER_LEN).and_then(|at| file.split_at_checked(at));
    let Some((body, trailer)) = body else {
        return Err(bad(words("文件不完整,请重新获取。", "it is shorter than a trailer; fetch it again")));
    };
    let list =
        List::parse(body).map_err(|error| bad(words("内容不是名单,请重新获取。", error.to_string())))?;
    if trailer.get(..32) != Some(sm3::Sm3::digest(body).as_slice()) {
        let en = "the SM3 in its trailer is not that of its content: it was changed; fetch it again";
        return Err(bad(words("SM3 摘要与内容不符,内容已被改动,请重新获取。", en)));
    }
    let mut signed_by = Vec::new();
    for (name, pem) in [("sm2", &arguments.sm2), ("p256", &arguments.p256)] {
        let Some(pem) = pem else { continue };
        let signature = arguments.file.with_extension(format!("{name}.sig"));
        let beside = PathBuf::from(format!("{}.{name}.sig", arguments.file.display()));
        let signature = read(if signature.exists() { &signature } else { &beside })?;
        verify(name, &read_text(pem)?, &file, &signature).map_err(bad)?;
        signed_by.push(name);
    }
    if let Some(last) = arguments.last_epoch.filter(|last| list.version <= *last) {
        return Err(bad(words(
            format!("期号 {} 不大于 {last},是旧名单,请获取最新一期。", list.version),
            format!("its epoch {} is not above {last}: it is an old list; fetch the newest", list.version),
        )));
    }
    // The list's day is Chinese and ours UTC's, which is behind: no list is called old on its last day.
    let (year, month, day) = OffsetDateTime::now_utc().to_calendar_date();
    let today = format!("{year:04}{:02}{day:02}", u8::from(month));
    if to_hex(&list.valid_to) < today {
        let end = to_hex(&list.valid_to);
        return Err(bad(words(
            format!("有效期止于 {end},今天是 {today},请获取最新一期。"),
            format!("it ended on {end}; today is {today}; fetch the newest"),
        )));
    }
    let listed = arguments.card.as_ref().map(|card| {
        let serial = bcd(card.as_bytes())
            .ok_or_else(|| Failure::untried("--card 应为 20 位数字。", "--card is a number of 20 digits"));
        serial.map(|serial| list.lists(&serial))
    });
    let listed = listed.transpose()?;
    let (from, to) = (to_hex(&list.valid_from), to_hex(&list.valid_to));
    let mut lines = vec![
        format!(
            "黑名单有效 the list is good: {} epoch {}, signed with {}",
            list.kind,
            list.version,
            signed_by.join(", ")
        ),
        format!("有效期 valid    {from} … {to}"),
        format!(
            "内容 content    {} cards, {} ranges, {} removals",
            list.singles.len(),
            list.ranges.len(),
            list.removals.len()
        ),
    ];
    if let (Some(card), Some(listed)) = (&arguments.card, listed) {
        lines.push(format!(
            "{card}: {}",
            if listed { "在名单上 ON THE LIST" } else { "不在名单上 not on the list" }
        ));
    }
    let json = json!({"ok": true, "epoch": list.version, "kind": list.kind.to_string(), "signed_by": signed_by,
        "singles": list.singles.len(), "ranges": list.ranges.len(), "listed": listed});
    Ok(Report { lines, json })
}

fn verify(algorithm: &str, pem: &str, file: &[u8], der: &[u8]) -> Result<(), Words> {
    let no_key = || {
        words(
            format!("{algorithm} 公钥文件不是 PEM 公钥,请给出签发方的公钥。"),
            format!("the {algorithm} key is no public key in PEM; give the signer's"),
        )
    };
    let bad = || {
        words(
            format!("{algorithm} 签名与此公钥和内容不符,请重新获取名单和签名。"),
            format!(
                "its {algorithm} signature is not of this key over these bytes; fetch list and signature again"
            ),
        )
    };
    let raw = raw_signature(der).ok_or_else(bad)?;
    if algorithm == "sm2" {
        let key = sm2::PublicKey::from_public_key_pem(pem).map_err(|_| no_key())?;
        let key = sm2::dsa::VerifyingKey::new(DEFAULT_ID, key).map_err(|_| no_key())?;
        let signature = sm2::dsa::Signature::from_slice(&raw).map_err(|_| bad())?;
        return key.verify(file, &signature).map_err(|_| bad());
    }
    let key = p256::PublicKey::from_public_key_pem(pem).map_err(|_| no_key())?;
    let signature = p256::ecdsa::Signature::from_slice(&raw).map_err(|_| bad())?;
    p256::ecdsa::VerifyingKey::from(&key).verify(file, &signature).map_err(|_| bad())
}

/// r ‖ s of SEQUENCE { INTEGER r, INTEGER s }, strict DER.
fn raw_signature(der: &[u8]) -> Option<[u8; 64]> {
    let (head, mut rest) = der.split_at_checked(2)?;
    if head != [0x30, u8::try_from(rest.len()).ok()?] {
        return None;
    }
    let mut raw = [0; 64];
    for half in raw.chunks_exact_mut(32) {
        let (head, after) = rest.split_at_checked(2)?;
        let [0x02, len] = head else { return None };
        let (number, after) = after.split_at_checked(usize::from(*len))?;
        let digits = match number {
            [0, next, ..] if *next >= 0x80 => number.get(1..)?,
            [0, ..] | [] => return None,
            [first, ..] if *first >= 0x80 => return None,
            _ => number,
        };
        let start = half.len().checked_sub(digits.len())?;
        half.get_mut(start..)?.copy_from_slice(digits);
        rest = after;
    }
    rest.is_empty().then_some(raw)
}

fn public_pem(algorithm: &str, point: &[u8; 65]) -> Option<String> {
    match algorithm {
        "sm2" => sm2::PublicKey::from_sec1_bytes(point).ok()?.to_public_key_pem(LineEnding::LF).ok(),
        "p256" => p256::PublicKey::from_sec1_bytes(point).ok()?.to_public_key_pem(LineEnding::LF).ok(),
        _ => None,
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, odd) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|pair| hex::<1>(pair).map(|[byte]| byte)).collect::<Option<Vec<u8>>>()?;
    odd.is_empty().then_some(bytes)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| unread(path, &error))
}

fn read_text(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| unread(path, &error))
}

fn unread(path: &Path, error: &std::io::Error) -> Failure {
    let zh = format!("{}: 无法读取,请检查路径和权限。", path.display());
    Failure::untried(zh, format!("cannot be read ({error}); check the path and its permissions"))
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    let zh = format!("{}: 无法写入,请检查磁盘后重新执行。", path.display());
    Failure::no_result("files", zh, format!("cannot be written ({error}); look after the disk and try again"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> List {
        List {
            version: 1,
            kind: ListKind::Full,
            base: 0,
            valid_from: [0x20, 0x26, 1, 1],
            valid_to: [0x20, 0x26, 0x12, 0x31],
            singles: vec![],
            ranges: vec![],
            removals: vec![],
        }
    }

    #[test]
    fn a_table_is_read_and_its_faults_have_lines() {
        let mut list = empty();
        let table = "# 挂失\n00003101000020000009,1,2\n00003101000020000001,3,1\n\n00003101000030000000,00003101000030000099,1,1\n";
        rows(table, &mut list).unwrap();
        assert_eq!((list.singles.len(), list.ranges.len(), list.singles[0].reason), (2, 1, 3));
        list.check().unwrap();
        for (bad, named) in [
            ("0000310100002000000,1,2", "line 1: a card number"),
            ("00003101000020000009,1,256", "line 1: reason"),
            ("00003101000020000009", "line 1: write"),
            ("00003101000020000009,1,2\n00003101000020000009,1,2", "line 2: the card of line 1"),
        ] {
            let error = rows(bad, &mut empty()).unwrap_err();
            assert!(error.en.contains(named) && error.zh.contains('行'), "{error}");
        }
    }

    #[test]
    fn signatures_have_one_reading() {
        let mut der = vec![0x30, 7, 2, 2, 0, 0x80, 2, 1, 1];
        let raw = raw_signature(&der).unwrap();
        assert_eq!((raw[31], raw[63]), (0x80, 1));
        der[1] = 8;
        assert_eq!(raw_signature(&der), None);
        for bad in
            [&[0x30, 6, 2, 1, 0x80, 2, 1, 1][..], &[0x30, 7, 2, 2, 0, 1, 2, 1, 1], &[0x30, 2, 2, 0], &[]]
        {
            assert_eq!(raw_signature(bad), None, "{bad:?}");
        }
    }
}
