//! What a program is made of: a CycloneDX 1.5 document out of what cargo knows.
//!
//! The same sources give the same bytes: there is no time and no random number in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::cargo::{BuildError, metadata};

/// The target for which functions and programs are built.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What cargo says of a workspace, for bills of materials.
#[derive(Debug)]
pub struct Materials {
    packages: BTreeMap<String, Package>,
    /// By package, what is linked into it.
    linked: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    #[serde(default)]
    license: Option<String>,
    #[serde(default)]
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    /// `None`: linked. Others are for tests and for building.
    kind: Option<String>,
}

impl Package {
    /// Its package URL, by which others know it.
    fn purl(&self) -> String {
        // A version's build part has a character that is none of an address.
        format!(
            "pkg:cargo/{}@{}",
            self.name,
            self.version.replace('+', "%2B")
        )
    }

    fn component(&self) -> Value {
        let mut component = json!({
            "type": "library",
            "bom-ref": self.purl(),
            "name": self.name,
            "version": self.version,
        });
        if let Some(licence) = &self.license {
            // An older way to write the same.
            let expression = licence.replace('/', " OR ");
            component["licenses"] = json!([{ "expression": expression }]);
        }
        if self.source.is_some() {
            component["purl"] = json!(self.purl());
        }
        component
    }
}

impl Materials {
    /// Asks cargo about the package or workspace in `folder`.
    ///
    /// # Errors
    /// When cargo fails.
    pub fn of(folder: &Path) -> Result<Self, BuildError> {
        let known: Metadata = metadata(folder, &["--filter-platform", TARGET])?;
        let nodes = known.resolve.nodes.into_iter();
        let linked = nodes.map(|node| {
            let is_linked = |d: &Dependency| d.dep_kinds.iter().any(|k| k.kind.is_none());
            let linked = node.deps.into_iter().filter(is_linked);
            (node.id, linked.map(|d| d.pkg).collect())
        });
        let packages = known.packages.into_iter();
        Ok(Self {
            linked: linked.collect(),
            packages: packages.map(|p| (p.id.clone(), p)).collect(),
        })
    }

    /// The bill of a program: of the packages in `roots` (cargo's ids, or names) and of
    /// all that is linked into them. `program` is its name, with the SHA-256 of its file
    /// in hexadecimal when there is one file. `None` when a package is not known.
    #[must_use]
    pub fn bill(&self, roots: &[&str], program: (&str, Option<&str>)) -> Option<String> {
        let roots: Vec<&Package> = roots
            .iter()
            .map(|root| {
                let mut all = self.packages.values();
                all.find(|p| p.id == *root || (p.name == *root && p.source.is_none()))
            })
            .collect::<Option<_>>()?;
        let reached = self.reached(&roots);
        let purl = |id: &str| self.packages.get(id).map(Package::purl);
        let mut components: Vec<_> = reached
            .iter()
            .filter_map(|id| self.packages.get(*id))
            .collect();
        components.sort_by_key(|p| p.purl());
        let mut graph: Vec<_> = reached
            .iter()
            .map(|id| {
                let on: BTreeSet<_> = self.on(id).filter_map(purl).collect();
                (purl(id), on)
            })
            .collect();
        graph.sort();
        let (name, hash) = program;
        let mut whole = json!({
            "type": "application",
            "bom-ref": name,
            "name": name,
            "version": roots.first()?.version,
        });
        if let Some(hash) = hash {
            whole["hashes"] = json!([{ "alg": "SHA-256", "content": hash }]);
        }
        let top: BTreeSet<_> = roots.iter().map(|p| p.purl()).collect();
        let mut dependencies = vec![json!({ "ref": name, "dependsOn": top })];
        dependencies.extend(
            graph
                .iter()
                .map(|(of, on)| json!({ "ref": of, "dependsOn": on })),
        );
        let bill = json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": { "component": whole },
            "components": components.iter().map(|p| p.component()).collect::<Vec<_>>(),
            "dependencies": dependencies,
        });
        Some(format!("{bill:#}\n"))
    }

    fn on(&self, id: &str) -> impl Iterator<Item = &str> {
        self.linked
            .get(id)
            .into_iter()
            .flatten()
            .map(String::as_str)
    }

    /// All that is linked into `roots`, those included.
    fn reached<'a>(&'a self, roots: &[&'a Package]) -> BTreeSet<&'a str> {
        let mut reached = BTreeSet::new();
        let mut next: Vec<&str> = roots.iter().map(|p| p.id.as_str()).collect();
        while let Some(id) = next.pop() {
            if reached.insert(id) {
                next.extend(self.on(id));
            }
        }
        reached
    }
}
