//! Tokens, lists of referrers, and blobs that are elsewhere.

use fades_registry::RegistryError;
use fades_registry::function::{Under, look, pull, push};
use fades_registry::reference::Which;
use fades_registry::remote::{Elsewhere, Remote};

use crate::stub::{Stub, TOKEN};
use crate::{artifact, login, repository};

fn at(stub: &Stub, elsewhere: Elsewhere) -> Remote {
    let folder = tempfile::tempdir().unwrap();
    repository(&stub.origin, login(), elsewhere, folder.path())
}

fn tag() -> Which {
    Which::Tag("1.0".parse().unwrap())
}

#[test]
fn a_registry_that_wants_tokens_gets_them_and_its_issuer_the_password() {
    let (registry, issuer) = (Stub::start(), Stub::start());
    registry.state.lock().unwrap().realm = Some(format!("{}/token", issuer.origin));
    let shelf = at(&registry, Elsewhere::Only(vec![issuer.origin.clone()]));
    let pushed = artifact(b"image");
    push(&shelf, &pushed, &"1.0".parse().unwrap(), Under::Tag).unwrap();
    let mut pulled = pull(&shelf, &tag(), "x86-64").unwrap();
    pulled.platform.clone_from(&pushed.platform);
    pulled.signatures.sort();
    assert_eq!(pulled, pushed);
    // The list of the registry was used, and none made under a tag.
    assert!(
        !registry
            .authorizations("GET /v2/air/summary/referrers/")
            .is_empty()
    );
    assert!(
        registry
            .authorizations("PUT /v2/air/summary/manifests/sha256-")
            .is_empty()
    );
    let said = registry.authorizations("");
    assert!(
        said.iter()
            .all(|s| s.is_empty() || s == &format!("Bearer {TOKEN}")),
        "{said:?}"
    );
    assert!(
        issuer
            .authorizations("GET /token")
            .iter()
            .all(|s| s.starts_with("Basic "))
    );
}

#[test]
fn an_issuer_that_was_not_named_gets_nothing() {
    let (registry, issuer) = (Stub::start(), Stub::start());
    registry.state.lock().unwrap().realm = Some(format!("{}/token", issuer.origin));
    let error = look(
        &at(&registry, Elsewhere::Only(Vec::new())),
        &tag(),
        "x86-64",
    )
    .unwrap_err();
    assert!(
        matches!(&error, RegistryError::Elsewhere { to, .. } if *to == issuer.origin),
        "{error}"
    );
    assert!(issuer.authorizations("").is_empty());
}

#[test]
fn blobs_elsewhere_are_fetched_without_saying_who_one_is() {
    let (registry, store) = (Stub::start(), Stub::start());
    let shelf = at(&registry, Elsewhere::Anywhere);
    let pushed = artifact(b"image");
    push(&shelf, &pushed, &"1.0".parse().unwrap(), Under::Tag).unwrap();
    {
        let mut registry = registry.state.lock().unwrap();
        store
            .state
            .lock()
            .unwrap()
            .things
            .clone_from(&registry.things);
        registry.blobs_at = Some(store.origin.clone());
        registry.realm = Some(format!("{}/token", store.origin));
    }
    let pulled = pull(&at(&registry, Elsewhere::Anywhere), &tag(), "x86-64").unwrap();
    assert_eq!(pulled.image, pushed.image);
    let blobs = store.authorizations("GET /store/");
    assert!(
        !blobs.is_empty() && blobs.iter().all(String::is_empty),
        "{blobs:?}"
    );
    let issuer_only = Elsewhere::Only(vec!["http://127.0.0.1:1".to_owned()]);
    registry.state.lock().unwrap().realm = None;
    let error = pull(&at(&registry, issuer_only), &tag(), "x86-64").unwrap_err();
    assert!(matches!(error, RegistryError::Elsewhere { .. }), "{error}");
}

#[test]
fn a_registry_that_sends_one_in_circles_is_given_up() {
    let registry = Stub::start();
    let shelf = at(&registry, Elsewhere::Anywhere);
    push(
        &shelf,
        &artifact(b"image"),
        &"1.0".parse().unwrap(),
        Under::Tag,
    )
    .unwrap();
    // What is at `/v2/air/summary/blobs/store/DIGEST` is at `…/store/store/DIGEST`.
    let round = format!("{}/v2/air/summary/blobs", registry.origin);
    registry.state.lock().unwrap().blobs_at = Some(round);
    let error = pull(&shelf, &tag(), "x86-64").unwrap_err();
    assert!(
        matches!(error, RegistryError::Status { status: 307, .. }),
        "{error}"
    );
    assert!(registry.authorizations("GET /v2/air/summary/blobs/").len() <= 4);
}

#[test]
fn what_a_registry_repeats_of_a_token_is_not_shown() {
    let registry = Stub::start();
    {
        let mut state = registry.state.lock().unwrap();
        state.realm = Some(format!("{}/token", registry.origin));
        state.said = Some("you said {} and rosebud");
    }
    let error = look(&at(&registry, Elsewhere::Anywhere), &tag(), "x86-64").unwrap_err();
    let words = error.to_string();
    assert!(
        words.contains("[secret]") && !words.contains(TOKEN),
        "{words}"
    );
    assert!(!words.contains("rosebud"), "{words}");
}
