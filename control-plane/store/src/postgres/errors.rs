//! What a failure of PostgreSQL means to the store.

use std::error::Error as _;

use tokio_postgres::error::SqlState;

use crate::Error;

/// In our words.
pub(super) fn error_of(error: &tokio_postgres::Error) -> Error {
    if let Some(database) = error.as_db_error() {
        let message = format!("{} ({})", database.message(), database.code().code());
        return match class_of(database.code()) {
            Class::Full => Error::Full(message),
            Class::Unavailable => Error::Unavailable(message),
            Class::Broken => Error::Broken(message),
        };
    }
    let message = match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    let of_the_network = error.source().is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
    if error.is_closed() || of_the_network { Error::Unavailable(message) } else { Error::Broken(message) }
}

/// Whether the transaction only met another one, and may be run again at once.
pub(super) fn met_another(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(code)
    })
}

enum Class {
    Full,
    Unavailable,
    Broken,
}

fn class_of(code: &SqlState) -> Class {
    match code.code() {
        "53100" => Class::Full,
        // Timeouts and read-only standbys pass; so do shortages (53), shutdowns (57P), lost connections (08) and
        // conflicts (40).
        "57014" | "55P03" | "25006" | "25P03" => Class::Unavailable,
        code if ["08", "40", "53", "57P"].iter().any(|class| code.starts_with(class)) => Class::Unavailable,
        _ => Class::Broken,
    }
}
