//! What each kind of entry says.

use serde_json::{Value, json};
use translog::entry::{
    BatchEvent, CommandEvent, ComponentEvent, DeniedEvent, Event, IssuedEvent, ListEvent, LoadEvent,
    SingleEvent, WrongPairs,
};
use wire::frame::{Assertion, Category, Counts, VersionCounts};
use wire::key::{KeyId, Lineage};
use wire::purse::to_hex;

use super::{Outcome, Row};

impl Row {
    pub(super) fn read(&mut self, event: &Event) {
        match event {
            Event::Genesis(event) => {
                self.command(&event.command);
                self.fact("module", to_hex(&event.module));
                self.fact("log_key", to_hex(&event.log_key));
            }
            Event::Boot(event) => {
                self.command(&event.floor);
                let (chinese, english) = std::mem::take(&mut self.words);
                self.say(format!("模块启动;{chinese}"), format!("the module started; {english}"));
                self.fact("module", to_hex(&event.module));
                self.fact("memory", event.memory.as_str());
            }
            Event::Command(event) => self.carried_out(event),
            Event::Component(event) => self.component(event),
            Event::Batch(event) => self.batch(event),
            Event::Single(event) => self.single(event),
            Event::Failures(event) => {
                self.wrong(&event.wrong);
                self.say("下一条目的错误验证码对", "wrong pairs of the entry that follows");
            }
            Event::Asserted(event) => self.asserted(event),
            Event::Denied(event) => self.denied(event),
            Event::Issued(event) => self.issued(event),
            Event::List(event) => self.list(event),
            Event::Load(event) => self.load(event),
            Event::Script(event) => {
                self.actors = vec![event.client.clone()];
                self.keys = vec![event.key.to_string()];
                self.fact("card", to_hex(&event.card));
                self.fact("script", event.kind.to_string());
                self.say(
                    format!("为卡 {} 生成 {} 命令", to_hex(&event.card), event.kind),
                    format!("made {} for card {}", event.kind, to_hex(&event.card)),
                );
            }
            Event::Epoch(_)
            | Event::Heartbeat(_)
            | Event::Witness(_)
            | Event::Intent(_)
            | Event::Closed(_)
            | Event::Truncated(_) => self.upkeep(event),
        }
    }

    fn carried_out(&mut self, event: &CommandEvent) {
        self.command(&event.command);
        if let Some(made) = &event.made {
            self.made(made);
        }
        if let Some(card) = &event.card {
            self.fact("card", to_hex(card));
        }
    }

    fn component(&mut self, event: &ComponentEvent) {
        self.actors = vec![event.custodian.clone()];
        self.fact("command", to_hex(&event.command));
        let who = &event.custodian;
        match event.refused {
            None => self
                .say(format!("{who} 输入了密钥分量"), format!("{who} entered a component; it was accepted")),
            Some(code) => {
                self.outcome = Outcome::Refused;
                self.fact("code", code.as_str());
                self.say(
                    format!("{who} 输入的密钥分量被拒绝:{code}"),
                    format!("{who} entered a component; it was refused: {code}"),
                );
            }
        }
    }

    fn batch(&mut self, event: &BatchEvent) {
        self.actors = vec![event.client.clone()];
        self.keys = versions(&event.lineage, &event.versions);
        self.fact("batch", to_hex(&event.batch));
        self.fact("part", event.part);
        self.fact("profile", event.profile.to_string());
        self.fact("records", event.records);
        self.fact("counts", counts(&event.counts));
        self.fact("versions", rows(&event.versions));
        self.fact("closed", event.total.is_some());
        self.fact("aborted", event.aborted);
        if let Some(total) = &event.total {
            self.fact("root", to_hex(&total.root));
            self.fact("total", total.records);
        }
        let (records, ok, part) = (event.records, event.counts.ok, event.part);
        let batch = to_hex(&event.batch);
        let (zh, en) = match (event.aborted, event.total.is_some()) {
            (true, _) => (",批次中断", "; the batch was broken off"),
            (_, true) => (",批次结束", "; the batch is closed"),
            _ => ("", ""),
        };
        self.outcome = if event.aborted { Outcome::Refused } else { Outcome::Done };
        self.say(
            format!("批次 {batch} 第 {part} 部分:核验 {records} 条,通过 {ok} 条{zh}"),
            format!("batch {batch} part {part}: {records} records checked, {ok} ok{en}"),
        );
    }

    fn single(&mut self, event: &SingleEvent) {
        let mut total = Counts::default();
        for row in &event.rows {
            if !self.actors.contains(&row.client) {
                self.actors.push(row.client.clone());
            }
            self.keys.extend(versions(&row.lineage, &row.versions));
            row.versions.iter().for_each(|version| total.merge(&version.counts));
        }
        self.keys.sort();
        self.keys.dedup();
        self.fact("counts", counts(&total));
        let by = event.rows.iter().map(|row| {
            json!({"client": row.client, "lineage": row.lineage.as_str(), "versions": rows(&row.versions)})
        });
        self.fact("rows", by.collect::<Vec<_>>());
        let (all, ok) = (total.total(), total.ok);
        self.say(format!("单笔核验 {all} 条,通过 {ok} 条"), format!("{all} single checks, {ok} ok"));
    }

    fn wrong(&mut self, wrong: &[WrongPairs]) {
        self.keys = wrong.iter().map(|pairs| pairs.key.to_string()).collect();
        let pairs: usize = wrong.iter().map(|pairs| pairs.pairs.len() / translog::entry::PAIR_LEN).sum();
        self.fact("wrong_pairs", pairs);
    }

    fn asserted(&mut self, event: &Assertion) {
        self.actors = event.client.iter().cloned().collect();
        self.fact("category", event.category.to_string());
        self.fact("code", event.code.as_str());
        self.fact("count", event.count);
        if let Some(certificate) = &event.certificate {
            self.fact("certificate", to_hex(certificate));
        }
        if event.category == Category::Deny {
            self.outcome = Outcome::Refused;
        }
        let (code, count) = (&event.code, event.count);
        self.say(format!("网关报告:{code},{count} 次"), format!("keyd says: {code}, {count} times"));
    }

    fn denied(&mut self, event: &DeniedEvent) {
        self.outcome = Outcome::Refused;
        self.fact("code", event.code.as_str());
        self.fact("socket", event.socket.as_str());
        self.fact("request", event.request);
        self.fact("count", event.count);
        let (code, socket, count) = (event.code, &event.socket, event.count);
        self.say(
            format!("模块拒绝了来自 {socket} 的请求:{code},{count} 次"),
            format!("the module refused a request on the socket {socket}: {code}, {count} times"),
        );
    }

    fn issued(&mut self, event: &IssuedEvent) {
        self.actors = vec![event.client.clone()];
        self.fact("licence", to_hex(&event.licence));
        self.fact("form", event.form.to_string());
        self.fact("roles", event.roles.clone());
        self.fact("offsets", event.cards.iter().map(|card| card.offset).collect::<Vec<_>>());
        self.fact("issued", event.issued);
        let (cards, licence, issued) = (event.cards.len(), to_hex(&event.licence), event.issued);
        self.say(
            format!("按许可 {licence} 派生 {cards} 张卡的密钥,该许可累计 {issued} 张"),
            format!("keys of {cards} cards under licence {licence}, {issued} cards under it so far"),
        );
    }

    fn list(&mut self, event: &ListEvent) {
        self.actors = vec![event.client.clone()];
        self.keys = event.keys.iter().map(KeyId::to_string).collect();
        self.fact("wall", event.wall.as_str());
        self.fact("list_epoch", event.epoch);
        self.fact("kind", event.kind.to_string());
        self.fact("body", to_hex(&event.body));
        self.fact("file", to_hex(&event.digest));
        self.fact("singles", event.singles);
        self.fact("ranges", event.ranges);
        self.fact("removed", event.removed);
        self.fact("again", event.again);
        let (wall, epoch, singles, removed) = (&event.wall, event.epoch, event.singles, event.removed);
        self.say(
            format!("签发 {wall} 黑名单第 {epoch} 期:{singles} 张卡,移出 {removed} 张"),
            format!("signed list {epoch} of {wall}: {singles} cards on it, {removed} left it"),
        );
    }

    fn load(&mut self, event: &LoadEvent) {
        self.actors = vec![event.client.clone(), event.signer.clone()];
        self.keys = vec![event.key.to_string()];
        let card = to_hex(&event.card);
        self.fact("card", card.as_str());
        self.fact("counter", event.counter);
        self.fact("amount_fen", event.amount);
        self.fact("ledger_key", event.signer.as_str());
        self.fact("again", event.again);
        let (yuan, fen) = (event.amount / 100, event.amount % 100);
        self.say(
            format!("授权圈存 {yuan}.{fen:02} 元,卡 {card},联机计数 {}", event.counter),
            format!("authorised a load of {yuan}.{fen:02} yuan, card {card}, counter {}", event.counter),
        );
    }
}

/// Key versions with counts; the lineage alone if there are none.
fn versions(lineage: &Lineage, rows: &[VersionCounts]) -> Vec<String> {
    if rows.is_empty() {
        return vec![lineage.to_string()];
    }
    rows.iter().map(|row| KeyId { lineage: lineage.clone(), version: row.version }.to_string()).collect()
}

fn counts(counts: &Counts) -> Value {
    let Counts { ok, bad_tac, unknown_key, malformed, withheld } = *counts;
    json!({"ok": ok, "bad_tac": bad_tac, "unknown_key": unknown_key, "malformed": malformed, "withheld": withheld})
}

fn rows(rows: &[VersionCounts]) -> Vec<Value> {
    let row =
        |row: &VersionCounts| json!({"version": row.version.to_string(), "counts": counts(&row.counts)});
    rows.iter().map(row).collect()
}
