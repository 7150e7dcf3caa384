//! Who lets us use a bucket, as the tools of AWS find out: the environment, then a profile in their files, then
//! the service of the container, then that of the instance.

mod profile;

use engine::{AwsAccess, ContainerToken, S3Credentials, aws_domain};

use self::profile::Profile;
use super::Attributes;
use crate::environment::Environment;
use crate::error::UsageError;

/// Where the services of containers and instances are.
const CONTAINER: &str = "http://169.254.170.2";
const INSTANCE: [&str; 2] = ["http://169.254.169.254", "http://[fd00:ec2::254]"];
/// What the token service calls a session that nobody has named.
const SESSION: &str = "mybuild";
/// How tools of AWS hand over what they have got from elsewhere.
const EXPORT: &str =
    "eval \"$(aws configure export-credentials --format env)\" sets a key for a time";

/// The region, and who lets us in.
pub(super) struct Found {
    pub(super) region: String,
    pub(super) access: AwsAccess,
}

impl Attributes<'_> {
    /// What is found in `environment`, as far as the attributes do not say it.
    pub(super) fn aws(&mut self, environment: &Environment) -> Result<Found, UsageError> {
        let key = self.key(environment)?;
        let region = self.or("region", environment, "AWS_REGION");
        let region = region.or_else(|| set(environment, "AWS_DEFAULT_REGION").map(str::to_owned));
        // Files count only where something is missing.
        let profile = match (&key, &region) {
            (Some(_), Some(_)) => Profile::default(),
            _ => Profile::read(environment).map_err(|error| self.invalid(&error.to_string()))?,
        };
        let region = region.or_else(|| profile.get("region").map(str::to_owned));
        let region = region.ok_or_else(|| self.invalid("`region` is missing"))?;
        let access = match key {
            Some(key) => AwsAccess::Key(key),
            None => self.access(&region, &profile, environment)?,
        };
        Ok(Found { region, access })
    }

    /// The key of the attributes and the environment.
    fn key(&mut self, environment: &Environment) -> Result<Option<S3Credentials>, UsageError> {
        let id = self.or("access_key_id", environment, "AWS_ACCESS_KEY_ID");
        let secret = self.or("secret_access_key", environment, "AWS_SECRET_ACCESS_KEY");
        let token = self.or("session_token", environment, "AWS_SESSION_TOKEN");
        match (id, secret) {
            (Some(id), Some(secret)) => Ok(Some(S3Credentials { id, secret, token })),
            (None, None) if token.is_none() => Ok(None),
            _ => Err(self.invalid("an access key has an id and a secret")),
        }
    }

    fn access(
        &self,
        region: &str,
        profile: &Profile,
        environment: &Environment,
    ) -> Result<AwsAccess, UsageError> {
        let identity = |file: &str, role: Option<&str>, session: Option<&str>| {
            let role = role.ok_or_else(|| {
                self.invalid("AWS_WEB_IDENTITY_TOKEN_FILE without a role (AWS_ROLE_ARN)")
            })?;
            Ok(AwsAccess::WebIdentity {
                endpoint: token_service(region, environment),
                token_file: file.into(),
                role: role.to_owned(),
                session: session.unwrap_or(SESSION).to_owned(),
            })
        };
        let variable = |name: &str| set(environment, name);
        if let Some(file) = variable("AWS_WEB_IDENTITY_TOKEN_FILE") {
            return identity(file, variable("AWS_ROLE_ARN"), variable("AWS_ROLE_SESSION_NAME"));
        }
        if let Some(unsupported) = profile.unsupported() {
            let what = format!("{profile} wants `{unsupported}`, which is not supported");
            return Err(self.invalid(&what).with_hint(EXPORT));
        }
        if let (Some(id), Some(secret)) =
            (profile.get("aws_access_key_id"), profile.get("aws_secret_access_key"))
        {
            let token = profile.get("aws_session_token").map(str::to_owned);
            return Ok(AwsAccess::Key(S3Credentials {
                id: id.to_owned(),
                secret: secret.to_owned(),
                token,
            }));
        }
        if let Some(file) = profile.get("web_identity_token_file") {
            return identity(file, profile.get("role_arn"), profile.get("role_session_name"));
        }
        Ok(container(environment).unwrap_or_else(|| instance(environment)))
    }
}

fn set<'a>(environment: &'a Environment, name: &str) -> Option<&'a str> {
    environment.text(name).filter(|value| !value.is_empty())
}

fn token_service(region: &str, environment: &Environment) -> String {
    let own = ["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"];
    let own = own.into_iter().find_map(|name| set(environment, name));
    own.map_or_else(|| format!("https://sts.{region}.{}", aws_domain(region)), str::to_owned)
}

fn container(environment: &Environment) -> Option<AwsAccess> {
    let relative = set(environment, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    let full = || set(environment, "AWS_CONTAINER_CREDENTIALS_FULL_URI").map(str::to_owned);
    let url = relative.map(|path| format!("{CONTAINER}{path}")).or_else(full)?;
    let file = set(environment, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    let token = match file {
        Some(file) => Some(ContainerToken::File(file.into())),
        None => set(environment, "AWS_CONTAINER_AUTHORIZATION_TOKEN")
            .map(|token| ContainerToken::Value(token.to_owned())),
    };
    Some(AwsAccess::Container { url, token })
}

fn instance(environment: &Environment) -> AwsAccess {
    let is = |name: &str, value: &str| {
        set(environment, name).is_some_and(|set| set.eq_ignore_ascii_case(value))
    };
    if is("AWS_EC2_METADATA_DISABLED", "true") {
        return AwsAccess::Anonymous;
    }
    let [fourth, sixth] = INSTANCE;
    let default = if is("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "ipv6") { sixth } else { fourth };
    let endpoint = set(environment, "AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or(default);
    AwsAccess::Instance { endpoint: endpoint.to_owned() }
}
