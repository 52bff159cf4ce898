use std::time::Duration;

use clap::ArgAction;

/// Settings for users, recordings and training. Most can change while the server runs.
#[derive(clap::Args, Clone, Debug)]
pub struct ServiceSettings {
    /// Days to keep recordings for training; 0 keeps none
    #[arg(long, env = "BIPEDALNET_KEEP_RECORDINGS_DAYS", default_value_t = 0, value_name = "DAYS",
        value_parser = clap::value_parser!(u32).range(0..=36_500))]
    pub keep_recordings_days: u32,
    /// Days after which a user who neither enrolls a walk nor is recognised is erased; 0 erases nobody
    #[arg(long, env = "BIPEDALNET_ERASE_INACTIVE_DAYS", default_value_t = 0, value_name = "DAYS",
        value_parser = clap::value_parser!(u32).range(0..=36_500))]
    pub erase_inactive_days: u32,
    /// Days to keep entries of the audit trail; 0 keeps all
    #[arg(long, env = "BIPEDALNET_KEEP_AUDIT_DAYS", default_value_t = 400, value_name = "DAYS",
        value_parser = clap::value_parser!(u32).range(0..=36_500))]
    pub keep_audit_days: u32,
    /// Require a challenge for each verification
    #[arg(
        long,
        env = "BIPEDALNET_REQUIRE_CHALLENGE",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        default_value_t = false,
        value_name = "BOOL"
    )]
    pub require_challenge: bool,
    /// Failed verifications after which a user is locked, counted since the last genuine one. One API
    /// key can use up half of them
    #[arg(
        long,
        env = "BIPEDALNET_MAX_FAILED_VERIFICATIONS",
        default_value_t = 50,
        value_parser = clap::value_parser!(u32).range(10..=1000),
        value_name = "NUMBER"
    )]
    pub max_failed_verifications: u32,
    /// Failed verifications allowed per hour for an API key, and for an address, of all users together;
    /// 0 means no limit
    #[arg(
        long,
        env = "BIPEDALNET_FAILED_VERIFICATIONS_PER_HOUR",
        default_value_t = 200,
        value_name = "NUMBER"
    )]
    pub failed_verifications_per_hour: u32,
    /// Add a verified walk to the user's template if the match is certain: at most one walk a day and
    /// four in all
    #[arg(
        long,
        env = "BIPEDALNET_UPDATE_TEMPLATES",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        default_value_t = false,
        value_name = "BOOL"
    )]
    pub update_templates: bool,
    /// Let devices download the templates of their own user, and verify offline for this many days
    /// after each; 0 means never
    #[arg(long, env = "BIPEDALNET_DEVICE_TEMPLATE_DAYS", default_value_t = 0, value_name = "DAYS",
        value_parser = clap::value_parser!(u32).range(..=365))]
    pub device_template_days: u32,
    /// Largest number of users
    #[arg(long, env = "BIPEDALNET_MAX_USERS", default_value_t = 100_000, value_name = "USERS")]
    pub max_users: u64,
    /// Largest number of enrollments of a user
    #[arg(
        long,
        env = "BIPEDALNET_MAX_ENROLLMENTS_PER_USER",
        default_value_t = 1000,
        value_name = "WALKS"
    )]
    pub max_enrollments_per_user: u64,
    /// Number of models to keep. A new one replaces the oldest that is neither active nor shipped
    #[arg(long, env = "BIPEDALNET_MAX_MODELS", default_value_t = 16, value_name = "MODELS",
        value_parser = clap::value_parser!(u32).range(3..))]
    pub max_models: u32,
    /// Threads for training, at the lowest priority; 0 means half of the processors
    #[arg(long, env = "BIPEDALNET_TRAINING_THREADS", default_value_t = 0, value_name = "THREADS",
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(0..=1024))]
    pub training_threads: usize,
    /// Memory for training. If the recordings need more, those of the users with the most are cut short
    #[arg(long, env = "BIPEDALNET_TRAINING_MEMORY_MIB", default_value_t = 256, value_name = "MIB",
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(32..=1 << 20))]
    pub training_memory_mib: usize,
    /// Length of the longest recording to accept
    #[arg(
        long,
        env = "BIPEDALNET_MAX_RECORDING_SECONDS",
        default_value_t = 900,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(10..=3600)
    )]
    pub max_recording_seconds: u32,
}

impl ServiceSettings {
    /// Whether recordings are kept.
    pub fn keeps_recordings(&self) -> bool {
        self.keep_recordings_days > 0
    }

    /// Number of threads for training, at least one.
    pub fn training_threads(&self) -> usize {
        match self.training_threads {
            0 => std::thread::available_parallelism().map_or(1, |all| all.get().div_ceil(2)),
            threads => threads,
        }
    }

    /// Memory for training.
    pub fn training_memory_bytes(&self) -> usize {
        self.training_memory_mib << 20
    }

    /// How long recordings are kept.
    pub fn kept_recordings(&self) -> Duration {
        Duration::from_secs(u64::from(self.keep_recordings_days) * 24 * 60 * 60)
    }
}
