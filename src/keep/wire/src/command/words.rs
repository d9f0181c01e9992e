//! What officers read of a command, made from the bytes that they sign: Chinese, then English.

use super::{Action, Floor};
use crate::key::KeyId;
use crate::licence::{Licence, Spoilage};
use crate::list::ApprovedList;
use crate::profile::AppletProfile;
use crate::purse::to_hex;
use crate::token::TokenKey;
use crate::witness::{Witness, WitnessSet};

type Words = (String, String);

impl Action {
    /// What an officer approves, in words made from the bytes that he signs: Chinese, then English.
    pub fn in_words(&self) -> (String, String) {
        match self {
            Self::Genesis(genesis) => {
                let kind = if genesis.rehearsal { ("演练", "REHEARSAL") } else { ("正式", "production") };
                let (m, n) = (genesis.officers.threshold, genesis.officers.members.len());
                let (k, c) = (genesis.custodians.threshold, genesis.custodians.members.len());
                (
                    format!("建立{}实例 {}:安全官 {m}/{n},分量保管人 {k}/{c}", kind.0, genesis.origin),
                    format!(
                        "create {} instance {}: officers {m} of {n}, custodians {k} of {c}",
                        kind.1, genesis.origin
                    ),
                )
            }
            Self::SetOfficers(set) => {
                let names: Vec<&str> = set.members.iter().map(|member| member.name.as_str()).collect();
                let (m, n, names) = (set.threshold, names.len(), names.join(", "));
                (
                    format!("更换安全官:{m}/{n}:{names}"),
                    format!("replace the officer set by {m} of {n}: {names}"),
                )
            }
            Self::GenerateKey(key) => (
                format!("生成密钥 {},算法 {}", key.id(), key.algorithm),
                format!("generate key {}, {}", key.id(), key.algorithm),
            ),
            Self::ImportKey(import) => {
                let (key, parts) = (&import.attributes, import.components.len());
                let kcv = to_hex(&key.kcv);
                (
                    format!("由 {parts} 个分量导入密钥 {},算法 {},校验值 {kcv}", key.id(), key.algorithm),
                    format!("import key {} from {parts} components, {}, KCV {kcv}", key.id(), key.algorithm),
                )
            }
            Self::SetKeyState(change) => (
                format!("密钥 {} 转为 {} 状态", change.key, change.state),
                format!("set key {} to {}", change.key, change.state),
            ),
            Self::SetPolicy(digest) => (
                format!("批准策略文件,SHA-256 {}", to_hex(&digest.digest)),
                format!("approve the policy file with SHA-256 {}", to_hex(&digest.digest)),
            ),
            Self::SetCa(digest) => (
                format!("批准 CA 证书包,SHA-256 {}", to_hex(&digest.digest)),
                format!("approve the CA bundle with SHA-256 {}", to_hex(&digest.digest)),
            ),
            Self::ResetBudget(reset) => {
                let key = reset.key.as_ref().map_or_else(|| "-".into(), KeyId::to_string);
                let card = reset.card.as_ref().map_or_else(
                    || "-".into(),
                    |card| format!("{}/{}/{}", card.wall, to_hex(&card.issuer), to_hex(&card.card)),
                );
                (
                    format!("恢复失败次数预算:密钥 {key},卡 {card}"),
                    format!("reset the failure budget of key {key}, card {card}"),
                )
            }
            Self::SetLimits(limits) => (
                format!("失败次数上限:每卡 {},每密钥版本 {}", limits.card, limits.version),
                format!("failure budgets: {} per card, {} per key version", limits.card, limits.version),
            ),
            Self::Floor(floor) => self::floor(floor),
            Self::Zeroise(_) => ("清除本模块的全部密钥".into(), "wipe every key from this module".into()),
            Self::SetProfile(profile) => self::profile(profile),
            Self::GrantLicence(licence) => self::licence(licence),
            Self::RevokeLicence(named) => {
                let id = to_hex(&named.id);
                (format!("终止许可 {id}"), format!("end licence {id}"))
            }
            Self::Spoil(spoilage) => self::spoilage(spoilage),
            Self::EnrolToken(key) => token_key(key),
            Self::RevokeToken(token) => {
                (format!("停用账务令牌密钥 {}", token.name), format!("end ledger token key {}", token.name))
            }
            Self::ApproveList(list) => self::list(list),
            Self::EnrolClient(client) => {
                let (name, key) = (&client.client, to_hex(&client.key));
                let until = client.not_after;
                (
                    format!("登记客户端 {name},公钥 SHA-256 {key},有效至 {until}(Unix 秒)"),
                    format!("enrol client {name}, public key SHA-256 {key}, until {until} (Unix seconds)"),
                )
            }
            Self::EndClient(end) => {
                let (key, why) = (to_hex(&end.key), &end.reason);
                (
                    format!("吊销客户端公钥 SHA-256 {key}:{why}"),
                    format!("revoke the client key with SHA-256 {key}: {why}"),
                )
            }
            Self::SetWitnesses(set) => witnesses(set),
            Self::Prune(prune) => (
                format!("准许清理日志中第 {} 条以前的文件", prune.below),
                format!("let the files of log entries below {} go", prune.below),
            ),
        }
    }
}

fn floor(floor: &Floor) -> Words {
    let (size, root) = (floor.size, to_hex(&floor.root));
    let key = floor.epoch_key.map(|key| to_hex(&key));
    let zh = key.as_ref().map(|key| format!(";认可本次启动的日志时段密钥 {key}"));
    let en = key.as_ref().map(|key| format!("; this boot's epoch key {key} signs what follows"));
    (
        format!("认可的最低日志头:{size} 条,根 {root}{}", zh.unwrap_or_default()),
        format!("accept no log below {size} entries with root {root}{}", en.unwrap_or_default()),
    )
}

fn witnesses(set: &WitnessSet) -> Words {
    let (quorum, count, grace) = (set.quorum, set.witnesses.len(), set.grace);
    if count == 0 {
        return (
            "停止日志见证:此后日志头无须见证人签名".into(),
            "end witnessing: heads need no cosignature any more".into(),
        );
    }
    let witness = |witness: &Witness| format!("{} {}", witness.name, to_hex(&witness.key));
    let names = set.witnesses.iter().map(witness).collect::<Vec<_>>().join("; ");
    (
        format!("日志见证人 {quorum}/{count}:{names};见证中断后宽限 {grace} 秒"),
        format!(
            "witnesses of the log, {quorum} of {count}: {names}; without them checks go on for {grace} seconds"
        ),
    )
}

fn profile(profile: &AppletProfile) -> Words {
    let (applet, version, digest) = (&profile.applet, profile.version, to_hex(&profile.digest()));
    let roles: Vec<String> =
        profile.roles.iter().map(|role| format!("{} ← {}", role.role, role.key)).collect();
    let roles = roles.join("; ");
    (
        format!(
            "批准应用 {applet} 的密钥方案,第 {version} 版,SHA-256 {digest}:{roles};旧方案下的许可随即停止"
        ),
        format!(
            "approve profile {version} of applet {applet}, SHA-256 {digest}: {roles}; licences of the profile before it stop"
        ),
    )
}

fn licence(licence: &Licence) -> Words {
    let (first, last) = (to_hex(&licence.first), to_hex(&licence.last));
    let (quantity, applet, line) = (licence.quantity, &licence.applet, &licence.line);
    let (roles, transport) = (licence.roles.join(", "), &licence.transport);
    let (from, to) = (licence.not_before, licence.not_after);
    let (id, issuer) = (to_hex(&licence.id), to_hex(&licence.issuer));
    (
        format!(
            "许可 {id}:准许 {line} 取得 {quantity} 张卡的 {applet} 密钥({roles}),发卡方 {issuer},卡号 {first} 至 {last},\
             以传输密钥 {transport} 加密,有效期 {from} 至 {to}(Unix 秒)"
        ),
        format!(
            "licence {id}: {line} may have the {applet} keys ({roles}) of {quantity} cards, issuer {issuer}, numbers {first} to \
             {last}, under transport key {transport}, valid from {from} to {to} (Unix seconds)"
        ),
    )
}

fn spoilage(spoilage: &Spoilage) -> Words {
    let (id, count) = (to_hex(&spoilage.licence), spoilage.cards.len());
    let mut cards: Vec<String> = spoilage.cards.iter().take(5).map(|card| to_hex(card)).collect();
    if count > cards.len() {
        cards.push("…".to_owned());
    }
    let cards = cards.join(", ");
    (
        format!("许可 {id}:{count} 张废卡核销({cards});这些卡号作废,补发同等数量"),
        format!(
            "licence {id}: {count} spoiled cards ({cards}); their numbers are dead, as many others may be made"
        ),
    )
}

fn token_key(key: &TokenKey) -> Words {
    let (name, wall, public) = (&key.name, &key.wall, to_hex(&key.key));
    let (yuan, fen, until) = (key.daily / 100, key.daily % 100, key.not_after);
    (
        format!(
            "登记账务令牌密钥 {name}({public}),应用 {wall},每日圈存上限 {yuan}.{fen:02} 元,有效至 {until}(Unix 秒)"
        ),
        format!(
            "enrol ledger token key {name} ({public}) for {wall}: loads up to ¥{yuan}.{fen:02} a day, until {until} (Unix seconds)"
        ),
    )
}

fn list(list: &ApprovedList) -> Words {
    let (wall, epoch, removed, digest) = (&list.wall, list.epoch, list.removed, to_hex(&list.digest));
    if removed == ApprovedList::UNKNOWN {
        return (
            format!("批准 {wall} 黑名单第 {epoch} 期,现行名单已丢失,无人能说明移出哪些卡,SHA-256 {digest}"),
            format!(
                "approve blacklist epoch {epoch} of {wall} without the list in force, which is lost: nobody can say how many cards \
                 it takes off; SHA-256 {digest}"
            ),
        );
    }
    (
        format!("批准 {wall} 黑名单第 {epoch} 期,移出 {removed} 张卡,SHA-256 {digest}"),
        format!(
            "approve blacklist epoch {epoch} of {wall}, which takes {removed} cards off; SHA-256 {digest}"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ceiling_is_read_in_yuan() {
        let key = TokenKey {
            name: "bank".into(),
            key: [2; 33],
            wall: "transit".into(),
            daily: 1_050,
            not_after: 7,
        };
        assert!(token_key(&key).1.contains("¥10.50 a day"));
    }
}
