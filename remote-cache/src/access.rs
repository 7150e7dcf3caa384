//! Who lets us in at clouds: keys and tokens that services give out, for a time, to whom they know.

mod answer;
mod aws;
mod azure;
mod service;

pub use aws::{AwsAccess, ContainerToken, S3Credentials, aws_domain};
pub use azure::{AzureIdentity, ManagedIdentity};

pub(crate) use aws::AwsKeys;
pub(crate) use azure::AzureTokens;
