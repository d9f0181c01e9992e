//! The package's units, where a systemd runs.

use std::path::Path;
use std::process::{Command, Stdio};

use super::finding::{Finding, State};
use super::house::House;

const CHECK: &str = "units";
const WALLS: &str = "hardening";

/// Settings that each of the two services must have. The whole list is the units' own; these are the ones whose loss opens most.
const WALL: [(&str, &str); 12] = [
    ("NoNewPrivileges", "yes"),
    ("CapabilityBoundingSet", ""),
    ("AmbientCapabilities", ""),
    ("PrivateNetwork", "yes"),
    ("ProtectSystem", "strict"),
    ("ProtectHome", "yes"),
    ("PrivateDevices", "yes"),
    ("ProtectKernelTunables", "yes"),
    ("ProtectKernelModules", "yes"),
    ("MemoryDenyWriteExecute", "yes"),
    ("LimitCORE", "0"),
    ("MemorySwapMax", "0"),
];
const SERVICES: [&str; 2] = ["citykeep-hsm.service", "citykeep-keyd.service"];
const SOCKETS: [&str; 3] =
    ["citykeep-hsm-keyd.socket", "citykeep-hsm-officers.socket", "citykeep-keyd.socket"];

pub(super) fn check(house: &House) -> Vec<Finding> {
    if !house.is_installed() {
        return vec![Finding::unchecked(
            CHECK,
            "不是安装包的配置",
            "this is not the package's configuration",
        )];
    }
    if !Path::new("/run/systemd/system").exists() {
        return vec![Finding::unchecked(CHECK, "这里没有运行 systemd", "no systemd runs here")];
    }
    let (mut active, mut odd, mut missing) = (Vec::new(), Vec::new(), None);
    for unit in SERVICES.iter().chain(&SOCKETS) {
        let Some(shown) = show(unit) else {
            return vec![Finding::unchecked(CHECK, "systemctl 没有回答", "systemctl does not answer")];
        };
        if SERVICES.contains(unit) {
            missing = missing.or_else(|| walls(unit, &shown));
        }
        match judge(unit, &shown) {
            Some(finding) if finding.state == State::Bad => return vec![finding],
            Some(finding) => odd.push(finding),
            None => active.push(*unit),
        }
    }
    let walls = missing.unwrap_or_else(|| {
        Finding::good(
            WALLS,
            "两个服务的沙箱与安装包一致",
            "both services have the package's walls in force (no network, no new rights, strict file system, no executable memory, list \
             of system calls)",
        )
    });
    let status =
        show("citykeep-keyd.service").and_then(|shown| value(&shown, "StatusText").map(str::to_owned));
    let active = Finding::good(
        CHECK,
        format!("{} 个单元已安装并运行", active.len()),
        format!("{} are installed and active; keyd says: {}", active.join(", "), status.unwrap_or_default()),
    );
    if odd.is_empty() {
        odd.push(active);
    }
    odd.push(walls);
    odd
}

fn show(unit: &str) -> Option<String> {
    let mut properties =
        "--property=LoadState,ActiveState,UnitFileState,NeedDaemonReload,DropInPaths,StatusText,SystemCallFilter,User".to_owned();
    for (name, _) in WALL {
        properties.push(',');
        properties.push_str(name);
    }
    let output =
        Command::new("systemctl").args(["show", &properties, unit]).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn value<'a>(shown: &'a str, key: &str) -> Option<&'a str> {
    shown.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).filter(|value| !value.is_empty())
}

/// Which wall of a service is not in force, if any: what counts is what systemd has loaded, not what a file says.
fn walls(unit: &str, shown: &str) -> Option<Finding> {
    let missing = WALL.iter().find(|(name, wanted)| value(shown, name).unwrap_or_default() != *wanted);
    let found = match missing {
        Some((name, wanted)) => {
            format!("{name}={}, not {wanted:?}", value(shown, name).unwrap_or_default())
        }
        None if value(shown, "SystemCallFilter").is_none() => "no SystemCallFilter".to_owned(),
        None if value(shown, "User") != unit.strip_suffix(".service") => {
            format!("User={}", value(shown, "User").unwrap_or_default())
        }
        None => return None,
    };
    Some(Finding::bad(
        WALLS,
        [format!("{unit} 的沙箱被削弱:{found}"), format!("a wall of {unit} is missing: {found}")],
        [
            format!("用 systemctl cat {unit} 查找并删除本地修改,daemon-reload 后重启"),
            format!(
                "find the local change with systemctl cat {unit}, remove it, systemctl daemon-reload, then restart the service"
            ),
        ],
    ))
}

/// What is wrong with a unit, if anything is.
fn judge(unit: &str, shown: &str) -> Option<Finding> {
    let is = |key: &str, wanted: &str| value(shown, key) == Some(wanted);
    if !is("LoadState", "loaded") {
        return Some(Finding::bad(
            CHECK,
            [format!("{unit} 没有安装"), format!("{unit} is not installed")],
            ["安装 citykeep 软件包", "install the citykeep package"],
        ));
    }
    if !is("ActiveState", "active") {
        let state = value(shown, "ActiveState").unwrap_or_default();
        return Some(Finding::bad(
            CHECK,
            [format!("{unit} 状态为 {state}"), format!("{unit} is {state}, not active")],
            [
                format!("systemctl start {unit};journalctl -u {unit} 说明原因"),
                format!("systemctl start {unit}; journalctl -u {unit} says why it was not"),
            ],
        ));
    }
    if is("NeedDaemonReload", "yes") {
        return Some(Finding::warn(
            CHECK,
            [format!("{unit} 的文件已更改"), format!("{unit} was changed on disk and is not in force")],
            ["systemctl daemon-reload", "systemctl daemon-reload, then a restart when it suits"],
        ));
    }
    // The module's service comes with its sockets; only what has an [Install] part is enabled.
    if unit != SERVICES[0] && !is("UnitFileState", "enabled") {
        return Some(Finding::warn(
            CHECK,
            [format!("{unit} 未设为开机启动"), format!("{unit} does not come back after a reboot")],
            [
                "systemctl enable citykeep-keyd.service",
                "systemctl enable citykeep-keyd.service (its sockets come along)",
            ],
        ));
    }
    let changes = value(shown, "DropInPaths")?;
    // Another port is what everybody may want; a changed service may have lost a wall.
    unit.ends_with(".service").then(|| {
        Finding::warn(
            CHECK,
            [format!("{unit} 有本地修改"), format!("{unit} has local changes: {changes}")],
            ["确认没有削弱沙箱", "see that none weakens its sandbox: systemd-analyze security says 0.3 and 0.2 for the package's own"],
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\nNeedDaemonReload=no\nDropInPaths=\nStatusText=serves";

    #[test]
    fn units_that_are_not_as_the_package_made_them() {
        let state = |unit: &str, from: &str, to: &str| {
            judge(unit, &GOOD.replace(from, to)).map(|finding| finding.state)
        };
        let [hsm, keyd] = SERVICES;
        assert_eq!(state(keyd, "x", "x"), None);
        assert_eq!(state(keyd, "loaded", "not-found"), Some(State::Bad));
        assert_eq!(state(keyd, "=active", "=failed"), Some(State::Bad));
        assert_eq!(state(keyd, "enabled", "disabled"), Some(State::Warn));
        assert_eq!(state(hsm, "enabled", "static"), None);
        assert_eq!(state(keyd, "Reload=no", "Reload=yes"), Some(State::Warn));
        assert_eq!(state(hsm, "Paths=", "Paths=/etc/x.conf"), Some(State::Warn));
        assert_eq!(state("citykeep-keyd.socket", "Paths=", "Paths=/etc/x.conf"), None);
    }

    #[test]
    fn a_wall_that_is_missing_is_named() {
        let mut good = "User=citykeep-hsm\nSystemCallFilter=read write\n".to_owned();
        for (name, value) in WALL {
            good = format!("{good}{name}={value}\n");
        }
        let [hsm, _] = SERVICES;
        assert!(walls(hsm, &good).is_none());
        for (name, value) in WALL {
            let from = format!("{name}={value}\n");
            for to in [format!("{name}=no\n"), format!("{name}=1\n")] {
                let found = walls(hsm, &good.replace(&from, &to)).unwrap();
                assert!(found.state == State::Bad && found.text().contains(name), "{}", found.text());
            }
        }
        assert!(
            walls(hsm, &good.replace("=read write", "=")).unwrap().text().contains("no SystemCallFilter")
        );
        assert!(walls(hsm, &good.replace("=citykeep-hsm", "=root")).unwrap().text().contains("User=root"));
    }
}
