//! What can be wrong with an option.

/// What is wrong with one field of a table of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The field below the table, such as `time.column`.
    pub field: String,
    /// What is wrong, with the remedy.
    pub reason: String,
}

impl FieldError {
    /// An error of this field.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// A text that stands for itself must not look like a template of those tables
    /// that have such.
    ///
    /// # Errors
    /// When it has braces.
    pub fn plain(field: &str, text: Option<&str>) -> Result<(), Self> {
        match text.filter(|t| t.contains(['{', '}'])) {
            None => Ok(()),
            Some(text) => Err(Self::new(
                field,
                format!(
                    "{text:?} is no template here, it is taken as it stands: write it without braces"
                ),
            )),
        }
    }
}
