//! One thread hears all shells.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fades_task::message::TenderReport;
use fades_wire::{Arrival, Channel, Inbox};
use rustix::event::epoll;
use rustix::event::{EventfdFlags, eventfd};

use super::{News, ShellId};
use crate::driver::Input;

/// Number of the descriptor that ends the thread; no shell has it.
const END: u64 = u64::MAX;

/// Channels that one look may find something on; more are found by the next.
const READY_MAX: usize = 64;

/// Where the reports of each shell are put together.
type Inboxes = Mutex<HashMap<u64, (Arc<Channel>, Inbox)>>;

/// Passes on what shells say, until each has left. Ends when dropped.
#[derive(Debug)]
pub(super) struct Listener {
    shared: Arc<Ears>,
}

#[derive(Debug)]
struct Ears {
    epoll: OwnedFd,
    end: OwnedFd,
    inboxes: Inboxes,
}

impl Ears {
    fn inboxes(&self) -> MutexGuard<'_, HashMap<u64, (Arc<Channel>, Inbox)>> {
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener {
    pub(super) fn start(inputs: Sender<Input>) -> io::Result<Self> {
        let ears = Arc::new(Ears {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            end: eventfd(0, EventfdFlags::CLOEXEC)?,
            inboxes: Mutex::default(),
        });
        let data = epoll::EventData::new_u64(END);
        epoll::add(&ears.epoll, &ears.end, data, epoll::EventFlags::IN)?;
        let listener = Self {
            shared: Arc::clone(&ears),
        };
        std::thread::Builder::new()
            .name("shells".to_owned())
            .spawn(move || listen(&ears, &inputs))?;
        Ok(listener)
    }

    /// Hears a shell from now on, until it has left.
    pub(super) fn add(&self, shell: ShellId, channel: &Arc<Channel>) -> io::Result<()> {
        let heard = (Arc::clone(channel), Inbox::default());
        self.shared.inboxes().insert(shell.0, heard);
        let data = epoll::EventData::new_u64(shell.0);
        let fd = channel.as_fd();
        let added = epoll::add(&self.shared.epoll, fd, data, epoll::EventFlags::IN);
        if added.is_err() {
            self.shared.inboxes().remove(&shell.0);
        }
        Ok(added?)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // It has room for far more than one.
        let _ = rustix::io::write(&self.shared.end, &1_u64.to_ne_bytes());
    }
}

fn listen(ears: &Ears, inputs: &Sender<Input>) {
    let mut ready = Vec::with_capacity(READY_MAX);
    loop {
        ready.clear();
        match epoll::wait(
            &ears.epoll,
            rustix::buffer::spare_capacity(&mut ready),
            None,
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // It fails for no other reason than wrong arguments.
            Err(_) => return,
        }
        for event in &ready {
            let number = event.data.u64();
            if number == END || !hear(ears, number, inputs) {
                return;
            }
        }
    }
}

/// Passes one report on; `false` when nobody wants any more.
fn hear(ears: &Ears, number: u64, inputs: &Sender<Input>) -> bool {
    let mut inboxes = ears.inboxes();
    let Some((channel, inbox)) = inboxes.get_mut(&number) else {
        return true;
    };
    let shell = ShellId(number);
    let (said, unread) = match inbox.take::<TenderReport>(channel) {
        Ok(Arrival::Nothing) => return true,
        Ok(Arrival::Frame(frame)) => {
            let (report, blob) = (frame.message, frame.blob);
            let news = News::Said {
                shell,
                report,
                blob,
            };
            return inputs.send(Input::Pool(news)).is_ok();
        }
        Ok(Arrival::End { unread }) => (String::new(), unread),
        Err(e) => (crate::api::problem::chain(&e), false),
    };
    // Nothing else keeps the descriptor in the set when this fails.
    let _ = epoll::delete(&ears.epoll, channel.as_fd());
    inboxes.remove(&number);
    drop(inboxes);
    let news = News::Left {
        shell,
        said,
        unread,
    };
    inputs.send(Input::Pool(news)).is_ok()
}
