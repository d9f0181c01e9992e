//! User and group ids by name, from the system's own tables. Read before the sandbox; the module asks nobody.

use std::path::Path;

/// The system's table of users.
pub(crate) const USERS: &str = "/etc/passwd";

/// The system's table of groups.
pub(crate) const GROUPS: &str = "/etc/group";

/// A number, or a name that the table has (`name:password:id:…`).
pub(crate) fn id(word: &str, table: &Path) -> Result<u32, String> {
    if let Ok(number) = word.parse() {
        return Ok(number);
    }
    let text = std::fs::read_to_string(table).map_err(|error| format!("{}: {error}", table.display()))?;
    let row = text.lines().map(|line| line.split(':')).find_map(|mut fields| {
        (fields.next() == Some(word)).then(|| fields.nth(1).and_then(|number| number.parse().ok()))
    });
    row.flatten().ok_or_else(|| {
        format!("{word} is not in {}; install the package's users, or give a number", table.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let table = std::env::temp_dir().join(format!("citykeep-accounts-{}", std::process::id()));
        std::fs::write(
            &table,
            "root:x:0:0:root:/root:/bin/sh\nkeyd-old:x:41:41::/:/x\nkeyd:x:42:43::/:/x\nodd:x:-1:0\n",
        )
        .unwrap();
        assert_eq!(id("keyd", &table), Ok(42));
        assert_eq!(id("7", &table), Ok(7));
        for word in ["key", "keyd-", "odd", "", "x", "-1"] {
            assert!(id(word, &table).is_err(), "{word}");
        }
        std::fs::remove_file(&table).unwrap();
        assert!(id("keyd", &table).is_err());
    }
}
