//! The published log, as it lies in its directory. Only its head is judged: `citykeep audit verify` reads all of it.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::UNIX_EPOCH;

use client::VerifierKey;
use translog::note::open_checkpoint;
use wire::frame::ModuleStatus;

use super::finding::Finding;
use super::house::House;

/// keyd publishes about once a second.
const PUBLISHED_WITHIN: u64 = 60;

/// The key that heads are judged by, and whose word it is.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) vkey: Result<VerifierKey, String>,
    of: [&'static str; 2],
}

/// The caller's, else the module's own word, else the one that is published beside the log, which proves least.
pub(super) fn key(given: Option<&Path>, house: Option<&House>, module: Option<&ModuleStatus>) -> Option<Key> {
    let read = |path: &Path| {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        VerifierKey::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    };
    if let Some(path) = given {
        return Some(Key { vkey: read(path), of: ["--vkey 给出的公钥", "the key of --vkey"] });
    }
    if let Some(known) = module.and_then(|status| status.instance.as_ref()) {
        let vkey = VerifierKey::parse(&known.vkey).map_err(|error| format!("the module's: {error}"));
        return Some(Key { vkey, of: ["密码模块所说的公钥", "the key that the module names"] });
    }
    let path = house?.log_dir.as_ref()?.join("vkey");
    // Not there before a ceremony, and not this user's to read without the officers' group.
    fs::metadata(&path).ok()?;
    Some(Key {
        vkey: read(&path),
        of: [
            "目录中的公钥(请与仪式记录核对)",
            "the key that lies beside it; compare that with the ceremony's transcript, or give --vkey",
        ],
    })
}

/// Whether the log's key signed the head that is published.
pub(super) fn signature(house: &House, key: Option<&Key>) -> Option<Finding> {
    const CHECK: &str = "log-signature";
    let path = house.log_dir.as_ref()?.join("checkpoint");
    let name = path.display();
    let note = match fs::read_to_string(&path) {
        Ok(note) => note,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Some(Finding::unchecked(
                CHECK,
                format!("{name} 尚不存在(仪式之前如此)"),
                format!(
                    "{name} is not there; before the ceremony that is so, afterwards it is not: call the auditor"
                ),
            ));
        }
        Err(error) => {
            return Some(Finding::unchecked(
                CHECK,
                format!("{name} 不可读"),
                format!(
                    "{name} cannot be read ({}); run doctor as root or as a member of citykeep-officers",
                    error.kind()
                ),
            ));
        }
    };
    let Some(Key { vkey, of: [zh, en] }) = key else {
        return Some(Finding::unchecked(
            CHECK,
            "没有日志公钥;请用 --vkey 给出",
            "there is no log key to check it with; give --vkey",
        ));
    };
    let opened = match vkey {
        Ok(vkey) => open_checkpoint(&note, vkey).map_err(|error| error.to_string()),
        Err(why) => Err(why.clone()),
    };
    Some(match opened {
        Ok(head) => Finding::good(
            CHECK,
            format!("日志头 {} 条,签名有效;依据{zh}", head.checkpoint().size),
            format!("{} entries, signed by the log's key: {en}", head.checkpoint().size),
        ),
        Err(why) => Finding::bad(
            CHECK,
            [format!("{name} 的签名无效"), format!("{name} does not stand: {why}")],
            [
                "停止使用,保存目录副本,执行 citykeep audit verify 并通知审计员",
                "stop, keep a copy of the directory, run citykeep audit verify with the transcript's vkey and call the auditor",
            ],
        ),
    })
}

/// How old the published head is, and whether the service knows a longer log.
pub(super) fn age(house: &House, durable: Option<u64>, now: u64) -> Option<Finding> {
    const CHECK: &str = "checkpoint-age";
    let path = house.log_dir.as_ref()?.join("checkpoint");
    let name = path.display();
    let modified = fs::metadata(&path)
        .and_then(|meta| meta.modified())
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let text = fs::read_to_string(&path).unwrap_or_default();
    let size = text.lines().nth(1).and_then(|size| size.parse::<u64>().ok());
    let (Some(modified), Some(size)) = (modified, size) else {
        return Some(Finding::unchecked(
            CHECK,
            format!("{name} 不可读"),
            format!("{name} cannot be read from here"),
        ));
    };
    let age = now.saturating_sub(modified.as_secs());
    let Some(durable) = durable else {
        return Some(Finding::unchecked(
            CHECK,
            format!("{age} 秒前公布 {size} 条;无从得知是否还有更新的条目"),
            format!(
                "published {age} s ago, {size} entries; whether more wait, only the service or the module can say"
            ),
        ));
    };
    if age > PUBLISHED_WITHIN && durable > size {
        return Some(Finding::bad(
            CHECK,
            [
                format!("已有 {durable} 条,{age} 秒前只公布到 {size} 条"),
                format!("{durable} entries are durable, and {age} s ago {size} were published"),
            ],
            [
                "查看 keyd 日志与磁盘空间",
                "read keyd's journal and look at the disk's room; keyd publishes within a second",
            ],
        ));
    }
    Some(Finding::good(
        CHECK,
        format!("{age} 秒前公布,{size}/{durable} 条"),
        format!("{size} of {durable} durable entries were published {age} s ago"),
    ))
}
