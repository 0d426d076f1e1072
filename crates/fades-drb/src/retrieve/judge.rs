//! Whether what was retrieved is enough for a DTO.

use fades_task::coverage::Coverage;
use fades_task::identity::Name;
use fades_task::mtw::Dto;
use fades_task::result::RetrievalFailure;

use super::{Done, Halt};

impl Done {
    /// What the retrieval means for a DTO: coverage, and whether that is enough.
    pub(crate) fn judged(&self, dto: &Dto) -> (Coverage, Result<(), Halt>) {
        let mut coverage = self.coverage.clone();
        coverage.name.clone_from(&dto.name);
        let done = match &self.failure {
            Some(failure) => Err(Halt::Failed(renamed(failure.clone(), &dto.name))),
            None => enough(dto, &coverage),
        };
        (coverage, done)
    }
}

/// The failure of a retrieval, told of another DTO that took part.
fn renamed(mut failure: RetrievalFailure, name: &Name) -> RetrievalFailure {
    let (RetrievalFailure::NothingMatches { dto, .. }
    | RetrievalFailure::TooFewAnswered { dto, .. }
    | RetrievalFailure::TooManyBad { dto, .. }
    | RetrievalFailure::Source { dto, .. }
    | RetrievalFailure::NoRoom { dto, .. }
    | RetrievalFailure::TooLittle { dto, .. }
    | RetrievalFailure::NotGranted { dto, .. }
    | RetrievalFailure::Selector { dto, .. }) = &mut failure;
    dto.clone_from(name);
    failure
}

/// Whether the data is as complete and as good as the DTO wants.
fn enough(dto: &Dto, coverage: &Coverage) -> Result<(), Halt> {
    let lost = coverage.lost_total();
    if let Some(allowed) = dto.bad_rows
        && lost as f64 > allowed.fraction() * coverage.read as f64
    {
        let first = coverage.cited.first().map_or_else(String::new, |bad| {
            let column = bad
                .column
                .as_deref()
                .map_or(String::new(), |c| format!(" ({c})"));
            format!("{}:{}{column}: {}", bad.file, bad.line, bad.reason.words())
        });
        return Err(Halt::Failed(RetrievalFailure::TooManyBad {
            dto: dto.name.clone(),
            bad: lost,
            read: coverage.read,
            allowed: String::from(allowed),
            first,
        }));
    }
    let needed = match dto.need {
        // Rounded so that 80% of 5 is 4.
        Some(share) => (share.fraction() * coverage.matched as f64 - 1e-9).ceil() as u64,
        None => 1,
    };
    if coverage.answered < needed {
        return Err(Halt::Failed(RetrievalFailure::TooFewAnswered {
            dto: dto.name.clone(),
            answered: coverage.answered,
            matched: coverage.matched,
            needed: dto
                .need
                .map_or_else(|| "one at least".to_owned(), String::from),
        }));
    }
    Ok(())
}
