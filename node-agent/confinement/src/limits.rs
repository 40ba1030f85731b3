//! Resource limits (`setrlimit(2)`), and who is to go first when memory runs out.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::{Confinement, Error};

/// Of `/proc/PID/oom_score_adj`, which goes from −1000 to 1000.
const FIRST_TO_GO: &str = "500";

/// When the machine's memory runs out, the kernel is to end a worker and not the agent, which replaces it. Where it can't
/// be said, the kernel chooses by size, which mostly is the same.
pub(crate) fn first_to_go() {
    let _ = std::fs::write("/proc/self/oom_score_adj", FIRST_TO_GO);
}

pub(crate) fn apply(confinement: &Confinement) -> Result<(), Error> {
    // A worker's memory is a model and somebody's input: nothing to be left lying on a disk, and it would take minutes.
    limit(Resource::RLIMIT_CORE, "the size of core files", 0)?;
    if let Some(files) = confinement.max_files {
        limit(Resource::RLIMIT_NOFILE, "node.worker_files", files)?;
    }
    if let Some(bytes) = confinement.max_memory_bytes {
        limit(Resource::RLIMIT_AS, "node.worker_memory_bytes", bytes)?;
    }
    Ok(())
}

/// For good: the hard limit too. One that is lower already stays.
fn limit(resource: Resource, what: &'static str, limit: u64) -> Result<(), Error> {
    let failed = |source| Error::Limit { what, limit, source };
    let (_, hard) = getrlimit(resource).map_err(failed)?;
    let limit = limit.min(hard);
    setrlimit(resource, limit, limit).map_err(failed)
}
