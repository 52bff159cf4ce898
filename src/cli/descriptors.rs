//! The limit of open files. Connections, the database and the metrics port share it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::http::ConnectionLimits;

/// Files that a server has open beside the connections of clients. The database and the runtime take
/// about 30, and the metrics port as many as it has connections.
const RESERVED: u64 = 64 + ConnectionLimits::OF_METRICS as u64;

/// Open files that so many connections need.
pub(super) fn wanted(connections: usize) -> u64 {
    connections as u64 + RESERVED
}

/// Raises the limit of open files if it is too low for so many connections. If the system does not
/// allow enough, lowers the number of connections.
pub(super) fn provide_for(limits: &mut ConnectionLimits) {
    let wanted = wanted(limits.connections);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return;
    }
    let raised = maximum.unwrap_or(wanted);
    let allowed = match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }) {
        Ok(()) => raised,
        Err(_) => current.unwrap_or(raised),
    };
    if allowed < wanted {
        let connections = allowed.saturating_sub(RESERVED).max(1);
        tracing::warn!(
            open_files = allowed,
            max_connections = limits.connections,
            used = connections,
            "too few open files are allowed for max-connections; raise the limit (`ulimit -n`, \
             LimitNOFILE) to {wanted}"
        );
        limits.connections = connections as usize;
    }
}
