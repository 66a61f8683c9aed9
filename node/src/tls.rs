//! One crypto provider for the whole process.

/// Installs aws-lc-rs as rustls' provider. A second call changes nothing.
pub(crate) fn install_provider() {
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        tracing::debug!("a crypto provider was installed before");
    }
}
