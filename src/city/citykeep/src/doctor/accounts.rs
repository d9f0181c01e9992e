//! Users and groups of an installed system: two users that are nobody else's, and the people's group.

use std::fs;

use super::finding::Finding;

const CHECK: &str = "accounts";
const MODULE: &str = "citykeep-hsm";
const DAEMON: &str = "citykeep-keyd";
const OFFICERS: &str = "citykeep-officers";

pub(super) fn check() -> Finding {
    match (fs::read_to_string("/etc/passwd"), fs::read_to_string("/etc/group")) {
        (Ok(passwd), Ok(group)) => judge(&passwd, &group),
        _ => Finding::unchecked(
            CHECK,
            "/etc/passwd 或 /etc/group 不可读",
            "/etc/passwd or /etc/group cannot be read from here",
        ),
    }
}

fn judge(passwd: &str, group: &str) -> Finding {
    let field = |table: &str, name: &str, at: usize| {
        let row = table.lines().find(|row| row.split(':').next() == Some(name))?;
        row.split(':').nth(at).map(str::to_owned)
    };
    for (table, name) in [(passwd, MODULE), (passwd, DAEMON), (group, OFFICERS)] {
        if field(table, name, 2).is_none() {
            return Finding::bad(
                CHECK,
                [format!("没有用户或组 {name}"), format!("there is no user or group {name}")],
                ["执行 systemd-sysusers citykeep.conf", "run systemd-sysusers citykeep.conf"],
            );
        }
    }
    let [module, daemon] = [MODULE, DAEMON].map(|name| field(passwd, name, 2));
    if module == daemon || [&module, &daemon].iter().any(|uid| uid.as_deref() == Some("0")) {
        return Finding::bad(
            CHECK,
            [
                format!("{MODULE} 与 {DAEMON} 不是两个普通用户"),
                format!("{MODULE} and {DAEMON} are not two users of their own"),
            ],
            [
                "删除后执行 systemd-sysusers citykeep.conf,并更正文件属主",
                "remove the wrong one, run systemd-sysusers citykeep.conf and chown its files again",
            ],
        );
    }
    let members = field(group, OFFICERS, 3).unwrap_or_default();
    let officers = field(group, OFFICERS, 2);
    for name in [MODULE, DAEMON] {
        if members.split(',').any(|member| member == name) || field(passwd, name, 3) == officers {
            return Finding::bad(
                CHECK,
                [
                    format!("{name} 属于 {OFFICERS} 组"),
                    format!("{name} is a member of {OFFICERS}, so it reaches the officers' socket"),
                ],
                [
                    format!("执行 gpasswd --delete {name} {OFFICERS}"),
                    format!("run gpasswd --delete {name} {OFFICERS}, then restart what runs as {name}"),
                ],
            );
        }
    }
    Finding::good(
        CHECK,
        "两个用户各自独立,都不在安全官组中",
        format!("{MODULE} and {DAEMON} are users of their own, and neither is of {OFFICERS}"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    const PASSWD: &str =
        "root:x:0:0::/root:/bin/sh\ncitykeep-hsm:x:991:991::/:/x\ncitykeep-keyd:x:992:992::/:/x\n";
    const GROUP: &str =
        "root:x:0:\ncitykeep-hsm:x:991:\ncitykeep-keyd:x:992:\ncitykeep-officers:x:990:li,wang\n";

    #[test]
    fn users_that_are_missing_shared_or_in_the_wrong_group() {
        assert_eq!(judge(PASSWD, GROUP).state, State::Good);
        for (from, to) in [
            ("citykeep-hsm:", "other:"),
            ("keyd:x:992", "keyd:x:991"),
            ("hsm:x:991", "hsm:x:0"),
            (":992:992", ":992:990"),
        ] {
            assert_eq!(judge(&PASSWD.replace(from, to), GROUP).state, State::Bad, "{from} → {to}");
        }
        for (from, to) in
            [("citykeep-officers:", "others:"), ("li,", "citykeep-keyd,"), (",wang", ",citykeep-hsm")]
        {
            assert_eq!(judge(PASSWD, &GROUP.replace(from, to)).state, State::Bad, "{from} → {to}");
        }
    }
}
