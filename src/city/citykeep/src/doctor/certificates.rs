//! Certificates, their keys, and the revocation list, at one moment.

mod chain;

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName};
use wire::api::ends_soon;
use wire::client::client_name;
use x509_cert::Certificate;
use x509_cert::crl::CertificateList;
use x509_cert::der::Decode as _;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{ExtendedKeyUsage, SubjectAltName};
use x509_cert::time::Time;
use zeroize::Zeroizing;

use self::chain::Purpose;
use super::clock::SKEW;
use super::finding::Finding;
use super::house::House;
use crate::cli::Service;

const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");
const HOUR: u64 = 3600;

/// The names of the checks of one certificate: scripts look for them.
struct Names {
    read: &'static str,
    pair: &'static str,
    chain: &'static str,
    name: &'static str,
    usage: &'static str,
    expiry: &'static str,
}

const SERVER: Names = Names {
    read: "server-cert",
    pair: "server-pair",
    chain: "server-chain",
    name: "server-name",
    usage: "server-usage",
    expiry: "server-expiry",
};
const CLIENT: Names = Names {
    read: "client-cert",
    pair: "client-pair",
    chain: "client-chain",
    name: "client-name",
    usage: "client-usage",
    expiry: "client-expiry",
};

/// A chain that was read, leaf first.
struct Shown {
    file: String,
    chain: Vec<CertificateDer<'static>>,
    leaf: Certificate,
}

/// keyd's certificate, and the list that it refuses revoked clients by.
pub(super) fn server(house: &House, now: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    let anchors = house.client_ca.as_deref().map(read_chain).unwrap_or_default();
    let lists = house.client_crl.as_deref().map(read_lists).unwrap_or_default();
    if let Some(path) = &house.client_crl {
        findings.push(list(path, &lists, &anchors, now));
    }
    findings.extend(house.client_ca.as_deref().map(|path| authorities(path, &anchors, now)));
    let Some(path) = &house.certificate else { return findings };
    let shown = match show(path, SERVER.read) {
        Ok(shown) => shown,
        Err(finding) => {
            findings.push(*finding);
            return findings;
        }
    };
    findings.extend(house.key.as_deref().map(|key| pair(&shown, key, SERVER.pair)));
    // Clients' authorities need not be keyd's; then its chain is its clients' to judge.
    findings.push(match chain::verify(&shown.chain, &anchors, &[], Purpose::Server, now) {
        Err(chain::Why::Issuer) => Finding::unchecked(
            SERVER.chain,
            "签发者不在 client_ca 中",
            "its issuer is not in client_ca; a client that is given its CA bundle (--url, --ca) sees whether the chain is good",
        ),
        other => chain_finding(&shown, other, SERVER.chain),
    });
    let name = house.server_name.clone().unwrap_or_default();
    findings.push(server_name(&shown, &name));
    findings.push(usage(&shown, SERVER_AUTH, "serverAuth", SERVER.usage));
    findings.push(expiry(&shown.file, &shown.leaf, now, SERVER.expiry));
    findings
}

/// A client's certificate. Beside a server's configuration also by its revocation list and trust domain.
pub(super) fn client(service: &Service, house: Option<&House>, now: u64) -> Vec<Finding> {
    let shown = match show(&service.cert, CLIENT.read) {
        Ok(shown) => shown,
        Err(finding) => return vec![*finding],
    };
    let theirs = house.and_then(|house| house.client_ca.as_deref());
    let anchors = read_chain(theirs.unwrap_or(&service.ca));
    let lists = house.and_then(|house| house.client_crl.as_deref()).map(read_lists).unwrap_or_default();
    let chain = match chain::verify(&shown.chain, &anchors, &lists, Purpose::Client, now) {
        Err(chain::Why::Issuer) if theirs.is_none() => Finding::unchecked(
            CLIENT.chain,
            "签发者不在 --ca 中",
            "its issuer is not in --ca, which is for the service's certificate; whether the service takes it shows below",
        ),
        other => chain_finding(&shown, other, CLIENT.chain),
    };
    vec![
        pair(&shown, &service.key, CLIENT.pair),
        chain,
        spiffe(&shown, house.and_then(House::trust_domain).as_deref()),
        usage(&shown, CLIENT_AUTH, "clientAuth", CLIENT.usage),
        expiry(&shown.file, &shown.leaf, now, CLIENT.expiry),
    ]
}

fn show(path: &Path, check: &'static str) -> Result<Shown, Box<Finding>> {
    let file = path.display().to_string();
    let again =
        ["检查路径;证书应为 PEM,叶证书在前", "check the path; give the certificate chain in PEM, leaf first"];
    let bad = |zh: &str, en: String| {
        Box::new(Finding::bad(check, [format!("{file} {zh}"), format!("{file} {en}")], again))
    };
    if let Some(finding) = hidden(path, check) {
        return Err(Box::new(finding));
    }
    fs::metadata(path).map_err(|error| bad("不可读", format!("cannot be read ({error})")))?;
    let chain = read_chain(path);
    let leaf = chain.first().and_then(|leaf| Certificate::from_der(leaf).ok());
    match leaf {
        Some(leaf) => Ok(Shown { file, chain, leaf }),
        None => Err(bad("不是 PEM 证书", "holds no certificate that can be read".to_owned())),
    }
}

/// A file that is this user's only not to read is not a wrong one.
fn hidden(path: &Path, check: &'static str) -> Option<Finding> {
    let name = path.display();
    super::files::is_hidden(path).then(|| {
        Finding::unchecked(
            check,
            format!("{name} 不可读"),
            format!("{name} is not for this user to read; run doctor as root or as keyd's user"),
        )
    })
}

fn read_chain(path: &Path) -> Vec<CertificateDer<'static>> {
    let pem = fs::read(path).unwrap_or_default();
    CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect()
}

fn read_lists(path: &Path) -> Vec<CertificateRevocationListDer<'static>> {
    let pem = fs::read(path).unwrap_or_default();
    CertificateRevocationListDer::pem_slice_iter(&pem).filter_map(Result::ok).collect()
}

/// Whether the key is the certificate's, and nobody else's to read. The key is erased again.
fn pair(shown: &Shown, path: &Path, check: &'static str) -> Finding {
    let (file, name) = (&shown.file, path.display());
    let pem = match read_key(path) {
        Ok(Ok(pem)) => pem,
        Ok(Err(mode)) => {
            return Finding::bad(
                check,
                [
                    format!("私钥 {name} 可被他人访问({mode:03o})"),
                    format!("others than its owner may use the key {name} (mode {mode:03o})"),
                ],
                [
                    format!("执行 chmod 600 {name};若可能已被读取,请更换密钥"),
                    format!("run chmod 600 {name}; replace the key if anybody else may have read it"),
                ],
            );
        }
        Err(error) => {
            return Finding::unchecked(
                check,
                format!("私钥 {name} 不可读"),
                format!("the key {name} cannot be read ({}); run doctor as its owner", error.kind()),
            );
        }
    };
    let matches = PrivateKeyDer::from_pem_slice(&pem).ok().and_then(|key| {
        let key = rustls::crypto::ring::sign::any_supported_type(&key).ok()?;
        CertifiedKey::new(shown.chain.clone(), key).keys_match().ok()
    });
    match matches {
        Some(()) => Finding::good(
            check,
            format!("{name} 与 {file} 相配"),
            format!("{name} is the key of {file}, and its owner's alone"),
        ),
        None => Finding::bad(
            check,
            [format!("{name} 与 {file} 不相配"), format!("{name} is not the key of {file}")],
            [
                "使用申请该证书时生成的私钥(未加密的 PKCS#8 PEM)",
                "give the key that the certificate was requested with, as unencrypted PKCS#8 PEM",
            ],
        ),
    }
}

/// The file's bytes, or its mode if others may use it.
fn read_key(path: &Path) -> std::io::Result<Result<Zeroizing<Vec<u8>>, u32>> {
    let mut file = File::open(path)?;
    let meta = file.metadata()?;
    let mode = std::os::unix::fs::MetadataExt::mode(&meta) & 0o777;
    if mode & 0o077 != 0 {
        return Ok(Err(mode));
    }
    // Filled without growing, so that no copy of the key is left behind.
    let mut pem = Zeroizing::new(Vec::with_capacity(1 << 16));
    file.by_ref().take(1 << 16).read_to_end(&mut pem)?;
    Ok(Ok(pem))
}

fn chain_finding(shown: &Shown, verified: Result<(), chain::Why>, check: &'static str) -> Finding {
    let file = &shown.file;
    match verified {
        Ok(()) => Finding::good(
            check,
            format!("{file} 证书链有效"),
            format!("{file} leads to the CA bundle, and nothing of it is revoked or expired"),
        ),
        Err(why) => {
            let [zh, en] = why.words();
            Finding::bad(
                check,
                [format!("{file} 证书链无效:{zh}"), format!("the chain of {file} is not good: {en}")],
                [
                    "请向操作员申领新证书",
                    "have the operator make a certificate (keyceremony client), or put the CA's new files in place",
                ],
            )
        }
    }
}

fn server_name(shown: &Shown, name: &str) -> Finding {
    let parsed = ServerName::try_from(name.to_owned()).ok();
    let fits = shown.chain.first().zip(parsed).is_some_and(|(leaf, name)| {
        webpki::EndEntityCert::try_from(leaf)
            .and_then(|leaf| leaf.verify_is_valid_for_subject_name(&name))
            .is_ok()
    });
    if fits {
        return Finding::good(
            SERVER.name,
            format!("证书名为 {name}"),
            format!("it is for {name} (tls.server_name)"),
        );
    }
    Finding::bad(
        SERVER.name,
        [format!("证书不含名称 {name}"), format!("it is not for {name}, which tls.server_name says")],
        [
            "签发含此 DNS 名称的证书",
            "make a certificate with that DNS name, or set tls.server_name to the name that clients use",
        ],
    )
}

/// Exactly one name, a SPIFFE URI: it says who the client is.
fn spiffe(shown: &Shown, domain: Option<&str>) -> Finding {
    let names = shown.leaf.tbs_certificate().get_extension::<SubjectAltName>();
    let names = names.ok().flatten().map(|(_, names)| names.0).unwrap_or_default();
    let uri = match names.as_slice() {
        [GeneralName::UniformResourceIdentifier(uri)] => Some(uri.as_str()),
        _ => None,
    };
    let next = [
        "申领只含一个 SPIFFE 名称的证书",
        "have a certificate made with one SPIFFE URI of the policy's trust domain and no other name (keyceremony client)",
    ];
    match (uri.and_then(client_name), uri) {
        (Some((of, _)), Some(uri)) if domain.is_some_and(|domain| domain != of) => {
            let domain = domain.unwrap_or_default();
            Finding::bad(
                CLIENT.name,
                [
                    format!("{uri} 不属于信任域 {domain}"),
                    format!("{uri} is not of the policy's trust domain {domain}"),
                ],
                next,
            )
        }
        (Some(_), Some(uri)) => Finding::good(CLIENT.name, uri, "its only name, a SPIFFE id"),
        _ => Finding::bad(
            CLIENT.name,
            [
                format!("证书名称不是唯一的 SPIFFE URI({} 个名称)", names.len()),
                format!("its {} names are not one SPIFFE URI (spiffe://DOMAIN/PATH)", names.len()),
            ],
            next,
        ),
    }
}

fn usage(shown: &Shown, wanted: ObjectIdentifier, name: &str, check: &'static str) -> Finding {
    let purposes = shown.leaf.tbs_certificate().get_extension::<ExtendedKeyUsage>();
    if purposes.ok().flatten().is_some_and(|(_, purposes)| purposes.0.contains(&wanted)) {
        return Finding::good(check, format!("用途包含 {name}"), format!("it may be used as {name}"));
    }
    let file = &shown.file;
    Finding::bad(
        check,
        [format!("{file} 用途不含 {name}"), format!("the extended key usage of {file} has no {name}")],
        ["签发用途正确的证书", "have it made again for this use (keyceremony client; for keyd your own CA)"],
    )
}

fn seconds(time: Time) -> u64 {
    time.to_unix_duration().as_secs()
}

/// The clients' CAs: keyd refuses everybody whose CA is over. The one that is worst.
fn authorities(path: &Path, anchors: &[CertificateDer<'_>], now: u64) -> Finding {
    const CHECK: &str = "client-ca";
    let name = path.display().to_string();
    let read: Result<Vec<_>, _> = anchors.iter().map(|anchor| Certificate::from_der(anchor)).collect();
    let ends = read.unwrap_or_default().into_iter().map(|anchor| {
        let file = format!("{name} ({})", anchor.tbs_certificate().subject());
        (seconds(anchor.tbs_certificate().validity().not_after), expiry(&file, &anchor, now, CHECK))
    });
    ends.min_by_key(|(end, _)| *end).map_or_else(
        || {
            Finding::bad(
                CHECK,
                [
                    format!("{name} 中没有可读的 CA 证书"),
                    format!("{name} holds no CA certificate that can be read"),
                ],
                ["检查 tls.client_ca", "give the clients' CA in PEM with tls.client_ca"],
            )
        },
        |(_, finding)| finding,
    )
}

fn expiry(file: &str, certificate: &Certificate, now: u64, check: &'static str) -> Finding {
    let validity = certificate.tbs_certificate().validity();
    let (from, to) = (seconds(validity.not_before), seconds(validity.not_after));
    let end = validity.not_after.to_date_time();
    let renew = [
        "申领新证书",
        "renew it (keyceremony client; for keyd your own CA); keyd takes a new file by itself",
    ];
    if now + SKEW < from {
        return too_early(check, file, &validity.not_before);
    }
    if now >= to {
        return Finding::bad(
            check,
            [format!("{file} 已于 {end} 过期"), format!("{file} expired at {end}")],
            renew,
        );
    }
    let left = (to - now) / HOUR;
    if ends_soon(from, to, now) {
        return Finding::warn(
            check,
            [format!("{file} 还有 {left} 小时到期"), format!("{file} expires in {left} h, at {end}")],
            renew,
        );
    }
    Finding::good(check, format!("{file} 有效至 {end}"), format!("{file} is valid for {left} h more"))
}

/// Something that was made later than now: the clock is wrong, or what was made.
fn too_early(check: &'static str, file: &str, from: &Time) -> Finding {
    let from = from.to_date_time();
    Finding::bad(
        check,
        [
            format!("{file} 在 {from} 才生效"),
            format!("{file} begins only at {from}: the clock was set back, or its maker's was ahead"),
        ],
        ["先核对本机时钟", "look at this machine's clock first (timedatectl)"],
    )
}

/// Every CA has a list, and each is in its time. An expired list refuses everybody.
fn list(
    path: &Path,
    lists: &[CertificateRevocationListDer<'_>],
    anchors: &[CertificateDer<'_>],
    now: u64,
) -> Finding {
    const CHECK: &str = "crl";
    if let Some(finding) = hidden(path, CHECK) {
        return finding;
    }
    let name = path.display().to_string();
    let renew = [
        "由 CA 签发新吊销列表并放到此处",
        "have the CA make a new list and put it there (keyceremony client crl); keyd takes it by itself within 30 s",
    ];
    let lists: Vec<_> = lists
        .iter()
        .filter_map(|list| CertificateList::<x509_cert::certificate::Rfc5280>::from_der(list).ok())
        .collect();
    if lists.is_empty() {
        return Finding::bad(
            CHECK,
            [format!("{name} 中没有吊销列表"), format!("{name} holds no revocation list")],
            renew,
        );
    }
    for anchor in anchors.iter().filter_map(|anchor| Certificate::from_der(anchor).ok()) {
        let subject = anchor.tbs_certificate().subject();
        if !lists.iter().any(|list| list.tbs_cert_list.issuer == *subject) {
            return Finding::bad(
                CHECK,
                [
                    format!("{name} 缺少 {subject} 的列表"),
                    format!("{name} has no list of {subject}, so all its clients are refused"),
                ],
                renew,
            );
        }
    }
    let mut ends = Vec::new();
    for list in &lists {
        let from = list.tbs_cert_list.this_update;
        if now + SKEW < seconds(from) {
            return too_early(CHECK, &name, &from);
        }
        ends.extend(list.tbs_cert_list.next_update.map(|end| (seconds(end), seconds(from), end)));
    }
    let Some((to, from, end)) = ends.into_iter().min_by_key(|(to, ..)| *to) else {
        return Finding::bad(
            CHECK,
            [format!("{name} 没有 nextUpdate"), format!("{name} does not say when it ends")],
            renew,
        );
    };
    let end = end.to_date_time();
    if now >= to {
        return Finding::bad(
            CHECK,
            [
                format!("{name} 已于 {end} 过期,所有客户端被拒绝"),
                format!("{name} expired at {end}: keyd refuses everybody"),
            ],
            renew,
        );
    }
    let left = (to - now) / HOUR;
    if ends_soon(from, to, now) {
        return Finding::warn(
            CHECK,
            [
                format!("{name} 还有 {left} 小时到期"),
                format!("{name} ends in {left} h, and then everybody is refused"),
            ],
            renew,
        );
    }
    Finding::good(CHECK, format!("{name} 有效至 {end}"), format!("{name} is fresh for {left} h more"))
}

#[cfg(test)]
mod tests;
