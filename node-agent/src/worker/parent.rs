//! A worker dies with its agent.

use std::thread;

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, raise};
use nix::unistd::{Pid, getppid};

/// Ends this process when its parent ends. To be called first, while there is one thread.
///
/// The kernel sends the parent-death signal when the *thread* that started us ends, which an asynchronous runtime may
/// do at any time. So the signal is one that is waited for, and the parent is looked at before anything is done.
pub(super) fn die_with_parent() -> nix::Result<Pid> {
    let parent = getppid();
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGHUP);
    signals.thread_block()?;
    prctl::set_pdeathsig(Signal::SIGHUP)?;
    thread::spawn(move || {
        while getppid() == parent {
            if signals.wait().is_err() {
                break;
            }
        }
        let _ = raise(Signal::SIGKILL);
    });
    Ok(parent)
}
