//! What takes too long for the driver's thread: making shells and templates,
//! and seeing them off.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use fades_task::message::TemplateRequest;

use super::templates::Key;
use super::{Kind, News, ShellId};
use crate::cgroup::Groups;
use crate::config::NodeConfig;
use crate::driver::Input;
use crate::shell::{Shell, ShellError, Template};
use crate::store::{Store, StoreError};

/// Threads that make: so many that one tender that is slow does not keep all
/// others from being made.
const MAKERS: usize = 2;

/// Something to make.
#[derive(Debug)]
pub(super) enum Order {
    Shell(Kind),
    Template {
        key: Key,
        request: TemplateRequest,
        number: u64,
    },
}

/// Why there is no template.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TemplateError {
    /// The image is not what it should be, or not there.
    #[error(transparent)]
    Image(#[from] StoreError),
    #[error(transparent)]
    Shell(#[from] ShellError),
}

impl TemplateError {
    /// Whether it may well succeed a little later.
    pub(super) fn is_shortage(&self) -> bool {
        match self {
            Self::Shell(error) => error.is_shortage(),
            Self::Image(StoreError::File { source, .. }) => crate::shell::is_shortage(source),
            Self::Image(_) => false,
        }
    }
}

/// A shell to see off.
#[derive(Debug)]
pub(super) struct Farewell {
    pub(super) id: ShellId,
    pub(super) shell: Shell,
    /// What is known of its end.
    pub(super) said: String,
    /// How it ends matters: it is given the time to do so itself.
    pub(super) patient: bool,
}

/// The threads. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Workers {
    orders: Sender<Order>,
    farewells: Sender<Farewell>,
}

#[derive(Debug, Clone)]
struct Workshop {
    program: PathBuf,
    simd: u32,
    groups: Arc<Groups>,
    store: Arc<Store>,
    inputs: Sender<Input>,
}

impl Workers {
    pub(super) fn start(
        config: &NodeConfig,
        groups: Arc<Groups>,
        store: &Arc<Store>,
        inputs: &Sender<Input>,
    ) -> io::Result<Self> {
        let (orders, receiver) = channel();
        let receiver = Arc::new(Mutex::new(receiver));
        let workshop = Workshop {
            program: config.tender.clone(),
            simd: config.simd,
            groups,
            store: Arc::clone(store),
            inputs: inputs.clone(),
        };
        for n in 0..MAKERS {
            let (workshop, receiver) = (workshop.clone(), Arc::clone(&receiver));
            std::thread::Builder::new()
                .name(format!("maker {n}"))
                .spawn(move || workshop.work(&receiver))?;
        }
        let (farewells, leaving) = channel();
        let inputs = inputs.clone();
        std::thread::Builder::new()
            .name("reaper".to_owned())
            .spawn(move || see_off(leaving, &inputs))?;
        Ok(Self { orders, farewells })
    }

    pub(super) fn order(&self, order: Order) {
        // The makers end after this does.
        let _ = self.orders.send(order);
    }

    pub(super) fn see_off(&self, farewell: Farewell) {
        // As above. Otherwise it is dropped, which ends it as well.
        let _ = self.farewells.send(farewell);
    }
}

impl Workshop {
    fn work(&self, orders: &Mutex<Receiver<Order>>) {
        loop {
            let order = orders.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(order) = order else {
                return;
            };
            let news = match order {
                Order::Shell(kind) => News::Shell {
                    kind,
                    made: self.shell(kind),
                },
                Order::Template {
                    key,
                    request,
                    number,
                } => News::Template {
                    made: self.template(&key, &request, number),
                    key,
                },
            };
            if self.inputs.send(Input::Pool(news)).is_err() {
                return;
            }
        }
    }

    fn shell(&self, kind: Kind) -> Result<Shell, ShellError> {
        let group = self.groups.make()?;
        Shell::make_in(&self.program, kind.isolation, kind.class, self.simd, group)
    }

    fn template(
        &self,
        key: &Key,
        request: &TemplateRequest,
        number: u64,
    ) -> Result<Template, TemplateError> {
        let images = self.store.images();
        let image = images.read(key.image)?;
        let symbols = images.symbols(key.image);
        let symbols = symbols.as_deref();
        Ok(Template::make(
            &self.program,
            &image,
            symbols,
            request,
            number,
        )?)
    }
}

fn see_off(leaving: Receiver<Farewell>, inputs: &Sender<Input>) {
    for farewell in leaving {
        if !farewell.patient {
            farewell.shell.child().kill();
        }
        let how = farewell.shell.end(farewell.said);
        let shell = farewell.id;
        if inputs.send(Input::Pool(News::Gone { shell, how })).is_err() {
            return;
        }
    }
}
