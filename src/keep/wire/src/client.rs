//! A client's name: the one SPIFFE id of its certificate (service-protocol §8).

const SCHEME: &str = "spiffe://";
/// A client's name stands in log entries and receipts, so it is kept short.
const NAME_MAX: usize = 256;

/// Trust domain and path of `spiffe://<domain>/<segment>…`; `None` if it is not the one text form of such a name: at most 256
/// bytes, a domain of [`is_trust_domain`], a path of [`is_client_path`].
pub fn client_name(uri: &str) -> Option<(&str, &str)> {
    let (domain, path) = uri.strip_prefix(SCHEME)?.split_once('/')?;
    (uri.len() <= NAME_MAX && is_trust_domain(domain) && is_client_path(path)).then_some((domain, path))
}

/// 1 to 128 lower-case letters, digits, `.`, `-`, `_`.
pub fn is_trust_domain(text: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_');
    (1..=128).contains(&text.len()) && text.bytes().all(allowed)
}

/// One or more segments of letters, digits, `.`, `-`, `_`: so there is no percent encoding, wildcard, NUL, empty or dot
/// segment, and one client has one text.
pub fn is_client_path(path: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    path.split('/').all(|segment| !matches!(segment, "" | "." | "..") && segment.bytes().all(allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_has_one_text() {
        let good = "spiffe://weihai.example/clearing/engine-1";
        assert_eq!(client_name(good), Some(("weihai.example", "clearing/engine-1")));
        for bad in [
            "spiffe://weihai.example",
            "spiffe://weihai.example/",
            "spiffe://weihai.example//engine",
            "spiffe://weihai.example/clearing/",
            "spiffe://weihai.example/clearing/*",
            "spiffe://weihai.example/clearing/..",
            "spiffe://weihai.example/clearing/%65ngine",
            "spiffe://weihai.example/clearing/engine\0",
            "spiffe://weihai.example/clearing/engine?x=1",
            "spiffe://weihai.example/清分/engine",
            "spiffe://WEIHAI.example/clearing/engine-1",
            "spiffe://weihai.example:443/clearing/engine-1",
            "spiffe://user@weihai.example/clearing/engine-1",
            "SPIFFE://weihai.example/clearing/engine-1",
            "https://weihai.example/clearing/engine-1",
            " spiffe://weihai.example/clearing/engine-1",
            "",
        ] {
            assert_eq!(client_name(bad), None, "{bad}");
        }
        assert_eq!(client_name(&format!("spiffe://weihai.example/{}", "a".repeat(256))), None);
    }
}
