//! What officers read of the longer commands, made from the bytes that they sign: Chinese, then English.

use crate::licence::{Licence, Spoilage};
use crate::list::ApprovedList;
use crate::profile::AppletProfile;
use crate::purse::to_hex;
use crate::token::TokenKey;

type Words = (String, String);

pub(super) fn profile(profile: &AppletProfile) -> Words {
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

pub(super) fn licence(licence: &Licence) -> Words {
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

pub(super) fn spoilage(spoilage: &Spoilage) -> Words {
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

pub(super) fn token_key(key: &TokenKey) -> Words {
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

pub(super) fn list(list: &ApprovedList) -> Words {
    let (wall, epoch, removed, digest) = (&list.wall, list.epoch, list.removed, to_hex(&list.digest));
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
