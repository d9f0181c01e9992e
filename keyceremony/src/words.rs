//! Words for people: fingerprints to compare by voice, what a command does in every detail, the module's refusals in
//! Chinese.

use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use wire::command::{Action, Command, PublicKey, Quorum};
use wire::error::Refusal;
use wire::key::{FactorSource, KeyAttributes};
use wire::profile::ProfileRole;
use wire::purse::to_hex;

/// Bytes of a fingerprint: 128 bits, nobody finds a second key for them.
const FINGERPRINT_LEN: usize = 16;

/// The start of SHA-256 in groups of four digits, to be read aloud.
pub(crate) fn fingerprint(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let digits = to_hex(digest.split_at(FINGERPRINT_LEN).0);
    let groups = digits.as_bytes().chunks(4).map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(" ")
}

/// Reads exactly `N` bytes of hex, either case.
pub(crate) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    hex_bytes(text)?.try_into().ok()
}

/// Reads hex of any length, either case.
pub(crate) fn hex_bytes(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    pairs
        .map(|pair| match pair {
            [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
            _ => None,
        })
        .collect()
}

/// Everything that an officer should know before he signs, made from the command that he signs: one line each.
pub(crate) fn command(command: &Command, bytes: &[u8]) -> Vec<String> {
    let (zh, en) = command.action.in_words();
    let mut lines = vec![format!("  {zh}"), format!("  {en}")];
    lines.extend(details(&command.action));
    lines.push(format!("  编号 id          {}", to_hex(&command.id)));
    lines.push(format!("  实例 instance    {}", to_hex(&command.instance)));
    lines.push(format!("  安全官组 officers epoch {}", command.officer_epoch));
    lines.push(format!("  窗口 window      log entries {} to {}", command.not_before, command.not_after));
    lines.push(format!("  提出人 proposer  {}", command.proposer));
    lines.push(format!("  指纹 fingerprint {}", fingerprint(bytes)));
    lines
}

/// What the one sentence of an action leaves out.
fn details(action: &Action) -> Vec<String> {
    match action {
        Action::Genesis(genesis) => {
            let mut lines = vec![
                format!("  节点 node        {}", to_hex(&genesis.node)),
                format!("  模块身份 module  {}", fingerprint(&genesis.identity)),
                format!("  策略 policy      SHA-256 {}", to_hex(&genesis.policy)),
                format!("  CA 证书 CA       SHA-256 {}", to_hex(&genesis.ca)),
            ];
            lines.extend(members("安全官 officer", &genesis.officers));
            lines.extend(members("保管人 custodian", &genesis.custodians));
            lines
        }
        Action::SetOfficers(officers) => members("安全官 officer", officers),
        Action::GenerateKey(key) => vec![attributes(key)],
        Action::ImportKey(import) => {
            let components = import.components.iter().map(|part| {
                let kcv = to_hex(&part.kcv);
                format!("  分量 component   {} 校验值 KCV {kcv}", part.custodian)
            });
            std::iter::once(attributes(&import.attributes)).chain(components).collect()
        }
        Action::Floor(floor) => vec![format!("  模块启动 boot    {}", to_hex(&floor.boot))],
        Action::SetKeyState(_)
        | Action::SetPolicy(_)
        | Action::SetCa(_)
        | Action::ResetBudget(_)
        | Action::SetLimits(_)
        | Action::Zeroise(_)
        | Action::RevokeLicence(_)
        | Action::RevokeToken(_)
        | Action::ApproveList(_)
        | Action::EndClient(_)
        | Action::Prune(_) => Vec::new(),
        Action::EnrolClient(client) => vec![format!("  有效至 until     {}", date(client.not_after))],
        Action::SetProfile(profile) => profile.roles.iter().map(profile_role).collect(),
        Action::GrantLicence(licence) => vec![
            format!("  有效期 valid     {} … {}", date(licence.not_before), date(licence.not_after)),
            format!("  方案 profile     SHA-256 {}", to_hex(&licence.profile)),
            format!(
                "  传输密钥 transport {} 指纹 fingerprint {}",
                licence.transport,
                to_hex(&licence.fingerprint)
            ),
        ],
        Action::Spoil(spoilage) => {
            spoilage.cards.iter().map(|card| format!("  废卡 spoiled     {}", to_hex(card))).collect()
        }
        Action::EnrolToken(key) => vec![format!("  有效至 until     {}", date(key.not_after))],
        Action::SetWitnesses(set) => {
            let keys = set.witnesses.iter();
            keys.map(|one| format!("  见证人 witness   {} {}", one.name, to_hex(&one.key))).collect()
        }
    }
}

fn profile_role(role: &ProfileRole) -> String {
    let (name, index, layout) = (&role.role, role.index, role.mac);
    let (algorithm, steps) = (role.algorithm, steps(&role.levels));
    format!(
        "  密钥 key         {name} ← {} {algorithm}, {steps}, 索引 index {index:02X}, MAC {layout}",
        role.key
    )
}

/// Unix seconds as a date that people read.
pub(crate) fn date(seconds: u64) -> String {
    let moment =
        i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    moment.and_then(|moment| moment.format(&Rfc3339).ok()).unwrap_or_else(|| format!("{seconds} s"))
}

fn members(what: &str, set: &Quorum) -> Vec<String> {
    let line = |name: &str, key: &PublicKey| format!("  {what} {name}: {}", fingerprint(key));
    set.members.iter().map(|member| line(&member.name, &member.key)).collect()
}

fn attributes(key: &KeyAttributes) -> String {
    let steps = steps(&key.levels);
    let usage = key.usage.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!("  密钥 key         level {}, derived {steps}, for {usage}", key.level)
}

fn steps(levels: &[FactorSource]) -> String {
    let steps = levels.iter().map(|level| match level {
        FactorSource::IssuerId(_) => "issuer_id".to_owned(),
        FactorSource::AsnRight8(_) => "asn_right8".to_owned(),
        FactorSource::Literal(bytes) => to_hex(bytes),
        FactorSource::Chip(_) => "chip".to_owned(),
    });
    let steps = steps.collect::<Vec<_>>().join(" → ");
    if steps.is_empty() { "—".to_owned() } else { steps }
}

/// The module's refusal in Chinese. Its own sentence, in English, names persons and keys.
pub(crate) fn refusal(code: Refusal) -> &'static str {
    use Refusal as R;
    match code {
        R::BadFrame => "通信格式不符;请使用同一版本的程序。",
        R::WrongState => "模块当前状态不允许此操作;请先查看状态。",
        R::TooLarge => "请求过长;请使用同一版本的程序。",
        R::Busy => "模块正忙;请稍后再试。",
        R::Fault => "模块自检失败;请重启模块,再次失败则检查机器。",
        R::NotDurable => "操作已完成,但日志尚未落盘;请检查 keyd。",
        R::UnknownTicket | R::BatchOrder | R::BatchGroups => "请求顺序不对;请重新开始。",
        R::NoSuchKey => "没有这个密钥版本;请核对密钥名称。",
        R::KeyState => "密钥当前状态不允许此操作。",
        R::KeyExists => "该密钥版本已存在;版本号不会重复使用。",
        R::KeyReused => "相同的密钥已用于其他名称;每个用途须用自己的密钥。",
        R::WeakKey => "密钥强度不足;请另行生成。",
        R::KeyKcv => "合成密钥的校验值与命令不符;请重新提出命令。",
        R::KeyAttributes => "密钥属性不允许;请核对级数和用途。",
        R::BadCommand => "命令格式不对;请重新提出。",
        R::WrongInstance => "命令属于另一个实例;请核对实例和模块。",
        R::OfficerEpoch => "安全官组已变更;请重新提出命令。",
        R::UnknownOfficer => "签名人不在安全官组中。",
        R::BadSignature => "签名与命令不符;请重新签名。",
        R::SignedTwice => "同一安全官签了两次;须由不同的人批准。",
        R::QuorumMissing => "批准人数不足,或缺少提出人的签名。",
        R::CommandUsed => "该命令已执行过;请提出新的命令。",
        R::CommandWindow => "日志已超出命令的窗口;请重新提出命令。",
        R::CommandKind => "此处不接受这种命令。",
        R::Limits => "只有演练实例可以更改失败次数上限。",
        R::BadSet => "人员组不符合规定(至少两人,姓名和密钥不得重复)。",
        R::BoxDamaged => "密封数据打不开;请重新获取模块的一次性密钥后重试。",
        R::ShareForeign => "份额不属于这一组;请带来本组的份额。",
        R::ShareDamaged => "份额已损坏;请换一位保管人,或核对纸质份额。",
        R::ShareTwice => "该份额已提交;需要另一位保管人。",
        R::ShareSet => "这些份额不能恢复该证书的根密钥;请核对证书。",
        R::ShareUnproved => "尚有份额未验证;每位保管人都须验证自己的份额。",
        R::ComponentCommitment => "分量与批准前的承诺不一致;请核对分量。",
        R::ComponentKcv => "分量的校验值不对;请该保管人重新读取。",
        R::ComponentForeign => "没有等待此分量的导入;请先提交导入命令。",
        R::ComponentTwice => "该分量已提交。",
        R::LogForged => "日志与模块签署的日志头不符;请停止操作并通知审计员。",
        R::BelowFloor => "日志低于安全官认可的日志头;请带来较新的日志。",
        R::FloorStale => "日志头认可书属于模块的另一次启动;请重新签署。",
        R::RecordDamaged => "密钥记录已损坏;请从快照恢复。",
        R::RecordOld => "密钥记录比日志旧;请从快照恢复。",
        R::RecordMissing => "缺少日志中的密钥记录;请从快照恢复。",
        R::AckForged => "keyd 的确认与模块不符;请停止操作并通知审计员。",
        R::NoSuchLicence => "没有这样的许可,或不属于该生产线。",
        R::LicenceExpired => "许可不在有效期内,或已终止。",
        R::LicenceUsedUp => "许可数量已用完。",
        R::CardRange => "卡号不在许可的号段内,或不是卡号。",
        R::CardSpoiled => "该卡已作废卡核销。",
        R::ProfileChanged => "应用密钥方案已变更,请申请新的许可。",
        R::TransportKey => "传输密钥不是许可所指的,或未启用。",
        R::BadProfile => "应用密钥方案不成立,或与密钥不符。",
        R::CardChip => "芯片因子缺失、多余,或与上次不同。",
        R::BadLicence => "许可所指的内容不存在,或数量、号段不成立。",
        R::ListFormat => "名单格式有误。",
        R::ListEpoch => "名单期号不是下一期。",
        R::ListRemovals => "移出的卡过多,须由安全官批准。",
        R::ListBase => "所附的现行名单不是日志中的那一份。",
        R::ListMacKey => "该期名单已用另一 MAC 密钥签发过。",
        R::NoSuchToken => "没有这样的账务密钥,或已停用。",
        R::BadToken => "账务令牌无效。",
        R::TokenMismatch => "账务令牌与请求不符。",
        R::TokenUsed => "该卡的该计数器已答复过另一请求。",
        R::LoadCounter => "卡计数器低于已答复的值。",
        R::MacWrong => "卡的 MAC 错误。",
        R::ValueCeiling => "账务密钥当日限额已用完。",
        R::TokenDate => "账务令牌的日期与模块相差过大。",
        R::Withheld => "该卡或密钥版本的失败次数已达上限。",
        R::BadScript => "脚本字段不成立。",
        R::WeakTransport => "传输密钥弱于所保护的卡片密钥;3DES 传输密钥只用于 3DES 角色。",
        R::BadClient => "客户端名称或公钥不能登记,或未登记。",
        R::Unwitnessed => "见证人法定人数尚未联署;请检查见证人及其连接。",
        R::Retention => "日志条目须保存至少 183 天,或已清理;请改用允许的序号。",
        R::BadWitnesses => "见证人名单不符合规则;请按规则重新提出。",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::cbor::Cbor;
    use wire::command::{Floor, Member};

    fn set(names: &[&str]) -> Quorum {
        let member = |(at, name): (u8, &&str)| Member { name: (*name).to_owned(), key: [at; 33] };
        Quorum { threshold: 2, members: (2..).zip(names).map(member).collect() }
    }

    fn shown(action: Action) -> String {
        let made = Command {
            version: 1,
            suite: 1,
            instance: [0xab; 16],
            officer_epoch: 4,
            id: [0xcd; 16],
            not_before: 17,
            not_after: 4711,
            proposed_at: 0,
            proposer: "li".into(),
            action,
        };
        command(&made, &made.to_cbor()).join("\n")
    }

    #[test]
    fn what_is_signed_is_shown_whole() {
        let text =
            shown(Action::Floor(Floor { boot: [0xee; 16], size: 12, root: [0x5a; 32], epoch_key: None }));
        let parts = [
            "12 条",
            "12 entries",
            "5A5A5A5A",
            "EEEEEEEE",
            "ABABABAB",
            "CDCDCDCD",
            "entries 17 to 4711",
            "proposer  li",
            "epoch 4",
            "fingerprint",
        ];
        for part in parts {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_new_officer_set_shows_every_key() {
        let text = shown(Action::SetOfficers(set(&["li", "wang", "zhao"])));
        for (at, name) in (2..).zip(["li", "wang", "zhao"]) {
            assert!(text.contains(&format!("{name}: {}", fingerprint(&[at; 33]))), "{text}");
        }
    }

    #[test]
    fn every_refusal_has_chinese_words() {
        for code in Refusal::ALL {
            let words = refusal(*code);
            assert!(words.ends_with('。') && words.chars().count() > 5, "{code}: {words}");
        }
    }

    #[test]
    fn fingerprints_and_hex() {
        assert_eq!(fingerprint(b"abc"), "BA78 16BF 8F01 CFEA 4141 40DE 5DAE 2223");
        assert_eq!(from_hex("0aFF"), Some([0x0a, 0xff]));
        for bad in ["0", "0g", "+1", "0a0", "é"] {
            assert_eq!(from_hex::<1>(bad), None, "{bad}");
        }
    }
}
