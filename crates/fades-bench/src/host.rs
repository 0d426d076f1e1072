//! What the figures were taken on.

use std::fs;
use std::path::Path;

use serde::Serialize;

/// The host, as it is kept with every figure.
#[derive(Debug, Serialize)]
pub(crate) struct Host {
    /// Model of the processor.
    pub(crate) cpu: String,
    /// Processors that may be used.
    pub(crate) cores: usize,
    /// Memory, bytes.
    pub(crate) memory_bytes: u64,
    /// Release of the kernel.
    pub(crate) kernel: String,
    /// The module behind `/dev/kvm`; `null` when there is no `/dev/kvm`.
    pub(crate) kvm: Option<String>,
}

impl Host {
    /// This one. What it does not say is left empty: no figure depends on it.
    pub(crate) fn here() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        Self {
            cpu: model(&text("/proc/cpuinfo")).to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: crate::memory::Memory::now().map_or(0, |m| m.total),
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            kvm: kvm(),
        }
    }
}

fn model(cpuinfo: &str) -> &str {
    let line = cpuinfo.lines().find_map(|l| l.strip_prefix("model name"));
    line.map_or("", |l| l.trim_start_matches([' ', '\t', ':']))
}

fn kvm() -> Option<String> {
    Path::new("/dev/kvm").exists().then(|| {
        let modules = fs::read_dir("/sys/module").into_iter().flatten().flatten();
        let names = modules.filter_map(|module| module.file_name().into_string().ok());
        let behind = names.into_iter().find(|name| name.starts_with("kvm_"));
        behind.unwrap_or_else(|| "kvm".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_of_the_processor_is_found() {
        let text = "processor\t: 0\nmodel name\t: AMD EPYC\nmodel name\t: other\n";
        assert_eq!(model(text), "AMD EPYC");
        assert_eq!(model(""), "");
    }

    #[test]
    fn this_host_has_memory_and_processors() {
        let host = Host::here();
        assert!(host.memory_bytes > 0 && host.cores > 0 && !host.kernel.is_empty());
    }
}
