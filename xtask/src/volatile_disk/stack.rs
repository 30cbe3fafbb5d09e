//! A real ext4 on a loop device on the volatile disk's file, attached and taken apart as a whole.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags};

use crate::failure::{Failure, Result, While as _};
use crate::time::poll_until;

/// How long the kernel may take to let a mount or a loop device go.
const RELEASE_LIMIT: Duration = Duration::from_secs(30);

/// A loop device with ext4 mounted at a directory. Dropping it unmounts, lazily if it must.
#[derive(Debug)]
pub(super) struct Stack {
    device: PathBuf,
    mountpoint: PathBuf,
    mounted: bool,
}

impl Stack {
    /// Attaches `image` to a free loop device, with an empty ext4 first if `format`, and mounts it.
    ///
    /// No file system check is run: as after a real power cut the kernel replays ext4's journal.
    pub(super) fn attach(image: &Path, mountpoint: &Path, format: bool) -> Result<Self> {
        let mut attach = Command::new("losetup");
        attach.args(["--find", "--show", "--direct-io=off"]).arg(image);
        let device = PathBuf::from(run(&mut attach)?.trim());
        let mut stack = Self { device, mountpoint: mountpoint.to_owned(), mounted: false };
        if format {
            // Nothing of the file system's own making may be left to a later, lazy write.
            let options = "nodiscard,lazy_itable_init=0,lazy_journal_init=0";
            let mut format = Command::new("mkfs.ext4");
            format.args(["-q", "-F", "-E", options, "-O", "^resize_inode"]);
            // Small tables and a small journal: whatever is written takes memory.
            format.args(["-N", "8192", "-J", "size=16", "-m", "0"]).arg(&stack.device);
            run(&mut format)?;
        }
        rustix::mount::mount(&stack.device, mountpoint, "ext4", MountFlags::empty(), None)
            .when(format_args!("mounting {}", stack.device.display()))?;
        stack.mounted = true;
        if mounted_from(mountpoint)? != Some(stack.device.clone()) {
            return Err(Failure::Broken("the disk's ext4 is not where it was mounted".to_owned()));
        }
        Ok(stack)
    }

    /// Unmounts and detaches; afterwards the mount point is an ordinary empty directory.
    ///
    /// # Errors
    /// [`Failure::Broken`] if something still uses the mount or the device after 30 s.
    pub(super) fn detach(mut self) -> Result<()> {
        let mut last = None;
        let gone = poll_until(RELEASE_LIMIT, || {
            last = rustix::mount::unmount(&self.mountpoint, UnmountFlags::empty()).err();
            last.is_none()
        });
        if let (false, Some(error)) = (gone, last) {
            return Err(Failure::broken("unmounting the disk's ext4", error));
        }
        self.mounted = false;
        run(Command::new("losetup").arg("--detach").arg(&self.device))?;
        if !poll_until(RELEASE_LIMIT, || !is_attached(&self.device)) {
            return Err(Failure::Broken(format!("{} stays attached", self.device.display())));
        }
        self.device = PathBuf::new();
        match mounted_from(&self.mountpoint)? {
            None => Ok(()),
            Some(_) => Err(Failure::Broken("the disk's ext4 is still mounted".to_owned())),
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if self.mounted {
            rustix::mount::unmount(&self.mountpoint, UnmountFlags::DETACH).ok();
        }
        if !self.device.as_os_str().is_empty() {
            // With a lazy unmount pending the device goes when its last user does.
            run(Command::new("losetup").arg("--detach").arg(&self.device)).ok();
        }
    }
}

/// The device mounted at a directory, if one is.
fn mounted_from(mountpoint: &Path) -> Result<Option<PathBuf>> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").when("reading mountinfo")?;
    Ok(table.lines().rev().find_map(|line| {
        let (place, source) = line.split_once(" - ")?;
        (Path::new(place.split(' ').nth(4)?) == mountpoint)
            .then(|| source.split(' ').nth(1).map(PathBuf::from))
            .flatten()
    }))
}

fn is_attached(device: &Path) -> bool {
    let name = device.file_name().unwrap_or_default();
    Path::new("/sys/block").join(name).join("loop/backing_file").exists()
}

/// Runs a tool and gives what it printed; its complaint is the error.
fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().when(format_args!("running {name}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(Failure::Broken(format!("{name} ended with {}: {}", output.status, complaint.trim())))
}
