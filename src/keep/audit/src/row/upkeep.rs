//! Entries that the log makes about itself and about what is under way.

use translog::entry::Event;
use wire::error::Refusal;
use wire::purse::to_hex;

use super::{Outcome, Row, instant};

impl Row {
    pub(super) fn upkeep(&mut self, event: &Event) {
        match event {
            Event::Epoch(turn) => {
                let number = turn.number;
                self.fact("number", number);
                self.fact("key", to_hex(&turn.key));
                self.fact("root", to_hex(&turn.root));
                self.say(
                    format!("日志密钥换期:第 {number} 期由本条之后开始"),
                    format!("the epoch ended; epoch {number} begins after this entry"),
                );
            }
            Event::Heartbeat(beat) => {
                self.fact("witnessed", beat.witnessed);
                self.fact("witnessed_at", beat.time);
                self.say("心跳", "heartbeat");
            }
            Event::Witness(event) => {
                let lost = event.change == 1;
                let time = instant(event.time.saturating_mul(1_000_000_000));
                self.outcome = if lost { Outcome::Refused } else { Outcome::Done };
                self.fact("code", if lost { "witnesses-lost" } else { "witnesses-regained" });
                self.fact("size", event.size);
                self.fact("witnessed_at", event.time);
                let size = event.size;
                let (zh, en) = if lost { ("失去", "lost") } else { ("恢复", "regained") };
                self.say(
                    format!("{zh}见证法定数,最近见证至 {size} 条({time})"),
                    format!("the quorum of witnesses was {en}; newest cosigned head {size} at {time}"),
                );
            }
            Event::Intent(intent) => {
                self.fact("command", to_hex(&intent.command));
                self.fact("digest", to_hex(&intent.digest));
                let id = to_hex(&intent.command);
                self.say(format!("将执行命令 {id}"), format!("command {id} is about to be carried out"));
            }
            Event::Closed(closed) => {
                let why = match (closed.reason, Refusal::from_code(closed.reason)) {
                    (0, _) => "orphan",
                    (_, Some(code)) => code.as_str(),
                    (_, None) => "unknown",
                };
                self.outcome = Outcome::Refused;
                self.fact("intent", closed.intent);
                self.fact("code", why);
                let intent = closed.intent;
                self.say(
                    format!("第 {intent} 条的命令未执行:{why}"),
                    format!("the command of entry {intent} was not carried out: {why}"),
                );
            }
            Event::Truncated(cut) => {
                let bytes = cut.bytes;
                self.fact("bytes", bytes);
                self.fact("digest", to_hex(&cut.digest));
                self.say(
                    format!("网关报告:截去未确认的尾部 {bytes} 字节"),
                    format!("keyd says: it cut an unacknowledged tail of {bytes} bytes"),
                );
            }
            _ => {}
        }
    }
}
