//! Registries and layout folders, as the command line reaches them.

use std::path::{Path, PathBuf};

use clap::Args;
use fades_outside::client::Means;
use fades_outside::connection::Tls;
use fades_outside::dial::Dial;
use fades_outside::secret::Secrets;
use fades_registry::RegistryError;
use fades_registry::layout::Layout;
use fades_registry::reference::{Place, Reference};
use fades_registry::remote::{Elsewhere, Login, Logins, Remote, Way};
use fades_registry::shelf::Shelf;

use crate::problem::{Attempt, Problem};
use crate::session::Session;

/// How a registry is reached.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PlaceChoice {
    /// The CA of the registry's certificate
    #[arg(long, value_name = "FILE", help_heading = "Registry")]
    registry_ca: Option<PathBuf>,
    /// Where other tools keep passwords for registries
    /// [default: $REGISTRY_AUTH_FILE, ~/.config/containers/auth.json, or
    /// ~/.docker/config.json]
    #[arg(long, value_name = "FILE", help_heading = "Registry")]
    auth_file: Option<PathBuf>,
}

/// Whether a place may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Open {
    /// It has to be there.
    There,
    /// A folder is made when it is not there.
    Making,
}

impl PlaceChoice {
    /// The place that `reference` names; a registry is not asked yet.
    pub(crate) fn open(
        &self,
        reference: &Reference,
        open: Open,
        session: &Session,
    ) -> Result<Box<dyn Shelf>, Problem> {
        let cannot = || format!("cannot use {reference}");
        match &reference.place {
            Place::Layout(folder) => {
                let layout = match open {
                    Open::There => Layout::open(folder),
                    Open::Making => Layout::create(folder),
                };
                Ok(Box::new(layout.or_problem(cannot)?))
            }
            Place::Registry { origin, repository } => {
                let way = self.way(origin, session)?;
                let means = Means {
                    secrets: Secrets::new(Path::new(""), None),
                    dial: Dial::Direct,
                };
                let remote = Remote::new(way, repository.clone(), &means, &[]);
                Ok(Box::new(remote.or_problem(cannot)?))
            }
        }
    }

    fn way(&self, origin: &str, session: &Session) -> Result<Way, Problem> {
        let ca = self.registry_ca.as_ref().map(|ca| Tls {
            ca_file: Some(ca.to_string_lossy().into_owned()),
            ..Tls::default()
        });
        Ok(Way {
            origin: origin.to_owned(),
            login: self.login(origin, session)?,
            tls: ca,
            agent: format!("fades/{}", env!("CARGO_PKG_VERSION")),
            elsewhere: Elsewhere::Anywhere,
        })
    }

    fn login(&self, origin: &str, session: &Session) -> Result<Option<Login>, Problem> {
        let cannot = || format!("cannot tell the password for {origin}");
        let env = &session.env;
        let home = |file: &str| env.home.as_ref().map(|h| h.join(file));
        // A file that somebody named has to be there, the usual ones may be.
        let named = self.auth_file.clone().or_else(|| env.registry_auth.clone());
        let usual = [".config/containers/auth.json", ".docker/config.json"];
        let usual = usual.into_iter().filter_map(home).filter(|f| f.is_file());
        for path in named.into_iter().chain(usual) {
            let logins = Logins::read(&path).or_problem(cannot)?;
            let login = logins.of(origin, &path).or_problem(cannot)?;
            if login.is_some() {
                return Ok(login);
            }
        }
        Ok(None)
    }
}

/// What could not be done with `reference`; that there is nothing is an answer.
pub(crate) fn problem(doing: &str, reference: &Reference, e: &RegistryError) -> Problem {
    let what = format!("cannot {doing} {reference}");
    let problem = match e {
        RegistryError::Missing { .. }
        | RegistryError::Changed { .. }
        | RegistryError::NoFunction { .. }
        | RegistryError::Architecture { .. } => Problem::refused(what),
        _ => Problem::new(what),
    };
    problem.because(e)
}
