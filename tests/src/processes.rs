//! The machine's processes, as Linux shows them under /proc.

use std::fs;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// A process that somebody else started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// Its id.
    pub id: u32,
    /// Its arguments, with blanks between them.
    pub command: String,
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).expect("a process id fits an i32"))
}

/// Sends a signal; whether there was somebody to get it.
pub fn signal(id: u32, signal: Signal) -> bool {
    kill(pid(id), signal).is_ok()
}

/// Sends a signal to a whole process group.
pub fn signal_group(id: u32, signal: Signal) -> bool {
    killpg(pid(id), signal).is_ok()
}

/// All processes that run: those that have ended and were not waited for have no command.
fn all() -> impl Iterator<Item = Other> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter_map(|id| Some(Other { id, command: command(id)? }))
}

fn command(id: u32) -> Option<String> {
    let text = fs::read(format!("/proc/{id}/cmdline")).ok().filter(|text| !text.is_empty())?;
    Some(String::from_utf8_lossy(&text).replace('\0', " "))
}

/// The process of an id.
pub fn with_id(id: u32) -> Option<Other> {
    Some(Other { id, command: command(id)? })
}

/// Whether this process runs, as the same program.
pub fn is_running(process: &Other) -> bool {
    command(process.id).is_some_and(|command| command == process.command)
}

/// The children of a process.
pub fn children(parent: u32) -> Vec<Other> {
    let line = format!("PPid:\t{parent}");
    let is_child = |id: u32| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        status.lines().any(|its| its == line)
    };
    all().filter(|process| is_child(process.id)).collect()
}

/// Processes that were started with a variable in their environment, by this process or by others on the way.
pub fn with_variable(name: &str, value: &str) -> Vec<Other> {
    let entry = format!("{name}={value}");
    let has = |id: u32| {
        let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|its| its == entry.as_bytes())
    };
    all().filter(|process| has(process.id)).collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_is_found_until_it_has_ended() {
        let mut sleep = Command::new("sleep");
        sleep.arg("600").env("PROCESSES_TEST", "a value of its own").stdin(Stdio::null());
        let mut child = sleep.spawn().unwrap();
        // The child has its own command once it has become `sleep`.
        let find = |found: Vec<Other>| found.into_iter().find(|other| other.id == child.id());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let found = loop {
            let found = find(with_variable("PROCESSES_TEST", "a value of its own"));
            if let Some(found) = found.filter(|other| other.command.starts_with("sleep")) {
                break found;
            }
            assert!(std::time::Instant::now() < deadline, "the child is not seen");
        };
        assert_eq!(find(children(std::process::id())), Some(found.clone()));
        assert!(is_running(&found));
        assert!(signal(found.id, Signal::SIGKILL));
        child.wait().unwrap();
        assert!(!is_running(&found));
        assert_eq!(with_variable("PROCESSES_TEST", "a value of its own"), []);
    }
}
