//! Caches at what clouds and their jobs have: `type=s3`, `type=azblob`, `type=gha`. Attributes are BuildKit's; what is not said
//! comes from the variables that the cloud's own tools read.

use engine::{AzblobOptions, GhaOptions, GhaVersion, S3Options, units};

use super::Attributes;
use super::aws::Found;
use crate::environment::Environment;
use crate::error::UsageError;
use crate::spelling::boolean;

/// Where github.com has its cache service.
const GITHUB: &str = "results-receiver.actions.githubusercontent.com";
/// What a key of a cache has room for.
const SCOPE_MAX: usize = 200;
const NO_SERVICE: &str = "jobs of GitHub Actions have the service; GitHub shows it to actions only, not to \
     `run` lines, until a step before them exports it (see `docs/ci.md`)";

impl Attributes<'_> {
    pub(super) fn or(
        &mut self,
        name: &str,
        environment: &Environment,
        variable: &str,
    ) -> Option<String> {
        let given = self.take(name).filter(|value| !value.is_empty());
        let set = || environment.text(variable).filter(|value| !value.is_empty());
        given.or_else(|| set().map(str::to_owned))
    }

    /// `type=s3`
    pub(super) fn bucket(&mut self, environment: &Environment) -> Result<S3Options, UsageError> {
        let Found { region, access } = self.aws(environment)?;
        let endpoint = self.or("endpoint_url", environment, "AWS_ENDPOINT_URL_S3");
        let everywhere = || environment.text("AWS_ENDPOINT_URL").filter(|url| !url.is_empty());
        let endpoint = endpoint.or_else(|| everywhere().map(str::to_owned));
        let path_style = self.flag("use_path_style")?.unwrap_or(false);
        Ok(S3Options {
            bucket: self.wanted("bucket")?,
            region,
            endpoint,
            path_style,
            prefix: self.take("prefix").unwrap_or_default(),
            blobs_prefix: self.take("blobs_prefix").unwrap_or_else(|| "blobs/".to_owned()),
            manifests_prefix: (self.take("manifests_prefix"))
                .unwrap_or_else(|| "manifests/".to_owned()),
            name: self.one_name()?,
            access,
        })
    }

    /// `type=azblob`
    pub(super) fn container(
        &mut self,
        environment: &Environment,
    ) -> Result<AzblobOptions, UsageError> {
        let variable = |name: &str| format!("BUILDKIT_AZURE_STORAGE_{name}");
        let account_url = self.or("account_url", environment, &variable("ACCOUNT_URL"));
        let account_url = account_url.ok_or_else(|| {
            let what =
                format!("`account_url` is missing, and {} is not set", variable("ACCOUNT_URL"));
            self.invalid(&what)
        })?;
        let account = self.or("account_name", environment, &variable("ACCOUNT_NAME"));
        let host = account_url.split("://").nth(1).unwrap_or_default();
        let of_host = host.split(['.', ':', '/', '?']).next().unwrap_or_default().to_owned();
        let key = self.take("secret_access_key").filter(|key| !key.is_empty());
        let access = self.azure(&account_url, key, environment)?;
        let container = self.or("container", environment, &variable("CONTAINER"));
        let prefix = self.or("prefix", environment, &variable("PREFIX"));
        Ok(AzblobOptions {
            account: account.unwrap_or(of_host),
            account_url,
            access,
            container: container.unwrap_or_else(|| "buildkit-cache".to_owned()),
            prefix: prefix.unwrap_or_default(),
            blobs_prefix: self.take("blobs_prefix").unwrap_or_else(|| "blobs".to_owned()),
            manifests_prefix: (self.take("manifests_prefix"))
                .unwrap_or_else(|| "manifests".to_owned()),
            name: self.one_name()?,
        })
    }

    /// Which of the caches there may be; BuildKit writes to several.
    fn one_name(&mut self) -> Result<String, UsageError> {
        let name = self.take("name").unwrap_or_else(|| "buildkit".to_owned());
        if name.is_empty() || name.contains(';') {
            let what = format!("`name={name}`: want one name; give the flag for each of several");
            return Err(self.invalid(&what));
        }
        Ok(name)
    }

    /// `type=gha`
    pub(super) fn actions(&mut self, environment: &Environment) -> Result<GhaOptions, UsageError> {
        for listing in ["ghtoken", "repository"] {
            if self.take(listing).is_some() {
                let what = format!("`{listing}`: entries are asked for by their keys, not listed");
                return Err(self.invalid(&what));
            }
        }
        let (url, version) = self.service(environment)?;
        let token = self.or("token", environment, "ACTIONS_RUNTIME_TOKEN");
        let missing = || {
            let what = "`token` is missing, and ACTIONS_RUNTIME_TOKEN is not set";
            self.invalid(what).with_hint(NO_SERVICE)
        };
        let token = token.ok_or_else(missing)?;
        let scope = self.take("scope").unwrap_or_else(|| "buildkit".to_owned());
        if scope.is_empty() || scope.len() > SCOPE_MAX {
            let what = format!("`scope={scope}`: want 1 to {SCOPE_MAX} characters");
            return Err(self.invalid(&what));
        }
        let timeout = self.take("timeout").map(|text| {
            let duration = units::duration(&text).filter(|duration| !duration.is_zero());
            duration.ok_or_else(|| {
                self.invalid(&format!("`timeout={text}`: want a time such as 90s or 10m"))
            })
        });
        Ok(GhaOptions { url, version, token, scope, timeout: timeout.transpose()? })
    }

    /// The address of the cache service and what it speaks, as buildx and BuildKit find them.
    fn service(&mut self, environment: &Environment) -> Result<(String, GhaVersion), UsageError> {
        let version = match self.take("version").as_deref() {
            Some("1") => Some(GhaVersion::V1),
            Some("2") => Some(GhaVersion::V2),
            Some(other) => return Err(self.invalid(&format!("`version={other}`: want 1 or 2"))),
            None => None,
        };
        let is_second = environment.text("ACTIONS_CACHE_SERVICE_V2").and_then(boolean);
        let wants_second = match version {
            Some(version) => version == GhaVersion::V2,
            None => is_second == Some(true),
        };
        let results = if wants_second { "ACTIONS_RESULTS_URL" } else { "" };
        let second = self.or("url_v2", environment, results);
        let first = self.or("url", environment, "ACTIONS_CACHE_URL");
        if let Some(url) = second.filter(|_| version != Some(GhaVersion::V1)) {
            return Ok((url, GhaVersion::V2));
        }
        let named = || environment.text("ACTIONS_RESULTS_URL").filter(|url| !url.is_empty());
        let url = first.or_else(|| named().map(str::to_owned)).ok_or_else(|| {
            let what = "`url` is missing, and ACTIONS_RESULTS_URL is not set";
            self.invalid(what).with_hint(NO_SERVICE)
        })?;
        let guess = if url.contains(GITHUB) { GhaVersion::V2 } else { GhaVersion::V1 };
        Ok((url, version.unwrap_or(guess)))
    }
}
