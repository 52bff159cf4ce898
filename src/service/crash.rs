//! Steps at which a test can crash the program.

/// Aborts the program if `BIPEDALNET_CRASH_AT` names this step. Only in debug builds.
#[cfg(debug_assertions)]
pub(super) fn crash_point(step: &str) {
    if std::env::var_os("BIPEDALNET_CRASH_AT").is_some_and(|at| at == step) {
        std::process::abort();
    }
}

#[cfg(not(debug_assertions))]
pub(super) const fn crash_point(_step: &str) {}
