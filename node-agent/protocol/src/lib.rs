//! Frames between the node agent and its workers.
