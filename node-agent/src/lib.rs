//! Consumes a lane, supervises workers, caches models, reports.
