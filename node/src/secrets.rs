//! Secrets that playbooks name, found on this host when they are needed and kept nowhere.

use crate::config::{Config, SecretSource};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The largest secret that is read from a file, in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// Where each secret is found.
#[derive(Debug, Clone)]
pub(crate) struct Secrets(Arc<BTreeMap<String, SecretSource>>);

impl Secrets {
    pub(crate) fn new(config: &Config) -> Self {
        Self(Arc::new(config.secrets.clone()))
    }

    /// The secret of this name. The error never holds any of it.
    pub(crate) fn resolve(&self, name: &str) -> Result<String, String> {
        let source = self.0.get(name).ok_or_else(|| {
            format!("there is no secret `{name}`; add [secrets.{name}] with env or file to the configuration")
        })?;
        if let Some(variable) = &source.env {
            return std::env::var(variable).map_err(|_| {
                format!("secret `{name}`: the variable {variable} is not set for the node")
            });
        }
        let path = source
            .file
            .as_ref()
            .ok_or_else(|| format!("secret `{name}` has no source"))?;
        let told =
            |e: std::io::Error| format!("secret `{name}`: {} can't be read: {e}", path.display());
        if std::fs::metadata(path).map_err(told)?.len() > MAX_BYTES {
            return Err(format!(
                "secret `{name}`: {} is larger than 64 KiB",
                path.display()
            ));
        }
        std::fs::read_to_string(path)
            .map(|s| s.trim_end_matches(['\n', '\r']).to_owned())
            .map_err(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_from_its_file_and_a_missing_one_says_what_to_write() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        std::fs::write(&path, "hunter2\n").unwrap();
        let mut config = Config::default();
        config.secrets.insert(
            "db".into(),
            SecretSource {
                env: None,
                file: Some(path),
            },
        );
        let secrets = Secrets::new(&config);
        assert_eq!(secrets.resolve("db"), Ok("hunter2".into()));
        assert!(
            secrets
                .resolve("other")
                .unwrap_err()
                .contains("[secrets.other]")
        );
    }
}
