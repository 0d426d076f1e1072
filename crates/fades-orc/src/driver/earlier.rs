//! What earlier runs answered, for DTOs that ask for it. The broker sees no
//! database: it is handed the readings with the request.

use fades_task::identity::Name;
use fades_task::message::Answers;
use fades_task::mtw::Dto;
use tracing::warn;

use crate::store::Store;

/// Answers for the DTOs of one request, as the broker takes them.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    pub(super) answers: Vec<Answers>,
    pub(super) blob: Vec<u8>,
}

impl Earlier {
    /// What tasks of this service answered. A store that cannot be read is said
    /// in the log; the DTO then finds nothing.
    pub(super) fn of(store: &Store, service: Option<&Name>, dtos: &[Dto]) -> Self {
        let mut earlier = Self::default();
        let Some(service) = service else {
            return earlier;
        };
        for (dto, index) in dtos.iter().zip(0..) {
            let Some(name) = &dto.result else { continue };
            let room = Answers::MOST - earlier.blob.len() as u64;
            match store.answers(service, name, room) {
                Ok(found) => {
                    let lengths = found.iter().map(|a| a.len() as u64).collect();
                    earlier.answers.push(Answers {
                        dto: index,
                        lengths,
                    });
                    earlier.blob.extend(found.concat());
                }
                Err(e) => warn!(reason = %e, "earlier answers cannot be read"),
            }
        }
        earlier
    }
}
