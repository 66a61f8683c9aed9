//! A node's certificate and who is believed: self-signed with the node's Ed25519 key, and accepted
//! for that key alone. Dates, names and issuers in a certificate mean nothing here.

use crate::config::{Config, Lane, Trust};
use crate::counters::{Counters, count};
use crate::error::TransportError;
use hale_model::{Keypair, NodeId, Signature};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme, version::TLS13,
};
use std::sync::Arc;

/// An Ed25519 key in PKCS #8 (RFC 8410 section 7), before its 32 bytes.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// An Ed25519 public key in a certificate (RFC 8410 section 4), before its 32 bytes.
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// The name under which any node is dialed whose key is not known yet.
pub(crate) const ANYONE: &str = "anyone.hale";

/// The name under which a node is dialed: the key that its certificate must have.
pub(crate) fn name_of(node: &NodeId) -> String {
    // A label of a DNS name has at most 63 characters.
    let key = node.to_string();
    let (a, b) = key.split_at(32);
    format!("{a}.{b}.hale")
}

/// The key in a certificate.
pub(crate) fn node_of(certificate: &CertificateDer<'_>) -> Result<NodeId, Error> {
    let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    key.strip_prefix(&SPKI_PREFIX)
        .and_then(|k| <[u8; 32]>::try_from(k).ok())
        .map(NodeId::from_bytes)
        .ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))
}

/// A node's certificate with its key.
pub(crate) struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

impl Identity {
    pub(crate) fn new(keypair: &Keypair) -> Result<Self, TransportError> {
        let wrong = |e: rcgen::Error| TransportError::Identity(e.to_string());
        let key = PrivatePkcs8KeyDer::from([&PKCS8_PREFIX[..], &keypair.seed()].concat());
        let signer = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&key, &rcgen::PKCS_ED25519)
            .map_err(wrong)?;
        let params = rcgen::CertificateParams::new(vec!["node.hale".to_owned()]).map_err(wrong)?;
        let certificate = params.self_signed(&signer).map_err(wrong)?.der().clone();
        Ok(Self { certificate, key })
    }

    /// For accepting, on every lane.
    pub(crate) fn server(
        &self,
        config: &Config,
        counters: &Arc<Counters>,
    ) -> Result<ServerConfig, TransportError> {
        let verifier = Arc::new(Members {
            trust: config.trust.clone(),
            counters: counters.clone(),
        });
        let mut tls = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(wrong)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![self.certificate.clone()],
                PrivateKeyDer::Pkcs8(self.key.clone_key()),
            )
            .map_err(wrong)?;
        tls.alpn_protocols = Lane::ALL.map(|l| l.alpn(config.cluster)).into();
        // A resumed session does not show its certificate again: a node that was removed from
        // the roster would come back in with an old ticket.
        tls.send_tls13_tickets = 0;
        Ok(tls)
    }

    /// For dialing, on one lane.
    pub(crate) fn client(
        &self,
        lane: Lane,
        config: &Config,
        counters: &Arc<Counters>,
    ) -> Result<ClientConfig, TransportError> {
        let verifier = Arc::new(Named {
            trust: config.trust.clone(),
            lane,
            counters: counters.clone(),
        });
        let mut tls = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(wrong)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(
                vec![self.certificate.clone()],
                PrivateKeyDer::Pkcs8(self.key.clone_key()),
            )
            .map_err(wrong)?;
        tls.alpn_protocols = vec![lane.alpn(config.cluster)];
        tls.resumption = Resumption::disabled();
        // The name is for the verifier alone; it need not be seen on the wire.
        tls.enable_sni = false;
        Ok(tls)
    }
}

fn wrong(e: Error) -> TransportError {
    TransportError::Identity(e.to_string())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn unknown_key(counters: &Counters) -> Error {
    count(&counters.refused_keys);
    Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)
}

/// Whether the peer holds the key of its certificate: strictly, by the same code that checks
/// every other signature in the house.
fn holds_key(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let bad = || Error::InvalidCertificate(CertificateError::BadSignature);
    if signed.scheme != SignatureScheme::ED25519 {
        return Err(bad());
    }
    let signature = <[u8; 64]>::try_from(signed.signature()).map_err(|_| bad())?;
    node_of(certificate)?
        .verify(message, &Signature::from_bytes(signature))
        .map(|()| HandshakeSignatureValid::assertion())
        .map_err(|_| bad())
}

/// Who may dial us: the roster, and strangers while a token is valid. Those are sent away after
/// the handshake unless they came by [`Lane::Join`], which is not known before.
struct Members {
    trust: Trust,
    counters: Arc<Counters>,
}

impl std::fmt::Debug for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Members")
    }
}

impl ClientCertVerifier for Members {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let node = node_of(certificate)?;
        if (self.trust.roster)(&node) || (self.trust.joins)() {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(unknown_key(&self.counters))
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::InvalidCertificate(CertificateError::BadSignature))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        holds_key(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// Whom we dialed: the key that the name says, which must be on the roster. On [`Lane::Join`]
/// anyone: the token's proof comes after the handshake and is bound to it.
struct Named {
    trust: Trust,
    lane: Lane,
    counters: Arc<Counters>,
}

impl std::fmt::Debug for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Named({})", self.lane)
    }
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let node = node_of(certificate)?;
        let is_named = name.to_str() == name_of(&node) && (self.trust.roster)(&node);
        if is_named || self.lane == Lane::Join {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(unknown_key(&self.counters))
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::InvalidCertificate(CertificateError::BadSignature))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        holds_key(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_carries_the_nodes_key_and_no_other() {
        let key = Keypair::from_seed(&[3; 32]);
        let identity = Identity::new(&key).unwrap();
        assert_eq!(node_of(&identity.certificate).unwrap(), key.node_id());
    }

    #[test]
    fn garbage_is_no_certificate() {
        let mut der = Identity::new(&Keypair::from_seed(&[3; 32]))
            .unwrap()
            .certificate
            .to_vec();
        assert!(node_of(&CertificateDer::from(vec![])).is_err());
        der.truncate(90);
        assert!(node_of(&CertificateDer::from(der)).is_err());
    }

    #[test]
    fn the_name_of_a_node_is_a_dns_name() {
        let name = name_of(&Keypair::from_seed(&[3; 32]).node_id());
        assert!(ServerName::try_from(name.as_str()).is_ok());
        assert!(ServerName::try_from(ANYONE).is_ok());
    }
}
