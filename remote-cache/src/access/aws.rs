//! Access keys of AWS: given, or from the services that give them to jobs, containers and machines.

use std::fmt;
use std::path::PathBuf;

use http_client::header::{HeaderName, HeaderValue};
use http_client::{Limits, Method, Request};
use rusty_s3::Credentials;

use super::answer::{keys_in_json, keys_in_xml};
use super::service::{Service, token};
use crate::lease::{Granted, Lease};
use crate::object_error::AccessError;

const WHAT: &str = "an access key";
/// Where an instance's roles are, behind the address of its service.
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
/// For how long the service of an instance knows us, in seconds.
const KNOWN: HeaderValue = HeaderValue::from_static("300");

/// Who lets us use a bucket.
#[derive(Clone, PartialEq, Eq)]
pub enum AwsAccess {
    /// Nobody: what everybody may do.
    Anonymous,
    /// A key.
    Key(S3Credentials),
    /// The token service (STS), by the word of another that a file has ("AssumeRoleWithWebIdentity").
    WebIdentity {
        /// The service's address.
        endpoint: String,
        /// The file, which is read each time.
        token_file: PathBuf,
        /// The role that is taken.
        role: String,
        /// What the service calls the session.
        session: String,
    },
    /// The service of a container.
    Container {
        /// Its address.
        url: String,
        /// What it wants to see.
        token: Option<ContainerToken>,
    },
    /// The service of an instance (IMDSv2); nobody where there is none, or it has no role.
    Instance {
        /// Its address.
        endpoint: String,
    },
}

/// What the service of a container wants to see.
#[derive(Clone, PartialEq, Eq)]
pub enum ContainerToken {
    /// This.
    Value(String),
    /// What a file has, which is read each time.
    File(PathBuf),
}

/// An access key of S3.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Credentials {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: String,
    /// The session it belongs to.
    pub token: Option<String>,
}

/// The end of the names of AWS's servers in a region.
pub fn aws_domain(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}

impl fmt::Debug for AwsAccess {
    /// No secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Key(_) => "Key",
            Self::WebIdentity { .. } => "WebIdentity",
            Self::Container { .. } => "Container",
            Self::Instance { .. } => "Instance",
        })
    }
}

/// Keys, as long as each is good.
pub(crate) struct AwsKeys {
    access: AwsAccess,
    limits: Limits,
    lease: Lease<Option<Credentials>>,
}

impl AwsKeys {
    pub(crate) fn new(access: AwsAccess, limits: Limits) -> Self {
        Self { access, limits, lease: Lease::new() }
    }

    /// A key that is good now; `None` for nobody's.
    pub(crate) async fn get(&self) -> Result<Option<Credentials>, AccessError> {
        self.lease.get(self.fetch()).await
    }

    async fn fetch(&self) -> Result<Granted<Option<Credentials>>, AccessError> {
        let granted = match &self.access {
            AwsAccess::Anonymous => None,
            AwsAccess::Key(key) => Some(Granted { value: key.clone(), until: None }),
            AwsAccess::WebIdentity { endpoint, token_file, role, session } => {
                let service = Service::new(endpoint, WHAT, &self.limits)?;
                Some(of_identity(&service, &token(token_file).await?, role, session).await?)
            }
            AwsAccess::Container { url, token } => {
                Some(of_container(&Service::new(url, WHAT, &self.limits)?, token.as_ref()).await?)
            }
            AwsAccess::Instance { endpoint } => {
                of_instance(&Service::new(endpoint, WHAT, &self.limits)?).await?
            }
        };
        Ok(match granted {
            Some(Granted { value, until }) => Granted { value: Some(value.signing()), until },
            None => Granted { value: None, until: None },
        })
    }
}

impl S3Credentials {
    fn signing(self) -> Credentials {
        match self.token {
            Some(token) => Credentials::new_with_token(self.id, self.secret, token),
            None => Credentials::new(self.id, self.secret),
        }
    }
}

async fn of_identity(
    service: &Service,
    token: &str,
    role: &str,
    session: &str,
) -> Result<Granted<S3Credentials>, AccessError> {
    let request = service.form(
        "/",
        &[
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", role),
            ("RoleSessionName", session),
            ("WebIdentityToken", token),
        ],
    );
    keys_in_xml(&service.ask(request).await?).ok_or_else(|| service.answer())
}

async fn of_container(
    service: &Service,
    shown: Option<&ContainerToken>,
) -> Result<Granted<S3Credentials>, AccessError> {
    let mut request = service.request(Method::GET, "");
    let shown = match shown {
        Some(ContainerToken::Value(value)) => Some(value.clone()),
        Some(ContainerToken::File(path)) => Some(token(path).await?),
        None => None,
    };
    if let Some(shown) = shown {
        service.secret(&mut request, "authorization", &shown)?;
    }
    keys_in_json(&service.ask(request).await?).ok_or_else(|| service.answer())
}

/// A token first, which nobody gets who is only led there, then the one role, then its key.
async fn of_instance(service: &Service) -> Result<Option<Granted<S3Credentials>>, AccessError> {
    let mut request = service.request(Method::PUT, "/latest/api/token");
    let name = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
    request.headers.insert(name, KNOWN);
    let Some(token) = service.ask_if_there(request).await? else { return Ok(None) };
    let known = |path: &str| -> Result<Request, AccessError> {
        let mut request = service.request(Method::GET, path);
        service.secret(&mut request, "x-aws-ec2-metadata-token", &token)?;
        Ok(request)
    };
    let Some(roles) = service.ask_if_there(known(ROLES)?).await? else { return Ok(None) };
    let role = roles.lines().next().unwrap_or_default().trim();
    let key = service.ask(known(&format!("{ROLES}{role}"))?).await?;
    keys_in_json(&key).map(Some).ok_or_else(|| service.answer())
}
