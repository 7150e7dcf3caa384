//! The rules.

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Name, as in `# check=skip=NAME`.
    pub name: &'static str,
    /// What it asks for.
    pub description: &'static str,
    /// Last part of the address of its documentation, empty where there is none.
    page: &'static str,
    /// Off unless asked for.
    pub experimental: bool,
}

impl Rule {
    /// Address of its documentation, empty where there is none.
    pub fn url(&self) -> String {
        match self.page {
            "" => String::new(),
            page => format!("https://docs.docker.com/go/dockerfile/rule/{page}/"),
        }
    }
}

/// One of ours.
const fn advice(name: &'static str, description: &'static str) -> Rule {
    Rule { name, description, page: "", experimental: false }
}

const fn rule(name: &'static str, page: &'static str, description: &'static str) -> Rule {
    Rule { name, description, page, experimental: false }
}

/// Every rule, by name.
pub const RULES: &[Rule] = &[
    Rule {
        name: "BaseImageWithoutDigest",
        description: "A base image that is named with its digest is the same everywhere",
        page: "",
        experimental: true,
    },
    rule(
        "ConsistentInstructionCasing",
        "consistent-instruction-casing",
        "All commands within the Dockerfile should use the same casing (either upper or lower)",
    ),
    advice(
        "CopyBeforeInstall",
        "What is copied before dependencies are installed has them installed again when it changes",
    ),
    rule(
        "CopyIgnoredFile",
        "copy-ignored-file",
        "Attempting to Copy file that is excluded by .dockerignore",
    ),
    rule("DuplicateStageName", "duplicate-stage-name", "Stage names should be unique"),
    rule(
        "ExposeInvalidFormat",
        "expose-invalid-format",
        "IP address and host-port mapping should not be used in EXPOSE instruction. This will \
         become an error in a future release",
    ),
    rule(
        "ExposeProtoCasing",
        "expose-proto-casing",
        "Protocol in EXPOSE instruction should be lowercase",
    ),
    rule(
        "FromAsCasing",
        "from-as-casing",
        "The 'as' keyword should match the case of the 'from' keyword",
    ),
    rule(
        "FromPlatformFlagConstDisallowed",
        "from-platform-flag-const-disallowed",
        "FROM --platform flag should not use a constant value",
    ),
    rule(
        "InvalidBaseImagePlatform",
        "",
        "Base image platform does not match expected target platform",
    ),
    rule(
        "InvalidDefaultArgInFrom",
        "invalid-default-arg-in-from",
        "Default value for global ARG results in an empty or invalid base image name",
    ),
    Rule {
        name: "InvalidDefinitionDescription",
        description: "Comment for build stage or argument should follow the format: `# <arg/stage \
                      name> <description>`. If this is not intended to be a description comment, \
                      add an empty line or comment between the instruction and the comment.",
        page: "invalid-definition-description",
        experimental: true,
    },
    rule(
        "JSONArgsRecommended",
        "json-args-recommended",
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to \
         OS signals",
    ),
    rule(
        "LegacyKeyValueFormat",
        "legacy-key-value-format",
        "Legacy key/value format with whitespace separator should not be used",
    ),
    rule(
        "MaintainerDeprecated",
        "maintainer-deprecated",
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    ),
    rule(
        "MultipleInstructionsDisallowed",
        "multiple-instructions-disallowed",
        "Multiple instructions of the same type should not be used in the same stage",
    ),
    rule(
        "NoEmptyContinuation",
        "no-empty-continuation",
        "Empty continuation lines will become errors in a future release",
    ),
    advice("PackageListsLeft", "Lists of packages that stay in a layer make the image larger"),
    rule(
        "RedundantTargetPlatform",
        "redundant-target-platform",
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the \
         default behavior",
    ),
    rule(
        "ReservedStageName",
        "reserved-stage-name",
        "Reserved words should not be used as stage names",
    ),
    advice("SecretInLiteral", "Secrets should be mounted, not written into the Dockerfile"),
    rule(
        "SecretsUsedInArgOrEnv",
        "secrets-used-in-arg-or-env",
        "Sensitive data should not be used in the ARG or ENV commands",
    ),
    rule("StageNameCasing", "stage-name-casing", "Stage names should be lowercase"),
    rule("UndefinedArgInFrom", "undefined-arg-in-from", "FROM command must use declared ARGs"),
    rule("UndefinedVar", "undefined-var", "Variables should be defined before their use"),
    advice("UnknownCheck", "Checks that are turned on or off should be ones that there are"),
    advice("UnpinnedBaseImage", "Base images should be named with a version"),
    rule(
        "WorkdirRelativePath",
        "workdir-relative-path",
        "Relative workdir without an absolute workdir declared within the build can have \
         unexpected results if the base image changes",
    ),
];

/// The rule called `name`.
pub fn find_rule(name: &str) -> Option<&'static Rule> {
    RULES.binary_search_by_key(&name, |rule| rule.name).ok().map(|at| &RULES[at])
}
