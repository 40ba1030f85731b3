//! A filter of system calls (seccomp, `seccomp(2)`) that lets a process make no sockets. What it has open stays.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

use crate::Sockets;

/// The same calls have second numbers on x86-64, those of its ABI with short pointers (x32).
#[cfg(target_arch = "x86_64")]
const ABIS: [i64; 2] = [0, 0x4000_0000];
#[cfg(not(target_arch = "x86_64"))]
const ABIS: [i64; 1] = [0];

/// Holds for this thread and for those that it starts.
pub(crate) fn forbid(sockets: Sockets) -> Result<(), Error> {
    let socket_rules = match sockets {
        Sockets::Any => return Ok(()),
        // No condition: the call itself is enough.
        Sockets::None => Vec::new(),
        Sockets::Local => vec![all_but_local()?],
    };
    seccompiler::apply_filter(&program(&socket_rules)?)
}

fn all_but_local() -> Result<SeccompRule, BackendError> {
    let local = libc::AF_UNIX.unsigned_abs().into();
    let other = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, local)?;
    SeccompRule::new(vec![other])
}

fn program(socket_rules: &[SeccompRule]) -> Result<BpfProgram, BackendError> {
    let mut rules = BTreeMap::new();
    for abi in ABIS {
        rules.insert(libc::SYS_socket + abi, socket_rules.to_vec());
        // A ring makes sockets behind the filter's back.
        rules.insert(libc::SYS_io_uring_setup + abi, Vec::new());
    }
    let refused = SeccompAction::Errno(libc::EACCES.unsigned_abs());
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, SeccompAction::Allow, refused, arch)?.try_into()
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixDatagram;
    use std::thread;

    use super::*;

    /// Whether the network and the machine's own sockets are to be had, in a thread that forbids them first.
    fn has(sockets: Sockets) -> (bool, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let filtered = thread::spawn(move || {
            forbid(sockets).unwrap();
            let refused = |error: std::io::Error| assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            let tcp = TcpStream::connect(address).map(drop).map_err(refused).is_ok();
            let udp = UdpSocket::bind("127.0.0.1:0").map(drop).map_err(refused).is_ok();
            assert_eq!(tcp, udp);
            let local = UnixDatagram::unbound().map(drop).map_err(refused).is_ok();
            // All else works, threads and files among it.
            let files = thread::spawn(|| std::fs::read_to_string("/proc/self/status").is_ok());
            assert!(files.join().unwrap());
            (tcp, local)
        });
        filtered.join().unwrap()
    }

    #[test]
    fn sockets_are_refused_as_asked() {
        assert_eq!(has(Sockets::Any), (true, true));
        assert_eq!(has(Sockets::Local), (false, true));
        assert_eq!(has(Sockets::None), (false, false));
    }
}
