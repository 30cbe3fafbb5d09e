//! A disk whose unsynced writes vanish at a power cut, with a real ext4 on it.
//!
//! A file system of one file is served over FUSE; the file's writes are volatile until a sync
//! reaches it. A loop device on that file carries ext4, and the store under test runs there. So a
//! missing sync shows in every write mode, direct I/O included, which an ordinary file as backing
//! cannot show: there every write that left the process counts as safe.
//!
//! A sync takes as long as on a real disk, so that cuts fall into it. At a cut each unsynced 512-byte sector survives with a given probability (0: all gone, 1: a kind
//! disk, 0.5: torn writes). Until the power is back writes are dropped and syncs fail. It can also hang, at once or at a write that bears a mark, and fail one
//! request: then the next ones succeed, as a disk's do.

mod process;
mod sectors;
mod serve;
mod stack;
mod wire;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

pub use process::run;
pub use sectors::{Cut, Fault, Mark, SECTOR};

use crate::failure::{Failure, Result, While as _};
use process::{Order, Reply};

/// How long the disk's process may take over one command.
const COMMAND_LIMIT: Duration = Duration::from_secs(90);

/// Says why there can be no volatile disk here, if so.
pub fn missing_means() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("a volatile disk needs root to mount".to_owned());
    }
    for device in ["/dev/fuse", "/dev/loop-control"] {
        if let Err(error) = std::fs::File::options().read(true).write(true).open(device) {
            return Some(format!("a volatile disk needs {device}: {error}"));
        }
    }
    for tool in ["losetup", "mkfs.ext4"] {
        if let Err(error) = Command::new(tool).arg("--version").output() {
            return Some(format!("a volatile disk needs {tool}: {error}"));
        }
    }
    None
}

/// A mounted disk in a process of its own. Dropping it takes everything apart.
#[derive(Debug)]
pub struct VolatileDisk {
    child: Child,
    orders: Option<ChildStdin>,
    replies: Receiver<String>,
    data: PathBuf,
    // Last, so that the directory goes after what is mounted in it.
    _directory: tempfile::TempDir,
}

impl VolatileDisk {
    /// Starts a disk of `size` bytes by the hidden command of this crate's binary, `xtask`.
    ///
    /// # Errors
    /// [`Failure::Broken`] if a means is missing or the mount fails.
    pub fn start(xtask: &Path, size: u64, seed: u64) -> Result<Self> {
        let directory =
            tempfile::Builder::new().prefix("forebay-disk-").tempdir().when("a directory")?;
        let mut child = Command::new(xtask)
            .arg("volatile-disk")
            .arg(directory.path())
            .args([size.to_string(), seed.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C reaches its user, who then lets it go in order.
            .process_group(0)
            .spawn()
            .when("starting the disk's process")?;
        let (sender, replies) = sync_channel(4);
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(std::result::Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        let orders = child.stdin.take();
        let data = directory.path().join("data");
        let disk = Self { child, orders, replies, data, _directory: directory };
        match disk.reply()? {
            Reply::Mounted => Ok(disk),
            other => Err(Failure::Broken(format!("the disk greets with {other:?}"))),
        }
    }

    /// Where its ext4 is mounted.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Cuts the power, now. Each unsynced sector survives with probability `survival`.
    ///
    /// # Errors
    /// [`Failure::Broken`] if the disk's process does not answer.
    pub fn cut(&mut self, survival: f64) -> Result<Cut> {
        match self.ask(Order::Cut { survival })? {
            Reply::Cut(cut) => Ok(cut),
            other => Err(Failure::Broken(format!("the disk answers a cut with {other:?}"))),
        }
    }

    /// Unmounts, detaches, gives the power back, attaches and mounts anew; each step is checked.
    /// Whoever uses the mount must be gone. Gives the number of sectors that the dead machine still had
    /// in memory: they came after the cut and are gone.
    ///
    /// # Errors
    /// [`Failure::Broken`] if the file system is in use or does not mount.
    pub fn power_on(&mut self) -> Result<u64> {
        match self.ask(Order::PowerOn)? {
            Reply::PoweredOn { late } => Ok(late),
            other => Err(Failure::Broken(format!("the disk answers power-on with {other:?}"))),
        }
    }

    /// Lets one request of a kind fail, after `after` more that succeed. There is one at a time.
    ///
    /// # Errors
    /// [`Failure::Broken`] if the disk's process does not answer.
    pub fn arm(&mut self, fault: Fault, after: u32) -> Result<()> {
        self.count(Order::Arm { fault, after }).map(drop)
    }

    /// How many requests have failed because they were to.
    ///
    /// # Errors
    /// [`Failure::Broken`] if the disk's process does not answer.
    pub fn failed(&mut self) -> Result<u64> {
        self.count(Order::Failed)
    }

    /// Lets every write and sync wait from now on, as a device that hangs does. Reads go on.
    ///
    /// # Errors
    /// [`Failure::Broken`] if the disk's process does not answer.
    pub fn hold(&mut self) -> Result<()> {
        self.count(Order::Hold).map(drop)
    }

    /// Hangs once a write that bears this mark, and `after` more writes and syncs, are performed.
    ///
    /// # Errors
    /// [`Failure::Broken`] if the disk's process does not answer.
    pub fn hold_at(&mut self, mark: Mark, after: u32) -> Result<()> {
        self.count(Order::HoldAt { mark, after }).map(drop)
    }

    /// Whether it came, and the disk hangs since. With `end` nothing is watched for any more.
    ///
    /// # Errors
    /// [`Failure::Broken`] if the disk's process does not answer.
    pub fn is_hit(&mut self, end: bool) -> Result<bool> {
        Ok(self.count(Order::IsHit { end })? > 0)
    }

    /// Performs what waited, and goes on. Says how many requests had waited.
    ///
    /// # Errors
    /// [`Failure::Broken`] if the disk's process does not answer.
    pub fn let_go(&mut self) -> Result<u64> {
        self.count(Order::LetGo)
    }

    /// Takes everything apart and checks that it went well.
    ///
    /// # Errors
    /// [`Failure::Broken`] if something still used the mount, or the process failed.
    pub fn stop(mut self) -> Result<()> {
        let status = self.close()?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::Broken(format!("the disk's process ended with {status}")))
    }

    fn ask(&mut self, order: Order) -> Result<Reply> {
        let mut line = serde_json::to_vec(&order).when("a command to the disk")?;
        line.push(b'\n');
        let Some(orders) = &mut self.orders else {
            return Err(Failure::Broken("the disk is closed".to_owned()));
        };
        orders.write_all(&line).when("a command to the disk")?;
        self.reply()
    }

    fn count(&mut self, order: Order) -> Result<u64> {
        match self.ask(order)? {
            Reply::Done(count) => Ok(count),
            other => Err(Failure::Broken(format!("the disk answers {order:?} with {other:?}"))),
        }
    }

    fn reply(&self) -> Result<Reply> {
        let line = self.replies.recv_timeout(COMMAND_LIMIT).when("the disk's answer")?;
        match serde_json::from_str(&line).when("the disk's answer")? {
            Reply::Failed(why) => Err(Failure::Broken(why)),
            reply => Ok(reply),
        }
    }

    /// Closes stdin and waits for the process, which takes everything apart first.
    fn close(&mut self) -> Result<std::process::ExitStatus> {
        self.orders = None;
        loop {
            match self.replies.recv_timeout(COMMAND_LIMIT) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    self.child.kill().when("ending the disk's process")?;
                    break;
                }
            }
        }
        self.child.wait().when("waiting for the disk's process")
    }
}

impl Drop for VolatileDisk {
    fn drop(&mut self) {
        if self.orders.is_some() {
            self.close().ok();
        }
        // Whatever a killed process left: without it these find nothing.
        for place in [self.data.clone(), self.data.with_file_name("disk")] {
            rustix::mount::unmount(place, rustix::mount::UnmountFlags::DETACH).ok();
        }
    }
}
