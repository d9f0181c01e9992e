//! Who may read and write what.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::finding::Finding;
use super::house::House;

const PRIVATE: &str = "private-files";
const OTHERS: &str = "public-files";
const SOCKETS: &str = "sockets";
const IDENTITY: &str = "identity";
const WALKED_MAX: usize = 10_000;

/// A user's name, or its number where it has none.
pub(super) fn user_name(number: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let row = passwd.lines().find(|row| row.split(':').nth(2) == Some(&number.to_string()));
    row.and_then(|row| row.split(':').next()).map_or_else(|| number.to_string(), str::to_owned)
}

/// A user's number.
pub(super) fn user_number(name: &str) -> Option<u32> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let row = passwd.lines().find(|row| row.split(':').next() == Some(name))?;
    row.split(':').nth(2)?.parse().ok()
}

/// Whether this user may not read a file: what is wrong is then the user, not the file.
pub(super) fn is_hidden(path: &Path) -> bool {
    fs::File::open(path).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

/// A group's number.
fn group_number(name: &str) -> Option<u32> {
    let group = fs::read_to_string("/etc/group").ok()?;
    let row = group.lines().find(|row| row.split(':').next() == Some(name))?;
    row.split(':').nth(2)?.parse().ok()
}

pub(super) fn check(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(private(house));
    findings.push(public(house));
    findings.extend(log(house));
    findings.extend(sockets(house));
    if house.is_installed() {
        findings.push(super::accounts::check());
        findings.push(identity(house));
    }
    findings
}

/// keyd's key and state: nobody else's.
fn private(house: &House) -> Vec<Finding> {
    let mut wrong = Vec::new();
    let mut hidden = None;
    let mut count = 0_usize;
    for top in [&house.key, &house.state_dir].into_iter().flatten() {
        count += judge_private(top, house, &mut wrong, &mut hidden);
    }
    if let Some(path) = hidden {
        let path = path.display();
        return vec![Finding::unchecked(
            PRIVATE,
            format!("{path} 不可读;请以 root 或 keyd 的用户运行"),
            format!("{path} cannot be looked at; run doctor as root or as keyd's user"),
        )];
    }
    if wrong.is_empty() {
        let owner = house.user.as_ref().map_or("-", |(name, _)| name);
        return vec![Finding::good(
            PRIVATE,
            format!("私钥与状态目录只有 {owner} 可用({count} 个文件)"),
            format!("key and state directory are for {owner} alone ({count} files)"),
        )];
    }
    wrong
}

/// Judges a path and what lies in it; how many it was.
fn judge_private(
    path: &Path,
    house: &House,
    wrong: &mut Vec<Finding>,
    hidden: &mut Option<PathBuf>,
) -> usize {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let configured = [&house.key, &house.state_dir].into_iter().flatten().any(|top| top == path);
            if !configured {
                // A living service's files come and go.
                return 0;
            }
            let name = path.display();
            wrong.push(Finding::bad(
                PRIVATE,
                [format!("{name} 不存在"), format!("{name} is not there")],
                [
                    "检查配置中的路径",
                    "check the path in the configuration; keyd makes its state directory at its first start",
                ],
            ));
            return 0;
        }
        Err(_) => {
            *hidden = Some(path.to_owned());
            return 0;
        }
    };
    let (name, mode) = (path.display(), meta.mode() & 0o7777);
    if mode & 0o077 != 0 && !meta.file_type().is_symlink() {
        let want = if meta.is_dir() { "700" } else { "600" };
        wrong.push(Finding::bad(
            PRIVATE,
            [
                format!("其他用户可访问 {name}({mode:04o})"),
                format!("others than its owner may use {name} (mode {mode:04o})"),
            ],
            [
                format!("执行 chmod {want} {name};若可能已被读取,请更换密钥"),
                format!("run chmod {want} {name}; replace the key if anybody else may have read it"),
            ],
        ));
    }
    if let Some((owner, number)) = &house.user
        && meta.uid() != *number
    {
        let found = user_name(meta.uid());
        wrong.push(Finding::bad(
            PRIVATE,
            [
                format!("{name} 属于 {found},而非 {owner}"),
                format!("{name} belongs to {found}, and keyd works as {owner}"),
            ],
            [format!("执行 chown {owner} {name}"), format!("run chown {owner} {name}")],
        ));
    }
    let mut count = 1;
    if meta.is_dir() {
        match fs::read_dir(path) {
            Ok(items) => {
                for item in items.flatten().take(WALKED_MAX) {
                    count += judge_private(&item.path(), house, wrong, hidden);
                }
            }
            Err(_) => *hidden = Some(path.to_owned()),
        }
    }
    count
}

/// What others may read and nobody else may write: configuration, policy, certificates, and the ways to them.
fn public(house: &House) -> Finding {
    let files = [
        Some(&house.config),
        house.policy.as_ref(),
        house.certificate.as_ref(),
        house.client_ca.as_ref(),
        house.client_crl.as_ref(),
        house.key.as_ref(),
    ];
    for path in files.into_iter().flatten() {
        let Ok(path) = fs::canonicalize(path) else {
            return unreadable(OTHERS, path);
        };
        for (step, part) in path.ancestors().enumerate() {
            let Ok(meta) = fs::metadata(part) else { return unreadable(OTHERS, part) };
            let sticky = meta.is_dir() && meta.mode() & 0o1000 != 0;
            // The key itself is judged as a private file.
            let is_key = step == 0 && Some(&path) == house.key.as_ref();
            let foreign = house.is_installed() && !is_key && is_strangers(&meta, house);
            if foreign || (meta.mode() & 0o002 != 0 && !sticky && !is_key) {
                let part = part.display();
                return Finding::bad(
                    OTHERS,
                    [
                        format!("root 与 keyd 以外的用户可改写 {part}"),
                        format!(
                            "others than root and keyd may write to {part}, and so replace what keyd reads"
                        ),
                    ],
                    [
                        format!("执行 chown root:root {part}; chmod go-w {part},并与备份比对"),
                        format!(
                            "run chown root:root {part}; chmod go-w {part}, and compare what lies there with your copy"
                        ),
                    ],
                );
            }
        }
    }
    Finding::good(
        OTHERS,
        "配置、策略、证书不能被无关用户改写",
        "configuration, policy and certificates can be replaced by no stranger",
    )
}

/// Whether somebody besides root and keyd owns it or may write to it through its group.
fn is_strangers(meta: &fs::Metadata, house: &House) -> bool {
    let keyd = house.user.as_ref().map(|(_, number)| *number);
    (meta.uid() != 0 && Some(meta.uid()) != keyd) || (meta.mode() & 0o020 != 0 && meta.gid() != 0)
}

fn unreadable(check: &'static str, path: &Path) -> Finding {
    let path = path.display();
    Finding::unchecked(check, format!("{path} 不可读"), format!("{path} cannot be looked at from here"))
}

/// The published log: keyd writes, nobody else.
fn log(house: &House) -> Option<Finding> {
    const CHECK: &str = "log-directory";
    let dir = house.log_dir.as_ref()?;
    let name = dir.display();
    let Ok(meta) = fs::metadata(dir) else { return Some(unreadable(CHECK, dir)) };
    let (mode, owner) = (meta.mode() & 0o777, user_name(meta.uid()));
    let foreign = house.user.as_ref().is_some_and(|(_, number)| *number != meta.uid());
    if mode & 0o022 != 0 || foreign {
        let right = house.user.as_ref().map_or("keyd", |(name, _)| name);
        return Some(Finding::bad(
            CHECK,
            [
                format!("{name} 的属主或权限不对({owner}, {mode:03o})"),
                format!("owner or mode of {name} is wrong ({owner}, {mode:03o})"),
            ],
            [
                format!("执行 chown {right} {name} 与 chmod 750 {name}"),
                format!("run chown {right} {name} and chmod 750 {name}, then citykeep audit verify"),
            ],
        ));
    }
    Some(Finding::good(
        CHECK,
        format!("{name} 只有 {owner} 可写"),
        format!("{name} is written by {owner} alone"),
    ))
}

/// Whether anybody besides its owner has rights.
fn is_open(meta: &fs::Metadata) -> bool {
    meta.mode() & 0o077 != 0
}

/// The module's two sockets, as far as they are here.
fn sockets(house: &House) -> Option<Finding> {
    let keyd = house.hsm_socket.as_ref()?;
    let officers = keyd.with_file_name("officers.sock");
    let socket = |path: &Path| fs::metadata(path).ok().filter(|meta| meta.file_type().is_socket());
    let name = keyd.display();
    let Some(meta) = socket(keyd) else {
        return Some(Finding::bad(
            SOCKETS,
            [
                format!("{name} 不是套接字,密码模块没有监听"),
                format!("the module's socket {name} is not there"),
            ],
            [
                "启动 citykeep-hsm",
                "start citykeep-hsm (systemctl start citykeep-hsm-keyd.socket, or see README, first steps)",
            ],
        ));
    };
    // In a directory of their own nobody else comes as far as the sockets.
    let aside = keyd.parent().and_then(|dir| fs::metadata(dir).ok()).is_some_and(|dir| !is_open(&dir));
    let owned = house.user.as_ref().is_none_or(|(_, number)| *number == meta.uid());
    // Nothing for strangers. Beside a configuration of its own the officers' socket may lie elsewhere; the package's lies here.
    let closed = match socket(&officers) {
        Some(meta) if house.is_installed() => {
            meta.mode().trailing_zeros() >= 3 && group_number("citykeep-officers") == Some(meta.gid())
        }
        Some(meta) => meta.mode().trailing_zeros() >= 3,
        None => !house.is_installed(),
    };
    if !owned || !(aside || (!is_open(&meta) && closed)) {
        return Some(Finding::bad(
            SOCKETS,
            [
                format!("{name} 或 officers.sock 的属主或权限不对"),
                format!("owner or mode of {name} or of officers.sock beside it is wrong"),
            ],
            [
                "用安装包的单元重新创建:systemctl restart citykeep-hsm-keyd.socket citykeep-hsm-officers.socket",
                "have them made anew by the package's units (systemctl restart citykeep-hsm-keyd.socket \
                 citykeep-hsm-officers.socket); keyd's is 0600 and keyd's, the officers' is 0660 and their group's",
            ],
        ));
    }
    Some(Finding::good(
        SOCKETS,
        format!("{name} 与安全官套接字权限正确"),
        format!("{name} is keyd's alone; strangers cannot reach the officers' socket"),
    ))
}

/// The module's boot identity of an installed system.
fn identity(house: &House) -> Finding {
    let path = Path::new("/var/lib/citykeep-hsm/identity");
    let name = path.display();
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            return Finding::unchecked(
                IDENTITY,
                format!("查看 {name} 需要 root"),
                format!("{name} takes root to look at"),
            );
        }
        Err(_) => {
            return Finding::bad(
                IDENTITY,
                [
                    format!("没有 {name}"),
                    format!(
                        "the module's boot identity {name} is not there; the shares open nothing without it"
                    ),
                ],
                [
                    "从备份恢复;若是新实例,执行 runuser -u citykeep-hsm -- citykeep-hsm identity --new",
                    "bring it back from its backup; only for an instance that is still to be made: runuser -u citykeep-hsm -- \
                     citykeep-hsm identity --new /var/lib/citykeep-hsm/identity",
                ],
            );
        }
    };
    let shared = house.user.as_ref().is_some_and(|(_, number)| *number == meta.uid());
    if meta.mode() & 0o077 != 0 || shared || Some(meta.uid()) != user_number("citykeep-hsm") {
        let mode = meta.mode() & 0o777;
        let owner = user_name(meta.uid());
        return Finding::bad(
            IDENTITY,
            [
                format!("{name} 属于 {owner},权限 {mode:03o}"),
                format!("{name} is {owner}'s with mode {mode:03o}, not the module's alone"),
            ],
            [
                format!("执行 chown citykeep-hsm {name}; chmod 600 {name}"),
                format!("run chown citykeep-hsm {name}; chmod 600 {name}"),
            ],
        );
    }
    Finding::good(
        IDENTITY,
        format!("{name} 只有密码模块可读;请保有备份"),
        format!("{name} is the module's alone; keep a backup"),
    )
}
