//! `fades publish`: signs a function and uploads it to a node.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fades_orc::api::types::{FunctionInfo, Publish};
use fades_task::identity::Name;
use fades_trust::function::sign_function;
use fades_trust::key::SecretKey;
use hyper::{Method, StatusCode};

use crate::ask::client::Client;
use crate::ask::render;
use crate::cli::shared::{NodeChoice, Output};
use crate::keys::file;
use crate::keys::image;
use crate::problem::{Attempt, Outcome, Problem};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The image that `fades build` made
    image: PathBuf,
    /// Under this name instead of the image's own
    #[arg(long = "as", value_name = "NAME")]
    name: Option<Name>,
    /// Sign with this key: a name in your configuration, or a file
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// The signature that `fades sign` made, instead of signing now
    #[arg(long, value_name = "FILE", conflicts_with_all = ["key", "name"])]
    envelope: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    node: NodeChoice,
}

/// Carries out `fades publish`.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let image = image::read(&args.image, args.name.as_ref())?;
    let client = Client::find(&args.node, session)?;
    let envelope = match &args.envelope {
        Some(path) => std::fs::read_to_string(path)
            .or_problem(|| format!("cannot read {}", path.display()))?,
        None => sign_function(&image.statement, &key(args, &client, session)?).to_json(),
    };
    let (info, again) = upload(&image.bytes, image.symbols, envelope, &client)?;
    let node = &client.target.name;
    session.talk(&match again {
        true => format!("node {node} had {} already", info.name),
        false => format!(
            "node {node} has {} now, signed by {}",
            info.name, info.signer
        ),
    });
    match args.output.json() {
        true => session.data(&render::json(&info))?,
        false => session.data(&format!("{}@{}\n", info.name, info.digest))?,
    }
    Ok(Outcome::Done)
}

/// The key named, or the one that the node's configuration names.
fn key(args: &Args, client: &Client, session: &Session) -> Result<SecretKey, Problem> {
    match (&args.key, &client.target.publish_key) {
        (Some(given), _) => file::read_secret(&file::secret_path(given, session)?),
        (None, Some(path)) => file::read_secret(path),
        (None, None) => Err(Problem::new("no key to sign the function with")
            .remedy("fades publish IMAGE --key NAME")),
    }
}

/// Uploads; whether the node had it before.
pub(super) fn upload(
    image: &[u8],
    symbols: Option<String>,
    envelope: String,
    client: &Client,
) -> Result<(FunctionInfo, bool), Problem> {
    let body = Publish {
        envelope,
        image: STANDARD.encode(image),
        symbols,
    };
    let body = serde_json::to_vec(&body).or_problem(|| "cannot write the request".to_owned())?;
    let reply = client.send(
        Method::POST,
        "/v1/functions",
        body.into(),
        "application/json",
    )?;
    Ok((reply.read()?, reply.status != StatusCode::CREATED))
}
