//! Answers that break the protocol.

use http_client::InvalidUrl;
use oci::InvalidDigest;

/// An answer that breaks the OCI distribution specification, or the distribution project's "Token
/// Authentication".
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// A `Bearer` challenge without the token service's address.
    #[error("a token service without an address")]
    NoRealm,
    /// A `Bearer` challenge with an address that is not one.
    #[error("the token service's address is not a URL")]
    InvalidRealm(#[source] InvalidUrl),
    /// Status 404 of the token service.
    #[error("the token service does not exist")]
    NoTokenService,
    /// The token service's answer is not JSON of the right form. The parser's error is left out: it
    /// may quote parts of a token.
    #[error("the token service sent no token")]
    NoToken,
    /// An empty token, or one that does not fit into a header.
    #[error("the token service sent no usable token")]
    UnusableToken,
    /// Indexes of indexes of indexes.
    #[error("image indexes nest too deep")]
    TooDeep,
    /// A `Docker-Content-Digest` header that is not text.
    #[error("`Docker-Content-Digest` is not text")]
    DigestNotText,
    /// A `Docker-Content-Digest` header that is not a digest.
    #[error("`Docker-Content-Digest` is wrong")]
    InvalidDigest(#[from] InvalidDigest),
    /// The start of an upload that is not answered with 201 or 202.
    #[error("an upload starts with status 202, not {0}")]
    UploadStatus(u16),
    /// A list of tags that is not JSON of the right form.
    #[error("the list of tags is not one")]
    NoTags,
    /// A piece of an upload of which the registry has kept nothing, or more than was sent.
    #[error("an upload has {received} bytes after those from {from} to {to} were sent")]
    UploadRange {
        /// Bytes before the piece.
        from: u64,
        /// Bytes with it.
        to: u64,
        /// Bytes that the registry says it has.
        received: u64,
    },
}
