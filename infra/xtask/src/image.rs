//! Container images FROM scratch: programs that were built here, the libraries that they need, and nothing else. No
//! registry is asked.

use crate::process;
use crate::services::docker;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What TLS trusts.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Makes an image of one program, under a tag, in a Docker daemon (`unix:///…`). The program is its entry point, at
/// `/bin/NAME`.
pub fn docker_image(host: &str, binary: &Path, tag: &str) -> Result<()> {
    docker_image_of(host, &[binary], tag)
}

/// The same of several programs, which find each other beside themselves; the first one is the entry point.
pub fn docker_image_of(host: &str, binaries: &[&Path], tag: &str) -> Result<()> {
    let entry = binaries.first().and_then(|binary| binary.file_name()).context("an image of no program")?;
    let files = files(binaries)?;
    let entry = format!("ENTRYPOINT [\"/bin/{}\"]", entry.to_string_lossy());
    let arguments = ["import", "--change", "ENV PATH=/bin", "--change", &entry, "-", tag];
    let mut command = docker::client(host, &arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut import =
        command.spawn().with_context(|| format!("cannot start {}", process::describe(&command)))?;
    let pipe = import.stdin.take().context("no pipe to docker import")?;
    let written = write(pipe, &files);
    let ended = import.wait_with_output()?;
    if !ended.status.success() {
        let said = String::from_utf8_lossy(&ended.stderr);
        bail!("{} ended with {}: {}", process::describe(&command), ended.status, said.trim());
    }
    written.with_context(|| format!("cannot write the image {tag}"))
}

/// What goes into an image: from the path in it to the file on this machine.
fn files(binaries: &[&Path]) -> Result<BTreeMap<PathBuf, PathBuf>> {
    let mut files = BTreeMap::new();
    for binary in binaries {
        ensure!(binary.is_file(), "there is no {}", binary.display());
        let name = binary.file_name().with_context(|| format!("{} has no name", binary.display()))?;
        files.insert(Path::new("/bin").join(name), binary.to_path_buf());
        let mut ldd = Command::new("ldd");
        ldd.arg(binary).env("LC_ALL", "C").env_remove("LD_LIBRARY_PATH");
        let said = match process::output(&mut ldd) {
            Ok(said) => said,
            Err(error) if error.to_string().contains("not a dynamic executable") => continue,
            Err(error) => return Err(error),
        };
        for (inside, outside) in libraries(&said).with_context(|| format!("{}", binary.display()))? {
            files.insert(inside, outside);
        }
    }
    if Path::new(CERTIFICATES).is_file() {
        files.insert(CERTIFICATES.into(), CERTIFICATES.into());
    }
    Ok(files)
}

/// The libraries that `ldd` names and that are not the system's.
pub(crate) fn foreign_libraries(said: &str) -> Result<Vec<PathBuf>> {
    Ok(named(said)?.into_iter().filter(|path| !is_systems(path)).collect())
}

fn is_systems(library: &Path) -> bool {
    ["/lib", "/usr/lib", "/lib64", "/usr/lib64"].iter().any(|dir| library.starts_with(dir))
}

/// The libraries that `ldd` names, by their paths.
fn named(said: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in said.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [name, "=>", "not", "found"] => bail!("its library {name} is not found"),
            [_, "=>", path, _] | [path, _] if path.starts_with('/') => found.push(PathBuf::from(path)),
            // The kernel's own, and programs without libraries.
            _ => {}
        }
    }
    Ok(found)
}

/// The libraries that `ldd` names, each with its place in an image: where the loader looks by itself.
fn libraries(said: &str) -> Result<Vec<(PathBuf, PathBuf)>> {
    let found = named(said)?;
    let usual = found.iter().find(|path| path.file_name().is_some_and(|name| name == "libc.so.6"));
    let usual = usual.and_then(|path| path.parent()).map(Path::to_path_buf);
    let place = |path: PathBuf| match (&usual, path.file_name()) {
        (Some(usual), Some(name)) if !is_systems(&path) => (usual.join(name), path),
        _ => (path.clone(), path),
    };
    Ok(found.into_iter().map(place).collect())
}

fn write(to: impl Write, files: &BTreeMap<PathBuf, PathBuf>) -> Result<()> {
    let mut archive = tar::Builder::new(to);
    // Docker does not read GNU's way of leaving holes out.
    archive.sparse(false);
    archive.append_data(&mut directory(0o1777), "tmp", std::io::empty())?;
    for (inside, outside) in files {
        let mut file = File::open(outside).with_context(|| format!("cannot read {}", outside.display()))?;
        archive.append_file(inside.strip_prefix("/").unwrap_or(inside), &mut file)?;
    }
    archive.into_inner()?.flush()?;
    Ok(())
}

fn directory(mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(mode);
    header.set_size(0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_keep_their_place_or_go_beside_libc() {
        let said = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                    \tlibtorch_cpu.so => /src/.venv/torch/lib/libtorch_cpu.so (0x00007f00)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f01)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f02)\n";
        let found = libraries(said).unwrap();
        let inside: Vec<_> = found.iter().map(|(inside, _)| inside.display().to_string()).collect();
        assert_eq!(
            inside,
            [
                "/lib/x86_64-linux-gnu/libtorch_cpu.so",
                "/lib/x86_64-linux-gnu/libc.so.6",
                "/lib64/ld-linux-x86-64.so.2"
            ]
        );
        assert_eq!(libraries("\tstatically linked\n").unwrap(), []);
    }

    #[test]
    fn a_library_that_is_missing_is_named() {
        let error = libraries("\tlibc10.so => not found\n").unwrap_err().to_string();
        assert_eq!(error, "its library libc10.so is not found");
    }

    #[test]
    fn what_is_written_is_what_ldd_found() {
        let sh = std::fs::canonicalize("/bin/sh").unwrap();
        let files = files(&[&sh]).unwrap();
        let mut bytes = Vec::new();
        write(&mut bytes, &files).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let names: Vec<_> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
        assert_eq!(names[0], Path::new("tmp"));
        let inside: Vec<_> = files.keys().map(|path| path.strip_prefix("/").unwrap().to_owned()).collect();
        assert_eq!(names[1..], inside);
        let shell = Path::new("bin").join(sh.file_name().unwrap());
        assert!(
            inside.contains(&shell) && inside.iter().any(|path| path.ends_with("libc.so.6")),
            "{inside:?}"
        );
    }
}
