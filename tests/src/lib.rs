//! System tests with real processes.
