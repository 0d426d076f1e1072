//! `fades push`: a signed function into a registry or a layout folder.

use std::path::PathBuf;

use fades_registry::function::{About, Artifact, Under, platform, push};
use fades_registry::reference::{Reference, Tag, Which};
use fades_task::identity::Name;
use fades_task::quantity::Size;
use fades_trust::envelope::{Envelope, PayloadType};
use fades_trust::function::{FunctionStatement, sign_function};
use serde_json::json;

use super::place::{Open, PlaceChoice, problem};
use crate::ask::render;
use crate::cli::shared::Output;
use crate::keys::file;
use crate::keys::image::{self, ImageFile, envelope_path};
use crate::problem::{Attempt, Outcome, Problem};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The image that `fades build` made
    image: PathBuf,
    /// Where to: HOST/REPOSITORY:TAG, or oci:FOLDER:TAG
    to: Reference,
    /// Under this name instead of the image's own
    #[arg(long = "as", value_name = "NAME")]
    name: Option<Name>,
    /// Sign with this key: a name in your configuration, or a file
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// The signature that `fades sign` made, instead of signing now; the .dsse file
    /// beside the image otherwise
    #[arg(long, value_name = "FILE", conflicts_with_all = ["key", "name"])]
    envelope: Option<PathBuf>,
    /// Put it into an index with the same function for other processors
    #[arg(long)]
    index: bool,
    #[command(flatten)]
    place: PlaceChoice,
    #[command(flatten)]
    output: Output,
}

/// Carries out `fades push`.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let Which::Tag(tag) = &args.to.which else {
        return Err(Problem::new(format!("cannot push to {}", args.to))
            .reason("a digest says what is there already")
            .remedy(format!(
                "name a tag: fades push IMAGE {}:1.0",
                args.to.place
            )));
    };
    let image = image::read(&args.image, args.name.as_ref())?;
    let envelope = envelope(args, &image, session)?;
    let statement = image.statement.clone();
    let artifact = artifact(args, image, envelope.to_json().into_bytes())?;
    let shelf = args.place.open(&args.to, Open::Making, session)?;
    let under = if args.index { Under::Index } else { Under::Tag };
    let digest = push(shelf.as_ref(), &artifact, tag, under)
        .map_err(|e| problem("push to", &args.to, &e))?;
    let FunctionStatement {
        name,
        digest: image,
        ..
    } = statement;
    let key = envelope.key.short();
    session.talk(&format!(
        "pushed {name}, signed by key {key}, to {}",
        args.to
    ));
    session.data(&match args.output.json() {
        true => render::json(&json!({
            "reference": args.to.to_string(),
            "manifest": digest,
            "name": name,
            "image": image,
            "found-by": Tag::of_image(image).as_str(),
        })),
        false => format!("{}@{digest}\n", args.to.place),
    })?;
    Ok(Outcome::Done)
}

/// The signature that is pushed along: nothing takes a function without one.
fn envelope(args: &Args, image: &ImageFile, session: &Session) -> Result<Envelope, Problem> {
    if let Some(key) = &args.key {
        let key = file::read_secret(&file::secret_path(key, session)?)?;
        return Ok(sign_function(&image.statement, &key));
    }
    let beside = envelope_path(&args.image);
    let path = match &args.envelope {
        Some(path) => path.clone(),
        None if beside.is_file() && args.name.is_none() => beside,
        None => {
            let again = args.image.display();
            return Err(Problem::new("no signature to push along")
                .reason("a node takes no function without one")
                .remedy(format!("fades push {again} {} --key NAME", args.to)));
        }
    };
    let cannot = || format!("cannot use {} as the signature", path.display());
    let bytes = std::fs::read(&path).or_problem(cannot)?;
    let envelope = Envelope::parse(&bytes).or_problem(cannot)?;
    if envelope.payload_type != PayloadType::Function.as_str() {
        return Err(Problem::new(cannot()).reason("it is that of something else"));
    }
    let signed: FunctionStatement = serde_json::from_slice(&envelope.payload).or_problem(cannot)?;
    if signed.digest != image.statement.digest {
        return Err(Problem::new(cannot())
            .reason(format!(
                "it is about {}, the image is {}",
                signed.digest, image.statement.digest
            ))
            .remedy(format!("fades sign {}", args.image.display())));
    }
    Ok(envelope)
}

fn artifact(args: &Args, image: ImageFile, envelope: Vec<u8>) -> Result<Artifact, Problem> {
    let statement = &image.statement;
    let about = About {
        name: statement.name.clone(),
        abi: format!("{}.{}", statement.abi_major, statement.abi_minor),
        format: "fades-elf".to_owned(),
        architecture: statement.architecture.to_string(),
        memory: image.memory.map(Size),
        stack: Size(image.stack),
        checkpoints: image.checkpoints,
    };
    let materials = args.image.with_extension("cdx.json");
    let materials = match materials.is_file() {
        true => {
            let cannot = || format!("cannot read {}", materials.display());
            let text = std::fs::read_to_string(&materials).or_problem(cannot)?;
            // One that lies beside another image would be worse than none.
            let hash = statement.digest.to_string().replace("sha256:", "");
            text.contains(&hash).then(|| text.into_bytes())
        }
        false => None,
    };
    Ok(Artifact {
        annotations: about.annotations(),
        platform: Some(platform(&about.architecture)),
        symbols: image.symbols.map(String::into_bytes),
        image: image.bytes,
        signatures: vec![envelope],
        materials: materials.into_iter().collect(),
    })
}
