//! RabbitMQ 4, which Debian 12 does not have: a minimal Debian 13 in a directory under cargo's target, entered by
//! chroot. Needs root.

use super::rabbitmq::{Installation, Node};
use super::{Availability, Running};
use crate::{install, process, workspace};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SUITE: &str = "trixie";
/// Where the node's directory appears inside.
const MOUNT: &str = "/mnt";
/// Mounts of a namespace of its own go when its last process ends.
const ENTER: &str = r#"mount -t proc proc "$1/proc" && mount --bind "$2" "$1/mnt" && root=$1 && shift 2 && exec chroot "$root" "$@""#;

/// Sees to it that the Debian 13 is there.
pub fn prepare() -> Result<Availability> {
    let root = root();
    if root.join(".complete").is_file() {
        return Ok(if workspace::is_root() { Availability::Ready } else { missing("chroot needs root") });
    }
    if !workspace::is_root() {
        return Ok(missing("debootstrap and chroot need root"));
    }
    if workspace::find_on_path("debootstrap").is_none()
        && let Availability::Missing(reason) = install::packages(&["debootstrap"])?
    {
        return Ok(Availability::Missing(reason));
    }
    if process::output(Command::new("unshare").args(["--mount", "true"])).is_err() {
        return Ok(missing("this container may not make mount namespaces"));
    }
    let mirror = mirror()?;
    eprintln!("fetching a minimal Debian {SUITE} with RabbitMQ 4 (about 150 MB) from {mirror}");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
    }
    fs::create_dir_all(&root)?;
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", "--include=rabbitmq-server", SUITE]).arg(&root).arg(&mirror);
    let log = workspace::target_dir().join("rabbitmq-4.log");
    let file = fs::File::create(&log)?;
    debootstrap.stdout(file.try_clone()?).stderr(file);
    process::run(&mut debootstrap).with_context(|| format!("see {}", log.display()))?;
    fs::write(root.join(".complete"), "")?;
    Ok(Availability::Ready)
}

/// Starts RabbitMQ 4.
pub fn start() -> Result<Running> {
    let node = Node::start("RabbitMQ 4", &Chroot { root: root() }, &[])?;
    Ok(Running {
        variables: vec![
            ("SPRINGTIDE_TEST_AMQP4_URL", node.url()),
            ("SPRINGTIDE_TEST_RABBITMQCTL4", node.ctl.display().to_string()),
        ],
        keep: Box::new(node),
    })
}

fn root() -> PathBuf {
    workspace::target_dir().join("rabbitmq-4")
}

fn missing(reason: &str) -> Availability {
    Availability::Missing(reason.to_owned())
}

/// The mirror that this machine takes its own packages from.
fn mirror() -> Result<String> {
    let targets = process::output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(ORIGIN) $(LABEL) $(SITE)",
        "Created-By: Packages",
    ]))?;
    let site = targets.lines().find_map(|line| line.strip_prefix("Debian Debian "));
    match site {
        Some(site) => Ok(site.trim().to_owned()),
        None => bail!("apt knows no mirror of Debian"),
    }
}

struct Chroot {
    root: PathBuf,
}

impl Installation for Chroot {
    fn words(&self, program: &str, dir: &Path) -> Vec<String> {
        let text = |path: &Path| path.display().to_string();
        let enter = ["unshare", "--mount", "sh", "-c", ENTER, "enter"].map(str::to_owned);
        enter
            .into_iter()
            .chain([text(&self.root), text(dir), format!("/usr/lib/rabbitmq/bin/{program}")])
            .collect()
    }

    fn seen(&self, _dir: &Path) -> PathBuf {
        MOUNT.into()
    }
}
