//! The job store: SQLite and PostgreSQL adapters.
