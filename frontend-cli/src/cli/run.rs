//! The flags of `mybuild run`.

/// `mybuild run`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RunArgs {
    /// The image, and what to run in it instead of its command
    // One list, so that everything after the image belongs to the command.
    #[arg(value_name = "IMAGE [COMMAND…]", required = true, num_args = 1.., trailing_var_arg = true)]
    pub image_and_command: Vec<String>,

    /// Forward standard input
    #[arg(long, short = 'i')]
    pub interactive: bool,
    /// Give the container a terminal
    #[arg(long, short = 't')]
    pub tty: bool,
    /// Remove the container when its command ends, also if it has a --name; one without is removed anyway
    #[arg(long)]
    pub rm: bool,
    /// Have an init as process 1, which reaps processes; without it the command is process 1
    #[arg(long)]
    pub init: bool,

    /// Environment variable; without `=VALUE` that of this environment
    #[arg(long = "env", short = 'e', value_name = "NAME[=VALUE]", allow_hyphen_values = true, help_heading = PROCESS)]
    pub env: Vec<String>,
    /// File of environment variables, one a line
    #[arg(long = "env-file", value_name = "FILE", help_heading = PROCESS)]
    pub env_files: Vec<std::path::PathBuf>,
    /// Run this instead of the image's entrypoint; an empty one is none
    #[arg(long, value_name = "PROGRAM", help_heading = PROCESS)]
    pub entrypoint: Option<String>,
    /// Working directory
    #[arg(long, short = 'w', value_name = "DIR", help_heading = PROCESS)]
    pub workdir: Option<String>,
    /// User (and group) by name or number
    #[arg(long, short = 'u', value_name = "USER[:GROUP]", help_heading = PROCESS)]
    pub user: Option<String>,
    /// Resource limit (`nofile=1024:2048`); -1 is unlimited
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]", help_heading = PROCESS)]
    pub ulimits: Vec<String>,
    /// Signal that asks the container to stop
    #[arg(long = "stop-signal", value_name = "SIGNAL", help_heading = PROCESS)]
    pub stop_signal: Option<String>,

    /// Directory or file of the host at a place in the container, with what is mounted in it; `:ro`
    /// read-only
    #[arg(long = "volume", short = 'v', value_name = "SOURCE:TARGET[:OPTIONS]", help_heading = FILES)]
    pub volumes: Vec<String>,
    /// Empty directory in memory (`/tmp:size=64m,mode=1777,exec`)
    #[arg(long = "tmpfs", value_name = "DIR[:OPTIONS]", help_heading = FILES)]
    pub tmpfs: Vec<String>,
    /// Make the root file system read-only
    #[arg(long = "read-only", help_heading = FILES)]
    pub read_only: bool,
    /// Size of /dev/shm (`64m`)
    #[arg(long = "shm-size", value_name = "SIZE", help_heading = FILES)]
    pub shm_size: Option<String>,

    /// `default` (its own, connected), `none` or `host`
    #[arg(long, alias = "net", value_name = "MODE", help_heading = NETWORK)]
    pub network: Option<String>,
    /// Lead a port of the host into the container; without HOST one is chosen and told
    #[arg(long = "publish", short = 'p', value_name = "[[ADDRESS:]HOST:]PORT[/PROTOCOL]", help_heading = NETWORK)]
    pub ports: Vec<String>,
    /// Line for the container's /etc/hosts
    #[arg(long = "add-host", value_name = "HOST=ADDRESS", help_heading = NETWORK)]
    pub add_hosts: Vec<String>,
    /// Host name
    #[arg(long, short = 'h', value_name = "NAME", help_heading = NETWORK)]
    pub hostname: Option<String>,

    /// Memory limit (`512m`)
    #[arg(long, short = 'm', value_name = "SIZE", help_heading = LIMITS)]
    pub memory: Option<String>,
    /// Number of processors it may use (`1.5`)
    #[arg(long, value_name = "NUMBER", help_heading = LIMITS)]
    pub cpus: Option<String>,
    /// Processes and threads it may have
    #[arg(long = "pids-limit", value_name = "NUMBER", help_heading = LIMITS)]
    pub pids_limit: Option<String>,

    /// Name that no other container of the store has; the container stays when its command has ended
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Use the image for this platform
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<String>,
    /// Look the image up in its registry: `missing`, `always`, `never`
    #[arg(long, value_name = "WHEN", default_missing_value = "always")]
    pub pull: Option<String>,
    /// Show no progress of a pull
    #[arg(long, short = 'q')]
    pub quiet: bool,

    /// Flags that are known and refused.
    #[command(flatten)]
    pub refused: RefusedRunArgs,

    /// Print help
    // `-h` is the host name, as for Docker.
    #[arg(long, action = clap::ArgAction::Help)]
    pub help: Option<bool>,
}

const PROCESS: &str = "Process";
const FILES: &str = "Files";
const NETWORK: &str = "Network";
const LIMITS: &str = "Limits";

/// Docker's flags that are refused by name.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RefusedRunArgs {
    /// Run in the background
    #[arg(long, short = 'd', hide = true)]
    pub detach: bool,
    /// Streams to attach
    #[arg(long, short = 'a', hide = true, value_name = "STREAM")]
    pub attach: Vec<String>,
    /// Restart policy
    #[arg(long, hide = true, value_name = "POLICY")]
    pub restart: Option<String>,
    /// Extended privileges
    #[arg(long, hide = true)]
    pub privileged: bool,
    /// Further capabilities
    #[arg(long = "cap-add", hide = true, value_name = "CAPABILITY")]
    pub cap_add: Vec<String>,
    /// Fewer capabilities
    #[arg(long = "cap-drop", hide = true, value_name = "CAPABILITY")]
    pub cap_drop: Vec<String>,
    /// Security options
    #[arg(long = "security-opt", hide = true, value_name = "OPTION")]
    pub security_opt: Vec<String>,
    /// Mount by fields
    #[arg(long = "mount", hide = true, value_name = "FIELDS")]
    pub mount: Vec<String>,
    /// Volumes of another container
    #[arg(long = "volumes-from", hide = true, value_name = "CONTAINER")]
    pub volumes_from: Vec<String>,
    /// Publish all exposed ports
    #[arg(long = "publish-all", short = 'P', hide = true)]
    pub publish_all: bool,
    /// Expose a port
    #[arg(long, hide = true, value_name = "PORT")]
    pub expose: Vec<String>,
    /// Link to another container
    #[arg(long, hide = true, value_name = "CONTAINER")]
    pub link: Vec<String>,
    /// Name servers
    #[arg(long, hide = true, value_name = "ADDRESS")]
    pub dns: Vec<String>,
    /// Host devices
    #[arg(long, hide = true, value_name = "DEVICE")]
    pub device: Vec<String>,
    /// Graphics processors
    #[arg(long, hide = true, value_name = "DEVICES")]
    pub gpus: Option<String>,
    /// Process namespace
    #[arg(long, hide = true, value_name = "MODE")]
    pub pid: Option<String>,
    /// IPC namespace
    #[arg(long, hide = true, value_name = "MODE")]
    pub ipc: Option<String>,
    /// User namespace
    #[arg(long, hide = true, value_name = "MODE")]
    pub userns: Option<String>,
    /// Further groups
    #[arg(long = "group-add", hide = true, value_name = "GROUP")]
    pub group_add: Vec<String>,
    /// Labels of the container
    #[arg(long = "label", short = 'l', hide = true, value_name = "NAME=VALUE")]
    pub labels: Vec<String>,
    /// File for the container's id
    #[arg(long, hide = true, value_name = "FILE")]
    pub cidfile: Option<String>,
    /// Health check
    #[arg(long = "health-cmd", hide = true, value_name = "COMMAND")]
    pub health_cmd: Option<String>,
    /// Runtime
    #[arg(long, hide = true, value_name = "NAME")]
    pub runtime: Option<String>,
    /// Kernel parameters
    #[arg(long, hide = true, value_name = "NAME=VALUE")]
    pub sysctl: Vec<String>,
    /// Logging driver
    #[arg(long = "log-driver", hide = true, value_name = "NAME")]
    pub log_driver: Option<String>,
    /// Memory and swap limit
    #[arg(long = "memory-swap", hide = true, value_name = "SIZE")]
    pub memory_swap: Option<String>,
    /// Processor shares
    #[arg(long = "cpu-shares", short = 'c', hide = true, value_name = "N")]
    pub cpu_shares: Option<String>,
    /// Processors
    #[arg(long = "cpuset-cpus", hide = true, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Keys to detach
    #[arg(long = "detach-keys", hide = true, value_name = "KEYS")]
    pub detach_keys: Option<String>,
}
