//! Leaves nothing behind: watches over the process that measures.
//!
//! When it ends, by itself, by a failure or because it was told to (Ctrl-C),
//! every process that it started is ended and waited for (they become children
//! of this one, a *subreaper*), and its folder and its control group are taken
//! away. Mounts are in a namespace of its own, which ends with it.

use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::time::Duration;

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, pidfd_send_signal,
    set_child_subreaper, wait,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::Arguments;
use crate::bench::wait_until;
use crate::fault::Fault;
use crate::processes::children;
use crate::{WORKER, cgroup};

/// Processes that were killed are gone within this time.
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// As a shell says it of a program that was told to end.
const INTERRUPTED: u8 = 130;

/// Has the figures taken by a process of its own; its exit code.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Fault> {
    let us = std::process::id();
    let folder = arguments.out.join(format!("run-{us}"));
    std::fs::create_dir_all(&folder).map_err(Fault::file(&folder, "make"))?;
    let cleared = Cleared { folder };
    let own = rustix::process::getpid();
    set_child_subreaper(Some(own)).map_err(Fault::system("adopt orphans"))?;
    let me = std::env::current_exe().map_err(Fault::system("find this program"))?;
    let worker = Command::new(me)
        .arg(WORKER)
        .arg(&cleared.folder)
        .args(arguments.words())
        .spawn()
        .map_err(Fault::system("start the process that measures"))?;
    let code = watch(worker)?;
    drop(cleared);
    Ok(code)
}

/// What is taken away at the end, in any case.
struct Cleared {
    folder: PathBuf,
}

impl Drop for Cleared {
    fn drop(&mut self) {
        let left = || children(std::process::id());
        wait_until(GONE_WITHIN, || {
            let pids = left().into_iter().map(u32::cast_signed);
            for pid in pids.filter_map(Pid::from_raw) {
                // It may have ended meanwhile.
                let _ = kill_process(pid, Signal::KILL);
            }
            while matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {}
            left().is_empty()
        });
        cgroup::remove(std::process::id());
        if let Err(e) = std::fs::remove_dir_all(&self.folder) {
            eprintln!("left behind: {}: {e}", self.folder.display());
        }
    }
}

/// Waits for the worker, and ends it when told to end.
fn watch(worker: Child) -> Result<ExitCode, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Fault::system("wait for signals"))?;
    let pidfd = pidfd_open(Pid::from_child(&worker), PidfdFlags::empty())
        .map_err(Fault::system("watch the process that measures"))?;
    runtime.block_on(async {
        let told = |kind| signal(kind).map_err(Fault::system("wait for signals"));
        let (mut interrupt, mut terminate) = (
            told(SignalKind::interrupt())?,
            told(SignalKind::terminate())?,
        );
        let mut hangup = told(SignalKind::hangup())?;
        let ended = waited_for(worker);
        tokio::pin!(ended);
        tokio::select! {
            status = &mut ended => return status.map(code),
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        // It is gone already, or will be.
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
        ended.await.map(|_| ExitCode::from(INTERRUPTED))
    })
}

async fn waited_for(mut worker: Child) -> Result<ExitStatus, Fault> {
    let (sender, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || sender.send(worker.wait()));
    let lost = |_| std::io::Error::other("the thread that waits has ended");
    let ended = ended.await.map_err(lost).flatten();
    ended.map_err(Fault::system("wait for the process that measures"))
}

fn code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    if code.is_none() {
        eprintln!("error: the process that measures ended with {status}");
    }
    ExitCode::from(code.unwrap_or(crate::FAILED))
}
