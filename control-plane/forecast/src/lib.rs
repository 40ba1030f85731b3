//! Predicted runtimes from history, as distributions.
