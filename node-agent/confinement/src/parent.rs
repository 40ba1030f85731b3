//! A worker dies with its agent, and only then.

use std::thread;

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, raise};
use nix::unistd::{Pid, getppid};

/// Ends this process when its parent ends. To be called while there is one thread.
///
/// The kernel sends the parent-death signal when the *thread* that started us ends, which an asynchronous runtime may
/// do at any time. So the signal is one that is waited for, and the parent is looked at before anything is done.
///
/// What a terminal or a service manager sends to the whole group (Ctrl-C, SIGTERM) is meant for the agent, which
/// drains and then says `shutdown`: it is not heard here.
pub(crate) fn die_with_parent() -> nix::Result<Pid> {
    let parent = getppid();
    let signals = SigSet::from_iter([Signal::SIGHUP]);
    signals.thread_block()?;
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]).thread_block()?;
    prctl::set_pdeathsig(Signal::SIGHUP)?;
    thread::spawn(move || {
        while getppid() == parent {
            if signals.wait().is_err() {
                break;
            }
        }
        // Not `exit`: another thread may be deep inside libtorch, whose destructors would run under it.
        let _ = raise(Signal::SIGKILL);
    });
    Ok(parent)
}
