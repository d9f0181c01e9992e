//! The page: one file that needs nothing else, to be filed as it is.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use translog::audit::Report;
use translog::policy::Policy;
use translog::state::LogState;
use wire::purse::to_hex;

use super::chart::{bars, columns, grouped};
use super::story::Story;
use crate::row::{Outcome, instant};
use crate::verify::witnesses;

/// What the page is about.
pub(super) struct Facts<'a> {
    pub(super) story: &'a Story,
    pub(super) log: &'a Report,
    pub(super) policy: &'a Policy,
    pub(super) state: &'a LogState,
    pub(super) source: &'a str,
    pub(super) now: &'a str,
}

const STYLE: &str = "
:root{--ink:#1d2733;--soft:#5b6774;--line:#d8dee5;--bar:#2f6fab;--good:#1b6e3c;--bad:#a4262c}
body{font:15px/1.5 'Noto Sans CJK SC','Source Han Sans SC','PingFang SC','Microsoft YaHei',system-ui,sans-serif;color:var(--ink);
max-width:1040px;margin:2rem auto;padding:0 1.25rem}
h1{font-size:1.6rem;margin:0 0 .25rem}h2{font-size:1.15rem;margin:2.2rem 0 .6rem;border-bottom:1px solid var(--line);padding-bottom:.25rem}
p{margin:.4rem 0}.soft{color:var(--soft)}.good{color:var(--good);font-weight:600}.bad{color:var(--bad);font-weight:600}
table{border-collapse:collapse;width:100%;margin:.5rem 0;font-size:13.5px}
th,td{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0;border-bottom:1px solid var(--line)}
th{font-weight:600;color:var(--soft)}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td.t{white-space:nowrap;font-variant-numeric:tabular-nums}
code{font:12.5px/1.45 ui-monospace,'Cascadia Mono',Menlo,Consolas,monospace;overflow-wrap:anywhere}
figure{margin:1rem 0}figcaption{font-weight:600;font-size:13.5px;margin-bottom:.3rem}svg{max-width:100%;height:auto}
svg text{font-size:12px;fill:var(--ink)}svg .value{fill:var(--soft)}.bar{fill:var(--bar)}.axis{stroke:var(--line)}
@media print{body{margin:0;max-width:none}h2{break-after:avoid}tr,figure{break-inside:avoid}}
";

/// The whole page.
pub(super) fn html(facts: &Facts<'_>) -> Markup {
    let title = format!("审计报告 Audit report · {}", facts.log.origin);
    html! {
        (DOCTYPE)
        html lang="zh" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "密钥服务审计报告 Key service audit report" }
                p.soft { (facts.log.origin) " · " (facts.source) " · " (facts.now) " · citykeep-audit " (env!("CARGO_PKG_VERSION")) }
                p.good { "日志有效:自首条至检查点逐条核验无误。The log is good, from its first entry to its checkpoint." }
                @if facts.log.rehearsal {
                    p.bad { "演练实例,其密钥不得用于生产。This is a rehearsal instance; its keys can never become real." }
                }
                @if facts.log.zeroised { p.bad { "模块已清零且未恢复。The module was wiped and has not come back." } }
                (verified(facts))
                (periods(facts.story))
                (acts(facts.story))
                (refusals(facts.story))
                (keys(facts.log))
                (usage(facts.story))
                (limits())
            }
        }
    }
}

fn section(chinese: &str, english: &str, body: &Markup) -> Markup {
    html! { section { h2 { (chinese) " " span.soft { (english) } } (body) } }
}

fn fact(chinese: &str, english: &str, value: &Markup) -> Markup {
    html! { tr { th { (chinese) " " (english) } td { (value) } } }
}

fn verified(facts: &Facts<'_>) -> Markup {
    let Facts { log, policy, state, .. } = facts;
    let officers = state.instance().map(|instance| &instance.officers);
    let kinds = log.kinds.iter().map(|(kind, count)| format!("{kind} {}", grouped(*count)));
    let named: Vec<&str> = policy.witnesses().iter().map(|witness| witness.name.as_str()).collect();
    let (from, to) = log.wall_ns;
    section(
        "一、核验范围",
        "What was verified",
        &html! {
            table {
                (fact("日志", "Log", &html! { (log.origin) }))
                (fact("实例", "Instance", &html! { code { (to_hex(&log.instance)) } " · node " code { (to_hex(&log.node)) } }))
                (fact("条目", "Entries", &html! { (grouped(log.size)) " (" (kinds.collect::<Vec<_>>().join(", ")) ")" }))
                (fact("期间", "Period", &html! { (instant(from)) " – " (instant(to)) " (模块时钟 module's clock)" }))
                (fact("树根", "Root", &html! { code { (to_hex(&log.root)) } }))
                (fact("日志公钥", "Log key", &html! { code { (log.vkey) } }))
                (fact("要求的见证", "Witnesses asked for", &html! {
                    @if named.is_empty() { "无 none" } @else {
                        (named.join(", ")) @if policy.needs_witnesses() { " (须达法定数 quorum required)" }
                    }
                }))
                (fact("见证签名", "Cosigned by", &html! { (witnesses(log)) }))
                @if let Some(set) = officers {
                    (fact("安全官", "Officers", &html! {
                        (set.threshold) "/" (set.members.len()) ": "
                        (set.members.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", "))
                        " (第 epoch " (log.officer_epoch) ")"
                    }))
                }
                (fact("策略摘要", "Policy digest", &html! { code { (to_hex(&log.policy)) } }))
                (fact("CA 摘要", "CA digest", &html! { code { (to_hex(&log.ca)) } }))
            }
            p.soft {
                "已核验:每个文件的每个字节、每条目的哈希与格式、树根与签名、每条命令的安全官签名、由条目推出的全部状态。"
                "Checked: every byte of every file, the hash and form of every entry, root and signatures, the officers' \
                 signatures under every command, and everything that the entries add up to."
            }
        },
    )
}

fn periods(story: &Story) -> Markup {
    let by_month = story.days.len() > 200;
    let mut buckets: Vec<(String, u64)> = Vec::new();
    for (day, count) in &story.days {
        let name = if by_month { day.get(..7).unwrap_or(day) } else { day };
        match buckets.last_mut() {
            Some((last, sum)) if last == name => *sum += count,
            _ => buckets.push((name.to_owned(), *count)),
        }
    }
    section(
        "二、时间与间断",
        "Time and gaps",
        &html! {
            (columns(if by_month { "每月条目数 Entries a month" } else { "每日条目数 Entries a day" }, &buckets))
            @if story.gaps.all == 0 { p { "无间断。No gaps." } } @else {
                p { "间断 Gaps: " (grouped(story.gaps.all)) }
                table {
                    tr { th.n { "条目 entry" } th { "自 from" } th { "至 to" } th { "情形 what" } }
                    @for gap in &story.gaps.first {
                        tr {
                            td.n { (gap.index) } td.t { (instant(gap.from_ns)) } td.t { (instant(gap.to_ns)) }
                            td {
                                @if gap.down { "模块停机后重启 the module was down and came back" } @else {
                                    span.bad { "运行中无心跳 the module ran without a heartbeat" }
                                }
                            }
                        }
                    }
                }
            }
            @if story.steps.all == 0 { p { "时钟无跳变。The wall clock was not set." } } @else {
                p { "时钟跳变 Clock steps: " (grouped(story.steps.all)) }
                table {
                    tr { th.n { "条目 entry" } th { "跳变后 after it" } th.n { "毫秒 ms" } }
                    @for step in &story.steps.first {
                        tr { td.n { (step.index) } td.t { (instant(step.wall_ns)) } td.n { (format!("{:+}", step.milliseconds)) } }
                    }
                }
            }
        },
    )
}

fn acts(story: &Story) -> Markup {
    section(
        "三、特权操作与批准",
        "Privileged acts and their approvals",
        &html! {
            table {
                tr { th.n { "条目 entry" } th { "时间 time" } th { "操作 act" } th { "批准 approved by" } }
                @for act in &story.acts {
                    tr {
                        td.n { (act.row.index) }
                        td.t { (act.row.time()) }
                        td {
                            (act.row.words.0) br; span.soft { (act.row.words.1) }
                            @if act.row.outcome == Outcome::Refused { " " span.bad { "拒绝 refused" } }
                            @if let Some(kcv) = act.row.facts.get("made").and_then(|made| made.get("kcv")).and_then(|kcv| kcv.as_str()) {
                                br; "KCV " code { (kcv) }
                            }
                        }
                        td {
                            (act.row.actors.join(", "))
                            @if let Some(needed) = act.needed { br; span.soft { "须 needed " (needed) } }
                        }
                    }
                }
            }
        },
    )
}

fn refusals(story: &Story) -> Markup {
    section(
        "四、拒绝",
        "Refusals",
        &html! {
            @if story.refusals.is_empty() { p { "无。None." } } @else {
                table {
                    tr { th { "来源 by" } th { "原因 why" } th.n { "次数 count" } th.n { "首条 first" } th.n { "末条 last" } th { "末次 until" } }
                    @for ((by, code), known) in &story.refusals {
                        tr {
                            td { (by) } td { (code) } td.n { (grouped(known.count)) }
                            td.n { (known.first) } td.n { (known.last) } td.t { (instant(known.until_ns)) }
                        }
                    }
                }
                p.soft { "来源为 keyd 者由网关断言,模块未见。What keyd says is its assertion; the module did not see it." }
            }
        },
    )
}

fn keys(log: &Report) -> Markup {
    section(
        "五、密钥",
        "Keys",
        &html! {
            @if log.keys.is_empty() { p { "无。None." } } @else {
                table {
                    tr { th { "密钥 key" } th { "状态 state" } }
                    @for (key, state) in &log.keys { tr { td { code { (key) } } td { (state) } } }
                }
            }
        },
    )
}

fn usage(story: &Story) -> Markup {
    let charts = [
        ("checks", "核验笔数,按密钥 Codes checked, by key", "核验笔数,按客户 Codes checked, by client"),
        ("cards", "派生卡密钥,按密钥 Card keys, by key", "派生卡密钥,按客户 Card keys, by client"),
        ("loads", "圈存授权,按密钥 Loads, by key", "圈存授权,按客户 Loads, by client"),
        ("scripts", "卡片命令,按密钥 Card commands, by key", "卡片命令,按客户 Card commands, by client"),
        ("lists", "名单签发,按密钥 Lists signed, by key", "名单签发,按客户 Lists signed, by client"),
    ];
    section(
        "六、使用量",
        "Use per key and client",
        &html! {
            @if story.used.is_empty() { p { "无。None." } }
            @for (deed, by_key, by_client) in charts {
                @let sums = story.sums(deed, |known| &known.1);
                @if !sums.is_empty() {
                    (bars(by_key, &sums))
                    (bars(by_client, &story.sums(deed, |known| &known.0)))
                }
            }
            @if !story.used.is_empty() {
                table {
                    tr { th { "客户 client" } th { "密钥 key" } th { "用途 use" } th.n { "次数 count" } th.n { "未通过 not ok" } }
                    @for ((client, key, deed), used) in &story.used {
                        tr { td { (client) } td { code { (key) } } td { (deed) } td.n { (grouped(used.count)) } td.n { (grouped(used.not_ok)) } }
                    }
                }
            }
            @for (signer, fen) in &story.loaded {
                p { "账务密钥 ledger key " code { (signer) } ": 圈存 loaded " (grouped(fen / 100)) (format!(".{:02}", fen % 100)) " 元 yuan" }
            }
        },
    )
}

fn limits() -> Markup {
    section(
        "七、本报告不能说明的",
        "What no log can show",
        &html! {
            ul {
                li { "从未写入的事件。An event that was never written." }
                li { "最新见证之后的尾部若被截去。A tail after the newest cosigned head, if it was cut off." }
                li { "网关断言的客户名称是否属实。Whether a client is who keyd says it is." }
            }
        },
    )
}
