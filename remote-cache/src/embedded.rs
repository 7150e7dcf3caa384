//! Small blobs that travel inside the pack that names them: one request gets them all.

use data_encoding::BASE64;
use oci::Descriptor;

/// The largest blob that a pack should carry itself, in bytes.
pub const EMBEDDED_MAX: u64 = 4 << 10;

/// A blob with all its bytes (OCI image specification, "Embedded Content").
pub fn embed(blob: Descriptor, bytes: &[u8]) -> Descriptor {
    Descriptor { data: Some(BASE64.encode(bytes)), ..blob }
}

/// The bytes that a blob carries itself, whatever they are; nothing if they cannot be read.
pub fn embedded(blob: &Descriptor) -> Option<Vec<u8>> {
    BASE64.decode(blob.data.as_ref()?.as_bytes()).ok()
}
